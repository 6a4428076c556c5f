//! The programs in `examples`, which the book shows, and the one that `cargo xtask new` makes.

use dolphin_tests::{Emulator, Machine, Outcome, Run, StickImage, Tools, noise};
use serde_json::json;
use tempfile::NamedTempFile;

fn tools() -> Tools {
    Tools::from_env().unwrap_or_else(|error| panic!("{error}"))
}

fn run(emulator: Emulator, program: &str) -> Run {
    Run::new(emulator, tools().program(program).unwrap())
}

fn success(run: Run) -> Outcome {
    run.success(&tools())
        .unwrap_or_else(|failure| panic!("{failure}"))
}

fn messages(outcome: &Outcome) -> Vec<&str> {
    outcome
        .frames
        .iter()
        .map(|frame| frame.message.as_str())
        .collect()
}

/// What a program says from its first wait on, without the library's records.
fn own_messages(outcome: &Outcome) -> Vec<&str> {
    messages(outcome)
        .into_iter()
        .skip_while(|message| !message.starts_with("waiting for"))
        .filter(|message| !message.starts_with('@'))
        .collect()
}

fn stick() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let stick = StickImage::new(16, 24).file("A", noise("a", 100));
    stick.write(file.path()).unwrap();
    file
}

#[test]
fn a_new_program_boots_in_both_emulators_and_blinks() {
    for emulator in [Emulator::Qemu, Emulator::Dolphin] {
        let outcome = success(run(emulator, "hello"));
        assert_eq!(
            messages(&outcome),
            ["blink 1", "blink 2", "blink 3", "blink 4", "blink 5"],
            "{outcome}"
        );
    }
}

#[test]
fn the_stick_program_reads_the_first_block_through_the_controller_and_through_ios() {
    let image = stick();
    let bytes = std::fs::read(image.path()).unwrap();
    let first_block = [
        "waiting for a stick".to_owned(),
        format!("{} blocks of 512 bytes", bytes.len() / 512),
        format!("the first one begins with {:02x?}", &bytes[..16]),
        "and ends with [55, aa]".to_owned(),
    ];
    // The example, and a new program that was made of it.
    for program in ["stick", "reader"] {
        let by_controller = run(Emulator::Qemu, program).read_only_stick(image.path());
        let outcome = success(by_controller.audit_dma());
        assert_eq!(own_messages(&outcome), first_block, "{outcome}");
        assert_eq!(outcome.audit.as_ref().unwrap().outside_mem2, 0);

        let by_ios = run(Emulator::Dolphin, program).read_only_stick(image.path());
        let outcome = success(by_ios);
        assert_eq!(own_messages(&outcome), first_block, "{outcome}");
    }
}

#[test]
fn the_keyboard_program_prints_what_is_typed() {
    let keyboard = run(Emulator::Qemu, "keyboard")
        .qemu_arguments(["-device", "usb-kbd,bus=ehci.0"])
        .audit_dma();
    let mut machine = keyboard.start(&tools()).unwrap();
    assert!(
        machine.wait_for("type").unwrap().is_some(),
        "{}",
        machine.to_end().unwrap()
    );
    for key in ["w", "i", "7", "esc"] {
        press(&mut machine, key);
    }
    let outcome = machine.to_end().unwrap();
    assert_eq!(outcome.reasons(), Vec::<String>::new(), "{outcome}");
    assert_eq!(
        own_messages(&outcome)[1..],
        ["type", "w", "i", "key 36"],
        "{outcome}"
    );
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!(audit.outside_mem2, 0);
    // Its reports come by the periodic schedule.
    assert!(audit.descriptors > 0 && audit.frame_lists > 0);
}

/// Presses a key and releases it.
fn press(machine: &mut Machine, key: &str) {
    let key = json!({ "type": "qcode", "data": key });
    let qmp = machine.qmp().unwrap();
    qmp.execute("send-key", json!({ "keys": [key], "hold-time": 20 }))
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
}

#[test]
fn the_pci_program_finds_the_controller_by_itself() {
    let image = stick();
    let outcome = success(run(Emulator::Qemu, "pci").read_only_stick(image.path()));
    assert!(
        messages(&outcome).contains(&"port 0: 46f4:0001"),
        "{outcome}"
    );
}
