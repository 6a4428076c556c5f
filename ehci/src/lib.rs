//! EHCI (USB 2.0) host controller driver for any `no_std` Rust, first on a Wii.
//!
//! - No allocator, no executor of its own, no panics on anything that a device, a controller or a caller does.
//! - Registers of either byte order; descriptors little-endian on every machine.
//! - Every byte that the controller touches lies in memory from a [provider](memory::Dma): a bounce pool ([`Bounce`]) or
//!   buffers that lie in it and are not copied. A caller's slice is never given to the controller, so that dropping, or even
//!   forgetting, a transfer is sound; what the controller may still touch is kept until it has provably let go.
//! - Control, bulk, interrupt and isochronous transfers, at high speed and through the transaction translators of hubs.
//! - Transfers are queued, several on a pipe; use them [polled](Ehci), as [futures](Host), asleep between
//!   [interrupts](Interrupt), or through the embassy USB host traits (feature `embassy`).
//! - Every wait has a bound, every failure a cause: stall, babble, transaction error after 32 retries, timeout, unplugged,
//!   controller failed; and the endpoint, the port or the controller can be used again afterwards.
//!
//! Section numbers in the documentation are those of the EHCI specification, revision 1.0, unless they name another document;
//! "hardware notes" are the project's collected facts about the Wii.
//!
//! # Layers
//!
//! | module | knows |
//! |---|---|
//! | [`registers`] | 32-bit access in either byte order, every bit of every register |
//! | [`layout`] | queue heads, qTDs, iTDs, siTDs, frame list as little-endian words |
//! | [`schedule`] | the asynchronous ring, the frame list and its tree, chains of qTDs, isochronous packets: memory logic only |
//! | [`port`] | a root port as a state machine |
//! | [`Ehci`] | take-over, transfers, recovery, watchdogs; moved on by [`Ehci::poll`] |
//! | [`Host`] | the same as futures, for the tasks of one thread |
//! | `embassy` | embassy-usb-host's enumeration and class drivers on top |
//!
//! # A PCI controller on any board
//!
//! The board has mapped the controller's registers and switched bus mastering on. Its devices snoop the CPU's caches, and the
//! bus uses the CPU's addresses; [`mem2_dma`] has providers for machines where either is not so.
//!
//! ```no_run
//! use core::ptr::NonNull;
//! use ehci::registers::Mmio;
//! use ehci::{Bounce, Ehci, Endpoint, Kind, Platform, PortChange, Speed};
//! use ehci::memory::{Buffer, Dma};
//! use mem2_dma::{Constraints, Identity, Pool, Storage};
//!
//! # fn timer_us() -> u64 { 0 }
//! # fn read_pci_config(offset: u8) -> u32 { 0 }
//! # fn write_pci_config(offset: u8, value: u32) {}
//! # fn print(text: &[u8]) {}
//! struct Board;
//!
//! impl Platform for Board {
//!     fn now_us(&self) -> u64 {
//!         timer_us()
//!     }
//!     // For the hand-off from a BIOS; boards without one leave these two out.
//!     fn read_config(&self, offset: u8) -> Option<u32> {
//!         Some(read_pci_config(offset))
//!     }
//!     fn write_config(&self, offset: u8, value: u32) {
//!         write_pci_config(offset, value)
//!     }
//! }
//!
//! fn first_device(bar0: NonNull<u32>, memory: &mut [u8]) -> Result<(), Box<dyn core::error::Error>> {
//!     let provider = Identity::new(memory)?;
//!     let mut storage = Storage::<16, 64>::new(); // 1 MiB in slots of 512 bytes
//!     let pool: Pool = Pool::new(&provider, &mut storage)?;
//!     let dma = Bounce::new(&pool, Constraints::NONE.align(32))?;
//!
//!     // SAFETY: these are the controller's registers, and nobody else drives it.
//!     let registers = unsafe { Mmio::probe(bar0)? };
//!     let mut ehci = Ehci::new(registers, dma, Board)?;
//!     ehci.start()?;
//!
//!     // Wait for a device, and reset it: it then answers at address zero.
//!     let port = loop {
//!         ehci.poll();
//!         match ehci.take_port_event() {
//!             Some(event) if event.change == PortChange::Attached => _ = ehci.reset_port(event.port),
//!             Some(event) if event.change == PortChange::Enabled => break event.port,
//!             _ => {}
//!         }
//!     };
//!
//!     // Ask for its device descriptor.
//!     let pipe = ehci.open(&Endpoint {
//!         address: 0,
//!         number: 0,
//!         kind: Kind::Control,
//!         speed: Speed::High,
//!         max_packet: 64,
//!         interval: 0,
//!         translator: None,
//!         root_port: Some(port),
//!     })?;
//!     let get_descriptor = [0x80, 6, 0, 1, 0, 0, 18, 0];
//!     let buffer = ehci.dma().incoming(18)?;
//!     let transfer = ehci
//!         .control(pipe, get_descriptor, Some(buffer), Some(500_000))
//!         .map_err(|rejected| rejected.error)?;
//!     let end = loop {
//!         ehci.poll();
//!         if let Some(end) = ehci.take(transfer) {
//!             break end;
//!         }
//!     };
//!     end.status?;
//!     let mut descriptor = [0; 18];
//!     if let Some(mut buffer) = end.buffer {
//!         buffer.copy_received(&mut descriptor[..end.bytes]);
//!     }
//!     print(&descriptor[..end.bytes]);
//!     ehci.stop()?;
//!     Ok(())
//! }
//! ```
//!
//! # On a Wii
//!
//! The registers are big-endian words at 0xCD04_0000, which [`Mmio::probe`](registers::Mmio::probe) finds out by itself; the
//! pool lies in MEM2 (`mem2_dma::Mem2`), the only memory that the controller can be trusted with. For interrupts, call
//! [`platform::hollywood::enable_interrupt`] from [`Platform::prepare`]; and let [`Platform::serves_port`] leave port 2,
//! the internal Bluetooth device, to the companion (hardware notes, sections 3.4 and 3.6).
//!
//! # Isochronous streams
//!
//! [`Ehci::open_stream`] gives an isochronous endpoint its share of the bus, [`Ehci::submit_batch`] queues up to eight packets
//! with a size each, [`Ehci::take_batch`] says what came of each of them; or [`Host::submit_batch`] as a future. Submit the next
//! batch before the last one ends, and its packets follow without a gap.
//!
//! # What it does in its own way
//!
//! Split transactions of interrupt and isochronous endpoints begin early enough in a frame to complete in it. The schedule thus
//! needs neither frame span traversal nodes (FSTN) nor back pointers between siTDs; [`layout`] has both. Full-speed isochronous
//! endpoints with packets of more than 940 bytes get no complete-split to spare.
//!
//! What a given up split transaction leaves in a hub's transaction translator is for whoever talks to the hub to clear: see
//! [`Ehci::translator_to_clear`]. The embassy adapter does it by itself.
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
mod stream;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transfer;
mod translator;

pub use bounce::{Bounce, Bounced, Descriptors};
pub use controller::{Ehci, PortEvent, State, Statistics};
pub use endpoint::{Direction, Endpoint, Kind, Translator};
pub use error::{OpenError, StartError, SubmitError, TransferError};
pub use host::{Host, Packets, Transfer};
pub use interrupt::Interrupt;
pub use pipe::PipeId;
pub use platform::Platform;
pub use port::{PortChange, Speed};
pub use stream::{BATCHES, Batch, BatchId, PACKETS, Packet, STREAMS, Sizes, StreamId};
pub use transfer::{Completion, Part, Rejected, Request, TransferId};
pub use translator::TranslatorClear;

/// Queue heads, two of which belong to the schedules: as many pipes less two.
pub const QUEUE_HEADS: usize = 32;
/// Transfer descriptors, one of which each open pipe keeps.
pub const QTDS: usize = 128;
/// Isochronous descriptors: each serves an endpoint for one frame.
pub const ITDS: usize = 64;
/// Transfers at a time, isochronous ones aside.
pub const TRANSFERS: usize = 32;

/// The examples of the read-me file are documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
