//! The binary interface of libusb-1.0, as far as Dolphin uses it: structures, numbers of states and errors.

use std::ffi::{c_int, c_uchar, c_uint, c_void};

/// `libusb_device_descriptor`.
#[repr(C)]
pub struct DeviceDescriptor {
    pub length: u8,
    pub descriptor_type: u8,
    pub usb: u16,
    pub class: u8,
    pub subclass: u8,
    pub protocol: u8,
    pub max_packet_0: u8,
    pub vendor: u16,
    pub product: u16,
    pub device: u16,
    pub manufacturer_string: u8,
    pub product_string: u8,
    pub serial_string: u8,
    pub configurations: u8,
}

/// `libusb_endpoint_descriptor`.
#[repr(C)]
pub struct EndpointDescriptor {
    pub length: u8,
    pub descriptor_type: u8,
    pub address: u8,
    pub attributes: u8,
    pub max_packet: u16,
    pub interval: u8,
    pub refresh: u8,
    pub synch_address: u8,
    pub extra: *const c_uchar,
    pub extra_length: c_int,
}

/// `libusb_interface_descriptor`.
#[repr(C)]
pub struct InterfaceDescriptor {
    pub length: u8,
    pub descriptor_type: u8,
    pub number: u8,
    pub alternate: u8,
    pub endpoints: u8,
    pub class: u8,
    pub subclass: u8,
    pub protocol: u8,
    pub string: u8,
    pub endpoint: *const EndpointDescriptor,
    pub extra: *const c_uchar,
    pub extra_length: c_int,
}

/// `libusb_interface`.
#[repr(C)]
pub struct Interface {
    pub alternates: *const InterfaceDescriptor,
    pub count: c_int,
}

/// `libusb_config_descriptor`.
#[repr(C)]
pub struct ConfigDescriptor {
    pub length: u8,
    pub descriptor_type: u8,
    pub total_length: u16,
    pub interfaces: u8,
    pub value: u8,
    pub string: u8,
    pub attributes: u8,
    pub max_power: u8,
    pub interface: *const Interface,
    pub extra: *const c_uchar,
    pub extra_length: c_int,
}

/// `libusb_transfer`, without the descriptors of isochronous packets.
#[repr(C)]
pub struct Transfer {
    pub handle: *mut c_void,
    pub flags: u8,
    pub endpoint: u8,
    pub kind: u8,
    pub timeout: c_uint,
    pub status: c_int,
    pub length: c_int,
    pub actual_length: c_int,
    pub callback: Option<unsafe extern "C" fn(*mut Transfer)>,
    pub user_data: *mut c_void,
    pub buffer: *mut u8,
    pub iso_packets: c_int,
}

/// `LIBUSB_TRANSFER_FREE_TRANSFER`.
pub const FREE_TRANSFER: u8 = 1 << 2;

/// `libusb_iso_packet_descriptor` has so many bytes.
pub const ISO_PACKET_BYTES: usize = 12;

/// `libusb_transfer_type`.
pub mod kind {
    pub const CONTROL: u8 = 0;
    pub const BULK: u8 = 2;
    pub const INTERRUPT: u8 = 3;
}

/// `libusb_transfer_status`.
pub mod status {
    use std::ffi::c_int;
    pub const COMPLETED: c_int = 0;
    pub const ERROR: c_int = 1;
    pub const CANCELLED: c_int = 3;
    pub const STALL: c_int = 4;
    pub const NO_DEVICE: c_int = 5;
    pub const OVERFLOW: c_int = 6;
}

/// `libusb_error`.
pub mod error {
    use std::ffi::c_int;
    pub const SUCCESS: c_int = 0;
    pub const INVALID_PARAM: c_int = -2;
    pub const NO_DEVICE: c_int = -4;
    pub const NOT_FOUND: c_int = -5;
    pub const PIPE: c_int = -9;
    pub const NOT_SUPPORTED: c_int = -12;
}
