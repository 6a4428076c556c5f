//! The driver on a pool of mem2-dma.

use crate::memory::{Buffer, Coherent};
use crate::testing::{Machine, Shared, Stick, endpoint};
use crate::{Bounce, Bounced, Direction, Ehci, Kind, PipeId, PortChange, Request, TransferId};
use mem2_dma::{BusAddr, Constraints, Offset, Pool, Storage};
use std::cell::RefCell;
use std::rc::Rc;

/// The lowest address of MEM2: not where the memory is for the CPU.
const MEM2: u32 = 0x1000_0000;
const BYTES: usize = 1 << 21;

type Driver = Ehci<Machine, Bounce<'static>, Machine>;

struct Rig {
    machine: Machine,
    pool: &'static Pool<'static>,
    ehci: Driver,
    shared: Rc<RefCell<Shared>>,
}

fn pool() -> (&'static Pool<'static>, *mut [u8]) {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let pages: &'static mut [Page] =
        Vec::from_iter((0..BYTES / 4096).map(|_| Page([0; 4096]))).leak();
    let memory = std::ptr::slice_from_raw_parts_mut(pages[0].0.as_mut_ptr(), BYTES);
    // SAFETY: all of the pages, which nobody else uses from here on.
    let provider = Box::leak(Box::new(
        Offset::new(unsafe { &mut *memory }, BusAddr::new(MEM2)).unwrap(),
    ));
    let storage = Box::leak(Box::new(Storage::<32, 64>::new()));
    (
        Box::leak(Box::new(Pool::new(provider, storage).unwrap())),
        memory,
    )
}

fn rig() -> Rig {
    let (pool, memory) = pool();
    let machine = Machine::new();
    machine.ram.external.set(Some((MEM2, memory)));
    let dma = Bounce::new(pool, Constraints::NONE.align(32)).unwrap();
    let mut ehci = Ehci::new(machine.clone(), dma, machine.clone()).unwrap();
    ehci.start().unwrap();
    let stick = Stick::new(64);
    let shared = stick.shared.clone();
    machine.plug(0, Box::new(stick));
    let mut rig = Rig {
        machine,
        pool,
        ehci,
        shared,
    };
    rig.until(PortChange::Attached);
    assert!(rig.ehci.reset_port(0));
    rig.until(PortChange::Enabled);
    rig
}

impl Rig {
    fn until(&mut self, change: PortChange) {
        for _ in 0..4000 {
            self.machine.advance(125);
            self.ehci.poll();
            if self
                .ehci
                .take_port_event()
                .is_some_and(|event| event.change == change)
            {
                return;
            }
        }
        panic!("no {change:?}");
    }

    fn open(&mut self, number: u8, direction: Direction) -> PipeId {
        self.ehci
            .open(&endpoint(number, Kind::Bulk(direction)))
            .unwrap()
    }

    fn finish(&mut self, id: TransferId) -> (usize, Bounced<'static, 512>) {
        for _ in 0..8000 {
            if let Some(end) = self.ehci.take(id) {
                assert_eq!(end.status, Ok(()));
                return (end.bytes, end.buffer.unwrap());
            }
            self.machine.advance(125);
            self.ehci.poll();
        }
        panic!("transfer does not end");
    }
}

#[test]
fn a_receive_copies_what_came_and_nothing_else() {
    let mut rig = rig();
    let pipe = rig.open(5, Direction::In);
    rig.shared.borrow_mut().source.push_back(vec![7; 100]);
    let buffer = crate::memory::Dma::incoming(rig.ehci.dma(), 4096).unwrap();
    let before = rig.pool.stats().bounced;
    let id = rig.ehci.submit(pipe, Request::new(buffer)).unwrap();
    let (bytes, mut buffer) = rig.finish(id);
    let mut received = vec![0; bytes];
    buffer.copy_received(&mut received);
    assert_eq!(received, [7; 100]);
    assert_eq!(rig.pool.stats().bounced - before, 100);
}

#[test]
fn an_owned_buffer_goes_to_the_device_and_back_without_a_copy() {
    let mut rig = rig();
    let (input, output) = (rig.open(5, Direction::In), rig.open(4, Direction::Out));
    let before = rig.pool.stats().bounced;
    let mut buffer = rig.ehci.dma().paged_device().allocate(1 << 20).unwrap();
    for round in 0..3u8 {
        rig.shared.borrow_mut().source = (0..2048).map(|at| vec![at as u8 ^ round; 512]).collect();
        let qtds = rig.ehci.statistics().qtds;
        let lent = Bounced::from(buffer.lend_from_device(1 << 20).unwrap());
        let id = rig.ehci.submit(input, Request::new(lent)).unwrap();
        let (bytes, lent) = rig.finish(id);
        buffer = lent.reclaim().unwrap();
        assert_eq!(bytes, 1 << 20);
        assert_eq!(rig.ehci.statistics().qtds - qtds, 52);
        assert!(
            buffer
                .chunks(512)
                .enumerate()
                .all(|(at, packet)| packet == [at as u8 ^ round; 512])
        );

        buffer[..5].copy_from_slice(b"hello");
        let lent = Bounced::from(buffer.lend_to_device(5).unwrap());
        let id = rig.ehci.submit(output, Request::new(lent)).unwrap();
        buffer = rig.finish(id).1.reclaim().unwrap();
        assert_eq!(rig.shared.borrow_mut().sink.pop().unwrap(), b"hello");
    }
    assert_eq!(rig.pool.stats().bounced, before, "no byte was copied");
    assert!(rig.pool.stats().direct >= 3 << 20);
}

#[test]
fn a_lent_buffer_is_used_in_place_and_lent_again() {
    let mut rig = rig();
    let (input, output) = (rig.open(5, Direction::In), rig.open(4, Direction::Out));
    let before = rig.pool.stats();
    let device = rig.ehci.dma().device();
    let lent = device.allocate(512).unwrap().lend_from_device(512);
    let mut data = Bounced::from(lent.unwrap());
    for round in 0..3 {
        rig.shared.borrow_mut().source.push_back(vec![round; 512]);
        let id = rig.ehci.submit(input, Request::new(data)).unwrap();
        let bytes;
        (bytes, data) = rig.finish(id);
        assert_eq!((bytes, data.size()), (512, 512));
        assert_eq!(data.bytes().unwrap(), [round; 512]);
        assert_eq!(data.size(), 0, "the CPU's: not for a device");
        assert!(data.lend_again());
        assert_eq!(data.size(), 512);
    }
    let lent = device.allocate(512).unwrap().lend_to_device(5);
    let mut data = Bounced::from(lent.unwrap());
    for round in 0..3 {
        data.bytes_mut().unwrap()[..6].copy_from_slice(&[round; 6]);
        assert!(data.lend_again());
        let id = rig.ehci.submit(output, Request::new(data)).unwrap();
        data = rig.finish(id).1;
        // As many as were lent before.
        assert_eq!(rig.shared.borrow_mut().sink.pop().unwrap(), [round; 5]);
    }
    let after = rig.pool.stats();
    assert_eq!(after.bounced, before.bounced, "no byte was copied");
    // Once each before the loop, and for each round.
    assert_eq!(after.direct - before.direct, 4 * 512 + 4 * 5);

    let mut copy = crate::memory::Dma::incoming(rig.ehci.dma(), 512).unwrap();
    assert!(copy.bytes().is_none() && !copy.lend_again());
    assert_eq!(copy.size(), 512, "and it is as it was");
}

#[test]
fn everything_that_the_controller_touches_lies_in_the_pool() {
    let mut rig = rig();
    let pipe = rig.open(4, Direction::Out);
    let buffer = crate::memory::Dma::outgoing(rig.ehci.dma(), &[1; 100_000]).unwrap();
    let id = rig.ehci.submit(pipe, Request::new(buffer)).unwrap();
    rig.finish(id);
    let pool = MEM2..MEM2 + BYTES as u32;
    assert!(pool.contains(&rig.ehci.memory.frame_list()));
    let state = rig.machine.state.borrow();
    assert!(!state.moved.is_empty());
    assert!(
        state
            .moved
            .iter()
            .all(|(bus, size)| pool.contains(bus) && pool.contains(&(bus + *size as u32 - 1)))
    );
}

#[test]
fn the_pool_is_empty_when_the_driver_is_gone_whatever_was_under_way() {
    let mut rig = rig();
    let pipe = rig.open(5, Direction::In);
    let buffer = rig.ehci.dma().device().allocate(4096).unwrap();
    let lent = Bounced::from(buffer.lend_from_device(4096).unwrap());
    rig.ehci.submit(pipe, Request::new(lent)).unwrap();
    let bounced = crate::memory::Dma::incoming(rig.ehci.dma(), 100_000).unwrap();
    rig.ehci.submit(pipe, Request::new(bounced)).unwrap();
    rig.machine.advance(1000);
    let pool = rig.pool;
    drop(rig);
    let stats = pool.stats();
    assert_eq!((stats.live, stats.quarantined, stats.used), (0, 0, 0));
}

#[test]
fn descriptors_are_words_of_the_pool() {
    let (pool, _) = pool();
    let dma = Bounce::new(pool, Constraints::NONE).unwrap();
    let memory = crate::memory::Dma::coherent(&dma, 8192).unwrap();
    assert_eq!((memory.size(), memory.bus_address() % 4096), (8192, 0));
    memory.store(8188, 0x1234_5678);
    assert_eq!(memory.load(8188), 0x1234_5678);
    // Beyond the end is nothing.
    memory.store(8192, 1);
    assert_eq!(memory.load(8192), 0);
}
