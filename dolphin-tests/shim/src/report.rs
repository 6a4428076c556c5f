//! What the shim leaves for the harness when something goes wrong: one line of text in RAM.
//!
//! A crash is told as the same record that the firmware logs (`@{"Crash":{...}}`), so that the harness has one way to
//! show it.

use crate::{layout, start};
use core::fmt::{self, Write};

const HEADER: *mut u32 = (layout::MEM1_CACHED + layout::REPORT) as *mut u32;

/// Marks that there is nothing to report.
pub fn clear() {
    // SAFETY: the report block is RAM beyond a Wii's MEM1, used by nothing else.
    unsafe { HEADER.write_volatile(0) }
}

/// Leaves `text` for the harness and ends QEMU with status 1.
pub fn fail(text: fmt::Arguments) -> ! {
    let mut block = Block(0);
    // Only a full block can fail, and then its beginning is what there is to say.
    let _ = block.write_fmt(text);
    // SAFETY: as in `clear`.
    unsafe {
        HEADER.add(1).write_volatile(block.0);
        HEADER.write_volatile(layout::REPORT_MAGIC);
    }
    start::end_run(1)
}

/// Called by the vectors with the registers saved at [`layout::REGISTERS`].
#[unsafe(no_mangle)]
extern "C" fn report_crash(vector: u32) -> ! {
    // SAFETY: the vector has just filled these 39 words.
    let registers = unsafe { &*((layout::MEM1_CACHED + layout::REGISTERS) as *const [u32; 39]) };
    let [gpr @ .., srr0, srr1, dar, dsisr, lr, ctr, cr] = registers;
    let name = match vector {
        0x100 => "system reset",
        0x200 => "machine check",
        0x300 => "data storage (DSI)",
        0x400 => "instruction storage (ISI)",
        0x500 => "external interrupt",
        0x600 => "alignment",
        0x700 => "program",
        0x800 => "floating point unavailable",
        0x900 => "decrementer",
        0xC00 => "system call",
        0xD00 => "trace",
        _ => "other",
    };
    let whose = if *srr0 >= 0xFFF0_0000 {
        "in the boot shim"
    } else {
        "before the program had vectors of its own"
    };
    fail(format_args!(
        "@{{\"Crash\":{{\"vector\":{vector},\"name\":\"{name}\",\"srr0\":{srr0},\"srr1\":{srr1},\"dar\":{dar},\
         \"dsisr\":{dsisr},\"lr\":{lr},\"ctr\":{ctr},\"cr\":{cr},\"gpr\":{gpr:?},\"backtrace\":[{lr}],\
         \"message\":\"{whose}\"}}}}"
    ))
}

/// Writes text into the report block; holds its length.
struct Block(u32);

impl Write for Block {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.0 == layout::REPORT_CAPACITY {
                return Err(fmt::Error);
            }
            // SAFETY: within the report block, as just checked; its text follows two words.
            unsafe { HEADER.add(2).cast::<u8>().add(self.0 as usize).write(byte) }
            self.0 += 1;
        }
        Ok(())
    }
}
