//! The driver against the machine of [`testing`](crate::testing), rule by rule.

mod bounce;
mod controller;
#[cfg(feature = "embassy")]
mod embassy;
#[cfg(feature = "embassy")]
mod faults;
mod interrupts;
mod ports;
mod recovery;
mod streams;
mod transfers;
mod translators;
