//! The end of a program that failed: says what happened and where, then ends the run.

use super::boot::STACK_BOTTOM;
use super::exception::{self, Frame};
use super::{backtrace, last_log, logger};
use crate::report::{Crash, Event};
use core::fmt::Write;
use core::panic::PanicInfo;

/// A stack pointer so near the end of the stack, in bytes, has run out of it.
const NEAR: u32 = 0x4000;

/// Reports an exception that no handler wanted.
pub(super) fn exception(frame: &Frame) -> ! {
    // The stack pointer is at its end, and something below it was touched.
    let overflow = frame.vector == 0x300
        && frame.dar < STACK_BOTTOM
        && (STACK_BOTTOM - NEAR..STACK_BOTTOM + NEAR).contains(&frame.gpr[1]);
    let mut backtrace = backtrace::walk(frame.gpr[1]);
    // A leaf function has not saved its return address yet.
    let _ = insert_front(&mut backtrace, frame.lr);
    let name = exception::name(frame.vector);
    let message = overflow.then_some("the stack has overflowed");
    end(&Crash {
        vector: frame.vector,
        name,
        srr0: frame.srr0,
        srr1: frame.srr1,
        dar: frame.dar,
        dsisr: frame.dsisr,
        lr: frame.lr,
        ctr: frame.ctr,
        cr: frame.cr,
        gpr: frame.gpr,
        backtrace,
        message,
    })
}

/// Puts `address` in front, unless it is there already.
fn insert_front<const N: usize>(list: &mut heapless::Vec<u32, N>, address: u32) -> Result<(), u32> {
    if list.first() == Some(&address) {
        return Ok(());
    }
    if list.is_full() {
        list.pop();
    }
    list.insert(0, address)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut message = heapless::String::<512>::new();
    // A message that is too long is cut: where it happened comes first.
    if let Some(location) = info.location() {
        let _ = write!(message, "{}:{}: ", location.file(), location.line());
    }
    let _ = write!(message, "{}", info.message());
    let sp: u32;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mr {}, 1", out(reg) sp) };
    end(&Crash {
        vector: 0,
        name: "panic",
        srr0: 0,
        srr1: 0,
        dar: 0,
        dsisr: 0,
        lr: 0,
        ctr: 0,
        cr: 0,
        gpr: [0; 32],
        backtrace: backtrace::walk(sp),
        message: Some(&message),
    })
}

fn end(crash: &Crash<&str>) -> ! {
    logger::seize();
    if crash.vector == 0 {
        defmt::error!("panic: {=str}", crash.message.unwrap_or_default());
    } else {
        defmt::error!(
            "exception {=u32:#x} ({=str}) at {=u32:#010x}, SRR1 {=u32:#010x}, DAR {=u32:#010x}, DSISR {=u32:#010x}, LR {=u32:#010x} {=str}",
            crash.vector,
            crash.name,
            crash.srr0,
            crash.srr1,
            crash.dar,
            crash.dsisr,
            crash.lr,
            crash.message.unwrap_or_default()
        );
        defmt::error!("GPRs {:#x}", crash.gpr);
    }
    defmt::error!("back-trace {:#x}", crash.backtrace.as_slice());
    last_log::line(format_args!(
        "! {} at {:#010x}, DAR {:#010x}, DSISR {:#010x}, LR {:#010x} {}",
        crash.name,
        crash.srr0,
        crash.dar,
        crash.dsisr,
        crash.lr,
        crash.message.unwrap_or_default()
    ));
    for address in &crash.backtrace {
        last_log::line(format_args!("! called from {address:#010x}"));
    }
    super::emit(&Event::Crash(crash.clone()));
    super::exit(super::EXIT_CRASH)
}
