//! A pool under a hostile cache, with one piece of maintenance left out on demand: what must then go wrong shows that the
//! emulator models the cache, and that the piece is needed.
//!
//! The cache does what a cache may do at any time, always: memory that IOS is to write comes with modified lines, as from an
//! owner before, and lines are loaded again right after they were handed over, as by speculation. A driver that does its
//! maintenance notices nothing of that.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use hollywood_pac::cache::{Broadway, LINE_BYTES};
use mem2_dma::{CacheOps, Mem2, Pool, Storage};
use static_cell::StaticCell;
use wiistick::wii::dma;

/// A piece of cache maintenance, as mappings of the pool need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Maintenance {
    /// The clean of what IOS is to read: paths, messages, data.
    Clean,
    /// The flush of what IOS is to read and to overwrite: request blocks, and zeroed room.
    Flush,
    /// The invalidate of room for data, before IOS gets it.
    InvalidateBefore,
    /// The invalidate of what was flushed, after IOS has given it back.
    InvalidateReply,
    /// The invalidate of room for data, after IOS has given it back.
    InvalidateData,
}

const NONE: u8 = u8::MAX;

impl Maintenance {
    /// The names that the argument `leave-out` uses.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "clean" => Self::Clean,
            "flush" => Self::Flush,
            "invalidate-before" => Self::InvalidateBefore,
            "invalidate-reply" => Self::InvalidateReply,
            "invalidate-data" => Self::InvalidateData,
            _ => return None,
        })
    }
}

/// What is left out.
static LEFT_OUT: AtomicU8 = AtomicU8::new(NONE);

const SLOTS: usize = dma::POOL_BYTES as usize / 512;
/// What was done last to each slot of the pool.
static DONE: [AtomicU8; SLOTS] = [const { AtomicU8::new(NONE) }; SLOTS];

/// Leaves out `maintenance`, or nothing, from here on.
pub fn leave_out(maintenance: Option<Maintenance>) {
    LEFT_OUT.store(maintenance.map_or(NONE, |left_out| left_out as u8), Relaxed);
}

struct Careless {
    /// First byte of the pool.
    start: usize,
}

impl Careless {
    /// Does `maintenance` by `act`, unless it is left out, and notes it.
    fn act(&self, maintenance: Maintenance, start: NonNull<u8>, act: impl FnOnce()) {
        self.done(start).store(maintenance as u8, Relaxed);
        if LEFT_OUT.load(Relaxed) != maintenance as u8 {
            act();
        }
    }

    fn done(&self, start: NonNull<u8>) -> &'static AtomicU8 {
        &DONE[(start.addr().get() - self.start) / 512 % SLOTS]
    }
}

/// Modifies every line.
///
/// # Safety
/// As [`CacheOps::invalidate`].
unsafe fn soil(start: NonNull<u8>, len: usize) {
    for offset in (0..len).step_by(LINE_BYTES) {
        // SAFETY: within the range, which is the caller's alone.
        unsafe { start.add(offset).write_volatile(0x5A) };
    }
}

/// Loads every line.
///
/// # Safety
/// As [`CacheOps::clean`].
unsafe fn load(start: NonNull<u8>, len: usize) {
    for offset in (0..len).step_by(LINE_BYTES) {
        // SAFETY: within the range, which is mapped. Volatile: a device may write it.
        let _ = unsafe { start.add(offset).read_volatile() };
    }
}

// SAFETY: it is not safe, on purpose: the tests show what comes of it. Data is wrong then, but is data of the pool all the same.
unsafe impl CacheOps for Careless {
    unsafe fn clean(&self, start: NonNull<u8>, len: usize) {
        self.act(Maintenance::Clean, start, || {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::clean(&Broadway, start, len) }
        });
    }

    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize) {
        let which = match self.done(start).load(Relaxed) {
            flushed if flushed == Maintenance::Flush as u8 => Maintenance::InvalidateReply,
            handed_over if handed_over == Maintenance::InvalidateBefore as u8 => {
                Maintenance::InvalidateData
            }
            _ => Maintenance::InvalidateBefore,
        };
        if which == Maintenance::InvalidateBefore {
            // SAFETY: the caller's promise.
            unsafe { soil(start, len) };
        }
        self.act(which, start, || {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::invalidate(&Broadway, start, len) }
        });
        if which == Maintenance::InvalidateBefore {
            // SAFETY: the caller's promise.
            unsafe { load(start, len) };
        }
    }

    unsafe fn flush(&self, start: NonNull<u8>, len: usize) {
        self.act(Maintenance::Flush, start, || {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::flush(&Broadway, start, len) }
        });
        // SAFETY: the caller's promise.
        unsafe { load(start, len) };
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
