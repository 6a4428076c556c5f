//! A block device with a read cache, seen as bytes.
//!
//! Metadata is read in small pieces scattered over the medium; a USB command costs three transfers
//! whatever its size. So small reads go through a few cache lines of [`LINE`] bytes, one command
//! each, and everything in them is free from then on. File contents go straight into the caller's
//! buffer, one command for as much as fits ([`Disk::read_into`]).
//!
//! File system libraries poll a block device and keep their own buffers, so no command can write
//! into those while it runs. [`Window`] is what they see: it serves from the cache, and on a miss
//! notes what it wants and suspends them; [`Disk::drive`] then fetches the line and polls them again.

use core::cell::Cell;
use core::future::{Future, poll_fn};
use core::ops::Range;
use core::pin::pin;
use core::task::{Context, Poll};

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use hadris_fs::{Error, ErrorKind};
use hadris_storage::{BlockIndex, BlockSize};

use crate::block::{BlockDevice, BlockError, Cause, Counters, check_range, is_block_size};

/// Size of a cache line in bytes: what one command reads for a small request.
pub const LINE: usize = 16 * 1024;

/// Most cache lines that a disk makes use of.
pub const MAX_LINES: usize = 8;

/// Unit of addresses in this module and in file systems, whatever the block size of the device.
pub const SECTOR: u32 = 512;

/// A block device, its cache, and the means to share both with a file system.
pub struct Disk<'m, D> {
    inner: Mutex<NoopRawMutex, Inner<'m, D>>,
    block_size: u32,
    blocks: u64,
    /// The byte that a suspended reader waits for.
    wanted: Cell<Option<u64>>,
    /// Why the wanted byte cannot be had.
    failure: Cell<Option<BlockError>>,
}

struct Inner<'m, D> {
    device: D,
    memory: &'m mut [u8],
    lines: [Line; MAX_LINES],
    /// Counts uses, to find the line that was used longest ago.
    uses: u64,
}

/// Which bytes of the device a part of the cache memory holds.
#[derive(Clone, Copy)]
struct Line {
    start: u64,
    length: usize,
    used: u64,
}

impl Line {
    const EMPTY: Self = Self {
        start: 0,
        length: 0,
        used: 0,
    };
}

impl<'m, D: BlockDevice> Disk<'m, D> {
    /// Wraps a device. `memory` becomes the cache: at least one, at most [`MAX_LINES`] lines of
    /// [`LINE`] bytes; what is left over is not used.
    ///
    /// # Errors
    /// [`Cause::Protocol`] if the device's block size is not one that [`is_block_size`],
    /// [`Cause::Unaligned`] if the memory is too small.
    pub fn new(device: D, memory: &'m mut [u8]) -> Result<Self, BlockError> {
        let (block_size, blocks) = (device.block_size(), device.blocks());
        let error = |cause| BlockError {
            block: 0,
            blocks: 0,
            cause,
        };
        if !is_block_size(block_size) {
            return Err(error(Cause::Protocol(
                "its block size is not 512, 1024, 2048 or 4096 bytes",
            )));
        }
        if blocks.checked_mul(u64::from(block_size)).is_none() {
            return Err(error(Cause::Protocol("its capacity is impossible")));
        }
        if memory.len() < LINE {
            return Err(error(Cause::Unaligned));
        }
        let inner = Inner {
            device,
            memory,
            lines: [Line::EMPTY; MAX_LINES],
            uses: 0,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            block_size,
            blocks,
            wanted: Cell::new(None),
            failure: Cell::new(None),
        })
    }

    /// Gives the device back.
    pub fn into_device(self) -> D {
        self.inner.into_inner().device
    }

    /// Returns the size of a block in bytes.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Returns the number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// Returns what the device has done so far.
    pub async fn counters(&self) -> Counters {
        self.inner.lock().await.device.counters()
    }

    /// Reads the bytes from `offset` on through the cache, any number and alignment.
    ///
    /// # Errors
    /// Any [`BlockError`]; it names the block that cannot be read.
    pub async fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.saturating_add(done as u64);
            let mut inner = self.inner.lock().await;
            match inner.copy(at, &mut buffer[done..]) {
                0 => self.fill(&mut inner, at).await?,
                n => done += n,
            }
        }
        Ok(())
    }

    /// Reads up to `length` bytes from `offset` on with one command, straight into `buffer`, and
    /// returns the part of `buffer` that holds them: it may start later than the buffer, because
    /// commands read whole blocks, and it is shorter than `length` if the buffer is. Short reads
    /// are served from the cache.
    ///
    /// # Errors
    /// Any [`BlockError`]. If only part of the range is unreadable it names the first such block.
    pub async fn read_into(
        &self,
        offset: u64,
        length: u64,
        buffer: &mut [u8],
    ) -> Result<Range<usize>, BlockError> {
        let size = u64::from(self.block_size);
        let lead = (offset % size) as usize;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let room = buffer.len() - buffer.len() % size as usize;
        let length = wanted.min(room.saturating_sub(lead));
        if length < LINE {
            // Small files share lines with their neighbours.
            let length = wanted.min(buffer.len()).min(LINE);
            self.read(offset, &mut buffer[..length]).await?;
            return Ok(0..length);
        }
        let end = (lead + length).next_multiple_of(size as usize);
        let mut inner = self.inner.lock().await;
        inner
            .read_blocks(offset / size, &mut buffer[..end], size)
            .await?;
        Ok(lead..lead + length)
    }

    /// Runs a file system operation that reads through [`Window`]s of this disk.
    pub async fn drive<F: Future>(&self, operation: F) -> F::Output {
        let mut operation = pin!(operation);
        loop {
            let step = poll_fn(|cx| match operation.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if self.wanted.get().is_some() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            if let Some(output) = step.await {
                return output;
            }
            if let Some(offset) = self.wanted.take() {
                let mut inner = self.inner.lock().await;
                if let Err(error) = self.fill(&mut inner, offset).await {
                    self.failure.set(Some(error));
                }
            }
        }
    }

    /// Returns a view of `blocks` blocks from `first` on, cut at the end of the device.
    pub fn window(&self, first: u64, blocks: u64) -> Window<'_, 'm, D> {
        let first = first.min(self.blocks);
        let per_block = u64::from(self.block_size / SECTOR);
        Window {
            disk: self,
            start: first * u64::from(self.block_size),
            sectors: blocks.min(self.blocks - first) * per_block,
        }
    }

    /// Fetches the line that holds the byte at `offset`; only its block if the line cannot be read.
    async fn fill(&self, inner: &mut Inner<'m, D>, offset: u64) -> Result<(), BlockError> {
        let size = u64::from(self.block_size);
        if offset >= self.bytes() {
            return Err(BlockError {
                block: offset / size,
                blocks: 1,
                cause: Cause::OutOfRange,
            });
        }
        let start = offset - offset % LINE as u64;
        let length = (self.bytes() - start).min(LINE as u64) as usize;
        match inner.load(start, length, size).await {
            Err(error) if error.is_local() => {
                inner
                    .load(offset - offset % size, size as usize, size)
                    .await
            }
            result => result,
        }
    }
}

impl<D: BlockDevice> Inner<'_, D> {
    fn usable_lines(&self) -> usize {
        (self.memory.len() / LINE).min(MAX_LINES)
    }

    /// Copies what the cache holds from the byte at `offset` on, and returns how many bytes that
    /// were: at most up to the end of one line.
    fn copy(&mut self, offset: u64, out: &mut [u8]) -> usize {
        for (line, memory) in self.lines.iter_mut().zip(self.memory.chunks_exact(LINE)) {
            let Some(within) = offset.checked_sub(line.start) else {
                continue;
            };
            if within < line.length as u64 {
                let held = &memory[within as usize..line.length];
                let n = held.len().min(out.len());
                out[..n].copy_from_slice(&held[..n]);
                self.uses += 1;
                line.used = self.uses;
                return n;
            }
        }
        0
    }

    /// Reads `length` bytes at `start` into the line that was used longest ago.
    async fn load(&mut self, start: u64, length: usize, size: u64) -> Result<(), BlockError> {
        let usable = self.usable_lines();
        let oldest = (0..usable).min_by_key(|&i| self.lines[i].used).unwrap_or(0);
        let memory = &mut self.memory[oldest * LINE..][..length];
        // Empty while the command runs: it may fail, or be dropped half-way.
        self.lines[oldest] = Line::EMPTY;
        self.device.read(start / size, memory).await?;
        self.uses += 1;
        self.lines[oldest] = Line {
            start,
            length,
            used: self.uses,
        };
        Ok(())
    }

    /// Reads blocks, and on failure finds out which is the first that cannot be read.
    async fn read_blocks(
        &mut self,
        first: u64,
        buffer: &mut [u8],
        size: u64,
    ) -> Result<(), BlockError> {
        let error = match self.device.read(first, buffer).await {
            Err(error) if matches!(error.cause, Cause::Medium(_)) => error,
            result => return result,
        };
        let (mut good, mut suspects) = (0, buffer.len() as u64 / size);
        while suspects > 1 {
            let half = suspects / 2;
            match self
                .device
                .read(first + good, &mut buffer[..(half * size) as usize])
                .await
            {
                Ok(()) => {
                    good += half;
                    suspects -= half;
                }
                Err(error) if error.is_local() => suspects = half,
                Err(error) => return Err(error),
            }
        }
        Err(BlockError {
            block: first + good,
            blocks: 1,
            ..error
        })
    }
}

/// A range of a disk as a file system library sees it: 512-byte sectors, read through the cache.
///
/// Operations on it complete only within [`Disk::drive`] of the same disk, one at a time.
pub struct Window<'d, 'm, D> {
    disk: &'d Disk<'m, D>,
    /// First byte on the device.
    start: u64,
    sectors: u64,
}

impl<D> hadris_io::ErrorType for Window<'_, '_, D> {
    type Error = BlockError;
}

impl<D: BlockDevice> hadris_storage::async_::BlockDevice for Window<'_, '_, D> {
    /// Bytes that are already in the caller's buffer.
    type State = usize;

    fn block_size(&self) -> BlockSize {
        const SIZE: BlockSize = BlockSize::new(SECTOR).unwrap();
        SIZE
    }

    fn block_count(&self) -> u64 {
        self.sectors
    }

    fn poll_read_blocks(
        &mut self,
        done: &mut usize,
        _: &mut Context<'_>,
        first: BlockIndex,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Error<BlockError>>> {
        // A volume reads nothing of its neighbours, whatever its structures say.
        if check_range(SECTOR, self.sectors, first.get(), buffer.len()).is_err() {
            return Poll::Ready(Err(ErrorKind::InvalidInput.into()));
        }
        // Inside the window, and so inside the disk: this does not overflow.
        let offset = self.start + first.get() * u64::from(SECTOR);
        if let Some(error) = self.disk.failure.take() {
            return Poll::Ready(Err(Error::device(error, "reading the medium failed")));
        }
        while let Some(rest) = buffer.get_mut(*done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(*done as u64);
            let copied = match self.disk.inner.try_lock() {
                Ok(mut inner) => inner.copy(at, rest),
                Err(_) => 0,
            };
            if copied == 0 {
                self.disk.wanted.set(Some(at));
                return Poll::Pending;
            }
            *done += copied;
        }
        Poll::Ready(Ok(()))
    }

    fn cancel(&mut self, _: &mut usize) {
        self.disk.wanted.set(None);
    }
}

#[cfg(test)]
mod tests;
