//! Who wrote a byte: kept for every byte of both views, so that what leaks is found by construction.

use core::fmt;

use crate::line::{LINE, Mask};

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

/// Who wrote each byte of a line. Mostly it is the same for all.
#[derive(Clone)]
pub(crate) enum Origins {
    All(Origin),
    Each(Box<[Origin; LINE]>),
}

impl Origins {
    pub(crate) fn at(&self, at: usize) -> Origin {
        match self {
            Self::All(origin) => *origin,
            Self::Each(origins) => origins[at],
        }
    }

    /// Says that `writer` wrote the bytes `which`.
    pub(crate) fn mark(&mut self, which: Mask, writer: Origin) {
        self.change(which, |_| writer);
    }

    pub(crate) fn change(&mut self, which: Mask, to: impl Fn(Origin) -> Origin) {
        match self {
            Self::All(origin) if which == Mask::MAX => *origin = to(*origin),
            Self::All(origin) if to(*origin) == *origin => {}
            Self::All(origin) => {
                let (old, new) = (*origin, to(*origin));
                let each = |at| if which >> at & 1 != 0 { new } else { old };
                *self = Self::Each(Box::new(std::array::from_fn(each)));
            }
            Self::Each(origins) => {
                for (at, origin) in origins.iter_mut().enumerate() {
                    if which >> at & 1 != 0 {
                        *origin = to(*origin);
                    }
                }
                if which == Mask::MAX && origins.iter().all(|origin| *origin == origins[0]) {
                    *self = Self::All(origins[0]);
                }
            }
        }
    }

    /// Returns those of the bytes `which` whose writer is as `is` says.
    pub(crate) fn which(&self, which: Mask, is: impl Fn(Origin) -> bool) -> Mask {
        match self {
            Self::All(origin) if is(*origin) => which,
            Self::All(_) => 0,
            Self::Each(origins) => (0..LINE).fold(0, |mask, at| {
                let bit = 1 << at;
                mask | if which & bit != 0 && is(origins[at]) {
                    bit
                } else {
                    0
                }
            }),
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
