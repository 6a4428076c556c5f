//! Small users of DMA, each wrong in one way: every one is caught, by rule and place. The same user without the mistake passes, under an adversary.

use hollywood_sim::*;

const ADDRESS: u32 = MEM2 + 0x200;
const SEEDS: u64 = 64;

/// The mistake that a user makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    Clean,
    Sync,
    InvalidateBefore,
    InvalidateAfter,
    SharedLine,
    Mem1,
    Unaligned,
    ByteStore,
}

/// Where a user has a buffer, and what it does wrong.
struct User<'m> {
    memory: &'m Memory,
    mistake: Mistake,
    address: u32,
}

impl User<'_> {
    fn buffer(&self, len: u32) -> Buffer {
        Buffer {
            address: self.address,
            len,
            mapping: 1,
        }
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    /// Lets the device read `data` and returns what it read.
    fn send(&self, data: &[u8]) -> Vec<u8> {
        let Self {
            memory, address, ..
        } = *self;
        let len = data.len() as u32;
        memory.store(address, data);
        if !self.makes(Mistake::Clean) {
            memory.clean(address, len);
        }
        if !self.makes(Mistake::Sync) {
            memory.sync();
        }
        memory.step();
        memory.device_read(self.buffer(len), 0, len).unwrap()
    }

    /// Lets the device write `data` and returns what the CPU sees of it.
    fn receive(&self, data: &[u8]) -> Vec<u8> {
        let Self {
            memory, address, ..
        } = *self;
        let len = data.len() as u32;
        // Stale contents, in a modified line: what the buffer was used for before.
        memory.store(address, &vec![0x11; data.len()]);
        if !self.makes(Mistake::InvalidateBefore) {
            memory.flush(address, len);
            memory.sync();
        }
        if self.makes(Mistake::SharedLine) {
            // A variable of somebody else's, behind the buffer.
            memory.store(address + len, &[0x77]);
        }
        memory.step();
        memory.device_write(self.buffer(len), 0, data).unwrap();
        memory.step();
        if !self.makes(Mistake::InvalidateAfter) {
            memory.invalidate(address, len);
            memory.sync();
        }
        memory.load(address, len)
    }

    /// Changes a byte of a descriptor past the cache. Returns the descriptor's words as a device sees them.
    fn describe(&self) -> Vec<u8> {
        let Self {
            memory, address, ..
        } = *self;
        memory.flush(address, 32);
        memory.sync();
        memory.uncached_store32(address, 0x0102_0304);
        if self.makes(Mistake::ByteStore) {
            memory.uncached_store8(address + 3, 5);
        } else {
            memory.uncached_store32(address, 0x0102_0305);
        }
        memory.device_read(self.buffer(32), 0, 4).unwrap()
    }
}

/// What a user does.
type Act = fn(&User<'_>);

const DATA: [u8; 45] = [0x22; 45];

fn send(user: &User<'_>) {
    user.send(&DATA);
}

fn receive(user: &User<'_>) {
    user.receive(&DATA);
}

fn describe(user: &User<'_>) {
    user.describe();
}

/// Lets a user act at `address` and returns the first violation.
fn first(mistake: Mistake, address: u32, seed: u64, act: Act) -> Option<Violation> {
    let memory = Memory::new(4096, 4096);
    memory.act_as(1);
    memory.set_adversary(Adversary::seeded(seed));
    act(&User {
        memory: &memory,
        mistake,
        address,
    });
    memory.take_violations().first().copied()
}

/// Checks that a mistake is caught whatever the cache does, with this rule at this address, and that the message says both.
#[track_caller]
fn caught(mistake: Mistake, address: u32, act: Act, rule: Rule, at: u32, text: &str) {
    for seed in 0..SEEDS {
        let violation = first(mistake, address, seed, act).expect("nothing was caught");
        assert_eq!(
            (violation.rule, violation.address),
            (rule, at),
            "{violation}"
        );
        let message = violation.to_string();
        assert!(message.starts_with(text), "{message}");
        assert!(message.contains(&format!("at {at:#010x}")), "{message}");
        assert!(message.contains("wrong_users.rs:"), "{message}");
    }
}

#[test]
fn the_right_user_passes() {
    for seed in 0..SEEDS {
        for act in [send, receive, describe] {
            assert_eq!(first(Mistake::None, ADDRESS, seed, act), None);
        }
        let memory = Memory::new(4096, 4096);
        memory.act_as(1);
        memory.set_adversary(Adversary::seeded(seed));
        let user = User {
            memory: &memory,
            mistake: Mistake::None,
            address: ADDRESS,
        };
        assert_eq!(user.send(&DATA), DATA);
        assert_eq!(user.receive(&DATA), DATA);
        assert_eq!(user.describe(), [1, 2, 3, 5]);
    }
}

#[test]
fn a_missing_clean_is_caught() {
    let text = "missing clean";
    caught(
        Mistake::Clean,
        ADDRESS,
        send,
        Rule::MissingClean,
        ADDRESS,
        text,
    );
}

#[test]
fn a_missing_sync_is_caught() {
    // An eviction before the clean leaves nothing to write back, and so nothing to wait for.
    let violation = (0..SEEDS).find_map(|seed| first(Mistake::Sync, ADDRESS, seed, send));
    let violation = violation.expect("nothing was caught");
    assert_eq!(violation.rule, Rule::MissingSync);
    assert!(violation.to_string().starts_with("missing sync"));
}

#[test]
fn a_missing_invalidate_before_is_caught() {
    let rule = Rule::MissingInvalidateBefore;
    let text = "missing invalidate before";
    caught(
        Mistake::InvalidateBefore,
        ADDRESS,
        receive,
        rule,
        ADDRESS,
        text,
    );
}

#[test]
fn a_missing_invalidate_after_is_caught() {
    let rule = Rule::MissingInvalidateAfter;
    let text = "missing invalidate after";
    caught(
        Mistake::InvalidateAfter,
        ADDRESS,
        receive,
        rule,
        ADDRESS,
        text,
    );
}

#[test]
fn a_shared_cache_line_is_caught() {
    let at = ADDRESS + DATA.len() as u32;
    let text = "shared cache line";
    caught(
        Mistake::SharedLine,
        ADDRESS,
        receive,
        Rule::SharedLine,
        at,
        text,
    );
}

#[test]
fn a_receive_into_mem1_with_a_partial_last_word_is_caught() {
    let address = MEM1 + 0x200;
    let text = "partial word in MEM1";
    let at = address + 44;
    caught(
        Mistake::Mem1,
        address,
        receive,
        Rule::Mem1PartialWord,
        at,
        text,
    );
}

#[test]
fn an_unaligned_buffer_is_caught() {
    let address = ADDRESS + 4;
    let text = "unaligned buffer";
    caught(
        Mistake::Unaligned,
        address,
        send,
        Rule::Unaligned,
        address,
        text,
    );
}

#[test]
fn a_byte_store_past_the_cache_is_caught() {
    let rule = Rule::ShortUncachedStore;
    let text = "short uncached store";
    caught(
        Mistake::ByteStore,
        ADDRESS,
        describe,
        rule,
        ADDRESS + 3,
        text,
    );
}

#[test]
fn a_message_says_rule_place_origin_and_access() {
    let violation = first(Mistake::Clean, ADDRESS, 0, send).unwrap();
    let line = violation.caller.line();
    let column = violation.caller.column();
    let file = violation.caller.file();
    assert_eq!(
        violation.to_string(),
        format!(
            "missing clean: stored bytes were not written back for the device [MissingClean] at 0x10000200 (32 bytes, stored by the CPU for mapping 1); \
             device read from buffer 1 (0x10000200, 45 bytes), at {file}:{line}:{column}"
        )
    );
}
