//! Queue heads and qTDs.

use super::*;

const ACTIVE: u32 = 0x80;
const HALTED: u32 = 0x40;
const BABBLE: u32 = 0x10;
const TRANSACTION_ERROR: u32 = 8;

fn left(token: u32) -> u32 {
    token >> 16 & 0x7fff
}

fn errors_left(token: u32) -> u32 {
    token >> 10 & 3
}

#[test]
fn a_qtd_ends_when_its_bytes_are_moved() {
    let (mut host, device, queue) = bulk([data(false, 512), data(true, 512)]);
    let buffer = host.take(1024, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 1024)]);
    assert_eq!(tokens[0] & 0xff, 0);
    assert_eq!(left(tokens[0]), 0);
    let bytes = [[0xd0; 512], [0xd1; 512]].concat();
    assert_eq!(host.bus.read_memory(buffer, 1024), bytes);
    assert_eq!(device.borrow().acknowledged, 2);
}

#[test]
fn the_overlay_and_the_qtd_are_written_back() {
    let (mut host, _, queue) = bulk([data(false, 512)]);
    let buffer = host.take(512, 32);
    let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    let tokens = host.finish(queue, &chain, 10);
    assert_eq!(host.word(queue.address + 12), chain[0], "current qTD");
    assert_eq!(host.word(queue.address + 16), 1, "next qTD");
    assert_eq!(host.word(queue.address + 24), tokens[0], "token");
    assert_eq!(
        host.word(queue.address + 28),
        buffer + 512,
        "current offset"
    );
    assert_eq!(host.word(chain[0] + 12), buffer, "the qTD's own stays");
}

#[test]
fn a_short_packet_ends_a_qtd_with_what_is_left() {
    let (mut host, _, queue) = bulk([data(false, 512), data(true, 5)]);
    let buffer = host.take(2048, 32);
    let mut td = Td::new(Pid::In, buffer, 2048);
    td.interrupt = false;
    let tokens = host.run(queue, &[td]);
    assert_eq!((tokens[0] & 0xff, left(tokens[0])), (0, 2048 - 517));
    assert_eq!(host.read(0x04) & 3, 1, "USBINT without IOC");
}

#[test]
fn a_full_packet_that_completes_the_qtd_is_not_short() {
    let (mut host, _, queue) = bulk([data(false, 13)]);
    let buffer = host.take(13, 32);
    let mut td = Td::new(Pid::In, buffer, 13);
    td.interrupt = false;
    let tokens = host.run(queue, &[td]);
    assert_eq!((tokens[0] & 0xff, left(tokens[0])), (0, 0));
    assert_eq!(host.read(0x04) & 1, 0, "nothing is left, nobody asked");
}

#[test]
fn a_short_packet_leads_to_the_alternate_qtd() {
    let (mut host, _, queue) = bulk([data(false, 100), data(true, 512)]);
    let [a, b, c] = [0; 3].map(|_| host.take(512, 32));
    let mut first = Td::new(Pid::In, a, 512);
    first.alternate = Some(2);
    let tds = [first, Td::new(Pid::In, b, 512), Td::new(Pid::In, c, 512)];
    let tokens = host.run(queue, &tds);
    let ends: Vec<_> = tokens.iter().map(|t| (t & ACTIVE, left(*t))).collect();
    assert_eq!(ends, [(0, 412), (ACTIVE, 512), (0, 0)]);
}

#[test]
fn a_whole_transfer_leads_to_the_next_qtd() {
    let (mut host, _, queue) = bulk([data(false, 512), data(true, 512)]);
    let [a, b, c] = [0; 3].map(|_| host.take(512, 32));
    let mut first = Td::new(Pid::In, a, 512);
    first.alternate = Some(2);
    let tds = [first, Td::new(Pid::In, b, 512), Td::new(Pid::In, c, 512)];
    let chain = host.submit(queue, &tds);
    host.bus.advance_us(2000);
    let active = [0, 1, 2].map(|at| host.word(chain[at] + 8) & ACTIVE);
    assert_eq!(active, [0, 0, ACTIVE]);
}

#[test]
fn an_inactive_qtd_is_not_executed() {
    let (mut host, device, queue) = bulk([]);
    let chain = host.chain(&[Td::new(Pid::In, 0, 0)]);
    host.set_words(chain[0] + 8, &[0]);
    host.set_words(queue.address + 16, &[chain[0]]);
    host.bus.advance_us(1000);
    assert_eq!(device.borrow().asked.len(), 0);
    assert_eq!(
        host.word(queue.address + 12),
        0,
        "nor is it the current one"
    );
}

#[test]
fn data_cross_from_page_to_page() {
    let (mut host, _, queue) = bulk((0..16).map(|at| data(at % 2 == 1, 512)));
    let pages = [0; 3].map(|_| host.take(0x2000, 0x2000));
    let chain = host.chain(&[Td::new(Pid::In, pages[0] + 0xf00, 0x2000)]);
    // The pages are apart; what lies between them stays.
    host.set_words(chain[0] + 16, &[pages[1], pages[2]]);
    host.set_words(queue.address + 16, &[chain[0]]);
    host.finish(queue, &chain, 10);
    let mut bytes = host.bus.read_memory(pages[0] + 0xf00, 0x100);
    bytes.extend(host.bus.read_memory(pages[1], 0x1000));
    bytes.extend(host.bus.read_memory(pages[2], 0xf00));
    let expected: Vec<u8> = (0..0x2000).map(|at| 0xd0 | (at / 512 % 2) as u8).collect();
    assert!(bytes == expected);
    assert_eq!(host.word(queue.address + 24) >> 12 & 7, 2, "C_Page");
    assert_eq!(host.bus.read_memory(pages[0] + 0x1000, 4), [0; 4]);
}

#[test]
fn a_qtd_takes_twenty_kibibytes_from_the_start_of_a_page() {
    let (mut host, _, queue) = bulk((0..40).map(|at| data(at % 2 == 1, 512)));
    let buffer = host.take(0x5000, 0x1000);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 0x5000)]);
    assert_eq!((tokens[0] & 0xff, left(tokens[0])), (0, 0));
    assert_eq!(host.bus.read_memory(buffer + 0x4fff, 1), [0xd1]);
}

#[test]
fn toggles_alternate_and_stay_with_the_queue_head() {
    let (mut host, device, queue) = bulk([Response::Ack, Response::Ack, Response::Ack]);
    let buffer = host.take(1536, 32);
    host.run(queue, &[Td::new(Pid::Out, buffer, 1024)]);
    // The toggle of the qTD does not count: DTC is 0.
    host.run(queue, &[Td::new(Pid::Out, buffer, 512)]);
    let toggles = |device: &Scripted| -> Vec<DataPid> {
        let packets = device.asked.iter().filter_map(|(_, data)| data.as_ref());
        packets.map(|packet| packet.pid).collect()
    };
    let expected = [DataPid::Data0, DataPid::Data1, DataPid::Data0];
    assert_eq!(toggles(&device.borrow()), expected);
    assert_eq!(host.word(queue.address + 24) >> 31, 1);
}

#[test]
fn toggles_come_from_the_qtds_of_a_control_endpoint() {
    let device = Scripted::new([Response::Ack, Response::Ack]);
    let mut host = host(device.clone());
    let queue = host.add_high_speed(0, 0, 64);
    let buffer = host.take(8, 32);
    let tds = [
        Td::new(Pid::Setup, buffer, 8),
        Td::new(Pid::Out, 0, 0).data1(),
    ];
    host.run(queue, &tds);
    let device = device.borrow();
    let pids = device
        .asked
        .iter()
        .map(|(_, data)| data.as_ref().unwrap().pid);
    assert_eq!(pids.collect::<Vec<_>>(), [DataPid::Data0, DataPid::Data1]);
}

#[test]
fn a_repeated_packet_is_acknowledged_and_dropped() {
    let (mut host, device, queue) = bulk([data(false, 512), data(false, 512), data(true, 512)]);
    let buffer = host.take(1024, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 1024)]);
    assert_eq!((tokens[0] & 0xff, errors_left(tokens[0])), (0, 3));
    assert_eq!(device.borrow().acknowledged, 3);
    assert_eq!(host.bus.read_memory(buffer + 512, 1), [0xd1]);
}

#[test]
fn three_errors_halt_the_queue_head() {
    for error in [Response::Silence, Response::Garbled, Response::Ack] {
        let (mut host, device, queue) = bulk([error.clone(), error.clone(), error]);
        let buffer = host.take(512, 32);
        let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 512)]);
        assert_eq!(tokens[0] & 0xff, HALTED | TRANSACTION_ERROR);
        assert_eq!((errors_left(tokens[0]), left(tokens[0])), (0, 512));
        assert_eq!(device.borrow().asked.len(), 3);
        assert_eq!(host.read(0x04) & 3, 3, "USBINT and USBERRINT");
    }
}

#[test]
fn a_good_transaction_gives_back_all_tries() {
    let error = || [Response::Silence, Response::Silence];
    let mut answers = error().to_vec();
    answers.push(data(false, 512));
    answers.extend(error());
    answers.push(data(true, 512));
    let (mut host, _, queue) = bulk(answers);
    let buffer = host.take(1024, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 1024)]);
    assert_eq!(
        tokens[0] & 0xff,
        TRANSACTION_ERROR,
        "done, and it remembers"
    );
    assert_eq!(errors_left(tokens[0]), 3);
}

#[test]
fn without_an_error_counter_it_tries_for_ever() {
    let (mut host, device, queue) = bulk(vec![Response::Silence; 50]);
    let buffer = host.take(512, 32);
    let chain = host.chain(&[Td::new(Pid::In, buffer, 512)]);
    let token = host.word(chain[0] + 8);
    host.set_words(chain[0] + 8, &[token & !0xc00]);
    host.set_words(queue.address + 16, &[chain[0]]);
    host.bus.advance_us(2000);
    assert!(device.borrow().asked.len() > 50);
    assert_eq!(
        host.word(queue.address + 24) & 0xff,
        ACTIVE | TRANSACTION_ERROR
    );
}

#[test]
fn a_stall_halts_at_once() {
    for pid in [Pid::In, Pid::Out] {
        let (mut host, device, queue) = bulk([Response::Stall]);
        let buffer = host.take(512, 32);
        let tokens = host.run(
            queue,
            &[Td::new(pid, buffer, 512), Td::new(pid, buffer, 512)],
        );
        assert_eq!((tokens[0] & 0xff, errors_left(tokens[0])), (HALTED, 3));
        assert_eq!(tokens[1] & 0xff, ACTIVE, "the next one waits");
        host.bus.advance_us(1000);
        assert_eq!(device.borrow().asked.len(), 1);
        assert_eq!(host.read(0x04) & 3, 3);
    }
}

#[test]
fn more_than_was_asked_for_is_babble() {
    for (len, answer) in [(512, 513), (100, 101), (100, 512), (0, 1)] {
        let (mut host, _, queue) = bulk([data(false, answer)]);
        let buffer = host.take(1024, 32);
        let tokens = host.run(queue, &[Td::new(Pid::In, buffer, len)]);
        assert_eq!(tokens[0] & 0xff, HALTED | BABBLE);
        assert_eq!((left(tokens[0]), tokens[0] >> 31), (len, 0));
        assert_eq!(host.bus.read_memory(buffer, 4), [0; 4], "nothing arrived");
        assert_eq!(host.read(0x04) & 3, 3);
    }
}

#[test]
fn nothing_to_send_is_an_empty_packet() {
    let (mut host, device, queue) = bulk([Response::Ack]);
    let tokens = host.run(queue, &[Td::new(Pid::Out, 0, 0)]);
    assert_eq!(tokens[0] & 0xff, 0);
    assert_eq!(device.borrow().asked[0].1.as_ref().unwrap().bytes, []);
}

#[test]
fn after_nyet_and_nak_an_out_endpoint_is_asked_first() {
    let answers = [
        Response::Nyet,
        Response::Nak,
        Response::Ack,
        Response::Nak,
        Response::Ack,
        Response::Ack,
    ];
    let (mut host, device, queue) = bulk(answers);
    let buffer = host.take(1024, 32);
    let tokens = host.run(queue, &[Td::new(Pid::Out, buffer, 1024)]);
    assert_eq!(tokens[0] & 0xff, 0);
    let [ping, out] = [Pid::Ping, Pid::Out];
    assert_eq!(device.borrow().pids(), [out, ping, ping, out, ping, out]);
}

#[test]
fn after_an_error_an_out_endpoint_is_asked_first() {
    let (mut host, device, queue) = bulk([Response::Silence, Response::Ack, Response::Ack]);
    let buffer = host.take(512, 32);
    host.run(queue, &[Td::new(Pid::Out, buffer, 512)]);
    assert_eq!(device.borrow().pids(), [Pid::Out, Pid::Ping, Pid::Out]);
}

#[test]
fn the_ping_state_stays_with_the_queue_head() {
    let (mut host, device, queue) = bulk([Response::Nyet, Response::Ack, Response::Ack]);
    let buffer = host.take(512, 32);
    let tokens = host.run(queue, &[Td::new(Pid::Out, buffer, 512)]);
    assert_eq!(tokens[0] & 0xff, 1);
    host.run(queue, &[Td::new(Pid::Out, buffer, 512)]);
    assert_eq!(device.borrow().pids(), [Pid::Out, Pid::Ping, Pid::Out]);
}

#[test]
fn a_setup_packet_that_is_refused_is_an_error() {
    let device = Scripted::new([Response::Nak, Response::Stall, Response::Nyet]);
    let mut host = host(device);
    let queue = host.add_high_speed(0, 0, 64);
    let buffer = host.take(8, 32);
    let tokens = host.run(queue, &[Td::new(Pid::Setup, buffer, 8)]);
    assert_eq!(tokens[0] & 0xff, HALTED | TRANSACTION_ERROR);
}

#[test]
fn a_data_buffer_error_is_marked_and_tried_again() {
    let (mut host, _, queue) = bulk([data(false, 512), data(false, 512)]);
    let mut faults = host.bus.faults();
    faults.data_buffer_errors = 1;
    host.bus.set_faults(faults);
    let buffer = host.take(512, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 512)]);
    assert_eq!(
        tokens[0] & 0x7f,
        0x28,
        "data buffer error, transaction error"
    );
    assert_eq!(left(tokens[0]), 0);
}

#[test]
fn an_interrupt_comes_with_the_qtd_that_asks_for_one() {
    let (mut host, _, queue) = bulk([data(false, 512), data(true, 512)]);
    let buffer = host.take(1024, 32);
    let mut first = Td::new(Pid::In, buffer, 512);
    first.interrupt = false;
    let chain = host.submit(queue, &[first]);
    host.finish(queue, &chain, 10);
    assert_eq!(host.read(0x04) & 1, 0);
    host.run(queue, &[Td::new(Pid::In, buffer, 512)]);
    assert_eq!(host.read(0x04) & 1, 1);
}

#[test]
fn undefined_contents_are_reported_and_not_executed() {
    let words: [(usize, u32); 3] = [
        (4, 2 << 12 | 1),              // largest packet 0
        (4, 1025 << 16 | 2 << 12 | 1), // 1025
        (4, 64 << 16 | 3 << 12 | 1),   // reserved speed
    ];
    for (word, value) in words {
        let (mut host, device, queue) = bulk([]);
        host.set_words(queue.address + word as u32, &[value]);
        let buffer = host.take(512, 32);
        let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
        host.bus.advance_us(500);
        assert!(
            broken(&host)
                .iter()
                .all(|rule| *rule == Rule::DescriptorContents)
        );
        assert_eq!(device.borrow().asked.len(), 0);
        assert_eq!(host.word(chain[0] + 8) & ACTIVE, ACTIVE);
    }
}
