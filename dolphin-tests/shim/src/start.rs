//! Reset and exception vectors, the address map, and the two ways out: into the program, or out of
//! QEMU.

use core::arch::global_asm;

/// Block lengths of BATs: (size / 128 KiB - 1) << 2, with the valid bits of both modes.
const MIB_32: u32 = 0xFF << 2 | 3;
const MIB_64: u32 = 0x1FF << 2 | 3;
const MIB_256: u32 = 0x7FF << 2 | 3;
/// Read and write, memory coherence and caching as usual.
const CACHED: u32 = 0x02;
/// Read and write, inhibited and guarded.
const UNCACHED: u32 = 0x2A;

global_asm!(
    r#"
    .macro set_bat upper, lower, effective, physical, length, kind
    lis     %r3, (\effective + \length)@h
    ori     %r3, %r3, (\effective + \length)@l
    lis     %r4, (\physical + \kind)@h
    ori     %r4, %r4, (\physical + \kind)@l
    mtspr   \lower, %r4
    mtspr   \upper, %r3
    .endm

    # One vector: it is also copied into RAM, hence the absolute branch.
    .macro vector number
    .org    \number
    mtsprg  1, %r3
    li      %r3, \number
    ba      crash
    .endm

    .section .vectors, "ax"
    .globl  reset, vectors
    vectors:
    .org    0x100
    reset:
    b       start
    .irp    number, 0x200,0x300,0x400,0x500,0x600,0x700,0x800,0x900,0xA00,0xB00,0xC00,0xD00,0xE00,0xF00,0x1000,0x1100,0x1200,0x1300,0x1400,0x1500,0x1600,0x1700
    vector  \number
    .endr
    # The copy in RAM has this one at 0x100, where a jump to the reset vector is an accident too.
    .org    0x1800
    .globl  reset_in_ram
    reset_in_ram:
    mtsprg  1, %r3
    li      %r3, 0x100
    ba      crash

    start:
    li      %r3, 0
    mtsprg  0, %r3                  # no crash yet
    .irp    bat, 528,530,532,534,536,538,540,542,560,562,564,566,568,570,572,574
    mtspr   \bat, %r3
    .endr
    isync
    set_bat 528, 529, 0x80000000, 0x00000000, {mib_32},  {cached}       # IBAT0: MEM1
    set_bat 530, 531, 0xF0000000, 0xF0000000, {mib_256}, {cached}       # IBAT1: ROM
    set_bat 536, 537, 0x80000000, 0x00000000, {mib_32},  {cached}       # DBAT0: MEM1
    set_bat 538, 539, 0xC0000000, 0x00000000, {mib_32},  {uncached}     # DBAT1: MEM1
    set_bat 540, 541, 0x90000000, 0xD0000000, {mib_64},  {cached}       # DBAT2: MEM2
    set_bat 542, 543, 0xD0000000, 0xD0000000, {mib_64},  {uncached}     # DBAT3: MEM2
    set_bat 568, 569, 0xCC000000, 0xCC000000, {mib_32},  {uncached}     # DBAT4: EHCI and other PCI memory
    set_bat 570, 571, 0xE0000000, 0x80000000, {mib_32},  {uncached}     # DBAT5: PCI I/O and configuration
    set_bat 572, 573, 0xF0000000, 0xF0000000, {mib_256}, {uncached}     # DBAT6: ROM
    isync
    lis     %r1, {stack_top}@h
    ori     %r1, %r1, {stack_top}@l
    li      %r3, 0
    stwu    %r3, -16(%r1)           # needs translation only from here on
    lis     %r3, 1f@h
    ori     %r3, %r3, 1f@l
    mtsrr0  %r3
    li      %r3, 0x2070             # FP, vectors in ROM, translation
    mtsrr1  %r3
    rfi
1:  oris    %r1, %r1, 0x8000
    bl      prepare
    mtsrr0  %r3
    li      %r3, 0x2030             # FP, translation; vectors in RAM from now on
    mtsrr1  %r3
    rfi

    # An exception that nobody expected, the shim's or the program's before it has vectors of its own.
    # Real mode, vector in r3, old r3 in SPRG1. A second one while reporting the first gives up.
    crash:
    mtsprg  2, %r4
    mfcr    %r4
    mtsprg  3, %r4
    mfsprg  %r4, 0
    cmpwi   %r4, 0
    bne     give_up
    li      %r4, 1
    mtsprg  0, %r4
    mfsprg  %r4, 2
    mtsprg  2, %r1
    lis     %r1, {registers}@h
    stmw    %r2, 8(%r1)
    stw     %r0, 0(%r1)
    mr      %r5, %r1
    mfsprg  %r4, 2
    stw     %r4, 4(%r5)             # r1
    mfsprg  %r4, 1
    stw     %r4, 12(%r5)            # r3
    mfsrr0  %r4
    stw     %r4, 128(%r5)
    mfsrr1  %r4
    stw     %r4, 132(%r5)
    mfdar   %r4
    stw     %r4, 136(%r5)
    mfdsisr %r4
    stw     %r4, 140(%r5)
    mflr    %r4
    stw     %r4, 144(%r5)
    mfctr   %r4
    stw     %r4, 148(%r5)
    mfsprg  %r4, 3
    stw     %r4, 152(%r5)           # CR
    mr      %r14, %r3
    li      %r4, 0
    .irp    bat, 528,530,536,538,568,570,572    # the program may have changed them
    mtspr   \bat, %r4
    .endr
    isync
    set_bat 530, 531, 0xF0000000, 0xF0000000, {mib_256}, {cached}
    set_bat 536, 537, 0x80000000, 0x00000000, {mib_32},  {cached}
    set_bat 572, 573, 0xF0000000, 0xF0000000, {mib_256}, {uncached}
    isync
    lis     %r1, ({stack_top} + 0x80000000)@h
    ori     %r1, %r1, ({stack_top} + 0x80000000)@l
    addi    %r1, %r1, -16
    lis     %r3, report_crash@h
    ori     %r3, %r3, report_crash@l
    mtsrr0  %r3
    li      %r3, 0x2070
    mtsrr1  %r3
    mr      %r3, %r14
    rfi
    give_up:
    li      %r3, 1
    ba      end_run

    # Ends QEMU: status 0 if r3 is 0 (i8042 pulse of the reset line, with -no-reboot), else 1
    # (pvpanic, with -action panic=exit-failure). Turns translation off first, since it cannot
    # trust the map. Independent of its place: the reload stub is a copy of it.
    .globl  end_run, end_run_end
    end_run:
    b       1f
    .ascii  "STUBHAXX"              # how programs recognise the stub
1:  bcl     20, 31, 2f
2:  mflr    %r4
    addi    %r4, %r4, 3f - 2b
    rlwinm  %r5, %r4, 4, 28, 31     # 0x8.......: the copy in RAM; its physical address has no top bit
    cmpwi   %r5, 8
    bne     4f
    clrlwi  %r4, %r4, 1
4:  mtsrr0  %r4
    li      %r4, 0
    mtsrr1  %r4
    rfi
3:  cmpwi   %r3, 0
    beq     5f
    lis     %r4, (0xC0000000 + {pvpanic})@h
    ori     %r4, %r4, (0xC0000000 + {pvpanic})@l
    li      %r3, 1
    stb     %r3, 0(%r4)
    sync
    lis     %r5, 0x1000             # if there was no panic device yet: end anyhow, after a while
    mtctr   %r5
6:  bdnz    6b
5:  lis     %r4, 0x8000
    li      %r3, 0xFE
    stb     %r3, 0x64(%r4)
    sync
7:  b       7b
    end_run_end:
    "#,
    mib_32 = const MIB_32,
    mib_64 = const MIB_64,
    mib_256 = const MIB_256,
    cached = const CACHED,
    uncached = const UNCACHED,
    stack_top = const crate::layout::STACK_TOP,
    registers = const crate::layout::REGISTERS,
    pvpanic = const crate::layout::PVPANIC,
);

unsafe extern "C" {
    /// The ROM from its start to the end of the vectors.
    pub safe static vectors: [u32; 0x600];
    /// The three words that stand at 0x100 in RAM.
    pub safe static reset_in_ram: [u32; 3];
    /// End of the code that ends QEMU.
    pub safe static end_run_end: u8;
    /// Ends QEMU, with success only for a `status` of 0.
    pub safe fn end_run(status: u32) -> !;
}
