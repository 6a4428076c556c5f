//! Why a request failed: what IOS answers, and what never reaches it.

use core::fmt;

/// Results of IOS that mean something here (hardware notes, section 6.4).
pub mod code {
    /// The caller may not.
    pub const ACCESS: i32 = -1;
    /// Something about the request makes no sense to IOS: also a device that is gone.
    pub const INVALID: i32 = -4;
    /// IOS has no room or no resource left; on USB also a transfer that failed.
    pub const RESOURCE: i32 = -5;
    /// No such file or device: also a transfer to a USB device that was unplugged.
    pub const NOT_FOUND: i32 = -6;
    /// The queue in IOS is full.
    pub const QUEUE_FULL: i32 = -8;
    /// A USB endpoint has stalled.
    pub const STALL: i32 = -7004;
    /// A USB transfer was cancelled.
    pub const CANCELLED: i32 = -7022;
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IosError {
    /// IOS refused: its result, a negative number.
    Refused(i32),
    /// IOS gave the block back as something else than a reply: its first word.
    NoReply(u32),
    /// IOS has not taken a request for [`Ipc::SILENCE_US`](super::Ipc::SILENCE_US).
    Silent,
    /// Every slot holds a request that IOS has not answered.
    Busy,
    /// The pool has no room for the request.
    Memory(mem2_dma::Error),
    /// A buffer does not lie in MEM2 at a multiple of 32 bytes: its physical address. The request was not sent.
    OutsideMem2(u32),
    /// The path is empty, has a zero byte or is longer than 63 bytes.
    BadPath,
    /// More buffers than a request can have.
    TooManyBuffers,
    /// A buffer that is longer than a request can say.
    TooLong,
    /// IOS claims to have delivered more than there was room for: its result.
    Overrun(i32),
}

impl From<mem2_dma::Error> for IosError {
    fn from(error: mem2_dma::Error) -> Self {
        Self::Memory(error)
    }
}

impl fmt::Display for IosError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Refused(code::ACCESS) => f.write_str("IOS does not allow it"),
            Self::Refused(code::INVALID) => f.write_str("IOS finds the request invalid"),
            Self::Refused(code::RESOURCE) => f.write_str("IOS has no resource left for it"),
            Self::Refused(code::NOT_FOUND) => f.write_str("IOS knows no such device"),
            Self::Refused(code::QUEUE_FULL) => f.write_str("IOS has too many requests already"),
            Self::Refused(code::STALL) => f.write_str("the USB endpoint has stalled"),
            Self::Refused(code::CANCELLED) => f.write_str("the USB transfer was cancelled"),
            Self::Refused(result) => write!(f, "IOS failed with {result}"),
            Self::NoReply(command) => write!(f, "IOS replied with command {command}"),
            Self::Silent => {
                f.write_str("IOS does not take requests; switch the console off and on")
            }
            Self::Busy => f.write_str("too many requests to IOS are under way"),
            Self::Memory(error) => write!(f, "memory for a request to IOS: {error}"),
            Self::OutsideMem2(address) => {
                write!(
                    f,
                    "a buffer for IOS at {address:#010x} is not in MEM2 at a multiple of 32"
                )
            }
            Self::BadPath => f.write_str("the path of a device must have 1 to 63 bytes, none zero"),
            Self::TooManyBuffers => f.write_str("a request to IOS with too many buffers"),
            Self::TooLong => f.write_str("a request to IOS with a buffer that is too long"),
            Self::Overrun(result) => {
                write!(f, "IOS claims {result} bytes, more than there was room for")
            }
        }
    }
}

impl core::error::Error for IosError {}
