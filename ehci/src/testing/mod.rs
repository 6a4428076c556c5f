//! Test doubles: memory that knows who may touch it, a controller that executes schedules, and devices.
//!
//! Small on purpose: enough of section 4 of the EHCI specification to run the driver against. The simulated Hollywood
//! replaces it where faults at every moment are wanted.

mod controller;
mod device;
mod memory;
mod rig;
#[cfg(feature = "embassy")]
mod run;

pub use controller::Machine;
pub use device::{Response, Shared, Stick};
pub use memory::{Block, Ram, descriptors};
pub use rig::{Rig, endpoint};
#[cfg(feature = "embassy")]
pub use run::run;
