//! Taking over, starting, stopping.

use crate::memory::Coherent;
use crate::registers::UsbCmd;
use crate::testing::{Machine, Rig};
use crate::{Ehci, Platform, StartError, State};
use std::cell::Cell;

#[test]
fn start_resets_runs_and_routes_the_ports_last() {
    let rig = Rig::new();
    let writes: Vec<_> = rig
        .machine
        .state
        .borrow()
        .register_writes
        .iter()
        .map(|(offset, value)| (*offset, *value))
        .collect();
    let at = |offset: usize, wanted: &dyn Fn(u32) -> bool| {
        writes
            .iter()
            .position(|&(o, value)| o == offset && wanted(value))
            .expect("written")
    };
    let reset = at(0x10, &|value| UsbCmd(value).reset());
    let vendor = at(0xcc, &|value| value == 0x8111);
    let lists = at(0x24, &|value| value.is_multiple_of(4096))
        .max(at(0x28, &|value| value.is_multiple_of(32)));
    let run = at(0x10, &|value| UsbCmd(value).run());
    let routed = at(0x50, &|value| value == 1);
    assert!(reset < vendor && vendor < run && lists < run && run < routed);
    assert_eq!(rig.ehci.state(), State::Running);
}

#[test]
fn start_takes_over_a_controller_that_runs_someone_elses_schedules() {
    let machine = Machine::new();
    let first = Ehci::new(machine.clone(), machine.ram.clone(), machine.clone());
    let mut first = first.unwrap();
    first.start().unwrap();
    machine.advance(1000);
    // Forgotten while running, as a crashed program leaves it; its memory stays allocated, since it is still used.
    std::mem::forget(first);
    let mut second = Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
    second.start().unwrap();
    machine.advance(1000);
    let base = second.memory.frame_list();
    assert_eq!(
        machine
            .state
            .borrow()
            .register_writes
            .iter()
            .rfind(|w| w.0 == 0x24),
        Some(&(0x24, base))
    );
}

#[test]
fn a_controller_that_does_not_halt_or_reset_is_an_error_within_a_bound() {
    for (halts, expected) in [(false, "HaltTimeout"), (true, "ResetTimeout")] {
        let machine = Machine::new();
        let mut ehci = Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
        if !halts {
            machine.raise(0);
            machine.state.borrow_mut().faults.never_halts = true;
            crate::registers::Registers::write(&machine, 0x10, 1);
        }
        machine.state.borrow_mut().faults.reset_never_ends = true;
        let before = machine.state.borrow().now_us;
        let error = ehci.start().unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert!(machine.state.borrow().now_us - before < 800_000);
    }
}

#[test]
fn stop_quiesces_everything_and_returns_the_ports() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    rig.settle();
    rig.ehci.stop().unwrap();
    let state = rig.machine.state.borrow();
    assert_eq!((state.configured, state.interrupts), (0, 0));
    drop(state);
    assert!(rig.machine.status().halted());
    assert_eq!(
        rig.finish(id).0,
        Err(crate::TransferError::ControllerFailed)
    );
    assert_eq!(
        rig.machine.ram.allocations(),
        1,
        "only the descriptors are left"
    );
}

#[test]
fn dropping_the_driver_stops_the_controller_and_frees_its_memory() {
    let (rig, _) = Rig::with_stick();
    let machine = rig.machine.clone();
    drop(rig);
    assert!(machine.status().halted());
    assert_eq!(machine.ram.allocations(), 0);
}

#[test]
fn dropping_the_driver_of_a_runaway_controller_leaks_its_memory() {
    let (rig, _) = Rig::with_stick();
    let machine = rig.machine.clone();
    machine.state.borrow_mut().faults.never_halts = true;
    machine.state.borrow_mut().faults.reset_never_ends = true;
    drop(rig);
    assert_eq!(machine.ram.allocations(), 1);
    machine.advance(10_000);
}

#[test]
fn a_host_system_error_ends_everything_and_a_restart_works() {
    let (mut rig, _) = Rig::with_stick();
    let pipe = rig.open(5, Rig::IN);
    let id = rig.start_in(pipe, 512);
    rig.machine.raise(0x10);
    rig.step();
    assert_eq!(rig.ehci.state(), State::Failed);
    assert_eq!(
        rig.finish(id).0,
        Err(crate::TransferError::ControllerFailed)
    );
    assert_eq!(
        rig.ehci.take_port_event().map(|event| event.change),
        Some(crate::PortChange::Detached)
    );
    rig.ehci.start().unwrap();
    rig.attach(0);
    let pipe = rig.open(0, crate::Kind::Control);
    assert_eq!(
        rig.control_in(pipe, [0xc0, 0x55, 0, 0, 0, 0, 8, 0]),
        (Ok(()), (0..8).collect())
    );
}

#[test]
fn descriptors_that_are_not_aligned_are_refused() {
    struct Odd(crate::testing::Block);
    impl Coherent for Odd {
        fn bus_address(&self) -> u32 {
            self.0.bus_address() + 32
        }
        fn size(&self) -> usize {
            self.0.size()
        }
        fn load(&self, offset: usize) -> u32 {
            self.0.load(offset)
        }
        fn store(&self, offset: usize, value: u32) {
            self.0.store(offset, value);
        }
    }
    struct Provider(Machine);
    // SAFETY: no real device is told of these addresses.
    unsafe impl crate::memory::Dma for Provider {
        type Coherent = Odd;
        type Buffer = <std::rc::Rc<crate::testing::Ram> as crate::memory::Dma>::Buffer;
        fn coherent(&self, size: usize) -> Result<Odd, crate::memory::NoMemory> {
            self.0.ram.coherent(size).map(Odd)
        }
        fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, crate::memory::NoMemory> {
            self.0.ram.outgoing(data)
        }
        fn incoming(&self, size: usize) -> Result<Self::Buffer, crate::memory::NoMemory> {
            self.0.ram.incoming(size)
        }
    }
    let machine = Machine::new();
    let error = Ehci::new(machine.clone(), Provider(machine.clone()), machine.clone()).err();
    assert!(
        matches!(error, Some(StartError::BadMemory { .. })),
        "{error:?}"
    );
}

/// A PCI machine whose firmware owns the controller.
struct Legacy {
    machine: Machine,
    word: Cell<u32>,
    control: Cell<u32>,
    answers: bool,
}

impl Platform for Legacy {
    fn now_us(&self) -> u64 {
        self.machine.now_us()
    }

    fn read_config(&self, offset: u8) -> Option<u32> {
        Some(if offset == 0x68 {
            self.word.get()
        } else {
            self.control.get()
        })
    }

    fn write_config(&self, offset: u8, value: u32) {
        match offset {
            0x68 if self.answers && value & 1 << 24 != 0 => self.word.set(value & !(1 << 16)),
            0x68 => self.word.set(value),
            _ => self.control.set(value),
        }
    }
}

/// The machine's registers with an extended capability at 0x68, as QEMU's controller has it.
struct Extended(Machine);

impl crate::registers::Registers for Extended {
    fn read(&self, offset: usize) -> u32 {
        if offset == 8 {
            0x6880
        } else {
            self.0.read(offset)
        }
    }

    fn write(&self, offset: usize, value: u32) {
        if offset != 0x20 {
            self.0.write(offset, value);
        }
    }
}

#[test]
fn the_controller_is_taken_from_legacy_firmware_whether_it_answers_or_not() {
    for answers in [true, false] {
        let machine = Machine::new();
        let legacy = Legacy {
            machine: machine.clone(),
            word: Cell::new(0x0001_0001),
            control: Cell::new(0x2001),
            answers,
        };
        let mut ehci = Ehci::new(Extended(machine.clone()), machine.ram.clone(), &legacy).unwrap();
        ehci.start().unwrap();
        assert_eq!(legacy.word.get(), 0x0100_0001);
        assert_eq!(
            legacy.control.get(),
            0xe000_0000,
            "system management interrupts are off"
        );
    }
}
