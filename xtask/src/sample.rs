//! The stick that `run` attaches when the user names none: an MBR and a FAT32 volume with files,
//! folders and names that a reader may get wrong. The same bytes every time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::exec;

const BLOCK: usize = 512;
/// 64 MiB.
const BLOCKS: usize = 131_072;
/// First block of the volume; where partitioning tools put it.
const FIRST_BLOCK: usize = 2048;
/// Partition type: FAT32, addressed by block number.
const FAT32_LBA: u8 = 0x0C;
/// The time of every file: the first second of 2026, UTC.
const TIME: &str = "1767225600";

/// What lies on the stick: paths and lengths in bytes. The contents follow from both.
pub const FILES: [(&str, usize); 9] = [
    ("README.TXT", 1_000),
    ("EMPTY.BIN", 0),
    ("one byte.bin", 1),
    ("Ein längerer Name mit Umlauten.txt", 4_321),
    ("photos/2026/Strand bei Sonnenuntergang.jpg", 300_000),
    ("photos/2026/山と海.jpg", 70_000),
    (
        "music/a rather long name for a song, with commas and (brackets).ogg",
        1_048_577,
    ),
    ("saves/SLOT1.SAV", 8_192),
    ("saves/deep/er/and/deeper/still/END.DAT", 511),
];

/// Writes the image to `path`. A process that still reads an older one keeps what it has.
///
/// # Errors
/// The folder is not writable, or mtools or dosfstools are missing.
pub fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().context("an image without a folder")?)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let made = fill(&temporary);
    if made.is_ok() {
        fs::rename(&temporary, path)?;
    } else {
        // The reason why it could not be made matters more than that it cannot be removed.
        let _ = fs::remove_file(&temporary);
    }
    made.with_context(|| format!("cannot make the sample stick {}", path.display()))
}

fn fill(image: &Path) -> Result<()> {
    let file = File::create(image)?;
    file.set_len((BLOCKS * BLOCK) as u64)?;
    file.write_all_at(&partition_table(), 0)?;

    let mkfs = exec::find("mkfs.fat").context("mkfs.fat (package dosfstools) is not installed")?;
    let mut mkfs = Command::new(mkfs);
    mkfs.args([
        "-F",
        "32",
        "-s",
        "1",
        "-n",
        "WIISTICK",
        "-i",
        "5753544B",
        "--invariant",
    ])
    .args([
        "--offset",
        &FIRST_BLOCK.to_string(),
        "-h",
        &FIRST_BLOCK.to_string(),
    ])
    .arg(image)
    // In blocks of 1024 bytes.
    .arg(((BLOCKS - FIRST_BLOCK) / 2).to_string());
    exec::capture(&mut mkfs)?;

    let mut folders = BTreeSet::new();
    for (path, _) in FILES {
        let ends = path.match_indices('/').map(|(end, _)| &path[..end]);
        folders.extend(ends);
    }
    // A folder sorts before what it holds.
    let mut mmd = mtools("mmd", image);
    mmd.args(folders.iter().map(|folder| format!("::/{folder}")));
    exec::capture(&mut mmd)?;
    for (path, length) in FILES {
        let mut mcopy = mtools("mcopy", image);
        mcopy.args(["-", &format!("::/{path}")]);
        feed(&mut mcopy, &contents(path, length))?;
    }
    Ok(())
}

/// Returns a command of mtools on the volume, with everything fixed that its result depends on.
fn mtools(tool: &str, image: &Path) -> Command {
    let mut volume = image.as_os_str().to_owned();
    volume.push(format!("@@{}", FIRST_BLOCK * BLOCK));
    let mut command = Command::new(tool);
    command
        .arg("-i")
        .arg(volume)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", TIME);
    command
}

/// Runs a command on some input.
fn feed(command: &mut Command, input: &[u8]) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::describe(command)))?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", exec::describe(command));
    }
    written.transpose()?;
    Ok(())
}

/// Returns a file's contents: noise that no two files share.
pub fn contents(path: &str, length: usize) -> Vec<u8> {
    // Xorshift32, started from the path.
    let mut state = path.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
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

/// Returns an MBR with one partition.
fn partition_table() -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    // Cylinder, head and sector of a place beyond what they can express.
    let beyond = [0xFE, 0xFF, 0xFF];
    let entry = &mut block[446..462];
    entry[1..4].copy_from_slice(&beyond);
    entry[4] = FAT32_LBA;
    entry[5..8].copy_from_slice(&beyond);
    entry[8..12].copy_from_slice(&(FIRST_BLOCK as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&((BLOCKS - FIRST_BLOCK) as u32).to_le_bytes());
    block[510..].copy_from_slice(&[0x55, 0xAA]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// An image in a folder of its own, removed at the end.
    struct Image(PathBuf);

    impl Image {
        fn make(test: &str) -> Self {
            let name = format!("wiistick-{test}-{}", std::process::id());
            let image = Self(std::env::temp_dir().join(name).join("sample.img"));
            make(&image.0).unwrap();
            image
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn the_image_has_one_fat32_partition_at_block_2048() {
        let image = fs::read(&Image::make("partition").0).unwrap();
        assert_eq!(image.len(), 64 << 20);
        assert_eq!(image[450], 0x0C);
        assert_eq!(image[454..458], [0, 8, 0, 0]);
        assert_eq!(image[510..512], [0x55, 0xAA]);
        let boot = &image[2048 * 512..];
        assert_eq!(&boot[0x52..0x5A], b"FAT32   ");
        assert_eq!(boot[0x1C..0x20], [0, 8, 0, 0]);
    }

    #[test]
    fn every_file_reads_back_by_its_long_name() {
        let image = Image::make("files");
        for (path, length) in FILES {
            let mut mtype = mtools("mtype", &image.0);
            mtype.arg(format!("::/{path}"));
            let output = mtype.output().unwrap();
            assert_eq!(output.stdout.len(), length, "{path}");
            assert!(output.stdout == contents(path, length), "{path}");
        }
    }

    #[test]
    fn the_image_is_the_same_every_time() {
        let read = |image: Image| fs::read(&image.0).unwrap();
        let image = read(Image::make("first"));
        assert!(image == read(Image::make("second")));
        // What the formatting tool takes for now in an invariant image: 14 March 2015, 9:26:52.
        let label = image
            .windows(12)
            .rposition(|entry| entry == b"WIISTICK   \x08");
        let time = label.unwrap() + 22;
        assert_eq!(image[time..time + 4], [0x5A, 0x4B, 0x6E, 0x46]);
    }

    #[test]
    fn files_of_equal_length_differ() {
        assert_ne!(contents("a", 64), contents("b", 64));
    }
}
