//! A block device with a cache, seen as bytes.
//!
//! Metadata is read and written in small pieces scattered over the medium; a USB command costs three
//! transfers whatever its size. So small accesses go through cache lines of [`LINE`] bytes, one
//! command each or, when they follow one another, one for [`AHEAD`] of them. What is written stays in
//! its line until [`Disk::flush`], so that neighbours share a command; between two flushes the order
//! in which the medium gets it is not defined, which is why file systems flush between steps that
//! must not change places. File contents go straight from and to the caller's buffer, one command for
//! as much as fits ([`Disk::read_into`], [`Disk::write_from`]).
//!
//! File system libraries poll a block device and keep their own buffers, so no command can use those
//! while it runs. [`Window`] is what they see: it serves from the cache, and on a miss notes what it
//! wants and suspends them; [`Disk::drive`] then does it and polls them again.
//!
//! Nothing is written to a disk that was made for reading, by whatever way.

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
pub const MAX_LINES: usize = 12;

/// Lines that one command reads where reading goes on from one line into the next.
pub const AHEAD: usize = 4;

/// Unit of addresses in this module and in file systems, whatever the block size of the device.
pub const SECTOR: u32 = 512;

/// What may be done with a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A block device, its cache, and the means to share both with a file system.
pub struct Disk<'m, D> {
    inner: Mutex<NoopRawMutex, Inner<'m, D>>,
    block_size: u32,
    blocks: u64,
    access: Access,
    /// What a suspended file system waits for.
    wanted: Cell<Option<Wanted>>,
    /// Why it cannot be had.
    failure: Cell<Option<BlockError>>,
}

#[derive(Clone, Copy)]
enum Wanted {
    /// The line that holds this byte.
    Byte(u64),
    /// Everything written on the medium.
    Flush,
}

struct Inner<'m, D> {
    device: D,
    memory: &'m mut [u8],
    lines: [Line; MAX_LINES],
    /// Counts uses, to find the line that was used longest ago.
    uses: u64,
}

/// Which bytes of the device a part of the cache memory holds. No two lines hold the same byte.
#[derive(Clone, Copy)]
struct Line {
    start: u64,
    length: usize,
    used: u64,
    /// Sectors that the medium does not have yet, one bit each; always whole blocks.
    dirty: u32,
}

// One bit for each sector of a line.
const _: () = assert!(LINE / SECTOR as usize == u32::BITS as usize);

impl Line {
    const EMPTY: Self = Self {
        start: 0,
        length: 0,
        used: 0,
        dirty: 0,
    };

    fn end(&self) -> u64 {
        self.start + self.length as u64
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end()
    }
}

impl<'m, D: BlockDevice> Disk<'m, D> {
    /// Wraps a device for reading: every write fails with [`Cause::WriteProtected`]. `memory` becomes
    /// the cache: at least one, at most [`MAX_LINES`] lines of [`LINE`] bytes; what is left over is
    /// not used.
    ///
    /// # Errors
    /// [`Cause::Protocol`] if the device's block size is not one that [`is_block_size`],
    /// [`Cause::Unaligned`] if the memory is too small.
    pub fn new(device: D, memory: &'m mut [u8]) -> Result<Self, BlockError> {
        Self::with_access(device, memory, Access::Read)
    }

    /// Wraps a device for reading and writing; otherwise like [`Self::new`].
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn for_writing(device: D, memory: &'m mut [u8]) -> Result<Self, BlockError> {
        Self::with_access(device, memory, Access::Write)
    }

    fn with_access(device: D, memory: &'m mut [u8], access: Access) -> Result<Self, BlockError> {
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
            access,
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

    /// Returns whether this disk or the device refuses to be written.
    ///
    /// # Errors
    /// [`BlockError`] if the device is gone or does not answer.
    pub async fn is_write_protected(&self) -> Result<bool, BlockError> {
        let mut inner = self.inner.lock().await;
        Ok(self.access == Access::Read || inner.device.is_write_protected().await?)
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
        let start = offset - lead as u64;
        inner
            .write_back(size, Some((start, start.saturating_add(end as u64))))
            .await?;
        inner
            .read_blocks(offset / size, &mut buffer[..end], size)
            .await?;
        Ok(lead..lead + length)
    }

    /// Writes bytes through the cache, any number and alignment.
    ///
    /// # Errors
    /// Any [`BlockError`]; some of the bytes may then be in the cache or on the medium.
    pub async fn write(&self, offset: u64, buffer: &[u8]) -> Result<(), BlockError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset.saturating_add(done as u64);
            self.check_writable(at)?;
            let mut inner = self.inner.lock().await;
            match inner.update(at, &buffer[done..], self.block_size) {
                0 => self.fill(&mut inner, at).await?,
                n => done += n,
            }
        }
        Ok(())
    }

    /// Writes the bytes of `buffer` straight to the medium, with one command if they are whole
    /// blocks; what is not goes through the cache.
    ///
    /// # Errors
    /// Any [`BlockError`]; some of the bytes may then have been written.
    pub async fn write_from(&self, offset: u64, buffer: &[u8]) -> Result<(), BlockError> {
        self.check_writable(offset)?;
        let size = u64::from(self.block_size);
        let lead = (offset.wrapping_neg() % size) as usize;
        let (head, rest) = buffer.split_at(lead.min(buffer.len()));
        let (body, tail) = rest.split_at(rest.len() - rest.len() % size as usize);
        self.write(offset, head).await?;
        let offset = offset.saturating_add(head.len() as u64);
        let end = offset.saturating_add(body.len() as u64);
        if !body.is_empty() {
            let mut inner = self.inner.lock().await;
            // A line may also hold what is beside the range.
            inner.write_back(size, Some((offset, end))).await?;
            inner.forget(offset, end);
            inner.device.write(offset / size, body).await?;
        }
        self.write(end, tail).await
    }

    /// Brings everything that was written to the medium.
    ///
    /// # Errors
    /// Any [`BlockError`]; what could not be written stays in the cache.
    pub async fn flush(&self) -> Result<(), BlockError> {
        if self.access == Access::Read {
            return Ok(());
        }
        let mut inner = self.inner.lock().await;
        inner.write_back(self.block_size.into(), None).await?;
        inner.device.flush().await
    }

    /// Empties the cache, so that what is read next comes from the medium. What was written and not
    /// flushed is lost.
    pub async fn discard(&self) {
        self.inner.lock().await.forget(0, u64::MAX);
    }

    fn check_writable(&self, offset: u64) -> Result<(), BlockError> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(BlockError {
                block: offset / u64::from(self.block_size),
                blocks: 1,
                cause: Cause::WriteProtected,
            }),
        }
    }

    /// Runs a file system operation on [`Window`]s of this disk.
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
            let done = match self.wanted.take() {
                Some(Wanted::Byte(offset)) => {
                    let mut inner = self.inner.lock().await;
                    self.fill(&mut inner, offset).await
                }
                Some(Wanted::Flush) => self.flush().await,
                None => Ok(()),
            };
            if let Err(error) = done {
                self.failure.set(Some(error));
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
        let lines = inner.lines_ahead(start, self.bytes());
        let left = self.bytes() - start;
        if lines > 1 {
            match inner.load(start, lines * LINE, size).await {
                Err(error) if error.is_local() => {}
                result => return result,
            }
        }
        match inner
            .load(start, left.min(LINE as u64) as usize, size)
            .await
        {
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

    /// Finds the line that holds the byte at `offset`, and where in it.
    fn find(&mut self, offset: u64) -> Option<(usize, usize)> {
        let index = self.lines.iter().position(|line| {
            offset
                .checked_sub(line.start)
                .is_some_and(|within| within < line.length as u64)
        })?;
        self.uses += 1;
        self.lines[index].used = self.uses;
        Some((index, (offset - self.lines[index].start) as usize))
    }

    /// Copies what the cache holds from the byte at `offset` on, and returns how many bytes that
    /// were: at most up to the end of one line.
    fn copy(&mut self, offset: u64, out: &mut [u8]) -> usize {
        let Some((index, within)) = self.find(offset) else {
            return 0;
        };
        let held = &self.memory[index * LINE..][within..self.lines[index].length];
        let n = held.len().min(out.len());
        out[..n].copy_from_slice(&held[..n]);
        n
    }

    /// Changes what the cache holds from the byte at `offset` on, and returns how many bytes that
    /// were: at most up to the end of one line.
    fn update(&mut self, offset: u64, data: &[u8], block_size: u32) -> usize {
        let Some((index, within)) = self.find(offset) else {
            return 0;
        };
        let line = &mut self.lines[index];
        let held = &mut self.memory[index * LINE..][within..line.length];
        let n = held.len().min(data.len());
        held[..n].copy_from_slice(&data[..n]);
        let block = block_size as usize;
        let first = within / block * block;
        let end = (within + n).next_multiple_of(block).min(line.length);
        line.dirty |= sectors(first, end);
        n
    }

    /// Number of lines to read at once from `start` on: several where reading goes on from a line
    /// that is held, up to the end of the device or to the next line that is held.
    fn lines_ahead(&self, start: u64, end: u64) -> usize {
        let follows = self
            .lines
            .iter()
            .any(|line| line.length != 0 && line.end() == start);
        if !follows || self.usable_lines() < 2 * AHEAD {
            return 1;
        }
        let free = |n: &usize| {
            let start = start + (n * LINE) as u64;
            let next = start + LINE as u64;
            next <= end && !self.lines.iter().any(|line| line.overlaps(start, next))
        };
        (0..AHEAD).take_while(free).count().max(1)
    }

    /// Reads `length` bytes at `start` with one command, into the adjacent lines that were used
    /// longest ago.
    async fn load(&mut self, start: u64, length: usize, size: u64) -> Result<(), BlockError> {
        let count = length.div_ceil(LINE);
        let usable = self.usable_lines();
        let age = |first: &usize| {
            let lines = self.lines[*first..*first + count].iter();
            lines.map(|line| line.used).max()
        };
        let places = (0..=usable.saturating_sub(count)).step_by(count.max(1));
        let first = places.min_by_key(age).unwrap_or(0);
        let taken = &self.lines[first..first + count];
        let overlapping = |line: &Line| line.overlaps(start, start + length as u64);
        if taken.iter().any(|line| line.dirty != 0) || self.lines.iter().any(overlapping) {
            // Nothing is thrown away that the medium does not have.
            self.write_back(size, None).await?;
            self.forget(start, start + length as u64);
        }
        // Empty while the command runs: it may fail, or be dropped half-way.
        self.lines[first..first + count].fill(Line::EMPTY);
        let memory = &mut self.memory[first * LINE..][..length];
        self.device.read(start / size, memory).await?;
        self.uses += 1;
        for (i, line) in self.lines[first..first + count].iter_mut().enumerate() {
            *line = Line {
                start: start + (i * LINE) as u64,
                length: (length - i * LINE).min(LINE),
                used: self.uses,
                dirty: 0,
            };
        }
        Ok(())
    }

    /// Writes what the medium does not have yet, in the order of its place: everything, or only
    /// the lines that hold bytes of a range.
    async fn write_back(&mut self, size: u64, range: Option<(u64, u64)>) -> Result<(), BlockError> {
        loop {
            let wanted = |line: &Line| {
                line.dirty != 0 && range.is_none_or(|(start, end)| line.overlaps(start, end))
            };
            let lines = self.lines.iter().enumerate();
            let next = lines
                .filter(|(_, line)| wanted(line))
                .min_by_key(|(_, line)| line.start);
            let Some((index, line)) = next else {
                return Ok(());
            };
            let first = line.dirty.trailing_zeros() as usize;
            let count = (line.dirty >> first).trailing_ones() as usize;
            let (from, to) = (first * SECTOR as usize, (first + count) * SECTOR as usize);
            let place = line.start + from as u64;
            let memory = &self.memory[index * LINE..][from..to];
            self.device.write(place / size, memory).await?;
            self.lines[index].dirty &= !sectors(from, to);
        }
    }

    /// Empties the lines that hold bytes of a range.
    fn forget(&mut self, start: u64, end: u64) {
        for line in &mut self.lines {
            if line.overlaps(start, end) {
                *line = Line::EMPTY;
            }
        }
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

/// The bits of the sectors from byte `start` to byte `end` of a line.
fn sectors(start: usize, end: usize) -> u32 {
    let (first, last) = (start / SECTOR as usize, end / SECTOR as usize);
    // At most all 32: the shifts are done in more bits than that.
    ((1_u64 << last) - (1_u64 << first)) as u32
}

/// A range of a disk as a file system library sees it: 512-byte sectors, through the cache.
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

    fn writable(&self) -> bool {
        self.disk.access == Access::Write
    }

    fn poll_read_blocks(
        &mut self,
        done: &mut usize,
        _: &mut Context<'_>,
        first: BlockIndex,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Error<BlockError>>> {
        let offset = match self.check(first, buffer.len()) {
            Ok(offset) => offset,
            Err(error) => return Poll::Ready(Err(error)),
        };
        while let Some(rest) = buffer.get_mut(*done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(*done as u64);
            let copied = match self.disk.inner.try_lock() {
                Ok(mut inner) => inner.copy(at, rest),
                Err(_) => 0,
            };
            if copied == 0 {
                self.disk.wanted.set(Some(Wanted::Byte(at)));
                return Poll::Pending;
            }
            *done += copied;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_blocks(
        &mut self,
        done: &mut usize,
        _: &mut Context<'_>,
        first: BlockIndex,
        buffer: &[u8],
    ) -> Poll<Result<(), Error<BlockError>>> {
        let offset = match self.check(first, buffer.len()) {
            Ok(offset) => offset,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Err(error) = self.disk.check_writable(offset) {
            return Poll::Ready(Err(Error::device(error, "the disk is not to be written")));
        }
        while let Some(rest) = buffer.get(*done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(*done as u64);
            let copied = match self.disk.inner.try_lock() {
                Ok(mut inner) => inner.update(at, rest, self.disk.block_size),
                Err(_) => 0,
            };
            if copied == 0 {
                self.disk.wanted.set(Some(Wanted::Byte(at)));
                return Poll::Pending;
            }
            *done += copied;
        }
        Poll::Ready(Ok(()))
    }

    /// Asks for the flush at the first poll; it has happened at the second.
    fn poll_flush(
        &mut self,
        asked: &mut usize,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Error<BlockError>>> {
        if *asked == 0 {
            *asked = 1;
            self.disk.wanted.set(Some(Wanted::Flush));
            return Poll::Pending;
        }
        Poll::Ready(match self.disk.failure.take() {
            Some(error) => Err(Error::device(error, "writing the medium failed")),
            None => Ok(()),
        })
    }

    fn cancel(&mut self, _: &mut usize) {
        self.disk.wanted.set(None);
    }
}

impl<D: BlockDevice> Window<'_, '_, D> {
    /// Returns the byte on the disk at which a range begins, unless the range leaves the window or
    /// what it waited for failed.
    fn check(&self, first: BlockIndex, length: usize) -> Result<u64, Error<BlockError>> {
        // A volume touches nothing of its neighbours, whatever its structures say.
        if check_range(SECTOR, self.sectors, first.get(), length).is_err() {
            return Err(ErrorKind::InvalidInput.into());
        }
        match self.disk.failure.take() {
            Some(error) => Err(Error::device(error, "the medium failed")),
            // Inside the window, and so inside the disk: this does not overflow.
            None => Ok(self.start + first.get() * u64::from(SECTOR)),
        }
    }
}

#[cfg(test)]
mod tests;
