//! One transfer of each kind through mem2-dma, under everything that the cache may do meanwhile.

use hollywood_sim::*;
use mem2_dma::{Device, Mem2, Pool, Quiesced, Storage};

/// One slot: every allocation gets the same room.
const POOL: u32 = MEM2 + 0x1000;
const POOL_BYTES: u32 = 512;
/// A line and a byte: two lines.
const LEN: usize = 33;
const FIRST: [u8; LEN] = [0x11; LEN];
const SECOND: [u8; LEN] = [0x22; LEN];

/// A device as these scenarios use it: told one address, for mapping 1.
struct Wire<'m> {
    memory: &'m Memory,
}

impl Wire<'_> {
    fn buffer(address: u32) -> Buffer {
        Buffer {
            address,
            len: LEN as u32,
            mapping: 1,
        }
    }

    fn read(&self, address: u32) -> Vec<u8> {
        let read = self
            .memory
            .device_read(Self::buffer(address), 0, LEN as u32);
        read.unwrap()
    }

    fn write(&self, address: u32, data: &[u8]) {
        let written = self.memory.device_write(Self::buffer(address), 0, data);
        written.unwrap();
    }
}

/// Runs a scenario in room whose lines were left modified, under every sequence of decisions of the cache. Returns how many there were.
fn under_all_decisions(scenario: impl Fn(&Device<'_>, &Wire<'_>, &Quiesced)) -> usize {
    exhaustively(|adversary| {
        let memory = Memory::new(0, 0x1000 + POOL_BYTES);
        // SAFETY: nobody else uses the range, and no bytes of a buffer stay borrowed.
        let provider = unsafe { memory.carve(POOL, POOL_BYTES) }.unwrap();
        let mut storage = Storage::<1, 4>::new();
        let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
        let device = pool.attach(Mem2::CONSTRAINTS).unwrap();
        let mut buffer = device.allocate(2 * LEN).unwrap();
        buffer.fill(0x77);
        drop(buffer);
        memory.retire(POOL, POOL_BYTES);
        memory.act_as(1);
        memory.set_adversary(adversary);
        // SAFETY: the device does nothing by itself.
        let done = unsafe { Quiesced::assert() };
        scenario(&device, &Wire { memory: &memory }, &done);
        assert_eq!(memory.take_violations(), []);
        memory.set_adversary(Adversary::Idle)
    })
}

#[test]
fn a_mapping_to_the_device_shows_what_was_copied() {
    let runs = under_all_decisions(|device, wire, done| {
        let mapping = device.map_to_device(&FIRST).unwrap();
        assert_eq!(wire.read(mapping.bus().get()), FIRST);
        mapping.discard(done).unwrap();
    });
    assert_eq!(runs, 1 << 8, "two lines, cleaned and read");
}

#[test]
fn a_mapping_from_the_device_shows_what_was_written() {
    let runs = under_all_decisions(|device, wire, done| {
        let mapping = device.map_from_device(LEN).unwrap();
        wire.write(mapping.bus().get(), &FIRST);
        let mut seen = [0; LEN];
        assert_eq!(mapping.complete(done, LEN, &mut seen), Ok(LEN));
        assert_eq!(seen, FIRST);
    });
    assert_eq!(
        runs,
        1 << 12,
        "two lines, invalidated, written, invalidated"
    );
}

#[test]
fn a_partial_sync_for_the_cpu_sees_later_writes_too() {
    under_all_decisions(|device, wire, done| {
        let mut mapping = device.map_from_device(LEN).unwrap();
        wire.write(mapping.bus().get(), &FIRST[..5]);
        let mut seen = [0; LEN];
        mapping.sync_for_cpu(1, &mut seen[..4]).unwrap();
        assert_eq!(seen[..4], FIRST[..4]);
        wire.write(mapping.bus().get(), &SECOND[..6]);
        assert_eq!(mapping.complete(done, 6, &mut seen), Ok(6));
        assert_eq!(seen[..6], SECOND[..6]);
    });
}

#[test]
fn a_partial_sync_for_the_device_keeps_what_it_wrote_beside() {
    under_all_decisions(|device, wire, done| {
        let mut mapping = device.map_bidirectional(&FIRST[..8]).unwrap();
        wire.write(mapping.bus().get(), &SECOND[..2]);
        mapping.sync_for_device(4, &[3; 2]).unwrap();
        let mut seen = [0; 8];
        assert_eq!(mapping.complete(done, 8, &mut seen), Ok(8));
        assert_eq!(seen, [0x22, 0x22, 0x11, 0x11, 3, 3, 0x11, 0x11]);
    });
}

#[test]
fn a_lent_buffer_comes_back_with_what_was_written() {
    under_all_decisions(|device, wire, done| {
        let mut buffer = device.allocate(32).unwrap();
        buffer.fill(0x33);
        let lent = buffer.lend_from_device(32).unwrap();
        wire.write(lent.bus().get(), &FIRST[..7]);
        let buffer = lent.reclaim(done).unwrap();
        assert_eq!(buffer[..7], FIRST[..7]);
        assert_eq!(buffer[7..], [0x33; 25], "what was not written is kept");
    });
}

#[test]
fn coherent_memory_agrees_at_once() {
    under_all_decisions(|device, wire, done| {
        let words = device.coherent_slice(9, 32).unwrap();
        let words: mem2_dma::Coherent<'_, [mem2_dma::Le32]> = words;
        words[0].set(0x0403_0201);
        words.publish();
        let bus = words.bus().get();
        assert_eq!(wire.read(bus)[..8], [1, 2, 3, 4, 0, 0, 0, 0]);
        wire.write(bus, &[5, 6]);
        words.refresh();
        assert_eq!(words[0].get(), 0x0403_0605);
        words.free(done).unwrap();
    });
}
