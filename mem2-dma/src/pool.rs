//! The pool: a provider's memory under one table, shared by all its devices.

use core::panic::Location;
use core::ptr::NonNull;

use crate::constraints::{Extent, longest};
use crate::device::Device;
use crate::lock::Locked;
use crate::table::{Handle, LiveMapping, Owner, Placed, Reserve, State, Table};
use crate::wait::Line;
use crate::{BusAddr, Constraints, Error, Provider, Stats, Storage, Stores};

/// What changes, all of it behind one lock. Copies are never made under it.
pub(crate) struct Books<'m> {
    pub(crate) table: Table<'m>,
    pub(crate) line: Line<'m>,
    devices: u8,
    mappings: u64,
    bounced: u64,
    direct: u64,
    refused: u64,
}

/// A pool of bounce memory.
///
/// Shared by reference: mappings borrow it. `SLOT` is the unit of allocation in bytes, a power of two.
pub struct Pool<'m, const SLOT: usize = 512> {
    pub(crate) books: Locked<Books<'m>>,
    pub(crate) provider: &'m dyn Provider,
    memory: NonNull<u8>,
    pub(crate) stores: Stores,
    pub(crate) line: u32,
    /// The pool as one stretch on the bus, if it is one.
    single: Option<BusAddr>,
    base: BusAddr,
    size: u32,
}

// SAFETY: the pointer is the provider's, which may be used from anywhere; what changes is locked.
unsafe impl<const SLOT: usize> Sync for Pool<'_, SLOT> {}
// SAFETY: as above.
unsafe impl<const SLOT: usize> Send for Pool<'_, SLOT> {}

impl<'m, const SLOT: usize> Pool<'m, SLOT> {
    /// Makes a pool of a provider's memory: as many whole slots as memory and storage have room for.
    ///
    /// # Errors
    /// [`Error::NoRoom`] if that is none, [`Error::Misaligned`] if the memory or a slot does not start at a cache line.
    pub fn new<const GROUPS: usize, const LIVE: usize, const WAITERS: usize>(
        provider: &'m dyn Provider,
        storage: &'m mut Storage<GROUPS, LIVE, WAITERS>,
    ) -> Result<Self, Error> {
        Self::with_reserve(provider, storage, Reserve::default())
    }

    /// Makes a pool that keeps room for devices attached with [`Device::reserved`]: whatever bulk traffic does, they find a cell each.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_reserve<const GROUPS: usize, const LIVE: usize, const WAITERS: usize>(
        provider: &'m dyn Provider,
        storage: &'m mut Storage<GROUPS, LIVE, WAITERS>,
        reserve: Reserve,
    ) -> Result<Self, Error> {
        const { assert!(SLOT.is_power_of_two() && SLOT >= 32 && SLOT <= 1 << 16) };
        let memory = provider.memory();
        let line = provider.line();
        let Storage {
            words,
            longest: lengths,
            records,
            waiters,
        } = storage;
        let table = Table::new(
            words.as_flattened_mut(),
            lengths.as_flattened_mut(),
            records,
            memory.len(),
            SLOT,
            reserve,
        )?;
        let size = table.bytes();
        let first = provider.extent(0).ok_or(Error::NoRoom {
            memory: 0,
            slots: 0,
        })?;
        for address in [
            memory.cast::<u8>().addr().get(),
            first.bus.get() as usize,
            SLOT,
        ] {
            if !line.is_power_of_two() || address & (line as usize - 1) != 0 {
                return Err(Error::Misaligned {
                    value: address,
                    align: line as usize,
                });
            }
        }
        Ok(Self {
            books: Locked::new(Books {
                table,
                line: Line::new(waiters),
                devices: 0,
                mappings: 0,
                bounced: 0,
                direct: 0,
                refused: 0,
            }),
            provider,
            memory: memory.cast(),
            stores: provider.stores(),
            line,
            single: (first.len >= size).then_some(first.bus),
            base: first.bus,
            size,
        })
    }

    /// Attaches a device with its constraints.
    ///
    /// # Errors
    /// [`Error::BadConstraints`]; [`Error::Unreachable`] if the device reaches no byte of the pool; [`Error::TooMany`] after 255 devices.
    pub fn attach<'p>(&'p self, constraints: Constraints) -> Result<Device<'p, SLOT>, Error>
    where
        'm: 'p,
        'p: 'm,
    {
        constraints.check()?;
        let constraints = constraints.align(constraints.align.max(self.line));
        let open = self.books.with(|books| books.table.open_bytes());
        let max = longest(&constraints, open, |offset| self.provider.extent(offset));
        if max == 0 {
            return Err(Error::Unreachable { pool: self.base });
        }
        let id = self.books.with(|books| {
            books.devices = books.devices.checked_add(1)?;
            Some(books.devices)
        });
        let id = id.ok_or(Error::TooMany {
            max: usize::from(u8::MAX),
        })?;
        Ok(Device::new(self, constraints, max, id))
    }

    /// Returns the statistics.
    pub fn stats(&self) -> Stats {
        self.books.with(|books| Stats {
            base: self.base,
            size: self.size,
            used: books.table.used_bytes(),
            high_water: books.table.high_water_bytes(),
            mappings: books.mappings,
            bounced: books.bounced,
            direct: books.direct,
            refused: books.refused,
            live: books.table.live(),
            quarantined: books.table.quarantined(),
        })
    }

    /// Shows every live or quarantined mapping to `report`, with the place that made it: at shutdown, the leaks.
    pub fn for_each_live(&self, mut report: impl FnMut(LiveMapping)) {
        let records = self.books.with(|books| books.table.records());
        for index in 0..records {
            if let Some(mapping) = self.books.with(|books| books.table.mapping(index)) {
                report(mapping);
            }
        }
    }

    /// Returns whether every slot of the pool suits the device: then placement needs no look at addresses.
    pub(crate) fn is_plain(&self, constraints: &Constraints) -> bool {
        let Some(base) = self.single else {
            return false;
        };
        let last = base.get().saturating_add(self.size.saturating_sub(1));
        let boundary = constraints.boundary;
        (base.get() | SLOT as u32) & (constraints.align - 1) == 0
            && (boundary == 0 || (base.get() ^ last) & !(boundary - 1) == 0)
            && constraints.window.0 <= base.get()
            && last <= constraints.window.1
    }

    /// Takes room, or counts a refusal.
    pub(crate) fn take(&self, request: &Request) -> Result<Taken, Error> {
        let placed = self.books.with(|books| {
            let placed = books.place(request, self.provider);
            if placed.is_err() {
                books.refused += 1;
            }
            placed
        });
        placed.map(|placed| self.taken(placed))
    }

    /// Takes room for one who has other ways to go if there is none.
    pub(crate) fn try_take(&self, request: &Request) -> Result<Taken, Error> {
        let placed = self.books.with(|books| books.place(request, self.provider));
        placed.map(|placed| self.taken(placed))
    }

    pub(crate) fn taken(&self, placed: Placed) -> Taken {
        Taken {
            placed,
            bus: self.bus(placed.offset),
        }
    }

    /// Gives a mapping's room back.
    pub(crate) fn give_back(&self, handle: Handle) -> Result<(), Error> {
        let waiting = self.books.with(|books| {
            books.table.unmap_single(handle)?;
            Ok::<_, Error>(!books.line.is_empty())
        })?;
        if waiting {
            self.wake();
        }
        Ok(())
    }

    /// Tells those who wait, in order, that there may be room.
    pub(crate) fn wake(&self) {
        let mut after = 0;
        // Wakers are foreign code: they run outside the lock.
        while let Some((ticket, waker)) = self.books.with(|books| books.line.next_waker(after)) {
            waker.wake();
            after = ticket;
        }
    }

    pub(crate) fn check_handle(&self, handle: Handle) -> Result<(), Error> {
        Ok(self.books.with(|books| books.table.check_handle(handle))?)
    }

    pub(crate) fn set_state(&self, handle: Handle, state: State) -> Result<(), Error> {
        Ok(self
            .books
            .with(|books| books.table.set_state(handle, state))?)
    }

    /// Records that a buffer goes to the device with `direct` bytes.
    pub(crate) fn lend(&self, handle: Handle, direct: usize) -> Result<(), Error> {
        self.books.with(|books| {
            books.table.set_state(handle, State::Live)?;
            books.direct += direct as u64;
            Ok(())
        })
    }

    pub(crate) fn count(&self, bounced: usize) {
        self.books.with(|books| books.bounced += bounced as u64);
    }

    /// Returns what the bus calls the byte at `offset`.
    pub(crate) fn bus(&self, offset: u32) -> BusAddr {
        let bus = match self.single {
            Some(base) => base.checked_add(offset),
            None => self.provider.extent(offset).map(|Extent { bus, .. }| bus),
        };
        // Every offset that the table grants lies in the pool, so it has an address.
        bus.unwrap_or(self.base)
    }

    /// Returns the pool's byte at `offset`, which must lie in the pool.
    pub(crate) fn at(&self, offset: u32) -> NonNull<u8> {
        debug_assert!(offset < self.size);
        // SAFETY: offsets come from the table, which knows only slots inside the memory.
        unsafe { self.memory.add(offset as usize) }
    }

    /// Rounds a length up to whole cache lines.
    pub(crate) fn lines(&self, len: u32) -> u32 {
        (len + self.line - 1) & !(self.line - 1)
    }

    /// Writes cache lines of a mapping back. `offset` is at a line.
    pub(crate) fn clean(&self, offset: u32, len: u32) {
        // SAFETY: whole lines of a mapping: slots are whole lines, and `lines` rounds up within them.
        unsafe {
            self.provider
                .cache()
                .clean(self.at(offset), self.lines(len) as usize)
        }
    }

    /// Drops cache lines of a mapping.
    pub(crate) fn invalidate(&self, offset: u32, len: u32) {
        // SAFETY: as above; the mapping is the caller's alone.
        unsafe {
            self.provider
                .cache()
                .invalidate(self.at(offset), self.lines(len) as usize)
        }
    }

    /// Writes back and drops cache lines of a mapping.
    pub(crate) fn flush(&self, offset: u32, len: u32) {
        // SAFETY: as above.
        unsafe {
            self.provider
                .cache()
                .flush(self.at(offset), self.lines(len) as usize)
        }
    }

    #[track_caller]
    pub(crate) fn owner(device: u8, reserved: bool) -> Owner {
        Owner {
            device,
            caller: Location::caller(),
            reserved,
        }
    }
}

/// A request for room, with all that decides where.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) len: usize,
    pub(crate) constraints: Constraints,
    /// The longest mapping under these constraints.
    pub(crate) max: u32,
    /// Whether every slot suits the constraints.
    pub(crate) plain: bool,
    pub(crate) owner: Owner,
}

impl Books<'_> {
    /// Places a request.
    pub(crate) fn place(
        &mut self,
        request: &Request,
        provider: &dyn Provider,
    ) -> Result<Placed, Error> {
        let Request { len, max, .. } = *request;
        let len = match u32::try_from(len) {
            Ok(len) if len <= max => len,
            _ => {
                return Err(Error::TooLarge {
                    len,
                    max: max as usize,
                });
            }
        };
        let placed = if request.plain {
            self.table.map_single(len, &request.owner)
        } else {
            let extent = |offset| provider.extent(offset);
            self.table
                .map_single_constrained(len, &request.owner, &request.constraints, extent)
        }?;
        self.mappings += 1;
        Ok(placed)
    }
}

/// Room that was taken, and what the bus calls it.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) placed: Placed,
    pub(crate) bus: BusAddr,
}
