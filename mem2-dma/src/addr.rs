//! Bus addresses: what a device, not the CPU, calls a byte.

use core::fmt;

/// An address as a device on the bus sees it.
///
/// A CPU pointer never converts into one by itself: only a [`Translate`](crate::Translate) implementation knows the way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct BusAddr(u32);

impl BusAddr {
    /// Wraps a raw bus address.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// Returns the raw address, as a descriptor or a register wants it.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the address `bytes` further on, or `None` past the end of the bus.
    pub const fn checked_add(self, bytes: u32) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// Returns whether the address is a multiple of `align` bytes (a power of two).
    pub const fn is_aligned(self, align: u32) -> bool {
        self.0 & align.wrapping_sub(1) == 0
    }
}

impl fmt::Debug for BusAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bus {:#010x}", self.0)
    }
}

impl fmt::Display for BusAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for BusAddr {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "bus {=u32:#010x}", self.0)
    }
}
