//! A USB host driver with one stick on it that speaks Bulk-Only Transport and SCSI, and misbehaves
//! on demand.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use embassy_usb_driver::host::{
    HostError, PipeError, SplitInfo, TimeoutConfig, UsbHostAllocator, UsbPipe, pipe,
};
use embassy_usb_driver::{EndpointInfo, EndpointType, Speed};
use embassy_usb_host::BusRoute;
use embassy_usb_host::descriptor::{DeviceDescriptor, USBDescriptor};
use embassy_usb_host::handler::EnumerationInfo;

/// One thing that the stick does wrong when its turn comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Fails the next READ with this sense key, code and qualifier.
    Sense(u8, u8, u8),
    /// Delivers half of the data of the next READ and claims that it was all.
    ShortData,
    /// Answers the next READ's data phase with a stall, then claims success.
    StallData,
    /// Sends a command status with a wrong tag after the next READ.
    WrongTag,
    /// Reports a phase error after the next READ.
    PhaseError,
    /// Never answers the next READ's data phase.
    Silence,
    /// Is unplugged at the next READ.
    Unplug,
}

/// The state of the stick.
pub struct FakeStick {
    pub block_size: u32,
    pub data: Vec<u8>,
    pub peripheral: u8,
    pub names: &'static [u8; 24],
    /// Answers to the first TEST UNIT READYs; ready when used up.
    pub not_ready: VecDeque<(u8, u8, u8)>,
    /// Faults of the next READs, in order.
    pub faults: VecDeque<Fault>,
    /// Operation codes of all commands.
    pub commands: Vec<u8>,
    /// Number of Bulk-Only Mass Storage Resets.
    pub resets: u32,
    /// Capacity claimed by READ CAPACITY (10), if not that of the data: last block and block size.
    pub capacity: Option<(u32, u32)>,
    sense: (u8, u8, u8),
    state: State,
    gone: bool,
}

enum State {
    Idle,
    DataIn {
        data: Vec<u8>,
        status: Vec<u8>,
        stall: bool,
    },
    Status(Vec<u8>),
    Silent,
}

impl FakeStick {
    pub fn new(block_size: u32, data: Vec<u8>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            block_size,
            data,
            peripheral: 0,
            names: b"ACME    Stick           ",
            not_ready: VecDeque::new(),
            faults: VecDeque::new(),
            commands: vec![],
            resets: 0,
            capacity: None,
            sense: (0, 0, 0),
            state: State::Idle,
            gone: false,
        }))
    }

    fn status(tag: &[u8], residue: u32, status: u8) -> Vec<u8> {
        let mut csw = b"USBS".to_vec();
        csw.extend_from_slice(tag);
        csw.extend_from_slice(&residue.to_le_bytes());
        csw.push(status);
        csw
    }

    /// Takes a command block wrapper.
    fn command(&mut self, cbw: &[u8]) {
        assert_eq!(cbw.len(), 31);
        assert_eq!(&cbw[..4], b"USBC");
        let tag: Vec<u8> = cbw[4..8].to_vec();
        let length = u32::from_le_bytes(cbw[8..12].try_into().unwrap()) as usize;
        let cdb = &cbw[15..31];
        self.commands.push(cdb[0]);
        let word = |at: usize| u32::from_be_bytes(cdb[at..at + 4].try_into().unwrap());
        let mut fail = |sense| {
            self.sense = sense;
            None
        };
        let data = match cdb[0] {
            0x00 => match self.not_ready.pop_front() {
                Some(sense) => fail(sense),
                None => Some(vec![]),
            },
            0x03 => {
                let mut data = vec![0; 18];
                (data[0], data[2], data[12], data[13]) =
                    (0x70, self.sense.0, self.sense.1, self.sense.2);
                self.sense = (0, 0, 0);
                Some(data)
            }
            0x12 => {
                let mut data = vec![self.peripheral, 0x80, 4, 2, 31, 0, 0, 0];
                data.extend_from_slice(self.names);
                data.extend_from_slice(b"1.00");
                Some(data)
            }
            0x25 => {
                let own = (
                    self.data.len() as u32 / self.block_size - 1,
                    self.block_size,
                );
                let (last, size) = self.capacity.unwrap_or(own);
                Some([last.to_be_bytes(), size.to_be_bytes()].concat())
            }
            0x28 => {
                let blocks = u16::from_be_bytes([cdb[7], cdb[8]]);
                let start = word(2) as usize * self.block_size as usize;
                let bytes = usize::from(blocks) * self.block_size as usize;
                assert_eq!(bytes, length, "the wrapper and the command agree");
                match self.faults.front() {
                    Some(Fault::Sense(key, code, qualifier)) => {
                        let sense = (*key, *code, *qualifier);
                        self.faults.pop_front();
                        fail(sense)
                    }
                    _ => match self.data.get(start..start + bytes) {
                        Some(data) => Some(data.to_vec()),
                        None => fail((5, 0x21, 0)),
                    },
                }
            }
            _ => fail((5, 0x20, 0)),
        };
        let Some(mut data) = data else {
            let status = Self::status(&tag, length as u32, 1);
            // Bulk-Only Transport, section 6.7.2: a device that has no data for the host stalls.
            self.state = match length {
                0 => State::Status(status),
                _ => State::DataIn {
                    data: vec![],
                    status,
                    stall: true,
                },
            };
            return;
        };
        data.truncate(length);
        let mut status = Self::status(&tag, (length - data.len()) as u32, 0);
        let mut stall = false;
        if cdb[0] == 0x28
            && let Some(fault) = self.faults.pop_front()
        {
            match fault {
                Fault::ShortData => data.truncate(length / 2),
                Fault::StallData => (stall, data) = (true, vec![]),
                Fault::WrongTag => status[4] ^= 0xFF,
                Fault::PhaseError => status[12] = 2,
                Fault::Silence => {
                    self.state = State::Silent;
                    return;
                }
                Fault::Unplug => self.gone = true,
                Fault::Sense(..) => unreachable!(),
            }
        }
        self.state = match length {
            0 => State::Status(status),
            _ => State::DataIn {
                data,
                status,
                stall,
            },
        };
    }

    fn bulk_in(&mut self, buffer: &mut [u8]) -> Option<Result<usize, PipeError>> {
        if self.gone {
            return Some(Err(PipeError::Disconnected));
        }
        match core::mem::replace(&mut self.state, State::Idle) {
            State::DataIn {
                status,
                stall: true,
                ..
            } => {
                self.state = State::Status(status);
                Some(Err(PipeError::Stall))
            }
            State::DataIn { data, status, .. } => {
                assert!(data.len() <= buffer.len());
                buffer[..data.len()].copy_from_slice(&data);
                self.state = State::Status(status);
                Some(Ok(data.len()))
            }
            State::Status(status) => {
                buffer[..status.len()].copy_from_slice(&status);
                Some(Ok(status.len()))
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    fn bulk_out(&mut self, buffer: &[u8]) -> Option<Result<(), PipeError>> {
        if self.gone {
            return Some(Err(PipeError::Disconnected));
        }
        match self.state {
            State::Idle => {
                self.command(buffer);
                Some(Ok(()))
            }
            _ => None,
        }
    }

    fn control(&mut self, setup: &[u8; 8]) -> Result<(), PipeError> {
        if self.gone {
            return Err(PipeError::Disconnected);
        }
        match (setup[0], setup[1]) {
            // Bulk-Only Mass Storage Reset.
            (0x21, 0xFF) => {
                self.resets += 1;
                self.state = State::Idle;
                Ok(())
            }
            // CLEAR FEATURE (ENDPOINT HALT).
            (0x02, 0x01) => Ok(()),
            _ => Err(PipeError::Stall),
        }
    }
}

/// The driver: hands out pipes to the one stick.
#[derive(Clone)]
pub struct FakeDriver(pub Rc<RefCell<FakeStick>>);

pub struct FakePipe(Rc<RefCell<FakeStick>>);

impl UsbHostAllocator<'static> for FakeDriver {
    type Pipe<T: pipe::Type, D: pipe::Direction> = FakePipe;

    fn alloc_pipe<T: pipe::Type, D: pipe::Direction>(
        &self,
        _: u8,
        endpoint: &EndpointInfo,
        _: Option<SplitInfo>,
    ) -> Result<FakePipe, HostError> {
        assert!(matches!(
            endpoint.ep_type,
            EndpointType::Control | EndpointType::Bulk
        ));
        Ok(FakePipe(self.0.clone()))
    }
}

impl<T: pipe::Type, D: pipe::Direction> UsbPipe<T, D> for FakePipe {
    async fn control_in(&mut self, setup: &[u8; 8], _: &mut [u8]) -> Result<usize, PipeError>
    where
        T: pipe::IsControl,
        D: pipe::IsIn,
    {
        // GET MAX LUN: stalling means that there is one.
        self.0.borrow_mut().control(setup).map(|()| 0)
    }

    async fn control_out(&mut self, setup: &[u8; 8], _: &[u8]) -> Result<(), PipeError>
    where
        T: pipe::IsControl,
        D: pipe::IsOut,
    {
        self.0.borrow_mut().control(setup)
    }

    async fn request_in(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        D: pipe::IsIn,
    {
        let answer = self.0.borrow_mut().bulk_in(buffer);
        match answer {
            Some(answer) => answer,
            None => core::future::pending().await, // NAK for ever.
        }
    }

    async fn request_out(&mut self, buffer: &[u8], _: bool) -> Result<(), PipeError>
    where
        D: pipe::IsOut,
    {
        let answer = self.0.borrow_mut().bulk_out(buffer);
        match answer {
            Some(answer) => answer,
            None => core::future::pending().await,
        }
    }

    fn set_timeout(&mut self, _: TimeoutConfig)
    where
        T: pipe::IsControl,
    {
    }

    fn reset_data_toggle(&mut self)
    where
        T: pipe::IsBulkOrInterrupt,
    {
    }
}

/// What enumeration says about the stick.
pub fn enumeration() -> EnumerationInfo {
    #[rustfmt::skip]
    let descriptor = [18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xF4, 0x46, 0x01, 0x00, 0, 1, 1, 2, 3, 1];
    EnumerationInfo {
        device_address: 1,
        route: BusRoute::Direct(Speed::High),
        device_desc: DeviceDescriptor::try_from_bytes(&descriptor).unwrap(),
    }
}

/// The stick's configuration: one interface, SCSI over Bulk-Only Transport, endpoints 0x81 and 0x02.
#[rustfmt::skip]
pub const CONFIGURATION: [u8; 32] = [
    9, 0x02, 32, 0, 1, 1, 0, 0x80, 50,
    9, 0x04, 0, 0, 2, 0x08, 0x06, 0x50, 0,
    7, 0x05, 0x81, 0x02, 0x00, 0x02, 0,
    7, 0x05, 0x02, 0x02, 0x00, 0x02, 0,
];
