//! A device is given bus addresses, not the CPU's.
use hollywood_pac::addr::CachedAddr;
use hollywood_pac::peripherals::Ehci;

fn start(ehci: &Ehci, list: CachedAddr) {
    // SAFETY: does not compile.
    unsafe { ehci.asynclistaddr.write(list) };
}

fn main() {
    let _ = start;
}
