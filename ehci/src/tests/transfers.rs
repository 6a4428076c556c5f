//! Control, bulk and interrupt transfers that succeed.

use crate::memory::{Buffer, Dma};
use crate::testing::Rig;
use crate::{Direction, Endpoint, Kind, Part, Request, SubmitError};

/// Vendor request of the test stick: as many bytes as asked for, counting upwards.
fn read_request(length: u16) -> [u8; 8] {
    let [low, high] = length.to_le_bytes();
    [0xc0, 0x55, 0, 0, 0, 0, low, high]
}

#[test]
fn a_control_transfer_without_data_has_two_stages() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    let setup = [0x00, 9, 1, 0, 0, 0, 0, 0];
    assert_eq!(rig.control_in(pipe, setup), (Ok(()), vec![]));
    assert_eq!(shared.borrow().setups, [setup]);
}

#[test]
fn control_data_of_every_length_around_packets_and_pages_arrives() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    for length in [
        1, 8, 63, 64, 65, 128, 4095, 4096, 4097, 16384, 20479, 20480, 20481, 40960, 65535,
    ] {
        let (status, bytes) = rig.control_in(pipe, read_request(length));
        assert_eq!((status, bytes.len()), (Ok(()), length.into()));
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}

#[test]
fn control_data_to_the_device_arrives_with_alternating_toggles() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    let data: Vec<u8> = (0..30_000).map(|at| (at * 7) as u8).collect();
    let buffer = rig.machine.ram.outgoing(&data).unwrap();
    let [low, high] = 30_000u16.to_le_bytes();
    let id = rig
        .ehci
        .control(
            pipe,
            [0x40, 0x55, 0, 0, 0, 0, low, high],
            Some(buffer),
            None,
        )
        .unwrap();
    assert_eq!(rig.finish(id).0, Ok(()));
    assert_eq!(shared.borrow().control_data, data);
}

#[test]
fn what_is_sent_without_a_buffer_arrives_in_order_with_all_else() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(4, Kind::Bulk(Direction::Out));
    let bytes: Vec<u8> = (1..=32).collect();
    for length in [1, 4, 31, 32, 0, 13] {
        let id = rig.ehci.send(pipe, &bytes[..length], None).unwrap();
        assert_eq!(rig.ehci.sent(id), None, "it is under way");
        let busy = rig.ehci.send(pipe, &bytes, None);
        assert_eq!(busy, Err(SubmitError::Busy));
        // A transfer behind it finds a queue in order.
        let data = rig.machine.ram.outgoing(&[length as u8; 600]).unwrap();
        let behind = rig.ehci.submit(pipe, Request::new(data)).unwrap();
        assert_eq!(rig.finish(behind).0, Ok(()));
        assert_eq!(rig.ehci.sent(id), Some(Ok(length)));
        assert_eq!(rig.ehci.sent(id), None, "once");
        let sunk = std::mem::take(&mut shared.borrow_mut().sink);
        assert_eq!(
            sunk.concat(),
            [&bytes[..length], &[length as u8; 600]].concat()
        );
    }
    assert_eq!(
        rig.ehci.send(pipe, &[0; 33], None),
        Err(SubmitError::WrongLength {
            announced: 32,
            given: 33
        })
    );
    let input = rig.open(5, Kind::Bulk(Direction::In));
    let wrong = rig.ehci.send(input, &bytes, None);
    assert_eq!(wrong, Err(SubmitError::WrongKind));
}

#[test]
fn toggles_alternate_across_qtds_that_move_an_odd_number_of_packets() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    rig.machine.ram.pages.set(false);
    // 64 bytes into a page, the first qTD moves 319 packets.
    let before = rig.machine.ram.incoming(64).unwrap();
    let data: Vec<u8> = (0..50_000).map(|at| (at * 7) as u8).collect();
    let buffer = rig.machine.ram.outgoing(&data).unwrap();
    assert_eq!(crate::memory::Buffer::bus_address(&buffer) % 4096, 64);
    let [low, high] = 50_000u16.to_le_bytes();
    let setup = [0x40, 0x55, 0, 0, 0, 0, low, high];
    let id = rig.ehci.control(pipe, setup, Some(buffer), None).unwrap();
    assert_eq!(rig.finish(id).0, Ok(()));
    assert_eq!(shared.borrow().control_data, data);
    assert_eq!(rig.control_in(pipe, read_request(50_000)).1.len(), 50_000);
    drop(before);
}

#[test]
fn a_short_control_answer_still_runs_the_status_stage() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    // 18 bytes of device descriptor for a request of 30000, which takes two qTDs.
    let (status, bytes) = rig.control_in(pipe, [0x80, 6, 0, 1, 0, 0, 0x30, 0x75]);
    assert_eq!((status, bytes.len()), (Ok(()), 18));
    assert_eq!(rig.control_in(pipe, read_request(4)).1, [0, 1, 2, 3]);
    assert_eq!(shared.borrow().setups.len(), 2);
}

#[test]
fn control_data_must_have_the_length_that_the_setup_packet_announces() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(0, Kind::Control);
    let buffer = rig.machine.ram.incoming(8).unwrap();
    let rejected = rig
        .ehci
        .control(pipe, read_request(9), Some(buffer), None)
        .unwrap_err();
    assert_eq!(
        rejected.error,
        SubmitError::WrongLength {
            announced: 9,
            given: 8
        }
    );
    assert!(rejected.buffer.is_some());
}

#[test]
fn bulk_data_of_every_length_around_packets_and_qtds_arrives() {
    let (mut rig, shared) = Rig::with_stick();
    let (input, output) = (rig.open(5, Rig::IN), rig.open(4, Rig::OUT));
    for length in [
        1usize, 31, 511, 512, 513, 1024, 4096, 4097, 20_479, 20_480, 20_481, 65_536, 131_072,
        200_001,
    ] {
        let data: Vec<u8> = (0..length).map(|at| (at * 11 + length) as u8).collect();
        assert_eq!(rig.bulk_out(output, &data), (Ok(()), length));
        let packets = std::mem::take(&mut shared.borrow_mut().sink);
        assert_eq!(packets.len(), length.div_ceil(512));
        assert_eq!(packets.concat(), data);

        shared.borrow_mut().source = data.chunks(512).map(<[u8]>::to_vec).collect();
        assert_eq!(rig.bulk_in(input, length), (Ok(()), data));
    }
}

#[test]
fn bulk_data_arrives_at_every_offset_in_a_page() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    // Buffers up to a page are allocated one behind the other, so that they begin anywhere.
    let mut kept = vec![];
    for index in 0..128 {
        kept.push(rig.machine.ram.incoming(32 * (index % 5 + 1)).unwrap());
        let data: Vec<u8> = (0..4000).map(|at| (at * 3 + index) as u8).collect();
        shared.borrow_mut().source = data.chunks(512).map(<[u8]>::to_vec).collect();
        assert_eq!(rig.bulk_in(input, 4000), (Ok(()), data));
    }
}

#[test]
fn full_qtds_move_20_kib_where_the_buffer_is_page_aligned() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    shared.borrow_mut().source = (0..2048).map(|_| vec![0; 512]).collect();
    let before = rig.ehci.statistics().qtds;
    assert_eq!(rig.bulk_in(input, 1 << 20).0, Ok(()));
    assert_eq!(rig.ehci.statistics().qtds - before, 52);
}

#[test]
fn a_short_packet_ends_a_transfer_of_many_qtds() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    for (full, short) in [(0, 0), (0, 5), (1, 0), (40, 0), (41, 17), (100, 511)] {
        let mut packets: Vec<Vec<u8>> = (0..full).map(|at| vec![at as u8; 512]).collect();
        packets.push(vec![0xee; short]);
        // What follows belongs to the next transfer.
        packets.push(b"next".to_vec());
        shared.borrow_mut().source = packets.iter().cloned().collect();
        let (status, bytes) = rig.bulk_in(input, 100_000);
        assert_eq!((status, bytes), (Ok(()), packets[..=full].concat()));
        assert_eq!(rig.bulk_in(input, 512), (Ok(()), b"next".to_vec()));
    }
}

#[test]
fn toggles_continue_from_transfer_to_transfer() {
    let (mut rig, shared) = Rig::with_stick();
    let (input, output) = (rig.open(5, Rig::IN), rig.open(4, Rig::OUT));
    for round in 0..5u8 {
        shared.borrow_mut().source.push_back(vec![round]);
        assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![round]));
        assert_eq!(rig.bulk_out(output, &[round; 3]), (Ok(()), 3));
        assert_eq!(shared.borrow_mut().sink.pop(), Some(vec![round; 3]));
    }
}

#[test]
fn a_zero_packet_ends_data_that_fills_its_last_packet() {
    let (mut rig, shared) = Rig::with_stick();
    let output = rig.open(4, Rig::OUT);
    for (length, packets) in [
        (512, vec![512, 0]),
        (1024, vec![512, 512, 0]),
        (513, vec![512, 1]),
    ] {
        let buffer = rig.machine.ram.outgoing(&vec![1; length]).unwrap();
        let request = Request {
            zero_packet: true,
            ..Request::new(buffer)
        };
        let id = rig.ehci.submit(output, request).unwrap();
        assert_eq!(rig.finish(id).0, Ok(()));
        let sizes: Vec<_> = std::mem::take(&mut shared.borrow_mut().sink)
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(sizes, packets);
    }
    let empty = rig.ehci.submit(
        output,
        Request {
            buffer: None,
            zero_packet: false,
            trailer: 0,
            part: crate::Part::Whole,
            quiet: false,
            timeout_us: None,
        },
    );
    let id = empty.unwrap();
    assert_eq!(rig.finish(id).0, Ok(()));
    assert_eq!(shared.borrow().sink, [vec![]]);
}

#[test]
fn transfers_queued_on_one_pipe_run_in_order_without_a_pause() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    let ids: Vec<_> = (0..6).map(|_| rig.start_in(input, 1024)).collect();
    shared.borrow_mut().source = (0..12u8).map(|at| vec![at; 512]).collect();
    // No look at the driver in between: the controller goes on by itself.
    rig.machine.advance(1000);
    assert!(shared.borrow().source.is_empty());
    for (index, id) in ids.into_iter().enumerate() {
        let (status, _, bytes) = rig.finish(id);
        let first = 2 * index as u8;
        assert_eq!(
            (status, bytes),
            (Ok(()), [[first; 512], [first + 1; 512]].concat())
        );
    }
}

#[test]
fn a_short_packet_ends_a_request_with_all_its_pieces() {
    for queued_at_once in [true, false] {
        let (mut rig, shared) = Rig::with_stick();
        let input = rig.open(5, Rig::IN);
        let piece = |rig: &mut Rig, part| {
            let buffer = rig.machine.ram.incoming(1024).unwrap();
            rig.ehci
                .submit(
                    input,
                    Request {
                        part,
                        ..Request::new(buffer)
                    },
                )
                .unwrap()
        };
        shared.borrow_mut().source = [
            vec![1; 512],
            vec![2; 512],
            vec![3; 512],
            vec![4; 7],
            vec![5; 512],
            vec![6; 9],
        ]
        .into();
        let first = piece(&mut rig, Part::First);
        let second = piece(&mut rig, Part::Middle);
        let third = queued_at_once.then(|| piece(&mut rig, Part::Middle));
        assert_eq!(rig.finish(first).1, 1024);
        assert_eq!(rig.finish(second).1, 519);
        let third = third.unwrap_or_else(|| piece(&mut rig, Part::Middle));
        assert_eq!(rig.finish(third), (Ok(()), 0, vec![]));
        let last = piece(&mut rig, Part::Last);
        assert_eq!(rig.finish(last), (Ok(()), 0, vec![]));
        assert_eq!(
            shared.borrow().source.len(),
            2,
            "the rest was not asked for"
        );
        assert_eq!(rig.bulk_in(input, 512), (Ok(()), vec![5; 512]));
        let whole = piece(&mut rig, Part::Whole);
        assert_eq!(rig.finish(whole).2, vec![6; 9]);
        rig.ehci.close(input);
        rig.settle();
        assert_eq!(rig.ehci.pool.available(), crate::QTDS);
    }
}

/// What a short packet leads to stays while something that leads there is queued, whatever ends before.
#[test]
fn a_request_in_pieces_may_be_queued_behind_others() {
    for before in [&[Part::Whole][..], &[Part::First, Part::Last]] {
        let (mut rig, shared) = Rig::with_stick();
        let input = rig.open(5, Rig::IN);
        let other = rig.open(4, Rig::OUT);
        let parts = before.iter().copied().chain([Part::First, Part::Last]);
        let ids: Vec<_> = parts
            .map(|part| {
                let buffer = rig.machine.ram.incoming(1024).unwrap();
                let request = Request {
                    part,
                    ..Request::new(buffer)
                };
                rig.ehci.submit(input, request).unwrap()
            })
            .collect();
        shared.borrow_mut().source = vec![vec![1; 512]; 2 * before.len()].into();
        for &id in &ids[..before.len()] {
            assert_eq!(rig.finish(id), (Ok(()), 1024, vec![1; 1024]));
        }
        // Another pipe takes the qTDs that are free now.
        assert_eq!(rig.bulk_out(other, &[7; 30_000]), (Ok(()), 30_000));
        shared.borrow_mut().source = [vec![2; 9], vec![3; 512], vec![4; 5]].into();
        assert_eq!(rig.finish(ids[before.len()]), (Ok(()), 9, vec![2; 9]));
        assert_eq!(rig.finish(ids[before.len() + 1]), (Ok(()), 0, vec![]));
        assert_eq!(rig.bulk_out(other, &[8; 30_000]), (Ok(()), 30_000));
        assert_eq!(rig.bulk_in(input, 1024).0, Ok(()), "the pipe goes on");
        rig.ehci.close(input);
        rig.ehci.close(other);
        rig.settle();
        assert_eq!(rig.ehci.pool.available(), crate::QTDS);
    }
}

#[test]
fn only_the_end_of_a_request_has_a_trailer_or_an_empty_packet() {
    let (mut rig, _) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    for (part, zero_packet, trailer) in [
        (Part::First, false, 13),
        (Part::Middle, false, 13),
        (Part::First, true, 0),
        (Part::Whole, true, 13),
    ] {
        let request = Request {
            part,
            zero_packet,
            trailer,
            ..Request::new(rig.machine.ram.incoming(1024).unwrap())
        };
        let refused = rig.ehci.submit(input, request).unwrap_err();
        assert_eq!(refused.error, crate::SubmitError::NotTheEnd);
    }
    rig.ehci.close(input);
    rig.settle();
    assert_eq!(rig.ehci.pool.available(), crate::QTDS);
}

/// Data of some packets, and a trailer of 13 bytes.
fn with_trailer(rig: &mut Rig, pipe: crate::PipeId, size: usize) -> crate::TransferId {
    let request = Request {
        trailer: 13,
        ..Request::new(rig.machine.ram.incoming(size + 13).unwrap())
    };
    rig.ehci.submit(pipe, request).unwrap()
}

#[test]
fn a_trailer_follows_its_data_also_if_they_are_short() {
    for size in [512, 2048, 20_480, 100_000, 131_072] {
        for given in [0, 1, 512, 1000, 20_480, 30_000, 131_072] {
            let (mut rig, shared) = Rig::with_stick();
            let input = rig.open(5, Rig::IN);
            let given = size.min(given);
            let data: Vec<u8> = (0..given).map(|at| at as u8).collect();
            let mut source: std::collections::VecDeque<_> =
                data.chunks(512).map(<[u8]>::to_vec).collect();
            if given < size && given % 512 == 0 {
                source.push_back(vec![]);
            }
            source.push_back(vec![9; 13]);
            shared.borrow_mut().source = source;
            let id = with_trailer(&mut rig, input, size);
            let behind = rig.start_in(input, 512);
            rig.machine.advance(20_000);
            rig.ehci.poll();
            let mut end = rig.ehci.take(id).unwrap();
            assert_eq!((end.status, end.bytes, end.trailer), (Ok(()), given, 13));
            let mut bytes = vec![0; size + 13];
            end.buffer.as_mut().unwrap().copy_received(&mut bytes);
            assert_eq!(bytes[..given], data);
            assert_eq!(bytes[size..], [9; 13]);
            // What is queued behind goes on where the toggle is.
            shared.borrow_mut().source.push_back(vec![7; 3]);
            assert_eq!(rig.finish(behind).2, [7; 3]);
        }
    }
}

#[test]
fn a_trailer_may_be_short_itself_and_raises_the_only_interrupt() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    shared.borrow_mut().source = (0..80).map(|_| vec![1; 512]).collect();
    let id = with_trailer(&mut rig, input, 40_960);
    rig.machine.advance(20_000);
    assert!(!rig.machine.status().transfer());
    rig.ehci.poll();
    assert!(rig.ehci.is_running(id));
    shared.borrow_mut().source.push_back(vec![2; 5]);
    rig.machine.advance(1_000);
    assert!(rig.machine.status().transfer());
    rig.ehci.poll();
    let end = rig.ehci.take(id).unwrap();
    assert_eq!((end.status, end.bytes, end.trailer), (Ok(()), 40_960, 5));
}

#[test]
fn a_trailer_leaves_room_for_data_and_is_a_single_descriptor() {
    let (mut rig, _) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    for (size, trailer) in [(13, 13), (13, 14), (40_000, 16_385)] {
        let request = Request {
            trailer,
            ..Request::new(rig.machine.ram.incoming(size).unwrap())
        };
        let rejected = rig.ehci.submit(input, request).unwrap_err();
        let expected = SubmitError::WrongLength {
            announced: trailer,
            given: size,
        };
        assert_eq!(rejected.error, expected);
        assert!(rejected.buffer.is_some());
    }
}

#[test]
fn an_interrupt_endpoint_is_asked_in_its_frames_until_it_answers() {
    let (mut rig, shared) = Rig::with_stick();
    let kind = Kind::Interrupt(Direction::In);
    let asked = std::rc::Rc::new(std::cell::Cell::new(0));
    let counter = asked.clone();
    shared.borrow_mut().fault = Some(Box::new(move |_, endpoint| {
        counter.set(counter.get() + u32::from(endpoint == 3));
        None
    }));
    let pipe = rig
        .ehci
        .open(&Endpoint {
            max_packet: 8,
            interval: 5,
            ..crate::testing::endpoint(3, kind)
        })
        .unwrap();
    let id = rig.start_in(pipe, 8);
    for _ in 0..160 {
        rig.step();
    }
    assert!(rig.ehci.is_running(id));
    // Every 16 microframes.
    assert!((9..=11).contains(&asked.get()), "{}", asked.get());
    shared.borrow_mut().reports.push_back(vec![1, 2, 3]);
    assert_eq!(rig.finish(id), (Ok(()), 3, vec![1, 2, 3]));
    shared.borrow_mut().reports.push_back(vec![4; 8]);
    let id = rig.start_in(pipe, 8);
    assert_eq!(rig.finish(id), (Ok(()), 8, vec![4; 8]));
    rig.ehci.close(pipe);
    rig.settle();
    assert_eq!(rig.ehci.pool.available(), crate::QTDS);
}

#[test]
fn pipes_and_descriptors_run_out_with_an_error_and_come_back() {
    let (mut rig, _) = Rig::with_stick();
    let pipes: Vec<_> =
        std::iter::from_fn(|| rig.ehci.open(&crate::testing::endpoint(5, Rig::IN)).ok()).collect();
    assert_eq!(pipes.len(), crate::QUEUE_HEADS - 2);
    assert_eq!(
        rig.ehci.open(&crate::testing::endpoint(5, Rig::IN)),
        Err(crate::OpenError::NoQueueHead)
    );
    let large = rig.machine.ram.incoming(2 << 20).unwrap();
    let rejected = rig.ehci.submit(pipes[0], Request::new(large)).unwrap_err();
    assert_eq!(rejected.error, SubmitError::NoDescriptors);
    let doorbells = rig.ehci.statistics().doorbells;
    for pipe in pipes {
        rig.ehci.close(pipe);
    }
    rig.settle();
    assert_eq!(rig.ehci.pool.available(), crate::QTDS);
    assert_eq!(
        rig.ehci.statistics().doorbells - doorbells,
        1,
        "one doorbell serves all that leave together"
    );
    rig.open(5, Rig::IN);
}

#[test]
fn a_closed_pipe_is_no_pipe_even_when_its_queue_head_is_used_again() {
    let (mut rig, _) = Rig::with_stick();
    let old = rig.open(5, Rig::IN);
    rig.ehci.close(old);
    rig.settle();
    let new = rig.open(5, Rig::IN);
    assert_eq!(old.qh, new.qh);
    let request = Request {
        buffer: None,
        zero_packet: false,
        trailer: 0,
        part: crate::Part::Whole,
        quiet: false,
        timeout_us: None,
    };
    assert_eq!(
        rig.ehci.submit(old, request).unwrap_err().error,
        SubmitError::NoSuchPipe
    );
}

#[test]
fn transfers_ring_no_doorbell() {
    let (mut rig, shared) = Rig::with_stick();
    let input = rig.open(5, Rig::IN);
    for _ in 0..10 {
        shared.borrow_mut().source.push_back(vec![0; 100]);
        assert_eq!(rig.bulk_in(input, 512).0, Ok(()));
    }
    assert_eq!(rig.ehci.statistics().doorbells, 0);
}

#[test]
fn a_quiet_transfer_raises_no_interrupt_unless_it_ends_early() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    for (packets, raised) in [(2, false), (1, true)] {
        shared.borrow_mut().source = (0..packets).map(|_| vec![1; 512]).collect();
        if packets == 1 {
            shared.borrow_mut().source.push_back(vec![1; 3]);
        }
        let buffer = rig.machine.ram.incoming(1024).unwrap();
        let request = Request {
            quiet: true,
            ..Request::new(buffer)
        };
        let id = rig.ehci.submit(pipe, request).unwrap();
        rig.machine.advance(1_000);
        assert_eq!(rig.machine.status().transfer(), raised);
        assert_eq!(rig.finish(id).0, Ok(()));
    }
}
