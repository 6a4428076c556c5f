//! Where the emulators and the images are. `cargo xtask test` sets the environment variables.

use crate::Error;
use std::{env, path::PathBuf};

/// Emulators and images.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `qemu-system-ppc` 10 or newer, or a script that ends in `exec`ing it.
    pub qemu: PathBuf,
    /// `dolphin-emu-nogui` 2503 or newer, or a script that ends in `exec`ing it.
    pub dolphin: PathBuf,
    /// Folder with `NAME.dol` and `NAME.elf` of each program, and `shim.elf`.
    pub images: PathBuf,
}

impl Tools {
    /// Reads `WIISTICK_QEMU`, `WIISTICK_DOLPHIN` and `WIISTICK_IMAGES`.
    ///
    /// # Errors
    /// [`Error::Missing`] if one is not set or names nothing that exists.
    pub fn from_env() -> Result<Self, Error> {
        Ok(Self {
            qemu: existing("QEMU", "WIISTICK_QEMU")?,
            dolphin: existing("Dolphin", "WIISTICK_DOLPHIN")?,
            images: existing("images", "WIISTICK_IMAGES")?,
        })
    }

    /// The program `NAME.dol` of the images, with its ELF.
    ///
    /// # Errors
    /// [`Error::Missing`] if either file is.
    pub fn program(&self, name: &str) -> Result<Program, Error> {
        let elf = self.image(&format!("{name}.elf"))?;
        Ok(Program {
            dol: self.image(&format!("{name}.dol"))?,
            elf: Some(elf),
        })
    }

    pub(crate) fn image(&self, file: &str) -> Result<PathBuf, Error> {
        let path = self.images.join(file);
        if path.is_file() {
            return Ok(path);
        }
        Err(Error::Missing {
            what: "image",
            variable: "WIISTICK_IMAGES",
            path: Some(path),
        })
    }
}

fn existing(what: &'static str, variable: &'static str) -> Result<PathBuf, Error> {
    let path = env::var_os(variable).map(PathBuf::from);
    match path {
        Some(path) if path.exists() => Ok(path),
        path => Err(Error::Missing {
            what,
            variable,
            path,
        }),
    }
}

/// What to boot.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file that boots.
    pub dol: PathBuf,
    /// The file that knows its log messages and symbols. Without it a log stream cannot be decoded.
    pub elf: Option<PathBuf>,
}
