//! What all devices have in common: standard requests, halts, and transfers made of packets.

use std::fmt;

use super::toggle::Pipes;
use super::{Setup, Speed, descriptor, descriptor::Descriptors};

/// The request is refused, or the endpoint is halted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall;

/// What a function has for the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    /// A packet. A full one says that more may follow, a shorter one that a transfer ends.
    Packet(Vec<u8>),
    /// Nothing yet.
    Nak,
    /// The endpoint halts.
    Stall,
}

/// What a function makes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Took it.
    Taken,
    /// Took it, and has no room for another one yet.
    Full,
    /// Did not take it, yet.
    Nak,
    /// The endpoint halts.
    Stall,
}

/// What a device is for. Endpoint numbers are 1 to 15; the direction is the method's.
pub trait Function {
    /// How fast it is.
    fn speed(&self) -> Speed;

    /// Its descriptors.
    fn descriptors(&self) -> &Descriptors;

    /// Forgets everything that a bus reset ends.
    fn reset(&mut self) {}

    /// Answers a request that is no standard one. `data` are those of an OUT data stage.
    ///
    /// # Errors
    /// [`Stall`] if it does not know it.
    fn request(&mut self, _setup: Setup, _data: &[u8]) -> Result<Vec<u8>, Stall> {
        Err(Stall)
    }

    /// Gives a packet of at most `max` bytes to the host. Each is asked for once.
    fn send(&mut self, _endpoint: u8, _max: usize) -> Sent {
        Sent::Nak
    }

    /// Takes a packet from the host. Each is brought once.
    fn receive(&mut self, _endpoint: u8, _packet: &[u8]) -> Delivery {
        Delivery::Stall
    }

    /// Whether a packet would be taken now.
    fn has_room(&self, _endpoint: u8) -> bool {
        true
    }

    /// The host ended a halt. `endpoint` has its direction in bit 7.
    fn unhalted(&mut self, _endpoint: u8) {}

    /// 125 microseconds begin.
    fn microframe(&mut self) {}

    /// Makes a device of it.
    fn plug(self) -> Peripheral<Self>
    where
        Self: Sized,
    {
        Peripheral::new(self)
    }
}

/// How a transfer ended that did not end well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The endpoint is halted. With what arrived before (IN) and how many bytes went (both).
    Stall(Vec<u8>, usize),
    /// More came than was asked for.
    Overflow(Vec<u8>),
    /// [`Peripheral::patience`] ran out. With what arrived before (IN) and how many bytes went (both).
    Timeout(Vec<u8>, usize),
    /// There is no such endpoint.
    NoEndpoint,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stall(_, bytes) => write!(f, "stalled after {bytes} bytes"),
            Self::Overflow(bytes) => write!(f, "overflow: {} bytes came", bytes.len()),
            Self::Timeout(_, bytes) => write!(f, "timed out after {bytes} bytes"),
            Self::NoEndpoint => write!(f, "no such endpoint"),
        }
    }
}

impl std::error::Error for End {}

/// A device that does what its [`Function`] says, and the standard requests.
#[derive(Debug)]
pub struct Peripheral<F> {
    /// The function, for the test to look at and to change.
    pub function: F,
    /// How many microframes a transfer without tokens waits for a function that has nothing: 1 second.
    pub patience: u32,
    /// Bit 0 for endpoint 0 OUT, bit 16 for endpoint 0 IN.
    halted: u32,
    address: u8,
    configuration: u8,
    pub(super) pipes: Pipes,
}

fn bit(endpoint: u8) -> u32 {
    1 << ((endpoint & 15) + if endpoint & 0x80 != 0 { 16 } else { 0 })
}

impl<F: Function> Peripheral<F> {
    /// Makes a device, as it is after a reset.
    pub fn new(function: F) -> Self {
        Self {
            function,
            patience: 8000,
            halted: 0,
            address: 0,
            configuration: 0,
            pipes: Pipes::default(),
        }
    }

    /// Returns the address that the host gave it last, or 0.
    pub fn address(&self) -> u8 {
        self.address
    }

    /// Returns bConfigurationValue, or 0 if it is not configured.
    pub fn configuration(&self) -> u8 {
        self.configuration
    }

    /// A bus reset.
    pub fn reset_bus(&mut self) {
        self.halted = 0;
        self.address = 0;
        self.configuration = 0;
        self.pipes = Pipes::default();
        self.function.reset();
    }

    /// Carries out a whole control transfer. Returns the data of an IN one, wLength bytes at most.
    ///
    /// # Errors
    /// [`Stall`].
    pub fn control(&mut self, setup: Setup, data: &[u8]) -> Result<Vec<u8>, Stall> {
        let mut reply = match setup.kind & 0x60 {
            0 => self.standard(setup)?,
            _ => self.function.request(setup, data)?,
        };
        reply.truncate(setup.length.into());
        Ok(reply)
    }

    /// Carries out a whole bulk or interrupt transfer of `len` bytes at most from endpoint `endpoint` (1 to 15). It ends when they are there or with a
    /// short packet.
    ///
    /// # Errors
    /// See [`End`].
    pub fn transfer_in(&mut self, endpoint: u8, len: usize) -> Result<Vec<u8>, End> {
        let max = self.max_packet(endpoint | 0x80).ok_or(End::NoEndpoint)?;
        let mut bytes = Vec::new();
        let mut patience = self.patience;
        loop {
            match self.send(endpoint, max) {
                Sent::Packet(packet) => {
                    bytes.extend_from_slice(&packet);
                    if packet.len() > max || bytes.len() > len {
                        bytes.truncate(len);
                        return Err(End::Overflow(bytes));
                    }
                    if packet.len() < max || bytes.len() == len {
                        return Ok(bytes);
                    }
                }
                Sent::Stall => {
                    let count = bytes.len();
                    return Err(End::Stall(bytes, count));
                }
                Sent::Nak if patience == 0 => {
                    let count = bytes.len();
                    return Err(End::Timeout(bytes, count));
                }
                Sent::Nak => {
                    patience -= 1;
                    self.function.microframe();
                }
            }
        }
    }

    /// Carries out a whole bulk or interrupt transfer to endpoint `endpoint` (1 to 15). Without bytes it is one empty packet.
    ///
    /// # Errors
    /// See [`End`].
    pub fn transfer_out(&mut self, endpoint: u8, bytes: &[u8]) -> Result<(), End> {
        let max = self.max_packet(endpoint).ok_or(End::NoEndpoint)?;
        let mut patience = self.patience;
        let mut done = 0;
        loop {
            let packet = &bytes[done..bytes.len().min(done + max)];
            match self.receive(endpoint, packet) {
                Delivery::Taken | Delivery::Full => {
                    done += packet.len();
                    if done == bytes.len() {
                        return Ok(());
                    }
                }
                Delivery::Stall => return Err(End::Stall(Vec::new(), done)),
                Delivery::Nak if patience == 0 => return Err(End::Timeout(Vec::new(), done)),
                Delivery::Nak => {
                    patience -= 1;
                    self.function.microframe();
                }
            }
        }
    }

    /// Whether an endpoint, its direction in bit 7, is halted.
    pub fn is_halted(&self, endpoint: u8) -> bool {
        self.halted & bit(endpoint) != 0
    }

    /// Halts an endpoint, its direction in bit 7, as a device may at any time.
    pub fn halt(&mut self, endpoint: u8) {
        self.halted |= bit(endpoint);
    }

    /// Returns the largest packet of an endpoint that exists now, its direction in bit 7.
    pub(super) fn max_packet(&self, endpoint: u8) -> Option<usize> {
        if self.configuration == 0 {
            return None;
        }
        let configuration = &self.function.descriptors().configuration;
        // A hostile device may claim that its packets have no bytes; a transfer of such would never end.
        descriptor::max_packet(configuration, endpoint).filter(|size| *size != 0)
    }

    pub(super) fn send(&mut self, endpoint: u8, max: usize) -> Sent {
        if self.is_halted(endpoint | 0x80) {
            return Sent::Stall;
        }
        let sent = self.function.send(endpoint, max);
        if sent == Sent::Stall {
            self.halt(endpoint | 0x80);
        }
        sent
    }

    pub(super) fn receive(&mut self, endpoint: u8, packet: &[u8]) -> Delivery {
        if self.is_halted(endpoint) {
            return Delivery::Stall;
        }
        let delivery = self.function.receive(endpoint, packet);
        if delivery == Delivery::Stall {
            self.halt(endpoint);
        }
        delivery
    }

    /// The requests of section 9.4.
    fn standard(&mut self, setup: Setup) -> Result<Vec<u8>, Stall> {
        let endpoint = (setup.index & 0x8f) as u8;
        match (setup.kind, setup.request) {
            // GET_STATUS
            (0x80 | 0x81, 0) => Ok(vec![0, 0]),
            (0x82, 0) => Ok(vec![self.is_halted(endpoint).into(), 0]),
            // CLEAR_FEATURE, SET_FEATURE: remote wake-up, halt
            (0, 1 | 3) if setup.value == 1 => Ok(Vec::new()),
            (2, 1) if setup.value == 0 => {
                self.halted &= !bit(endpoint);
                self.pipes.clear(endpoint);
                self.function.unhalted(endpoint);
                Ok(Vec::new())
            }
            (2, 3) if setup.value == 0 => {
                self.halt(endpoint);
                Ok(Vec::new())
            }
            // SET_ADDRESS
            (0, 5) => {
                self.address = (setup.value & 0x7f) as u8;
                Ok(Vec::new())
            }
            // GET_DESCRIPTOR, of the device or of an interface
            (0x80 | 0x81, 6) => {
                let [kind, index] = setup.value.to_be_bytes();
                self.function.descriptors().get(kind, index).ok_or(Stall)
            }
            // GET_CONFIGURATION, SET_CONFIGURATION
            (0x80, 8) => Ok(vec![self.configuration]),
            (0, 9) if setup.value <= 1 => {
                self.configuration = setup.value as u8;
                self.halted = 0;
                self.pipes.clear_all();
                Ok(Vec::new())
            }
            // GET_INTERFACE, SET_INTERFACE
            (0x81, 10) => Ok(vec![0]),
            (1, 11) if setup.value == 0 => {
                self.halted = 0;
                self.pipes.clear_all();
                Ok(Vec::new())
            }
            _ => Err(Stall),
        }
    }
}
