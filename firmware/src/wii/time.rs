//! Time since boot, from the processor's time base, also as the clock of embassy-time.

use core::sync::atomic::{AtomicU32, Ordering};
use hollywood_pac::cpu;

/// Microseconds per tick of the time base as a fraction in lowest terms; 4/243 at 60.75 MHz.
static NUMERATOR: AtomicU32 = AtomicU32::new(4);
static DENOMINATOR: AtomicU32 = AtomicU32::new(243);

/// Sets the frequency of the time base in Hz.
pub(super) fn set_frequency(hz: u32) {
    const SECOND_US: u32 = 1_000_000;
    let (mut a, mut b) = (SECOND_US, hz.max(1));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    NUMERATOR.store(SECOND_US / a, Ordering::Relaxed);
    DENOMINATOR.store(hz.max(1) / a, Ordering::Relaxed);
}

/// Microseconds on the time base's clock. It never goes back; where it starts is the loader's
/// business (the console counts from the year 2000).
pub fn now_us() -> u64 {
    let numerator = u64::from(NUMERATOR.load(Ordering::Relaxed));
    let denominator = u64::from(DENOMINATOR.load(Ordering::Relaxed));
    cpu::time_base().wrapping_mul(numerator) / denominator
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
