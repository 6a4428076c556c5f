//! What a sequential read costs: counted by the host between two marks, without what is spent waiting.

use super::storage::{BLOCK, Data, INTERRUPT, Stick, TRANSFERS};
use super::{Controller, mem2, with_stick};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;
use ehci::memory::{Buffer, Dma};
use mem2_dma::{Mem2, Pool};
use wiistick::arguments::Arguments;

/// Most bytes of a command: what fills whole transfer descriptors and leaves room in the pool.
const MOST: usize = 32 * 20_480;
/// Bytes that are counted at most; the last command is a whole one.
const TOTAL: usize = 16 << 20;

/// Bytes of a command, by the argument `command=BYTES`.
fn command_bytes(arguments: Arguments<'static>) -> Result<usize, &'static str> {
    let bytes = arguments
        .value("command")
        .ok_or("command=BYTES is missing")?;
    let bytes = bytes.parse().ok();
    bytes
        .filter(|bytes| (BLOCK..=MOST).contains(bytes) && bytes % BLOCK == 0)
        .ok_or("command=BYTES is out of range")
}

/// Counting begins.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wiistick_count_begin() {
    // SAFETY: it does nothing; but is not nothing to the compiler.
    unsafe { core::arch::asm!("nop", options(nomem, nostack)) }
}

/// Counting ends.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wiistick_count_end() {
    // Other code than above, or the linker makes one function of the two.
    // SAFETY: as above.
    unsafe { core::arch::asm!("nop", "nop", options(nomem, nostack)) }
}

/// Into a buffer that lies in MEM2, the same one each time.
pub fn direct(arguments: Arguments<'static>) -> Result<(), &'static str> {
    let (pool, command) = (mem2()?, command_bytes(arguments)?);
    let count = (command / BLOCK) as u16;
    with_stick(pool, Mem2::CONSTRAINTS, |controller, stick| {
        let room = Stick::room(command);
        let buffer = controller.dma().paged_device().allocate(room);
        let mut buffer = Some(buffer.map_err(|_| "no buffer")?);
        measure(
            controller,
            stick,
            pool,
            (command, 0),
            |controller, stick, block| {
                let whole = buffer.take().ok_or("no buffer")?;
                let lent = whole.lend_from_device(room).map_err(|_| "not lent")?;
                let data = stick.read(controller, block, count, Data::from(lent))?;
                buffer = data.reclaim();
                Ok(())
            },
        )
    })
}

/// Into a caller's slice in MEM1.
pub fn bounced(arguments: Arguments<'static>) -> Result<(), &'static str> {
    #[repr(align(32))]
    struct Slice(UnsafeCell<[u8; MOST]>);
    // SAFETY: used by this function alone, which runs once.
    unsafe impl Sync for Slice {}
    static SLICE: Slice = Slice(UnsafeCell::new([0; MOST]));

    let (pool, command) = (mem2()?, command_bytes(arguments)?);
    // SAFETY: as above.
    let slice = unsafe { &mut *SLICE.0.get() };
    let slice = slice.get_mut(..command).ok_or("a short slice")?;
    let count = (command / BLOCK) as u16;
    with_stick(pool, Mem2::CONSTRAINTS, |controller, stick| {
        measure(
            controller,
            stick,
            pool,
            (command, Stick::room(command)),
            |controller, stick, block| {
                let room = controller.dma().incoming(Stick::room(command));
                let room = room.map_err(|_| "no room")?;
                let mut data = stick.read(controller, block, count, room)?;
                data.copy_received(slice);
                Ok(())
            },
        )
    })
}

/// Reads once to warm up, then all between the marks, and checks what only the guest knows: how many bytes a command copied, and
/// how many transfers it took.
fn measure(
    controller: &mut Controller,
    stick: &mut Stick,
    pool: &Pool<'static>,
    (command, copied): (usize, usize),
    mut read: impl FnMut(&mut Controller, &mut Stick, u32) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let (commands, blocks) = ((TOTAL / command) as u32, (command / BLOCK) as u32);
    controller.enable_interrupts(&INTERRUPT);
    read(controller, stick, 0)?;
    let (bounced, transfers) = (pool.stats().bounced, TRANSFERS.load(Ordering::Relaxed));
    wiistick_count_begin();
    for command in 0..commands {
        read(controller, stick, command * blocks)?;
    }
    wiistick_count_end();
    if pool.stats().bounced - bounced != u64::from(commands) * copied as u64 {
        return Err("another number of bytes was copied");
    }
    // Wrapper, data and status; or those two as one.
    let each = if Stick::room(command) == command {
        3
    } else {
        2
    };
    if TRANSFERS.load(Ordering::Relaxed) - transfers != each * commands {
        return Err("a command does not take as many transfers as it should");
    }
    Ok(())
}
