//! What a sequential read costs: counted by the host between two marks, without what is spent waiting.

use super::storage::{BLOCK, Data, INTERRUPT, Stick, TRANSFERS};
use super::{Controller, mem2, with_stick};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;
use ehci::memory::{Buffer, Dma};
use mem2_dma::{Mem2, Pool};
use wiistick::arguments::Arguments;

/// Bytes of a command.
const COMMAND: usize = 128 * 1024;
/// Commands that are counted: 16 MiB.
const COMMANDS: u32 = 128;

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
pub fn direct(_: Arguments<'static>) -> Result<(), &'static str> {
    let pool = mem2()?;
    with_stick(pool, Mem2::CONSTRAINTS, |controller, stick| {
        let buffer = controller.dma().paged_device().allocate(COMMAND);
        let mut buffer = Some(buffer.map_err(|_| "no buffer")?);
        measure(controller, stick, pool, 0, |controller, stick, block| {
            let whole = buffer.take().ok_or("no buffer")?;
            let lent = whole.lend_from_device(COMMAND).map_err(|_| "not lent")?;
            buffer = stick.read(controller, block, Data::from(lent))?.reclaim();
            Ok(())
        })
    })
}

/// Into a caller's slice in MEM1.
pub fn bounced(_: Arguments<'static>) -> Result<(), &'static str> {
    #[repr(align(32))]
    struct Slice(UnsafeCell<[u8; COMMAND]>);
    // SAFETY: used by this function alone, which runs once.
    unsafe impl Sync for Slice {}
    static SLICE: Slice = Slice(UnsafeCell::new([0; COMMAND]));

    let pool = mem2()?;
    // SAFETY: as above.
    let slice = unsafe { &mut *SLICE.0.get() };
    let copied = COMMANDS as usize * COMMAND;
    with_stick(pool, Mem2::CONSTRAINTS, |controller, stick| {
        measure(
            controller,
            stick,
            pool,
            copied,
            |controller, stick, block| {
                let room = controller.dma().incoming(COMMAND).map_err(|_| "no room")?;
                let mut data = stick.read(controller, block, room)?;
                data.copy_received(slice);
                Ok(())
            },
        )
    })
}

/// Reads once to warm up, then all between the marks, and checks what only the guest knows: how many bytes were copied, and that
/// each command took three transfers.
fn measure(
    controller: &mut Controller,
    stick: &mut Stick,
    pool: &Pool<'static>,
    copied: usize,
    mut read: impl FnMut(&mut Controller, &mut Stick, u32) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    controller.enable_interrupts(&INTERRUPT);
    read(controller, stick, 0)?;
    let (bounced, transfers) = (pool.stats().bounced, TRANSFERS.load(Ordering::Relaxed));
    wiistick_count_begin();
    for command in 0..COMMANDS {
        read(controller, stick, command * (COMMAND / BLOCK) as u32)?;
    }
    wiistick_count_end();
    if pool.stats().bounced - bounced != copied as u64 {
        return Err("another number of bytes was copied");
    }
    if TRANSFERS.load(Ordering::Relaxed) - transfers != 3 * COMMANDS {
        return Err("a command does not take three transfers");
    }
    Ok(())
}
