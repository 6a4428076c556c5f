//! Registers in the CPU's address space, and in which byte order they are.

use super::{REGISTER_SPACE, Registers};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use volatile_register::RW;

/// Byte order of a register file, as a CPU load sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ByteOrder {
    /// Bit 0 of the specification is in the byte at the highest address (Hollywood).
    Big,
    /// Bit 0 of the specification is in the byte at the lowest address (PCI).
    Little,
}

/// Why no controller was found at an address. Nothing has been written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ProbeError {
    /// The capability word reads as all ones or all zeros: no device answers, or access to it is denied.
    Absent {
        /// The word, in the CPU's byte order.
        word: u32,
    },
    /// The capability word is not one of EHCI in either byte order.
    NotEhci {
        /// The word, in the CPU's byte order.
        word: u32,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { word } => write!(
                f,
                "no controller answers: its first register reads {word:#010x}"
            ),
            Self::NotEhci { word } => write!(
                f,
                "not an EHCI controller: its first register reads {word:#010x}"
            ),
        }
    }
}

impl core::error::Error for ProbeError {}

impl ByteOrder {
    /// Deduces the byte order from a raw CPU load of the capability word.
    ///
    /// CAPLENGTH (bits 7:0) is at least 0x0C and a multiple of four, bits 15:8 are reserved as zero, and HCIVERSION
    /// (bits 31:16) is below 0x0200. Swapped, the last of these takes the place of CAPLENGTH and is too small for it, so
    /// that no word fits both orders (sections 2.2.1 and 2.2.2).
    ///
    /// # Errors
    ///
    /// [`ProbeError::Absent`] for a bus that nobody drives, [`ProbeError::NotEhci`] for any other word that cannot be
    /// EHCI's.
    pub const fn detect(word: u32) -> Result<Self, ProbeError> {
        const fn plausible(word: u32) -> bool {
            let length = word & 0xff;
            length >= 0x0c && length.is_multiple_of(4) && word & 0xff00 == 0 && word >> 16 < 0x0200
        }
        if word == 0 || word == u32::MAX {
            Err(ProbeError::Absent { word })
        } else if plausible(u32::from_be(word)) {
            Ok(Self::Big)
        } else if plausible(u32::from_le(word)) {
            Ok(Self::Little)
        } else {
            Err(ProbeError::NotEhci { word })
        }
    }

    const fn convert(self, value: u32) -> u32 {
        // Swapping is its own inverse, so that one function serves reads and writes.
        match self {
            Self::Big => u32::from_be(value),
            Self::Little => u32::from_le(value),
        }
    }
}

/// A register file in the CPU's address space, of either byte order.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: NonNull<[RW<u32>; REGISTER_SPACE / 4]>,
    order: ByteOrder,
}

impl Mmio {
    /// Finds a controller at `base` and its byte order, with one read and no write.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] when the first word is not EHCI's.
    ///
    /// # Safety
    ///
    /// `base` is 4-byte aligned and points to [`REGISTER_SPACE`] bytes that may be read and written as uncached device
    /// registers for as long as any copy of the returned value is used, and no other code drives the controller meanwhile.
    pub unsafe fn probe(base: NonNull<u32>) -> Result<Self, ProbeError> {
        // SAFETY: the caller vouches for the address.
        let word = unsafe { base.cast::<RW<u32>>().as_ref() }.read();
        let order = ByteOrder::detect(word)?;
        // SAFETY: as above.
        Ok(unsafe { Self::with_order(base, order) })
    }

    /// Takes a register file whose byte order is known.
    ///
    /// # Safety
    ///
    /// As for [`Mmio::probe`].
    pub const unsafe fn with_order(base: NonNull<u32>, order: ByteOrder) -> Self {
        Self {
            base: base.cast(),
            order,
        }
    }

    /// Returns the byte order.
    pub const fn order(&self) -> ByteOrder {
        self.order
    }

    fn cell(&self, offset: usize) -> Option<&RW<u32>> {
        // SAFETY: the constructor's caller vouches for the whole block; the cells inside allow shared volatile access.
        unsafe { self.base.as_ref() }.get(offset / 4)
    }
}

impl Registers for Mmio {
    fn read(&self, offset: usize) -> u32 {
        // On PowerPC these fences are `sync`: stores to descriptors reach memory before the access, and what is read
        // from memory afterwards is no older than the register.
        fence(Ordering::SeqCst);
        let value = self
            .cell(offset)
            .map_or(u32::MAX, |cell| self.order.convert(cell.read()));
        fence(Ordering::SeqCst);
        value
    }

    fn write(&self, offset: usize, value: u32) {
        fence(Ordering::SeqCst);
        if let Some(cell) = self.cell(offset) {
            // SAFETY: the constructor's caller gave the controller to this driver; the driver's callers see to it that
            // every address written to a register is one of DMA memory.
            unsafe { cell.write(self.order.convert(value)) }
        }
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_deduced_from_the_bytes_of_the_capability_word() {
        // Wii, CAPLENGTH 0x10; QEMU, CAPLENGTH 0x20; AMD SB700, CAPLENGTH 0x20, version 1.1.
        assert_eq!(
            ByteOrder::detect(u32::from_ne_bytes([0x01, 0x00, 0x00, 0x10])),
            Ok(ByteOrder::Big)
        );
        assert_eq!(
            ByteOrder::detect(u32::from_ne_bytes([0x20, 0x00, 0x00, 0x01])),
            Ok(ByteOrder::Little)
        );
        assert_eq!(
            ByteOrder::detect(u32::from_ne_bytes([0x20, 0x00, 0x10, 0x01])),
            Ok(ByteOrder::Little)
        );
    }

    #[test]
    fn an_undriven_bus_is_absent_and_any_other_word_is_not_ehci() {
        for word in [0, u32::MAX] {
            assert_eq!(ByteOrder::detect(word), Err(ProbeError::Absent { word }));
        }
        for bytes in [
            [0x08, 0, 0, 1],
            [0x21, 0, 0, 1],
            [0x20, 1, 0, 1],
            [0x20, 0, 0, 2],
            [1, 0, 1, 0x10],
        ] {
            let word = u32::from_ne_bytes(bytes);
            assert_eq!(ByteOrder::detect(word), Err(ProbeError::NotEhci { word }));
        }
    }

    #[test]
    fn mmio_writes_the_bytes_of_its_order() {
        let mut file = [0u32; REGISTER_SPACE / 4];
        for (order, bytes) in [
            (ByteOrder::Big, [0x12, 0x34, 0x56, 0x78]),
            (ByteOrder::Little, [0x78, 0x56, 0x34, 0x12]),
        ] {
            // SAFETY: the block is a local array that outlives the value.
            let mmio = unsafe { Mmio::with_order(NonNull::from(&mut file).cast(), order) };
            mmio.write(0x20, 0x1234_5678);
            assert_eq!(mmio.read(0x20), 0x1234_5678);
            assert_eq!(file[8].to_ne_bytes(), bytes);
        }
    }

    #[test]
    fn mmio_beyond_its_block_reads_as_an_undriven_bus() {
        let mut file = [0u32; REGISTER_SPACE / 4];
        // SAFETY: as above.
        let mmio = unsafe { Mmio::with_order(NonNull::from(&mut file).cast(), ByteOrder::Big) };
        mmio.write(REGISTER_SPACE, 1);
        assert_eq!(mmio.read(REGISTER_SPACE), u32::MAX);
        assert_eq!(file, [0; REGISTER_SPACE / 4]);
    }
}
