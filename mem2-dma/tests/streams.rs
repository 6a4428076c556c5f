//! The fuzzer's target, with streams from a seed: so much of it runs with every test, and on big-endian PowerPC.
//!
//! `MEM2_DMA_STREAMS=100000 cargo test --release -p mem2-dma --test streams` runs more of them; `cargo fuzz run stream` in `mem2-dma` hunts.

mod common;
mod stream;

#[test]
fn every_stream_is_carried_out_as_the_second_allocator_does() {
    let streams = std::env::var("MEM2_DMA_STREAMS").map_or(150, |count| count.parse().unwrap());
    let mut random = common::Random(0x0BAD_5EED);
    for _ in 0..streams {
        let len = 3 + random.below(3000) as usize;
        stream::run(&random.bytes(len));
    }
}

#[test]
fn a_stream_may_end_anywhere() {
    let whole = common::Random(7).bytes(64);
    for len in 0..whole.len() {
        stream::run(&whole[..len]);
    }
}
