//! DMA bounce pools: bookkeeping apart from address translation and from pool memory.
//!
//! The idea is that of Linux's swiotlb 0.8.2: one core keeps books on slots and knows nothing of addresses; pool memory is handed in from outside; whoever has
//! the memory says what the bus calls it. A driver maps a slice, gives the address to its device, and gets back what the device delivered, no byte more.
//!
//! # Architecture
//! ```text
//!  Device: what one device demands          Mapping, Scatter   bounced: copied in, copied out
//!     |    of addresses                     DmaBuffer, Lent    direct: lent, never copied
//!     v                                     Coherent           shared for good
//!  Pool: one lock around the books              |
//!     |                                         v
//!     |                                     Provider           memory, addresses, caches:
//!     v                                     Identity, Offset, Machine, Mem2
//!  Table: which mapping has which slots
//!     |
//!     v
//!  slots: which slots are free
//! ```
//! The two lowest layers contain no `unsafe`, allocate nothing and do no I/O. [`Table`] can be used by itself. Copies and cache operations happen outside the
//! lock.
//!
//! Placement is exact: a request is refused only if nothing fits, and the error says which of length, room, runs, window or records is the cause. The
//! number of steps does not depend on the pool's history. A slot costs 1.5 bits and a mapping 16 bytes on 32-bit machines.
//!
//! # Ownership
//! A slice is borrowed for the length of a call, never while the device works. Once its address was given away, a mapping is freed by a proof only
//! ([`Quiesced`]): dropped, cancelled or forgotten, it is quarantined, and its slots are nobody else's until the driver knows that the device has let go.
//!
//! # The words of the original
//! | swiotlb 0.8.2 | here |
//! |---|---|
//! | `swiotlb_init_with_tbl` | [`Pool::new`] with a [`Provider`] and a [`Storage`]; [`Table::new`] |
//! | `swiotlb_tbl_map_single` | [`Table::map_single`]; with addresses and copies [`Device::map_to_device`], [`Device::map_from_device`], [`Device::map_bidirectional`] |
//! | `swiotlb_tbl_unmap_single` | [`Table::unmap_single`]; with the copy [`Mapping::complete`], without [`Mapping::discard`] |
//! | `swiotlb_tbl_sync_single`, `SYNC_FOR_CPU` and `SYNC_FOR_DEVICE` | [`Mapping::sync_for_cpu`], [`Mapping::sync_for_device`] |
//! | `map_sg` | [`Device::scatter_to_device`], [`Device::scatter_from_device`] |
//! | `alloc_coherent` | [`Device::coherent`] |
//! | `enum dma_data_direction` | [`ToDevice`], [`FromDevice`], [`Bidirectional`] as types, [`Direction`] as a value |
//! | `dma_get_seg_boundary`, `dma_capable` | [`Constraints`] |
//! | `swiotlb_print_info`, `swiotlb_nr_tbl` | [`Pool::stats`], which prints; [`Pool::for_each_live`] for leaks |
//! | overflow buffer, panic when full | an [`Error`], or waiting: [`Device::wait_to_device`] |
//!
//! # What is checked
//! The kernel's DMA debugging knows 23 mistakes. Here most of them cannot be written down, and the rest is always looked for.
//!
//! | | mistake | here |
//! |---|---|---|
//! | 1 | an area that is no memory | unrepresentable: callers hand in slices |
//! | 2 | memory that is not contiguous behind its addresses | unrepresentable: devices see the pool only |
//! | 3 | memory on the stack | harmless: it is copied within the call |
//! | 4 | program text | harmless for reading, unrepresentable for writing (`&mut`) |
//! | 5 | two mappings in a cache line | unrepresentable: slots are whole lines |
//! | 6 | mappings of one line piling up | as 5; forgotten ones are found by [`Pool::for_each_live`] |
//! | 7 | a segment longer than the device's | checked: [`Error::TooLarge`]; [`Scatter`] splits |
//! | 8 | a segment across the device's boundary | checked: never placed so |
//! | 9 | the error's address is freed | unrepresentable: an error is no mapping |
//! | 10 | freed twice, or never mapped | unrepresentable: freeing consumes; in a [`Table`] checked: [`BadHandle::Stale`] |
//! | 11 | freed with another size | unrepresentable: the size is in the books |
//! | 12 | freed by the wrong function | unrepresentable: each kind has its own |
//! | 13 | freed with another CPU address | unrepresentable |
//! | 14 | freed with another number of segments | unrepresentable |
//! | 15 | freed in another direction | unrepresentable: the direction is a type |
//! | 16 | mapping error not looked at | unrepresentable: `Result` |
//! | 17 | synchronised after freeing | unrepresentable; after a reset checked: [`Error::Stale`] |
//! | 18 | synchronised outside the mapping | checked: [`Error::OutOfRange`] |
//! | 19 | synchronised in another direction | unrepresentable |
//! | 20 | for the CPU what the device only reads | unrepresentable: [`DeviceWrites`] |
//! | 21 | for the device what it only writes | unrepresentable: [`DeviceReads`] |
//! | 22 | synchronised with another number of segments | unrepresentable |
//! | 23 | a driver leaves mappings behind | checked: [`Pool::for_each_live`] names the line that made each |
//!
//! Beyond these: a device that claims more bytes than it was given ([`Error::Overrun`]), and a handle of another table ([`BadHandle::Foreign`]).
//!
//! # Providers
//! Each has an example: [`Identity`] (the bus uses the CPU's addresses), [`Offset`] (it adds a constant), [`Machine`] (page frames, exchanged with a
//! hypervisor for contiguous ones), and `Mem2` with the feature `mem2` (the Wii's).
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
pub use slots::{GROUP_SLOTS, GROUP_WORDS};
pub use stats::Stats;
pub use storage::Storage;
pub use table::{BadHandle, Handle, LiveMapping, Owner, Placed, Record, Reserve, Table};

/// The examples of the read-me file are documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
