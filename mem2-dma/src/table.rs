//! The bookkeeping core: which slots belong to which live mapping. No `unsafe`, no I/O, no translation.
//!
//! The heir of `swiotlb_tbl_map_single` and `swiotlb_tbl_unmap_single`: the pool is a number of slots, a mapping a byte range in it. What the bytes
//! are and what a device calls them is somebody else's business ([`Provider`](crate::Provider)).

use core::ops::Range;
use core::panic::Location;
use core::sync::atomic::{AtomicU16, Ordering};

use crate::Error;
use crate::constraints::{Constraints, Extent, place};
use crate::slots::{GROUP_SLOTS, MAX_SLOTS, Run, Slots};

/// Mappings of fewer slots are mostly placed at once.
const SMALL: u32 = 32;

/// End of a chain of records.
pub(crate) const END: u16 = u16::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Not in use; `next` chains the free records.
    Free,
    /// A device may touch the slots, and somebody holds the mapping (or forgot it).
    Live,
    /// The CPU owns the slots ([`DmaBuffer`](crate::DmaBuffer)).
    Owned,
    /// The mapping is gone, but a device may still touch the slots.
    Quarantined,
}

/// What the table remembers of one live mapping: 16 bytes on a 32-bit machine.
pub struct Record {
    /// Counts the mappings that this record has served, so that an old handle is known for what it is.
    generation: u32,
    caller: Option<&'static Location<'static>>,
    start: u16,
    count: u16,
    /// The next record of the chain that this one is in: the free records, or a quarantine.
    next: u16,
    device: u8,
    state: State,
}

impl Record {
    /// A record that is not in use.
    pub const FREE: Self = Self {
        generation: 0,
        caller: None,
        start: 0,
        count: 0,
        next: END,
        device: 0,
        state: State::Free,
    };
}

#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<Record>() == 16);

/// Names one live mapping of one table. Stale once the mapping is freed, even if its slots and its record serve another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle {
    generation: u32,
    /// The table's number above, the record's below. Two whole words travel in registers.
    place: u32,
}

impl Handle {
    fn table(self) -> u32 {
        self.place >> 16
    }

    fn record(self) -> u16 {
        self.place as u16
    }
}

/// Why a handle names no live mapping of this table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BadHandle {
    /// The mapping has been freed already.
    Stale,
    /// The mapping belongs to another table.
    Foreign,
}

impl From<BadHandle> for Error {
    fn from(bad: BadHandle) -> Self {
        match bad {
            BadHandle::Stale => Self::Stale,
            BadHandle::Foreign => Self::Foreign,
        }
    }
}

/// Who asks for a mapping, for the books.
#[derive(Clone, Copy)]
pub struct Owner {
    /// Which device, as numbered by the pool.
    pub device: u8,
    /// Where the request was made.
    pub caller: &'static Location<'static>,
    /// Whether the request may use the reserve.
    pub reserved: bool,
}

/// A granted mapping: its handle, and the offset of its first byte from the start of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// What [`Table::unmap_single`] wants.
    pub handle: Handle,
    /// Bytes from the start of the pool.
    pub offset: u32,
}

/// Slots kept for those who must never wait behind bulk traffic: equal cells at the pool's end, and a record for each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// How many mappings to keep room for: 32 at most.
    pub mappings: u8,
    /// The longest such mapping, in bytes.
    pub bytes: u32,
}

/// One live mapping, for a leak report.
#[derive(Clone, Copy, Debug)]
pub struct LiveMapping {
    /// Bytes of pool memory that it holds: whole slots.
    pub slot_bytes: u32,
    /// Where the mapping was made.
    pub caller: &'static Location<'static>,
    /// The device it was made for.
    pub device: u8,
    /// Whether the mapping itself is gone and only the device holds on to the memory.
    pub quarantined: bool,
}

/// The slots of one pool and its live mappings.
pub struct Table<'m> {
    slots: Slots<'m>,
    /// log2 of the bytes in a slot.
    shift: u32,
    records: &'m mut [Record],
    /// The first free record that anybody may use.
    free_record: u16,
    quarantined: u16,
    id: u32,
    reserve: ReserveCells,
}

/// The reserve: one bit a cell, cell 0 in the most significant bit. Every cell has a record of its own, after those that anybody may use.
#[derive(Clone, Copy)]
struct ReserveCells {
    free: u32,
    cells: u32,
    first_slot: u32,
    first_record: u32,
    cell_slots: u32,
}

impl<'m> Table<'m> {
    /// Keeps books on `bytes` bytes of memory in slots of `slot` bytes: as many whole ones as there is room for, 32767 at most.
    ///
    /// Of `words` and `longest` four each are needed for every [`GROUP_SLOTS`] slots.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if not one slot results or the reserve leaves none; [`Error::Misaligned`] if `slot` is no power of two from 32 to 64 KiB.
    pub fn new(
        words: &'m mut [u32],
        longest: &'m mut [u16],
        records: &'m mut [Record],
        bytes: usize,
        slot: usize,
        reserve: Reserve,
    ) -> Result<Self, Error> {
        if !slot.is_power_of_two() || !(32..=1 << 16).contains(&slot) {
            return Err(Error::Misaligned {
                value: slot,
                align: 1 << 16,
            });
        }
        let shift = slot.trailing_zeros();
        static TABLES: AtomicU16 = AtomicU16::new(0);
        let room = Slots::groups(words, longest) * GROUP_SLOTS as usize;
        let total = (bytes >> shift).min(room).min(MAX_SLOTS as usize) as u32;
        let records_len = records.len().min(usize::from(END));
        let records = records.get_mut(..records_len).unwrap_or_default();
        let cells = u32::from(reserve.mappings).min(32);
        let cell_slots = reserve.bytes.div_ceil(1 << shift);
        let kept = cells.saturating_mul(cell_slots);
        if total <= kept || records_len <= cells as usize {
            return Err(Error::NoRoom {
                memory: bytes,
                slots: room,
            });
        }
        let open = records_len - cells as usize;
        for (index, record) in records.iter_mut().enumerate() {
            *record = Record::FREE;
            record.next = if index + 1 < open {
                index as u16 + 1
            } else {
                END
            };
        }
        Ok(Self {
            slots: Slots::new(words, longest, total - kept),
            shift,
            free_record: 0,
            records,
            quarantined: 0,
            id: u32::from(TABLES.fetch_add(1, Ordering::Relaxed)),
            reserve: ReserveCells {
                free: if cells == 0 {
                    0
                } else {
                    u32::MAX << (32 - cells)
                },
                cells,
                first_slot: total - kept,
                first_record: open as u32,
                cell_slots,
            },
        })
    }

    /// Returns the size of the pool in bytes: whole slots, the reserve included.
    pub fn bytes(&self) -> u32 {
        (self.slots.total() + self.reserve.cells * self.reserve.cell_slots) << self.shift
    }

    /// Returns the size of what everybody may use, in bytes: all but the reserve.
    pub fn open_bytes(&self) -> u32 {
        self.slots.total() << self.shift
    }

    /// Maps `len` bytes wherever there is room: for pools without gaps on the bus and devices whose constraints every slot satisfies.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooLarge`], [`Error::Exhausted`], [`Error::Fragmented`], [`Error::TooManyLive`].
    #[inline(always)]
    pub fn map_single(&mut self, len: u32, owner: &Owner) -> Result<Placed, Error> {
        let count = self.slots_of(len);
        // What is rare is elsewhere, lest it be inlined with this.
        let taken = match self.free_record {
            END => None,
            _ if count < SMALL => self.slots.take_first(count),
            _ => self.slots.take_first_long(count),
        };
        match taken {
            Some(start) => self.enter_open(start, count, start << self.shift, owner),
            None => self.map_slowly(len, owner),
        }
    }

    /// Maps what does not simply come first.
    #[inline(never)]
    fn map_slowly(&mut self, len: u32, owner: &Owner) -> Result<Placed, Error> {
        let count = self.slots_of(len);
        if count > self.slots.total() {
            return Err(self.impossible(len));
        }
        if self.free_record != END {
            match self.slots.find(count) {
                Ok(run) => {
                    self.slots.take(run, run.start, count);
                    return self.enter_open(run.start, count, run.start << self.shift, owner);
                }
                Err(_) if owner.reserved => {}
                Err(longest) => return Err(self.refusal(len, longest)),
            }
        }
        self.map_reserve(len, owner, |run| Some(run.start))
    }

    /// Counts the slots that `len` bytes take; a number larger than any pool for 0.
    fn slots_of(&self, len: u32) -> u32 {
        (len.wrapping_sub(1) >> self.shift) + 1
    }

    /// Maps `len` bytes where `constraints` and the bus allow: the lowest such place, so a refusal proves that there is none.
    ///
    /// `extent` translates an offset into the longest contiguous stretch of bus addresses from there on.
    ///
    /// # Errors
    /// As [`Table::map_single`].
    pub fn map_single_constrained(
        &mut self,
        len: u32,
        owner: &Owner,
        constraints: &Constraints,
        extent: impl Fn(u32) -> Option<Extent>,
    ) -> Result<Placed, Error> {
        let count = self.slots_of(len);
        if count > self.slots.total() {
            return Err(self.impossible(len));
        }
        let fit = |run: Range<u32>| place(constraints, run, len, &extent);
        if self.free_record != END {
            let found = self.slots.find_fit(count, |Run { start, len: run }| {
                let from = start << self.shift;
                fit(from..from + (run << self.shift))
            });
            match found {
                Ok((run, offset)) => {
                    let start = offset >> self.shift;
                    let end = ((offset + len - 1) >> self.shift) + 1;
                    self.slots.take(run, start, end - start);
                    return self.enter_open(start, end - start, offset, owner);
                }
                Err(_) if owner.reserved => {}
                Err(longest) => return Err(self.refusal(len, longest)),
            }
        }
        self.map_reserve(len, owner, fit)
    }

    /// Frees a mapping. What it covered is taken from the books, never from the caller.
    ///
    /// # Errors
    /// [`BadHandle::Stale`] for a handle used before, [`BadHandle::Foreign`] for one of another table.
    #[inline(always)]
    pub fn unmap_single(&mut self, handle: Handle) -> Result<(), BadHandle> {
        self.record(handle)?;
        self.free(handle.record());
        Ok(())
    }

    /// Checks that a handle is live.
    ///
    /// # Errors
    /// As [`Table::unmap_single`].
    pub fn check_handle(&self, handle: Handle) -> Result<(), BadHandle> {
        self.record(handle).map(|_| ())
    }

    /// Counts mappings that are live, owned by the CPU or quarantined.
    pub fn live(&self) -> usize {
        let records = self.records.iter();
        records.filter(|record| record.state != State::Free).count()
    }

    /// Counts mappings that are quarantined.
    pub fn quarantined(&self) -> usize {
        usize::from(self.quarantined)
    }

    /// Returns the bytes in use, in whole slots.
    pub fn used_bytes(&self) -> u32 {
        let cells = self.reserve.cells - self.reserve.free.count_ones();
        (self.slots.used() + cells * self.reserve.cell_slots) << self.shift
    }

    /// Returns the most bytes that were ever in use outside the reserve.
    pub fn high_water_bytes(&self) -> u32 {
        self.slots.high_water() << self.shift
    }

    /// Returns the mapping in record `index`, if there is one. Counting `index` up to [`Table::records`] visits all.
    pub fn mapping(&self, index: usize) -> Option<LiveMapping> {
        let record = self
            .records
            .get(index)
            .filter(|record| record.state != State::Free)?;
        Some(LiveMapping {
            slot_bytes: u32::from(record.count) << self.shift,
            caller: record.caller?,
            device: record.device,
            quarantined: record.state == State::Quarantined,
        })
    }

    /// Returns how many mappings can be live at a time.
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Notes who owns a mapping now.
    pub(crate) fn set_state(&mut self, handle: Handle, state: State) -> Result<(), BadHandle> {
        self.record(handle)?;
        if let Some(record) = self.records.get_mut(usize::from(handle.record())) {
            record.state = state;
        }
        Ok(())
    }

    /// Quarantines a mapping and puts it before `next` in a chain. Returns the chain's new head.
    pub(crate) fn quarantine(&mut self, handle: Handle, next: u16) -> Result<u16, BadHandle> {
        self.set_state(handle, State::Quarantined)?;
        self.quarantined += 1;
        if let Some(record) = self.records.get_mut(usize::from(handle.record())) {
            record.next = next;
            // The handle dies here: what is quarantined can be freed as a member of its chain only.
            record.generation = record.generation.wrapping_add(1);
        }
        Ok(handle.record())
    }

    /// Frees the first mapping of a quarantine chain and returns the next, or `None` at the end.
    pub(crate) fn release_quarantined(&mut self, head: u16) -> Option<u16> {
        let record = self.records.get(usize::from(head))?;
        let next = record.next;
        if record.state != State::Quarantined {
            return None;
        }
        self.quarantined = self.quarantined.saturating_sub(1);
        self.free(head);
        Some(next)
    }

    /// Appends the chain `tail_of` to the chain that ends in `tail`.
    pub(crate) fn join_chains(&mut self, tail: u16, head: u16) {
        if let Some(record) = self.records.get_mut(usize::from(tail)) {
            record.next = head;
        }
    }

    /// Frees record `index` if it is a mapping of `device` that a device may still touch, quarantined or forgotten. Returns whether it was.
    pub(crate) fn reset_record(&mut self, index: usize, device: u8) -> bool {
        let Some(record) = self.records.get(index) else {
            return false;
        };
        if record.device != device {
            return false;
        }
        match record.state {
            State::Free | State::Owned => return false,
            State::Quarantined => self.quarantined = self.quarantined.saturating_sub(1),
            State::Live => {}
        }
        self.free(index as u16);
        true
    }

    /// Says why `len` bytes can never be mapped: none, or more than there are.
    #[cold]
    fn impossible(&self, len: u32) -> Error {
        if len == 0 {
            Error::Empty
        } else {
            Error::TooLarge {
                len: len as usize,
                max: self.open_bytes() as usize,
            }
        }
    }

    fn record(&self, handle: Handle) -> Result<&Record, BadHandle> {
        if handle.table() != self.id {
            return Err(BadHandle::Foreign);
        }
        match self.records.get(usize::from(handle.record())) {
            Some(record) if record.generation == handle.generation => Ok(record),
            _ => Err(BadHandle::Stale),
        }
    }

    #[cold]
    fn refusal(&self, len: u32, longest: u32) -> Error {
        let free = (self.slots.total() - self.slots.used()) << self.shift;
        if free < len {
            Error::Exhausted {
                len: len as usize,
                free: free as usize,
            }
        } else {
            Error::Fragmented {
                len: len as usize,
                largest_run: (longest << self.shift) as usize,
            }
        }
    }

    /// Maps a cell of the reserve, for those who may.
    #[cold]
    fn map_reserve(
        &mut self,
        len: u32,
        owner: &Owner,
        fit: impl Fn(Range<u32>) -> Option<u32>,
    ) -> Result<Placed, Error> {
        let ReserveCells {
            mut free,
            first_slot,
            cell_slots,
            ..
        } = self.reserve;
        if !owner.reserved {
            return Err(Error::TooManyLive { live: self.live() });
        }
        let cell_bytes = cell_slots << self.shift;
        while free != 0 && len <= cell_bytes {
            let cell = free.leading_zeros();
            let bit = 1 << (31 - cell);
            let start = first_slot + cell * cell_slots;
            let from = start << self.shift;
            let end = from + cell_bytes;
            if let Some(offset) = fit(from..end).filter(|offset| offset + len <= end) {
                self.reserve.free &= !bit;
                let record = self.reserve.first_record + cell;
                return self.enter(record as u16, start, cell_slots, offset, owner);
            }
            free &= !bit;
        }
        Err(self.refusal(len, self.slots.longest()))
    }

    /// Writes a mapping into the first free record, of which there is one.
    #[inline(always)]
    fn enter_open(
        &mut self,
        start: u32,
        count: u32,
        offset: u32,
        owner: &Owner,
    ) -> Result<Placed, Error> {
        let index = self.free_record;
        if let Some(record) = self.records.get(usize::from(index)) {
            self.free_record = record.next;
        }
        self.enter(index, start, count, offset, owner)
    }

    /// Writes a mapping into the books.
    #[inline(always)]
    fn enter(
        &mut self,
        index: u16,
        start: u32,
        count: u32,
        offset: u32,
        owner: &Owner,
    ) -> Result<Placed, Error> {
        let Some(record) = self.records.get_mut(usize::from(index)) else {
            // Unreachable: there was a free record before the slots were taken.
            return Err(Error::TooManyLive { live: self.live() });
        };
        record.caller = Some(owner.caller);
        record.start = start as u16;
        record.count = count as u16;
        record.device = owner.device;
        record.state = State::Live;
        let handle = Handle {
            generation: record.generation,
            place: self.id << 16 | u32::from(index),
        };
        Ok(Placed { handle, offset })
    }

    /// Strikes a record that is in use from the books and frees its slots.
    #[inline(always)]
    fn free(&mut self, index: u16) {
        let Some(record) = self.records.get_mut(usize::from(index)) else {
            return;
        };
        record.generation = record.generation.wrapping_add(1);
        record.state = State::Free;
        let (start, count) = (u32::from(record.start), u32::from(record.count));
        let open = self.reserve.first_record;
        if u32::from(index) < open {
            record.next = self.free_record;
            self.free_record = index;
            self.slots.release(start, count);
        } else {
            let cell = u32::from(index) - open;
            self.reserve.free |= 0x8000_0000u32.checked_shr(cell).unwrap_or(0);
        }
    }
}
