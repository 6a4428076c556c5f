//! Crashes on purpose. The host checks vector, registers and back-trace of each.

use core::arch::asm;
use core::hint::black_box;
use wiistick::wii::exception::{self, Verdict};

/// No machine has anything mapped here.
const NOWHERE: u32 = 0x3000_0000;

pub fn find(name: &str) -> Option<fn()> {
    Some(match name {
        "crash-panic" => panicking,
        "crash-store" => store_nowhere,
        "crash-load" => load_nowhere,
        "crash-jump" => jump_nowhere,
        "crash-trap" => trap,
        "crash-illegal" => illegal_instruction,
        "crash-alignment" => misaligned_reservation,
        "crash-floating-point" => float_with_the_fpu_off,
        "crash-system-call" => system_call,
        "crash-decrementer" => unexpected_decrementer,
        "crash-stack" => overflow_the_stack,
        "crash-twice" => crash_in_a_handler,
        "crash-while-logging" => crash_while_logging,
        _ => return None,
    })
}

#[inline(never)]
fn panicking() {
    let list = black_box([1, 2, 3]);
    let index = black_box(7);
    defmt::info!("element {=i32}", list[index]);
}

#[inline(never)]
fn store_nowhere() {
    // SAFETY: not safe: the machine must object. The host knows these values, and looks for each in
    // its place in the report.
    unsafe {
        asm!(
            "mtctr 14",
            "mtcr 15",
            "mtlr 16",
            "stw 20, 0({})",
            in(reg_nonzero) NOWHERE,
            in("r14") 0x600D_0C74_u32,
            in("r15") 0x600D_0C0D_u32,
            in("r16") 0x8000_4000_u32,
            in("r17") 0x600D_0017_u32,
            in("r20") 0x600D_F00D_u32,
            in("r28") 0x600D_0028_u32,
            in("r5") 0x600D_0005_u32,
            in("r12") 0x600D_0012_u32,
            out("ctr") _, out("cr") _, out("lr") _,
        );
    }
}

#[inline(never)]
fn load_nowhere() {
    // SAFETY: not safe: the machine must object.
    unsafe {
        asm!("lwz {}, 4({})", out(reg) _, in(reg_nonzero) NOWHERE);
    }
}

#[inline(never)]
fn jump_nowhere() {
    // SAFETY: not safe: the machine must object.
    unsafe {
        asm!("mtctr {}", "bctrl", in(reg) NOWHERE, clobber_abi("C"));
    }
}

#[inline(never)]
fn trap() {
    // SAFETY: the exception ends the program.
    unsafe { asm!("trap") };
}

#[inline(never)]
fn illegal_instruction() {
    // SAFETY: the exception ends the program.
    unsafe { asm!(".long 0") };
}

#[inline(never)]
fn misaligned_reservation() {
    let words = [0u32; 2];
    // SAFETY: the exception ends the program.
    unsafe {
        asm!("lwarx {}, 0, {}", out(reg) _, in(reg) (&raw const words) as u32 + 2);
    }
}

#[inline(never)]
fn float_with_the_fpu_off() {
    // SAFETY: the exception ends the program.
    unsafe {
        asm!(
            "mfmsr {msr}",
            "rlwinm {msr}, {msr}, 0, 19, 17", // FP
            "mtmsr {msr}",
            "isync",
            "fmr 1, 1",
            msr = out(reg) _,
        );
    }
}

#[inline(never)]
fn system_call() {
    // SAFETY: the exception ends the program.
    unsafe { asm!("sc") };
}

#[inline(never)]
fn unexpected_decrementer() {
    // SAFETY: no handler is set, so the exception ends the program.
    unsafe {
        asm!(
            "li {t}, 1000",
            "mtdec {t}",
            "mfmsr {t}",
            "ori {t}, {t}, 0x8000", // EE
            "mtmsr {t}",
            "isync",
            t = out(reg) _,
        );
    }
    for _ in 0..black_box(100_000_000_u32) {
        black_box(());
    }
}

#[inline(never)]
fn overflow_the_stack() {
    deeper(0);
}

#[expect(unconditional_recursion, reason = "that is the point")]
#[inline(never)]
fn deeper(depth: u32) -> u32 {
    let local = black_box([depth; 64]);
    let below = deeper(depth + 1);
    black_box(local)[0] + below
}

#[inline(never)]
fn crash_in_a_handler() {
    fn handler(_: &mut exception::Frame) -> Verdict {
        load_nowhere();
        Verdict::Resume
    }
    exception::set_handler(0xC00, Some(handler));
    system_call();
}

#[inline(never)]
fn crash_while_logging() {
    struct Bad;
    impl defmt::Format for Bad {
        fn format(&self, f: defmt::Formatter<'_>) {
            load_nowhere();
            defmt::write!(f, "unreachable");
        }
    }
    defmt::info!("this frame breaks off: {}", Bad);
}
