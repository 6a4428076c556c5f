//! A device for data of any length: bulk IN 1 gives what was ordered, bulk OUT 2 keeps what comes.

use hollywood_sim::POISON;
use hollywood_sim::device::descriptor::{self, Descriptors, DeviceDescriptor};
use hollywood_sim::device::{Delivery, Function, Sent, Setup, Speed, Stall};

pub struct Source {
    descriptors: Descriptors,
    /// Bytes that are still to be given, and which one is next; an empty packet ends what fills its last one.
    left: Option<usize>,
    at: usize,
    /// Everything received, and how many packets that were.
    pub received: Vec<u8>,
    pub packets: usize,
}

/// The byte at a place of what the device gives.
pub fn byte(at: usize) -> u8 {
    match (at as u32).wrapping_mul(0x9e37_79b9).to_be_bytes()[0] ^ (at >> 9) as u8 {
        // What memory holds where nobody wrote.
        POISON => 0,
        other => other,
    }
}

/// What it gives, from the first byte on.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(byte).collect()
}

/// The request that orders bytes.
pub fn order(len: usize) -> [u8; 8] {
    let [a, b, c, d] = (len as u32).to_le_bytes();
    [0x40, 1, a, b, c, d, 0, 0]
}

impl Source {
    pub fn new() -> Self {
        let device = DeviceDescriptor {
            class: [0xff; 3],
            max_packet: 64,
            vendor: 0x1209,
            product: 9,
            strings: [0; 3],
        };
        let rest = [
            descriptor::interface(2, [0xff; 3]),
            descriptor::endpoint(0x81, 2, 512, 0),
            descriptor::endpoint(0x02, 2, 512, 0),
        ];
        Self {
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(1, &rest),
                ..Descriptors::default()
            },
            left: None,
            at: 0,
            received: vec![],
            packets: 0,
        }
    }
}

impl Function for Source {
    fn speed(&self) -> Speed {
        Speed::High
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn request(&mut self, setup: Setup, _: &[u8]) -> Result<Vec<u8>, Stall> {
        if (setup.kind, setup.request) != (0x40, 1) {
            return Err(Stall);
        }
        self.left = Some(usize::from(setup.value) | usize::from(setup.index) << 16);
        self.at = 0;
        Ok(vec![])
    }

    fn send(&mut self, _: u8, max: usize) -> Sent {
        let Some(left) = self.left else {
            return Sent::Nak;
        };
        let size = left.min(max);
        self.left = (size == max).then_some(left - size);
        let packet = (self.at..self.at + size).map(byte).collect();
        self.at += size;
        Sent::Packet(packet)
    }

    fn receive(&mut self, _: u8, packet: &[u8]) -> Delivery {
        self.received.extend(packet);
        self.packets += 1;
        Delivery::Taken
    }
}
