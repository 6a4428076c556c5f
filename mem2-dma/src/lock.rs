//! A value behind a critical section.

use core::cell::UnsafeCell;

/// A value that is only ever touched within a critical section.
pub(crate) struct Locked<T>(UnsafeCell<T>);

// SAFETY: `with` hands out one reference at a time: critical sections exclude each other, and none of the closures of this crate
// calls `with` again (they run no foreign code).
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Runs `act` on the value, with interrupts off: keep it short, and call nothing foreign from it.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: see above: no other reference exists while the critical section lasts.
        critical_section::with(|_| act(unsafe { &mut *self.0.get() }))
    }
}
