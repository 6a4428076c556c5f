//! Mappings in several pieces: for requests longer than the longest free run, or than a device's segments may be.

use crate::device::Device;
use crate::quarantine::{Quarantine, Quiesced};
use crate::table::Owner;
use crate::{DeviceWrites, Error, Mapping, Way};

/// A mapping of up to `N` segments, in order.
///
/// Every segment but the last is a multiple of the device's granule long.
pub struct Scatter<'p, D: Way, const N: usize, const SLOT: usize = 512> {
    segments: [Option<Mapping<'p, D, SLOT>>; N],
    len: usize,
}

impl<'p, D: Way, const N: usize, const SLOT: usize> Scatter<'p, D, N, SLOT> {
    pub(crate) fn new(device: &Device<'p, SLOT>, len: usize, owner: Owner) -> Result<Self, Error> {
        let mut scatter = Self {
            segments: [const { None }; N],
            len,
        };
        if len == 0 {
            return Err(Error::Empty);
        }
        let mut rest = len;
        for place in &mut scatter.segments {
            if rest == 0 {
                break;
            }
            let segment = Self::segment(device, rest, owner)?;
            rest -= segment.len();
            *place = Some(segment);
        }
        // What was mapped is freed on every way out: no device knows its address yet.
        if rest == 0 {
            Ok(scatter)
        } else {
            Err(Error::TooMany { max: N })
        }
    }

    /// Maps the longest segment for the first of `rest` bytes that there is room for.
    fn segment(
        device: &Device<'p, SLOT>,
        rest: usize,
        owner: Owner,
    ) -> Result<Mapping<'p, D, SLOT>, Error> {
        let granule = device.constraints.granule as usize;
        let mut want = rest.min(device.max_mapping_size());
        loop {
            if want < rest {
                want -= want.checked_rem(granule).unwrap_or(0);
            }
            match device.try_take(want, owner) {
                Ok(taken) => return Ok(Mapping::new(device.pool, taken, want as u32)),
                Err(Error::Fragmented { largest_run, .. }) if want > 1 => {
                    want = if largest_run < want {
                        largest_run
                    } else {
                        want / 2
                    };
                }
                // Nothing was left of the segment by the granule.
                Err(Error::Empty) => {
                    return Err(Error::Fragmented {
                        len: rest,
                        largest_run: device.max_mapping_size().min(granule),
                    });
                }
                Err(Error::Exhausted { free, .. }) => {
                    return Err(Error::Exhausted { len: rest, free });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Visits the segments in order.
    pub fn segments(&self) -> impl Iterator<Item = &Mapping<'p, D, SLOT>> {
        self.segments.iter().flatten()
    }

    /// Returns the length in bytes of all segments together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is 0. It never is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `data` in, which has the mapping's length, and hands it to the device.
    pub(crate) fn fill(&self, data: &[u8]) {
        let mut rest = data;
        for segment in self.segments() {
            if let Some((part, after)) = rest.split_at_checked(segment.len()) {
                segment.fill(part);
                rest = after;
            }
        }
    }

    /// Makes the segments ready for the device to write.
    pub(crate) fn hand_over_empty(&self) {
        self.segments().for_each(Mapping::hand_over_empty);
    }

    /// Gives the segments up while the device may still work on them, to be freed with a later proof.
    pub fn quarantine(self, pool: &'p crate::Pool<'p, SLOT>) -> Quarantine<'p, SLOT> {
        let mut all = Quarantine::new(pool);
        for segment in self.segments.into_iter().flatten() {
            // Of another pool than its own nothing joins; it stays quarantined by itself.
            let _ = all.append(segment.quarantine());
        }
        all
    }

    /// Frees the segments without copying anything out.
    ///
    /// # Errors
    /// [`Error::Stale`] after a reset.
    pub fn discard(self, done: &Quiesced) -> Result<(), Error> {
        self.segments
            .into_iter()
            .flatten()
            .try_for_each(|segment| segment.discard(done))
    }
}

impl<'p, D: DeviceWrites, const N: usize, const SLOT: usize> Scatter<'p, D, N, SLOT> {
    /// Ends the mapping: copies exactly the first `received` bytes to the start of `dst` and frees the room. Returns `received`.
    ///
    /// # Errors
    /// As [`Mapping::complete`]: everything is freed, and nothing is copied if `received` is too much for the mapping or for `dst`.
    pub fn complete(
        self,
        done: &Quiesced,
        received: usize,
        dst: &mut [u8],
    ) -> Result<usize, Error> {
        if received > self.len {
            let len = self.len;
            return self
                .discard(done)
                .and(Err(Error::Overrun { received, len }));
        }
        let room = dst.len();
        let Some(mut rest) = dst.get_mut(..received) else {
            return self
                .discard(done)
                .and(Err(Error::ShortDestination { received, room }));
        };
        let mut result = Ok(received);
        for segment in self.segments.into_iter().flatten() {
            let count = segment.len().min(rest.len());
            let (part, after) = rest.split_at_mut_checked(count).unwrap_or_default();
            rest = after;
            result = segment.complete(done, count, part).and(result);
        }
        result
    }
}
