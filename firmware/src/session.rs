//! What the menu asks of a stick: its volumes, the entries of a directory, its speed, a text to be kept on it.

use core::fmt;

use heapless::Vec;

use crate::block::{BlockDevice, BlockError};
use crate::disk::Disk;
use crate::job::DIRECTORY;
use crate::partition::{self, Areas};
use crate::report::VolumeKind;
use crate::ui::app::VolumeInfo;
use crate::ui::screen::Line;
use crate::volume::{Directory, Entry, Fault, Name, Stamp, Tools, Volume, VolumeError};

/// Memory that this needs besides its buffers.
pub struct Workspace {
    areas: Areas,
    name: Name,
}

impl Workspace {
    /// Makes an empty workspace.
    pub const fn new() -> Self {
        Self {
            areas: Vec::new(),
            name: Name::new(),
        }
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a directory cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// The stick has no such volume, or no such directory: it was changed.
    Changed,
    /// The volume or the directory cannot be read.
    Volume(VolumeError),
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("the stick has changed"),
            Self::Volume(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ListError {}

impl From<VolumeError> for ListError {
    fn from(error: VolumeError) -> Self {
        Self::Volume(error)
    }
}

impl From<BlockError> for ListError {
    fn from(error: BlockError) -> Self {
        Self::Volume(error.into())
    }
}

/// Finds out which volumes are on a stick, up to as many as `volumes` holds. What cannot be read of one
/// makes it unknown.
///
/// # Errors
/// [`BlockError`] if the stick cannot be read at all.
pub async fn describe<D: BlockDevice, const N: usize>(
    device: D,
    cache: &mut [u8],
    work: &mut Workspace,
    volumes: &mut Vec<VolumeInfo, N>,
) -> Result<(), BlockError> {
    let disk = Disk::new(device, cache)?;
    let Workspace { areas, name } = work;
    let mut unreadable = None;
    partition::scan(&disk, areas, &mut |problem| {
        if let partition::Problem::Unreadable(error) = problem {
            unreadable = Some(error);
        }
    })
    .await;
    volumes.clear();
    for area in areas.iter().take(N) {
        let mut info = VolumeInfo {
            kind: VolumeKind::Unknown,
            label: Line::new(),
            bytes: area.blocks.saturating_mul(u64::from(disk.block_size())),
        };
        match Volume::mount(&disk, *area).await {
            Ok(Some(mut volume)) => {
                info.kind = volume.kind();
                if let Ok(true) = volume.label(&disk, name).await {
                    info.label = Line::of(name.as_str());
                }
            }
            Ok(None) => info.kind = Volume::kind_of_foreign(&disk, *area).await,
            Err(_) => {}
        }
        // There is room: see `take`.
        let _ = volumes.push(info);
    }
    match unreadable {
        Some(error) if areas.is_empty() => Err(error),
        _ => Ok(()),
    }
}

/// Lists a directory: calls `found` with each entry's place, name, and length if it is a file, until it
/// returns false. `path` leads there from the root, by the places of directories in their directories.
/// Returns whether it went to the end.
///
/// # Errors
/// [`ListError`].
pub async fn list<D: BlockDevice>(
    device: D,
    cache: &mut [u8],
    work: &mut Workspace,
    volume: usize,
    path: impl Iterator<Item = u16>,
    mut found: impl FnMut(u16, &str, Option<u64>) -> bool,
) -> Result<bool, ListError> {
    let disk = Disk::new(device, cache)?;
    let Workspace { areas, name } = work;
    partition::scan(&disk, areas, &mut |_| {}).await;
    let area = *areas.get(volume).ok_or(ListError::Changed)?;
    let mounted = Volume::mount(&disk, area).await?;
    let mut volume = mounted.ok_or(ListError::Changed)?;
    let mut directory = volume.root();
    for place in path {
        directory = enter(&mut volume, &disk, directory, place, name).await?;
    }
    let mut place = 0;
    while let Some(entry) = volume.next(&disk, &mut directory, name).await? {
        let more = match &entry {
            Entry::Directory(_) => found(place, name.as_str(), None),
            Entry::File(_, bytes) => found(place, name.as_str(), Some(*bytes)),
            Entry::Damaged(_) => {
                let name = format_args!("{} (damaged)", name.as_str());
                found(place, Line::of(name).as_str(), Some(0))
            }
        };
        if !more {
            return Ok(false);
        }
        // No directory has more entries; a damaged one ends here.
        let Some(next) = place.checked_add(1) else {
            return Ok(false);
        };
        place = next;
    }
    Ok(true)
}

/// Returns the directory at a place in another.
async fn enter<D: BlockDevice>(
    volume: &mut Volume,
    disk: &Disk<'_, D>,
    mut directory: Directory,
    place: u16,
    name: &mut Name,
) -> Result<Directory, ListError> {
    for _ in 0..place {
        if volume.next(disk, &mut directory, name).await?.is_none() {
            return Err(ListError::Changed);
        }
    }
    match volume.next(disk, &mut directory, name).await? {
        Some(Entry::Directory(inner)) => Ok(inner),
        _ => Err(ListError::Changed),
    }
}

/// Writes a text to the first FAT volume of a stick, as a file in [`DIRECTORY`]. What had its name before is replaced. Nothing is written where anything looks damaged.
///
/// # Errors
/// [`VolumeError::Refused`] says what is in the way; others are the stick's.
pub async fn save<D: BlockDevice>(
    device: D,
    cache: &mut [u8],
    work: &mut Workspace,
    buffer: &mut [u8],
    stamp: Stamp,
    (file, text): (&str, &str),
) -> Result<(), VolumeError> {
    let disk = Disk::for_writing(device, cache)?;
    let Workspace { areas, name } = work;
    let mut sound = true;
    partition::scan(&disk, areas, &mut |_| sound = false).await;
    let mut mounted = None;
    for area in areas.iter() {
        if let Some(Volume::Fat(fat)) = Volume::mount(&disk, *area).await? {
            sound &= areas.iter().filter(|other| other.overlaps(area)).count() == 1;
            mounted = Some(fat);
            break;
        }
    }
    let Some(mut fat) = mounted else {
        return Err(VolumeError::Refused("there is no FAT volume on the stick"));
    };
    if disk.is_write_protected().await? {
        return Err(VolumeError::Refused("the stick is write-protected"));
    }
    let mut found = |fault, _: Option<&str>, _| sound &= fault != Fault::Damage;
    fat.check(&disk, buffer, &mut found).await?;
    if !sound {
        return Err(VolumeError::Refused(
            "something is wrong with the volume or the partition table; check the stick",
        ));
    }
    fat.begin_writing(&disk).await?;
    let mut tools = Tools {
        buffer,
        name,
        stamp,
    };
    let mut contents = |position: u64, memory: &mut [u8]| {
        let rest = text.as_bytes().get(position as usize..).unwrap_or_default();
        memory.fill(0);
        for (byte, letter) in memory.iter_mut().zip(rest) {
            *byte = *letter;
        }
    };
    let root = fat.root();
    let write = async {
        let (directory, _) = fat
            .make_directory(&disk, &root, DIRECTORY, &mut tools)
            .await?;
        let length = text.len() as u32;
        fat.write_file(&disk, &directory, file, length, &mut tools, &mut contents)
            .await
    };
    let result = write.await;
    // After a refusal nothing is half-done. After other errors the volume stays marked as in use.
    if matches!(result, Ok(()) | Err(VolumeError::Refused(_))) {
        fat.finish_writing(&disk).await?;
    }
    // Nothing half-done may reach the medium later.
    disk.discard().await;
    result
}

/// How fast a stick reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speed {
    /// Bytes that were read in one go, and microseconds that this took.
    pub sequential: (u64, u64),
    /// Single reads of 4 KiB all over the stick, and microseconds that they took together.
    pub random: (u64, u64),
    /// The slowest of them, in microseconds.
    pub slowest_us: u64,
}

impl Speed {
    /// Returns bytes per second in one go.
    pub const fn bytes_per_second(&self) -> u64 {
        per_second(self.sequential)
    }

    /// Returns single reads per second.
    pub const fn reads_per_second(&self) -> u64 {
        per_second(self.random)
    }
}

const fn per_second((count, microseconds): (u64, u64)) -> u64 {
    let divisor = if microseconds == 0 { 1 } else { microseconds };
    count.saturating_mul(1_000_000) / divisor
}

/// Most bytes that are read in one go.
const SEQUENTIAL_BYTES: u64 = 32 << 20;
/// Single reads.
const RANDOM_READS: u64 = 200;
const RANDOM_BYTES: u64 = 4096;

/// Measures how fast a stick reads, with commands as long as `buffer`, which should be a multiple of 4 KiB.
/// Calls `progress` with the share that is done, in thousandths, and the rate so far.
///
/// # Errors
/// The first block that cannot be read.
pub async fn measure<D: BlockDevice>(
    mut device: D,
    buffer: &mut [u8],
    clock: fn() -> u64,
    mut progress: impl FnMut(u16, u64),
) -> Result<Speed, BlockError> {
    let block = u64::from(device.block_size());
    let mut speed = Speed::default();
    let in_blocks = buffer.len() as u64 / block;
    let mut first = 0;
    while speed.sequential.0 < SEQUENTIAL_BYTES && device.blocks() - first >= in_blocks.max(1) {
        let length = (in_blocks * block) as usize;
        let Some(chunk) = buffer.get_mut(..length).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        let started = clock();
        device.read(first, chunk).await?;
        speed.sequential.1 += clock().saturating_sub(started);
        speed.sequential.0 += length as u64;
        first += in_blocks;
        let share = speed.sequential.0 * 800 / SEQUENTIAL_BYTES;
        progress(share as u16, speed.bytes_per_second());
    }
    // All over the stick, in an order that nobody can read ahead, the same each time.
    let (single, places) = (RANDOM_BYTES.max(block) / block, device.blocks());
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for read in 0..RANDOM_READS {
        let Some(last) = places.checked_sub(single) else {
            break;
        };
        let Some(chunk) = buffer.get_mut(..(single * block) as usize) else {
            break;
        };
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // The upper half changes most. No stick has more blocks than fit there for long.
        let at = (state >> 16) % (last + 1);
        let started = clock();
        device.read(at, chunk).await?;
        let took = clock().saturating_sub(started);
        speed.random = (speed.random.0 + 1, speed.random.1 + took);
        speed.slowest_us = speed.slowest_us.max(took);
        progress(
            (800 + read * 200 / RANDOM_READS) as u16,
            speed.bytes_per_second(),
        );
    }
    Ok(speed)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::block::Cause;
    use crate::testing::{Format, RamStick, fat_volume, with_mbr};
    use embassy_futures::block_on;
    use std::boxed::Box;
    use std::string::{String, ToString};
    use std::vec;

    const FAT16: Format = Format {
        fat: fatfs::FatType::Fat16,
        sector: 512,
        cluster: 2048,
        bytes: 10 << 20,
    };

    fn stick() -> RamStick {
        let volume = fat_volume(
            FAT16,
            &[
                ("Readme.txt", b"hello".to_vec()),
                ("Music/Álbum/01 track.mp3", vec![7; 3000]),
                ("Music/cover.jpg", vec![1; 100]),
            ],
        );
        RamStick::new(512, with_mbr(512, 63, &volume))
    }

    fn listed(
        stick: &mut RamStick,
        volume: usize,
        path: &[u16],
    ) -> Result<vec::Vec<(u16, String, Option<u64>)>, ListError> {
        let mut cache = vec![0; 64 * 1024];
        let mut work = Box::new(Workspace::new());
        let mut entries = vec![];
        let found = |place, name: &str, bytes| {
            entries.push((place, name.to_string(), bytes));
            true
        };
        let path = path.iter().copied();
        let complete = block_on(list(stick, &mut cache, &mut work, volume, path, found))?;
        assert!(complete);
        Ok(entries)
    }

    #[test]
    fn volumes_have_kind_label_and_size() {
        let mut volumes = Vec::<_, 4>::new();
        let mut cache = vec![0; 64 * 1024];
        let mut work = Box::new(Workspace::new());
        block_on(describe(stick(), &mut cache, &mut work, &mut volumes)).unwrap();
        let [volume] = &volumes[..] else {
            panic!("{volumes:?}");
        };
        assert_eq!(volume.kind, VolumeKind::Fat16);
        assert_eq!(volume.label.as_str(), "TEST STICK");
        assert_eq!(volume.bytes, 10 << 20);
    }

    #[test]
    fn a_stick_that_does_not_read_is_an_error() {
        let mut stick = stick();
        stick.gone_after = Some(0);
        let mut cache = vec![0; 64 * 1024];
        let mut work = Box::new(Workspace::new());
        let mut volumes = Vec::<_, 4>::new();
        let error = block_on(describe(stick, &mut cache, &mut work, &mut volumes)).unwrap_err();
        assert_eq!(error.cause, Cause::Gone);
    }

    #[test]
    fn directories_are_found_by_their_places() {
        let mut stick = stick();
        let root = listed(&mut stick, 0, &[]).unwrap();
        let names: vec::Vec<_> = root
            .iter()
            .map(|(_, name, bytes)| (name.as_str(), *bytes))
            .collect();
        assert_eq!(names, [("Readme.txt", Some(5)), ("Music", None)]);
        let music = listed(&mut stick, 0, &[root[1].0]).unwrap();
        let names: vec::Vec<_> = music
            .iter()
            .map(|(_, name, bytes)| (name.as_str(), *bytes))
            .collect();
        assert_eq!(names, [("Álbum", None), ("cover.jpg", Some(100))]);
        let album = listed(&mut stick, 0, &[root[1].0, music[0].0]).unwrap();
        assert_eq!(album[0].1, "01 track.mp3");
    }

    #[test]
    fn what_is_not_there_any_more_is_said() {
        let mut stick = stick();
        for (volume, path) in [
            (1, &[][..]),
            (0, &[0]),
            (0, &[2]),
            (0, &[1, 1]),
            (0, &[u16::MAX]),
        ] {
            assert_eq!(
                listed(&mut stick, volume, path),
                Err(ListError::Changed),
                "{path:?}"
            );
        }
        stick.gone_after = Some(stick.reads.len());
        assert!(listed(&mut stick, 0, &[]).is_err());
    }

    #[test]
    fn a_caller_that_has_enough_ends_the_list() {
        let mut cache = vec![0; 64 * 1024];
        let mut work = Box::new(Workspace::new());
        let path = core::iter::empty();
        let complete = block_on(list(stick(), &mut cache, &mut work, 0, path, |_, _, _| {
            false
        }));
        assert_eq!(complete, Ok(false));
    }

    fn saved(stick: &mut RamStick, text: &str) -> Result<(), VolumeError> {
        let mut cache = vec![0; 64 * 1024];
        let mut buffer = vec![0; 4096];
        let mut work = Box::new(Workspace::new());
        let file = ("A long name.TXT", text);
        let save = save(stick, &mut cache, &mut work, &mut buffer, Stamp::NONE, file);
        block_on(save)
    }

    fn read_back(stick: &RamStick) -> String {
        let volume = std::io::Cursor::new(stick.data[63 * 512..].to_vec());
        let volume = fatfs::FileSystem::new(volume, fatfs::FsOptions::new()).unwrap();
        let mut text = String::new();
        let mut file = volume
            .root_dir()
            .open_file("WIISTICK/A long name.TXT")
            .unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        text
    }

    #[test]
    fn a_text_is_saved_in_place_of_the_one_before() {
        let mut stick = stick();
        let long = "long ".repeat(3000);
        for text in [long.as_str(), "short", ""] {
            assert_eq!(saved(&mut stick, text), Ok(()));
            assert_eq!(read_back(&stick), text);
        }
        let root = listed(&mut stick, 0, &[]).unwrap();
        assert_eq!(root.len(), 3, "{root:?}");
    }

    #[test]
    fn nothing_is_saved_where_something_is_wrong() {
        let mut protected = stick();
        protected.protected = Some(true);
        // The copies of the FAT differ.
        let mut damaged = stick();
        damaged.data[64 * 512 + 100] ^= 1;
        let empty = RamStick::new(512, vec![0; 1 << 20]);
        for mut stick in [protected, damaged, empty] {
            let before = stick.data.clone();
            let refused = saved(&mut stick, "text");
            assert!(
                matches!(refused, Err(VolumeError::Refused(_))),
                "{refused:?}"
            );
            assert!(stick.data == before);
        }
    }

    fn clock() -> u64 {
        use std::cell::Cell;
        std::thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });
        NOW.with(|now| now.replace(now.get() + 1000))
    }

    #[test]
    fn speed_counts_what_was_read_and_how_long_it_took() {
        let mut stick = RamStick::new(512, vec![0; 8 << 20]);
        let mut buffer = vec![0; 128 * 1024];
        let mut shares = vec![];
        let progress = |share, _| shares.push(share);
        let speed = block_on(measure(&mut stick, &mut buffer, clock, progress)).unwrap();
        // The clock goes on by a millisecond with each look at it.
        assert_eq!(speed.sequential, (8 << 20, 64_000));
        assert_eq!(speed.bytes_per_second(), 131_072_000);
        assert_eq!((speed.random, speed.slowest_us), ((200, 200_000), 1000));
        assert_eq!(speed.reads_per_second(), 1000);
        assert!(shares.is_sorted() && shares.last() < Some(&1000));
        // All over the stick.
        let random = &stick.reads[64..];
        assert!(
            random
                .iter()
                .all(|&(first, blocks)| blocks == 8 && first <= 16_384 - 8)
        );
        assert!(random.iter().any(|&(first, _)| first > 12_000));
        assert!(random.iter().any(|&(first, _)| first < 4_000));
    }

    #[test]
    fn tiny_sticks_and_buffers_are_measured_as_far_as_they_go() {
        for (bytes, buffer) in [(512, 4096), (4096, 512), (0, 4096), (8192, 0)] {
            let stick = RamStick::new(512, vec![0; bytes]);
            let mut buffer = vec![0; buffer];
            let speed = block_on(measure(stick, &mut buffer, clock, |_, _| {})).unwrap();
            assert!(speed.sequential.0 <= bytes as u64);
        }
    }

    #[test]
    fn an_unreadable_block_ends_the_measurement() {
        let mut stick = RamStick::new(512, vec![0; 8 << 20]);
        stick.bad.insert(1000);
        let mut buffer = vec![0; 128 * 1024];
        let error = block_on(measure(stick, &mut buffer, clock, |_, _| {})).unwrap_err();
        assert_eq!(error.block, 768);
    }
}
