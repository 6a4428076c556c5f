//! Links the target binaries with the DOL's memory layout and defmt's section, and packs the fonts.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../linker/dol.ld");
    let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let layout = Path::new(&manifest).join("../linker/dol.ld");
    // For programs that are built on the library: their build script finds it in DEP_WIISTICK_LAYOUT.
    println!("cargo::metadata=layout={}", layout.display());
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{}", layout.display());
        println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    }
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (name, weight, height, last) in [
        // File names may be in any European language.
        ("body", FontWeight::Regular, RasterHeight::Size24, '\u{17F}'),
        ("title", FontWeight::Bold, RasterHeight::Size32, '~'),
    ] {
        let packed = pack(weight, height, last);
        fs::write(output.join(name), packed).expect("OUT_DIR can be written");
    }
}

/// Packs a face as `firmware/src/ui/font.rs` reads it: width, height and number of glyphs, an entry for each glyph, and the rows of
/// all of them. First comes the stand-in for missing glyphs, then those from U+0020 on, without the control characters
/// U+007F to U+009F. An entry says how many blank rows there are above a glyph, how many others, and where those begin; blank ones
/// below are left out, too. A row is pixels of two bits of opacity each, the leftmost in the most significant bits of a
/// byte; it begins with a byte of its own.
fn pack(weight: FontWeight, height: RasterHeight, last: char) -> Vec<u8> {
    let letters = (' '..='~').chain('\u{A0}'..=last);
    let letters: Vec<char> = ['\u{FFFD}'].into_iter().chain(letters).collect();
    let mut packed = vec![get_raster_width(weight, height) as u8, height.val() as u8];
    packed.extend((letters.len() as u16).to_be_bytes());
    let mut pixels = Vec::new();
    for letter in letters {
        // Some invisible characters have no raster: spaces.
        let raster = get_raster(letter, weight, height).or(get_raster(' ', weight, height));
        let raster = raster.expect("every face has a space");
        let rows: Vec<Vec<u8>> = raster.rows().map(pack_row).collect();
        let inked = |row: &Vec<u8>| row.iter().any(|&byte| byte != 0);
        let top = rows.iter().position(inked).unwrap_or(0);
        let end = rows.iter().rposition(inked).map_or(top, |row| row + 1);
        packed.extend([top as u8, (end - top) as u8]);
        packed.extend((pixels.len() as u16).to_be_bytes());
        pixels.extend(rows[top..end].concat());
    }
    packed.extend(pixels);
    packed
}

fn pack_row(row: &[u8]) -> Vec<u8> {
    let bytes = row.chunks(4).map(|four| {
        let levels = four.iter().map(|&opacity| (u16::from(opacity) + 42) / 85);
        let bits = levels
            .zip([6, 4, 2, 0])
            .map(|(level, shift)| level << shift);
        bits.sum::<u16>() as u8
    });
    bytes.collect()
}
