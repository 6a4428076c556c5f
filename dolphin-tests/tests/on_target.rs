//! Runs the tests of the image `selftest` in both emulators, each in a boot of its own, and judges the crashes that it commits
//! on purpose. Tests are listed as `qemu::NAME` and `dolphin::NAME`.

use dolphin_tests::{Emulator, Outcome, Place, Run, Tools};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use wiistick::report;

const MACHINES: [(&str, Emulator); 2] = [("qemu", Emulator::Qemu), ("dolphin", Emulator::Dolphin)];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = Tools::from_env()
        .map_err(|error| error.to_string())
        .and_then(|tools| trials(&tools));
    match trials {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("the on-target tests could not be listed: {error}");
            ExitCode::FAILURE
        }
    }
}

type Test = Box<dyn FnOnce(&Tools) -> Result<(), Failed> + Send>;

fn trials(tools: &Tools) -> Result<Vec<Trial>, String> {
    let mut trials = Vec::new();
    let mut add = |name: String, test: Test| {
        let tools = tools.clone();
        trials.push(Trial::test(name, move || test(&tools)));
    };
    for (machine, emulator) in MACHINES {
        for name in listed(tools, emulator)? {
            let title = format!("{machine}::{name}");
            add(title, Box::new(move |tools| passes(tools, emulator, &name)));
        }
        for crash in CRASHES.iter().filter(|crash| crash.raised_by(emulator)) {
            let title = format!("{machine}::{}", crash.test);
            add(
                title,
                Box::new(move |tools| crash.is_reported(tools, emulator)),
            );
        }
        add(
            format!("{machine}::log-without-a-reader"),
            Box::new(move |tools| log_without_a_reader(tools, emulator)),
        );
    }
    add(
        "dolphin::log-through-usb-gecko".to_owned(),
        Box::new(log_through_usb_gecko),
    );
    Ok(trials)
}

fn run(tools: &Tools, emulator: Emulator, argument: &str) -> Result<Run, Failed> {
    Ok(Run::new(emulator, tools.program("selftest")?).argument(argument))
}

fn records(outcome: &Outcome) -> impl Iterator<Item = report::Event<String>> {
    outcome.frames.iter().filter_map(|frame| frame.event())
}

/// Messages for people, in order.
fn messages(outcome: &Outcome) -> impl DoubleEndedIterator<Item = &str> {
    let frames = outcome.frames.iter();
    frames
        .map(|frame| frame.message.as_str())
        .filter(|message| !message.starts_with('@'))
}

/// The tests that the image can run in this emulator. None at all is an error.
fn listed(tools: &Tools, emulator: Emulator) -> Result<Vec<String>, String> {
    let outcome = run(tools, emulator, "list")
        .map_err(|error| error.message().unwrap_or_default().to_owned())?
        .success(tools)
        .map_err(|failure| failure.to_string())?;
    let names: Vec<String> = records(&outcome)
        .filter_map(|event| match event {
            report::Event::TestListed { name } => Some(name),
            _ => None,
        })
        .collect();
    // Others may come; these may not go.
    let required = match emulator {
        Emulator::Qemu => &REQUIRED[..],
        Emulator::Dolphin => &[&REQUIRED[..], &REQUIRED_IN_DOLPHIN[..]].concat(),
    };
    for test in required {
        if !names.iter().any(|name| name == test) {
            return Err(format!("the image does not list {test} in {emulator:?}"));
        }
    }
    Ok(names)
}

const REQUIRED: [&str; 11] = [
    "mem1-aliases",
    "mem2-aliases",
    "mem2-is-not-mem1",
    "bss-is-zero",
    "data-is-right",
    "time-base-advances",
    "decrementer-interrupts",
    "handlers-return-with-all-registers",
    "log-integers",
    "log-flood",
    "arguments",
];

const REQUIRED_IN_DOLPHIN: [&str; 10] = [
    "caches-are-on",
    "cached-store-waits-for-a-clean",
    "ipc-with-maintenance-is-right",
    "ipc-uncleaned-path-is-seen-stale",
    "ipc-uncleaned-request-is-seen-stale",
    "ipc-reply-without-invalidate-is-seen-stale",
    "ipc-thousand-mixed-requests",
    "ipc-files-read-back",
    "ipc-cancelled-wait-keeps-its-memory",
    "ipc-inherited-descriptors-are-closed",
];

fn passes(tools: &Tools, emulator: Emulator, name: &str) -> Result<(), Failed> {
    let outcome = run(tools, emulator, &format!("test={name}"))?
        .argument("greeting=grüß dich, Wii")
        .argument("last")
        .success(tools)?;
    let passed = records(&outcome).any(|event| match event {
        report::Event::Test {
            name: tested,
            outcome,
            ..
        } => tested == name && outcome == report::Outcome::Passed,
        _ => false,
    });
    if !passed {
        return Err(format!("no record of a passed test\n{outcome}").into());
    }
    match name {
        "log-integers" => integers_arrive(&outcome),
        "log-flood" => flood_arrives(&outcome),
        "log-nested" => outer_messages_arrive(&outcome),
        _ => Ok(()),
    }
}

fn integers_arrive(outcome: &Outcome) -> Result<(), Failed> {
    let wanted = [
        "u8 0 255",
        "u16 258 65535",
        "u32 16909060 4294967295",
        "u64 72623859790382856 18446744073709551615",
        "u128 340282366920938463463374607431768211454",
        "i8 -128 127",
        "i16 -32768 32767",
        "i32 -2147483648 2147483647",
        "i64 -9223372036854775808 9223372036854775807",
        "i128 -170141183460469231731687303715884105728",
        "usize 4294967295 isize -2147483648",
        "f32 1.5 f64 -2.25",
        "bool true char ß",
        "str MEM2 ≠ MEM1 slice [1, 2, 255]",
        "bits 0x80001800",
    ];
    let arrived: Vec<&str> = messages(outcome).collect();
    if arrived != wanted {
        return Err(format!("sent {wanted:#?}\narrived {arrived:#?}").into());
    }
    Ok(())
}

/// Messages survive what is logged inside them, and the loss of the inner ones is told.
fn outer_messages_arrive(outcome: &Outcome) -> Result<(), Failed> {
    let told = "1 messages lost that were logged inside another";
    let wanted: Vec<String> = (0..3)
        .flat_map(|round| [format!("outer {round} chatty end"), told.to_owned()])
        .collect();
    let arrived: Vec<&str> = messages(outcome).collect();
    if arrived != wanted {
        return Err(format!("expected {wanted:#?}\narrived {arrived:#?}").into());
    }
    Ok(())
}

/// Lines of the test `log-flood`, many times the capacity of the ring.
const FLOOD: usize = 50_000;

/// With a host that reads, nothing is lost.
fn flood_arrives(outcome: &Outcome) -> Result<(), Failed> {
    let mut count = 0;
    for (number, message) in messages(outcome).enumerate() {
        if message != format!("line {number} of the flood") {
            return Err(format!("\"{message}\" in the place of line {number}").into());
        }
        count += 1;
    }
    if (count, outcome.lost) != (FLOOD, 0) {
        return Err(format!("{count} lines arrived, {} bytes were lost", outcome.lost).into());
    }
    Ok(())
}

/// Without a host that reads, the logger neither blocks nor lies: the latest lines stay, and the loss is counted.
fn log_without_a_reader(tools: &Tools, emulator: Emulator) -> Result<(), Failed> {
    let outcome = run(tools, emulator, "test=log-flood")?
        .without_reader()
        .success(tools)?;
    if outcome.lost == 0 {
        return Err("50000 lines went into a ring of 256 KiB without any loss".into());
    }
    if messages(&outcome).next_back() != Some("line 49999 of the flood") {
        return Err(format!("the last line is not in the ring\n{outcome}").into());
    }
    Ok(())
}

/// What comes through the Gecko is what comes through the ring.
fn log_through_usb_gecko(tools: &Tools) -> Result<(), Failed> {
    let outcome = run(tools, Emulator::Dolphin, "test=log-integers")?
        .gecko()
        .success(tools)?;
    integers_arrive(&outcome)?;
    if outcome.gecko != outcome.frames {
        return Err(format!("through the Gecko came {:#?}\n{outcome}", outcome.gecko).into());
    }
    Ok(())
}

/// A crash on purpose, and what must be known about it afterwards.
struct CrashTest {
    test: &'static str,
    vector: u32,
    /// DAR and DSISR, for a DSI.
    data: Option<(u32, u32)>,
    srr0: Option<u32>,
    /// A function that the back-trace must name, with its file and line.
    function: &'static str,
    /// Part of the message.
    message: &'static str,
    /// Dolphin does not raise it.
    qemu_only: bool,
}

const fn crash(test: &'static str, vector: u32, function: &'static str) -> CrashTest {
    CrashTest {
        test,
        vector,
        data: None,
        srr0: None,
        function,
        message: "",
        qemu_only: false,
    }
}

const LOAD: u32 = 0x4000_0000;
const STORE: u32 = 0x4200_0000;

const CRASHES: &[CrashTest] = &[
    CrashTest {
        message: "index out of bounds: the len is 3 but the index is 7",
        ..crash("crash-panic", 0, "panicking")
    },
    CrashTest {
        data: Some((0x3000_0000, STORE)),
        ..crash("crash-store", 0x300, "store_nowhere")
    },
    CrashTest {
        data: Some((0x3000_0004, LOAD)),
        ..crash("crash-load", 0x300, "load_nowhere")
    },
    CrashTest {
        srr0: Some(0x3000_0000),
        ..crash("crash-jump", 0x400, "jump_nowhere")
    },
    crash("crash-trap", 0x700, "trap"),
    CrashTest {
        qemu_only: true,
        ..crash("crash-illegal", 0x700, "illegal_instruction")
    },
    CrashTest {
        qemu_only: true,
        ..crash("crash-alignment", 0x600, "misaligned_reservation")
    },
    crash("crash-floating-point", 0x800, "float_with_the_fpu_off"),
    crash("crash-system-call", 0xC00, "system_call"),
    crash("crash-decrementer", 0x900, "unexpected_decrementer"),
    CrashTest {
        message: "the stack has overflowed",
        ..crash("crash-stack", 0x300, "deeper")
    },
    CrashTest {
        data: Some((0x3000_0004, LOAD)),
        ..crash("crash-twice", 0x300, "handler")
    },
    CrashTest {
        data: Some((0x3000_0004, LOAD)),
        ..crash("crash-while-logging", 0x300, "crash_while_logging")
    },
];

impl CrashTest {
    fn raised_by(&self, emulator: Emulator) -> bool {
        emulator == Emulator::Qemu || !self.qemu_only
    }

    /// The run ends by itself, with failure, and its post-mortem names cause, function, file and line.
    fn is_reported(&self, tools: &Tools, emulator: Emulator) -> Result<(), Failed> {
        let outcome = run(tools, emulator, &format!("test={}", self.test))?.to_end(tools)?;
        let wrong = |what: &str| Err(Failed::from(format!("{what}\n{outcome}")));
        if outcome.status != Some(101) {
            return wrong("the guest has not ended with a crash's status");
        }
        if outcome.reasons().is_empty() {
            return wrong("the harness takes a crash for a success");
        }
        let Some(crash) = &outcome.crash else {
            return wrong("no crash record");
        };
        if crash.vector != self.vector {
            return wrong("wrong vector");
        }
        if (self.data).is_some_and(|wanted| wanted != (crash.dar, crash.dsisr)) {
            return wrong("wrong DAR or DSISR");
        }
        if self.srr0.is_some_and(|wanted| wanted != crash.srr0) {
            return wrong("wrong SRR0");
        }
        // What the program put into its registers before the store.
        if self.test == "crash-store" {
            let gpr = |index: usize| crash.gpr.get(index).copied().unwrap_or(0);
            let registers = [5, 12, 14, 15, 16, 17, 20, 28].map(gpr);
            let put = [
                0x600D_0005,
                0x600D_0012,
                0x600D_0C74,
                0x600D_0C0D,
                0x8000_4000,
                0x600D_0017,
                0x600D_F00D,
                0x600D_0028,
            ];
            if registers != put {
                return wrong("a general-purpose register is not what the program put there");
            }
            if (crash.ctr, crash.cr, crash.lr) != (0x600D_0C74, 0x600D_0C0D, 0x8000_4000) {
                return wrong("CTR, CR or LR is not what the program put there");
            }
            // FP, IR, DR and RI were on, EE and PR off (hardware notes, section 1.2).
            if crash.srr1 & 0xE032 != 0x2032 {
                return wrong("SRR1 is not the program's machine state");
            }
        }
        if !crash.message.contains(self.message) {
            return wrong("wrong message");
        }
        let named = |place: &Place| {
            let source = place.source.as_ref();
            place.function.contains(self.function)
                && source.is_some_and(|(file, line)| file.ends_with("crashes.rs") && *line > 0)
        };
        let mut calls = crash.calls.iter();
        if !calls.any(|(_, places)| places.iter().any(named)) {
            return wrong("the back-trace does not name the function, its file and line");
        }
        Ok(())
    }
}
