//! Programs on big-endian PowerPC whose instructions are counted.
//!
//! QEMU runs the program one instruction per translated block and logs each, with its symbol. Between the markers every line is one instruction;
//! what an empty sample costs is taken off. The counts are exact and the same in every run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{exec, toolchain};

/// What building, running and counting takes.
pub const NEEDS: [Need; 3] = [Need::Compiler, Need::PowerPcLinux, Need::QemuUser];

/// The instructions of all samples of a name, in order.
pub type Samples = BTreeMap<String, Vec<u64>>;

/// Returns the instructions of the only sample of a name.
///
/// # Errors
/// There is none, or another.
pub fn only(samples: &Samples, name: &str) -> Result<f64> {
    match samples.get(name).map(Vec::as_slice) {
        Some([count]) => Ok(*count as f64),
        _ => bail!("not one sample of {name}"),
    }
}

const TARGET: &str = "powerpc-unknown-linux-gnu";

/// A program of the package `benches`, ready to run.
pub struct Guest {
    program: PathBuf,
    qemu: PathBuf,
}

impl Guest {
    /// Builds the program `name` for the Wii's processor.
    ///
    /// # Errors
    /// The build fails, or a tool is missing.
    pub fn build(workspace: &Workspace, name: &str) -> Result<Self> {
        let compiler = toolchain::find_compiler(workspace)?;
        let mut cargo = workspace.cargo("build");
        cargo.args(["--quiet", "--profile", "bench", "--package", "benches"]);
        cargo.args(["--bin", name, "--target", TARGET]);
        cargo.arg("-Zbuild-std=std,panic_abort");
        compiler.apply(&mut cargo);
        // As the image is compiled: for this processor, at fixed addresses.
        cargo
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                "-Ctarget-cpu=750\x1f-Crelocation-model=static",
            )
            .env(
                "CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_LINKER",
                "powerpc-linux-gnu-gcc",
            );
        exec::run(&mut cargo)?;
        let folder = workspace.cargo_target()?.join(TARGET).join("release");
        Ok(Self {
            program: folder.join(name),
            qemu: setup::qemu_user().context("no qemu-ppc")?,
        })
    }

    /// Runs the program at full speed and returns the figures that it prints.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn figures(&self) -> Result<BTreeMap<String, f64>> {
        let text = exec::capture(&mut self.command(&[], &[]))?;
        let figures = text.lines().map(|line| {
            let Some(("figure", figure)) = line.split_once(' ') else {
                bail!("{}: not a figure: {line}", self.program.display());
            };
            let (name, value) = figure.split_once(' ').context("a figure without a value")?;
            Ok((name.to_owned(), value.parse()?))
        });
        figures.collect()
    }

    /// Runs the program traced and returns the instructions of every sample.
    ///
    /// # Errors
    /// It fails, or its samples and the trace do not match.
    pub fn count(&self) -> Result<Samples> {
        let mut command = self.command(
            &["-d", "exec,nochain", single_step(&self.qemu)?],
            &["counts"],
        );
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", exec::describe(&command)))?;
        let mut output = child.stdout.take().context("no output")?;
        let names = thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text)
        });
        let trace = child.stderr.take().context("no trace")?;
        let counts = count_between_markers(BufReader::with_capacity(1 << 20, trace))?;
        let names = names
            .join()
            .ok()
            .context("the reader of names ended early")??;
        let status = child.wait()?;
        ensure!(
            status.success(),
            "`{}` failed ({status})",
            exec::describe(&command)
        );
        attribute(&names, &counts)
    }

    fn command(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.qemu);
        command.args(["-L", "/usr/powerpc-linux-gnu"]).args(options);
        command.arg(&self.program).args(arguments);
        command
    }
}

/// Returns the option that gives every instruction a block of its own: newer versions of QEMU call it otherwise.
fn single_step(qemu: &Path) -> Result<&'static str> {
    let help = exec::capture(Command::new(qemu).arg("-help"))?;
    let modern = "-one-insn-per-tb";
    Ok(if help.contains(modern) {
        modern
    } else {
        "-singlestep"
    })
}

/// Counts the lines from the end of each `count_begin` to the start of the next `count_end`.
fn count_between_markers(mut trace: impl BufRead) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    let (mut line, mut running, mut count) = (Vec::new(), false, 0);
    loop {
        line.clear();
        if trace.read_until(b'\n', &mut line)? == 0 {
            return Ok(counts);
        }
        if !line.starts_with(b"Trace ") {
            continue;
        }
        let symbol = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next();
        match symbol.unwrap_or_default() {
            b"count_begin" => (running, count) = (true, 0),
            b"count_end" if running => {
                counts.push(count);
                running = false;
            }
            _ => count += u64::from(running),
        }
    }
}

/// Gives every count its name, and takes off what the empty first sample costs.
fn attribute(output: &str, counts: &[u64]) -> Result<Samples> {
    let names: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("sample "))
        .collect();
    ensure!(
        names.len() == counts.len(),
        "{} names for {} counts",
        names.len(),
        counts.len()
    );
    let overhead = *counts.first().context("no sample")?;
    let mut samples = Samples::new();
    for (name, count) in names.into_iter().zip(counts) {
        let count = count
            .checked_sub(overhead)
            .with_context(|| format!("{name} costs less than nothing"))?;
        samples.entry(name.to_owned()).or_default().push(count);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_between_the_markers_is_an_instruction() {
        let trace = "Trace 0: 0x1 [0/0] main\n\
            Trace 0: 0x2 [0/0] count_begin\nTrace 0: 0x2 [0/0] count_begin\n\
            Trace 0: 0x3 [0/0] main\nTrace 0: 0x3 [0/0] \nlinking\nTrace 0: 0x4 [0/0] work\n\
            Trace 0: 0x5 [0/0] count_end\nTrace 0: 0x5 [0/0] count_end\nTrace 0: 0x6 [0/0] main\n\
            Trace 0: 0x2 [0/0] count_begin\nTrace 0: 0x5 [0/0] count_end\n";
        assert_eq!(count_between_markers(trace.as_bytes()).unwrap(), [3, 0]);
    }

    #[test]
    fn counts_get_their_names_in_order_without_the_markers_cost() {
        let samples = attribute(
            "sample nothing\nnoise\nsample a\nsample b\nsample a\n",
            &[4, 10, 4, 30],
        )
        .unwrap();
        assert_eq!((&samples["a"], &samples["b"]), (&vec![6, 26], &vec![0]));
        assert!(attribute("sample nothing\n", &[4, 5]).is_err());
        assert!(attribute("", &[]).is_err());
    }
}
