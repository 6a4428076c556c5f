//! A refusal has no address.
use mem2_dma::{BusAddr, Device};

fn misuse(device: &Device) -> BusAddr {
    device.map_to_device(b"hello").bus()
}

fn main() {}
