//! A class driver that is only as good as it must be: enumeration and Bulk-Only Transport on the driver's own interface, in the
//! machine's time alone, so that every run repeats.

use super::wii::{Driver, TrackedBuffer, Wii};
use ehci::memory::{Buffer, Dma};
use ehci::{
    Completion, Direction, Endpoint, Kind, OpenError, PipeId, PortChange, Request, Speed,
    SubmitError, TransferError,
};

/// A device answers at once here, so that this is patience enough.
const TIMEOUT_US: u64 = 150_000;
/// No transfer may take longer, whatever goes wrong: 32 retries of three attempts, the time-out, a lost doorbell, and a schedule
/// that does not stop.
const BOUND: u32 = 8 * 1000;

/// How a session ended that did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Transfer(TransferError),
    Submit(SubmitError),
    Open(OpenError),
    Port(PortChange),
    /// No memory for a buffer.
    Memory,
    /// The port has nothing to say.
    NoDevice,
    /// What the device says makes no sense.
    Nonsense(&'static str),
    /// The data are not those that are on the disk, although everything succeeded.
    Differs,
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

/// What a command moves.
pub enum Data<'a> {
    None,
    In(usize),
    Out(&'a [u8]),
}

type End<'p> = Completion<TrackedBuffer<'p>>;

/// A device that was enumerated.
pub struct Device {
    pub address: u8,
    pub control: PipeId,
    pub input: PipeId,
    pub output: PipeId,
    tag: u32,
}

/// Waits for the end of a transfer; panics if it takes longer than it may.
pub fn finish<'p>(wii: &Wii<'_>, ehci: &mut Driver<'p>, id: ehci::TransferId) -> End<'p> {
    for _ in 0..BOUND {
        if let Some(end) = ehci.take(id) {
            return end;
        }
        wii.step(ehci);
    }
    panic!("a transfer does not end: {:?}", ehci.statistics());
}

/// As [`finish`], of a pipe that may be cancelled meanwhile.
fn finish_on<'p>(
    wii: &Wii<'_>,
    ehci: &mut Driver<'p>,
    pipe: PipeId,
    id: ehci::TransferId,
) -> End<'p> {
    wii.busy.set(Some(pipe));
    finish(wii, ehci, id)
}

/// Waits for something to happen on a port, for so many milliseconds.
pub fn port_event(wii: &Wii<'_>, ehci: &mut Driver<'_>, port: u8, ms: u32) -> Option<PortChange> {
    for _ in 0..8 * ms {
        wii.step(ehci);
        if let Some(event) = ehci.take_port_event()
            && event.port == port
        {
            return Some(event.change);
        }
    }
    None
}

pub fn endpoint(address: u8, number: u8, kind: Kind, port: u8) -> Endpoint {
    Endpoint {
        address,
        number,
        kind,
        speed: Speed::High,
        max_packet: if kind == Kind::Control { 64 } else { 512 },
        interval: 0,
        translator: None,
        root_port: Some(port),
    }
}

pub fn control_in(
    wii: &Wii<'_>,
    ehci: &mut Driver<'_>,
    pipe: PipeId,
    setup: [u8; 8],
) -> Result<Vec<u8>, Failure> {
    let length = usize::from(u16::from_le_bytes([setup[6], setup[7]]));
    let buffer = ehci.dma().incoming(length).map_err(|_| Failure::Memory)?;
    let id = ehci
        .control(pipe, setup, Some(buffer), Some(TIMEOUT_US))
        .map_err(|rejected| Failure::Submit(rejected.error))?;
    Ok(received(finish_on(wii, ehci, pipe, id))?)
}

pub fn control_out(
    wii: &Wii<'_>,
    ehci: &mut Driver<'_>,
    pipe: PipeId,
    setup: [u8; 8],
) -> Result<(), Failure> {
    let id = ehci
        .control(pipe, setup, None, Some(TIMEOUT_US))
        .map_err(|rejected| Failure::Submit(rejected.error))?;
    Ok(finish_on(wii, ehci, pipe, id).status?)
}

fn received(end: End<'_>) -> Result<Vec<u8>, TransferError> {
    end.status?;
    let mut bytes = vec![0; end.bytes];
    if let Some(mut buffer) = end.buffer {
        buffer.copy_received(&mut bytes);
    }
    Ok(bytes)
}

pub fn bulk_in(
    wii: &Wii<'_>,
    ehci: &mut Driver<'_>,
    pipe: PipeId,
    length: usize,
) -> Result<Vec<u8>, Failure> {
    let buffer = ehci.dma().incoming(length).map_err(|_| Failure::Memory)?;
    let id = submit(ehci, pipe, buffer)?;
    Ok(received(finish_on(wii, ehci, pipe, id))?)
}

pub fn bulk_out(
    wii: &Wii<'_>,
    ehci: &mut Driver<'_>,
    pipe: PipeId,
    data: &[u8],
) -> Result<(), Failure> {
    let buffer = ehci.dma().outgoing(data).map_err(|_| Failure::Memory)?;
    let id = submit(ehci, pipe, buffer)?;
    Ok(finish_on(wii, ehci, pipe, id).status?)
}

fn submit<'p>(
    ehci: &mut Driver<'p>,
    pipe: PipeId,
    buffer: TrackedBuffer<'p>,
) -> Result<ehci::TransferId, Failure> {
    let request = Request {
        timeout_us: Some(TIMEOUT_US),
        ..Request::new(buffer)
    };
    let submitted = ehci.submit(pipe, request);
    submitted.map_err(|rejected| Failure::Submit(rejected.error))
}

impl Device {
    /// Resets the device on a port, which was attached or used before, and enumerates it.
    pub fn enumerate(wii: &Wii<'_>, ehci: &mut Driver<'_>, port: u8) -> Result<Self, Failure> {
        if !ehci.reset_port(port) {
            return Err(Failure::NoDevice);
        }
        match port_event(wii, ehci, port, 200).ok_or(Failure::NoDevice)? {
            PortChange::Enabled => {}
            other => return Err(Failure::Port(other)),
        }
        let address = port + 1;
        let default = endpoint(0, 0, Kind::Control, port);
        let default = ehci.open(&default).map_err(Failure::Open)?;
        let addressed = (|| {
            let start = control_in(wii, ehci, default, [0x80, 6, 0, 1, 0, 0, 8, 0])?;
            if start.get(7) != Some(&64) {
                return Err(Failure::Nonsense("packet size"));
            }
            control_out(wii, ehci, default, [0, 5, address, 0, 0, 0, 0, 0])
        })();
        ehci.close(default);
        addressed?;
        for _ in 0..16 {
            wii.step(ehci);
        }
        let control = endpoint(address, 0, Kind::Control, port);
        let control = ehci.open(&control).map_err(Failure::Open)?;
        let configured = (|| {
            let device = control_in(wii, ehci, control, [0x80, 6, 0, 1, 0, 0, 18, 0])?;
            if device.len() != 18 {
                return Err(Failure::Nonsense("device descriptor"));
            }
            let head = control_in(wii, ehci, control, [0x80, 6, 0, 2, 0, 0, 9, 0])?;
            let &[9, 2, low, high, ..] = &head[..] else {
                return Err(Failure::Nonsense("configuration descriptor"));
            };
            let whole = control_in(wii, ehci, control, [0x80, 6, 0, 2, 0, 0, low, high])?;
            if whole.len() != usize::from(u16::from_le_bytes([low, high])) {
                return Err(Failure::Nonsense("configuration descriptor"));
            }
            control_out(wii, ehci, control, [0, 9, 1, 0, 0, 0, 0, 0])
        })();
        let bulk = |number, direction| endpoint(address, number, Kind::Bulk(direction), port);
        let opened = configured.and_then(|()| {
            let input = ehci.open(&bulk(1, Direction::In)).map_err(Failure::Open)?;
            let output = ehci.open(&bulk(2, Direction::Out)).map_err(Failure::Open)?;
            Ok((input, output))
        });
        match opened {
            Ok((input, output)) => Ok(Self {
                address,
                control,
                input,
                output,
                tag: 0,
            }),
            Err(failure) => {
                ehci.close(control);
                Err(failure)
            }
        }
    }

    /// Closes its pipes.
    pub fn close(self, ehci: &mut Driver<'_>) {
        for pipe in [self.control, self.input, self.output] {
            ehci.close(pipe);
        }
    }

    /// Ends a halt on both sides.
    fn clear_halt(
        &self,
        wii: &Wii<'_>,
        ehci: &mut Driver<'_>,
        endpoint: u8,
    ) -> Result<(), Failure> {
        control_out(wii, ehci, self.control, [2, 1, 0, 0, endpoint, 0, 0, 0])?;
        let pipe = if endpoint & 0x80 != 0 {
            self.input
        } else {
            self.output
        };
        ehci.reset_toggle(pipe);
        for _ in 0..BOUND {
            if !ehci.is_busy(pipe) {
                return Ok(());
            }
            wii.step(ehci);
        }
        panic!("the pipe stays busy")
    }

    /// Reset recovery (Bulk-Only Transport, section 5.3.4).
    pub fn recover(&self, wii: &Wii<'_>, ehci: &mut Driver<'_>) -> Result<(), Failure> {
        control_out(wii, ehci, self.control, [0x21, 0xff, 0, 0, 0, 0, 0, 0])?;
        self.clear_halt(wii, ehci, 0x81)?;
        self.clear_halt(wii, ehci, 0x02)
    }

    /// Carries out a SCSI command. Returns its data, and whether it was good.
    pub fn command(
        &mut self,
        wii: &Wii<'_>,
        ehci: &mut Driver<'_>,
        block: &[u8],
        data: Data<'_>,
    ) -> Result<(Vec<u8>, bool), Failure> {
        self.tag += 1;
        let (length, flags) = match data {
            Data::None => (0, 0),
            Data::In(length) => (length, 0x80),
            Data::Out(bytes) => (bytes.len(), 0),
        };
        let mut wrapper = [0; 31];
        wrapper[..4].copy_from_slice(b"USBC");
        wrapper[4..8].copy_from_slice(&self.tag.to_le_bytes());
        wrapper[8..12].copy_from_slice(&(length as u32).to_le_bytes());
        wrapper[12] = flags;
        wrapper[14] = block.len() as u8;
        wrapper[15..15 + block.len()].copy_from_slice(block);
        bulk_out(wii, ehci, self.output, &wrapper)?;
        let moved = match data {
            Data::None => Ok(vec![]),
            Data::In(length) => bulk_in(wii, ehci, self.input, length),
            Data::Out(bytes) => bulk_out(wii, ehci, self.output, bytes).map(|()| vec![]),
        };
        let moved = match moved {
            Err(Failure::Transfer(TransferError::Stall)) => {
                let halted = if flags == 0 { 0x02 } else { 0x81 };
                self.clear_halt(wii, ehci, halted)?;
                vec![]
            }
            other => other?,
        };
        let status = match bulk_in(wii, ehci, self.input, 13) {
            Err(Failure::Transfer(TransferError::Stall)) => {
                self.clear_halt(wii, ehci, 0x81)?;
                bulk_in(wii, ehci, self.input, 13)?
            }
            other => other?,
        };
        let expected = [&b"USBS"[..], &self.tag.to_le_bytes()].concat();
        if status.len() != 13 || status[..8] != expected[..] || status[12] > 1 {
            return Err(Failure::Nonsense("command status"));
        }
        let residue = u32::from_le_bytes([status[8], status[9], status[10], status[11]]);
        let good = status[12] == 0 && residue == 0 && (flags == 0 || moved.len() == length);
        Ok((moved, good))
    }

    /// Reads blocks of 512 bytes.
    pub fn read(
        &mut self,
        wii: &Wii<'_>,
        ehci: &mut Driver<'_>,
        first: u32,
        count: u16,
    ) -> Result<Vec<u8>, Failure> {
        let block = read_write(0x28, first, count);
        let length = usize::from(count) * 512;
        match self.command(wii, ehci, &block, Data::In(length))? {
            (bytes, true) => Ok(bytes),
            _ => Err(Failure::Nonsense("the command failed")),
        }
    }

    /// Writes blocks of 512 bytes.
    pub fn write(
        &mut self,
        wii: &Wii<'_>,
        ehci: &mut Driver<'_>,
        first: u32,
        data: &[u8],
    ) -> Result<(), Failure> {
        let block = read_write(0x2a, first, (data.len() / 512) as u16);
        match self.command(wii, ehci, &block, Data::Out(data))? {
            (_, true) => Ok(()),
            _ => Err(Failure::Nonsense("the command failed")),
        }
    }

    /// The first command fails: something was plugged in.
    pub fn make_ready(&mut self, wii: &Wii<'_>, ehci: &mut Driver<'_>) -> Result<(), Failure> {
        for _ in 0..3 {
            if self.command(wii, ehci, &[0; 6], Data::None)?.1 {
                return Ok(());
            }
        }
        Err(Failure::Nonsense("it does not become ready"))
    }
}

fn read_write(operation: u8, first: u32, count: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (first.to_be_bytes(), count.to_be_bytes());
    [operation, 0, a, b, c, d, 0, e, f, 0]
}
