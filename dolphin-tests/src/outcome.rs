//! How a run ended, whether that is a success, and a post-mortem if it is not.

use crate::{
    CacheAudit, Crash, DmaAudit, Emulator, Error, Frame, GuestMemory, IosAudit, Window, frames,
    run::Run, symbols::Symbols,
};
use std::{fmt, process::ExitStatus, time::Duration};
use wiistick::report::Event;

/// Complaints of QEMU that belong to every run that ends with a status other than 0.
const BENIGN: [&str; 1] = ["Guest crashed"];
/// How much of log and output a post-mortem shows.
const LAST_FRAMES: usize = 30;
const LAST_LINES: usize = 20;

/// What ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The emulator, with this status.
    Exit(ExitStatus),
    /// The harness, at the run's time limit.
    TimeLimit(Duration),
    /// The test, by [`Machine::abandon`](crate::Machine::abandon).
    Abandoned,
}

/// What is known after a run.
pub struct Outcome {
    /// Which emulator it was.
    pub emulator: Emulator,
    /// What ended the run.
    pub end: End,
    /// From the emulator's start to its end.
    pub elapsed: Duration,
    /// Exit status that the guest left in the log ring; `None` if it did not end by itself.
    pub status: Option<u8>,
    /// All log frames.
    pub frames: Vec<Frame>,
    /// All log frames that came through the USB Gecko.
    pub gecko: Vec<Frame>,
    /// Bytes of the log stream that were lost.
    pub lost: u64,
    /// Whether the log was read while the guest ran ([`Run::without_reader`](crate::Run::without_reader)).
    pub had_reader: bool,
    /// Frames that could not be decoded.
    pub malformed: usize,
    /// What the emulator printed.
    pub output: String,
    /// What QEMU complained about, less what the run tolerates.
    pub complaints: Vec<String>,
    /// The controller's DMA, if the run was traced ([`Run::audit_dma`](crate::Run::audit_dma)).
    pub audit: Option<DmaAudit>,
    /// What IOS was given for virtual sticks in Dolphin, as far as it can be seen from outside.
    pub ios: Option<IosAudit>,
    /// What happened to cache lines, if the run had a cache ([`Run::model_cache`](crate::Run::model_cache)).
    pub cache: Option<CacheAudit>,
    /// What happened between the guest's marks, if that was counted
    /// ([`Run::count_instructions`](crate::Run::count_instructions)).
    pub windows: Vec<Window>,
    /// An unexpected exception or panic, symbolised.
    pub crash: Option<Crash>,
    /// Why the boot shim ended the run, other than by a crash.
    pub shim: Option<String>,
    /// The processor's registers at a time limit, as QEMU prints them, with the places of NIP and LR.
    pub registers: Option<String>,
    /// The guest's memory as it was at the end; `None` if the emulator did not come so far.
    pub memory: Option<GuestMemory>,
}

/// What a machine hands over at its end.
pub(crate) struct Facts {
    pub end: End,
    pub elapsed: Duration,
    pub status: Option<u8>,
    pub frames: Vec<Frame>,
    pub gecko: Vec<Frame>,
    pub lost: u64,
    pub malformed: usize,
    pub output: String,
    pub log: DmaAudit,
    pub cache: Option<CacheAudit>,
    pub windows: Vec<Window>,
    pub shim: Option<String>,
    pub registers: Option<String>,
    pub memory: Option<GuestMemory>,
}

impl Outcome {
    pub(crate) fn new(run: &Run, facts: Facts) -> Result<Self, Error> {
        let mut complaints = facts.log.complaints.clone();
        if run.emulator == Emulator::Qemu {
            complaints.extend(facts.output.lines().map(str::to_owned));
        }
        let matters = |line: &String| {
            let mut known = BENIGN
                .into_iter()
                .chain(run.tolerated.iter().map(String::as_str));
            !line.trim().is_empty() && !known.any(|text| line.contains(text))
        };
        complaints.retain(matters);
        let mut audit = facts.log;
        audit.guest_bugs.retain(matters);
        let crash_event = |text: &str| match frames::event(text)? {
            Event::Crash(record) => Some(Crash::from(record)),
            _ => None,
        };
        let mut shim = facts.shim;
        let mut crash = facts
            .frames
            .iter()
            .find_map(|frame| crash_event(&frame.message));
        if let Some(reported) = shim.as_deref().and_then(crash_event) {
            crash = crash.or(Some(reported));
            shim = None;
        }
        let mut registers = facts.registers;
        if let Some(elf) = &run.program.elf
            && (crash.is_some() || registers.is_some())
        {
            let symbols = Symbols::load(elf)?;
            crash = crash.map(|crash| crash.symbolise(&symbols));
            registers = registers.map(|text| annotate(&text, &symbols));
        }
        let ios = match &facts.memory {
            Some(memory) if run.emulator == Emulator::Dolphin && !run.sticks.is_empty() => {
                Some(IosAudit::read(&facts.output, memory)?)
            }
            _ => None,
        };
        Ok(Self {
            emulator: run.emulator,
            end: facts.end,
            elapsed: facts.elapsed,
            status: facts.status,
            frames: facts.frames,
            gecko: facts.gecko,
            lost: facts.lost,
            had_reader: run.reader,
            malformed: facts.malformed,
            output: facts.output,
            complaints,
            audit: run.audit.then_some(audit),
            ios,
            cache: facts.cache,
            windows: facts.windows,
            crash,
            shim,
            registers,
            memory: facts.memory,
        })
    }

    /// Why this is no success; empty if it is one. Success means: the guest ended by itself with status 0, the emulator
    /// with exit status 0 and without complaints, the log came whole (if it was read) and could be decoded, no DMA left
    /// MEM2, and cache maintenance broke no rule.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(crash) = &self.crash {
            reasons.push(format!("the guest crashed: {}", crash.summary()));
        }
        if let Some(shim) = &self.shim {
            reasons.push(format!("the boot shim gave up: {shim}"));
        }
        match self.end {
            End::TimeLimit(limit) => {
                reasons.push(format!("the guest did not end within {limit:?}"))
            }
            End::Abandoned => reasons.push("the test ended the run".to_owned()),
            End::Exit(_) if self.status.is_none() => {
                reasons.push("the guest left no exit status: it ended by accident".to_owned());
            }
            End::Exit(_) => {}
        }
        if let Some(status @ 1..) = self.status {
            reasons.push(format!("the guest ended with status {status}"));
        }
        match self.end {
            // In QEMU that only repeats the guest's own status.
            End::Exit(exit) if !exit.success() && self.status.is_none_or(|status| status == 0) => {
                reasons.push(format!("the emulator ended with {exit}"));
            }
            _ => {}
        }
        for frame in &self.frames {
            if frame.is_record() && frame.event().is_none() {
                reasons.push(format!("not a record of this version: {}", frame.message));
            }
        }
        let refusals = self.output.lines();
        let refusals = refusals.filter(|line| line.contains("virtual sticks refuse"));
        reasons.extend(refusals.map(str::to_owned));
        if let Some(audit) = &self.ios
            && audit.outside_mem2 > 0
        {
            reasons.push(format!("IOS was given memory outside MEM2: {audit:x?}"));
        }
        for event in self.frames.iter().filter_map(Frame::event) {
            if let Event::Ios(counters) = event
                && (counters.outside_mem2 > 0 || counters.in_flight > 0)
            {
                reasons.push(format!("not all is well with IOS: {counters:?}"));
            }
        }
        if self.malformed > 0 {
            reasons.push(format!(
                "{} log frames could not be decoded",
                self.malformed
            ));
        }
        if self.had_reader && self.lost > 0 {
            reasons.push(format!("{} bytes of the log were lost", self.lost));
        }
        for complaint in &self.complaints {
            reasons.push(format!("QEMU complained: {complaint}"));
        }
        if let Some(audit) = &self.audit {
            for bug in &audit.guest_bugs {
                reasons.push(format!("QEMU's EHCI blames the driver: {bug}"));
            }
            if audit.outside_mem2 > 0 {
                reasons.push(format!("{} DMA addresses outside MEM2", audit.outside_mem2));
                reasons.extend(
                    audit
                        .violations
                        .iter()
                        .map(|violation| format!("  {violation}")),
                );
            }
        }
        if let Some(cache) = &self.cache {
            if cache.found > 0 {
                reasons.push(format!("{} breaches of cache maintenance", cache.found));
                let violations = cache.violations.iter();
                reasons.extend(violations.map(|violation| format!("  {violation}")));
            }
            if !cache.complete && matches!(self.end, End::Exit(_)) {
                reasons.push("the model of the cache did not see the end".to_owned());
            }
        }
        reasons
    }

    /// Passes a success on.
    ///
    /// # Errors
    /// [`Failure::Guest`] with reasons and post-mortem.
    pub fn check(self) -> Result<Self, Failure> {
        match self.reasons() {
            reasons if reasons.is_empty() => Ok(self),
            _ => Err(Failure::Guest(Box::new(self))),
        }
    }
}

/// The post-mortem: reasons, crash, registers, the last log frames and output.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let reasons = self.reasons();
        let verdict = if reasons.is_empty() {
            "succeeded"
        } else {
            "failed"
        };
        writeln!(
            f,
            "{:?} run {verdict} after {:.1?}",
            self.emulator, self.elapsed
        )?;
        for reason in &reasons {
            writeln!(f, "  - {reason}")?;
        }
        if let Some(crash) = &self.crash {
            write!(f, "{crash}")?;
        }
        if let Some(registers) = &self.registers {
            writeln!(f, "registers:\n{}", registers.trim())?;
        }
        if self.lost > 0 {
            writeln!(f, "{} bytes of the log were lost", self.lost)?;
        }
        // The crash is told above.
        let told = |frame: &&Frame| !matches!(frame.event(), Some(Event::Crash(_)));
        let frames: Vec<_> = self.frames.iter().filter(told).collect();
        let skipped = frames.len().saturating_sub(LAST_FRAMES);
        let which = if skipped > 0 { ", the last" } else { "" };
        writeln!(f, "log, {} frames{which}:", frames.len())?;
        for frame in &frames[skipped..] {
            writeln!(f, "  {frame}")?;
        }
        let lines: Vec<&str> = self.output.lines().collect();
        if !lines.is_empty() {
            writeln!(
                f,
                "the emulator's output{}:",
                if lines.len() > LAST_LINES {
                    ", its end"
                } else {
                    ""
                }
            )?;
            for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

/// Why [`Run::success`](crate::Run::success) is none.
pub enum Failure {
    /// The harness failed.
    Harness(Error),
    /// The guest failed; the outcome is the post-mortem.
    Guest(Box<Outcome>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Harness(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Harness(error) => write!(f, "{error}"),
            Self::Guest(outcome) => write!(f, "{outcome}"),
        }
    }
}

/// The same as `Display`, since this is what a test that unwraps or returns it prints.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Failure {}

/// Adds where NIP and LR are to QEMU's `info registers`.
fn annotate(registers: &str, symbols: &Symbols) -> String {
    let mut text = registers.trim().to_owned();
    let mut words = registers.split_whitespace();
    while let Some(word) = words.next() {
        if word != "NIP" && word != "LR" {
            continue;
        }
        let Some(address) = words
            .next()
            .and_then(|value| u32::from_str_radix(value, 16).ok())
        else {
            continue;
        };
        for place in symbols.places(address) {
            text.push_str(&format!("\n{word} is in {place}"));
        }
    }
    text
}
