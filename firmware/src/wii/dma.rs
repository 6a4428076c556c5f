//! The program's DMA memory: one pool at the top of its MEM2 arena, for the USB controller and for IOS.

use embassy_sync::once_lock::OnceLock;
use hollywood_pac::addr::CachedRange;
use hollywood_pac::lowmem::LowMemory;
use mem2_dma::{Mem2, Pool, Storage};
use static_cell::StaticCell;

use super::ram::RESERVED;
use crate::log_ring;

/// Bytes of the pool: room for the descriptors and some windows of data.
pub const POOL_BYTES: u32 = 1 << 20;
const GROUPS: usize = POOL_BYTES as usize / 512 / mem2_dma::GROUP_SLOTS as usize;
const LIVE: usize = 128;

/// Bookkeeping of a pool of [`POOL_BYTES`].
pub type PoolStorage = Storage<GROUPS, LIVE>;

/// MEM2 that is the program's whichever IOS runs (hardware notes, section 1.4).
const SAFE_MEM2_END: u32 = 0x933E_0000;

/// The part of MEM2 that the pool gets: the top of the program's arena.
///
/// # Errors
/// The arena that low memory describes is too small.
pub fn pool_range() -> Result<CachedRange, mem2_dma::Error> {
    let log_end =
        0x8000_0000 + log_ring::PHYSICAL_ADDRESS + log_ring::HEADER_BYTES + log_ring::CAPACITY;
    let [reserved, reserved_end] =
        [RESERVED.start, RESERVED.end].map(|address| 0x8000_0000 + address);
    let (low, end) = match LowMemory::get().mem2_arena() {
        Ok(arena) => {
            let low = arena.start().get();
            (low.max(log_end), low + arena.bytes())
        }
        Err(_) => (log_end, SAFE_MEM2_END),
    };
    end.checked_sub(POOL_BYTES)
        .filter(|&start| start >= low)
        .filter(|&start| start >= reserved_end || end <= reserved)
        .and_then(|start| CachedRange::new(start, end))
        .ok_or(mem2_dma::Error::NoRoom {
            memory: end.saturating_sub(low) as usize,
            slots: 0,
        })
}

/// The program's pool, made at the first call.
///
/// # Errors
/// There is no room for it.
pub fn pool() -> Result<&'static Pool<'static>, mem2_dma::Error> {
    static MADE: OnceLock<Result<&'static Pool<'static>, mem2_dma::Error>> = OnceLock::new();
    *MADE.get_or_init(make)
}

fn make() -> Result<&'static Pool<'static>, mem2_dma::Error> {
    static PROVIDER: StaticCell<Mem2<hollywood_pac::cache::Broadway>> = StaticCell::new();
    static STORAGE: StaticCell<PoolStorage> = StaticCell::new();
    static POOL: StaticCell<Pool<'static>> = StaticCell::new();
    // SAFETY: the boot code's map is the standard one. The range lies in the arena, above the log, and this function runs once.
    let provider = unsafe { Mem2::carve(pool_range()?) }?;
    let pool = Pool::new(PROVIDER.init(provider), STORAGE.init_with(Storage::new))?;
    Ok(POOL.init(pool))
}
