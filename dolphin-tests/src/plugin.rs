//! The plugins that QEMU loads: compiled by the build script, carried in this crate, written out for each run.

use crate::{Error, error::Context};
use std::{fs, path::Path};

/// A plugin's name and its shared object.
pub(crate) struct Plugin {
    name: &'static str,
    bytes: &'static [u8],
}

/// The model of a data cache; see `cache.rs`.
pub(crate) const CACHE: Plugin = Plugin {
    name: "cache",
    bytes: include_bytes!(concat!(env!("OUT_DIR"), "/cache.so")),
};

/// The counter of instructions; see `count.rs`.
pub(crate) const COUNT: Plugin = Plugin {
    name: "count",
    bytes: include_bytes!(concat!(env!("OUT_DIR"), "/count.so")),
};

impl Plugin {
    /// Writes the plugin into the folder of a run and returns QEMU's arguments that load it. A QEMU without plugins refuses
    /// them, which ends the run before it begins.
    pub(crate) fn load(&self, folder: &Path, arguments: &str) -> Result<[String; 4], Error> {
        let path = folder.join(format!("{}.so", self.name));
        fs::write(&path, self.bytes).context(|| path.display().to_string())?;
        let option = format!("file={}{arguments}", path.display());
        Ok(["-plugin".into(), option, "-d".into(), "plugin".into()])
    }
}
