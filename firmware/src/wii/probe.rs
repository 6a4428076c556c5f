//! What this console's hardware says of itself: on a page for the person, and in a file for those who know such answers from
//! emulators only.

use core::fmt::{self, Write};

use hollywood_pac::lowmem::LowMemory;
use hollywood_pac::peripherals::{Latte, Protection, Version};

use super::ipc;
use crate::ui::access::{Access, Obstacle};

/// The EHCI controller's registers through the uncached view (hardware notes, section 3.1).
const EHCI: *const u32 = 0xCD04_0000 as *const u32;

/// Capability registers by byte offset (EHCI 2.2).
const CAPABILITIES: [(&str, usize); 3] = [
    ("CAPLENGTH, HCIVERSION", 0x00),
    ("HCSPARAMS", 0x04),
    ("HCCPARAMS", 0x08),
];
/// Operational registers by byte offset from the end of those (EHCI 2.3).
const OPERATIONAL: [(&str, usize); 7] = [
    ("USBCMD", 0x00),
    ("USBSTS", 0x04),
    ("USBINTR", 0x08),
    ("FRINDEX", 0x0C),
    ("PERIODICLISTBASE", 0x14),
    ("ASYNCLISTADDR", 0x18),
    ("CONFIGFLAG", 0x40),
];
const PORTSC: usize = 0x44;
/// Registers that only Hollywood has, by byte offset (hardware notes, section 3.4).
const VENDOR: [usize; 11] = [
    0x90, 0x94, 0x98, 0xA4, 0xA8, 0xAC, 0xB0, 0xB4, 0xC4, 0xC8, 0xCC,
];

/// Writes the page. `access` says what may be looked at.
///
/// # Errors
/// Those of `text`.
pub fn write(text: &mut dyn Write, access: Access) -> fmt::Result {
    let memory = LowMemory::get();
    writeln!(text, "# wiistick {}", env!("CARGO_PKG_VERSION"))?;
    match memory.ios_version() {
        Some(ios) => writeln!(text, "IOS{}, revision {}", ios.number, ios.revision)?,
        None => writeln!(text, "no IOS")?,
    }
    writeln!(
        text,
        "Hollywood revision {:#x}",
        memory.hollywood_revision()
    )?;
    for (name, clock) in [("bus", memory.bus_clock()), ("CPU", memory.cpu_clock())] {
        match clock {
            Ok(hertz) => writeln!(text, "{name} {hertz} Hz")?,
            Err(_) => writeln!(text, "! {name} clock unknown")?,
        }
    }
    match access.obstacle() {
        None => {}
        // In Dolphin, registers that it does not have are those of others.
        Some(obstacle @ (Obstacle::Dolphin | Obstacle::Closed)) => {
            return writeln!(text, "\n! {obstacle}");
        }
        Some(obstacle) => writeln!(text, "\n! {obstacle}")?,
    }
    if memory.ios_version().is_some() {
        hollywood(text)?;
    }
    if let Access::Controller { ports, .. } = access {
        ehci(text, ports)?;
    }
    if let Ok(ios) = ipc::ios() {
        let done = ios.statistics();
        let (requests, strays) = (done.requests, done.strays);
        writeln!(text, "\n# IOS\n{requests} requests, {strays} strays")?;
    }
    writeln!(
        text,
        "\nPlease save this, and attach it to an issue of the project. It names nobody."
    )
}

/// What only a Wii has.
fn hollywood(text: &mut dyn Write) -> fmt::Result {
    // SAFETY: the registers are there, and are only read.
    let (protection, latte, version) =
        unsafe { (Protection::steal(), Latte::steal(), Version::steal()) };
    let version = version.version.read();
    writeln!(
        text,
        "\n# Hollywood\nVERSION {}.{}, LT_CHIPREVID {:#010x}, open: {}",
        version.version(),
        version.revision(),
        latte.chiprevid.read(),
        protection.is_open()
    )
}

/// The controller, as this program runs it. Words as they lie in memory.
fn ehci(text: &mut dyn Write, ports: u8) -> fmt::Result {
    // SAFETY: the driver found a controller with this layout there. Reading its registers has no effect (EHCI 2.2, 2.3).
    let read = |offset: usize| unsafe { EHCI.byte_add(offset).read_volatile() };
    writeln!(text, "\n# EHCI")?;
    for (name, offset) in CAPABILITIES {
        writeln!(text, "{name} {:#010x}", read(offset))?;
    }
    // CAPLENGTH is the byte with a length in it, whatever the byte order.
    let [first, .., last] = read(0).to_be_bytes();
    let base = usize::from(first.max(last)) & !3;
    for (name, offset) in OPERATIONAL {
        writeln!(text, "{name} {:#010x}", read(base + offset))?;
    }
    for port in 0..usize::from(ports.min(15)) {
        let word = read(base + PORTSC + 4 * port);
        writeln!(text, "PORTSC {} {word:#010x}", port + 1)?;
    }
    if LowMemory::get().ios_version().is_some() {
        for offset in VENDOR {
            writeln!(text, "vendor {offset:#04x} {:#010x}", read(offset))?;
        }
    }
    Ok(())
}
