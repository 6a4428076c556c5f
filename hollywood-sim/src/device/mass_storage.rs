//! A stick: Bulk-Only Transport (revision 1.0) in front of disks. Sections and cases are those of that document.

use super::descriptor::{self, Descriptors, DeviceDescriptor};
use super::disk::{Data, Disk, Sense};
use super::{Delivery, Function, Sent, Setup, Speed, Stall, Trick};

/// What a stick does when it has less data than the host expects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Short {
    /// Halts the endpoint after what there is, as most do.
    #[default]
    Stall,
    /// Ends with a short packet, an empty one if it must be.
    Packet,
    /// Sends zeros up to what is expected, or takes what nobody wants.
    Pad,
}

/// A mass-storage stick: bulk IN endpoint 1, bulk OUT endpoint 2.
#[derive(Debug)]
pub struct MassStorage {
    /// The logical units, 1 to 16.
    pub disks: Vec<Disk>,
    /// Its descriptors, to be made hostile.
    pub descriptors: Descriptors,
    /// What it does when it has less data than the host expects.
    pub short: Short,
    /// Microframes from a command to its data.
    pub latency: u32,
    /// The command blocks that it was given.
    pub commands: Vec<Vec<u8>>,
    /// What it does wrong: with the command after so many others, counted from now.
    pub tricks: Vec<(usize, Trick)>,
    speed: Speed,
    busy: u32,
    /// That of the command which is carried out.
    trick: Option<Trick>,
    state: State,
}

/// What comes next on the bulk pipes.
#[derive(Debug)]
enum State {
    Command,
    In(Transfer),
    Out(Transfer),
    /// The host has to clear a halt, which is to come or came, before it reads the status.
    Status(Status),
    /// After something that was no command block wrapper: halted until the reset (6.6.1).
    Lost,
}

#[derive(Debug)]
struct Transfer {
    unit: usize,
    data: Source,
    /// Bytes that there are, or that are wanted.
    left: u64,
    /// Bytes that the host expects to move.
    expected: u64,
    status: Status,
}

/// What moves.
#[derive(Debug)]
enum Source {
    Nothing,
    Bytes(Vec<u8>),
    Medium(u64),
}

/// The command status wrapper to be (5.2).
#[derive(Clone, Copy, Debug)]
struct Status {
    tag: u32,
    residue: u32,
    code: u8,
}

const PASSED: u8 = 0;
const FAILED: u8 = 1;
pub(super) const PHASE_ERROR: u8 = 2;
const IN: u8 = 1;
const OUT: u8 = 2;

/// A command block wrapper (5.1).
struct Command<'a> {
    tag: u32,
    length: u32,
    is_in: bool,
    unit: u8,
    block: &'a [u8],
}

impl<'a> Command<'a> {
    /// Decodes one that is valid and meaningful (6.2).
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; 31] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let size = usize::from(bytes[14]);
        let valid = bytes[..4] == *b"USBC" && bytes[13] & 0xf0 == 0 && (1..=16).contains(&size);
        valid.then(|| Self {
            tag: word(4),
            length: word(8),
            is_in: bytes[12] & 0x80 != 0,
            unit: bytes[13],
            block: &bytes[15..15 + size],
        })
    }
}

impl MassStorage {
    /// Makes a high-speed stick.
    pub fn new(disks: impl IntoIterator<Item = Disk>) -> Self {
        Self::with_speed(Speed::High, disks)
    }

    /// Makes a full-speed or high-speed stick.
    pub fn with_speed(speed: Speed, disks: impl IntoIterator<Item = Disk>) -> Self {
        let bulk = if speed == Speed::High { 512 } else { 64 };
        let device = DeviceDescriptor {
            class: [0; 3],
            max_packet: 64,
            vendor: 0x1209,
            product: 0x0001,
            strings: [1, 2, 3],
        };
        let rest = [
            descriptor::interface(2, [8, 6, 0x50]),
            descriptor::endpoint(0x80 | IN, 2, bulk, 0),
            descriptor::endpoint(OUT, 2, bulk, 0),
        ];
        let strings = ["wiistick", "simulated stick", "000000000001"];
        // Speed-independent values of the other speed (9.6.2).
        let qualifier = vec![10, 6, 0, 2, 0, 0, 0, 64, 1, 0];
        Self {
            disks: disks.into_iter().collect(),
            descriptors: Descriptors {
                device: descriptor::device(device),
                configuration: descriptor::configuration(1, &rest),
                strings: strings.map(String::from).into(),
                others: vec![(6, qualifier)],
            },
            short: Short::default(),
            latency: 0,
            commands: Vec::new(),
            tricks: Vec::new(),
            trick: None,
            speed,
            busy: 0,
            state: State::Command,
        }
    }

    fn command(&mut self, bytes: &[u8]) -> Delivery {
        let Some(command) = Command::decode(bytes) else {
            self.state = State::Lost;
            return Delivery::Stall;
        };
        self.commands.push(command.block.to_vec());
        self.trick = self.next_trick();
        self.busy = match self.trick {
            Some(Trick::Hang) => u32::MAX,
            _ => self.latency,
        };
        if self.trick == Some(Trick::StallCommand) {
            return Delivery::Stall;
        }
        let unit = usize::from(command.unit);
        let begun = match self.disks.get_mut(unit) {
            Some(disk) => disk.begin(command.block),
            None => Err(Sense::UNIT),
        };
        let code = if begun.is_ok() { PASSED } else { FAILED };
        let (data, there, to_host) = match begun.unwrap_or(Data::None) {
            Data::None => (Source::Nothing, 0, command.is_in),
            Data::Reply(bytes) => {
                let len = bytes.len() as u64;
                (Source::Bytes(bytes), len, true)
            }
            Data::Read { at, len } => (Source::Medium(at), len, true),
            Data::Write { at, len } => (Source::Medium(at), len, false),
        };
        let mut transfer = Transfer {
            unit,
            data,
            left: there,
            expected: command.length.into(),
            status: Status {
                tag: command.tag,
                residue: command.length,
                code,
            },
        };
        // Host and device disagree about what moves: cases 2, 3, 7, 8, 10, 13 (6.7).
        let other_way = to_host != command.is_in && command.length != 0;
        if other_way || there > transfer.expected {
            transfer.status.code = PHASE_ERROR;
            transfer.left = if other_way { 0 } else { transfer.expected };
        }
        match self.trick {
            Some(Trick::StallData) => {
                transfer.data = Source::Nothing;
                transfer.left = 0;
                transfer.status.code = FAILED;
            }
            Some(Trick::ShortData(bytes)) => transfer.left = transfer.left.min(bytes.into()),
            _ => {}
        }
        self.state = match (command.length, command.is_in) {
            (0, _) => State::Status(transfer.status),
            (_, true) => State::In(transfer),
            (_, false) => State::Out(transfer),
        };
        Delivery::Taken
    }

    fn next_trick(&mut self) -> Option<Trick> {
        let due = self.tricks.iter().position(|(skip, _)| *skip == 0);
        let trick = due.map(|at| self.tricks.remove(at).1);
        for (skip, _) in &mut self.tricks {
            *skip = skip.saturating_sub(1);
        }
        trick
    }

    /// The next packet of the data for the host.
    fn data_in(&mut self, mut transfer: Transfer, max: usize) -> Sent {
        let size = transfer.left.min(max as u64) as usize;
        let mut packet = match &mut transfer.data {
            Source::Bytes(bytes) => bytes.drain(..size).collect(),
            _ => vec![0; size],
        };
        if let (Source::Medium(at), 1..) = (&mut transfer.data, size) {
            if self.disks[transfer.unit].read(*at, &mut packet).is_err() {
                transfer.status.code = FAILED;
                transfer.left = 0;
                packet.clear();
            }
            *at += packet.len() as u64;
        }
        transfer.move_on(packet.len());
        if transfer.left != 0 || transfer.expected == 0 {
            if let (Some(Trick::LongData(more)), 0) = (self.trick, transfer.expected) {
                packet.resize(packet.len() + more as usize, 0xee);
            }
            self.state = transfer.then(State::In);
            return Sent::Packet(packet);
        }
        // Less than expected: cases 4 and 5.
        let short = match self.trick {
            Some(Trick::StallData) => Short::Stall,
            Some(Trick::ShortData(_)) => Short::Packet,
            _ => self.short,
        };
        match short {
            Short::Pad => {
                let pad = max.min(packet.len() + transfer.expected as usize) - packet.len();
                packet.resize(packet.len() + pad, 0);
                transfer.expected -= pad as u64;
                self.state = transfer.then(State::In);
                Sent::Packet(packet)
            }
            Short::Packet if packet.len() < max => {
                self.state = State::Status(transfer.status);
                Sent::Packet(packet)
            }
            Short::Stall if packet.is_empty() => {
                self.state = State::Status(transfer.status);
                Sent::Stall
            }
            // One more packet, or the halt, follows.
            Short::Packet | Short::Stall => {
                self.state = State::In(transfer);
                Sent::Packet(packet)
            }
        }
    }

    /// A packet of the data from the host.
    fn data_out(&mut self, mut transfer: Transfer, packet: &[u8]) -> Delivery {
        let stalls = self.short != Short::Pad || self.trick == Some(Trick::StallData);
        if transfer.left == 0 && stalls {
            // Nobody wants it: cases 9 to 11.
            self.state = State::Status(transfer.status);
            return Delivery::Stall;
        }
        let wanted = transfer.left.min(packet.len() as u64) as usize;
        if let (Source::Medium(at), 1..) = (&mut transfer.data, wanted) {
            if self.disks[transfer.unit]
                .write(*at, &packet[..wanted])
                .is_err()
            {
                transfer.status.code = FAILED;
                self.state = State::Status(transfer.status);
                return Delivery::Stall;
            }
            *at += wanted as u64;
        }
        transfer.move_on(wanted);
        transfer.expected = transfer
            .expected
            .saturating_sub((packet.len() - wanted) as u64);
        self.state = transfer.then(State::Out);
        Delivery::Taken
    }

    fn status(&mut self, status: Status) -> Sent {
        let trick = self.trick.take();
        if trick == Some(Trick::StallStatus) {
            self.state = State::Status(status);
            return Sent::Stall;
        }
        let Status { tag, residue, code } = status;
        self.state = State::Command;
        let mut packet = b"USBS".to_vec();
        packet.extend(tag.to_le_bytes());
        packet.extend(residue.to_le_bytes());
        packet.push(code);
        match trick {
            Some(Trick::Tag) => packet[4] ^= 1,
            Some(Trick::Signature) => packet[3] = b'C',
            Some(Trick::Status(code)) => packet[12] = code,
            Some(Trick::Residue(residue)) => {
                packet[8..12].copy_from_slice(&residue.to_le_bytes());
            }
            Some(Trick::StatusLength(len)) => packet.resize(len, 0),
            _ => {}
        }
        Sent::Packet(packet)
    }
}

impl Transfer {
    fn move_on(&mut self, moved: usize) {
        self.left -= moved as u64;
        self.expected -= moved as u64;
        self.status.residue -= moved as u32;
    }

    /// The status, once all that is expected has moved.
    fn then(self, state: fn(Self) -> State) -> State {
        match self.expected {
            0 => State::Status(self.status),
            _ => state(self),
        }
    }
}

impl Function for MassStorage {
    fn speed(&self) -> Speed {
        self.speed
    }

    fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn reset(&mut self) {
        self.state = State::Command;
        self.busy = 0;
        self.trick = None;
    }

    fn request(&mut self, setup: Setup, _data: &[u8]) -> Result<Vec<u8>, Stall> {
        match (setup.kind, setup.request) {
            // Bulk-Only Mass Storage Reset (3.1): ready for a command; halts stay.
            (0x21, 0xff) => {
                self.reset();
                Ok(Vec::new())
            }
            // Get Max LUN (3.2)
            (0xa1, 0xfe) => Ok(vec![(self.disks.len() as u8).saturating_sub(1)]),
            _ => Err(Stall),
        }
    }

    fn send(&mut self, endpoint: u8, max: usize) -> Sent {
        if endpoint != IN {
            return Sent::Stall;
        }
        if self.busy != 0 {
            return Sent::Nak;
        }
        match std::mem::replace(&mut self.state, State::Command) {
            State::In(transfer) => self.data_in(transfer, max),
            State::Status(status) => self.status(status),
            State::Lost => {
                self.state = State::Lost;
                Sent::Stall
            }
            other => {
                self.state = other;
                Sent::Nak
            }
        }
    }

    fn receive(&mut self, endpoint: u8, packet: &[u8]) -> Delivery {
        if endpoint != OUT {
            return Delivery::Stall;
        }
        if self.busy != 0 {
            return Delivery::Nak;
        }
        match std::mem::replace(&mut self.state, State::Command) {
            State::Command => self.command(packet),
            State::Out(transfer) => self.data_out(transfer, packet),
            // The host gave up on the status, or sends data where none are due; a command begins anew (5.3.3).
            State::In(_) | State::Status(_) => self.command(packet),
            State::Lost => {
                self.state = State::Lost;
                Delivery::Stall
            }
        }
    }

    fn has_room(&self, endpoint: u8) -> bool {
        endpoint == OUT && self.busy == 0
    }

    fn microframe(&mut self) {
        if self.busy != u32::MAX {
            self.busy = self.busy.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{End, Peripheral};
    use super::*;

    const BLOCK: usize = 512;

    fn stick() -> Peripheral<MassStorage> {
        let bytes = (0..8 * BLOCK).map(|at| (at / BLOCK) as u8 + 1).collect();
        let mut stick = MassStorage::new([Disk::of(512, bytes)]).plug();
        stick.control(Setup::set_configuration(1), &[]).unwrap();
        let _ = run(&mut stick, 0x80, 0, &[0; 6]);
        stick
    }

    fn wrapper(length: u32, flags: u8, block: &[u8]) -> Vec<u8> {
        let mut bytes = b"USBC\x78\x56\x34\x12".to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend([flags, 0, block.len() as u8]);
        bytes.extend(block);
        bytes.resize(31, 0);
        bytes
    }

    /// Residue and status; the status wrapper must be right otherwise.
    fn status(stick: &mut Peripheral<MassStorage>) -> (u32, u8) {
        let bytes = stick.transfer_in(1, 13).expect("a status");
        assert_eq!(
            (bytes.len(), &bytes[..8]),
            (13, &b"USBS\x78\x56\x34\x12"[..])
        );
        (
            u32::from_le_bytes(bytes[8..12].try_into().unwrap()),
            bytes[12],
        )
    }

    /// Runs a command with an IN data stage, or none, the way a host does.
    fn run(
        stick: &mut Peripheral<MassStorage>,
        flags: u8,
        length: u32,
        block: &[u8],
    ) -> (Vec<u8>, u32, u8) {
        stick
            .transfer_out(2, &wrapper(length, flags, block))
            .unwrap();
        let mut data = Vec::new();
        if length != 0 {
            data = match stick.transfer_in(1, length as usize) {
                Ok(data) => data,
                Err(End::Stall(data, _)) => {
                    stick.control(Setup::clear_halt(0x81), &[]).unwrap();
                    data
                }
                Err(end) => panic!("{end}"),
            };
        }
        let (residue, code) = status(stick);
        (data, residue, code)
    }

    const READ_TWO: [u8; 10] = [0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0];
    const WRITE_TWO: [u8; 10] = [0x2a, 0, 0, 0, 0, 3, 0, 0, 2, 0];

    #[test]
    fn case_1_nothing_moves() {
        assert_eq!(run(&mut stick(), 0, 0, &[0; 6]), (vec![], 0, 0));
    }

    #[test]
    fn cases_2_and_3_the_host_expects_nothing_and_there_is_something() {
        for command in [READ_TWO, WRITE_TWO] {
            assert_eq!(run(&mut stick(), 0x80, 0, &command).2, 2, "phase error");
        }
    }

    #[test]
    fn cases_4_and_5_less_than_expected_is_stalled_or_short_or_padded() {
        for (short, len) in [
            (Short::Stall, 1024),
            (Short::Packet, 1024),
            (Short::Pad, 1500),
        ] {
            let mut stick = stick();
            stick.function.short = short;
            let (data, residue, code) = run(&mut stick, 0x80, 1500, &READ_TWO);
            assert_eq!((data.len(), residue, code), (len, 476, 0), "{short:?}");
            assert_eq!((data[0], data[512]), (4, 5));
            let (data, residue, code) = run(&mut stick, 0x80, 512, &[0; 6]);
            let len = if short == Short::Pad { 512 } else { 0 };
            assert_eq!((data.len(), residue, code), (len, 512, 0), "{short:?}");
        }
    }

    #[test]
    fn case_6_as_much_as_expected() {
        let (data, residue, code) = run(&mut stick(), 0x80, 1024, &READ_TWO);
        assert_eq!(data, [[4; BLOCK], [5; BLOCK]].concat());
        assert_eq!((residue, code), (0, 0));
    }

    #[test]
    fn case_7_more_than_expected_is_a_phase_error_after_what_fits() {
        let (data, _, code) = run(&mut stick(), 0x80, 512, &READ_TWO);
        assert_eq!((data.len(), code), (512, 2));
    }

    #[test]
    fn case_8_data_the_other_way_are_stalled() {
        let (data, residue, code) = run(&mut stick(), 0x80, 1024, &WRITE_TWO);
        assert_eq!((data.len(), residue, code), (0, 1024, 2));
    }

    #[test]
    fn cases_9_to_11_unwanted_data_are_stalled() {
        for (command, taken, code) in [
            (&[0; 6][..], 0, 0),
            (&READ_TWO, 0, 2),
            (&WRITE_TWO, 1024, 0),
        ] {
            let mut stick = stick();
            stick.transfer_out(2, &wrapper(2048, 0, command)).unwrap();
            let end = stick.transfer_out(2, &[6; 2048]);
            assert_eq!(end, Err(End::Stall(vec![], taken)));
            assert_eq!(status(&mut stick), (2048 - taken as u32, code));
        }
    }

    #[test]
    fn case_12_what_is_written_is_there() {
        let mut stick = stick();
        stick
            .transfer_out(2, &wrapper(1024, 0, &WRITE_TWO))
            .unwrap();
        stick.transfer_out(2, &[7; 1024]).unwrap();
        assert_eq!(status(&mut stick), (0, 0));
        assert_eq!(run(&mut stick, 0x80, 1024, &READ_TWO).0, [7; 1024]);
    }

    #[test]
    fn case_13_more_wanted_than_the_host_has_is_a_phase_error() {
        let mut stick = stick();
        stick.transfer_out(2, &wrapper(512, 0, &WRITE_TWO)).unwrap();
        stick.transfer_out(2, &[7; 512]).unwrap();
        assert_eq!(status(&mut stick), (0, 2));
    }

    #[test]
    fn a_failed_command_has_sense_data_and_a_stalled_data_stage() {
        let mut stick = stick();
        let beyond = [0x28, 0, 0, 0, 0, 100, 0, 0, 1, 0];
        assert_eq!(run(&mut stick, 0x80, 512, &beyond), (vec![], 512, 1));
        let (sense, ..) = run(&mut stick, 0x80, 18, &[3, 0, 0, 0, 18, 0]);
        assert_eq!((sense[2], sense[12]), (5, 0x21));
    }

    #[test]
    fn after_an_invalid_command_only_the_reset_helps() {
        let mut stick = stick();
        let mut wrong = wrapper(0, 0, &[0; 6]);
        wrong[0] = b'X';
        assert!(stick.transfer_out(2, &wrong).is_err());
        stick.control(Setup::clear_halt(2), &[]).unwrap();
        assert!(stick.transfer_out(2, &wrapper(0, 0, &[0; 6])).is_err());
        assert!(stick.transfer_in(1, 13).is_err());
        let reset = Setup {
            kind: 0x21,
            request: 0xff,
            ..Setup::default()
        };
        stick.control(reset, &[]).unwrap();
        assert!(stick.is_halted(0x81) && stick.is_halted(2), "halts stay");
        stick.control(Setup::clear_halt(0x81), &[]).unwrap();
        stick.control(Setup::clear_halt(2), &[]).unwrap();
        assert_eq!(run(&mut stick, 0, 0, &[0; 6]).2, 0);
    }

    #[test]
    fn every_logical_unit_is_a_disk_of_its_own() {
        let disks = [(512, 16), (4096, 4)].map(|(size, blocks)| Disk::zeros(size, blocks));
        let mut stick = MassStorage::new(disks).plug();
        stick.control(Setup::set_configuration(1), &[]).unwrap();
        let max_lun = Setup {
            kind: 0xa1,
            request: 0xfe,
            length: 1,
            ..Setup::default()
        };
        assert_eq!(stick.control(max_lun, &[]), Ok(vec![1]));
        for (unit, code) in [(0, 1), (1, 1), (1, 0), (2, 1)] {
            let mut bytes = wrapper(0, 0, &[0; 6]);
            bytes[13] = unit;
            stick.transfer_out(2, &bytes).unwrap();
            assert_eq!(status(&mut stick).1, code, "unit {unit}");
        }
    }

    #[test]
    fn a_slow_stick_refuses_until_its_time_has_come() {
        let mut stick = stick();
        stick.function.latency = 3;
        stick.patience = 2;
        stick
            .transfer_out(2, &wrapper(1024, 0x80, &READ_TWO))
            .unwrap();
        assert!(matches!(
            stick.transfer_in(1, 1024),
            Err(End::Timeout(_, 0))
        ));
        stick.patience = 1;
        assert_eq!(stick.transfer_in(1, 1024).unwrap().len(), 1024);
    }

    #[test]
    fn tricks_are_played_once_at_their_command() {
        let mut stick = stick();
        stick.function.tricks = vec![(1, Trick::Status(2))];
        let codes = [0; 3].map(|_| run(&mut stick, 0x80, 1024, &READ_TWO).2);
        assert_eq!(codes, [0, 2, 0]);
    }

    #[test]
    fn a_stalled_data_stage_moves_nothing_and_fails() {
        let mut stick = stick();
        stick.function.tricks = vec![(0, Trick::StallData)];
        assert_eq!(run(&mut stick, 0x80, 1024, &READ_TWO), (vec![], 1024, 1));
        stick.function.tricks = vec![(0, Trick::StallData)];
        stick
            .transfer_out(2, &wrapper(1024, 0, &WRITE_TWO))
            .unwrap();
        assert!(stick.transfer_out(2, &[7; 1024]).is_err());
        assert_eq!(status(&mut stick), (1024, 1));
    }

    #[test]
    fn short_and_long_data() {
        let mut stick = stick();
        stick.function.tricks = vec![(0, Trick::ShortData(700)), (1, Trick::LongData(1))];
        let (data, residue, code) = run(&mut stick, 0x80, 1024, &READ_TWO);
        assert_eq!((data.len(), residue, code), (700, 324, 0));
        stick
            .transfer_out(2, &wrapper(1024, 0x80, &READ_TWO))
            .unwrap();
        assert!(matches!(stick.transfer_in(1, 1024), Err(End::Overflow(_))));
    }

    #[test]
    fn a_status_wrapper_may_be_wrong_in_every_field() {
        let tricks = [
            (Trick::Tag, 4, 0x79),
            (Trick::Signature, 3, b'C'),
            (Trick::Status(3), 12, 3),
            (Trick::Residue(9), 8, 9),
        ];
        for (trick, at, byte) in tricks {
            let mut stick = stick();
            stick.function.tricks = vec![(0, trick)];
            stick.transfer_out(2, &wrapper(0, 0, &[0; 6])).unwrap();
            assert_eq!(stick.transfer_in(1, 13).unwrap()[at], byte, "{trick:?}");
        }
        for len in [12, 14] {
            let mut stick = stick();
            stick.function.tricks = vec![(0, Trick::StatusLength(len))];
            stick.transfer_out(2, &wrapper(0, 0, &[0; 6])).unwrap();
            assert_eq!(stick.transfer_in(1, 64).unwrap().len(), len);
        }
    }

    #[test]
    fn a_stalled_status_comes_when_the_halt_is_cleared() {
        let mut stick = stick();
        stick.function.tricks = vec![(0, Trick::StallStatus)];
        stick.transfer_out(2, &wrapper(0, 0, &[0; 6])).unwrap();
        assert!(stick.transfer_in(1, 13).is_err());
        stick.control(Setup::clear_halt(0x81), &[]).unwrap();
        assert_eq!(status(&mut stick), (0, 0));
    }

    #[test]
    fn a_stick_that_hangs_comes_back_with_a_reset() {
        let mut stick = stick();
        stick.function.tricks = vec![(0, Trick::Hang)];
        stick.transfer_out(2, &wrapper(0, 0, &[0; 6])).unwrap();
        assert!(matches!(stick.transfer_in(1, 13), Err(End::Timeout(..))));
        stick.function.reset();
        assert_eq!(run(&mut stick, 0, 0, &[0; 6]).2, 0);
    }
}
