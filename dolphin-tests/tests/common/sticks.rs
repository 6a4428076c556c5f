//! Sticks, and what the firmware says about them.

use dolphin_tests::{Outcome, StickImage, Tools, noise};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tempfile::NamedTempFile;
use wiistick::report::{Bounce, Event};

pub fn tools() -> Tools {
    Tools::from_env().unwrap_or_else(|error| panic!("{error}"))
}

pub fn image(stick: &StickImage) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    stick.write(file.path()).unwrap();
    file
}

/// A stick with what a reader may get wrong: long names, empty files, file lengths around block, cluster, packet and
/// transfer sizes, folders in folders.
pub fn varied(fat_bits: u8) -> StickImage {
    let mut stick = StickImage::new(fat_bits, if fat_bits == 32 { 64 } else { 24 })
        .file("EMPTY", Vec::new())
        .file("Ein längerer Name mit Umlauten.txt", noise("u", 4_321))
        .file("a/b/c/d/e/f/deep.bin", noise("deep", 9_000))
        .file("a/山と海.jpg", noise("m", 70_000))
        .file("big.bin", noise("big", 3_000_001));
    for length in [
        1, 31, 32, 511, 512, 513, 2047, 2048, 2049, 16_384, 65_535, 65_536, 65_537,
    ] {
        let path = format!("lengths/{length} bytes.bin");
        stick = stick.file(&path, noise(&path, length));
    }
    stick
}

pub fn events(outcome: &Outcome) -> Vec<Event<String>> {
    let frames = outcome.frames.iter();
    frames.filter_map(|frame| frame.event()).collect()
}

pub fn bounce(outcome: &Outcome) -> Bounce {
    let counters = events(outcome).into_iter().find_map(|event| match event {
        Event::Bounce(counters) => Some(counters),
        _ => None,
    });
    counters.unwrap_or_else(|| panic!("no bounce counters\n{outcome}"))
}

/// Path, length and digest of each file that the firmware read.
pub fn read_files(outcome: &Outcome) -> BTreeMap<String, (u64, String)> {
    let files = events(outcome).into_iter().filter_map(|event| match event {
        Event::File {
            path,
            bytes,
            sha256,
            ..
        } => Some((path, (bytes, sha256.to_string()))),
        _ => None,
    });
    files.collect()
}

pub fn files_of(stick: &StickImage) -> BTreeMap<String, (u64, String)> {
    let digest = |contents: &[u8]| {
        let digest = Sha256::digest(contents);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    stick
        .files()
        .map(|(path, contents)| {
            (
                format!("/{path}"),
                (contents.len() as u64, digest(contents)),
            )
        })
        .collect()
}

/// Every bounce buffer was given back, and no DMA left MEM2: what is true of every run, however it went.
pub fn nothing_is_left(outcome: &Outcome) {
    let bounce = bounce(outcome);
    assert_eq!((bounce.live, bounce.quarantined), (0, 0), "{outcome}");
    if let Some(audit) = &outcome.audit {
        assert!(audit.transfers > 0, "{outcome}");
        assert_eq!(audit.outside_mem2, 0, "{outcome}");
    }
    if let Some(audit) = &outcome.ios {
        assert_eq!(audit.outside_mem2, 0, "{outcome}");
    }
}

/// Messages of errors, with the path as far as there is one.
pub fn errors(outcome: &Outcome) -> Vec<String> {
    let errors = events(outcome).into_iter().filter_map(|event| match event {
        Event::Error { path, message, .. } => Some(match path {
            Some(path) => format!("{path}: {message}"),
            None => message,
        }),
        _ => None,
    });
    errors.collect()
}
