//! One-time programmable memory: 32 words of keys and identity.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_01EC` (hardware notes, section 4) |
//! | access | 32 bits, privileged |
//! | certainty | certain (two sources) |
//! | Dolphin | missing |

use crate::macros::{bits, offsets};
use crate::reg::{ReadOnly, ReadWrite};

bits! {
    /// OTPCMD.
    pub struct OtpCmd(u32);
    /// Reads the word at the address into OTPDATA, at once.
    pub rd, set_rd: 31;
    /// Word, 0 to 31.
    pub u8, addr, set_addr: 4, 0;
}

/// Registers of the block.
#[repr(C)]
pub struct Registers {
    /// OTPCMD: address and read command.
    pub otpcmd: ReadWrite<OtpCmd>,
    /// OTPDATA: the word that was read.
    pub otpdata: ReadOnly<u32>,
}

offsets!(Registers: 0x08 { otpcmd: 0x00, otpdata: 0x04 });

impl Registers {
    /// Reads word `index`; `None` beyond the 32 that there are.
    pub fn word(&self, index: u8) -> Option<u32> {
        if index >= 32 {
            return None;
        }
        let mut command = OtpCmd::default();
        command.set_rd(true);
        command.set_addr(index);
        self.otpcmd.write(command);
        Some(self.otpdata.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.
    masks! {
        OtpCmd { rd: 0x8000_0000, addr: 0x0000_001F }
    }

    #[test]
    fn a_word_is_read_by_its_index_and_the_read_bit() {
        let memory = Memory::<Registers>::filled(0);
        memory.set(4, &[1, 2, 3, 4]);
        assert_eq!(memory.registers().word(31), Some(0x0102_0304));
        assert_eq!(memory.bytes(0, 4), [0x80, 0, 0, 31]);
        assert_eq!(memory.registers().word(32), None);
        assert_eq!(memory.bytes(0, 4), [0x80, 0, 0, 31]);
    }
}
