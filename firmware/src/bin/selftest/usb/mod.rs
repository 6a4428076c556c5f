//! Programs that use the driver directly, for QEMU's controller and the harness to judge. None is listed: each needs a stick that
//! the host prepares, and most of the claim is checked by the host.

mod cache;
mod cost;
mod storage;
mod write;

use super::suite::{Needs, Test};
use core::ptr::NonNull;
use ehci::embassy::UsbHost;
use ehci::registers::Mmio;
use ehci::{Bounce, Ehci, Platform};
use mem2_dma::{Constraints, Pool};
use static_cell::StaticCell;
use storage::Stick;
use wiistick::wii::{dma, time};

pub const UNLISTED: &[Test] = &[
    ("usb-cache", Needs::Nothing, cache::each_step_once),
    ("usb-cost-direct", Needs::Nothing, cost::direct),
    ("usb-cost-bounced", Needs::Nothing, cost::bounced),
    ("usb-cost-sent-direct", Needs::Nothing, cost::sent_direct),
    ("usb-cost-sent-bounced", Needs::Nothing, cost::sent_bounced),
    ("usb-write", Needs::Nothing, write::pattern),
];

/// The EHCI registers, where a Wii has them.
const EHCI: NonNull<u32> = NonNull::new(0xCD04_0000 as *mut u32).expect("not null");

struct Board;

impl Platform for Board {
    fn now_us(&self) -> u64 {
        time::now_us()
    }
}

type Memory = Bounce<'static>;
type Controller = Ehci<Mmio, Memory, Board>;
type Host = UsbHost<Mmio, Memory, Board>;

/// The product's pool: MEM2, through the cache.
fn mem2() -> Result<&'static Pool<'static>, &'static str> {
    dma::pool().map_err(|_| "there is no room in MEM2")
}

/// Starts the controller with a pool's memory.
fn start(
    pool: &'static Pool<'static>,
    constraints: Constraints,
) -> Result<&'static Host, &'static str> {
    static HOST: StaticCell<Host> = StaticCell::new();
    // SAFETY: the address is mapped uncached, and nothing else in this program drives the controller.
    let registers = unsafe { Mmio::probe(EHCI) }.map_err(|_| "no controller")?;
    let memory = Bounce::new(pool, constraints).map_err(|_| "the constraints are refused")?;
    let mut controller = Ehci::new(registers, memory, Board).map_err(|_| "no descriptors")?;
    controller.start().map_err(|_| "it does not start")?;
    Ok(HOST.init(UsbHost::new(controller)))
}

/// Enumerates the stick in the first port that has one, and hands it to `work`; then stops the controller. The pool must be
/// empty in the end.
fn with_stick(
    pool: &'static Pool<'static>,
    constraints: Constraints,
    work: impl FnOnce(&mut Controller, &mut Stick) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    with_sticks(pool, constraints, 1, |controller, sticks| match sticks {
        [stick] => work(controller, stick),
        _ => Err("not one stick"),
    })
}

/// The same with several sticks.
fn with_sticks(
    pool: &'static Pool<'static>,
    constraints: Constraints,
    count: usize,
    work: impl FnOnce(&mut Controller, &mut [Stick]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let host = start(pool, constraints)?;
    let found = embassy_futures::block_on(storage::find(host, count))?;
    let used = host.host().with(|controller| {
        let mut sticks = heapless::Vec::<_, { storage::STICKS }>::new();
        for found in &found {
            let stick = Stick::open(controller, found)?;
            sticks.push(stick).map_err(|_| "too many sticks")?;
        }
        work(controller, &mut sticks)
    });
    used.ok_or("the controller is in use")??;
    let stopped = host.host().with(Ehci::stop);
    stopped
        .ok_or("the controller is in use")?
        .map_err(|_| "it does not stop")?;
    // The descriptors stay with the controller.
    if pool.stats().live != 1 || pool.stats().quarantined != 0 {
        return Err("a transfer has left memory behind");
    }
    Ok(())
}
