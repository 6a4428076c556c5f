//! Interrupt controller of Hollywood: the same sources, masked apart for the CPU and for the Starlet.
//!
//! | | |
//! |---|---|
//! | base | `0x0D00_0030` (CPU), `0x0D80_0038` (Starlet) (hardware notes, sections 4 and 4.2) |
//! | access | 32 bits; the Starlet's registers are privileged |
//! | certainty | flags, masks and sources certain (four sources); 0x44 to 0x5C are names only |
//! | Dolphin | PPCIRQFLAG and PPCIRQMASK can only be written; writing the mask with bit 30 set resets the mailbox; the Starlet's side is missing |
//!
//! All lines are levels: a flag that is cleared while its device still asks comes back. The cascade through the processor
//! interface is [`crate::interrupt`].

use crate::macros::{bits, offsets, set_of};
use crate::reg::{Guarded, ReadWrite, WriteOneToClear};

/// A source of interrupts in Hollywood: its bit in flags and masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Source {
    /// The alarm of [`crate::timer`].
    Timer = 0,
    /// NAND flash.
    Nand = 1,
    /// AES engine.
    Aes = 2,
    /// SHA-1 engine.
    Sha = 3,
    /// USB 2.0; also needs bit 15 of the controller's vendor control ([`crate::ehci`]).
    Ehci = 4,
    /// USB 1.1, the external ports.
    Ohci0 = 5,
    /// USB 1.1, Bluetooth.
    Ohci1 = 6,
    /// SD slot.
    Sdhc0 = 7,
    /// Wi-Fi.
    Sdhc1 = 8,
    /// Pins that the CPU owns.
    GpioB = 10,
    /// Pins that the Starlet owns.
    Gpio = 11,
    /// Reset button.
    ResetButton = 17,
    /// Disc drive.
    Di = 18,
    /// The mailbox, to the CPU.
    IpcPpc = 30,
    /// The mailbox, to the Starlet.
    IpcArm = 31,
}

impl Source {
    /// Every known source.
    pub const ALL: [Self; 15] = [
        Self::Timer,
        Self::Nand,
        Self::Aes,
        Self::Sha,
        Self::Ehci,
        Self::Ohci0,
        Self::Ohci1,
        Self::Sdhc0,
        Self::Sdhc1,
        Self::GpioB,
        Self::Gpio,
        Self::ResetButton,
        Self::Di,
        Self::IpcPpc,
        Self::IpcArm,
    ];

    /// Returns the source's bit alone.
    pub const fn mask(self) -> Sources {
        Sources::from_bits(1 << self as u8)
    }
}

bits! {
    /// A set of sources, one bit each. Bits without a name are unknown or unused.
    pub struct Sources(u32);
    /// The alarm.
    pub timer, set_timer: 0;
    /// NAND flash.
    pub nand, set_nand: 1;
    /// AES engine.
    pub aes, set_aes: 2;
    /// SHA-1 engine.
    pub sha, set_sha: 3;
    /// USB 2.0.
    pub ehci, set_ehci: 4;
    /// USB 1.1, the external ports.
    pub ohci0, set_ohci0: 5;
    /// USB 1.1, Bluetooth.
    pub ohci1, set_ohci1: 6;
    /// SD slot.
    pub sdhc0, set_sdhc0: 7;
    /// Wi-Fi.
    pub sdhc1, set_sdhc1: 8;
    /// Pins that the CPU owns.
    pub gpiob, set_gpiob: 10;
    /// Pins that the Starlet owns.
    pub gpio, set_gpio: 11;
    /// Reset button.
    pub reset_button, set_reset_button: 17;
    /// Disc drive.
    pub di, set_di: 18;
    /// The mailbox, to the CPU.
    pub ipc_ppc, set_ipc_ppc: 30;
    /// The mailbox, to the Starlet.
    pub ipc_arm, set_ipc_arm: 31;
}

set_of!(Sources of Source);

/// The CPU's side.
#[repr(C)]
pub struct Ppc {
    /// PPCIRQFLAG: sources that ask, masked or not.
    pub flag: WriteOneToClear<Sources>,
    /// PPCIRQMASK: sources that interrupt the CPU.
    pub mask: ReadWrite<Sources>,
}

offsets!(Ppc: 0x08 { flag: 0x00, mask: 0x04 });

/// The Starlet's side, in the privileged view.
///
/// Both processors see every source: one that the CPU takes over must be masked here (hardware notes, section 4.2).
#[repr(C)]
pub struct Arm {
    /// ARMIRQFLAG: sources that ask.
    pub flag: WriteOneToClear<Sources>,
    /// ARMIRQMASK: sources that interrupt the Starlet.
    pub mask: ReadWrite<Sources>,
    /// ARMFIQMASK: sources that interrupt the Starlet fast.
    pub fiqmask: ReadWrite<Sources>,
    /// IOPINTPPC: lets the Starlet interrupt the CPU; name only.
    pub iopintppc: ReadWrite<u32>,
    /// WDGINTSTS: watchdog status; name only.
    pub wdgintsts: ReadWrite<u32>,
    /// WDGCFG: watchdog configuration; name only. Unsafe to write: a watchdog may reset the machine.
    pub wdgcfg: Guarded<u32>,
    /// DMAADRINTSTS: DMA address watch; name only.
    pub dmaadrintsts: ReadWrite<u32>,
    /// CPUADRINTSTS: CPU address watch; name only.
    pub cpuadrintsts: ReadWrite<u32>,
    /// DBGINTSTS: debug interrupt status; name only.
    pub dbgintsts: ReadWrite<u32>,
    /// DBGINTEN: debug interrupt enable; name only.
    pub dbginten: ReadWrite<u32>,
}

offsets!(Arm: 0x28 {
    flag: 0x00, mask: 0x04, fiqmask: 0x08, iopintppc: 0x0C, wdgintsts: 0x10, wdgcfg: 0x14, dmaadrintsts: 0x18,
    cpuadrintsts: 0x1C, dbgintsts: 0x20, dbginten: 0x24,
});

impl Arm {
    /// Takes `source` away from the Starlet: masks it there, then acknowledges what was pending.
    pub fn release_to_ppc(&self, source: Source) {
        self.mask.modify(|mask| *mask = mask.without(source.mask()));
        self.flag.clear(source.mask());
    }

    /// Gives `source` back to the Starlet.
    pub fn restore_to_arm(&self, source: Source) {
        self.mask.modify(|mask| *mask = mask.union(source.mask()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // Hardware notes, section 4.2.
    masks! {
        Sources {
            timer: 0x0000_0001, nand: 0x0000_0002, aes: 0x0000_0004, sha: 0x0000_0008,
            ehci: 0x0000_0010, ohci0: 0x0000_0020, ohci1: 0x0000_0040, sdhc0: 0x0000_0080,
            sdhc1: 0x0000_0100, gpiob: 0x0000_0400, gpio: 0x0000_0800, reset_button: 0x0002_0000,
            di: 0x0004_0000, ipc_ppc: 0x4000_0000, ipc_arm: 0x8000_0000,
        }
    }

    #[test]
    fn sources_have_their_documented_bits() {
        // Hardware notes, section 4.2.
        assert_eq!(Source::Ehci.mask().bits(), 0x10);
        assert_eq!(Source::IpcPpc.mask().bits(), 0x4000_0000);
        assert!(Sources::from_bits(0x4000_0000).ipc_ppc());
        assert!(Sources::from_bits(0x0002_0000).reset_button());
        let all = Source::ALL
            .into_iter()
            .fold(Sources::default(), |all, source| all.union(source.mask()));
        assert_eq!(all.bits(), 0xC006_0DFF);
    }

    #[test]
    fn a_source_taken_from_the_starlet_leaves_its_other_sources_alone() {
        let memory = Memory::<Arm>::filled(0xFF);
        memory.registers().release_to_ppc(Source::Ehci);
        assert_eq!(memory.bytes(0, 8), [0, 0, 0, 0x10, 0xFF, 0xFF, 0xFF, 0xEF]);
        memory.registers().restore_to_arm(Source::Ehci);
        assert_eq!(memory.bytes(4, 4), [0xFF; 4]);
    }
}
