//! A run tells how the one before ended, from what that one has left in MEM2.

mod common;

use common::menu::{self, press};
use common::sticks::{image, tools};
use dolphin_tests::{Emulator, Machine, Outcome, Press, Run, StickImage, noise};
use std::path::Path;
use wiistick::last_log::{BYTES, PHYSICAL_ADDRESS};

const EMULATORS: [Emulator; 2] = [Emulator::Qemu, Emulator::Dolphin];

fn stick() -> StickImage {
    StickImage::new(16, 12).file("a.bin", noise("a", 1000))
}

/// The memory of the log at the end of a run.
fn left_by(outcome: &Outcome) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    let memory = outcome.memory.as_ref().unwrap();
    memory.read(PHYSICAL_ADDRESS, &mut bytes).unwrap();
    bytes
}

fn boot(emulator: Emulator, stick: &Path, left: &[u8]) -> Machine {
    let run = menu::attended(emulator, stick).left_behind(PHYSICAL_ADDRESS, left);
    let mut machine = run.start(&tools()).unwrap();
    menu::to_the_menu(&mut machine, emulator);
    machine
}

/// Boots with this in memory, looks at the last run's log, saves it, and returns the file.
fn told_by_the_next_run(emulator: Emulator, left: &[u8]) -> String {
    let stick = stick();
    let file = image(&stick);
    let mut machine = boot(emulator, file.path(), left);
    press(&mut machine, Press::Down, "wiistick");
    press(&mut machine, Press::Down, "wiistick");
    press(&mut machine, Press::Confirm, "The last run");
    menu::save(&mut machine);
    let outcome = menu::leave(machine);
    outcome
        .check()
        .unwrap_or_else(|failure| panic!("{failure}"));
    menu::saved(&stick, file.path(), "LASTRUN.TXT")
}

#[test]
fn the_next_run_tells_of_a_crash() {
    let tools = tools();
    for emulator in EMULATORS {
        let crash = Run::new(emulator, tools.program("selftest").unwrap())
            .argument("test=crash-store")
            .to_end(&tools)
            .unwrap();
        let text = told_by_the_next_run(emulator, &left_by(&crash));
        assert!(text.starts_with("! It failed.\n"), "{emulator:?}: {text}");
        for part in [
            "! data storage (DSI) at 0x80",
            "DAR 0x30000000",
            "! called from 0x8",
            "status 101",
        ] {
            assert!(text.contains(part), "{emulator:?}: {part} is not in {text}");
        }
    }
}

#[test]
fn the_next_run_tells_how_far_one_came_that_was_cut_off() {
    for emulator in EMULATORS {
        let file = image(&stick());
        let machine = boot(emulator, file.path(), &[]);
        let cut = machine.abandon().unwrap();
        let text = told_by_the_next_run(emulator, &left_by(&cut));
        assert!(
            text.starts_with("! It was cut off.\n"),
            "{emulator:?}: {text}"
        );
        assert!(text.contains("on the menu: "), "{text}");
    }
}

#[test]
fn the_next_run_tells_of_a_good_end_and_what_the_job_did() {
    let tools = tools();
    for emulator in EMULATORS {
        let file = image(&stick());
        let job = Run::new(emulator, tools.program("boot").unwrap())
            .stick(file.path())
            .success(&tools)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let text = told_by_the_next_run(emulator, &left_by(&job));
        assert!(
            text.starts_with("+ It ended well.\n"),
            "{emulator:?}: {text}"
        );
        for part in ["{\"Started\":", "{\"StickDone\":", "{\"Done\":{\"ok\":true"] {
            assert!(text.contains(part), "{emulator:?}: {part} is not in {text}");
        }
    }
}

#[test]
fn garbage_in_memory_is_no_log() {
    for emulator in EMULATORS {
        let file = image(&stick());
        let left = [
            b"WLST\0\0\x20\0".as_slice(),
            &noise("garbage", BYTES as usize - 8),
        ]
        .concat();
        let mut machine = boot(emulator, file.path(), &left);
        press(&mut machine, Press::Down, "wiistick");
        press(&mut machine, Press::Down, "wiistick");
        // Where the log would be.
        press(&mut machine, Press::Confirm, "About");
    }
}
