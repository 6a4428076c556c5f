//! A reset frees what devices may hold, so it takes a promise.
use mem2_dma::Device;

fn misuse(device: &Device) -> usize {
    device.reset()
}

fn main() {}
