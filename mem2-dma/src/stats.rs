//! Statistics of a pool: what `swiotlb_print_info` told, and what it did not.

use core::fmt;

use crate::BusAddr;

/// What a pool has done and how full it is. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stats {
    /// Bus address of the pool's first byte.
    pub base: BusAddr,
    /// Size of the pool.
    pub size: u32,
    /// Bytes in use now, in whole slots.
    pub used: u32,
    /// The most that was ever in use, in whole slots, outside the reserve.
    pub high_water: u32,
    /// Mappings made so far, lent buffers included.
    pub mappings: u64,
    /// Bytes copied into the pool for devices to read, and out of it after devices wrote them.
    pub bounced: u64,
    /// Bytes that devices were given without a copy.
    pub direct: u64,
    /// Requests refused.
    pub refused: u64,
    /// Records in use now: mappings, buffers, coherent memory, quarantined ones.
    pub live: usize,
    /// Of these, quarantined.
    pub quarantined: usize,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes at {}: {} used (at most {}), {} mappings, {} bytes bounced, {} direct, {} refused, {} live, {} quarantined",
            self.size,
            self.base,
            self.used,
            self.high_water,
            self.mappings,
            self.bounced,
            self.direct,
            self.refused,
            self.live,
            self.quarantined
        )
    }
}
