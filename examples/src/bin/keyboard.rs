//! Prints what is typed on a USB keyboard, until Escape.
#![no_std]
#![no_main]

use embassy_usb_host::class::hid::{HidHost, PROTOCOL_BOOT};
use embassy_usb_host::{BusRoute, BusState};
use examples::{Failure, Usb, start, status};
use wiistick::arguments::Arguments;

wiistick::entry!(main);

/// Key codes (USB HID usage tables, page 7).
const A: u8 = 0x04;
const Z: u8 = 0x1D;
const ESCAPE: u8 = 0x29;

fn main(_: Arguments<'static>) -> u8 {
    status(embassy_futures::block_on(async {
        type_on(&start()?).await
    }))
}

async fn type_on(usb: &Usb) -> Result<(), Failure> {
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);

    defmt::info!("waiting for a keyboard");
    let speed = controller.wait_for_connection().await;
    let mut configuration = [0; 512];
    let (device, length) = bus
        .enumerate(BusRoute::Direct(speed), &mut configuration)
        .await?;
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
