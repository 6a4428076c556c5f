//! Chains of qTDs behind one queue head (section 4.10 of the EHCI specification).
//!
//! A queue always ends at a *tail*: a qTD that is not active, at which the controller waits. New work is written behind
//! the tail first, then into the tail itself, whose token is stored last; the queue head's overlay is never written while
//! the controller may look at it. After a short packet the controller follows the alternate pointer: to the last of several
//! stages, past the rest of a single one.

use crate::QTDS;
use crate::layout::{Descriptors, Link, Pid, Qh, Qtd, Token, qh, qtd, qtd_capacity};
use crate::memory::Coherent;

/// All of a controller's descriptors. Whatever memory they lie in: what runs for every transfer is compiled once, with this
/// crate, and not with each program that uses it.
type Memory<'a> = Descriptors<dyn Coherent + 'a>;

/// One stage of a transfer: contiguous bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Packet identifier.
    pub pid: Pid,
    /// Bus address of the bytes.
    pub bus: u32,
    /// Number of bytes; zero is one empty packet.
    pub bytes: u32,
    /// Toggle of the first packet, where the queue head takes toggles from qTDs.
    pub toggle: bool,
}

/// The qTDs of one transfer, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    first: Qtd,
    last: Qtd,
    /// The last but one, if there are several stages: the last stage is a single qTD, which a short packet does not skip.
    before: Option<Qtd>,
    count: u8,
    /// Data moves to the host.
    data_in: bool,
    /// Bytes of all data stages.
    bytes: u32,
    /// Bytes of the last of several stages.
    trailer: u16,
}

impl Chain {
    /// Returns the first qTD.
    pub fn first(self) -> Qtd {
        self.first
    }

    /// Returns the number of qTDs.
    pub fn count(self) -> u32 {
        self.count.into()
    }

    /// Returns the bytes of all data stages, without those of the last of several stages.
    pub fn bytes(self) -> u32 {
        self.bytes
    }

    /// Whether data moves to the host.
    pub fn is_in(&self) -> bool {
        self.data_in
    }
}

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The controller has not finished.
    Running,
    /// Every stage has ended; a short packet may have ended the data early.
    Done {
        /// Bytes of data stages that were moved.
        bytes: u32,
        /// Bytes of the last of several stages that were moved.
        trailer: u16,
    },
    /// The queue halted.
    Failed {
        /// Bytes of data stages that were moved before.
        bytes: u32,
        /// The qTD that failed.
        at: Qtd,
        /// Its token.
        token: Token,
    },
}

/// The qTDs that no queue uses, and the links of those in use.
#[derive(Debug)]
pub struct Pool {
    entries: [Entry; QTDS],
    free: Qtd,
    available: usize,
}

/// What is known of a qTD besides what the controller sees.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The one behind it, within a chain; or within the free list.
    next: Qtd,
    /// Bytes that it was asked to move.
    bytes: u16,
}

/// No qTD.
const NONE: Qtd = Qtd(u8::MAX);
const _: () = assert!(QTDS <= NONE.0 as usize, "one number is left for none");

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Pool {
    /// Returns a pool with all qTDs free.
    pub const fn new() -> Self {
        let mut entries = [Entry {
            next: NONE,
            bytes: 0,
        }; QTDS];
        let mut index = 0;
        while index + 1 < QTDS {
            entries[index].next = Qtd(index as u8 + 1);
            index += 1;
        }
        Self {
            entries,
            free: Qtd(0),
            available: QTDS,
        }
    }

    /// Returns how many qTDs are free.
    pub fn available(&self) -> usize {
        self.available
    }

    /// Takes a qTD as the tail of a new queue.
    pub fn tail(&mut self, memory: &Memory<'_>) -> Option<Qtd> {
        let tail = self.pop()?;
        self.available -= 1;
        memory.init_dummy(tail);
        Some(tail)
    }

    /// Gives back a tail whose queue is gone.
    pub fn release_tail(&mut self, tail: Qtd) {
        self.give(tail);
        self.available += 1;
    }

    /// Appends a transfer to the queue that ends at `tail`, and moves the tail behind it.
    ///
    /// The first qTD becomes active with the last store: the controller sees all of the transfer or nothing. The last one
    /// asks for an interrupt if that is wanted. A short packet leads to the last of several stages, which is a single qTD; else
    /// to `stop`, or past the transfer. Returns nothing, having changed nothing, when too few qTDs are free or there is no stage.
    pub fn append(
        &mut self,
        memory: &Memory<'_>,
        tail: &mut Qtd,
        stages: &[Stage],
        max_packet: u32,
        stop: Option<Qtd>,
        interrupt: bool,
    ) -> Option<Chain> {
        // Four pages, which every qTD but the last moves at least, hold a packet of this size.
        let max_packet = max_packet.clamp(1, 1024);
        let (last_stage, before_last) = stages.split_last()?;
        let control = before_last
            .first()
            .is_some_and(|stage| stage.pid == Pid::Setup);
        let (first, end) = (*tail, self.free);
        let mut ahead = self.entries.get(usize::from(end.0))?.next;
        let mut closing = first;
        let mut alternate = Link::transfer(memory.qtd_bus(stop.unwrap_or(end)));
        if !before_last.is_empty() {
            let one =
                qtd_capacity(last_stage.bus, last_stage.bytes, max_packet) == last_stage.bytes;
            closing = ahead;
            ahead = self
                .entries
                .get(usize::from(closing.0))
                .filter(|_| one)?
                .next;
            alternate = Link::transfer(memory.qtd_bus(closing));
        }
        let mut chain = Chain {
            first,
            last: first,
            before: None,
            count: 0,
            data_in: false,
            bytes: 0,
            trailer: 0,
        };
        let (mut at, mut first_token) = (first, Token(0));
        for (index, stage) in stages.iter().enumerate() {
            let Stage {
                pid,
                mut bus,
                bytes: mut left,
                mut toggle,
            } = *stage;
            let is_last = index == before_last.len();
            // A short packet in the last of several stages leads where all of it does.
            let is_closing = is_last && index != 0;
            let alternate = if is_closing { Link::NONE } else { alternate };
            if pid != Pid::Setup {
                chain.data_in |= pid == Pid::In && left != 0;
                if is_closing {
                    chain.trailer = left as u16;
                } else {
                    chain.bytes += left;
                }
            }
            loop {
                let bytes = qtd_capacity(bus, left, max_packet);
                left -= bytes;
                let mut token = Token::new(pid, bytes, toggle);
                let behind = if left == 0 && is_last {
                    token.set_interrupt(interrupt);
                    end
                } else if left == 0 && index + 1 == before_last.len() {
                    chain.before = Some(at);
                    closing
                } else if let Some(entry) = self.entries.get(usize::from(ahead.0)) {
                    core::mem::replace(&mut ahead, entry.next)
                } else {
                    self.disarm(memory, chain);
                    return None;
                };
                if chain.count == 0 {
                    // The controller may be waiting at it.
                    first_token = core::mem::take(&mut token);
                }
                let next = Link::transfer(memory.qtd_bus(behind));
                memory.write_qtd(at, next, alternate, token, bus, bytes);
                self.set(at, behind, bytes as u16);
                chain.count += 1;
                chain.last = at;
                at = behind;
                if left == 0 {
                    break;
                }
                bus = bus.wrapping_add(bytes);
                if control {
                    // Its queue head takes the toggle from each qTD: it alternates per packet.
                    toggle ^= bytes.div_ceil(max_packet) % 2 == 1;
                }
            }
        }
        self.free = ahead;
        self.available -= usize::from(chain.count);
        memory.init_dummy(end);
        memory.barrier();
        memory.store_qtd(first, qtd::TOKEN, first_token.0);
        memory.barrier();
        *tail = end;
        Some(chain)
    }

    /// Looks how far the controller has come with the oldest transfer of a queue.
    ///
    /// A qTD's token is final once it is inactive, since the controller writes it back when it retires the qTD
    /// (section 4.10.4).
    pub fn progress(&self, memory: &Memory<'_>, chain: Chain) -> Progress {
        let end = memory.token(chain.last);
        if !end.active() && !end.halted() {
            let left = end.bytes().min(self.bytes(chain.last));
            // It has ended well, and so have all before it; a short packet leads past some that stay active.
            match chain.before.map(|before| memory.token(before)) {
                None => {
                    let bytes = chain.bytes.saturating_sub(left);
                    return Progress::Done { bytes, trailer: 0 };
                }
                Some(before) if !before.active() && before.bytes() == 0 => {
                    let trailer = chain.trailer.saturating_sub(left as u16);
                    let bytes = chain.bytes;
                    return Progress::Done { bytes, trailer };
                }
                Some(_) => {}
            }
        }
        self.progress_by_qtd(memory, chain)
    }

    /// As [`Pool::progress`], of a transfer that has not ended, or not well, or early.
    #[inline(never)]
    fn progress_by_qtd(&self, memory: &Memory<'_>, chain: Chain) -> Progress {
        let (mut at, mut moved, mut trailer) = (chain.first, 0, 0);
        let mut skipping = false;
        for index in 0..chain.count {
            let is_last = index + 1 == chain.count;
            // After a short packet only the last of several stages is executed.
            if skipping && !is_last {
                at = self.behind(at);
                continue;
            }
            let token = memory.token(at);
            if token.active() {
                return Progress::Running;
            }
            let asked = self.bytes(at);
            // A device cannot make the controller count upwards; a remainder larger than the request would be nonsense.
            let done = asked.saturating_sub(token.bytes());
            if is_last && chain.before.is_some() {
                trailer = done as u16;
            } else if token.pid() != Pid::Setup as u32 {
                moved += done;
            }
            if token.halted() {
                return Progress::Failed {
                    bytes: moved,
                    at,
                    token,
                };
            }
            if done < asked && token.pid() == Pid::In as u32 {
                if chain.before.is_none() {
                    return Progress::Done {
                        bytes: moved,
                        trailer: 0,
                    };
                }
                skipping = true;
            }
            at = self.behind(at);
        }
        Progress::Done {
            bytes: moved,
            trailer,
        }
    }

    /// Returns the bytes that were moved for a transfer which did not finish, while its queue head is unscheduled or halted.
    ///
    /// Counts the qTDs that were retired; of the one that was being executed nothing is certain.
    pub fn moved(&self, memory: &Memory<'_>, chain: Chain) -> u32 {
        let mut moved = 0;
        let mut reached = true;
        self.each(chain, |at| {
            let token = memory.token(at);
            reached &= !token.active();
            if reached && token.pid() != Pid::Setup as u32 {
                moved += self.bytes(at).saturating_sub(token.bytes());
            }
        });
        moved.min(chain.bytes)
    }

    /// Frees the qTDs of a chain. Unless all of them were `executed`, makes them inert, so that a controller that still has a
    /// link to it stops there.
    ///
    /// The controller must not be executing the chain: its queue head has halted, moved on, or is out of the schedule.
    pub fn release(&mut self, memory: &Memory<'_>, chain: Chain, executed: bool) {
        if !executed {
            self.disarm(memory, chain);
        }
        // The chain goes to the free list as it is: its last qTD leads to what was free before.
        if let Some(last) = self.entries.get_mut(usize::from(chain.last.0)) {
            last.next = core::mem::replace(&mut self.free, chain.first);
        }
        self.available += usize::from(chain.count);
    }

    /// Lets a halted or unscheduled queue head continue at a chain's first qTD or at the tail, keeping its toggle.
    ///
    /// The token, which ends the halt, is stored last.
    pub fn restart(&self, memory: &Memory<'_>, queue_head: Qh, at: Qtd) {
        let mut token = Token(0);
        token.set_toggle(memory.overlay_token(queue_head).toggle());
        token.set_ping(memory.overlay_token(queue_head).ping());
        memory.store_qh(queue_head, qh::NEXT, Link::transfer(memory.qtd_bus(at)).0);
        memory.store_qh(queue_head, qh::ALTERNATE, Link::NONE.0);
        memory.barrier();
        memory.store_qh(queue_head, qh::TOKEN, token.0);
        memory.barrier();
    }

    /// Lets a halted queue head try the failed transaction again, with three errors allowed (section 4.10.3).
    pub fn retry(&self, memory: &Memory<'_>, queue_head: Qh, at: Qtd) {
        let mut token = memory.overlay_token(queue_head);
        token.set_halted(false);
        token.set_transaction_error(false);
        token.set_missed_microframe(false);
        token.set_split(false);
        token.set_errors(3);
        token.set_active(true);
        // Both copies agree, so that a look at the qTD says that it runs again.
        memory.store_qtd(at, qtd::TOKEN, token.0);
        memory.barrier();
        memory.store_qh(queue_head, qh::TOKEN, token.0);
        memory.barrier();
    }

    /// Makes the qTDs of a chain inert.
    fn disarm(&self, memory: &Memory<'_>, chain: Chain) {
        self.each(chain, |at| memory.store_qtd(at, qtd::TOKEN, 0));
        memory.barrier();
    }

    fn each(&self, chain: Chain, mut visit: impl FnMut(Qtd)) {
        let mut at = chain.first;
        for _ in 0..chain.count {
            visit(at);
            at = self.behind(at);
        }
    }

    fn behind(&self, at: Qtd) -> Qtd {
        let entry = self.entries.get(usize::from(at.0));
        entry.map_or(NONE, |entry| entry.next)
    }

    fn bytes(&self, at: Qtd) -> u32 {
        let entry = self.entries.get(usize::from(at.0));
        entry.map_or(0, |entry| entry.bytes.into())
    }

    fn set(&mut self, at: Qtd, next: Qtd, bytes: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(at.0)) {
            *entry = Entry { next, bytes };
        }
    }

    /// Takes a free one, uncounted.
    fn pop(&mut self) -> Option<Qtd> {
        let free = self.free;
        self.free = self.entries.get(usize::from(free.0))?.next;
        Some(free)
    }

    /// Puts one back, uncounted.
    fn give(&mut self, qtd: Qtd) {
        let free = core::mem::replace(&mut self.free, qtd);
        self.set(qtd, free, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_for_which_too_few_qtds_are_free_changes_nothing() {
        let memory = crate::testing::descriptors();
        let mut pool = Pool::new();
        let mut tail = pool.tail(&memory).unwrap();
        let before = (tail, pool.available());
        let stage = |bytes| Stage {
            pid: Pid::In,
            bus: 0x1000,
            bytes,
            toggle: false,
        };
        let too_many = (QTDS as u32) * 20480;
        assert!(
            pool.append(&memory, &mut tail, &[stage(too_many)], 512, None, true)
                .is_none()
        );
        assert_eq!((tail, pool.available()), before);
        assert!(!memory.token(tail).active());
        let chain = pool.append(
            &memory,
            &mut tail,
            &[stage(too_many - 20480)],
            512,
            None,
            true,
        );
        assert_eq!(pool.available(), 0);
        pool.release(&memory, chain.unwrap(), false);
        assert_eq!(pool.available(), QTDS - 1);
        // All of them can be had again, each once.
        let all: Vec<Qtd> = std::iter::from_fn(|| pool.tail(&memory)).collect();
        let mut numbers: Vec<u8> = all.iter().map(|qtd| qtd.0).chain([tail.0]).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..QTDS as u8).collect::<Vec<_>>());
    }

    #[test]
    fn a_short_packet_leads_past_its_transfer_or_to_a_status_stage() {
        let memory = crate::testing::descriptors();
        let mut pool = Pool::new();
        let mut tail = pool.tail(&memory).unwrap();
        let stage = |pid, bytes| Stage {
            pid,
            bus: 0x1000,
            bytes,
            toggle: false,
        };
        let alternates = |pool: &Pool, chain| {
            let mut found = vec![];
            pool.each(chain, |qtd| {
                found.push(memory.load_qtd(qtd, qtd::ALTERNATE))
            });
            found
        };

        let stages = [
            stage(Pid::Setup, 8),
            stage(Pid::In, 30_000),
            stage(Pid::Out, 0),
        ];
        let chain = pool.append(&memory, &mut tail, &stages, 64, None, true);
        let chain = chain.unwrap();
        let status = memory.qtd_bus(chain.last);
        assert_eq!(alternates(&pool, chain), [status, status, status, 1]);

        let stop = pool.tail(&memory).unwrap();
        for bytes in [13, 30_000] {
            let stages = [stage(Pid::In, bytes)];
            let qtds = bytes.div_ceil(20_480) as usize;
            let chain = pool.append(&memory, &mut tail, &stages, 512, None, true);
            let past = memory.qtd_bus(tail);
            assert_eq!(alternates(&pool, chain.unwrap()), vec![past; qtds]);
            let chain = pool.append(&memory, &mut tail, &stages, 512, Some(stop), true);
            let stop = memory.qtd_bus(stop);
            assert_eq!(alternates(&pool, chain.unwrap()), vec![stop; qtds]);
        }
    }
}
