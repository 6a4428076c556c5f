//! The log ring in the guest's memory, read while the guest writes it and after its end.
//!
//! The layout is the firmware's ([`wiistick::log_ring`]).

use crate::{Error, GuestMemory};
use wiistick::log_ring::{
    ENDED, HEADER_BYTES as HEADER, MAGIC, PHYSICAL_ADDRESS as ADDRESS, VERSION, offset as word,
};

/// More than the firmware's 256 KiB is taken for garbage.
const MAX_CAPACITY: u32 = 1 << 20;

/// Reader's side of the ring.
#[derive(Debug, Default)]
pub(crate) struct LogRing {
    /// 0 until the ring has appeared.
    capacity: u32,
    read: u32,
    /// Bytes that were overwritten before we read them.
    missed: u64,
}

/// What one look at the ring brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub bytes: Vec<u8>,
    /// Bytes are missing before these: they begin in the middle of a frame.
    pub gap: bool,
}

impl LogRing {
    /// Takes the bytes written since the last call; `None` if there are none, or no ring yet.
    pub fn take(&mut self, memory: &GuestMemory) -> Result<Option<Chunk>, Error> {
        let header = |offset| memory.read_word(ADDRESS + offset);
        if self.capacity == 0 {
            if header(word::MAGIC)? != MAGIC || header(word::VERSION)? != VERSION {
                return Ok(None);
            }
            let capacity = header(word::CAPACITY)?;
            if !capacity.is_power_of_two() || capacity > MAX_CAPACITY {
                return Ok(None);
            }
            self.capacity = capacity;
        }
        let written = header(word::WRITTEN)?;
        let mut gap = self.skip_overwritten(written);
        let length = written.wrapping_sub(self.read);
        if length == 0 {
            // Also renews the announcement when the guest took us for dead while we were late.
            memory.write_word(ADDRESS + word::READER, 1)?;
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        let start = self.read % self.capacity;
        let (first, second) = bytes.split_at_mut(length.min(self.capacity - start) as usize);
        memory.read(ADDRESS + HEADER + start, first)?;
        memory.read(ADDRESS + HEADER, second)?;
        // A guest that does not wait for us may have overwritten the oldest bytes while we copied.
        let before = self.read;
        gap |= self.skip_overwritten(header(word::WRITTEN)?);
        let spoilt = self.read.wrapping_sub(before);
        bytes.drain(..spoilt.min(length) as usize);
        self.read = before.wrapping_add(length.max(spoilt));
        memory.write_word(ADDRESS + word::READ, self.read)?;
        memory.write_word(ADDRESS + word::READER, 1)?;
        Ok(Some(Chunk { bytes, gap }))
    }

    /// Moves on to the oldest byte that is still there; says whether that left bytes out. The guest stores whole words: the
    /// one that it is writing has overwritten four old bytes.
    fn skip_overwritten(&mut self, written: u32) -> bool {
        let stored = written.wrapping_add(3) & !3;
        let excess = stored.wrapping_sub(self.read).saturating_sub(self.capacity);
        self.read = self.read.wrapping_add(excess);
        self.missed += u64::from(excess);
        excess > 0
    }

    /// Bytes that never reached us: the guest's count if it has one, else ours.
    pub fn lost(&self, memory: &GuestMemory) -> Result<u64, Error> {
        if self.capacity == 0 {
            return Ok(0);
        }
        Ok(self
            .missed
            .max(u64::from(memory.read_word(ADDRESS + word::LOST)?)))
    }

    /// Exit status, once the guest has ended by itself.
    pub fn status(&self, memory: &GuestMemory) -> Result<Option<u8>, Error> {
        if self.capacity == 0 {
            return Ok(None);
        }
        let status = memory.read_word(ADDRESS + word::STATUS)?;
        Ok((status & ENDED != 0).then_some(status as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring with a capacity of 16 bytes, and a guest that writes it.
    struct Guest {
        memory: GuestMemory,
        written: u32,
    }

    impl Guest {
        fn new() -> Self {
            let file = tempfile::tempfile().unwrap();
            file.set_len(0x1000).unwrap();
            let memory = GuestMemory::of_file(&file, ADDRESS);
            for (offset, value) in [
                (word::VERSION, 1),
                (word::CAPACITY, 16),
                (word::MAGIC, MAGIC),
            ] {
                memory.write_word(ADDRESS + offset, value).unwrap();
            }
            Self { memory, written: 0 }
        }

        fn write(&mut self, words: &[u32]) {
            for &value in words {
                self.memory
                    .write_word(ADDRESS + HEADER + self.written % 16, value)
                    .unwrap();
                self.written += 4;
                self.memory
                    .write_word(ADDRESS + word::WRITTEN, self.written)
                    .unwrap();
            }
        }

        fn header(&self, offset: u32) -> u32 {
            self.memory.read_word(ADDRESS + offset).unwrap()
        }
    }

    #[test]
    fn nothing_is_read_before_the_magic() {
        let guest = Guest::new();
        guest.memory.write_word(ADDRESS, 0).unwrap();
        let mut ring = LogRing::default();
        assert_eq!(ring.take(&guest.memory).unwrap(), None);
        assert_eq!(guest.header(word::READER), 0);
    }

    #[test]
    fn bytes_come_in_order_across_the_wrap_and_are_acknowledged() {
        let mut guest = Guest::new();
        let mut ring = LogRing::default();
        guest.write(&[1, 2, 3]);
        let first = ring.take(&guest.memory).unwrap().unwrap();
        assert_eq!(first.bytes, [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(
            (guest.header(word::READ), guest.header(word::READER)),
            (12, 1)
        );
        guest.write(&[4, 5]);
        let second = ring.take(&guest.memory).unwrap().unwrap();
        assert_eq!(
            second,
            Chunk {
                bytes: vec![0, 0, 0, 4, 0, 0, 0, 5],
                gap: false
            }
        );
    }

    #[test]
    fn overwritten_bytes_are_skipped_counted_and_marked_as_a_gap() {
        let mut guest = Guest::new();
        let mut ring = LogRing::default();
        guest.write(&[1, 2, 3, 4, 5, 6]);
        let chunk = ring.take(&guest.memory).unwrap().unwrap();
        assert_eq!(chunk.bytes[..4], [0, 0, 0, 3]);
        assert!(chunk.gap);
        assert_eq!(ring.lost(&guest.memory).unwrap(), 8);
    }

    #[test]
    fn a_status_counts_only_with_its_end_bit() {
        let guest = Guest::new();
        let mut ring = LogRing::default();
        ring.take(&guest.memory).unwrap();
        guest.memory.write_word(ADDRESS + word::STATUS, 7).unwrap();
        assert_eq!(ring.status(&guest.memory).unwrap(), None);
        guest
            .memory
            .write_word(ADDRESS + word::STATUS, 0x8000_0007)
            .unwrap();
        assert_eq!(ring.status(&guest.memory).unwrap(), Some(7));
    }
}
