//! What one would take instead for a pool, behind one interface; and the policy of Linux, to see that the streams are as hard as they should be.

use std::alloc::Layout;
use std::ptr::NonNull;

use mem2_dma::{GROUP_WORDS, Placed, Table};

use crate::OWNER;

/// Somebody who hands out room in a pool.
pub trait Rival {
    fn name(&self) -> &'static str;
    fn map(&mut self, len: u32) -> Option<Address>;
    fn unmap(&mut self, address: Address);
    /// Bytes of bookkeeping outside the pool, for so many mappings. The rest of it is in the pool, in cache lines that the device writes.
    fn metadata(&self, mappings: usize) -> usize;
    /// Returns whether there is a free run of that length, as far as this rival can be asked.
    fn has_room(&self, _: u32) -> bool {
        false
    }
}

/// What was granted, in the terms of whoever granted it.
#[derive(Clone, Copy)]
pub enum Address {
    Placed(Placed, u32),
    Pointer(NonNull<u8>, Layout),
    Run(usize, usize),
}

/// All of them, with pools of their own.
pub fn all(bytes: u32) -> Vec<Box<dyn Rival>> {
    vec![
        Box::new(Ours::<512>::new(bytes, "mem2-dma-512")),
        Box::new(Ours::<2048>::new(bytes, "mem2-dma-2048")),
        Box::new(Buddy::new(bytes)),
        Box::new(Tlsf::new(bytes)),
        Box::new(Talc::new(bytes)),
        Box::new(LinkedList::new(bytes)),
    ]
}

/// A table in slots of `SLOT` bytes, and which slots it should hold to be taken.
pub struct Ours<const SLOT: usize> {
    table: Table<'static>,
    name: &'static str,
    free: Option<Vec<bool>>,
}

impl<const SLOT: usize> Ours<SLOT> {
    fn new(bytes: u32, name: &'static str) -> Self {
        let table = crate::table::<SLOT>(bytes as usize / SLOT);
        let free = None;
        Self { table, name, free }
    }

    /// The same, checked.
    pub fn checked(bytes: u32) -> Self {
        let free = Some(vec![true; bytes as usize / SLOT]);
        Self {
            free,
            ..Self::new(bytes, "checked")
        }
    }

    fn mark(&mut self, placed: Placed, len: u32, free: bool) {
        if let Some(slots) = &mut self.free {
            let start = placed.offset as usize / SLOT;
            let run = &mut slots[start..start + (len as usize).div_ceil(SLOT)];
            assert!(run.iter().all(|slot| *slot != free));
            run.fill(free);
        }
    }
}

impl<const SLOT: usize> Rival for Ours<SLOT> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        let placed = self.table.map_single(len, &OWNER).ok()?;
        self.mark(placed, len, false);
        Some(Address::Placed(placed, len))
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Placed(placed, len) = address {
            self.table.unmap_single(placed.handle).unwrap();
            self.mark(placed, len, true);
        }
    }
    fn metadata(&self, mappings: usize) -> usize {
        let slots = self.table.bytes() as usize / SLOT;
        size_of::<Table>()
            + slots.div_ceil(128) * GROUP_WORDS * (size_of::<u32>() + size_of::<u16>())
            + mappings * size_of::<mem2_dma::Record>()
    }
    fn has_room(&self, len: u32) -> bool {
        let slots = self.free.as_deref().unwrap_or_default();
        slots
            .split(|free| !free)
            .any(|run| run.len() >= (len as usize).div_ceil(SLOT))
    }
}

/// Room for device memory must start at a cache line and fill lines of its own.
fn lines(len: u32) -> Layout {
    Layout::from_size_align(len.next_multiple_of(32) as usize, 32).unwrap()
}

fn memory(bytes: u32) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes as usize, 4096).unwrap();
    // SAFETY: the layout is not empty.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).unwrap()
}

struct Buddy(buddy_system_allocator::Heap<32>);

impl Buddy {
    fn new(bytes: u32) -> Self {
        let mut heap = buddy_system_allocator::Heap::empty();
        // SAFETY: memory of its own.
        unsafe { heap.init(memory(bytes).as_ptr() as usize, bytes as usize) };
        Self(heap)
    }
}

impl Rival for Buddy {
    fn name(&self) -> &'static str {
        "buddy_system_allocator"
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        let layout = lines(len);
        self.0
            .alloc(layout)
            .ok()
            .map(|pointer| Address::Pointer(pointer, layout))
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Pointer(pointer, layout) = address {
            // SAFETY: allocated above.
            unsafe { self.0.dealloc(pointer, layout) };
        }
    }
    fn metadata(&self, _: usize) -> usize {
        size_of_val(&self.0)
    }
}

struct Tlsf(rlsf::Tlsf<'static, u32, u32, 20, 8>);

impl Tlsf {
    fn new(bytes: u32) -> Self {
        let mut tlsf = rlsf::Tlsf::new();
        let block = NonNull::slice_from_raw_parts(memory(bytes), bytes as usize);
        // SAFETY: memory of its own.
        unsafe { tlsf.insert_free_block_ptr(block) };
        Self(tlsf)
    }
}

impl Rival for Tlsf {
    fn name(&self) -> &'static str {
        "rlsf"
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        let layout = lines(len);
        self.0
            .allocate(layout)
            .map(|pointer| Address::Pointer(pointer, layout))
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Pointer(pointer, layout) = address {
            // SAFETY: allocated above.
            unsafe { self.0.deallocate(pointer, layout.align()) };
        }
    }
    fn metadata(&self, _: usize) -> usize {
        size_of_val(&self.0)
    }
}

struct Talc(talc::base::Talc<talc::source::Manual, talc::DefaultBinning>);

impl Talc {
    fn new(bytes: u32) -> Self {
        let mut talc = talc::base::Talc::new(talc::source::Manual);
        // SAFETY: memory of its own.
        unsafe { talc.claim(memory(bytes).as_ptr(), bytes as usize) }.unwrap();
        Self(talc)
    }
}

impl Rival for Talc {
    fn name(&self) -> &'static str {
        "talc"
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        let layout = lines(len);
        // SAFETY: the layout is not empty.
        unsafe { self.0.allocate(layout) }.map(|pointer| Address::Pointer(pointer, layout))
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Pointer(pointer, layout) = address {
            // SAFETY: allocated above.
            unsafe { self.0.deallocate(pointer.as_ptr(), layout) };
        }
    }
    fn metadata(&self, _: usize) -> usize {
        size_of_val(&self.0)
    }
}

struct LinkedList(linked_list_allocator::Heap);

impl LinkedList {
    fn new(bytes: u32) -> Self {
        // SAFETY: memory of its own.
        Self(unsafe { linked_list_allocator::Heap::new(memory(bytes).as_ptr(), bytes as usize) })
    }
}

impl Rival for LinkedList {
    fn name(&self) -> &'static str {
        "linked_list_allocator"
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        let layout = lines(len);
        self.0
            .allocate_first_fit(layout)
            .ok()
            .map(|pointer| Address::Pointer(pointer, layout))
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Pointer(pointer, layout) = address {
            // SAFETY: allocated above.
            unsafe { self.0.deallocate(pointer, layout) };
        }
    }
    fn metadata(&self, _: usize) -> usize {
        size_of_val(&self.0)
    }
}

/// The policy of Linux's swiotlb, for refusals only: slots of 2 KiB in sets of 128, next fit, longer than a page means page aligned.
pub struct NextFit {
    free: Vec<bool>,
    cursor: usize,
}

impl NextFit {
    const SET: usize = 128;

    pub fn new(bytes: u32) -> Self {
        Self {
            free: vec![true; bytes as usize / 2048],
            cursor: 0,
        }
    }
}

impl Rival for NextFit {
    fn name(&self) -> &'static str {
        "swiotlb-policy"
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        let count = len.div_ceil(2048) as usize;
        let stride = if len > 4096 { 2 } else { 1 };
        let slots = self.free.len();
        let first = self.cursor.next_multiple_of(stride) % slots;
        let mut at = first;
        loop {
            let fits = at % Self::SET + count <= Self::SET && at + count <= slots;
            if fits && self.free[at..at + count].iter().all(|free| *free) {
                self.free[at..at + count].fill(false);
                self.cursor = at + count;
                return Some(Address::Run(at, count));
            }
            at = (at + stride) % slots;
            if at == first {
                return None;
            }
        }
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Run(at, count) = address {
            self.free[at..at + count].fill(true);
        }
    }
    fn metadata(&self, _: usize) -> usize {
        self.free.len() * 8
    }
}
