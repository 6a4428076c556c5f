//! Taking once means once.
use hollywood_pac::Peripherals;

fn main() {
    let first = Peripherals::take().unwrap();
    let _second = first.clone();
}
