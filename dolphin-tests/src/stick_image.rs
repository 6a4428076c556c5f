//! Disk images of sticks, made with dosfstools and mtools: programs that share no code with what is tested on them.

use crate::{Error, error::Context};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
};

const BLOCK: u64 = 512;
/// Where partitioning tools put the first partition.
const FIRST_BLOCK: u64 = 2048;
/// Seconds since 1970 of every file: the first second of 2026, UTC.
const TIME: &str = "1767225600";

/// What is in front of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Nothing: the volume begins at block 0.
    None,
    /// An MBR of our own.
    Own,
    /// An MBR by sfdisk.
    Mbr,
    /// An MBR by sfdisk, with an extended partition and the volume in a logical one.
    Logical,
    /// A GPT by sgdisk.
    Gpt,
}

/// A stick with one FAT volume. The same description gives the same bytes.
#[derive(Debug, Clone)]
#[must_use]
pub struct StickImage {
    fat_bits: u8,
    blocks: u64,
    blocks_per_cluster: u8,
    table: Table,
    label: String,
    files: Vec<(String, Vec<u8>)>,
}

impl StickImage {
    /// Describes an empty stick of `mib` MiB with an MBR and a FAT volume of 12, 16 or 32 bits.
    pub fn new(fat_bits: u8, mib: u64) -> Self {
        Self {
            fat_bits,
            blocks: mib * (1 << 20) / BLOCK,
            blocks_per_cluster: if fat_bits == 32 { 1 } else { 4 },
            table: Table::Own,
            label: "WIISTICK".to_owned(),
            files: Vec::new(),
        }
    }

    /// Sets the size of a cluster in blocks of 512 bytes, a power of two.
    pub fn blocks_per_cluster(mut self, blocks: u8) -> Self {
        self.blocks_per_cluster = blocks;
        self
    }

    /// Leaves the partition table out: the volume begins at block 0.
    pub fn without_partition_table(self) -> Self {
        self.table(Table::None)
    }

    /// Chooses what is in front of the volume.
    pub fn table(mut self, table: Table) -> Self {
        self.table = table;
        self
    }

    /// Sets the volume's label, at most 11 capitals and digits.
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// Adds a file; `/` separates the names of the folders on the way to it.
    pub fn file(mut self, path: &str, contents: Vec<u8>) -> Self {
        self.files.push((path.to_owned(), contents));
        self
    }

    /// The files, in the order in which they were added.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(path, contents)| (path.as_str(), contents.as_slice()))
    }

    /// First block of the volume.
    pub fn first_block(&self) -> u64 {
        match self.table {
            Table::None => 0,
            Table::Own | Table::Mbr | Table::Gpt => FIRST_BLOCK,
            Table::Logical => 2 * FIRST_BLOCK,
        }
    }

    /// Makes the image.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written, or mkfs.fat, mmd or mcopy fail or are not installed.
    pub fn write(&self, image: &Path) -> Result<(), Error> {
        let what = || image.display().to_string();
        let file = File::create(image).context(what)?;
        file.set_len(self.blocks * BLOCK).context(what)?;
        match self.table {
            Table::None => {}
            Table::Own => file
                .write_all_at(&self.partition_table(), 0)
                .context(what)?,
            Table::Mbr | Table::Logical | Table::Gpt => self.partition(image)?,
        }
        self.format(image)?;
        let mut folders = BTreeSet::new();
        for (path, _) in &self.files {
            folders.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
        }
        if !folders.is_empty() {
            // A folder sorts before what it holds.
            let mut mmd = self.mtools("mmd", image);
            mmd.args(folders.iter().map(|folder| format!("::/{folder}")));
            feed(&mut mmd, &[])?;
        }
        for (path, contents) in &self.files {
            let mut mcopy = self.mtools("mcopy", image);
            mcopy.args(["-", &format!("::/{path}")]);
            feed(&mut mcopy, contents)?;
        }
        Ok(())
    }

    /// A command of mtools on the volume in `image`, with everything fixed that its result depends on.
    pub fn mtools(&self, tool: &str, image: &Path) -> Command {
        let mut volume = image.as_os_str().to_owned();
        volume.push(format!("@@{}", self.first_block() * BLOCK));
        let mut command = Command::new(tool);
        command
            .arg("-i")
            .arg(volume)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", TIME);
        command
    }

    fn format(&self, image: &Path) -> Result<(), Error> {
        // Debian keeps it out of the path of ordinary users.
        let installed = ["/usr/sbin/mkfs.fat", "/sbin/mkfs.fat"];
        let program = installed.into_iter().find(|path| Path::new(path).exists());
        let first = self.first_block().to_string();
        let mut mkfs = Command::new(program.unwrap_or("mkfs.fat"));
        mkfs.args(["-F", &self.fat_bits.to_string()])
            .args(["-s", &self.blocks_per_cluster.to_string()])
            .args(["-n", &self.label, "-i", "5753544B", "--invariant"])
            .args(["--offset", &first, "-h", &first])
            .arg(image)
            // In blocks of 1024 bytes.
            .arg((self.volume_blocks() / 2).to_string());
        feed(&mut mkfs, &[])
    }

    fn volume_blocks(&self) -> u64 {
        // Behind the volume is the backup of a GPT.
        let behind = if self.table == Table::Gpt {
            FIRST_BLOCK
        } else {
            0
        };
        self.blocks - self.first_block() - behind
    }

    /// Has another program make the table.
    fn partition(&self, image: &Path) -> Result<(), Error> {
        let (first, blocks) = (self.first_block(), self.volume_blocks());
        if self.table == Table::Gpt {
            let mut sgdisk = Command::new("sgdisk");
            sgdisk
                .arg(format!("--new=1:{first}:{}", first + blocks - 1))
                .args([
                    "--typecode=1:0700",
                    "--disk-guid=57695300-0000-4000-8000-000000000001",
                ])
                .arg("--partition-guid=1:57695300-0000-4000-8000-000000000002")
                .arg(image);
            return feed(&mut sgdisk, &[]);
        }
        let kind = match self.fat_bits {
            12 => "1",
            16 => "e",
            _ => "c",
        };
        let mut script = "label: dos\nlabel-id: 0x57695300\n".to_owned();
        if self.table == Table::Logical {
            script += &format!("start={FIRST_BLOCK}, type=f\n");
        }
        script += &format!("start={first}, size={blocks}, type={kind}\n");
        let mut sfdisk = Command::new("sfdisk");
        sfdisk.args(["--quiet", "--no-reread"]).arg(image);
        feed(&mut sfdisk, script.as_bytes())
    }

    /// An MBR with one partition, addressed by block number.
    fn partition_table(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        // Cylinder, head and sector of a place beyond what they can express.
        let beyond = [0xFE, 0xFF, 0xFF];
        let blocks = self.blocks - self.first_block();
        let entry = &mut block[446..462];
        entry[1..4].copy_from_slice(&beyond);
        entry[4] = match self.fat_bits {
            12 => 0x01,
            16 => 0x0E,
            _ => 0x0C,
        };
        entry[5..8].copy_from_slice(&beyond);
        entry[8..12].copy_from_slice(&(self.first_block() as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&(blocks as u32).to_le_bytes());
        block[510..].copy_from_slice(&[0x55, 0xAA]);
        block
    }
}

/// Noise for a file's contents: `length` bytes that no two names share.
pub fn noise(name: &str, length: usize) -> Vec<u8> {
    // Xorshift32, started from the name.
    let mut state = name.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    }) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(4)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// Runs a command on some input; silent if all goes well.
fn feed(command: &mut Command, input: &[u8]) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let what = || format!("{name} (packages mtools, dosfstools)");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(what)?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().context(what)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{}: {said}", output.status))).context(what);
    }
    written.transpose().context(what)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> StickImage {
        StickImage::new(32, 64)
            .file("A.TXT", b"a".to_vec())
            .file("folder/älterer Name.bin", noise("x", 70_000))
    }

    #[test]
    fn a_partitioned_image_has_its_volume_at_block_2048() {
        let file = tempfile::NamedTempFile::new().unwrap();
        sample().write(file.path()).unwrap();
        let image = std::fs::read(file.path()).unwrap();
        assert_eq!(image.len(), 64 << 20);
        assert_eq!(image[450], 0x0C);
        assert_eq!(image[454..458], [0, 8, 0, 0]);
        assert_eq!(image[510..512], [0x55, 0xAA]);
        assert_eq!(&image[2048 * 512 + 0x52..][..8], b"FAT32   ");
        assert_eq!(image[2048 * 512 + 0x1C..][..4], [0, 8, 0, 0]);
    }

    #[test]
    fn every_file_reads_back_by_its_long_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for stick in [
            sample(),
            StickImage::new(16, 16)
                .without_partition_table()
                .file("DIR/LONG NAME WITH SPACES.TXT", noise("y", 3000)),
        ] {
            stick.write(file.path()).unwrap();
            for (path, contents) in stick.files() {
                let mut mtype = stick.mtools("mtype", file.path());
                let output = mtype.arg(format!("::/{path}")).output().unwrap();
                assert!(output.stdout == contents, "{path}");
            }
        }
    }

    #[test]
    fn the_same_description_gives_the_same_bytes() {
        let read = || {
            let file = tempfile::NamedTempFile::new().unwrap();
            sample().write(file.path()).unwrap();
            std::fs::read(file.path()).unwrap()
        };
        assert!(read() == read());
    }

    #[test]
    fn a_tool_that_fails_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StickImage::new(32, 1).write(file.path()).unwrap_err();
        assert!(error.to_string().contains("mkfs.fat"), "{error}");
    }

    #[test]
    fn noise_of_equal_length_differs_by_name() {
        assert_ne!(noise("a", 64), noise("b", 64));
    }
}
