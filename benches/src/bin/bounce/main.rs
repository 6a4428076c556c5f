//! What the bookkeeping of `mem2-dma` costs, whom it refuses and what it copies, beside what one would take instead.

use std::hint::black_box;
use std::panic::Location;

use benches::{counting, figure, finish, label, sample};
use mem2_dma::*;

mod rivals;
mod stream;

use rivals::{NextFit, Ours, Rival};
use stream::{Command, Outcome, Random, churn, commands};

static OWNER: Owner = Owner {
    device: 1,
    caller: Location::caller(),
    reserved: false,
};

/// A table over `SLOTS` slots of `SLOT` bytes.
fn table<const SLOT: usize>(slots: usize) -> Table<'static> {
    let words = vec![0; GROUP_WORDS * slots.div_ceil(GROUP_SLOTS as usize)].leak();
    let longest = vec![0; words.len()].leak();
    let records = Box::leak((0..slots).map(|_| Record::FREE).collect::<Box<[_]>>());
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

/// Takes two samples, of a map and of the unmap that follows; or one, of a refusal.
fn pair(table: &mut Table, name: &str, len: u32) {
    if let Ok(placed) = sample(label(format!("{name} map")), || {
        table.map_single(black_box(len), &OWNER)
    }) {
        sample(label(format!("{name} unmap")), || {
            table.unmap_single(black_box(placed.handle))
        })
        .unwrap()
    }
}

/// Maps and unmaps in one sample, as the goals are stated.
fn map_unmap(table: &mut Table, name: &str, len: u32) {
    let done = sample(label(name.to_owned()), || {
        let placed = table.map_single(black_box(len), &OWNER);
        placed.is_ok_and(|placed| table.unmap_single(placed.handle).is_ok())
    });
    assert!(done);
}

/// The states of a pool that the reference measured, and worse ones.
fn states<const SLOT: usize>(slots: usize, mut visit: impl FnMut(&str, &mut Table)) {
    let slot = SLOT as u32;
    let all = |table: &mut Table, slots_each: u32| {
        std::iter::from_fn(|| table.map_single(slots_each * slot, &OWNER).ok()).collect::<Vec<_>>()
    };
    visit("empty", &mut table::<SLOT>(slots));
    let mut packed = table::<SLOT>(slots);
    packed
        .map_single((slots as u32 * 9 / 10) * slot, &OWNER)
        .unwrap();
    visit("packed90", &mut packed);
    for (name, each, keep) in [
        ("comb", 1, 2),
        ("comb4", 4, 2),
        ("comb8", 8, 2),
        ("comb16", 16, 2),
        ("gaps31", 1, 32),
        ("gaps30", 1, 31),
        ("gaps127", 1, 128),
    ] {
        let mut comb = table::<SLOT>(slots);
        for (index, placed) in all(&mut comb, each).into_iter().enumerate() {
            if index % keep != 0 {
                comb.unmap_single(placed.handle).unwrap();
            }
        }
        visit(name, &mut comb);
    }
    let mut random = Random(0x1234_5678);
    for percent in [50, 90] {
        let mut table = table::<SLOT>(slots);
        for placed in all(&mut table, 1) {
            if random.below(100) >= percent {
                table.unmap_single(placed.handle).unwrap();
            }
        }
        visit(&format!("fragmented{percent}"), &mut table);
    }
    let mut full = table::<SLOT>(slots);
    full.map_single(slots as u32 * slot, &OWNER).unwrap();
    visit("full", &mut full);
}

/// Counts of the table by itself.
fn table_counts() {
    // Pools of 256 KiB and 1 MiB in the default slots of 512 bytes.
    for (name, len) in [("512b", 512), ("4k", 4096), ("16k", 16384), ("64k", 65536)] {
        map_unmap(
            &mut table::<512>(512),
            &format!("map_unmap.{name}.pool256k"),
            len,
        );
        map_unmap(
            &mut table::<512>(2048),
            &format!("map_unmap.{name}.pool1m"),
            len,
        );
    }
    for slots in [512, 4096] {
        states::<512>(slots, |state, table| {
            for run in [
                1,
                2,
                3,
                8,
                9,
                31,
                32,
                33,
                100,
                128,
                129,
                200,
                256,
                slots as u32 / 2,
                slots as u32,
            ] {
                pair(
                    table,
                    &format!("worst.{slots}slots.{state}.{run}"),
                    run * 512,
                );
            }
        });
        // A long history, every call of it.
        let mut table = table::<512>(slots);
        let mut live = Vec::new();
        let bytes = slots as u32 * 512;
        for (number, command) in commands(0xDEAD_BEEF, 2000, bytes, 90)
            .into_iter()
            .enumerate()
        {
            match command {
                Command::Map(len) => {
                    let name = format!("worst.{slots}slots.churn{number}");
                    let placed = sample(label(format!("{name} map")), || {
                        table.map_single(black_box(len), &OWNER)
                    });
                    live.push((name, placed));
                }
                Command::Unmap(index) => {
                    if let (name, Ok(placed)) = live.swap_remove(index) {
                        sample(label(format!("{name} unmap")), || {
                            table.unmap_single(black_box(placed.handle))
                        })
                        .unwrap();
                    }
                }
            }
        }
    }
}

/// How cost grows with the pool, with the mapping, and with how many mappings there are.
fn growth_counts() {
    for slots in [32, 128, 512, 2048, 4096] {
        map_unmap(
            &mut table::<512>(slots),
            &format!("growth.slots.typical.{slots}"),
            4096,
        );
        states::<512>(slots, |state, table| {
            for run in [1, 2, 8, 31, 100, 128, 200]
                .into_iter()
                .filter(|&run| run <= slots as u32)
            {
                pair(
                    table,
                    &format!("growth.slots.worst.{slots}.{state}.{run}"),
                    run * 512,
                );
            }
        });
    }
    for kib in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] {
        map_unmap(
            &mut table::<512>(2048),
            &format!("growth.length.{kib}"),
            kib << 10,
        );
    }
    for live in [1, 4, 16, 64, 256, 448] {
        let mut row = table::<512>(4096);
        // As many, with holes between them that are too small.
        let mut gaps = table::<512>(4096);
        let mut small = Vec::new();
        for _ in 0..live {
            row.map_single(4096, &OWNER).unwrap();
            gaps.map_single(4096, &OWNER).unwrap();
            small.push(gaps.map_single(512, &OWNER).unwrap());
        }
        for placed in small {
            gaps.unmap_single(placed.handle).unwrap();
        }
        map_unmap(&mut row, &format!("growth.mappings.row.{live}"), 4096);
        map_unmap(&mut gaps, &format!("growth.mappings.gaps.{live}"), 4096);
    }
}

#[repr(align(4096))]
struct Memory([u8; 1 << 20]);

/// Counts of whole mappings, lock and cache calls included, the copy apart.
fn pool_counts() {
    let memory = Box::leak(Box::new(Memory([0; 1 << 20])));
    let provider = Offset::new(&mut memory.0, BusAddr::new(0x1000_0000)).unwrap();
    let mut storage = Storage::<4, 64>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    for (name, constraints) in [
        ("plain", Constraints::NONE),
        ("boundary4k", Constraints::NONE.boundary(4096)),
    ] {
        let device = pool.attach(constraints).unwrap();
        for (size, len) in [("512b", 512), ("4k", 4096)] {
            sample(label(format!("mapping.{size}.{name}")), || {
                let mapping = device.map_from_device(black_box(len))?;
                black_box(mapping.bus());
                // SAFETY: there is no device.
                let done = unsafe { Quiesced::assert() };
                mapping.complete(&done, 0, &mut [])
            })
            .unwrap();
        }
    }
}

/// The same commands for everybody.
fn rival_counts() {
    for (pool, slots) in [("256k", 512u32), ("1m", 2048)] {
        let bytes = slots * 512;
        for mut rival in rivals::all(bytes) {
            let [map, unmap] = ["map", "unmap"]
                .map(|side| label(format!("rivals.{pool}.{} {side}", rival.name())));
            let mut live = Vec::new();
            for command in commands(7, 500, bytes, 75) {
                match command {
                    Command::Map(len) => live.push(sample(map, || rival.map(black_box(len)))),
                    Command::Unmap(index) => {
                        if let Some(address) = live.swap_remove(index) {
                            sample(unmap, || rival.unmap(black_box(address)));
                        }
                    }
                }
            }
        }
    }
}

/// Pools in which the streams run, their bytes, and how full they are kept in percent.
const POOLS: [(&str, u32, &[u32]); 3] = [
    ("256k", 256 << 10, &[90]),
    ("1m", 1 << 20, &[90]),
    ("8m", 8 << 20, &[50, 60, 70, 75, 80, 85, 90]),
];
/// Requests of one stream.
const REQUESTS: u32 = 30_000;

/// Who refuses how much.
fn refusals() {
    let mut avoidable = 0;
    for (pool, bytes, fills) in POOLS {
        for &fill in fills {
            let mut all = rivals::all(bytes);
            all.push(Box::new(NextFit::new(bytes)));
            for mut rival in all {
                let Outcome { refused, .. } = churn(&mut *rival, REQUESTS, bytes, fill);
                let name = rival.name();
                figure(
                    format_args!("rivals.refused.churn{fill}.{pool}.{name}"),
                    refused,
                );
            }
        }
        for rival in [
            &mut Ours::<512>::checked(bytes) as &mut dyn Rival,
            &mut Ours::<2048>::checked(bytes),
        ] {
            avoidable += churn(rival, REQUESTS, bytes, 90).avoidable;
        }
    }
    let (requests, exhaustive) = every_occupancy::<15>();
    figure("avoidable_refusals", f64::from(avoidable + exhaustive));
    figure(
        "avoidable_refusals.exhaustive_requests",
        f64::from(requests),
    );
}

/// Asks for every length in every occupancy of a pool of `SLOTS` slots. Returns how often, and how many of the refusals were avoidable.
fn every_occupancy<const SLOTS: u32>() -> (u32, u32) {
    let mut table = table::<32>(SLOTS as usize);
    // Where the table is told to put things: the only window that it has.
    let extent = |offset| {
        Some(Extent {
            bus: BusAddr::new(offset),
            len: SLOTS * 32 - offset,
        })
    };
    let mut held = [None; 32];
    let (mut requests, mut avoidable) = (0, 0);
    // One change at a time: a Gray code.
    for step in 1..1u32 << SLOTS {
        let slot = step.trailing_zeros();
        match held[slot as usize].take() {
            Some(placed) => {
                let placed: Placed = placed;
                table.unmap_single(placed.handle).unwrap();
            }
            None => {
                let (first, last) = (BusAddr::new(slot * 32), BusAddr::new(slot * 32 + 31));
                let there = Constraints::NONE.window(first, last);
                let placed = table.map_single_constrained(32, &OWNER, &there, extent);
                held[slot as usize] = Some(placed.unwrap());
            }
        }
        let free = &held[..SLOTS as usize];
        let longest = free.split(Option::is_some).map(<[_]>::len).max();
        for run in 1..=SLOTS {
            requests += 1;
            match table.map_single(run * 32, &OWNER) {
                Ok(placed) => table.unmap_single(placed.handle).unwrap(),
                Err(_) => avoidable += u32::from(longest.unwrap_or(0) >= run as usize),
            }
        }
    }
    (requests, avoidable)
}

/// What the bookkeeping takes, outside the pool and in it.
fn metadata() {
    let (bytes, len) = (1 << 20, 512);
    for mut rival in rivals::all(bytes) {
        let mut mappings = 0;
        while rival.map(len).is_some() {
            mappings += 1;
        }
        let name = rival.name();
        figure(
            format_args!("rivals.metadata_bytes.1m.{name}"),
            rival.metadata(mappings as usize) as f64,
        );
        // Of a pool filled with sectors, what holds none: headers, and rounding up to whole lines after them.
        let lost = f64::from(bytes - mappings * len) * 100.0 / f64::from(bytes);
        figure(format_args!("rivals.pool_lost.1m.{name}"), lost);
    }
    let bits =
        (GROUP_WORDS * (size_of::<u32>() + size_of::<u16>()) * 8) as f64 / f64::from(GROUP_SLOTS);
    figure("metadata_bits_per_slot", bits);
    figure("metadata_bytes_per_mapping", size_of::<Record>() as f64);
}

/// Bytes copied by a short receive, and by the direct path.
fn copies() {
    let memory = Box::leak(Box::new(Memory([0xEE; 1 << 20])));
    let provider = Offset::new(&mut memory.0, BusAddr::new(0x1000_0000)).unwrap();
    let mut storage = Storage::<4, 64>::new();
    let pool: Pool = Pool::new(&provider, &mut storage).unwrap();
    let device = pool.attach(Constraints::NONE).unwrap();
    // SAFETY: there is no device.
    let done = unsafe { Quiesced::assert() };
    let mut dst = [0x11; 4096];
    let mapping = device.map_from_device(4096).unwrap();
    mapping.bus();
    mapping.complete(&done, 100, &mut dst).unwrap();
    let changed = dst[100..].iter().filter(|&&byte| byte != 0x11).count();
    figure("copied_bytes.receive100of4096", pool.stats().bounced as f64);
    figure(
        "copied_bytes.receive100of4096.changed_beyond",
        changed as f64,
    );

    let before = pool.stats().bounced;
    let mut buffer = device.allocate(4096).unwrap();
    for _ in 0..100 {
        buffer = buffer.lend_to_device(4096).unwrap().reclaim(&done).unwrap();
        buffer = buffer
            .lend_from_device(4096)
            .unwrap()
            .reclaim(&done)
            .unwrap();
    }
    let stats = pool.stats();
    figure("copied_bytes.direct", (stats.bounced - before) as f64);
    figure("copied_bytes.direct.lent", stats.direct as f64);
}

fn main() {
    if counting() {
        table_counts();
        growth_counts();
        pool_counts();
        rival_counts();
    } else {
        refusals();
        metadata();
        copies();
    }
    finish();
}
