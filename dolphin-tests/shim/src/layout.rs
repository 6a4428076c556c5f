//! Where things are in the machine's 32 MiB of RAM. A Wii has 24 MiB: the rest is between the
//! harness and the shim. All addresses are physical unless they say otherwise.

/// Effective address of physical 0, through the cache.
pub const MEM1_CACHED: u32 = 0x8000_0000;
/// The argument block of the harness: {`ARGUMENTS_MAGIC`, length in bytes, NUL-terminated strings}.
pub const ARGUMENTS: u32 = 0x0188_0000;
/// "ARGS"
pub const ARGUMENTS_MAGIC: u32 = 0x4152_4753;
/// The file `boot.dol`, untouched.
pub const DOL: u32 = 0x0190_0000;
/// End of the room for `boot.dol`.
pub const DOL_END: u32 = 0x01E0_0000;
/// What went wrong, for the harness: {`REPORT_MAGIC`, length in bytes, text}.
pub const REPORT: u32 = 0x01E0_0000;
/// "SHIM"
pub const REPORT_MAGIC: u32 = 0x5348_494D;
/// Room for the text of the report, in bytes.
pub const REPORT_CAPACITY: u32 = 0x1000;
/// Registers at an exception: GPR 0..31, then SRR0, SRR1, DAR, DSISR, LR, CTR, CR.
pub const REGISTERS: u32 = 0x01E1_0000;
/// Top of the stack of the shim.
pub const STACK_TOP: u32 = 0x01F0_0000;

/// First effective address into which the Homebrew Channel loads sections
/// (hardware notes, section 8.1).
pub const PROGRAM: u32 = 0x8000_3400;
/// End of the room for sections, and effective address of the command line handed to the program.
pub const COMMAND_LINE: u32 = 0x8132_FC00;
/// Room for the command line in bytes.
pub const COMMAND_LINE_CAPACITY: u32 = 0x400;

/// PCI memory address of the panic device's register.
pub const PVPANIC: u32 = 0x0C00_0000;
