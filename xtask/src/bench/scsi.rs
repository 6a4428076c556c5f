//! `scsi.*`: how many commands `boot.dol` needs for a file, as it counts them itself: those of a stick with the file less those of one
//! without it.

use std::fs;

use anyhow::{Context, Result};
use dolphin_tests::{Run, StickImage, noise};
use wiistick::report::Event;

use super::emulated::{self, Emulated};
use super::figure::Figure;
use super::{Bench, Family};

pub const FAMILY: Family = Family {
    name: "scsi",
    needs: &emulated::NEEDS,
    run,
};

fn run(bench: &mut Bench) -> Result<()> {
    let emulated = Emulated::new(bench)?;
    let folder = bench.workspace.target("stick");
    fs::create_dir_all(&folder)?;
    for (name, bytes, mib, limit) in [
        ("read100k", 100_000, 24, 8),
        ("read64m", 64 << 20, 72, 1100),
    ] {
        let figure = format!("scsi.commands.{name}");
        if !bench.wants(&figure) {
            continue;
        }
        let image = folder.join(format!("{name}.img"));
        let read = |stick: StickImage| {
            stick.write(&image)?;
            let run = emulated.describe("boot")?.read_only_stick(&image);
            commands(&emulated, &run.argument("read-only"))
        };
        // Bits of the FAT do not matter here; large clusters, as such a stick has.
        let without = read(StickImage::new(16, mib))?;
        let with = read(StickImage::new(16, mib).file("FILE.BIN", noise(name, bytes)))?;
        bench.add(
            figure,
            Figure::new(with - without, "commands")
                .at_most(f64::from(limit))
                .note(format!("beside the {without} for a stick without files")),
        );
        if name == "read64m" {
            bench.add(
                "scsi.commands_per_mib",
                Figure::new((with - without) / 64.0, "commands")
                    .baseline(9.1)
                    .note("of a file of 64 MiB, its FAT included; baseline: Linux 6.1, direct I/O"),
            );
        }
    }
    let figure = "scsi.commands.write1m";
    if bench.wants(figure) {
        let image = folder.join("write1m.img");
        let stick = StickImage::new(32, 64);
        let run = |argument: &str| {
            stick.write(&image)?;
            let run = emulated.describe("boot")?.stick(&image);
            commands(&emulated, &run.argument(argument))
        };
        let without = run("read-only")?;
        bench.add(
            figure,
            Figure::new(run("")? - without, "commands")
                .at_most(64.0)
                .note("metadata and reading back included"),
        );
    }
    Ok(())
}

/// Returns the commands that one stick took.
fn commands(emulated: &Emulated, run: &Run) -> Result<f64> {
    let outcome = emulated.run(run)?;
    let commands = outcome
        .frames
        .iter()
        .find_map(|frame| match frame.event()? {
            Event::StickDone { scsi_commands, .. } => Some(scsi_commands),
            _ => None,
        });
    Ok(commands.context("the stick was not read")? as f64)
}
