//! Transfers: from a caller's request to a chain of qTDs, and back to a completion.
//!
//! A transfer owns its buffer from submission until its completion is taken. It ends only when the controller has let go
//! of its qTDs: because it retired them, because the queue head halted, or because the doorbell was answered after an
//! unlink. Forgetting about a transfer, or giving it up, therefore never frees memory that is still written to.

use crate::TRANSFERS;
use crate::controller::{Ehci, State};
use crate::endpoint::Kind;
use crate::error::{SubmitError, TransferError};
use crate::layout::{Pid, Qh, Qtd, Token, qh};
use crate::memory::{Buffer, Dma};
use crate::pipe::{Pipe, PipeId, Stage as PipeStage};
use crate::platform::Platform;
use crate::registers::Registers;
use crate::schedule::queue::{Chain, Progress, Stage};
use core::task::Waker;

/// Failed transactions are tried again this often without progress, three attempts each, before the transfer fails.
const RETRIES: u8 = 32;

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
    /// Whether this is a request of its own or one of several pieces.
    pub part: Part,
    /// Gives up after this time, in microseconds.
    pub timeout_us: Option<u64>,
}

impl<B> Request<B> {
    /// Returns a request for one buffer without an end in time.
    pub const fn new(buffer: B) -> Self {
        Self {
            buffer: Some(buffer),
            zero_packet: false,
            part: Part::Whole,
            timeout_us: None,
        }
    }
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
    /// Bytes of data that were moved, also before an error.
    pub bytes: usize,
    /// The buffer, unless there was none or the controller may write to it for ever
    /// ([`State::Runaway`]).
    pub buffer: Option<B>,
}

#[derive(Debug)]
enum Life {
    Free,
    Queued,
    Done(Result<(), TransferError>),
}

#[derive(Debug)]
struct Transfer<B> {
    life: Life,
    generation: u16,
    qh: Qh,
    chain: Option<Chain>,
    buffer: Option<B>,
    bytes: usize,
    part: Part,
    /// Nobody will take the completion.
    abandoned: bool,
    deadline: Option<u64>,
    /// The transfer behind it in the same pipe.
    next: Option<u8>,
    waker: Option<Waker>,
    woken: bool,
}

impl<B> Transfer<B> {
    const FREE: Self = Self {
        life: Life::Free,
        generation: 0,
        qh: Qh(0),
        chain: None,
        buffer: None,
        bytes: 0,
        part: Part::Whole,
        abandoned: false,
        deadline: None,
        next: None,
        waker: None,
        woken: false,
    };
}

/// All transfers of a controller.
#[derive(Debug)]
pub(crate) struct Transfers<B> {
    slots: [Transfer<B>; TRANSFERS],
}

impl<B> Transfers<B> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { Transfer::FREE }; TRANSFERS],
        }
    }

    pub(crate) fn first_qtd(&self, index: u8) -> Option<Qtd> {
        self.slots.get(usize::from(index))?.chain.map(Chain::first)
    }

    pub(crate) fn take_woken(&mut self) -> Option<Waker> {
        self.slots
            .iter_mut()
            .find(|slot| slot.woken)
            .and_then(|slot| {
                slot.woken = false;
                slot.waker.take()
            })
    }

    fn get(&self, index: u8) -> Option<&Transfer<B>> {
        self.slots.get(usize::from(index))
    }

    fn get_mut(&mut self, index: u8) -> Option<&mut Transfer<B>> {
        self.slots.get_mut(usize::from(index))
    }

    fn find(&mut self, id: TransferId) -> Option<&mut Transfer<B>> {
        self.get_mut(id.index)
            .filter(|slot| slot.generation == id.generation && !matches!(slot.life, Life::Free))
    }
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
        self.enqueue(
            id,
            stages,
            Request {
                buffer,
                zero_packet: false,
                part: Part::Whole,
                timeout_us,
            },
        )
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
        let (data_in, max_packet) = match self.ready(id, |kind| kind != Kind::Control) {
            Ok(pipe) => {
                let endpoint = pipe.endpoint.as_ref();
                (
                    endpoint.is_some_and(|e| e.is_in()),
                    endpoint.map_or(1, |e| e.packet_bytes()),
                )
            }
            Err(error) => {
                return Err(Rejected {
                    error,
                    buffer: request.buffer,
                });
            }
        };
        let pid = if data_in { Pid::In } else { Pid::Out };
        let (bus, bytes) = request
            .buffer
            .as_ref()
            .map_or((0, 0), |b| (b.bus_address(), b.size() as u32));
        let data = Stage {
            pid,
            bus,
            bytes,
            toggle: false,
        };
        let empty = Stage { bytes: 0, ..data };
        let with_empty =
            request.zero_packet && !data_in && bytes != 0 && bytes.is_multiple_of(max_packet);
        let stages: &[Stage] = if with_empty { &[data, empty] } else { &[data] };
        self.enqueue(id, stages, request)
    }

    /// Takes the end of a transfer, or nothing while it runs.
    pub fn take(&mut self, id: TransferId) -> Option<Completion<D::Buffer>> {
        let slot = self.transfers.find(id)?;
        let Life::Done(status) = slot.life else {
            return None;
        };
        slot.life = Life::Free;
        slot.waker = None;
        slot.woken = false;
        Some(Completion {
            status,
            bytes: slot.bytes,
            buffer: slot.buffer.take(),
        })
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
        slot.woken = false;
        if matches!(slot.life, Life::Done(_)) {
            slot.life = Life::Free;
            slot.buffer = None;
            return;
        }
        slot.abandoned = true;
        let qh = slot.qh;
        self.leave(qh, PipeStage::Aborting(TransferError::Cancelled));
    }

    /// Ends what the controller has finished on a pipe.
    pub(crate) fn complete(&mut self, qh: Qh) {
        while let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
            let Some(chain) = self.transfers.get(index).and_then(|slot| slot.chain) else {
                return;
            };
            match self.pool.progress(&self.memory, chain) {
                Progress::Running => return,
                Progress::Done { bytes } => self.succeed(qh, bytes as usize),
                Progress::Failed { bytes, at, token } => {
                    if !self.try_again(qh, at, token) {
                        let error = cause(token);
                        if error != TransferError::Stall {
                            self.leave_in_translator(qh);
                        }
                        self.end_oldest(qh, bytes as usize, Err(error));
                        self.end_all(qh, TransferError::Flushed, TransferError::Flushed);
                        self.restart_queue(qh);
                    }
                    return;
                }
            }
        }
    }

    /// Ends those at the front of an unscheduled pipe that the controller had finished before it left.
    pub(crate) fn finish_completed(&mut self, qh: Qh) {
        while let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
            let Some(chain) = self.transfers.get(index).and_then(|slot| slot.chain) else {
                return;
            };
            match self.pool.progress(&self.memory, chain) {
                Progress::Done { bytes } => self.succeed(qh, bytes as usize),
                Progress::Running | Progress::Failed { .. } => return,
            }
        }
    }

    /// Ends all transfers of a pipe that is halted or unscheduled: the first with one error, the rest with another.
    pub(crate) fn end_all(&mut self, qh: Qh, first: TransferError, rest: TransferError) {
        let mut error = first;
        if let Some(pipe) = self.pipe_mut(qh) {
            pipe.cut = Some(Err(TransferError::Flushed));
        }
        while let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
            let bytes = match self.transfers.get(index).and_then(|slot| slot.chain) {
                Some(chain) => self.pool.moved(&self.memory, chain),
                None => 0,
            };
            self.end_oldest(qh, bytes as usize, Err(error));
            error = rest;
        }
        if let Some(stop) = self.pipe_mut(qh).and_then(|pipe| pipe.stop.take()) {
            self.pool.release_tail(stop);
        }
    }

    /// Begins to end the transfers whose time is up, and returns when the next one's is.
    pub(crate) fn expire(&mut self, now: u64) {
        for index in 0..TRANSFERS as u8 {
            let Some(slot) = self.transfers.get(index) else {
                continue;
            };
            if matches!(slot.life, Life::Queued)
                && slot.deadline.is_some_and(|deadline| now >= deadline)
            {
                let qh = slot.qh;
                self.leave(qh, PipeStage::Aborting(TransferError::Timeout));
            }
        }
    }

    /// Returns when the next transfer's time is up.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        let queued = self
            .transfers
            .slots
            .iter()
            .filter(|slot| matches!(slot.life, Life::Queued));
        queued.filter_map(|slot| slot.deadline).min()
    }

    /// Leaks the buffers of all transfers, since a controller that does not stop may still write to them, and ends them.
    pub(crate) fn lose_transfers(&mut self) {
        for slot in &mut self.transfers.slots {
            if matches!(slot.life, Life::Queued) {
                core::mem::forget(slot.buffer.take());
                slot.life = Life::Done(Err(TransferError::ControllerFailed));
                slot.woken = slot.waker.is_some();
                if slot.abandoned {
                    slot.life = Life::Free;
                }
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

    fn enqueue(
        &mut self,
        id: PipeId,
        stages: &[Stage],
        request: Request<D::Buffer>,
    ) -> Result<TransferId, Rejected<D::Buffer>> {
        let qh = id.qh;
        let Some(index) = self
            .transfers
            .slots
            .iter()
            .position(|slot| matches!(slot.life, Life::Free))
        else {
            return Err(Rejected {
                error: SubmitError::NoTransfers,
                buffer: request.buffer,
            });
        };
        let index = index as u8;
        if let Some(status) = self
            .pipe_mut(qh)
            .and_then(|pipe| pipe.take_cut(request.part.continues()))
        {
            return self.record_cut(index, qh, request, status);
        }
        let Some(chain) = self.append(qh, stages, request.part.more()) else {
            return Err(Rejected {
                error: SubmitError::NoDescriptors,
                buffer: request.buffer,
            });
        };
        let deadline = request
            .timeout_us
            .map(|timeout| self.platform.now_us().saturating_add(timeout));
        let Some(slot) = self.transfers.get_mut(index) else {
            return Err(Rejected {
                error: SubmitError::NoTransfers,
                buffer: request.buffer,
            });
        };
        let generation = slot.generation.wrapping_add(1);
        *slot = Transfer {
            life: Life::Queued,
            generation,
            qh,
            chain: Some(chain),
            buffer: request.buffer,
            bytes: 0,
            part: request.part,
            abandoned: false,
            deadline,
            next: None,
            waker: None,
            woken: false,
        };
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
        self.statistics.transfers = self.statistics.transfers.wrapping_add(1);
        self.statistics.qtds = self.statistics.qtds.wrapping_add(chain.count());
        Ok(TransferId { index, generation })
    }

    /// Records a piece whose request has ended already, without executing it.
    fn record_cut(
        &mut self,
        index: u8,
        qh: Qh,
        request: Request<D::Buffer>,
        status: Result<(), TransferError>,
    ) -> Result<TransferId, Rejected<D::Buffer>> {
        let Some(slot) = self.transfers.get_mut(index) else {
            return Err(Rejected {
                error: SubmitError::NoTransfers,
                buffer: request.buffer,
            });
        };
        let generation = slot.generation.wrapping_add(1);
        *slot = Transfer {
            life: Life::Done(status),
            generation,
            qh,
            buffer: request.buffer,
            ..Transfer::FREE
        };
        Ok(TransferId { index, generation })
    }

    /// Writes the qTDs. A transfer that has more behind it leads to the pipe's stop after a short packet.
    fn append(&mut self, qh: Qh, stages: &[Stage], more: bool) -> Option<Chain> {
        let pipe = self.pipes.get_mut(usize::from(qh.0))?;
        let max_packet = pipe.endpoint.as_ref()?.packet_bytes();
        if more && pipe.stop.is_none() {
            pipe.stop = Some(self.pool.tail(&self.memory)?);
        }
        let stop = if more { pipe.stop } else { None };
        self.pool
            .append(&self.memory, &mut pipe.tail, stages, max_packet, stop)
    }

    /// Ends the oldest transfer of a pipe without error; after a short packet also those that continue it.
    fn succeed(&mut self, qh: Qh, bytes: usize) {
        let Some((asked, more)) = self
            .pipe(qh)
            .and_then(|pipe| pipe.oldest)
            .and_then(|index| {
                let slot = self.transfers.get(index)?;
                Some((
                    slot.buffer.as_ref().map_or(0, Buffer::size),
                    slot.part.more(),
                ))
            })
        else {
            return;
        };
        self.end_oldest(qh, bytes, Ok(()));
        let Some(pipe) = self.pipe_mut(qh) else {
            return;
        };
        pipe.retries = 0;
        if !more {
            if let Some(stop) = pipe.stop.take() {
                self.pool.release_tail(stop);
            }
        } else if bytes < asked {
            // The controller waits at the stop; nothing behind it is ever reached.
            pipe.cut = Some(Ok(()));
            if let Some(stop) = pipe.stop.take() {
                let tail = core::mem::replace(&mut pipe.tail, stop);
                self.pool.release_tail(tail);
            }
            let mut continued = true;
            while let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
                let status = if continued {
                    Ok(())
                } else {
                    Err(TransferError::Flushed)
                };
                continued &= self
                    .transfers
                    .get(index)
                    .is_some_and(|slot| slot.part.more());
                self.end_oldest(qh, 0, status);
            }
            if !continued && let Some(pipe) = self.pipe_mut(qh) {
                // The last piece was there: what comes now is another request.
                pipe.cut = None;
            }
        }
    }

    /// Lets a failed transaction be tried again, unless it is hopeless.
    fn try_again(&mut self, qh: Qh, at: Qtd, token: Token) -> bool {
        let Some(pipe) = self.pipes.get_mut(usize::from(qh.0)) else {
            return false;
        };
        if cause(token) != TransferError::Transaction || pipe.retries >= RETRIES || pipe.gone {
            return false;
        }
        pipe.retries += 1;
        self.statistics.retries = self.statistics.retries.wrapping_add(1);
        self.pool.retry(&self.memory, qh, at);
        true
    }

    /// Takes the oldest transfer off a pipe, frees its qTDs and records its end.
    fn end_oldest(&mut self, qh: Qh, bytes: usize, status: Result<(), TransferError>) {
        let Some(pipe) = self.pipes.get_mut(usize::from(qh.0)) else {
            return;
        };
        let Some(slot) = pipe.oldest.and_then(|index| self.transfers.get_mut(index)) else {
            return;
        };
        pipe.oldest = slot.next.take();
        if pipe.oldest.is_none() {
            pipe.newest = None;
            pipe.woken = pipe.waker.is_some();
        }
        let is_in = slot.chain.as_ref().is_some_and(Chain::is_in);
        if let Some(chain) = slot.chain.take() {
            self.pool.release(&self.memory, chain);
        }
        slot.bytes = bytes;
        slot.life = Life::Done(status);
        slot.woken = slot.waker.is_some();
        if slot.abandoned {
            slot.buffer = None;
            slot.life = Life::Free;
        }
        let counters = &mut self.statistics;
        let total = if is_in {
            &mut counters.bytes_in
        } else {
            &mut counters.bytes_out
        };
        *total = total.wrapping_add(bytes as u64);
        counters.failed = counters.failed.wrapping_add(u32::from(status.is_err()));
    }
}

/// Why a queue head halted (section 4.15.1; several bits may be set, also from attempts before).
fn cause(token: Token) -> TransferError {
    if token.babble() {
        TransferError::Babble
    } else if token.missed_microframe() {
        TransferError::MissedMicroframe
    } else if token.errors() != 0 {
        // The error counter did not run out, so it was the endpoint itself that said no.
        TransferError::Stall
    } else if token.data_buffer_error() {
        TransferError::DataBuffer
    } else {
        TransferError::Transaction
    }
}
