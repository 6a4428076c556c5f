//! The registers of [`crate::takeover`] on a console.

use core::ptr::with_exposed_provenance_mut;

use hollywood_pac::irq::Sources;
use hollywood_pac::peripherals::{Irq, IrqArm, Protection};
use hollywood_pac::protection::AhbProt;

use super::time;
use crate::takeover::{Found, Hardware, Register, TakeError, give_back, take};

/// The controller's registers through the uncached view (hardware notes, section 3.1).
const EHCI: usize = 0xCD04_0000;
/// Offset of the vendor's control register (section 3.4).
const CONTROL: usize = 0xCC;

/// A controller that was taken from IOS.
pub struct Claim {
    console: Console,
    found: Found,
}

impl Claim {
    /// Takes the controller.
    ///
    /// # Errors
    /// [`TakeError`]; it is IOS's as before.
    ///
    /// # Safety
    /// This is a Wii whose hardware is open to this processor, and nothing in the program uses the controller.
    pub unsafe fn take() -> Result<Self, TakeError> {
        // SAFETY: the caller's promise; the other masks and flags are only changed in the controller's bit, with interrupts off.
        let mut console = unsafe {
            Console {
                protection: Protection::steal(),
                irq: Irq::steal(),
                irq_arm: IrqArm::steal(),
            }
        };
        // N_PORTS (EHCI 1.0, section 2.2.3).
        let ports = console.load(0x04) & 0xF;
        let found = take(&mut console, ports as u8)?;
        Ok(Self { console, found })
    }

    /// Gives the controller back to IOS. The driver must have let go of it.
    pub fn give_back(mut self) {
        give_back(&mut self.console, &self.found);
    }
}

struct Console {
    protection: Protection,
    irq: Irq,
    irq_arm: IrqArm,
}

impl Console {
    fn load(&self, offset: usize) -> u32 {
        let register = with_exposed_provenance_mut::<u32>(EHCI + offset);
        // SAFETY: a register of the controller, mapped uncached; `Claim::take`'s caller vouches for it.
        let value = unsafe { register.read_volatile() };
        hollywood_pac::cpu::eieio();
        value
    }

    fn store(&self, offset: usize, value: u32) {
        let register = with_exposed_provenance_mut::<u32>(EHCI + offset);
        // SAFETY: as above; lists that the controller is given are IOS's own.
        unsafe { register.write_volatile(value) };
        hollywood_pac::cpu::sync();
    }

    /// Offset of an operational register (EHCI 1.0, section 2.3).
    fn operational(&self, offset: usize) -> usize {
        (self.load(0) & 0xFF) as usize + offset
    }

    fn offset(&self, register: Register) -> Option<usize> {
        Some(match register {
            Register::UsbCmd => self.operational(0x00),
            Register::UsbSts => self.operational(0x04),
            Register::UsbIntr => self.operational(0x08),
            Register::FrIndex => self.operational(0x0C),
            Register::PeriodicListBase => self.operational(0x14),
            Register::AsyncListAddr => self.operational(0x18),
            Register::ConfigFlag => self.operational(0x40),
            Register::PortSc(port) => self.operational(0x44 + 4 * usize::from(port)),
            Register::Control => CONTROL,
            _ => return None,
        })
    }
}

impl Hardware for Console {
    fn read(&mut self, register: Register) -> u32 {
        if let Some(offset) = self.offset(register) {
            return self.load(offset);
        }
        match register {
            Register::AhbProt => self.protection.ahbprot.read().bits(),
            Register::PpcIrqMask => self.irq.mask.read().bits(),
            Register::PpcIrqFlag => self.irq.flag.read().bits(),
            Register::ArmIrqMask => self.irq_arm.mask.read().bits(),
            Register::ArmIrqFlag => self.irq_arm.flag.read().bits(),
            _ => 0,
        }
    }

    fn write(&mut self, register: Register, value: u32) {
        if let Some(offset) = self.offset(register) {
            return self.store(offset, value);
        }
        let sources = Sources::from_bits(value);
        match register {
            // SAFETY: only the other processor's way to the controller changes, which is stopped by then.
            Register::AhbProt => unsafe {
                self.protection.ahbprot.write(AhbProt::from_bits(value))
            },
            Register::PpcIrqMask => self.irq.mask.write(sources),
            Register::PpcIrqFlag => self.irq.flag.clear(sources),
            Register::ArmIrqMask => self.irq_arm.mask.write(sources),
            Register::ArmIrqFlag => self.irq_arm.flag.clear(sources),
            _ => {}
        }
    }

    fn pause(&mut self) {
        let start = time::now_us();
        while time::now_us() - start < 10 {}
    }
}
