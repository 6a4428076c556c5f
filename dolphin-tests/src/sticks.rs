//! The sticks that Dolphin sees: the test's end of the socket of `virtual-libusb`, whose documentation has the commands.

use crate::{Error, Tools, error::Context, run::Run};
use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Command,
    time::Duration,
};

/// How long Dolphin may take to answer; it starts the library when the guest first asks for USB devices.
const PATIENCE: Duration = Duration::from_secs(10);

/// A misfortune of one bulk transfer of a virtual stick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StickFault {
    /// Its endpoint halts.
    Stall,
    /// It fails as after transmission errors.
    Error,
    /// It brings half of the data, and says that this was all.
    Short,
    /// It does not end until it is cancelled or the stick is pulled.
    Silence,
    /// The stick is pulled.
    Unplug,
    /// The stick is pulled, and put back half a second later.
    Replug,
}

impl fmt::Display for StickFault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Stall => "stall",
            Self::Error => "error",
            Self::Short => "short",
            Self::Silence => "silence",
            Self::Unplug => "unplug",
            Self::Replug => "replug",
        })
    }
}

/// The virtual sticks of a run.
pub(crate) struct Sticks {
    stream: BufReader<UnixStream>,
    /// Commands that were not answered when they were sent.
    unanswered: Vec<String>,
}

impl Sticks {
    /// Makes the sticks of a run: prepares Dolphin's command, and returns the descriptor that Dolphin must inherit.
    pub fn new(tools: &Tools, run: &Run, command: &mut Command) -> Result<(Self, OwnedFd), Error> {
        let library = tools.image("libusb-1.0.so.0")?;
        let (ours, theirs) = UnixStream::pair().context(|| "socket to the sticks".into())?;
        ours.set_read_timeout(Some(PATIENCE))
            .context(|| "socket to the sticks".into())?;
        command
            .env("LD_PRELOAD", library)
            .env("WIISTICK_STICKS", theirs.as_raw_fd().to_string());
        let mut sticks = Self {
            stream: BufReader::new(ours),
            unanswered: Vec::new(),
        };
        for (number, stick) in run.sticks.iter().enumerate() {
            let mode = if stick.read_only { "ro" } else { "rw" };
            sticks.send(format!("stick {mode} {}", stick.image.display()))?;
            if stick.attached {
                sticks.send(format!("plug {number}"))?;
            }
        }
        for (stick, transfer, fault) in &run.stick_faults {
            sticks.send(format!("fault {stick} {transfer} {fault}"))?;
        }
        sticks.send("start".to_owned())?;
        Ok((sticks, theirs.into()))
    }

    fn send(&mut self, command: String) -> Result<(), Error> {
        writeln!(self.stream.get_mut(), "{command}").context(|| command.clone())?;
        self.unanswered.push(command);
        Ok(())
    }

    /// Sends a command, and waits until it and all before it were obeyed. Returns the answer.
    pub fn command(&mut self, command: String) -> Result<String, Error> {
        self.send(command)?;
        let mut answer = String::new();
        for command in std::mem::take(&mut self.unanswered) {
            let mut line = String::new();
            self.stream
                .read_line(&mut line)
                .context(|| command.clone())?;
            let text = line.trim_end().strip_prefix("ok");
            let text = text.ok_or_else(|| Error::Sticks {
                command,
                reason: line.trim_end().to_owned(),
            })?;
            answer = text.trim_start().to_owned();
        }
        Ok(answer)
    }
}
