//! USB devices through IOS: `/dev/usb/ven`, version 5, as the embassy USB host traits.
//!
//! IOS has the controller, its ports, hubs and addresses. It tells of devices (one for each interface of a real one), and
//! transfers data for them. So what the traits' users do first is answered here: SET_ADDRESS is only noted, and the
//! descriptors of device and configuration are those that IOS has read. Everything else goes to the device.
//!
//! Requests of any length are cut into windows of [`WINDOW`] bytes. While IOS has one, the next is filled, or the last one
//! emptied: a window is given to IOS only after the one before it has ended in full, because IOS would not stop after a short
//! one. Callers' buffers may lie anywhere; what IOS gets is in the pool.
//!
//! Facts: hardware notes, section 6.4.

pub mod message;
mod pipe;

pub use pipe::{Pipe, WINDOW};

use core::cell::RefCell;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;

use embassy_time::{Duration, Instant};
use embassy_usb_driver::host::{
    DeviceEvent, HostError, SplitInfo, UsbHostAllocator, UsbHostController, pipe as kind,
};
use embassy_usb_driver::{EndpointInfo, EndpointType, Speed};
use message::{CHANGES_BYTES, DEVICES, DeviceId, PARAMETERS_BYTES, Parameters, request};

use super::{Fd, IosError, Ipc, Mailbox, Pending, Request};

const PATH: &str = "/dev/usb/ven";

/// A device that was announced and to which nobody speaks is given up after this time, so that the next can be announced.
const UNADDRESSED: Duration = Duration::from_secs(2);
/// Time for IOS to end what it has when the service is no longer needed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is no USB through IOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VenError {
    /// A request failed. [`code::NOT_FOUND`](super::code::NOT_FOUND): this IOS has no such service.
    Ios(IosError),
    /// The service has another version.
    Version(u32),
}

impl From<IosError> for VenError {
    fn from(error: IosError) -> Self {
        Self::Ios(error)
    }
}

impl fmt::Display for VenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ios(error) => write!(f, "{PATH}: {error}"),
            Self::Version(version) => write!(f, "{PATH} has version {version:#x}, not 5.1"),
        }
    }
}

impl core::error::Error for VenError {}

/// The service with what is known of its devices.
pub struct UsbHost<'i, 'p, M: Mailbox> {
    ipc: &'i Ipc<'p, M>,
    fd: Fd,
    table: RefCell<Table>,
}

/// Devices, by the number that stands for a port.
struct Table {
    devices: [Option<Device>; DEVICES],
    /// The one that answers at address zero.
    default: Option<Default>,
    /// Open pipes to it.
    default_pipes: u8,
}

#[derive(Clone, Copy)]
struct Default {
    device: usize,
    since: Instant,
    /// A pipe to it has been open.
    spoken_to: bool,
}

struct Device {
    id: DeviceId,
    state: State,
    /// As the traits' user knows it; 0: not yet.
    address: u8,
    parameters: Parameters,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// IOS has told of it, nobody else knows.
    New,
    /// Resumed and announced.
    Announced,
    /// IOS would not give it.
    Refused,
    /// IOS does not tell of it any more, but it was announced.
    Gone,
}

impl<'i, 'p, M: Mailbox> UsbHost<'i, 'p, M> {
    /// Opens the service.
    ///
    /// # Errors
    /// This IOS does not have it, or another version of it.
    pub async fn open(ipc: &'i Ipc<'p, M>) -> Result<Self, VenError> {
        let fd = ipc.open(PATH, 0).await?;
        let mut version = [0; 32];
        ipc.ioctl(fd, request::VERSION, &[], &mut version).await?;
        let [a, b, c, d, ..] = version;
        match u32::from_be_bytes([a, b, c, d]) {
            message::VERSION => Ok(Self {
                ipc,
                fd,
                table: RefCell::new(Table {
                    devices: [const { None }; DEVICES],
                    default: None,
                    default_pipes: 0,
                }),
            }),
            other => {
                ipc.close(fd).await?;
                Err(VenError::Version(other))
            }
        }
    }

    /// Returns the object that reports devices. Make one at a time: several would take each other's changes.
    pub const fn controller(&self) -> Controller<'_, 'i, 'p, M> {
        Controller {
            host: self,
            change: None,
            first: true,
            last_port: None,
        }
    }

    /// Suspends every device, ends what IOS still has, and closes the service. Pipes and controller are gone by then.
    ///
    /// # Errors
    /// The first failure; the others are tried all the same.
    pub async fn close(&self) -> Result<(), VenError> {
        let mut end = Ok(());
        for index in 0..DEVICES {
            let id = self.with(|table| {
                let device = table.devices.get(index)?.as_ref()?;
                (device.state == State::Announced).then_some(device.id)
            });
            if let Some(id) = id {
                end = end.and(self.resume(id, false).await);
            }
        }
        end = end.and(self.control(request::SHUTDOWN, &[]).await);
        let idle = async {
            while self.ipc.statistics().in_flight > 0 {
                self.ipc.poll();
                embassy_futures::yield_now().await;
            }
        };
        // What IOS does not give back stays its own; the pool tells.
        let _ = embassy_time::with_timeout(FAREWELL, idle).await;
        Ok(end.and(self.ipc.close(self.fd).await)?)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Table) -> T) -> T {
        // Never borrowed across a call to anything else.
        act(&mut self.table.borrow_mut())
    }

    /// A request with a device and without an answer but its result.
    async fn control(&self, number: u32, input: &[u8]) -> Result<(), IosError> {
        self.ipc
            .ioctl(self.fd, number, input, &mut [])
            .await
            .map(|_| ())
    }

    async fn resume(&self, id: DeviceId, resume: bool) -> Result<(), IosError> {
        self.control(request::SUSPEND_RESUME, &message::resume(id, resume))
            .await
    }

    /// Gets to know a device that IOS has told of, so that it can be announced.
    async fn attach(&self, index: usize, id: DeviceId) -> Result<Speed, IosError> {
        self.resume(id, true).await?;
        let mut parameters = [0; PARAMETERS_BYTES];
        self.ipc
            .ioctl(
                self.fd,
                request::DEVICE_PARAMETERS,
                &message::device(id),
                &mut parameters,
            )
            .await?;
        let parameters = Parameters(parameters);
        self.with(|table| {
            // It may have gone meanwhile.
            let device = table.devices.get_mut(index).and_then(Option::as_mut);
            let device = device.filter(|device| device.id == id && device.state == State::New);
            let device = device.ok_or(IosError::Refused(super::code::NOT_FOUND))?;
            device.parameters = parameters;
            device.state = State::Announced;
            table.default = Some(Default {
                device: index,
                since: Instant::now(),
                spoken_to: false,
            });
            Ok(if parameters.is_high_speed() {
                Speed::High
            } else {
                Speed::Full
            })
        })
    }
}

impl Table {
    /// Compares what IOS tells of with what is known.
    fn update(&mut self, told: &[DeviceId]) {
        for place in &mut self.devices {
            match place {
                Some(device) if !told.contains(&device.id) => match device.state {
                    State::New | State::Refused => *place = None,
                    State::Announced | State::Gone => device.state = State::Gone,
                },
                _ => {}
            }
        }
        for &id in told {
            let mut known = self.devices.iter().flatten();
            if known.any(|device| device.id == id && device.state != State::Gone) {
                continue;
            }
            // There are as many places as IOS has devices, but some may still be taken by devices that have gone.
            if let Some(free) = self.devices.iter_mut().find(|place| place.is_none()) {
                *free = Some(Device {
                    id,
                    state: State::New,
                    address: 0,
                    parameters: Parameters([0; PARAMETERS_BYTES]),
                });
            }
        }
    }

    /// Forgets a device that has gone, and returns its number.
    fn take_gone(&mut self) -> Option<usize> {
        let is_gone = |place: &Option<Device>| {
            place
                .as_ref()
                .is_some_and(|device| device.state == State::Gone)
        };
        let index = self.devices.iter().position(is_gone)?;
        if self.default.is_some_and(|default| default.device == index) {
            self.default = None;
        }
        *self.devices.get_mut(index)? = None;
        Some(index)
    }

    /// Returns the next device to announce, if no other is in the middle of its enumeration.
    fn next_new(&mut self) -> Option<(usize, DeviceId)> {
        let given_up =
            |default: &Default| default.spoken_to || default.since.elapsed() > UNADDRESSED;
        if self.default_pipes != 0 || !self.default.as_ref().is_none_or(given_up) {
            return None;
        }
        let mut devices = self.devices.iter().enumerate();
        devices.find_map(|(index, place)| {
            let device = place.as_ref()?;
            (device.state == State::New).then_some((index, device.id))
        })
    }
}

/// Reports devices that come and go; the trait's [`UsbHostController`].
pub struct Controller<'h, 'i, 'p, M: Mailbox> {
    host: &'h UsbHost<'i, 'p, M>,
    /// IOS answers it when something has changed; the first at once.
    change: Option<Pending<'i, 'p, M>>,
    first: bool,
    last_port: Option<u8>,
}

impl<'h, 'i, 'p, M: Mailbox> Controller<'h, 'i, 'p, M> {
    /// Returns the number of the device of the last event. IOS does not tell ports; this number stays a device's own until it goes.
    pub fn last_event_port(&self) -> Option<u8> {
        self.last_port
    }

    /// Gives no pipe to the device with a number any more, until it is plugged in again.
    pub fn disable_port(&mut self, port: u8) {
        self.host.with(|table| {
            let index = usize::from(port);
            if table.default.is_some_and(|default| default.device == index) {
                table.default = None;
            }
            if let Some(Some(device)) = table.devices.get_mut(index)
                && device.state == State::Announced
            {
                device.state = State::Refused;
                device.address = 0;
            }
        });
    }

    /// Waits until IOS tells of a change, and notes it. Dropped, it goes on where it was the next time.
    async fn changed(&mut self) -> Result<(), IosError> {
        let host = self.host;
        if self.change.is_none() {
            if !core::mem::take(&mut self.first) {
                host.control(request::ATTACH_FINISH, &[]).await?;
            }
            let change = Request::ioctl(
                host.ipc.device(),
                host.fd,
                request::DEVICE_CHANGE,
                &[],
                CHANGES_BYTES,
            )?;
            self.change = Some(host.ipc.submit(change)?);
        }
        let reply = poll_fn(|context| match &mut self.change {
            Some(change) => Pin::new(change).poll(context),
            None => Poll::Pending,
        })
        .await;
        self.change = None;
        let mut reply = reply?;
        let mut list = [0; CHANGES_BYTES];
        reply.receive(1, &mut list)?;
        let mut told = heapless::Vec::<_, DEVICES>::new();
        told.extend(message::devices(&list, reply.result as usize));
        host.with(|table| table.update(&told));
        Ok(())
    }
}

impl<'h, 'i: 'h, 'p: 'i, M: Mailbox + 'h> UsbHostController<'h> for Controller<'h, 'i, 'p, M> {
    type Allocator = Allocator<'h, 'i, 'p, M>;

    fn allocator(&self) -> Self::Allocator {
        Allocator { host: self.host }
    }

    /// Waits for a device to come or to go. Devices are announced one at a time: the next one when the last has got its
    /// address, or has been given up.
    async fn wait_for_device_event(&mut self) -> DeviceEvent {
        let host = self.host;
        loop {
            if let Some(gone) = host.with(Table::take_gone) {
                self.last_port = Some(gone as u8);
                return DeviceEvent::Disconnected;
            }
            if let Some((index, id)) = host.with(Table::next_new) {
                match host.attach(index, id).await {
                    Ok(speed) => {
                        self.last_port = Some(index as u8);
                        return DeviceEvent::Connected(speed);
                    }
                    Err(_) => {
                        warning!("IOS does not give USB device {}", index);
                        host.with(|table| {
                            let device = table.devices.get_mut(index).and_then(Option::as_mut);
                            if let Some(device) = device.filter(|device| device.id == id) {
                                device.state = State::Refused;
                            }
                        });
                    }
                }
                continue;
            }
            // A change, or the end of another device's enumeration.
            let mut changed = core::pin::pin!(self.changed());
            let failed = poll_fn(|context| {
                if let Poll::Ready(end) = changed.as_mut().poll(context) {
                    return Poll::Ready(end.is_err());
                }
                if host.with(|table| table.next_new().is_some()) {
                    return Poll::Ready(false);
                }
                Poll::Pending
            });
            if failed.await {
                // IOS does not tell any more; devices that are there can still be used.
                warning!("IOS tells no changes of USB devices");
                core::future::pending::<()>().await;
            }
        }
    }

    /// Suspends and resumes the device of the last event: the nearest to a reset that IOS offers.
    async fn bus_reset(&mut self) {
        let host = self.host;
        let id = host.with(|table| {
            let index = usize::from(self.last_port?);
            Some(table.devices.get(index)?.as_ref()?.id)
        });
        if let Some(id) = id {
            for resume in [false, true] {
                if host.resume(id, resume).await.is_err() {
                    warning!("IOS does not reset a USB device");
                }
            }
        }
    }
}

/// Makes pipes; the trait's [`UsbHostAllocator`].
pub struct Allocator<'h, 'i, 'p, M: Mailbox> {
    host: &'h UsbHost<'i, 'p, M>,
}

impl<M: Mailbox> Clone for Allocator<'_, '_, '_, M> {
    fn clone(&self) -> Self {
        Self { host: self.host }
    }
}

impl<'h, 'i: 'h, 'p: 'i, M: Mailbox + 'h> UsbHostAllocator<'h> for Allocator<'h, 'i, 'p, M> {
    type Pipe<T: kind::Type, D: kind::Direction> = Pipe<'h, 'i, 'p, M, T, D>;

    fn alloc_pipe<T: kind::Type, D: kind::Direction>(
        &self,
        address: u8,
        endpoint: &EndpointInfo,
        split: Option<SplitInfo>,
    ) -> Result<Self::Pipe<T, D>, HostError> {
        if T::ep_type() == EndpointType::Isochronous {
            return Err(HostError::Other("isochronous endpoints are not supported"));
        }
        if split.is_some() {
            return Err(HostError::Other("IOS does not tell what is behind a hub"));
        }
        if endpoint.max_packet_size & 0x7FF == 0 {
            return Err(HostError::InvalidDescriptor);
        }
        let found = self.host.with(|table| {
            let index = match address {
                0 => {
                    let default = table.default.as_mut()?;
                    default.spoken_to = true;
                    default.device
                }
                _ => table.devices.iter().position(|place| {
                    let device = place.as_ref();
                    device.is_some_and(|device| device.address == address)
                })?,
            };
            let device = table.devices.get(index)?.as_ref()?;
            if address == 0 {
                table.default_pipes = table.default_pipes.saturating_add(1);
            }
            Some((index, device.id))
        });
        let (device, id) = found.ok_or(HostError::NoSuchDevice)?;
        Ok(Pipe::new(self.host, device, id, address, endpoint))
    }
}

#[cfg(test)]
mod tests;
