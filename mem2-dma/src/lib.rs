//! DMA bounce pools: bookkeeping apart from address translation and from pool memory.
#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod addr;
mod buffer;
mod coherent;
mod constraints;
mod copy;
mod device;
mod direction;
mod error;
mod lock;
mod mapping;
mod pool;
mod provider;
mod quarantine;
mod scatter;
mod slots;
mod stats;
mod storage;
mod table;
mod wait;

pub use addr::BusAddr;
pub use buffer::{DmaBuffer, Lent, Refused};
pub use coherent::{Coherent, Layout, Le32};
pub use constraints::{Constraints, Extent, place};
pub use device::Device;
pub use direction::{
    Bidirectional, DeviceReads, DeviceWrites, Direction, FromDevice, ToDevice, Way,
};
pub use error::Error;
pub use mapping::Mapping;
pub use pool::Pool;
pub use provider::*;
pub use quarantine::{Quarantine, Quiesced};
pub use scatter::Scatter;
pub use slots::{GROUP_SLOTS, Group};
pub use stats::Stats;
pub use storage::Storage;
pub use table::{BadHandle, Handle, LiveMapping, Owner, Placed, Record, Reserve, Table};

/// The examples of the read-me file are documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
