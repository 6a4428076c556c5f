//! Nothing comes back from a device that only reads.
use mem2_dma::{Mapping, Quiesced, ToDevice};

fn misuse(mapping: Mapping<ToDevice>, done: &Quiesced, dst: &mut [u8]) {
    let _ = mapping.complete(done, 3, dst);
}

fn main() {}
