//! Interrupts: the cascade from Hollywood through the processor interface to the CPU, and a handler per line.
//!
//! Every line is a level: it stays until its device is content. So the order is fixed: the handler quiets the device, then the
//! line's flag is acknowledged in Hollywood, then the cascade in the processor interface; what asks again by then, interrupts
//! again (hardware notes, section 4.2).
//!
//! Which source it was cannot always be read: in Dolphin the flags read as all ones or zeros, and the mask cannot be read at
//! all. Therefore the mask is kept here, and when the flags do not tell, every enabled source's handler is called. **A handler must
//! look at its device and do nothing when that did not ask.**
//!
//! ```standalone_crate
//! use hollywood_pac::interrupt::Interrupts;
//! use hollywood_pac::irq::Source;
//! use hollywood_pac::pi::Cause;
//! use hollywood_pac::Peripherals;
//!
//! fn reply() { /* take the reply, acknowledge it in the mailbox */ }
//! fn beam() { /* clear the event in the video interface */ }
//!
//! let peripherals = Peripherals::take().unwrap();
//! let mut interrupts = Interrupts::new(peripherals.pi, peripherals.irq);
//! interrupts.enable(Source::IpcPpc, reply);
//! interrupts.enable(Cause::Vi, beam);
//! // The exception handler at 0x500 calls `interrupt::dispatch`; `cpu::enable_interrupts` lets it.
//! ```

use core::cell::Cell;

use critical_section::Mutex;

use crate::irq::{self, Source, Sources};
use crate::peripherals::{Irq, Pi};
use crate::pi::{self, Cause, Causes};

/// What is called for a line, with interrupts off.
pub type Handler = fn();

/// An interrupt line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Line {
    /// A cause of the processor interface. The handler of [`Cause::Hollywood`] is called for interrupts of Hollywood while none
    /// of its sources is enabled.
    Pi(Cause),
    /// A source of Hollywood.
    Hollywood(Source),
}

impl From<Cause> for Line {
    fn from(cause: Cause) -> Self {
        Self::Pi(cause)
    }
}

impl From<Source> for Line {
    fn from(source: Source) -> Self {
        Self::Hollywood(source)
    }
}

/// Handlers of all lines, and Hollywood's mask.
struct Table {
    pi: [Cell<Option<Handler>>; Cause::ALL.len()],
    hollywood: [Cell<Option<Handler>>; 32],
    mask: Cell<u32>,
}

impl Table {
    const fn new() -> Self {
        Self {
            pi: [const { Cell::new(None) }; Cause::ALL.len()],
            hollywood: [const { Cell::new(None) }; 32],
            mask: Cell::new(0),
        }
    }

    fn slot(&self, line: Line) -> Option<&Cell<Option<Handler>>> {
        match line {
            Line::Pi(cause) => self.pi.get(cause as usize),
            Line::Hollywood(source) => self.hollywood.get(source as usize),
        }
    }

    fn mask(&self) -> Sources {
        Sources::from_bits(self.mask.get())
    }
}

/// The table of [`Interrupts`] and [`dispatch`].
static TABLE: Mutex<Table> = Mutex::new(Table::new());

/// The registers of the cascade with a table.
struct Cascade<'r> {
    pi: &'r pi::Registers,
    irq: &'r irq::Ppc,
    table: &'r Table,
}

impl Cascade<'_> {
    /// Masks everything and forgets what asked.
    fn quiesce(&self) {
        self.pi.intmr.write(Causes::default());
        self.irq.mask.write(Sources::default());
        self.irq.flag.clear(Sources::from_bits(u32::MAX));
        self.pi.intsr.clear(Causes::from_bits(u32::MAX));
        self.table.mask.set(0);
    }

    fn enable(&self, line: Line, handler: Handler) {
        if let Some(slot) = self.table.slot(line) {
            slot.set(Some(handler));
        }
        match line {
            Line::Pi(cause) => self.unmask(cause),
            Line::Hollywood(source) => {
                self.set_mask(self.table.mask().union(source.mask()));
                self.unmask(Cause::Hollywood);
            }
        }
    }

    fn disable(&self, line: Line) {
        match line {
            Line::Pi(cause) => self
                .pi
                .intmr
                .modify(|mask| *mask = mask.without(cause.mask())),
            Line::Hollywood(source) => self.set_mask(self.table.mask().without(source.mask())),
        }
        if let Some(slot) = self.table.slot(line) {
            slot.set(None);
        }
    }

    fn unmask(&self, cause: Cause) {
        self.pi
            .intmr
            .modify(|mask| *mask = mask.union(cause.mask()));
    }

    /// Writes Hollywood's mask if it changes. Dolphin resets its mailbox at every write with bit 30 set.
    fn set_mask(&self, mask: Sources) {
        if mask != self.table.mask() {
            self.table.mask.set(mask.bits());
            self.irq.mask.write(mask);
        }
    }

    fn dispatch(&self) {
        let asking = self.pi.intsr.read().intersection(self.pi.intmr.read());
        for cause in Cause::ALL {
            if !asking.contains(cause) {
                continue;
            }
            if cause == Cause::Hollywood && !self.table.mask().is_empty() {
                self.dispatch_hollywood();
            } else if let Some(handler) = self.table.slot(cause.into()).and_then(Cell::get) {
                handler();
            } else {
                // Nobody will ever quiet it.
                self.pi
                    .intmr
                    .modify(|mask| *mask = mask.without(cause.mask()));
            }
            self.pi.intsr.clear(cause.mask());
        }
    }

    fn dispatch_hollywood(&self) {
        let enabled = self.table.mask();
        let flagged = self.irq.flag.read().intersection(enabled);
        let candidates = if flagged.is_empty() { enabled } else { flagged };
        for source in Source::ALL {
            if candidates.contains(source) {
                // A handler may have disabled a later source; then there is none.
                if let Some(handler) = self.table.slot(source.into()).and_then(Cell::get) {
                    handler();
                }
                self.irq.flag.clear(source.mask());
            }
        }
    }
}

/// The cascade's owner: enables and disables lines.
pub struct Interrupts {
    pi: Pi,
    irq: Irq,
}

impl Interrupts {
    /// Takes the cascade over: masks every line and acknowledges what is pending.
    pub fn new(pi: Pi, irq: Irq) -> Self {
        let interrupts = Self { pi, irq };
        interrupts.with(|cascade| cascade.quiesce());
        interrupts
    }

    /// Calls `handler` whenever `line` asks, from [`dispatch`], with interrupts off.
    ///
    /// In Dolphin, changing Hollywood's sources while [`Source::IpcPpc`] is among them resets the mailbox: enable that one last, and
    /// before using the mailbox.
    pub fn enable(&mut self, line: impl Into<Line>, handler: Handler) {
        self.with(|cascade| cascade.enable(line.into(), handler));
    }

    /// Masks `line` and forgets its handler.
    pub fn disable(&mut self, line: impl Into<Line>) {
        self.with(|cascade| cascade.disable(line.into()));
    }

    /// Masks every line and acknowledges what is pending, as is polite before leaving; gives the registers back.
    pub fn release(self) -> (Pi, Irq) {
        self.with(|cascade| cascade.quiesce());
        (self.pi, self.irq)
    }

    fn with(&self, act: impl FnOnce(Cascade<'_>)) {
        critical_section::with(|section| {
            act(Cascade {
                pi: &self.pi,
                irq: &self.irq,
                table: TABLE.borrow(section),
            })
        });
    }
}

/// Calls the handlers of the lines that ask. What the external interrupt exception (0x500) does.
///
/// # Safety
/// Only with interrupts off, not from within a handler, and only while [`Interrupts`] owns the cascade: nobody else may be changing
/// the two blocks.
pub unsafe fn dispatch() {
    // SAFETY: the owner changes the registers in critical sections only, so not now, as the caller promised.
    let (pi, irq) = unsafe { (Pi::steal(), Irq::steal()) };
    critical_section::with(|section| {
        Cascade {
            pi: &pi,
            irq: &irq,
            table: TABLE.borrow(section),
        }
        .dispatch()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    extern crate std;
    use std::cell::RefCell;
    use std::thread_local;
    use std::vec;
    use std::vec::Vec;

    thread_local!(static CALLED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) });

    fn ehci() {
        CALLED.with_borrow_mut(|called| called.push("ehci"));
    }
    fn reply() {
        CALLED.with_borrow_mut(|called| called.push("reply"));
    }
    fn beam() {
        CALLED.with_borrow_mut(|called| called.push("beam"));
    }

    struct Machine {
        pi: Memory<pi::Registers>,
        irq: Memory<irq::Ppc>,
        table: Table,
    }

    impl Machine {
        fn new() -> Self {
            let machine = Self {
                pi: Memory::filled(0xFF),
                irq: Memory::filled(0xFF),
                table: Table::new(),
            };
            machine.cascade().quiesce();
            machine
        }

        fn cascade(&self) -> Cascade<'_> {
            Cascade {
                pi: self.pi.registers(),
                irq: self.irq.registers(),
                table: &self.table,
            }
        }

        /// Lets lines ask, dispatches, returns who was called.
        fn dispatch(&self, causes: u32, sources: u32) -> Vec<&'static str> {
            self.pi.set(0, &causes.to_be_bytes());
            self.irq.set(0, &sources.to_be_bytes());
            self.cascade().dispatch();
            CALLED.take()
        }

        fn masks(&self) -> (Vec<u8>, Vec<u8>) {
            (self.pi.bytes(4, 4), self.irq.bytes(4, 4))
        }
    }

    #[test]
    fn taking_over_masks_everything_and_acknowledges_everything() {
        let machine = Machine::new();
        assert_eq!(machine.pi.bytes(0, 8), [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
        assert_eq!(
            machine.irq.bytes(0, 8),
            [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]
        );
    }

    #[test]
    fn a_source_is_unmasked_on_both_levels_and_masked_on_its_own() {
        let machine = Machine::new();
        machine.cascade().enable(Source::Ehci.into(), ehci);
        assert_eq!(machine.masks(), (vec![0, 0, 0x40, 0], vec![0, 0, 0, 0x10]));
        machine.cascade().enable(Source::IpcPpc.into(), reply);
        assert_eq!(
            machine.masks(),
            (vec![0, 0, 0x40, 0], vec![0x40, 0, 0, 0x10])
        );
        machine.cascade().disable(Source::Ehci.into());
        assert_eq!(machine.masks(), (vec![0, 0, 0x40, 0], vec![0x40, 0, 0, 0]));
    }

    #[test]
    fn the_mask_is_never_read_back() {
        let machine = Machine::new();
        machine.cascade().enable(Source::Ehci.into(), ehci);
        // As in Dolphin: all ones, whatever was written.
        machine.irq.set(4, &[0xFF; 4]);
        machine.cascade().enable(Source::IpcPpc.into(), reply);
        assert_eq!(machine.irq.bytes(4, 4), [0x40, 0, 0, 0x10]);
    }

    #[test]
    fn the_mask_is_written_only_when_it_changes() {
        let machine = Machine::new();
        machine.cascade().enable(Source::IpcPpc.into(), reply);
        machine.irq.set(4, &[0x12; 4]);
        machine.cascade().enable(Source::IpcPpc.into(), ehci);
        machine.cascade().disable(Source::Ehci.into());
        assert_eq!(machine.irq.bytes(4, 4), [0x12; 4]);
    }

    #[test]
    fn only_the_source_that_asks_is_handled() {
        let machine = Machine::new();
        machine.cascade().enable(Source::Ehci.into(), ehci);
        machine.cascade().enable(Source::IpcPpc.into(), reply);
        assert_eq!(machine.dispatch(0x4000, 0x0000_0010), ["ehci"]);
        assert_eq!(machine.dispatch(0x4000, 0x4000_0000), ["reply"]);
        assert_eq!(machine.dispatch(0x4000, 0x4000_0011), ["ehci", "reply"]);
        assert_eq!(machine.dispatch(0x0000, 0x4000_0011), [""; 0]);
    }

    #[test]
    fn flags_that_cannot_be_read_mean_every_enabled_source() {
        let machine = Machine::new();
        machine.cascade().enable(Source::Ehci.into(), ehci);
        machine.cascade().enable(Source::IpcPpc.into(), reply);
        assert_eq!(machine.dispatch(0x4000, 0xFFFF_FFFF), ["ehci", "reply"]);
        assert_eq!(machine.dispatch(0x4000, 0x0000_0000), ["ehci", "reply"]);
    }

    #[test]
    fn a_handler_runs_before_anything_is_acknowledged_and_then_its_own_line_alone_is() {
        thread_local!(static MACHINE: Machine = Machine::new());
        fn handler() {
            MACHINE.with(|machine| {
                assert_eq!(
                    machine.irq.bytes(0, 4),
                    [0, 0, 0, 0x11],
                    "Hollywood's flag was acknowledged before the handler"
                );
                assert_eq!(
                    machine.pi.bytes(0, 4),
                    [0, 0, 0x41, 0],
                    "the cascade was acknowledged before the handler"
                );
            });
            ehci();
        }
        MACHINE.with(|machine| {
            machine.cascade().enable(Source::Ehci.into(), handler);
            assert_eq!(machine.dispatch(0x4100, 0x11), ["ehci"]);
            assert_eq!(machine.irq.bytes(0, 4), [0, 0, 0, 0x10]);
            assert_eq!(machine.pi.bytes(0, 4), [0, 0, 0x40, 0]);
        });
    }

    #[test]
    fn a_cause_without_a_handler_is_masked_and_not_asked_again() {
        let machine = Machine::new();
        machine.pi.set(4, &[0, 0, 0x01, 0x04]);
        machine.cascade().enable(Cause::Vi.into(), beam);
        assert_eq!(machine.dispatch(0x0104, 0), ["beam"]);
        assert_eq!(machine.pi.bytes(4, 4), [0, 0, 0x01, 0x00]);
    }

    #[test]
    fn a_source_that_a_handler_disabled_is_not_handled_any_more() {
        thread_local!(static MACHINE: Machine = Machine::new());
        fn disables_the_reply() {
            MACHINE.with(|machine| machine.cascade().disable(Source::IpcPpc.into()));
            ehci();
        }
        MACHINE.with(|machine| {
            machine
                .cascade()
                .enable(Source::Ehci.into(), disables_the_reply);
            machine.cascade().enable(Source::IpcPpc.into(), reply);
            assert_eq!(machine.dispatch(0x4000, 0x4000_0010), ["ehci"]);
        });
    }
}
