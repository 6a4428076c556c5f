//! The guest's memory, mapped from files of the emulator process. The mapping outlives the process, so that
//! a dead guest can still be examined.

use crate::{Error, error::Context};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::{self, File},
    io,
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
};

/// A piece of the guest's physical memory as it lies in a file of the emulator.
pub(crate) struct Piece {
    /// How the link in /proc/PID/fd begins.
    pub link: &'static str,
    pub physical: u32,
    /// Where in the file, and how many bytes.
    pub offset: u64,
    pub length: usize,
}

struct Mapping {
    physical: u32,
    bytes: MmapRaw,
}

/// Physical memory of a guest, running or ended: MEM1 at 0, MEM2 at 0x1000_0000.
pub struct GuestMemory(Vec<Mapping>);

impl GuestMemory {
    /// Maps memory of a running process; `None` while the process has not opened all the files yet.
    pub(crate) fn open(pid: u32, pieces: &[Piece]) -> Result<Option<Self>, Error> {
        let mut mappings = Vec::new();
        for piece in pieces {
            let Some(file) = open_link(pid, piece.link)? else {
                return Ok(None);
            };
            let length = file.metadata().context(|| piece.link.to_owned())?.len();
            // The emulator may have created the file and not sized it yet.
            if length < piece.offset + piece.length as u64 {
                return Ok(None);
            }
            let bytes = MmapOptions::new()
                .offset(piece.offset)
                .len(piece.length)
                .map_raw(&file);
            let bytes = bytes.context(|| format!("mapping {}", piece.link))?;
            mappings.push(Mapping {
                physical: piece.physical,
                bytes,
            });
        }
        Ok(Some(Self(mappings)))
    }

    /// Reads bytes at a physical address. While the guest runs, they need not all be of one moment.
    ///
    /// # Errors
    /// [`Error::Memory`] if not all of them are memory.
    pub fn read(&self, address: u32, bytes: &mut [u8]) -> Result<(), Error> {
        let mut at = address;
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let (pointer, room) = self.locate(at).ok_or(Error::Memory {
                address: at,
                length: rest.len(),
            })?;
            let (now, later) = rest.split_at_mut(room.min(rest.len()));
            for (index, byte) in now.iter_mut().enumerate() {
                // SAFETY: within the mapping, as `locate` says; the guest writes it concurrently, hence
                // atomic.
                *byte = unsafe { AtomicU8::from_ptr(pointer.add(index)) }.load(Ordering::Relaxed);
            }
            at = at.wrapping_add(now.len() as u32);
            rest = later;
        }
        Ok(())
    }

    /// Reads a big-endian word at a physical address that is a multiple of 4.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is no memory, or the address is not aligned.
    pub fn read_word(&self, address: u32) -> Result<u32, Error> {
        Ok(u32::from_be(self.word(address)?.load(Ordering::Acquire)))
    }

    /// Writes a big-endian word at a physical address that is a multiple of 4. The guest sees it through
    /// an uncached alias, or once it has invalidated the line.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is no memory, or the address is not aligned.
    pub fn write_word(&self, address: u32, word: u32) -> Result<(), Error> {
        self.word(address)?.store(word.to_be(), Ordering::Release);
        Ok(())
    }

    fn word(&self, address: u32) -> Result<&AtomicU32, Error> {
        match self.locate(address) {
            Some((pointer, room)) if address.is_multiple_of(4) && room >= 4 => {
                // SAFETY: four bytes within a page-aligned mapping that lives as long as `self`, aligned;
                // others access it atomically or in other processes.
                Ok(unsafe { AtomicU32::from_ptr(pointer.cast()) })
            }
            _ => Err(Error::Memory { address, length: 4 }),
        }
    }

    /// Where a physical address is mapped, and how many bytes from there on.
    fn locate(&self, address: u32) -> Option<(*mut u8, usize)> {
        self.0.iter().find_map(|mapping| {
            let offset = address.checked_sub(mapping.physical)? as usize;
            let room = mapping
                .bytes
                .len()
                .checked_sub(offset)
                .filter(|&room| room > 0)?;
            Some((mapping.bytes.as_mut_ptr().wrapping_add(offset), room))
        })
    }

    #[cfg(test)]
    pub(crate) fn of_file(file: &File, physical: u32) -> Self {
        Self(vec![Mapping {
            physical,
            bytes: MmapOptions::new().map_raw(file).unwrap(),
        }])
    }
}

/// Opens the file of a process whose link begins with `link`; `None` if it has none, or has ended.
fn open_link(pid: u32, link: &str) -> Result<Option<File>, Error> {
    let folder = format!("/proc/{pid}/fd");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.context(|| folder.clone())?,
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        // Descriptors come and go while we look.
        let Ok(target) = fs::read_link(&path) else {
            continue;
        };
        if target.to_string_lossy().starts_with(link) {
            return match File::options().read(true).write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                file => file.context(|| path.display().to_string()).map(Some),
            };
        }
    }
    Ok(None)
}
