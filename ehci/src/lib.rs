//! EHCI host controller driver.
#![cfg_attr(not(test), no_std)]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod bounce;
mod controller;
#[cfg(feature = "embassy")]
pub mod embassy;
pub mod endpoint;
mod error;
mod host;
mod interrupt;
pub mod layout;
pub mod memory;
mod periodic;
mod pipe;
pub mod platform;
mod poll;
pub mod port;
pub mod registers;
pub mod schedule;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transfer;

pub use bounce::{Bounce, Bounced, Descriptors};
pub use controller::{Ehci, PortEvent, State, Statistics};
pub use endpoint::{Direction, Endpoint, Kind, Translator};
pub use error::{OpenError, StartError, SubmitError, TransferError};
pub use host::{Host, Transfer};
pub use interrupt::Interrupt;
pub use pipe::PipeId;
pub use platform::Platform;
pub use port::{PortChange, Speed};
pub use transfer::{Completion, Part, Rejected, Request, TransferId};

/// Queue heads, two of which belong to the schedules: as many pipes less two.
pub const QUEUE_HEADS: usize = 32;
/// Transfer descriptors, one of which each open pipe keeps.
pub const QTDS: usize = 128;
/// Transfers at a time.
pub const TRANSFERS: usize = 32;
