//! Every length and every alignment of a caller's slice, in both directions: all bytes right, and none past the end.

use super::session::{self, Device};
use super::source::{self, Source};
use super::wii::{Driver, Wii, is_every_length, on_a_wii, share_of_lengths};
use ehci::PortChange;
use ehci::memory::{Buffer, Dma};
use hollywood_sim::device::{Function, Peripheral};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What the bytes around a slice hold.
const AROUND: u8 = 0xee;

fn attach(wii: &Wii<'_>, ehci: &mut Driver<'_>) -> (Device, Rc<RefCell<Peripheral<Source>>>) {
    let device = Rc::new(RefCell::new(Source::new().plug()));
    wii.controller.plug(0, device.clone());
    let change = session::port_event(wii, ehci, 0, 500);
    assert_eq!(change, Some(PortChange::Attached));
    (Device::enumerate(wii, ehci, 0).unwrap(), device)
}

/// Fetches `len` bytes into a slice that begins `align` bytes after a multiple of 64.
fn fetch(wii: &Wii<'_>, ehci: &mut Driver<'_>, device: &Device, len: usize, align: usize) {
    session::control_out(wii, ehci, device.control, source::order(len)).unwrap();
    let buffer = ehci.dma().incoming(len.max(1)).unwrap();
    let id = ehci
        .submit(device.input, ehci::Request::new(buffer))
        .unwrap();
    let end = session::finish(wii, ehci, id);
    assert_eq!((end.status, end.bytes), (Ok(()), len));
    let (mut memory, start) = around(len, align);
    end.buffer
        .unwrap()
        .copy_received(&mut memory[start..start + len]);
    assert_eq!(
        memory[start..start + len],
        source::bytes(len),
        "{len} at {align}"
    );
    let outside = [&memory[..start], &memory[start + len..]].concat();
    assert!(
        outside.iter().all(|&byte| byte == AROUND),
        "{len} at {align}"
    );
    // What fills its last packet is followed by an empty one.
    if len != 0 && len.is_multiple_of(512) {
        assert_eq!(session::bulk_in(wii, ehci, device.input, 1), Ok(vec![]));
    }
}

/// Sends `len` bytes from a slice that begins `align` bytes after a multiple of 64.
fn send(
    wii: &Wii<'_>,
    ehci: &mut Driver<'_>,
    device: &Device,
    seen: &RefCell<Peripheral<Source>>,
    len: usize,
    align: usize,
) {
    let (mut memory, start) = around(len, align);
    memory[start..start + len].copy_from_slice(&source::bytes(len));
    let buffer = (len != 0).then(|| ehci.dma().outgoing(&memory[start..start + len]).unwrap());
    let request = ehci::Request {
        buffer,
        zero_packet: false,
        trailer: 0,
        part: ehci::Part::Whole,
        quiet: false,
        timeout_us: None,
    };
    let id = ehci.submit(device.output, request).unwrap();
    let end = session::finish(wii, ehci, id);
    assert_eq!((end.status, end.bytes), (Ok(()), len));
    let function = &mut seen.borrow_mut().function;
    assert_eq!(function.received, source::bytes(len), "{len} at {align}");
    assert_eq!(function.packets, len.div_ceil(512).max(1));
    function.received.clear();
    function.packets = 0;
}

fn around(len: usize, align: usize) -> (Vec<u8>, usize) {
    let memory = vec![AROUND; len + 256];
    let start = memory.as_ptr().align_offset(64) + align;
    (memory, start)
}

fn alignments(len: usize) -> Vec<usize> {
    let step = share_of_lengths();
    if is_every_length() || matches!(len, 0 | 1 | 31 | 32 | 33 | 64 | 511 | 512 | 513 | 4096) {
        (0..64).step_by(step).collect()
    } else if len.is_multiple_of(step) {
        vec![len % 64]
    } else {
        vec![]
    }
}

#[test]
fn every_length_up_to_a_page_arrives_at_every_alignment() {
    on_a_wii(128, 1, |wii, mut ehci| {
        let (device, _) = attach(wii, &mut ehci);
        for len in 0..=4096 {
            for align in alignments(len) {
                fetch(wii, &mut ehci, &device, len, align);
            }
        }
    });
}

#[test]
fn every_length_up_to_a_page_is_sent_from_every_alignment() {
    on_a_wii(128, 2, |wii, mut ehci| {
        let (device, seen) = attach(wii, &mut ehci);
        for len in 0..=4096 {
            for align in alignments(len) {
                send(wii, &mut ehci, &device, &seen, len, align);
            }
        }
    });
}

#[test]
fn lengths_around_qtds_and_windows_arrive_and_are_sent() {
    on_a_wii(512, 3, |wii, mut ehci| {
        let (device, seen) = attach(wii, &mut ehci);
        for middle in [20_480, 65_536] {
            for len in middle - 33..=middle + 33 {
                let align = len % 64;
                fetch(wii, &mut ehci, &device, len, align);
                send(wii, &mut ehci, &device, &seen, len, align);
            }
        }
    });
}

#[test]
fn data_arrive_in_room_that_the_cpu_has_stored_into() {
    on_a_wii(128, 6, |wii, mut ehci| {
        let (device, _) = attach(wii, &mut ehci);
        for len in [1, 33, 512, 4096, 20_000] {
            // Freed without having been lent, it leaves modified lines behind.
            let room = ehci.dma().bounce().paged_device().allocate(64 << 10);
            room.unwrap().fill(0xdd);
            fetch(wii, &mut ehci, &device, len, 0);
        }
    });
}

/// The controller is anywhere in the queue, waits at its end, or has read that ahead.
#[test]
fn transfers_that_are_queued_at_any_moment_arrive_one_behind_the_other() {
    const PIECES: usize = 200;
    for seed in 1..=8 {
        on_a_wii(256, seed, |wii, mut ehci| {
            let (device, _) = attach(wii, &mut ehci);
            let mut random = seed;
            let mut below = |limit: u64| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (random >> 33) % limit
            };
            let sizes: Vec<_> = (0..PIECES)
                .map(|_| [512, 1024, 4096, 20_480, 24_576][below(5) as usize])
                .collect();
            let expected = source::bytes(sizes.iter().sum());
            let order = source::order(expected.len() + 1);
            session::control_out(wii, &mut ehci, device.control, order).unwrap();
            let (mut queued, mut ahead) = (VecDeque::new(), sizes.iter());
            let mut received = vec![];
            while received.len() < expected.len() {
                if queued.len() < 5
                    && let Some(&size) = ahead.next()
                {
                    let request = ehci::Request {
                        quiet: below(2) == 0,
                        ..ehci::Request::new(ehci.dma().incoming(size).unwrap())
                    };
                    queued.push_back(ehci.submit(device.input, request).unwrap());
                }
                for _ in 0..below(4) {
                    wii.step(&mut ehci);
                }
                let Some(end) = queued.front().and_then(|&id| ehci.take(id)) else {
                    continue;
                };
                queued.pop_front();
                assert_eq!(end.status, Ok(()));
                let start = received.len();
                received.resize(start + end.bytes, AROUND);
                let mut buffer = end.buffer.unwrap();
                buffer.copy_received(&mut received[start..]);
            }
            assert!(received == expected);
            assert!(queued.is_empty() && ahead.next().is_none());
        });
    }
}
