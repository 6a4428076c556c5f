//! What differs from machine to machine: the clock, legacy firmware, vendor registers, ports with other owners.

use crate::registers::Registers;

/// The machine around a controller.
///
/// Only the clock is required; the hooks are for machines that need them.
pub trait Platform {
    /// Returns a time in microseconds that never goes backwards.
    fn now_us(&self) -> u64;

    /// Whether the driver serves a root port, counted from zero; others are left to the companion controller.
    fn serves_port(&self, port: u8) -> bool {
        let _ = port;
        true
    }

    /// Reads a 32-bit register of the controller's PCI configuration space; none on other buses.
    ///
    /// Used for the hand-off from legacy firmware (EHCI specification, section 2.1.7).
    fn read_config(&self, offset: u8) -> Option<u32> {
        let _ = offset;
        None
    }

    /// Writes a 32-bit register of the controller's PCI configuration space.
    fn write_config(&self, offset: u8, value: u32) {
        let _ = (offset, value);
    }

    /// Runs after the controller's reset and before it is started: sets up vendor registers.
    fn prepare(&self, registers: &dyn Registers) {
        let _ = registers;
    }

    /// Runs after the controller has been stopped for good.
    fn retire(&self, registers: &dyn Registers) {
        let _ = registers;
    }
}

impl<P: Platform + ?Sized> Platform for &P {
    fn now_us(&self) -> u64 {
        (**self).now_us()
    }

    fn serves_port(&self, port: u8) -> bool {
        (**self).serves_port(port)
    }

    fn read_config(&self, offset: u8) -> Option<u32> {
        (**self).read_config(offset)
    }

    fn write_config(&self, offset: u8, value: u32) {
        (**self).write_config(offset, value);
    }

    fn prepare(&self, registers: &dyn Registers) {
        (**self).prepare(registers);
    }

    fn retire(&self, registers: &dyn Registers) {
        (**self).retire(registers);
    }
}

/// Hollywood's vendor register behind the EHCI block.
pub mod hollywood {
    use crate::registers::Registers;

    /// "EHCI_CTL", also called the chicken bits (hardware notes, section 3.4).
    const CONTROL: usize = 0xcc;
    /// Lets EHCI's interrupt through to the Hollywood interrupt controller.
    const INTERRUPT: u32 = 1 << 15;

    /// Lets the controller's interrupt through. For [`Platform::prepare`](super::Platform::prepare) on a Wii.
    ///
    /// The register's other bits belong to IOS and to the companions; they stay.
    pub fn enable_interrupt(registers: &dyn Registers) {
        registers.write(CONTROL, registers.read(CONTROL) | INTERRUPT);
    }
}
