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
    /// Descriptors start at multiples of 32 bytes: the controller hangs on others (section 2.3).
    DescriptorAlignment,
    /// Descriptors do not cross a page of 4 KiB (EHCI, 3).
    DescriptorPage,
    /// Descriptors hold nothing that the specification leaves undefined (EHCI, 3).
    DescriptorContents,
    /// Descriptors that the controller may still hold are left alone: until they are inactive, or until the doorbell is answered (EHCI, 4.8.2, 4.10).
    DescriptorInUse,
    /// Registers are written as and when the specification allows it, and 32 bits wide (EHCI, 2.3; hardware notes, 3.3).
    Register,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 18] = [
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
        Self::DescriptorAlignment,
        Self::DescriptorPage,
        Self::DescriptorContents,
        Self::DescriptorInUse,
        Self::Register,
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
            Self::DescriptorAlignment => "unaligned descriptor: the controller hangs on it",
            Self::DescriptorPage => "descriptor across two pages",
            Self::DescriptorContents => "descriptor with undefined contents",
            Self::DescriptorInUse => "reuse: a descriptor was changed that the controller may hold",
            Self::Register => "register used in an undefined way",
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
    /// The controller read this descriptor.
    Fetch(Descriptor),
    /// The controller wrote to this descriptor.
    WriteBack(Descriptor),
    /// The controller read data for this descriptor, from this buffer.
    DataRead(Descriptor, Buffer),
    /// The controller wrote data for this descriptor, to this buffer.
    DataWrite(Descriptor, Buffer),
    /// The controller found this in a descriptor.
    Contents(Descriptor, &'static str),
    /// The CPU used a register of the controller.
    Register(&'static str),
}

/// What the controller finds in memory (EHCI, 3), and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Descriptor {
    /// What it is.
    pub kind: Structure,
    /// Its physical address.
    pub address: u32,
}

/// A kind of data structure (EHCI, 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Structure {
    /// An entry of the periodic frame list (3.1).
    FrameListEntry,
    /// An isochronous transfer descriptor (3.3).
    Itd,
    /// A split transaction isochronous transfer descriptor (3.4).
    SiTd,
    /// A queue element transfer descriptor (3.5).
    Qtd,
    /// A queue head (3.6).
    Qh,
    /// A periodic frame span traversal node (3.7).
    Fstn,
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Structure::FrameListEntry => "frame list entry",
            Structure::Itd => "iTD",
            Structure::SiTd => "siTD",
            Structure::Qtd => "qTD",
            Structure::Qh => "QH",
            Structure::Fstn => "FSTN",
        };
        write!(f, "{name} at {:#010x}", self.address)
    }
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
            Self::Fetch(descriptor) => write!(f, "fetch of {descriptor}"),
            Self::WriteBack(descriptor) => write!(f, "write-back of {descriptor}"),
            Self::DataRead(descriptor, buffer) => {
                write!(f, "data read for {descriptor} from {buffer}")
            }
            Self::DataWrite(descriptor, buffer) => {
                write!(f, "data write for {descriptor} to {buffer}")
            }
            Self::Contents(descriptor, what) => write!(f, "{descriptor}: {what}"),
            Self::Register(what) => write!(f, "{what}"),
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
