//! `cargo xtask`: the one command line of the project.

fn main() {}
