//! The macros that register definitions are written in.

/// Defines a register's value on `bitfield`: a transparent newtype with a getter and a setter per field.
///
/// `bits! { /// doc  pub struct Name(u32); /// doc  getter, setter: bit; ... }`; `_` in place of the setter makes a field read-only.
/// Bits without a field are preserved by read-modify-write, since setters touch only their own.
macro_rules! bits {
    ($(#[$meta:meta])* pub struct $name:ident(u32); $($fields:tt)*) => {
        bits!(@ u32, "{=str}({=u32:#010x})", $(#[$meta])* $name; $($fields)*);
    };
    ($(#[$meta:meta])* pub struct $name:ident(u16); $($fields:tt)*) => {
        bits!(@ u16, "{=str}({=u16:#06x})", $(#[$meta])* $name; $($fields)*);
    };
    (@ $word:ident, $format:literal, $(#[$meta:meta])* $name:ident; $($fields:tt)*) => {
        bitfield::bitfield! {
            $(#[$meta])*
            #[derive(Clone, Copy, PartialEq, Eq, Default)]
            #[repr(transparent)]
            pub struct $name($word);
            impl Debug;
            $word;
            $($fields)*
        }

        impl $name {
            /// Makes the value from its bits.
            pub const fn from_bits(bits: $word) -> Self {
                Self(bits)
            }

            /// Returns the bits of the value.
            pub const fn bits(self) -> $word {
                self.0
            }
        }

        impl $crate::reg::Value for $name {
            type Word = $word;

            fn from_word(word: $word) -> Self {
                Self(word)
            }

            fn into_word(self) -> $word {
                self.0
            }
        }

        #[cfg(test)]
        $crate::macros::fields! { $name; $($fields)* }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, $format, stringify!($name), self.0);
            }
        }
    };
}
pub(crate) use bits;

/// Lists the fields of a value for its test, from what `bits!` was given.
#[cfg(test)]
macro_rules! fields {
    ($name:ident; $($(#[$meta:meta])* pub $first:ident, $second:tt $(, $third:tt)?: $($bit:literal),+;)*) => {
        impl $crate::reg::tests::fields::Fields for $name {
            const FIELDS: &'static [$crate::reg::tests::fields::Field<Self>] = &[
                $($crate::macros::fields!(@ $first, $second $(, $third)?)),*
            ];
        }
    };
    (@ $get:ident, _) => {
        $crate::macros::fields!(@@ $get: None)
    };
    (@ $type:ident, $get:ident, _) => {
        $crate::macros::fields!(@@ $get: None)
    };
    (@ $get:ident, $set:ident) => {
        $crate::macros::fields!(@@ $get: Some(|value, ones| value.$set($crate::reg::tests::fields::Content::filled(ones))))
    };
    (@ $type:ident, $get:ident, $set:ident) => {
        $crate::macros::fields!(@ $get, $set)
    };
    (@@ $get:ident: $set:expr) => {
        $crate::reg::tests::fields::Field {
            name: stringify!($get),
            get: |value: Self| $crate::reg::tests::fields::Content::number(value.$get()),
            set: $set,
        }
    };
}
#[cfg(test)]
pub(crate) use fields;

/// Gives a value made with `bits!` the operations of a set of `$item`s, each of which is a bit of it.
macro_rules! set_of {
    ($set:ident of $item:ident) => {
        impl $set {
            /// Says whether `item` is in the set.
            pub const fn contains(self, item: $item) -> bool {
                self.bits() & item.mask().bits() != 0
            }

            /// Returns what is in either set.
            pub const fn union(self, other: Self) -> Self {
                Self::from_bits(self.bits() | other.bits())
            }

            /// Returns what is in both sets.
            pub const fn intersection(self, other: Self) -> Self {
                Self::from_bits(self.bits() & other.bits())
            }

            /// Returns what is in `self` and not in `other`.
            pub const fn without(self, other: Self) -> Self {
                Self::from_bits(self.bits() & !other.bits())
            }

            /// Says whether the set is empty.
            pub const fn is_empty(self) -> bool {
                self.bits() == 0
            }
        }
    };
}
pub(crate) use set_of;

/// Asserts at compile time where each register of a block lies and how long the block is, and lists the registers.
///
/// Blocks within the block follow after `nested`.
macro_rules! offsets {
    ($block:ty: $bytes:literal { $($register:ident: $offset:literal),* $(,)? }) => {
        offsets!($block: $bytes { $($register: $offset),* } nested {});
    };
    ($block:ty: $bytes:literal { $($register:ident: $offset:literal),* $(,)? } nested { $($inner:ident: $at:literal),* $(,)? }) => {
        const _: () = {
            $(assert!(core::mem::offset_of!($block, $register) == $offset, stringify!($register));)*
            $(assert!(core::mem::offset_of!($block, $inner) == $at, stringify!($inner));)*
            assert!(size_of::<$block>() == $bytes, stringify!($block));
        };

        impl $crate::reg::Block for $block {
            #[cfg(test)]
            fn probe(&self, found: &mut dyn FnMut(&'static str, usize, &dyn $crate::reg::tests::Probe)) {
                $(found(stringify!($register), $offset, &self.$register);)*
                $($crate::reg::Block::probe(&self.$inner, &mut |name, offset, register| found(name, $at + offset, register));)*
            }
        }
    };
}
pub(crate) use offsets;
