//! Picture dimming and solid colour, at the output of the video interface.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0018` (VI1CFG, VIDIM, privileged), `0x0D00_0024` (VISOLID) (hardware notes, section 4) |
//! | access | 32 bits |
//! | certainty | VIDIM's fields from one source; nothing is known about the bits of VI1CFG and VISOLID |
//! | Dolphin | missing |

use crate::macros::{bits, offsets};
use crate::reg::ReadWrite;

bits! {
    /// VIDIM: dims the picture.
    pub struct ViDim(u32);
    /// Dimming is on.
    pub enable, set_enable: 7;
    /// How much luminance is dimmed.
    pub u8, luminance, set_luminance: 5, 3;
    /// How much chrominance is dimmed.
    pub u8, chrominance, set_chrominance: 2, 0;
}

/// Configuration, in the privileged view.
#[repr(C)]
pub struct Registers {
    /// VI1CFG: unknown.
    pub vi1cfg: ReadWrite<u32>,
    /// VIDIM: dimming.
    pub vidim: ReadWrite<ViDim>,
}

offsets!(Registers: 0x08 { vi1cfg: 0x00, vidim: 0x04 });

/// The solid colour, reachable without privilege.
#[repr(C)]
pub struct Solid {
    /// VISOLID: replaces the picture by one colour; encoding unknown.
    pub visolid: ReadWrite<u32>,
}

offsets!(Solid: 0x04 { visolid: 0x00 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.
    masks! {
        ViDim { enable: 0x0000_0080, luminance: 0x0000_0038, chrominance: 0x0000_0007 }
    }

    #[test]
    fn dimming_is_one_byte() {
        let mut dim = ViDim::from_bits(0xFFFF_FF00);
        dim.set_enable(true);
        dim.set_luminance(0b101);
        dim.set_chrominance(0b011);
        assert_eq!(dim.bits(), 0xFFFF_FFAB);
    }
}
