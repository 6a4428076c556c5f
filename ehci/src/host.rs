//! Transfers as futures: a controller that several tasks of one executor share.
//!
//! [`Host`] wraps an [`Ehci`] for use through shared references. Each future looks at the controller when it is polled, so
//! that an executor which polls without pause needs nothing else. One that sleeps calls [`Host::poll`] after the
//! controller's interrupt and at the time of [`Host::next_deadline`]; that wakes the tasks whose transfers ended.

use crate::controller::{Ehci, PortEvent};
use crate::error::SubmitError;
use crate::interrupt::Interrupt;
use crate::memory::Dma;
use crate::pipe::PipeId;
use crate::platform::Platform;
use crate::registers::Registers;
use crate::stream::{Batch, BatchId, Sizes, StreamId};
use crate::transfer::{Completion, Rejected, Request, TransferId};
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

/// A controller that is shared by the tasks of one thread.
///
/// The platform's and the memory provider's methods must not call back into it.
pub struct Host<R: Registers, D: Dma, P: Platform> {
    core: RefCell<Ehci<R, D, P>>,
}

impl<R: Registers, D: Dma, P: Platform> Host<R, D, P> {
    /// Takes a controller, started or not.
    pub const fn new(ehci: Ehci<R, D, P>) -> Self {
        Self {
            core: RefCell::new(ehci),
        }
    }

    /// Gives the controller back.
    pub fn into_inner(self) -> Ehci<R, D, P> {
        self.core.into_inner()
    }

    /// Makes progress and wakes the tasks that wait for what has happened. See [`Ehci::poll`].
    pub fn poll(&self) {
        self.with(Ehci::poll);
        // No borrow is held while foreign code runs.
        while let Some(waker) = self.with(Ehci::take_woken).flatten() {
            waker.wake();
        }
    }

    /// Drives the controller for ever: after each interrupt, and whenever something is due by the platform's clock.
    ///
    /// `sleep_until` waits for a time of that clock, in microseconds. With this in one task, the tasks that use the
    /// controller sleep until their transfers have ended. Interrupts must have been enabled with the same `interrupt`.
    pub async fn run(&self, interrupt: &Interrupt, mut sleep_until: impl AsyncFnMut(u64)) -> ! {
        loop {
            self.poll();
            let mut interrupted = pin!(interrupt.wait());
            let mut due = pin!(sleep_until(self.next_deadline()));
            poll_fn(|context| {
                if interrupted.as_mut().poll(context).is_ready()
                    || due.as_mut().poll(context).is_ready()
                {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    /// Returns when [`Host::poll`] is due at the latest. See [`Ehci::next_deadline`].
    pub fn next_deadline(&self) -> u64 {
        self.with(|ehci| ehci.next_deadline()).unwrap_or(0)
    }

    /// Uses the controller; nothing if it is in use already, further up the stack.
    pub fn with<T>(&self, use_it: impl FnOnce(&mut Ehci<R, D, P>) -> T) -> Option<T> {
        self.core
            .try_borrow_mut()
            .ok()
            .map(|mut ehci| use_it(&mut ehci))
    }

    /// Runs a control transfer, waiting while another one runs on the pipe. See [`Ehci::control`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future abandons the transfer; its buffer is freed when the controller has let go of it.
    ///
    /// # Errors
    ///
    /// When the transfer is not accepted; whether it succeeds is in the completion.
    pub async fn control(
        &self,
        pipe: PipeId,
        setup: [u8; 8],
        buffer: Option<D::Buffer>,
        timeout_us: Option<u64>,
    ) -> Result<Completion<D::Buffer>, SubmitError> {
        let mut buffer = buffer;
        let id = self.accepted(pipe, Ehci::is_idle, |ehci| {
            match ehci.control(pipe, setup, buffer.take(), timeout_us) {
                Ok(id) => Ok(id),
                Err(rejected) => {
                    buffer = rejected.buffer;
                    Err(rejected.error)
                }
            }
        });
        let id = id.await?;
        Ok(Transfer {
            host: self,
            id: Some(id),
        }
        .await)
    }

    /// Begins a transfer on a bulk or interrupt pipe, waiting while the pipe is busy. See [`Ehci::submit`].
    ///
    /// The future that it returns ends with the transfer. Several may be begun before the first has ended.
    ///
    /// # Cancellation
    ///
    /// Dropping either future abandons the transfer, and cancels all that are queued on the pipe.
    ///
    /// # Errors
    ///
    /// When the transfer is not accepted.
    pub async fn submit(
        &self,
        pipe: PipeId,
        request: Request<D::Buffer>,
    ) -> Result<Transfer<'_, R, D, P>, SubmitError> {
        let Request {
            mut buffer,
            zero_packet,
            trailer,
            part,
            quiet,
            timeout_us,
        } = request;
        let is_free = |ehci: &Ehci<R, D, P>, pipe| !ehci.is_busy(pipe);
        let id = self.accepted(pipe, is_free, |ehci| {
            let request = Request {
                buffer: buffer.take(),
                zero_packet,
                trailer,
                part,
                quiet,
                timeout_us,
            };
            ehci.submit(pipe, request).map_err(
                |Rejected {
                     error,
                     buffer: back,
                 }| {
                    buffer = back;
                    error
                },
            )
        });
        Ok(Transfer {
            host: self,
            id: Some(id.await?),
        })
    }

    /// Sends at most 32 bytes, waiting until nothing else is under way on the pipe. See [`Ehci::send`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future abandons the transfer.
    ///
    /// # Errors
    ///
    /// When the transfer is not accepted; whether it succeeds is in the completion.
    pub async fn send(
        &self,
        pipe: PipeId,
        bytes: &[u8],
        timeout_us: Option<u64>,
    ) -> Result<Completion<D::Buffer>, SubmitError> {
        let id = self.accepted(pipe, Ehci::is_idle, |ehci| {
            ehci.send(pipe, bytes, timeout_us)
        });
        Ok(Transfer {
            host: self,
            id: Some(id.await?),
        }
        .await)
    }

    /// Waits until the transfers of a pipe that were cancelled are over. See [`Ehci::is_busy`].
    pub async fn settled(&self, pipe: PipeId) {
        poll_fn(|context| {
            self.poll();
            let busy = self.with(|ehci| {
                let busy = ehci.is_busy(pipe);
                if busy {
                    ehci.watch_pipe(pipe, context.waker());
                }
                busy
            });
            match busy {
                Some(false) => Poll::Ready(()),
                Some(true) => Poll::Pending,
                None => again(context),
            }
        })
        .await;
    }

    /// Queues a batch of isochronous packets. See [`Ehci::submit_batch`].
    ///
    /// The future that it returns ends with the batch.
    ///
    /// # Cancellation
    ///
    /// Dropping the future abandons the batch; its buffer is freed when the controller has let go of it. Other batches of the
    /// stream go on.
    ///
    /// # Errors
    ///
    /// Why it was not accepted, and the buffer.
    pub fn submit_batch(
        &self,
        stream: StreamId,
        buffer: D::Buffer,
        sizes: Sizes,
    ) -> Result<Packets<'_, R, D, P>, Rejected<D::Buffer>> {
        let mut buffer = Some(buffer);
        let submitted = self.with(|ehci| match buffer.take() {
            Some(buffer) => ehci.submit_batch(stream, buffer, sizes),
            None => Err(Rejected {
                error: SubmitError::BadPackets,
                buffer: None,
            }),
        });
        match submitted {
            Some(Ok(id)) => Ok(Packets {
                host: self,
                id: Some(id),
            }),
            Some(Err(rejected)) => Err(rejected),
            None => Err(Rejected {
                error: SubmitError::Busy,
                buffer,
            }),
        }
    }

    /// Waits for something to happen on a port.
    pub async fn port_event(&self) -> PortEvent {
        poll_fn(|context| {
            self.poll();
            let event = self.with(|ehci| {
                ehci.watch_ports(context.waker());
                ehci.take_port_event()
            });
            match event {
                Some(Some(event)) => Poll::Ready(event),
                Some(None) => Poll::Pending,
                None => again(context),
            }
        })
        .await
    }

    /// Tries when the pipe is ready for it.
    async fn accepted(
        &self,
        pipe: PipeId,
        is_ready: impl Fn(&Ehci<R, D, P>, PipeId) -> bool,
        mut submit: impl FnMut(&mut Ehci<R, D, P>) -> Result<TransferId, SubmitError>,
    ) -> Result<TransferId, SubmitError> {
        poll_fn(|context| {
            self.poll();
            let result = self.with(|ehci| {
                if is_ready(ehci, pipe) {
                    Some(submit(ehci))
                } else {
                    ehci.watch_pipe(pipe, context.waker());
                    None
                }
            });
            match result {
                Some(Some(result)) => Poll::Ready(result),
                Some(None) => Poll::Pending,
                None => again(context),
            }
        })
        .await
    }
}

/// A transfer that is under way. Dropping it abandons the transfer.
#[must_use = "dropping a transfer abandons it"]
pub struct Transfer<'h, R: Registers, D: Dma, P: Platform> {
    host: &'h Host<R, D, P>,
    id: Option<TransferId>,
}

impl<R: Registers, D: Dma, P: Platform> Future for Transfer<'_, R, D, P> {
    type Output = Completion<D::Buffer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled after its end, it stays pending, as there is nothing more to give.
        let Some(id) = self.id else {
            return Poll::Pending;
        };
        self.host.poll();
        let taken = self.host.with(|ehci| {
            let end = ehci.take(id);
            if end.is_none() {
                ehci.watch(id, context.waker());
            }
            end
        });
        match taken {
            Some(Some(end)) => {
                self.id = None;
                Poll::Ready(end)
            }
            Some(None) => Poll::Pending,
            None => again(context),
        }
    }
}

impl<R: Registers, D: Dma, P: Platform> Drop for Transfer<'_, R, D, P> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.host.with(|ehci| ehci.abandon(id));
        }
    }
}

/// A batch of isochronous packets that is under way. Dropping it abandons the batch.
#[must_use = "dropping a batch abandons it"]
pub struct Packets<'h, R: Registers, D: Dma, P: Platform> {
    host: &'h Host<R, D, P>,
    id: Option<BatchId>,
}

impl<R: Registers, D: Dma, P: Platform> Future for Packets<'_, R, D, P> {
    type Output = Batch<D::Buffer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled after its end, it stays pending, as there is nothing more to give.
        let Some(id) = self.id else {
            return Poll::Pending;
        };
        self.host.poll();
        let taken = self.host.with(|ehci| {
            let end = ehci.take_batch(id);
            if end.is_none() {
                ehci.watch_batch(id, context.waker());
            }
            end
        });
        match taken {
            Some(Some(end)) => {
                self.id = None;
                Poll::Ready(end)
            }
            Some(None) => Poll::Pending,
            None => again(context),
        }
    }
}

impl<R: Registers, D: Dma, P: Platform> Drop for Packets<'_, R, D, P> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.host.with(|ehci| ehci.abandon_batch(id));
        }
    }
}

fn again<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}
