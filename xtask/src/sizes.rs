//! What an image is made of: bytes of code, constants and variables, by the crate that they come from.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use object::elf;
use object::read::elf::ElfFile32;
use object::{BigEndian, Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind};

use crate::workspace::Workspace;

/// The most that `boot.dol` may take, in bytes.
pub const DOL_LIMIT: u64 = 400 << 10;
/// The most that the program in it may take when it is unpacked: packing is no reason to grow.
pub const PROGRAM_LIMIT: u64 = 544 << 10;
/// The most memory that its variables and its stack may take, in bytes; frame buffers are not counted.
pub const RAM_LIMIT: u64 = 1 << 20;

/// What has no name in the symbol table: constants, and what aligns things.
const NAMELESS: &str = "constants and padding";
/// What has a name without a crate in it: the start code, and what is called from assembly.
const PLAIN: &str = "plain names";
/// The stack is a section, not a variable.
const STACK: &str = "stack";
/// The variable that holds the pictures.
const FRAME_BUFFERS: &str = "television::PICTURES";

/// Bytes by crate.
pub type ByCrate = BTreeMap<String, u64>;

/// The sizes of `boot.dol`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of the file.
    pub dol: u64,
    /// Of code, constants and variables with initial values: the program before it is packed.
    pub program: ByCrate,
    /// Of variables and stack, with and without initial values.
    pub ram: ByCrate,
    /// Of the frame buffers, which `ram` leaves out.
    pub frame_buffers: u64,
}

impl Sizes {
    /// Measures `target/dol/boot.dol` and the ELF file beside it.
    ///
    /// # Errors
    /// They are not there, or are no images.
    pub fn of_boot(workspace: &Workspace) -> Result<Self> {
        let read = |name: &str| {
            let path = workspace.target("dol").join(name);
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Self::new(read("boot.dol")?.len() as u64, &read("boot.elf")?)
    }

    fn new(dol: u64, elf: &[u8]) -> Result<Self> {
        let elf = ElfFile32::<BigEndian>::parse(elf).context("not a big-endian 32-bit ELF")?;
        let mut sizes = Self {
            dol,
            ..Self::default()
        };
        for section in elf.sections().filter(is_loaded) {
            let (name, size) = (section.name()?, section.size());
            if name == ".stack" {
                *sizes.ram.entry(STACK.to_owned()).or_default() += size;
                continue;
            }
            let in_file = section.kind() != SectionKind::UninitializedData;
            let mut named = 0;
            for symbol in elf.symbols() {
                if symbol.section_index() != Some(section.index()) || symbol.size() == 0 {
                    continue;
                }
                let bytes = symbol.size();
                named += bytes;
                let name = demangled(symbol.name().unwrap_or_default());
                let owner = owner(&name);
                if in_file {
                    *sizes.program.entry(owner.to_owned()).or_default() += bytes;
                }
                if is_written(&section) && name.ends_with(FRAME_BUFFERS) {
                    sizes.frame_buffers += bytes;
                } else if is_written(&section) {
                    *sizes.ram.entry(owner.to_owned()).or_default() += bytes;
                }
            }
            let rest = size.saturating_sub(named);
            if in_file {
                *sizes.program.entry(NAMELESS.to_owned()).or_default() += rest;
            }
            if is_written(&section) {
                *sizes.ram.entry(NAMELESS.to_owned()).or_default() += rest;
            }
        }
        Ok(sizes)
    }

    /// The program before it is packed.
    pub fn program_bytes(&self) -> u64 {
        self.program.values().sum()
    }

    /// The memory that variables and stack take.
    pub fn ram_bytes(&self) -> u64 {
        self.ram.values().sum()
    }

    /// Fails if the image has outgrown its limits.
    ///
    /// # Errors
    /// Names the limit.
    pub fn check(&self) -> Result<()> {
        println!(
            "boot.dol takes {} bytes, {DOL_LIMIT} at most; the program in it {}, {PROGRAM_LIMIT} at most",
            self.dol,
            self.program_bytes()
        );
        println!(
            "its variables and its stack take {} bytes, {RAM_LIMIT} at most",
            self.ram_bytes()
        );
        ensure!(
            self.dol <= DOL_LIMIT,
            "boot.dol takes {} bytes, more than {DOL_LIMIT}",
            self.dol
        );
        let program = self.program_bytes();
        ensure!(
            program <= PROGRAM_LIMIT,
            "the program in boot.dol takes {program} bytes, more than {PROGRAM_LIMIT}"
        );
        let ram = self.ram_bytes();
        ensure!(
            ram <= RAM_LIMIT,
            "variables and stack take {ram} bytes, more than {RAM_LIMIT}"
        );
        Ok(())
    }
}

fn flags<'data>(section: &impl ObjectSection<'data>) -> u64 {
    match section.flags() {
        SectionFlags::Elf { sh_flags } => sh_flags,
        _ => 0,
    }
}

fn is_loaded<'data>(section: &impl ObjectSection<'data>) -> bool {
    // defmt's section is a table for the decoder: it has flags as if it were loaded, and an address that is none.
    flags(section) & u64::from(elf::SHF_ALLOC) != 0 && section.address() != 0
}

fn is_written<'data>(section: &impl ObjectSection<'data>) -> bool {
    flags(section) & u64::from(elf::SHF_WRITE) != 0
}

/// A symbol's name as the source has it.
fn demangled(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// The crate that a name comes from: the first path in it begins with the crate.
fn owner(name: &str) -> &str {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let before = name.split_once("::").map(|(before, _)| before);
    match before.and_then(|before| before.rsplit(|letter| !is_part(letter)).next()) {
        Some(word) if !word.is_empty() => word,
        _ => PLAIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_belong_to_the_crate_that_their_path_begins_with() {
        for (symbol, crate_name) in [
            ("_RNvNtCsbKdQmdK5PpB_8wiistick3wii6RECORD", "wiistick"),
            ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core"),
            (
                "_ZN61_$LT$mem2_dma..error..Error$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE",
                "mem2_dma",
            ),
            (
                "_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE",
                "core",
            ),
            ("memcpy", PLAIN),
        ] {
            assert_eq!(owner(&demangled(symbol)), crate_name, "{symbol}");
        }
    }

    #[test]
    fn an_image_that_has_outgrown_a_limit_fails() {
        let with = |dol, program, ram| Sizes {
            dol,
            program: ByCrate::from([("a".to_owned(), program)]),
            ram: ByCrate::from([("a".to_owned(), ram)]),
            ..Sizes::default()
        };
        assert!(with(DOL_LIMIT, PROGRAM_LIMIT, RAM_LIMIT).check().is_ok());
        assert!(with(DOL_LIMIT + 1, 0, 0).check().is_err());
        assert!(with(0, PROGRAM_LIMIT + 1, 0).check().is_err());
        assert!(with(0, 0, RAM_LIMIT + 1).check().is_err());
    }
}
