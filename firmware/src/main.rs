//! Entry point of `boot.dol`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".section .init, \"ax\"",
    ".globl _start",
    "_start:",
    "b 1f",
    ".long 0x5f617267",
    ".space 24",
    "1: b 1b",
);

#[cfg(not(target_os = "none"))]
fn main() {}
