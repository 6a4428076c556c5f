//! `copy.*`: copies between the memories, from and to every place in a cache line.
//!
//! The program is `benches/src/bin/copy`. What it copies are pages, all included: the way to the first whole line, and from the last.

use anyhow::{Result, ensure};

use super::figure::Figure;
use super::guest::{self, Guest, Samples, only};
use super::plot::{self, Labels};
use super::{Bench, Family};

pub const FAMILY: Family = Family {
    name: "copy",
    needs: &guest::NEEDS,
    run,
};

/// Bytes of a long copy.
const LONG: f64 = 4096.0;
/// Bytes of a cache line.
const LINE: f64 = 32.0;
/// Loads and stores of a line in words. Double words are for addresses of one distance from a word: elsewhere they are exceptions,
/// which emulators do not raise.
const WORDS: f64 = 16.0;

fn run(bench: &mut Bench) -> Result<()> {
    let samples = Guest::build(bench.workspace, "copy")?.count()?;
    let per_line = |name: &str| Ok::<_, anyhow::Error>(only(&samples, name)? * LINE / LONG);
    let rows = |from: u32| (0..32).map(move |to| format!("lines {from} {to}"));
    let cells: Vec<Vec<f64>> = (0..32)
        .map(|from| rows(from).map(|name| per_line(&name)).collect())
        .collect::<Result<_>>()?;
    let words = per_line("words")?;
    for (name, limit, aligned) in [("aligned", 14.0, true), ("misaligned", 22.0, false)] {
        let alike = |from: usize, to: usize| from.abs_diff(to).is_multiple_of(4) == aligned;
        let of_kind = (0..32).flat_map(|from| (0..32).map(move |to| (from, to)));
        let of_kind = of_kind.filter(|&(from, to)| alike(from, to));
        let of_kind: Vec<f64> = of_kind.map(|(from, to)| cells[from][to]).collect();
        let dearest = of_kind.iter().copied().fold(0.0, f64::max);
        ensure!(
            aligned || of_kind.iter().all(|&count| count > WORDS),
            "a misaligned copy takes less than words do"
        );
        bench.add(
            format!("copy.insns_per_line.{name}"),
            Figure::new(dearest, "insns")
                .baseline(words)
                .at_most(limit)
                .note(format!(
                    "32 bytes of 4 KiB; dearest of {} pairs of places in a line; baseline: a loop over words",
                    of_kind.len()
                )),
        );
    }
    for (bytes, what) in [(13, "status"), (31, "command")] {
        bench.add(
            format!("copy.insns.{bytes}b"),
            Figure::new(only(&samples, &format!("short {bytes}"))?, "insns")
                .note(format!("a {what} of mass storage")),
        );
    }
    bounces(bench, &samples)?;
    let labels = Labels {
        title: "Instructions per cache line of a copy of 4 KiB, on a PowerPC 750",
        x: "destination: bytes from the start of a line",
        y: "source: bytes from the start of a line",
    };
    plot::heat_map(&bench.plot("copy-alignments"), &labels, &cells)
}

/// What a byte costs with everything around it.
fn bounces(bench: &mut Bench, samples: &Samples) -> Result<()> {
    for way in ["receive", "send"] {
        for alignment in ["aligned", "misaligned"] {
            let count = only(samples, &format!("{way} {alignment}"))?;
            bench.add(
                format!("copy.insns_per_byte.{way}.{alignment}"),
                Figure::new(count / LONG, "insns")
                    .note("of 4 KiB: map, address, copy, unmap; no cache maintenance"),
            );
        }
    }
    Ok(())
}
