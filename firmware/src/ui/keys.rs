//! Keys, wherever they come from, and how a held one repeats.

/// What a person can ask for with one press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// Does what the cursor is on.
    Confirm,
    /// Goes back, or stops what is being done.
    Back,
    /// Leaves the program.
    Start,
    /// The console's eject button.
    Eject,
    /// The console's reset button.
    Reset,
    /// The console's power button.
    Power,
}

/// A button of which only a level is seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Level {
    rest: Option<bool>,
    last: Option<bool>,
}

impl Level {
    /// Makes a button that nobody knows: it rests at the level of the first look.
    pub const fn unknown() -> Self {
        Self {
            rest: None,
            last: None,
        }
    }

    /// Makes a button whose level is this while it is not pressed.
    pub const fn resting(level: bool) -> Self {
        Self {
            rest: Some(level),
            last: None,
        }
    }

    /// Looks at the level, and says whether the button went down since the last look. One that was down from the start must come
    /// up first.
    pub fn went_down(&mut self, level: bool) -> bool {
        let rest = *self.rest.get_or_insert(level);
        self.last.replace(level) == Some(rest) && level != rest
    }
}

/// Time until a held key repeats, and between repetitions, in microseconds.
const DELAY: u64 = 400_000;
const INTERVAL: u64 = 80_000;

/// Turns the state of keys, looked at again and again, into presses.
#[derive(Debug, Default)]
pub struct Keyboard {
    held: Option<(Key, u64)>,
}

impl Keyboard {
    /// Makes a keyboard on which nothing is held.
    pub const fn new() -> Self {
        Self { held: None }
    }

    /// Takes which key is down at a time, in microseconds, and returns a press if there is one: at once
    /// when a key goes down, and again and again while one that moves the cursor is held.
    pub fn press(&mut self, down: Option<Key>, now: u64) -> Option<Key> {
        let Some(key) = down else {
            self.held = None;
            return None;
        };
        match &mut self.held {
            Some((held, next)) if *held == key => {
                let repeats = matches!(key, Key::Up | Key::Down | Key::PageUp | Key::PageDown);
                if !repeats || now < *next {
                    return None;
                }
                // One at a time, however long nobody looked.
                *next = now + INTERVAL;
            }
            _ => self.held = Some((key, now + DELAY)),
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn a_key_counts_once_until_it_is_let_go() {
        let mut keyboard = Keyboard::new();
        let down = Some(Key::Confirm);
        assert_eq!(keyboard.press(down, 0), down);
        assert_eq!(keyboard.press(down, 10_000_000), None);
        assert_eq!(keyboard.press(None, 10_000_001), None);
        assert_eq!(keyboard.press(down, 10_000_002), down);
    }

    #[test]
    fn a_held_arrow_repeats_after_a_while() {
        let mut keyboard = Keyboard::new();
        let down = Some(Key::Down);
        let times = (0..1_000_000).step_by(20_000);
        let presses = times
            .filter(|&now| keyboard.press(down, now) == down)
            .count();
        // At 0, 400 ms, and every 80 ms.
        assert_eq!(presses, 1 + 1 + 7);
    }

    #[test]
    fn another_key_counts_at_once() {
        let mut keyboard = Keyboard::new();
        keyboard.press(Some(Key::Down), 0);
        assert_eq!(keyboard.press(Some(Key::Up), 1), Some(Key::Up));
        assert_eq!(keyboard.press(Some(Key::Back), 2), Some(Key::Back));
    }

    #[test]
    fn a_level_is_a_press_when_it_leaves_its_rest() {
        let levels = [false, true, true, false, true];
        let presses = |mut button: Level| levels.map(|level| button.went_down(level));
        // Down from the start: up, and down again.
        assert_eq!(
            presses(Level::resting(true)),
            [false, false, false, true, false]
        );
        assert_eq!(presses(Level::unknown()), [false, true, false, false, true]);
    }
}
