//! A bus with its own idea of where memory starts: bus address = CPU address + constant.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{CacheOps, Coherently, Provider, Translate};
use crate::{BusAddr, Error, Extent};

/// A provider for memory that the bus sees in one piece, at an address of its own.
///
/// ```
/// use mem2_dma::{BusAddr, Constraints, Error, Offset, Pool, Quiesced, Storage};
/// # #[repr(align(4096))] struct Memory([u8; 65536]);
/// # let mut memory = Box::new(Memory([0; 65536]));
/// let memory: &mut [u8] = &mut memory.0;
/// let provider = Offset::new(memory, BusAddr::new(0x8000_0000))?; // a PReP machine: PCI sees RAM at 2 GiB
/// let mut storage = Storage::<1, 16>::new();
/// let pool: Pool = Pool::new(&provider, &mut storage)?;
/// let device = pool.attach(Constraints::NONE.align(64).boundary(4096))?;
///
/// let mapping = device.map_from_device(512)?;
/// assert_eq!(mapping.bus(), BusAddr::new(0x8000_0000));
/// // ... the device writes 13 bytes and says so ...
/// # // SAFETY: there is no device.
/// let done = unsafe { Quiesced::assert() };
/// let mut answer = [0xFF; 512];
/// mapping.complete(&done, 13, &mut answer)?;
/// assert_eq!(answer[13..], [0xFF; 499]); // what the device did not deliver stays as it was
/// # Ok::<(), Error>(())
/// ```
pub struct Offset<'m, C: CacheOps = Coherently> {
    memory: NonNull<[u8]>,
    len: u32,
    bus: BusAddr,
    cache: C,
    exclusive: PhantomData<&'m mut [u8]>,
}

// SAFETY: the pointer stands for an exclusive borrow of bytes, which may be used from anywhere.
unsafe impl<C: CacheOps> Sync for Offset<'_, C> {}
// SAFETY: as above.
unsafe impl<C: CacheOps + Send> Send for Offset<'_, C> {}

impl<'m> Offset<'m> {
    /// Hands memory in that the bus sees from `bus` on, on a machine whose devices see the caches.
    ///
    /// # Errors
    /// [`Error::Misaligned`] if memory or bus address does not start at a cache line, [`Error::Unreachable`] if the memory runs past the end of the bus.
    pub fn new(memory: &'m mut [u8], bus: BusAddr) -> Result<Self, Error> {
        Self::with_cache(memory, bus, Coherently)
    }
}

impl<'m, C: CacheOps> Offset<'m, C> {
    /// Hands memory in, with the cache operations that keep devices and CPU in agreement about it.
    ///
    /// # Errors
    /// As [`Offset::new`].
    pub fn with_cache(memory: &'m mut [u8], bus: BusAddr, cache: C) -> Result<Self, Error> {
        let len = contiguous(bus, memory.len())?;
        Ok(Self {
            memory: NonNull::from(memory),
            len,
            bus,
            cache,
            exclusive: PhantomData,
        })
    }
}

/// Checks that `len` bytes from `bus` on lie on the bus.
pub(super) fn contiguous(bus: BusAddr, len: usize) -> Result<u32, Error> {
    let unreachable = Error::Unreachable { pool: bus };
    let len = u32::try_from(len).map_err(|_| unreachable)?;
    bus.checked_add(len.saturating_sub(1)).ok_or(unreachable)?;
    Ok(len)
}

// SAFETY: one contiguous piece, as the constructor's caller says.
unsafe impl<C: CacheOps> Translate for Offset<'_, C> {
    fn extent(&self, offset: u32) -> Option<Extent> {
        let len = self.len.checked_sub(offset).filter(|&len| len != 0)?;
        Some(Extent {
            bus: self.bus.checked_add(offset)?,
            len,
        })
    }

    fn offset_of(&self, bus: BusAddr) -> Option<u32> {
        bus.get()
            .checked_sub(self.bus.get())
            .filter(|&offset| offset < self.len)
    }
}

// SAFETY: the memory was handed in by exclusive borrow for as long as the provider lives.
unsafe impl<C: CacheOps> Provider for Offset<'_, C> {
    fn memory(&self) -> NonNull<[u8]> {
        self.memory
    }

    fn cache(&self) -> &dyn CacheOps {
        &self.cache
    }
}
