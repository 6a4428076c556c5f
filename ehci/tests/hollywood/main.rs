//! The driver on the simulated Hollywood: big-endian registers, memory behind an incoherent cache that does its worst, devices
//! that are real enough to fail.
//!
//! Every test runs on a whole machine of its own. In the end the pool is empty, and no rule of DMA was broken.

mod data;
mod efficiency;
mod embassy;
mod faults;
mod isochronous;
mod serial;
mod session;
mod source;
mod wii;
