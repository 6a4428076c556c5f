//! What the guest shows on its television: read out of its memory, kept as PNG files, compared.

use crate::{Error, GuestMemory, error::Context};
use object::{Object, ObjectSymbol};
use std::{fs, io::BufReader, path::Path};

/// Pixels in a line of the guest's picture.
pub const WIDTH: usize = 640;
/// Lines of the guest's picture.
pub const HEIGHT: usize = 480;
/// Two bytes a pixel.
const BYTES: usize = 2 * WIDTH * HEIGHT;
/// What the symbol of the two pictures contains, mangled or not.
const SYMBOL: [&str; 2] = ["television", "PICTURES"];

/// A picture: brightness, blue and red difference of each pixel, as ITU-R BT.601 has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture(Vec<[u8; 3]>);

impl Picture {
    /// Reads one of the two pictures of a program.
    pub(crate) fn read(memory: &GuestMemory, elf: &Path, number: u32) -> Result<Self, Error> {
        let failed = |reason: String| Error::Image {
            path: elf.to_owned(),
            reason,
        };
        let bytes = fs::read(elf).map_err(|error| failed(error.to_string()))?;
        let image = object::File::parse(&*bytes).map_err(|error| failed(error.to_string()))?;
        let symbol = image.symbols().find(|symbol| {
            let name = symbol.name().unwrap_or_default();
            SYMBOL.iter().all(|part| name.contains(part))
        });
        let symbol = symbol.ok_or_else(|| failed(format!("no symbol with {SYMBOL:?}")))?;
        let start = symbol.address() as u32 & 0x3FFF_FFFF;
        let mut bytes = vec![0; BYTES];
        memory.read(start + number * BYTES as u32, &mut bytes)?;
        Ok(Self::from_yuy2(&bytes))
    }

    /// Takes a picture as it lies in memory: Y, Cb, Y, Cr for two pixels.
    pub fn from_yuy2(bytes: &[u8]) -> Self {
        let pairs = bytes.as_chunks().0.iter();
        Self(
            pairs
                .flat_map(|&[y0, cb, y1, cr]| [[y0, cb, cr], [y1, cb, cr]])
                .collect(),
        )
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let context = || path.display().to_string();
        let mut colours: Vec<[u8; 3]> = self.0.iter().map(|&pixel| rgb(pixel)).collect();
        colours.sort_unstable();
        colours.dedup();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, WIDTH as u32, HEIGHT as u32);
        encoder.set_compression(png::Compression::High);
        let pixels: Vec<u8> = if colours.len() <= 256 {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(colours.concat());
            let index = |&pixel| colours.binary_search(&rgb(pixel)).unwrap_or(0) as u8;
            self.0.iter().map(index).collect()
        } else {
            encoder.set_color(png::ColorType::Rgb);
            self.0.iter().flat_map(|&pixel| rgb(pixel)).collect()
        };
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&pixels));
        written.map_err(std::io::Error::other).context(context)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context(context)?;
        }
        fs::write(path, file).context(context)
    }

    /// Reads a PNG file that [`Picture::save`] wrote, or one like it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Image`] if it is no picture of this size.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let context = || path.display().to_string();
        let failed = |reason: String| Error::Image {
            path: path.to_owned(),
            reason,
        };
        let file = fs::File::open(path).context(context)?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder
            .read_info()
            .map_err(|error| failed(error.to_string()))?;
        let mut pixels = vec![0; reader.output_buffer_size().unwrap_or(0)];
        let frame = reader
            .next_frame(&mut pixels)
            .map_err(|error| failed(error.to_string()))?;
        let size = (frame.width as usize, frame.height as usize);
        if size != (WIDTH, HEIGHT) || frame.color_type != png::ColorType::Rgb {
            return Err(failed(format!("{size:?} {:?}", frame.color_type)));
        }
        Ok(Self(
            pixels.as_chunks().0.iter().map(|&rgb| yuv(rgb)).collect(),
        ))
    }

    /// Says where two pictures differ so much that a person would see it; `None` if they do not.
    ///
    /// Brightness is compared in tiles of 8 x 8 pixels: a letter that is missing, cut or moved by a pixel changes those that it
    /// is in. A tile may differ by a little everywhere, as colours do that went through a PNG file.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let mut difference = Difference::default();
        for top in (0..HEIGHT).step_by(TILE) {
            for left in (0..WIDTH).step_by(TILE) {
                let places =
                    (0..TILE * TILE).map(|at| (top + at / TILE) * WIDTH + left + at % TILE);
                let sum: u32 = places
                    .map(|at| u32::from(self.0[at][0].abs_diff(other.0[at][0])))
                    .sum();
                if sum > TOLERANCE * (TILE * TILE) as u32 {
                    difference.tiles += 1;
                    difference.first.get_or_insert((left, top));
                }
            }
        }
        (difference.tiles > 0).then_some(difference)
    }
}

/// Edge of a tile, in pixels.
const TILE: usize = 8;
/// Mean difference in brightness, of 220 steps, that a tile may have.
const TOLERANCE: u32 = 3;

/// How two pictures differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Difference {
    /// Number of tiles that differ, of 4800.
    pub tiles: usize,
    /// Upper left corner of the first.
    pub first: Option<(usize, usize)>,
}

/// Converts for computer screens (ITU-R BT.601, in 1/256ths).
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (
        298 * (i32::from(y) - 16),
        i32::from(cb) - 128,
        i32::from(cr) - 128,
    );
    let clamp = |value: i32| ((value + 128) >> 8).clamp(0, 255) as u8;
    [
        clamp(y + 409 * cr),
        clamp(y - 100 * cb - 208 * cr),
        clamp(y + 516 * cb),
    ]
}

/// Converts back.
fn yuv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (r, g, b) = (i32::from(r), i32::from(g), i32::from(b));
    [
        (16 + ((66 * r + 129 * g + 25 * b + 128) >> 8)) as u8,
        (128 + ((-38 * r - 74 * g + 112 * b + 128) >> 8)) as u8,
        (128 + ((112 * r - 94 * g - 18 * b + 128) >> 8)) as u8,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiistick::ui::canvas::{Canvas, WORDS};
    use wiistick::ui::paint;
    use wiistick::ui::screen::{Screen, Tone};

    fn painted(text: &str) -> Picture {
        let mut words: Box<[u32; WORDS]> = vec![0; WORDS].try_into().unwrap();
        let mut screen = Screen::new("A title");
        screen.text(text, Tone::Plain);
        paint::paint(&screen, &mut Canvas::new(&mut words));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        Picture::from_yuy2(&bytes)
    }

    const TEXT: &str = "Everything was read, 42 files in all";

    #[test]
    fn a_picture_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/picture.png");
        let picture = painted(TEXT);
        picture.save(&path).unwrap();
        assert_eq!(Picture::load(&path).unwrap().difference(&picture), None);
        assert!(fs::metadata(&path).unwrap().len() < 20_000);
    }

    #[test]
    fn a_wrong_letter_is_seen() {
        let (right, wrong) = (
            painted(TEXT),
            painted("Everything was read, 43 files in all"),
        );
        let difference = right.difference(&wrong).unwrap();
        assert!(difference.tiles <= 12, "{difference:?}");
    }

    #[test]
    fn text_that_is_cut_moved_or_faint_is_seen() {
        let right = painted(TEXT);
        let lost = |change: &dyn Fn(&mut Picture)| {
            let mut picture = right.clone();
            change(&mut picture);
            right
                .difference(&picture)
                .map_or(0, |difference| difference.tiles)
        };
        // The lower half of the line of text is missing.
        assert!(lost(&|picture| picture.0[94 * WIDTH..106 * WIDTH].fill([0x2A, 0x9B, 0x6F])) > 20);
        // Everything is a pixel further right, or a line further down.
        assert!(lost(&|picture| picture.0.rotate_right(1)) > 40);
        assert!(lost(&|picture| picture.0.rotate_right(WIDTH)) > 40);
        // Text at a quarter of its contrast.
        assert!(
            lost(&|picture| for pixel in &mut picture.0 {
                pixel[0] = 0x2A + pixel[0].saturating_sub(0x2A) / 4
            }) > 40
        );
        // Noise that nobody sees is not.
        assert_eq!(
            lost(&|picture| for pixel in &mut picture.0 {
                pixel[0] ^= 1
            }),
            0
        );
    }
}
