//! Split transactions of queue heads: full- and low-speed endpoints behind a high-speed hub (EHCI, 4.12.1, 4.12.2).

use super::Ehci;
use super::bus::cost;
use super::descriptor::{Qh, status};
use super::memory::Stop;
use super::queue::{Outcome, Visit, bus_token};
use crate::device::{DataPid, Packet, Part, Pid, Response, Speed, Split};

const CONTROL: u8 = 0;
const BULK: u8 = 2;
const INTERRUPT: u8 = 3;

impl Ehci {
    /// One start-split or complete-split of an asynchronous endpoint (4.12.1).
    pub(super) fn execute_split(&mut self, head: &mut Qh, speed: Speed) -> Result<Visit, Stop> {
        let token = head.token();
        let Some(pid) = token.pid() else {
            return Ok(Visit::Idle);
        };
        let size = token.bytes().min(head.max_packet());
        if !self.has_time(cost(size)) {
            return Ok(Visit::NoTime);
        }
        let kind = if head.is_split_control() {
            CONTROL
        } else {
            BULK
        };
        let complete = token.has(status::SPLIT_COMPLETE);
        let split = split(head, speed, kind, complete);
        let outcome = if complete {
            let response = self.transact(Some(split), bus_token(head, pid), None);
            self.complete_split(head, pid, response, size)?
        } else {
            let data = self.split_data(head, pid, size)?;
            let response = self.transact(Some(split), bus_token(head, pid), data.as_ref());
            match response {
                Response::Ack => {
                    set_complete(head, true);
                    Outcome::Again
                }
                Response::Nak => Outcome::Nak,
                _ => Outcome::Error,
            }
        };
        self.settle(head, outcome)?;
        Ok(Visit::Worked)
    }

    fn split_data(&mut self, head: &Qh, pid: Pid, size: usize) -> Result<Option<Packet>, Stop> {
        if pid == Pid::In {
            return Ok(None);
        }
        let pid = DataPid::of(head.token().has(status::TOGGLE));
        let bytes = self.gather(head, size)?;
        Ok(Some(Packet { pid, bytes }))
    }

    /// Judges the answer to a complete-split (4.12.1.2).
    fn complete_split(
        &mut self,
        head: &mut Qh,
        pid: Pid,
        response: Response,
        size: usize,
    ) -> Result<Outcome, Stop> {
        let outcome = match (response, pid) {
            // Not done yet, or not heard: asked again.
            (Response::Nyet, _) => return Ok(Outcome::Again),
            (Response::Silence | Response::Garbled, _) => return Ok(Outcome::Error),
            (Response::Ack, Pid::Out | Pid::Setup) => Outcome::Moved(size),
            (Response::Nak, Pid::Out) => Outcome::Nak,
            (Response::Stall, _) => Outcome::Stall,
            (response @ (Response::Data(_) | Response::Nak), Pid::In) => {
                self.take_in(head, response, size)?
            }
            _ => Outcome::Error,
        };
        set_complete(head, false);
        Ok(outcome)
    }

    /// An interrupt endpoint in this microframe of the periodic schedule (4.12.2.4).
    pub(super) fn execute_split_interrupt(
        &mut self,
        head: &mut Qh,
        speed: Speed,
    ) -> Result<(), Stop> {
        let now = 1 << (self.registers.frame & 7);
        if head.token().has(status::HALTED) {
            return Ok(());
        }
        if head.token().has(status::ACTIVE) && head.token().has(status::SPLIT_COMPLETE) {
            return self.continue_interrupt(head, speed, now);
        }
        if head.start_mask() & now == 0 {
            return Ok(());
        }
        if !head.token().has(status::ACTIVE) && (head.inactivates() || !self.advance_queue(head)?) {
            return Ok(());
        }
        if head.inactivates() {
            // Software wants it to stop (4.12.2.5).
            let mut token = head.token();
            token.set(status::ACTIVE, false);
            head.set_token(token);
            return self.write_overlay(head);
        }
        self.start_interrupt(head, speed)
    }

    fn start_interrupt(&mut self, head: &mut Qh, speed: Speed) -> Result<(), Stop> {
        if head.complete_mask() == 0 {
            let what = "no microframe for the result of a split transaction (3.6.3)";
            self.master.undefined(head.descriptor(), what);
        }
        let Some(pid) = head.token().pid() else {
            return Ok(());
        };
        let size = head.token().bytes().min(head.max_packet());
        if !self.has_time(cost(size)) {
            self.statistics.missed += 1;
            return Ok(());
        }
        let data = self.split_data(head, pid, size)?;
        let split = split(head, speed, INTERRUPT, false);
        // There is no answer to the beginning of a periodic one (USB 2.0, 11.20).
        self.transact(Some(split), bus_token(head, pid), data.as_ref());
        set_complete(head, true);
        head.set_progress(0);
        head.set_split_bytes(0);
        head.set_frame_tag(self.registers.frame >> 3);
        self.write_overlay(head)
    }

    fn continue_interrupt(&mut self, head: &mut Qh, speed: Speed, now: u8) -> Result<(), Stop> {
        let order = complete_splits(head);
        let at = order.iter().position(|mask| *mask == now);
        let missed = self.missed_microframe(head, &order, at);
        let (Some(at), false) = (at, missed) else {
            if missed {
                let mut token = head.token();
                token.set(status::MISSED_MICROFRAME, true);
                head.set_token(token);
                set_complete(head, false);
                self.statistics.missed += 1;
                self.write_overlay(head)?;
            }
            return Ok(());
        };
        let Some(pid) = head.token().pid() else {
            return Ok(());
        };
        let size = head.token().bytes().min(head.max_packet());
        let room = size.saturating_sub(head.split_bytes());
        if !self.has_time(cost(room)) {
            self.statistics.missed += 1;
            return Ok(());
        }
        let split = split(head, speed, INTERRUPT, true);
        let response = self.transact(Some(split), bus_token(head, pid), None);
        head.set_progress(head.progress() | now);
        let last = at + 1 == order.len();
        let outcome = match (response, pid) {
            (Response::Nyet, _) if !last => Outcome::Again,
            (Response::Data(packet), Pid::In) if packet.bytes.len() > room => Outcome::Babble,
            // A part: the rest comes in the next microframe.
            (Response::Data(packet), Pid::In) if packet.pid == DataPid::MData => {
                self.scatter_at(head, head.split_bytes(), &packet.bytes)?;
                head.set_split_bytes(head.split_bytes() + packet.bytes.len());
                if last { Outcome::Error } else { Outcome::Again }
            }
            (Response::Data(packet), Pid::In) => {
                let expected = DataPid::of(head.token().has(status::TOGGLE));
                set_complete(head, false);
                if packet.pid == expected {
                    self.scatter_at(head, head.split_bytes(), &packet.bytes)?;
                    Outcome::Moved(head.split_bytes() + packet.bytes.len())
                } else {
                    Outcome::Again
                }
            }
            (Response::Ack, Pid::Out) => Outcome::Moved(size),
            (Response::Nak, _) => Outcome::Nak,
            (Response::Stall, _) => Outcome::Stall,
            // Not heard: the next complete-split asks again, unless this was the last (4.12.2.4.1).
            (Response::Silence | Response::Garbled, _) if !last => {
                self.settle(head, Outcome::Error)?;
                return Ok(());
            }
            _ => Outcome::Error,
        };
        if outcome != Outcome::Again {
            set_complete(head, false);
        }
        self.settle(head, outcome)
    }

    /// Whether a complete-split before this microframe was due and not executed (4.12.2.4.2).
    fn missed_microframe(&self, head: &Qh, order: &[u8], at: Option<usize>) -> bool {
        let frame = self.registers.frame >> 3 & 31;
        let age = frame.wrapping_sub(head.frame_tag()) & 31;
        let before = match at {
            Some(at) => &order[..at],
            None if age > 1 => order,
            None => return false,
        };
        age > 1 || before.iter().any(|mask| head.progress() & mask == 0)
    }
}

/// The complete-splits of a queue head in the order in which they come after the start-split.
fn complete_splits(head: &Qh) -> Vec<u8> {
    let start = head.start_mask().trailing_zeros();
    let order = (1..=8).map(|later| 1u8 << ((start + later) & 7));
    order
        .filter(|mask| head.complete_mask() & mask != 0)
        .collect()
}

fn set_complete(head: &mut Qh, complete: bool) {
    let mut token = head.token();
    token.set(status::SPLIT_COMPLETE, complete);
    head.set_token(token);
}

fn split(head: &Qh, speed: Speed, kind: u8, complete: bool) -> Split {
    Split {
        hub: head.hub(),
        port: head.hub_port(),
        complete,
        speed,
        kind,
        part: Part::All,
    }
}
