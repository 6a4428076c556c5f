//! A proof is made by a promise, and a promise is unsafe.
use mem2_dma::Quiesced;

fn misuse() -> Quiesced {
    Quiesced::assert()
}

fn main() {}
