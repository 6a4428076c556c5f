//! Why a command failed (SPC-3, 4.5).

use std::fmt;

/// Sense key, additional sense code, and its qualifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Sense {
    /// Sense key, 0 to 15.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Its qualifier.
    pub qualifier: u8,
}

impl Sense {
    /// Nothing to report.
    pub const NONE: Self = Self::new(0, 0, 0);
    /// The medium is about to become ready.
    pub const BECOMING_READY: Self = Self::new(2, 0x04, 0x01);
    /// There is no medium.
    pub const NO_MEDIUM: Self = Self::new(2, 0x3a, 0x00);
    /// A block cannot be read.
    pub const READ: Self = Self::new(3, 0x11, 0x00);
    /// A block cannot be written.
    pub const WRITE: Self = Self::new(3, 0x0c, 0x00);
    /// No such command.
    pub const COMMAND: Self = Self::new(5, 0x20, 0x00);
    /// No such block.
    pub const RANGE: Self = Self::new(5, 0x21, 0x00);
    /// A field of the command block has no meaning.
    pub const FIELD: Self = Self::new(5, 0x24, 0x00);
    /// No such logical unit.
    pub const UNIT: Self = Self::new(5, 0x25, 0x00);
    /// Another medium may be there.
    pub const CHANGED: Self = Self::new(6, 0x28, 0x00);
    /// Power on.
    pub const POWER_ON: Self = Self::new(6, 0x29, 0x00);
    /// Write-protected.
    pub const PROTECTED: Self = Self::new(7, 0x27, 0x00);

    /// Makes any.
    pub const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self {
            key,
            code,
            qualifier,
        }
    }

    /// Encodes it in the fixed format, for REQUEST SENSE.
    pub(super) fn to_bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key;
        bytes[7] = 10;
        bytes[12] = self.code;
        bytes[13] = self.qualifier;
        bytes
    }
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            code,
            qualifier,
        } = self;
        write!(f, "{key:02x}/{code:02x}/{qualifier:02x}")
    }
}
