//! How fast the simulation is: bulk reads of an ideal stick, in 1 MiB commands.
//!
//! `cargo run --release -p hollywood-sim --example bulk_speed -- [MIB]` prints megabytes for each second of the host's CPU, which others may use
//! meanwhile: with everything on that tests have on by default (all rules, origins), and once more with both adversaries. And how full the simulated bus
//! was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hollywood_sim::controller::Controller;
use hollywood_sim::device::{Function, MassStorage, Pid, Setup, disk::Disk};
use hollywood_sim::scenario::{Bus, Host, Queue, Td};
use hollywood_sim::{Adversary, MEM2, Memory};

const MIB: u32 = 1 << 20;
/// A qTD's share of a buffer that begins at a page.
const QTD: u32 = 0x5000;

/// Returns the CPU time of this thread so far, or where Linux does not say it, the time since `start`.
fn cpu_time(start: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    first.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

struct Reader {
    host: Host<Controller>,
    out: Queue,
    in_: Queue,
    command: u32,
    buffer: u32,
    status: u32,
    /// The qTDs of a command: one for the wrapper, many for the data, one for the status.
    qtds: Vec<u32>,
}

impl Reader {
    fn new() -> Self {
        let memory = Arc::new(Memory::new(0, 4 * MIB));
        let controller = Controller::wii(memory);
        let mut bytes = vec![0u8; 8 << 20];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at >> 9) as u8 ^ at as u8;
        }
        controller.plug(0, MassStorage::new([Disk::of(512, bytes)]).plug());
        let mut host = Host::new(controller);
        host.start();
        host.reset_port(0);
        let control = host.add_high_speed(0, 0, 64);
        host.control(control, Setup::set_configuration(1));
        let [out, in_] = [2, 1].map(|endpoint| host.add_high_speed(0, endpoint, 512));
        let command = host.take(32, 32);
        let status = host.take(32, 32);
        let buffer = MEM2 + 2 * MIB;
        host.bus.write_memory(buffer, &vec![0; MIB as usize]);
        let count = 2 + MIB.div_ceil(QTD);
        let qtds = (0..count).map(|_| host.take(32, 32)).collect();
        let mut reader = Self {
            host,
            out,
            in_,
            command,
            buffer,
            status,
            qtds,
        };
        // TEST UNIT READY: power came on.
        reader.command(&[0; 6], 0);
        reader
    }

    fn hand_over(&mut self, queue: Queue, tds: &[Td], first: usize) {
        for (index, td) in tds.iter().enumerate() {
            let next = match tds.get(index + 1) {
                Some(_) => self.qtds[first + index + 1],
                None => 1,
            };
            let words = td.words(next, 1);
            self.host.set_words(self.qtds[first + index], &words);
        }
        self.host.set_words(queue.address + 16, &[self.qtds[first]]);
    }

    /// Carries out a command. Returns its status.
    fn command(&mut self, block: &[u8], len: u32) -> u8 {
        let mut wrapper = b"USBC\x01\0\0\0".to_vec();
        wrapper.extend(len.to_le_bytes());
        wrapper.extend([0x80, 0, block.len() as u8]);
        wrapper.extend(block);
        wrapper.resize(31, 0);
        self.host.bus.write_memory(self.command, &wrapper);
        self.hand_over(self.out, &[Td::new(Pid::Out, self.command, 31)], 0);
        let mut tds = Vec::new();
        for at in (0..len).step_by(QTD as usize) {
            let mut td = Td::new(Pid::In, self.buffer + at, QTD.min(len - at));
            td.interrupt = false;
            tds.push(td);
        }
        tds.push(Td::new(Pid::In, self.status, 13));
        let last = self.qtds[tds.len()] + 8;
        self.hand_over(self.in_, &tds, 1);
        while self.host.word(last) & 0x80 != 0 {
            self.host.bus.step_microframe();
        }
        self.host.bus.read_memory(self.status, 13)[12]
    }

    /// Reads `mib` commands of 1 MiB and prints how that went.
    fn run(&mut self, what: &str, mib: u32) {
        let before = self.host.bus.statistics();
        let start = Instant::now();
        let used = cpu_time(start);
        for index in 0..mib {
            let lba = (index % 8) * 2048;
            let [a, b, c, d] = lba.to_be_bytes();
            let status = self.command(&[0x28, 0, a, b, c, d, 0, 8, 0, 0], MIB);
            assert_eq!(status, 0);
        }
        let seconds = (cpu_time(start) - used).as_secs_f64();
        let after = self.host.bus.statistics();
        let microframes = after.microframes - before.microframes;
        let packets = after.packets - before.packets;
        println!(
            "{what}: {:.1} MB/s of the host's CPU; simulated: {:.1} MB/s, {:.2} packets in a microframe",
            f64::from(mib) * f64::from(MIB) / 1e6 / seconds,
            f64::from(mib) * f64::from(MIB) / (microframes as f64 * 125.0),
            packets as f64 / microframes as f64,
        );
    }
}

fn main() {
    let argument = std::env::args().nth(1);
    let mib = argument.map_or(32, |text| text.parse().expect("a number of mebibytes"));
    let mut reader = Reader::new();
    reader.run("all rules, origins, no adversary", mib);
    reader.host.bus.set_adversary(Adversary::seeded(1));
    reader.host.bus.memory().set_adversary(Adversary::seeded(2));
    reader.run("all rules, origins, both adversaries", mib);
}
