//! DMA memory from a bounce pool: [`mem2_dma::Device`] as the driver's [`Dma`].
//!
//! Data is copied through the pool's mappings, descriptors lie in its coherent memory, which needs a view past the caches
//! (or a machine that snoops). The driver drops a buffer when the controller has let go of it, and only then: that is the
//! proof that the pool asks for.

use crate::memory::{Buffer, Coherent, Dma, NoMemory};
use mem2_dma::{Device, FromDevice, Le32, Mapping, Quiesced, ToDevice};

/// Bytes of a page: the alignment of descriptor memory.
const PAGE: usize = 4096;

impl<'p, const SLOT: usize> Dma for Device<'p, SLOT> {
    type Coherent = Descriptors<'p, SLOT>;
    type Buffer = Bounced<'p, SLOT>;

    fn coherent(&self, size: usize) -> Result<Self::Coherent, NoMemory> {
        let words = size.div_ceil(size_of::<Le32>());
        let memory = self.coherent_slice(words, PAGE);
        let memory = memory.map_err(|_| NoMemory { size })?;
        Ok(Descriptors(Some(memory)))
    }

    fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, NoMemory> {
        let mapping = self.map_to_device(data);
        let mapping = mapping.map_err(|_| NoMemory { size: data.len() })?;
        Ok(Bounced(Some(Way::ToDevice(mapping))))
    }

    fn incoming(&self, size: usize) -> Result<Self::Buffer, NoMemory> {
        let mapping = self.map_from_device(size).map_err(|_| NoMemory { size })?;
        Ok(Bounced(Some(Way::FromDevice(mapping))))
    }
}

/// Descriptor memory of a controller.
pub struct Descriptors<'p, const SLOT: usize>(Option<mem2_dma::Coherent<'p, [Le32], SLOT>>);

impl<const SLOT: usize> Descriptors<'_, SLOT> {
    fn word(&self, offset: usize) -> Option<&Le32> {
        self.0.as_ref()?.get(offset / size_of::<Le32>())
    }
}

impl<const SLOT: usize> Coherent for Descriptors<'_, SLOT> {
    fn bus_address(&self) -> u32 {
        self.0.as_ref().map_or(0, |memory| memory.bus().get())
    }

    fn size(&self) -> usize {
        self.0.as_deref().map_or(0, size_of_val)
    }

    fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, Le32::get)
    }

    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.set(value);
        }
    }
}

impl<const SLOT: usize> Drop for Descriptors<'_, SLOT> {
    fn drop(&mut self) {
        if let Some(memory) = self.0.take() {
            // SAFETY: the driver drops its descriptors only after the controller has stopped.
            let done = unsafe { Quiesced::assert() };
            // An error says that the pool has been reset meanwhile: then the room is free already.
            let _ = memory.free(&done);
        }
    }
}

/// A mapping that a transfer owns.
pub struct Bounced<'p, const SLOT: usize>(Option<Way<'p, SLOT>>);

enum Way<'p, const SLOT: usize> {
    ToDevice(Mapping<'p, ToDevice, SLOT>),
    FromDevice(Mapping<'p, FromDevice, SLOT>),
}

impl<const SLOT: usize> Buffer for Bounced<'_, SLOT> {
    fn bus_address(&self) -> u32 {
        match &self.0 {
            Some(Way::ToDevice(mapping)) => mapping.bus().get(),
            Some(Way::FromDevice(mapping)) => mapping.bus().get(),
            None => 0,
        }
    }

    fn size(&self) -> usize {
        match &self.0 {
            Some(Way::ToDevice(mapping)) => mapping.len(),
            Some(Way::FromDevice(mapping)) => mapping.len(),
            None => 0,
        }
    }

    fn copy_received(&mut self, into: &mut [u8]) {
        if let Some(Way::FromDevice(mapping)) = &mut self.0 {
            // Fails only for more bytes than the mapping has, which the trait's caller excludes, or
            // after a reset of the pool, when there is nothing to copy.
            let _ = mapping.sync_for_cpu(0, into);
        }
    }
}

impl<const SLOT: usize> Drop for Bounced<'_, SLOT> {
    fn drop(&mut self) {
        // SAFETY: the driver keeps a buffer until the controller has retired its descriptors, or has
        // been reset (`Buffer`'s contract); nobody else was given the address.
        let done = unsafe { Quiesced::assert() };
        // An error says that the pool has been reset meanwhile: then the room is free already.
        let _ = match self.0.take() {
            Some(Way::ToDevice(mapping)) => mapping.discard(&done),
            Some(Way::FromDevice(mapping)) => mapping.discard(&done),
            None => Ok(()),
        };
    }
}
