//! Sticks as other programs make them, of every kind that a user may bring: the job reads each file with the digest that it
//! has on the host, writes its own, and leaves the rest alone. In QEMU, in Dolphin through IOS, and again on this machine.

mod common;

use common::native::{self, CHECK, Files, digest, fsck};
use common::sticks::{events, files_of, image, read_files, tools};
use dolphin_tests::{Emulator, Outcome, Run, StickImage, Table, noise};
use std::path::Path;
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};
use wiistick::job::Task;
use wiistick::report::{ControllerKind, Event, VolumeKind};

/// Files of every kind, with names of every kind.
fn tree(stick: StickImage) -> StickImage {
    let deep = (1..=20)
        .map(|level| format!("level {level}/"))
        .collect::<String>();
    stick
        .file("EMPTY.BIN", Vec::new())
        .file("ONE", noise("one", 1))
        .file(
            "Ein längerer Name, mit Umlauten & Leerzeichen.txt",
            noise("u", 4_321),
        )
        .file("日本語/ファイル.bin", noise("jp", 20_000))
        // Not beyond what mtools can write: characters of one UTF-16 unit.
        .file("Ωmega ☺/Γειά σου, мир.bin", noise("omega", 5_000))
        .file(&format!("{deep}bottom"), noise("bottom", 700))
        .file("data.bin", noise("data", 150_001))
}

/// Everything that must be so after a run that may write, on either way to the stick.
fn check(stick: &StickImage, image: &NamedTempFile, expected: &Files, kind: VolumeKind) {
    assert_eq!(fsck(image.path(), stick.first_block()), None, "before");
    for (emulator, controller) in [
        (Emulator::Dolphin, ControllerKind::IosVen),
        (Emulator::Qemu, ControllerKind::Ehci),
    ] {
        let image = native::copy(image.path());
        let outcome = check_outcome(emulator, &image, expected);
        let events = events(&outcome);
        let volume = events.iter().find_map(|event| match event {
            Event::Volume {
                kind, first_block, ..
            } => Some((*kind, *first_block)),
            _ => None,
        });
        assert_eq!(volume, Some((kind, stick.first_block())), "{outcome}");
        assert!(
            events.iter().any(
                |event| matches!(event, Event::Controller { kind, .. } if *kind == controller)
            ),
            "not by {controller:?}\n{outcome}"
        );
        check_written(stick, &image, &outcome, expected.clone());
    }
}

fn check_outcome(emulator: Emulator, image: &NamedTempFile, expected: &Files) -> Outcome {
    let tools = tools();
    let run = Run::new(emulator, tools.program("boot").unwrap()).stick(image.path());
    let run = match emulator {
        Emulator::Qemu => run.audit_dma().time_limit(Duration::from_secs(60)),
        // Under the cache model the guest's seconds are long ones.
        Emulator::Dolphin => run.time_limit(Duration::from_secs(240)),
    };
    let outcome = run
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(&read_files(&outcome), expected, "{outcome}");
    common::sticks::nothing_is_left(&outcome);
    outcome
}

/// The job's own file is what it says, in the eyes of others as well, and the rest is as it was.
fn check_written(stick: &StickImage, image: &NamedTempFile, outcome: &Outcome, mut all: Files) {
    let written = events(outcome).into_iter().find_map(|event| match event {
        Event::Written {
            path,
            bytes,
            sha256,
            verified: true,
            ..
        } if path == "/WIISTICK/CHECK.BIN" => Some((bytes, sha256.to_string())),
        _ => None,
    });
    let written = written.unwrap_or_else(|| panic!("nothing was written\n{outcome}"));

    // What other programs see afterwards.
    assert_eq!(fsck(image.path(), stick.first_block()), None, "after");
    let mut mtype = stick.mtools("mtype", image.path());
    let contents = mtype.arg("::/WIISTICK/CHECK.BIN").output().unwrap().stdout;
    assert_eq!((contents.len() as u64, digest(&contents)), written);
    let said = native::run(image.path(), Task::Read);
    assert_eq!(said.errors(), Vec::<String>::new());
    all.insert("/WIISTICK/CHECK.BIN".into(), written);
    assert_eq!(said.files(), all);
}

fn kind(fat_bits: u8) -> VolumeKind {
    match fat_bits {
        12 => VolumeKind::Fat12,
        16 => VolumeKind::Fat16,
        _ => VolumeKind::Fat32,
    }
}

fn check_tree(fat_bits: u8, mib: u64, blocks_per_cluster: u8, table: Table) {
    let stick = tree(StickImage::new(fat_bits, mib))
        .blocks_per_cluster(blocks_per_cluster)
        .table(table);
    check(&stick, &image(&stick), &files_of(&stick), kind(fat_bits));
}

#[test]
fn fat12_without_a_table_in_clusters_of_1_kib() {
    check_tree(12, 3, 2, Table::None);
}

#[test]
fn fat12_in_an_mbr_in_clusters_of_4_kib() {
    check_tree(12, 10, 8, Table::Mbr);
}

#[test]
fn fat16_without_a_table_in_clusters_of_2_kib() {
    check_tree(16, 16, 4, Table::None);
}

#[test]
fn fat16_in_a_logical_partition_in_clusters_of_512_bytes() {
    check_tree(16, 12, 1, Table::Logical);
}

#[test]
fn fat16_in_a_gpt_in_clusters_of_32_kib() {
    check_tree(16, 160, 64, Table::Gpt);
}

#[test]
fn fat32_without_a_table_in_clusters_of_512_bytes() {
    check_tree(32, 40, 1, Table::None);
}

#[test]
fn fat32_in_an_mbr_in_clusters_of_4_kib() {
    check_tree(32, 300, 8, Table::Mbr);
}

#[test]
fn fat32_in_a_gpt_in_clusters_of_1_kib() {
    check_tree(32, 80, 2, Table::Gpt);
}

#[test]
fn fat32_in_a_logical_partition_in_clusters_of_512_bytes() {
    check_tree(32, 48, 1, Table::Logical);
}

#[test]
fn two_thousand_files_in_one_directory() {
    let stick = StickImage::new(32, 40);
    let image = image(&stick);
    let folder = TempDir::new().unwrap();
    let mut expected = Files::new();
    let mut mcopy = stick.mtools("mcopy", image.path());
    for i in 0..2000 {
        let name = format!("a file with the number {i:04}");
        let contents = noise(&name, i % 1500);
        let path = folder.path().join(&name);
        std::fs::write(&path, &contents).unwrap();
        mcopy.arg(path);
        expected.insert(
            format!("/many/{name}"),
            (contents.len() as u64, digest(&contents)),
        );
    }
    let mut mmd = stick.mtools("mmd", image.path());
    assert!(mmd.arg("::/many").status().unwrap().success());
    assert!(mcopy.arg("::/many").status().unwrap().success());
    check(&stick, &image, &expected, VolumeKind::Fat32);
}

#[test]
fn fragmented_files() {
    let stick = StickImage::new(16, 12).blocks_per_cluster(1);
    let image = image(&stick);
    let copy = |path: &str, contents: &[u8]| {
        let source = NamedTempFile::new().unwrap();
        std::fs::write(source.path(), contents).unwrap();
        let mut mcopy = stick.mtools("mcopy", image.path());
        mcopy.arg(source.path()).arg(format!("::/{path}"));
        assert!(mcopy.status().unwrap().success());
    };
    // Holes of two clusters, into which the next file goes.
    for i in 0..60 {
        copy(&format!("F{i}"), &noise("f", 1024));
    }
    for i in (0..60).step_by(2) {
        let mut mdel = stick.mtools("mdel", image.path());
        assert!(mdel.arg(format!("::/F{i}")).status().unwrap().success());
    }
    let contents = noise("fragmented", 100_000);
    copy("BIG", &contents);
    let mut mshowfat = stick.mtools("mshowfat", image.path());
    let runs = mshowfat.arg("::/BIG").output().unwrap().stdout;
    let runs = runs.iter().filter(|&&byte| byte == b'<').count();
    assert!(runs >= 20, "only {runs} fragments");
    let mut expected: Files = (1..60)
        .step_by(2)
        .map(|i| (format!("/F{i}"), (1024, digest(&noise("f", 1024)))))
        .collect();
    expected.insert("/BIG".into(), (100_000, digest(&contents)));
    check(&stick, &image, &expected, VolumeKind::Fat16);
}

/// On this machine only: an emulated processor takes long to hash so much. Set `WIISTICK_LONG` for QEMU as well.
#[test]
fn a_file_of_256_mib() {
    let stick = StickImage::new(32, 300).blocks_per_cluster(8);
    let image = image(&stick);
    // Each mebibyte is another.
    let mut contents = noise("large", 1 << 20).repeat(256);
    for (i, mebibyte) in contents.chunks_exact_mut(1 << 20).enumerate() {
        mebibyte[0] = i as u8;
    }
    let source = NamedTempFile::new().unwrap();
    std::fs::write(source.path(), &contents).unwrap();
    let mut mcopy = stick.mtools("mcopy", image.path());
    let copied = mcopy.arg(source.path()).arg("::/LARGE.BIN").status();
    assert!(copied.unwrap().success());
    let expected = Files::from([("/LARGE.BIN".into(), (256 << 20, digest(&contents)))]);
    let said = native::run(image.path(), Task::Check(CHECK));
    assert_eq!(said.errors(), Vec::<String>::new());
    assert_eq!(said.files(), expected);
    assert!(said.written().is_some());
    assert_eq!(fsck(image.path(), stick.first_block()), None);
    println!("{} commands", said.commands());
    if std::env::var_os("WIISTICK_LONG").is_some() {
        check_large(&stick, image.path(), &expected);
    }
}

fn check_large(stick: &StickImage, image: &Path, expected: &Files) {
    let tools = tools();
    let outcome = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .stick(image)
        .time_limit(Duration::from_secs(900))
        .success(&tools)
        .unwrap_or_else(|failure| panic!("{failure}"));
    let mut files = read_files(&outcome);
    files.remove("/WIISTICK/CHECK.BIN");
    assert_eq!(&files, expected, "{outcome}");
    assert_eq!(fsck(image, stick.first_block()), None);
    common::sticks::nothing_is_left(&outcome);
}

/// What the budgets of the design allow, counted: of a stick with a file against one without.
#[test]
fn contiguous_files_cost_few_commands() {
    for (fat_bits, mib, blocks_per_cluster) in [(16, 100, 4), (32, 100, 1), (32, 300, 8)] {
        let stick = StickImage::new(fat_bits, mib).blocks_per_cluster(blocks_per_cluster);
        let empty = native::run(image(&stick).path(), Task::Read).commands();
        let cost = |bytes: usize| {
            let stick = stick.clone().file("FILE.BIN", vec![0xA5; bytes]);
            native::run(image(&stick).path(), Task::Read).commands() - empty
        };
        let (small, large) = (cost(100_000), cost(64 << 20));
        let writing = native::run(image(&stick).path(), Task::Check(CHECK)).commands() - empty;
        println!("fat{fat_bits}: 100 000 bytes {small}, 64 MiB {large}, written 1 MiB {writing}");
        assert!(small <= 8 && large <= 1100 && writing <= 64);
    }
}
