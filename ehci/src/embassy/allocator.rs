//! Pipes from descriptors: what embassy-usb-host knows of an endpoint, and the way to its device.

use super::{Pipe, UsbHost};
use crate::endpoint::{Direction, Endpoint, Kind, Translator};
use crate::error::OpenError;
use crate::memory::Dma;
use crate::platform::Platform;
use crate::port::Speed;
use crate::registers::Registers;
use embassy_usb_driver::host::{HostError, SplitInfo, SplitSpeed, UsbHostAllocator, pipe};
use embassy_usb_driver::{EndpointInfo, EndpointType};

/// Makes pipes; the trait's [`UsbHostAllocator`].
pub struct Allocator<'d, R: Registers, D: Dma, P: Platform> {
    shared: &'d UsbHost<R, D, P>,
}

impl<'d, R: Registers, D: Dma, P: Platform> Allocator<'d, R, D, P> {
    pub(super) const fn new(shared: &'d UsbHost<R, D, P>) -> Self {
        Self { shared }
    }
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
        // embassy-usb-host's HID driver leaves the interval out: 8 ms, as keyboards ask for (USB 2.0, section 9.6.6).
        let interval = match (kind, speed, info.interval_ms) {
            (Kind::Interrupt(_), Speed::High, 0) => 7,
            (Kind::Interrupt(_), _, 0) => 8,
            (_, _, raw) => raw,
        };
        let endpoint = Endpoint {
            address: addr,
            number: info.addr.index() as u8,
            kind,
            speed,
            max_packet: info.max_packet_size,
            interval,
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
        Ok(Pipe::new(shared, id, endpoint))
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
