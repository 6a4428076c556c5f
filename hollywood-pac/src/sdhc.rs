//! SDHC: the two SD host controllers.
//!
//! | | |
//! |---|---|
//! | base | `0x0D07_0000` (SD slot), `0x0D08_0000` (Wi-Fi) (hardware notes, sections 3.1, 3.3, 3.8); Hollywood interrupts 7 and 8 |
//! | access | 32 bits always, 5 us after every write. The specification's 8- and 16-bit registers are parts of words: one at offset o is at bit `(o & 3) * 8` of the word at `o & !3` |
//! | certainty | certain: SD Host Controller Simplified Specification 2.00, section 2 |
//! | Dolphin | missing |
//!
//! Writing the word that holds the command register starts a command: prepare the word, then write it once.

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadOnly, ReadWrite, WriteOneToClear};

bits! {
    /// Block size (0x04) and block count (0x06).
    pub struct Block(u32);
    /// Bytes in a block.
    pub u16, size, set_size: 11, 0;
    /// SDMA buffer boundary: 4 KiB shifted left by this.
    pub u8, sdma_boundary, set_sdma_boundary: 14, 12;
    /// Blocks.
    pub u16, count, set_count: 31, 16;
}

bits! {
    /// Transfer mode (0x0C) and command (0x0E). Writing it starts the command.
    pub struct Transfer(u32);
    /// Data by DMA.
    pub dma, set_dma: 0;
    /// Block count is used.
    pub block_count, set_block_count: 1;
    /// Automatic CMD12.
    pub auto_cmd12, set_auto_cmd12: 2;
    /// Data comes from the card.
    pub read, set_read: 4;
    /// More than one block.
    pub multi_block, set_multi_block: 5;
    /// Response: 0 none, 1 of 136 bits, 2 of 48, 3 of 48 with busy.
    pub u8, response, set_response: 17, 16;
    /// Response CRC is checked.
    pub crc_check, set_crc_check: 19;
    /// Response index is checked.
    pub index_check, set_index_check: 20;
    /// The command has data.
    pub data, set_data: 21;
    /// Type: 0 normal, 1 suspend, 2 resume, 3 abort.
    pub u8, command_type, set_command_type: 23, 22;
    /// Index of the command.
    pub u8, index, set_index: 29, 24;
}

bits! {
    /// Present state (0x24).
    pub struct Present(u32);
    /// A command is being issued.
    pub command_inhibit, _: 0;
    /// The data lines are in use.
    pub data_inhibit, _: 1;
    /// A data line is active.
    pub data_active, _: 2;
    /// A write transfer is active.
    pub write_active, _: 8;
    /// A read transfer is active.
    pub read_active, _: 9;
    /// The buffer has room for a block.
    pub buffer_write, _: 10;
    /// The buffer holds a block.
    pub buffer_read, _: 11;
    /// A card is inserted.
    pub card_inserted, _: 16;
    /// The detection is stable.
    pub card_stable, _: 17;
    /// Level of the detection pin.
    pub card_detect, _: 18;
    /// The card is not write-protected.
    pub writable, _: 19;
    /// Levels of the data lines.
    pub u8, data_level, _: 23, 20;
    /// Level of the command line.
    pub command_level, _: 24;
}

bits! {
    /// Host control (0x28), power (0x29), block gap (0x2A), wake-up (0x2B).
    pub struct Host(u32);
    /// Light.
    pub led, set_led: 0;
    /// Four data lines.
    pub four_bit, set_four_bit: 1;
    /// High speed.
    pub high_speed, set_high_speed: 2;
    /// DMA: 0 SDMA, 2 ADMA2.
    pub u8, dma_select, set_dma_select: 4, 3;
    /// Bus power.
    pub power, set_power: 8;
    /// Voltage: 5 is 1.8 V, 6 is 3.0 V, 7 is 3.3 V.
    pub u8, voltage, set_voltage: 11, 9;
    /// Stops at the block gap.
    pub stop_at_gap, set_stop_at_gap: 16;
    /// Continues.
    pub continue_request, set_continue_request: 17;
    /// Read wait.
    pub read_wait, set_read_wait: 18;
    /// Interrupt at the block gap.
    pub gap_interrupt, set_gap_interrupt: 19;
    /// Wakes on a card's interrupt.
    pub wake_interrupt, set_wake_interrupt: 24;
    /// Wakes on insertion.
    pub wake_insert, set_wake_insert: 25;
    /// Wakes on removal.
    pub wake_remove, set_wake_remove: 26;
}

bits! {
    /// Clock (0x2C), timeout (0x2E), software reset (0x2F).
    pub struct Clock(u32);
    /// Internal clock.
    pub internal, set_internal: 0;
    /// The internal clock is stable.
    pub stable, _: 1;
    /// The card's clock.
    pub card, set_card: 2;
    /// Divisor: the base clock is divided by twice this; 0 does not divide.
    pub u8, divisor, set_divisor: 15, 8;
    /// Data timeout: 2 to the power of 13 plus this, in timeout clocks.
    pub u8, timeout, set_timeout: 19, 16;
    /// Resets everything; reads one until done.
    pub reset_all, set_reset_all: 24;
    /// Resets the command circuit; reads one until done.
    pub reset_command, set_reset_command: 25;
    /// Resets the data circuit; reads one until done.
    pub reset_data, set_reset_data: 26;
}

bits! {
    /// Interrupts: normal in the lower half, errors in the upper. The layout of status, status enable and signal enable.
    pub struct Interrupts(u32);
    /// A command completed.
    pub command, set_command: 0;
    /// A transfer completed.
    pub transfer, set_transfer: 1;
    /// A block gap.
    pub block_gap, set_block_gap: 2;
    /// DMA reached a boundary.
    pub dma, set_dma: 3;
    /// The buffer can be written.
    pub buffer_write, set_buffer_write: 4;
    /// The buffer can be read.
    pub buffer_read, set_buffer_read: 5;
    /// A card was inserted.
    pub card_insert, set_card_insert: 6;
    /// A card was removed.
    pub card_remove, set_card_remove: 7;
    /// The card's interrupt: a level, cleared at the card.
    pub card, set_card: 8;
    /// Some error.
    pub error, _: 15;
    /// Error: no response.
    pub command_timeout, set_command_timeout: 16;
    /// Error: CRC of the response.
    pub command_crc, set_command_crc: 17;
    /// Error: end bit of the response.
    pub command_end, set_command_end: 18;
    /// Error: index of the response.
    pub command_index, set_command_index: 19;
    /// Error: no data.
    pub data_timeout, set_data_timeout: 20;
    /// Error: CRC of the data.
    pub data_crc, set_data_crc: 21;
    /// Error: end bit of the data.
    pub data_end, set_data_end: 22;
    /// Error: current limit.
    pub current_limit, set_current_limit: 23;
    /// Error: automatic CMD12.
    pub auto_cmd12, set_auto_cmd12: 24;
    /// Error: ADMA.
    pub adma, set_adma: 25;
}

bits! {
    /// Capabilities (0x40).
    pub struct Capabilities(u32);
    /// Timeout clock frequency.
    pub u8, timeout_clock, _: 5, 0;
    /// The timeout clock is given in MHz, not kHz.
    pub timeout_mhz, _: 7;
    /// Base clock in MHz.
    pub u8, base_clock, _: 13, 8;
    /// Largest block: 512 bytes shifted left by this.
    pub u8, max_block, _: 17, 16;
    /// ADMA2.
    pub adma2, _: 19;
    /// High speed.
    pub high_speed, _: 21;
    /// SDMA.
    pub sdma, _: 22;
    /// Suspend and resume.
    pub suspend, _: 23;
    /// 3.3 V.
    pub volts_3_3, _: 24;
    /// 3.0 V.
    pub volts_3_0, _: 25;
    /// 1.8 V.
    pub volts_1_8, _: 26;
}

bits! {
    /// Slot interrupt status (0xFC) and version (0xFE).
    pub struct SlotVersion(u32);
    /// Interrupts of the slots.
    pub u8, slots, _: 7, 0;
    /// Version of the specification: 0 is 1.00, 1 is 2.00.
    pub u8, specification, _: 23, 16;
    /// Version of the vendor.
    pub u8, vendor, _: 31, 24;
}

/// Registers of a controller.
#[repr(C)]
pub struct Registers {
    /// SDMA address, 32-byte aligned, in MEM2. Unsafe to write: the controller reads or writes memory there.
    pub sdma_address: Guarded<BusAddr>,
    /// Block size and count. Unsafe to write: they are the length of a transfer.
    pub block: Guarded<Block>,
    /// Argument of the command.
    pub argument: ReadWrite<u32>,
    /// Transfer mode and command. Unsafe to write: it starts a transfer.
    pub transfer: Guarded<Transfer>,
    /// Response.
    pub response: [ReadOnly<u32>; 4],
    /// Data, without DMA.
    pub buffer: ReadWrite<u32>,
    /// Present state.
    pub present: ReadOnly<Present>,
    /// Host control, power, block gap, wake-up. Unsafe to write: it selects and continues DMA.
    pub host: Guarded<Host>,
    /// Clock, timeout, software reset.
    pub clock: ReadWrite<Clock>,
    /// Interrupt status.
    pub status: WriteOneToClear<Interrupts>,
    /// Interrupts that show in the status.
    pub status_enable: ReadWrite<Interrupts>,
    /// Interrupts that signal.
    pub signal_enable: ReadWrite<Interrupts>,
    /// Status of automatic CMD12.
    pub auto_cmd12_status: ReadOnly<u32>,
    /// Capabilities.
    pub capabilities: ReadOnly<Capabilities>,
    _reserved0: u32,
    /// Current capabilities.
    pub max_current: ReadOnly<u32>,
    _reserved1: u32,
    /// Force event, for tests.
    pub force_event: ReadWrite<u32>,
    /// ADMA error status.
    pub adma_error: ReadOnly<u32>,
    /// ADMA system address. Unsafe to write: the controller follows it.
    pub adma_address: Guarded<BusAddr>,
    _reserved2: [u32; 40],
    /// Slot interrupts and version.
    pub slot_version: ReadOnly<SlotVersion>,
}

offsets!(Registers: 0x100 {
    sdma_address: 0x00, block: 0x04, argument: 0x08, transfer: 0x0C, response: 0x10, buffer: 0x20, present: 0x24, host: 0x28,
    clock: 0x2C, status: 0x30, status_enable: 0x34, signal_enable: 0x38, auto_cmd12_status: 0x3C, capabilities: 0x40,
    max_current: 0x48, force_event: 0x50, adma_error: 0x54, adma_address: 0x58, slot_version: 0xFC,
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // SD Host Controller Simplified Specification 2.00, section 2.2, in words.
    masks! {
        Block { size: 0x0000_0FFF, sdma_boundary: 0x0000_7000, count: 0xFFFF_0000 }
        Transfer {
            dma: 0x0000_0001, block_count: 0x0000_0002, auto_cmd12: 0x0000_0004, read: 0x0000_0010,
            multi_block: 0x0000_0020, response: 0x0003_0000, crc_check: 0x0008_0000,
            index_check: 0x0010_0000, data: 0x0020_0000, command_type: 0x00C0_0000, index: 0x3F00_0000,
        }
        Present {
            command_inhibit: 0x0000_0001, data_inhibit: 0x0000_0002, data_active: 0x0000_0004,
            write_active: 0x0000_0100, read_active: 0x0000_0200, buffer_write: 0x0000_0400,
            buffer_read: 0x0000_0800, card_inserted: 0x0001_0000, card_stable: 0x0002_0000,
            card_detect: 0x0004_0000, writable: 0x0008_0000, data_level: 0x00F0_0000,
            command_level: 0x0100_0000,
        }
        Host {
            led: 0x0000_0001, four_bit: 0x0000_0002, high_speed: 0x0000_0004, dma_select: 0x0000_0018,
            power: 0x0000_0100, voltage: 0x0000_0E00, stop_at_gap: 0x0001_0000,
            continue_request: 0x0002_0000, read_wait: 0x0004_0000, gap_interrupt: 0x0008_0000,
            wake_interrupt: 0x0100_0000, wake_insert: 0x0200_0000, wake_remove: 0x0400_0000,
        }
        Clock {
            internal: 0x0000_0001, stable: 0x0000_0002, card: 0x0000_0004, divisor: 0x0000_FF00,
            timeout: 0x000F_0000, reset_all: 0x0100_0000, reset_command: 0x0200_0000,
            reset_data: 0x0400_0000,
        }
        Interrupts {
            command: 0x0000_0001, transfer: 0x0000_0002, block_gap: 0x0000_0004, dma: 0x0000_0008,
            buffer_write: 0x0000_0010, buffer_read: 0x0000_0020, card_insert: 0x0000_0040,
            card_remove: 0x0000_0080, card: 0x0000_0100, error: 0x0000_8000,
            command_timeout: 0x0001_0000, command_crc: 0x0002_0000, command_end: 0x0004_0000,
            command_index: 0x0008_0000, data_timeout: 0x0010_0000, data_crc: 0x0020_0000,
            data_end: 0x0040_0000, current_limit: 0x0080_0000, auto_cmd12: 0x0100_0000,
            adma: 0x0200_0000,
        }
        Capabilities {
            timeout_clock: 0x0000_003F, timeout_mhz: 0x0000_0080, base_clock: 0x0000_3F00,
            max_block: 0x0003_0000, adma2: 0x0008_0000, high_speed: 0x0020_0000, sdma: 0x0040_0000,
            suspend: 0x0080_0000, volts_3_3: 0x0100_0000, volts_3_0: 0x0200_0000,
            volts_1_8: 0x0400_0000,
        }
        SlotVersion { slots: 0x0000_00FF, specification: 0x00FF_0000, vendor: 0xFF00_0000 }
    }

    #[test]
    fn half_word_registers_are_parts_of_big_endian_words() {
        let memory = Memory::<Registers>::filled(0);
        let mut block = Block::default();
        block.set_size(512);
        block.set_count(3);
        // SAFETY: the register is memory.
        unsafe { memory.registers().block.write(block) };
        assert_eq!(memory.bytes(4, 4), [0, 3, 2, 0]);
        let mut transfer = Transfer::default();
        transfer.set_index(17);
        transfer.set_response(2);
        transfer.set_read(true);
        assert_eq!(transfer.bits(), 0x1102_0010);
    }
}
