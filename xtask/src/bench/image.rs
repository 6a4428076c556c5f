//! `image.*`: what `boot.dol` is made of, by crate.

use anyhow::Result;

use super::figure::Figure;
use super::plot::{self, Bars, Labels};
use super::{Bench, Family};
use crate::sizes::{ByCrate, DOL_LIMIT, PROGRAM_LIMIT, RAM_LIMIT, Sizes};
use crate::{images, setup};

pub const FAMILY: Family = Family {
    name: "image",
    needs: &setup::BUILD,
    run,
};

fn run(bench: &mut Bench) -> Result<()> {
    images::build(bench.workspace, None)?;
    let sizes = Sizes::of_boot(bench.workspace)?;
    let count = |bytes: u64| bytes as f64;
    bench.add(
        "image.bytes.dol",
        Figure::new(count(sizes.dol), "bytes").at_most(count(DOL_LIMIT)),
    );
    bench.add(
        "image.bytes.program",
        Figure::new(count(sizes.program_bytes()), "bytes")
            .at_most(count(PROGRAM_LIMIT))
            .note("the same before it is packed: code, constants, variables with initial values"),
    );
    bench.add(
        "image.bytes.static_ram",
        Figure::new(count(sizes.ram_bytes()), "bytes")
            .at_most(count(RAM_LIMIT))
            .note(format!(
                "beside the pool and {} bytes of frame buffers",
                sizes.frame_buffers
            )),
    );
    for (part, by_crate) in [("program", &sizes.program), ("static_ram", &sizes.ram)] {
        for (name, &bytes) in by_crate {
            let name = name.replace(' ', "_");
            bench.add(
                format!("image.bytes.{part}.{name}"),
                Figure::new(count(bytes), "bytes"),
            );
        }
    }
    draw(
        bench,
        "image-program",
        "Bytes of boot.dol before it is packed, by crate",
        &sizes.program,
    )?;
    draw(
        bench,
        "image-static-ram",
        "Bytes of variables and stack, by crate",
        &sizes.ram,
    )
}

fn draw(bench: &Bench, name: &str, title: &str, by_crate: &ByCrate) -> Result<()> {
    let mut sorted: Vec<_> = by_crate.iter().collect();
    sorted.sort_by_key(|&(_, &bytes)| std::cmp::Reverse(bytes));
    // What is too small to be seen becomes one bar.
    let (shown, small) = sorted.split_at(sorted.len().min(9));
    let mut groups: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
    let mut heights: Vec<f64> = shown.iter().map(|&(_, &bytes)| bytes as f64).collect();
    if !small.is_empty() {
        groups.push("others");
        heights.push(small.iter().map(|&(_, &bytes)| bytes as f64).sum());
    }
    let labels = Labels {
        title,
        x: "crate",
        y: "bytes",
    };
    let bars: [Bars; 1] = [("bytes".to_owned(), heights)];
    plot::bars(&bench.plot(name), &labels, &groups, &bars)
}
