//! The page about the hardware: what it writes down, and that nothing suffers from it.

mod common;

use common::menu::{self, press};
use common::sticks::{image, tools};
use dolphin_tests::{Emulator, Press, StickImage, noise};
use object::{Object, ObjectSymbol};

/// The lines below a heading.
fn section<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    let (_, rest) = text.split_once(heading).unwrap_or_else(|| panic!("{text}"));
    let rest = rest.split("\n# ").next().unwrap();
    let lines = rest.lines().skip(1).filter(|line| !line.is_empty());
    lines.collect()
}

#[test]
fn in_qemu_mem1_loses_nothing_and_the_stick_reads_on() {
    let stick = StickImage::new(16, 12).file("a.bin", noise("a", 1_000_000));
    let file = image(&stick);
    let tools = tools();
    let run = menu::attended(Emulator::Qemu, file.path()).audit_dma();
    let mut machine = run.start(&tools).unwrap();
    menu::to_the_menu(&mut machine, Emulator::Qemu);
    press(&mut machine, Press::Down, "wiistick");
    // Twice: it leaves everything as it was.
    press(&mut machine, Press::Confirm, "This console");
    press(&mut machine, Press::Back, "wiistick");
    press(&mut machine, Press::Confirm, "This console");
    menu::save(&mut machine);
    press(&mut machine, Press::Back, "wiistick");
    press(&mut machine, Press::Up, "wiistick");
    press(&mut machine, Press::Confirm, "QEMU QEMU HARDDISK");
    press(&mut machine, Press::Down, "QEMU QEMU HARDDISK");
    press(&mut machine, Press::Confirm, "Check");
    menu::save(&mut machine);
    let outcome = menu::leave(machine);
    assert_eq!(outcome.status, Some(0), "{outcome}");

    let text = menu::saved(&stick, file.path(), "PROBE.TXT");
    for register in [
        "HCSPARAMS 0x",
        "HCCPARAMS 0x",
        "CAPLENGTH, HCIVERSION 0x",
        "PORTSC 1 0x",
    ] {
        assert!(text.contains(register), "{register} is not in {text}");
    }
    for memory in ["device to MEM1", "device to MEM2"] {
        let lines = section(&text, memory);
        assert_eq!(lines.len(), 20, "{text}");
        assert!(lines.iter().all(|line| line.ends_with(": right")), "{text}");
    }
    let interrupts = section(&text, "# Interrupts");
    assert_eq!(
        interrupts.last(),
        Some(&"8 in USBSTS, 0 at the processor's flags"),
        "{text}"
    );
    assert!(
        text.trim_end().ends_with("It names nobody."),
        "it was cut: {text}"
    );
    let check = menu::saved(&stick, file.path(), "CHECK.TXT");
    assert!(check.starts_with("+ Everything was read."), "{check}");

    // What the controller reached outside MEM2 is the experiment's page, and nothing else.
    let elf = std::fs::read(tools.program("boot").unwrap().elf.unwrap()).unwrap();
    let elf = object::File::parse(&*elf).unwrap();
    let page = elf.symbols().find(|symbol| {
        symbol
            .name()
            .is_ok_and(|name| name.contains("experiment") && name.contains("PRIVATE"))
    });
    let page = page.expect("the page has a symbol").address();
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!(audit.outside_mem2, 2 * 20, "{outcome}");
    for violation in &audit.violations {
        let within = page..page + 4096;
        assert!(within.contains(&violation.address), "{violation:x?}");
        assert!(violation.length <= 18, "{violation:x?}");
    }
}

#[test]
fn in_dolphin_nothing_of_a_controller_is_touched() {
    let stick = StickImage::new(16, 12).file("a.bin", noise("a", 1000));
    let file = image(&stick);
    let mut machine = menu::attended(Emulator::Dolphin, file.path())
        .start(&tools())
        .unwrap();
    menu::to_the_menu(&mut machine, Emulator::Dolphin);
    press(&mut machine, Press::Down, "wiistick");
    press(&mut machine, Press::Confirm, "This console");
    menu::save(&mut machine);
    let outcome = menu::leave(machine);
    outcome
        .check()
        .unwrap_or_else(|failure| panic!("{failure}"));
    let text = menu::saved(&stick, file.path(), "PROBE.TXT");
    assert!(
        text.contains("IOS58") && text.contains("Dolphin has none"),
        "{text}"
    );
    assert!(!text.contains("EHCI\n"), "{text}");
}
