//! What `boot.dol` begins with: unpacks the program and enters it, as the loader would have.
//!
//! `cargo xtask build` puts the packed program behind this one, and both into `boot.dol`: packed, it takes 0.6 of the room.
//! Whoever loads the file enters it with translation on and MEM1 mapped at 0x8000_0000 (hardware notes, section 8.1); this
//! program changes nothing of that, and leaves the loader's argument block where the unpacked program looks for its own.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

#[cfg(target_os = "none")]
mod unpack;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the beginning of boot.dol; build it for powerpc-target.json");
}
