//! What the commands need on this machine: how to see whether it is there, how to get it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::emulators::{self, Emulator};
use crate::workspace::Workspace;
use crate::{exec, table, toolchain};

/// Something that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A compiler with the sources of `core`.
    Compiler,
    /// LLD.
    Linker,
    /// The formatter.
    Rustfmt,
    /// The linter.
    Clippy,
    /// Tools that fill FAT images.
    Mtools,
    /// Tools that make FAT images.
    Dosfstools,
    /// Tools that make partition tables.
    Partitioners,
    /// C compiler and library that link Linux programs for big-endian PowerPC.
    PowerPcLinux,
    /// Runs such programs.
    QemuUser,
    /// Runs the image.
    Emulator(Emulator),
}

use Need::{
    Clippy, Compiler, Dosfstools, Linker, Mtools, Partitioners, PowerPcLinux, QemuUser, Rustfmt,
};

/// What `build` needs.
pub const BUILD: [Need; 2] = [Compiler, Linker];

/// What `test` needs.
pub const TEST: [Need; 11] = [
    Compiler,
    Linker,
    Rustfmt,
    Clippy,
    Mtools,
    Dosfstools,
    Partitioners,
    PowerPcLinux,
    QemuUser,
    Need::Emulator(Emulator::Qemu),
    Need::Emulator(Emulator::Dolphin),
];

/// A need that is met.
struct Found {
    version: String,
    place: String,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Compiler => "rustc with sources of core",
            Self::Linker => "ld.lld",
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
            Self::Mtools => "mtools",
            Self::Dosfstools => "dosfstools",
            Self::Partitioners => "sfdisk, sgdisk",
            Self::PowerPcLinux => "C for powerpc-linux-gnu",
            Self::QemuUser => "qemu-ppc (user mode)",
            Self::Emulator(Emulator::Qemu) => "QEMU 10.0 for PowerPC",
            Self::Emulator(Emulator::Dolphin) => "Dolphin 2503",
        }
    }

    /// Looks whether the need is met; the error says why not.
    fn probe(self, workspace: &Workspace) -> Result<Found> {
        match self {
            Self::Compiler => {
                let compiler = toolchain::find_compiler(workspace)?;
                Ok(Found::new(compiler.version, &compiler.rustc))
            }
            Self::Linker => {
                let compiler = toolchain::find_compiler(workspace).ok();
                let linker = toolchain::find_linker(compiler.as_ref()).context("not found")?;
                Ok(Found::new(linker.version, &linker.path))
            }
            Self::Rustfmt => program(&["rustfmt"]),
            Self::Clippy => program(&["cargo-clippy"]),
            Self::Mtools => program(&["mcopy"]),
            Self::Dosfstools => silent_program("mkfs.fat"),
            Self::Partitioners => program(&["sfdisk"]).and_then(|_| program(&["sgdisk"])),
            Self::PowerPcLinux => {
                let found = program(&["powerpc-linux-gnu-gcc"])?;
                // The library's own start code: without it the compiler links nothing.
                let mut link = Command::new("powerpc-linux-gnu-gcc");
                link.arg("-print-file-name=crt1.o");
                if !exec::capture(&mut link)?.contains('/') {
                    bail!("{} has no C library", found.version);
                }
                Ok(found)
            }
            Self::QemuUser => program(&QEMU_USER),
            Self::Emulator(emulator) => {
                let found = emulator.find(workspace)?;
                Ok(Found::new(found.version, &found.path))
            }
        }
    }

    /// Component of a rustup toolchain that meets the need.
    fn component(self) -> Option<&'static str> {
        match self {
            Self::Compiler => Some("rust-src"),
            Self::Rustfmt => Some("rustfmt"),
            Self::Clippy => Some("clippy"),
            _ => None,
        }
    }

    /// Debian packages that meet the need. Debian 12 keeps a current Rust in packages of another
    /// name (`-web`), made for its browsers.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Compiler if has_web_rust() => &["rustc-web", "rust-web-src"],
            Self::Compiler => &["rustc", "rust-src"],
            Self::Linker => &["lld"],
            Self::Rustfmt if has_web_rust() => &["rustfmt-web"],
            Self::Rustfmt => &["rustfmt"],
            Self::Clippy if has_web_rust() => &["rust-web-clippy"],
            Self::Clippy => &["rust-clippy"],
            Self::Mtools => &["mtools"],
            Self::Dosfstools => &["dosfstools"],
            Self::Partitioners => &["fdisk", "gdisk"],
            Self::PowerPcLinux => &["gcc-powerpc-linux-gnu", "libc6-dev-powerpc-cross"],
            Self::QemuUser => &["qemu-user"],
            // The tool that unpacks the private root, and the keys that it checks packages with.
            Self::Emulator(_) if exec::find("mmdebstrap").is_some() => &[],
            Self::Emulator(_) => &["mmdebstrap", "debian-archive-keyring"],
        }
    }
}

/// Names of the user-mode emulator: Debian's two packages of it differ.
const QEMU_USER: [&str; 2] = ["qemu-ppc", "qemu-ppc-static"];

/// Returns the user-mode emulator for big-endian PowerPC.
pub fn qemu_user() -> Option<std::path::PathBuf> {
    QEMU_USER.iter().find_map(|name| exec::find(name))
}

impl Found {
    fn new(version: String, place: &std::path::Path) -> Self {
        Self {
            version,
            place: place.display().to_string(),
        }
    }
}

fn program(names: &[&str]) -> Result<Found> {
    let mut refusal = anyhow::anyhow!("not found");
    for path in names.iter().filter_map(|name| exec::find(name)) {
        match exec::version_line(&path) {
            Some(version) => return Ok(Found::new(version, &path)),
            None => refusal = anyhow::anyhow!("{} does not run", path.display()),
        }
    }
    Err(refusal)
}

/// A program that prints no version without doing its work.
fn silent_program(name: &str) -> Result<Found> {
    let path = exec::find(name).context("not found")?;
    Ok(Found::new("any version".into(), &path))
}

/// Says whether the packages of a current Rust exist; if apt has no lists yet, they should.
fn has_web_rust() -> bool {
    let known = |package: &str| {
        let mut query = Command::new("apt-cache");
        query.args(["show", "--no-all-versions", package]);
        exec::capture(&mut query).is_ok_and(|text| !text.is_empty())
    };
    known("rustc-web") || !known("rustc")
}

/// Prints the state of everything; returns whether all is there. Installs nothing.
pub fn doctor(workspace: &Workspace) -> Result<bool> {
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for need in TEST {
        let (place, detail) = match need.probe(workspace) {
            Ok(found) => (found.place, found.version),
            Err(refusal) => {
                missing.push(need);
                ("MISSING".to_owned(), format!("{refusal:#}"))
            }
        };
        rows.push([need.name().to_owned(), place, detail]);
    }
    print!("{}", table::layout(["need", "found", "version"], &rows));
    if missing.is_empty() {
        println!("\nEverything is there.");
        return Ok(true);
    }
    println!("\n`cargo xtask test` installs what is missing, if it may. By hand:");
    for command in remedies(workspace, &missing) {
        println!("    {command}");
    }
    Ok(false)
}

/// Returns the commands that meet the needs, in order.
fn remedies(workspace: &Workspace, missing: &[Need]) -> Vec<String> {
    let (components, missing) = split_components(missing);
    let mut commands = Vec::new();
    if !components.is_empty() {
        commands.push(format!("rustup component add {}", components.join(" ")));
    }
    let packages = packages(&missing);
    if !packages.is_empty() {
        let sudo = if exec::is_root() { "" } else { "sudo " };
        let list = packages.join(" ");
        commands.push(format!(
            "{sudo}apt-get update && {sudo}apt-get install --no-install-recommends -y {list}"
        ));
    }
    if missing.iter().any(|need| matches!(need, Need::Emulator(_))) {
        let root = emulators::private_root(workspace);
        commands.push(exec::describe(&emulators::root_command(&root)));
    }
    commands
}

/// Splits off what rustup can add to the active toolchain, if rustup is there.
fn split_components(missing: &[Need]) -> (Vec<&'static str>, Vec<Need>) {
    if exec::find("rustup").is_none() {
        return (Vec::new(), missing.to_vec());
    }
    let (by_rustup, rest) = missing.iter().partition(|need| need.component().is_some());
    let by_rustup: Vec<Need> = by_rustup;
    (
        by_rustup
            .iter()
            .filter_map(|need| need.component())
            .collect(),
        rest,
    )
}

fn packages(missing: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing
        .iter()
        .flat_map(|need| need.packages())
        .copied()
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing of `needs`, as far as this process may.
///
/// # Errors
/// Names what is still missing and the command that gets it.
pub fn ensure(workspace: &Workspace, needs: &[Need]) -> Result<()> {
    let still_missing = |needs: &[Need]| -> Vec<Need> {
        let missing = |need: &&Need| need.probe(workspace).is_err();
        needs.iter().filter(missing).copied().collect()
    };
    let mut missing = still_missing(needs);

    let (components, _) = split_components(&missing);
    if !components.is_empty() {
        println!("==> adding {} to the Rust toolchain", components.join(", "));
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add"]).args(components);
        match exec::run(&mut rustup) {
            Ok(()) => {}
            // Debian's packages may do instead.
            Err(error) => println!("    {error:#}"),
        }
        missing = still_missing(&missing);
    }

    let packages = packages(&missing);
    if !packages.is_empty() && exec::is_root() && exec::find("apt-get").is_some() {
        println!("==> installing {}", packages.join(" "));
        exec::run(apt().arg("update"))?;
        // The lists may name packages that were unknown before.
        let packages = self::packages(&missing);
        exec::run(
            apt()
                .args(["install", "--no-install-recommends", "-y"])
                .args(packages),
        )?;
        missing = still_missing(&missing);
    }

    // Not before everything else is there: it takes the longest.
    let emulators = missing.iter().all(|need| matches!(need, Need::Emulator(_)));
    if emulators && !missing.is_empty() && exec::find("mmdebstrap").is_some() {
        emulators::make_private_root(workspace)?;
        missing = still_missing(&missing);
    }

    let Some(first) = missing.first() else {
        return Ok(());
    };
    let reason = first
        .probe(workspace)
        .err()
        .unwrap_or_else(|| anyhow::anyhow!("not found"));
    bail!(
        "{} is missing: {reason:#}\nTo install it:\n    {}",
        first.name(),
        remedies(workspace, &missing).join("\n    ")
    )
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_has_a_way_to_be_met() {
        for need in TEST {
            let by_root = matches!(need, Need::Emulator(_));
            assert!(by_root || !need.packages().is_empty(), "{}", need.name());
        }
    }

    #[test]
    fn packages_are_listed_once() {
        let both = [
            Need::Emulator(Emulator::Qemu),
            Need::Emulator(Emulator::Dolphin),
        ];
        assert!(packages(&both).len() <= 2);
        assert_eq!(packages(&[Mtools, Mtools]), ["mtools"]);
    }
}
