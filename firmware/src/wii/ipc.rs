//! The mailbox's registers, and the program's driver of it.

use embassy_sync::once_lock::OnceLock;
use hollywood_pac::addr::BusAddr;
use hollywood_pac::irq::Source;
use hollywood_pac::peripherals::{Ipc as Registers, Irq};
use mem2_dma::{Device, Mem2};
use static_cell::StaticCell;

use super::{dma, time};
use crate::ios::{Ipc, Mailbox};

/// The driver on the machine.
pub type Ios = Ipc<'static, Hollywood>;

/// The way to IOS, made at the first call. Only on a machine that has IOS.
///
/// # Errors
/// There is no memory for requests.
pub fn ios() -> Result<&'static Ios, mem2_dma::Error> {
    static MADE: OnceLock<Result<&'static Ios, mem2_dma::Error>> = OnceLock::new();
    *MADE.get_or_init(|| {
        let device = dma::pool()?.attach(Mem2::CONSTRAINTS)?;
        // SAFETY: this runs once, and nothing else in the program uses the mailbox.
        Ok(DRIVER.init(unsafe { driver(device) }))
    })
}

static DRIVER: StaticCell<Ios> = StaticCell::new();

/// Makes a driver with memory of one's own.
///
/// # Safety
/// It is the only user of the mailbox.
pub unsafe fn driver(device: Device<'static>) -> Ios {
    // SAFETY: the caller's promise.
    let registers = unsafe { (Registers::steal(), Irq::steal()) };
    Ipc::new(Hollywood(registers.0, registers.1), device)
}

/// The mailbox of a console, or Dolphin's.
pub struct Hollywood(Registers, Irq);

// SAFETY: whoever has the value has the registers, wherever it is used.
unsafe impl Send for Hollywood {}

impl Hollywood {
    /// Clears a flag that IOS has set.
    ///
    /// The interrupt that came with it is cleared as well: Dolphin sends no reply while it asks, even if nobody takes it.
    fn clear(&mut self, y1: bool, y2: bool) {
        let mut flags = self.0.ppcctrl.read().enables();
        flags.set_y1(y1);
        flags.set_y2(y2);
        // SAFETY: X1 is not set, so no request is announced.
        unsafe { self.0.ppcctrl.write(flags) };
        self.1.flag.clear(Source::IpcPpc.mask());
    }

    /// Says that the next reply may come.
    fn ready(&mut self) {
        let mut flags = self.0.ppcctrl.read().enables();
        flags.set_x2(true);
        // SAFETY: X1 is not set, so no request is announced.
        unsafe { self.0.ppcctrl.write(flags) };
    }
}

impl Mailbox for Hollywood {
    fn reset(&mut self) {
        /// How long IOS may keep sending what the program before did not wait for.
        const DRAIN_US: u64 = 10_000;
        let mut flags = self.0.ppcctrl.read().enables();
        flags.set_iy1(true);
        flags.set_iy2(true);
        // SAFETY: X1 is not set, so no request is announced.
        unsafe { self.0.ppcctrl.write(flags) };
        self.ready();
        let start = time::now_us();
        while time::now_us() - start < DRAIN_US {
            self.take_acknowledgement();
            self.take_reply();
        }
    }

    unsafe fn announce(&mut self, request: u32) {
        let mut flags = self.0.ppcctrl.read().enables();
        flags.set_x1(true);
        hollywood_pac::cpu::sync();
        // SAFETY: the caller's promise: the block and its buffers are IOS's from here on.
        unsafe {
            self.0
                .ppcmsg
                .write(BusAddr::from(mem2_dma::BusAddr::new(request)));
            self.0.ppcctrl.write(flags);
        }
    }

    fn take_acknowledgement(&mut self) -> bool {
        let taken = self.0.ppcctrl.read().y2();
        if taken {
            self.clear(false, true);
        }
        taken
    }

    fn take_reply(&mut self) -> Option<u32> {
        if !self.0.ppcctrl.read().y1() {
            return None;
        }
        let request = self.0.armmsg.read().get();
        self.clear(true, false);
        self.ready();
        Some(request)
    }

    fn now_us(&self) -> u64 {
        time::now_us()
    }
}
