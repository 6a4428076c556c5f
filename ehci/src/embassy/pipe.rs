//! One endpoint: requests of any length, in windows.

use super::UsbHost;
use crate::endpoint::{Endpoint, Kind};
use crate::error::{SubmitError, TransferError};
use crate::host::Transfer;
use crate::memory::{Buffer, Dma};
use crate::pipe::PipeId;
use crate::platform::Platform;
use crate::registers::Registers;
use crate::transfer::{Completion, Part, Request};
use core::marker::PhantomData;
use embassy_usb_driver::host::{PipeError, TimeoutConfig, UsbPipe, pipe};

/// Bytes that are moved at a time: four full qTDs where the buffer begins at a page.
pub const WINDOW: usize = 4 * 20_480;
/// Bytes that are sent without a buffer at most.
const SMALL: usize = 32;
/// Windows that are queued at a time, so that the bus has work while one is copied.
const AHEAD: usize = 2;
/// Time for a control request until [`UsbPipe::set_timeout`] says otherwise (USB 2.0, section 9.2.6.1).
const CONTROL_TIMEOUT_US: u64 = 5_000_000;

/// A pipe; the trait's [`UsbPipe`]. Dropping it closes the endpoint's queue.
pub struct Pipe<'d, R: Registers, D: Dma, P: Platform, T, Dir> {
    shared: &'d UsbHost<R, D, P>,
    id: PipeId,
    endpoint: Endpoint,
    data_timeout_us: u64,
    no_data_timeout_us: u64,
    marker: PhantomData<(T, Dir)>,
}

impl<'d, R: Registers, D: Dma, P: Platform, T, Dir> Pipe<'d, R, D, P, T, Dir> {
    pub(super) const fn new(shared: &'d UsbHost<R, D, P>, id: PipeId, endpoint: Endpoint) -> Self {
        Self {
            shared,
            id,
            endpoint,
            data_timeout_us: CONTROL_TIMEOUT_US,
            no_data_timeout_us: CONTROL_TIMEOUT_US,
            marker: PhantomData,
        }
    }
}

impl<R: Registers, D: Dma, P: Platform, T, Dir> Drop for Pipe<'_, R, D, P, T, Dir> {
    fn drop(&mut self) {
        self.shared.host.with(|ehci| ehci.close(self.id));
        if self.endpoint.address == 0 {
            self.shared
                .routes(|routes| routes.default_pipes = routes.default_pipes.saturating_sub(1));
        }
    }
}

/// Windows of a request that are under way, oldest first.
type Queue<'h, R, D, P> = [Option<(Transfer<'h, R, D, P>, usize)>; AHEAD];

impl<'d, R: Registers, D: Dma, P: Platform, T, Dir> Pipe<'d, R, D, P, T, Dir> {
    async fn control(
        &self,
        setup: &[u8; 8],
        buffer: Option<D::Buffer>,
    ) -> Result<Completion<D::Buffer>, PipeError> {
        let timeout = if buffer.is_some() {
            self.data_timeout_us
        } else {
            self.no_data_timeout_us
        };
        self.clear_translator().await;
        let end = self
            .shared
            .host
            .control(self.id, *setup, buffer, Some(timeout))
            .await
            .map_err(rejected)?;
        self.settle(end.status).await?;
        self.shared
            .observe(self.endpoint.address, self.endpoint.root_port, setup);
        Ok(end)
    }

    /// Gets a buffer for the next window, shrinking it while there is none. Nothing means: wait for one under way.
    fn window(
        &self,
        window: &mut usize,
        left: usize,
        waiting: bool,
        mut get: impl FnMut(&D, usize) -> Option<D::Buffer>,
    ) -> Result<Option<D::Buffer>, PipeError> {
        let packet = self.endpoint.packet_bytes() as usize;
        loop {
            let size = if left <= *window {
                left
            } else {
                *window - *window % packet
            };
            if let Some(Some(buffer)) = self.shared.host.with(|ehci| get(ehci.dma(), size)) {
                return Ok(Some(buffer));
            }
            if waiting {
                return Ok(None);
            }
            if *window <= packet {
                return Err(PipeError::BufferOverflow);
            }
            *window = (size / 2).max(packet);
        }
    }

    /// Clears what earlier transactions may have left in the translator before the endpoint.
    async fn clear_translator(&self) {
        if self.endpoint.translator.is_some() {
            // What was dropped is known to be left there only when the controller has let go of it.
            self.shared.host.settled(self.id).await;
            self.shared.clear_translators().await;
        }
    }

    /// Ends a transfer for the caller. Other devices may be waiting for the translator that a failed one occupies.
    async fn settle(&self, status: Result<(), TransferError>) -> Result<(), PipeError> {
        if status.is_err() {
            self.clear_translator().await;
        }
        status.map_err(failed)
    }

    async fn begin(
        &self,
        queue: &mut Queue<'d, R, D, P>,
        request: Request<D::Buffer>,
    ) -> Result<(), PipeError> {
        let size = request.buffer.as_ref().map_or(0, Buffer::size);
        self.clear_translator().await;
        let transfer = self
            .shared
            .host
            .submit(self.id, request)
            .await
            .map_err(rejected)?;
        if let Some(free) = queue.iter_mut().find(|entry| entry.is_none()) {
            *free = Some((transfer, size));
        }
        Ok(())
    }
}

/// Waits for the oldest window; returns its end and the size that it was to have.
async fn oldest<R: Registers, D: Dma, P: Platform>(
    queue: &mut Queue<'_, R, D, P>,
) -> Option<(Completion<D::Buffer>, usize)> {
    let [first, second] = queue;
    // Waited for in place, so that dropping the request also drops, and thus abandons, the transfer.
    let (transfer, size) = first.as_mut()?;
    let size = *size;
    let end = transfer.await;
    *first = second.take();
    Some((end, size))
}

impl<'d, R: Registers, D: Dma, P: Platform, T: pipe::Type, Dir: pipe::Direction> UsbPipe<T, Dir>
    for Pipe<'d, R, D, P, T, Dir>
{
    async fn control_in(&mut self, setup: &[u8; 8], buf: &mut [u8]) -> Result<usize, PipeError>
    where
        T: pipe::IsControl,
        Dir: pipe::IsIn,
    {
        let [_, _, _, _, _, _, low, high] = *setup;
        let size = usize::from(u16::from_le_bytes([low, high]));
        if size > buf.len() {
            return Err(PipeError::BufferOverflow);
        }
        let buffer = match size {
            0 => None,
            _ => match self.shared.host.with(|ehci| ehci.dma().incoming(size)) {
                Some(Ok(buffer)) => Some(buffer),
                _ => return Err(PipeError::BufferOverflow),
            },
        };
        let end = self.control(setup, buffer).await?;
        Ok(receive(end, buf))
    }

    async fn control_out(&mut self, setup: &[u8; 8], buf: &[u8]) -> Result<(), PipeError>
    where
        T: pipe::IsControl,
        Dir: pipe::IsOut,
    {
        let buffer = if buf.is_empty() {
            None
        } else {
            match self.shared.host.with(|ehci| ehci.dma().outgoing(buf)) {
                Some(Ok(buffer)) => Some(buffer),
                _ => return Err(PipeError::BufferOverflow),
            }
        };
        self.control(setup, buffer).await.map(|_| ())
    }

    async fn request_in(&mut self, buf: &mut [u8]) -> Result<usize, PipeError>
    where
        Dir: pipe::IsIn,
    {
        // One report of an interrupt endpoint, not as many as fit.
        let limit = match self.endpoint.kind {
            Kind::Interrupt(_) => {
                self.endpoint.packet_bytes() as usize * usize::from(self.endpoint.transactions())
            }
            _ => usize::MAX,
        };
        let total = buf.len().min(limit);
        let mut queue: Queue<'d, R, D, P> = [const { None }; AHEAD];
        let (mut asked, mut received, mut window) = (0, 0, WINDOW);
        loop {
            while asked < total && queue.iter().any(Option::is_none) {
                let waiting = queue.iter().any(Option::is_some);
                let get = |dma: &D, size| dma.incoming(size).ok();
                let Some(buffer) = self.window(&mut window, total - asked, waiting, get)? else {
                    break;
                };
                let before = asked != 0;
                asked += buffer.size();
                let part = Part::new(before, asked < total);
                self.begin(
                    &mut queue,
                    Request {
                        part,
                        ..Request::new(buffer)
                    },
                )
                .await?;
            }
            let Some((end, size)) = oldest(&mut queue).await else {
                return Ok(received);
            };
            self.settle(end.status).await?;
            let count = receive(end, buf.get_mut(received..).unwrap_or_default());
            received += count;
            if count < size {
                return Ok(received);
            }
        }
    }

    async fn request_out(
        &mut self,
        buf: &[u8],
        ensure_transaction_end: bool,
    ) -> Result<(), PipeError>
    where
        Dir: pipe::IsOut,
    {
        // A command needs no buffer, unless an empty packet follows it.
        let is_full = buf
            .len()
            .is_multiple_of(self.endpoint.packet_bytes() as usize);
        if buf.len() <= SMALL && !is_full {
            self.clear_translator().await;
            let sent = self.shared.host.send(self.id, buf, None).await;
            return self.settle(sent.map_err(rejected)?.status).await;
        }
        let mut queue: Queue<'d, R, D, P> = [const { None }; AHEAD];
        let (mut sent, mut window) = (0, WINDOW);
        if buf.is_empty() {
            let empty = Request {
                buffer: None,
                zero_packet: false,
                trailer: 0,
                part: Part::Whole,
                quiet: false,
                timeout_us: None,
            };
            self.begin(&mut queue, empty).await?;
        }
        loop {
            while sent < buf.len() && queue.iter().any(Option::is_none) {
                let waiting = queue.iter().any(Option::is_some);
                let rest = buf.get(sent..).unwrap_or_default();
                let get = |dma: &D, size| dma.outgoing(rest.get(..size)?).ok();
                let Some(buffer) = self.window(&mut window, rest.len(), waiting, get)? else {
                    break;
                };
                let before = sent != 0;
                sent += buffer.size();
                let part = Part::new(before, sent < buf.len());
                let zero_packet = ensure_transaction_end && sent == buf.len();
                self.begin(
                    &mut queue,
                    Request {
                        zero_packet,
                        part,
                        ..Request::new(buffer)
                    },
                )
                .await?;
            }
            let Some((end, _)) = oldest(&mut queue).await else {
                return Ok(());
            };
            self.settle(end.status).await?;
        }
    }

    fn set_timeout(&mut self, timeout: TimeoutConfig)
    where
        T: pipe::IsControl,
    {
        let microseconds =
            |duration: core::time::Duration| duration.as_micros().try_into().unwrap_or(u64::MAX);
        self.data_timeout_us = microseconds(timeout.data_timeout);
        self.no_data_timeout_us = microseconds(timeout.no_data_timeout);
    }

    fn reset_data_toggle(&mut self)
    where
        T: pipe::IsBulkOrInterrupt,
    {
        self.shared.host.with(|ehci| ehci.reset_toggle(self.id));
    }
}

/// Copies what was received to the front of `into`; returns how much that was.
fn receive<B: Buffer>(end: Completion<B>, into: &mut [u8]) -> usize {
    match (end.buffer, into.get_mut(..end.bytes)) {
        (Some(mut buffer), Some(into)) => {
            buffer.copy_received(into);
            end.bytes
        }
        _ => 0,
    }
}

fn rejected(error: SubmitError) -> PipeError {
    match error {
        SubmitError::NotRunning | SubmitError::NoSuchPipe | SubmitError::Disconnected => {
            PipeError::Disconnected
        }
        SubmitError::WrongLength { .. }
        | SubmitError::NoDescriptors
        | SubmitError::NoTransfers
        | SubmitError::NotTheEnd
        | SubmitError::BadPackets
        | SubmitError::TooFarAhead => PipeError::BufferOverflow,
        SubmitError::Busy | SubmitError::WrongKind => PipeError::Canceled,
    }
}

fn failed(error: TransferError) -> PipeError {
    match error {
        TransferError::Stall => PipeError::Stall,
        TransferError::Babble => PipeError::Babble,
        TransferError::Transaction
        | TransferError::DataBuffer
        | TransferError::MissedMicroframe => PipeError::BadResponse,
        TransferError::Timeout => PipeError::Timeout,
        TransferError::Disconnected | TransferError::ControllerFailed => PipeError::Disconnected,
        TransferError::Cancelled | TransferError::Flushed => PipeError::Canceled,
    }
}
