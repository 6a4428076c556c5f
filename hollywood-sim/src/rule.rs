//! The rules of DMA on a Wii, and the reports of who breaks them.

use core::fmt;
use core::panic::Location;

use crate::{Buffer, Origin};

/// A rule. The sections are those of the hardware notes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Rule {
    /// What the CPU stored is cleaned or flushed before a device reads it (section 0, fact 6).
    MissingClean,
    /// `sync` follows the cache instructions before a device looks (section 7.2).
    MissingSync,
    /// No line with stores of the CPU in it is left in the cache when a device writes there: its eviction would overwrite them (section 2.8).
    MissingInvalidateBefore,
    /// Lines are invalidated after a device wrote and before the CPU looks: they may have been filled by speculation meanwhile (section 7.2).
    MissingInvalidateAfter,
    /// What a device writes shares no cache line with what the CPU stores (section 0, fact 6).
    SharedLine,
    /// A line is not used through both views at a time (section 7.2).
    Alias,
    /// Stores past the caches are aligned words (section 0, fact 5).
    ShortUncachedStore,
    /// What a device writes into MEM1 ends with a whole word: the rest of the last one is lost (section 2.8).
    Mem1PartialWord,
    /// Buffers start at multiples of 32 bytes: a controller ignores the last five bits of their addresses (section 2.3).
    Unaligned,
    /// Devices and CPU reach RAM only (a host system error).
    OutsideRam,
    /// Devices stay in the buffer that they were given.
    OutsideBuffer,
    /// Nobody reads what nobody wrote.
    Uninitialised,
    /// No device reads bytes of other mappings than its own.
    Leak,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 13] = [
        Self::MissingClean,
        Self::MissingSync,
        Self::MissingInvalidateBefore,
        Self::MissingInvalidateAfter,
        Self::SharedLine,
        Self::Alias,
        Self::ShortUncachedStore,
        Self::Mem1PartialWord,
        Self::Unaligned,
        Self::OutsideRam,
        Self::OutsideBuffer,
        Self::Uninitialised,
        Self::Leak,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::MissingClean => {
                "missing clean: stored bytes were not written back for the device"
            }
            Self::MissingSync => "missing sync: write-back may not have reached memory",
            Self::MissingInvalidateBefore => {
                "missing invalidate before: a modified line in the device's buffer"
            }
            Self::MissingInvalidateAfter => {
                "missing invalidate after: the line may be older than what the device wrote"
            }
            Self::SharedLine => "shared cache line: CPU stores beside what the device writes",
            Self::Alias => "alias: a line in use through the cache and past it",
            Self::ShortUncachedStore => "short uncached store: it destroys the rest of its word",
            Self::Mem1PartialWord => "partial word in MEM1: the last bytes are lost",
            Self::Unaligned => "unaligned buffer: the low five bits of its address are ignored",
            Self::OutsideRam => "outside RAM: host system error",
            Self::OutsideBuffer => "outside the buffer",
            Self::Uninitialised => "uninitialised: read before anything was written",
            Self::Leak => "leak: read for another mapping",
        }
    }
}

/// Which rules hold. What is not a rule has no bad effect and is not reported; the cache itself works in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules(u32);

impl Rules {
    /// Every rule: the default.
    pub const STRICT: Self = Self(u32::MAX);

    /// Switches one rule off.
    pub const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    /// Returns whether a rule holds.
    pub const fn has(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u32 != 0
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::STRICT
    }
}

/// What was done when a rule was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load of the CPU, through the cache or past it.
    CpuLoad,
    /// A store of the CPU, through the cache or past it.
    CpuStore,
    /// A cache instruction.
    CacheOperation,
    /// A line was written back or looked at in the course of events.
    Background,
    /// A device read from this buffer.
    DeviceRead(Buffer),
    /// A device wrote to this buffer.
    DeviceWrite(Buffer),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuLoad => write!(f, "load"),
            Self::CpuStore => write!(f, "store"),
            Self::CacheOperation => write!(f, "cache operation"),
            Self::Background => write!(f, "write-back"),
            Self::DeviceRead(buffer) => write!(f, "device read from {buffer}"),
            Self::DeviceWrite(buffer) => write!(f, "device write to {buffer}"),
        }
    }
}

/// A rule that was broken, where and by what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The physical address of the first byte concerned.
    pub address: u32,
    /// How many bytes of its line are concerned.
    pub bytes: u32,
    /// Who had written the first byte.
    pub origin: Origin,
    /// What was going on.
    pub access: Access,
    /// The line of source that asked for it.
    pub caller: &'static Location<'static>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            address,
            bytes,
            origin,
            access,
            caller,
        } = self;
        write!(
            f,
            "{} [{rule:?}] at {address:#010x} ({bytes} bytes, {origin}); {access}, at {caller}",
            rule.text()
        )
    }
}
