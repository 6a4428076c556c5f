//! The block device abstraction: whole blocks, by number, with errors that name the block.

use core::fmt;

/// Whether this program works with blocks of this many bytes: the powers of two from 512 to 4096.
pub fn is_block_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (512..=4096).contains(&bytes)
}

/// Something that stores blocks, addressed by number from 0.
///
/// # Cancellation
/// A dropped future leaves the device usable; the contents of the buffer of a read are then
/// unspecified, a write may have happened in part.
#[allow(async_fn_in_trait)] // One executor, one thread: no bounds on the futures are needed.
pub trait BlockDevice {
    /// Returns the size of a block in bytes: one that [`is_block_size`], and always the same.
    fn block_size(&self) -> u32;

    /// Returns the number of blocks; always the same.
    fn blocks(&self) -> u64;

    /// Reads `buffer.len() / block_size` blocks from `first` on. One call is one command to the
    /// device, unless the device needed to be asked again.
    ///
    /// # Errors
    /// Any [`BlockError`]. Its range is the one that was asked for; the buffer's contents are then
    /// unspecified.
    async fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), BlockError>;

    /// Writes `buffer.len() / block_size` blocks from `first` on. One call is one command to the
    /// device, unless the device needed to be asked again.
    ///
    /// # Errors
    /// Any [`BlockError`]. Its range is the one that was asked for; any part of it may then have
    /// been written.
    async fn write(&mut self, first: u64, buffer: &[u8]) -> Result<(), BlockError>;

    /// Has the device bring everything that was written to its medium. A device that does not know
    /// the command has nothing to bring there.
    ///
    /// # Errors
    /// Any [`BlockError`]; its range is empty.
    async fn flush(&mut self) -> Result<(), BlockError>;

    /// Returns whether the device says that it is write-protected. One that does not say counts as
    /// writable: writing then fails with [`Cause::WriteProtected`] at worst.
    ///
    /// # Errors
    /// [`BlockError`] if the device is gone or does not answer; its range is empty.
    async fn is_write_protected(&mut self) -> Result<bool, BlockError>;

    /// Returns what the device has done so far.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl<D: BlockDevice> BlockDevice for &mut D {
    fn block_size(&self) -> u32 {
        D::block_size(self)
    }

    fn blocks(&self) -> u64 {
        D::blocks(self)
    }

    async fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        D::read(self, first, buffer).await
    }

    async fn write(&mut self, first: u64, buffer: &[u8]) -> Result<(), BlockError> {
        D::write(self, first, buffer).await
    }

    async fn flush(&mut self) -> Result<(), BlockError> {
        D::flush(self).await
    }

    async fn is_write_protected(&mut self) -> Result<bool, BlockError> {
        D::is_write_protected(self).await
    }

    fn counters(&self) -> Counters {
        D::counters(self)
    }
}

/// What a device has done since it was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SCSI commands sent, of every kind.
    pub commands: u64,
    /// Bytes read from the medium.
    pub bytes_read: u64,
    /// Bytes written to the medium.
    pub bytes_written: u64,
    /// Time spent in commands that read, in microseconds.
    pub read_us: u64,
    /// Time spent in commands that write, in microseconds.
    pub write_us: u64,
}

/// Blocks that could not be read or written, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockError {
    /// First block of the range.
    pub block: u64,
    /// Number of blocks in the range.
    pub blocks: u64,
    /// Why.
    pub cause: Cause,
}

/// Why blocks could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The medium does not give these blocks back (sense key 3).
    Medium(Sense),
    /// The device is write-protected (sense key 7), or this program does not write to it.
    WriteProtected,
    /// The device failed the command for another reason.
    Device(Sense),
    /// The medium is not there, or not ready even after waiting.
    NotReady(Sense),
    /// The device did not answer in time.
    Timeout,
    /// The device is gone.
    Gone,
    /// The device answered something that the protocol does not allow; the text says what.
    Protocol(&'static str),
    /// The controller or its driver could not carry out the transfer; the text says why.
    Transfer(&'static str),
    /// The range reaches beyond the end of the device.
    OutOfRange,
    /// The buffer is not a whole number of blocks, or is empty.
    Unaligned,
}

/// Sense data of a failed SCSI command (SPC-3, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Additional sense code qualifier.
    pub qualifier: u8,
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sense {:x}/{:02x}/{:02x}",
            self.key, self.code, self.qualifier
        )
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium(sense) => write!(f, "medium error ({sense})"),
            Self::WriteProtected => f.write_str("the device is write-protected"),
            Self::Device(sense) => write!(f, "the device failed the command ({sense})"),
            Self::NotReady(sense) => write!(f, "the medium is not ready ({sense})"),
            Self::Timeout => f.write_str("the device did not answer in time"),
            Self::Gone => f.write_str("the device was unplugged"),
            Self::Protocol(what) => write!(f, "the device broke the protocol: {what}"),
            Self::Transfer(why) => write!(f, "the transfer failed: {why}"),
            Self::OutOfRange => f.write_str("beyond the end of the device"),
            Self::Unaligned => f.write_str("not a whole number of blocks"),
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.blocks {
            0 | 1 => write!(f, "block {}: {}", self.block, self.cause),
            blocks => write!(
                f,
                "blocks {} to {}: {}",
                self.block,
                self.block.saturating_add(blocks - 1),
                self.cause
            ),
        }
    }
}

impl core::error::Error for BlockError {}

impl BlockError {
    /// Whether other blocks of the device may still be readable.
    pub fn is_local(&self) -> bool {
        matches!(
            self.cause,
            Cause::Medium(_)
                | Cause::WriteProtected
                | Cause::Device(_)
                | Cause::OutOfRange
                | Cause::Unaligned
        )
    }
}

/// Checks a request against the device's size and returns its number of blocks.
///
/// # Errors
/// [`Cause::Unaligned`] and [`Cause::OutOfRange`].
pub fn check_range(
    block_size: u32,
    capacity: u64,
    first: u64,
    bytes: usize,
) -> Result<u64, BlockError> {
    let size = u64::from(block_size).max(1);
    let bytes = bytes as u64;
    let blocks = bytes / size;
    let error = |cause| BlockError {
        block: first,
        blocks,
        cause,
    };
    if bytes == 0 || !bytes.is_multiple_of(size) {
        return Err(error(Cause::Unaligned));
    }
    match first.checked_add(blocks) {
        Some(end) if end <= capacity => Ok(blocks),
        _ => Err(error(Cause::OutOfRange)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn block_sizes_are_the_powers_of_two_from_512_to_4096() {
        let sizes: Vec<_> = (0..=10_000)
            .chain([1 << 31, u32::MAX])
            .filter(|bytes| is_block_size(*bytes))
            .collect();
        assert_eq!(sizes, [512, 1024, 2048, 4096]);
    }

    #[test]
    fn a_range_ends_at_the_last_block() {
        assert_eq!(check_range(512, 10, 8, 1024), Ok(2));
        assert_eq!(
            check_range(512, 10, 9, 1024).unwrap_err().cause,
            Cause::OutOfRange
        );
        assert_eq!(
            check_range(512, 10, u64::MAX, 512).unwrap_err().cause,
            Cause::OutOfRange
        );
    }

    #[test]
    fn a_range_is_whole_blocks() {
        for bytes in [0, 1, 511, 513, 512] {
            assert_eq!(
                check_range(4096, 10, 0, bytes).unwrap_err().cause,
                Cause::Unaligned
            );
        }
    }

    #[test]
    fn an_error_names_its_blocks_and_cause() {
        let cause = Cause::Medium(Sense {
            key: 3,
            code: 0x11,
            qualifier: 0,
        });
        let one = BlockError {
            block: 7,
            blocks: 1,
            cause,
        };
        assert_eq!(one.to_string(), "block 7: medium error (sense 3/11/00)");
        let many = BlockError {
            block: 7,
            blocks: 3,
            cause: Cause::Gone,
        };
        assert_eq!(many.to_string(), "blocks 7 to 9: the device was unplugged");
    }
}
