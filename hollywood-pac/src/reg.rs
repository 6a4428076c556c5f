//! Register cells: what may be done to a register is its type.
//!
//! | type | reading | writing |
//! |---|---|---|
//! | [`ReadOnly`] | `read` | |
//! | [`WriteOnly`] | | `write` |
//! | [`ReadWrite`] | `read` | `write`, `modify` |
//! | [`Guarded`] | `read` | `write`, `modify`, both unsafe: the register can make hardware overwrite memory or stop the machine |
//! | [`WriteOneToClear`] | `read` | `clear`; there is no `modify`, which would clear whatever happened to be set |
//! | [`PartlyClear`] | `read` | `write` and `modify` for its plain bits, `clear` for the write-one-to-clear bits; neither disturbs the other |
//! | [`Command`] | `read` | `command`: writing means something else than reading |
//! | [`Split`], [`SplitGuarded`] | `read` | as [`ReadWrite`] and [`Guarded`], for 32-bit registers behind a 16-bit bus: two accesses |
//!
//! The cells are volatile-register's, with two additions: values have fields, and their byte order is fixed. Registers are
//! big-endian (hardware notes, section 0, fact 2), so that a block laid over a memory image on any host holds the same bytes as
//! on a Wii; there the conversion is nothing. Each access is followed by `eieio`, so that devices see accesses in program order.
//! Accesses are as wide as the register's [`Value::Word`], always.

use core::marker::PhantomData;

use volatile_register::{RO, RW, WO};

use crate::cpu::eieio;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
}

/// Width of a register access: `u32`, or `u16` in the few blocks that are 16 bits wide.
pub trait Word: sealed::Sealed + Copy {
    /// Converts between the CPU's byte order and the register's, both ways.
    fn swap_to_big_endian(self) -> Self;

    /// Returns the bits of `self` that `mask` does not have.
    fn without(self, mask: Self) -> Self;

    /// Returns the bits of `self` that `mask` has.
    fn only(self, mask: Self) -> Self;

    /// Returns the bits of both.
    fn with(self, other: Self) -> Self;
}

macro_rules! word {
    ($word:ty) => {
        impl Word for $word {
            #[inline(always)]
            fn swap_to_big_endian(self) -> Self {
                self.to_be()
            }

            #[inline(always)]
            fn without(self, mask: Self) -> Self {
                self & !mask
            }

            #[inline(always)]
            fn only(self, mask: Self) -> Self {
                self & mask
            }

            #[inline(always)]
            fn with(self, other: Self) -> Self {
                self | other
            }
        }

        impl Value for $word {
            type Word = $word;

            #[inline(always)]
            fn from_word(word: $word) -> Self {
                word
            }

            #[inline(always)]
            fn into_word(self) -> $word {
                self
            }
        }
    };
}
word!(u16);
word!(u32);

/// What a register holds: a word, or a word with fields.
pub trait Value: Copy {
    /// Width of every access.
    type Word: Word;

    /// Makes the value from its bits, in the CPU's byte order.
    fn from_word(word: Self::Word) -> Self;

    /// Returns the bits of the value, in the CPU's byte order.
    fn into_word(self) -> Self::Word;
}

impl Value for crate::addr::BusAddr {
    type Word = u32;

    #[inline(always)]
    fn from_word(word: u32) -> Self {
        Self::new(word)
    }

    #[inline(always)]
    fn into_word(self) -> u32 {
        self.get()
    }
}

/// A block of registers.
pub trait Block: Sized {
    /// Shows every register to a test.
    #[cfg(test)]
    fn probe(&self, found: &mut dyn FnMut(&'static str, usize, &dyn tests::Probe));

    /// Makes a block of the registers at `address`.
    ///
    /// # Safety
    /// For as long as the reference lives there must be such registers, mapped uncached and guarded, or memory that stands for
    /// them; aligned; and nobody else may rely on having them alone.
    #[inline(always)]
    unsafe fn at<'r>(address: *const Self) -> &'r Self {
        // SAFETY: the caller's promise. All registers are cells: the reference does not claim that they stay the same.
        unsafe { &*address }
    }
}

/// A value of a register of type [`PartlyClear`].
pub trait ClearBits: Value {
    /// The bits that are cleared by writing one.
    const CLEAR: Self::Word;
}

/// A register that is only read.
#[repr(transparent)]
pub struct ReadOnly<V: Value> {
    cell: RO<V::Word>,
    value: PhantomData<V>,
}

/// A register that is only written.
#[repr(transparent)]
pub struct WriteOnly<V: Value> {
    cell: WO<V::Word>,
    value: PhantomData<V>,
}

/// A register that is read and written, and whose writing no memory depends on.
#[repr(transparent)]
pub struct ReadWrite<V: Value> {
    cell: RW<V::Word>,
    value: PhantomData<V>,
}

/// A register whose writing can break memory safety or the machine: DMA addresses and lengths, resets, bus permissions.
#[repr(transparent)]
pub struct Guarded<V: Value> {
    cell: RW<V::Word>,
    value: PhantomData<V>,
}

/// A register of events, each cleared by writing one to its bit.
#[repr(transparent)]
pub struct WriteOneToClear<V: Value> {
    cell: RW<V::Word>,
    value: PhantomData<V>,
}

/// A register of plain bits and of events that are cleared by writing one.
#[repr(transparent)]
pub struct PartlyClear<V: ClearBits> {
    cell: RW<V::Word>,
    value: PhantomData<V>,
}

/// A register that says one thing when read and takes another when written, so that read-modify-write has no meaning.
#[repr(transparent)]
pub struct Command<R: Value, W: Value<Word = R::Word>> {
    cell: RW<R::Word>,
    value: PhantomData<(R, W)>,
}

/// A 32-bit register of a 16-bit block: the upper half at the lower address. A read or write is two accesses, upper half first;
/// nothing holds the register still in between.
#[repr(C)]
pub struct Split<V: Value<Word = u32>> {
    upper: RW<u16>,
    lower: RW<u16>,
    value: PhantomData<V>,
}

/// A [`Split`] register whose writing can break memory safety, as that of a [`Guarded`] one.
#[repr(transparent)]
pub struct SplitGuarded<V: Value<Word = u32>> {
    halves: Split<V>,
}

/// Reads a cell in the register's byte order.
macro_rules! read {
    () => {
        /// Reads the register.
        #[inline(always)]
        pub fn read(&self) -> V {
            let word = self.cell.read().swap_to_big_endian();
            eieio();
            V::from_word(word)
        }
    };
}

/// Writes a cell in the register's byte order.
macro_rules! store {
    () => {
        #[inline(always)]
        fn store(&self, word: V::Word) {
            // SAFETY: the cell is a register or a memory image of one (whoever made the block vouched for that); that writing it
            // breaks no memory is what the choice of this type in the block's definition says, or what the caller promised.
            unsafe { self.cell.write(word.swap_to_big_endian()) };
            eieio();
        }
    };
}

impl<V: Value> ReadOnly<V> {
    read!();
}

impl<V: Value> WriteOnly<V> {
    store!();

    /// Writes the register.
    #[inline(always)]
    pub fn write(&self, value: V) {
        self.store(value.into_word());
    }
}

impl<V: Value> ReadWrite<V> {
    read!();
    store!();

    /// Writes the register.
    #[inline(always)]
    pub fn write(&self, value: V) {
        self.store(value.into_word());
    }

    /// Reads the register, lets `change` alter the value, and writes it back. Fields that `change` leaves alone keep their value.
    #[inline(always)]
    pub fn modify(&self, change: impl FnOnce(&mut V)) {
        let mut value = self.read();
        change(&mut value);
        self.write(value);
    }
}

impl<V: Value> Guarded<V> {
    read!();
    store!();

    /// Writes the register.
    ///
    /// # Safety
    /// See the register: what the hardware does with the value must not touch memory that somebody else owns, nor take away
    /// what the program runs on.
    #[inline(always)]
    pub unsafe fn write(&self, value: V) {
        self.store(value.into_word());
    }

    /// Reads the register, lets `change` alter the value, and writes it back. Fields that `change` leaves alone keep their value.
    ///
    /// # Safety
    /// As for [`Guarded::write`].
    #[inline(always)]
    pub unsafe fn modify(&self, change: impl FnOnce(&mut V)) {
        let mut value = self.read();
        change(&mut value);
        self.store(value.into_word());
    }
}

impl<V: Value> WriteOneToClear<V> {
    read!();
    store!();

    /// Clears the events that are set in `events`, and no others.
    #[inline(always)]
    pub fn clear(&self, events: V) {
        self.store(events.into_word());
    }
}

impl<V: ClearBits> PartlyClear<V> {
    read!();
    store!();

    /// Writes the plain bits of `value`. No event is cleared, whatever `value` says about it.
    #[inline(always)]
    pub fn write(&self, value: V) {
        self.store(value.into_word().without(V::CLEAR));
    }

    /// Reads the register, lets `change` alter the value, and writes the plain bits back. No event is cleared.
    #[inline(always)]
    pub fn modify(&self, change: impl FnOnce(&mut V)) {
        let mut value = self.read();
        change(&mut value);
        self.write(value);
    }

    /// Clears the events that are set in `events`, and no others. The plain bits keep their value.
    #[inline(always)]
    pub fn clear(&self, events: V) {
        let plain = self.cell.read().swap_to_big_endian().without(V::CLEAR);
        eieio();
        self.store(plain.with(events.into_word().only(V::CLEAR)));
    }
}

impl<R: Value, W: Value<Word = R::Word>> Command<R, W> {
    /// Reads the register.
    #[inline(always)]
    pub fn read(&self) -> R {
        let word = self.cell.read().swap_to_big_endian();
        eieio();
        R::from_word(word)
    }

    /// Writes the register.
    #[inline(always)]
    pub fn command(&self, value: W) {
        // SAFETY: as in the other cells: a register, or an image of one, whose type was chosen in its block's definition.
        unsafe { self.cell.write(value.into_word().swap_to_big_endian()) };
        eieio();
    }
}

impl<V: Value<Word = u32>> Split<V> {
    /// Reads the register.
    #[inline(always)]
    pub fn read(&self) -> V {
        let upper = u32::from(u16::from_be(self.upper.read()));
        eieio();
        let lower = u32::from(u16::from_be(self.lower.read()));
        eieio();
        V::from_word(upper << 16 | lower)
    }

    /// Writes the register.
    #[inline(always)]
    pub fn write(&self, value: V) {
        let word = value.into_word();
        // SAFETY: as in the other cells: registers, or an image of them, whose type was chosen in their block's definition.
        unsafe {
            self.upper.write(((word >> 16) as u16).to_be());
            eieio();
            self.lower.write((word as u16).to_be());
        }
        eieio();
    }

    /// Reads the register, lets `change` alter the value, and writes it back. Fields that `change` leaves alone keep their value.
    #[inline(always)]
    pub fn modify(&self, change: impl FnOnce(&mut V)) {
        let mut value = self.read();
        change(&mut value);
        self.write(value);
    }
}

impl<V: Value<Word = u32>> SplitGuarded<V> {
    /// Reads the register.
    #[inline(always)]
    pub fn read(&self) -> V {
        self.halves.read()
    }

    /// Writes the register.
    ///
    /// # Safety
    /// As for [`Guarded::write`].
    #[inline(always)]
    pub unsafe fn write(&self, value: V) {
        self.halves.write(value);
    }
}

#[cfg(test)]
pub(crate) mod tests;
