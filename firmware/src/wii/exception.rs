//! Exceptions: vectors, the saved frame, handlers, and the report of what nobody expected.
//!
//! The processor enters a vector in real mode. Each vector holds four instructions that save two
//! registers and branch to one common entry in the image, which saves the rest in a [`Frame`] on
//! the exception stack and calls [`dispatch`] with translation on. An exception inside a handler
//! gets the next part of that stack, so that a fault while reporting a fault is still reported.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use hollywood_pac::cache;

/// Registers at the moment of an exception.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// General-purpose registers.
    pub gpr: [u32; 32],
    /// Condition register.
    pub cr: u32,
    /// Link register.
    pub lr: u32,
    /// Count register.
    pub ctr: u32,
    /// Fixed-point exception register.
    pub xer: u32,
    /// Address of the instruction to return to.
    pub srr0: u32,
    /// Machine state to return to.
    pub srr1: u32,
    /// Data address of a DSI or alignment exception.
    pub dar: u32,
    /// Cause of a DSI exception.
    pub dsisr: u32,
    /// Offset of the vector, 0x100 to 0x1700.
    pub vector: u32,
    padding: [u32; 7],
}

const FRAME_BYTES: usize = size_of::<Frame>();
const _: () = assert!(FRAME_BYTES == 192);

/// Stack that one level of exception may use, frame included.
const LEVEL_BYTES: usize = 8192;
const LEVELS: usize = 3;
/// Room for the exception that finds no level left: its frame and one message.
const MARGIN_BYTES: usize = 4096;
const STACK_BYTES: usize = MARGIN_BYTES + LEVEL_BYTES * LEVELS;

#[repr(C, align(32))]
struct ExceptionStack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the common entry below uses the memory, on the one processor there is.
unsafe impl Sync for ExceptionStack {}

static EXCEPTION_STACK: ExceptionStack =
    ExceptionStack(core::cell::UnsafeCell::new([0; STACK_BYTES]));

/// Vectors of the Broadway (hardware notes, 8.5).
const VECTORS: [(u32, &str); 15] = [
    (0x100, "system reset"),
    (0x200, "machine check"),
    (0x300, "data storage (DSI)"),
    (0x400, "instruction storage (ISI)"),
    (0x500, "external interrupt"),
    (0x600, "alignment"),
    (0x700, "program"),
    (0x800, "floating point unavailable"),
    (0x900, "decrementer"),
    (0xC00, "system call"),
    (0xD00, "trace"),
    (0xF00, "performance monitor"),
    (0x1300, "instruction address breakpoint"),
    (0x1400, "system management"),
    (0x1700, "thermal"),
];

/// The name of a vector.
pub fn name(vector: u32) -> &'static str {
    VECTORS
        .iter()
        .find(|(offset, _)| *offset == vector)
        .map_or("unknown vector", |(_, name)| name)
}

/// What a handler makes of an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Execution goes on as the frame says; the handler may have changed it.
    Resume,
    /// The exception is not the handler's.
    Unexpected,
}

/// A handler. It runs with interrupts off and must not use floating point (MSR.FP is off).
pub type Handler = fn(&mut Frame) -> Verdict;

static HANDLERS: [AtomicUsize; 0x18] = [const { AtomicUsize::new(0) }; 0x18];

/// Sets or clears the handler of the vector at offset `vector`. Unknown vectors are ignored.
pub fn set_handler(vector: u32, handler: Option<Handler>) {
    if let Some(slot) = HANDLERS.get((vector >> 8) as usize) {
        slot.store(
            handler.map_or(0, |handler| handler as usize),
            Ordering::Relaxed,
        );
    }
}

global_asm!(
    ".text",
    ".globl exception_entry",
    "exception_entry:",
    // Real mode. r3 is saved in SPRG0, LR in SPRG1; SPRG3 is the top of the free exception stack.
    "    mfsprg 3, 3",
    "    addi 3, 3, -192",
    "    stw 0, 0(3)",
    "    stw 1, 4(3)",
    "    stw 2, 8(3)",
    "    stmw 4, 16(3)",
    "    mfsprg 4, 0",
    "    stw 4, 12(3)",
    "    mfcr 4",
    "    stw 4, 128(3)",
    "    mfsprg 4, 1",
    "    stw 4, 132(3)",
    "    mfctr 4",
    "    stw 4, 136(3)",
    "    mfxer 4",
    "    stw 4, 140(3)",
    "    mfsrr0 4",
    "    stw 4, 144(3)",
    "    mfsrr1 4",
    "    stw 4, 148(3)",
    "    mfdar 4",
    "    stw 4, 152(3)",
    "    mfdsisr 4",
    "    stw 4, 156(3)",
    "    mflr 4",
    "    addi 4, 4, -16", // the vector holds four instructions
    "    stw 4, 160(3)",
    // The next level. None left: a fault in the report of a fault in a report.
    "    addi 4, 3, 192-{level}",
    "    lis 5, {stack}@ha",
    "    addi 5, 5, {stack}@l",
    "    addi 5, 5, {margin}",
    "    clrlwi 5, 5, 2",
    "    lis 6, {dispatch}@ha",
    "    addi 6, 6, {dispatch}@l",
    "    cmplw 4, 5",
    "    bge 1f",
    "    lis 6, {hopeless}@ha",
    "    addi 6, 6, {hopeless}@l",
    "    b 2f",
    "1:  mtsprg 3, 4",
    "2:  mtsrr0 6",
    "    li 4, 0x1032", // ME IR DR RI
    "    mtsrr1 4",
    "    li 0, 0",
    "    stw 0, -16(3)", // an exception starts a new chain of stack frames
    "    oris 3, 3, 0x8000",
    "    addi 1, 3, -16",
    "    lis 4, exception_return@ha",
    "    addi 4, 4, exception_return@l",
    "    mtlr 4",
    "    rfi",
    "exception_return:",
    "    addi 3, 1, 16",
    "    addi 4, 3, 192",
    "    clrlwi 4, 4, 2",
    "    mtsprg 3, 4",
    "    addi 5, 3, -8",
    "    stwcx. 0, 0, 5", // an interrupted lwarx must not succeed
    "    lwz 4, 128(3)",
    "    mtcr 4",
    "    lwz 4, 132(3)",
    "    mtlr 4",
    "    lwz 4, 136(3)",
    "    mtctr 4",
    "    lwz 4, 140(3)",
    "    mtxer 4",
    "    li 4, 0x1030", // RI off: SRR0 and SRR1 are live from here
    "    mtmsr 4",
    "    isync",
    "    lwz 4, 144(3)",
    "    mtsrr0 4",
    "    lwz 4, 148(3)",
    "    mtsrr1 4",
    "    lwz 0, 0(3)",
    "    lwz 1, 4(3)",
    "    lwz 2, 8(3)",
    "    lmw 4, 16(3)",
    "    lwz 3, 12(3)",
    "    rfi",
    level = const LEVEL_BYTES,
    margin = const MARGIN_BYTES,
    stack = sym EXCEPTION_STACK,
    dispatch = sym dispatch,
    hopeless = sym hopeless,
);

unsafe extern "C" {
    /// The common entry; only its address is of interest.
    fn exception_entry();
}

/// Installs the vectors: every 0x100 bytes from 0x100 to 0x1700, below the Homebrew Channel's reload
/// stub at 0x1800. Interrupts stay off.
pub(super) fn install() {
    const MTSPRG0_R3: u32 = 0x7C70_43A6;
    const MFLR_R3: u32 = 0x7C68_02A6;
    const MTSPRG1_R3: u32 = 0x7C71_43A6;
    const BLA: u32 = 0x4800_0003;
    let entry = exception_entry as *const () as u32 & 0x3FFF_FFFF;
    let code = [MTSPRG0_R3, MFLR_R3, MTSPRG1_R3, BLA | entry];
    for vector in (0x100..=0x1700).step_by(0x100) {
        let place = (0x8000_0000_u32 + vector) as *mut [u32; 4];
        // SAFETY: the vectors lie in MEM1's low memory, which belongs to the running program; the
        // loader's handlers there are dead code.
        unsafe {
            place.write_volatile(code);
            cache::sync_instructions_range(place.cast(), size_of_val(&code));
        }
    }
    let top = EXCEPTION_STACK.0.get() as u32 + STACK_BYTES as u32;
    // SAFETY: SPRG3 belongs to the common entry above; exceptions are handled from here on.
    unsafe { core::arch::asm!("mtsprg 3, {}", in(reg) top & 0x3FFF_FFFF) };
}

extern "C" fn dispatch(frame: &mut Frame) {
    let handler = HANDLERS
        .get((frame.vector >> 8) as usize)
        .map_or(0, |slot| slot.load(Ordering::Relaxed));
    if handler != 0 {
        // SAFETY: `set_handler` stores nothing but addresses of `Handler`s.
        let handler: Handler = unsafe { core::mem::transmute(handler) };
        if handler(frame) == Verdict::Resume {
            return;
        }
    }
    super::crash::exception(frame)
}

/// Where an exception goes when the exception stack is used up: one line, and the end. A fault in
/// here comes back to here and stops.
extern "C" fn hopeless(frame: &Frame) -> ! {
    static BEEN_HERE: AtomicBool = AtomicBool::new(false);
    if BEEN_HERE.swap(true, Ordering::Relaxed) {
        loop {
            core::hint::spin_loop();
        }
    }
    super::logger::seize();
    defmt::error!(
        "exceptions in exception handlers, the last {=u32:#x} at {=u32:#010x}",
        frame.vector,
        frame.srr0
    );
    super::exit(super::EXIT_CRASH)
}
