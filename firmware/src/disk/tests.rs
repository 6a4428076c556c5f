//! The cache: right bytes at every place, and as few commands as promised.

use super::*;
use crate::testing::{RamStick, Random, contents};
use embassy_futures::block_on;
use hadris_storage::async_::BlockDevice as _;
use std::vec;

const BYTES: usize = 10 * LINE + 512;

fn stick(block_size: u32) -> RamStick {
    RamStick::new(block_size, contents(1, BYTES / 4096 * 4096))
}

#[test]
fn reads_of_any_place_and_length_give_the_bytes_of_the_stick() {
    for block_size in [512, 1024, 2048, 4096] {
        let mut stick = stick(block_size);
        let data = stick.data.clone();
        let mut cache = vec![0; 2 * LINE];
        let disk = Disk::new(&mut stick, &mut cache).unwrap();
        let mut random = Random(block_size.into());
        for _ in 0..500 {
            let length = random.below(2 * LINE as u64) as usize;
            let offset = random.below((data.len() - length) as u64) as usize;
            let right = &data[offset..offset + length];
            let mut buffer = vec![0; length];
            block_on(disk.read(offset as u64, &mut buffer)).unwrap();
            assert_eq!(buffer, right);
            let mut buffer = vec![0; 2 * LINE + 4096];
            let range =
                block_on(disk.read_into(offset as u64, length as u64, &mut buffer)).unwrap();
            assert!(length == 0 || !range.is_empty());
            assert_eq!(buffer[range.clone()], right[..range.len()]);
        }
    }
}

#[test]
fn bytes_that_were_read_are_not_asked_for_again() {
    let mut stick = stick(512);
    let mut cache = vec![0; 2 * LINE];
    let disk = Disk::new(&mut stick, &mut cache).unwrap();
    block_on(async {
        for offset in 0..2 * LINE as u64 {
            disk.read(offset, &mut [0]).await.unwrap();
        }
    });
    assert_eq!(disk.into_device().reads, [(0, 32), (32, 32)]);
}

#[test]
fn the_line_that_was_used_longest_ago_is_replaced() {
    let mut stick = stick(512);
    let mut cache = vec![0; 2 * LINE];
    let disk = Disk::new(&mut stick, &mut cache).unwrap();
    block_on(async {
        for line in [0, 1, 0, 2, 0, 1] {
            disk.read(line * LINE as u64, &mut [0]).await.unwrap();
        }
    });
    assert_eq!(
        disk.into_device().reads,
        [(0, 32), (32, 32), (64, 32), (32, 32)]
    );
}

#[test]
fn a_line_that_could_not_be_filled_is_not_used() {
    let mut stick = stick(512);
    let data = stick.data.clone();
    stick.bad.extend(32..64);
    let mut cache = vec![0; LINE];
    let disk = Disk::new(&mut stick, &mut cache).unwrap();
    block_on(async {
        let mut byte = [0];
        disk.read(7, &mut byte).await.unwrap();
        let error = disk.read(LINE as u64 + 700, &mut byte).await.unwrap_err();
        assert_eq!((error.block, error.blocks), (33, 1));
        disk.read(7, &mut byte).await.unwrap();
        assert_eq!(byte[0], data[7]);
    });
}

#[test]
fn good_blocks_beside_a_bad_one_can_be_read() {
    let mut stick = stick(512);
    let data = stick.data.clone();
    stick.bad.insert(5);
    let mut cache = vec![0; 2 * LINE];
    let disk = Disk::new(&mut stick, &mut cache).unwrap();
    block_on(async {
        for block in 0..32 {
            let mut buffer = [0; 512];
            let result = disk.read(block * 512, &mut buffer).await;
            match block {
                5 => assert_eq!(result.unwrap_err().block, 5),
                _ => assert_eq!(buffer, data[block as usize * 512..][..512]),
            }
        }
    });
}

#[test]
fn a_large_read_names_the_first_bad_block() {
    for bad in [0, 1, 63, 64, 99] {
        let mut stick = stick(512);
        stick.bad.extend([bad, 99]);
        let mut cache = vec![0; LINE];
        let disk = Disk::new(&mut stick, &mut cache).unwrap();
        let mut buffer = vec![0; 100 * 512];
        let error = block_on(disk.read_into(0, 100 * 512, &mut buffer)).unwrap_err();
        assert_eq!((error.block, error.blocks), (bad, 1));
    }
}

#[test]
fn nothing_beyond_the_end_is_read() {
    let mut stick = stick(512);
    let end = stick.data.len() as u64;
    let mut cache = vec![0; LINE];
    let disk = Disk::new(&mut stick, &mut cache).unwrap();
    for (offset, length) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
        let error = block_on(disk.read(offset, &mut vec![0; length])).unwrap_err();
        assert_eq!(error.cause, Cause::OutOfRange);
    }
    let mut buffer = vec![0; 4 * LINE];
    let error = block_on(disk.read_into(end - 512, 3 * LINE as u64, &mut buffer)).unwrap_err();
    assert_eq!(error.cause, Cause::OutOfRange);
}

#[test]
fn nothing_beyond_the_end_of_a_window_is_read() {
    let mut stick = stick(1024);
    let data = stick.data.clone();
    let mut cache = vec![0; LINE];
    let disk = Disk::new(&mut stick, &mut cache).unwrap();
    let read = |first, length| {
        let mut buffer = vec![0; length];
        // Blocks 3 and 4 of the disk: four sectors.
        let mut window = disk.window(3, 2);
        let (first, mut state) = (BlockIndex::new(first), 0);
        // Not `read_blocks`: that is the library's, with a check of its own.
        let read = poll_fn(|cx| window.poll_read_blocks(&mut state, cx, first, &mut buffer));
        block_on(disk.drive(read))
            .map(|()| buffer)
            .map_err(|error| error.kind())
    };
    assert_eq!(read(0, 2048).as_deref(), Ok(&data[3072..5120]));
    assert_eq!(read(3, 512).as_deref(), Ok(&data[4608..5120]));
    for (first, length) in [
        (4, 512),
        (3, 1024),
        (0, 2560),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
    ] {
        assert_eq!(read(first, length), Err(ErrorKind::InvalidInput), "{first}");
    }
}
