//! Chains of qTDs behind one queue head (section 4.10 of the EHCI specification).
//!
//! A queue always ends at a *tail*: a qTD that is not active, at which the controller waits. New work is written behind
//! the tail first, then into the tail itself, whose token is stored last; the queue head's overlay is never written while
//! the controller may look at it. After a short packet the controller follows the alternate pointer: to the status stage
//! of a control transfer, past the rest of any other.

use crate::QTDS;
use crate::layout::{Descriptors, Link, Pid, Qh, Qtd, Token, qh, qtd, qtd_capacity};
use crate::memory::Coherent;

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
    count: u8,
    /// The last qTD is the status stage of a control transfer, which a short packet does not skip.
    control: bool,
    /// Data moves to the host.
    data_in: bool,
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
    /// The qTD behind each, within a chain, up to the tail; or within the free list.
    next: [Option<Qtd>; QTDS],
    /// Bytes that each was asked to move.
    bytes: [u16; QTDS],
    free: Option<Qtd>,
    available: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Pool {
    /// Returns a pool with all qTDs free.
    pub const fn new() -> Self {
        let mut next = [None; QTDS];
        let mut index = 0;
        while index + 1 < QTDS {
            next[index] = Some(Qtd(index as u8 + 1));
            index += 1;
        }
        Self {
            next,
            bytes: [0; QTDS],
            free: Some(Qtd(0)),
            available: QTDS,
        }
    }

    /// Returns how many qTDs are free.
    pub fn available(&self) -> usize {
        self.available
    }

    /// Takes a qTD as the tail of a new queue.
    pub fn tail<M: Coherent>(&mut self, memory: &Descriptors<M>) -> Option<Qtd> {
        let tail = self.take()?;
        memory.init_dummy(tail);
        Some(tail)
    }

    /// Gives back a tail whose queue is gone.
    pub fn release_tail(&mut self, tail: Qtd) {
        self.give(tail);
    }

    /// Returns how many qTDs the stages take for packets of a size.
    pub fn needed(stages: &[Stage], max_packet: u32) -> usize {
        stages
            .iter()
            .map(|stage| pieces(*stage, max_packet).count())
            .sum()
    }

    /// Appends a transfer to the queue that ends at `tail`, and moves the tail behind it.
    ///
    /// The first qTD becomes active with the last store: the controller sees all of the transfer or nothing. The last one
    /// asks for an interrupt. A short packet leads to `stop`, or past the transfer. Returns nothing, having changed nothing,
    /// when too few qTDs are free or there is no stage.
    pub fn append<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        tail: &mut Qtd,
        stages: &[Stage],
        max_packet: u32,
        stop: Option<Qtd>,
    ) -> Option<Chain> {
        let count = Self::needed(stages, max_packet);
        if count == 0 || count > self.available || count > usize::from(u8::MAX) {
            return None;
        }
        let first = *tail;
        let (mut at, mut last, mut first_token) = (first, first, Token(0));
        let mut remaining = count;
        for stage in stages {
            let mut toggle = stage.toggle;
            for (bus, bytes) in pieces(*stage, max_packet) {
                // The count was checked above, so that there is always another.
                let behind = self.take()?;
                self.set(at, Some(behind), bytes as u16);
                let mut token = Token::new(stage.pid, bytes, toggle);
                token.set_interrupt(remaining == 1);
                memory.set_buffer(at, bus, bytes);
                memory.store_qtd(at, qtd::NEXT, Link::transfer(memory.qtd_bus(behind)).0);
                memory.store_qtd(at, qtd::ALTERNATE, Link::NONE.0);
                if at == first {
                    first_token = token;
                } else {
                    memory.store_qtd(at, qtd::TOKEN, token.0);
                }
                // A control endpoint's queue head takes the toggle from each qTD: it alternates per packet.
                toggle ^= bytes.div_ceil(max_packet.max(1)) % 2 == 1;
                last = at;
                at = behind;
                remaining = remaining.saturating_sub(1);
            }
        }
        memory.init_dummy(at);
        let control = stages.first().is_some_and(|stage| stage.pid == Pid::Setup);
        let data_in = stages
            .iter()
            .any(|stage| stage.pid == Pid::In && stage.bytes != 0);
        let chain = Chain {
            first,
            last,
            count: count as u8,
            control,
            data_in,
        };
        let skip_to = if control { last } else { stop.unwrap_or(at) };
        self.each(chain, |qtd| {
            if qtd != skip_to {
                memory.store_qtd(
                    qtd,
                    qtd::ALTERNATE,
                    Link::transfer(memory.qtd_bus(skip_to)).0,
                );
            }
        });
        memory.barrier();
        memory.store_qtd(first, qtd::TOKEN, first_token.0);
        memory.barrier();
        *tail = at;
        Some(chain)
    }

    /// Looks how far the controller has come with the oldest transfer of a queue.
    ///
    /// A qTD's token is final once it is inactive, since the controller writes it back when it retires the qTD
    /// (section 4.10.4).
    pub fn progress<M: Coherent>(&self, memory: &Descriptors<M>, chain: Chain) -> Progress {
        let (mut at, mut moved) = (chain.first, 0);
        let mut skipping = false;
        for index in 0..chain.count {
            // After a short data stage only the last qTD is executed: the status stage of a control transfer.
            if skipping && index + 1 < chain.count {
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
            let is_setup = token.pid() == Pid::Setup as u32;
            if !is_setup {
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
                if !chain.control {
                    return Progress::Done { bytes: moved };
                }
                skipping = true;
            }
            at = self.behind(at);
        }
        Progress::Done { bytes: moved }
    }

    /// Returns the bytes that were moved for a transfer which did not finish, while its queue head is unscheduled or halted.
    ///
    /// Counts the qTDs that were retired; of the one that was being executed nothing is certain.
    pub fn moved<M: Coherent>(&self, memory: &Descriptors<M>, chain: Chain) -> u32 {
        let mut moved = 0;
        let mut reached = true;
        self.each(chain, |at| {
            let token = memory.token(at);
            reached &= !token.active();
            if reached && token.pid() != Pid::Setup as u32 {
                moved += self.bytes(at).saturating_sub(token.bytes());
            }
        });
        moved
    }

    /// Makes a chain inert, so that a controller that still has a link to it stops there, and frees its qTDs.
    ///
    /// The controller must not be executing the chain: its queue head has halted, moved on, or is out of the schedule.
    pub fn release<M: Coherent>(&mut self, memory: &Descriptors<M>, chain: Chain) {
        let mut at = chain.first;
        for _ in 0..chain.count {
            let behind = self.behind(at);
            memory.store_qtd(at, qtd::TOKEN, 0);
            self.give(at);
            at = behind;
        }
        memory.barrier();
    }

    /// Lets a halted or unscheduled queue head continue at a chain's first qTD or at the tail, keeping its toggle.
    ///
    /// The token, which ends the halt, is stored last.
    pub fn restart<M: Coherent>(&self, memory: &Descriptors<M>, queue_head: Qh, at: Qtd) {
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
    pub fn retry<M: Coherent>(&self, memory: &Descriptors<M>, queue_head: Qh, at: Qtd) {
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

    fn each(&self, chain: Chain, mut visit: impl FnMut(Qtd)) {
        let mut at = chain.first;
        for _ in 0..chain.count {
            visit(at);
            at = self.behind(at);
        }
    }

    fn behind(&self, at: Qtd) -> Qtd {
        self.next
            .get(usize::from(at.0))
            .copied()
            .flatten()
            .unwrap_or(at)
    }

    fn bytes(&self, at: Qtd) -> u32 {
        self.bytes
            .get(usize::from(at.0))
            .copied()
            .map_or(0, u32::from)
    }

    fn set(&mut self, at: Qtd, next: Option<Qtd>, bytes: u16) {
        let index = usize::from(at.0);
        if let (Some(link), Some(size)) = (self.next.get_mut(index), self.bytes.get_mut(index)) {
            *link = next;
            *size = bytes;
        }
    }

    fn take(&mut self) -> Option<Qtd> {
        let taken = self.free?;
        self.free = self.next.get(usize::from(taken.0)).copied().flatten();
        self.available -= 1;
        self.set(taken, None, 0);
        Some(taken)
    }

    fn give(&mut self, qtd: Qtd) {
        let free = self.free;
        self.set(qtd, free, 0);
        self.free = Some(qtd);
        self.available += 1;
    }
}

/// Cuts a stage into what single qTDs move: bus address and bytes of each.
fn pieces(stage: Stage, max_packet: u32) -> impl Iterator<Item = (u32, u32)> {
    let mut done = 0;
    let mut first = true;
    core::iter::from_fn(move || {
        if !first && done >= stage.bytes {
            return None;
        }
        first = false;
        let bus = stage.bus.wrapping_add(done);
        let bytes = qtd_capacity(bus, stage.bytes - done, max_packet);
        if bytes == 0 && stage.bytes != 0 {
            return None;
        }
        done += bytes;
        Some((bus, bytes))
    })
}
