//! DI: the disc drive interface.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_6000` (hardware notes, section 1.1; YAGCD 5.7); PI interrupt 2, Hollywood interrupt 18 |
//! | access | 32 bits; needs AIPPROT ([`crate::protection`]); IOS drives it |
//! | certainty | certain (YAGCD) |
//! | Dolphin | complete |

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{ClearBits, Guarded, PartlyClear, ReadOnly, ReadWrite};

bits! {
    /// DISR: status.
    pub struct Disr(u32);
    /// BRK: asks the drive to break off.
    pub brk, set_brk: 0;
    /// Interrupt on DEINT.
    pub deintmask, set_deintmask: 1;
    /// DEINT: the drive reports an error. Write one to clear.
    pub deint, set_deint: 2;
    /// Interrupt on TCINT.
    pub tcintmask, set_tcintmask: 3;
    /// TCINT: transfer complete. Write one to clear.
    pub tcint, set_tcint: 4;
    /// Interrupt on BRKINT.
    pub brkintmask, set_brkintmask: 5;
    /// BRKINT: the drive broke off. Write one to clear.
    pub brkint, set_brkint: 6;
}

impl ClearBits for Disr {
    const CLEAR: u32 = 1 << 2 | 1 << 4 | 1 << 6;
}

bits! {
    /// DICVR: cover.
    pub struct Dicvr(u32);
    /// CVR: the cover is open (no disc).
    pub cvr, _: 0;
    /// Interrupt on CVRINT.
    pub cvrintmask, set_cvrintmask: 1;
    /// CVRINT: the cover changed. Write one to clear.
    pub cvrint, set_cvrint: 2;
}

impl ClearBits for Dicvr {
    const CLEAR: u32 = 1 << 2;
}

bits! {
    /// DICR: control.
    pub struct Dicr(u32);
    /// Starts; reads one until complete.
    pub tstart, set_tstart: 0;
    /// By DMA, not through DIIMMBUF.
    pub dma, set_dma: 1;
    /// Data goes to the drive.
    pub write, set_write: 2;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// DISR: status.
    pub disr: PartlyClear<Disr>,
    /// DICVR: cover.
    pub dicvr: PartlyClear<Dicvr>,
    /// DICMDBUF0 to 2: command, offset, length.
    pub dicmdbuf: [ReadWrite<u32>; 3],
    /// DIMAR: memory address, a multiple of 32. Unsafe to write: the drive writes there.
    pub dimar: Guarded<BusAddr>,
    /// DILENGTH: bytes, a multiple of 32. Unsafe to write, as the address is.
    pub dilength: Guarded<u32>,
    /// DICR: control. Unsafe to write: it starts DMA.
    pub dicr: Guarded<Dicr>,
    /// DIIMMBUF: immediate data.
    pub diimmbuf: ReadWrite<u32>,
    /// DICFG: configuration latched at reset.
    pub dicfg: ReadOnly<u32>,
}

offsets!(Registers: 0x28 {
    disr: 0x00, dicvr: 0x04, dicmdbuf: 0x08, dimar: 0x14, dilength: 0x18, dicr: 0x1C, diimmbuf: 0x20, dicfg: 0x24,
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.7.
    masks! {
        Disr clear 0x0000_0054 {
            brk: 0x0000_0001, deintmask: 0x0000_0002, deint: 0x0000_0004, tcintmask: 0x0000_0008,
            tcint: 0x0000_0010, brkintmask: 0x0000_0020, brkint: 0x0000_0040,
        }
        Dicvr clear 0x0000_0004 { cvr: 0x0000_0001, cvrintmask: 0x0000_0002, cvrint: 0x0000_0004 }
        Dicr { tstart: 0x0000_0001, dma: 0x0000_0002, write: 0x0000_0004 }
    }

    #[test]
    fn acknowledging_the_end_of_a_transfer_keeps_masks_and_other_events() {
        let memory = Memory::<Registers>::filled(0);
        memory.set(0, &[0, 0, 0, 0x7E]);
        let mut done = Disr::default();
        done.set_tcint(true);
        memory.registers().disr.clear(done);
        assert_eq!(memory.bytes(0, 4), [0, 0, 0, 0x3A]);
    }
}
