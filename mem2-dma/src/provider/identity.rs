//! Bare metal: the bus uses the CPU's addresses.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{CacheOps, Coherently, Provider, Translate};
use crate::provider::offset::Offset;
use crate::{BusAddr, Error, Extent};

/// A provider for machines on which a pointer is a bus address.
///
/// ```
/// use mem2_dma::{Constraints, Error, Identity, Pool, Storage};
/// # #[repr(align(4096))] struct Memory([u8; 65536]);
/// # let mut memory = Box::new(Memory([0; 65536]));
/// let memory: &mut [u8] = &mut memory.0; // usually a static, aligned to cache lines
/// match Identity::new(memory) {
///     Ok(provider) => {
///         let mut storage = Storage::<1, 16>::new();
///         let pool: Pool = Pool::new(&provider, &mut storage)?;
///         let device = pool.attach(Constraints::NONE)?;
///         let mapping = device.map_to_device(b"hello")?;
///         assert!(mapping.bus().is_aligned(32));
///     }
///     // On a 64-bit host memory may lie where 32-bit devices do not reach.
///     Err(error) => assert!(cfg!(target_pointer_width = "64"), "{error}"),
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Identity<'m, C: CacheOps = Coherently>(Offset<'m, C>, PhantomData<&'m mut [u8]>);

impl<'m> Identity<'m> {
    /// Hands memory in, on a machine whose devices see the caches.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the memory does not lie wholly below 4 GiB, [`Error::Misaligned`] if it does not start at a cache line.
    pub fn new(memory: &'m mut [u8]) -> Result<Self, Error> {
        Self::with_cache(memory, Coherently)
    }
}

impl<'m, C: CacheOps> Identity<'m, C> {
    /// Hands memory in, with the cache operations that keep devices and CPU in agreement about it.
    ///
    /// # Errors
    /// As [`Identity::new`].
    pub fn with_cache(memory: &'m mut [u8], cache: C) -> Result<Self, Error> {
        let unreachable = Error::Unreachable {
            pool: BusAddr::new(memory.as_ptr().addr() as u32),
        };
        let start = u32::try_from(memory.as_ptr().addr()).map_err(|_| unreachable)?;
        Ok(Self(
            Offset::with_cache(memory, BusAddr::new(start), cache)?,
            PhantomData,
        ))
    }
}

// SAFETY: bus addresses are the CPU's, as the type says.
unsafe impl<C: CacheOps> Translate for Identity<'_, C> {
    fn extent(&self, offset: u32) -> Option<Extent> {
        self.0.extent(offset)
    }

    fn offset_of(&self, bus: BusAddr) -> Option<u32> {
        self.0.offset_of(bus)
    }
}

// SAFETY: as of `Offset`.
unsafe impl<C: CacheOps> Provider for Identity<'_, C> {
    fn memory(&self) -> NonNull<[u8]> {
        self.0.memory()
    }

    fn cache(&self) -> &dyn CacheOps {
        self.0.cache()
    }
}
