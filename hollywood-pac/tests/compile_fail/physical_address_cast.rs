//! No integer cast turns a physical address into a pointer.
use hollywood_pac::addr::PhysAddr;

fn main() {
    let address = PhysAddr::new(0x1000_4000);
    let _pointer = address as *mut u32;
}
