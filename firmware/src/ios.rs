//! IOS, the console's system software on the other processor: requests through its mailbox, and the devices behind it.
//!
//! [`Ipc`] is the driver. Every byte that IOS reads or writes lies in a pool of mem2-dma, in MEM2, 32-byte aligned and
//! alone in its cache lines; callers' slices are copied in and out, so they may lie anywhere. A request stays with the
//! driver until IOS has replied: a future that waits for it may be dropped at any time.
//!
//! ```text
//! caller's slice -> Request (mappings of the pool) -> Ipc (slots) -> Mailbox (registers) -> IOS
//!                     Reply (the same mappings)  <-                <-                    <-
//! ```
//!
//! Facts: hardware notes, sections 6.1 to 6.4.

mod driver;
mod error;
mod mailbox;
mod request;
pub mod stm;
pub mod ven;

pub use driver::{Ipc, Pending, Reply, SLOTS, Statistics};
pub use error::{IosError, code};
pub use mailbox::Mailbox;
pub use request::{Fd, MAX_BUFFERS, Output, Request, Whence};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
