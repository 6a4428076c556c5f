//! Test doubles.
use crate::layout::Descriptors;
use crate::memory::Coherent;
use std::cell::RefCell;

/// A block of descriptor memory at a bus address far from its CPU address.
#[derive(Debug)]
pub struct Block(RefCell<Vec<u8>>);

impl Coherent for Block {
    fn bus_address(&self) -> u32 {
        0x1234_5000
    }
    fn size(&self) -> usize {
        self.0.borrow().len()
    }
    fn load(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.0.borrow()[offset..offset + 4].try_into().unwrap())
    }
    fn store(&self, offset: usize, value: u32) {
        self.0.borrow_mut()[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
}

pub fn descriptors() -> Descriptors<Block> {
    let size = Descriptors::<Block>::size(crate::QUEUE_HEADS, crate::QTDS);
    Descriptors::new(
        Block(RefCell::new(vec![0; size])),
        crate::QUEUE_HEADS,
        crate::QTDS,
    )
    .unwrap()
}
