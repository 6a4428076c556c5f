//! What a device can address, and where in a free run a request may lie.
//!
//! Placement is exact: [`Constraints::first_fit`] finds the lowest address that every constraint allows, or proves that there is none.

use core::ops::Range;

use crate::{BusAddr, Error};

/// What one device demands of every mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Constraints {
    /// First and last bus address that the device reaches.
    pub(crate) window: (u32, u32),
    /// Every mapping starts at a multiple of this. A power of two.
    pub(crate) align: u32,
    /// No mapping crosses a multiple of this. A power of two, or 0: no such limit.
    pub(crate) boundary: u32,
    /// The longest mapping, in bytes.
    pub(crate) max_segment: u32,
    /// Every segment of a scatter list but the last is a multiple of this.
    pub(crate) granule: u32,
}

impl Constraints {
    /// A device that reaches the whole bus and minds nothing.
    pub const NONE: Self = Self {
        window: (0, u32::MAX),
        align: 1,
        boundary: 0,
        max_segment: u32::MAX,
        granule: 1,
    };

    /// Limits the device to addresses from `first` to `last`, both included.
    pub const fn window(mut self, first: BusAddr, last: BusAddr) -> Self {
        self.window = (first.get(), last.get());
        self
    }

    /// Starts every mapping at a multiple of `bytes`, a power of two. (The provider's cache line applies besides.)
    pub const fn align(mut self, bytes: u32) -> Self {
        self.align = bytes;
        self
    }

    /// Keeps every mapping from crossing a multiple of `bytes`, a power of two.
    pub const fn boundary(mut self, bytes: u32) -> Self {
        self.boundary = bytes;
        self
    }

    /// Refuses mappings longer than `bytes`.
    pub const fn max_segment(mut self, bytes: u32) -> Self {
        self.max_segment = bytes;
        self
    }

    /// Makes every segment of a scatter list but the last a multiple of `bytes` (for USB: of the largest packet).
    pub const fn granule(mut self, bytes: u32) -> Self {
        self.granule = bytes;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let sound = self.align.is_power_of_two()
            && (self.boundary == 0 || self.boundary.is_power_of_two())
            && self.window.0 <= self.window.1
            && self.max_segment != 0
            && self.granule != 0;
        if sound {
            Ok(())
        } else {
            Err(Error::BadConstraints)
        }
    }

    /// Finds the lowest allowed address for `len` bytes within `bus` (start, end), a stretch of contiguous bus addresses.
    fn first_fit(&self, (lo, hi): (u64, u64), len: u32) -> Option<u64> {
        let (lo, hi) = self.clip(lo, hi);
        let len = u64::from(len);
        let mut at = self.align_up(lo);
        if self.boundary != 0 {
            let room = u64::from(self.boundary) - (at & u64::from(self.boundary - 1));
            if room < len {
                // The next boundary is the next candidate; aligned up it still is a boundary's multiple, or lies in a block where
                // it has the whole alignment to itself.
                at = self.align_up(at + room);
                if u64::from(self.boundary) < len {
                    return None;
                }
            }
        }
        (at + len <= hi).then_some(at)
    }

    /// Returns the longest mapping that fits in a stretch of contiguous bus addresses.
    fn longest_fit(&self, (lo, hi): (u64, u64)) -> u64 {
        let (lo, hi) = self.clip(lo, hi);
        let first = self.align_up(lo);
        let room = hi.saturating_sub(first);
        if self.boundary == 0 {
            return room;
        }
        let boundary = u64::from(self.boundary);
        let until = boundary - (first & (boundary - 1));
        let second = self.align_up(first + until);
        room.min(until).max(hi.saturating_sub(second).min(boundary))
    }

    fn clip(&self, lo: u64, hi: u64) -> (u64, u64) {
        (
            lo.max(u64::from(self.window.0)),
            hi.min(u64::from(self.window.1) + 1),
        )
    }

    fn align_up(&self, at: u64) -> u64 {
        let mask = u64::from(self.align) - 1;
        (at + mask) & !mask
    }
}

/// A stretch of memory that is contiguous on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The bus address of its first byte.
    pub bus: BusAddr,
    /// How many bytes from there are contiguous on the bus.
    pub len: u32,
}

impl Extent {
    /// Start and end of the first `limit` bytes on the bus; 64 bits, since the end may be one past the last 32-bit address.
    fn span(self, limit: u32) -> (u64, u64) {
        let start = u64::from(self.bus.get());
        (start, start + u64::from(self.len.min(limit)))
    }
}

/// Finds where in the free bytes `run` of a pool `len` bytes may lie: the lowest offset that the constraints and the bus's contiguity allow.
///
/// `extent` translates an offset; it must return the longest contiguous stretch from there on.
pub fn place(
    constraints: &Constraints,
    run: Range<u32>,
    len: u32,
    extent: impl Fn(u32) -> Option<Extent>,
) -> Option<u32> {
    let mut at = run.start;
    while at < run.end {
        let stretch = extent(at)?;
        let span = stretch.span(run.end - at);
        if let Some(bus) = constraints.first_fit(span, len) {
            return Some(at + (bus - span.0) as u32);
        }
        at = at.checked_add(stretch.len.max(1))?;
    }
    None
}

/// Returns the longest mapping, in bytes, that a pool of `size` bytes can ever give a device: 0 if it reaches none of the pool.
pub fn longest(
    constraints: &Constraints,
    size: u32,
    extent: impl Fn(u32) -> Option<Extent>,
) -> u32 {
    let mut longest = 0;
    let mut at = 0;
    while at < size {
        let Some(stretch) = extent(at) else { break };
        longest = longest.max(constraints.longest_fit(stretch.span(size - at)));
        let Some(next) = at.checked_add(stretch.len.max(1)) else {
            break;
        };
        at = next;
    }
    u32::try_from(longest)
        .unwrap_or(u32::MAX)
        .min(constraints.max_segment)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Bytes of the pool, and what is contiguous on the bus: offset, bus address, length.
    const SIZE: u32 = 40;
    const PIECES: [(u32, u32, u32); 3] = [(0, 5, 17), (17, 48, 9), (26, 90, 14)];

    fn extent(offset: u32) -> Option<Extent> {
        let piece = |(start, bus, len): (u32, u32, u32)| {
            let within = offset.checked_sub(start).filter(|&within| within < len)?;
            Some(Extent {
                bus: BusAddr::new(bus + within),
                len: len - within,
            })
        };
        PIECES.into_iter().find_map(piece)
    }

    /// Whether the device may be given `len` bytes from an offset on, byte by byte.
    fn allowed(constraints: &Constraints, offset: u32, len: u32) -> bool {
        let bus = |offset| extent(offset).map(|extent| extent.bus.get());
        let Some(first) = bus(offset) else {
            return false;
        };
        let block = |at: u32| at.checked_div(constraints.boundary);
        first.is_multiple_of(constraints.align)
            && len <= constraints.max_segment
            && (0..len).all(|index| {
                bus(offset + index) == Some(first + index)
                    && (constraints.window.0..=constraints.window.1).contains(&(first + index))
                    && block(first + index) == block(first)
            })
    }

    #[test]
    fn places_and_the_longest_mapping_are_those_of_trying_every_byte() {
        for (first, last) in [(0, u32::MAX), (7, 95), (49, 55), (12, 12), (23, 47)] {
            for (align, boundary) in [1, 2, 4, 8, 16]
                .into_iter()
                .flat_map(|align| [0, 2, 4, 8, 16, 32].map(|boundary| (align, boundary)))
            {
                let constraints = Constraints::NONE
                    .window(BusAddr::new(first), BusAddr::new(last))
                    .align(align)
                    .boundary(boundary);
                assert_eq!(constraints.check(), Ok(()));
                let mut longest_by_trying = 0;
                for len in 1..=SIZE {
                    for (start, end) in [(0, SIZE), (3, 22), (18, 39), (30, 31)] {
                        let fits = |at: &u32| at + len <= end && allowed(&constraints, *at, len);
                        let expected = (start..end).find(fits);
                        assert_eq!(
                            place(&constraints, start..end, len, extent),
                            expected,
                            "{len} bytes in {start}..{end}: {constraints:?}"
                        );
                    }
                    if (0..SIZE).any(|at| allowed(&constraints, at, len)) {
                        longest_by_trying = len;
                    }
                }
                assert_eq!(
                    longest(&constraints, SIZE, extent),
                    longest_by_trying,
                    "{constraints:?}"
                );
                let limited = constraints.max_segment(3);
                assert_eq!(longest(&limited, SIZE, extent), longest_by_trying.min(3));
            }
        }
    }

    #[test]
    fn constraints_that_nothing_meets_are_refused() {
        let address = BusAddr::new;
        for crooked in [
            Constraints::NONE.align(0),
            Constraints::NONE.align(24),
            Constraints::NONE.boundary(24),
            Constraints::NONE.window(address(2), address(1)),
            Constraints::NONE.max_segment(0),
            Constraints::NONE.granule(0),
        ] {
            assert_eq!(crooked.check(), Err(Error::BadConstraints), "{crooked:?}");
        }
        let one = Constraints::NONE.window(address(1), address(1));
        for sound in [Constraints::NONE, one, one.boundary(4).align(4)] {
            assert_eq!(sound.check(), Ok(()), "{sound:?}");
        }
    }
}
