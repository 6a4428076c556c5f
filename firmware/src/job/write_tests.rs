//! The job writes: what was there stays as it was, what is new is what it says, and a power cut at any
//! moment harms nothing.

use super::*;
use crate::testing::*;
use crate::volume::{Fault, Stamp};
use fatfs::FatType;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const CHECK: Check = Check {
    bytes: CHECK_BYTES,
    seed: 42,
    keep: true,
    stamp: Stamp::NONE,
};

const FAT12: Format = Format {
    fat: FatType::Fat12,
    sector: 512,
    cluster: 1024,
    bytes: 3 << 20,
};
const FAT16: Format = Format {
    fat: FatType::Fat16,
    sector: 512,
    cluster: 2048,
    bytes: 16 << 20,
};
const FAT32: Format = Format {
    fat: FatType::Fat32,
    sector: 512,
    cluster: 512,
    bytes: 40 << 20,
};

fn tree() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("/A.BIN", contents(1, 50_000)),
        ("/DIR/inner directory/a long name.bin", contents(2, 3000)),
        ("/EMPTY", vec![]),
        ("/Z.BIN", contents(3, 40_000)),
    ]
}

fn pattern(bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    crate::pattern::fill(CHECK.seed, 0, &mut data);
    data
}

fn written(outcome: &Outcome) -> Vec<(String, u64, String, bool)> {
    let events = outcome.events.iter();
    events
        .filter_map(|event| match event {
            Event::Written {
                path,
                bytes,
                sha256,
                verified,
                ..
            } => Some((path.clone(), *bytes, sha256.to_string(), *verified)),
            _ => None,
        })
        .collect()
}

/// All files of a volume, as another implementation reads them.
fn files(volume: &[u8]) -> BTreeMap<String, Vec<u8>> {
    fn walk(
        directory: fatfs::Dir<'_, Cursor<Vec<u8>>>,
        path: &str,
        files: &mut BTreeMap<String, Vec<u8>>,
    ) {
        for entry in directory.iter() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let path = std::format!("{path}/{name}");
            if entry.is_dir() {
                if name != "." && name != ".." {
                    walk(entry.to_dir(), &path, files);
                }
                continue;
            }
            let mut data = vec![];
            entry.to_file().read_to_end(&mut data).unwrap();
            files.insert(path, data);
        }
    }
    let volume = Cursor::new(volume.to_vec());
    let volume = fatfs::FileSystem::new(volume, fatfs::FsOptions::new()).unwrap();
    let mut found = BTreeMap::new();
    walk(volume.root_dir(), "", &mut found);
    found
}

fn tree_files() -> BTreeMap<String, Vec<u8>> {
    tree()
        .into_iter()
        .map(|(path, data)| (path.to_string(), data))
        .collect()
}

#[test]
fn the_file_is_written_verified_and_kept_and_the_others_are_untouched() {
    for format in [FAT12, FAT16, FAT32] {
        let mut stick = RamStick::new(512, with_mbr(512, 2048, &fat_volume(format, &tree())));
        let outcome = run_writing(&mut stick, CHECK);
        assert_eq!(outcome.errors(), []);
        assert_eq!(outcome.files(), expected(&tree()));
        let data = pattern(1 << 20);
        let file = (
            "/WIISTICK/CHECK.BIN".to_string(),
            1 << 20,
            sha256(&data),
            true,
        );
        assert_eq!(written(&outcome), [file]);
        assert_eq!(outcome.summary.written, 1);
        let mut all = tree_files();
        all.insert("/WIISTICK/CHECK.BIN".into(), data);
        assert_eq!(files(&stick.data[2048 * 512..]), all);
        // The partition table and what is before the volume.
        let before = with_mbr(512, 2048, &fat_volume(format, &tree()));
        assert_eq!(stick.data[..2048 * 512], before[..2048 * 512]);
        assert!(stick.flushes > 0);

        // Once more, over the file that is there now.
        let outcome = run_writing(&mut stick, CHECK);
        assert_eq!(outcome.errors(), []);
        assert_eq!(outcome.files().len(), 5);
        assert_eq!(files(&stick.data[2048 * 512..]), all);
    }
}

#[test]
fn the_file_is_removed_if_it_is_not_to_be_kept() {
    for format in [FAT12, FAT16, FAT32] {
        let image = fat_volume(format, &tree());
        let mut stick = RamStick::new(512, image);
        let check = Check {
            keep: false,
            ..CHECK
        };
        let outcome = run_writing(&mut stick, check);
        assert_eq!(outcome.errors(), []);
        assert_eq!(written(&outcome).len(), 1);
        assert_eq!(files(&stick.data), tree_files());
        // What it took is free again.
        let free = |image: Vec<u8>| {
            let volume =
                fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
            volume.stats().unwrap().free_clusters()
        };
        assert_eq!(free(stick.data), free(fat_volume(format, &tree())));
    }
}

#[test]
fn a_file_of_1_mib_costs_at_most_64_commands() {
    for format in [
        FAT16,
        FAT32,
        Format {
            cluster: 4096,
            bytes: 300 << 20,
            ..FAT32
        },
    ] {
        let image = fat_volume(format, &tree());
        let mut stick = RamStick::new(512, image.clone());
        run(&mut stick);
        let reading = stick.counters().commands;
        let mut stick = RamStick::new(512, image);
        let outcome = run_writing(&mut stick, CHECK);
        assert_eq!(outcome.errors(), []);
        let writing = stick.counters().commands - reading;
        std::println!("{writing} commands, {} of them flushes", stick.flushes);
        assert!(writing <= 64, "{writing}");
    }
}

#[test]
fn nothing_is_written_for_reading() {
    let mut stick = RamStick::new(512, fat_volume(FAT16, &tree()));
    run(&mut stick);
    assert_eq!(stick.writes, []);
    assert_eq!(stick.flushes, 0);
}

#[test]
fn a_write_protected_stick_is_an_error_that_says_so() {
    for says_so in [true, false] {
        let image = fat_volume(FAT16, &tree());
        let mut stick = RamStick::new(512, image.clone());
        stick.protected = Some(says_so);
        let outcome = run_writing(&mut stick, CHECK);
        assert_eq!(outcome.files(), expected(&tree()));
        assert_eq!(outcome.errors().len(), 1, "{:?}", outcome.errors());
        assert!(outcome.errors()[0].2.contains("write-protected"));
        assert!(stick.data == image);
        assert_eq!(stick.writes.is_empty(), says_so);
    }
}

#[test]
fn a_full_volume_is_an_error_and_stays_clean() {
    let file = contents(1, FAT16.bytes - 400 * 1024);
    for left in [0, 1, 2, 3] {
        // Fill it up to some clusters.
        let mut image = fat_volume(FAT16, &[("/BIG", file.clone())]);
        {
            let mut cursor = Cursor::new(&mut image[..]);
            let volume = fatfs::FileSystem::new(&mut cursor, fatfs::FsOptions::new()).unwrap();
            let free = volume.stats().unwrap().free_clusters() as usize;
            let mut fill = volume.root_dir().create_file("FILL").unwrap();
            std::io::Write::write_all(&mut fill, &vec![1; (free - left) * 2048]).unwrap();
        }
        let mut stick = RamStick::new(512, image.clone());
        let outcome = run_writing(&mut stick, CHECK);
        match left {
            // One for the directory, the others for the file.
            2.. => {
                assert_eq!(outcome.errors(), []);
                assert_eq!(written(&outcome)[0].1, (left as u64 - 1) * 2048);
            }
            _ => {
                assert_eq!(outcome.errors().len(), 1, "{left}");
                assert!(outcome.errors()[0].2.contains("no room"));
            }
        }
        let mut after = files(&stick.data);
        after.remove("/WIISTICK/CHECK.BIN");
        assert_eq!(after, files(&image));
        assert_eq!(damage(&mut stick), Vec::<String>::new());
    }
}

#[test]
fn a_fragmented_volume_takes_the_file_in_pieces() {
    // Every other cluster is free, and there is no place for it in one piece.
    let mut image = Cursor::new(fat_volume(FAT16, &[]));
    {
        let volume = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new()).unwrap();
        let root = volume.root_dir();
        for directory in 0..20 {
            let directory = root.create_dir(&std::format!("D{directory}")).unwrap();
            for file in 0..280 {
                let mut file = directory.create_file(&std::format!("F{file}")).unwrap();
                let _ = std::io::Write::write_all(&mut file, &[7; 2048]);
            }
        }
        for directory in 0..20 {
            for file in (0..280).step_by(2) {
                root.remove(&std::format!("D{directory}/F{file}")).unwrap();
            }
        }
    }
    let image = image.into_inner();
    let mut stick = RamStick::new(512, image.clone());
    let outcome = run_writing(&mut stick, CHECK);
    assert_eq!(outcome.errors(), []);
    let mut after = files(&stick.data);
    assert_eq!(after.remove("/WIISTICK/CHECK.BIN"), Some(pattern(1 << 20)));
    assert_eq!(after, files(&image));
    assert_eq!(damage(&mut stick), Vec::<String>::new());
}

#[test]
fn blocks_of_4096_bytes_with_sectors_of_512_are_written() {
    let mut stick = RamStick::new(4096, fat_volume(FAT32, &tree()));
    let outcome = run_writing(&mut stick, CHECK);
    assert_eq!(outcome.errors(), []);
    let mut all = tree_files();
    all.insert("/WIISTICK/CHECK.BIN".into(), pattern(1 << 20));
    assert_eq!(files(&stick.data), all);
    assert_eq!(damage(&mut stick), Vec::<String>::new());
}

#[test]
fn a_stick_that_does_not_keep_what_is_written_is_found_out() {
    let mut stick = RamStick::new(512, fat_volume(FAT32, &tree()));
    stick.forgets = true;
    let outcome = run_writing(&mut stick, CHECK);
    assert!(outcome.errors()[0].2.contains("do not trust the stick"));
    assert!(!written(&outcome)[0].3);

    // Half of the volume's blocks are bad: the metadata is before them.
    let mut stick = RamStick::new(512, fat_volume(FAT16, &tree()));
    stick.spoils_from = Some(2048);
    let outcome = run_writing(&mut stick, CHECK);
    let (path, _, message) = &outcome.errors()[0];
    assert_eq!(path.as_deref(), Some("/WIISTICK/CHECK.BIN"));
    assert!(message.contains("does not read back"), "{message}");
    assert!(!written(&outcome)[0].3);
    assert_eq!(outcome.summary.written, 0);
}

#[test]
fn what_another_has_put_under_the_name_is_not_overwritten() {
    for (path, message) in [
        ("/WIISTICK", "a file is where a directory should be"),
        ("/WIISTICK/CHECK.BIN/FILE", "the directory is not empty"),
    ] {
        let tree = [(path, contents(5, 5000))];
        let image = fat_volume(FAT16, &tree);
        let mut stick = RamStick::new(512, image.clone());
        let outcome = run_writing(&mut stick, CHECK);
        assert_eq!(outcome.errors().len(), 1, "{:?}", outcome.errors());
        assert_eq!(outcome.errors()[0].2, message);
        assert_eq!(files(&stick.data), files(&image));
        assert_eq!(damage(&mut stick), Vec::<String>::new());
    }
}

#[test]
fn a_volume_with_damage_is_not_written_to() {
    type Spoil = fn(&mut Vec<u8>);
    let spoils: [(&str, Spoil); 4] = [
        ("a file that is too long", |image| {
            let at = entry(image, b"A       BIN");
            image[at + 28..at + 32].copy_from_slice(&u32::MAX.to_le_bytes());
        }),
        ("copies of the FAT that differ", |image| {
            // Both the start of the first copy: behind the reserved sectors.
            let reserved = usize::from(u16::from_le_bytes([image[14], image[15]]));
            image[reserved * 512 + 100] ^= 0xFF;
        }),
        ("two files with the same contents", |image| {
            let (a, z) = (entry(image, b"A       BIN"), entry(image, b"Z       BIN"));
            let first = [image[a + 26], image[a + 27]];
            image[z + 26..z + 28].copy_from_slice(&first);
        }),
        ("a file that is shorter than its chain", |image| {
            let at = entry(image, b"A       BIN");
            image[at + 28..at + 32].copy_from_slice(&100_u32.to_le_bytes());
        }),
    ];
    for (what, spoil) in spoils {
        let mut image = fat_volume(FAT16, &tree());
        spoil(&mut image);
        let mut stick = RamStick::new(512, image.clone());
        let outcome = run_writing(&mut stick, CHECK);
        assert!(!outcome.errors().is_empty(), "{what}");
        let last = outcome.errors().pop().unwrap().2;
        assert!(last.contains("nothing was written"), "{what}: {last}");
        assert!(stick.data == image, "{what}");
        assert_eq!(stick.writes, [], "{what}");
    }
}

/// Byte offset of a short entry.
fn entry(image: &[u8], name: &[u8; 11]) -> usize {
    let mut slots = (0..image.len()).step_by(32);
    slots.find(|at| &image[*at..at + 11] == name).unwrap()
}

#[test]
fn other_volumes_are_written_to_when_one_is_damaged() {
    let good = fat_volume(FAT12, &tree());
    let mut bad = good.clone();
    let at = entry(&bad, b"A       BIN");
    bad[at + 28..at + 32].copy_from_slice(&u32::MAX.to_le_bytes());
    let blocks = good.len() as u32 / 512;
    let mut image = vec![0; 512];
    write_table(
        &mut image,
        &[mbr_entry(1, 1, blocks), mbr_entry(1, 1 + blocks, blocks)],
    );
    image.extend_from_slice(&bad);
    image.extend_from_slice(&good);
    let mut stick = RamStick::new(512, image);
    let outcome = run_writing(&mut stick, CHECK);
    assert_eq!(written(&outcome).len(), 1);
    assert!(stick.data[512..512 + bad.len()] == bad);
    let after = files(&stick.data[512 + bad.len()..]);
    assert!(after.contains_key("/WIISTICK/CHECK.BIN"));
}

#[test]
fn partitions_that_overlap_are_not_written_to() {
    let volume = fat_volume(FAT12, &tree());
    let blocks = volume.len() as u32 / 512;
    let mut image = with_mbr(512, 1, &volume);
    write_table(
        &mut image,
        &[
            mbr_entry(1, 1, blocks),
            mbr_entry(0x83, blocks - 5, 3),
            [0; 16],
            [0; 16],
        ],
    );
    let mut stick = RamStick::new(512, image.clone());
    let outcome = run_writing(&mut stick, CHECK);
    assert!(outcome.errors()[0].2.contains("another partition"));
    assert!(stick.data == image);
}

#[test]
fn a_stick_without_a_volume_to_write_to_is_an_error() {
    let mut stick = RamStick::new(512, vec![0xA5; 1 << 20]);
    let outcome = run_writing(&mut stick, CHECK);
    assert!(outcome.errors()[0].2.contains("no FAT volume"));
    assert_eq!(stick.writes, []);
}

/// What the file system checker finds besides marks that only say that writing was interrupted.
fn damage(stick: &mut RamStick) -> Vec<String> {
    let mut cache = vec![0; 16 * crate::disk::LINE];
    let disk = Disk::new(&mut *stick, &mut cache).unwrap();
    embassy_futures::block_on(async {
        let area = partition::Area {
            first: 0,
            blocks: disk.blocks(),
        };
        let Volume::Fat(mut fat) = Volume::mount(&disk, area).await.unwrap().unwrap();
        let mut found = vec![];
        fat.check(&disk, &mut vec![0; 64 * 1024], &mut |fault, path, what| {
            if fault == Fault::Damage {
                found.push(std::format!("{path:?}: {what}"));
            }
        })
        .await
        .unwrap();
        found
    })
}

/// Power fails after every single block that is written. Whatever was there before is intact, no
/// structure is damaged, and the next run works.
#[test]
fn a_power_cut_at_any_moment_harms_nothing() {
    let check = Check {
        bytes: 20_000,
        ..CHECK
    };
    let small = Format {
        cluster: 1024,
        bytes: 6 << 20,
        ..FAT16
    };
    for format in [FAT12, small, FAT32] {
        let image = fat_volume(format, &tree());
        // The first run makes the directory, the second replaces the file.
        let mut stick = RamStick::new(512, image.clone());
        run_writing(&mut stick, check);
        for before in [image, stick.data] {
            let mut stick = RamStick::new(512, before.clone());
            assert_eq!(run_writing(&mut stick, check).errors(), []);
            let total: u64 = stick.writes.iter().map(|(_, blocks)| blocks).sum();
            assert!(total > 40);
            // Images of FAT32 are large.
            let step = if matches!(format.fat, FatType::Fat32) {
                5
            } else {
                1
            };
            for power in (0..total).step_by(step) {
                let mut stick = RamStick::new(512, before.clone());
                stick.power_for = Some(power);
                let outcome = run_writing(&mut stick, check);
                assert!(!outcome.errors().is_empty());
                stick.power_for = None;
                stick.reads.clear();
                // FAT12 has no mark that says that a write was interrupted.
                let mut damage = damage(&mut stick);
                let is_fat12 = matches!(format.fat, FatType::Fat12);
                damage.retain(|what| !is_fat12 || what != "None: FAT copies differ");
                assert_eq!(damage, Vec::<String>::new(), "{power}");
                let mut after = files(&stick.data);
                let file = after.remove("/WIISTICK/CHECK.BIN");
                assert!(file.is_none_or(|data| data == pattern(20_000)), "{power}");
                assert_eq!(after, tree_files(), "{power}");
                if power % 7 == 0 && !is_fat12 {
                    let outcome = run_writing(&mut stick, check);
                    assert_eq!(outcome.errors(), [], "{power}");
                    assert!(written(&outcome)[0].3);
                }
            }
        }
    }
}

#[test]
fn a_root_directory_that_is_another_directory_is_damage() {
    let format = Format {
        fat: FatType::Fat32,
        sector: 512,
        cluster: 512,
        bytes: 34 << 20,
    };
    let tree = [
        ("/DIR/IN.BIN", contents(1, 100)),
        ("/OUT.BIN", contents(2, 100)),
    ];
    let mut data = fat_volume(format, &tree);
    let entry = data.windows(11).position(|name| name == b"DIR        ");
    let cluster = entry.unwrap() + 26;
    let (boot, directories) = data.split_at_mut(cluster);
    boot[44..46].copy_from_slice(&directories[..2]);
    let mut stick = RamStick::new(512, data);
    let outcome = run_writing(&mut stick, CHECK);
    assert_eq!(outcome.files().len(), 1, "what is there is read");
    let errors = outcome.errors();
    assert!(
        errors[0].2.contains("another directory for the root"),
        "{errors:?}"
    );
    assert_eq!(stick.writes, []);
}
