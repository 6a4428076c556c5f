//! A guest of a hypervisor (Xen PV): its page frames are not the machine's, so memory contiguous to the CPU is scattered on the bus.
//!
//! Pool memory is exchanged, segment by segment, for frames that are contiguous on the machine and low enough for the device.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{CacheOps, Coherently, Provider, Translate};
use crate::{BusAddr, Error, Extent};

/// Bytes per page, of guest and machine alike.
pub const PAGE_BYTES: u32 = 4096;
const PAGE_BITS: u32 = PAGE_BYTES.trailing_zeros();

/// What a guest asks of its hypervisor. Pages are counted from the start of the pool's memory, frames are the machine's (address / 4096).
///
/// # Implementation safety
/// After an exchange the guest's pages lie, in order, in the machine frames named, with the same contents or zeros, and stay there.
///
/// # Safety
/// See above: devices are given addresses in these frames.
pub unsafe trait Hypervisor: Sync {
    /// Exchanges the frames of `count` pages (a power of two) from `page` on for as many contiguous ones, aligned to `count`, all below
    /// 2^`address_bits` bytes. Returns the first, or `None` if the machine has none; nothing has changed then. (XENMEM_exchange.)
    fn exchange(&self, page: u32, count: u32, address_bits: u32) -> Option<u32>;

    /// Returns the page that lies in machine frame `frame` as far as this guest knows, or `None`: another guest's. (The machine-to-physical table;
    /// it may name a page wrongly for a foreign frame, so the answer is checked.)
    fn page_of(&self, frame: u32) -> Option<u32>;
}

/// A provider for guests whose bus addresses are a hypervisor's to give.
///
/// ```
/// use mem2_dma::{Constraints, Error, Hypervisor, Machine, Pool, Storage};
///
/// /// A hypervisor with contiguous memory above 16 MiB only.
/// struct Example;
/// // SAFETY: no device looks.
/// unsafe impl Hypervisor for Example {
///     fn exchange(&self, page: u32, count: u32, address_bits: u32) -> Option<u32> {
///         let frame = 0x2000 + 2 * page; // a gap after each segment
///         ((frame + count) << 12 <= 1u32.checked_shl(address_bits).unwrap_or(u32::MAX)).then_some(frame)
///     }
///     fn page_of(&self, frame: u32) -> Option<u32> {
///         frame.checked_sub(0x2000)
///     }
/// }
///
/// # #[repr(align(4096))] struct Memory([u8; 65536]);
/// # let mut memory = Box::new(Memory([0; 65536]));
/// let memory: &mut [u8] = &mut memory.0; // aligned to pages
/// let mut frames = [0; 16]; // one a page
/// let provider = Machine::new(memory, &mut frames, &Example, 8, 32)?; // segments of 8 pages, 32-bit devices
/// let mut storage = Storage::<1, 16>::new();
/// let pool: Pool = Pool::new(&provider, &mut storage)?;
/// let device = pool.attach(Constraints::NONE)?;
/// assert_eq!(device.max_mapping_size(), 8 * 4096); // contiguous on the machine within a segment only
/// let first = device.map_from_device(8 * 4096)?;
/// let second = device.map_from_device(512)?;
/// assert_eq!((first.bus().get(), second.bus().get()), (0x200_0000, 0x201_0000));
/// # Ok::<(), Error>(())
/// ```
pub struct Machine<'m, H: Hypervisor, C: CacheOps = Coherently> {
    memory: NonNull<[u8]>,
    /// The machine frame of every page.
    frames: &'m [u32],
    hypervisor: &'m H,
    cache: C,
    exclusive: PhantomData<&'m mut [u8]>,
}

// SAFETY: the pointer stands for an exclusive borrow of bytes, which may be used from anywhere.
unsafe impl<H: Hypervisor, C: CacheOps> Sync for Machine<'_, H, C> {}

impl<'m, H: Hypervisor> Machine<'m, H> {
    /// Hands memory in and exchanges it in segments of `segment` pages (a power of two) for frames below 2^`max_bits` bytes (32 at most).
    ///
    /// Every segment is first asked for as low as it could lie, then with one address bit more at a time. If the machine has no such extent, half
    /// of it is asked for, down to a page. If it has not even that, the pool ends there.
    ///
    /// # Errors
    /// [`Error::NotExchanged`] if not one page could be had; [`Error::Misaligned`] if the memory does not start at a page or `segment` is no power
    /// of two; [`Error::NoRoom`] if `frames` has no place for a page.
    pub fn new(
        memory: &'m mut [u8],
        frames: &'m mut [u32],
        hypervisor: &'m H,
        segment: u32,
        max_bits: u32,
    ) -> Result<Self, Error> {
        Self::with_cache(memory, frames, hypervisor, segment, max_bits, Coherently)
    }
}

impl<'m, H: Hypervisor, C: CacheOps> Machine<'m, H, C> {
    /// As [`Machine::new`], with the cache operations that keep devices and CPU in agreement about the memory.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn with_cache(
        memory: &'m mut [u8],
        frames: &'m mut [u32],
        hypervisor: &'m H,
        segment: u32,
        max_bits: u32,
        cache: C,
    ) -> Result<Self, Error> {
        let start = memory.as_ptr().addr();
        if start & (PAGE_BYTES as usize - 1) != 0 {
            return Err(Error::Misaligned {
                value: start,
                align: PAGE_BYTES as usize,
            });
        }
        if !segment.is_power_of_two() {
            return Err(Error::Misaligned {
                value: segment as usize,
                align: 2,
            });
        }
        let pages = (memory.len() / PAGE_BYTES as usize).min(frames.len());
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let no_room = Error::NoRoom {
            memory: memory.len(),
            slots: 0,
        };
        if pages == 0 {
            return Err(no_room);
        }
        let max_bits = max_bits.min(u32::BITS);
        let mut done = 0;
        let mut count = segment;
        while done < pages && count != 0 {
            // An extent is as long as it is aligned: a shorter one may have left us inside a segment.
            while count > pages - done || done & (count - 1) != 0 {
                count /= 2;
            }
            match exchange(hypervisor, done, count, max_bits) {
                Some(first) => {
                    let places = frames.iter_mut().skip(done as usize).take(count as usize);
                    for (place, frame) in places.zip(first..) {
                        *place = frame;
                    }
                    done += count;
                    count = segment;
                }
                None => count /= 2,
            }
        }
        if done == 0 {
            return Err(Error::NotExchanged {
                address_bits: max_bits,
            });
        }
        let frames: &'m [u32] = frames;
        let frames = frames.get(..done as usize).ok_or(no_room)?;
        let len = done as usize * PAGE_BYTES as usize;
        let memory = memory.get_mut(..len).ok_or(no_room)?;
        Ok(Self {
            memory: NonNull::from(memory),
            frames,
            hypervisor,
            cache,
            exclusive: PhantomData,
        })
    }
}

/// Asks for one extent, with more and more address bits.
fn exchange(hypervisor: &impl Hypervisor, page: u32, count: u32, max_bits: u32) -> Option<u32> {
    let least = PAGE_BITS + count.trailing_zeros();
    (least..=max_bits).find_map(|bits| {
        let first = hypervisor.exchange(page, count, bits)?;
        // Trust, but verify: an address past the promised bits would reach somebody else's memory.
        let end = u64::from(first) + u64::from(count);
        (end << PAGE_BITS <= 1 << bits).then_some(first)
    })
}

// SAFETY: the frames are what the hypervisor gave for these pages.
unsafe impl<H: Hypervisor, C: CacheOps> Translate for Machine<'_, H, C> {
    fn extent(&self, offset: u32) -> Option<Extent> {
        let mut frames = self.frames.iter().skip((offset / PAGE_BYTES) as usize);
        let first = *frames.next()?;
        let more = frames
            .zip(first + 1..)
            .take_while(|(frame, next)| **frame == *next)
            .count();
        let within = offset % PAGE_BYTES;
        Some(Extent {
            bus: BusAddr::new(first << PAGE_BITS | within),
            len: (more as u32 + 1) * PAGE_BYTES - within,
        })
    }

    fn offset_of(&self, bus: BusAddr) -> Option<u32> {
        let frame = bus.get() >> PAGE_BITS;
        let page = self.hypervisor.page_of(frame)?;
        // The page must say that it lies in this frame: a foreign frame may alias one of ours.
        let ours = *self.frames.get(page as usize)? == frame;
        ours.then_some(page * PAGE_BYTES + bus.get() % PAGE_BYTES)
    }
}

// SAFETY: the memory was handed in by exclusive borrow for as long as the provider lives.
unsafe impl<H: Hypervisor, C: CacheOps> Provider for Machine<'_, H, C> {
    fn memory(&self) -> NonNull<[u8]> {
        self.memory
    }

    fn cache(&self) -> &dyn CacheOps {
        &self.cache
    }
}
