//! Registers, addresses and CPU primitives of the Nintendo Wii.
#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod macros;

pub mod addr;
pub mod cache;
pub mod cpu;
pub mod delay;
pub mod exi;
pub mod gecko;
pub mod lowmem;
pub mod reg;
