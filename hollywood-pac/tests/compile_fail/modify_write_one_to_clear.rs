//! Read-modify-write of a register of events would clear whatever happened.
use hollywood_pac::peripherals::Ehci;

fn acknowledge(ehci: &Ehci) {
    ehci.usbsts.modify(|status| status.set_iaa(true));
}

fn main() {
    let _ = acknowledge;
}
