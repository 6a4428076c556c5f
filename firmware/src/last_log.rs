//! The last run's log: lines of text in MEM2 that outlive the program, so that the next run can show why this one ended.
//!
//! A crash, the reset button and the way back to the loader all reload IOS and the Homebrew Channel, but nobody clears MEM2.
//! The place is one that neither touches ([`PHYSICAL_ADDRESS`]). Without power MEM2 forgets: then there is nothing to show.
//!
//! Every line is in RAM before the program goes on. It is written with 32-bit stores only, because narrower ones through the
//! uncached view corrupt their neighbours (hardware notes, section 0, fact 5). All words are big-endian.
//!
//! | offset | word |
//! |---|---|
//! | 0x00 | [`MAGIC`] |
//! | 0x04 | bytes ever written, a multiple of 4; from twice [`CAPACITY`] on, that is taken off once |
//! | 0x20 | records, round and round |
//!
//! A record is text, zeros up to the next word, and a last word of the text's length and checksum. The next run reads from the
//! newest record backwards, and stops at the first that is not as it was written: what is overwritten, torn, faded or never
//! was a log. One store makes a record part of the log, so that no moment leaves it half-written.

use core::fmt::{self, Write};

use crate::log_ring::Words;

/// "WLST".
pub const MAGIC: u32 = 0x574C_5354;
/// Where it begins. IOS from 30 on leaves MEM2 to the program up to 0x135E_0000 (hardware notes, section 1.4); the Homebrew
/// Channel, like all that libogc makes, ends at 0x1340_0000; this program's pool begins at 0x134E_0000.
pub const PHYSICAL_ADDRESS: u32 = 0x1340_0000;
/// Bytes before the first record.
pub const HEADER_BYTES: u32 = 0x20;
/// Bytes of records.
pub const CAPACITY: u32 = 8192;
/// Bytes of all.
pub const BYTES: u32 = HEADER_BYTES + CAPACITY;

/// What the last line of a run says that ended by itself; the status follows.
pub const END: &str = "ended with status ";

const WRITTEN: u32 = 4;
/// Most bytes of text in a record.
const MAX_TEXT: usize = 240;
const MAX_RECORD: u32 = MAX_TEXT as u32 + 4;

/// Returns the log that the run before has left, as far as it fits the end of `buffer`. Whatever is in memory is taken for
/// what it is: at worst there is no log.
pub fn read<'b, W: Words>(words: &W, buffer: &'b mut [u8]) -> &'b str {
    let mut start = buffer.len();
    let mut at = words.load(WRITTEN);
    if words.load(0) == MAGIC && at.is_multiple_of(4) && at < 2 * CAPACITY {
        // Where the next record goes, one may lie whole that the last store did not reach: the newest before the oldest.
        let mut left = at.min(CAPACITY - MAX_RECORD);
        while let Some(last) = left.checked_sub(4) {
            let last_word = words.load(position(at, 4));
            let length = (last_word >> 16) as usize;
            let padded = length.next_multiple_of(4) as u32;
            if length == 0 || length > MAX_TEXT || padded > last {
                break;
            }
            let Some(from) = start.checked_sub(length) else {
                break;
            };
            let Some(text) = buffer.get_mut(from..start) else {
                break;
            };
            for (index, bytes) in (0u32..).zip(text.chunks_mut(4)) {
                let word = words.load(position(at, 4 + padded - 4 * index));
                let count = bytes.len();
                bytes.copy_from_slice(&word.to_be_bytes()[..count]);
            }
            let is_text = core::str::from_utf8(text)
                .is_ok_and(|text| !text.contains(|letter: char| letter < ' ' && letter != '\n'));
            if !is_text || last_word != closing(text) {
                break;
            }
            start = from;
            // Counted from the end of a lap where the log has gone round.
            at = at.wrapping_sub(padded + 4);
            left = last - padded;
        }
    }
    let text = buffer.get(start..).unwrap_or_default();
    core::str::from_utf8(text).unwrap_or_default()
}

/// Shows a log as a page, beginning with how the run ended.
///
/// # Errors
/// Those of `page`.
pub fn show(log: &str, page: &mut dyn Write) -> fmt::Result {
    let last = log.trim_end().rsplit('\n').next().unwrap_or_default();
    // After the time.
    let (_, last) = last.split_once(' ').unwrap_or_default();
    let verdict = match last.strip_prefix(END) {
        Some("0") => "+ It ended well.",
        Some(_) => "! It failed.",
        None => "! It was cut off.",
    };
    writeln!(page, "{verdict}\n")?;
    page.write_str(log)
}

/// The offset that is `back` bytes before `written`.
const fn position(written: u32, back: u32) -> u32 {
    HEADER_BYTES + written.wrapping_sub(back) % CAPACITY
}

/// The last word of a record: length and FNV-1a folded to 16 bits.
fn closing(text: &[u8]) -> u32 {
    let sum = text.iter().fold(0x811C_9DC5_u32, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (text.len() as u32) << 16 | (sum ^ sum >> 16) & 0xFFFF
}

/// The log of this run.
#[derive(Debug)]
pub struct Log<W> {
    words: W,
    written: u32,
}

impl<W: Words> Log<W> {
    /// Begins an empty log. What the run before has left is gone.
    pub fn new(mut words: W) -> Self {
        words.store(WRITTEN, 0);
        words.store(0, MAGIC);
        words.barrier();
        Self { words, written: 0 }
    }

    /// Appends text, over the oldest if need be. Control characters become spaces.
    pub fn write(&mut self, mut text: &str) {
        while !text.is_empty() {
            let mut end = text.len().min(MAX_TEXT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let (now, later) = text.split_at(end);
            self.record(now);
            text = later;
        }
    }

    fn record(&mut self, text: &str) {
        let mut bytes = [0; MAX_TEXT];
        for (byte, letter) in bytes.iter_mut().zip(text.bytes()) {
            *byte = match letter {
                b'\n' | b' '.. => letter,
                _ => b' ',
            };
        }
        let bytes = bytes.get(..text.len()).unwrap_or_default();
        let mut at = self.written;
        let mut store = |word| {
            self.words.store(position(at, 0), word);
            at += 4;
        };
        for chunk in bytes.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            store(u32::from_be_bytes(word));
        }
        store(closing(bytes));
        self.written = if at < 2 * CAPACITY { at } else { at - CAPACITY };
        self.words.barrier();
        self.words.store(WRITTEN, self.written);
        self.words.barrier();
    }
}

#[cfg(test)]
mod tests;
