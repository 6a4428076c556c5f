//! What the bookkeeping costs: run on PowerPC under a tracing QEMU, every instruction between two markers is counted.
//!
//! `examples/count.rs` runs this program and counts. By itself it prints what needs no counting (refusals, copies), and with `counts` as its argument
//! the name of every sample in the order in which they were taken.

use std::cell::RefCell;
use std::hint::black_box;
use std::panic::Location;

use mem2_dma::*;

mod rivals;
mod stream;

use rivals::Rival;
use stream::{Command, Random, Sizes, churn};

/// Starts a sample. The host recognises it by its symbol; the two functions differ, lest they become one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_begin() {
    black_box(1);
}

/// Ends a sample.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_end() {
    black_box(2);
}

thread_local! {
    /// The names of all samples, in order. Printed at the end: what runs between samples is traced as well, and that takes time.
    static NAMES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Takes one sample.
fn sample<R>(name: &'static str, act: impl FnOnce() -> R) -> R {
    count_begin();
    let result = black_box(act());
    count_end();
    NAMES.with_borrow_mut(|names| names.push(name));
    result
}

/// Makes a name for many samples.
fn name(name: String) -> &'static str {
    name.leak()
}

static OWNER: Owner = Owner {
    device: 1,
    caller: Location::caller(),
    reserved: false,
};

/// A table over `SLOTS` slots of `SLOT` bytes.
fn table<const SLOT: usize>(slots: usize) -> Table<'static> {
    let groups = slots.div_ceil(GROUP_SLOTS as usize);
    let groups = Box::leak(vec![Group::FULL; groups].into_boxed_slice());
    let records = Box::leak((0..slots).map(|_| Record::FREE).collect::<Box<[_]>>());
    Table::new(groups, records, slots * SLOT, SLOT, Reserve::default()).unwrap()
}

/// Takes two samples, of a map and of the unmap that follows; or one, of a refusal.
fn pair(table: &mut Table, name: &str, len: u32) {
    if let Ok(placed) = sample(self::name(format!("{name} map")), || {
        table.map_single(black_box(len), &OWNER)
    }) {
        sample(self::name(format!("{name} unmap")), || {
            table.unmap_single(black_box(placed.handle))
        })
        .unwrap()
    }
}

/// Maps and unmaps in one sample, as the goals are stated.
fn map_unmap(table: &mut Table, name: &str, len: u32) {
    let done = sample(self::name(name.to_owned()), || {
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
        let mut random = Random(0xDEAD_BEEF);
        let [map, unmap] =
            ["map", "unmap"].map(|side| self::name(format!("worst.{slots}slots.churn {side}")));
        let bytes = slots as u32 * 512;
        for command in churn(&mut random, 2000, bytes, 90, Sizes::Octaves(bytes / 8)) {
            match command {
                Command::Map(len) => {
                    let placed = sample(map, || table.map_single(black_box(len), &OWNER));
                    live.push(placed.ok());
                }
                Command::Unmap(index) => {
                    if let Some(placed) = live.swap_remove(index) {
                        sample(unmap, || table.unmap_single(black_box(placed.handle))).unwrap();
                    }
                }
            }
        }
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
            sample(self::name(format!("mapping.{size}.{name}")), || {
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
        for rival in rivals::all(bytes) {
            let mut rival = rival;
            let [map, unmap] = ["map", "unmap"]
                .map(|side| self::name(format!("rival.{}.{pool} {side}", rival.name())));
            let mut live = Vec::new();
            for command in churn(&mut Random(7), 500, bytes, 75, Sizes::Octaves(bytes / 8)) {
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

/// Refused requests of one user of the stream, in percent.
fn refused(rival: &mut dyn Rival, bytes: u32, fill: u32, sizes: Sizes) -> f64 {
    let mut live = Vec::new();
    let (mut maps, mut refused) = (0u32, 0u32);
    for command in churn(&mut Random(42), 100_000, bytes, fill, sizes) {
        match command {
            Command::Map(len) => {
                let address = rival.map(len);
                maps += 1;
                refused += u32::from(address.is_none());
                live.push(address);
            }
            Command::Unmap(index) => {
                if let Some(address) = live.swap_remove(index) {
                    rival.unmap(address);
                }
            }
        }
    }
    f64::from(refused) * 100.0 / f64::from(maps)
}

/// What needs no counting.
fn figures() {
    for (name, bytes) in [("256k", 256 << 10), ("1m", 1 << 20), ("8m", 8 << 20)] {
        for fill in [50, 75, 90] {
            for (kind, sizes) in [
                ("mixed", Sizes::Octaves(128 << 10)),
                ("churn", Sizes::Uniform(128 << 10)),
            ] {
                for mut rival in rivals::all(bytes) {
                    let percent = refused(&mut *rival, bytes, fill, sizes);
                    println!(
                        "figure refused.{}.{kind}{fill}.{name} {percent:.2} percent",
                        rival.name()
                    );
                }
            }
        }
    }
    for rival in rivals::all(8 << 20) {
        println!(
            "figure metadata.{}.8m {} bytes",
            rival.name(),
            rival.metadata()
        );
    }
    let bits = size_of::<Group>() as f64 * 8.0 / f64::from(GROUP_SLOTS);
    println!("figure metadata_bits_per_slot {bits} bits");
    println!("figure record_bytes {} bytes", size_of::<Record>());
    copies();
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
    assert!(dst[100..].iter().all(|&byte| byte == 0x11));
    println!(
        "figure copied_bytes.receive100of4096 {} bytes",
        pool.stats().bounced
    );
    let buffer = device.allocate(4096).unwrap();
    let lent = buffer.lend_from_device(4096).unwrap();
    lent.reclaim(&done).unwrap();
    println!(
        "figure copied_bytes.direct {} bytes",
        pool.stats().bounced - 100
    );
}

fn main() {
    if std::env::args().any(|argument| argument == "counts") {
        sample("nothing", || ());
        table_counts();
        pool_counts();
        rival_counts();
        NAMES.with_borrow(|names| names.iter().for_each(|name| println!("sample {name}")));
    } else {
        figures();
    }
}
