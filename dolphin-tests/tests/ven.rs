//! End to end in Dolphin: the same firmware, IOS's `/dev/usb/ven` instead of an EHCI controller, a virtual stick, and Dolphin's
//! model of the data cache as the referee of every buffer.

mod common;

use common::sticks::{bounce, events, files_of, image, read_files, tools, varied};
use dolphin_tests::{Emulator, Outcome, Run, StickFault, StickImage, noise};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::NamedTempFile;
use wiistick::report::{ControllerKind, Event, Ios, VolumeKind};

/// Under the cache model the guest's seconds are long ones, on a busy machine most of all.
const LIMIT: Duration = Duration::from_secs(240);

fn writing() -> Run {
    Run::new(Emulator::Dolphin, tools().program("boot").unwrap()).time_limit(LIMIT)
}

fn run() -> Run {
    writing().argument("read-only")
}

fn success(run: &Run) -> Outcome {
    run.success(&tools())
        .unwrap_or_else(|failure| panic!("{failure}"))
}

fn ios(outcome: &Outcome) -> Ios {
    let counters = events(outcome).into_iter().find_map(|event| match event {
        Event::Ios(counters) => Some(counters),
        _ => None,
    });
    counters.unwrap_or_else(|| panic!("no counters of IOS\n{outcome}"))
}

fn errors(outcome: &Outcome) -> Vec<String> {
    let errors = events(outcome).into_iter().filter_map(|event| match event {
        Event::Error { message, .. } => Some(message),
        _ => None,
    });
    errors.collect()
}

/// Nothing is lost: the pool is empty, IOS has nothing, and never got anything but MEM2.
fn all_is_returned(outcome: &Outcome) {
    let (memory, ios) = (bounce(outcome), ios(outcome));
    assert_eq!((memory.live, memory.quarantined), (0, 0), "{outcome}");
    assert_eq!(
        (ios.outside_mem2, ios.in_flight, ios.strays),
        (0, 0, 0),
        "{outcome}"
    );
    assert!(ios.buffers > ios.requests, "{ios:?}");
}

/// What can be seen from outside of what IOS was given lies in MEM2, at multiples of 32 bytes.
fn ios_was_given_mem2(outcome: &Outcome) {
    let audit = outcome.ios.as_ref().expect("no audit of IOS");
    // Block, message and data of the last transfer at least.
    assert!(audit.given.len() >= 3, "{audit:x?}");
    assert_eq!(audit.outside_mem2, 0, "{audit:x?}");
    assert!(audit.transfers > 100, "{audit:x?}\n{outcome}");
}

/// Every file arrives, through bounce buffers in MEM2 and nothing else.
fn every_file_arrives(stick: &StickImage, kind: VolumeKind) {
    let outcome = success(&run().read_only_stick(image(stick).path()));
    assert_eq!(read_files(&outcome), files_of(stick), "{outcome}");
    assert!(
        events(&outcome).iter().any(|event| matches!(
            event,
            Event::Volume { kind: found, label: Some(label), .. }
                if *found == kind && label == "WIISTICK"
        )),
        "no such volume\n{outcome}"
    );
    all_is_returned(&outcome);
    let total: usize = stick.files().map(|(_, contents)| contents.len()).sum();
    let memory = bounce(&outcome);
    assert!(memory.bounced_bytes as usize >= total, "{memory:?}");
    assert_eq!((memory.direct_bytes, memory.refused), (0, 0));
    assert!(ios(&outcome).bytes as usize >= total);
    ios_was_given_mem2(&outcome);
}

#[test]
fn every_file_of_a_fat32_stick_arrives() {
    every_file_arrives(&varied(32), VolumeKind::Fat32);
}

#[test]
fn every_file_of_a_fat16_stick_arrives() {
    every_file_arrives(&varied(16), VolumeKind::Fat16);
}

/// What is written is verified; afterwards other programs find the file system sound, and every other file as it was.
fn a_check_file_is_written(stick: &StickImage) {
    let image = image(stick);
    let outcome = success(&writing().stick(image.path()));
    assert_eq!(read_files(&outcome), files_of(stick), "{outcome}");
    all_is_returned(&outcome);
    let written = events(&outcome).into_iter().find_map(|event| match event {
        Event::Written {
            path,
            bytes,
            sha256,
            verified: true,
            ..
        } => Some((path, bytes, sha256.to_string())),
        _ => None,
    });
    let (path, bytes, sha256) = written.unwrap_or_else(|| panic!("nothing was written\n{outcome}"));
    let read = |path: &str| {
        let mut mtype = stick.mtools("mtype", image.path());
        mtype.arg(format!("::{path}")).output().unwrap().stdout
    };
    let contents = read(&path);
    let digest: String = Sha256::digest(&contents)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!((contents.len() as u64, digest), (bytes, sha256), "{path}");
    for (path, contents) in stick.files() {
        assert!(read(&format!("/{path}")) == contents, "{path} has changed");
    }
    // The volume by itself: fsck.fat takes no offset.
    let bytes = std::fs::read(image.path()).unwrap();
    let volume = NamedTempFile::new().unwrap();
    std::fs::write(volume.path(), &bytes[512 * stick.first_block() as usize..]).unwrap();
    let fsck = ["/usr/sbin/fsck.fat", "/sbin/fsck.fat"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let mut fsck = Command::new(fsck.unwrap_or("fsck.fat"));
    let verdict = fsck.arg("-n").arg(volume.path()).output().unwrap();
    let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(verdict.status.success(), "{said}");
}

#[test]
fn a_check_file_is_written_to_a_fat32_stick() {
    a_check_file_is_written(&varied(32));
}

#[test]
fn a_check_file_is_written_to_a_fat16_stick() {
    a_check_file_is_written(&small());
}

/// Faults of a stick that is written to: the command is tried again, and nothing is lost on the medium.
#[test]
fn a_fault_while_writing_costs_nothing_but_time() {
    let stick = small();
    for fault in [StickFault::Stall, StickFault::Error] {
        let image = image(&stick);
        // The first transfers read; what is written is a mebibyte, in some 70 transfers.
        let run = [40, 70, 100]
            .iter()
            .fold(writing().stick(image.path()), |run, &transfer| {
                run.stick_fault(0, transfer, fault)
            });
        let outcome = success(&run);
        assert!(outcome.output.contains("virtual stick 0:"), "{outcome}");
        all_is_returned(&outcome);
        let again = success(&run_again(&image));
        let mut files = files_of(&stick);
        let check = read_files(&again).remove("/WIISTICK/CHECK.BIN");
        files.insert("/WIISTICK/CHECK.BIN".into(), check.expect("the check file"));
        assert_eq!(read_files(&again), files, "{again}");
    }
}

fn run_again(image: &NamedTempFile) -> Run {
    run().read_only_stick(image.path())
}

/// Runs in a row must all succeed: two of them here, as many as `WIISTICK_VEN_RUNS` says for a longer look.
#[test]
fn one_run_is_like_the_other() {
    let runs = std::env::var("WIISTICK_VEN_RUNS").map_or(2, |number| number.parse().unwrap());
    let (one, two) = (
        small(),
        StickImage::new(32, 40).file("C", noise("C", 70_000)),
    );
    for number in 1..=runs {
        let (first, second) = (image(&one), image(&two));
        let outcome = success(&writing().stick(first.path()).stick(second.path()));
        let mut files = files_of(&one);
        files.extend(files_of(&two));
        assert_eq!(read_files(&outcome), files, "run {number}\n{outcome}");
        all_is_returned(&outcome);
        println!("run {number} of {runs}: {:.1?}", outcome.elapsed);
    }
}

#[test]
fn the_program_says_which_way_it_takes_and_why() {
    let outcome = success(&run());
    let says = |text| {
        outcome
            .frames
            .iter()
            .any(|frame| frame.message.contains(text))
    };
    assert!(
        says("through IOS (/dev/usb/ven): no EHCI controller"),
        "{outcome}"
    );
    assert!(says("no stick"), "{outcome}");
    let way = events(&outcome).into_iter().find_map(|event| match event {
        Event::Controller { kind, .. } => Some(kind),
        _ => None,
    });
    assert_eq!(way, Some(ControllerKind::IosVen));
}

#[test]
fn a_stick_without_an_image_is_no_success() {
    let outcome = run().stick("/no such image").to_end(&tools()).unwrap();
    let reasons = outcome.reasons();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("refuse \"plug 0\"")),
        "{outcome}"
    );
}

#[test]
fn two_sticks_are_read_at_once() {
    let (one, two) = (varied(16), small());
    let outcome = success(
        &run()
            .read_only_stick(image(&one).path())
            .read_only_stick(image(&two).path()),
    );
    let mut files = files_of(&one);
    files.extend(files_of(&two));
    assert_eq!(read_files(&outcome), files, "{outcome}");
    all_is_returned(&outcome);
}

/// A stick whose job is a few transfers.
fn small() -> StickImage {
    StickImage::new(16, 24)
        .file("small/A", noise("A", 100_000))
        .file("small/B", noise("B", 40_001))
}

#[test]
fn a_stick_that_comes_later_is_read() {
    let (stick, tools) = (small(), tools());
    let image = image(&stick);
    let mut machine = run().later_stick(image.path()).start(&tools).unwrap();
    machine.wait_for("ios-ven").unwrap().expect("no controller");
    machine.plug(0).unwrap();
    let outcome = machine.to_end().unwrap().check().unwrap();
    assert_eq!(read_files(&outcome), files_of(&stick), "{outcome}");
    all_is_returned(&outcome);
}

/// What a stick may do wrong now and then without losing a byte: the command is tried again.
#[test]
fn a_fault_now_and_then_costs_nothing_but_time() {
    // Of commands, data and status, one in a command and its second attempt.
    const TRANSFERS: [u64; 7] = [20, 57, 94, 131, 168, 205, 242];
    let stick = varied(16);
    let image = image(&stick);
    for fault in [StickFault::Stall, StickFault::Short, StickFault::Error] {
        let run = TRANSFERS
            .iter()
            .fold(run().read_only_stick(image.path()), |run, &transfer| {
                run.stick_fault(0, transfer, fault)
            });
        let outcome = success(&run);
        let struck = outcome.output.matches("virtual stick 0:").count();
        assert_eq!(struck, TRANSFERS.len(), "{fault}\n{outcome}");
        assert_eq!(read_files(&outcome), files_of(&stick), "{fault}\n{outcome}");
        all_is_returned(&outcome);
    }
}

#[test]
fn a_stick_that_falls_silent_is_given_up_in_time_and_asked_again() {
    let stick = small();
    let outcome = success(&run().read_only_stick(image(&stick).path()).stick_fault(
        0,
        31,
        StickFault::Silence,
    ));
    assert_eq!(read_files(&outcome), files_of(&stick), "{outcome}");
    all_is_returned(&outcome);
}

/// Pulled in the middle of a transfer: told, nothing leaked, and the other stick is not disturbed.
#[test]
fn a_stick_that_is_pulled_is_reported_and_others_go_on() {
    let (pulled, other) = (varied(16), small());
    let outcome = run()
        .read_only_stick(image(&pulled).path())
        .read_only_stick(image(&other).path())
        .stick_fault(0, 60, StickFault::Unplug)
        .to_end(&tools())
        .unwrap();
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert!(!errors(&outcome).is_empty(), "{outcome}");
    let files = read_files(&outcome);
    for (path, file) in files_of(&other) {
        assert_eq!(files.get(&path), Some(&file), "{path}\n{outcome}");
    }
    all_is_returned(&outcome);
}

/// Pulled at any moment and put back half a second later: told, nothing leaked, and read from the start.
#[test]
fn a_stick_that_is_pulled_and_put_back_is_read_from_the_start() {
    const FEW: u64 = 3;
    // Of some 110 transfers; the first ones are those of INQUIRY.
    const LAST: u64 = 100;
    let stick = small();
    let image = image(&stick);
    let moments = std::env::var("WIISTICK_VEN_RUNS").map_or(FEW, |number| number.parse().unwrap());
    for moment in 0..moments {
        let transfer = 1 + moment * LAST / moments.max(FEW);
        let outcome = run()
            .read_only_stick(image.path())
            .stick_fault(0, transfer, StickFault::Replug)
            .to_end(&tools())
            .unwrap();
        assert!(outcome.status.is_some(), "{transfer}\n{outcome}");
        assert_eq!(
            read_files(&outcome),
            files_of(&stick),
            "{transfer}\n{outcome}"
        );
        all_is_returned(&outcome);
    }
}

fn selftest(name: &str, image: &NamedTempFile, left_out: Option<&str>) -> Outcome {
    let tools = tools();
    let mut run = Run::new(Emulator::Dolphin, tools.program("selftest").unwrap())
        .argument(format!("test={name}"))
        .read_only_stick(image.path())
        .time_limit(LIMIT);
    if let Some(left_out) = left_out {
        run = run.argument(format!("leave-out={left_out}"));
    }
    run.to_end(&tools).unwrap()
}

/// The check bites: a pool in MEM1 reaches no stick, IOS is given nothing of it, and the run fails.
#[test]
fn memory_in_mem1_is_never_given_to_ios() {
    let stick = small();
    let image = image(&stick);
    let outcome = selftest("stick-with-a-pool-in-mem2", &image, None);
    assert_eq!(outcome.reasons(), Vec::<String>::new(), "{outcome}");
    assert_eq!(read_files(&outcome), files_of(&stick));

    let outcome = selftest("stick-without-bouncing", &image, None);
    assert!(!outcome.reasons().is_empty(), "{outcome}");
    assert!(read_files(&outcome).is_empty(), "{outcome}");
    let ios = ios(&outcome);
    assert!(ios.outside_mem2 > 0 && ios.requests == 0, "{ios:?}");
}

/// With all cache maintenance of the way through IOS a hostile cache does no harm; without any one piece of it, it does.
#[test]
fn every_piece_of_cache_maintenance_is_needed() {
    let stick = varied(16);
    let image = image(&stick);
    println!("left out             the run");
    for left_out in [
        None,
        Some("clean"),
        Some("flush"),
        Some("invalidate-before"),
        Some("invalidate-reply"),
        Some("invalidate-data"),
    ] {
        let outcome = selftest("stick-under-a-hostile-cache", &image, left_out);
        let reasons = outcome.reasons();
        let right = reasons.is_empty() && read_files(&outcome) == files_of(&stick);
        let name = left_out.unwrap_or("nothing");
        let why = match (right, reasons.first()) {
            (true, _) => "succeeds, every file is right".to_owned(),
            (false, None) => "ends well, but with wrong files".to_owned(),
            (false, Some(reason)) => format!("fails: {reason}"),
        };
        println!("{name:20} {why}");
        assert_eq!(right, left_out.is_none(), "without {name}\n{outcome}");
    }
}
