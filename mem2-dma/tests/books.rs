//! What a pool tells of itself: leaks by the line that made them, statistics, and the room that it keeps.

mod common;

use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::task::{Context, Waker};

use common::memory;
use mem2_dma::*;

/// A pool of 16 slots, some of them kept.
fn with_pool(reserve: Reserve, test: impl for<'p> FnOnce(&'p Pool<'p>)) {
    let provider = Offset::new(memory(8192), BusAddr::new(0x1000_0000)).unwrap();
    let mut storage = Storage::<1, 20>::new();
    let pool = Pool::with_reserve(&provider, &mut storage, reserve).unwrap();
    test(&pool);
}

fn leaks(pool: &Pool) -> Vec<(u32, u8, bool, u32)> {
    let mut leaks = Vec::new();
    pool.for_each_live(|leak| {
        assert_eq!(leak.caller.file(), file!());
        leaks.push((
            leak.slot_bytes,
            leak.device,
            leak.quarantined,
            leak.caller.line(),
        ));
    });
    leaks
}

#[test]
fn a_leak_report_names_the_line_that_made_each_mapping_whatever_its_kind() {
    with_pool(Reserve::default(), |pool| {
        let device = pool.attach(Constraints::NONE).unwrap();
        let other = pool.attach(Constraints::NONE).unwrap();
        let line = Location::caller().line();
        let kept = device.map_to_device(&[1; 600]).unwrap();
        let dropped = other.map_from_device(512).unwrap();
        let buffer = device.allocate(100).unwrap();
        let word = other.coherent::<Le32>(64).unwrap();
        let scatter = device.scatter_from_device::<2>(1024).unwrap();
        let mut waiting = pin!(other.wait_from_device(512));
        let waited = waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        dropped.bus();
        drop(dropped);
        let (one, two) = (device.id(), other.id());
        let expected = [
            (1024, one, false, line + 1),
            (512, two, true, line + 2),
            (512, one, false, line + 3),
            (512, two, false, line + 4),
            (1024, one, false, line + 5),
            (512, two, false, line + 6),
        ];
        assert_eq!(leaks(pool), expected);
        drop((kept, buffer, scatter, waited));
        assert_eq!(
            leaks(pool),
            [expected[1], expected[3]],
            "free or quarantined"
        );
        drop(word);
        // SAFETY: there is no device.
        assert_eq!(unsafe { other.reset() }, 2);
        assert_eq!(leaks(pool), []);
    });
}

#[test]
fn control_transfers_find_room_whatever_bulk_does() {
    let reserve = Reserve {
        mappings: 2,
        bytes: 512,
    };
    with_pool(reserve, |pool| {
        let bulk = pool.attach(Constraints::NONE).unwrap();
        let control = pool.attach(Constraints::NONE).unwrap().reserved();
        assert_eq!(bulk.max_mapping_size(), 14 * 512);
        let flood: Vec<_> = std::iter::from_fn(|| bulk.map_from_device(512).ok()).collect();
        assert_eq!(flood.len(), 14);
        for _ in 0..20 {
            let setup = control.map_to_device(b"8 bytes.").unwrap();
            let data = control.map_from_device(18).unwrap();
            assert_eq!(
                (setup.bus().get(), data.bus().get()),
                (0x1000_1C00, 0x1000_1E00)
            );
            assert!(control.map_from_device(1).is_err());
            // SAFETY: there is no device.
            let done = unsafe { Quiesced::assert() };
            setup.discard(&done).unwrap();
            data.complete(&done, 18, &mut [0; 18]).unwrap();
        }
        drop(flood);
        assert_eq!((pool.stats().used, pool.stats().live), (0, 0));
    });
}

#[test]
fn statistics_count_what_was_used_copied_lent_and_refused() {
    with_pool(Reserve::default(), |pool| {
        let device = pool.attach(Constraints::NONE).unwrap();
        // SAFETY: there is no device.
        let done = unsafe { Quiesced::assert() };
        let sent = device.map_to_device(&[7; 1000]).unwrap();
        let received = device.map_from_device(4096).unwrap();
        received.complete(&done, 100, &mut [0; 4096]).unwrap();
        sent.discard(&done).unwrap();
        let buffer = device.allocate(4096).unwrap();
        let buffer = buffer.lend_to_device(4000).unwrap().reclaim(&done).unwrap();
        assert!(device.map_from_device(8000).is_err());
        let stats = pool.stats();
        let expected = Stats {
            base: BusAddr::new(0x1000_0000),
            size: 8192,
            used: 4096,
            high_water: 1024 + 4096,
            mappings: 3,
            bounced: 1100,
            direct: 4000,
            refused: 1,
            live: 1,
            quarantined: 0,
        };
        assert_eq!(stats, expected);
        assert_eq!(
            stats.to_string(),
            "8192 bytes at 0x10000000: 4096 used (at most 5120), 3 mappings, 1100 bytes bounced, 4000 direct, 1 refused, 1 live, 0 quarantined"
        );
        drop(buffer);
    });
}

#[test]
fn a_refusal_says_why() {
    with_pool(Reserve::default(), |pool| {
        let device = pool.attach(Constraints::NONE).unwrap();
        let slots: Vec<_> = (0..16)
            .map(|_| device.map_from_device(512).unwrap())
            .collect();
        let full = Error::Exhausted { len: 1, free: 0 };
        assert_eq!(device.map_from_device(1).err(), Some(full));
        let _every_third: Vec<_> = slots
            .into_iter()
            .enumerate()
            .filter_map(|(index, slot)| (index % 3 == 0).then_some(slot))
            .collect();
        let (len, largest_run) = (2000, 1024);
        let split = Error::Fragmented { len, largest_run };
        assert_eq!(device.map_from_device(len).err(), Some(split));
        let beyond = Constraints::NONE.window(BusAddr::new(0), BusAddr::new(0x0FFF_FFFF));
        let unreachable = Error::Unreachable {
            pool: BusAddr::new(0x1000_0000),
        };
        assert_eq!(pool.attach(beyond).err(), Some(unreachable));
        let crooked = Constraints::NONE.align(48);
        assert_eq!(pool.attach(crooked).err(), Some(Error::BadConstraints));
    });
}

#[test]
fn what_waits_for_one_proof_is_freed_by_it_to_the_last_mapping() {
    with_pool(Reserve::default(), |pool| {
        let device = pool.attach(Constraints::NONE).unwrap();
        let chain = || {
            let mut chain = Quarantine::new(pool);
            for _ in 0..3 {
                let unlinked = device.map_from_device(512).unwrap();
                assert!(chain.append(unlinked.quarantine()).is_none());
            }
            chain
        };
        let (mut one, other) = (chain(), chain());
        assert!(one.append(other).is_none());
        assert!(one.append(Quarantine::new(pool)).is_none());
        assert_eq!((one.len(), pool.stats().quarantined), (6, 6));
        let later = chain();
        // SAFETY: there is no device.
        let done = unsafe { Quiesced::assert() };
        one.release(&done);
        assert_eq!((pool.stats().used, pool.stats().quarantined), (3 * 512, 3));
        later.release(&done);
        assert_eq!((pool.stats().used, pool.stats().live), (0, 0));
    });
}
