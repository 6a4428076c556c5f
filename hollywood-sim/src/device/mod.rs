//! USB devices, on two levels.
//!
//! * [`Device`]: the **transaction level**, what a host controller sees. A token goes out, a handshake or data come back; toggles count.
//! * [`Function`]: the **transfer level**, what a device is for: answers to requests, and packets in and out of its endpoints, without addresses, toggles,
//!   and halts.
//!
//! [`Peripheral`] makes a [`Device`] of any [`Function`]: it has the address, the standard requests, the halts and the toggles. Whoever stands in for a
//! whole USB stack instead of a host controller (a library with libusb's interface, say) uses it without tokens, by [`Peripheral::control`],
//! [`Peripheral::transfer_in`] and [`Peripheral::transfer_out`]:
//!
//! ```
//! use hollywood_sim::device::{Function, MassStorage, Setup, disk::Disk};
//!
//! let mut stick = MassStorage::new([Disk::zeros(512, 2048)]).plug();
//! let descriptor = stick.control(Setup::get_descriptor(1, 0, 18), &[]).unwrap();
//! assert_eq!(descriptor[..4], [18, 1, 0, 2]);
//! stick.control(Setup::set_configuration(1), &[]).unwrap();
//!
//! // INQUIRY: command block wrapper, 36 bytes of data, command status wrapper.
//! let command = *b"USBC\x01\0\0\0\x24\0\0\0\x80\0\x06\x12\0\0\0\x24\0\0\0\0\0\0\0\0\0\0\0";
//! stick.transfer_out(2, &command).unwrap();
//! assert_eq!(stick.transfer_in(1, 36).unwrap().len(), 36);
//! assert_eq!(&stick.transfer_in(1, 13).unwrap()[..], b"USBS\x01\0\0\0\0\0\0\0\0");
//! ```
//!
//! Sections are those of the USB 2.0 specification.

mod control;
pub mod descriptor;
pub mod disk;
mod fault;
mod hostile;
mod hub;
mod inert;
mod keyboard;
mod mass_storage;
mod peripheral;
mod toggle;
mod translator;
mod trick;

pub use control::Setup;
pub use fault::{Fault, Faulty, Line, When};
pub use hostile::Hostile;
pub use hub::Hub;
pub use inert::Inert;
pub use keyboard::Keyboard;
pub use mass_storage::{MassStorage, Short};
pub use peripheral::{Delivery, End, Function, Peripheral, Sent, Stall};
pub use trick::Trick;

use std::fmt;

/// How fast a device is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Speed {
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
}

/// What a token asks for (table 8-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Pid {
    /// Data from host to device.
    Out,
    /// Data from device to host.
    In,
    /// Eight bytes of a request.
    Setup,
    /// Whether there is room for data (8.5.1).
    Ping,
}

/// A token: what is asked of whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Token {
    /// What is asked.
    pub pid: Pid,
    /// Of which device, 0 to 127.
    pub address: u8,
    /// Of which endpoint, 0 to 15. The direction is the token's.
    pub endpoint: u8,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            address,
            endpoint,
        } = self;
        write!(f, "{pid:?} {address}.{endpoint}")
    }
}

/// Which data packet in a sequence (table 8-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DataPid {
    /// Toggle 0.
    Data0,
    /// Toggle 1.
    Data1,
    /// The first of three packets in a microframe.
    Data2,
    /// Not the last packet of an isochronous OUT or of a split.
    MData,
}

impl DataPid {
    /// The packet of a toggle bit.
    pub const fn of(toggle: bool) -> Self {
        if toggle { Self::Data1 } else { Self::Data0 }
    }
}

/// A data packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Which one in the sequence.
    pub pid: DataPid,
    /// What it carries: 0 to 1024 bytes from well-behaved devices.
    pub bytes: Vec<u8>,
}

/// What comes back after a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// The data were taken, or there is room for data.
    Ack,
    /// Not now.
    Nak,
    /// The data were taken, and there is no room for more (high speed only, 8.5.1). From a hub: the split transaction is not done.
    Nyet,
    /// The endpoint is halted, or the request is refused.
    Stall,
    /// Data. The host answers with [`Device::acknowledge`] if it took them.
    Data(Packet),
    /// Nothing within the time-out.
    Silence,
    /// Something that fails its CRC.
    Garbled,
    /// From a transaction translator: the transaction failed three times behind it (8.4.2).
    Err,
}

/// What a split transaction says about the bus behind a hub (8.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Split {
    /// Address of the hub.
    pub hub: u8,
    /// Number of the hub's port, from 1.
    pub port: u8,
    /// Asks for the result, instead of starting.
    pub complete: bool,
    /// Speed of the device behind the hub: low or full.
    pub speed: Speed,
    /// Control (0), isochronous (1), bulk (2), interrupt (3).
    pub kind: u8,
    /// Which part of isochronous data for the device this is.
    pub part: Part,
}

/// A part of isochronous data in a split transaction (table 8-3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Part {
    /// All of them, or something that is not isochronous.
    #[default]
    All,
    /// The first part.
    Begin,
    /// Neither first nor last.
    Middle,
    /// The last part.
    End,
}

/// A device as a bus sees it, with all that is connected behind it.
pub trait Device {
    /// How fast it is. A host finds out during reset.
    fn speed(&self) -> Speed;

    /// Its port drives a reset: address 0, not configured.
    fn reset(&mut self);

    /// Answers a token, with the data that follow one of [`Pid::Out`] or [`Pid::Setup`].
    ///
    /// A device that the token is not for is silent, and so is one that did not understand.
    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response;

    /// Learns that the data of its last [`Response::Data`] for this token arrived. Without this it sends the same packet again.
    fn acknowledge(&mut self, token: Token);

    /// Answers a split transaction. Whoever is no hub is silent.
    fn split(&mut self, _split: Split, _token: Token, _data: Option<&Packet>) -> Response {
        Response::Silence
    }

    /// 125 microseconds begin.
    fn microframe(&mut self) {}

    /// Whether it signals remote wake-up while it is suspended (11.9).
    fn wakes(&mut self) -> bool {
        false
    }
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn speed(&self) -> Speed {
        (**self).speed()
    }

    fn reset(&mut self) {
        (**self).reset();
    }

    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response {
        (**self).transaction(token, data)
    }

    fn acknowledge(&mut self, token: Token) {
        (**self).acknowledge(token);
    }

    fn split(&mut self, split: Split, token: Token, data: Option<&Packet>) -> Response {
        (**self).split(split, token, data)
    }

    fn microframe(&mut self) {
        (**self).microframe();
    }

    fn wakes(&mut self) -> bool {
        (**self).wakes()
    }
}

/// A device that its test keeps a hand on while it is plugged in.
impl<D: Device> Device for std::rc::Rc<std::cell::RefCell<D>> {
    fn speed(&self) -> Speed {
        self.borrow().speed()
    }

    fn reset(&mut self) {
        self.borrow_mut().reset();
    }

    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response {
        self.borrow_mut().transaction(token, data)
    }

    fn acknowledge(&mut self, token: Token) {
        self.borrow_mut().acknowledge(token);
    }

    fn split(&mut self, split: Split, token: Token, data: Option<&Packet>) -> Response {
        self.borrow_mut().split(split, token, data)
    }

    fn microframe(&mut self) {
        self.borrow_mut().microframe();
    }

    fn wakes(&mut self) -> bool {
        self.borrow_mut().wakes()
    }
}
