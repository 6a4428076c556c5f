//! QEMU and Dolphin: the system's if new enough, else those of a private Debian 13 root.
//!
//! The root is a folder of unpacked packages in the user's cache. Its programs run through its own
//! loader and libraries, without chroot and without privileges.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result, bail};

use crate::exec;
use crate::workspace::Workspace;

/// Release and packages of the private root; both are in its folder's name, so that a change of
/// them makes a new one.
const SUITE: &str = "trixie";
const PACKAGES: [&str; 2] = ["dolphin-emu", "qemu-system-ppc"];

/// An emulator that the tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// QEMU for PowerPC; from 10.0 on its trace shows every mapping of guest memory.
    Qemu,
    /// Dolphin without its window; from 2503 on it models the data cache.
    Dolphin,
}

/// An emulator's program.
#[derive(Debug)]
pub struct Found {
    /// What to execute.
    pub path: PathBuf,
    /// First line of `--version`.
    pub version: String,
}

impl Emulator {
    /// Name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-system-ppc",
            Self::Dolphin => "dolphin-emu-nogui",
        }
    }

    /// Name on the command line and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Dolphin => "dolphin",
        }
    }

    /// The harness's word for it.
    pub fn machine(self) -> dolphin_tests::Emulator {
        match self {
            Self::Qemu => dolphin_tests::Emulator::Qemu,
            Self::Dolphin => dolphin_tests::Emulator::Dolphin,
        }
    }

    /// Variable that names the program to the test harness, and to us if the user sets it.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Qemu => "WIISTICK_QEMU",
            Self::Dolphin => "WIISTICK_DOLPHIN",
        }
    }

    /// Lowest version that will do: the first number of the version line.
    pub fn minimum(self) -> u32 {
        match self {
            Self::Qemu => 10,
            Self::Dolphin => 2503,
        }
    }

    /// Path of the program within a Debian root.
    fn place(self) -> &'static str {
        match self {
            Self::Qemu => "usr/bin/qemu-system-ppc",
            Self::Dolphin => "usr/games/dolphin-emu-nogui",
        }
    }

    /// Finds the emulator: the one that the environment names, the system's, the private root's.
    ///
    /// # Errors
    /// Says what was found instead.
    pub fn find(self, workspace: &Workspace) -> Result<Found> {
        if let Some(path) = env::var_os(self.variable()) {
            let path = PathBuf::from(path);
            return self
                .check(path)
                .with_context(|| format!("{} in the environment", self.variable()));
        }
        let system = match exec::find(self.program()).map(|path| self.check(path)) {
            Some(Ok(found)) => return Ok(found),
            Some(Err(refusal)) => format!("{refusal:#}"),
            None => format!(
                "no {} of version {} or newer",
                self.program(),
                self.minimum()
            ),
        };
        let root = private_root(workspace);
        if !root.join(self.place()).is_file() {
            bail!("{system}, and no private Debian root");
        }
        let wrapper = self.write_wrapper(workspace, &root)?;
        self.check(wrapper)
    }

    fn check(self, path: PathBuf) -> Result<Found> {
        let version = exec::version_line(&path)
            .with_context(|| format!("{} does not run", path.display()))?;
        match first_number(&version) {
            Some(number) if number >= self.minimum() => Ok(Found { path, version }),
            _ => bail!("{version} is older than {}", self.minimum()),
        }
    }

    /// Writes the script that runs a program of the root. It replaces itself by the program, so
    /// that whoever starts it has the emulator's own process.
    fn write_wrapper(self, workspace: &Workspace, root: &Path) -> Result<PathBuf> {
        let (triple, loader) = debian_names()?;
        let lib = root.join("usr/lib").join(triple);
        let libraries = ["", "pulseaudio", "blas", "lapack"]
            .map(|folder| lib.join(folder).display().to_string())
            .join(":");
        // QEMU is told where its firmware and modules are. Dolphin looks for its own data (settings
        // of games, fonts) where its package is meant to be: it finds none, and a DOL needs none.
        let arguments = match self {
            Self::Qemu => format!("-L {} ", exec::quote(root.join("usr/share/qemu"))),
            Self::Dolphin => String::new(),
        };
        let script = format!(
            "#!/bin/sh\n# Runs a program of the private Debian root with that root's libraries.\n\
             export QEMU_MODULE_DIR={}\n\
             exec {} --library-path {} {} {arguments}\"$@\"\n",
            exec::quote(lib.join("qemu")),
            exec::quote(root.join(loader)),
            exec::quote(libraries),
            exec::quote(root.join(self.place())),
        );
        let path = workspace.target("tools").join(self.program());
        if fs::read_to_string(&path).is_ok_and(|old| old == script) {
            return Ok(path);
        }
        write_program(&path, &script)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Writes an executable file under a temporary name first: another process may be running it.
fn write_program(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let temporary = path.with_extension(process::id().to_string());
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    fs::write(&temporary, text)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
    fs::rename(&temporary, path)
}

/// Debian's name for this processor's libraries, and the loader's place in a root.
fn debian_names() -> Result<(&'static str, &'static str)> {
    match env::consts::ARCH {
        "x86_64" => Ok(("x86_64-linux-gnu", "usr/lib64/ld-linux-x86-64.so.2")),
        "aarch64" => Ok(("aarch64-linux-gnu", "usr/lib/ld-linux-aarch64.so.1")),
        other => bail!("no private Debian root for {other}: install the emulators yourself"),
    }
}

/// Returns the first number in a version line, up to its first dot.
fn first_number(version: &str) -> Option<u32> {
    let digits = |word: &str| -> String { word.chars().take_while(char::is_ascii_digit).collect() };
    version
        .split_whitespace()
        .find_map(|word| digits(word).parse().ok())
}

/// Returns where the private root is, or will be.
pub fn private_root(workspace: &Workspace) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| workspace.target("cache"));
    let name = format!("{SUITE}-{}", PACKAGES.join("-"));
    cache.join("wiistick").join(name)
}

/// Returns the command that unpacks a root into a folder that does not exist yet.
pub fn root_command(folder: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    if !exec::is_root() {
        // Packages are only unpacked, nothing of them runs: no privileges needed.
        command.arg("--mode=chrootless");
    }
    command
        .args(["--quiet", "--variant=extract"])
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(folder);
    command
}

/// Makes the private root, unless another process has made it meanwhile.
pub fn make_private_root(workspace: &Workspace) -> Result<()> {
    let root = private_root(workspace);
    let folder = root.parent().context("a root without a parent")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        println!("==> waiting for another process that unpacks the emulators");
        lock.lock()?;
    }
    if root.exists() {
        return Ok(());
    }
    println!(
        "==> unpacking Dolphin and QEMU of Debian 13 into {} (about 0.8 GB, half a minute)",
        root.display()
    );
    // What an interrupted process left behind: nobody else works here while we hold the lock.
    let unfinished = root.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    exec::run(&mut root_command(&unfinished))?;
    fs::rename(&unfinished, &root)
        .with_context(|| format!("cannot rename {}", unfinished.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_a_version_line_decides() {
        assert_eq!(
            first_number("QEMU emulator version 10.0.13 (Debian 1:10)"),
            Some(10)
        );
        assert_eq!(first_number("QEMU emulator version 7.2.22"), Some(7));
        assert_eq!(first_number("Dolphin [master] 2503"), Some(2503));
        assert_eq!(first_number("Dolphin 2506a-12"), Some(2506));
        assert_eq!(first_number("Dolphin 5.0-17995"), Some(5));
        assert_eq!(first_number("no number"), None);
    }
}
