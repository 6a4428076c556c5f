//! Blinks the light of the disc slot.
#![no_std]
#![no_main]

use embassy_time::Delay;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{PinState, StatefulOutputPin};
use hollywood_pac::Peripherals;
use wiistick::arguments::Arguments;

// The boot code, the exception handlers and the log come with the library; this says where they lead.
wiistick::entry!(main);

/// Returns the exit status.
fn main(_: Arguments<'static>) -> u8 {
    let Some(peripherals) = Peripherals::take() else {
        return 1;
    };
    let mut light = peripherals
        .gpiob
        .split()
        .slot_led
        .into_output(PinState::Low);
    for blink in 1..=5 {
        for _ in 0..2 {
            let Ok(()) = light.toggle();
            Delay.delay_ms(100);
        }
        defmt::info!("blink {=u8}", blink);
    }
    0
}
