//! A stand-in for libusb-1.0: virtual sticks where Dolphin looks for USB devices. No USB hardware, no kernel module, no root.
//!
//! Dolphin is started with this library preloaded and the variable `WIISTICK_STICKS`: the number of an inherited socket. When it
//! is first used, the library reads commands from it, one a line, until `start`, and goes on obeying commands after that.
//! Each is answered by a line: `ok`, with what was asked for, or `error` with a reason.
//!
//! | command | does |
//! |---|---|
//! | `stick rw PATH`, `stick ro PATH` | makes the next stick, 0 first, of an image; with or without write protection |
//! | `plug N`, `unplug N` | puts a stick in, pulls it |
//! | `fault N T KIND` | lets bulk transfer T of stick N (from 1) suffer: `stall`, `error`, `short`, `silence`, `unplug`, `replug` |
//! | `transfers N` | answers how many bulk transfers stick N has had |
//! | `start` | lets Dolphin begin |
//!
//! The sticks are `hollywood-sim`'s. What libusb does beside transfers, Dolphin needs little of: contexts with a queue of ended
//! transfers each, whose callbacks run in the thread that handles events.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod abi;
mod bus;
mod control;
mod exports;
mod fault;
