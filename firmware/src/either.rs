//! Two USB host drivers as one, so that everything above them is compiled once.

use embassy_usb_driver::EndpointInfo;
use embassy_usb_driver::host::{
    DeviceEvent, HostError, PipeError, SplitInfo, TimeoutConfig, UsbHostAllocator,
    UsbHostController, UsbPipe, pipe,
};

use crate::sticks::RootPorts;

/// One of two drivers, allocators or pipes.
#[derive(Clone, Copy, Debug)]
pub enum Either<A, B> {
    /// The first.
    A(A),
    /// The second.
    B(B),
}

/// Does the same with whichever it is.
macro_rules! both {
    ($either:expr, $inner:ident => $what:expr) => {
        match $either {
            Either::A($inner) => $what,
            Either::B($inner) => $what,
        }
    };
}

impl<'d, A, B> UsbHostController<'d> for Either<A, B>
where
    A: UsbHostController<'d>,
    B: UsbHostController<'d>,
{
    type Allocator = Either<A::Allocator, B::Allocator>;

    fn allocator(&self) -> Self::Allocator {
        match self {
            Self::A(controller) => Either::A(controller.allocator()),
            Self::B(controller) => Either::B(controller.allocator()),
        }
    }

    async fn wait_for_device_event(&mut self) -> DeviceEvent {
        both!(self, controller => controller.wait_for_device_event().await)
    }

    async fn bus_reset(&mut self) {
        both!(self, controller => controller.bus_reset().await);
    }
}

impl<A: RootPorts, B: RootPorts> RootPorts for Either<A, B> {
    fn last_event_port(&self) -> Option<u8> {
        both!(self, controller => controller.last_event_port())
    }

    fn disable_port(&mut self, port: u8) {
        both!(self, controller => controller.disable_port(port));
    }

    fn take_unserved(&mut self) -> Option<ehci::PortEvent> {
        both!(self, controller => controller.take_unserved())
    }
}

impl<'d, A, B> UsbHostAllocator<'d> for Either<A, B>
where
    A: UsbHostAllocator<'d>,
    B: UsbHostAllocator<'d>,
{
    type Pipe<T: pipe::Type, D: pipe::Direction> = Either<A::Pipe<T, D>, B::Pipe<T, D>>;

    fn alloc_pipe<T: pipe::Type, D: pipe::Direction>(
        &self,
        address: u8,
        endpoint: &EndpointInfo,
        split: Option<SplitInfo>,
    ) -> Result<Self::Pipe<T, D>, HostError> {
        Ok(match self {
            Self::A(allocator) => Either::A(allocator.alloc_pipe(address, endpoint, split)?),
            Self::B(allocator) => Either::B(allocator.alloc_pipe(address, endpoint, split)?),
        })
    }
}

impl<T, D, A, B> UsbPipe<T, D> for Either<A, B>
where
    T: pipe::Type,
    D: pipe::Direction,
    A: UsbPipe<T, D>,
    B: UsbPipe<T, D>,
{
    async fn control_in(&mut self, setup: &[u8; 8], buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        T: pipe::IsControl,
        D: pipe::IsIn,
    {
        both!(self, pipe => pipe.control_in(setup, buffer).await)
    }

    async fn control_out(&mut self, setup: &[u8; 8], buffer: &[u8]) -> Result<(), PipeError>
    where
        T: pipe::IsControl,
        D: pipe::IsOut,
    {
        both!(self, pipe => pipe.control_out(setup, buffer).await)
    }

    async fn request_in(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        D: pipe::IsIn,
    {
        both!(self, pipe => pipe.request_in(buffer).await)
    }

    async fn request_out(&mut self, buffer: &[u8], end: bool) -> Result<(), PipeError>
    where
        D: pipe::IsOut,
    {
        both!(self, pipe => pipe.request_out(buffer, end).await)
    }

    fn set_timeout(&mut self, timeout: TimeoutConfig)
    where
        T: pipe::IsControl,
    {
        both!(self, pipe => pipe.set_timeout(timeout));
    }

    fn reset_data_toggle(&mut self)
    where
        T: pipe::IsBulkOrInterrupt,
    {
        both!(self, pipe => pipe.reset_data_toggle());
    }
}
