//! What devices do: they read and write RAM, in buffers that they were told.

use std::fmt;

use crate::line::LINE;
use crate::memory::{Doing, State};
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
        let mut state = self.state();
        let address = self.reach(&mut state, buffer, offset, len, doing)?;
        let mut bytes = vec![0; len as usize];
        for part in self.parts(address, len) {
            self.provoke(&mut state, part.index, doing);
            self.look(&mut state, part.index, doing);
            let line = &state.lines[part.index];
            part.copy_out(&line.ram(), &mut bytes);
            let owed = line.owed & part.mask();
            let late = if line.unsynced { part.mask() } else { 0 };
            let origins = line.ram_origin;
            self.blame(&mut state, Rule::MissingClean, part, owed, doing);
            self.blame(&mut state, Rule::MissingSync, part, late, doing);
            if owed == 0 {
                self.check_written(&mut state, part, &origins, doing);
                let foreign =
                    part.which(|at| origins[at].mapping().is_some_and(|id| id != buffer.mapping));
                self.blame(&mut state, Rule::Leak, part, foreign, doing);
            }
            self.provoke(&mut state, part.index, doing);
        }
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
            let start = self.address(part.index);
            let inside = (0..LINE).fold(0, |mask, at| {
                mask | u32::from(own.contains(&(start + at as u32))) << at
            });
            self.blame(
                &mut state,
                Rule::MissingInvalidateBefore,
                part,
                owed & inside,
                doing,
            );
            self.blame(&mut state, Rule::SharedLine, part, owed & !inside, doing);
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

    /// Returns where a device's access really goes, or why it goes nowhere.
    fn reach(
        &self,
        state: &mut State,
        buffer: Buffer,
        offset: u32,
        len: u32,
        doing: Doing,
    ) -> Result<u32, HostSystemError> {
        let mut start = buffer.address;
        if !start.is_multiple_of(LINE as u32) && self.rules.has(Rule::Unaligned) {
            self.report(state, Rule::Unaligned, start, 1, doing);
            start &= !(LINE as u32 - 1);
        }
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
