//! The order of taking and giving back, against a model of a console whose IOS does not sit still.

extern crate std;

use super::*;
use std::vec;
use std::vec::Vec;

const PORTS: u8 = 4;
/// Everything that this module's part of the console holds, as IOS58 may have it.
const LISTS: (u32, u32) = (0x1360_0000, 0x1361_0000);

/// A console. Registers do what they do there; a rule that is broken ends the test.
#[derive(Clone)]
struct Model {
    protection: u32,
    masks: [u32; 2],
    flags: [u32; 2],
    command: u32,
    status: u32,
    interrupts: u32,
    frame: u32,
    lists: (u32, u32),
    configured: u32,
    control: u32,
    ports: [u32; PORTS as usize],
    /// Pauses until a controller that was stopped has stopped, or come back from a reset.
    slow: u32,
    pending: u32,
    stuck: Option<TakeError>,
    /// At which accesses of this processor IOS starts the controller again, if it can reach it.
    starts: Vec<usize>,
    accesses: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            protection: 0xFFFF_FFFF,
            masks: [0x4000_0000, 0x0000_07F7],
            flags: [0, 0],
            command: 0x0008_0031,
            status: 0,
            interrupts: 0x37,
            frame: 0x1234,
            lists: LISTS,
            configured: 1,
            control: 0x000E_9911,
            ports: [0x1005, 0x1000, 0x3001, 0x1000],
            slow: 3,
            pending: 0,
            stuck: None,
            starts: vec![],
            accesses: 0,
        }
    }

    fn runs(&self) -> bool {
        self.command & RUN != 0 || self.status & HALTED == 0
    }

    /// Whether the other processor could drive the controller now.
    fn ios_can(&self) -> bool {
        self.protection & ACCESS != 0
    }

    fn is_masked(&self, cpu: usize) -> bool {
        self.masks[cpu] & INTERRUPT == 0
    }

    /// IOS uses its moment.
    fn ios_acts(&mut self) {
        self.accesses += 1;
        if self.starts.contains(&self.accesses) && self.ios_can() {
            self.command |= RUN;
            self.status &= !HALTED;
        }
    }

    /// Everything that IOS relies on.
    fn state(&self) -> impl PartialEq + core::fmt::Debug + use<> {
        let owners = self.ports.map(|port| port & PORT_OWNER);
        (
            (self.protection, self.masks, self.command & !DOORBELL),
            (self.interrupts, self.lists, self.configured),
            (self.control, owners, self.runs()),
        )
    }
}

impl Hardware for Model {
    fn read(&mut self, register: Register) -> u32 {
        self.ios_acts();
        match register {
            Register::AhbProt => self.protection,
            Register::PpcIrqMask => self.masks[0],
            Register::PpcIrqFlag => self.flags[0],
            Register::ArmIrqMask => self.masks[1],
            Register::ArmIrqFlag => self.flags[1],
            Register::UsbCmd => self.command,
            Register::UsbSts => self.status,
            Register::UsbIntr => self.interrupts,
            Register::FrIndex => self.frame,
            Register::PeriodicListBase => self.lists.0,
            Register::AsyncListAddr => self.lists.1,
            Register::ConfigFlag => self.configured,
            Register::PortSc(port) => self.ports[usize::from(port)],
            Register::Control => self.control,
        }
    }

    fn write(&mut self, register: Register, value: u32) {
        self.ios_acts();
        match register {
            Register::AhbProt => {
                assert_eq!((self.protection ^ value) & !ACCESS, 0, "another device");
                if self.stuck != Some(TakeError::DoesNotLock) {
                    self.protection = value;
                }
            }
            Register::PpcIrqMask | Register::ArmIrqMask => {
                let cpu = usize::from(register == Register::ArmIrqMask);
                assert_eq!(
                    (self.masks[cpu] ^ value) & !INTERRUPT,
                    0,
                    "another interrupt"
                );
                self.masks[cpu] = value;
            }
            Register::PpcIrqFlag => self.flags[0] &= !value,
            Register::ArmIrqFlag => self.flags[1] &= !value,
            Register::UsbCmd => {
                assert!(self.is_masked(1), "IOS would be woken");
                if value & HCRESET != 0 {
                    assert!(
                        !self.runs(),
                        "a reset of a running controller (EHCI 1.0, 2.3.1)"
                    );
                    assert!(!self.ios_can(), "a reset under IOS's hands");
                    (self.command, self.interrupts, self.frame) = (HCRESET | 0x0008_0000, 0, 0);
                    (self.lists, self.configured, self.status) = ((0, 0), 0, HALTED);
                    self.control &= !0xFF;
                    self.ports = self.ports.map(|port| port & !0x04 | PORT_OWNER);
                    self.pending = self.slow;
                    return;
                }
                if value & RUN != 0 && !self.runs() {
                    assert_eq!(self.lists, LISTS, "only IOS's schedule may run here");
                    self.status &= !HALTED;
                }
                self.pending = if value & RUN == 0 { self.slow } else { 0 };
                self.command = value;
            }
            Register::UsbSts => self.status &= !(value & EVENTS),
            Register::UsbIntr => self.interrupts = value,
            Register::FrIndex | Register::PeriodicListBase | Register::AsyncListAddr => {
                assert!(!self.runs(), "{register:?} of a running controller");
                assert!(!self.ios_can(), "{register:?} under IOS's hands");
                match register {
                    Register::FrIndex => self.frame = value,
                    Register::PeriodicListBase => self.lists.0 = value,
                    _ => self.lists.1 = value,
                }
            }
            Register::ConfigFlag => {
                if self.configured & 1 == 0 && value & 1 != 0 {
                    self.ports = self.ports.map(|port| port & !PORT_OWNER);
                }
                self.configured = value;
            }
            Register::PortSc(port) => {
                let port = &mut self.ports[usize::from(port)];
                *port = value & !PORT_CHANGES | *port & PORT_CHANGES & !value;
            }
            Register::Control => self.control = value,
        }
    }

    fn pause(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        if self.pending > 0 {
            return;
        }
        if self.command & HCRESET != 0 && self.stuck != Some(TakeError::DoesNotReset) {
            self.command &= !HCRESET;
        }
        if self.command & RUN == 0 && self.stuck != Some(TakeError::DoesNotStop) {
            self.status |= HALTED;
        }
    }
}

#[test]
fn what_is_taken_is_stopped_reset_and_ours_alone() {
    let mut console = Model::new();
    let _found = take(&mut console, PORTS).unwrap();
    assert!(!console.runs() && !console.ios_can());
    assert_eq!(console.lists, (0, 0), "nothing of IOS's schedule is left");
    assert!(console.is_masked(0) && console.is_masked(1));
    // The USB 1.1 controllers keep their interrupts and their access.
    assert_eq!(console.control, 0x000E_9911);
    assert_eq!(console.protection, !ACCESS);
}

#[test]
fn what_is_given_back_is_exactly_what_was_found() {
    let before = Model::new().state();
    let mut console = Model::new();
    let found = take(&mut console, PORTS).unwrap();
    // The program does what it wants.
    console.lists = (0x1340_0000, 0x1341_0000);
    (console.command, console.interrupts, console.configured) = (0x0001_0031, 0x3F, 1);
    console.status = 0x8000;
    console.masks[0] |= INTERRUPT;
    console.control |= 0x8000;
    give_back(&mut console, &found);
    assert_eq!(console.state(), before);
    assert_eq!(console.flags, [0, 0]);
}

#[test]
fn a_controller_that_ios_does_not_run_stays_stopped() {
    let mut console = Model::new();
    console.command &= !RUN;
    (console.status, console.configured) = (HALTED, 0);
    // All ports are the companions' then (EHCI 1.0, section 2.3.8).
    console.ports = console.ports.map(|port| port | PORT_OWNER);
    let before = console.state();
    let found = take(&mut console, PORTS).unwrap();
    give_back(&mut console, &found);
    assert_eq!(console.state(), before);
}

#[test]
fn ios_may_start_it_again_at_any_moment_but_the_last() {
    // The model checks every access: nothing is reset or changed while both could drive the controller.
    let accesses = {
        let mut console = Model::new();
        let _found = take(&mut console, PORTS).unwrap();
        console.accesses
    };
    let before = Model::new().state();
    for first in 1..=accesses {
        for second in [first, first + 1, first + 5, first + 40] {
            let mut console = Model::new();
            console.starts = vec![first, second];
            let found = take(&mut console, PORTS).unwrap();
            assert!(!console.runs() && !console.ios_can(), "{first} {second}");
            give_back(&mut console, &found);
            assert_eq!(console.state(), before, "{first} {second}");
        }
    }
}

#[test]
fn what_cannot_be_taken_is_left_as_it_was() {
    for stuck in [TakeError::DoesNotStop, TakeError::DoesNotLock] {
        let mut console = Model::new();
        console.stuck = Some(stuck);
        let before = console.state();
        assert_eq!(take(&mut console, PORTS), Err(stuck));
        assert_eq!(console.state(), before, "{stuck:?}");
    }
    let mut console = Model::new();
    console.stuck = Some(TakeError::DoesNotReset);
    assert_eq!(take(&mut console, PORTS), Err(TakeError::DoesNotReset));
    assert!(console.ios_can() && !console.is_masked(1));
}

#[test]
fn a_console_that_never_sits_still_is_given_up() {
    let mut console = Model::new();
    console.starts = (0..1_000_000).collect();
    // IOS starts it after every access until it is locked out.
    let result = take(&mut console, PORTS);
    assert!(matches!(result, Err(TakeError::DoesNotStop)), "{result:?}");
    assert!(console.runs() && console.ios_can());
}
