//! From the loader's jump to `main`: address map, caches, stack, `.bss`, vectors, log.
//!
//! Whoever loads the program (the Homebrew Channel, Dolphin, the QEMU shim) enters it at its first
//! word with translation on and MEM1 mapped at 0x8000_0000; nothing else is assumed. The set-up
//! runs in real mode, so that no mapping is in use while it changes (hardware notes, 1.2). Caches
//! that are on stay on with what they hold: the loader's lines may be dirty.
//!
//! The stack has a BAT of its own: 128 KiB that end at 0x8000_0000, with nothing mapped below, so
//! that an overflow is a DSI exception and not a silent loss of data.

use crate::arguments::{self, Arguments};
use core::arch::global_asm;
use hollywood_pac::lowmem::LowMemory;

/// Lowest mapped address of the stack.
pub const STACK_BOTTOM: u32 = 0x7FFE_0000;
/// First address above the stack.
pub const STACK_TOP: u32 = 0x8000_0000;

/// What the loader left behind the entry point ("_arg", hardware notes, 8.2).
#[repr(C)]
struct ArgumentBlock {
    magic: u32,
    line: *const u8,
    length: u32,
    unused: [u32; 3],
}

const ARGUMENT_MAGIC: u32 = 0x5F61_7267;

unsafe extern "C" {
    #[link_name = "__arguments"]
    static ARGUMENTS: ArgumentBlock;
}

global_asm!(
    ".section .init, \"ax\"",
    ".globl _start",
    "_start:",
    "    b 1f",
    "    .long 0x5F617267",
    ".globl __arguments",
    "__arguments:",
    "    .space 24",
    // Interrupts off; until the stack has its BAT it is used through MEM1's cached view.
    "1:  mfmsr 3",
    "    rlwinm 3, 3, 0, 17, 15",
    "    mtmsr 3",
    "    isync",
    "    lis 1, __stack_end@ha",
    "    addi 1, 1, __stack_end@l",
    "    li 0, 0",
    "    stwu 0, -64(1)",
    "    bl map_is_ready",
    "    cmpwi 3, 0",
    "    bne map_done",
    // Into real mode.
    "    lis 3, real_mode@ha",
    "    addi 3, 3, real_mode@l",
    "    clrlwi 3, 3, 2",
    "    mtsrr0 3",
    "    li 4, 0x1000", // ME
    "    mtsrr1 4",
    "    rfi",
    "real_mode:",
    // HID2: load/store quantised and paired singles as every loader leaves them; no locked cache.
    "    lis 3, 0xA000",
    "    mtspr 920, 3",
    // HID4: second BATs (SBE), store gathering and L2 prefetch as libogc. Dolphin takes a program
    // for a Wii's by this instruction.
    "    lis 3, 0x8390",
    "    mtspr 1011, 3",
    "    isync",
    // L2: invalidated and switched on unless it is on. The wait is bounded: an L2 that never
    // finishes stays off. Dynamic power management is off meanwhile: the 750's manual wants that for
    // the invalidation.
    "    mfspr 3, 1017",
    "    andis. 4, 3, 0x8000",
    "    bne 4f",
    "    mfspr 3, 1008",
    "    rlwinm 3, 3, 0, 12, 10", // DPM
    "    mtspr 1008, 3",
    "    li 3, 0",
    "    sync",
    "    mtspr 1017, 3",
    "    sync",
    "    lis 3, 0x0020", // L2I
    "    mtspr 1017, 3",
    "    sync",
    "    lis 4, 0x0010",
    "    mtctr 4",
    "3:  mfspr 3, 1017",
    "    andi. 4, 3, 1", // L2IP
    "    bdnzf 2, 3b",
    "    bne 4f",
    "    li 3, 0",
    "    mtspr 1017, 3",
    "    sync",
    "    lis 3, 0x8000", // L2E
    "    mtspr 1017, 3",
    "    sync",
    "4:  isync",
    // HID0: dynamic power, no-hard-reset mark, branch caches, no speculative bus reads of
    // unguarded space; the instruction cache is emptied, the data cache only if it was off.
    "    mfspr 3, 1008",
    "    oris 4, 3, 0x0011",
    "    ori 4, 4, 0xC264", // ICE DCE SPD DCFA BTIC BHT
    "    andi. 5, 3, 0x4000",
    "    ori 5, 4, 0x0800", // ICFI
    "    bne 2f",
    "    ori 5, 5, 0x0400", // DCFI
    "2:  sync",
    "    mtspr 1008, 5",
    "    isync",
    "    mtspr 1008, 4",
    "    isync",
    // Segments off (T = 1): what no BAT maps is not mapped.
    "    lis 3, 0x8000",
    ".irp segment, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "    mtsr \\segment, 3",
    ".endr",
    "    isync",
    "    li 3, 0",
    ".irp upper, 528,530,532,534,560,562,564,566,536,538,540,542,568,570,572,574",
    "    mtspr \\upper, 3",
    ".endr",
    "    isync",
    // MEM1: I+DBAT0 cached, DBAT1 uncached and guarded. MEM2: I+DBAT4 cached, DBAT5 uncached.
    // The uncached pairs also reach the registers at 0xCC00_0000 and 0xCD00_0000.
    "    li 3, 0x0002",
    "    mtspr 529, 3",
    "    mtspr 537, 3",
    "    lis 4, 0x8000",
    "    ori 4, 4, 0x1FFF",
    "    mtspr 528, 4",
    "    mtspr 536, 4",
    "    li 3, 0x002A",
    "    mtspr 539, 3",
    "    lis 4, 0xC000",
    "    ori 4, 4, 0x1FFF",
    "    mtspr 538, 4",
    "    lis 3, 0x1000",
    "    ori 3, 3, 0x0002",
    "    mtspr 561, 3",
    "    mtspr 569, 3",
    "    lis 4, 0x9000",
    "    ori 4, 4, 0x1FFF",
    "    mtspr 560, 4",
    "    mtspr 568, 4",
    "    lis 3, 0x1000",
    "    ori 3, 3, 0x002A",
    "    mtspr 571, 3",
    "    lis 4, 0xD000",
    "    ori 4, 4, 0x1FFF",
    "    mtspr 570, 4",
    "    isync",
    // Back to translation.
    "    lis 3, map_done@ha",
    "    addi 3, 3, map_done@l",
    "    mtsrr0 3",
    "    li 4, 0x1032", // ME IR DR RI
    "    mtsrr1 4",
    "    rfi",
    "map_done:",
    // DBAT7: the stack.
    "    li 3, 0",
    "    mtspr 574, 3",
    "    isync",
    "    lis 3, __stack_start@ha",
    "    addi 3, 3, __stack_start@l",
    "    clrlwi 3, 3, 2",
    "    ori 3, 3, 0x0002",
    "    mtspr 575, 3",
    "    lis 4, 0x7FFE",
    "    ori 4, 4, 0x0003", // 128 KiB
    "    mtspr 574, 4",
    "    isync",
    // FPU on: the target passes floats in registers. IEEE mode, no FP exceptions.
    "    mfmsr 3",
    "    ori 3, 3, 0x3002", // FP ME RI
    "    mtmsr 3",
    "    isync",
    "    mtfsfi 6, 0",
    "    mtfsfi 7, 0",
    "    lis 3, __bss_start@ha",
    "    addi 3, 3, __bss_start@l",
    "    lis 4, __bss_end@ha",
    "    addi 4, 4, __bss_end@l",
    "    li 0, 0",
    "5:  cmplw 3, 4",
    "    bge 6f",
    "    stw 0, 0(3)",
    "    addi 3, 3, 4",
    "    b 5b",
    "6:  lis 1, 0x8000",
    "    stwu 0, -64(1)",
    "    stw 0, 4(1)",
    "    bl start",
    "7:  b 7b",
);

/// Called before `.bss` is clear: touches no statics but the argument block.
#[unsafe(no_mangle)]
extern "C" fn map_is_ready() -> bool {
    arguments().has(arguments::MAP_READY)
}

/// The command line.
pub fn arguments() -> Arguments<'static> {
    // SAFETY: the loader writes the block before it enters the program, nobody writes it later;
    // volatile, because the compiler sees a static that nothing ever writes.
    let block = unsafe { (&raw const ARGUMENTS).read_volatile() };
    let length = block.length as usize;
    if block.magic != ARGUMENT_MAGIC || block.line.is_null() || length > arguments::MAX_BYTES {
        return Arguments::default();
    }
    // SAFETY: a loader that set the magic word passes a line in MEM1 that lies outside the image;
    // at most `MAX_BYTES` of it are read.
    Arguments::new(unsafe { core::slice::from_raw_parts(block.line, length) })
}

#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    unsafe extern "Rust" {
        safe fn wiistick_main(arguments: Arguments<'static>) -> u8;
    }
    super::exception::install();
    if let Ok(frequency) = LowMemory::get().time_base_frequency() {
        super::time::set_frequency(frequency);
    }
    let arguments = arguments();
    super::last_log::start();
    super::logger::start(!arguments.has(arguments::MAP_READY));
    super::exit(wiistick_main(arguments))
}

/// Makes a function the program: it runs after the boot code, takes the
/// [`Arguments<'static>`](crate::arguments::Arguments), and returns a [`Termination`](crate::exit::Termination): the exit
/// status, or `Result<(), Failure>`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn wiistick_main(arguments: $crate::arguments::Arguments<'static>) -> u8 {
            let main: fn($crate::arguments::Arguments<'static>) -> _ = $main;
            $crate::exit::Termination::status(main(arguments))
        }
    };
}
