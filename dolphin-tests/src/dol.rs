//! DOL files, as far as the harness must understand them: to hand over arguments in Dolphin, which boots a
//! file and plays no Homebrew Channel (hardware notes, sections 8.1 and 8.2).

use std::fmt;

/// Bytes of the header, a table of big-endian words.
const HEADER: usize = 0x100;
const TEXT_SECTIONS: usize = 7;
const SECTIONS: usize = 18;
/// Byte positions of the tables and words of the header.
const OFFSETS: usize = 0x00;
const ADDRESSES: usize = 0x48;
const SIZES: usize = 0x90;
const ENTRY: usize = 0xE0;
/// "_arg"
const ARGUMENT_MAGIC: u32 = 0x5F61_7267;
/// Where the Homebrew Channel puts the command line, and how long it may be.
const COMMAND_LINE: u32 = 0x8132_FC00;
const COMMAND_LINE_CAPACITY: usize = 0x400;

/// Why a DOL cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// Shorter than its header, or than a section says.
    Truncated {
        /// Bytes that it should have.
        needed: usize,
        /// Bytes that it has.
        length: usize,
    },
    /// The entry point lies in no text section.
    Entry(u32),
    /// The word after the entry point is not "_arg": the program takes no arguments.
    NoArguments,
    /// All data sections are in use: no room for one more.
    Full,
    /// The command line exceeds the room for it.
    TooLong(usize),
    /// An argument contains a NUL byte.
    Nul,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Truncated { needed, length } => {
                write!(
                    f,
                    "not a DOL: {length} bytes, but its header needs {needed}"
                )
            }
            Self::Entry(address) => write!(f, "entry point {address:#010x} is in no text section"),
            Self::NoArguments => {
                f.write_str("the program takes no arguments (no \"_arg\" after its entry point)")
            }
            Self::Full => f.write_str("no free data section"),
            Self::TooLong(length) => {
                write!(
                    f,
                    "command line of {length} bytes exceeds {COMMAND_LINE_CAPACITY}"
                )
            }
            Self::Nul => f.write_str("an argument contains a NUL byte"),
        }
    }
}

impl std::error::Error for Error {}

/// Joins strings as a command line: each ends in a NUL byte.
///
/// # Errors
/// [`Error::Nul`] or [`Error::TooLong`].
pub fn command_line<S: AsRef<str>>(arguments: &[S]) -> Result<Vec<u8>, Error> {
    let mut line = Vec::new();
    for argument in arguments {
        if argument.as_ref().contains('\0') {
            return Err(Error::Nul);
        }
        line.extend_from_slice(argument.as_ref().as_bytes());
        line.push(0);
    }
    if line.len() > COMMAND_LINE_CAPACITY {
        return Err(Error::TooLong(line.len()));
    }
    Ok(line)
}

/// Returns a copy of `dol` that carries a command line: the argument words filled, and one more data section.
///
/// # Errors
/// See [`Error`].
pub fn with_command_line(dol: &[u8], line: &[u8]) -> Result<Vec<u8>, Error> {
    let mut image = dol.to_vec();
    let entry = word(&image, ENTRY)?;
    let mut entry_offset = None;
    let mut free = None;
    for index in 0..SECTIONS {
        let [offset, address, size] =
            [OFFSETS, ADDRESSES, SIZES].map(|table| word(&image, table + 4 * index).unwrap_or(0));
        if size == 0 {
            if index >= TEXT_SECTIONS {
                free = free.or(Some(index));
            }
            continue;
        }
        let end = offset as usize + size as usize;
        if end > image.len() {
            return Err(Error::Truncated {
                needed: end,
                length: image.len(),
            });
        }
        if index < TEXT_SECTIONS && entry.wrapping_sub(address) < size {
            entry_offset = Some((offset + (entry - address)) as usize);
        }
    }
    let entry_offset = entry_offset.ok_or(Error::Entry(entry))?;
    if word(&image, entry_offset + 4) != Ok(ARGUMENT_MAGIC) {
        return Err(Error::NoArguments);
    }
    let index = free.ok_or(Error::Full)?;
    for (position, value) in [
        (8, ARGUMENT_MAGIC),
        (12, COMMAND_LINE),
        (16, line.len() as u32),
    ] {
        set_word(&mut image, entry_offset + position, value)?;
    }
    put(&mut image, index, COMMAND_LINE, line)?;
    Ok(image)
}

/// Returns a copy of `dol` that has one more data section.
///
/// # Errors
/// See [`Error`].
pub fn with_section(dol: &[u8], address: u32, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut image = dol.to_vec();
    let is_free = |index: &usize| word(dol, SIZES + 4 * index) == Ok(0);
    let index = (TEXT_SECTIONS..SECTIONS).find(is_free).ok_or(Error::Full)?;
    put(&mut image, index, address, bytes)?;
    Ok(image)
}

/// Appends bytes, and makes them the data section `index`.
fn put(image: &mut Vec<u8>, index: usize, address: u32, bytes: &[u8]) -> Result<(), Error> {
    image.resize(image.len().next_multiple_of(32), 0);
    let offset = image.len() as u32;
    image.extend_from_slice(bytes);
    image.resize(image.len().next_multiple_of(32), 0);
    let size = image.len() as u32 - offset;
    for (table, value) in [(OFFSETS, offset), (ADDRESSES, address), (SIZES, size)] {
        set_word(image, table + 4 * index, value)?;
    }
    Ok(())
}

/// Says whether a file can be a DOL at all: a header, an entry point in a text section.
///
/// # Errors
/// See [`Error`].
pub fn check(dol: &[u8]) -> Result<(), Error> {
    match with_command_line(dol, b"") {
        Ok(_) | Err(Error::NoArguments | Error::Full) => Ok(()),
        Err(error) => Err(error),
    }
}

fn word(image: &[u8], position: usize) -> Result<u32, Error> {
    let needed = (position + 4).max(HEADER);
    let truncated = Error::Truncated {
        needed,
        length: image.len(),
    };
    if image.len() < needed {
        return Err(truncated);
    }
    let bytes = image
        .get(position..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(truncated)?;
    Ok(u32::from_be_bytes(*bytes))
}

fn set_word(image: &mut [u8], position: usize, value: u32) -> Result<(), Error> {
    let length = image.len();
    let bytes = image
        .get_mut(position..)
        .and_then(|rest| rest.first_chunk_mut());
    *bytes.ok_or(Error::Truncated {
        needed: position + 4,
        length,
    })? = value.to_be_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One text section at 0x80004000 of 0x40 bytes, entered at its start, with room for arguments.
    fn dol() -> Vec<u8> {
        let mut image = vec![0; HEADER + 0x40];
        for (position, value) in [
            (0, 0x100),
            (0x48, 0x8000_4000),
            (0x90, 0x40),
            (0xE0, 0x8000_4000),
            (0x104, ARGUMENT_MAGIC),
        ] {
            set_word(&mut image, position, value).unwrap();
        }
        image
    }

    #[test]
    fn arguments_fill_the_block_and_come_as_the_first_data_section() {
        let line = command_line(&["boot", "a=1"]).unwrap();
        assert_eq!(line, b"boot\0a=1\0");
        let image = with_command_line(&dol(), &line).unwrap();
        assert_eq!(
            image[0x108..0x114],
            *b"\x5f\x61\x72\x67\x81\x32\xfc\x00\x00\x00\x00\x09"
        );
        assert_eq!(image[0x1C..0x20], [0, 0, 0x01, 0x40]);
        assert_eq!(image[0x64..0x68], [0x81, 0x32, 0xFC, 0x00]);
        assert_eq!(image[0xAC..0xB0], [0, 0, 0, 0x20]);
        assert_eq!(
            image[0x140..],
            *b"boot\0a=1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn a_program_without_the_magic_takes_no_arguments() {
        let mut image = dol();
        image[0x104] = 0;
        assert_eq!(
            with_command_line(&image, b"boot\0"),
            Err(Error::NoArguments)
        );
        assert_eq!(check(&image), Ok(()));
    }

    #[test]
    fn lying_headers_are_refused() {
        assert_eq!(
            check(&[0; 16]),
            Err(Error::Truncated {
                needed: 0x100,
                length: 16
            })
        );
        assert_eq!(
            check(&dol()[..0x120]),
            Err(Error::Truncated {
                needed: 0x140,
                length: 0x120
            })
        );
        let mut image = dol();
        image[0xE0] = 0;
        assert_eq!(check(&image), Err(Error::Entry(0x4000)));
    }

    #[test]
    fn a_command_line_must_fit_and_hold_no_nul() {
        assert_eq!(command_line(&["a\0b"]), Err(Error::Nul));
        assert_eq!(
            command_line(&["x".repeat(0x400)]),
            Err(Error::TooLong(0x401))
        );
    }
}
