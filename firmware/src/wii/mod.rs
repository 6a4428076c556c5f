//! The machine below the program: boot, exceptions, crash reports, log, time, and the way out.
//! Exists on the target only.

pub mod attended;
pub mod boot;
pub mod dma;
pub mod exception;
pub mod ipc;
pub mod last_log;
pub mod time;
pub mod usb;

mod backtrace;
pub mod bays;
mod controllers;
mod copy;
mod crash;
mod hardware;
mod logger;
mod probe;
mod ram;
mod takeover;
mod television;

use crate::report::{Event, LogSink, RECORD_BUFFER, Sink};
use core::cell::UnsafeCell;
use core::ops::Range;

/// Exit status of a program that crashed.
pub const EXIT_CRASH: u8 = 101;

/// The reload stub: of the Homebrew Channel on a console, of Dolphin, or of the QEMU shim. It does
/// not return (hardware notes, 5.4).
const RELOAD_STUB: u32 = 0x8000_1800;

/// Ends the run: leaves the exit status in the log ring and in r3, and jumps to the reload stub.
pub fn exit(status: u8) -> ! {
    last_log::line(format_args!("{}{status}", crate::last_log::END));
    logger::end(status);
    // SAFETY: interrupts go off, then control leaves for good; the stub expects nothing else.
    unsafe {
        core::arch::asm!(
            "mtctr {stub}",
            "mfmsr 4",
            "rlwinm 4, 4, 0, 17, 15", // EE
            "mtmsr 4",
            "isync",
            // Dolphin's stub returns behind the last `icbi`, until emulation ends a moment later.
            "icbi 0, 1",
            "2: bctrl",
            "b 2b",
            stub = in(reg) RELOAD_STUB,
            in("r3") u32::from(status),
            options(noreturn),
        )
    }
}

/// The program's image with `.bss` and stack, as addresses of the cached view of MEM1.
pub fn image() -> Range<u32> {
    unsafe extern "C" {
        static _start: u32;
        static __image_end: u32;
    }
    (&raw const _start) as u32..(&raw const __image_end) as u32
}

struct RecordBuffer(UnsafeCell<[u8; RECORD_BUFFER]>);

// SAFETY: `emit` is the only user and holds a critical section.
unsafe impl Sync for RecordBuffer {}

static RECORD: RecordBuffer = RecordBuffer(UnsafeCell::new([0; RECORD_BUFFER]));

/// Sends a record to the host.
pub fn emit(event: &Event<&str>) {
    critical_section::with(|_| {
        // SAFETY: in a critical section, and nothing that runs inside asks for the buffer again,
        // except a crash, after which the first use never goes on.
        let buffer = unsafe { &mut *RECORD.0.get() };
        LogSink::new(buffer).event(event);
        // Files and volumes would push out what matters.
        let matters = matches!(
            event,
            Event::Started { .. }
                | Event::Controller { .. }
                | Event::Stick { .. }
                | Event::StickDone { .. }
                | Event::Error { .. }
                | Event::Done { .. }
        );
        if matters && let Ok(json) = event.to_json(buffer) {
            last_log::line(format_args!("{json}"));
        }
    });
}
