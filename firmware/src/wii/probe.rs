//! What this console's hardware says of itself: on a page for the person, and in a file for those who know such answers from
//! emulators only.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};

use ehci::registers::{ByteOrder, Mmio, capability, operational};
use embassy_futures::block_on;
use hollywood_pac::irq::Source;
use hollywood_pac::lowmem::LowMemory;
use hollywood_pac::peripherals::{Irq, Latte, Protection, Version};

use super::ram::{self, Page, Uncached};
use super::usb::EHCI;
use super::{ipc, last_log, time};
use crate::experiment::{Bench, PAGE, Surroundings};
use crate::ios::IosError;
use crate::ui::access::{Access, Obstacle};

/// Capability registers (EHCI 2.2).
const CAPABILITIES: [(&str, usize); 3] = [
    ("CAPLENGTH, HCIVERSION", capability::CAPLENGTH),
    ("HCSPARAMS", capability::HCSPARAMS),
    ("HCCPARAMS", capability::HCCPARAMS),
];
/// Operational registers, which begin at the end of those (EHCI 2.3).
const OPERATIONAL: [(&str, usize); 7] = [
    ("USBCMD", operational::USBCMD),
    ("USBSTS", operational::USBSTS),
    ("USBINTR", operational::USBINTR),
    ("FRINDEX", operational::FRINDEX),
    ("PERIODICLISTBASE", operational::PERIODICLISTBASE),
    ("ASYNCLISTADDR", operational::ASYNCLISTADDR),
    ("CONFIGFLAG", operational::CONFIGFLAG),
];
/// Registers that only Hollywood has, by byte offset (hardware notes, section 3.4).
const VENDOR: [usize; 11] = [
    0x90, 0x94, 0x98, 0xA4, 0xA8, 0xAC, 0xB0, 0xB4, 0xC4, 0xC8, 0xCC,
];

/// Writes the page. `access` says what may be looked at, `device` is the address of a stick that nobody works on.
///
/// # Errors
/// Those of `text`.
pub fn write(text: &mut dyn Write, access: Access, device: Option<u8>) -> fmt::Result {
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
        match device {
            Some(device) => experiment(text, device)?,
            None => writeln!(text, "\nWith a stick plugged in, this page says more.")?,
        }
    }
    if let Ok(ios) = ipc::ios() {
        let done = ios.statistics();
        let (requests, strays) = (done.requests, done.strays);
        writeln!(text, "\n# IOS\n{requests} requests, {strays} strays")?;
        match answer_us() {
            Some(us) => writeln!(
                text,
                "answers in {us} us while this program has the controller"
            )?,
            None => writeln!(text, "! does not answer")?,
        }
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
        let word = read(base + operational::PORTSC + 4 * port);
        writeln!(text, "PORTSC {} {word:#010x}", port + 1)?;
    }
    if LowMemory::get().ios_version().is_some() {
        for offset in VENDOR {
            writeln!(text, "vendor {offset:#04x} {:#010x}", read(offset))?;
        }
    }
    Ok(())
}

/// Tries how the controller treats small transfers. See [`crate::experiment`].
fn experiment(text: &mut dyn Write, device: u8) -> fmt::Result {
    /// A page of MEM1 that holds nothing else.
    #[repr(C, align(4096))]
    struct Private(UnsafeCell<[u8; PAGE]>);
    // SAFETY: only its address is used.
    unsafe impl Sync for Private {}
    static PRIVATE: Private = Private(UnsafeCell::new([0; PAGE]));

    // SAFETY: the driver found a controller there.
    let registers = unsafe { Mmio::probe(EHCI) };
    let Some(registers) = registers.ok().filter(|_| ram::has_reserved()) else {
        return writeln!(text, "\n! no memory for experiments");
    };
    let cached = PRIVATE.0.get() as u32;
    let physical = cached & 0x3FFF_FFFF;
    let hollywood = registers.order() == ByteOrder::Big;
    // SAFETY: this function alone uses these pages, and does not call itself.
    let (schedule, mem2, memory) = unsafe {
        (
            ram::page(0),
            ram::page(1),
            Uncached::new(physical, PAGE as u32),
        )
    };
    let mem1 = Page {
        memory,
        // On the bus of QEMU's machine MEM1 is where it is for the processor (its PCI bridge).
        bus: if hollywood { physical } else { cached },
    };
    let bench = Bench {
        registers: &registers,
        schedule: &schedule,
        mem2: &mem2,
        mem1: &mem1,
        around: &Machine { hollywood },
    };
    bench.run(device, text)
}

/// What the experiment asks of this machine.
struct Machine {
    hollywood: bool,
}

impl Machine {
    fn flags(&self) -> Option<Irq> {
        // SAFETY: a Wii has them; the controller's flag is nobody else's, and IOS's mailbox keeps its own.
        self.hollywood.then(|| unsafe { Irq::steal() })
    }
}

impl Surroundings for Machine {
    fn now_us(&self) -> u64 {
        time::now_us()
    }

    fn pause(&self) {
        let started = time::now_us();
        while time::now_us() - started < 2 {}
    }

    fn flag(&self) -> Option<bool> {
        let flags = self.flags()?.flag.read().bits();
        Some(flags & Source::Ehci.mask().bits() != 0)
    }

    fn clear_flag(&self) {
        if let Some(irq) = self.flags() {
            irq.flag.clear(Source::Ehci.mask());
        }
    }
}

/// How long IOS takes to say that it does not know a device.
fn answer_us() -> Option<u64> {
    let ios = ipc::ios().ok()?;
    let started = time::now_us();
    match block_on(ios.open("/dev/wiistick", 0)) {
        Ok(fd) => drop(block_on(ios.close(fd))),
        Err(IosError::Refused(_)) => {}
        Err(_) => return None,
    }
    Some(time::now_us() - started)
}

/// Keeps for the next run what IOS makes of the controller that it was given back.
pub(super) fn reaction() {
    // CAPLENGTH of a console (hardware notes, section 3.2); nothing but a console is given back to anybody.
    let [command, status] = [0x10, 0x14].map(|offset| {
        // SAFETY: the controller is there. Reading has no effect.
        unsafe { EHCI.byte_add(offset).read_volatile() }
    });
    match answer_us() {
        Some(us) => last_log::line(format_args!(
            "given back: USBCMD {command:#010x}, USBSTS {status:#010x}, IOS answers in {us} us"
        )),
        None => last_log::line(format_args!(
            "! given back: USBCMD {command:#010x}, USBSTS {status:#010x}, IOS does not answer"
        )),
    }
}
