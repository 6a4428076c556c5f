//! Coherent memory is no streaming mapping, and freed otherwise.
use mem2_dma::{Coherent, Le32, Quiesced};

fn misuse(word: Coherent<Le32>, done: &Quiesced, dst: &mut [u8]) {
    let _ = word.complete(done, 4, dst);
}

fn main() {}
