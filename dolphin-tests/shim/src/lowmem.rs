//! Low memory as IOS leaves it (hardware notes, section 7), exception vectors for a program that
//! has none yet, and the reload stub.

use crate::{layout, start};

/// The effective address of the reload stub (hardware notes, section 5.4).
const RELOAD_STUB: usize = 0x8000_1800;
const RELOAD_STUB_END: usize = 0x8000_3000;

/// (Physical address, word). Absent words are zero, the IOS version at 0x3140 among them:
/// there is no IOS here.
const WORDS: &[(u32, u32)] = &[
    (0x0020, 0x0D15_EA5E),   // booted
    (0x0024, 1),             // version
    (0x0028, 0x0180_0000),   // MEM1: 24 MiB
    (0x002C, 0x0000_0023),   // console
    (0x0034, 0x817F_EC60),   // end of the MEM1 arena
    (0x00F8, 400_000_000),   // bus clock: four times the time base, which has 100 MHz here
    (0x00FC, 1_200_000_000), // CPU clock: three times that, as on a Wii
    (0x3100, 0x0180_0000),   // MEM1, physical size
    (0x3104, 0x0180_0000),   // MEM1, simulated size
    (0x3108, 0x8180_0000),   // end of MEM1
    (0x3118, 0x0400_0000),   // MEM2, physical size
    (0x311C, 0x0400_0000),   // MEM2, simulated size
    (0x3120, 0x9360_0000),   // end of MEM2 for the PowerPC
    (0x3124, 0x9000_0800),   // MEM2 arena
    (0x3128, 0x935E_0000),
    (0x3130, 0x935E_0000), // IPC buffer
    (0x3134, 0x9360_0000),
    (0x3138, 0x0000_0011), // Hollywood version
];

/// Fills the first 16 KiB of MEM1.
pub fn fill() {
    for address in (0..0x4000).step_by(4) {
        store(address, 0);
    }
    for &(address, word) in WORDS {
        store(address, word);
    }
    for vector in (0x200..0x1800).step_by(0x100) {
        for address in [vector, vector + 4, vector + 8] {
            store(address, start::vectors[address as usize / 4]);
        }
    }
    for (address, word) in (0x100..).step_by(4).zip(start::reset_in_ram) {
        store(address, word);
    }
    let stub = start::end_run as *const u8;
    let length = (&raw const start::end_run_end) as usize - stub as usize;
    assert!(RELOAD_STUB + length <= RELOAD_STUB_END);
    // SAFETY: the code lies in ROM from `end_run` to `end_run_end`; the target is RAM.
    unsafe { core::ptr::copy_nonoverlapping(stub, RELOAD_STUB as *mut u8, length) }
}

fn store(address: u32, word: u32) {
    // SAFETY: the first 16 KiB of RAM belong to nobody else yet.
    unsafe { ((layout::MEM1_CACHED + address) as *mut u32).write_volatile(word) }
}
