//! Gives the linker the memory layout of a DOL, so that a plain cargo command links the programs.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    let script = Path::new(&manifest).join("../linker/dol.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    // Numbers the log messages; defmt's own build script puts it where the linker looks.
    println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
}
