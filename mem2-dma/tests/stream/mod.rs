//! A stream of commands, from any bytes at all: the table and a second allocator carry it out, and must agree on every answer.
//!
//! The second one keeps free ranges in a tree, by address: slow, allocating, and short enough to be seen to be right.

use std::collections::BTreeMap;
use std::panic::Location;

use mem2_dma::*;

const SLOT: u32 = 32;
const BASE: u32 = 0x1000_0040;

/// Free ranges: start and length, in slots. Neighbours are always one range.
struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    fn first(&self, fits: impl Fn(u32, u32) -> Option<u32>) -> Option<u32> {
        self.0.iter().find_map(|(&start, &len)| fits(start, len))
    }

    fn take(&mut self, at: u32, n: u32) {
        let (&start, &len) = self.0.range(..=at).next_back().unwrap();
        assert!(at + n <= start + len, "not free");
        self.0.remove(&start);
        for (start, end) in [(start, at), (at + n, start + len)] {
            if start < end {
                self.0.insert(start, end - start);
            }
        }
    }

    fn give(&mut self, at: u32, n: u32) {
        let (mut start, mut end) = (at, at + n);
        if let Some((&before, &len)) = self.0.range(..at).next_back() {
            assert!(before + len <= at, "given twice");
            if before + len == at {
                start = before;
            }
        }
        if let Some(len) = self.0.remove(&end) {
            end += len;
        }
        self.0.insert(start, end - start);
    }

    fn free(&self) -> u32 {
        self.0.values().sum()
    }

    fn refusal(&self, len: u32) -> Error {
        let (len, free) = (len as usize, (self.free() * SLOT) as usize);
        let largest = self.0.values().max().map_or(0, |&slots| slots * SLOT);
        if free < len {
            Error::Exhausted { len, free }
        } else {
            let largest_run = largest as usize;
            Error::Fragmented { len, largest_run }
        }
    }
}

static OWNER: Owner = Owner {
    device: 1,
    caller: Location::caller(),
    reserved: false,
};

/// Carries the commands in `data` out. Panics if the two do not agree.
pub fn run(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let _ = commands(&mut || bytes.next().map(u32::from));
}

fn commands(next: &mut impl FnMut() -> Option<u32>) -> Option<()> {
    let slots = 1 + (next()? | next()? << 8) % 1200;
    let records_len = 1 + next()? as usize * 4;
    let (mut words, mut longest) = (vec![!0; 40], vec![!0; 40]);
    let mut records: Vec<_> = (0..records_len).map(|_| Record::FREE).collect();
    let memory = (slots * SLOT) as usize;
    let reserve = Reserve::default();
    let mut table =
        Table::new(&mut words, &mut longest, &mut records, memory, 32, reserve).unwrap();
    let mut model = Ranges(BTreeMap::from([(0, slots)]));
    let (mut live, mut dead): (Vec<(Placed, u32)>, Vec<Handle>) = (Vec::new(), Vec::new());
    let extent = |offset: u32| {
        Some(Extent {
            bus: BusAddr::new(BASE + offset),
            len: slots * SLOT - offset,
        })
    };
    while let Some(command) = next() {
        let argument = next()?;
        match command % 8 {
            // Long, middling and short requests.
            kind @ 0..=4 => {
                let len = match kind {
                    0 => (argument | next()? << 8) % (slots * SLOT + 64),
                    1 => argument * SLOT,
                    _ => argument * 2,
                };
                let (align, boundary) = if kind == 4 {
                    (
                        SLOT << (next()? % 4),
                        [0, 64, 256, 4096][(next()? % 4) as usize],
                    )
                } else {
                    (1, 0)
                };
                let constraints = Constraints::NONE.align(align).boundary(boundary);
                let placed = if kind == 4 {
                    table.map_single_constrained(len, &OWNER, &constraints, extent)
                } else {
                    table.map_single(len, &OWNER)
                };
                let n = len.div_ceil(SLOT);
                let place = model.first(|start, run| {
                    (start..).take_while(|at| at + n <= start + run).find(|at| {
                        let bus = BASE + at * SLOT;
                        let room = boundary == 0 || bus % boundary + len <= boundary;
                        bus.is_multiple_of(align) && room
                    })
                });
                let expected = if len == 0 {
                    Err(Error::Empty)
                } else if n > slots {
                    let (len, max) = (len as usize, memory);
                    Err(Error::TooLarge { len, max })
                } else if live.len() == records_len {
                    Err(Error::TooManyLive { live: records_len })
                } else {
                    place.ok_or_else(|| model.refusal(len))
                };
                assert_eq!(placed.map(|placed| placed.offset / SLOT), expected);
                if let Ok(placed) = placed {
                    model.take(placed.offset / SLOT, n);
                    live.push((placed, n));
                }
            }
            5 if !dead.is_empty() => {
                let handle = dead[argument as usize % dead.len()];
                assert_eq!(table.unmap_single(handle), Err(BadHandle::Stale));
            }
            _ if !live.is_empty() => {
                let (placed, n) = live.swap_remove(argument as usize % live.len());
                assert_eq!(table.unmap_single(placed.handle), Ok(()));
                model.give(placed.offset / SLOT, n);
                dead.push(placed.handle);
            }
            _ => {}
        }
        assert_eq!(table.used_bytes(), (slots - model.free()) * SLOT);
        assert_eq!(table.live(), live.len());
    }
    for (placed, _) in live {
        table.unmap_single(placed.handle).unwrap();
    }
    let whole = table.map_single(slots * SLOT, &OWNER).unwrap();
    assert_eq!(whole.offset, 0);
    Some(())
}
