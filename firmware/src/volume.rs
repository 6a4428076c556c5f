//! The seam to the file systems: find out what an area holds, walk its directories, read its files.
//!
//! The job above knows nothing of clusters; the libraries below know nothing of sticks. FAT comes
//! from `hadris-fat-raw`: it needs no allocator, gives directory slots and cluster chains as they
//! are on the medium, checks chains for loops, and lets this program read contiguous clusters with
//! one command into its own buffer.

mod fat;

pub use fat::Fat;
pub use fat::write::{Fault, Stamp, Tools};

use core::fmt;

use crate::block::{BlockDevice, BlockError};
use crate::disk::Disk;
use crate::partition::Area;
use crate::report::VolumeKind;

/// Most bytes of UTF-8 in a name: 255 UTF-16 units.
pub const MAX_NAME: usize = 255 * 3;

/// A file system on a stick, mounted for reading.
///
/// Its methods take the disk that it was mounted from.
pub enum Volume {
    /// FAT12, FAT16 or FAT32.
    Fat(fat::Fat),
}

/// A directory that is being read.
#[derive(Clone, Copy)]
pub enum Directory {
    /// On a FAT volume.
    Fat(fat::Directory),
}

/// A file that is being read from start to end.
pub enum File {
    /// On a FAT volume.
    Fat(fat::File),
}

/// What a directory lists.
pub enum Entry {
    /// A file and its length in bytes.
    File(File, u64),
    /// A directory below this one.
    Directory(Directory),
    /// A directory whose place is impossible.
    Damaged(&'static str),
}

/// A file's or directory's name, as this program shows it.
#[derive(Default)]
pub struct Name {
    text: heapless::String<MAX_NAME>,
    /// Whether characters were replaced because they cannot be in a name.
    pub mangled: bool,
}

impl Name {
    /// Makes an empty name.
    pub const fn new() -> Self {
        Self {
            text: heapless::String::new(),
            mangled: false,
        }
    }

    /// Returns the name. What cannot be in a name (halves of surrogate pairs, `/`, control
    /// characters) is replaced by U+FFFD.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn set(&mut self, characters: impl Iterator<Item = Option<char>>) {
        self.text.clear();
        self.mangled = false;
        for character in characters {
            let good = character.filter(|c| *c != '/' && !c.is_control());
            self.mangled |= good.is_none();
            // 255 units fit; a longer name does not exist on the medium.
            let _ = self.text.push(good.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.mangled |= matches!(self.as_str(), "" | "." | "..");
    }

    /// Sets UTF-8 that a library made.
    fn set_bytes(&mut self, text: &[u8]) {
        self.set(text.utf8_chunks().flat_map(|chunk| {
            let bad = (!chunk.invalid().is_empty()).then_some(None);
            chunk.valid().chars().map(Some).chain(bad)
        }));
    }

    fn set_utf16(&mut self, units: &[u16]) {
        self.set(char::decode_utf16(units.iter().copied()).map(Result::ok));
    }
}

/// Why a volume, directory or file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeError {
    /// The medium.
    Block(BlockError),
    /// The file system's structures; the text says what is wrong.
    Damaged(&'static str),
    /// What was asked for cannot be done there; the text says why. Nothing is wrong.
    Refused(&'static str),
}

impl VolumeError {
    /// Returns the block on the stick that the error is about, if it is about one.
    pub fn block(&self) -> Option<u64> {
        match self {
            Self::Block(error) => Some(error.block),
            Self::Damaged(_) | Self::Refused(_) => None,
        }
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(error) => error.fmt(f),
            Self::Damaged(what) | Self::Refused(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for VolumeError {}

impl From<BlockError> for VolumeError {
    fn from(error: BlockError) -> Self {
        Self::Block(error)
    }
}

impl From<hadris_fs::Error<BlockError>> for VolumeError {
    fn from(error: hadris_fs::Error<BlockError>) -> Self {
        match error.device_error() {
            Some(block) => Self::Block(*block),
            None => Self::Damaged(error.message()),
        }
    }
}

impl Volume {
    /// Recognises and mounts what is in an area. `None` means that it is nothing that this program
    /// understands; see [`Self::kind_of_foreign`].
    ///
    /// # Errors
    /// [`VolumeError`] if the medium cannot be read, or if this is a known file system whose boot
    /// sector is damaged.
    pub async fn mount<D: BlockDevice>(
        disk: &Disk<'_, D>,
        area: Area,
    ) -> Result<Option<Self>, VolumeError> {
        Ok(fat::Fat::mount(disk, area).await?.map(Self::Fat))
    }

    /// Says what is in an area that [`Self::mount`] did not understand. What cannot be read is unknown.
    pub async fn kind_of_foreign<D: BlockDevice>(disk: &Disk<'_, D>, area: Area) -> VolumeKind {
        let mut name = [0; 8];
        // Behind a jump instruction (exFAT specification, section 3.1.2).
        let at = area.first * u64::from(disk.block_size()) + 3;
        match disk.read(at, &mut name).await {
            Ok(()) if &name == b"EXFAT   " => VolumeKind::ExFat,
            _ => VolumeKind::Unknown,
        }
    }

    /// Returns the kind of file system.
    pub fn kind(&self) -> VolumeKind {
        match self {
            Self::Fat(fat) => fat.kind(),
        }
    }

    /// Returns the size of a cluster in bytes: no directory, and no file with contents, takes less
    /// of the volume.
    pub fn cluster_size(&self) -> u64 {
        match self {
            Self::Fat(fat) => fat.cluster_size(),
        }
    }

    /// Returns how many bytes of directories were read since the volume was mounted, whether or not
    /// they list anything; what was read again counts again.
    pub fn directory_bytes(&self) -> u64 {
        match self {
            Self::Fat(fat) => fat.directory_bytes(),
        }
    }

    /// Reads the volume label into `label`; returns whether there is one.
    ///
    /// # Errors
    /// [`VolumeError`] if the root directory cannot be read.
    pub async fn label<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        label: &mut Name,
    ) -> Result<bool, VolumeError> {
        match self {
            Self::Fat(fat) => fat.label(disk, label).await,
        }
    }

    /// Returns the root directory, at its start.
    pub fn root(&self) -> Directory {
        match self {
            Self::Fat(fat) => Directory::Fat(fat.root()),
        }
    }

    /// Reads the next entry of a directory, and its name; `None` at the end.
    ///
    /// # Errors
    /// [`VolumeError`] if the rest of the directory cannot be read.
    pub async fn next<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &mut Directory,
        name: &mut Name,
    ) -> Result<Option<Entry>, VolumeError> {
        match (self, directory) {
            (Self::Fat(fat), Directory::Fat(directory)) => fat.next(disk, directory, name).await,
        }
    }

    /// Reads on in a file, with one command if the file is contiguous there, and returns the part
    /// of `buffer` that holds the bytes; empty at the end.
    ///
    /// # Errors
    /// [`VolumeError`] if these bytes cannot be read.
    pub async fn read<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        file: &mut File,
        buffer: &mut [u8],
    ) -> Result<core::ops::Range<usize>, VolumeError> {
        match (self, file) {
            (Self::Fat(fat), File::Fat(file)) => fat.read(disk, file, buffer).await,
        }
    }
}

impl Directory {
    /// Whether both are the same directory of one volume, wherever they are read.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fat(a), Self::Fat(b)) => a.is_same(b),
        }
    }
}
