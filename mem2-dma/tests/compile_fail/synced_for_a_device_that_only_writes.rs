//! A device that only writes has no use for the CPU's bytes.
use mem2_dma::{FromDevice, Mapping};

fn misuse(mut mapping: Mapping<FromDevice>, data: &[u8]) {
    let _ = mapping.sync_for_device(0, data);
}

fn main() {}
