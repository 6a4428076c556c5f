//! Partition tables, right and wrong.

use super::*;
use crate::disk::LINE;
use crate::testing::{RamStick, mbr_entry, write_table};
use std::vec;
use std::vec::Vec;

const MIB: usize = 1 << 20;

fn scan_image(block_size: u32, image: Vec<u8>) -> (Scheme, Vec<(u64, u64)>, Vec<Problem>) {
    scan_stick(&mut RamStick::new(block_size, image))
}

fn scan_stick(stick: &mut RamStick) -> (Scheme, Vec<(u64, u64)>, Vec<Problem>) {
    let mut cache = vec![0; 2 * LINE];
    let disk = Disk::new(stick, &mut cache).unwrap();
    let mut areas = Areas::new();
    let mut problems = vec![];
    let scheme = embassy_futures::block_on(scan(&disk, &mut areas, &mut |problem| {
        problems.push(problem)
    }));
    (
        scheme,
        areas.iter().map(|area| (area.first, area.blocks)).collect(),
        problems,
    )
}

fn mbr_image(entries: &[[u8; 16]]) -> Vec<u8> {
    let mut image = vec![0; MIB];
    write_table(&mut image, entries);
    image
}

#[test]
fn an_empty_stick_is_one_area() {
    assert_eq!(
        scan_image(512, vec![0; MIB]),
        (Scheme::Superfloppy, vec![(0, 2048)], vec![])
    );
    assert_eq!(
        scan_image(4096, vec![0xFF; MIB]),
        (Scheme::Superfloppy, vec![(0, 256)], vec![])
    );
}

#[test]
fn primary_partitions_are_listed_in_their_order() {
    let image = mbr_image(&[
        mbr_entry(0x0C, 1000, 48),
        [0; 16],
        mbr_entry(0x83, 10, 20),
        mbr_entry(6, 1, 9),
    ]);
    let areas = vec![(1000, 48), (10, 20), (1, 9)];
    assert_eq!(scan_image(512, image), (Scheme::Mbr, areas, vec![]));
}

#[test]
fn entries_without_type_or_length_are_not_used() {
    let image = mbr_image(&[
        mbr_entry(0, 1, 10),
        mbr_entry(6, 1, 0),
        mbr_entry(6, 5, 1),
        [0; 16],
    ]);
    assert_eq!(scan_image(512, image).1, [(5, 1)]);
}

#[test]
fn partitions_beyond_the_end_are_left_out_or_cut() {
    let image = mbr_image(&[
        mbr_entry(6, 2048, 1),
        mbr_entry(6, u32::MAX, u32::MAX),
        mbr_entry(6, 2000, 49),
        mbr_entry(6, 2000, 48),
    ]);
    let (_, areas, problems) = scan_image(512, image);
    assert_eq!(areas, [(2000, 48), (2000, 48)]);
    let expected = [
        Problem::Outside { first: 2048 },
        Problem::Outside {
            first: u32::MAX.into(),
        },
        Problem::Cut {
            first: 2000,
            missing: 1,
        },
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_table_with_impossible_status_bytes_is_no_table() {
    let mut entry = mbr_entry(6, 1, 10);
    entry[0] = 0x41;
    assert_eq!(scan_image(512, mbr_image(&[entry])).0, Scheme::Superfloppy);
}

#[test]
fn logical_partitions_are_found_along_their_chain() {
    for block_size in [512, 4096] {
        let mut image = vec![0; 2048 * block_size as usize];
        write_table(
            &mut image,
            &[
                mbr_entry(6, 1, 9),
                mbr_entry(5, 100, 1000),
                mbr_entry(6, 10, 9),
                [0; 16],
            ],
        );
        let at = |block: usize| block * block_size as usize;
        write_table(
            &mut image[at(100)..],
            &[mbr_entry(6, 1, 50), mbr_entry(5, 200, 100)],
        );
        write_table(
            &mut image[at(300)..],
            &[mbr_entry(6, 2, 60), mbr_entry(0x0F, 400, 100)],
        );
        write_table(&mut image[at(500)..], &[mbr_entry(6, 3, 70), [0; 16]]);
        let areas = vec![(1, 9), (10, 9), (101, 50), (302, 60), (503, 70)];
        assert_eq!(scan_image(block_size, image), (Scheme::Mbr, areas, vec![]));
    }
}

#[test]
fn a_loop_of_logical_tables_ends() {
    let mut image = mbr_image(&[mbr_entry(5, 100, 1000)]);
    write_table(
        &mut image[100 * 512..],
        &[mbr_entry(6, 1, 50), mbr_entry(5, 0, 100)],
    );
    let (_, areas, problems) = scan_image(512, image);
    assert_eq!(areas.len(), MAX_AREAS);
    assert_eq!(problems, [Problem::TooMany]);
}

#[test]
fn logical_tables_outside_their_partition_or_without_signature_are_refused() {
    for (next, block) in [
        (1000, 1100),
        (u32::MAX, 100 + u64::from(u32::MAX)),
        (7, 107),
    ] {
        let mut image = mbr_image(&[mbr_entry(5, 100, 1000)]);
        write_table(
            &mut image[100 * 512..],
            &[mbr_entry(6, 1, 50), mbr_entry(5, next, 100)],
        );
        // A table that looks good, but not where it may be.
        write_table(&mut image[1100 * 512..], &[mbr_entry(6, 1, 50)]);
        let (_, areas, problems) = scan_image(512, image);
        assert_eq!(areas, [(101, 50)]);
        assert_eq!(problems, [Problem::BadLogicalTable { block }]);
    }
}

/// Writes a GPT with these partitions (first and last block), and its backup.
fn gpt_image(block_size: usize, partitions: &[(u64, u64)]) -> Vec<u8> {
    let mut image = vec![0; 2048 * block_size];
    write_table(&mut image, &[mbr_entry(0xEE, 1, 2047)]);
    let mut entries = vec![0; 128 * 128];
    for (entry, (first, last)) in entries.chunks_exact_mut(128).zip(partitions) {
        entry[..16].fill(0xAB);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
    }
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    for (own, other, table) in [(1u64, 2047u64, 2u64), (2047, 1, 2000)] {
        let mut header = vec![0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&[0, 0, 1, 0]);
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[72..80].copy_from_slice(&table.to_le_bytes());
        header[80..84].copy_from_slice(&128u32.to_le_bytes());
        header[84..88].copy_from_slice(&128u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc.checksum(&entries).to_le_bytes());
        seal(&mut header);
        let at = own as usize * block_size;
        image[at..at + 92].copy_from_slice(&header);
        let at = table as usize * block_size;
        image[at..at + entries.len()].copy_from_slice(&entries);
    }
    image
}

/// Writes the checksum into a GPT header.
fn seal(header: &mut [u8]) {
    header[16..20].fill(0);
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(header);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_gpt_whose_entries_reach_beyond_the_end_is_damaged() {
    let last = u64::MAX / 512 - 1;
    // The 128 entries take 32 blocks; the last place that holds them begins at 2016.
    for (table, claims) in [
        (2017, None),
        (2048, None),
        (1 << 55, None),
        (u64::MAX, None),
        (last, Some(last + 1)),
    ] {
        let mut image = gpt_image(512, &[(100, 199)]);
        let header = &mut image[512..512 + 92];
        header[72..80].copy_from_slice(&table.to_le_bytes());
        seal(header);
        let mut stick = RamStick::new(512, image);
        stick.claims = claims;
        stick.bad.insert(last);
        let (_, _, problems) = scan_stick(&mut stick);
        let fault = "the entries reach beyond the end of the stick";
        assert_eq!(problems[0], Problem::DamagedGpt { block: 1, fault });
    }
}

#[test]
fn the_partitions_of_a_gpt_are_listed() {
    for block_size in [512, 4096] {
        let image = gpt_image(block_size, &[(100, 199), (300, 300)]);
        let areas = vec![(100, 100), (300, 1)];
        assert_eq!(
            scan_image(block_size as u32, image),
            (Scheme::Gpt, areas, vec![])
        );
    }
}

#[test]
fn the_backup_stands_in_for_a_damaged_gpt() {
    let faults = [
        (0, "no signature"),
        (13, "impossible header size"),
        (16, "wrong checksum of the header"),
        (40, "wrong checksum of the header"),
        (512 + 33, "wrong checksum of the entries"),
    ];
    for (offset, fault) in faults {
        let mut image = gpt_image(512, &[(100, 199)]);
        image[512 + offset] ^= 0x80;
        let problems = vec![Problem::DamagedGpt { block: 1, fault }];
        assert_eq!(
            scan_image(512, image),
            (Scheme::Gpt, vec![(100, 100)], problems),
            "{offset}"
        );
    }
}

#[test]
fn a_gpt_without_a_usable_copy_gives_no_areas() {
    let mut image = gpt_image(512, &[(100, 199)]);
    image[512] = 0;
    image[2047 * 512] = 0;
    let (_, areas, problems) = scan_image(512, image);
    assert_eq!(areas, []);
    assert_eq!(problems.len(), 3);
    assert_eq!(problems[2], Problem::NoUsableGpt);
}

#[test]
fn a_gpt_that_cannot_be_read_is_taken_from_its_backup() {
    let mut stick = RamStick::new(512, gpt_image(512, &[(100, 199)]));
    stick.bad.insert(1);
    let (_, areas, problems) = scan_stick(&mut stick);
    assert_eq!(areas, [(100, 100)]);
    assert!(
        matches!(
            problems[..],
            [Problem::Unreadable(BlockError { block: 1, .. })]
        ),
        "{problems:?}"
    );
}

#[test]
fn impossible_gpt_partitions_are_left_out_or_cut() {
    let image = gpt_image(
        512,
        &[(200, 100), (5000, 6000), (2000, 3000), (0, u64::MAX)],
    );
    let (_, areas, problems) = scan_image(512, image);
    assert_eq!(areas, [(2000, 48)]);
    let expected = [
        Problem::Backwards { first: 200 },
        Problem::Outside { first: 5000 },
        Problem::Cut {
            first: 2000,
            missing: 953,
        },
        Problem::Backwards { first: 0 },
    ];
    assert_eq!(problems, expected);
}

#[test]
fn an_unreadable_first_block_is_a_problem_and_no_panic() {
    let mut stick = RamStick::new(512, vec![0; MIB]);
    stick.bad.insert(0);
    let (_, areas, problems) = scan_stick(&mut stick);
    assert_eq!(areas, []);
    assert!(matches!(
        problems[..],
        [Problem::Unreadable(BlockError { block: 0, .. })]
    ));
}
