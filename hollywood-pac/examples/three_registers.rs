//! A program of three registers: the slot light, the interrupt causes, the version of the chip.
//!
//! It shows what the crate costs. On the target (from the workspace's root, with a compiler and core sources that match):
//!
//! ```text
//! cargo build --release -Zbuild-std=core -Zjson-target-spec --target powerpc-target.json -p hollywood-pac --example three_registers
//! ```
//!
//! The whole program, entry included, is 188 bytes of code and 1 byte of data (rustc 1.96, `size`); half of it makes sure that
//! the peripherals are taken once. Every access is one load or store and an `eieio`; the handles are gone.
//! `cargo xtask test` fails when it takes more than 512.
#![cfg_attr(target_os = "none", no_std, no_main)]

use hollywood_pac::Peripherals;

/// Lights the disc slot while an interrupt asks, and returns the revision of the chip.
fn program() -> Option<u8> {
    let peripherals = Peripherals::take()?;
    let asking = peripherals.pi.intsr.read().bits() & 0x7FFF != 0;
    peripherals.gpiob.out.modify(|out| out.set_slot_led(asking));
    Some(peripherals.version.version.read().revision())
}

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    core::hint::black_box(program());
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    // On a host the registers are memory.
    println!("revision {:?}", program());
}
