//! MEM2 controller: protection of the top of MEM2, protection of the SPL, flushing of devices' write buffers.
//!
//! | | |
//! |---|---|
//! | base | `0x0D8B_4200`; `0x0D8B_0008` for the invalidation of read buffers (hardware notes, sections 1.4 and 2.8) |
//! | access | **16 bits** at 0x0D8B_4200, 32 bits at 0x0D8B_0008; privileged |
//! | certainty | protection certain (three sources); flushing from two sources, both for the Starlet; no program on the CPU flushes |
//! | Dolphin | missing |
//!
//! A read of protected memory returns the word at the bottom of MEM2, a write is dropped or lands there.

use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadOnly, ReadWrite};

bits! {
    /// Devices of MEM_FLUSHREQ and MEM_FLUSHACK (hardware notes, section 2.8).
    pub struct Flush(u16);
    /// OHCI.
    pub ohci, set_ohci: 0;
    /// AES and SHA.
    pub aes_sha, set_aes_sha: 1;
    /// NAND and SDHC.
    pub nand_sdhc, set_nand_sdhc: 3;
}

/// Registers of the controller.
#[repr(C)]
pub struct Registers {
    /// Compatibility mode; name only, from one list.
    pub compat: Guarded<u16>,
    _reserved0: u16,
    /// SPL protection: enable. All protection is unsafe to write: it takes memory away from whoever uses it.
    pub spl_prot: Guarded<u16>,
    /// SPL protection: first address.
    pub spl_prot_base: Guarded<u16>,
    /// SPL protection: last address.
    pub spl_prot_end: Guarded<u16>,
    /// DDR protection: enable.
    pub ddr_prot: Guarded<u16>,
    /// DDR protection: first address, in pages of 4 KiB.
    pub ddr_prot_start: Guarded<u16>,
    /// DDR protection: last address, in pages of 4 KiB.
    pub ddr_prot_end: Guarded<u16>,
    _reserved1: [u16; 12],
    /// MEM_FLUSHREQ: asks for the write buffers of these devices to be flushed; write 0 when acknowledged.
    pub flushreq: ReadWrite<Flush>,
    /// MEM_FLUSHACK: the devices whose buffers are flushed.
    pub flushack: ReadOnly<Flush>,
}

offsets!(Registers: 0x2C {
    compat: 0x00, spl_prot: 0x04, spl_prot_base: 0x06, spl_prot_end: 0x08, ddr_prot: 0x0A, ddr_prot_start: 0x0C,
    ddr_prot_end: 0x0E, flushreq: 0x28, flushack: 0x2A,
});

bits! {
    /// Devices whose read buffers are invalidated (hardware notes, section 2.8).
    pub struct Invalidate(u32);
    /// NAND.
    pub nand, set_nand: 1;
    /// AES.
    pub aes, set_aes: 2;
    /// SHA.
    pub sha, set_sha: 3;
    /// SDHC.
    pub sdhc, set_sdhc: 7;
    /// OHCI.
    pub ohci, set_ohci: 12;
    /// Starlet.
    pub starlet, set_starlet: 15;
}

/// Invalidation of read buffers on the AHB.
#[repr(C)]
pub struct Ahb {
    /// The devices to invalidate; how it acknowledges is unknown.
    pub invalidate: ReadWrite<Invalidate>,
}

offsets!(Ahb: 0x04 { invalidate: 0x00 });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 2.8.
    masks! {
        Flush { ohci: 0x0001, aes_sha: 0x0002, nand_sdhc: 0x0008 }
        Invalidate {
            nand: 0x0000_0002, aes: 0x0000_0004, sha: 0x0000_0008, sdhc: 0x0000_0080, ohci: 0x0000_1000,
            starlet: 0x0000_8000,
        }
    }

    #[test]
    fn protection_is_16_bits_wide_and_leaves_its_neighbour_alone() {
        let memory = Memory::<Registers>::filled(0xFF);
        // SAFETY: the register is memory.
        unsafe { memory.registers().ddr_prot.write(2) };
        assert_eq!(
            memory.bytes(8, 8),
            [0xFF, 0xFF, 0x00, 0x02, 0xFF, 0xFF, 0xFF, 0xFF]
        );
    }
}
