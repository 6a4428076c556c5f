//! What one would take instead for a pool, behind one interface; and the policy of Linux, to see that the streams are as hard as the reference's.

use std::alloc::Layout;
use std::ptr::NonNull;

use mem2_dma::{Handle, Table};

use crate::OWNER;

/// Somebody who hands out room in a pool.
pub trait Rival {
    fn name(&self) -> &'static str;
    fn map(&mut self, len: u32) -> Option<Address>;
    fn unmap(&mut self, address: Address);
    /// Bytes of bookkeeping, or 0 if it is kept in the pool itself, where it shares cache lines with the device.
    fn metadata(&self) -> usize;
}

/// What was granted, in the terms of whoever granted it.
#[derive(Clone, Copy)]
pub enum Address {
    Handle(Handle),
    Pointer(NonNull<u8>, Layout),
    Run(usize, usize),
}

/// All of them, with pools of their own.
pub fn all(bytes: u32) -> Vec<Box<dyn Rival>> {
    vec![
        Box::new(Ours::<2048>(
            crate::table::<512>(bytes as usize / 512),
            "mem2-dma-512",
        )),
        Box::new(Ours::<2048>(
            crate::table::<2048>(bytes as usize / 2048),
            "mem2-dma-2048",
        )),
        Box::new(Buddy::new(bytes)),
        Box::new(Tlsf::new(bytes)),
        Box::new(Talc::new(bytes)),
        Box::new(LinkedList::new(bytes)),
        Box::new(NextFit::new(bytes)),
    ]
}

struct Ours<const SLOT: usize>(Table<'static>, &'static str);

impl<const SLOT: usize> Rival for Ours<SLOT> {
    fn name(&self) -> &'static str {
        self.1
    }
    fn map(&mut self, len: u32) -> Option<Address> {
        self.0
            .map_single(len, OWNER)
            .ok()
            .map(|placed| Address::Handle(placed.handle))
    }
    fn unmap(&mut self, address: Address) {
        if let Address::Handle(handle) = address {
            self.0.unmap_single(handle).unwrap();
        }
    }
    fn metadata(&self) -> usize {
        let slots = self.0.bytes() as usize / SLOT;
        slots.div_ceil(128) * size_of::<mem2_dma::Group>() + 64 * size_of::<mem2_dma::Record>()
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
    fn metadata(&self) -> usize {
        0
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
    fn metadata(&self) -> usize {
        0
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
    fn metadata(&self) -> usize {
        0
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
    fn metadata(&self) -> usize {
        0
    }
}

/// The policy of Linux's swiotlb, for refusals only: slots of 2 KiB in sets of 128, next fit, longer than a page means page aligned.
struct NextFit {
    free: Vec<bool>,
    cursor: usize,
}

impl NextFit {
    const SET: usize = 128;

    fn new(bytes: u32) -> Self {
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
    fn metadata(&self) -> usize {
        self.free.len() * 8
    }
}
