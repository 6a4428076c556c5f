//! The ends of transfers: success, short packets, errors and second attempts.

use crate::controller::Ehci;
use crate::error::TransferError;
use crate::layout::{Qh, Qtd, Token};
use crate::memory::{Buffer, Dma};
use crate::platform::Platform;
use crate::registers::Registers;
use crate::schedule::queue::{Chain, Progress};

/// Failed transactions are tried again this often without progress, three attempts each, before the transfer fails.
const RETRIES: u8 = 32;

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Ends what the controller has finished on a pipe.
    pub(crate) fn complete(&mut self, qh: Qh) {
        while let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
            let Some(chain) = self.transfers.get(index).and_then(|slot| slot.chain) else {
                return;
            };
            match self.pool.progress(&*self.memory, chain) {
                Progress::Running => return,
                Progress::Done { bytes, trailer } => self.succeed(qh, bytes as usize, trailer),
                Progress::Failed { bytes, at, token } => {
                    if !self.try_again(qh, at, token) {
                        self.fail_oldest(qh, bytes as usize, cause(token));
                    }
                    return;
                }
            }
        }
    }

    /// Ends all transfers of a pipe that is halted, because of the oldest.
    #[cold]
    fn fail_oldest(&mut self, qh: Qh, bytes: usize, error: TransferError) {
        if error != TransferError::Stall {
            self.leave_in_translator(qh);
        }
        self.end_oldest(qh, bytes, 0, Err(error));
        self.end_all(qh, TransferError::Flushed, TransferError::Flushed);
        self.restart_queue(qh);
    }

    /// Ends those at the front of an unscheduled pipe that the controller had finished before it left.
    pub(crate) fn finish_completed(&mut self, qh: Qh) {
        while let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
            let Some(chain) = self.transfers.get(index).and_then(|slot| slot.chain) else {
                return;
            };
            match self.pool.progress(&*self.memory, chain) {
                Progress::Done { bytes, trailer } => self.succeed(qh, bytes as usize, trailer),
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
                Some(chain) => self.pool.moved(&*self.memory, chain),
                None => 0,
            };
            self.end_oldest(qh, bytes as usize, 0, Err(error));
            error = rest;
        }
        if let Some(stop) = self.pipe_mut(qh).and_then(|pipe| pipe.stop.take()) {
            self.pool.release_tail(stop);
        }
    }

    /// Ends the oldest transfer of a pipe without error; after a short packet also those that continue it.
    fn succeed(&mut self, qh: Qh, bytes: usize, trailer: u16) {
        let oldest = self.pipe(qh).and_then(|pipe| pipe.oldest);
        let Some(slot) = oldest.and_then(|index| self.transfers.get(index)) else {
            return;
        };
        let more = slot.part.more();
        let short = more && bytes < slot.buffer.as_ref().map_or(0, Buffer::size);
        self.end_oldest(qh, bytes, trailer, Ok(()));
        let Some(pipe) = self.pipe_mut(qh) else {
            return;
        };
        pipe.retries = 0;
        if !more {
            if let Some(stop) = pipe.stop.take() {
                self.pool.release_tail(stop);
            }
        } else if short {
            self.cut_short(qh);
        }
    }

    /// Ends what continues a piece that a short packet has ended.
    #[inline(never)]
    fn cut_short(&mut self, qh: Qh) {
        let Some(pipe) = self.pipe_mut(qh) else {
            return;
        };
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
            self.end_oldest(qh, 0, 0, status);
        }
        if !continued && let Some(pipe) = self.pipe_mut(qh) {
            // The last piece was there: what comes now is another request.
            pipe.cut = None;
        }
    }

    /// Lets a failed transaction be tried again, unless it is hopeless.
    #[cold]
    fn try_again(&mut self, qh: Qh, at: Qtd, token: Token) -> bool {
        let Some(pipe) = self.pipes.get_mut(usize::from(qh.0)) else {
            return false;
        };
        if cause(token) != TransferError::Transaction || pipe.retries >= RETRIES || pipe.gone {
            return false;
        }
        pipe.retries += 1;
        self.statistics.retries = self.statistics.retries.wrapping_add(1);
        self.pool.retry(&*self.memory, qh, at);
        true
    }

    /// Takes the oldest transfer off a pipe, frees its qTDs and records its end.
    fn end_oldest(
        &mut self,
        qh: Qh,
        bytes: usize,
        trailer: u16,
        status: Result<(), TransferError>,
    ) {
        let Some(pipe) = self.pipes.get_mut(usize::from(qh.0)) else {
            return;
        };
        let Some(index) = pipe.oldest else {
            return;
        };
        let Some(slot) = self.transfers.get_mut(index) else {
            return;
        };
        pipe.oldest = slot.next.take();
        if pipe.oldest.is_none() {
            pipe.newest = None;
            self.active.remove(qh);
            if pipe.waker.is_some() {
                pipe.woken = true;
                self.pipes_woken = true;
            }
        }
        let chain = slot.chain.take();
        let is_in = chain.as_ref().is_some_and(Chain::is_in);
        if let Some(chain) = chain {
            let executed = status.is_ok() && bytes == chain.bytes() as usize;
            self.pool.release(&*self.memory, chain, executed);
        }
        self.transfers.end(index, bytes, trailer, status);
        let counters = &mut self.statistics;
        let total = if is_in {
            &mut counters.bytes_in
        } else {
            &mut counters.bytes_out
        };
        *total = total.wrapping_add(bytes as u64 + u64::from(trailer));
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
