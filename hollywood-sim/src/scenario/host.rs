//! The smallest host: descriptors laid out one after the other, a ring of queue heads, and waits that end.

use super::Bus;
use crate::device::{Pid, Setup};

/// Descriptors begin here, in MEM2; data follow. All is used once.
const START: u32 = 0x1000_0000;

/// A ring of queue heads over a controller.
pub struct Host<B> {
    /// The controller.
    pub bus: B,
    /// Offset of the operational registers.
    pub operational: u32,
    next: u32,
    /// The queue heads in the ring; the first one is the head that does nothing.
    ring: Vec<u32>,
    /// The periodic frame list.
    pub frame_list: u32,
}

/// A queue head in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Its physical address.
    pub address: u32,
}

/// A qTD to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Td {
    /// OUT, IN, or SETUP.
    pub pid: Pid,
    /// Physical address of the data.
    pub data: u32,
    /// Bytes.
    pub len: u32,
    /// The toggle, for queue heads that take it from here.
    pub toggle: bool,
    /// Whether its end interrupts.
    pub interrupt: bool,
    /// Where a short packet leads: the number of a qTD in the same list.
    pub alternate: Option<usize>,
}

impl Td {
    /// One with toggle 0 that interrupts.
    pub const fn new(pid: Pid, data: u32, len: u32) -> Self {
        Self {
            pid,
            data,
            len,
            toggle: false,
            interrupt: true,
            alternate: None,
        }
    }

    /// The same with toggle 1.
    pub const fn data1(self) -> Self {
        Self {
            toggle: true,
            ..self
        }
    }

    /// The words of it: next, alternate, token, five pages in a row.
    pub fn words(self, next: u32, alternate: u32) -> [u32; 8] {
        let pid = match self.pid {
            Pid::Out | Pid::Ping => 0,
            Pid::In => 1,
            Pid::Setup => 2,
        };
        let bits = u32::from(self.toggle) << 31 | u32::from(self.interrupt) << 15;
        let token = bits | self.len << 16 | 3 << 10 | pid << 8 | 1 << 7;
        let mut words = [next, alternate, token, self.data, 0, 0, 0, 0];
        for page in 1..5 {
            let here = (self.data & !0xfff) + 0x1000 * page as u32;
            words[3 + page] = here;
        }
        words
    }
}

impl<B: Bus> Host<B> {
    /// Takes a controller as it is.
    pub fn new(mut bus: B) -> Self {
        let operational = bus.read_register(0) & 0xff;
        Self {
            bus,
            operational,
            next: START,
            ring: Vec::new(),
            frame_list: 0,
        }
    }

    /// Reads an operational register.
    #[track_caller]
    pub fn read(&mut self, register: u32) -> u32 {
        let offset = self.operational + register;
        self.bus.read_register(offset)
    }

    /// Writes an operational register.
    #[track_caller]
    pub fn write(&mut self, register: u32, value: u32) {
        let offset = self.operational + register;
        self.bus.write_register(offset, value);
    }

    /// Reads PORTSC of a port, counted from 0.
    #[track_caller]
    pub fn port(&mut self, port: u32) -> u32 {
        self.read(0x44 + 4 * port)
    }

    /// Writes PORTSC of a port.
    #[track_caller]
    pub fn set_port(&mut self, port: u32, value: u32) {
        self.write(0x44 + 4 * port, value);
    }

    /// Takes memory that holds zeros and that nobody else gets.
    pub fn take(&mut self, len: u32, align: u32) -> u32 {
        let address = self.next.next_multiple_of(align);
        // Lines of its own.
        self.next = address + len.next_multiple_of(32);
        let zeros = vec![0; len.next_multiple_of(4) as usize];
        self.bus.write_memory(address, &zeros);
        address
    }

    /// Takes memory for bytes, and puts them there.
    pub fn place(&mut self, bytes: &[u8]) -> u32 {
        let address = self.take(bytes.len() as u32, 32);
        self.bus.write_memory(address, bytes);
        address
    }

    /// Reads a word of a descriptor.
    #[track_caller]
    pub fn word(&mut self, address: u32) -> u32 {
        let bytes = self.bus.read_memory(address, 4);
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// Writes words of a descriptor.
    #[track_caller]
    pub fn set_words(&mut self, address: u32, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bus.write_memory(address, &bytes);
    }

    /// Lets a millisecond pass, again and again until something is so. Returns whether it was within `ms`.
    #[track_caller]
    pub fn until(&mut self, ms: u32, mut what: impl FnMut(&mut Self) -> bool) -> bool {
        for _ in 0..ms {
            if what(self) {
                return true;
            }
            self.bus.advance_us(1000);
        }
        what(self)
    }

    /// Stops and resets the controller, gives it an empty frame list and a ring with nothing to do, and starts it (4.1).
    #[track_caller]
    pub fn start(&mut self) {
        self.write(0x00, 0x0008_0000);
        assert!(
            self.until(100, |host| host.read(0x04) & 0x1000 != 0),
            "no halt"
        );
        self.write(0x00, 0x0008_0002);
        assert!(self.until(100, |host| host.read(0x00) & 2 == 0), "no reset");
        self.frame_list = self.take(4096, 4096);
        self.set_words(self.frame_list, &[1; 1024]);
        let head = self.take(96, 32);
        // Head of the reclamation list, halted.
        let words = [
            head | 2,
            0x8000 | 2 << 12 | 64 << 16,
            1 << 30,
            0,
            1,
            1,
            0x40,
        ];
        self.set_words(head, &words);
        self.ring = vec![head];
        self.write(0x14, self.frame_list);
        self.write(0x18, head);
        self.write(0x00, 0x0001_0001);
        self.write(0x40, 1);
        self.write(0x00, 0x0001_0021);
        assert!(
            self.until(100, |host| host.read(0x04) & 0x8000 != 0),
            "not running"
        );
    }

    /// Resets a port and waits until a device may be spoken to. Returns PORTSC.
    #[track_caller]
    pub fn reset_port(&mut self, port: u32) -> u32 {
        let clear = self.port(port);
        self.set_port(port, clear);
        let bits = self.port(port) & !0x2e;
        self.set_port(port, bits & !4 | 0x100);
        self.bus.advance_us(50_000);
        self.set_port(port, bits & !0x104);
        assert!(
            self.until(100, |host| host.port(port) & 0x100 == 0),
            "port reset does not end"
        );
        self.bus.advance_us(10_000);
        self.port(port)
    }

    /// Adds a queue head for an endpoint to the ring.
    #[track_caller]
    pub fn add(&mut self, characteristics: u32, capabilities: u32) -> Queue {
        let address = self.take(96, 32);
        let head = self.ring[0];
        let after = self.word(head);
        let words = [after, characteristics, capabilities, 0, 1, 1, 0];
        self.set_words(address, &words);
        self.set_words(head, &[address | 2]);
        self.ring.insert(1, address);
        Queue { address }
    }

    /// Adds one for a high-speed endpoint: control endpoints take toggles from the qTDs.
    #[track_caller]
    pub fn add_high_speed(&mut self, address: u8, endpoint: u8, max_packet: u32) -> Queue {
        let control = u32::from(endpoint == 0) << 14;
        let place = u32::from(endpoint) << 8 | u32::from(address);
        let reload = 4 << 28;
        self.add(
            reload | max_packet << 16 | control | 2 << 12 | place,
            1 << 30,
        )
    }

    /// Takes a queue head out of the ring, rings the doorbell and waits for the answer, which is acknowledged. Returns whether there was one.
    #[track_caller]
    pub fn remove(&mut self, queue: Queue) -> bool {
        self.unlink(queue);
        self.ring_doorbell();
        let answered = self.until(100, |host| host.read(0x04) & 0x20 != 0);
        self.write(0x04, 0x20);
        answered
    }

    /// Takes a queue head out of the ring. The controller may still hold it.
    #[track_caller]
    pub fn unlink(&mut self, queue: Queue) {
        let at = self
            .ring
            .iter()
            .position(|address| *address == queue.address);
        let at = at.expect("a queue head of the ring");
        let next = self.word(queue.address);
        self.set_words(self.ring[at - 1], &[next]);
        self.ring.remove(at);
    }

    /// Rings the doorbell.
    #[track_caller]
    pub fn ring_doorbell(&mut self) {
        self.write(0x04, 0x20);
        let command = self.read(0x00);
        self.write(0x00, command | 0x40);
    }

    /// Lays out qTDs. Returns their addresses.
    #[track_caller]
    pub fn chain(&mut self, tds: &[Td]) -> Vec<u32> {
        let first = self.take(32 * tds.len() as u32, 32);
        let at = |index: usize| first + 32 * index as u32;
        for (index, td) in tds.iter().enumerate() {
            let next = if index + 1 == tds.len() {
                1
            } else {
                at(index + 1)
            };
            let alternate = td.alternate.map_or(1, at);
            let words = td.words(next, alternate);
            self.set_words(at(index), &words);
        }
        (0..tds.len()).map(at).collect()
    }

    /// Gives qTDs to a queue head that has nothing to do. Its toggle stays as it is; a halt ends. Returns the addresses of the qTDs.
    #[track_caller]
    pub fn submit(&mut self, queue: Queue, tds: &[Td]) -> Vec<u32> {
        let chain = self.chain(tds);
        let token = self.word(queue.address + 24);
        // What a halted queue has left must not be executed once the halt ends.
        self.set_words(queue.address + 16, &[1, 1]);
        self.set_words(queue.address + 24, &[token & (1 << 31 | 1)]);
        self.set_words(queue.address + 16, &[chain[0]]);
        chain
    }

    /// Waits until none of the qTDs can be executed any more: they are all done, or the queue head is halted. Returns their tokens.
    #[track_caller]
    pub fn finish(&mut self, queue: Queue, chain: &[u32], ms: u32) -> Vec<u32> {
        self.until(ms, |host| {
            let overlay = host.word(queue.address + 24);
            if overlay & 0x40 != 0 {
                return true;
            }
            // Short packets skip qTDs, so that the overlay tells: inactive, with nothing behind it.
            let active = chain.iter().all(|qtd| host.word(qtd + 8) & 0x80 == 0);
            let next = if overlay >> 16 & 0x7fff != 0 { 20 } else { 16 };
            let ended = overlay & 0x80 == 0
                && host.word(queue.address + next) & 1 != 0
                // The controller may have begun between the two.
                && host.word(queue.address + 24) == overlay;
            active || ended && host.word(queue.address + 12) & !31 != 0
        });
        chain.iter().map(|qtd| self.word(qtd + 8)).collect()
    }

    /// Submits and waits, for a second.
    #[track_caller]
    pub fn run(&mut self, queue: Queue, tds: &[Td]) -> Vec<u32> {
        let chain = self.submit(queue, tds);
        self.finish(queue, &chain, 1000)
    }

    /// A control transfer with an IN data stage, or none. Returns the tokens of its stages and the data.
    #[track_caller]
    pub fn control(&mut self, queue: Queue, setup: Setup) -> (Vec<u32>, Vec<u8>) {
        let packet = self.place(&setup.to_bytes());
        let len = u32::from(setup.length);
        let mut tds = vec![Td::new(Pid::Setup, packet, 8)];
        let mut data = 0;
        if len != 0 {
            data = self.take(len, 32);
            let mut stage = Td::new(Pid::In, data, len).data1();
            stage.alternate = Some(2);
            tds.push(stage);
        }
        let status = if len != 0 { Pid::Out } else { Pid::In };
        tds.push(Td::new(status, 0, 0).data1());
        let tokens = self.run(queue, &tds);
        let left = if len != 0 {
            tokens[1] >> 16 & 0x7fff
        } else {
            0
        };
        let bytes = match len - left.min(len) {
            0 => Vec::new(),
            len => self.bus.read_memory(data, len),
        };
        (tokens, bytes)
    }
}
