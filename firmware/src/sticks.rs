//! From root ports to jobs: enumerates what is plugged in and runs the job over every stick among it,
//! several at once.
//!
//! One task waits for devices and enumerates them, one after another, since all of them answer at
//! address zero first. It hands each to a bay: a task with buffers of its own that works on one
//! device at a time. So a stick that fails, stalls or leaves holds up no other. Everything here knows
//! the traits of `embassy-usb-driver` only, and [`RootPorts`].

use core::cell::Cell;
use core::fmt::Write;
use core::pin::pin;

use embassy_futures::select::select3;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::channel::Channel;
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embassy_usb_driver::host::{DeviceEvent, UsbHostAllocator, UsbHostController};
use embassy_usb_host::handler::EnumerationInfo;
use embassy_usb_host::{BusHandle, BusRoute, BusState};

use crate::job::{Identity, Job};
use crate::msc::{MassStorage, StickError};
use crate::report::{Event, Sink, StickIndex};
use crate::watch::Tally;

/// The program ends when nothing has been plugged in or worked on for so long.
const QUIET: Duration = Duration::from_millis(1500);

/// The same after a stick was pulled, which may come back.
const QUIET_AFTER_LOSS: Duration = Duration::from_secs(5);

/// A device is enumerated within this time, or left alone. The library would ask one that says nothing
/// for a minute.
const ENUMERATION: Duration = Duration::from_secs(10);

/// Most devices that are looked at in one run: a plug with a loose contact must not keep it going for
/// ever.
const MAX_DEVICES: u32 = 64;

/// Longest configuration descriptor that is looked at, in bytes.
const CONFIGURATION_BYTES: usize = 1024;

/// A controller that knows which of its root ports an event came from: what the trait does not tell.
pub trait RootPorts {
    /// Returns the port, counted from 0, of the event that was reported last.
    fn last_event_port(&self) -> Option<u8>;

    /// Makes the device on a port deaf until it is plugged in again: one that could not be enumerated
    /// may answer at an address that the next device gets.
    fn disable_port(&mut self, port: u8);

    /// Takes note of a device that is not reported: its port, and what became of it.
    fn take_unserved(&mut self) -> Option<ehci::PortEvent> {
        None
    }
}

impl<R, D, P> RootPorts for ehci::embassy::Controller<'_, R, D, P>
where
    R: ehci::registers::Registers,
    D: ehci::memory::Dma,
    P: ehci::platform::Platform,
{
    fn last_event_port(&self) -> Option<u8> {
        Self::last_event_port(self)
    }

    fn disable_port(&mut self, port: u8) {
        Self::disable_port(self, port);
    }

    fn take_unserved(&mut self) -> Option<ehci::PortEvent> {
        Self::take_unserved(self)
    }
}

impl<M: crate::ios::Mailbox> RootPorts for crate::ios::ven::Controller<'_, '_, '_, M> {
    fn last_event_port(&self) -> Option<u8> {
        Self::last_event_port(self)
    }

    fn disable_port(&mut self, port: u8) {
        Self::disable_port(self, port);
    }
}

/// What came out of all sticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Logical units that were worked on.
    pub sticks: StickIndex,
    /// Sticks that failed, and errors on the others.
    pub errors: u32,
}

/// An enumerated device on its way to a bay.
struct Device {
    port: u8,
    info: EnumerationInfo,
    configuration: [u8; CONFIGURATION_BYTES],
    length: usize,
}

/// What the tasks share.
struct Shared {
    devices: Channel<NoopRawMutex, Device, 1>,
    /// Devices that were enumerated and are not finished with.
    busy: Cell<u32>,
    /// When the last of them was finished with.
    rested: Cell<Instant>,
    totals: Cell<Totals>,
}

impl Shared {
    fn count_errors(&self, errors: u32) {
        let mut totals = self.totals.get();
        totals.errors = totals.errors.saturating_add(errors);
        self.totals.set(totals);
    }

    fn next_stick(&self) -> StickIndex {
        let mut totals = self.totals.get();
        let stick = totals.sticks;
        totals.sticks = stick.saturating_add(1);
        self.totals.set(totals);
        stick
    }
}

/// Sticks that are worked on at once: one for each of the console's outer ports.
pub const BAYS: usize = 2;

/// Runs a job over every stick that is plugged in, as many at once as there are jobs, until no new
/// one comes. `sink` receives what is about no stick.
pub async fn run_all<'d, C, S>(
    controller: C,
    state: &'d BusState,
    jobs: [Job<'_, S>; BAYS],
    mut sink: S,
) -> Totals
where
    C: UsbHostController<'d> + RootPorts,
    S: Sink,
{
    let (mut controller, bus) = embassy_usb_host::bus(controller, state);
    let shared = Shared {
        devices: Channel::new(),
        busy: Cell::new(0),
        rested: Cell::new(Instant::now()),
        totals: Cell::new(Totals::default()),
    };
    let [first, second] = jobs;
    // Pinned where they are: they are large, and a move copies them.
    let first = pin!(serve(first, &bus, &shared));
    let second = pin!(serve(second, &bus, &shared));
    let events = pin!(async {
        let mut devices = 0;
        let mut quiet = QUIET;
        loop {
            let left = match shared.busy.get() {
                0 => quiet.checked_sub(shared.rested.get().elapsed()),
                _ => Some(quiet),
            };
            let event = controller.wait_for_device_event();
            let event = with_timeout(left.unwrap_or(Duration::MIN), event).await;
            while let Some(unserved) = controller.controller_mut().take_unserved() {
                let mut message = heapless::String::<96>::new();
                // A message that does not fit is cut.
                let _ = write!(message, "{}", unserved.change);
                info!("port {}: {}; left alone", unserved.port, message.as_str());
            }
            let event = match event {
                Ok(event) => event,
                Err(_) if shared.busy.get() != 0 || shared.rested.get().elapsed() < quiet => {
                    continue;
                }
                Err(_) => break,
            };
            shared.rested.set(Instant::now());
            let port = controller.controller().last_event_port().unwrap_or(0);
            let problem: &dyn core::fmt::Display = match event {
                DeviceEvent::Connected(_) if devices == MAX_DEVICES => {
                    &"too many devices came and went; a loose contact?"
                }
                DeviceEvent::Connected(speed) => {
                    (devices, quiet) = (devices + 1, QUIET);
                    let mut configuration = [0; CONFIGURATION_BYTES];
                    let route = BusRoute::Direct(speed);
                    let enumeration = bus.enumerate(route, &mut configuration);
                    match with_timeout(ENUMERATION, enumeration).await {
                        Ok(Ok((info, length))) => {
                            shared.busy.update(|busy| busy + 1);
                            let device = Device {
                                port,
                                info,
                                configuration,
                                length,
                            };
                            shared.devices.send(device).await;
                            continue;
                        }
                        Ok(Err(error)) => {
                            controller.controller_mut().disable_port(port);
                            &{ error }
                        }
                        Err(_) => {
                            controller.controller_mut().disable_port(port);
                            &"it does not say what it is; unplug it and try again"
                        }
                    }
                }
                DeviceEvent::Disconnected => {
                    quiet = QUIET_AFTER_LOSS;
                    info!("port {}: unplugged", port);
                    continue;
                }
                DeviceEvent::Overcurrent => &"it draws too much current; unplug it",
                // What later versions of the trait may add.
                _ => continue,
            };
            shared.count_errors(1);
            report(&mut sink, port, problem);
            shared.rested.set(Instant::now());
            if devices == MAX_DEVICES {
                break;
            }
        }
        while shared.busy.get() != 0 {
            Timer::after(QUIET).await;
        }
    });
    select3(events, first, second).await;
    shared.totals.get()
}

/// Works on one device after another, for ever.
async fn serve<'d, A, S>(mut job: Job<'_, S>, bus: &BusHandle<'d, A>, shared: &Shared)
where
    A: UsbHostAllocator<'d>,
    S: Sink,
{
    loop {
        let device = shared.devices.receive().await;
        // Its address stays its own: it may be plugged in for as long as the program runs, and there
        // are more addresses than MAX_DEVICES.
        serve_device(&mut job, bus, shared, &device).await;
        shared.busy.update(|busy| busy - 1);
        shared.rested.set(Instant::now());
    }
}

async fn serve_device<'d, A, S>(
    job: &mut Job<'_, S>,
    bus: &BusHandle<'d, A>,
    shared: &Shared,
    device: &Device,
) where
    A: UsbHostAllocator<'d>,
    S: Sink,
{
    let (info, port) = (&device.info, device.port);
    let configuration = device.configuration.get(..device.length).unwrap_or(&[]);
    let tally = Tally::new();
    let storage = match MassStorage::open(bus.clone(), &tally, info, configuration).await {
        Ok(storage) => storage,
        // A mouse is no error.
        Err(StickError::NotMassStorage) => {
            info!("port {}: no mass-storage stick, left alone", port);
            return;
        }
        Err(error) => {
            shared.count_errors(1);
            report(&mut job.sink, port, &error);
            return;
        }
    };
    for lun in 0..storage.units() {
        match storage.unit(lun).await {
            Ok(unit) => {
                let (vendor, product) = (unit.vendor().try_into(), unit.product().try_into());
                let vendor: heapless::String<8> = vendor.unwrap_or_default();
                let product: heapless::String<16> = product.unwrap_or_default();
                let identity = Identity {
                    stick: shared.next_stick(),
                    port,
                    lun,
                    vendor_id: info.device_desc.vendor_id,
                    product_id: info.device_desc.product_id,
                    vendor: &vendor,
                    product: &product,
                };
                shared.count_errors(job.run(unit, &identity).await.errors);
            }
            // The virtual CD-ROM that some sticks bring along is no error either.
            Err(StickError::NotBlocks(_)) => {
                info!("port {}: unit {} is no disk, left alone", port, lun);
            }
            Err(error) => {
                shared.count_errors(1);
                report(&mut job.sink, port, &error);
            }
        }
    }
}

fn report<S: Sink>(sink: &mut S, port: u8, error: &dyn core::fmt::Display) {
    let mut message = heapless::String::<160>::new();
    // A message that does not fit is cut.
    let _ = write!(message, "port {port}: {error}");
    sink.event(&Event::Error {
        stick: None,
        volume: None,
        path: None,
        block: None,
        message: &message,
    });
}
