//! Handles come from `take` or from an unsafe `steal`.
use hollywood_pac::peripherals::Ehci;

fn main() {
    let _ehci = Ehci::steal();
}
