//! What can go wrong, each with its cause.

use crate::memory::NoMemory;
use crate::registers::{ProbeError, UsbCmd, UsbSts};
use core::fmt;

/// Why a controller could not be taken over or started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// There is no EHCI controller behind the registers.
    Probe(ProbeError),
    /// There is no memory for the descriptors.
    NoMemory(NoMemory),
    /// The provider's descriptor memory is too small, not aligned to 4096, or beyond the controller's 32 bits.
    BadMemory {
        /// Its bus address.
        bus: u32,
        /// Its size in bytes.
        size: usize,
    },
    /// The controller did not stop.
    HaltTimeout(UsbSts),
    /// The controller did not end its reset.
    ResetTimeout(UsbCmd),
    /// The controller did not start to run.
    RunTimeout(UsbSts),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe(error) => error.fmt(f),
            Self::NoMemory(error) => write!(f, "descriptors: {error}"),
            Self::BadMemory { bus, size } => write!(
                f,
                "descriptor memory at {bus:#010x} ({size} bytes) is unusable"
            ),
            Self::HaltTimeout(status) => {
                write!(f, "the controller does not stop: USBSTS {:#010x}", status.0)
            }
            Self::ResetTimeout(command) => write!(
                f,
                "the controller's reset does not end: USBCMD {:#010x}",
                command.0
            ),
            Self::RunTimeout(status) => {
                write!(f, "the controller does not run: USBSTS {:#010x}", status.0)
            }
        }
    }
}

impl core::error::Error for StartError {}

impl From<ProbeError> for StartError {
    fn from(error: ProbeError) -> Self {
        Self::Probe(error)
    }
}

impl From<NoMemory> for StartError {
    fn from(error: NoMemory) -> Self {
        Self::NoMemory(error)
    }
}

/// Why a pipe could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OpenError {
    /// The controller is not running.
    NotRunning,
    /// The address exceeds 127, the endpoint number 15, or the hub's address or port their range.
    BadAddress,
    /// The maximum packet size is zero or not allowed for this kind of endpoint and speed.
    BadMaxPacket {
        /// `wMaxPacketSize` as given.
        raw: u16,
    },
    /// `bInterval` is outside what the standard allows.
    BadInterval {
        /// `bInterval` as given.
        raw: u8,
    },
    /// A full- or low-speed device is reached through a hub's transaction translator only, a high-speed one never.
    BadRoute,
    /// Isochronous endpoints are opened as streams, and only they.
    WrongKind,
    /// All queue heads, or all streams, are in use.
    NoQueueHead,
    /// All qTDs are in use.
    NoDescriptors,
    /// The periodic schedule has no room in any microframe.
    NoBandwidth,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the controller is not running"),
            Self::BadAddress => f.write_str("device, endpoint or hub address out of range"),
            Self::BadMaxPacket { raw } => {
                write!(f, "maximum packet size {raw:#06x} is not allowed here")
            }
            Self::BadInterval { raw } => write!(f, "polling interval {raw} is not allowed here"),
            Self::BadRoute => f.write_str("speed and route to the device do not fit"),
            Self::WrongKind => f.write_str("isochronous endpoints, and only they, are streams"),
            Self::NoQueueHead => f.write_str("no queue head or stream left"),
            Self::NoDescriptors => f.write_str("no transfer descriptor left"),
            Self::NoBandwidth => f.write_str("no periodic bandwidth left"),
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a transfer was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SubmitError {
    /// The controller is not running.
    NotRunning,
    /// The pipe was closed, or never opened on this controller.
    NoSuchPipe,
    /// The pipe is not of the kind that the request is for.
    WrongKind,
    /// Transfers that were cancelled are still on their way out; try again after they have ended.
    Busy,
    /// The pipe's device was unplugged.
    Disconnected,
    /// All transfers are in use.
    NoTransfers,
    /// Too few qTDs are free; smaller or fewer transfers fit.
    NoDescriptors,
    /// The data does not have the length that the setup packet announces.
    WrongLength {
        /// `wLength` of the setup packet.
        announced: u16,
        /// Bytes of data given.
        given: usize,
    },
    /// A trailer or an empty packet ends a request: a piece that has more behind it can have neither, and a request not both.
    NotTheEnd,
    /// The packets of a batch: none, too large, or more bytes than the buffer has.
    BadPackets,
    /// The frames of the packets lie further ahead than the frame list reaches; try again when earlier ones have ended.
    TooFarAhead,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("the controller is not running"),
            Self::NoSuchPipe => f.write_str("the pipe is closed"),
            Self::WrongKind => f.write_str("the pipe is of another kind"),
            Self::Busy => f.write_str("cancelled transfers have not ended yet"),
            Self::Disconnected => f.write_str("the device was unplugged"),
            Self::NoTransfers => f.write_str("too many transfers at once"),
            Self::NoDescriptors => f.write_str("too few transfer descriptors left"),
            Self::WrongLength { announced, given } => {
                write!(
                    f,
                    "the setup packet announces {announced} bytes, but {given} are given"
                )
            }
            Self::NotTheEnd => {
                f.write_str("a trailer or an empty packet is asked for in the middle of a request, or both at its end")
            }
            Self::BadPackets => f.write_str("the sizes of the packets do not fit"),
            Self::TooFarAhead => f.write_str("the packets' frames lie too far ahead"),
        }
    }
}

impl core::error::Error for SubmitError {}

/// Why a transfer ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TransferError {
    /// The endpoint answered with STALL. A bulk or interrupt endpoint stays halted until it is told
    /// `CLEAR_FEATURE(ENDPOINT_HALT)`, after which [`reset_toggle`](crate::Ehci::reset_toggle) is due.
    Stall,
    /// The device sent more than it was asked for.
    Babble,
    /// No, or no valid, answer: timeout, CRC, PID or toggle, for all three attempts and all retries.
    Transaction,
    /// The controller could not get at memory fast enough.
    DataBuffer,
    /// A complete-split came too late, or an isochronous packet was not executed in its frame.
    MissedMicroframe,
    /// The transfer's time was up.
    Timeout,
    /// The device was unplugged, or its port failed.
    Disconnected,
    /// The transfer was cancelled.
    Cancelled,
    /// A transfer before it in the same pipe failed; nothing of this one was executed.
    Flushed,
    /// The controller stopped: a host system error, or a schedule that does not stop.
    ControllerFailed,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stall => "the endpoint stalled",
            Self::Babble => "the device sent too much",
            Self::Transaction => "no valid answer from the device",
            Self::DataBuffer => "the controller over- or underran its buffer",
            Self::MissedMicroframe => "its microframe was missed",
            Self::Timeout => "the device did not answer in time",
            Self::Disconnected => "the device was unplugged",
            Self::Cancelled => "cancelled",
            Self::Flushed => "an earlier transfer of the pipe failed",
            Self::ControllerFailed => "the controller failed",
        })
    }
}

impl core::error::Error for TransferError {}
