//! The stick that `run` attaches when the user names none: an MBR and a FAT32 volume with files,
//! folders and names that a reader may get wrong. The same bytes every time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use dolphin_tests::{StickImage, noise};

/// What lies on the stick: paths and lengths in bytes. The contents are noise that follows from both.
const FILES: [(&str, usize); 9] = [
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
    let stick = FILES
        .iter()
        .fold(StickImage::new(32, 64), |stick, &(path, length)| {
            stick.file(path, noise(path, length))
        });
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let made = stick.write(&temporary);
    if made.is_ok() {
        fs::rename(&temporary, path)?;
    } else {
        // The reason why it could not be made matters more than that it cannot be removed.
        let _ = fs::remove_file(&temporary);
    }
    made.with_context(|| format!("cannot make the sample stick {}", path.display()))
}
