//! Return addresses, read from the chain of stack frames.
//!
//! The System V ABI for PowerPC keeps a back chain word at r1 and the return address of the caller's
//! frame at 4 bytes above where it points. Every word is checked before it is followed, because the
//! stack may be what is broken.

use super::boot::{STACK_BOTTOM, STACK_TOP};
use crate::report::MAX_BACKTRACE;

/// The chain of return addresses that begins at stack pointer `sp`, innermost first.
pub fn walk(mut sp: u32) -> heapless::Vec<u32, MAX_BACKTRACE> {
    let mut addresses = heapless::Vec::new();
    while let Some(next) = read_stack(sp) {
        // The chain ends with a null word and must lead upwards.
        if next <= sp {
            break;
        }
        match read_stack(next.wrapping_add(4)) {
            Some(address) if address != 0 && addresses.push(address).is_ok() => sp = next,
            _ => break,
        }
    }
    addresses
}

/// Reads a word of the stack, or of the exception stack in MEM1.
fn read_stack(address: u32) -> Option<u32> {
    let on_stack = (STACK_BOTTOM..=STACK_TOP - 4).contains(&address);
    let in_image = super::image().contains(&address) && super::image().contains(&(address + 3));
    if address & 3 != 0 || !(on_stack || in_image) {
        return None;
    }
    // SAFETY: aligned, and in memory that the boot code has mapped.
    Some(unsafe { (address as *const u32).read_volatile() })
}
