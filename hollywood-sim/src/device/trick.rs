//! What sticks do wrong with commands: the faults of Bulk-Only Transport itself.

use super::mass_storage::PHASE_ERROR;

/// What a stick does wrong with a command, beyond what the bus does to its packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Trick {
    /// Halts the endpoint of the command itself.
    StallCommand,
    /// Halts the endpoint of the data stage before anything moves; the command failed.
    StallData,
    /// Halts the endpoint of the status once; the status comes afterwards (figure 2).
    StallStatus,
    /// Ends the data from the device after so many bytes, with a short packet and a residue.
    ShortData(u32),
    /// Sends that much more than the host expects.
    LongData(u32),
    /// The status wrapper has another tag.
    Tag,
    /// The status wrapper begins otherwise.
    Signature,
    /// The status wrapper has this status; 2 is a phase error, above that nothing is defined.
    Status(u8),
    /// The status wrapper has this residue.
    Residue(u32),
    /// The status wrapper has this length.
    StatusLength(usize),
    /// Nothing comes any more until the reset: it is busy for ever.
    Hang,
}

impl Trick {
    /// One of each kind, for trying them one after the other.
    pub const ALL: [Self; 13] = [
        Self::StallCommand,
        Self::StallData,
        Self::StallStatus,
        Self::ShortData(5),
        Self::LongData(1),
        Self::Tag,
        Self::Signature,
        Self::Status(PHASE_ERROR),
        Self::Status(3),
        Self::Residue(u32::MAX),
        Self::StatusLength(12),
        Self::StatusLength(14),
        Self::Hang,
    ];
}
