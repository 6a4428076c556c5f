//! Compiles QEMU's plugins with the host's C compiler, the one that also links Rust programs.

use std::{env, path::PathBuf, process::Command};

const PLUGINS: [&str; 2] = ["cache", "count"];

fn main() {
    println!("cargo::rerun-if-env-changed=CC");
    println!("cargo::rerun-if-changed=plugins/qemu.h");
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in PLUGINS {
        let source = format!("plugins/{name}.c");
        println!("cargo::rerun-if-changed={source}");
        let status = Command::new(&compiler)
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"])
            .args(["-fvisibility=hidden", "-o"])
            .arg(out.join(format!("{name}.so")))
            .arg(&source)
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("`{compiler}` cannot compile {source}: {status}"),
            Err(error) => panic!("no C compiler `{compiler}` for QEMU's plugins: {error}"),
        }
    }
}
