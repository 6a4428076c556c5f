//! The bookkeeping core: which slots belong to which live mapping. No `unsafe`, no I/O, no translation.
//!
//! The heir of `swiotlb_tbl_map_single` and `swiotlb_tbl_unmap_single`: the pool is a number of slots, a mapping a byte range in it. What the bytes
//! are and what a device calls them is somebody else's business ([`Provider`](crate::Provider)).

use core::num::NonZeroU16;
use core::ops::Range;
use core::panic::Location;
use core::sync::atomic::{AtomicU16, Ordering};

use crate::Error;
use crate::constraints::{Constraints, Extent, place};
use crate::slots::{Group, Slots};

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
    record: u16,
    table: NonZeroU16,
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
    free_record: u16,
    /// Free records that anybody may use: besides them there is one for every free cell of the reserve.
    open_records: u32,
    quarantined: u16,
    id: NonZeroU16,
    high_water: u32,
    reserve: ReserveCells,
}

/// The reserve: one bit a cell, cell 0 in the most significant bit.
#[derive(Clone, Copy)]
struct ReserveCells {
    free: u32,
    cells: u32,
    first_slot: u32,
    cell_slots: u32,
}

impl<'m> Table<'m> {
    /// Keeps books on `bytes` bytes of memory in slots of `slot` bytes: as many whole ones as `groups` has room for.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if not one slot results or the reserve leaves none; [`Error::Misaligned`] if `slot` is no power of two up to 64 KiB.
    pub fn new(
        groups: &'m mut [Group],
        records: &'m mut [Record],
        bytes: usize,
        slot: usize,
        reserve: Reserve,
    ) -> Result<Self, Error> {
        if !slot.is_power_of_two() || slot > 1 << 16 {
            return Err(Error::Misaligned {
                value: slot,
                align: 1 << 16,
            });
        }
        let shift = slot.trailing_zeros();
        static TABLES: AtomicU16 = AtomicU16::new(0);
        let room = groups
            .len()
            .saturating_mul(crate::slots::GROUP_SLOTS as usize);
        // Slot numbers are 16 bits wide in the records.
        let total = (bytes >> shift).min(room).min(usize::from(u16::MAX)) as u32;
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
        let last = records_len.saturating_sub(1);
        for (index, record) in records.iter_mut().enumerate() {
            *record = Record::FREE;
            record.next = if index == last { END } else { index as u16 + 1 };
        }
        let id = TABLES.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Ok(Self {
            slots: Slots::new(groups, total - kept),
            shift,
            free_record: 0,
            open_records: records.len() as u32 - cells,
            records,
            quarantined: 0,
            id: NonZeroU16::new(id).unwrap_or(NonZeroU16::MIN),
            high_water: 0,
            reserve: ReserveCells {
                free: if cells == 0 {
                    0
                } else {
                    u32::MAX << (32 - cells)
                },
                cells,
                first_slot: total - kept,
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
    pub fn map_single(&mut self, len: u32, owner: Owner) -> Result<Placed, Error> {
        let count = self.check(len)?;
        if self.open_records != 0 {
            match self.slots.find(count) {
                Ok(start) => {
                    self.slots.take(start, count);
                    self.open_records -= 1;
                    return self.enter(start, count, start << self.shift, owner);
                }
                Err(_) if owner.reserved => {}
                Err(longest) => return Err(self.refusal(len, longest)),
            }
        }
        self.map_reserve(len, owner, |run| Some(run.start))
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
        owner: Owner,
        constraints: &Constraints,
        extent: impl Fn(u32) -> Option<Extent>,
    ) -> Result<Placed, Error> {
        let count = self.check(len)?;
        let fit = |run: Range<u32>| place(constraints, run, len, &extent);
        if self.open_records != 0 {
            let found = self.slots.find_fit(count, |start, run| {
                let from = start << self.shift;
                fit(from..from + (run << self.shift))
            });
            match found {
                Ok(offset) => {
                    let start = offset >> self.shift;
                    let end = ((offset + len - 1) >> self.shift) + 1;
                    self.slots.take(start, end - start);
                    self.open_records -= 1;
                    return self.enter(start, end - start, offset, owner);
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
    /// [`Error::Stale`] for a handle used before, [`Error::Foreign`] for one of another table.
    pub fn unmap_single(&mut self, handle: Handle) -> Result<(), Error> {
        self.record(handle)?;
        self.free(handle.record);
        Ok(())
    }

    /// Checks that a handle is live.
    ///
    /// # Errors
    /// As [`Table::unmap_single`].
    pub fn check_handle(&self, handle: Handle) -> Result<(), Error> {
        self.record(handle).map(|_| ())
    }

    /// Counts mappings that are live, owned by the CPU or quarantined.
    pub fn live(&self) -> usize {
        self.records.len() - (self.open_records + self.reserve.free.count_ones()) as usize
    }

    /// Counts mappings that are quarantined.
    pub fn quarantined(&self) -> usize {
        usize::from(self.quarantined)
    }

    /// Returns the bytes in use, in whole slots.
    pub fn used_bytes(&self) -> u32 {
        let cells = self.reserve.cells - self.reserve.free.count_ones();
        (self.slots.total() - self.slots.free() + cells * self.reserve.cell_slots) << self.shift
    }

    /// Returns the most bytes that were ever in use outside the reserve.
    pub fn high_water_bytes(&self) -> u32 {
        self.high_water << self.shift
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
    pub(crate) fn set_state(&mut self, handle: Handle, state: State) -> Result<(), Error> {
        self.record(handle)?;
        if let Some(record) = self.records.get_mut(usize::from(handle.record)) {
            record.state = state;
        }
        Ok(())
    }

    /// Quarantines a mapping and puts it before `next` in a chain. Returns the chain's new head.
    pub(crate) fn quarantine(&mut self, handle: Handle, next: u16) -> Result<u16, Error> {
        self.set_state(handle, State::Quarantined)?;
        self.quarantined += 1;
        if let Some(record) = self.records.get_mut(usize::from(handle.record)) {
            record.next = next;
            // The handle dies here: what is quarantined can be freed as a member of its chain only.
            record.generation = record.generation.wrapping_add(1);
        }
        Ok(handle.record)
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

    fn check(&self, len: u32) -> Result<u32, Error> {
        let max = self.open_bytes();
        if len == 0 {
            Err(Error::Empty)
        } else if len > max {
            Err(Error::TooLarge {
                len: len as usize,
                max: max as usize,
            })
        } else {
            Ok(((len - 1) >> self.shift) + 1)
        }
    }

    fn record(&self, handle: Handle) -> Result<&Record, Error> {
        if handle.table != self.id {
            return Err(Error::Foreign);
        }
        match self.records.get(usize::from(handle.record)) {
            Some(record) if record.generation == handle.generation => Ok(record),
            _ => Err(Error::Stale),
        }
    }

    #[cold]
    fn refusal(&self, len: u32, longest: u32) -> Error {
        let free = self.slots.free() << self.shift;
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
        owner: Owner,
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
                return self.enter(start, cell_slots, offset, owner);
            }
            free &= !bit;
        }
        let longest = self
            .slots
            .find_fit(u32::MAX, |_, _| None::<()>)
            .err()
            .unwrap_or(0);
        Err(self.refusal(len, longest))
    }

    /// Writes a mapping into the books.
    fn enter(
        &mut self,
        start: u32,
        count: u32,
        offset: u32,
        owner: Owner,
    ) -> Result<Placed, Error> {
        let index = self.free_record;
        let Some(record) = self.records.get_mut(usize::from(index)) else {
            // Unreachable: free records were counted before the slots were taken.
            return Err(Error::TooManyLive { live: self.live() });
        };
        self.free_record = record.next;
        record.caller = Some(owner.caller);
        record.start = start as u16;
        record.count = count as u16;
        record.device = owner.device;
        record.state = State::Live;
        let handle = Handle {
            generation: record.generation,
            record: index,
            table: self.id,
        };
        self.high_water = self.high_water.max(self.slots.total() - self.slots.free());
        Ok(Placed { handle, offset })
    }

    /// Strikes a record that is in use from the books and frees its slots.
    fn free(&mut self, index: u16) {
        let Some(record) = self.records.get_mut(usize::from(index)) else {
            return;
        };
        record.generation = record.generation.wrapping_add(1);
        record.state = State::Free;
        record.next = self.free_record;
        let (start, count) = (u32::from(record.start), u32::from(record.count));
        self.free_record = index;
        if start < self.reserve.first_slot {
            self.open_records += 1;
            self.slots.release(start, count);
        } else {
            let cell = (start - self.reserve.first_slot) / self.reserve.cell_slots.max(1);
            self.reserve.free |= 1u32.checked_shl(31 - cell.min(31)).unwrap_or(0);
        }
    }
}
