//! Adapter to the embassy USB host traits, so that embassy-usb-host's enumeration and class drivers run on this driver.
//!
//! The traits have no port numbers and one transfer at a time on a pipe; what they lack is in [`Host`] and [`Ehci`].
//! A device's root port is found by watching the standard requests that pass: SET_ADDRESS, and SET_FEATURE(PORT_RESET) to
//! a hub. `max_packet_size` and `interval_ms` of an `EndpointInfo` are taken as the raw descriptor fields that
//! embassy-usb-host fills them with.
//!
//! A request of any length is moved in windows of [`WINDOW`] bytes, two of them queued at a time, through buffers of the
//! memory provider; the caller's slice is never given to the controller. When such a buffer is not to be had, windows
//! shrink down to a packet before the request fails. Isochronous endpoints have no transfers in the traits: see
//! [`Host::submit_batch`]. A failed or dropped request through a transaction translator is followed by the request that
//! clears the translator, before the next one to it.

mod allocator;
mod controller;
mod pipe;
mod translator;

pub use allocator::Allocator;
pub use controller::Controller;
pub use pipe::{Pipe, WINDOW};

use crate::controller::Ehci;
use crate::host::Host;
use crate::memory::Dma;
use crate::platform::Platform;
use crate::registers::Registers;
use core::cell::{Cell, RefCell};

/// A device that was reset and to which nobody speaks is silenced after this time, so that the next can be reset.
const UNADDRESSED_US: u64 = 2_000_000;

/// A controller with what the traits need beside it.
pub struct UsbHost<R: Registers, D: Dma, P: Platform> {
    host: Host<R, D, P>,
    routes: RefCell<Routes>,
    /// Somebody is clearing translators' buffers.
    clearing: Cell<bool>,
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
            clearing: Cell::new(false),
        }
    }

    /// Returns the controller behind the traits.
    pub const fn host(&self) -> &Host<R, D, P> {
        &self.host
    }

    /// Returns the object that reports devices. Make one at a time: several would take each other's events.
    pub const fn controller(&self) -> Controller<'_, R, D, P> {
        Controller::new(self)
    }

    /// Returns an allocator of pipes.
    pub const fn allocator(&self) -> Allocator<'_, R, D, P> {
        Allocator::new(self)
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
