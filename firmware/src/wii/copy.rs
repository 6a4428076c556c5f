//! `memcpy` for this processor, which loads and stores words at any address: the compiler calls it for every value of more than
//! 16 bytes that moves, and the one of its own runtime looks at alignments first.

use core::arch::global_asm;

// r3 is returned as it is.
global_asm!(
    ".globl memcpy",
    ".type memcpy, @function",
    "memcpy:",
    "srwi. 7, 5, 2",
    "addi 6, 3, -4",
    "addi 4, 4, -4",
    "beq 3f",
    "mtctr 7",
    "2: lwzu 7, 4(4)",
    "stwu 7, 4(6)",
    "bdnz 2b",
    "3: andi. 5, 5, 3",
    "beqlr",
    "mtctr 5",
    "addi 6, 6, 3",
    "addi 4, 4, 3",
    "4: lbzu 7, 1(4)",
    "stbu 7, 1(6)",
    "bdnz 4b",
    "blr",
    ".size memcpy, . - memcpy",
);
