//! A buffer that was lent is gone until it is reclaimed.
use mem2_dma::DmaBuffer;

fn misuse(mut buffer: DmaBuffer) {
    let _lent = buffer.lend_to_device(512);
    buffer[0] = 1;
}

fn main() {}
