//! Everything that can be refused, with the facts that tell why.

use core::fmt;

use crate::BusAddr;

/// Why the library refused. All lengths are in bytes. Nothing has changed when a call returns an error, unless its documentation says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error {
    /// A mapping of zero bytes has no address.
    Empty,
    /// Not even the empty pool could hold the request under the device's constraints.
    TooLarge {
        /// Bytes asked for.
        len: usize,
        /// The largest request that the device can ever be granted.
        max: usize,
    },
    /// Enough slots are free, but no run of them suits.
    Fragmented {
        /// Bytes asked for.
        len: usize,
        /// The largest run of free slots. At least `len` if only the device's constraints stand in the way.
        largest_run: usize,
    },
    /// Fewer slots are free than the request needs.
    Exhausted {
        /// Bytes asked for.
        len: usize,
        /// Bytes free.
        free: usize,
    },
    /// Every record for a live mapping is taken (those kept for the reserve excepted).
    TooManyLive {
        /// How many mappings are live or quarantined.
        live: usize,
    },
    /// No part of the pool lies in the device's window.
    Unreachable {
        /// Where the pool starts.
        pool: BusAddr,
    },
    /// An address or a size is not a multiple of what it must be.
    Misaligned {
        /// The address or size.
        value: usize,
        /// What it must be a multiple of.
        align: usize,
    },
    /// Constraints contradict themselves: a power of two is not one, or the window is empty.
    BadConstraints,
    /// A range reaches past the end of its mapping.
    OutOfRange {
        /// First byte of the range.
        offset: usize,
        /// Bytes in the range.
        len: usize,
        /// Bytes in the mapping.
        size: usize,
    },
    /// The device claims to have written more than it was given. Nothing was copied.
    Overrun {
        /// Bytes that the device claims.
        received: usize,
        /// Bytes that it was given.
        len: usize,
    },
    /// The destination cannot take what was received. Nothing was copied.
    ShortDestination {
        /// Bytes received.
        received: usize,
        /// Bytes of room in the destination.
        room: usize,
    },
    /// The handle belongs to a mapping that has been freed already.
    Stale,
    /// The handle belongs to another pool.
    Foreign,
    /// The memory handed in is too small for a single slot, or the storage for its bookkeeping is.
    NoRoom {
        /// Bytes of pool memory.
        memory: usize,
        /// Slots that the storage has room for.
        slots: usize,
    },
    /// The pool's memory takes 32-bit stores only, so bytes of it cannot be lent to the CPU.
    WordsOnly,
    /// Every device identity (or every place in the waiting line, or every segment of a scatter list) is taken.
    TooMany {
        /// How many there are.
        max: usize,
    },
    /// The hypervisor would not make the pool's memory contiguous.
    NotExchanged {
        /// Address bits of the last attempt.
        address_bits: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("a mapping of zero bytes was asked for"),
            Self::TooLarge { len, max } => {
                write!(f, "{len} bytes asked for, at most {max} can ever be mapped")
            }
            Self::Fragmented { len, largest_run } => {
                write!(
                    f,
                    "{len} bytes asked for, no run suits; the largest has {largest_run}"
                )
            }
            Self::Exhausted { len, free } => write!(f, "{len} bytes asked for, {free} free"),
            Self::TooManyLive { live } => write!(f, "no record left: {live} mappings live"),
            Self::Unreachable { pool } => {
                write!(f, "the device cannot reach the pool at {pool}")
            }
            Self::Misaligned { value, align } => {
                write!(f, "{value:#x} is not a multiple of {align}")
            }
            Self::BadConstraints => f.write_str("the device's constraints contradict themselves"),
            Self::OutOfRange { offset, len, size } => {
                write!(f, "{len} bytes at {offset} reach past a mapping of {size}")
            }
            Self::Overrun { received, len } => {
                write!(
                    f,
                    "the device claims {received} bytes of a mapping of {len}"
                )
            }
            Self::ShortDestination { received, room } => {
                write!(f, "{received} bytes received, room for {room}")
            }
            Self::Stale => f.write_str("the mapping has been freed already"),
            Self::Foreign => f.write_str("the mapping belongs to another pool"),
            Self::NoRoom { memory, slots } => {
                write!(
                    f,
                    "{memory} bytes of memory and storage for {slots} slots make no pool"
                )
            }
            Self::WordsOnly => f.write_str("this pool's memory takes 32-bit stores only"),
            Self::TooMany { max } => write!(f, "all {max} are taken"),
            Self::NotExchanged { address_bits } => {
                write!(f, "no contiguous memory below 2^{address_bits}")
            }
        }
    }
}

impl core::error::Error for Error {}
