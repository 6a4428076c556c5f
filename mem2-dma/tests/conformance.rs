//! One suite, run for every provider: what a pool promises, whatever lies beneath it.

mod common;

use common::{FakeCache, FakeDevice, FakeHypervisor, Random, low_memory, memory};
use mem2_dma::*;

const BYTES: usize = 64 * 1024;

/// A descriptor, as a controller has them.
#[repr(C, align(32))]
struct Descriptor {
    next: Le32,
    words: [Le32; 3],
}

// SAFETY: made of `Le32`.
unsafe impl Layout for Descriptor {}

/// Promises that the device has let go: the fake one acts only when told.
fn done() -> Quiesced {
    // SAFETY: see above.
    unsafe { Quiesced::assert() }
}

/// A pool over a provider, and the device in front of it.
fn with_pool(provider: &dyn Provider, test: impl FnOnce(&Device, &FakeDevice)) {
    let mut storage = Storage::<2, 48>::new();
    let pool: Pool = Pool::new(provider, &mut storage).unwrap();
    let device = pool.attach(Constraints::NONE).unwrap();
    test(&device, &FakeDevice(provider));
}

fn the_device_reads_what_was_mapped_and_zeros_to_the_end_of_the_line(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        // Dirt from an earlier mapping in the same slots.
        let first = device.map_to_device(&[0xEE; 512]).unwrap();
        first.bus();
        first.discard(&done()).unwrap();
        for len in [1, 2, 3, 4, 5, 13, 31, 32, 33, 511, 512, 513, 4096] {
            let data = Random(len as u32).bytes(len);
            let mapping = device.map_to_device(&data).unwrap();
            let bus = mapping.bus();
            assert!(bus.is_aligned(32));
            let seen = fake.read(bus, len.next_multiple_of(32));
            assert_eq!(seen[..len], data[..]);
            assert!(
                seen[len..].iter().all(|byte| *byte == 0),
                "padding of {len}"
            );
            mapping.discard(&done()).unwrap();
        }
    });
}

fn a_receive_delivers_exactly_what_the_device_wrote(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        let old = device.map_to_device(&[0xEE; 4096]).unwrap();
        old.bus();
        old.discard(&done()).unwrap();
        let mapping = device.map_from_device(4096).unwrap();
        let data = Random(3).bytes(100);
        fake.write(mapping.bus(), &data);
        let mut dst = [0x11; 4096];
        let before = device.pool().stats().bounced;
        assert_eq!(mapping.complete(&done(), 100, &mut dst), Ok(100));
        assert_eq!(dst[..100], data[..]);
        assert_eq!(dst[100..], [0x11; 3996]);
        assert_eq!(device.pool().stats().bounced - before, 100);
    });
}

fn nothing_dirty_is_left_to_overwrite_what_the_device_writes(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        // Make every line of the slot dirty and give it back; the next mapping of it is written by the device, and then its neighbour is cleaned.
        let mut buffer = match device.allocate(1024) {
            Ok(buffer) => buffer,
            Err(error) => {
                return assert_eq!(
                    (error, provider.stores()),
                    (Error::WordsOnly, Stores::Words)
                );
            }
        };
        buffer.fill(0xDD);
        drop(buffer);
        let mapping = device.map_from_device(1024).unwrap();
        fake.write(mapping.bus(), &[0x77; 1024]);
        let memory = provider.memory().cast();
        // SAFETY: whole lines; the pool's memory.
        unsafe { provider.cache().clean(memory, BYTES) };
        let mut dst = [0; 1024];
        mapping.complete(&done(), 1024, &mut dst).unwrap();
        assert_eq!(dst, [0x77; 1024]);
    });
}

fn a_zeroed_receive_shows_no_stale_byte_even_if_the_device_lies(provider: &dyn Provider) {
    with_pool(provider, |device, _| {
        let secret = device.map_to_device(&[0xEE; 2048]).unwrap();
        secret.bus();
        secret.discard(&done()).unwrap();
        let mapping = device.map_from_device_zeroed(2048).unwrap();
        mapping.bus();
        let mut dst = [0x11; 2048];
        mapping.complete(&done(), 2048, &mut dst).unwrap();
        assert_eq!(dst, [0; 2048]);
    });
}

fn both_ways_the_device_reads_then_writes(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        let mapping = device.map_bidirectional(b"question").unwrap();
        let bus = mapping.bus();
        assert_eq!(fake.read(bus, 8), b"question");
        fake.write(bus, b"answer");
        let mut dst = [0; 8];
        mapping.complete(&done(), 8, &mut dst).unwrap();
        assert_eq!(&dst, b"answeron");
    });
}

fn parts_are_synchronised_and_nothing_else(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        let mut random = Random(9);
        let mut mapping = device.map_bidirectional(&[0x10; 300]).unwrap();
        let bus = mapping.bus();
        let mut model = vec![0x10; 300];
        for _ in 0..200 {
            let offset = random.below(300) as usize;
            let len = random.below(301 - offset as u32) as usize;
            let data = random.bytes(len);
            if random.below(2) == 0 {
                mapping.sync_for_device(offset, &data).unwrap();
                model[offset..offset + len].copy_from_slice(&data);
                assert_eq!(fake.read(bus, 300), model);
            } else {
                let at = bus.checked_add(offset as u32).unwrap();
                fake.write(at, &data);
                model[offset..offset + len].copy_from_slice(&data);
                let mut seen = vec![0xFF; len];
                mapping.sync_for_cpu(offset, &mut seen).unwrap();
                assert_eq!(seen, data);
            }
        }
        let outside = Error::OutOfRange {
            offset: 299,
            len: 2,
            size: 300,
        };
        assert_eq!(mapping.sync_for_device(299, &[0; 2]), Err(outside));
        assert_eq!(mapping.sync_for_cpu(299, &mut [0; 2]), Err(outside));
        assert_eq!(fake.read(bus, 300), model);
        mapping.discard(&done()).unwrap();
    });
}

fn a_buffer_goes_to_the_device_and_back_without_a_copy(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        let mut buffer = match device.allocate(1000) {
            Ok(buffer) => buffer,
            Err(error) => {
                assert_eq!(
                    (error, provider.stores()),
                    (Error::WordsOnly, Stores::Words)
                );
                return assert_eq!(device.pool().stats().live, 0);
            }
        };
        assert_eq!(buffer[..], [0; 1000]);
        buffer.fill(0x21);
        let lent = buffer.lend_to_device(1000).unwrap();
        assert_eq!(fake.read(lent.bus(), 1000), [0x21; 1000]);
        let buffer = lent.reclaim(&done()).unwrap();
        let lent = buffer.lend_from_device(512).unwrap();
        fake.write(lent.bus(), &[0x43; 100]);
        let buffer = lent.reclaim(&done()).unwrap();
        assert_eq!(buffer[..100], [0x43; 100]);
        assert_eq!(
            buffer[100..],
            [0x21; 900],
            "a short transfer leaves the rest"
        );
        let stats = device.pool().stats();
        assert_eq!((stats.bounced, stats.direct), (0, 1512));
    });
}

fn coherent_memory_is_zeroed_aligned_alone_and_little_endian(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        // Dirt first.
        device.map_to_device(&[0xEE; 16384]).unwrap().bus();
        // SAFETY: the fake device is idle.
        unsafe { device.reset() };
        let ring = device.coherent_slice::<Descriptor>(5, 4096).unwrap();
        assert!(ring.bus().is_aligned(4096));
        assert_eq!(fake.read(ring.bus(), 160), [0; 160]);
        let head = device.coherent::<Descriptor>(64).unwrap();
        assert!(head.bus().is_aligned(64));
        head.next.set(ring.bus_of(1).unwrap().get());
        head.words[2].set(0x1234_5678);
        head.publish();
        assert_eq!(
            fake.read(head.bus(), 4),
            ring.bus_of(1).unwrap().get().to_le_bytes()
        );
        assert_eq!(fake.read(head.bus(), 16)[12..], [0x78, 0x56, 0x34, 0x12]);
        fake.write(head.bus(), &[4, 3, 2, 1]);
        head.refresh();
        assert_eq!(head.next.get(), 0x0102_0304);
        assert_eq!(
            (ring.bus_of(4), ring.bus_of(5)),
            (ring.bus().checked_add(128), None)
        );
        assert_eq!(
            device.coherent::<Descriptor>(48).err(),
            Some(Error::BadConstraints)
        );
        ring.free(&done()).unwrap();
        head.free(&done()).unwrap();
        assert_eq!(device.pool().stats().used, 0);
    });
}

fn what_was_dropped_or_forgotten_in_flight_is_not_reused(provider: &dyn Provider) {
    with_pool(provider, |device, fake| {
        let pool = device.pool();
        let unseen = device.map_from_device(512).unwrap();
        drop(unseen);
        assert_eq!(pool.stats().live, 0, "no device knew its address");
        let dropped = device.map_from_device(512).unwrap();
        let forgotten = device.map_from_device(512).unwrap();
        let kept = device.map_from_device(512).unwrap();
        let addresses = [dropped.bus(), forgotten.bus(), kept.bus()];
        drop(dropped);
        std::mem::forget(forgotten);
        let mut unlinked = kept.quarantine();
        let stats = pool.stats();
        assert_eq!((stats.live, stats.quarantined), (3, 2));
        let fresh = device.map_to_device(&[0x99; 512]).unwrap();
        for late in addresses {
            fake.write(late, &[0xBA; 512]);
        }
        assert_eq!(fake.read(fresh.bus(), 512), [0x99; 512]);
        // The doorbell frees what was unlinked before it, a halt the rest.
        unlinked.take().release(&done());
        assert!(unlinked.is_empty());
        assert_eq!(pool.stats().live, 3);
        fresh.discard(&done()).unwrap();
        // SAFETY: the fake device is idle; nothing of it is used again.
        assert_eq!(unsafe { device.reset() }, 2);
        assert_eq!(
            (
                pool.stats().live,
                pool.stats().used,
                pool.stats().quarantined
            ),
            (0, 0, 0)
        );
    });
}

fn translation_goes_there_and_back(provider: &dyn Provider) {
    let mut offset = 0;
    let bytes = provider.memory().len() as u32;
    while let Some(extent) = provider.extent(offset) {
        for within in [0, 1, 31, 4095, extent.len - 1] {
            let bus = extent.bus.checked_add(within).unwrap();
            assert_eq!(provider.offset_of(bus), Some(offset + within));
            let rest = Extent {
                bus,
                len: extent.len - within,
            };
            assert_eq!(provider.extent(offset + within), Some(rest));
        }
        let after = extent.bus.checked_add(extent.len).unwrap();
        assert_ne!(
            provider.offset_of(after),
            Some(offset + extent.len),
            "an extent ends where contiguity does"
        );
        offset += extent.len;
    }
    assert_eq!(offset, bytes);
    assert_eq!(
        provider.offset_of(BusAddr::new(0x0000_1000)),
        None,
        "foreign memory"
    );
}

fn a_long_buffer_is_split_over_what_is_free(provider: &dyn Provider) {
    let mut storage = Storage::<2, 48>::new();
    let pool: Pool = Pool::new(provider, &mut storage).unwrap();
    let fake = FakeDevice(provider);
    let device = pool
        .attach(Constraints::NONE.max_segment(5000).granule(512))
        .unwrap();
    let data = Random(77).bytes(20_001);
    let scatter = device.scatter_to_device::<8>(&data).unwrap();
    let mut seen = Vec::new();
    for (index, segment) in scatter.segments().enumerate() {
        let last = seen.len() + segment.len() == data.len();
        assert!(
            segment.len() <= 5000 && (last || segment.len() % 512 == 0),
            "segment {index}"
        );
        seen.extend(fake.read(segment.bus(), segment.len()));
    }
    assert_eq!(seen, data);
    scatter.discard(&done()).unwrap();
    assert_eq!(
        device.scatter_to_device::<4>(&data).err(),
        Some(Error::TooMany { max: 4 })
    );
    assert_eq!(pool.stats().used, 0);

    let scatter = device.scatter_from_device::<8>(20_001).unwrap();
    let mut rest = &data[..12_345];
    for segment in scatter.segments() {
        let (part, after) = rest.split_at(segment.len().min(rest.len()));
        fake.write(segment.bus(), part);
        rest = after;
    }
    let mut dst = vec![0x11; 20_001];
    assert_eq!(scatter.complete(&done(), 12_345, &mut dst), Ok(12_345));
    assert_eq!(dst[..12_345], data[..12_345]);
    assert!(dst[12_345..].iter().all(|byte| *byte == 0x11));
    assert_eq!(pool.stats().used, 0);
}

fn devices_lie_and_callers_err_without_harm(provider: &dyn Provider) {
    with_pool(provider, |device, _| {
        let mut dst = [0x11; 64];
        let mapping = device.map_from_device(32).unwrap();
        assert_eq!(
            mapping.complete(&done(), 33, &mut dst),
            Err(Error::Overrun {
                received: 33,
                len: 32
            })
        );
        let mapping = device.map_from_device(128).unwrap();
        assert_eq!(
            mapping.complete(&done(), 65, &mut dst),
            Err(Error::ShortDestination {
                received: 65,
                room: 64
            })
        );
        assert_eq!(dst, [0x11; 64]);
        assert_eq!(device.map_from_device(0).err(), Some(Error::Empty));
        assert_eq!(device.map_to_device(&[]).err(), Some(Error::Empty));
        let max = device.max_mapping_size();
        assert_eq!(
            device.map_from_device(max + 1).err(),
            Some(Error::TooLarge { len: max + 1, max })
        );
        let most = device.map_from_device(max).unwrap();
        assert_eq!(most.len(), max);
        assert_eq!(
            most.bus_at(max).err(),
            Some(Error::OutOfRange {
                offset: max,
                len: 1,
                size: max
            })
        );
        assert_eq!(
            most.bus_at(max - 1).ok(),
            most.bus().checked_add(max as u32 - 1)
        );
    });
}

/// Every mapping live at once: no byte of one is ever seen through another, on either side.
fn no_byte_of_one_mapping_reaches_another(provider: &dyn Provider) {
    let mut storage = Storage::<2, 48>::new();
    let pool: Pool = Pool::new(provider, &mut storage).unwrap();
    let fake = FakeDevice(provider);
    let mut random = Random(0xACE1);
    let devices = [
        Constraints::NONE,
        Constraints::NONE.align(256),
        Constraints::NONE.boundary(1024).max_segment(1024),
        Constraints::NONE.align(64).boundary(8192),
    ]
    .map(|constraints| pool.attach(constraints).unwrap());
    // Who wrote each byte of the pool last: the number of a mapping.
    let mut origin = vec![0u32; BYTES];
    let mut out: Vec<(u32, Mapping<'_, ToDevice>, Vec<u8>)> = Vec::new();
    let mut into: Vec<(u32, Mapping<'_, FromDevice>)> = Vec::new();
    let range = |bus: BusAddr, len: usize| {
        let offset = provider.offset_of(bus).unwrap() as usize;
        offset..offset + len
    };
    for id in 1..1500 {
        let device = random.pick(&devices);
        let len = match random.below(3) {
            0 => 1 + random.below(64),
            1 => 1 + random.below(1024),
            _ => 1 + random.below(9000),
        } as usize;
        match random.below(4) {
            0 => {
                let data = random.bytes(len);
                if let Ok(mapping) = device.map_to_device(&data) {
                    origin[range(mapping.bus(), len)].fill(id);
                    out.push((id, mapping, data));
                }
            }
            1 => {
                if let Ok(mapping) = device.map_from_device(len) {
                    origin[range(mapping.bus(), len)].fill(id);
                    into.push((id, mapping));
                }
            }
            2 if !out.is_empty() => {
                let (id, mapping, data) = out.swap_remove(random.below(out.len() as u32) as usize);
                let bytes = range(mapping.bus(), mapping.len());
                assert!(
                    origin[bytes].iter().all(|byte| *byte == id),
                    "written by another meanwhile"
                );
                assert_eq!(fake.read(mapping.bus(), mapping.len()), data);
                mapping.discard(&done()).unwrap();
            }
            3 if !into.is_empty() => {
                let (id, mapping) = into.swap_remove(random.below(into.len() as u32) as usize);
                let bytes = range(mapping.bus(), mapping.len());
                assert!(
                    origin[bytes].iter().all(|byte| *byte == id),
                    "written by another meanwhile"
                );
                let received = random.below(mapping.len() as u32 + 1) as usize;
                let data = random.bytes(received);
                fake.write(mapping.bus(), &data);
                let mut dst = vec![0xA5; mapping.len() + 7];
                mapping.complete(&done(), received, &mut dst).unwrap();
                assert_eq!(dst[..received], data[..]);
                assert!(dst[received..].iter().all(|byte| *byte == 0xA5));
            }
            _ => {}
        }
    }
    for (_, mapping, data) in out {
        assert_eq!(fake.read(mapping.bus(), mapping.len()), data);
        mapping.discard(&done()).unwrap();
    }
    for (_, mapping) in into {
        mapping.discard(&done()).unwrap();
    }
    assert_eq!((pool.stats().used, pool.stats().live), (0, 0));
}

/// Runs the suite for one provider; every rule is a test of its own in the provider's module.
macro_rules! suite {
    ($provider:ident: $make:expr => $($rule:ident)*) => {
        mod $provider {
            use super::*;
            $(#[test]
            fn $rule() {
                let provider = $make;
                super::$rule(&provider);
            })*
        }
    };
    ($($provider:ident: $make:expr;)*) => {
        $(suite! { $provider: $make =>
            the_device_reads_what_was_mapped_and_zeros_to_the_end_of_the_line
            a_receive_delivers_exactly_what_the_device_wrote
            nothing_dirty_is_left_to_overwrite_what_the_device_writes
            a_zeroed_receive_shows_no_stale_byte_even_if_the_device_lies
            both_ways_the_device_reads_then_writes
            parts_are_synchronised_and_nothing_else
            a_buffer_goes_to_the_device_and_back_without_a_copy
            coherent_memory_is_zeroed_aligned_alone_and_little_endian
            what_was_dropped_or_forgotten_in_flight_is_not_reused
            translation_goes_there_and_back
            a_long_buffer_is_split_over_what_is_free
            devices_lie_and_callers_err_without_harm
            no_byte_of_one_mapping_reaches_another
        })*
    };
}

/// A cached view and the memory behind it.
fn fake_cache() -> (&'static mut [u8], std::ptr::NonNull<u8>, FakeCache) {
    let (cached, ram) = (memory(BYTES), memory(BYTES));
    let start = std::ptr::NonNull::from(&mut *ram).cast();
    // SAFETY: the fake cache and the provider share the two memories in one thread, as a CPU's cache and its program do.
    let view = unsafe { std::slice::from_raw_parts_mut(cached.as_mut_ptr(), BYTES) };
    (view, start, FakeCache::new(cached, ram))
}

fn machine() -> Machine<'static, FakeHypervisor> {
    static HYPERVISOR: FakeHypervisor = FakeHypervisor {
        lowest: 0x4000,
        longest: 8,
    };
    let frames = Box::leak(vec![0; BYTES / 4096].into_boxed_slice());
    // Segments of 16 pages cannot be had: half of that can.
    Machine::new(memory(BYTES), frames, &HYPERVISOR, 16, 32).unwrap()
}

fn mem2_cached() -> Mem2<FakeCache> {
    let (cached, ram, cache) = fake_cache();
    let cached = std::ptr::NonNull::from(cached).cast();
    // SAFETY: the two views of one memory, as far as the fake cache makes them so.
    unsafe { Mem2::cached(cached, ram, BusAddr::new(0x1010_0000), BYTES, cache) }.unwrap()
}

fn mem2_uncached() -> Mem2 {
    let ram = std::ptr::NonNull::from(memory(BYTES)).cast();
    // SAFETY: memory of its own.
    unsafe { Mem2::uncached(ram, BusAddr::new(0x1010_0000), BYTES) }.unwrap()
}

suite! {
    identity: Identity::new(low_memory(BYTES)).unwrap();
    offset: Offset::new(memory(BYTES), BusAddr::new(0x8000_0000)).unwrap();
    machine: machine();
    mem2_cached: mem2_cached();
    mem2_uncached: mem2_uncached();
}
