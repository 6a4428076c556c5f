//! Packs a program: into a DOL that begins with the unpacker, which finds the program behind itself.

use anyhow::{Context, Result, ensure};
use miniz_oxide::deflate::compress_to_vec_zlib;
use object::read::elf::ElfFile32;
use object::{BigEndian, Object, ObjectSymbol};

use super::{Dol, Section};

/// Where the unpacker's linker script says that the packed program goes.
const PACKED: &str = "__packed";
/// The slowest compression, and the smallest result.
const LEVEL: u8 = 10;

/// Packs `program`. `unpacker` is the linked unpacker.
///
/// # Errors
/// The unpacker is not what it should be, the two overlap in memory, or the program is not entered at its first word.
pub fn pack(program: &Dol, unpacker: &[u8]) -> Result<Dol> {
    let elf = ElfFile32::<BigEndian>::parse(unpacker).context("not a big-endian 32-bit ELF")?;
    let symbol = elf.symbols().find(|symbol| symbol.name() == Ok(PACKED));
    let symbol = symbol.with_context(|| format!("the unpacker has no {PACKED}"))?;
    pack_at(
        program,
        Dol::from_elf(unpacker)?,
        u32::try_from(symbol.address())?,
    )
}

/// Packs a program into the DOL of the unpacker, for which it has to be at `address`.
pub(super) fn pack_at(program: &Dol, mut unpacker: Dol, address: u32) -> Result<Dol> {
    let memory = program.memory()?;
    ensure!(
        program.entry == memory.address,
        "the program is entered at {:#010x}, not at its first word",
        program.entry
    );
    let packed = compress_to_vec_zlib(&memory.bytes, LEVEL);
    // As the unpacker's structure of that name says.
    let header = [
        memory.address,
        memory.bytes.len() as u32,
        packed.len() as u32,
    ];
    let mut bytes: Vec<u8> = header.map(u32::to_be_bytes).concat();
    bytes.extend(packed);
    unpacker.datas.push(Section::new(address, &bytes)?);
    // For loaders that clear it.
    unpacker.bss = program.bss;
    // As if it was loaded beside the unpacker, into which it must not reach.
    unpacker.datas.push(memory);
    unpacker.check()?;
    unpacker.datas.pop();
    Ok(unpacker)
}

impl Dol {
    /// Returns all sections as one, with zeros between them.
    fn memory(&self) -> Result<Section> {
        let sections = || self.texts.iter().chain(&self.datas);
        let address = sections().map(|section| section.address).min();
        let address = address.context("the program is empty")?;
        let mut bytes = Vec::new();
        for section in sections() {
            let start = (section.address - address) as usize;
            let end = start + section.bytes.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(&section.bytes);
        }
        Section::new(address, &bytes)
    }
}
