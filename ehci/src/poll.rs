//! Progress: what the controller has done since the last look, and what is due by the clock.

use crate::QUEUE_HEADS;
use crate::controller::{Doorbell, Ehci, PortEvent, STEP_US, State};
use crate::endpoint::Endpoint;
use crate::error::TransferError;
use crate::interrupt::Interrupt;
use crate::layout::Qh;
use crate::memory::Dma;
use crate::pipe::Stage;
use crate::platform::Platform;
use crate::port::PortChange;
use crate::registers::{Registers, UsbSts};
use crate::schedule::ring::QhSet;

/// An unanswered doorbell is taken for lost after this time.
const DOORBELL_US: u64 = 10_000;
/// A schedule that was switched off stops within this time, one that was switched on runs. Real ones do within a frame or two; an emulator on a busy machine
/// may not run for a while, and giving up means to lose every device.
const SCHEDULE_US: u64 = 500_000;
/// Everything is looked at this often, also without an interrupt, since interrupts get lost.
const WATCHDOG_US: u64 = 100_000;

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Makes progress: takes note of completed transfers, released queue heads, port changes and expired times.
    ///
    /// Call it after an interrupt, and at the latest at [`Ehci::next_deadline`]; more often does no harm. Never waits.
    pub fn poll(&mut self) {
        if self.state != State::Running {
            if self.state == State::Recovering {
                self.step_recovery();
            }
            return;
        }
        let now = self.platform.now_us();
        let seen = self.registers.status();
        if seen.0 & UsbSts::CHANGES != 0 {
            // Cleared before memory is looked at: what happens from now on sets them again.
            self.registers.clear_status(seen);
        }
        let taken = self.interrupt.map_or(UsbSts(0), Interrupt::take);
        let status = UsbSts(seen.0 | taken.0);
        if status.host_system_error() || seen.halted() {
            self.fail();
            return;
        }
        if self.doorbell != Doorbell::Silent {
            self.step_doorbell(status, now);
            if self.state != State::Running {
                return;
            }
        }
        // Before completions: what fails because the device is gone is to be called that.
        let due = now >= self.next_look;
        if due {
            self.next_look = now + WATCHDOG_US;
        }
        let look = due || status.port_change();
        if look || self.ports_moving {
            self.step_ports(look, now);
        }
        if !self.parting.is_empty() {
            self.step_parting(now);
        }
        for qh in self.active {
            if self.pipe(qh).is_some_and(|pipe| pipe.stage == Stage::Open) {
                self.complete(qh, false);
            }
        }
        if self.streams.are_running() {
            self.step_streams();
        }
        self.expire(now);
        if self.ring.wants_doorbell() && self.doorbell == Doorbell::Silent {
            self.ring_doorbell(now);
        }
    }

    /// Returns the time, by the platform's clock, at which [`Ehci::poll`] has something to do at the latest.
    pub fn next_deadline(&self) -> u64 {
        if self.state == State::Recovering {
            return self.next_recovery;
        }
        let doorbell = match self.doorbell {
            // What was closed or cancelled waits for a look.
            Doorbell::Silent => self.ring.wants_doorbell().then_some(0),
            Doorbell::Rung { at } => Some(at + DOORBELL_US),
            // Neither the end of the schedule nor its beginning raises an interrupt.
            Doorbell::Stopping { next, .. } | Doorbell::Starting { next, .. } => Some(next),
        };
        let ports = self.ports.iter().filter_map(crate::port::Port::deadline);
        let pipes = self.parting.filter_map(|qh| self.pipe(qh)?.free_at);
        let timeouts = self.transfers.next_expiry();
        let streams = self
            .streams
            .next_end()
            .map(|us| self.platform.now_us().saturating_add(us));
        ports
            .chain(pipes)
            .chain(streams)
            .chain(doorbell)
            .chain(timeouts)
            .fold(self.next_look, u64::min)
    }

    /// Begins the reset of a port whose device is attached; [`PortChange::Enabled`] or another change tells how it ended.
    ///
    /// After it, the device answers at address zero. Only one device may do that at a time, which is for the caller to see
    /// to. Pipes to devices on this port end as if it was unplugged. Returns false if there is no device.
    pub fn reset_port(&mut self, port: u8) -> bool {
        let now = self.platform.now_us();
        let Some(entry) = self.ports.get_mut(usize::from(port)) else {
            return false;
        };
        if self.state != State::Running
            || port >= self.registers.ports()
            || !entry.reset(&self.registers, port, now)
        {
            return false;
        }
        self.ports_moving = true;
        self.disconnect(port);
        true
    }

    /// Disables a port, so that its device hears nothing until the port is reset.
    pub fn disable_port(&mut self, port: u8) {
        if port < self.registers.ports()
            && let Some(entry) = self.ports.get_mut(usize::from(port))
        {
            entry.disable(&self.registers, port);
            self.disconnect(port);
        }
    }

    /// Suspends an enabled port. Returns false if it is not enabled, or if something is under way with a device behind it: a
    /// suspended port would let it fail.
    pub fn suspend_port(&mut self, port: u8) -> bool {
        if self.is_port_busy(port) {
            return false;
        }
        let entry = self.ports.get_mut(usize::from(port));
        entry.is_some_and(|entry| {
            port < self.registers.ports() && entry.suspend(&self.registers, port)
        })
    }

    /// Begins to resume a suspended port; [`PortChange::Resumed`] tells when its device may be spoken to, after 30 ms. A device
    /// that wakes up by itself has the same effect; it does so if it was told `SET_FEATURE(DEVICE_REMOTE_WAKEUP)` before.
    /// Returns false if the port is not suspended.
    pub fn resume_port(&mut self, port: u8) -> bool {
        let now = self.platform.now_us();
        self.ports_moving = true;
        let entry = self.ports.get_mut(usize::from(port));
        entry.is_some_and(|entry| {
            port < self.registers.ports() && entry.resume(&self.registers, port, now)
        })
    }

    fn is_port_busy(&self, port: u8) -> bool {
        let here = |endpoint: Endpoint| endpoint.root_port == Some(port);
        let pipes = self.active.filter_map(|qh| self.pipe(qh)?.endpoint);
        pipes.chain(self.streams.active_endpoints()).any(here)
    }

    /// Whether a port is enabled: it has a high-speed device that was reset.
    pub fn is_port_enabled(&self, port: u8) -> bool {
        self.ports
            .get(usize::from(port))
            .is_some_and(crate::port::Port::is_enabled)
    }

    /// Frees interrupt queue heads that the controller has left.
    #[inline(never)]
    fn step_parting(&mut self, now: u64) {
        for qh in self.parting {
            let at = self.pipe(qh).and_then(|pipe| pipe.free_at);
            if at.is_some_and(|at| now >= at) {
                self.left(qh);
            }
        }
    }

    // Seldom due, these are kept out of `poll`, whose frame they would enlarge.
    #[inline(never)]
    fn step_ports(&mut self, changed: bool, now: u64) {
        self.ports_moving = false;
        for port in 0..self.registers.ports() {
            let Some(entry) = self.ports.get_mut(usize::from(port)) else {
                continue;
            };
            if !changed && entry.deadline().is_none() {
                continue;
            }
            if let Some(change) = entry.step(&self.registers, port, now) {
                if matches!(
                    change,
                    PortChange::Detached
                        | PortChange::OverCurrent
                        | PortChange::Disabled
                        | PortChange::ResumeFailed
                ) {
                    self.disconnect(port);
                }
                self.events.push(PortEvent { port, change });
            }
            let entry = self.ports.get(usize::from(port));
            self.ports_moving |= entry.is_some_and(|entry| entry.deadline().is_some());
        }
    }

    /// Ends all transfers of the devices on a port: a controller never reports a device that is not there any more.
    fn disconnect(&mut self, port: u8) {
        self.disconnect_streams(port);
        self.forget_translators(port);
        for qh in (2..QUEUE_HEADS as u8).map(Qh) {
            let Some(pipe) = self.pipe_mut(qh) else {
                continue;
            };
            let here = pipe
                .endpoint
                .is_some_and(|endpoint| endpoint.root_port == Some(port));
            if here && pipe.stage != Stage::Free {
                pipe.gone = true;
                self.leave(qh, Stage::Aborting(TransferError::Disconnected));
            }
        }
    }

    #[inline(never)]
    fn step_doorbell(&mut self, status: UsbSts, now: u64) {
        match self.doorbell {
            Doorbell::Silent => return,
            Doorbell::Rung { .. } if status.async_advance() => {}
            Doorbell::Rung { at } if now.saturating_sub(at) >= DOORBELL_US => {
                self.statistics.doorbells_lost = self.statistics.doorbells_lost.wrapping_add(1);
                // The controller clears the bit when it answers (section 2.3.1): then only the interrupt got lost. Else
                // the schedule is switched off, after which it holds no queue head either.
                let mut command = self.registers.command();
                if command.doorbell() {
                    command.set_doorbell(false);
                    command.set_async_enable(false);
                    self.registers.set_command(command);
                    let next = now + STEP_US;
                    self.doorbell = Doorbell::Stopping { at: now, next };
                    return;
                }
            }
            Doorbell::Rung { .. } => return,
            Doorbell::Starting { at, ref mut next } => {
                *next = now + STEP_US;
                if self.registers.status().async_running() {
                    self.doorbell = Doorbell::Silent;
                } else if now.saturating_sub(at) >= SCHEDULE_US {
                    self.fail();
                }
                return;
            }
            Doorbell::Stopping { at, ref mut next } => {
                *next = now + STEP_US;
                if self.registers.status().async_running() {
                    if now.saturating_sub(at) >= SCHEDULE_US {
                        self.fail();
                    }
                    return;
                }
                let mut command = self.registers.command();
                command.set_async_enable(true);
                self.registers.set_command(command);
            }
        }
        let mut command = self.registers.command();
        if command.doorbell() {
            // Some controllers leave it to software (hardware notes, section 3.8).
            command.set_doorbell(false);
            self.registers.set_command(command);
        }
        let released = if matches!(self.doorbell, Doorbell::Stopping { .. }) {
            let next = now + STEP_US;
            self.doorbell = Doorbell::Starting { at: now, next };
            self.ring.stopped()
        } else {
            self.doorbell = Doorbell::Silent;
            self.ring.answered()
        };
        for qh in released {
            self.left(qh);
        }
    }

    #[inline(never)]
    fn ring_doorbell(&mut self, now: u64) {
        // A stale answer must not be taken for the one to come.
        let mut answer = UsbSts(0);
        answer.set_async_advance(true);
        self.registers.clear_status(answer);
        if let Some(interrupt) = self.interrupt {
            interrupt.forget_async_advance();
        }
        self.ring.ring();
        let mut command = self.registers.command();
        command.set_doorbell(true);
        self.registers.set_command(command);
        self.doorbell = Doorbell::Rung { at: now };
        self.statistics.doorbells = self.statistics.doorbells.wrapping_add(1);
    }

    /// Ends and frees everything, on a controller that has stopped.
    pub(crate) fn forget_everything(&mut self) {
        self.streams.forget();
        self.clears.forget();
        self.parting = QhSet::EMPTY;
        self.ring.stopped();
        for qh in (2..QUEUE_HEADS as u8).map(Qh) {
            self.end_all(
                qh,
                TransferError::ControllerFailed,
                TransferError::ControllerFailed,
            );
            if let Some(pipe) = self.pipe_mut(qh) {
                pipe.free_at = None;
            }
            self.free(qh);
        }
        for port in 0..self.registers.ports() {
            if let Some(entry) = self.ports.get_mut(usize::from(port))
                && entry.lose()
            {
                self.events.push(PortEvent {
                    port,
                    change: PortChange::Detached,
                });
            }
        }
    }

    /// Gives up everything that a controller which does not stop may still touch.
    pub(crate) fn lose_everything(&mut self) {
        self.state = State::Runaway;
        self.transfers.lose();
        self.streams.lose();
    }
}
