//! What a USB keyboard in boot protocol says: codes of the keys that are down (HID 1.11, appendix B; HID
//! usage tables, section 10).

use super::keys::Key;

/// Keys, in the order in which they count when several are down.
const KEYS: [(u8, Key); 12] = [
    (0x28, Key::Confirm),  // Enter
    (0x58, Key::Confirm),  // Enter of the keypad
    (0x2C, Key::Confirm),  // Space
    (0x29, Key::Back),     // Escape
    (0x2A, Key::Back),     // Backspace
    (0x4A, Key::Start),    // Home
    (0x52, Key::Up),       // Up arrow
    (0x51, Key::Down),     // Down arrow
    (0x4B, Key::PageUp),   // Page up
    (0x50, Key::PageUp),   // Left arrow
    (0x4E, Key::PageDown), // Page down
    (0x4F, Key::PageDown), // Right arrow
];

/// Returns the key that is down, from the codes of a report; codes 1 to 3 say that the keyboard does not
/// know.
pub fn key(codes: &[u8]) -> Option<Key> {
    let down = KEYS.iter().find(|(code, _)| codes.contains(code));
    down.map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_codes_of_the_usage_tables() {
        for (code, expected) in [
            (40, Key::Confirm),
            (41, Key::Back),
            (79, Key::PageDown),
            (80, Key::PageUp),
            (81, Key::Down),
            (82, Key::Up),
            (74, Key::Start),
        ] {
            assert_eq!(key(&[0, 0, code, 0, 0, 0]), Some(expected));
        }
    }

    #[test]
    fn other_keys_and_none_are_nothing() {
        assert_eq!(key(&[0; 6]), None);
        assert_eq!(key(&[4, 5, 6, 7, 8, 9]), None);
        assert_eq!(key(&[1; 6]), None);
        assert_eq!(key(&[]), None);
    }
}
