//! The two functions that `core` and the compiler expect from a C library. In assembly, since the
//! compiler turns a loop in Rust back into a call of these.

core::arch::global_asm!(
    r#"
    .section .text.memcpy, "ax"
    .globl  memcpy
    memcpy:                         # r3 target (kept), r4 source, r5 length
    cmpwi   %r5, 0
    beqlr
    mtctr   %r5
    addi    %r4, %r4, -1
    addi    %r6, %r3, -1
1:  lbzu    %r0, 1(%r4)
    stbu    %r0, 1(%r6)
    bdnz    1b
    blr

    .section .text.memset, "ax"
    .globl  memset
    memset:                         # r3 target (kept), r4 byte, r5 length
    cmpwi   %r5, 0
    beqlr
    mtctr   %r5
    addi    %r6, %r3, -1
1:  stbu    %r4, 1(%r6)
    bdnz    1b
    blr
    "#
);
