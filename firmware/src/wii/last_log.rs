//! The log that outlives the program ([`crate::last_log`]), on this machine.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};

use super::ram::{self, Uncached};
use super::time;
use crate::last_log::{self, Log};

struct State {
    log: Option<Log<Uncached>>,
    /// What the run before has left: its end.
    last: [u8; last_log::CAPACITY as usize],
    /// Where that begins.
    from: usize,
    /// When this run's log began: its times count from here.
    started_us: u64,
}

struct Shared(UnsafeCell<State>);

// SAFETY: used in critical sections only, and by a crash report, after which nobody else runs.
unsafe impl Sync for Shared {}

static STATE: Shared = Shared(UnsafeCell::new(State {
    log: None,
    last: [0; last_log::CAPACITY as usize],
    from: 0,
    started_us: 0,
}));

/// Takes what the run before has left, and begins this run's log. Without it if the memory is not this program's.
pub(super) fn start() {
    if !ram::has_reserved() {
        return;
    }
    // SAFETY: the arena is the program's, the pool lies above (`dma::pool_range`), and this runs once.
    let memory = unsafe { Uncached::new(last_log::PHYSICAL_ADDRESS, last_log::BYTES) };
    critical_section::with(|_| {
        // SAFETY: in a critical section.
        let state = unsafe { &mut *STATE.0.get() };
        let length = last_log::read(&memory, &mut state.last).len();
        state.from = state.last.len() - length;
        state.started_us = time::now_us();
        state.log = Some(Log::new(memory));
    });
}

/// What the run before has left; empty if there is nothing.
pub(super) fn last() -> &'static str {
    // SAFETY: written by `start` only, before anybody asks.
    let (last, from) = unsafe { (&(*STATE.0.get()).last, (*STATE.0.get()).from) };
    core::str::from_utf8(last.get(from..).unwrap_or_default()).unwrap_or_default()
}

/// Adds a line, with the time. What is too long for a line is cut.
pub fn line(text: fmt::Arguments<'_>) {
    let mut line = heapless::String::<400>::new();
    // SAFETY: written by `start` only, before anybody logs.
    let now = time::now_us().saturating_sub(unsafe { (*STATE.0.get()).started_us });
    // What is too long is cut.
    let _ = write!(
        line,
        "{}.{:03} {text}",
        now / 1_000_000,
        now / 1_000 % 1_000
    );
    if line.push('\n').is_err() {
        line.pop();
        let _ = line.push('\n');
    }
    critical_section::with(|_| {
        // SAFETY: in a critical section. A crash while this writes never lets it go on.
        if let Some(log) = unsafe { &mut (*STATE.0.get()).log } {
            log.write(&line);
        }
    });
}
