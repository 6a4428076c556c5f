//! EXI, the serial bus of the GameCube: memory card slots (and a USB Gecko in one of them), clock and ROM on channel 0.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_6800`, channel n at `+ n * 0x14` (hardware notes, section 4.5); PI interrupt 4 |
//! | access | 32 bits; needs AIPPROT bit 0 ([`crate::protection`]), which IOS sets and MINI does not |
//! | certainty | certain: libogc, Dolphin and YAGCD agree, except where a register says so |
//!
//! Slot A is channel 0, slot B is channel 1. [`Bus`] drives a channel by immediate transfers.

use core::fmt;
use core::ops::Deref;

use embedded_hal::spi::{ErrorKind, ErrorType, SpiBus};

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{ClearBits, Guarded, PartlyClear, ReadWrite};

bits! {
    /// EXI channel status (CSR).
    pub struct Csr(u32);
    /// The ROM behind channel 0 is not descrambled any more; cannot be cleared (YAGCD).
    pub romdis, set_romdis: 13;
    /// A device is in the slot.
    pub ext, _: 12;
    /// Event: a device was inserted or removed. Write one to clear.
    pub extint, set_extint: 11;
    /// Interrupt on insertion and removal.
    pub extintmask, set_extintmask: 10;
    /// Device selected: one bit for each of the three.
    pub u8, cs, set_cs: 9, 7;
    /// Clock, as [`Frequency`].
    pub u8, clk, set_clk: 6, 4;
    /// Event: transfer complete. Write one to clear.
    pub tcint, set_tcint: 3;
    /// Interrupt on transfer complete.
    pub tcintmask, set_tcintmask: 2;
    /// Event: the device's own interrupt line. Write one to clear.
    pub exiint, set_exiint: 1;
    /// Interrupt on the device's interrupt line.
    pub exiintmask, set_exiintmask: 0;
}

impl ClearBits for Csr {
    const CLEAR: u32 = 1 << 11 | 1 << 3 | 1 << 1;
}

bits! {
    /// EXI control (CR).
    pub struct Cr(u32);
    /// Bytes of an immediate transfer, less 1.
    pub u8, tlen, set_tlen: 5, 4;
    /// Direction: 0 reads, 1 writes, 2 does both (immediate only).
    pub u8, rw, set_rw: 3, 2;
    /// The transfer is DMA, by MAR and LENGTH.
    pub dma, set_dma: 1;
    /// Starts the transfer; reads one until it is complete.
    pub tstart, set_tstart: 0;
}

/// Registers of one EXI channel.
#[repr(C)]
pub struct Channel {
    /// Status: chip select, clock, events.
    pub csr: PartlyClear<Csr>,
    /// DMA address, a multiple of 32. Unsafe to write: the channel reads or writes memory there.
    pub mar: Guarded<BusAddr>,
    /// DMA length in bytes, a multiple of 32. Unsafe to write, as the address is.
    pub length: Guarded<u32>,
    /// Control. Unsafe to write: it starts DMA at the address in MAR, if told to.
    pub cr: Guarded<Cr>,
    /// Immediate data, first byte in the most significant bits.
    pub data: ReadWrite<u32>,
}

offsets!(Channel: 0x14 { csr: 0x00, mar: 0x04, length: 0x08, cr: 0x0C, data: 0x10 });

/// Boot code that the CPU runs at reset, behind the channels.
#[repr(C)]
pub struct Boot {
    /// Instructions. Unsafe to write: they are what the CPU runs next time it is reset.
    pub code: [Guarded<u32>; 16],
}

offsets!(Boot: 0x40 { code: 0x00 });

/// EXI clock frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Frequency {
    /// 1 MHz.
    Mhz1 = 0,
    /// 2 MHz.
    Mhz2 = 1,
    /// 4 MHz.
    Mhz4 = 2,
    /// 8 MHz.
    Mhz8 = 3,
    /// 16 MHz.
    Mhz16 = 4,
    /// 32 MHz.
    Mhz32 = 5,
}

/// One of the three chip selects of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Device {
    /// The card slot of channels 0 and 1; on channel 2 AD16.
    Device0 = 0b001,
    /// On channel 0 the mask ROM, clock and SRAM.
    Device1 = 0b010,
    /// On channel 0 the serial port 1 device.
    Device2 = 0b100,
}

/// A transfer did not complete within its bound of register reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timeout;

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EXI transfer did not complete")
    }
}

impl core::error::Error for Timeout {}

impl embedded_hal::spi::Error for Timeout {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

/// Reads of CR before a transfer is given up. The longest takes 4 bytes at 1 MHz, 32 us; a read takes at least 50 ns.
const SPINS: u32 = 10_000;

/// A channel with one of its devices: selects it for each transaction.
pub struct Bus<C> {
    channel: C,
    device: Device,
    frequency: Frequency,
}

impl<C: Deref<Target = Channel>> Bus<C> {
    /// Takes a channel for talking to `device` at `frequency`.
    pub const fn new(channel: C, device: Device, frequency: Frequency) -> Self {
        Self {
            channel,
            device,
            frequency,
        }
    }

    /// Selects the device until the result is dropped. Interrupts of the channel are off meanwhile, as they were not in use.
    pub fn select(&mut self) -> Selected<'_, C> {
        let mut csr = Csr::default();
        csr.set_cs(self.device as u8);
        csr.set_clk(self.frequency as u8);
        self.channel.csr.write(csr);
        Selected { bus: self }
    }

    /// Gives the channel back.
    pub fn release(self) -> C {
        self.channel
    }
}

/// A selected device, for one transaction of any number of transfers. Implements [`SpiBus`]; dropping it deselects the device.
pub struct Selected<'b, C: Deref<Target = Channel>> {
    bus: &'b mut Bus<C>,
}

/// Direction of an immediate transfer, as CR wants it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Direction {
    Read = 0,
    Write = 1,
    Both = 2,
}

impl<C: Deref<Target = Channel>> Selected<'_, C> {
    /// Sends the `bytes` most significant bytes of `out` (1 to 4) and returns what came back, in the same bytes.
    fn immediate(&mut self, direction: Direction, out: u32, bytes: usize) -> Result<u32, Timeout> {
        let channel = &*self.bus.channel;
        channel.data.write(out);
        let mut cr = Cr::default();
        cr.set_tlen(bytes.wrapping_sub(1) as u8);
        cr.set_rw(direction as u8);
        cr.set_tstart(true);
        // SAFETY: the transfer is immediate: DMA is clear.
        unsafe { channel.cr.write(cr) };
        if (0..SPINS).any(|_| !channel.cr.read().tstart()) {
            Ok(channel.data.read())
        } else {
            Err(Timeout)
        }
    }

    /// Sends the two most significant bytes of `out`, returns what came back in the same bytes.
    pub fn transfer_half_word(&mut self, out: u32) -> Result<u32, Timeout> {
        self.immediate(Direction::Both, out, 2)
    }
}

impl<C: Deref<Target = Channel>> Drop for Selected<'_, C> {
    fn drop(&mut self) {
        self.bus.channel.csr.write(Csr::default());
    }
}

impl<C: Deref<Target = Channel>> ErrorType for Selected<'_, C> {
    type Error = Timeout;
}

/// Most bytes in one immediate transfer.
const IMMEDIATE: usize = 4;

/// Puts up to four bytes into the most significant bytes of a word.
fn pack(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(IMMEDIATE)
        .zip([24, 16, 8, 0])
        .fold(0, |word, (byte, shift)| word | u32::from(*byte) << shift)
}

/// Takes up to four bytes out of the most significant bytes of a word.
fn unpack(word: u32, bytes: &mut [u8]) {
    for (byte, value) in bytes.iter_mut().zip(word.to_be_bytes()) {
        *byte = value;
    }
}

impl<C: Deref<Target = Channel>> SpiBus for Selected<'_, C> {
    fn read(&mut self, words: &mut [u8]) -> Result<(), Timeout> {
        for chunk in words.chunks_mut(IMMEDIATE) {
            let word = self.immediate(Direction::Read, 0, chunk.len())?;
            unpack(word, chunk);
        }
        Ok(())
    }

    fn write(&mut self, words: &[u8]) -> Result<(), Timeout> {
        for chunk in words.chunks(IMMEDIATE) {
            self.immediate(Direction::Write, pack(chunk), chunk.len())?;
        }
        Ok(())
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), Timeout> {
        let both = read.len().min(write.len());
        let (read_both, read_rest) = read.split_at_mut(both);
        let (write_both, write_rest) = write.split_at(both);
        for (input, output) in read_both
            .chunks_mut(IMMEDIATE)
            .zip(write_both.chunks(IMMEDIATE))
        {
            let word = self.immediate(Direction::Both, pack(output), output.len())?;
            unpack(word, input);
        }
        self.read(read_rest)?;
        self.write(write_rest)
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), Timeout> {
        for chunk in words.chunks_mut(IMMEDIATE) {
            let word = self.immediate(Direction::Both, pack(chunk), chunk.len())?;
            unpack(word, chunk);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Timeout> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.9.
    masks! {
        Csr clear 0x0000_080A {
            romdis: 0x0000_2000, ext: 0x0000_1000, extint: 0x0000_0800, extintmask: 0x0000_0400,
            cs: 0x0000_0380, clk: 0x0000_0070, tcint: 0x0000_0008, tcintmask: 0x0000_0004,
            exiint: 0x0000_0002, exiintmask: 0x0000_0001,
        }
        Cr { tlen: 0x0000_0030, rw: 0x0000_000C, dma: 0x0000_0002, tstart: 0x0000_0001 }
    }

    #[test]
    fn a_device_is_selected_for_one_transaction_as_a_usb_gecko_wants_it() {
        // Hardware notes, section 4.5: CSR = 0xD0, CR = 0x19, then CSR = 0.
        let memory = Memory::<Channel>::filled(0);
        let mut bus = Bus::new(memory.registers(), Device::Device0, Frequency::Mhz32);
        let mut selected = bus.select();
        assert_eq!(memory.bytes(0, 4), [0, 0, 0, 0xD0]);
        // The image never clears the start bit.
        assert_eq!(selected.transfer_half_word(0x9000_0000), Err(Timeout));
        assert_eq!(memory.bytes(0x0C, 8), [0, 0, 0, 0x19, 0x90, 0, 0, 0]);
        drop(selected);
        assert_eq!(memory.bytes(0, 4), [0; 4]);
    }

    #[test]
    fn bytes_travel_in_the_most_significant_ones_of_the_data_register() {
        assert_eq!(pack(&[1]), 0x0100_0000);
        assert_eq!(pack(&[1, 2, 3, 4]), 0x0102_0304);
        let mut three = [0; 3];
        unpack(0x0A0B_0C0D, &mut three);
        assert_eq!(three, [0x0A, 0x0B, 0x0C]);
    }

    #[test]
    fn an_immediate_transfer_says_its_length_and_direction() {
        let memory = Memory::<Channel>::filled(0);
        let mut bus = Bus::new(memory.registers(), Device::Device2, Frequency::Mhz8);
        let mut selected = bus.select();
        assert_eq!(memory.bytes(0, 4), [0, 0, 0x02, 0x30]);
        assert_eq!(SpiBus::write(&mut selected, &[5, 6, 7, 8, 9]), Err(Timeout));
        assert_eq!(memory.bytes(0x0C, 8), [0, 0, 0, 0x35, 5, 6, 7, 8]);
        assert_eq!(SpiBus::read(&mut selected, &mut [0]), Err(Timeout));
        assert_eq!(memory.bytes(0x0C, 4), [0, 0, 0, 0x01]);
    }
}
