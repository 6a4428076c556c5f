//! Bulk-Only Transport on the driver's own interface: queued transfers, owned buffers, no futures.

use super::{Controller, Host};
use core::sync::atomic::{AtomicU32, Ordering};
use ehci::registers::{Registers, UsbSts, operational};
use ehci::{Bounced, Direction, Endpoint, Interrupt, Kind, PipeId, Request, Speed, SubmitError};
use embassy_usb_host::{BusRoute, BusState};
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

/// Waits for the first stick and enumerates it, by embassy-usb-host.
pub async fn find(host: &'static Host) -> Result<Found, &'static str> {
    static BUS: StaticCell<BusState> = StaticCell::new();
    let state = BUS.init_with(BusState::new);
    let (mut controller, bus) = embassy_usb_host::bus(host.controller(), state);
    let speed = controller.wait_for_connection().await;
    let port = controller.controller().last_event_port().unwrap_or(0);
    let mut configuration = [0; 256];
    let enumerated = bus.enumerate(BusRoute::Direct(speed), &mut configuration);
    let (info, length) = enumerated.await.map_err(|_| "enumeration failed")?;
    let mut rest = configuration.get(..length).unwrap_or(&[]);
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
        address: info.device_address,
        port,
        input,
        output,
    })
}

/// A stick whose commands and answers travel in buffers of their own.
pub struct Stick {
    input: PipeId,
    output: PipeId,
    /// Command block wrapper and command status wrapper; absent while they are on their way.
    command: Option<Owned>,
    status: Option<Owned>,
    tag: u32,
}

/// Bytes of a command block wrapper (Bulk-Only Transport, section 5.1) and of a command status wrapper (section 5.2).
const CBW: usize = 31;
const CSW: usize = 13;

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
        let buffer = |bytes| device.allocate(bytes).map(Some).map_err(|_| "no buffer");
        let (command, status) = (buffer(CBW)?, buffer(CSW)?);
        let mut stick = Self {
            input,
            output,
            command,
            status,
            tag: 0,
        };
        // The first one fails: something has been plugged in.
        let _unit_attention = stick.command(controller, &[0; 6], None);
        stick.command(controller, &[0; 6], None)?;
        Ok(stick)
    }

    /// Reads blocks into `data`, which it returns.
    pub fn read(
        &mut self,
        controller: &mut Controller,
        block: u32,
        data: Data,
    ) -> Result<Data, &'static str> {
        self.blocks(controller, 0x28, block, data, 0x80)
    }

    /// Writes blocks from `data`, which it returns.
    pub fn write(
        &mut self,
        controller: &mut Controller,
        block: u32,
        data: Data,
    ) -> Result<Data, &'static str> {
        self.blocks(controller, 0x2A, block, data, 0)
    }

    /// SYNCHRONIZE CACHE(10): what was written is on the medium.
    pub fn synchronise(&mut self, controller: &mut Controller) -> Result<(), &'static str> {
        self.command(controller, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], None)?;
        Ok(())
    }

    fn blocks(
        &mut self,
        controller: &mut Controller,
        operation: u8,
        block: u32,
        data: Data,
        flags: u8,
    ) -> Result<Data, &'static str> {
        let count = (ehci::memory::Buffer::size(&data) / BLOCK) as u16;
        let ([a, b, c, d], [e, f]) = (block.to_be_bytes(), count.to_be_bytes());
        let command = [operation, 0, a, b, c, d, 0, e, f, 0];
        let data = self.command(controller, &command, Some((data, flags)))?;
        data.ok_or("the data are lost")
    }

    /// Carries a command out: the three phases, one after the other.
    fn command(
        &mut self,
        controller: &mut Controller,
        command: &[u8],
        data: Option<(Data, u8)>,
    ) -> Result<Option<Data>, &'static str> {
        let asked = data
            .as_ref()
            .map_or(0, |(data, _)| ehci::memory::Buffer::size(data));
        let flags = data.as_ref().map_or(0, |&(_, flags)| flags);
        self.tag = self.tag.wrapping_add(1);

        let mut wrapper = self.command.take().ok_or("no command buffer")?;
        let bytes = wrapper.get_mut(..CBW).ok_or("a short buffer")?;
        bytes.fill(0);
        for (start, value) in [
            (0, *b"USBC"),
            (4, self.tag.to_le_bytes()),
            (8, (asked as u32).to_le_bytes()),
        ] {
            bytes[start..start + 4].copy_from_slice(&value);
        }
        bytes[12] = flags;
        bytes[14] = command.len() as u8;
        bytes[15..15 + command.len()].copy_from_slice(command);
        let lent = wrapper.lend_to_device(CBW).map_err(|_| "not lent")?;
        self.command = transfer(controller, self.output, Data::from(lent), CBW)?.reclaim();

        let data = match data {
            None => None,
            Some((data, 0)) => Some(transfer(controller, self.output, data, asked)?),
            Some((data, _)) => Some(transfer(controller, self.input, data, asked)?),
        };

        let wrapper = self.status.take().ok_or("no status buffer")?;
        let lent = wrapper.lend_from_device(CSW).map_err(|_| "not lent")?;
        let wrapper = transfer(controller, self.input, Data::from(lent), CSW)?.reclaim();
        let bytes = wrapper.as_deref().ok_or("the status is lost")?;
        let expected = [*b"USBS", self.tag.to_le_bytes(), [0; 4]];
        let good = bytes.get(..CSW).is_some_and(|status| {
            let (words, status) = status.split_at(12);
            words == expected.as_flattened() && status == [0]
        });
        self.status = wrapper;
        if good {
            Ok(data)
        } else {
            Err("the command failed")
        }
    }
}

/// Moves `bytes` bytes, no fewer, and gives the buffer back.
fn transfer(
    controller: &mut Controller,
    pipe: PipeId,
    data: Data,
    bytes: usize,
) -> Result<Data, &'static str> {
    let id = controller
        .submit(pipe, Request::new(data))
        .map_err(|rejected| match rejected.error {
            SubmitError::NoDescriptors => "too few transfer descriptors",
            _ => "a transfer was not accepted",
        })?;
    TRANSFERS.fetch_add(1, Ordering::Relaxed);
    let end = loop {
        if !wiistick_wait_for_interrupt() {
            return Err("no interrupt came");
        }
        INTERRUPT.handle(controller.registers().raw());
        controller.poll();
        if let Some(end) = controller.take(id) {
            break end;
        }
    };
    if end.status.is_err() || end.bytes != bytes {
        return Err("a transfer failed or was short");
    }
    end.buffer.ok_or("the buffer is lost")
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
