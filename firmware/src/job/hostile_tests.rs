//! The job over sticks whose contents lie: a clear error, the rest is read, and it always ends.

use super::*;
use crate::testing::*;
use fatfs::FatType;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const FAT16: Format = Format {
    fat: FatType::Fat16,
    sector: 512,
    cluster: 2048,
    bytes: 16 << 20,
};

/// A FAT16 volume taken apart: where its structures are, to damage them.
struct Image {
    data: Vec<u8>,
    fat: usize,
    fat_bytes: usize,
    root: usize,
    clusters: usize,
}

impl Image {
    fn new(tree: &Tree<'_>) -> Self {
        let data = fat_volume(FAT16, tree);
        let word = |at: usize| usize::from(u16::from_le_bytes([data[at], data[at + 1]]));
        let (fat, fat_bytes) = (word(14) * 512, word(22) * 512);
        let root = fat + fat_bytes * usize::from(data[16]);
        let clusters = root + word(17) * 32;
        Self {
            data,
            fat,
            fat_bytes,
            root,
            clusters,
        }
    }

    /// Byte offset of a cluster.
    fn cluster(&self, cluster: u16) -> usize {
        self.clusters + (usize::from(cluster) - 2) * 2048
    }

    /// Finds the short entry of this 8.3 name (padded, 11 bytes).
    fn entry(&self, name: &[u8; 11]) -> usize {
        let slots = (self.root..self.data.len()).step_by(32);
        slots
            .into_iter()
            .find(|at| &self.data[*at..at + 11] == name)
            .unwrap()
    }

    fn first_cluster(&self, entry: usize) -> u16 {
        u16::from_le_bytes([self.data[entry + 26], self.data[entry + 27]])
    }

    fn set_first_cluster(&mut self, entry: usize, cluster: u16) {
        self.data[entry + 26..entry + 28].copy_from_slice(&cluster.to_le_bytes());
    }

    fn set_size(&mut self, entry: usize, size: u32) {
        self.data[entry + 28..entry + 32].copy_from_slice(&size.to_le_bytes());
    }

    fn link(&mut self, cluster: u16, next: u16) {
        for copy in [self.fat, self.fat + self.fat_bytes] {
            let at = copy + usize::from(cluster) * 2;
            self.data[at..at + 2].copy_from_slice(&next.to_le_bytes());
        }
    }

    fn run(self) -> Outcome {
        run(&mut RamStick::new(512, self.data))
    }
}

fn tree() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("/BAD.BIN", contents(1, 50_000)),
        ("/DIR/INNER/FILE.BIN", contents(2, 3000)),
        ("/GOOD.BIN", contents(3, 40_000)),
    ]
}

const BAD: &[u8; 11] = b"BAD     BIN";

/// What must still be read when BAD.BIN cannot be.
fn good_files() -> Vec<(String, u64, String)> {
    expected(&tree()[1..])
}

#[track_caller]
fn assert_only_bad_is_lost(outcome: &Outcome, message: &str) {
    assert_eq!(outcome.files(), good_files());
    let errors = outcome.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].0.as_deref(), Some("/BAD.BIN"));
    assert!(errors[0].2.contains(message), "{errors:?}");
    assert_eq!(outcome.summary.errors, 1);
    // The last record says that the stick was not read through.
    assert!(matches!(
        outcome.events.last(),
        Some(Event::StickDone { error: Some(_), .. })
    ));
}

#[test]
fn a_cluster_chain_that_loops_is_an_error() {
    for back in [0, 1, 3] {
        let mut image = Image::new(&tree());
        let first = image.first_cluster(image.entry(BAD));
        image.link(first + 3, first + 3 - back);
        assert_only_bad_is_lost(&image.run(), "back to itself");
    }
}

#[test]
fn a_cluster_chain_that_ends_early_is_an_error() {
    let mut image = Image::new(&tree());
    let first = image.first_cluster(image.entry(BAD));
    image.link(first + 3, 0xFFFF);
    assert_only_bad_is_lost(&image.run(), "ends before the file does");
}

#[test]
fn a_cluster_chain_that_leaves_the_volume_is_an_error() {
    for (next, message) in [
        (0, "chain"),
        (1, "chain"),
        (0xFFF0, "chain"),
        (0xFFF7, "bad"),
    ] {
        let mut image = Image::new(&tree());
        let first = image.first_cluster(image.entry(BAD));
        image.link(first + 3, next);
        assert_only_bad_is_lost(&image.run(), message);
    }
}

#[test]
fn a_first_cluster_outside_the_volume_is_an_error() {
    for first in [0, 1, 0xFFF0] {
        let mut image = Image::new(&tree());
        let entry = image.entry(BAD);
        image.set_first_cluster(entry, first);
        assert_only_bad_is_lost(&image.run(), "impossible");
    }
}

#[test]
fn a_size_beyond_the_volume_is_an_error() {
    for (size, message) in [
        (u32::MAX, "more than the volume holds"),
        (60_000, "ends before"),
    ] {
        let mut image = Image::new(&tree());
        let entry = image.entry(BAD);
        image.set_size(entry, size);
        assert_only_bad_is_lost(&image.run(), message);
    }
}

#[test]
fn errors_beyond_a_limit_are_counted_but_not_listed() {
    let names: Vec<_> = (0..MAX_ERRORS + 50)
        .map(|i| std::format!("/F{i}"))
        .collect();
    let tree: Vec<_> = names.iter().map(|name| (name.as_str(), vec![])).collect();
    let mut image = Image::new(&tree);
    for slot in (image.root..image.clusters).step_by(32) {
        if image.data[slot] == b'F' {
            image.set_size(slot, 1);
        }
    }
    let outcome = image.run();
    assert_eq!(outcome.summary.errors, MAX_ERRORS + 50);
    assert_eq!(outcome.errors().len(), MAX_ERRORS as usize + 1);
    assert!(outcome.errors().pop().unwrap().2.contains("more errors"));
}

#[test]
fn a_directory_that_contains_itself_is_not_entered_again() {
    let mut image = Image::new(&tree());
    let (outer, inner) = (image.entry(b"DIR        "), image.entry(b"INNER      "));
    image.set_first_cluster(inner, image.first_cluster(outer));
    let outcome = image.run();
    let error = (
        Some("/DIR/INNER".to_string()),
        None,
        "the directory contains itself".to_string(),
    );
    assert_eq!(outcome.errors(), [error]);
    assert_eq!(outcome.files().len(), 2);
}

#[test]
fn a_directory_at_an_impossible_place_is_an_error() {
    for first in [0, 1, 0xFFFF] {
        let mut image = Image::new(&tree());
        let inner = image.entry(b"INNER      ");
        image.set_first_cluster(inner, first);
        let outcome = image.run();
        assert_eq!(outcome.errors().len(), 1);
        assert_eq!(outcome.errors()[0].0.as_deref(), Some("/DIR/INNER"));
        assert_eq!(outcome.files().len(), 2);
    }
}

#[test]
fn directories_that_share_contents_end_although_their_tree_is_endless() {
    // Each of 60 directories has many entries that all lead to the next: 2^60 paths and more.
    let mut image = Image::new(&tree());
    let directory = image.entry(b"DIR        ");
    for i in 0..60u16 {
        let cluster = 1000 + i;
        image.link(cluster, 0xFFFF);
        let at = image.cluster(cluster);
        for slot in 0..60 {
            let entry = at + slot * 32;
            let name = std::format!("D{slot:<10}");
            image.data[entry..entry + 11].copy_from_slice(name.as_bytes());
            image.data[entry + 11] = 0x10;
            image.set_first_cluster(entry, cluster + 1);
        }
    }
    image.set_first_cluster(directory, 1000);
    let outcome = image.run();
    assert!(outcome.summary.errors > 0);
    assert!(outcome.errors().len() <= MAX_ERRORS as usize + 1);
    let last = outcome.errors().pop().unwrap();
    assert!(
        last.2.contains("more than the volume holds") || last.2.contains("more errors"),
        "{last:?}"
    );
}

#[test]
fn directories_that_list_nothing_are_not_read_for_ever() {
    // Every entry of the root leads to the same long directory of nothing but deleted slots.
    const CLUSTERS: u16 = 1000;
    const FIRST: u16 = 2000;
    // The second time the chain leaves the volume: an error must not be cheaper than an end.
    for end in [0xFFFF, 0] {
        let mut image = Image::new(&[]);
        for cluster in FIRST..FIRST + CLUSTERS {
            image.link(cluster, cluster + 1);
            let at = image.cluster(cluster);
            image.data[at..at + 2048].fill(0xE5);
        }
        image.link(FIRST + CLUSTERS - 1, end);
        let slots = (image.root + 32..image.clusters).step_by(32);
        for (i, entry) in slots.take(500).enumerate() {
            let name = std::format!("D{i:<10}");
            image.data[entry..entry + 11].copy_from_slice(name.as_bytes());
            image.data[entry + 11] = 0x10;
            image.set_first_cluster(entry, FIRST);
        }
        let bytes = image.data.len() as u64;
        let mut stick = RamStick::new(512, image.data);
        let outcome = run(&mut stick);
        let last = outcome.errors().pop().unwrap();
        assert!(last.2.contains("more than the volume holds"), "{last:?}");
        // Two walks, and a directory that was begun is read to its end.
        let read: u64 = stick.reads.iter().map(|(_, blocks)| blocks * 512).sum();
        assert!(read <= 2 * (BUDGET_FACTOR + 1) * bytes, "{read} bytes");
    }
}

#[test]
fn names_that_are_not_utf16_or_hold_separators_are_errors_and_still_read() {
    // Lower case without accents would fit into a short name: the space makes it long.
    for (unit, what) in [
        (0xD800u16, "half a surrogate pair"),
        (u16::from(b'/'), "a separator"),
        (7, "a control"),
    ] {
        let mut image = Image::new(&[("/bad ☠ name.bin", contents(1, 10))]);
        let old = u16::try_from(u32::from('☠')).unwrap().to_le_bytes();
        let at = (image.root..image.clusters)
            .find(|at| image.data[*at..at + 2] == old)
            .unwrap();
        image.data[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        let outcome = image.run();
        let path = "/bad \u{FFFD} name.bin".to_string();
        assert_eq!(
            outcome.files(),
            [(path.clone(), 10, sha256(&contents(1, 10)))],
            "{what}"
        );
        let text = "the name contains what cannot be in a name".to_string();
        assert_eq!(outcome.errors(), [(Some(path), None, text)], "{what}");
    }
}

#[test]
fn characters_outside_the_basic_plane_are_names() {
    let mut image = Image::new(&[("/smile ☠☠.bin", contents(1, 10))]);
    let old: Vec<u8> = "☠☠".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let new: Vec<u8> = "\u{1F600}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let at = (image.root..image.clusters)
        .find(|at| image.data[*at..at + 4] == old)
        .unwrap();
    image.data[at..at + 4].copy_from_slice(&new);
    let outcome = image.run();
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files()[0].0, "/smile \u{1F600}.bin");
}

#[test]
fn a_long_name_with_a_wrong_checksum_gives_way_to_the_short_one() {
    let mut image = Image::new(&[("/a long name.bin", contents(1, 10))]);
    let entry = image.entry(b"ALONGN~1BIN");
    image.data[entry - 32 + 13] ^= 1;
    let outcome = image.run();
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files()[0].0, "/ALONGN~1.BIN");
}

#[test]
fn a_medium_error_names_the_block_and_the_rest_is_read() {
    let image = Image::new(&tree());
    let first = image.first_cluster(image.entry(BAD));
    let bad = (image.cluster(first + 5) / 512) as u64 + 2;
    let mut stick = RamStick::new(512, image.data);
    stick.bad.insert(bad);
    let outcome = run(&mut stick);
    assert_only_bad_is_lost(&outcome, "medium error");
    assert_eq!(outcome.errors()[0].1, Some(bad));
}

#[test]
fn a_medium_error_in_an_unused_block_next_to_metadata_costs_nothing() {
    let image = Image::new(&tree());
    let root_block = (image.root / 512) as u64;
    let mut stick = RamStick::new(512, image.data);
    // In the same cache line as the used part of the root directory.
    stick.bad.insert(root_block + 3);
    let outcome = run(&mut stick);
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files(), expected(&tree()));
}

#[test]
fn a_truncated_image_is_an_error_with_the_volume_named() {
    let mut volume = Image::new(&tree()).data;
    volume.truncate(8 << 20);
    // As a superfloppy, and in a partition that says more than there is.
    let mut image = with_mbr(512, 2048, &fat_volume(FAT16, &tree()));
    image.truncate(8 << 20);
    for image in [volume, image] {
        let outcome = run(&mut RamStick::new(512, image));
        assert_eq!(outcome.volumes()[0].0, "unknown");
        let last = outcome.errors().pop().unwrap();
        assert!(last.2.contains("larger than the area"), "{last:?}");
    }
}

#[test]
fn a_damaged_boot_sector_is_an_error_with_the_volume_named() {
    let mut image = Image::new(&tree());
    image.data[16] = 9; // Number of FATs.
    let outcome = image.run();
    assert_eq!(outcome.volumes()[0].0, "unknown");
    let error = (None, Some(0), "BPB fat_count must be 1 or 2".to_string());
    assert_eq!(outcome.errors(), [error]);
}

#[test]
fn a_file_system_that_only_looks_similar_is_unknown_and_no_error() {
    let mut image = vec![0; 1 << 20];
    // The start of an NTFS boot sector: its sizes of sectors and clusters are where FAT's are.
    image[..16].copy_from_slice(b"\xEB\x52\x90NTFS    \x00\x02\x08\x00\x00");
    image[42] = 4;
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
    let outcome = run(&mut RamStick::new(512, image));
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.volumes()[0].0, "unknown");
}

#[test]
fn a_stick_that_claims_more_than_it_has_gives_errors_and_ends() {
    let mut stick = RamStick::new(512, Image::new(&tree()).data);
    stick.data.truncate(1 << 20);
    stick.claims = Some(1 << 40);
    let outcome = run(&mut stick);
    assert!(matches!(
        outcome.events.last(),
        Some(Event::StickDone { .. })
    ));
}

#[test]
fn a_stick_that_is_unplugged_is_not_asked_again() {
    let total = {
        let mut stick = RamStick::new(512, Image::new(&tree()).data);
        run(&mut stick);
        stick.reads.len()
    };
    for reads in 0..total {
        let mut stick = RamStick::new(512, Image::new(&tree()).data);
        stick.gone_after = Some(reads);
        let outcome = run(&mut stick);
        assert_eq!(outcome.summary.errors, 1, "unplugged after {reads} reads");
        assert!(
            outcome.errors()[0].2.contains("unplugged"),
            "{:?}",
            outcome.errors()
        );
        assert!(
            // Only a label that cannot be read is followed by one more try.
            stick.reads.len() <= reads + 2,
            "{} reads after {reads}",
            stick.reads.len()
        );
        assert!(matches!(
            outcome.events.last(),
            Some(Event::StickDone { error: Some(_), .. })
        ));
    }
}

#[test]
fn impossible_block_sizes_and_capacities_are_errors() {
    for (block_size, claims) in [(0, 10), (300, 10), (8192, 10), (512, u64::MAX)] {
        let mut stick = RamStick::new(512, vec![0; 1 << 20]);
        (stick.block_size, stick.claims) = (block_size, Some(claims));
        let outcome = run(&mut stick);
        assert_eq!(outcome.summary.errors, 1);
        assert_eq!(stick.reads, []);
    }
}

#[test]
fn corrupted_images_end_with_an_account_of_what_was_read() {
    // Flips bits where structures are: partition table, boot sector, FATs, directories.
    let tree = [
        ("/A long name for a file.bin", contents(1, 30_000)),
        ("/DIR/SUB/FILE.BIN", contents(2, 3000)),
        ("/DIR/Second long name.txt", contents(3, 500)),
        ("/Z", contents(4, 5000)),
    ];
    let formats = [
        Format {
            fat: FatType::Fat12,
            sector: 512,
            cluster: 512,
            bytes: 1 << 20,
        },
        Format {
            fat: FatType::Fat16,
            sector: 512,
            cluster: 512,
            bytes: 4 << 20,
        },
        Format {
            fat: FatType::Fat32,
            sector: 512,
            cluster: 512,
            bytes: 34 << 20,
        },
    ];
    let good = expected(&tree);
    let mut damaged = 0;
    for (n, format) in formats.into_iter().enumerate() {
        let mut stick = RamStick::new(512, with_mbr(512, 8, &fat_volume(format, &tree)));
        let used: Vec<usize> = (0..stick.data.len().min(700 * 1024))
            .filter(|at| stick.data[*at] != 0)
            .collect();
        for seed in 0..167 {
            let mut random = Random(1 + seed + 1000 * n as u64);
            let mut undo = vec![];
            for _ in 0..1 + random.below(8) {
                // Half of the flips hit the first sectors, where most of the meaning is.
                let at = match random.below(3) {
                    0 => random.below(512) as usize,
                    1 => 8 * 512 + random.below(1024) as usize,
                    _ => used[random.below(used.len() as u64) as usize],
                };
                undo.push((at, stick.data[at]));
                stick.data[at] ^= 1 << random.below(8);
            }
            stick.reads.clear();
            let outcome = run(&mut stick);
            assert!(
                matches!(outcome.events.last(), Some(Event::StickDone { .. })),
                "seed {seed}"
            );
            assert!(
                stick.reads.len() < 20_000,
                "seed {seed}: {} reads",
                stick.reads.len()
            );
            let lost = good.iter().any(|file| !outcome.files().contains(file));
            damaged += u32::from(lost || outcome.summary.errors > 0);
            for (at, byte) in undo.into_iter().rev() {
                stick.data[at] = byte;
            }
        }
        stick.reads.clear();
        assert_eq!(run(&mut stick).files(), good, "the image is itself again");
    }
    // The damage does hit: otherwise this test would show nothing.
    assert!(damaged > 100, "{damaged}");
}
