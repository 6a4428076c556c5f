//! Waiting for room: in order, nobody starves, whoever gives up leaves no trace.

mod common;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use common::memory;
use mem2_dma::*;

/// A waker that counts and tells the order.
struct Bell {
    rung: AtomicUsize,
    clock: Arc<AtomicUsize>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(
            self.clock.fetch_add(1, Ordering::Relaxed) + 1,
            Ordering::Relaxed,
        );
    }
}

fn bells<const N: usize>() -> [Arc<Bell>; N] {
    let clock = Arc::new(AtomicUsize::new(0));
    std::array::from_fn(|_| {
        Arc::new(Bell {
            rung: AtomicUsize::new(0),
            clock: clock.clone(),
        })
    })
}

fn poll<F: Future>(future: Pin<&mut F>, bell: &Arc<Bell>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&bell.clone().into()))
}

/// A pool of 8 slots with 3 places in the line.
fn with_device(test: impl FnOnce(&Device)) {
    let provider = Offset::new(memory(4096), BusAddr::new(0x1000_0000)).unwrap();
    let mut storage = Storage::<1, 16, 3>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    test(&pool.attach(Constraints::NONE).unwrap());
}

#[test]
fn room_that_is_there_is_given_at_once() {
    with_device(|device| {
        let [bell] = bells();
        let mut map = pin!(device.wait_to_device(b"now"));
        let Poll::Ready(Ok(mapping)) = poll(map.as_mut(), &bell) else {
            panic!("had to wait")
        };
        assert_eq!(mapping.len(), 3);
    });
}

#[test]
fn waiters_are_woken_in_order_and_served_when_there_is_room() {
    with_device(|device| {
        let all = device.map_from_device(4096).unwrap();
        let [one, two] = bells();
        let (mut first, mut second) = (
            pin!(device.wait_from_device(2048)),
            pin!(device.wait_from_device(2048)),
        );
        assert!(poll(first.as_mut(), &one).is_pending());
        assert!(poll(second.as_mut(), &two).is_pending());
        drop(all);
        assert_eq!(
            (
                one.rung.load(Ordering::Relaxed),
                two.rung.load(Ordering::Relaxed)
            ),
            (1, 2)
        );
        assert!(matches!(poll(second.as_mut(), &two), Poll::Ready(Ok(_))));
        assert!(matches!(poll(first.as_mut(), &one), Poll::Ready(Ok(_))));
    });
}

#[test]
fn small_requests_pass_a_large_one_but_not_for_ever() {
    with_device(|device| {
        let half = device.map_from_device(2048).unwrap();
        let [large, small] = bells();
        let mut waiting = pin!(device.wait_from_device(4096));
        assert!(poll(waiting.as_mut(), &large).is_pending());
        let mut passed = 0;
        loop {
            let mut map = pin!(device.wait_from_device(512));
            match poll(map.as_mut(), &small) {
                Poll::Ready(mapping) => {
                    drop(mapping.unwrap());
                    passed += 1;
                    assert!(passed < 1000, "the large one starves");
                }
                Poll::Pending => break,
            }
        }
        assert_eq!(passed, 16);
        // Now the small ones wait until the large one has had its turn.
        let mut map = pin!(device.wait_from_device(512));
        assert!(poll(map.as_mut(), &small).is_pending());
        drop(half);
        assert!(poll(map.as_mut(), &small).is_pending());
        let Poll::Ready(Ok(whole)) = poll(waiting.as_mut(), &large) else {
            panic!("the large one starves")
        };
        assert!(poll(map.as_mut(), &small).is_pending());
        drop(whole);
        assert!(poll(map.as_mut(), &small).is_ready());
    });
}

#[test]
fn whoever_gives_up_leaves_the_line_and_lets_others_through() {
    with_device(|device| {
        let _half = device.map_from_device(2048).unwrap();
        let [large, small] = bells();
        {
            let mut waiting = Box::pin(device.wait_from_device(4096));
            assert!(poll(waiting.as_mut(), &large).is_pending());
            for _ in 0..16 {
                assert!(poll(pin!(device.wait_from_device(512)), &small).is_ready());
            }
            let mut blocked = pin!(device.wait_from_device(512));
            assert!(poll(blocked.as_mut(), &small).is_pending());
            assert_eq!(small.rung.load(Ordering::Relaxed), 0);
            drop(waiting);
            assert_ne!(small.rung.load(Ordering::Relaxed), 0);
            assert!(poll(blocked.as_mut(), &small).is_ready());
        }
        assert_eq!(device.pool().stats().live, 1);
    });
}

#[test]
fn a_full_line_is_an_error_and_so_is_what_can_never_be() {
    with_device(|device| {
        let _all = device.map_from_device(4096).unwrap();
        let [bell] = bells();
        let mut line: Vec<_> = (0..3)
            .map(|_| Box::pin(device.wait_from_device(512)))
            .collect();
        for waiting in &mut line {
            assert!(poll(waiting.as_mut(), &bell).is_pending());
            assert!(
                poll(waiting.as_mut(), &bell).is_pending(),
                "polled again it keeps its place"
            );
        }
        let Poll::Ready(Err(error)) = poll(pin!(device.wait_from_device(512)), &bell) else {
            panic!()
        };
        assert_eq!(error, Error::TooMany { max: 3 });
        line.pop();
        assert!(poll(pin!(device.wait_from_device(512)), &bell).is_pending());
        let Poll::Ready(Err(error)) = poll(pin!(device.wait_from_device(5000)), &bell) else {
            panic!()
        };
        assert_eq!(
            error,
            Error::TooLarge {
                len: 5000,
                max: 4096
            }
        );
    });
}

#[test]
fn a_quarantine_that_is_released_wakes_those_who_wait() {
    with_device(|device| {
        let all = device.map_from_device(4096).unwrap();
        all.bus();
        let quarantine = all.quarantine();
        let [bell] = bells();
        let mut waiting = pin!(device.wait_from_device(512));
        assert!(poll(waiting.as_mut(), &bell).is_pending());
        // SAFETY: there is no device.
        quarantine.release(&unsafe { Quiesced::assert() });
        assert_eq!(bell.rung.load(Ordering::Relaxed), 1);
        assert!(poll(waiting.as_mut(), &bell).is_ready());
    });
}
