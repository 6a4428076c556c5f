//! The way to USB sticks that this machine offers, and what a person can do about one that it does not.

use core::fmt::{self, Write};

/// A way to sticks, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// This program drives the USB 2.0 controller.
    Controller {
        /// Its root ports.
        ports: u8,
        /// Number of the IOS that it was taken from; `None` if none runs.
        ios: Option<u16>,
    },
    /// Sticks are reached through IOS, since something stands in the way of the controller.
    ThroughIos {
        /// Number of the IOS.
        ios: u16,
        /// What it is.
        obstacle: Obstacle,
    },
    /// There is no way.
    None(Obstacle),
}

/// What stands in the way of the USB 2.0 controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Dolphin has no such controller.
    Dolphin,
    /// The hardware is closed to the program.
    Closed,
    /// This is a Wii U in Wii mode.
    WiiU,
    /// The hardware is open, but there is no EHCI controller where a Wii has one.
    NoController {
        /// What its first register holds.
        word: u32,
    },
    /// The controller did not do what it was told.
    Stuck {
        /// What it did not do: the end of a sentence.
        what: &'static str,
    },
}

/// The IOS that the Homebrew Channel starts programs with.
const USUAL_IOS: u16 = 58;

impl Access {
    /// Says whether sticks can be used.
    pub const fn works(self) -> bool {
        !matches!(self, Self::None(_))
    }

    /// Returns what stands in the way of the best way, if something does.
    pub const fn obstacle(self) -> Option<Obstacle> {
        match self {
            Self::Controller { .. } => None,
            Self::ThroughIos { obstacle, .. } | Self::None(obstacle) => Some(obstacle),
        }
    }

    /// Returns a few words for the corner of the screen.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Controller { .. } => "USB 2.0",
            Self::ThroughIos { .. } => "USB by IOS",
            Self::None(_) => "no USB",
        }
    }

    /// Returns a headline.
    pub const fn title(self) -> &'static str {
        match self.obstacle() {
            None => "USB is ready",
            Some(Obstacle::Dolphin) => "This is Dolphin",
            Some(Obstacle::Closed) => "The hardware is closed",
            Some(Obstacle::WiiU) => "This is a Wii U",
            Some(Obstacle::NoController { .. }) => "No USB 2.0 controller",
            Some(Obstacle::Stuck { .. }) => "USB 2.0 does not start",
        }
    }

    /// Explains it, and says what to do.
    ///
    /// # Errors
    /// Those of `text`.
    pub fn explain(self, text: &mut impl Write) -> fmt::Result {
        match self {
            Self::Controller { ports, ios } => {
                writeln!(
                    text,
                    "This program drives the USB 2.0 controller itself ({ports} ports)."
                )?;
                match ios {
                    None | Some(USUAL_IOS) => Ok(()),
                    Some(ios) => writeln!(
                        text,
                        "It was taken from IOS{ios}; IOS{USUAL_IOS} is usual. If anything behaves oddly, update \
                         the Homebrew Channel."
                    ),
                }
            }
            Self::ThroughIos { ios, obstacle } => {
                obstacle.explain(text)?;
                writeln!(
                    text,
                    "\n+ Sticks work all the same, if slower: through the console's own drivers (IOS{ios})."
                )?;
                obstacle.advise(text)
            }
            Self::None(obstacle) => {
                obstacle.explain(text)?;
                writeln!(text, "\n! There is no way to USB sticks.")?;
                obstacle.advise(text)
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dolphin => f.write_str("no EHCI controller: Dolphin has none"),
            Self::Closed => f.write_str("the hardware is closed to this program"),
            Self::WiiU => f.write_str("a Wii U's hardware is left alone"),
            Self::NoController { word } => {
                write!(
                    f,
                    "no EHCI controller: its first register reads {word:#010x}"
                )
            }
            Self::Stuck { what } => write!(f, "the EHCI controller {what}"),
        }
    }
}

impl Obstacle {
    fn explain(self, text: &mut impl Write) -> fmt::Result {
        match self {
            Self::Dolphin => {
                writeln!(
                    text,
                    "Dolphin imitates a Wii, but not its USB 2.0 controller."
                )
            }
            Self::Closed => writeln!(
                text,
                "The console keeps its USB 2.0 controller from programs that did not ask for it."
            ),
            Self::WiiU => writeln!(
                text,
                "In the Wii mode of a Wii U the USB hardware is not that of a Wii, and nobody has tried this \
                 program with it. It leaves the hardware alone."
            ),
            Self::NoController { word } => writeln!(
                text,
                "The hardware is open, but no USB 2.0 controller answers: its first register reads {word:#010x}."
            ),
            Self::Stuck { what } => writeln!(text, "The USB 2.0 controller {what}."),
        }
    }

    fn advise(self, text: &mut impl Write) -> fmt::Result {
        text.write_str("\n# What to do\n")?;
        text.write_str(match self {
            Self::Dolphin => {
                "Pass a stick through in Dolphin's settings, or run this program on a console, or in QEMU: cargo \
                 xtask run\n"
            }
            Self::Closed => {
                "1. Start this program from the Homebrew Channel, version 1.0.8 or newer.\n\
                 2. Keep the file meta.xml beside boot.dol: it asks for the hardware (<ahb_access/>).\n\
                 3. Do not start it from a disc loader or a forwarder: they close the hardware again.\n"
            }
            Self::WiiU => "Use a Wii.\n",
            Self::NoController { .. } => {
                "Turn the console off and on, and try again. If it stays, please report this number to the \
                 project's issue tracker.\n"
            }
            Self::Stuck { .. } => {
                "Unplug all USB devices, turn the console off and on, and try again. If it stays, please report \
                 it to the project's issue tracker.\n"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    fn explained(access: Access) -> String {
        let mut text = String::new();
        access.explain(&mut text).unwrap();
        text
    }

    #[test]
    fn whatever_is_in_the_way_says_what_to_do() {
        for obstacle in [
            Obstacle::Dolphin,
            Obstacle::Closed,
            Obstacle::WiiU,
            Obstacle::NoController { word: 0xDEAD_BEEF },
            Obstacle::Stuck {
                what: "does not stop",
            },
        ] {
            for access in [
                Access::None(obstacle),
                Access::ThroughIos { ios: 36, obstacle },
            ] {
                let text = explained(access);
                assert!(text.contains("\n# What to do\n"), "{access:?}");
                assert_eq!(text.contains("IOS36"), access.works());
                assert_ne!(text.contains("no way"), access.works());
            }
        }
        let numbered = Access::None(Obstacle::NoController { word: 0xDEAD_BEEF });
        assert!(explained(numbered).contains("0xdeadbeef"));
    }

    #[test]
    fn an_unusual_ios_is_named() {
        let controller = |ios| explained(Access::Controller { ports: 4, ios });
        assert!(controller(Some(36)).contains("IOS36"));
        assert!(!controller(Some(58)).contains("IOS"));
        assert!(!controller(None).contains("IOS"));
    }
}
