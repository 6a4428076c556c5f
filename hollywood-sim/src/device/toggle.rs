//! From transfers to transactions: toggles, stages of control transfers, packets that are sent again (8.5, 8.6).

use super::{
    DataPid, Delivery, Device, Function, Packet, Peripheral, Pid, Response, Sent, Setup, Speed,
    Token, descriptor,
};

/// Where each endpoint is in its sequence of packets.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    /// What tokens must name; it changes after the status stage of SET_ADDRESS (9.4.6).
    address: u8,
    /// The toggle that comes next, one bit for each endpoint.
    next_in: u16,
    next_out: u16,
    /// Sent, and not acknowledged yet.
    unacknowledged: [Option<Vec<u8>>; 16],
    control: Stage,
    control_toggle: bool,
}

impl Pipes {
    /// Toggle 0 for an endpoint, its direction in bit 7 (9.4.5).
    pub(super) fn clear(&mut self, endpoint: u8) {
        let bit = 1 << (endpoint & 15);
        if endpoint & 0x80 == 0 {
            self.next_out &= !bit;
        } else {
            self.next_in &= !bit;
            self.unacknowledged[usize::from(endpoint & 15)] = None;
        }
    }

    /// Toggle 0 for every endpoint (9.1.1.5).
    pub(super) fn clear_all(&mut self) {
        self.next_in = 0;
        self.next_out = 0;
        self.unacknowledged = Default::default();
    }
}

/// The stage of a control transfer (8.5.3).
#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// What has not been sent. A host that asks for more gets an empty packet (8.5.3.2).
    DataIn(Vec<u8>),
    DataOut {
        setup: Setup,
        data: Vec<u8>,
    },
    StatusIn,
    Stalled,
}

impl<F: Function> Peripheral<F> {
    /// Returns the address that it answers to: the one that it was given, once that transfer is over.
    pub(super) fn bus_address(&self) -> u8 {
        self.pipes.address
    }

    fn max_control(&self) -> usize {
        let device = &self.function.descriptors().device;
        usize::from(device.get(7).copied().unwrap_or(64)).max(8)
    }

    /// A SETUP packet is never refused (8.5.3.4).
    fn setup(&mut self, data: Option<&Packet>) -> Response {
        let Some(packet) = data else {
            return Response::Silence;
        };
        let (DataPid::Data0, Ok(bytes)) = (packet.pid, packet.bytes[..].try_into()) else {
            return Response::Silence;
        };
        let setup = Setup::from_bytes(bytes);
        self.pipes.control_toggle = true;
        self.pipes.control = match setup {
            Setup { length: 0, .. } => self.run(setup, &[]),
            _ if setup.is_in() => match self.control(setup, &[]) {
                Ok(reply) => Stage::DataIn(reply),
                Err(_) => Stage::Stalled,
            },
            _ => Stage::DataOut {
                setup,
                data: Vec::new(),
            },
        };
        Response::Ack
    }

    fn run(&mut self, setup: Setup, data: &[u8]) -> Stage {
        match self.control(setup, data) {
            Ok(_) => Stage::StatusIn,
            Err(_) => Stage::Stalled,
        }
    }

    fn control_in(&mut self) -> Response {
        let max = self.max_control();
        let (pid, bytes) = match &self.pipes.control {
            Stage::Stalled => return Response::Stall,
            Stage::DataIn(left) => (
                DataPid::of(self.pipes.control_toggle),
                left[..left.len().min(max)].to_vec(),
            ),
            Stage::StatusIn => (DataPid::Data1, Vec::new()),
            _ => return Response::Nak,
        };
        Response::Data(Packet { pid, bytes })
    }

    fn control_acknowledged(&mut self) {
        let max = self.max_control();
        match &mut self.pipes.control {
            Stage::DataIn(left) => {
                left.drain(..max.min(left.len()));
                self.pipes.control_toggle ^= true;
            }
            Stage::StatusIn => {
                self.pipes.address = self.address();
                self.pipes.control = Stage::Idle;
            }
            _ => {}
        }
    }

    fn control_out(&mut self, packet: &Packet) -> Response {
        let max = self.max_control();
        let expected = DataPid::of(self.pipes.control_toggle);
        match &mut self.pipes.control {
            Stage::Stalled => Response::Stall,
            Stage::DataIn(_) => {
                // The status stage, whenever it comes (8.5.3.1).
                self.pipes.control = Stage::Idle;
                Response::Ack
            }
            // A status packet whose handshake was lost comes again.
            Stage::Idle | Stage::StatusIn => Response::Ack,
            Stage::DataOut { .. } if packet.pid != expected => Response::Ack,
            Stage::DataOut { setup, data } => {
                let setup = *setup;
                data.extend_from_slice(&packet.bytes);
                if packet.bytes.len() > max || data.len() > setup.length.into() {
                    self.pipes.control = Stage::Stalled;
                    return Response::Stall;
                }
                self.pipes.control_toggle ^= true;
                if data.len() == usize::from(setup.length) || packet.bytes.len() < max {
                    let data = std::mem::take(data);
                    self.pipes.control = self.run(setup, &data);
                }
                Response::Ack
            }
        }
    }

    fn is_isochronous(&self, endpoint: u8) -> bool {
        descriptor::is_isochronous(&self.function.descriptors().configuration, endpoint)
    }

    fn data_in(&mut self, endpoint: u8) -> Response {
        let Some(max) = self.max_packet(endpoint | 0x80) else {
            return Response::Silence;
        };
        if self.is_isochronous(endpoint | 0x80) {
            return match self.send(endpoint, max) {
                Sent::Packet(bytes) => Response::Data(Packet {
                    pid: DataPid::Data0,
                    bytes,
                }),
                _ => Response::Silence,
            };
        }
        if self.is_halted(endpoint | 0x80) {
            return Response::Stall;
        }
        let at = usize::from(endpoint);
        if self.pipes.unacknowledged[at].is_none() {
            match self.send(endpoint, max) {
                Sent::Packet(bytes) => self.pipes.unacknowledged[at] = Some(bytes),
                Sent::Nak => return Response::Nak,
                Sent::Stall => return Response::Stall,
            }
        }
        let pid = DataPid::of(self.pipes.next_in >> at & 1 != 0);
        match &self.pipes.unacknowledged[at] {
            Some(bytes) => Response::Data(Packet {
                pid,
                bytes: bytes.clone(),
            }),
            None => Response::Nak,
        }
    }

    fn data_out(&mut self, endpoint: u8, packet: &Packet) -> Response {
        if self.max_packet(endpoint).is_none() {
            return Response::Silence;
        }
        if self.is_isochronous(endpoint) {
            self.receive(endpoint, &packet.bytes);
            return Response::Silence;
        }
        if self.is_halted(endpoint) {
            return Response::Stall;
        }
        let toggle = self.pipes.next_out >> endpoint & 1 != 0;
        if packet.pid != DataPid::of(toggle) {
            // It was here before: the handshake got lost (8.6.4).
            return Response::Ack;
        }
        let delivery = self.receive(endpoint, &packet.bytes);
        if let Delivery::Taken | Delivery::Full = delivery {
            self.pipes.next_out ^= 1 << endpoint;
        }
        match delivery {
            Delivery::Full if self.function.speed() == Speed::High => Response::Nyet,
            Delivery::Taken | Delivery::Full => Response::Ack,
            Delivery::Nak => Response::Nak,
            Delivery::Stall => Response::Stall,
        }
    }

    fn ping(&self, endpoint: u8) -> Response {
        match (endpoint, &self.pipes.control) {
            (0, Stage::Stalled) => Response::Stall,
            (0, _) => Response::Ack,
            _ if self.max_packet(endpoint).is_none() => Response::Silence,
            _ if self.is_halted(endpoint) => Response::Stall,
            _ if self.function.has_room(endpoint) => Response::Ack,
            _ => Response::Nak,
        }
    }
}

impl<F: Function> Device for Peripheral<F> {
    fn speed(&self) -> Speed {
        self.function.speed()
    }

    fn reset(&mut self) {
        self.reset_bus();
    }

    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response {
        if token.address != self.pipes.address {
            return Response::Silence;
        }
        match (token.pid, token.endpoint, data) {
            (Pid::Setup, 0, _) => self.setup(data),
            (Pid::In, 0, _) => self.control_in(),
            (Pid::Out, 0, Some(packet)) => self.control_out(packet),
            (Pid::Ping, endpoint, _) => self.ping(endpoint),
            (Pid::In, endpoint @ 1..16, _) => self.data_in(endpoint),
            (Pid::Out, endpoint @ 1..16, Some(packet)) => self.data_out(endpoint, packet),
            _ => Response::Silence,
        }
    }

    fn acknowledge(&mut self, token: Token) {
        if token.address != self.pipes.address || token.pid != Pid::In {
            return;
        }
        match token.endpoint {
            0 => self.control_acknowledged(),
            endpoint => {
                let waiting = self.pipes.unacknowledged.get_mut(usize::from(endpoint));
                if waiting.and_then(Option::take).is_some() {
                    self.pipes.next_in ^= 1 << endpoint;
                }
            }
        }
    }

    fn microframe(&mut self) {
        self.function.microframe();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MassStorage, disk::Disk};
    use super::*;

    fn stick() -> Peripheral<MassStorage> {
        MassStorage::new([Disk::zeros(512, 8)]).plug()
    }

    fn token(pid: Pid, endpoint: u8) -> Token {
        Token {
            pid,
            address: 0,
            endpoint,
        }
    }

    fn packet(toggle: bool, bytes: &[u8]) -> Packet {
        Packet {
            pid: DataPid::of(toggle),
            bytes: bytes.to_vec(),
        }
    }

    fn out(
        device: &mut impl Device,
        pid: Pid,
        endpoint: u8,
        toggle: bool,
        bytes: &[u8],
    ) -> Response {
        device.transaction(token(pid, endpoint), Some(&packet(toggle, bytes)))
    }

    /// An IN transaction that the host acknowledges.
    fn take(device: &mut impl Device, endpoint: u8) -> Response {
        let response = device.transaction(token(Pid::In, endpoint), None);
        device.acknowledge(token(Pid::In, endpoint));
        response
    }

    fn configured() -> Peripheral<MassStorage> {
        let mut stick = stick();
        let setup = Setup::set_configuration(1).to_bytes();
        assert_eq!(out(&mut stick, Pid::Setup, 0, false, &setup), Response::Ack);
        assert_eq!(take(&mut stick, 0), Response::Data(packet(true, &[])));
        stick
    }

    #[test]
    fn a_data_stage_begins_with_data1_and_alternates() {
        let mut stick = stick();
        stick.function.descriptors.device[7] = 8;
        let setup = Setup::get_descriptor(1, 0, 18).to_bytes();
        assert_eq!(out(&mut stick, Pid::Setup, 0, false, &setup), Response::Ack);
        for (toggle, len) in [(true, 8), (false, 8), (true, 2), (false, 0)] {
            let Response::Data(packet) = take(&mut stick, 0) else {
                panic!("no data");
            };
            assert_eq!((packet.pid, packet.bytes.len()), (DataPid::of(toggle), len));
        }
        assert_eq!(out(&mut stick, Pid::Out, 0, true, &[]), Response::Ack);
    }

    #[test]
    fn a_packet_that_was_not_acknowledged_comes_again() {
        let mut stick = configured();
        let in_ = token(Pid::In, 1);
        let command = b"USBC\x01\0\0\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(out(&mut stick, Pid::Out, 2, false, command), Response::Ack);
        let first = stick.transaction(in_, None);
        assert_eq!(stick.transaction(in_, None), first);
        stick.acknowledge(in_);
        assert_eq!(stick.transaction(in_, None), Response::Nak);
    }

    #[test]
    fn a_packet_that_came_before_is_acknowledged_and_dropped() {
        let mut stick = configured();
        let command = b"USBC\x01\0\0\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        for _ in 0..2 {
            assert_eq!(out(&mut stick, Pid::Out, 2, false, command), Response::Ack);
        }
        assert_eq!(stick.function.commands.len(), 1);
    }

    #[test]
    fn an_address_counts_after_the_status_stage() {
        let mut stick = stick();
        let setup = Setup::set_address(5).to_bytes();
        assert_eq!(out(&mut stick, Pid::Setup, 0, false, &setup), Response::Ack);
        assert_eq!(take(&mut stick, 0), Response::Data(packet(true, &[])));
        assert_eq!(take(&mut stick, 0), Response::Silence, "that was address 0");
        let token = Token {
            address: 5,
            ..token(Pid::In, 0)
        };
        assert_eq!(stick.transaction(token, None), Response::Nak);
    }

    #[test]
    fn a_refused_request_stalls_both_directions_until_the_next_setup() {
        let mut stick = stick();
        let refused = Setup::get_descriptor(0x77, 0, 8).to_bytes();
        assert_eq!(
            out(&mut stick, Pid::Setup, 0, false, &refused),
            Response::Ack
        );
        assert_eq!(take(&mut stick, 0), Response::Stall);
        assert_eq!(out(&mut stick, Pid::Out, 0, true, &[]), Response::Stall);
        assert_eq!(
            stick.transaction(token(Pid::Ping, 0), None),
            Response::Stall
        );
        let setup = Setup::set_address(0).to_bytes();
        assert_eq!(out(&mut stick, Pid::Setup, 0, false, &setup), Response::Ack);
        assert_eq!(take(&mut stick, 0), Response::Data(packet(true, &[])));
    }

    #[test]
    fn clearing_a_halt_begins_with_data0_again() {
        let mut stick = configured();
        let command = b"USBC\x01\0\0\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(out(&mut stick, Pid::Out, 2, false, command), Response::Ack);
        stick.halt(2);
        assert_eq!(out(&mut stick, Pid::Out, 2, true, command), Response::Stall);
        stick.control(Setup::clear_halt(2), &[]).unwrap();
        assert_eq!(out(&mut stick, Pid::Out, 2, false, command), Response::Ack);
        assert_eq!(stick.function.commands.len(), 2);
    }

    #[test]
    fn endpoints_answer_once_the_device_is_configured() {
        assert_eq!(take(&mut stick(), 1), Response::Silence);
        assert_eq!(take(&mut configured(), 1), Response::Nak);
        assert_eq!(take(&mut configured(), 7), Response::Silence);
    }
}
