//! Small drivers of the EHCI controller, each wrong in one way: every one is caught, by rule and place, whatever cache and controller do early or late. The
//! same driver without the mistake passes. `wrong_users.rs` has the same for memory alone.

use std::sync::Arc;

use hollywood_sim::controller::{Config, Controller};
use hollywood_sim::device::{DataPid, Device, Packet, Pid, Response, Speed, Token};
use hollywood_sim::scenario::{Host, Queue, Td};
use hollywood_sim::*;

const SEEDS: u64 = 24;
const LEN: u32 = 45;
/// Where the data are, apart from what the host lays out.
const BUFFER: u32 = MEM2 + 0x8000;
const IN_MEM1: u32 = MEM1 + 0x8000;

/// A device that gives and takes packets of 45 bytes, all the same toggle: each test moves one.
struct Source;

impl Device for Source {
    fn speed(&self) -> Speed {
        Speed::High
    }

    fn reset(&mut self) {}

    fn transaction(&mut self, token: Token, _data: Option<&Packet>) -> Response {
        match token.pid {
            Pid::In => Response::Data(Packet {
                pid: DataPid::Data0,
                bytes: vec![0x22; LEN as usize],
            }),
            _ => Response::Ack,
        }
    }

    fn acknowledge(&mut self, _token: Token) {}
}

/// A driver: a queue head that has nothing to do yet.
struct Driver {
    host: Host<Controller>,
    memory: Arc<Memory>,
    queue: Queue,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let memory = Arc::new(Memory::new(0x1_0000, 0x2_0000));
        let controller = Controller::new(memory.clone(), Config::WII);
        controller.plug(0, Source);
        let mut host = Host::new(controller);
        host.start();
        host.reset_port(0);
        let queue = host.add(512 << 16 | 2 << 12 | 1 << 8, 1 << 30);
        memory.set_adversary(Adversary::seeded(seed));
        host.bus.set_adversary(Adversary::seeded(!seed));
        memory.act_as(1);
        Self {
            host,
            memory,
            queue,
        }
    }

    fn run(&mut self, pid: Pid, address: u32) -> Vec<u32> {
        self.host.run(self.queue, &[Td::new(pid, address, LEN)])
    }

    fn store(&self, address: u32, byte: u8) {
        self.memory.store(address, &[byte; LEN as usize]);
    }

    fn clean(&self, address: u32) {
        self.memory.clean(address, LEN);
    }

    /// Makes room for a device: what was there is out of the cache.
    fn prepare(&self, address: u32) {
        self.store(address, 0x11);
        self.memory.flush(address, LEN);
        self.memory.sync();
    }

    fn invalidate(&self, address: u32) {
        self.memory.invalidate(address, LEN);
        self.memory.sync();
    }

    /// A qTD, not handed over.
    fn qtd(&mut self) -> u32 {
        self.prepare(BUFFER);
        self.host.chain(&[Td::new(Pid::In, BUFFER, LEN)])[0]
    }

    fn hand_over(&mut self, qtd: u32) {
        self.host.set_words(self.queue.address + 16, &[qtd]);
        self.host.bus.advance_us(1000);
    }
}

/// What a driver does.
type Act = fn(&mut Driver);

/// Returns the first violation of a driver.
fn first(seed: u64, act: Act) -> Option<Violation> {
    let mut driver = Driver::new(seed);
    act(&mut driver);
    driver.memory.take_violations().first().copied()
}

/// Checks that a mistake is caught whatever is early or late: this rule, at this address (that of the queue head, if it is 0), in these words.
#[track_caller]
fn caught(act: Act, rule: Rule, address: u32, words: &str) {
    for seed in 0..SEEDS {
        let violation = first(seed, act).expect("nothing was caught");
        let message = violation.to_string();
        assert_eq!(violation.rule, rule, "{message}");
        if address != 0 {
            assert_eq!(violation.address, address, "{message}");
        }
        assert!(message.contains(words), "{message}");
        assert!(message.contains("wrong_drivers.rs:"), "{message}");
    }
}

fn sends(driver: &mut Driver) {
    driver.store(BUFFER, 0x33);
    driver.clean(BUFFER);
    driver.memory.sync();
    assert_eq!(driver.run(Pid::Out, BUFFER)[0] & 0xff, 0);
}

fn receives(driver: &mut Driver) {
    driver.prepare(BUFFER);
    assert_eq!(driver.run(Pid::In, BUFFER)[0] & 0xff, 0);
    driver.invalidate(BUFFER);
    assert_eq!(driver.memory.load(BUFFER, LEN), [0x22; LEN as usize]);
}

fn unlinks(driver: &mut Driver) {
    let qtd = driver.qtd();
    driver.hand_over(qtd);
    assert!(driver.host.remove(driver.queue));
    driver.host.set_words(driver.queue.address, &[0; 12]);
    driver.host.bus.advance_us(2000);
}

#[test]
fn the_right_driver_passes() {
    for seed in 0..SEEDS {
        for act in [sends as Act, receives, unlinks] {
            assert_eq!(first(seed, act), None);
        }
    }
}

#[test]
fn data_that_were_not_cleaned_are_caught() {
    let act: Act = |driver| {
        driver.store(BUFFER, 0x33);
        driver.run(Pid::Out, BUFFER);
    };
    caught(
        act,
        Rule::MissingClean,
        BUFFER,
        "data read for qTD at 0x1000",
    );
}

#[test]
fn a_descriptor_that_was_not_cleaned_is_caught() {
    let act: Act = |driver| {
        let qtd = driver.host.take(32, 32);
        let words = Td::new(Pid::In, BUFFER, LEN).words(1, 1);
        driver
            .memory
            .store(qtd, &words.map(u32::to_le_bytes).concat());
        driver.hand_over(qtd);
    };
    caught(act, Rule::MissingClean, 0, "fetch of qTD at 0x1000");
}

#[test]
fn a_missing_sync_is_caught() {
    let act: Act = |driver| {
        driver.store(BUFFER, 0x33);
        driver.clean(BUFFER);
        driver.run(Pid::Out, BUFFER);
    };
    // An eviction before the clean leaves nothing to write back, and so nothing to wait for.
    let violation = (0..SEEDS).find_map(|seed| first(seed, act));
    let violation = violation.expect("nothing was caught");
    assert_eq!(violation.rule, Rule::MissingSync);
    assert!(violation.to_string().contains("data read for qTD"));
}

#[test]
fn a_missing_invalidate_before_is_caught() {
    let act: Act = |driver| {
        driver.store(BUFFER, 0x11);
        driver.run(Pid::In, BUFFER);
    };
    let rule = Rule::MissingInvalidateBefore;
    caught(act, rule, BUFFER, "data write for qTD at 0x1000");
}

#[test]
fn a_missing_invalidate_after_is_caught() {
    let act: Act = |driver| {
        driver.prepare(BUFFER);
        driver.run(Pid::In, BUFFER);
        driver.memory.load(BUFFER, LEN);
    };
    caught(act, Rule::MissingInvalidateAfter, BUFFER, "load");
}

#[test]
fn a_shared_cache_line_is_caught() {
    let act: Act = |driver| {
        driver.prepare(BUFFER);
        driver.memory.store(BUFFER + LEN, &[0x77]);
        driver.run(Pid::In, BUFFER);
    };
    let words = "data write for qTD at 0x1000";
    caught(act, Rule::SharedLine, BUFFER + LEN, words);
}

#[test]
fn a_receive_into_mem1_is_caught() {
    let act: Act = |driver| {
        driver.prepare(IN_MEM1);
        driver.run(Pid::In, IN_MEM1);
        // The last byte is as it was.
        let bytes = driver.memory.uncached_load(IN_MEM1 + 43, 2);
        assert_eq!(bytes, [0x22, 0x11]);
    };
    caught(act, Rule::Mem1PartialWord, IN_MEM1 + 44, "to buffer 1");
}

#[test]
fn an_unaligned_buffer_is_caught() {
    let act: Act = |driver| {
        driver.prepare(BUFFER);
        driver.run(Pid::In, BUFFER + 4);
        let bytes = driver.memory.uncached_load(BUFFER, 1);
        assert_eq!(bytes, [0x22], "the data went astray");
    };
    caught(act, Rule::Unaligned, BUFFER + 4, "for qTD at 0x1000");
}

#[test]
fn an_unaligned_descriptor_is_caught_and_hangs_the_controller() {
    let act: Act = |driver| {
        let qtd = driver.qtd();
        driver.hand_over(qtd + 16);
        assert_eq!(driver.host.word(qtd + 8) & 0x80, 0x80);
        assert!(!driver.host.remove(driver.queue), "it hangs");
    };
    caught(
        act,
        Rule::DescriptorAlignment,
        0,
        "the controller hangs on it",
    );
}

#[test]
fn a_descriptor_across_pages_is_caught() {
    let act: Act = |driver| {
        // 48 bytes, 32 of them in this page.
        let head = MEM2 + 0x1_0fe0;
        driver.host.set_words(head, &[0; 24]);
        let first = driver.host.word(driver.queue.address);
        let words = [first, 512 << 16 | 2 << 12 | 1 << 8, 1 << 30, 0, 1, 1, 0];
        driver.host.set_words(head, &words);
        driver.host.set_words(driver.queue.address, &[head | 2]);
        driver.host.bus.advance_us(500);
    };
    let words = "fetch of QH at 0x10010fe0";
    caught(act, Rule::DescriptorPage, MEM2 + 0x1_0fe0, words);
}

#[test]
fn undefined_contents_are_caught() {
    let act: Act = |driver| {
        let tds = [Td::new(Pid::In, BUFFER, 0x5001)];
        let chain = driver.host.chain(&tds);
        driver.hand_over(chain[0]);
    };
    let words = "more bytes than five pages have room for";
    caught(act, Rule::DescriptorContents, 0, words);
}

#[test]
fn reuse_before_the_doorbell_is_caught() {
    let act: Act = |driver| {
        let qtd = driver.qtd();
        driver.hand_over(qtd);
        let queue = driver.queue;
        driver.host.unlink(queue);
        // A microframe later it is something else, although nobody waited for the doorbell.
        driver.host.bus.step_microframe();
        driver.host.set_words(queue.address + 4, &[0x5555_5555; 8]);
        driver.host.bus.advance_us(1000);
    };
    caught(act, Rule::DescriptorInUse, 0, "QH at 0x1000");
}

#[test]
fn changing_a_queue_head_that_is_active_is_caught() {
    let act: Act = |driver| {
        driver.prepare(BUFFER);
        driver.host.bus.unplug(0);
        let chain = driver.host.chain(&[Td::new(Pid::In, BUFFER, LEN)]);
        let token = driver.host.word(chain[0] + 8);
        // It tries for ever, so that it is active all the time.
        driver.host.set_words(chain[0] + 8, &[token & !0xc00]);
        driver.hand_over(chain[0]);
        let queue = driver.queue.address;
        for seed in 0..64 {
            driver.host.bus.set_adversary(Adversary::seeded(seed));
            let token = driver.host.word(queue + 24);
            driver.host.set_words(queue + 24, &[token & !0x80]);
            driver.host.bus.step_microframe();
            driver.host.set_words(queue + 24, &[token]);
            driver.host.bus.step_microframe();
        }
    };
    caught(act, Rule::DescriptorInUse, 0, "write-back of QH at 0x1000");
}

#[test]
fn a_byte_store_into_a_descriptor_is_caught() {
    let act: Act = |driver| {
        let qtd = driver.qtd();
        driver.memory.uncached_store8(qtd + 8, 0x80);
    };
    caught(act, Rule::ShortUncachedStore, 0, "short uncached store");
}

#[test]
fn a_descriptor_used_through_both_views_is_caught() {
    let act: Act = |driver| {
        let qtd = driver.qtd();
        driver.memory.store(qtd + 16, &[0; 4]);
        driver.host.set_words(qtd, &[1]);
    };
    caught(act, Rule::Alias, 0, "alias");
}

#[test]
fn an_address_outside_ram_is_caught_and_halts_the_controller() {
    let act: Act = |driver| {
        driver.run(Pid::In, 0x3000_0000);
        assert_eq!(driver.host.read(0x04) & 0x1010, 0x1010);
    };
    let words = "data write for qTD at 0x1000";
    caught(act, Rule::OutsideRam, 0x3000_0000, words);
}

#[test]
fn data_that_nobody_wrote_are_caught() {
    let act: Act = |driver| {
        driver.run(Pid::Out, BUFFER);
    };
    caught(act, Rule::Uninitialised, BUFFER, "data read for qTD at");
}

#[test]
fn data_of_somebody_else_are_caught() {
    let act: Act = |driver| {
        driver.store(BUFFER, 0x33);
        driver.memory.act_as(2);
        driver.memory.store(BUFFER + 32, &[0x44; 13]);
        driver.clean(BUFFER);
        driver.memory.sync();
        driver.run(Pid::Out, BUFFER);
    };
    caught(act, Rule::Leak, BUFFER + 32, "data read for qTD at");
}

#[test]
fn data_that_were_given_back_are_caught() {
    let act: Act = |driver| {
        driver.store(BUFFER, 0x33);
        driver.clean(BUFFER);
        driver.memory.sync();
        driver.memory.retire(BUFFER, 64);
        driver.run(Pid::Out, BUFFER);
    };
    caught(act, Rule::Leak, BUFFER, "left over from mapping 1");
}

#[test]
fn a_register_used_in_an_undefined_way_is_caught() {
    let act: Act = |driver| {
        driver.host.write(0x18, MEM2);
    };
    let words = "ASYNCLISTADDR written while its schedule runs";
    caught(act, Rule::Register, 0x0d04_0028, words);
}

/// Every rule has a user or a driver here or in `wrong_users.rs` that breaks it. A controller stays in its buffers by itself, so only memory's own tests
/// break [`Rule::OutsideBuffer`].
#[test]
fn every_rule_is_broken_by_somebody() {
    let tests = concat!(include_str!("wrong_drivers.rs"), include_str!("memory.rs"));
    for rule in Rule::ALL {
        let name = format!("Rule::{rule:?}");
        assert!(tests.contains(&name), "{name}");
    }
}
