//! Logging macros that cost nothing where there is no defmt logger.
//!
//! On the target they are defmt's own, and what matters is also kept as text for the next run. On a host the arguments are only type-checked, so that the
//! library needs no defmt symbols there. Use arguments that both understand: `{}` of integers and
//! strings, no defmt type hints.
//! Nothing here logs finer things than `info`.

#![allow(unused_macros, unused_imports)]

macro_rules! trace {
    ($($arg:tt)*) => { $crate::fmt::log!(trace, $($arg)*) };
}

macro_rules! debug {
    ($($arg:tt)*) => { $crate::fmt::log!(debug, $($arg)*) };
}

macro_rules! info {
    ($($arg:tt)*) => { $crate::fmt::log!(info, $($arg)*) };
}

macro_rules! warning {
    ($($arg:tt)*) => { $crate::fmt::log!(warn, $($arg)*) };
}

macro_rules! error {
    ($($arg:tt)*) => { $crate::fmt::log!(error, $($arg)*) };
}

#[cfg(target_os = "none")]
macro_rules! log {
    ($level:ident, $($arg:tt)*) => { {
        ::defmt::$level!($($arg)*);
        $crate::wii::last_log::line(::core::format_args!($($arg)*));
    } };
}

#[cfg(not(target_os = "none"))]
macro_rules! log {
    ($level:ident, $($arg:tt)*) => { { let _ = ::core::format_args!($($arg)*); } };
}

pub(crate) use log;
