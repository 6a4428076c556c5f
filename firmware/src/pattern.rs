//! Bytes that look random and follow from a seed and their position: whatever comes back can be
//! checked anywhere, and two places never hold the same.

/// Bytes that one step of the generator gives.
const WORD: usize = 8;

/// Returns the word at an index (SplitMix64: every index of every seed has another state).
fn word(seed: u64, index: u64) -> [u8; WORD] {
    let mut state = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (state ^ (state >> 31)).to_le_bytes()
}

/// Fills `memory` with the bytes from `position` on.
pub fn fill(seed: u64, position: u64, memory: &mut [u8]) {
    let mut index = position / WORD as u64;
    let mut skip = (position % WORD as u64) as usize;
    let mut rest = memory;
    while !rest.is_empty() {
        let bytes = &word(seed, index)[skip..];
        let n = bytes.len().min(rest.len());
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&bytes[..n]);
        rest = later;
        index = index.wrapping_add(1);
        skip = 0;
    }
}

/// Returns the position in `memory` of the first byte that is not as [`fill`] makes it.
pub fn first_difference(seed: u64, position: u64, memory: &[u8]) -> Option<usize> {
    const PIECE: usize = 512;
    let mut expected = [0; PIECE];
    memory.chunks(PIECE).enumerate().find_map(|(i, piece)| {
        let expected = &mut expected[..piece.len()];
        fill(seed, position.wrapping_add((i * PIECE) as u64), expected);
        if piece == expected {
            return None;
        }
        let within = piece.iter().zip(expected).position(|(a, b)| a != b)?;
        Some(i * PIECE + within)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn any_part_is_the_part_of_the_whole() {
        let mut whole = vec![0; 4096];
        fill(7, 1000, &mut whole);
        for (start, length) in [(0, 1), (1, 7), (3, 100), (511, 1026), (4095, 1), (8, 4088)] {
            let mut part = vec![0; length];
            fill(7, 1000 + start as u64, &mut part);
            assert_eq!(part, whole[start..start + length]);
        }
    }

    #[test]
    fn the_first_byte_that_differs_is_found() {
        let mut memory = vec![0; 3000];
        fill(1, 5, &mut memory);
        assert_eq!(first_difference(1, 5, &memory), None);
        assert_eq!(first_difference(1, 6, &memory), Some(0));
        for place in [0, 511, 512, 2999] {
            memory[place] ^= 0x10;
            assert_eq!(first_difference(1, 5, &memory), Some(place));
            memory[place] ^= 0x10;
        }
    }

    #[test]
    fn blocks_of_one_seed_and_of_other_seeds_differ() {
        let block = |seed, number: u64| {
            let mut block = [0; 512];
            fill(seed, number * 512, &mut block);
            block
        };
        assert_ne!(block(1, 0), block(1, 1));
        assert_ne!(block(1, 0), block(2, 0));
        assert_ne!(block(1, 0), block(1, 1 << 32));
    }
}
