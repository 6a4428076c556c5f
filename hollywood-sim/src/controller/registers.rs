//! Registers: capability, operational, and the vendor's (EHCI, 2; hardware notes, 3.2 to 3.4).

use super::port::Port;
use super::{Config, Doorbell, Ehci};
use crate::memory::Doing;
use crate::{Access, Rule};

/// Physical address of the registers on a Wii; reports use it.
pub(super) const BASE: u32 = 0x0d04_0000;

pub(super) mod command {
    pub const RUN: u32 = 1 << 0;
    pub const RESET: u32 = 1 << 1;
    pub const PERIODIC: u32 = 1 << 4;
    pub const ASYNC: u32 = 1 << 5;
    pub const DOORBELL: u32 = 1 << 6;
    pub const THRESHOLD: u32 = 0xff << 16;
    /// After power-on: threshold of eight microframes, frame list of 1024 entries.
    pub const INITIAL: u32 = 8 << 16;
}

pub(super) mod status {
    pub const TRANSFER: u32 = 1 << 0;
    pub const ERROR: u32 = 1 << 1;
    pub const PORT_CHANGE: u32 = 1 << 2;
    pub const ROLLOVER: u32 = 1 << 3;
    pub const SYSTEM_ERROR: u32 = 1 << 4;
    pub const ADVANCE: u32 = 1 << 5;
    pub const CHANGES: u32 = 0x3f;
    /// Interrupts of these wait for the threshold (4.15).
    pub const PATIENT: u32 = TRANSFER | ERROR | ADVANCE;
    pub const HALTED: u32 = 1 << 12;
    pub const RECLAMATION: u32 = 1 << 13;
    pub const PERIODIC: u32 = 1 << 14;
    pub const ASYNC: u32 = 1 << 15;
}

/// A controller's registers do not change by themselves but here.
pub(super) struct Registers {
    pub command: u32,
    pub status: u32,
    pub enable: u32,
    /// FRINDEX, in microframes.
    pub frame: u32,
    pub segment: u32,
    pub periodic: u32,
    pub asynchronous: u32,
    pub configured: u32,
    /// Words from 0x90 to 0xCC.
    pub vendor: [u32; 16],
    /// When a reset that software began is over.
    pub reset_ends: Option<u64>,
    /// Interrupts that the threshold has let pass.
    pub passed: u32,
}

/// Where the interrupt enable of the vendor's block is (hardware notes, 3.4).
const CHICKEN: usize = (0xcc - 0x90) / 4;
const EHCI_INTERRUPT: u32 = 1 << 15;

impl Registers {
    pub(super) fn new() -> Self {
        let mut vendor = [0; 16];
        // What the console's own software leaves there.
        vendor[CHICKEN] = 0x111;
        Self {
            command: command::INITIAL,
            status: status::HALTED,
            enable: 0,
            frame: 0,
            segment: 0,
            periodic: 0,
            asynchronous: 0,
            configured: 0,
            vendor,
            reset_ends: None,
            passed: 0,
        }
    }

    /// What HCRESET resets: all but the vendor's block (2.3.1).
    fn reset(&mut self) {
        *self = Self {
            vendor: self.vendor,
            ..Self::new()
        };
    }

    pub(super) fn has(&self, bits: u32) -> bool {
        self.command & bits != 0
    }

    pub(super) fn halted(&self) -> bool {
        self.status & status::HALTED != 0
    }

    /// The number of entries of the frame list (2.3.1).
    pub(super) fn frame_list(&self) -> u32 {
        [1024, 512, 256, 1024][(self.command >> 2 & 3) as usize]
    }

    /// Interrupt threshold in microframes, at least one.
    pub(super) fn threshold(&self) -> u64 {
        u64::from((self.command & command::THRESHOLD) >> 16).max(1)
    }

    /// Whether the interrupt line is up, past the gate of the vendor's block.
    pub(super) fn interrupt(&self, gated: bool) -> bool {
        let ready = self.passed | !status::PATIENT;
        let open = !gated || self.vendor[CHICKEN] & EHCI_INTERRUPT != 0;
        open && self.status & self.enable & status::CHANGES & ready != 0
    }
}

impl Config {
    /// CAPLENGTH and HCIVERSION (2.2.1, 2.2.2).
    fn capability(&self) -> u32 {
        0x0100_0000 | u32::from(self.cap_length)
    }

    /// HCSPARAMS (2.2.3): no port power switches, as many ports for each companion as it takes.
    fn structure(&self) -> u32 {
        let [ports, companions] = [self.ports, self.companions].map(u32::from);
        let each = ports.checked_div(companions).unwrap_or(0);
        companions << 12 | each << 8 | ports
    }

    /// HCCPARAMS (2.2.4).
    fn parameters(&self) -> u32 {
        u32::from(self.isochronous_threshold & 15) << 4
            | u32::from(self.programmable_frame_list) << 1
    }
}

impl Ehci {
    /// Reads the word at `offset` from the first capability register.
    #[track_caller]
    pub(super) fn read(&mut self, offset: u32) -> u32 {
        let cap = u32::from(self.config.cap_length);
        let r = &self.registers;
        match offset {
            0x00 => self.config.capability(),
            0x04 => self.config.structure(),
            0x08 => self.config.parameters(),
            0x0c => 0,
            0x90..=0xcc if self.config.vendor && offset.is_multiple_of(4) => {
                r.vendor[(offset as usize - 0x90) / 4]
            }
            _ => match offset.wrapping_sub(cap) {
                0x00 => r.command,
                0x04 => r.status,
                0x08 => r.enable,
                0x0c => r.frame,
                0x10 => r.segment,
                0x14 => r.periodic,
                0x18 => r.asynchronous,
                0x40 => r.configured,
                port if self.port_at(port).is_some() => self
                    .port_at(port)
                    .map_or(0, |index| self.ports[index].read()),
                _ => {
                    self.misuse(offset, "read of no register");
                    0
                }
            },
        }
    }

    /// Writes the word at `offset` from the first capability register.
    #[track_caller]
    pub(super) fn write(&mut self, offset: u32, value: u32) {
        let cap = u32::from(self.config.cap_length);
        if self.config.vendor && (0x90..=0xcc).contains(&offset) && offset.is_multiple_of(4) {
            self.registers.vendor[(offset as usize - 0x90) / 4] = value;
            return;
        }
        let running = |bits| self.registers.status & bits != 0;
        let wrong = match offset.wrapping_sub(cap) {
            0x00 => {
                self.write_command(offset, value);
                None
            }
            0x04 => {
                self.registers.status &= !(value & status::CHANGES);
                self.registers.passed &= !(value & status::CHANGES);
                None
            }
            0x08 => {
                self.registers.enable = value & status::CHANGES;
                None
            }
            0x0c if !self.registers.halted() => Some("FRINDEX written while running (2.3.4)"),
            0x0c => {
                self.registers.frame = value & 0x3fff;
                None
            }
            0x10 if value != 0 => Some("CTRLDSSEGMENT of a 32-bit controller (2.3.5)"),
            0x10 => None,
            0x14 => {
                let wrong = running(status::PERIODIC)
                    .then_some("PERIODICLISTBASE written while its schedule runs (2.3.6)");
                self.registers.periodic = value & !0xfff;
                wrong.or_else(|| {
                    (value & 0xfff != 0).then_some("PERIODICLISTBASE not at a page (2.3.6)")
                })
            }
            0x18 => {
                let wrong = running(status::ASYNC)
                    .then_some("ASYNCLISTADDR written while its schedule runs (2.3.7)");
                self.registers.asynchronous = value & !31;
                wrong.or_else(|| {
                    (value & 31 != 0).then_some("ASYNCLISTADDR not a multiple of 32 (2.3.7)")
                })
            }
            0x40 => {
                self.configure(value & 1);
                None
            }
            port => match self.port_at(port) {
                Some(index) => {
                    let halted = self.registers.halted();
                    self.ports[index].write(value, self.now, halted)
                }
                None => Some("write to no register"),
            },
        };
        if let Some(wrong) = wrong {
            self.misuse(offset, wrong);
        }
    }

    fn port_at(&self, operational: u32) -> Option<usize> {
        let index = operational.checked_sub(0x44)?;
        let index = index.is_multiple_of(4).then_some(index as usize / 4)?;
        (index < self.ports.len()).then_some(index)
    }

    #[track_caller]
    fn write_command(&mut self, offset: u32, value: u32) {
        use command::*;
        let old = self.registers.command;
        if value & RESET != 0 {
            if !self.registers.halted() {
                self.misuse(offset, "reset of a running controller (2.3.1)");
            }
            self.registers.command |= RESET;
            if !self.faults.reset_never_ends {
                self.registers.reset_ends = Some(self.now + 2);
            }
            return;
        }
        // Software changes an enable only while the schedule is as it said last (2.3.1).
        let schedules = [(PERIODIC, status::PERIODIC), (ASYNC, status::ASYNC)];
        for (enable, runs) in schedules {
            let settled = (old & enable != 0) == (self.registers.status & runs != 0);
            if (old ^ value) & enable != 0 && !settled && !self.registers.halted() {
                self.misuse(
                    offset,
                    "schedule enable changed before its status followed (2.3.1)",
                );
            }
        }
        if value & RUN != 0 && !self.registers.halted() && old & RUN == 0 {
            self.misuse(offset, "run before the controller has halted (2.3.1)");
        }
        if value & DOORBELL != 0 && old & DOORBELL == 0 {
            self.ring(offset);
        }
        let sizes = if self.config.programmable_frame_list {
            3 << 2
        } else {
            0
        };
        let writable = RUN | PERIODIC | ASYNC | THRESHOLD | sizes;
        // A doorbell stays up until it is answered.
        let doorbell = (old | value) & DOORBELL;
        self.registers.command = value & writable | doorbell;
        if value & RUN != 0 {
            self.registers.status &= !status::HALTED;
        }
    }

    #[track_caller]
    fn ring(&mut self, offset: u32) {
        if self.registers.status & status::ASYNC == 0 {
            self.misuse(
                offset,
                "doorbell although the schedule does not run (2.3.1)",
            );
        }
        self.statistics.doorbells += 1;
        self.asynchronous.ring();
    }

    /// CONFIGFLAG routes all ports to this controller, or to the companions (2.3.8, 4.2).
    fn configure(&mut self, value: u32) {
        if value != self.registers.configured {
            for port in &mut self.ports {
                port.set_owner(value == 0);
            }
        }
        self.registers.configured = value;
    }

    /// The end of HCRESET.
    pub(super) fn reset(&mut self) {
        self.registers.reset();
        self.master.forget();
        self.asynchronous.stop();
        self.periodic.stop();
        self.hung = false;
        for port in &mut self.ports {
            let device = port.device.take();
            *port = Port::new();
            port.device = device;
        }
    }

    /// Answers the doorbell (4.8.2).
    pub(super) fn answer_doorbell(&mut self) {
        match self.faults.doorbell {
            Doorbell::Dead => {}
            Doorbell::Silent => self.registers.command &= !command::DOORBELL,
            Doorbell::Works => {
                self.registers.command &= !command::DOORBELL;
                self.registers.status |= status::ADVANCE;
            }
        }
    }

    /// A transfer ended: with an error, or so that software wants to know.
    pub(super) fn completed(&mut self, interrupt: bool, error: bool) {
        let bits = [(interrupt, status::TRANSFER), (error, status::ERROR)];
        for (happened, bit) in bits {
            if !happened {
                continue;
            }
            match self.faults.lost_interrupts.checked_sub(1) {
                Some(left) => self.faults.lost_interrupts = left,
                None => self.registers.status |= bit,
            }
        }
    }

    /// Reports a register that was used in a way that the specification leaves undefined.
    #[track_caller]
    pub(super) fn misuse(&self, offset: u32, what: &'static str) {
        let doing = Doing::here(Access::Register(what));
        self.master
            .memory
            .accuse(Rule::Register, BASE + offset, 4, doing);
    }
}
