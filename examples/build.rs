//! Links the programs with the memory layout of a DOL, which comes with wiistick, and with defmt's section.

fn main() {
    let layout = std::env::var("DEP_WIISTICK_LAYOUT").expect("wiistick says where its layout is");
    println!("cargo::rustc-link-arg-bins=-T{layout}");
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
}
