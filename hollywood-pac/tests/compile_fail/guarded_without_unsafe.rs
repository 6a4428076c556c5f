//! Telling a device where to write is a promise of the caller's.
use hollywood_pac::addr::BusAddr;
use hollywood_pac::peripherals::Ehci;

fn start(ehci: &Ehci) {
    ehci.asynclistaddr.write(BusAddr::new(0x1000_4000));
}

fn main() {
    let _ = start;
}
