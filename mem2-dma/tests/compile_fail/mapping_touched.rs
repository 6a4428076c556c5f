//! What a device owns cannot be read.
use mem2_dma::{FromDevice, Mapping};

fn misuse(mapping: Mapping<FromDevice>) -> u8 {
    mapping[0]
}

fn main() {}
