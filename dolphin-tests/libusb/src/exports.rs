//! The functions of libusb-1.0 that Dolphin calls.
//!
//! Contexts, devices and handles are boxes that Dolphin holds pointers to. Devices live for ever: a stick that is plugged in
//! again is a new one, and there are few.

use std::ffi::{CStr, c_char, c_int, c_uchar, c_uint, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use crate::abi::{
    ConfigDescriptor, DeviceDescriptor, EndpointDescriptor, FREE_TRANSFER, ISO_PACKET_BYTES,
    Interface, InterfaceDescriptor, Transfer, error, kind, status,
};
use crate::bus::{Address, Ended, Submitted};
use crate::control::{CHANGED, connect, lock, with};

/// The bus that all sticks are on.
const BUS: u8 = 1;

/// `libusb_context`.
pub struct Context {
    /// What Dolphin was given of this context's list of devices.
    devices: Vec<&'static Device>,
}

/// `libusb_device`.
pub struct Device {
    /// The context that found it, as a number.
    context: usize,
    address: Address,
}

/// `libusb_device_handle`.
pub struct Handle(&'static Device);

impl Device {
    /// # Safety
    /// A pointer that this library gave out.
    unsafe fn at(device: *mut Device) -> &'static Self {
        // SAFETY: devices are never freed.
        unsafe { &*device }
    }
}

/// # Safety
/// A handle that is open.
unsafe fn device_of(handle: *mut Handle) -> &'static Device {
    // SAFETY: the caller's promise.
    unsafe { (*handle).0 }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_init(context: *mut *mut Context) -> c_int {
    connect();
    let new = Box::new(Context {
        devices: Vec::new(),
    });
    if !context.is_null() {
        // SAFETY: the caller's variable.
        unsafe { *context = Box::into_raw(new) };
    }
    error::SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_init_context(
    context: *mut *mut Context,
    _options: *const c_void,
    _count: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libusb_init(context) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_exit(context: *mut Context) {
    if !context.is_null() {
        // SAFETY: made by `libusb_init`, and not used any more.
        drop(unsafe { Box::from_raw(context) });
    }
    with(|shared| shared.bus.tell_transfers());
}

#[unsafe(no_mangle)]
extern "C" fn libusb_has_capability(_capability: u32) -> c_int {
    // No announcements of devices: Dolphin looks at the list every 50 ms.
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_device_list(
    context: *mut Context,
    list: *mut *mut *mut Device,
) -> isize {
    let mut none = Context {
        devices: Vec::new(),
    };
    // SAFETY: a context that is in use, by one thread at a time.
    let known = unsafe { context.as_mut() }.unwrap_or(&mut none);
    let mut found = Vec::new();
    for address in with(|shared| shared.bus.addresses()) {
        let device = match known
            .devices
            .iter()
            .find(|device| device.address == address)
        {
            Some(device) => *device,
            None => {
                let device: &'static Device = Box::leak(Box::new(Device {
                    context: context.addr(),
                    address,
                }));
                known.devices.push(device);
                device
            }
        };
        found.push(ptr::from_ref(device).cast_mut());
    }
    let count = found.len() as isize;
    found.push(ptr::null_mut());
    // SAFETY: the caller's variable.
    unsafe { *list = Box::into_raw(found.into_boxed_slice()).cast() };
    count
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_free_device_list(list: *mut *mut Device, _unref: c_int) {
    if list.is_null() {
        return;
    }
    let mut len = 1;
    // SAFETY: the list ends with a null pointer.
    while !unsafe { *list.add(len - 1) }.is_null() {
        len += 1;
    }
    // SAFETY: a list of so many entries that `libusb_get_device_list` has made.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(list, len)) });
}

#[unsafe(no_mangle)]
extern "C" fn libusb_ref_device(device: *mut Device) -> *mut Device {
    device
}

#[unsafe(no_mangle)]
extern "C" fn libusb_unref_device(_device: *mut Device) {}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_bus_number(_device: *mut Device) -> u8 {
    BUS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_device_address(device: *mut Device) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { Device::at(device) }.address
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_device_descriptor(
    device: *mut Device,
    into: *mut DeviceDescriptor,
) -> c_int {
    // SAFETY: the caller's promise.
    let address = unsafe { Device::at(device) }.address;
    let found = with(|shared| shared.bus.descriptor(address, 1, 0));
    let Some(Ok(bytes)) = found.map(<[u8; 18]>::try_from) else {
        return error::NO_DEVICE;
    };
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let descriptor = DeviceDescriptor {
        length: bytes[0],
        descriptor_type: bytes[1],
        usb: word(2),
        class: bytes[4],
        subclass: bytes[5],
        protocol: bytes[6],
        max_packet_0: bytes[7],
        vendor: word(8),
        product: word(10),
        device: word(12),
        manufacturer_string: bytes[14],
        product_string: bytes[15],
        serial_string: bytes[16],
        configurations: bytes[17],
    };
    // SAFETY: the caller's variable.
    unsafe { into.write(descriptor) };
    error::SUCCESS
}

/// Owns what a [`ConfigDescriptor`] points to. The descriptor is its first field, so that its address is the box's.
#[repr(C)]
struct OwnedConfig {
    config: ConfigDescriptor,
    _interfaces: Box<[Interface]>,
    _alternates: Vec<Box<[InterfaceDescriptor]>>,
    _endpoints: Vec<Box<[EndpointDescriptor]>>,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_config_descriptor(
    device: *mut Device,
    index: u8,
    into: *mut *mut ConfigDescriptor,
) -> c_int {
    // SAFETY: the caller's promise.
    let address = unsafe { Device::at(device) }.address;
    let found = with(|shared| shared.bus.descriptor(address, 2, index));
    let Some(owned) = found.and_then(|bytes| parse_config(&bytes)) else {
        return error::NOT_FOUND;
    };
    // SAFETY: the caller's variable.
    unsafe { *into = Box::into_raw(owned).cast() };
    error::SUCCESS
}

/// Parses a configuration of interfaces without alternate settings, which is what sticks have.
fn parse_config(bytes: &[u8]) -> Option<Box<OwnedConfig>> {
    let &[
        length,
        descriptor_type,
        low,
        high,
        count,
        value,
        string,
        attributes,
        max_power,
        ..,
    ] = bytes
    else {
        return None;
    };
    let (mut interfaces, mut alternates) = (Vec::new(), Vec::new());
    let mut endpoints: Vec<Box<[EndpointDescriptor]>> = Vec::new();
    let mut rest = bytes.get(usize::from(length)..)?;
    let mut current: Option<(InterfaceDescriptor, Vec<EndpointDescriptor>)> = None;
    let mut finish = |current: Option<(InterfaceDescriptor, Vec<EndpointDescriptor>)>| {
        if let Some((mut interface, list)) = current {
            let list = list.into_boxed_slice();
            interface.endpoint = list.as_ptr();
            endpoints.push(list);
            let alternate = Box::new([interface]);
            interfaces.push(Interface {
                alternates: alternate.as_ptr(),
                count: 1,
            });
            alternates.push(alternate as Box<[InterfaceDescriptor]>);
        }
    };
    while let &[length, kind, ..] = rest {
        match (kind, rest) {
            (
                4,
                &[
                    _,
                    _,
                    number,
                    alternate,
                    endpoints,
                    class,
                    subclass,
                    protocol,
                    string,
                    ..,
                ],
            ) => {
                finish(current.take());
                let interface = InterfaceDescriptor {
                    length,
                    descriptor_type: kind,
                    number,
                    alternate,
                    endpoints,
                    class,
                    subclass,
                    protocol,
                    string,
                    endpoint: ptr::null(),
                    extra: ptr::null(),
                    extra_length: 0,
                };
                current = Some((interface, Vec::new()));
            }
            (5, &[_, _, address, attributes, low, high, interval, ..]) => {
                let (_, list) = current.as_mut()?;
                list.push(EndpointDescriptor {
                    length,
                    descriptor_type: kind,
                    address,
                    attributes,
                    max_packet: u16::from_le_bytes([low, high]),
                    interval,
                    refresh: 0,
                    synch_address: 0,
                    extra: ptr::null(),
                    extra_length: 0,
                });
            }
            _ => {}
        }
        rest = rest.get(usize::from(length.max(1))..)?;
    }
    finish(current);
    let interfaces = interfaces.into_boxed_slice();
    Some(Box::new(OwnedConfig {
        config: ConfigDescriptor {
            length,
            descriptor_type,
            total_length: u16::from_le_bytes([low, high]),
            interfaces: count,
            value,
            string,
            attributes,
            max_power,
            interface: interfaces.as_ptr(),
            extra: ptr::null(),
            extra_length: 0,
        },
        _interfaces: interfaces,
        _alternates: alternates,
        _endpoints: endpoints,
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_free_config_descriptor(config: *mut ConfigDescriptor) {
    if !config.is_null() {
        // SAFETY: the first field of a box that `libusb_get_config_descriptor` has made.
        drop(unsafe { Box::from_raw(config.cast::<OwnedConfig>()) });
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_string_descriptor_ascii(
    handle: *mut Handle,
    index: u8,
    into: *mut c_uchar,
    len: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    let address = unsafe { device_of(handle) }.address;
    let Some(string) = with(|shared| shared.bus.descriptor(address, 3, index)) else {
        return error::PIPE;
    };
    let text: Vec<u8> = string.chunks(2).skip(1).map(|unit| unit[0]).collect();
    let count = text
        .len()
        .min(usize::try_from(len).unwrap_or(0).saturating_sub(1));
    // SAFETY: the caller's buffer has `len` bytes.
    unsafe {
        into.copy_from(text.as_ptr(), count);
        into.add(count).write(0);
    }
    count as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_open(device: *mut Device, into: *mut *mut Handle) -> c_int {
    // SAFETY: the caller's promise.
    let device = unsafe { Device::at(device) };
    if !with(|shared| shared.bus.is_there(device.address)) {
        return error::NO_DEVICE;
    }
    // SAFETY: the caller's variable.
    unsafe { *into = Box::into_raw(Box::new(Handle(device))) };
    error::SUCCESS
}

/// Ends what the handle still has and delivers it here: whoever closes is not ready to forget it before.
#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_close(handle: *mut Handle) {
    if handle.is_null() {
        return;
    }
    let number = handle.addr();
    let mut guard = lock();
    while guard
        .as_ref()
        .is_some_and(|shared| shared.delivering.contains(&number))
    {
        guard = CHANGED
            .wait(guard)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
    }
    let ended = guard
        .as_mut()
        .map(|shared| shared.bus.close(number))
        .unwrap_or_default();
    drop(guard);
    for transfer in ended {
        // SAFETY: the transfer was submitted and not delivered.
        unsafe { deliver(transfer) };
    }
    // SAFETY: made by `libusb_open`, and not used any more.
    drop(unsafe { Box::from_raw(handle) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_device(handle: *mut Handle) -> *mut Device {
    // SAFETY: the caller's promise.
    ptr::from_ref(unsafe { device_of(handle) }).cast_mut()
}

/// Carries out a control request and returns libusb's error.
///
/// # Safety
/// A handle that is open.
unsafe fn request(handle: *mut Handle, setup: [u8; 8], data: &[u8]) -> Result<Vec<u8>, c_int> {
    // SAFETY: the caller's promise.
    let address = unsafe { device_of(handle) }.address;
    with(|shared| shared.bus.control(address, setup, data)).map_err(|state| match state {
        status::NO_DEVICE => error::NO_DEVICE,
        _ => error::PIPE,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_configuration(handle: *mut Handle, into: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { request(handle, [0x80, 8, 0, 0, 0, 0, 1, 0], &[]) } {
        Ok(reply) => {
            let value = reply.first().copied().unwrap_or(0);
            // SAFETY: the caller's variable.
            unsafe { *into = value.into() };
            error::SUCCESS
        }
        Err(error) => error,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_set_configuration(handle: *mut Handle, value: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let end = unsafe { request(handle, [0, 9, value as u8, 0, 0, 0, 0, 0], &[]) };
    end.map_or_else(|error| error, |_| error::SUCCESS)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_set_interface_alt_setting(
    handle: *mut Handle,
    interface: c_int,
    setting: c_int,
) -> c_int {
    let setup = [1, 11, setting as u8, 0, interface as u8, 0, 0, 0];
    // SAFETY: the caller's promise.
    let end = unsafe { request(handle, setup, &[]) };
    end.map_or_else(|error| error, |_| error::SUCCESS)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_clear_halt(handle: *mut Handle, endpoint: c_uchar) -> c_int {
    // SAFETY: the caller's promise.
    let end = unsafe { request(handle, [2, 1, 0, 0, endpoint, 0, 0, 0], &[]) };
    end.map_or_else(|error| error, |_| error::SUCCESS)
}

#[unsafe(no_mangle)]
extern "C" fn libusb_claim_interface(_handle: *mut Handle, _interface: c_int) -> c_int {
    error::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_release_interface(_handle: *mut Handle, _interface: c_int) -> c_int {
    error::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_kernel_driver_active(_handle: *mut Handle, _interface: c_int) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn libusb_detach_kernel_driver(_handle: *mut Handle, _interface: c_int) -> c_int {
    error::NOT_FOUND
}

#[unsafe(no_mangle)]
extern "C" fn libusb_attach_kernel_driver(_handle: *mut Handle, _interface: c_int) -> c_int {
    error::NOT_FOUND
}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_auto_detach_kernel_driver(_handle: *mut Handle, _on: c_int) -> c_int {
    error::SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_reset_device(handle: *mut Handle) -> c_int {
    // SAFETY: the caller's promise.
    let there = with(|shared| shared.bus.is_there(unsafe { device_of(handle) }.address));
    if there {
        error::SUCCESS
    } else {
        error::NO_DEVICE
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_alloc_transfer(iso_packets: c_int) -> *mut Transfer {
    let packets = usize::try_from(iso_packets).unwrap_or(0);
    // SAFETY: any size may be asked for; all zeros is a transfer.
    unsafe { libc::calloc(1, size_of::<Transfer>() + packets * ISO_PACKET_BYTES) }.cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_free_transfer(transfer: *mut Transfer) {
    // SAFETY: made by `libusb_alloc_transfer`, or null.
    unsafe { libc::free(transfer.cast()) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_submit_transfer(transfer: *mut Transfer) -> c_int {
    // SAFETY: the caller has filled it in and leaves it alone until its callback.
    let Transfer {
        handle,
        endpoint,
        kind: transfer_kind,
        length,
        buffer,
        ..
    } = *unsafe { &*transfer };
    if !matches!(transfer_kind, kind::CONTROL | kind::BULK | kind::INTERRUPT) {
        return error::NOT_SUPPORTED;
    }
    let Ok(len) = usize::try_from(length) else {
        return error::INVALID_PARAM;
    };
    let bytes = if len == 0 {
        Vec::new()
    } else {
        // SAFETY: the caller's buffer has `length` bytes.
        unsafe { std::slice::from_raw_parts(buffer, len) }.to_vec()
    };
    // SAFETY: the caller's promise.
    let device = unsafe { device_of(handle.cast()) };
    // Always accepted: Dolphin forgets badly what was not. A stick that is gone ends the transfer.
    with(|shared| {
        shared.bus.submit(Submitted {
            id: transfer.addr(),
            context: device.context,
            handle: handle.addr(),
            address: device.address,
            kind: transfer_kind,
            endpoint,
            bytes,
        });
    });
    error::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_cancel_transfer(transfer: *mut Transfer) -> c_int {
    if with(|shared| shared.bus.cancel(transfer.addr())) {
        error::SUCCESS
    } else {
        error::NOT_FOUND
    }
}

/// Fills in what a transfer has brought and calls back.
///
/// # Safety
/// The transfer was submitted and is delivered for the first time.
unsafe fn deliver(ended: Ended) {
    let transfer: *mut Transfer = ptr::with_exposed_provenance_mut(ended.id);
    // SAFETY: the submitter leaves the transfer and its buffer alone until the callback.
    let callback = unsafe {
        (*transfer).status = ended.status;
        (*transfer).actual_length = ended.count as c_int;
        let data = if (*transfer).kind == kind::CONTROL {
            8
        } else {
            0
        };
        let room = ((*transfer).length as usize).saturating_sub(data);
        let count = ended.received.len().min(room);
        (*transfer)
            .buffer
            .add(data)
            .copy_from(ended.received.as_ptr(), count);
        (*transfer).callback
    };
    // SAFETY: read before the callback, which may free the transfer if it is not for us to free.
    let free = unsafe { (*transfer).flags } & FREE_TRANSFER != 0;
    if let Some(callback) = callback {
        // SAFETY: the submitter's function, for this transfer.
        unsafe { callback(transfer) };
    }
    if free {
        // SAFETY: the submitter leaves that to the library.
        unsafe { libusb_free_transfer(transfer) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_handle_events_timeout_completed(
    context: *mut Context,
    timeout: *const libc::timeval,
    completed: *mut c_int,
) -> c_int {
    // SAFETY: the caller's variable, or null.
    let wait = unsafe { timeout.as_ref() }.map_or(Duration::from_secs(60), |time| {
        Duration::from_secs(time.tv_sec.try_into().unwrap_or(0))
            + Duration::from_micros(time.tv_usec.try_into().unwrap_or(0))
    });
    let (deadline, number) = (Instant::now() + wait, context.addr());
    let mut guard = lock();
    loop {
        // SAFETY: the caller's variable, or null.
        if unsafe { completed.as_ref() }.is_some_and(|&done| done != 0) {
            return error::SUCCESS;
        }
        let shared = guard.get_or_insert_default();
        if let Some(ended) = shared.bus.take_ended(number) {
            let handle = ended.handle;
            shared.delivering.push(handle);
            drop(guard);
            // SAFETY: submitted, and taken from the queue once.
            unsafe { deliver(ended) };
            with(|shared| {
                let done = shared.delivering.iter().position(|&other| other == handle);
                done.map(|index| shared.delivering.swap_remove(index))
            });
            return error::SUCCESS;
        }
        let interrupted = shared.interrupted.iter().position(|&other| other == number);
        if let Some(index) = interrupted {
            shared.interrupted.swap_remove(index);
            return error::SUCCESS;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return error::SUCCESS;
        }
        let waited = CHANGED.wait_timeout(guard, left);
        guard = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_handle_events(context: *mut Context) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libusb_handle_events_timeout_completed(context, ptr::null(), ptr::null_mut()) }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_interrupt_event_handler(context: *mut Context) {
    with(|shared| shared.interrupted.push(context.addr()));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_control_transfer(
    handle: *mut Handle,
    request_type: u8,
    number: u8,
    value: u16,
    index: u16,
    data: *mut c_uchar,
    length: u16,
    _timeout: c_uint,
) -> c_int {
    let ([v0, v1], [i0, i1], [l0, l1]) = (
        value.to_le_bytes(),
        index.to_le_bytes(),
        length.to_le_bytes(),
    );
    let setup = [request_type, number, v0, v1, i0, i1, l0, l1];
    let is_in = request_type & 0x80 != 0;
    let sent = if is_in || length == 0 {
        &[]
    } else {
        // SAFETY: the caller's buffer has `length` bytes.
        unsafe { std::slice::from_raw_parts(data, length.into()) }
    };
    // SAFETY: the caller's promise.
    match unsafe { request(handle, setup, sent) } {
        Ok(reply) if is_in => {
            // SAFETY: a reply is no longer than `length`.
            unsafe { data.copy_from(reply.as_ptr(), reply.len()) };
            reply.len() as c_int
        }
        Ok(_) => length.into(),
        Err(error) => error,
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_interrupt_transfer(
    _handle: *mut Handle,
    _endpoint: c_uchar,
    _data: *mut c_uchar,
    _length: c_int,
    _done: *mut c_int,
    _timeout: c_uint,
) -> c_int {
    error::NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn libusb_bulk_transfer(
    _handle: *mut Handle,
    _endpoint: c_uchar,
    _data: *mut c_uchar,
    _length: c_int,
    _done: *mut c_int,
    _timeout: c_uint,
) -> c_int {
    error::NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn libusb_hotplug_register_callback() -> c_int {
    error::NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn libusb_hotplug_deregister_callback() {}

#[unsafe(no_mangle)]
extern "C" fn libusb_error_name(code: c_int) -> *const c_char {
    let name: &CStr = match code {
        error::SUCCESS => c"SUCCESS",
        error::NO_DEVICE => c"NO_DEVICE",
        error::NOT_FOUND => c"NOT_FOUND",
        error::PIPE => c"PIPE",
        error::NOT_SUPPORTED => c"NOT_SUPPORTED",
        error::INVALID_PARAM => c"INVALID_PARAM",
        _ => c"UNKNOWN",
    };
    name.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn libusb_strerror(code: c_int) -> *const c_char {
    libusb_error_name(code)
}
