//! Ports of the root hub.

use super::*;

const CONNECTED: u32 = 1;
const CONNECT_CHANGE: u32 = 2;
const ENABLED: u32 = 4;
const ENABLE_CHANGE: u32 = 8;
const OVER_CURRENT: u32 = 0x10;
const OVER_CURRENT_CHANGE: u32 = 0x20;
const RESUME: u32 = 0x40;
const SUSPENDED: u32 = 0x80;
const POWER: u32 = 0x1000;
const OWNER: u32 = 0x2000;
const J: u32 = 0x800;
const K: u32 = 0x400;

fn of_speed(speed: Speed) -> Peripheral<MassStorage> {
    MassStorage::with_speed(speed, [Disk::zeros(512, 8)]).plug()
}

fn started(speed: Speed) -> Host<Controller> {
    let controller = controller();
    controller.plug(0, of_speed(speed));
    let mut host = Host::new(controller);
    host.start();
    host
}

#[test]
fn companions_have_the_ports_until_the_controller_is_configured() {
    let controller = controller();
    controller.plug(0, of_speed(Speed::High));
    let mut host = Host::new(controller);
    assert_eq!(host.port(0), POWER | OWNER);
    host.start();
    assert_eq!(host.port(0), POWER | CONNECTED | CONNECT_CHANGE | J);
    assert_eq!(host.port(1), POWER);
    host.write(0x40, 0);
    assert_eq!(host.port(0), POWER | OWNER | CONNECT_CHANGE);
}

#[test]
fn a_new_device_is_a_change() {
    let mut host = started(Speed::High);
    host.bus.advance_us(125);
    host.write(0x04, 4);
    assert_eq!(host.read(0x04) & 4, 0);
    host.bus.plug(1, of_speed(Speed::High));
    host.bus.advance_us(125);
    assert_eq!(host.read(0x04) & 4, 4, "port change detect");
    host.write(0x04, 4);
    host.bus.advance_us(1000);
    assert_eq!(host.read(0x04) & 4, 0, "once");
    let port = host.port(1);
    assert_eq!(port, POWER | CONNECTED | CONNECT_CHANGE | J);
    host.set_port(1, port);
    assert_eq!(
        host.port(1),
        POWER | CONNECTED | J,
        "cleared by writing one"
    );
}

#[test]
fn a_reset_enables_the_port_of_a_high_speed_device_only() {
    for (speed, enabled) in [(Speed::High, ENABLED), (Speed::Full, 0)] {
        let mut host = started(speed);
        assert_eq!(
            host.reset_port(0) & (CONNECTED | ENABLED),
            CONNECTED | enabled
        );
    }
}

#[test]
fn software_ends_a_reset_and_the_controller_says_when_it_is_over() {
    let mut host = started(Speed::High);
    host.set_port(0, POWER | 0x100);
    host.bus.advance_us(60_000);
    assert_eq!(host.port(0) & 0x100, 0x100);
    host.set_port(0, POWER);
    assert_eq!(host.port(0) & 0x104, 0x100, "not yet");
    host.bus.advance_us(2000);
    assert_eq!(host.port(0) & 0x104, ENABLED);
}

#[test]
fn software_cannot_enable_a_port() {
    let mut host = started(Speed::High);
    host.set_port(0, POWER | ENABLED);
    assert_eq!(host.port(0) & ENABLED, 0);
    host.reset_port(0);
    host.set_port(0, POWER);
    assert_eq!(host.port(0) & ENABLED, 0, "but disable it");
}

#[test]
fn a_low_speed_device_shows_the_k_state() {
    let mut host = started(Speed::Low);
    assert_eq!(host.port(0), POWER | CONNECTED | CONNECT_CHANGE | K);
    host.reset_port(0);
    assert_eq!(host.port(0) & (J | K), K);
}

#[test]
fn a_port_that_is_handed_over_is_empty_here() {
    let mut host = started(Speed::Full);
    host.reset_port(0);
    host.set_port(0, POWER | OWNER);
    assert_eq!(host.port(0), POWER | OWNER | CONNECT_CHANGE);
    host.set_port(0, POWER | CONNECT_CHANGE);
    assert_eq!(
        host.port(0),
        POWER | CONNECTED | CONNECT_CHANGE | J,
        "taken back"
    );
}

#[test]
fn a_port_comes_back_when_its_device_goes() {
    let mut host = started(Speed::Full);
    host.set_port(0, POWER | OWNER);
    host.bus.unplug(0);
    assert_eq!(host.port(0), POWER | CONNECT_CHANGE);
}

#[test]
fn the_internal_device_of_a_wii_is_at_port_2() {
    let memory = Arc::new(Memory::new(0, 0x20_0000));
    let mut host = Host::new(Controller::wii(memory));
    host.start();
    assert_eq!(host.read(0x44 + 8) & (CONNECTED | J), CONNECTED | J);
    assert_eq!(host.reset_port(2) & ENABLED, 0, "full speed");
}

#[test]
fn a_device_that_goes_disables_its_port() {
    let mut host = started(Speed::High);
    host.reset_port(0);
    host.bus.unplug(0);
    assert_eq!(host.port(0), POWER | CONNECT_CHANGE);
}

#[test]
fn an_error_disables_a_port() {
    let mut host = started(Speed::High);
    host.reset_port(0);
    host.bus.disable_port(0);
    assert_eq!(host.port(0) & (ENABLED | ENABLE_CHANGE), ENABLE_CHANGE);
}

#[test]
fn over_current_disables_a_port_and_changes_twice() {
    let mut host = started(Speed::High);
    host.reset_port(0);
    host.bus.set_over_current(0, true);
    let bits = ENABLED | OVER_CURRENT | OVER_CURRENT_CHANGE;
    assert_eq!(host.port(0) & bits, OVER_CURRENT | OVER_CURRENT_CHANGE);
    host.set_port(0, POWER | OVER_CURRENT_CHANGE);
    assert_eq!(host.port(0) & bits, OVER_CURRENT);
    host.bus.set_over_current(0, false);
    assert_eq!(host.port(0) & bits, OVER_CURRENT_CHANGE);
}

#[test]
fn a_suspended_port_hears_nothing_until_it_resumed() {
    let device = Scripted::new([]);
    let mut host = host(device.clone());
    let queue = host.add_high_speed(0, 1, 512);
    let buffer = host.take(512, 32);
    host.set_port(0, POWER | ENABLED | SUSPENDED);
    assert_eq!(host.port(0) & SUSPENDED, SUSPENDED);
    let tokens = host.run(queue, &[Td::new(Pid::In, buffer, 512)]);
    assert_eq!(tokens[0] & 0x48, 0x48, "nobody answers");
    assert_eq!(device.borrow().asked.len(), 0);
    host.set_port(0, POWER | ENABLED | SUSPENDED | RESUME);
    host.bus.advance_us(20_000);
    host.set_port(0, POWER | ENABLED);
    host.bus.advance_us(2000);
    assert_eq!(host.port(0) & (ENABLED | SUSPENDED | RESUME), ENABLED);
    host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    host.bus.advance_us(1000);
    assert_ne!(device.borrow().asked.len(), 0);
}

struct Sleeper(bool);

impl Device for Sleeper {
    fn speed(&self) -> Speed {
        Speed::High
    }

    fn reset(&mut self) {}

    fn transaction(&mut self, _token: Token, _data: Option<&Packet>) -> Response {
        Response::Nak
    }

    fn acknowledge(&mut self, _token: Token) {}

    fn wakes(&mut self) -> bool {
        self.0
    }
}

#[test]
fn a_device_may_wake_its_port() {
    let device = shared(Sleeper(false));
    let mut host = host(device.clone());
    host.set_port(0, POWER | ENABLED | SUSPENDED);
    host.bus.advance_us(5000);
    host.write(0x04, 4);
    assert_eq!(host.port(0) & RESUME, 0);
    device.borrow_mut().0 = true;
    host.bus.advance_us(125);
    assert_eq!(host.port(0) & RESUME, RESUME);
    assert_eq!(host.read(0x04) & 4, 4);
}

#[test]
fn a_reset_that_is_too_short_is_reported() {
    let mut host = started(Speed::High);
    host.set_port(0, POWER | 0x100);
    host.bus.advance_us(49_000);
    host.set_port(0, POWER);
    assert_eq!(broken(&host), [Rule::Register]);
}

#[test]
fn a_reset_with_the_enable_bit_written_as_one_is_reported() {
    let mut host = started(Speed::High);
    host.reset_port(0);
    host.set_port(0, POWER | 0x104);
    let violation = host.bus.memory().take_violations()[0];
    assert_eq!(
        (violation.rule, violation.address),
        (Rule::Register, 0x0d04_0054)
    );
}

#[test]
fn a_device_is_deaf_for_ten_milliseconds_after_a_reset() {
    let mut host = started(Speed::High);
    let control = host.add_high_speed(0, 0, 64);
    host.set_port(0, POWER | 0x100);
    host.bus.advance_us(50_000);
    host.set_port(0, POWER);
    host.bus.advance_us(1000);
    let setup = Setup::get_descriptor(1, 0, 8);
    assert_eq!(host.control(control, setup).0[0] & 0x48, 0x48);
    host.bus.advance_us(10_000);
    assert_eq!(low(&host.control(control, setup).0), [0; 3]);
}
