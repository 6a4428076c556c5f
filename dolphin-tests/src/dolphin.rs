//! Dolphin's side: headless, with a user folder of its own (reference: emulators, section 2).

use crate::{
    Error, Tools, dol,
    error::Context,
    memory::Piece,
    run::{DolphinCore, Run},
};
use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
};

/// Both memories lie in one file of the process, which has no other name any more.
pub(crate) const MEMORY: [Piece; 2] = [
    Piece {
        link: "/dev/shm/dolphin-emu.",
        physical: 0,
        offset: 0,
        length: 24 << 20,
    },
    Piece {
        link: "/dev/shm/dolphin-emu.",
        physical: 0x1000_0000,
        offset: 0x0204_0000,
        length: 64 << 20,
    },
];

/// What every run has in common. Nothing that asks, updates, sounds, or writes outside the user folder. The USB device that is
/// let through is the virtual stick.
const SETTINGS: &str = "\
[Analytics]
Enabled = False
PermissionAsked = True
[AutoUpdate]
UpdateTrack =
[Interface]
ConfirmStop = False
UsePanicHandlers = False
OnScreenDisplayMessages = False
[Core]
CPUCore = 1
CPUThread = True
SlotA = 255
SerialPort1 = 255
WiiSDCard = False
EmulationSpeed = 0
EnableCustomRTC = True
CustomRTCValue = 1000000000
[Input]
BackgroundInput = True
[DSP]
Backend = No Audio Output
[USBPassthrough]
Devices = 1209:0001
";

/// Only what a failed run needs to be understood.
const LOGGING: &str = "\
[Options]
Verbosity = 3
WriteToConsole = True
WriteToFile = False
[Logs]
BOOT = True
MASTER = True
MI = True
IOS_USB = True
";

pub(crate) fn command(tools: &Tools, run: &Run, folder: &Path) -> Result<Command, Error> {
    let settings = folder.join("Config");
    fs::create_dir_all(&settings).context(|| settings.display().to_string())?;
    let referee = if run.dolphin_core == DolphinCore::CacheModel {
        "True"
    } else {
        "False"
    };
    let slot_b = if run.gecko { 7 } else { 255 };
    // A controller in the first socket, or none.
    let socket = if run.attended { 6 } else { 0 };
    for (name, text) in [("Dolphin.ini", SETTINGS), ("Logger.ini", LOGGING)] {
        let file = settings.join(name);
        fs::write(&file, text).context(|| file.display().to_string())?;
    }
    let mut command = Command::new(&tools.dolphin);
    command
        .args(["-p", "headless", "-v", "Null", "-u"])
        .arg(folder)
        .args(["-C", &format!("Dolphin.Core.AccurateCPUCache={referee}")])
        .args(["-C", &format!("Dolphin.Core.MMU={referee}")])
        .args(["-C", &format!("Dolphin.Core.SlotB={slot_b}")])
        .args(["-C", &format!("Dolphin.Core.SIDevice0={socket}")])
        .arg("-e")
        .arg(image(run, folder)?);
    Ok(command)
}

/// The file to boot: a copy of the program that carries the arguments. Dolphin tells file types by the suffix.
fn image(run: &Run, folder: &Path) -> Result<std::path::PathBuf, Error> {
    let path = &run.program.dol;
    let failed = |reason: String| Error::Image {
        path: path.clone(),
        reason,
    };
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    dol::check(&bytes).map_err(|error| failed(error.to_string()))?;
    let image = dol::command_line(&run.command_line())
        .and_then(|line| dol::with_command_line(&bytes, &line));
    let image = run
        .left_behind
        .iter()
        .fold(image, |image, (address, bytes)| {
            // Where Dolphin puts sections it uses the cached view.
            dol::with_section(&image?, 0x8000_0000 + address, bytes)
        })
        .map_err(|error| failed(error.to_string()))?;
    let copy = folder.join("boot.dol");
    fs::write(&copy, image).context(|| copy.display().to_string())?;
    Ok(copy)
}

/// The emulated USB Gecko: a TCP server that Dolphin opens on the first free port of eleven.
pub(crate) struct Gecko(Option<TcpStream>);

impl Gecko {
    pub fn new() -> Self {
        Self(None)
    }

    /// Connects as soon as the port is there, and takes what has arrived.
    pub fn take(&mut self, pid: u32) -> Result<Vec<u8>, Error> {
        if self.0.is_none() {
            let Some(port) = listening_port(pid) else {
                return Ok(Vec::new());
            };
            let stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context(|| "USB Gecko".into())?;
            stream
                .set_nonblocking(true)
                .context(|| "USB Gecko".into())?;
            self.0 = Some(stream);
        }
        let mut bytes = Vec::new();
        if let Some(stream) = &mut self.0 {
            // Ends with "would block", or with a reset once Dolphin is gone; what came before is kept.
            let _ = stream.read_to_end(&mut bytes);
        }
        Ok(bytes)
    }
}

/// The port in the Gecko's range on which the process listens.
fn listening_port(pid: u32) -> Option<u16> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            Some(
                fs::read_link(entry.path())
                    .ok()?
                    .to_string_lossy()
                    .into_owned(),
            )
        })
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Local address, state (0A: listening), inode.
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        let ours = *state == "0A"
            && (55020..=55030).contains(&port)
            && sockets.iter().any(|socket| socket == inode);
        ours.then_some(port)
    })
}
