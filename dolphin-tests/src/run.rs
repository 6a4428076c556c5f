//! Describes a run, and starts it.

use crate::{
    Error, Failure, Machine, Outcome, Program, RedirectedDevice, StickFault, Tools, redir::Factory,
};
use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

/// Which emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// A real EHCI controller and real sticks; no IOS, no caches.
    Qemu,
    /// The Wii with IOS and caches; no EHCI.
    Dolphin,
}

/// How Dolphin models the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DolphinCore {
    /// Data cache and MMU are modelled (`AccurateCPUCache`, `MMU`): the referee for cache maintenance.
    #[default]
    CacheModel,
    /// Neither, and twenty times as fast.
    Fast,
}

/// A disk image that is attached as a USB stick.
#[derive(Debug, Clone)]
pub(crate) struct Stick {
    pub image: PathBuf,
    pub read_only: bool,
    /// Plugged in from the start.
    pub attached: bool,
}

/// What to run and how. See the [crate documentation](crate) for an example.
#[derive(Debug, Clone)]
#[must_use]
pub struct Run {
    pub(crate) emulator: Emulator,
    pub(crate) program: Program,
    pub(crate) arguments: Vec<String>,
    pub(crate) sticks: Vec<Stick>,
    pub(crate) devices: Vec<Factory>,
    pub(crate) stick_faults: Vec<(usize, u64, StickFault)>,
    pub(crate) time_limit: Duration,
    pub(crate) dolphin_core: DolphinCore,
    pub(crate) gecko: bool,
    pub(crate) reader: bool,
    pub(crate) attended: bool,
    pub(crate) audit: bool,
    pub(crate) companions: bool,
    pub(crate) model_cache: bool,
    pub(crate) count: bool,
    pub(crate) qemu_arguments: Vec<OsString>,
    pub(crate) tolerated: Vec<String>,
    /// (Physical address, bytes) that are in MEM2 from the start.
    pub(crate) left_behind: Vec<(u32, Vec<u8>)>,
}

impl Run {
    /// Describes a run without arguments and sticks, with 20 s to end.
    pub fn new(emulator: Emulator, program: Program) -> Self {
        Self {
            emulator,
            program,
            arguments: Vec::new(),
            sticks: Vec::new(),
            devices: Vec::new(),
            stick_faults: Vec::new(),
            time_limit: Duration::from_secs(20),
            dolphin_core: DolphinCore::default(),
            gecko: false,
            reader: true,
            attended: false,
            audit: false,
            companions: false,
            model_cache: false,
            count: false,
            qemu_arguments: Vec::new(),
            tolerated: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    /// Adds an argument for the program, after its name, as the Homebrew Channel hands them over.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Attaches a disk image as the next USB stick. The guest may write it. In QEMU's monitor the first is device
    /// `stick0` with the block node `drive0`.
    pub fn stick(mut self, image: impl Into<PathBuf>) -> Self {
        self.sticks.push(Stick {
            image: image.into(),
            read_only: false,
            attached: true,
        });
        self
    }

    /// Attaches a disk image as a write-protected USB stick; several runs may share the image.
    pub fn read_only_stick(mut self, image: impl Into<PathBuf>) -> Self {
        self.sticks.push(Stick {
            image: image.into(),
            read_only: true,
            attached: true,
        });
        self
    }

    /// Has a disk image ready that is not plugged in before [`Machine::plug`] says so.
    pub fn later_stick(mut self, image: impl Into<PathBuf>) -> Self {
        self.sticks.push(Stick {
            image: image.into(),
            read_only: false,
            attached: false,
        });
        self
    }

    /// Plugs in a USB device of the test's own making. It is made, and lives, in a thread of its own.
    pub fn device(
        mut self,
        make: impl Fn() -> Box<dyn RedirectedDevice> + Send + Sync + 'static,
    ) -> Self {
        self.devices.push(Factory(Arc::new(make)));
        self
    }

    /// Lets bulk transfer number `transfer` (from 1) of a stick (from 0) suffer a misfortune, in Dolphin.
    pub fn stick_fault(mut self, stick: usize, transfer: u64, fault: StickFault) -> Self {
        self.stick_faults.push((stick, transfer, fault));
        self
    }

    /// Ends the run by force after this time.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Chooses Dolphin's model of the processor.
    pub fn dolphin_core(mut self, core: DolphinCore) -> Self {
        self.dolphin_core = core;
        self
    }

    /// Plugs a USB Gecko into Dolphin and decodes what it sends ([`Outcome::gecko`]). Dolphin has ports for eleven runs
    /// a minute: only for tests of the Gecko itself.
    pub fn gecko(mut self) -> Self {
        self.gecko = true;
        self
    }

    /// Leaves the log alone while the guest runs, as on a console that nobody watches; what the ring still holds at
    /// the end is decoded then.
    pub fn without_reader(mut self) -> Self {
        self.reader = false;
        self
    }

    /// Puts a person in front of the machine ([`Machine::press`]): the program shows its menu. Without one it does its job and
    /// ends.
    pub fn attended(mut self) -> Self {
        self.attended = true;
        self
    }

    /// Has QEMU trace every address that the EHCI controller uses ([`Outcome::audit`]). An address outside MEM2
    /// then makes the run fail.
    pub fn audit_dma(mut self) -> Self {
        self.audit = true;
        self
    }

    /// Gives QEMU's EHCI controller companions, as Hollywood's has: devices that are not high speed can be plugged in then, and
    /// are theirs.
    pub fn companions(mut self) -> Self {
        self.companions = true;
        self
    }

    /// Gives QEMU a model of a write-back data cache that knows nothing of DMA, over MEM2's cached view
    /// ([`Outcome::cache`]), beside the audit of DMA. A breach of the rules of cache maintenance then makes the run fail. A
    /// QEMU without plugins does not start.
    pub fn model_cache(mut self) -> Self {
        self.model_cache = true;
        self.audit_dma()
    }

    /// Has QEMU count instructions, and what the controller does, between the guest's calls of [`BEGIN`](crate::count::BEGIN) and
    /// [`END`](crate::count::END) ([`Outcome::windows`]). A program without these functions does not start.
    pub fn count_instructions(mut self) -> Self {
        self.count = true;
        self
    }

    /// Adds arguments to QEMU's command line.
    pub fn qemu_arguments<S: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.qemu_arguments
            .extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Accepts complaints of QEMU, and of its controller about the driver, that contain `text`; any other makes the run fail.
    pub fn tolerate(mut self, text: impl Into<String>) -> Self {
        self.tolerated.push(text.into());
        self
    }

    /// Has bytes at a physical address in MEM2 before the program starts, as a program before has left them: what the memory of
    /// another run held ([`Outcome::memory`]). A Wii's loader does not clear that memory.
    pub fn left_behind(mut self, address: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.left_behind.push((address, bytes.into()));
        self
    }

    /// Starts the emulator. The guest runs as soon as this returns.
    ///
    /// # Errors
    /// [`Error`] if a file is missing, the emulator does not start, or it cannot do what was asked for.
    pub fn start(&self, tools: &Tools) -> Result<Machine, Error> {
        Machine::start(tools, self)
    }

    /// Starts the emulator and follows it to its end.
    ///
    /// # Errors
    /// Those of [`start`](Self::start). A guest that fails is an [`Outcome`] too; see [`Run::success`].
    pub fn to_end(&self, tools: &Tools) -> Result<Outcome, Error> {
        self.start(tools)?.to_end()
    }

    /// Starts the emulator, follows it to its end and requires success ([`Outcome::check`]).
    ///
    /// # Errors
    /// Those of [`start`](Self::start), and a post-mortem of a guest that failed.
    pub fn success(&self, tools: &Tools) -> Result<Outcome, Failure> {
        self.to_end(tools)?.check()
    }

    /// The program's name, which comes first as on a console, its arguments, and whether somebody is there.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let name = self
            .program
            .dol
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        [name]
            .into_iter()
            .chain(self.arguments.iter().cloned())
            .chain([String::from(if self.attended {
                "attended"
            } else {
                "unattended"
            })])
            .collect()
    }
}
