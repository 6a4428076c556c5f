//! Sticks that stall, babble, lie, dawdle and vanish, behind QEMU's `usb-redir`. Whatever they do, the firmware says what was
//! wrong, within a bound, loses no memory, and the next stick works.

mod common;

use common::hostile::{At, Effect, Fault, HostileStick};
use common::sticks::{events, files_of, read_files, tools};
use dolphin_tests::{Emulator, Outcome, Run, StickImage, noise};
use hollywood_sim::device::{
    MassStorage,
    disk::{Disk, Medium},
};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{io, process::ExitCode, sync::LazyLock, time::Duration};
use tempfile::NamedTempFile;
use wiistick::report::Event;

/// What must come of a stick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The files arrive nevertheless, without an error.
    Recovered,
    /// An error whose message contains this; the next one's files arrive.
    Error(&'static str),
    /// It is no stick: nothing is read, and that is no error.
    LeftAlone,
}

/// A way to be hostile.
struct Scenario {
    name: &'static str,
    faults: &'static [Fault],
    /// The firmware may write to it.
    writes: bool,
    /// Changes to the stick before it is plugged in.
    changes: fn(&mut MassStorage),
    verdict: Verdict,
}

const READ: u8 = 0x28;
const WRITE: u8 = 0x2A;
const INQUIRY: u8 = 0x12;
const READ_CAPACITY: u8 = 0x25;
const TEST_UNIT_READY: u8 = 0x00;
const GET_DESCRIPTOR: u8 = 6;
const SET_CONFIGURATION: u8 = 9;
const ALWAYS: u32 = u32::MAX;

const fn unchanged(_: &mut MassStorage) {}

/// Misbehaves at the second such transfer.
const fn once(at: At, effect: Effect) -> Fault {
    Fault {
        at,
        effect,
        skip: 1,
        times: 1,
    }
}

/// Misbehaves from the second such transfer on.
const fn from_then_on(at: At, effect: Effect) -> Fault {
    Fault {
        at,
        effect,
        skip: 1,
        times: ALWAYS,
    }
}

/// Misbehaves from the first such transfer on.
const fn always(at: At, effect: Effect) -> Fault {
    Fault {
        at,
        effect,
        skip: 0,
        times: ALWAYS,
    }
}

const fn faulty(name: &'static str, faults: &'static [Fault], verdict: Verdict) -> Scenario {
    Scenario {
        name,
        faults,
        writes: false,
        changes: unchanged,
        verdict,
    }
}

const fn writing(name: &'static str, faults: &'static [Fault], verdict: Verdict) -> Scenario {
    Scenario {
        writes: true,
        ..faulty(name, faults, verdict)
    }
}

const fn changed(name: &'static str, changes: fn(&mut MassStorage), verdict: Verdict) -> Scenario {
    Scenario {
        name,
        faults: &[],
        writes: false,
        changes,
        verdict,
    }
}

use Verdict::{Error, LeftAlone, Recovered};

const SCENARIOS: &[Scenario] = &[
    // Not hostile at all: the control.
    faulty("well-behaved", &[], Recovered),
    // Stalls, in each phase.
    faulty(
        "stall-command-once",
        &[once(At::Command(READ), Effect::Stall)],
        Recovered,
    ),
    faulty(
        "stall-data-once",
        &[once(At::Data(READ), Effect::Stall)],
        Recovered,
    ),
    faulty(
        "stall-status-once",
        &[once(At::Status(READ), Effect::Stall)],
        Recovered,
    ),
    faulty(
        "stall-command",
        &[from_then_on(At::Command(READ), Effect::Stall)],
        Error("stalled where it must not"),
    ),
    // Data come where the status should be.
    faulty(
        "stall-data",
        &[from_then_on(At::Data(READ), Effect::Stall)],
        Error("sent more than it was asked for"),
    ),
    faulty(
        "stall-status",
        &[from_then_on(At::Status(READ), Effect::Stall)],
        Error("stalled where it must not"),
    ),
    faulty(
        "stall-inquiry",
        &[always(At::Data(INQUIRY), Effect::Stall)],
        Error("INQUIRY: the device broke the protocol"),
    ),
    faulty(
        "stall-configuration",
        &[always(At::Request(SET_CONFIGURATION), Effect::Stall)],
        Error("enumeration"),
    ),
    faulty(
        "stall-descriptors",
        &[always(At::Request(GET_DESCRIPTOR), Effect::Stall)],
        Error("enumeration"),
    ),
    changed(
        "bad-medium",
        |stick| stick.disks[0] = Disk::new(BadMedium, 512, 1000),
        Error("medium"),
    ),
    // Babble and failing transactions.
    faulty(
        "babble-data-once",
        &[once(At::Data(READ), Effect::Babble)],
        Recovered,
    ),
    faulty(
        "babble-data",
        &[from_then_on(At::Data(READ), Effect::Babble)],
        Error("sent more than it was asked for"),
    ),
    faulty(
        "babble-status",
        &[from_then_on(At::Status(READ), Effect::Babble)],
        Error("sent more than it was asked for"),
    ),
    faulty(
        "fail-data-once",
        &[once(At::Data(READ), Effect::Fail)],
        Recovered,
    ),
    faulty(
        "fail-data",
        &[from_then_on(At::Data(READ), Effect::Fail)],
        Error("transmission errors"),
    ),
    // Lies in the status wrapper.
    faulty(
        "wrong-tag-once",
        &[once(
            At::Status(READ),
            Effect::Change(|status| status[4] ^= 0xFF),
        )],
        Recovered,
    ),
    faulty(
        "wrong-tag",
        &[from_then_on(
            At::Status(READ),
            Effect::Change(|status| status[4] ^= 0xFF),
        )],
        Error("wrong command status"),
    ),
    faulty(
        "wrong-signature",
        &[from_then_on(
            At::Status(READ),
            Effect::Change(|status| status[0] = b'X'),
        )],
        Error("wrong command status"),
    ),
    faulty(
        "phase-error-once",
        &[once(
            At::Status(READ),
            Effect::Change(|status| status[12] = 2),
        )],
        Recovered,
    ),
    faulty(
        "phase-error",
        &[from_then_on(
            At::Status(READ),
            Effect::Change(|status| status[12] = 2),
        )],
        Error("phase error"),
    ),
    faulty(
        "unknown-status",
        &[from_then_on(
            At::Status(READ),
            Effect::Change(|status| status[12] = 77),
        )],
        Error("wrong command status"),
    ),
    faulty(
        "failed-without-sense",
        &[from_then_on(
            At::Status(READ),
            Effect::Change(|status| status[12] = 1),
        )],
        Error("failed the command (sense 0/00/00)"),
    ),
    faulty(
        "residue-of-everything",
        &[from_then_on(
            At::Status(READ),
            Effect::Change(|status| status[8..12].fill(0xFF)),
        )],
        Error("wrong length or with impossible values"),
    ),
    faulty(
        "short-status",
        &[from_then_on(At::Status(READ), Effect::Short(12))],
        Error("wrong command status"),
    ),
    faulty(
        "empty-status",
        &[from_then_on(At::Status(READ), Effect::Short(0))],
        Error("wrong command status"),
    ),
    // Less data than it claims.
    faulty(
        "short-data",
        &[from_then_on(At::Data(READ), Effect::Short(512))],
        Error("sent less than it was asked for"),
    ),
    faulty(
        "no-data",
        &[from_then_on(At::Data(READ), Effect::Short(0))],
        Error("sent less than it was asked for"),
    ),
    faulty(
        "short-inquiry",
        &[always(At::Data(INQUIRY), Effect::Short(4))],
        Recovered,
    ),
    faulty(
        "short-capacity",
        &[always(At::Data(READ_CAPACITY), Effect::Short(4))],
        Error("READ CAPACITY: "),
    ),
    // Late, or never.
    faulty(
        "late-data",
        &[once(
            At::Data(READ),
            Effect::Late(Duration::from_millis(1500)),
        )],
        Recovered,
    ),
    faulty(
        "silent-data-once",
        &[once(At::Data(READ), Effect::Silence)],
        Recovered,
    ),
    faulty(
        "silent-command",
        &[from_then_on(At::Command(READ), Effect::Silence)],
        Error("did not answer in time"),
    ),
    faulty(
        "silent-descriptors",
        &[always(At::Request(GET_DESCRIPTOR), Effect::Silence)],
        Error("does not say what it is"),
    ),
    // Gone.
    faulty(
        "vanish-at-command",
        &[once(At::Command(READ), Effect::Vanish)],
        Error("unplugged"),
    ),
    faulty(
        "vanish-at-data",
        &[once(At::Data(READ), Effect::Vanish)],
        Error("unplugged"),
    ),
    faulty(
        "vanish-at-status",
        &[once(At::Status(READ), Effect::Vanish)],
        Error("unplugged"),
    ),
    faulty(
        "vanish-at-enumeration",
        &[once(At::Request(GET_DESCRIPTOR), Effect::Vanish)],
        Error("enumeration"),
    ),
    faulty(
        "vanish-at-ready",
        &[once(At::Command(TEST_UNIT_READY), Effect::Vanish)],
        Error("unplugged"),
    ),
    // While it is written to.
    writing("write-well-behaved", &[], Recovered),
    writing(
        "write-stall-command-once",
        &[once(At::Command(WRITE), Effect::Stall)],
        Recovered,
    ),
    writing(
        "write-stall-status-once",
        &[once(At::Status(WRITE), Effect::Stall)],
        Recovered,
    ),
    writing(
        "write-fail-data",
        &[from_then_on(At::Data(WRITE), Effect::Fail)],
        Error("transmission errors"),
    ),
    writing(
        "write-wrong-tag",
        &[from_then_on(
            At::Status(WRITE),
            Effect::Change(|status| status[4] ^= 0xFF),
        )],
        Error("wrong command status"),
    ),
    writing(
        "write-vanish-at-data",
        &[once(At::Data(WRITE), Effect::Vanish)],
        Error("unplugged"),
    ),
    writing(
        "write-vanish-at-status",
        &[once(At::Status(WRITE), Effect::Vanish)],
        Error("unplugged"),
    ),
    // Lies in descriptors.
    changed("no-endpoints", without_endpoints, LeftAlone),
    changed(
        "endless-configuration",
        |stick| stick.descriptors.configuration[2..4].fill(0xFF),
        Error("65535 bytes"),
    ),
    changed(
        "longer-than-it-is",
        |stick| stick.descriptors.configuration[2] = 200,
        Error("Invalid descriptor"),
    ),
    changed(
        "descriptor-of-no-length",
        |stick| stick.descriptors.configuration[9] = 0,
        Error("an impossible length"),
    ),
    changed(
        "packets-of-no-bytes",
        |stick| stick.descriptors.configuration[22..24].fill(0),
        Error("opening the device"),
    ),
    changed(
        "packets-too-large",
        |stick| stick.descriptors.configuration[22..24].fill(0xFF),
        Error("opening the device"),
    ),
    changed(
        "control-packets-of-no-bytes",
        |stick| stick.descriptors.device[7] = 0,
        Error("Invalid descriptor"),
    ),
    changed(
        "short-device-descriptor",
        |stick| stick.descriptors.device.truncate(7),
        Error("Invalid descriptor"),
    ),
    // The first is there nevertheless.
    changed(
        "no-configuration",
        |stick| stick.descriptors.device[17] = 0,
        Recovered,
    ),
    // Lies of the disk.
    changed(
        "no-blocks",
        |stick| stick.disks[0].claimed_blocks = Some(0),
        Error("beyond the end of the stick"),
    ),
    changed(
        "more-blocks-than-there-are",
        |stick| stick.disks[0].claimed_blocks = Some(1 << 40),
        Recovered,
    ),
    faulty(
        "block-size-of-0",
        &[always(
            At::Data(READ_CAPACITY),
            Effect::Change(|data| data[4..8].fill(0)),
        )],
        Error("READ CAPACITY: "),
    ),
    faulty(
        "block-size-of-513",
        &[always(
            At::Data(READ_CAPACITY),
            Effect::Change(|data| data[7] = 1),
        )],
        Error("blocks of 513 bytes are not supported"),
    ),
    changed(
        "no-medium",
        |stick| stick.disks[0].present = false,
        Error("the medium is not ready (sense 2/3a/00)"),
    ),
    changed(
        "slow-to-become-ready",
        |stick| stick.disks[0].becoming_ready = 5,
        Recovered,
    ),
    changed("no-units", |stick| stick.disks.clear(), Error("INQUIRY: ")),
];

/// Its interface has none, and says so.
fn without_endpoints(stick: &mut MassStorage) {
    let configuration = &mut stick.descriptors.configuration;
    configuration.truncate(18);
    (configuration[2], configuration[13]) = (18, 0);
}

/// Cannot be read anywhere.
struct BadMedium;

impl Medium for BadMedium {
    fn read(&mut self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Other.into())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Other.into())
    }
}

fn contents() -> StickImage {
    StickImage::new(16, 24)
        .file("small.txt", noise("small", 700))
        .file("large.bin", noise("large", 600_000))
}

static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = NamedTempFile::new().unwrap();
    contents().write(file.path()).unwrap();
    std::fs::read(file.path()).unwrap()
});

/// The stick that comes after, with other contents.
fn next() -> StickImage {
    StickImage::new(16, 24).file("after.bin", noise("after", 100_001))
}

impl Scenario {
    /// The firmware waits 1.5 s for a stick. On a machine that is busy enough a stick comes later than that, which says nothing
    /// of the firmware: then once more.
    fn run(&self) -> Result<(), Failed> {
        for _ in 0..4 {
            let outcome = self.play()?;
            if self.is_met(&outcome) {
                return self.judge(&outcome);
            }
        }
        self.judge(&self.play()?)
    }

    /// Whether the firmware met both sticks in time, the next one on the second port.
    fn is_met(&self, outcome: &Outcome) -> bool {
        let next = |event: &Event<String>| matches!(event, Event::Stick { port: 1, .. });
        events(outcome).iter().any(next)
    }

    fn play(&self) -> Result<Outcome, Failed> {
        let tools = tools();
        let file = NamedTempFile::new()?;
        next().write(file.path())?;
        let (faults, changes) = (self.faults, self.changes);
        let run = Run::new(Emulator::Qemu, tools.program("boot")?)
            .argument(if self.writes { "" } else { "read-only" })
            .device(move || {
                let mut stick = MassStorage::new([Disk::of(512, IMAGE.clone())]);
                changes(&mut stick);
                Box::new(HostileStick::new(stick, faults))
            })
            .later_stick(file.path())
            // What the controller's model says of a queue whose device is gone, and of a schedule that is stopped because the
            // machine is too busy to answer a doorbell.
            .tolerate("no device attached to queue")
            .tolerate("guest stopped busy async schedule")
            .audit_dma()
            .time_limit(Duration::from_secs(90));
        let mut machine = run.start(&tools)?;
        // The next one comes when the firmware is through with the first.
        while let Some(frame) = machine.next_frame()? {
            let over = match frame.event() {
                Some(Event::StickDone { .. } | Event::Error { stick: None, .. }) => true,
                _ => frame.message.contains("left alone"),
            };
            if over {
                // Fails if the firmware did not wait so long.
                let _ = machine.plug(0);
                break;
            }
        }
        Ok(machine.to_end()?)
    }

    fn judge(&self, outcome: &Outcome) -> Result<(), Failed> {
        let wrong = |what: String| Err(Failed::from(format!("{what}\n{outcome}")));
        let errors: Vec<String> = events(outcome)
            .into_iter()
            .filter_map(|event| match event {
                Event::Error { message, .. } => Some(message),
                _ => None,
            })
            .collect();
        println!("{}: {errors:?} in {:.1?}", self.name, outcome.elapsed);
        let mut expected = files_of(&next());
        match self.verdict {
            Recovered if !errors.is_empty() => return wrong(format!("not recovered: {errors:?}")),
            Recovered => expected.extend(files_of(&contents())),
            LeftAlone if !errors.is_empty() => return wrong(format!("not left alone: {errors:?}")),
            LeftAlone => {}
            Error(text) => {
                if !errors.iter().any(|error| error.contains(text)) {
                    return wrong(format!("no error says {text:?}: {errors:?}"));
                }
            }
        }
        let read = read_files(outcome);
        for (path, file) in expected {
            if read.get(&path) != Some(&file) {
                return wrong(format!("{path} did not arrive"));
            }
        }
        // The program says itself that there were errors; all else must be in order.
        let status = u8::from(matches!(self.verdict, Error(_)));
        let told = format!("the guest ended with status {status}");
        let reasons = outcome.reasons();
        if outcome.status != Some(status) || reasons.iter().any(|reason| *reason != told) {
            return wrong("something else is wrong".into());
        }
        let bounce = events(outcome).into_iter().find_map(|event| match event {
            Event::Bounce(counters) => Some((counters.live, counters.quarantined)),
            _ => None,
        });
        if bounce != Some((0, 0)) {
            return wrong(format!("memory is left behind: {bounce:?}"));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time they wait for a stick that says nothing.
    arguments.test_threads.get_or_insert(4);
    // Made before a guest runs that would not wait for it.
    LazyLock::force(&IMAGE);
    let trials = SCENARIOS
        .iter()
        .map(|scenario| Trial::test(scenario.name, || scenario.run()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
