//! A hub: ports, their requests, the status change endpoint, and what it repeats (USB 2.0, 11).

use super::descriptor::{self, Descriptors, DeviceDescriptor};
use super::translator::Translator;
use super::{
    Device, Function, Packet, Peripheral, Response, Sent, Setup, Speed, Split, Stall, Token,
};

/// A hub with devices behind it. A high-speed one has a transaction translator for all its slower devices together.
pub struct Hub {
    function: Peripheral<Ports>,
    translator: Translator,
}

/// A port's status (11.24.2.7.1).
mod status {
    pub const CONNECTED: u16 = 1 << 0;
    pub const ENABLED: u16 = 1 << 1;
    pub const SUSPENDED: u16 = 1 << 2;
    pub const OVER_CURRENT: u16 = 1 << 3;
    pub const RESET: u16 = 1 << 4;
    pub const POWER: u16 = 1 << 8;
    pub const LOW_SPEED: u16 = 1 << 9;
    pub const HIGH_SPEED: u16 = 1 << 10;
}
use status::*;

/// A hub resets a port for 10 to 20 ms (TDRST, 7.1.7.5).
const RESET_TIME: u32 = 88;

#[derive(Default)]
struct Port {
    device: Option<Box<dyn Device>>,
    status: u16,
    /// The changes, as bits of what changed; reset is bit 4.
    changes: u16,
    resetting: u32,
}

/// What a hub is besides a repeater.
struct Ports {
    speed: Speed,
    ports: Vec<Port>,
    descriptors: Descriptors,
    /// Requests for the translator.
    cleared: Vec<Clear>,
}

/// A request for the translator (11.24.2.3, 11.24.2.9).
pub(super) enum Clear {
    /// CLEAR_TT_BUFFER: endpoint, device, kind, IN.
    Buffer(u16),
    /// RESET_TT.
    All,
}

impl Hub {
    /// Makes a hub of high or full speed with 1 to 7 ports.
    pub fn new(speed: Speed, ports: u8) -> Self {
        let protocol = u8::from(speed == Speed::High);
        let device = DeviceDescriptor {
            class: [9, 0, protocol],
            max_packet: 64,
            vendor: 0x1209,
            product: 0x0002,
            strings: [0; 3],
        };
        let interval = if speed == Speed::High { 12 } else { 255 };
        let rest = [
            descriptor::interface(1, [9, 0, 0]),
            descriptor::endpoint(0x81, 3, 1, interval),
        ];
        // Ports switched and over-current reported one by one; 100 ms to good power; nothing fixed.
        let hub = vec![9, 0x29, ports, 0x09, 0, 50, 50, 0, 0xff];
        let function = Ports {
            speed,
            ports: (0..ports).map(|_| Port::default()).collect(),
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(1, &rest),
                others: vec![(0x29, hub)],
                ..Descriptors::default()
            },
            cleared: Vec::new(),
        };
        Self {
            function: function.plug(),
            translator: Translator::default(),
        }
    }

    /// Makes the translator hand over what it received in pieces of `bytes`, as it does when a transaction spans microframes.
    pub fn with_pieces(mut self, bytes: usize) -> Self {
        self.translator.piece = bytes;
        self
    }

    /// Plugs a device into a port, counted from 1 as in requests.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn plug(&mut self, port: usize, device: impl Device + 'static) {
        let port = &mut self.function.function.ports[port - 1];
        port.device = Some(Box::new(device));
        port.connect();
    }

    /// The same, for making a hub with its devices.
    pub fn with(mut self, port: usize, device: impl Device + 'static) -> Self {
        self.plug(port, device);
        self
    }

    /// Pulls a device.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn unplug(&mut self, port: usize) -> Option<Box<dyn Device>> {
        let port = &mut self.function.function.ports[port - 1];
        let device = port.device.take();
        if device.is_some() && port.status & POWER != 0 {
            port.status &= POWER;
            port.changes |= CONNECTED;
        }
        device
    }

    /// Begins or ends over-current at a port.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn set_over_current(&mut self, port: usize, over: bool) {
        let port = &mut self.function.function.ports[port - 1];
        port.status &= !(OVER_CURRENT | ENABLED);
        port.status |= if over { OVER_CURRENT } else { 0 };
        port.changes |= OVER_CURRENT;
    }

    /// Devices that hear what this hub hears: enabled, and of its own speed, or slower ones of a full-speed hub.
    fn repeated(&mut self) -> impl Iterator<Item = &mut Box<dyn Device>> {
        let speed = self.function.function.speed;
        let ports = self.function.function.ports.iter_mut();
        ports.filter_map(move |port| {
            let device = port.listener()?;
            let same = (device.speed() == Speed::High) == (speed == Speed::High);
            same.then_some(device)
        })
    }
}

impl Port {
    fn connect(&mut self) {
        let Some(device) = &self.device else {
            return;
        };
        if self.status & POWER != 0 {
            self.status |= CONNECTED;
            self.changes |= CONNECTED;
            // A low-speed device shows at once, by the line that it pulls up (11.24.2.7.1.7); high speed only in a reset.
            if device.speed() == Speed::Low {
                self.status |= LOW_SPEED;
            }
        }
    }

    fn listener(&mut self) -> Option<&mut Box<dyn Device>> {
        if self.status & ENABLED == 0 || self.status & SUSPENDED != 0 {
            return None;
        }
        self.device.as_mut()
    }

    fn set(&mut self, feature: u16) -> Result<(), Stall> {
        match feature {
            // PORT_SUSPEND
            2 if self.status & ENABLED != 0 => self.status |= SUSPENDED,
            2 => {}
            // PORT_RESET
            4 if self.status & CONNECTED != 0 => {
                self.status = self.status & !(ENABLED | SUSPENDED) | RESET;
                self.resetting = RESET_TIME;
            }
            4 => {}
            // PORT_POWER
            8 if self.status & POWER == 0 => {
                self.status |= POWER;
                self.connect();
            }
            8 => {}
            _ => return Err(Stall),
        }
        Ok(())
    }

    fn clear(&mut self, feature: u16) -> Result<(), Stall> {
        match feature {
            // PORT_ENABLE, PORT_SUSPEND (at once), PORT_POWER
            1 => self.status &= !ENABLED,
            2 if self.status & SUSPENDED != 0 => {
                self.status &= !SUSPENDED;
                self.changes |= SUSPENDED;
            }
            2 => {}
            8 => self.status = 0,
            // C_PORT_CONNECTION to C_PORT_RESET
            16..=20 => self.changes &= !(1 << (feature - 16)),
            _ => return Err(Stall),
        }
        Ok(())
    }

    fn microframe(&mut self) {
        if let Some(device) = &mut self.device {
            device.microframe();
        }
        if self.resetting == 0 {
            return;
        }
        self.resetting -= 1;
        if self.resetting != 0 {
            return;
        }
        self.status &= !RESET;
        self.changes |= RESET;
        if let Some(device) = &mut self.device {
            device.reset();
            self.status &= !(LOW_SPEED | HIGH_SPEED);
            self.status |= match device.speed() {
                Speed::Low => ENABLED | LOW_SPEED,
                Speed::Full => ENABLED,
                Speed::High => ENABLED | HIGH_SPEED,
            };
        }
    }
}

impl Ports {
    fn port(&mut self, index: u16) -> Result<&mut Port, Stall> {
        let at = usize::from(index & 0xff).checked_sub(1).ok_or(Stall)?;
        self.ports.get_mut(at).ok_or(Stall)
    }
}

impl Function for Ports {
    fn speed(&self) -> Speed {
        self.speed
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn reset(&mut self) {
        for port in &mut self.ports {
            port.status = 0;
            port.changes = 0;
            port.resetting = 0;
        }
    }

    fn request(&mut self, setup: Setup, _data: &[u8]) -> Result<Vec<u8>, Stall> {
        let [kind, _] = setup.value.to_be_bytes();
        let done = |()| Vec::new();
        match (setup.kind, setup.request) {
            // GetHubDescriptor
            (0xa0, 6) => self.descriptors.get(kind, 0).ok_or(Stall),
            // GetHubStatus, ClearHubFeature, SetHubFeature
            (0xa0, 0) => Ok(vec![0; 4]),
            (0x20, 1 | 3) if setup.value <= 1 => Ok(Vec::new()),
            // GetPortStatus
            (0xa3, 0) => {
                let port = self.port(setup.index)?;
                let words = [port.status, port.changes].map(u16::to_le_bytes);
                Ok(words.concat())
            }
            // SetPortFeature, ClearPortFeature
            (0x23, 3) => self.port(setup.index)?.set(setup.value).map(done),
            (0x23, 1) => self.port(setup.index)?.clear(setup.value).map(done),
            // CLEAR_TT_BUFFER, RESET_TT
            (0x23, 8) => {
                self.cleared.push(Clear::Buffer(setup.value));
                Ok(Vec::new())
            }
            (0x23, 9) => {
                self.cleared.push(Clear::All);
                Ok(Vec::new())
            }
            _ => Err(Stall),
        }
    }

    /// The status change bitmap (11.12.4), as long as there is a change.
    fn send(&mut self, _endpoint: u8, _max: usize) -> Sent {
        let bit = |(at, port): (usize, &Port)| u8::from(port.changes != 0) << (at + 1);
        let bitmap = self.ports.iter().enumerate().map(bit).sum();
        match bitmap {
            0 => Sent::Nak,
            bitmap => Sent::Packet(vec![bitmap]),
        }
    }

    fn microframe(&mut self) {
        for port in &mut self.ports {
            port.microframe();
        }
    }
}

impl Device for Hub {
    fn speed(&self) -> Speed {
        self.function.function.speed
    }

    fn reset(&mut self) {
        self.function.reset_bus();
        self.translator.clear(&Clear::All);
    }

    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response {
        let mut response = self.function.transaction(token, data);
        for clear in std::mem::take(&mut self.function.function.cleared) {
            self.translator.clear(&clear);
        }
        for device in self.repeated() {
            let answer = device.transaction(token, data);
            if answer != Response::Silence {
                let alone = response == Response::Silence;
                response = if alone { answer } else { Response::Garbled };
            }
        }
        response
    }

    fn acknowledge(&mut self, token: Token) {
        self.function.acknowledge(token);
        for device in self.repeated() {
            device.acknowledge(token);
        }
    }

    fn split(&mut self, split: Split, token: Token, data: Option<&Packet>) -> Response {
        if self.function.function.speed != Speed::High {
            return Response::Silence;
        }
        if self.function.bus_address() == split.hub && self.function.configuration() != 0 {
            return self.translator.split(split, token, data);
        }
        let mut response = Response::Silence;
        for device in self.repeated() {
            let answer = device.split(split, token, data);
            if answer != Response::Silence {
                response = answer;
            }
        }
        response
    }

    fn microframe(&mut self) {
        self.function.microframe();
        let ports = &mut self.function.function.ports;
        self.translator.microframe(|port, speed, token, data| {
            let at = usize::from(port).checked_sub(1)?;
            let device = ports.get_mut(at)?.listener()?;
            // A device of another speed understands nothing.
            (device.speed() == speed).then(|| {
                let response = device.transaction(token, data);
                if matches!(response, Response::Data(_)) {
                    device.acknowledge(token);
                }
                response
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Inert;
    use super::*;

    fn hub() -> Hub {
        let device = Inert::new(Speed::Low, [3, 1, 1], 1, 2).plug();
        let mut hub = Hub::new(Speed::High, 4).with(2, device);
        let configure = Setup::set_configuration(1);
        hub.function.control(configure, &[]).unwrap();
        hub
    }

    fn feature(hub: &mut Hub, request: u8, feature: u16, port: u16) {
        let setup = Setup {
            kind: 0x23,
            request,
            value: feature,
            index: port,
            length: 0,
        };
        hub.function.control(setup, &[]).unwrap();
    }

    fn port_status(hub: &mut Hub, port: u16) -> (u16, u16) {
        let setup = Setup {
            kind: 0xa3,
            index: port,
            length: 4,
            ..Setup::default()
        };
        let bytes = hub.function.control(setup, &[]).unwrap();
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        (word(0), word(2))
    }

    #[test]
    fn a_device_shows_once_its_port_has_power() {
        let mut hub = hub();
        assert_eq!(port_status(&mut hub, 2), (0, 0));
        feature(&mut hub, 3, 8, 2);
        assert_eq!(port_status(&mut hub, 2), (0x301, 1), "low speed");
        assert_eq!(hub.function.transfer_in(1, 1).unwrap(), [1 << 2]);
        feature(&mut hub, 1, 16, 2);
        assert_eq!(port_status(&mut hub, 2), (0x301, 0));
    }

    #[test]
    fn a_reset_enables_the_port_and_tells_the_speed() {
        let mut hub = hub();
        feature(&mut hub, 3, 8, 2);
        feature(&mut hub, 3, 4, 2);
        assert_eq!(port_status(&mut hub, 2).0, 0x311);
        for _ in 0..160 {
            Device::microframe(&mut hub);
        }
        assert_eq!(port_status(&mut hub, 2), (0x303, 0x11));
    }

    #[test]
    fn what_is_pulled_is_a_change() {
        let mut hub = hub();
        feature(&mut hub, 3, 8, 2);
        feature(&mut hub, 1, 16, 2);
        assert!(hub.unplug(2).is_some());
        assert_eq!(port_status(&mut hub, 2), (0x100, 1));
    }

    #[test]
    fn there_is_no_port_0() {
        let mut hub = hub();
        let setup = Setup {
            kind: 0xa3,
            length: 4,
            ..Setup::default()
        };
        assert_eq!(hub.function.control(setup, &[]), Err(Stall));
    }
}
