//! FAT12, FAT16 and FAT32, over the primitives of `hadris-fat-raw`: reading. Writing is in [`write`].

pub mod write;

use core::ops::Range;

use hadris_fat_raw::io::{BlockBuf, ChainPos, DirStart, DirWalk, async_ as raw};
use hadris_fat_raw::lfn::Assembler;
use hadris_fat_raw::{
    BootError, ENTRY_SIZE, FatKind, Geometry, LFN_LAST_ENTRY, RootLocation, ShortEntry, Slot,
    parse_boot, short_name,
};
use hadris_fs::{CodePage, Cp437};

use super::{Entry, Name, VolumeError};
use crate::block::BlockDevice;
use crate::disk::{Disk, SECTOR, Window};
use crate::partition::Area;
use crate::report::VolumeKind;

/// The state of a FAT volume.
pub struct Fat {
    area: Area,
    state: hadris_fat_raw::io::Fat,
    /// The sector that the primitives looked at last.
    sector: BlockBuf<[u8; SECTOR as usize]>,
    long_name: Assembler,
    directory_bytes: u64,
}

/// A directory and the slot that is read next.
#[derive(Clone, Copy)]
pub struct Directory {
    walk: DirWalk,
    slot: u32,
}

impl Directory {
    /// The same directory, to be read from its start.
    fn at_start(&self) -> Self {
        Self {
            walk: DirWalk::new(self.walk.start()),
            slot: 0,
        }
    }

    /// Whether both are the same directory.
    pub fn is_same(&self, other: &Self) -> bool {
        self.walk.start() == other.walk.start()
    }
}

/// An entry of a directory, and the slots that it and its long name take.
struct Listed {
    first_slot: u32,
    slot: u32,
    entry: ShortEntry,
}

/// A file, its place on the medium, and how far it has been read.
pub struct File {
    first: u32,
    size: u32,
    at: ChainPos,
    position: u32,
}

impl Fat {
    /// Mounts the area if a FAT boot sector is at its start.
    pub async fn mount<D: BlockDevice>(
        disk: &Disk<'_, D>,
        area: Area,
    ) -> Result<Option<Self>, VolumeError> {
        let mut boot = [0; SECTOR as usize];
        disk.read(area.first * u64::from(disk.block_size()), &mut boot)
            .await?;
        let geometry = match parse_boot(&boot) {
            Ok(geometry) => geometry,
            // Other file systems have similar sizes at the same places, NTFS for one. Every
            // formatter writes FAT's name as well, into one of two places.
            Err(BootError::Corrupt(what))
                if [54, 82].iter().any(|at| boot[*at..].starts_with(b"FAT")) =>
            {
                return Err(VolumeError::Damaged(what));
            }
            Err(_) => return Ok(None),
        };
        if geometry.data_end() > area.blocks * u64::from(disk.block_size()) {
            return Err(VolumeError::Damaged(
                "the volume is larger than the area that holds it",
            ));
        }
        let Some(sector) = BlockBuf::new(SECTOR as usize) else {
            return Err(VolumeError::Damaged("impossible sector size"));
        };
        let state = hadris_fat_raw::io::Fat::new(geometry);
        Ok(Some(Self {
            area,
            state,
            sector,
            long_name: Assembler::new(),
            directory_bytes: 0,
        }))
    }

    fn geometry(&self) -> &Geometry {
        self.state.geometry()
    }

    fn window<'d, 'm, D: BlockDevice>(&self, disk: &'d Disk<'m, D>) -> Window<'d, 'm, D> {
        disk.window(self.area.first, self.area.blocks)
    }

    /// Returns which FAT it is.
    pub fn kind(&self) -> VolumeKind {
        match self.geometry().kind() {
            FatKind::Fat12 => VolumeKind::Fat12,
            FatKind::Fat16 => VolumeKind::Fat16,
            FatKind::Fat32 => VolumeKind::Fat32,
            _ => VolumeKind::Unknown,
        }
    }

    /// Returns the size of a cluster in bytes.
    pub fn cluster_size(&self) -> u64 {
        self.geometry().cluster_size().into()
    }

    /// Returns how many bytes of directories were read since the volume was mounted.
    pub fn directory_bytes(&self) -> u64 {
        self.directory_bytes
    }

    /// Returns the root directory.
    pub fn root(&self) -> Directory {
        Directory {
            walk: DirWalk::new(self.state.root()),
            slot: 0,
        }
    }

    /// Reads one slot of a directory and moves on; `None` beyond the last place for one.
    async fn slot<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &mut Directory,
    ) -> Result<Option<Slot>, VolumeError> {
        self.directory_bytes += ENTRY_SIZE as u64;
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &self.state);
        let slot = disk
            .drive(async {
                let at = raw::slot_offset(
                    &mut window,
                    sector,
                    state,
                    &mut directory.walk,
                    directory.slot,
                )
                .await?;
                match at {
                    Some(at) => raw::read_slot(&mut window, sector, at).await.map(Some),
                    None => Ok(None),
                }
            })
            .await?;
        directory.slot += 1;
        Ok(slot)
    }

    /// Like [`Self::slot`]; `None` at the end of what is listed.
    async fn used_slot<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &mut Directory,
    ) -> Result<Option<Slot>, VolumeError> {
        let slot = self.slot(disk, directory).await?;
        Ok(slot.filter(|slot| !matches!(slot, Slot::End)))
    }

    /// Reads the label from the root directory.
    pub async fn label<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        label: &mut Name,
    ) -> Result<bool, VolumeError> {
        let mut root = self.root();
        while let Some(slot) = self.used_slot(disk, &mut root).await? {
            if let Slot::Short(entry) = slot
                && entry.is_label()
                && !entry.is_dir()
            {
                let mut text = [0; short_name::DISPLAY_MAX];
                let decode = |byte| Cp437.decode(byte);
                let length = short_name::display_label(&entry.name(), decode, &mut text);
                label.set_bytes(&text[..length]);
                return Ok(length != 0);
            }
        }
        Ok(false)
    }

    /// Reads the next file or directory of a directory.
    pub async fn next<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &mut Directory,
        name: &mut Name,
    ) -> Result<Option<Entry>, VolumeError> {
        let listed = self.next_listed(disk, directory, name).await?;
        Ok(listed.map(|Listed { entry, .. }| {
            let first = entry.first_cluster(self.geometry().kind());
            if entry.is_label() {
                return Entry::Damaged("it says that it is a directory and the volume's label");
            }
            if entry.is_dir() {
                return self.enter(first);
            }
            let size = entry.size();
            Entry::File(
                super::File::Fat(File {
                    first,
                    size,
                    at: ChainPos::NONE,
                    position: 0,
                }),
                size.into(),
            )
        }))
    }

    /// Reads the next entry of a directory, and its name.
    async fn next_listed<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &mut Directory,
        name: &mut Name,
    ) -> Result<Option<Listed>, VolumeError> {
        self.long_name.reset();
        let mut first_slot = directory.slot;
        let mut in_name = false;
        while let Some(slot) = self.used_slot(disk, directory).await? {
            let entry = match slot {
                Slot::Long(part) => {
                    // The part that comes first says that it is the last of the name.
                    if !in_name || part.sequence() & LFN_LAST_ENTRY != 0 {
                        first_slot = directory.slot - 1;
                    }
                    in_name = true;
                    self.long_name.push(&part);
                    continue;
                }
                // A label that is a directory is one or the other, and damaged.
                Slot::Short(entry) if entry.is_visible() || entry.is_label() && entry.is_dir() => {
                    entry
                }
                _ => {
                    in_name = false;
                    self.long_name.reset();
                    continue;
                }
            };
            let slot = directory.slot - 1;
            let first_slot = match self.long_name.finish(entry.lfn_checksum()) {
                Some(units) if !units.is_empty() => {
                    name.set_utf16(units);
                    first_slot
                }
                _ => {
                    let mut text = [0; short_name::DISPLAY_MAX];
                    let decode = |byte| Cp437.decode(byte);
                    let length =
                        short_name::display(&entry.name(), entry.nt_case(), decode, &mut text);
                    name.set_bytes(&text[..length]);
                    slot
                }
            };
            return Ok(Some(Listed {
                first_slot,
                slot,
                entry,
            }));
        }
        Ok(None)
    }

    /// Returns the directory at a cluster.
    fn enter(&self, first: u32) -> Entry {
        // Only `..` may point to the root, and that is never listed.
        let is_root = match self.geometry().root() {
            RootLocation::Cluster(root) => first == root,
            RootLocation::Fixed { .. } => false,
        };
        if is_root || !self.state.is_cluster(first) {
            return Entry::Damaged("the directory's place on the medium is impossible");
        }
        Entry::Directory(super::Directory::Fat(Directory {
            walk: DirWalk::new(DirStart::Chain(first)),
            slot: 0,
        }))
    }

    /// Reads on in a file.
    pub async fn read<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        file: &mut File,
        buffer: &mut [u8],
    ) -> Result<Range<usize>, VolumeError> {
        let left = (file.size - file.position) as usize;
        let most = left.min(buffer.len());
        if most == 0 {
            return Ok(0..0);
        }
        if !self.state.is_cluster(file.first) {
            return Err(VolumeError::Damaged(
                "the file's place on the medium is impossible",
            ));
        }
        let (cluster_size, shift) = (
            self.geometry().cluster_size(),
            self.geometry().cluster_shift(),
        );
        let want = file.position >> shift;
        let within = file.position & (cluster_size - 1);
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &self.state);
        let (start, length) = disk
            .drive(async {
                let start =
                    raw::walk(&mut window, sector, state, file.first, file.at, want).await?;
                let mut end = start;
                let length = most.min((cluster_size - within) as usize);
                let length = raw::run(&mut window, sector, state, &mut end, length, most).await?;
                Ok::<_, hadris_fs::Error<_>>((start, length))
            })
            .await?;
        if start.index() < want {
            return Err(VolumeError::Damaged(
                "the cluster chain ends before the file does",
            ));
        }
        let offset = state
            .cluster_at(start.cluster())
            .map_err(hadris_fs::Error::from)?;
        let base = self.area.first * u64::from(disk.block_size());
        let read = disk
            .read_into(base + offset + u64::from(within), length as u64, buffer)
            .await?;
        file.position += read.len() as u32;
        // The next walk starts here: the read may have been shorter than the run.
        file.at = start;
        Ok(read)
    }
}
