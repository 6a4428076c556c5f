//! AES engine: AES-128-CBC by DMA.
//!
//! | | |
//! |---|---|
//! | base | `0x0D02_0000`; Hollywood interrupt 2 |
//! | access | 32 bits; needs AHBPROT |
//! | certainty | after WiiBrew and WiiUBrew, "AES Engine", as remembered: the pages could not be read again. Not tried |
//! | Dolphin | missing |

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{Guarded, WriteOnly};

bits! {
    /// AES_CTRL.
    pub struct AesCtrl(u32);
    /// Starts; reads one while busy. Writing zero resets the engine.
    pub exec, set_exec: 31;
    /// Interrupt when done.
    pub irq, set_irq: 30;
    /// An error happened.
    pub err, _: 29;
    /// AES is on; when clear the engine only copies.
    pub ena, set_ena: 28;
    /// Decrypts.
    pub dec, set_dec: 27;
    /// Continues with the last block as initialisation vector, instead of AES_IV.
    pub chain, set_chain: 12;
    /// Blocks of 16 bytes, less 1.
    pub u16, blocks, set_blocks: 11, 0;
}

/// Registers of the engine.
#[repr(C)]
pub struct Registers {
    /// AES_CTRL. Unsafe to write: the engine writes memory.
    pub ctrl: Guarded<AesCtrl>,
    /// AES_SRC: source. Unsafe to write, since it is part of a transfer.
    pub src: Guarded<BusAddr>,
    /// AES_DEST: destination. Unsafe to write: the engine writes there.
    pub dest: Guarded<BusAddr>,
    /// AES_KEY: four writes fill the key, first word first.
    pub key: WriteOnly<u32>,
    /// AES_IV: four writes fill the initialisation vector, first word first.
    pub iv: WriteOnly<u32>,
}

offsets!(Registers: 0x14 { ctrl: 0x00, src: 0x04, dest: 0x08, key: 0x0C, iv: 0x10 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // WiiBrew, "AES Engine".
    masks! {
        AesCtrl {
            exec: 0x8000_0000, irq: 0x4000_0000, err: 0x2000_0000, ena: 0x1000_0000, dec: 0x0800_0000,
            chain: 0x0000_1000, blocks: 0x0000_0FFF,
        }
    }
}
