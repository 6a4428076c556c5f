//! The asynchronous schedule.

use super::*;
use crate::Adversary;
use crate::controller::{Doorbell, Faults};

#[test]
fn thirteen_full_packets_fit_in_a_microframe() {
    let (mut host, _, queue) = bulk((0..40).map(|at| data(at % 2 == 1, 512)));
    let buffer = host.take(0x5000, 0x1000);
    host.submit(queue, &[Td::new(Pid::In, buffer, 0x5000)]);
    let before = host.bus.statistics();
    host.bus.step_microframe();
    assert_eq!(host.bus.statistics().packets - before.packets, 13);
    host.bus.step_microframe();
    assert_eq!(host.bus.statistics().packets - before.packets, 26);
}

#[test]
fn queue_heads_take_turns() {
    let device = Scripted::new([]);
    let mut host = host(device.clone());
    let queues = [1, 2].map(|endpoint| host.add_high_speed(0, endpoint, 512));
    let buffer = host.take(512, 32);
    for queue in queues {
        host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    }
    host.bus.step_microframe();
    let device = device.borrow();
    let endpoints = device.asked.iter().map(|(token, _)| token.endpoint);
    let endpoints: Vec<u8> = endpoints.collect();
    assert!(
        endpoints.windows(2).all(|pair| pair[0] != pair[1]),
        "{endpoints:?}"
    );
}

#[test]
fn a_ring_without_work_is_empty_until_the_next_microframe() {
    let (mut host, _, _) = bulk([]);
    let before = host.bus.statistics().fetches;
    host.bus.step_microframe();
    // The head, the other queue head, the head again.
    assert_eq!(host.bus.statistics().fetches - before, 3);
    assert_eq!(host.read(0x04) & 0x2000, 0, "reclamation");
}

#[test]
fn a_nak_counter_limits_the_tries_in_a_microframe() {
    for reload in 1..=4 {
        let device = Scripted::new([]);
        let mut host = host(device.clone());
        let queue = host.add(reload << 28 | 512 << 16 | 2 << 12 | 1 << 8, 1 << 30);
        let buffer = host.take(512, 32);
        host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
        host.bus.step_microframe();
        let first = device.borrow().asked.len();
        assert_eq!(first, reload as usize);
        host.bus.step_microframe();
        assert_eq!(device.borrow().asked.len(), 2 * first, "reloaded");
    }
}

#[test]
fn without_a_reload_value_naks_fill_the_microframe() {
    let device = Scripted::new([]);
    let mut host = host(device.clone());
    let queue = host.add(512 << 16 | 2 << 12 | 1 << 8, 1 << 30);
    let buffer = host.take(512, 32);
    host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    host.bus.step_microframe();
    assert!(device.borrow().asked.len() > 100);
}

#[test]
fn a_doorbell_is_answered_when_nothing_is_held() {
    let (mut host, _, queue) = bulk([]);
    host.unlink(queue);
    host.ring_doorbell();
    assert_eq!((host.read(0x00) & 0x40, host.read(0x04) & 0x20), (0x40, 0));
    host.bus.step_microframe();
    assert_eq!((host.read(0x00) & 0x40, host.read(0x04) & 0x20), (0, 0x20));
}

#[test]
fn an_unlinked_queue_head_may_be_executed_until_the_doorbell_is_answered() {
    let mut after = 0;
    for seed in 0..64 {
        let device = Scripted::new([]);
        let mut host = host(device.clone());
        let queue = host.add(512 << 16 | 2 << 12 | 1 << 8, 1 << 30);
        host.bus.set_adversary(Adversary::seeded(seed));
        let buffer = host.take(512, 32);
        host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
        host.bus.advance_us(500);
        host.unlink(queue);
        host.ring_doorbell();
        let unlinked = device.borrow().asked.len();
        assert!(host.until(50, |host| host.read(0x04) & 0x20 != 0));
        let answered = device.borrow().asked.len();
        after += answered - unlinked;
        host.bus.advance_us(2000);
        assert_eq!(device.borrow().asked.len(), answered);
    }
    assert!(after > 0, "no adversary made use of it");
}

#[test]
fn a_doorbell_may_never_be_answered() {
    for doorbell in [Doorbell::Silent, Doorbell::Dead] {
        let (mut host, _, queue) = bulk([]);
        host.bus.set_faults(Faults {
            doorbell,
            ..Faults::default()
        });
        assert!(!host.remove(queue));
        let up = doorbell == Doorbell::Dead;
        assert_eq!(host.read(0x00) & 0x40 != 0, up);
    }
}

#[test]
fn switching_the_schedule_off_lets_go_of_everything() {
    let (mut host, device, queue) = bulk([]);
    let buffer = host.take(512, 32);
    host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    host.bus.advance_us(500);
    host.write(0x00, 0x0001_0001);
    assert!(host.until(5, |host| host.read(0x04) & 0x8000 == 0));
    let asked = device.borrow().asked.len();
    host.set_words(queue.address + 4, &[0; 10]);
    host.bus.advance_us(1000);
    assert_eq!(device.borrow().asked.len(), asked);
}

#[test]
fn a_ring_without_a_head_is_reported() {
    let (mut host, _, queue) = bulk([]);
    let head = host.word(queue.address) & !31;
    let word = host.word(head + 4);
    host.set_words(head + 4, &[word & !0x8000]);
    host.bus.step_microframe();
    let violations = host.bus.memory().take_violations();
    let message = violations[0].to_string();
    assert!(message.contains("no head in the ring"), "{message}");
}

#[test]
fn bytes_are_right_whatever_the_controller_does_early_or_late() {
    for seed in 0..32 {
        let device = shared(stick());
        let mut host = host(device.clone());
        host.bus.set_adversary(Adversary::seeded(seed));
        host.bus.memory().set_adversary(Adversary::seeded(!seed));
        let control = host.add_high_speed(0, 0, 64);
        let (tokens, bytes) = host.control(control, Setup::get_descriptor(1, 0, 18));
        assert_eq!(low(&tokens), [0; 3]);
        assert_eq!(bytes, device.borrow().function.descriptors.device);
        host.control(control, Setup::set_configuration(1));
        let [out, in_] = [2, 1].map(|endpoint| host.add_high_speed(0, endpoint, 512));
        // Two commands: the first one fails, power came on.
        for _ in 0..2 {
            let command =
                b"USBC\x01\0\0\0\0\x20\0\0\x80\0\x0a\x28\0\0\0\0\x07\0\0\x10\0\0\0\0\0\0\0";
            let command = host.place(command);
            host.run(out, &[Td::new(Pid::Out, command, 31)]);
            let buffer = host.take(0x2000, 0x1000);
            let tokens = host.run(in_, &[Td::new(Pid::In, buffer, 0x2000)]);
            if tokens[0] & 0x40 != 0 {
                host.control(control, Setup::clear_halt(0x81));
                host.set_words(in_.address + 24, &[0]);
            } else {
                let bytes = host.bus.read_memory(buffer, 0x2000);
                let expected = (7 * 512..23 * 512).map(|at| (at / 512 * 7 + at * 3) as u8);
                assert!(expected.eq(bytes));
            }
            let status = host.take(13, 32);
            host.run(in_, &[Td::new(Pid::In, status, 13)]);
        }
        assert_eq!(broken(&host), []);
    }
}

#[test]
fn what_an_interrupt_tells_of_is_in_memory() {
    for seed in 0..64 {
        let (mut host, _, queue) = bulk([data(false, 512)]);
        host.bus.set_adversary(Adversary::seeded(seed));
        let buffer = host.take(512, 32);
        let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
        while host.read(0x04) & 1 == 0 {
            host.bus.step_microframe();
        }
        let overlay = host.word(queue.address + 24);
        assert_eq!((host.word(chain[0] + 8) & 0xff, overlay & 0xff), (0, 0));
        assert_eq!(host.bus.read_memory(buffer, 512), [0xd0; 512]);
    }
}

#[test]
fn a_queue_head_can_be_taken_out_whatever_is_decided() {
    let mut late = 0;
    for seed in 0..128 {
        let (mut host, device, queue) = bulk([data(false, 512)]);
        let buffer = host.take(512, 32);
        let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
        host.bus.set_adversary(Adversary::seeded(seed));
        host.bus.step_microframe();
        host.unlink(queue);
        host.ring_doorbell();
        host.bus.step_microframe();
        late += u32::from(host.read(0x04) & 0x20 == 0);
        assert!(host.until(20, |host| host.read(0x04) & 0x20 != 0));
        let asked = device.borrow().asked.len();
        host.set_words(queue.address, &[0; 12]);
        host.bus.advance_us(1000);
        assert_eq!(device.borrow().asked.len(), asked, "let go");
        assert_eq!(
            host.word(chain[0] + 8) & 0xff,
            0,
            "and done, for it was begun"
        );
        assert_eq!(host.bus.read_memory(buffer, 512), [0xd0; 512]);
        assert_eq!(broken(&host), []);
    }
    assert!(late > 10, "{late} late answers");
}
