//! A controller that executes the schedules, 125 microseconds at a time.
//!
//! Between microframes it holds a copy of the queue head that it fetched last, and writes back to it: a queue head that is
//! reused without waiting for the doorbell is overwritten, and touching freed memory is caught.

use super::device::{Device, Response};
use super::memory::Ram;
use crate::layout::{Pid, Slot, Token, itd, qh, qtd, sitd};
use crate::registers::{PortSc, Registers, UsbCmd, UsbSts};
use std::cell::RefCell;
use std::rc::Rc;

const OPERATIONAL: usize = 0x10;
const PORTS: usize = 4;
const STEPS_PER_MICROFRAME: usize = 13;

/// What a test may break.
#[derive(Debug, Default)]
pub struct Faults {
    pub doorbell_never_answers: bool,
    pub doorbell_answers_silently: bool,
    pub never_halts: bool,
    pub reset_never_ends: bool,
    pub async_never_stops: bool,
    pub port_reset_never_ends: bool,
    pub resume_never_ends: bool,
    pub isochronous_stands_still: bool,
}

pub struct State {
    pub now_us: u64,
    run_until: u64,
    command: u32,
    status: u32,
    pub interrupts: u32,
    frame: u32,
    periodic_base: u32,
    async_base: u32,
    pub configured: u32,
    pub ports: [u32; PORTS],
    pub vendor: u32,
    pub devices: [Option<Box<dyn Device>>; PORTS],
    pub faults: Faults,
    pub companions: u32,
    latched: Option<u32>,
    doorbell_at: Option<u32>,
    steps: u32,
    idle: bool,
    pub doorbells: u32,
    pub register_writes: Vec<(usize, u32)>,
    /// Bus addresses and sizes of data that was moved.
    pub moved: Vec<(u32, usize)>,
}

/// The machine: memory, controller, devices, clock.
#[derive(Clone)]
pub struct Machine {
    pub ram: Rc<Ram>,
    pub state: Rc<RefCell<State>>,
}

impl Machine {
    pub fn new() -> Self {
        let state = State {
            now_us: 1_000_000,
            run_until: 1_000_000,
            command: 0x0008_0000,
            status: 0x1000,
            interrupts: 0,
            frame: 0,
            periodic_base: 0,
            async_base: 0,
            configured: 0,
            ports: [0x1000; PORTS],
            vendor: 0x111,
            devices: [const { None }; PORTS],
            faults: Faults::default(),
            companions: 2,
            latched: None,
            doorbell_at: None,
            steps: 0,
            idle: false,
            doorbells: 0,
            register_writes: vec![],
            moved: vec![],
        };
        Self {
            ram: Ram::new(),
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// Lets time pass, and the controller work meanwhile.
    pub fn advance(&self, us: u64) {
        let mut state = self.state.borrow_mut();
        state.now_us += us;
        while state.run_until + 125 <= state.now_us {
            state.run_until += 125;
            state.microframe(&self.ram);
        }
    }

    pub fn plug(&self, port: usize, device: Box<dyn Device>) {
        let mut state = self.state.borrow_mut();
        state.devices[port] = Some(device);
        let low = state.devices[port]
            .as_ref()
            .is_some_and(|d| d.speed() == crate::Speed::Low);
        state.ports[port] = state.ports[port] & !0xc00 | 3 | if low { 0x400 } else { 0 };
        state.status |= 4;
    }

    pub fn unplug(&self, port: usize) -> Option<Box<dyn Device>> {
        let mut state = self.state.borrow_mut();
        let owned = state.ports[port] & 0x2000 != 0;
        state.ports[port] = if owned {
            0x1002
        } else {
            state.ports[port] & !0xd05 | 2
        };
        state.status |= 4;
        state.devices[port].take()
    }

    pub fn status(&self) -> UsbSts {
        UsbSts(self.state.borrow().status)
    }

    pub fn raise(&self, status: u32) {
        self.state.borrow_mut().status |= status;
    }
}

impl crate::Platform for Machine {
    fn now_us(&self) -> u64 {
        // Whoever asks for the time in a loop makes it pass.
        self.advance(5);
        self.state.borrow().now_us
    }

    fn prepare(&self, registers: &dyn Registers) {
        crate::platform::hollywood::enable_interrupt(registers);
    }
}

impl Registers for Machine {
    fn read(&self, offset: usize) -> u32 {
        let state = self.state.borrow();
        match offset {
            0x00 => 0x0100_0010,
            0x04 => state.companions << 12 | 2 << 8 | PORTS as u32,
            0x08 => 0,
            0xcc => state.vendor,
            _ => match offset - OPERATIONAL {
                0x00 => state.command,
                0x04 => state.status,
                0x08 => state.interrupts,
                0x0c => state.frame,
                0x14 => state.periodic_base,
                0x18 => state.async_base,
                0x40 => state.configured,
                port @ 0x44..0x54 => state.ports[(port - 0x44) / 4],
                other => panic!("read of register {other:#x}"),
            },
        }
    }

    fn write(&self, offset: usize, value: u32) {
        let mut state = self.state.borrow_mut();
        state.register_writes.push((offset, value));
        match offset {
            0xcc => state.vendor = value,
            _ => match offset - OPERATIONAL {
                0x00 => state.write_command(value),
                0x04 => state.status &= !(value & 0x3f),
                0x08 => state.interrupts = value,
                0x14 => state.periodic_base = value,
                0x18 => state.async_base = value,
                0x40 => state.configured = value,
                port @ 0x44..0x54 => state.write_port((port - 0x44) / 4, value),
                other => panic!("write of register {other:#x}"),
            },
        }
    }
}

impl State {
    fn write_command(&mut self, value: u32) {
        let value = UsbCmd(value);
        if value.reset() {
            if !self.faults.reset_never_ends {
                self.command = 0x0008_0000;
                self.status = 0x1000;
                self.interrupts = 0;
                self.configured = 0;
                self.latched = None;
                self.doorbell_at = None;
                for port in &mut self.ports {
                    *port &= !0x2104;
                }
            } else {
                self.command |= 2;
            }
            return;
        }
        if value.doorbell() && !UsbCmd(self.command).doorbell() {
            assert!(
                self.status & 0x8000 != 0,
                "doorbell although the schedule does not run (4.8.2)"
            );
            self.doorbells += 1;
            self.doorbell_at = Some(self.steps);
        }
        self.command = value.0;
        if value.run() {
            self.status &= !0x1000;
        } else if !self.faults.never_halts {
            self.status = self.status & !0xc000 | 0x1000;
            self.latched = None;
        }
    }

    fn write_port(&mut self, port: usize, value: u32) {
        let old = PortSc(self.ports[port]);
        let value = PortSc(value);
        let mut new = old.0 & !(value.0 & PortSc::CHANGES);
        if !value.enabled() {
            new &= !4;
        }
        if value.reset() && !old.reset() {
            assert!(
                !value.enabled(),
                "reset and enable written together (2.3.9)"
            );
            new = new & !4 | 0x100;
        }
        if !value.reset() && old.reset() && !self.faults.port_reset_never_ends {
            new &= !0x100;
            if let Some(device) = self.devices[port].as_mut() {
                device.reset();
                if device.speed() == crate::Speed::High {
                    new |= 4;
                }
            }
        }
        if value.owner() && !old.owner() {
            new = 0x3002;
        }
        const PLAIN: u32 = 1 << 12 | 7 << 20;
        new = new & !PLAIN | value.0 & PLAIN;
        for bit in [6, 7] {
            if value.0 & 1 << bit != 0 {
                new |= 1 << bit;
            }
        }
        if old.force_resume() && !value.force_resume() && !self.faults.resume_never_ends {
            new &= !0xc0;
        }
        self.ports[port] = new;
    }

    fn microframe(&mut self, ram: &Ram) {
        let command = UsbCmd(self.command);
        if !command.run() || self.status & 0x1000 != 0 {
            return;
        }
        self.frame = (self.frame + 1) & 0x3fff;
        if command.periodic_enable() {
            self.status |= 0x4000;
            self.periodic(ram);
        } else {
            self.status &= !0x4000;
        }
        if command.async_enable() {
            self.status |= 0x8000;
            self.idle = false;
            for _ in 0..STEPS_PER_MICROFRAME {
                self.step(ram);
                // Once around without work: the schedule sleeps until the next microframe (section 4.8.3).
                if ram.read_word(self.async_base + qh::CHARACTERISTICS as u32) & 1 << 15 != 0
                    && core::mem::replace(&mut self.idle, true)
                {
                    break;
                }
            }
        } else if !self.faults.async_never_stops {
            self.status &= !0x8000;
            self.latched = None;
        }
    }

    fn periodic(&mut self, ram: &Ram) {
        let frame = (self.frame >> 3) & 0x3ff;
        let mut link = ram.read_word(self.periodic_base + 4 * frame);
        assert!(
            link & 1 == 0,
            "frame list entry {frame} has the terminate bit (hardware notes, 3.2)"
        );
        for _ in 0..64 {
            if link & 1 != 0 {
                return;
            }
            let address = link & !0x1f;
            if link >> 1 & 3 != 1 {
                self.isochronous(ram, address, link >> 1 & 3 == 2);
                link = ram.read_word(address);
                continue;
            }
            let start_mask = ram.read_word(address + qh::CAPABILITIES as u32) & 0xff;
            if start_mask & 1 << (self.frame & 7) != 0 {
                self.visit(ram, address);
            }
            link = ram.read_word(address + qh::HORIZONTAL as u32);
        }
        panic!("endless periodic list");
    }

    /// The transaction that an isochronous descriptor has in this microframe. A split one is done whole, at its last microframe.
    fn isochronous(&mut self, ram: &Ram, at: u32, split: bool) {
        let microframe = self.frame & 7;
        let word = |offset: usize| ram.read_word(at + offset as u32);
        let (field, device, pid, limit, pages) = if split {
            let (characteristics, masks) = (word(sitd::CHARACTERISTICS), word(sitd::MASKS));
            let last = 31 - (masks >> 8 | masks & 0xff).leading_zeros();
            if microframe != last {
                return;
            }
            let pid = [Pid::Out, Pid::In][(characteristics >> 31) as usize];
            (
                sitd::STATUS,
                characteristics,
                pid,
                1023,
                [word(sitd::BUFFER), word(sitd::BUFFER_1)],
            )
        } else {
            let field = itd::SLOTS + 4 * microframe as usize;
            let page = Slot(word(field)).page() as usize;
            let pages = [page, page + 1].map(|page| match page {
                page @ 0..7 => word(itd::BUFFER + 4 * page),
                _ => 0,
            });
            let (packet, mult) = (word(itd::BUFFER + 4), word(itd::BUFFER + 8) & 3);
            let pid = [Pid::Out, Pid::In][(packet >> 11 & 1) as usize];
            (
                field,
                word(itd::BUFFER),
                pid,
                (packet & 0x7ff) * mult,
                pages,
            )
        };
        let status = word(field);
        let active = status & if split { 0x80 } else { 1 << 31 } != 0;
        if !active || self.faults.isochronous_stands_still {
            return;
        }
        let size = (status >> 16 & 0xfff & if split { 0x3ff } else { 0xfff }) as usize;
        assert!(
            size <= limit as usize,
            "a packet larger than its endpoint's"
        );
        let offset = if split { pages[0] } else { status } & 0xfff;
        let mut place: Vec<u32> = vec![];
        for index in offset..offset + size as u32 {
            place.push((pages[(index / 4096) as usize] & !0xfff) + index % 4096);
        }
        let mut packet = vec![0; size];
        if pid == Pid::Out {
            for (byte, bus) in packet.iter_mut().zip(&place) {
                ram.read(*bus, std::slice::from_mut(byte));
            }
        }
        let (address, endpoint) = ((device & 0x7f) as u8, (device >> 8 & 0xf) as u8);
        let answer = self
            .devices
            .iter_mut()
            .zip(self.ports)
            .filter(|(_, port)| port & 4 != 0)
            .filter_map(|(device, _)| device.as_mut())
            .find(|device| device.address() == address)
            .and_then(|device| device.isochronous(pid, endpoint, &packet));
        let (received, error) = match &answer {
            Some(bytes) if bytes.len() > size => (0, if split { 0x10 } else { 1 << 29 }),
            Some(bytes) => (bytes.len(), 0),
            None => (0, if split { 0x08 } else { 1 << 28 }),
        };
        for (byte, bus) in answer.iter().flatten().take(received).zip(&place) {
            ram.write(*bus, std::slice::from_ref(byte));
        }
        let kept = status & 0xffff & !if split { 0xff } else { 0 };
        let moved = if pid == Pid::In || error != 0 {
            received
        } else {
            size
        } as u32;
        let result = if split {
            kept | status & 1 << 31 | (size as u32 - moved) << 16 | error
        } else {
            kept | moved << 16 | error
        };
        ram.write_word(at + field as u32, result);
        if status & if split { 1 << 31 } else { 1 << 15 } != 0 {
            self.status |= 1;
        }
    }

    /// One queue head of the asynchronous ring: works on the one fetched before, then fetches the next.
    fn step(&mut self, ram: &Ram) {
        self.steps += 1;
        let next = match self.latched {
            None => self.async_base,
            Some(address) => {
                self.visit(ram, address);
                ram.read_word(address + qh::HORIZONTAL as u32) & !0x1f
            }
        };
        self.latched = Some(next);
        self.async_base = next;
        // Fetched twice since: whatever was held when the bell rang is not held any more.
        if let Some(at) = self.doorbell_at
            && self.steps > at + 1
            && !self.faults.doorbell_never_answers
        {
            self.doorbell_at = None;
            self.command &= !0x40;
            if !self.faults.doorbell_answers_silently {
                self.status |= 0x20;
            }
        }
    }

    fn visit(&mut self, ram: &Ram, address: u32) {
        let field = |offset: usize| ram.read_word(address + offset as u32);
        let characteristics = field(qh::CHARACTERISTICS);
        let mut token = Token(field(qh::TOKEN));
        if token.halted() {
            return;
        }
        if !token.active() {
            let (next, alternate) = (field(qh::NEXT), field(qh::ALTERNATE));
            let link = if token.bytes() != 0 && alternate & 1 == 0 {
                alternate
            } else {
                next
            };
            if link & 1 != 0 {
                return;
            }
            let at = link & !0x1f;
            let fetched = Token(ram.read_word(at + qtd::TOKEN as u32));
            if !fetched.active() {
                return;
            }
            let toggle = token.toggle();
            token = fetched;
            if characteristics & 1 << 14 == 0 {
                token.set_toggle(toggle);
            }
            ram.write_word(address + qh::CURRENT as u32, at);
            ram.write_word(address + qh::NEXT as u32, ram.read_word(at));
            ram.write_word(address + qh::ALTERNATE as u32, ram.read_word(at + 4));
            for page in 0..5 {
                let pointer = ram.read_word(at + (qtd::BUFFER + 4 * page) as u32);
                ram.write_word(address + (qh::BUFFER + 4 * page) as u32, pointer);
            }
        }
        self.idle = false;
        self.execute(ram, address, characteristics, &mut token);
        ram.write_word(address + qh::TOKEN as u32, token.0);
        if !token.active() {
            let at = ram.read_word(address + qh::CURRENT as u32);
            ram.write_word(at + qtd::TOKEN as u32, token.0);
            if token.interrupt() || token.bytes() != 0 {
                self.status |= 1;
            }
            if token.halted() {
                self.status |= 2;
            }
        }
    }

    fn execute(&mut self, ram: &Ram, address: u32, characteristics: u32, token: &mut Token) {
        let max_packet = (characteristics >> 16 & 0x7ff) as usize;
        let device_address = (characteristics & 0x7f) as u8;
        let endpoint = (characteristics >> 8 & 0xf) as u8;
        let remaining = token.bytes() as usize;
        let pid = [Pid::Out, Pid::In, Pid::Setup][token.pid() as usize];
        let ports = &self.ports;
        let device = self
            .devices
            .iter_mut()
            .enumerate()
            .filter(|(port, _)| ports[*port] & 4 != 0)
            .filter_map(|(_, device)| device.as_mut())
            .find(|device| device.address() == device_address);
        let Some(device) = device else {
            return fail(token);
        };
        let size = remaining.min(max_packet);
        let mut packet = vec![0; size];
        if pid != Pid::In {
            self.moved
                .extend(each_page(ram, address, token, size, |bus, range| {
                    ram.read(bus, &mut packet[range])
                }));
        }
        match device.transaction(pid, endpoint, token.toggle(), &packet) {
            Response::Nak => {}
            Response::Stall => {
                token.set_halted(true);
                token.set_active(false);
            }
            Response::Nothing => fail(token),
            Response::Ack => {
                advance(ram, address, token, size);
                if token.bytes() == 0 {
                    token.set_active(false);
                }
            }
            // A toggle that is not the expected one marks a repeated packet, which is acknowledged and dropped (8.6).
            Response::Data { toggle, .. } if toggle != token.toggle() => {}
            Response::Data { bytes, .. } => {
                if bytes.len() > size {
                    token.set_babble(true);
                    token.set_halted(true);
                    token.set_active(false);
                    return;
                }
                let count = bytes.len();
                self.moved
                    .extend(each_page(ram, address, token, count, |bus, range| {
                        ram.write(bus, &bytes[range])
                    }));
                advance(ram, address, token, count);
                if token.bytes() == 0 || count < max_packet {
                    token.set_active(false);
                }
            }
        }
    }
}

fn fail(token: &mut Token) {
    token.set_transaction_error(true);
    let errors = token.errors();
    token.set_errors(errors.saturating_sub(1));
    if errors == 1 {
        token.set_halted(true);
        token.set_active(false);
    }
}

/// Moves a packet page by page, as the current offset and the page number say.
fn each_page(
    ram: &Ram,
    qh: u32,
    token: &Token,
    size: usize,
    mut access: impl FnMut(u32, std::ops::Range<usize>),
) -> Vec<(u32, usize)> {
    let mut offset = ram.read_word(qh + qh::BUFFER as u32) & 0xfff;
    let mut page = token.page();
    let (mut done, mut moved) = (0, vec![]);
    while done < size {
        let base = ram.read_word(qh + qh::BUFFER as u32 + 4 * page) & !0xfff;
        let count = (size - done).min(4096 - offset as usize);
        access(base + offset, done..done + count);
        moved.push((base + offset, count));
        done += count;
        offset += count as u32;
        if offset == 4096 {
            offset = 0;
            page += 1;
        }
    }
    moved
}

fn advance(ram: &Ram, qh: u32, token: &mut Token, size: usize) {
    let pointer = ram.read_word(qh + qh::BUFFER as u32);
    let offset = (pointer & 0xfff) + size as u32;
    token.set_page(token.page() + offset / 4096);
    ram.write_word(qh + qh::BUFFER as u32, (pointer & !0xfff) | (offset % 4096));
    token.set_bytes(token.bytes() - size as u32);
    token.set_toggle(!token.toggle());
    token.set_errors(3);
}
