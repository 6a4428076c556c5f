//! What devices do: they read and write RAM, in buffers that they were told.

use std::fmt;

use crate::line::LINE;
use crate::memory::{Doing, State, View};
use crate::{Access, MEM2, Memory, Origin, Rule};

/// What a device was told: bytes that it may read or write, and whose they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Physical address of the first byte.
    pub address: u32,
    /// Length in bytes.
    pub len: u32,
    /// The mapping, as [`Memory::act_as`] knows it.
    pub mapping: u32,
}

impl fmt::Display for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "buffer {} ({:#010x}, {} bytes)",
            self.mapping, self.address, self.len
        )
    }
}

/// A device reached for what is no RAM. EHCI halts then, with "host system error" in USBSTS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostSystemError {
    /// The physical address.
    pub address: u32,
}

impl fmt::Display for HostSystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host system error at {:#010x}", self.address)
    }
}

impl std::error::Error for HostSystemError {}

impl Memory {
    /// Reads bytes from `offset` of a buffer as a device does.
    ///
    /// # Errors
    /// [`HostSystemError`] outside RAM.
    #[track_caller]
    pub fn device_read(
        &self,
        buffer: Buffer,
        offset: u32,
        len: u32,
    ) -> Result<Vec<u8>, HostSystemError> {
        let doing = Doing::here(Access::DeviceRead(buffer));
        let buffer = self.aligned(buffer, doing);
        let mut bytes = vec![0; len as usize];
        self.dma_read(doing, buffer, Some(buffer.mapping), offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes bytes to `offset` of a buffer as a device does.
    ///
    /// # Errors
    /// [`HostSystemError`] outside RAM; nothing is written then.
    #[track_caller]
    pub fn device_write(
        &self,
        buffer: Buffer,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), HostSystemError> {
        let doing = Doing::here(Access::DeviceWrite(buffer));
        let buffer = self.aligned(buffer, doing);
        self.dma_write(doing, buffer, offset, bytes)
    }

    /// Returns the buffer as the device takes it: the low five bits of its address are ignored.
    pub(crate) fn aligned(&self, buffer: Buffer, doing: Doing) -> Buffer {
        let low = buffer.address % LINE as u32;
        if low == 0 || !self.rules.has(Rule::Unaligned) {
            return buffer;
        }
        self.report(&mut self.state(), Rule::Unaligned, buffer.address, 1, doing);
        Buffer {
            address: buffer.address - low,
            ..buffer
        }
    }

    /// Reads as a device does. Bytes of other mappings than `whose` are leaks.
    pub(crate) fn dma_read(
        &self,
        doing: Doing,
        buffer: Buffer,
        whose: Option<u32>,
        offset: u32,
        bytes: &mut [u8],
    ) -> Result<(), HostSystemError> {
        let mut state = self.state();
        let len = bytes.len() as u32;
        let address = self.reach(&mut state, buffer, offset, len, doing)?;
        for part in self.parts(address, len) {
            self.provoke(&mut state, part.index, doing);
            self.look(&mut state, part.index, doing);
            let line = &state.lines[part.index];
            part.copy_out(&line.ram(), bytes);
            let owed = line.owed & part.mask();
            let late = if line.unsynced { part.mask() } else { 0 };
            self.blame(&mut state, Rule::MissingClean, part, owed, doing);
            self.blame(&mut state, Rule::MissingSync, part, late, doing);
            if owed == 0 {
                self.check_written(&mut state, part, View::Ram, doing);
                if let Some(whose) = whose {
                    let origins = &state.lines[part.index].ram_origin;
                    let other = |origin: Origin| origin.mapping().is_some_and(|id| id != whose);
                    let foreign = origins.which(part.mask(), other);
                    self.blame(&mut state, Rule::Leak, part, foreign, doing);
                }
            }
            self.provoke(&mut state, part.index, doing);
        }
        Ok(())
    }

    /// Writes as a device does, for the buffer's mapping.
    pub(crate) fn dma_write(
        &self,
        doing: Doing,
        buffer: Buffer,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), HostSystemError> {
        let mut state = self.state();
        let mut len = bytes.len() as u32;
        let address = self.reach(&mut state, buffer, offset, len, doing)?;
        let partial = (address + len) % 4;
        if address < MEM2 && partial != 0 && self.rules.has(Rule::Mem1PartialWord) {
            let lost = partial.min(len);
            len -= lost;
            for part in self.parts(address + len, lost) {
                self.blame(&mut state, Rule::Mem1PartialWord, part, part.mask(), doing);
            }
        }
        // The buffer as the device sees it: what is stored outside is somebody else's.
        let own = (address - offset)..(address - offset).saturating_add(buffer.len);
        for part in self.parts(address, len) {
            self.provoke(&mut state, part.index, doing);
            self.look(&mut state, part.index, doing);
            let owed = state.lines[part.index].owed;
            if owed != 0 {
                let start = self.address(part.index);
                let inside = (0..LINE).fold(0, |mask, at| {
                    mask | u32::from(own.contains(&(start + at as u32))) << at
                });
                let before = Rule::MissingInvalidateBefore;
                self.blame(&mut state, before, part, owed & inside, doing);
                self.blame(&mut state, Rule::SharedLine, part, owed & !inside, doing);
            }
            let line = &mut state.lines[part.index];
            line.store_ram(
                part.mask(),
                &part.copy_in(bytes),
                Origin::Device(buffer.mapping),
            );
            line.pending |= part.mask();
            self.provoke(&mut state, part.index, doing);
        }
        Ok(())
    }

    /// Reports something that a device found or that was done to it.
    pub(crate) fn accuse(&self, rule: Rule, address: u32, bytes: u32, doing: Doing) {
        self.report(&mut self.state(), rule, address, bytes, doing);
    }

    /// Returns where a device's access goes, or why it goes nowhere.
    fn reach(
        &self,
        state: &mut State,
        buffer: Buffer,
        offset: u32,
        len: u32,
        doing: Doing,
    ) -> Result<u32, HostSystemError> {
        let start = buffer.address;
        if offset.checked_add(len).is_none_or(|end| end > buffer.len) {
            self.report(
                state,
                Rule::OutsideBuffer,
                start.wrapping_add(offset),
                len,
                doing,
            );
        }
        let address = start.wrapping_add(offset);
        if start.checked_add(offset).is_some() && self.in_ram(address, len) {
            return Ok(address);
        }
        self.report(state, Rule::OutsideRam, address, len, doing);
        Err(HostSystemError { address })
    }
}
