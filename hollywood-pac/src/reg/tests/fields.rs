//! Every field of every value, run over a memory image: it is read and set in the bits that the documentation says.
//!
//! `bits!` lists a value's fields, [`masks!`] says where the documentation has them, in literals. A value without masks does
//! not compile, a field without a mask (or the reverse) fails the test.

use super::*;

/// A field of `V`, without its type.
pub(crate) struct Field<V> {
    pub name: &'static str,
    /// Returns what the field holds.
    pub get: fn(V) -> u32,
    /// Makes all bits of the field ones (`true`) or zeros; `None` if it is only read.
    pub set: Option<fn(&mut V, bool)>,
}

/// The fields of a value, as `bits!` defines them.
pub(crate) trait Fields: Documented + Value + 'static {
    const FIELDS: &'static [Field<Self>];
}

/// The fields of a value, as its documentation has them: names in the order of the definition, and masks.
pub(crate) trait Documented {
    const MASKS: &'static [(&'static str, u32)];
}

/// What a field holds.
pub(crate) trait Content {
    fn filled(ones: bool) -> Self;
    fn number(self) -> u32;
}

impl Content for bool {
    fn filled(ones: bool) -> Self {
        ones
    }
    fn number(self) -> u32 {
        self.into()
    }
}

macro_rules! content {
    ($($integer:ty)*) => {$(
        impl Content for $integer {
            fn filled(ones: bool) -> Self {
                if ones { Self::MAX } else { 0 }
            }
            fn number(self) -> u32 {
                self.into()
            }
        }
    )*};
}
content!(u8 u16 u32);

/// Says which bits each field of a block's values has, and tests it. After `clear`: the bits of a [`PartlyClear`] register that
/// are cleared by writing one.
macro_rules! masks {
    ($($name:ident $(clear $clear:literal)? { $($field:ident: $mask:literal),* $(,)? })*) => {
        $(
            impl $crate::reg::tests::fields::Documented for $name {
                const MASKS: &'static [(&'static str, u32)] = &[$((stringify!($field), $mask)),*];
            }
        )*

        #[test]
        fn fields_have_their_documented_bits() {
            $(
                $crate::reg::tests::fields::check_fields::<$name>(stringify!($name));
                $(assert_eq!(<$name as $crate::reg::ClearBits>::CLEAR, $clear, "CLEAR of {}", stringify!($name));)?
            )*
        }
    };
}
pub(crate) use masks;

/// A register that holds nothing but a `V`.
#[repr(transparent)]
struct Register<V: Value>(ReadWrite<V>);

impl<V: Value<Word: Bits>> Block for Register<V> {
    fn probe(&self, found: &mut dyn FnMut(&'static str, usize, &dyn Probe)) {
        found("register", 0, &self.0);
    }
}

/// Runs every field of a value over a memory image.
pub(crate) fn check_fields<V: Fields<Word: Bits>>(value: &str) {
    let defined: Vec<_> = V::FIELDS.iter().map(|field| field.name).collect();
    let documented: Vec<_> = V::MASKS.iter().map(|(name, _)| *name).collect();
    assert_eq!(defined, documented, "fields of {value}");

    let memory = Memory::<Register<V>>::filled(0);
    let register = &memory.registers().0;
    let bytes = |bits: u32| bits.to_be_bytes()[4 - V::Word::BYTES..].to_vec();
    for (field, (name, mask)) in V::FIELDS.iter().zip(V::MASKS) {
        assert_ne!(*mask, 0, "mask of {value}::{name}");
        let ones = mask >> mask.trailing_zeros();
        for (image, content) in [(*mask, ones), (!mask, 0)] {
            memory.set(0, &bytes(image));
            assert_eq!((field.get)(register.read()), content, "{value}::{name}");
        }
        let Some(set) = field.set else { continue };
        for (ones, before, after) in [(true, 0, *mask), (false, u32::MAX, !mask)] {
            memory.set(0, &bytes(before));
            register.modify(|now| set(now, ones));
            assert_eq!(
                memory.bytes(0, V::Word::BYTES),
                bytes(after),
                "setting {value}::{name} to {ones}"
            );
        }
    }
}
