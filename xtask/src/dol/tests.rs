use super::pack::pack_at;
use super::*;

impl Dol {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// The file is cut off, or breaks a rule of the format.
    fn parse(file: &[u8]) -> Result<Self> {
        ensure!(file.len() >= HEADER, "a DOL has a header of {HEADER} bytes");
        let mut dol = Self {
            bss: (word(file, BSS), word(file, BSS + 4)),
            entry: word(file, ENTRY),
            ..Self::default()
        };
        for slot in 0..TEXTS + DATAS {
            let (offset, size) = (word(file, 4 * slot), word(file, SIZES + 4 * slot));
            if size == 0 {
                continue;
            }
            let bytes = file
                .get(offset as usize..offset as usize + size as usize)
                .with_context(|| format!("section {slot} reaches past the end of the file"))?;
            let section = Section::new(word(file, ADDRESSES + 4 * slot), bytes)?;
            if slot < TEXTS {
                dol.texts.push(section);
            } else {
                dol.datas.push(section);
            }
        }
        dol.check()?;
        Ok(dol)
    }
}

fn word(file: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]])
}

/// The smallest useful program: a branch to itself, four bytes of data, some .bss.
fn small() -> Dol {
    Dol {
        texts: vec![Section::new(0x8000_4000, &[0x48, 0, 0, 0]).unwrap()],
        datas: vec![Section::new(0x8000_4020, &[1, 2, 3, 4]).unwrap()],
        bss: (0x8000_4040, 0x60),
        entry: 0x8000_4000,
    }
}

/// A 32-bit big-endian ELF with the given program headers (flags, address, contents, length in
/// memory) and sections (name, flags, address, size).
fn elf(segments: &[(u32, u32, &[u8], u32)], sections: &[(&str, u32, u32, u32)]) -> Vec<u8> {
    let mut contents = Vec::new();
    let mut headers = Vec::new();
    let start = 52 + 32 * segments.len();
    for &(flags, address, bytes, memory) in segments {
        let offset = (start + contents.len()) as u32;
        contents.extend_from_slice(bytes);
        let words = [
            1,
            offset,
            address,
            address,
            bytes.len() as u32,
            memory,
            flags,
            32,
        ];
        headers.extend(words.iter().flat_map(|word: &u32| word.to_be_bytes()));
    }
    let mut names = vec![0];
    let mut table = vec![0; 40];
    for &(name, flags, address, size) in sections {
        let words = [names.len() as u32, 8, flags, address, 0, size, 0, 0, 32, 0];
        table.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        names.extend_from_slice(name.as_bytes());
        names.push(0);
    }
    let names_at = start + contents.len();
    let words = [0, 3, 0, 0, names_at as u32, names.len() as u32, 0, 0, 1, 0];
    table.extend(words.iter().flat_map(|word: &u32| word.to_be_bytes()));

    let mut file = b"\x7fELF\x01\x02\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([0, 2, 0, 20, 0, 0, 0, 1]);
    let table_at = (names_at + names.len()) as u32;
    for word in [0x8000_4000, 52, table_at, 0] {
        file.extend(word.to_be_bytes());
    }
    let count = sections.len() as u16 + 2;
    for half in [52, 32, segments.len() as u16, 40, count, count - 1] {
        file.extend(half.to_be_bytes());
    }
    file.extend([headers, contents, names, table].concat());
    file
}

const TEXT: (u32, u32, &[u8], u32) = (5, 0x8000_4000, &[0x48, 0, 0, 0], 4);

#[test]
fn the_header_has_the_documented_bytes() {
    let file = small().to_bytes();
    assert_eq!(file.len(), 0x140);
    let at = |offset: usize| &file[offset..offset + 4];
    assert_eq!(at(0x00), [0, 0, 1, 0], "offset of text 0");
    assert_eq!(at(0x04), [0, 0, 0, 0], "no text 1");
    assert_eq!(at(0x1C), [0, 0, 1, 0x20], "offset of data 0");
    assert_eq!(at(0x48), [0x80, 0, 0x40, 0], "address of text 0");
    assert_eq!(at(0x64), [0x80, 0, 0x40, 0x20], "address of data 0");
    assert_eq!(at(0x90), [0, 0, 0, 0x20], "size of text 0");
    assert_eq!(at(0xAC), [0, 0, 0, 0x20], "size of data 0");
    assert_eq!(at(0xD8), [0x80, 0, 0x40, 0x40], "address of .bss");
    assert_eq!(at(0xDC), [0, 0, 0, 0x60], "size of .bss");
    assert_eq!(at(0xE0), [0x80, 0, 0x40, 0], "entry");
    assert!(file[0xE4..0x100].iter().all(|&byte| byte == 0));
    assert_eq!(file[0x100..0x104], [0x48, 0, 0, 0]);
    assert_eq!(file[0x120..0x124], [1, 2, 3, 4]);
}

#[test]
fn what_was_written_reads_back_the_same() {
    assert_eq!(Dol::parse(&small().to_bytes()).unwrap(), small());
}

#[test]
fn an_elf_becomes_texts_datas_and_bss_without_the_stack() {
    let file = elf(
        &[TEXT, (6, 0x8000_4020, &[1, 2, 3, 4], 0x40_000)],
        &[
            (".bss", 3, 0x8000_4040, 0x60),
            (".stack", 3, 0x8002_0000, 0x2_0000),
        ],
    );
    assert_eq!(Dol::from_elf(&file).unwrap(), small());
}

#[test]
fn a_section_that_is_not_loaded_is_no_bss() {
    let file = elf(&[TEXT], &[(".bss", 0, 0x1234, 0x60)]);
    assert_eq!(Dol::from_elf(&file).unwrap().bss, (0, 0));
}

#[test]
fn an_image_in_the_window_of_the_reload_stub_is_refused() {
    let mut dol = small();
    dol.datas[0].address = 0x8000_1800;
    assert!(dol.check().unwrap_err().to_string().contains("0x80001800"));
    dol.datas[0].address = 0x8000_3FE0;
    assert!(dol.check().is_err());
}

#[test]
fn an_image_in_the_area_of_the_command_line_is_refused() {
    let mut dol = small();
    dol.datas[0].address = 0x8132_FBE0;
    assert!(dol.check().is_ok(), "the last 32 bytes before it are free");
    dol.datas[0].address = 0x8132_FC00;
    assert!(dol.check().is_err());
    dol.datas.clear();
    dol.bss = (0x8132_FBE0, 0x40);
    assert!(dol.check().is_err(), ".bss counts too");
    dol.bss = (0xFFFF_FFE0, 0x40);
    assert!(dol.check().is_err(), "and does not wrap around");
}

#[test]
fn mem2_is_refused_because_the_homebrew_channel_does_not_load_there() {
    let file = elf(&[TEXT, (6, 0x9000_0800, &[1], 1)], &[]);
    assert!(
        Dol::from_elf(&file)
            .unwrap_err()
            .to_string()
            .contains("0x90000800")
    );
}

#[test]
fn sections_that_overlap_are_refused() {
    let mut dol = small();
    dol.bss.0 = 0x8000_4020;
    assert!(dol.check().unwrap_err().to_string().contains("overlap"));
}

#[test]
fn a_section_that_is_not_aligned_is_refused() {
    let mut dol = small();
    dol.bss = (0, 0);
    dol.datas[0].address = 0x8000_4024;
    assert!(dol.check().unwrap_err().to_string().contains("aligned"));
}

#[test]
fn more_sections_than_the_header_has_room_for_are_refused() {
    let mut dol = small();
    dol.datas = (1..=12)
        .map(|i| Section::new(0x8000_4000 + 0x100 * i, &[1]).unwrap())
        .collect();
    assert!(dol.check().unwrap_err().to_string().contains("12"));
}

#[test]
fn an_entry_point_outside_the_text_is_refused() {
    let mut dol = small();
    dol.entry = 0x8000_4020;
    assert!(dol.check().is_err());
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    let file = small().to_bytes();
    for length in [0, HEADER - 1, HEADER, file.len() - 1] {
        assert!(Dol::parse(&file[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_little_endian_elf_is_refused() {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(Dol::from_elf(&own).is_err());
}

/// Something at 0x8100_0000 that unpacks what is at 0x8100_0020.
fn unpacker() -> Dol {
    Dol {
        texts: vec![Section::new(0x8100_0000, &[0x48, 0, 0, 0]).unwrap()],
        entry: 0x8100_0000,
        ..Dol::default()
    }
}

#[test]
fn a_packed_program_lies_behind_the_unpacker_and_is_what_it_was() {
    let mut program = small();
    program.datas[0].address = 0x8000_4060;
    program.bss = (0x8000_4080, 0x60);
    let dol = pack_at(&program, unpacker(), 0x8100_0020).unwrap();
    assert_eq!((dol.entry, dol.bss), (0x8100_0000, program.bss));
    assert_eq!(dol.texts, unpacker().texts);
    let [section] = &dol.datas[..] else {
        panic!("{} sections", dol.datas.len());
    };
    assert_eq!(section.address, 0x8100_0020);
    assert_eq!(word(&section.bytes, 0), 0x8000_4000, "where it goes");
    assert_eq!(word(&section.bytes, 4), 0x80, "how long it is");
    let packed = &section.bytes[12..12 + word(&section.bytes, 8) as usize];
    let memory = miniz_oxide::inflate::decompress_to_vec_zlib(packed).unwrap();
    assert_eq!(memory[..4], [0x48, 0, 0, 0]);
    assert_eq!(memory[4..0x60], [0; 0x5C], "between its sections");
    assert_eq!(memory[0x60..0x64], [1, 2, 3, 4]);
    assert_eq!(memory.len(), 0x80);
    assert_eq!(Dol::parse(&dol.to_bytes()).unwrap(), dol);
}

#[test]
fn a_program_that_cannot_be_unpacked_where_it_belongs_is_not_packed() {
    let refused = |change: &dyn Fn(&mut Dol)| {
        let mut program = small();
        change(&mut program);
        pack_at(&program, unpacker(), 0x8100_0020)
            .unwrap_err()
            .to_string()
    };
    // It would overwrite the unpacker, or itself while it is packed.
    assert!(refused(&|program| program.datas[0].address = 0x8100_0000).contains("overlap"));
    assert!(refused(&|program| program.datas[0].address = 0x8100_0040).contains("overlap"));
    // A loader that clears its variables would clear the unpacker.
    assert!(refused(&|program| program.bss = (0x80FF_FFE0, 0x40)).contains("overlap"));
    assert!(refused(&|program| program.entry += 4).contains("first word"));
    assert!(
        refused(&|program| (program.texts, program.datas) = (vec![], vec![])).contains("empty")
    );
}
