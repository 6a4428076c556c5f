//! The job of `boot.dol` with memory that it must not use: what a referee must object to.

use super::suite::{Needs, Test};
use core::cell::UnsafeCell;
use hollywood_pac::cache::Broadway;
use mem2_dma::{BusAddr, Constraints, Offset, Pool, Storage};
use static_cell::StaticCell;
use wiistick::arguments::Arguments;
use wiistick::wii::{dma, usb};

/// They need a stick, so they are not listed: the host asks for them by name.
pub const UNLISTED: &[Test] = &[
    (
        "stick-without-bouncing",
        Needs::Nothing,
        stick_without_bouncing,
    ),
    (
        "stick-with-a-pool-in-mem2",
        Needs::Nothing,
        stick_with_a_pool_in_mem2,
    ),
];

const BYTES: usize = dma::POOL_BYTES as usize;

#[repr(C, align(4096))]
struct Mem1Pool(UnsafeCell<[u8; BYTES]>);
// SAFETY: taken once, below.
unsafe impl Sync for Mem1Pool {}

static MEM1: Mem1Pool = Mem1Pool(UnsafeCell::new([0; BYTES]));

/// A pool in MEM1: descriptors and data lie where the controller's DMA does not reach.
fn stick_without_bouncing(_: Arguments<'static>) -> Result<(), &'static str> {
    // SAFETY: this program runs one test, once.
    read_through(unsafe { &mut *MEM1.0.get() })
}

/// The same in MEM2: the control, which must succeed.
fn stick_with_a_pool_in_mem2(_: Arguments<'static>) -> Result<(), &'static str> {
    let range = dma::pool_range().map_err(|_| "there is no room in MEM2")?;
    let start = range.start().as_ptr();
    // SAFETY: the range is the program's own, and this program runs one test, once.
    read_through(unsafe { core::slice::from_raw_parts_mut(start, range.bytes() as usize) })
}

fn read_through(memory: &'static mut [u8]) -> Result<(), &'static str> {
    static PROVIDER: StaticCell<Offset<'static, Broadway>> = StaticCell::new();
    static STORAGE: StaticCell<dma::PoolStorage> = StaticCell::new();
    static POOL: StaticCell<Pool<'static>> = StaticCell::new();
    let physical = BusAddr::new(memory.as_ptr() as u32 & 0x3FFF_FFFF);
    let provider = Offset::with_cache(memory, physical, Broadway)
        .map_err(|_| "the provider refuses the pool")?;
    let pool = Pool::new(PROVIDER.init(provider), STORAGE.init_with(Storage::new))
        .map_err(|_| "the memory makes no pool")?;
    match usb::read_sticks_through(POOL.init(pool), Constraints::NONE) {
        Ok(totals) if totals.errors == 0 => Ok(()),
        Ok(_) => Err("the stick could not be read"),
        Err(_) => Err("the controller could not be used"),
    }
}
