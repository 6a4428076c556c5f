//! `job.*`: how long `boot.dol` takes in QEMU, in virtual time: the guest's clock goes by the instructions that it has executed, one a
//! nanosecond. While it waits for the host's disk, its clock goes by the host's, so the host has a say in rates.
//! Several runs each: the middle one, and how far they are apart.

use std::fs;

use anyhow::{Context, Result};
use dolphin_tests::{Outcome, StickImage, noise};
use wiistick::report::Event;

use super::emulated::{self, Emulated};
use super::figure::Figure;
use super::plot::{self, Labels};
use super::{Bench, Family};

pub const FAMILY: Family = Family {
    name: "job",
    needs: &emulated::NEEDS,
    run,
};

const RUNS: usize = 7;
const VIRTUAL_TIME: [&str; 2] = ["-icount", "shift=0"];
const MIB: u64 = 1 << 20;
/// Long enough for the rate not to depend on its beginning.
const FILE: usize = 32 << 20;

fn run(bench: &mut Bench) -> Result<()> {
    let emulated = Emulated::new(bench)?;
    let folder = bench.workspace.target("stick");
    fs::create_dir_all(&folder)?;
    let image = folder.join("job.img");
    // The small file is read first.
    let stick = StickImage::new(32, 64)
        .file("FIRST", noise("first", 1))
        .file("LARGE.BIN", noise("large", FILE));
    let (mut first, mut read, mut write) = (Vec::new(), Vec::new(), Vec::new());
    let mut pool = 0;
    for _ in 0..RUNS {
        stick.write(&image)?;
        let run = emulated.describe("boot")?.stick(&image);
        let outcome = emulated.run(&run.qemu_arguments(VIRTUAL_TIME))?;
        first.push(first_file(&outcome).context("no file was read")? * 1000.0);
        for event in outcome.frames.iter().filter_map(|frame| frame.event()) {
            match event {
                Event::StickDone {
                    bytes_read,
                    bytes_written,
                    read_us,
                    write_us,
                    ..
                } => {
                    let rate = |bytes: u64, us: u64| bytes as f64 * 1e6 / (us.max(1) * MIB) as f64;
                    read.push(rate(bytes_read, read_us));
                    write.push(rate(bytes_written, write_us));
                }
                Event::Bounce(bounce) => pool = bounce.high_water_bytes,
                _ => {}
            }
        }
    }
    for (name, title, unit, groups) in [
        (
            "job-rates",
            "Rates of boot.dol in QEMU's virtual time: every run, and the middle one",
            "MiB/s",
            vec![("read", read.as_slice()), ("write", write.as_slice())],
        ),
        (
            "job-first-file",
            "From the start of boot.dol to its first file: every run, and the middle one",
            "ms",
            vec![("first file", first.as_slice())],
        ),
    ] {
        let labels = Labels {
            title,
            x: "",
            y: unit,
        };
        plot::spread(&bench.plot(name), &labels, &groups)?;
    }
    bench.add(
        "job.boot_to_first_file",
        timed(&mut first, "ms", "from the start of the program to the digest of the first file; ports take a quarter of a second"),
    );
    bench.add(
        "job.read",
        timed(
            &mut read,
            "MiB/s",
            "by the time that commands which read take",
        ),
    );
    bench.add(
        "job.write",
        timed(
            &mut write,
            "MiB/s",
            "by the time that commands which write take: 1 MiB, metadata included",
        ),
    );
    bench.add(
        "job.pool",
        Figure::new(pool as f64, "bytes").note("of the pool, in use at most"),
    );
    Ok(())
}

/// Seconds until the first file was read.
fn first_file(outcome: &Outcome) -> Option<f64> {
    let mut frames = outcome.frames.iter();
    let first = frames.find(|frame| matches!(frame.event(), Some(Event::File { .. })))?;
    first.timestamp.parse().ok()
}

/// The figure in the middle.
fn timed(values: &mut [f64], unit: &'static str, what: &str) -> Figure {
    values.sort_by(f64::total_cmp);
    let middle = plot::middle(values);
    let (least, most) = (values.first(), values.last());
    let [least, most] = [least, most].map(|value| value.copied().unwrap_or_default());
    Figure::new(middle, unit)
        .spread(least, most)
        .note(format!("{what}; {RUNS} runs, {least:.1} to {most:.1}"))
}
