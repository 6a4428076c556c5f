//! RAM through the uncached view, word by word.

use core::ops::Range;

use ehci::memory::Coherent;
use hollywood_pac::lowmem::LowMemory;
use hollywood_pac::{cache, cpu};

use crate::experiment::PAGE;
use crate::last_log;
use crate::log_ring::Words;

/// Physical addresses in MEM2 that nothing else gets: the last run's log, and two pages for the experiment. See
/// [`last_log::PHYSICAL_ADDRESS`] for why here.
pub const RESERVED: Range<u32> = last_log::PHYSICAL_ADDRESS..PAGES + 2 * PAGE as u32;
const PAGES: u32 = (last_log::PHYSICAL_ADDRESS + last_log::BYTES).next_multiple_of(PAGE as u32);

/// Says whether [`RESERVED`] is this program's: old versions of IOS keep it.
pub fn has_reserved() -> bool {
    let arena = LowMemory::get().mem2_arena();
    arena.is_ok_and(|arena| {
        let start = arena.start().get() - 0x8000_0000;
        start <= RESERVED.start && RESERVED.end <= start + arena.bytes()
    })
}

/// Returns the page of [`RESERVED`] with a number, 0 or 1, as the controller sees it.
///
/// # Safety
/// It [is there](has_reserved), and nobody else uses it.
pub unsafe fn page(number: u32) -> Page {
    let bus = PAGES + (number & 1) * PAGE as u32;
    // SAFETY: the caller's promise.
    let memory = unsafe { Uncached::new(bus, PAGE as u32) };
    Page { memory, bus }
}

/// A page of RAM with its address on the bus.
pub struct Page {
    /// The memory.
    pub memory: Uncached,
    /// Where the controller finds it.
    pub bus: u32,
}

impl Coherent for Page {
    fn bus_address(&self) -> u32 {
        self.bus
    }

    fn size(&self) -> usize {
        PAGE
    }

    fn load(&self, offset: usize) -> u32 {
        self.memory.load(offset as u32).swap_bytes()
    }

    fn store(&self, offset: usize, value: u32) {
        self.memory.put(offset as u32, value.swap_bytes());
    }
}

/// A piece of RAM that is reached through the uncached view only.
pub struct Uncached {
    base: u32,
}

impl Uncached {
    /// Makes the view of `bytes` bytes at a physical address.
    ///
    /// # Safety
    /// There is RAM, and nobody else uses these bytes. Offsets that are loaded and stored later lie in them.
    pub unsafe fn new(physical: u32, bytes: u32) -> Self {
        let cached = (0x8000_0000 + physical) as *const u8;
        // Lines that the loader left modified would be written back over it some day.
        // SAFETY: RAM is mapped.
        unsafe { cache::flush_range(cached, bytes as usize) };
        Self {
            base: 0xC000_0000 + physical,
        }
    }

    fn word(&self, offset: u32) -> *mut u32 {
        (self.base + offset) as *mut u32
    }

    fn put(&self, offset: u32, word: u32) {
        // SAFETY: RAM of our own, by the promise to `new`; 32 bits wide, as uncached stores must be.
        unsafe { self.word(offset).write_volatile(word) }
    }
}

impl Words for Uncached {
    fn load(&self, offset: u32) -> u32 {
        // SAFETY: RAM of our own, by the promise to `new`.
        unsafe { self.word(offset).read_volatile() }
    }

    fn store(&mut self, offset: u32, word: u32) {
        self.put(offset, word);
    }

    fn barrier(&mut self) {
        cpu::sync();
    }
}
