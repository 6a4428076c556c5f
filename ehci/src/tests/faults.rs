//! One fault at every point of a session: it ends with success or an error, nothing is leaked, and the stick works again.

use crate::embassy::UsbHost;
use crate::layout::Pid;
use crate::testing::{Machine, Ram, Response, Shared, Stick, run};
use embassy_usb_driver::host::UsbHostController;
use embassy_usb_host::class::msc::MscDevice;
use embassy_usb_host::{BusRoute, BusState};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

type Wii = UsbHost<Machine, Rc<Ram>, Machine>;

/// What happens at the chosen transaction, and for how many transactions.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Stall,
    Silence(u32),
    Nak(u32),
    Babble,
    Empty,
    RepeatedPacket,
    Unplug,
}

const FAULTS: [Fault; 9] = [
    Fault::Stall,
    Fault::Silence(1),
    Fault::Silence(10),
    Fault::Silence(u32::MAX),
    Fault::Nak(u32::MAX),
    Fault::Babble,
    Fault::Empty,
    Fault::RepeatedPacket,
    Fault::Unplug,
];

/// Said of data that is wrong although every transfer succeeded.
const DIFFERS: &str = "data differs";

/// Enumerates the stick, and reads and writes some blocks; the caller's time limit is its only one.
async fn session<'d>(
    controller: &mut crate::embassy::Controller<'d, Machine, Rc<Ram>, Machine>,
    bus: &embassy_usb_host::BusHandle<'d, crate::embassy::Allocator<'d, Machine, Rc<Ram>, Machine>>,
    shared: &RefCell<Shared>,
    device_waits: bool,
) -> Result<(), String> {
    if device_waits {
        while !matches!(
            controller.wait_for_device_event().await,
            embassy_usb_driver::host::DeviceEvent::Connected(_)
        ) {}
    } else {
        controller.bus_reset().await;
    }
    let mut config = [0; 64];
    let (info, length) = bus
        .enumerate(
            BusRoute::Direct(embassy_usb_driver::Speed::High),
            &mut config,
        )
        .await
        .map_err(|e| e.to_string())?;
    let result = async {
        let device = MscDevice::new(bus, &info, &config[..length])
            .await
            .map_err(|e| e.to_string())?;
        let mut lun = device.lun(0).map_err(|e| e.to_string())?;
        let mut data = [0; 2048];
        lun.read_blocks(7, &mut data)
            .await
            .map_err(|e| e.to_string())?;
        if data != shared.borrow().disk[7 * 512..11 * 512] {
            return Err(DIFFERS.into());
        }
        data[..1024].fill(0x77);
        lun.write_blocks(20, &data[..1024])
            .await
            .map_err(|e| e.to_string())?;
        if shared.borrow().disk[20 * 512..22 * 512] != [0x77; 1024] {
            return Err(DIFFERS.into());
        }
        Ok(())
    };
    let result = result.await;
    bus.free_address(info.device_address);
    result
}

/// Arms the fault at the given transaction; returns the counter of transactions.
fn arm(shared: &RefCell<Shared>, at: u32, fault: Fault, pull: Rc<Cell<bool>>) -> Rc<Cell<u32>> {
    let count = Rc::new(Cell::new(0u32));
    let counter = count.clone();
    shared.borrow_mut().fault = Some(Box::new(move |pid, _| {
        let now = counter.get();
        counter.set(now + 1);
        let during = |length: u32| now >= at && now - at < length;
        match fault {
            Fault::Stall if now == at => Some(Response::Stall),
            Fault::Silence(length) if during(length) => Some(Response::Nothing),
            Fault::Nak(length) if during(length) => Some(Response::Nak),
            Fault::Babble if now == at && pid == Pid::In => Some(Response::Data {
                bytes: vec![0xbb; 600],
                toggle: false,
            }),
            Fault::Empty if now == at && pid == Pid::In => Some(Response::Data {
                bytes: vec![],
                toggle: true,
            }),
            Fault::RepeatedPacket if now == at && pid == Pid::In => Some(Response::Data {
                bytes: vec![0xcc; 8],
                toggle: false,
            }),
            Fault::Unplug if now == at => {
                pull.set(true);
                Some(Response::Nak)
            }
            Fault::Unplug if now > at && pull.get() => Some(Response::Nak),
            _ => None,
        }
    }));
    count
}

#[test]
fn every_fault_at_every_transaction_ends_and_the_stick_works_again() {
    // How many transactions a session has.
    let total = {
        let machine = Machine::new();
        let wii = host(&machine);
        let shared = plug(&machine);
        let state = BusState::new();
        let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
        let count = arm(&shared, u32::MAX, Fault::Stall, Rc::default());
        let result = run(
            &machine,
            10_000_000,
            session(controller.controller_mut(), &bus, &shared, true),
        );
        assert_eq!(result, Some(Ok(())));
        count.get()
    };
    assert!(total > 30, "{total}");
    for fault in FAULTS {
        for at in 0..total {
            one(fault, at);
        }
    }
}

fn one(fault: Fault, at: u32) {
    let machine = Machine::new();
    let wii = host(&machine);
    let shared = plug(&machine);
    let state = BusState::new();
    let (mut controller, bus) = embassy_usb_host::bus(wii.controller(), &state);
    let pull = Rc::new(Cell::new(false));
    arm(&shared, at, fault, pull.clone());
    let mut unplugged = false;
    {
        let mut faulty = pin!(session(controller.controller_mut(), &bus, &shared, true));
        let watched = core::future::poll_fn(|context| {
            if pull.replace(false) {
                machine.unplug(0);
                unplugged = true;
            }
            faulty.as_mut().poll(context)
        });
        // An endpoint that answers NAK for ever is given up; all else has seven seconds, more than a control request.
        let limit = if matches!(fault, Fault::Nak(_)) {
            300_000
        } else {
            7_000_000
        };
        let result = run(&machine, limit, watched);
        let ended = result.is_some();
        // embassy-usb-host does not look whether a successful command moved all of its data.
        let lies = matches!(fault, Fault::Stall | Fault::Empty | Fault::RepeatedPacket);
        assert!(
            lies || result != Some(Err(DIFFERS.into())),
            "{fault:?} at {at}"
        );
        // Only an endpoint that answers NAK for ever may need to be given up.
        assert!(
            ended || matches!(fault, Fault::Nak(_)) || toggles_are_apart(fault),
            "{fault:?} at {at} hangs"
        );
    }
    shared.borrow_mut().fault = None;
    // Everything was let go of.
    for _ in 0..200 {
        machine.advance(125);
        wii.host().poll();
    }
    assert_eq!(
        wii.host().with(|ehci| ehci.pool.available()),
        Some(crate::QTDS),
        "{fault:?} at {at} leaks"
    );
    assert_eq!(machine.ram.allocations(), 1, "{fault:?} at {at} leaks");
    // The same stick again, or the next one.
    let shared = if unplugged { plug(&machine) } else { shared };
    let again = run(
        &machine,
        10_000_000,
        session(controller.controller_mut(), &bus, &shared, unplugged),
    );
    assert_eq!(again, Some(Ok(())), "{fault:?} at {at}, afterwards");
}

/// A device that sends a packet with the wrong toggle is out of step for the class driver to notice by timeout.
fn toggles_are_apart(fault: Fault) -> bool {
    matches!(fault, Fault::Empty | Fault::RepeatedPacket)
}

fn host(machine: &Machine) -> Wii {
    let mut ehci = crate::Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
    ehci.start().unwrap();
    UsbHost::new(ehci)
}

fn plug(machine: &Machine) -> Rc<RefCell<Shared>> {
    let stick = Stick::new(64);
    let shared = stick.shared.clone();
    machine.plug(0, Box::new(stick));
    shared
}
