//! From root ports to jobs: enumerates what is plugged in and reads every stick among it.

use core::fmt::Write;

use ehci::memory::Dma;
use ehci::platform::Platform;
use ehci::registers::Registers;
use embassy_time::{Duration, with_timeout};
use embassy_usb_driver::host::DeviceEvent;
use embassy_usb_host::handler::EnumerationInfo;
use embassy_usb_host::{BusHandle, BusRoute, BusState};

use crate::job::{Identity, Job};
use crate::msc::{MassStorage, StickError};
use crate::report::{Event, Sink};
use crate::watch::Tally;

/// The program ends when nothing has been plugged in for so long.
const QUIET: Duration = Duration::from_millis(1500);

/// Most devices that are looked at in one run: a plug with a loose contact must not keep it going for
/// ever.
const MAX_DEVICES: u32 = 64;

/// Longest configuration descriptor that is looked at, in bytes.
const CONFIGURATION_BYTES: usize = 1024;

/// What came out of all sticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Logical units that were read.
    pub sticks: u16,
    /// Sticks that failed, and errors on the others.
    pub errors: u32,
}

/// Reads every stick that is plugged in, one after another, until no new one comes.
pub async fn read_all<'d, R, D, P, S>(
    usb: &'d ehci::embassy::UsbHost<R, D, P>,
    state: &'d BusState,
    job: &mut Job<'_, S>,
) -> Totals
where
    R: Registers + 'd,
    D: Dma + 'd,
    P: Platform + 'd,
    S: Sink,
{
    let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), state);
    let mut totals = Totals::default();
    let mut devices = 0;
    while let Ok(event) = with_timeout(QUIET, controller.wait_for_device_event()).await {
        let port = controller.controller().last_event_port().unwrap_or(0);
        match event {
            DeviceEvent::Connected(_) if devices == MAX_DEVICES => {
                totals.errors += 1;
                report(
                    job,
                    port,
                    &"too many devices came and went; a loose contact?",
                );
                break;
            }
            DeviceEvent::Connected(speed) => {
                devices += 1;
                let mut configuration = [0; CONFIGURATION_BYTES];
                let route = BusRoute::Direct(speed);
                match bus.enumerate(route, &mut configuration).await {
                    Ok((info, length)) => {
                        let configuration = configuration.get(..length).unwrap_or(&[]);
                        read_device(&bus, port, &info, configuration, job, &mut totals).await;
                        bus.free_address(info.device_address);
                    }
                    Err(error) => {
                        totals.errors += 1;
                        report(job, port, &error);
                    }
                }
            }
            DeviceEvent::Disconnected => info!("port {}: unplugged", port),
            DeviceEvent::Overcurrent => {
                totals.errors += 1;
                report(job, port, &"it draws too much current; unplug it");
            }
            // What later versions of the trait may add.
            _ => {}
        }
    }
    totals
}

async fn read_device<'d, A, S>(
    bus: &BusHandle<'d, A>,
    port: u8,
    device: &EnumerationInfo,
    configuration: &[u8],
    job: &mut Job<'_, S>,
    totals: &mut Totals,
) where
    A: embassy_usb_driver::host::UsbHostAllocator<'d>,
    S: Sink,
{
    let (vendor_id, product_id) = (device.device_desc.vendor_id, device.device_desc.product_id);
    let tally = Tally::new();
    let storage = match MassStorage::open(bus.clone(), &tally, device, configuration).await {
        Ok(storage) => storage,
        // A mouse is no error.
        Err(StickError::NotMassStorage) => {
            info!("port {}: no mass-storage stick, left alone", port);
            return;
        }
        Err(error) => {
            totals.errors += 1;
            report(job, port, &error);
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
                    stick: totals.sticks,
                    port,
                    lun,
                    vendor_id,
                    product_id,
                    vendor: &vendor,
                    product: &product,
                };
                totals.errors += job.run(unit, &identity).await.errors;
                totals.sticks += 1;
            }
            // The virtual CD-ROM that some sticks bring along is no error either.
            Err(StickError::NotBlocks(_)) => {
                info!("port {}: unit {} is no disk, left alone", port, lun);
            }
            Err(error) => {
                totals.errors += 1;
                report(job, port, &error);
            }
        }
    }
}

fn report<S: Sink>(job: &mut Job<'_, S>, port: u8, error: &dyn core::fmt::Display) {
    let mut message = heapless::String::<160>::new();
    // A message that does not fit is cut.
    let _ = write!(message, "port {port}: {error}");
    job.sink.event(&Event::Error {
        stick: None,
        volume: None,
        path: None,
        block: None,
        message: &message,
    });
}
