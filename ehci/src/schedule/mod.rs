//! Schedules as pure memory logic: nothing here touches a register or a clock.
//!
//! - [`ring`]: the asynchronous list of queue heads, and which of them the controller may still be visiting.
//! - [`queue`]: chains of qTDs behind one queue head.
//! - [`tree`]: interrupt queue heads behind the frame list.
//! - [`frames`]: the frame list itself, with the isochronous descriptors in front of the tree.
//! - [`isochronous`]: packets in isochronous descriptors, and what came of them.

pub mod frames;
pub mod isochronous;
pub mod queue;
pub mod ring;
pub mod tree;
