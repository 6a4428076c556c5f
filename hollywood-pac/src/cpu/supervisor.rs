//! Supervisor registers and instructions. They exist only in programs that run on the bare CPU.

use core::arch::asm;

use super::spr::{Bat, Hid0, Hid2, Hid4, L2cr, Msr};
use super::{isync, sync};

/// Reads special-purpose register `$number`.
macro_rules! mfspr {
    ($number:expr) => {{
        let value: u32;
        // SAFETY: reading has no side effect. The program runs in supervisor mode: the target has no operating system.
        unsafe { asm!("mfspr {}, {}", out(reg) value, const $number, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Writes special-purpose register `$number`. The assembly counts as touching memory, so nothing moves across it.
macro_rules! mtspr {
    ($number:expr, $value:expr) => {{
        let value: u32 = $value;
        asm!("mtspr {}, {}", const $number, in(reg) value, options(nostack, preserves_flags))
    }};
}

/// Defines a getter and an unsafe setter of a special-purpose register.
macro_rules! spr {
    ($(#[$doc:meta])* $get:ident, $(#[$set_doc:meta])* $set:ident: $number:expr, $value:ty, $from:expr, $bits:expr) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $get() -> $value {
            $from(mfspr!($number))
        }

        $(#[$set_doc])*
        #[inline(always)]
        pub unsafe fn $set(value: $value) {
            sync();
            // SAFETY: the caller's promise.
            unsafe { mtspr!($number, $bits(value)) };
            isync();
        }
    };
}

/// Returns the machine state register.
#[inline(always)]
pub fn msr() -> Msr {
    let value: u32;
    // SAFETY: reading has no side effect; it counts as touching memory, so that a critical section's first access stays behind it.
    unsafe { asm!("mfmsr {}", out(reg) value, options(nostack, preserves_flags)) };
    Msr::from_bits(value)
}

/// Writes the machine state register.
///
/// # Safety
/// Whatever the new state turns on must be ready for it: handlers for interrupts, BATs for translation; and turning translation
/// off or changing the byte order ends the world as Rust knows it. Ending somebody else's critical section by setting EE lets in
/// what that section kept out.
#[inline(always)]
pub unsafe fn set_msr(value: Msr) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mtmsr {}", in(reg) value.bits(), options(nostack, preserves_flags)) };
    isync();
}

/// Lets external interrupts and the decrementer in.
///
/// # Safety
/// Both exceptions must have handlers that return, and no critical section may be open.
#[inline(always)]
pub unsafe fn enable_interrupts() {
    let mut value = msr();
    value.set_ee(true);
    // SAFETY: the caller's promise.
    unsafe { set_msr(value) };
}

/// Keeps external interrupts and the decrementer out from here on. For a bounded piece of code take `critical_section::with`.
#[inline(always)]
pub fn disable_interrupts() {
    let mut value = msr();
    value.set_ee(false);
    // SAFETY: only EE changes, to "off".
    unsafe { set_msr(value) };
}

/// Dozes until an interrupt: clocks of the execution units stop, caches keep snooping, time base and decrementer go on.
///
/// Selects doze mode in HID0 for the time. An interrupt that is already pending is taken at once; no wake-up is lost. It may also
/// return early (Dolphin never dozes), so that the caller looks at what it waits for in a loop.
///
/// # Safety
/// As for [`enable_interrupts`], which this does.
pub unsafe fn doze() {
    let hid0_before = hid0();
    let mut hid0_doze = hid0_before;
    hid0_doze.set_nap(false);
    hid0_doze.set_sleep(false);
    hid0_doze.set_doze(true);
    let mut asleep = msr();
    asleep.set_ee(true);
    asleep.set_pow(true);
    // SAFETY: the caller lets interrupts in; doze keeps memory and caches coherent.
    unsafe {
        set_hid0(hid0_doze);
        sync();
        set_msr(asleep);
        set_hid0(hid0_before);
    }
}

/// Returns the decrementer: it counts down with the time base, and raises an exception when it passes from 0 to -1.
#[inline(always)]
pub fn decrementer() -> u32 {
    mfspr!(22)
}

/// Sets the decrementer, in ticks of the time base.
///
/// Safe: the exception that follows is taken only with MSR\[EE\] set, and who sets that vouches for the handler.
#[inline(always)]
pub fn set_decrementer(ticks: u32) {
    // SAFETY: loads a counter.
    unsafe { mtspr!(22, ticks) };
}

/// Sets the time base.
///
/// The lower half is cleared first, so that it cannot carry between the two stores.
#[inline(always)]
pub fn set_time_base(ticks: u64) {
    // SAFETY: loads a counter. SPR 284 and 285 are the write-only names of the two halves.
    unsafe {
        mtspr!(284, 0);
        mtspr!(285, (ticks >> 32) as u32);
        mtspr!(284, ticks as u32);
    }
}

/// Returns the processor version: 0x0008_7102 on a Wii.
#[inline(always)]
pub fn processor_version() -> u32 {
    mfspr!(287)
}

/// Returns SRR0: where the last exception interrupted.
#[inline(always)]
pub fn srr0() -> u32 {
    mfspr!(26)
}

/// Returns SRR1: the machine state that the last exception saved, with bits of its cause.
#[inline(always)]
pub fn srr1() -> u32 {
    mfspr!(27)
}

/// Returns the data address of the last DSI or alignment exception.
#[inline(always)]
pub fn dar() -> u32 {
    mfspr!(19)
}

/// Returns the cause of the last DSI or alignment exception.
#[inline(always)]
pub fn dsisr() -> u32 {
    mfspr!(18)
}

spr! {
    /// Returns HID0.
    hid0,
    /// Writes HID0.
    ///
    /// # Safety
    /// Switching the data cache off, or flash-invalidating it, loses modified lines unless they were flushed. DCFI and ICFI act
    /// on the edge from 0 to 1.
    set_hid0: 1008, Hid0, Hid0::from_bits, Hid0::bits
}

spr! {
    /// Returns HID2.
    hid2,
    /// Writes HID2.
    ///
    /// # Safety
    /// Locking half of the data cache loses its modified lines; paired singles and the write pipe change what stores do.
    set_hid2: 920, Hid2, Hid2::from_bits, Hid2::bits
}

spr! {
    /// Returns HID4.
    hid4,
    /// Writes HID4.
    ///
    /// # Safety
    /// Clearing SBE takes BAT4 to BAT7 away, so MEM2; the other bits change how memory is fetched.
    set_hid4: 1011, Hid4, Hid4::from_bits, Hid4::bits
}

spr! {
    /// Returns L2CR.
    l2cr,
    /// Writes L2CR.
    ///
    /// # Safety
    /// Disabling or invalidating the cache loses modified lines unless they were flushed. Start it with [`enable_l2`].
    set_l2cr: 1017, L2cr, L2cr::from_bits, L2cr::bits
}

spr! {
    /// Returns SPRG0, a scratch register for exception handlers.
    sprg0,
    /// Writes SPRG0.
    ///
    /// # Safety
    /// The exception handlers of the program may keep something there.
    set_sprg0: 272, u32, core::convert::identity, core::convert::identity
}

spr! {
    /// Returns SPRG1, a scratch register for exception handlers.
    sprg1,
    /// Writes SPRG1.
    ///
    /// # Safety
    /// The exception handlers of the program may keep something there.
    set_sprg1: 273, u32, core::convert::identity, core::convert::identity
}

spr! {
    /// Returns SPRG2, a scratch register for exception handlers.
    sprg2,
    /// Writes SPRG2.
    ///
    /// # Safety
    /// The exception handlers of the program may keep something there.
    set_sprg2: 274, u32, core::convert::identity, core::convert::identity
}

spr! {
    /// Returns SPRG3, a scratch register for exception handlers.
    sprg3,
    /// Writes SPRG3.
    ///
    /// # Safety
    /// The exception handlers of the program may keep something there.
    set_sprg3: 275, u32, core::convert::identity, core::convert::identity
}

/// Longest wait for the level-2 cache to invalidate itself, in reads of L2CR; a real one takes some 20 000 clocks.
const L2_INVALIDATE_READS: u32 = 1_000_000;

/// Invalidates and enables the level-2 cache; says whether it came up.
///
/// The order is disable, invalidate, wait, enable (hardware notes, section 7.3; the bit that starts it is L2I, section 10, row 10).
/// Where there is no such cache (in an emulator) the wait ends at once.
///
/// # Safety
/// The cache must be disabled, or hold no modified line: they are lost.
pub unsafe fn enable_l2(write_through: bool) -> bool {
    let mut value = L2cr::default();
    // SAFETY: the caller's promise.
    unsafe { set_l2cr(value) };
    value.set_l2i(true);
    // SAFETY: the caller's promise.
    unsafe { set_l2cr(value) };
    let ready = (0..L2_INVALIDATE_READS).any(|_| !l2cr().l2ip());
    let mut value = L2cr::default();
    // SAFETY: the cache is disabled.
    unsafe { set_l2cr(value) };
    if ready {
        value.set_l2wt(write_through);
        value.set_l2e(true);
        // SAFETY: the cache is empty.
        unsafe { set_l2cr(value) };
    }
    ready
}

/// Defines access to one BAT: `$upper` is the number of its upper half, the lower half has the next.
macro_rules! bat {
    ($get:ident, $set:ident, $upper:expr, $name:literal) => {
        #[doc = concat!("Returns ", $name, ".")]
        #[inline(always)]
        pub fn $get() -> Bat {
            Bat {
                upper: mfspr!($upper),
                lower: mfspr!($upper + 1),
            }
        }

        #[doc = concat!("Writes ", $name, ": off, then the lower half, then the upper.")]
        ///
        /// # Safety
        /// Nothing in use may lose its mapping, and no two valid BATs may map the same address. A line may not be cached through
        /// one mapping while another reaches it uncached.
        #[inline(always)]
        pub unsafe fn $set(bat: Bat) {
            sync();
            // SAFETY: the caller's promise.
            unsafe {
                mtspr!($upper, 0);
                mtspr!($upper + 1, bat.lower);
                mtspr!($upper, bat.upper);
            }
            isync();
        }
    };
}

bat!(ibat0, set_ibat0, 528, "IBAT0");
bat!(ibat1, set_ibat1, 530, "IBAT1");
bat!(ibat2, set_ibat2, 532, "IBAT2");
bat!(ibat3, set_ibat3, 534, "IBAT3");
bat!(dbat0, set_dbat0, 536, "DBAT0");
bat!(dbat1, set_dbat1, 538, "DBAT1");
bat!(dbat2, set_dbat2, 540, "DBAT2");
bat!(dbat3, set_dbat3, 542, "DBAT3");
bat!(
    ibat4,
    set_ibat4,
    560,
    "IBAT4, which exists with HID4\\[SBE\\] set"
);
bat!(
    ibat5,
    set_ibat5,
    562,
    "IBAT5, which exists with HID4\\[SBE\\] set"
);
bat!(
    ibat6,
    set_ibat6,
    564,
    "IBAT6, which exists with HID4\\[SBE\\] set"
);
bat!(
    ibat7,
    set_ibat7,
    566,
    "IBAT7, which exists with HID4\\[SBE\\] set"
);
bat!(
    dbat4,
    set_dbat4,
    568,
    "DBAT4, which exists with HID4\\[SBE\\] set"
);
bat!(
    dbat5,
    set_dbat5,
    570,
    "DBAT5, which exists with HID4\\[SBE\\] set"
);
bat!(
    dbat6,
    set_dbat6,
    572,
    "DBAT6, which exists with HID4\\[SBE\\] set"
);
bat!(
    dbat7,
    set_dbat7,
    574,
    "DBAT7, which exists with HID4\\[SBE\\] set"
);

/// Continues at `address` in machine state `state` (`rfi`), as at the end of an exception handler. General registers keep
/// whatever they hold; the new code must not expect anything of them.
///
/// # Safety
/// `address` must be code that is valid in `state`, and that never returns into the caller.
#[inline(always)]
pub unsafe fn return_from_interrupt(address: u32, state: Msr) -> ! {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "mtspr 26, {address}",
            "mtspr 27, {state}",
            "sync",
            "rfi",
            address = in(reg) address,
            state = in(reg) state.bits(),
            options(noreturn, nostack),
        )
    }
}
