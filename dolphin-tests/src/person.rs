//! A person in front of the machine, played by the harness: a GameCube controller in Dolphin, a USB keyboard in QEMU.

use crate::{Error, Qmp, error::Context};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Duration,
};

/// What can be pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Up.
    Up,
    /// Down.
    Down,
    /// Left on the controller, page up on the keyboard.
    PageUp,
    /// Right on the controller, page down on the keyboard.
    PageDown,
    /// A, or Enter.
    Confirm,
    /// B, or Escape.
    Back,
    /// START, or Home.
    Start,
}

impl Press {
    /// Name of the button in Dolphin's pipes.
    const fn button(self) -> &'static str {
        match self {
            Self::Up => "D_UP",
            Self::Down => "D_DOWN",
            Self::PageUp => "D_LEFT",
            Self::PageDown => "D_RIGHT",
            Self::Confirm => "A",
            Self::Back => "B",
            Self::Start => "START",
        }
    }

    /// Name of the key in QEMU's monitor.
    const fn key(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::PageUp => "pgup",
            Self::PageDown => "pgdn",
            Self::Confirm => "ret",
            Self::Back => "esc",
            Self::Start => "home",
        }
    }
}

/// Name of the pipe in Dolphin's user folder, and of the device that Dolphin makes of it.
const PIPE: &str = "Pipes/person";

/// The controller's settings: every button that [`Press`] knows.
const PAD: &str = "\
[GCPad1]
Device = Pipe/0/person
Buttons/A = `Button A`
Buttons/B = `Button B`
Buttons/Start = `Button START`
D-Pad/Up = `Button D_UP`
D-Pad/Down = `Button D_DOWN`
D-Pad/Left = `Button D_LEFT`
D-Pad/Right = `Button D_RIGHT`
";

/// The controller in Dolphin's first socket.
pub(crate) struct Controller(File);

impl Controller {
    /// Makes the pipe and the settings in a user folder, before Dolphin starts.
    pub fn plug_in(folder: &Path) -> Result<Self, Error> {
        use std::os::unix::ffi::OsStrExt;
        let pipe = folder.join(PIPE);
        let settings = folder.join("Config/GCPadNew.ini");
        for file in [&pipe, &settings] {
            let parent = file.parent().unwrap_or(folder);
            fs::create_dir_all(parent).context(|| parent.display().to_string())?;
        }
        fs::write(&settings, PAD).context(|| settings.display().to_string())?;
        let name = std::ffi::CString::new(pipe.as_os_str().as_bytes())
            .map_err(|_| Error::Unsupported("a folder whose name has a zero byte"))?;
        // SAFETY: a string that lives through the call.
        if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } != 0 {
            return Err(std::io::Error::last_os_error()).context(|| pipe.display().to_string());
        }
        // For reading as well, so that opening does not wait for Dolphin.
        let file = File::options().read(true).write(true).open(&pipe);
        Ok(Self(file.context(|| pipe.display().to_string())?))
    }

    pub fn press(&mut self, press: Press) -> Result<(), Error> {
        self.say("PRESS", press)
    }

    pub fn release(&mut self, press: Press) -> Result<(), Error> {
        self.say("RELEASE", press)
    }

    fn say(&mut self, verb: &str, press: Press) -> Result<(), Error> {
        writeln!(self.0, "{verb} {}", press.button()).context(|| "the controller's pipe".into())
    }
}

/// How long a key of QEMU's keyboard is down: longer than a few frames of the guest.
const HELD: Duration = Duration::from_millis(60);

/// Presses a key of QEMU's keyboard and lets it go after [`HELD`].
pub(crate) fn type_key(qmp: &mut Qmp, press: Press) -> Result<(), Error> {
    let arguments = json!({
        "keys": [{ "type": "qcode", "data": press.key() }],
        "hold-time": HELD.as_millis() as u64,
    });
    qmp.execute("send-key", arguments).map(drop)
}
