//! Schedules as pure memory logic: nothing here touches a register or a clock.
//!
//! - [`ring`]: the asynchronous list of queue heads, and which of them the controller may still be visiting.
//! - [`tree`]: the periodic schedule, a frame list that leads through interrupt queue heads to a dummy.
//! - [`queue`]: chains of qTDs behind one queue head.

pub mod queue;
pub mod ring;
pub mod tree;
