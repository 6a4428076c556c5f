//! The ways to USB sticks on this machine, and the job over the sticks: EHCI with this program's own driver, or IOS.
//!
//! EHCI is preferred: it is faster, and every USB device is reachable. IOS is taken where there is no controller (Dolphin), or
//! where IOS holds it.

use core::pin::pin;
use core::ptr::NonNull;

use ehci::embassy::UsbHost;
use ehci::registers::{ByteOrder, Mmio, ProbeError};
use ehci::{Ehci, Platform, StartError};
use embassy_futures::block_on;
use embassy_usb_host::BusState;
use hollywood_pac::lowmem::LowMemory;
use mem2_dma::{Constraints, Mem2, Pool};
use static_cell::StaticCell;

use super::ipc::{self, Ios};
use super::{bays, dma, emit};
use crate::ios::ven::{self, VenError, message};
use crate::job::Task;
use crate::report::{self, Bounce, ControllerKind, Event, RegisterOrder};
use crate::sticks::{self, Totals};

/// The EHCI controller's registers through the uncached view (hardware notes, section 3.1).
const EHCI: NonNull<u32> = NonNull::new(0xCD04_0000 as *mut u32).expect("not null");

/// Why EHCI cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum NoEhci {
    /// There is no EHCI controller, or no access to it.
    Probe(ProbeError),
    /// IOS drives the controller.
    HeldByIos,
}

impl core::fmt::Display for NoEhci {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Probe(error) => write!(f, "no EHCI controller: {error}"),
            Self::HeldByIos => f.write_str("IOS holds the EHCI controller while IOS runs"),
        }
    }
}

/// Why there is nothing to report.
#[derive(Debug)]
pub enum UsbError {
    /// There is neither EHCI nor IOS.
    NoWay(NoEhci),
    /// There is no EHCI, and IOS does not help.
    Ios(NoEhci, VenError),
    /// The pool could not be made.
    Memory(mem2_dma::Error),
    /// The controller did not start.
    Start(StartError),
}

impl core::fmt::Display for UsbError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoWay(why) => write!(f, "{why}"),
            Self::Ios(why, error) => write!(f, "{error}; and {why}"),
            Self::Memory(error) => write!(f, "bounce pool: {error}"),
            Self::Start(error) => write!(f, "USB controller: {error}"),
        }
    }
}

struct Machine {
    /// Whether this is a Wii, and not just a controller at a Wii's addresses.
    hollywood: bool,
}

impl Platform for Machine {
    fn now_us(&self) -> u64 {
        super::time::now_us()
    }

    /// Port 2 of a Wii holds Bluetooth, which stays with its companion (hardware notes, section 3.6).
    /// A machine without Hollywood has no such port.
    fn serves_port(&self, port: u8) -> bool {
        !self.hollywood || port != 2
    }
}

/// Does a task with every stick, through bounce memory in MEM2.
///
/// # Errors
/// When there is no way to them.
pub fn run(task: Task) -> Result<Totals, UsbError> {
    let pool = dma::pool().map_err(UsbError::Memory)?;
    run_through(task, pool, Mem2::CONSTRAINTS, ipc::ios)
}

/// Does a task with every stick, through any memory; `ios` makes the way to IOS if that is needed.
/// Runs once in a program.
///
/// # Errors
/// When there is no way to them.
pub fn run_through(
    task: Task,
    pool: &'static Pool<'static>,
    constraints: Constraints,
    ios: impl FnOnce() -> Result<&'static Ios, mem2_dma::Error>,
) -> Result<Totals, UsbError> {
    static BUS: StaticCell<BusState> = StaticCell::new();
    let state = BUS.init_with(BusState::new);
    let has_ios = LowMemory::get().ios_version().is_some();
    // SAFETY: the address is mapped uncached on every machine that this program runs on, and one
    // read of it does no harm where no controller is: Dolphin answers with all ones.
    let end = match unsafe { Mmio::probe(EHCI) } {
        Ok(registers) if !has_ios => {
            defmt::info!("sticks are reached through EHCI, with this program's own driver");
            over_ehci(task, registers, pool, constraints, state)
        }
        probed => {
            let why = match probed {
                Ok(_) => NoEhci::HeldByIos,
                Err(error) => NoEhci::Probe(error),
            };
            if !has_ios {
                return Err(UsbError::NoWay(why));
            }
            let text = defmt::Display2Format(&why);
            defmt::info!("sticks are reached through IOS (/dev/usb/ven): {}", text);
            let ios = ios().map_err(UsbError::Memory)?;
            let end = over_ios(task, ios, state);
            report_ios(ios);
            end.map_err(|error| UsbError::Ios(why, error))
        }
    };
    report_pool(pool);
    end
}

// Not inlined: beside that of the other way its frame would not fit the stack.
#[inline(never)]
fn over_ehci(
    task: Task,
    registers: Mmio,
    pool: &'static Pool<'static>,
    constraints: Constraints,
    state: &'static BusState,
) -> Result<Totals, UsbError> {
    let memory = ehci::Bounce::new(pool, constraints).map_err(UsbError::Memory)?;

    let order = registers.order();
    let machine = Machine {
        // Only the Wii's registers are big-endian (hardware notes, section 3.3).
        hollywood: order == ByteOrder::Big,
    };
    let mut controller = Ehci::new(registers, memory, machine).map_err(UsbError::Start)?;
    controller.start().map_err(UsbError::Start)?;
    emit(&Event::Controller {
        kind: ControllerKind::Ehci,
        ports: controller.registers().ports(),
        registers: Some(match order {
            ByteOrder::Big => RegisterOrder::Big,
            ByteOrder::Little => RegisterOrder::Little,
        }),
    });

    let usb = UsbHost::new(controller);
    let totals = {
        // Pinned, not moved: it is large.
        let run = pin!(sticks::run_all(
            usb.controller(),
            state,
            bays::jobs(task),
            bays::Log
        ));
        block_on(run)
    };
    let stopped = usb.host().with(Ehci::stop);
    drop(usb);
    stopped.unwrap_or(Ok(())).map_err(UsbError::Start)?;
    Ok(totals)
}

// Not inlined: beside that of the other way its frame would not fit the stack.
#[inline(never)]
fn over_ios(task: Task, ios: &'static Ios, state: &'static BusState) -> Result<Totals, VenError> {
    // It lives as long as the state of the bus.
    static HOST: StaticCell<ven::UsbHost<'static, 'static, ipc::Hollywood>> = StaticCell::new();
    let host = HOST.init(block_on(ven::UsbHost::open(ios))?);
    emit(&Event::Controller {
        kind: ControllerKind::IosVen,
        ports: message::DEVICES as u8,
        registers: None,
    });
    let totals = {
        // Pinned, not moved: it is large.
        let run = pin!(sticks::run_all(
            host.controller(),
            state,
            bays::jobs(task),
            bays::Log
        ));
        block_on(run)
    };
    block_on(host.close())?;
    Ok(totals)
}

fn report_ios(ios: &Ios) {
    let done = ios.statistics();
    emit(&Event::Ios(report::Ios {
        requests: done.requests,
        buffers: done.buffers,
        bytes: done.bytes,
        outside_mem2: done.outside_mem2,
        in_flight: done.in_flight as u32,
        strays: done.strays,
    }));
}

fn report_pool(pool: &Pool<'static>) {
    let stats = pool.stats();
    pool.for_each_live(|mapping| defmt::warn!("still mapped: {}", defmt::Debug2Format(&mapping)));
    emit(&Event::Bounce(Bounce {
        pool_base: stats.base.get(),
        pool_bytes: stats.size,
        mappings: stats.mappings,
        bounced_bytes: stats.bounced,
        direct_bytes: stats.direct,
        high_water_bytes: stats.high_water,
        live: stats.live as u32,
        quarantined: stats.quarantined as u32,
        refused: stats.refused,
    }));
}
