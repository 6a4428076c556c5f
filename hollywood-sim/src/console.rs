//! A console in which IOS has the controller: its schedule runs, its interrupts are on, until the other processor takes the controller away from it.
//!
//! Both processors reach the controller through Hollywood, as AHBPROT lets them (hardware notes, 4.1), and both see its interrupt, as their masks let them
//! (4.2). IOS does not sit still: it answers interrupts, and when it finds its controller stopped it starts it again.
//!
//! ```
//! use std::sync::Arc;
//! use hollywood_sim::{Memory, console::Console};
//!
//! let console = Console::new(Arc::new(Memory::new(0, 0x10_0000)), 1);
//! assert_eq!(console.read32(0x0d80_0064), 0xffff_ffff, "AHBPROT is open");
//! assert!(console.ios_runs());
//! let found = console.snapshot();
//! // Take the controller, use it, give it back; then
//! assert_eq!(console.snapshot(), found);
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::controller::Controller;
use crate::memory::Doing;
use crate::{Access, MEM2, Memory, Random, Rule};

/// The controller's bit in flags and masks of interrupts (4.2).
const INTERRUPT: u32 = 1 << 4;
/// AHBPROT (4.1): the CPU's access to the controller, IOS's, and the privileged view.
const CPU_EHCI: u32 = 1 << 4;
const IOS_EHCI: u32 = 1 << 20;
const PRIVILEGED: u32 = 1 << 31;
/// Hollywood's registers and the controller's, from the start of the normal view.
const NORMAL: u32 = 0x0d00_0000;
const MIRROR: u32 = 0x0d80_0000;
const EHCI: u32 = 0x4_0000;

/// Offsets of the controller's registers that matter here.
const USBCMD: u32 = 0x10;
const USBSTS: u32 = 0x14;
const USBINTR: u32 = 0x18;
const PERIODICLISTBASE: u32 = 0x24;
const ASYNCLISTADDR: u32 = 0x28;
const CONFIGFLAG: u32 = 0x50;
const PORTSC: u32 = 0x54;
const CHICKEN: u32 = 0xcc;
const RUN: u32 = 1;
const RESET: u32 = 2;
const HALTED: u32 = 0x1000;

/// IOS's command: run, both schedules, an interrupt in each microframe.
const IOS_COMMAND: u32 = 0x0001_0031;
const IOS_INTERRUPTS: u32 = 0x37;

/// A console.
#[derive(Clone)]
pub struct Console {
    /// The controller, for devices and faults. Its registers are for the two processors.
    pub controller: Controller,
    state: Rc<RefCell<State>>,
}

struct State {
    protection: u32,
    /// PPCIRQMASK, ARMIRQMASK, PPCIRQFLAG, ARMIRQFLAG.
    masks: [u32; 2],
    flags: [u32; 2],
    /// IOS's frame list and head of the ring.
    lists: [u32; 2],
    random: Random,
    /// How often IOS did something.
    acts: u64,
}

/// What IOS relies on, and what the CPU had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// AHBPROT.
    pub protection: u32,
    /// PPCIRQMASK and ARMIRQMASK.
    pub masks: [u32; 2],
    /// USBCMD, USBINTR, PERIODICLISTBASE, CONFIGFLAG, the control register at 0xCC.
    pub registers: [u32; 5],
    /// Whether both schedules run.
    pub running: bool,
    /// The owner bits of the ports.
    pub owners: Vec<bool>,
}

impl Console {
    /// Switches a console on, with IOS at work in the last 64 KiB of the memory's MEM2. `seed` says when IOS looks after its controller.
    ///
    /// # Panics
    /// If MEM2 has less than 128 KiB.
    #[track_caller]
    pub fn new(memory: Arc<Memory>, seed: u64) -> Self {
        let own = MEM2 + memory.mem2_len().checked_sub(0x1_0000).expect("128 KiB");
        let lists = [own, own + 0x1000];
        let controller = Controller::wii(memory.clone());
        let console = Self {
            controller,
            state: Rc::new(RefCell::new(State {
                protection: u32::MAX,
                masks: [0x4000_0000, 0x0000_07f7],
                flags: [0; 2],
                lists,
                random: Random::new(seed),
                acts: 0,
            })),
        };
        let store = |address: u32, word: u32| memory.uncached_store32(address, word.swap_bytes());
        for entry in 0..1024 {
            store(lists[0] + 4 * entry, 1);
        }
        let head = [
            lists[1] | 2,
            0x8000 | 2 << 12 | 64 << 16,
            1 << 30,
            0,
            1,
            1,
            0x40,
        ];
        for (at, word) in (0..).zip(head.into_iter().chain([0; 5])) {
            store(lists[1] + 4 * at, word);
        }
        let write = |offset, value| console.controller.write32(offset, value);
        write(CHICKEN, 0x000e_9911);
        write(PERIODICLISTBASE, lists[0]);
        write(ASYNCLISTADDR, lists[1]);
        write(USBINTR, IOS_INTERRUPTS);
        write(USBCMD, IOS_COMMAND);
        write(CONFIGFLAG, 1);
        // Bluetooth is the companion's.
        write(PORTSC + 8, 0x3000);
        console.controller.step_microframe();
        console
    }

    /// Reads a register as the CPU does: Hollywood's (0x0D00_0000 on, or 0x0D80_0000 on) or the controller's in either view. What it has no right to reads
    /// as 0.
    #[track_caller]
    pub fn read32(&self, address: u32) -> u32 {
        match self.cpu_reaches(address) {
            Some(offset @ EHCI..0x5_0000) => self.controller.read32(offset - EHCI),
            Some(offset) => self.state.borrow().read(offset),
            None => 0,
        }
    }

    /// Writes a register as the CPU does. What it has no right to stays as it is.
    #[track_caller]
    pub fn write32(&self, address: u32, value: u32) {
        let Some(offset) = self.cpu_reaches(address) else {
            return;
        };
        if let EHCI..0x5_0000 = offset {
            self.check(offset - EHCI, value);
            self.controller.write32(offset - EHCI, value);
        } else {
            self.state.borrow_mut().write(offset, value);
        }
    }

    fn cpu_reaches(&self, address: u32) -> Option<u32> {
        let state = self.state.borrow();
        let privileged = address >= MIRROR;
        let offset = address.checked_sub(if privileged { MIRROR } else { NORMAL })?;
        let has = |bit| state.protection & bit != 0;
        let allowed = match offset {
            EHCI..0x5_0000 => has(CPU_EHCI) && (!privileged || has(PRIVILEGED)),
            // The CPU's own interrupts need no privilege.
            0x30 | 0x34 => true,
            _ => privileged && has(PRIVILEGED),
        };
        allowed.then_some(offset)
    }

    /// Both at once: the CPU starts or resets what IOS may be using.
    #[track_caller]
    fn check(&self, offset: u32, value: u32) {
        if offset != USBCMD || value & (RUN | RESET) == 0 {
            return;
        }
        let state = self.state.borrow();
        // To let IOS's own schedule go on is giving it back.
        let own = self.controller.read32(PERIODICLISTBASE) == state.lists[0];
        let what = if value & RESET != 0 && state.protection & IOS_EHCI != 0 {
            "reset while IOS has access to the controller"
        } else if value & RESET != 0 && self.controller.read32(USBSTS) & HALTED == 0 {
            "reset while IOS's schedule runs"
        } else if own {
            return;
        } else if state.protection & IOS_EHCI != 0 {
            "started while IOS has access to the controller"
        } else if state.masks[1] & INTERRUPT != 0 {
            "started while IOS gets the controller's interrupts"
        } else {
            return;
        };
        let doing = Doing::here(Access::Register(what));
        let memory = self.controller.memory();
        memory.accuse(Rule::Register, NORMAL + EHCI + offset, 4, doing);
    }

    /// Lets 125 microseconds pass, on both processors.
    #[track_caller]
    pub fn step_microframe(&self) {
        self.controller.step_microframe();
        let mut state = self.state.borrow_mut();
        if self.controller.interrupt() {
            // Level-triggered: what is not ended at its source comes back.
            state.flags = state.flags.map(|flags| flags | INTERRUPT);
        }
        let woken = state.flags[1] & state.masks[1] & INTERRUPT != 0;
        let looks = woken || state.random.below(8) == 0;
        if looks && state.protection & IOS_EHCI != 0 {
            state.acts += 1;
            state.flags[1] &= !INTERRUPT;
            let lists = state.lists;
            drop(state);
            self.ios_acts(lists);
        }
    }

    /// IOS ends its interrupts, and starts a controller that it finds stopped with its lists.
    fn ios_acts(&self, lists: [u32; 2]) {
        let events = self.controller.read32(USBSTS) & 0x3f;
        if events != 0 {
            self.controller.write32(USBSTS, events);
        }
        let its_own = self.controller.read32(PERIODICLISTBASE) == lists[0];
        if its_own && self.controller.read32(USBSTS) & HALTED != 0 {
            self.controller.write32(USBCMD, IOS_COMMAND);
        }
    }

    /// Whether IOS's schedule is the one that runs.
    pub fn ios_runs(&self) -> bool {
        let lists = self.state.borrow().lists;
        let its_own = self.controller.read32(PERIODICLISTBASE) == lists[0];
        its_own && self.controller.read32(USBSTS) & HALTED == 0
    }

    /// Returns how often IOS looked after the controller.
    pub fn ios_acted(&self) -> u64 {
        self.state.borrow().acts
    }

    /// Returns what has to be the same after the controller was given back.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.borrow();
        let registers = [USBCMD, USBINTR, PERIODICLISTBASE, CONFIGFLAG, CHICKEN];
        let port = |port: u32| self.controller.read32(PORTSC + 4 * port) & 0x2000 != 0;
        Snapshot {
            protection: state.protection,
            masks: state.masks,
            registers: registers.map(|offset| self.controller.read32(offset)),
            running: self.controller.read32(USBSTS) & 0xd000 == 0xc000,
            owners: (0..4).map(port).collect(),
        }
    }
}

impl State {
    fn read(&self, offset: u32) -> u32 {
        match offset {
            0x30 => self.flags[0],
            0x34 => self.masks[0],
            0x38 => self.flags[1],
            0x3c => self.masks[1],
            0x64 => self.protection,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u32, value: u32) {
        match offset {
            0x30 => self.flags[0] &= !value,
            0x34 => self.masks[0] = value,
            0x38 => self.flags[1] &= !value,
            0x3c => self.masks[1] = value,
            0x64 => self.protection = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHBPROT: u32 = 0x0d80_0064;
    const ARM_MASK: u32 = 0x0d80_003c;
    const OWN: u32 = MEM2 + 0x1000;

    fn console(seed: u64) -> Console {
        let memory = Memory::new(0, 0x4_0000);
        Console::new(Arc::new(memory), seed)
    }

    fn ehci(offset: u32) -> u32 {
        NORMAL + EHCI + offset
    }

    fn clear(console: &Console, address: u32, bits: u32) {
        console.write32(address, console.read32(address) & !bits);
    }

    fn steps(console: &Console, count: u32) {
        for _ in 0..count {
            console.step_microframe();
        }
    }

    fn complaints(console: &Console) -> Vec<String> {
        let violations = console.controller.memory().take_violations();
        violations.iter().map(ToString::to_string).collect()
    }

    /// The careful order of the hardware notes, 5.3.
    fn take(console: &Console) {
        clear(console, ARM_MASK, INTERRUPT);
        clear(console, ehci(USBCMD), RUN);
        clear(console, AHBPROT, IOS_EHCI);
        clear(console, ehci(USBCMD), RUN);
        steps(console, 16);
        console.write32(ehci(USBCMD), RESET);
        steps(console, 16);
    }

    fn start_own(console: &Console) {
        let memory = console.controller.memory();
        for entry in 0..1024 {
            memory.uncached_store32(OWN + 4 * entry, 1u32.swap_bytes());
        }
        console.write32(ehci(PERIODICLISTBASE), OWN);
        console.write32(ehci(USBCMD), 0x0001_0011);
        steps(console, 16);
    }

    #[test]
    fn ios_starts_its_controller_again_as_long_as_it_can() {
        let console = console(1);
        steps(&console, 100);
        clear(&console, ehci(USBCMD), RUN);
        steps(&console, 100);
        assert!(console.ios_runs());
        assert!(console.ios_acted() > 5);
        take(&console);
        steps(&console, 100);
        assert!(!console.ios_runs());
        assert_eq!(complaints(&console), [""; 0]);
    }

    #[test]
    fn what_is_taken_in_the_careful_order_can_be_given_back() {
        for seed in 0..32 {
            let console = console(seed);
            steps(&console, 20 + seed as u32);
            let found = console.snapshot();
            let lists = console.state.borrow().lists;
            take(&console);
            start_own(&console);
            clear(&console, ehci(USBCMD), RUN);
            steps(&console, 16);
            console.write32(ehci(USBCMD), RESET);
            steps(&console, 16);
            let back = [
                (PERIODICLISTBASE, lists[0]),
                (ASYNCLISTADDR, lists[1]),
                (USBINTR, IOS_INTERRUPTS),
                (CONFIGFLAG, 1),
                (PORTSC + 8, 0x3000),
                (USBCMD, IOS_COMMAND),
            ];
            for (offset, value) in back {
                console.write32(ehci(offset), value);
            }
            console.write32(AHBPROT, u32::MAX);
            console.write32(ARM_MASK, found.masks[1]);
            steps(&console, 16);
            assert_eq!(console.snapshot(), found);
            assert!(console.ios_runs());
            assert_eq!(complaints(&console), [""; 0]);
        }
    }

    #[test]
    fn both_sides_at_once_are_reported() {
        type Act = fn(&Console);
        let cases: [(Act, &str); 4] = [
            (
                |console| {
                    clear(console, AHBPROT, IOS_EHCI);
                    console.write32(ehci(USBCMD), RESET);
                },
                "reset while IOS's schedule runs",
            ),
            (
                |console| console.write32(ehci(USBCMD), RESET),
                "reset while IOS has access",
            ),
            (
                |console| {
                    take(console);
                    console.write32(AHBPROT, u32::MAX);
                    start_own(console);
                },
                "started while IOS has access",
            ),
            (
                |console| {
                    take(console);
                    console.write32(ARM_MASK, u32::MAX);
                    start_own(console);
                },
                "started while IOS gets the controller's interrupts",
            ),
        ];
        for (act, words) in cases {
            let console = console(3);
            act(&console);
            let complaints = complaints(&console);
            assert!(
                complaints.iter().any(|text| text.contains(words)),
                "{words}"
            );
        }
    }

    #[test]
    fn without_rights_registers_read_as_zero_and_keep_what_they_have() {
        let console = console(1);
        console.write32(AHBPROT, !CPU_EHCI);
        assert_eq!(console.read32(ehci(0)), 0);
        console.write32(ehci(USBINTR), 0);
        assert_eq!(console.controller.read32(USBINTR), IOS_INTERRUPTS);
        console.write32(AHBPROT, 0);
        assert_eq!(console.read32(AHBPROT), 0);
        console.write32(AHBPROT, u32::MAX);
        assert_eq!(console.read32(AHBPROT), 0, "it closed itself out");
        assert_eq!(
            console.read32(NORMAL + 0x34),
            0x4000_0000,
            "its own mask it sees"
        );
    }

    #[test]
    fn both_processors_see_the_interrupt() {
        let console = console(1);
        clear(&console, AHBPROT, IOS_EHCI);
        console
            .controller
            .plug(0, crate::device::Hub::new(crate::device::Speed::High, 1));
        steps(&console, 2);
        assert_eq!(console.read32(0x0d80_0030) & INTERRUPT, INTERRUPT);
        assert_eq!(console.read32(0x0d80_0038) & INTERRUPT, INTERRUPT);
        console.write32(0x0d80_0030, INTERRUPT);
        assert_eq!(console.read32(0x0d80_0030), 0);
        steps(&console, 1);
        assert_eq!(
            console.read32(0x0d80_0030) & INTERRUPT,
            INTERRUPT,
            "it is a level"
        );
    }
}
