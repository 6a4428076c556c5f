//! `cargo xtask run`: boots the image with sticks, shows what happens, reports the result.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use dolphin_tests::{Frame, Level, Run, Tools};
use wiistick::report::{Event, StickIndex};

use crate::cli::{BOOT, RunOptions};
use crate::emulators::Emulator;
use crate::report::{Dma, Report};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{images, sample};

/// Does the whole job and returns whether it succeeded.
///
/// # Errors
/// The report cannot be written. Whatever else goes wrong is in the report.
pub fn run(workspace: &Workspace, options: &RunOptions) -> Result<bool> {
    let mut report = Report::new(options.emulator.name());
    let mut attached = options.sticks.len();
    match prepare(workspace, options) {
        Ok((run, tools, sticks)) => {
            attached = sticks;
            if let Err(error) = follow(&run, &tools, &mut report) {
                report.fail(format!("{error:#}"));
            }
        }
        Err(error) => report.fail(format!("{error:#}")),
    }
    let writing = options.program == BOOT && !options.read_only && options.capacity_test.is_none();
    report.conclude(attached, writing);

    println!("\n{}", report.summary());
    match &report.error {
        None => println!("ok"),
        Some(error) => eprintln!("error: {error}"),
    }
    if let Some(path) = &options.report {
        let cannot = || format!("cannot write the report {}", path.display());
        let file = BufWriter::new(File::create(path).with_context(cannot)?);
        serde_json::to_writer_pretty(file, &report).with_context(cannot)?;
    }
    Ok(report.ok)
}

/// Sets up, builds, and describes the run and the number of its sticks.
fn prepare(workspace: &Workspace, options: &RunOptions) -> Result<(Run, Tools, usize)> {
    let emulator = options.emulator;
    for image in &options.sticks {
        File::open(image).with_context(|| format!("cannot read the stick {}", image.display()))?;
    }
    let with_sample = options.sticks.is_empty() && options.program == BOOT;

    let mut needs = setup::BUILD.to_vec();
    needs.push(Need::Emulator(emulator));
    if with_sample {
        needs.extend([Need::Mtools, Need::Dosfstools]);
    }
    setup::ensure(workspace, &needs)?;
    println!("==> building");
    images::build(workspace, None)?;
    if emulator == Emulator::Dolphin {
        images::build_sticks(workspace)?;
    }

    let program = emulator.find(workspace)?;
    let tools = Tools {
        qemu: program.path.clone(),
        dolphin: program.path,
        images: workspace.target("dol"),
    };
    let image = tools.program(&options.program)?;
    let mut run = Run::new(emulator.machine(), image).time_limit(options.timeout);
    let capacity_test = options
        .capacity_test
        .as_ref()
        .map(|mode| format!("capacity={mode}"));
    let switches = [
        (options.read_only, "read-only"),
        (options.remove, "remove"),
        (options.destroy_contents, "destroy-contents"),
    ];
    let switches = switches.iter().filter(|(on, _)| *on).map(|(_, name)| *name);
    for argument in switches
        .chain(capacity_test.as_deref())
        .chain(options.arguments.iter().map(String::as_str))
    {
        run = run.argument(argument);
    }
    let mut sticks: Vec<PathBuf> = Vec::new();
    for image in &options.sticks {
        sticks.push(fs::canonicalize(image)?);
    }
    if with_sample {
        let image = workspace.target("stick/sample.img");
        sample::make(&image)?;
        sticks.push(image);
    }
    let attached = sticks.len();
    for image in sticks {
        println!("==> stick: {}", image.display());
        run = if options.read_only {
            run.read_only_stick(image)
        } else {
            run.stick(image)
        };
    }
    if emulator == Emulator::Qemu {
        run = run.audit_dma();
    }
    println!("==> booting in {}", program.version);
    Ok((run, tools, attached))
}

/// Boots the image and follows it to its end.
fn follow(run: &Run, tools: &Tools, report: &mut Report) -> Result<()> {
    let mut machine = run.start(tools)?;
    let mut progress = ProgressLine::default();
    while let Some(frame) = machine.next_frame()? {
        let Some(record) = frame.message.strip_prefix('@') else {
            progress.clear();
            show_message(&frame);
            continue;
        };
        match serde_json::from_str::<Event<String>>(record) {
            Ok(event) => {
                if !progress.take(&event) {
                    progress.clear();
                    show_event(&event);
                }
                report.add(event);
            }
            Err(error) => report.fail(format!("unreadable record {record:?}: {error}")),
        }
    }
    progress.clear();
    let outcome = machine.to_end()?;
    let reasons = outcome.reasons();
    if !reasons.is_empty() {
        // Back-trace, registers, the emulator's own words.
        eprintln!("{outcome}");
    }
    for reason in reasons {
        report.fail(reason);
    }
    let audit = outcome
        .audit
        .map(|audit| (audit.transfers, audit.outside_mem2));
    let ios = outcome
        .ios
        .map(|audit| (audit.transfers, audit.outside_mem2));
    report.dma = audit.or(ios).map(|(transfers, outside_mem2)| Dma {
        transfers,
        outside_mem2,
    });
    Ok(())
}

/// The line that shows how far the sticks are. In a terminal it is written over again and again; in a
/// file each stick gets a line for each tenth of its way.
#[derive(Default)]
struct ProgressLine {
    sticks: BTreeMap<StickIndex, String>,
    tenths: BTreeMap<StickIndex, u8>,
    shown: bool,
}

impl ProgressLine {
    /// Shows an event that is about progress; returns whether it is.
    fn take(&mut self, event: &Event<String>) -> bool {
        let Event::Progress {
            stick,
            percent,
            rate,
            remaining_s,
            ..
        } = event
        else {
            if let Event::StickDone { stick, .. } = event {
                self.sticks.remove(stick);
            }
            return false;
        };
        let text = progress(*stick, *percent, *rate, *remaining_s);
        if std::io::stdout().is_terminal() {
            self.sticks.insert(*stick, text);
            let line: Vec<_> = self.sticks.values().map(String::as_str).collect();
            print!("\r\x1b[2K  {}", line.join("; "));
            // A terminal that takes no text shows none.
            let _ = std::io::stdout().flush();
            self.shown = true;
        } else if self.tenths.insert(*stick, percent / 10) != Some(percent / 10) {
            println!("  {text}");
        }
        true
    }

    /// Makes room for another line.
    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            print!("\r\x1b[2K");
        }
    }
}

fn progress(stick: StickIndex, percent: u8, rate: u64, remaining_s: Option<u32>) -> String {
    let mut text = format!("stick {stick}: {percent} %, {}/s", size(rate.into()));
    if let Some(seconds) = remaining_s {
        text += &format!(", {}:{:02} left", seconds / 60, seconds % 60);
    }
    text
}

fn show_message(frame: &Frame) {
    match frame.level {
        Some(Level::Trace | Level::Debug) => {}
        Some(Level::Warn | Level::Error) => println!("{frame}"),
        Some(Level::Info) | None => println!("{}", frame.message),
    }
}

fn show_event(event: &Event<String>) {
    match event {
        Event::Started { firmware } => println!("firmware {firmware} runs"),
        Event::Controller { kind, ports, .. } => println!("controller: {kind:?}, {ports} ports"),
        Event::Stick {
            stick,
            port,
            vendor,
            product,
            block_size,
            blocks,
            ..
        } => {
            let size = size(u128::from(*blocks) * u128::from(*block_size));
            println!("stick {stick} at port {port}: {vendor} {product}, {size}");
        }
        Event::Volume {
            volume,
            kind,
            label,
            ..
        } => {
            let label = label.as_deref().unwrap_or("without a label");
            println!("  volume {volume}: {} {label}", kind.name());
        }
        Event::File { path, bytes, .. } => println!("  read {path}, {}", size((*bytes).into())),
        Event::Written {
            path,
            bytes,
            verified,
            ..
        } => {
            let verdict = if *verified {
                "verified"
            } else {
                "reads back WRONG"
            };
            println!("  wrote {path}, {}, {verdict}", size((*bytes).into()));
        }
        Event::Error { path, message, .. } => match path {
            Some(path) => println!("  error: {path}: {message}"),
            None => println!("  error: {message}"),
        },
        Event::StickDone {
            stick,
            bytes_read,
            bytes_written,
            ..
        } => println!(
            "stick {stick} is done, {} read, {} written",
            size((*bytes_read).into()),
            size((*bytes_written).into())
        ),
        // These have a line of their own, end in the summary or the post-mortem, or belong to the
        // test image.
        Event::Progress { .. }
        | Event::Bounce(_)
        | Event::Ios(_)
        | Event::Crash(_)
        | Event::Done { .. }
        | Event::TestListed { .. }
        | Event::Test { .. } => {}
    }
}

/// Returns a number of bytes for people.
pub fn size(bytes: u128) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut scaled = bytes as f64;
    let mut unit = "";
    for larger in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    format!("{scaled:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_percent_rate_and_the_time_that_is_left() {
        assert_eq!(
            progress(0, 42, 3 << 20, Some(75)),
            "stick 0: 42 %, 3.0 MiB/s, 1:15 left"
        );
        assert_eq!(progress(1, 0, 0, None), "stick 1: 0 %, 0 bytes/s");
    }

    #[test]
    fn sizes_have_the_largest_unit_that_they_fill() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(3 << 40), "3.0 TiB");
        assert_eq!(size(2048 << 40), "2048.0 TiB");
    }
}
