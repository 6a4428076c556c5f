//! embassy-usb-host on the machine: enumeration, a hub with devices of every speed, a stick of many mebibytes.
//!
//! embassy-usb-host waits by the host's clock, so that how long these take on the machine differs from run to run.

use super::serial::Serial;
use super::source::{self, Source};
use super::wii::{Board, Tracked, Wii, on_a_wii, share_of_lengths};
use ehci::embassy::UsbHost;
use embassy_usb_driver::host::{
    DeviceEvent, PipeError, UsbHostAllocator, UsbHostController, UsbPipe, pipe,
};
use embassy_usb_driver::{Direction, EndpointAddress, EndpointInfo, EndpointType, Speed};
use embassy_usb_host::class::cdc_acm::{CdcAcmHost, LineCoding};
use embassy_usb_host::class::hid::HidHost;
use embassy_usb_host::class::hub::{HubEvent, HubHandler};
use embassy_usb_host::class::msc::MscDevice;
use embassy_usb_host::handler::HandlerEvent;
use embassy_usb_host::{BusRoute, BusState};
use hollywood_sim::device::disk::{Disk, Medium};
use hollywood_sim::device::{self, Function, Hub, Keyboard, MassStorage, Peripheral};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Usb<'p> = UsbHost<Board, Tracked<'p>, Board>;

/// Polls a future and lets the machine run in between; panics after ten minutes of the machine's time.
fn run<T>(wii: &Wii<'_>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let end = wii.controller.microframe() + 8 * 600_000;
    while wii.controller.microframe() < end {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        wii.controller.step_microframe();
    }
    panic!("the future does not end");
}

fn bulk(number: usize, direction: Direction) -> EndpointInfo {
    EndpointInfo {
        addr: EndpointAddress::from_parts(number, direction),
        ep_type: EndpointType::Bulk,
        max_packet_size: 512,
        interval_ms: 0,
    }
}

/// Content that takes no memory.
struct Pattern;

impl Medium for Pattern {
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        for (byte, at) in into.iter_mut().zip(at..) {
            *byte = pattern(at);
        }
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

fn pattern(at: u64) -> u8 {
    ((at as u32).wrapping_mul(0x9e37_79b9) >> 24) as u8 ^ (at >> 20) as u8
}

#[test]
fn a_stick_is_enumerated_and_gives_a_mebibyte_and_32_in_one_request_each() {
    on_a_wii(512, 4, |wii, ehci| {
        let usb: Usb<'_> = UsbHost::new(ehci);
        let state = BusState::new();
        let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);
        let blocks = 33 << 11;
        let stick = MassStorage::new([Disk::new(Pattern, 512, blocks)]);
        wii.controller.plug(1, stick.plug());
        run(wii, async {
            let event = controller.wait_for_device_event().await;
            assert!(matches!(event, DeviceEvent::Connected(Speed::High)));
            let mut config = [0; 64];
            let route = BusRoute::Direct(Speed::High);
            let (info, length) = bus.enumerate(route, &mut config).await.unwrap();
            let device = MscDevice::new(&bus, &info, &config[..length])
                .await
                .unwrap();
            let mut unit = device.lun(0).unwrap();
            while unit.test_unit_ready().await.is_err() {}
            // Of 32 MiB, or of what an emulated processor moves in the same time.
            for blocks in [2048, 65_535 / share_of_lengths()] {
                let mut data = vec![0; blocks * 512];
                unit.read_blocks(5, &mut data).await.unwrap();
                let wrong = data
                    .iter()
                    .zip(5 * 512..)
                    .find(|(byte, at)| **byte != pattern(*at));
                assert_eq!(wrong, None);
            }
        });
    });
}

#[test]
fn lengths_around_a_mebibyte_and_32_go_through_windows() {
    on_a_wii(512, 5, |wii, ehci| {
        let usb: Usb<'_> = UsbHost::new(ehci);
        let state = BusState::new();
        let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);
        let source = Rc::new(RefCell::new(Source::new().plug()));
        wii.controller.plug(0, source.clone());
        run(wii, async {
            controller.wait_for_device_event().await;
            let mut config = [0; 64];
            let route = BusRoute::Direct(Speed::High);
            let (info, _) = bus.enumerate(route, &mut config).await.unwrap();
            let address = info.device_address;
            let control = EndpointInfo {
                addr: EndpointAddress::from_parts(0, Direction::In),
                ep_type: EndpointType::Control,
                max_packet_size: 64,
                interval_ms: 0,
            };
            let alloc = usb.allocator();
            let mut control = alloc
                .alloc_pipe::<pipe::Control, pipe::InOut>(address, &control, None)
                .unwrap();
            let mut input = alloc
                .alloc_pipe::<pipe::Bulk, pipe::In>(address, &bulk(1, Direction::In), None)
                .unwrap();
            let mut output = alloc
                .alloc_pipe::<pipe::Bulk, pipe::Out>(address, &bulk(2, Direction::Out), None)
                .unwrap();
            const MIB: usize = 1 << 20;
            let large = 32 * MIB / share_of_lengths();
            for (len, align) in [
                (MIB - 1, 1),
                (MIB, 31),
                (MIB + 1, 63),
                (MIB + 513, 0),
                (large - 1, 33),
                (large, 0),
                (large + 7, 5),
            ] {
                control.control_out(&source::order(len), &[]).await.unwrap();
                let mut data = vec![0; len + 128];
                let start = data.as_ptr().align_offset(64) + align;
                // Longer than what comes: a short packet, or an empty one, ends it.
                let received = input.request_in(&mut data[start..]).await;
                assert_eq!(received, Ok(len));
                assert!(data[start..start + len] == source::bytes(len), "{len}");
                output
                    .request_out(&data[start..start + len], true)
                    .await
                    .unwrap();
                let function = &mut source.borrow_mut().function;
                assert!(function.received == source::bytes(len), "{len}");
                // With an empty packet behind a full last one.
                assert_eq!(function.packets, len / 512 + 1);
                function.received.clear();
                function.packets = 0;
            }
        });
    });
}

#[test]
fn a_hub_with_full_and_low_speed_devices_and_a_stick_behind_its_translator() {
    on_a_wii(256, 7, |wii, ehci| {
        let usb: Usb<'_> = UsbHost::new(ehci);
        let state = BusState::new();
        let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);
        let keyboards = [device::Speed::Low, device::Speed::Full]
            .map(|speed| Rc::new(RefCell::new(Keyboard::new(speed).plug())));
        let contents: Vec<u8> = (0..64 * 512).map(|at: usize| (at * 13) as u8).collect();
        let stick = MassStorage::with_speed(device::Speed::Full, [Disk::of(512, contents.clone())]);
        let [low, full] = keyboards.clone();
        let hub = Hub::new(device::Speed::High, 4)
            .with(1, low)
            .with(2, full)
            .with(4, stick.plug());
        wii.controller.plug(0, hub);
        run(wii, async {
            let event = controller.wait_for_device_event().await;
            assert!(matches!(event, DeviceEvent::Connected(Speed::High)));
            let mut config = [0; 256];
            let route = BusRoute::Direct(Speed::High);
            let (info, _) = bus.enumerate(route, &mut config).await.unwrap();
            let mut hub = HubHandler::<_, 8>::try_register(&bus, &info).await.unwrap();
            let mut seen = 0;
            while seen < 3 {
                let event = hub.wait_for_event().await;
                let Ok(HandlerEvent::HandlerEvent(HubEvent::DeviceDetected { port, speed })) =
                    event
                else {
                    continue;
                };
                let (info, length) = hub.enumerate_port(&mut config, port, speed).await.unwrap();
                if port == 3 {
                    read_the_stick(&bus, &info, &config[..length], &contents).await;
                } else {
                    let keyboard = &keyboards[usize::from(port)];
                    type_on(&bus, &info, &config[..length], keyboard).await;
                }
                seen += 1;
            }
        });
    });
}

type Bus<'d, 'p> =
    embassy_usb_host::BusHandle<'d, ehci::embassy::Allocator<'d, Board, Tracked<'p>, Board>>;

async fn read_the_stick(
    bus: &Bus<'_, '_>,
    info: &embassy_usb_host::handler::EnumerationInfo,
    config: &[u8],
    contents: &[u8],
) {
    let device = MscDevice::new(bus, info, config).await.unwrap();
    let mut unit = device.lun(0).unwrap();
    while unit.test_unit_ready().await.is_err() {}
    let mut data = vec![0; 32 * 512];
    unit.read_blocks(3, &mut data).await.unwrap();
    assert_eq!(data, contents[3 * 512..35 * 512]);
    data.fill(0x5c);
    unit.write_blocks(9, &data[..2048]).await.unwrap();
    unit.read_blocks(9, &mut data[2048..4096]).await.unwrap();
    assert_eq!(data[2048..4096], [0x5c; 2048]);
}

async fn type_on(
    bus: &Bus<'_, '_>,
    info: &embassy_usb_host::handler::EnumerationInfo,
    config: &[u8],
    keyboard: &RefCell<Peripheral<Keyboard>>,
) {
    let mut hid = HidHost::new(bus, config, info).unwrap();
    let mut report = [0; 8];
    for key in [4, 5, 6] {
        keyboard.borrow_mut().function.press(key);
        // Pressed and released.
        for expected in [key, 0] {
            let length = hid.read(&mut report).await.unwrap();
            assert_eq!((length, report[2]), (8, expected));
        }
    }
}

#[test]
fn a_serial_port_says_back_what_it_hears_alone_and_behind_a_hub() {
    on_a_wii(128, 8, |wii, ehci| {
        let usb: Usb<'_> = UsbHost::new(ehci);
        let state = BusState::new();
        let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);
        let port = Rc::new(RefCell::new(Serial::new(device::Speed::High).plug()));
        wii.controller.plug(0, port.clone());
        run(wii, async {
            controller.wait_for_device_event().await;
            let mut config = [0; 128];
            let route = BusRoute::Direct(Speed::High);
            let (info, length) = bus.enumerate(route, &mut config).await.unwrap();
            converse(&bus, &info, &config[..length], &port).await;
        });
    });
    on_a_wii(128, 9, |wii, ehci| {
        let usb: Usb<'_> = UsbHost::new(ehci);
        let state = BusState::new();
        let (mut controller, bus) = embassy_usb_host::bus(usb.controller(), &state);
        let port = Rc::new(RefCell::new(Serial::new(device::Speed::Full).plug()));
        let hub = Hub::new(device::Speed::High, 4).with(2, port.clone());
        wii.controller.plug(0, hub);
        run(wii, async {
            controller.wait_for_device_event().await;
            let mut config = [0; 128];
            let route = BusRoute::Direct(Speed::High);
            let (info, _) = bus.enumerate(route, &mut config).await.unwrap();
            let mut hub = HubHandler::<_, 8>::try_register(&bus, &info).await.unwrap();
            loop {
                let event = hub.wait_for_event().await;
                if let Ok(HandlerEvent::HandlerEvent(HubEvent::DeviceDetected {
                    port: at,
                    speed,
                })) = event
                {
                    let (info, length) = hub.enumerate_port(&mut config, at, speed).await.unwrap();
                    converse(&bus, &info, &config[..length], &port).await;
                    break;
                }
            }
        });
    });
}

async fn converse(
    bus: &Bus<'_, '_>,
    info: &embassy_usb_host::handler::EnumerationInfo,
    config: &[u8],
    port: &RefCell<Peripheral<Serial>>,
) {
    let mut serial = CdcAcmHost::new(bus, config, info).unwrap();
    let coding = LineCoding {
        baud_rate: 115_200,
        stop_bits: 0,
        parity: 0,
        data_bits: 8,
    };
    serial.set_line_coding(&coding).await.unwrap();
    serial.set_control_line_state(true, false).await.unwrap();
    assert_eq!(port.borrow().function.coding, [0, 0xc2, 1, 0, 0, 0, 8]);
    assert_eq!(port.borrow().function.lines, 1);
    let mut answer = [0; 64];
    for words in [&b"AT"[..], b"ATDT 5550100", &[0x55; 63]] {
        assert_eq!(serial.write(words).await.unwrap(), words.len());
        let length = serial.read(&mut answer).await.unwrap();
        assert_eq!(answer[..length], *words);
    }
}

#[test]
fn a_device_that_is_silent_ends_in_an_error() {
    on_a_wii(128, 0, |wii, ehci| {
        let usb: Usb<'_> = UsbHost::new(ehci);
        let mut controller = usb.controller();
        wii.controller.plug(0, Source::new().plug());
        run(wii, async {
            controller.wait_for_device_event().await;
            let mut input = usb
                .allocator()
                .alloc_pipe::<pipe::Bulk, pipe::In>(9, &bulk(1, Direction::In), None)
                .unwrap();
            let end = input.request_in(&mut [0; 512]).await;
            assert_eq!(end, Err(PipeError::BadResponse));
        });
    });
}
