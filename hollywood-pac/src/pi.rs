//! PI: the processor interface of the GameCube, where all interrupts come together.
//!
//! | | |
//! |---|---|
//! | base | `0x0C00_3000` (hardware notes, section 4.2; YAGCD 5.4 for the FIFO) |
//! | access | 32 bits |
//! | certainty | causes and masks certain (four sources); RESET and the FIFO from YAGCD and libogc |
//! | Dolphin | complete |

use crate::addr::BusAddr;
use crate::macros::{bits, offsets, set_of};
use crate::reg::{Guarded, ReadOnly, ReadWrite, WriteOneToClear};

/// An interrupt cause: its bit in INTSR and INTMR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Cause {
    /// Graphics error.
    GxError = 0,
    /// Reset switch.
    ResetSwitch = 1,
    /// Disc drive.
    Di = 2,
    /// Controllers.
    Si = 3,
    /// EXI.
    Exi = 4,
    /// Audio streaming.
    Ai = 5,
    /// DSP.
    Dsp = 6,
    /// Memory interface.
    Mi = 7,
    /// Video interface.
    Vi = 8,
    /// Pixel engine: token.
    PeToken = 9,
    /// Pixel engine: finish.
    PeFinish = 10,
    /// Command processor.
    Cp = 11,
    /// Debugger.
    Debug = 12,
    /// High-speed port.
    Hsp = 13,
    /// Hollywood: see [`crate::irq`].
    Hollywood = 14,
}

impl Cause {
    /// Every cause, in the order of their bits.
    pub const ALL: [Self; 15] = [
        Self::GxError,
        Self::ResetSwitch,
        Self::Di,
        Self::Si,
        Self::Exi,
        Self::Ai,
        Self::Dsp,
        Self::Mi,
        Self::Vi,
        Self::PeToken,
        Self::PeFinish,
        Self::Cp,
        Self::Debug,
        Self::Hsp,
        Self::Hollywood,
    ];

    /// Returns the cause's bit alone.
    pub const fn mask(self) -> Causes {
        Causes::from_bits(1 << self as u8)
    }
}

bits! {
    /// A set of causes, one bit each.
    pub struct Causes(u32);
    /// Graphics error.
    pub gx_error, set_gx_error: 0;
    /// Reset switch.
    pub reset_switch, set_reset_switch: 1;
    /// Disc drive.
    pub di, set_di: 2;
    /// Controllers.
    pub si, set_si: 3;
    /// EXI.
    pub exi, set_exi: 4;
    /// Audio streaming.
    pub ai, set_ai: 5;
    /// DSP.
    pub dsp, set_dsp: 6;
    /// Memory interface.
    pub mi, set_mi: 7;
    /// Video interface.
    pub vi, set_vi: 8;
    /// Pixel engine: token.
    pub pe_token, set_pe_token: 9;
    /// Pixel engine: finish.
    pub pe_finish, set_pe_finish: 10;
    /// Command processor.
    pub cp, set_cp: 11;
    /// Debugger.
    pub debug, set_debug: 12;
    /// High-speed port.
    pub hsp, set_hsp: 13;
    /// Hollywood.
    pub hollywood, set_hollywood: 14;
    /// In INTSR: the reset switch is not pressed. No interrupt.
    pub reset_switch_state, _: 16;
}

set_of!(Causes of Cause);

bits! {
    /// Identification of the chip.
    pub struct ChipId(u32);
    /// Revision: 2 on late GameCubes.
    pub u8, revision, _: 31, 28;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// INTSR: causes that ask, masked or not. Writing one clears what is latched (0, 1, 12, 13, 14); the others follow their device.
    pub intsr: WriteOneToClear<Causes>,
    /// INTMR: causes that interrupt the CPU.
    pub intmr: ReadWrite<Causes>,
    _reserved0: u32,
    /// FIFO base. The FIFO is unsafe to write: the write gather pipe stores to memory through it.
    pub fifo_base: Guarded<BusAddr>,
    /// FIFO end.
    pub fifo_end: Guarded<BusAddr>,
    /// FIFO write pointer.
    pub fifo_write: Guarded<BusAddr>,
    _reserved1: [u32; 3],
    /// RESET. Unsafe to write: it resets the CPU or the system.
    pub reset: Guarded<u32>,
    _reserved2: u32,
    /// Identification of the chip.
    pub chip_id: ReadOnly<ChipId>,
}

offsets!(Registers: 0x30 {
    intsr: 0x00, intmr: 0x04, fifo_base: 0x0C, fifo_end: 0x10, fifo_write: 0x14, reset: 0x24, chip_id: 0x2C,
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.2; YAGCD 5.4 for the identification.
    masks! {
        Causes {
            gx_error: 0x0000_0001, reset_switch: 0x0000_0002, di: 0x0000_0004, si: 0x0000_0008,
            exi: 0x0000_0010, ai: 0x0000_0020, dsp: 0x0000_0040, mi: 0x0000_0080, vi: 0x0000_0100,
            pe_token: 0x0000_0200, pe_finish: 0x0000_0400, cp: 0x0000_0800, debug: 0x0000_1000,
            hsp: 0x0000_2000, hollywood: 0x0000_4000, reset_switch_state: 0x0001_0000,
        }
        ChipId { revision: 0xF000_0000 }
    }

    #[test]
    fn causes_have_their_documented_bits() {
        // Hardware notes, section 4.2.
        assert_eq!(Cause::Hollywood.mask().bits(), 0x4000);
        assert_eq!(Cause::Vi.mask().bits(), 0x100);
        for (bit, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.mask().bits(), 1 << bit);
        }
        assert!(
            Causes::from_bits(0x4000).hollywood()
                && Causes::from_bits(0x1_0000).reset_switch_state()
        );
    }
}
