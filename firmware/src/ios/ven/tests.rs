//! The service as IOS keeps it, with a simulated stick behind it, and what the back-end makes of it.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::vec;
use std::vec::Vec;

use embassy_usb_driver::host::{
    DeviceEvent, PipeError, TimeoutConfig, UsbHostAllocator, UsbHostController, UsbPipe, pipe,
};
use embassy_usb_driver::{Direction, EndpointAddress, EndpointInfo, EndpointType, Speed};
use embassy_usb_host::handler::EnumerationInfo;
use embassy_usb_host::{BusHandle, BusRoute, BusState};
use hollywood_sim::device::{End, Function, MassStorage, Peripheral, Setup, disk::Disk};
use mem2_dma::Pool;

use super::message::request;
use super::{Allocator, UsbHost, VenError, WINDOW};
use crate::ios::testing::{FakeMailbox, Ios, rig};
use crate::ios::{Ipc, code};

type Host = UsbHost<'static, 'static, FakeMailbox>;
type Bus = BusHandle<'static, Allocator<'static, 'static, 'static, FakeMailbox>>;

/// IOS with the service.
struct World {
    ios: Rc<RefCell<Ios>>,
    version: u32,
    stick: Option<(u32, Peripheral<MassStorage>)>,
    /// IOS has not told of the last change.
    changed: bool,
    /// What was asked of the service, in order: number, and the device's argument or the endpoint.
    log: Vec<(u32, Vec<u8>)>,
    /// Transfers of endpoints are held back.
    silent: bool,
    /// Results in the place of the right ones, for the next bulk transfers.
    lies: Vec<i32>,
    held: Vec<u32>,
    /// Bytes of every bulk transfer's data.
    windows: Vec<usize>,
}

impl World {
    fn word(&self, address: u32) -> u32 {
        self.ios.borrow().word(address)
    }

    fn reply(&mut self, block: u32, result: i32) {
        let mut ios = self.ios.borrow_mut();
        let index = ios.has.iter().position(|&other| other == block);
        ios.reply(index.expect("IOS has the block"), result);
    }

    /// Answers everything that IOS has and does not hold back.
    fn serve(&mut self) {
        loop {
            let has = self.ios.borrow().has.clone();
            let transfers = has.iter().filter(|&&block| self.word(block) == 7);
            assert!(
                transfers.count() <= 1,
                "IOS would not stop after a short one"
            );
            let Some(block) = has.into_iter().find(|block| !self.held.contains(block)) else {
                return;
            };
            let word = |index: u32| self.word(block + 4 * index);
            let result = match word(0) {
                1 => Some(5),
                2 => Some(0),
                6 => self.ioctl([3, 4, 5, 6, 7].map(word)),
                7 => self.transfer(word(3), word(4), word(6)),
                other => panic!("command {other}"),
            };
            match result {
                Some(result) => self.reply(block, result),
                None => self.held.push(block),
            }
        }
    }

    fn release(&mut self, which: impl Fn(&Self, u32) -> bool, result: i32) {
        for block in self.held.clone() {
            if which(self, block) {
                self.held.retain(|&other| other != block);
                self.reply(block, result);
            }
        }
    }

    fn tell(&mut self) {
        self.changed = true;
        let waits = self.held.iter().copied();
        let waits = waits
            .filter(|&block| self.word(block) == 6)
            .collect::<Vec<_>>();
        for block in waits {
            self.held.retain(|&other| other != block);
            let out = self.word(block + 24);
            let count = self.changes(out);
            self.reply(block, count);
        }
    }

    fn changes(&mut self, out: u32) -> i32 {
        self.changed = false;
        let Some((id, _)) = &self.stick else { return 0 };
        self.ios.borrow().write(out, &id.to_be_bytes());
        1
    }

    fn ioctl(&mut self, [number, input, input_len, out, out_len]: [u32; 5]) -> Option<i32> {
        let argument = self
            .ios
            .borrow()
            .read(input.max(crate::ios::testing::BASE), input_len as usize);
        self.log.push((number, argument.clone()));
        match number {
            request::VERSION => {
                self.ios.borrow().write(out, &self.version.to_be_bytes());
                Some(0)
            }
            request::DEVICE_CHANGE => {
                assert_eq!(out_len, 0x180);
                if !self.changed {
                    return None;
                }
                Some(self.changes(out))
            }
            request::SHUTDOWN => {
                self.release(|world, block| world.word(block) == 6, 0);
                Some(0)
            }
            request::DEVICE_PARAMETERS => {
                let Some((id, stick)) = &self.stick else {
                    return Some(code::INVALID);
                };
                let mut bytes = vec![0; 0xC0];
                bytes[..4].copy_from_slice(&id.to_be_bytes());
                let mut device = stick.function.descriptors.device.clone();
                for at in [2, 8, 10, 12] {
                    device.swap(at, at + 1);
                }
                bytes[20..38].copy_from_slice(&device);
                let (mut at, mut rest) = (40, &stick.function.descriptors.configuration[..]);
                while let [length, kind, ..] = *rest {
                    let mut found = rest[..length.into()].to_vec();
                    match kind {
                        2 => found.swap(2, 3),
                        5 => found.swap(4, 5),
                        _ => {}
                    }
                    bytes[at..at + found.len()].copy_from_slice(&found);
                    at += found.len().next_multiple_of(4);
                    rest = &rest[length.into()..];
                }
                self.ios.borrow().write(out, &bytes);
                Some(0)
            }
            request::CANCEL_ENDPOINT => {
                self.release(|world, block| world.word(block) == 7, code::CANCELLED);
                Some(0)
            }
            _ => Some(0),
        }
    }

    fn transfer(&mut self, number: u32, inputs: u32, table: u32) -> Option<i32> {
        let vector = |index: u32| {
            (
                self.word(table + 8 * index),
                self.word(table + 8 * index + 4) as usize,
            )
        };
        let ((message, message_len), (data, len)) = (vector(0), vector(1));
        assert_eq!(message_len, 64);
        assert!(
            len == 0 || data.is_multiple_of(32) && data >= 0x1000_0000,
            "{data:#x}"
        );
        let message = self.ios.borrow().read(message, 64);
        let id = u32::from_be_bytes(message[..4].try_into().unwrap());
        let sent = if inputs == 2 && len > 0 {
            self.ios.borrow().read(data, len)
        } else {
            Vec::new()
        };
        let Some((_, stick)) = self.stick.as_mut().filter(|(known, _)| *known == id) else {
            return Some(code::INVALID);
        };
        let (received, result) = match number {
            request::CONTROL => {
                let [kind, name, v1, v0, i1, i0, l1, l0] = message[8..16].try_into().unwrap();
                self.log.push((number, vec![kind, name, v0, v1]));
                assert_ne!((kind, name), (0, 5), "IOS gives addresses");
                let setup = Setup::from_bytes([kind, name, v0, v1, i0, i1, l0, l1]);
                if self.silent {
                    return None;
                }
                match stick.control(setup, &sent) {
                    Ok(reply) => (reply, len as i32 + 8),
                    Err(_) => (Vec::new(), code::STALL),
                }
            }
            request::BULK => {
                let endpoint = message[18];
                assert_eq!(
                    usize::from(u16::from_be_bytes([message[12], message[13]])),
                    len
                );
                self.log.push((number, vec![endpoint]));
                self.windows.push(len);
                if self.silent {
                    return None;
                }
                let end = if endpoint & 0x80 != 0 {
                    stick.transfer_in(endpoint & 15, len)
                } else {
                    stick.transfer_out(endpoint, &sent).map(|()| sent.clone())
                };
                match end {
                    Ok(bytes) => {
                        let count = bytes.len() as i32;
                        (if inputs == 1 { bytes } else { Vec::new() }, count)
                    }
                    Err(End::Stall(bytes, _)) => (bytes, code::STALL),
                    Err(_) => (Vec::new(), code::RESOURCE),
                }
            }
            other => panic!("transfer {other}"),
        };
        if inputs == 1 {
            self.ios
                .borrow()
                .write(data.max(crate::ios::testing::BASE), &received);
        }
        match self.lies.pop() {
            Some(lie) if number == request::BULK => Some(lie),
            _ => Some(result),
        }
    }

    fn asked(&self, number: u32) -> usize {
        self.log
            .iter()
            .filter(|(other, _)| *other == number)
            .count()
    }
}

fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future while IOS answers.
fn drive<F: Future>(world: &mut World, future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..100_000 {
        if let Poll::Ready(end) = poll(future.as_mut()) {
            return end;
        }
        world.serve();
    }
    panic!("it never ends");
}

/// Polls a future some times while IOS answers; it must not end.
fn nothing_comes_of<F: Future>(world: &mut World, future: core::pin::Pin<&mut F>) {
    let mut future = future;
    for _ in 0..50 {
        assert!(poll(future.as_mut()).is_pending());
        world.serve();
    }
}

fn block(number: usize) -> [u8; 512] {
    core::array::from_fn(|index| (number * 7 + index) as u8)
}

fn stick() -> Peripheral<MassStorage> {
    let bytes = (0..256).flat_map(block).collect();
    let mut stick = MassStorage::new([Disk::of(512, bytes)]).plug();
    stick.control(Setup::set_configuration(1), &[]).unwrap();
    stick.patience = 0;
    stick
}

const FIRST: u32 = 0xE71F_0021;

fn world() -> (
    World,
    &'static Ipc<'static, FakeMailbox>,
    &'static Pool<'static>,
) {
    let (ipc, ios, pool) = rig();
    let world = World {
        ios,
        version: 0x0005_0001,
        stick: Some((FIRST, stick())),
        changed: true,
        log: Vec::new(),
        silent: false,
        lies: Vec::new(),
        held: Vec::new(),
        windows: Vec::new(),
    };
    (
        world,
        std::boxed::Box::leak(std::boxed::Box::new(ipc)),
        pool,
    )
}

fn open(world: &mut World, ipc: &'static Ipc<'static, FakeMailbox>) -> &'static Host {
    let host = drive(world, UsbHost::open(ipc)).unwrap();
    std::boxed::Box::leak(std::boxed::Box::new(host))
}

fn info(kind: EndpointType, number: usize, is_in: bool) -> EndpointInfo {
    let direction = if is_in { Direction::In } else { Direction::Out };
    EndpointInfo {
        addr: EndpointAddress::from_parts(number, direction),
        ep_type: kind,
        max_packet_size: if kind == EndpointType::Control {
            64
        } else {
            512
        },
        interval_ms: 0,
    }
}

/// The service with an enumerated stick.
struct Rig {
    world: World,
    host: &'static Host,
    controller: super::Controller<'static, 'static, 'static, FakeMailbox>,
    bus: Bus,
    device: EnumerationInfo,
    configuration: Vec<u8>,
    pool: &'static Pool<'static>,
}

fn enumerated() -> Rig {
    let (mut world, ipc, pool) = world();
    let host = open(&mut world, ipc);
    let mut controller = host.controller();
    let event = drive(&mut world, controller.wait_for_device_event());
    assert_eq!(event, DeviceEvent::Connected(Speed::High));
    assert_eq!(controller.last_event_port(), Some(0));
    let state = std::boxed::Box::leak(std::boxed::Box::new(BusState::new()));
    let (_, bus) = embassy_usb_host::bus(host.controller(), state);
    let mut configuration = vec![0; 256];
    let route = BusRoute::Direct(Speed::High);
    let end = drive(&mut world, bus.enumerate(route, &mut configuration));
    let (device, length) = end.unwrap();
    configuration.truncate(length);
    Rig {
        world,
        host,
        controller,
        bus,
        device,
        configuration,
        pool,
    }
}

impl Rig {
    fn bulk_in(&self) -> super::Pipe<'static, 'static, 'static, FakeMailbox, pipe::Bulk, pipe::In> {
        let endpoint = info(EndpointType::Bulk, 1, true);
        self.bus
            .alloc_pipe(self.device.device_address, &endpoint, None)
            .unwrap()
    }

    fn bulk_out(
        &self,
    ) -> super::Pipe<'static, 'static, 'static, FakeMailbox, pipe::Bulk, pipe::Out> {
        let endpoint = info(EndpointType::Bulk, 2, false);
        self.bus
            .alloc_pipe(self.device.device_address, &endpoint, None)
            .unwrap()
    }

    /// Sends READ(10), behind a TEST UNIT READY that learns that power came on.
    fn begin_read(&mut self, first: u8, blocks: u8) {
        let mut out = self.bulk_out();
        let mut command = [0; 31];
        command[..4].copy_from_slice(b"USBC");
        command[14] = 6;
        drive(&mut self.world, out.request_out(&command, false)).unwrap();
        let mut status = [0; 13];
        let mut input = self.bulk_in();
        drive(&mut self.world, input.request_in(&mut status)).unwrap();
        let bytes = u32::from(blocks) * 512;
        command[8..12].copy_from_slice(&bytes.to_le_bytes());
        command[12..15].copy_from_slice(&[0x80, 0, 10]);
        command[15..25].copy_from_slice(&[0x28, 0, 0, 0, 0, first, 0, 0, blocks, 0]);
        drive(&mut self.world, out.request_out(&command, false)).unwrap();
        self.world.windows.clear();
    }

    fn nothing_is_lost(&mut self) {
        for _ in 0..10 {
            self.host.ipc.poll();
            self.world.serve();
        }
        let in_flight = self.host.ipc.statistics().in_flight;
        assert_eq!(in_flight, self.world.held.len());
        let stats = self.pool.stats();
        assert_eq!((stats.live, stats.quarantined), (2 * in_flight, 0));
    }
}

#[test]
fn a_service_of_another_version_is_closed_again() {
    let (mut world, ipc, pool) = world();
    world.version = 0x0004_0001;
    let end = drive(&mut world, UsbHost::open(ipc)).map(drop);
    assert_eq!(end, Err(VenError::Version(0x0004_0001)));
    assert_eq!(world.ios.borrow().last()[0], 2, "closed");
    assert_eq!(pool.stats().live, 0);
}

#[test]
fn a_stick_is_enumerated_without_an_address_or_a_second_configuration() {
    let rig = enumerated();
    assert_eq!(rig.device.device_desc.vendor_id, 0x1209);
    assert_eq!(rig.device.device_address, 1);
    assert_eq!(rig.configuration[..4], [9, 2, 32, 0]);
    // Of the device itself was asked its configuration only.
    let asked: Vec<_> = rig
        .world
        .log
        .iter()
        .filter(|(number, _)| *number == request::CONTROL)
        .collect();
    assert_eq!(asked, [&(request::CONTROL, vec![0x80, 8, 0, 0])]);
    assert_eq!(rig.world.asked(request::SUSPEND_RESUME), 1);
}

#[test]
fn a_device_that_is_not_configured_is_configured() {
    let (mut world, ipc, _) = world();
    world
        .stick
        .as_mut()
        .unwrap()
        .1
        .control(Setup::set_configuration(0), &[])
        .unwrap();
    let host = open(&mut world, ipc);
    let mut controller = host.controller();
    drive(&mut world, controller.wait_for_device_event());
    let endpoint = info(EndpointType::Control, 0, true);
    let mut control = controller
        .allocator()
        .alloc_pipe::<pipe::Control, pipe::InOut>(0, &endpoint, None)
        .unwrap();
    drive(
        &mut world,
        control.control_out(&[0, 9, 1, 0, 0, 0, 0, 0], &[]),
    )
    .unwrap();
    assert_eq!(world.stick.unwrap().1.configuration(), 1);
}

#[test]
fn a_large_read_comes_in_windows_one_after_the_other() {
    let mut rig = enumerated();
    rig.begin_read(3, 100);
    let mut input = rig.bulk_in();
    let mut data = vec![0; 51_200];
    let count = drive(&mut rig.world, input.request_in(&mut data)).unwrap();
    assert_eq!(count, 51_200);
    let expected: Vec<u8> = (3..103).flat_map(block).collect();
    assert!(data == expected);
    assert_eq!(
        rig.world.windows,
        [WINDOW, WINDOW, WINDOW, 51_200 - 3 * WINDOW]
    );
    drop(input);
    rig.nothing_is_lost();
}

#[test]
fn a_short_packet_ends_a_read_and_the_status_is_not_taken_for_data() {
    let mut rig = enumerated();
    // More room than there is data: the device ends early, and no window is begun behind it.
    rig.begin_read(0, 20);
    let mut input = rig.bulk_in();
    let mut data = vec![0xEE; 40_000];
    let count = drive(&mut rig.world, input.request_in(&mut data[..10_240])).unwrap();
    assert_eq!(count, 10_240);
    let count = drive(&mut rig.world, input.request_in(&mut data[10_240..])).unwrap();
    assert_eq!(count, 13, "the status, and nothing behind it");
    assert_eq!(data[10_253..], vec![0xEE; 40_000 - 10_253]);
    assert_eq!(rig.world.windows, [10_240, WINDOW]);
}

#[test]
fn what_is_written_arrives_in_windows_and_an_empty_packet_when_it_is_asked_for() {
    let mut rig = enumerated();
    let mut out = rig.bulk_out();
    rig.world.silent = true;
    let data = vec![1; WINDOW + 512];
    {
        let mut write = pin!(out.request_out(&data, true));
        for _ in 0..3 {
            nothing_comes_of(&mut rig.world, write.as_mut());
            // The data do not matter here, but the windows do.
            let size = *rig.world.windows.last().unwrap() as i32;
            rig.world
                .release(|world, block| world.word(block) == 7, size);
        }
        assert_eq!(poll(write.as_mut()), Poll::Ready(Ok(())));
    }
    assert_eq!(rig.world.windows, [WINDOW, 512, 0]);
    drop(out);
    rig.nothing_is_lost();
}

#[test]
fn a_dropped_transfer_is_cancelled_and_its_memory_stays_until_it_has_ended() {
    let mut rig = enumerated();
    rig.world.silent = true;
    let mut input = rig.bulk_in();
    let mut data = [0; 512];
    {
        let mut read = pin!(input.request_in(&mut data));
        nothing_comes_of(&mut rig.world, read.as_mut());
        assert!(rig.pool.stats().live >= 3);
    }
    assert!(rig.pool.stats().live >= 3, "IOS still has it");
    rig.host.ipc.poll();
    rig.nothing_is_lost();
    let cancelled = rig
        .world
        .log
        .iter()
        .filter(|(number, _)| *number == request::CANCEL_ENDPOINT);
    let endpoints: Vec<u8> = cancelled.map(|(_, argument)| argument[8]).collect();
    assert_eq!(endpoints, [0x81]);
}

#[test]
fn a_control_request_that_is_not_answered_times_out() {
    let mut rig = enumerated();
    rig.world.silent = true;
    let endpoint = info(EndpointType::Control, 0, true);
    let address = rig.device.device_address;
    let mut control = rig
        .bus
        .alloc_pipe::<pipe::Control, pipe::InOut>(address, &endpoint, None)
        .unwrap();
    let mut timeout = TimeoutConfig::default();
    timeout.data_timeout = core::time::Duration::from_millis(5);
    control.set_timeout(timeout);
    let mut buffer = [0; 1];
    let end = drive(
        &mut rig.world,
        control.control_in(&[0xA1, 0xFE, 0, 0, 0, 0, 1, 0], &mut buffer),
    );
    assert_eq!(end, Err(PipeError::Timeout));
    rig.nothing_is_lost();
}

#[test]
fn a_stalled_endpoint_is_told_to_ios_before_the_next_transfer() {
    let mut rig = enumerated();
    rig.world.stick.as_mut().unwrap().1.halt(0x81);
    let mut input = rig.bulk_in();
    let mut data = [0; 13];
    let end = drive(&mut rig.world, input.request_in(&mut data));
    assert_eq!(end, Err(PipeError::Stall));
    input.reset_data_toggle();
    let before = rig.world.asked(request::CANCEL_ENDPOINT);
    let _ = drive(&mut rig.world, input.request_in(&mut data));
    assert_eq!(rig.world.asked(request::CANCEL_ENDPOINT), before + 1);
}

#[test]
fn a_string_is_as_long_as_it_says_whatever_ios_counts() {
    let mut rig = enumerated();
    let endpoint = info(EndpointType::Control, 0, true);
    let address = rig.device.device_address;
    let mut control = rig
        .bus
        .alloc_pipe::<pipe::Control, pipe::InOut>(address, &endpoint, None)
        .unwrap();
    let mut buffer = [0; 255];
    let count = drive(
        &mut rig.world,
        control.control_in(&[0x80, 6, 1, 3, 9, 4, 255, 0], &mut buffer),
    )
    .unwrap();
    assert_eq!(count, usize::from(buffer[0]));
    let text: String = buffer[2..count]
        .chunks(2)
        .map(|unit| char::from(unit[0]))
        .collect();
    assert_eq!(text, "wiistick");
}

#[test]
fn ios_cannot_claim_to_have_moved_more_or_less_than_it_was_asked_to() {
    let mut rig = enumerated();
    rig.begin_read(0, 1);
    rig.world.lies = vec![513];
    let mut data = [0xEE; 512];
    let mut input = rig.bulk_in();
    assert_eq!(
        drive(&mut rig.world, input.request_in(&mut data)),
        Err(PipeError::Babble)
    );
    assert_eq!(data, [0xEE; 512], "nothing was copied");
    rig.world.lies = vec![30];
    let mut out = rig.bulk_out();
    assert_eq!(
        drive(&mut rig.world, out.request_out(&[0; 31], false)),
        Err(PipeError::BadResponse)
    );
    drop((input, out));
    rig.nothing_is_lost();
}

#[test]
fn a_stick_that_has_gone_is_told_once_and_asked_nothing_any_more() {
    let mut rig = enumerated();
    let mut input = rig.bulk_in();
    rig.world.stick = None;
    let mut data = [0; 13];
    // IOS has not told yet, but does not know it any more.
    assert_eq!(
        drive(&mut rig.world, input.request_in(&mut data)),
        Err(PipeError::Disconnected)
    );
    {
        let mut event = pin!(rig.controller.wait_for_device_event());
        nothing_comes_of(&mut rig.world, event.as_mut());
        rig.world.tell();
        let event = drive(&mut rig.world, event);
        assert_eq!(event, DeviceEvent::Disconnected);
    }
    assert_eq!(
        rig.world.asked(request::ATTACH_FINISH),
        1,
        "the first change was taken"
    );
    let before = rig.world.log.len();
    assert_eq!(
        drive(&mut rig.world, input.request_in(&mut data)),
        Err(PipeError::Disconnected)
    );
    assert_eq!(rig.world.log.len(), before);
    // Another one comes, and is a new one.
    rig.world.stick = Some((0xE71E_0022, stick()));
    {
        let mut event = pin!(rig.controller.wait_for_device_event());
        nothing_comes_of(&mut rig.world, event.as_mut());
        rig.world.tell();
        assert_eq!(
            drive(&mut rig.world, event),
            DeviceEvent::Connected(Speed::High)
        );
    }
    assert_eq!(
        drive(&mut rig.world, input.request_in(&mut data)),
        Err(PipeError::Disconnected)
    );
}

#[test]
fn a_device_that_ios_does_not_give_is_left_alone() {
    let (mut world, ipc, _) = world();
    let host = open(&mut world, ipc);
    let mut controller = host.controller();
    let mut event = pin!(controller.wait_for_device_event());
    // It goes between the announcement and the question.
    assert!(poll(event.as_mut()).is_pending());
    world.serve();
    world.stick = None;
    nothing_comes_of(&mut world, event.as_mut());
    world.stick = Some((0xE71E_0022, stick()));
    world.tell();
    assert_eq!(
        drive(&mut world, event),
        DeviceEvent::Connected(Speed::High)
    );
}

#[test]
fn a_disabled_device_gets_no_pipe() {
    let mut rig = enumerated();
    rig.controller.disable_port(0);
    let endpoint = info(EndpointType::Bulk, 1, true);
    let address = rig.device.device_address;
    let pipe = rig
        .bus
        .alloc_pipe::<pipe::Bulk, pipe::In>(address, &endpoint, None);
    assert!(pipe.is_err());
}

#[test]
fn closing_suspends_the_devices_and_leaves_nothing_with_ios() {
    let mut rig = enumerated();
    {
        let mut event = pin!(rig.controller.wait_for_device_event());
        nothing_comes_of(&mut rig.world, event.as_mut());
    }
    drop(rig.controller);
    drive(&mut rig.world, rig.host.close()).unwrap();
    let suspended = rig
        .world
        .log
        .iter()
        .filter(|(number, _)| *number == request::SUSPEND_RESUME);
    let states: Vec<u8> = suspended.map(|(_, argument)| argument[11]).collect();
    assert_eq!(states, [1, 0]);
    assert_eq!(rig.host.ipc.statistics().in_flight, 0);
    assert_eq!(rig.pool.stats().live, 0);
}
