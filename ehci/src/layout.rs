//! Descriptors as the controller reads them: queue heads (QH), transfer descriptors (qTD), isochronous descriptors (iTD and
//! siTD) and the frame list.
//!
//! All are little-endian 32-bit words in coherent memory, laid out for controllers with 32-bit and with 64-bit buffer
//! pointers alike: the upper halves (appendix B) are present and zero. Section numbers are those of the EHCI
//! specification, revision 1.0.

mod isochronous;

pub use isochronous::{Slot, SplitStatus, fstn, itd, sitd};

use crate::memory::Coherent;
use crate::{ITDS, QTDS, QUEUE_HEADS};
use bitfield::bitfield;
use core::sync::atomic::{Ordering, fence};

/// Entries of the frame list: the default size, since it is not known whether Hollywood's can be changed.
pub const FRAMES: usize = 1024;
/// Pages that one qTD reaches (section 3.5.4).
const PAGES: u32 = 5;
const PAGE: u32 = 4096;

bitfield! {
    /// A link to a descriptor (sections 3.1, 3.5.1, 3.6.1).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Link(pub u32);
    impl Debug;
    /// Terminate: the rest is meaningless.
    pub terminate, _: 0;
    /// What is linked to: 0 iTD, 1 QH, 2 siTD, 3 FSTN. Zero in links between qTDs.
    pub kind, _: 2, 1;
}

impl Link {
    /// A link that leads nowhere.
    pub const NONE: Self = Self(1);

    /// Returns a link to a queue head.
    pub const fn queue_head(bus: u32) -> Self {
        Self(bus | 1 << 1)
    }

    /// Returns a link to an isochronous descriptor of a high-speed endpoint.
    pub const fn itd(bus: u32) -> Self {
        Self(bus)
    }

    /// Returns a link to an isochronous descriptor of a split endpoint.
    pub const fn sitd(bus: u32) -> Self {
        Self(bus | 2 << 1)
    }

    /// Returns a link to a frame span traversal node.
    pub const fn fstn(bus: u32) -> Self {
        Self(bus | 3 << 1)
    }

    /// Returns a link to a qTD.
    pub const fn transfer(bus: u32) -> Self {
        Self(bus)
    }

    /// Returns the bus address linked to.
    pub const fn bus_address(self) -> u32 {
        self.0 & !0x1f
    }
}

/// Packet identifier of a qTD (section 3.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pid {
    /// Host to device.
    Out = 0,
    /// Device to host.
    In = 1,
    /// The start of a control transfer.
    Setup = 2,
}

bitfield! {
    /// The token word of a qTD and of a queue head's overlay (section 3.5.3).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Token(pub u32);
    impl Debug;
    /// High speed: ping the endpoint before the next OUT.
    pub ping, set_ping: 0;
    /// Split transactions: a complete-split is due.
    pub split, set_split: 1;
    /// Split transactions: a complete-split was missed.
    pub missed_microframe, set_missed_microframe: 2;
    /// Timeout, bad CRC or bad PID.
    pub transaction_error, set_transaction_error: 3;
    /// The device sent more than it may.
    pub babble, set_babble: 4;
    /// The controller could not keep up with its memory.
    pub data_buffer_error, set_data_buffer_error: 5;
    /// The queue stopped because of an error.
    pub halted, set_halted: 6;
    /// The controller may execute this.
    pub active, set_active: 7;
    /// Packet identifier.
    pub pid, set_pid: 9, 8;
    /// Errors that remain before the queue halts; zero at the start means no limit.
    pub errors, set_errors: 11, 10;
    /// Page of the current buffer pointer.
    pub page, set_page: 14, 12;
    /// Interrupt on completion.
    pub interrupt, set_interrupt: 15;
    /// Bytes left to transfer.
    pub bytes, set_bytes: 30, 16;
    /// Data toggle.
    pub toggle, set_toggle: 31;
}

impl Token {
    /// Returns the token of an executable qTD: active, three errors allowed.
    pub fn new(pid: Pid, bytes: u32, toggle: bool) -> Self {
        let mut token = Self(0);
        token.set_active(true);
        token.set_errors(3);
        token.set_pid(pid as u32);
        token.set_bytes(bytes);
        token.set_toggle(toggle);
        token
    }
}

bitfield! {
    /// Endpoint characteristics of a queue head (section 3.6.2, table 3-19).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Characteristics(pub u32);
    impl Debug;
    /// Device address.
    pub address, set_address: 6, 0;
    /// Inactivate on next transaction; full- and low-speed periodic only.
    pub inactivate, set_inactivate: 7;
    /// Endpoint number.
    pub endpoint, set_endpoint: 11, 8;
    /// Speed: 0 full, 1 low, 2 high.
    pub speed, set_speed: 13, 12;
    /// The toggle comes from the qTD (1) rather than from the overlay (0).
    pub toggle_control, set_toggle_control: 14;
    /// Head of the reclamation list.
    pub head, set_head: 15;
    /// Maximum packet size in bytes, at most 1024.
    pub max_packet, set_max_packet: 26, 16;
    /// A control endpoint that is not high speed.
    pub control, set_control: 27;
    /// NAK count reload.
    pub nak_reload, set_nak_reload: 31, 28;
}

bitfield! {
    /// Endpoint capabilities of a queue head (section 3.6.2, table 3-20).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Capabilities(pub u32);
    impl Debug;
    /// Microframes in which to start; zero in the asynchronous schedule.
    pub start_mask, set_start_mask: 7, 0;
    /// Microframes in which to complete a split.
    pub complete_mask, set_complete_mask: 15, 8;
    /// Address of the hub with the transaction translator.
    pub hub_address, set_hub_address: 22, 16;
    /// Port of that hub.
    pub hub_port, set_hub_port: 29, 23;
    /// Transactions per microframe, 1 to 3.
    pub mult, set_mult: 31, 30;
}

/// Byte offsets in a qTD (section 3.5, appendix B.2).
pub mod qtd {
    /// Next qTD.
    pub const NEXT: usize = 0x00;
    /// Next qTD after a short packet.
    pub const ALTERNATE: usize = 0x04;
    /// Token.
    pub const TOKEN: usize = 0x08;
    /// First of five buffer pointers.
    pub const BUFFER: usize = 0x0c;
    /// First of five upper halves.
    pub const BUFFER_HIGH: usize = 0x20;
    /// Distance between qTDs; a power of two, so that none straddles a page.
    pub const STRIDE: usize = 64;
}

/// Byte offsets in a queue head (section 3.6, appendix B.3).
pub mod qh {
    /// Next queue head of the schedule.
    pub const HORIZONTAL: usize = 0x00;
    /// Endpoint characteristics.
    pub const CHARACTERISTICS: usize = 0x04;
    /// Endpoint capabilities.
    pub const CAPABILITIES: usize = 0x08;
    /// The qTD that the overlay came from.
    pub const CURRENT: usize = 0x0c;
    /// Overlay: next qTD.
    pub const NEXT: usize = 0x10;
    /// Overlay: next qTD after a short packet, and the NAK counter in bits 4:1.
    pub const ALTERNATE: usize = 0x14;
    /// Overlay: token.
    pub const TOKEN: usize = 0x18;
    /// Overlay: first of five buffer pointers.
    pub const BUFFER: usize = 0x1c;
    /// Overlay: first of five upper halves.
    pub const BUFFER_HIGH: usize = 0x30;
    /// Bytes behind the controller's part, a cache line of their own: the setup packet of a control endpoint, or what else is
    /// sent without a buffer.
    pub const SETUP: usize = 0x60;
    /// Distance between queue heads; a power of two, so that none straddles a page.
    pub const STRIDE: usize = 128;
}

/// Returns how many bytes one qTD can move from a bus address on, cut to whole packets unless the rest fits.
///
/// Five pages, the first of which may begin in the middle (section 3.5.4). Every qTD but a transfer's last moves whole
/// packets, since a short one would end the transfer (section 4.10.6).
pub fn qtd_capacity(bus: u32, remaining: u32, max_packet: u32) -> u32 {
    qtd_packets(bus, remaining, max_packet).unwrap_or(remaining)
}

/// As [`qtd_capacity`]; nothing if the rest fits.
pub fn qtd_packets(bus: u32, remaining: u32, max_packet: u32) -> Option<u32> {
    let reach = PAGES * PAGE - bus % PAGE;
    (remaining > reach).then(|| reach - reach % max_packet.max(1))
}

/// Returns the buffer pointers of a qTD for contiguous data at a bus address (section 3.5.4). Only those of pages that the data
/// touch have a value: the controller uses no other.
pub fn pointers(bus: u32, bytes: u32) -> [u32; 5] {
    let end = (bus % PAGE).wrapping_add(bytes);
    let touched = |index, page| if end > index * PAGE { page } else { 0 };
    let [first, second, third, fourth, fifth] = all_pointers(bus);
    [
        first,
        touched(1, second),
        touched(2, third),
        touched(3, fourth),
        touched(4, fifth),
    ]
}

/// As [`pointers`], for data that touch all five pages.
pub fn all_pointers(bus: u32) -> [u32; 5] {
    let page = |index| (bus & !(PAGE - 1)).wrapping_add(index * PAGE);
    [bus, page(1), page(2), page(3), page(4)]
}

/// The block of coherent memory with the frame list and all descriptors, by number.
///
/// Numbers beyond the block read as zero and are not written: a mistake cannot touch foreign memory.
#[derive(Debug)]
pub struct Descriptors<M: ?Sized> {
    bus: u32,
    memory: M,
}

/// Number of a queue head in [`Descriptors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Qh(pub u8);

/// Number of a qTD in [`Descriptors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Qtd(pub u8);

/// Number of an isochronous descriptor in [`Descriptors`], an iTD or a siTD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Itd(pub u8);

/// Where the queue heads begin in the block.
const QUEUE_HEADS_AT: usize = 4 * FRAMES;
/// Where the qTDs begin.
const QTDS_AT: usize = QUEUE_HEADS_AT + QUEUE_HEADS * qh::STRIDE;
/// Where the isochronous descriptors begin.
const ITDS_AT: usize = QTDS_AT + QTDS * qtd::STRIDE;

/// Bytes that the frame list and all descriptors take.
pub const DESCRIPTOR_BYTES: usize = ITDS_AT + ITDS * itd::STRIDE;

impl<M: Coherent> Descriptors<M> {
    /// Takes zeroed memory of [`DESCRIPTOR_BYTES`] bytes, aligned to 4096 on the bus.
    ///
    /// Returns nothing if the memory is smaller or not aligned.
    pub fn new(memory: M) -> Option<Self> {
        let bus = memory.bus_address();
        let fits = memory.size() >= DESCRIPTOR_BYTES && bus.is_multiple_of(PAGE);
        fits.then_some(Self { bus, memory })
    }
}

impl<M: Coherent + ?Sized> Descriptors<M> {
    /// Returns the bus address of the frame list.
    pub fn frame_list(&self) -> u32 {
        self.bus
    }

    /// Sets an entry of the frame list, if it differs.
    pub fn set_frame(&self, frame: usize, link: Link) {
        if frame < FRAMES && self.memory.load(4 * frame) != link.0 {
            self.memory.store(4 * frame, link.0);
        }
    }

    /// Reads an entry of the frame list.
    pub fn frame(&self, frame: usize) -> Link {
        if frame < FRAMES {
            Link(self.memory.load(4 * frame))
        } else {
            Link::NONE
        }
    }

    /// Returns the bus address of a queue head.
    pub fn qh_bus(&self, qh: Qh) -> u32 {
        self.bus.wrapping_add(self.qh_offset(qh) as u32)
    }

    /// Returns the bus address of a queue head's setup packet, or of what else lies behind it.
    pub fn setup_bus(&self, qh: Qh) -> u32 {
        self.qh_bus(qh).wrapping_add(qh::SETUP as u32)
    }

    /// Stores what is sent without a buffer behind a queue head.
    pub fn store_behind(&self, qh: Qh, bytes: &[u8; 32]) {
        if usize::from(qh.0) < QUEUE_HEADS {
            let (words, _) = bytes.as_chunks();
            let mut row = [0; 8];
            for (to, word) in row.iter_mut().zip(words) {
                *to = u32::from_le_bytes(*word);
            }
            self.memory.store_row(self.qh_offset(qh) + qh::SETUP, &row);
        }
    }

    /// Returns the bus address of a qTD.
    pub fn qtd_bus(&self, qtd: Qtd) -> u32 {
        self.bus.wrapping_add(self.qtd_offset(qtd) as u32)
    }

    /// Loads a word of a queue head.
    pub fn load_qh(&self, qh: Qh, field: usize) -> u32 {
        if usize::from(qh.0) < QUEUE_HEADS {
            self.memory.load(self.qh_offset(qh) + field)
        } else {
            0
        }
    }

    /// Stores a word of a queue head.
    pub fn store_qh(&self, qh: Qh, field: usize, value: u32) {
        if usize::from(qh.0) < QUEUE_HEADS {
            self.memory.store(self.qh_offset(qh) + field, value);
        }
    }

    /// Loads a word of a qTD.
    pub fn load_qtd(&self, qtd: Qtd, field: usize) -> u32 {
        if usize::from(qtd.0) < QTDS {
            self.memory.load(self.qtd_offset(qtd) + field)
        } else {
            0
        }
    }

    /// Stores a word of a qTD.
    pub fn store_qtd(&self, qtd: Qtd, field: usize, value: u32) {
        if usize::from(qtd.0) < QTDS {
            self.memory.store(self.qtd_offset(qtd) + field, value);
        }
    }

    /// Returns the bus address of an isochronous descriptor.
    pub fn itd_bus(&self, itd: Itd) -> u32 {
        self.bus.wrapping_add(self.itd_offset(itd) as u32)
    }

    /// Loads a word of an isochronous descriptor.
    pub fn load_itd(&self, itd: Itd, field: usize) -> u32 {
        if usize::from(itd.0) < ITDS {
            self.memory.load(self.itd_offset(itd) + field)
        } else {
            0
        }
    }

    /// Stores a word of an isochronous descriptor.
    pub fn store_itd(&self, itd: Itd, field: usize, value: u32) {
        if usize::from(itd.0) < ITDS {
            self.memory.store(self.itd_offset(itd) + field, value);
        }
    }

    /// Returns a qTD's token.
    pub fn token(&self, qtd: Qtd) -> Token {
        Token(self.load_qtd(qtd, qtd::TOKEN))
    }

    /// Returns the token of a queue head's overlay.
    pub fn overlay_token(&self, qh: Qh) -> Token {
        Token(self.load_qh(qh, qh::TOKEN))
    }

    /// Writes every word of a queue head, inactive and with nothing to do.
    ///
    /// `halted` keeps the controller from ever advancing the queue: for heads and dummies.
    pub fn init_qh(
        &self,
        qh: Qh,
        characteristics: Characteristics,
        capabilities: Capabilities,
        halted: bool,
    ) {
        for field in (0..qh::STRIDE).step_by(4) {
            self.store_qh(qh, field, 0);
        }
        let mut token = Token(0);
        token.set_halted(halted);
        self.store_qh(qh, qh::HORIZONTAL, Link::NONE.0);
        self.store_qh(qh, qh::CHARACTERISTICS, characteristics.0);
        self.store_qh(qh, qh::CAPABILITIES, capabilities.0);
        self.store_qh(qh, qh::NEXT, Link::NONE.0);
        self.store_qh(qh, qh::ALTERNATE, Link::NONE.0);
        self.store_qh(qh, qh::TOKEN, token.0);
    }

    /// Lets a qTD stop the queue: inactive, it is not advanced to, and nothing else in it is looked at (section 4.10.2).
    pub fn init_dummy(&self, qtd: Qtd) {
        self.store_qtd(qtd, qtd::TOKEN, 0);
    }

    /// Writes a qTD (section 3.5). The upper halves of its [`pointers`] are zero since the memory was allocated.
    pub fn write_qtd(
        &self,
        qtd: Qtd,
        next: Link,
        alternate: Link,
        token: Token,
        pointers: [u32; 5],
    ) {
        if usize::from(qtd.0) < QTDS {
            let [a, b, c, d, e] = pointers;
            let row = [next.0, alternate.0, token.0, a, b, c, d, e];
            self.memory.store_row(self.qtd_offset(qtd), &row);
        }
    }

    /// Orders all earlier stores before all later ones, as the controller sees them.
    pub fn barrier(&self) {
        fence(Ordering::SeqCst);
    }

    fn qh_offset(&self, qh: Qh) -> usize {
        QUEUE_HEADS_AT + usize::from(qh.0) * qh::STRIDE
    }

    fn itd_offset(&self, itd: Itd) -> usize {
        ITDS_AT + usize::from(itd.0) * itd::STRIDE
    }

    fn qtd_offset(&self, qtd: Qtd) -> usize {
        QTDS_AT + usize::from(qtd.0) * qtd::STRIDE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qtd_reaches_five_pages_from_where_its_buffer_begins() {
        assert_eq!(qtd_capacity(0x1000, 1 << 20, 512), 20480);
        assert_eq!(qtd_capacity(0x1e00, 1 << 20, 512), 16896);
        assert_eq!(qtd_capacity(0x1000, 20480, 512), 20480);
        assert_eq!(qtd_capacity(0x1000, 5, 512), 5);
    }

    #[test]
    fn a_qtd_that_is_not_the_last_moves_whole_packets() {
        assert_eq!(qtd_capacity(0x1020, 1 << 20, 512), 19968);
        assert_eq!(qtd_capacity(0x1fe0, 1 << 20, 512), 16384);
        assert_eq!(
            qtd_capacity(0x1020, 20448, 512),
            20448,
            "the last one may end anywhere"
        );
        assert_eq!(qtd_capacity(0x1020, 20449, 64), 20416);
    }

    fn write(memory: &Descriptors<crate::testing::Block>, bus: u32, bytes: u32) {
        let pointers = pointers(bus, bytes);
        memory.write_qtd(Qtd(3), Link::NONE, Link::NONE, Token(0), pointers);
    }

    #[test]
    fn the_words_of_a_qtd_are_two_links_a_token_and_five_pointers() {
        let memory = crate::testing::descriptors();
        let token = Token::new(Pid::In, 512, true);
        let pointers = pointers(0x1234_5678, 512);
        memory.write_qtd(Qtd(3), Link(0x40), Link(0x80), token, pointers);
        let words = [0, 4, 8, 12, 16, 20, 24, 28].map(|at| memory.load_qtd(Qtd(3), at));
        assert_eq!(words, [0x40, 0x80, token.0, 0x1234_5678, 0, 0, 0, 0]);
    }

    #[test]
    fn the_buffer_pointers_of_a_qtd_are_an_address_and_four_pages() {
        let memory = crate::testing::descriptors();
        write(&memory, 0x1234_5678, 4 * 4096);
        let pointers = [0, 4, 8, 12, 16].map(|at| memory.load_qtd(Qtd(3), qtd::BUFFER + at));
        assert_eq!(
            pointers,
            [
                0x1234_5678,
                0x1234_6000,
                0x1234_7000,
                0x1234_8000,
                0x1234_9000
            ]
        );
    }

    #[test]
    fn pages_that_the_data_does_not_touch_get_no_pointer() {
        let memory = crate::testing::descriptors();
        write(&memory, 0x1234_5000, 4096);
        assert_eq!(memory.load_qtd(Qtd(3), qtd::BUFFER + 4), 0);
        write(&memory, 0x1234_5000, 4097);
        assert_eq!(memory.load_qtd(Qtd(3), qtd::BUFFER + 4), 0x1234_6000);
        assert_eq!(memory.load_qtd(Qtd(3), qtd::BUFFER + 8), 0);
    }

    #[test]
    fn descriptors_never_straddle_a_page_and_are_aligned_to_32() {
        let memory = crate::testing::descriptors();
        for index in 0..crate::QUEUE_HEADS as u8 {
            let bus = memory.qh_bus(Qh(index));
            // 68 bytes with 64-bit buffer pointers, and the setup packet in a line of its own.
            assert!(bus.is_multiple_of(32) && bus / 4096 == (bus + 127) / 4096);
            assert!(memory.setup_bus(Qh(index)).is_multiple_of(32));
        }
        for index in 0..crate::QTDS as u8 {
            let bus = memory.qtd_bus(Qtd(index));
            assert!(bus.is_multiple_of(32) && bus / 4096 == (bus + 51) / 4096);
        }
    }

    #[test]
    fn a_number_beyond_the_block_touches_nothing() {
        let memory = crate::testing::descriptors();
        memory.store_qh(Qh(200), 0, 1);
        memory.store_qtd(Qtd(200), 0, 1);
        memory.write_qtd(Qtd(200), Link(2), Link(2), Token(2), [2; 5]);
        assert_eq!(
            (memory.load_qh(Qh(200), 0), memory.load_qtd(Qtd(200), 0)),
            (0, 0)
        );
    }

    #[test]
    fn tokens_have_the_bits_of_the_specification() {
        // Active, CERR 3, PID IN, 512 bytes, DATA1.
        assert_eq!(Token::new(Pid::In, 512, true).0, 0x8200_0d80);
        assert_eq!(Token::new(Pid::Setup, 8, false).0, 0x0008_0e80);
    }
}
