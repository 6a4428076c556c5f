//! Builds everything that runs on the Wii's processor, the same bytes wherever the sources lie.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::elf;
use object::read::elf::ElfFile32;
use object::{BigEndian, Object, ObjectSection, SectionFlags};

use crate::dol::{Dol, pack};
use crate::exec;
use crate::toolchain::{self, Compiler, Linker};
use crate::workspace::{Package, Workspace};

/// The package whose programs become DOLs.
pub const FIRMWARE: &str = "wiistick";
/// The firmware's program for users, which is packed.
const BOOT: &str = "boot";
/// The package that the packed program begins with, and its program.
const UNPACKER: &str = "unpacker";
/// The package that boots a DOL in QEMU; its program stays an ELF.
const SHIM: &str = "qemu-shim";
/// The package that gives Dolphin its sticks, and the library that it becomes.
const STICKS: (&str, &str) = ("virtual-libusb", "libvirtual_libusb.so");
/// The examples, a package outside the workspace, and its manifest.
const EXAMPLES: (&str, &str) = ("examples", "examples/Cargo.toml");
/// What [`check_size`] measures: an example of a package, and how many bytes of memory it may take.
const SMALL: (&str, &str, u64) = ("hollywood-pac", "three_registers", 512);
/// What [`check_no_panic`] links: packages whose example `no_panic` does all that they can do, with the features that it takes.
const NO_PANIC: [(&str, &str); 2] = [("mem2-dma", "mem2"), ("ehci", "")];

/// Builds all images of the tree into `target/dol`. Cargo keeps its own files in `cargo_target`,
/// if given.
///
/// # Errors
/// The toolchain is missing, the build fails, or an image does not fit the DOL format.
pub fn build(workspace: &Workspace, cargo_target: Option<&Path>) -> Result<()> {
    let build = Build::new(workspace, cargo_target)?;
    let packages = workspace.packages()?;
    let output = workspace.target("dol");
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;

    let unpacker = build
        .compile(UNPACKER, &["--bins".as_ref()])?
        .join(UNPACKER);
    for program in build.programs(&packages, FIRMWARE)? {
        let is_boot = program.file_name() == Some(BOOT.as_ref());
        store(&program, is_boot.then_some(&*unpacker), &output)?;
    }
    if packages.iter().any(|package| package.name == SHIM) {
        build.shim(&packages, &output)?;
    }
    Ok(())
}

/// Builds the firmware's test image as a program whose cost is counted, into `target/dol/counted`, with what boots it in QEMU: for speed, as
/// cargo builds a program by default, while the images of `target/dol` are built for size.
///
/// # Errors
/// As [`build`].
pub fn build_counted(workspace: &Workspace) -> Result<PathBuf> {
    let output = workspace.target("dol/counted");
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let build = Build {
        profile: "bench",
        ..Build::new(workspace, None)?
    };
    let folder = build.compile(FIRMWARE, &["--bin".as_ref(), "selftest".as_ref()])?;
    store(&folder.join("selftest"), None, &output)?;
    Build::new(workspace, None)?.shim(&workspace.packages()?, &output)?;
    Ok(output)
}

/// Builds only what boots a DOL in QEMU, into `target/dol`.
///
/// # Errors
/// The toolchain is missing, or the build fails.
pub fn build_shim(workspace: &Workspace) -> Result<()> {
    let output = workspace.target("dol");
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    Build::new(workspace, None)?.shim(&workspace.packages()?, &output)
}

/// Builds the programs of a package outside the workspace into `output`, and returns their names. It shares cargo's own files with
/// the workspace, so that the libraries need not be built once more.
///
/// # Errors
/// There is no such package, the toolchain is missing, the build fails, or an image does not fit the DOL format.
pub fn build_project(
    workspace: &Workspace,
    project: &Workspace,
    output: &Path,
) -> Result<Vec<String>> {
    let lock = project.root.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(workspace.root.join("Cargo.lock"), &lock)
            .with_context(|| format!("cannot write {}", lock.display()))?;
    }
    let packages = project.packages()?;
    let package = packages.first().context("there is no package")?;
    ensure!(
        !package.programs.is_empty(),
        "{} has no program",
        package.name
    );
    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let manifest = package.folder.join("Cargo.toml");
    let selection = [
        "--bins".as_ref(),
        "--manifest-path".as_ref(),
        manifest.as_os_str(),
    ];
    let folder = Build::new(workspace, None)?.compile(&package.name, &selection)?;
    for program in &package.programs {
        store(&folder.join(program), None, output)?;
    }
    Ok(package.programs.clone())
}

/// Stores a program as ELF and as DOL, packed if there is an unpacker.
fn store(program: &Path, unpacker: Option<&Path>, output: &Path) -> Result<()> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let bytes = read(program)?;
    let mut dol = Dol::from_elf(&bytes).with_context(|| program.display().to_string())?;
    if let Some(unpacker) = unpacker {
        dol = pack(&dol, &read(unpacker)?).context("cannot pack the program")?;
    }
    let place = output.join(program.file_name().context("a program without a name")?);
    fs::write(place.with_extension("elf"), &bytes)?;
    fs::write(place.with_extension("dol"), dol.to_bytes())?;
    Ok(())
}

/// Builds the stand-in for libusb that gives Dolphin its sticks, into `target/dol` beside the images.
///
/// # Errors
/// The build fails.
pub fn build_sticks(workspace: &Workspace) -> Result<()> {
    exec::run(workspace.cargo("build").args(["--package", STICKS.0]))?;
    let output = workspace.target("dol");
    fs::create_dir_all(&output)?;
    let library = workspace.cargo_target()?.join("debug").join(STICKS.1);
    // Renamed, not overwritten: a running Dolphin may have it mapped.
    let (new, place) = (output.join(STICKS.1), output.join("libusb-1.0.so.0"));
    fs::copy(&library, &new).with_context(|| format!("cannot copy {}", library.display()))?;
    fs::rename(&new, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// Has clippy look at what is compiled for the Wii only, and at the examples. Returns whether it did: it takes a clippy that belongs to the
/// compiler.
///
/// # Errors
/// Clippy has objections.
pub fn lint(workspace: &Workspace) -> Result<bool> {
    let build = Build::new(workspace, None)?;
    if !toolchain::is_active(&build.compiler) {
        println!(
            "NOT LINTED: what is compiled for the Wii only; clippy does not belong to {}",
            build.compiler.version
        );
        return Ok(false);
    }
    let examples = workspace.root.join(EXAMPLES.1);
    for (package, selection) in [
        (FIRMWARE, &["--lib".as_ref(), "--bins".as_ref()][..]),
        (UNPACKER, &["--bins".as_ref()]),
        (SHIM, &["--bins".as_ref()]),
        (
            EXAMPLES.0,
            &[
                "--bins".as_ref(),
                "--manifest-path".as_ref(),
                examples.as_os_str(),
            ],
        ),
    ] {
        let (mut cargo, _) = build.cargo("clippy", package, selection)?;
        exec::run(cargo.args(["--", "-D", "warnings"]))
            .with_context(|| format!("clippy has objections to {package}, on the Wii"))?;
    }
    Ok(true)
}

/// Checks that registers cost nothing: a whole program that uses three of them fits in a few hundred bytes.
///
/// # Errors
/// It does not, or the build fails.
pub fn check_size(workspace: &Workspace) -> Result<()> {
    let (package, example, limit) = SMALL;
    let folder =
        Build::new(workspace, None)?.compile(package, &["--example".as_ref(), example.as_ref()])?;
    let program = folder.join("examples").join(example);
    let file = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let elf = ElfFile32::<BigEndian>::parse(&*file).context("not a big-endian 32-bit ELF")?;
    // Code, constants and variables, with and without contents.
    let size = elf
        .sections()
        .filter(|section| {
            matches!(section.flags(), SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_ALLOC) != 0)
        })
        .map(|section| section.size())
        .sum::<u64>();
    println!("{package}: {example} takes {size} bytes of memory, {limit} at most");
    ensure!(
        (1..=limit).contains(&size),
        "{example} takes {size} bytes of memory, more than {limit} (or none)"
    );
    Ok(())
}

/// Checks that nothing in the libraries can panic: their examples of that name do not link if something refers to the panic handler.
///
/// # Errors
/// Something does; the linker says from where.
pub fn check_no_panic(workspace: &Workspace) -> Result<()> {
    let build = Build::new(workspace, None)?;
    for (package, features) in NO_PANIC {
        let selection = ["--example", "no_panic", "--features", features].map(OsStr::new);
        build
            .compile(package, &selection)
            .with_context(|| format!("{package}: something can panic"))?;
        println!("{package}: nothing can panic");
    }
    Ok(())
}

struct Build<'a> {
    workspace: &'a Workspace,
    compiler: Compiler,
    linker: Linker,
    cargo_target: Option<&'a Path>,
    /// The profile of the workspace's manifest.
    profile: &'static str,
}

impl<'a> Build<'a> {
    fn new(workspace: &'a Workspace, cargo_target: Option<&'a Path>) -> Result<Self> {
        let compiler = toolchain::find_compiler(workspace)?;
        let linker = toolchain::find_linker(Some(&compiler)).context("no LLD")?;
        Ok(Self {
            workspace,
            compiler,
            linker,
            cargo_target,
            profile: "release",
        })
    }

    /// Builds the programs of a package and returns their files.
    fn programs(&self, packages: &[Package], name: &str) -> Result<Vec<PathBuf>> {
        let package = packages.iter().find(|package| package.name == name);
        let package = package.with_context(|| format!("the workspace has no package {name}"))?;
        let folder = self.compile(name, &["--bins".as_ref()])?;
        let files = package.programs.iter().map(|program| folder.join(program));
        Ok(files.collect())
    }

    fn shim(&self, packages: &[Package], output: &Path) -> Result<()> {
        for program in self.programs(packages, SHIM)? {
            fs::copy(&program, output.join("shim.elf"))?;
        }
        Ok(())
    }

    /// Builds a `selection` of what a package has and returns the folder that holds it.
    fn compile(&self, package: &str, selection: &[&OsStr]) -> Result<PathBuf> {
        let (mut cargo, target) = self.cargo("build", package, selection)?;
        exec::run(&mut cargo)?;
        // Also of the profile `bench`.
        Ok(target.join("powerpc-target/release"))
    }

    /// Returns a cargo command for the target, and the folder where its files go.
    fn cargo(&self, verb: &str, package: &str, selection: &[&OsStr]) -> Result<(Command, PathBuf)> {
        let mut cargo = self.workspace.cargo(verb);
        cargo
            .args(["--profile", self.profile, "--package", package])
            .args(selection)
            // The compiler calls memcpy and its kin; there is no C library that has them.
            .args([
                "-Zbuild-std=core,alloc",
                "-Zbuild-std-features=compiler-builtins-mem",
            ])
            .arg("--target")
            .arg(self.workspace.root.join(toolchain::TARGET))
            .args(json_target_option(self.workspace));
        let target = match self.cargo_target {
            Some(folder) => folder.to_owned(),
            None => self.workspace.cargo_target()?,
        };
        self.compiler.apply(&mut cargo);
        cargo
            .env("CARGO_TARGET_POWERPC_TARGET_LINKER", &self.linker.path)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(&target)?);
        Ok((cargo, target))
    }

    /// Paths must not reach the image (in the places of panics, in symbol names): each folder that
    /// may differ from machine to machine gets a fixed name.
    fn flags(&self, target: &Path) -> Result<OsString> {
        let mut flags = OsString::new();
        let library = toolchain::library(&self.compiler.sysroot);
        // The last one that fits wins.
        let mut folders = vec![
            (self.workspace.root.clone(), ""),
            (target.to_owned(), "target"),
        ];
        folders.extend(registry_sources()?.map(|folder| (folder, "registry")));
        // Debian's is a link to elsewhere.
        folders.extend(library.canonicalize().map(|folder| (folder, "library")));
        folders.push((library, "library"));
        for (from, to) in folders {
            if !flags.is_empty() {
                flags.push("\x1f");
            }
            flags.push("--remap-path-prefix=");
            flags.push(from);
            flags.push("=");
            flags.push(to);
        }
        Ok(flags)
    }
}

/// Returns the folders where cargo keeps the sources of other people's crates, one per registry and
/// named after it, so that a mirror has another name.
fn registry_sources() -> Result<impl Iterator<Item = PathBuf>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let folders = home
        .join("registry/src")
        .read_dir()
        .into_iter()
        .flatten()
        .flatten();
    Ok(folders.map(|entry| entry.path()))
}

/// Newer versions of cargo take a target description only with this option; older ones do not
/// know it.
fn json_target_option(workspace: &Workspace) -> Option<&'static str> {
    let mut help = workspace.cargo("-Zhelp");
    help.env("RUSTC_BOOTSTRAP", "1");
    let known = exec::capture(&mut help).is_ok_and(|text| text.contains("json-target-spec"));
    known.then_some("-Zjson-target-spec")
}

/// Builds the images a second time, cleanly, from a copy of the sources in another folder, and
/// compares.
///
/// # Errors
/// The bytes differ, or the build fails.
pub fn check_reproducible(workspace: &Workspace) -> Result<()> {
    let copy = workspace.target("reproducible/a folder with another name");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    copy_sources(workspace, &copy)?;
    let other = Workspace { root: copy };
    build(&other, Some(&other.target("cargo")))?;
    let mut compared = 0;
    // Ours has images from elsewhere, too: those of the examples.
    for entry in fs::read_dir(other.target("dol"))? {
        let path = entry?.path();
        let name = path.file_name().context("an image without a name")?;
        if path.extension().is_none_or(|extension| extension != "dol") {
            continue;
        }
        let theirs = fs::read(&path)?;
        let path = workspace.target("dol").join(name);
        let ours = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            ours == theirs,
            "{} differs from the one built in {}",
            path.display(),
            other.root.display()
        );
        println!("{}: {} identical bytes", name.display(), ours.len());
        compared += 1;
    }
    ensure!(
        compared > 0,
        "there is no image in {}",
        other.target("dol").display()
    );
    fs::remove_dir_all(workspace.target("reproducible"))?;
    Ok(())
}

/// Copies what belongs to the sources: everything that git does not ignore.
fn copy_sources(workspace: &Workspace, to: &Path) -> Result<()> {
    for file in workspace.files()? {
        let (from, to) = (workspace.root.join(&file), to.join(&file));
        fs::create_dir_all(to.parent().unwrap_or(&workspace.root))?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}
