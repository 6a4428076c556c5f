//! Boot ROM for QEMU's machine `40p`: gives it the Wii's memory map and plays the Homebrew Channel.
//!
//! The harness puts an untouched `boot.dol` and an argument block into RAM beyond the 24 MiB that
//! a Wii has ([`layout`]). From the reset vector the shim maps memory as on a Wii
//! (reference: emulators, section 1), places the PCI devices, fills low memory as IOS would,
//! installs a reload stub, loads the DOL, hands over its arguments and enters it with translation
//! on. Whatever goes wrong on the way ends QEMU with status 1 and leaves a line of text for the harness
//! ([`report`]).
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

mod dol;
#[cfg(target_os = "none")]
mod interrupts;
mod layout;
#[cfg(target_os = "none")]
mod lowmem;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod start;

/// Prepares the machine and loads the program; called by the reset code on a fresh stack with the
/// address map in place. Returns the entry point, which the reset code then enters.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn prepare() -> u32 {
    report::clear();
    if let Err(missing) = pci::place_devices() {
        report::fail(format_args!("machine: {missing}"));
    }
    interrupts::mask_all();
    lowmem::fill();
    match dol::load() {
        Ok(entry) => entry,
        Err(error) => report::fail(format_args!("boot.dol: {error}")),
    }
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    report::fail(format_args!("shim panicked: {info}"))
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a boot ROM for QEMU; build it for powerpc-target.json");
}
