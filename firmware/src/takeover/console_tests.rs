//! Taking and giving back on the simulated console: IOS's schedule runs on the simulated controller, IOS acts whenever it likes, and
//! in between the real driver works. The console reports whoever starts or resets what the other may be using.

extern crate std;

use super::*;
use ehci::registers::Registers;
use ehci::{Bounce, Ehci, Platform, PortChange};
use hollywood_sim::console::Console;
use hollywood_sim::device::{Function, MassStorage, disk::Disk};
use hollywood_sim::{MEM2, Memory};
use mem2_dma::{Mem2, Pool, Storage};
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// Consoles whose IOS acts at other moments. Emulated processors, as big-endian ones are, take their time.
const SEEDS: u64 = if cfg!(target_endian = "big") { 8 } else { 48 };
const PORTS: u8 = 4;
const POOL: u32 = MEM2 + 0x4000;
const POOL_BYTES: u32 = 0x4_0000;

/// The program's side. Time passes with every access, for IOS too.
#[derive(Clone)]
struct Wii(Console);

impl Wii {
    fn address(register: Register) -> u32 {
        let operational = |offset: u32| 0x0D04_0010 + offset;
        match register {
            Register::AhbProt => 0x0D80_0064,
            Register::PpcIrqFlag => 0x0D00_0030,
            Register::PpcIrqMask => 0x0D00_0034,
            Register::ArmIrqFlag => 0x0D80_0038,
            Register::ArmIrqMask => 0x0D80_003C,
            Register::UsbCmd => operational(0x00),
            Register::UsbSts => operational(0x04),
            Register::UsbIntr => operational(0x08),
            Register::FrIndex => operational(0x0C),
            Register::PeriodicListBase => operational(0x14),
            Register::AsyncListAddr => operational(0x18),
            Register::ConfigFlag => operational(0x40),
            Register::PortSc(port) => operational(0x44 + 4 * u32::from(port)),
            Register::Control => 0x0D04_00CC,
        }
    }
}

impl Hardware for Wii {
    fn read(&mut self, register: Register) -> u32 {
        self.0.step_microframe();
        self.0.read32(Self::address(register))
    }

    fn write(&mut self, register: Register, value: u32) {
        self.0.step_microframe();
        self.0.write32(Self::address(register), value);
    }

    fn pause(&mut self) {
        self.0.step_microframe();
    }
}

impl Registers for Wii {
    fn read(&self, offset: usize) -> u32 {
        self.0.read32(0x0D04_0000 + offset as u32)
    }

    fn write(&self, offset: usize, value: u32) {
        self.0.write32(0x0D04_0000 + offset as u32, value);
    }
}

impl Platform for Wii {
    fn now_us(&self) -> u64 {
        self.0.step_microframe();
        self.0.controller.now_us()
    }

    fn serves_port(&self, port: u8) -> bool {
        port != 2
    }

    fn prepare(&self, registers: &dyn Registers) {
        ehci::platform::hollywood::enable_interrupt(registers);
    }
}

fn console(seed: u64) -> (Console, Arc<Memory>) {
    let memory = Arc::new(Memory::new(0, 0x10_0000));
    let console = Console::new(memory.clone(), seed);
    steps(&console, 20 + seed as u32);
    (console, memory)
}

fn steps(console: &Console, count: u32) {
    for _ in 0..count {
        console.step_microframe();
    }
}

fn clean(memory: &Memory) {
    let complaints: Vec<_> = memory.take_violations();
    assert!(complaints.is_empty(), "{}", complaints[0]);
}

/// Lets the driver find a stick.
fn drive(console: &Console, memory: &Memory) {
    // SAFETY: nobody else uses the range, and the memory outlives the pool.
    let provider = unsafe { memory.carve(POOL, POOL_BYTES) }.unwrap();
    let mut storage = Box::new(Storage::<8, 32>::new());
    let pool: Pool = Pool::new(&provider, &mut *storage).unwrap();
    let dma = Bounce::new(&pool, Mem2::CONSTRAINTS).unwrap();
    let mut driver = Ehci::new(Wii(console.clone()), dma, Wii(console.clone())).unwrap();
    driver.start().unwrap();
    let mut found = false;
    for _ in 0..4000 {
        console.step_microframe();
        driver.poll();
        assert!(!console.ios_runs(), "both at once");
        if let Some(event) = driver.take_port_event() {
            found |= event.port == 0 && event.change == PortChange::Attached;
        }
    }
    assert!(found, "the driver did not see the stick");
    driver.stop().unwrap();
}

#[test]
fn a_console_is_left_exactly_as_it_was_found_and_never_do_both_sides_run() {
    for seed in 0..SEEDS {
        let (console, memory) = console(seed);
        let stick = MassStorage::new([Disk::zeros(512, 64)]).plug();
        console.controller.plug(0, stick);
        steps(&console, 10);
        let before = console.snapshot();
        assert!(before.running, "IOS is at work");
        let mut wii = Wii(console.clone());
        let found = take(&mut wii, PORTS).unwrap();
        let acted = console.ios_acted();
        assert!(!console.ios_runs());
        drive(&console, &memory);
        assert_eq!(console.ios_acted(), acted, "IOS reached the controller");
        give_back(&mut wii, &found);
        steps(&console, 16);
        assert_eq!(console.snapshot(), before, "seed {seed}");
        assert!(console.ios_runs(), "seed {seed}");
        steps(&console, 100);
        assert!(console.ios_acted() > acted, "IOS has its interrupts back");
        clean(&memory);
    }
}

#[test]
fn giving_back_without_having_used_it_leaves_no_trace_either() {
    for seed in 0..SEEDS {
        let (console, memory) = console(seed);
        let before = console.snapshot();
        let mut wii = Wii(console.clone());
        for _ in 0..3 {
            let found = take(&mut wii, PORTS).unwrap();
            steps(&console, seed as u32);
            give_back(&mut wii, &found);
            steps(&console, 16);
            assert_eq!(console.snapshot(), before, "seed {seed}");
        }
        clean(&memory);
    }
}

#[test]
fn on_a_console_whose_hardware_is_closed_nothing_happens() {
    let (console, memory) = console(1);
    // The privileged view goes with it.
    console.write32(0x0D80_0064, 0x0010_0000);
    let before = console.snapshot();
    let result = take(&mut Wii(console.clone()), PORTS);
    assert!(result.is_err(), "{result:?}");
    steps(&console, 16);
    assert_eq!(console.snapshot(), before);
    assert!(console.ios_runs());
    clean(&memory);
}
