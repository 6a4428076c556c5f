//! SHA-1 engine: hashes blocks by DMA, without padding.
//!
//! | | |
//! |---|---|
//! | base | `0x0D03_0000`; Hollywood interrupt 3 |
//! | access | 32 bits; needs AHBPROT |
//! | certainty | after WiiBrew and WiiUBrew, "SHA-1 Engine", as remembered: the pages could not be read again. Not tried |
//! | Dolphin | missing |

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadWrite};

bits! {
    /// SHA_CTRL.
    pub struct ShaCtrl(u32);
    /// Starts; reads one while busy. Writing zero resets the engine.
    pub exec, set_exec: 31;
    /// Interrupt when done.
    pub irq, set_irq: 30;
    /// An error happened.
    pub err, _: 29;
    /// Blocks of 64 bytes, less 1.
    pub u16, blocks, set_blocks: 9, 0;
}

/// Registers of the engine.
#[repr(C)]
pub struct Registers {
    /// SHA_CTRL. The engine only reads memory, so that starting it is safe.
    pub ctrl: ReadWrite<ShaCtrl>,
    /// SHA_SRC: source. Unsafe to write: what the engine reads of somebody's memory ends in the hash.
    pub src: Guarded<BusAddr>,
    /// SHA_H0 to H4: the state, first word first. Software writes the initial state.
    pub h: [ReadWrite<u32>; 5],
}

offsets!(Registers: 0x1C { ctrl: 0x00, src: 0x04, h: 0x08 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // WiiBrew, "SHA-1 Engine".
    masks! {
        ShaCtrl { exec: 0x8000_0000, irq: 0x4000_0000, err: 0x2000_0000, blocks: 0x0000_03FF }
    }
}
