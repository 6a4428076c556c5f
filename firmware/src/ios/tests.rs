use super::testing::{BASE, Driver, rig, rig_at};
use super::{Fd, IosError, Output, Request, SLOTS, code};
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use mem2_dma::Pool;
use std::vec::Vec;

fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn is_empty(pool: &Pool<'_>) -> bool {
    let stats = pool.stats();
    (stats.live, stats.quarantined) == (0, 0)
}

#[test]
fn an_open_names_its_path_by_physical_address_and_mode() {
    let (ipc, ios, pool) = rig();
    let mut open = pin!(ipc.open("/dev/usb/ven", 2));
    assert!(poll(open.as_mut()).is_pending());
    let block = ios.borrow().last();
    assert_eq!((block[0], block[4]), (1, 2));
    assert_eq!(block[3] % 32, 0);
    let path = ios.borrow().read(block[3], 64);
    assert_eq!(&path[..13], b"/dev/usb/ven\0");
    ios.borrow_mut().reply(0, 7);
    assert_eq!(poll(open.as_mut()), Poll::Ready(Ok(Fd::from_number(7))));
    assert!(is_empty(pool));
}

#[test]
fn an_ioctl_has_number_input_and_output() {
    let (ipc, ios, pool) = rig();
    let mut output = [0xEE; 5];
    {
        let mut ioctl = pin!(ipc.ioctl(Fd::from_number(3), 16, &[1, 2, 3], &mut output));
        assert!(poll(ioctl.as_mut()).is_pending());
        let block = ios.borrow().last();
        assert_eq!([block[0], block[2], block[3]], [6, 3, 16]);
        assert_eq!([block[5], block[7]], [3, 5]);
        assert_eq!(ios.borrow().read(block[4], 3), [1, 2, 3]);
        // IOS writes less than there is room for.
        ios.borrow().write(block[6], &[9, 8]);
        ios.borrow_mut().reply(0, 0);
        assert_eq!(poll(ioctl.as_mut()), Poll::Ready(Ok(0)));
    }
    assert_eq!(output, [9, 8, 0, 0, 0], "nothing stale comes out");
    assert!(is_empty(pool));
}

#[test]
fn an_ioctl_without_buffers_has_zeros_in_their_places() {
    let (ipc, ios, _) = rig();
    let mut ioctl = pin!(ipc.ioctl(Fd::from_number(3), 2, &[], &mut []));
    assert!(poll(ioctl.as_mut()).is_pending());
    assert_eq!(ios.borrow().last()[..8], [6, 0, 3, 2, 0, 0, 0, 0]);
}

#[test]
fn an_ioctlv_names_a_table_of_addresses_and_lengths_inputs_first() {
    let (ipc, ios, pool) = rig();
    let request = Request::ioctlv(
        ipc.device(),
        Fd::from_number(4),
        21,
        &[&[7; 64]],
        &[Output::Undefined(100)],
    );
    let mut reply = pin!(ipc.submit(request.unwrap()).unwrap());
    let block = ios.borrow().last();
    assert_eq!(
        [block[0], block[2], block[3], block[4], block[5]],
        [7, 4, 21, 1, 1]
    );
    let table: Vec<u32> = (0..8)
        .map(|word| ios.borrow().word(block[6] + 4 * word))
        .collect();
    assert_eq!([table[1], table[3]], [64, 100]);
    assert_eq!(table[4..], [0; 4]);
    assert_eq!(ios.borrow().read(table[0], 64), [7; 64]);
    assert!(table[2].is_multiple_of(32) && table[2] >= BASE);
    ios.borrow().write(table[2], b"abc");
    ios.borrow_mut().reply(0, 3);
    let Poll::Ready(Ok(mut reply)) = poll(reply.as_mut()) else {
        panic!("no reply");
    };
    let mut received = [0; 3];
    reply.receive(1, &mut received).unwrap();
    assert_eq!(&received, b"abc");
    assert!(!is_empty(pool), "the reply still holds the memory");
    drop(reply);
    assert!(is_empty(pool));
}

#[test]
fn requests_are_announced_in_order_and_only_after_an_acknowledgement() {
    let (ipc, ios, _) = rig();
    ios.borrow_mut().slow = true;
    let pending: Vec<_> = (0..3)
        .map(|number| ipc.submit(Request::close(Fd::from_number(number))).unwrap())
        .collect();
    ipc.poll();
    assert_eq!(ios.borrow().seen.len(), 1, "the others wait");
    ios.borrow_mut().slow = false;
    ipc.poll();
    ipc.poll();
    let order: Vec<u32> = ios.borrow().seen.iter().map(|block| block[2]).collect();
    assert_eq!(order, [0, 1, 2]);
    assert_eq!(ipc.statistics().in_flight, 3);
    drop(pending);
}

#[test]
fn replies_in_any_order_reach_their_requests() {
    let (ipc, ios, pool) = rig();
    let submit = |number| ipc.submit(Request::close(Fd::from_number(number))).unwrap();
    let (mut a, mut b, mut c) = (pin!(submit(1)), pin!(submit(2)), pin!(submit(3)));
    ipc.poll();
    ipc.poll();
    ios.borrow_mut().reply(2, 33);
    ios.borrow_mut().reply(0, code::INVALID);
    ios.borrow_mut().reply(0, 22);
    let result = |poll: Poll<Result<super::Reply<'_>, IosError>>| match poll {
        Poll::Ready(end) => end.map(|reply| reply.result),
        Poll::Pending => panic!("no reply"),
    };
    assert_eq!(result(poll(c.as_mut())), Ok(33));
    assert_eq!(result(poll(a.as_mut())), Err(IosError::Refused(-4)));
    assert_eq!(result(poll(b.as_mut())), Ok(22));
    assert!(is_empty(pool));
}

#[test]
fn a_dropped_request_keeps_its_memory_until_ios_replies() {
    let (ipc, ios, pool) = rig();
    {
        let mut buffer = [0; 100];
        let mut read = pin!(ipc.read(Fd::from_number(1), &mut buffer));
        assert!(poll(read.as_mut()).is_pending());
    }
    assert_eq!(pool.stats().live, 2, "the block and the buffer");
    ipc.poll();
    assert_eq!(pool.stats().live, 2);
    ios.borrow_mut().reply(0, 100);
    ipc.poll();
    assert!(is_empty(pool));
    assert_eq!(
        (ipc.statistics().forgotten, ipc.statistics().in_flight),
        (1, 0)
    );
}

#[test]
fn a_forgotten_future_leaks_no_more_than_its_slot() {
    let (ipc, ios, pool) = rig();
    let pending = ipc.submit(Request::close(Fd::from_number(1))).unwrap();
    core::mem::forget(pending);
    ios.borrow_mut().reply(0, 0);
    ipc.poll();
    // Its answer waits for ever; IOS has nothing of it.
    assert_eq!(ipc.statistics().in_flight, 0);
    assert_eq!(pool.stats().quarantined, 0);
}

#[test]
fn a_request_that_was_dropped_before_its_announcement_never_reaches_ios() {
    let (ipc, ios, pool) = rig();
    ios.borrow_mut().slow = true;
    let first = ipc.submit(Request::close(Fd::from_number(1))).unwrap();
    drop(ipc.submit(Request::close(Fd::from_number(2))).unwrap());
    ios.borrow_mut().slow = false;
    ipc.poll();
    ipc.poll();
    assert_eq!(ios.borrow().seen.len(), 1);
    ios.borrow_mut().reply(0, 0);
    drop(first);
    ipc.poll();
    assert!(is_empty(pool));
}

#[test]
fn what_a_dropped_open_has_opened_is_closed() {
    let (ipc, ios, pool) = rig();
    // Dropped before the reply.
    {
        let mut open = pin!(ipc.open("/dev/a", 0));
        assert!(poll(open.as_mut()).is_pending());
    }
    ios.borrow_mut().reply(0, 11);
    ipc.poll();
    let block = ios.borrow().last();
    assert_eq!((block[0], block[2]), (2, 11), "close of 11");
    ios.borrow_mut().reply(0, 0);
    ipc.poll();
    assert!(is_empty(pool));

    // Dropped after the reply, before anybody saw it.
    let request = Request::open(ipc.device(), "/dev/a", 0).unwrap();
    let pending = ipc.submit(request).unwrap();
    ipc.poll();
    ios.borrow_mut().reply(0, 12);
    ipc.poll();
    drop(pending);
    ipc.poll();
    let block = ios.borrow().last();
    assert_eq!((block[0], block[2]), (2, 12), "close of 12");
    ios.borrow_mut().reply(0, 0);
    ipc.poll();
    assert!(is_empty(pool));
}

#[test]
fn a_dropped_open_that_failed_needs_no_close() {
    let (ipc, ios, pool) = rig();
    {
        let mut open = pin!(ipc.open("/dev/a", 0));
        assert!(poll(open.as_mut()).is_pending());
    }
    ios.borrow_mut().reply(0, code::NOT_FOUND);
    ipc.poll();
    ipc.poll();
    assert_eq!(ios.borrow().seen.len(), 1);
    assert!(is_empty(pool));
}

#[test]
fn when_every_slot_is_taken_a_request_is_refused_and_later_ones_are_not() {
    let (ipc, ios, pool) = rig();
    let submit = |ipc: &Driver| {
        ipc.submit(Request::close(Fd::from_number(1)))
            .map(core::mem::forget)
    };
    for _ in 0..SLOTS {
        submit(&ipc).unwrap();
        ipc.poll();
    }
    assert_eq!(submit(&ipc), Err(IosError::Busy));
    let live = pool.stats().live;
    let pending = (0..SLOTS).map(|_| ios.borrow_mut().reply(0, 0)).count();
    assert_eq!(
        (pending, live),
        (SLOTS, SLOTS),
        "the refused request holds nothing"
    );
}

#[test]
fn an_ios_that_takes_nothing_is_given_up_after_two_seconds() {
    let (ipc, ios, pool) = rig();
    ios.borrow_mut().dead = true;
    let submit = || ipc.submit(Request::close(Fd::from_number(1)));
    let (mut first, mut second) = (pin!(submit().unwrap()), pin!(submit().unwrap()));
    ios.borrow_mut().now = Driver::SILENCE_US;
    assert!(poll(first.as_mut()).is_pending());
    ios.borrow_mut().now += 1;
    for pending in [first.as_mut(), second.as_mut()] {
        assert!(matches!(poll(pending), Poll::Ready(Err(IosError::Silent))));
    }
    assert!(matches!(submit(), Err(IosError::Silent)));
    let stats = pool.stats();
    assert_eq!(
        (stats.live, stats.quarantined),
        (1, 1),
        "the announced block stays IOS's"
    );
}

#[test]
fn a_reply_to_nobody_is_counted_and_harmless() {
    let (ipc, ios, _) = rig();
    let mut close = pin!(ipc.submit(Request::close(Fd::from_number(1))).unwrap());
    for stray in [0, BASE, 0xFFFF_FFFF, 0x1234] {
        ios.borrow_mut().reply_stray(stray ^ 0x8000);
    }
    assert!(poll(close.as_mut()).is_pending());
    ios.borrow_mut().reply(0, 5);
    assert!(matches!(poll(close.as_mut()), Poll::Ready(Ok(reply)) if reply.result == 5));
    assert_eq!(ipc.statistics().strays, 4);
}

#[test]
fn a_block_that_comes_back_unanswered_is_no_success() {
    let (ipc, ios, pool) = rig();
    let mut close = pin!(ipc.submit(Request::close(Fd::from_number(1))).unwrap());
    ios.borrow_mut().return_unanswered();
    assert!(matches!(
        poll(close.as_mut()),
        Poll::Ready(Err(IosError::NoReply(2)))
    ));
    assert!(is_empty(pool));
}

#[test]
fn memory_outside_mem2_or_not_at_a_multiple_of_32_never_reaches_ios() {
    for base in [0x0010_0000, 0x0FFF_8000, 0x1400_0000] {
        let (ipc, ios, pool) = rig_at(base);
        let refused = ipc
            .submit(Request::close(Fd::from_number(1)))
            .map(core::mem::forget);
        // The pool that straddles the edge begins below it.
        assert_eq!(refused, Err(IosError::OutsideMem2(base)));
        assert!(ios.borrow().seen.is_empty());
        assert_eq!(ipc.statistics().outside_mem2, 1);
        assert!(is_empty(pool));
    }
}

#[test]
fn ios_cannot_claim_more_than_there_was_room_for() {
    let (ipc, ios, pool) = rig();
    let mut buffer = [0xEE; 32];
    {
        let mut read = pin!(ipc.read(Fd::from_number(1), &mut buffer));
        assert!(poll(read.as_mut()).is_pending());
        ios.borrow_mut().reply(0, 33);
        assert_eq!(poll(read.as_mut()), Poll::Ready(Err(IosError::Overrun(33))));
    }
    assert_eq!(buffer, [0xEE; 32]);
    let mut write = pin!(ipc.write(Fd::from_number(1), &[1, 2]));
    assert!(poll(write.as_mut()).is_pending());
    ios.borrow_mut().reply(0, 3);
    assert_eq!(poll(write.as_mut()), Poll::Ready(Err(IosError::Overrun(3))));
    assert!(is_empty(pool));
}

#[test]
fn a_short_read_changes_nothing_past_its_end() {
    let (ipc, ios, _) = rig();
    let mut buffer = [0xEE; 8];
    {
        let mut read = pin!(ipc.read(Fd::from_number(1), &mut buffer));
        assert!(poll(read.as_mut()).is_pending());
        let address = ios.borrow().last()[3];
        ios.borrow().write(address, &[1; 8]);
        ios.borrow_mut().reply(0, 3);
        assert_eq!(poll(read.as_mut()), Poll::Ready(Ok(3)));
    }
    assert_eq!(buffer, [1, 1, 1, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE]);
}

#[test]
fn paths_that_ios_would_misread_are_refused() {
    let (ipc, ..) = rig();
    let too_long = "/".repeat(64);
    for path in ["", "/dev/a\0b", &too_long] {
        let refused = Request::open(ipc.device(), path, 0).map(drop);
        assert_eq!(refused, Err(IosError::BadPath), "{path:?}");
    }
    assert!(Request::open(ipc.device(), &too_long[..63], 0).is_ok());
}

#[test]
fn requests_that_do_not_fit_are_refused_and_leave_nothing_behind() {
    let (ipc, _, pool) = rig();
    let fd = Fd::from_number(1);
    let many =
        Request::ioctlv(ipc.device(), fd, 0, &[&[1][..]; 3], &[Output::Zeroed(1); 2]).map(drop);
    assert_eq!(many, Err(IosError::TooManyBuffers));
    let large = Request::ioctlv(ipc.device(), fd, 0, &[&[1]], &[Output::Zeroed(1 << 20)]).map(drop);
    assert!(matches!(large, Err(IosError::Memory(_))));
    assert!(is_empty(pool));
}

#[test]
fn a_driver_that_goes_leaves_with_ios_what_ios_has() {
    let (ipc, _, pool) = rig();
    core::mem::forget(ipc.submit(Request::close(Fd::from_number(1))).unwrap());
    drop(ipc);
    let stats = pool.stats();
    assert_eq!((stats.live, stats.quarantined), (1, 1));
}

#[test]
fn descriptors_of_the_program_before_are_closed_once_each() {
    let (ipc, ios, pool) = rig();
    let mut closing = pin!(ipc.close_inherited());
    while poll(closing.as_mut()).is_pending() {
        ios.borrow_mut().reply(0, code::INVALID);
    }
    let closed: Vec<u32> = ios.borrow().seen.iter().map(|block| block[2]).collect();
    assert_eq!(closed, (0..32).collect::<Vec<_>>());
    assert!(is_empty(pool));
}
