//! The picture that the Homebrew Channel shows in its list: a stick and the program's name, drawn
//! here so that no binary file lies among the sources.

use anyhow::Result;

/// Size that the Homebrew Channel asks for, in pixels.
pub const WIDTH: usize = 128;
/// See [`WIDTH`].
pub const HEIGHT: usize = 48;

type Colour = [u8; 3];
const BACKGROUND: Colour = [0x12, 0x2A, 0x4A];
const BODY: Colour = [0xE8, 0xEC, 0xF2];
const METAL: Colour = [0x9A, 0xA6, 0xB4];
const INK: Colour = [0xFF, 0xC8, 0x4A];

/// Letters of the name, 5 x 7 dots, a row per byte, the leftmost dot in bit 4.
const LETTERS: [(char, [u8; 7]); 6] = [
    ('c', [0, 0, 0b01111, 0b10000, 0b10000, 0b10000, 0b01111]),
    (
        'i',
        [0b00100, 0, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110],
    ),
    (
        'k',
        [
            0b10000, 0b10000, 0b10010, 0b10100, 0b11000, 0b10100, 0b10010,
        ],
    ),
    ('s', [0, 0, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110]),
    (
        't',
        [
            0b01000, 0b01000, 0b11110, 0b01000, 0b01000, 0b01001, 0b00110,
        ],
    ),
    ('w', [0, 0, 0b10001, 0b10001, 0b10101, 0b10101, 0b01010]),
];

struct Picture(Vec<u8>);

impl Picture {
    fn rectangle(&mut self, left: usize, top: usize, width: usize, height: usize, colour: Colour) {
        for y in top..(top + height).min(HEIGHT) {
            for x in left..(left + width).min(WIDTH) {
                let at = 3 * (y * WIDTH + x);
                self.0[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    fn letter(&mut self, letter: char, left: usize, top: usize, dot: usize) {
        let rows = LETTERS.iter().find(|(name, _)| *name == letter);
        for (y, row) in rows.iter().flat_map(|(_, rows)| rows.iter().enumerate()) {
            for x in (0..5).filter(|x| row & (0b10000 >> x) != 0) {
                self.rectangle(left + x * dot, top + y * dot, dot, dot, INK);
            }
        }
    }
}

/// Returns the picture as a PNG file.
pub fn png() -> Result<Vec<u8>> {
    let mut picture = Picture(Vec::from(BACKGROUND).repeat(WIDTH * HEIGHT));
    // The stick, plug to the left: shell with its two holes, then the body.
    picture.rectangle(5, 18, 10, 12, METAL);
    picture.rectangle(8, 20, 3, 3, BACKGROUND);
    picture.rectangle(8, 25, 3, 3, BACKGROUND);
    picture.rectangle(15, 15, 14, 18, BODY);
    picture.rectangle(25, 22, 2, 4, INK);
    for (place, letter) in "wiistick".chars().enumerate() {
        picture.letter(letter, 33 + 12 * place, 17, 2);
    }

    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&picture.0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icon_is_a_png_of_the_size_that_the_homebrew_channel_asks_for() {
        let file = png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), (128, 48));
        assert_eq!(pixels[..3], BACKGROUND);
        // The outer strokes of the first letter, and what is between them.
        let pixel = |x: usize, y: usize| &pixels[3 * (y * WIDTH + x)..][..3];
        assert_eq!(
            [pixel(33, 21), pixel(37, 21), pixel(41, 21)],
            [&INK, &BACKGROUND, &INK]
        );
    }
}
