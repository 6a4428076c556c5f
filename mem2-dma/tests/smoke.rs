//! The shortest way through the library.

use mem2_dma::*;

#[repr(align(4096))]
struct Memory([u8; 65536]);

// SAFETY: words.
unsafe impl Layout for Descriptor {}
#[repr(C, align(32))]
struct Descriptor {
    next: Le32,
    token: Le32,
}

#[test]
fn a_receive_of_100_bytes_copies_100_bytes() {
    let mut memory = Box::new(Memory([0xAA; 65536]));
    let provider = Offset::new(&mut memory.0, BusAddr::new(0x1000_0000)).unwrap();
    let mut storage = Storage::<1, 16>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    let device = pool.attach(Constraints::NONE).unwrap();
    let out = device.map_to_device(b"hello").unwrap();
    let mapping = device.map_from_device(4096).unwrap();
    assert_eq!(mapping.bus(), BusAddr::new(0x1000_0200));
    let done = unsafe { Quiesced::assert() };
    let mut dst = [0x55; 4096];
    assert_eq!(mapping.complete(&done, 100, &mut dst), Ok(100));
    assert_eq!(dst[..100], [0xAA; 100]);
    assert_eq!(dst[100..], [0x55; 3996]);
    out.bus();
    let mut q = out.quarantine();
    assert!(q.append(Quarantine::new(&pool)).is_none());
    assert_eq!(pool.stats().quarantined, 1);
    q.take().release(&done);
    assert_eq!(pool.stats().used, 0);
    let heads = device.coherent_slice::<Descriptor>(4, 4096).unwrap();
    heads[1].next.set(heads.bus().get() | 1);
    assert_eq!(heads.bus_of(1).unwrap().get(), 0x1000_0020);
    heads.free(&done).unwrap();
    let mut buffer = device.allocate(1000).unwrap();
    buffer[0] = 7;
    let lent = buffer.lend_to_device(512).unwrap();
    let buffer = lent.reclaim(&done).unwrap();
    assert_eq!(buffer[0], 7);
    drop(buffer);
    assert_eq!(pool.stats().live, 0);
}
