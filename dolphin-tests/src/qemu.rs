//! QEMU's side: machine `40p` made Wii-shaped by the boot shim (reference: emulators, section 1).

use crate::{Error, Tools, audit, count, dol, error::Context, memory::Piece, plugin, run::Run};
use std::{
    ffi::OsString,
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Command,
};

/// Physical addresses at which the shim expects program and arguments, and leaves its report; contract with the
/// shim's `layout`.
const DOL: u32 = 0x0190_0000;
const DOL_CAPACITY: usize = 0x0050_0000;
const ARGUMENTS: u32 = 0x0188_0000;
const REPORT: u32 = 0x01E0_0000;
const REPORT_CAPACITY: usize = 0x1000;
/// The shim appends this argument: the program then leaves the address map alone.
const MAP_READY: &str = "map=ready";

/// The machine's RAM comes as four modules, MEM2 as the memory of a PCI device.
pub(crate) const MEMORY: [Piece; 5] = [
    module("/memfd:simm.0", 0),
    module("/memfd:simm.1", 1),
    module("/memfd:simm.2", 2),
    module("/memfd:simm.3", 3),
    Piece {
        link: "/memfd:memory-backend-memfd",
        physical: 0x1000_0000,
        offset: 0,
        length: 64 << 20,
    },
];

const fn module(link: &'static str, index: u32) -> Piece {
    Piece {
        link,
        physical: index * (8 << 20),
        offset: 0,
        length: 8 << 20,
    }
}

/// Name of the file for trace and complaints in the folder of the run.
pub(crate) const LOG: &str = "qemu.log";

/// Name of the file of the counted instructions.
pub(crate) const COUNTS: &str = "counts";

/// The command line. QEMU starts stopped, so that nothing is missed while we attach.
pub(crate) fn command(
    tools: &Tools,
    run: &Run,
    folder: &Path,
    monitor: &OwnedFd,
    devices: &[OwnedFd],
) -> Result<Command, Error> {
    let image = |reason: String| Error::Image {
        path: run.program.dol.clone(),
        reason,
    };
    let program = fs::read(&run.program.dol).map_err(|error| image(error.to_string()))?;
    if program.len() > DOL_CAPACITY {
        return Err(image(format!(
            "{} bytes, the shim takes {DOL_CAPACITY}",
            program.len()
        )));
    }
    let mut with_map = run.command_line();
    with_map.push(MAP_READY.to_owned());
    dol::command_line(&with_map).map_err(|error| image(error.to_string()))?;
    let line = dol::command_line(&run.command_line()).map_err(|error| image(error.to_string()))?;
    let block = [b"ARGS", &(line.len() as u32).to_be_bytes()[..], &line].concat();
    let arguments = folder.join("arguments");
    fs::write(&arguments, block).context(|| arguments.display().to_string())?;

    let mut command = Command::new(&tools.qemu);
    command
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-action",
            "panic=exit-failure",
            "-S",
        ])
        // RAM in files that /proc shows.
        .args([
            "-machine",
            "40p,aux-ram-share=on",
            "-cpu",
            "750cl",
            "-m",
            "32",
        ])
        .arg("-bios")
        .arg(tools.image("shim.elf")?)
        .args(["-device", "i8042", "-device", "pvpanic-pci"])
        .args(["-object", "memory-backend-memfd,id=mem2,size=64M,share=on"])
        .args(["-device", "ivshmem-plain,memdev=mem2"])
        .args(["-device".into(), loader(&run.program.dol, DOL)])
        .args(["-device".into(), loader(&arguments, ARGUMENTS)])
        .args([
            "-chardev".into(),
            format!("socket,id=monitor,fd={}", monitor.as_raw_fd()),
        ])
        .args(["-mon", "chardev=monitor,mode=control"])
        .arg("-D")
        .arg(folder.join(LOG))
        // With the audit also accesses to no memory: small ones to MEM1 do not stop the controller.
        .args([
            "-d",
            if run.audit {
                "guest_errors,invalid_mem"
            } else {
                "guest_errors"
            },
        ]);
    if run.companions {
        command.args(["-device", "ich9-usb-ehci1,id=ehci,addr=0xc"]);
        for first in [0, 3] {
            let companion = format!("pci-ohci,masterbus=ehci.0,firstport={first},num-ports=3");
            command.args(["-device", &companion]);
        }
    } else {
        command.args(["-device", "usb-ehci,id=ehci"]);
    }
    for (index, stick) in run.sticks.iter().enumerate() {
        // Not `-drive`, which would vanish together with a stick that is pulled.
        let read_only = if stick.read_only { "on" } else { "off" };
        let mut drive = OsString::from(format!(
            "driver=raw,node-name=drive{index},read-only={read_only},file.driver=file,file.filename="
        ));
        drive.push(escape(&stick.image));
        command.arg("-blockdev").arg(drive);
        if stick.attached {
            command.args([
                "-device",
                &format!("usb-storage,bus=ehci.0,id=stick{index},drive=drive{index}"),
            ]);
        }
    }
    for (index, socket) in devices.iter().enumerate() {
        command.args([
            "-chardev",
            &format!("socket,id=redir{index},fd={}", socket.as_raw_fd()),
            "-device",
            &format!("usb-redir,bus=ehci.0,id=device{index},chardev=redir{index},debug=0"),
        ]);
    }
    if run.attended {
        command.args(["-device", "usb-kbd,bus=ehci.0"]);
    }
    if run.audit {
        for event in audit::EVENTS {
            command.args(["-trace", event]);
        }
    }
    if run.model_cache {
        command.args(plugin::CACHE.load(folder, "")?);
    }
    if run.count {
        let elf = run.program.elf.as_deref().ok_or(Error::Unsupported(
            "instructions are counted in programs whose ELF is there",
        ))?;
        let arguments = count::arguments(elf, &folder.join(COUNTS))?;
        command.args(plugin::COUNT.load(folder, &arguments)?);
        for event in count::EVENTS {
            command.args(["-trace", event]);
        }
    }
    command.args(&run.qemu_arguments);
    Ok(command)
}

fn loader(file: &Path, address: u32) -> OsString {
    let mut option = OsString::from(format!("loader,addr={address:#x},force-raw=on,file="));
    option.push(escape(file));
    option
}

/// A comma in an option's value is written twice.
fn escape(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        escaped.extend(std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(escaped)
}

/// What the shim says about a failed boot, if it did.
pub(crate) fn shim_report(memory: &crate::GuestMemory) -> Result<Option<String>, Error> {
    if memory.read_word(REPORT)? != u32::from_be_bytes(*b"SHIM") {
        return Ok(None);
    }
    let length = memory.read_word(REPORT + 4)? as usize;
    let mut text = vec![0; length.min(REPORT_CAPACITY)];
    memory.read(REPORT + 8, &mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(escape(Path::new("/a,b/c")), "/a,,b/c");
    }
}
