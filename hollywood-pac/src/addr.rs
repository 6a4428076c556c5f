//! Addresses: physical, bus, and the cached and uncached views of the CPU, as types that do not mix.
//!
//! The standard address map of a Wii program (hardware notes, sections 1.1 and 1.2) shows every physical address twice: memory
//! through the caches at `0x8000_0000 | physical`, and everything, registers included, past the caches at
//! `0xC000_0000 | physical`. A device knows neither view: it is given a [`BusAddr`].
//!
//! ```
//! use hollywood_pac::addr::{PhysAddr, Region};
//!
//! let buffer = PhysAddr::new(0x1000_4000);
//! assert_eq!(Region::of(buffer), Some(Region::Mem2));
//! assert_eq!(buffer.cached().unwrap().get(), 0x9000_4000);
//! assert_eq!(buffer.uncached().unwrap().get(), 0xD000_4000);
//! assert_eq!(buffer.to_bus().get(), 0x1000_4000);
//! ```

use core::fmt;
use core::ops::Range;

/// The two memories of a Wii.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Region {
    /// 24 MiB of 1T-SRAM at physical 0. USB and SD controllers cannot be trusted to write here (hardware notes, section 2).
    Mem1,
    /// 64 MiB of GDDR3 at physical `0x1000_0000`. IOS keeps the top; the low-memory globals say what is left
    /// ([`crate::lowmem`]).
    Mem2,
}

impl Region {
    /// Returns the physical address of the first byte.
    pub const fn start(self) -> PhysAddr {
        match self {
            Self::Mem1 => PhysAddr(0x0000_0000),
            Self::Mem2 => PhysAddr(0x1000_0000),
        }
    }

    /// Returns the size in bytes.
    pub const fn size(self) -> u32 {
        match self {
            Self::Mem1 => 0x0180_0000,
            Self::Mem2 => 0x0400_0000,
        }
    }

    /// Says whether the byte at `address` lies in this memory.
    pub const fn contains(self, address: PhysAddr) -> bool {
        address.0 >= self.start().0 && address.0 - self.start().0 < self.size()
    }

    /// Says whether all of the `bytes` bytes from `address` lie in this memory. An empty range does when its address does, or
    /// when it is the end of the memory.
    pub const fn contains_range(self, address: PhysAddr, bytes: u32) -> bool {
        address.0 >= self.start().0
            && address.0 - self.start().0 <= self.size()
            && bytes <= self.size() - (address.0 - self.start().0)
    }

    /// Returns the memory that holds the byte at `address`, if any does.
    pub const fn of(address: PhysAddr) -> Option<Self> {
        if Self::Mem1.contains(address) {
            Some(Self::Mem1)
        } else if Self::Mem2.contains(address) {
            Some(Self::Mem2)
        } else {
            None
        }
    }
}

/// Implements what all address types share. None is a pointer, and arithmetic is checked.
macro_rules! address {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            /// Returns the address as a number.
            pub const fn get(self) -> u32 {
                self.0
            }

            /// Says whether the address is a multiple of `alignment` bytes. No address is a multiple of 0.
            pub const fn is_aligned(self, alignment: u32) -> bool {
                alignment != 0 && self.0.is_multiple_of(alignment)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#010x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#010x}", self.0)
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=u32:#010x}", self.0);
            }
        }
    };
}

address! {
    /// A physical address: what the CPU puts on its bus after translation. It is no pointer; go through [`PhysAddr::cached`]
    /// or [`PhysAddr::uncached`].
    PhysAddr
}

address! {
    /// An address as a device's DMA engine sees it. Hollywood's masters use physical addresses unchanged.
    BusAddr
}

address! {
    /// An address in the CPU's view of memory through the caches: `0x8000_0000` (MEM1) and `0x9000_0000` (MEM2).
    CachedAddr
}

address! {
    /// An address in the CPU's view past the caches: `0xC000_0000` (MEM1), `0xCC00_0000` and `0xCD00_0000` (registers),
    /// `0xD000_0000` (MEM2).
    ///
    /// Stores to memory through this view must be 32 bits wide and aligned: the byte-enable lines are not connected, so that a
    /// shorter store destroys its neighbours (hardware notes, section 0, fact 5).
    UncachedAddr
}

/// First address of the cached view.
const CACHED: u32 = 0x8000_0000;
/// First address of the uncached view.
const UNCACHED: u32 = 0xC000_0000;
/// Both views are two BATs of 256 MiB each.
const VIEW_SIZE: u32 = 0x2000_0000;

impl PhysAddr {
    /// Names the physical address `address`.
    pub const fn new(address: u32) -> Self {
        Self(address)
    }

    /// Translates an address of the CPU, taken from a pointer, through the two views.
    ///
    /// Returns `None` for anything outside them: on a Wii that is also the stack, which the firmware maps by a BAT of its own.
    pub const fn from_virtual(address: u32) -> Option<Self> {
        match address {
            0x8000_0000..=0x9FFF_FFFF => Some(Self(address - CACHED)),
            0xC000_0000..=0xDFFF_FFFF => Some(Self(address - UNCACHED)),
            _ => None,
        }
    }

    /// Translates a pointer through the two views, as [`PhysAddr::from_virtual`] does. Always `None` for a pointer that does
    /// not fit in 32 bits, so on most hosts.
    pub fn from_ptr<T: ?Sized>(pointer: *const T) -> Option<Self> {
        Self::from_virtual(u32::try_from(pointer.addr()).ok()?)
    }

    /// Returns the cached view of this address, or `None` where there is no memory: registers must never be cached.
    pub const fn cached(self) -> Option<CachedAddr> {
        match Region::of(self) {
            Some(_) => Some(CachedAddr(self.0 | CACHED)),
            None => None,
        }
    }

    /// Returns the uncached view of this address, or `None` beyond the 512 MiB that the view covers.
    pub const fn uncached(self) -> Option<UncachedAddr> {
        if self.0 < VIEW_SIZE {
            Some(UncachedAddr(self.0 | UNCACHED))
        } else {
            None
        }
    }

    /// Returns the address that a device uses for the same byte.
    pub const fn to_bus(self) -> BusAddr {
        BusAddr(self.0)
    }

    /// Adds `bytes`, unless that runs over the end of the address space.
    pub const fn checked_add(self, bytes: u32) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// Returns how many bytes `self` lies after `earlier`, or `None` if it lies before it.
    pub const fn offset_from(self, earlier: Self) -> Option<u32> {
        self.0.checked_sub(earlier.0)
    }
}

impl BusAddr {
    /// Names the bus address `address`, as read back from a device.
    pub const fn new(address: u32) -> Self {
        Self(address)
    }

    /// Returns the physical address of the same byte.
    pub const fn to_phys(self) -> PhysAddr {
        PhysAddr(self.0)
    }
}

impl CachedAddr {
    /// Checks that `address` is memory in the cached view.
    pub const fn new(address: u32) -> Option<Self> {
        match address {
            0x8000_0000..=0x9FFF_FFFF => PhysAddr(address - CACHED).cached(),
            _ => None,
        }
    }

    /// Returns the physical address of the same byte.
    pub const fn to_phys(self) -> PhysAddr {
        PhysAddr(self.0 - CACHED)
    }

    /// Returns the uncached view of the same byte.
    ///
    /// Never use both views of one cache line at a time: flush the line first ([`crate::cache::flush`]).
    pub const fn to_uncached(self) -> UncachedAddr {
        UncachedAddr(self.0 - CACHED + UNCACHED)
    }

    /// Returns the address as a pointer. It is valid only on a Wii, under the standard address map.
    pub fn as_ptr<T>(self) -> *mut T {
        core::ptr::with_exposed_provenance_mut(self.0 as usize)
    }
}

impl UncachedAddr {
    /// Checks that `address` lies in the uncached view.
    pub const fn new(address: u32) -> Option<Self> {
        match address {
            0xC000_0000..=0xDFFF_FFFF => Some(Self(address)),
            _ => None,
        }
    }

    /// Returns the physical address of the same byte.
    pub const fn to_phys(self) -> PhysAddr {
        PhysAddr(self.0 - UNCACHED)
    }

    /// Returns the cached view of the same byte, or `None` where there is no memory.
    pub const fn to_cached(self) -> Option<CachedAddr> {
        self.to_phys().cached()
    }

    /// Returns the address as a pointer. It is valid only on a Wii, under the standard address map.
    pub fn as_ptr<T>(self) -> *mut T {
        core::ptr::with_exposed_provenance_mut(self.0 as usize)
    }
}

impl From<PhysAddr> for BusAddr {
    fn from(address: PhysAddr) -> Self {
        address.to_bus()
    }
}

impl From<CachedAddr> for PhysAddr {
    fn from(address: CachedAddr) -> Self {
        address.to_phys()
    }
}

impl From<UncachedAddr> for PhysAddr {
    fn from(address: UncachedAddr) -> Self {
        address.to_phys()
    }
}

/// A non-empty range of memory in the cached view, within one [`Region`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CachedRange {
    start: CachedAddr,
    bytes: u32,
}

impl CachedRange {
    /// Checks that `start..end`, addresses in the cached view, is not empty and lies within one memory.
    pub const fn new(start: u32, end: u32) -> Option<Self> {
        let (Some(first), true) = (CachedAddr::new(start), start < end) else {
            return None;
        };
        let Some(region) = Region::of(first.to_phys()) else {
            return None;
        };
        let bytes = end - start;
        if region.contains_range(first.to_phys(), bytes) {
            Some(Self {
                start: first,
                bytes,
            })
        } else {
            None
        }
    }

    /// Returns the first address.
    pub const fn start(self) -> CachedAddr {
        self.start
    }

    /// Returns the length in bytes, never 0.
    pub const fn bytes(self) -> u32 {
        self.bytes
    }

    /// Returns the memory that the range lies in.
    pub fn region(self) -> Option<Region> {
        Region::of(self.start.to_phys())
    }

    /// Returns the physical addresses of the same bytes.
    pub const fn to_phys(self) -> Range<PhysAddr> {
        let start = self.start.to_phys();
        start..PhysAddr(start.0 + self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_views_of_both_memories_name_the_same_physical_byte() {
        for (physical, cached, uncached) in [
            (0x0000_0000, 0x8000_0000, 0xC000_0000),
            (0x017F_FFFF, 0x817F_FFFF, 0xC17F_FFFF),
            (0x1000_0000, 0x9000_0000, 0xD000_0000),
            (0x13FF_FFFF, 0x93FF_FFFF, 0xD3FF_FFFF),
        ] {
            let physical = PhysAddr::new(physical);
            assert_eq!(physical.cached(), CachedAddr::new(cached));
            assert_eq!(physical.uncached(), UncachedAddr::new(uncached));
            assert_eq!(PhysAddr::from_virtual(cached), Some(physical));
            assert_eq!(PhysAddr::from_virtual(uncached), Some(physical));
            assert_eq!(
                CachedAddr::new(cached).unwrap().to_uncached().get(),
                uncached
            );
            assert_eq!(
                UncachedAddr::new(uncached)
                    .unwrap()
                    .to_cached()
                    .unwrap()
                    .get(),
                cached
            );
        }
    }

    #[test]
    fn only_memory_has_a_cached_view() {
        for hole in [
            0x0180_0000,
            0x0C00_3000,
            0x0D04_0000,
            0x0FFF_FFFF,
            0x1400_0000,
            0x8000_0000,
            0xFFFF_FFFF,
        ] {
            assert_eq!(PhysAddr::new(hole).cached(), None, "{hole:#x}");
            assert_eq!(Region::of(PhysAddr::new(hole)), None, "{hole:#x}");
        }
        assert_eq!(CachedAddr::new(0x8180_0000), None);
        assert_eq!(CachedAddr::new(0xC000_0000), None);
        assert_eq!(UncachedAddr::new(0xCD04_0000).unwrap().to_cached(), None);
    }

    #[test]
    fn the_uncached_view_ends_after_512_mib() {
        assert_eq!(
            PhysAddr::new(0x1FFF_FFFF).uncached().unwrap().get(),
            0xDFFF_FFFF
        );
        assert_eq!(PhysAddr::new(0x2000_0000).uncached(), None);
    }

    #[test]
    fn the_stack_and_other_mappings_have_no_physical_address() {
        for outside in [
            0x0000_0000,
            0x7FFE_0000,
            0x7FFF_FFFF,
            0xA000_0000,
            0xBFFF_FFFF,
            0xE000_0000,
        ] {
            assert_eq!(PhysAddr::from_virtual(outside), None, "{outside:#x}");
        }
    }

    #[test]
    fn a_range_is_contained_up_to_and_not_beyond_the_last_byte() {
        let last = PhysAddr::new(0x13FF_FFE0);
        assert!(Region::Mem2.contains_range(last, 0x20));
        assert!(!Region::Mem2.contains_range(last, 0x21));
        assert!(!Region::Mem2.contains_range(last, u32::MAX));
        assert!(Region::Mem2.contains_range(PhysAddr::new(0x1400_0000), 0));
        assert!(!Region::Mem2.contains_range(PhysAddr::new(0x1400_0001), 0));
        assert!(!Region::Mem2.contains_range(PhysAddr::new(0x0FFF_FFE0), 0x40));
    }

    #[test]
    fn a_cached_range_does_not_cross_memories_or_end_before_it_starts() {
        let arena = CachedRange::new(0x9000_0800, 0x935E_0000).unwrap();
        assert_eq!(arena.bytes(), 0x035D_F800);
        assert_eq!(arena.region(), Some(Region::Mem2));
        assert_eq!(
            arena.to_phys(),
            PhysAddr::new(0x1000_0800)..PhysAddr::new(0x135E_0000)
        );
        assert!(CachedRange::new(0x9000_0000, 0x9400_0000).is_some());
        for (start, end) in [
            (0x9000_0000, 0x9000_0000),
            (0x9000_0020, 0x9000_0000),
            (0x9000_0000, 0x9400_0001),
            (0x8170_0000, 0x9000_0000),
            (0xD000_0000, 0xD000_1000),
            (0, u32::MAX),
        ] {
            assert_eq!(CachedRange::new(start, end), None, "{start:#x}..{end:#x}");
        }
    }

    #[test]
    fn alignment_to_zero_is_never_true() {
        assert!(PhysAddr::new(0x40).is_aligned(32));
        assert!(!PhysAddr::new(0x41).is_aligned(32));
        assert!(!PhysAddr::new(0).is_aligned(0));
    }

    #[test]
    fn addresses_print_as_eight_hexadecimal_digits() {
        extern crate std;
        assert_eq!(std::format!("{}", PhysAddr::new(0x800)), "0x00000800");
        assert_eq!(
            std::format!("{:?}", BusAddr::new(0x1000_4000)),
            "BusAddr(0x10004000)"
        );
    }
}
