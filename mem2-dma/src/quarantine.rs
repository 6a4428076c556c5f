//! Memory that a device may still touch though nobody waits for it any more.
//!
//! A mapping whose address was given away is freed by proof only: a [`Quiesced`]. Without one it goes into quarantine: dropped, it waits for
//! [`Device::reset`](crate::Device::reset); put into a [`Quarantine`] by the driver, it waits with others for the next proof.

use crate::pool::Pool;
use crate::table::{END, Handle};

/// Proof that a device has let go of something.
///
/// Whoever makes one promises for everything that it is shown to.
#[derive(Debug)]
pub struct Quiesced(());

impl Quiesced {
    /// States that the device has let go.
    ///
    /// # Safety
    /// The device will not touch the memory of any mapping, buffer or quarantine that this value is passed to, until it is given an address in it
    /// anew: it has retired every descriptor that holds such an address, or has forgotten them (EHCI: an async advance doorbell after unlinking, or a halt).
    pub const unsafe fn assert() -> Self {
        Self(())
    }
}

/// Mappings that wait together for one proof: a list of any length in a few bytes, threaded through the pool's records.
///
/// An EHCI driver keeps one for what it has unlinked. When it rings the doorbell it takes the list ([`core::mem::replace`]); when the doorbell is
/// answered it releases what it took: mappings unlinked since then are in the other list. Dropped, the mappings stay quarantined until
/// [`Device::reset`](crate::Device::reset).
pub struct Quarantine<'p, const SLOT: usize = 512> {
    pool: &'p Pool<'p, SLOT>,
    head: u16,
    tail: u16,
    len: u16,
}

impl<'p, const SLOT: usize> Quarantine<'p, SLOT> {
    /// Makes an empty quarantine.
    pub const fn new(pool: &'p Pool<'p, SLOT>) -> Self {
        Self {
            pool,
            head: END,
            tail: END,
            len: 0,
        }
    }

    /// Counts the mappings in it.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Returns whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes everything out, leaving an empty quarantine.
    pub fn take(&mut self) -> Self {
        let empty = Self::new(self.pool);
        core::mem::replace(self, empty)
    }

    /// Moves everything from `other`, of the same pool, into this quarantine. Of another pool: gives `other` back.
    pub fn append(&mut self, other: Self) -> Option<Self> {
        if !core::ptr::eq(self.pool, other.pool) {
            return Some(other);
        }
        if other.is_empty() {
            return None;
        }
        if self.is_empty() {
            *self = other;
            return None;
        }
        self.pool
            .books
            .with(|books| books.table.join_chains(self.tail, other.head));
        self.tail = other.tail;
        self.len += other.len;
        None
    }

    /// Frees everything in it.
    pub fn release(self, _done: &Quiesced) {
        let mut head = self.head;
        for _ in 0..self.len {
            match self
                .pool
                .books
                .with(|books| books.table.release_quarantined(head))
            {
                Some(next) => head = next,
                None => break,
            }
        }
        self.pool.wake();
    }

    /// Puts a mapping in. A stale one (after a reset) is none any more.
    pub(crate) fn of(pool: &'p Pool<'p, SLOT>, handle: Handle) -> Self {
        match pool.books.with(|books| books.table.quarantine(handle, END)) {
            Ok(record) => Self {
                pool,
                head: record,
                tail: record,
                len: 1,
            },
            Err(_) => Self::new(pool),
        }
    }
}
