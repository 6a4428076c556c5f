//! The source tree: where it is, which packages it holds, where results go.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::exec;

/// A checkout of this project.
pub struct Workspace {
    /// The folder that holds the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

/// What `cargo metadata` says about a member of the workspace.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Version of the package.
    pub version: String,
    /// The folder of its `Cargo.toml`.
    pub folder: PathBuf,
    /// The oldest compiler that it promises to do with.
    pub compiler: Option<String>,
    /// Names of its programs.
    pub programs: Vec<String>,
}

impl Workspace {
    /// Returns the tree that this program was started for.
    pub fn current() -> Result<Self> {
        // Cargo sets the variable when it runs us. The value of compile time would name another
        // checkout if two of them share a target folder.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest
            .parent()
            .context("the folder of xtask has no parent")?
            .to_owned();
        Ok(Self { root })
    }

    /// Returns a path below the folder for results; scripts rely on `target/dol` and its like,
    /// wherever cargo keeps its own files.
    pub fn target(&self, path: &str) -> PathBuf {
        self.root.join("target").join(path)
    }

    /// Returns a cargo command that works on this tree.
    pub fn cargo(&self, verb: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(verb).current_dir(&self.root);
        command
    }

    /// Returns what belongs to the sources, relative to the root and sorted: every file that git does not ignore.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut list = Command::new("git");
        list.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&self.root);
        let files = exec::capture(&mut list)?;
        let files = files.split_terminator('\0').map(str::to_owned);
        // Not one that was deleted without telling git.
        let mut files: Vec<String> = files
            .filter(|file| self.root.join(file).is_file())
            .collect();
        files.sort();
        Ok(files)
    }

    fn metadata(&self) -> Result<Value> {
        let mut command = self.cargo("metadata");
        command.args(["--no-deps", "--format-version", "1"]);
        serde_json::from_str(&exec::capture(&mut command)?)
            .context("cannot read what cargo says about the workspace")
    }

    /// Returns the folder where cargo keeps its own files.
    pub fn cargo_target(&self) -> Result<PathBuf> {
        Ok(text(&self.metadata()?["target_directory"]).into())
    }

    /// Returns the members of the workspace, in order of their names.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let mut packages = array(&self.metadata()?["packages"])
            .map(|package| Package {
                name: text(&package["name"]),
                version: text(&package["version"]),
                folder: Path::new(&text(&package["manifest_path"]))
                    .parent()
                    .unwrap_or(&self.root)
                    .to_owned(),
                compiler: package["rust_version"].as_str().map(str::to_owned),
                programs: array(&package["targets"])
                    .filter(|target| array(&target["kind"]).any(|kind| kind == "bin"))
                    .map(|target| text(&target["name"]))
                    .collect(),
            })
            .collect::<Vec<_>>();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(packages)
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
