//! Bounced bytes are copied by the routine that came with the caches: each once, and no others.

mod common;

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use common::memory;
use mem2_dma::*;

/// The lengths of all copies.
#[derive(Clone, Default)]
struct Copies(Rc<RefCell<Vec<usize>>>);

// SAFETY: tests have one thread.
unsafe impl Sync for Copies {}

// SAFETY: as of `Coherently`; the copy is the one that comes along.
unsafe impl CacheOps for Copies {
    unsafe fn clean(&self, _: NonNull<u8>, _: usize) {}
    unsafe fn invalidate(&self, _: NonNull<u8>, _: usize) {}
    unsafe fn flush(&self, _: NonNull<u8>, _: usize) {}
    unsafe fn copy(&self, src: NonNull<u8>, dst: NonNull<u8>, len: usize) {
        self.0.borrow_mut().push(len);
        // SAFETY: the caller's promise.
        unsafe { CacheOps::copy(&Coherently, src, dst, len) }
    }
}

#[test]
fn what_is_bounced_is_copied_once_by_the_routine_of_the_caches() {
    let copies = Copies::default();
    let bus = BusAddr::new(0x1000_0000);
    let provider = Offset::with_cache(memory(8192), bus, copies.clone()).unwrap();
    let mut storage = Storage::<1, 4>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    let device = pool.attach(Constraints::NONE).unwrap();
    // SAFETY: there is no device.
    let done = unsafe { Quiesced::assert() };

    let mut sent = device.map_to_device(&[1; 600]).unwrap();
    sent.sync_for_device(500, &[2; 7]).unwrap();
    sent.discard(&done).unwrap();
    let mut received = [0; 512];
    let incoming = device.map_from_device(512).unwrap();
    incoming.complete(&done, 13, &mut received).unwrap();
    let lent = device.allocate(512).unwrap().lend_from_device(512).unwrap();
    lent.reclaim(&done).unwrap();

    assert_eq!(*copies.0.borrow(), [600, 7, 13]);
}
