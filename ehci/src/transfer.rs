//! Transfers: from a caller's request to a chain of qTDs, and back to a completion.
//!
//! A transfer owns its buffer from submission until its completion is taken. It ends only when the controller has let go
//! of its qTDs: because it retired them, because the queue head halted, or because the doorbell was answered after an
//! unlink. Forgetting about a transfer, or giving it up, therefore never frees memory that is still written to.

mod completion;
mod table;

pub(crate) use table::Transfers;

use crate::controller::{Ehci, State};
use crate::endpoint::{Direction, Endpoint, Kind};
use crate::error::{SubmitError, TransferError};
use crate::layout::{Descriptors, Pid, Qh, Qtd, qh};
use crate::memory::{Buffer, Dma};
use crate::pipe::{Pipe, PipeId, Stage as PipeStage};
use crate::platform::Platform;
use crate::registers::Registers;
use crate::schedule::queue::{Chain, MAX_CLOSING, Pool, Stage, Stages};
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
    /// Ends data that is a multiple of the packet size with an empty packet (OUT only). Not in a piece that has more behind it.
    pub zero_packet: bool,
    /// Bytes at the end of the buffer that are moved as if by a transfer of their own: they follow also if a short packet ends
    /// those before. So the data of a Bulk-Only command and its status are one transfer. None, or fewer than the buffer has and at
    /// most 16 KiB. Not in a piece that has more behind it.
    pub trailer: u16,
    /// Whether this is a request of its own or one of several pieces.
    pub part: Part,
    /// Asks for no interrupt when the data have been moved: for all but the last of several transfers that are waited for
    /// together. A short packet or an error interrupts in any case.
    pub quiet: bool,
    /// Gives up after this time, in microseconds. Transfers of a pipe end in their order: if one that waits behind others is not
    /// over by then, the oldest ends with [`TransferError::Timeout`], and those behind it with [`TransferError::Flushed`].
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
        let stages = Stages {
            setup: Some(self.memory.setup_bus(id.qh)),
            data: buffer.as_ref().filter(|_| given != 0).map(|buffer| Stage {
                pid: data,
                bus: buffer.bus_address(),
                bytes: given as u32,
            }),
            closing: Some(Stage {
                pid: status,
                bus: 0,
                bytes: 0,
            }),
        };
        let mut buffer = buffer;
        let how = How {
            part: Part::Whole,
            interrupt: true,
            timeout_us,
        };
        self.enqueue_stages(id, &stages, &mut buffer, &how)
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
        let (bus, bytes) = (self.memory.setup_bus(id.qh), given as u32);
        let how = How {
            part: Part::Whole,
            interrupt: true,
            timeout_us,
        };
        let mut none = None;
        let accepted = self.enqueue(id, &mut none, &how, |pool, memory, tail, _, _| {
            pool.append_one(memory, tail, bus, bytes)
        });
        // There is nothing to drop, which the compiler does not see.
        core::mem::forget(none);
        accepted
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
        if (zero_packet || behind != 0) && how.part.more() || zero_packet && behind != 0 {
            return Err(SubmitError::NotTheEnd);
        }
        if behind != 0 && (behind >= bytes || behind > MAX_CLOSING) {
            return Err(SubmitError::WrongLength {
                announced: trailer,
                given: bytes as usize,
            });
        }
        let before = bytes - behind;
        let stage = |bus, bytes| Stage { pid, bus, bytes };
        let stages = Stages {
            setup: None,
            data: Some(stage(bus, before)),
            closing: if behind != 0 {
                Some(stage(bus.wrapping_add(before), behind))
            } else if with_empty {
                Some(stage(bus, 0))
            } else {
                None
            },
        };
        self.enqueue_stages(id, &stages, buffer, how)
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

    /// Takes the end of what was sent ([`Ehci::send`]): how many bytes were. Nothing while it is under way.
    pub fn sent(&mut self, id: TransferId) -> Option<Result<usize, TransferError>> {
        let slot = self.transfers.find(id)?;
        let Life::Done(status) = slot.life else {
            return None;
        };
        let bytes = slot.bytes;
        self.transfers.free(id.index);
        Some(status.map(|()| bytes))
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
                && now >= slot.deadline
            {
                let qh = slot.qh;
                self.leave(qh, PipeStage::Aborting(TransferError::Timeout));
            }
        }
    }

    /// Returns a pipe that takes transfers, if it is of the right kind.
    fn ready(&self, id: PipeId, kind: impl Fn(Kind) -> bool) -> Result<&Pipe, SubmitError> {
        match self.find(id) {
            Some(pipe)
                if pipe.stage == PipeStage::Open
                    && !pipe.gone
                    && self.state == State::Running
                    && pipe.endpoint.is_some_and(|endpoint| kind(endpoint.kind)) =>
            {
                Ok(pipe)
            }
            _ => Err(self.refusal(id, kind)),
        }
    }

    /// Why [`Ehci::ready`] said no.
    #[cold]
    fn refusal(&self, id: PipeId, kind: impl Fn(Kind) -> bool) -> SubmitError {
        if self.state != State::Running {
            return SubmitError::NotRunning;
        }
        match self.find(id) {
            None => SubmitError::NoSuchPipe,
            Some(pipe) if !pipe.endpoint.is_some_and(|endpoint| kind(endpoint.kind)) => {
                SubmitError::WrongKind
            }
            Some(pipe) if pipe.gone => SubmitError::Disconnected,
            Some(_) => SubmitError::Busy,
        }
    }

    /// Queues a transfer; takes the buffer if it succeeds, and not otherwise.
    fn enqueue_stages(
        &mut self,
        id: PipeId,
        stages: &Stages,
        buffer: &mut Option<D::Buffer>,
        how: &How,
    ) -> Result<TransferId, SubmitError> {
        let interrupt = how.interrupt;
        self.enqueue(id, buffer, how, |pool, memory, tail, max_packet, stop| {
            pool.append(memory, tail, stages, max_packet, stop, interrupt)
        })
    }

    /// As [`Ehci::enqueue_stages`]; `append` writes the qTDs, given the tail, the size of a packet and the pipe's stop.
    fn enqueue(
        &mut self,
        id: PipeId,
        buffer: &mut Option<D::Buffer>,
        how: &How,
        append: impl FnOnce(
            &mut Pool,
            &Descriptors<D::Coherent>,
            &mut Qtd,
            u32,
            Option<Qtd>,
        ) -> Option<Chain>,
    ) -> Result<TransferId, SubmitError> {
        let qh = id.qh;
        let index = self
            .transfers
            .first_free()
            .ok_or(SubmitError::NoTransfers)?;
        let pipe = self
            .pipes
            .get_mut(usize::from(qh.0))
            .ok_or(SubmitError::NoSuchPipe)?;
        if let Some(status) = pipe.take_cut(how.part.continues()) {
            return Ok(self.record(index, qh, status, buffer, how));
        }
        let max_packet = pipe.endpoint.as_ref().map_or(1, Endpoint::packet_bytes);
        // A transfer that has more behind it leads to the pipe's stop after a short packet.
        let mut stop = None;
        if how.part.more() {
            if pipe.stop.is_none() {
                pipe.stop = self.pool.tail(&*self.memory);
            }
            stop = Some(pipe.stop.ok_or(SubmitError::NoDescriptors)?);
        }
        let (memory, tail) = (&*self.memory, &mut pipe.tail);
        let chain = append(&mut self.pool, memory, tail, max_packet, stop)
            .ok_or(SubmitError::NoDescriptors)?;
        let before = pipe.newest.replace(index);
        if before.is_none() {
            pipe.oldest = Some(index);
        }
        self.active.insert(qh);
        self.statistics.transfers = self.statistics.transfers.wrapping_add(1);
        self.statistics.qtds = self.statistics.qtds.wrapping_add(chain.count());
        let deadline = how
            .timeout_us
            .map(|timeout| self.platform.now_us().saturating_add(timeout));
        if let Some(before) = before.and_then(|before| self.transfers.get_mut(before)) {
            before.next = Some(index);
        }
        let generation = self
            .transfers
            .begin(index, qh, Some(chain), how.part, deadline, buffer);
        Ok(TransferId { index, generation })
    }

    /// Records a transfer whose request is over already, and is not executed.
    #[cold]
    fn record(
        &mut self,
        index: u8,
        qh: Qh,
        status: Result<(), TransferError>,
        buffer: &mut Option<D::Buffer>,
        how: &How,
    ) -> TransferId {
        let generation = self
            .transfers
            .begin(index, qh, None, how.part, None, buffer);
        self.transfers.end(index, 0, 0, status);
        TransferId { index, generation }
    }
}
