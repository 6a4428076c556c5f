//! The CPU's pointers are not the bus's addresses.
use mem2_dma::BusAddr;

fn misuse(buffer: &[u8]) -> BusAddr {
    buffer.as_ptr().into()
}

fn main() {}
