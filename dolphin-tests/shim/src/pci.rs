//! Finds the PCI devices and puts them where a Wii has their like.
//!
//! Configuration goes through the I/O ports 0xCF8 and 0xCFC, which DBAT5 maps at 0xE0000000; the
//! bus is little-endian.

use crate::layout;

const CONFIG_ADDRESS: *mut u32 = 0xE000_0CF8 as *mut u32;
const CONFIG_DATA: *mut u32 = 0xE000_0CFC as *mut u32;

/// Vendor and device in the configuration word 0.
const PVPANIC: u32 = 0x0011_1B36;
const IVSHMEM: u32 = 0x1110_1AF4;
/// Class, subclass and programming interface of an EHCI controller.
const CLASS_EHCI: u32 = 0x0C_03_20;
/// Configuration registers (PCI Local Bus Specification 3.0, section 6.1).
const COMMAND: u32 = 0x04;
const CLASS: u32 = 0x08;
const BAR0: u32 = 0x10;
/// Command: respond to memory accesses, and be a bus master.
const MEMORY: u32 = 2;
const BUS_MASTER: u32 = 4;

/// PCI address of MEM2, the same as on a Wii.
const MEM2: u32 = 0x1000_0000;
/// PCI address of the EHCI registers, the same as on a Wii.
const EHCI: u32 = 0x0D04_0000;
/// PCI address of the register page of the memory device, which nobody uses.
const IVSHMEM_REGISTERS: u32 = 0x0C01_0000;

/// Places panic device, MEM2 and the first EHCI controller; leaves any other device alone.
///
/// # Errors
/// The name of a device that the machine lacks. The controller may be absent.
pub fn place_devices() -> Result<(), &'static str> {
    let (mut panic_device, mut memory, mut ehci) = (false, false, false);
    for device in 0..32 {
        match (read(device, 0), read(device, CLASS) >> 8) {
            (PVPANIC, _) => {
                write(device, BAR0, layout::PVPANIC);
                write(device, COMMAND, MEMORY);
                panic_device = true;
            }
            (IVSHMEM, _) => {
                write(device, BAR0, IVSHMEM_REGISTERS);
                write(device, BAR0 + 8, MEM2);
                write(device, BAR0 + 12, 0);
                write(device, COMMAND, MEMORY);
                memory = true;
            }
            (_, CLASS_EHCI) if !ehci => {
                write(device, BAR0, EHCI);
                write(device, COMMAND, MEMORY | BUS_MASTER);
                ehci = true;
            }
            _ => {}
        }
    }
    match (panic_device, memory) {
        (false, _) => Err("no pvpanic-pci device"),
        (_, false) => Err("no ivshmem-plain device for MEM2"),
        _ => Ok(()),
    }
}

fn select(device: u32, register: u32) {
    let address = 0x8000_0000 | device << 11 | register;
    // SAFETY: DBAT5 maps the configuration ports; the host bridge always has them.
    unsafe { CONFIG_ADDRESS.write_volatile(address.swap_bytes()) }
}

fn read(device: u32, register: u32) -> u32 {
    select(device, register);
    // SAFETY: as in `select`.
    unsafe { CONFIG_DATA.read_volatile() }.swap_bytes()
}

fn write(device: u32, register: u32, value: u32) {
    select(device, register);
    // SAFETY: as in `select`.
    unsafe { CONFIG_DATA.write_volatile(value.swap_bytes()) }
}
