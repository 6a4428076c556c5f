//! Pipes: a queue head for as long as an endpoint is in use.

use crate::QUEUE_HEADS;
use crate::controller::{Ehci, State};
use crate::endpoint::{Endpoint, Kind};
use crate::error::{OpenError, TransferError};
use crate::layout::{Qh, Qtd, qh};
use crate::memory::Dma;
use crate::periodic::Plan;
use crate::platform::Platform;
use crate::registers::Registers;
use core::task::Waker;

/// Tasks that wait for a pipe and are told of it without others.
const WAITERS: usize = 4;
/// The controller has left an interrupt queue head after this long: the frame that ran and the one that it had read ahead.
const PERIODIC_UNLINK_US: u64 = 3_000;

/// A pipe of a controller. Copies name the same pipe; after it was closed they name nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PipeId {
    pub(crate) qh: Qh,
    generation: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Free,
    Open,
    /// Out of the schedule, or on the way out, to be put back after its transfers were ended.
    Aborting(TransferError),
    /// Out of the schedule, or on the way out, for good.
    Closing,
}

/// One pipe; its index is the number of its queue head.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) stage: Stage,
    generation: u16,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) tail: Qtd,
    /// Where the queue continues when a short packet ends a request early that has more transfers queued.
    pub(crate) stop: Option<Qtd>,
    /// How the pieces that are still to come of a request end, because it is over already.
    pub(crate) cut: Option<Result<(), TransferError>>,
    /// The transfers, in order, by index.
    pub(crate) oldest: Option<u8>,
    pub(crate) newest: Option<u8>,
    /// How often the transactions of a qTD were retried, and of which.
    pub(crate) retries: u8,
    pub(crate) retried: Qtd,
    /// Unplugged: nothing can be submitted any more.
    pub(crate) gone: bool,
    /// The toggle is to be reset before the pipe is used again.
    toggle_due: bool,
    /// When an interrupt endpoint is visited.
    pub(crate) plan: Option<Plan>,
    /// To be woken when the pipe is not busy any more, or is idle; the first one is there if any is.
    pub(crate) wakers: [Option<Waker>; WAITERS],
    pub(crate) woken: bool,
    /// When a queue head that was taken out of the periodic schedule is free.
    pub(crate) free_at: Option<u64>,
}

impl Pipe {
    pub(crate) const FREE: Self = Self {
        stage: Stage::Free,
        generation: 0,
        endpoint: None,
        tail: Qtd(0),
        stop: None,
        cut: None,
        oldest: None,
        newest: None,
        retries: 0,
        retried: Qtd(0),
        gone: false,
        toggle_due: false,
        plan: None,
        wakers: [const { None }; WAITERS],
        woken: false,
        free_at: None,
    };

    /// Returns how a transfer that is to be submitted ends unexecuted, if its request is over; another request begins anew.
    pub(crate) fn take_cut(&mut self, continues: bool) -> Option<Result<(), TransferError>> {
        if !continues {
            self.cut = None;
        }
        self.cut
    }

    pub(crate) fn is_periodic(&self) -> bool {
        self.endpoint
            .is_some_and(|endpoint| matches!(endpoint.kind, Kind::Interrupt(_)))
    }
}

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Opens a pipe to an endpoint; its toggle is DATA0.
    ///
    /// # Errors
    ///
    /// What is wrong with the endpoint, or what the controller has run out of.
    pub fn open(&mut self, endpoint: &Endpoint) -> Result<PipeId, OpenError> {
        if self.state != State::Running {
            return Err(OpenError::NotRunning);
        }
        if matches!(endpoint.kind, Kind::Isochronous(_)) {
            return Err(OpenError::WrongKind);
        }
        endpoint.check()?;
        let free = |&qh: &u8| {
            self.pipe(Qh(qh))
                .is_some_and(|pipe| pipe.stage == Stage::Free)
        };
        // The first two queue heads belong to the schedules themselves.
        let qh = Qh((2..QUEUE_HEADS as u8)
            .find(free)
            .ok_or(OpenError::NoQueueHead)?);
        let plan = match endpoint.kind {
            Kind::Interrupt(_) => Some(self.plan(endpoint)?),
            _ => None,
        };
        let tail = self
            .pool
            .tail(&*self.memory)
            .ok_or(OpenError::NoDescriptors)?;
        let capabilities = endpoint.capabilities(plan);
        self.memory
            .init_qh(qh, endpoint.characteristics(), capabilities, false);
        self.pool.restart(&*self.memory, qh, tail);
        let Some(pipe) = self.pipe_mut(qh) else {
            return Err(OpenError::NoQueueHead);
        };
        let generation = pipe.generation.wrapping_add(1);
        *pipe = Pipe {
            stage: Stage::Open,
            generation,
            endpoint: Some(*endpoint),
            tail,
            plan,
            ..Pipe::FREE
        };
        self.link(qh);
        Ok(PipeId { qh, generation })
    }

    /// Closes a pipe. Its transfers end with [`TransferError::Cancelled`]; its memory is used again once the controller
    /// has let go of it. Does nothing if it is closed already.
    pub fn close(&mut self, id: PipeId) {
        if self.find(id).is_some() {
            self.leave(id.qh, Stage::Closing);
        }
    }

    /// Ends all transfers of a pipe with [`TransferError::Cancelled`]. They are over, and their buffers come back, when the
    /// controller has let go of them; until then the pipe is busy. Data that was moved before counts.
    pub fn cancel(&mut self, id: PipeId) {
        if self.find(id).is_some_and(|pipe| pipe.oldest.is_some()) {
            self.leave(id.qh, Stage::Aborting(TransferError::Cancelled));
        }
    }

    /// Whether transfers of a pipe that were cancelled, or whose time was up, are still on their way out.
    pub fn is_busy(&self, id: PipeId) -> bool {
        self.find(id).is_some_and(|pipe| pipe.stage != Stage::Open)
    }

    /// Leaves a waker to be woken when the pipe is not busy any more, or is idle. See [`Ehci::take_woken`].
    ///
    /// There is room for four tasks. When more wait, all are woken at once, to look and to wait again.
    pub fn watch_pipe(&mut self, id: PipeId, waker: &Waker) {
        if self.find(id).is_none() {
            return;
        }
        let Some(pipe) = self.pipes.get_mut(usize::from(id.qh.0)) else {
            return;
        };
        let is_here =
            |known: &Option<Waker>| known.as_ref().is_none_or(|known| known.will_wake(waker));
        if let Some(place) = pipe.wakers.iter_mut().find(|known| is_here(known)) {
            *place = Some(waker.clone());
        } else {
            waker.wake_by_ref();
            pipe.woken = true;
            self.pipes_woken = true;
        }
    }

    pub(crate) fn take_woken_pipe(&mut self) -> Option<Waker> {
        if !self.pipes_woken {
            return None;
        }
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.woken) {
            let waker = pipe.wakers.iter_mut().rev().find_map(Option::take);
            if waker.is_some() {
                return waker;
            }
            pipe.woken = false;
        }
        self.pipes_woken = false;
        None
    }

    /// Returns the endpoint of a pipe.
    pub fn endpoint(&self, id: PipeId) -> Option<&Endpoint> {
        self.find(id)?.endpoint.as_ref()
    }

    /// Sets the toggle of a bulk or interrupt pipe back to DATA0, as `CLEAR_FEATURE(ENDPOINT_HALT)`, `SET_CONFIGURATION`
    /// and `SET_INTERFACE` do in the device (USB 2.0, section 9.1.1.5).
    ///
    /// Takes effect before the next transfer; does nothing while one is under way, whose toggles it would spoil. The pipe is
    /// [busy](Ehci::is_busy) until the controller has let go of the queue head: it may have read it ahead, and would go on with
    /// the toggle that it has read.
    pub fn reset_toggle(&mut self, id: PipeId) {
        if self.find(id).is_none() {
            return;
        }
        let Some(pipe) = self.pipe_mut(id.qh) else {
            return;
        };
        if pipe.stage != Stage::Open {
            pipe.toggle_due = true;
        } else if pipe.oldest.is_none() {
            pipe.toggle_due = true;
            self.leave(id.qh, Stage::Aborting(TransferError::Cancelled));
        }
    }

    /// Returns an open pipe to the default control endpoint of a device.
    pub fn control_pipe(&self, address: u8) -> Option<PipeId> {
        let is_it = |pipe: &Pipe| {
            let endpoint = pipe.endpoint.as_ref();
            let fits = endpoint.is_some_and(|endpoint| {
                endpoint.address == address
                    && endpoint.number == 0
                    && endpoint.kind == Kind::Control
            });
            fits && !matches!(pipe.stage, Stage::Free | Stage::Closing) && !pipe.gone
        };
        let (pipe, index) = self.pipes.iter().zip(0..).find(|(pipe, _)| is_it(pipe))?;
        Some(PipeId {
            qh: Qh(index),
            generation: pipe.generation,
        })
    }

    /// Whether all transfers of a pipe have ended.
    pub fn is_idle(&self, id: PipeId) -> bool {
        self.find(id)
            .is_none_or(|pipe| pipe.stage == Stage::Open && pipe.oldest.is_none())
    }

    pub(crate) fn pipe(&self, qh: Qh) -> Option<&Pipe> {
        self.pipes.get(usize::from(qh.0))
    }

    pub(crate) fn pipe_mut(&mut self, qh: Qh) -> Option<&mut Pipe> {
        self.pipes.get_mut(usize::from(qh.0))
    }

    pub(crate) fn find(&self, id: PipeId) -> Option<&Pipe> {
        self.pipe(id.qh).filter(|pipe| {
            pipe.generation == id.generation && !matches!(pipe.stage, Stage::Free | Stage::Closing)
        })
    }

    /// Takes a pipe's queue head out of its schedule, for what `stage` says.
    pub(crate) fn leave(&mut self, qh: Qh, stage: Stage) {
        let free_at = self.platform.now_us() + PERIODIC_UNLINK_US;
        let Some(pipe) = self.pipes.get_mut(usize::from(qh.0)) else {
            return;
        };
        match pipe.stage {
            Stage::Free | Stage::Closing => return,
            // The first reason stands, but closing is for good.
            Stage::Aborting(_) => {
                if stage == Stage::Closing {
                    pipe.stage = stage;
                }
                return;
            }
            Stage::Open => pipe.stage = stage,
        }
        if pipe.is_periodic() {
            self.tree
                .unlink(&self.memory, &self.streams.schedule.frames, qh);
            pipe.free_at = Some(free_at);
            self.parting.insert(qh);
        } else {
            self.ring.unlink(&self.memory, qh);
        }
    }

    /// Carries on after the controller has let go of a queue head.
    pub(crate) fn left(&mut self, qh: Qh) {
        let Some(pipe) = self.pipe_mut(qh) else {
            return;
        };
        pipe.free_at = None;
        pipe.woken = true;
        let stage = pipe.stage;
        self.parting.remove(qh);
        self.pipes_woken = true;
        let error = match stage {
            Stage::Aborting(error) => error,
            Stage::Closing => TransferError::Cancelled,
            Stage::Free | Stage::Open => return,
        };
        self.complete(qh, true);
        if error != TransferError::Disconnected && self.memory.overlay_token(qh).active() {
            self.leave_in_translator(qh);
        }
        let rest = if error == TransferError::Timeout {
            TransferError::Flushed
        } else {
            error
        };
        self.end_all(qh, error, rest);
        if stage == Stage::Closing {
            self.free(qh);
            return;
        }
        self.restart_queue(qh);
        if let Some(pipe) = self.pipe_mut(qh) {
            pipe.stage = Stage::Open;
            if core::mem::take(&mut pipe.toggle_due) {
                self.clear_toggle(qh);
            }
        }
        self.link(qh);
    }

    /// Frees a pipe that is out of every schedule and has no transfers.
    pub(crate) fn free(&mut self, qh: Qh) {
        let Some(pipe) = self.pipes.get_mut(usize::from(qh.0)) else {
            return;
        };
        if pipe.stage == Stage::Free {
            return;
        }
        pipe.stage = Stage::Free;
        pipe.endpoint = None;
        pipe.plan = None;
        let (tail, stop) = (pipe.tail, pipe.stop.take());
        self.pool.release_tail(tail);
        if let Some(stop) = stop {
            self.pool.release_tail(stop);
        }
    }

    /// Lets a queue that is halted or out of the schedule go on at its first waiting transfer.
    pub(crate) fn restart_queue(&mut self, qh: Qh) {
        // What was made inert before has arrived in memory when this read returns: a controller that fetches the queue
        // head just now, half old and half new, finds nothing that it could execute.
        let _ = self.registers.frame_index();
        if let Some(pipe) = self.pipe(qh) {
            let at = pipe
                .oldest
                .and_then(|index| self.transfers.first_qtd(index))
                .unwrap_or(pipe.tail);
            self.pool.restart(&*self.memory, qh, at);
        }
    }

    fn clear_toggle(&mut self, qh: Qh) {
        let mut token = self.memory.overlay_token(qh);
        token.set_toggle(false);
        token.set_ping(false);
        self.memory.store_qh(qh, qh::TOKEN, token.0);
        self.memory.barrier();
    }

    fn link(&mut self, qh: Qh) {
        match self.pipe(qh).and_then(|pipe| pipe.plan) {
            Some(plan) => {
                let frames = &self.streams.schedule.frames;
                self.tree.link(&self.memory, frames, qh, plan.slot);
                self.enable_periodic();
            }
            None => self.ring.link(&self.memory, qh),
        }
    }

    /// Finds the visits of a periodic endpoint beside those of all others.
    pub(crate) fn plan(&self, endpoint: &Endpoint) -> Result<Plan, OpenError> {
        let pipes = self.pipes.iter().filter_map(|pipe| pipe.plan);
        let others = pipes.chain(self.streams.plans());
        Plan::find(endpoint, others).ok_or(OpenError::NoBandwidth)
    }

    pub(crate) fn enable_periodic(&mut self) {
        let mut command = self.registers.command();
        if !command.periodic_enable() {
            command.set_periodic_enable(true);
            self.registers.set_command(command);
        }
    }
}
