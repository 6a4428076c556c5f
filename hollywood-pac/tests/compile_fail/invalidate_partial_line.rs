//! Bytes are not whole cache lines: invalidating them would destroy what their neighbours wrote.
use hollywood_pac::cache;

fn main() {
    let mut buffer = [0u8; 100];
    cache::invalidate(&mut buffer[3..40]);
}
