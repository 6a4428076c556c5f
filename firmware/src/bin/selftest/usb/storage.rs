//! Bulk-Only Transport on the driver's own interface: queued transfers, owned buffers, no futures.

use super::{Controller, Host};
use core::sync::atomic::{AtomicU32, Ordering};
use ehci::memory::Buffer;
use ehci::registers::{Registers, UsbSts, operational};
use ehci::{
    Bounced, Direction, Endpoint, Interrupt, Kind, PipeId, Request, Speed, SubmitError, TransferId,
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
        let _unit_attention = stick.command(controller, &[0; 6]);
        stick.command(controller, &[0; 6])?;
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

    /// Reads blocks into `data`, which it returns.
    pub fn read(
        &mut self,
        controller: &mut Controller,
        block: u32,
        count: u16,
        data: Data,
    ) -> Result<Data, &'static str> {
        let bytes = usize::from(count) * BLOCK;
        self.begin(controller, &read_write(0x28, block, count), bytes, 0x80)?;
        if data.size() == bytes + CSW {
            let mut data = transfer(controller, self.input, data, bytes, CSW)?;
            let mut status = [0; CSW];
            data.copy_from(bytes, &mut status);
            self.check(&status)?;
            return Ok(data);
        }
        let data = transfer(controller, self.input, data, bytes, 0)?;
        self.end(controller)?;
        Ok(data)
    }

    /// Writes blocks from `data`, which it returns.
    pub fn write(
        &mut self,
        controller: &mut Controller,
        block: u32,
        data: Data,
    ) -> Result<Data, &'static str> {
        let bytes = data.size();
        let command = read_write(0x2A, block, (bytes / BLOCK) as u16);
        self.begin(controller, &command, bytes, 0)?;
        let data = transfer(controller, self.output, data, bytes, 0)?;
        self.end(controller)?;
        Ok(data)
    }

    /// SYNCHRONIZE CACHE(10): what was written is on the medium.
    pub fn synchronise(&mut self, controller: &mut Controller) -> Result<(), &'static str> {
        self.command(controller, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Carries out a command without data.
    fn command(&mut self, controller: &mut Controller, command: &[u8]) -> Result<(), &'static str> {
        self.begin(controller, command, 0, 0)?;
        self.end(controller)
    }

    /// Sends a command.
    fn begin(
        &mut self,
        controller: &mut Controller,
        command: &[u8],
        bytes: usize,
        flags: u8,
    ) -> Result<(), &'static str> {
        self.tag = self.tag.wrapping_add(1);
        let mut wrapper = [0; CBW];
        for (start, value) in [
            (0, *b"USBC"),
            (4, self.tag.to_le_bytes()),
            (8, (bytes as u32).to_le_bytes()),
        ] {
            wrapper[start..start + 4].copy_from_slice(&value);
        }
        wrapper[12] = flags;
        wrapper[14] = command.len() as u8;
        wrapper[15..15 + command.len()].copy_from_slice(command);
        let sent = controller.send(self.output, &wrapper, None);
        finish(
            controller,
            sent.map_err(|_| "a command was not accepted")?,
            CBW,
            0,
        )?;
        Ok(())
    }

    /// Receives the status of a command.
    fn end(&mut self, controller: &mut Controller) -> Result<(), &'static str> {
        let wrapper = self.status.take().ok_or("no status buffer")?;
        let lent = wrapper.lend_from_device(CSW).map_err(|_| "not lent")?;
        let mut arrived = transfer(controller, self.input, Data::from(lent), CSW, 0)?;
        let mut status = [0; CSW];
        arrived.copy_from(0, &mut status);
        self.status = arrived.reclaim();
        self.check(&status)
    }

    fn check(&self, status: &[u8; CSW]) -> Result<(), &'static str> {
        let expected = [*b"USBS", self.tag.to_le_bytes(), [0; 4]];
        if status[..12] == *expected.as_flattened() && status[12] == 0 {
            Ok(())
        } else {
            Err("the command failed")
        }
    }
}

/// READ(10) or WRITE(10).
fn read_write(operation: u8, block: u32, count: u16) -> [u8; 10] {
    let ([a, b, c, d], [e, f]) = (block.to_be_bytes(), count.to_be_bytes());
    [operation, 0, a, b, c, d, 0, e, f, 0]
}

/// Moves `bytes` bytes and a trailer, no fewer, and gives the buffer back.
fn transfer(
    controller: &mut Controller,
    pipe: PipeId,
    data: Data,
    bytes: usize,
    trailer: usize,
) -> Result<Data, &'static str> {
    let request = Request {
        trailer: trailer as u16,
        ..Request::new(data)
    };
    let id = controller
        .submit(pipe, request)
        .map_err(|rejected| match rejected.error {
            SubmitError::NoDescriptors => "too few transfer descriptors",
            _ => "a transfer was not accepted",
        })?;
    let data = finish(controller, id, bytes, trailer)?;
    data.ok_or("the buffer is lost")
}

/// Waits until a transfer has moved `bytes` bytes and a trailer, no fewer, and gives its buffer back.
fn finish(
    controller: &mut Controller,
    id: TransferId,
    bytes: usize,
    trailer: usize,
) -> Result<Option<Data>, &'static str> {
    TRANSFERS.fetch_add(1, Ordering::Relaxed);
    loop {
        if !wiistick_wait_for_interrupt() {
            return Err("no interrupt came");
        }
        INTERRUPT.handle(controller.registers().raw());
        controller.poll();
        if let Some(end) = controller.take(id) {
            if end.status.is_err() || end.bytes != bytes || end.trailer != trailer {
                return Err("a transfer failed or was short");
            }
            return Ok(end.buffer);
        }
    }
}

/// The link from the handler to the driver. No interrupt reaches the processor in this program: it looks at the controller's
/// status register until one would, and then does what the handler does.
pub static INTERRUPT: Interrupt = Interrupt::new();

/// How many transfers were submitted.
pub static TRANSFERS: AtomicU32 = AtomicU32::new(0);

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
