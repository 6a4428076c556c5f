//! The meaning of each bit (sections 2.2 and 2.3).

use bitfield::bitfield;

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

#[cfg(test)]
mod tests {
    use super::*;

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
