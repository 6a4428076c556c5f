//! The harness with guests that do one thing each, and with guests that misbehave.

mod common;

use common::{
    guest::{ENTRY, Guest, Image},
    sample::SECTORS,
};
use dolphin_tests::{DolphinCore, Emulator, End, Error, Failure, Machine, Run, Tools};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const BOTH: [Emulator; 2] = [Emulator::Qemu, Emulator::Dolphin];

fn tools() -> Tools {
    Tools::from_env().unwrap_or_else(|error| panic!("{error}"))
}

fn run(emulator: Emulator, image: &Image) -> Run {
    Run::new(emulator, image.program())
}

fn failure(result: Result<dolphin_tests::Outcome, Failure>) -> String {
    match result {
        Ok(outcome) => panic!("expected a failure: {outcome}"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn a_guest_that_logs_and_exits_with_0_succeeds_in_both_emulators() {
    let image = Guest::new().log(&SECTORS).exit(0).image_with_table();
    for emulator in BOTH {
        let outcome = run(emulator, &image).success(&tools()).unwrap();
        let messages: Vec<_> = outcome
            .frames
            .iter()
            .map(|frame| frame.message.as_str())
            .collect();
        assert_eq!(messages, ["sectors: 2048"], "{outcome}");
        assert_eq!(
            (outcome.status, outcome.lost, outcome.malformed),
            (Some(0), 0, 0),
            "{outcome}"
        );
    }
}

#[test]
fn the_fast_core_of_dolphin_runs_the_same_program() {
    let image = Guest::new().log(&SECTORS).exit(0).image_with_table();
    let outcome = run(Emulator::Dolphin, &image)
        .dolphin_core(DolphinCore::Fast)
        .success(&tools())
        .unwrap();
    assert_eq!(outcome.frames.len(), 1);
}

#[test]
fn a_status_other_than_0_fails_with_the_log_in_the_post_mortem() {
    let image = Guest::new().log(&SECTORS).exit(3).image_with_table();
    for emulator in BOTH {
        let text = failure(run(emulator, &image).success(&tools()));
        assert!(text.contains("the guest ended with status 3"), "{text}");
        assert!(text.contains("INFO  sectors: 2048"), "{text}");
    }
}

#[test]
fn an_end_without_a_status_in_the_ring_is_an_accident() {
    let image = Guest::new().log(&SECTORS).leave(0).image_with_table();
    for emulator in BOTH {
        let text = failure(run(emulator, &image).success(&tools()));
        assert!(text.contains("left no exit status"), "{text}");
    }
}

#[test]
fn a_log_that_cannot_be_decoded_fails() {
    let image = Guest::new().log(&SECTORS).exit(0).image();
    let text = failure(run(Emulator::Qemu, &image).success(&tools()));
    assert!(text.contains("1 log frames could not be decoded"), "{text}");
}

#[test]
fn a_hang_ends_at_the_time_limit_with_log_and_registers() {
    let guest = Guest::new().log(&SECTORS);
    let here = guest.here();
    let image = guest.hang().image_with_table();
    let limit = Duration::from_secs(2);
    for emulator in BOTH {
        let started = Instant::now();
        let text = failure(run(emulator, &image).time_limit(limit).success(&tools()));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(
            text.contains("did not end within 2s") && text.contains("sectors: 2048"),
            "{text}"
        );
        if emulator == Emulator::Qemu {
            assert!(text.contains(&format!("NIP {here:08x}")), "{text}");
        }
    }
}

#[test]
fn frames_stream_while_the_guest_runs_and_its_memory_can_be_read_and_written() {
    let image = Guest::new()
        .store(0x8010_0000, 0x1234_5678)
        .log(&SECTORS)
        .hang()
        .image_with_table();
    for emulator in BOTH {
        let mut machine = run(emulator, &image).start(&tools()).unwrap();
        assert!(machine.wait_for("sectors").unwrap().is_some());
        if emulator == Emulator::Qemu {
            let memory = machine.memory().unwrap();
            assert_eq!(memory.read_word(0x0010_0000).unwrap(), 0x1234_5678);
            memory.write_word(0x0100_0000, 0xCAFE_F00D).unwrap();
            let text = machine.qmp().unwrap().human("xp /1wx 0x1000000").unwrap();
            assert!(text.contains("0xcafef00d"), "{text}");
        }
        let outcome = machine.abandon().unwrap();
        assert_eq!((outcome.end, outcome.status), (End::Abandoned, None));
    }
}

#[test]
fn memory_can_be_read_after_the_end_and_only_where_there_is_some() {
    let image = Guest::new()
        .store(0x9000_0000 + 0x0100_0000, 0x600D)
        .log(&SECTORS)
        .exit(0)
        .image_with_table();
    let outcome = run(Emulator::Qemu, &image).success(&tools()).unwrap();
    let memory = outcome.memory.unwrap();
    assert_eq!(memory.read_word(0x1100_0000).unwrap(), 0x600D);
    assert!(matches!(
        memory.read_word(0x1400_0000),
        Err(Error::Memory {
            address: 0x1400_0000,
            ..
        })
    ));
    assert!(matches!(
        memory.read_word(0x0200_0000),
        Err(Error::Memory { .. })
    ));
    assert!(memory.read_word(2).is_err());
}

#[test]
fn arguments_arrive_as_the_homebrew_channel_hands_them_over() {
    let image = Guest::new().log(&SECTORS).exit(0).image_with_table();
    for (emulator, map) in [(Emulator::Qemu, "map=ready\0"), (Emulator::Dolphin, "")] {
        let run = run(emulator, &image).argument("list").argument("a=b c");
        let outcome = run.success(&tools()).unwrap();
        let name = run_name(&image);
        let expected = format!("{name}\0list\0a=b c\0unattended\0{map}");
        let memory = outcome.memory.unwrap();
        let block =
            [8, 12, 16].map(|offset| memory.read_word((ENTRY & 0x3FFF_FFFF) + offset).unwrap());
        assert_eq!(
            block,
            [0x5F61_7267, 0x8132_FC00, expected.len() as u32],
            "{emulator:?}"
        );
        let mut line = vec![0; expected.len()];
        memory.read(0x0132_FC00, &mut line).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), expected, "{emulator:?}");
    }
}

fn run_name(image: &Image) -> String {
    image
        .program()
        .dol
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

#[test]
fn the_shim_fills_low_memory_as_ios_would_and_says_that_there_is_no_ios() {
    let image = Guest::new().log(&SECTORS).exit(0).image_with_table();
    let outcome = run(Emulator::Qemu, &image).success(&tools()).unwrap();
    let memory = outcome.memory.unwrap();
    let word = |address| memory.read_word(address).unwrap();
    assert_eq!(
        [word(0x20), word(0x28), word(0xF8)],
        [0x0D15_EA5E, 0x0180_0000, 400_000_000]
    );
    assert_eq!([word(0x3118), word(0x3120)], [0x0400_0000, 0x9360_0000]);
    assert_eq!([word(0x3124), word(0x3128)], [0x9000_0800, 0x935E_0000]);
    assert_eq!(
        [word(0x3130), word(0x3134), word(0x3140)],
        [0x935E_0000, 0x9360_0000, 0]
    );
    assert_eq!(
        [word(0x1804), word(0x1808)],
        [u32::from_be_bytes(*b"STUB"), u32::from_be_bytes(*b"HAXX")]
    );
}

#[test]
fn the_shim_clears_bss_before_it_copies_sections() {
    let mut dol = Guest::new().log(&SECTORS).exit(0).dol();
    // A bss range over the code and a word behind it that QEMU sets before the reset.
    for (position, value) in [(0xD8, ENTRY), (0xDC, 0x2000u32)] {
        dol[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }
    let image = Image::new(&dol, Some(common::sample::elf()));
    let dirt = "loader,addr=0x5000,data=0x12345678,data-len=4";
    let outcome = run(Emulator::Qemu, &image)
        .qemu_arguments(["-device", dirt])
        .success(&tools())
        .unwrap();
    assert_eq!(outcome.memory.unwrap().read_word(0x5000).unwrap(), 0);
}

#[test]
fn a_bad_dol_is_refused_by_name_in_both_emulators() {
    let good = Guest::new().exit(0).dol();
    let patched = |position: usize, value: u32| {
        let mut dol = good.clone();
        dol[position..position + 4].copy_from_slice(&value.to_be_bytes());
        Image::new(&dol, None)
    };
    for (position, value, text) in [
        (0x00, 0x0060_0000, "section 0 is outside the file"),
        (0x00, 0xFFFF_FFF0, "section 0 is outside the file"),
        (0x48, 0x8000_1800, "section 0 at 0x80001800"),
        (0x48, 0x8132_FBF0, "section 0 at 0x8132fbf0"),
        (
            0xE0,
            0x8000_3FFC,
            "entry point 0x80003ffc is not in a text section",
        ),
    ] {
        let report = failure(run(Emulator::Qemu, &patched(position, value)).success(&tools()));
        assert!(
            report.contains("the boot shim gave up: boot.dol: ") && report.contains(text),
            "{report}"
        );
    }
    let error = run(Emulator::Dolphin, &patched(0xE0, 0))
        .to_end(&tools())
        .err()
        .unwrap();
    assert!(matches!(error, Error::Image { .. }), "{error}");
}

#[test]
fn a_damaged_boot_dol_leads_back_to_the_loader() {
    let boot = tools().program("boot").unwrap().dol;
    let mut dol = std::fs::read(boot).unwrap();
    // Near the end: of what is packed.
    let place = dol.len() - 0x1000;
    dol[place] ^= 1;
    for emulator in BOTH {
        let text = failure(run(emulator, &Image::new(&dol, None)).success(&tools()));
        assert!(text.contains("left no exit status"), "{text}");
    }
}

#[test]
fn a_crash_before_the_guest_has_vectors_is_told_with_its_registers() {
    let guest = Guest::new();
    let crash_at = guest.here() + 16;
    let image = guest.store(0x3000_0000, 0xBAD).hang().image();
    let outcome = run(Emulator::Qemu, &image).to_end(&tools()).unwrap();
    let crash = outcome
        .crash
        .as_ref()
        .unwrap_or_else(|| panic!("{outcome}"));
    assert_eq!(
        (crash.vector, crash.srr0, crash.dar),
        (0x300, crash_at, 0x3000_0000)
    );
    assert_eq!(
        (crash.gpr[4], crash.gpr[5], crash.gpr.len()),
        (0x3000_0000, 0xBAD, 32)
    );
    assert!(failure(outcome.check()).contains("exception 0x300, data storage"));
}

#[test]
fn nothing_interrupts_a_guest_that_has_not_asked_for_it() {
    // Ten periods of the machine's PC-style timer.
    let image = Guest::new().enable_interrupts().hang().image();
    let run = run(Emulator::Qemu, &image).time_limit(Duration::from_millis(550));
    let outcome = run.to_end(&tools()).unwrap();
    assert!(
        matches!(outcome.end, End::TimeLimit(_)) && outcome.crash.is_none(),
        "{outcome}"
    );
}

#[test]
fn a_missing_shim_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let tools = Tools {
        images: folder.path().to_owned(),
        ..tools()
    };
    let image = Guest::new().exit(0).image();
    let error = run(Emulator::Qemu, &image)
        .to_end(&tools)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("shim.elf") && error.contains("cargo xtask test"),
        "{error}"
    );
}

#[test]
fn a_refused_option_is_told_in_qemus_words() {
    let image = Guest::new().exit(0).image();
    let error = run(Emulator::Qemu, &image)
        .qemu_arguments(["-device", "no-such-device"])
        .to_end(&tools());
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("'no-such-device' is not a valid device model name"),
        "{error}"
    );
}

#[test]
fn a_complaint_of_qemu_fails_a_run_unless_it_is_tolerated() {
    let image = Guest::new().log(&SECTORS).exit(0).image_with_table();
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    // QEMU warns of an image whose format it must guess.
    let drive = format!("if=none,id=guess,file={}", disk.path().display());
    let run = run(Emulator::Qemu, &image).qemu_arguments(["-drive", &drive]);
    let text = failure(run.success(&tools()));
    assert!(
        text.contains("QEMU complained: WARNING: Image format was not specified"),
        "{text}"
    );
    let tolerant = run
        .tolerate("Image format")
        .tolerate("raw")
        .tolerate("'raw' format explicitly");
    tolerant.success(&tools()).unwrap();
}

#[test]
fn sticks_are_attached_in_order_and_an_untouched_controller_transfers_nothing() {
    let image = Guest::new().log(&SECTORS).hang().image_with_table();
    let disk = tempfile::Builder::new().prefix("a,b").tempfile().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    let run = run(Emulator::Qemu, &image)
        .read_only_stick(disk.path())
        .read_only_stick(disk.path())
        .audit_dma();
    let mut machine = run.start(&tools()).unwrap();
    machine.wait_for("sectors").unwrap();
    let sticks = machine.qmp().unwrap().human("info usb").unwrap();
    assert!(
        sticks.contains("ID: stick0") && sticks.contains("ID: stick1"),
        "{sticks}"
    );
    let outcome = machine.abandon().unwrap();
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!(
        (audit.transfers, audit.outside_mem2, &outcome.complaints[..]),
        (0, 0, &[][..])
    );
}

#[test]
fn a_stick_can_be_pulled_and_plugged_in_again_while_the_guest_polls() {
    let image = Guest::new().log(&SECTORS).hang().image_with_table();
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    let mut machine = run(Emulator::Qemu, &image)
        .stick(disk.path())
        .start(&tools())
        .unwrap();
    machine.wait_for("sectors").unwrap();
    let mut sticks = |act: fn(&mut Machine) -> Result<(), Error>| {
        let acted = act(&mut machine).map_err(|error| error.to_string());
        let sticks = machine.qmp().unwrap().human("info usb").unwrap();
        (acted, sticks.contains("ID: stick0"))
    };
    assert_eq!(sticks(|_| Ok(())), (Ok(()), true));
    assert_eq!(sticks(|machine| machine.unplug(0)), (Ok(()), false));
    assert_eq!(sticks(|machine| machine.plug(0)), (Ok(()), true));
    let (twice, there) = sticks(|machine| machine.plug(0));
    assert!(twice.is_err() && there);
    assert_eq!(
        machine.qmp().unwrap().human("info status").unwrap().trim(),
        "VM status: running"
    );
}

/// Runs a guest that sends one SETUP packet until the controller has done what it will do.
fn send_setup(descriptors: u32, alias: u32, buffer: u32) -> dolphin_tests::Outcome {
    let guest = Guest::new()
        .log(&SECTORS)
        .setup_packet(descriptors, alias, buffer)
        .log(&[SECTORS, SECTORS].concat());
    let image = guest.hang().image_with_table();
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    let run = run(Emulator::Qemu, &image)
        .stick(disk.path())
        .audit_dma()
        .time_limit(Duration::from_millis(500));
    run.to_end(&tools()).unwrap()
}

#[test]
fn the_audit_counts_what_the_controller_does_within_mem2() {
    let outcome = send_setup(0x1010_0000, 0xD010_0000, 0x1020_0000);
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!(
        (audit.transfers, audit.bytes, audit.outside_mem2),
        (1, 8, 0),
        "{outcome}"
    );
    assert!(
        audit.descriptors >= 2 && audit.guest_bugs.is_empty(),
        "{outcome}"
    );
    assert!(outcome.complaints.is_empty(), "{outcome}");
}

#[test]
fn the_audit_finds_an_untranslated_buffer_that_qemu_lets_pass() {
    let outcome = send_setup(0x1010_0000, 0xD010_0000, 0x8020_0000);
    let audit = outcome.audit.as_ref().unwrap();
    assert_eq!((audit.transfers, audit.outside_mem2), (1, 1), "{outcome}");
    let violation = &audit.violations[0];
    assert_eq!(
        (violation.kind, violation.address),
        (dolphin_tests::Kind::DataOut, 0x8020_0000)
    );
    assert!(
        outcome
            .reasons()
            .iter()
            .any(|reason| reason.contains("1 DMA addresses outside MEM2"))
    );
}

#[test]
fn a_buffer_in_mem1_reaches_no_memory() {
    let outcome = send_setup(0x1010_0000, 0xD010_0000, 0x0020_0000);
    assert!(
        outcome
            .complaints
            .iter()
            .any(|line| line.starts_with("Invalid read at addr 0x200000")),
        "{outcome}"
    );
    assert_eq!(outcome.audit.unwrap().outside_mem2, 1);
}

#[test]
fn descriptors_in_mem1_are_found() {
    let outcome = send_setup(0x0010_0000, 0xC010_0000, 0x1020_0000);
    let audit = outcome.audit.as_ref().unwrap();
    assert!(
        audit.outside_mem2 > 0 && audit.violations[0].kind == dolphin_tests::Kind::QueueHead,
        "{outcome}"
    );
}

#[test]
fn the_cache_model_of_dolphin_is_on_unless_the_fast_core_is_chosen() {
    // A cached store that nobody writes back.
    let image = Guest::new()
        .store(0x9100_0000, 0xD1DD)
        .log(&SECTORS)
        .exit(0)
        .image_with_table();
    for (core, in_memory) in [(DolphinCore::CacheModel, 0), (DolphinCore::Fast, 0xD1DD)] {
        let outcome = run(Emulator::Dolphin, &image)
            .dolphin_core(core)
            .success(&tools())
            .unwrap();
        assert_eq!(
            outcome.memory.unwrap().read_word(0x1100_0000).unwrap(),
            in_memory,
            "{core:?}"
        );
    }
}

#[test]
fn qemu_has_no_gecko() {
    let image = Guest::new().exit(0).image();
    let run = run(Emulator::Qemu, &image).gecko();
    assert!(matches!(run.start(&tools()), Err(Error::Unsupported(_))));
}

#[test]
fn what_the_usb_gecko_sends_is_decoded() {
    let guest = SECTORS
        .iter()
        .fold(Guest::new().log(&SECTORS), |guest, &byte| guest.gecko(byte));
    let image = guest.hang().image_with_table();
    let outcome = run(Emulator::Dolphin, &image)
        .gecko()
        .time_limit(Duration::from_secs(3))
        .to_end(&tools());
    let outcome = outcome.unwrap();
    let messages: Vec<_> = outcome
        .gecko
        .iter()
        .map(|frame| frame.message.as_str())
        .collect();
    assert_eq!(messages, ["sectors: 2048"], "{outcome}");
}

#[test]
fn four_runs_at_once_do_not_meet() {
    let runs: Vec<_> = (1..5u8)
        .map(|status| {
            std::thread::spawn(move || {
                let emulator = BOTH[usize::from(status) % 2];
                let image = Guest::new().log(&SECTORS).exit(status).image_with_table();
                let outcome = run(emulator, &image).to_end(&tools()).unwrap();
                assert_eq!(
                    (outcome.status, outcome.frames.len()),
                    (Some(status), 1),
                    "{outcome}"
                );
            })
        })
        .collect();
    for run in runs {
        run.join().unwrap();
    }
}

/// Folder of a running machine, by the open output file of its emulator.
fn folder(machine: &Machine) -> PathBuf {
    let output = std::fs::read_link(format!("/proc/{}/fd/1", machine.process_id())).unwrap();
    output.parent().unwrap().to_owned()
}

fn alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn dropping_a_machine_ends_its_emulator_and_removes_its_files() {
    let image = Guest::new().log(&SECTORS).hang().image_with_table();
    for emulator in BOTH {
        let mut machine = run(emulator, &image).start(&tools()).unwrap();
        machine.wait_for("sectors").unwrap();
        let (process, folder) = (machine.process_id(), folder(&machine));
        assert!(alive(process) && folder.exists());
        drop(machine);
        assert!(!alive(process) && !folder.exists());
    }
}

#[test]
fn a_panicking_test_leaves_nothing_behind() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let image = Guest::new().hang().image();
        let machine = run(Emulator::Qemu, &image).start(&tools()).unwrap();
        sender
            .send((machine.process_id(), folder(&machine)))
            .unwrap();
        panic!("on purpose");
    });
    let (process, folder) = receiver.recv().unwrap();
    assert!(test.join().is_err());
    assert!(!alive(process) && !folder.exists());
}

/// What the next test starts, interrupts and looks after: a run that says where it is and never ends.
fn victim(emulator: &str) {
    let emulator = if emulator == "Qemu" {
        Emulator::Qemu
    } else {
        Emulator::Dolphin
    };
    let image = Guest::new().log(&SECTORS).hang().image_with_table();
    let mut machine = run(emulator, &image).start(&tools()).unwrap();
    machine.wait_for("sectors").unwrap();
    println!(
        "victim {} {}",
        machine.process_id(),
        folder(&machine).display()
    );
    machine.to_end().unwrap();
}

#[test]
fn an_interrupted_or_killed_test_process_leaves_nothing_behind() {
    let name = "an_interrupted_or_killed_test_process_leaves_nothing_behind";
    if let Ok(emulator) = std::env::var("HARNESS_VICTIM") {
        return victim(&emulator);
    }
    for (emulator, signal) in [
        (Emulator::Qemu, "INT"),
        (Emulator::Qemu, "KILL"),
        (Emulator::Dolphin, "INT"),
    ] {
        let mut test = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("HARNESS_VICTIM", format!("{emulator:?}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(test.stdout.take().unwrap()).lines();
        let line = lines
            .map(Result::unwrap)
            .find(|line| line.contains("victim ") && line.contains('/'))
            .unwrap();
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "victim")
            .skip(1);
        let process: u32 = words.next().unwrap().parse().unwrap();
        let folder = PathBuf::from(words.next().unwrap());
        assert!(alive(process) && folder.exists());
        assert!(
            Command::new("kill")
                .args(["-s", signal, &test.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        test.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while (alive(process) || folder.exists()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!alive(process), "{emulator:?} survived SIG{signal}");
        assert!(
            !folder.exists(),
            "{} survived SIG{signal}",
            folder.display()
        );
    }
}
