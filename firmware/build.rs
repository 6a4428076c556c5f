//! Links the target binaries with the DOL's memory layout and defmt's section.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=../linker/dol.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let manifest = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let layout = Path::new(&manifest).join("../linker/dol.ld");
        println!("cargo::rustc-link-arg-bins=-T{}", layout.display());
        println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    }
}
