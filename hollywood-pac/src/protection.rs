//! Who may access what: SRNPROT, AHBPROT, AIPPROT, and the interrupts of the I2C slave and the video interface beside them.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0060` (hardware notes, sections 4 and 4.1) |
//! | access | 32 bits, privileged: with AHBPROT closed nothing here can be read or written |
//! | certainty | SRNPROT, AHBPROT, AIPPROT certain (three sources); the others are names only |
//! | Dolphin | all missing; reads as all ones, so as "everything is open", although there is nothing behind it |

use crate::macros::{bits, offsets};
use crate::reg::{Guarded, ReadWrite};

bits! {
    /// SRNPROT (MEMMIRR): access to the Starlet's SRAM.
    pub struct SrnProt(u32);
    /// The AES engine reaches SRAM.
    pub aes, set_aes: 0;
    /// The SHA engine reaches SRAM.
    pub sha, set_sha: 1;
    /// The NAND interface reaches SRAM.
    pub nand, set_nand: 2;
    /// The CPU reaches SRAM (AHPEN).
    pub ahpen, set_ahpen: 3;
    /// OHCI1 reaches SRAM.
    pub ohci1, set_ohci1: 4;
    /// The SRAM mirror is on (IOUEN).
    pub iouen, set_iouen: 5;
    /// Debug access to the Starlet (IOPDBG).
    pub iopdbg, set_iopdbg: 6;
}

bits! {
    /// AHBPROT (BUSPROT): which devices each processor reaches. The Starlet's bits are the CPU's plus 16.
    pub struct AhbProt(u32);
    /// CPU: bit 0, name uncertain (PPCACR).
    pub ppc_acr, set_ppc_acr: 0;
    /// CPU: NAND flash.
    pub ppc_nand, set_ppc_nand: 1;
    /// CPU: AES engine.
    pub ppc_aes, set_ppc_aes: 2;
    /// CPU: SHA engine.
    pub ppc_sha, set_ppc_sha: 3;
    /// CPU: EHCI.
    pub ppc_ehci, set_ppc_ehci: 4;
    /// CPU: OHCI0.
    pub ppc_ohci0, set_ppc_ohci0: 5;
    /// CPU: OHCI1.
    pub ppc_ohci1, set_ppc_ohci1: 6;
    /// CPU: SDHC0.
    pub ppc_sdhc0, set_ppc_sdhc0: 7;
    /// CPU: SDHC1.
    pub ppc_sdhc1, set_ppc_sdhc1: 8;
    /// CPU: SRAM.
    pub ppc_sram, set_ppc_sram: 10;
    /// CPU: AHM.
    pub ppc_ahm, set_ppc_ahm: 11;
    /// Starlet: NAND flash.
    pub iop_nand, set_iop_nand: 17;
    /// Starlet: AES engine.
    pub iop_aes, set_iop_aes: 18;
    /// Starlet: SHA engine.
    pub iop_sha, set_iop_sha: 19;
    /// Starlet: EHCI.
    pub iop_ehci, set_iop_ehci: 20;
    /// Starlet: OHCI0.
    pub iop_ohci0, set_iop_ohci0: 21;
    /// Starlet: OHCI1.
    pub iop_ohci1, set_iop_ohci1: 22;
    /// Starlet: SDHC0.
    pub iop_sdhc0, set_iop_sdhc0: 23;
    /// Starlet: SDHC1.
    pub iop_sdhc1, set_iop_sdhc1: 24;
    /// The CPU reaches the privileged view of all registers (PPCKERN).
    pub ppckern, set_ppckern: 31;
}

impl AhbProt {
    /// What the Homebrew Channel leaves for a program that asked for full access. Dolphin shows the same, with nothing behind it.
    pub const OPEN: Self = Self::from_bits(0xFFFF_FFFF);
    /// The bits that IOS sets to grant the CPU everything.
    pub const GRANT: Self = Self::from_bits(0x8000_0DFE);
}

bits! {
    /// AIPPROT (EXICTRL): access to the page of GameCube devices.
    pub struct AipProt(u32);
    /// EXI, SI, DI and AI can be reached. IOS sets it; MINI leaves it clear.
    pub enable, set_enable: 0;
}

/// Registers of the block.
#[repr(C)]
pub struct Registers {
    /// SRNPROT. Unsafe to write: it takes memory away from devices, or gives it to them.
    pub srnprot: Guarded<SrnProt>,
    /// AHBPROT. Unsafe to write: a processor whose device disappears may hang; clearing PPCKERN closes this very block.
    pub ahbprot: Guarded<AhbProt>,
    /// I2CIOPINTEN: interrupt enable of the I2C slave; name only.
    pub i2ciopinten: ReadWrite<u32>,
    /// I2CIOPINTSTS: interrupt status of the I2C slave; name only.
    pub i2ciopintsts: ReadWrite<u32>,
    /// AIPPROT. Unsafe to write: devices in use may disappear.
    pub aipprot: Guarded<AipProt>,
    /// AIPIOCTRL; name only. Unsafe to write, as its neighbour is.
    pub aipioctrl: Guarded<u32>,
    /// VIINTEN: video interrupt enable; name only.
    pub viinten: ReadWrite<u32>,
    /// VIINTSTS: video interrupt status; name only.
    pub viintsts: ReadWrite<u32>,
}

offsets!(Registers: 0x20 {
    srnprot: 0x00, ahbprot: 0x04, i2ciopinten: 0x08, i2ciopintsts: 0x0C, aipprot: 0x10, aipioctrl: 0x14, viinten: 0x18,
    viintsts: 0x1C,
});

impl Registers {
    /// Says whether the CPU has full access, by the Homebrew Channel's test. True in Dolphin too, where there is no EHCI: look at
    /// the controller's own identification before using it ([`crate::ehci::Registers::identify`]).
    pub fn is_open(&self) -> bool {
        self.ahbprot.read() == AhbProt::OPEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // Hardware notes, sections 4 and 4.1.
    masks! {
        SrnProt {
            aes: 0x0000_0001, sha: 0x0000_0002, nand: 0x0000_0004, ahpen: 0x0000_0008,
            ohci1: 0x0000_0010, iouen: 0x0000_0020, iopdbg: 0x0000_0040,
        }
        AhbProt {
            ppc_acr: 0x0000_0001, ppc_nand: 0x0000_0002, ppc_aes: 0x0000_0004, ppc_sha: 0x0000_0008,
            ppc_ehci: 0x0000_0010, ppc_ohci0: 0x0000_0020, ppc_ohci1: 0x0000_0040, ppc_sdhc0: 0x0000_0080,
            ppc_sdhc1: 0x0000_0100, ppc_sram: 0x0000_0400, ppc_ahm: 0x0000_0800,
            iop_nand: 0x0002_0000, iop_aes: 0x0004_0000, iop_sha: 0x0008_0000,
            iop_ehci: 0x0010_0000, iop_ohci0: 0x0020_0000, iop_ohci1: 0x0040_0000, iop_sdhc0: 0x0080_0000,
            iop_sdhc1: 0x0100_0000, ppckern: 0x8000_0000,
        }
        AipProt { enable: 0x0000_0001 }
    }

    #[test]
    fn the_starlets_bits_are_16_above_the_cpus() {
        // Hardware notes, section 4.1.
        for (ppc, iop) in [
            (
                AhbProt::ppc_nand as fn(&AhbProt) -> bool,
                AhbProt::iop_nand as fn(&AhbProt) -> bool,
            ),
            (AhbProt::ppc_aes, AhbProt::iop_aes),
            (AhbProt::ppc_sha, AhbProt::iop_sha),
            (AhbProt::ppc_ehci, AhbProt::iop_ehci),
            (AhbProt::ppc_ohci0, AhbProt::iop_ohci0),
            (AhbProt::ppc_ohci1, AhbProt::iop_ohci1),
            (AhbProt::ppc_sdhc0, AhbProt::iop_sdhc0),
            (AhbProt::ppc_sdhc1, AhbProt::iop_sdhc1),
        ] {
            let bit = (0..16)
                .find(|bit| ppc(&AhbProt::from_bits(1 << bit)))
                .unwrap();
            assert!(iop(&AhbProt::from_bits(1 << (bit + 16))));
        }
        assert!(AhbProt::from_bits(0x10).ppc_ehci());
        assert!(AhbProt::from_bits(0x0010_0000).iop_ehci());
        assert!(
            AhbProt::GRANT.ppckern() && AhbProt::GRANT.ppc_sram() && !AhbProt::GRANT.iop_ehci()
        );
    }

    #[test]
    fn taking_ehci_from_the_starlet_changes_one_bit() {
        let memory = Memory::<Registers>::filled(0xFF);
        let protection = memory.registers();
        assert!(protection.is_open());
        // SAFETY: the register is memory.
        unsafe { protection.ahbprot.modify(|prot| prot.set_iop_ehci(false)) };
        assert_eq!(
            memory.bytes(0, 12),
            [
                0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xEF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF
            ]
        );
        assert!(!protection.is_open());
    }
}
