//! The job: find out what is on a stick, read every file of it, write a file and verify it, and
//! report.
//!
//! A stick's contents are not trusted. Whatever they say, the walk ends: a directory that contains
//! itself is not entered, depth is bounded, and a volume cannot claim much more than it can hold.
//! Errors name the volume, the path and the block, and the walk goes on with the rest.

mod capacity;
mod check;
mod task;

use core::fmt::{self, Write};

use sha2::{Digest, Sha256};

use crate::block::{BlockDevice, BlockError};
use crate::disk::Disk;
use crate::partition::{self, Areas};
use crate::report::{self, Event, MAX_PATH, Sink, StickIndex, VolumeIndex, VolumeKind};
use crate::volume::{Directory, Entry, File, Name, Volume, VolumeError};

pub use capacity::Capacity;
pub use check::{CHECK_BYTES, Check, DIRECTORY};
pub use task::{BadArguments, Task, stamp};

/// Deepest directory that is entered; the root is at depth 0.
pub const MAX_DEPTH: usize = 64;

/// Most error records per stick. More are counted, and one record says so.
pub const MAX_ERRORS: u32 = 200;

/// Least time between two progress records, in microseconds.
const PROGRESS_INTERVAL: u64 = 250_000;

/// A volume's files and directories may claim this many times its size: files that share clusters
/// are damage, but no reason to leave out the others.
const BUDGET_FACTOR: u64 = 4;

/// What is known of a stick before its medium is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'s> {
    /// Index in the reports.
    pub stick: StickIndex,
    /// Root port, counted from 0.
    pub port: u8,
    /// Logical unit.
    pub lun: u8,
    /// USB vendor.
    pub vendor_id: u16,
    /// USB product.
    pub product_id: u16,
    /// Vendor from the INQUIRY data.
    pub vendor: &'s str,
    /// Product from the INQUIRY data.
    pub product: &'s str,
}

/// Memory that a job needs besides its buffers; about 20 KiB, so better not on a stack.
pub struct Workspace {
    path: heapless::String<MAX_PATH>,
    levels: heapless::Vec<Level, { MAX_DEPTH + 1 }>,
    name: Name,
    areas: Areas,
    first_error: Message,
}

impl Workspace {
    /// Makes an empty workspace.
    pub const fn new() -> Self {
        Self {
            path: heapless::String::new(),
            levels: heapless::Vec::new(),
            name: Name::new(),
            areas: heapless::Vec::new(),
            first_error: heapless::String::new(),
        }
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

/// One line of text about an error, without the path.
type Message = heapless::String<256>;

/// A directory on the way from the root to where the walk is.
struct Level {
    directory: Directory,
    /// Length of its path in bytes; the root's is 0.
    path: usize,
}

/// What a job needs for one stick at a time.
pub struct Job<'a, S> {
    /// Receives the records.
    pub sink: S,
    /// The application's buffer for file contents: one command fills at most all of it. At least
    /// one cache line; whole blocks are best.
    pub buffer: &'a mut [u8],
    /// Memory for the metadata cache; see [`Disk::new`].
    pub cache: &'a mut [u8],
    /// Scratch memory.
    pub work: &'a mut Workspace,
    /// What it is to do.
    pub task: Task,
    /// Returns a time in microseconds that never runs backwards.
    pub clock: fn() -> u64,
}

/// What came out of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files read to their end.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Files written and verified.
    pub written: u32,
    /// Errors, reported or not.
    pub errors: u32,
}

impl<S: Sink> Job<'_, S> {
    /// Reads a whole stick: partitions, volumes, every file; then writes the check file to each
    /// volume; or tests its capacity: see [`Task`]. Reports all of it, from `Stick` to `StickDone`,
    /// to the sink.
    pub async fn run<D: BlockDevice>(&mut self, mut device: D, identity: &Identity<'_>) -> Summary {
        self.sink.event(&Event::Stick {
            stick: identity.stick,
            port: identity.port,
            lun: identity.lun,
            vendor_id: identity.vendor_id,
            product_id: identity.product_id,
            vendor: identity.vendor,
            product: identity.product,
            block_size: device.block_size(),
            blocks: device.blocks(),
        });
        let Workspace {
            path,
            levels,
            name,
            areas,
            first_error,
        } = &mut *self.work;
        first_error.clear();
        let mut run = Run {
            report: Reporter {
                stick: identity.stick,
                volume: None,
                sink: &mut self.sink,
                first_error,
                errors: 0,
            },
            buffer: &mut *self.buffer,
            path,
            levels,
            name,
            clock: self.clock,
            progress: Progress::start((self.clock)()),
            summary: Summary::default(),
        };
        let disk = match &self.task {
            Task::Capacity(test) => {
                run.test_capacity(&mut device, test).await;
                None
            }
            Task::Read => Some((Disk::new(&mut device, self.cache), None)),
            Task::Check(check) => Some((Disk::for_writing(&mut device, self.cache), Some(check))),
        };
        match disk {
            Some((Ok(disk), check)) => run.disk(&disk, areas, check).await,
            Some((Err(error), _)) => run.report.error(None, Some(error.block), &error.cause),
            None => {}
        }
        let counters = device.counters();
        let summary = Summary {
            errors: run.report.errors,
            ..run.summary
        };
        let first_error = Some(run.report.first_error.as_str()).filter(|text| !text.is_empty());
        run.report.sink.event(&Event::StickDone {
            stick: identity.stick,
            scsi_commands: counters.commands,
            bytes_read: counters.bytes_read,
            bytes_written: counters.bytes_written,
            read_us: counters.read_us,
            write_us: counters.write_us,
            error: first_error,
        });
        summary
    }

    /// Returns the first error of the last stick.
    pub fn first_error(&self) -> Option<&str> {
        Some(self.work.first_error.as_str()).filter(|text| !text.is_empty())
    }
}

/// The state of one run over a stick.
struct Run<'a, S> {
    report: Reporter<'a, S>,
    buffer: &'a mut [u8],
    path: &'a mut heapless::String<MAX_PATH>,
    levels: &'a mut heapless::Vec<Level, { MAX_DEPTH + 1 }>,
    name: &'a mut Name,
    clock: fn() -> u64,
    progress: Progress,
    summary: Summary,
}

/// Whether the stick can still be asked for more.
#[derive(PartialEq, Eq)]
enum Stick {
    Alive,
    Dead,
}

impl Stick {
    /// What an error that is local, or is not, means for the stick.
    fn after(local: bool) -> Self {
        match local {
            true => Self::Alive,
            false => Self::Dead,
        }
    }
}

/// What a walk does with the files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Adds up their sizes and says nothing, unless the stick dies.
    Measure,
    /// Reads them and reports.
    Read,
}

impl<S: Sink> Run<'_, S> {
    async fn disk<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        areas: &mut Areas,
        check: Option<&Check>,
    ) {
        let scheme = partition::scan(disk, areas, &mut |problem| {
            self.report.error(None, problem.block(), &problem);
        })
        .await;
        debug!("{} areas, found by scheme {}", areas.len(), scheme as u8);
        let sound_table = self.report.errors == 0;
        // One bit for each area: those that hold a FAT, and those in which nothing was amiss.
        let (mut fats, mut sound) = (0_u128, 0_u128);
        const _: () = assert!(partition::MAX_AREAS <= u128::BITS as usize);
        for (index, area) in areas.iter().enumerate() {
            let errors = self.report.errors;
            let index = index as VolumeIndex;
            self.report.volume = Some(index);
            let (kind, stick) = self.volume(disk, index, area).await;
            if stick == Stick::Dead {
                return self.progress.report((self.clock)(), &mut self.report);
            }
            fats |= u128::from(kind.is_read()) << index;
            sound |= u128::from(kind.is_read() && self.report.errors == errors) << index;
        }
        if let Some(check) = check {
            let sound = if sound_table { sound } else { 0 };
            self.write_checks(disk, areas, fats, sound, check).await;
        }
        self.progress.report((self.clock)(), &mut self.report);
    }

    /// Reads what is in an area.
    async fn volume<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        index: VolumeIndex,
        area: &partition::Area,
    ) -> (VolumeKind, Stick) {
        let errors = self.report.errors;
        let mounted = Volume::mount(disk, *area).await;
        let kind = match &mounted {
            Ok(Some(volume)) => volume.kind(),
            Ok(None) => Volume::kind_of_foreign(disk, *area).await,
            Err(_) => VolumeKind::Unknown,
        };
        let mut mounted = match mounted {
            Ok(mounted) => mounted,
            Err(error) => {
                self.volume_event(index, kind, false, area);
                self.report
                    .error(None, error.block().or(Some(area.first)), &error);
                return (kind, Stick::after(error.is_local()));
            }
        };
        let labelled = match &mut mounted {
            // A root directory that cannot be read shows up in the walk.
            Some(volume) => volume.label(disk, self.name).await.unwrap_or(false),
            None => false,
        };
        self.volume_event(index, kind, labelled, area);
        if let Some(volume) = &mut mounted {
            let bytes = area.blocks * u64::from(disk.block_size());
            if self.walk(disk, volume, bytes, Purpose::Measure).await == Stick::Dead
                || self.walk(disk, volume, bytes, Purpose::Read).await == Stick::Dead
            {
                return (kind, Stick::Dead);
            }
            // What a walk finds is damage enough.
            if self.report.errors == errors {
                return (kind, self.look_for_damage(disk, volume).await);
            }
        }
        (kind, Stick::Alive)
    }

    fn volume_event(
        &mut self,
        volume: VolumeIndex,
        kind: VolumeKind,
        labelled: bool,
        area: &partition::Area,
    ) {
        self.report.sink.event(&Event::Volume {
            stick: self.report.stick,
            volume,
            kind,
            label: labelled.then_some(self.name.as_str()),
            first_block: area.first,
            blocks: area.blocks,
        });
    }

    /// Walks the tree of a volume of `bytes` bytes, in the order of the directories.
    async fn walk<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        volume: &mut Volume,
        bytes: u64,
        purpose: Purpose,
    ) -> Stick {
        let mut budget = bytes.saturating_mul(BUDGET_FACTOR);
        let read = purpose == Purpose::Read;
        self.path.clear();
        self.levels.clear();
        let _ = self.levels.push(Level {
            directory: volume.root(),
            path: 0,
        });
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path);
            let before = volume.directory_bytes();
            let next = volume.next(disk, &mut level.directory, self.name).await;
            // A directory can be long and list nothing: what was read of it counts.
            let mut cost = volume.directory_bytes() - before;
            if matches!(next, Ok(Some(Entry::Directory(_)))) {
                cost += volume.cluster_size();
            }
            let entry = match next {
                Ok(entry) => {
                    if entry.is_none() {
                        self.levels.pop();
                    }
                    entry
                }
                Err(error) => {
                    self.levels.pop();
                    // No other walk follows that could report that the stick is dead.
                    if read || !error.is_local() {
                        self.error_here(error.block(), &error);
                    }
                    if !error.is_local() {
                        return Stick::Dead;
                    }
                    None
                }
            };
            match budget.checked_sub(cost) {
                Some(left) => budget = left,
                None if read => {
                    self.error_here(None, &"the directories claim more than the volume holds");
                    return Stick::Alive;
                }
                None => return Stick::Alive,
            }
            let Some(entry) = entry else {
                continue;
            };
            if self.append_name().is_err() {
                if read {
                    self.error_here(None, &PathTooLong);
                }
                continue;
            }
            if read && self.name.mangled {
                self.error_here(None, &"the name contains what cannot be in a name");
            }
            match entry {
                Entry::Directory(directory) => {
                    let levels = &mut *self.levels;
                    let problem = if levels
                        .iter()
                        .any(|level| level.directory.is_same(&directory))
                    {
                        Some("the directory contains itself")
                    } else {
                        let level = Level {
                            directory,
                            path: self.path.len(),
                        };
                        let too_deep = "more than 64 levels of directories";
                        levels.push(level).is_err().then_some(too_deep)
                    };
                    if let Some(problem) = problem.filter(|_| read) {
                        self.error_here(None, &problem);
                    }
                }
                Entry::Damaged(what) if read => self.error_here(None, &what),
                Entry::Damaged(_) => {}
                Entry::File(_, size) if !read => {
                    let size = size.min(budget);
                    budget -= size;
                    self.progress.total += size;
                }
                Entry::File(_, size) if size > budget => {
                    self.error_here(None, &"the file claims more than the volume holds");
                }
                Entry::File(file, size) => {
                    budget -= size;
                    if self.file(disk, volume, file, size).await == Stick::Dead {
                        return Stick::Dead;
                    }
                }
            }
        }
        Stick::Alive
    }

    /// Appends the name at hand to the path; leaves the path alone if it does not fit.
    fn append_name(&mut self) -> fmt::Result {
        let length = self.path.len();
        let done = write!(self.path, "/{}", self.name.as_str());
        if done.is_err() {
            self.path.truncate(length);
        }
        done
    }

    /// Reads a file to its end and reports its digest.
    async fn file<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        volume: &mut Volume,
        mut file: File,
        size: u64,
    ) -> Stick {
        let mut digest = Sha256::new();
        let mut bytes = 0;
        loop {
            match volume.read(disk, &mut file, self.buffer).await {
                Ok(range) if range.is_empty() => break,
                Ok(range) => {
                    bytes += range.len() as u64;
                    digest.update(&self.buffer[range.clone()]);
                    self.advance(range.len() as u64);
                }
                Err(error) => {
                    self.error_here(error.block(), &error);
                    // What could not be read counts as dealt with.
                    self.progress.total = self
                        .progress
                        .total
                        .saturating_sub(size.saturating_sub(bytes));
                    return Stick::after(error.is_local());
                }
            }
        }
        self.summary.files += 1;
        self.summary.bytes += bytes;
        self.report.sink.event(&Event::File {
            stick: self.report.stick,
            volume: self.report.volume.unwrap_or_default(),
            path: self.path,
            bytes,
            sha256: report::Sha256(digest.finalize().into()),
        });
        Stick::Alive
    }

    /// Notes that bytes were read or written, and reports that from time to time.
    fn advance(&mut self, bytes: u64) {
        self.progress
            .advance(bytes, (self.clock)(), &mut self.report);
    }

    /// Reports an error about the path at hand.
    fn error_here(&mut self, block: Option<u64>, what: &dyn fmt::Display) {
        let path = if self.path.is_empty() {
            "/"
        } else {
            self.path.as_str()
        };
        self.report.error(Some(path), block, what);
    }
}

/// Reports and counts errors.
struct Reporter<'a, S> {
    stick: StickIndex,
    volume: Option<VolumeIndex>,
    sink: &'a mut S,
    first_error: &'a mut Message,
    errors: u32,
}

impl<S: Sink> Reporter<'_, S> {
    fn error(&mut self, path: Option<&str>, block: Option<u64>, what: &dyn fmt::Display) {
        let mut message = Message::new();
        if write!(message, "{what}").is_err() {
            message.clear();
            let _ = message.push_str("an error whose description is too long");
        }
        if self.errors == 0 {
            self.first_error.clone_from(&message);
        }
        self.errors += 1;
        if self.errors <= MAX_ERRORS {
            self.event(path, block, &message);
        } else if self.errors == MAX_ERRORS + 1 {
            self.event(None, None, "there are more errors; they are not listed");
        }
    }

    fn event(&mut self, path: Option<&str>, block: Option<u64>, message: &str) {
        let (stick, volume) = (Some(self.stick), self.volume);
        self.sink.event(&Event::Error {
            stick,
            volume,
            path,
            block,
            message,
        });
    }
}

/// A path does not fit into a record.
struct PathTooLong;

impl fmt::Display for PathTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "below this directory is a path of more than {MAX_PATH} bytes"
        )
    }
}

/// How far the work on a stick is.
struct Progress {
    total: u64,
    done: u64,
    reported: u64,
    reported_at: u64,
    started_at: u64,
    percent: u8,
}

impl Progress {
    fn start(now: u64) -> Self {
        Self {
            total: 0,
            done: 0,
            reported: 0,
            reported_at: now,
            started_at: now,
            percent: 0,
        }
    }

    /// Notes that bytes were dealt with, and reports that from time to time.
    fn advance<S: Sink>(&mut self, bytes: u64, now: u64, to: &mut Reporter<'_, S>) {
        self.done += bytes;
        if now.saturating_sub(self.reported_at) >= PROGRESS_INTERVAL {
            self.report(now, to);
        }
    }

    fn report<S: Sink>(&mut self, now: u64, to: &mut Reporter<'_, S>) {
        let rate = |bytes: u64, us: u64| bytes.saturating_mul(1_000_000) / us.max(1);
        let latest = rate(
            self.done - self.reported,
            now.saturating_sub(self.reported_at),
        );
        let overall = rate(self.done, now.saturating_sub(self.started_at));
        (self.reported_at, self.reported) = (now, self.done);
        let percent = match self.total {
            0 => 100,
            total => (self.done.min(total).saturating_mul(100) / total) as u8,
        };
        // The next volume adds to the total: what was reached stays reached.
        self.percent = self.percent.max(percent);
        let left = self.total.saturating_sub(self.done);
        to.sink.event(&Event::Progress {
            stick: to.stick,
            percent: self.percent,
            bytes: self.done,
            rate: latest,
            remaining_s: match overall {
                0 => None,
                overall => u32::try_from(left.div_ceil(overall)).ok(),
            },
        });
    }
}

impl VolumeError {
    /// Whether other parts of the stick may still be readable.
    fn is_local(&self) -> bool {
        match self {
            Self::Block(error) => BlockError::is_local(error),
            Self::Damaged(_) | Self::Refused(_) => true,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod hostile_tests;

#[cfg(test)]
mod write_tests;
