//! What goes wrong on purpose, and when: at the n-th bulk transfer of a stick.

use std::str::FromStr;

/// A misfortune of one bulk transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its endpoint halts.
    Stall,
    /// It fails as after three transmission errors.
    Error,
    /// It brings half of the data, and says that this was all (IN only).
    Short,
    /// It does not end before it is cancelled or the stick is pulled.
    Silence,
    /// The stick is pulled.
    Unplug,
    /// The stick is pulled, and put back a moment later.
    Replug,
}

impl FromStr for Fault {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "stall" => Self::Stall,
            "error" => Self::Error,
            "short" => Self::Short,
            "silence" => Self::Silence,
            "unplug" => Self::Unplug,
            "replug" => Self::Replug,
            _ => return Err(()),
        })
    }
}

/// The faults of a stick.
#[derive(Default, Debug)]
pub struct Plan {
    /// Bulk transfers so far, over all times that it was plugged in.
    transfers: u64,
    faults: Vec<(u64, Fault)>,
}

impl Plan {
    /// Lets transfer number `transfer`, counted from 1, suffer a fault.
    pub fn add(&mut self, transfer: u64, fault: Fault) {
        self.faults.push((transfer, fault));
    }

    /// Counts a transfer and returns its fault.
    pub fn next(&mut self) -> Option<Fault> {
        self.transfers += 1;
        let now = |&(transfer, _): &(u64, Fault)| transfer == self.transfers;
        self.faults
            .iter()
            .find(|fault| now(fault))
            .map(|fault| fault.1)
    }

    /// Returns how many transfers there were.
    pub fn transfers(&self) -> u64 {
        self.transfers
    }
}
