//! Isochronous streams: packets in their frames, outcomes, cancellation, the end of everything.

use crate::memory::{Buffer, Dma};
use crate::testing::{Ram, Rig, Shared, endpoint};
use crate::{
    Batch, BatchId, Direction, Endpoint, Host, ITDS, Kind, OpenError, Packet, Sizes, Speed,
    StreamId, SubmitError, TransferError, Translator,
};
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A high-speed endpoint with a packet of 1024 bytes in every microframe.
fn high(number: u8, direction: Direction) -> Endpoint {
    Endpoint {
        max_packet: 1024,
        interval: 1,
        ..endpoint(number, Kind::Isochronous(direction))
    }
}

/// A full-speed endpoint behind a hub, with a packet of up to 1023 bytes in every frame.
fn split(number: u8, direction: Direction) -> Endpoint {
    Endpoint {
        speed: Speed::Full,
        max_packet: 1023,
        translator: Some(Translator {
            hub_address: 1,
            hub_port: 1,
        }),
        ..high(number, direction)
    }
}

fn submit(rig: &mut Rig, stream: StreamId, sizes: &[u16]) -> BatchId {
    let sizes = Sizes::new(sizes);
    let buffer = rig.machine.ram.incoming(sizes.span()).unwrap();
    rig.ehci.submit_batch(stream, buffer, sizes).unwrap()
}

fn submit_data(rig: &mut Rig, stream: StreamId, packets: &[Vec<u8>]) -> BatchId {
    let sizes: Vec<u16> = packets.iter().map(|packet| packet.len() as u16).collect();
    let sizes = Sizes::new(&sizes);
    let mut data = vec![0; sizes.span()];
    for (packet, number) in packets.iter().zip(0..) {
        data[sizes.offset(number)..][..packet.len()].copy_from_slice(packet);
    }
    let buffer = rig.machine.ram.outgoing(&data).unwrap();
    rig.ehci.submit_batch(stream, buffer, sizes).unwrap()
}

fn finish(rig: &mut Rig, batch: BatchId) -> Batch<<Rc<Ram> as Dma>::Buffer> {
    for _ in 0..8 * 1100 {
        if let Some(end) = rig.ehci.take_batch(batch) {
            return end;
        }
        rig.step();
    }
    panic!("the batch does not end");
}

/// The packets' bytes as they were received.
fn received(end: &mut Batch<<Rc<Ram> as Dma>::Buffer>) -> Vec<Vec<u8>> {
    let packets = end.packets().to_vec();
    let buffer = end.buffer.as_mut().unwrap();
    let copy = |packet: &Packet| {
        let mut bytes = vec![0; packet.bytes.into()];
        buffer.copy_from(packet.offset.into(), &mut bytes);
        bytes
    };
    packets.iter().map(copy).collect()
}

fn sounds(shared: &RefCell<Shared>, count: usize, size: usize) -> Vec<Vec<u8>> {
    let packets: Vec<Vec<u8>> = (0..count)
        .map(|number| (0..size).map(|at| (number * 31 + at * 7) as u8).collect())
        .collect();
    shared.borrow_mut().microphone.extend(packets.clone());
    packets
}

#[test]
fn packets_of_every_microframe_arrive_whole_and_in_order() {
    let (mut rig, shared) = Rig::with_stick();
    let expected = sounds(&shared, 24, 1024);
    let stream = rig.ehci.open_stream(&high(6, Direction::In)).unwrap();
    let batches: Vec<_> = (0..3)
        .map(|_| submit(&mut rig, stream, &[1024; 8]))
        .collect();
    let mut all = vec![];
    let mut frames = vec![];
    for batch in batches {
        let mut end = finish(&mut rig, batch);
        assert_eq!(end.status, Ok(()));
        assert!(end.packets().iter().all(|packet| packet.status == Ok(())));
        all.extend(received(&mut end));
        frames.push(end.frame);
    }
    assert_eq!(all, expected);
    assert!(
        frames.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "without a gap: {frames:?}"
    );
}

#[test]
fn packets_reach_the_device_with_their_own_lengths_at_both_speeds() {
    for endpoint in [high(7, Direction::Out), split(7, Direction::Out)] {
        let (mut rig, shared) = Rig::with_stick();
        let stream = rig.ehci.open_stream(&endpoint).unwrap();
        // Sound at 44.1 kHz: a packet of 180 bytes after nine of 176; and the largest ones.
        let packets: Vec<Vec<u8>> = [176, 176, 180, 1023, 1, 189, 1023, 188]
            .iter()
            .map(|&size| (0..size).map(|at| (at * 11 + size) as u8).collect())
            .collect();
        let batch = submit_data(&mut rig, stream, &packets);
        let end = finish(&mut rig, batch);
        assert!(end.packets().iter().all(|packet| packet.status == Ok(())));
        assert_eq!(shared.borrow().speaker, packets);
    }
}

#[test]
fn split_packets_arrive_one_a_frame() {
    let (mut rig, shared) = Rig::with_stick();
    let expected = sounds(&shared, 16, 1000);
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let first = submit(&mut rig, stream, &[1023; 8]);
    let second = submit(&mut rig, stream, &[1023; 8]);
    let (mut first, mut second) = (finish(&mut rig, first), finish(&mut rig, second));
    assert_eq!((second.frame - first.frame) & 0x7ff, 8);
    assert_eq!(
        [received(&mut first), received(&mut second)].concat(),
        expected
    );
}

#[test]
fn each_packet_has_its_own_outcome() {
    for endpoint in [high(6, Direction::In), split(6, Direction::In)] {
        let (mut rig, shared) = Rig::with_stick();
        shared.borrow_mut().microphone = [vec![1; 100], vec![2; 40], vec![3; 101], vec![]].into();
        let stream = rig.ehci.open_stream(&endpoint).unwrap();
        let batch = submit(&mut rig, stream, &[100; 5]);
        let end = finish(&mut rig, batch);
        assert_eq!(end.status, Ok(()));
        let seen: Vec<_> = end
            .packets()
            .iter()
            .map(|packet| (packet.offset, packet.bytes, packet.status))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 100, Ok(())),
                (128, 40, Ok(())),
                (256, 0, Err(TransferError::Babble)),
                (384, 0, Ok(())),
                (512, 0, Err(TransferError::Transaction)),
            ]
        );
    }
}

#[test]
fn endpoints_with_longer_intervals_are_asked_in_their_frames_only() {
    let (mut rig, shared) = Rig::with_stick();
    sounds(&shared, 100, 64);
    // 2^5 microframes: a packet every fourth frame.
    let endpoint = Endpoint {
        interval: 6,
        ..high(6, Direction::In)
    };
    let stream = rig.ehci.open_stream(&endpoint).unwrap();
    let batch = submit(&mut rig, stream, &[64; 4]);
    let begin = rig.machine.state.borrow().now_us;
    let end = finish(&mut rig, batch);
    assert!(end.packets().iter().all(|packet| packet.status == Ok(())));
    let took = rig.machine.state.borrow().now_us - begin;
    assert!((12_000..22_000).contains(&took), "{took} us");
    assert_eq!(shared.borrow().microphone.len(), 96);
}

#[test]
fn packets_that_the_controller_does_not_execute_are_missed_within_a_bound() {
    for endpoint in [high(6, Direction::In), split(6, Direction::In)] {
        let (mut rig, _) = Rig::with_stick();
        rig.machine
            .state
            .borrow_mut()
            .faults
            .isochronous_stands_still = true;
        let stream = rig.ehci.open_stream(&endpoint).unwrap();
        let batch = submit(&mut rig, stream, &[100; 2]);
        let begin = rig.machine.state.borrow().now_us;
        let end = finish(&mut rig, batch);
        let missed = Err(TransferError::MissedMicroframe);
        assert!(end.packets().iter().all(|packet| packet.status == missed));
        assert!(rig.machine.state.borrow().now_us - begin < 10_000);
    }
}

#[test]
fn a_stream_that_ran_dry_begins_anew() {
    let (mut rig, shared) = Rig::with_stick();
    let expected = sounds(&shared, 2, 100);
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let first = submit(&mut rig, stream, &[100]);
    finish(&mut rig, first);
    // Longer than the frame list.
    for _ in 0..8 * 1500 {
        rig.step();
    }
    let second = submit(&mut rig, stream, &[100]);
    assert_eq!(
        received(&mut finish(&mut rig, second)),
        [expected[1].clone()]
    );
}

#[test]
fn descriptors_and_buffers_come_back() {
    let (mut rig, shared) = Rig::with_stick();
    let before = rig.machine.ram.allocations();
    sounds(&shared, 400, 8);
    let stream = rig.ehci.open_stream(&high(6, Direction::In)).unwrap();
    for _ in 0..50 {
        let batch = submit(&mut rig, stream, &[8; 8]);
        finish(&mut rig, batch);
    }
    rig.ehci.close_stream(stream);
    rig.settle();
    assert_eq!(rig.ehci.streams.schedule.available(), ITDS);
    assert_eq!(rig.machine.ram.allocations(), before);
    for frame in 0..crate::layout::FRAMES {
        assert_eq!(rig.ehci.memory.frame(frame).kind(), 1, "frame {frame}");
    }
}

#[test]
fn an_abandoned_batch_keeps_its_buffer_until_the_controller_has_let_go() {
    let (mut rig, shared) = Rig::with_stick();
    sounds(&shared, 100, 64);
    let before = rig.machine.ram.allocations();
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let first = submit(&mut rig, stream, &[64; 8]);
    let second = submit(&mut rig, stream, &[64; 8]);
    rig.ehci.abandon_batch(first);
    assert_eq!(rig.machine.ram.allocations(), before + 2);
    let end = finish(&mut rig, second);
    assert!(end.packets().iter().all(|packet| packet.status == Ok(())));
    drop(end);
    assert_eq!(rig.machine.ram.allocations(), before);
    assert!(rig.ehci.take_batch(first).is_none());
    assert_eq!(
        shared.borrow().microphone.len(),
        92,
        "the first asked for nothing"
    );
}

#[test]
fn a_closed_stream_ends_its_batches_and_frees_its_bandwidth() {
    let (mut rig, _) = Rig::with_stick();
    let largest = Endpoint {
        max_packet: 0x1400,
        ..high(6, Direction::In)
    };
    let stream = rig.ehci.open_stream(&largest).unwrap();
    assert_eq!(rig.ehci.open_stream(&largest), Err(OpenError::NoBandwidth));
    let batch = submit(&mut rig, stream, &[64; 8]);
    rig.ehci.close_stream(stream);
    assert_eq!(
        rig.ehci
            .submit_batch(
                stream,
                rig.machine.ram.incoming(8).unwrap(),
                Sizes::new(&[8])
            )
            .unwrap_err()
            .error,
        SubmitError::NoSuchPipe
    );
    let end = finish(&mut rig, batch);
    assert_eq!(end.status, Err(TransferError::Cancelled));
    let cancelled = Err(TransferError::Cancelled);
    assert!(
        end.packets()
            .iter()
            .all(|packet| packet.status == cancelled)
    );
    assert!(rig.ehci.open_stream(&largest).is_ok());
}

#[test]
fn unplugging_ends_batches_with_disconnected() {
    let (mut rig, _) = Rig::with_stick();
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let batch = submit(&mut rig, stream, &[64; 8]);
    rig.machine.unplug(0);
    let end = finish(&mut rig, batch);
    assert_eq!(end.status, Err(TransferError::Disconnected));
    let buffer = rig.machine.ram.incoming(8).unwrap();
    let again = rig.ehci.submit_batch(stream, buffer, Sizes::new(&[8]));
    assert_eq!(again.unwrap_err().error, SubmitError::Disconnected);
}

#[test]
fn a_failed_controller_ends_batches_and_frees_everything() {
    let (mut rig, _) = Rig::with_stick();
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let batch = submit(&mut rig, stream, &[64; 8]);
    rig.machine.raise(0x10);
    rig.ehci.poll();
    let end = rig.ehci.take_batch(batch).unwrap();
    assert_eq!(end.status, Err(TransferError::ControllerFailed));
    assert!(end.buffer.is_some());
    assert_eq!(rig.ehci.streams.schedule.available(), ITDS);
    rig.ehci.start().unwrap();
    for frame in 0..crate::layout::FRAMES {
        assert_eq!(rig.ehci.memory.frame(frame).kind(), 1, "frame {frame}");
    }
}

#[test]
fn batches_that_do_not_fit_are_refused_with_their_buffer() {
    let (mut rig, _) = Rig::with_stick();
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    for (sizes, bytes) in [
        (&[][..], 8),
        (&[1024], 1024),
        (&[9], 8),
        (&[8, 8], 39),
        (&[0], 0),
    ] {
        let buffer = rig.machine.ram.incoming(bytes).unwrap();
        let refused = rig.ehci.submit_batch(stream, buffer, Sizes::new(sizes));
        let refused = refused.unwrap_err();
        assert_eq!(refused.error, SubmitError::BadPackets, "{sizes:?}");
        assert!(refused.buffer.is_some());
    }
    for _ in 0..ITDS / 8 {
        submit(&mut rig, stream, &[8; 8]);
    }
    let buffer = rig.machine.ram.incoming(8).unwrap();
    let refused = rig.ehci.submit_batch(stream, buffer, Sizes::new(&[8]));
    assert_eq!(refused.unwrap_err().error, SubmitError::NoDescriptors);
}

#[test]
fn frames_beyond_the_list_are_refused() {
    let (mut rig, _) = Rig::with_stick();
    // A packet every 256 frames: the list reaches four of them.
    let rare = Endpoint {
        interval: 12,
        ..high(6, Direction::In)
    };
    let stream = rig.ehci.open_stream(&rare).unwrap();
    let buffer = rig.machine.ram.incoming(6 * 32).unwrap();
    let refused = rig.ehci.submit_batch(stream, buffer, Sizes::new(&[8; 6]));
    assert_eq!(refused.unwrap_err().error, SubmitError::TooFarAhead);
    submit(&mut rig, stream, &[8; 3]);
}

#[test]
fn isochronous_endpoints_and_only_they_are_streams() {
    let (mut rig, _) = Rig::with_stick();
    let bulk = endpoint(1, Rig::IN);
    assert_eq!(rig.ehci.open_stream(&bulk), Err(OpenError::WrongKind));
    let isochronous = high(6, Direction::In);
    assert_eq!(rig.ehci.open(&isochronous), Err(OpenError::WrongKind));
}

#[test]
fn interrupt_endpoints_and_streams_share_their_frames() {
    let (mut rig, shared) = Rig::with_stick();
    let sounds = sounds(&shared, 8, 100);
    shared.borrow_mut().reports.push_back(vec![9; 8]);
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let batch = submit(&mut rig, stream, &[100; 8]);
    // Opened while packets are in the frames in front of it.
    let pipe = rig.open(3, Kind::Interrupt(Direction::In));
    let (status, report) = rig.bulk_in(pipe, 8);
    assert_eq!((status, report), (Ok(()), vec![9; 8]));
    assert_eq!(received(&mut finish(&mut rig, batch)), sounds);
}

#[test]
fn a_batch_is_a_future_and_dropping_it_abandons_it() {
    let (mut rig, shared) = Rig::with_stick();
    let expected = sounds(&shared, 8, 64);
    let stream = rig.ehci.open_stream(&split(6, Direction::In)).unwrap();
    let (machine, host) = (rig.machine, Host::new(rig.ehci));
    let before = machine.ram.allocations();
    let buffer = || machine.ram.incoming(8 * 64).unwrap();
    let mut first = pin!(
        host.submit_batch(stream, buffer(), Sizes::new(&[64; 8]))
            .unwrap()
    );
    let second = host.submit_batch(stream, buffer(), Sizes::new(&[64; 8]));
    drop(second.unwrap());
    let mut context = Context::from_waker(Waker::noop());
    let mut end = loop {
        if let Poll::Ready(end) = first.as_mut().poll(&mut context) {
            break end;
        }
        machine.advance(125);
    };
    assert_eq!(received(&mut end), expected);
    drop(end);
    assert_eq!(machine.ram.allocations(), before);
}

#[test]
fn every_moment_is_a_good_one_to_abandon_a_batch() {
    for steps in (0..100).step_by(3) {
        for endpoint in [high(6, Direction::In), split(6, Direction::In)] {
            let (mut rig, shared) = Rig::with_stick();
            sounds(&shared, 200, 64);
            let before = rig.machine.ram.allocations();
            let stream = rig.ehci.open_stream(&endpoint).unwrap();
            let batch = submit(&mut rig, stream, &[64; 8]);
            for _ in 0..steps {
                rig.step();
            }
            rig.ehci.abandon_batch(batch);
            rig.settle();
            assert_eq!(rig.machine.ram.allocations(), before, "{steps}");
            assert_eq!(rig.ehci.streams.schedule.available(), ITDS, "{steps}");
        }
    }
}
