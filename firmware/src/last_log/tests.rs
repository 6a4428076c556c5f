//! The log against memory that holds anything.

extern crate std;
use super::*;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// MEM2 where the log is, and the stores in their order.
#[derive(Clone)]
struct Ram {
    words: Vec<u32>,
    stores: Vec<(u32, u32)>,
}

impl Ram {
    fn filled(word: u32) -> Self {
        Self {
            words: vec![word; BYTES as usize / 4],
            stores: vec![],
        }
    }

    fn text(&self) -> String {
        read(&self, &mut [0; CAPACITY as usize]).to_string()
    }
}

impl Words for &Ram {
    fn load(&self, offset: u32) -> u32 {
        self.words[offset as usize / 4]
    }
    fn store(&mut self, _: u32, _: u32) {
        unreachable!("it is only read");
    }
    fn barrier(&mut self) {}
}

impl Words for &mut Ram {
    fn load(&self, offset: u32) -> u32 {
        self.words[offset as usize / 4]
    }
    fn store(&mut self, offset: u32, word: u32) {
        assert_eq!(offset % 4, 0, "32-bit stores only");
        self.words[offset as usize / 4] = word;
        self.stores.push((offset, word));
    }
    fn barrier(&mut self) {}
}

/// What a run leaves that logs these lines.
fn run(ram: &mut Ram, lines: impl IntoIterator<Item = impl AsRef<str>>) {
    let mut log = Log::new(ram);
    for line in lines {
        log.write(line.as_ref());
    }
}

fn lines(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| std::format!("line {n} {}\n", "x".repeat(n % 7)))
}

#[test]
fn the_words_are_those_of_the_contract() {
    let mut ram = Ram::filled(0);
    run(&mut ram, ["abcde"]);
    let records = (HEADER_BYTES / 4) as usize;
    assert_eq!(ram.words[..2], [0x574C_5354, 12]);
    // "abcd", "e" and zeros, the length and the folded FNV-1a of "abcde".
    assert_eq!(
        ram.words[records..records + 4],
        [0x6162_6364, 0x6500_0000, 0x0005_0000 | (0x749B ^ 0xCF08), 0]
    );
}

#[test]
fn what_was_logged_is_read_whatever_was_there_before() {
    for before in [0, u32::MAX, MAGIC, 0x0004_0000] {
        let mut ram = Ram::filled(before);
        run(&mut ram, ["one\n", "Größe 2\n", "", "3"]);
        assert_eq!(ram.text(), "one\nGröße 2\n3");
        run(&mut ram, ["another run\n"]);
        assert_eq!(ram.text(), "another run\n");
    }
}

#[test]
fn of_a_log_that_has_gone_round_the_newest_lines_are_read() {
    for count in [500, 1000, 2000, 5000] {
        let mut ram = Ram::filled(0);
        run(&mut ram, lines(count));
        let (text, all) = (ram.text(), lines(count).collect::<String>());
        assert!(all.ends_with(&text));
        assert!(text.starts_with("line "), "whole records only");
        assert!(text.len() > 5000, "{count}: {}", text.len());
    }
}

#[test]
fn a_short_buffer_gets_the_newest_records_that_fit() {
    let mut ram = Ram::filled(0);
    run(&mut ram, ["first\n", "second\n", "third\n"]);
    for (length, expected) in [(0, ""), (5, ""), (6, "third\n"), (13, "second\nthird\n")] {
        assert_eq!(read(&&ram, &mut vec![0; length]), expected);
    }
}

#[test]
fn a_long_line_takes_several_records_and_is_cut_between_letters() {
    let line = "€".repeat(1000);
    let mut ram = Ram::filled(0);
    run(&mut ram, [&line]);
    assert_eq!(ram.text(), line);
}

#[test]
fn control_characters_are_spaces() {
    let mut ram = Ram::filled(0);
    run(&mut ram, ["a\tb\0c\x1b[2J\r\n"]);
    assert_eq!(ram.text(), "a b c [2J \n");
}

#[test]
fn whatever_store_is_the_last_the_lines_before_are_there() {
    // A log that has gone round, so that each new record overwrites old ones.
    let mut ram = Ram::filled(0);
    run(&mut ram, lines(1000));
    let all: String = lines(1000).collect();
    let mut cut = Ram::filled(0);
    let mut longest = 0;
    for (offset, word) in &ram.stores {
        (&mut cut).store(*offset, *word);
        let text = cut.text();
        assert!(all.contains(&text));
        // One record less than a full log, at worst.
        assert!(text.len() + 100 >= longest, "{} {longest}", text.len());
        longest = text.len();
    }
}

#[test]
fn a_changed_bit_ends_the_log_there_and_never_changes_a_line() {
    let mut ram = Ram::filled(0);
    run(&mut ram, lines(40));
    let (text, words) = (ram.text(), ram.words.len());
    for word in 0..words {
        for bit in 0..32 {
            let mut changed = ram.clone();
            changed.words[word] ^= 1 << bit;
            let left = changed.text();
            // Another length may still end at a record: a shorter log, not a wrong one.
            assert!(text.contains(&left), "word {word}, bit {bit}: {left:?}");
            if word == 0 {
                assert_eq!(left, "");
            }
        }
    }
}

#[test]
fn what_is_no_log_is_none() {
    let mut ram = Ram::filled(0x2020_2020);
    assert_eq!(ram.text(), "");
    ram.words[0] = MAGIC;
    for written in [
        0,
        1,
        3,
        4,
        CAPACITY,
        2 * CAPACITY - 4,
        2 * CAPACITY,
        u32::MAX,
        u32::MAX - 3,
    ] {
        ram.words[1] = written;
        assert_eq!(ram.text(), "", "{written:#x}");
    }
}

#[test]
fn a_count_that_no_log_has_is_no_log() {
    let mut ram = Ram::filled(0);
    run(&mut ram, lines(3));
    for wrong in [1, 2, 2 * CAPACITY, 0x8000_0000] {
        let mut changed = ram.clone();
        changed.words[1] += wrong;
        assert_eq!(changed.text(), "", "{wrong:#x}");
    }
}

#[test]
fn garbage_neither_panics_nor_loops_nor_becomes_text() {
    let mut state = 0x1234_5678_u32;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    for _ in 0..200 {
        let mut ram = Ram::filled(0);
        ram.words.fill_with(&mut random);
        ram.words[0] = MAGIC;
        ram.words[1] = (random() % (2 * CAPACITY)) & !3;
        assert!(ram.text().len() < 20);
    }
}

#[test]
fn a_page_says_first_how_the_run_ended() {
    for (log, verdict) in [
        ("0.1 begins\n0.2 ended with status 0\n", "+ It ended well."),
        ("0.1 begins\n0.2 ended with status 101\n", "! It failed."),
        (
            "0.1 ended with status 0\n0.2 goes on\n",
            "! It was cut off.",
        ),
        ("", "! It was cut off."),
    ] {
        let mut page = String::new();
        show(log, &mut page).unwrap();
        assert_eq!(page, std::format!("{verdict}\n\n{log}"));
    }
}
