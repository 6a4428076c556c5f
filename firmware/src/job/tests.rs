//! The job over whole images: what a stick holds is what is reported, and at what cost.

use super::*;
use crate::testing::*;
use fatfs::FatType;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const FAT12: Format = Format {
    fat: FatType::Fat12,
    sector: 512,
    cluster: 512,
    bytes: 1 << 20,
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

/// Files of every interesting length, long and short names, and depth.
fn sample() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("/README.TXT", contents(1, 1234)),
        ("/EMPTY.BIN", vec![]),
        ("/ONE.BIN", contents(2, 1)),
        (
            "/A long name with spaces and a.few.dots",
            contents(3, 100_000),
        ),
        ("/Größe/日本語/smile ☺.bin", contents(4, 70_000)),
        ("/deep/d/e/e/p/e/r/bottom", contents(5, 65_536)),
        ("/deep/d/other", contents(6, 65_537)),
        ("/nothing in here/", vec![]),
    ]
}

#[test]
fn every_file_of_every_fat_is_reported_with_its_digest() {
    for (format, kind) in [(FAT12, "fat12"), (FAT16, "fat16"), (FAT32, "fat32")] {
        let tree = sample();
        let volume = fat_volume(format, &tree);
        let mut stick = RamStick::new(512, with_mbr(512, 2048, &volume));
        let outcome = run(&mut stick);
        assert_eq!(outcome.errors(), [], "{kind}");
        assert_eq!(outcome.files(), expected(&tree), "{kind}");
        let blocks = volume.len() as u64 / 512;
        assert_eq!(
            outcome.volumes(),
            [(kind, Some("TEST STICK".into()), 2048, blocks)]
        );
        assert_eq!(outcome.summary.files, 7);
    }
}

#[test]
fn a_stick_without_a_partition_table_is_one_volume() {
    let tree = sample();
    let outcome = run(&mut RamStick::new(512, fat_volume(FAT16, &tree)));
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files(), expected(&tree));
    assert_eq!(outcome.volumes()[0].2, 0);
}

#[test]
fn blocks_of_4096_bytes_are_read() {
    let tree = sample();
    let format = Format {
        sector: 4096,
        cluster: 4096,
        bytes: 64 << 20,
        ..FAT16
    };
    let outcome = run(&mut RamStick::new(
        4096,
        with_mbr(4096, 256, &fat_volume(format, &tree)),
    ));
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files(), expected(&tree));
}

#[test]
fn sectors_smaller_than_the_blocks_of_the_stick_are_read() {
    // Clusters then start in the middle of blocks.
    let tree = sample();
    let outcome = run(&mut RamStick::new(4096, fat_volume(FAT32, &tree)));
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files(), expected(&tree));
}

#[test]
fn an_unknown_volume_is_reported_as_unknown_and_is_no_error() {
    let mut image = vec![0xA5; 1 << 20];
    write_table(
        &mut image,
        &[
            mbr_entry(0x83, 1, 100),
            mbr_entry(0, 0, 0),
            [0; 16],
            [0; 16],
        ],
    );
    let outcome = run(&mut RamStick::new(512, image));
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.volumes(), [("unknown", None, 1, 100)]);
}

#[test]
fn an_exfat_volume_is_named_and_left_alone() {
    for area in [0, 100] {
        let mut image = vec![0; 1 << 20];
        let boot = area * 512;
        image[boot + 3..boot + 11].copy_from_slice(b"EXFAT   ");
        image[boot + 510..boot + 512].copy_from_slice(&[0x55, 0xAA]);
        if area != 0 {
            let entry = mbr_entry(0x07, area as u32, 1000);
            write_table(&mut image, &[entry, [0; 16], [0; 16], [0; 16]]);
        }
        let mut stick = RamStick::new(512, image);
        let outcome = run(&mut stick);
        assert_eq!(outcome.errors(), []);
        let [(kind, None, first, _)] = outcome.volumes()[..] else {
            panic!("{:?}", outcome.volumes());
        };
        assert_eq!((kind, first), ("exfat", area as u64));
    }
}

#[test]
fn a_contiguous_file_of_100_000_bytes_costs_at_most_8_commands() {
    for format in [FAT16, FAT32] {
        let empty = commands(format, &[]);
        let with_file = commands(format, &[("/FILE.BIN", contents(1, 100_000))]);
        assert!(with_file - empty <= 8, "{with_file} - {empty}");
    }
}

#[test]
fn a_contiguous_file_of_64_mib_costs_at_most_1100_commands() {
    for (fat, cluster) in [(FatType::Fat16, 4096), (FatType::Fat32, 512)] {
        let format = Format {
            fat,
            sector: 512,
            cluster,
            bytes: 80 << 20,
        };
        let total = commands(format, &[("/FILE.BIN", contents(1, 64 << 20))]);
        // Half of that suffices: commands of 128 KiB.
        assert!((512..=1100).contains(&total), "{total}");
    }
}

/// Number of read commands for a stick with these files.
fn commands(format: Format, tree: &Tree<'_>) -> usize {
    let mut stick = RamStick::new(512, with_mbr(512, 2048, &fat_volume(format, tree)));
    let outcome = run(&mut stick);
    assert_eq!(outcome.files(), expected(tree));
    stick.reads.len()
}

#[test]
fn small_files_in_one_directory_share_commands() {
    let names: Vec<String> = (0..300)
        .map(|i| std::format!("/many/file number {i:04}.dat"))
        .collect();
    let tree: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| (name.as_str(), contents(i as u64, i % 700)))
        .collect();
    let mut stick = RamStick::new(512, fat_volume(FAT32, &tree));
    let outcome = run(&mut stick);
    assert_eq!(outcome.files(), expected(&tree));
    assert!(stick.reads.len() < 40, "{}", stick.reads.len());
}

#[test]
fn twenty_levels_of_directories_with_the_longest_names_are_walked() {
    let name = "x".repeat(251) + "ä";
    let path = std::format!("/{}/file", std::vec![name; 20].join("/"));
    let tree = [(path.as_str(), contents(1, 10))];
    let outcome = run(&mut RamStick::new(512, fat_volume(FAT32, &tree)));
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files(), expected(&tree));
}

#[test]
fn fragmented_files_are_read_in_the_order_of_their_chain() {
    use std::io::{Cursor, Write};
    let mut image = Cursor::new(fat_volume(FAT16, &[]));
    let (a, b) = (contents(1, 300_000), contents(2, 300_000));
    {
        let volume = fatfs::FileSystem::new(&mut image, fatfs::FsOptions::new()).unwrap();
        let mut file_a = volume.root_dir().create_file("A.BIN").unwrap();
        let mut file_b = volume.root_dir().create_file("B.BIN").unwrap();
        for (piece_a, piece_b) in a.chunks(5000).zip(b.chunks(5000)) {
            file_a.write_all(piece_a).unwrap();
            file_b.write_all(piece_b).unwrap();
        }
    }
    let outcome = run(&mut RamStick::new(512, image.into_inner()));
    assert_eq!(outcome.files(), expected(&[("/A.BIN", a), ("/B.BIN", b)]));
}

#[test]
fn progress_reaches_100_percent_and_never_runs_backwards() {
    let outcome = run(&mut RamStick::new(512, fat_volume(FAT16, &sample())));
    let percents: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Progress { percent, .. } => Some(*percent),
            _ => None,
        })
        .collect();
    assert!(percents.is_sorted());
    assert_eq!(percents.last(), Some(&100));
    // The test's clock moves 100 ms per look at it: not every read may report.
    assert!(percents.len() < 8, "{percents:?}");
}

#[test]
fn records_come_in_the_documented_order() {
    let outcome = run(&mut RamStick::new(
        512,
        fat_volume(FAT16, &[("/A", vec![1])]),
    ));
    let kinds: Vec<_> = outcome
        .events
        .iter()
        .map(|event| {
            serde_json::to_value(event)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .to_string()
        })
        .filter(|kind| kind != "Progress")
        .collect();
    assert_eq!(kinds, ["Stick", "Volume", "File", "StickDone"]);
}

#[test]
fn a_job_fits_on_the_stack_of_the_target() {
    let mut sink = Memory::default();
    let (mut buffer, mut cache) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut work = std::boxed::Box::new(Workspace::new());
    let mut job = Job {
        sink: &mut sink,
        buffer: &mut buffer,
        cache: &mut cache,
        work: &mut work,
        task: Task::Read,
        clock: || 0,
    };
    let identity = Identity {
        stick: 0,
        port: 0,
        lun: 0,
        vendor_id: 0,
        product_id: 0,
        vendor: "",
        product: "",
    };
    let stick = RamStick::new(512, vec![]);
    let future = core::mem::size_of_val(&job.run(stick, &identity));
    assert!(future < 18 * 1024, "{future} bytes of the 128 KiB");
    assert!(core::mem::size_of::<Workspace>() < 32 * 1024);
}
