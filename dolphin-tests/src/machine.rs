//! A running emulator, and how it is followed to its end.

use crate::{
    CacheAudit, DmaAudit, Emulator, Error, Frame, GuestMemory, Outcome, Qmp, Tools, count,
    dolphin::{self, Gecko},
    error::Context,
    frames::Decoder,
    outcome::End,
    person::{self, Controller, Press},
    picture::Picture,
    process::{self, Process},
    qemu,
    ring::LogRing,
    run::Run,
    sticks::Sticks,
};
use serde_json::json;
use std::{
    collections::VecDeque,
    fs,
    io::BufReader,
    marker::PhantomData,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What a guest logs between the number of a picture and its title.
const PICTURE_SHOWS: &str = " shows ";

/// How often a guest that says nothing is looked at.
const POLL: Duration = Duration::from_millis(1);

/// A running guest. Dropping it ends the emulator and removes its files.
///
/// Nothing happens in the background: frames are read, and the time limit is enforced, while a method of this type runs. A
/// guest whose ring is full waits a little for us, then overwrites. A machine cannot move to another thread,
/// because the kernel ends the emulator together with the thread that started it.
pub struct Machine {
    process: Process,
    run: Run,
    memory: Option<GuestMemory>,
    qmp: Option<Qmp>,
    sticks: Option<Sticks>,
    ring: LogRing,
    decoder: Decoder,
    gecko: Option<(Gecko, Decoder)>,
    controller: Option<Controller>,
    /// Decoded, and not handed out yet.
    queue: VecDeque<Frame>,
    frames: Vec<Frame>,
    gecko_frames: Vec<Frame>,
    started: Instant,
    end: Option<(End, Duration)>,
    registers: Option<String>,
    /// Last, since the emulator must be gone before its files.
    folder: TempDir,
    _same_thread: PhantomData<*const ()>,
}

impl Machine {
    pub(crate) fn start(tools: &Tools, run: &Run) -> Result<Self, Error> {
        let started = Instant::now();
        let elf = run.program.elf.as_deref();
        let decoder = Decoder::new(elf)?;
        let gecko = if run.gecko {
            Some((Gecko::new(), Decoder::new(elf)?))
        } else {
            None
        };
        let folder = process::run_folder()?;
        let output = folder.path().join("output");
        let mut sticks = None;
        let mut controller = None;
        let (process, memory, qmp) = match run.emulator {
            Emulator::Dolphin if !run.devices.is_empty() => {
                return Err(Error::Unsupported(
                    "only QEMU takes a device of the test's making",
                ));
            }
            Emulator::Dolphin => {
                let mut command = dolphin::command(tools, run, folder.path())?;
                if run.attended {
                    controller = Some(Controller::plug_in(folder.path())?);
                }
                let process = if run.sticks.is_empty() {
                    Process::start(command, &output, &[])?
                } else {
                    let (ours, theirs) = Sticks::new(tools, run, &mut command)?;
                    sticks = Some(ours);
                    Process::start(command, &output, &[theirs])?
                };
                (process, None, None)
            }
            Emulator::Qemu if run.gecko => return Err(Error::Unsupported("QEMU has no USB Gecko")),
            Emulator::Qemu => {
                let (ours, theirs) = UnixStream::pair().context(|| "QMP socket".into())?;
                let mut shared = vec![OwnedFd::from(theirs)];
                for device in &run.devices {
                    let (ours, theirs) = UnixStream::pair().context(|| "device socket".into())?;
                    shared.push(theirs.into());
                    device.serve(ours);
                }
                let command = qemu::command(tools, run, folder.path(), &shared[0], &shared[1..])?;
                let mut process = Process::start(command, &output, &shared)?;
                drop(shared);
                let (memory, qmp) = attach(run, &mut process, ours).map_err(|error| {
                    // What QEMU itself says about a refused option is worth more than a closed socket.
                    let said = fs::read_to_string(&output).unwrap_or_default();
                    match said.trim() {
                        "" => error,
                        said => Error::Qmp {
                            command: "start".into(),
                            reason: format!("{error}; QEMU: {said}"),
                        },
                    }
                })?;
                (process, Some(memory), Some(qmp))
            }
        };
        Ok(Self {
            process,
            run: run.clone(),
            memory,
            qmp,
            sticks,
            ring: LogRing::default(),
            decoder,
            gecko,
            controller,
            queue: VecDeque::new(),
            frames: Vec::new(),
            gecko_frames: Vec::new(),
            started,
            end: None,
            registers: None,
            folder,
            _same_thread: PhantomData,
        })
    }

    /// Waits for the next log frame; `None` once the guest has ended (or been ended, at its time limit) and
    /// all frames have been handed out.
    ///
    /// # Errors
    /// Failures of the harness only.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.queue.pop_front() {
                return Ok(Some(frame));
            }
            if self.end.is_some() {
                return Ok(None);
            }
            // In this order: what a guest wrote last is there when its process has ended.
            let exit = self.process.exit()?;
            let elapsed = self.started.elapsed();
            self.pump(exit.is_some())?;
            if let Some(status) = exit {
                self.end = Some((End::Exit(status), elapsed));
            } else if elapsed >= self.run.time_limit {
                self.stop(End::TimeLimit(self.run.time_limit))?;
            } else if self.queue.is_empty() {
                std::thread::sleep(POLL);
            }
        }
    }

    /// Waits for a frame whose message contains `text`; `None` if the guest ends before.
    ///
    /// # Errors
    /// Failures of the harness only.
    pub fn wait_for(&mut self, text: &str) -> Result<Option<Frame>, Error> {
        while let Some(frame) = self.next_frame()? {
            if frame.message.contains(text) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Follows the guest to its end, or ends it at its time limit.
    ///
    /// # Errors
    /// Failures of the harness only.
    pub fn to_end(mut self) -> Result<Outcome, Error> {
        while self.next_frame()?.is_some() {}
        self.outcome()
    }

    /// Ends the emulator now. The outcome tells what had happened up to here, and is no success.
    ///
    /// # Errors
    /// Failures of the harness only.
    pub fn abandon(mut self) -> Result<Outcome, Error> {
        if self.end.is_none() {
            self.stop(End::Abandoned)?;
        }
        self.outcome()
    }

    /// The guest's memory, also after its end.
    ///
    /// # Errors
    /// [`Error::Late`] if the emulator does not open it within 10 s or ends before (Dolphin needs half a second).
    pub fn memory(&mut self) -> Result<&GuestMemory, Error> {
        let limit = Duration::from_secs(10);
        let deadline = Instant::now() + limit;
        loop {
            let last = self.process.exit()?.is_some() || Instant::now() >= deadline;
            self.attach_memory()?;
            if self.memory.is_some() || last {
                break;
            }
            std::thread::sleep(POLL);
        }
        self.memory.as_ref().ok_or(Error::Late {
            what: "the guest's memory",
            limit,
        })
    }

    /// QEMU's monitor.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with Dolphin, which has none.
    pub fn qmp(&mut self) -> Result<&mut Qmp, Error> {
        self.qmp
            .as_mut()
            .ok_or(Error::Unsupported("Dolphin has no QMP monitor"))
    }

    /// Pulls a stick, counted from 0. When this returns, it is gone; the guest was stopped meanwhile.
    ///
    /// # Errors
    /// [`Error::Qmp`] if there is no such stick, or it does not go within 10 s; [`Error::Sticks`] in Dolphin.
    pub fn unplug(&mut self, stick: usize) -> Result<(), Error> {
        if let Some(sticks) = &mut self.sticks {
            return sticks.command(format!("unplug {stick}")).map(drop);
        }
        let qmp = self.qmp()?;
        qmp.execute("device_del", json!({ "id": format!("stick{stick}") }))?;
        // A guest that polls keeps QEMU from finishing (reference: qemu, section 4).
        qmp.execute("stop", json!({}))?;
        qmp.wait_for("DEVICE_DELETED", Duration::from_secs(10))?;
        qmp.execute("cont", json!({}))?;
        Ok(())
    }

    /// Plugs in a stick that was pulled, or has not been plugged in yet; into the first free port.
    ///
    /// # Errors
    /// [`Error::Qmp`], in Dolphin [`Error::Sticks`], if there is no such stick, or it is plugged in.
    pub fn plug(&mut self, stick: usize) -> Result<(), Error> {
        if let Some(sticks) = &mut self.sticks {
            return sticks.command(format!("plug {stick}")).map(drop);
        }
        let (id, drive) = (format!("stick{stick}"), format!("drive{stick}"));
        let qmp = self.qmp()?;
        // Stopped, since a refusal would hang QEMU under a guest that polls.
        qmp.execute("stop", json!({}))?;
        let device = json!({ "driver": "usb-storage", "bus": "ehci.0", "id": id, "drive": drive });
        let added = qmp.execute("device_add", device);
        qmp.execute("cont", json!({}))?;
        added.map(|_| ())
    }

    /// Counts the bulk transfers that a virtual stick in Dolphin has had so far.
    ///
    /// # Errors
    /// [`Error::Unsupported`] in QEMU; [`Error::Sticks`] if there is no such stick, or Dolphin has not looked for any.
    pub fn stick_transfers(&mut self, stick: usize) -> Result<u64, Error> {
        let sticks = self.sticks.as_mut();
        let sticks = sticks.ok_or(Error::Unsupported("QEMU's sticks do not count"))?;
        let answer = sticks.command(format!("transfers {stick}"))?;
        answer.parse().map_err(|_| Error::Sticks {
            command: "transfers".to_owned(),
            reason: answer,
        })
    }

    /// Presses a key of the person's, waits until the guest shows what comes of it, and lets it go. Returns the title of the
    /// screen; `None` if the guest ended.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a person.
    pub fn press(&mut self, press: Press) -> Result<Option<String>, Error> {
        /// Some frames of the guest, in which the key is seen to be up.
        const PAUSE: Duration = Duration::from_millis(60);
        let Some(controller) = &mut self.controller else {
            let person = self.run.attended;
            let qmp = self.qmp.as_mut().filter(|_| person);
            person::type_key(qmp.ok_or(Error::Unsupported("nobody is there"))?, press)?;
            let title = self.shown()?;
            std::thread::sleep(PAUSE);
            return Ok(title);
        };
        controller.press(press)?;
        let title = self.shown()?;
        if let Some(controller) = &mut self.controller {
            controller.release(press)?;
        }
        std::thread::sleep(PAUSE);
        Ok(title)
    }

    /// Waits until the guest shows something new, and returns its title; `None` if the guest ends before.
    ///
    /// # Errors
    /// Failures of the harness only.
    pub fn shown(&mut self) -> Result<Option<String>, Error> {
        let frame = self.wait_for(PICTURE_SHOWS)?;
        Ok(frame.and_then(|frame| Some(frame.message.split_once(PICTURE_SHOWS)?.1.to_owned())))
    }

    /// Follows the guest until it has said nothing for so long, or has ended.
    ///
    /// # Errors
    /// Failures of the harness only.
    pub fn settle(&mut self, quiet: Duration) -> Result<(), Error> {
        let mut heard = Instant::now();
        while heard.elapsed() < quiet {
            self.pump(false)?;
            if self.queue.is_empty() {
                std::thread::sleep(POLL);
            } else {
                self.queue.clear();
                heard = Instant::now();
            }
        }
        Ok(())
    }

    /// What the guest shows.
    ///
    /// # Errors
    /// [`Error::Image`] if the guest has never shown anything, or its ELF is not there.
    pub fn picture(&mut self) -> Result<Picture, Error> {
        let nothing = || Error::Image {
            path: self.run.program.dol.clone(),
            reason: "it has not shown anything, or its ELF is missing".into(),
        };
        let number = self.frames.iter().rev().find_map(|frame| {
            let (before, _) = frame.message.split_once(PICTURE_SHOWS)?;
            before.strip_prefix("picture ")?.parse().ok()
        });
        let number = number.ok_or_else(nothing)?;
        let elf = self.run.program.elf.clone().ok_or_else(nothing)?;
        Picture::read(self.memory()?, &elf, number)
    }

    /// Asks Dolphin to end, which presses the console's power button.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with QEMU, which has none.
    pub fn press_power(&mut self) -> Result<(), Error> {
        if self.run.emulator != Emulator::Dolphin {
            return Err(Error::Unsupported("QEMU has no power button"));
        }
        self.process.terminate();
        Ok(())
    }

    /// Process number of the emulator.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Takes what the guest has logged since the last time.
    fn pump(&mut self, ended: bool) -> Result<(), Error> {
        self.attach_memory()?;
        if let Some(memory) = &self.memory
            && (self.run.reader || ended)
        {
            while let Some(chunk) = self.ring.take(memory)? {
                if chunk.gap {
                    self.decoder.gap();
                }
                let frames = self.decoder.decode(&chunk.bytes);
                self.frames.extend(frames.iter().cloned());
                self.queue.extend(frames);
            }
        }
        if let Some((gecko, decoder)) = &mut self.gecko {
            let bytes = gecko.take(self.process.id())?;
            self.gecko_frames.extend(decoder.decode(&bytes));
        }
        Ok(())
    }

    fn attach_memory(&mut self) -> Result<(), Error> {
        if self.memory.is_none() {
            self.memory = GuestMemory::open(self.process.id(), &dolphin::MEMORY)?;
        }
        Ok(())
    }

    /// Ends the emulator by force, after asking for what only a living one can tell.
    fn stop(&mut self, end: End) -> Result<(), Error> {
        let elapsed = self.started.elapsed();
        self.registers = self.qmp.as_mut().and_then(|qmp| {
            // A QEMU that hangs does not answer: then there are no registers.
            qmp.execute("stop", json!({})).ok()?;
            qmp.human("info registers").ok()
        });
        self.process.kill();
        self.pump(true)?;
        self.end = Some((end, elapsed));
        Ok(())
    }

    fn outcome(mut self) -> Result<Outcome, Error> {
        // Only after `next_frame` or `stop` has set it.
        let (end, elapsed) = self.end.unwrap_or((End::Abandoned, self.started.elapsed()));
        self.process.kill();
        let output = fs::read(self.folder.path().join("output")).context(|| "output".into())?;
        let output = String::from_utf8_lossy(&output).into_owned();
        let file = |name: &str| fs::File::open(self.folder.path().join(name)).map(BufReader::new);
        let trace = || file(qemu::LOG);
        let log = trace().ok().map(DmaAudit::read).transpose();
        let log = log.context(|| "trace".into())?.unwrap_or_default();
        let cache = self.run.model_cache.then(|| CacheAudit::read(trace()?));
        let cache = cache.transpose().context(|| "trace".into())?;
        let windows = if self.run.count {
            count::read(
                file(qemu::COUNTS).context(|| "counts".into())?,
                trace().context(|| "trace".into())?,
            )
            .context(|| "counts".into())?
        } else {
            Vec::new()
        };
        let (status, lost) = match &self.memory {
            Some(memory) => (self.ring.status(memory)?, self.ring.lost(memory)?),
            None => (None, 0),
        };
        let shim = match (&self.memory, self.run.emulator) {
            (Some(memory), Emulator::Qemu) => qemu::shim_report(memory)?,
            _ => None,
        };
        let gecko_malformed = self
            .gecko
            .as_ref()
            .map_or(0, |(_, decoder)| decoder.malformed);
        Outcome::new(
            &self.run,
            crate::outcome::Facts {
                end,
                elapsed,
                status,
                frames: std::mem::take(&mut self.frames),
                gecko: std::mem::take(&mut self.gecko_frames),
                lost,
                malformed: self.decoder.malformed + gecko_malformed,
                output,
                log,
                cache,
                windows,
                shim,
                registers: self.registers.take(),
                memory: self.memory.take(),
            },
        )
    }
}

/// Greets QEMU's monitor, maps the memory of the stopped machine, fills in what is to be there, and lets it run.
fn attach(
    run: &Run,
    process: &mut Process,
    monitor: UnixStream,
) -> Result<(GuestMemory, Qmp), Error> {
    let mut qmp = Qmp::connect(monitor)?;
    let memory = GuestMemory::open(process.id(), &qemu::MEMORY)?;
    let limit = Duration::ZERO;
    let memory = memory.ok_or(Error::Late {
        what: "QEMU's memory files",
        limit,
    })?;
    for (address, bytes) in &run.left_behind {
        for (at, chunk) in (*address..).step_by(4).zip(bytes.chunks(4)) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            memory.write_word(at, u32::from_be_bytes(word))?;
        }
    }
    qmp.execute("cont", json!({}))?;
    Ok((memory, qmp))
}
