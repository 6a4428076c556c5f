//! The samples.

use std::hint::black_box;
use std::ptr::NonNull;

use benches::{label, sample};
use hollywood_pac::cache::Line;
use hollywood_pac::copy::{by_lines, by_words};
use mem2_dma::*;

/// Bytes of a long copy: a page.
const LONG: usize = 4096;
/// Bytes of a command of Bulk-Only Transport, and of its status.
const SHORT: [usize; 2] = [31, 13];

/// Long copies between all alignments, and short ones.
pub fn copies() {
    let source = [Line([0x5A; 32]); LONG / 32 + 1];
    let mut target = [Line::ZERO; LONG / 32 + 1];
    let source = source.as_ptr().cast::<u8>();
    let target = target.as_mut_ptr().cast::<u8>();
    for (from, to) in (0..32).flat_map(|from| (0..32).map(move |to| (from, to))) {
        let (src, dst) = (source.wrapping_add(from), target.wrapping_add(to));
        // SAFETY: both lie within their arrays, which have room for a line more. So do those below.
        sample(label(format!("lines {from} {to}")), || unsafe {
            by_lines(black_box(src), black_box(dst), black_box(LONG))
        });
    }
    // SAFETY: as above.
    sample("words", || unsafe {
        by_words(black_box(source), black_box(target), black_box(LONG))
    });
    for bytes in SHORT {
        // SAFETY: as above.
        sample(label(format!("short {bytes}")), || unsafe {
            by_lines(black_box(source), black_box(target), black_box(bytes))
        });
    }
}

/// The copies of the Wii, without its cache maintenance.
struct Lines;

// SAFETY: devices of this program see the caches. The copy is exact.
unsafe impl CacheOps for Lines {
    unsafe fn clean(&self, _: NonNull<u8>, _: usize) {}
    unsafe fn invalidate(&self, _: NonNull<u8>, _: usize) {}
    unsafe fn flush(&self, _: NonNull<u8>, _: usize) {}
    unsafe fn copy(&self, src: NonNull<u8>, dst: NonNull<u8>, len: usize) {
        // SAFETY: the caller's promise; memory of a program is cacheable.
        unsafe { by_lines(src.as_ptr(), dst.as_ptr(), len) }
    }
}

/// A page each way through a pool, to and from where a caller has it.
pub fn bounces() {
    let memory = Line::as_bytes_mut(vec![Line::ZERO; 1 << 13].leak());
    let provider = Offset::with_cache(memory, BusAddr::new(0x1000_0000), Lines).unwrap();
    let mut storage = Storage::<16, 16>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    let device = pool.attach(Constraints::NONE).unwrap();
    // SAFETY: there is no device.
    let done = unsafe { Quiesced::assert() };
    let mut page = [Line::ZERO; LONG / 32 + 1];
    for (name, at) in [("aligned", 0), ("misaligned", 1)] {
        let page = &mut Line::as_bytes_mut(&mut page)[at..at + LONG];
        sample(label(format!("send {name}")), || {
            let sent = device.map_to_device(black_box(page)).unwrap();
            black_box(sent.bus());
            sent.discard(&done).unwrap();
        });
        sample(label(format!("receive {name}")), || {
            let received = device.map_from_device(LONG).unwrap();
            black_box(received.bus());
            received.complete(&done, LONG, black_box(page)).unwrap();
        });
    }
}
