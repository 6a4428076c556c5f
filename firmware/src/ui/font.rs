//! Letters with smooth edges: Noto Sans Mono, packed by the build script from the crate
//! `noto-sans-mono-bitmap` (the font is under the SIL Open Font License).

/// A size and weight of the font. All its letters are equally wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// For everything but titles: 24 pixels high; Latin-1 and Latin Extended-A.
    Body,
    /// For titles: 32 pixels high and bold; ASCII.
    Title,
}

static BODY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/body"));
static TITLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/title"));

/// Bytes in front of the first glyph's entry.
const HEADER: usize = 4;
/// Bytes of a glyph's entry.
const ENTRY: usize = 4;

impl Face {
    const fn packed(self) -> &'static [u8] {
        match self {
            Self::Body => BODY,
            Self::Title => TITLE,
        }
    }

    /// Returns the width of a letter in pixels, spacing included.
    pub const fn width(self) -> u32 {
        self.packed()[0] as u32
    }

    /// Returns the height of a line in pixels, without spacing between lines.
    pub const fn height(self) -> u32 {
        self.packed()[1] as u32
    }

    const fn row_bytes(self) -> usize {
        (self.width() as usize).div_ceil(4)
    }

    /// Returns the glyph of a character, or the sign that stands for those that the face lacks.
    pub fn glyph(self, character: char) -> Glyph {
        let code = character as usize;
        let index = match code {
            0x20..=0x7E => code - 0x20 + 1,
            0xA0.. => code - 0xA0 + 96,
            _ => 0,
        };
        let nothing = Glyph {
            top: 0,
            rows: &[],
            row_bytes: 1,
        };
        self.at(index).or_else(|| self.at(0)).unwrap_or(nothing)
    }

    /// Returns how many glyphs there are.
    const fn glyphs(self) -> usize {
        u16::from_be_bytes([self.packed()[2], self.packed()[3]]) as usize
    }

    fn at(self, index: usize) -> Option<Glyph> {
        let (entries, pixels) = self
            .packed()
            .get(HEADER..)?
            .split_at_checked(self.glyphs() * ENTRY)?;
        let (entries, _) = entries.as_chunks::<ENTRY>();
        let &[top, rows, high, low] = entries.get(index)?;
        let start = usize::from(u16::from_be_bytes([high, low]));
        let bytes = usize::from(rows) * self.row_bytes();
        Some(Glyph {
            top: usize::from(top),
            rows: pixels.get(start..)?.get(..bytes)?,
            row_bytes: self.row_bytes(),
        })
    }
}

/// The picture of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyph {
    /// Blank rows above those that are here.
    top: usize,
    rows: &'static [u8],
    row_bytes: usize,
}

impl Glyph {
    /// Returns how much of a pixel the letter covers, in 15 parts; nothing outside of its box.
    pub fn opacity(self, x: i32, y: i32) -> u8 {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return 0;
        };
        if x / 4 >= self.row_bytes {
            return 0;
        }
        let byte = y
            .checked_sub(self.top)
            .and_then(|row| row.checked_mul(self.row_bytes))
            .and_then(|row| self.rows.get(row + x / 4))
            .copied()
            .unwrap_or(0);
        // Four levels.
        (byte >> (6 - 2 * (x % 4)) & 3) * 5
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashSet;
    use std::vec::Vec;

    const FACES: [(Face, char); 2] = [(Face::Body, '\u{17F}'), (Face::Title, '~')];

    fn picture(face: Face, character: char) -> Vec<u8> {
        let (width, height) = (face.width() as i32, face.height() as i32);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let glyph = face.glyph(character);
        places.map(|(x, y)| glyph.opacity(x, y)).collect()
    }

    #[test]
    fn every_face_holds_exactly_its_characters() {
        for (face, last) in FACES {
            let letters = (' '..='~').chain('\u{A0}'..=last).count();
            assert_eq!(face.glyphs(), letters + 1, "{face:?}");
            let rows = |index| face.at(index).unwrap().rows.len();
            let pixels: usize = (0..=letters).map(rows).sum();
            assert_eq!(
                face.packed().len(),
                HEADER + (letters + 1) * ENTRY + pixels,
                "{face:?}"
            );
        }
    }

    #[test]
    fn letters_are_there_and_differ() {
        for (face, last) in FACES {
            let mut seen = HashSet::new();
            for letter in ('!'..='~').chain('\u{A1}'..=last) {
                // The soft hyphen is not seen.
                if letter != '\u{AD}' {
                    let picture = picture(face, letter);
                    let darkest = picture.iter().max();
                    assert!(darkest >= Some(&8), "{letter:?}: {darkest:?}");
                    seen.insert(picture);
                }
            }
            // A few look alike: macrons, for instance, and the long s.
            let letters = ('!'..='~').chain('\u{A1}'..=last).count();
            assert!(
                seen.len() + 6 >= letters,
                "{face:?}: {} of {letters}",
                seen.len()
            );
        }
    }

    #[test]
    fn what_the_face_lacks_is_shown_as_such() {
        let stand_in = picture(Face::Body, '\u{FFFD}');
        assert!(stand_in.iter().any(|&opacity| opacity > 0));
        for missing in ['山', '\u{7F}', '\n', '\u{180}', char::MAX] {
            assert_eq!(picture(Face::Body, missing), stand_in, "{missing:?}");
        }
        assert_eq!(picture(Face::Title, 'é'), stand_in_of(Face::Title));
    }

    fn stand_in_of(face: Face) -> Vec<u8> {
        picture(face, '\u{FFFD}')
    }

    #[test]
    fn nothing_is_seen_outside_of_the_box() {
        let glyph = Face::Body.glyph('M');
        for (x, y) in [
            (-1, 5),
            (5, -1),
            (i32::MAX, 5),
            (5, i32::MAX),
            (12, 5),
            (5, 24),
        ] {
            assert_eq!(glyph.opacity(x, y), 0, "{x}, {y}");
        }
    }
}
