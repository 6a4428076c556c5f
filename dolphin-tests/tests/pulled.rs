//! A stick that is pulled at random moments, while it is read and while it is written to: the program says so and goes on,
//! the files that were there stay as they were, the file system is at worst left with an unfinished file, and the stick
//! works when it comes back.

mod common;

use common::native::{self, copy, fsck};
use common::sticks::{events, files_of, image, nothing_is_left, tools};
use dolphin_tests::{Emulator, Machine, Run, StickImage, noise};
use std::path::Path;
use std::time::{Duration, Instant};
use wiistick::job::Task;
use wiistick::report::Event;

/// How often the stick is pulled. 50 times takes minutes: set `WIISTICK_PULLS`.
fn pulls() -> u32 {
    match std::env::var("WIISTICK_PULLS") {
        Ok(count) => count.parse().expect("WIISTICK_PULLS is a number"),
        Err(_) => 6,
    }
}

/// Pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }
}

/// A stick that takes about as long to read as to write to.
fn stick() -> StickImage {
    StickImage::new(16, 24)
        .blocks_per_cluster(2)
        .file("A.BIN", noise("a", 400_000))
        .file("folder/another file.bin", noise("b", 300_000))
        .file("folder/EMPTY", Vec::new())
        .file("Z.BIN", noise("z", 5_000))
}

/// What is left of an interrupted write, in the words of fsck.fat: lines that begin like this, and those under them.
const HARMLESS: [&str; 9] = [
    "fsck.fat",
    "Dirty bit",
    " Automatically removing dirty bit",
    "0x25: Dirty bit",
    "There are differences between boot sector",
    "FATs differ but appear to be intact",
    "/WIISTICK",
    "Reclaimed ",
    "Leaving filesystem unchanged",
];

/// Panics if fsck.fat finds more than an interrupted write to our own file leaves.
fn check_image(image: &Path, stick: &StickImage) {
    if let Some(said) = fsck(image, stick.first_block()) {
        let harmless = |line: &str| {
            HARMLESS.iter().any(|text| line.starts_with(text))
                || line.starts_with("  ") // Details of the line before.
                || line.contains("files, ")
                || line.contains("unused cluster")
                || line.contains("Using first FAT")
                || line.trim().is_empty()
        };
        let bad = said.lines().find(|line| !harmless(line));
        assert_eq!(bad, None, "{said}");
    }
    let said = native::run(copy(image).path(), Task::Read);
    let mut files = said.files();
    files.remove("/WIISTICK/CHECK.BIN");
    assert_eq!(files, files_of(stick), "{:?}", said.errors());
}

/// Follows the machine until the work on a stick has begun; returns its index.
fn next_stick(machine: &mut Machine) -> u16 {
    loop {
        let frame = machine.next_frame().unwrap().expect("the program ended");
        if let Some(Event::Stick { stick, .. }) = frame.event() {
            return stick;
        }
    }
}

/// Follows the machine for this long.
fn follow(machine: &mut Machine, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        // It has nothing to say at the end of the time at the latest; taking a frame that comes later does no harm.
        let _ = machine
            .qmp()
            .unwrap()
            .execute("query-status", serde_json::json!({}));
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Plugs the stick in again. QEMU lets go of the image a moment after the stick is gone.
fn plug(machine: &mut Machine) {
    let mut attempts = 0;
    while let Err(error) = machine.plug(0) {
        attempts += 1;
        assert!(attempts < 40, "{error}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn pulled_while(arguments: &[&str], within: u64) {
    let stick = stick();
    let image = image(&stick);
    let tools = tools();
    let mut run = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
        .stick(image.path())
        .audit_dma()
        .tolerate("usb-msd")
        .time_limit(Duration::from_secs(20 + 20 * u64::from(pulls())));
    for argument in arguments {
        run = run.argument(*argument);
    }
    let mut machine = run.start(&tools).unwrap();
    let mut random = Random(0x5EED + within);
    for pull in 0..pulls() {
        let index = next_stick(&mut machine);
        let wait = Duration::from_millis(random.below(within));
        follow(&mut machine, wait);
        machine.unplug(0).unwrap();
        println!("pull {pull}: stick {index} after {wait:?}");
        check_image(image.path(), &stick);
        plug(&mut machine);
    }
    let last = next_stick(&mut machine);
    let outcome = machine.to_end().unwrap();

    // It came to its end, and said of each pull what happened.
    let events = events(&outcome);
    assert!(outcome.status.is_some(), "{outcome}");
    nothing_is_left(&outcome);
    let errors: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::StickDone { stick, error, .. } => Some((*stick, error.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(errors.len() as u32, pulls() + 1, "{outcome}");
    for (index, error) in &errors {
        let clear = error
            .as_ref()
            .is_none_or(|error| error.contains("unplugged") || error.contains("transfer"));
        assert!(clear, "stick {index}: {error:?}\n{outcome}");
    }
    // In the end it was left in.
    assert_eq!(errors.last(), Some(&(last, None)), "{outcome}");
    check_image(image.path(), &stick);
    if arguments.is_empty() {
        let said = native::run(image.path(), Task::Read);
        assert!(said.files().contains_key("/WIISTICK/CHECK.BIN"));
    }
}

#[test]
fn a_stick_that_is_pulled_while_it_is_read_works_when_it_comes_back() {
    pulled_while(&["read-only"], 700);
}

#[test]
fn a_stick_that_is_pulled_while_it_is_written_to_is_not_damaged() {
    // The program waits 1.5 s for another stick when it is done with this one.
    pulled_while(&[], 1200);
}
