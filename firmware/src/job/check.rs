//! Looking for damage, and writing: a file of pseudo-random bytes on each volume, read back from the
//! medium.

use core::fmt::Write;

use sha2::{Digest, Sha256};

use super::{Run, Stick};
use crate::block::BlockDevice;
use crate::disk::Disk;
use crate::partition::{Area, Areas};
use crate::pattern;
use crate::report::{self, Event, Sink, VolumeIndex};
use crate::volume::{Entry, Fault, Stamp, Tools, Volume, VolumeError};

/// The directory and the file in it that this program writes. What had the file's name before is
/// replaced.
pub const DIRECTORY: &str = "WIISTICK";
const FILE: &str = "CHECK.BIN";

/// Usual length of the file in bytes.
pub const CHECK_BYTES: u32 = 1 << 20;

/// What is written to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Length of the file in bytes; a volume with less room gets a shorter one.
    pub bytes: u32,
    /// What its contents follow from; see [`pattern`].
    pub seed: u64,
    /// Whether it stays on the volume.
    pub keep: bool,
    /// Time that it gets.
    pub stamp: Stamp,
}

/// A file that was written.
struct Written {
    bytes: u32,
    digest: Sha256,
    /// The directory did not exist before.
    made_directory: bool,
}

impl<S: Sink> Run<'_, S> {
    /// Writes the check file to each FAT volume on which nothing was amiss, and says of the others
    /// that nothing was written. `fats` and `sound` have a bit for each area.
    pub(super) async fn write_checks<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        areas: &Areas,
        fats: u128,
        sound: u128,
        check: &Check,
    ) {
        self.report.volume = None;
        match disk.is_write_protected().await {
            Ok(false) => {}
            Ok(true) => {
                let message = "the stick is write-protected: nothing was written";
                return self.report.error(None, None, &message);
            }
            Err(error) => return self.report.error(None, None, &error),
        }
        if fats == 0 {
            let message = "there is no FAT volume on the stick: nothing was written";
            return self.report.error(None, None, &message);
        }
        for (index, area) in areas.iter().enumerate() {
            if fats >> index & 1 == 0 {
                continue;
            }
            self.report.volume = Some(index as VolumeIndex);
            let alone = areas
                .iter()
                .enumerate()
                .all(|(other, place)| other == index || !place.overlaps(area));
            if sound >> index & 1 == 0 {
                let message = "nothing was written here, because something is wrong with the volume or the partition table";
                self.report.error(None, None, &message);
            } else if !alone {
                let message =
                    "nothing was written here, because another partition has blocks of this one";
                self.report.error(None, None, &message);
            } else if self.write_check(disk, area, check).await == Stick::Dead {
                return;
            }
        }
    }

    async fn write_check<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        area: &Area,
        check: &Check,
    ) -> Stick {
        self.path.clear();
        let result = self.write_and_verify(disk, area, check).await;
        // Nothing half-done may reach the medium later.
        disk.discard().await;
        let Err(error) = result else {
            return Stick::Alive;
        };
        self.error_here(error.block(), &error);
        Stick::after(error.is_local())
    }

    /// Checks the file system as a whole, and reports damage that reading the files does not show.
    pub(super) async fn look_for_damage<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        volume: &mut Volume,
    ) -> Stick {
        let Volume::Fat(fat) = volume;
        let report = &mut self.report;
        let mut found = |fault, path: Option<&str>, what: &'static str| match fault {
            Fault::Damage => report.error(path, None, &what),
            Fault::Blemish => info!("the volume is not as it should be: {}", what),
        };
        let Err(error) = fat.check(disk, self.buffer, &mut found).await else {
            return Stick::Alive;
        };
        self.report.error(None, error.block(), &error);
        Stick::after(error.is_local())
    }

    async fn write_and_verify<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        area: &Area,
        check: &Check,
    ) -> Result<(), VolumeError> {
        // Fits.
        let _ = write!(self.path, "/{DIRECTORY}/{FILE}");
        let written = self.write_file(disk, area, check).await?;
        disk.discard().await;
        let fault = self.read_back(disk, area, check, &written).await?;
        let sha256 = report::Sha256(written.digest.finalize().into());
        self.report.sink.event(&Event::Written {
            stick: self.report.stick,
            volume: self.report.volume.unwrap_or_default(),
            path: self.path,
            bytes: written.bytes.into(),
            sha256,
            verified: fault.is_none(),
        });
        if let Some(fault) = fault {
            self.error_here(None, &fault);
        } else {
            self.summary.written += 1;
        }
        if !check.keep {
            self.remove(disk, area, written.made_directory).await?;
        }
        Ok(())
    }

    async fn write_file<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        area: &Area,
        check: &Check,
    ) -> Result<Written, VolumeError> {
        let Some(Volume::Fat(mut fat)) = Volume::mount(disk, *area).await? else {
            return Err(VolumeError::Damaged("the volume is not what it was before"));
        };
        fat.begin_writing(disk).await?;
        let mut tools = Tools {
            buffer: &mut *self.buffer,
            name: &mut *self.name,
            stamp: check.stamp,
        };
        let mut digest = Sha256::new();
        let (clock, report, progress) = (self.clock, &mut self.report, &mut self.progress);
        let write = async {
            let root = fat.root();
            let (directory, made_directory) = fat
                .make_directory(disk, &root, DIRECTORY, &mut tools)
                .await?;
            fat.remove_named(disk, &directory, FILE, tools.name).await?;
            let cluster = fat.cluster_size();
            let wanted = u64::from(check.bytes).div_ceil(cluster) as u32;
            let room = u64::from(fat.free_clusters(disk, wanted).await?) * cluster;
            if room == 0 {
                return Err(VolumeError::Refused("there is no room left on the volume"));
            }
            let bytes = room.min(check.bytes.into()) as u32;
            // Once to the medium, once back.
            progress.total += 2 * u64::from(bytes);
            let mut contents = |position: u64, memory: &mut [u8]| {
                pattern::fill(check.seed, position, memory);
                digest.update(&*memory);
                progress.advance(memory.len() as u64, clock(), report);
            };
            fat.write_file(disk, &directory, FILE, bytes, &mut tools, &mut contents)
                .await?;
            Ok((bytes, made_directory))
        };
        let result = write.await;
        // Also after a refusal: then nothing is half-done. After other errors the volume stays
        // marked as in use.
        if matches!(result, Ok(_) | Err(VolumeError::Refused(_))) {
            fat.finish_writing(disk).await?;
        }
        let (bytes, made_directory) = result?;
        Ok(Written {
            bytes,
            digest,
            made_directory,
        })
    }

    /// Reads the file from the medium, by its name; returns what is wrong with it.
    async fn read_back<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        area: &Area,
        check: &Check,
        written: &Written,
    ) -> Result<Option<Mismatch>, VolumeError> {
        let Some(mut volume) = Volume::mount(disk, *area).await? else {
            return Ok(Some(Mismatch::Lost));
        };
        let mut directory = volume.root();
        let mut names = [DIRECTORY, FILE].into_iter();
        let mut name = names.next();
        let mut file = loop {
            match volume.next(disk, &mut directory, self.name).await? {
                None => return Ok(Some(Mismatch::Lost)),
                Some(_) if Some(self.name.as_str()) != name => {}
                Some(Entry::Directory(inner)) => (directory, name) = (inner, names.next()),
                Some(Entry::File(file, size)) if size == u64::from(written.bytes) => break file,
                Some(_) => return Ok(Some(Mismatch::Lost)),
            }
        };
        let mut position = 0;
        let mut fault = None;
        loop {
            let range = volume.read(disk, &mut file, self.buffer).await?;
            if range.is_empty() {
                return Ok(fault);
            }
            let read = &self.buffer[range.clone()];
            let difference = pattern::first_difference(check.seed, position, read);
            fault = fault.or(difference.map(|at| Mismatch::Byte(position + at as u64)));
            position += range.len() as u64;
            self.advance(range.len() as u64);
        }
    }

    async fn remove<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        area: &Area,
        directory_too: bool,
    ) -> Result<(), VolumeError> {
        let Some(Volume::Fat(mut fat)) = Volume::mount(disk, *area).await? else {
            return Err(VolumeError::Damaged("the volume is not what it was before"));
        };
        fat.begin_writing(disk).await?;
        let mut tools = Tools {
            buffer: &mut *self.buffer,
            name: &mut *self.name,
            stamp: Stamp::NONE,
        };
        let root = fat.root();
        let (directory, _) = fat
            .make_directory(disk, &root, DIRECTORY, &mut tools)
            .await?;
        fat.remove_named(disk, &directory, FILE, tools.name).await?;
        if directory_too {
            fat.remove_named(disk, &root, DIRECTORY, tools.name).await?;
        }
        fat.finish_writing(disk).await
    }
}

/// What is wrong with the file that was read back.
enum Mismatch {
    /// It is not there, or not as long as it should be.
    Lost,
    /// This byte of it is another.
    Byte(u64),
}

impl core::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Lost => f.write_str(
                "the file that was written is not on the medium; do not trust the stick",
            ),
            Self::Byte(position) => write!(
                f,
                "byte {position} does not read back as it was written; do not trust the stick"
            ),
        }
    }
}
