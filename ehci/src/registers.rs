//! The controller's registers: 32-bit access behind a trait, and the meaning of each bit.
//!
//! The EHCI specification numbers bits of 32-bit little-endian words. Hollywood (the Wii) swaps the byte lanes of every
//! word, so that a PowerPC load sees the specification's numbering directly (hardware notes, sections 3.2 and 3.3); a PCI
//! controller does not. [`Mmio::probe`] tells the two apart by the capability word. Section numbers are those of the
//! EHCI specification, revision 1.0.

mod fields;
mod mmio;

pub use fields::{Capability, HccParams, HcsParams, PortSc, UsbCmd, UsbIntr, UsbSts};
pub use mmio::{ByteOrder, Mmio, ProbeError};

/// Bytes of register space that a driver may touch: capability, operational and Hollywood's vendor block.
pub const REGISTER_SPACE: usize = 0x100;

/// Access to the register file in 32-bit units, in the CPU's byte order with the specification's bit numbering.
///
/// Offsets are in bytes from the first capability register, are multiples of four and lie below [`REGISTER_SPACE`].
/// An implementation orders each access against all earlier and later accesses to registers and coherent memory: a
/// descriptor that was stored before a register write is visible to the controller when the write arrives.
pub trait Registers {
    /// Reads the register at a byte offset.
    fn read(&self, offset: usize) -> u32;

    /// Writes the register at a byte offset.
    fn write(&self, offset: usize, value: u32);
}

impl<R: Registers + ?Sized> Registers for &R {
    fn read(&self, offset: usize) -> u32 {
        (**self).read(offset)
    }

    fn write(&self, offset: usize, value: u32) {
        (**self).write(offset, value);
    }
}

/// Byte offsets of the capability registers.
pub mod capability {
    /// CAPLENGTH and HCIVERSION in one word.
    pub const CAPLENGTH: usize = 0x00;
    /// Structural parameters.
    pub const HCSPARAMS: usize = 0x04;
    /// Capability parameters.
    pub const HCCPARAMS: usize = 0x08;
}

/// Byte offsets of the operational registers from the end of the capability registers (table 2-8).
pub mod operational {
    /// Command.
    pub const USBCMD: usize = 0x00;
    /// Status.
    pub const USBSTS: usize = 0x04;
    /// Interrupt enable.
    pub const USBINTR: usize = 0x08;
    /// Frame index in microframes.
    pub const FRINDEX: usize = 0x0c;
    /// Upper half of every descriptor address.
    pub const CTRLDSSEGMENT: usize = 0x10;
    /// Frame list base address.
    pub const PERIODICLISTBASE: usize = 0x14;
    /// Next asynchronous queue head.
    pub const ASYNCLISTADDR: usize = 0x18;
    /// Routes every port to this controller (bit 0).
    pub const CONFIGFLAG: usize = 0x40;
    /// Status and control of the first port; the others follow, four bytes each.
    pub const PORTSC: usize = 0x44;
}

/// A register file whose capability registers have been read: operational registers by name.
#[derive(Debug)]
pub struct Operational<R> {
    registers: R,
    base: usize,
    capability: Capability,
    structure: HcsParams,
    parameters: HccParams,
}

impl<R: Registers> Operational<R> {
    /// Reads the capability registers; writes nothing.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] when the words cannot be EHCI's: implausible CAPLENGTH, or no port at all.
    pub fn new(registers: R) -> Result<Self, ProbeError> {
        let word = registers.read(capability::CAPLENGTH);
        // The trait has already put the word into the specification's order, which a native little-endian word also has.
        if ByteOrder::detect(word.to_le())? != ByteOrder::Little {
            return Err(ProbeError::NotEhci { word });
        }
        let capability = Capability(word);
        let structure = HcsParams(registers.read(capability::HCSPARAMS));
        let parameters = HccParams(registers.read(capability::HCCPARAMS));
        let base = capability.length() as usize;
        let ports = structure.ports() as usize;
        if ports == 0 || base + operational::PORTSC + 4 * ports > REGISTER_SPACE {
            return Err(ProbeError::NotEhci { word: structure.0 });
        }
        Ok(Self {
            registers,
            base,
            capability,
            structure,
            parameters,
        })
    }

    /// Returns the register access, for vendor registers.
    pub fn raw(&self) -> &R {
        &self.registers
    }

    /// Returns where the operational registers begin, in bytes.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Returns CAPLENGTH and HCIVERSION.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// Returns HCSPARAMS.
    pub fn structure(&self) -> HcsParams {
        self.structure
    }

    /// Returns HCCPARAMS.
    pub fn parameters(&self) -> HccParams {
        self.parameters
    }

    /// Returns the number of ports, 1 to 15.
    pub fn ports(&self) -> u8 {
        self.structure.ports() as u8
    }

    /// Reads USBCMD.
    pub fn command(&self) -> UsbCmd {
        UsbCmd(self.read(operational::USBCMD))
    }

    /// Writes USBCMD.
    pub fn set_command(&self, value: UsbCmd) {
        self.write(operational::USBCMD, value.0);
    }

    /// Reads USBSTS.
    pub fn status(&self) -> UsbSts {
        UsbSts(self.read(operational::USBSTS))
    }

    /// Clears those change bits of USBSTS that are set in `value`.
    pub fn clear_status(&self, value: UsbSts) {
        self.write(operational::USBSTS, value.0 & UsbSts::CHANGES);
    }

    /// Writes USBINTR.
    pub fn set_interrupts(&self, value: UsbIntr) {
        self.write(operational::USBINTR, value.0);
    }

    /// Reads FRINDEX: microframes in bits 2:0, frames above.
    pub fn frame_index(&self) -> u32 {
        self.read(operational::FRINDEX)
    }

    /// Writes CTRLDSSEGMENT; only controllers with 64-bit addressing have it (section 2.3.5).
    pub fn set_segment(&self, value: u32) {
        self.write(operational::CTRLDSSEGMENT, value);
    }

    /// Writes PERIODICLISTBASE, a bus address aligned to 4096.
    pub fn set_periodic_list(&self, bus: u32) {
        self.write(operational::PERIODICLISTBASE, bus);
    }

    /// Writes ASYNCLISTADDR, a bus address aligned to 32.
    pub fn set_async_list(&self, bus: u32) {
        self.write(operational::ASYNCLISTADDR, bus);
    }

    /// Routes all ports to this controller, or to the companions.
    pub fn set_configured(&self, configured: bool) {
        self.write(operational::CONFIGFLAG, u32::from(configured));
    }

    /// Reads PORTSC of a port, counted from zero.
    pub fn port(&self, port: u8) -> PortSc {
        PortSc(self.read(operational::PORTSC + 4 * usize::from(port)))
    }

    /// Writes PORTSC of a port, counted from zero.
    pub fn set_port(&self, port: u8, value: PortSc) {
        self.write(operational::PORTSC + 4 * usize::from(port), value.0);
    }

    fn read(&self, register: usize) -> u32 {
        self.registers.read(self.base + register)
    }

    fn write(&self, register: usize, value: u32) {
        self.registers.write(self.base + register, value);
    }
}
