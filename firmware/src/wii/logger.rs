//! The defmt logger: one encoder, two sinks (the log ring and a USB Gecko).
//!
//! A frame is written in a critical section, so interrupts never see a half-written one. Faults do:
//! a crash report first [`seize`]s the logger, which ends the broken frame and starts afresh.

use super::ram::Uncached;
use super::time;
use crate::log_ring::{self, Words, Writer};
use core::cell::UnsafeCell;
use hollywood_pac::cpu;
use hollywood_pac::exi::{Bus, Channel};
use hollywood_pac::gecko::Gecko;

struct State {
    encoder: defmt::Encoder,
    ring: Option<Writer<Ring>>,
    gecko: Option<GeckoSink>,
    restore: critical_section::RestoreState,
    /// Messages being written: more than one when one is logged from inside another's formatting.
    /// Only the outermost is written.
    depth: u32,
    /// Messages that were dropped for that and that no message has told of yet.
    nested: u32,
    /// Frames that the Gecko lost and that no message has told of yet.
    gecko_lost: u32,
    /// When the log began: its timestamps count from here.
    started_us: u64,
}

struct Shared(UnsafeCell<State>);

// SAFETY: used in critical sections only, and by a crash report, after which nobody else runs.
unsafe impl Sync for Shared {}

static STATE: Shared = Shared(UnsafeCell::new(State {
    encoder: defmt::Encoder::new(),
    ring: None,
    gecko: None,
    restore: critical_section::RestoreState::invalid(),
    depth: 0,
    nested: 0,
    gecko_lost: 0,
    started_us: 0,
}));

/// The log ring's memory.
struct Ring {
    memory: Uncached,
    deadline: u64,
}

/// How long a full ring waits for a reader that does not read, in microseconds.
const PATIENCE_US: u64 = 500_000;

impl Words for Ring {
    fn load(&self, offset: u32) -> u32 {
        self.memory.load(offset)
    }

    fn store(&mut self, offset: u32, word: u32) {
        self.memory.store(offset, word);
    }

    fn barrier(&mut self) {
        self.memory.barrier();
    }
}

impl log_ring::Shared for Ring {
    fn keep_waiting(&mut self, first: bool) -> bool {
        if first {
            self.deadline = time::now_us() + PATIENCE_US;
        }
        time::now_us() < self.deadline
    }
}

/// A USB Gecko: another copy of the stream, as far as somebody takes it.
struct GeckoSink {
    gecko: Gecko<Bus<&'static Channel>>,
    /// The frame being written is lost, or cut.
    broken: bool,
    lost_frames: u32,
}

/// Tries to send a byte before its frame is given up: about 5 ms at 1 us a transaction.
const GECKO_TRIES: u32 = 5_000;

impl GeckoSink {
    /// Looks in both memory card slots.
    fn probe() -> Option<Self> {
        [0xCD00_6800_u32, 0xCD00_6814]
            .into_iter()
            .find_map(|channel| {
                let channel = channel as *const Channel;
                // SAFETY: EXI channels 0 and 1 (hardware notes, 4.5), mapped uncached; the logger is
                // their only user.
                let gecko = Gecko::probe(unsafe { &*channel }).ok()?;
                Some(Self {
                    gecko,
                    broken: false,
                    lost_frames: 0,
                })
            })
    }

    /// Sends a byte, with so many tries.
    fn send(&mut self, byte: u8, tries: u32) -> bool {
        (0..tries).any(|_| self.gecko.try_send(byte) == Ok(true))
    }

    /// Begins a frame. After a loss, one try tells whether somebody takes bytes again; the byte
    /// ends what was cut. Returns the number of frames lost before, if this one goes through.
    fn start_frame(&mut self) -> Option<u32> {
        if self.broken && self.send(0, 1) {
            self.broken = false;
            return Some(core::mem::take(&mut self.lost_frames));
        }
        self.lost_frames += u32::from(self.broken);
        None
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.broken {
                return;
            }
            if !self.send(byte, GECKO_TRIES) {
                self.broken = true;
                self.lost_frames += 1;
            }
        }
    }
}

/// Makes the ring, and finds a USB Gecko if the machine has EXI; before this, messages are dropped.
pub(super) fn start(has_exi: bool) {
    // SAFETY: the ring's memory is reserved for it, and this runs once.
    let memory = unsafe {
        Uncached::new(
            log_ring::PHYSICAL_ADDRESS,
            log_ring::HEADER_BYTES + log_ring::CAPACITY,
        )
    };
    let ring = Writer::new(
        Ring {
            memory,
            deadline: 0,
        },
        log_ring::CAPACITY,
        cpu::time_base() as u32,
    );
    let gecko = has_exi.then(GeckoSink::probe).flatten();
    critical_section::with(|_| {
        // SAFETY: in a critical section.
        let state = unsafe { &mut *STATE.0.get() };
        state.started_us = time::now_us();
        state.ring = Some(ring);
        state.gecko = gecko;
    });
}

/// Takes the logger over for a crash report, whatever state it is in.
pub(super) fn seize() {
    // SAFETY: the code that was logging never runs again.
    let state = unsafe { &mut *STATE.0.get() };
    if state.depth != 0 {
        state.depth = 0;
        sink(&[0]);
    }
    state.encoder = defmt::Encoder::new();
}

/// Leaves the exit status for a host, and ends the log: what may still run afterwards (Dolphin 2503
/// resumes at a stale address for a moment when its reload stub returns) is not heard.
pub(super) fn end(status: u8) {
    // SAFETY: the caller ends the program; nobody else logs any more.
    let state = unsafe { &mut *STATE.0.get() };
    state.gecko = None;
    if let Some(mut ring) = state.ring.take() {
        ring.end(status);
    }
}

#[defmt::global_logger]
struct Logger;

/// The bytes that the encoder makes, on their way to the sinks.
fn sink(bytes: &[u8]) {
    // SAFETY: called by the encoder between `acquire` and `release`. The encoder itself is borrowed
    // meanwhile, the sinks are not.
    let (ring, gecko) = unsafe {
        let state = STATE.0.get();
        (&mut (*state).ring, &mut (*state).gecko)
    };
    if let Some(ring) = ring {
        ring.write(bytes);
    }
    if let Some(gecko) = gecko {
        gecko.write(bytes);
    }
}

// SAFETY: `acquire` takes a critical section that `release` gives back, and frames do not mix: one
// that is logged from inside another one's formatting is dropped, and a message tells of it.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: given back in `release`.
        let restore = unsafe { critical_section::acquire() };
        // SAFETY: in a critical section.
        let state = unsafe { &mut *STATE.0.get() };
        state.depth += 1;
        if state.depth > 1 {
            state.nested += 1;
            return;
        }
        state.restore = restore;
        if let Some(lost) = state.gecko.as_mut().and_then(GeckoSink::start_frame) {
            state.gecko_lost = lost;
        }
        state.encoder.start_frame(sink);
    }

    unsafe fn flush() {}

    unsafe fn release() {
        // SAFETY: in the critical section that `acquire` took.
        let state = unsafe { &mut *STATE.0.get() };
        state.depth = state.depth.saturating_sub(1);
        if state.depth > 0 {
            return;
        }
        state.encoder.end_frame(sink);
        let gecko_lost = core::mem::take(&mut state.gecko_lost);
        let nested = core::mem::take(&mut state.nested);
        // SAFETY: pairs with the outermost `acquire`; inner ones found interrupts off already.
        unsafe { critical_section::release(state.restore) };
        if gecko_lost != 0 {
            defmt::warn!(
                "USB Gecko: {=u32} messages lost while nobody took them",
                gecko_lost
            );
        }
        if nested != 0 {
            defmt::warn!(
                "{=u32} messages lost that were logged inside another",
                nested
            );
        }
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: in the critical section that `acquire` took.
        let state = unsafe { &mut *STATE.0.get() };
        if state.depth == 1 {
            state.encoder.write(bytes, sink);
        }
    }
}

defmt::timestamp!("{=u64:us}", elapsed_us());

/// Time since the log began, in microseconds.
fn elapsed_us() -> u64 {
    // SAFETY: called between `acquire` and `release`; written before the first of them only.
    let started_us = unsafe { (*STATE.0.get()).started_us };
    time::now_us().saturating_sub(started_us)
}
