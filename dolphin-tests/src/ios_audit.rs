//! What can be seen from outside of what the guest has given to IOS for its sticks: the virtual sticks count transfers, and request
//! blocks still lie in the guest's memory where IOS has answered them last.
//!
//! Dolphin traces no addresses. So this is a sample, while the firmware's driver looks at every address; but it does not
//! depend on the firmware's word.

use crate::{Error, GuestMemory, MEM2};

/// Memory that is searched for blocks: all of MEM1, and MEM2 up to where IOS's own begins.
const REGIONS: [(u32, usize); 2] = [(0, 24 << 20), (0x1000_0000, 0x360_0000)];
/// Alignment of everything that IOS is given (hardware notes, section 6.1).
const ALIGN: u32 = 32;

/// A part of memory that IOS was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Physical address.
    pub address: u32,
    /// Length in bytes.
    pub length: u32,
}

/// What IOS was given for bulk transfers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IosAudit {
    /// Bulk transfers, as the virtual sticks have counted them.
    pub transfers: u64,
    /// Request blocks with their vectors, messages and data that were found.
    pub given: Vec<Given>,
    /// How many of these are not wholly in MEM2 at a multiple of 32 bytes.
    pub outside_mem2: u64,
}

impl IosAudit {
    /// Looks at the output of Dolphin and at the guest's memory.
    pub(crate) fn read(output: &str, memory: &GuestMemory) -> Result<Self, Error> {
        let mut audit = Self {
            transfers: transfers(output),
            ..Self::default()
        };
        for (start, bytes) in REGIONS {
            let mut region = vec![0; bytes];
            memory.read(start, &mut region)?;
            audit.given.extend(given(start, &region));
        }
        let outside = audit.given.iter().filter(|given| !given.is_safe());
        audit.outside_mem2 = outside.count() as u64;
        Ok(audit)
    }
}

impl Given {
    fn is_safe(&self) -> bool {
        let (address, length) = (u64::from(self.address), u64::from(self.length));
        MEM2.contains(&address)
            && address + length <= MEM2.end
            && self.address.is_multiple_of(ALIGN)
    }
}

/// Adds up what the sticks say at their end: the last of each, since each part of Dolphin that uses the library ends once.
fn transfers(output: &str) -> u64 {
    let mut counts = output
        .lines()
        .rev()
        .filter_map(|line| line.split_once("virtual sticks had transfers:"));
    let last = counts.next().map_or("", |(_, counts)| counts);
    last.split_whitespace()
        .filter_map(|count| count.parse::<u64>().ok())
        .sum()
}

/// Finds answered bulk transfers of `/dev/usb/ven` (hardware notes, sections 6.1 and 6.4): block, message and data of each.
fn given(start: u32, region: &[u8]) -> Vec<Given> {
    /// The first word of an answer, and what the other words say: the command was an ioctlv, its number, two vectors.
    const REPLY: u32 = 8;
    const IOCTLV: u32 = 7;
    const BULK: u32 = 21;
    const VECTORS: u32 = 2;
    /// Bytes of a block, in front of the table of vectors as our driver lays it out.
    const BLOCK: u32 = 64;
    let mut found = Vec::new();
    for (index, block) in region.chunks(ALIGN as usize).enumerate() {
        if !block.starts_with(&REPLY.to_be_bytes()) {
            continue;
        }
        let at = index * ALIGN as usize;
        let word = |index: usize| {
            let bytes = region.get(at + 4 * index..)?.first_chunk()?;
            Some(u32::from_be_bytes(*bytes))
        };
        let address = start + at as u32;
        let words = [2, 3, 4, 5, 6].map(|index| word(index).unwrap_or(0));
        let [command, number, inputs, outputs, table] = words;
        let ours = [command, number, inputs.wrapping_add(outputs), table]
            == [IOCTLV, BULK, VECTORS, address + BLOCK];
        if !ours {
            continue;
        }
        found.push(Given {
            address,
            length: BLOCK + 8 * VECTORS,
        });
        for vector in [16, 18] {
            if let (Some(address), Some(length @ 1..)) = (word(vector), word(vector + 1)) {
                found.push(Given { address, length });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(at: usize, start: u32, data: u32) -> Vec<u8> {
        let mut region = vec![0; 4096];
        let table = start + at as u32 + 64;
        let words = [8, 512, 7, 21, 1, 1, table];
        let vectors = [0x1000_2000, 64, data, 512];
        for (offset, words) in [(at, &words[..]), (at + 64, &vectors[..])] {
            for (index, word) in words.iter().enumerate() {
                let place = offset + 4 * index;
                region[place..place + 4].copy_from_slice(&word.to_be_bytes());
            }
        }
        region
    }

    fn outside(start: u32, data: u32) -> usize {
        let given = given(start, &region(512, start, data));
        assert_eq!(given.len(), 3, "block, message and data");
        given.iter().filter(|given| !given.is_safe()).count()
    }

    #[test]
    fn an_answered_transfer_is_found_with_all_that_it_names() {
        let found = given(0x1000_0000, &region(512, 0x1000_0000, 0x1000_3000));
        let given = |address, length| Given { address, length };
        assert_eq!(
            found,
            [
                given(0x1000_0200, 80),
                given(0x1000_2000, 64),
                given(0x1000_3000, 512)
            ]
        );
    }

    #[test]
    fn what_is_not_in_mem2_or_not_aligned_is_told() {
        assert_eq!(outside(0x1000_0000, 0x1000_3000), 0);
        assert_eq!(outside(0x1000_0000, 0x0010_3000), 1);
        assert_eq!(outside(0x1000_0000, 0x1000_3010), 1);
        assert_eq!(outside(0x1000_0000, 0x13FF_FF00), 1);
        assert_eq!(outside(0x0010_0000, 0x1000_3000), 1, "the block itself");
    }

    #[test]
    fn memory_without_requests_has_none() {
        assert!(given(0, &[0; 4096]).is_empty());
        assert!(given(0, &[8; 4096]).is_empty());
        assert!(given(0, &[0, 0, 0, 8]).is_empty());
    }

    #[test]
    fn the_last_word_of_the_sticks_counts() {
        let output =
            "x\nvirtual sticks had transfers: 3 4\ny\nvirtual sticks had transfers: 30 12\n";
        assert_eq!(transfers(output), 42);
        assert_eq!(transfers(""), 0);
    }
}
