//! IOS requests with and without cache maintenance: shows that Dolphin's cache model is on and that
//! it bites, so that the tests that pass under it mean something.
//!
//! The requests are the smallest that prove the point; the firmware's IPC driver is another matter.

use super::suite::{Needs, Test};
use core::cell::UnsafeCell;
use hollywood_pac::{cache, cpu};
use wiistick::arguments::Arguments;
use wiistick::wii::time;

pub const TESTS: &[Test] = &[
    (
        "ipc-with-maintenance-is-right",
        Needs::Hollywood,
        maintained,
    ),
    (
        "ipc-uncleaned-path-is-seen-stale",
        Needs::Hollywood,
        uncleaned_path,
    ),
    (
        "ipc-uncleaned-request-is-seen-stale",
        Needs::Hollywood,
        uncleaned_request,
    ),
    (
        "ipc-reply-without-invalidate-is-seen-stale",
        Needs::Hollywood,
        reply_not_invalidated,
    ),
];

const COMMAND_OPEN: u32 = 1;
const COMMAND_CLOSE: u32 = 2;
const COMMAND_REPLY: u32 = 8;
const NO_SUCH_DEVICE: i32 = -6;

/// A request block and a path, each alone in its cache lines (hardware notes, 6.1).
#[repr(C, align(64))]
struct Request(UnsafeCell<[u32; 16]>);
#[repr(C, align(64))]
struct Path(UnsafeCell<[u8; 64]>);
// SAFETY: a test runs alone.
unsafe impl Sync for Request {}
// SAFETY: as above.
unsafe impl Sync for Path {}

static REQUEST: Request = Request(UnsafeCell::new([0; 16]));
static PATH: Path = Path(UnsafeCell::new([0; 64]));

const REGISTERS: usize = 0xCD00_0000;
const PPCMSG: usize = 0x00;
const PPCCTRL: usize = 0x04;
const PPCIRQFLAG: usize = 0x30;
const IPC_INTERRUPT: u32 = 1 << 30;

fn read(register: usize) -> u32 {
    // SAFETY: the Hollywood's IPC registers; reading them has no effect.
    unsafe { ((REGISTERS + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: the mailbox, which this program alone uses.
    unsafe { ((REGISTERS + register) as *mut u32).write_volatile(value) };
}

fn word(index: usize) -> *mut u32 {
    REQUEST.0.get().cast::<u32>().wrapping_add(index)
}

/// Fills the request block through the cache, without maintenance.
fn fill(command: u32, fd: u32, first_argument: u32) {
    for (index, value) in [command, 0, fd, first_argument, 0, 0, 0, 0]
        .into_iter()
        .enumerate()
    {
        // SAFETY: within the block, which IOS does not hold now.
        unsafe { word(index).write_volatile(value) };
    }
}

fn set_path(path: &[u8]) {
    for index in 0..64 {
        // SAFETY: within the buffer, which IOS does not hold now.
        unsafe {
            PATH.0
                .get()
                .cast::<u8>()
                .add(index)
                .write_volatile(path.get(index).copied().unwrap_or(0));
        }
    }
}

fn physical<T>(of: *const T) -> u32 {
    of as u32 & 0x3FFF_FFFF
}

fn clean_path() {
    // SAFETY: mapped.
    unsafe { cache::clean_range(PATH.0.get().cast(), 64) };
}

fn clean_request() {
    // SAFETY: mapped.
    unsafe { cache::clean_range(word(0).cast(), 64) };
}

fn invalidate_reply() {
    // SAFETY: nobody holds a reference to the block; it fills its lines, so the result is `Ok`.
    let _ = unsafe { cache::invalidate_range(word(0).cast(), 64) };
}

/// Dolphin answers only while the interrupt flag is clear, even if nobody takes interrupts.
fn acknowledge(bits: u32) {
    write(PPCCTRL, read(PPCCTRL) & 0x30 | bits);
    write(PPCIRQFLAG, IPC_INTERRUPT);
}

/// Rings the mailbox and waits for acknowledgement and reply (hardware notes, 6.2).
fn transact() -> Result<(), &'static str> {
    let wait = |bit: u32| {
        let start = time::now_us();
        while read(PPCCTRL) & bit == 0 {
            if time::now_us() - start > 2_000_000 {
                return Err("IOS did not answer within two seconds");
            }
        }
        acknowledge(bit);
        Ok(())
    };
    // What the loader left behind.
    acknowledge(read(PPCCTRL) & 6);
    cpu::sync();
    write(PPCMSG, physical(word(0)));
    write(PPCCTRL, read(PPCCTRL) & 0x30 | 1);
    wait(2)?;
    wait(4)?;
    write(PPCCTRL, read(PPCCTRL) & 0x30 | 8);
    Ok(())
}

fn result() -> i32 {
    // SAFETY: within the block.
    unsafe { word(1).read_volatile() as i32 }
}

/// A device that both IOS and Dolphin have.
const DEVICE: &[u8] = b"/dev/stm/immediate";

fn close(fd: i32) -> Result<(), &'static str> {
    fill(COMMAND_CLOSE, fd as u32, 0);
    clean_request();
    transact()
}

fn open_maintained() -> Result<i32, &'static str> {
    fill(COMMAND_OPEN, 0, physical(PATH.0.get()));
    clean_request();
    transact()?;
    invalidate_reply();
    Ok(result())
}

fn maintained(_: Arguments<'static>) -> Result<(), &'static str> {
    set_path(DEVICE);
    clean_path();
    let fd = open_maintained()?;
    if fd < 0 {
        return Err("a maintained open of an existing device failed");
    }
    // SAFETY: within the block.
    if unsafe { word(0).read_volatile() } != COMMAND_REPLY {
        return Err("an invalidated reply does not show what IOS wrote");
    }
    close(fd)
}

fn uncleaned_path(_: Arguments<'static>) -> Result<(), &'static str> {
    set_path(b"/dev/nobody");
    clean_path();
    set_path(DEVICE);
    if open_maintained()? != NO_SUCH_DEVICE {
        return Err("IOS saw a path that never left the cache: the cache model is off");
    }
    clean_path();
    match open_maintained()? {
        fd if fd >= 0 => close(fd),
        _ => Err("IOS did not see the path after the clean"),
    }
}

fn uncleaned_request(_: Arguments<'static>) -> Result<(), &'static str> {
    set_path(DEVICE);
    clean_path();
    // RAM holds a command that IOS refuses; the cache holds a good one.
    fill(99, 0, 0);
    clean_request();
    fill(COMMAND_OPEN, 0, physical(PATH.0.get()));
    transact()?;
    invalidate_reply();
    if result() >= 0 {
        return Err("IOS saw a request that never left the cache: the cache model is off");
    }
    match open_maintained()? {
        fd if fd >= 0 => close(fd),
        _ => Err("IOS did not see the request after the clean"),
    }
}

fn reply_not_invalidated(_: Arguments<'static>) -> Result<(), &'static str> {
    set_path(DEVICE);
    clean_path();
    fill(COMMAND_OPEN, 0, physical(PATH.0.get()));
    clean_request();
    transact()?;
    // SAFETY: within the block.
    if unsafe { word(0).read_volatile() } != COMMAND_OPEN {
        return Err("a reply was seen without an invalidate: the cache model is off");
    }
    invalidate_reply();
    // SAFETY: within the block.
    if unsafe { word(0).read_volatile() } != COMMAND_REPLY || result() < 0 {
        return Err("an invalidated reply does not show what IOS wrote");
    }
    close(result())
}
