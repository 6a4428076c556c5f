//! A defmt message and the ELF file that knows it, both made by hand.

use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

/// The frame of `defmt::info!("sectors: {=u16}", 2048)` with index 1: 01 00 00 08 in rzCOBS, that is the two bytes that are not
/// zero, then one whose bits 0..6 mark the zeros among the first seven, then the separator.
pub const SECTORS: [u8; 4] = [0x01, 0x08, 0b111_0110, 0x00];

/// An ELF file as defmt makes them: symbols of the section `.defmt` are the messages, their addresses the
/// indices.
pub fn elf() -> tempfile::NamedTempFile {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::PowerPc, Endianness::Big);
    let section = object.add_section(Vec::new(), b".defmt".to_vec(), SectionKind::Metadata);
    object.append_section_data(section, &[0; 16], 1);
    let message = r#"{"package":"p","tag":"defmt_info","data":"sectors: {=u16}","disambiguator":"0","crate_name":"p"}"#;
    for (value, name, section) in [
        (1, message, SymbolSection::Section(section)),
        (0, "_defmt_version_ = 4", SymbolSection::Absolute),
        (0, "_defmt_encoding_ = rzcobs", SymbolSection::Absolute),
    ] {
        object.add_symbol(Symbol {
            name: name.as_bytes().to_vec(),
            value,
            size: 1,
            kind: SymbolKind::Data,
            scope: SymbolScope::Linkage,
            weak: false,
            section,
            flags: SymbolFlags::None,
        });
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.write().unwrap()).unwrap();
    file
}
