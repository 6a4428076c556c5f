//! QEMU's EHCI controller without a guest: its registers, MEM2 and its stick in the hands of a test on the host.
//!
//! QEMU's test protocol reads and writes guest physical memory and registers from outside. The machine is the one of the other tests (`40p` with MEM2 as a
//! PCI device, at the address that it has on a Wii); its CPU sleeps. Debian's QEMU has no test accelerator, so time passes by itself.

use crate::{
    Error, Qmp,
    error::Context,
    process::{Process, run_folder},
};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Where the CPU sees the PCI I/O ports and the PCI memory of `40p` (reference: emulators, section 2).
const IO: u32 = 0x8000_0000;
const PCI: u32 = 0xC000_0000;
/// PCI addresses that the devices get: those of a Wii, and one for registers that nobody uses.
const EHCI: u32 = 0x0D04_0000;
const MEM2: u32 = 0x1000_0000;
const SPARE: u32 = 0x0C01_0000;
/// What the CPU executes: it dozes, for ever.
///
/// `lis r3,0x80; mtspr HID0,r3; lis r3,4; mtmsr r3; isync; b -12`
const DOZE: [u32; 6] = [
    0x3C60_0080,
    0x7C70_FBA6,
    0x3C60_0004,
    0x7C60_0124,
    0x4C00_012C,
    0x4BFF_FFF4,
];
/// QEMU answers within milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// A QEMU with an EHCI controller and a stick in its first port.
pub struct Qtest {
    stream: BufReader<UnixStream>,
    qmp: Qmp,
    // Last: it goes when nobody talks to it any more.
    process: Process,
    _folder: TempDir,
}

impl Qtest {
    /// Starts it, with an image for the stick.
    ///
    /// # Errors
    /// QEMU does not start or does not answer, or the machine lacks a device.
    pub fn start(qemu: &Path, stick: &Path) -> Result<Self, Error> {
        let folder = run_folder()?;
        let rom = folder.path().join("rom");
        let mut bytes = vec![0; 1 << 20];
        for (at, word) in DOZE.iter().enumerate() {
            bytes[0x100 + 4 * at..][..4].copy_from_slice(&word.to_be_bytes());
        }
        fs::write(&rom, bytes).context(|| rom.display().to_string())?;
        let mut command = Command::new(qemu);
        command
            .args(["-nodefaults", "-display", "none", "-machine", "40p"])
            .args(["-cpu", "750cl", "-m", "32", "-bios"])
            .arg(&rom)
            .args(["-object", "memory-backend-memfd,id=mem2,size=64M,share=on"])
            .args(["-device", "ivshmem-plain,memdev=mem2"])
            .args(["-device", "usb-ehci,id=ehci"])
            .arg("-blockdev")
            .arg(format!(
                "driver=raw,node-name=drive,file.driver=file,file.filename={}",
                stick.display()
            ))
            .args(["-device", "usb-storage,bus=ehci.0,id=stick,drive=drive"])
            .args(["-qtest-log", "none"]);
        let socket = |name: &str| folder.path().join(name);
        for (option, name) in [("-qtest", "qtest"), ("-qmp", "qmp")] {
            let path = socket(name);
            let server = format!("unix:{},server=on,wait=off", path.display());
            command.args([option, &server]);
        }
        let mut process = Process::start(command, &socket("output"), &[])?;
        let qtest = connect(&mut process, &socket("qtest"))?;
        qtest
            .set_read_timeout(Some(LIMIT))
            .context(|| "qtest socket".into())?;
        let qmp = Qmp::connect(connect(&mut process, &socket("qmp"))?)?;
        let mut qtest = Self {
            stream: BufReader::new(qtest),
            qmp,
            process,
            _folder: folder,
        };
        qtest.place_devices()?;
        Ok(qtest)
    }

    /// Puts MEM2 and the controller where a Wii has them.
    fn place_devices(&mut self) -> Result<(), Error> {
        let (mut memory, mut controller) = (false, false);
        for device in 0..32 {
            let id = self.config_read(device, 0)?;
            let class = self.config_read(device, 8)? >> 8;
            // ivshmem
            if id == 0x1110_1AF4 {
                for (register, value) in [(0x10, SPARE), (0x18, MEM2), (0x1C, 0), (0x04, 2)] {
                    self.config_write(device, register, value)?;
                }
                memory = true;
            } else if class == 0x0C_0320 {
                self.config_write(device, 0x10, EHCI)?;
                self.config_write(device, 0x04, 6)?;
                controller = true;
            }
        }
        if memory && controller {
            return Ok(());
        }
        Err(Error::Unsupported("QEMU's machine lacks EHCI or MEM2"))
    }

    fn config_read(&mut self, device: u32, register: u32) -> Result<u32, Error> {
        self.select(device, register)?;
        self.word(IO + 0xCFC)
    }

    fn config_write(&mut self, device: u32, register: u32, value: u32) -> Result<(), Error> {
        self.select(device, register)?;
        self.set_word(IO + 0xCFC, value)
    }

    fn select(&mut self, device: u32, register: u32) -> Result<(), Error> {
        self.set_word(IO + 0xCF8, 0x8000_0000 | device << 11 | register)
    }

    /// Reads the controller's register at `offset` from the first capability register.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn register(&mut self, offset: u32) -> Result<u32, Error> {
        self.word(PCI + EHCI + offset)
    }

    /// Writes a register.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn set_register(&mut self, offset: u32, value: u32) -> Result<(), Error> {
        self.set_word(PCI + EHCI + offset, value)
    }

    /// Reads MEM2, `address` physical.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn memory(&mut self, address: u32, len: u32) -> Result<Vec<u8>, Error> {
        self.read(PCI + address, len)
    }

    /// Writes MEM2, `address` physical.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn set_memory(&mut self, address: u32, bytes: &[u8]) -> Result<(), Error> {
        self.write(PCI + address, bytes)
    }

    /// Pulls the stick.
    ///
    /// # Errors
    /// QEMU refuses.
    pub fn unplug(&mut self) -> Result<(), Error> {
        self.qmp.execute("device_del", json!({ "id": "stick" }))?;
        self.qmp.wait_for("DEVICE_DELETED", LIMIT)?;
        Ok(())
    }

    fn word(&mut self, address: u32) -> Result<u32, Error> {
        let bytes = self.read(address, 4)?;
        let bytes = bytes
            .try_into()
            .map_err(|_| refused("read", "not a word"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn set_word(&mut self, address: u32, value: u32) -> Result<(), Error> {
        self.write(address, &value.to_le_bytes())
    }

    fn read(&mut self, address: u32, len: u32) -> Result<Vec<u8>, Error> {
        let answer = self.execute(&format!("read {address:#x} {len:#x}"))?;
        let digits = answer.strip_prefix("OK 0x").unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        bytes
            .filter(|bytes| bytes.len() == len as usize)
            .ok_or_else(|| refused("read", &answer))
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Error> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let len = bytes.len();
        let answer = self.execute(&format!("write {address:#x} {len:#x} 0x{digits}"))?;
        if answer.starts_with("OK") {
            return Ok(());
        }
        Err(refused("write", &answer))
    }

    fn execute(&mut self, command: &str) -> Result<String, Error> {
        let failed = |error: std::io::Error| refused(command, &error.to_string());
        writeln!(self.stream.get_mut(), "{command}").map_err(failed)?;
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).map_err(failed)?;
            if read == 0 {
                return Err(refused(command, "QEMU has closed the connection"));
            }
            // Interrupt lines tell of themselves in between.
            if !line.starts_with("IRQ") {
                return Ok(line.trim().to_owned());
            }
        }
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        self.process.kill();
    }
}

fn refused(command: &str, reason: &str) -> Error {
    let end = command.len().min(40);
    Error::Qmp {
        command: format!("qtest {}", &command[..end]),
        reason: reason.to_owned(),
    }
}

/// Waits until QEMU listens.
fn connect(process: &mut Process, path: &Path) -> Result<UnixStream, Error> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if process.exit()?.is_some() || Instant::now() > deadline => {
                return Err(error).context(|| path.display().to_string());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
