//! A mapping is freed once.
use mem2_dma::{Mapping, Quiesced, ToDevice};

fn misuse(mapping: Mapping<ToDevice>, done: &Quiesced) {
    let _ = mapping.discard(done);
    let _ = mapping.discard(done);
}

fn main() {}
