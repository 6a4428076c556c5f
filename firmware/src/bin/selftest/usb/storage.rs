//! Bulk-Only Transport on the driver's own interface: queued transfers, owned buffers, no futures.

use super::{Controller, Host};
use ehci::memory::Buffer;
use ehci::registers::{Registers, UsbSts, operational};
use ehci::{
    Bounced, Direction, Endpoint, Interrupt, Kind, Part, PipeId, Request, Speed, SubmitError,
    TransferId,
};
use embassy_usb_host::{BusRoute, BusState};
use heapless::Vec;
use mem2_dma::DmaBuffer;
use static_cell::StaticCell;

/// Data of a transfer, in the pool.
pub type Data = Bounced<'static, 512>;
/// A buffer of the pool.
pub type Owned = DmaBuffer<'static>;

/// Bytes of a block.
pub const BLOCK: usize = 512;

/// What enumeration found out about a stick.
pub struct Found {
    address: u8,
    port: u8,
    /// Number and packet size of the bulk endpoints.
    input: (u8, u16),
    output: (u8, u16),
}

/// Most sticks that are read at a time.
pub const STICKS: usize = 4;

/// Waits for the first sticks and enumerates them, by embassy-usb-host.
pub async fn find(host: &'static Host, sticks: usize) -> Result<Vec<Found, STICKS>, &'static str> {
    static BUS: StaticCell<BusState> = StaticCell::new();
    let state = BUS.init_with(BusState::new);
    let (mut controller, bus) = embassy_usb_host::bus(host.controller(), state);
    let mut found = Vec::new();
    for _ in 0..sticks {
        let speed = controller.wait_for_connection().await;
        let port = controller.controller().last_event_port().unwrap_or(0);
        let mut configuration = [0; 256];
        let enumerated = bus.enumerate(BusRoute::Direct(speed), &mut configuration);
        let (info, length) = enumerated.await.map_err(|_| "enumeration failed")?;
        let configuration = configuration.get(..length).unwrap_or(&[]);
        let stick = parse(configuration, info.device_address, port)?;
        found.push(stick).map_err(|_| "too many sticks")?;
    }
    Ok(found)
}

/// Finds the bulk endpoints among the descriptors of a configuration.
fn parse(mut rest: &[u8], address: u8, port: u8) -> Result<Found, &'static str> {
    let (mut input, mut output) = (None, None);
    while let [size, ..] = rest {
        // Endpoint descriptor (USB 2.0, section 9.6.6), bulk.
        if let [7, 5, number, 2, low, high, ..] = rest {
            let endpoint = (number & 0x0F, u16::from_le_bytes([*low, *high]));
            let of = if number & 0x80 != 0 {
                &mut input
            } else {
                &mut output
            };
            *of = Some(endpoint);
        }
        rest = rest.get(usize::from(*size).max(1)..).unwrap_or(&[]);
    }
    let (Some(input), Some(output)) = (input, output) else {
        return Err("it has no bulk endpoints");
    };
    Ok(Found {
        address,
        port,
        input,
        output,
    })
}

/// A stick whose commands and answers travel in buffers of their own.
pub struct Stick {
    input: PipeId,
    output: PipeId,
    /// A command status wrapper's; absent while it is on its way.
    status: Option<Owned>,
    tag: u32,
}

/// Bytes of a command block wrapper (Bulk-Only Transport, section 5.1) and of a command status wrapper (section 5.2).
const CBW: usize = 31;
const CSW: usize = 13;
/// Bytes that one transfer descriptor moves at most.
const DESCRIPTOR: usize = 20_480;

impl Stick {
    pub fn open(controller: &mut Controller, found: &Found) -> Result<Self, &'static str> {
        let mut open = |(number, max_packet), direction| {
            let endpoint = Endpoint {
                address: found.address,
                number,
                kind: Kind::Bulk(direction),
                speed: Speed::High,
                max_packet,
                interval: 0,
                translator: None,
                root_port: Some(found.port),
            };
            controller.open(&endpoint).map_err(|_| "no pipe")
        };
        let (input, output) = (
            open(found.input, Direction::In)?,
            open(found.output, Direction::Out)?,
        );
        let device = controller.dma().device();
        let status = device.allocate(CSW).map_err(|_| "no buffer")?;
        let mut stick = Self {
            input,
            output,
            status: Some(status),
            tag: 0,
        };
        // The first one fails: something has been plugged in.
        let _unit_attention = stick.command(controller, &TEST_UNIT_READY);
        stick.command(controller, &TEST_UNIT_READY)?;
        Ok(stick)
    }

    /// Bytes of a buffer with which a read of so many is the fastest: it has room for the status behind the data, and both arrive
    /// with one transfer. But QEMU's stick loses a status that waits behind a single descriptor (the book's chapter on
    /// decisions).
    pub const fn room(bytes: usize) -> usize {
        if bytes > DESCRIPTOR {
            bytes + CSW
        } else {
            bytes
        }
    }

    /// Transfers of such a read: wrapper, data and status, or the last two as one.
    pub const fn read_transfers(bytes: usize) -> u32 {
        if Self::room(bytes) == bytes { 3 } else { 2 }
    }

    /// Reads blocks into `data`, which is gone if that fails.
    pub fn read(
        &mut self,
        controller: &mut Controller,
        block: u32,
        count: u16,
        data: &mut Option<Data>,
    ) -> Result<(), &'static str> {
        let bytes = usize::from(count) * BLOCK;
        self.begin(controller, &read_write(0x28, block, count), bytes, 0x80)?;
        let size = data.as_ref().map_or(0, Data::size);
        let trailer = if size == bytes + CSW { CSW } else { 0 };
        transfer(controller, self.input, data, bytes, trailer)?;
        if trailer == 0 {
            return self.end(controller);
        }
        self.check(data, bytes)
    }

    /// Writes blocks from `data`, which is gone if that fails.
    pub fn write(
        &mut self,
        controller: &mut Controller,
        block: u32,
        data: &mut Option<Data>,
    ) -> Result<(), &'static str> {
        let bytes = data.as_ref().map_or(0, Data::size);
        let command = read_write(0x2A, block, (bytes / BLOCK) as u16);
        self.begin(controller, &command, bytes, 0)?;
        transfer(controller, self.output, data, bytes, 0)?;
        self.end(controller)
    }

    /// SYNCHRONIZE CACHE(10): what was written is on the medium.
    pub fn synchronise(&mut self, controller: &mut Controller) -> Result<(), &'static str> {
        self.command(controller, &SYNCHRONIZE_CACHE)
    }

    /// Carries out a command without data.
    fn command(
        &mut self,
        controller: &mut Controller,
        command: &Command,
    ) -> Result<(), &'static str> {
        self.begin(controller, command, 0, 0)?;
        self.end(controller)
    }

    /// Sends a command.
    fn begin(
        &mut self,
        controller: &mut Controller,
        command: &Command,
        bytes: usize,
        flags: u8,
    ) -> Result<(), &'static str> {
        self.tag = self.tag.wrapping_add(1);
        let mut wrapper = [0; CBW];
        let (header, rest) = wrapper.split_at_mut(12);
        header.copy_from_slice(
            [
                *b"USBC",
                self.tag.to_le_bytes(),
                (bytes as u32).to_le_bytes(),
            ]
            .as_flattened(),
        );
        rest[..3].copy_from_slice(&[flags, 0, command.length]);
        rest[3..].copy_from_slice(&command.block);
        let sent = controller.send(self.output, &wrapper, None);
        let sent = sent.map_err(|_| "a command was not accepted")?;
        wait_for(controller, sent)?;
        match controller.sent(sent) {
            Some(Ok(CBW)) => Ok(()),
            _ => Err("a command was not sent"),
        }
    }

    /// Receives the status of a command.
    fn end(&mut self, controller: &mut Controller) -> Result<(), &'static str> {
        let wrapper = self.status.take().ok_or("no status buffer")?;
        let lent = wrapper.lend_from_device(CSW).map_err(|_| "not lent")?;
        let mut arrived = Some(Data::from(lent));
        transfer(controller, self.input, &mut arrived, CSW, 0)?;
        let good = self.check(&mut arrived, 0);
        self.status = arrived.and_then(Data::reclaim);
        good
    }

    /// Checks the status that lies in `data` from byte `at` on.
    fn check(&self, data: &mut Option<Data>, at: usize) -> Result<(), &'static str> {
        let data = data.as_mut().ok_or("the buffer is lost")?;
        let mut copy;
        let status = match data.bytes() {
            Some(bytes) => bytes.get(at..).and_then(<[u8]>::first_chunk),
            None => {
                copy = [0; CSW];
                data.copy_from(at, &mut copy);
                Some(&copy)
            }
        };
        let status: &[u8; CSW] = status.ok_or("the status is lost")?;
        match status.as_chunks() {
            ([signature, tag, residue], [0])
                if *signature == *b"USBS"
                    && *tag == self.tag.to_le_bytes()
                    && *residue == [0; 4] =>
            {
                Ok(())
            }
            _ => Err("the command failed"),
        }
    }
}

/// A command descriptor block, with zeros behind its `length` bytes.
struct Command {
    length: u8,
    block: [u8; 16],
}

/// TEST UNIT READY.
const TEST_UNIT_READY: Command = Command {
    length: 6,
    block: [0; 16],
};
/// SYNCHRONIZE CACHE(10).
const SYNCHRONIZE_CACHE: Command = Command {
    length: 10,
    block: [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// READ(10) or WRITE(10).
fn read_write(operation: u8, block: u32, count: u16) -> Command {
    let ([a, b, c, d], [e, f]) = (block.to_be_bytes(), count.to_be_bytes());
    Command {
        length: 10,
        block: [operation, 0, a, b, c, d, 0, e, f, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// Moves `bytes` bytes and a trailer, no fewer. The buffer is gone if that fails.
fn transfer(
    controller: &mut Controller,
    pipe: PipeId,
    data: &mut Option<Data>,
    bytes: usize,
    trailer: usize,
) -> Result<(), &'static str> {
    let request = Request {
        buffer: data.take(),
        zero_packet: false,
        trailer: trailer as u16,
        part: Part::Whole,
        quiet: false,
        timeout_us: None,
    };
    let id = controller
        .submit(pipe, request)
        .map_err(|rejected| match rejected.error {
            SubmitError::NoDescriptors => "too few transfer descriptors",
            _ => "a transfer was not accepted",
        })?;
    wait_for(controller, id)?;
    let end = controller.take(id).ok_or("a transfer has no end")?;
    *data = end.buffer;
    if end.status.is_ok() && end.bytes == bytes && end.trailer == trailer {
        Ok(())
    } else {
        Err("a transfer failed or was short")
    }
}

/// Waits for the end of a transfer.
fn wait_for(controller: &mut Controller, id: TransferId) -> Result<(), &'static str> {
    loop {
        if !wiistick_wait_for_interrupt() {
            return Err("no interrupt came");
        }
        INTERRUPT.handle(controller.registers().raw());
        controller.poll();
        if !controller.is_running(id) {
            return Ok(());
        }
    }
}

/// The link from the handler to the driver. No interrupt reaches the processor in this program: it looks at the controller's
/// status register until one would, and then does what the handler does.
pub static INTERRUPT: Interrupt = Interrupt::new();

/// Waits until the controller has something to say, and does nothing else; a person's patience at most. The host excludes this
/// function from what it counts.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wiistick_wait_for_interrupt() -> bool {
    // A register access takes more than a tenth of a microsecond wherever this runs.
    const LOOKS: u32 = 100_000_000;
    // SAFETY: as in `start`; a second way to the registers that only reads the status.
    let Ok(registers) = (unsafe { ehci::registers::Mmio::probe(super::EHCI) }) else {
        return false;
    };
    let base = (registers.read(0) & 0xFF) as usize;
    (0..LOOKS).any(|_| registers.read(base + operational::USBSTS) & UsbSts::CHANGES != 0)
}
