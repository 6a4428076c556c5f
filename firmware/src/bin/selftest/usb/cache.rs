//! Every kind of transfer once, with the cache operations of one step left out: what the harness's model of a cache must notice.
//!
//! The argument `omit=STEP` names the step; without it all are there. The caches of the emulator are perfect, so the data are
//! right either way.

use super::storage::{BLOCK, Data, Stick};
use super::{Controller, with_stick};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use ehci::memory::{Buffer, Dma};
use hollywood_pac::cache::Broadway;
use mem2_dma::{BusAddr, CacheOps, DmaBuffer, Extent, Mem2, Pool, Provider, Storage, Translate};
use static_cell::StaticCell;
use wiistick::arguments::Arguments;
use wiistick::wii::dma;

/// Bytes of a transfer, less than half of the pool.
const BYTES: usize = 64 * 1024;

/// While it is set, cache operations do nothing.
static LEFT_OUT: AtomicBool = AtomicBool::new(false);

/// The processor's cache operations, or none.
struct Forgetful;

// SAFETY: those of the processor. Left out, they break the promise, on purpose: only an emulator runs this, whose memory is
// coherent.
unsafe impl CacheOps for Forgetful {
    unsafe fn clean(&self, start: NonNull<u8>, len: usize) {
        if !LEFT_OUT.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::clean(&Broadway, start, len) }
        }
    }

    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize) {
        if !LEFT_OUT.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::invalidate(&Broadway, start, len) }
        }
    }

    unsafe fn flush(&self, start: NonNull<u8>, len: usize) {
        if !LEFT_OUT.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { CacheOps::flush(&Broadway, start, len) }
        }
    }
}

/// MEM2, whose view past the caches is really the cached one, if `cached_descriptors` is set.
struct Careless {
    memory: Mem2<Forgetful>,
    cached_descriptors: bool,
}

// SAFETY: that of MEM2.
unsafe impl Translate for Careless {
    fn extent(&self, offset: u32) -> Option<Extent> {
        self.memory.extent(offset)
    }

    fn offset_of(&self, bus: BusAddr) -> Option<u32> {
        self.memory.offset_of(bus)
    }
}

// SAFETY: that of MEM2, but for what is wrong on purpose.
unsafe impl Provider for Careless {
    fn memory(&self) -> NonNull<[u8]> {
        self.memory.memory()
    }

    fn coherent(&self) -> Option<NonNull<u8>> {
        if self.cached_descriptors {
            Some(self.memory.memory().cast())
        } else {
            self.memory.coherent()
        }
    }

    fn cache(&self) -> &dyn CacheOps {
        self.memory.cache()
    }
}

/// The steps whose operations can be left out.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Omitted(&'static str);

impl Omitted {
    /// Does `work`, without cache operations if this is the step.
    fn at<T>(self, step: &str, work: impl FnOnce() -> T) -> T {
        LEFT_OUT.store(self.0 == step, Ordering::Relaxed);
        let result = work();
        LEFT_OUT.store(false, Ordering::Relaxed);
        result
    }
}

pub fn each_step_once(arguments: Arguments<'static>) -> Result<(), &'static str> {
    static PROVIDER: StaticCell<Careless> = StaticCell::new();
    static STORAGE: StaticCell<dma::PoolStorage> = StaticCell::new();
    static POOL: StaticCell<Pool<'static>> = StaticCell::new();
    let omitted = Omitted(arguments.value("omit").unwrap_or("nothing"));
    let range = dma::pool_range().map_err(|_| "there is no room in MEM2")?;
    let start = range.start();
    let views = NonNull::new(start.as_ptr()).zip(NonNull::new(start.to_uncached().as_ptr()));
    let (cached, uncached) = views.ok_or("null")?;
    let physical = range.to_phys().start.to_bus().into();
    // SAFETY: the range is the program's own, under the standard address map; this program runs one test, once.
    let memory = unsafe {
        Mem2::cached(
            cached,
            uncached,
            physical,
            range.bytes() as usize,
            Forgetful,
        )
    };
    let provider = Careless {
        memory: memory.map_err(|_| "the range is refused")?,
        cached_descriptors: omitted.0 == "descriptors-uncached",
    };
    let pool = Pool::new(PROVIDER.init(provider), STORAGE.init_with(Storage::new));
    let pool: &'static Pool<'static> = POOL.init(pool.map_err(|_| "the pool is refused")?);
    soil(pool)?;
    LEFT_OUT.store(omitted.0 == "descriptors-flush", Ordering::Relaxed);
    with_stick(pool, Mem2::CONSTRAINTS, |controller, stick| {
        LEFT_OUT.store(false, Ordering::Relaxed);
        direct(controller, stick, omitted)?;
        bounced_out(controller, stick, omitted)?;
        soil(pool)?;
        bounced_in(controller, stick, omitted)
    })
}

/// Leaves modified lines all over the free part of the pool, as whoever had it before may have done.
fn soil(pool: &'static Pool<'static>) -> Result<(), &'static str> {
    let device = pool.attach(Mem2::CONSTRAINTS).map_err(|_| "not attached")?;
    let mut pieces: [Option<DmaBuffer<'_>>; 16] = [const { None }; 16];
    for piece in &mut pieces {
        *piece = device.allocate(BYTES).ok();
        if let Some(buffer) = piece {
            buffer.fill(0xA5);
        }
    }
    if pieces.iter().flatten().count() < 4 {
        return Err("the pool is too small");
    }
    Ok(())
}

/// A buffer in MEM2 out and in.
fn direct(
    controller: &mut Controller,
    stick: &mut Stick,
    omitted: Omitted,
) -> Result<(), &'static str> {
    let device = controller.dma().paged_device();
    let mut buffer = device.allocate(BYTES).map_err(|_| "no buffer")?;
    buffer.fill(0x3C);
    let lent = omitted.at("direct-out-clean", || buffer.lend_to_device(BYTES));
    let mut data = Some(Data::from(lent.map_err(|_| "not lent")?));
    stick.write(controller, 0, &mut data)?;
    let mut buffer = data.and_then(Data::reclaim).ok_or("lost")?;

    buffer.fill(0);
    let lent = omitted.at("direct-in-flush", || buffer.lend_from_device(BYTES));
    let mut data = Some(Data::from(lent.map_err(|_| "not lent")?));
    stick.read(controller, 0, (BYTES / BLOCK) as u16, &mut data)?;
    let buffer = omitted.at("direct-in-invalidate", || data.and_then(Data::reclaim));
    all(buffer.as_deref().ok_or("lost")?, 0x3C)
}

/// Bytes of a caller's slice, on the stack.
const SLICE: usize = BYTES / 8;

/// A slice of the caller out.
fn bounced_out(
    controller: &mut Controller,
    stick: &mut Stick,
    omitted: Omitted,
) -> Result<(), &'static str> {
    let slice = [0x5A; SLICE];
    let copy = omitted.at("bounced-out-clean", || controller.dma().outgoing(&slice));
    stick.write(controller, 8, &mut Some(copy.map_err(|_| "no room")?))
}

/// The same in.
fn bounced_in(
    controller: &mut Controller,
    stick: &mut Stick,
    omitted: Omitted,
) -> Result<(), &'static str> {
    let mut slice = [0; SLICE];
    let room = omitted.at("bounced-in-invalidate-before", || {
        controller.dma().incoming(SLICE)
    });
    let mut data = Some(room.map_err(|_| "no room")?);
    stick.read(controller, 8, (SLICE / BLOCK) as u16, &mut data)?;
    let mut data = data.ok_or("lost")?;
    omitted.at("bounced-in-invalidate-after", || {
        data.copy_received(&mut slice);
    });
    all(&slice, 0x5A)
}

fn all(bytes: &[u8], value: u8) -> Result<(), &'static str> {
    if bytes.iter().all(|&byte| byte == value) {
        Ok(())
    } else {
        Err("other bytes came back")
    }
}
