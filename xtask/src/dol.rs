//! DOL, the executable format of GameCube and Wii: what the Homebrew Channel and Dolphin load.
//!
//! A header of 0x100 bytes of big-endian words, then the sections' bytes (hardware notes, section
//! 8.1): offsets of 7 text and 11 data sections, their addresses, their sizes, address and size of
//! .bss, entry point.

mod pack;

pub use pack::pack;

use anyhow::{Context, Result, bail, ensure};
use object::elf;
use object::read::elf::ElfFile32;
use object::{BigEndian, Object, ObjectSection, ObjectSegment, SectionFlags, SegmentFlags};

/// Bytes of the header.
pub const HEADER: usize = 0x100;
/// Most text sections.
const TEXTS: usize = 7;
/// Most data sections.
const DATAS: usize = 11;
/// Where the header keeps the addresses of the sections, their sizes, and the rest.
const ADDRESSES: usize = 0x48;
const SIZES: usize = 0x90;
const BSS: usize = 0xD8;
const ENTRY: usize = 0xE0;

/// Sections start at multiples of this, in the file and in memory.
const ALIGNMENT: u32 = 32;

/// What may be loaded: from where the linker script starts, well above the reload stub at
/// 0x80001800..0x80003000, to where the Homebrew Channel's command line starts.
const LOADABLE: std::ops::Range<u32> = 0x8000_4000..0x8132_FC00;

/// A program in memory's terms.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dol {
    /// Executable sections.
    pub texts: Vec<Section>,
    /// Other sections with contents.
    pub datas: Vec<Section>,
    /// Address and length of the memory that the program clears at its start.
    pub bss: (u32, u32),
    /// Address of the first instruction.
    pub entry: u32,
}

/// Bytes and where they go.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Effective address of the first byte.
    pub address: u32,
    /// Contents, padded to a multiple of 32 bytes.
    pub bytes: Vec<u8>,
}

impl Dol {
    /// Converts a linked program.
    ///
    /// # Errors
    /// The file is not a big-endian 32-bit ELF executable, or it does not fit the format, or it
    /// wants to be loaded where the Homebrew Channel does not load.
    pub fn from_elf(file: &[u8]) -> Result<Self> {
        let elf = ElfFile32::<BigEndian>::parse(file).context("not a big-endian 32-bit ELF")?;
        let mut dol = Self {
            entry: u32::try_from(elf.entry()).context("entry point beyond 32 bits")?,
            ..Self::default()
        };
        for segment in elf.segments() {
            let bytes = segment.data().context("truncated segment")?;
            if bytes.is_empty() {
                continue;
            }
            let section = Section::new(u32::try_from(segment.address())?, bytes)?;
            let SegmentFlags::Elf { p_flags, .. } = segment.flags() else {
                bail!("a segment without ELF flags");
            };
            if p_flags & elf::PF_X != 0 {
                dol.texts.push(section);
            } else {
                dol.datas.push(section);
            }
        }
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags } = section.flags() else {
                continue;
            };
            // The stack is no part of it: nobody clears it, and on the console the range might be
            // cleared by a loader that still uses it.
            if sh_flags & u64::from(elf::SHF_ALLOC) != 0 && section.name()? == ".bss" {
                dol.bss = (
                    u32::try_from(section.address())?,
                    u32::try_from(section.size())?,
                );
            }
        }
        dol.check()?;
        Ok(dol)
    }

    /// Checks the rules that the loaders rely on.
    fn check(&self) -> Result<()> {
        ensure!(
            self.texts.len() <= TEXTS && self.datas.len() <= DATAS,
            "a DOL has room for {TEXTS} text and {DATAS} data sections, not for {} and {}",
            self.texts.len(),
            self.datas.len()
        );
        let mut ranges = Vec::new();
        for section in self.texts.iter().chain(&self.datas) {
            ensure!(
                section.address.is_multiple_of(ALIGNMENT),
                "the section at {:#010x} is not aligned to {ALIGNMENT} bytes",
                section.address
            );
            ranges.push((section.address, section.bytes.len()));
        }
        if self.bss.1 != 0 {
            ranges.push((self.bss.0, self.bss.1 as usize));
        }
        ranges.sort_unstable();
        for &(address, length) in &ranges {
            let end = u64::from(address) + length as u64;
            ensure!(
                address >= LOADABLE.start && end <= u64::from(LOADABLE.end),
                "{address:#010x}..{end:#010x} is outside {:#010x}..{:#010x}, which the Homebrew Channel loads",
                LOADABLE.start,
                LOADABLE.end
            );
        }
        for pair in ranges.windows(2) {
            let end = u64::from(pair[0].0) + pair[0].1 as u64;
            ensure!(
                end <= u64::from(pair[1].0),
                "the sections at {:#010x} and {:#010x} overlap",
                pair[0].0,
                pair[1].0
            );
        }
        ensure!(
            self.texts.iter().any(|text| text.contains(self.entry)),
            "the entry point {:#010x} is in no text section",
            self.entry
        );
        Ok(())
    }

    /// Returns the file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = vec![0; HEADER];
        let texts = self.texts.iter().enumerate();
        let datas = self
            .datas
            .iter()
            .enumerate()
            .map(|(i, data)| (TEXTS + i, data));
        for (slot, section) in texts.chain(datas) {
            let offset = file.len() as u32;
            put(&mut file, 4 * slot, offset);
            put(&mut file, ADDRESSES + 4 * slot, section.address);
            put(&mut file, SIZES + 4 * slot, section.bytes.len() as u32);
            file.extend_from_slice(&section.bytes);
        }
        put(&mut file, BSS, self.bss.0);
        put(&mut file, BSS + 4, self.bss.1);
        put(&mut file, ENTRY, self.entry);
        file
    }
}

impl Section {
    fn new(address: u32, bytes: &[u8]) -> Result<Self> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
        u32::try_from(bytes.len()).context("a section of more than 4 GiB")?;
        Ok(Self { address, bytes })
    }

    fn contains(&self, address: u32) -> bool {
        address
            .checked_sub(self.address)
            .is_some_and(|offset| (offset as usize) < self.bytes.len())
    }
}

fn put(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
