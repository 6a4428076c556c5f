//! Streams of commands: the same for everybody.

use crate::rivals::{Address, Rival};

/// Xorshift: small, and the same everywhere.
pub struct Random(pub u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(limit)) >> 32) as u32
    }
}

/// Lengths as a USB has them, small ones more often: status, command, block, page, clusters. Not all are powers of two.
const SIZES: [u32; 11] = [
    13,
    31,
    13,
    31,
    512,
    512,
    4096,
    16 << 10,
    24 << 10,
    64 << 10,
    128 << 10,
];

/// Linux counts in these, so the load does too, whoever carries it.
const UNIT: u32 = 2048;

/// One thing to do.
pub enum Command {
    /// Map so many bytes, and append the result to the list of mappings.
    Map(u32),
    /// Unmap what is at this place in the list, if it was granted, and move the last into its place.
    Unmap(usize),
}

/// Maps and unmaps with about `fill` percent of `bytes` live at a time; no request is longer than an eighth of the pool.
///
/// The commands do not depend on who carries them out: what somebody refuses counts as live, too.
pub fn commands(seed: u32, count: usize, bytes: u32, fill: u32) -> Vec<Command> {
    let mut random = Random(seed);
    let target = (u64::from(bytes) * u64::from(fill) / 100) as u32;
    let mut live: Vec<u32> = Vec::new();
    let mut used = 0;
    let mut commands = Vec::with_capacity(count);
    while commands.len() < count {
        let len = draw(&mut random).min(bytes / 8);
        while used + len.next_multiple_of(UNIT) > target {
            let index = random.below(live.len() as u32) as usize;
            used -= live.swap_remove(index);
            commands.push(Command::Unmap(index));
        }
        used += len.next_multiple_of(UNIT);
        live.push(len.next_multiple_of(UNIT));
        commands.push(Command::Map(len));
    }
    commands
}

/// What became of a stream of requests.
pub struct Outcome {
    /// Refused requests, in percent.
    pub refused: f64,
    /// Refusals although there was room.
    pub avoidable: u32,
}

/// Keeps a pool `fill` percent full: draws a length, unmaps at random until there is that much room below the mark, maps.
///
/// The draws are the same for everybody; whoever refuses more has less live, and is kept as full nevertheless.
pub fn churn(rival: &mut dyn Rival, requests: u32, bytes: u32, fill: u32) -> Outcome {
    let mut random = Random(0x2545_F491);
    let target = (u64::from(bytes) * u64::from(fill) / 100) as u32;
    let mut live: Vec<(Address, u32)> = Vec::new();
    let (mut used, mut refused, mut avoidable) = (0, 0u32, 0);
    for _ in 0..requests {
        let len = draw(&mut random);
        let units = len.next_multiple_of(UNIT);
        while used + units > target && !live.is_empty() {
            let index = random.below(live.len() as u32) as usize;
            let (address, units) = live.swap_remove(index);
            used -= units;
            rival.unmap(address);
        }
        match rival.map(len) {
            Some(address) => {
                used += units;
                live.push((address, units));
            }
            None => {
                refused += 1;
                avoidable += u32::from(rival.has_room(len));
            }
        }
    }
    Outcome {
        refused: f64::from(refused) * 100.0 / f64::from(requests),
        avoidable,
    }
}

fn draw(random: &mut Random) -> u32 {
    SIZES[random.below(SIZES.len() as u32) as usize]
}
