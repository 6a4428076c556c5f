//! The scripts.

use super::Host;

/// One step of a script, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What was done.
    pub what: &'static str,
    /// Status words: tokens of qTDs, registers.
    pub status: Vec<u32>,
    /// Bytes that came from the device.
    pub bytes: Vec<u8>,
}

/// What a controller made of a script.
pub type Transcript = Vec<Step>;

/// A script for a host whose stick is in port 0.
pub type Script<B> = fn(&mut Host<B>) -> Transcript;
