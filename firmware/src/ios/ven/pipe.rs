//! Transfers: a pipe to an endpoint of a device that IOS has.

use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use embassy_time::{Duration, with_timeout};
use embassy_usb_driver::host::{PipeError, TimeoutConfig, UsbPipe, pipe as kind};
use embassy_usb_driver::{EndpointInfo, EndpointType};

use super::message::{self, DeviceId, Message, request};
use super::{State, UsbHost};
use crate::ios::{IosError, Mailbox, Output, Pending, Reply, Request, code};

/// Most bytes that IOS is given at a time: what is known to work for mass storage (hardware notes, section 6.4).
pub const WINDOW: usize = 16 * 1024;

/// Time for a control request until [`UsbPipe::set_timeout`] says otherwise (USB 2.0, section 9.2.6.1).
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// A pipe; the trait's [`UsbPipe`].
pub struct Pipe<'h, 'i, 'p, M: Mailbox, T, D> {
    host: &'h UsbHost<'i, 'p, M>,
    /// Number and name of the device.
    device: usize,
    id: DeviceId,
    /// As the pipe's user knows the device.
    address: u8,
    /// With the direction in bit 7.
    endpoint: u8,
    max_packet: usize,
    data_timeout: Duration,
    no_data_timeout: Duration,
    /// IOS is to end what it has for the endpoint, and to forget its data toggle, before the next transfer.
    stale: bool,
    marker: PhantomData<(T, D)>,
}

impl<'h, 'i, 'p, M: Mailbox, T: kind::Type, D: kind::Direction> Pipe<'h, 'i, 'p, M, T, D> {
    pub(super) fn new(
        host: &'h UsbHost<'i, 'p, M>,
        device: usize,
        id: DeviceId,
        address: u8,
        endpoint: &EndpointInfo,
    ) -> Self {
        let number = endpoint.addr.index() as u8;
        let is_in = T::ep_type() != EndpointType::Control && D::is_in();
        Self {
            host,
            device,
            id,
            address,
            endpoint: if is_in { number | 0x80 } else { number },
            max_packet: usize::from(endpoint.max_packet_size & 0x7FF),
            data_timeout: CONTROL_TIMEOUT,
            no_data_timeout: CONTROL_TIMEOUT,
            stale: false,
            marker: PhantomData,
        }
    }
}

impl<M: Mailbox, T, D> Drop for Pipe<'_, '_, '_, M, T, D> {
    fn drop(&mut self) {
        if self.address == 0 {
            self.host
                .with(|table| table.default_pipes = table.default_pipes.saturating_sub(1));
        }
    }
}

/// A transfer that IOS has. Dropped before its end, it is cancelled; its memory stays IOS's until then.
struct Transfer<'h, 'i, 'p, M: Mailbox> {
    host: &'h UsbHost<'i, 'p, M>,
    id: DeviceId,
    endpoint: u8,
    pending: Option<Pending<'i, 'p, M>>,
}

impl<'p, M: Mailbox> Future for Transfer<'_, '_, 'p, M> {
    type Output = Result<Reply<'p>, PipeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(pending) = &mut self.pending else {
            return Poll::Ready(Err(PipeError::Canceled));
        };
        Pin::new(pending).poll(context).map(|end| {
            self.pending = None;
            end.map_err(failed)
        })
    }
}

impl<M: Mailbox> Drop for Transfer<'_, '_, '_, M> {
    fn drop(&mut self) {
        if self.pending.take().is_none() {
            return;
        }
        let cancel = message::device_with(self.id, self.endpoint);
        let (ipc, fd) = (self.host.ipc, self.host.fd);
        let request = Request::ioctl(ipc.device(), fd, request::CANCEL_ENDPOINT, &cancel, 0);
        match request.and_then(|request| ipc.submit(request)) {
            Ok(pending) => pending.detach(),
            // The transfer stays with IOS until the device answers or leaves.
            Err(_) => warning!("a USB transfer could not be cancelled"),
        }
    }
}

impl<'h, 'i, 'p, M: Mailbox, T: kind::Type, D: kind::Direction> Pipe<'h, 'i, 'p, M, T, D> {
    /// The device is still there.
    fn check(&self) -> Result<(), PipeError> {
        let there = self.host.with(|table| {
            let device = table.devices.get(self.device).and_then(Option::as_ref);
            device.is_some_and(|device| device.id == self.id && device.state == State::Announced)
        });
        if there {
            Ok(())
        } else {
            Err(PipeError::Disconnected)
        }
    }

    /// Copies a transfer's message, and data for the device, into the pool.
    fn prepare(
        &self,
        number: u32,
        message: &Message,
        data: Data<'_>,
    ) -> Result<Request<'p>, IosError> {
        let (device, fd) = (self.host.ipc.device(), self.host.fd);
        match data {
            Data::Out(data) => Request::ioctlv(device, fd, number, &[message, data], &[]),
            Data::In(room) => Request::ioctlv(device, fd, number, &[message], &[room]),
        }
    }

    /// Gives a transfer to IOS as soon as it takes another one.
    async fn begin(&self, request: Request<'p>) -> Result<Transfer<'h, 'i, 'p, M>, PipeError> {
        self.host.ipc.room().await;
        self.check()?;
        let pending = self.host.ipc.submit(request).map_err(failed)?;
        Ok(Transfer {
            host: self.host,
            id: self.id,
            endpoint: self.endpoint,
            pending: Some(pending),
        })
    }

    /// Carries out a control transfer by the device.
    async fn request(&self, setup: &[u8; 8], data: Data<'_>) -> Result<Reply<'p>, PipeError> {
        let timeout = if data.len() == 0 {
            self.no_data_timeout
        } else {
            self.data_timeout
        };
        let transfer = async {
            let message = message::control(self.id, setup);
            let request = self.prepare(request::CONTROL, &message, data);
            self.begin(request.map_err(failed)?).await?.await
        };
        with_timeout(timeout, transfer)
            .await
            .unwrap_or(Err(PipeError::Timeout))
    }

    /// Reads from the device by a control transfer.
    async fn request_from(&self, setup: &[u8; 8], into: &mut [u8]) -> Result<usize, PipeError> {
        let room = Output::Zeroed(into.len());
        let mut reply = self.request(setup, Data::In(room)).await?;
        // IOS counts the setup packet, and Dolphin counts what was asked for: more than was asked for means all of it.
        let result = reply.result as usize;
        let mut received = result.min(into.len());
        if into.is_empty() {
            received = 0;
        }
        reply.receive(1, into).map_err(failed)?;
        // A string tells its own length (USB 2.0, section 9.6.7); what IOS counts too much is zeros.
        if let ([0x80, 6, _, 3, ..], Some(&length)) = (setup, into.first()) {
            received = received.min(length.into());
        }
        Ok(received)
    }

    /// Answers the requests of enumeration from what IOS has told, as far as IOS has done their work.
    fn answer(&self, setup: &[u8; 8], into: &mut [u8]) -> Option<Result<usize, PipeError>> {
        let [0x80, 6, index, kind, ..] = *setup else {
            return None;
        };
        let parameters = self.host.with(|table| {
            let device = table.devices.get(self.device)?.as_ref()?;
            (device.id == self.id).then_some(device.parameters)
        });
        let Some(parameters) = parameters else {
            return Some(Err(PipeError::Disconnected));
        };
        let (device, configuration);
        let bytes: &[u8] = match (kind, index) {
            (1, 0) => {
                device = parameters.device_descriptor();
                &device
            }
            (2, 0) => {
                configuration = parameters.configuration();
                &configuration
            }
            // IOS uses the first configuration only.
            (2, _) => return Some(Err(PipeError::Stall)),
            _ => return None,
        };
        let count = bytes.len().min(into.len());
        into.get_mut(..count)?.copy_from_slice(bytes.get(..count)?);
        Some(Ok(count))
    }

    /// Does what SET_ADDRESS means: IOS has given the device one, this is the one that the pipe's user knows.
    fn set_address(&self, address: u8) -> Result<(), PipeError> {
        self.check()?;
        self.host.with(|table| {
            if let Some(Some(device)) = table.devices.get_mut(self.device) {
                device.address = address;
            }
            table.default = None;
        });
        Ok(())
    }

    /// Does what SET_CONFIGURATION means: nothing if IOS has done so already, for it would reset data toggles behind IOS's back.
    async fn set_configuration(&self, setup: &[u8; 8], value: u8) -> Result<(), PipeError> {
        const GET_CONFIGURATION: [u8; 8] = [0x80, 8, 0, 0, 0, 0, 1, 0];
        let mut current = [0];
        self.request_from(&GET_CONFIGURATION, &mut current).await?;
        if current == [value] {
            return Ok(());
        }
        self.request(setup, Data::Out(&[])).await.map(drop)
    }

    /// Ends what IOS has for the endpoint, if it is to.
    async fn freshen(&mut self) -> Result<(), PipeError> {
        if core::mem::take(&mut self.stale) {
            self.check()?;
            let cancel = message::device_with(self.id, self.endpoint);
            // IOS refuses if there was nothing to end.
            let _ = self.host.control(request::CANCEL_ENDPOINT, &cancel).await;
        }
        Ok(())
    }

    /// Prepares the next window of `left` bytes; a smaller one if there is no room. Returns its size with it.
    fn window<'a>(
        &self,
        left: usize,
        data: impl Fn(usize) -> Data<'a>,
    ) -> Result<(Request<'p>, usize), PipeError> {
        let mut size = left.min(self.window_bytes());
        loop {
            // A window fits.
            let len = size as u16;
            let (number, message) = match T::ep_type() {
                EndpointType::Interrupt => (
                    request::INTERRUPT,
                    message::interrupt(self.id, self.endpoint, len),
                ),
                _ => (request::BULK, message::bulk(self.id, self.endpoint, len)),
            };
            match self.prepare(number, &message, data(size)) {
                Ok(request) => return Ok((request, size)),
                Err(IosError::Memory(_)) if size > self.max_packet => {
                    size = (size / 2 / self.max_packet).max(1) * self.max_packet;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Largest window: whole packets, and for an interrupt endpoint one, since it is a report.
    fn window_bytes(&self) -> usize {
        match T::ep_type() {
            EndpointType::Interrupt => self.max_packet,
            _ => WINDOW - WINDOW % self.max_packet,
        }
    }
}

/// The data stage of a request.
#[derive(Clone, Copy)]
enum Data<'a> {
    Out(&'a [u8]),
    In(Output),
}

impl Data<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Out(data) => data.len(),
            Self::In(Output::Zeroed(len) | Output::Undefined(len)) => *len,
        }
    }
}

impl<'h, 'i, 'p, M: Mailbox, T: kind::Type, D: kind::Direction> UsbPipe<T, D>
    for Pipe<'h, 'i, 'p, M, T, D>
{
    async fn control_in(&mut self, setup: &[u8; 8], buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        T: kind::IsControl,
        D: kind::IsIn,
    {
        let [.., low, high] = *setup;
        let size = usize::from(u16::from_le_bytes([low, high]));
        let into = buffer.get_mut(..size).ok_or(PipeError::BufferOverflow)?;
        match self.answer(setup, into) {
            Some(end) => end,
            None => self.request_from(setup, into).await,
        }
    }

    async fn control_out(&mut self, setup: &[u8; 8], buffer: &[u8]) -> Result<(), PipeError>
    where
        T: kind::IsControl,
        D: kind::IsOut,
    {
        match *setup {
            [0x00, 5, address, ..] => self.set_address(address),
            [0x00, 9, value, ..] => self.set_configuration(setup, value).await,
            // SET_INTERFACE.
            [0x01, 11, setting, ..] => {
                self.check()?;
                let device = message::device_with(self.id, setting);
                let set = self.host.control(request::SET_ALTERNATE, &device);
                set.await.map_err(failed)
            }
            _ => self.request(setup, Data::Out(buffer)).await.map(drop),
        }
    }

    async fn request_in(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        D: kind::IsIn,
    {
        self.freshen().await?;
        let total = match T::ep_type() {
            EndpointType::Interrupt => buffer.len().min(self.window_bytes()),
            _ => buffer.len(),
        };
        let room = |size| Data::In(Output::Undefined(size));
        let (mut received, mut ahead) = (0, None);
        loop {
            let (transfer, size) = match ahead.take() {
                Some(begun) => begun,
                None if received == total => return Ok(received),
                None => {
                    let (request, size) = self.window(total - received, room)?;
                    (self.begin(request).await?, size)
                }
            };
            let mut reply = transfer.await?;
            let count = reply.result as usize;
            let end = received + count;
            if count > size {
                return Err(PipeError::Babble);
            }
            // IOS fills the next window while this one is copied. Without room for both, one after the other.
            if count == size
                && end < total
                && let Ok((request, size)) = self.window(total - end, room)
            {
                ahead = Some((self.begin(request).await?, size));
            }
            let into = buffer.get_mut(received..end).unwrap_or_default();
            reply.receive(1, into).map_err(failed)?;
            received = end;
            if count < size {
                return Ok(received);
            }
        }
    }

    async fn request_out(
        &mut self,
        buffer: &[u8],
        ensure_transaction_end: bool,
    ) -> Result<(), PipeError>
    where
        D: kind::IsOut,
    {
        self.freshen().await?;
        let mut rest = buffer;
        let ends_full = buffer.len().is_multiple_of(self.max_packet);
        let mut empty_packet = buffer.is_empty() || ensure_transaction_end && ends_full;
        let mut ahead = None;
        loop {
            let data = rest;
            let window = |size| Data::Out(data.get(..size).unwrap_or_default());
            let (request, size) = match ahead.take() {
                Some(prepared) => prepared,
                None if rest.is_empty() && !empty_packet => return Ok(()),
                None => self.window(rest.len(), window)?,
            };
            empty_packet &= size != 0;
            rest = rest.get(size..).unwrap_or_default();
            let transfer = self.begin(request).await?;
            // The next window is copied while IOS has this one. Without room for both, one after the other.
            if !rest.is_empty() {
                let window = |size| Data::Out(rest.get(..size).unwrap_or_default());
                ahead = self.window(rest.len(), window).ok();
            }
            let reply = transfer.await?;
            if reply.result as usize != size {
                // A device takes all, or says that it does not.
                return Err(PipeError::BadResponse);
            }
        }
    }

    fn set_timeout(&mut self, timeout: TimeoutConfig)
    where
        T: kind::IsControl,
    {
        let microseconds =
            |duration: core::time::Duration| duration.as_micros().try_into().unwrap_or(u64::MAX);
        self.data_timeout = Duration::from_micros(microseconds(timeout.data_timeout));
        self.no_data_timeout = Duration::from_micros(microseconds(timeout.no_data_timeout));
    }

    fn reset_data_toggle(&mut self)
    where
        T: kind::IsBulkOrInterrupt,
    {
        self.stale = true;
    }
}

/// What a failure means to the pipe's user.
fn failed(error: IosError) -> PipeError {
    match error {
        IosError::Refused(code::STALL) => PipeError::Stall,
        IosError::Refused(code::CANCELLED) => PipeError::Canceled,
        // IOS does not know the device any more.
        IosError::Refused(code::NOT_FOUND | code::INVALID) | IosError::Silent => {
            PipeError::Disconnected
        }
        IosError::Overrun(_) => PipeError::Babble,
        IosError::Busy | IosError::Memory(_) | IosError::TooManyBuffers | IosError::TooLong => {
            PipeError::BufferOverflow
        }
        IosError::Refused(_)
        | IosError::NoReply(_)
        | IosError::OutsideMem2(_)
        | IosError::BadPath => PipeError::BadResponse,
    }
}
