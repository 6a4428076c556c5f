//! The line of tasks that wait for room in a pool.
//!
//! Room goes to whom it suits, in order of arrival. A small request may pass a large one that still waits, but no waiter is passed more than
//! [`PASSES`] times: then everybody behind it waits too. So neither small nor large requests starve.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::Error;
use crate::pool::{Pool, Request, Taken};

/// How often a waiter may be passed by later ones.
pub(crate) const PASSES: u8 = 16;

/// A place in the line.
pub(crate) struct Waiter {
    /// Order of arrival, from 1. 0: the place is free.
    ticket: u32,
    passed: u8,
    waker: Option<Waker>,
}

impl Waiter {
    pub(crate) const NONE: Self = Self {
        ticket: 0,
        passed: 0,
        waker: None,
    };
}

/// The line: as many places as the caller's storage has.
pub(crate) struct Line<'m> {
    places: &'m mut [Waiter],
    next: u32,
    waiting: u32,
}

impl<'m> Line<'m> {
    pub(crate) fn new(places: &'m mut [Waiter]) -> Self {
        for place in places.iter_mut() {
            *place = Waiter::NONE;
        }
        Self {
            places,
            next: 1,
            waiting: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Returns whether somebody before `ticket` (0: not in line yet) has been passed often enough.
    fn is_blocked(&self, ticket: u32) -> bool {
        self.before(ticket).any(|waiter| waiter.passed >= PASSES)
    }

    fn before(&self, ticket: u32) -> impl Iterator<Item = &Waiter> {
        self.places
            .iter()
            .filter(move |waiter| waiter.is_before(ticket))
    }

    /// Notes that `ticket` was served before all who came earlier.
    fn passed_by(&mut self, ticket: u32) {
        for waiter in self
            .places
            .iter_mut()
            .filter(|waiter| waiter.is_before(ticket))
        {
            waiter.passed = waiter.passed.saturating_add(1);
        }
    }

    /// Waits with `waker` under `ticket`, or under a new one for 0. Returns the ticket, or `None` if every place is taken.
    fn wait(&mut self, ticket: u32, waker: &Waker) -> Option<u32> {
        let place = self
            .places
            .iter_mut()
            .find(|waiter| waiter.ticket == ticket)?;
        if ticket == 0 {
            *place = Waiter {
                ticket: self.next,
                passed: 0,
                waker: None,
            };
            // After 2^32 waits the order of those in line is lost once; nobody is.
            self.next = self.next.checked_add(1).unwrap_or(1);
            self.waiting += 1;
        }
        place.waker = Some(waker.clone());
        Some(place.ticket)
    }

    fn leave(&mut self, ticket: u32) {
        if let Some(place) = self
            .places
            .iter_mut()
            .find(|waiter| ticket != 0 && waiter.ticket == ticket)
        {
            *place = Waiter::NONE;
            self.waiting -= 1;
        }
    }

    /// Takes the first waker in line that arrived after `after`, with its ticket.
    pub(crate) fn next_waker(&mut self, after: u32) -> Option<(u32, Waker)> {
        let waiting = self
            .places
            .iter_mut()
            .filter(|waiter| waiter.ticket > after && waiter.waker.is_some());
        let first = waiting.min_by_key(|waiter| waiter.ticket)?;
        Some((first.ticket, first.waker.take()?))
    }
}

impl Waiter {
    fn is_before(&self, ticket: u32) -> bool {
        self.ticket != 0 && (ticket == 0 || self.ticket < ticket)
    }
}

/// Waits until there is room. Dropped, it leaves the line.
pub(crate) struct Room<'p, const SLOT: usize> {
    pool: &'p Pool<'p, SLOT>,
    request: Request,
    ticket: u32,
}

impl<'p, const SLOT: usize> Room<'p, SLOT> {
    pub(crate) fn new(pool: &'p Pool<'p, SLOT>, request: Request) -> Self {
        Self {
            pool,
            request,
            ticket: 0,
        }
    }
}

impl<const SLOT: usize> Future for Room<'_, SLOT> {
    type Output = Result<Taken, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            pool,
            request,
            ticket,
        } = &mut *self;
        let placed = pool.books.with(|books| {
            let placed = if books.line.is_blocked(*ticket) {
                Err(Error::Exhausted {
                    len: request.len,
                    free: 0,
                })
            } else {
                books.place(request, pool.provider)
            };
            match placed {
                Ok(_) => books.line.passed_by(*ticket),
                Err(
                    Error::Exhausted { .. } | Error::Fragmented { .. } | Error::TooManyLive { .. },
                ) => {
                    return match books.line.wait(*ticket, context.waker()) {
                        Some(waiting) => {
                            *ticket = waiting;
                            None
                        }
                        None => Some(Err(Error::TooMany {
                            max: books.line.places.len(),
                        })),
                    };
                }
                Err(_) => {}
            }
            books.line.leave(core::mem::take(ticket));
            Some(placed)
        });
        match placed {
            None => Poll::Pending,
            Some(placed) => {
                // Those behind may have waited for this one only.
                pool.wake();
                Poll::Ready(placed.map(|placed| pool.taken(placed)))
            }
        }
    }
}

impl<const SLOT: usize> Drop for Room<'_, SLOT> {
    fn drop(&mut self) {
        if self.ticket != 0 {
            self.pool.books.with(|books| books.line.leave(self.ticket));
            self.pool.wake();
        }
    }
}
