//! Finds the areas of a stick that may hold a volume: partition tables, or none.
//!
//! Everything here comes from the stick and is checked: areas lie within the device, chains of
//! tables end. What is wrong is told to the caller, who goes on with the areas that are left.
//! Overlapping areas are listed as they are: reading them is harmless.

use core::fmt;

use crate::block::{BlockDevice, BlockError};
use crate::disk::Disk;

/// Most areas that are looked at: as many as a GPT of the usual size describes.
pub const MAX_AREAS: usize = 128;

/// Blocks of a stick that may hold a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First block.
    pub first: u64,
    /// Number of blocks, at least one.
    pub blocks: u64,
}

impl Area {
    /// Whether both have a block in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Areas lie within the device: their ends are numbers of blocks.
        self.first < other.first + other.blocks && other.first < self.first + self.blocks
    }
}

/// The areas found, in the order of the table.
pub type Areas = heapless::Vec<Area, MAX_AREAS>;

/// What divides a stick into areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing: the whole stick is one area.
    Superfloppy,
    /// A master boot record, with logical partitions where there are some.
    Mbr,
    /// A GUID partition table.
    Gpt,
}

/// Something wrong with a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A block of the table cannot be read.
    Unreadable(BlockError),
    /// A partition starts beyond the end of the stick and is left out.
    Outside {
        /// Its first block.
        first: u64,
    },
    /// A partition reaches beyond the end of the stick and is cut there.
    Cut {
        /// Its first block.
        first: u64,
        /// Blocks that are missing.
        missing: u64,
    },
    /// A partition ends before it starts and is left out.
    Backwards {
        /// Its first block.
        first: u64,
    },
    /// A table of logical partitions has no signature, or lies outside its extended partition.
    BadLogicalTable {
        /// Its block.
        block: u64,
    },
    /// There are more than [`MAX_AREAS`] partitions, or the tables of logical ones form a loop.
    TooMany,
    /// The GPT at this block is damaged; the other copy is used.
    DamagedGpt {
        /// Block of its header.
        block: u64,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Neither copy of the GPT is usable.
    NoUsableGpt,
}

impl Problem {
    /// Returns the block on the stick that the problem is about, if it is about one.
    pub fn block(&self) -> Option<u64> {
        match *self {
            Self::Unreadable(error) => Some(error.block),
            Self::Outside { first } | Self::Cut { first, .. } | Self::Backwards { first } => {
                Some(first)
            }
            Self::BadLogicalTable { block } | Self::DamagedGpt { block, .. } => Some(block),
            Self::TooMany | Self::NoUsableGpt => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "partition table: {error}"),
            Self::Outside { first } => {
                write!(
                    f,
                    "the partition at block {first} starts beyond the end of the stick"
                )
            }
            Self::Cut { first, missing } => {
                write!(
                    f,
                    "the partition at block {first} reaches {missing} blocks beyond the end of the stick"
                )
            }
            Self::Backwards { first } => {
                write!(f, "the partition at block {first} ends before it starts")
            }
            Self::BadLogicalTable { block } => {
                write!(f, "no valid table of logical partitions at block {block}")
            }
            Self::TooMany => write!(
                f,
                "more than {MAX_AREAS} partitions, or a loop of partition tables"
            ),
            Self::DamagedGpt { block, fault } => {
                write!(
                    f,
                    "the GUID partition table at block {block} is damaged: {fault}"
                )
            }
            Self::NoUsableGpt => f.write_str("no usable copy of the GUID partition table"),
        }
    }
}

/// Boot sectors and partition tables end with this (offset 510).
const SIGNATURE: [u8; 2] = [0x55, 0xAA];

/// Lists the areas of a disk into `areas`, telling `problem` what is wrong with the tables.
///
/// A stick without a recognised table is one area: the caller finds out what is in it.
pub async fn scan<D: BlockDevice>(
    disk: &Disk<'_, D>,
    areas: &mut Areas,
    problem: &mut dyn FnMut(Problem),
) -> Scheme {
    areas.clear();
    let mut sector = [0; 512];
    if let Err(error) = disk.read(0, &mut sector).await {
        problem(Problem::Unreadable(error));
        return Scheme::Superfloppy;
    }
    let scheme = recognise(&sector);
    let mut list = List {
        capacity: disk.blocks(),
        areas,
        problem,
    };
    match scheme {
        Scheme::Superfloppy => list.push(0, disk.blocks()),
        Scheme::Mbr => mbr(disk, &sector, &mut list).await,
        Scheme::Gpt => gpt(disk, &mut list).await,
    }
    scheme
}

/// Decides what the first sector of a stick is.
///
/// A valid boot sector of a file system counts more than a partition table in the same sector: some
/// formatters write both. A sector that is neither means one area of unknown contents.
fn recognise(sector: &[u8; 512]) -> Scheme {
    if sector[510..] != SIGNATURE || &sector[3..11] == b"EXFAT   " {
        return Scheme::Superfloppy;
    }
    if hadris_fat_raw::parse_boot(sector).is_ok() {
        return Scheme::Superfloppy;
    }
    let entries = || entries(sector);
    if entries().any(|entry| entry.kind == GPT_PROTECTIVE) {
        return Scheme::Gpt;
    }
    let plausible = entries().all(|entry| entry.status & 0x7F == 0);
    if plausible && entries().any(|entry| entry.used()) {
        Scheme::Mbr
    } else {
        Scheme::Superfloppy
    }
}

/// Type of the entry that protects a GPT.
const GPT_PROTECTIVE: u8 = 0xEE;

/// An entry of an MBR partition table, or of a table of logical partitions.
struct Entry {
    status: u8,
    kind: u8,
    first: u32,
    blocks: u32,
}

impl Entry {
    fn used(&self) -> bool {
        self.kind != 0 && self.blocks != 0
    }

    /// Whether it holds a chain of tables of logical partitions.
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0F | 0x85)
    }
}

/// Returns the four entries of a partition table (offset 446, 16 bytes each, little-endian).
fn entries(sector: &[u8; 512]) -> impl Iterator<Item = Entry> + '_ {
    sector[446..510]
        .as_chunks()
        .0
        .iter()
        .map(|raw: &[u8; 16]| Entry {
            status: raw[0],
            kind: raw[4],
            first: u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]),
            blocks: u32::from_le_bytes([raw[12], raw[13], raw[14], raw[15]]),
        })
}

/// Collects areas, checked against the size of the device.
struct List<'a, P> {
    capacity: u64,
    areas: &'a mut Areas,
    problem: P,
}

impl<P: FnMut(Problem)> List<'_, P> {
    fn push(&mut self, first: u64, blocks: u64) {
        if first >= self.capacity {
            (self.problem)(Problem::Outside { first });
            return;
        }
        let room = self.capacity - first;
        if blocks > room {
            (self.problem)(Problem::Cut {
                first,
                missing: blocks - room,
            });
        }
        if self
            .areas
            .push(Area {
                first,
                blocks: blocks.min(room),
            })
            .is_err()
        {
            (self.problem)(Problem::TooMany);
        }
    }
}

async fn mbr<D: BlockDevice, P: FnMut(Problem)>(
    disk: &Disk<'_, D>,
    sector: &[u8; 512],
    list: &mut List<'_, P>,
) {
    for entry in entries(sector).filter(Entry::used) {
        if !entry.is_extended() {
            list.push(entry.first.into(), entry.blocks.into());
        }
    }
    for entry in entries(sector).filter(|entry| entry.used() && entry.is_extended()) {
        logical(disk, entry.first.into(), entry.blocks.into(), list).await;
    }
}

/// Follows the chain of tables in the extended partition at `start`. Each table describes one
/// partition, relative to itself, and the next table, relative to the extended partition.
async fn logical<D: BlockDevice, P: FnMut(Problem)>(
    disk: &Disk<'_, D>,
    start: u64,
    blocks: u64,
    list: &mut List<'_, P>,
) {
    let mut table = start;
    for _ in 0..MAX_AREAS {
        let mut sector = [0; 512];
        let valid = table >= start && table - start < blocks && table < disk.blocks();
        if valid
            && let Err(error) = disk
                .read(table * u64::from(disk.block_size()), &mut sector)
                .await
        {
            (list.problem)(Problem::Unreadable(error));
            return;
        }
        if !valid || sector[510..] != SIGNATURE {
            (list.problem)(Problem::BadLogicalTable { block: table });
            return;
        }
        let mut next = None;
        for entry in entries(&sector).take(2).filter(Entry::used) {
            if entry.is_extended() {
                next = Some(start + u64::from(entry.first));
            } else {
                list.push(table + u64::from(entry.first), entry.blocks.into());
            }
        }
        match next {
            Some(next) => table = next,
            None => return,
        }
    }
    (list.problem)(Problem::TooMany);
}

/// Lists the partitions of a GPT, from its backup if the primary is damaged.
async fn gpt<D: BlockDevice, P: FnMut(Problem)>(disk: &Disk<'_, D>, list: &mut List<'_, P>) {
    for block in [1, disk.blocks().saturating_sub(1)] {
        let fault = match gpt_at(disk, block, list).await {
            Ok(()) => return,
            Err(GptFault::Unreadable(error)) => {
                (list.problem)(Problem::Unreadable(error));
                continue;
            }
            Err(GptFault::Damaged(fault)) => fault,
        };
        (list.problem)(Problem::DamagedGpt { block, fault });
    }
    (list.problem)(Problem::NoUsableGpt);
}

enum GptFault {
    Unreadable(BlockError),
    Damaged(&'static str),
}

impl From<BlockError> for GptFault {
    fn from(error: BlockError) -> Self {
        Self::Unreadable(error)
    }
}

/// CRC-32 as the GPT uses it (UEFI specification, section 5.3).
const CRC: crc::Crc<u32, crc::NoTable> = crc::Crc::<u32, crc::NoTable>::new(&crc::CRC_32_ISO_HDLC);

/// Sizes of a GPT entry that are accepted: 128 bytes times a power of two.
const GPT_ENTRY_SIZES: core::ops::RangeInclusive<u32> = 128..=4096;

/// Checks the GPT whose header is at `block` (UEFI specification, section 5.3.2) and lists its
/// partitions. Adds nothing unless header and entries are intact.
async fn gpt_at<D: BlockDevice, P: FnMut(Problem)>(
    disk: &Disk<'_, D>,
    block: u64,
    list: &mut List<'_, P>,
) -> Result<(), GptFault> {
    let size = u64::from(disk.block_size());
    let mut header = [0; 512];
    disk.read(block * size, &mut header).await?;
    if &header[..8] != b"EFI PART" {
        return Err(GptFault::Damaged("no signature"));
    }
    let word = |at: usize| u32::from_le_bytes(*header[at..].first_chunk().unwrap_or(&[0; 4]));
    let long = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().unwrap_or(&[0; 8]));
    let header_size = word(12) as usize;
    let (header_crc, own_block, entries_block) = (word(16), long(24), long(72));
    let (count, entry_size, entries_crc) = (word(80), word(84), word(88));

    let Some(checked) = header
        .get(..header_size)
        .filter(|checked| checked.len() >= 92)
    else {
        return Err(GptFault::Damaged("impossible header size"));
    };
    let mut digest = CRC.digest();
    digest.update(&checked[..16]);
    digest.update(&[0; 4]); // The checksum's own field counts as zero.
    digest.update(&checked[20..]);
    if digest.finalize() != header_crc {
        return Err(GptFault::Damaged("wrong checksum of the header"));
    }
    if own_block != block {
        return Err(GptFault::Damaged("the header is not where it says it is"));
    }
    if !GPT_ENTRY_SIZES.contains(&entry_size) || !entry_size.is_power_of_two() || count > 1024 {
        return Err(GptFault::Damaged("impossible number or size of entries"));
    }
    let length = u64::from(count) * u64::from(entry_size);
    // From here on no offset of an entry can overflow.
    let inside = |start: &u64| {
        let end = start.checked_add(length);
        end.is_some_and(|end| end <= disk.bytes())
    };
    let Some(start) = entries_block.checked_mul(size).filter(inside) else {
        return Err(GptFault::Damaged(
            "the entries reach beyond the end of the stick",
        ));
    };

    let mut digest = CRC.digest();
    let mut piece = [0; 128];
    for i in 0..length / piece.len() as u64 {
        disk.read(start + i * piece.len() as u64, &mut piece)
            .await?;
        digest.update(&piece);
    }
    if digest.finalize() != entries_crc {
        return Err(GptFault::Damaged("wrong checksum of the entries"));
    }
    for i in 0..u64::from(count) {
        disk.read(start + i * u64::from(entry_size), &mut piece)
            .await?;
        let long = |at: usize| u64::from_le_bytes(*piece[at..].first_chunk().unwrap_or(&[0; 8]));
        let (first, last) = (long(32), long(40));
        if piece[..16] == [0; 16] {
            continue; // An entry without a type is not used.
        }
        match last
            .checked_sub(first)
            .and_then(|length| length.checked_add(1))
        {
            Some(blocks) => list.push(first, blocks),
            None => (list.problem)(Problem::Backwards { first }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
