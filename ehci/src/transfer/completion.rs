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
    /// Ends what the controller has finished on a pipe, and what it failed at unless the pipe is unscheduled.
    pub(crate) fn complete(&mut self, qh: Qh, unscheduled: bool) {
        while self.complete_oldest(qh, unscheduled) {}
    }

    /// Ends the oldest transfer of a pipe if the controller has finished it. Returns whether to look at another one.
    // All that an ordinary end takes is inlined here, and kept out of loops, whose frames it would enlarge.
    #[inline(never)]
    fn complete_oldest(&mut self, qh: Qh, unscheduled: bool) -> bool {
        let Some(index) = self.pipe(qh).and_then(|pipe| pipe.oldest) else {
            return false;
        };
        let slot = self.transfers.get(index);
        let Some(chain) = slot.and_then(|slot| slot.chain.as_ref()) else {
            return false;
        };
        match self.pool.progress(&*self.memory, chain) {
            Progress::Done { bytes, trailer } => {
                self.succeed(qh, index, bytes as usize, trailer);
                self.pipe(qh).is_some_and(|pipe| pipe.oldest.is_some())
            }
            Progress::Failed { bytes, at, token } if !unscheduled => {
                if !self.try_again(qh, at, token) {
                    self.fail_oldest(qh, bytes as usize, cause(token));
                }
                false
            }
            Progress::Running | Progress::Failed { .. } => false,
        }
    }

    /// Ends all transfers of a pipe that is halted, because of the oldest.
    #[cold]
    fn fail_oldest(&mut self, qh: Qh, bytes: usize, error: TransferError) {
        if error != TransferError::Stall {
            self.leave_in_translator(qh);
        }
        self.end_early(qh, bytes, Err(error));
        self.end_all(qh, TransferError::Flushed, TransferError::Flushed);
        self.restart_queue(qh);
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
            self.end_early(qh, bytes as usize, Err(error));
            error = rest;
        }
        if let Some(stop) = self.pipe_mut(qh).and_then(|pipe| pipe.stop.take()) {
            self.pool.release_tail(stop);
        }
    }

    /// Ends the oldest transfer of a pipe without error.
    #[inline]
    fn succeed(&mut self, qh: Qh, oldest: u8, bytes: usize, trailer: u16) {
        let slot = self.transfers.get(oldest);
        if slot.is_some_and(|slot| slot.part.more()) {
            self.succeed_in_part(qh, oldest, bytes, trailer);
            return;
        }
        self.end_oldest(qh, oldest, bytes, trailer, Ok(()));
        // What is queued behind may lead to the stop.
        if let Some(pipe) = self.pipe_mut(qh)
            && pipe.oldest.is_none()
            && let Some(stop) = pipe.stop.take()
        {
            self.pool.release_tail(stop);
        }
    }

    /// Ends a piece of a request that has more; after a short packet also those that continue it.
    #[inline(never)]
    fn succeed_in_part(&mut self, qh: Qh, oldest: u8, bytes: usize, trailer: u16) {
        let slot = self.transfers.get(oldest);
        let buffer = slot.and_then(|slot| slot.buffer.as_ref());
        let short = bytes < buffer.map_or(0, Buffer::size);
        self.end_oldest(qh, oldest, bytes, trailer, Ok(()));
        if short {
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
            self.end_early(qh, 0, status);
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
        if pipe.retried != at {
            // There was progress.
            pipe.retries = 0;
            pipe.retried = at;
        }
        if cause(token) != TransferError::Transaction || pipe.retries >= RETRIES || pipe.gone {
            return false;
        }
        pipe.retries += 1;
        self.statistics.retries = self.statistics.retries.wrapping_add(1);
        self.pool.retry(&*self.memory, qh, at);
        true
    }

    /// As [`Ehci::end_oldest`], of one that did not run to its end.
    #[cold]
    #[inline(never)]
    fn end_early(&mut self, qh: Qh, bytes: usize, status: Result<(), TransferError>) {
        if let Some(oldest) = self.pipe(qh).and_then(|pipe| pipe.oldest) {
            self.end_oldest(qh, oldest, bytes, 0, status);
        }
    }

    /// Takes the oldest transfer off a pipe, frees its qTDs and records its end.
    #[inline(always)]
    fn end_oldest(
        &mut self,
        qh: Qh,
        oldest: u8,
        bytes: usize,
        trailer: u16,
        status: Result<(), TransferError>,
    ) {
        let pipe = self.pipes.get_mut(usize::from(qh.0));
        let slot = self.transfers.get_mut(oldest);
        let (Some(pipe), Some(slot)) = (pipe, slot) else {
            return;
        };
        pipe.retries = 0;
        pipe.oldest = slot.next.take();
        if pipe.oldest.is_none() {
            pipe.newest = None;
            self.active.remove(qh);
            if matches!(pipe.wakers, [Some(_), ..]) {
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
        self.transfers.end(oldest, bytes, trailer, status);
        let counters = &mut self.statistics;
        let total = if is_in {
            &mut counters.bytes_in
        } else {
            &mut counters.bytes_out
        };
        *total = total.wrapping_add((bytes + usize::from(trailer)) as u64);
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
    } else if token.data_buffer_error() && !token.transaction_error() {
        TransferError::DataBuffer
    } else {
        // One that came on top of a data buffer error, which most controllers do not count (table 3-16), is worth a retry too.
        TransferError::Transaction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_halt_has_its_error() {
        let of = |bits: u32, errors: u32| {
            let mut token = Token(0x40 | bits);
            token.set_errors(errors);
            cause(token)
        };
        assert_eq!(of(0, 3), TransferError::Stall);
        assert_eq!(of(0, 1), TransferError::Stall);
        assert_eq!(of(0x10, 3), TransferError::Babble);
        assert_eq!(of(0x04, 2), TransferError::MissedMicroframe);
        assert_eq!(of(0x08, 0), TransferError::Transaction);
        assert_eq!(of(0x20, 0), TransferError::DataBuffer);
        assert_eq!(of(0x28, 0), TransferError::Transaction);
        assert_eq!(of(0x28, 2), TransferError::Stall);
    }
}
