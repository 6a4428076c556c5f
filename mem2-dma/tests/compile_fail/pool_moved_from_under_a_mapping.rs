//! A pool outlives its mappings.
use mem2_dma::{Constraints, Mapping, Pool, ToDevice};

fn misuse<'m>(pool: Pool<'m>) -> Option<Mapping<'m, ToDevice>> {
    pool.attach(Constraints::NONE).ok()?.map_to_device(b"hello").ok()
}

fn main() {}
