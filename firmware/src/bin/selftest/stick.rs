//! The job of `boot.dol` with memory that it must not use: what a referee must object to.

use super::careless::{self, Maintenance};
use super::suite::{Needs, Test};
use core::cell::UnsafeCell;
use hollywood_pac::cache::Broadway;
use mem2_dma::{BusAddr, Constraints, Mem2, Offset, Pool, Storage};
use static_cell::StaticCell;
use wiistick::arguments::Arguments;
use wiistick::job::Task;
use wiistick::wii::{dma, ipc, usb};

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
    (
        "stick-under-a-hostile-cache",
        Needs::Hollywood,
        stick_under_a_hostile_cache,
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

/// All maintenance, or all but what the argument `leave-out` names, where the cache does what it may.
fn stick_under_a_hostile_cache(arguments: Arguments<'static>) -> Result<(), &'static str> {
    let left_out = match arguments.value("leave-out") {
        Some(name) => {
            let known = Maintenance::from_name(name);
            Some(known.ok_or("no maintenance has the name that leave-out has")?)
        }
        None => None,
    };
    let pool = careless::pool().map_err(|_| "there is no room in MEM2")?;
    careless::leave_out(left_out);
    read(pool, Mem2::CONSTRAINTS)
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
    read(POOL.init(pool), Constraints::NONE)
}

/// Does the job of `boot.dol` with this memory, also on the way through IOS.
fn read(pool: &'static Pool<'static>, constraints: Constraints) -> Result<(), &'static str> {
    static DRIVER: StaticCell<ipc::Ios> = StaticCell::new();
    let ios = || {
        let device = pool.attach(constraints)?;
        // SAFETY: a test runs alone and makes one driver.
        Ok(&*DRIVER.init(unsafe { ipc::driver(device) }))
    };
    match usb::run_through(Task::Read, pool, constraints, ios) {
        Ok(totals) if totals.errors == 0 => Ok(()),
        Ok(_) => Err("the stick could not be read"),
        Err(error) => {
            defmt::error!("{}", defmt::Display2Format(&error));
            Err("the controller could not be used")
        }
    }
}
