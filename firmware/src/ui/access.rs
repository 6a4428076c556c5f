//! What this machine lets the program do with its USB controller, and what a person can do about it.

use core::fmt::{self, Write};

/// A way to sticks, or the reason why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// This program drives the controller.
    Controller {
        /// Its root ports.
        ports: u8,
        /// Number of the IOS that it was taken from; `None` if none runs.
        ios: Option<u16>,
    },
    /// The sticks are reached through IOS.
    ThroughIos {
        /// Its number.
        ios: u16,
    },
    /// Dolphin: there is no controller, and no way to sticks.
    Dolphin,
    /// The hardware is closed to the program.
    Closed {
        /// Number of the IOS that runs, if one does.
        ios: Option<u16>,
    },
    /// A Wii U in Wii mode.
    WiiU,
    /// The hardware is open, but there is no EHCI controller where a Wii has one.
    NoController {
        /// What its first register holds.
        word: u32,
    },
    /// The controller did not do what it was told.
    Stuck {
        /// What it did not do.
        what: &'static str,
    },
}

/// The IOS that the Homebrew Channel starts programs with.
const USUAL_IOS: u16 = 58;

impl Access {
    /// Says whether sticks can be used.
    pub const fn works(self) -> bool {
        matches!(self, Self::Controller { .. } | Self::ThroughIos { .. })
    }

    /// Returns a few words for the corner of the screen.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Controller { .. } => "USB 2.0",
            Self::ThroughIos { .. } => "USB by IOS",
            Self::Dolphin => "Dolphin",
            Self::Closed { .. } => "no access",
            Self::WiiU => "Wii U",
            Self::NoController { .. } | Self::Stuck { .. } => "no USB",
        }
    }

    /// Returns a headline.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Controller { .. } => "USB is ready",
            Self::ThroughIos { .. } => "USB through IOS",
            Self::Dolphin => "This is Dolphin",
            Self::Closed { .. } => "No access",
            Self::WiiU => "This is a Wii U",
            Self::NoController { .. } => "No USB controller",
            Self::Stuck { .. } => "USB does not start",
        }
    }

    /// Explains it, and says what to do.
    ///
    /// # Errors
    /// Those of `text`.
    pub fn explain(self, text: &mut impl Write) -> fmt::Result {
        match self {
            Self::Controller { ports, ios } => {
                writeln!(text, "This program drives the USB 2.0 controller itself ({ports} ports).")?;
                match ios {
                    None | Some(USUAL_IOS) => Ok(()),
                    Some(ios) => writeln!(
                        text,
                        "It was taken from IOS{ios}; IOS{USUAL_IOS} is what is usual. If anything behaves \
                         oddly, update the Homebrew Channel."
                    ),
                }
            }
            Self::ThroughIos { ios } => writeln!(
                text,
                "Sticks are reached through the console's own USB drivers (IOS{ios}). This is slower than this \
                 program's own."
            ),
            Self::Dolphin => text.write_str(
                "Dolphin imitates a Wii, but not its USB 2.0 controller: the sticks of your computer are out of \
                 reach here.\n\n\
                 # What to do\n\
                 Run this program on a console, or in QEMU:\n\
                 cargo xtask run\n",
            ),
            Self::Closed { ios } => {
                text.write_str("The console keeps its USB controller from programs that did not ask for it.\n")?;
                if let Some(ios) = ios {
                    writeln!(text, "IOS{ios} runs.")?;
                }
                text.write_str(
                    "\n# What to do\n\
                     1. Start this program from the Homebrew Channel, version 1.0.8 or newer.\n\
                     2. Keep the file meta.xml beside boot.dol: it asks for access (<ahb_access/>).\n\
                     3. Other loaders close the access: do not start it from a disc loader or a forwarder.\n",
                )
            }
            Self::WiiU => text.write_str(
                "In the Wii mode of a Wii U the USB hardware is not that of a Wii, and nobody has tried this \
                 program with it. It leaves the hardware alone.\n\n\
                 # What to do\n\
                 Use a Wii.\n",
            ),
            Self::NoController { word } => writeln!(
                text,
                "There is access to the hardware, but no USB 2.0 controller where a Wii has one: its first \
                 register reads {word:#010x}.\n\n\
                 # What to do\n\
                 Turn the console off and on, and try again. If it stays, please report this number to the \
                 project's issue tracker."
            ),
            Self::Stuck { what } => writeln!(
                text,
                "The USB controller {what}.\n\n\
                 # What to do\n\
                 Unplug all USB devices, turn the console off and on, and try again. If it stays, please report \
                 this to the project's issue tracker."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    #[test]
    fn whatever_does_not_work_says_what_to_do() {
        for access in [
            Access::Dolphin,
            Access::Closed { ios: Some(36) },
            Access::Closed { ios: None },
            Access::WiiU,
            Access::NoController { word: 0 },
            Access::Stuck {
                what: "does not stop",
            },
        ] {
            let mut text = String::new();
            access.explain(&mut text).unwrap();
            assert!(!access.works());
            assert!(text.contains("# What to do\n"), "{access:?}");
        }
    }

    #[test]
    fn an_unusual_ios_is_named() {
        let explained = |ios| {
            let mut text = String::new();
            Access::Controller { ports: 4, ios }
                .explain(&mut text)
                .unwrap();
            text
        };
        assert!(explained(Some(36)).contains("IOS36"));
        assert!(!explained(Some(58)).contains("IOS"));
        assert!(!explained(None).contains("IOS"));
    }
}
