//! mem2-dma on memory whose caches are as incoherent as the Wii's, under a seeded adversary: no stale, lost or leaked byte.
//!
//! Every step maps, synchronises, lends, transfers or gives back something, and a device that knows only bus addresses reads and writes meanwhile.
//! `HOLLYWOOD_SIM_STEPS` raises the number of steps, `HOLLYWOOD_SIM_SEED` sets the seed. The long run takes two minutes:
//!
//! ```text
//! HOLLYWOOD_SIM_STEPS=10000000 cargo test --release -p hollywood-sim --test mem2_dma -- --nocapture
//! ```

use std::env;

use hollywood_sim::*;
use mem2_dma::{
    Bidirectional, Coherent, Device, DmaBuffer, Error, FromDevice, Le32, Lent, Mapping, Mem2, Pool,
    Quarantine, Quiesced, Scatter, Storage, ToDevice,
};

const STEPS: u64 = 200_000;
/// The pool: small, so that its room is reused all the time. It does not start where MEM2 does.
const POOL: u32 = MEM2 + 0x1000;
const POOL_BYTES: u32 = 0x8000;
const SEGMENTS: usize = 4;
const LINE: usize = 32;

/// A mapping as the test knows it: what each of its bytes must be.
struct Live<'p> {
    id: u32,
    /// The bytes as they must be, up to the end of the last line.
    bytes: Vec<u8>,
    len: usize,
    kind: Kind<'p>,
}

enum Kind<'p> {
    To(Mapping<'p, ToDevice>),
    /// With whether it was zeroed at first.
    From(Mapping<'p, FromDevice>, bool),
    Both(Mapping<'p, Bidirectional>),
    ScatterTo(Scatter<'p, ToDevice, SEGMENTS>),
    ScatterFrom(Scatter<'p, FromDevice, SEGMENTS>),
    /// A buffer of the CPU's, with its address.
    Owned(DmaBuffer<'p>, u32),
    LentTo(Lent<'p, ToDevice>),
    LentFrom(Lent<'p, FromDevice>),
    LentBoth(Lent<'p, Bidirectional>),
    Coherent(Coherent<'p, [Le32]>),
}

/// What the run did, so that a test can claim that it did something.
#[derive(Default, Debug)]
struct Done {
    mapped: u64,
    refused: u64,
    device_bytes: u64,
    cpu_bytes: u64,
    freed: u64,
    quarantined: u64,
}

struct World<'p> {
    memory: &'p Memory,
    pool: &'p Pool<'p>,
    device: Device<'p>,
    random: Random,
    live: Vec<Live<'p>>,
    quarantine: Quarantine<'p>,
    /// What is in quarantine: where.
    waiting: Vec<Buffer>,
    next: u32,
    done: Done,
}

/// Room for a device: the segments of a mapping, as bus addresses and lengths.
fn segments(live: &Live<'_>) -> Vec<Buffer> {
    let one = |address: u32| vec![(address, live.len)];
    let parts = match &live.kind {
        Kind::To(mapping) => one(mapping.bus().get()),
        Kind::From(mapping, _) => one(mapping.bus().get()),
        Kind::Both(mapping) => one(mapping.bus().get()),
        Kind::ScatterTo(scatter) => {
            let parts = scatter.segments().map(|s| (s.bus().get(), s.len()));
            parts.collect()
        }
        Kind::ScatterFrom(scatter) => {
            let parts = scatter.segments().map(|s| (s.bus().get(), s.len()));
            parts.collect()
        }
        Kind::Owned(_, address) => one(*address),
        Kind::LentTo(lent) => one(lent.bus().get()),
        Kind::LentFrom(lent) => one(lent.bus().get()),
        Kind::LentBoth(lent) => one(lent.bus().get()),
        Kind::Coherent(words) => one(words.bus().get()),
    };
    let buffer = |(address, len): (u32, usize)| Buffer {
        address,
        len: len as u32,
        mapping: live.id,
    };
    parts.into_iter().map(buffer).collect()
}

fn lines(len: usize) -> usize {
    len.next_multiple_of(LINE)
}

/// A proof, made where the test's device is known to be idle.
fn quiesced() -> Quiesced {
    // SAFETY: the device of this test does nothing by itself.
    unsafe { Quiesced::assert() }
}

impl<'p> World<'p> {
    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u32) as usize
    }

    /// Random bytes, none of which looks like room that was given back.
    fn data(&mut self, len: usize) -> Vec<u8> {
        let byte = |_| match self.random.next_u64() as u8 {
            POISON => 0,
            byte => byte,
        };
        (0..len).map(byte).collect()
    }

    fn len(&mut self) -> usize {
        let bound = [8, 64, 600, 3000][self.below(4)];
        1 + self.below(bound)
    }

    /// A part of `len` bytes, possibly empty: start and length.
    fn part(&mut self, len: usize) -> (usize, usize) {
        let start = self.below(len + 1);
        (start, self.below(len - start + 1))
    }

    fn step(&mut self) {
        self.memory.step();
        match self.below(16) {
            0..4 => self.map(),
            4..9 => self.transfer(),
            9..12 => self.synchronise(),
            12..15 => self.finish(),
            _ => self.release(),
        }
    }

    /// Makes something of a random kind.
    fn map(&mut self) {
        let id = self.next;
        self.next += 1;
        self.memory.act_as(id);
        let mut len = self.len();
        let data = self.data(len);
        let device = self.device;
        // What the rest of the last line must hold: zeros, or what nobody looks at.
        let mut bytes = vec![0; lines(len)];
        let copied = |bytes: &mut Vec<u8>| bytes[..len].copy_from_slice(&data);
        let kind = match self.below(8) {
            0 => {
                copied(&mut bytes);
                device.map_to_device(&data).map(Kind::To)
            }
            1 => device.map_from_device(len).map(|m| Kind::From(m, false)),
            2 => {
                let mapping = device.map_from_device_zeroed(len);
                mapping.map(|m| Kind::From(m, true))
            }
            3 => {
                copied(&mut bytes);
                device.map_bidirectional(&data).map(Kind::Both)
            }
            4 => {
                copied(&mut bytes);
                device.scatter_to_device(&data).map(Kind::ScatterTo)
            }
            5 => device.scatter_from_device(len).map(Kind::ScatterFrom),
            6 => device.allocate(len).map(|buffer| {
                // The address is what the buffer's device will be told; lending shows it.
                match buffer.lend_to_device(len) {
                    Ok(lent) => Kind::LentTo(lent),
                    Err(refused) => panic!("{}", refused.error),
                }
            }),
            _ => {
                let words = len.div_ceil(4);
                len = words * 4;
                bytes = vec![0; lines(len)];
                let words = device.coherent_slice(words, 64);
                words.map(Kind::Coherent)
            }
        };
        match kind {
            Ok(kind) => {
                self.done.mapped += 1;
                let live = Live {
                    id,
                    bytes,
                    len,
                    kind,
                };
                for buffer in segments(&live) {
                    self.memory.observe(buffer.address, buffer.len);
                }
                self.live.push(live);
            }
            Err(
                Error::Exhausted { .. }
                | Error::Fragmented { .. }
                | Error::TooManyLive { .. }
                | Error::TooMany { .. },
            ) => {
                self.done.refused += 1;
                // A scatter list may have had segments before it was refused; nobody knew their addresses, and nothing was stored.
                if self.done.refused.is_multiple_of(4) {
                    self.finish();
                }
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Lets the device read or write a random part of something it has.
    fn transfer(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let index = self.below(self.live.len());
        let live = &self.live[index];
        let (reads, writes) = match &live.kind {
            Kind::To(_) | Kind::ScatterTo(_) | Kind::LentTo(_) => (true, false),
            Kind::From(_, true) | Kind::Both(_) | Kind::LentBoth(_) | Kind::Coherent(_) => {
                (true, true)
            }
            Kind::From(_, false) | Kind::ScatterFrom(_) | Kind::LentFrom(_) => (false, true),
            Kind::Owned(..) => return,
        };
        let padded = matches!(live.kind, Kind::To(_) | Kind::LentTo(_));
        let mut at = 0;
        for mut buffer in segments(live) {
            let mut len = buffer.len as usize;
            if padded && self.below(2) == 0 {
                // Up to the end of the line, as a controller fetches. There are zeros.
                len = lines(len);
                buffer.len = len as u32;
            }
            let (start, count) = self.part(len);
            if writes && (!reads || self.below(2) == 0) {
                let data = self.data(count);
                let written = self.memory.device_write(buffer, start as u32, &data);
                assert_eq!(written, Ok(()));
                self.live[index].bytes[at + start..][..count].copy_from_slice(&data);
                // What a device did not write is no part of what it received: see `received`.
            } else if reads {
                let read = self.memory.device_read(buffer, start as u32, count as u32);
                let expected = &self.live[index].bytes[at + start..][..count];
                assert_eq!(read.as_deref(), Ok(expected), "the device, of {}", buffer);
            }
            self.done.device_bytes += count as u64;
            at += buffer.len as usize;
        }
    }

    /// Synchronises a part of a mapping, uses a buffer of the CPU's, or lends it.
    fn synchronise(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let index = self.below(self.live.len());
        let mut live = self.live.swap_remove(index);
        let id = live.id;
        let memory = self.memory;
        memory.act_as(id);
        let (start, count) = self.part(live.len);
        let fresh = self.data(count);
        let mut seen = vec![0; count];
        let store = self.below(2) == 0;
        self.done.cpu_bytes += count as u64;
        live.kind = match live.kind {
            Kind::To(mut mapping) => {
                mapping.sync_for_device(start, &fresh).unwrap();
                live.bytes[start..][..count].copy_from_slice(&fresh);
                Kind::To(mapping)
            }
            Kind::From(mut mapping, true) => {
                mapping.sync_for_cpu(start, &mut seen).unwrap();
                assert_eq!(seen, live.bytes[start..][..count], "the CPU, of {id}");
                Kind::From(mapping, true)
            }
            Kind::From(mut mapping, false) => {
                // The device writes the part first: what it did not write has no meaning.
                let buffer = Buffer {
                    address: mapping.bus().get(),
                    len: live.len as u32,
                    mapping: id,
                };
                let written = memory.device_write(buffer, start as u32, &fresh);
                assert_eq!(written, Ok(()));
                memory.step();
                mapping.sync_for_cpu(start, &mut seen).unwrap();
                assert_eq!(seen, fresh, "the CPU, of {id}");
                Kind::From(mapping, false)
            }
            Kind::Both(mut mapping) if store => {
                mapping.sync_for_device(start, &fresh).unwrap();
                live.bytes[start..][..count].copy_from_slice(&fresh);
                Kind::Both(mapping)
            }
            Kind::Both(mut mapping) => {
                mapping.sync_for_cpu(start, &mut seen).unwrap();
                assert_eq!(seen, live.bytes[start..][..count], "the CPU, of {id}");
                Kind::Both(mapping)
            }
            Kind::Owned(mut buffer, address) => {
                assert_eq!(buffer[..], live.bytes[..live.len], "the CPU, of {id}");
                if store {
                    buffer[start..][..count].copy_from_slice(&fresh);
                    live.bytes[start..][..count].copy_from_slice(&fresh);
                    memory.observe(address, live.len as u32);
                }
                match self.below(4) {
                    0 => Kind::LentTo(buffer.lend_to_device(live.len).unwrap()),
                    1 => Kind::LentFrom(buffer.lend_from_device(live.len).unwrap()),
                    2 => Kind::LentBoth(buffer.lend_bidirectional(live.len).unwrap()),
                    _ => Kind::Owned(buffer, address),
                }
            }
            Kind::LentTo(lent) => {
                let address = lent.bus().get();
                Kind::Owned(lent.reclaim(&quiesced()).unwrap(), address)
            }
            Kind::LentFrom(lent) => {
                let address = lent.bus().get();
                Kind::Owned(lent.reclaim(&quiesced()).unwrap(), address)
            }
            Kind::LentBoth(lent) => {
                let address = lent.bus().get();
                Kind::Owned(lent.reclaim(&quiesced()).unwrap(), address)
            }
            Kind::Coherent(words) => {
                words.refresh();
                let word = self.random.below(words.len() as u32) as usize;
                let bytes = &mut live.bytes[word * 4..][..4];
                assert_eq!(words[word].get().to_le_bytes(), bytes, "the CPU, of {id}");
                if store {
                    let value = self.random.next_u64() as u32 & 0x7F7F_7F7F;
                    words[word].set(value);
                    words.publish();
                    bytes.copy_from_slice(&value.to_le_bytes());
                    memory.observe(words.bus().get(), live.len as u32);
                }
                Kind::Coherent(words)
            }
            scatter => scatter,
        };
        self.live.push(live);
    }

    /// Ends something, one way or another.
    fn finish(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let index = self.below(self.live.len());
        let live = self.live.swap_remove(index);
        let rooms = segments(&live);
        let Live {
            id,
            bytes,
            len,
            kind,
        } = live;
        self.memory.act_as(id);
        let done = quiesced();
        let late = self.below(4) == 0;
        let received = self.below(len + 1);
        let mut dst = vec![0xEE; len + 7];
        let mut expected = dst.clone();
        let mut quarantined = None;
        match kind {
            Kind::To(mapping) if late => quarantined = Some(mapping.quarantine()),
            Kind::From(mapping, _) if late => quarantined = Some(mapping.quarantine()),
            Kind::Both(mapping) if late => quarantined = Some(mapping.quarantine()),
            Kind::LentTo(lent) if late => quarantined = Some(lent.quarantine()),
            Kind::LentFrom(lent) if late => quarantined = Some(lent.quarantine()),
            Kind::LentBoth(lent) if late => quarantined = Some(lent.quarantine()),
            Kind::Coherent(words) if late => quarantined = Some(words.quarantine()),
            Kind::ScatterTo(scatter) if late => quarantined = Some(scatter.quarantine(self.pool)),
            Kind::ScatterFrom(scatter) if late => {
                quarantined = Some(scatter.quarantine(self.pool));
            }
            Kind::To(mapping) => mapping.discard(&done).unwrap(),
            Kind::From(mapping, true) => {
                assert_eq!(mapping.complete(&done, received, &mut dst), Ok(received));
                expected[..received].copy_from_slice(&bytes[..received]);
            }
            Kind::From(mapping, false) => {
                self.deliver(&rooms, received, &mut expected);
                assert_eq!(mapping.complete(&done, received, &mut dst), Ok(received));
            }
            Kind::Both(mapping) => {
                assert_eq!(mapping.complete(&done, received, &mut dst), Ok(received));
                expected[..received].copy_from_slice(&bytes[..received]);
            }
            Kind::ScatterTo(scatter) => scatter.discard(&done).unwrap(),
            Kind::ScatterFrom(scatter) => {
                self.deliver(&rooms, received, &mut expected);
                assert_eq!(scatter.complete(&done, received, &mut dst), Ok(received));
            }
            Kind::Owned(buffer, _) => {
                assert_eq!(buffer[..], bytes[..len], "the CPU, of {id}");
                drop(buffer);
            }
            Kind::LentTo(lent) => drop(lent.reclaim(&done).unwrap()),
            Kind::LentFrom(lent) => drop(lent.reclaim(&done).unwrap()),
            Kind::LentBoth(lent) => {
                let buffer = lent.reclaim(&done).unwrap();
                assert_eq!(buffer[..], bytes[..len], "the CPU, of {id}");
            }
            Kind::Coherent(words) => words.free(&done).unwrap(),
        }
        assert_eq!(dst, expected, "delivered to the CPU, of {id}");
        self.done.cpu_bytes += received as u64;
        match quarantined {
            Some(other) => {
                self.done.quarantined += 1;
                assert!(self.quarantine.append(other).is_none());
                self.waiting.extend(rooms);
            }
            None => self.retire(&rooms),
        }
    }

    /// Lets the device write the first `received` bytes of some segments.
    fn deliver(&mut self, rooms: &[Buffer], received: usize, expected: &mut [u8]) {
        let data = self.data(received);
        expected[..received].copy_from_slice(&data);
        let mut rest = &data[..];
        for room in rooms {
            let (part, after) = rest.split_at(rest.len().min(room.len as usize));
            assert_eq!(self.memory.device_write(*room, 0, part), Ok(()));
            self.memory.step();
            rest = after;
        }
    }

    /// Lets the device write to what is in quarantine, which is nobody else's, and now and then frees it.
    fn release(&mut self) {
        for room in self.waiting.clone() {
            let data = self.data(room.len as usize);
            if self.below(8) == 0 {
                // It may be room that only the device may read; whatever it is, no line of it may hold stores.
                self.memory.observe(room.address, room.len);
                assert_eq!(self.memory.device_write(room, 0, &data), Ok(()));
            }
        }
        if self.below(4) == 0 {
            self.quarantine.take().release(&quiesced());
            let waiting = std::mem::take(&mut self.waiting);
            self.retire(&waiting);
        }
    }

    /// Says that room was given back, up to the ends of its lines.
    fn retire(&mut self, rooms: &[Buffer]) {
        self.done.freed += 1;
        for room in rooms {
            let len = lines(room.len as usize) as u32;
            self.memory.retire(room.address, len);
        }
    }
}

/// Runs `steps` steps and returns what was done.
fn run(seed: u64, steps: u64) -> Done {
    let memory = Memory::new(0, 0x1000 + POOL_BYTES + 0x1000);
    memory.set_adversary(Adversary::seeded(!seed));
    // SAFETY: the model's own tests aside, nobody else uses the range, and no bytes of a buffer stay borrowed.
    let provider = unsafe { memory.carve(POOL, POOL_BYTES) }.unwrap();
    let mut storage = Storage::<1, 24>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    let device = pool.attach(Mem2::CONSTRAINTS.granule(64)).unwrap();
    let mut world = World {
        memory: &memory,
        pool: &pool,
        device,
        random: Random::new(seed),
        live: Vec::new(),
        quarantine: Quarantine::new(&pool),
        waiting: Vec::new(),
        next: 1,
        done: Done::default(),
    };
    for step in 0..steps {
        world.step();
        if memory.violations() != 0 {
            let first = memory.take_violations()[0];
            panic!("seed {seed}, step {step}: {first}");
        }
    }
    while !world.live.is_empty() {
        world.finish();
    }
    world.quarantine.take().release(&quiesced());
    assert_eq!(pool.stats().used, 0, "room was lost");
    world.done
}

#[test]
fn no_byte_is_stale_lost_or_leaked_under_the_adversary() {
    let number = |name: &str| {
        let value = env::var(name).ok()?;
        Some(value.parse::<u64>().expect("a number"))
    };
    let steps = number("HOLLYWOOD_SIM_STEPS").map_or(STEPS, |steps| steps.max(STEPS));
    let seed = number("HOLLYWOOD_SIM_SEED").unwrap_or(1);
    let done = run(seed, steps);
    println!("seed {seed}, {steps} steps: {done:?}");
    assert!(done.mapped > steps / 10, "{done:?}");
    assert!(done.quarantined > steps / 100, "{done:?}");
    assert!(done.device_bytes > steps * 20, "{done:?}");
    assert!(done.cpu_bytes > steps * 20, "{done:?}");
}
