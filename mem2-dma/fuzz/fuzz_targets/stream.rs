//! Hunts for streams of commands on which the table and the second allocator disagree.
#![no_main]

#[path = "../../tests/stream/mod.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stream::run(data));
