//! An input is not driven.
use embedded_hal::digital::OutputPin;
use hollywood_pac::Peripherals;

fn main() {
    let mut slot = Peripherals::take().unwrap().gpiob.split().slot_in.into_input();
    slot.set_high().unwrap();
}
