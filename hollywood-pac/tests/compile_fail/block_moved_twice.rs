//! A block has one owner.
use hollywood_pac::Peripherals;

fn main() {
    let peripherals = Peripherals::take().unwrap();
    let mine = peripherals.ehci;
    let yours = peripherals.ehci;
    drop((mine, yours));
}
