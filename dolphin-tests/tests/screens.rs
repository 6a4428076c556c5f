//! What a person sees and presses: every screen is held against a picture of it that somebody has looked at, and the way out
//! leads where it should.
//!
//! The pictures are those of the book. To renew them after a change: `WIISTICK_SCREENS=renew`, then look at them.

mod common;

use common::menu::{self, QUIET};
use common::native::fsck;
use common::sticks::{image, tools};
use dolphin_tests::{
    DolphinCore, Emulator, Machine, Outcome, Picture, Press, Run, StickImage, noise,
};
use object::{Object, ObjectSymbol};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A busy machine may take so long to show it.
const PATIENCE: Duration = Duration::from_secs(20);

fn reference(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/src/screens/{name}.png"))
}

/// Holds what the guest shows in the end against a picture of the book.
fn shows(machine: &mut Machine, name: &str) {
    let path = reference(name);
    let started = Instant::now();
    if std::env::var("WIISTICK_SCREENS").is_ok_and(|value| value == "renew") {
        // There is no second look.
        machine.settle(10 * QUIET).unwrap();
        return machine.picture().unwrap().save(&path).unwrap();
    }
    loop {
        machine.settle(QUIET).unwrap();
        let picture = machine.picture().unwrap();
        let expected = Picture::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let Some(difference) = picture.difference(&expected) else {
            return;
        };
        if started.elapsed() > PATIENCE {
            let ours = std::env::temp_dir().join(format!("wiistick-{name}.png"));
            picture.save(&ours).unwrap();
            panic!(
                "{name} is not what it was: {difference:?}; see {}",
                ours.display()
            );
        }
    }
}

/// Presses a key and expects a screen.
fn press(machine: &mut Machine, press: Press, name: &str) {
    assert!(
        machine.press(press).unwrap().is_some(),
        "the guest has ended"
    );
    shows(machine, name);
}

fn start(emulator: Emulator, stick: Option<&std::path::Path>) -> Machine {
    let tools = tools();
    let mut run = Run::new(emulator, tools.program("boot").unwrap())
        .attended()
        .dolphin_core(DolphinCore::Fast)
        .time_limit(Duration::from_secs(180));
    if let Some(stick) = stick {
        run = run.stick(stick);
    }
    let mut machine = run.start(&tools).unwrap();
    assert!(machine.shown().unwrap().is_some(), "the guest has ended");
    machine
}

/// The program has ended as it should, and has gone back to the loader: the harness knows of no other way to end well.
fn ended_well(machine: Machine) -> Outcome {
    let outcome = machine.to_end().unwrap();
    outcome
        .check()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_screen_without_sticks_is_as_it_was_and_start_leads_back_to_the_loader() {
    let mut machine = start(Emulator::Dolphin, None);
    shows(&mut machine, "dolphin");
    press(&mut machine, Press::Confirm, "no-stick");
    machine.press(Press::Down).unwrap();
    press(&mut machine, Press::Confirm, "about");
    machine.press(Press::Back).unwrap();
    machine.press(Press::Start).unwrap();
    ended_well(machine);
}

fn stick() -> StickImage {
    StickImage::new(16, 12)
        .file("Holiday/Beach at sunset.jpg", noise("beach", 2_345_678))
        .file("Holiday/Mountains.jpg", noise("mountains", 1_234_567))
        .file("Letter to grandmother.txt", noise("letter", 1234))
        .file("Música/Canção.ogg", noise("song", 3_456_789))
}

/// Every page that a stick has, from the menu to the way out.
fn walk(emulator: Emulator) -> Outcome {
    let (stick, name) = (stick(), |page: &str| match emulator {
        Emulator::Qemu => page.to_owned(),
        Emulator::Dolphin => format!("{page}-by-ios"),
    });
    let file = image(&stick);
    let mut machine = start(emulator, Some(file.path()));
    if emulator == Emulator::Dolphin {
        machine.press(Press::Confirm).unwrap();
    }
    shows(&mut machine, &name("menu"));
    press(&mut machine, Press::Confirm, &name("stick"));
    press(&mut machine, Press::Confirm, "directory");
    machine.press(Press::Down).unwrap();
    machine.press(Press::Down).unwrap();
    press(&mut machine, Press::Confirm, "file");
    machine.press(Press::Back).unwrap();
    machine.press(Press::Back).unwrap();
    press(&mut machine, Press::Down, &name("stick-check"));
    menu::press(&mut machine, Press::Confirm, "Check");
    shows(&mut machine, &name("check"));
    press(&mut machine, Press::Confirm, &name("saved"));
    machine.press(Press::Back).unwrap();
    machine.press(Press::Down).unwrap();
    menu::press(&mut machine, Press::Confirm, "Speed");
    menu::press(&mut machine, Press::Back, stick_title(emulator));
    machine.press(Press::Down).unwrap();
    press(&mut machine, Press::Confirm, &name("ejected"));
    menu::press(&mut machine, Press::Confirm, "This console");
    machine.press(Press::Back).unwrap();
    machine.press(Press::Start).unwrap();
    let outcome = ended_well(machine);

    assert_eq!(fsck(file.path(), stick.first_block()), None);
    let text = menu::saved(&stick, file.path(), "CHECK.TXT");
    assert!(
        text.starts_with("+ Everything was read.") && text.contains("4 files"),
        "{text}"
    );
    outcome
}

fn stick_title(emulator: Emulator) -> &'static str {
    match emulator {
        Emulator::Qemu => "QEMU QEMU HARDDISK",
        Emulator::Dolphin => "WIISTICK SIMULATED",
    }
}

#[test]
fn every_page_of_a_stick_is_as_it_was_and_a_quarter_of_the_stack_is_never_used() {
    let outcome = walk(Emulator::Qemu);
    // QEMU's memory starts as zeros.
    let elf = std::fs::read(tools().program("boot").unwrap().elf.unwrap()).unwrap();
    let elf = object::File::parse(&*elf).unwrap();
    let address = |name| elf.symbol_by_name(name).unwrap().address() as u32 & 0x3FFF_FFFF;
    let (start, end) = (address("__stack_start"), address("__stack_end"));
    let mut stack = vec![0; (end - start) as usize];
    let memory = outcome.memory.as_ref().unwrap();
    memory.read(start, &mut stack).unwrap();
    let unused = stack.iter().position(|&byte| byte != 0).unwrap();
    println!("stack used: {} bytes", stack.len() - unused);
    assert!(unused >= stack.len() / 4, "only {unused} bytes are left");
}

#[test]
fn every_page_of_a_stick_is_as_it_was_through_ios() {
    walk(Emulator::Dolphin);
}

#[test]
fn the_power_button_ends_the_program() {
    let mut machine = start(Emulator::Dolphin, None);
    shows(&mut machine, "dolphin");
    machine.press_power().unwrap();
    ended_well(machine);
}
