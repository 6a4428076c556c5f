//! Accesses, cut at the ends of cache lines.

use crate::line::{LINE, Mask, mask};

/// The part of an access that is in one line.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// The line.
    pub(crate) index: usize,
    /// Where it starts in the line.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Where it starts in the access.
    pub(crate) at: usize,
}

impl Part {
    pub(crate) fn whole(index: usize) -> Self {
        Self {
            index,
            start: 0,
            len: LINE,
            at: 0,
        }
    }

    pub(crate) fn end(self) -> usize {
        self.start + self.len
    }

    pub(crate) fn mask(self) -> Mask {
        mask(self.start, self.end())
    }

    /// Returns a line with the access's bytes in their places.
    pub(crate) fn copy_in(self, bytes: &[u8]) -> [u8; LINE] {
        let mut line = [0; LINE];
        line[self.start..self.end()].copy_from_slice(&bytes[self.at..][..self.len]);
        line
    }

    pub(crate) fn copy_out(self, line: &[u8; LINE], bytes: &mut [u8]) {
        bytes[self.at..][..self.len].copy_from_slice(&line[self.start..self.end()]);
    }
}
