//! The same descriptors on two controllers that nobody wrote from one another: the simulated Hollywood's and QEMU's. Both must make the same of
//! them, byte for byte and bit for bit, but for the differences that are listed here with their reasons.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use dolphin_tests::Qtest;
use hollywood_sim::{
    Memory,
    controller::{Config, Controller},
    device::{Function, MassStorage, Short, disk::Disk},
    scenario::{Bus, Host, Script, Transcript, blocks},
};
use tempfile::NamedTempFile;

const BLOCKS: usize = 128;

/// Where the two differ in a step's status words: ours, theirs, and why.
struct Difference {
    script: Script,
    step: &'static str,
    ours: &'static [u32],
    theirs: &'static [u32],
    why: &'static str,
}

const fn differs(
    script: Script,
    step: &'static str,
    ours: &'static [u32],
    theirs: &'static [u32],
    why: &'static str,
) -> Difference {
    Difference {
        script,
        step,
        ours,
        theirs,
        why,
    }
}

const TOGGLE: &str = "QEMU moves a qTD at once and flips the toggle once; the specification flips it with every packet (EHCI, 4.10.3)";
const REFUSED: &str = "QEMU refuses a request in its setup stage; a device has to accept SETUP and to stall what follows (USB 2.0, 8.5.3.4)";
const STALLED: &str = "QEMU counts the bytes of a stalled packet as moved; the specification counts what was acknowledged (EHCI, 4.10.3)";
const ABSENT: &str = "QEMU waits for ever for a device that is not there; the specification has three time-outs and halts (EHCI, 4.15.1.1)";

const DIFFERENCES: &[Difference] = &[
    differs(Script::Read, "read", &[0x1d00], &[0x8000_1d00], TOGGLE),
    differs(Script::Read, "read", &[0x8000_8d00], &[0x8d00], TOGGLE),
    differs(Script::Read, "overlay", &[0x8000_8d00], &[0x8d00], TOGGLE),
    differs(
        Script::Read,
        "read",
        &[0xd00, 0x8000_0d00, 0x8000_1d00],
        &[0x8000_0d00, 0xd00, 0x8000_1d00],
        TOGGLE,
    ),
    differs(
        Script::Read,
        "read",
        &[0x5d00, 0x8000_0d00],
        &[0x8000_5d00, 0xd00],
        TOGGLE,
    ),
    differs(Script::Read, "read", &[0x8d00], &[0x8000_8d00], TOGGLE),
    differs(Script::Read, "overlay", &[0x8d00], &[0x8000_8d00], TOGGLE),
    differs(
        Script::Write,
        "read back",
        &[0x8000_9d00],
        &[0x9d00],
        TOGGLE,
    ),
    differs(
        Script::Write,
        "read back",
        &[0x8d00],
        &[0x8000_8d00],
        TOGGLE,
    ),
    differs(
        Script::Stall,
        "no such descriptor",
        &[0x8000_8e00, 0x8008_8d40, 0x8000_8c80],
        &[0x8000_8e40, 0x8008_8d80, 0x8000_8c80],
        REFUSED,
    ),
    differs(
        Script::Stall,
        "no command",
        &[0x001f_8c40, 0x001f_8c80],
        &[0x8000_8c40, 0x001f_8c80],
        STALLED,
    ),
    differs(
        Script::Unplug,
        "too late",
        &[0x0200_8148],
        &[0x0200_8d80],
        ABSENT,
    ),
];

/// QEMU's controller. A test that cannot talk to it has failed.
struct Qemu(Qtest);

impl Bus for Qemu {
    fn read_register(&mut self, offset: u32) -> u32 {
        self.0.register(offset).unwrap()
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        self.0.set_register(offset, value).unwrap();
    }

    fn read_memory(&mut self, address: u32, len: u32) -> Vec<u8> {
        self.0.memory(address, len).unwrap()
    }

    fn write_memory(&mut self, address: u32, bytes: &[u8]) {
        let mut words = bytes.to_vec();
        words.resize(bytes.len().next_multiple_of(4), 0);
        self.0.set_memory(address, &words).unwrap();
    }

    fn advance_us(&mut self, us: u64) {
        std::thread::sleep(Duration::from_micros(us));
    }

    fn unplug(&mut self, _port: usize) {
        self.0.unplug().unwrap();
    }
}

/// The simulated controller, with a stick that says of itself what QEMU's does.
fn model() -> Controller {
    let memory = Arc::new(Memory::new(0, 0x8_0000));
    let controller = Controller::new(memory, Config::QEMU);
    let mut stick = MassStorage::new([Disk::of(512, blocks(BLOCKS))]);
    // What the firmware's users see: data are padded, never stalled.
    stick.short = Short::Pad;
    let descriptors = &mut stick.descriptors;
    // idVendor, idProduct, bcdDevice; iConfiguration, bmAttributes, bMaxPower.
    descriptors.device[8..14].copy_from_slice(&[0xf4, 0x46, 0x01, 0x00, 0x00, 0x00]);
    descriptors.configuration[6..9].copy_from_slice(&[5, 0xc0, 0]);
    controller.plug(0, stick.plug());
    controller
}

fn qemu() -> (Qemu, NamedTempFile) {
    let program = std::env::var_os("WIISTICK_QEMU").map(PathBuf::from);
    let program = program.expect("WIISTICK_QEMU names no QEMU");
    let image = NamedTempFile::new().unwrap();
    fs::write(image.path(), blocks(BLOCKS)).unwrap();
    (Qemu(Qtest::start(&program, image.path()).unwrap()), image)
}

/// Runs a script on both. They take the same steps, and the same bytes arrive. Returns the status words that differ.
fn compare(script: Script) -> Vec<(String, Vec<u32>, Vec<u32>)> {
    let (qemu, image) = qemu();
    let ours: Transcript = script.run(&mut Host::new(model()));
    let theirs: Transcript = script.run(&mut Host::new(qemu));
    assert!(ours.len() > 5, "{script:?} does nothing");
    let what = |steps: &Transcript| -> Vec<&str> { steps.iter().map(|step| step.what).collect() };
    assert_eq!(what(&ours), what(&theirs), "{script:?}");
    let mut different = Vec::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.bytes, theirs.bytes, "{script:?}, {}: bytes", ours.what);
        if ours.status != theirs.status {
            let status = [&ours.status, &theirs.status].map(Clone::clone);
            let [ours_status, theirs_status] = status;
            different.push((ours.what.to_owned(), ours_status, theirs_status));
        }
    }
    let written = fs::read(image.path()).unwrap();
    let same = written == blocks(BLOCKS);
    assert_eq!(
        same,
        script != Script::Write,
        "what is on the stick of {script:?}"
    );
    different
}

/// Checks that the differences of a script are those of the list, in its order.
fn check(script: Script) {
    let found = compare(script);
    let listed = DIFFERENCES
        .iter()
        .filter(|difference| difference.script == script);
    let listed = listed.map(|difference| {
        assert!(!difference.why.is_empty());
        let Difference {
            step, ours, theirs, ..
        } = difference;
        (step.to_string(), ours.to_vec(), theirs.to_vec())
    });
    let listed: Vec<_> = listed.collect();
    assert!(
        found == listed,
        "{script:?}: found {found:#x?}, listed {listed:#x?}"
    );
}

#[test]
fn enumerate_is_the_same() {
    check(Script::Enumerate);
}

#[test]
fn read_is_the_same() {
    check(Script::Read);
}

#[test]
fn write_is_the_same() {
    check(Script::Write);
}

#[test]
fn short_read_is_the_same() {
    check(Script::ShortRead);
}

#[test]
fn stall_is_the_same() {
    check(Script::Stall);
}

#[test]
fn unplug_is_the_same() {
    check(Script::Unplug);
}
