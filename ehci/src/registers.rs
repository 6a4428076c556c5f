//! The controller's registers: 32-bit access behind a trait, and the meaning of each bit.
//!
//! The EHCI specification numbers bits of 32-bit little-endian words. Hollywood (the Wii) swaps the byte lanes of every
//! word, so that a PowerPC load sees the specification's numbering directly (hardware notes, sections 3.2 and 3.3); a PCI
//! controller does not. [`Mmio::probe`] tells the two apart by the capability word. Section numbers are those of the
//! EHCI specification, revision 1.0.

use bitfield::bitfield;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use volatile_register::RW;

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

/// Byte order of a register file, as a CPU load sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ByteOrder {
    /// Bit 0 of the specification is in the byte at the highest address (Hollywood).
    Big,
    /// Bit 0 of the specification is in the byte at the lowest address (PCI).
    Little,
}

/// Why no controller was found at an address. Nothing has been written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ProbeError {
    /// The capability word reads as all ones or all zeros: no device answers, or access to it is denied.
    Absent {
        /// The word, in the CPU's byte order.
        word: u32,
    },
    /// The capability word is not one of EHCI in either byte order.
    NotEhci {
        /// The word, in the CPU's byte order.
        word: u32,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { word } => write!(
                f,
                "no controller answers: its first register reads {word:#010x}"
            ),
            Self::NotEhci { word } => write!(
                f,
                "not an EHCI controller: its first register reads {word:#010x}"
            ),
        }
    }
}

impl core::error::Error for ProbeError {}

impl ByteOrder {
    /// Deduces the byte order from a raw CPU load of the capability word.
    ///
    /// CAPLENGTH (bits 7:0) is at least 0x0C and a multiple of four, bits 15:8 are reserved as zero, and HCIVERSION
    /// (bits 31:16) is below 0x0200. Swapped, the last of these takes the place of CAPLENGTH and is too small for it, so
    /// that no word fits both orders (sections 2.2.1 and 2.2.2).
    ///
    /// # Errors
    ///
    /// [`ProbeError::Absent`] for a bus that nobody drives, [`ProbeError::NotEhci`] for any other word that cannot be
    /// EHCI's.
    pub const fn detect(word: u32) -> Result<Self, ProbeError> {
        const fn plausible(word: u32) -> bool {
            let length = word & 0xff;
            length >= 0x0c && length.is_multiple_of(4) && word & 0xff00 == 0 && word >> 16 < 0x0200
        }
        if word == 0 || word == u32::MAX {
            Err(ProbeError::Absent { word })
        } else if plausible(u32::from_be(word)) {
            Ok(Self::Big)
        } else if plausible(u32::from_le(word)) {
            Ok(Self::Little)
        } else {
            Err(ProbeError::NotEhci { word })
        }
    }

    const fn convert(self, value: u32) -> u32 {
        // Swapping is its own inverse, so that one function serves reads and writes.
        match self {
            Self::Big => u32::from_be(value),
            Self::Little => u32::from_le(value),
        }
    }
}

/// A register file in the CPU's address space, of either byte order.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: NonNull<[RW<u32>; REGISTER_SPACE / 4]>,
    order: ByteOrder,
}

impl Mmio {
    /// Finds a controller at `base` and its byte order, with one read and no write.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] when the first word is not EHCI's.
    ///
    /// # Safety
    ///
    /// `base` is 4-byte aligned and points to [`REGISTER_SPACE`] bytes that may be read and written as uncached device
    /// registers for as long as any copy of the returned value is used, and no other code drives the controller meanwhile.
    pub unsafe fn probe(base: NonNull<u32>) -> Result<Self, ProbeError> {
        // SAFETY: the caller vouches for the address.
        let word = unsafe { base.cast::<RW<u32>>().as_ref() }.read();
        let order = ByteOrder::detect(word)?;
        // SAFETY: as above.
        Ok(unsafe { Self::with_order(base, order) })
    }

    /// Takes a register file whose byte order is known.
    ///
    /// # Safety
    ///
    /// As for [`Mmio::probe`].
    pub const unsafe fn with_order(base: NonNull<u32>, order: ByteOrder) -> Self {
        Self {
            base: base.cast(),
            order,
        }
    }

    /// Returns the byte order.
    pub const fn order(&self) -> ByteOrder {
        self.order
    }

    fn cell(&self, offset: usize) -> Option<&RW<u32>> {
        // SAFETY: the constructor's caller vouches for the whole block; the cells inside allow shared volatile access.
        unsafe { self.base.as_ref() }.get(offset / 4)
    }
}

impl Registers for Mmio {
    fn read(&self, offset: usize) -> u32 {
        // On PowerPC these fences are `sync`: stores to descriptors reach memory before the access, and what is read
        // from memory afterwards is no older than the register.
        fence(Ordering::SeqCst);
        let value = self
            .cell(offset)
            .map_or(u32::MAX, |cell| self.order.convert(cell.read()));
        fence(Ordering::SeqCst);
        value
    }

    fn write(&self, offset: usize, value: u32) {
        fence(Ordering::SeqCst);
        if let Some(cell) = self.cell(offset) {
            // SAFETY: the constructor's caller gave the controller to this driver; the driver's callers see to it that
            // every address written to a register is one of DMA memory.
            unsafe { cell.write(self.order.convert(value)) }
        }
        fence(Ordering::SeqCst);
    }
}

bitfield! {
    /// Capability length and interface version (sections 2.2.1, 2.2.2).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Capability(pub u32);
    impl Debug;
    /// Bytes from the first capability register to the first operational one.
    pub length, _: 7, 0;
    /// Interface version in binary-coded decimal: 0x0100 is 1.0.
    pub version, _: 31, 16;
}

bitfield! {
    /// HCSPARAMS, structural parameters (section 2.2.3).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct HcsParams(pub u32);
    impl Debug;
    /// Number of ports of the root hub, 1 to 15.
    pub ports, _: 3, 0;
    /// Software switches port power.
    pub port_power_control, _: 4;
    /// Ports per companion controller.
    pub ports_per_companion, _: 11, 8;
    /// Number of companion controllers for full- and low-speed devices; 0 means none.
    pub companions, _: 15, 12;
}

bitfield! {
    /// HCCPARAMS, capability parameters (section 2.2.4).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct HccParams(pub u32);
    impl Debug;
    /// Descriptors have 64-bit buffer pointers, the upper halves behind the 32-bit layout (appendix B).
    pub addressing_64, _: 0;
    /// The frame list's size is programmable.
    pub programmable_frame_list, _: 1;
    /// The schedule may be parked on one queue head.
    pub async_park, _: 2;
    /// Microframes (or, with bit 3 of the field set, a frame) of isochronous descriptors that the controller caches.
    pub isochronous_threshold, _: 7, 4;
    /// Offset of the first extended capability in PCI configuration space; below 0x40 means none.
    pub extended_capabilities, _: 15, 8;
}

bitfield! {
    /// USBCMD (section 2.3.1).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct UsbCmd(pub u32);
    impl Debug;
    /// Run (1) or stop (0).
    pub run, set_run: 0;
    /// Host controller reset; reads as zero when done.
    pub reset, set_reset: 1;
    /// Periodic schedule enable.
    pub periodic_enable, set_periodic_enable: 4;
    /// Asynchronous schedule enable.
    pub async_enable, set_async_enable: 5;
    /// Interrupt on async advance doorbell.
    pub doorbell, set_doorbell: 6;
    /// Interrupt threshold in microframes.
    pub interrupt_threshold, set_interrupt_threshold: 23, 16;
}

bitfield! {
    /// USBSTS (section 2.3.2). Bits 5:0 are cleared by writing one.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct UsbSts(pub u32);
    impl Debug;
    /// A transfer descriptor with IOC completed, or a short packet was received.
    pub transfer, set_transfer: 0;
    /// A transaction ended with an error.
    pub transfer_error, set_transfer_error: 1;
    /// A port's change bit was set.
    pub port_change, set_port_change: 2;
    /// The frame index wrapped.
    pub frame_rollover, set_frame_rollover: 3;
    /// Access to memory failed; the controller has stopped.
    pub host_system_error, set_host_system_error: 4;
    /// The controller has left every queue head that was unlinked before the doorbell.
    pub async_advance, set_async_advance: 5;
    /// The controller has stopped.
    pub halted, _: 12;
    /// The asynchronous schedule is empty.
    pub reclamation, _: 13;
    /// The periodic schedule is running.
    pub periodic_running, _: 14;
    /// The asynchronous schedule is running.
    pub async_running, _: 15;
}

impl UsbSts {
    /// The bits that are cleared by writing one.
    pub const CHANGES: u32 = 0x3f;
}

bitfield! {
    /// USBINTR (section 2.3.3): the same order as the change bits of USBSTS.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct UsbIntr(pub u32);
    impl Debug;
    /// Enables the interrupt of a completed transfer.
    pub transfer, set_transfer: 0;
    /// Enables the interrupt of a failed transaction.
    pub transfer_error, set_transfer_error: 1;
    /// Enables the interrupt of a port change.
    pub port_change, set_port_change: 2;
    /// Enables the interrupt of a wrapped frame index.
    pub frame_rollover, set_frame_rollover: 3;
    /// Enables the interrupt of a host system error.
    pub host_system_error, set_host_system_error: 4;
    /// Enables the interrupt of the doorbell.
    pub async_advance, set_async_advance: 5;
}

bitfield! {
    /// PORTSC (section 2.3.9).
    ///
    /// Three bits are cleared by writing one, and one disables the port when written as zero, so that a plain
    /// read-modify-write loses events: modify through [`PortSc::preserving`] and clear through [`PortSc::CHANGES`].
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct PortSc(pub u32);
    impl Debug;
    /// A device is connected.
    pub connected, set_connected: 0;
    /// The connection changed since this bit was last cleared.
    pub connect_change, set_connect_change: 1;
    /// The port is enabled; only the controller sets it, after the reset of a high-speed device.
    pub enabled, set_enabled: 2;
    /// The port was disabled because of an error.
    pub enable_change, set_enable_change: 3;
    /// Over-current is present.
    pub over_current, set_over_current: 4;
    /// Over-current began or ended.
    pub over_current_change, set_over_current_change: 5;
    /// Resume signalling.
    pub force_resume, set_force_resume: 6;
    /// The port is suspended.
    pub suspended, set_suspended: 7;
    /// Reset signalling.
    pub reset, set_reset: 8;
    /// D- (bit 10) and D+ (bit 11); 1 is the K state, a low-speed device.
    pub line_status, set_line_status: 11, 10;
    /// The port has power.
    pub power, set_power: 12;
    /// The port belongs to the companion controller.
    pub owner, set_owner: 13;
    /// Wake on connect.
    pub wake_connect, set_wake_connect: 20;
    /// Wake on disconnect.
    pub wake_disconnect, set_wake_disconnect: 21;
    /// Wake on over-current.
    pub wake_over_current, set_wake_over_current: 22;
}

impl PortSc {
    /// The bits that are cleared by writing one.
    pub const CHANGES: u32 = 1 << 1 | 1 << 3 | 1 << 5;

    /// Returns the value to start a modification from: writing it back changes nothing.
    pub const fn preserving(self) -> Self {
        Self(self.0 & !Self::CHANGES)
    }

    /// Returns a value that, written, clears those of the given change bits that are set, and changes nothing else.
    pub const fn clearing(self, changes: u32) -> Self {
        Self(self.0 & !Self::CHANGES | self.0 & changes & Self::CHANGES)
    }

    /// Whether the lines show a low-speed device: the K state, meaningful only on a connected, disabled port (table 2-16).
    pub fn low_speed(self) -> bool {
        self.line_status() == 1 && !self.enabled()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_deduced_from_the_bytes_of_the_capability_word() {
        // Wii, CAPLENGTH 0x10; QEMU, CAPLENGTH 0x20; AMD SB700, CAPLENGTH 0x20, version 1.1.
        assert_eq!(
            ByteOrder::detect(u32::from_ne_bytes([0x01, 0x00, 0x00, 0x10])),
            Ok(ByteOrder::Big)
        );
        assert_eq!(
            ByteOrder::detect(u32::from_ne_bytes([0x20, 0x00, 0x00, 0x01])),
            Ok(ByteOrder::Little)
        );
        assert_eq!(
            ByteOrder::detect(u32::from_ne_bytes([0x20, 0x00, 0x10, 0x01])),
            Ok(ByteOrder::Little)
        );
    }

    #[test]
    fn an_undriven_bus_is_absent_and_any_other_word_is_not_ehci() {
        for word in [0, u32::MAX] {
            assert_eq!(ByteOrder::detect(word), Err(ProbeError::Absent { word }));
        }
        for bytes in [
            [0x08, 0, 0, 1],
            [0x21, 0, 0, 1],
            [0x20, 1, 0, 1],
            [0x20, 0, 0, 2],
            [1, 0, 1, 0x10],
        ] {
            let word = u32::from_ne_bytes(bytes);
            assert_eq!(ByteOrder::detect(word), Err(ProbeError::NotEhci { word }));
        }
    }

    #[test]
    fn mmio_writes_the_bytes_of_its_order() {
        let mut file = [0u32; REGISTER_SPACE / 4];
        for (order, bytes) in [
            (ByteOrder::Big, [0x12, 0x34, 0x56, 0x78]),
            (ByteOrder::Little, [0x78, 0x56, 0x34, 0x12]),
        ] {
            // SAFETY: the block is a local array that outlives the value.
            let mmio = unsafe { Mmio::with_order(NonNull::from(&mut file).cast(), order) };
            mmio.write(0x20, 0x1234_5678);
            assert_eq!(mmio.read(0x20), 0x1234_5678);
            assert_eq!(file[8].to_ne_bytes(), bytes);
        }
    }

    #[test]
    fn mmio_beyond_its_block_reads_as_an_undriven_bus() {
        let mut file = [0u32; REGISTER_SPACE / 4];
        // SAFETY: as above.
        let mmio = unsafe { Mmio::with_order(NonNull::from(&mut file).cast(), ByteOrder::Big) };
        mmio.write(REGISTER_SPACE, 1);
        assert_eq!(mmio.read(REGISTER_SPACE), u32::MAX);
        assert_eq!(file, [0; REGISTER_SPACE / 4]);
    }

    #[test]
    fn a_modified_portsc_never_clears_a_change() {
        let port = PortSc(0x0000_102b);
        assert_eq!(port.preserving().0, 0x0000_1001);
        assert_eq!(port.clearing(2).0, 0x0000_1003);
        assert_eq!(port.clearing(PortSc::CHANGES).0, 0x0000_102b);
    }

    #[test]
    fn the_k_state_on_a_disabled_port_is_a_low_speed_device() {
        assert!(PortSc(0x0000_1401).low_speed());
        assert!(!PortSc(0x0000_1801).low_speed());
        assert!(!PortSc(0x0000_1405).low_speed());
    }
}
