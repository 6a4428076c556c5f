//! The ways to USB sticks on this machine, and the job over the sticks: EHCI with this program's own driver, or IOS.
//!
//! EHCI is preferred: it is faster, and every USB device is reachable. On a console it is taken from IOS first. IOS is the way
//! where there is no controller (Dolphin), or where it must be left alone.

use core::pin::pin;
use core::ptr::NonNull;

use ehci::embassy::UsbHost;
use ehci::registers::{ByteOrder, Mmio, ProbeError};
use ehci::{Ehci, Platform, StartError};
use embassy_futures::block_on;
use embassy_usb_host::BusState;
use mem2_dma::{Constraints, Mem2, Pool};
use static_cell::StaticCell;

use super::ipc::{self, Ios};
use super::takeover::Claim;
use super::{bays, dma, emit, hardware, last_log, probe};
use crate::either::Either;
use crate::ios::ven::{self, VenError, message};
use crate::job::Task;
use crate::report::{self, Bounce, ControllerKind, Event, RegisterOrder};
use crate::sticks::{self, Totals};
use crate::ui::access::{Access, Obstacle};

/// The EHCI controller's registers through the uncached view (hardware notes, section 3.1).
pub(super) const EHCI: NonNull<u32> = NonNull::new(0xCD04_0000 as *mut u32).expect("not null");

/// Why there is nothing to report.
#[derive(Debug)]
pub enum UsbError {
    /// There is neither EHCI nor IOS.
    NoWay(Obstacle),
    /// There is no EHCI, and IOS does not help.
    Ios(Obstacle, VenError),
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

impl UsbError {
    /// Returns the same for the menu.
    pub const fn obstacle(&self) -> Obstacle {
        match self {
            Self::NoWay(obstacle) | Self::Ios(obstacle, _) => *obstacle,
            Self::Memory(_) => Obstacle::Stuck {
                what: "finds no memory in MEM2",
            },
            Self::Start(_) => Obstacle::Stuck {
                what: "does not start",
            },
        }
    }
}

/// What the driver asks of this machine.
pub struct Machine {
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
    run_on(task, Usb::start()?)
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
    run_on(task, Usb::start_through(pool, constraints, ios)?)
}

fn run_on(task: Task, usb: Usb) -> Result<Totals, UsbError> {
    let totals = work(task, &usb);
    usb.stop()?;
    Ok(totals)
}

// Not inlined: beside those of start and stop its frame would not fit the stack.
#[inline(never)]
fn work(task: Task, usb: &Usb) -> Totals {
    // Pinned, not moved: it is large.
    let run = pin!(sticks::run_all(
        usb.controller(),
        bus_state(),
        bays::jobs(task),
        bays::log()
    ));
    block_on(run)
}

/// Returns the state of the one bus. Once in a program.
pub fn bus_state() -> &'static BusState {
    static BUS: StaticCell<BusState> = StaticCell::new();
    BUS.init_with(BusState::new)
}

type EhciHost = UsbHost<Mmio, ehci::Bounce<'static>, Machine>;
type IosHost = ven::UsbHost<'static, 'static, ipc::Hollywood>;

/// Either driver, as the USB host library sees it.
pub type Controller<'u> = Either<
    ehci::embassy::Controller<'u, Mmio, ehci::Bounce<'static>, Machine>,
    ven::Controller<'u, 'static, 'static, ipc::Hollywood>,
>;

/// A way to USB sticks that is open.
pub struct Usb {
    way: Way,
    access: Access,
    pool: &'static Pool<'static>,
}

enum Way {
    Ehci(&'static mut EhciHost, Option<Claim>),
    Ios(&'static IosHost, &'static Ios),
}

impl Usb {
    /// Opens the best way, with bounce memory in the program's pool. Once in a program.
    ///
    /// # Errors
    /// There is none. The controller is as it was then.
    pub fn start() -> Result<Self, UsbError> {
        let pool = dma::pool().map_err(UsbError::Memory)?;
        Self::start_through(pool, Mem2::CONSTRAINTS, ipc::ios)
    }

    /// The same through any memory; `ios` makes the way to IOS if that is needed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_through(
        pool: &'static Pool<'static>,
        constraints: Constraints,
        ios: impl FnOnce() -> Result<&'static Ios, mem2_dma::Error>,
    ) -> Result<Self, UsbError> {
        let number = hardware::ios_number();
        let obstacle = match claim(number.is_some()) {
            Ok((registers, claim)) => {
                defmt::info!("sticks are reached through EHCI, with this program's own driver");
                return match start_ehci(registers, pool, constraints) {
                    Ok((host, ports)) => Ok(Self {
                        way: Way::Ehci(host, claim),
                        access: Access::Controller { ports, ios: number },
                        pool,
                    }),
                    Err(error) => {
                        if let Some(claim) = claim {
                            claim.give_back();
                        }
                        Err(error)
                    }
                };
            }
            Err(obstacle) => obstacle,
        };
        let number = number.ok_or(UsbError::NoWay(obstacle))?;
        let text = defmt::Display2Format(&obstacle);
        defmt::info!("sticks are reached through IOS (/dev/usb/ven): {}", text);
        last_log::line(format_args!("sticks are reached through IOS: {obstacle}"));
        let ios = ios().map_err(UsbError::Memory)?;
        let host = start_ios(ios).map_err(|error| {
            report_ios(ios);
            UsbError::Ios(obstacle, error)
        })?;
        let access = Access::ThroughIos {
            ios: number,
            obstacle,
        };
        Ok(Self {
            way: Way::Ios(host, ios),
            access,
            pool,
        })
    }

    /// Returns the driver.
    pub fn controller(&self) -> Controller<'_> {
        match &self.way {
            Way::Ehci(host, _) => Either::A(host.controller()),
            Way::Ios(host, _) => Either::B(host.controller()),
        }
    }

    /// Returns which way it is.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Closes the way, and gives the controller back. Nothing uses it any more.
    ///
    /// # Errors
    /// The controller or IOS did not do what it was told. The controller is given back all the same.
    pub fn stop(self) -> Result<(), UsbError> {
        let end = match self.way {
            Way::Ehci(host, claim) => {
                let stopped = host.host().with(Ehci::stop);
                // SAFETY: it is a valid value that nothing refers to any more: controllers borrow `self`, and its static
                // memory is handed out once. Dropping it frees its memory in the pool.
                unsafe { core::ptr::drop_in_place(host) };
                if let Some(claim) = claim {
                    claim.give_back();
                    probe::reaction();
                }
                stopped.unwrap_or(Ok(())).map_err(UsbError::Start)
            }
            Way::Ios(host, ios) => {
                let closed = block_on(host.close());
                report_ios(ios);
                let obstacle = self.access.obstacle().unwrap_or(Obstacle::Dolphin);
                closed.map_err(|error| UsbError::Ios(obstacle, error))
            }
        };
        report_pool(self.pool);
        end
    }
}

/// Finds the controller, and takes it from IOS if IOS runs.
fn claim(has_ios: bool) -> Result<(Mmio, Option<Claim>), Obstacle> {
    // SAFETY: the address is mapped uncached on every machine that this program runs on, and one
    // read of it does no harm where no controller is: Dolphin answers with all ones.
    let probed = unsafe { Mmio::probe(EHCI) };
    if has_ios && let Some(obstacle) = hardware::obstacle() {
        return Err(obstacle);
    }
    let registers = probed.map_err(|error| match error {
        ProbeError::Absent { word } | ProbeError::NotEhci { word } => {
            Obstacle::NoController { word }
        }
    })?;
    // SAFETY: there is IOS, so this is a Wii, and nothing was found against using its hardware.
    let claim = has_ios.then(|| unsafe { Claim::take() }).transpose();
    let claim = claim.map_err(|error| Obstacle::Stuck { what: error.what() })?;
    Ok((registers, claim))
}

// Not inlined: its frame is large, and gone before the sticks are worked on.
#[inline(never)]
fn start_ehci(
    registers: Mmio,
    pool: &'static Pool<'static>,
    constraints: Constraints,
) -> Result<(&'static mut EhciHost, u8), UsbError> {
    static HOST: StaticCell<EhciHost> = StaticCell::new();
    let memory = ehci::Bounce::new(pool, constraints).map_err(UsbError::Memory)?;
    let order = registers.order();
    let machine = Machine {
        // Only the Wii's registers are big-endian (hardware notes, section 3.3).
        hollywood: order == ByteOrder::Big,
    };
    let mut controller = Ehci::new(registers, memory, machine).map_err(UsbError::Start)?;
    controller.start().map_err(UsbError::Start)?;
    let ports = controller.registers().ports();
    emit(&Event::Controller {
        kind: ControllerKind::Ehci,
        ports,
        registers: Some(match order {
            ByteOrder::Big => RegisterOrder::Big,
            ByteOrder::Little => RegisterOrder::Little,
        }),
    });
    Ok((HOST.init(UsbHost::new(controller)), ports))
}

// As above.
#[inline(never)]
fn start_ios(ios: &'static Ios) -> Result<&'static IosHost, VenError> {
    static HOST: StaticCell<IosHost> = StaticCell::new();
    let host = HOST.init(block_on(ven::UsbHost::open(ios))?);
    emit(&Event::Controller {
        kind: ControllerKind::IosVen,
        ports: message::DEVICES as u8,
        registers: None,
    });
    Ok(host)
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
