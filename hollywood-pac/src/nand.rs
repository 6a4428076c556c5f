//! NAND flash interface.
//!
//! | | |
//! |---|---|
//! | base | `0x0D01_0000`; Hollywood interrupt 1 |
//! | access | 32 bits; needs AHBPROT |
//! | certainty | certain for control, addresses and buffers (WiiBrew and WiiUBrew, "NAND Interface"); CONFIG and BANK are uncertain |
//! | Dolphin | missing |
//!
//! IOS lives in this flash. A wrong command can make the console unbootable: nothing of this crate issues any.

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::Guarded;

bits! {
    /// NAND_CTRL.
    pub struct NandCtrl(u32);
    /// Starts; reads one while busy. Writing zero resets the interface.
    pub exec, set_exec: 31;
    /// Interrupt when done.
    pub irq, set_irq: 30;
    /// An error happened (uncertain).
    pub err, _: 29;
    /// Address bytes that are sent: bit 0 the first (column, low), bit 4 the fifth (row, high).
    pub u8, address_bytes, set_address_bytes: 28, 24;
    /// Command.
    pub u8, command, set_command: 23, 16;
    /// Waits for the chip between address and data.
    pub wait, set_wait: 15;
    /// Data goes to the chip.
    pub write, set_write: 14;
    /// Data comes from the chip.
    pub read, set_read: 13;
    /// Error correction is calculated (uncertain).
    pub ecc, set_ecc: 12;
    /// Bytes of data.
    pub u16, length, set_length: 11, 0;
}

/// Registers of the interface. All are unsafe to write: they move data by DMA, and they are the console's only system disk.
#[repr(C)]
pub struct Registers {
    /// NAND_CTRL: command and status.
    pub ctrl: Guarded<NandCtrl>,
    /// NAND_CONFIG: timing and enable; bits uncertain.
    pub config: Guarded<u32>,
    /// NAND_ADDR1: address bytes 1 and 2, the column.
    pub addr1: Guarded<u32>,
    /// NAND_ADDR2: address bytes 3 to 5, the row.
    pub addr2: Guarded<u32>,
    /// NAND_DATABUF: memory for data.
    pub databuf: Guarded<BusAddr>,
    /// NAND_ECCBUF: memory for the spare bytes.
    pub eccbuf: Guarded<BusAddr>,
    /// NAND_BANK: unknown on a Wii, bank on a Wii U.
    pub bank: Guarded<u32>,
}

offsets!(Registers: 0x1C { ctrl: 0x00, config: 0x04, addr1: 0x08, addr2: 0x0C, databuf: 0x10, eccbuf: 0x14, bank: 0x18 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // WiiBrew, "NAND Interface".
    masks! {
        NandCtrl {
            exec: 0x8000_0000, irq: 0x4000_0000, err: 0x2000_0000, address_bytes: 0x1F00_0000,
            command: 0x00FF_0000, wait: 0x0000_8000, write: 0x0000_4000, read: 0x0000_2000,
            ecc: 0x0000_1000, length: 0x0000_0FFF,
        }
    }
}
