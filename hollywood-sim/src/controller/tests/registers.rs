//! Registers, interrupts, time.

use super::*;
use crate::controller::{ByteOrder, Faults};

const USBCMD: u32 = 0x00;
const USBSTS: u32 = 0x04;
const USBINTR: u32 = 0x08;
const FRINDEX: u32 = 0x0c;

fn fresh() -> Host<Controller> {
    Host::new(controller())
}

#[test]
fn capability_registers_describe_a_wii() {
    let controller = controller();
    assert_eq!(controller.read32(0), 0x0100_0010);
    assert_eq!(
        controller.read32(4),
        0x2204,
        "four ports, two companions of two"
    );
    assert_eq!(controller.read32(8), 0x10, "32 bits, one microframe ahead");
}

#[test]
fn registers_are_big_endian_on_a_wii_and_little_endian_on_pci() {
    assert_eq!(controller().load(0, 4), [0x01, 0x00, 0x00, 0x10]);
    let config = Config {
        byte_order: ByteOrder::Little,
        ..Config::WII
    };
    let controller = Controller::new(Arc::new(Memory::new(0, 0)), config);
    assert_eq!(controller.load(0, 4), [0x10, 0x00, 0x00, 0x01]);
    controller.store(0x50, &[1, 0, 0, 0]);
    assert_eq!(controller.read32(0x50), 1);
}

#[test]
fn accesses_of_other_widths_are_reported() {
    let controller = controller();
    controller.load(0, 1);
    controller.store(0x10, &[0, 0]);
    let violations = controller.memory().take_violations();
    let rules: Vec<Rule> = violations.iter().map(|v| v.rule).collect();
    assert_eq!(rules, [Rule::Register; 2]);
    assert_eq!(violations[1].address, 0x0d04_0010);
}

#[test]
fn what_is_no_register_is_reported() {
    let mut host = fresh();
    assert_eq!(host.read(0x20), 0);
    host.write(0x44 + 16, 0);
    assert_eq!(broken(&host), [Rule::Register; 2]);
}

#[test]
fn registers_after_power_on_are_the_specifications() {
    let mut host = fresh();
    let values = [USBCMD, USBSTS, USBINTR, FRINDEX, 0x40].map(|at| host.read(at));
    assert_eq!(values, [0x0008_0000, 0x1000, 0, 0, 0]);
}

#[test]
fn run_and_stop_are_followed_by_hchalted() {
    let mut host = fresh();
    host.write(USBCMD, 1);
    assert_eq!(host.read(USBSTS) & 0x1000, 0);
    host.write(USBCMD, 0);
    host.bus.advance_us(16 * 125);
    assert_eq!(host.read(USBSTS) & 0x1000, 0x1000);
}

#[test]
fn a_reset_ends_by_itself_and_forgets_everything_but_the_vendors_block() {
    let mut host = host(stick());
    host.bus.write32(0xcc, 0x8111);
    host.write(USBINTR, 0x3f);
    host.write(USBCMD, 0);
    host.bus.advance_us(1000);
    host.write(USBCMD, 2);
    assert_eq!(host.read(USBCMD) & 2, 2);
    host.bus.advance_us(1000);
    let values = [USBCMD, USBSTS, USBINTR, 0x40].map(|at| host.read(at));
    assert_eq!(values, [0x0008_0000, 0x1000, 0, 0]);
    assert_eq!(host.port(0), 0x3000);
    assert_eq!(host.bus.read32(0xcc), 0x8111);
}

#[test]
fn resetting_a_running_controller_is_reported() {
    let mut host = fresh();
    host.write(USBCMD, 1);
    host.write(USBCMD, 2);
    assert_eq!(broken(&host), [Rule::Register]);
}

#[test]
fn frindex_counts_microframes_while_running() {
    let mut host = fresh();
    host.bus.advance_us(1000);
    assert_eq!(host.read(FRINDEX), 0);
    host.write(USBCMD, 1);
    host.bus.advance_us(1000);
    assert_eq!(host.read(FRINDEX), 8);
}

#[test]
fn the_frame_list_rolls_over_after_1024_frames() {
    let mut host = fresh();
    host.write(FRINDEX, 0x1ffe);
    host.write(USBCMD, 1);
    host.bus.step_microframe();
    assert_eq!(host.read(USBSTS) & 8, 0);
    host.bus.step_microframe();
    assert_eq!((host.read(USBSTS) & 8, host.read(FRINDEX)), (8, 0x2000));
    host.write(USBSTS, 8);
    host.bus.advance_us(1024 * 1000 - 125);
    assert_eq!(host.read(USBSTS) & 8, 0);
    host.bus.step_microframe();
    assert_eq!((host.read(USBSTS) & 8, host.read(FRINDEX)), (8, 0));
}

#[test]
fn status_bits_are_cleared_by_writing_one() {
    let mut host = host(stick());
    host.bus.advance_us(125);
    host.write(USBSTS, 0x3b);
    assert_eq!(host.read(USBSTS) & 0x3f, 4);
    host.write(USBSTS, 4);
    assert_eq!(host.read(USBSTS) & 0x3f, 0);
}

/// A host in which USBINT is set now, with interrupts of it enabled at this threshold, and the gate open.
fn interrupted(threshold: u32) -> Host<Controller> {
    let (mut host, device, queue) = bulk([]);
    host.bus.write32(0xcc, 0x8111);
    host.write(USBCMD, threshold << 16 | 0x21);
    host.write(USBSTS, 0x3f);
    host.write(USBINTR, 1);
    while host.read(FRINDEX) % threshold != 0 {
        host.bus.step_microframe();
    }
    let buffer = host.take(512, 32);
    host.submit(queue, &[Td::new(Pid::In, buffer, 512)]);
    device.borrow_mut().answers.push(data(false, 512));
    host
}

#[test]
fn an_interrupt_waits_for_the_threshold() {
    let mut host = interrupted(8);
    let mut waited = 0;
    while !host.bus.interrupt() {
        host.bus.step_microframe();
        waited += 1;
        assert_eq!(host.read(USBSTS) & 1, 1, "the status does not wait");
    }
    assert!(waited <= 8);
    host.write(USBSTS, 1);
    assert!(!host.bus.interrupt());
}

#[test]
fn the_vendors_bit_15_lets_the_interrupt_out() {
    let host = interrupted(1);
    host.bus.write32(0xcc, 0x111);
    host.bus.advance_us(1000);
    assert!(!host.bus.interrupt());
    host.bus.write32(0xcc, 0x8111);
    assert!(host.bus.interrupt());
}

#[test]
fn an_interrupt_that_is_not_enabled_does_not_come() {
    let mut host = interrupted(1);
    host.write(USBINTR, 0x3e);
    host.bus.advance_us(1000);
    assert!(!host.bus.interrupt());
    assert_eq!(host.read(USBSTS) & 1, 1);
}

#[test]
fn a_completion_may_be_lost() {
    let mut host = interrupted(1);
    host.bus.set_faults(Faults {
        lost_interrupts: 1,
        ..Faults::default()
    });
    host.bus.advance_us(1000);
    assert_eq!(host.read(USBSTS) & 1, 0);
    assert_eq!(host.bus.faults().lost_interrupts, 0);
}

#[test]
fn memory_that_is_not_there_is_a_host_system_error() {
    let (mut host, _, queue) = bulk([]);
    host.bus.write32(0xcc, 0x8111);
    host.write(USBINTR, 0x10);
    host.set_words(queue.address + 16, &[0x0400_0000]);
    host.bus.step_microframe();
    assert_eq!(host.read(USBSTS) & 0x1010, 0x1010, "and halted");
    assert_eq!(host.read(USBCMD) & 1, 0);
    assert!(host.bus.interrupt(), "at once");
    let violation = host.bus.memory().take_violations()[0];
    assert_eq!(
        (violation.rule, violation.address),
        (Rule::OutsideRam, 0x0400_0000)
    );
    assert!(violation.to_string().contains("fetch of qTD at 0x04000000"));
}

#[test]
fn a_controller_may_halt_by_itself() {
    for (is_error, status) in [(false, 0x1000), (true, 0x1010)] {
        let mut host = host(stick());
        let at = Some(host.bus.now_us() / 125 + 3);
        host.bus.set_faults(Faults {
            halts_at: at.filter(|_| !is_error),
            system_error_at: at.filter(|_| is_error),
            ..Faults::default()
        });
        host.bus.advance_us(250);
        assert_eq!(host.read(USBSTS) & 0x1010, 0);
        host.bus.advance_us(125);
        assert_eq!(host.read(USBSTS) & 0x1010, status);
    }
}

#[test]
fn misuse_of_registers_is_reported() {
    type Misuse = fn(&mut Host<Controller>);
    let misuses: [(Misuse, &str); 6] = [
        (
            |host| host.write(0x18, 0x1000_0000),
            "ASYNCLISTADDR written while",
        ),
        (
            |host| host.write(FRINDEX, 0),
            "FRINDEX written while running",
        ),
        (|host| host.write(0x14, 0x1000_0010), "not at a page"),
        (|host| host.write(0x10, 1), "CTRLDSSEGMENT"),
        (
            |host| {
                host.write(USBCMD, 0x1_0001);
                host.write(USBCMD, 0x1_0021);
            },
            "before its status followed",
        ),
        (
            |host| {
                host.write(USBCMD, 0x1_0001);
                host.bus.step_microframe();
                host.write(USBCMD, 0x1_0041);
            },
            "doorbell although the schedule does not run",
        ),
    ];
    for (misuse, text) in misuses {
        let mut host = host(stick());
        assert_eq!(broken(&host), []);
        misuse(&mut host);
        let violations = host.bus.memory().take_violations();
        let message = violations[0].to_string();
        assert!(message.contains(text), "{message}");
        assert!(message.contains("tests/registers.rs:"), "{message}");
    }
}
