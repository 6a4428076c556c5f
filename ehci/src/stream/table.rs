//! All streams and batches of a controller, by number, in constant memory.

use super::{BATCHES, BatchId, PACKETS, Packet, STREAMS, Sizes, StreamId};
use crate::endpoint::Endpoint;
use crate::error::TransferError;
use crate::periodic::Plan;
use crate::schedule::isochronous::{Isochronous, Route};
use core::task::Waker;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Free,
    Open,
    Closing,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) stage: Stage,
    pub(super) generation: u16,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) plan: Option<Plan>,
    pub(super) route: Option<Route>,
    /// The frame behind the last packet submitted.
    pub(super) next_frame: Option<u32>,
    /// Unplugged: nothing can be submitted any more.
    pub(super) gone: bool,
}

impl Stream {
    pub(super) const FREE: Self = Self {
        stage: Stage::Free,
        generation: 0,
        endpoint: None,
        plan: None,
        route: None,
        next_frame: None,
        gone: false,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Queued,
    Leaving(TransferError),
    Done(Result<(), TransferError>),
}

#[derive(Debug)]
pub(super) struct Entry<B> {
    pub(super) life: Life,
    pub(super) generation: u16,
    pub(super) stream: u8,
    pub(super) sizes: Sizes,
    pub(super) frame: u32,
    pub(super) packets: [Packet; PACKETS],
    pub(super) buffer: Option<B>,
    pub(super) abandoned: bool,
    pub(super) waker: Option<Waker>,
    pub(super) woken: bool,
}

impl<B> Entry<B> {
    pub(super) const FREE: Self = Self {
        life: Life::Free,
        generation: 0,
        stream: 0,
        sizes: Sizes {
            sizes: [0; PACKETS],
            count: 0,
        },
        frame: 0,
        packets: [Packet::NONE; PACKETS],
        buffer: None,
        abandoned: false,
        waker: None,
        woken: false,
    };

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.life, Life::Queued | Life::Leaving(_))
    }

    pub(super) fn end(&mut self, status: Result<(), TransferError>) {
        self.life = Life::Done(status);
        self.woken = self.waker.is_some();
        if self.abandoned {
            self.life = Life::Free;
            self.buffer = None;
            self.waker = None;
            self.woken = false;
        }
    }
}

/// All streams of a controller.
#[derive(Debug)]
pub(crate) struct Streams<B> {
    pub(super) streams: [Stream; STREAMS],
    pub(super) batches: [Entry<B>; BATCHES],
    pub(crate) schedule: Isochronous,
    /// Frames since some time long ago; the lower 11 bits are those of FRINDEX.
    pub(super) now: u32,
}

impl<B> Streams<B> {
    pub(crate) const fn new() -> Self {
        Self {
            streams: [const { Stream::FREE }; STREAMS],
            batches: [const { Entry::FREE }; BATCHES],
            schedule: Isochronous::new(),
            now: 0,
        }
    }

    /// Whether packets are under way.
    pub(crate) fn are_running(&self) -> bool {
        !self.schedule.is_idle()
    }

    /// The bandwidth that streams take.
    pub(crate) fn plans(&self) -> impl Iterator<Item = Plan> + '_ {
        self.streams.iter().filter_map(|stream| stream.plan)
    }

    /// The endpoints of batches that are under way.
    pub(crate) fn active_endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let batches = self.batches.iter().filter(|entry| entry.is_under_way());
        batches.filter_map(|entry| self.streams.get(usize::from(entry.stream))?.endpoint)
    }

    pub(crate) fn take_woken(&mut self) -> Option<Waker> {
        let woken = self.batches.iter_mut().find(|entry| entry.woken)?;
        woken.woken = false;
        woken.waker.take()
    }

    /// Microseconds until the next batch is over at the latest.
    pub(crate) fn next_end(&self) -> Option<u64> {
        let batches = self.batches.iter().zip(0..);
        let ends = batches
            .filter(|(entry, _)| entry.is_under_way())
            .map(|(_, index)| self.schedule.end(index, self.now).wrapping_sub(self.now));
        ends.min().map(|frames| u64::from(frames) * 1_000)
    }

    /// Leaks the buffers of all batches, since a controller that does not stop may still write to them, and ends them.
    pub(crate) fn lose(&mut self) {
        for entry in &mut self.batches {
            if entry.is_under_way() {
                core::mem::forget(entry.buffer.take());
                entry.end(Err(TransferError::ControllerFailed));
            }
        }
    }

    /// Ends and frees everything, on a controller that has stopped.
    pub(crate) fn forget(&mut self) {
        for entry in &mut self.batches {
            if entry.is_under_way() {
                entry.end(Err(TransferError::ControllerFailed));
            }
        }
        for stream in &mut self.streams {
            *stream = Stream {
                generation: stream.generation,
                ..Stream::FREE
            };
        }
        self.schedule = Isochronous::new();
    }

    pub(super) fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams
            .get(usize::from(id.index))
            .filter(|stream| stream.generation == id.generation && stream.stage == Stage::Open)
    }

    pub(super) fn batch(&mut self, id: BatchId) -> Option<&mut Entry<B>> {
        self.batches
            .get_mut(usize::from(id.index))
            .filter(|entry| entry.generation == id.generation && entry.life != Life::Free)
    }

    pub(super) fn count_frames(&mut self, frame_index: u32) {
        let passed = (frame_index >> 3).wrapping_sub(self.now) & 0x7ff;
        self.now = self.now.wrapping_add(passed);
    }
}
