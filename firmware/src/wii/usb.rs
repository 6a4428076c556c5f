//! The EHCI controller on this machine, and the job over the sticks on it.

use core::pin::pin;
use core::ptr::NonNull;

use ehci::embassy::UsbHost;
use ehci::registers::{ByteOrder, Mmio, ProbeError};
use ehci::{Ehci, Platform, StartError};
use embassy_usb_host::BusState;
use hollywood_pac::lowmem::LowMemory;
use mem2_dma::{Constraints, Mem2, Pool};
use static_cell::StaticCell;

use super::{bays, dma, emit};
use crate::report::{Bounce, ControllerKind, Event, RegisterOrder};
use crate::sticks::{self, Totals};

/// The EHCI controller's registers through the uncached view (hardware notes, section 3.1).
const EHCI: NonNull<u32> = NonNull::new(0xCD04_0000 as *mut u32).expect("not null");

/// Why there is nothing to report.
#[derive(Debug)]
pub enum UsbError {
    /// There is no EHCI controller, or no access to it.
    NoController(ProbeError),
    /// IOS drives the controller.
    HeldByIos,
    /// The pool could not be made.
    Memory(mem2_dma::Error),
    /// The controller did not start.
    Start(StartError),
}

impl core::fmt::Display for UsbError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoController(error) => write!(f, "{error}"),
            Self::HeldByIos => f.write_str("the USB controller belongs to IOS while IOS runs"),
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

/// Reads every stick, through bounce memory in MEM2.
///
/// # Errors
/// When there is no controller to read them through.
pub fn read_sticks() -> Result<Totals, UsbError> {
    let pool = dma::pool().map_err(UsbError::Memory)?;
    read_sticks_through(pool, Mem2::CONSTRAINTS)
}

/// Reads every stick, through any memory. Runs once in a program.
///
/// # Errors
/// When there is no controller to read them through.
pub fn read_sticks_through(
    pool: &'static Pool<'static>,
    constraints: Constraints,
) -> Result<Totals, UsbError> {
    static BUS: StaticCell<BusState> = StaticCell::new();

    // SAFETY: the address is mapped uncached on every machine that this program runs on, and one
    // read of it does no harm where no controller is: Dolphin answers with all ones.
    let registers = unsafe { Mmio::probe(EHCI) }.map_err(UsbError::NoController)?;
    if LowMemory::get().ios_version().is_some() {
        return Err(UsbError::HeldByIos);
    }
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
    let jobs = bays::jobs();
    let state = BUS.init_with(BusState::new);
    let totals = {
        // Pinned, not moved: it is large.
        let run = pin!(sticks::run_all(usb.controller(), state, jobs, bays::Log));
        embassy_futures::block_on(run)
    };
    let stopped = usb.host().with(Ehci::stop);
    drop(usb);
    report_pool(pool);
    stopped.unwrap_or(Ok(())).map_err(UsbError::Start)?;
    Ok(totals)
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
