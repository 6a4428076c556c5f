//! A pool's memory is nobody else's.
use mem2_dma::{BusAddr, Offset};

fn misuse(memory: &mut [u8]) -> u8 {
    let provider = Offset::new(memory, BusAddr::new(0));
    let byte = memory[0];
    drop(provider);
    byte
}

fn main() {}
