//! The EHCI controller of Hollywood: registers, ports, schedules, and time in microframes. Sections are those of the EHCI 1.0 specification.
//!
//! All its memory accesses are a device's ([`Memory`]); nothing is shared with the driver under test but registers and RAM. It moves when time does:
//!
//! ```
//! use std::sync::Arc;
//! use hollywood_sim::{Memory, controller::{Config, Controller}, device::{Function, MassStorage, disk::Disk}};
//!
//! let memory = Arc::new(Memory::new(0, 0x10_0000));
//! let controller = Controller::new(memory.clone(), Config::WII);
//! controller.plug(0, MassStorage::new([Disk::zeros(512, 2048)]).plug());
//! assert_eq!(controller.read32(0x00), 0x0100_0010, "CAPLENGTH is 0x10, the version 1.0");
//! controller.write32(0x10, 0x0008_0001); // USBCMD: run
//! controller.write32(0x50, 1); // CONFIGFLAG
//! controller.advance_us(1000);
//! assert_eq!(controller.read32(0x54) & 3, 3, "connected, and that is new");
//! assert_eq!(controller.read32(0x1c), 8, "FRINDEX counts microframes");
//! ```
//!
//! What a real controller may do early or late is up to its adversary ([`Controller::set_adversary`]): it fetches queue heads ahead and executes them as they
//! were then, writes descriptors back late, answers the doorbell late. Without one it does all at once.
//!
//! [`Faults`] are what controllers do that are broken.

mod asynchronous;
mod bus;
pub mod conformance;
mod descriptor;
mod isochronous;
mod memory;
mod periodic;
mod port;
mod queue;
mod registers;
mod split;
#[cfg(test)]
mod tests;

pub use bus::{Statistics, Traced};

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

use crate::device::{Device, Function, Inert};
use crate::{Adversary, Memory};
use asynchronous::Asynchronous;
use memory::{Master, Stop};
use periodic::Periodic;
use port::Port;
use registers::{Registers, command, status};

/// What kind of controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// CAPLENGTH: where the operational registers begin.
    pub cap_length: u8,
    /// Ports, 1 to 15.
    pub ports: u8,
    /// Companion controllers.
    pub companions: u8,
    /// Whether frame lists of 256 and 512 entries are possible.
    pub programmable_frame_list: bool,
    /// HCCPARAMS bits 7:4: how many microframes ahead isochronous descriptors may be fetched.
    pub isochronous_threshold: u8,
    /// Whether there is the vendor's block, whose bit 15 at 0xCC lets the interrupt out.
    pub vendor: bool,
    /// Byte order of the registers on the bus.
    pub byte_order: ByteOrder,
}

/// The byte order of registers on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// As on a Wii: what a big-endian CPU loads is the register.
    Big,
    /// As on PCI: a big-endian CPU has to swap.
    Little,
}

impl Config {
    /// The Wii's: four ports, two companions.
    pub const WII: Self = Self {
        cap_length: 0x10,
        ports: 4,
        companions: 2,
        programmable_frame_list: false,
        isochronous_threshold: 1,
        vendor: true,
        byte_order: ByteOrder::Big,
    };

    /// QEMU's on PCI: six ports, no companions.
    pub const QEMU: Self = Self {
        cap_length: 0x20,
        ports: 6,
        companions: 0,
        programmable_frame_list: false,
        isochronous_threshold: 8,
        vendor: false,
        byte_order: ByteOrder::Little,
    };
}

/// What becomes of a doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Doorbell {
    /// It is answered.
    #[default]
    Works,
    /// It goes down, and the status bit stays clear.
    Silent,
    /// Nothing happens.
    Dead,
}

/// What is broken about a controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// What becomes of doorbells.
    pub doorbell: Doorbell,
    /// How many of the next completions set no bit in USBSTS.
    pub lost_interrupts: u32,
    /// Halts by itself at this microframe, without a host system error.
    pub halts_at: Option<u64>,
    /// Halts with a host system error at this microframe.
    pub system_error_at: Option<u64>,
    /// At this microframe the device of this port is pulled.
    pub unplugs_at: Option<(u64, usize)>,
    /// At this microframe too much current is drawn at this port.
    pub over_current_at: Option<(u64, usize)>,
    /// Stays running when told to stop.
    pub never_halts: bool,
    /// HCRESET stays set.
    pub reset_never_ends: bool,
    /// Schedules stay as they are, whatever the enables say.
    pub schedules_never_switch: bool,
    /// Port resets stay set.
    pub port_reset_never_ends: bool,
    /// How many of the next data packets find the controller's buffer empty or full (data buffer error, 4.15.1.1.3).
    pub data_buffer_errors: u32,
}

/// A controller. Clones are the same one.
#[derive(Clone)]
pub struct Controller {
    ehci: Rc<RefCell<Ehci>>,
    memory: Arc<Memory>,
}

/// The controller's state.
struct Ehci {
    config: Config,
    master: Master,
    registers: Registers,
    ports: Vec<Port>,
    asynchronous: Asynchronous,
    periodic: Periodic,
    faults: Faults,
    statistics: Statistics,
    trace: Option<Vec<Traced>>,
    /// Microframes since power-on.
    now: u64,
    /// Microseconds of the current microframe that have passed.
    within: u64,
    /// Bus time left in this microframe, in bytes.
    time_left: u32,
    /// By how many bytes the data of queue heads go astray, by their addresses.
    astray: HashMap<u32, u32>,
    /// On an unaligned descriptor, until the reset.
    hung: bool,
    line: bool,
}

impl Controller {
    /// Switches one on. Its registers are as after a reset.
    #[track_caller]
    pub fn new(memory: Arc<Memory>, config: Config) -> Self {
        let ehci = Ehci {
            config,
            master: Master::new(memory.clone()),
            registers: Registers::new(),
            ports: (0..config.ports).map(|_| Port::new()).collect(),
            asynchronous: Asynchronous::default(),
            periodic: Periodic::default(),
            faults: Faults::default(),
            statistics: Statistics::default(),
            trace: None,
            now: 0,
            within: 0,
            time_left: 0,
            astray: HashMap::new(),
            hung: false,
            line: false,
        };
        Self {
            ehci: Rc::new(RefCell::new(ehci)),
            memory,
        }
    }

    /// Switches a Wii's on, with the console's own Bluetooth device at port 2.
    #[track_caller]
    pub fn wii(memory: Arc<Memory>) -> Self {
        let controller = Self::new(memory, Config::WII);
        controller.plug(2, Inert::bluetooth().plug());
        controller
    }

    /// The memory that it works on.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Reads the register at `offset` bytes from the first capability register, as a number.
    #[track_caller]
    pub fn read32(&self, offset: u32) -> u32 {
        self.ehci.borrow_mut().read(offset)
    }

    /// Writes a number to the register at `offset`.
    #[track_caller]
    pub fn write32(&self, offset: u32, value: u32) {
        self.ehci.borrow_mut().write(offset, value);
    }

    /// Loads from the registers as a CPU does: the bytes in the order of their addresses. Anything but aligned words breaks [`Rule::Register`](crate::Rule::Register).
    #[track_caller]
    pub fn load(&self, offset: u32, len: u32) -> Vec<u8> {
        self.check_width(offset, len);
        let word = self.read32(offset & !3);
        let bytes = match self.ehci.borrow().config.byte_order {
            ByteOrder::Big => word.to_be_bytes(),
            ByteOrder::Little => word.to_le_bytes(),
        };
        let start = (offset & 3) as usize;
        bytes[start..4.min(start + len as usize)].to_vec()
    }

    /// Stores to a register as a CPU does. Anything but an aligned word breaks [`Rule::Register`](crate::Rule::Register), and writes the whole word: there are no byte enables.
    #[track_caller]
    pub fn store(&self, offset: u32, bytes: &[u8]) {
        self.check_width(offset, bytes.len() as u32);
        let lanes = [0, 1, 2, 3].map(|lane| bytes.get(lane % bytes.len().max(1)).copied());
        let lanes = lanes.map(|lane| lane.unwrap_or(0));
        let word = match self.ehci.borrow().config.byte_order {
            ByteOrder::Big => u32::from_be_bytes(lanes),
            ByteOrder::Little => u32::from_le_bytes(lanes),
        };
        self.write32(offset & !3, word);
    }

    #[track_caller]
    fn check_width(&self, offset: u32, len: u32) {
        if len != 4 || !offset.is_multiple_of(4) {
            let what = "register access of other than 32 bits (hardware notes, 3.3)";
            self.ehci.borrow().misuse(offset, what);
        }
    }

    /// Lets 125 microseconds pass.
    #[track_caller]
    pub fn step_microframe(&self) {
        self.ehci.borrow_mut().step(Location::caller());
    }

    /// Lets time pass; what is not a whole microframe is kept for the next time.
    #[track_caller]
    pub fn advance_us(&self, us: u64) {
        let caller = Location::caller();
        let mut ehci = self.ehci.borrow_mut();
        ehci.within += us;
        while ehci.within >= 125 {
            ehci.within -= 125;
            ehci.step(caller);
        }
    }

    /// Returns the number of microframes since power-on, as [`Faults`] count them.
    pub fn microframe(&self) -> u64 {
        self.ehci.borrow().now
    }

    /// Returns the time since power-on in microseconds.
    pub fn now_us(&self) -> u64 {
        let ehci = self.ehci.borrow();
        ehci.now * 125 + ehci.within
    }

    /// Plugs a device into a port, counted from 0.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn plug(&self, port: usize, device: impl Device + 'static) {
        self.ehci.borrow_mut().ports[port].plug(Box::new(device));
    }

    /// Pulls a device out of a port, at once.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn unplug(&self, port: usize) -> Option<Box<dyn Device>> {
        let mut ehci = self.ehci.borrow_mut();
        let configured = ehci.registers.configured != 0;
        ehci.ports[port].unplug(configured)
    }

    /// Begins or ends over-current at a port.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn set_over_current(&self, port: usize, over: bool) {
        self.ehci.borrow_mut().ports[port].set_over_current(over);
    }

    /// Disables a port, as babble at the end of a frame does.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn disable_port(&self, port: usize) {
        self.ehci.borrow_mut().ports[port].disable();
    }

    /// Whether the interrupt line is up.
    pub fn interrupt(&self) -> bool {
        self.ehci.borrow().interrupt()
    }

    /// Returns what was done so far.
    pub fn statistics(&self) -> Statistics {
        let ehci = self.ehci.borrow();
        Statistics {
            fetches: ehci.master.fetches,
            ..ehci.statistics
        }
    }

    /// Changes what is broken.
    pub fn set_faults(&self, faults: Faults) {
        let mut ehci = self.ehci.borrow_mut();
        ehci.faults = faults;
        for port in &mut ehci.ports {
            port.reset_never_ends = faults.port_reset_never_ends;
        }
    }

    /// Returns what is broken.
    pub fn faults(&self) -> Faults {
        self.ehci.borrow().faults
    }

    /// Lets somebody decide what happens early or late, in place of the one before, which is returned.
    pub fn set_adversary(&self, adversary: Adversary) -> Adversary {
        std::mem::replace(&mut self.ehci.borrow_mut().master.adversary, adversary)
    }

    /// Begins to record transactions.
    pub fn start_trace(&self) {
        self.ehci.borrow_mut().trace = Some(Vec::new());
    }

    /// Returns the transactions that were recorded since it was last asked.
    pub fn take_trace(&self) -> Vec<Traced> {
        let mut ehci = self.ehci.borrow_mut();
        ehci.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Ehci {
    fn interrupt(&self) -> bool {
        self.registers.interrupt(self.config.vendor)
    }

    /// A microframe.
    fn step(&mut self, caller: &'static Location<'static>) {
        self.master.caller = caller;
        self.now += 1;
        if self.registers.reset_ends.is_some_and(|end| self.now >= end) {
            self.reset();
        }
        self.happen();
        for port in &mut self.ports {
            if port.microframe(self.now) {
                self.registers.status |= status::PORT_CHANGE;
            }
        }
        if let Err(stop) = self.work() {
            match stop {
                Stop::Hang => self.hung = true,
                Stop::HostSystemError => {
                    self.registers.status |= status::SYSTEM_ERROR;
                    self.halt();
                }
            }
        }
        if self.now.is_multiple_of(self.registers.threshold()) {
            self.registers.passed |= self.registers.status & status::PATIENT;
        }
        let line = self.interrupt();
        self.statistics.interrupts += u64::from(line && !self.line);
        self.line = line;
    }

    /// Faults whose time has come.
    fn happen(&mut self) {
        if self.faults.halts_at == Some(self.now) {
            self.halt();
        }
        if self.faults.system_error_at == Some(self.now) {
            self.halt();
            self.registers.status |= status::SYSTEM_ERROR;
        }
        if let Some((at, port)) = self.faults.unplugs_at
            && at == self.now
        {
            self.ports[port].unplug(self.registers.configured != 0);
        }
        if let Some((at, port)) = self.faults.over_current_at
            && at == self.now
        {
            self.ports[port].set_over_current(true);
        }
    }

    /// Stops at once: RUN goes down, HCHalted up (4.15.2.4).
    fn halt(&mut self) {
        self.registers.command &= !command::RUN;
        self.registers.status |= status::HALTED;
        self.registers.status &= !(status::ASYNC | status::PERIODIC);
        self.asynchronous.stop();
        self.periodic.stop();
        self.master.forget();
    }

    fn work(&mut self) -> Result<(), Stop> {
        self.master.flush()?;
        if !self.registers.has(command::RUN) {
            if !self.registers.halted() && !self.faults.never_halts {
                self.halt();
            }
            return Ok(());
        }
        self.statistics.microframes += 1;
        self.time_left = bus::MICROFRAME - bus::START_OF_FRAME;
        let worked = if self.hung { Ok(()) } else { self.schedules() };
        self.next_frame();
        worked
    }

    /// The periodic schedule first, then what time is left for the asynchronous one (4.4).
    fn schedules(&mut self) -> Result<(), Stop> {
        self.switch(command::PERIODIC, status::PERIODIC);
        self.switch(command::ASYNC, status::ASYNC);
        if self.registers.status & status::PERIODIC != 0 {
            self.run_periodic()?;
        } else {
            self.periodic.stop();
        }
        if self.registers.status & status::ASYNC != 0 {
            self.run_asynchronous()?;
        } else {
            self.asynchronous.stop();
        }
        if self.master.adversary.decide() {
            return Ok(());
        }
        self.master.flush()
    }

    /// FRINDEX counts; it rolls over where the frame list ends (2.3.2, 2.3.4).
    fn next_frame(&mut self) {
        let before = self.registers.frame;
        self.registers.frame = (before + 1) & 0x3fff;
        let entries = self.registers.frame_list() << 3;
        if (before ^ self.registers.frame) & entries != 0 {
            self.registers.status |= status::ROLLOVER;
        }
    }

    /// A schedule's status follows its enable (2.3.1, 4.6, 4.8).
    fn switch(&mut self, enable: u32, runs: u32) {
        if self.faults.schedules_never_switch {
            return;
        }
        if self.registers.has(enable) {
            self.registers.status |= runs;
        } else {
            self.registers.status &= !runs;
        }
    }
}
