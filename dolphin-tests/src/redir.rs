//! A USB device of our own in QEMU's controller: the server side of the usbredir protocol, which QEMU's device `usb-redir`
//! speaks over a socket. Message numbers and layouts are those of the protocol's description (usbredir 0.7, "usb-redirection-protocol");
//! all of it is little-endian.

use std::{
    collections::HashSet,
    fmt,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::Duration,
};

/// A device, as whole transfers. Addresses of endpoints have the direction in bit 7.
pub trait RedirectedDevice {
    /// What QEMU is told of it before any request.
    fn identity(&self) -> RedirectedIdentity;
    /// The bus was reset.
    fn reset(&mut self);
    /// A control transfer with the data of an OUT data stage; returns those of an IN one.
    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Answer;
    /// A bulk transfer of at most `length` bytes to the host.
    fn bulk_in(&mut self, endpoint: u8, length: usize) -> Answer;
    /// A bulk transfer from the host.
    fn bulk_out(&mut self, endpoint: u8, data: &[u8]) -> Answer;
}

/// What `usb-redir` wants to know of a device. The device's own descriptors may say something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectedIdentity {
    /// Low 0, full 1, high 2.
    pub speed: u8,
    /// Vendor.
    pub vendor: u16,
    /// Product.
    pub product: u16,
    /// Bulk endpoints: address and largest packet.
    pub bulk: Vec<(u8, u16)>,
}

/// The end of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How long it takes.
    pub after: Duration,
    /// What it is.
    pub end: Ending,
}

/// How a transfer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Well, with the data of an IN transfer.
    Success(Vec<u8>),
    /// The endpoint is halted, or the request refused. With what came before.
    Stall(Vec<u8>),
    /// More came than was asked for; this much fits.
    Babble(Vec<u8>),
    /// The transactions failed.
    Failed,
    /// Never: until the host gives up.
    Never,
    /// With the device's disconnection.
    Gone,
}

impl From<Ending> for Answer {
    fn from(end: Ending) -> Self {
        Self {
            after: Duration::ZERO,
            end,
        }
    }
}

/// Makes the device of a run, in the thread that serves it.
#[derive(Clone)]
pub(crate) struct Factory(pub Arc<dyn Fn() -> Box<dyn RedirectedDevice> + Send + Sync>);

impl fmt::Debug for Factory {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a redirected device")
    }
}

impl Factory {
    /// Serves one device until QEMU goes away.
    pub fn serve(&self, stream: UnixStream) {
        let factory = self.clone();
        // It ends with the emulator, whose end of the socket is then closed.
        thread::spawn(move || {
            let server = Server {
                stream,
                device: (factory.0)(),
                waiting: HashSet::new(),
                wide_ids: false,
            };
            // The end of the run ends the connection in the middle of whatever goes on.
            let _ = server.run();
        });
    }
}

/// Message types.
mod message {
    pub const HELLO: u32 = 0;
    pub const DEVICE_CONNECT: u32 = 1;
    pub const DEVICE_DISCONNECT: u32 = 2;
    pub const RESET: u32 = 3;
    pub const INTERFACE_INFO: u32 = 4;
    pub const ENDPOINT_INFO: u32 = 5;
    pub const SET_CONFIGURATION: u32 = 6;
    pub const GET_CONFIGURATION: u32 = 7;
    pub const CONFIGURATION_STATUS: u32 = 8;
    pub const SET_ALTERNATE: u32 = 9;
    pub const GET_ALTERNATE: u32 = 10;
    pub const ALTERNATE_STATUS: u32 = 11;
    pub const CANCEL: u32 = 21;
    pub const CONTROL: u32 = 100;
    pub const BULK: u32 = 101;
}

/// Capabilities: the device's version is told, endpoints have a packet size, identifiers have 64 bits, lengths of bulk transfers 32.
const CAPABILITIES: u32 = 1 << 1 | 1 << 4 | WIDE_IDS | 1 << 6;
const WIDE_IDS: u32 = 1 << 5;

/// Status codes.
const SUCCESS: u8 = 0;
const CANCELLED: u8 = 1;
const FAILED: u8 = 3;
const STALL: u8 = 4;
const BABBLE: u8 = 6;

struct Server {
    stream: UnixStream,
    device: Box<dyn RedirectedDevice>,
    /// Transfers that are never answered unless they are cancelled.
    waiting: HashSet<u64>,
    wide_ids: bool,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut hello = b"wiistick".to_vec();
        hello.resize(64, 0);
        hello.extend(CAPABILITIES.to_le_bytes());
        self.send(message::HELLO, 0, &hello)?;
        loop {
            let (kind, id, body) = self.receive()?;
            let short = || io::Error::from(io::ErrorKind::InvalidData);
            match (kind, &body[..]) {
                (message::HELLO, [.., a, b, c, d]) => {
                    let peer = u32::from_le_bytes([*a, *b, *c, *d]);
                    self.wide_ids = peer & WIDE_IDS != 0;
                    self.connect()?;
                }
                (message::RESET, _) => self.device.reset(),
                (message::SET_CONFIGURATION, &[value, ..]) => {
                    let end = self.device.control([0, 9, value, 0, 0, 0, 0, 0], &[]);
                    let status = Self::status(&end.end).0;
                    self.send(message::CONFIGURATION_STATUS, id, &[status, value])?;
                }
                (message::GET_CONFIGURATION, _) => {
                    let end = self.device.control([0x80, 8, 0, 0, 0, 0, 1, 0], &[]);
                    let (status, data) = Self::status(&end.end);
                    let value = data.first().copied().unwrap_or(0);
                    self.send(message::CONFIGURATION_STATUS, id, &[status, value])?;
                }
                (message::SET_ALTERNATE, &[interface, value, ..]) => {
                    let setup = [1, 11, value, 0, interface, 0, 0, 0];
                    let end = self.device.control(setup, &[]);
                    let status = Self::status(&end.end).0;
                    self.send(message::ALTERNATE_STATUS, id, &[status, interface, value])?;
                }
                (message::GET_ALTERNATE, &[interface, ..]) => {
                    self.send(message::ALTERNATE_STATUS, id, &[SUCCESS, interface, 0])?;
                }
                // Of which kind it was does not matter to a transfer without data.
                (message::CANCEL, _) if self.waiting.remove(&id) => {
                    self.send(message::BULK, id, &[0, CANCELLED, 0, 0, 0, 0, 0, 0, 0, 0])?;
                }
                (message::CONTROL, body) => {
                    let (header, data) = body.split_at_checked(10).ok_or_else(short)?;
                    self.control(id, header, data)?;
                }
                (message::BULK, body) => {
                    let (header, data) = body.split_at_checked(10).ok_or_else(short)?;
                    self.bulk(id, header, data)?;
                }
                // What else there is concerns endpoints of other kinds.
                _ => {}
            }
        }
    }

    /// Announces the device.
    fn connect(&mut self) -> io::Result<()> {
        let identity = self.device.identity();
        let (mut kinds, mut sizes) = ([0xFF; 32], [0u16; 32]);
        for (endpoint, kind, size) in [(0x00, 0, 64), (0x80, 0, 64)].into_iter().chain(
            identity
                .bulk
                .iter()
                .map(|&(endpoint, size)| (endpoint, 2, size)),
        ) {
            let index = usize::from(endpoint & 0x0F) + if endpoint & 0x80 != 0 { 16 } else { 0 };
            (kinds[index], sizes[index]) = (kind, size);
        }
        let mut endpoints = kinds.to_vec();
        // Intervals and interfaces: none, and the first.
        endpoints.resize(96, 0);
        endpoints.extend(sizes.into_iter().flat_map(u16::to_le_bytes));
        self.send(message::ENDPOINT_INFO, 0, &endpoints)?;
        // One interface: numbers, classes, subclasses, protocols.
        let mut interfaces = 1u32.to_le_bytes().to_vec();
        for first in [0, 8, 6, 0x50] {
            interfaces.push(first);
            interfaces.resize(interfaces.len() + 31, 0);
        }
        self.send(message::INTERFACE_INFO, 0, &interfaces)?;
        let mut device = vec![identity.speed, 0, 0, 0];
        for word in [identity.vendor, identity.product, 0x0100] {
            device.extend(word.to_le_bytes());
        }
        self.send(message::DEVICE_CONNECT, 0, &device)
    }

    fn control(&mut self, id: u64, header: &[u8], data: &[u8]) -> io::Result<()> {
        // Endpoint, request, request type, status, value, index, length.
        let setup = [
            header[2], header[1], header[4], header[5], header[6], header[7], header[8], header[9],
        ];
        let answer = self.device.control(setup, data);
        let Some(answer) = self.wait(id, answer)? else {
            return Ok(());
        };
        let (status, reply) = Self::status(&answer);
        let is_in = header[2] & 0x80 != 0;
        let mut body = header.to_vec();
        body[3] = status;
        if is_in {
            body[8..10].copy_from_slice(&(reply.len() as u16).to_le_bytes());
            body.extend(reply);
        }
        self.send(message::CONTROL, id, &body)
    }

    fn bulk(&mut self, id: u64, header: &[u8], data: &[u8]) -> io::Result<()> {
        // Endpoint, status, low half of the length, stream, high half of the length.
        let endpoint = header[0];
        let length = u32::from_le_bytes([header[2], header[3], header[8], header[9]]) as usize;
        let is_in = endpoint & 0x80 != 0;
        let answer = if is_in {
            self.device.bulk_in(endpoint, length)
        } else {
            self.device.bulk_out(endpoint, data)
        };
        let Some(answer) = self.wait(id, answer)? else {
            return Ok(());
        };
        let (status, reply) = Self::status(&answer);
        let moved = match (is_in, status) {
            (true, _) => reply.len(),
            (false, SUCCESS) => data.len(),
            (false, _) => 0,
        };
        let mut body = header.to_vec();
        body[1] = status;
        let moved = (moved as u32).to_le_bytes();
        body[2..4].copy_from_slice(&moved[..2]);
        body[8..10].copy_from_slice(&moved[2..]);
        if is_in {
            body.extend(reply);
        }
        self.send(message::BULK, id, &body)
    }

    /// Lets the answer's time pass; nothing if there is nothing to send.
    fn wait(&mut self, id: u64, answer: Answer) -> io::Result<Option<Ending>> {
        thread::sleep(answer.after);
        match answer.end {
            Ending::Never => {
                self.waiting.insert(id);
                Ok(None)
            }
            Ending::Gone => {
                self.send(message::DEVICE_DISCONNECT, 0, &[])?;
                Ok(None)
            }
            end => Ok(Some(end)),
        }
    }

    fn status(end: &Ending) -> (u8, &[u8]) {
        match end {
            Ending::Success(data) => (SUCCESS, data),
            Ending::Stall(data) => (STALL, data),
            Ending::Babble(data) => (BABBLE, data),
            Ending::Failed | Ending::Never | Ending::Gone => (FAILED, &[]),
        }
    }

    fn send(&mut self, kind: u32, id: u64, body: &[u8]) -> io::Result<()> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((body.len() as u32).to_le_bytes());
        if self.wide_ids {
            bytes.extend(id.to_le_bytes());
        } else {
            bytes.extend((id as u32).to_le_bytes());
        }
        bytes.extend(body);
        self.stream.write_all(&bytes)
    }

    fn receive(&mut self) -> io::Result<(u32, u64, Vec<u8>)> {
        let mut word = || {
            let mut bytes = [0; 4];
            self.stream.read_exact(&mut bytes)?;
            Ok::<_, io::Error>(u32::from_le_bytes(bytes))
        };
        let (kind, length, low) = (word()?, word()?, word()?);
        let high = if self.wide_ids { word()? } else { 0 };
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body)?;
        Ok((kind, u64::from(high) << 32 | u64::from(low), body))
    }
}
