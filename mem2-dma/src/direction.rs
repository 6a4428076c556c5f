//! Which way the data goes: as types for mappings, as a value for the books.

/// Which way the data goes, seen from memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// The device reads.
    ToDevice,
    /// The device writes.
    FromDevice,
    /// The device reads and writes.
    Bidirectional,
}

impl Direction {
    /// Returns whether the device reads.
    pub const fn to_device(self) -> bool {
        matches!(self, Self::ToDevice | Self::Bidirectional)
    }

    /// Returns whether the device writes.
    pub const fn from_device(self) -> bool {
        matches!(self, Self::FromDevice | Self::Bidirectional)
    }
}

/// The device reads what the CPU wrote.
#[derive(Clone, Copy, Debug)]
pub struct ToDevice;

/// The device writes what the CPU will read.
#[derive(Clone, Copy, Debug)]
pub struct FromDevice;

/// The device reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Bidirectional;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ToDevice {}
    impl Sealed for super::FromDevice {}
    impl Sealed for super::Bidirectional {}
}

/// A direction as a type: [`ToDevice`], [`FromDevice`] or [`Bidirectional`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no direction: use `ToDevice`, `FromDevice` or `Bidirectional`"
)]
pub trait Way: sealed::Sealed {
    /// The direction as a value.
    const DIRECTION: Direction;
}

/// A direction in which the device reads.
#[diagnostic::on_unimplemented(
    message = "the device only writes to this mapping: there is nothing to send it",
    label = "`{Self}` lets the device write only"
)]
pub trait DeviceReads: Way {}

/// A direction in which the device writes.
#[diagnostic::on_unimplemented(
    message = "the device only reads this mapping: there is nothing to receive from it",
    label = "`{Self}` lets the device read only"
)]
pub trait DeviceWrites: Way {}

impl Way for ToDevice {
    const DIRECTION: Direction = Direction::ToDevice;
}
impl Way for FromDevice {
    const DIRECTION: Direction = Direction::FromDevice;
}
impl Way for Bidirectional {
    const DIRECTION: Direction = Direction::Bidirectional;
}
impl DeviceReads for ToDevice {}
impl DeviceReads for Bidirectional {}
impl DeviceWrites for FromDevice {}
impl DeviceWrites for Bidirectional {}
