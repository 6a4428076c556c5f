//! Everything that goes wrong, and that the endpoint works afterwards.

use crate::layout::Pid;
use crate::testing::{Response, Rig};
use crate::{Kind, Request, TransferError};
use std::cell::Cell;
use std::rc::Rc;

type Shared = Rc<std::cell::RefCell<crate::testing::Shared>>;

/// Lets the device answer the next `count` transactions of an endpoint with something else.
fn inject(shared: &Shared, endpoint: u8, count: u32, response: fn() -> Response) {
    let left = Cell::new(count);
    shared.borrow_mut().fault = Some(Box::new(move |_, number| {
        if number != endpoint || left.get() == 0 {
            return None;
        }
        left.set(left.get() - 1);
        Some(response())
    }));
}

#[test]
fn a_stalled_request_is_an_error_and_the_next_one_works() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    for _ in 0..3 {
        assert_eq!(
            rig.control_in(pipe, [0x80, 0x77, 0, 0, 0, 0, 4, 0]).0,
            Err(TransferError::Stall)
        );
        assert_eq!(
            rig.control_in(pipe, [0xc0, 0x55, 0, 0, 0, 0, 4, 0]),
            (Ok(()), vec![0, 1, 2, 3])
        );
    }
    assert_eq!(rig.ehci.statistics().doorbells, 0);
}

#[test]
fn a_stalled_bulk_endpoint_works_after_its_halt_and_toggle_were_cleared() {
    let (mut rig, shared) = Rig::with_stick();
    let (control, input) = (rig.open(0, Kind::Control), rig.open(5, Rig::IN));
    // One packet first, so that the toggle is not where it starts.
    shared.borrow_mut().source.push_back(vec![9; 3]);
    assert_eq!(rig.bulk_in(input, 512).0, Ok(()));
    inject(&shared, 5, 1, || Response::Stall);
    assert_eq!(rig.bulk_in(input, 100_000).0, Err(TransferError::Stall));
    assert_eq!(
        rig.control_in(control, [0x02, 1, 0, 0, 0x85, 0, 0, 0]).0,
        Ok(())
    );
    rig.ehci.reset_toggle(input);
    assert!(
        rig.ehci.is_busy(input),
        "the controller may hold the old one"
    );
    rig.settle();
    shared.borrow_mut().source.push_back(vec![7; 5]);
    assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![7; 5]));
}

#[test]
fn what_is_sent_to_an_endpoint_that_stalls_says_so() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(4, Rig::OUT);
    inject(&shared, 4, 1, || Response::Stall);
    let id = rig.ehci.send(pipe, &[1; 31], None).unwrap();
    while rig.ehci.is_running(id) {
        rig.step();
    }
    assert_eq!(rig.ehci.sent(id), Some(Err(TransferError::Stall)));
}

#[test]
fn a_stall_flushes_what_is_queued_behind() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    let ids = [
        rig.start_in(input, 512),
        rig.start_in(input, 512),
        rig.start_in(input, 512),
    ];
    inject(&shared, 5, 1, || Response::Stall);
    let ends = ids.map(|id| rig.finish(id).0);
    assert_eq!(
        ends,
        [
            Err(TransferError::Stall),
            Err(TransferError::Flushed),
            Err(TransferError::Flushed)
        ]
    );
}

#[test]
fn an_error_ends_a_request_with_the_pieces_that_are_submitted_after_it() {
    let (mut rig, shared) = Rig::with_stick();
    let output = rig.open(4, Rig::OUT);
    let piece = |rig: &mut Rig, part| {
        let buffer = crate::memory::Dma::outgoing(&rig.machine.ram, &[1; 512]).unwrap();
        rig.ehci
            .submit(
                output,
                Request {
                    part,
                    ..Request::new(buffer)
                },
            )
            .unwrap()
    };
    inject(&shared, 4, 1, || Response::Stall);
    let first = piece(&mut rig, crate::Part::First);
    assert_eq!(rig.finish(first).0, Err(TransferError::Stall));
    let last = piece(&mut rig, crate::Part::Last);
    assert_eq!(rig.finish(last).0, Err(TransferError::Flushed));
    assert!(shared.borrow().sink.is_empty());
}

#[test]
fn babble_is_its_own_error_and_writes_nothing_past_the_buffer() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    shared.borrow_mut().source.push_back(vec![1; 14]);
    assert_eq!(rig.bulk_in(input, 13).0, Err(TransferError::Babble));
}

#[test]
fn failed_transactions_are_tried_again_and_the_data_is_right() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    let packets: Vec<Vec<u8>> = (0..50u8).map(|at| vec![at; 512]).collect();
    shared.borrow_mut().source = packets.iter().cloned().collect();
    let turn = Cell::new(0u32);
    // Every eleventh transaction is followed by five in vain: more than the controller tries by itself.
    shared.borrow_mut().fault = Some(Box::new(move |_, number| {
        turn.set(turn.get() + u32::from(number == 5));
        (number == 5 && turn.get() % 16 > 10).then_some(Response::Nothing)
    }));
    assert_eq!(rig.bulk_in(input, 50 * 512), (Ok(()), packets.concat()));
    assert!(rig.ehci.statistics().retries > 0);
}

#[test]
fn a_silent_device_fails_after_32_retries() {
    let (mut rig, shared) = Rig::with_stick();
    let output = rig.open(4, Rig::OUT);
    inject(&shared, 4, u32::MAX, || Response::Nothing);
    assert_eq!(
        rig.bulk_out(output, &[1; 600]),
        (Err(TransferError::Transaction), 0)
    );
    assert_eq!(rig.ehci.statistics().retries, 32);
    shared.borrow_mut().fault = None;
    assert_eq!(rig.bulk_out(output, &[2; 600]), (Ok(()), 600));
    assert_eq!(shared.borrow().sink.concat(), [2; 600]);
}

#[test]
fn the_bytes_before_an_error_are_counted() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    shared.borrow_mut().source = (0..60u8).map(|at| vec![at; 512]).collect();
    let turn = Cell::new(0);
    shared.borrow_mut().fault = Some(Box::new(move |_, number| {
        turn.set(turn.get() + u32::from(number == 5));
        (number == 5 && turn.get() > 50).then_some(Response::Stall)
    }));
    let id = rig.start_in(input, 60 * 512);
    let (status, count, bytes) = rig.finish(id);
    assert_eq!((status, count), (Err(TransferError::Stall), 50 * 512));
    assert_eq!(bytes[49 * 512..], [49; 512]);
}

#[test]
fn a_timeout_ends_a_transfer_that_only_gets_nak() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    let buffer = crate::memory::Dma::incoming(&rig.machine.ram, 512).unwrap();
    let request = Request {
        timeout_us: Some(50_000),
        ..Request::new(buffer)
    };
    let begun = rig.machine.state.borrow().now_us;
    let id = rig.ehci.submit(input, request).unwrap();
    assert_eq!(rig.finish(id).0, Err(TransferError::Timeout));
    let took = rig.machine.state.borrow().now_us - begun;
    assert!((50_000..60_000).contains(&took), "{took}");
    shared.borrow_mut().source.push_back(vec![1]);
    assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![1]));
}

#[test]
fn a_status_that_never_comes_behind_its_data_ends_with_its_time() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    shared.borrow_mut().source = (0..4).map(|at| vec![at; 512]).collect();
    let data = crate::memory::Dma::incoming(&rig.machine.ram, 2048).unwrap();
    let status = crate::memory::Dma::incoming(&rig.machine.ram, 13).unwrap();
    let quiet = Request {
        quiet: true,
        ..Request::new(data)
    };
    let timed = Request {
        timeout_us: Some(300_000),
        ..Request::new(status)
    };
    let begun = rig.machine.state.borrow().now_us;
    let ids = [quiet, timed].map(|request| rig.ehci.submit(input, request).unwrap());
    let [data, status] = ids.map(|id| rig.finish(id));
    assert_eq!((data.0, data.1), (Ok(()), 2048), "they were there before");
    assert_eq!((status.0, status.1), (Err(TransferError::Timeout), 0));
    let took = rig.machine.state.borrow().now_us - begun;
    assert!((300_000..310_000).contains(&took), "{took}");
    shared.borrow_mut().source.push_back(vec![1]);
    assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![1]));
}

#[test]
fn a_cancelled_transfer_keeps_its_buffer_until_the_doorbell_is_answered() {
    let (mut rig, _) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    rig.machine.state.borrow_mut().faults.doorbell_never_answers = true;
    let id = rig.start_in(input, 512);
    rig.step();
    rig.ehci.abandon(id);
    // Less than the watchdog's patience.
    for _ in 0..40 {
        rig.step();
    }
    assert_eq!(rig.machine.ram.allocations(), 2);
    rig.machine.state.borrow_mut().faults.doorbell_never_answers = false;
    rig.settle();
    assert_eq!(rig.machine.ram.allocations(), 1);
    assert_eq!(rig.ehci.statistics().doorbells_lost, 0);
}

#[test]
fn a_cancelled_pipe_is_busy_until_then_and_works_after() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    shared.borrow_mut().source.push_back(vec![1; 512]);
    let id = rig.start_in(input, 2048);
    rig.settle();
    rig.ehci.cancel(input);
    let request = Request {
        buffer: None,
        zero_packet: false,
        trailer: 0,
        part: crate::Part::Whole,
        quiet: false,
        timeout_us: None,
    };
    assert_eq!(
        rig.ehci.submit(input, request).unwrap_err().error,
        crate::SubmitError::Busy
    );
    let (status, _, _) = rig.finish(id);
    assert_eq!(status, Err(TransferError::Cancelled));
    // The toggle is where the device's is: after one packet.
    shared.borrow_mut().source.push_back(vec![2; 9]);
    assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![2; 9]));
}

#[test]
fn a_transfer_that_ends_before_the_controller_lets_go_has_succeeded() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    let id = rig.start_in(input, 512);
    rig.settle();
    shared.borrow_mut().source.push_back(vec![3; 4]);
    rig.machine.advance(250);
    rig.ehci.cancel(input);
    assert_eq!(rig.finish(id), (Ok(()), 4, vec![3; 4]));
}

#[test]
fn a_doorbell_that_is_never_answered_is_forced_by_stopping_the_schedule() {
    let (mut rig, shared) = Rig::with_stick();
    let (input, other) = (rig.open(5, Rig::IN), rig.open(4, Rig::OUT));
    rig.machine.state.borrow_mut().faults.doorbell_never_answers = true;
    let id = rig.start_in(input, 512);
    rig.step();
    let begun = rig.machine.state.borrow().now_us;
    rig.ehci.cancel(input);
    assert_eq!(rig.finish(id).0, Err(TransferError::Cancelled));
    let took = rig.machine.state.borrow().now_us - begun;
    assert!((10_000..12_000).contains(&took), "{took}");
    assert_eq!(rig.ehci.statistics().doorbells_lost, 1);
    // The schedule runs again, for all.
    assert_eq!(rig.bulk_out(other, &[1, 2]), (Ok(()), 2));
    shared.borrow_mut().source.push_back(vec![1]);
    assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![1]));
}

#[test]
fn a_doorbell_whose_interrupt_is_lost_is_found() {
    let (mut rig, _) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    rig.machine
        .state
        .borrow_mut()
        .faults
        .doorbell_answers_silently = true;
    let id = rig.start_in(input, 512);
    rig.ehci.cancel(input);
    assert_eq!(rig.finish(id).0, Err(TransferError::Cancelled));
    assert!(
        rig.machine.status().async_running(),
        "no need to stop the schedule"
    );
}

#[test]
fn a_schedule_that_does_not_stop_fails_the_controller_and_nothing_is_freed_early() {
    let (mut rig, _) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    {
        let faults = &mut rig.machine.state.borrow_mut().faults;
        faults.doorbell_never_answers = true;
        faults.async_never_stops = true;
        faults.never_halts = true;
        faults.reset_never_ends = true;
    }
    let id = rig.start_in(input, 512);
    rig.ehci.cancel(input);
    let end = loop {
        if let Some(end) = rig.ehci.take(id) {
            break end;
        }
        rig.step();
    };
    assert_eq!(end.status, Err(TransferError::ControllerFailed));
    assert!(
        end.buffer.is_none(),
        "the controller may write to it for ever"
    );
    assert_eq!(rig.ehci.state(), crate::State::Runaway);
    assert_eq!(rig.machine.ram.allocations(), 2);
}

#[test]
fn closing_a_pipe_in_mid_transfer_frees_everything_after_the_doorbell() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    let id = rig.start_in(input, 1 << 20);
    shared.borrow_mut().source = (0..3000).map(|_| vec![0; 512]).collect();
    for _ in 0..5 {
        rig.step();
    }
    rig.ehci.close(input);
    assert_eq!(rig.finish(id).0, Err(TransferError::Cancelled));
    rig.settle();
    assert_eq!(
        (rig.ehci.pool.available(), rig.machine.ram.allocations()),
        (crate::QTDS, 1)
    );
}

#[test]
fn a_babbling_setup_stage_or_wrong_pid_does_not_panic() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    shared.borrow_mut().fault = Some(Box::new(|pid, _| {
        (pid == Pid::In).then(|| Response::Data {
            bytes: vec![0; 65],
            toggle: true,
        })
    }));
    assert_eq!(
        rig.control_in(pipe, [0xc0, 0x55, 0, 0, 0, 0, 64, 0]).0,
        Err(TransferError::Babble)
    );
}

#[test]
fn an_interrupt_transfer_keeps_its_buffer_until_two_frames_after_it_was_cancelled() {
    let (mut rig, _) = Rig::with_stick();
    let kind = Kind::Interrupt(crate::Direction::In);
    let pipe = rig.open(3, kind);
    let id = rig.start_in(pipe, 8);
    rig.settle();
    rig.ehci.abandon(id);
    for _ in 0..16 {
        rig.step();
        assert_eq!(rig.machine.ram.allocations(), 2);
    }
    rig.settle();
    assert_eq!(rig.machine.ram.allocations(), 1);
    let id = rig.start_in(pipe, 8);
    rig.settle();
    assert!(rig.ehci.is_running(id), "it is in the schedule again");
}
