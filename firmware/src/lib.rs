//! The Homebrew Channel program: everything but the entry point.
#![no_std]
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod fmt;

pub mod arguments;
pub mod attended;
pub mod block;
pub mod disk;
pub mod either;
pub mod exit;
pub mod experiment;
pub mod ios;
pub mod job;
pub mod last_log;
pub mod log_ring;
pub mod msc;
pub mod partition;
pub mod pattern;
pub mod report;
pub mod session;
pub mod sticks;
pub mod takeover;
#[cfg(test)]
mod testing;
pub mod ui;
pub mod video;
pub mod volume;
pub mod watch;
#[cfg(target_os = "none")]
pub mod wii;
