//! Isochronous descriptors: high-speed ones, and those behind a transaction translator (EHCI, 3.3, 3.4, 4.7, 4.12.3).

use super::Ehci;
use super::bus::isochronous_cost;
use super::descriptor::Link;
use super::memory::Stop;
use crate::device::{DataPid, Packet, Part, Pid, Response, Speed, Split, Token};
use crate::{Buffer, Descriptor};

/// Bits of a transaction of an iTD (3.3.2).
mod itd {
    pub const ACTIVE: u32 = 1 << 31;
    pub const BUFFER_ERROR: u32 = 1 << 30;
    pub const BABBLE: u32 = 1 << 29;
    pub const ERROR: u32 = 1 << 28;
    pub const INTERRUPT: u32 = 1 << 15;
    pub const LENGTH: u32 = 0xfff << 16;
}

/// Bits of the status of a siTD (3.4.3).
mod sitd {
    pub const COMPLETE: u32 = 1 << 1;
    pub const MISSED: u32 = 1 << 2;
    pub const ERROR: u32 = 1 << 3;
    pub const BABBLE: u32 = 1 << 4;
    pub const TRANSLATOR_ERROR: u32 = 1 << 6;
    pub const ACTIVE: u32 = 1 << 7;
    pub const INTERRUPT: u32 = 1 << 31;
}

/// Full-speed bytes that a split transaction carries in a microframe (USB 2.0, 11.18.1).
const PART: usize = 188;

/// Where isochronous data are: pages, the first one of them, an offset in it.
struct Place {
    of: Descriptor,
    pages: [u32; 7],
    page: usize,
    offset: u32,
}

impl Ehci {
    /// An iTD: the transactions of this microframe (4.7.1). Returns its link.
    pub(super) fn execute_itd(&mut self, of: Descriptor) -> Result<Link, Stop> {
        let mut words = self.master.fetch::<16>(of)?;
        let link = Link(words[0]);
        let at = 1 + (self.registers.frame & 7) as usize;
        if words[at] & itd::ACTIVE == 0 {
            return Ok(link);
        }
        let pages = std::array::from_fn(|page| words[9 + page] & !0xfff);
        let mut place = Place {
            of,
            pages,
            page: (words[at] >> 12 & 7) as usize,
            offset: words[at] & 0xfff,
        };
        let (size, mult) = (words[10] & 0x7ff, words[11] & 3);
        if size == 0 || size > 1024 || mult == 0 || place.page > 6 {
            let what = "an isochronous transaction without size, number or page (3.3)";
            self.master.undefined(of, what);
            return Ok(link);
        }
        let is_in = words[10] & 1 << 11 != 0;
        let len = (words[at] & itd::LENGTH) >> 16;
        if !self.has_time(isochronous_cost(len as usize)) {
            // What does not fit is left undone: its time is over (4.7).
            self.statistics.missed += 1;
            return Ok(link);
        }
        self.check_place(&mut place, len);
        let token = Token {
            pid: if is_in { Pid::In } else { Pid::Out },
            address: (words[9] & 0x7f) as u8,
            endpoint: (words[9] >> 8 & 15) as u8,
        };
        let word = &mut words[at];
        *word &= !(itd::ACTIVE | itd::BUFFER_ERROR);
        if is_in {
            let (moved, errors) = self.receive_isochronous(&mut place, token, size, mult, len)?;
            *word = *word & !itd::LENGTH | moved << 16 | errors;
        } else {
            self.send_isochronous(&mut place, token, size, len)?;
        }
        let (word, failed) = (*word, *word & (itd::ERROR | itd::BABBLE) != 0);
        self.master.write(of, at, &[word])?;
        self.statistics.qtds += 1;
        let wanted = word & itd::INTERRUPT != 0;
        if wanted || failed {
            self.master.flush()?;
        }
        self.completed(wanted, failed);
        Ok(link)
    }

    /// IN, at most `mult` packets; the device says with each how many follow (USB 2.0, 5.9.2). Returns how much came, and error bits.
    fn receive_isochronous(
        &mut self,
        place: &mut Place,
        token: Token,
        size: u32,
        mult: u32,
        len: u32,
    ) -> Result<(u32, u32), Stop> {
        let mut moved = 0;
        for _ in 0..mult {
            let packet = match self.transact(None, token, None) {
                Response::Data(packet) => packet,
                _ => return Ok((moved, itd::ERROR)),
            };
            let bytes = packet.bytes.len() as u32;
            if bytes > size || bytes > len - moved {
                return Ok((moved, itd::BABBLE));
            }
            self.put(place, &packet.bytes, len - moved)?;
            self.accepted(packet.bytes.len());
            moved += bytes;
            if packet.pid == DataPid::Data0 || bytes < size || moved == len {
                break;
            }
        }
        Ok((moved, 0))
    }

    fn send_isochronous(
        &mut self,
        place: &mut Place,
        token: Token,
        size: u32,
        len: u32,
    ) -> Result<(), Stop> {
        let count = len.div_ceil(size).max(1);
        for index in 0..count {
            let here = (len - index * size).min(size);
            let last = index + 1 == count;
            let pid = match (last, count) {
                (false, _) => DataPid::MData,
                (true, 1) => DataPid::Data0,
                (true, 2) => DataPid::Data1,
                (true, _) => DataPid::Data2,
            };
            let bytes = self.get(place, here, len - index * size)?;
            self.transact(None, token, Some(&Packet { pid, bytes }));
            self.accepted(here as usize);
        }
        Ok(())
    }

    /// A siTD in this microframe (4.12.3). Returns its link.
    pub(super) fn execute_sitd(&mut self, of: Descriptor) -> Result<Link, Stop> {
        let words = self.master.fetch::<7>(of)?;
        let link = Link(words[0]);
        let now = 1 << (self.registers.frame & 7);
        let (starts, completes) = (words[2] & now != 0, words[2] >> 8 & now != 0);
        if words[3] & sitd::ACTIVE == 0 || !(starts || completes) {
            return Ok(link);
        }
        if !self.has_time(isochronous_cost(PART)) {
            self.statistics.missed += 1;
            return Ok(link);
        }
        let mut new = words;
        let is_in = words[1] & 1 << 31 != 0;
        match (is_in, words[3] & sitd::COMPLETE != 0) {
            (true, false) if starts => {
                let split = split(&words, false, Part::All);
                self.transact(Some(split), token(&words, Pid::In), None);
                new[3] |= sitd::COMPLETE;
                self.write_back_sitd(of, &words, new)?;
            }
            (true, true) if completes => {
                self.complete_sitd(of, &mut new, now)?;
                self.write_back_sitd(of, &words, new)?;
            }
            (false, _) if starts => {
                self.start_sitd(of, &mut new)?;
                self.write_back_sitd(of, &words, new)?;
            }
            _ => {}
        }
        Ok(link)
    }

    /// OUT: a part of the data with each start-split; nobody answers (4.12.3.3.1).
    fn start_sitd(&mut self, of: Descriptor, words: &mut [u32; 7]) -> Result<(), Stop> {
        let left = words[3] >> 16 & 0x3ff;
        let here = left.min(PART as u32);
        let position = words[5] >> 3 & 3;
        let part = [Part::All, Part::Begin, Part::Middle, Part::End][position as usize];
        let mut place = self.sitd_place(of, words, left, position <= 1);
        let bytes = self.get(&mut place, here, left)?;
        let pid = DataPid::Data0;
        let split = split(words, false, part);
        self.transact(
            Some(split),
            token(words, Pid::Out),
            Some(&Packet { pid, bytes }),
        );
        self.accepted(here as usize);
        move_sitd(words, here);
        // T-count, and TP: begin, middle, end.
        let count = (words[5] & 7).saturating_sub(1);
        let next = match (position, count) {
            (1 | 2, 2..) => 2,
            (1 | 2, _) => 3,
            (other, _) => other,
        };
        words[5] = words[5] & !0x1f | next << 3 | count;
        if count == 0 {
            words[3] &= !sitd::ACTIVE;
        }
        Ok(())
    }

    /// IN: the next part of the result (4.12.3.3.2).
    fn complete_sitd(
        &mut self,
        of: Descriptor,
        words: &mut [u32; 7],
        now: u32,
    ) -> Result<(), Stop> {
        let mask = words[2] >> 8 & 0xff;
        let progress = words[3] >> 8 & 0xff;
        // Those of this frame that come before this microframe, and after the start-split.
        let after_start = !(words[2] & 0xff).wrapping_sub(1);
        let due = mask & (now - 1) & after_start;
        if due & !progress != 0 {
            words[3] = words[3] & !(sitd::ACTIVE | sitd::COMPLETE) | sitd::MISSED;
            self.statistics.missed += 1;
            return Ok(());
        }
        words[3] |= now << 8;
        let last = mask & !(now | (now - 1)) == 0;
        let split = split(words, true, Part::All);
        let response = self.transact(Some(split), token(words, Pid::In), None);
        let left = words[3] >> 16 & 0x3ff;
        let ends = match response {
            Response::Data(packet) if packet.bytes.len() as u32 > left => {
                words[3] |= sitd::BABBLE;
                true
            }
            Response::Data(packet) => {
                let mut place = self.sitd_place(of, words, left, progress == 0);
                self.put(&mut place, &packet.bytes, left)?;
                self.accepted(packet.bytes.len());
                move_sitd(words, packet.bytes.len() as u32);
                packet.pid != DataPid::MData || last
            }
            Response::Nyet => last,
            Response::Err => {
                words[3] |= sitd::TRANSLATOR_ERROR;
                true
            }
            _ => {
                words[3] |= sitd::ERROR;
                true
            }
        };
        if ends {
            words[3] &= !(sitd::ACTIVE | sitd::COMPLETE);
        }
        Ok(())
    }

    fn write_back_sitd(
        &mut self,
        of: Descriptor,
        old: &[u32; 7],
        new: [u32; 7],
    ) -> Result<(), Stop> {
        if *old == new {
            return Ok(());
        }
        self.master.write(of, 3, &new[3..6])?;
        if new[3] & sitd::ACTIVE != 0 {
            return Ok(());
        }
        self.statistics.qtds += 1;
        let failed = new[3] & (sitd::ERROR | sitd::BABBLE | sitd::TRANSLATOR_ERROR) != 0;
        let wanted = new[3] & sitd::INTERRUPT != 0;
        if wanted || failed {
            self.master.flush()?;
        }
        self.completed(wanted, failed);
        Ok(())
    }

    fn sitd_place(&self, of: Descriptor, words: &[u32; 7], left: u32, first: bool) -> Place {
        let mut pages = [0; 7];
        pages[0] = words[4] & !0xfff;
        pages[1] = words[5] & !0xfff;
        let mut place = Place {
            of,
            pages,
            // P: which page is the current one.
            page: (words[3] >> 30 & 1) as usize,
            offset: words[4] & 0xfff,
        };
        // Later parts need not begin at a multiple of 32.
        if first {
            self.check_place(&mut place, left);
        }
        place
    }

    /// Buffers begin at multiples of 32 (hardware notes, 2.3).
    fn check_place(&self, place: &mut Place, len: u32) {
        if len != 0 {
            let address = place.pages[place.page] | place.offset;
            place.offset -= self.master.astray(place.of, address, len);
        }
    }

    fn get(&mut self, place: &mut Place, len: u32, rest: u32) -> Result<Vec<u8>, Stop> {
        let mut bytes = vec![0; len as usize];
        for (buffer, range) in self.cut(place, len, rest) {
            self.master.read_data(place.of, buffer, &mut bytes[range])?;
        }
        Ok(bytes)
    }

    fn put(&mut self, place: &mut Place, bytes: &[u8], rest: u32) -> Result<(), Stop> {
        for (buffer, range) in self.cut(place, bytes.len() as u32, rest) {
            self.master.write_data(place.of, buffer, &bytes[range])?;
        }
        Ok(())
    }

    /// Cuts the next bytes at the ends of pages, and moves on.
    fn cut(
        &self,
        place: &mut Place,
        len: u32,
        mut rest: u32,
    ) -> Vec<(Buffer, std::ops::Range<usize>)> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < len && place.page < place.pages.len() {
            let here = (len - done).min(0x1000 - place.offset);
            let address = place.pages[place.page] | place.offset;
            let buffer = Buffer {
                address,
                len: rest.min(0x1000 - place.offset),
                mapping: self.master.owner(address),
            };
            pieces.push((buffer, done as usize..(done + here) as usize));
            done += here;
            rest -= here;
            place.offset += here;
            if place.offset == 0x1000 {
                place.page += 1;
                place.offset = 0;
            }
        }
        pieces
    }
}

fn token(words: &[u32; 7], pid: Pid) -> Token {
    Token {
        pid,
        address: (words[1] & 0x7f) as u8,
        endpoint: (words[1] >> 8 & 15) as u8,
    }
}

fn split(words: &[u32; 7], complete: bool, part: Part) -> Split {
    Split {
        hub: (words[1] >> 16 & 0x7f) as u8,
        port: (words[1] >> 24 & 0x7f) as u8,
        complete,
        speed: Speed::Full,
        kind: 1,
        part,
    }
}

/// Counts bytes of a siTD as moved: total, offset, and the page.
fn move_sitd(words: &mut [u32; 7], bytes: u32) {
    let left = (words[3] >> 16 & 0x3ff) - bytes;
    words[3] = words[3] & !(0x3ff << 16) | left << 16;
    let offset = (words[4] & 0xfff) + bytes;
    words[4] = words[4] & !0xfff | offset & 0xfff;
    if offset > 0xfff {
        words[3] |= 1 << 30;
    }
}
