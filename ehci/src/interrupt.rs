//! What an interrupt handler shares with the driver: the status that it took from the controller, and whom to wake.
//!
//! The handler does nothing else; transfers are completed by the driver, in the task's context.

use crate::registers::{Registers, UsbIntr, UsbSts, operational};
use core::cell::Cell;
use core::future::poll_fn;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Poll, Waker};
use critical_section::Mutex;

/// What the driver lets the controller interrupt for: ends of transfers (bits 0 and 1), port changes (2), host system errors (4) and
/// answers to doorbells (5); not the frame list's rollover.
pub(crate) const INTERRUPTS: UsbIntr = UsbIntr(0x37);

/// The link between a controller's interrupt handler and its driver. Usually a `static`.
///
/// ```no_run
/// # use ehci::{Interrupt, registers::Mmio};
/// static INTERRUPT: Interrupt = Interrupt::new();
///
/// fn on_interrupt(registers: &Mmio) {
///     INTERRUPT.handle(registers);
/// }
/// ```
pub struct Interrupt {
    /// The register USBSTS, while the driver lets the controller interrupt; else zero.
    register: AtomicUsize,
    status: Mutex<Cell<UsbSts>>,
    waker: Mutex<Cell<Option<Waker>>>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self::new()
    }
}

impl Interrupt {
    /// Makes a link that nothing has come through yet.
    pub const fn new() -> Self {
        Self {
            register: AtomicUsize::new(0),
            status: Mutex::new(Cell::new(UsbSts(0))),
            waker: Mutex::new(Cell::new(None)),
        }
    }

    /// Takes the interrupt from the controller, so that its line falls, and wakes the driver. For the interrupt handler.
    ///
    /// Returns whether it was this controller's, on a line that is shared.
    pub fn handle<R: Registers + ?Sized>(&self, registers: &R) -> bool {
        let register = self.register.load(Ordering::Relaxed);
        if register == 0 {
            return false;
        }
        let taken = registers.read(register) & INTERRUPTS.0;
        if taken == 0 {
            return false;
        }
        registers.write(register, taken);
        let waker = critical_section::with(|token| {
            let status = self.status.borrow(token);
            status.set(UsbSts(status.get().0 | taken));
            self.waker.borrow(token).take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Waits until an interrupt was taken that the driver has not looked at.
    pub async fn wait(&self) {
        poll_fn(|context| {
            // Cloned before and dropped after the critical section: both run foreign code.
            let waker = context.waker().clone();
            let (_old, pending) = critical_section::with(|token| {
                let old = self.waker.borrow(token).replace(Some(waker));
                (old, self.status.borrow(token).get().0 == 0)
            });
            if pending {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// From now on the controller may interrupt, or no more. `base` is where its operational registers begin.
    pub(crate) fn connect(&self, base: Option<usize>) {
        let register = base.map_or(0, |base| base + operational::USBSTS);
        self.register.store(register, Ordering::Relaxed);
    }

    /// Takes what the handler has collected.
    pub(crate) fn take(&self) -> UsbSts {
        critical_section::with(|token| self.status.borrow(token).take())
    }

    /// Forgets an answer to a doorbell that was rung before.
    pub(crate) fn forget_async_advance(&self) {
        critical_section::with(|token| {
            let status = self.status.borrow(token);
            let mut value = status.get();
            value.set_async_advance(false);
            status.set(value);
        });
    }
}
