//! A physical address is no pointer: it has to go through the cached or the uncached view.
use hollywood_pac::addr::PhysAddr;

fn main() {
    let address = PhysAddr::new(0x1000_4000);
    let _pointer: *mut u32 = address.as_ptr();
}
