//! The scripts: what a driver does first, and what goes wrong first. They need a mass-storage stick in port 0 whose blocks are [`blocks`].

use super::{Bus, Host, Queue, Td};
use crate::device::{Pid, Setup};

/// One step of a script, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What was done.
    pub what: &'static str,
    /// Status words: tokens of qTDs, or registers.
    pub status: Vec<u32>,
    /// Bytes that came from the device.
    pub bytes: Vec<u8>,
}

/// What a controller made of a script.
pub type Transcript = Vec<Step>;

/// A script. Each begins with a controller and a stick that nobody has touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Script {
    /// Registers, port reset, descriptors, address, configuration.
    Enumerate,
    /// Blocks, in one qTD and in many, from every kind of place in a page.
    Read,
    /// Blocks, and read back.
    Write,
    /// Less than was asked for: control, bulk, with an alternate qTD and without.
    ShortRead,
    /// A refused request, a command that is none, and the way back.
    Stall,
    /// The stick goes, and somebody still wants to read it.
    Unplug,
}

/// Contents of the first `count` blocks of 512 bytes.
pub fn blocks(count: usize) -> Vec<u8> {
    (0..count * 512)
        .map(|at| (at / 512 * 31 + at * 7) as u8)
        .collect()
}

impl Script {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Enumerate,
        Self::Read,
        Self::Write,
        Self::ShortRead,
        Self::Stall,
        Self::Unplug,
    ];

    /// Runs it.
    pub fn run<B: Bus>(self, host: &mut Host<B>) -> Transcript {
        let mut stick = Stick::new(host);
        match self {
            Self::Enumerate => stick.enumerate(),
            Self::Read => stick.read(),
            Self::Write => stick.write(),
            Self::ShortRead => stick.short_read(),
            Self::Stall => stick.stall(),
            Self::Unplug => stick.unplug(),
        }
        stick.steps
    }
}

const ADDRESS: u8 = 9;
const READ: u8 = 0x28;
const WRITE: u8 = 0x2a;

/// A stick on a host, and what happened to it.
struct Stick<'h, B> {
    host: &'h mut Host<B>,
    steps: Transcript,
    control: Queue,
    out: Queue,
    in_: Queue,
}

impl<'h, B: Bus> Stick<'h, B> {
    fn new(host: &'h mut Host<B>) -> Self {
        host.start();
        let port = host.reset_port(0);
        let control = host.add_high_speed(0, 0, 64);
        let mut stick = Self {
            host,
            steps: Vec::new(),
            control,
            out: control,
            in_: control,
        };
        stick.note("reset", vec![port], Vec::new());
        stick.request("address", Setup::set_address(ADDRESS));
        stick.host.bus.advance_us(2000);
        assert!(stick.host.remove(control), "the doorbell is not answered");
        stick.control = stick.host.add_high_speed(ADDRESS, 0, 64);
        stick
    }

    fn note(&mut self, what: &'static str, status: Vec<u32>, bytes: Vec<u8>) {
        self.steps.push(Step {
            what,
            status,
            bytes,
        });
    }

    fn request(&mut self, what: &'static str, setup: Setup) {
        let (tokens, bytes) = self.host.control(self.control, setup);
        self.note(what, tokens, bytes);
    }

    /// Notes USBSTS, once every interrupt threshold has passed, and clears it.
    fn interrupts(&mut self, what: &'static str) {
        self.host.bus.advance_us(3000);
        let status = self.host.read(0x04) & 0x37;
        self.note(what, vec![status], Vec::new());
        self.host.write(0x04, 0x3f);
    }

    fn configure(&mut self) {
        self.request("configure", Setup::set_configuration(1));
        self.out = self.host.add_high_speed(ADDRESS, 2, 512);
        self.in_ = self.host.add_high_speed(ADDRESS, 1, 512);
        // Power came on.
        self.command("unit attention", &[0; 6], 0x80, &[]);
        self.command("unit ready", &[0; 6], 0x80, &[]);
        self.host.write(0x04, 0x3f);
    }

    fn send_command(&mut self, what: &'static str, block: &[u8], len: u32, flags: u8) {
        let mut wrapper = b"USBC\x11\x22\x33\x44".to_vec();
        wrapper.extend(len.to_le_bytes());
        wrapper.extend([flags, 0, block.len() as u8]);
        wrapper.extend(block);
        wrapper.resize(31, 0);
        let wrapper = self.host.place(&wrapper);
        let tokens = self.host.run(self.out, &[Td::new(Pid::Out, wrapper, 31)]);
        self.note(what, tokens, Vec::new());
    }

    fn status(&mut self, what: &'static str) {
        let buffer = self.host.take(13, 32);
        let tokens = self.host.run(self.in_, &[Td::new(Pid::In, buffer, 13)]);
        let bytes = self.host.bus.read_memory(buffer, 13);
        self.note(what, tokens, bytes);
    }

    /// A command with its data in these qTDs, and its status. Returns nothing: all is noted.
    fn command(&mut self, what: &'static str, block: &[u8], flags: u8, tds: &[Td]) {
        let len = tds.iter().map(|td| td.len).sum();
        self.send_command(what, block, len, flags);
        if !tds.is_empty() {
            let queue = if flags & 0x80 != 0 {
                self.in_
            } else {
                self.out
            };
            let tokens = self.host.run(queue, tds);
            self.note(what, tokens, Vec::new());
        }
        self.status(what);
    }

    fn transfer(operation: u8, block: u8, count: u8) -> [u8; 10] {
        [operation, 0, 0, 0, 0, block, 0, 0, count, 0]
    }

    fn enumerate(&mut self) {
        for (what, setup) in [
            ("8 bytes of the device", Setup::get_descriptor(1, 0, 8)),
            ("the device", Setup::get_descriptor(1, 0, 18)),
            (
                "9 bytes of the configuration",
                Setup::get_descriptor(2, 0, 9),
            ),
            ("the configuration", Setup::get_descriptor(2, 0, 32)),
        ] {
            self.request(what, setup);
        }
        self.request("configure", Setup::set_configuration(1));
        let configuration = Setup {
            kind: 0x80,
            request: 8,
            length: 1,
            ..Setup::default()
        };
        self.request("the configuration's number", configuration);
        let max_lun = Setup {
            kind: 0xa1,
            request: 0xfe,
            length: 1,
            ..Setup::default()
        };
        self.request("number of units", max_lun);
        self.interrupts("interrupts");
    }

    fn read(&mut self) {
        self.configure();
        let capacity = self.host.take(8, 32);
        let tds = [Td::new(Pid::In, capacity, 8)];
        self.command("capacity", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0x80, &tds);
        let bytes = self.host.bus.read_memory(capacity, 8);
        self.note("capacity", Vec::new(), bytes);
        // One qTD; across a page; several; as large as one can be.
        let places: [(u32, &[u32]); 4] = [
            (0, &[512]),
            (0xe00, &[1024]),
            (0x20, &[512, 1536, 2048]),
            (0, &[0x5000, 512]),
        ];
        for (offset, lens) in places {
            let total = lens.iter().sum();
            let buffer = self.host.take(offset + total, 0x1000) + offset;
            let mut at = buffer;
            let mut tds = Vec::new();
            for len in lens {
                let mut td = Td::new(Pid::In, at, *len);
                td.interrupt = false;
                tds.push(td);
                at += len;
            }
            let block = Self::transfer(READ, 3, (total / 512) as u8);
            self.command("read", &block, 0x80, &tds);
            let bytes = self.host.bus.read_memory(buffer, total);
            self.note("data", Vec::new(), bytes);
            let overlay = self.host.word(self.in_.address + 24);
            self.note("overlay", vec![overlay], Vec::new());
        }
        self.interrupts("interrupts");
    }

    fn write(&mut self) {
        self.configure();
        let data: Vec<u8> = (0..4096u32).map(|at| ((at * 5) >> 3) as u8).collect();
        let buffer = self.host.take(4096, 0x1000);
        self.host.bus.write_memory(buffer, &data);
        let tds = [
            Td::new(Pid::Out, buffer, 1536),
            Td::new(Pid::Out, buffer + 1536, 2560),
        ];
        self.command("write", &Self::transfer(WRITE, 5, 8), 0, &tds);
        let buffer = self.host.take(5120, 0x1000);
        let tds = [Td::new(Pid::In, buffer, 5120)];
        self.command("read back", &Self::transfer(READ, 4, 10), 0x80, &tds);
        let bytes = self.host.bus.read_memory(buffer, 5120);
        self.note("read back", Vec::new(), bytes);
        self.interrupts("interrupts");
    }

    fn short_read(&mut self) {
        self.request(
            "more than the device descriptor",
            Setup::get_descriptor(1, 0, 64),
        );
        self.request(
            "more than the configuration",
            Setup::get_descriptor(2, 0, 255),
        );
        self.configure();
        // Eight bytes where 512 were expected; the status waits in the alternate qTD, and one between is left out.
        self.send_command("capacity", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8, 0x80);
        let buffer = self.host.take(1024, 32);
        let mut first = Td::new(Pid::In, buffer, 512);
        first.alternate = Some(2);
        first.interrupt = false;
        let status = Td::new(Pid::In, buffer + 512, 13);
        let tokens = self.host.run(self.in_, &[first, status, status]);
        let bytes = self.host.bus.read_memory(buffer, 8);
        self.note("short data", tokens, bytes);
        let bytes = self.host.bus.read_memory(buffer + 512, 13);
        self.note("status by the alternate", Vec::new(), bytes);
        // The status where 512 bytes were expected, and nothing to go on with.
        self.host.write(0x04, 0x3f);
        self.send_command("unit ready", &[0; 6], 0, 0x80);
        self.host.write(0x04, 0x3f);
        let mut td = Td::new(Pid::In, buffer, 512);
        td.interrupt = false;
        let tokens = self.host.run(self.in_, &[td]);
        let bytes = self.host.bus.read_memory(buffer, 16);
        self.note("short status", tokens, bytes);
        self.interrupts("interrupts");
    }

    fn stall(&mut self) {
        self.configure();
        self.request("no such descriptor", Setup::get_descriptor(0x77, 0, 8));
        self.interrupts("interrupts");
        self.request("the device", Setup::get_descriptor(1, 0, 18));
        self.host.write(0x04, 0x3f);
        let wrong = self.host.place(&[0x5a; 31]);
        let tds = [Td::new(Pid::Out, wrong, 31), Td::new(Pid::Out, wrong, 31)];
        let tokens = self.host.run(self.out, &tds);
        self.note("no command", tokens, Vec::new());
        self.interrupts("interrupts");
        let reset = Setup {
            kind: 0x21,
            request: 0xff,
            ..Setup::default()
        };
        self.request("reset", reset);
        for endpoint in [0x81, 2] {
            self.request("clear", Setup::clear_halt(endpoint));
        }
        for queue in [self.out, self.in_] {
            // First what is left of the queue goes, which would be executed as soon as the halt does.
            self.host.set_words(queue.address + 16, &[1]);
            self.host.set_words(queue.address + 24, &[0]);
        }
        self.command("unit ready", &[0; 6], 0x80, &[]);
    }

    fn unplug(&mut self) {
        self.configure();
        let port = self.host.port(0);
        self.host.set_port(0, port);
        self.host.write(0x04, 0x3f);
        self.host.bus.unplug(0);
        self.host.bus.advance_us(20_000);
        let port = self.host.port(0);
        let status = self.host.read(0x04) & 4;
        self.note("unplugged", vec![port, status], Vec::new());
        let buffer = self.host.take(512, 32);
        let chain = self.host.submit(self.in_, &[Td::new(Pid::In, buffer, 512)]);
        let tokens = self.host.finish(self.in_, &chain, 20);
        self.note("too late", tokens, Vec::new());
        assert!(self.host.remove(self.in_), "the doorbell is not answered");
        let clear = self.host.port(0);
        self.host.set_port(0, clear);
        let port = self.host.port(0);
        self.note("port", vec![port], Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Config, Controller};
    use crate::device::{Function, MassStorage, disk::Disk};
    use crate::{Adversary, Memory};
    use std::sync::Arc;

    fn transcript(script: Script, config: Config, seed: Option<u64>) -> Transcript {
        let memory = Arc::new(Memory::new(0, 0x4_0000));
        let controller = Controller::new(memory, config);
        controller.plug(0, MassStorage::new([Disk::of(512, blocks(128))]).plug());
        if let Some(seed) = seed {
            controller.set_adversary(Adversary::seeded(seed));
            controller.memory().set_adversary(Adversary::seeded(!seed));
        }
        script.run(&mut Host::new(controller))
    }

    #[test]
    fn scripts_end_the_same_whatever_is_early_or_late() {
        for script in Script::ALL {
            let prompt = transcript(script, Config::WII, None);
            for seed in 0..4 {
                let other = transcript(script, Config::WII, Some(seed));
                assert_eq!(other, prompt, "{script:?}, seed {seed}");
            }
        }
    }

    #[test]
    fn scripts_end_the_same_on_a_controller_with_little_endian_registers() {
        for script in Script::ALL {
            let [wii, qemu] = [Config::WII, Config::QEMU].map(|c| transcript(script, c, None));
            assert_eq!(wii, qemu, "{script:?}");
        }
    }

    #[test]
    fn what_is_read_is_what_is_there() {
        let steps = transcript(Script::Read, Config::WII, None);
        let data: Vec<_> = steps.iter().filter(|step| step.what == "data").collect();
        assert_eq!(data.len(), 4);
        for step in data {
            assert!(step.bytes == blocks(128)[3 * 512..][..step.bytes.len()]);
        }
    }
}
