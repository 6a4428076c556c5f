//! A wrapper around any USB host driver's pipes that bounds every wait and keeps a tally.
//!
//! The mass-storage class of `embassy-usb-host` waits for ever for a stick that answers NAK, and
//! does not tell how many bytes a stick really delivered: a stick that sends too few and claims
//! success would hand stale memory to the caller. This wrapper sits between the class and the
//! driver, gives each transfer a deadline, and counts bytes and commands.

use core::cell::Cell;
use core::marker::PhantomData;

use embassy_time::{Duration, with_timeout};
use embassy_usb_driver::EndpointInfo;
use embassy_usb_driver::host::{
    HostError, PipeError, SplitInfo, TimeoutConfig, UsbHostAllocator, UsbPipe, pipe,
};

/// Longest time that one transfer may take. A healthy stick answers within milliseconds; slow ones
/// take up to seconds when they tidy up their flash.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// First bytes and length of a command block wrapper (Bulk-Only Transport, section 5.1).
const CBW_SIGNATURE: &[u8] = b"USBC";
const CBW_LENGTH: usize = 31;

/// Length of a command status wrapper (Bulk-Only Transport, section 5.2).
const CSW_LENGTH: usize = 13;

/// What went through the pipes of one device, and how long a transfer may take on them.
pub struct Tally {
    commands: Cell<u64>,
    received: Cell<u64>,
    patience: Cell<Duration>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Makes an empty tally.
    pub const fn new() -> Self {
        Self {
            commands: Cell::new(0),
            received: Cell::new(0),
            patience: Cell::new(TRANSFER_TIMEOUT),
        }
    }

    /// Sets the longest time that one transfer may take from now on; [`TRANSFER_TIMEOUT`] at first.
    pub fn set_patience(&self, patience: Duration) {
        self.patience.set(patience);
    }

    /// Returns the number of command block wrappers sent.
    pub fn commands(&self) -> u64 {
        self.commands.get()
    }

    /// Returns the number of bytes received in data phases of commands.
    pub fn received(&self) -> u64 {
        self.received.get()
    }
}

/// Hands out pipes that share a [`Tally`]; see the module.
pub struct Watched<'t, 'd, A> {
    allocator: A,
    tally: &'t Tally,
    _driver: PhantomData<&'d ()>,
}

impl<'t, 'd, A: UsbHostAllocator<'d>> Watched<'t, 'd, A> {
    /// Wraps a driver's allocator.
    pub fn new(allocator: A, tally: &'t Tally) -> Self {
        Self {
            allocator,
            tally,
            _driver: PhantomData,
        }
    }
}

impl<A: Clone> Clone for Watched<'_, '_, A> {
    fn clone(&self) -> Self {
        Self {
            allocator: self.allocator.clone(),
            tally: self.tally,
            _driver: PhantomData,
        }
    }
}

impl<'t, 'd: 't, A: UsbHostAllocator<'d>> UsbHostAllocator<'t> for Watched<'t, 'd, A> {
    type Pipe<T: pipe::Type, D: pipe::Direction> = WatchedPipe<'t, A::Pipe<T, D>>;

    fn alloc_pipe<T: pipe::Type, D: pipe::Direction>(
        &self,
        address: u8,
        endpoint: &EndpointInfo,
        split: Option<SplitInfo>,
    ) -> Result<Self::Pipe<T, D>, HostError> {
        let pipe = self.allocator.alloc_pipe(address, endpoint, split)?;
        Ok(WatchedPipe {
            pipe,
            tally: self.tally,
        })
    }
}

/// A pipe of a [`Watched`] driver. Dropping a transfer aborts it, as the driver's contract demands;
/// that is how a deadline ends one.
pub struct WatchedPipe<'t, P> {
    pipe: P,
    tally: &'t Tally,
}

async fn within<T>(
    tally: &Tally,
    transfer: impl Future<Output = Result<T, PipeError>>,
) -> Result<T, PipeError> {
    with_timeout(tally.patience.get(), transfer)
        .await
        .unwrap_or(Err(PipeError::Timeout))
}

impl<T: pipe::Type, D: pipe::Direction, P: UsbPipe<T, D>> UsbPipe<T, D> for WatchedPipe<'_, P> {
    async fn control_in(&mut self, setup: &[u8; 8], buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        T: pipe::IsControl,
        D: pipe::IsIn,
    {
        within(self.tally, self.pipe.control_in(setup, buffer)).await
    }

    async fn control_out(&mut self, setup: &[u8; 8], buffer: &[u8]) -> Result<(), PipeError>
    where
        T: pipe::IsControl,
        D: pipe::IsOut,
    {
        within(self.tally, self.pipe.control_out(setup, buffer)).await
    }

    async fn request_in(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError>
    where
        D: pipe::IsIn,
    {
        let is_status = buffer.len() == CSW_LENGTH;
        let received = within(self.tally, self.pipe.request_in(buffer)).await?;
        if !is_status {
            self.tally.received.update(|sum| sum + received as u64);
        }
        Ok(received)
    }

    async fn request_out(&mut self, buffer: &[u8], end: bool) -> Result<(), PipeError>
    where
        D: pipe::IsOut,
    {
        if buffer.len() == CBW_LENGTH && buffer.starts_with(CBW_SIGNATURE) {
            self.tally.commands.update(|count| count + 1);
        }
        within(self.tally, self.pipe.request_out(buffer, end)).await
    }

    fn set_timeout(&mut self, timeout: TimeoutConfig)
    where
        T: pipe::IsControl,
    {
        self.pipe.set_timeout(timeout);
    }

    fn reset_data_toggle(&mut self)
    where
        T: pipe::IsBulkOrInterrupt,
    {
        self.pipe.reset_data_toggle();
    }
}
