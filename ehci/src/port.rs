//! Ports of the root hub: connection, reset, speed, companion hand-off (sections 2.3.9 and 4.2 of the EHCI specification).
//!
//! Each port is a state machine that is stepped with the time and its PORTSC; nothing waits. A device is reset only when
//! the owner of the driver asks, since two devices that were reset and not yet addressed would answer together.

use crate::registers::{Operational, PortSc, Registers};
use core::fmt;

/// Ports that an EHCI controller can have (section 2.2.3).
pub const MAX_PORTS: usize = 15;

/// Connection must be stable for this long (USB 2.0, section 7.1.7.3: TATTDB).
const DEBOUNCE_US: u64 = 100_000;
/// Reset signalling of a root port (USB 2.0, section 7.1.7.5: TDRSTR).
const RESET_US: u64 = 50_000;
/// The controller ends the reset within 2 ms (section 2.3.9); slow ones get more.
const RESET_END_US: u64 = 20_000;
/// A device may be left alone after its reset (USB 2.0, section 7.1.7.5: TRSTRCY).
const RECOVERY_US: u64 = 10_000;
/// Resume signalling (USB 2.0, section 7.1.7.7: TDRSMDN).
const RESUME_US: u64 = 20_000;
/// The port leaves the resume state within 2 ms (section 2.3.9).
const RESUME_END_US: u64 = 20_000;
/// A device is left alone after it was resumed (USB 2.0, section 7.1.7.7: TRSMRCY).
const RESUME_RECOVERY_US: u64 = 10_000;

/// Speed of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Speed {
    /// 1.5 Mbit/s.
    Low,
    /// 12 Mbit/s.
    Full,
    /// 480 Mbit/s.
    High,
}

/// What happened on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PortChange {
    /// A device is connected and stable; it waits to be reset.
    Attached,
    /// The reset is over and the port enabled: a high-speed device answers at address zero.
    Enabled,
    /// The device is not high speed and now belongs to the companion controller.
    HandedOver(Speed),
    /// The device is not high speed and there is no companion controller; it stays without service.
    Unsupported(Speed),
    /// The device is gone; its transfers end with [`Disconnected`](crate::TransferError::Disconnected).
    Detached,
    /// The port draws too much current and was switched off.
    OverCurrent,
    /// The controller did not end the reset in time.
    ResetFailed,
    /// The controller disabled the port because of an error (babble at the end of a frame).
    Disabled,
    /// The port has left the suspended state, and its device may be spoken to.
    Resumed,
    /// The controller did not end the resume signal in time; a reset may help.
    ResumeFailed,
}

impl fmt::Display for PortChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached => f.write_str("a device was attached"),
            Self::Enabled => f.write_str("a high-speed device is ready"),
            Self::HandedOver(speed) => write!(
                f,
                "a {speed:?}-speed device was handed to the companion controller"
            ),
            Self::Unsupported(speed) => write!(
                f,
                "a {speed:?}-speed device cannot be served: no companion controller"
            ),
            Self::Detached => f.write_str("the device was removed"),
            Self::OverCurrent => f.write_str("over-current: the port was switched off"),
            Self::ResetFailed => f.write_str("the port's reset does not end"),
            Self::Disabled => f.write_str("the controller disabled the port after an error"),
            Self::Resumed => f.write_str("the port resumed"),
            Self::ResumeFailed => f.write_str("the port's resume signal does not end"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Debounce {
        until: u64,
    },
    Attached,
    Reset {
        until: u64,
    },
    ResetEnding {
        until: u64,
    },
    Recovery {
        until: u64,
    },
    Enabled,
    Suspended,
    Resume {
        until: u64,
    },
    ResumeEnding {
        until: u64,
    },
    ResumeRecovery {
        until: u64,
    },
    /// The companion's: by policy for ever, or until its device leaves.
    Companion,
    /// Connected, but of no use until unplugged or reset again.
    Dead,
}

/// One port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    state: State,
    /// Left to the companion whatever is connected.
    excluded: bool,
}

impl Port {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Empty,
            excluded: false,
        }
    }

    /// Brings the port under control after the controller was started: power, stale change bits, routing by policy.
    pub(crate) fn start<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        excluded: bool,
        now: u64,
    ) {
        self.excluded = excluded;
        self.state = State::Empty;
        let status = registers.port(port);
        let mut value = status.clearing(PortSc::CHANGES);
        value.set_power(true);
        if excluded && registers.structure().companions() != 0 {
            value.set_owner(true);
            self.state = State::Companion;
        } else if status.connected() || !status.power() {
            self.state = State::Debounce {
                until: now + DEBOUNCE_US,
            };
        }
        registers.set_port(port, value);
    }

    /// Whether a high-speed device may be spoken to.
    pub(crate) fn is_enabled(&self) -> bool {
        self.state == State::Enabled
    }

    /// Forgets the device, since the controller has stopped; whether there was one that somebody knows of.
    pub(crate) fn lose(&mut self) -> bool {
        let known = !matches!(
            self.state,
            State::Empty | State::Debounce { .. } | State::Companion
        );
        self.state = State::Empty;
        known
    }

    /// When the port wants to be stepped again although nothing changes.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Debounce { until }
            | State::Reset { until }
            | State::ResetEnding { until }
            | State::Recovery { until }
            | State::Resume { until }
            | State::ResumeEnding { until }
            | State::ResumeRecovery { until } => Some(until),
            _ => None,
        }
    }

    /// Begins a reset; false if there is no device that it could reach.
    pub(crate) fn reset<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        now: u64,
    ) -> bool {
        let status = registers.port(port);
        if !status.connected()
            || matches!(
                self.state,
                State::Empty | State::Debounce { .. } | State::Companion
            )
        {
            return false;
        }
        // Reset and enable must not be written as one together (section 2.3.9). A low-speed device is not worth the
        // reset, but its speed is only told after one has been asked for.
        let mut value = status.preserving();
        value.set_enabled(false);
        value.set_suspended(false);
        value.set_reset(true);
        registers.set_port(port, value);
        self.state = State::Reset {
            until: now + RESET_US,
        };
        true
    }

    /// Whether the port is enabled, or will be when its signalling is over.
    fn is_in_use(&self) -> bool {
        matches!(
            self.state,
            State::Recovery { .. }
                | State::Enabled
                | State::Suspended
                | State::Resume { .. }
                | State::ResumeEnding { .. }
                | State::ResumeRecovery { .. }
        )
    }

    /// Disables the port, so that its device hears nothing. Does nothing while it is being reset.
    pub(crate) fn disable<R: Registers>(&mut self, registers: &Operational<R>, port: u8) {
        if self.is_in_use() {
            let mut value = registers.port(port).preserving();
            value.set_enabled(false);
            registers.set_port(port, value);
            self.state = State::Dead;
        }
    }

    /// Suspends an enabled port; false if it is not enabled.
    pub(crate) fn suspend<R: Registers>(&mut self, registers: &Operational<R>, port: u8) -> bool {
        if self.state != State::Enabled {
            return false;
        }
        let mut value = registers.port(port).preserving();
        value.set_suspended(true);
        value.set_wake_connect(true);
        value.set_wake_disconnect(true);
        value.set_wake_over_current(true);
        registers.set_port(port, value);
        self.state = State::Suspended;
        true
    }

    /// Begins to resume a suspended port; false if it is not suspended.
    pub(crate) fn resume<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        now: u64,
    ) -> bool {
        if self.state != State::Suspended {
            return false;
        }
        let mut value = registers.port(port).preserving();
        value.set_force_resume(true);
        registers.set_port(port, value);
        self.state = State::Resume {
            until: now + RESUME_US,
        };
        true
    }

    /// Looks at the port once and moves on.
    pub(crate) fn step<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        now: u64,
    ) -> Option<PortChange> {
        let status = registers.port(port);
        let changes = status.0 & PortSc::CHANGES;
        if changes != 0 {
            // Cleared before the state is acted on: what happens from now on sets them again.
            registers.set_port(port, status.clearing(changes));
        }
        if self.state == State::Companion {
            if status.owner() {
                return None;
            }
            // The companion's device has left, and with it the port came back (section 4.2.2).
            self.state = State::Empty;
            if self.excluded {
                self.hand_over(registers, port, status, Speed::Full);
                return None;
            }
        }
        if status.over_current_change() {
            return self.over_current(registers, port, status, now);
        }
        if status.connect_change() || !status.connected() {
            return self.connection(status, now);
        }
        if status.enable_change() && !status.enabled() && self.is_in_use() {
            self.state = State::Dead;
            return Some(PortChange::Disabled);
        }
        self.progress(registers, port, status, now)
    }

    fn over_current<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        status: PortSc,
        now: u64,
    ) -> Option<PortChange> {
        if status.over_current() {
            self.state = State::Empty;
            return Some(PortChange::OverCurrent);
        }
        // The controller switched power off with the over-current (section 2.3.9, port power), and the device with it, even if
        // nobody has seen the over-current itself.
        let mut value = status.preserving();
        value.set_power(true);
        registers.set_port(port, value);
        let known = self.lose();
        self.state = State::Debounce {
            until: now + DEBOUNCE_US,
        };
        known.then_some(PortChange::Detached)
    }

    fn connection(&mut self, status: PortSc, now: u64) -> Option<PortChange> {
        let known = !matches!(self.state, State::Empty | State::Debounce { .. });
        self.state = match self.state {
            _ if status.connected() => State::Debounce {
                until: now + DEBOUNCE_US,
            },
            // Power may still be rising.
            State::Debounce { until } if !status.connect_change() && now < until => {
                State::Debounce { until }
            }
            _ => State::Empty,
        };
        known.then_some(PortChange::Detached)
    }

    fn progress<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        status: PortSc,
        now: u64,
    ) -> Option<PortChange> {
        match self.state {
            // A device without a connect change: the change was cleared before the driver took over.
            State::Empty => {
                self.state = State::Debounce {
                    until: now + DEBOUNCE_US,
                };
                None
            }
            State::Debounce { until } if now >= until => {
                if status.low_speed() {
                    return Some(self.hand_over(registers, port, status, Speed::Low));
                }
                self.state = State::Attached;
                Some(PortChange::Attached)
            }
            State::Reset { until } if now >= until => {
                let mut value = status.preserving();
                value.set_reset(false);
                registers.set_port(port, value);
                self.state = State::ResetEnding {
                    until: now + RESET_END_US,
                };
                None
            }
            State::ResetEnding { until } => {
                if status.reset() {
                    if now < until {
                        return None;
                    }
                    self.state = State::Dead;
                    return Some(PortChange::ResetFailed);
                }
                if !status.enabled() {
                    return Some(self.hand_over(registers, port, status, Speed::Full));
                }
                self.state = State::Recovery {
                    until: now + RECOVERY_US,
                };
                None
            }
            State::Recovery { until } if now >= until => {
                self.state = State::Enabled;
                Some(PortChange::Enabled)
            }
            // The device woke: resume signalling is already on the line (section 4.3.1).
            State::Suspended if status.force_resume() => {
                self.state = State::Resume {
                    until: now + RESUME_US,
                };
                None
            }
            State::Resume { until } if now >= until => {
                let mut value = status.preserving();
                value.set_force_resume(false);
                registers.set_port(port, value);
                self.state = State::ResumeEnding {
                    until: now + RESUME_END_US,
                };
                None
            }
            State::ResumeEnding { until } => {
                if !status.force_resume() {
                    self.state = State::ResumeRecovery {
                        until: now + RESUME_RECOVERY_US,
                    };
                } else if now >= until {
                    self.state = State::Dead;
                    return Some(PortChange::ResumeFailed);
                }
                None
            }
            State::ResumeRecovery { until } if now >= until => {
                self.state = State::Enabled;
                Some(PortChange::Resumed)
            }
            _ => None,
        }
    }

    fn hand_over<R: Registers>(
        &mut self,
        registers: &Operational<R>,
        port: u8,
        status: PortSc,
        speed: Speed,
    ) -> PortChange {
        if registers.structure().companions() == 0 {
            self.state = State::Dead;
            return PortChange::Unsupported(speed);
        }
        let mut value = status.preserving();
        value.set_owner(true);
        registers.set_port(port, value);
        self.state = State::Companion;
        PortChange::HandedOver(speed)
    }
}
