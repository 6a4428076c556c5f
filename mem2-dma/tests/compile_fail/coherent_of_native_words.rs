//! What a device shares has its byte order in its type.
use mem2_dma::{Coherent, Device, Error};

fn misuse<'p>(device: &Device<'p>) -> Result<Coherent<'p, u32>, Error> {
    device.coherent(32)
}

fn main() {}
