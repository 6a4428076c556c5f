//! A disk that takes SCSI commands, whatever brings them.
//!
//! [`Disk::begin`] takes a command block and says what data belong to it; [`Disk::read`] and [`Disk::write`] move them in pieces. Sections are those of
//! SPC-3 and SBC-2.

mod command;
mod medium;
mod sense;

pub use medium::{Medium, Sparse};
pub use sense::Sense;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// What data belong to a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// None; it is done.
    None,
    /// These, to the host.
    Reply(Vec<u8>),
    /// Bytes `at`.. of the medium, to the host.
    Read {
        /// First byte.
        at: u64,
        /// How many.
        len: u64,
    },
    /// Bytes `at`.. of the medium, from the host.
    Write {
        /// First byte.
        at: u64,
        /// How many.
        len: u64,
    },
}

/// A disk, or a slot for one.
pub struct Disk {
    medium: Box<dyn Medium>,
    block_size: u32,
    blocks: u64,
    /// What it says about the number of its blocks, if that is a lie.
    pub claimed_blocks: Option<u64>,
    /// Refuses to write.
    pub write_protected: bool,
    /// Whether there is a medium.
    pub present: bool,
    /// Commands that it will refuse because it is "becoming ready".
    pub becoming_ready: u32,
    /// Says that media can be taken out.
    pub removable: bool,
    /// Vendor and product as INQUIRY says them, 8 and 16 characters.
    pub name: [String; 2],
    sense: Sense,
    /// What the next command is told first: power on, or another medium.
    attention: Option<Sense>,
}

impl Disk {
    /// Makes a disk of `blocks` blocks of a medium.
    pub fn new(medium: impl Medium + 'static, block_size: u32, blocks: u64) -> Self {
        Self {
            medium: Box::new(medium),
            block_size,
            blocks,
            claimed_blocks: None,
            write_protected: false,
            present: true,
            becoming_ready: 0,
            removable: true,
            name: ["WIISTICK".into(), "SIMULATED".into()],
            sense: Sense::NONE,
            attention: Some(Sense::POWER_ON),
        }
    }

    /// Makes a disk of zeros, of any size: only what is written takes memory.
    pub fn zeros(block_size: u32, blocks: u64) -> Self {
        Self::new(Sparse::default(), block_size, blocks)
    }

    /// Makes a disk of bytes in memory. A last block that is not whole is left off.
    pub fn of(block_size: u32, bytes: Vec<u8>) -> Self {
        let blocks = bytes.len() as u64 / u64::from(block_size);
        Self::new(bytes, block_size, blocks)
    }

    /// Makes a disk of an image file, write-protected if the file is.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn image(path: &Path, block_size: u32) -> io::Result<Self> {
        let writable = OpenOptions::new().read(true).write(true).open(path);
        let write_protected = writable.is_err();
        let file = writable.or_else(|_| File::open(path))?;
        let blocks = file.metadata()?.len() / u64::from(block_size);
        let mut disk = Self::new(file, block_size, blocks);
        disk.write_protected = write_protected;
        Ok(disk)
    }

    /// Returns the size of a block in bytes.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Returns the number of blocks that there are.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Puts another medium in, or takes it out (`present`). The next command learns of it.
    pub fn change(&mut self, present: bool) {
        self.present = present;
        self.attention = Some(Sense::CHANGED);
    }

    /// Returns what REQUEST SENSE would say.
    pub fn sense(&self) -> Sense {
        self.sense
    }

    /// Begins a command.
    ///
    /// # Errors
    /// Why it failed; REQUEST SENSE says the same.
    pub fn begin(&mut self, command: &[u8]) -> Result<Data, Sense> {
        let begun = self.dispatch(command);
        self.remember(begun)
    }

    /// Reads bytes of the medium, for [`Data::Read`].
    ///
    /// # Errors
    /// [`Sense::READ`].
    pub fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Sense> {
        let read = self.medium.read(at, into).map_err(|_| Sense::READ);
        self.remember(read)
    }

    /// Writes bytes of the medium, for [`Data::Write`].
    ///
    /// # Errors
    /// [`Sense::WRITE`].
    pub fn write(&mut self, at: u64, from: &[u8]) -> Result<(), Sense> {
        let written = self.medium.write(at, from).map_err(|_| Sense::WRITE);
        self.remember(written)
    }

    fn remember<T>(&mut self, result: Result<T, Sense>) -> Result<T, Sense> {
        if let Err(sense) = result {
            self.sense = sense;
        }
        result
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("Disk");
        f.field("block_size", &self.block_size);
        f.field("blocks", &self.blocks).finish_non_exhaustive()
    }
}
