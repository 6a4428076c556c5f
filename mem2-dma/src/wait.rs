//! The line of tasks that wait for room in a pool.

use core::task::Waker;

/// A place in the line.
pub(crate) struct Waiter {
    waker: Option<Waker>,
}

impl Waiter {
    pub(crate) const NONE: Self = Self { waker: None };
}
