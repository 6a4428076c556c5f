//! Waiting: a clock as a trait, delays and deadlines on top of it.
//!
//! ```
//! use embedded_hal::delay::DelayNs;
//! use hollywood_pac::delay::{Broadway, Clock, Frequency};
//!
//! // Bus clock / 4; the bus clock is a low-memory global.
//! let clock = Clock::new(Broadway, Frequency::WII);
//! let deadline = clock.deadline_us(10);
//! while !deadline.is_over() { /* poll a device, under a bound */ }
//! clock.delay().delay_us(5);
//! ```

use embedded_hal::delay::DelayNs;

/// A counter that never goes back: the CPU's time base, or a stand-in in a test.
pub trait TimeBase {
    /// Returns the count.
    fn now(&self) -> u64;
}

impl<T: TimeBase + ?Sized> TimeBase for &T {
    fn now(&self) -> u64 {
        (**self).now()
    }
}

/// The time base of the CPU that the program runs on ([`crate::cpu::time_base`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Broadway;

impl TimeBase for Broadway {
    #[inline]
    fn now(&self) -> u64 {
        crate::cpu::time_base()
    }
}

/// Frequency of a time base in Hz, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency(core::num::NonZeroU32);

impl Frequency {
    /// 60.75 MHz: the bus clock of 243 MHz divided by 4 (hardware notes, section 7.1).
    pub const WII: Self = Self(core::num::NonZeroU32::new(60_750_000).expect("not zero"));

    /// A time base of `hertz` ticks a second; `None` for 0.
    pub const fn from_hertz(hertz: u32) -> Option<Self> {
        match core::num::NonZeroU32::new(hertz) {
            Some(hertz) => Some(Self(hertz)),
            None => None,
        }
    }

    /// The time base of a CPU whose bus runs at `hertz`: a quarter of it. `None` below 4 Hz.
    pub const fn from_bus_clock(hertz: u32) -> Option<Self> {
        Self::from_hertz(hertz / 4)
    }

    /// Returns the frequency in Hz.
    pub const fn hertz(self) -> u32 {
        self.0.get()
    }

    /// Returns the ticks that `count` units of `1 / per_second` seconds last, rounded up, saturating.
    const fn ticks(self, count: u32, per_second: u64) -> u64 {
        // Cannot overflow: both factors are 32 bits wide.
        (count as u64 * self.0.get() as u64).div_ceil(per_second)
    }

    /// Returns the ticks that `ns` nanoseconds last, rounded up.
    pub const fn ticks_from_ns(self, ns: u32) -> u64 {
        self.ticks(ns, 1_000_000_000)
    }

    /// Returns the ticks that `us` microseconds last, rounded up.
    pub const fn ticks_from_us(self, us: u32) -> u64 {
        self.ticks(us, 1_000_000)
    }

    /// Returns the ticks that `ms` milliseconds last, rounded up.
    pub const fn ticks_from_ms(self, ms: u32) -> u64 {
        self.ticks(ms, 1_000)
    }

    /// Returns how many whole microseconds `ticks` last; correct for any count, saturating at `u64::MAX`.
    pub const fn us_from_ticks(self, ticks: u64) -> u64 {
        let hertz = self.0.get() as u64;
        let seconds = ticks / hertz;
        let rest = ticks % hertz;
        seconds
            .saturating_mul(1_000_000)
            .saturating_add(rest * 1_000_000 / hertz)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Frequency {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=u32} Hz", self.0.get());
    }
}

/// A time base and its frequency.
#[derive(Clone, Copy, Debug)]
pub struct Clock<T = Broadway> {
    time_base: T,
    frequency: Frequency,
}

impl<T: TimeBase> Clock<T> {
    /// Makes a clock of a time base that runs at `frequency`.
    pub const fn new(time_base: T, frequency: Frequency) -> Self {
        Self {
            time_base,
            frequency,
        }
    }

    /// Returns the frequency.
    pub fn frequency(&self) -> Frequency {
        self.frequency
    }

    /// Returns the count of the time base.
    pub fn ticks(&self) -> u64 {
        self.time_base.now()
    }

    /// Returns the microseconds since the time base was 0.
    pub fn micros(&self) -> u64 {
        self.frequency.us_from_ticks(self.time_base.now())
    }

    /// Returns the moment `us` microseconds from now.
    pub fn deadline_us(&self, us: u32) -> Deadline<'_, T> {
        Deadline {
            clock: self,
            at: self
                .time_base
                .now()
                .saturating_add(self.frequency.ticks_from_us(us)),
        }
    }

    /// Returns the moment `ms` milliseconds from now.
    pub fn deadline_ms(&self, ms: u32) -> Deadline<'_, T> {
        Deadline {
            clock: self,
            at: self
                .time_base
                .now()
                .saturating_add(self.frequency.ticks_from_ms(ms)),
        }
    }

    /// Returns a busy-waiting delay on this clock.
    pub fn delay(&self) -> Delay<&T> {
        Delay {
            clock: Clock {
                time_base: &self.time_base,
                frequency: self.frequency,
            },
        }
    }

    /// Turns the clock into a busy-waiting delay.
    pub fn into_delay(self) -> Delay<T> {
        Delay { clock: self }
    }

    fn wait(&self, ticks: u64) {
        let start = self.time_base.now();
        while self.time_base.now().saturating_sub(start) < ticks {
            core::hint::spin_loop();
        }
    }
}

/// A moment on a clock.
#[derive(Clone, Copy, Debug)]
pub struct Deadline<'c, T> {
    clock: &'c Clock<T>,
    at: u64,
}

impl<T: TimeBase> Deadline<'_, T> {
    /// Says whether the moment has come.
    pub fn is_over(&self) -> bool {
        self.clock.time_base.now() >= self.at
    }
}

/// Busy waiting by the time base. Waits at least as long as asked, and interrupts make it longer.
#[derive(Clone, Copy, Debug)]
pub struct Delay<T = Broadway> {
    clock: Clock<T>,
}

impl<T: TimeBase> DelayNs for Delay<T> {
    fn delay_ns(&mut self, ns: u32) {
        self.clock.wait(self.clock.frequency.ticks_from_ns(ns));
    }

    fn delay_us(&mut self, us: u32) {
        self.clock.wait(self.clock.frequency.ticks_from_us(us));
    }

    fn delay_ms(&mut self, ms: u32) {
        self.clock.wait(self.clock.frequency.ticks_from_ms(ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// Advances by `step` with every read.
    struct Stepping {
        now: Cell<u64>,
        step: u64,
    }

    impl TimeBase for Stepping {
        fn now(&self) -> u64 {
            self.now.replace(self.now.get() + self.step)
        }
    }

    #[test]
    fn one_microsecond_is_60_75_ticks_rounded_up() {
        assert_eq!(Frequency::WII.ticks_from_us(1), 61);
        assert_eq!(Frequency::WII.ticks_from_us(4), 243);
        assert_eq!(Frequency::WII.ticks_from_ms(1), 60_750);
        assert_eq!(Frequency::WII.ticks_from_ns(0), 0);
        assert_eq!(Frequency::WII.ticks_from_ns(1), 1);
        assert_eq!(Frequency::WII.ticks_from_ns(1_000), 61);
    }

    #[test]
    fn the_longest_delay_at_the_highest_frequency_does_not_overflow() {
        let fastest = Frequency::from_hertz(u32::MAX).unwrap();
        assert_eq!(fastest.ticks_from_ms(u32::MAX), 18_446_744_065_119_618);
        assert_eq!(fastest.us_from_ticks(u64::MAX), 4_294_967_297_000_000);
        assert_eq!(
            Frequency::from_hertz(1).unwrap().us_from_ticks(u64::MAX),
            u64::MAX
        );
    }

    #[test]
    fn microseconds_are_exact_over_years() {
        assert_eq!(Frequency::WII.us_from_ticks(243), 4);
        assert_eq!(Frequency::WII.us_from_ticks(242), 3);
        assert_eq!(
            Frequency::WII.us_from_ticks(60_750_000 * 1_000_000_000),
            1_000_000_000_000_000
        );
    }

    #[test]
    fn the_time_base_runs_at_a_quarter_of_the_bus() {
        assert_eq!(Frequency::from_bus_clock(243_000_000), Some(Frequency::WII));
        assert_eq!(Frequency::from_bus_clock(3), None);
        assert_eq!(Frequency::from_hertz(0), None);
    }

    #[test]
    fn a_delay_waits_at_least_as_long_as_asked_and_not_a_step_longer() {
        let clock = Clock::new(
            Stepping {
                now: Cell::new(5),
                step: 1,
            },
            Frequency::WII,
        );
        clock.delay().delay_us(4);
        // The first read starts the wait, the 244th sees 243 ticks.
        assert_eq!(clock.time_base.now.get(), 5 + 244);
        let clock = Clock::new(
            Stepping {
                now: Cell::new(0),
                step: 100,
            },
            Frequency::WII,
        );
        clock.into_delay().delay_ns(0);
    }

    #[test]
    fn a_deadline_is_over_from_its_tick_on() {
        let clock = Clock::new(
            Stepping {
                now: Cell::new(1_000),
                step: 0,
            },
            Frequency::WII,
        );
        let deadline = clock.deadline_us(4);
        clock.time_base.now.set(1_242);
        assert!(!deadline.is_over());
        clock.time_base.now.set(1_243);
        assert!(deadline.is_over());
        assert_eq!(clock.micros(), 20);
    }
}
