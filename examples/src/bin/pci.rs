//! Asks the first device of an EHCI controller on PCI who it is.
//!
//! The board is a PReP machine, `40p` in QEMU: little-endian PCI behind a big-endian processor, coherent caches, RAM that bus masters
//! see at 2 GiB. No Wii is involved but the boot code and the log, which any board has of its own.
#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use core::num::NonZeroUsize;
use core::ptr::{NonNull, without_provenance_mut};

use ehci::memory::{Buffer, Dma};
use ehci::registers::Mmio;
use ehci::{Bounce, Ehci, Endpoint, Kind, Platform, PortChange, Speed};
use mem2_dma::{BusAddr, Constraints, Offset, Pool, Storage};
use wiistick::arguments::Arguments;
use wiistick::exit::Failure;
use wiistick::wii::time;

wiistick::entry!(main);

fn main(_: Arguments<'static>) -> Result<(), Failure> {
    who_is_there()
}

/// Where the board has PCI's I/O space and memory space.
const IO_SPACE: usize = 0xE000_0000;
const MEMORY_SPACE: usize = 0xC000_0000;
/// Where the processor sees RAM, by the map that the boot code made, and where bus masters do.
const RAM: u32 = 0x8000_0000;
const RAM_FROM_PCI: u32 = 0x8000_0000;

/// A device's configuration space, by configuration mechanism 1.
struct Configuration {
    device: u32,
}

impl Configuration {
    fn select(&self, offset: u8) {
        let address = 1 << 31 | self.device << 11 | u32::from(offset & 0xFC);
        // SAFETY: the address port of PCI, little-endian as all of it.
        unsafe { without_provenance_mut::<u32>(IO_SPACE + 0xCF8).write_volatile(address.to_le()) };
    }

    fn read(&self, offset: u8) -> u32 {
        self.select(offset);
        // SAFETY: the data port.
        u32::from_le(unsafe { without_provenance_mut::<u32>(IO_SPACE + 0xCFC).read_volatile() })
    }

    fn write(&self, offset: u8, value: u32) {
        self.select(offset);
        // SAFETY: the data port.
        unsafe { without_provenance_mut::<u32>(IO_SPACE + 0xCFC).write_volatile(value.to_le()) };
    }
}

impl Platform for Configuration {
    fn now_us(&self) -> u64 {
        time::now_us()
    }

    // For the hand-off from a BIOS; the driver asks where the controller has one.
    fn read_config(&self, offset: u8) -> Option<u32> {
        Some(self.read(offset))
    }

    fn write_config(&self, offset: u8, value: u32) {
        self.write(offset, value);
    }
}

/// The pool's memory.
#[repr(align(4096))]
struct Memory(UnsafeCell<[u8; 256 * 1024]>);

// SAFETY: `who_is_there` is the only user, and runs once.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; 256 * 1024]));

fn who_is_there() -> Result<(), Failure> {
    // Class 0C (serial bus), subclass 03 (USB), interface 20 (EHCI).
    let mut devices = (0..32).map(|device| Configuration { device });
    let found = devices.find(|device| device.read(0x08) >> 8 == 0x0C_0320);
    let configuration = found.ok_or("no EHCI controller on this bus")?;
    // Let it answer to memory accesses, and be a bus master.
    configuration.write(0x04, configuration.read(0x04) | 0b110);
    let registers = MEMORY_SPACE + (configuration.read(0x10) & !0xF) as usize;
    let registers = NonZeroUsize::new(registers).ok_or("no registers")?;

    // SAFETY: the only reference to it.
    let memory = unsafe { &mut *MEMORY.0.get() };
    let bus = BusAddr::new(RAM_FROM_PCI + (memory.as_ptr().addr() as u32 - RAM));
    let provider = Offset::new(memory, bus)?;
    let mut storage = Storage::<8, 64>::new();
    let pool: Pool = Pool::new(&provider, &mut storage)?;
    let dma = Bounce::new(&pool, Constraints::NONE.align(32))?;

    // SAFETY: the controller's registers by its own base address register, and nobody else drives it.
    let registers = unsafe { Mmio::probe(NonNull::without_provenance(registers))? };
    let mut ehci = Ehci::new(registers, dma, configuration)?;
    ehci.start()?;

    defmt::info!("waiting for a device");
    // Reset what is plugged in: it then answers at address zero.
    let port = loop {
        ehci.poll();
        match ehci.take_port_event() {
            Some(event) if event.change == PortChange::Attached => _ = ehci.reset_port(event.port),
            Some(event) if event.change == PortChange::Enabled => break event.port,
            _ => {}
        }
    };
    let pipe = ehci.open(&Endpoint {
        address: 0,
        number: 0,
        kind: Kind::Control,
        speed: Speed::High,
        max_packet: 64,
        interval: 0,
        translator: None,
        root_port: Some(port),
    })?;

    // GET_DESCRIPTOR(DEVICE), 18 bytes.
    let setup = [0x80, 6, 0, 1, 0, 0, 18, 0];
    let buffer = ehci.dma().incoming(18)?;
    let transfer = ehci
        .control(pipe, setup, Some(buffer), Some(500_000))
        .map_err(|rejected| rejected.error)?;
    let end = loop {
        ehci.poll();
        if let Some(end) = ehci.take(transfer) {
            break end;
        }
    };
    end.status?;
    let mut descriptor = [0; 18];
    if let (Some(mut buffer), 18) = (end.buffer, end.bytes) {
        buffer.copy_received(&mut descriptor);
    }
    let word = |at: usize| u16::from_le_bytes([descriptor[at], descriptor[at + 1]]);
    defmt::info!("port {=u8}: {=u16:04x}:{=u16:04x}", port, word(8), word(10));
    ehci.stop()?;
    Ok(())
}
