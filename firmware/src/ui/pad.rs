//! What a GameCube controller says (YAGCD 5.8 and 9.1): the first word of its answer to a poll.

use super::keys::Key;

/// The command that asks a controller for its buttons and its stick, motor off.
pub const POLL: u32 = 0x0040_0300;

/// Set when nobody answered, now or since the last look.
const ERRORS: u32 = 0xC000_0000;

/// Buttons, in the order in which they count when several are down.
const BUTTONS: [(u32, Key); 9] = [
    (0x1000_0000, Key::Start),
    (0x0100_0000, Key::Confirm),
    (0x0200_0000, Key::Back),
    (0x0008_0000, Key::Up),
    (0x0004_0000, Key::Down),
    (0x0001_0000, Key::PageUp),
    (0x0002_0000, Key::PageDown),
    // The shoulder buttons at their clicks.
    (0x0040_0000, Key::PageUp),
    (0x0020_0000, Key::PageDown),
];

/// How far the stick must be pushed to count, of 128; it rests within some 20 of the middle.
const PUSHED: i16 = 56;

/// Returns the key that is down on a controller, from the word that it answered.
pub fn key(word: u32) -> Option<Key> {
    if word & ERRORS != 0 {
        return None;
    }
    let button = BUTTONS.iter().find(|(mask, _)| word & mask != 0);
    if let Some((_, key)) = button {
        return Some(*key);
    }
    let [_, _, x, y] = word.to_be_bytes().map(|byte| i16::from(byte) - 128);
    // A controller that was never moved says that its stick is in a corner: not connected.
    if word & 0xFFFF == 0 {
        None
    } else if y > PUSHED {
        Some(Key::Up)
    } else if y < -PUSHED {
        Some(Key::Down)
    } else if x < -PUSHED {
        Some(Key::PageUp)
    } else if x > PUSHED {
        Some(Key::PageDown)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_have_their_documented_bits() {
        for (word, expected) in [
            (0x0100_8080, Key::Confirm),
            (0x0200_8080, Key::Back),
            (0x1000_8080, Key::Start),
            (0x0008_8080, Key::Up),
            (0x0004_8080, Key::Down),
            (0x0001_8080, Key::PageUp),
            (0x0002_8080, Key::PageDown),
        ] {
            assert_eq!(key(word), Some(expected), "{word:#x}");
        }
        // Bit 23 is always set while the origin is known.
        assert_eq!(key(0x0080_8080), None);
        assert_eq!(key(0x0180_8080), Some(Key::Confirm));
    }

    #[test]
    fn the_stick_moves_too_and_rests_in_the_middle() {
        for (x, y, expected) in [
            (0x80, 0x80, None),
            (0x90, 0x70, None),
            (0x80, 0xE0, Some(Key::Up)),
            (0x80, 0x20, Some(Key::Down)),
            (0x20, 0x80, Some(Key::PageUp)),
            (0xE0, 0x80, Some(Key::PageDown)),
            (0xFF, 0xFF, Some(Key::Up)),
        ] {
            assert_eq!(key(x << 8 | y), expected, "{x:#x} {y:#x}");
        }
    }

    #[test]
    fn nobody_presses_nothing() {
        for word in [0x8000_0000, 0x4000_0000, 0xC100_8080, 0xFFFF_FFFF, 0] {
            assert_eq!(key(word), None, "{word:#x}");
        }
    }
}
