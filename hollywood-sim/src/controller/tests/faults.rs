//! Faults, seen through the controller.

use super::*;
use crate::controller::Faults;
use crate::device::{Fault, Faulty, Keyboard, Line, When};

/// Reads a keyboard's report of 8 bytes by a bulk queue head. Returns token and bytes.
fn read_with(fault: Fault) -> (u32, Vec<u8>) {
    let mut keyboard = Keyboard::new(Speed::High).plug();
    keyboard.function.press(4);
    let line = Line {
        when: When::at(Pid::In, 1),
        times: 1,
        fault,
    };
    let mut host = host(Faulty::scripted(keyboard, [line]));
    let control = host.add_high_speed(0, 0, 64);
    host.control(control, Setup::set_configuration(1));
    let queue = host.add_high_speed(0, 1, 8);
    let buffer = host.take(32, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 8)]);
    (tokens[0], host.bus.read_memory(buffer, 8))
}

#[test]
fn each_fault_has_its_status() {
    let good = [0, 0, 4, 0, 0, 0, 0, 0];
    let cases = [
        (Fault::Nak, 0, &good[..]),
        (Fault::Stall, 0x40, &[0; 8]),
        (Fault::Silence, 0x08, &good),
        (Fault::LostAnswer, 0x08, &good),
        (Fault::LostAcknowledge, 0, &good),
        (Fault::Nonsense, 0x08, &good),
        (Fault::Toggle, 0, &good),
        (Fault::Cut(3), 0, &[0, 0, 4, 0, 0, 0, 0, 0]),
        (Fault::Grow(1), 0x50, &[0; 8]),
        (Fault::Gone, 0x48, &[0; 8]),
    ];
    for (fault, status, bytes) in cases {
        let (token, read) = read_with(fault);
        assert_eq!((token & 0xff, &read[..]), (status, bytes), "{fault:?}");
    }
    assert_eq!(
        read_with(Fault::Cut(3)).0 >> 16,
        5 | 0x8000,
        "five are left, toggle 1"
    );
}

#[test]
fn a_storm_of_naks_is_no_error() {
    let line = Line {
        when: When::at(Pid::In, 1),
        times: 5000,
        fault: Fault::Nak,
    };
    let mut host = host(Faulty::scripted(Scripted::new([data(false, 512)]), [line]));
    let queue = host.add_high_speed(0, 1, 512);
    let buffer = host.take(512, 32);
    let chain = host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    // Four tries in each microframe.
    assert_eq!(low(&host.finish(queue, &chain, 150)), [0x80]);
    assert_eq!(low(&host.finish(queue, &chain, 10)), [0]);
}

#[test]
fn a_device_may_go_at_any_microframe() {
    for later in 0..24 {
        let (mut host, _, queue) = bulk((0..40).map(|at| data(at % 2 == 1, 512)));
        let at = host.bus.microframe() + 1 + later;
        host.bus.set_faults(Faults {
            unplugs_at: Some((at, 0)),
            ..Faults::default()
        });
        let buffer = host.take(0x5000, 0x1000);
        let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 0x5000)]);
        let moved = 0x5000 - (tokens[0] >> 16 & 0x7fff);
        assert_eq!(moved, 512 * 40.min(13 * later as u32));
        if moved < 0x5000 {
            assert_eq!(tokens[0] & 0xff, 0x48);
        }
        host.bus.advance_us(125 * (later + 1));
        assert_eq!(host.port(0) & 7, 2, "gone");
    }
}

#[test]
fn over_current_may_come_at_any_microframe() {
    let (mut host, _, queue) = bulk([data(false, 512)]);
    let at = host.bus.microframe() + 1;
    host.bus.set_faults(Faults {
        over_current_at: Some((at, 0)),
        ..Faults::default()
    });
    let buffer = host.take(512, 32);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 512)]);
    assert_eq!(tokens[0] & 0xff, 0x48);
    assert_eq!(host.port(0) & 0x34, 0x30);
    assert_eq!(host.read(0x04) & 4, 4);
}
