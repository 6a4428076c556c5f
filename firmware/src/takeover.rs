//! Taking the USB 2.0 controller from the running IOS, and giving it back as it was found.
//!
//! IOS keeps running on the other processor, and keeps Bluetooth and the USB 1.1 controllers. Its USB 2.0
//! driver may be in the middle of anything, so that the order matters (hardware notes, section 5.3):
//!
//! 1. neither processor gets the controller's interrupts any more, so that IOS's driver is not woken;
//! 2. the controller stops, so that nothing of IOS's schedule is under way;
//! 3. the other processor's access to the controller is closed: from here on it is ours;
//! 4. if IOS had started it again meanwhile, it stops once more; then it is reset.
//!
//! Giving it back is the reverse: stop, reset, everything that was found is put back while the other
//! processor is still locked out, its access last but for its interrupts. IOS finds its schedule running,
//! and devices that seem to have been unplugged and plugged in again.

use core::fmt;

/// A register that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// AHBPROT: who reaches which device.
    AhbProt,
    /// PPCIRQMASK: interrupts of this processor.
    PpcIrqMask,
    /// PPCIRQFLAG; ones clear.
    PpcIrqFlag,
    /// ARMIRQMASK: interrupts of the other processor.
    ArmIrqMask,
    /// ARMIRQFLAG; ones clear.
    ArmIrqFlag,
    /// USBCMD.
    UsbCmd,
    /// USBSTS; ones clear.
    UsbSts,
    /// USBINTR.
    UsbIntr,
    /// FRINDEX.
    FrIndex,
    /// PERIODICLISTBASE.
    PeriodicListBase,
    /// ASYNCLISTADDR.
    AsyncListAddr,
    /// CONFIGFLAG.
    ConfigFlag,
    /// PORTSC of a port, counted from 0.
    PortSc(u8),
    /// The vendor's control register at 0xCC, which holds the USB 1.1 controllers' interrupts too.
    Control,
}

/// Access to the registers: of a console, or of a model of one.
pub trait Hardware {
    /// Reads a register.
    fn read(&mut self, register: Register) -> u32;

    /// Writes a register.
    fn write(&mut self, register: Register, value: u32);

    /// Waits about 10 microseconds.
    fn pause(&mut self);
}

/// The controller's bit in flags and masks of interrupts (hardware notes, section 4.2).
const INTERRUPT: u32 = 1 << 4;
/// AHBPROT: the other processor reaches the controller (section 4.1).
const ACCESS: u32 = 1 << 20;
/// USBCMD, USBSTS and PORTSC bits (EHCI 1.0, sections 2.3.1, 2.3.2 and 2.3.9).
const RUN: u32 = 1 << 0;
const HCRESET: u32 = 1 << 1;
const DOORBELL: u32 = 1 << 6;
const HALTED: u32 = 1 << 12;
const EVENTS: u32 = 0x3F;
const PORT_OWNER: u32 = 1 << 13;
const PORT_CHANGES: u32 = 1 << 1 | 1 << 3 | 1 << 5;

/// Pauses until a controller that was told to stop must have stopped: 16 microframes (EHCI 1.0, section
/// 2.3.1) many times over.
const STOP_PAUSES: u32 = 2_000;
/// Pauses until a reset must have ended: 250 ms.
const RESET_PAUSES: u32 = 25_000;

/// Most ports that are remembered (EHCI 1.0, section 2.2.3).
const MAX_PORTS: usize = 15;

/// Why the controller could not be taken. It is IOS's as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeError {
    /// It does not stop.
    DoesNotStop,
    /// The other processor's access could not be closed.
    DoesNotLock,
    /// It does not come back from its reset.
    DoesNotReset,
}

impl TakeError {
    /// Says what it did not do, as the end of a sentence about the controller.
    pub const fn what(self) -> &'static str {
        match self {
            Self::DoesNotStop => "does not stop",
            Self::DoesNotLock => "cannot be locked for IOS",
            Self::DoesNotReset => "does not come back from its reset",
        }
    }
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the controller {}", self.what())
    }
}

impl core::error::Error for TakeError {}

/// How the controller was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the controller must be given back"]
pub struct Found {
    protection: u32,
    ppc_mask: u32,
    arm_mask: u32,
    command: u32,
    interrupts: u32,
    frame: u32,
    periodic: u32,
    asynchronous: u32,
    configured: u32,
    control: u32,
    /// Ports that belonged to their companions.
    owners: heapless::Vec<bool, MAX_PORTS>,
}

impl Found {
    fn look<H: Hardware>(hardware: &mut H, ports: u8) -> Self {
        let owners = (0..ports).take(MAX_PORTS);
        Self {
            protection: hardware.read(Register::AhbProt),
            ppc_mask: hardware.read(Register::PpcIrqMask),
            arm_mask: hardware.read(Register::ArmIrqMask),
            command: hardware.read(Register::UsbCmd),
            interrupts: hardware.read(Register::UsbIntr),
            frame: hardware.read(Register::FrIndex),
            periodic: hardware.read(Register::PeriodicListBase),
            asynchronous: hardware.read(Register::AsyncListAddr),
            configured: hardware.read(Register::ConfigFlag),
            control: hardware.read(Register::Control),
            owners: owners
                .map(|port| hardware.read(Register::PortSc(port)) & PORT_OWNER != 0)
                .collect(),
        }
    }

    /// Puts the controller's own registers back, which a reset has cleared or which were in use since.
    /// The controller is stopped; it starts last.
    fn restore_controller<H: Hardware>(&self, hardware: &mut H) {
        hardware.write(Register::Control, self.control);
        hardware.write(Register::UsbSts, EVENTS);
        hardware.write(Register::FrIndex, self.frame);
        hardware.write(Register::PeriodicListBase, self.periodic);
        hardware.write(Register::AsyncListAddr, self.asynchronous);
        hardware.write(Register::UsbIntr, self.interrupts);
        // Nobody rings twice: a doorbell that was under way is done.
        let command = self.command & !(HCRESET | DOORBELL);
        hardware.write(Register::UsbCmd, command & !RUN);
        hardware.write(Register::ConfigFlag, self.configured);
        if self.configured & 1 != 0 {
            for (port, _) in self.owners.iter().enumerate().filter(|(_, owner)| **owner) {
                let register = Register::PortSc(port as u8);
                let port = hardware.read(register) & !PORT_CHANGES;
                hardware.write(register, port | PORT_OWNER);
            }
        }
        hardware.write(Register::UsbCmd, command);
    }

    /// Lets the controller go on where it was stopped, as if nothing had been.
    fn resume<H: Hardware>(&self, hardware: &mut H) {
        hardware.write(Register::UsbIntr, self.interrupts);
        hardware.write(Register::UsbCmd, self.command & !(HCRESET | DOORBELL));
    }

    /// Puts interrupts back.
    fn restore_interrupts<H: Hardware>(&self, hardware: &mut H) {
        hardware.write(Register::PpcIrqFlag, INTERRUPT);
        let now = hardware.read(Register::PpcIrqMask) & !INTERRUPT;
        hardware.write(Register::PpcIrqMask, now | self.ppc_mask & INTERRUPT);
        hardware.write(Register::ArmIrqFlag, INTERRUPT);
        let now = hardware.read(Register::ArmIrqMask) & !INTERRUPT;
        hardware.write(Register::ArmIrqMask, now | self.arm_mask & INTERRUPT);
    }

    fn restore_access<H: Hardware>(&self, hardware: &mut H) {
        let now = hardware.read(Register::AhbProt) & !ACCESS;
        hardware.write(Register::AhbProt, now | self.protection & ACCESS);
    }
}

/// Takes a controller of `ports` ports. It is stopped and reset afterwards, and this processor alone
/// reaches it.
///
/// # Errors
/// [`TakeError`]; everything is as it was then, as far as the controller does what it is told.
pub fn take<H: Hardware>(hardware: &mut H, ports: u8) -> Result<Found, TakeError> {
    let found = Found::look(hardware, ports);
    for (mask, flag) in [
        (Register::PpcIrqMask, Register::PpcIrqFlag),
        (Register::ArmIrqMask, Register::ArmIrqFlag),
    ] {
        let now = hardware.read(mask);
        hardware.write(mask, now & !INTERRUPT);
        hardware.write(flag, INTERRUPT);
    }
    if !stop(hardware) {
        found.resume(hardware);
        found.restore_interrupts(hardware);
        return Err(TakeError::DoesNotStop);
    }
    let now = hardware.read(Register::AhbProt);
    hardware.write(Register::AhbProt, now & !ACCESS);
    let locked = hardware.read(Register::AhbProt) & ACCESS == 0;
    // IOS may have started it until a moment ago.
    if !locked || !stop(hardware) {
        found.resume(hardware);
        found.restore_access(hardware);
        found.restore_interrupts(hardware);
        return Err(if locked {
            TakeError::DoesNotStop
        } else {
            TakeError::DoesNotLock
        });
    }
    if !reset(hardware, found.control) {
        found.restore_controller(hardware);
        found.restore_access(hardware);
        found.restore_interrupts(hardware);
        return Err(TakeError::DoesNotReset);
    }
    Ok(found)
}

/// Gives the controller back, whatever was done with it. Nobody may use it any more.
pub fn give_back<H: Hardware>(hardware: &mut H, found: &Found) {
    // A controller that does not stop or reset is IOS's problem from here on: nothing else can be done.
    if stop(hardware) {
        reset(hardware, found.control);
    }
    found.restore_controller(hardware);
    found.restore_access(hardware);
    found.restore_interrupts(hardware);
}

/// Stops the controller, again and again if somebody starts it.
fn stop<H: Hardware>(hardware: &mut H) -> bool {
    for _ in 0..STOP_PAUSES {
        let command = hardware.read(Register::UsbCmd);
        if command & RUN != 0 {
            hardware.write(Register::UsbIntr, 0);
            hardware.write(Register::UsbCmd, command & !(RUN | DOORBELL));
        }
        let halted = hardware.read(Register::UsbSts) & HALTED != 0;
        if halted && hardware.read(Register::UsbCmd) & RUN == 0 {
            hardware.write(Register::UsbIntr, 0);
            return true;
        }
        hardware.pause();
    }
    false
}

/// Resets the stopped controller. The vendor's register keeps the USB 1.1 controllers' bits.
fn reset<H: Hardware>(hardware: &mut H, control: u32) -> bool {
    hardware.write(Register::UsbCmd, HCRESET);
    let done = (0..RESET_PAUSES).any(|_| {
        let done = hardware.read(Register::UsbCmd) & HCRESET == 0;
        if !done {
            hardware.pause();
        }
        done
    });
    if hardware.read(Register::Control) != control {
        hardware.write(Register::Control, control);
    }
    done
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod console_tests;
