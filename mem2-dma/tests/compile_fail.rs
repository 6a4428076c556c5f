//! Misuse that the types refuse: each file in `compile_fail` must not compile, with the error beside it.
//!
//! What compiles does not depend on the target, and the test runs a compiler: so only on the host, not on an emulated PowerPC.
#![cfg(not(target_arch = "powerpc"))]

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
