//! Links the ROM by its own script, so that `cargo build -p qemu-shim` needs no flags of its own.

fn main() {
    println!("cargo::rerun-if-changed=rom.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-T{directory}/rom.ld");
    }
}
