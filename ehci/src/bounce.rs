//! DMA memory from a pool of mem2-dma: bounced through mappings, or direct from buffers that lie in the pool.
//!
//! Descriptors lie in the pool's coherent memory, which needs a view past the caches, or a machine that snoops. The driver
//! drops a buffer when the controller has let go of it, and only then: that is the proof that the pool asks for.

use crate::memory::{Buffer, Coherent, Dma, NoMemory};
use core::mem::ManuallyDrop;
use mem2_dma::{
    Constraints, Device, DmaBuffer, Error, FromDevice, Le32, Lent, Mapping, Pool, Quiesced,
    ToDevice,
};

/// Alignment of descriptor memory, and of data that is to fill qTDs.
const PAGE: usize = 4096;

/// A pool as the driver's [`Dma`].
///
/// What is larger than a page is placed at a page where there is room, so that one qTD moves 20 KiB; what is smaller may use
/// the pool's reserve, so that requests and commands find room beside any amount of data.
///
/// ```
/// use ehci::Bounce;
/// use ehci::memory::{Buffer, Dma};
/// use mem2_dma::{BusAddr, Constraints, Offset, Pool, Storage};
/// # #[repr(align(4096))] struct Memory([u8; 262144]);
/// # let mut memory = Box::new(Memory([0; 262144]));
/// let memory: &mut [u8] = &mut memory.0; // on a Wii: a part of MEM2, see `mem2_dma::Mem2`
/// let provider = Offset::new(memory, BusAddr::new(0x1000_0000))?;
/// let mut storage = Storage::<4, 64>::new();
/// let pool: Pool = Pool::new(&provider, &mut storage)?;
/// let dma = Bounce::new(&pool, Constraints::NONE.align(32))?;
/// let buffer = dma.incoming(80 * 1024)?;
/// assert_eq!(buffer.bus_address() % 4096, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Bounce<'p, const SLOT: usize = 512> {
    small: Device<'p, SLOT>,
    paged: Device<'p, SLOT>,
}

impl<'p, const SLOT: usize> Bounce<'p, SLOT> {
    /// Attaches the driver to a pool, as two devices: one for small mappings and one for those at pages.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::attach`].
    pub fn new(pool: &'p Pool<'p, SLOT>, constraints: Constraints) -> Result<Self, Error> {
        let small = pool.attach(constraints)?.reserved();
        // A pool without a page boundary has no room at pages; then all is placed anywhere.
        let paged = pool
            .attach(constraints.align(PAGE as u32))
            .or_else(|_| pool.attach(constraints))?;
        Ok(Self { small, paged })
    }

    /// Returns the device that small buffers are mapped through; also for [`Device::allocate`].
    pub fn device(&self) -> Device<'p, SLOT> {
        self.small
    }

    /// Returns the device that places its mappings at pages; also for [`Device::allocate`].
    pub fn paged_device(&self) -> Device<'p, SLOT> {
        self.paged
    }
}

// SAFETY: as of the devices that it passes requests on to.
unsafe impl<'p, const SLOT: usize> Dma for Bounce<'p, SLOT> {
    type Coherent = Descriptors<'p, SLOT>;
    type Buffer = Bounced<'p, SLOT>;

    fn coherent(&self, size: usize) -> Result<Self::Coherent, NoMemory> {
        Dma::coherent(&self.small, size)
    }

    fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, NoMemory> {
        if data.len() > PAGE
            && let Ok(buffer) = self.paged.outgoing(data)
        {
            return Ok(buffer);
        }
        self.small.outgoing(data)
    }

    fn incoming(&self, size: usize) -> Result<Self::Buffer, NoMemory> {
        if size > PAGE
            && let Ok(buffer) = self.paged.incoming(size)
        {
            return Ok(buffer);
        }
        self.small.incoming(size)
    }
}

// SAFETY: the pool lends each mapping and all coherent memory to one user; forgotten, they stay live until the pool's device
// is reset, which is the resetter's promise.
unsafe impl<'p, const SLOT: usize> Dma for Device<'p, SLOT> {
    type Coherent = Descriptors<'p, SLOT>;
    type Buffer = Bounced<'p, SLOT>;

    fn coherent(&self, size: usize) -> Result<Self::Coherent, NoMemory> {
        let words = size.div_ceil(size_of::<Le32>());
        let memory = self.coherent_slice(words, PAGE);
        let memory = memory.map_err(|_| NoMemory { size })?;
        Ok(Descriptors(ManuallyDrop::new(memory)))
    }

    fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, NoMemory> {
        let mapping = self.map_to_device(data);
        let mapping = mapping.map_err(|_| NoMemory { size: data.len() })?;
        Ok(Bounced(Some(Way::CopiedOut(mapping))))
    }

    fn incoming(&self, size: usize) -> Result<Self::Buffer, NoMemory> {
        let mapping = self.map_from_device(size).map_err(|_| NoMemory { size })?;
        Ok(Bounced(Some(Way::CopiedIn(mapping))))
    }
}

/// Descriptor memory of a controller.
pub struct Descriptors<'p, const SLOT: usize>(ManuallyDrop<mem2_dma::Coherent<'p, [Le32], SLOT>>);

impl<const SLOT: usize> Coherent for Descriptors<'_, SLOT> {
    fn bus_address(&self) -> u32 {
        self.0.bus().get()
    }

    fn size(&self) -> usize {
        size_of_val::<[Le32]>(&self.0)
    }

    fn load(&self, offset: usize) -> u32 {
        self.0.get(offset / size_of::<Le32>()).map_or(0, Le32::get)
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.0.get(offset / size_of::<Le32>()) {
            word.set(value);
        }
    }

    fn store_row(&self, offset: usize, values: &[u32; 8]) {
        let first = offset / size_of::<Le32>();
        if let Some([a, b, c, d, e, f, g, h]) = self.0.get(first..first + values.len()) {
            // Not a loop: this runs for every qTD.
            let [to_a, to_b, to_c, to_d, to_e, to_f, to_g, to_h] = *values;
            a.set(to_a);
            b.set(to_b);
            c.set(to_c);
            d.set(to_d);
            e.set(to_e);
            f.set(to_f);
            g.set(to_g);
            h.set(to_h);
        }
    }
}

impl<const SLOT: usize> Drop for Descriptors<'_, SLOT> {
    fn drop(&mut self) {
        // SAFETY: dropped once, so taken once.
        let memory = unsafe { ManuallyDrop::take(&mut self.0) };
        // SAFETY: the driver drops its descriptors only after the controller has stopped.
        let done = unsafe { Quiesced::assert() };
        // An error says that the pool has been reset meanwhile: then the room is free already.
        let _ = memory.free(&done);
    }
}

/// Data that a transfer owns: a copy in the pool, or a buffer of the pool that was lent to the controller.
///
/// The direct path: [`Device::allocate`] a [`DmaBuffer`], lend it ([`DmaBuffer::lend_from_device`]), submit it as
/// `Bounced::from(lent)`, and [reclaim](Bounced::reclaim) it from the completion; or use its [bytes](Bounced::bytes) and
/// [lend it again](Bounced::lend_again). No byte is copied.
pub struct Bounced<'p, const SLOT: usize>(Option<Way<'p, SLOT>>);

enum Way<'p, const SLOT: usize> {
    CopiedOut(Mapping<'p, ToDevice, SLOT>),
    CopiedIn(Mapping<'p, FromDevice, SLOT>),
    LentOut(Lent<'p, ToDevice, SLOT>),
    LentIn(Lent<'p, FromDevice, SLOT>),
    /// Taken back, with how many bytes were lent.
    TakenOut(DmaBuffer<'p, SLOT>, u32),
    TakenIn(DmaBuffer<'p, SLOT>, u32),
}

impl<'p, const SLOT: usize> From<Lent<'p, ToDevice, SLOT>> for Bounced<'p, SLOT> {
    fn from(lent: Lent<'p, ToDevice, SLOT>) -> Self {
        Self(Some(Way::LentOut(lent)))
    }
}

impl<'p, const SLOT: usize> From<Lent<'p, FromDevice, SLOT>> for Bounced<'p, SLOT> {
    fn from(lent: Lent<'p, FromDevice, SLOT>) -> Self {
        Self(Some(Way::LentIn(lent)))
    }
}

impl<'p, const SLOT: usize> Bounced<'p, SLOT> {
    /// Returns the buffer that was lent, after its transfer has ended; nothing for data that was bounced.
    pub fn reclaim(mut self) -> Option<DmaBuffer<'p, SLOT>> {
        // SAFETY: as in `take_lent`.
        let done = unsafe { Quiesced::assert() };
        match self.0.take()? {
            Way::LentOut(lent) => lent.reclaim(&done).ok(),
            Way::LentIn(lent) => lent.reclaim(&done).ok(),
            Way::TakenOut(buffer, _) | Way::TakenIn(buffer, _) => Some(buffer),
            bounced => {
                self.0 = Some(bounced);
                None
            }
        }
    }

    /// Returns the bytes of a buffer that was lent, after its transfer has ended, to be read in place; nothing for data that was
    /// bounced.
    pub fn bytes(&mut self) -> Option<&[u8]> {
        self.buffer().map(|buffer| &**buffer)
    }

    /// As [`Bounced::bytes`], to be written: the next transfer cleans the cache.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.buffer().map(|buffer| &mut **buffer)
    }

    fn buffer(&mut self) -> Option<&mut DmaBuffer<'p, SLOT>> {
        self.take_back();
        match &mut self.0 {
            Some(Way::TakenOut(buffer, _) | Way::TakenIn(buffer, _)) => Some(buffer),
            _ => None,
        }
    }

    /// Lends a buffer once more as it was lent before, for the next transfer. Returns whether that was done: not for data that
    /// was bounced, nor after a reset of the pool.
    pub fn lend_again(&mut self) -> bool {
        self.take_back();
        let lent = match self.0.take() {
            Some(Way::TakenOut(buffer, len)) => {
                buffer.lend_to_device(len as usize).map(Way::LentOut).ok()
            }
            Some(Way::TakenIn(buffer, len)) => {
                buffer.lend_from_device(len as usize).map(Way::LentIn).ok()
            }
            other => {
                self.0 = other;
                return false;
            }
        };
        self.0 = lent;
        self.0.is_some()
    }

    /// Takes back what was lent and is not taken back yet.
    #[inline]
    fn take_back(&mut self) {
        if matches!(self.0, Some(Way::LentOut(_) | Way::LentIn(_))) {
            self.take_lent();
        }
    }

    fn take_lent(&mut self) {
        // SAFETY: whoever holds a `Bounced` is not the controller's driver any more, or not yet: the driver keeps it until
        // the controller has let go.
        let done = unsafe { Quiesced::assert() };
        self.0 = match self.0.take() {
            Some(Way::LentOut(lent)) => {
                let len = lent.len() as u32;
                let buffer = lent.reclaim(&done).ok();
                buffer.map(|buffer| Way::TakenOut(buffer, len))
            }
            Some(Way::LentIn(lent)) => {
                let len = lent.len() as u32;
                let buffer = lent.reclaim(&done).ok();
                buffer.map(|buffer| Way::TakenIn(buffer, len))
            }
            other => other,
        };
    }
}

impl<const SLOT: usize> Buffer for Bounced<'_, SLOT> {
    #[inline]
    fn bus_address(&self) -> u32 {
        match &self.0 {
            Some(Way::CopiedOut(mapping)) => mapping.bus().get(),
            Some(Way::CopiedIn(mapping)) => mapping.bus().get(),
            Some(Way::LentOut(lent)) => lent.bus().get(),
            Some(Way::LentIn(lent)) => lent.bus().get(),
            // It is the CPU's: nothing of it may be given to a device.
            Some(Way::TakenOut(..) | Way::TakenIn(..)) | None => 0,
        }
    }

    fn size(&self) -> usize {
        match &self.0 {
            Some(Way::CopiedOut(mapping)) => mapping.len(),
            Some(Way::CopiedIn(mapping)) => mapping.len(),
            Some(Way::LentOut(lent)) => lent.len(),
            Some(Way::LentIn(lent)) => lent.len(),
            Some(Way::TakenOut(..) | Way::TakenIn(..)) | None => 0,
        }
    }

    fn copy_from(&mut self, offset: usize, into: &mut [u8]) {
        self.take_back();
        match &mut self.0 {
            Some(Way::CopiedIn(mapping)) => {
                // Fails only for more bytes than the mapping has, which the trait's caller excludes, or after a reset of
                // the pool, when there is nothing to copy.
                let _ = mapping.sync_for_cpu(offset, into);
            }
            Some(Way::TakenOut(buffer, _) | Way::TakenIn(buffer, _)) => {
                let received = buffer.get(offset..).and_then(|all| all.get(..into.len()));
                if let Some(received) = received {
                    into.copy_from_slice(received);
                }
            }
            _ => {}
        }
    }
}

impl<const SLOT: usize> Drop for Bounced<'_, SLOT> {
    fn drop(&mut self) {
        if self.0.is_none() {
            return;
        }
        self.take_back();
        // SAFETY: the driver keeps a buffer until the controller has retired its descriptors, or has stopped (`Buffer`'s
        // contract); nobody else was given the address.
        let done = unsafe { Quiesced::assert() };
        // An error says that the pool has been reset meanwhile: then the room is free already.
        let _ = match self.0.take() {
            Some(Way::CopiedOut(mapping)) => mapping.discard(&done),
            Some(Way::CopiedIn(mapping)) => mapping.discard(&done),
            _ => Ok(()),
        };
    }
}

impl<const SLOT: usize> core::fmt::Debug for Bounced<'_, SLOT> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Bounced({} bytes at {:#010x})",
            self.size(),
            self.bus_address()
        )
    }
}
