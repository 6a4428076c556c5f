//! `scsi.*`: how many commands `boot.dol` needs for a file, from plugging in to its last byte, as it counts them itself.

use anyhow::{Context, Result};
use dolphin_tests::{StickImage, noise};
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
    for (name, bytes, mib, limit) in [
        ("read100k", 100_000, 24, 8),
        ("read64m", 64 << 20, 72, 1100),
    ] {
        let figure = format!("scsi.commands.{name}");
        if !bench.wants(&figure) {
            continue;
        }
        let image = bench.workspace.target(&format!("stick/{name}.img"));
        let folder = image.parent().context("no folder")?;
        std::fs::create_dir_all(folder)?;
        // Bits of the FAT do not matter here; large clusters, as such a stick has.
        let stick = StickImage::new(16, mib).file("FILE.BIN", noise(name, bytes));
        stick.write(&image)?;
        let outcome = emulated.run(&emulated.describe("boot")?.read_only_stick(&image))?;
        let commands = outcome
            .frames
            .iter()
            .find_map(|frame| match frame.event()? {
                Event::StickDone { scsi_commands, .. } => Some(scsi_commands),
                _ => None,
            });
        let commands = commands.context("the stick was not read")?;
        bench.add(
            figure,
            Figure::new(commands as f64, "commands")
                .at_most(f64::from(limit))
                .note("inquiry, capacity, partition table and file system included"),
        );
    }
    Ok(())
}
