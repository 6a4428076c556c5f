//! One cache line: 32 bytes of RAM, what the CPU sees in their place, and who wrote what.
//!
//! The CPU's view is ordinary memory that programs under test use through pointers, so stores are noticed afterwards, by comparison:
//! [`Line::observe`]. While a line is not in the cache its view equals RAM.

use core::ptr::NonNull;

use crate::Origin;
use crate::origin::Origins;

/// Bytes in a cache line.
pub(crate) const LINE: usize = 32;

/// A set of bytes of a line; bit 0 is the first.
pub(crate) type Mask = u32;

/// Returns the bytes from `start` to `end` of a line.
pub(crate) fn mask(start: usize, end: usize) -> Mask {
    (start..end.min(LINE)).fold(0, |mask, at| mask | 1 << at)
}

/// Returns the bytes in which two lines differ.
fn differing(a: &[u8; LINE], b: &[u8; LINE]) -> Mask {
    if a == b {
        return 0;
    }
    (0..LINE).fold(0, |mask, at| mask | u32::from(a[at] != b[at]) << at)
}

/// A line. Its pointers are to memory that outlives it.
pub(crate) struct Line {
    view: NonNull<[u8; LINE]>,
    ram: NonNull<[u8; LINE]>,
    /// The view when last observed.
    known: [u8; LINE],
    /// RAM when last observed.
    seen: [u8; LINE],
    pub(crate) view_origin: Origins,
    pub(crate) ram_origin: Origins,
    /// In the cache.
    pub(crate) valid: bool,
    /// Modified, byte by byte; any bit makes the line a modified one.
    pub(crate) dirty: Mask,
    /// Stored and not cleaned, flushed or invalidated by the program since: an eviction in between was luck.
    pub(crate) owed: Mask,
    /// Written by a device, and neither invalidated or flushed by the program nor stored over since.
    pub(crate) pending: Mask,
    /// Written back, without a `sync` since.
    pub(crate) unsynced: bool,
}

// SAFETY: the pointers stand for memory that is the line's own, from whatever thread.
unsafe impl Send for Line {}

/// What an observation found to be wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Bytes stored past the cache while the line is modified.
    pub(crate) alias: Mask,
}

impl Line {
    /// # Safety
    /// Both pointers are valid for reads and writes as long as the line exists, and no references to what they point to exist while one of its
    /// methods runs, but shared ones to `UnsafeCell`s.
    pub(crate) unsafe fn new(view: NonNull<[u8; LINE]>, ram: NonNull<[u8; LINE]>) -> Self {
        // SAFETY: the caller's promise.
        let (known, seen) = unsafe { (view.read(), ram.read()) };
        Self {
            view,
            ram,
            known,
            seen,
            view_origin: Origins::All(Origin::Never),
            ram_origin: Origins::All(Origin::Never),
            valid: false,
            dirty: 0,
            owed: 0,
            pending: 0,
            unsynced: false,
        }
    }

    /// Returns the bytes as the CPU sees them.
    pub(crate) fn view(&self) -> [u8; LINE] {
        // SAFETY: promised to `new`.
        unsafe { self.view.read() }
    }

    /// Returns the bytes as devices see them.
    pub(crate) fn ram(&self) -> [u8; LINE] {
        // SAFETY: promised to `new`.
        unsafe { self.ram.read() }
    }

    fn set_view(&mut self, bytes: [u8; LINE]) {
        // SAFETY: promised to `new`.
        unsafe { self.view.write(bytes) };
        self.known = bytes;
    }

    fn set_ram(&mut self, bytes: [u8; LINE]) {
        // SAFETY: promised to `new`.
        unsafe { self.ram.write(bytes) };
        self.seen = bytes;
    }

    /// Notices what was stored through pointers since the last look, and says that `writer` did.
    pub(crate) fn observe(&mut self, writer: Origin) -> Seen {
        let (view, ram) = (self.view(), self.ram());
        let past = differing(&ram, &self.seen);
        let stored = differing(&view, &self.known);
        if past | stored == 0 {
            return Seen::default();
        }
        self.ram_origin.mark(past, writer);
        self.seen = ram;
        if !self.valid {
            // A store that misses fetches the line first; without one there is only RAM to see.
            self.fetch();
        }
        if stored != 0 {
            self.store(stored, &view, writer);
        }
        let alias = if self.owed != 0 { past } else { 0 };
        Seen { alias }
    }

    /// Stores the bytes `which` of `bytes` through the cache.
    pub(crate) fn store(&mut self, which: Mask, bytes: &[u8; LINE], writer: Origin) {
        self.fill();
        let mut view = self.known;
        replace(&mut view, which, bytes);
        self.set_view(view);
        self.view_origin.mark(which, writer);
        self.dirty |= which;
        self.owed |= which;
        self.pending &= !which;
    }

    /// Stores the bytes `which` of `bytes` into RAM: a device, or the CPU past the cache.
    pub(crate) fn store_ram(&mut self, which: Mask, bytes: &[u8; LINE], writer: Origin) {
        let mut ram = self.ram();
        replace(&mut ram, which, bytes);
        self.set_ram(ram);
        self.ram_origin.mark(which, writer);
        if !self.valid {
            self.fetch();
        }
    }

    /// Makes the view what RAM is.
    fn fetch(&mut self) {
        self.set_view(self.ram());
        self.view_origin.clone_from(&self.ram_origin);
    }

    /// Brings the line into the cache, if it is not there.
    pub(crate) fn fill(&mut self) {
        if !self.valid {
            self.fetch();
            self.valid = true;
        }
    }

    /// Writes the line to RAM if it is modified. Returns the bytes of a device that this may have overwritten with older ones.
    pub(crate) fn write_back(&mut self) -> Mask {
        if self.dirty == 0 {
            return 0;
        }
        self.set_ram(self.known);
        self.ram_origin.clone_from(&self.view_origin);
        self.dirty = 0;
        self.pending
    }

    /// Lets the line go, modified or not.
    pub(crate) fn drop_line(&mut self) {
        self.valid = false;
        self.dirty = 0;
        self.fetch();
    }

    /// Evicts the line, as replacement by another would.
    pub(crate) fn evict(&mut self) -> Mask {
        let lost = self.write_back();
        self.drop_line();
        lost
    }

    /// `dcbst`.
    pub(crate) fn clean(&mut self) -> Mask {
        self.unsynced |= self.dirty != 0;
        self.owed = 0;
        self.write_back()
    }

    /// `dcbf`.
    pub(crate) fn flush(&mut self) -> Mask {
        self.unsynced |= self.dirty != 0;
        let lost = self.write_back();
        self.invalidate();
        lost
    }

    /// `dcbi`.
    pub(crate) fn invalidate(&mut self) {
        self.owed = 0;
        self.pending = 0;
        self.drop_line();
    }

    /// `dcbz`.
    pub(crate) fn zero(&mut self, writer: Origin) {
        // Not fetched: what was in RAM does not matter.
        self.valid = true;
        self.store(Mask::MAX, &[0; LINE], writer);
    }

    /// Makes the bytes `which` nobody's, with a content that tells: `poison`. The state of the cache stays.
    pub(crate) fn retire(&mut self, which: Mask, poison: u8) {
        let poison = [poison; LINE];
        let (mut view, mut ram) = (self.view(), self.ram());
        replace(&mut view, which, &poison);
        replace(&mut ram, which, &poison);
        self.set_view(view);
        self.set_ram(ram);
        let retired = |origin: Origin| origin.mapping().map_or(origin, Origin::Retired);
        self.view_origin.change(which, retired);
        self.ram_origin.change(which, retired);
        self.pending &= !which;
    }
}

fn replace(bytes: &mut [u8; LINE], which: Mask, by: &[u8; LINE]) {
    if which == Mask::MAX {
        *bytes = *by;
        return;
    }
    for at in 0..LINE {
        if which >> at & 1 != 0 {
            bytes[at] = by[at];
        }
    }
}
