//! Sticks: the mass-storage class of `embassy-usb-host` as [`BlockDevice`]s.
//!
//! The library speaks Bulk-Only Transport and recovers from stalls; this module adds what real and
//! hostile sticks need besides: deadlines and checked lengths ([`crate::watch`]), patience until the
//! medium is ready, retries with limits, and errors that name the cause.

use core::fmt;

use embassy_time::{Duration, Instant, Timer};
use embassy_usb_driver::host::{PipeError, UsbHostAllocator};
use embassy_usb_host::class::msc::{
    CommandOutcome, DataDir, MscDevice, MscError, MscLun, PeripheralType, SenseData,
};
use embassy_usb_host::handler::EnumerationInfo;

use crate::block::{BlockDevice, BlockError, Cause, Counters, Sense, check_range, is_block_size};
use crate::watch::{TRANSFER_TIMEOUT, Tally, Watched};

/// Longest time that a unit may take to become ready.
pub const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time that a unit without a medium is given to find one.
pub const NO_MEDIUM_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest time that a transfer of a command that writes may take: sticks make room in their flash
/// before they take more.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time between two questions whether a unit is ready.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// How often a command is tried in all.
const ATTEMPTS: u32 = 3;

/// Sense keys (SPC-3, table 27) and additional sense codes that mean something here.
mod sense {
    /// Nothing to say: after a failed command, what there was to say got lost.
    pub const NO_SENSE: u8 = 0x0;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const ABORTED_COMMAND: u8 = 0xB;
    /// With UNIT ATTENTION: the medium may have been changed.
    pub const CODE_MEDIUM_CHANGED: u8 = 0x28;
    /// With NOT READY: there is no medium.
    pub const CODE_NO_MEDIUM: u8 = 0x3A;
    /// With NOT READY: code and qualifier of a unit that waits for START STOP UNIT.
    pub const START_NEEDED: (u8, u8) = (0x04, 0x02);
}

/// Why a device cannot be used as a stick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickError {
    /// It has no interface of the mass-storage class with SCSI commands over Bulk-Only Transport.
    NotMassStorage,
    /// The unit is something else than a block device: its SCSI peripheral device type.
    NotBlocks(PeripheralType),
    /// The unit's block size in bytes is not supported.
    BlockSize(u32),
    /// A step of getting to know it failed.
    Failed {
        /// Which step.
        step: &'static str,
        /// Why.
        cause: Cause,
    },
}

impl fmt::Display for StickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMassStorage => {
                f.write_str("not a mass-storage device with SCSI over Bulk-Only Transport")
            }
            Self::NotBlocks(kind) => write!(f, "not a block device but {kind:?}"),
            Self::BlockSize(bytes) => write!(f, "blocks of {bytes} bytes are not supported"),
            Self::Failed { step, cause } => write!(f, "{step}: {cause}"),
        }
    }
}

impl core::error::Error for StickError {}

/// A device of the mass-storage class: one or more logical units.
pub struct MassStorage<'t, 'd: 't, A: UsbHostAllocator<'d>> {
    device: MscDevice<'t, Watched<'t, 'd, A>>,
    tally: &'t Tally,
}

impl<'t, 'd: 't, A: UsbHostAllocator<'d> + 't> MassStorage<'t, 'd, A> {
    /// Opens an enumerated and configured device. `tally` belongs to it alone.
    ///
    /// # Errors
    /// [`StickError::NotMassStorage`], or [`StickError::Failed`].
    pub async fn open(
        allocator: A,
        tally: &'t Tally,
        info: &EnumerationInfo,
        configuration: &[u8],
    ) -> Result<Self, StickError> {
        if !is_well_formed(configuration) {
            return Err(StickError::Failed {
                step: "reading its descriptors",
                cause: Cause::Protocol("one has an impossible length"),
            });
        }
        match MscDevice::new(&Watched::new(allocator, tally), info, configuration).await {
            Ok(device) => Ok(Self { device, tally }),
            Err(MscError::NoInterface) => Err(StickError::NotMassStorage),
            Err(error) => Err(StickError::Failed {
                step: "opening the device",
                cause: cause(&error),
            }),
        }
    }

    /// Returns the number of logical units, 1 to 16.
    pub fn units(&self) -> u8 {
        self.device.num_luns()
    }

    /// Gets to know a logical unit: waits until it is ready, asks for its names and capacity.
    ///
    /// # Errors
    /// Any [`StickError`] but `NotMassStorage`.
    pub async fn unit(&self, number: u8) -> Result<Unit<'_, 't, 'd, A>, StickError> {
        let failed = |step| move |cause| StickError::Failed { step, cause };
        let mut lun = self
            .device
            .lun(number)
            .map_err(|error| failed("logical unit")(cause(&error)))?;

        let mut names = [0; 36];
        let mut attempt = 1;
        let (kind, vendor, product) = loop {
            names.fill(0);
            match lun.inquiry(&mut names).await {
                Ok(data) => break (data.peripheral, text(data.vendor), text(data.product)),
                Err(error) => retry(&mut attempt, cause(&error))
                    .await
                    .map_err(failed("INQUIRY"))?,
            }
        };
        if !matches!(
            kind,
            PeripheralType::DirectAccess | PeripheralType::SimplifiedDirectAccess
        ) {
            return Err(StickError::NotBlocks(kind));
        }
        self.wait_until_ready(&mut lun)
            .await
            .map_err(failed("waiting for the medium"))?;
        let mut attempt = 1;
        let capacity = loop {
            match lun.capacity().await {
                Ok(capacity) => break capacity,
                Err(error) => retry(&mut attempt, cause(&error))
                    .await
                    .map_err(failed("READ CAPACITY"))?,
            }
        };
        let size = capacity.block_size;
        if !is_block_size(size) {
            return Err(StickError::BlockSize(size));
        }
        let (block_size, blocks) = (size, capacity.block_count);
        Ok(Unit {
            device: &self.device,
            lun,
            tally: self.tally,
            vendor,
            product,
            block_size,
            blocks,
            counters: Counters::default(),
        })
    }

    /// Has a unit bring what was written to its medium, and stop: it can be unplugged then. Its medium is
    /// gone for this program.
    ///
    /// # Errors
    /// Why it did not stop.
    pub async fn eject(&self, number: u8) -> Result<(), Cause> {
        /// Stop and eject, and answer when that is done (SBC-3, section 5.19).
        const STOP_UNIT: [u8; 6] = [0x1B, 0, 0, 0, 2, 0];
        /// The cache of the whole medium (SBC-3, section 5.22).
        const SYNCHRONIZE_CACHE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut lun = self.device.lun(number).map_err(|error| cause(&error))?;
        self.tally.set_patience(WRITE_TIMEOUT);
        let mut outcome = Ok(());
        for command in [&SYNCHRONIZE_CACHE[..], &STOP_UNIT] {
            let failure = match self.device.command(number, command, DataDir::None).await {
                Ok(CommandOutcome::Ok { .. }) => continue,
                Ok(CommandOutcome::Failed { .. }) => match lun.request_sense().await {
                    Ok(data) => scsi(data),
                    Err(error) => cause(&error),
                },
                Err(error) => cause(&error),
            };
            // Sticks without a cache, or that cannot stop, have nothing to do.
            if !matches!(
                failure,
                Cause::Device(Sense {
                    key: sense::ILLEGAL_REQUEST,
                    ..
                })
            ) {
                outcome = Err(failure);
                break;
            }
        }
        self.tally.set_patience(TRANSFER_TIMEOUT);
        outcome
    }

    /// Asks a unit whether it is ready until it is. After power-on and after a change of the medium
    /// sticks answer UNIT ATTENTION first; some need seconds to start.
    async fn wait_until_ready<'s>(
        &'s self,
        lun: &mut MscLun<'s, 't, Watched<'t, 'd, A>>,
    ) -> Result<(), Cause> {
        const TEST_UNIT_READY: [u8; 6] = [0; 6];
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let failure = match self
                .device
                .command(lun.lun(), &TEST_UNIT_READY, DataDir::None)
                .await
            {
                Ok(CommandOutcome::Ok { .. }) => return Ok(()),
                Ok(CommandOutcome::Failed { .. }) => match lun.request_sense().await {
                    Ok(data) => scsi(data),
                    Err(error) => cause(&error),
                },
                Err(error) => cause(&error),
            };
            match failure {
                // The command is optional for sticks that are always ready.
                Cause::Device(Sense {
                    key: sense::ILLEGAL_REQUEST,
                    ..
                }) => return Ok(()),
                Cause::NotReady(Sense {
                    code, qualifier, ..
                }) => {
                    let limit = match code {
                        sense::CODE_NO_MEDIUM => NO_MEDIUM_TIMEOUT,
                        _ => READY_TIMEOUT,
                    };
                    if started.elapsed() >= limit {
                        return Err(failure);
                    }
                    if (code, qualifier) == sense::START_NEEDED {
                        /// START, and answer at once (SBC-3, section 5.19).
                        const START_UNIT: [u8; 6] = [0x1B, 1, 0, 0, 1, 0];
                        // If it fails, the next question says why.
                        let _ = self
                            .device
                            .command(lun.lun(), &START_UNIT, DataDir::None)
                            .await;
                    }
                }
                Cause::Device(Sense {
                    key: sense::UNIT_ATTENTION,
                    ..
                }) if started.elapsed() < READY_TIMEOUT => {}
                _ => retry(&mut attempt, failure).await?,
            }
            Timer::after(READY_INTERVAL).await;
        }
    }
}

/// A logical unit whose medium is ready: a stick.
pub struct Unit<'s, 't, 'd: 't, A: UsbHostAllocator<'d>> {
    device: &'s MscDevice<'t, Watched<'t, 'd, A>>,
    lun: MscLun<'s, 't, Watched<'t, 'd, A>>,
    tally: &'t Tally,
    vendor: Text,
    product: Text,
    block_size: u32,
    blocks: u64,
    /// All but the number of commands, which the tally knows.
    counters: Counters,
}

impl<'d, A: UsbHostAllocator<'d>> Unit<'_, '_, 'd, A> {
    /// Returns the vendor's name.
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// Returns the product's name.
    pub fn product(&self) -> &str {
        &self.product
    }
}

impl<'d, A: UsbHostAllocator<'d>> BlockDevice for Unit<'_, '_, 'd, A> {
    fn block_size(&self) -> u32 {
        self.block_size
    }

    fn blocks(&self) -> u64 {
        self.blocks
    }

    async fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let blocks = check_range(self.block_size, self.blocks, first, buffer.len())?;
        let mut attempt = 1;
        loop {
            let (started, received) = (Instant::now(), self.tally.received());
            let result = self.lun.read_blocks(first, buffer).await;
            self.counters.read_us += started.elapsed().as_micros();
            let cause = match result {
                // What the stick says it sent does not count: what arrived does.
                Ok(()) if self.tally.received() - received == buffer.len() as u64 => {
                    self.counters.bytes_read += buffer.len() as u64;
                    return Ok(());
                }
                Ok(()) => Cause::Protocol("it sent less than it was asked for"),
                Err(error) => cause(&error),
            };
            retry(&mut attempt, cause)
                .await
                .map_err(|cause| BlockError {
                    block: first,
                    blocks,
                    cause,
                })?;
        }
    }

    async fn write(&mut self, first: u64, buffer: &[u8]) -> Result<(), BlockError> {
        let blocks = check_range(self.block_size, self.blocks, first, buffer.len())?;
        let mut attempt = 1;
        loop {
            let started = Instant::now();
            self.tally.set_patience(WRITE_TIMEOUT);
            let result = self.lun.write_blocks(first, buffer).await;
            self.tally.set_patience(TRANSFER_TIMEOUT);
            self.counters.write_us += started.elapsed().as_micros();
            let cause = match result {
                Ok(()) => {
                    self.counters.bytes_written += buffer.len() as u64;
                    return Ok(());
                }
                Err(error) => cause(&error),
            };
            retry(&mut attempt, cause)
                .await
                .map_err(|cause| BlockError {
                    block: first,
                    blocks,
                    cause,
                })?;
        }
    }

    async fn flush(&mut self) -> Result<(), BlockError> {
        let mut attempt = 1;
        loop {
            let started = Instant::now();
            self.tally.set_patience(WRITE_TIMEOUT);
            let result = self.lun.flush().await;
            self.tally.set_patience(TRANSFER_TIMEOUT);
            self.counters.write_us += started.elapsed().as_micros();
            let cause = match result.as_ref().map_err(cause) {
                // The command is optional for sticks without a cache.
                Ok(())
                | Err(Cause::Device(Sense {
                    key: sense::ILLEGAL_REQUEST,
                    ..
                })) => return Ok(()),
                Err(cause) => cause,
            };
            retry(&mut attempt, cause).await.map_err(no_blocks)?;
        }
    }

    async fn is_write_protected(&mut self) -> Result<bool, BlockError> {
        /// All pages, with the length that other systems ask for: some sticks know no other.
        const MODE_SENSE: [u8; 6] = [0x1A, 0, 0x3F, 0, 192, 0];
        /// Length of the header, and the bit of its third byte (SPC-3, section 7.4.3; SBC-3, 6.3.1).
        const HEADER: usize = 4;
        const WRITE_PROTECTED: u8 = 0x80;
        let mut data = [0; 192];
        let mut attempt = 1;
        loop {
            let received = self.tally.received();
            let command = DataDir::In(&mut data);
            let failure = match self
                .device
                .command(self.lun.lun(), &MODE_SENSE, command)
                .await
            {
                Ok(CommandOutcome::Ok { .. }) => {
                    let whole = self.tally.received() - received >= HEADER as u64;
                    return Ok(whole && data[2] & WRITE_PROTECTED != 0);
                }
                Ok(CommandOutcome::Failed { .. }) => match self.lun.request_sense().await {
                    Ok(data) => scsi(data),
                    Err(error) => cause(&error),
                },
                Err(error) => cause(&error),
            };
            match retry(&mut attempt, failure).await {
                Ok(()) => {}
                // The command is optional.
                Err(Cause::Device(_) | Cause::Protocol(_)) => return Ok(false),
                Err(cause) => return Err(no_blocks(cause)),
            }
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            commands: self.tally.commands(),
            ..self.counters
        }
    }
}

/// An error that is about no blocks.
fn no_blocks(cause: Cause) -> BlockError {
    BlockError {
        block: 0,
        blocks: 0,
        cause,
    }
}

/// Whether a configuration descriptor is followed by whole descriptors to its end. The library's
/// iterators would look at one of no length for ever.
fn is_well_formed(configuration: &[u8]) -> bool {
    let mut rest = configuration;
    while let [length, ..] = *rest {
        let after = rest.split_at_checked(length.into());
        let Some((_, after)) = after.filter(|_| length >= 2) else {
            return false;
        };
        rest = after;
    }
    true
}

/// Decides after a failure whether to try again, and waits a little if so.
///
/// # Errors
/// The failure itself, if trying again is pointless or was done often enough.
async fn retry(attempt: &mut u32, failure: Cause) -> Result<(), Cause> {
    let hopeful = match failure {
        Cause::Device(Sense { key, code, .. }) => match key {
            sense::UNIT_ATTENTION => code != sense::CODE_MEDIUM_CHANGED,
            key => matches!(key, sense::NO_SENSE | sense::ABORTED_COMMAND),
        },
        Cause::NotReady(Sense { code, .. }) => code != sense::CODE_NO_MEDIUM,
        // The library resets the transport before the next command.
        Cause::Timeout | Cause::Protocol(_) | Cause::Transfer(_) => true,
        // The disk finds out which block it is; asking again takes sticks seconds.
        Cause::Medium(_) => false,
        Cause::Gone | Cause::WriteProtected | Cause::OutOfRange | Cause::Unaligned => false,
    };
    if !hopeful || *attempt >= ATTEMPTS {
        return Err(failure);
    }
    *attempt += 1;
    debug!("a command failed; attempt {} follows", *attempt);
    Timer::after(READY_INTERVAL).await;
    Ok(())
}

/// Translates sense data.
fn scsi(data: SenseData) -> Cause {
    let sense = Sense {
        key: data.key as u8,
        code: data.asc,
        qualifier: data.ascq,
    };
    match sense.key {
        sense::MEDIUM_ERROR => Cause::Medium(sense),
        sense::NOT_READY => Cause::NotReady(sense),
        sense::DATA_PROTECT => Cause::WriteProtected,
        _ => Cause::Device(sense),
    }
}

/// Translates an error of the library.
fn cause(error: &MscError) -> Cause {
    match error {
        MscError::Transfer(PipeError::Disconnected) => Cause::Gone,
        MscError::Transfer(PipeError::Timeout) => Cause::Timeout,
        MscError::Transfer(PipeError::Stall) => Cause::Protocol("it stalled where it must not"),
        MscError::Transfer(PipeError::Babble | PipeError::BufferOverflow) => {
            Cause::Protocol("it sent more than it was asked for")
        }
        MscError::Transfer(PipeError::BadResponse | PipeError::DataToggleError) => {
            Cause::Transfer("transmission errors")
        }
        MscError::Transfer(PipeError::Canceled) => Cause::Transfer("cancelled"),
        MscError::Transfer(_) => Cause::Transfer("unknown error"),
        MscError::Scsi(data) => scsi(*data),
        MscError::NoPipe => Cause::Transfer("the driver has no pipe left"),
        MscError::PhaseError => Cause::Protocol("it reported a phase error"),
        MscError::Protocol => Cause::Protocol("a wrong command status"),
        MscError::InvalidResponse => {
            Cause::Protocol("an answer of the wrong length or with impossible values")
        }
        MscError::OutOfRange => Cause::OutOfRange,
        MscError::Unaligned => Cause::Unaligned,
        MscError::NoInterface | MscError::NoSuchLun | MscError::InvalidCdb => {
            Cause::Protocol("no such logical unit")
        }
    }
}

/// A name from INQUIRY data.
type Text = heapless::String<16>;

/// Makes text of a padded ASCII field; other bytes become `?`.
fn text(field: &[u8]) -> Text {
    let end = field
        .iter()
        .rposition(|&byte| byte != b' ' && byte != 0)
        .map_or(0, |last| last + 1);
    let printable = |byte: &u8| {
        if (b' '..=b'~').contains(byte) {
            char::from(*byte)
        } else {
            '?'
        }
    };
    field[..end].iter().take(16).map(printable).collect()
}

#[cfg(test)]
mod tests;
