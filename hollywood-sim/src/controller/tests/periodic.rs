//! The periodic schedule.

use super::*;
use crate::Adversary;

const PERIODIC: u32 = 0x0001_0031;

/// A host with a scripted device whose interrupt endpoint 1 (64 bytes) is polled in every frame, in these microframes.
fn interrupt(
    answers: impl IntoIterator<Item = Response>,
    mask: u32,
    mult: u32,
) -> (Host<Controller>, Shared<Scripted>, Queue) {
    let device = Scripted::new(answers);
    let mut host = host(device.clone());
    let address = host.take(96, 32);
    let words = [
        1,
        64 << 16 | 2 << 12 | 1 << 8,
        mult << 30 | mask,
        0,
        1,
        1,
        0,
    ];
    host.set_words(address, &words);
    host.set_words(host.frame_list, &[address | 2; 1024]);
    host.write(0x00, PERIODIC);
    host.until(2, |host| host.read(0x04) & 0x4000 != 0);
    (host, device, Queue { address })
}

/// Lets time pass until a frame begins.
fn to_frame(host: &mut Host<Controller>) {
    while host.read(0x0c) & 7 != 0 {
        host.bus.step_microframe();
    }
}

#[test]
fn an_interrupt_endpoint_is_polled_in_the_microframes_of_its_mask() {
    let (mut host, device, queue) = interrupt([], 0b0010_0100, 1);
    let buffer = host.take(64, 32);
    to_frame(&mut host);
    host.submit(queue, &[Td::new(Pid::In, buffer, 64)]);
    let mut polled = Vec::new();
    for microframe in 0..16 {
        let before = device.borrow().asked.len();
        host.bus.step_microframe();
        if device.borrow().asked.len() != before {
            polled.push(microframe);
        }
    }
    assert_eq!(polled, [2, 5, 10, 13]);
}

#[test]
fn a_report_ends_the_qtd() {
    let (mut host, _, queue) = interrupt([Response::Nak, data(false, 8)], 1, 1);
    let buffer = host.take(64, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 64)]);
    assert_eq!((tokens[0] & 0xff, tokens[0] >> 16 & 0x7fff), (0, 56));
    assert_eq!(host.bus.read_memory(buffer, 8), [0xd0; 8]);
}

#[test]
fn mult_is_the_number_of_transactions_in_a_microframe() {
    for mult in 1..=3 {
        let answers = (0..8).map(|at| data(at % 2 == 1, 64));
        let (mut host, device, queue) = interrupt(answers, 1, mult);
        let buffer = host.take(512, 32);
        to_frame(&mut host);
        host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
        host.bus.step_microframe();
        assert_eq!(device.borrow().asked.len(), mult as usize);
    }
}

#[test]
fn each_frame_has_its_entry_in_the_list() {
    let (mut host, device, queue) = interrupt([], 1, 1);
    let mut list = [1; 1024];
    list[3] = queue.address | 2;
    host.set_words(host.frame_list, &list);
    let buffer = host.take(64, 32);
    host.submit(queue, &[Td::new(Pid::In, buffer, 64)]);
    host.bus.advance_us(1_000_000);
    let before = device.borrow().asked.len();
    host.bus.advance_us(1_024_000);
    assert_eq!(device.borrow().asked.len() - before, 1, "once around");
}

#[test]
fn a_shorter_frame_list_is_gone_around_more_often() {
    let config = Config {
        programmable_frame_list: true,
        ..Config::WII
    };
    let memory = Arc::new(Memory::new(0, 0x1_0000));
    let mut host = Host::new(Controller::new(memory, config));
    host.start();
    host.write(0x00, 0x0001_0029);
    host.write(0x04, 8);
    assert!(
        host.until(257, |host| host.read(0x04) & 8 != 0),
        "256 frames"
    );
}

#[test]
fn periodic_transfers_come_before_the_others() {
    let (mut host, device, queue) = interrupt([], 1, 1);
    let bulk = host.add(512 << 16 | 2 << 12 | 2 << 8, 1 << 30);
    let buffer = host.take(512, 32);
    to_frame(&mut host);
    host.submit(queue, &[Td::new(Pid::In, buffer, 64)]);
    host.submit(bulk, &[Td::new(Pid::In, buffer, 512)]);
    host.bus.step_microframe();
    assert_eq!(device.borrow().asked[0].0.endpoint, 1);
    assert!(
        device.borrow().asked[1..]
            .iter()
            .all(|(token, _)| token.endpoint == 2)
    );
}

#[test]
fn links_that_do_not_end_are_reported() {
    let (mut host, _, queue) = interrupt([], 1, 1);
    host.set_words(queue.address, &[queue.address | 2]);
    host.bus.step_microframe();
    assert_eq!(broken(&host)[0], Rule::DescriptorContents);
}

#[test]
fn a_queue_head_may_be_executed_once_more_after_it_left_the_list() {
    let mut after = 0;
    for seed in 0..16 {
        let (mut host, device, queue) = interrupt([], 0xff, 1);
        let buffer = host.take(64, 32);
        host.submit(queue, &[Td::new(Pid::In, buffer, 64)]);
        host.bus.set_adversary(Adversary::seeded(seed));
        host.bus.advance_us(2000);
        host.set_words(host.frame_list, &[1; 1024]);
        let before = device.borrow().asked.len();
        host.bus.step_microframe();
        after += device.borrow().asked.len() - before;
        let before = device.borrow().asked.len();
        host.bus.advance_us(2000);
        assert_eq!(device.borrow().asked.len(), before, "not a frame later");
    }
    assert!(after > 0, "no adversary made use of it");
}
