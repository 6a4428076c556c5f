//! Split transactions, with a hub between.

use super::*;
use crate::device::{Hub, Keyboard};

const HUB: u8 = 5;
const HALTED: u32 = 0x40;

/// A port's request to the hub, with `feature` in wValue.
fn port_request(host: &mut Host<Controller>, hub: Queue, request: u8, feature: u16, port: u16) {
    let setup = Setup {
        kind: 0x23,
        request,
        value: feature,
        index: port,
        length: 0,
    };
    assert_eq!(low(&host.control(hub, setup).0), [0; 2]);
}

/// A host with a hub at address 5 whose ports are powered and reset. With the queue head of its control endpoint.
fn with_hub(hub: Hub, ports: u16) -> (Host<Controller>, Queue) {
    let mut host = host(hub);
    let fresh = host.add_high_speed(0, 0, 64);
    host.control(fresh, Setup::set_address(HUB));
    let hub = host.add_high_speed(HUB, 0, 64);
    host.control(hub, Setup::set_configuration(1));
    for port in 1..=ports {
        port_request(&mut host, hub, 3, 8, port);
        port_request(&mut host, hub, 3, 4, port);
        host.bus.advance_us(20_000);
    }
    (host, hub)
}

/// A queue head for an endpoint behind the hub.
fn behind(
    host: &mut Host<Controller>,
    port: u32,
    speed: Speed,
    address: u8,
    endpoint: u8,
    max_packet: u32,
) -> Queue {
    let control = u32::from(endpoint == 0);
    let speed = u32::from(speed == Speed::Low);
    let place = u32::from(endpoint) << 8 | u32::from(address);
    let first = control << 27 | max_packet << 16 | control << 14 | speed << 12 | place;
    host.add(first, 1 << 30 | port << 23 | u32::from(HUB) << 16)
}

/// The same for its interrupt endpoint 1, in the periodic schedule.
fn interrupt(
    host: &mut Host<Controller>,
    port: u32,
    speed: Speed,
    address: u8,
    masks: u32,
) -> Queue {
    let queue = host.take(96, 32);
    let speed = u32::from(speed == Speed::Low);
    let first = 8 << 16 | speed << 12 | 1 << 8 | u32::from(address);
    let second = 1 << 30 | port << 23 | u32::from(HUB) << 16 | masks;
    host.set_words(queue, &[1, first, second, 0, 1, 1, 0]);
    host.set_words(host.frame_list, &[queue | 2; 1024]);
    host.write(0x00, 0x0001_0031);
    host.until(2, |host| host.read(0x04) & 0x4000 != 0);
    Queue { address: queue }
}

fn keyboard() -> Shared<Peripheral<Keyboard>> {
    shared(Keyboard::new(Speed::Low).plug())
}

/// A low-speed keyboard at address 6 behind port 1, configured.
fn with_keyboard(hub: Hub) -> (Host<Controller>, Shared<Peripheral<Keyboard>>) {
    let device = keyboard();
    let (mut host, _) = with_hub(hub.with(1, device.clone()), 1);
    let fresh = behind(&mut host, 1, Speed::Low, 0, 0, 8);
    host.control(fresh, Setup::set_address(6));
    let control = behind(&mut host, 1, Speed::Low, 6, 0, 8);
    host.control(control, Setup::set_configuration(1));
    assert_eq!(device.borrow().configuration(), 1);
    (host, device)
}

#[test]
fn a_control_transfer_reaches_a_low_speed_device() {
    let hub = Hub::new(Speed::High, 4).with(1, keyboard());
    let (mut host, _) = with_hub(hub, 1);
    let control = behind(&mut host, 1, Speed::Low, 0, 0, 8);
    let (tokens, bytes) = host.control(control, Setup::get_descriptor(1, 0, 18));
    assert_eq!(low(&tokens), [0; 3]);
    assert_eq!(bytes, keyboard().borrow().function.descriptors.device);
}

#[test]
fn a_start_split_is_followed_by_complete_splits_until_there_is_a_result() {
    let hub = Hub::new(Speed::High, 4).with(1, keyboard());
    let (mut host, _) = with_hub(hub, 1);
    let control = behind(&mut host, 1, Speed::Low, 0, 0, 8);
    host.bus.start_trace();
    host.control(control, Setup::set_address(6));
    let trace = host.bus.take_trace();
    let first: Vec<_> = trace
        .iter()
        .take_while(|t| t.token.pid == Pid::Setup)
        .collect();
    let completes = |t: &super::super::Traced| t.split.is_some_and(|split| split.complete);
    assert!(!completes(first[0]));
    assert_eq!(first[0].response, Response::Ack);
    assert_eq!(first[1].response, Response::Nyet);
    assert!(first[1..].iter().all(|traced| completes(traced)));
    assert_eq!(first.last().unwrap().response, Response::Ack);
}

#[test]
fn bulk_transfers_reach_a_full_speed_stick() {
    let stick = MassStorage::with_speed(Speed::Full, [Disk::zeros(512, 64)]).plug();
    let (mut host, _) = with_hub(Hub::new(Speed::High, 4).with(2, stick), 2);
    let fresh = behind(&mut host, 2, Speed::Full, 0, 0, 64);
    host.control(fresh, Setup::set_configuration(1));
    let [out, in_] = [2, 1].map(|end| behind(&mut host, 2, Speed::Full, 0, end, 64));
    let command = b"USBC\x01\0\0\0\x24\0\0\0\x80\0\x06\x12\0\0\0\x24\0\0\0\0\0\0\0\0\0\0\0";
    let command = host.place(command);
    assert_eq!(low(&host.run(out, &[Td::new(Pid::Out, command, 31)])), [0]);
    let buffer = host.take(64, 32);
    let tds = [
        Td::new(Pid::In, buffer, 36),
        Td::new(Pid::In, buffer + 64, 13),
    ];
    host.take(32, 32);
    assert_eq!(low(&host.run(in_, &tds)), [0, 0]);
    assert_eq!(host.bus.read_memory(buffer + 8, 8), *b"WIISTICK");
    assert_eq!(host.bus.read_memory(buffer + 64, 4), *b"USBS");
}

#[test]
fn a_device_that_is_gone_behind_a_hub_stalls() {
    let (mut host, _) = with_hub(Hub::new(Speed::High, 4), 0);
    let control = behind(&mut host, 1, Speed::Low, 0, 0, 8);
    let (tokens, _) = host.control(control, Setup::get_descriptor(1, 0, 18));
    assert_eq!(
        tokens[0] & 0xff,
        HALTED,
        "the translator's word for three errors"
    );
}

#[test]
fn a_hub_that_is_gone_is_an_error() {
    let (mut host, _) = with_hub(Hub::new(Speed::High, 4), 0);
    let control = behind(&mut host, 1, Speed::Low, 0, 0, 8);
    host.bus.unplug(0);
    let (tokens, _) = host.control(control, Setup::get_descriptor(1, 0, 18));
    assert_eq!(tokens[0] & 0xff, HALTED | 8);
}

#[test]
fn an_interrupt_endpoint_is_asked_by_split_transactions() {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4));
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x1c01);
    let buffer = host.take(32, 32);
    let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    host.bus.start_trace();
    host.bus.advance_us(10_000);
    assert_eq!(host.word(chain[0] + 8) & 0x80, 0x80, "nothing was pressed");
    let trace = host.bus.take_trace();
    let starts = trace
        .iter()
        .filter(|t| t.split.is_some_and(|split| !split.complete));
    assert_eq!(starts.count(), 10, "once in a frame");
    device.borrow_mut().function.press(4);
    let tokens = host.finish(queue, &chain, 10);
    assert_eq!((tokens[0] & 0xff, tokens[0] >> 16 & 0x7fff), (0, 0));
    assert_eq!(host.bus.read_memory(buffer, 8), [0, 0, 4, 0, 0, 0, 0, 0]);
}

#[test]
fn start_and_complete_splits_come_in_the_microframes_of_their_masks() {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4));
    // The results are due in the next frame.
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x4340 ^ 0x4000);
    let buffer = host.take(32, 32);
    device.borrow_mut().function.press(4);
    while host.read(0x0c) & 7 != 0 {
        host.bus.step_microframe();
    }
    let start = host.bus.now_us() / 125;
    host.bus.start_trace();
    let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    host.finish(queue, &chain, 10);
    let trace = host.bus.take_trace();
    let splits = trace
        .iter()
        .filter_map(|t| Some((t.microframe - start - 1, t.split?.complete)));
    assert_eq!(splits.collect::<Vec<_>>(), [(6, false), (8, true)]);
}

#[test]
fn a_result_may_come_in_parts() {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4).with_pieces(3));
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x1c01);
    let buffer = host.take(32, 32);
    device.borrow_mut().function.press(4);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 8)]);
    assert_eq!((tokens[0] & 0xff, tokens[0] >> 16 & 0x7fff), (0, 0));
    assert_eq!(host.bus.read_memory(buffer, 8), [0, 0, 4, 0, 0, 0, 0, 0]);
}

#[test]
fn a_result_that_does_not_come_in_time_is_an_error() {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4).with_pieces(2));
    // Four parts, three microframes for them.
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x1c01);
    let buffer = host.take(32, 32);
    device.borrow_mut().function.press(4);
    let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    while host.word(queue.address + 24) & 8 == 0 {
        host.bus.step_microframe();
    }
    assert_eq!(host.word(queue.address + 24) >> 10 & 3, 2);
    assert_eq!(host.word(chain[0] + 8) & 0x80, 0x80);
}

#[test]
fn a_complete_split_that_was_not_executed_is_a_missed_microframe() {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4));
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x1c01);
    let buffer = host.take(32, 32);
    while host.read(0x0c) & 7 != 0 {
        host.bus.step_microframe();
    }
    host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    // The start-split; then the list is empty while the first result is due.
    host.bus.step_microframe();
    host.set_words(host.frame_list, &[1; 1024]);
    for _ in 0..2 {
        host.bus.step_microframe();
    }
    device.borrow_mut().function.press(4);
    host.set_words(host.frame_list, &[queue.address | 2; 1024]);
    host.bus.step_microframe();
    let token = host.word(queue.address + 24);
    assert_eq!(token & 0xff, 0x84, "missed, and at the beginning again");
}

#[test]
fn a_result_of_frames_ago_is_a_missed_microframe() {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4));
    // One complete-split, so that none before it can be missing.
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x0401);
    let buffer = host.take(32, 32);
    while host.read(0x0c) & 7 != 0 {
        host.bus.step_microframe();
    }
    device.borrow_mut().function.press(4);
    host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    host.bus.step_microframe();
    host.set_words(host.frame_list, &[1; 1024]);
    host.bus.advance_us(2000);
    host.set_words(host.frame_list, &[queue.address | 2; 1024]);
    for _ in 0..2 {
        host.bus.step_microframe();
    }
    assert_eq!(host.word(queue.address + 24) & 0xff, 0x84);
}

#[test]
fn a_queue_head_that_is_to_stop_stops_at_its_next_start() {
    let (mut host, _) = with_keyboard(Hub::new(Speed::High, 4));
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x1c01);
    let buffer = host.take(32, 32);
    host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    host.bus.advance_us(3000);
    let word = host.word(queue.address + 4);
    // Between two frames nothing is under way.
    while host.read(0x0c) & 7 != 7 {
        host.bus.step_microframe();
    }
    host.bus.memory().take_violations();
    host.set_words(queue.address + 4, &[word | 1 << 7]);
    host.bus.advance_us(2000);
    assert_eq!(host.word(queue.address + 24) & 0x80, 0);
}

#[test]
fn a_hub_tells_what_changed_at_its_ports() {
    let (mut host, _) = with_hub(Hub::new(Speed::High, 4).with(3, keyboard()), 0);
    let control = host.add_high_speed(HUB, 0, 64);
    port_request(&mut host, control, 3, 8, 3);
    let changes = host.add_high_speed(HUB, 1, 1);
    let buffer = host.take(32, 32);
    let tokens = host.run(changes, &[Td::new(Pid::In, buffer, 1)]);
    assert_eq!(low(&tokens), [0]);
    assert_eq!(host.bus.read_memory(buffer, 1), [1 << 3]);
}

#[test]
fn a_high_speed_device_behind_a_hub_needs_no_splits() {
    let (mut host, _) = with_hub(Hub::new(Speed::High, 4).with(1, stick()), 1);
    let control = host.add_high_speed(0, 0, 64);
    let (tokens, bytes) = host.control(control, Setup::get_descriptor(1, 0, 18));
    assert_eq!((low(&tokens), bytes[0]), (vec![0; 3], 18));
}

/// Whether a report arrives that is due in the frame after the one in which its queue head is listed.
fn arrives_across_frames(with_node: bool) -> bool {
    let (mut host, device) = with_keyboard(Hub::new(Speed::High, 4));
    let queue = interrupt(&mut host, 1, Speed::Low, 6, 0x0140);
    // Nodes: one that saves the place and goes back to the queue head, one that ends the way back.
    let [save, restore] = [0; 2].map(|_| host.take(32, 32));
    host.set_words(restore, &[1, 1]);
    host.set_words(save, &[1, queue.address | 2]);
    host.set_words(queue.address, &[restore | 6]);
    let other = if with_node { save | 6 } else { 1 };
    let list: Vec<u32> = (0..1024)
        .map(|at| [queue.address | 2, other][at % 2])
        .collect();
    host.set_words(host.frame_list, &list);
    let buffer = host.take(32, 32);
    device.borrow_mut().function.press(4);
    let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 8)]);
    low(&host.finish(queue, &chain, 10)) == [0]
}

#[test]
fn a_node_that_spans_frames_leads_back_to_results_that_are_due() {
    assert!(arrives_across_frames(true));
    assert!(!arrives_across_frames(false));
}
