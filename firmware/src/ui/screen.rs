//! What is on the screen, as text: made by [`super::app`], painted by [`super::paint`].

use core::fmt::{self, Write};

use heapless::{String, Vec};

/// Rows between the title and the hints.
pub const ROWS: usize = 12;
/// Letters that fit in a row of text.
pub const COLUMNS: usize = 50;

/// A line of text. What does not fit is cut at a letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(String<{ 3 * COLUMNS }>);

impl Line {
    /// Makes an empty line.
    pub const fn new() -> Self {
        Self(String::new())
    }

    /// Makes a line of what is displayed.
    pub fn of(text: impl fmt::Display) -> Self {
        let mut line = Self::new();
        // A line is never too short: it cuts.
        let _ = write!(line, "{text}");
        line
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.push(character).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// How a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Neutral.
    Plain,
    /// An explanation.
    Quiet,
    /// A heading.
    Heading,
    /// All is well.
    Good,
    /// Something is not.
    Bad,
}

/// The little picture in front of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// A stick.
    Stick,
    /// A volume.
    Volume,
    /// A folder.
    Folder,
    /// A file.
    File,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Text.
    Text(Line, Tone),
    /// Something that the cursor can be on.
    Item {
        /// Picture in front.
        mark: Mark,
        /// Name; shortened in the middle if it is long.
        text: Line,
        /// What stands at the right end.
        detail: Line,
        /// The cursor is here.
        selected: bool,
    },
    /// How far something is.
    Bar {
        /// Share that is done, in thousandths.
        permille: u16,
    },
    /// Nothing.
    Gap,
}

/// A button that a hint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// The large green one.
    A,
    /// The small red one.
    B,
    /// START.
    Start,
}

/// Where a long list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scroll {
    /// First row that is shown.
    pub first: usize,
    /// Rows that there are.
    pub total: usize,
}

/// Everything that is on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Title.
    pub title: Line,
    /// A few words at the right of the title.
    pub status: Line,
    /// The rows.
    pub rows: Vec<Row, ROWS>,
    /// Present if the rows are part of a longer list.
    pub scroll: Option<Scroll>,
    /// What buttons do.
    pub hints: Vec<(Button, &'static str), 3>,
}

impl Screen {
    /// Makes an empty screen.
    pub fn new(title: impl fmt::Display) -> Self {
        Self {
            title: Line::of(title),
            status: Line::new(),
            rows: Vec::new(),
            scroll: None,
            hints: Vec::new(),
        }
    }

    /// Adds a row, if there is room.
    pub fn row(&mut self, row: Row) {
        // A full screen keeps what it has.
        let _ = self.rows.push(row);
    }

    /// Adds text, in as many rows as it takes.
    pub fn text(&mut self, text: &str, tone: Tone) {
        for line in wrap(text, COLUMNS) {
            self.row(Row::Text(Line::of(line), tone));
        }
    }

    /// Adds a hint.
    pub fn hint(&mut self, button: Button, text: &'static str) {
        // There are no more buttons than places.
        let _ = self.hints.push((button, text));
    }
}

/// Breaks text into lines of at most `columns` letters: at line feeds, between words, and within words
/// that are longer than a line.
pub fn wrap(text: &str, columns: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let (paragraph, after) = match text.split_once('\n') {
            Some((paragraph, after)) => (paragraph, Some(after)),
            None => (text, None),
        };
        // The first letter that does not fit.
        let Some((cut, letter)) = paragraph.char_indices().nth(columns) else {
            rest = after;
            return Some(paragraph);
        };
        let fits = &paragraph[..cut];
        let end = match fits.rfind(' ') {
            _ if letter == ' ' => cut,
            Some(space) if space > 0 => space,
            _ => cut,
        };
        rest = Some(text[end..].trim_start_matches(' '));
        Some(&text[..end])
    })
}

/// Shortens a name to `columns` letters by leaving out its middle: the end of a file name matters.
pub fn shorten(name: &str, columns: usize) -> Line {
    let length = name.chars().count();
    if length <= columns {
        return Line::of(name);
    }
    let kept = columns.saturating_sub(3);
    let (front, back) = (kept - kept / 3, kept / 3);
    let mut line = Line::new();
    let end = name.chars().skip(length - back);
    for character in name.chars().take(front).chain("...".chars()).chain(end) {
        let _ = line.write_char(character);
    }
    line
}

/// A number of bytes for people.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        // Whole numbers of a unit and 1024ths of it, until the number is small enough; then tenths.
        let (mut whole, mut part, mut unit) = (self.0 / 1024, self.0 % 1024, 0);
        while whole >= 1024 && unit + 1 < UNITS.len() {
            (whole, part, unit) = (whole / 1024, whole % 1024, unit + 1);
        }
        let tenths = whole * 10 + (part * 10 + 512) / 1024;
        if tenths >= 10_240 && unit + 1 < UNITS.len() {
            return write!(f, "1.0 {}", UNITS[unit + 1]);
        }
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn wrapped(text: &str, columns: usize) -> Vec<&str> {
        wrap(text, columns).collect()
    }

    #[test]
    fn text_breaks_between_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("one two", 7), ["one two"]);
        assert_eq!(wrapped("one two", 3), ["one", "two"]);
        assert_eq!(wrapped("one   two", 4), ["one ", "two"]);
    }

    #[test]
    fn line_feeds_break_and_empty_lines_stay() {
        assert_eq!(wrapped("a\n\nb", 9), ["a", "", "b"]);
        assert_eq!(wrapped("", 9), [""]);
        assert_eq!(wrapped("one two\nthree", 5), ["one", "two", "three"]);
    }

    #[test]
    fn long_words_break_within() {
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrapped("ääää öööö", 3), ["äää", "ä", "ööö", "ö"]);
    }

    #[test]
    fn every_text_ends_and_no_line_is_too_long() {
        for text in ["  ", " a", "a ", "   bbbbbb  c", "日本語のファイル名"] {
            for columns in 1..6 {
                let lines = wrapped(text, columns);
                assert!(lines.len() <= text.len() + 1, "{text:?}");
                assert!(lines.iter().all(|line| line.chars().count() <= columns));
            }
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("short.txt", 12).as_str(), "short.txt");
        assert_eq!(shorten("a very long name.txt", 12).as_str(), "a very...txt");
        assert_eq!(shorten("ääääääääääääääääää", 9).as_str(), "ääää...ää");
        assert_eq!(shorten("abc", 1).as_str(), "...");
    }

    #[test]
    fn a_line_is_cut_at_a_letter() {
        let line = Line::of("山".repeat(100));
        assert_eq!(line.as_str(), "山".repeat(50));
    }

    #[test]
    fn sizes_have_the_largest_unit_that_they_fill() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (16_000_000_000, "14.9 GiB"),
            (2 << 40, "2.0 TiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
