//! The driver against the machine of [`testing`](crate::testing), rule by rule.

mod controller;
mod ports;
mod recovery;
mod transfers;
