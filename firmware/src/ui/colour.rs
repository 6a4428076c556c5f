//! Colours as television has them.

use embedded_graphics::pixelcolor::PixelColor;
use embedded_graphics::pixelcolor::raw::RawU24;

/// A colour in YCbCr with the ranges of ITU-R BT.601: black is Y = 16, white Y = 235, grey Cb = Cr = 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Brightness.
    pub y: u8,
    /// Blue difference.
    pub cb: u8,
    /// Red difference.
    pub cr: u8,
}

impl PixelColor for Colour {
    type Raw = RawU24;
}

impl Colour {
    /// Converts from red, green and blue, 0 to 255 each (BT.601, section 3.5, in 1/256ths).
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Self {
        let (r, g, b) = (red as i32, green as i32, blue as i32);
        Self {
            y: (16 + ((66 * r + 129 * g + 25 * b + 128) >> 8)) as u8,
            cb: (128 + ((-38 * r - 74 * g + 112 * b + 128) >> 8)) as u8,
            cr: (128 + ((112 * r - 94 * g - 18 * b + 128) >> 8)) as u8,
        }
    }
}

/// Returns the value between two others: `part` of 15 parts of `over`, the rest `under`.
pub(super) fn blend(under: u8, over: u8, part: u8) -> u8 {
    let part = u16::from(part);
    ((u16::from(under) * (15 - part) + u16::from(over) * part + 7) / 15) as u8
}

/// The colours of the program: those of its icon, and what televisions show without smearing.
pub mod palette {
    use super::Colour;

    /// Behind everything.
    pub const BACKGROUND: Colour = Colour::rgb(0x12, 0x2A, 0x4A);
    /// Behind the title and the hints.
    pub const PANEL: Colour = Colour::rgb(0x0B, 0x1C, 0x33);
    /// Behind the line that the cursor is on.
    pub const CURSOR: Colour = Colour::rgb(0x2A, 0x52, 0x86);
    /// Empty part of a bar.
    pub const TROUGH: Colour = Colour::rgb(0x1E, 0x3A, 0x62);
    /// Ordinary text.
    pub const TEXT: Colour = Colour::rgb(0xE8, 0xEC, 0xF2);
    /// Text that explains.
    pub const QUIET: Colour = Colour::rgb(0x9F, 0xB2, 0xCB);
    /// Titles and what is full.
    pub const ACCENT: Colour = Colour::rgb(0xFF, 0xC8, 0x4A);
    /// All is well.
    pub const GOOD: Colour = Colour::rgb(0x6F, 0xD8, 0x7C);
    /// Something is not.
    pub const BAD: Colour = Colour::rgb(0xFF, 0x7A, 0x66);
    /// Text on a bright colour.
    pub const INK: Colour = Colour::rgb(0x0B, 0x1C, 0x33);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_the_values_of_the_standard() {
        // BT.601: the corners of the cube, as on the standard's colour bars. Rounding may move them by one.
        for (rgb, yuv) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [81, 90, 240]),
            ([0, 255, 0], [145, 54, 34]),
            ([0, 0, 255], [41, 240, 110]),
            ([255, 255, 0], [210, 16, 146]),
        ] {
            let colour = Colour::rgb(rgb[0], rgb[1], rgb[2]);
            for (ours, theirs) in [colour.y, colour.cb, colour.cr].into_iter().zip(yuv) {
                assert!(ours.abs_diff(theirs) <= 1, "{rgb:?}: {colour:?}");
            }
        }
    }

    #[test]
    fn blending_starts_and_ends_with_its_colours() {
        assert_eq!([blend(20, 200, 0), blend(20, 200, 15)], [20, 200]);
        assert_eq!([blend(200, 20, 0), blend(200, 20, 15)], [200, 20]);
        assert_eq!(blend(0, 150, 8), 80);
    }
}
