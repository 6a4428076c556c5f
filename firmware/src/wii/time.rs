//! The program's clock: the processor's time base in microseconds, also for embassy-time.

use core::sync::atomic::{AtomicU32, Ordering};
use hollywood_pac::cpu;
use hollywood_pac::delay::Frequency;

/// In Hz. A Wii's until the low-memory globals have been read.
static FREQUENCY: AtomicU32 = AtomicU32::new(Frequency::WII.hertz());

/// Sets the frequency of the time base.
pub(super) fn set_frequency(frequency: Frequency) {
    FREQUENCY.store(frequency.hertz(), Ordering::Relaxed);
}

/// Microseconds on the time base's clock. It never goes back; where it starts is the loader's
/// business (the console counts from the year 2000).
pub fn now_us() -> u64 {
    let frequency = Frequency::from_hertz(FREQUENCY.load(Ordering::Relaxed));
    frequency
        .unwrap_or(Frequency::WII)
        .us_from_ticks(cpu::time_base())
}

struct Clock;

impl embassy_time_driver::Driver for Clock {
    fn now(&self) -> u64 {
        now_us()
    }

    /// Nothing to arrange: the program runs under `block_on`, which polls without being woken.
    fn schedule_wake(&self, _at: u64, _waker: &core::task::Waker) {}
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock);
