//! The memory map: aliases, caches, initialised and cleared statics.

use super::suite::{Needs, Test};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use hollywood_pac::{cache, copy, cpu};
use wiistick::arguments::Arguments;

pub const TESTS: &[Test] = &[
    ("mem1-aliases", Needs::Nothing, mem1_aliases),
    ("mem2-aliases", Needs::Nothing, mem2_aliases),
    ("mem2-is-not-mem1", Needs::Nothing, mem2_is_not_mem1),
    ("bss-is-zero", Needs::Nothing, bss_is_zero),
    ("data-is-right", Needs::Nothing, data_is_right),
    ("stack-is-mapped-in-full", Needs::Nothing, stack_is_mapped),
    ("copies-are-exact", Needs::Nothing, copies_are_exact),
    ("bulk-copies-are-exact", Needs::Nothing, bulk_copies),
    (
        "cached-store-waits-for-a-clean",
        Needs::Hollywood,
        cached_store_waits,
    ),
];

#[repr(C, align(32))]
struct Line(UnsafeCell<[u32; 8]>);
// SAFETY: a test runs alone.
unsafe impl Sync for Line {}

static LINE: Line = Line(UnsafeCell::new([0; 8]));

/// A line of MEM2 above the log ring that nobody uses in this program.
const MEM2_LINE: u32 = 0x9010_0000;

fn aliases(cached: *mut u32, salt: u32) -> Result<(), &'static str> {
    let uncached = (cached as u32 | 0x4000_0000) as *mut u32;
    // SAFETY: both views of one line that belongs to this test, 32-bit accesses; the line is
    // cleaned or invalidated between the views.
    unsafe {
        for (index, word) in [0x0102_0304 ^ salt, !salt, salt, 0].into_iter().enumerate() {
            cached.add(index).write_volatile(word);
        }
        cache::flush_range(cached.cast(), 32);
        for (index, word) in [0x0102_0304 ^ salt, !salt, salt, 0].into_iter().enumerate() {
            if uncached.add(index).read_volatile() != word {
                return Err("a flushed line is not seen through the uncached view");
            }
        }
        uncached.add(7).write_volatile(0xCAFE_0000 ^ salt);
        if cached.add(7).read_volatile() != 0xCAFE_0000 ^ salt {
            return Err("an uncached store is not seen through the cached view");
        }
    }
    Ok(())
}

fn mem1_aliases(_: Arguments<'static>) -> Result<(), &'static str> {
    aliases(LINE.0.get().cast(), 0x1111_1111)
}

fn mem2_aliases(_: Arguments<'static>) -> Result<(), &'static str> {
    aliases(MEM2_LINE as *mut u32, 0x2222_2222)
}

fn mem2_is_not_mem1(_: Arguments<'static>) -> Result<(), &'static str> {
    let mem1 = LINE.0.get().cast::<u32>();
    let mem2 = (0x9000_0000 | mem1 as u32 & 0x01FF_FFFF) as *mut u32;
    // SAFETY: the test's own line, and the line of MEM2 with the same offset, which the log ring
    // (below) does not use: the image begins at 0x4000 but `.bss` lies far above it.
    unsafe {
        mem1.write_volatile(0x0101_0101);
        mem2.write_volatile(0x0202_0202);
        cache::flush_range(mem1.cast(), 32);
        cache::flush_range(mem2.cast(), 32);
        if mem1.read_volatile() != 0x0101_0101 {
            return Err("a store to MEM2 changed MEM1");
        }
        if mem2.read_volatile() != 0x0202_0202 {
            return Err("MEM2 did not keep a word");
        }
    }
    Ok(())
}

/// Atomics, so that the linker places them in `.bss` and `.data` and not in `.rodata`.
static ZEROES: [AtomicU32; 1024] = [const { AtomicU32::new(0) }; 1024];

fn bss_is_zero(_: Arguments<'static>) -> Result<(), &'static str> {
    if ZEROES.iter().any(|word| word.load(Relaxed) != 0) {
        return Err(".bss holds something else than zero");
    }
    ZEROES[1023].store(1, Relaxed);
    Ok(())
}

const WANTED: [u32; 4] = [0x0123_4567, 0x89AB_CDEF, 0xFFFF_0000, 1];
static DATA: [AtomicU32; 4] = [
    AtomicU32::new(WANTED[0]),
    AtomicU32::new(WANTED[1]),
    AtomicU32::new(WANTED[2]),
    AtomicU32::new(WANTED[3]),
];

fn data_is_right(_: Arguments<'static>) -> Result<(), &'static str> {
    if DATA
        .iter()
        .zip(WANTED)
        .any(|(word, wanted)| word.load(Relaxed) != wanted)
    {
        return Err(".data did not arrive as it was linked");
    }
    DATA[0].store(0, Relaxed);
    Ok(())
}

fn stack_is_mapped(_: Arguments<'static>) -> Result<(), &'static str> {
    use wiistick::wii::boot::STACK_BOTTOM;
    let lowest = STACK_BOTTOM as *mut u32;
    // SAFETY: far below the part of the stack that this shallow program uses.
    unsafe {
        lowest.write_volatile(0x5AC4_5AC4);
        if lowest.read_volatile() != 0x5AC4_5AC4 {
            return Err("the lowest word of the stack did not keep its value");
        }
    }
    Ok(())
}

/// Dolphin's cache model and the console agree; QEMU models no cache.
fn cached_store_waits(_: Arguments<'static>) -> Result<(), &'static str> {
    let cached = LINE.0.get().cast::<u32>();
    let uncached = (cached as u32 | 0x4000_0000) as *mut u32;
    // SAFETY: the test's own line, 32-bit accesses.
    unsafe {
        cached.write_volatile(1);
        cache::flush_range(cached.cast(), 32);
        cached.write_volatile(2);
        if uncached.read_volatile() != 1 {
            return Err("a cached store reached RAM without a clean: the data cache is off");
        }
        cache::clean_range(cached.cast(), 32);
        if uncached.read_volatile() != 2 {
            return Err("a cleaned line did not reach RAM");
        }
    }
    Ok(())
}

/// The program's own `memcpy`, with every length, from and to every place in a word.
fn copies_are_exact(_: Arguments<'static>) -> Result<(), &'static str> {
    let mut from = [0; 64];
    for (byte, value) in from.iter_mut().zip(1..) {
        *byte = value;
    }
    for length in 0..=40 {
        for (start, end) in (0..16).map(|place| (place % 4, place / 4)) {
            let mut to = [0; 64];
            let (source, target) = (from.get(start..), to.get_mut(8 + end..));
            let source = source.and_then(|source| source.get(..core::hint::black_box(length)));
            let target = target.and_then(|target| target.get_mut(..length));
            let (Some(source), Some(target)) = (source, target) else {
                return Err("a slice is too short");
            };
            target.copy_from_slice(source);
            let right = |(index, &byte): (usize, &u8)| match index.checked_sub(8 + end) {
                Some(at) if at < length => from.get(start + at) == Some(&byte),
                _ => byte == 0,
            };
            if !to.iter().enumerate().all(right) {
                return Err("a copy is wrong, or too long");
            }
        }
    }
    Ok(())
}

/// What drivers copy with, from MEM2 to MEM1 and back, with floating point and without, and past the caches.
fn bulk_copies(_: Arguments<'static>) -> Result<(), &'static str> {
    const BYTES: usize = 320;
    #[repr(C, align(32))]
    struct Memory(UnsafeCell<[u8; BYTES]>);
    // SAFETY: a test runs alone.
    unsafe impl Sync for Memory {}
    static MEM1: Memory = Memory(UnsafeCell::new([0; BYTES]));

    // SAFETY: as above; MEM2 is above the log ring, and nobody uses it in this program.
    let (mem1, mem2) = unsafe { (&mut *MEM1.0.get(), &mut *(MEM2_LINE as *mut [u8; BYTES])) };
    for (salt, float) in [(7, true), (11, false)] {
        let before = cpu::msr();
        let mut state = before;
        state.set_fp(float);
        // SAFETY: nothing below computes with floats, least of all with the unit off.
        unsafe { cpu::set_msr(state) };
        let copied = copy_everywhere(mem2, mem1, salt).and(copy_everywhere(mem1, mem2, salt + 1));
        // SAFETY: as it was.
        unsafe { cpu::set_msr(before) };
        copied?;
    }

    let uncached = (MEM2_LINE | 0x4000_0000) as *mut u8;
    cache::flush(mem2);
    // SAFETY: whole words of the same memory, whose lines are not in the cache.
    unsafe {
        copy::copy(mem1.as_ptr(), uncached, BYTES);
        if core::slice::from_raw_parts(uncached, BYTES) != mem1 {
            return Err("a copy past the caches is wrong");
        }
    }
    Ok(())
}

/// Copies some lengths from and to every place in a line, and looks at every byte.
fn copy_everywhere(from: &mut [u8], to: &mut [u8], salt: u8) -> Result<(), &'static str> {
    for (byte, value) in from.iter_mut().zip(0_u8..) {
        *byte = value.wrapping_mul(salt) | 1;
    }
    for (start, end) in (0..32 * 32).map(|place| (place % 32, 64 + place / 32)) {
        for bytes in [0, 5, 31, 32, 100, 200] {
            to.fill(0);
            let (source, target) = (from.get(start..start + bytes), to.get_mut(end..end + bytes));
            let (Some(source), Some(target)) = (source, target) else {
                return Err("a slice is too short");
            };
            // SAFETY: two slices of one length.
            unsafe { copy::copy(source.as_ptr(), target.as_mut_ptr(), bytes) };
            if source != target {
                return Err("a copy is wrong");
            }
            target.fill(0);
            if to.iter().any(|&byte| byte != 0) {
                return Err("a copy is too long");
            }
        }
    }
    Ok(())
}
