//! Cache operations that leave one out: what must then go wrong shows that the emulator models the cache, and that the
//! operation is needed.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use hollywood_pac::cache::Broadway;
use mem2_dma::{CacheOps, Mem2, Pool, Storage};
use static_cell::StaticCell;
use wiistick::wii::dma;

/// A piece of cache maintenance, as the pool's mappings do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Maintenance {
    /// Nothing: none is left out.
    None,
    /// The clean of what IOS is to read.
    Clean,
    /// The flush of what IOS is to read and to overwrite: request blocks.
    Flush,
    /// The invalidate of memory that IOS is to write, before it gets it.
    InvalidateBefore,
    /// The invalidate of memory that IOS has written, after it has given it back.
    InvalidateAfter,
}

/// What is left out.
static LEFT_OUT: AtomicU8 = AtomicU8::new(Maintenance::None as u8);
/// Slots of the pool that a device has, a bit each.
static WITH_DEVICE: [AtomicU32; SLOTS / 32] = [const { AtomicU32::new(0) }; SLOTS / 32];
const SLOTS: usize = dma::POOL_BYTES as usize / 512;

/// Leaves out `maintenance` from here on.
pub fn leave_out(maintenance: Maintenance) {
    LEFT_OUT.store(maintenance as u8, Relaxed);
}

fn is_left_out(maintenance: Maintenance) -> bool {
    LEFT_OUT.load(Relaxed) == maintenance as u8
}

struct Careless {
    /// First byte of the pool.
    start: usize,
}

impl Careless {
    /// Notes that a device has, or no longer has, the slot at `start`; says whether it had it.
    fn set_with_device(&self, start: NonNull<u8>, now: bool) -> bool {
        let slot = (start.addr().get() - self.start) / 512 % SLOTS;
        let (word, bit) = (&WITH_DEVICE[slot / 32], 1 << (slot % 32));
        let before = if now {
            word.fetch_or(bit, Relaxed)
        } else {
            word.fetch_and(!bit, Relaxed)
        };
        before & bit != 0
    }
}

// SAFETY: it is not safe, on purpose: the tests show what comes of it. Data is wrong then, but is data of the pool all the same.
unsafe impl CacheOps for Careless {
    unsafe fn clean(&self, start: NonNull<u8>, len: usize) {
        self.set_with_device(start, false);
        if !is_left_out(Maintenance::Clean) {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::clean(&Broadway, start, len) }
        }
    }

    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize) {
        let after = self.set_with_device(start, true);
        let which = if after {
            self.set_with_device(start, false);
            Maintenance::InvalidateAfter
        } else {
            Maintenance::InvalidateBefore
        };
        if !is_left_out(which) {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::invalidate(&Broadway, start, len) }
        }
    }

    unsafe fn flush(&self, start: NonNull<u8>, len: usize) {
        self.set_with_device(start, true);
        if !is_left_out(Maintenance::Flush) {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::flush(&Broadway, start, len) }
        }
    }
}

/// A pool in the place of the program's, with these cache operations. Once in a program, which does not use its own then.
pub fn pool() -> Result<&'static Pool<'static>, mem2_dma::Error> {
    static PROVIDER: StaticCell<Mem2<Careless>> = StaticCell::new();
    static STORAGE: StaticCell<dma::PoolStorage> = StaticCell::new();
    static POOL: StaticCell<Pool<'static>> = StaticCell::new();
    let range = dma::pool_range()?;
    let bytes = range.bytes() as usize;
    let no_room = mem2_dma::Error::NoRoom {
        memory: bytes,
        slots: 0,
    };
    let cached = NonNull::new(range.start().as_ptr()).ok_or(no_room)?;
    let uncached = NonNull::new(range.start().to_uncached().as_ptr()).ok_or(no_room)?;
    let physical: hollywood_pac::addr::BusAddr = range.to_phys().start.to_bus();
    let careless = Careless {
        start: cached.addr().get(),
    };
    // SAFETY: the range is the program's own under the standard map, and nothing else uses it.
    let provider = unsafe { Mem2::cached(cached, uncached, physical.into(), bytes, careless) }?;
    let storage = STORAGE.init_with(Storage::new);
    Ok(POOL.init(Pool::new(PROVIDER.init(provider), storage)?))
}
