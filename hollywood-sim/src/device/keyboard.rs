//! A boot keyboard (HID 1.11, appendix B).

use std::collections::VecDeque;

use super::descriptor::{self, Descriptors, DeviceDescriptor};
use super::{Function, Sent, Setup, Speed, Stall};

/// A keyboard of any speed. Its reports are what is typed.
#[derive(Clone, Debug)]
pub struct Keyboard {
    speed: Speed,
    /// Its descriptors, to be made hostile.
    pub descriptors: Descriptors,
    /// Reports that the host has not fetched: modifiers, 0, and six keys that are down.
    pub reports: VecDeque<[u8; 8]>,
    /// The lights that the host switched on.
    pub lights: u8,
    protocol: u8,
    idle: u8,
}

impl Keyboard {
    /// Makes one.
    pub fn new(speed: Speed) -> Self {
        let device = DeviceDescriptor {
            class: [0; 3],
            max_packet: if speed == Speed::Low { 8 } else { 64 },
            vendor: 0x1209,
            product: 0x0003,
            strings: [0; 3],
        };
        // Report descriptor of appendix B.1, without the lights' padding: modifiers, a reserved byte, six keys.
        let report = vec![
            0x05, 0x01, 0x09, 0x06, 0xa1, 0x01, 0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7, 0x15, 0x00,
            0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02, 0x95, 0x01, 0x75, 0x08, 0x81, 0x01,
            0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x25, 0x65, 0x05, 0x07, 0x19, 0x00, 0x29, 0x65,
            0x81, 0x00, 0xc0,
        ];
        let hid = vec![9, 0x21, 0x11, 0x01, 0, 1, 0x22, report.len() as u8, 0];
        let interval = if speed == Speed::High { 7 } else { 8 };
        let rest = [
            descriptor::interface(1, [3, 1, 1]),
            hid,
            descriptor::endpoint(0x81, 3, 8, interval),
        ];
        Self {
            speed,
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(1, &rest),
                others: vec![(0x22, report)],
                ..Descriptors::default()
            },
            reports: VecDeque::new(),
            lights: 0,
            protocol: 1,
            idle: 0,
        }
    }

    /// Presses a key and lets it go: a usage of page 7 (4 is A).
    pub fn press(&mut self, key: u8) {
        self.reports.push_back([0, 0, key, 0, 0, 0, 0, 0]);
        self.reports.push_back([0; 8]);
    }
}

impl Function for Keyboard {
    fn speed(&self) -> Speed {
        self.speed
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn request(&mut self, setup: Setup, data: &[u8]) -> Result<Vec<u8>, Stall> {
        match (setup.kind, setup.request) {
            // GET_REPORT, GET_IDLE, GET_PROTOCOL
            (0xa1, 1) => Ok(vec![0; 8]),
            (0xa1, 2) => Ok(vec![self.idle]),
            (0xa1, 3) => Ok(vec![self.protocol]),
            // SET_REPORT, SET_IDLE, SET_PROTOCOL
            (0x21, 9) => {
                self.lights = *data.first().ok_or(Stall)?;
                Ok(Vec::new())
            }
            (0x21, 10) => {
                [self.idle, _] = setup.value.to_be_bytes();
                Ok(Vec::new())
            }
            (0x21, 11) if setup.value <= 1 => {
                self.protocol = setup.value as u8;
                Ok(Vec::new())
            }
            _ => Err(Stall),
        }
    }

    fn send(&mut self, _endpoint: u8, _max: usize) -> Sent {
        match self.reports.pop_front() {
            Some(report) => Sent::Packet(report.to_vec()),
            None => Sent::Nak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pressed_is_reported_and_let_go() {
        let mut keyboard = Keyboard::new(Speed::Low).plug();
        keyboard.control(Setup::set_configuration(1), &[]).unwrap();
        keyboard.function.press(4);
        let report = keyboard.transfer_in(1, 8).unwrap();
        assert_eq!(report, [0, 0, 4, 0, 0, 0, 0, 0]);
        assert_eq!(keyboard.transfer_in(1, 8).unwrap(), [0; 8]);
    }

    #[test]
    fn lights_are_set_by_a_report() {
        let mut keyboard = Keyboard::new(Speed::Full).plug();
        let setup = Setup {
            kind: 0x21,
            request: 9,
            value: 0x200,
            index: 0,
            length: 1,
        };
        keyboard.control(setup, &[2]).unwrap();
        assert_eq!(keyboard.function.lights, 2);
    }
}
