//! The picture: 640 x 480 pixels in the form that the video interface reads (YUY2), drawn by the CPU.
//!
//! A word holds two neighbours: Y of the left one, Cb of both, Y of the right one, Cr of both, from the
//! most significant byte down. On the console, whose byte order is big-endian, that is the order in
//! memory, and every store is 32 bits wide.

use core::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::primitives::Rectangle;

use super::colour::{Colour, blend};
use super::font::Face;

/// Pixels in a line.
pub const WIDTH: u32 = 640;
/// Lines.
pub const HEIGHT: u32 = 480;
/// Words in a line.
pub const LINE_WORDS: usize = WIDTH as usize / 2;
/// Words in the picture.
pub const WORDS: usize = LINE_WORDS * HEIGHT as usize;

/// A word taken apart.
#[derive(Clone, Copy)]
struct Pair {
    y: [u8; 2],
    cb: u8,
    cr: u8,
}

impl Pair {
    const fn from_word(word: u32) -> Self {
        let [y0, cb, y1, cr] = word.to_be_bytes();
        Self {
            y: [y0, y1],
            cb,
            cr,
        }
    }

    const fn into_word(self) -> u32 {
        u32::from_be_bytes([self.y[0], self.cb, self.y[1], self.cr])
    }

    const fn of(colour: Colour) -> Self {
        Self {
            y: [colour.y; 2],
            cb: colour.cb,
            cr: colour.cr,
        }
    }

    /// Lays a colour over both pixels, with an opacity of 0 to 15 each. They share their hue: it changes
    /// by the mean.
    fn cover(&mut self, colour: Colour, opacity: [u8; 2]) {
        for (y, part) in self.y.iter_mut().zip(opacity) {
            *y = blend(*y, colour.y, part);
        }
        let mean = (opacity[0] + opacity[1]).div_ceil(2);
        self.cb = blend(self.cb, colour.cb, mean);
        self.cr = blend(self.cr, colour.cr, mean);
    }
}

/// A picture to draw on.
pub struct Canvas<'m> {
    words: &'m mut [u32; WORDS],
}

impl<'m> Canvas<'m> {
    /// Draws into `words`, whatever they hold.
    pub fn new(words: &'m mut [u32; WORDS]) -> Self {
        Self { words }
    }

    /// Makes every pixel the same.
    pub fn fill(&mut self, colour: Colour) {
        self.words.fill(Pair::of(colour).into_word());
    }

    /// Writes one line of text with its upper left corner at `at`; what does not fit the picture is cut.
    /// Returns where the next letter would be.
    pub fn text(&mut self, text: &str, at: Point, face: Face, colour: Colour) -> Point {
        let mut at = at;
        for character in text.chars() {
            let glyph = face.glyph(character);
            // From the pair that the left edge is in to the one of the right edge.
            let left = at.x & !1;
            for y in 0..face.height() as i32 {
                for x in (left..at.x + face.width() as i32).step_by(2) {
                    let opacity = [glyph.opacity(x - at.x, y), glyph.opacity(x + 1 - at.x, y)];
                    if opacity != [0, 0] {
                        self.pair(x, at.y + y, |pair| pair.cover(colour, opacity));
                    }
                }
            }
            at.x += face.width() as i32;
        }
        at
    }

    /// Changes the pair that holds a pixel, if it is in the picture.
    fn pair(&mut self, x: i32, y: i32, change: impl FnOnce(&mut Pair)) {
        if !(0..WIDTH as i32).contains(&x) || !(0..HEIGHT as i32).contains(&y) {
            return;
        }
        if let Some(word) = self.words.get_mut(y as usize * LINE_WORDS + x as usize / 2) {
            let mut pair = Pair::from_word(*word);
            change(&mut pair);
            *word = pair.into_word();
        }
    }
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(WIDTH, HEIGHT)
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Colour;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Colour>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            let opacity = if at.x & 1 == 0 { [15, 0] } else { [0, 15] };
            self.pair(at.x, at.y, |pair| pair.cover(colour, opacity));
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, colour: Colour) -> Result<(), Infallible> {
        let area = area.intersection(&Rectangle::new(Point::zero(), self.size()));
        let Some(corner) = area.bottom_right() else {
            return Ok(());
        };
        let (first, last) = (area.top_left.x, corner.x);
        for y in area.top_left.y..=corner.y {
            if first & 1 == 1 {
                self.pair(first, y, |pair| pair.cover(colour, [0, 15]));
            }
            if last & 1 == 0 {
                self.pair(last, y, |pair| pair.cover(colour, [15, 0]));
            }
            let line = y as usize * LINE_WORDS;
            let whole = line + (first as usize).div_ceil(2)..line + (last as usize).div_ceil(2);
            if let Some(words) = self.words.get_mut(whole) {
                words.fill(Pair::of(colour).into_word());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use embedded_graphics::prelude::*;
    use embedded_graphics::primitives::PrimitiveStyle;
    use std::boxed::Box;

    const GREY: Colour = Colour {
        y: 100,
        cb: 128,
        cr: 128,
    };
    const RED: Colour = Colour {
        y: 82,
        cb: 90,
        cr: 240,
    };

    fn picture(draw: impl FnOnce(&mut Canvas<'_>)) -> Box<[u32; WORDS]> {
        let mut words: Box<[u32; WORDS]> = std::vec![0; WORDS].try_into().unwrap();
        let mut canvas = Canvas::new(&mut words);
        canvas.fill(GREY);
        draw(&mut canvas);
        words
    }

    #[test]
    fn a_word_is_y_cb_y_cr_from_its_most_significant_byte() {
        let words = picture(|canvas| canvas.fill(RED));
        assert_eq!(words[0], 0x525A_52F0);
        assert_eq!(words[WORDS - 1], 0x525A_52F0);
    }

    #[test]
    fn neighbours_share_their_hue_and_not_their_brightness() {
        let words = picture(|canvas| {
            Pixel(Point::new(3, 0), RED).draw(canvas).unwrap();
        });
        let [y0, cb, y1, cr] = words[1].to_be_bytes();
        assert_eq!((y0, y1), (100, 82));
        assert!((90..128).contains(&cb) && (129..240).contains(&cr));
        assert_eq!((words[0], words[2]), (0x6480_6480, 0x6480_6480));
    }

    #[test]
    fn a_rectangle_ends_at_its_edges() {
        for (x, width) in [(2, 4), (3, 4), (3, 3), (2, 3), (3, 1), (2, 1)] {
            let words = picture(|canvas| {
                Rectangle::new(Point::new(x, 1), Size::new(width, 1))
                    .into_styled(PrimitiveStyle::with_fill(RED))
                    .draw(canvas)
                    .unwrap();
            });
            for pixel in 0..12 {
                let bytes = words[LINE_WORDS + pixel / 2].to_be_bytes();
                let inside = (x as usize..x as usize + width as usize).contains(&pixel);
                let expected = if inside { 82 } else { 100 };
                assert_eq!(bytes[2 * (pixel % 2)], expected, "{x}+{width} at {pixel}");
            }
            assert_eq!(words[..LINE_WORDS], [0x6480_6480; LINE_WORDS]);
        }
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let all = picture(|canvas| {
            Rectangle::new(Point::new(-5, -5), Size::new(2000, 2000))
                .into_styled(PrimitiveStyle::with_fill(RED))
                .draw(canvas)
                .unwrap();
        });
        assert_eq!(*all, [0x525A_52F0; WORDS]);
        let none = picture(|canvas| {
            for (x, y) in [(-20, 0), (640, 0), (0, -24), (0, 480), (30_000, 30_000)] {
                let at = Point::new(x, y);
                canvas.text("MMMM", at, Face::Body, RED);
                Pixel(at, RED).draw(canvas).unwrap();
            }
            Rectangle::new(Point::new(700, 0), Size::new(5, 5))
                .into_styled(PrimitiveStyle::with_fill(RED))
                .draw(canvas)
                .unwrap();
        });
        // The third and fourth letter at -20 are in the picture.
        let changed = none.iter().filter(|&&word| word != 0x6480_6480).count();
        assert!((1..400).contains(&changed), "{changed}");
        assert_eq!(none[WORDS - 1], 0x6480_6480);
    }

    #[test]
    fn text_looks_the_same_at_even_and_odd_places() {
        let white = Colour {
            y: 235,
            cb: 128,
            cr: 128,
        };
        let brightness = |x| {
            let words = picture(|canvas| {
                let end = canvas.text("Ag", Point::new(x, 10), Face::Body, white);
                assert_eq!(end, Point::new(x + 2 * Face::Body.width() as i32, 10));
            });
            let line = move |y: usize| {
                let bytes = words[y * LINE_WORDS..(y + 1) * LINE_WORDS]
                    .iter()
                    .flat_map(|word| word.to_be_bytes())
                    .step_by(2);
                bytes
                    .skip(x as usize)
                    .take(22)
                    .collect::<std::vec::Vec<_>>()
            };
            (10..34).flat_map(line).collect::<std::vec::Vec<_>>()
        };
        let even = brightness(40);
        assert_eq!(even, brightness(41));
        assert!(even.contains(&235) && even.contains(&100));
    }
}
