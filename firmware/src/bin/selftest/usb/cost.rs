//! What a sequential read or write costs: counted by the host between two marks around each command, without what is spent waiting.

use super::storage::{BLOCK, Data, INTERRUPT, STICKS, Stick};
use super::{Controller, mem2, with_sticks};
use ehci::memory::{Buffer, Dma};
use mem2_dma::{Mem2, Pool};
use static_cell::StaticCell;
use wiistick::arguments::Arguments;

/// Most bytes of a command: what fills whole transfer descriptors and leaves room in the pool.
const MOST: usize = 32 * 20_480;
/// Bytes that are counted at most; the last command is a whole one.
const TOTAL: usize = 16 << 20;
/// Commands that are counted at most.
const COMMANDS: usize = 128;

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

/// Sticks that are worked on in turn, by the argument `sticks=NUMBER`; one without it.
fn number_of_sticks(arguments: Arguments<'static>) -> Result<usize, &'static str> {
    let number = arguments.value("sticks").unwrap_or("1").parse().ok();
    number
        .filter(|number| (1..=STICKS).contains(number))
        .ok_or("sticks=NUMBER is out of range")
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

/// Reads into a buffer that lies in MEM2, the same one each time.
pub fn direct(arguments: Arguments<'static>) -> Result<(), &'static str> {
    let (pool, command) = (mem2()?, command_bytes(arguments)?);
    let number = number_of_sticks(arguments)?;
    let count = (command / BLOCK) as u16;
    with_sticks(pool, Mem2::CONSTRAINTS, number, |controller, sticks| {
        let room = Stick::room(command);
        let buffer = controller.dma().paged_device().allocate(room);
        let lent = buffer.map_err(|_| "no buffer")?.lend_from_device(room);
        let mut data = Some(Data::from(lent.map_err(|_| "not lent")?));
        measure(
            controller,
            sticks,
            pool,
            (command, 0, Stick::read_transfers(command)),
            |controller, stick, block| {
                let buffer = data.as_mut().ok_or("no buffer")?;
                if !buffer.lend_again() {
                    return Err("not lent");
                }
                stick.read(controller, block, count, &mut data)
            },
        )
    })
}

/// Writes from such a buffer.
pub fn sent_direct(arguments: Arguments<'static>) -> Result<(), &'static str> {
    let (pool, command) = (mem2()?, command_bytes(arguments)?);
    let number = number_of_sticks(arguments)?;
    with_sticks(pool, Mem2::CONSTRAINTS, number, |controller, sticks| {
        let buffer = controller.dma().paged_device().allocate(command);
        let mut buffer = Some(buffer.map_err(|_| "no buffer")?);
        measure(
            controller,
            sticks,
            pool,
            (command, 0, 3),
            |controller, stick, block| {
                let mut whole = buffer.take().ok_or("no buffer")?;
                // As if the CPU had filled it: its lines are to be cleaned.
                let _ = whole.first_mut();
                let lent = whole.lend_to_device(command).map_err(|_| "not lent")?;
                let mut data = Some(Data::from(lent));
                stick.write(controller, block, &mut data)?;
                buffer = data.and_then(Data::reclaim);
                Ok(())
            },
        )
    })
}

/// A caller's slice in MEM1. May be called once.
fn slice(command: usize) -> Result<&'static mut [u8], &'static str> {
    #[repr(align(32))]
    struct Slice([u8; MOST]);
    static SLICE: StaticCell<Slice> = StaticCell::new();
    let slice = SLICE.try_init_with(|| Slice([0; MOST]));
    let slice = slice.and_then(|slice| slice.0.get_mut(..command));
    slice.ok_or("a short slice")
}

/// Writes from a caller's slice in MEM1.
pub fn sent_bounced(arguments: Arguments<'static>) -> Result<(), &'static str> {
    let (pool, command) = (mem2()?, command_bytes(arguments)?);
    let number = number_of_sticks(arguments)?;
    let slice = slice(command)?;
    with_sticks(pool, Mem2::CONSTRAINTS, number, |controller, sticks| {
        measure(
            controller,
            sticks,
            pool,
            (command, command, 3),
            |controller, stick, block| {
                let copy = controller.dma().outgoing(slice).map_err(|_| "no room")?;
                stick.write(controller, block, &mut Some(copy))
            },
        )
    })
}

/// Reads into a caller's slice in MEM1.
pub fn bounced(arguments: Arguments<'static>) -> Result<(), &'static str> {
    let (pool, command) = (mem2()?, command_bytes(arguments)?);
    let number = number_of_sticks(arguments)?;
    let slice = slice(command)?;
    let count = (command / BLOCK) as u16;
    with_sticks(pool, Mem2::CONSTRAINTS, number, |controller, sticks| {
        measure(
            controller,
            sticks,
            pool,
            (
                command,
                Stick::room(command),
                Stick::read_transfers(command),
            ),
            |controller, stick, block| {
                let room = controller.dma().incoming(Stick::room(command));
                let mut data = Some(room.map_err(|_| "no room")?);
                stick.read(controller, block, count, &mut data)?;
                data.ok_or("the buffer is lost")?.copy_received(slice);
                Ok(())
            },
        )
    })
}

/// Carries a command out on each stick to warm up, then the others, on one stick after the other, each between the marks. Checks what
/// only the guest knows: how many bytes a command copied, and how many transfers it took.
fn measure(
    controller: &mut Controller,
    sticks: &mut [Stick],
    pool: &Pool<'static>,
    (command, copied, transfers): (usize, usize, u32),
    mut carry_out: impl FnMut(&mut Controller, &mut Stick, u32) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let commands = (TOTAL / command).min(COMMANDS) as u32;
    let blocks = (command / BLOCK) as u32;
    controller.enable_interrupts(&INTERRUPT);
    for stick in &mut *sticks {
        carry_out(controller, stick, 0)?;
    }
    let (bounced, finished) = (pool.stats().bounced, controller.statistics().transfers);
    for command in 0..commands {
        let next = command as usize % sticks.len();
        let stick = sticks.get_mut(next).ok_or("no stick")?;
        wiistick_count_begin();
        carry_out(controller, stick, command * blocks)?;
        wiistick_count_end();
    }
    if pool.stats().bounced - bounced != u64::from(commands) * copied as u64 {
        return Err("another number of bytes was copied");
    }
    if controller.statistics().transfers - finished != transfers * commands {
        return Err("a command does not take as many transfers as it should");
    }
    Ok(())
}
