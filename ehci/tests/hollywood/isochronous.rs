//! Isochronous streams on the machine, at high speed and through a translator.

use super::session;
use super::wii::{Driver, Wii, on_a_wii};
use ehci::memory::{Buffer, Dma};
use ehci::{BatchId, Direction, Endpoint, Kind, PortChange, Sizes, Speed, StreamId};
use hollywood_sim::device::descriptor::{self, Descriptors, DeviceDescriptor};
use hollywood_sim::device::{self, Delivery, Function, Peripheral, Sent};
use std::cell::RefCell;
use std::rc::Rc;

/// A sound card: isochronous IN 1 counts, isochronous OUT 2 keeps what comes.
struct Sound {
    speed: device::Speed,
    descriptors: Descriptors,
    size: usize,
    next: u8,
    played: Vec<Vec<u8>>,
}

impl Sound {
    fn new(speed: device::Speed, size: usize) -> Self {
        let device = DeviceDescriptor {
            class: [0; 3],
            max_packet: 64,
            vendor: 0x1209,
            product: 8,
            strings: [0; 3],
        };
        let rest = [
            descriptor::interface(2, [1, 2, 0]),
            descriptor::endpoint(0x81, 1, size as u16, 1),
            descriptor::endpoint(0x02, 1, size as u16, 1),
        ];
        Self {
            speed,
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(1, &rest),
                ..Descriptors::default()
            },
            size,
            next: 0,
            played: vec![],
        }
    }
}

impl Function for Sound {
    fn speed(&self) -> device::Speed {
        self.speed
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn send(&mut self, _: u8, _: usize) -> Sent {
        self.next = self.next.wrapping_add(1);
        Sent::Packet(vec![self.next; self.size])
    }

    fn receive(&mut self, _: u8, packet: &[u8]) -> Delivery {
        self.played.push(packet.to_vec());
        Delivery::Taken
    }
}

fn submit(
    ehci: &mut Driver<'_>,
    stream: StreamId,
    sizes: &[u16],
    packets: Option<&[Vec<u8>]>,
) -> BatchId {
    let sizes = Sizes::new(sizes);
    let buffer = match packets {
        Some(packets) => {
            let mut data = vec![0; sizes.span()];
            for (packet, number) in packets.iter().zip(0..) {
                data[sizes.offset(number)..][..packet.len()].copy_from_slice(packet);
            }
            ehci.dma().outgoing(&data).unwrap()
        }
        None => ehci.dma().incoming(sizes.span()).unwrap(),
    };
    ehci.submit_batch(stream, buffer, sizes).unwrap()
}

/// Takes three batches of eight packets of the IN endpoint; returns the packets that came.
fn record(wii: &Wii<'_>, ehci: &mut Driver<'_>, endpoint: &Endpoint) -> Vec<Vec<u8>> {
    let stream = ehci.open_stream(endpoint).unwrap();
    let size = endpoint.max_packet & 0x7ff;
    let mut batches: Vec<_> = (0..3)
        .map(|_| submit(ehci, stream, &[size; 8], None))
        .collect();
    let mut packets = vec![];
    while !batches.is_empty() {
        let batch = batches.remove(0);
        let mut end = loop {
            match ehci.take_batch(batch) {
                Some(end) => break end,
                None => wii.step(ehci),
            }
        };
        assert_eq!(end.status, Ok(()));
        let outcomes = end.packets().to_vec();
        let buffer = end.buffer.as_mut().unwrap();
        for packet in outcomes {
            assert_eq!(packet.status, Ok(()));
            let mut bytes = vec![0; packet.bytes.into()];
            buffer.copy_from(packet.offset.into(), &mut bytes);
            packets.push(bytes);
        }
    }
    ehci.close_stream(stream);
    packets
}

/// Sends eight packets of different sizes to the OUT endpoint.
fn play(wii: &Wii<'_>, ehci: &mut Driver<'_>, endpoint: &Endpoint, sizes: &[u16]) -> Vec<Vec<u8>> {
    let stream = ehci.open_stream(endpoint).unwrap();
    let packets: Vec<Vec<u8>> = sizes
        .iter()
        .zip(1..)
        .map(|(&size, number)| vec![number; size.into()])
        .collect();
    let batch = submit(ehci, stream, sizes, Some(&packets));
    let end = loop {
        match ehci.take_batch(batch) {
            Some(end) => break end,
            None => wii.step(ehci),
        }
    };
    assert!(end.packets().iter().all(|packet| packet.status == Ok(())));
    ehci.close_stream(stream);
    // A translator says the last one on in the next microframe.
    for _ in 0..8 {
        wii.step(ehci);
    }
    packets
}

fn attach(wii: &Wii<'_>, ehci: &mut Driver<'_>) {
    let change = session::port_event(wii, ehci, 0, 500);
    assert_eq!(change, Some(PortChange::Attached));
    assert!(ehci.reset_port(0));
    let change = session::port_event(wii, ehci, 0, 500);
    assert_eq!(change, Some(PortChange::Enabled));
}

fn counted(packets: &[Vec<u8>], size: usize) {
    let first = packets[0][0];
    for (packet, number) in packets.iter().zip(0u8..) {
        assert_eq!(packet.len(), size, "packet {number}");
        assert!(
            packet
                .iter()
                .all(|&byte| byte == first.wrapping_add(number))
        );
    }
}

fn same(played: &[Vec<u8>], sent: &[Vec<u8>]) {
    let lengths = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(played), lengths(sent));
    assert!(played == sent);
}

#[test]
fn sound_comes_and_goes_in_every_microframe() {
    on_a_wii(256, 1, |wii, mut ehci| {
        let sound: Rc<RefCell<Peripheral<Sound>>> =
            Rc::new(RefCell::new(Sound::new(device::Speed::High, 1024).plug()));
        wii.controller.plug(0, sound.clone());
        attach(wii, &mut ehci);
        // At address zero, as it is after its reset.
        let control = ehci
            .open(&session::endpoint(0, 0, Kind::Control, 0))
            .unwrap();
        session::control_out(wii, &mut ehci, control, [0, 9, 1, 0, 0, 0, 0, 0]).unwrap();
        let endpoint = |number, direction| Endpoint {
            max_packet: 1024,
            interval: 1,
            ..session::endpoint(0, number, Kind::Isochronous(direction), 0)
        };
        let packets = record(wii, &mut ehci, &endpoint(1, Direction::In));
        counted(&packets, 1024);
        let sizes = [1024, 1, 32, 1000, 7, 512, 1024, 3];
        let sent = play(wii, &mut ehci, &endpoint(2, Direction::Out), &sizes);
        same(&sound.borrow().function.played, &sent);
        ehci.close(control);
    });
}

#[test]
fn sound_comes_and_goes_through_a_translator() {
    on_a_wii(256, 2, |wii, mut ehci| {
        let sound = Rc::new(RefCell::new(Sound::new(device::Speed::Full, 900).plug()));
        let hub = device::Hub::new(device::Speed::High, 4).with(2, sound.clone());
        wii.controller.plug(0, hub);
        attach(wii, &mut ehci);
        let control = ehci
            .open(&session::endpoint(0, 0, Kind::Control, 0))
            .unwrap();
        let request = |wii: &Wii<'_>, ehci: &mut Driver<'_>, pipe, setup| {
            session::control_out(wii, ehci, pipe, setup).unwrap();
            for _ in 0..8 * 60 {
                wii.step(ehci);
            }
        };
        request(wii, &mut ehci, control, [0, 5, 1, 0, 0, 0, 0, 0]);
        ehci.close(control);
        let hub = ehci
            .open(&session::endpoint(1, 0, Kind::Control, 0))
            .unwrap();
        request(wii, &mut ehci, hub, [0, 9, 1, 0, 0, 0, 0, 0]);
        // Power, then reset, of port 2.
        request(wii, &mut ehci, hub, [0x23, 3, 8, 0, 2, 0, 0, 0]);
        request(wii, &mut ehci, hub, [0x23, 3, 4, 0, 2, 0, 0, 0]);
        let behind = |number, kind, max_packet| Endpoint {
            speed: Speed::Full,
            max_packet,
            interval: 1,
            translator: Some(ehci::Translator {
                hub_address: 1,
                hub_port: 2,
            }),
            ..session::endpoint(0, number, kind, 0)
        };
        let control = ehci.open(&behind(0, Kind::Control, 64)).unwrap();
        request(wii, &mut ehci, control, [0, 9, 1, 0, 0, 0, 0, 0]);
        let input = behind(1, Kind::Isochronous(Direction::In), 900);
        let packets = record(wii, &mut ehci, &input);
        counted(&packets, 900);
        let output = behind(2, Kind::Isochronous(Direction::Out), 900);
        let sizes = [176, 176, 180, 900, 1, 189, 188, 32];
        let sent = play(wii, &mut ehci, &output, &sizes);
        same(&sound.borrow().function.played, &sent);
        ehci.close(control);
        ehci.close(hub);
    });
}
