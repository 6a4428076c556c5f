//! Fakes and tools for the tests.
#![allow(dead_code)]

use std::cell::UnsafeCell;
use std::ptr::NonNull;

use mem2_dma::*;

/// Xorshift: small, and the same everywhere.
pub struct Random(pub u32);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(limit)) >> 32) as u32
    }

    pub fn pick<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u32) as usize]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Memory aligned to 64 KiB, and for that below 4 GiB: what identity means on a 64-bit host.
pub fn low_memory(bytes: usize) -> &'static mut [u8] {
    #[cfg(target_pointer_width = "64")]
    {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0x2000_0000);
        let size = bytes.next_multiple_of(1 << 16);
        loop {
            let at = NEXT.fetch_add(size, Ordering::Relaxed);
            assert!(at < 0x7000_0000, "no low memory to be had");
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            // SAFETY: new memory; nothing is replaced.
            let start = unsafe {
                libc::mmap(
                    at as *mut _,
                    size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags,
                    -1,
                    0,
                )
            };
            if start as usize == at {
                // SAFETY: just mapped, zeroed, nobody else's.
                return unsafe { std::slice::from_raw_parts_mut(start.cast(), bytes) };
            }
        }
    }
    #[cfg(not(target_pointer_width = "64"))]
    memory(bytes)
}

/// Memory aligned to 64 KiB. It is never freed.
pub fn memory(bytes: usize) -> &'static mut [u8] {
    let layout = std::alloc::Layout::from_size_align(bytes, 1 << 16).unwrap();
    // SAFETY: the layout is not empty; new memory, zeroed.
    unsafe {
        let start = std::alloc::alloc_zeroed(layout);
        assert!(!start.is_null());
        std::slice::from_raw_parts_mut(start, bytes)
    }
}

/// A device: it sees memory by bus address only, past the caches.
pub struct FakeDevice<'a>(pub &'a dyn Provider);

impl FakeDevice<'_> {
    fn at(&self, bus: BusAddr, len: usize) -> NonNull<u8> {
        let offset = self
            .0
            .offset_of(bus)
            .unwrap_or_else(|| panic!("the device hits {bus}, which is not the pool's"));
        let extent = self.0.extent(offset).unwrap();
        assert!(
            extent.len as usize >= len,
            "the device runs off the end of the extent at {bus}"
        );
        assert_eq!(extent.bus, bus);
        let start = self.0.coherent().unwrap_or(self.0.memory().cast());
        // SAFETY: the offset lies in the memory.
        unsafe { start.add(offset as usize) }
    }

    pub fn write(&self, bus: BusAddr, data: &[u8]) {
        let at = self.at(bus, data.len());
        // SAFETY: checked to lie in the pool; tests have one thread.
        unsafe { at.copy_from_nonoverlapping(NonNull::from(data).cast(), data.len()) }
    }

    pub fn read(&self, bus: BusAddr, len: usize) -> Vec<u8> {
        let at = self.at(bus, len);
        let mut data = vec![0; len];
        // SAFETY: checked to lie in the pool; tests have one thread.
        unsafe { at.copy_to_nonoverlapping(NonNull::from(&mut data[..]).cast(), len) };
        data
    }
}

/// A cache that writes nothing back and fetches nothing unless told: two memories, and what they last agreed on.
pub struct FakeCache {
    cached: NonNull<u8>,
    ram: NonNull<u8>,
    agreed: UnsafeCell<Vec<u8>>,
}

// SAFETY: tests have one thread.
unsafe impl Sync for FakeCache {}

impl FakeCache {
    pub fn new(cached: &'static mut [u8], ram: &'static mut [u8]) -> Self {
        // So that nothing works by being zero: the cache holds other values than memory.
        cached.fill(0xC5);
        ram.fill(0x5C);
        let agreed = UnsafeCell::new(cached.to_vec());
        Self {
            cached: NonNull::from(cached).cast(),
            ram: NonNull::from(ram).cast(),
            agreed,
        }
    }

    fn for_lines(
        &self,
        start: NonNull<u8>,
        len: usize,
        act: impl Fn(&mut [u8], &mut [u8], &mut [u8]),
    ) {
        let offset = start.as_ptr() as usize - self.cached.as_ptr() as usize;
        assert!(
            offset.is_multiple_of(32) && len.is_multiple_of(32),
            "{len} bytes at {offset} are not whole lines"
        );
        // SAFETY: one thread, and the range lies in both memories (`agreed` has their length).
        let agreed = unsafe { &mut *self.agreed.get() };
        assert!(offset + len <= agreed.len());
        for at in (offset..offset + len).step_by(32) {
            // SAFETY: as above.
            let (cached, ram) = unsafe {
                (
                    std::slice::from_raw_parts_mut(self.cached.add(at).as_ptr(), 32),
                    std::slice::from_raw_parts_mut(self.ram.add(at).as_ptr(), 32),
                )
            };
            act(cached, ram, &mut agreed[at..at + 32]);
        }
    }
}

// SAFETY: of tests only.
unsafe impl CacheOps for FakeCache {
    unsafe fn clean(&self, start: NonNull<u8>, len: usize) {
        self.for_lines(start, len, |cached, ram, agreed| {
            if cached != agreed {
                ram.copy_from_slice(cached);
                agreed.copy_from_slice(cached);
            }
        });
    }

    unsafe fn invalidate(&self, start: NonNull<u8>, len: usize) {
        self.for_lines(start, len, |cached, ram, agreed| {
            cached.copy_from_slice(ram);
            agreed.copy_from_slice(ram);
        });
    }

    unsafe fn flush(&self, start: NonNull<u8>, len: usize) {
        // SAFETY: as above.
        unsafe {
            self.clean(start, len);
            self.invalidate(start, len);
        }
    }
}

/// A hypervisor with scattered contiguous extents: after every one there is a gap, and frames that are not ours alias pages of ours.
pub struct FakeHypervisor {
    /// Frames below this do not exist.
    pub lowest: u32,
    /// The longest extent that can be had, in pages.
    pub longest: u32,
}

// SAFETY: of tests only.
unsafe impl Hypervisor for FakeHypervisor {
    fn exchange(&self, page: u32, count: u32, address_bits: u32) -> Option<u32> {
        let first = self.lowest + 2 * page;
        let fits = (u64::from(first + count)) << 12 <= 1 << address_bits;
        (count <= self.longest && fits).then_some(first)
    }

    fn page_of(&self, frame: u32) -> Option<u32> {
        // Extents of `longest` pages lie that far apart. A careless table: it has an answer for the foreign frames in between, too.
        let place = frame.checked_sub(self.lowest)?;
        Some(place / (2 * self.longest) * self.longest + place % self.longest)
    }
}
