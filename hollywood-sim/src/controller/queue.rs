//! Queue heads: the overlay, its advance to the next qTD, and transactions with high-speed endpoints (EHCI, 4.10).

use super::Ehci;
use super::descriptor::{Link, Qh, qh, status};
use super::memory::Stop;
use crate::Buffer;
use crate::device::{DataPid, Packet, Pid, Response, Speed, Token as BusToken};

/// What came of a visit to a queue head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Visit {
    /// Nothing to do.
    Idle,
    /// A transaction went over the bus.
    Worked,
    /// This microframe has no time left for the transaction.
    NoTime,
}

/// How a transaction went, as the overlay's error counter sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Data moved, this many bytes; a short packet from a device ends the qTD.
    Moved(usize),
    /// Try again; nothing changes.
    Again,
    /// Not now: the NAK counter counts.
    Nak,
    /// No sensible answer: the error counter counts.
    Error,
    /// The endpoint is halted.
    Stall,
    /// More came than was asked for.
    Babble,
}

/// The biggest packet of a high-speed endpoint.
const MAX_PACKET: usize = 1024;
/// A qTD's buffer: five pages.
const PAGES: usize = 5;

impl Ehci {
    /// Makes the next qTD the current one if there is one that is active (4.10.2). Returns whether there is.
    pub(super) fn advance_queue(&mut self, head: &mut Qh) -> Result<bool, Stop> {
        let token = head.token();
        let alternate = Link(head.words[qh::ALTERNATE]);
        // Bytes left: a short packet ended the qTD before.
        let next = if token.bytes() != 0 && !alternate.terminates() {
            // In the overlay its low bits are the NAK counter.
            Link(alternate.0 & !0x1e)
        } else {
            Link(head.words[qh::NEXT])
        };
        if next.terminates() {
            return Ok(false);
        }
        let address = self.master.follow_qtd(head.qtd(), next)?;
        let fetched = self.master.fetch_qtd(address)?;
        if !fetched.token().has(status::ACTIVE) {
            return Ok(false);
        }
        let mut new = fetched.token();
        if new.has(status::HALTED) {
            self.master
                .undefined(head.descriptor(), "an active qTD that is halted (3.5.3)");
        }
        if !head.toggle_from_qtd() {
            new.set(status::TOGGLE, token.has(status::TOGGLE));
        }
        if head.speed() == Some(Speed::High) {
            new.set(status::PING, token.has(status::PING));
        }
        for link in [fetched.words[0], fetched.words[1]].map(Link) {
            if !link.terminates() {
                let from = crate::Descriptor {
                    kind: crate::Structure::Qtd,
                    address,
                };
                self.master.follow_qtd(from, link)?;
            }
        }
        head.words[qh::CURRENT] = address;
        head.words[qh::NEXT..].copy_from_slice(&fetched.words);
        head.set_token(new);
        head.set_nak_count(head.nak_reload());
        head.set_progress(0);
        head.words[qh::BUFFER + 2] &= !0xfff;
        let start = fetched.words[3];
        self.check_buffer(head);
        let astray = match new.bytes() {
            0 => 0,
            bytes => self.master.astray(head.qtd(), start, bytes as u32),
        };
        self.astray.insert(head.address, astray);
        self.write_overlay(head)?;
        Ok(true)
    }

    fn check_buffer(&self, head: &Qh) {
        let token = head.token();
        let offset = (head.words[qh::BUFFER] & 0xfff) as usize;
        if token.page() * 4096 + offset + token.bytes() > PAGES * 4096 {
            let what = "more bytes than five pages have room for (3.5.3)";
            self.master.undefined(head.qtd(), what);
        }
        if token.pid().is_none() {
            self.master
                .undefined(head.qtd(), "a reserved PID code (3.5.3)");
        }
    }

    /// Writes back what the controller may change of a queue head: the current qTD and the overlay (4.10.3).
    pub(super) fn write_overlay(&mut self, head: &Qh) -> Result<(), Stop> {
        self.check_unchanged(head);
        let words = &head.words[qh::CURRENT..];
        self.master.write(head.descriptor(), qh::CURRENT, words)
    }

    /// Executes one transaction of a queue head in either schedule, if it is active or can be (4.10.3).
    pub(super) fn execute(&mut self, head: &mut Qh) -> Result<Visit, Stop> {
        if head.token().has(status::HALTED) {
            return Ok(Visit::Idle);
        }
        if !head.token().has(status::ACTIVE) && !self.advance_queue(head)? {
            return Ok(Visit::Idle);
        }
        if head.max_packet() == 0 || head.max_packet() > MAX_PACKET {
            let what = "a largest packet of 0 or more than 1024 bytes (3.6.2)";
            self.master.undefined(head.descriptor(), what);
            return Ok(Visit::Idle);
        }
        match head.speed() {
            Some(Speed::High) => self.execute_high_speed(head),
            Some(speed) => self.execute_split(head, speed),
            None => {
                self.master
                    .undefined(head.descriptor(), "a reserved endpoint speed (3.6.2)");
                Ok(Visit::Idle)
            }
        }
    }

    fn execute_high_speed(&mut self, head: &mut Qh) -> Result<Visit, Stop> {
        let token = head.token();
        let Some(pid) = token.pid() else {
            return Ok(Visit::Idle);
        };
        let size = token.bytes().min(head.max_packet());
        if !self.has_time(super::bus::cost(size)) {
            return Ok(Visit::NoTime);
        }
        let outcome = if pid == Pid::Out && token.has(status::PING) {
            self.ping(head)
        } else if pid == Pid::In {
            let packet = self.transact(None, bus_token(head, pid), None);
            self.take_in(head, packet, size)?
        } else {
            self.send_out(head, pid, size)?
        };
        self.settle(head, outcome)?;
        Ok(Visit::Worked)
    }

    /// PING: whether there is room; nothing moves (4.11).
    fn ping(&mut self, head: &mut Qh) -> Outcome {
        let mut token = head.token();
        let outcome = match self.transact(None, bus_token(head, Pid::Ping), None) {
            Response::Ack => {
                token.set(status::PING, false);
                Outcome::Again
            }
            Response::Nak => Outcome::Nak,
            Response::Stall => Outcome::Stall,
            _ => Outcome::Error,
        };
        head.set_token(token);
        outcome
    }

    fn send_out(&mut self, head: &mut Qh, pid: Pid, size: usize) -> Result<Outcome, Stop> {
        let mut token = head.token();
        if self.data_buffer_error(head) {
            return Ok(Outcome::Error);
        }
        let packet = Packet {
            pid: DataPid::of(token.has(status::TOGGLE)),
            bytes: self.gather(head, size)?,
        };
        let response = self.transact(None, bus_token(head, pid), Some(&packet));
        let outcome = match (response, pid) {
            (Response::Ack, _) => Outcome::Moved(size),
            // Taken, but there is no room for more.
            (Response::Nyet, Pid::Out) => {
                token.set(status::PING, true);
                Outcome::Moved(size)
            }
            (Response::Nak, Pid::Out) => {
                token.set(status::PING, true);
                Outcome::Nak
            }
            (Response::Stall, Pid::Out) => Outcome::Stall,
            _ => {
                token.set(status::PING, pid == Pid::Out);
                Outcome::Error
            }
        };
        head.set_token(token);
        Ok(outcome)
    }

    /// Judges what came back after an IN token, and stores it.
    pub(super) fn take_in(
        &mut self,
        head: &mut Qh,
        response: Response,
        size: usize,
    ) -> Result<Outcome, Stop> {
        let packet = match response {
            Response::Data(packet) => packet,
            Response::Nak => return Ok(Outcome::Nak),
            Response::Stall => return Ok(Outcome::Stall),
            _ => return Ok(Outcome::Error),
        };
        if packet.bytes.len() > size {
            return Ok(Outcome::Babble);
        }
        if self.data_buffer_error(head) {
            return Ok(Outcome::Error);
        }
        let expected = DataPid::of(head.token().has(status::TOGGLE));
        if packet.pid == expected {
            self.scatter(head, &packet.bytes)?;
        }
        // Another one than the expected is one that came before: it is acknowledged and dropped (USB 2.0, 8.6.4).
        self.acknowledge(bus_token(head, Pid::In));
        Ok(if packet.pid == expected {
            Outcome::Moved(packet.bytes.len())
        } else {
            Outcome::Again
        })
    }

    fn data_buffer_error(&mut self, head: &mut Qh) -> bool {
        let Some(left) = self.faults.data_buffer_errors.checked_sub(1) else {
            return false;
        };
        self.faults.data_buffer_errors = left;
        let mut token = head.token();
        token.set(status::DATA_BUFFER_ERROR, true);
        head.set_token(token);
        true
    }

    /// Brings the overlay up to date with a transaction, and ends the qTD if that is due (4.10.3, 4.10.4, 4.15.1).
    pub(super) fn settle(&mut self, head: &mut Qh, outcome: Outcome) -> Result<(), Stop> {
        let mut token = head.token();
        let mut short = false;
        let counted = token.errors_left() != 0;
        match outcome {
            Outcome::Moved(bytes) => {
                self.accepted(bytes);
                self.move_on(head, bytes);
                token = head.token();
                short = token.pid() == Some(Pid::In) && bytes < head.max_packet();
                token.set(status::ACTIVE, token.bytes() != 0 && !short);
                short &= token.bytes() != 0;
            }
            Outcome::Nak => {
                let count = head.nak_count();
                head.set_nak_count(count.saturating_sub(u32::from(head.nak_reload() != 0)));
            }
            Outcome::Again => {}
            Outcome::Error => {
                token.set(status::TRANSACTION_ERROR, true);
                if counted {
                    token.set_errors_left(token.errors_left() - 1);
                    if token.errors_left() == 0 {
                        token.set(status::ACTIVE, false);
                        token.set(status::HALTED, true);
                    }
                }
            }
            Outcome::Stall | Outcome::Babble => {
                token.set(status::ACTIVE, false);
                token.set(status::HALTED, true);
                token.set(status::BABBLE, outcome == Outcome::Babble);
            }
        }
        // A transaction without an error gives back all tries (note 2 of table 3-16). PING and start-splits are none: what follows them may fail for ever.
        let succeeded = matches!(outcome, Outcome::Moved(_) | Outcome::Nak);
        if counted && succeeded && token.pid() != Some(Pid::Setup) {
            token.set_errors_left(3);
        }
        head.set_token(token);
        self.write_overlay(head)?;
        if token.has(status::ACTIVE) {
            return Ok(());
        }
        self.statistics.qtds += 1;
        self.master.write(head.qtd(), 2, &[token.0])?;
        let failed = token.has(status::HALTED);
        // A failed transfer interrupts whether it asked or not, and so does a short packet (4.15.1.1, 4.15.1.2).
        let wanted = token.has(status::INTERRUPT) || short;
        if wanted || failed {
            self.master.flush()?;
        }
        self.completed(wanted || failed, failed);
        Ok(())
    }

    /// Counts bytes as moved: total, toggle, and the place in the buffer, which may be in the next page (3.5.4).
    fn move_on(&mut self, head: &mut Qh, bytes: usize) {
        let mut token = head.token();
        token.set_bytes(token.bytes() - bytes);
        token.0 ^= status::TOGGLE;
        let offset = (head.words[qh::BUFFER] & 0xfff) as usize + bytes;
        token.set_page(token.page() + offset / 4096);
        head.words[qh::BUFFER] = head.words[qh::BUFFER] & !0xfff | (offset % 4096) as u32;
        head.set_token(token);
    }

    /// Cuts `len` bytes of the buffer, `skip` from where it goes on, at the ends of pages, and says what the rest of the buffer in each page is.
    fn pieces(&self, head: &Qh, skip: usize, len: usize) -> Vec<(Buffer, usize)> {
        let token = head.token();
        let astray = self.astray.get(&head.address).copied().unwrap_or(0);
        let start = (head.words[qh::BUFFER] & 0xfff) + skip as u32;
        let mut page = token.page() + start as usize / 4096;
        let mut offset = start % 4096;
        let left_over = token.bytes().saturating_sub(skip);
        let (mut left, mut rest) = (len as u32, left_over.max(len) as u32);
        let mut pieces = Vec::new();
        while left != 0 && page < PAGES {
            let here = left.min(4096 - offset);
            let room = rest.min(4096 - offset);
            let mut address = head.words[qh::BUFFER + page] & !0xfff | offset;
            if page == 0 {
                address = address.wrapping_sub(astray);
            }
            let buffer = Buffer {
                address,
                len: room,
                mapping: self.master.owner(address),
            };
            pieces.push((buffer, here as usize));
            left -= here;
            rest -= here;
            page += 1;
            offset = 0;
        }
        pieces
    }

    /// Reads the next bytes of the buffer.
    pub(super) fn gather(&mut self, head: &Qh, len: usize) -> Result<Vec<u8>, Stop> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        for (buffer, here) in self.pieces(head, 0, len) {
            let into = &mut bytes[done..done + here];
            self.master.read_data(head.qtd(), buffer, into)?;
            done += here;
        }
        Ok(bytes)
    }

    /// Writes bytes to where the buffer goes on.
    pub(super) fn scatter(&mut self, head: &Qh, bytes: &[u8]) -> Result<(), Stop> {
        self.scatter_at(head, 0, bytes)
    }

    /// Writes bytes to `skip` bytes after where the buffer goes on.
    pub(super) fn scatter_at(&mut self, head: &Qh, skip: usize, bytes: &[u8]) -> Result<(), Stop> {
        let mut done = 0;
        for (buffer, here) in self.pieces(head, skip, bytes.len()) {
            let from = &bytes[done..done + here];
            self.master.write_data(head.qtd(), buffer, from)?;
            done += here;
        }
        Ok(())
    }
}

/// A token for a queue head's endpoint.
pub(super) fn bus_token(head: &Qh, pid: Pid) -> BusToken {
    BusToken {
        pid,
        address: head.device(),
        endpoint: head.endpoint(),
    }
}
