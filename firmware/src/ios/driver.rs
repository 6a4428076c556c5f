//! The mailbox driver: several requests in flight, each in a slot that it keeps until IOS has replied.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use mem2_dma::Device;

use super::request::{Buffer, Command, Envelope, REPLY};
use super::{Fd, IosError, MAX_BUFFERS, Mailbox, Request, Whence};

/// Requests that can be under way, those included that nobody waits for any more.
pub const SLOTS: usize = 16;

/// First and last physical address of MEM2 (hardware notes, section 1.1).
const MEM2: core::ops::RangeInclusive<u32> = 0x1000_0000..=0x13FF_FFFF;
/// Alignment of every buffer (hardware notes, section 6.1).
const ALIGN: u32 = 32;

/// What the driver has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests announced to IOS.
    pub requests: u64,
    /// Buffers that IOS was given, request blocks included.
    pub buffers: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Buffers that were refused because they do not lie in MEM2 at a multiple of 32 bytes.
    pub outside_mem2: u64,
    /// Replies to requests that nobody waited for any more.
    pub forgotten: u64,
    /// Replies to requests that this driver has not made.
    pub strays: u64,
    /// Requests that IOS has not answered yet.
    pub in_flight: usize,
    /// The most that IOS had at one time.
    pub most_in_flight: usize,
}

/// A driver of the mailbox, shared by everything that talks to IOS.
///
/// Futures make progress when they are polled, and want to be polled again soon: an executor that polls without pause
/// needs nothing else.
///
/// # Cancellation
///
/// Every future may be dropped. Its request stays in its slot, with its memory, until IOS replies; a descriptor that a
/// dropped open has brought is closed.
pub struct Ipc<'p, M: Mailbox> {
    device: Device<'p>,
    core: Mutex<CriticalSectionRawMutex, RefCell<Core<'p, M>>>,
}

impl<'p, M: Mailbox> Ipc<'p, M> {
    /// Time after which a request that IOS does not take means that there is no IOS.
    pub const SILENCE_US: u64 = 2_000_000;

    /// Takes a mailbox in whatever state it is. `device` maps the memory that IOS is given: see
    /// [`Mem2::CONSTRAINTS`](mem2_dma::Mem2::CONSTRAINTS).
    pub fn new(mut mailbox: M, device: Device<'p>) -> Self {
        mailbox.reset();
        let core = Core {
            mailbox,
            slots: [const { Slot::FREE }; SLOTS],
            serial: 0,
            announced: None,
            silent: false,
            statistics: Statistics::default(),
        };
        Self {
            device,
            core: Mutex::new(RefCell::new(core)),
        }
    }

    /// Returns the device that requests' memory is mapped through.
    pub fn device(&self) -> &Device<'p> {
        &self.device
    }

    /// Returns what the driver has done so far.
    pub fn statistics(&self) -> Statistics {
        self.with(|core| Statistics {
            in_flight: core.in_flight(),
            ..core.statistics
        })
    }

    /// Makes progress: takes what the mailbox has and announces the next request. Every future does so when it is polled.
    pub fn poll(&self) {
        self.with(Core::progress);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Core<'p, M>) -> T) -> T {
        self.core.lock(|core| act(&mut core.borrow_mut()))
    }

    /// Gives a request to IOS as soon as the mailbox is free.
    ///
    /// Requests are announced in the order of their submission, and several may be under way.
    ///
    /// # Errors
    /// [`IosError::Busy`], [`IosError::Memory`], [`IosError::OutsideMem2`], [`IosError::Silent`]; the request is gone then.
    pub fn submit(&self, request: Request<'p>) -> Result<Pending<'_, 'p, M>, IosError> {
        let envelope = request.envelope(&self.device)?;
        let (slot, serial) = self.with(|core| core.queue(request, envelope))?;
        Ok(Pending {
            ipc: self,
            slot,
            serial,
        })
    }

    /// Waits until a slot is free: a [`submit`](Self::submit) right behind it is not [`Busy`](IosError::Busy).
    pub async fn room(&self) {
        core::future::poll_fn(|context| {
            let free = self.with(|core| {
                core.progress();
                core.silent || core.slots.iter().any(|slot| slot.state == State::Free)
            });
            if free {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Submits a request and waits for its reply.
    ///
    /// # Errors
    /// Those of [`Ipc::submit`] and of [`Pending`].
    pub async fn request(&self, request: Request<'p>) -> Result<Reply<'p>, IosError> {
        self.submit(request)?.await
    }

    /// Opens a device. See [`Request::open`].
    ///
    /// # Errors
    /// [`IosError::Refused`] with [`code::NOT_FOUND`](super::code::NOT_FOUND) if there is none, and the others.
    pub async fn open(&self, path: &str, mode: u32) -> Result<Fd, IosError> {
        let reply = self
            .request(Request::open(&self.device, path, mode)?)
            .await?;
        Ok(Fd(reply.result as u32))
    }

    /// Closes a device.
    ///
    /// # Errors
    /// As [`Ipc::request`].
    pub async fn close(&self, fd: Fd) -> Result<(), IosError> {
        self.request(Request::close(fd)).await.map(drop)
    }

    /// Reads into `buffer`, through the pool; returns how many bytes came.
    ///
    /// # Errors
    /// As [`Ipc::request`]; [`IosError::Overrun`].
    pub async fn read(&self, fd: Fd, buffer: &mut [u8]) -> Result<usize, IosError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let request = Request::read(&self.device, fd, buffer.len())?;
        let mut reply = self.request(request).await?;
        let received = buffer.get_mut(..reply.result as usize);
        let received = received.ok_or(IosError::Overrun(reply.result))?;
        reply.receive(0, received)?;
        Ok(received.len())
    }

    /// Writes `data`, through the pool; returns how many bytes IOS took.
    ///
    /// # Errors
    /// As [`Ipc::request`]; [`IosError::Overrun`].
    pub async fn write(&self, fd: Fd, data: &[u8]) -> Result<usize, IosError> {
        if data.is_empty() {
            return Ok(0);
        }
        let reply = self
            .request(Request::write(&self.device, fd, data)?)
            .await?;
        let taken = reply.result as usize;
        if taken > data.len() {
            return Err(IosError::Overrun(reply.result));
        }
        Ok(taken)
    }

    /// Moves to `offset` in a file; returns the new place.
    ///
    /// # Errors
    /// As [`Ipc::request`].
    pub async fn seek(&self, fd: Fd, offset: i32, whence: Whence) -> Result<u32, IosError> {
        let reply = self.request(Request::seek(fd, offset, whence)).await?;
        Ok(reply.result as u32)
    }

    /// Asks a device for what `number` means to it; returns its result, never negative. The whole of `output` is filled:
    /// with zeros where IOS wrote nothing.
    ///
    /// # Errors
    /// As [`Ipc::request`].
    pub async fn ioctl(
        &self,
        fd: Fd,
        number: u32,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<i32, IosError> {
        let request = Request::ioctl(&self.device, fd, number, input, output.len())?;
        let mut reply = self.request(request).await?;
        reply.receive(1, output)?;
        Ok(reply.result)
    }

    /// Closes every descriptor that the program before may have left open, and waits for the replies that it did not wait for.
    pub async fn close_inherited(&self) {
        /// Descriptors of the processor's programs in IOS (hardware notes, section 6.2).
        const DESCRIPTORS: u32 = 32;
        for number in 0..DESCRIPTORS {
            // Most are not open; IOS says so, and that is all right.
            let _ = self.close(Fd(number)).await;
        }
    }
}

impl<M: Mailbox> Drop for Ipc<'_, M> {
    fn drop(&mut self) {
        self.with(|core| {
            for slot in &mut core.slots {
                if slot.state == State::Announced {
                    slot.quarantine();
                }
            }
        });
    }
}

/// A request that IOS has, or will have. Resolves to its reply.
///
/// # Errors
/// [`IosError::Refused`] with IOS's negative result, [`IosError::NoReply`], [`IosError::Silent`], [`IosError::Memory`].
#[must_use = "dropped, it is no longer waited for"]
pub struct Pending<'i, 'p, M: Mailbox> {
    ipc: &'i Ipc<'p, M>,
    slot: usize,
    serial: u32,
}

impl<M: Mailbox> Pending<'_, '_, M> {
    /// Lets the request run to its end without anybody waiting for it. (Dropped, one that IOS does not have yet is withdrawn.)
    pub fn detach(self) {
        self.ipc.with(|core| {
            if let Some(slot) = core.slots.get_mut(self.slot)
                && slot.serial == self.serial
                && slot.state == State::Queued
            {
                slot.forgotten = true;
            }
        });
    }
}

impl<'p, M: Mailbox> Future for Pending<'_, 'p, M> {
    type Output = Result<Reply<'p>, IosError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let end = self.ipc.with(|core| {
            core.progress();
            core.take(self.slot, self.serial)
        });
        match end {
            Some(end) => Poll::Ready(end),
            None => {
                // Nobody tells when the mailbox has something: look again.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<M: Mailbox> Drop for Pending<'_, '_, M> {
    fn drop(&mut self) {
        self.ipc.with(|core| core.forget(self.slot, self.serial));
    }
}

/// What IOS has answered, and the memory that it has given back.
pub struct Reply<'p> {
    /// IOS's result: never negative.
    pub result: i32,
    buffers: [Option<Buffer<'p>>; MAX_BUFFERS],
}

impl Reply<'_> {
    /// Copies the first `into.len()` bytes of a buffer that IOS wrote. Buffers count as the request has them.
    ///
    /// # Errors
    /// [`IosError::Memory`] if the buffer is shorter.
    pub fn receive(&mut self, buffer: usize, into: &mut [u8]) -> Result<(), IosError> {
        match self.buffers.get_mut(buffer) {
            Some(Some(buffer)) => buffer.receive(into),
            _ => Ok(()),
        }
    }
}

/// What is behind the lock.
struct Core<'p, M> {
    mailbox: M,
    slots: [Slot<'p>; SLOTS],
    /// Of the request that came last.
    serial: u32,
    /// When the request was announced that IOS has not acknowledged.
    announced: Option<u64>,
    silent: bool,
    statistics: Statistics,
}

/// A request's place.
struct Slot<'p> {
    state: State,
    /// Order of submission.
    serial: u32,
    command: Command,
    /// Nobody waits for it any more.
    forgotten: bool,
    envelope: Option<Envelope<'p>>,
    buffers: [Option<Buffer<'p>>; MAX_BUFFERS],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Waits for the mailbox.
    Queued,
    /// IOS has it.
    Announced,
    /// IOS has given it back, or will never have it.
    Ended(Result<i32, IosError>),
}

impl Slot<'_> {
    const FREE: Self = Self {
        state: State::Free,
        serial: 0,
        command: Command::Close,
        forgotten: false,
        envelope: None,
        buffers: [const { None }; MAX_BUFFERS],
    };

    fn quarantine(&mut self) {
        if let Some(envelope) = self.envelope.take() {
            envelope.0.quarantine();
        }
        for buffer in self.buffers.iter_mut().filter_map(Option::take) {
            buffer.quarantine();
        }
    }
}

impl<'p, M: Mailbox> Core<'p, M> {
    fn in_flight(&self) -> usize {
        let announced = |slot: &&Slot<'_>| slot.state == State::Announced;
        self.slots.iter().filter(announced).count()
    }

    /// Gives a request a slot.
    fn queue(
        &mut self,
        request: Request<'p>,
        envelope: Envelope<'p>,
    ) -> Result<(usize, u32), IosError> {
        self.check(&request, &envelope)?;
        // A slot may be on its way back just now.
        self.progress();
        if self.silent {
            return Err(IosError::Silent);
        }
        let serial = self.serial.wrapping_add(1);
        let mut slots = self.slots.iter_mut().enumerate();
        let (index, slot) = slots
            .find(|(_, slot)| slot.state == State::Free)
            .ok_or(IosError::Busy)?;
        self.serial = serial;
        *slot = Slot {
            state: State::Queued,
            serial,
            command: request.command,
            forgotten: false,
            envelope: Some(envelope),
            buffers: request.buffers,
        };
        self.progress();
        Ok((index, serial))
    }

    /// The last look at every address before IOS gets it.
    fn check(&mut self, request: &Request<'p>, envelope: &Envelope<'p>) -> Result<(), IosError> {
        let block = [(envelope.address(), envelope.len())];
        let (mut buffers, mut bytes) = (0, 0);
        for (address, len) in block.into_iter().chain(request.spans()) {
            let last = address.checked_add(len.saturating_sub(1));
            let inside = MEM2.contains(&address) && last.is_some_and(|last| MEM2.contains(&last));
            if !inside || !address.is_multiple_of(ALIGN) {
                self.statistics.outside_mem2 += 1;
                return Err(IosError::OutsideMem2(address));
            }
            buffers += 1;
            bytes += u64::from(len);
        }
        self.statistics.buffers += buffers;
        self.statistics.bytes += bytes;
        Ok(())
    }

    /// Takes what the mailbox has, and announces the next request.
    fn progress(&mut self) {
        if self.mailbox.take_acknowledgement() {
            self.announced = None;
        }
        // IOS gives back one block at a time; a bound, should the mailbox be broken.
        for _ in 0..SLOTS {
            let Some(address) = self.mailbox.take_reply() else {
                break;
            };
            self.replied(address);
        }
        if let Some(since) = self.announced {
            let now = self.mailbox.now_us();
            if now.saturating_sub(since) > Ipc::<M>::SILENCE_US {
                self.fall_silent();
            }
            return;
        }
        let next = self
            .slots
            .iter_mut()
            .filter(|slot| slot.state == State::Queued)
            // By age, whether the count has wrapped or not.
            .max_by_key(|slot| self.serial.wrapping_sub(slot.serial));
        let Some(slot) = next else { return };
        let Some(envelope) = &slot.envelope else {
            return;
        };
        slot.state = State::Announced;
        self.announced = Some(self.mailbox.now_us());
        // SAFETY: the slot keeps the block and its buffers until IOS has replied; `check` has seen their addresses.
        unsafe { self.mailbox.announce(envelope.address()) };
        self.statistics.requests += 1;
        let in_flight = self.in_flight();
        let most = &mut self.statistics.most_in_flight;
        *most = in_flight.max(*most);
    }

    /// IOS has given back the block at `address`.
    fn replied(&mut self, address: u32) {
        let ours = |slot: &&mut Slot<'_>| {
            let envelope = slot.envelope.as_ref();
            slot.state == State::Announced && envelope.map(Envelope::address) == Some(address)
        };
        let Some(slot) = self.slots.iter_mut().find(ours) else {
            self.statistics.strays += 1;
            return;
        };
        let Some(envelope) = &mut slot.envelope else {
            return;
        };
        let result = match envelope.reply() {
            Ok((REPLY, result @ 0..)) => Ok(result),
            Ok((REPLY, result)) => Err(IosError::Refused(result)),
            Ok((command, _)) => Err(IosError::NoReply(command)),
            Err(error) => Err(error),
        };
        if !slot.forgotten {
            slot.state = State::Ended(result);
            return;
        }
        self.statistics.forgotten += 1;
        match (slot.command, result) {
            // Nobody knows of the descriptor, so nobody else closes it.
            (Command::Open, Ok(fd))
                if envelope.rewrite(Command::Close, fd as u32, [0; 5]).is_ok() =>
            {
                slot.command = Command::Close;
                slot.state = State::Queued;
            }
            _ => *slot = Slot::FREE,
        }
    }

    /// There is no IOS: what it has not taken will not be taken.
    fn fall_silent(&mut self) {
        self.silent = true;
        for slot in &mut self.slots {
            match slot.state {
                State::Queued if slot.forgotten => *slot = Slot::FREE,
                State::Queued => slot.state = State::Ended(Err(IosError::Silent)),
                State::Announced if !slot.forgotten => {
                    // It might yet look at them.
                    slot.quarantine();
                    slot.state = State::Ended(Err(IosError::Silent));
                }
                _ => {}
            }
        }
    }

    /// Returns how a request has ended, once, and frees its slot.
    fn take(&mut self, index: usize, serial: u32) -> Option<Result<Reply<'p>, IosError>> {
        let slot = self.slots.get_mut(index)?;
        let State::Ended(result) = slot.state else {
            return None;
        };
        if slot.serial != serial {
            return None;
        }
        let slot = core::mem::replace(slot, Slot::FREE);
        Some(result.map(|result| Reply {
            result,
            buffers: slot.buffers,
        }))
    }

    /// Nobody waits for a request any more.
    fn forget(&mut self, index: usize, serial: u32) {
        let slot = self.slots.get_mut(index);
        let Some(slot) = slot.filter(|slot| slot.serial == serial) else {
            return;
        };
        match slot.state {
            State::Free => {}
            State::Queued if slot.forgotten => {}
            // IOS never sees it.
            State::Queued => *slot = Slot::FREE,
            State::Announced => slot.forgotten = true,
            State::Ended(Ok(fd)) if slot.command == Command::Open => {
                let closing = slot.envelope.as_mut().is_some_and(|envelope| {
                    envelope.rewrite(Command::Close, fd as u32, [0; 5]).is_ok()
                });
                if closing {
                    slot.command = Command::Close;
                    slot.state = State::Queued;
                    slot.forgotten = true;
                    self.progress();
                } else {
                    *slot = Slot::FREE;
                }
            }
            State::Ended(_) => *slot = Slot::FREE,
        }
    }
}
