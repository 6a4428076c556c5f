//! A device that enumerates, and does nothing else.

use super::descriptor::{self, Descriptors, DeviceDescriptor};
use super::{Function, Speed};

/// A device of any speed and any class, with one interface and an endpoint that never has anything.
#[derive(Clone, Debug)]
pub struct Inert {
    speed: Speed,
    /// Its descriptors, to be made hostile.
    pub descriptors: Descriptors,
}

impl Inert {
    /// Makes one of a class: class, subclass, protocol.
    pub fn new(speed: Speed, class: [u8; 3], vendor: u16, product: u16) -> Self {
        let max_packet = if speed == Speed::Low { 8 } else { 64 };
        let device = DeviceDescriptor {
            class,
            max_packet,
            vendor,
            product,
            strings: [0; 3],
        };
        let rest = [
            descriptor::interface(1, class),
            descriptor::endpoint(0x81, 3, max_packet.min(16).into(), 10),
        ];
        Self {
            speed,
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(1, &rest),
                ..Descriptors::default()
            },
        }
    }

    /// The Bluetooth controller inside a Wii (hardware notes, 3.1).
    pub fn bluetooth() -> Self {
        Self::new(Speed::Full, [0xe0, 1, 1], 0x057e, 0x0305)
    }
}

impl Function for Inert {
    fn speed(&self) -> Speed {
        self.speed
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }
}
