//! What the tests of this crate share: a stick made of memory, images, and a sink that remembers.

pub mod usb;

use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use sha2::{Digest, Sha256};

use crate::block::{BlockDevice, BlockError, Cause, Counters, Sense, check_range};
use crate::disk::{LINE, MAX_LINES};
use crate::job::{Check, Identity, Job, Summary, Task, Workspace};
use crate::report::{Event, RECORD_BUFFER, Sink};

/// A stick in memory that counts its commands and fails on demand.
pub struct RamStick {
    pub block_size: u32,
    pub data: Vec<u8>,
    /// Capacity that the stick claims, in blocks, if it is not that of its data.
    pub claims: Option<u64>,
    /// Every read: first block and number of blocks.
    pub reads: Vec<(u64, u64)>,
    /// Every write: first block and number of blocks.
    pub writes: Vec<(u64, u64)>,
    /// Number of flushes.
    pub flushes: usize,
    /// Blocks that give a medium error.
    pub bad: BTreeSet<u64>,
    /// Number of reads after which the stick is gone.
    pub gone_after: Option<usize>,
    /// Number of blocks after which power fails: the rest of that write is not written, and the
    /// stick is gone.
    pub power_for: Option<u64>,
    /// Whether the stick refuses to be written, and whether it says so.
    pub protected: Option<bool>,
    /// Block from which on the stick keeps other bits than were written.
    pub spoils_from: Option<u64>,
    /// Whether writing does nothing.
    pub forgets: bool,
    /// Blocks really there: those beyond are mapped onto them, as on a stick that lies.
    pub real_blocks: Option<u64>,
}

impl RamStick {
    pub fn new(block_size: u32, data: Vec<u8>) -> Self {
        Self {
            block_size,
            data,
            claims: None,
            reads: vec![],
            writes: vec![],
            flushes: 0,
            bad: BTreeSet::new(),
            gone_after: None,
            power_for: None,
            protected: None,
            spoils_from: None,
            forgets: false,
            real_blocks: None,
        }
    }

    fn gone(&self) -> bool {
        self.gone_after
            .is_some_and(|reads| self.reads.len() > reads)
            || self.power_for == Some(0)
    }

    /// Where the bytes of a block are in `data`.
    fn place(&self, block: u64) -> usize {
        let block = match self.real_blocks {
            Some(real) => block % real,
            None => block,
        };
        block as usize * self.block_size as usize
    }
}

impl BlockDevice for RamStick {
    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn blocks(&self) -> u64 {
        self.claims
            .unwrap_or_else(|| self.data.len() as u64 / u64::from(self.block_size))
    }

    async fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let blocks = check_range(self.block_size, self.blocks(), first, buffer.len())?;
        self.reads.push((first, blocks));
        // A failed read leaves anything in the buffer.
        buffer.fill(0xDB);
        let fail = |cause| {
            Err(BlockError {
                block: first,
                blocks,
                cause,
            })
        };
        if self.gone() {
            return fail(Cause::Gone);
        }
        let sense = Sense {
            key: 3,
            code: 0x11,
            qualifier: 0,
        };
        if self.bad.range(first..first + blocks).next().is_some() {
            return fail(Cause::Medium(sense));
        }
        for (block, part) in (first..).zip(buffer.chunks_exact_mut(self.block_size as usize)) {
            let start = self.place(block);
            match self.data.get(start..start + part.len()) {
                Some(data) => part.copy_from_slice(data),
                None => return fail(Cause::Medium(sense)),
            }
        }
        Ok(())
    }

    async fn write(&mut self, first: u64, buffer: &[u8]) -> Result<(), BlockError> {
        let blocks = check_range(self.block_size, self.blocks(), first, buffer.len())?;
        self.writes.push((first, blocks));
        let fail = |cause| {
            Err(BlockError {
                block: first,
                blocks,
                cause,
            })
        };
        if self.gone() {
            return fail(Cause::Gone);
        }
        if self.protected.is_some() {
            return fail(Cause::WriteProtected);
        }
        let sense = Sense {
            key: 3,
            code: 0x0C,
            qualifier: 0,
        };
        if self.bad.range(first..first + blocks).next().is_some() {
            return fail(Cause::Medium(sense));
        }
        if self.forgets {
            return Ok(());
        }
        for (block, part) in (first..).zip(buffer.chunks_exact(self.block_size as usize)) {
            if let Some(power) = &mut self.power_for {
                if *power == 0 {
                    return fail(Cause::Gone);
                }
                *power -= 1;
            }
            let start = self.place(block);
            match self.data.get_mut(start..start + part.len()) {
                Some(data) => {
                    data.copy_from_slice(part);
                    if self.spoils_from.is_some_and(|from| block >= from) {
                        data[17] ^= 4;
                    }
                }
                None => return fail(Cause::Medium(sense)),
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), BlockError> {
        self.flushes += 1;
        match self.gone() {
            true => Err(BlockError {
                block: 0,
                blocks: 0,
                cause: Cause::Gone,
            }),
            false => Ok(()),
        }
    }

    async fn is_write_protected(&mut self) -> Result<bool, BlockError> {
        Ok(self.protected == Some(true))
    }

    fn counters(&self) -> Counters {
        let size = u64::from(self.block_size);
        let sum = |list: &[(u64, u64)]| list.iter().map(|(_, blocks)| blocks * size).sum();
        Counters {
            commands: (self.reads.len() + self.writes.len() + self.flushes) as u64,
            bytes_read: sum(&self.reads),
            bytes_written: sum(&self.writes),
            ..Counters::default()
        }
    }
}

/// Remembers events as the host would see them: each goes through its JSON.
#[derive(Default)]
pub struct Memory {
    pub events: Vec<Event<String>>,
}

impl Sink for Memory {
    fn event(&mut self, event: &Event<&str>) {
        let mut buffer = vec![0; RECORD_BUFFER];
        let json = event.to_json(&mut buffer).unwrap();
        self.events.push(serde_json::from_str(json).unwrap());
    }
}

/// What a run over a stick said.
pub struct Outcome {
    pub summary: Summary,
    pub events: Vec<Event<String>>,
}

impl Outcome {
    /// Paths, lengths and digests of the files, in order of their paths.
    pub fn files(&self) -> Vec<(String, u64, String)> {
        let mut files: Vec<_> = self
            .events
            .iter()
            .filter_map(|event| match event {
                Event::File {
                    path,
                    bytes,
                    sha256,
                    ..
                } => Some((path.clone(), *bytes, sha256.to_string())),
                _ => None,
            })
            .collect();
        files.sort();
        files
    }

    /// Error texts with path and block.
    pub fn errors(&self) -> Vec<(Option<String>, Option<u64>, String)> {
        let error = |event: &Event<String>| match event {
            Event::Error {
                path,
                block,
                message,
                ..
            } => Some((path.clone(), *block, message.clone())),
            _ => None,
        };
        self.events.iter().filter_map(error).collect()
    }

    /// Volumes as (kind, label, first block, blocks).
    pub fn volumes(&self) -> Vec<(&'static str, Option<String>, u64, u64)> {
        let volume = |event: &Event<String>| match event {
            Event::Volume {
                kind,
                label,
                first_block,
                blocks,
                ..
            } => Some((kind.name(), label.clone(), *first_block, *blocks)),
            _ => None,
        };
        self.events.iter().filter_map(volume).collect()
    }
}

fn clock() -> u64 {
    use std::cell::Cell;
    std::thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });
    NOW.with(|now| {
        now.set(now.get() + 100_000);
        now.get()
    })
}

/// Runs the job over a stick, without writing to it.
pub fn run(stick: &mut RamStick) -> Outcome {
    embassy_futures::block_on(run_async(stick, Task::Read))
}

/// Runs the job over a stick and lets it write.
pub fn run_writing(stick: &mut RamStick, check: Check) -> Outcome {
    embassy_futures::block_on(run_async(stick, Task::Check(check)))
}

pub async fn run_async(device: impl BlockDevice, task: Task) -> Outcome {
    let mut sink = Memory::default();
    let mut buffer = vec![0; 128 * 1024];
    let mut cache = vec![0; LINE * MAX_LINES];
    let mut work = std::boxed::Box::new(Workspace::new());
    let mut job = Job {
        sink: &mut sink,
        buffer: &mut buffer,
        cache: &mut cache,
        work: &mut work,
        task,
        clock,
    };
    let identity = Identity {
        stick: 0,
        port: 0,
        lun: 0,
        vendor_id: 0x46F4,
        product_id: 1,
        vendor: "V",
        product: "P",
    };
    let summary = job.run(device, &identity).await;
    Outcome {
        summary,
        events: sink.events,
    }
}

/// Pseudo-random numbers (xorshift64*), the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The contents that every test gives to the file of this number.
pub fn contents(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        data.extend_from_slice(&random.next().to_le_bytes());
    }
    data.truncate(bytes);
    data
}

pub fn sha256(data: &[u8]) -> String {
    crate::report::Sha256(Sha256::digest(data).into()).to_string()
}

/// How to format a volume.
#[derive(Clone, Copy)]
pub struct Format {
    pub fat: fatfs::FatType,
    pub sector: u16,
    pub cluster: u32,
    pub bytes: usize,
}

pub type Tree<'a> = [(&'a str, Vec<u8>)];

/// Formats a volume, and puts files (and the directories on the way) into it.
pub fn fat_volume(format: Format, tree: &Tree<'_>) -> Vec<u8> {
    let mut image = Cursor::new(vec![0; format.bytes]);
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(format.fat)
        .bytes_per_sector(format.sector)
        .bytes_per_cluster(format.cluster)
        .volume_label(*b"TEST STICK ");
    fatfs::format_volume(&mut image, options).unwrap();
    let volume = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new()).unwrap();
    for (path, data) in tree {
        let mut directory = volume.root_dir();
        let mut names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let name = names.pop().unwrap();
        for name in names {
            directory = directory.create_dir(name).unwrap();
        }
        if path.ends_with('/') {
            directory.create_dir(name).unwrap();
        } else {
            directory
                .create_file(name)
                .unwrap()
                .write_all(data)
                .unwrap();
        }
    }
    volume.unmount().unwrap();
    image.into_inner()
}

/// Makes the digests that a run over these files must report.
pub fn expected(tree: &Tree<'_>) -> Vec<(String, u64, String)> {
    let mut files: Vec<_> = tree
        .iter()
        .filter(|(path, _)| !path.ends_with('/'))
        .map(|(path, data)| (path.to_string(), data.len() as u64, sha256(data)))
        .collect();
    files.sort();
    files
}

/// An entry of a partition table.
pub fn mbr_entry(kind: u8, first: u32, blocks: u32) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[4] = kind;
    entry[8..12].copy_from_slice(&first.to_le_bytes());
    entry[12..].copy_from_slice(&blocks.to_le_bytes());
    entry
}

/// Writes a partition table into the first 512 bytes of `sector`.
pub fn write_table(sector: &mut [u8], entries: &[[u8; 16]]) {
    for (slot, entry) in sector[446..510].chunks_exact_mut(16).zip(entries) {
        slot.copy_from_slice(entry);
    }
    sector[510..512].copy_from_slice(&[0x55, 0xAA]);
}

/// Puts a volume into an MBR partition at block `first`.
pub fn with_mbr(block_size: u32, first: u32, volume: &[u8]) -> Vec<u8> {
    let blocks = volume.len() as u32 / block_size;
    let mut image = vec![0; first as usize * block_size as usize];
    image.extend_from_slice(volume);
    write_table(&mut image, &[mbr_entry(0x0C, first, blocks)]);
    image
}
