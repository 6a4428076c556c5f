//! Every register of every block, run over a memory image: it reads and writes exactly its own bytes, big-endian, and
//! touches no other.

use super::*;
extern crate std;
use std::vec::Vec;

pub(crate) mod fields;

/// What a register offers, without its types.
pub trait Probe {
    /// Width of an access in bytes.
    fn width(&self) -> usize;
    /// Number of registers: 1, or the length of an array.
    fn count(&self) -> usize {
        1
    }
    /// Reads register `index`, if it can be read.
    fn read_bits(&self, index: usize) -> Option<u32>;
    /// Writes register `index` in each way that it offers, shows the value that was passed and the one expected in memory.
    fn write_bits(&self, index: usize, bits: u32, wrote: &mut dyn FnMut(u32));
}

pub(crate) trait Bits: Word {
    const BYTES: usize;
    fn widen(self) -> u32;
    fn narrow(bits: u32) -> Self;
}

impl Bits for u16 {
    const BYTES: usize = 2;
    fn widen(self) -> u32 {
        self.into()
    }
    fn narrow(bits: u32) -> Self {
        bits as u16
    }
}

impl Bits for u32 {
    const BYTES: usize = 4;
    fn widen(self) -> u32 {
        self
    }
    fn narrow(bits: u32) -> Self {
        bits
    }
}

fn value<V: Value<Word: Bits>>(bits: u32) -> V {
    V::from_word(Bits::narrow(bits))
}

fn bits<V: Value<Word: Bits>>(value: V) -> u32 {
    value.into_word().widen()
}

impl<V: Value<Word: Bits>> Probe for ReadOnly<V> {
    fn width(&self) -> usize {
        V::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, _: u32, _: &mut dyn FnMut(u32)) {}
}

impl<V: Value<Word: Bits>> Probe for WriteOnly<V> {
    fn width(&self) -> usize {
        V::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        None
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        self.write(value(word));
        wrote(word);
    }
}

impl<V: Value<Word: Bits>> Probe for ReadWrite<V> {
    fn width(&self) -> usize {
        V::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        self.write(value(word));
        wrote(word);
        self.modify(|now| *now = value(!bits(*now)));
        wrote(!word);
    }
}

impl<V: Value<Word: Bits>> Probe for Guarded<V> {
    fn width(&self) -> usize {
        V::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        // SAFETY: the register is memory.
        unsafe { self.write(value(word)) };
        wrote(word);
        // SAFETY: the register is memory.
        unsafe { self.modify(|now| *now = value(!bits(*now))) };
        wrote(!word);
    }
}

impl<V: Value<Word: Bits>> Probe for WriteOneToClear<V> {
    fn width(&self) -> usize {
        V::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        self.clear(value(word));
        wrote(word);
    }
}

impl<V: ClearBits<Word: Bits>> Probe for PartlyClear<V> {
    fn width(&self) -> usize {
        V::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        let clear = V::CLEAR.widen();
        self.write(value(word));
        wrote(word & !clear);
        self.modify(|now| *now = value(!bits(*now)));
        wrote(!word & !clear);
        self.clear(value(word));
        wrote(!word & !clear | word & clear);
        self.clear(value(u32::MAX));
        wrote(!word | clear);
    }
}

impl<R: Value<Word: Bits>, W: Value<Word = R::Word>> Probe for Command<R, W> {
    fn width(&self) -> usize {
        R::Word::BYTES
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        self.command(value(word));
        wrote(word);
    }
}

impl<V: Value<Word = u32>> Probe for Split<V> {
    fn width(&self) -> usize {
        4
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        self.write(value(word));
        wrote(word);
        self.modify(|now| *now = value(!bits(*now)));
        wrote(!word);
    }
}

impl<V: Value<Word = u32>> Probe for SplitGuarded<V> {
    fn width(&self) -> usize {
        4
    }
    fn read_bits(&self, _: usize) -> Option<u32> {
        Some(bits(self.read()))
    }
    fn write_bits(&self, _: usize, word: u32, wrote: &mut dyn FnMut(u32)) {
        // SAFETY: the register is memory.
        unsafe { self.write(value(word)) };
        wrote(word);
    }
}

impl<P: Probe, const N: usize> Probe for [P; N] {
    fn width(&self) -> usize {
        self[0].width()
    }
    fn count(&self) -> usize {
        N
    }
    fn read_bits(&self, index: usize) -> Option<u32> {
        self[index].read_bits(0)
    }
    fn write_bits(&self, index: usize, bits: u32, wrote: &mut dyn FnMut(u32)) {
        self[index].write_bits(0, bits, wrote);
    }
}

/// Words that show a swapped byte, a lost half and a stuck bit.
const PATTERNS: [u32; 4] = [0x0123_4567, 0xFEDC_BA98, 0x8000_0001, 0x00FF_5AA5];

/// A block over memory, so that tests of other modules can look at and prepare its bytes.
pub(crate) struct Memory<B> {
    words: Vec<core::cell::UnsafeCell<u32>>,
    block: PhantomData<B>,
}

impl<B: Block> Memory<B> {
    pub(crate) fn filled(byte: u8) -> Self {
        let word = u32::from_ne_bytes([byte; 4]);
        let words = size_of::<B>().div_ceil(4);
        Self {
            words: (0..words)
                .map(|_| core::cell::UnsafeCell::new(word))
                .collect(),
            block: PhantomData,
        }
    }

    pub(crate) fn registers(&self) -> &B {
        assert!(align_of::<B>() <= align_of::<u32>());
        // SAFETY: as many words as the block is long, aligned, in cells, borrowed for as long.
        unsafe { B::at(self.words.as_ptr().cast()) }
    }

    /// Returns the bytes from `offset` on, most significant first.
    pub(crate) fn bytes(&self, offset: usize, count: usize) -> Vec<u8> {
        assert!(offset + count <= self.words.len() * 4);
        let start: *const u8 = self.words.as_ptr().cast();
        // SAFETY: within the words; volatile, as the registers are.
        (offset..offset + count)
            .map(|at| unsafe { start.add(at).read_volatile() })
            .collect()
    }

    /// Stores bytes from `offset` on.
    pub(crate) fn set(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.words.len() * 4);
        let start: *mut u8 = self.words.as_ptr().cast_mut().cast();
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: within the words, which are cells; volatile, as the registers are.
            unsafe { start.add(offset + at).write_volatile(*byte) };
        }
    }
}

/// Counts the registers of a block, and checks that none overlap.
pub(crate) fn count_registers<B: Block>() -> usize {
    let mut bytes = Vec::new();
    let mut registers = 0;
    Memory::<B>::filled(0)
        .registers()
        .probe(&mut |name, offset, register| {
            registers += register.count();
            for byte in offset..offset + register.count() * register.width() {
                assert!(!bytes.contains(&byte), "{name} overlaps");
                bytes.push(byte);
            }
        });
    assert!(bytes.iter().all(|byte| *byte < size_of::<B>()));
    registers
}

/// Runs every register of a block over a memory image.
pub(crate) fn probe_block<B: Block>() {
    let memory = Memory::<B>::filled(0xA5);
    let untouched = memory.bytes(0, size_of::<B>());
    memory.registers().probe(&mut |name, offset, register| {
        for index in 0..register.count() {
            let width = register.width();
            let offset = offset + index * width;
            for pattern in PATTERNS {
                let pattern = if width == 2 {
                    pattern & 0xFFFF
                } else {
                    pattern
                };
                let expect_bytes = |bits: u32| bits.to_be_bytes()[4 - width..].to_vec();

                memory.set(offset, &expect_bytes(pattern));
                if let Some(read) = register.read_bits(index) {
                    assert_eq!(read, pattern, "read of {name}[{index}]");
                }
                assert_eq!(
                    memory.bytes(offset, width),
                    expect_bytes(pattern),
                    "reading changed {name}[{index}]"
                );

                memory.set(offset, &untouched[offset..offset + width]);
                register.write_bits(index, pattern, &mut |expected| {
                    let mut image = untouched.clone();
                    image[offset..offset + width].copy_from_slice(&expect_bytes(expected));
                    assert_eq!(
                        memory.bytes(0, image.len()),
                        image,
                        "write of {name}[{index}]"
                    );
                });
                memory.set(offset, &untouched[offset..offset + width]);
            }
        }
    });
}
