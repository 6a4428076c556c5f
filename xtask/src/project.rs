//! Programs outside this workspace: yours. A new one is made of one of the project's own examples.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dolphin_tests::{Level, Program, Run, Tools};

use crate::cli::{BOOT, RunOptions};
use crate::emulators::Emulator;
use crate::images;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

/// The package that a new program is made of, and where its programs are.
const EXAMPLES: &str = "examples";
const PROGRAMS: &str = "src/bin";

/// Makes a folder with a program that builds and runs, as `example` does.
///
/// # Errors
/// The folder exists, its name is none for a package, or there is no such example.
pub fn create(workspace: &Workspace, folder: &Path, example: &str) -> Result<()> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let fits =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    ensure!(
        name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(fits),
        "{name:?} is no name for a program: lower-case letters, digits and hyphens"
    );
    ensure!(!folder.exists(), "{} exists", folder.display());
    let examples = workspace.root.join(EXAMPLES);
    let programs = programs(&examples.join(PROGRAMS))?;
    ensure!(
        programs.iter().any(|program| program == example),
        "there is no example {example:?}, but {}",
        programs.join(", ")
    );
    let program = format!("{PROGRAMS}/{example}.rs");
    fs::create_dir_all(folder.join("src"))
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let manifest = fs::read_to_string(examples.join("Cargo.toml"))?;
    fs::write(
        folder.join("Cargo.toml"),
        manifest_for(&manifest, name, &workspace.root)?,
    )?;
    fs::write(folder.join(".gitignore"), "/target\n")?;
    for (from, to) in [
        ("build.rs", "build.rs"),
        (program.as_str(), "src/main.rs"),
        ("../Cargo.lock", "Cargo.lock"),
    ] {
        fs::copy(examples.join(from), folder.join(to))
            .with_context(|| format!("cannot copy {from}"))?;
    }
    println!(
        "made {0}; `cargo xtask run --project {0}` builds and boots it",
        folder.display()
    );
    Ok(())
}

/// The names of the programs in a folder.
fn programs(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Some(name) = entry?.path().file_stem() {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The examples' manifest, for a package elsewhere.
fn manifest_for(examples: &str, name: &str, root: &Path) -> Result<String> {
    let root = root
        .to_str()
        .context("the path of this tree is not UTF-8")?;
    ensure!(
        !root.contains(['"', '\\']),
        "the path of this tree cannot stand in a manifest"
    );
    let lines = examples
        .lines()
        .skip_while(|line| line.starts_with('#'))
        .map(|line| {
            line.replace("path = \"../", &format!("path = \"{root}/"))
                .replace("name = \"examples\"", &format!("name = \"{name}\""))
                .replace("package.examples]", &format!("package.{name}]"))
        });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// Builds the programs of a folder into its `target/dol`, and returns the images.
///
/// # Errors
/// There is no package, or the build fails.
pub fn build(workspace: &Workspace, folder: &Path) -> Result<Vec<PathBuf>> {
    let root = fs::canonicalize(folder)
        .with_context(|| format!("there is no folder {}", folder.display()))?;
    let project = Workspace { root };
    let output = project.target("dol");
    let names = images::build_project(workspace, &project, &output)?;
    Ok(names
        .iter()
        .map(|name| output.join(name).with_extension("dol"))
        .collect())
}

/// Builds the examples, and new programs made of them, into the workspace's `target/dol`: the images of tests.
///
/// # Errors
/// A build fails.
pub fn build_for_tests(workspace: &Workspace) -> Result<()> {
    let output = workspace.target("dol");
    let examples = Workspace {
        root: workspace.root.join(EXAMPLES),
    };
    images::build_project(workspace, &examples, &output)?;
    for (name, example) in [("hello", "led"), ("reader", "stick")] {
        let folder = workspace.target("new").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        create(workspace, &folder, example)?;
        images::build_project(workspace, &Workspace { root: folder }, &output)?;
    }
    Ok(())
}

/// Builds a program, boots it, shows what it logs, and returns whether it ended well.
///
/// # Errors
/// The build fails, there is no such program, or the emulator does not start.
pub fn run(workspace: &Workspace, options: &RunOptions) -> Result<bool> {
    let emulator = options.emulator;
    let mut needs = setup::BUILD.to_vec();
    needs.push(Need::Emulator(emulator));
    setup::ensure(workspace, &needs)?;
    if options.report.is_some() {
        bail!("a report is made of boot.dol's own records; a program of yours has none");
    }
    println!("==> building");
    let images = build(workspace, options.project.as_deref().context("no project")?)?;
    let wanted = images.iter().find(|image| {
        image
            .file_stem()
            .is_some_and(|name| name == &*options.program)
    });
    let dol = match (wanted, images.as_slice()) {
        (Some(image), _) => image,
        (None, [only]) if options.program == BOOT => only,
        _ => bail!("--program says which one: {}", names(&images)),
    };
    match emulator {
        Emulator::Qemu => images::build_shim(workspace)?,
        Emulator::Dolphin if !options.sticks.is_empty() => images::build_sticks(workspace)?,
        Emulator::Dolphin => {}
    }

    let program = emulator.find(workspace)?;
    let tools = Tools {
        qemu: program.path.clone(),
        dolphin: program.path,
        images: workspace.target("dol"),
    };
    let image = Program {
        dol: dol.clone(),
        elf: Some(dol.with_extension("elf")),
    };
    let mut run = Run::new(emulator.machine(), image).time_limit(options.timeout);
    for argument in &options.arguments {
        run = run.argument(argument);
    }
    for stick in &options.sticks {
        let stick = fs::canonicalize(stick)
            .with_context(|| format!("cannot read the stick {}", stick.display()))?;
        run = if options.read_only {
            run.read_only_stick(stick)
        } else {
            run.stick(stick)
        };
    }
    println!("==> booting in {}", program.version);
    let mut machine = run.start(&tools)?;
    while let Some(frame) = machine.next_frame()? {
        if frame.level.is_none_or(|level| level >= Level::Info) {
            println!("{frame}");
        }
    }
    let outcome = machine.to_end()?;
    let ended_well = outcome.reasons().is_empty();
    if !ended_well {
        eprintln!("{outcome}");
    }
    Ok(ended_well)
}

/// The names of images, for people.
fn names(images: &[PathBuf]) -> String {
    let names = images
        .iter()
        .filter_map(|image| image.file_stem()?.to_str());
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_program_has_its_name_and_finds_the_libraries() {
        let workspace = Workspace::current().unwrap();
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("my-program");
        create(&workspace, &folder, "stick").unwrap();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(
            manifest.starts_with("[package]\nname = \"my-program\"\n"),
            "{manifest}"
        );
        let library = format!("path = \"{}/firmware\"", workspace.root.display());
        assert!(manifest.contains("[profile.release.package.my-program]"));
        assert!(
            manifest.contains(&library) && !manifest.contains("\"../"),
            "{manifest}"
        );
        let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
        assert_eq!(
            main,
            fs::read_to_string(workspace.root.join("examples/src/bin/stick.rs")).unwrap()
        );
    }

    #[test]
    fn what_is_there_is_not_overwritten_and_names_must_fit() {
        let workspace = Workspace::current().unwrap();
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("twice");
        create(&workspace, &folder, "led").unwrap();
        let error = create(&workspace, &folder, "led").unwrap_err().to_string();
        assert!(error.ends_with("exists"), "{error}");
        let other = place.path().join("other");
        let error = create(&workspace, &other, "lcd").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no example \"lcd\", but keyboard, led, pci, stick"
        );
        assert!(!other.exists());
        for name in ["Big", "1st", "with space", "dots.rs", ""] {
            assert!(
                create(&workspace, &place.path().join(name), "led").is_err(),
                "{name}"
            );
        }
    }
}
