//! The program with a person in front of it.

use dolphin_tests::{DolphinCore, Emulator, Machine, Outcome, Press, Run, StickImage};
use std::path::Path;
use std::time::Duration;

/// A guest that shows nothing new for so long has shown what comes of a key.
pub const QUIET: Duration = Duration::from_millis(300);

/// The program with its menu and a stick.
pub fn attended(emulator: Emulator, stick: &Path) -> Run {
    Run::new(emulator, super::sticks::tools().program("boot").unwrap())
        .attended()
        .dolphin_core(DolphinCore::Fast)
        .stick(stick)
        .time_limit(Duration::from_secs(120))
}

/// Waits for the stick to be on the menu and for QEMU's keyboard, and goes past the page that Dolphin begins with.
pub fn to_the_menu(machine: &mut Machine, emulator: Emulator) {
    let mut awaited = vec!["on the menu"];
    if emulator == Emulator::Qemu {
        awaited.push("a keyboard is there");
    }
    while !awaited.is_empty() {
        let frame = machine.next_frame().unwrap().expect("the guest has ended");
        awaited.retain(|text| !frame.message.contains(text));
    }
    machine.settle(QUIET).unwrap();
    if emulator == Emulator::Dolphin {
        press(machine, Press::Back, "wiistick");
    }
}

/// Presses a key and waits for a screen with this title, and until nothing changes any more.
pub fn press(machine: &mut Machine, press: Press, title: &str) {
    let mut shown = machine.press(press).unwrap();
    while shown.as_deref() != Some(title) {
        assert!(shown.is_some(), "the guest has ended without {title}");
        shown = machine.shown().unwrap();
    }
    machine.settle(QUIET).unwrap();
}

/// Saves the text that is shown.
pub fn save(machine: &mut Machine) {
    machine.press(Press::Confirm).unwrap();
    let saved = machine.wait_for("Saved as").unwrap();
    assert!(saved.is_some(), "the guest has ended");
    machine.settle(QUIET).unwrap();
}

/// Leaves the program.
pub fn leave(mut machine: Machine) -> Outcome {
    machine.press(Press::Start).unwrap();
    machine.to_end().unwrap()
}

/// A text that the program has saved on a stick.
pub fn saved(stick: &StickImage, image: &Path, name: &str) -> String {
    let file = stick
        .mtools("mtype", image)
        .arg(format!("::/WIISTICK/{name}"))
        .output()
        .unwrap();
    String::from_utf8(file.stdout).unwrap()
}
