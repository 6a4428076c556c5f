//! Sticks with damaged structures: whatever bits are wrong, the job ends, says what is wrong, never takes damaged contents
//! for good, and writes nothing to a volume that looks damaged.

mod common;

use common::native::{self, CHECK, Files, Said, fsck};
use common::sticks::{files_of, image, nothing_is_left, tools};
use dolphin_tests::{Emulator, Run, StickImage, Table, noise};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::NamedTempFile;
use wiistick::job::Task;
use wiistick::report::Event;

/// Pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit as u64) as usize
    }
}

fn number(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(count) => count
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
        Err(_) => usual,
    }
}

fn tree(stick: StickImage) -> StickImage {
    stick
        .file("A.BIN", noise("a", 30_000))
        .file(
            "a folder/another folder/a long name.bin",
            noise("b", 20_000),
        )
        .file("a folder/EMPTY", Vec::new())
        .file("Z.BIN", noise("z", 700))
}

/// The sticks that are damaged, and the bytes of each that are structures.
fn originals() -> Vec<(StickImage, NamedTempFile, Vec<usize>)> {
    let kinds = [
        (12, 4, 4, Table::None),
        (16, 12, 4, Table::Mbr),
        (16, 14, 4, Table::Logical),
        (32, 40, 1, Table::Gpt),
    ];
    let make = |(fat_bits, mib, blocks_per_cluster, table)| {
        let stick = tree(StickImage::new(fat_bits, mib))
            .blocks_per_cluster(blocks_per_cluster)
            .table(table);
        let file = image(&stick);
        let bytes = std::fs::read(file.path()).unwrap();
        // Whatever is not zero and not contents of a file: tables, boot sectors, FATs, directories.
        let contents: Vec<&[u8]> = stick.files().map(|(_, contents)| contents).collect();
        let is_contents = |block: &[u8]| {
            contents.iter().any(|contents| {
                contents
                    .chunks(512)
                    .any(|piece| !piece.is_empty() && block.starts_with(piece))
            })
        };
        let mut structures = Vec::new();
        for (number, block) in bytes.chunks_exact(512).enumerate() {
            if block.iter().any(|&byte| byte != 0) && !is_contents(block) {
                structures.extend((number * 512..(number + 1) * 512).filter(|&at| bytes[at] != 0));
            }
        }
        (stick, file, structures)
    };
    kinds.into_iter().map(make).collect()
}

/// Flips bits in structures of an image; more in one of four.
fn damage(image: &Path, structures: &[usize], random: &mut Random) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(image)
        .unwrap();
    let flips = if random.below(4) == 0 {
        1 + random.below(40)
    } else {
        1
    };
    for _ in 0..flips {
        let at = structures[random.below(structures.len())] as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        byte[0] ^= 1 << random.below(8);
        file.write_all_at(&byte, at).unwrap();
    }
}

/// Contents are what counts: by digest, how many files have them. A damaged name is a name.
fn contents(files: &Files) -> BTreeMap<(u64, String), usize> {
    let mut contents = BTreeMap::new();
    for file in files.values() {
        *contents.entry(file.clone()).or_default() += 1;
    }
    contents
}

/// What must be so, whatever was damaged.
fn judge(what: &str, said: &Said, original: &StickImage, before: &[u8], image: &Path) {
    let errors = said.errors();
    if errors.is_empty() {
        // Without a word of warning nothing may be missing or wrong.
        let mut files = said.files();
        files.remove("/WIISTICK/CHECK.BIN");
        if contents(&files) != contents(&files_of(original)) {
            // Unless nobody can know, as when a length changes within its last cluster.
            let damaged = NamedTempFile::new().unwrap();
            std::fs::write(damaged.path(), before).unwrap();
            let known = fsck(damaged.path(), original.first_block());
            assert_eq!(known, None, "{what}: {files:#?}");
        }
        assert!(said.written().is_some(), "{what}");
    }
    if said.written().is_none() {
        // It says so, and the stick is as it was.
        assert!(!errors.is_empty(), "{what}");
        assert!(
            std::fs::read(image).unwrap() == before,
            "{what}: written to\n{errors:#?}"
        );
    }
    let done = said
        .events
        .iter()
        .any(|event| matches!(event, Event::StickDone { error, .. } if error.is_none() == errors.is_empty()));
    assert!(done, "{what}");
}

/// On this machine.
#[test]
fn damaged_structures_are_found_out_or_do_no_harm() {
    let originals = originals();
    let mut silent = 0;
    let count = number("WIISTICK_CORRUPTED", 500);
    for seed in 0..count {
        let (stick, file, structures) = &originals[seed % originals.len()];
        let mut random = Random(0xBAD_5EED + seed as u64);
        let image = native::copy(file.path());
        damage(image.path(), structures, &mut random);
        let before = std::fs::read(image.path()).unwrap();
        let said = native::run(image.path(), Task::Check(CHECK));
        let what = format!("seed {seed}");
        judge(&what, &said, stick, &before, image.path());
        silent += usize::from(said.errors().is_empty());
        // Writing made nothing worse.
        if said.errors().is_empty() && seed % 10 == 0 {
            let damaged = NamedTempFile::new().unwrap();
            std::fs::write(damaged.path(), &before).unwrap();
            let first = stick.first_block();
            if fsck(damaged.path(), first).is_none() {
                assert_eq!(fsck(image.path(), first), None, "{what}");
            }
        }
    }
    println!("{silent} of {count} did no harm");
    assert!(silent < count, "nothing was damaged");
}

/// In QEMU, one after another in one run of the program. All of them: set `WIISTICK_CORRUPTED_QEMU=500`.
#[test]
fn the_program_survives_damaged_sticks() {
    let originals = originals();
    let tools = tools();
    let count = number("WIISTICK_CORRUPTED_QEMU", 25);
    // A run looks at 64 devices at most.
    for first in (0..count).step_by(50) {
        let seeds = first..(first + 50).min(count);
        let sticks: Vec<_> = seeds
            .map(|seed| {
                let (_, file, structures) = &originals[seed % originals.len()];
                let image = native::copy(file.path());
                damage(
                    image.path(),
                    structures,
                    &mut Random(0xBAD_5EED + seed as u64),
                );
                image
            })
            .collect();
        let mut run = Run::new(Emulator::Qemu, tools.program("boot").unwrap())
            .audit_dma()
            .time_limit(Duration::from_secs(30 + 10 * sticks.len() as u64));
        // The first is there from the start.
        for (i, image) in sticks.iter().enumerate() {
            run = match i {
                0 => run.stick(image.path()),
                _ => run.later_stick(image.path()),
            };
        }
        let mut machine = run.start(&tools).unwrap();
        for i in 0..sticks.len() {
            loop {
                let frame = machine.next_frame().unwrap();
                let frame = frame.unwrap_or_else(|| panic!("the program ended at stick {i}"));
                if let Some(Event::StickDone { .. }) = frame.event() {
                    break;
                }
            }
            machine.unplug(i).unwrap();
            if i + 1 < sticks.len() {
                machine.plug(i + 1).unwrap();
            }
        }
        let outcome = machine.to_end().unwrap();
        assert_eq!(outcome.crash, None, "{outcome}");
        assert!(matches!(outcome.status, Some(0 | 1)), "{outcome}");
        nothing_is_left(&outcome);
    }
}
