//! The library crates as a registry would have them: packed, and used by a program that sees nothing else of this tree.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::workspace::{Package, Workspace};
use crate::{book, exec};

/// The crates that others may use, and the features that the program below wants of them.
const CRATES: [(&str, &[&str]); 3] = [
    ("hollywood-pac", &[]),
    ("mem2-dma", &["mem2"]),
    ("ehci", &["embassy"]),
];
/// The chapter whose example becomes the program.
const CHAPTER: &str = "docs/src/bounce-pool.md";

/// Packs the crates, builds and runs a program that depends on the packed files only, tests the examples of their read-me files,
/// and checks that neither they nor what they depend on need a newer compiler than they promise.
///
/// # Errors
/// Any of that fails.
pub fn check(workspace: &Workspace) -> Result<()> {
    let packages = workspace.packages()?;
    let target = workspace.cargo_target()?;
    let mut pack = workspace.cargo("package");
    // Changes that are not committed yet are packed as well.
    pack.arg("--allow-dirty");
    for (name, _) in CRATES {
        pack.args(["--package", name]);
    }
    exec::run(&mut pack).context("cargo package has objections")?;

    let folder = workspace.target("consumer");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let root = folder.join("src");
    fs::create_dir_all(&root)?;
    fs::write(folder.join("Cargo.toml"), manifest(&packages, &target)?)?;
    fs::copy(workspace.root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    fs::write(
        root.join("main.rs"),
        book::first_program(&workspace.root, CHAPTER)?,
    )?;
    let mut library = String::new();
    for package in crates(&packages)? {
        let page = unpacked(package, &target)?.join("README.md");
        library += &format!(
            "#[doc = include_str!({page:?})]\npub mod {} {{}}\n",
            package.name.replace('-', "_")
        );
    }
    fs::write(root.join("lib.rs"), library)?;

    let consumer = Workspace { root: folder };
    for verb in ["run", "test"] {
        exec::run(consumer.cargo(verb).env("CARGO_TARGET_DIR", &target))
            .with_context(|| format!("cargo {verb} of a program that uses the packed crates"))?;
    }
    let newest = promise(&packages)?;
    println!(
        "no dependency needs a compiler newer than {newest}: {}",
        check_compilers(&consumer, &newest)?
    );
    check_with(&consumer, &newest)
}

fn crates(packages: &[Package]) -> Result<Vec<&Package>> {
    let find = |name| packages.iter().find(|package| package.name == name);
    CRATES
        .into_iter()
        .map(|(name, _)| find(name).with_context(|| format!("the workspace has no package {name}")))
        .collect()
}

/// The folder of a packed crate's files, as `cargo package` leaves it.
fn unpacked(package: &Package, target: &Path) -> Result<std::path::PathBuf> {
    let folder = target.join(format!("package/{}-{}", package.name, package.version));
    ensure!(
        folder.join("Cargo.toml").is_file(),
        "{} is not there",
        folder.display()
    );
    Ok(folder)
}

/// A manifest that takes the crates by version, from where they are packed.
fn manifest(packages: &[Package], target: &Path) -> Result<String> {
    let mut dependencies = String::new();
    let mut places = String::new();
    for (package, (_, features)) in crates(packages)?.into_iter().zip(CRATES) {
        let Package { name, version, .. } = package;
        dependencies +=
            &format!("{name} = {{ version = \"{version}\", features = {features:?} }}\n");
        places += &format!("{name} = {{ path = {:?} }}\n", unpacked(package, target)?);
    }
    Ok(format!(
        "[package]\nname = \"consumer\"\nedition = \"2024\"\n\n[dependencies]\n\
         critical-section = {{ version = \"1.2\", features = [\"std\"] }}\nembedded-hal = \"1.0\"\n{dependencies}\n\
         [patch.crates-io]\n{places}\n[workspace]\n"
    ))
}

/// The compiler that the crates promise to do with.
fn promise(packages: &[Package]) -> Result<String> {
    let mut promises: Vec<_> = crates(packages)?
        .iter()
        .map(|package| package.compiler.clone())
        .collect();
    promises.dedup();
    match promises.as_slice() {
        [Some(one)] => Ok(one.clone()),
        other => bail!("the crates promise different compilers: {other:?}"),
    }
}

/// Checks every package that the consumer is built of, and returns how many there are.
fn check_compilers(consumer: &Workspace, newest: &str) -> Result<usize> {
    let mut command = consumer.cargo("metadata");
    command.args(["--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&exec::capture(&mut command)?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    for package in packages {
        let Some(needs) = package["rust_version"].as_str() else {
            continue;
        };
        ensure!(
            parts(needs) <= parts(newest),
            "{} needs Rust {needs}, the crates promise {newest}",
            package["name"]
        );
    }
    Ok(packages.len())
}

/// Has the compiler that the crates promise to do with check them, if rustup has it, and says whether it did. It is no need of
/// the test command: a toolchain need not come from rustup.
fn check_with(consumer: &Workspace, version: &str) -> Result<()> {
    let [major, minor, patch] = parts(version);
    let toolchain = format!("{major}.{minor}.{patch}");
    let mut which = Command::new("rustup");
    which.args(["which", "--toolchain", &toolchain, "rustc"]);
    let Ok(compiler) = exec::capture(&mut which) else {
        println!(
            "not built with {toolchain} itself; `rustup toolchain install {toolchain}` would change that"
        );
        return Ok(());
    };
    let mut check = consumer.cargo("check");
    // Beside what the other compiler has built.
    check
        .env("RUSTC", compiler.trim())
        .args(["--target-dir", "target"]);
    exec::run(&mut check)
        .with_context(|| format!("the packed crates do not build with {toolchain}"))?;
    println!("built with {toolchain} itself");
    Ok(())
}

/// A version as numbers, with as many as there are: 1.88 and 1.88.0 are one.
fn parts(version: &str) -> [u32; 3] {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(parts("1.9") < parts("1.88") && parts("1.88") == parts("1.88.0"));
        assert!(parts("2") > parts("1.99.9"));
    }
}
