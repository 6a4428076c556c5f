//! What can go wrong in the harness itself. A guest that fails is no error here but an
//! [`Outcome`](crate::Outcome).

use std::{fmt, io, path::PathBuf, time::Duration};

/// A failure of the harness or its surroundings.
#[derive(Debug)]
pub enum Error {
    /// A tool or image is not where the environment says, or the environment says nothing.
    Missing {
        /// What it is for.
        what: &'static str,
        /// The environment variable that should name it.
        variable: &'static str,
        /// Where it should be; `None` if the variable is not set.
        path: Option<PathBuf>,
    },
    /// A DOL or ELF file is not what it should be.
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The emulator cannot do what the builder asks for.
    Unsupported(&'static str),
    /// A system call failed.
    Io {
        /// On what, or for what.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The guest's memory could not be reached, or not at this address.
    Memory {
        /// First physical address that is none.
        address: u32,
        /// Bytes wanted from there on.
        length: usize,
    },
    /// QEMU's monitor refused a command or fell silent.
    Qmp {
        /// The command or event.
        command: String,
        /// QEMU's own words, or why there are none.
        reason: String,
    },
    /// The virtual sticks in Dolphin refused a command.
    Sticks {
        /// The command.
        command: String,
        /// The sticks' own words; empty if Dolphin has ended.
        reason: String,
    },
    /// Something expected did not come within this time.
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Missing {
                what,
                variable,
                path: None,
            } => {
                write!(
                    f,
                    "{what}: {variable} is not set; run `cargo xtask test`, which sets it"
                )
            }
            Self::Missing {
                what,
                variable,
                path: Some(path),
            } => {
                write!(
                    f,
                    "{what}: {} ({variable}) does not exist; run `cargo xtask test`",
                    path.display()
                )
            }
            Self::Image { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Unsupported(what) => f.write_str(what),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::Memory { address, length } => {
                write!(
                    f,
                    "no guest memory at physical {address:#010x}, {length} bytes"
                )
            }
            Self::Qmp { command, reason } => write!(f, "QEMU's monitor, {command}: {reason}"),
            Self::Sticks { command, reason } => write!(f, "virtual sticks, {command}: {reason}"),
            Self::Late { what, limit } => write!(f, "{what} did not come within {limit:?}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Says what was tried when a system call fails.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            what: what(),
            source,
        })
    }
}
