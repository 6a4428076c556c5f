//! Counts the instructions of `examples/bookkeeping` on PowerPC: `count GUEST [--qemu QEMU] [--report FILE]`.
//!
//! QEMU runs the guest one instruction per translated block and logs each, with its symbol. Between the markers every line is one instruction;
//! what an empty sample costs is taken off. The counts are exact and the same in every run.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Map, Value, json};

type Samples = BTreeMap<String, Vec<u64>>;
/// Name, value and unit.
type Figure = (String, f64, String);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let guest = arguments.next().ok_or("the guest's path is missing")?;
    let mut qemu = "qemu-ppc-static".to_owned();
    let mut report = None;
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or("an option without its value")?;
        match option.as_str() {
            "--qemu" => qemu = value,
            "--report" => report = Some(value),
            _ => return Err(format!("unknown option {option}").into()),
        }
    }

    let mut figures = Map::new();
    for (name, value, unit) in plain_figures(&qemu, &guest)? {
        add(&mut figures, &name, value, &unit, "");
    }
    let samples = count(&qemu, &guest)?;
    summarise(&samples, &mut figures);
    for (name, figure) in &figures {
        println!(
            "{name:<70} {:>10} {}",
            figure["value"].to_string(),
            figure["unit"].as_str().unwrap_or_default()
        );
    }
    if let Some(path) = report {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)?;
    }
    let over = figures.iter().filter(|(_, figure)| {
        figure["value"].as_f64() > figure["limit"].as_f64().or(Some(f64::MAX))
    });
    let over: Vec<_> = over.map(|(name, _)| name.as_str()).collect();
    if over.is_empty() {
        Ok(())
    } else {
        Err(format!("over the limit: {}", over.join(", ")).into())
    }
}

/// Runs the guest at full speed for the figures that it prints itself.
fn plain_figures(qemu: &str, guest: &str) -> Result<Vec<Figure>, Box<dyn Error>> {
    let output = Command::new(qemu)
        .args(library_path())
        .arg(guest)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the guest failed: {}", output.status).into());
    }
    let mut figures = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        if let ["figure", name, value, unit] = *line.split(' ').collect::<Vec<_>>() {
            figures.push((name.to_owned(), value.parse()?, unit.to_owned()));
        }
    }
    Ok(figures)
}

/// Runs the guest traced; returns the instructions of every sample by name.
fn count(qemu: &str, guest: &str) -> Result<Samples, Box<dyn Error>> {
    let mut child = Command::new(qemu)
        .args(library_path())
        .args(["-singlestep", "-d", "exec,nochain", guest, "counts"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().ok_or("no output")?;
    let names = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let trace = BufReader::with_capacity(1 << 20, child.stderr.take().ok_or("no trace")?);
    let counts = count_between_markers(trace)?;
    let names = names
        .join()
        .map_err(|_| "the reader of names ended early")??;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the traced guest failed: {status}").into());
    }
    let names: Vec<_> = names
        .lines()
        .filter_map(|line| line.strip_prefix("sample "))
        .collect();
    if names.len() != counts.len() || counts.is_empty() {
        return Err(format!("{} names for {} counts", names.len(), counts.len()).into());
    }
    // The first sample is empty: what the markers cost.
    let overhead = counts[0];
    let mut samples = Samples::new();
    for (name, count) in names.into_iter().zip(counts) {
        samples
            .entry(name.to_owned())
            .or_default()
            .push(count - overhead);
    }
    Ok(samples)
}

/// Counts the lines from the end of each `count_begin` to the start of the next `count_end`.
fn count_between_markers(mut trace: impl BufRead) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut counts = Vec::new();
    let (mut line, mut running, mut count) = (Vec::new(), false, 0);
    while {
        line.clear();
        trace.read_until(b'\n', &mut line)?
    } != 0
    {
        if !line.starts_with(b"Trace ") {
            continue;
        }
        let symbol = line
            .trim_ascii_end()
            .rsplit(|&byte| byte == b' ')
            .next()
            .unwrap_or_default();
        match symbol {
            b"count_begin" => (running, count) = (true, 0),
            b"count_end" if running => {
                counts.push(count);
                running = false;
            }
            _ => count += u64::from(running),
        }
    }
    Ok(counts)
}

/// Turns samples into the figures of the report.
fn summarise(samples: &Samples, figures: &mut Map<String, Value>) {
    let most = |prefix: &str, suffix: &str| {
        samples
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) && name.ends_with(suffix))
            .flat_map(|(name, counts)| counts.iter().map(move |count| (*count, name.as_str())))
            .max()
            .unwrap_or((0, ""))
    };
    for (name, counts) in samples {
        if name.starts_with("map_unmap.") || name.starts_with("mapping.") {
            add(
                figures,
                &format!("insns.{name}"),
                counts[0] as f64,
                "insns",
                "",
            );
        } else if name.starts_with("rival.") {
            let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
            let name = name.replace(' ', ".");
            add(
                figures,
                &format!("insns.{name}.mean"),
                mean.round(),
                "insns",
                "",
            );
            add(
                figures,
                &format!("insns.{name}.most"),
                counts.iter().copied().max().unwrap_or(0) as f64,
                "insns",
                "",
            );
        }
    }
    for slots in [512, 4096] {
        let prefix = format!("worst.{slots}slots.");
        // A map that was granted has an unmap of the same name beside it; one that was refused stands alone.
        let (pair, which) = samples
            .iter()
            .filter(|(name, _)| {
                name.starts_with(&prefix) && name.ends_with(" map") && !name.contains("churn")
            })
            .map(|(name, counts)| {
                let unmap = samples
                    .get(&name.replace(" map", " unmap"))
                    .map_or(0, |counts| counts[0]);
                (counts[0] + unmap, name.as_str())
            })
            .max()
            .unwrap_or((0, ""));
        add(
            figures,
            &format!("insns.worst.{slots}slots"),
            pair as f64,
            "insns",
            which,
        );
        for side in ["map", "unmap"] {
            let (count, which) = most(&prefix, &format!(" {side}"));
            add(
                figures,
                &format!("insns.worst.{slots}slots.{side}"),
                count as f64,
                "insns",
                which,
            );
        }
        for side in ["map", "unmap"] {
            let (count, which) = most(&format!("{prefix}churn"), &format!(" {side}"));
            add(
                figures,
                &format!("insns.worst.{slots}slots.churn.{side}"),
                count as f64,
                "insns",
                which,
            );
        }
    }
}

/// What issue 4 promises, and what Linux 3.6 has (reference, section 5.2).
const PROMISES: [(&str, f64, Option<f64>); 9] = [
    ("insns.map_unmap.512b.pool256k", 200.0, Some(1386.0)),
    ("insns.map_unmap.4k.pool256k", 200.0, Some(1386.0)),
    ("insns.map_unmap.64k.pool256k", 350.0, Some(1295.0)),
    ("insns.map_unmap.64k.pool1m", 350.0, None),
    ("insns.worst.512slots", 600.0, Some(15455.0)),
    ("insns.worst.4096slots", 1000.0, Some(122_975.0)),
    ("refused.mem2-dma-2048.churn90.8m", 4.5, Some(25.8)),
    ("copied_bytes.receive100of4096", 100.0, Some(4096.0)),
    ("copied_bytes.direct", 0.0, None),
];

fn add(figures: &mut Map<String, Value>, name: &str, value: f64, unit: &str, note: &str) {
    let promise = PROMISES.iter().find(|promise| promise.0 == name);
    let figure = json!({
        "value": value,
        "unit": unit,
        "baseline": promise.and_then(|promise| promise.2),
        "limit": promise.map(|promise| promise.1),
        "note": note,
    });
    figures.insert(format!("bounce.{name}"), figure);
}

/// The libraries of a guest that is not linked statically.
fn library_path() -> [&'static str; 2] {
    ["-L", "/usr/powerpc-linux-gnu"]
}
