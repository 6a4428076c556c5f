//! The processor: caches on, time base, decrementer, exceptions that return.

use super::suite::{Needs, Test};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use hollywood_pac::cpu;
use wiistick::arguments::Arguments;
use wiistick::wii::exception::{self, Frame, Verdict};
use wiistick::wii::time;

pub const TESTS: &[Test] = &[
    ("caches-are-on", Needs::Hollywood, caches_are_on),
    ("time-base-advances", Needs::Nothing, time_base_advances),
    (
        "decrementer-interrupts",
        Needs::Nothing,
        decrementer_interrupts,
    ),
    (
        "handlers-return-with-all-registers",
        Needs::Nothing,
        registers_survive,
    ),
    ("floating-point-works", Needs::Nothing, floating_point),
];

fn caches_are_on(_: Arguments<'static>) -> Result<(), &'static str> {
    let hid0 = cpu::hid0();
    match (hid0.ice(), hid0.dce()) {
        (true, true) => Ok(()),
        (true, false) => Err("the data cache is off"),
        (false, _) => Err("the instruction cache is off"),
    }
}

fn time_base_advances(_: Arguments<'static>) -> Result<(), &'static str> {
    let start = time::now_us();
    let mut last = cpu::time_base();
    for _ in 0..10_000 {
        let now = cpu::time_base();
        if now < last {
            return Err("the time base went back");
        }
        last = now;
    }
    if time::now_us() == start {
        return Err("the time base stands still");
    }
    Ok(())
}

static TICKS: AtomicU32 = AtomicU32::new(0);

fn decrementer_interrupts(_: Arguments<'static>) -> Result<(), &'static str> {
    fn handler(_: &mut Frame) -> Verdict {
        if TICKS.fetch_add(1, Relaxed) + 1 < 5 {
            cpu::set_decrementer(60_750);
        } else {
            cpu::set_decrementer(0x7FFF_FFFF);
        }
        Verdict::Resume
    }
    exception::set_handler(0x900, Some(handler));
    let start = time::now_us();
    cpu::set_decrementer(60_750);
    // SAFETY: the only interrupt that can come has a handler.
    unsafe { cpu::enable_interrupts() };
    while TICKS.load(Relaxed) < 5 {
        if time::now_us() - start > 1_000_000 {
            return Err("five decrementer interrupts of a millisecond took more than a second");
        }
    }
    cpu::disable_interrupts();
    exception::set_handler(0x900, None);
    if time::now_us() - start < 2_500 {
        return Err("the decrementer ran too fast");
    }
    Ok(())
}

/// A system call whose handler tramples on registers: the frame must bring all of them back.
fn registers_survive(_: Arguments<'static>) -> Result<(), &'static str> {
    fn handler(frame: &mut Frame) -> Verdict {
        // A float in a handler would fault; integers in plenty do not.
        let mut sum = 0_u32;
        for (index, register) in frame.gpr.iter().enumerate() {
            sum = sum.wrapping_mul(31).wrapping_add(*register ^ index as u32);
        }
        TICKS.store(sum, Relaxed);
        Verdict::Resume
    }
    exception::set_handler(0xC00, Some(handler));
    let mut failures: u32 = 0;
    for round in 1..50_u32 {
        let (mut a, mut b, mut c, mut d, mut e) =
            (round, round + 1, round + 2, round + 3, round + 4);
        let mut carried = u32::MAX;
        let (counter, link): (u32, u32);
        let condition: u32;
        // SAFETY: the handler returns behind the `sc`; all that the block changes is declared.
        unsafe {
            core::arch::asm!(
                "mtctr {seven}",
                "mtlr {nine}",
                "mtcr {pattern}",
                "addic {carried}, {carried}, 1", // sets the carry
                "sc",
                "mfctr {counter}",
                "mflr {link}",
                "mfcr {condition}",
                "addze {carried}, {carried}",
                seven = in(reg) 7_u32,
                nine = in(reg) 0x900_u32,
                pattern = in(reg) 0x1357_9BDF_u32,
                carried = inout(reg) carried,
                counter = out(reg) counter,
                link = out(reg) link,
                condition = out(reg) condition,
                inout("r14") a, inout("r20") b, inout("r27") c, inout("r4") d, inout("r12") e,
                out("lr") _, out("ctr") _, out("cr") _, out("xer") _,
            );
        }
        let intact = [a, b, c, d, e] == [round, round + 1, round + 2, round + 3, round + 4]
            && (counter, link, condition, carried) == (7, 0x900, 0x1357_9BDF, 1);
        failures += u32::from(!intact);
        (a, b) = (b, a);
        core::hint::black_box((a, b, c, d, e));
    }
    exception::set_handler(0xC00, None);
    if failures == 0 {
        Ok(())
    } else {
        Err("a register changed across an exception")
    }
}

fn floating_point(_: Arguments<'static>) -> Result<(), &'static str> {
    let third = core::hint::black_box(1.0_f64) / core::hint::black_box(3.0_f64);
    if third.to_bits() == 0x3FD5_5555_5555_5555 {
        Ok(())
    } else {
        Err("1/3 is not what IEEE 754 says")
    }
}
