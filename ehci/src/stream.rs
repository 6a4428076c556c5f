//! Isochronous streams: batches of packets, each with a size, a frame and an outcome of its own (USB 2.0, section 5.6).
//!
//! A batch owns its buffer until the controller has let go of all its packets, as a [transfer](crate::Completion) does. Packets
//! are never repeated and have no toggles; nothing halts. Submit the next batch before the last one ends, and its packets follow
//! without a gap.

mod table;

pub(crate) use table::Streams;

use crate::controller::{Ehci, State};
use crate::endpoint::{Endpoint, Kind};
use crate::error::{OpenError, SubmitError, TransferError};
use crate::layout::FRAMES;
use crate::memory::{Buffer, Dma};
use crate::platform::Platform;
use crate::registers::Registers;
use crate::schedule::isochronous::{AHEAD, Isochronous, Outcome, PACKET_ALIGN, Route};
use crate::transfer::Rejected;
use core::ops::Range;
use core::task::Waker;
use table::{Entry, Life, Stage, Stream};

/// Packets of a batch at most: as many as a frame has at high speed.
pub const PACKETS: usize = 8;
/// Streams at a time.
pub const STREAMS: usize = 4;
/// Batches at a time, of all streams together.
pub const BATCHES: usize = 16;

/// The first frame that packets may be written for: the controller reads one ahead, and the running one may be about to end.
const LEAD: u32 = 2;

/// A stream of a controller. Copies name the same stream; after it was closed they name nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StreamId {
    index: u8,
    generation: u16,
}

/// A batch of a stream. It names nothing after its end was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BatchId {
    index: u8,
    generation: u16,
}

/// The sizes of a batch's packets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sizes {
    sizes: [u16; PACKETS],
    count: u8,
}

impl Sizes {
    /// Takes up to [`PACKETS`] sizes; of more, the first ones.
    pub fn new(sizes: &[u16]) -> Self {
        let mut taken = [0; PACKETS];
        let mut count = 0;
        for (to, from) in taken.iter_mut().zip(sizes) {
            *to = *from;
            count += 1;
        }
        Self {
            sizes: taken,
            count,
        }
    }

    /// Returns the sizes.
    pub fn get(&self) -> &[u16] {
        self.sizes
            .get(..usize::from(self.count))
            .unwrap_or_default()
    }

    /// Returns where a packet begins in the buffer: behind the one before it, at a multiple of 32.
    pub fn offset(&self, packet: usize) -> usize {
        let before = self.get().iter().take(packet);
        before
            .map(|size| usize::from(size.next_multiple_of(PACKET_ALIGN)))
            .sum()
    }

    /// Returns the bytes that the packets take in the buffer, from the beginning of the first to the end of the last.
    pub fn span(&self) -> usize {
        match self.get().split_last() {
            Some((last, before)) => self.offset(before.len()) + usize::from(*last),
            None => 0,
        }
    }
}

/// What came of a packet of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Packet {
    /// Where it begins in the buffer. See [`Sizes::offset`].
    pub offset: u16,
    /// Bytes that were moved.
    pub bytes: u16,
    /// Whether it was moved without an error that the controller could see.
    pub status: Result<(), TransferError>,
}

impl Packet {
    const NONE: Self = Self {
        offset: 0,
        bytes: 0,
        status: Err(TransferError::MissedMicroframe),
    };

    /// Returns where the bytes that were moved lie in the buffer.
    pub fn range(self) -> Range<usize> {
        let start = usize::from(self.offset);
        start..start + usize::from(self.bytes)
    }
}

/// The end of a batch.
#[derive(Debug)]
pub struct Batch<B> {
    /// Whether it ran to its end; packets may have failed even so.
    pub status: Result<(), TransferError>,
    /// The frame of its first packet, as FRINDEX counts frames (11 bits).
    pub frame: u16,
    /// The buffer, unless the controller may write to it for ever ([`State::Runaway`]).
    pub buffer: Option<B>,
    packets: [Packet; PACKETS],
    count: u8,
}

impl<B> Batch<B> {
    /// Returns what came of its packets, in order.
    pub fn packets(&self) -> &[Packet] {
        self.packets
            .get(..usize::from(self.count))
            .unwrap_or_default()
    }
}

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Opens a stream to an isochronous endpoint.
    ///
    /// # Errors
    ///
    /// What is wrong with the endpoint, or what the controller has run out of.
    pub fn open_stream(&mut self, endpoint: &Endpoint) -> Result<StreamId, OpenError> {
        if self.state != State::Running {
            return Err(OpenError::NotRunning);
        }
        if !matches!(endpoint.kind, Kind::Isochronous(_)) {
            return Err(OpenError::WrongKind);
        }
        endpoint.check()?;
        let plan = self.plan(endpoint)?;
        let free = |stream: &Stream| stream.stage == Stage::Free;
        let streams = &mut self.streams.streams;
        let index = streams
            .iter()
            .position(free)
            .ok_or(OpenError::NoQueueHead)?;
        let stream = streams.get_mut(index).ok_or(OpenError::NoQueueHead)?;
        let generation = stream.generation.wrapping_add(1);
        *stream = Stream {
            stage: Stage::Open,
            generation,
            endpoint: Some(*endpoint),
            plan: Some(plan),
            route: Some(endpoint.route(plan)),
            next_frame: None,
            gone: false,
        };
        self.enable_periodic();
        Ok(StreamId {
            index: index as u8,
            generation,
        })
    }

    /// Closes a stream. Its batches end with [`TransferError::Cancelled`] when the controller has let go of them; its bandwidth
    /// is free then. Does nothing if it is closed already.
    pub fn close_stream(&mut self, id: StreamId) {
        if self.streams.stream(id).is_none() {
            return;
        }
        self.cancel_batches(id.index, TransferError::Cancelled);
        if let Some(stream) = self.streams.streams.get_mut(usize::from(id.index)) {
            stream.stage = Stage::Closing;
        }
        self.step_streams();
    }

    /// Queues a batch of packets behind those of the stream, or two frames from now if there are none.
    ///
    /// The packets lie in the buffer in a row, each as large as `sizes` says and each at a [multiple of 32](Sizes::offset); the
    /// buffer has at least the [bytes](Sizes::span) that they take. At high speed a packet is all that an endpoint moves in a
    /// microframe. A batch begins with a new frame.
    ///
    /// # Errors
    ///
    /// Why it was not accepted, and the buffer.
    pub fn submit_batch(
        &mut self,
        id: StreamId,
        buffer: D::Buffer,
        sizes: Sizes,
    ) -> Result<BatchId, Rejected<D::Buffer>> {
        let frames = match self.frames_for(id, &buffer, &sizes) {
            Ok(frames) => frames,
            Err(error) => {
                return Err(Rejected {
                    error,
                    buffer: Some(buffer),
                });
            }
        };
        let Some(index) = self
            .streams
            .batches
            .iter()
            .position(|entry| entry.life == Life::Free)
        else {
            return Err(Rejected {
                error: SubmitError::NoTransfers,
                buffer: Some(buffer),
            });
        };
        let Frames {
            first,
            period,
            count,
            route,
        } = frames;
        let mut frame = first;
        let mut number = 0;
        let per_frame = route.packets_per_frame().max(1) as usize;
        for chunk in sizes.get().chunks(per_frame) {
            let last = number + chunk.len() == sizes.get().len();
            let bus = buffer
                .bus_address()
                .wrapping_add(sizes.offset(number) as u32);
            // Enough descriptors are free: this was looked at before.
            self.streams.schedule.append(
                &self.memory,
                route,
                index as u8,
                frame,
                number as u8,
                bus,
                chunk,
                last,
            );
            number += chunk.len();
            frame = frame.wrapping_add(period);
        }
        if let Some(stream) = self.streams.streams.get_mut(usize::from(id.index)) {
            stream.next_frame = Some(first.wrapping_add(count * period));
        }
        let Some(entry) = self.streams.batches.get_mut(index) else {
            return Err(Rejected {
                error: SubmitError::NoTransfers,
                buffer: Some(buffer),
            });
        };
        let generation = entry.generation.wrapping_add(1);
        *entry = Entry {
            life: Life::Queued,
            generation,
            stream: id.index,
            sizes,
            frame: first,
            buffer: Some(buffer),
            ..Entry::FREE
        };
        self.statistics.batches = self.statistics.batches.wrapping_add(1);
        Ok(BatchId {
            index: index as u8,
            generation,
        })
    }

    /// Takes the end of a batch, or nothing while it runs.
    pub fn take_batch(&mut self, id: BatchId) -> Option<Batch<D::Buffer>> {
        let entry = self.streams.batch(id)?;
        let Life::Done(status) = entry.life else {
            return None;
        };
        entry.life = Life::Free;
        entry.waker = None;
        entry.woken = false;
        Some(Batch {
            status,
            frame: (entry.frame & 0x7ff) as u16,
            buffer: entry.buffer.take(),
            packets: entry.packets,
            count: entry.sizes.count,
        })
    }

    /// Leaves a waker to be woken when the batch ends. See [`Ehci::take_woken`].
    pub fn watch_batch(&mut self, id: BatchId, waker: &Waker) {
        if let Some(entry) = self.streams.batch(id) {
            match &mut entry.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    /// Gives a batch up: what of it was not executed leaves the schedule, and its end is never taken. Its buffer is freed when
    /// the controller has let go of it. Other batches of the stream stay in their frames.
    pub fn abandon_batch(&mut self, id: BatchId) {
        let Some(entry) = self.streams.batch(id) else {
            return;
        };
        entry.abandoned = true;
        entry.waker = None;
        if let Life::Done(status) = entry.life {
            entry.end(status);
        } else if entry.life == Life::Queued {
            self.cancel_batch(id.index, TransferError::Cancelled);
        }
    }

    /// Ends what the controller has finished of all streams.
    #[inline(never)]
    pub(crate) fn step_streams(&mut self) {
        if self.streams.schedule.is_idle() {
            self.free_closed_streams();
            return;
        }
        self.streams.count_frames(self.registers.frame_index());
        let Streams {
            streams,
            batches,
            schedule,
            now,
        } = &mut self.streams;
        for (entry, index) in batches.iter_mut().zip(0..) {
            let status = match entry.life {
                Life::Queued => Ok(()),
                Life::Leaving(error) => Err(error),
                _ => continue,
            };
            if !schedule.is_done(&self.memory, index, *now) {
                continue;
            }
            let mut moved = 0;
            collect(entry, schedule, &self.memory, index, status, &mut moved);
            let counters = &mut self.statistics;
            let is_in = streams
                .get(usize::from(entry.stream))
                .and_then(|stream| stream.endpoint)
                .is_some_and(|endpoint| endpoint.is_in());
            let total = if is_in {
                &mut counters.bytes_in
            } else {
                &mut counters.bytes_out
            };
            *total = total.wrapping_add(moved);
            entry.end(status);
        }
        schedule.sweep(&self.memory, *now);
        self.free_closed_streams();
    }

    /// Ends the batches of the devices on a port.
    pub(crate) fn disconnect_streams(&mut self, port: u8) {
        for index in 0..STREAMS as u8 {
            let Some(stream) = self.streams.streams.get_mut(usize::from(index)) else {
                continue;
            };
            let here = stream
                .endpoint
                .is_some_and(|endpoint| endpoint.root_port == Some(port));
            if here && stream.stage != Stage::Free {
                stream.gone = true;
                self.cancel_batches(index, TransferError::Disconnected);
            }
        }
    }

    /// Looks whether a batch can be accepted, and in which frames.
    fn frames_for(
        &mut self,
        id: StreamId,
        buffer: &D::Buffer,
        sizes: &Sizes,
    ) -> Result<Frames, SubmitError> {
        if self.state != State::Running {
            return Err(SubmitError::NotRunning);
        }
        self.streams.count_frames(self.registers.frame_index());
        let now = self.streams.now;
        let stream = self.streams.stream(id).ok_or(SubmitError::NoSuchPipe)?;
        let (Some(endpoint), Some(plan), Some(route)) =
            (stream.endpoint, stream.plan, stream.route)
        else {
            return Err(SubmitError::NoSuchPipe);
        };
        if stream.gone {
            return Err(SubmitError::Disconnected);
        }
        let largest = endpoint.packet_bytes() * u32::from(endpoint.transactions());
        let too_large = |&size: &u16| u32::from(size) > largest;
        let empty = sizes.get().is_empty() || buffer.size() == 0;
        if empty || sizes.get().iter().any(too_large) || sizes.span() > buffer.size() {
            return Err(SubmitError::BadPackets);
        }
        let count = (sizes.get().len() as u32).div_ceil(route.packets_per_frame().max(1));
        if count as usize > self.streams.schedule.available() {
            return Err(SubmitError::NoDescriptors);
        }
        let (period, phase) = (u32::from(plan.slot.period), u32::from(plan.slot.phase));
        let soonest = now.wrapping_add(LEAD);
        let earliest = match stream.next_frame {
            // Not one that has passed.
            Some(next) if next.wrapping_sub(soonest) < FRAMES as u32 => next,
            _ => soonest,
        };
        // Periods are powers of two.
        let first = earliest.wrapping_add(phase.wrapping_sub(earliest) & period.wrapping_sub(1));
        let end = first.wrapping_add((count - 1) * period).wrapping_sub(now);
        if end > AHEAD {
            return Err(SubmitError::TooFarAhead);
        }
        Ok(Frames {
            first,
            period,
            count,
            route,
        })
    }

    fn cancel_batches(&mut self, stream: u8, error: TransferError) {
        for index in 0..BATCHES as u8 {
            let entry = self.streams.batches.get(usize::from(index));
            if entry.is_some_and(|entry| entry.stream == stream && entry.life == Life::Queued) {
                self.cancel_batch(index, error);
            }
        }
    }

    fn cancel_batch(&mut self, index: u8, error: TransferError) {
        self.streams.count_frames(self.registers.frame_index());
        let now = self.streams.now;
        self.streams.schedule.cancel(&self.memory, index, now);
        if let Some(entry) = self.streams.batches.get_mut(usize::from(index)) {
            entry.life = Life::Leaving(error);
        }
    }

    fn free_closed_streams(&mut self) {
        for (stream, index) in self.streams.streams.iter_mut().zip(0..) {
            let in_use = |entry: &Entry<_>| entry.stream == index && entry.is_under_way();
            if stream.stage == Stage::Closing && !self.streams.batches.iter().any(in_use) {
                stream.stage = Stage::Free;
                stream.endpoint = None;
                stream.plan = None;
                stream.route = None;
            }
        }
    }
}

/// Where the packets of a batch go.
struct Frames {
    first: u32,
    period: u32,
    count: u32,
    route: Route,
}

fn collect<B, M: crate::memory::Coherent>(
    entry: &mut Entry<B>,
    schedule: &mut Isochronous,
    memory: &crate::layout::Descriptors<M>,
    index: u8,
    status: Result<(), TransferError>,
    moved: &mut u64,
) {
    let sizes = entry.sizes;
    for (number, packet) in entry.packets.iter_mut().enumerate() {
        // Eight packets of 3072 bytes at most.
        packet.offset = sizes.offset(number) as u16;
    }
    schedule.collect(memory, index, sizes.get(), |number, bytes, outcome| {
        let Some(packet) = entry.packets.get_mut(usize::from(number)) else {
            return;
        };
        packet.bytes = bytes;
        packet.status = match outcome {
            Outcome::Moved => Ok(()),
            // What was cancelled was not missed.
            Outcome::Missed => Err(status.err().unwrap_or(TransferError::MissedMicroframe)),
            Outcome::Transaction => Err(TransferError::Transaction),
            Outcome::Babble => Err(TransferError::Babble),
            Outcome::DataBuffer => Err(TransferError::DataBuffer),
        };
        *moved += u64::from(bytes);
    });
}
