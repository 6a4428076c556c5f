//! Devices on root ports, one event at a time.

use super::{Allocator, UsbHost};
use crate::controller::{Ehci, PortEvent};
use crate::memory::Dma;
use crate::platform::Platform;
use crate::port::{MAX_PORTS, PortChange};
use crate::registers::Registers;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use embassy_usb_driver::host::{DeviceEvent, UsbHostController};

/// Reports devices on root ports; the trait's [`UsbHostController`].
pub struct Controller<'d, R: Registers, D: Dma, P: Platform> {
    shared: &'d UsbHost<R, D, P>,
    /// Ports with a device that waits for its reset.
    attached: u16,
    resetting: Option<u8>,
    /// Ports whose device was reported.
    announced: u16,
    last_event: Option<PortEvent>,
    /// By port: why the device that was plugged in last is not reported, until somebody asks.
    unserved: [Option<PortChange>; MAX_PORTS],
    /// How often the controller was started again.
    restarts: u8,
}

/// A controller that has failed is started again this often: it may have been a device's fault, or a busy emulator's.
const RESTARTS: u8 = 8;

impl<'d, R: Registers, D: Dma, P: Platform> Controller<'d, R, D, P> {
    pub(super) const fn new(shared: &'d UsbHost<R, D, P>) -> Self {
        Self {
            shared,
            attached: 0,
            resetting: None,
            announced: 0,
            last_event: None,
            unserved: [None; MAX_PORTS],
            restarts: 0,
        }
    }

    /// Returns the port, counted from zero, of the event that was reported last.
    pub fn last_event_port(&self) -> Option<u8> {
        self.last_event.map(|event| event.port)
    }

    /// Disables a port: its device hears nothing until it is plugged in again. For one that could not be enumerated, and may
    /// answer at an address that another device is to get.
    pub fn disable_port(&mut self, port: u8) {
        self.shared.host.with(|ehci| ehci.disable_port(port));
        self.shared.forget_port(port);
    }

    /// Takes note of a device that is not reported, because it is not high speed: its port, counted from zero, and what became
    /// of it. Such a device does not end [`UsbHostController::wait_for_device_event`]; look here now and then.
    pub fn take_unserved(&mut self) -> Option<PortEvent> {
        let (port, change) = self
            .unserved
            .iter_mut()
            .enumerate()
            .find_map(|(port, entry)| Some((port as u8, entry.take()?)))?;
        Some(PortEvent { port, change })
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
            PortChange::Detached
            | PortChange::OverCurrent
            | PortChange::Disabled
            | PortChange::ResumeFailed => {
                self.attached &= !bit;
                self.announced &= !bit;
                self.shared.forget_port(port);
                if change == PortChange::OverCurrent {
                    return Some(DeviceEvent::Overcurrent);
                }
                return was_announced.then_some(DeviceEvent::Disconnected);
            }
            PortChange::HandedOver(_) | PortChange::Unsupported(_) | PortChange::ResetFailed => {
                if let Some(entry) = self.unserved.get_mut(usize::from(port)) {
                    *entry = Some(change);
                }
                self.announced &= !bit;
                return was_announced.then_some(DeviceEvent::Disconnected);
            }
            PortChange::Resumed => {}
        }
        None
    }

    /// Starts a controller again that has failed. Its devices have left meanwhile, and come back as new ones. One that does not
    /// start has failed again: the next look tries once more.
    fn revive(&mut self) {
        if self.restarts < RESTARTS && self.shared.host.with(Ehci::restart) == Some(true) {
            self.restarts += 1;
        }
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
            // Translators are cleared here as well, since whoever dropped a transfer may not come back.
            self.shared.clear_translators().await;
            let event = poll_fn(|context| {
                self.revive();
                self.reset_next();
                let event = pin!(self.shared.host.port_event()).poll(context);
                match event {
                    Poll::Ready(event) => Poll::Ready(Some(event)),
                    Poll::Pending if self.shared.has_translators_to_clear() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            });
            if let Some(event) = event.await
                && let Some(reported) = self.take(event)
            {
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
