//! A pin has one owner.
use embedded_hal::digital::PinState;
use hollywood_pac::Peripherals;

fn main() {
    let pins = Peripherals::take().unwrap().gpiob.split();
    let _mine = pins.slot_led.into_output(PinState::Low);
    let _yours = pins.slot_led.into_input();
}
