//! Transfers: from a caller's request to a chain of qTDs, and back to a completion.
//!
//! A transfer owns its buffer from submission until its completion is taken. It ends only when the controller has let go
//! of its qTDs: because it retired them, because the queue head halted, or because the doorbell was answered after an
//! unlink. Forgetting about a transfer, or giving it up, therefore never frees memory that is still written to.

mod completion;
mod table;

pub(crate) use table::Transfers;

use crate::controller::{Ehci, State};
use crate::endpoint::{Direction, Kind};
use crate::error::{SubmitError, TransferError};
use crate::layout::{Pid, Qh, qh};
use crate::memory::{Buffer, Dma};
use crate::pipe::{Pipe, PipeId, Stage as PipeStage};
use crate::platform::Platform;
use crate::registers::Registers;
use crate::schedule::queue::{Chain, Stage};
use core::task::Waker;
use table::Life;

/// A transfer of a controller. It names nothing after its completion was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TransferId {
    index: u8,
    generation: u16,
}

/// A request on a bulk or interrupt pipe.
#[derive(Debug)]
pub struct Request<B> {
    /// The data; none is a single empty packet.
    pub buffer: Option<B>,
    /// Ends data that is a multiple of the packet size with an empty packet (OUT only).
    pub zero_packet: bool,
    /// Bytes at the end of the buffer that are moved as if by a transfer of their own: they follow also if a short packet ends
    /// those before. So the data of a Bulk-Only command and its status are one transfer. None, or fewer than the buffer has and at
    /// most 16 KiB.
    pub trailer: u16,
    /// Whether this is a request of its own or one of several pieces.
    pub part: Part,
    /// Asks for no interrupt when the data have been moved: for all but the last of several transfers that are waited for
    /// together. A short packet or an error interrupts in any case.
    pub quiet: bool,
    /// Gives up after this time, in microseconds.
    pub timeout_us: Option<u64>,
}

impl<B> Request<B> {
    /// Returns a request for one buffer without an end in time.
    pub const fn new(buffer: B) -> Self {
        Self {
            buffer: Some(buffer),
            zero_packet: false,
            trailer: 0,
            part: Part::Whole,
            quiet: false,
            timeout_us: None,
        }
    }
}

/// A qTD moves this much wherever it begins.
const MAX_TRAILER: u32 = 16 << 10;

/// How a transfer is queued.
struct How {
    part: Part,
    interrupt: bool,
    timeout_us: Option<u64>,
}

/// The place of a transfer in a request that is too large for one.
///
/// Every piece but the last has a size that is a multiple of the packet size. A short packet or an error in one piece
/// ends the request: the pieces behind it are not executed, whether they were submitted before or are submitted after
/// it is known. They end like a success without a byte after a short packet, and with
/// [`TransferError::Flushed`] after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Part {
    /// All of the request.
    Whole,
    /// The first of several pieces.
    First,
    /// Neither the first nor the last.
    Middle,
    /// The last of several pieces.
    Last,
}

impl Part {
    /// Returns the place of a piece by whether something is before and behind it.
    pub const fn new(before: bool, behind: bool) -> Self {
        match (before, behind) {
            (false, false) => Self::Whole,
            (false, true) => Self::First,
            (true, true) => Self::Middle,
            (true, false) => Self::Last,
        }
    }

    const fn more(self) -> bool {
        matches!(self, Self::First | Self::Middle)
    }

    const fn continues(self) -> bool {
        matches!(self, Self::Middle | Self::Last)
    }
}

/// A request that was not accepted, with its buffer.
#[derive(Debug)]
pub struct Rejected<B> {
    /// Why.
    pub error: SubmitError,
    /// The buffer of the request.
    pub buffer: Option<B>,
}

/// The end of a transfer.
#[derive(Debug)]
pub struct Completion<B> {
    /// Whether it succeeded.
    pub status: Result<(), TransferError>,
    /// Bytes of data that were moved, also before an error. Without the trailer.
    pub bytes: usize,
    /// Bytes of the trailer that were moved.
    pub trailer: usize,
    /// The buffer, unless there was none or the controller may write to it for ever
    /// ([`State::Runaway`]).
    pub buffer: Option<B>,
}

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Begins a control transfer on a control pipe.
    ///
    /// The data's direction is that of the setup packet (bit 7 of its first byte), its length the packet's `wLength`. One
    /// control transfer at a time runs on a pipe.
    ///
    /// # Errors
    ///
    /// Why it was not accepted, and the buffer.
    pub fn control(
        &mut self,
        id: PipeId,
        setup: [u8; 8],
        buffer: Option<D::Buffer>,
        timeout_us: Option<u64>,
    ) -> Result<TransferId, Rejected<D::Buffer>> {
        let [request_type, _, _, _, _, _, low, high] = setup;
        let announced = u16::from_le_bytes([low, high]);
        let given = buffer.as_ref().map_or(0, Buffer::size);
        let accepted = self
            .ready(id, |kind| kind == Kind::Control)
            .and_then(|pipe| {
                if pipe.oldest.is_some() {
                    Err(SubmitError::Busy)
                } else if given != usize::from(announced) {
                    Err(SubmitError::WrongLength { announced, given })
                } else {
                    Ok(())
                }
            });
        if let Err(error) = accepted {
            return Err(Rejected { error, buffer });
        }
        // The packet lies behind its queue head, in words, as everything that the controller reads.
        let [a, b, c, d, e, f, g, h] = setup;
        self.memory
            .store_qh(id.qh, qh::SETUP, u32::from_le_bytes([a, b, c, d]));
        self.memory
            .store_qh(id.qh, qh::SETUP + 4, u32::from_le_bytes([e, f, g, h]));
        let data_in = request_type & 0x80 != 0;
        let (data, status) = if data_in {
            (Pid::In, Pid::Out)
        } else {
            (Pid::Out, Pid::In)
        };
        let status = if given == 0 { Pid::In } else { status };
        let bus = buffer.as_ref().map_or(0, Buffer::bus_address);
        let stages = [
            Stage {
                pid: Pid::Setup,
                bus: self.memory.setup_bus(id.qh),
                bytes: 8,
                toggle: false,
            },
            Stage {
                pid: data,
                bus,
                bytes: given as u32,
                toggle: true,
            },
            Stage {
                pid: status,
                bus: 0,
                bytes: 0,
                toggle: true,
            },
        ];
        let [first, _, last] = stages;
        let without_data = [first, last];
        let stages: &[Stage] = if given == 0 { &without_data } else { &stages };
        let mut buffer = buffer;
        let how = How {
            part: Part::Whole,
            interrupt: true,
            timeout_us,
        };
        self.enqueue(id, stages, &mut buffer, &how)
            .map_err(|error| Rejected { error, buffer })
    }

    /// Begins a transfer on a bulk or interrupt pipe, behind those already queued.
    ///
    /// # Errors
    ///
    /// Why it was not accepted, and the buffer.
    pub fn submit(
        &mut self,
        id: PipeId,
        request: Request<D::Buffer>,
    ) -> Result<TransferId, Rejected<D::Buffer>> {
        let Request {
            mut buffer,
            zero_packet,
            trailer,
            part,
            quiet,
            timeout_us,
        } = request;
        let how = How {
            part,
            interrupt: !quiet,
            timeout_us,
        };
        match self.submit_buffer(id, &mut buffer, zero_packet, trailer, &how) {
            Ok(id) => {
                // It was taken: there is nothing to drop.
                core::mem::forget(buffer);
                Ok(id)
            }
            Err(error) => Err(Rejected { error, buffer }),
        }
    }

    /// Begins to send at most 32 bytes on a bulk or interrupt pipe on which nothing is under way: a command, say. They are copied
    /// to where the controller finds its descriptors, and need no buffer.
    ///
    /// # Errors
    ///
    /// Why it was not accepted.
    pub fn send(
        &mut self,
        id: PipeId,
        bytes: &[u8],
        timeout_us: Option<u64>,
    ) -> Result<TransferId, SubmitError> {
        let pipe = self.ready(id, |kind| {
            matches!(
                kind,
                Kind::Bulk(Direction::Out) | Kind::Interrupt(Direction::Out)
            )
        })?;
        if pipe.oldest.is_some() {
            return Err(SubmitError::Busy);
        }
        let mut copy = [0; 32];
        let given = bytes.len();
        let announced = copy.len() as u16;
        copy.get_mut(..given)
            .ok_or(SubmitError::WrongLength { announced, given })?
            .copy_from_slice(bytes);
        self.memory.store_behind(id.qh, &copy);
        let stage = Stage {
            pid: Pid::Out,
            bus: self.memory.setup_bus(id.qh),
            bytes: given as u32,
            toggle: false,
        };
        let how = How {
            part: Part::Whole,
            interrupt: true,
            timeout_us,
        };
        self.enqueue(id, &[stage], &mut None, &how)
    }

    /// As [`Ehci::submit`]; takes the buffer if the transfer is accepted, and not otherwise.
    fn submit_buffer(
        &mut self,
        id: PipeId,
        buffer: &mut Option<D::Buffer>,
        zero_packet: bool,
        trailer: u16,
        how: &How,
    ) -> Result<TransferId, SubmitError> {
        let pipe = self.ready(id, |kind| kind != Kind::Control)?;
        let endpoint = pipe.endpoint.as_ref().ok_or(SubmitError::NoSuchPipe)?;
        let pid = if endpoint.is_in() { Pid::In } else { Pid::Out };
        let (bus, bytes) = buffer
            .as_ref()
            .map_or((0, 0), |b| (b.bus_address(), b.size() as u32));
        let with_empty = zero_packet
            && pid == Pid::Out
            && bytes != 0
            && bytes.is_multiple_of(endpoint.packet_bytes());
        let behind = u32::from(trailer);
        if behind != 0 && (behind >= bytes || behind > MAX_TRAILER) {
            return Err(SubmitError::WrongLength {
                announced: trailer,
                given: bytes as usize,
            });
        }
        let before = bytes - behind;
        let bus_behind = if behind == 0 {
            bus
        } else {
            bus.wrapping_add(before)
        };
        let stage = |bus, bytes| Stage {
            pid,
            bus,
            bytes,
            toggle: false,
        };
        let stages = [stage(bus, before), stage(bus_behind, behind)];
        let [first, _] = &stages;
        let stages = if with_empty || behind != 0 {
            &stages[..]
        } else {
            core::slice::from_ref(first)
        };
        self.enqueue(id, stages, buffer, how)
    }

    /// Takes the end of a transfer, or nothing while it runs.
    pub fn take(&mut self, id: TransferId) -> Option<Completion<D::Buffer>> {
        let slot = self.transfers.find(id)?;
        let Life::Done(status) = slot.life else {
            return None;
        };
        let end = Completion {
            status,
            bytes: slot.bytes,
            trailer: slot.trailer.into(),
            buffer: slot.buffer.take(),
        };
        self.transfers.free(id.index);
        Some(end)
    }

    /// Whether a transfer has not ended yet.
    pub fn is_running(&mut self, id: TransferId) -> bool {
        self.transfers
            .find(id)
            .is_some_and(|slot| matches!(slot.life, Life::Queued))
    }

    /// Leaves a waker to be woken when the transfer ends. See [`Ehci::take_woken`].
    pub fn watch(&mut self, id: TransferId, waker: &Waker) {
        if let Some(slot) = self.transfers.find(id) {
            match &mut slot.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    /// Gives a transfer up: it is cancelled, with all that are queued on its pipe, and its completion never taken. Its
    /// buffer is freed when the controller has let go of it.
    pub fn abandon(&mut self, id: TransferId) {
        let Some(slot) = self.transfers.find(id) else {
            return;
        };
        slot.waker = None;
        if matches!(slot.life, Life::Done(_)) {
            self.transfers.free(id.index);
            return;
        }
        slot.abandoned = true;
        let qh = slot.qh;
        self.leave(qh, PipeStage::Aborting(TransferError::Cancelled));
    }

    /// Begins to end the transfers whose time is up.
    pub(crate) fn expire(&mut self, now: u64) {
        for index in self.transfers.timed() {
            if let Some(slot) = self.transfers.get(index)
                && slot.deadline.is_some_and(|deadline| now >= deadline)
            {
                let qh = slot.qh;
                self.leave(qh, PipeStage::Aborting(TransferError::Timeout));
            }
        }
    }

    fn ready(&self, id: PipeId, kind: impl Fn(Kind) -> bool) -> Result<&Pipe, SubmitError> {
        if self.state != State::Running {
            return Err(SubmitError::NotRunning);
        }
        let pipe = self.find(id).ok_or(SubmitError::NoSuchPipe)?;
        if !pipe.endpoint.is_some_and(|endpoint| kind(endpoint.kind)) {
            Err(SubmitError::WrongKind)
        } else if pipe.gone {
            Err(SubmitError::Disconnected)
        } else if pipe.stage != PipeStage::Open {
            Err(SubmitError::Busy)
        } else {
            Ok(pipe)
        }
    }

    /// Queues a transfer; takes the buffer if it succeeds, and not otherwise.
    fn enqueue(
        &mut self,
        id: PipeId,
        stages: &[Stage],
        buffer: &mut Option<D::Buffer>,
        how: &How,
    ) -> Result<TransferId, SubmitError> {
        let qh = id.qh;
        if self.transfers.is_full() {
            return Err(SubmitError::NoTransfers);
        }
        let cut = self
            .pipe_mut(qh)
            .and_then(|pipe| pipe.take_cut(how.part.continues()));
        let (life, chain) = match cut {
            // Its request is over already: it is recorded, and not executed.
            Some(status) => (Life::Done(status), None),
            None => {
                let chain = self.append(qh, stages, how);
                (Life::Queued, Some(chain.ok_or(SubmitError::NoDescriptors)?))
            }
        };
        let deadline = match how.timeout_us {
            Some(timeout) if chain.is_some() => {
                Some(self.platform.now_us().saturating_add(timeout))
            }
            _ => None,
        };
        let index = self.transfers.first_free();
        let generation = self
            .transfers
            .begin(index, life, qh, chain, how.part, deadline, buffer);
        if let Some(chain) = chain {
            let newest = self.pipe_mut(qh).and_then(|pipe| {
                let before = pipe.newest.replace(index);
                if before.is_none() {
                    pipe.oldest = Some(index);
                }
                before
            });
            if let Some(before) = newest.and_then(|newest| self.transfers.get_mut(newest)) {
                before.next = Some(index);
            }
            self.active.insert(qh);
            self.statistics.transfers = self.statistics.transfers.wrapping_add(1);
            self.statistics.qtds = self.statistics.qtds.wrapping_add(chain.count());
        }
        Ok(TransferId { index, generation })
    }

    /// Writes the qTDs. A transfer that has more behind it leads to the pipe's stop after a short packet.
    fn append(&mut self, qh: Qh, stages: &[Stage], how: &How) -> Option<Chain> {
        let more = how.part.more();
        let pipe = self.pipes.get_mut(usize::from(qh.0))?;
        let max_packet = pipe.endpoint.as_ref()?.packet_bytes();
        if more && pipe.stop.is_none() {
            pipe.stop = Some(self.pool.tail(&*self.memory)?);
        }
        let stop = if more { pipe.stop } else { None };
        let (memory, tail) = (&*self.memory, &mut pipe.tail);
        self.pool
            .append(memory, tail, stages, max_packet, stop, how.interrupt)
    }
}
