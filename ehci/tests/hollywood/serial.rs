//! A serial port (CDC, abstract control model) that says back what it hears.

use hollywood_sim::device::descriptor::{self, Descriptors, DeviceDescriptor};
use hollywood_sim::device::{Delivery, Function, Sent, Setup, Speed, Stall};
use std::collections::VecDeque;

pub struct Serial {
    speed: Speed,
    descriptors: Descriptors,
    /// Packets that were heard and not said back.
    heard: VecDeque<Vec<u8>>,
    /// Bits a second, stop bits, parity and data bits, as they were set.
    pub coding: Vec<u8>,
    /// Bit 0: data terminal ready; bit 1: request to send.
    pub lines: u16,
}

impl Serial {
    pub fn new(speed: Speed) -> Self {
        let device = DeviceDescriptor {
            class: [2, 0, 0],
            max_packet: 64,
            vendor: 0x1209,
            product: 10,
            strings: [0; 3],
        };
        let max_packet = if speed == Speed::High { 512 } else { 64 };
        let mut data = descriptor::interface(2, [0x0a, 0, 0]);
        // Its number.
        data[2] = 1;
        let rest = [
            descriptor::interface(1, [2, 2, 1]),
            // Functional descriptors: header, abstract control management, union (CDC 1.2, section 5.2.3).
            vec![5, 0x24, 0, 0x20, 1],
            vec![4, 0x24, 2, 2],
            vec![5, 0x24, 6, 0, 1],
            descriptor::endpoint(0x83, 3, 16, 8),
            data,
            descriptor::endpoint(0x81, 2, max_packet, 0),
            descriptor::endpoint(0x02, 2, max_packet, 0),
        ];
        Self {
            speed,
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(2, &rest),
                ..Descriptors::default()
            },
            heard: VecDeque::new(),
            coding: vec![],
            lines: 0,
        }
    }
}

impl Function for Serial {
    fn speed(&self) -> Speed {
        self.speed
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn request(&mut self, setup: Setup, data: &[u8]) -> Result<Vec<u8>, Stall> {
        match (setup.kind, setup.request, setup.index) {
            // SET_LINE_CODING, SET_CONTROL_LINE_STATE
            (0x21, 0x20, 0) => self.coding = data.to_vec(),
            (0x21, 0x22, 0) => self.lines = setup.value,
            _ => return Err(Stall),
        }
        Ok(vec![])
    }

    fn send(&mut self, endpoint: u8, _: usize) -> Sent {
        match endpoint {
            1 => self.heard.pop_front().map_or(Sent::Nak, Sent::Packet),
            _ => Sent::Nak,
        }
    }

    fn receive(&mut self, _: u8, packet: &[u8]) -> Delivery {
        self.heard.push_back(packet.to_vec());
        Delivery::Taken
    }
}
