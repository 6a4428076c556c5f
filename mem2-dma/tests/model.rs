//! The books against a model that is too simple to be wrong: same placements, same refusals, same facts in the errors.

mod common;

use std::panic::Location;

use common::Random;
use mem2_dma::*;

static OWNER: Owner = Owner {
    device: 1,
    caller: Location::caller(),
    reserved: false,
};

fn table<const SLOT: usize>(slots: usize, records: usize) -> Table<'static> {
    let words = vec![0; GROUP_WORDS * (slots.div_ceil(128))].leak();
    let longest = vec![0; words.len()].leak();
    let records = Box::leak((0..records).map(|_| Record::FREE).collect::<Box<[_]>>());
    Table::new(
        words,
        longest,
        records,
        slots * SLOT,
        SLOT,
        Reserve::default(),
    )
    .unwrap()
}

/// First fit over booleans.
struct Naive<const SLOT: usize> {
    free: Vec<bool>,
    live: usize,
    records: usize,
}

impl<const SLOT: usize> Naive<SLOT> {
    fn longest(&self) -> usize {
        self.free
            .split(|free| !free)
            .map(<[bool]>::len)
            .max()
            .unwrap_or(0)
    }

    fn refuse(&self, len: u32) -> Error {
        let free = self.free.iter().filter(|free| **free).count() * SLOT;
        let len = len as usize;
        if free < len {
            Error::Exhausted { len, free }
        } else {
            Error::Fragmented {
                len,
                largest_run: self.longest() * SLOT,
            }
        }
    }

    fn map(&mut self, len: u32) -> Result<usize, Error> {
        let count = (len as usize).div_ceil(SLOT);
        let max = self.free.len() * SLOT;
        if len == 0 {
            return Err(Error::Empty);
        }
        if len as usize > max {
            return Err(Error::TooLarge {
                len: len as usize,
                max,
            });
        }
        if self.live == self.records {
            return Err(Error::TooManyLive { live: self.live });
        }
        let start = self
            .free
            .windows(count)
            .position(|run| run.iter().all(|free| *free));
        let start = start.ok_or_else(|| self.refuse(len))?;
        self.free[start..start + count].fill(false);
        self.live += 1;
        Ok(start)
    }
}

fn same_as_the_model<const SLOT: usize>(
    slots: usize,
    records: usize,
    longest: u32,
    commands: usize,
    seed: u32,
) {
    let mut random = Random(seed);
    let mut table = table::<SLOT>(slots, records);
    let mut model = Naive::<SLOT> {
        free: vec![true; slots],
        live: 0,
        records,
    };
    let mut live: Vec<(Placed, usize, usize)> = Vec::new();
    let mut dead: Vec<Handle> = Vec::new();
    let mut most = 0;
    for _ in 0..commands {
        // Waves: mostly mapping, then mostly unmapping.
        if random.below(100) < if model.live % 97 < 60 { 60 } else { 45 } {
            let len = if random.below(3) == 0 {
                random.below(longest + 1)
            } else {
                random.below(4 * SLOT as u32)
            };
            let placed = table.map_single(len, &OWNER);
            let expected = model.map(len);
            assert_eq!(
                placed.map(|placed| placed.offset as usize),
                expected.map(|start| start * SLOT),
                "{len} bytes"
            );
            if let (Ok(placed), Ok(start)) = (placed, expected) {
                live.push((placed, start, (len as usize).div_ceil(SLOT)));
            }
        } else if !live.is_empty() {
            let (placed, start, count) = live.swap_remove(random.below(live.len() as u32) as usize);
            assert_eq!(table.unmap_single(placed.handle), Ok(()));
            model.free[start..start + count].fill(true);
            model.live -= 1;
            dead.push(placed.handle);
        }
        let used = model.free.iter().filter(|free| !**free).count() * SLOT;
        most = most.max(used);
        assert_eq!(
            (
                table.live(),
                table.used_bytes() as usize,
                table.high_water_bytes() as usize
            ),
            (model.live, used, most)
        );
        if !dead.is_empty() {
            let stale = random.pick(&dead);
            assert_eq!(
                table.unmap_single(stale),
                Err(BadHandle::Stale),
                "an old handle frees nothing"
            );
        }
    }
    for (placed, ..) in live {
        table.unmap_single(placed.handle).unwrap();
    }
    assert_eq!((table.live(), table.used_bytes()), (0, 0));
    assert_eq!(
        table
            .map_single(table.bytes(), &OWNER)
            .map(|placed| placed.offset),
        Ok(0),
        "all of it is one run again"
    );
}

#[test]
fn small_pools_place_and_refuse_as_the_model_does() {
    for slots in [1, 2, 5, 31, 32, 33, 64, 127, 128, 129, 200] {
        same_as_the_model::<512>(
            slots,
            1 + slots / 2,
            slots as u32 * 512 + 600,
            2000,
            slots as u32,
        );
    }
}

#[test]
fn large_pools_place_and_refuse_as_the_model_does() {
    same_as_the_model::<32>(4096, 4096, 64 * 32, 4000, 11);
    same_as_the_model::<2048>(4096, 300, 100 * 2048, 3000, 12);
    same_as_the_model::<512>(1000, 1000, 200 * 512, 4000, 13);
}

/// The lowest place for `len` bytes that satisfies everything, found byte by byte.
fn naive_place(
    free: &[bool],
    slot: u32,
    len: u32,
    constraints: (u32, u32, u32, u32),
    extents: &[Extent],
) -> Option<u32> {
    let (first, last, align, boundary) = constraints;
    let bus = |offset: u32| {
        let mut start = 0;
        extents.iter().find_map(|extent| {
            let within = (offset >= start && offset - start < extent.len)
                .then(|| extent.bus.get() + (offset - start));
            start += extent.len;
            within
        })
    };
    let bytes = free.len() as u32 * slot;
    (0..bytes.checked_sub(len)? + 1).find(|&offset| {
        let Some(start) = bus(offset) else {
            return false;
        };
        start % align == 0
            && start >= first
            && start + len - 1 <= last
            && (boundary == 0 || start / boundary == (start + len - 1) / boundary)
            && bus(offset + len - 1) == Some(start + len - 1)
            && (offset..offset + len).all(|at| free[(at / slot) as usize])
    })
}

#[test]
fn every_occupancy_of_7_slots_is_placed_exactly_under_every_constraint() {
    const SLOT: u32 = 32;
    const SLOTS: usize = 7;
    let two_pieces = [
        Extent {
            bus: BusAddr::new(0x1000),
            len: 96,
        },
        Extent {
            bus: BusAddr::new(0x1080),
            len: 128,
        },
    ];
    let touching = [Extent {
        bus: BusAddr::new(0x2000),
        len: 224,
    }];
    let odd = [Extent {
        bus: BusAddr::new(0x1FE8),
        len: 224,
    }];
    let mut refused = 0;
    for extents in [&two_pieces[..], &touching, &odd] {
        let base = extents[0].bus.get();
        let extent = |offset: u32| {
            let mut start = 0;
            for piece in extents {
                if offset - start < piece.len {
                    let within = offset - start;
                    return Some(Extent {
                        bus: piece.bus.checked_add(within).unwrap(),
                        len: piece.len - within,
                    });
                }
                start += piece.len;
            }
            None
        };
        for pattern in 0u32..1 << SLOTS {
            let free: Vec<bool> = (0..SLOTS).map(|slot| pattern >> slot & 1 != 0).collect();
            let mut table = table::<32>(SLOTS, SLOTS + 1);
            let all: Vec<_> = (0..SLOTS)
                .map(|_| table.map_single(SLOT, &OWNER).unwrap())
                .collect();
            for (placed, free) in all.iter().zip(&free) {
                if *free {
                    table.unmap_single(placed.handle).unwrap();
                }
            }
            for (first, last) in [
                (0, u32::MAX),
                (base + 40, base + 200),
                (base + 64, u32::MAX),
            ] {
                for align in [1, 8, 32, 64, 128] {
                    for boundary in [0, 32, 64, 128, 256] {
                        let constraints = Constraints::NONE
                            .window(BusAddr::new(first), BusAddr::new(last))
                            .align(align)
                            .boundary(boundary);
                        for len in [1, 24, 32, 33, 64, 65, 100, 128, 224] {
                            let expected = naive_place(
                                &free,
                                SLOT,
                                len,
                                (first, last, align, boundary),
                                extents,
                            );
                            let placed =
                                table.map_single_constrained(len, &OWNER, &constraints, extent);
                            assert_eq!(
                                placed.map(|placed| placed.offset).ok(),
                                expected,
                                "{len} bytes in {free:?} at {extents:?} under {constraints:?}"
                            );
                            match placed {
                                Ok(placed) => table.unmap_single(placed.handle).unwrap(),
                                Err(_) => refused += 1,
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "the test must see refusals");
}

#[test]
fn a_mapping_covers_every_slot_that_it_touches() {
    // A pool that starts 8 bytes before a 64-byte boundary on the bus: an aligned mapping starts inside a slot and ends in another.
    let mut table = table::<32>(4, 4);
    let constraints = Constraints::NONE.align(64);
    let extent = |offset: u32| {
        (offset < 128).then(|| Extent {
            bus: BusAddr::new(0x1038 + offset),
            len: 128 - offset,
        })
    };
    let placed = table
        .map_single_constrained(32, &OWNER, &constraints, extent)
        .unwrap();
    assert_eq!((placed.offset, table.used_bytes()), (8, 64));
    table.unmap_single(placed.handle).unwrap();
    assert_eq!(table.used_bytes(), 0);
}

#[test]
fn double_stale_and_foreign_handles_change_nothing() {
    let (mut one, mut other) = (table::<512>(8, 4), table::<512>(8, 4));
    let first = one.map_single(512, &OWNER).unwrap();
    let theirs = other.map_single(512, &OWNER).unwrap();
    assert_eq!(one.unmap_single(theirs.handle), Err(BadHandle::Foreign));
    assert_eq!(one.unmap_single(first.handle), Ok(()));
    assert_eq!(one.unmap_single(first.handle), Err(BadHandle::Stale));
    let second = one.map_single(512, &OWNER).unwrap();
    assert_eq!(
        second.offset, first.offset,
        "the same slot and the same record serve again"
    );
    assert_eq!(one.unmap_single(first.handle), Err(BadHandle::Stale));
    assert_eq!(one.used_bytes(), 512);
    assert_eq!(one.check_handle(second.handle), Ok(()));
    assert_eq!(one.check_handle(first.handle), Err(BadHandle::Stale));
    assert_eq!(one.check_handle(theirs.handle), Err(BadHandle::Foreign));
}

/// 16 slots of 512 bytes, six of them in three cells of 1024 that are kept, and one who may use those.
fn with_three_cells() -> (Table<'static>, Owner) {
    let words = vec![0; GROUP_WORDS].leak();
    let longest = vec![0; words.len()].leak();
    let records = Box::leak((0..6).map(|_| Record::FREE).collect::<Box<[_]>>());
    let reserve = Reserve {
        mappings: 3,
        bytes: 1000,
    };
    let table = Table::new(words, longest, records, 16 * 512, 512, reserve).unwrap();
    assert_eq!((table.bytes(), table.open_bytes()), (16 * 512, 10 * 512));
    let urgent = Owner {
        reserved: true,
        ..OWNER
    };
    (table, urgent)
}

#[test]
fn a_reserve_is_there_for_those_who_may_use_it_whatever_the_rest_do() {
    let (mut table, urgent) = with_three_cells();
    // Bulk takes all the room, then all the records that it may have.
    let bulk = table.map_single(10 * 512, &OWNER).unwrap();
    assert_eq!(
        table.map_single(1, &OWNER),
        Err(Error::Exhausted { len: 1, free: 0 })
    );
    let mut cells: Vec<_> = (0..3)
        .map(|_| table.map_single(1000, &urgent).unwrap())
        .collect();
    assert_eq!(
        cells.iter().map(|cell| cell.offset).collect::<Vec<_>>(),
        [5120, 6144, 7168]
    );
    assert_eq!(table.used_bytes(), 16 * 512);
    assert_eq!(
        table.map_single(1, &urgent),
        Err(Error::Exhausted { len: 1, free: 0 })
    );
    table.unmap_single(cells.swap_remove(1).handle).unwrap();
    assert_eq!(
        table.map_single(1025, &urgent),
        Err(Error::Exhausted { len: 1025, free: 0 })
    );
    assert_eq!(
        table.map_single(8, &urgent).map(|cell| cell.offset),
        Ok(6144)
    );
    table.unmap_single(bulk.handle).unwrap();
    // The open room first: the reserve is for need.
    let open: Vec<_> = (0..3)
        .map(|_| table.map_single(8, &urgent).map(|placed| placed.offset))
        .collect();
    assert_eq!(open, [Ok(0), Ok(512), Ok(1024)]);
    assert_eq!(
        table.map_single(8, &OWNER),
        Err(Error::TooManyLive { live: 6 })
    );
}

#[test]
fn a_kept_cell_is_given_where_constraints_allow_and_no_byte_of_the_next_one() {
    let (mut table, urgent) = with_three_cells();
    let bulk = table.map_single(10 * 512, &OWNER).unwrap();
    // Aligned to 64 bytes, a mapping begins 8 bytes into a cell.
    let extent = |offset: u32| {
        (offset < 8192).then(|| Extent {
            bus: BusAddr::new(0x1_0038 + offset),
            len: 8192 - offset,
        })
    };
    let aligned = Constraints::NONE.align(64);
    let mut map = |len, owner, constraints| {
        let placed = table.map_single_constrained(len, owner, &constraints, extent)?;
        let used = table.used_bytes();
        table.unmap_single(placed.handle).unwrap();
        Ok((placed.offset, used))
    };
    assert_eq!(map(1016, &urgent, aligned), Ok((5128, 12 * 512)));
    let full = |len| Err(Error::Exhausted { len, free: 0 });
    assert_eq!(map(1017, &urgent, aligned), full(1017));
    assert_eq!(map(1, &OWNER, aligned), full(1));
    // A device that reaches the last cell alone.
    let last = aligned.window(BusAddr::new(0x1_0038 + 7168), BusAddr::new(0x1_0038 + 8191));
    assert_eq!(map(1016, &urgent, last), Ok((7176, 12 * 512)));
    assert_eq!(map(1017, &urgent, last), full(1017));
    table.unmap_single(bulk.handle).unwrap();
    assert_eq!((table.live(), table.used_bytes()), (0, 0));
}
