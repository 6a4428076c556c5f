//! What is left in a transaction translator when a split transaction is given up or fails.

use crate::memory::Dma;
use crate::testing::{Response, Rig, Shared, endpoint};
use crate::{Endpoint, Kind, Request, Speed, TransferError, Translator};

/// A full-speed endpoint behind port 2 of the hub at address 5.
fn split(number: u8, kind: Kind) -> Endpoint {
    Endpoint {
        speed: Speed::Full,
        max_packet: 64,
        translator: Some(Translator {
            hub_address: 5,
            hub_port: 2,
        }),
        ..endpoint(number, kind)
    }
}

fn answer(shared: &mut Shared, response: fn() -> Response) {
    shared.fault = Some(Box::new(move |_, _| Some(response())));
}

/// The requests that are due, in order; each is said to be done.
fn requests(rig: &mut Rig) -> Vec<[u8; 8]> {
    let mut all = vec![];
    while let Some(clear) = rig.ehci.translator_to_clear() {
        assert_eq!(clear.translator.hub_address, 5);
        all.push(clear.request(false));
        rig.ehci.translator_cleared(clear);
    }
    all
}

#[test]
fn a_cancelled_bulk_transaction_is_to_be_cleared() {
    let (mut rig, shared) = Rig::with_stick();
    answer(&mut shared.borrow_mut(), || Response::Nak);
    let pipe = rig.ehci.open(&split(1, Rig::IN)).unwrap();
    let id = rig.start_in(pipe, 64);
    rig.settle();
    assert_eq!(requests(&mut rig), [] as [[u8; 8]; 0]);
    rig.ehci.cancel(pipe);
    let (status, ..) = rig.finish(id);
    assert_eq!(status, Err(TransferError::Cancelled));
    // Endpoint 1 of device 0, bulk, IN.
    assert_eq!(requests(&mut rig), [[0x23, 8, 0x01, 0x90, 1, 0, 0, 0]]);
}

#[test]
fn a_control_transaction_may_be_left_in_either_direction() {
    let (mut rig, shared) = Rig::with_stick();
    answer(&mut shared.borrow_mut(), || Response::Nothing);
    let pipe = rig.ehci.open(&split(0, Kind::Control)).unwrap();
    let (status, _) = rig.control_in(pipe, [0x80, 6, 0, 1, 0, 0, 18, 0]);
    assert_eq!(status, Err(TransferError::Transaction));
    assert_eq!(
        requests(&mut rig),
        [
            [0x23, 8, 0x00, 0x00, 1, 0, 0, 0],
            [0x23, 8, 0x00, 0x80, 1, 0, 0, 0]
        ]
    );
}

#[test]
fn a_timeout_and_a_closed_pipe_leave_something_too() {
    let (mut rig, shared) = Rig::with_stick();
    answer(&mut shared.borrow_mut(), || Response::Nak);
    let pipe = rig.ehci.open(&split(2, Rig::OUT)).unwrap();
    let buffer = rig.machine.ram.outgoing(&[1; 64]).unwrap();
    let request = Request {
        timeout_us: Some(5_000),
        ..Request::new(buffer)
    };
    let id = rig.ehci.submit(pipe, request).unwrap();
    assert_eq!(rig.finish(id).0, Err(TransferError::Timeout));
    let expected = [[0x23, 8, 0x02, 0x10, 1, 0, 0, 0]];
    assert_eq!(requests(&mut rig), expected);
    let buffer = rig.machine.ram.outgoing(&[1; 64]).unwrap();
    rig.ehci.submit(pipe, Request::new(buffer)).unwrap();
    rig.settle();
    rig.ehci.close(pipe);
    rig.settle();
    assert_eq!(requests(&mut rig), expected);
}

#[test]
fn a_stall_and_an_end_leave_nothing() {
    let (mut rig, shared) = Rig::with_stick();
    let pipe = rig.ehci.open(&split(5, Rig::IN)).unwrap();
    shared.borrow_mut().source.push_back(vec![1; 10]);
    assert_eq!(rig.bulk_in(pipe, 64).0, Ok(()));
    answer(&mut shared.borrow_mut(), || Response::Stall);
    assert_eq!(rig.bulk_in(pipe, 64).0, Err(TransferError::Stall));
    rig.ehci.close(pipe);
    rig.settle();
    assert_eq!(requests(&mut rig), [] as [[u8; 8]; 0]);
}

#[test]
fn high_speed_endpoints_have_no_translator() {
    let (mut rig, shared) = Rig::with_stick();
    answer(&mut shared.borrow_mut(), || Response::Nothing);
    let pipe = rig.open(1, Rig::IN);
    assert_eq!(rig.bulk_in(pipe, 64).0, Err(TransferError::Transaction));
    assert_eq!(requests(&mut rig), [] as [[u8; 8]; 0]);
}

#[test]
fn nothing_is_asked_of_a_hub_that_is_gone() {
    let (mut rig, shared) = Rig::with_stick();
    answer(&mut shared.borrow_mut(), || Response::Nak);
    let pipe = rig.ehci.open(&split(1, Rig::IN)).unwrap();
    let cancelled = rig.start_in(pipe, 64);
    rig.settle();
    rig.ehci.cancel(pipe);
    assert_eq!(rig.finish(cancelled).0, Err(TransferError::Cancelled));
    assert!(rig.ehci.translator_to_clear().is_some());
    let pulled = rig.start_in(pipe, 64);
    rig.settle();
    rig.machine.unplug(0);
    assert_eq!(rig.finish(pulled).0, Err(TransferError::Disconnected));
    assert_eq!(rig.ehci.translator_to_clear(), None);
}

/// The adapter does what is to be done.
#[cfg(feature = "embassy")]
mod adapter {
    use super::answer;
    use crate::embassy::UsbHost;
    use crate::layout::Pid;
    use crate::testing::{Machine, Response, Stick, run};
    use embassy_usb_driver::host::{
        PipeError, SplitInfo, SplitSpeed, UsbHostAllocator, UsbHostController, UsbPipe, pipe,
    };
    use embassy_usb_driver::{Direction, EndpointAddress, EndpointInfo, EndpointType};
    use std::pin::pin;
    use std::task::Poll;

    fn info(number: usize, kind: EndpointType) -> EndpointInfo {
        EndpointInfo {
            addr: EndpointAddress::from_parts(number, Direction::In),
            ep_type: kind,
            max_packet_size: 64,
            interval_ms: 0,
        }
    }

    const SPLIT: SplitInfo = SplitInfo::new(7, 2, SplitSpeed::Full);
    const CLEAR: [u8; 8] = [0x23, 8, 0x85, 0x93, 1, 0, 0, 0];

    /// Two devices: one at address 7 is the hub, one at address 0x38 the device behind it.
    async fn addressed(usb: &UsbHost<Machine, std::rc::Rc<crate::testing::Ram>, Machine>) {
        let mut controller = usb.controller();
        for address in [7, 0x38] {
            controller.wait_for_device_event().await;
            let mut default = usb
                .allocator()
                .alloc_pipe::<pipe::Control, pipe::InOut>(0, &info(0, EndpointType::Control), None)
                .unwrap();
            let set_address = [0, 5, address, 0, 0, 0, 0, 0];
            default.control_out(&set_address, &[]).await.unwrap();
        }
    }

    #[test]
    fn a_failed_or_dropped_request_is_followed_by_the_hubs_request() {
        let machine = Machine::new();
        let mut ehci =
            crate::Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
        ehci.start().unwrap();
        let usb = UsbHost::new(ehci);
        let (hub, device) = (Stick::new(1), Stick::new(1));
        let (hub_seen, shared) = (hub.shared.clone(), device.shared.clone());
        machine.plug(0, Box::new(hub));
        machine.plug(1, Box::new(device));
        run(&machine, 10_000_000, addressed(&usb)).unwrap();
        let cleared = || {
            let setups = &hub_seen.borrow().setups;
            setups.iter().filter(|setup| **setup == CLEAR).count()
        };
        let mut bulk = usb
            .allocator()
            .alloc_pipe::<pipe::Bulk, pipe::In>(0x38, &info(5, EndpointType::Bulk), Some(SPLIT))
            .unwrap();
        let mut data = [0; 64];

        // A failed one: the request has been sent when the caller learns of the failure.
        shared.borrow_mut().fault = Some(Box::new(|_, endpoint| {
            (endpoint == 5).then_some(Response::Nothing)
        }));
        let failed = run(&machine, 1_000_000, bulk.request_in(&mut data));
        assert_eq!(failed, Some(Err(PipeError::BadResponse)));
        assert_eq!(cleared(), 1);

        // A dropped one: before the next request to the endpoint, on the class driver's control pipe.
        let hub_pipe = usb
            .allocator()
            .alloc_pipe::<pipe::Control, pipe::InOut>(7, &info(0, EndpointType::Control), None)
            .unwrap();
        answer(&mut shared.borrow_mut(), || Response::Nak);
        assert_eq!(run(&machine, 50_000, bulk.request_in(&mut data)), None);
        assert_eq!(cleared(), 1);
        // The device has something to say only when the hub was told.
        let seen = hub_seen.clone();
        shared.borrow_mut().fault = Some(Box::new(move |_, _| {
            let told = seen
                .borrow()
                .setups
                .iter()
                .filter(|setup| **setup == CLEAR)
                .count()
                == 2;
            (!told).then_some(Response::Nak)
        }));
        shared.borrow_mut().source.push_back(vec![7; 64]);
        let next = run(&machine, 1_000_000, bulk.request_in(&mut data));
        assert_eq!(next, Some(Ok(64)));
        assert_eq!(cleared(), 2);
        drop(hub_pipe);

        // Or by the task that waits for devices.
        answer(&mut shared.borrow_mut(), || Response::Nak);
        assert_eq!(run(&machine, 50_000, bulk.request_in(&mut data)), None);
        let mut controller = usb.controller();
        let nothing = run(&machine, 50_000, controller.wait_for_device_event());
        assert!(nothing.is_none());
        assert_eq!(cleared(), 3);
    }

    #[test]
    fn requests_on_one_control_pipe_take_turns() {
        let machine = Machine::new();
        let mut ehci =
            crate::Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
        ehci.start().unwrap();
        let usb = UsbHost::new(ehci);
        let stick = Stick::new(1);
        let shared = stick.shared.clone();
        machine.plug(0, Box::new(stick));
        run(
            &machine,
            10_000_000,
            usb.controller().wait_for_device_event(),
        )
        .unwrap();
        let pipe = usb.host().with(|ehci| {
            let control = crate::testing::endpoint(0, crate::Kind::Control);
            ehci.open(&control).unwrap()
        });
        let pipe = pipe.unwrap();
        // The first answers to the data stage are NAKs, so that both are under way together.
        let mut naks = 20;
        shared.borrow_mut().fault = Some(Box::new(move |pid, _| {
            (pid == Pid::In && naks > 0).then(|| {
                naks -= 1;
                Response::Nak
            })
        }));
        let get = |length| {
            let buffer = crate::memory::Dma::incoming(&machine.ram, length).unwrap();
            let setup = [0x80, 6, 0, 1, 0, 0, length as u8, 0];
            usb.host().control(pipe, setup, Some(buffer), None)
        };
        let mut first = pin!(get(18));
        let mut second = pin!(get(8));
        let mut ends = (None, None);
        let both = core::future::poll_fn(|context| {
            if ends.0.is_none()
                && let Poll::Ready(end) = first.as_mut().poll(context)
            {
                ends.0 = Some(end.unwrap().bytes);
            }
            if ends.1.is_none()
                && let Poll::Ready(end) = second.as_mut().poll(context)
            {
                ends.1 = Some(end.unwrap().bytes);
            }
            match ends {
                (Some(_), Some(_)) => Poll::Ready(ends),
                _ => Poll::Pending,
            }
        });
        assert_eq!(run(&machine, 1_000_000, both), Some((Some(18), Some(8))));
    }
}
