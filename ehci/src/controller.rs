//! The controller object: taking it over in any state, starting it, stopping it, giving it back.

use crate::QUEUE_HEADS;
use crate::error::StartError;
use crate::interrupt::{INTERRUPTS, Interrupt};
use crate::layout::{DESCRIPTOR_BYTES, Descriptors};
use crate::memory::Dma;
use crate::pipe::Pipe;
use crate::platform::Platform;
use crate::port::{MAX_PORTS, Port, PortChange};
use crate::registers::{Operational, Registers, UsbCmd, UsbIntr, UsbSts};
use crate::schedule::queue::Pool;
use crate::schedule::ring::{HEAD, QhSet, Ring};
use crate::schedule::tree::Tree;
use crate::stream::Streams;
use crate::transfer::Transfers;
use crate::translator::Clears;
use core::mem::ManuallyDrop;
use core::task::Waker;

/// A controller halts within 16 microframes (section 2.3.1, RS); slow ones get more, and emulated ones on a busy machine still
/// more.
const HALT_US: u64 = 500_000;
/// No bound is specified for a reset; real ones end within a millisecond.
const RESET_US: u64 = 250_000;
/// What raises no interrupt is looked at this often while it is waited for.
pub(crate) const STEP_US: u64 = 1_000;
/// Legacy firmware gets this long to let go.
const HANDOFF_US: u64 = 1_000_000;
/// Interrupts are held back for at most this many microframes (section 2.3.1, ITC): latency against their number.
const INTERRUPT_THRESHOLD: u32 = 1;

/// Where the controller is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Not started, or stopped: it does not touch memory.
    Stopped,
    /// Running.
    Running,
    /// It failed, and [`Ehci::poll`] waits for it to stop; or [`Ehci::restart`] was called, and it waits for it to run.
    Recovering,
    /// It failed and has stopped; [`Ehci::restart`] or [`Ehci::start`] tries again.
    Failed,
    /// It failed and does not stop: what it may still write to is lost for ever.
    Runaway,
}

/// What a controller that failed is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// To halt.
    Halt,
    /// To end a reset, since it did not halt.
    Reset,
    /// To end a reset, to be started again.
    Restart,
    /// To run.
    Run,
}

/// The doorbell of the asynchronous schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doorbell {
    /// None is out, and one may be rung.
    Silent,
    Rung {
        at: u64,
    },
    /// It was not answered: the schedule is being switched off instead. To be looked at next at a time.
    Stopping {
        at: u64,
        next: u64,
    },
    /// The schedule was switched on and does not run yet: its enable must not change before, and a doorbell would not be heard
    /// (section 2.3.1).
    Starting {
        at: u64,
        next: u64,
    },
}

/// Something that happened on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PortEvent {
    /// The port, counted from zero.
    pub port: u8,
    /// What happened.
    pub change: PortChange,
}

/// Counters since the controller object was made. They wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Statistics {
    /// Transfers that were accepted.
    pub transfers: u32,
    /// Batches of isochronous packets that were accepted.
    pub batches: u32,
    /// Transfers that ended with an error.
    pub failed: u32,
    /// Bytes of data received.
    pub bytes_in: u64,
    /// Bytes of data sent.
    pub bytes_out: u64,
    /// Transfer descriptors handed to the controller.
    pub qtds: u32,
    /// Doorbells rung.
    pub doorbells: u32,
    /// Doorbells that were not answered in time.
    pub doorbells_lost: u32,
    /// Transactions that were tried again by software.
    pub retries: u32,
}

/// An EHCI controller and everything that is under way on it.
///
/// `R` is the access to its registers, `D` the provider of DMA memory, `P` the machine around it. All methods return
/// at once, except [`Ehci::start`] and [`Ehci::stop`], which wait for the controller within stated bounds. Progress is
/// made by [`Ehci::poll`].
///
/// Dropping the object stops the controller; should it refuse, the memory that it may touch is leaked rather than freed.
pub struct Ehci<R: Registers, D: Dma, P: Platform> {
    pub(crate) registers: Operational<R>,
    pub(crate) dma: D,
    pub(crate) platform: P,
    pub(crate) memory: ManuallyDrop<Descriptors<D::Coherent>>,
    pub(crate) ring: Ring,
    pub(crate) tree: Tree,
    pub(crate) pool: Pool,
    pub(crate) pipes: [Pipe; QUEUE_HEADS],
    /// Pipes with transfers that have not ended.
    pub(crate) active: QhSet,
    /// Pipes on their way out of the periodic schedule.
    pub(crate) parting: QhSet,
    /// Some may have been woken.
    pub(crate) pipes_woken: bool,
    pub(crate) transfers: Transfers<D::Buffer>,
    pub(crate) streams: Streams<D::Buffer>,
    pub(crate) ports: [Port; MAX_PORTS],
    /// Some port is to be looked at although nothing changes.
    pub(crate) ports_moving: bool,
    pub(crate) events: Events,
    pub(crate) clears: Clears,
    pub(crate) doorbell: Doorbell,
    pub(crate) state: State,
    /// While it is [`State::Recovering`]: what is waited for, and since when.
    recovery: (Recovery, u64),
    /// When that is to be looked at.
    pub(crate) next_recovery: u64,
    pub(crate) next_look: u64,
    pub(crate) statistics: Statistics,
    pub(crate) interrupt: Option<&'static Interrupt>,
}

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Looks at a controller and allocates its descriptors. The controller is not touched yet.
    ///
    /// # Errors
    ///
    /// [`StartError::Probe`] when there is no controller, [`StartError::NoMemory`] or [`StartError::BadMemory`] when the
    /// provider has no suitable descriptor memory.
    pub fn new(registers: R, dma: D, platform: P) -> Result<Self, StartError> {
        let registers = Operational::new(registers)?;
        let memory = dma.coherent(DESCRIPTOR_BYTES)?;
        let (bus, given) = (
            crate::memory::Coherent::bus_address(&memory),
            crate::memory::Coherent::size(&memory),
        );
        let memory = Descriptors::new(memory).ok_or(StartError::BadMemory { bus, size: given })?;
        let streams = Streams::new();
        let ring = Ring::new(&memory);
        let tree = Tree::new(&memory, &streams.schedule.frames);
        Ok(Self {
            registers,
            dma,
            platform,
            memory: ManuallyDrop::new(memory),
            ring,
            tree,
            pool: Pool::new(),
            pipes: [const { Pipe::FREE }; QUEUE_HEADS],
            active: QhSet::EMPTY,
            parting: QhSet::EMPTY,
            pipes_woken: false,
            transfers: Transfers::new(),
            streams,
            ports: [const { Port::new() }; MAX_PORTS],
            ports_moving: false,
            events: Events::new(),
            clears: Clears::new(),
            doorbell: Doorbell::Silent,
            state: State::Stopped,
            recovery: (Recovery::Halt, 0),
            next_recovery: 0,
            next_look: 0,
            statistics: Statistics::default(),
            interrupt: None,
        })
    }

    /// Takes the controller over, whatever state it is in, and starts it.
    ///
    /// Waits for legacy firmware up to 1 s, for the halt up to 500 ms, for the reset up to 250 ms, for the start up to
    /// 500 ms. All pipes of an earlier start are closed.
    ///
    /// # Errors
    ///
    /// Which of the waits was in vain.
    pub fn start(&mut self) -> Result<(), StartError> {
        self.take_from_firmware();
        self.halt()?;
        self.interrupt = None;
        self.forget_everything();
        self.reset()?;
        self.run();
        if !self.wait(HALT_US, |this| !this.registers.status().halted()) {
            let status = self.registers.status();
            // It may still begin to run.
            self.stop()?;
            return Err(StartError::RunTimeout(status));
        }
        self.running();
        Ok(())
    }

    /// Begins to start a controller again that has failed, and does not wait: [`Ehci::poll`] goes on with it. Devices come back
    /// as new ones; interrupts that were enabled are enabled again. Returns false unless the controller has
    /// [failed](State::Failed), which it has once more if it does not start.
    pub fn restart(&mut self) -> bool {
        let has_failed = self.state == State::Failed;
        if has_failed {
            self.request_reset();
            self.recover(Recovery::Restart);
        }
        has_failed
    }

    /// Stops a controller that failed; everything on it ends when it has stopped.
    #[cold]
    pub(crate) fn fail(&mut self) {
        self.request_halt();
        self.recover(Recovery::Halt);
        // Most have halted by themselves.
        self.step_recovery();
    }

    fn recover(&mut self, by: Recovery) {
        let now = self.platform.now_us();
        self.state = State::Recovering;
        self.recovery = (by, now);
        self.next_recovery = now + STEP_US;
    }

    /// Goes on with a controller that failed, without waiting.
    #[cold]
    pub(crate) fn step_recovery(&mut self) {
        let (by, since) = self.recovery;
        let (done, limit) = match by {
            Recovery::Halt => (self.registers.status().halted(), HALT_US),
            Recovery::Reset | Recovery::Restart => (!self.registers.command().reset(), RESET_US),
            Recovery::Run => (!self.registers.status().halted(), HALT_US),
        };
        let now = self.platform.now_us();
        if !done && now.saturating_sub(since) <= limit {
            self.next_recovery = now + STEP_US;
            return;
        }
        match (by, done) {
            (Recovery::Halt | Recovery::Reset, true) => {
                self.give_back();
                self.state = State::Failed;
            }
            // A reset ends all activity as well (section 2.3.1, HCRESET).
            (Recovery::Halt, false) => {
                self.request_reset();
                self.recover(Recovery::Reset);
            }
            (Recovery::Reset, false) => self.lose_everything(),
            (Recovery::Restart, true) => {
                self.run();
                self.recover(Recovery::Run);
            }
            (Recovery::Run, true) => {
                self.running();
                if let Some(interrupt) = self.interrupt {
                    self.enable_interrupts(interrupt);
                }
            }
            (Recovery::Restart | Recovery::Run, false) => {
                self.fail();
                self.events.wake();
            }
        }
    }

    /// Lets a controller that was reset run.
    fn run(&mut self) {
        self.platform.prepare(self.registers.raw());

        self.ring = Ring::new(&self.memory);
        self.tree = Tree::new(&self.memory, &self.streams.schedule.frames);
        self.registers.set_interrupts(UsbIntr(0));
        self.registers.clear_status(UsbSts(UsbSts::CHANGES));
        if self.registers.parameters().addressing_64() {
            self.registers.set_segment(0);
        }
        self.registers.set_periodic_list(self.memory.frame_list());
        self.registers.set_async_list(self.memory.qh_bus(HEAD));
        let mut command = UsbCmd(0);
        command.set_run(true);
        command.set_async_enable(true);
        command.set_interrupt_threshold(INTERRUPT_THRESHOLD);
        self.registers.set_command(command);
    }

    /// Takes the ports of a controller that runs.
    fn running(&mut self) {
        let now = self.platform.now_us();
        self.state = State::Running;
        self.doorbell = Doorbell::Starting { at: now, next: now };

        self.registers.set_configured(true);
        self.ports_moving = true;
        for port in 0..self.registers.ports() {
            let excluded = !self.platform.serves_port(port);
            if let Some(entry) = self.ports.get_mut(usize::from(port)) {
                entry.start(&self.registers, port, excluded, now);
            }
        }
    }

    /// Lets the controller raise interrupts, which the handler passes on through `interrupt`; until the controller is
    /// stopped. Without this, call [`Ehci::poll`] often enough instead.
    pub fn enable_interrupts(&mut self, interrupt: &'static Interrupt) {
        self.interrupt = Some(interrupt);
        interrupt.connect(Some(self.registers.base()));
        self.registers.set_interrupts(INTERRUPTS);
    }

    /// Stops the controller and gives its ports to the companions. Every transfer ends with
    /// [`ControllerFailed`](crate::TransferError::ControllerFailed), every pipe is closed.
    ///
    /// Waits up to 500 ms for the halt and, if that fails, up to 250 ms for a reset.
    ///
    /// # Errors
    ///
    /// [`StartError::HaltTimeout`] when the controller does not stop. What it may still touch is then never freed.
    pub fn stop(&mut self) -> Result<(), StartError> {
        let stopped = match self.halt() {
            // A reset ends all activity as well (section 2.3.1, HCRESET).
            Err(error) => self.reset().map_err(|_| error),
            ok => ok,
        };
        if let Err(error) = stopped {
            self.lose_everything();
            return Err(error);
        }
        self.give_back();
        self.state = State::Stopped;
        Ok(())
    }

    /// Gives the ports of a controller that has stopped to the companions, and ends everything.
    fn give_back(&mut self) {
        self.registers.set_configured(false);
        self.platform.retire(self.registers.raw());
        self.forget_everything();
    }

    /// Returns where the controller is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the registers.
    pub fn registers(&self) -> &Operational<R> {
        &self.registers
    }

    /// Returns the provider of DMA memory.
    pub fn dma(&self) -> &D {
        &self.dma
    }

    /// Returns the machine around the controller.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Returns the counters.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Takes the oldest thing that happened on a port and was not taken yet.
    pub fn take_port_event(&mut self) -> Option<PortEvent> {
        self.events.take()
    }

    /// Leaves a waker to be woken at the next port event.
    pub fn watch_ports(&mut self, waker: &Waker) {
        self.events.watch(waker);
    }

    /// Takes a waker whose transfer ended or whose port event came.
    ///
    /// Call until it returns nothing after [`Ehci::poll`], and wake each: wakers run foreign code, which must not find
    /// the driver in the middle of its work.
    pub fn take_woken(&mut self) -> Option<Waker> {
        let events = self.events.take_woken();
        events
            .or_else(|| self.transfers.take_woken())
            .or_else(|| self.streams.take_woken())
            .or_else(|| self.take_woken_pipe())
    }

    fn take_from_firmware(&self) {
        const LEGACY: u32 = 1;
        const BIOS_OWNED: u32 = 1 << 16;
        const OS_OWNED: u32 = 1 << 24;
        // A broken list could be circular; there is no room for more than this.
        const MAX_CAPABILITIES: usize = 48;
        let mut offset = self.registers.parameters().extended_capabilities() as u8;
        for _ in 0..MAX_CAPABILITIES {
            let Some(word) = (offset >= 0x40)
                .then(|| self.platform.read_config(offset))
                .flatten()
            else {
                return;
            };
            if word & 0xff == LEGACY {
                self.platform.write_config(offset, word | OS_OWNED);
                let released = |this: &Self| {
                    this.platform
                        .read_config(offset)
                        .is_none_or(|w| w & BIOS_OWNED == 0)
                };
                if !self.wait(HANDOFF_US, released) {
                    // Firmware that does not answer is not there any more.
                    self.platform
                        .write_config(offset, word & !BIOS_OWNED | OS_OWNED);
                }
                // No more system management interrupts, and the pending ones cleared (section 2.1.8).
                self.platform
                    .write_config(offset.wrapping_add(4), 0xe000_0000);
            }
            offset = (word >> 8) as u8;
        }
    }

    fn request_halt(&self) {
        self.registers.set_interrupts(UsbIntr(0));
        if let Some(interrupt) = self.interrupt {
            interrupt.connect(None);
        }
        let status = self.registers.status();
        let mut command = self.registers.command();
        command.set_run(false);
        // The halt ends the schedules in any case. An enable must not change before its schedule has followed (section 2.3.1).
        if status.async_running() == command.async_enable() {
            command.set_async_enable(false);
        }
        if status.periodic_running() == command.periodic_enable() {
            command.set_periodic_enable(false);
        }
        command.set_doorbell(false);
        self.registers.set_command(command);
    }

    fn halt(&self) -> Result<(), StartError> {
        self.request_halt();
        if self.wait(HALT_US, |this| this.registers.status().halted()) {
            Ok(())
        } else {
            Err(StartError::HaltTimeout(self.registers.status()))
        }
    }

    fn request_reset(&self) {
        let mut command = UsbCmd(0);
        command.set_reset(true);
        self.registers.set_command(command);
    }

    fn reset(&self) -> Result<(), StartError> {
        self.request_reset();
        if self.wait(RESET_US, |this| !this.registers.command().reset()) {
            Ok(())
        } else {
            Err(StartError::ResetTimeout(self.registers.command()))
        }
    }

    /// Waits for a condition; it is looked at once more after the time is up, so that a long pause of the CPU is no
    /// reason to give up.
    fn wait(&self, limit_us: u64, done: impl Fn(&Self) -> bool) -> bool {
        let start = self.platform.now_us();
        loop {
            let late = self.platform.now_us().saturating_sub(start) > limit_us;
            if done(self) {
                return true;
            }
            if late {
                return false;
            }
            core::hint::spin_loop();
        }
    }
}

impl<R: Registers, D: Dma, P: Platform> Drop for Ehci<R, D, P> {
    fn drop(&mut self) {
        if self.state == State::Stopped || self.state != State::Runaway && self.stop().is_ok() {
            // SAFETY: the controller has stopped and will not touch its descriptors again; nothing uses them after this.
            unsafe { ManuallyDrop::drop(&mut self.memory) }
        }
    }
}

/// Port events that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Events {
    queue: [Option<PortEvent>; Self::DEPTH],
    waker: Option<Waker>,
    woken: bool,
}

impl Events {
    const DEPTH: usize = 2 * MAX_PORTS;

    const fn new() -> Self {
        Self {
            queue: [None; Self::DEPTH],
            waker: None,
            woken: false,
        }
    }

    /// Appends an event. When there is no room, the oldest one goes: the newest tell the state of their port.
    pub(crate) fn push(&mut self, event: PortEvent) {
        if self.queue.iter().all(Option::is_some) {
            self.take();
        }
        if let Some(free) = self.queue.iter_mut().find(|entry| entry.is_none()) {
            *free = Some(event);
        }
        self.woken = true;
    }

    /// Wakes whoever waits for events, for something that is none.
    pub(crate) fn wake(&mut self) {
        self.woken = true;
    }

    fn take(&mut self) -> Option<PortEvent> {
        let [first, rest @ ..] = &mut self.queue;
        let taken = first.take();
        if taken.is_some() {
            *first = rest.first_mut().and_then(Option::take);
            rest.rotate_left(1);
        }
        taken
    }

    fn watch(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    fn take_woken(&mut self) -> Option<Waker> {
        if core::mem::take(&mut self.woken) {
            self.waker.take()
        } else {
            None
        }
    }
}
