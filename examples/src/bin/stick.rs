//! Reads the first block of a USB stick.
#![no_std]
#![no_main]

use embassy_futures::block_on;
use embassy_usb_host::class::msc::MscDevice;
use embassy_usb_host::{BusRoute, BusState};
use wiistick::arguments::Arguments;
use wiistick::exit::Failure;
use wiistick::wii::usb::Usb;

wiistick::entry!(main);

fn main(_: Arguments<'static>) -> Result<(), Failure> {
    let usb = Usb::start()?;
    let end = block_on(first_block(&usb));
    // On a console, IOS gets its controller back.
    usb.stop()?;
    end
}

async fn first_block(usb: &Usb) -> Result<(), Failure> {
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);

    defmt::info!("waiting for a stick");
    let speed = controller.wait_for_connection().await;
    let mut configuration = [0; 512];
    let (device, length) = bus
        .enumerate(BusRoute::Direct(speed), &mut configuration)
        .await?;
    let stick = MscDevice::new(&bus, &device, &configuration[..length]).await?;
    let mut unit = stick.lun(0)?;
    // The first answers are that something has changed, and that the stick is still waking up.
    while !unit.test_unit_ready().await? {}

    let size = unit.capacity().await?;
    defmt::info!(
        "{=u64} blocks of {=u32} bytes",
        size.block_count,
        size.block_size
    );
    // On the stack, so in MEM1: the driver bounces it.
    let mut block = [0; 512];
    unit.read_blocks(0, &mut block).await?;
    defmt::info!("the first one begins with {=[u8]:02x}", block[..16]);
    defmt::info!("and ends with {=[u8]:02x}", block[510..]);
    Ok(())
}
