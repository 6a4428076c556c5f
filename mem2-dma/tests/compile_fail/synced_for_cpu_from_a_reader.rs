//! A device that only reads has nothing for the CPU.
use mem2_dma::{Mapping, ToDevice};

fn misuse(mut mapping: Mapping<ToDevice>, dst: &mut [u8]) {
    let _ = mapping.sync_for_cpu(0, dst);
}

fn main() {}
