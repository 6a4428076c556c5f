//! A driver on the machine, with the steps that most tests begin with.

use super::controller::Machine;
use super::device::{Shared, Stick};
use super::memory::Ram;
use crate::memory::{Buffer, Dma};
use crate::{
    Direction, Ehci, Endpoint, Kind, PipeId, PortChange, Request, Speed, TransferError, TransferId,
};
use std::cell::RefCell;
use std::rc::Rc;

pub struct Rig {
    pub machine: Machine,
    pub ehci: Ehci<Machine, Rc<Ram>, Machine>,
}

pub fn endpoint(number: u8, kind: Kind) -> Endpoint {
    Endpoint {
        address: 0,
        number,
        kind,
        speed: Speed::High,
        max_packet: if kind == Kind::Control { 64 } else { 512 },
        interval: if matches!(kind, Kind::Interrupt(_)) {
            4
        } else {
            0
        },
        translator: None,
        root_port: Some(0),
    }
}

impl Rig {
    /// A started driver without a device.
    pub fn new() -> Self {
        let machine = Machine::new();
        let mut ehci = Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
        ehci.start().unwrap();
        Self { machine, ehci }
    }

    /// A started driver with a stick that was reset and answers at address zero.
    pub fn with_stick() -> (Self, Rc<RefCell<Shared>>) {
        let mut rig = Self::new();
        let stick = Stick::new(64);
        let shared = stick.shared.clone();
        rig.machine.plug(0, Box::new(stick));
        rig.attach(0);
        (rig, shared)
    }

    /// Waits for a plugged device, and resets it.
    pub fn attach(&mut self, port: u8) {
        assert_eq!(self.port_event(), (port, PortChange::Attached));
        assert!(self.ehci.reset_port(port));
        assert_eq!(self.port_event(), (port, PortChange::Enabled));
    }

    /// One microframe, then a look.
    pub fn step(&mut self) {
        self.machine.advance(125);
        self.ehci.poll();
    }

    pub fn port_event(&mut self) -> (u8, PortChange) {
        for _ in 0..4000 {
            self.step();
            if let Some(event) = self.ehci.take_port_event() {
                return (event.port, event.change);
            }
        }
        panic!("no port event in half a second");
    }

    /// Runs a transfer to its end, within a second.
    pub fn finish(&mut self, id: TransferId) -> (Result<(), TransferError>, usize, Vec<u8>) {
        for _ in 0..8000 {
            if let Some(end) = self.ehci.take(id) {
                let mut bytes = vec![0; end.bytes];
                if let Some(mut buffer) = end.buffer {
                    buffer.copy_received(&mut bytes);
                }
                return (end.status, end.bytes, bytes);
            }
            self.step();
        }
        panic!("transfer does not end");
    }

    pub fn open(&mut self, number: u8, kind: Kind) -> PipeId {
        self.ehci.open(&endpoint(number, kind)).unwrap()
    }

    pub fn control_in(
        &mut self,
        pipe: PipeId,
        setup: [u8; 8],
    ) -> (Result<(), TransferError>, Vec<u8>) {
        let size = u16::from_le_bytes([setup[6], setup[7]]).into();
        let buffer = (size != 0).then(|| self.machine.ram.incoming(size).unwrap());
        let id = self.ehci.control(pipe, setup, buffer, None).unwrap();
        let (status, _, bytes) = self.finish(id);
        (status, bytes)
    }

    pub fn start_in(&mut self, pipe: PipeId, size: usize) -> TransferId {
        let buffer = self.machine.ram.incoming(size).unwrap();
        self.ehci.submit(pipe, Request::new(buffer)).unwrap()
    }

    pub fn bulk_in(&mut self, pipe: PipeId, size: usize) -> (Result<(), TransferError>, Vec<u8>) {
        let id = self.start_in(pipe, size);
        let (status, _, bytes) = self.finish(id);
        (status, bytes)
    }

    pub fn bulk_out(&mut self, pipe: PipeId, data: &[u8]) -> (Result<(), TransferError>, usize) {
        let buffer = self.machine.ram.outgoing(data).unwrap();
        let id = self.ehci.submit(pipe, Request::new(buffer)).unwrap();
        let (status, count, _) = self.finish(id);
        (status, count)
    }

    pub fn settle(&mut self) {
        for _ in 0..200 {
            self.step();
        }
    }

    pub const IN: Kind = Kind::Bulk(Direction::In);
    pub const OUT: Kind = Kind::Bulk(Direction::Out);
}
