//! Isochronous packets: written into descriptors of their frames, and read back (sections 4.7 and 4.12.3).
//!
//! A descriptor belongs to a *batch*, the packets that a caller submitted together, and serves one frame: an iTD up to eight
//! packets, one for each microframe, a siTD one. It is the controller's until it is inactive or its frame is over; and it may
//! be used again only when its frame is over, because the controller may be on its way through it.
//!
//! Frames are counted without end; the frame list has room for the next [`FRAMES`] of them.

use super::frames::Frames;
use crate::ITDS;
use crate::layout::{Descriptors, FRAMES, Itd, Link, Slot, SplitStatus, itd, sitd};
use crate::memory::Coherent;

/// A frame is over two later: complete-splits reach into the next one, and the controller reads one frame ahead.
const OVER: u32 = 2;
/// Frames for which descriptors may be written ahead.
pub const AHEAD: u32 = FRAMES as u32 - 8;
const PAGE: u32 = 4096;
/// Packets begin at multiples of this: Hollywood ignores the lower bits of the addresses of data (hardware notes, section 2.3).
pub const PACKET_ALIGN: u16 = 32;
/// Bytes that one start-split carries (USB 2.0, section 11.18.1).
pub const SPLIT_BYTES: u32 = 188;

const _: () = assert!(ITDS <= 64, "one bit for each in `used`");

/// What a stream's descriptors say besides their packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A high-speed endpoint, by iTD.
    High {
        /// Lower bits of the first three page pointers.
        pointers: [u32; 3],
        /// Microframes in which it is served.
        start_mask: u8,
    },
    /// An endpoint behind a transaction translator, by siTD.
    Split {
        /// Direction, hub and device.
        characteristics: u32,
        /// Microframes of start-splits and complete-splits.
        masks: u32,
    },
}

impl Route {
    /// Packets in each frame that is served.
    pub fn packets_per_frame(self) -> u32 {
        match self {
            Self::High { start_mask, .. } => start_mask.count_ones(),
            Self::Split { .. } => 1,
        }
    }
}

/// What came of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was moved without an error that the controller could see.
    Moved,
    /// The controller did not execute it, or not all of it.
    Missed,
    /// No, or no valid, answer.
    Transaction,
    /// The device sent more than it may.
    Babble,
    /// The controller could not keep up with its memory.
    DataBuffer,
}

/// One descriptor.
#[derive(Clone, Copy, Debug)]
struct Entry {
    batch: Option<u8>,
    split: bool,
    frame: u32,
    /// The frame in which it is over, whatever its state.
    over: u32,
    /// Cancelled: it is in no frame's list any more.
    removed: bool,
    /// The packets of its batch that it serves.
    first: u8,
    count: u8,
    start_mask: u8,
}

impl Entry {
    const FREE: Self = Self {
        batch: None,
        split: false,
        frame: 0,
        over: 0,
        removed: false,
        first: 0,
        count: 0,
        start_mask: 0,
    };
}

/// All isochronous descriptors.
#[derive(Debug)]
pub struct Isochronous {
    /// The frame list in front of the tree.
    pub frames: Frames,
    entries: [Entry; ITDS],
    used: u64,
}

impl Default for Isochronous {
    fn default() -> Self {
        Self::new()
    }
}

impl Isochronous {
    /// Returns a pool with all descriptors free.
    pub const fn new() -> Self {
        Self {
            frames: Frames::new(),
            entries: [Entry::FREE; ITDS],
            used: 0,
        }
    }

    /// Returns how many descriptors are free.
    pub fn available(&self) -> usize {
        ITDS.saturating_sub(self.used.count_ones() as usize)
    }

    /// Whether none is in use, so that the frames need not be counted.
    pub fn is_idle(&self) -> bool {
        self.used == 0
    }

    /// Writes one frame's packets of a batch, and lets the frame lead to them.
    ///
    /// `sizes` are those of the packets from number `first` of the batch on, which lie in a row at `bus`, each at a multiple of
    /// [`PACKET_ALIGN`]; at most as many as the route has in a frame. `last` asks for an interrupt. Returns false, having changed nothing, when no descriptor is free.
    #[expect(clippy::too_many_arguments, reason = "one place writes, one calls")]
    pub fn append<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        route: Route,
        batch: u8,
        frame: u32,
        first: u8,
        bus: u32,
        sizes: &[u16],
        last: bool,
    ) -> bool {
        let free = Itd(self.used.trailing_ones() as u8);
        let Some(entry) = self.entries.get_mut(usize::from(free.0)) else {
            return false;
        };
        let (split, start_mask) = match route {
            Route::High { start_mask, .. } => (false, start_mask),
            Route::Split { .. } => (true, 0),
        };
        *entry = Entry {
            batch: Some(batch),
            split,
            frame,
            over: frame.wrapping_add(OVER),
            removed: false,
            first,
            count: sizes.len() as u8,
            start_mask,
        };
        self.used |= 1 << free.0;
        let address = memory.itd_bus(free);
        let link = match route {
            Route::High {
                pointers,
                start_mask,
            } => {
                write_itd(memory, free, pointers, start_mask, bus, sizes, last);
                Link::itd(address)
            }
            Route::Split {
                characteristics,
                masks,
            } => {
                let bytes = sizes.first().copied().unwrap_or(0);
                write_sitd(memory, free, characteristics, masks, bus, bytes, last);
                Link::sitd(address)
            }
        };
        self.frames.insert(memory, list_index(frame), free, link);
        true
    }

    /// Whether the controller has let go of all of a batch's data.
    pub fn is_done<M: Coherent>(&self, memory: &Descriptors<M>, batch: u8, now: u32) -> bool {
        self.of(batch).all(|(itd, entry)| {
            is_past(now, entry.over)
                || (0..entry.count).all(|at| !is_active(memory, itd, &entry, at))
        })
    }

    /// Returns the frame in which all of a batch's frames are over.
    pub fn end(&self, batch: u8, now: u32) -> u32 {
        self.of(batch)
            .map(|(_, entry)| entry.over)
            .fold(
                now,
                |latest, over| {
                    if is_past(over, latest) { over } else { latest }
                },
            )
    }

    /// Takes out of the schedule what of a batch was not executed. It is over three frames from now at the latest.
    pub fn cancel<M: Coherent>(&mut self, memory: &Descriptors<M>, batch: u8, now: u32) {
        let over = now.wrapping_add(OVER + 1);
        for index in bits(self.used) {
            let Some(entry) = self.entries.get_mut(usize::from(index)) else {
                continue;
            };
            if entry.batch != Some(batch) || entry.removed {
                continue;
            }
            entry.removed = true;
            if is_past(entry.over, over) {
                entry.over = over;
            }
            self.frames
                .remove(memory, list_index(entry.frame), Itd(index));
        }
    }

    /// Reads what came of a batch's packets: number, bytes received (IN; none for OUT), outcome. `sizes` are what was asked for.
    ///
    /// Only after the batch [is done](Isochronous::is_done). Afterwards its descriptors belong to no batch.
    pub fn collect<M: Coherent>(
        &mut self,
        memory: &Descriptors<M>,
        batch: u8,
        sizes: &[u16],
        mut packet: impl FnMut(u8, u16, Outcome),
    ) {
        for (itd, entry) in self.of(batch) {
            for at in 0..entry.count {
                let number = entry.first.wrapping_add(at);
                let size = sizes.get(usize::from(number)).copied().unwrap_or(0);
                let (bytes, outcome) = result(memory, itd, &entry, at, size);
                packet(number, bytes, outcome);
            }
        }
        for entry in &mut self.entries {
            if entry.batch == Some(batch) {
                entry.batch = None;
            }
        }
    }

    /// Frees the descriptors that belong to no batch and whose frames are over.
    pub fn sweep<M: Coherent>(&mut self, memory: &Descriptors<M>, now: u32) {
        for index in bits(self.used) {
            let Some(entry) = self.entries.get(usize::from(index)) else {
                continue;
            };
            if entry.batch.is_some() || !is_past(now, entry.over) {
                continue;
            }
            if !entry.removed {
                self.frames
                    .remove(memory, list_index(entry.frame), Itd(index));
            }
            self.used &= !(1 << index);
        }
    }

    fn of(&self, batch: u8) -> impl Iterator<Item = (Itd, Entry)> + '_ {
        bits(self.used).filter_map(move |index| {
            let entry = self.entries.get(usize::from(index))?;
            (entry.batch == Some(batch)).then_some((Itd(index), *entry))
        })
    }
}

/// Whether a frame has been reached; frames are counted without end, in circles of 2^32.
fn is_past(now: u32, frame: u32) -> bool {
    now.wrapping_sub(frame) < 1 << 31
}

fn list_index(frame: u32) -> u16 {
    (frame % FRAMES as u32) as u16
}

fn bits(mut set: u64) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let index = set.trailing_zeros() as u8;
        (set != 0).then(|| {
            set &= set - 1;
            index
        })
    })
}

/// Returns the microframe of packet number `at` of a frame.
fn microframe(start_mask: u8, at: u8) -> usize {
    (0..8)
        .filter(|microframe| start_mask & 1 << microframe != 0)
        .nth(at.into())
        .unwrap_or(7)
}

fn write_itd<M: Coherent>(
    memory: &Descriptors<M>,
    itd: Itd,
    pointers: [u32; 3],
    start_mask: u8,
    bus: u32,
    sizes: &[u16],
    last: bool,
) {
    for microframe in 0..8 {
        memory.store_itd(itd, itd::SLOTS + 4 * microframe, 0);
    }
    let page = bus & !(PAGE - 1);
    for index in 0..itd::PAGES {
        let low = pointers.get(index).copied().unwrap_or(0);
        let pointer = page.wrapping_add(index as u32 * PAGE) | low;
        memory.store_itd(itd, itd::BUFFER + 4 * index, pointer);
        memory.store_itd(itd, itd::BUFFER_HIGH + 4 * index, 0);
    }
    let mut at = bus & (PAGE - 1);
    for (number, &size) in sizes.iter().enumerate() {
        let mut slot = Slot(0);
        slot.set_offset(at % PAGE);
        slot.set_page(at / PAGE);
        slot.set_bytes(size.into());
        slot.set_interrupt(last && number + 1 == sizes.len());
        slot.set_active(true);
        let microframe = microframe(start_mask, number as u8);
        memory.store_itd(itd, itd::SLOTS + 4 * microframe, slot.0);
        at += u32::from(size.next_multiple_of(PACKET_ALIGN));
    }
}

fn write_sitd<M: Coherent>(
    memory: &Descriptors<M>,
    itd: Itd,
    characteristics: u32,
    masks: u32,
    bus: u32,
    bytes: u16,
    last: bool,
) {
    let mut status = SplitStatus(0);
    status.set_bytes(bytes.into());
    status.set_interrupt(last);
    status.set_active(true);
    let is_in = characteristics >> 31 != 0;
    // An OUT says how many start-splits there are and where it stands among them: all at once, or at the beginning.
    let (position, count) = match u32::from(bytes).div_ceil(SPLIT_BYTES).max(1) {
        _ if is_in => (0, 0),
        1 => (0, 1),
        many => (1, many),
    };
    let page = (bus & !(PAGE - 1)).wrapping_add(PAGE);
    memory.store_itd(itd, sitd::CHARACTERISTICS, characteristics);
    memory.store_itd(itd, sitd::MASKS, masks);
    memory.store_itd(itd, sitd::STATUS, status.0);
    memory.store_itd(itd, sitd::BUFFER, bus);
    memory.store_itd(itd, sitd::BUFFER_1, page | position << 3 | count);
    memory.store_itd(itd, sitd::BACK, Link::NONE.0);
    memory.store_itd(itd, sitd::BUFFER_HIGH, 0);
    memory.store_itd(itd, sitd::BUFFER_HIGH + 4, 0);
}

fn slot<M: Coherent>(memory: &Descriptors<M>, itd: Itd, entry: &Entry, at: u8) -> Slot {
    let microframe = microframe(entry.start_mask, at);
    Slot(memory.load_itd(itd, itd::SLOTS + 4 * microframe))
}

fn is_active<M: Coherent>(memory: &Descriptors<M>, itd: Itd, entry: &Entry, at: u8) -> bool {
    if entry.split {
        SplitStatus(memory.load_itd(itd, sitd::STATUS)).active()
    } else {
        slot(memory, itd, entry, at).active()
    }
}

/// Returns the bytes that were received of `size`, and the outcome.
fn result<M: Coherent>(
    memory: &Descriptors<M>,
    itd: Itd,
    entry: &Entry,
    at: u8,
    size: u16,
) -> (u16, Outcome) {
    if entry.split {
        let status = SplitStatus(memory.load_itd(itd, sitd::STATUS));
        let outcome = if status.babble() {
            Outcome::Babble
        } else if status.transaction_error() || status.translator_error() {
            Outcome::Transaction
        } else if status.data_buffer_error() {
            Outcome::DataBuffer
        } else if status.active() || status.missed_microframe() {
            Outcome::Missed
        } else {
            Outcome::Moved
        };
        (size.saturating_sub(status.bytes() as u16), outcome)
    } else {
        let slot = slot(memory, itd, entry, at);
        let outcome = if slot.active() {
            Outcome::Missed
        } else if slot.babble() {
            Outcome::Babble
        } else if slot.transaction_error() {
            Outcome::Transaction
        } else if slot.data_buffer_error() {
            Outcome::DataBuffer
        } else {
            Outcome::Moved
        };
        let bytes = if slot.active() {
            0
        } else {
            (slot.bytes() as u16).min(size)
        };
        (bytes, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Block;

    const HIGH: Route = Route::High {
        pointers: [0x105, 0x800 | 1024, 3],
        start_mask: 0xff,
    };
    const SPLIT_OUT: Route = Route::Split {
        characteristics: 0x0203_0105,
        masks: 0x07,
    };

    fn fixture() -> (Descriptors<Block>, Isochronous) {
        (crate::testing::descriptors(), Isochronous::new())
    }

    fn words<const N: usize>(memory: &Descriptors<Block>, itd: Itd, at: usize) -> [u32; N] {
        core::array::from_fn(|index| memory.load_itd(itd, at + 4 * index))
    }

    #[test]
    fn eight_packets_of_a_high_speed_frame_lie_in_a_row_over_seven_pages() {
        let (memory, mut pool) = fixture();
        assert!(pool.append(&memory, HIGH, 0, 7, 0, 0x1234_5fe0, &[3072; 8], true));
        let slots: [u32; 8] = words(&memory, Itd(0), itd::SLOTS);
        // Active, 3072 bytes, page and offset of 0xfe0 + n * 0xc00; the last asks for an interrupt.
        assert_eq!(
            slots,
            [
                0x8c00_0fe0,
                0x8c00_1be0,
                0x8c00_27e0,
                0x8c00_33e0,
                0x8c00_3fe0,
                0x8c00_4be0,
                0x8c00_57e0,
                0x8c00_e3e0
            ]
        );
        let pages: [u32; 7] = words(&memory, Itd(0), itd::BUFFER);
        assert_eq!(pages[0], 0x1234_5105);
        assert_eq!(pages[1], 0x1234_6c00);
        assert_eq!(pages[2], 0x1234_7003);
        assert_eq!(
            pages[3..],
            [0x1234_8000, 0x1234_9000, 0x1234_a000, 0x1234_b000]
        );
        assert_eq!(memory.frame(7), Link::itd(memory.itd_bus(Itd(0))));
    }

    #[test]
    fn packets_of_longer_intervals_are_in_their_microframes_only() {
        let (memory, mut pool) = fixture();
        let route = Route::High {
            pointers: [0; 3],
            start_mask: 0x22,
        };
        assert_eq!(route.packets_per_frame(), 2);
        assert!(pool.append(&memory, route, 0, 7, 0, 0x1000, &[100, 50], false));
        let slots: [u32; 8] = words(&memory, Itd(0), itd::SLOTS);
        assert_eq!(slots, [0, 0x8064_0000, 0, 0, 0, 0x8032_0080, 0, 0]);
    }

    #[test]
    fn a_split_packet_counts_its_start_splits() {
        let (memory, mut pool) = fixture();
        for (bytes, position_and_count) in [(0, 1), (188, 1), (189, 0xa), (1023, 0xe)] {
            assert!(pool.append(&memory, SPLIT_OUT, 0, 7, 0, 0x1234_5678, &[bytes], false));
            let status = u32::from(bytes) << 16 | 0x80;
            let expected = [
                0x0203_0105,
                0x07,
                status,
                0x1234_5678,
                0x1234_6000 | position_and_count,
                1,
            ];
            let itd = Itd(pool.used.trailing_ones() as u8 - 1);
            assert_eq!(words(&memory, itd, sitd::CHARACTERISTICS), expected);
        }
    }

    #[test]
    fn a_batch_is_done_when_it_was_executed_or_its_frame_is_over() {
        let (memory, mut pool) = fixture();
        assert!(pool.append(&memory, HIGH, 3, 100, 0, 0x1000, &[8, 8], true));
        assert!(!pool.is_done(&memory, 3, 101));
        assert!(pool.is_done(&memory, 3, 102));
        memory.store_itd(Itd(0), itd::SLOTS, 0x0008_0000);
        assert!(!pool.is_done(&memory, 3, 100));
        memory.store_itd(Itd(0), itd::SLOTS + 4, 0x1000_0008);
        assert!(pool.is_done(&memory, 3, 100));
    }

    #[test]
    fn every_packet_has_an_outcome_of_its_own() {
        let (memory, mut pool) = fixture();
        let sizes = [8; 5];
        assert!(pool.append(&memory, HIGH, 3, 100, 0, 0x1000, &sizes, true));
        for (at, word) in [
            0x0005_0000,
            0x1000_0000,
            0x2008_0000,
            0x4008_0000,
            0x8008_0000,
        ]
        .into_iter()
        .enumerate()
        {
            memory.store_itd(Itd(0), itd::SLOTS + 4 * at, word);
        }
        let mut seen = vec![];
        pool.collect(&memory, 3, &sizes, |number, bytes, outcome| {
            seen.push((number, bytes, outcome));
        });
        assert_eq!(
            seen,
            [
                (0, 5, Outcome::Moved),
                (1, 0, Outcome::Transaction),
                (2, 8, Outcome::Babble),
                (3, 8, Outcome::DataBuffer),
                (4, 0, Outcome::Missed)
            ]
        );
    }

    #[test]
    fn a_device_that_claims_more_than_was_asked_for_gets_what_was_asked_for() {
        let (memory, mut pool) = fixture();
        assert!(pool.append(&memory, HIGH, 3, 100, 0, 0x1000, &[8], true));
        memory.store_itd(Itd(0), itd::SLOTS, 0x0fff_0000);
        pool.collect(&memory, 3, &[8], |_, bytes, _| assert_eq!(bytes, 8));
    }

    #[test]
    fn the_states_of_a_split_packet_are_told_apart() {
        for (word, bytes, outcome) in [
            (0x0000_0000, 100, Outcome::Moved),
            (0x0003_0000, 97, Outcome::Moved),
            (0x0064_0080, 0, Outcome::Missed),
            (0x0064_0004, 0, Outcome::Missed),
            (0x0064_0008, 0, Outcome::Transaction),
            (0x0064_0040, 0, Outcome::Transaction),
            (0x0000_0010, 100, Outcome::Babble),
            (0x0000_0020, 100, Outcome::DataBuffer),
        ] {
            let (memory, mut pool) = fixture();
            assert!(pool.append(&memory, SPLIT_OUT, 1, 100, 0, 0x1000, &[100], true));
            memory.store_itd(Itd(0), sitd::STATUS, word);
            pool.collect(&memory, 1, &[100], |_, seen, what| {
                assert_eq!((seen, what), (bytes, outcome), "{word:#x}");
            });
        }
    }

    #[test]
    fn a_descriptor_is_free_when_its_frame_is_over_and_its_batch_was_collected() {
        let (memory, mut pool) = fixture();
        assert!(pool.append(&memory, HIGH, 3, 100, 0, 0x1000, &[8], true));
        pool.sweep(&memory, 200);
        assert_eq!(pool.available(), ITDS - 1, "nobody has looked at it");
        pool.collect(&memory, 3, &[8], |_, _, _| {});
        pool.sweep(&memory, 101);
        assert_eq!(pool.available(), ITDS - 1, "the controller may be there");
        assert_eq!(memory.frame(100).bus_address(), memory.itd_bus(Itd(0)));
        pool.sweep(&memory, 102);
        assert_eq!(pool.available(), ITDS);
        assert_ne!(memory.frame(100).bus_address(), memory.itd_bus(Itd(0)));
    }

    #[test]
    fn a_cancelled_batch_leaves_the_schedule_at_once_and_its_data_after_three_frames() {
        let (memory, mut pool) = fixture();
        for frame in [100, 101, 900] {
            assert!(pool.append(&memory, HIGH, 3, frame, 0, 0x1000, &[8], true));
        }
        pool.cancel(&memory, 3, 100);
        for frame in [100, 101, 900] {
            assert_eq!(memory.frame(frame), Link(0), "out of frame {frame}");
        }
        assert!(!pool.is_done(&memory, 3, 102));
        assert!(pool.is_done(&memory, 3, 103));
    }

    #[test]
    fn frames_wrap_without_end() {
        let (memory, mut pool) = fixture();
        let frame = u32::MAX;
        assert!(pool.append(&memory, HIGH, 3, frame, 0, 0x1000, &[8], true));
        assert_eq!(memory.frame(1023), Link::itd(memory.itd_bus(Itd(0))));
        assert!(!pool.is_done(&memory, 3, frame));
        assert!(pool.is_done(&memory, 3, 1));
        assert_eq!(pool.end(3, frame), 1);
    }

    #[test]
    fn descriptors_run_out_without_harm() {
        let (memory, mut pool) = fixture();
        for frame in 0..ITDS as u32 {
            assert!(pool.append(&memory, HIGH, 0, frame, 0, 0x1000, &[8], true));
        }
        assert_eq!(pool.available(), 0);
        assert!(!pool.append(&memory, HIGH, 0, 64, 0, 0x1000, &[8], true));
    }
}
