//! Every block once: [`Peripherals::take`].

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::addr::PhysAddr;
use crate::reg::Block;

/// Memory that stands for a block's registers where there are none.
#[cfg(not(target_os = "none"))]
struct Image<B>(core::cell::UnsafeCell<core::mem::MaybeUninit<B>>);

#[cfg(not(target_os = "none"))]
impl<B> Image<B> {
    const fn new() -> Self {
        Self(core::cell::UnsafeCell::new(core::mem::MaybeUninit::zeroed()))
    }
}

#[cfg(not(target_os = "none"))]
// SAFETY: reached only through handles, of which each exists once and can be used by one thread at a time (they are not `Sync`).
unsafe impl<B> Sync for Image<B> {}

/// Name and place of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the handle.
    pub name: &'static str,
    /// Physical address of the first register.
    pub base: PhysAddr,
    /// Length in bytes.
    pub bytes: usize,
}

/// Defines the handles, and the structure that hands them out.
macro_rules! peripherals {
    ($($(#[$doc:meta])* $field:ident: $name:ident = $block:ty, $base:literal;)+) => {
        $(
            $(#[$doc])*
            ///
            /// Whoever has the value has the block. It takes no room, and can be given to another context but not shared with one: a
            /// read-modify-write could be torn.
            pub struct $name(PhantomData<Cell<()>>);

            impl $name {
                /// Physical address of the first register.
                pub const BASE: PhysAddr = PhysAddr::new($base);

                /// Makes a handle out of nothing, although one may be in use.
                ///
                /// # Safety
                /// Whoever else has the block must not be disturbed: no read-modify-write of either side may be torn by the
                /// other, and what the types of this crate guarantee to the other side must stay true.
                #[inline(always)]
                pub const unsafe fn steal() -> Self {
                    Self(PhantomData)
                }

                /// Gives the handle up for a reference that lives for ever.
                #[inline(always)]
                pub fn leak(self) -> &'static $block {
                    Self::registers()
                }

                #[inline(always)]
                fn registers() -> &'static $block {
                    #[cfg(target_os = "none")]
                    let address: *const $block = {
                        /// The uncached view of the block.
                        const ADDRESS: usize = $base | 0xC000_0000;
                        core::ptr::with_exposed_provenance(ADDRESS)
                    };
                    #[cfg(not(target_os = "none"))]
                    let address: *const $block = {
                        static IMAGE: Image<$block> = Image::new();
                        IMAGE.0.get().cast_const().cast()
                    };
                    // SAFETY: on a Wii the registers are there, under the standard address map; elsewhere there is zeroed memory,
                    // and registers are valid whatever their bits. Only the handle's owner comes here.
                    unsafe { Block::at(address) }
                }
            }

            impl Deref for $name {
                type Target = $block;

                #[inline(always)]
                fn deref(&self) -> &$block {
                    Self::registers()
                }
            }
        )+

        /// All blocks.
        #[non_exhaustive]
        pub struct Peripherals {
            $($(#[$doc])* pub $field: $name,)+
        }

        impl Peripherals {
            /// Every block's name and place.
            pub const PLACES: &[Place] =
                &[$(Place { name: stringify!($name), base: $name::BASE, bytes: size_of::<$block>() }),+];

            /// Makes all handles out of nothing, although some may be in use.
            ///
            /// # Safety
            /// As for the `steal` of every block.
            pub const unsafe fn steal() -> Self {
                // SAFETY: the caller's promise.
                unsafe { Self { $($field: $name::steal(),)+ } }
            }
        }

        #[cfg(test)]
        mod blocks {
            use super::*;
            use crate::reg::tests::{count_registers, probe_block};
            extern crate std;

            #[test]
            fn every_register_reads_and_writes_its_own_bytes_big_endian_and_no_other() {
                $(
                    std::eprintln!(stringify!($name));
                    probe_block::<$block>();
                )+
            }

            /// Physical address of every register.
            pub(super) fn addresses() -> std::vec::Vec<u32> {
                let mut addresses = std::vec::Vec::new();
                $(
                    crate::reg::tests::Memory::<$block>::filled(0).registers().probe(&mut |_, offset, register| {
                        addresses.extend((0..register.count()).map(|n| $base + (offset + n * register.width()) as u32));
                    });
                )+
                addresses
            }

            /// Name, base and number of registers of every block.
            pub(super) fn counts() -> std::vec::Vec<(&'static str, u32, usize)> {
                std::vec![$((stringify!($name), $base, count_registers::<$block>())),+]
            }
        }
    };
}

peripherals! {
    /// Video interface.
    vi: Vi = crate::vi::Registers, 0x0C00_2000;
    /// Processor interface.
    pi: Pi = crate::pi::Registers, 0x0C00_3000;
    /// Memory interface.
    mi: Mi = crate::mi::Registers, 0x0C00_4000;
    /// DSP interface.
    dsp: Dsp = crate::dsp::Registers, 0x0C00_5000;
    /// Mailbox to IOS, the CPU's side.
    ipc: Ipc = crate::ipc::Registers, 0x0D00_0000;
    /// Solid colour of the picture.
    solid: Solid = crate::dim::Solid, 0x0D00_0024;
    /// Interrupt controller of Hollywood, the CPU's side.
    irq: Irq = crate::irq::Ppc, 0x0D00_0030;
    /// Pins of the CPU.
    gpiob: GpioB = crate::gpio::Bank, 0x0D00_00C0;
    /// Disc drive interface.
    di: Di = crate::di::Registers, 0x0D00_6000;
    /// Controller sockets.
    si: Si = crate::si::Registers, 0x0D00_6400;
    /// EXI channel 0: slot A, clock, ROM.
    exi0: Exi0 = crate::exi::Channel, 0x0D00_6800;
    /// EXI channel 1: slot B.
    exi1: Exi1 = crate::exi::Channel, 0x0D00_6814;
    /// EXI channel 2.
    exi2: Exi2 = crate::exi::Channel, 0x0D00_6828;
    /// Boot code in EXI.
    exi_boot: ExiBoot = crate::exi::Boot, 0x0D00_6840;
    /// Audio interface.
    ai: Ai = crate::ai::Registers, 0x0D00_6C00;
    /// NAND flash.
    nand: Nand = crate::nand::Registers, 0x0D01_0000;
    /// AES engine.
    aes: Aes = crate::aes::Registers, 0x0D02_0000;
    /// SHA-1 engine.
    sha: Sha = crate::sha::Registers, 0x0D03_0000;
    /// USB 2.0.
    ehci: Ehci = crate::ehci::Registers, 0x0D04_0000;
    /// USB 1.1, external ports.
    ohci0: Ohci0 = crate::ohci::Registers, 0x0D05_0000;
    /// USB 1.1, Bluetooth.
    ohci1: Ohci1 = crate::ohci::Registers, 0x0D06_0000;
    /// SD slot.
    sdhc0: Sdhc0 = crate::sdhc::Registers, 0x0D07_0000;
    /// Wi-Fi.
    sdhc1: Sdhc1 = crate::sdhc::Registers, 0x0D08_0000;
    /// Mailbox, the Starlet's side; privileged.
    ipc_arm: IpcArm = crate::ipc::Arm, 0x0D80_000C;
    /// Timer; privileged.
    timer: Timer = crate::timer::Registers, 0x0D80_0010;
    /// Dimming of the picture; privileged.
    dim: Dim = crate::dim::Registers, 0x0D80_0018;
    /// Interrupt controller of Hollywood, the Starlet's side; privileged.
    irq_arm: IrqArm = crate::irq::Arm, 0x0D80_0038;
    /// Access permissions; privileged.
    protection: Protection = crate::protection::Registers, 0x0D80_0060;
    /// USB debug ports; privileged.
    usb_debug: UsbDebug = crate::usb_debug::Registers, 0x0D80_0080;
    /// Logic analyser; privileged.
    ela: Ela = crate::ela::Registers, 0x0D80_0090;
    /// Pins of the Starlet; privileged.
    gpio_arm: GpioArm = crate::gpio::Arm, 0x0D80_00DC;
    /// Bus arbiter; privileged.
    arbiter: Arbiter = crate::arbiter::Registers, 0x0D80_0100;
    /// I2C slave; privileged.
    i2c: I2c = crate::i2c::Registers, 0x0D80_0150;
    /// Resets and clocks; privileged.
    system: System = crate::system::Registers, 0x0D80_0180;
    /// Phase-locked loops; privileged.
    pll: Pll = crate::pll::Registers, 0x0D80_019C;
    /// Pads; privileged.
    pads: Pads = crate::pads::Registers, 0x0D80_01DC;
    /// One-time programmable memory; privileged.
    otp: Otp = crate::otp::Registers, 0x0D80_01EC;
    /// Version and debug; privileged.
    version: Version = crate::version::Registers, 0x0D80_01F4;
    /// Identification of a Wii U; privileged.
    latte: Latte = crate::version::Latte, 0x0D80_05A0;
    /// Invalidation of read buffers; privileged.
    ahb: Ahb = crate::memory::Ahb, 0x0D8B_0008;
    /// MEM2 controller; privileged.
    memory: Memory = crate::memory::Registers, 0x0D8B_4200;
}

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Peripherals {
    /// Returns all blocks, the first time that it is called; `None` from then on.
    ///
    /// On a host the blocks are zeroed memory, so that code which takes registers can be tested.
    pub fn take() -> Option<Self> {
        // Nothing else is ordered by it: before this there are no handles.
        if TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: nobody has any of them: safe code gets handles here only, and only once.
        Some(unsafe { Self::steal() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn blocks_do_not_overlap() {
        let mut places: Vec<&Place> = Peripherals::PLACES.iter().collect();
        places.sort_by_key(|place| place.base);
        for pair in places.windows(2) {
            let [first, second] = pair else {
                unreachable!()
            };
            // The privileged view shows the same registers 8 MiB higher.
            assert!(
                first.base.get() as usize + first.bytes <= second.base.get() as usize,
                "{first:?} {second:?}"
            );
        }
        let view = |place: &&&Place| place.base.get() & 0x00FF_0000 == 0x0080_0000;
        for privileged in places.iter().filter(view) {
            for normal in places
                .iter()
                .filter(|place| place.base.get() >> 16 == 0x0D00)
            {
                let (a, b) = (
                    privileged.base.get() as usize & 0xFFFF,
                    normal.base.get() as usize & 0xFFFF,
                );
                assert!(
                    a + privileged.bytes <= b || b + normal.bytes <= a,
                    "{privileged:?} {normal:?}"
                );
            }
        }
    }

    #[test]
    fn a_block_can_be_given_away_but_not_shared() {
        fn given_away<T: Send>() {}
        given_away::<Peripherals>();

        // If `T` were `Sync`, both implementations would apply, and the call would be ambiguous: it would not compile.
        trait NotSync<A> {
            fn check() {}
        }
        impl<T> NotSync<()> for T {}
        impl<T: Sync> NotSync<u8> for T {}
        <GpioB as NotSync<_>>::check();
        <crate::gpio::PpcPins<'_> as NotSync<_>>::check();
    }

    #[test]
    fn handles_take_no_room() {
        assert_eq!(size_of::<Peripherals>(), 0);
    }

    #[test]
    fn the_table_in_the_crates_documentation_lists_every_block_and_its_registers() {
        let rows: Vec<Vec<String>> = include_str!("lib.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | ["))
            .map(|row| {
                row.split('|')
                    .map(|cell| cell.trim().trim_matches('`').to_string())
                    .collect()
            })
            .collect();
        let expected: Vec<Vec<String>> = blocks::counts()
            .into_iter()
            .map(|(name, base, registers)| {
                let base = std::format!("0x{:04X}_{:04X}", base >> 16, base & 0xFFFF);
                std::vec![name.to_string(), base, registers.to_string()]
            })
            .collect();
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row[0].split('`').next(), Some(expected[0].as_str()));
            assert_eq!(row[1..3], expected[1..3], "{row:?}");
            assert_eq!(row[2], row[3], "{row:?} does not cover what is known");
        }
        assert_eq!(rows.len(), expected.len(), "{expected:?}");
    }

    #[test]
    fn nothing_of_the_hardware_notes_section_4_is_missing() {
        let addresses = blocks::addresses();
        // Offsets as the notes list them, either view.
        let hollywood = [
            0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C, 0x24, 0x30, 0x34, 0x38, 0x3C, 0x40,
            0x44, 0x48, 0x4C, 0x50, 0x54, 0x58, 0x5C, 0x60, 0x64, 0x68, 0x6C, 0x70, 0x74, 0x80,
            0x84, 0x88, 0x8C, 0x90, 0x94, 0x98, 0x9C, 0xC0, 0xC4, 0xC8, 0xCC, 0xD0, 0xD4, 0xD8,
            0xDC, 0xE0, 0xE4, 0xE8, 0xEC, 0xF0, 0xF4, 0xF8, 0xFC, 0x100, 0x104, 0x108, 0x10C,
            0x110, 0x114, 0x118, 0x11C, 0x120, 0x124, 0x130, 0x134, 0x138, 0x13C, 0x140, 0x144,
            0x148, 0x14C, 0x180, 0x184, 0x188, 0x18C, 0x190, 0x194, 0x198, 0x1A8, 0x1B0, 0x1B4,
            0x1B8, 0x1BC, 0x1C0, 0x1C4, 0x1C8, 0x1CC, 0x1D0, 0x1D4, 0x1D8, 0x1DC, 0x1E0, 0x1E4,
            0x1E8, 0x1EC, 0x1F0, 0x214, 0x5A0,
        ];
        for offset in hollywood {
            assert!(
                addresses
                    .iter()
                    .any(|at| [0x0D00_0000, 0x0D80_0000].contains(&(at.wrapping_sub(offset)))),
                "{offset:#x}"
            );
        }
        // Sections 4.2 (PI), 4.5 (EXI), 4.6 (VI), 3.2 (EHCI), 1.4 and 2.8 (MEM2 controller, AHB).
        let others = [
            0x0C00_3000,
            0x0C00_3004,
            0x0C00_3024,
            0x0C00_302C,
            0x0D00_6800,
            0x0D00_6804,
            0x0D00_6808,
            0x0D00_680C,
            0x0D00_6810,
            0x0D00_6814,
            0x0D00_6824,
            0x0D00_6828,
            0x0D00_6838,
            0x0C00_2000,
            0x0C00_2002,
            0x0C00_201C,
            0x0C00_2024,
            0x0C00_202C,
            0x0C00_202E,
            0x0C00_2030,
            0x0C00_2048,
            0x0C00_204A,
            0x0C00_206C,
            0x0C00_206E,
            0x0D04_0000,
            0x0D04_0004,
            0x0D04_0008,
            0x0D04_000C,
            0x0D04_0010,
            0x0D04_0014,
            0x0D04_0018,
            0x0D04_001C,
            0x0D04_0020,
            0x0D04_0024,
            0x0D04_0028,
            0x0D04_0050,
            0x0D04_0054,
            0x0D04_0058,
            0x0D04_005C,
            0x0D04_0060,
            0x0D04_0090,
            0x0D04_0094,
            0x0D04_0098,
            0x0D04_009C,
            0x0D04_00A0,
            0x0D04_00A4,
            0x0D04_00A8,
            0x0D04_00AC,
            0x0D04_00B0,
            0x0D04_00B4,
            0x0D04_00C4,
            0x0D04_00C8,
            0x0D04_00CC,
            0x0D8B_4204,
            0x0D8B_4206,
            0x0D8B_4208,
            0x0D8B_420A,
            0x0D8B_420C,
            0x0D8B_420E,
            0x0D8B_4228,
            0x0D8B_422A,
            0x0D8B_0008,
        ];
        for address in others {
            assert!(addresses.contains(&address), "{address:#010x}");
        }
    }
}
