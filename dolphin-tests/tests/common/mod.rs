//! What several test programs share; each uses a part of it.
#![allow(dead_code)]

pub mod guest;
pub mod hostile;
pub mod menu;
pub mod native;
pub mod sample;
pub mod sticks;
