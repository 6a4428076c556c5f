//! `cargo xtask bench`: every figure in one table, as plots and as a report.
//!
//! Figures come in families: the part of a name before its first dot. To add one, write a module beside [`bounce`] that has a [`Family`] as its
//! `FAMILY`, and name it in [`FAMILIES`]. Its `run` measures and hands every figure to [`Bench::add`]; [`plot`] draws.
//!
//! Instructions are counted on PowerPC. A family that counts has a program in `benches/src/bin` (see `benches/src/lib.rs` for how it marks
//! what is to be counted), which [`guest`] builds, runs and counts. Figures of other origins (an emulator's trace, the size of an image) are the
//! family's own business.

mod bounce;
mod copy;
mod ehci;
mod emulated;
mod figure;
mod guest;
mod image;
mod job;
mod plot;
mod scsi;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Map;

use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{book, table};
use figure::Figure;

/// Figures that are measured together.
struct Family {
    /// What their names begin with, up to the first dot.
    name: &'static str,
    /// What must be there.
    needs: &'static [Need],
    /// Measures.
    run: fn(&mut Bench) -> Result<()>,
}

/// Measured, and listed, in this order.
const FAMILIES: [Family; 6] = [
    bounce::FAMILY,
    copy::FAMILY,
    ehci::FAMILY,
    scsi::FAMILY,
    job::FAMILY,
    image::FAMILY,
];

/// A run of the benchmarks.
struct Bench<'a> {
    workspace: &'a Workspace,
    only: &'a str,
    plots: PathBuf,
    figures: Vec<(String, Figure)>,
}

impl Bench<'_> {
    /// Returns whether figures whose names begin with `prefix` were asked for: measure no others if that saves time.
    fn wants(&self, prefix: &str) -> bool {
        prefix.starts_with(self.only) || self.only.starts_with(prefix)
    }

    /// Takes a figure, if it was asked for.
    fn add(&mut self, name: impl Into<String>, figure: Figure) {
        let name = name.into();
        if name.starts_with(self.only) {
            self.figures.push((name, figure));
        }
    }

    /// Returns where a plot belongs.
    fn plot(&self, name: &str) -> PathBuf {
        self.plots.join(name).with_extension("svg")
    }
}

/// Measures what begins with `only`, shows it, writes it into `report` and, if told so, into the book. Returns whether every figure keeps to
/// its limit, and counted ones are those of the book.
///
/// # Errors
/// A tool is missing, something could not be measured, or nothing has such a name.
pub fn run(workspace: &Workspace, only: &str, report: Option<&Path>, record: bool) -> Result<bool> {
    ensure!(
        !record || only.is_empty() || FAMILIES.iter().any(|family| family.name == only),
        "the book takes whole families, not a part of one"
    );
    let plots = workspace.target("bench");
    fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    let mut bench = Bench {
        workspace,
        only,
        plots,
        figures: Vec::new(),
    };
    let mut times = Vec::new();
    for family in FAMILIES {
        if bench.wants(family.name) {
            println!("==> {}", family.name);
            setup::ensure(workspace, family.needs)?;
            let start = Instant::now();
            (family.run)(&mut bench).with_context(|| family.name.to_owned())?;
            println!("    {:.0} s", start.elapsed().as_secs_f64());
            times.push((family.name, start.elapsed()));
        }
    }
    let Bench { plots, figures, .. } = bench;
    ensure!(
        !figures.is_empty(),
        "no figure has a name that begins with {only:?}"
    );

    let rows: Vec<_> = figures
        .iter()
        .map(|(name, figure)| figure.row(name))
        .collect();
    println!("\n{}", table::layout(figure::HEADING, &rows));
    let time: Duration = times.iter().map(|(_, time)| time).sum();
    println!(
        "Measured in {} s. Plots are in {}.",
        time.as_secs(),
        plots.display()
    );
    let json: Map<_, _> = figures
        .iter()
        .map(|(name, figure)| (name.clone(), figure.to_json()))
        .collect();
    if let Some(path) = report {
        fs::write(path, serde_json::to_vec_pretty(&json)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let over: Vec<_> = figures
        .iter()
        .filter(|(_, figure)| !figure.is_good())
        .map(|(name, _)| name.as_str())
        .collect();
    if !over.is_empty() {
        eprintln!("error: beyond the limit: {}", over.join(", "));
    }
    if record {
        book::figures::record(workspace, &json, &over, &times, &plots)?;
        return Ok(over.is_empty());
    }
    let comparison = book::figures::compare(workspace, &json, only)?;
    println!("{}", comparison.said);
    if !comparison.is_reproduced {
        eprintln!(
            "error: counted figures are not those of the book; `--record` puts them there, if they are meant"
        );
    }
    Ok(over.is_empty() && comparison.is_reproduced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench<'a>(workspace: &'a Workspace, only: &'a str) -> Bench<'a> {
        Bench {
            workspace,
            only,
            plots: PathBuf::new(),
            figures: Vec::new(),
        }
    }

    #[test]
    fn a_prefix_selects_families_parts_of_them_and_single_figures() {
        let workspace = Workspace {
            root: PathBuf::new(),
        };
        for (only, wanted) in [
            ("", true),
            ("bou", true),
            ("bounce.insns.worst", true),
            ("bounce.refused", false),
            ("ehci", false),
        ] {
            assert_eq!(
                bench(&workspace, only).wants("bounce.insns"),
                wanted,
                "{only}"
            );
        }
        let mut bench = bench(&workspace, "bounce.refused");
        bench.add("bounce.refused.churn90.8m", Figure::new(1.0, "percent"));
        bench.add("bounce.insns.worst", Figure::new(1.0, "insns"));
        assert_eq!(bench.figures.len(), 1);
    }
}
