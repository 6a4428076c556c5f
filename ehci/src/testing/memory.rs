//! DMA memory in which every byte is either allocated or poison: a controller that touches what was freed is caught.

use crate::layout::{DESCRIPTOR_BYTES, Descriptors};
use crate::memory::{Buffer, Coherent, Dma, NoMemory};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

pub const BASE: u32 = 0x1234_5000;
const POISON: u8 = 0xdd;

pub struct Ram {
    bytes: RefCell<Vec<u8>>,
    /// Start and length of what is allocated, in units of bytes from the base.
    live: RefCell<BTreeMap<usize, usize>>,
    /// Memory that somebody else manages: where it is on the bus and for the CPU.
    pub external: Cell<Option<(u32, *mut [u8])>>,
    /// Whether buffers larger than a page begin at one, as a bounce pool places them.
    pub pages: Cell<bool>,
    /// Bytes that data buffers may take together.
    pub limit: Cell<usize>,
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ram({} allocations)", self.allocations())
    }
}

impl Ram {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            bytes: RefCell::new(vec![POISON; 8 << 20]),
            live: RefCell::default(),
            external: Cell::new(None),
            pages: Cell::new(true),
            limit: Cell::new(usize::MAX),
        })
    }

    fn allocate(&self, size: usize, align: usize) -> Option<usize> {
        let size = size.max(1);
        let mut live = self.live.borrow_mut();
        let mut at = 0;
        for (&start, &length) in live.iter() {
            if at + size <= start {
                break;
            }
            at = (start + length).next_multiple_of(align);
        }
        if at + size > self.bytes.borrow().len() {
            return None;
        }
        live.insert(at, size.next_multiple_of(32));
        Some(at)
    }

    fn free(&self, at: usize) {
        let size = self.live.borrow_mut().remove(&at).expect("freed once");
        self.bytes.borrow_mut()[at..at + size].fill(POISON);
    }

    /// Number of allocations.
    pub fn allocations(&self) -> usize {
        self.live.borrow().len()
    }

    fn check(&self, bus: u32, size: usize) -> usize {
        let at = bus.wrapping_sub(BASE) as usize;
        let live = self.live.borrow();
        let (start, length) = live.range(..=at).next_back().unwrap_or((&0, &0));
        assert!(
            at >= *start && at + size <= start + length,
            "the controller touches {size} bytes at {bus:#010x}, which nobody gave it"
        );
        at
    }

    /// Where the external memory has a byte, if it has it.
    fn external(&self, bus: u32, size: usize) -> Option<*mut u8> {
        let (base, memory) = self.external.get()?;
        let offset = bus.checked_sub(base)? as usize;
        (offset + size <= memory.len()).then(|| memory.cast::<u8>().wrapping_add(offset))
    }

    /// A controller's read.
    pub fn read(&self, bus: u32, into: &mut [u8]) {
        if let Some(at) = self.external(bus, into.len()) {
            // SAFETY: within the external memory, which outlives the test.
            unsafe { at.copy_to(into.as_mut_ptr(), into.len()) };
            return;
        }
        let at = self.check(bus, into.len());
        into.copy_from_slice(&self.bytes.borrow()[at..at + into.len()]);
    }

    /// A controller's write.
    pub fn write(&self, bus: u32, from: &[u8]) {
        if let Some(at) = self.external(bus, from.len()) {
            // SAFETY: as above.
            unsafe { at.copy_from(from.as_ptr(), from.len()) };
            return;
        }
        let at = self.check(bus, from.len());
        self.bytes.borrow_mut()[at..at + from.len()].copy_from_slice(from);
    }

    pub fn read_word(&self, bus: u32) -> u32 {
        let mut word = [0; 4];
        self.read(bus, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn write_word(&self, bus: u32, value: u32) {
        self.write(bus, &value.to_le_bytes());
    }
}

/// A block of descriptor memory.
#[derive(Debug)]
pub struct Block {
    ram: Rc<Ram>,
    at: usize,
    size: usize,
}

impl Coherent for Block {
    fn bus_address(&self) -> u32 {
        BASE + self.at as u32
    }

    fn size(&self) -> usize {
        self.size
    }

    fn load(&self, offset: usize) -> u32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.size);
        let at = self.at + offset;
        u32::from_le_bytes(self.ram.bytes.borrow()[at..at + 4].try_into().unwrap())
    }

    fn store(&self, offset: usize, value: u32) {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.size);
        let at = self.at + offset;
        self.ram.bytes.borrow_mut()[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.ram.free(self.at);
    }
}

/// A data buffer; always a copy elsewhere.
#[derive(Debug)]
pub struct Slot {
    ram: Rc<Ram>,
    at: usize,
    size: usize,
}

impl Buffer for Slot {
    fn bus_address(&self) -> u32 {
        BASE + self.at as u32
    }

    fn size(&self) -> usize {
        self.size
    }

    fn copy_from(&mut self, offset: usize, into: &mut [u8]) {
        let (start, size) = (self.at + offset, into.len());
        assert!(offset + size <= self.size);
        into.copy_from_slice(&self.ram.bytes.borrow()[start..start + size]);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ram
            .limit
            .set(self.ram.limit.get().saturating_add(self.size));
        self.ram.free(self.at);
    }
}

// SAFETY: no real device is told of these addresses.
unsafe impl Dma for Rc<Ram> {
    type Coherent = Block;
    type Buffer = Slot;

    fn coherent(&self, size: usize) -> Result<Block, NoMemory> {
        let at = self.allocate(size, 4096).ok_or(NoMemory { size })?;
        self.bytes.borrow_mut()[at..at + size].fill(0);
        Ok(Block {
            ram: self.clone(),
            at,
            size,
        })
    }

    fn outgoing(&self, data: &[u8]) -> Result<Slot, NoMemory> {
        let slot = self.incoming(data.len())?;
        self.bytes.borrow_mut()[slot.at..slot.at + data.len()].copy_from_slice(data);
        Ok(slot)
    }

    fn incoming(&self, size: usize) -> Result<Slot, NoMemory> {
        let left = self
            .limit
            .get()
            .checked_sub(size)
            .ok_or(NoMemory { size })?;
        let align = if size > 4096 && self.pages.get() {
            4096
        } else {
            32
        };
        let at = self.allocate(size, align).ok_or(NoMemory { size })?;
        self.limit.set(left);
        Ok(Slot {
            ram: self.clone(),
            at,
            size,
        })
    }
}

pub fn descriptors() -> Descriptors<Block> {
    let block = Ram::new().coherent(DESCRIPTOR_BYTES).unwrap();
    Descriptors::new(block).unwrap()
}
