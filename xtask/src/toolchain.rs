//! The compiler and the linker for the Wii: any rustc that has the sources of `core` beside it,
//! any LLD.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::exec;
use crate::workspace::Workspace;

/// Target description, relative to the root of the workspace.
pub const TARGET: &str = "powerpc-target.json";

/// A compiler that can build `core` for the target.
#[derive(Debug)]
pub struct Compiler {
    /// Path of `rustc` itself, not of a rustup shim.
    pub rustc: PathBuf,
    /// Path of the matching `rustdoc`.
    pub rustdoc: PathBuf,
    /// Root of its libraries and sources.
    pub sysroot: PathBuf,
    /// First line of `rustc --version`.
    pub version: String,
}

/// A linker and what it says about itself.
#[derive(Debug)]
pub struct Linker {
    /// Path of a program that behaves as `ld.lld`.
    pub path: PathBuf,
    /// First line of `--version`.
    pub version: String,
}

/// Finds a compiler: the active toolchain, then the system's.
///
/// # Errors
/// Says for each candidate why it does not do.
pub fn find_compiler(workspace: &Workspace) -> Result<Compiler> {
    let active = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut refusals = Vec::new();
    for rustc in [PathBuf::from(active), PathBuf::from("/usr/bin/rustc")] {
        match examine(&rustc, workspace) {
            Ok(compiler) => return Ok(compiler),
            Err(refusal) => refusals.push(format!("{refusal:#}")),
        }
    }
    refusals.dedup();
    Err(anyhow!(refusals.join("; ")))
}

fn examine(rustc: &Path, workspace: &Workspace) -> Result<Compiler> {
    let version = exec::version_line(rustc)
        .with_context(|| format!("{} is not there or does not run", rustc.display()))?;
    let sysroot = exec::capture(rustc_command(rustc).args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim());
    if !library(&sysroot).join("core/src/lib.rs").is_file() {
        return Err(anyhow!("{version} has no sources of core"));
    }
    // The format of target descriptions changes with the compiler: ask this one.
    let mut probe = rustc_command(rustc);
    probe.args(["-Zunstable-options", "--print", "cfg", "--target"]);
    probe.arg(workspace.root.join(TARGET));
    exec::capture(&mut probe).with_context(|| format!("{version} does not accept {TARGET}"))?;
    Ok(Compiler {
        rustc: sysroot.join("bin/rustc"),
        rustdoc: sysroot.join("bin/rustdoc"),
        sysroot,
        version,
    })
}

/// Says whether a compiler is that of the active toolchain, whose tools are the ones that cargo runs.
pub fn is_active(compiler: &Compiler) -> bool {
    active_sysroot().is_some_and(|active| active == compiler.sysroot)
}

fn active_sysroot() -> Option<PathBuf> {
    let sysroot = exec::capture(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    Some(sysroot.trim().into())
}

/// Returns the folder of the sources of `core` and `alloc` under a sysroot.
pub fn library(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust/library")
}

fn rustc_command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    // A stable compiler takes unstable options only with this.
    command.env("RUSTC_BOOTSTRAP", "1");
    // `cargo run` points it at its own toolchain's libraries, which are not those of another one.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// Finds a linker: the system's, then the one that comes with a Rust toolchain.
pub fn find_linker(compiler: Option<&Compiler>) -> Option<Linker> {
    let system = exec::find("ld.lld");
    let bundled = compiler.map(|compiler| compiler.sysroot.clone());
    let sysroots = bundled.into_iter().chain(active_sysroot());
    system
        .into_iter()
        .chain(sysroots.flat_map(|sysroot| bundled_linkers(&sysroot)))
        .find_map(|path| {
            let version = exec::version_line(&path)?;
            Some(Linker { path, version })
        })
}

/// Toolchains hold LLD under the name `rust-lld`; the wrapper in `gcc-ld` makes it behave as `ld.lld`.
fn bundled_linkers(sysroot: &Path) -> Vec<PathBuf> {
    let Ok(hosts) = sysroot.join("lib/rustlib").read_dir() else {
        return Vec::new();
    };
    hosts
        .flatten()
        .map(|host| host.path().join("bin/gcc-ld/ld.lld"))
        .filter(|path| exec::is_executable(path))
        .collect()
}

impl Compiler {
    /// Makes a cargo command use this compiler, including its own sources of the standard library.
    pub fn apply(&self, command: &mut Command) {
        command
            .env("RUSTC", &self.rustc)
            .env("RUSTDOC", &self.rustdoc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("RUSTFLAGS");
    }
}
