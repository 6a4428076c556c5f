//! A mapping that is completed cannot be synchronised.
use mem2_dma::{FromDevice, Mapping, Quiesced};

fn misuse(mut mapping: Mapping<FromDevice>, done: &Quiesced, dst: &mut [u8]) {
    let _ = mapping.complete(done, 3, dst);
    let _ = mapping.sync_for_cpu(0, dst);
}

fn main() {}
