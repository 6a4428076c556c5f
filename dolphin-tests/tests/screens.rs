//! What a person sees and presses: every screen is held against a picture of it that somebody has looked at, and the way out
//! leads where it should.
//!
//! The pictures are those of the book. To renew them after a change: `WIISTICK_SCREENS=renew`, then look at them.

use dolphin_tests::{DolphinCore, Emulator, Machine, Outcome, Picture, Press, Run, Tools};
use std::path::PathBuf;

fn tools() -> Tools {
    Tools::from_env().unwrap_or_else(|error| panic!("{error}"))
}

fn reference(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/src/screens/{name}.png"))
}

/// Holds what the guest shows against a picture of the book.
fn shows(machine: &mut Machine, name: &str) {
    let picture = machine.picture().unwrap();
    let path = reference(name);
    if std::env::var("WIISTICK_SCREENS").is_ok_and(|value| value == "renew") {
        picture.save(&path).unwrap();
        return;
    }
    let expected = Picture::load(&path).unwrap_or_else(|error| panic!("{error}"));
    if let Some(difference) = picture.difference(&expected) {
        let ours = std::env::temp_dir().join(format!("wiistick-{name}.png"));
        picture.save(&ours).unwrap();
        panic!(
            "{name} is not what it was: {difference:?}; see {}",
            ours.display()
        );
    }
}

fn dolphin() -> (Tools, Machine) {
    let tools = tools();
    let machine = Run::new(Emulator::Dolphin, tools.program("boot").unwrap())
        .attended()
        .dolphin_core(DolphinCore::Fast)
        .start(&tools)
        .unwrap();
    (tools, machine)
}

fn title(shown: Result<Option<String>, dolphin_tests::Error>) -> String {
    shown.unwrap().expect("the guest has ended")
}

/// Presses a key and expects a screen with this title.
fn press(machine: &mut Machine, press: Press, expected: &str) {
    assert_eq!(title(machine.press(press)), expected, "after {press:?}");
}

fn ended_well(machine: Machine) -> Outcome {
    let outcome = machine.to_end().unwrap();
    outcome
        .check()
        .unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn every_screen_without_sticks_is_as_it_was_and_start_leads_back_to_the_loader() {
    let (_tools, mut machine) = dolphin();
    assert_eq!(title(machine.shown()), "This is Dolphin");
    shows(&mut machine, "dolphin");
    press(&mut machine, Press::Confirm, "wiistick");
    shows(&mut machine, "no-stick");
    press(&mut machine, Press::Down, "wiistick");
    press(&mut machine, Press::Confirm, "About");
    shows(&mut machine, "about");
    press(&mut machine, Press::Back, "wiistick");
    machine.press(Press::Start).unwrap();
    ended_well(machine);
}
