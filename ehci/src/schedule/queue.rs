//! Chains of qTDs behind one queue head (section 4.10 of the EHCI specification).
//!
//! A queue always ends at a *tail*: a qTD that is not active, at which the controller waits. New work is written behind
//! the tail first, then into the tail itself, whose token is stored last; the queue head's overlay is never written while
//! the controller may look at it. After a short packet the controller follows the alternate pointer: to what closes the
//! transfer, or past it.

use crate::QTDS;
use crate::layout::{
    Descriptors, Link, Pid, Qh, Qtd, Token, all_pointers, pointers, qh, qtd, qtd_packets,
};
use crate::memory::Coherent;

/// All of a controller's descriptors. Whatever memory they lie in: what runs for every transfer is compiled once, with this
/// crate, and not with each program that uses it.
type Memory<'a> = Descriptors<dyn Coherent + 'a>;

/// What a transfer moves, in this order; one of the latter two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// Bus address of the setup packet of a control transfer.
    pub setup: Option<u32>,
    /// The data.
    pub data: Option<Stage>,
    /// What follows the data even if a short packet ends them early: the status of a control transfer, the trailer of another, an
    /// empty packet. At most [`MAX_CLOSING`] bytes.
    pub closing: Option<Stage>,
}

/// Contiguous bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Packet identifier.
    pub pid: Pid,
    /// Bus address of the bytes.
    pub bus: u32,
    /// Number of bytes; zero is one empty packet.
    pub bytes: u32,
}

/// Bytes of a closing stage: what one qTD moves wherever they begin.
pub const MAX_CLOSING: u32 = 16 << 10;

/// The qTDs of one transfer, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    first: Qtd,
    last: Qtd,
    /// The last but one, if the last is a closing stage, which a short packet does not skip; else [`NONE`].
    before: Qtd,
    count: u8,
    /// Data moves to the host.
    data_in: bool,
    /// Bytes of the data.
    bytes: u32,
    /// Bytes of the closing stage.
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

    /// Returns the bytes of the data, without those of a closing stage.
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
        /// Bytes of the data that were moved.
        bytes: u32,
        /// Bytes of the closing stage that were moved.
        trailer: u16,
    },
    /// The queue halted.
    Failed {
        /// Bytes of the data that were moved before.
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
    /// asks for an interrupt if that is wanted. A short packet leads to the closing stage; else to `stop`, or past the transfer.
    /// Returns nothing, having changed nothing, when too few qTDs are free or there is nothing to move.
    ///
    /// `max_packet` is at most 1024: four pages, which every qTD but the last moves at least, hold a packet. Generic over the
    /// memory, so that to write a qTD takes eight stores and no call.
    pub fn append<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        tail: &mut Qtd,
        stages: &Stages,
        max_packet: u32,
        stop: Option<Qtd>,
        interrupt: bool,
    ) -> Option<Chain> {
        let (first, end) = (*tail, self.free);
        // Where the data lead to when all of them were moved, and where a short packet leads.
        let (mut behind_data, mut alternate) = (end, stop.unwrap_or(end));
        let mut ahead = self.entries.get(usize::from(end.0))?.next;
        if stages.closing.is_some() {
            behind_data = ahead;
            alternate = ahead;
            ahead = self.entries.get(usize::from(ahead.0))?.next;
        }
        let mut writer = Writer {
            memory,
            entries: &mut self.entries,
            at: first,
            shown: 0,
            count: 0,
        };
        let alternate = Link::transfer(memory.qtd_bus(alternate));
        let mut chain = Chain {
            first,
            last: first,
            before: NONE,
            count: 0,
            data_in: false,
            bytes: 0,
            trailer: 0,
        };
        let mut first_token = Token(0);
        if let Some(bus) = stages.setup {
            let behind = match stages.data {
                None => behind_data,
                Some(_) => writer.take(&mut ahead)?,
            };
            chain.before = writer.at;
            first_token = Token::new(Pid::Setup, 8, false);
            writer.put(behind, alternate, first_token, pointers(bus, 8), 8);
        }
        if let Some(Stage {
            pid,
            mut bus,
            bytes,
        }) = stages.data
        {
            chain.data_in = pid == Pid::In && bytes != 0;
            chain.bytes = bytes;
            let mut left = bytes;
            let mut token = Token::new(pid, 0, stages.setup.is_some());
            if stages.setup.is_none() {
                first_token = token;
            }
            while let Some(bytes) = qtd_packets(bus, left, max_packet) {
                let Some(behind) = writer.take(&mut ahead) else {
                    chain.count = writer.count;
                    self.disarm(memory, chain);
                    return None;
                };
                token.set_bytes(bytes);
                writer.put(behind, alternate, token, all_pointers(bus), bytes);
                bus = bus.wrapping_add(bytes);
                left -= bytes;
                if stages.setup.is_some() {
                    // The queue head takes the toggle from each qTD: it alternates per packet.
                    token.set_toggle(token.toggle() ^ (bytes.div_ceil(max_packet) % 2 == 1));
                }
            }
            token.set_bytes(left);
            token.set_interrupt(interrupt && stages.closing.is_none());
            chain.before = writer.at;
            writer.put(behind_data, alternate, token, pointers(bus, left), left);
        }
        match stages.closing {
            // The last of the data is the last of all.
            None => {
                chain.last = core::mem::replace(&mut chain.before, NONE);
                if chain.last == NONE {
                    return None;
                }
            }
            Some(Stage { pid, bus, bytes }) => {
                chain.last = writer.at;
                chain.trailer = bytes as u16;
                let mut token = Token::new(pid, bytes, stages.setup.is_some());
                token.set_interrupt(interrupt);
                // A short packet leads where all of it does.
                writer.put(end, Link::NONE, token, pointers(bus, bytes), bytes);
            }
        }
        chain.count = writer.count;
        self.free = ahead;
        self.available -= usize::from(chain.count);
        memory.init_dummy(end);
        memory.barrier();
        first_token.set_bytes(self.bytes(first));
        first_token.set_interrupt(interrupt && chain.count == 1);
        memory.store_qtd(first, qtd::TOKEN, first_token.0);
        memory.barrier();
        *tail = end;
        Some(chain)
    }

    /// As [`Pool::append`], of bytes in one page that the controller sends and interrupts for: a single qTD.
    pub fn append_one<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        tail: &mut Qtd,
        bus: u32,
        bytes: u32,
    ) -> Option<Chain> {
        let (first, end) = (*tail, self.free);
        self.free = self.entries.get(usize::from(end.0))?.next;
        self.available -= 1;
        self.set(first, end, bytes as u16);
        memory.init_dummy(end);
        let next = Link::transfer(memory.qtd_bus(end));
        memory.write_qtd(first, next, next, Token(0), pointers(bus, bytes));
        let mut token = Token::new(Pid::Out, bytes, false);
        token.set_interrupt(true);
        memory.barrier();
        memory.store_qtd(first, qtd::TOKEN, token.0);
        memory.barrier();
        *tail = end;
        Some(Chain {
            first,
            last: first,
            before: NONE,
            count: 1,
            data_in: false,
            bytes,
            trailer: 0,
        })
    }

    /// Looks how far the controller has come with the oldest transfer of a queue.
    ///
    /// A qTD's token is final once it is inactive, since the controller writes it back when it retires the qTD
    /// (section 4.10.4).
    pub fn progress(&self, memory: &Memory<'_>, chain: &Chain) -> Progress {
        let end = memory.token(chain.last);
        if !end.active() && !end.halted() {
            let left = end.bytes().min(self.bytes(chain.last));
            // It has ended well, and so have all before it; a short packet leads past some that stay active.
            if chain.before == NONE {
                let bytes = chain.bytes.saturating_sub(left);
                return Progress::Done { bytes, trailer: 0 };
            }
            let before = memory.token(chain.before);
            if !before.active() && before.bytes() == 0 {
                let trailer = chain.trailer.saturating_sub(left as u16);
                let bytes = chain.bytes;
                return Progress::Done { bytes, trailer };
            }
        }
        self.progress_by_qtd(memory, chain)
    }

    /// As [`Pool::progress`], of a transfer that has not ended, or not well, or early.
    #[inline(never)]
    fn progress_by_qtd(&self, memory: &Memory<'_>, chain: &Chain) -> Progress {
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
            if is_last && chain.before != NONE {
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
                if chain.before == NONE {
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

/// Writes the qTDs of one transfer in order.
struct Writer<'a, M> {
    memory: &'a Descriptors<M>,
    entries: &'a mut [Entry; QTDS],
    /// The next that is written.
    at: Qtd,
    /// The bits of its token that are written: none of the first one's, as the controller may be waiting there.
    shown: u32,
    /// How many were written.
    count: u8,
}

impl<M: Coherent> Writer<'_, M> {
    /// Takes one of those that are free; nothing at their end.
    #[inline(always)]
    fn take(&self, ahead: &mut Qtd) -> Option<Qtd> {
        let entry = self.entries.get(usize::from(ahead.0))?;
        Some(core::mem::replace(ahead, entry.next))
    }

    /// Writes one that leads to `behind`.
    #[inline(always)]
    fn put(&mut self, behind: Qtd, alternate: Link, token: Token, pointers: [u32; 5], bytes: u32) {
        let (next, token) = (
            Link::transfer(self.memory.qtd_bus(behind)),
            Token(token.0 & self.shown),
        );
        self.memory
            .write_qtd(self.at, next, alternate, token, pointers);
        if let Some(entry) = self.entries.get_mut(usize::from(self.at.0)) {
            *entry = Entry {
                next: behind,
                bytes: bytes as u16,
            };
        }
        self.count += 1;
        self.shown = u32::MAX;
        self.at = behind;
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
        let stages = |bytes| Stages {
            setup: None,
            data: Some(Stage {
                pid: Pid::In,
                bus: 0x1000,
                bytes,
            }),
            closing: None,
        };
        let too_many = (QTDS as u32) * 20480;
        assert!(
            pool.append(&memory, &mut tail, &stages(too_many), 512, None, true)
                .is_none()
        );
        let nothing = Stages {
            data: None,
            ..stages(0)
        };
        assert!(
            pool.append(&memory, &mut tail, &nothing, 512, None, true)
                .is_none()
        );
        assert_eq!((tail, pool.available()), before);
        assert!(!memory.token(tail).active());
        let chain = pool.append(
            &memory,
            &mut tail,
            &stages(too_many - 20480),
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
        let stage = |pid, bytes| {
            Some(Stage {
                pid,
                bus: 0x1000,
                bytes,
            })
        };
        let alternates = |pool: &Pool, chain| {
            let mut found = vec![];
            pool.each(chain, |qtd| {
                found.push(memory.load_qtd(qtd, qtd::ALTERNATE))
            });
            found
        };

        let stages = Stages {
            setup: Some(0x2000),
            data: stage(Pid::In, 30_000),
            closing: stage(Pid::Out, 0),
        };
        let chain = pool.append(&memory, &mut tail, &stages, 64, None, true);
        let chain = chain.unwrap();
        let status = memory.qtd_bus(chain.last);
        assert_eq!(alternates(&pool, chain), [status, status, status, 1]);

        let stop = pool.tail(&memory).unwrap();
        for bytes in [13, 30_000] {
            let stages = Stages {
                setup: None,
                data: stage(Pid::In, bytes),
                closing: None,
            };
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
