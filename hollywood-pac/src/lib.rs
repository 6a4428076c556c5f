//! Registers, addresses and CPU primitives of the Nintendo Wii: what every driver is built on, and no policy.
//!
//! * [`Peripherals::take`] hands out each block of registers once. What may be done to a register is its type ([`reg`]).
//! * [`addr`]: physical and bus addresses, the CPU's cached and uncached views. They do not mix.
//! * [`cache`]: cleaning, flushing, invalidating, zeroing; nothing is coherent on this machine. [`mod@copy`]: copies that know of lines.
//! * [`cpu`]: barriers, machine state, time base, critical sections. [`delay`]: waiting.
//! * [`interrupt`]: a handler for every interrupt line.
//! * [`lowmem`]: what IOS says about memory, clocks and itself. [`gecko`]: bytes to and from a PC.
//!
//! It runs on the bare Wii under the standard address map: memory cached at `0x8000_0000` and `0x9000_0000`, everything uncached
//! at `0xC000_0000`. Elsewhere, registers are plain memory, supervisor instructions are missing, caches coherent: dependants are
//! tested on any host.
//!
//! # Rules of the machine
//! 1. Registers are big-endian, and accessed in their own width: 32 bits, in four blocks 16. The types see to both.
//! 2. Stores to memory through the uncached view are 32 bits wide, always; shorter ones destroy their neighbours.
//! 3. No atomic operation ever touches uncached memory or registers.
//! 4. In Dolphin there is nothing at `0x0D01_0000` to `0x0D08_FFFF`, and what is written there reaches the mailbox.
//!
//! # Blocks
//! Covered are all registers that public documentation names, except of the graphics processor (CP, PE, GX FIFO). "Section" is
//! of the project's hardware notes, "lists" are public register lists, "remembered" could not be looked up again.
//!
//! | block | base | registers covered | registers known | module | source |
//! |---|---|---|---|---|---|
//! | [`Vi`](peripherals::Vi) | `0x0C00_2000` | 38 | 38 | [`vi`] | YAGCD |
//! | [`Pi`](peripherals::Pi) | `0x0C00_3000` | 7 | 7 | [`pi`] | section 4.2, YAGCD |
//! | [`Mi`](peripherals::Mi) | `0x0C00_4000` | 35 | 35 | [`mi`] | WiiBrew, YAGCD |
//! | [`Dsp`](peripherals::Dsp) | `0x0C00_5000` | 14 | 14 | [`dsp`] | YAGCD |
//! | [`Ipc`](peripherals::Ipc) | `0x0D00_0000` | 3 | 3 | [`ipc`] | section 4 |
//! | [`Solid`](peripherals::Solid) | `0x0D00_0024` | 1 | 1 | [`dim`] | section 4 |
//! | [`Irq`](peripherals::Irq) | `0x0D00_0030` | 2 | 2 | [`irq`] | section 4.2 |
//! | [`GpioB`](peripherals::GpioB) | `0x0D00_00C0` | 7 | 7 | [`gpio`] | section 4.4 |
//! | [`Di`](peripherals::Di) | `0x0D00_6000` | 10 | 10 | [`di`] | YAGCD |
//! | [`Si`](peripherals::Si) | `0x0D00_6400` | 48 | 48 | [`si`] | YAGCD |
//! | [`Exi0`](peripherals::Exi0) | `0x0D00_6800` | 5 | 5 | [`exi`] | section 4.5 |
//! | [`Exi1`](peripherals::Exi1) | `0x0D00_6814` | 5 | 5 | [`exi`] | section 4.5 |
//! | [`Exi2`](peripherals::Exi2) | `0x0D00_6828` | 5 | 5 | [`exi`] | section 4.5 |
//! | [`ExiBoot`](peripherals::ExiBoot) | `0x0D00_6840` | 16 | 16 | [`exi`] | lists |
//! | [`Ai`](peripherals::Ai) | `0x0D00_6C00` | 4 | 4 | [`ai`] | YAGCD |
//! | [`Nand`](peripherals::Nand) | `0x0D01_0000` | 7 | 7 | [`nand`] | WiiBrew |
//! | [`Aes`](peripherals::Aes) | `0x0D02_0000` | 5 | 5 | [`aes`] | remembered |
//! | [`Sha`](peripherals::Sha) | `0x0D03_0000` | 7 | 7 | [`sha`] | remembered |
//! | [`Ehci`](peripherals::Ehci) | `0x0D04_0000` | 29 | 29 | [`ehci`] | section 3.2, EHCI 1.0 |
//! | [`Ohci0`](peripherals::Ohci0) | `0x0D05_0000` | 23 | 23 | [`ohci`] | OpenHCI 1.0a |
//! | [`Ohci1`](peripherals::Ohci1) | `0x0D06_0000` | 23 | 23 | [`ohci`] | OpenHCI 1.0a |
//! | [`Sdhc0`](peripherals::Sdhc0) | `0x0D07_0000` | 22 | 22 | [`sdhc`] | SD Host 2.00 |
//! | [`Sdhc1`](peripherals::Sdhc1) | `0x0D08_0000` | 22 | 22 | [`sdhc`] | SD Host 2.00 |
//! | [`IpcArm`](peripherals::IpcArm) | `0x0D80_000C` | 1 | 1 | [`ipc`] | section 4 |
//! | [`Timer`](peripherals::Timer) | `0x0D80_0010` | 2 | 2 | [`timer`] | section 4 |
//! | [`Dim`](peripherals::Dim) | `0x0D80_0018` | 2 | 2 | [`dim`] | section 4 |
//! | [`IrqArm`](peripherals::IrqArm) | `0x0D80_0038` | 10 | 10 | [`irq`] | section 4 |
//! | [`Protection`](peripherals::Protection) | `0x0D80_0060` | 8 | 8 | [`protection`] | sections 4, 4.1, lists |
//! | [`UsbDebug`](peripherals::UsbDebug) | `0x0D80_0080` | 4 | 4 | [`usb_debug`] | sections 3.5, 4 |
//! | [`Ela`](peripherals::Ela) | `0x0D80_0090` | 4 | 4 | [`ela`] | section 4 |
//! | [`GpioArm`](peripherals::GpioArm) | `0x0D80_00DC` | 9 | 9 | [`gpio`] | section 4.4 |
//! | [`Arbiter`](peripherals::Arbiter) | `0x0D80_0100` | 18 | 18 | [`arbiter`] | section 4 |
//! | [`I2c`](peripherals::I2c) | `0x0D80_0150` | 9 | 9 | [`i2c`] | lists |
//! | [`System`](peripherals::System) | `0x0D80_0180` | 7 | 7 | [`system`] | section 4.3 |
//! | [`Pll`](peripherals::Pll) | `0x0D80_019C` | 16 | 16 | [`pll`] | section 4, lists |
//! | [`Pads`](peripherals::Pads) | `0x0D80_01DC` | 4 | 4 | [`pads`] | section 4 |
//! | [`Otp`](peripherals::Otp) | `0x0D80_01EC` | 2 | 2 | [`otp`] | section 4 |
//! | [`Version`](peripherals::Version) | `0x0D80_01F4` | 10 | 10 | [`version`] | section 4, lists |
//! | [`Latte`](peripherals::Latte) | `0x0D80_05A0` | 1 | 1 | [`version`] | section 4 |
//! | [`Ahb`](peripherals::Ahb) | `0x0D8B_0008` | 1 | 1 | [`memory`] | section 2.8 |
//! | [`Memory`](peripherals::Memory) | `0x0D8B_4200` | 9 | 9 | [`memory`] | sections 1.4, 2.8 |
//!
//! From `0x0D80_0000` on, a block needs the privileged view: AHBPROT must be open ([`protection`]). So do those at `0x0D01_0000` to
//! `0x0D08_FFFF`, each by a bit of its own. Reset values are given where they are known, in the module or at the register.
//!
//! # Features
//! * `critical-section-single-core`: implements `critical_section` on the bare CPU, by MSR\[EE\].
//! * `defmt`: `defmt::Format` for values, errors and addresses.
#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod macros;

pub mod addr;
pub mod aes;
pub mod ai;
pub mod arbiter;
pub mod cache;
pub mod copy;
pub mod cpu;
pub mod delay;
pub mod di;
pub mod dim;
pub mod dsp;
pub mod ehci;
pub mod ela;
pub mod exi;
pub mod gecko;
pub mod gpio;
pub mod i2c;
pub mod interrupt;
pub mod ipc;
pub mod irq;
pub mod lowmem;
pub mod memory;
pub mod mi;
pub mod nand;
pub mod ohci;
pub mod otp;
pub mod pads;
pub mod peripherals;
pub mod pi;
pub mod pll;
pub mod protection;
pub mod reg;
pub mod sdhc;
pub mod sha;
pub mod si;
pub mod system;
pub mod timer;
pub mod usb_debug;
pub mod version;
pub mod vi;

pub use peripherals::Peripherals;

/// The examples of the read-me file are documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
