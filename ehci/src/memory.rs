//! What the driver asks of DMA memory: one block for descriptors, and buffers for data.
//!
//! The driver never sees a caller's address: every byte that the controller touches lies in memory that these traits
//! handed out, and stays with the driver until the controller has let go of it.

use core::fmt;

/// Uncached or snooped memory that CPU and controller see alike, for descriptors.
///
/// The driver accesses it in aligned 32-bit words only, because Hollywood corrupts narrower stores to uncached memory
/// (hardware notes, section 2). Words are little-endian in memory on every machine (hardware notes, section 3.3);
/// `load` and `store` convert. Accesses are volatile. Barriers are the driver's business.
pub trait Coherent {
    /// Returns the controller's address of the first byte.
    fn bus_address(&self) -> u32;

    /// Returns the size in bytes.
    fn size(&self) -> usize;

    /// Loads the little-endian word at a byte offset, a multiple of four below [`Coherent::size`].
    fn load(&self, offset: usize) -> u32;

    /// Stores a word as little-endian at a byte offset, a multiple of four below [`Coherent::size`].
    fn store(&self, offset: usize, value: u32);

    /// Stores eight words in a row, as [`Coherent::store`]: a descriptor at once.
    fn store_row(&self, offset: usize, values: &[u32; 8]) {
        for (index, &value) in values.iter().enumerate() {
            self.store(offset + 4 * index, value);
        }
    }
}

/// Memory of a transfer's data that the controller may own, until it is dropped.
///
/// The bytes are contiguous on the bus. Dropping the buffer frees the memory, so the driver holds on to it until the
/// controller cannot touch it any more.
pub trait Buffer {
    /// Returns the controller's address of the first byte, aligned to 32.
    fn bus_address(&self) -> u32;

    /// Returns the length of the data in bytes.
    fn size(&self) -> usize;

    /// Copies the `into.len()` bytes from `offset` on, which the device delivered, into `into`.
    ///
    /// Only after the controller has let go of the buffer. What lies past [`Buffer::size`] is not copied. Makes the CPU see
    /// what the device wrote before copying.
    fn copy_from(&mut self, offset: usize, into: &mut [u8]);

    /// Copies the first `into.len()` bytes that the device delivered into `into`. See [`Buffer::copy_from`].
    fn copy_received(&mut self, into: &mut [u8]) {
        self.copy_from(0, into);
    }
}

/// A provider of DMA memory.
///
/// # Implementation safety
///
/// What the methods hand out is valid, at its bus address and for its size, for the controller to read and to write, and used
/// by nothing else until it is dropped. A forgotten value's memory is never used again. `Coherent` accesses are those of
/// the memory at its bus address.
///
/// # Safety
///
/// See above: the driver makes a device write to these addresses.
pub unsafe trait Dma {
    /// Descriptor memory.
    type Coherent: Coherent;
    /// Data memory.
    type Buffer: Buffer;

    /// Allocates zeroed descriptor memory whose bus address is a multiple of 4096.
    ///
    /// # Errors
    ///
    /// When there is no such memory.
    fn coherent(&self, size: usize) -> Result<Self::Coherent, NoMemory>;

    /// Makes a copy of `data` ready for the device to read.
    ///
    /// # Errors
    ///
    /// When no buffer of this size is free.
    fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, NoMemory>;

    /// Makes room for `size` bytes ready for the device to write.
    ///
    /// # Errors
    ///
    /// When no buffer of this size is free.
    fn incoming(&self, size: usize) -> Result<Self::Buffer, NoMemory>;
}

// SAFETY: the provider behind the reference keeps the promise.
unsafe impl<D: Dma + ?Sized> Dma for &D {
    type Coherent = D::Coherent;
    type Buffer = D::Buffer;

    fn coherent(&self, size: usize) -> Result<Self::Coherent, NoMemory> {
        (**self).coherent(size)
    }

    fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, NoMemory> {
        (**self).outgoing(data)
    }

    fn incoming(&self, size: usize) -> Result<Self::Buffer, NoMemory> {
        (**self).incoming(size)
    }
}

/// DMA memory of the requested size was not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoMemory {
    /// Bytes asked for.
    pub size: usize,
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no DMA memory for {} bytes", self.size)
    }
}

impl core::error::Error for NoMemory {}
