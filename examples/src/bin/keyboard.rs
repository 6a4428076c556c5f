//! Prints what is typed on a USB keyboard, until Escape.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use embassy_usb_driver::host::UsbHostAllocator;
use embassy_usb_host::class::hid::{HidHost, PROTOCOL_BOOT};
use embassy_usb_host::class::hub::{HubEvent, HubHandler};
use embassy_usb_host::handler::{EnumerationInfo, HandlerEvent};
use embassy_usb_host::{BusHandle, BusRoute, BusState};
use wiistick::arguments::Arguments;
use wiistick::exit::Failure;
use wiistick::wii::usb::Usb;

wiistick::entry!(main);

/// Key codes (USB HID usage tables, page 7).
const A: u8 = 0x04;
const Z: u8 = 0x1D;
const ESCAPE: u8 = 0x29;
/// Class of hubs.
const HUB: u8 = 9;

fn main(_: Arguments<'static>) -> Result<(), Failure> {
    let usb = Usb::start()?;
    let end = block_on(type_on(&usb));
    // On a console, IOS gets its controller back.
    usb.stop()?;
    end
}

async fn type_on(usb: &Usb) -> Result<(), Failure> {
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);

    defmt::info!("waiting for a keyboard");
    let speed = controller.wait_for_connection().await;
    let mut configuration = [0; 512];
    let (mut device, mut length) = bus
        .enumerate(BusRoute::Direct(speed), &mut configuration)
        .await?;
    if device.device_desc.device_class == HUB {
        (device, length) = behind_hub(&bus, &device, &mut configuration).await?;
    }
    let mut keyboard = HidHost::new(&bus, &configuration[..length], &device)?;
    keyboard.set_protocol(PROTOCOL_BOOT).await?;
    defmt::info!("type");

    let mut before = [0; 6];
    loop {
        let Some(report) = keyboard.read_keyboard().await? else {
            continue;
        };
        let pressed = report.keycodes.iter().filter(|key| !before.contains(key));
        for &key in pressed {
            match key {
                A..=Z => defmt::info!("{=char}", char::from(b'a' + key - A)),
                ESCAPE => return Ok(()),
                _ => defmt::info!("key {=u8}", key),
            }
        }
        before = report.keycodes;
    }
}

/// Returns the first device that is plugged into a hub.
async fn behind_hub<'d, A: UsbHostAllocator<'d>>(
    bus: &BusHandle<'d, A>,
    hub: &EnumerationInfo,
    configuration: &mut [u8],
) -> Result<(EnumerationInfo, usize), Failure> {
    // As many ports as a hub can have.
    let mut hub = HubHandler::<_, 255>::try_register(bus, hub)
        .await
        .map_err(|_| "this hub does not say what it is")?;
    loop {
        let event = hub.wait_for_event().await;
        let event = event.map_err(|_| "the hub does not answer")?;
        if let HandlerEvent::HandlerEvent(HubEvent::DeviceDetected { port, speed }) = event {
            return Ok(hub.enumerate_port(configuration, port, speed).await?);
        }
    }
}
