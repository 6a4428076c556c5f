//! Who wrote a byte: kept for every byte of both views, so that what leaks is found by construction.

use core::fmt;

/// Who last wrote a byte. The number is the caller's name for a mapping, a buffer or a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody, since power-on.
    Never,
    /// The CPU, for this mapping.
    Cpu(u32),
    /// The device, for this mapping.
    Device(u32),
    /// It was this mapping's, and the room has been given back since.
    Retired(u32),
    /// Nobody on purpose: a store beside it destroyed it.
    Corrupted,
}

impl Origin {
    /// Returns the mapping that the byte belongs to, if it belongs to one that still exists.
    pub fn mapping(self) -> Option<u32> {
        match self {
            Self::Cpu(id) | Self::Device(id) => Some(id),
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => write!(f, "never written"),
            Self::Cpu(id) => write!(f, "stored by the CPU for mapping {id}"),
            Self::Device(id) => write!(f, "written by the device for mapping {id}"),
            Self::Retired(id) => write!(f, "left over from mapping {id}"),
            Self::Corrupted => write!(f, "destroyed by a short store beside it"),
        }
    }
}
