//! An experiment: what the controller does with small transfers to either memory, and with its interrupt. Nobody has
//! published it for Hollywood, so it is recorded, and nothing is expected.
//!
//! It reads a stick's device descriptor again and again, past the driver and its bounce memory: the driver's asynchronous
//! schedule is switched off, one of the experiment's own takes its place, then the driver's comes back (EHCI 1.0, section 4.8).
//! The driver must not be at work meanwhile. Each transfer goes to a page that holds nothing else, so that whatever the
//! controller does wrong within a page is seen and does no harm.

use core::fmt::{self, Write};

use ehci::layout::{qh, qtd};
use ehci::memory::Coherent;
use ehci::platform::hollywood::enable_interrupt;
use ehci::registers::Registers;
use ehci::registers::operational::{ASYNCLISTADDR, USBCMD, USBINTR, USBSTS};

/// Bytes of each page.
pub const PAGE: usize = 4096;

/// USBCMD and USBSTS bits (EHCI 1.0, sections 2.3.1 and 2.3.2).
const RUN: u32 = 1 << 0;
const ASYNC_ENABLE: u32 = 1 << 5;
const DOORBELL: u32 = 1 << 6;
/// USBINT and USBERRINT.
const CAUSES: u32 = 1 << 0 | 1 << 1;
const HOST_SYSTEM_ERROR: u32 = 1 << 4;
const HALTED: u32 = 1 << 12;
const ASYNC_RUNS: u32 = 1 << 15;

/// Places in the page of the schedule: a queue head, three qTDs, each with room for 64-bit addresses, and a setup packet.
const HEAD: usize = 0x00;
const SETUP: usize = 0x80;
const DATA: usize = 0xC0;
const STATUS: usize = 0x100;
const REQUEST: usize = 0x140;
/// Bits of a token and of a link (sections 3.5.3 and 3.5.1).
const ACTIVE: u32 = 1 << 7;
const STOPPED: u32 = 1 << 6;
const END: u32 = 1;

/// Longest time for the schedule to start or stop, and for a transfer, in microseconds.
const SCHEDULE_US: u64 = 20_000;
const TRANSFER_US: u64 = 100_000;
/// Where data go in their page, with room before and after.
const MIDDLE: usize = 0x800;
const FILL: u32 = 0xA5A5_A5A5;
const DESCRIPTOR_BYTES: usize = 18;

/// The machine around the controller.
pub trait Surroundings {
    /// Returns a time in microseconds that never goes back.
    fn now_us(&self) -> u64;

    /// Lets a moment pass.
    fn pause(&self);

    /// Says whether the controller's interrupt has arrived at this processor's flags, where they can be seen.
    fn flag(&self) -> Option<bool>;

    /// Clears that flag.
    fn clear_flag(&self);
}

/// What the experiment needs.
pub struct Bench<'b> {
    /// The controller's registers.
    pub registers: &'b dyn Registers,
    /// A page for descriptors, at a multiple of 4096.
    pub schedule: &'b dyn Coherent,
    /// A page of MEM2.
    pub mem2: &'b dyn Coherent,
    /// A page of MEM1.
    pub mem1: &'b dyn Coherent,
    /// The rest.
    pub around: &'b dyn Surroundings,
}

/// Why a transfer could not be tried, or did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The controller is stopped.
    Stopped,
    /// The driver's doorbell is under way.
    Doorbell,
    /// The schedule does not stop, or does not start.
    Schedule,
    /// It has not ended in time. The token of the queue head.
    Time(u32),
    /// The device or the bus failed. The token of the queue head.
    Halted(u32),
    /// The controller had an error of its own (host system error). USBSTS.
    Controller(u32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the controller is stopped"),
            Self::Doorbell => f.write_str("the driver is at work"),
            Self::Schedule => f.write_str("the schedule does not obey"),
            Self::Time(token) => write!(f, "no end in time, token {token:#010x}"),
            Self::Halted(token) => write!(f, "halted, token {token:#010x}"),
            Self::Controller(status) => write!(f, "host system error, USBSTS {status:#010x}"),
        }
    }
}

/// Times of a transfer, in microseconds from its start.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// The last descriptor was written back.
    written_back: u64,
    /// USBSTS told of the interrupt.
    status: Option<u64>,
    /// The interrupt arrived at the processor's flags.
    flag: Option<u64>,
    /// The flag came back after it was cleared with the cause in place, and after the cause was cleared.
    again: [Option<bool>; 2],
}

impl Bench<'_> {
    /// Does the experiment with the device at an address, and writes down what happened.
    ///
    /// # Errors
    /// Those of `text`.
    pub fn run(&self, device: u8, text: &mut dyn Write) -> fmt::Result {
        let device = u32::from(device & 0x7F);
        if self.around.flag().is_some() {
            enable_interrupt(self.registers);
        }
        let mut expected = [0; DESCRIPTOR_BYTES];
        match self.transfer(device, self.mem2, MIDDLE, DESCRIPTOR_BYTES) {
            Ok(_) => self.copy(&mut expected),
            Err(failure) => return writeln!(text, "! 18 bytes to MEM2: {failure}"),
        }
        self.interrupts(device, text)?;
        for (name, memory) in [("MEM2", self.mem2), ("MEM1", self.mem1)] {
            writeln!(text, "\n# Bytes from a device to {name}")?;
            // Every remainder of a word, then every alignment that somebody has found to matter.
            let lengths = [18, 17, 16, 15, 14, 13, 8, 7, 6, 5, 4, 3, 2, 1];
            let offsets = [1, 2, 3, 4, 8, 16];
            let lengths = lengths.into_iter().map(|length| (length, 0));
            let offsets = offsets.into_iter().map(|offset| (DESCRIPTOR_BYTES, offset));
            for (length, offset) in lengths.chain(offsets) {
                write!(text, "{length} at {offset}: ")?;
                match self.transfer(device, memory, MIDDLE + offset, length) {
                    Ok(_) => self.compare(memory, offset, expected.get(..length), text)?,
                    Err(failure) => {
                        writeln!(text, "{failure}")?;
                        // Another transfer would tell nothing more.
                        if !matches!(failure, Failure::Halted(_)) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// How the controller's interrupt behaves.
    fn interrupts(&self, device: u32, text: &mut dyn Write) -> fmt::Result {
        const TRANSFERS: u32 = 8;
        writeln!(text, "\n# Interrupts of {TRANSFERS} transfers")?;
        let (mut seen, mut flagged) = (0, 0);
        for _ in 0..TRANSFERS {
            let times = match self.transfer(device, self.mem2, MIDDLE, DESCRIPTOR_BYTES) {
                Ok(times) => times,
                Err(failure) => return writeln!(text, "! {failure}"),
            };
            seen += u32::from(times.status.is_some());
            flagged += u32::from(times.flag.is_some());
            write!(text, "written back {} us", times.written_back)?;
            for (name, at) in [("USBSTS", times.status), ("flag", times.flag)] {
                match at {
                    Some(at) => write!(text, ", {name} {at}")?,
                    None => write!(text, ", {name} never")?,
                }
            }
            for (name, again) in ["cause", "no cause"].into_iter().zip(times.again) {
                if let Some(again) = again {
                    write!(text, ", again with {name}: {again}")?;
                }
            }
            writeln!(text)?;
        }
        writeln!(text, "{seen} in USBSTS, {flagged} at the processor's flags")
    }

    /// Copies what lies in MEM2.
    fn copy(&self, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            *byte = byte_of(self.mem2, MIDDLE + index);
        }
    }

    /// Writes down what is where in a page, beside what should be.
    fn compare(
        &self,
        memory: &dyn Coherent,
        offset: usize,
        expected: Option<&[u8]>,
        text: &mut dyn Write,
    ) -> fmt::Result {
        let (expected, start) = (expected.unwrap_or_default(), MIDDLE + offset);
        let mut differences = 0;
        for at in 0..PAGE {
            let found = byte_of(memory, at);
            let inside = at.checked_sub(start).and_then(|index| expected.get(index));
            let right = inside.copied().unwrap_or(FILL as u8);
            if found == right {
                continue;
            }
            differences += 1;
            // Enough to see the pattern, and little enough for all transfers to fit the page.
            if differences <= 6 {
                let place = at as i32 - start as i32;
                match inside {
                    Some(_) if found == FILL as u8 => write!(text, "{place} lost; ")?,
                    Some(_) => write!(text, "{place} is {found:#04x} for {right:#04x}; ")?,
                    None => write!(text, "{place} became {found:#04x}; ")?,
                }
            }
        }
        match differences {
            0 => writeln!(text, "right"),
            _ => writeln!(text, "{differences} bytes wrong"),
        }
    }

    /// Reads `length` bytes of the device descriptor to an offset of a page, which is filled before.
    fn transfer(
        &self,
        device: u32,
        memory: &dyn Coherent,
        offset: usize,
        length: usize,
    ) -> Result<Times, Failure> {
        for at in (0..PAGE).step_by(4) {
            memory.store(at, FILL);
        }
        let command = self.read(USBCMD);
        if command & RUN == 0 || self.read(USBSTS) & HALTED != 0 {
            return Err(Failure::Stopped);
        }
        if command & DOORBELL != 0 {
            return Err(Failure::Doorbell);
        }
        self.fill_schedule(device, memory.bus_address() + offset as u32, length as u32);
        let (idle, busy) = (command & !ASYNC_ENABLE, command | ASYNC_ENABLE);
        if !self.follows(command) || !self.obeys(idle) {
            return Err(Failure::Schedule);
        }
        let (list, enabled) = (self.read(ASYNCLISTADDR), self.read(USBINTR));
        self.write(ASYNCLISTADDR, self.schedule.bus_address());
        self.write(USBINTR, CAUSES);
        self.write(USBSTS, CAUSES);
        self.around.clear_flag();
        let mut result = Err(Failure::Schedule);
        if self.obeys(busy) {
            result = self.watch();
        }
        let stopped = self.obeys(idle);
        self.write(USBINTR, enabled);
        self.write(ASYNCLISTADDR, list);
        if !stopped || !self.obeys(command) {
            result = result.and(Err(Failure::Schedule));
        }
        result
    }

    /// Follows a transfer to its end.
    fn watch(&self) -> Result<Times, Failure> {
        /// Time for an interrupt to arrive after everything else has, in microseconds.
        const LATE_US: u64 = 2_000;
        let started = self.around.now_us();
        let (mut times, mut end) = (Times::default(), None);
        loop {
            let now = self.around.now_us() - started;
            let status = self.read(USBSTS);
            let token = self.schedule.load(HEAD + qh::TOKEN);
            if status & (HOST_SYSTEM_ERROR | HALTED) != 0 {
                return Err(Failure::Controller(status));
            }
            if token & STOPPED != 0 {
                return Err(Failure::Halted(token));
            }
            if status & CAUSES != 0 {
                times.status.get_or_insert(now);
            }
            if self.around.flag() == Some(true) {
                times.flag.get_or_insert(now);
            }
            if end.is_none() && self.schedule.load(STATUS + qtd::TOKEN) & ACTIVE == 0 {
                (times.written_back, end) = (now, Some(now));
            }
            let all = times.status.is_some() && times.flag.is_some();
            match end {
                Some(end) if all || now - end > LATE_US => break,
                None if now > TRANSFER_US => return Err(Failure::Time(token)),
                _ => self.around.pause(),
            }
        }
        if times.flag.is_some() {
            for (cause, again) in [0, CAUSES].into_iter().zip(&mut times.again) {
                self.write(USBSTS, cause);
                self.around.clear_flag();
                self.around.pause();
                *again = self.around.flag();
            }
        }
        Ok(times)
    }

    /// Writes USBCMD and waits until the schedule follows, unless the controller has stopped itself: then it stays stopped, for the
    /// driver to find out.
    #[inline(never)]
    fn obeys(&self, command: u32) -> bool {
        let running = self.read(USBCMD) & RUN;
        self.write(USBCMD, command & !RUN | running);
        self.follows(command)
    }

    /// Waits until the schedule is on or off as `command` says. Nobody may think differently before (EHCI 1.0, section 2.3.1).
    #[inline(never)]
    fn follows(&self, command: u32) -> bool {
        let started = self.around.now_us();
        loop {
            let status = self.read(USBSTS);
            if (status & ASYNC_RUNS != 0) == (command & ASYNC_ENABLE != 0) || status & HALTED != 0 {
                return true;
            }
            if self.around.now_us() - started > SCHEDULE_US {
                return false;
            }
            self.around.pause();
        }
    }

    /// Reads an operational register.
    #[inline(never)]
    fn read(&self, register: usize) -> u32 {
        let base = self.registers.read(0) as usize & 0xFF;
        self.registers.read(base + register)
    }

    /// Writes one.
    #[inline(never)]
    fn write(&self, register: usize, value: u32) {
        let base = self.registers.read(0) as usize & 0xFF;
        self.registers.write(base + register, value);
    }

    /// One queue head that leads to itself, with a control transfer (EHCI 1.0, sections 3.5 and 3.6).
    fn fill_schedule(&self, device: u32, buffer: u32, length: u32) {
        let memory = self.schedule;
        for at in (0..REQUEST + 8).step_by(4) {
            memory.store(at, 0);
        }
        let bus = |at: usize| memory.bus_address() + at as u32;
        // High speed, toggles from qTDs, head of the ring, packets of 64 bytes (USB 2.0, section 5.5.3).
        let endpoint = device | 2 << 12 | 1 << 14 | 1 << 15 | 64 << 16;
        memory.store(HEAD + qh::HORIZONTAL, bus(HEAD) | 2);
        memory.store(HEAD + qh::CHARACTERISTICS, endpoint);
        memory.store(HEAD + qh::CAPABILITIES, 1 << 30);
        memory.store(HEAD + qh::NEXT, bus(SETUP));
        memory.store(HEAD + qh::ALTERNATE, END);
        // GET_DESCRIPTOR of the device (USB 2.0, section 9.4.3).
        memory.store(REQUEST, 0x0100_0680);
        memory.store(REQUEST + 4, length << 16);
        let (input, setup, interrupt, one) = (1 << 8, 2 << 8, 1 << 15, 1 << 31);
        let attempts = ACTIVE | 3 << 10;
        for (at, next, token, buffer) in [
            (SETUP, bus(DATA), attempts | setup | 8 << 16, bus(REQUEST)),
            (
                DATA,
                bus(STATUS),
                attempts | input | length << 16 | one,
                buffer,
            ),
            (STATUS, END, attempts | interrupt | one, 0),
        ] {
            memory.store(at + qtd::NEXT, next);
            // After a short packet the status stage follows.
            memory.store(at + qtd::ALTERNATE, if at == DATA { next } else { END });
            memory.store(at + qtd::TOKEN, token);
            memory.store(at + qtd::BUFFER, buffer);
        }
    }
}

fn byte_of(memory: &dyn Coherent, at: usize) -> u8 {
    let [b0, b1, b2, b3] = memory.load(at & !3).to_le_bytes();
    [b0, b1, b2, b3][at & 3]
}

#[cfg(test)]
mod tests;
