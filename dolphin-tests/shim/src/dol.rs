//! Loads a DOL and hands over its arguments, as the Homebrew Channel does
//! (hardware notes, sections 8.1 and 8.2). Nothing in the file is believed.

use crate::layout;
use core::{fmt, ops::Range};

/// Bytes of a DOL header; all its fields are big-endian words.
pub const HEADER: u32 = 0x100;
const SECTIONS: usize = 18;
/// Sections that hold code come first.
const TEXT_SECTIONS: usize = 7;
/// "_arg": marks a program that takes arguments, and the block that carries them.
const ARGUMENT_MAGIC: u32 = 0x5F61_7267;
/// Tells the program that the address map is in place.
const MAP_READY: &[u8] = b"map=ready\0";

/// What is wrong with the file or its arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// A section lies outside the file's room in RAM.
    Source {
        section: usize,
        offset: u32,
        size: u32,
    },
    /// A section goes where the Homebrew Channel would not load it.
    Target {
        section: usize,
        address: u32,
        size: u32,
    },
    /// The bss range is outside the room for programs.
    Bss { address: u32, size: u32 },
    /// The entry point is not in a text section, or not aligned to an instruction.
    Entry { address: u32 },
    /// The arguments with `map=ready` exceed the room for the command line.
    CommandLine { length: u32 },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let room = layout::PROGRAM..layout::COMMAND_LINE;
        match *self {
            Self::Source {
                section,
                offset,
                size,
            } => {
                write!(
                    f,
                    "section {section} is outside the file: offset {offset:#x}, {size:#x} bytes"
                )
            }
            Self::Target {
                section,
                address,
                size,
            } => {
                write!(
                    f,
                    "section {section} at {address:#010x}, {size:#x} bytes, is outside {room:#x?}"
                )
            }
            Self::Bss { address, size } => {
                write!(
                    f,
                    "bss at {address:#010x}, {size:#x} bytes, is outside {room:#x?}"
                )
            }
            Self::Entry { address } => {
                write!(f, "entry point {address:#010x} is not in a text section")
            }
            Self::CommandLine { length } => write!(
                f,
                "command line of {length} bytes exceeds {} bytes",
                layout::COMMAND_LINE_CAPACITY
            ),
        }
    }
}

/// A checked DOL header.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Offset in the file, effective address and size of each section in use.
    pub sections: [Section; SECTIONS],
    /// Effective addresses to clear before the sections are copied.
    pub bss: Range<u32>,
    /// Effective address of the entry point.
    pub entry: u32,
}

/// One section; a `size` of 0 means unused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Section {
    pub offset: u32,
    pub address: u32,
    pub size: u32,
}

/// Checks a header; the file may take up to `room` bytes.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(header: &[u32; HEADER as usize / 4], room: u32) -> Result<Program, Error> {
    let [bss_address, bss_size, entry] = [header[0x36], header[0x37], header[0x38]];
    let mut sections = [Section::default(); SECTIONS];
    for (index, section) in sections.iter_mut().enumerate() {
        let [offset, address, size] = [0, 0x12, 0x24].map(|table| header[table + index]);
        if size == 0 {
            continue;
        }
        if offset < HEADER || offset.checked_add(size).is_none_or(|end| end > room) {
            return Err(Error::Source {
                section: index,
                offset,
                size,
            });
        }
        if !in_program(address, size) {
            return Err(Error::Target {
                section: index,
                address,
                size,
            });
        }
        *section = Section {
            offset,
            address,
            size,
        };
    }
    if bss_size != 0 && !in_program(bss_address, bss_size) {
        return Err(Error::Bss {
            address: bss_address,
            size: bss_size,
        });
    }
    let enters = |text: &Section| entry.wrapping_sub(text.address) < text.size;
    if !entry.is_multiple_of(4) || !sections[..TEXT_SECTIONS].iter().any(enters) {
        return Err(Error::Entry { address: entry });
    }
    Ok(Program {
        sections,
        bss: bss_address..bss_address.wrapping_add(bss_size),
        entry,
    })
}

fn in_program(address: u32, size: u32) -> bool {
    address >= layout::PROGRAM
        && address
            .checked_add(size)
            .is_some_and(|end| end <= layout::COMMAND_LINE)
}

/// Loads the DOL that the harness left at [`layout::DOL`] and returns its entry point.
///
/// # Errors
/// See [`Error`]. Nothing has been written then.
#[cfg(target_os = "none")]
pub fn load() -> Result<u32, Error> {
    let file = layout::MEM1_CACHED + layout::DOL;
    // SAFETY: the blob of the harness, in RAM that nothing else uses.
    let header = unsafe { &*(file as *const [u32; HEADER as usize / 4]) };
    let program = check(header, layout::DOL_END - layout::DOL)?;
    let command_line = command_line_length()?;
    // SAFETY: `check` has confined every target to RAM that belongs to the program,
    // which is not running yet and is disjoint from the file.
    unsafe {
        // First, since the bss range of some DOLs spans data sections.
        core::ptr::write_bytes(program.bss.start as *mut u8, 0, program.bss.len());
        for section in &program.sections {
            let source = (file + section.offset) as *const u8;
            core::ptr::copy_nonoverlapping(
                source,
                section.address as *mut u8,
                section.size as usize,
            );
        }
    }
    // No cache maintenance: this machine has no caches.
    hand_over_arguments(program.entry, command_line);
    Ok(program.entry)
}

/// Length of the harness's strings, once checked.
#[cfg(target_os = "none")]
fn command_line_length() -> Result<u32, Error> {
    let block = (layout::MEM1_CACHED + layout::ARGUMENTS) as *const u32;
    // SAFETY: RAM that only the harness has written.
    let (magic, length) = unsafe { (block.read(), block.add(1).read()) };
    let length = if magic == layout::ARGUMENTS_MAGIC {
        length
    } else {
        0
    };
    if length > layout::COMMAND_LINE_CAPACITY - MAP_READY.len() as u32 {
        return Err(Error::CommandLine { length });
    }
    Ok(length)
}

/// Fills the argument block behind the entry point of a program that has one.
#[cfg(target_os = "none")]
fn hand_over_arguments(entry: u32, length: u32) {
    let strings = (layout::MEM1_CACHED + layout::ARGUMENTS + 8) as *const u8;
    let target = layout::COMMAND_LINE as *mut u8;
    let entry = entry as *mut u32;
    // SAFETY: the strings and `MAP_READY` fit, as checked. The words after the entry point are RAM that is the
    // program's: its sections end below the command line.
    unsafe {
        if entry.add(1).read() != ARGUMENT_MAGIC {
            return;
        }
        core::ptr::copy_nonoverlapping(strings, target, length as usize);
        core::ptr::copy_nonoverlapping(
            MAP_READY.as_ptr(),
            target.add(length as usize),
            MAP_READY.len(),
        );
        entry.add(2).write(ARGUMENT_MAGIC);
        entry.add(3).write(layout::COMMAND_LINE);
        entry.add(4).write(length + MAP_READY.len() as u32);
    }
}
