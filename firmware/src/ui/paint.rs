//! Paints a [`Screen`] onto the picture.
//!
//! Everything that matters lies in the middle: televisions hide up to 6 % at each edge.

use core::convert::Infallible;

use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle, RoundedRectangle};

use super::canvas::{Canvas, HEIGHT, WIDTH};
use super::colour::{Colour, palette};
use super::font::Face;
use super::screen::{Button, COLUMNS, Mark, ROWS, Row, Screen, Scroll, Tone, shorten};

/// Left edge of what matters.
const LEFT: i32 = 44;
/// Right edge of what matters: the same distance from the other side.
const RIGHT: i32 = WIDTH as i32 - LEFT;
/// Top of the title.
const TITLE: i32 = 32;
/// The line below the title.
const RULE: i32 = 70;
/// Top of the first row.
const BODY: i32 = 79;
/// Distance between rows.
const PITCH: i32 = 28;
/// Top of the hints.
const HINTS: i32 = 424;

const _: () = assert!(LEFT as u32 + COLUMNS as u32 * Face::Body.width() <= RIGHT as u32);
const _: () = assert!(BODY + ROWS as i32 * PITCH <= HINTS - 8);
const _: () = assert!(HINTS as u32 + Face::Body.height() <= HEIGHT - TITLE as u32);

/// Paints the whole picture.
pub fn paint(screen: &Screen, canvas: &mut Canvas<'_>) {
    match try_paint(screen, canvas) {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

fn try_paint(screen: &Screen, canvas: &mut Canvas<'_>) -> Result<(), Infallible> {
    canvas.fill(palette::BACKGROUND);
    let width = WIDTH as i32;
    area(canvas, 0, 0, width, RULE, palette::PANEL)?;
    area(canvas, 0, RULE, width, 2, palette::ACCENT)?;
    area(
        canvas,
        0,
        HINTS - 8,
        width,
        HEIGHT as i32 - HINTS + 8,
        palette::PANEL,
    )?;

    stick(
        canvas,
        Point::new(LEFT, TITLE + 8),
        palette::ACCENT,
        palette::PANEL,
    )?;
    let status = screen.status.as_str();
    let room = RIGHT - LEFT - 48 - letters(status, Face::Body);
    let title = shorten(
        screen.title.as_str(),
        room as usize / Face::Title.width() as usize,
    );
    canvas.text(
        title.as_str(),
        Point::new(LEFT + 40, TITLE),
        Face::Title,
        palette::ACCENT,
    );
    let at = Point::new(RIGHT - letters(status, Face::Body), TITLE + 6);
    canvas.text(status, at, Face::Body, palette::QUIET);

    for (row, top) in screen.rows.iter().zip((BODY..).step_by(PITCH as usize)) {
        paint_row(row, top, canvas)?;
    }
    if let Some(scroll) = screen.scroll {
        scroll_bar(scroll, canvas)?;
    }
    hints(screen, canvas)
}

/// Width of a text in pixels.
fn letters(text: &str, face: Face) -> i32 {
    text.chars().count() as i32 * face.width() as i32
}

fn area(
    canvas: &mut Canvas<'_>,
    x: i32,
    y: i32,
    width: i32,
    height: i32,
    colour: Colour,
) -> Result<(), Infallible> {
    let size = Size::new(width as u32, height as u32);
    canvas.fill_solid(&Rectangle::new(Point::new(x, y), size), colour)
}

fn rounded(
    canvas: &mut Canvas<'_>,
    rectangle: Rectangle,
    radius: u32,
    colour: Colour,
) -> Result<(), Infallible> {
    RoundedRectangle::with_equal_corners(rectangle, Size::new_equal(radius))
        .into_styled(PrimitiveStyle::with_fill(colour))
        .draw(canvas)
}

fn tone(tone: Tone) -> Colour {
    match tone {
        Tone::Plain => palette::TEXT,
        Tone::Quiet => palette::QUIET,
        Tone::Heading => palette::ACCENT,
        Tone::Good => palette::GOOD,
        Tone::Bad => palette::BAD,
    }
}

fn paint_row(row: &Row, top: i32, canvas: &mut Canvas<'_>) -> Result<(), Infallible> {
    let baseline = top + (PITCH - Face::Body.height() as i32) / 2;
    match row {
        Row::Gap => {}
        Row::Text(text, kind) => {
            canvas.text(
                text.as_str(),
                Point::new(LEFT, baseline),
                Face::Body,
                tone(*kind),
            );
        }
        Row::Item {
            mark,
            text,
            detail,
            selected,
        } => {
            let behind = if *selected {
                let bar = Rectangle::new(
                    Point::new(LEFT - 12, top),
                    Size::new((RIGHT - LEFT + 24) as u32, PITCH as u32),
                );
                rounded(canvas, bar, 6, palette::CURSOR)?;
                area(canvas, LEFT - 12, top + 6, 4, PITCH - 12, palette::ACCENT)?;
                palette::CURSOR
            } else {
                palette::BACKGROUND
            };
            let indent = if *mark == Mark::None { 0 } else { 36 };
            paint_mark(*mark, Point::new(LEFT, top), behind, canvas)?;
            let end = RIGHT - letters(detail.as_str(), Face::Body);
            let quiet = if *selected {
                palette::TEXT
            } else {
                palette::QUIET
            };
            canvas.text(
                detail.as_str(),
                Point::new(end, baseline),
                Face::Body,
                quiet,
            );
            // Two letters between name and detail.
            let room = (end - LEFT - indent) / Face::Body.width() as i32 - 2;
            let text = shorten(text.as_str(), room.max(0) as usize);
            let at = Point::new(LEFT + indent, baseline);
            canvas.text(text.as_str(), at, Face::Body, palette::TEXT);
        }
        Row::Bar { permille } => {
            let width = RIGHT - LEFT;
            let trough = Rectangle::new(
                Point::new(LEFT, top + 4),
                Size::new(width as u32, PITCH as u32 - 8),
            );
            rounded(canvas, trough, 8, palette::TROUGH)?;
            let full = (width * i32::from((*permille).min(1000)) + 999) / 1000;
            if full > 0 {
                // A rounded end needs its room.
                let filled = trough.resized_width(
                    full.max(16) as u32,
                    embedded_graphics::geometry::AnchorX::Left,
                );
                rounded(canvas, filled, 8, palette::ACCENT)?;
            }
        }
    }
    Ok(())
}

/// A stick, plug to the left: 32 x 18 pixels.
fn stick(
    canvas: &mut Canvas<'_>,
    at: Point,
    colour: Colour,
    behind: Colour,
) -> Result<(), Infallible> {
    area(canvas, at.x, at.y + 3, 10, 12, colour)?;
    area(canvas, at.x + 4, at.y + 5, 3, 3, behind)?;
    area(canvas, at.x + 4, at.y + 10, 3, 3, behind)?;
    let body = Rectangle::new(at + Point::new(11, 0), Size::new(19, 18));
    rounded(canvas, body, 4, colour)
}

fn paint_mark(
    mark: Mark,
    corner: Point,
    behind: Colour,
    canvas: &mut Canvas<'_>,
) -> Result<(), Infallible> {
    let (x, y) = (corner.x, corner.y);
    match mark {
        Mark::None => Ok(()),
        Mark::Stick => stick(canvas, Point::new(x, y + 5), palette::TEXT, behind),
        Mark::Volume => {
            // A disc with its hole.
            let disc = Rectangle::new(Point::new(x + 3, y + 3), Size::new_equal(22));
            rounded(canvas, disc, 11, palette::QUIET)?;
            let hole = Rectangle::new(Point::new(x + 11, y + 11), Size::new_equal(6));
            rounded(canvas, hole, 3, behind)
        }
        Mark::Folder => {
            let tab = Rectangle::new(Point::new(x + 2, y + 5), Size::new(11, 8));
            rounded(canvas, tab, 3, palette::ACCENT)?;
            let body = Rectangle::new(Point::new(x + 2, y + 8), Size::new(24, 15));
            rounded(canvas, body, 3, palette::ACCENT)
        }
        Mark::File => {
            area(canvas, x + 5, y + 4, 18, 20, palette::TEXT)?;
            // The folded corner, and two lines of writing.
            for line in 0..6 {
                area(canvas, x + 17 + line, y + 4 + line, 6 - line, 1, behind)?;
            }
            area(canvas, x + 8, y + 13, 12, 2, behind)?;
            area(canvas, x + 8, y + 18, 9, 2, behind)
        }
    }
}

/// At the right edge: which part of a list is shown.
fn scroll_bar(scroll: Scroll, canvas: &mut Canvas<'_>) -> Result<(), Infallible> {
    let (total, shown) = (scroll.total.max(1) as i32, ROWS as i32);
    let height = ROWS as i32 * PITCH;
    let x = RIGHT + 17;
    area(canvas, x, BODY, 4, height, palette::TROUGH)?;
    let thumb = (height * shown / total).clamp(12, height);
    let travel = (scroll.total.saturating_sub(ROWS)).max(1) as i32;
    let top = (height - thumb) * (scroll.first as i32).min(travel) / travel;
    area(canvas, x, BODY + top, 4, thumb, palette::ACCENT)
}

/// What buttons do, each behind a picture of it.
fn hints(screen: &Screen, canvas: &mut Canvas<'_>) -> Result<(), Infallible> {
    let mut x = LEFT;
    for (button, text) in &screen.hints {
        let (colour, label) = match button {
            Button::A => (palette::GOOD, "A"),
            Button::B => (palette::BAD, "B"),
            Button::Start => (palette::QUIET, "START"),
        };
        let width = letters(label, Face::Body) + 13;
        let shape = Rectangle::new(Point::new(x, HINTS - 1), Size::new(width as u32, 26));
        rounded(canvas, shape, 13, colour)?;
        let end = canvas.text(label, Point::new(x + 7, HINTS), Face::Body, palette::INK);
        let end = canvas.text(
            text,
            Point::new(end.x + 14, HINTS),
            Face::Body,
            palette::TEXT,
        );
        x = end.x + 26;
    }
    // Up and down, where there is something to move in.
    if screen
        .rows
        .iter()
        .any(|row| matches!(row, Row::Item { .. }))
        || screen.scroll.is_some()
    {
        let middle = RIGHT - 6;
        for line in 0..6 {
            for y in [HINTS + 4 + line, HINTS + 20 - line] {
                area(canvas, middle - line, y, 2 * line + 1, 1, palette::QUIET)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::ui::canvas::{LINE_WORDS, WORDS};
    use crate::ui::screen::Line;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    fn painted(screen: &Screen) -> Box<[u32; WORDS]> {
        let mut words: Box<[u32; WORDS]> = vec![0xDEAD_BEEF; WORDS].try_into().unwrap();
        paint(screen, &mut Canvas::new(&mut words));
        words
    }

    /// A screen with all that there is, in its greatest length.
    fn full() -> Screen {
        let mut screen = Screen::new("W".repeat(80));
        screen.status = Line::of("two sticks");
        screen.row(Row::Bar { permille: 1000 });
        screen.row(Row::Text(Line::of("W".repeat(COLUMNS)), Tone::Plain));
        while screen.rows.len() < ROWS {
            screen.row(Row::Item {
                mark: Mark::Folder,
                text: Line::of("W".repeat(100)),
                detail: Line::of("1023.9 GiB"),
                selected: screen.rows.len() == 5,
            });
        }
        screen.scroll = Some(Scroll {
            first: 1000,
            total: 1012,
        });
        for button in [Button::A, Button::B, Button::Start] {
            screen.hint(button, "Something");
        }
        screen
    }

    /// Brightness of all pixels of a line.
    fn line(words: &[u32; WORDS], y: usize) -> Vec<u8> {
        let line = &words[y * LINE_WORDS..(y + 1) * LINE_WORDS];
        line.iter()
            .flat_map(|word| word.to_be_bytes())
            .step_by(2)
            .collect()
    }

    #[test]
    fn every_pixel_is_painted() {
        assert!(!painted(&Screen::new("")).contains(&0xDEAD_BEEF));
        assert!(!painted(&full()).contains(&0xDEAD_BEEF));
    }

    #[test]
    fn nothing_that_matters_is_near_an_edge() {
        let words = painted(&full());
        let bright = |pixel: &u8| *pixel > 150;
        for y in 0..HEIGHT as usize {
            let line = line(&words, y);
            // The rule below the title goes from edge to edge.
            if (70..72).contains(&y) {
                continue;
            }
            if !(28..480 - 28).contains(&y) {
                assert!(!line.iter().any(bright), "line {y}");
            }
            let edges = line[..30].iter().chain(&line[640 - 22..]);
            assert!(!edges.into_iter().any(bright), "line {y}");
        }
    }

    #[test]
    fn long_texts_do_not_run_into_their_neighbours() {
        let words = painted(&full());
        // A row with a name and a detail: there is a gap of nothing but background between them.
        let top = (BODY + 7 * PITCH) as usize;
        let gap_start = RIGHT as usize - 10 * 11 - 22;
        for y in top..top + PITCH as usize {
            let line = line(&words, y);
            let gap = &line[gap_start + 2..RIGHT as usize - 10 * 11 - 2];
            assert!(
                gap.iter().all(|&y| y == palette::BACKGROUND.y),
                "line {y}: {gap:?}"
            );
        }
        // The title ends before the status.
        let status = RIGHT as usize - 10 * 11;
        for y in TITLE as usize..TITLE as usize + 32 {
            let gap = &line(&words, y)[status - 8..status - 1];
            assert!(gap.iter().all(|&y| y == palette::PANEL.y), "line {y}");
        }
    }

    #[test]
    fn a_bar_is_as_full_as_it_says() {
        for (permille, filled) in [(0, 0), (1, 16), (500, 276), (1000, 552), (u16::MAX, 552)] {
            let mut screen = Screen::new("");
            screen.row(Row::Bar { permille });
            let words = painted(&screen);
            let middle = line(&words, (BODY + PITCH / 2) as usize);
            let accent = middle.iter().filter(|&&y| y == palette::ACCENT.y).count();
            assert!(accent.abs_diff(filled) <= 1, "{permille}: {accent}");
        }
    }
}
