//! The job in QEMU with sticks of every shape: several at once, several units in one, large blocks, more than 2 TiB,
//! write-protected.

mod common;

use common::native::{self, digest, fsck};
use common::sticks::{errors, events, files_of, image, nothing_is_left, read_files, tools};
use dolphin_tests::{Emulator, Outcome, Run, StickImage, noise};
use serde_json::json;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;
use tempfile::NamedTempFile;
use wiistick::job::Task;
use wiistick::report::Event;

fn run() -> Run {
    Run::new(Emulator::Qemu, tools().program("boot").unwrap())
        .audit_dma()
        .time_limit(Duration::from_secs(60))
}

fn success(run: &Run) -> Outcome {
    let outcome = run
        .success(&tools())
        .unwrap_or_else(|failure| panic!("{failure}"));
    nothing_is_left(&outcome);
    outcome
}

/// Number of files that were written and verified.
fn verified(outcome: &Outcome) -> usize {
    let written = |event: &Event<String>| matches!(event, Event::Written { verified: true, .. });
    events(outcome)
        .iter()
        .filter(|event| written(event))
        .count()
}

fn small(name: &str) -> StickImage {
    StickImage::new(16, 24).file(&format!("{name}.BIN"), noise(name, 200_000))
}

#[test]
fn two_sticks_are_read_and_written_at_once() {
    let (one, two) = (small("one"), small("two"));
    let images = [image(&one), image(&two)];
    let outcome = success(&run().stick(images[0].path()).stick(images[1].path()));
    let mut files = files_of(&one);
    files.extend(files_of(&two));
    assert_eq!(read_files(&outcome), files, "{outcome}");
    assert_eq!(verified(&outcome), 2, "{outcome}");
    // The second began before the first had ended.
    let all = events(&outcome);
    let place = |wanted: &dyn Fn(&Event<String>) -> bool| all.iter().position(wanted).unwrap();
    let second = place(&|event| matches!(event, Event::Stick { stick: 1, .. }));
    let first_done = place(&|event| matches!(event, Event::StickDone { .. }));
    assert!(second < first_done, "{outcome}");
    for image in &images {
        assert_eq!(fsck(image.path(), one.first_block()), None);
    }
}

#[test]
fn a_bad_stick_does_not_stop_the_other() {
    let (bad, good) = (small("bad"), small("good"));
    let images = [image(&bad), image(&good)];
    // A link of the FAT that leads nowhere: behind the MBR gap and the reserved sectors.
    let reserved = {
        let mut boot = [0; 512];
        images[0]
            .as_file()
            .read_exact_at(&mut boot, 2048 * 512)
            .unwrap();
        u64::from(u16::from_le_bytes([boot[14], boot[15]]))
    };
    let link = (2048 + reserved) * 512 + 2 * 20;
    images[0].as_file().write_all_at(&[1, 0], link).unwrap();
    let before = std::fs::read(images[0].path()).unwrap();
    let outcome = run()
        .stick(images[0].path())
        .stick(images[1].path())
        .to_end(&tools())
        .unwrap();
    nothing_is_left(&outcome);
    assert_eq!(outcome.status, Some(1), "{outcome}");
    let errors = errors(&outcome);
    assert!(
        errors.iter().any(|error| error.contains("chain")),
        "{errors:?}"
    );
    assert!(
        errors
            .iter()
            .any(|error| error.contains("nothing was written")),
        "{errors:?}"
    );
    assert!(std::fs::read(images[0].path()).unwrap() == before);
    let file = read_files(&outcome).remove("/good.BIN");
    assert_eq!(file, files_of(&good).remove("/good.BIN"), "{outcome}");
    assert_eq!(verified(&outcome), 1, "{outcome}");
}

#[test]
fn a_write_protected_stick_is_read_and_the_program_says_that_nothing_was_written() {
    let stick = small("protected");
    let outcome = run()
        .read_only_stick(image(&stick).path())
        .to_end(&tools())
        .unwrap();
    nothing_is_left(&outcome);
    assert_eq!(read_files(&outcome), files_of(&stick), "{outcome}");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    let errors = errors(&outcome);
    assert_eq!(
        errors,
        ["the stick is write-protected: nothing was written"]
    );
}

#[test]
fn nothing_is_written_for_reading() {
    let stick = small("untouched");
    let image = image(&stick);
    let before = std::fs::read(image.path()).unwrap();
    let outcome = success(&run().stick(image.path()).argument("read-only"));
    assert_eq!(read_files(&outcome), files_of(&stick), "{outcome}");
    assert!(std::fs::read(image.path()).unwrap() == before);
}

#[test]
fn the_file_goes_again_if_it_is_not_to_stay() {
    let stick = small("removed");
    let image = image(&stick);
    let outcome = success(&run().stick(image.path()).argument("remove"));
    assert_eq!(verified(&outcome), 1, "{outcome}");
    assert_eq!(fsck(image.path(), stick.first_block()), None);
    let said = native::run(image.path(), Task::Read);
    assert_eq!(said.files(), files_of(&stick));
}

#[test]
fn the_capacity_test_takes_two_words_and_overwrites_everything() {
    let stick = small("gone");
    let image = image(&stick);
    let before = std::fs::read(image.path()).unwrap();
    let refused = run().stick(image.path()).argument("capacity=full");
    let outcome = refused.to_end(&tools()).unwrap();
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert!(std::fs::read(image.path()).unwrap() == before);

    let both = run().argument("capacity=full").argument("destroy-contents");
    success(&both.stick(image.path()));
    let after = std::fs::read(image.path()).unwrap();
    let same = |(a, b): (&[u8], &[u8])| a == b;
    let blocks = before.chunks(512).zip(after.chunks(512));
    assert_eq!(blocks.filter(|pair| same(*pair)).count(), 0);
}

/// A stick with two units; the second has blocks of 4096 bytes.
#[test]
fn units_of_one_stick_with_blocks_of_their_own_size_are_read_and_written() {
    let one = small("unit0").without_partition_table();
    let images = [image(&one), NamedTempFile::new().unwrap()];
    images[1].as_file().set_len(48 << 20).unwrap();
    let mkfs = Command::new("/usr/sbin/mkfs.fat")
        .args(["-S", "4096", "-F", "16", "-s", "1", "-n", "LARGE"])
        .arg(images[1].path())
        .output()
        .unwrap();
    assert!(mkfs.status.success(), "{mkfs:?}");
    let mut run = run();
    for (unit, image) in images.iter().enumerate() {
        let size = [512, 4096][unit];
        run = run.qemu_arguments([
            "-blockdev".to_owned(),
            format!(
                "driver=raw,node-name=unit{unit},file.driver=file,file.filename={}",
                image.path().display()
            ),
        ]);
        if unit == 0 {
            run = run.qemu_arguments(["-device", "usb-bot,id=bot,bus=ehci.0"]);
        }
        run = run.qemu_arguments([
            "-device".to_owned(),
            format!(
                "scsi-hd,bus=bot.0,scsi-id=0,lun={unit},drive=unit{unit},logical_block_size={size},physical_block_size={size}"
            ),
        ]);
    }
    let mut machine = run.start(&tools()).unwrap();
    // It does not take being attached from the start.
    let attach =
        json!({ "path": "/machine/peripheral/bot", "property": "attached", "value": true });
    machine.qmp().unwrap().execute("qom-set", attach).unwrap();
    let outcome = machine.to_end().unwrap();
    nothing_is_left(&outcome);
    let sizes: Vec<_> = events(&outcome)
        .into_iter()
        .filter_map(|event| match event {
            Event::Stick {
                lun, block_size, ..
            } => Some((lun, block_size)),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [(0, 512), (1, 4096)], "{outcome}");
    assert_eq!(verified(&outcome), 2, "{outcome}");
    assert_eq!(outcome.status, Some(0), "{outcome}");
    for image in &images {
        assert_eq!(fsck(image.path(), 0), None);
    }
}

/// 3 TiB, with the volume beyond what commands with 32-bit addresses reach.
#[test]
fn a_volume_beyond_2_tib_is_read_and_written() {
    const FIRST: u64 = 5_000_001_536;
    let stick = small("far").without_partition_table();
    let volume = std::fs::read(image(&stick).path()).unwrap();
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(3 << 40).unwrap();
    let last = FIRST + volume.len() as u64 / 512 - 1;
    let sgdisk = Command::new("sgdisk")
        .arg(format!("--new=1:{FIRST}:{last}"))
        .arg("--typecode=1:0700")
        .arg(disk.path())
        .output()
        .unwrap();
    assert!(sgdisk.status.success(), "{sgdisk:?}");
    disk.as_file().write_all_at(&volume, FIRST * 512).unwrap();
    let outcome = success(&run().stick(disk.path()));
    assert_eq!(read_files(&outcome), files_of(&stick), "{outcome}");
    let first = events(&outcome).into_iter().find_map(|event| match event {
        Event::Volume { first_block, .. } => Some(first_block),
        _ => None,
    });
    assert_eq!(first, Some(FIRST), "{outcome}");
    assert_eq!(verified(&outcome), 1, "{outcome}");
    // What was written is there.
    let mut after = vec![0; volume.len()];
    disk.as_file()
        .read_exact_at(&mut after, FIRST * 512)
        .unwrap();
    let copy = NamedTempFile::new().unwrap();
    std::fs::write(copy.path(), &after).unwrap();
    assert_eq!(fsck(copy.path(), 0), None);
    let mut mtype = stick.mtools("mtype", copy.path());
    let contents = mtype.arg("::/WIISTICK/CHECK.BIN").output().unwrap().stdout;
    let written = events(&outcome).into_iter().find_map(|event| match event {
        Event::Written { sha256, .. } => Some(sha256.to_string()),
        _ => None,
    });
    assert_eq!(Some(digest(&contents)), written);
}
