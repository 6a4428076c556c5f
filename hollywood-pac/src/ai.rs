//! AI: the audio interface: sample rates, volume of the disc's audio stream, sample counter.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_6C00` (hardware notes, section 1.1; YAGCD 5.10); PI interrupt 5 |
//! | access | 32 bits; needs AIPPROT ([`crate::protection`]) |
//! | certainty | certain (YAGCD, libogc) |
//! | Dolphin | complete |

use crate::macros::{bits, offsets};
use crate::reg::{ClearBits, PartlyClear, ReadOnly, ReadWrite};

bits! {
    /// AICR: control.
    pub struct Aicr(u32);
    /// PSTAT: the stream plays.
    pub pstat, set_pstat: 0;
    /// AFR: rate of the stream.
    pub afr, set_afr: 1;
    /// Interrupt when the counter reaches AIIT.
    pub aiintmask, set_aiintmask: 2;
    /// AIINT: the counter reached AIIT. Write one to clear.
    pub aiint, set_aiint: 3;
    /// AIINTVLD: AIINT holds its value.
    pub aiintvld, set_aiintvld: 4;
    /// SCRESET: resets the counter.
    pub screset, set_screset: 5;
    /// Rate of the DSP's audio DMA.
    pub dfr, set_dfr: 6;
}

impl ClearBits for Aicr {
    const CLEAR: u32 = 1 << 3;
}

bits! {
    /// AIVR: volume of the stream.
    pub struct Aivr(u32);
    /// Left.
    pub u8, left, set_left: 7, 0;
    /// Right.
    pub u8, right, set_right: 15, 8;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// AICR: control.
    pub aicr: PartlyClear<Aicr>,
    /// AIVR: volume.
    pub aivr: ReadWrite<Aivr>,
    /// AISCNT: samples played.
    pub aiscnt: ReadOnly<u32>,
    /// AIIT: count that interrupts.
    pub aiit: ReadWrite<u32>,
}

offsets!(Registers: 0x10 { aicr: 0x00, aivr: 0x04, aiscnt: 0x08, aiit: 0x0C });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.10.
    masks! {
        Aicr clear 0x0000_0008 {
            pstat: 0x0000_0001, afr: 0x0000_0002, aiintmask: 0x0000_0004, aiint: 0x0000_0008,
            aiintvld: 0x0000_0010, screset: 0x0000_0020, dfr: 0x0000_0040,
        }
        Aivr { left: 0x0000_00FF, right: 0x0000_FF00 }
    }
}
