//! Isochronous descriptors: iTD for high-speed endpoints, siTD for those behind a transaction translator; and the FSTN.

use bitfield::bitfield;

bitfield! {
    /// One transaction of an iTD: what to do in a microframe, and what came of it (section 3.3.2).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Slot(pub u32);
    impl Debug;
    /// Offset of the data in its first page.
    pub offset, set_offset: 11, 0;
    /// Which of the seven page pointers the data begins in.
    pub page, set_page: 14, 12;
    /// Interrupt on completion.
    pub interrupt, set_interrupt: 15;
    /// Bytes to move; after an IN transaction, bytes received.
    pub bytes, set_bytes: 27, 16;
    /// Timeout, bad CRC or bad PID; only IN transactions can tell.
    pub transaction_error, set_transaction_error: 28;
    /// The device sent more than it may.
    pub babble, set_babble: 29;
    /// The controller could not keep up with its memory.
    pub data_buffer_error, set_data_buffer_error: 30;
    /// The controller may execute this.
    pub active, set_active: 31;
}

bitfield! {
    /// State of the split transaction of a siTD (section 3.4.3).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct SplitStatus(pub u32);
    impl Debug;
    /// A complete-split is due.
    pub split, set_split: 1;
    /// A complete-split was missed.
    pub missed_microframe, set_missed_microframe: 2;
    /// The translator did not answer.
    pub transaction_error, set_transaction_error: 3;
    /// The device sent more than it may.
    pub babble, set_babble: 4;
    /// The controller could not keep up with its memory.
    pub data_buffer_error, set_data_buffer_error: 5;
    /// The translator reported an error of the device.
    pub translator_error, set_translator_error: 6;
    /// The controller may execute this.
    pub active, set_active: 7;
    /// Microframes in which a complete-split was executed; the controller's.
    pub progress, set_progress: 15, 8;
    /// Bytes left to move.
    pub bytes, set_bytes: 25, 16;
    /// Which of the two page pointers is in use.
    pub page, set_page: 30;
    /// Interrupt on completion.
    pub interrupt, set_interrupt: 31;
}

/// Byte offsets in an iTD, an isochronous descriptor of a high-speed endpoint: one frame (section 3.3, appendix B).
pub mod itd {
    /// Next descriptor of the frame.
    pub const NEXT: usize = 0x00;
    /// First of eight transactions, one for each microframe; see [`Slot`](super::Slot).
    pub const SLOTS: usize = 0x04;
    /// First of seven page pointers. The lower bits of the first three say what to whom.
    pub const BUFFER: usize = 0x24;
    /// First of seven upper halves.
    pub const BUFFER_HIGH: usize = 0x40;
    /// Page pointers.
    pub const PAGES: usize = 7;
    /// Distance between isochronous descriptors; a power of two, so that none straddles a page.
    pub const STRIDE: usize = 128;
}

/// Byte offsets in a siTD, an isochronous descriptor of a split endpoint: one packet (section 3.4, appendix B).
pub mod sitd {
    /// Next descriptor of the frame.
    pub const NEXT: usize = 0x00;
    /// Direction, hub and device.
    pub const CHARACTERISTICS: usize = 0x04;
    /// Microframes of start-splits (7:0) and complete-splits (15:8).
    pub const MASKS: usize = 0x08;
    /// State of the transaction; see [`SplitStatus`](super::SplitStatus).
    pub const STATUS: usize = 0x0c;
    /// Page pointer with the current offset.
    pub const BUFFER: usize = 0x10;
    /// Second page pointer, with the position (4:3) and the number (2:0) of the start-splits of an OUT.
    pub const BUFFER_1: usize = 0x14;
    /// The siTD of the frame before, whose complete-splits reach into this one.
    pub const BACK: usize = 0x18;
    /// First of two upper halves.
    pub const BUFFER_HIGH: usize = 0x1c;
}

/// Byte offsets in an FSTN, a frame span traversal node (section 3.7).
///
/// It lets the controller finish, early in a frame, the split transactions of queue heads of the frame before. This driver's
/// schedule has none, because it begins every split transaction early enough to complete in its own frame.
pub mod fstn {
    /// Next descriptor of the frame.
    pub const NORMAL: usize = 0x00;
    /// Where to go for what is left of the frame before; terminated in a node that ends such an excursion.
    pub const BACK: usize = 0x04;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_of_an_itd_has_its_fields_where_the_standard_has_them() {
        let mut slot = Slot(0);
        slot.set_active(true);
        slot.set_bytes(3072);
        slot.set_interrupt(true);
        slot.set_page(6);
        slot.set_offset(0xabc);
        assert_eq!(slot.0, 0x8c00_eabc);
        assert!(Slot(0x1000_0000).transaction_error());
        assert!(Slot(0x2000_0000).babble());
        assert!(Slot(0x4000_0000).data_buffer_error());
    }

    #[test]
    fn the_state_of_a_sitd_has_its_fields_where_the_standard_has_them() {
        let mut status = SplitStatus(0);
        status.set_active(true);
        status.set_bytes(1023);
        status.set_interrupt(true);
        assert_eq!(status.0, 0x83ff_0080);
        assert!(SplitStatus(0x04).missed_microframe());
        assert!(SplitStatus(0x40).translator_error());
    }

    #[test]
    fn an_itd_of_both_sizes_of_pointers_fits_its_stride() {
        assert_eq!(itd::BUFFER, itd::SLOTS + 8 * 4);
        assert_eq!(itd::BUFFER_HIGH, itd::BUFFER + itd::PAGES * 4);
        const { assert!(itd::BUFFER_HIGH + itd::PAGES * 4 <= itd::STRIDE) };
        assert_eq!(sitd::BUFFER_HIGH, sitd::BACK + 4);
    }
}
