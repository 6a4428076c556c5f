//! `cargo xtask test`: every test, in layers, and one table at the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::emulators::Emulator;
use crate::setup::{self, Need};
use crate::sizes::Sizes;
use crate::toolchain;
use crate::workspace::{Package, Workspace};
use crate::{book, exec, images, packages, project, table};

/// A step whose failure does not keep the others from running.
struct Layer {
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Workspace) -> Result<Tests>,
}

/// Tests that ran, where a layer consists of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tests {
    passed: u32,
    failed: u32,
    ignored: u32,
}

const HOST: Layer = Layer {
    name: "host",
    needs: &[],
    run: host,
};

/// In this order: what fails fastest comes first.
const LAYERS: [Layer; 12] = [
    Layer {
        name: "format",
        needs: &[Need::Rustfmt],
        run: format,
    },
    Layer {
        name: "clippy",
        needs: &[Need::Clippy, Need::Compiler, Need::Linker],
        run: clippy,
    },
    Layer {
        name: "docs",
        needs: &[],
        run: docs,
    },
    Layer {
        name: "book",
        needs: &[],
        run: book,
    },
    HOST,
    Layer {
        name: "big-endian",
        needs: &[Need::Compiler, Need::PowerPcLinux, Need::QemuUser],
        run: big_endian,
    },
    Layer {
        name: "campaigns",
        needs: &[],
        run: campaigns,
    },
    Layer {
        name: "packages",
        needs: &[],
        run: packages,
    },
    Layer {
        name: "no-panic",
        needs: &setup::BUILD,
        run: no_panic,
    },
    Layer {
        name: "images",
        needs: &setup::BUILD,
        run: images,
    },
    Layer {
        name: "emulators",
        needs: &[
            Need::Emulator(Emulator::Qemu),
            Need::Emulator(Emulator::Dolphin),
            // They make the sticks.
            Need::Mtools,
            Need::Dosfstools,
            Need::Partitioners,
        ],
        run: emulators,
    },
    Layer {
        name: "reproducible",
        needs: &setup::BUILD,
        run: reproducible,
    },
];

/// Says whether there is a layer of this name.
pub fn exists(name: &str) -> bool {
    LAYERS.iter().any(|layer| layer.name == name)
}

/// Runs the layers, or those with the given names, and prints the table; returns whether all of them passed.
///
/// # Errors
/// A tool is missing and cannot be installed, or there is no such layer.
pub fn run(workspace: &Workspace, quick: bool, names: &[String]) -> Result<bool> {
    let mut layers: Vec<Layer> = if quick { vec![HOST] } else { LAYERS.into() };
    for name in names {
        let known = layers.iter().any(|layer| layer.name == name);
        ensure!(known, "there is no layer {name:?}");
    }
    layers.retain(|layer| names.is_empty() || names.iter().any(|name| name == layer.name));
    let mut needs = Vec::new();
    for need in layers.iter().flat_map(|layer| layer.needs) {
        if !needs.contains(need) {
            needs.push(*need);
        }
    }
    setup::ensure(workspace, &needs)?;

    let mut rows = Vec::new();
    let mut good = true;
    for layer in layers {
        println!("\n==> {}", layer.name);
        let start = Instant::now();
        let result = (layer.run)(workspace);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
            good = false;
        }
        rows.push(row(layer.name, start.elapsed(), &result));
    }
    println!(
        "\n{}",
        table::layout(["layer", "time", "tests", "result"], &rows)
    );
    Ok(good)
}

fn row(name: &str, time: Duration, result: &Result<Tests>) -> [String; 4] {
    let (tests, verdict) = match result {
        Ok(tests) if *tests == Tests::default() => (String::new(), "ok".to_owned()),
        Ok(tests) if tests.ignored != 0 => (
            tests.passed.to_string(),
            format!("ok, {} ignored", tests.ignored),
        ),
        Ok(tests) => (tests.passed.to_string(), "ok".to_owned()),
        // The first line; the whole of it stands above.
        Err(error) => {
            let reason = error.to_string();
            (
                String::new(),
                format!("FAILED: {}", reason.lines().next().unwrap_or_default()),
            )
        }
    };
    [
        name.to_owned(),
        format!("{:.1} s", time.as_secs_f64()),
        tests,
        verdict,
    ]
}

fn format(workspace: &Workspace) -> Result<Tests> {
    exec::run(workspace.cargo("fmt").args(["--all", "--check"]))
        .context("not formatted; `cargo fmt --all` does it")?;
    let mut examples = workspace.cargo("fmt");
    examples.args(["--check", "--manifest-path", "examples/Cargo.toml"]);
    exec::run(&mut examples)
        .context("not formatted; `cargo fmt --manifest-path examples/Cargo.toml` does it")?;
    Ok(Tests::default())
}

fn clippy(workspace: &Workspace) -> Result<Tests> {
    let mut clippy = workspace.cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    exec::run(&mut clippy).context("clippy has objections")?;
    images::lint(workspace)?;
    Ok(Tests::default())
}

/// The documentation of everything but the tools and the harness.
fn docs(workspace: &Workspace) -> Result<Tests> {
    let mut cargo = workspace.cargo("doc");
    cargo.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings");
    for package in firmware_packages(workspace)? {
        cargo.args(["--package", &package.name]);
    }
    exec::run(&mut cargo).context("rustdoc has objections")?;
    Ok(Tests::default())
}

/// The book's pages, links and code blocks; its Rust blocks are tests of the layers below.
fn book(workspace: &Workspace) -> Result<Tests> {
    let checked = book::check(workspace)?;
    println!(
        "{} pages: {} links, {} code blocks, {} tables of figures; {} citations of the hardware notes in the sources",
        checked.pages, checked.links, checked.blocks, checked.tables, checked.citations
    );
    book::build(workspace)?;
    Ok(Tests::default())
}

fn host(workspace: &Workspace) -> Result<Tests> {
    let mut cargo = workspace.cargo("test");
    cargo.args(["--workspace", "--exclude", HARNESS, "--no-fail-fast"]);
    count(&mut cargo)
}

/// The crates of the firmware once more, in the byte order and the word size of the Wii.
fn big_endian(workspace: &Workspace) -> Result<Tests> {
    let compiler = toolchain::find_compiler(workspace)?;
    let runner = setup::qemu_user().context("no qemu-ppc")?;
    let mut cargo = workspace.cargo("test");
    cargo.args([
        "--no-fail-fast",
        "-Zbuild-std",
        "--target",
        "powerpc-unknown-linux-gnu",
    ]);
    for package in firmware_packages(workspace)? {
        cargo.args(["--package", &package.name]);
    }
    compiler.apply(&mut cargo);
    cargo
        // Emulated code is slow: what optimising costs here is won back several times over.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env(
            "CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_LINKER",
            "powerpc-linux-gnu-gcc",
        )
        .env(
            "CARGO_TARGET_POWERPC_UNKNOWN_LINUX_GNU_RUNNER",
            format!("{} -L /usr/powerpc-linux-gnu", runner.display()),
        )
        .env("EHCI_ALL_LENGTHS", "1");
    count(&mut cargo)
}

/// The driver's tests on the simulated Wii, with nothing left out: what takes minutes even when it is optimised.
fn campaigns(workspace: &Workspace) -> Result<Tests> {
    let mut cargo = workspace.cargo("test");
    cargo
        .args(["--package", "ehci", "--test", "hollywood"])
        // Not a release build, which would leave out the checks of arithmetic.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2")
        .env("EHCI_ALL_LENGTHS", "1")
        .env("EHCI_EXHAUSTIVE", "1")
        .env("EHCI_SEEDED_RUNS", "100000");
    count(&mut cargo)
}

/// Returns the packages that are neither tools of the host nor part of the harness.
fn firmware_packages(workspace: &Workspace) -> Result<Vec<Package>> {
    let mut packages = workspace.packages()?;
    packages.retain(|package| {
        !["xtask", "dolphin-tests", "benches"]
            .iter()
            .any(|folder| package.folder.starts_with(workspace.root.join(folder)))
    });
    Ok(packages)
}

fn packages(workspace: &Workspace) -> Result<Tests> {
    packages::check(workspace)?;
    Ok(Tests::default())
}

fn no_panic(workspace: &Workspace) -> Result<Tests> {
    images::check_no_panic(workspace)?;
    Ok(Tests::default())
}

fn images(workspace: &Workspace) -> Result<Tests> {
    images::build(workspace, None)?;
    images::build_sticks(workspace)?;
    images::check_size(workspace)?;
    Sizes::of_boot(workspace)?.check()?;
    Ok(Tests::default())
}

const HARNESS: &str = "dolphin-tests";

fn emulators(workspace: &Workspace) -> Result<Tests> {
    project::build_for_tests(workspace)?;
    let mut cargo = workspace.cargo("test");
    cargo.args(["--package", HARNESS, "--no-fail-fast"]);
    cargo.env("WIISTICK_IMAGES", workspace.target("dol"));
    for emulator in [Emulator::Qemu, Emulator::Dolphin] {
        cargo.env(emulator.variable(), emulator.find(workspace)?.path);
    }
    count(&mut cargo)
}

fn reproducible(workspace: &Workspace) -> Result<Tests> {
    images::check_reproducible(workspace)?;
    Ok(Tests::default())
}

/// Runs `cargo test`, passes its output on and counts the tests.
fn count(command: &mut Command) -> Result<Tests> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::describe(command)))?;
    let output = child.stdout.take().context("no output")?;
    let mut tests = Tests::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tests.add(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!(
            "{} of {} tests failed ({status})",
            tests.failed,
            tests.passed + tests.failed
        );
    }
    ensure!(tests.passed > 0, "no test ran");
    Ok(tests)
}

impl Tests {
    /// Adds the numbers of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let mut previous = "";
        for word in result.split_whitespace() {
            let number = || previous.parse().unwrap_or(0);
            match word {
                "passed;" => self.passed += number(),
                "failed;" => self.failed += number(),
                "ignored;" => self.ignored += number(),
                _ => {}
            }
            previous = word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_all_result_lines_are_added() {
        let mut tests = Tests::default();
        for line in [
            "test boot::clears_bss ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.00s",
            "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tests.add(line);
        }
        assert_eq!(
            tests,
            Tests {
                passed: 43,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_layer_without_a_single_test_fails() {
        assert!(count(Command::new("sh").args(["-c", "echo nothing"])).is_err());
        let one = "echo 'test result: ok. 1 passed; 0 failed; 0 ignored;'";
        assert_eq!(
            count(Command::new("sh").args(["-c", one])).unwrap().passed,
            1
        );
    }

    #[test]
    fn a_failing_run_fails_its_layer_whatever_it_printed() {
        let script = "echo 'test result: ok. 1 passed; 0 failed; 0 ignored;'; exit 101";
        assert!(count(Command::new("sh").args(["-c", script])).is_err());
    }
}
