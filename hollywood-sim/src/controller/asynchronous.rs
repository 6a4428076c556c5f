//! The asynchronous schedule: a ring of queue heads, the reclamation that finds it empty, NAK counters, and the doorbell (EHCI, 4.8, 4.9).

use std::collections::{HashMap, VecDeque};

use super::Ehci;
use super::descriptor::{Qh, qh, status as token};
use super::memory::Stop;
use super::queue::Visit;
use super::registers::{command, status};
use crate::Structure;

/// Queue heads that the controller looks at without a transaction before it gives up for this microframe: there is no head in such a ring.
const PATIENCE: u32 = 256;
/// How many queue heads it fetches ahead.
const AHEAD: usize = 2;

#[derive(Default)]
pub(super) struct Asynchronous {
    /// Fetched ahead, in the order of the ring. They are executed as they were then.
    ahead: VecDeque<Held>,
    /// Counts fetches, to tell what is older than a doorbell.
    clock: u64,
    /// When the doorbell rang.
    rung: Option<u64>,
    /// When what led to the current queue head was fetched.
    led: u64,
    counters: NakCounters,
    /// What the controller knows of queue heads that it may hold.
    known: HashMap<u32, Known>,
    /// The ring's queue heads since its head was passed last.
    pass: Vec<u32>,
    /// Known ones that are not in the ring any more.
    unlinked: Vec<(u32, Known)>,
}

#[derive(Clone, Copy)]
struct Held {
    head: Qh,
    fetched: u64,
}

/// A queue head as it was when the controller touched it last.
#[derive(Clone, Copy)]
struct Known {
    words: [u32; 12],
    fetched: u64,
}

/// Whether NAK counters are reloaded now (4.9).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum NakCounters {
    #[default]
    WaitForHead,
    Reload,
    WaitForStart,
}

impl Asynchronous {
    /// The doorbell rings (4.8.2).
    pub(super) fn ring(&mut self) {
        self.rung.get_or_insert(self.clock);
    }

    /// The schedule was switched off: nothing is held.
    pub(super) fn stop(&mut self) {
        *self = Self {
            clock: self.clock,
            ..Self::default()
        };
    }
}

impl Ehci {
    /// Executes the schedule for what is left of the microframe.
    pub(super) fn run_asynchronous(&mut self) -> Result<(), Stop> {
        self.find_reused();
        // A start event (4.8.3, 4.9): from sleep, or after the periodic schedule.
        self.set_reclamation(true);
        self.asynchronous.counters = NakCounters::WaitForHead;
        let mut idle = 0;
        while idle < PATIENCE {
            let mut held = self.next_head()?;
            let mut head = held.head;
            self.asynchronous.led = held.fetched;
            if head.is_head() {
                self.complete_pass();
                if self.registers.status & status::RECLAMATION == 0 {
                    // Once around without work: empty until the next microframe (4.8.3).
                    self.fetch_ahead(held)?;
                    return self.check_doorbell();
                }
                self.set_reclamation(false);
                self.asynchronous.counters = match self.asynchronous.counters {
                    NakCounters::WaitForHead => NakCounters::Reload,
                    _ => NakCounters::WaitForStart,
                };
            }
            self.asynchronous.pass.push(head.address);
            if head.start_mask() != 0 {
                let what = "a mask of microframes in the asynchronous schedule (3.6.3)";
                self.master.undefined(head.descriptor(), what);
            }
            self.fetch_ahead(held)?;
            match self.visit_asynchronous(&mut head)? {
                Visit::NoTime => {
                    // It goes on with this one in the next microframe, as it is now or as it will be then.
                    self.registers.asynchronous = head.address;
                    if self.master.adversary.decide() {
                        held.head = head;
                        self.asynchronous.ahead.push_front(held);
                    } else {
                        self.asynchronous.ahead.clear();
                    }
                    return self.check_doorbell();
                }
                Visit::Worked => {
                    self.set_reclamation(true);
                    idle = 0;
                }
                Visit::Idle => idle += 1,
            }
            let next = self.master.follow(head.descriptor(), head.link())?;
            if next.kind != Structure::Qh || head.link().terminates() {
                let what = "a link to no queue head in the asynchronous schedule (4.8)";
                self.master.undefined(head.descriptor(), what);
                return Ok(());
            }
            self.registers.asynchronous = next.address;
            self.check_doorbell()?;
        }
        let address = self.registers.asynchronous;
        let kind = Structure::Qh;
        let what = "no head in the ring of the asynchronous schedule (4.8.3)";
        self.master
            .undefined(crate::Descriptor { kind, address }, what);
        Ok(())
    }

    fn visit_asynchronous(&mut self, head: &mut Qh) -> Result<Visit, Stop> {
        if self.asynchronous.counters == NakCounters::Reload && head.nak_reload() != 0 {
            head.set_nak_count(head.nak_reload());
        }
        // Enough was refused for now (4.9).
        let refused = head.nak_reload() != 0 && head.nak_count() == 0;
        if refused && head.token().has(token::ACTIVE) {
            return Ok(Visit::Idle);
        }
        self.execute(head)
    }

    /// The next queue head of the ring: one that was fetched before, or what memory holds now.
    fn next_head(&mut self) -> Result<Held, Stop> {
        match self.asynchronous.ahead.pop_front() {
            Some(held) => Ok(held),
            None => self.hold(self.registers.asynchronous, self.asynchronous.led),
        }
    }

    /// Fetches a queue head to which something led that was fetched at `led`.
    ///
    /// After the doorbell rang, what the controller finds by older links is as old: it may have been unlinked. From the head on, which always stays, all
    /// is new.
    fn hold(&mut self, address: u32, led: u64) -> Result<Held, Stop> {
        let head = self.master.fetch_qh(address)?;
        let queue = &mut self.asynchronous;
        queue.clock += 1;
        let fetched = match queue.rung {
            Some(rung) if led <= rung && !head.is_head() => rung,
            _ => queue.clock,
        };
        let words = head.words;
        queue.known.insert(address, Known { words, fetched });
        Ok(Held { head, fetched })
    }

    /// Fetches what follows in the ring before it is due, if that pleases the adversary.
    fn fetch_ahead(&mut self, current: Held) -> Result<(), Stop> {
        while self.asynchronous.ahead.len() < AHEAD && self.master.adversary.decide() {
            let last = *self.asynchronous.ahead.back().unwrap_or(&current);
            let next = self
                .master
                .follow(last.head.descriptor(), last.head.link())?;
            let twice = |held: &Held| held.head.address == next.address;
            if next.address == current.head.address || self.asynchronous.ahead.iter().any(twice) {
                break;
            }
            let held = self.hold(next.address, last.fetched)?;
            self.asynchronous.ahead.push_back(held);
        }
        Ok(())
    }

    /// Answers the doorbell once nothing is held that was fetched before it rang (4.8.2).
    fn check_doorbell(&mut self) -> Result<(), Stop> {
        let Some(rung) = self.asynchronous.rung else {
            return Ok(());
        };
        let old = |held: &Held| held.fetched <= rung;
        // Where it goes next, it may know from before, too.
        let leads = self.asynchronous.led <= rung;
        if leads || self.asynchronous.ahead.iter().any(old) || self.master.adversary.decide() {
            return Ok(());
        }
        self.master.flush()?;
        let queue = &mut self.asynchronous;
        queue.rung = None;
        queue.known.retain(|_, known| known.fetched > rung);
        queue.unlinked.retain(|(_, known)| known.fetched > rung);
        if self.registers.has(command::DOORBELL) {
            self.answer_doorbell();
        }
        Ok(())
    }

    fn set_reclamation(&mut self, value: bool) {
        let bit = status::RECLAMATION;
        self.registers.status = self.registers.status & !bit | if value { bit } else { 0 };
    }

    /// Once around the ring: what was not met was unlinked.
    fn complete_pass(&mut self) {
        let queue = &mut self.asynchronous;
        let pass = std::mem::take(&mut queue.pass);
        if queue.known.len() > pass.len() {
            let gone: Vec<u32> = queue.known.keys().copied().collect();
            for address in gone.into_iter().filter(|address| !pass.contains(address)) {
                let held = queue.ahead.iter().any(|held| held.head.address == address);
                if let (false, Some(known)) = (held, queue.known.remove(&address)) {
                    queue.unlinked.push((address, known));
                }
            }
        }
        queue.pass = pass;
        queue.pass.clear();
        let linked = |address: &u32| queue.known.contains_key(address);
        queue.unlinked.retain(|(address, _)| !linked(address));
    }

    /// Reports queue heads that were unlinked and changed before the doorbell was answered: a controller might still execute them.
    fn find_reused(&mut self) {
        let mut unlinked = std::mem::take(&mut self.asynchronous.unlinked);
        unlinked.retain(|(address, known)| {
            let now = self.master.peek::<12>(*address);
            // One that was halted is not executed: software may end the halt, and then unlink it (4.10.3).
            if known.words[qh::TOKEN] & token::HALTED != 0 {
                return true;
            }
            // Its link is software's, and nobody follows it any more.
            let same = now.is_some_and(|now| now[1..] == known.words[1..]);
            if !same {
                let (kind, address) = (Structure::Qh, *address);
                self.master.in_use(crate::Descriptor { kind, address });
            }
            same
        });
        self.asynchronous.unlinked = unlinked;
    }

    /// Reports a queue head that was changed between its fetch and its write-back.
    pub(super) fn check_unchanged(&mut self, head: &Qh) {
        let known = match self.asynchronous.known.get_mut(&head.address) {
            Some(known) => Some(&mut known.words),
            None => self.periodic.known.get_mut(&head.address),
        };
        let Some(known) = known else {
            return;
        };
        let expected = std::mem::replace(known, head.words);
        let Some(now) = self.master.peek::<12>(head.address) else {
            return;
        };
        // What is on its way to memory is not there yet.
        let checked = if self.master.is_late() {
            qh::CURRENT
        } else {
            now.len()
        };
        if now[1..checked] != expected[1..checked] {
            self.master.in_use(head.descriptor());
        }
    }
}
