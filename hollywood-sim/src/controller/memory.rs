//! The controller's way to memory: it fetches early and writes back late, as far as the specification lets it.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::Arc;

use super::descriptor::{Link, Qh, Qtd};
use crate::memory::Doing;
use crate::{Access, Adversary, Buffer, Descriptor, Memory, Rule, Structure};

/// Why the controller cannot go on with a schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// There is no memory there.
    HostSystemError,
    /// An unaligned descriptor (hardware notes, 2.3).
    Hang,
}

pub(super) struct Master {
    pub memory: Arc<Memory>,
    /// Who let time pass, for reports.
    pub caller: &'static Location<'static>,
    /// Decides what may be early or late.
    pub adversary: Adversary,
    /// Written, but not in memory yet, in this order.
    late: VecDeque<(Descriptor, u32, Vec<u32>)>,
    /// Descriptors that were read.
    pub fetches: u64,
}

impl Master {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            caller: Location::caller(),
            adversary: Adversary::Idle,
            late: VecDeque::new(),
            fetches: 0,
        }
    }

    fn doing(&self, access: Access) -> Doing {
        Doing {
            access,
            caller: self.caller,
        }
    }

    /// Reads words of a descriptor.
    pub(super) fn fetch<const N: usize>(&mut self, of: Descriptor) -> Result<[u32; N], Stop> {
        self.fetches += 1;
        let len = 4 * N as u32;
        let end = of.address.wrapping_add(len);
        if self.late.iter().any(|(_, address, words)| {
            *address < end && of.address < address + 4 * words.len() as u32
        }) {
            self.flush()?;
        }
        if of.kind != Structure::FrameListEntry && of.address & 0xfff > 0x1000 - len {
            let doing = self.doing(Access::Fetch(of));
            self.memory
                .accuse(Rule::DescriptorPage, of.address, len, doing);
        }
        let mut words = [[0; 4]; N];
        let buffer = Buffer {
            address: of.address,
            len,
            mapping: 0,
        };
        let doing = self.doing(Access::Fetch(of));
        let read = self
            .memory
            .dma_read(doing, buffer, None, 0, words.as_flattened_mut());
        read.map_err(|_| Stop::HostSystemError)?;
        Ok(words.map(u32::from_le_bytes))
    }

    pub(super) fn fetch_qh(&mut self, address: u32) -> Result<Qh, Stop> {
        let kind = Structure::Qh;
        let words = self.fetch(Descriptor { kind, address })?;
        Ok(Qh { address, words })
    }

    pub(super) fn fetch_qtd(&mut self, address: u32) -> Result<Qtd, Stop> {
        let kind = Structure::Qtd;
        let words = self.fetch(Descriptor { kind, address })?;
        Ok(Qtd { words })
    }

    /// Looks at words without anybody noticing.
    pub(super) fn peek<const N: usize>(&self, address: u32) -> Option<[u32; N]> {
        let mut words = [[0; 4]; N];
        let found = self.memory.peek(address, words.as_flattened_mut());
        found.then(|| words.map(u32::from_le_bytes))
    }

    /// Writes words of a descriptor, now or later.
    pub(super) fn write(&mut self, to: Descriptor, word: usize, words: &[u32]) -> Result<(), Stop> {
        let address = to.address + 4 * word as u32;
        self.late.push_back((to, address, words.to_vec()));
        if self.adversary.decide() && self.late.len() < 8 {
            return Ok(());
        }
        self.flush()
    }

    /// Brings everything to memory: before an interrupt, before the doorbell is answered, and when somebody looks.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        while let Some((to, address, words)) = self.late.pop_front() {
            let mut bytes = Vec::with_capacity(4 * words.len());
            for word in &words {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            let buffer = Buffer {
                address,
                len: bytes.len() as u32,
                mapping: 0,
            };
            let doing = self.doing(Access::WriteBack(to));
            let written = self.memory.dma_write(doing, buffer, 0, &bytes);
            written.map_err(|_| Stop::HostSystemError)?;
        }
        Ok(())
    }

    /// Whether something was written that is not in memory yet.
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    pub(super) fn forget(&mut self) {
        self.late.clear();
    }

    /// Reads data for a descriptor: the buffer's rest is what it may touch.
    pub(super) fn read_data(
        &mut self,
        of: Descriptor,
        buffer: Buffer,
        into: &mut [u8],
    ) -> Result<(), Stop> {
        let doing = self.doing(Access::DataRead(of, buffer));
        let read = self
            .memory
            .dma_read(doing, buffer, Some(buffer.mapping), 0, into);
        read.map_err(|_| Stop::HostSystemError)
    }

    /// Writes data for a descriptor.
    pub(super) fn write_data(
        &mut self,
        of: Descriptor,
        buffer: Buffer,
        from: &[u8],
    ) -> Result<(), Stop> {
        let doing = self.doing(Access::DataWrite(of, buffer));
        let written = self.memory.dma_write(doing, buffer, 0, from);
        written.map_err(|_| Stop::HostSystemError)
    }

    /// Returns how many bytes before its start a buffer's data go: its low five bits are ignored (hardware notes, 2.3).
    pub(super) fn astray(&self, of: Descriptor, address: u32, len: u32) -> u32 {
        let mapping = self.owner(address);
        let buffer = Buffer {
            address,
            len,
            mapping,
        };
        let doing = self.doing(Access::DataWrite(of, buffer));
        address - self.memory.aligned(buffer, doing).address
    }

    /// Returns for which mapping a byte was written.
    pub(super) fn owner(&self, address: u32) -> u32 {
        let origin = self.memory.ram_origin(address);
        origin.and_then(|origin| origin.mapping()).unwrap_or(0)
    }

    /// Checks that a link in a schedule leads to a multiple of 32.
    pub(super) fn follow(&self, from: Descriptor, link: Link) -> Result<Descriptor, Stop> {
        if link.is_misaligned() {
            self.misaligned(from, link)?;
        }
        Ok(link.target())
    }

    /// Checks that a link to a qTD leads to a multiple of 32.
    pub(super) fn follow_qtd(&self, from: Descriptor, link: Link) -> Result<u32, Stop> {
        if link.is_misaligned_qtd() {
            self.misaligned(from, link)?;
        }
        Ok(link.address())
    }

    fn misaligned(&self, from: Descriptor, link: Link) -> Result<(), Stop> {
        let rule = Rule::DescriptorAlignment;
        if !self.memory.rules.has(rule) {
            return Ok(());
        }
        let doing = self.doing(Access::Fetch(from));
        self.memory.accuse(rule, link.0, 1, doing);
        Err(Stop::Hang)
    }

    /// Reports what the specification leaves undefined.
    pub(super) fn undefined(&self, of: Descriptor, what: &'static str) {
        let doing = self.doing(Access::Contents(of, what));
        let rule = Rule::DescriptorContents;
        self.memory.accuse(rule, of.address, 4, doing);
    }

    /// Reports a descriptor that was changed while the controller may hold it.
    pub(super) fn in_use(&self, of: Descriptor) {
        let doing = self.doing(Access::WriteBack(of));
        self.memory
            .accuse(Rule::DescriptorInUse, of.address, 4, doing);
    }
}
