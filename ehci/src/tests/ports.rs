//! Connection, reset, speed, hand-off, removal.

use crate::registers::PortSc;
use crate::testing::{Rig, Stick};
use crate::{PortChange, Speed, TransferError};

#[test]
fn a_high_speed_device_is_debounced_reset_for_50_ms_and_enabled() {
    let mut rig = Rig::new();
    rig.machine.plug(1, Box::new(Stick::new(1)));
    let plugged = rig.machine.state.borrow().now_us;
    assert_eq!(rig.port_event(), (1, PortChange::Attached));
    assert!(rig.machine.state.borrow().now_us - plugged >= 100_000);
    assert!(rig.ehci.reset_port(1));
    let begun = rig.machine.state.borrow().now_us;
    while PortSc(rig.machine.state.borrow().ports[1]).reset() {
        rig.step();
    }
    assert!(rig.machine.state.borrow().now_us - begun >= 50_000);
    assert_eq!(rig.port_event(), (1, PortChange::Enabled));
    assert!(rig.ehci.is_port_enabled(1));
}

#[test]
fn a_device_that_bounces_is_reported_once() {
    let mut rig = Rig::new();
    rig.machine.plug(0, Box::new(Stick::new(1)));
    rig.settle();
    let stick = rig.machine.unplug(0).unwrap();
    rig.settle();
    rig.machine.plug(0, stick);
    assert_eq!(rig.port_event(), (0, PortChange::Attached));
    rig.settle();
    assert_eq!(rig.ehci.take_port_event(), None);
}

#[test]
fn devices_that_are_not_high_speed_go_to_the_companion() {
    for (speed, resets) in [(Speed::Full, true), (Speed::Low, false)] {
        let mut rig = Rig::new();
        rig.machine.plug(0, Box::new(Stick::with_speed(speed)));
        if resets {
            assert_eq!(rig.port_event(), (0, PortChange::Attached));
            assert!(rig.ehci.reset_port(0));
        }
        assert_eq!(rig.port_event(), (0, PortChange::HandedOver(speed)));
        assert!(PortSc(rig.machine.state.borrow().ports[0]).owner());
        rig.settle();
        assert_eq!(
            rig.ehci.take_port_event(),
            None,
            "the change that the hand-over causes is none"
        );
        // When the companion's device leaves, the port comes back and serves the next one.
        rig.machine.unplug(0);
        rig.settle();
        rig.machine.plug(0, Box::new(Stick::new(1)));
        rig.attach(0);
    }
}

#[test]
fn without_a_companion_a_full_speed_device_is_reported_as_unsupported() {
    let mut rig = Rig::new();
    rig.machine.state.borrow_mut().companions = 0;
    let machine = rig.machine.clone();
    rig.ehci.stop().unwrap();
    rig.ehci = crate::Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
    rig.ehci.start().unwrap();
    rig.machine
        .plug(0, Box::new(Stick::with_speed(Speed::Full)));
    assert_eq!(rig.port_event(), (0, PortChange::Attached));
    rig.ehci.reset_port(0);
    assert_eq!(rig.port_event(), (0, PortChange::Unsupported(Speed::Full)));
    assert!(!PortSc(rig.machine.state.borrow().ports[0]).owner());
}

#[test]
fn a_port_that_is_excluded_by_policy_is_left_to_the_companion() {
    struct WithoutPort2(crate::testing::Machine);
    impl crate::Platform for WithoutPort2 {
        fn now_us(&self) -> u64 {
            self.0.now_us()
        }
        fn serves_port(&self, port: u8) -> bool {
            port != 2
        }
    }
    let machine = crate::testing::Machine::new();
    let mut ehci = crate::Ehci::new(
        machine.clone(),
        machine.ram.clone(),
        WithoutPort2(machine.clone()),
    )
    .unwrap();
    ehci.start().unwrap();
    let owners: Vec<_> = machine
        .state
        .borrow()
        .ports
        .iter()
        .map(|&port| PortSc(port).owner())
        .collect();
    assert_eq!(owners, [false, false, true, false]);
    for _ in 0..2000 {
        machine.advance(125);
        ehci.poll();
    }
    assert_eq!(ehci.take_port_event(), None);
}

#[test]
fn a_reset_that_does_not_end_is_reported_within_a_bound() {
    let mut rig = Rig::new();
    rig.machine.state.borrow_mut().faults.port_reset_never_ends = true;
    rig.machine.plug(0, Box::new(Stick::new(1)));
    assert_eq!(rig.port_event(), (0, PortChange::Attached));
    rig.ehci.reset_port(0);
    assert_eq!(rig.port_event(), (0, PortChange::ResetFailed));
}

#[test]
fn unplugging_ends_pending_transfers_and_the_next_stick_works() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    rig.settle();
    rig.machine.unplug(0);
    assert_eq!(rig.finish(id).0, Err(TransferError::Disconnected));
    assert_eq!(rig.port_event(), (0, PortChange::Detached));
    let request = crate::Request {
        buffer: None,
        zero_packet: false,
        trailer: 0,
        part: crate::Part::Whole,
        quiet: false,
        timeout_us: None,
    };
    let rejected = rig.ehci.submit(pipe, request);
    assert_eq!(
        rejected.unwrap_err().error,
        crate::SubmitError::Disconnected
    );
    rig.ehci.close(pipe);
    rig.settle();
    assert_eq!(rig.machine.ram.allocations(), 1);
    assert_eq!(rig.ehci.pool.available(), crate::QTDS);

    rig.machine.plug(0, Box::new(Stick::new(1)));
    rig.attach(0);
    let pipe = rig.open(0, crate::Kind::Control);
    assert_eq!(
        rig.control_in(pipe, [0xc0, 0x55, 0, 0, 0, 0, 8, 0]).0,
        Ok(())
    );
}

#[test]
fn unplugging_one_device_leaves_the_other_alone() {
    let (mut rig, _) = Rig::with_stick();
    let other = Stick::new(1);
    let source = other.shared.clone();
    let address = [0x00, 5, 9, 0, 0, 0, 0, 0];
    let control = rig.open(0, crate::Kind::Control);
    assert_eq!(rig.control_in(control, address).0, Ok(()));
    rig.machine.plug(1, Box::new(other));
    rig.attach(1);
    let here = crate::Endpoint {
        address: 9,
        ..crate::testing::endpoint(5, Rig::IN)
    };
    let here = rig.ehci.open(&here).unwrap();
    let there = crate::Endpoint {
        root_port: Some(1),
        ..crate::testing::endpoint(5, Rig::IN)
    };
    let there = rig.ehci.open(&there).unwrap();
    let (lost, kept) = (rig.start_in(here, 512), rig.start_in(there, 512));
    rig.machine.unplug(0);
    assert_eq!(rig.finish(lost).0, Err(TransferError::Disconnected));
    source.borrow_mut().source.push_back(vec![1, 2, 3]);
    assert_eq!(rig.finish(kept), (Ok(()), 3, vec![1, 2, 3]));
}

#[test]
fn over_current_ends_transfers_and_power_comes_back_after_it() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    let now = rig.machine.state.borrow().ports[0];
    rig.machine.state.borrow_mut().ports[0] = now & !0x1004 | 0x30;
    rig.machine.raise(4);
    assert_eq!(rig.port_event(), (0, PortChange::OverCurrent));
    assert_eq!(rig.finish(id).0, Err(TransferError::Disconnected));
    rig.machine.state.borrow_mut().ports[0] = 0x21;
    rig.machine.raise(4);
    rig.attach(0);
}

#[test]
fn a_port_that_the_controller_disables_ends_its_transfers() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    let now = rig.machine.state.borrow().ports[0];
    rig.machine.state.borrow_mut().ports[0] = now & !4 | 8;
    rig.machine.raise(4);
    assert_eq!(rig.port_event(), (0, PortChange::Disabled));
    assert_eq!(rig.finish(id).0, Err(TransferError::Disconnected));
    assert!(rig.ehci.reset_port(0), "a reset brings it back");
    assert_eq!(rig.port_event(), (0, PortChange::Enabled));
}

#[test]
fn over_current_that_nobody_saw_ends_transfers_too() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    // It began and ended between two looks: only the change is left, and the port is off.
    rig.machine.state.borrow_mut().ports[0] = 0x21;
    rig.machine.raise(4);
    assert_eq!(rig.port_event(), (0, PortChange::Detached));
    assert_eq!(rig.finish(id).0, Err(TransferError::Disconnected));
    assert!(PortSc(rig.machine.state.borrow().ports[0]).power());
    rig.attach(0);
}

#[test]
fn a_disabled_port_ends_its_transfers_and_a_reset_brings_it_back() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    rig.ehci.disable_port(0);
    assert!(!PortSc(rig.machine.state.borrow().ports[0]).enabled());
    assert_eq!(rig.finish(id).0, Err(TransferError::Disconnected));
    assert!(!rig.ehci.is_port_enabled(0));
    assert!(rig.ehci.reset_port(0));
    assert_eq!(rig.port_event(), (0, PortChange::Enabled));
}

#[test]
fn a_port_suspends_and_resumes() {
    let (mut rig, _) = Rig::with_stick();
    assert!(rig.ehci.suspend_port(0));
    let port = PortSc(rig.machine.state.borrow().ports[0]);
    assert!(port.suspended() && port.enabled());
    assert!(port.wake_connect() && port.wake_disconnect() && port.wake_over_current());
    assert!(!rig.ehci.is_port_enabled(0));
    assert!(rig.ehci.resume_port(0));
    let begun = rig.machine.state.borrow().now_us;
    assert_eq!(rig.port_event(), (0, PortChange::Resumed));
    // Signalling for 20 ms, and 10 ms of rest.
    assert!(rig.machine.state.borrow().now_us - begun >= 30_000);
    assert!(rig.ehci.is_port_enabled(0));
    let pipe = rig.open(0, crate::Kind::Control);
    let request = [0xc0, 0x55, 0, 0, 0, 0, 8, 0];
    assert_eq!(rig.control_in(pipe, request).0, Ok(()));
}

#[test]
fn a_port_with_transfers_under_way_is_not_suspended() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    assert!(!rig.ehci.suspend_port(0));
    rig.ehci.cancel(pipe);
    assert_eq!(rig.finish(id).0, Err(TransferError::Cancelled));
    assert!(rig.ehci.suspend_port(0));
    assert!(!rig.ehci.suspend_port(0), "it is suspended");
}

#[test]
fn a_device_wakes_its_port() {
    let (mut rig, _) = Rig::with_stick();
    assert!(rig.ehci.suspend_port(0));
    rig.settle();
    assert_eq!(rig.ehci.take_port_event(), None);
    // Resume signalling from the device (section 4.3.1).
    rig.machine.state.borrow_mut().ports[0] |= 0x40;
    rig.machine.raise(4);
    let begun = rig.machine.state.borrow().now_us;
    assert_eq!(rig.port_event(), (0, PortChange::Resumed));
    let took = rig.machine.state.borrow().now_us - begun;
    assert!((30_000..40_000).contains(&took), "{took}");
    let port = PortSc(rig.machine.state.borrow().ports[0]);
    assert!(!port.suspended() && !port.force_resume() && port.enabled());
    assert!(rig.ehci.is_port_enabled(0));
}

#[test]
fn unplugging_a_suspended_device_is_noticed() {
    let (mut rig, _) = Rig::with_stick();
    assert!(rig.ehci.suspend_port(0));
    rig.machine.unplug(0);
    assert_eq!(rig.port_event(), (0, PortChange::Detached));
    rig.machine.plug(0, Box::new(Stick::new(1)));
    rig.attach(0);
}

#[test]
fn a_resume_signal_that_does_not_end_is_reported_within_a_bound() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    assert!(rig.ehci.suspend_port(0));
    rig.machine.state.borrow_mut().faults.resume_never_ends = true;
    assert!(rig.ehci.resume_port(0));
    let begun = rig.machine.state.borrow().now_us;
    assert_eq!(rig.port_event(), (0, PortChange::ResumeFailed));
    assert!(rig.machine.state.borrow().now_us - begun < 50_000);
    let buffer = crate::memory::Dma::incoming(&rig.machine.ram, 8).unwrap();
    let rejected = rig.ehci.submit(pipe, crate::Request::new(buffer));
    assert_eq!(
        rejected.unwrap_err().error,
        crate::SubmitError::Disconnected
    );
}

#[test]
fn a_lost_port_interrupt_is_found_within_100_ms() {
    let mut rig = Rig::new();
    rig.machine.plug(0, Box::new(Stick::new(1)));
    rig.machine.state.borrow_mut().ports[0] &= !2;
    crate::registers::Registers::write(&rig.machine, 0x14, 4);
    assert_eq!(rig.port_event(), (0, PortChange::Attached));
}
