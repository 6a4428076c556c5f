//! What hollywood-pac promises, on the machine: registers, interrupts, caches, critical sections, delays.

use super::suite::{Needs, Test};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{OutputPin, PinState, StatefulOutputPin};
use hollywood_pac::addr::{BusAddr, PhysAddr};
use hollywood_pac::cache::{self, LINE_BYTES, Line};
use hollywood_pac::cpu::{self, Bat, BatSize, Memory};
use hollywood_pac::delay::{Broadway, Clock};
use hollywood_pac::interrupt::{self, Interrupts};
use hollywood_pac::ipc::PpcCtrl;
use hollywood_pac::irq::Source;
use hollywood_pac::lowmem::LowMemory;
use hollywood_pac::peripherals::{Ipc, Vi};
use hollywood_pac::pi::Cause;
use hollywood_pac::vi::DisplayInterrupt;
use hollywood_pac::{Peripherals, cpu::time_base};
use wiistick::arguments::Arguments;
use wiistick::wii::exception::{self, Frame, Verdict};
use wiistick::wii::time;

pub const TESTS: &[Test] = &[
    (
        "peripherals-are-taken-once",
        Needs::Nothing,
        peripherals_once,
    ),
    (
        "low-memory-is-believed",
        Needs::Nothing,
        low_memory_is_believed,
    ),
    (
        "bats-read-as-they-were-computed",
        Needs::Hollywood,
        bats_read_as_computed,
    ),
    ("gpio-output-reads-back", Needs::Hollywood, gpio_reads_back),
    (
        "ipc-enables-read-back-and-flags-do-not",
        Needs::Hollywood,
        ipc_enables_read_back,
    ),
    (
        "dolphin-is-not-taken-for-an-ehci",
        Needs::Hollywood,
        dolphin_has_no_ehci,
    ),
    (
        "vi-interrupt-reaches-its-handler",
        Needs::Hollywood,
        vi_interrupt,
    ),
    (
        "ipc-reply-interrupt-reaches-its-handler",
        Needs::Hollywood,
        ipc_interrupt,
    ),
    (
        "delays-agree-with-decrementer-and-time-base",
        Needs::Nothing,
        delays_agree,
    ),
    (
        "cache-operations-keep-neighbours-at-every-alignment",
        Needs::Nothing,
        neighbours_survive,
    ),
    (
        "invalidate-drops-its-lines-and-no-other",
        Needs::Hollywood,
        invalidate_drops_its_lines,
    ),
    (
        "zero-works-in-both-views",
        Needs::Nothing,
        zero_in_both_views,
    ),
    (
        "written-code-runs-after-a-sync",
        Needs::Nothing,
        written_code_runs,
    ),
    (
        "critical-sections-nest",
        Needs::Nothing,
        critical_sections_nest,
    ),
];

fn check(good: bool, message: &'static str) -> Result<(), &'static str> {
    if good { Ok(()) } else { Err(message) }
}

fn take() -> Result<Peripherals, &'static str> {
    Peripherals::take().ok_or("somebody has taken the peripherals before")
}

fn peripherals_once(_: Arguments<'static>) -> Result<(), &'static str> {
    let _first = take()?;
    check(
        Peripherals::take().is_none(),
        "the peripherals were handed out twice",
    )
}

fn low_memory_is_believed(_: Arguments<'static>) -> Result<(), &'static str> {
    let low = LowMemory::get();
    check(low.booted_by_ios(), "the boot magic is missing")?;
    low.bus_clock().map_err(|_| "bus clock")?;
    low.cpu_clock().map_err(|_| "CPU clock")?;
    let arena = low.mem2_arena().map_err(|_| "arena of MEM2")?;
    check(arena.bytes() >= 0x100_0000, "MEM2's arena is tiny")?;
    low.ipc_buffer().map_err(|_| "IPC buffer")?;
    Ok(())
}

fn bats_read_as_computed(_: Arguments<'static>) -> Result<(), &'static str> {
    let bat = |address, physical, memory| {
        Bat::new(address, PhysAddr::new(physical), BatSize::Mib256, memory)
    };
    check(
        Some(cpu::dbat0()) == bat(0x8000_0000, 0, Memory::Cached),
        "DBAT0",
    )?;
    check(
        Some(cpu::dbat1()) == bat(0xC000_0000, 0, Memory::Uncached),
        "DBAT1",
    )?;
    check(
        Some(cpu::dbat4()) == bat(0x9000_0000, 0x1000_0000, Memory::Cached),
        "DBAT4",
    )?;
    check(
        Some(cpu::dbat5()) == bat(0xD000_0000, 0x1000_0000, Memory::Uncached),
        "DBAT5",
    )?;
    check(cpu::hid4().sbe(), "BAT4 to BAT7 are off")?;
    check(
        cpu::processor_version() >> 16 == 8,
        "the processor is no 750",
    )
}

fn gpio_reads_back(_: Arguments<'static>) -> Result<(), &'static str> {
    let pins = take()?.gpiob.split();
    let mut bar = pins.sensor_bar.into_output(PinState::Low);
    let mut light = pins.slot_led.into_output(PinState::Low);
    for level in [true, false, true] {
        light.set_state(level.into()).map_err(|_| "infallible")?;
        check(
            light.is_set_high() == Ok(level),
            "the slot light does not read back",
        )?;
        bar.set_state((!level).into()).map_err(|_| "infallible")?;
        check(
            bar.is_set_high() == Ok(!level),
            "the sensor bar does not read back",
        )?;
        check(
            light.is_set_high() == Ok(level),
            "the sensor bar changed the slot light",
        )?;
    }
    Ok(())
}

fn ipc_enables_read_back(_: Arguments<'static>) -> Result<(), &'static str> {
    let ipc = take()?.ipc;
    for (iy1, iy2) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut ctrl = PpcCtrl::default();
        ctrl.set_iy1(iy1);
        ctrl.set_iy2(iy2);
        // SAFETY: no request is announced.
        unsafe { ipc.ppcctrl.write(ctrl) };
        let read = ipc.ppcctrl.read();
        check(
            read.iy1() == iy1 && read.iy2() == iy2,
            "the interrupt enables do not read back",
        )?;
        check(!read.x1(), "a request was announced")?;
    }
    Ok(())
}

fn dolphin_has_no_ehci(_: Arguments<'static>) -> Result<(), &'static str> {
    let peripherals = take()?;
    // Everything looks open there; only the controller itself tells the truth.
    if peripherals.protection.is_open() && peripherals.ehci.identify().is_err() {
        return Ok(());
    }
    match peripherals.ehci.identify() {
        Ok(params) if params.n_ports() == 4 => Ok(()), // a console
        Ok(_) => Err("an EHCI with another number of ports than 4"),
        Err(_) => Err("neither open registers nor an EHCI"),
    }
}

/// The external interrupt exception, as the firmware will have it.
fn external(_: &mut Frame) -> Verdict {
    // SAFETY: called by the exception, with interrupts off; the test's `Interrupts` owns the cascade.
    unsafe { interrupt::dispatch() };
    Verdict::Resume
}

/// Runs until `count` reaches `wanted`, with interrupts on.
fn until(count: &AtomicU32, wanted: u32, patience_ms: u64) -> bool {
    exception::set_handler(0x500, Some(external));
    exception::set_handler(0x900, Some(|_| Verdict::Resume));
    let start = time::now_us();
    // SAFETY: both exceptions have handlers, and no critical section is open.
    unsafe { cpu::enable_interrupts() };
    while count.load(Relaxed) < wanted && time::now_us() - start < patience_ms * 1000 {}
    cpu::disable_interrupts();
    count.load(Relaxed) >= wanted
}

static CALLS: AtomicU32 = AtomicU32::new(0);

fn vi_interrupt(_: Arguments<'static>) -> Result<(), &'static str> {
    /// Events of the video interface are cleared by writing zero.
    fn beam() {
        // SAFETY: the test that owns the interface only waits.
        let vi = unsafe { Vi::steal() };
        for interrupt in &vi.di {
            if interrupt.read().int() {
                interrupt.modify(|event| event.set_int(false));
                CALLS.fetch_add(1, Relaxed);
            }
        }
    }
    let peripherals = take()?;
    let vi = peripherals.vi;
    let mut line_100 = DisplayInterrupt::default();
    line_100.set_vct(100);
    line_100.set_hct(1);
    line_100.set_enb(true);
    let [first, others @ ..] = &vi.di;
    first.write(line_100);
    for other in others {
        other.write(DisplayInterrupt::default());
    }
    vi.dcr.modify(|dcr| dcr.set_enb(true));
    let mut interrupts = Interrupts::new(peripherals.pi, peripherals.irq);
    interrupts.enable(Cause::Vi, beam);
    check(
        until(&CALLS, 5, 1_000),
        "five fields took more than a second",
    )?;
    let before = CALLS.load(Relaxed);
    interrupts.disable(Cause::Vi);
    check(
        !until(&CALLS, before + 1, 100),
        "a disabled interrupt reached its handler",
    )
}

#[repr(C, align(64))]
struct Request(UnsafeCell<[u32; 16]>);
// SAFETY: a test runs alone, and IOS has the block only between announcement and reply.
unsafe impl Sync for Request {}

static REQUEST: Request = Request(UnsafeCell::new([0; 16]));
static ACKNOWLEDGED: AtomicU32 = AtomicU32::new(0);
static REPLY: AtomicU32 = AtomicU32::new(0);

fn ipc_interrupt(_: Arguments<'static>) -> Result<(), &'static str> {
    /// Takes what the mailbox has, and nothing else (hardware notes, 6.2).
    fn mailbox() {
        // SAFETY: the test that owns the mailbox only waits.
        let ipc = unsafe { Ipc::steal() };
        let ctrl = ipc.ppcctrl.read();
        if ctrl.y2() {
            let mut taken = ctrl.enables();
            taken.set_y2(true);
            // SAFETY: clears a flag.
            unsafe { ipc.ppcctrl.write(taken) };
            ACKNOWLEDGED.fetch_add(1, Relaxed);
        }
        if ctrl.y1() {
            REPLY.store(ipc.armmsg.read().get(), Relaxed);
            let mut taken = ctrl.enables();
            taken.set_y1(true);
            // SAFETY: clears a flag.
            unsafe { ipc.ppcctrl.write(taken) };
            CALLS.fetch_add(1, Relaxed);
        }
    }
    let peripherals = take()?;
    let ipc = peripherals.ipc;
    let mut interrupts = Interrupts::new(peripherals.pi, peripherals.irq);
    interrupts.enable(Source::IpcPpc, mailbox);

    // Close a descriptor that is not open: IOS refuses, and replies.
    let block: *mut u32 = REQUEST.0.get().cast();
    // SAFETY: the block belongs to the test until it is announced.
    unsafe {
        block.write_volatile(2);
        block.add(2).write_volatile(31);
        cache::flush_range(block.cast(), 64);
    }
    let physical = PhysAddr::from_ptr(block).ok_or("the request is not in MEM1")?;
    let mut send = PpcCtrl::default();
    send.set_iy1(true);
    send.set_iy2(true);
    // SAFETY: no request is announced yet.
    unsafe { ipc.ppcctrl.write(send) };
    send.set_x1(true);
    // SAFETY: the block is IOS's from here to the reply, for which the test waits.
    unsafe {
        ipc.ppcmsg.write(BusAddr::from(physical));
        ipc.ppcctrl.write(send);
    }
    check(until(&CALLS, 1, 2_000), "no reply reached the handler")?;
    check(
        ACKNOWLEDGED.load(Relaxed) == 1,
        "the acknowledgement did not reach the handler once",
    )?;
    check(
        REPLY.load(Relaxed) == physical.get(),
        "the reply belongs to another request",
    )?;
    // SAFETY: IOS has given the block back; nobody refers to it.
    let reply = unsafe {
        cache::invalidate_range(block.cast(), 64).map_err(|_| "the request is not whole lines")?;
        block.read_volatile()
    };
    check(reply == 8, "the block holds no reply")
}

fn delays_agree(_: Arguments<'static>) -> Result<(), &'static str> {
    let frequency = LowMemory::get()
        .time_base_frequency()
        .map_err(|_| "bus clock")?;
    let clock = Clock::new(Broadway, frequency);
    // An emulator's host may take the processor away at any moment: the best of ten counts.
    let mut best = u64::MAX;
    for _ in 0..10 {
        let wanted = frequency.ticks_from_ms(20);
        cpu::set_decrementer(0x7FFF_FFFF);
        let start = time_base();
        clock.delay().delay_ms(20);
        let ticks = time_base() - start;
        let decremented = u64::from(0x7FFF_FFFF - cpu::decrementer());
        check(ticks >= wanted, "a delay was too short by the time base")?;
        // Dolphin reads the decrementer a few ticks late.
        best = best.min(ticks.abs_diff(wanted).max(decremented.abs_diff(wanted)));
    }
    check(
        best * 100 <= frequency.ticks_from_ms(20),
        "delays differ from time base or decrementer by more than 1 %",
    )
}

const LINES: usize = 6;

#[repr(C, align(32))]
struct Arena(UnsafeCell<[Line; LINES]>);
// SAFETY: a test runs alone.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([Line::ZERO; LINES]));

fn arena() -> &'static mut [Line; LINES] {
    // SAFETY: each test asks once, and runs alone.
    unsafe { &mut *ARENA.0.get() }
}

/// A byte that tells its place and its round.
fn byte(index: usize, round: usize) -> u8 {
    (index.wrapping_mul(7) ^ round.wrapping_mul(41)) as u8
}

fn neighbours_survive(_: Arguments<'static>) -> Result<(), &'static str> {
    let memory = Line::as_bytes_mut(arena());
    let mut round = 0;
    for offset in 0..=LINE_BYTES {
        for length in [0, 1, 2, 3, 4, 31, 32, 33, 63, 64, 65, 96] {
            for operation in [cache::clean, cache::flush, cache::sync_instructions] {
                round += 1;
                for (index, place) in memory.iter_mut().enumerate() {
                    *place = byte(index, round);
                }
                operation(&memory[LINE_BYTES + offset..LINE_BYTES + offset + length]);
                if memory
                    .iter()
                    .enumerate()
                    .any(|(index, place)| *place != byte(index, round))
                {
                    return Err("a cache operation changed a byte");
                }
            }
        }
    }
    Ok(())
}

fn invalidate_drops_its_lines(_: Arguments<'static>) -> Result<(), &'static str> {
    let lines = arena();
    for first in 0..LINES {
        for last in first..=LINES {
            lines.fill(Line([0x11; LINE_BYTES]));
            cache::flush(Line::as_bytes(lines));
            lines.fill(Line([0x22; LINE_BYTES]));
            cache::invalidate(&mut lines[first..last]);
            for (index, line) in lines.iter().enumerate() {
                let dropped = (first..last).contains(&index);
                let expected = if dropped { 0x11 } else { 0x22 };
                if line.0 != [expected; LINE_BYTES] {
                    return Err(if dropped {
                        "an invalidated line kept what the CPU wrote: the data cache is off"
                    } else {
                        "invalidating destroyed a neighbour"
                    });
                }
            }
        }
    }
    Ok(())
}

fn zero_in_both_views(_: Arguments<'static>) -> Result<(), &'static str> {
    let lines = arena();
    for first in 0..LINES {
        for last in first..=LINES {
            lines.fill(Line([0x33; LINE_BYTES]));
            cache::zero(&mut lines[first..last]);
            for (index, line) in lines.iter().enumerate() {
                let expected = if (first..last).contains(&index) {
                    0
                } else {
                    0x33
                };
                check(
                    line.0 == [expected; LINE_BYTES],
                    "zeroed lines are not those that were named",
                )?;
            }
        }
    }
    lines.fill(Line([0x44; LINE_BYTES]));
    cache::flush(Line::as_bytes(lines));
    let uncached = PhysAddr::from_ptr(lines.as_ptr())
        .and_then(PhysAddr::uncached)
        .ok_or("the arena is not in MEM1")?;
    // SAFETY: the same memory; its lines were flushed, and the cached view is not used while this one is.
    cache::zero(unsafe { core::slice::from_raw_parts_mut(uncached.as_ptr(), 2) });
    let (zeroed, rest) = lines.split_at(2);
    check(
        zeroed.iter().all(|line| *line == Line::ZERO),
        "uncached lines were not zeroed",
    )?;
    check(
        rest.iter().all(|line| *line == Line([0x44; LINE_BYTES])),
        "zeroing uncached lines touched a neighbour",
    )
}

fn written_code_runs(_: Arguments<'static>) -> Result<(), &'static str> {
    let code = &mut arena()[..1];
    for value in [1_u32, 2, 77] {
        const LI_R3: u32 = 0x3860_0000;
        const BLR: u32 = 0x4E80_0020;
        let bytes = Line::as_bytes_mut(code);
        bytes[..4].copy_from_slice(&(LI_R3 | value).to_be_bytes());
        bytes[4..8].copy_from_slice(&BLR.to_be_bytes());
        cache::sync_instructions(bytes);
        // SAFETY: two instructions that return a constant, visible to instruction fetch.
        let function: extern "C" fn() -> u32 = unsafe { core::mem::transmute(bytes.as_ptr()) };
        check(function() == value, "older code ran than was written last")?;
    }
    Ok(())
}

fn critical_sections_nest(_: Arguments<'static>) -> Result<(), &'static str> {
    fn tick(_: &mut Frame) -> Verdict {
        CALLS.fetch_add(1, Relaxed);
        cpu::set_decrementer(0x7FFF_FFFF);
        Verdict::Resume
    }
    /// Long enough for a decrementer of a few ticks to be over.
    fn pause() {
        let start = time_base();
        while time_base() - start < 10_000 {}
    }
    check(!cpu::msr().ee(), "interrupts are on at the start")?;
    critical_section::with(|_| ());
    check(
        !cpu::msr().ee(),
        "a critical section turned interrupts on that were off",
    )?;

    exception::set_handler(0x900, Some(tick));
    cpu::set_decrementer(0x7FFF_FFFF);
    // SAFETY: the decrementer has a handler; nothing else interrupts.
    unsafe { cpu::enable_interrupts() };
    let inside = critical_section::with(|_| {
        let outer = cpu::msr().ee();
        let inner = critical_section::with(|_| cpu::msr().ee());
        let after_inner = cpu::msr().ee();
        let before = CALLS.load(Relaxed);
        cpu::set_decrementer(100);
        pause();
        critical_section::with(|_| pause());
        pause();
        (outer, inner, after_inner, CALLS.load(Relaxed) - before)
    });
    pause();
    let after = cpu::msr().ee();
    let calls = CALLS.load(Relaxed);
    cpu::disable_interrupts();
    exception::set_handler(0x900, None);
    check(
        inside == (false, false, false, 0),
        "an interrupt got into a critical section",
    )?;
    check(
        after,
        "the outermost critical section did not restore interrupts",
    )?;
    check(
        calls == 1,
        "the interrupt that waited did not come exactly once",
    )
}
