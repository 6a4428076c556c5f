//! embassy-usb-host's enumeration and mass-storage driver over the adapter.

use crate::PortChange;
use crate::embassy::UsbHost;
use crate::testing::{Machine, Ram, Response, Shared, Stick};
use embassy_usb_driver::host::{
    DeviceEvent, PipeError, TimeoutConfig, UsbHostAllocator, UsbHostController, UsbPipe, pipe,
};
use embassy_usb_driver::{Direction, EndpointAddress, EndpointInfo, EndpointType, Speed};
use embassy_usb_host::class::msc::{MscDevice, MscError};
use embassy_usb_host::{BusRoute, BusState};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Wii = UsbHost<Machine, Rc<Ram>, Machine>;

fn host(machine: &Machine) -> Wii {
    let mut ehci = crate::Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
    ehci.start().unwrap();
    UsbHost::new(ehci)
}

/// Runs a future to its end, which comes within a minute of the machine's time.
fn run<T>(machine: &Machine, future: impl Future<Output = T>) -> T {
    crate::testing::run(machine, 60_000_000, future).expect("the future does not end")
}

fn plug(machine: &Machine, port: usize, blocks: usize) -> Rc<RefCell<Shared>> {
    let stick = Stick::new(blocks);
    let shared = stick.shared.clone();
    machine.plug(port, Box::new(stick));
    shared
}

fn bulk(number: usize, direction: Direction) -> EndpointInfo {
    EndpointInfo {
        addr: EndpointAddress::from_parts(number, direction),
        ep_type: EndpointType::Bulk,
        max_packet_size: 512,
        interval_ms: 0,
    }
}

#[test]
fn a_stick_is_enumerated_read_and_written() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 2048);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    run(&machine, async {
        assert_eq!(
            controller.wait_for_device_event().await,
            DeviceEvent::Connected(Speed::High)
        );
        let mut config = [0; 256];
        let (info, length) = bus
            .enumerate(BusRoute::Direct(Speed::High), &mut config)
            .await
            .unwrap();
        assert_eq!(
            (info.device_desc.vendor_id, info.device_desc.product_id),
            (0x46f4, 1)
        );
        assert_eq!(wii.port_of(info.device_address), Some(0));
        let device = MscDevice::new(&bus, &info, &config[..length])
            .await
            .unwrap();
        let mut lun = device.lun(0).unwrap();
        let capacity = lun.capacity().await.unwrap();
        assert_eq!((capacity.block_count, capacity.block_size), (2048, 512));
        // Lengths around packets, qTDs and windows.
        for blocks in [1usize, 2, 39, 40, 41, 159, 160, 161, 320, 1000, 2048] {
            let mut data = vec![0; blocks * 512];
            lun.read_blocks(0, &mut data).await.unwrap();
            assert!(
                data == shared.borrow().disk[..blocks * 512],
                "{blocks} blocks"
            );
            data.iter_mut()
                .for_each(|byte| *byte = byte.wrapping_mul(31) ^ blocks as u8);
            lun.write_blocks(0, &data).await.unwrap();
            assert!(
                data == shared.borrow().disk[..blocks * 512],
                "{blocks} blocks written"
            );
        }
    });
    assert!(
        machine
            .state
            .borrow()
            .moved
            .iter()
            .all(|(bus, _)| *bus >= 0x1234_5000)
    );
}

#[test]
fn everything_is_freed_when_class_driver_and_host_are_gone() {
    let machine = Machine::new();
    let wii = host(&machine);
    plug(&machine, 0, 64);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    run(&machine, async {
        controller.wait_for_device_event().await;
        let mut config = [0; 256];
        let (info, length) = bus
            .enumerate(BusRoute::Direct(Speed::High), &mut config)
            .await
            .unwrap();
        let device = MscDevice::new(&bus, &info, &config[..length])
            .await
            .unwrap();
        device
            .lun(0)
            .unwrap()
            .read_blocks(3, &mut [0; 1024])
            .await
            .unwrap();
    });
    for _ in 0..100 {
        machine.advance(125);
        wii.host().poll();
    }
    assert_eq!(
        wii.host().with(|ehci| ehci.pool.available()),
        Some(crate::QTDS)
    );
    assert_eq!(machine.ram.allocations(), 1);
    drop(wii);
    assert_eq!(machine.ram.allocations(), 0);
}

#[test]
fn a_large_read_moves_52_qtds_per_mib_and_no_byte_twice() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, async {
        controller.wait_for_device_event().await;
        let mut pipe = wii
            .allocator()
            .alloc_pipe::<pipe::Bulk, pipe::In>(0, &bulk(5, Direction::In), None)
            .unwrap();
        shared.borrow_mut().source = (0..2048).map(|at| vec![at as u8; 512]).collect();
        let before = wii.host().with(|ehci| ehci.statistics().qtds).unwrap();
        let mut data = vec![0; 1 << 20];
        assert_eq!(pipe.request_in(&mut data).await, Ok(1 << 20));
        assert!(
            data.chunks(512)
                .enumerate()
                .all(|(at, packet)| packet == [at as u8; 512])
        );
        assert_eq!(
            wii.host().with(|ehci| ehci.statistics().qtds).unwrap() - before,
            52
        );
    });
}

#[test]
fn a_short_answer_ends_a_request_of_many_windows_wherever_it_comes() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, async {
        controller.wait_for_device_event().await;
        let mut pipe = wii
            .allocator()
            .alloc_pipe::<pipe::Bulk, pipe::In>(0, &bulk(5, Direction::In), None)
            .unwrap();
        for packets in [0usize, 1, 159, 160, 161, 319, 320, 400] {
            let mut source: std::collections::VecDeque<_> =
                (0..packets).map(|at| vec![at as u8; 512]).collect();
            source.push_back(vec![7; 100]);
            source.push_back(vec![8; 13]);
            shared.borrow_mut().source = source;
            let mut data = vec![0xaa; 300_000];
            assert_eq!(pipe.request_in(&mut data).await, Ok(packets * 512 + 100));
            assert!(
                data[packets * 512 + 100..].iter().all(|byte| *byte == 0xaa),
                "nothing past the end is touched"
            );
            assert_eq!(pipe.request_in(&mut data[..13]).await, Ok(13));
            assert_eq!(data[..13], [8; 13]);
        }
    });
    assert_eq!(machine.ram.allocations(), 1);
}

#[test]
fn requests_shrink_their_windows_when_buffers_are_scarce() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, async {
        controller.wait_for_device_event().await;
        let mut input = wii
            .allocator()
            .alloc_pipe::<pipe::Bulk, pipe::In>(0, &bulk(5, Direction::In), None)
            .unwrap();
        let mut output = wii
            .allocator()
            .alloc_pipe::<pipe::Bulk, pipe::Out>(0, &bulk(4, Direction::Out), None)
            .unwrap();
        for limit in [512, 1500, 8192, 100_000] {
            machine.ram.limit.set(limit);
            let data: Vec<u8> = (0..200_000).map(|at| (at * 3 + limit) as u8).collect();
            output.request_out(&data, false).await.unwrap();
            assert!(std::mem::take(&mut shared.borrow_mut().sink).concat() == data);
            shared.borrow_mut().source = data.chunks(512).map(<[u8]>::to_vec).collect();
            let mut back = vec![0; 200_000];
            assert_eq!(input.request_in(&mut back).await, Ok(200_000));
            assert!(back == data);
        }
        machine.ram.limit.set(100);
        assert_eq!(
            input.request_in(&mut [0; 512]).await,
            Err(PipeError::BufferOverflow)
        );
    });
}

#[test]
fn a_dropped_request_is_aborted_and_the_pipe_works_on() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, controller.wait_for_device_event());
    let mut pipe = wii
        .allocator()
        .alloc_pipe::<pipe::Bulk, pipe::In>(0, &bulk(5, Direction::In), None)
        .unwrap();
    for packets in 0..6 {
        shared.borrow_mut().source = (0..packets).map(|_| vec![1; 512]).collect();
        let mut data = vec![0; 200_000];
        {
            let mut request = pin!(pipe.request_in(&mut data));
            for _ in 0..10 {
                assert!(
                    request
                        .as_mut()
                        .poll(&mut Context::from_waker(Waker::noop()))
                        .is_pending()
                );
                machine.advance(125);
            }
        }
        assert!(machine.ram.allocations() > 1, "quarantined, not freed");
        // What the device sends while the controller still holds the transfer belongs to that.
        while machine.ram.allocations() > 1 {
            machine.advance(125);
            wii.host().poll();
        }
        shared.borrow_mut().source = [vec![2; 77]].into();
        assert_eq!(run(&machine, pipe.request_in(&mut data)), Ok(77));
        assert_eq!(data[..77], [2; 77]);
        assert_eq!(machine.ram.allocations(), 1);
    }
}

#[test]
fn a_forgotten_request_frees_nothing_that_the_controller_may_write_to() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, controller.wait_for_device_event());
    let mut pipe = wii
        .allocator()
        .alloc_pipe::<pipe::Bulk, pipe::In>(0, &bulk(5, Direction::In), None)
        .unwrap();
    let mut data = vec![0x11; 512];
    {
        let mut request = Box::pin(pipe.request_in(&mut data));
        assert!(
            request
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        std::mem::forget(request);
    }
    shared.borrow_mut().source.push_back(vec![9; 512]);
    machine.advance(10_000);
    wii.host().poll();
    assert_eq!(
        data, [0x11; 512],
        "the caller's memory is not the controller's"
    );
}

#[test]
fn a_stall_and_a_timeout_reach_the_caller_as_such() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, async {
        controller.wait_for_device_event().await;
        let info = EndpointInfo {
            addr: EndpointAddress::from_parts(0, Direction::In),
            ep_type: EndpointType::Control,
            max_packet_size: 64,
            interval_ms: 0,
        };
        let mut pipe = wii
            .allocator()
            .alloc_pipe::<pipe::Control, pipe::InOut>(0, &info, None)
            .unwrap();
        let unknown = [0x80, 0x77, 0, 0, 0, 0, 4, 0];
        assert_eq!(
            pipe.control_in(&unknown, &mut [0; 4]).await,
            Err(PipeError::Stall)
        );
        assert_eq!(
            pipe.control_in(&unknown, &mut [0; 3]).await,
            Err(PipeError::BufferOverflow)
        );
        let mut timeout = TimeoutConfig::default();
        timeout.data_timeout = core::time::Duration::from_millis(20);
        pipe.set_timeout(timeout);
        let busy = Rc::new(Cell::new(true));
        let still = busy.clone();
        shared.borrow_mut().fault = Some(Box::new(move |pid, _| {
            (still.get() && pid == crate::layout::Pid::In).then_some(Response::Nak)
        }));
        let begun = machine.state.borrow().now_us;
        let request = [0xc0, 0x55, 0, 0, 0, 0, 4, 0];
        assert_eq!(
            pipe.control_in(&request, &mut [0; 4]).await,
            Err(PipeError::Timeout)
        );
        assert!((20_000..30_000).contains(&(machine.state.borrow().now_us - begun)));
        busy.set(false);
        assert_eq!(pipe.control_in(&request, &mut [0; 9]).await, Ok(4));
    });
}

#[test]
fn a_failed_command_with_a_stalled_data_phase_is_recovered_by_the_class_driver() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    run(&machine, async {
        controller.wait_for_device_event().await;
        let mut config = [0; 256];
        let (info, length) = bus
            .enumerate(BusRoute::Direct(Speed::High), &mut config)
            .await
            .unwrap();
        let device = MscDevice::new(&bus, &info, &config[..length])
            .await
            .unwrap();
        let mut lun = device.lun(0).unwrap();
        shared.borrow_mut().stall_commands = true;
        for _ in 0..3 {
            let mut data = [0; 512];
            let unknown = [0xff, 0, 0, 0, 0, 0];
            let failed = device
                .command(
                    0,
                    &unknown,
                    embassy_usb_host::class::msc::DataDir::In(&mut data),
                )
                .await;
            assert!(
                matches!(
                    failed,
                    Ok(embassy_usb_host::class::msc::CommandOutcome::Failed { .. })
                ),
                "{failed:?}"
            );
            lun.read_blocks(0, &mut data).await.unwrap();
            assert!(data == shared.borrow().disk[..512]);
        }
    });
}

#[test]
fn a_controller_that_fails_is_started_again_and_its_devices_come_back() {
    let machine = Machine::new();
    let wii = host(&machine);
    let state = BusState::new();
    let (mut controller, _bus) = embassy_usb_host::bus(wii.controller(), &state);
    let _stick = plug(&machine, 0, 8);
    run(&machine, async {
        let connected = DeviceEvent::Connected(Speed::High);
        assert_eq!(controller.wait_for_device_event().await, connected);
        for _ in 0..3 {
            machine.raise(0x10);
            let event = controller.wait_for_device_event().await;
            assert_eq!(event, DeviceEvent::Disconnected);
            assert_eq!(controller.wait_for_device_event().await, connected);
        }
    });
}

#[test]
fn a_stick_pulled_in_mid_transfer_ends_it_and_the_next_one_enumerates() {
    let machine = Machine::new();
    let wii = host(&machine);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    for round in 0..3 {
        let port = round % 2;
        let shared = plug(&machine, port, 2048);
        run(&machine, async {
            assert_eq!(
                controller.wait_for_device_event().await,
                DeviceEvent::Connected(Speed::High)
            );
            assert_eq!(controller.controller().last_event_port(), Some(port as u8));
            let mut config = [0; 256];
            let (info, length) = bus
                .enumerate(BusRoute::Direct(Speed::High), &mut config)
                .await
                .unwrap();
            let device = MscDevice::new(&bus, &info, &config[..length])
                .await
                .unwrap();
            let mut lun = device.lun(0).unwrap();
            let pull = Cell::new(300);
            let puller = machine.clone();
            let gone = Rc::new(Cell::new(false));
            let went = gone.clone();
            shared.borrow_mut().fault = Some(Box::new(move |_, endpoint| {
                pull.set(pull.get() - u32::from(endpoint == 1 && pull.get() != 0));
                went.set(pull.get() == 0);
                (pull.get() == 0).then_some(Response::Nak)
            }));
            let mut data = vec![0; 1 << 20];
            let mut read = pin!(lun.read_blocks(0, &mut data));
            let result = core::future::poll_fn(|context| {
                if gone.replace(false) {
                    puller.unplug(port);
                }
                read.as_mut().poll(context)
            })
            .await;
            assert!(
                matches!(result, Err(MscError::Transfer(PipeError::Disconnected))),
                "{result:?}"
            );
            assert_eq!(
                controller.wait_for_device_event().await,
                DeviceEvent::Disconnected
            );
            assert_eq!(wii.port_of(info.device_address), None);
            bus.free_address(info.device_address);
        });
    }
    assert_eq!(machine.ram.allocations(), 1);
}

#[test]
fn two_sticks_plugged_at_once_get_the_default_address_one_after_the_other() {
    let machine = Machine::new();
    let wii = host(&machine);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    let disks = [plug(&machine, 0, 64), plug(&machine, 1, 64)];
    disks[1].borrow_mut().disk.fill(0x5a);
    run(&machine, async {
        let mut devices = vec![];
        for port in 0..2 {
            assert_eq!(
                controller.wait_for_device_event().await,
                DeviceEvent::Connected(Speed::High)
            );
            assert_eq!(controller.controller().last_event_port(), Some(port));
            let mut config = [0; 256];
            let (info, length) = bus
                .enumerate(BusRoute::Direct(Speed::High), &mut config)
                .await
                .unwrap();
            assert_eq!(wii.port_of(info.device_address), Some(port));
            devices.push(
                MscDevice::new(&bus, &info, &config[..length])
                    .await
                    .unwrap(),
            );
        }
        for (device, disk) in devices.iter().zip(&disks) {
            let mut data = [0; 2048];
            device
                .lun(0)
                .unwrap()
                .read_blocks(5, &mut data)
                .await
                .unwrap();
            assert!(data == disk.borrow().disk[5 * 512..9 * 512]);
        }
    });
}

#[test]
fn a_device_whose_enumeration_fails_is_silenced_before_the_next_is_reset() {
    let machine = Machine::new();
    let wii = host(&machine);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    let bad = plug(&machine, 0, 64);
    bad.borrow_mut().fault = Some(Box::new(|_, endpoint| {
        (endpoint == 0).then_some(Response::Stall)
    }));
    plug(&machine, 1, 64);
    run(&machine, async {
        let mut config = [0; 256];
        assert_eq!(
            controller.wait_for_device_event().await,
            DeviceEvent::Connected(Speed::High)
        );
        assert!(
            bus.enumerate(BusRoute::Direct(Speed::High), &mut config)
                .await
                .is_err()
        );
        assert_eq!(
            controller.wait_for_device_event().await,
            DeviceEvent::Connected(Speed::High)
        );
        assert_eq!(controller.controller().last_event_port(), Some(1));
        assert_eq!(
            machine.state.borrow().ports[0] & 4,
            0,
            "the first port is disabled"
        );
        bus.enumerate(BusRoute::Direct(Speed::High), &mut config)
            .await
            .unwrap();
    });
}

#[test]
fn a_full_speed_stick_is_handed_over_and_not_reported() {
    let machine = Machine::new();
    let wii = host(&machine);
    let mut controller = wii.controller();
    machine.plug(0, Box::new(Stick::with_speed(crate::Speed::Full)));
    let machine2 = machine.clone();
    run(&machine, async {
        let mut event = pin!(async { controller.wait_for_device_event().await });
        let mut polls = 0;
        core::future::poll_fn(|context| {
            polls += 1;
            assert!(event.as_mut().poll(context).is_pending());
            if polls > 3000 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    });
    assert!(machine2.state.borrow().ports[0] & 0x2000 != 0);
    assert_eq!(
        controller.last_event().map(|event| event.change),
        Some(PortChange::HandedOver(crate::Speed::Full))
    );
}

#[test]
fn an_interrupt_pipe_gives_one_report_at_a_time() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, async {
        controller.wait_for_device_event().await;
        let info = EndpointInfo {
            addr: EndpointAddress::from_parts(3, Direction::In),
            ep_type: EndpointType::Interrupt,
            max_packet_size: 8,
            interval_ms: 4,
        };
        let mut pipe = wii
            .allocator()
            .alloc_pipe::<pipe::Interrupt, pipe::In>(0, &info, None)
            .unwrap();
        shared.borrow_mut().reports = [vec![1; 8], vec![2; 8], vec![3; 4]].into();
        let mut report = [0; 64];
        for (value, size) in [(1, 8), (2, 8), (3, 4)] {
            assert_eq!(pipe.request_in(&mut report).await, Ok(size));
            assert_eq!(report[..size], vec![value; size]);
        }
    });
}

#[test]
fn an_interrupt_pipe_without_an_interval_is_asked_every_8_ms() {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine, 0, 64);
    let mut controller = wii.controller();
    run(&machine, async {
        controller.wait_for_device_event().await;
        let info = EndpointInfo {
            addr: EndpointAddress::from_parts(3, Direction::In),
            ep_type: EndpointType::Interrupt,
            max_packet_size: 8,
            interval_ms: 0,
        };
        let mut pipe = wii
            .allocator()
            .alloc_pipe::<pipe::Interrupt, pipe::In>(0, &info, None)
            .unwrap();
        shared.borrow_mut().reports = [vec![5; 8]].into();
        let mut report = [0; 8];
        assert_eq!(pipe.request_in(&mut report).await, Ok(8));
        assert_eq!(report, [5; 8]);
    });
}

#[test]
fn a_bus_reset_resets_the_device_of_the_last_event() {
    let machine = Machine::new();
    let wii = host(&machine);
    plug(&machine, 1, 64);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    run(&machine, async {
        let mut config = [0; 256];
        controller.wait_for_device_event().await;
        bus.enumerate(BusRoute::Direct(Speed::High), &mut config)
            .await
            .unwrap();
        controller.controller_mut().bus_reset().await;
        let (info, _) = bus
            .enumerate(BusRoute::Direct(Speed::High), &mut config)
            .await
            .unwrap();
        assert_eq!(wii.port_of(info.device_address), Some(1));
    });
}
