//! Room for a pool's bookkeeping, handed in by the caller: this crate allocates nothing.

use crate::slots::GROUP_WORDS;
use crate::table::Record;
use crate::wait::Waiter;

/// Bookkeeping memory for one pool: `GROUPS` groups of 128 slots, `LIVE` mappings at a time, `WAITERS` tasks waiting for room.
///
/// Usually a `static`, taken once. A slot costs 1.5 bits, a live mapping 16 bytes (on 32-bit machines), a waiter 24.
///
/// ```
/// use mem2_dma::Storage;
/// // 256 KiB in slots of 512 bytes: 512 slots, 4 groups.
/// let mut storage = Storage::<4, 64>::new();
/// ```
pub struct Storage<const GROUPS: usize, const LIVE: usize, const WAITERS: usize = 8> {
    pub(crate) words: [[u32; GROUP_WORDS]; GROUPS],
    pub(crate) longest: [[u16; GROUP_WORDS]; GROUPS],
    pub(crate) records: [Record; LIVE],
    pub(crate) waiters: [Waiter; WAITERS],
}

impl<const GROUPS: usize, const LIVE: usize, const WAITERS: usize> Storage<GROUPS, LIVE, WAITERS> {
    /// Makes storage that is ready for a pool.
    pub const fn new() -> Self {
        Self {
            words: [[0; GROUP_WORDS]; GROUPS],
            longest: [[0; GROUP_WORDS]; GROUPS],
            records: [const { Record::FREE }; LIVE],
            waiters: [const { Waiter::NONE }; WAITERS],
        }
    }
}

impl<const GROUPS: usize, const LIVE: usize, const WAITERS: usize> Default
    for Storage<GROUPS, LIVE, WAITERS>
{
    fn default() -> Self {
        Self::new()
    }
}
