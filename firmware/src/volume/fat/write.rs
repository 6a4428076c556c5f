//! Writing on FAT: directories and whole files, in an order that survives a power cut.
//!
//! Every change goes in steps with a flush between them: contents first, then the cluster chain (which
//! no name leads to yet), then the name; and backwards when something is removed. So whatever step is
//! interrupted, no name ever leads to clusters that are not its own: what is left over at worst is a
//! chain without a name, which every checker reclaims. The volume is marked as in use before the first
//! change and as clean after the last.
//!
//! Why not `hadris-fat`'s own `embedded::Fat`, made of the same primitives: it gives a file its chain
//! before its contents, a piece at a time as they come, and relies on the order of writes of single
//! sectors. With that order kept, 1 MiB in clusters of 512 bytes takes more than 64 commands; with
//! writes put together, a power cut can leave names that lead to free clusters.

use core::pin::pin;

use hadris_fat_raw::io::{DirStart, DirWalk, Held, async_ as raw};
use hadris_fat_raw::lfn::Encoded;
use hadris_fat_raw::{
    ATTR_ARCHIVE, ATTR_DIRECTORY, Detail, LongEntry, RootLocation, ShortEntry, Slot, date,
    short_name,
};
use hadris_fs::{CodePage, Cp437, DateTime, Finding};

use super::{Directory, Fat, Listed};
use crate::block::BlockDevice;
use crate::disk::Disk;
use crate::volume::{Name, VolumeError};

/// The time that new entries get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    date: u16,
    time: u16,
}

impl Stamp {
    /// The first day that FAT knows, 1 January 1980: for machines without a clock.
    pub const NONE: Self = Self {
        date: 1 << 5 | 1,
        time: 0,
    };

    /// Makes a stamp of a local time, in seconds since 1970.
    pub fn from_local_seconds(seconds: i64) -> Self {
        let Ok(time) = DateTime::new(seconds, 0) else {
            return Self::NONE;
        };
        let (date, time, _) = date::encode(time, None);
        Self { date, time }
    }

    fn put_on(self, entry: &mut ShortEntry) {
        entry.set_created(self.date, self.time, 0);
        entry.set_modified(self.date, self.time);
        entry.set_accessed_date(self.date);
    }
}

/// What writing needs besides the volume.
pub struct Tools<'a> {
    /// Memory through which contents go to the medium, one command for all of it.
    pub buffer: &'a mut [u8],
    /// Scratch memory for names.
    pub name: &'a mut Name,
    /// The time that new entries get.
    pub stamp: Stamp,
}

/// How bad it is what a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The volume must not be written to: what is free may be in use, or nobody knows.
    Damage,
    /// What an interrupted write leaves behind, what other systems get wrong without harm, and what
    /// concerns the names of others only.
    Blemish,
}

const NO_ROOM: VolumeError = VolumeError::Refused("there is no room left on the volume");
const BAD_NAME: VolumeError = VolumeError::Refused("FAT cannot hold such a name");
const BAD_PLACE: VolumeError =
    VolumeError::Damaged("the directory's place on the medium is impossible");

/// Most slots of a directory: 2 MiB of them.
const MAX_SLOTS: u32 = 65_536;

/// Number of the first cluster.
const FIRST_CLUSTER: u32 = 2;

impl Fat {
    /// Checks the whole volume, tree and chains, without changing it. Tells `found` what is wrong,
    /// with the path as far as there is one.
    ///
    /// `scratch` is some memory: at least 1.5 KiB, and the tree is walked once for each 8 clusters
    /// per byte of it.
    pub async fn check<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        scratch: &mut [u8],
        found: &mut dyn FnMut(Fault, Option<&str>, &'static str),
    ) -> Result<(), VolumeError> {
        // Only a directory within another names itself first.
        let mut root = self.root();
        while let Some(slot) = self.used_slot(disk, &mut root).await? {
            if let Slot::Short(entry) = slot {
                if entry.is_dot() {
                    let what =
                        "the boot sector takes another directory for the root: files are missing";
                    found(Fault::Damage, None, what);
                }
                break;
            }
        }
        let interrupted = self.was_interrupted(disk).await?;
        let (mut cut_name, mut lost_clusters) = (false, false);
        let mut window = self.window(disk);
        let on_finding = |finding: &Finding<'_>| {
            let detail = Detail::from_code(finding.detail());
            cut_name |= matches!(detail, Some(Detail::OrphanLfn));
            lost_clusters |= matches!(detail, Some(Detail::LostClusters));
            let fault = match detail {
                // Between one copy and the other a write was interrupted.
                Some(Detail::FatCopiesDiffer) if interrupted => Fault::Blemish,
                Some(
                    Detail::Dirty
                    | Detail::LostClusters
                    | Detail::FreeCount
                    | Detail::FsInfo
                    | Detail::BackupBootSector
                    | Detail::DotEntries
                    | Detail::BadName
                    | Detail::OrphanLfn
                    | Detail::Label,
                ) => Fault::Blemish,
                _ => Fault::Damage,
            };
            let path = finding
                .path()
                .and_then(|path| core::str::from_utf8(path).ok());
            found(fault, path, finding.message());
        };
        {
            // Large: it stays in one place.
            let check = pin!(raw::check(&mut window, scratch, on_finding));
            disk.drive(check).await?;
        }
        // Programs that know no long names leave the one, pulled sticks leave the other. Together they are a directory that ends too soon.
        if cut_name && lost_clusters {
            let what = "a directory ends within a name, and parts of the volume belong to no file: files are missing";
            found(Fault::Damage, None, what);
        }
        Ok(())
    }

    /// Returns whether a copy of the FAT has the mark of a volume in use, which whoever set it did not
    /// come to take away. FAT12 has no such mark.
    async fn was_interrupted<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
    ) -> Result<bool, VolumeError> {
        let geometry = *self.geometry();
        let kind = geometry.kind();
        let (mut entries, length) = ([0; 8], 2 * kind.entry_len());
        for copy in 0..geometry.fat_count() {
            let at = geometry.fat_copy(copy) + kind.entry_offset(0);
            let base = self.area.first * u64::from(disk.block_size());
            disk.read(base + at, &mut entries[..length]).await?;
            let [media, marks] = [0, 1].map(|number| {
                let at = kind.entry_offset(number) as usize;
                kind.decode(number, &entries[at..])
            });
            // What does not begin as a FAT does is none, and has no marks.
            let is_fat = media & kind.mask() | 0xF == kind.mask();
            if is_fat && kind.clean_bit() != 0 && marks & kind.clean_bit() == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gets ready to write: reads the volume's marks and marks it as in use.
    pub async fn begin_writing<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
    ) -> Result<(), VolumeError> {
        let geometry = *self.geometry();
        let mut window = self.window(disk);
        self.sector.invalidate();
        let (sector, state) = (&mut self.sector, &mut self.state);
        disk.drive(async {
            *state = raw::read_fat(&mut window, sector, geometry).await?;
            raw::begin_write(&mut window, sector, state).await
        })
        .await?;
        Ok(())
    }

    /// Ends writing: brings everything to the medium and marks the volume as clean, unless it was
    /// not when writing began.
    pub async fn finish_writing<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
    ) -> Result<(), VolumeError> {
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &mut self.state);
        disk.drive(async {
            raw::write_fs_info(&mut window, sector, state).await?;
            raw::clear_dirty(&mut window, sector, state).await
        })
        .await?;
        Ok(())
    }

    /// Returns the directory of a name, which is made if it does not exist, and whether it was.
    ///
    /// # Errors
    /// [`VolumeError::Refused`] if a file has the name, or there is no room.
    pub async fn make_directory<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        parent: &Directory,
        name: &str,
        tools: &mut Tools<'_>,
    ) -> Result<(Directory, bool), VolumeError> {
        let kind = self.geometry().kind();
        if let Some(found) = self.find(disk, parent, name, tools.name).await? {
            if !found.entry.is_dir() {
                return Err(VolumeError::Refused(
                    "a file is where a directory should be",
                ));
            }
            let directory = self.directory_at(found.entry.first_cluster(kind))?;
            return Ok((directory, false));
        }
        let first = self.place(disk, 1).await?;
        let mut entry = ShortEntry::new(*b".          ", ATTR_DIRECTORY);
        entry.set_first_cluster(kind, first);
        tools.stamp.put_on(&mut entry);
        let dot = entry.encode();
        entry.set_name(*b"..         ");
        // The root is cluster 0 here, also on FAT32.
        let parent_cluster = match (parent.walk.start(), self.geometry().root()) {
            (DirStart::Chain(cluster), RootLocation::Cluster(root)) if cluster == root => 0,
            (DirStart::Chain(cluster), _) => cluster,
            _ => 0,
        };
        entry.set_first_cluster(kind, parent_cluster);
        let dot_dot = entry.encode();
        let mut contents = |position: u64, memory: &mut [u8]| {
            memory.fill(0);
            if position == 0 {
                let slots = memory.as_chunks_mut().0.iter_mut();
                slots
                    .zip([dot, dot_dot])
                    .for_each(|(slot, entry)| *slot = entry);
            }
        };
        self.add_clusters(
            disk,
            first,
            self.cluster_size(),
            tools.buffer,
            &mut contents,
        )
        .await?;
        entry.set_first_cluster(kind, first);
        self.insert(disk, parent, name, entry, tools).await?;
        disk.flush().await?;
        Ok((self.directory_at(first)?, true))
    }

    /// Writes a file of `length` bytes, in one piece if there is room for one. `contents` is called
    /// with a position in the file and the memory for what comes there. A file that had the name
    /// before is removed first.
    ///
    /// # Errors
    /// [`VolumeError::Refused`] if a directory has the name, or there is no room. The file exists
    /// only if this returns without an error.
    pub async fn write_file<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        name: &str,
        length: u32,
        tools: &mut Tools<'_>,
        contents: &mut dyn FnMut(u64, &mut [u8]),
    ) -> Result<(), VolumeError> {
        if let Some(found) = self.find(disk, directory, name, tools.name).await? {
            if found.entry.is_dir() {
                return Err(VolumeError::Refused(
                    "a directory is where a file should be",
                ));
            }
            self.remove(disk, directory, &found).await?;
        }
        let mut entry = ShortEntry::new([b' '; 11], ATTR_ARCHIVE);
        entry.set_size(length);
        tools.stamp.put_on(&mut entry);
        if length != 0 {
            let start = self
                .place(disk, length.div_ceil(self.geometry().cluster_size()))
                .await?;
            let first = self
                .add_clusters(disk, start, length.into(), tools.buffer, contents)
                .await?;
            entry.set_first_cluster(self.geometry().kind(), first);
        }
        self.insert(disk, directory, name, entry, tools).await?;
        disk.flush().await?;
        Ok(())
    }

    /// Removes a file, or a directory that lists nothing; nothing happens if there is none.
    ///
    /// # Errors
    /// [`VolumeError::Refused`] if it is a directory that lists something.
    pub async fn remove_named<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        name: &str,
        scratch: &mut Name,
    ) -> Result<(), VolumeError> {
        let Some(found) = self.find(disk, directory, name, scratch).await? else {
            return Ok(());
        };
        if found.entry.is_dir() {
            let first = found.entry.first_cluster(self.geometry().kind());
            let mut inner = self.directory_at(first)?;
            if self.next_listed(disk, &mut inner, scratch).await?.is_some() {
                return Err(VolumeError::Refused("the directory is not empty"));
            }
        }
        self.remove(disk, directory, &found).await
    }

    /// Returns how many clusters are free, as far as it takes to know that there are `enough`.
    pub async fn free_clusters<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        enough: u32,
    ) -> Result<u32, VolumeError> {
        let mut free = 0;
        for (mut at, end) in self.search_order() {
            while free < enough
                && let Some((first, count)) = self.free_run(disk, at, end, enough - free).await?
            {
                free += count;
                at = first + count;
            }
        }
        Ok(free)
    }

    /// Finds an entry by its name; names that differ in case only are the same.
    async fn find<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        name: &str,
        scratch: &mut Name,
    ) -> Result<Option<Listed>, VolumeError> {
        let mut directory = directory.at_start();
        while let Some(listed) = self.next_listed(disk, &mut directory, scratch).await? {
            let listed_name = scratch.as_str().chars().flat_map(char::to_lowercase);
            if listed_name.eq(name.chars().flat_map(char::to_lowercase)) {
                return Ok(Some(listed));
            }
        }
        Ok(None)
    }

    /// Returns the directory whose first cluster this is.
    fn directory_at(&self, first: u32) -> Result<Directory, VolumeError> {
        match self.enter(first) {
            super::Entry::Directory(crate::volume::Directory::Fat(directory)) => Ok(directory),
            _ => Err(BAD_PLACE),
        }
    }

    /// Takes an entry's name, then frees its clusters.
    async fn remove<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        found: &Listed,
    ) -> Result<(), VolumeError> {
        let first = found.entry.first_cluster(self.geometry().kind());
        let (from, to) = (found.first_slot, found.slot + 1);
        let start = directory.walk.start();
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &mut self.state);
        disk.drive(raw::clear_slots(
            &mut window,
            sector,
            state,
            start,
            from,
            to,
        ))
        .await?;
        disk.flush().await?;
        if first != 0 {
            let mut held = Held::NONE;
            disk.drive(raw::free_chain(
                &mut window,
                sector,
                state,
                &mut held,
                first,
            ))
            .await?;
            disk.flush().await?;
        }
        Ok(())
    }

    /// Writes contents into the free clusters from `start` on, makes them a chain that no name leads
    /// to yet, and returns its first cluster.
    async fn add_clusters<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        start: u32,
        length: u64,
        buffer: &mut [u8],
        contents: &mut dyn FnMut(u64, &mut [u8]),
    ) -> Result<u32, VolumeError> {
        let count = u32::try_from(length.div_ceil(self.cluster_size())).map_err(|_| NO_ROOM)?;
        self.fill_clusters(disk, start, length, buffer, contents)
            .await?;
        disk.flush().await?;
        let first = self.link(disk, start, count).await?;
        disk.flush().await?;
        Ok(first)
    }

    /// The ranges of clusters in which free ones are looked for: behind the last that was taken,
    /// then before it.
    fn search_order(&self) -> [(u32, u32); 2] {
        let (hint, end) = (self.state.next_free(), self.geometry().max_cluster() + 1);
        [(hint, end), (FIRST_CLUSTER, hint)]
    }

    /// Finds where to take `count` clusters from: a cluster from which on the next that many free
    /// ones are to be taken, side by side if there is such a place.
    async fn place<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        count: u32,
    ) -> Result<u32, VolumeError> {
        let mut free = 0;
        for (mut at, end) in self.search_order() {
            while let Some((first, length)) = self.free_run(disk, at, end, count).await? {
                if length >= count {
                    return Ok(first);
                }
                free += length;
                at = first + length;
            }
        }
        if free < count {
            return Err(NO_ROOM);
        }
        Ok(FIRST_CLUSTER)
    }

    /// Finds the next free clusters from `from` to before `end`: the first and how many are side by
    /// side, at most `most`. Free is what every copy of the FAT calls free.
    async fn free_run<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        from: u32,
        end: u32,
        most: u32,
    ) -> Result<Option<(u32, u32)>, VolumeError> {
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &self.state);
        let geometry = state.geometry();
        let (mask, active) = (geometry.kind().mask(), geometry.active_fat());
        let copies = match geometry.mirrored() {
            true => geometry.fat_count(),
            false => 0,
        };
        let mut run = None;
        disk.drive(async {
            for cluster in from..end {
                let mut entry = raw::get(&mut window, sector, state, cluster).await? & mask;
                for copy in (0..copies).filter(|copy| *copy != active) {
                    if entry == 0 {
                        entry =
                            raw::get_copy(&mut window, sector, state, copy, cluster).await? & mask;
                    }
                }
                match (&mut run, entry) {
                    (None, 0) => run = Some((cluster, 1)),
                    (Some((_, length)), 0) => *length += 1,
                    (None, _) => continue,
                    (Some(_), _) => break,
                }
                if run.is_some_and(|(_, length)| length >= most) {
                    break;
                }
            }
            Ok::<_, hadris_fs::Error<_>>(())
        })
        .await?;
        Ok(run)
    }

    /// Writes contents into the free clusters from `start` on, which stay free.
    async fn fill_clusters<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        start: u32,
        length: u64,
        buffer: &mut [u8],
        contents: &mut dyn FnMut(u64, &mut [u8]),
    ) -> Result<(), VolumeError> {
        let (cluster_size, end) = (self.cluster_size(), self.geometry().max_cluster() + 1);
        let base = self.area.first * u64::from(disk.block_size());
        let (mut at, mut position) = (start, 0);
        while position < length {
            let most = (length - position).div_ceil(cluster_size);
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            let Some((first, clusters)) = self.free_run(disk, at, end, most).await? else {
                return Err(NO_ROOM);
            };
            at = first + clusters;
            let offset = self.state.cluster_at(first);
            let mut place = base + offset.map_err(hadris_fs::Error::from)?;
            let run_end = (position + u64::from(clusters) * cluster_size).min(length);
            while position < run_end {
                let n = (run_end - position).min(buffer.len() as u64) as usize;
                contents(position, &mut buffer[..n]);
                disk.write_from(place, &buffer[..n]).await?;
                position += n as u64;
                place += n as u64;
            }
        }
        // It may hold a sector that has been written behind its back.
        self.sector.invalidate();
        Ok(())
    }

    /// Makes a chain of the next `count` free clusters from `start` on and returns its first.
    async fn link<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        start: u32,
        count: u32,
    ) -> Result<u32, VolumeError> {
        let end = self.geometry().max_cluster() + 1;
        let end_of_chain = self.geometry().kind().end_of_chain();
        let (mut at, mut left) = (start, count);
        let mut chain: Option<(u32, u32)> = None;
        while left != 0 {
            let Some((first, clusters)) = self.free_run(disk, at, end, left).await? else {
                return Err(NO_ROOM);
            };
            at = first + clusters;
            left -= clusters;
            let mut window = self.window(disk);
            let (sector, state) = (&mut self.sector, &mut self.state);
            disk.drive(async {
                for cluster in first..at {
                    let next = match cluster + 1 {
                        next if next == at => end_of_chain,
                        next => next,
                    };
                    raw::set(&mut window, sector, state, cluster, next).await?;
                }
                if let Some((_, last)) = chain {
                    raw::set(&mut window, sector, state, last, first).await?;
                }
                Ok::<_, hadris_fs::Error<_>>(())
            })
            .await?;
            chain = Some((chain.map_or(first, |(head, _)| head), at - 1));
        }
        Ok(chain.map_or(0, |(head, _)| head))
    }

    /// Gives an entry its name in a directory, which grows if it has to.
    async fn insert<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        name: &str,
        mut entry: ShortEntry,
        tools: &mut Tools<'_>,
    ) -> Result<(), VolumeError> {
        if !short_name::is_valid_long_name(name) || name.ends_with(['.', ' ']) {
            return Err(BAD_NAME);
        }
        let encoded = Encoded::new(name).ok_or(BAD_NAME)?;
        // The bits are there if the name needs no parts of a long one.
        let case_bits = short_name::case_bits(name);
        let mut suffix = u8::from(case_bits.is_none());
        entry.set_name(loop {
            let encode = |character| Cp437.encode(character);
            let mut short = short_name::generate(name, suffix, encode).ok_or(BAD_NAME)?;
            short_name::to_disk(&mut short);
            if !self.has_short_name(disk, directory, &short).await? {
                break short;
            }
            suffix = match suffix.checked_add(1) {
                Some(next) if case_bits.is_none() => next,
                _ => return Err(VolumeError::Refused("the name is taken")),
            };
        });
        entry.set_nt_case(case_bits.unwrap_or(0));
        let parts = match case_bits {
            Some(_) => 0,
            None => encoded.entries() as u32,
        };
        let first = loop {
            match self.free_slots(disk, directory, parts + 1).await? {
                Ok(first) => break first,
                Err(tail) => self.grow(disk, tail, tools.buffer).await?,
            }
        };
        let checksum = entry.lfn_checksum();
        let slot = |index: u32| match index == parts {
            true => entry.encode(),
            false => {
                let (sequence, units) = encoded.entry(index as usize);
                LongEntry::new(sequence, checksum, &units).encode()
            }
        };
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &self.state);
        let mut walk = DirWalk::new(directory.walk.start());
        disk.drive(raw::write_slots(
            &mut window,
            sector,
            state,
            &mut walk,
            first,
            parts + 1,
            slot,
            &mut 0,
        ))
        .await?;
        Ok(())
    }

    async fn has_short_name<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        name: &[u8; 11],
    ) -> Result<bool, VolumeError> {
        let mut directory = directory.at_start();
        while let Some(slot) = self.used_slot(disk, &mut directory).await? {
            if let Slot::Short(entry) = slot
                && !entry.is_label()
                && entry.name() == *name
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds the first of `count` free slots side by side, or else the last cluster of the
    /// directory, behind which it can grow.
    async fn free_slots<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        directory: &Directory,
        count: u32,
    ) -> Result<Result<u32, u32>, VolumeError> {
        let mut directory = directory.at_start();
        let (mut run, mut ended) = (0, false);
        while let Some(slot) = self.slot(disk, &mut directory).await? {
            // Behind the end mark everything is free, whatever is there.
            ended |= matches!(slot, Slot::End);
            run = match ended || matches!(slot, Slot::Free) {
                true => run + 1,
                false => 0,
            };
            if run == count {
                return Ok(Ok(directory.slot - count));
            }
        }
        match directory.walk.start() {
            DirStart::Chain(_) if directory.slot < MAX_SLOTS => {
                Ok(Err(directory.walk.pos().cluster()))
            }
            _ => Err(VolumeError::Refused("the directory is full")),
        }
    }

    /// Adds an empty cluster behind the last one of a directory.
    async fn grow<D: BlockDevice>(
        &mut self,
        disk: &Disk<'_, D>,
        tail: u32,
        buffer: &mut [u8],
    ) -> Result<(), VolumeError> {
        let mut zeros = |_: u64, memory: &mut [u8]| memory.fill(0);
        let start = self.place(disk, 1).await?;
        let first = self
            .add_clusters(disk, start, self.cluster_size(), buffer, &mut zeros)
            .await?;
        let mut window = self.window(disk);
        let (sector, state) = (&mut self.sector, &mut self.state);
        disk.drive(raw::set(&mut window, sector, state, tail, first))
            .await?;
        disk.flush().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
