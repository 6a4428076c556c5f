//! Devices: what answers to one transaction. Toggles are checked as a real device checks them.

use crate::Speed;
use crate::layout::Pid;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Debug)]
pub enum Response {
    Ack,
    Nak,
    Stall,
    /// No handshake.
    Nothing,
    Data {
        bytes: Vec<u8>,
        toggle: bool,
    },
}

pub trait Device {
    fn address(&self) -> u8;
    fn speed(&self) -> Speed;
    fn reset(&mut self);
    fn transaction(&mut self, pid: Pid, endpoint: u8, toggle: bool, packet: &[u8]) -> Response;
    /// An isochronous packet: takes it, or gives one; nothing is no answer.
    fn isochronous(&mut self, pid: Pid, endpoint: u8, packet: &[u8]) -> Option<Vec<u8>>;
}

/// What a stick does instead of what it should, transaction by transaction.
pub type Fault = Box<dyn FnMut(Pid, u8) -> Option<Response>>;

/// What tests look at and change while the stick is plugged in.
#[derive(Default)]
pub struct Shared {
    pub disk: Vec<u8>,
    pub fault: Option<Fault>,
    /// Data packets that endpoint 3 (interrupt IN) has to give.
    pub reports: VecDeque<Vec<u8>>,
    /// Everything received on endpoint 4 (bulk OUT), packet by packet.
    pub sink: Vec<Vec<u8>>,
    /// Packets that endpoint 5 (bulk IN) has to give.
    pub source: VecDeque<Vec<u8>>,
    /// Packets that endpoint 6 (isochronous IN) has to give, one a (micro)frame.
    pub microphone: VecDeque<Vec<u8>>,
    /// Everything received on endpoint 7 (isochronous OUT), packet by packet.
    pub speaker: Vec<Vec<u8>>,
    /// SETUP packets, in order.
    pub setups: Vec<[u8; 8]>,
    /// Control data stages received.
    pub control_data: Vec<u8>,
    pub stall_commands: bool,
}

/// A high-speed mass-storage stick: bulk IN 1, bulk OUT 2, and endpoints 3 to 5 for tests.
pub struct Stick {
    address: u8,
    new_address: Option<u8>,
    speed: Speed,
    setup: [u8; 8],
    control_in: VecDeque<u8>,
    control_toggle: bool,
    control_stalled: bool,
    /// Toggle of each endpoint; halted endpoints.
    toggles: [bool; 16],
    halted: [bool; 16],
    data_in: VecDeque<u8>,
    data_out: usize,
    write_at: usize,
    csw: Option<[u8; 13]>,
    pub shared: Rc<RefCell<Shared>>,
}

const DEVICE: [u8; 18] = [18, 1, 0, 2, 0, 0, 0, 64, 0xf4, 0x46, 1, 0, 0, 1, 0, 0, 0, 1];
const CONFIGURATION: [u8; 32] = [
    9, 2, 32, 0, 1, 1, 0, 0x80, 50, // configuration
    9, 4, 0, 0, 2, 8, 6, 0x50, 0, // interface: mass storage, SCSI, Bulk-Only
    7, 5, 0x81, 2, 0, 2, 0, // bulk IN 1, 512 bytes
    7, 5, 0x02, 2, 0, 2, 0, // bulk OUT 2, 512 bytes
];

impl Stick {
    pub fn new(blocks: usize) -> Self {
        let disk = (0..blocks * 512)
            .map(|at| (at / 512 * 7 + at * 13) as u8)
            .collect();
        Self {
            address: 0,
            new_address: None,
            speed: Speed::High,
            setup: [0; 8],
            control_in: VecDeque::new(),
            control_toggle: true,
            control_stalled: false,
            toggles: [false; 16],
            halted: [false; 16],
            data_in: VecDeque::new(),
            data_out: 0,
            write_at: 0,
            csw: None,
            shared: Rc::new(RefCell::new(Shared {
                disk,
                ..Shared::default()
            })),
        }
    }

    pub fn with_speed(speed: Speed) -> Self {
        Self {
            speed,
            ..Self::new(1)
        }
    }

    fn control(&mut self, pid: Pid, toggle: bool, packet: &[u8]) -> Response {
        match pid {
            Pid::Setup => {
                assert!(!toggle, "SETUP is DATA0 (USB 2.0, 8.6.1)");
                self.setup = packet.try_into().expect("SETUP has eight bytes");
                self.shared.borrow_mut().setups.push(self.setup);
                self.control_toggle = true;
                self.control_stalled = false;
                self.control_in.clear();
                self.begin_request();
                Response::Ack
            }
            _ if self.control_stalled => Response::Stall,
            Pid::In => {
                if self.setup[0] & 0x80 == 0
                    || u16::from_le_bytes([self.setup[6], self.setup[7]]) == 0
                {
                    assert!(toggle, "the status stage is DATA1 (USB 2.0, 8.5.3)");
                    self.address = self.new_address.take().unwrap_or(self.address);
                    return Response::Data {
                        bytes: vec![],
                        toggle: true,
                    };
                }
                let count = self.control_in.len().min(64);
                let bytes = self.control_in.drain(..count).collect();
                let toggle = self.control_toggle;
                self.control_toggle ^= true;
                Response::Data { bytes, toggle }
            }
            Pid::Out => {
                if self.setup[0] & 0x80 != 0 {
                    assert!(
                        toggle && packet.is_empty(),
                        "the status stage is an empty DATA1"
                    );
                } else {
                    assert_eq!(
                        toggle, self.control_toggle,
                        "toggles of the data stage alternate"
                    );
                    self.control_toggle ^= true;
                    self.shared.borrow_mut().control_data.extend(packet);
                }
                Response::Ack
            }
        }
    }

    fn begin_request(&mut self) {
        let [kind, request, low, high, index, ..] = self.setup;
        let length = u16::from_le_bytes([self.setup[6], self.setup[7]]) as usize;
        let data: Vec<u8> = match (kind, request) {
            (0x80, 6) if high == 1 => DEVICE.to_vec(),
            (0x80, 6) if high == 2 => CONFIGURATION.to_vec(),
            (0x00, 5) => {
                self.new_address = Some(low);
                vec![]
            }
            (0x00, 9) => {
                self.toggles = [false; 16];
                vec![]
            }
            (0x02, 1) => {
                let endpoint = usize::from(index & 15);
                self.halted[endpoint] = false;
                self.toggles[endpoint] = false;
                vec![]
            }
            // CLEAR_TT_BUFFER, as a hub takes it.
            (0x23, 8) => vec![],
            (0xa1, 0xfe) => vec![0],
            (0x21, 0xff) => {
                self.csw = None;
                self.data_in.clear();
                self.data_out = 0;
                vec![]
            }
            // For tests: as many bytes as asked for, and a request with data to the device.
            (0xc0, 0x55) => (0..length).map(|at| at as u8).collect(),
            (0x40, 0x55) => vec![],
            _ => {
                self.control_stalled = true;
                return;
            }
        };
        self.control_in = data.into_iter().take(length).collect();
    }

    fn bulk_in(&mut self, endpoint: usize, bytes: Option<Vec<u8>>) -> Response {
        if self.halted[endpoint] {
            return Response::Stall;
        }
        match bytes {
            None => Response::Nak,
            Some(bytes) => {
                let toggle = self.toggles[endpoint];
                self.toggles[endpoint] ^= true;
                Response::Data { bytes, toggle }
            }
        }
    }

    fn command(&mut self, cbw: &[u8]) {
        assert_eq!((cbw.len(), &cbw[..4]), (31, &b"USBC"[..]));
        let length = u32::from_le_bytes(cbw[8..12].try_into().unwrap()) as usize;
        let cdb = &cbw[15..31];
        let lba = u32::from_be_bytes(cdb[2..6].try_into().unwrap()) as usize;
        let blocks = u16::from_be_bytes(cdb[7..9].try_into().unwrap()) as usize;
        let shared = self.shared.borrow();
        let mut failed = false;
        let data = match cdb[0] {
            0x00 => vec![],
            0x03 => vec![0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0],
            0x12 => {
                let mut inquiry = vec![0, 0x80, 4, 2, 31, 0, 0, 0];
                inquiry.extend(b"WIISTICKTest stick      1.00");
                inquiry
            }
            0x25 => {
                let last = (shared.disk.len() / 512 - 1) as u32;
                [last.to_be_bytes(), 512u32.to_be_bytes()].concat()
            }
            0x28 => shared.disk[lba * 512..(lba + blocks) * 512].to_vec(),
            0x2a => {
                self.data_out = blocks * 512;
                self.write_at = lba * 512;
                vec![]
            }
            _ => {
                failed = true;
                vec![]
            }
        };
        let residue = (length - self.data_out).saturating_sub(data.len());
        if shared.stall_commands && failed && length != 0 {
            self.halted[1] = true;
        }
        drop(shared);
        self.data_in = data.into_iter().take(length).collect();
        let mut csw = [0; 13];
        csw[..4].copy_from_slice(b"USBS");
        csw[4..8].copy_from_slice(&cbw[4..8]);
        csw[8..12].copy_from_slice(&(residue as u32).to_le_bytes());
        csw[12] = u8::from(failed);
        self.csw = Some(csw);
    }
}

impl Device for Stick {
    fn address(&self) -> u8 {
        self.address
    }

    fn speed(&self) -> Speed {
        self.speed
    }

    fn reset(&mut self) {
        self.address = 0;
        self.toggles = [false; 16];
        self.halted = [false; 16];
        self.csw = None;
        self.data_in.clear();
        self.data_out = 0;
    }

    fn isochronous(&mut self, pid: Pid, endpoint: u8, packet: &[u8]) -> Option<Vec<u8>> {
        let mut shared = self.shared.borrow_mut();
        match (endpoint, pid) {
            (6, Pid::In) => shared.microphone.pop_front(),
            (7, Pid::Out) => {
                shared.speaker.push(packet.to_vec());
                Some(vec![])
            }
            _ => None,
        }
    }

    fn transaction(&mut self, pid: Pid, endpoint: u8, toggle: bool, packet: &[u8]) -> Response {
        let fault = self.shared.borrow_mut().fault.take();
        if let Some(mut fault) = fault {
            let response = fault(pid, endpoint);
            self.shared.borrow_mut().fault = Some(fault);
            if let Some(response) = response {
                if matches!(response, Response::Stall) {
                    self.halted[usize::from(endpoint)] = endpoint != 0;
                    // A stalled data phase is over: what follows is the status.
                    self.data_in.clear();
                    self.data_out = 0;
                }
                return response;
            }
        }
        match (endpoint, pid) {
            (0, _) => self.control(pid, toggle, packet),
            (1, Pid::In) => {
                if self.halted[1] {
                    return Response::Stall;
                }
                let bytes = if !self.data_in.is_empty() {
                    let count = self.data_in.len().min(512);
                    Some(self.data_in.drain(..count).collect())
                } else if self.data_out != 0 {
                    None
                } else {
                    self.csw.take().map(|csw| csw.to_vec())
                };
                self.bulk_in(1, bytes)
            }
            (2, Pid::Out) => {
                if toggle != self.toggles[2] {
                    return Response::Ack;
                }
                self.toggles[2] ^= true;
                if self.data_out != 0 {
                    let mut shared = self.shared.borrow_mut();
                    shared.disk[self.write_at..self.write_at + packet.len()]
                        .copy_from_slice(packet);
                    self.write_at += packet.len();
                    self.data_out -= packet.len();
                } else {
                    self.command(packet);
                }
                Response::Ack
            }
            (3, Pid::In) => {
                let report = self.shared.borrow_mut().reports.pop_front();
                self.bulk_in(3, report)
            }
            (4, Pid::Out) => {
                if self.halted[4] {
                    return Response::Stall;
                }
                if toggle == self.toggles[4] {
                    self.toggles[4] ^= true;
                    self.shared.borrow_mut().sink.push(packet.to_vec());
                }
                Response::Ack
            }
            (5, Pid::In) => {
                if self.halted[5] {
                    return Response::Stall;
                }
                let packet = self.shared.borrow_mut().source.pop_front();
                self.bulk_in(5, packet)
            }
            _ => Response::Stall,
        }
    }
}
