//! A port of the root hub: connect, reset with speed detection, suspend, owner (EHCI, 2.3.9, 4.2, 4.3).

use crate::device::{Device, Speed};

/// Bits of PORTSC.
pub(super) mod bits {
    pub const CONNECTED: u32 = 1 << 0;
    pub const CONNECT_CHANGE: u32 = 1 << 1;
    pub const ENABLED: u32 = 1 << 2;
    pub const ENABLE_CHANGE: u32 = 1 << 3;
    pub const OVER_CURRENT: u32 = 1 << 4;
    pub const OVER_CURRENT_CHANGE: u32 = 1 << 5;
    pub const RESUME: u32 = 1 << 6;
    pub const SUSPENDED: u32 = 1 << 7;
    pub const RESET: u32 = 1 << 8;
    pub const POWER: u32 = 1 << 12;
    pub const OWNER: u32 = 1 << 13;
    pub const CHANGES: u32 = CONNECT_CHANGE | ENABLE_CHANGE | OVER_CURRENT_CHANGE;
    /// Indicators, test control, wake enables: kept as written.
    pub const KEPT: u32 = 0x007f_c000;
}
use bits::*;

/// TDRSTR: a root port drives a reset for 50 ms at least (USB 2.0, 7.1.7.5).
const RESET_TIME: u64 = 400;
/// The controller ends a reset within 2 ms (2.3.9).
const RESET_END: u64 = 4;
/// TRSTRCY: a device need not answer for 10 ms after a reset (USB 2.0, 7.1.7.5).
const RECOVERY: u64 = 80;
/// TDRSMDN: resume is driven for 20 ms at least (USB 2.0, 7.1.7.7).
const RESUMING: u64 = 160;

pub(super) struct Port {
    pub device: Option<Box<dyn Device>>,
    bits: u32,
    since: u64,
    /// When reset or resume, which software ended, is over.
    ends: Option<u64>,
    answers_from: u64,
    /// Changes that were there before this microframe.
    known: u32,
    pub reset_never_ends: bool,
}

impl Port {
    pub(super) fn new() -> Self {
        Self {
            device: None,
            // Before the driver's "configured" the companions have the ports (4.2).
            bits: POWER | OWNER,
            since: 0,
            ends: None,
            answers_from: 0,
            known: 0,
            reset_never_ends: false,
        }
    }

    pub(super) fn has(&self, bits: u32) -> bool {
        self.bits & bits != 0
    }

    fn speed(&self) -> Option<Speed> {
        self.device.as_ref().map(|device| device.speed())
    }

    pub(super) fn read(&self) -> u32 {
        let mut bits = self.bits;
        if let Some(speed) = self.speed()
            && !self.has(OWNER)
        {
            bits |= CONNECTED;
            // Line status: idle is J, which a low-speed device puts the other way round (table 2-16).
            if !self.has(ENABLED | RESET) {
                bits |= if speed == Speed::Low {
                    1 << 10
                } else {
                    2 << 10
                };
            }
        }
        bits
    }

    /// Returns the device that hears transactions now, if it is ready.
    pub(super) fn listener(&mut self, now: u64) -> Option<&mut Box<dyn Device>> {
        let deaf = !self.has(ENABLED) || self.has(SUSPENDED | RESUME) || now < self.answers_from;
        if deaf { None } else { self.device.as_mut() }
    }

    /// Writes PORTSC. Returns what is wrong with that.
    pub(super) fn write(&mut self, value: u32, now: u64, halted: bool) -> Option<&'static str> {
        let mut wrong = None;
        self.bits &= !(value & CHANGES);
        self.bits = self.bits & !KEPT | value & KEPT;
        if value & OWNER != self.bits & OWNER {
            self.set_owner(value & OWNER != 0);
        }
        if value & ENABLED == 0 {
            self.bits &= !(ENABLED | SUSPENDED | RESUME);
        }
        if value & RESET != 0 && !self.has(RESET) {
            if value & ENABLED != 0 {
                wrong = Some("port reset with port enable written as one (2.3.9)");
            } else if halted {
                wrong = Some("port reset while halted (2.3.9)");
            }
            self.bits = self.bits & !(ENABLED | SUSPENDED | RESUME) | RESET;
            self.since = now;
            self.ends = None;
        } else if value & RESET == 0 && self.has(RESET) && self.ends.is_none() {
            if now < self.since + RESET_TIME {
                wrong = Some("port reset of less than 50 ms (USB 2.0, 7.1.7.5)");
            }
            if !self.reset_never_ends {
                self.ends = Some(now + RESET_END);
            }
        }
        if value & SUSPENDED != 0 && self.has(ENABLED) && !self.has(RESUME) {
            self.bits |= SUSPENDED;
        }
        if value & RESUME != 0 && self.has(SUSPENDED) && !self.has(RESUME) {
            self.bits |= RESUME;
            self.since = now;
        } else if value & RESUME == 0 && self.has(RESUME) && self.ends.is_none() {
            if now < self.since + RESUMING {
                wrong = Some("resume of less than 20 ms (USB 2.0, 7.1.7.7)");
            }
            self.ends = Some(now + RESET_END);
        }
        wrong
    }

    /// 125 microseconds pass. Returns whether something changed (2.3.2, port change detect).
    pub(super) fn microframe(&mut self, now: u64) -> bool {
        if let Some(device) = &mut self.device {
            device.microframe();
        }
        if self.ends.is_some_and(|end| now >= end) {
            self.ends = None;
            if self.has(RESET) {
                self.bits &= !RESET;
                if let Some(device) = &mut self.device {
                    device.reset();
                    self.answers_from = now + RECOVERY;
                    // The chirp tells (4.2.2): what is not high speed stays disabled.
                    if device.speed() == Speed::High {
                        self.bits |= ENABLED;
                    }
                }
            } else {
                self.bits &= !(RESUME | SUSPENDED);
            }
        }
        let asleep = self.has(SUSPENDED) && !self.has(RESUME);
        let wakes = asleep && self.device.as_mut().is_some_and(|device| device.wakes());
        if wakes {
            self.bits |= RESUME;
            self.since = now;
        }
        let changes = self.bits & CHANGES;
        let new = changes & !self.known != 0;
        self.known = changes;
        wakes || new
    }

    /// Plugs a device in.
    pub(super) fn plug(&mut self, device: Box<dyn Device>) {
        self.device = Some(device);
        self.bits |= if self.has(OWNER) { 0 } else { CONNECT_CHANGE };
    }

    /// Pulls the device. An owner that was a companion loses the port (4.2.2).
    pub(super) fn unplug(&mut self, configured: bool) -> Option<Box<dyn Device>> {
        let device = self.device.take();
        if device.is_some() && (configured || !self.has(OWNER)) {
            let gone = ENABLED | SUSPENDED | RESUME | OWNER;
            self.bits = self.bits & !gone | CONNECT_CHANGE;
        }
        device
    }

    /// Gives the port to the companion, or takes it back: the device goes or comes, as this controller sees it.
    pub(super) fn set_owner(&mut self, companion: bool) {
        let gone = ENABLED | SUSPENDED | RESUME | RESET | OWNER;
        self.bits = self.bits & !gone | if companion { OWNER } else { 0 };
        self.ends = None;
        if self.device.is_some() {
            self.bits |= CONNECT_CHANGE;
        }
    }

    /// Too much current is drawn, or no more (2.3.9): the port is off meanwhile.
    pub(super) fn set_over_current(&mut self, over: bool) {
        self.bits = self.bits & !OVER_CURRENT | OVER_CURRENT_CHANGE;
        if over {
            self.bits = self.bits & !(ENABLED | SUSPENDED | RESUME) | OVER_CURRENT;
        }
    }

    /// An error at the end of a frame disables the port (USB 2.0, 11.8.1).
    pub(super) fn disable(&mut self) {
        self.bits = self.bits & !(ENABLED | SUSPENDED | RESUME) | ENABLE_CHANGE;
    }
}
