//! A host-side model of what emulators of the Wii leave out, for tests: mistakes that would only bite on a console fail a unit test.
//!
//! * [`Memory`]: MEM1 and MEM2 behind a cache, with the rules of DMA. Below.
//! * [`controller`]: the EHCI controller, which works on that memory.
//! * [`device`]: what is plugged into it, and what goes wrong with that.
//! * [`console`]: the controller in the hands of IOS, to be taken and given back.
//! * [`scenario`]: what a driver does to a controller, with no driver; for any controller.
//!
//! # The memory
//! As CPU and DMA masters see it. "Section" means the hardware notes'.
//!
//! * **RAM**: as much of MEM1 (from physical 0) and MEM2 (from `0x1000_0000`) as a test asks for. Everything else is [`Rule::OutsideRam`].
//! * **The data cache** in front of it: 32-byte lines that are valid or not, modified or not; a store that misses fetches its line.
//!   [`Memory::clean`], [`flush`](Memory::flush), [`invalidate`](Memory::invalidate), [`zero`](Memory::zero) and [`sync`](Memory::sync) are `dcbst`, `dcbf`,
//!   `dcbi`, `dcbz` and `sync` (section 7.2). They act on all lines that a range touches.
//! * **Two views**: through the cache ([`Memory::load`], [`Memory::store`], or a pointer: [`Memory::carve`]) and past it
//!   ([`Memory::uncached_load`], [`Memory::uncached_store32`] and its short siblings, or a pointer). A short store past the cache destroys its word (section 0, fact 5).
//! * **Devices** see RAM only: [`Memory::device_read`], [`Memory::device_write`]. The low five bits of a buffer's address are ignored (section 2.3);
//!   what is written into MEM1 loses its last partial word (section 2.8).
//! * **An [`Adversary`]** does what a cache is free to do, at random, at every device access and cache operation and at every [`Memory::step`]: it evicts
//!   lines, modified ones with write-back, and fills others by speculation. [`exhaustively`] tries all of its decisions instead.
//! * **Origins**: every byte of both views knows who wrote it ([`Origin`]). A device that reads bytes of another mapping, or bytes that nobody wrote, is
//!   reported. [`Memory::retire`] says that room was given back.
//! * **[`Rule`]s**, strict by default, each to be switched off by [`Rules::without`]. A broken one is a [`Violation`], which says which rule, where, whose
//!   byte, in which access, and from which line of the test. The cache rules do not depend on luck: a missing clean is reported although an eviction happened to
//!   write the line back in time.
//!
//! A [`Memory`] that is dropped with violations that nobody looked at panics.
//!
//! # What the memory is not
//! * The L2 cache (cache instructions act on both, section 7.2), sizes and sets of the caches: any line may be in the cache at any time.
//! * `sync` within [`mem2_dma::CacheOps`], which promise it; ordering of stores past the cache (`eieio`); Hollywood's own write buffers.
//! * What goes through pointers is noticed at the next look at its line, and loads not at all: stale data shows in what the test compares. A
//!   store of the value that was there is invisible; room that was given back holds [`POISON`], so tests that count on origins store other values. Short stores
//!   through a pointer past the cache are not noticed.
//! * What a short store past the cache really leaves in its word: here the word is filled with repetitions of what was stored.
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod adversary;
pub mod console;
pub mod controller;
mod cpu;
pub mod device;
mod dma;
mod line;
mod memory;
mod origin;
mod part;
mod provider;
mod rule;
pub mod scenario;

pub use adversary::{Adversary, Random, exhaustively};
pub use dma::{Buffer, HostSystemError};
pub use memory::{MEM1, MEM2, Memory, POISON};
pub use origin::Origin;
pub use rule::{Access, Descriptor, Rule, Rules, Structure, Violation};
