//! The program's clock: the processor's time base in microseconds, also for embassy-time.

use core::sync::atomic::{AtomicU32, Ordering};
use hollywood_pac::cpu;
use hollywood_pac::delay::Frequency;

/// In 2^-32 microseconds. A Wii's until the low-memory globals have been read.
static TICK: AtomicU32 = AtomicU32::new(tick(Frequency::WII));

/// Sets the frequency of the time base.
pub(super) fn set_frequency(frequency: Frequency) {
    TICK.store(tick(frequency), Ordering::Relaxed);
}

/// The length of a tick in 2^-32 microseconds; of one that is longer than a microsecond, as if it were one.
const fn tick(frequency: Frequency) -> u32 {
    let length = (1_000_000 << 32) / frequency.hertz() as u64;
    if length > u32::MAX as u64 {
        u32::MAX
    } else {
        length as u32
    }
}

/// Microseconds on the time base's clock. It never goes back; where it starts is the loader's
/// business (the console counts from the year 2000).
///
/// Asked for at every look at the controller, so without a division; off by less than 2^-25.
pub fn now_us() -> u64 {
    let (ticks, tick) = (cpu::time_base(), u64::from(TICK.load(Ordering::Relaxed)));
    let (high, low) = (ticks >> 32, ticks & 0xFFFF_FFFF);
    (high * tick).wrapping_add((low * tick) >> 32)
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
