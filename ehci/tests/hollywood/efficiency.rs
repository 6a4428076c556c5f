//! What a sequential read costs on the bus and at the controller, with a stick that is never the slow one.

use super::session::{self, Device, endpoint};
use super::wii::{Driver, TrackedBuffer, Wii, on_a_wii};
use ehci::memory::Buffer;
use ehci::{Direction, Interrupt, Kind, Part, PortChange, Request, TransferId};
use hollywood_sim::controller::Statistics;
use hollywood_sim::device::disk::Disk;
use hollywood_sim::device::{Function, MassStorage};

const MIB: usize = 1 << 20;
/// A transfer: four full qTDs.
const WINDOW: usize = 80 << 10;

fn contents() -> Vec<u8> {
    (0..2 * MIB as u32)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect()
}

/// A buffer of the pool, placed at a page and lent to the controller: nothing is copied.
fn lend<'p>(ehci: &Driver<'p>, size: usize) -> TrackedBuffer<'p> {
    let owned = ehci.dma().bounce().paged_device().allocate(size).unwrap();
    ehci.dma()
        .buffer(owned.lend_from_device(size).unwrap().into())
}

/// Reads one mebibyte by one command whose data are queued in pieces, two ahead; returns the data, and what the controller did
/// meanwhile.
fn read_a_mebibyte(wii: &Wii<'_>, ehci: &mut Driver<'_>, device: &Device) -> (Vec<u8>, Statistics) {
    let mut command = [0; 31];
    command[..4].copy_from_slice(b"USBC");
    command[8..12].copy_from_slice(&(MIB as u32).to_le_bytes());
    command[12] = 0x80;
    command[14] = 10;
    command[15..25].copy_from_slice(&[0x28, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
    session::bulk_out(wii, ehci, device.output, &command).unwrap();
    let before = wii.controller.statistics();
    let mut data = vec![];
    let mut asked = 0;
    let mut queue: Vec<TransferId> = vec![];
    while data.len() < MIB {
        while asked < MIB && queue.len() < 3 {
            let size = WINDOW.min(MIB - asked);
            let request = Request {
                part: Part::new(asked != 0, asked + size < MIB),
                ..Request::new(lend(ehci, size))
            };
            queue.push(ehci.submit(device.input, request).unwrap());
            asked += size;
        }
        let end = session::finish(wii, ehci, queue.remove(0));
        assert_eq!(end.status, Ok(()));
        let owned = end.buffer.unwrap().into_inner().unwrap().reclaim().unwrap();
        data.extend(&owned[..end.bytes]);
    }
    let after = wii.controller.statistics();
    assert_eq!(
        session::bulk_in(wii, ehci, device.input, 13).unwrap()[12],
        0
    );
    (data, difference(after, before))
}

fn difference(after: Statistics, before: Statistics) -> Statistics {
    Statistics {
        microframes: after.microframes - before.microframes,
        transactions: after.transactions - before.transactions,
        packets: after.packets - before.packets,
        bytes: after.bytes - before.bytes,
        naks: after.naks - before.naks,
        qtds: after.qtds - before.qtds,
        fetches: after.fetches - before.fetches,
        doorbells: after.doorbells - before.doorbells,
        interrupts: after.interrupts - before.interrupts,
        bus_bytes: after.bus_bytes - before.bus_bytes,
        missed: after.missed - before.missed,
    }
}

#[test]
fn a_sequential_read_fills_the_bus_and_costs_little_else() {
    on_a_wii(1024, 0, |wii, mut ehci| {
        let interrupt = Box::leak(Box::new(Interrupt::new()));
        ehci.enable_interrupts(interrupt);
        let mut stick = MassStorage::new([Disk::of(512, contents())]);
        stick.latency = 0;
        wii.controller.plug(0, stick.plug());
        let change = session::port_event(wii, &mut ehci, 0, 500);
        assert_eq!(change, Some(PortChange::Attached));
        let mut device = Device::enumerate(wii, &mut ehci, 0).unwrap();
        device.make_ready(wii, &mut ehci).unwrap();
        // The queue head of the last endpoint is gone.
        for _ in 0..80 {
            wii.step(&mut ehci);
        }
        let (copied, submitted) = (wii.pool.stats().bounced, ehci.statistics().transfers);
        let (data, did) = read_a_mebibyte(wii, &mut ehci, &device);
        assert!(data == contents()[..MIB]);
        // Thirteen bulk packets of 512 bytes fit into a microframe (USB 2.0, table 5-10).
        let slots = 13 * did.microframes;
        let used = 100.0 * did.packets as f64 / slots as f64;
        println!("ehci.qtds_per_mib {}", did.qtds);
        println!("ehci.doorbells_per_mib {}", did.doorbells);
        println!("ehci.interrupts_per_mib {}", did.interrupts);
        println!("ehci.bus_utilisation {used:.1} %");
        assert_eq!(did.packets, 2048);
        assert!(used >= 95.0, "{used} % of the slots: {did:?}");
        assert!(did.qtds <= 53, "{did:?}");
        assert_eq!(did.doorbells, 0);
        let submitted = u64::from(ehci.statistics().transfers - submitted);
        // The command and its status besides the data.
        assert!(did.interrupts <= submitted - 2, "{did:?} for {submitted}");
        // What was copied is the command and the status.
        assert_eq!(wii.pool.stats().bounced - copied, 31 + 13);
        device.close(&mut ehci);
    });
}

#[test]
fn one_doorbell_is_rung_for_a_queue_head_and_none_for_a_transfer() {
    on_a_wii(128, 0, |wii, mut ehci| {
        wii.controller.plug(0, super::source::Source::new().plug());
        let change = session::port_event(wii, &mut ehci, 0, 500);
        assert_eq!(change, Some(PortChange::Attached));
        let device = Device::enumerate(wii, &mut ehci, 0).unwrap();
        wii.settle(&mut ehci);
        let before = wii.controller.statistics().doorbells;
        for _ in 0..20 {
            session::bulk_out(wii, &mut ehci, device.output, &[1; 2000]).unwrap();
        }
        assert_eq!(wii.controller.statistics().doorbells, before);
        let pipes: Vec<_> = (3..8)
            .map(|number| {
                let bulk = Kind::Bulk(Direction::In);
                ehci.open(&endpoint(device.address, number, bulk, 0))
                    .unwrap()
            })
            .collect();
        // One doorbell serves all that left before it was rung.
        for pipe in pipes {
            ehci.close(pipe);
        }
        for _ in 0..40 {
            wii.step(&mut ehci);
        }
        assert_eq!(wii.controller.statistics().doorbells, before + 1);
        device.close(&mut ehci);
        wii.settle(&mut ehci);
        assert!(Buffer::size(&lend(&ehci, 4096)) == 4096);
    });
}
