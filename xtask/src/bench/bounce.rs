//! `bounce.*`: the bookkeeping of `mem2-dma`, beside Linux's swiotlb and what else one might take for a pool.
//!
//! The program is `benches/src/bin/bounce`. Figures of Linux were counted in the same way, from its own code on the same processor.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::figure::Figure;
use super::guest::{self, Guest, Samples, only};
use super::plot::{self, Bars, Labels, Line};
use super::{Bench, Family};

pub const FAMILY: Family = Family {
    name: "bounce",
    needs: &guest::NEEDS,
    run,
};

/// Who stands side by side, as the program names them.
const RIVALS: [&str; 6] = [
    "mem2-dma-512",
    "mem2-dma-2048",
    "buddy_system_allocator",
    "rlsf",
    "talc",
    "linked_list_allocator",
];
/// Linux's way to place things, in a model: for refusals only.
const LINUX_POLICY: &str = "swiotlb-policy";

fn run(bench: &mut Bench) -> Result<()> {
    let guest = Guest::build(bench.workspace, "bounce")?;
    let plain = guest.figures()?;
    refusals(bench, &plain)?;
    books(bench, &plain)?;
    copies(bench, &plain)?;
    if bench.wants("bounce.insns") || bench.wants("bounce.rivals.insns") {
        let samples = guest.count()?;
        mappings(bench, &samples)?;
        worst(bench, &samples)?;
        growth(bench, &samples)?;
        rivals(bench, &samples)?;
    }
    Ok(())
}

fn refusals(bench: &mut Bench, plain: &BTreeMap<String, f64>) -> Result<()> {
    let get = |fill: u32, who: &str| of(plain, &format!("rivals.refused.churn{fill}.8m.{who}"));
    bench.add(
        "bounce.refused.churn90.8m",
        Figure::new(get(90, "mem2-dma-512")?, "percent")
            .baseline(25.8)
            .at_most(4.5)
            .note(format!(
                "slots of 512 bytes; of 2 KiB, as Linux has: {:.1}; Linux' policy on these requests: {:.1}",
                get(90, "mem2-dma-2048")?,
                get(90, LINUX_POLICY)?
            )),
    );
    bench.add(
        "bounce.avoidable_refusals",
        Figure::new(of(plain, "avoidable_refusals")?, "requests")
            .at_most(0.0)
            .note(format!(
                "of all streams and of {} requests in every occupancy of 15 slots",
                of(plain, "avoidable_refusals.exhaustive_requests")?
            )),
    );
    for (name, &value) in plain
        .iter()
        .filter(|(name, _)| name.starts_with("rivals.refused"))
    {
        bench.add(format!("bounce.{name}"), Figure::new(value, "percent"));
    }
    let line = |who: &str| -> Result<Line> {
        let points =
            [50, 60, 70, 75, 80, 85, 90].map(|fill| Ok((f64::from(fill), get(fill, who)?)));
        Ok((who.to_owned(), points.into_iter().collect::<Result<_>>()?))
    };
    let lines: Vec<_> = RIVALS
        .into_iter()
        .chain([LINUX_POLICY])
        .map(line)
        .collect::<Result<_>>()?;
    let labels = Labels {
        title: "Refused requests, 13 bytes to 128 KiB, in a pool of 8 MiB",
        x: "kept full to (percent)",
        y: "refused (percent)",
    };
    plot::lines(&bench.plot("bounce-refused"), &labels, &lines)
}

/// What bookkeeping takes.
fn books(bench: &mut Bench, plain: &BTreeMap<String, f64>) -> Result<()> {
    bench.add(
        "bounce.metadata_bits_per_slot",
        Figure::new(of(plain, "metadata_bits_per_slot")?, "bits")
            .baseline(64.0)
            .at_most(2.0)
            .note("Linux 3.6 has all it needs in these 64; here a mapping takes bytes of its own, too"),
    );
    bench.add(
        "bounce.metadata_bytes_per_mapping",
        Figure::new(of(plain, "metadata_bytes_per_mapping")?, "bytes").at_most(16.0),
    );
    for who in RIVALS {
        let name = format!("rivals.metadata_bytes.1m.{who}");
        bench.add(
            format!("bounce.{name}"),
            Figure::new(of(plain, &name)?, "bytes").note("beside the pool, full of sectors"),
        );
        let name = format!("rivals.pool_lost.1m.{who}");
        bench.add(
            format!("bounce.{name}"),
            Figure::new(of(plain, &name)?, "percent")
                .note("of the pool, full of sectors: headers and rounding"),
        );
    }
    Ok(())
}

fn copies(bench: &mut Bench, plain: &BTreeMap<String, f64>) -> Result<()> {
    let changed = of(plain, "copied_bytes.receive100of4096.changed_beyond")?;
    bench.add(
        "bounce.copied_bytes.receive100of4096",
        Figure::new(of(plain, "copied_bytes.receive100of4096")?, "bytes")
            .baseline(4096.0)
            .at_most(100.0),
    );
    bench.add(
        "bounce.copied_bytes.receive100of4096.changed_beyond",
        Figure::new(changed, "bytes")
            .baseline(3996.0)
            .at_most(0.0)
            .note("of the caller's other 3996"),
    );
    bench.add(
        "bounce.copied_bytes.direct",
        Figure::new(of(plain, "copied_bytes.direct")?, "bytes").at_most(0.0),
    );
    bench.add(
        "bounce.direct_bytes",
        Figure::new(of(plain, "copied_bytes.direct.lent")?, "bytes")
            .at_least(200.0 * 4096.0)
            .note("a buffer of 4 KiB lent 200 times: what was not copied"),
    );
    Ok(())
}

/// Map and unmap as the goals have them: name, limit, Linux 3.6.
const MAPPINGS: [(&str, f64, Option<f64>); 7] = [
    ("512b.pool256k", 200.0, Some(1386.0)),
    ("4k.pool256k", 200.0, Some(1386.0)),
    ("16k.pool256k", 350.0, Some(1376.0)),
    ("64k.pool256k", 350.0, Some(1295.0)),
    ("512b.pool1m", 200.0, None),
    ("4k.pool1m", 200.0, None),
    ("64k.pool1m", 350.0, None),
];

fn mappings(bench: &mut Bench, samples: &Samples) -> Result<()> {
    for (name, limit, linux) in MAPPINGS {
        let mut figure =
            Figure::new(only(samples, &format!("map_unmap.{name}"))?, "insns").at_most(limit);
        if let Some(linux) = linux {
            figure = figure.baseline(linux);
        }
        bench.add(format!("bounce.insns.map_unmap.{name}"), figure);
    }
    for name in samples.keys().filter(|name| name.starts_with("mapping.")) {
        bench.add(
            format!("bounce.insns.{name}"),
            Figure::new(only(samples, name)?, "insns")
                .note("map, bus address, complete: locks and cache calls, no copy"),
        );
    }
    Ok(())
}

/// Slots, limit, and what Linux 3.6 takes at its worst.
const WORST: [(u32, f64, f64); 2] = [(512, 600.0, 15_455.0), (4096, 1000.0, 122_975.0)];

fn worst(bench: &mut Bench, samples: &Samples) -> Result<()> {
    for (slots, limit, linux) in WORST {
        let (count, which) =
            dearest(samples, &format!("worst.{slots}slots.")).context("no sample of the worst")?;
        let which = which.trim_start_matches(&format!("worst.{slots}slots."));
        bench.add(
            format!("bounce.insns.worst.{slots}slots"),
            Figure::new(count as f64, "insns")
                .baseline(linux)
                .at_most(limit)
                .note(format!(
                    "map with its unmap, or refusal; dearest: {which}; as many slots as Linux, of 512 bytes, not 2 KiB"
                )),
        );
    }
    Ok(())
}

/// Returns the dearest map with its unmap, or refusal, among samples whose names begin with `prefix`.
fn dearest<'s>(samples: &'s Samples, prefix: &str) -> Option<(u64, &'s str)> {
    let of_prefix = samples
        .range(prefix.to_owned()..)
        .take_while(|(name, _)| name.starts_with(prefix));
    let pairs = of_prefix.filter_map(|(name, counts)| {
        let what = name.strip_suffix(" map")?;
        let unmap = samples
            .get(&format!("{what} unmap"))
            .map_or(0, |counts| counts[0]);
        Some((counts[0] + unmap, what))
    });
    pairs.max()
}

fn growth(bench: &mut Bench, samples: &Samples) -> Result<()> {
    let slots = [32u32, 128, 512, 2048, 4096];
    let (mut typical, mut worst) = (Vec::new(), Vec::new());
    for slots in slots {
        let count = only(samples, &format!("growth.slots.typical.{slots}"))?;
        bench.add(
            format!("bounce.insns.growth.slots{slots}.typical"),
            Figure::new(count, "insns"),
        );
        typical.push((f64::from(slots), count));
        let (count, _) =
            dearest(samples, &format!("growth.slots.worst.{slots}.")).context("no worst case")?;
        bench.add(
            format!("bounce.insns.growth.slots{slots}.worst"),
            Figure::new(count as f64, "insns"),
        );
        worst.push((f64::from(slots), count as f64));
    }
    let lines = [
        ("4 KiB in an empty pool".to_owned(), typical),
        ("dearest seen, refusals included".to_owned(), worst),
        (
            "Linux 3.6: 4 KiB in an empty pool".to_owned(),
            vec![(128.0, 1386.0), (4096.0, 1390.0)],
        ),
        (
            "Linux 3.6: refusal".to_owned(),
            vec![(128.0, 3935.0), (512.0, 15_455.0), (4096.0, 122_975.0)],
        ),
    ];
    let labels = Labels {
        title: "Map and unmap by size of the pool, on a PowerPC 750",
        x: "slots",
        y: "instructions",
    };
    plot::log_lines(&bench.plot("bounce-pool-size"), &labels, &lines)?;

    let mut points = Vec::new();
    for kib in [1u32, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] {
        let count = only(samples, &format!("growth.length.{kib}"))?;
        bench.add(
            format!("bounce.insns.growth.length{kib}k"),
            Figure::new(count, "insns"),
        );
        points.push((f64::from(kib), count));
    }
    let lines = [
        (
            "mem2-dma, 2048 slots of 512 bytes, empty".to_owned(),
            points,
        ),
        (
            "Linux 3.6, slots of 2 KiB, empty".to_owned(),
            vec![(0.5, 1386.0), (16.0, 1376.0), (64.0, 1295.0)],
        ),
    ];
    let labels = Labels {
        title: "Map and unmap by length of the mapping, on a PowerPC 750",
        x: "KiB",
        y: "instructions",
    };
    plot::log_lines(&bench.plot("bounce-length"), &labels, &lines)?;

    let mut lines = Vec::new();
    for (way, title) in [
        ("row", "one behind the other"),
        ("gaps", "with a hole of 512 bytes behind each"),
    ] {
        let mut points = Vec::new();
        for live in [1u32, 4, 16, 64, 256, 448] {
            let count = only(samples, &format!("growth.mappings.{way}.{live}"))?;
            bench.add(
                format!("bounce.insns.growth.mappings{live}.{way}"),
                Figure::new(count, "insns"),
            );
            points.push((f64::from(live), count));
        }
        lines.push((title.to_owned(), points));
    }
    let labels = Labels {
        title: "Map and unmap 4 KiB beside other mappings of 4 KiB, in 2 MiB, on a PowerPC 750",
        x: "live mappings",
        y: "instructions",
    };
    plot::log_lines(&bench.plot("bounce-mappings"), &labels, &lines)
}

fn rivals(bench: &mut Bench, samples: &Samples) -> Result<()> {
    const COLUMNS: [&str; 4] = ["map, mean", "map, dearest", "unmap, mean", "unmap, dearest"];
    for pool in ["256k", "1m"] {
        let mut all: Vec<Bars> = Vec::new();
        for who in RIVALS {
            let mut values = Vec::new();
            for side in ["map", "unmap"] {
                let counts = samples
                    .get(&format!("rivals.{pool}.{who} {side}"))
                    .context("a rival without a sample")?;
                let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
                let most = counts.iter().copied().max().unwrap_or(0) as f64;
                for (kind, value) in [("mean", mean.round()), ("most", most)] {
                    bench.add(
                        format!("bounce.rivals.insns.{side}_{kind}.{pool}.{who}"),
                        Figure::new(value, "insns"),
                    );
                    values.push(value);
                }
            }
            all.push((who.to_owned(), values));
        }
        let labels = Labels {
            title: &format!(
                "The same 500 commands in a pool of {pool}, kept 75 % full, on a PowerPC 750"
            ),
            x: "",
            y: "instructions",
        };
        plot::bars(
            &bench.plot(&format!("bounce-rivals-{pool}")),
            &labels,
            &COLUMNS,
            &all,
        )?;
    }
    Ok(())
}

fn of(plain: &BTreeMap<String, f64>, name: &str) -> Result<f64> {
    plain
        .get(name)
        .copied()
        .with_context(|| format!("the program printed no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_is_a_map_with_its_unmap_or_a_refusal() {
        let samples = [
            ("w.a map", 90),
            ("w.a unmap", 20),
            ("w.b map", 105),
            ("x.c map", 500),
        ];
        let mut samples: Samples = samples
            .map(|(name, count)| (name.to_owned(), vec![count]))
            .into();
        assert_eq!(dearest(&samples, "w."), Some((110, "w.a")));
        samples.insert("w.b unmap".into(), vec![6]);
        assert_eq!(dearest(&samples, "w."), Some((111, "w.b")));
        assert_eq!(dearest(&samples, "y."), None);
    }
}
