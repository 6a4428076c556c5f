//! A device's view of a pool: the pool and the device's constraints. Everything is mapped through it.

use core::future::poll_fn;
use core::pin::Pin;

use crate::pool::{Pool, Request, Taken};
use crate::table::Owner;
use crate::wait::Room;
use crate::{
    Bidirectional, Coherent, Constraints, DmaBuffer, Error, FromDevice, Layout, Mapping, Scatter,
    ToDevice, Way,
};

/// A device attached to a pool. Small and `Copy`: every part of a driver may hold one.
#[derive(Clone, Copy)]
pub struct Device<'p, const SLOT: usize = 512> {
    pub(crate) pool: &'p Pool<'p, SLOT>,
    pub(crate) constraints: Constraints,
    max: u32,
    id: u8,
    plain: bool,
    reserved: bool,
}

impl<'p, const SLOT: usize> Device<'p, SLOT> {
    pub(crate) fn new(
        pool: &'p Pool<'p, SLOT>,
        constraints: Constraints,
        max: u32,
        id: u8,
    ) -> Self {
        let plain = pool.is_plain(&constraints);
        Self {
            pool,
            constraints,
            max,
            id,
            plain,
            reserved: false,
        }
    }

    /// Returns the same device with a right to the pool's reserve: for control transfers and the like.
    pub fn reserved(mut self) -> Self {
        self.reserved = true;
        self
    }

    /// Returns the longest single mapping that the empty pool could give this device, in bytes.
    pub fn max_mapping_size(&self) -> usize {
        self.max as usize
    }

    /// Returns the pool.
    pub fn pool(&self) -> &'p Pool<'p, SLOT> {
        self.pool
    }

    /// Returns the number that [`LiveMapping::device`](crate::LiveMapping) has for this device.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Maps a copy of `data` for the device to read. Up to the end of its cache line the copy is followed by zeros.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooLarge`], [`Error::Exhausted`], [`Error::Fragmented`], [`Error::TooManyLive`].
    #[track_caller]
    pub fn map_to_device(&self, data: &[u8]) -> Result<Mapping<'p, ToDevice, SLOT>, Error> {
        self.map_copy(data, self.owner())
    }

    /// Maps `len` bytes for the device to write. What they hold until then is undefined; only what the device delivers is ever copied out.
    ///
    /// # Errors
    /// As [`Device::map_to_device`].
    #[track_caller]
    pub fn map_from_device(&self, len: usize) -> Result<Mapping<'p, FromDevice, SLOT>, Error> {
        self.map_empty(len, self.owner())
    }

    /// Maps `len` zero bytes for the device to write: for devices that may claim to have written what they have not.
    ///
    /// # Errors
    /// As [`Device::map_to_device`].
    #[track_caller]
    pub fn map_from_device_zeroed(
        &self,
        len: usize,
    ) -> Result<Mapping<'p, FromDevice, SLOT>, Error> {
        let taken = self.take(len, self.owner())?;
        let mapping = Mapping::new(self.pool, taken, len as u32);
        mapping.fill_zero();
        Ok(mapping)
    }

    /// Maps a copy of `data` for the device to read and to overwrite.
    ///
    /// # Errors
    /// As [`Device::map_to_device`].
    #[track_caller]
    pub fn map_bidirectional(
        &self,
        data: &[u8],
    ) -> Result<Mapping<'p, Bidirectional, SLOT>, Error> {
        self.map_copy(data, self.owner())
    }

    /// Does what [`Device::map_to_device`] does, but waits for room. Dropped, it leaves the line.
    ///
    /// Requests are served in order of arrival; a small one may pass a large one for which there is no room yet, a limited number of times.
    /// Requests that do not wait ignore the line.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooLarge`]; [`Error::TooMany`] if every place in the line is taken.
    #[track_caller]
    pub fn wait_to_device<'d>(
        &self,
        data: &'d [u8],
    ) -> impl Future<Output = Result<Mapping<'p, ToDevice, SLOT>, Error>> + use<'d, 'p, SLOT> {
        let (pool, mut room) = (self.pool, self.room(data.len(), self.owner()));
        // Not an `async` block: that one panics when it is polled after its end.
        poll_fn(move |context| {
            Pin::new(&mut room).poll(context).map_ok(|taken| {
                let mapping = Mapping::new(pool, taken, data.len() as u32);
                mapping.fill(data);
                mapping
            })
        })
    }

    /// Does what [`Device::map_from_device`] does, but waits for room, as [`Device::wait_to_device`].
    ///
    /// # Errors
    /// As [`Device::wait_to_device`].
    #[track_caller]
    pub fn wait_from_device(
        &self,
        len: usize,
    ) -> impl Future<Output = Result<Mapping<'p, FromDevice, SLOT>, Error>> + use<'p, SLOT> {
        let (pool, mut room) = (self.pool, self.room(len, self.owner()));
        poll_fn(move |context| {
            Pin::new(&mut room).poll(context).map_ok(|taken| {
                let mapping = Mapping::new(pool, taken, len as u32);
                mapping.hand_over_empty();
                mapping
            })
        })
    }

    /// Maps a copy of `data` for the device to read, in up to `N` segments.
    ///
    /// # Errors
    /// As [`Device::map_to_device`]; [`Error::TooMany`] if `N` segments do not suffice.
    #[track_caller]
    pub fn scatter_to_device<const N: usize>(
        &self,
        data: &[u8],
    ) -> Result<Scatter<'p, ToDevice, N, SLOT>, Error> {
        let scatter = Scatter::new(self, data.len(), self.owner())?;
        scatter.fill(data);
        Ok(scatter)
    }

    /// Maps `len` bytes for the device to write, in up to `N` segments.
    ///
    /// # Errors
    /// As [`Device::scatter_to_device`].
    #[track_caller]
    pub fn scatter_from_device<const N: usize>(
        &self,
        len: usize,
    ) -> Result<Scatter<'p, FromDevice, N, SLOT>, Error> {
        let scatter = Scatter::new(self, len, self.owner())?;
        scatter.hand_over_empty();
        Ok(scatter)
    }

    /// Allocates a buffer that goes to the device and back without a copy. It is zeroed.
    ///
    /// # Errors
    /// As [`Device::map_to_device`]; [`Error::WordsOnly`] if the CPU cannot store bytes in the pool's memory.
    #[track_caller]
    pub fn allocate(&self, len: usize) -> Result<DmaBuffer<'p, SLOT>, Error> {
        DmaBuffer::new(self, len, self.owner())
    }

    /// Allocates a zeroed `T` that CPU and device share, at a multiple of `align` bytes (a power of two; at least its own alignment and a
    /// cache line), in cache lines of its own.
    ///
    /// # Errors
    /// As [`Device::map_to_device`]; [`Error::BadConstraints`] if `align` is no power of two.
    #[track_caller]
    pub fn coherent<T: Layout>(&self, align: usize) -> Result<Coherent<'p, T, SLOT>, Error> {
        Coherent::new(self, align, self.owner())
    }

    /// Allocates `count` zeroed `T`s in a row that CPU and device share, the first at a multiple of `align` bytes.
    ///
    /// # Errors
    /// As [`Device::coherent`].
    #[track_caller]
    pub fn coherent_slice<T: Layout>(
        &self,
        count: usize,
        align: usize,
    ) -> Result<Coherent<'p, [T], SLOT>, Error> {
        Coherent::new_slice(self, count, align, self.owner())
    }

    /// Frees every quarantined mapping of this device, and every one that was forgotten. Returns how many there were.
    ///
    /// For a controller that was halted or reset. Values that still exist become stale: they can be dropped, but give [`Error::Stale`].
    ///
    /// # Safety
    /// As [`Quiesced::assert`](crate::Quiesced::assert), for every mapping and all coherent memory of this device; and while values of these kinds still exist, none of
    /// them is used again except to be dropped.
    pub unsafe fn reset(&self) -> usize {
        let records = self.pool.books.with(|books| books.table.records());
        (0..records)
            .filter(|&index| {
                self.pool
                    .books
                    .with(|books| books.table.reset_record(index, self.id))
            })
            .count()
    }

    fn room(&self, len: usize, owner: Owner) -> Room<'p, SLOT> {
        Room::new(self.pool, self.request(len, owner))
    }

    fn request(&self, len: usize, owner: Owner) -> Request {
        Request {
            len,
            constraints: self.constraints,
            max: self.max,
            plain: self.plain,
            owner,
        }
    }

    pub(crate) fn take(&self, len: usize, owner: Owner) -> Result<Taken, Error> {
        self.pool.take(&self.request(len, owner))
    }

    pub(crate) fn try_take(&self, len: usize, owner: Owner) -> Result<Taken, Error> {
        self.pool.try_take(&self.request(len, owner))
    }

    /// Takes room at a multiple of `align` bytes.
    pub(crate) fn take_aligned(
        &self,
        len: usize,
        align: usize,
        owner: Owner,
    ) -> Result<Taken, Error> {
        let align = u32::try_from(align).map_err(|_| Error::BadConstraints)?;
        let constraints = self.constraints.align(align.max(self.constraints.align));
        constraints.check()?;
        let plain = self.pool.is_plain(&constraints);
        self.pool.take(&Request {
            constraints,
            plain,
            ..self.request(len, owner)
        })
    }

    fn map_copy<D: Way>(&self, data: &[u8], owner: Owner) -> Result<Mapping<'p, D, SLOT>, Error> {
        let taken = self.take(data.len(), owner)?;
        let mapping = Mapping::new(self.pool, taken, data.len() as u32);
        mapping.fill(data);
        Ok(mapping)
    }

    fn map_empty(&self, len: usize, owner: Owner) -> Result<Mapping<'p, FromDevice, SLOT>, Error> {
        let mapping = Mapping::new(self.pool, self.take(len, owner)?, len as u32);
        mapping.hand_over_empty();
        Ok(mapping)
    }

    #[track_caller]
    pub(crate) fn owner(&self) -> Owner {
        Pool::<SLOT>::owner(self.id, self.reserved)
    }
}
