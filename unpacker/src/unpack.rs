//! The program proper, on the Wii's processor alone.

use core::arch::global_asm;
use core::{ptr, slice};
use hollywood_pac::cache;
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

global_asm!(
    ".section .init, \"ax\"",
    ".globl _start",
    "_start:",
    "    b 1f",
    "    .long 0x5F617267", // "_arg": the loader may hand over arguments (hardware notes, section 8.2)
    ".globl __arguments",
    "__arguments:",
    "    .space 24",
    // Dolphin takes a program for a Wii's by this instruction, which is the unpacked program's to execute.
    "    mtspr 1011, 3",
    "1:  mfmsr 3",
    "    rlwinm 3, 3, 0, 17, 15", // EE
    "    mtmsr 3",
    "    isync",
    "    lis 1, __stack_end@ha",
    "    addi 1, 1, __stack_end@l",
    "    li 0, 0",
    "    stwu 0, -64(1)",
    "    bl unpack",
    "    mtctr 3",
    // For the reload stub the status of a program that failed; nothing for a program. Dolphin's stub returns behind the
    // last `icbi`, until emulation ends a moment later.
    "    li 3, 101",
    "    icbi 0, 1",
    "2:  bctrl",
    "    b 2b",
);

/// What is in front of the packed bytes. `cargo xtask build` writes it.
#[repr(C)]
struct Packed {
    /// Where the first byte goes, which is also the first instruction.
    program: *mut u8,
    /// Bytes of the program.
    length: u32,
    /// Bytes that follow, a zlib stream (RFC 1950).
    packed: u32,
}

/// What a loader leaves behind the first two words of a program: "_arg", where the command line is, its length, and three words that
/// nobody uses.
type Arguments = [u32; 6];

/// Where a program has the loader's argument block, in bytes from its first instruction.
const ARGUMENTS: usize = 8;

/// The reload stub, the only way back (hardware notes, section 5.4).
const RELOAD_STUB: u32 = 0x8000_1800;

unsafe extern "C" {
    #[link_name = "__arguments"]
    static LOADERS: Arguments;
    #[link_name = "__packed"]
    static PACKED: Packed;
}

/// Unpacks the program. Returns its first instruction; or the reload stub's, if the file is damaged.
#[unsafe(no_mangle)]
extern "C" fn unpack() -> u32 {
    // SAFETY: the loader has put the packed program there, with what is in front of it.
    let (header, packed) = unsafe {
        let start = (&raw const PACKED).add(1).cast::<u8>();
        (
            &PACKED,
            slice::from_raw_parts(start, PACKED.packed as usize),
        )
    };
    let length = header.length as usize;
    // SAFETY: `cargo xtask build` has checked that it is the memory of a program that ends below this one.
    let program = unsafe { slice::from_raw_parts_mut(header.program, length) };
    // The stream ends with a checksum.
    if decompress_slice_iter_to_slice(program, [packed].into_iter(), true, false) != Ok(length) {
        return RELOAD_STUB;
    }
    // SAFETY: both are words of programs that were loaded. The loader wrote them, of which the compiler knows nothing.
    let arguments = unsafe { (&raw const LOADERS).read_volatile() };
    if let Some(own) = program.get_mut(ARGUMENTS..ARGUMENTS + size_of::<Arguments>()) {
        // SAFETY: as many bytes; a program begins at a multiple of 32.
        unsafe { own.as_mut_ptr().cast::<Arguments>().write(arguments) };
    }
    cache::sync_instructions(program);
    ptr::from_mut(program).addr() as u32
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
