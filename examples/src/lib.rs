//! What the USB programs have in common: the controller of a Wii, ready for embassy-usb-host.
#![no_std]

use core::fmt::{Display, Write};
use core::ptr::NonNull;

use ehci::embassy::UsbHost;
use ehci::registers::{ByteOrder, Mmio};
use ehci::{Bounce, Ehci, Platform};
use hollywood_pac::lowmem::LowMemory;
use mem2_dma::Mem2;
use wiistick::wii::{dma, time};

/// The controller, with its memory and the machine around it.
pub type Usb = UsbHost<Mmio, Bounce<'static>, Machine>;

/// The driver's view of the machine: a clock, and which ports are ours.
pub struct Machine {
    hollywood: bool,
}

impl Platform for Machine {
    fn now_us(&self) -> u64 {
        time::now_us()
    }

    /// On a Wii, port 2 is Bluetooth's, which stays with its companion controller.
    fn serves_port(&self, port: u8) -> bool {
        !self.hollywood || port != 2
    }
}

/// Starts the controller with a bounce pool in MEM2. Once in a program.
pub fn start() -> Result<Usb, Failure> {
    // SAFETY: one load from an address that every machine here has mapped. Where there is no controller, as in Dolphin, it
    // gives all ones.
    let registers = unsafe { Mmio::probe(NonNull::without_provenance(EHCI)) }?;
    let order = registers.order();

    if LowMemory::get().ios_version().is_some() {
        return Err("the controller belongs to IOS".into());
    }
    // The library's pool: the top of the program's part of MEM2.
    let memory = Bounce::new(dma::pool()?, Mem2::CONSTRAINTS)?;
    let machine = Machine {
        hollywood: order == ByteOrder::Big,
    };
    let mut controller = Ehci::new(registers, memory, machine)?;
    controller.start()?;
    Ok(UsbHost::new(controller))
}

/// The controller's registers, uncached.
const EHCI: core::num::NonZeroUsize = core::num::NonZeroUsize::new(0xCD04_0000).expect("not zero");

/// What went wrong, in words.
pub struct Failure(heapless::String<120>);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = heapless::String::new();
        // What does not fit is cut.
        _ = write!(text, "{error}");
        Self(text)
    }
}

/// Logs how a program ended, and returns its exit status.
pub fn status(result: Result<(), Failure>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(Failure(text)) => {
            defmt::error!("{=str}", text);
            1
        }
    }
}
