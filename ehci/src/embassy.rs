//! Adapter to the embassy USB host traits, so that embassy-usb-host's enumeration and class drivers run on this driver.
//!
//! The traits have no port numbers and one transfer at a time on a pipe; what they lack is in [`Host`] and [`Ehci`].
//! A device's root port is found by watching the standard requests that pass: SET_ADDRESS, and SET_FEATURE(PORT_RESET) to
//! a hub. `max_packet_size` and `interval_ms` of an `EndpointInfo` are taken as the raw descriptor fields that
//! embassy-usb-host fills them with.
//!
//! A request of any length is moved in windows of [`WINDOW`] bytes, two of them queued at a time, through buffers of the
//! memory provider; the caller's slice is never given to the controller. When such a buffer is not to be had, windows
//! shrink down to a packet before the request fails.

use crate::controller::{Ehci, PortEvent};
use crate::endpoint::{Direction, Endpoint, Kind, Translator};
use crate::error::{OpenError, SubmitError, TransferError};
use crate::host::{Host, Transfer};
use crate::memory::{Buffer, Dma};
use crate::pipe::PipeId;
use crate::platform::Platform;
use crate::port::{PortChange, Speed};
use crate::registers::Registers;
use crate::transfer::{Completion, Part, Request};
use core::cell::RefCell;
use core::marker::PhantomData;
use embassy_usb_driver::host::{
    DeviceEvent, HostError, PipeError, SplitInfo, SplitSpeed, TimeoutConfig, UsbHostAllocator,
    UsbHostController, UsbPipe, pipe,
};
use embassy_usb_driver::{EndpointInfo, EndpointType};

/// Bytes that are moved at a time: four full qTDs where the buffer begins at a page.
pub const WINDOW: usize = 4 * 20_480;
/// Windows that are queued at a time, so that the bus has work while one is copied.
const AHEAD: usize = 2;
/// Time for a control request until [`UsbPipe::set_timeout`] says otherwise (USB 2.0, section 9.2.6.1).
const CONTROL_TIMEOUT_US: u64 = 5_000_000;
/// A device that was reset and to which nobody speaks is silenced after this time, so that the next can be reset.
const UNADDRESSED_US: u64 = 2_000_000;

/// A controller with what the traits need beside it.
pub struct UsbHost<R: Registers, D: Dma, P: Platform> {
    host: Host<R, D, P>,
    routes: RefCell<Routes>,
}

/// Which root port a device is behind.
struct Routes {
    /// By address; the default address is in `default`.
    ports: [Option<u8>; 128],
    default: Option<Default>,
    /// Open pipes to the default address.
    default_pipes: u8,
}

/// The device that answers at address zero.
#[derive(Clone, Copy)]
struct Default {
    port: u8,
    since: u64,
    /// It was reset by a hub, which also serialises the use of the address.
    behind_hub: bool,
    /// A pipe to it has been open.
    spoken_to: bool,
}

impl<R: Registers, D: Dma, P: Platform> UsbHost<R, D, P> {
    /// Takes a started controller.
    pub const fn new(ehci: Ehci<R, D, P>) -> Self {
        let routes = Routes {
            ports: [None; 128],
            default: None,
            default_pipes: 0,
        };
        Self {
            host: Host::new(ehci),
            routes: RefCell::new(routes),
        }
    }

    /// Returns the controller behind the traits.
    pub const fn host(&self) -> &Host<R, D, P> {
        &self.host
    }

    /// Returns the object that reports devices. Make one at a time: several would take each other's events.
    pub const fn controller(&self) -> Controller<'_, R, D, P> {
        Controller {
            shared: self,
            attached: 0,
            resetting: None,
            announced: 0,
            last_event: None,
        }
    }

    /// Returns an allocator of pipes.
    pub const fn allocator(&self) -> Allocator<'_, R, D, P> {
        Allocator { shared: self }
    }

    /// Returns the root port, counted from zero, that the device with an address is behind.
    pub fn port_of(&self, address: u8) -> Option<u8> {
        self.routes(|routes| routes.ports.get(usize::from(address)).copied().flatten())
            .flatten()
    }

    fn routes<T>(&self, use_them: impl FnOnce(&mut Routes) -> T) -> Option<T> {
        // Never borrowed across a call to anything else, so that this always succeeds.
        self.routes
            .try_borrow_mut()
            .ok()
            .map(|mut routes| use_them(&mut routes))
    }

    fn now(&self) -> u64 {
        self.host.with(|ehci| ehci.platform().now_us()).unwrap_or(0)
    }

    /// Whether a device on a root port may be reset: nothing else answers at address zero. Silences what should not.
    fn default_address_is_free(&self) -> bool {
        let now = self.now();
        let Some((default, pipes)) = self.routes(|routes| (routes.default, routes.default_pipes))
        else {
            return false;
        };
        let Some(default) = default else {
            return pipes == 0;
        };
        let given_up = default.spoken_to || now.saturating_sub(default.since) > UNADDRESSED_US;
        if pipes != 0 || !given_up {
            return false;
        }
        if !default.behind_hub {
            self.host.with(|ehci| ehci.disable_port(default.port));
        }
        self.routes(|routes| routes.default = None);
        true
    }

    fn set_default(&self, port: u8, behind_hub: bool) {
        let since = self.now();
        self.routes(|routes| {
            routes.default = Some(Default {
                port,
                since,
                behind_hub,
                spoken_to: false,
            })
        });
    }

    fn forget_port(&self, port: u8) {
        self.routes(|routes| {
            routes
                .ports
                .iter_mut()
                .filter(|entry| **entry == Some(port))
                .for_each(|entry| *entry = None);
            if routes.default.is_some_and(|default| default.port == port) {
                routes.default = None;
            }
        });
    }

    /// Learns from a request that a device has accepted.
    fn observe(&self, address: u8, port: Option<u8>, setup: &[u8; 8]) {
        let [kind, request, value, _, ..] = *setup;
        match (kind, request, value) {
            // SET_ADDRESS (USB 2.0, section 9.4.6).
            (0x00, 5, new) if address == 0 => {
                self.routes(|routes| {
                    if let Some(entry) = routes.ports.get_mut(usize::from(new)) {
                        *entry = port;
                    }
                    routes.default = None;
                });
            }
            // SET_FEATURE(PORT_RESET) to a hub (USB 2.0, section 11.24.2.13).
            (0x23, 3, 4) => {
                if let Some(port) = self.port_of(address) {
                    self.set_default(port, true);
                }
            }
            _ => {}
        }
    }
}

/// Reports devices on root ports; the trait's [`UsbHostController`].
pub struct Controller<'d, R: Registers, D: Dma, P: Platform> {
    shared: &'d UsbHost<R, D, P>,
    /// Ports with a device that waits for its reset.
    attached: u16,
    resetting: Option<u8>,
    /// Ports whose device was reported.
    announced: u16,
    last_event: Option<PortEvent>,
}

impl<'d, R: Registers, D: Dma, P: Platform> Controller<'d, R, D, P> {
    /// Returns the port, counted from zero, of the event that was reported last.
    pub fn last_event_port(&self) -> Option<u8> {
        self.last_event.map(|event| event.port)
    }

    /// Returns the last event on any port, also of those that are not reported: hand-over, failed reset.
    pub fn last_event(&self) -> Option<PortEvent> {
        self.last_event
    }

    fn take(&mut self, PortEvent { port, change }: PortEvent) -> Option<DeviceEvent> {
        let bit = 1 << port;
        let was_announced = self.announced & bit != 0;
        self.last_event = Some(PortEvent { port, change });
        if self.resetting == Some(port) {
            self.resetting = None;
        }
        match change {
            PortChange::Attached => self.attached |= bit,
            PortChange::Enabled => {
                self.announced |= bit;
                self.shared.set_default(port, false);
                return Some(DeviceEvent::Connected(embassy_usb_driver::Speed::High));
            }
            PortChange::Detached | PortChange::OverCurrent | PortChange::Disabled => {
                self.attached &= !bit;
                self.announced &= !bit;
                self.shared.forget_port(port);
                if change == PortChange::OverCurrent {
                    return Some(DeviceEvent::Overcurrent);
                }
                return was_announced.then_some(DeviceEvent::Disconnected);
            }
            PortChange::HandedOver(_) | PortChange::Unsupported(_) | PortChange::ResetFailed => {
                self.announced &= !bit;
                return was_announced.then_some(DeviceEvent::Disconnected);
            }
            PortChange::Resumed => {}
        }
        None
    }

    /// Begins the reset of the next device that waits, if no other is in the middle of its enumeration.
    fn reset_next(&mut self) {
        if self.attached == 0 || self.resetting.is_some() || !self.shared.default_address_is_free()
        {
            return;
        }
        let port = self.attached.trailing_zeros() as u8;
        self.attached &= !(1 << port);
        if self.shared.host.with(|ehci| ehci.reset_port(port)) == Some(true) {
            self.resetting = Some(port);
        }
    }

    async fn event(&mut self) -> DeviceEvent {
        loop {
            let event = core::future::poll_fn(|context| {
                self.reset_next();
                let mut next = core::pin::pin!(self.shared.host.port_event());
                next.as_mut().poll(context)
            });
            let event = event.await;
            if let Some(reported) = self.take(event) {
                return reported;
            }
        }
    }
}

impl<'d, R: Registers + 'd, D: Dma + 'd, P: Platform + 'd> UsbHostController<'d>
    for Controller<'d, R, D, P>
{
    type Allocator = Allocator<'d, R, D, P>;

    fn allocator(&self) -> Self::Allocator {
        self.shared.allocator()
    }

    /// Waits for a device on any root port and resets it, or for one to leave. Devices are reset one at a time: the next
    /// one when the last has got its address, or has been given up.
    async fn wait_for_device_event(&mut self) -> DeviceEvent {
        self.event().await
    }

    /// Resets the device of the event that was reported last.
    async fn bus_reset(&mut self) {
        let Some(port) = self.last_event_port() else {
            return;
        };
        if self.shared.host.with(|ehci| ehci.reset_port(port)) != Some(true) {
            return;
        }
        self.shared.forget_port(port);
        loop {
            let event = self.shared.host.port_event().await;
            self.take(event);
            if event.port == port {
                return;
            }
        }
    }
}

/// Makes pipes; the trait's [`UsbHostAllocator`].
pub struct Allocator<'d, R: Registers, D: Dma, P: Platform> {
    shared: &'d UsbHost<R, D, P>,
}

impl<R: Registers, D: Dma, P: Platform> Clone for Allocator<'_, R, D, P> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared,
        }
    }
}

impl<'d, R: Registers + 'd, D: Dma + 'd, P: Platform + 'd> UsbHostAllocator<'d>
    for Allocator<'d, R, D, P>
{
    type Pipe<T: pipe::Type, Dir: pipe::Direction> = Pipe<'d, R, D, P, T, Dir>;

    fn alloc_pipe<T: pipe::Type, Dir: pipe::Direction>(
        &self,
        addr: u8,
        info: &EndpointInfo,
        split: Option<SplitInfo>,
    ) -> Result<Self::Pipe<T, Dir>, HostError> {
        let direction = if Dir::is_in() {
            Direction::In
        } else {
            Direction::Out
        };
        let kind = match T::ep_type() {
            EndpointType::Control => Kind::Control,
            EndpointType::Bulk => Kind::Bulk(direction),
            EndpointType::Interrupt => Kind::Interrupt(direction),
            EndpointType::Isochronous => {
                return Err(HostError::Other("isochronous endpoints are not supported"));
            }
        };
        let (speed, translator) = match split {
            None => (Speed::High, None),
            Some(split) => {
                let speed = match split.device_speed() {
                    SplitSpeed::Low => Speed::Low,
                    SplitSpeed::Full => Speed::Full,
                };
                (
                    speed,
                    Some(Translator {
                        hub_address: split.hub_addr(),
                        hub_port: split.port(),
                    }),
                )
            }
        };
        let shared = self.shared;
        let root_port = match (addr, translator) {
            (0, None) => shared
                .routes(|routes| routes.default.map(|default| default.port))
                .flatten(),
            (0, Some(translator)) => shared.port_of(translator.hub_address),
            _ => shared.port_of(addr),
        };
        let endpoint = Endpoint {
            address: addr,
            number: info.addr.index() as u8,
            kind,
            speed,
            max_packet: info.max_packet_size,
            interval: info.interval_ms,
            translator,
            root_port,
        };
        let opened = shared.host.with(|ehci| ehci.open(&endpoint));
        let id = opened
            .unwrap_or(Err(OpenError::NotRunning))
            .map_err(refused)?;
        if addr == 0 {
            shared.routes(|routes| {
                routes.default_pipes = routes.default_pipes.saturating_add(1);
                if let Some(default) = &mut routes.default {
                    default.spoken_to = true;
                }
            });
        }
        Ok(Pipe {
            shared,
            id,
            endpoint,
            data_timeout_us: CONTROL_TIMEOUT_US,
            no_data_timeout_us: CONTROL_TIMEOUT_US,
            marker: PhantomData,
        })
    }
}

fn refused(error: OpenError) -> HostError {
    match error {
        OpenError::NoQueueHead | OpenError::NoDescriptors => HostError::OutOfPipes,
        OpenError::WrongKind => HostError::Other("isochronous endpoints are not pipes"),
        OpenError::NoBandwidth => HostError::Other("no periodic bandwidth left"),
        OpenError::NotRunning => HostError::Other("the controller is not running"),
        OpenError::BadRoute => HostError::Other("speed and route to the device do not fit"),
        OpenError::BadAddress | OpenError::BadMaxPacket { .. } | OpenError::BadInterval { .. } => {
            HostError::InvalidDescriptor
        }
    }
}

/// A pipe; the trait's [`UsbPipe`]. Dropping it closes the endpoint's queue.
pub struct Pipe<'d, R: Registers, D: Dma, P: Platform, T, Dir> {
    shared: &'d UsbHost<R, D, P>,
    id: PipeId,
    endpoint: Endpoint,
    data_timeout_us: u64,
    no_data_timeout_us: u64,
    marker: PhantomData<(T, Dir)>,
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
        let end = self
            .shared
            .host
            .control(self.id, *setup, buffer, Some(timeout))
            .await
            .map_err(rejected)?;
        end.status.map_err(failed)?;
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

    async fn begin(
        &self,
        queue: &mut Queue<'d, R, D, P>,
        request: Request<D::Buffer>,
    ) -> Result<(), PipeError> {
        let size = request.buffer.as_ref().map_or(0, Buffer::size);
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
            end.status.map_err(failed)?;
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
        let mut queue: Queue<'d, R, D, P> = [const { None }; AHEAD];
        let (mut sent, mut window) = (0, WINDOW);
        if buf.is_empty() {
            let empty = Request {
                buffer: None,
                zero_packet: false,
                part: Part::Whole,
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
            end.status.map_err(failed)?;
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
