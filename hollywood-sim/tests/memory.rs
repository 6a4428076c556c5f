//! The memory model itself: each cache operation, each rule.

use hollywood_sim::*;
use mem2_dma::Provider;

const A: u32 = MEM2 + 0x100;

fn buffer(address: u32, len: u32) -> Buffer {
    Buffer {
        address,
        len,
        mapping: 0,
    }
}

/// The rules that were broken, in order.
fn broken(memory: &Memory) -> Vec<(Rule, u32)> {
    let violations = memory.take_violations();
    violations.iter().map(|v| (v.rule, v.address)).collect()
}

fn written(memory: &Memory, address: u32, bytes: &[u8]) {
    memory.store(address, bytes);
    memory.flush(address, bytes.len() as u32);
    memory.sync();
}

#[test]
fn a_store_is_in_ram_after_clean_only() {
    let memory = Memory::new(0, 4096);
    written(&memory, A, &[1; 32]);
    memory.store(A, &[2; 32]);
    assert_eq!(memory.device_read(buffer(A, 32), 0, 4), Ok(vec![1; 4]));
    assert_eq!(broken(&memory), [(Rule::MissingClean, A)]);
    memory.clean(A, 1);
    memory.sync();
    assert_eq!(memory.device_read(buffer(A, 32), 0, 32), Ok(vec![2; 32]));
}

#[test]
fn clean_keeps_the_line() {
    let memory = Memory::new(0, 4096);
    memory.store(A, &[1; 32]);
    memory.clean(A, 32);
    memory.sync();
    memory.device_write(buffer(A, 32), 0, &[2; 32]).unwrap();
    assert_eq!(memory.load(A, 32), [1; 32], "the line stayed valid");
    assert_eq!(broken(&memory), [(Rule::MissingInvalidateAfter, A)]);
}

#[test]
fn flush_writes_back_and_lets_go() {
    let memory = Memory::new(0, 4096);
    memory.store(A, &[1; 32]);
    memory.flush(A, 32);
    memory.sync();
    assert_eq!(memory.device_read(buffer(A, 32), 0, 32), Ok(vec![1; 32]));
    memory.device_write(buffer(A, 32), 0, &[2; 32]).unwrap();
    memory.flush(A, 32);
    assert_eq!(memory.load(A, 32), [2; 32]);
}

#[test]
fn a_line_that_was_let_go_is_fetched_anew() {
    let operations: [fn(&Memory); 2] = [|m| m.flush(A, 32), |m| m.invalidate(A, 32)];
    for let_go in operations {
        let memory = Memory::new(0, 4096);
        memory.store(A, &[1; 32]);
        let_go(&memory);
        memory.sync();
        memory.device_write(buffer(A, 32), 0, &[2; 32]).unwrap();
        assert_eq!(memory.load(A, 32), [2; 32]);
        let luck = [(Rule::MissingInvalidateAfter, A)];
        assert_eq!(broken(&memory), luck, "it need not have been so");
    }
}

#[test]
fn invalidate_drops_modified_lines() {
    let memory = Memory::new(0, 4096);
    written(&memory, A, &[1; 64]);
    memory.store(A, &[2; 64]);
    memory.invalidate(A, 33);
    assert_eq!(memory.load(A, 32), [1; 32]);
    assert_eq!(memory.load(A + 32, 32), [1; 32]);
    assert_eq!(
        broken(&memory),
        [(Rule::SharedLine, A + 33)],
        "31 stores beside the range are lost"
    );
}

#[test]
fn operations_touch_no_line_beside_their_range() {
    let memory = Memory::new(0, 4096);
    written(&memory, A, &[1; 96]);
    memory.store(A, &[2; 96]);
    memory.clean(A + 32, 32);
    memory.sync();
    memory.clean(A + 64, 0);
    assert_eq!(memory.uncached_load(A + 32, 32), [2; 32]);
    assert_eq!(memory.uncached_load(A, 32), [1; 32]);
    assert_eq!(memory.uncached_load(A + 64, 32), [1; 32]);
    let alias = [(Rule::Alias, A), (Rule::Alias, A + 64)];
    assert_eq!(broken(&memory), alias);
}

#[test]
fn zero_makes_a_modified_line_of_zeros_without_a_fetch() {
    let memory = Memory::new(0, 4096);
    memory.zero(A + 5, 1);
    assert_eq!(memory.load(A, 32), [0; 32]);
    assert_eq!(memory.ram_origin(A), Some(Origin::Never));
    memory.clean(A, 32);
    memory.sync();
    assert_eq!(memory.device_read(buffer(A, 32), 0, 32), Ok(vec![0; 32]));
}

#[test]
fn a_store_fetches_the_rest_of_its_line() {
    let memory = Memory::new(0, 4096);
    written(&memory, A, &[1; 32]);
    memory.store(A + 4, &[2]);
    memory.clean(A, 32);
    memory.sync();
    let mut bytes = vec![1; 32];
    bytes[4] = 2;
    assert_eq!(memory.device_read(buffer(A, 32), 0, 32), Ok(bytes));
}

#[test]
fn a_device_may_not_look_before_sync() {
    let memory = Memory::new(0, 4096);
    memory.store(A, &[1; 32]);
    memory.clean(A, 32);
    assert_eq!(memory.device_read(buffer(A, 32), 0, 32), Ok(vec![1; 32]));
    assert_eq!(broken(&memory), [(Rule::MissingSync, A)]);
}

#[test]
fn an_eviction_in_time_does_not_excuse_a_missing_clean() {
    let runs = exhaustively(|adversary| {
        let memory = Memory::new(0, 64);
        memory.set_adversary(adversary);
        memory.store(MEM2, &[1; 32]);
        let read = memory.device_read(buffer(MEM2, 32), 0, 32).unwrap();
        assert!(read == [1; 32] || read == [POISON; 32]);
        assert_eq!(broken(&memory), [(Rule::MissingClean, MEM2)]);
        memory.set_adversary(Adversary::Idle)
    });
    assert_eq!(runs, 4);
}

#[test]
fn an_evicted_modified_line_overwrites_what_the_device_wrote() {
    let mut lost = 0;
    exhaustively(|adversary| {
        let memory = Memory::new(0, 64);
        memory.store(MEM2, &[1; 32]);
        memory.set_adversary(adversary);
        memory.device_write(buffer(MEM2, 32), 0, &[2; 32]).unwrap();
        let adversary = memory.set_adversary(Adversary::Idle);
        memory.invalidate(MEM2, 32);
        lost += usize::from(memory.load(MEM2, 32) == [1; 32]);
        let rules = broken(&memory);
        assert_eq!(rules[0], (Rule::MissingInvalidateBefore, MEM2));
        adversary
    });
    assert!(lost > 0, "there is an order in which it is lost");
}

#[test]
fn a_speculative_fill_hides_what_the_device_writes() {
    let mut stale = 0;
    exhaustively(|adversary| {
        let memory = Memory::new(0, 64);
        written(&memory, MEM2, &[1; 32]);
        memory.set_adversary(adversary);
        memory.device_write(buffer(MEM2, 32), 0, &[2; 32]).unwrap();
        let adversary = memory.set_adversary(Adversary::Idle);
        stale += usize::from(memory.load(MEM2, 32) == [1; 32]);
        let rules = broken(&memory);
        assert_eq!(
            rules,
            [(Rule::MissingInvalidateAfter, MEM2)],
            "reported in any order"
        );
        adversary
    });
    assert!(stale > 0, "there is an order in which it is hidden");
}

#[test]
fn the_right_protocol_is_right_in_every_order() {
    let runs = exhaustively(|adversary| {
        let memory = Memory::new(0, 64);
        memory.set_adversary(adversary);
        memory.store(MEM2, &[1; 32]);
        memory.invalidate(MEM2, 32);
        memory.sync();
        memory.device_write(buffer(MEM2, 32), 0, &[2; 32]).unwrap();
        memory.invalidate(MEM2, 32);
        memory.sync();
        assert_eq!(memory.load(MEM2, 32), [2; 32]);
        memory.store(MEM2, &[3; 32]);
        memory.flush(MEM2, 32);
        memory.sync();
        assert_eq!(memory.device_read(buffer(MEM2, 32), 0, 32), Ok(vec![3; 32]));
        memory.set_adversary(Adversary::Idle)
    });
    assert_eq!(runs, 1 << 10);
}

#[test]
fn a_seeded_adversary_does_the_same_twice() {
    let run = |seed| {
        let memory = Memory::new(0, 256);
        memory.set_adversary(Adversary::seeded(seed));
        let seen: Vec<_> = (0..64)
            .map(|round| {
                memory.store(MEM2, &[round; 32]);
                memory.step();
                memory.device_read(buffer(MEM2, 32), 0, 1).unwrap()[0]
            })
            .collect();
        assert_eq!(broken(&memory).len(), 64);
        seen
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn words_past_the_cache_are_big_endian_and_visible_at_once() {
    let memory = Memory::new(0, 4096);
    memory.uncached_store32(A, 0x0102_0304);
    assert_eq!(memory.device_read(buffer(A, 4), 0, 4), Ok(vec![1, 2, 3, 4]));
    assert_eq!(memory.load(A, 4), [1, 2, 3, 4]);
}

#[test]
fn a_short_store_past_the_cache_destroys_its_word() {
    let memory = Memory::new(0, 4096);
    for (address, value) in [(A, 0x0102_0304), (A + 4, 0x0506_0708)] {
        memory.uncached_store32(address, value);
    }
    memory.uncached_store8(A + 5, 9);
    assert_eq!(memory.uncached_load(A, 8), [1, 2, 3, 4, 9, 9, 9, 9]);
    assert_eq!(memory.ram_origin(A + 4), Some(Origin::Corrupted));
    memory.uncached_store16(A + 2, 0x0A0B);
    assert_eq!(memory.uncached_load(A, 4), [0x0A, 0x0B, 0x0A, 0x0B]);
    let short = Rule::ShortUncachedStore;
    assert_eq!(broken(&memory), [(short, A + 5), (short, A + 2)]);
    memory.uncached_store32(A + 1, 0);
    assert_eq!(broken(&memory), [(short, A + 1)], "not aligned");
    memory.uncached_store8(A, 0);
    memory.uncached_store16(A, 0);
    assert_eq!(broken(&memory), [(short, A); 2], "aligned, but short");
}

#[test]
fn a_word_stored_past_a_modified_line_is_an_alias() {
    let memory = Memory::new(0, 4096);
    memory.store(A, &[1]);
    memory.uncached_store32(A + 4, 0);
    assert_eq!(broken(&memory), [(Rule::Alias, A)]);
}

#[test]
fn a_device_write_into_mem1_loses_its_last_partial_word() {
    let memory = Memory::new(4096, 4096);
    written(&memory, MEM1 + 64, &[1; 32]);
    memory
        .device_write(buffer(MEM1 + 64, 32), 0, &[2; 13])
        .unwrap();
    assert_eq!(broken(&memory), [(Rule::Mem1PartialWord, MEM1 + 76)]);
    memory.invalidate(MEM1 + 64, 32);
    assert_eq!(
        memory.load(MEM1 + 64, 13),
        [2; 12].into_iter().chain([1]).collect::<Vec<_>>()
    );
    memory
        .device_write(buffer(MEM1 + 96, 32), 0, &[2; 12])
        .unwrap();
    memory.device_write(buffer(A, 32), 0, &[2; 13]).unwrap();
    assert_eq!(broken(&memory), [], "whole words, or MEM2");
}

#[test]
fn the_low_five_bits_of_a_buffer_are_ignored() {
    let memory = Memory::new(0, 4096);
    written(&memory, A, &[1; 64]);
    memory.device_write(buffer(A + 4, 4), 0, &[2; 4]).unwrap();
    assert_eq!(broken(&memory), [(Rule::Unaligned, A + 4)]);
    memory.invalidate(A, 32);
    assert_eq!(memory.load(A, 8), [2, 2, 2, 2, 1, 1, 1, 1]);
}

#[test]
fn outside_ram_is_a_host_system_error() {
    let memory = Memory::new(4096, 4096);
    for address in [
        MEM1 + 4096,
        MEM2 - 32,
        MEM2 + 4096,
        0x0D04_0000,
        0xFFFF_FFE0,
    ] {
        let error = Err(HostSystemError { address });
        assert_eq!(memory.device_read(buffer(address, 32), 0, 32), error);
        assert_eq!(broken(&memory), [(Rule::OutsideRam, address)]);
        memory.store(address, &[1]);
        assert_eq!(broken(&memory), [(Rule::OutsideRam, address)]);
    }
    let end = buffer(MEM2 + 4096 - 32, 64);
    assert!(memory.device_write(end, 0, &[0; 33]).is_err());
    assert_eq!(broken(&memory), [(Rule::OutsideRam, MEM2 + 4096 - 32)]);
    assert_eq!(memory.device_write(end, 0, &[0; 32]), Ok(()));
}

#[test]
fn a_device_stays_in_its_buffer() {
    let memory = Memory::new(0, 4096);
    memory.device_write(buffer(A, 32), 30, &[1; 3]).unwrap();
    assert_eq!(broken(&memory), [(Rule::OutsideBuffer, A + 30)]);
    assert_eq!(memory.uncached_load(A + 30, 3), [1; 3]);
}

#[test]
fn nobody_reads_what_nobody_wrote() {
    let memory = Memory::new(0, 4096);
    memory.store(A, &[1; 4]);
    memory.load(A, 5);
    assert_eq!(broken(&memory), [(Rule::Uninitialised, A + 4)]);
    memory.clean(A, 32);
    memory.sync();
    memory.device_read(buffer(A, 32), 0, 32).unwrap();
    assert_eq!(broken(&memory), [(Rule::Uninitialised, A + 4)]);
}

#[test]
fn no_device_reads_bytes_of_another_mapping() {
    let memory = Memory::new(0, 4096);
    memory.act_as(7);
    written(&memory, A, &[1; 32]);
    memory.act_as(8);
    written(&memory, A, &[1; 16]);
    let eight = Buffer {
        address: A,
        len: 32,
        mapping: 8,
    };
    assert_eq!(memory.device_read(eight, 0, 16), Ok(vec![1; 16]));
    assert_eq!(broken(&memory), []);
    memory.device_read(eight, 0, 32).unwrap();
    let violation = memory.take_violations()[0];
    assert_eq!((violation.rule, violation.address), (Rule::Leak, A + 16));
    assert_eq!((violation.origin, violation.bytes), (Origin::Cpu(7), 16));
    memory.retire(A + 16, 16);
    memory.device_read(eight, 0, 32).unwrap();
    let violation = memory.take_violations()[0];
    assert_eq!(violation.rule, Rule::Leak);
    assert_eq!(violation.origin, Origin::Retired(7));
}

#[test]
fn a_retired_line_stays_modified() {
    let memory = Memory::new(0, 4096);
    memory.store(A, &[1; 32]);
    memory.retire(A, 32);
    memory.device_write(buffer(A, 32), 0, &[2; 32]).unwrap();
    assert_eq!(broken(&memory), [(Rule::MissingInvalidateBefore, A)]);
}

#[test]
fn what_is_no_rule_has_no_effect_and_no_report() {
    let off = [
        Rule::Mem1PartialWord,
        Rule::Unaligned,
        Rule::ShortUncachedStore,
        Rule::Uninitialised,
    ];
    let rules = off.into_iter().fold(Rules::STRICT, Rules::without);
    let memory = Memory::with_rules(4096, 4096, rules);
    memory
        .device_write(buffer(MEM1 + 68, 5), 0, &[2; 5])
        .unwrap();
    memory.uncached_store8(A, 3);
    assert_eq!(memory.uncached_load(MEM1 + 64, 12)[4..9], [2; 5]);
    assert_eq!(memory.uncached_load(A, 2), [3, POISON]);
    assert_eq!(broken(&memory), []);
}

#[test]
fn every_rule_can_be_switched_off_alone() {
    for off in Rule::ALL {
        for rule in Rule::ALL {
            assert_eq!(Rules::STRICT.without(off).has(rule), rule != off);
        }
    }
}

#[test]
#[should_panic(expected = "1 violations, the first: outside RAM")]
fn unseen_violations_panic_in_the_end() {
    let memory = Memory::new(0, 4096);
    memory.store(0, &[1]);
    assert_eq!(memory.violations(), 1);
}

#[test]
fn a_store_beside_what_a_device_wrote_may_not_be_written_back_over_it() {
    let memory = Memory::new(0, 4096);
    written(&memory, A, &[1; 32]);
    memory.device_write(buffer(A, 8), 0, &[2; 8]).unwrap();
    memory.store(A + 16, &[3]);
    memory.clean(A, 32);
    memory.sync();
    assert_eq!(broken(&memory), [(Rule::SharedLine, A)]);
}

#[test]
fn stores_through_pointers_are_noticed() {
    let memory = Memory::new(0, 4096);
    memory.act_as(5);
    // SAFETY: nobody else uses the range.
    let pool = unsafe { memory.carve(A, 32) }.unwrap();
    let cached = pool.memory().cast::<u8>();
    let uncached = pool.coherent().unwrap().cast::<u32>();
    // SAFETY: both point to the first of 32 bytes, aligned to a line.
    unsafe { cached.write(1) };
    memory.device_read(buffer(A, 32), 0, 1).unwrap();
    let violation = memory.take_violations()[0];
    assert_eq!(violation.rule, Rule::MissingClean);
    assert_eq!(violation.origin, Origin::Cpu(5));
    // SAFETY: as above.
    unsafe { uncached.write_volatile(0) };
    memory.observe(A, 32);
    assert_eq!(broken(&memory), [(Rule::Alias, A)]);
    assert_eq!(memory.ram_origin(A), Some(Origin::Cpu(5)));
    memory.invalidate(A, 32);
    assert_eq!(memory.load(A, 4), [0; 4]);
}

#[test]
fn only_mem2_is_lent_to_pools() {
    let memory = Memory::new(4096, 4096);
    for (address, len) in [(MEM1, 32), (MEM2, 4128), (MEM2 + 4096, 32)] {
        // SAFETY: nobody else uses the range.
        assert!(unsafe { memory.carve(address, len) }.is_err());
    }
}
