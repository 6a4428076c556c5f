//! The experiment on the simulated Hollywood, which loses partial words, and on one that does not.

extern crate std;
use super::*;
use hollywood_sim::controller::Controller;
use hollywood_sim::device::{Fault, Faulty, Function, Line, MassStorage, Pid, When, disk::Disk};
use hollywood_sim::scenario::Host;
use hollywood_sim::{MEM2, Memory, Rule, Rules};
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

const SCHEDULE: u32 = MEM2 + 0x8_0000;
const IN_MEM2: u32 = MEM2 + 0x8_1000;
const IN_MEM1: u32 = 0x2000;

struct Page {
    memory: Arc<Memory>,
    address: u32,
}

impl Coherent for Page {
    fn bus_address(&self) -> u32 {
        self.address
    }
    fn size(&self) -> usize {
        PAGE
    }
    fn load(&self, offset: usize) -> u32 {
        let bytes = self.memory.uncached_load(self.address + offset as u32, 4);
        u32::from_le_bytes(bytes.try_into().unwrap())
    }
    fn store(&self, offset: usize, value: u32) {
        self.memory
            .uncached_store32(self.address + offset as u32, value.swap_bytes());
    }
}

struct Board(Controller);

impl Registers for Board {
    fn read(&self, offset: usize) -> u32 {
        self.0.read32(offset as u32)
    }
    fn write(&self, offset: usize, value: u32) {
        self.0.write32(offset as u32, value);
    }
}

impl Surroundings for Board {
    fn now_us(&self) -> u64 {
        self.0.now_us()
    }
    fn pause(&self) {
        self.0.step_microframe();
    }
    /// A level.
    fn flag(&self) -> Option<bool> {
        Some(self.0.interrupt())
    }
    fn clear_flag(&self) {}
}

/// A controller with a stick at address 0, as a driver runs it.
fn board(rules: Rules, stick: impl hollywood_sim::device::Device + 'static) -> Board {
    let memory = Arc::new(Memory::with_rules(0x1_0000, 0x10_0000, rules));
    let controller = Controller::wii(memory);
    controller.plug(0, stick);
    let mut host = Host::new(controller.clone());
    host.start();
    host.reset_port(0);
    Board(controller)
}

fn stick() -> impl hollywood_sim::device::Device + 'static {
    MassStorage::new([Disk::zeros(512, 2048)]).plug()
}

fn experiment(board: &Board, mem1: u32) -> String {
    let page = |address| Page {
        memory: board.0.memory().clone(),
        address,
    };
    let bench = Bench {
        registers: board,
        schedule: &page(SCHEDULE),
        mem2: &page(IN_MEM2),
        mem1: &page(mem1),
        around: board,
    };
    let mut text = String::new();
    bench.run(0, &mut text).unwrap();
    // Nothing is wrong but what the experiment is about.
    for violation in board.0.memory().take_violations() {
        assert!(
            matches!(violation.rule, Rule::Mem1PartialWord | Rule::Unaligned),
            "{violation}"
        );
    }
    text
}

/// The lines below a heading.
fn section<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    let (_, rest) = text.split_once(heading).unwrap_or_else(|| panic!("{text}"));
    let rest = rest.split("\n# ").next().unwrap();
    rest.lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn on_hollywood_mem1_loses_partial_words_and_alignment_is_ignored() {
    let text = experiment(&board(Rules::STRICT, stick()), IN_MEM1);
    let mem2 = section(&text, "device to MEM2");
    let mem1 = section(&text, "device to MEM1");
    assert_eq!(
        mem2[..3],
        ["18 at 0: right", "17 at 0: right", "16 at 0: right"]
    );
    assert_eq!(mem2[13], "1 at 0: right");
    assert!(
        mem2[14].starts_with("18 at 1: -1 became 0x12; 0 is 0x01 for 0x12;"),
        "{text}"
    );
    assert_eq!(mem1[0], "18 at 0: 16 lost; 17 lost; 2 bytes wrong");
    assert_eq!(mem1[1], "17 at 0: 16 lost; 1 bytes wrong");
    assert_eq!(mem1[2], "16 at 0: right");
    assert_eq!(mem1[13], "1 at 0: 0 lost; 1 bytes wrong");
    assert_eq!((mem1.len(), mem2.len()), (20, 20));
}

#[test]
fn where_nothing_is_lost_nothing_is_found() {
    let lenient = Rules::STRICT
        .without(Rule::Mem1PartialWord)
        .without(Rule::Unaligned);
    let text = experiment(&board(lenient, stick()), IN_MEM1);
    for memory in ["MEM1", "MEM2"] {
        let lines = section(&text, &std::format!("device to {memory}"));
        assert!(lines.iter().all(|line| line.ends_with(": right")), "{text}");
        assert_eq!(lines.len(), 20);
    }
}

#[test]
fn every_transfer_interrupts_once_and_a_level_comes_back_while_its_cause_is_there() {
    let text = experiment(&board(Rules::STRICT, stick()), IN_MEM1);
    let lines = section(&text, "# Interrupts");
    assert_eq!(lines.len(), 9, "{text}");
    assert_eq!(lines[8], "8 in USBSTS, 8 at the processor's flags");
    assert!(
        lines[0].contains("again with cause: true, again with no cause: false"),
        "{text}"
    );
}

#[test]
fn the_drivers_schedule_goes_on_as_it_was() {
    let board = board(Rules::STRICT, stick());
    let registers = || [0x10, 0x18, 0x24, 0x28, 0x50].map(|offset| board.0.read32(offset));
    let before = registers();
    experiment(&board, IN_MEM1);
    assert_eq!(registers(), before);
    board.0.advance_us(10_000);
    assert_eq!(board.0.read32(0x14) & (ASYNC_RUNS | HALTED), ASYNC_RUNS);
}

#[test]
fn a_controller_that_is_stopped_or_busy_is_left_alone() {
    for (command, words) in [(0, "is stopped"), (0x61, "the driver is at work")] {
        let board = board(Rules::STRICT, stick());
        let now = board.0.read32(0x10);
        let command = if command == 0 {
            now & !RUN
        } else {
            now | DOORBELL
        };
        board.0.write32(0x10, command);
        if command & RUN == 0 {
            board.0.advance_us(5_000);
        }
        let text = experiment(&board, IN_MEM1);
        assert!(text.contains(words), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn a_device_that_fails_or_never_answers_is_told_of() {
    let fails = Faulty::once(stick(), 0, Fault::Gone);
    let when = When::at(Pid::In, 0);
    let line = Line {
        when,
        times: u64::MAX,
        fault: Fault::Nak,
    };
    let refuses = Faulty::scripted(stick(), [line]);
    for (stick, words) in [(fails, "halted, token"), (refuses, "no end in time, token")] {
        let board = board(Rules::STRICT, stick);
        let text = experiment(&board, IN_MEM1);
        assert!(text.starts_with("! 18 bytes to MEM2: "), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_page_that_no_device_reaches_ends_the_experiment_with_the_controllers_error() {
    let board = board(Rules::STRICT, stick());
    let text = experiment_with_hole(&board);
    assert_eq!(
        section(&text, "device to MEM1"),
        ["18 at 0: host system error, USBSTS 0x00001014"].map(|line| line.to_string())
    );
}

#[test]
fn whatever_goes_wrong_the_page_has_room_for_it() {
    struct Garbage(Page);
    impl Coherent for Garbage {
        fn bus_address(&self) -> u32 {
            self.0.bus_address()
        }
        fn size(&self) -> usize {
            PAGE
        }
        fn load(&self, _: usize) -> u32 {
            0x5B5B_5B5B
        }
        fn store(&self, offset: usize, value: u32) {
            self.0.store(offset, value);
        }
    }
    let board = board(Rules::STRICT, stick());
    let page = |address| Page {
        memory: board.0.memory().clone(),
        address,
    };
    let text = experiment_in(&board, &Garbage(page(IN_MEM2)), &Garbage(page(IN_MEM1)));
    assert_eq!(section(&text, "device to MEM1").len(), 20);
    // The registers take less than the rest.
    assert!(
        text.len() < crate::ui::app::DOCUMENT_BYTES - 1200,
        "{}",
        text.len()
    );
}

/// MEM1 whose bus address leads nowhere.
fn experiment_with_hole(board: &Board) -> String {
    struct Hole(Page);
    impl Coherent for Hole {
        fn bus_address(&self) -> u32 {
            0x0800_0000
        }
        fn size(&self) -> usize {
            PAGE
        }
        fn load(&self, offset: usize) -> u32 {
            self.0.load(offset)
        }
        fn store(&self, offset: usize, value: u32) {
            self.0.store(offset, value);
        }
    }
    let page = |address| Page {
        memory: board.0.memory().clone(),
        address,
    };
    experiment_in(board, &page(IN_MEM2), &Hole(page(IN_MEM1)))
}

fn experiment_in(board: &Board, mem2: &dyn Coherent, mem1: &dyn Coherent) -> String {
    let bench = Bench {
        registers: board,
        schedule: &Page {
            memory: board.0.memory().clone(),
            address: SCHEDULE,
        },
        mem2,
        mem1,
        around: board,
    };
    let mut text = String::new();
    bench.run(0, &mut text).unwrap();
    board.0.memory().take_violations();
    text
}
