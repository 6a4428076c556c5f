//! Layouts of what is in memory (EHCI, 3), as words in the controller's order: little-endian, bit 0 the lowest.

use crate::device::{Pid, Speed};
use crate::{Descriptor, Structure};

/// A link to another structure: the low five bits say whether and what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link(pub u32);

impl Link {
    pub(super) fn terminates(self) -> bool {
        self.0 & 1 != 0
    }

    pub(super) fn address(self) -> u32 {
        self.0 & !31
    }

    /// The target in a schedule (3.1).
    pub(super) fn target(self) -> Descriptor {
        let kinds = [
            Structure::Itd,
            Structure::Qh,
            Structure::SiTd,
            Structure::Fstn,
        ];
        Descriptor {
            kind: kinds[(self.0 >> 1 & 3) as usize],
            address: self.address(),
        }
    }

    /// Whether a link in a schedule has bits set that only an unaligned address sets.
    pub(super) fn is_misaligned(self) -> bool {
        self.0 & 0x18 != 0
    }

    /// The same for a link to a qTD, which needs no type (3.5.1).
    pub(super) fn is_misaligned_qtd(self) -> bool {
        self.0 & 0x1e != 0
    }
}

/// Bits of a token (3.5.3).
pub(super) mod status {
    pub const PING: u32 = 1 << 0;
    pub const SPLIT_COMPLETE: u32 = 1 << 1;
    pub const MISSED_MICROFRAME: u32 = 1 << 2;
    pub const TRANSACTION_ERROR: u32 = 1 << 3;
    pub const BABBLE: u32 = 1 << 4;
    pub const DATA_BUFFER_ERROR: u32 = 1 << 5;
    pub const HALTED: u32 = 1 << 6;
    pub const ACTIVE: u32 = 1 << 7;
    pub const INTERRUPT: u32 = 1 << 15;
    pub const TOGGLE: u32 = 1 << 31;
}

/// The token of a qTD or of an overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token(pub u32);

impl Token {
    pub(super) fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    pub(super) fn set(&mut self, bits: u32, value: bool) {
        self.0 = if value { self.0 | bits } else { self.0 & !bits };
    }

    /// `None` is the reserved code.
    pub(super) fn pid(self) -> Option<Pid> {
        [Some(Pid::Out), Some(Pid::In), Some(Pid::Setup), None][(self.0 >> 8 & 3) as usize]
    }

    /// CERR: how many more errors halt the queue head. 0 means that none do.
    pub(super) fn errors_left(self) -> u32 {
        self.0 >> 10 & 3
    }

    pub(super) fn set_errors_left(&mut self, count: u32) {
        self.0 = self.0 & !(3 << 10) | (count & 3) << 10;
    }

    pub(super) fn page(self) -> usize {
        (self.0 >> 12 & 7) as usize
    }

    pub(super) fn set_page(&mut self, page: usize) {
        self.0 = self.0 & !(7 << 12) | (page as u32 & 7) << 12;
    }

    /// Total Bytes to Transfer, those left.
    pub(super) fn bytes(self) -> usize {
        (self.0 >> 16 & 0x7fff) as usize
    }

    pub(super) fn set_bytes(&mut self, bytes: usize) {
        self.0 = self.0 & !(0x7fff << 16) | (bytes as u32 & 0x7fff) << 16;
    }
}

/// A qTD (3.5): next, alternate, token, five pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Qtd {
    pub words: [u32; 8],
}

impl Qtd {
    pub(super) fn token(&self) -> Token {
        Token(self.words[2])
    }
}

/// A queue head (3.6): link, characteristics, capabilities, current qTD, and the overlay from [`qh::NEXT`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Qh {
    pub address: u32,
    pub words: [u32; 12],
}

/// Words of a queue head.
pub(super) mod qh {
    pub const CURRENT: usize = 3;
    pub const NEXT: usize = 4;
    pub const ALTERNATE: usize = 5;
    pub const TOKEN: usize = 6;
    pub const BUFFER: usize = 7;
}

impl Qh {
    pub(super) fn descriptor(&self) -> Descriptor {
        Descriptor {
            kind: Structure::Qh,
            address: self.address,
        }
    }

    /// The qTD that the overlay stands for.
    pub(super) fn qtd(&self) -> Descriptor {
        Descriptor {
            kind: Structure::Qtd,
            address: self.words[qh::CURRENT] & !31,
        }
    }

    pub(super) fn link(&self) -> Link {
        Link(self.words[0])
    }

    pub(super) fn device(&self) -> u8 {
        (self.words[1] & 0x7f) as u8
    }

    pub(super) fn endpoint(&self) -> u8 {
        (self.words[1] >> 8 & 15) as u8
    }

    /// `None` is the reserved code.
    pub(super) fn speed(&self) -> Option<Speed> {
        let speeds = [Some(Speed::Full), Some(Speed::Low), Some(Speed::High), None];
        speeds[(self.words[1] >> 12 & 3) as usize]
    }

    /// I: inactivate on next transaction, in the periodic schedule only (4.12.2.5).
    pub(super) fn inactivates(&self) -> bool {
        self.words[1] & 1 << 7 != 0
    }

    /// DTC: toggles come from the qTDs.
    pub(super) fn toggle_from_qtd(&self) -> bool {
        self.words[1] & 1 << 14 != 0
    }

    /// H: head of the reclamation list.
    pub(super) fn is_head(&self) -> bool {
        self.words[1] & 1 << 15 != 0
    }

    pub(super) fn max_packet(&self) -> usize {
        (self.words[1] >> 16 & 0x7ff) as usize
    }

    /// C: a control endpoint that is not high speed.
    pub(super) fn is_split_control(&self) -> bool {
        self.words[1] & 1 << 27 != 0
    }

    /// RL: reload value of the NAK counter.
    pub(super) fn nak_reload(&self) -> u32 {
        self.words[1] >> 28
    }

    pub(super) fn start_mask(&self) -> u8 {
        self.words[2] as u8
    }

    pub(super) fn complete_mask(&self) -> u8 {
        (self.words[2] >> 8) as u8
    }

    pub(super) fn hub(&self) -> u8 {
        (self.words[2] >> 16 & 0x7f) as u8
    }

    pub(super) fn hub_port(&self) -> u8 {
        (self.words[2] >> 23 & 0x7f) as u8
    }

    /// Mult: transactions in a microframe of the periodic schedule.
    pub(super) fn mult(&self) -> u32 {
        self.words[2] >> 30
    }

    pub(super) fn token(&self) -> Token {
        Token(self.words[qh::TOKEN])
    }

    pub(super) fn set_token(&mut self, token: Token) {
        self.words[qh::TOKEN] = token.0;
    }

    pub(super) fn nak_count(&self) -> u32 {
        self.words[qh::ALTERNATE] >> 1 & 15
    }

    pub(super) fn set_nak_count(&mut self, count: u32) {
        let word = &mut self.words[qh::ALTERNATE];
        *word = *word & !0x1e | (count & 15) << 1;
    }

    /// C-prog-mask: complete-splits that were executed (3.6.3).
    pub(super) fn progress(&self) -> u8 {
        self.words[qh::BUFFER + 1] as u8
    }

    pub(super) fn set_progress(&mut self, mask: u8) {
        let word = &mut self.words[qh::BUFFER + 1];
        *word = *word & !0xff | u32::from(mask);
    }

    /// The frame in which a complete-split was due first (FrameTag).
    pub(super) fn frame_tag(&self) -> u32 {
        self.words[qh::BUFFER + 2] & 31
    }

    pub(super) fn set_frame_tag(&mut self, frame: u32) {
        let word = &mut self.words[qh::BUFFER + 2];
        *word = *word & !31 | frame & 31;
    }

    /// S-bytes: bytes that complete-splits of this transaction brought.
    pub(super) fn split_bytes(&self) -> usize {
        (self.words[qh::BUFFER + 2] >> 5 & 0x7f) as usize
    }

    pub(super) fn set_split_bytes(&mut self, bytes: usize) {
        let word = &mut self.words[qh::BUFFER + 2];
        *word = *word & !(0x7f << 5) | (bytes as u32 & 0x7f) << 5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_what_it_leads_to() {
        let kinds = [
            (0x1000_0040, Structure::Itd),
            (0x1000_0042, Structure::Qh),
            (0x1000_0044, Structure::SiTd),
            (0x1000_0046, Structure::Fstn),
        ];
        for (word, kind) in kinds {
            let link = Link(word);
            assert!(!link.terminates() && !link.is_misaligned());
            let address = 0x1000_0040;
            assert_eq!(link.target(), Descriptor { kind, address });
        }
        assert!(Link(1).terminates());
        assert!(Link(0x1000_0052).is_misaligned());
        assert!(Link(0x1000_0042).is_misaligned_qtd());
    }

    #[test]
    fn a_token_has_its_fields_where_table_3_16_says() {
        let mut token = Token(0x8200_9d80);
        assert_eq!(token.pid(), Some(Pid::In));
        assert_eq!(
            (token.errors_left(), token.page(), token.bytes()),
            (3, 1, 512)
        );
        assert!(token.has(status::ACTIVE) && token.has(status::INTERRUPT));
        assert!(token.has(status::TOGGLE) && !token.has(status::HALTED));
        token.set_bytes(0);
        token.set_page(4);
        token.set_errors_left(0);
        token.set(status::ACTIVE, false);
        assert_eq!(token.0, 0x8000_c100);
    }

    #[test]
    fn a_queue_head_has_its_fields_where_tables_3_19_and_3_20_say() {
        let mut qh = Qh {
            address: 0,
            words: [0; 12],
        };
        qh.words[1] = 4 << 28 | 1 << 27 | 64 << 16 | 1 << 15 | 1 << 14 | 1 << 12 | 2 << 8 | 5;
        qh.words[2] = 3 << 30 | 7 << 23 | 9 << 16 | 0x1c << 8 | 1;
        assert_eq!((qh.device(), qh.endpoint(), qh.max_packet()), (5, 2, 64));
        assert_eq!((qh.speed(), qh.nak_reload()), (Some(Speed::Low), 4));
        assert!(qh.is_head() && qh.toggle_from_qtd() && qh.is_split_control());
        assert_eq!((qh.hub(), qh.hub_port(), qh.mult()), (9, 7, 3));
        assert_eq!((qh.start_mask(), qh.complete_mask()), (1, 0x1c));
        qh.set_nak_count(15);
        assert_eq!(qh.words[5], 0x1e);
        qh.set_progress(0x1c);
        qh.set_frame_tag(33);
        qh.set_split_bytes(64);
        assert_eq!((qh.words[8], qh.words[9]), (0x1c, 64 << 5 | 1));
    }
}
