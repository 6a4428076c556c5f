//! The log ring: a byte stream in MEM2 that a host reads out of the running, or crashed, machine.
//!
//! The guest writes with 32-bit stores only, because narrower stores through the uncached view of
//! RAM corrupt their neighbours (hardware notes, section 0, fact 5, and section 2.1). All header words are big-endian.
//! The stream itself is defmt frames.
//!
//! | offset | word | written by |
//! |---|---|---|
//! | 0x00 | [`MAGIC`], stored last | guest |
//! | 0x04 | [`VERSION`] | guest |
//! | 0x08 | capacity of the data area in bytes, a power of two | guest |
//! | 0x0C | `written`: bytes ever written, wrapping | guest |
//! | 0x10 | `read`: bytes ever consumed, wrapping | host |
//! | 0x14 | `reader`: non-zero while a host consumes the stream | host; cleared by the guest |
//! | 0x18 | `lost`: unread bytes overwritten | guest |
//! | 0x1C | `status`: 0 while running, `0x8000_0000 \| exit code` at the end | guest |
//! | 0x20 | `boot_id`: tells a fresh ring from the one of an earlier run | guest |
//! | 0x40 | data | guest |

/// "WLOG".
pub const MAGIC: u32 = 0x574C_4F47;
/// Version of this layout.
pub const VERSION: u32 = 1;
/// Physical address of the header, in MEM2 above the 16 KiB that the DSP uses (hardware notes, 1.1).
pub const PHYSICAL_ADDRESS: u32 = 0x1000_4000;
/// Bytes from the header to the data.
pub const HEADER_BYTES: u32 = 0x40;
/// Bytes of data that the firmware's ring holds.
pub const CAPACITY: u32 = 256 * 1024;
/// Set in the status word once the guest has ended.
pub const ENDED: u32 = 0x8000_0000;

/// Byte offsets of the header words.
pub mod offset {
    #![allow(missing_docs)]
    pub const MAGIC: u32 = 0x00;
    pub const VERSION: u32 = 0x04;
    pub const CAPACITY: u32 = 0x08;
    pub const WRITTEN: u32 = 0x0C;
    pub const READ: u32 = 0x10;
    pub const READER: u32 = 0x14;
    pub const LOST: u32 = 0x18;
    pub const STATUS: u32 = 0x1C;
    pub const BOOT_ID: u32 = 0x20;
}

/// Memory of a ring: aligned 32-bit words at byte offsets from the header.
pub trait Words {
    /// Loads the word at `offset`.
    fn load(&self, offset: u32) -> u32;
    /// Stores the word at `offset`.
    fn store(&mut self, offset: u32, word: u32);
    /// Makes all earlier stores visible before all later ones.
    fn barrier(&mut self);
}

/// Memory of a ring whose writer may have to wait for a reader.
pub trait Shared: Words {
    /// Says whether a writer that waits for its reader should go on waiting. Called again and
    /// again while the ring is full; `first` marks the first call of a wait.
    fn keep_waiting(&mut self, first: bool) -> bool;
}

/// The guest's end of the ring.
#[derive(Debug)]
pub struct Writer<W> {
    words: W,
    capacity: u32,
    written: u32,
    /// Bytes of the word at `written`, which is stored whole again with each byte that joins it.
    partial: u32,
}

impl<W: Shared> Writer<W> {
    /// Makes an empty ring of `capacity` bytes, a power of two of at least 4.
    pub fn new(mut words: W, capacity: u32, boot_id: u32) -> Self {
        words.store(offset::MAGIC, 0);
        words.barrier();
        words.store(offset::VERSION, VERSION);
        words.store(offset::CAPACITY, capacity);
        for cleared in [
            offset::WRITTEN,
            offset::READ,
            offset::READER,
            offset::LOST,
            offset::STATUS,
        ] {
            words.store(cleared, 0);
        }
        words.store(offset::BOOT_ID, boot_id);
        words.barrier();
        words.store(offset::MAGIC, MAGIC);
        words.barrier();
        Self {
            words,
            capacity,
            written: 0,
            partial: 0,
        }
    }

    /// Appends `bytes`. While a reader is attached and behind, waits for it as long as
    /// [`Shared::keep_waiting`] allows; then gives the reader up and overwrites the oldest bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.make_room();
            let lane = self.written & 3;
            let shift = 24 - 8 * lane;
            self.partial = (self.partial & !(0xFF << shift)) | u32::from(byte) << shift;
            let word_offset = HEADER_BYTES + (self.written & (self.capacity - 1) & !3);
            self.words.store(word_offset, self.partial);
            self.written = self.written.wrapping_add(1);
        }
        self.words.barrier();
        self.words.store(offset::WRITTEN, self.written);
    }

    /// Stores the exit status that ends the run.
    pub fn end(&mut self, exit_code: u8) {
        self.words.barrier();
        self.words
            .store(offset::STATUS, ENDED | u32::from(exit_code));
        self.words.barrier();
    }

    fn make_room(&mut self) {
        let mut first = true;
        loop {
            let unread = self.written.wrapping_sub(self.words.load(offset::READ));
            // The word under construction is stored whole: what it would overwrite must be read.
            if unread.saturating_add(4) <= self.capacity {
                return;
            }
            if self.words.load(offset::READER) == 0 {
                break;
            }
            if first {
                self.words.barrier();
                self.words.store(offset::WRITTEN, self.written);
            }
            if !self.words.keep_waiting(first) {
                self.words.store(offset::READER, 0);
                break;
            }
            first = false;
        }
        let lost = self.words.load(offset::LOST);
        self.words.store(offset::LOST, lost.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    struct Memory {
        words: Vec<u32>,
        /// Bytes that a patient host consumes at each poll of a waiting writer.
        consumes: u32,
        polls: u32,
        seen: Vec<u8>,
    }

    impl Memory {
        fn new(capacity: u32, consumes: u32) -> Self {
            Self {
                words: std::vec![0xDEAD_BEEF; ((HEADER_BYTES + capacity) / 4) as usize],
                consumes,
                polls: 0,
                seen: Vec::new(),
            }
        }

        fn byte(&self, capacity: u32, index: u32) -> u8 {
            let position = HEADER_BYTES + (index & (capacity - 1));
            self.words[(position / 4) as usize].to_be_bytes()[(position & 3) as usize]
        }

        fn consume(&mut self, at_most: u32) {
            let capacity = self.load(offset::CAPACITY);
            for _ in 0..at_most {
                let read = self.load(offset::READ);
                if read == self.load(offset::WRITTEN) {
                    return;
                }
                let byte = self.byte(capacity, read);
                self.seen.push(byte);
                self.store(offset::READ, read.wrapping_add(1));
            }
        }
    }

    impl Words for &mut Memory {
        fn load(&self, offset: u32) -> u32 {
            Memory::load(self, offset)
        }
        fn store(&mut self, offset: u32, word: u32) {
            Memory::store(self, offset, word);
        }
        fn barrier(&mut self) {}
    }

    impl Shared for &mut Memory {
        fn keep_waiting(&mut self, first: bool) -> bool {
            self.polls = if first { 1 } else { self.polls + 1 };
            let consumes = self.consumes;
            self.consume(consumes);
            self.polls < 10
        }
    }

    impl Memory {
        fn load(&self, offset: u32) -> u32 {
            self.words[(offset / 4) as usize]
        }
        fn store(&mut self, offset: u32, word: u32) {
            assert_eq!(offset % 4, 0, "32-bit stores only");
            self.words[(offset / 4) as usize] = word;
        }
    }

    #[test]
    fn a_new_ring_has_the_header_of_the_contract() {
        let mut memory = Memory::new(16, 0);
        Writer::new(&mut memory, 16, 0x1234_5678);
        assert_eq!(
            memory.words[..9],
            [0x574C_4F47, 1, 16, 0, 0, 0, 0, 0, 0x1234_5678]
        );
    }

    #[test]
    fn bytes_lie_in_stream_order_in_big_endian_words() {
        let mut memory = Memory::new(16, 0);
        Writer::new(&mut memory, 16, 0).write(b"abcdef");
        assert_eq!(memory.load(offset::WRITTEN), 6);
        assert_eq!(memory.words[16], u32::from_be_bytes(*b"abcd"));
        assert_eq!(memory.words[17] >> 16, 0x6566);
    }

    #[test]
    fn without_a_reader_the_latest_bytes_survive_and_the_loss_is_counted() {
        let mut memory = Memory::new(16, 0);
        let mut writer = Writer::new(&mut memory, 16, 0);
        writer.write(b"0123456789abcdefXYZ");
        let tail: Vec<u8> = (7..19).map(|i| memory.byte(16, i)).collect();
        assert_eq!(tail, b"789abcdefXYZ");
        // 13 bytes fit beside the word under construction; each later byte pushed one out.
        assert_eq!(memory.load(offset::LOST), 6);
    }

    #[test]
    fn with_a_reader_nothing_is_lost_however_small_the_ring() {
        let mut memory = Memory::new(16, 3);
        memory.store(offset::READER, 1);
        let mut writer = Writer::new(&mut memory, 16, 0);
        writer.words.store(offset::READER, 1);
        let sent: Vec<u8> = (0..200).collect();
        for chunk in sent.chunks(7) {
            writer.write(chunk);
        }
        memory.consume(u32::MAX);
        assert_eq!(memory.seen, sent);
        assert_eq!(memory.load(offset::LOST), 0);
        assert_eq!(memory.load(offset::READER), 1);
    }

    #[test]
    fn a_reader_that_stands_still_is_given_up_after_a_bounded_wait() {
        let mut memory = Memory::new(16, 0);
        let mut writer = Writer::new(&mut memory, 16, 0);
        writer.words.store(offset::READER, 1);
        writer.write(&[7; 100]);
        assert_eq!(memory.polls, 10, "one wait, not one for each byte");
        assert_eq!(memory.load(offset::READER), 0);
        assert_eq!(memory.load(offset::LOST), 87);
    }

    #[test]
    fn counters_wrap_at_32_bits() {
        let mut memory = Memory::new(16, 16);
        let mut writer = Writer::new(&mut memory, 16, 0);
        writer.words.store(offset::READER, 1);
        writer.words.store(offset::READ, 0xFFFF_FFFC);
        writer.written = 0xFFFF_FFFC;
        writer.words.store(offset::WRITTEN, 0xFFFF_FFFC);
        writer.write(b"over the edge of the counter");
        memory.consume(u32::MAX);
        assert_eq!(memory.seen, b"over the edge of the counter");
    }

    #[test]
    fn the_end_is_marked_with_the_exit_code() {
        let mut memory = Memory::new(16, 0);
        Writer::new(&mut memory, 16, 0).end(3);
        assert_eq!(memory.load(offset::STATUS), 0x8000_0003);
    }
}
