//! What `run` found out: assembled from the firmware's records and the harness's own counts, written
//! as JSON (a contract, shown in the book's quick start) and as a table for people.
//!
//! A field that nobody filled is null, never made up.

use serde::Serialize;
use wiistick::report::{ControllerKind, Event, Ios, RegisterOrder, Sha256, StickIndex, VolumeKind};

use crate::table;

/// The report of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// `qemu` or `dolphin`.
    pub emulator: &'static str,
    /// Version of the firmware.
    pub firmware: Option<String>,
    /// Whether everything was done that was asked for.
    pub ok: bool,
    /// The first reason why not.
    pub error: Option<String>,
    /// The way to the sticks.
    pub controller: Option<Controller>,
    /// The sticks, by index.
    pub sticks: Vec<Stick>,
    /// The bounce pool's own counters.
    pub bounce: Option<Bounce>,
    /// What the emulator saw of the controller's memory accesses.
    pub dma: Option<Dma>,
    #[serde(skip)]
    done: bool,
}

/// Which way the sticks were reached.
#[derive(Debug, Serialize)]
pub struct Controller {
    kind: ControllerKind,
    ports: u8,
    registers: Option<RegisterOrder>,
}

/// A stick, or a logical unit of one.
#[derive(Debug, Default, Serialize)]
pub struct Stick {
    #[serde(skip)]
    index: StickIndex,
    port: u8,
    vendor_id: String,
    product_id: String,
    vendor: String,
    product: String,
    block_size: u32,
    blocks: u64,
    volumes: Vec<Volume>,
    written: Vec<Written>,
    scsi_commands: Option<u64>,
    bytes_read: Option<u64>,
    bytes_written: Option<u64>,
    read_us: Option<u64>,
    write_us: Option<u64>,
    error: Option<String>,
}

/// A volume of a stick.
#[derive(Debug, Serialize)]
pub struct Volume {
    kind: VolumeKind,
    label: Option<String>,
    first_block: u64,
    blocks: u64,
    files: Vec<File>,
}

/// A file that was read.
#[derive(Debug, Serialize)]
pub struct File {
    path: String,
    bytes: u64,
    sha256: Sha256,
}

/// A file that was written.
#[derive(Debug, Serialize)]
pub struct Written {
    path: String,
    bytes: u64,
    sha256: Sha256,
    verified: bool,
}

/// The counters of the bounce pool.
#[derive(Debug, Serialize)]
pub struct Bounce {
    pool_base: String,
    pool_bytes: u32,
    mappings: u64,
    bounced_bytes: u64,
    direct_bytes: u64,
    high_water_bytes: u32,
    live: u32,
    quarantined: u32,
    refused: u64,
}

/// What the emulator's trace says about the controller's accesses to memory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Dma {
    /// How many there were.
    pub transfers: u64,
    /// How many of them were not wholly in MEM2.
    pub outside_mem2: u64,
}

impl Report {
    /// Starts the report of a run.
    pub fn new(emulator: &'static str) -> Self {
        Self {
            emulator,
            ..Self::default()
        }
    }

    /// Takes note of a reason why the run is not a success; the first one is reported.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.error.get_or_insert_with(|| reason.into());
    }

    /// Takes note of a record.
    pub fn add(&mut self, event: Event<String>) {
        match event {
            Event::Started { firmware } => self.firmware = Some(firmware),
            Event::Controller {
                kind,
                ports,
                registers,
            } => {
                self.controller = Some(Controller {
                    kind,
                    ports,
                    registers,
                });
            }
            Event::Stick {
                stick,
                port,
                vendor_id,
                product_id,
                vendor,
                product,
                block_size,
                blocks,
                ..
            } => {
                self.sticks.push(Stick {
                    index: stick,
                    port,
                    vendor_id: format!("{vendor_id:04x}"),
                    product_id: format!("{product_id:04x}"),
                    vendor,
                    product,
                    block_size,
                    blocks,
                    ..Stick::default()
                });
            }
            // The volume's number is its place in the list.
            Event::Volume {
                stick,
                volume,
                kind,
                label,
                first_block,
                blocks,
            } => {
                let volumes = self.stick(stick).map(|stick| &mut stick.volumes);
                match volumes {
                    Some(volumes) if volumes.len() == usize::from(volume) => {
                        volumes.push(Volume {
                            kind,
                            label,
                            first_block,
                            blocks,
                            files: Vec::new(),
                        });
                    }
                    _ => self.fail(format!("volume {volume} of stick {stick} came out of turn")),
                }
            }
            Event::File {
                stick,
                volume,
                path,
                bytes,
                sha256,
            } => {
                let volume = self
                    .stick(stick)
                    .and_then(|stick| stick.volumes.get_mut(usize::from(volume)));
                match volume {
                    Some(volume) => volume.files.push(File {
                        path,
                        bytes,
                        sha256,
                    }),
                    None => self.fail(format!(
                        "{path} is on a volume of stick {stick} that was not named"
                    )),
                }
            }
            Event::Written {
                stick,
                path,
                bytes,
                sha256,
                verified,
                ..
            } => {
                if !verified {
                    self.fail(format!("{path} did not read back as it was written"));
                }
                match self.stick(stick) {
                    Some(stick) => stick.written.push(Written {
                        path,
                        bytes,
                        sha256,
                        verified,
                    }),
                    None => self.fail(format!(
                        "{path} was written to a stick {stick} that was not named"
                    )),
                }
            }
            Event::Error {
                stick,
                path,
                block,
                message,
                ..
            } => {
                let place = [
                    path.map(|path| format!("{path}: ")),
                    block.map(|block| format!("block {block}: ")),
                ];
                let message = place.into_iter().flatten().collect::<String>() + &message;
                if let Some(stick) = stick.and_then(|stick| self.stick(stick)) {
                    stick.error.get_or_insert_with(|| message.clone());
                }
                self.fail(message);
            }
            Event::StickDone {
                stick,
                scsi_commands,
                bytes_read,
                bytes_written,
                read_us,
                write_us,
                error,
            } => {
                if let Some(error) = &error {
                    self.fail(format!("stick {stick}: {error}"));
                }
                let Some(stick) = self.stick(stick) else {
                    return self.fail(format!("stick {stick} ended before it began"));
                };
                stick.scsi_commands = Some(scsi_commands);
                stick.bytes_read = Some(bytes_read);
                stick.bytes_written = Some(bytes_written);
                stick.read_us = Some(read_us);
                stick.write_us = Some(write_us);
                if let Some(error) = error {
                    stick.error.get_or_insert(error);
                }
            }
            Event::Bounce(counters) => {
                self.bounce = Some(Bounce {
                    pool_base: format!("{:#010x}", counters.pool_base),
                    pool_bytes: counters.pool_bytes,
                    mappings: counters.mappings,
                    bounced_bytes: counters.bounced_bytes,
                    direct_bytes: counters.direct_bytes,
                    high_water_bytes: counters.high_water_bytes,
                    live: counters.live,
                    quarantined: counters.quarantined,
                    refused: counters.refused,
                });
            }
            Event::Ios(Ios {
                outside_mem2: wrong @ 1..,
                ..
            }) => self.fail(format!("{wrong} buffers for IOS were not in MEM2")),
            Event::Ios(_) => {}
            Event::Crash(crash) => self.fail(match crash.message {
                Some(message) => format!("crash: {}: {message}", crash.name),
                None => format!("crash: {} at {:#010x}", crash.name, crash.srr0),
            }),
            Event::Done { ok, error } => {
                self.done = true;
                match error {
                    Some(error) => self.fail(error),
                    None if !ok => self.fail("the firmware says that it failed, but not why"),
                    None => {}
                }
            }
            Event::Progress { .. } | Event::TestListed { .. } | Event::Test { .. } => {}
        }
    }

    fn stick(&mut self, index: StickIndex) -> Option<&mut Stick> {
        self.sticks.iter_mut().find(|stick| stick.index == index)
    }

    /// Decides whether the run was a success: `attached` sticks were read through, each was written
    /// to and verified if it was `writing`, and nothing was amiss.
    pub fn conclude(&mut self, attached: usize, writing: bool) {
        if !self.done {
            self.fail("the firmware did not come to its end");
        }
        let read = self
            .sticks
            .iter()
            .filter(|stick| stick.scsi_commands.is_some())
            .count();
        if read < attached {
            self.fail(format!("{read} of {attached} sticks were read through"));
        }
        let unwritten = |stick: &&Stick| !stick.written.iter().any(|file| file.verified);
        if writing && let Some(stick) = self.sticks.iter().find(unwritten) {
            self.fail(format!("nothing was written to stick {}", stick.index));
        }
        if let Some(live) = self.bounce.as_ref().map(|bounce| bounce.live)
            && live != 0
        {
            self.fail(format!("{live} bounce buffers were never given back"));
        }
        if let Some(Dma { outside_mem2, .. }) = self.dma
            && outside_mem2 != 0
        {
            self.fail(format!(
                "the controller accessed memory outside MEM2 {outside_mem2} times"
            ));
        }
        self.ok = self.error.is_none();
    }

    /// Returns the tables for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (number, stick) in self.sticks.iter().enumerate() {
            text += &format!(
                "stick {number}: {} {} ({}:{}) at port {}, {} blocks of {} bytes\n",
                stick.vendor,
                stick.product,
                stick.vendor_id,
                stick.product_id,
                stick.port,
                stick.blocks,
                stick.block_size
            );
            for (number, volume) in stick.volumes.iter().enumerate() {
                text += &format!(
                    "volume {number}: {} {:?}, {} blocks from block {}{}\n\n",
                    volume.kind.name(),
                    volume.label.as_deref().unwrap_or_default(),
                    volume.blocks,
                    volume.first_block,
                    if volume.kind.is_read() {
                        ""
                    } else {
                        ", not read"
                    },
                );
                text += &files(&volume.files);
                text.push('\n');
            }
            for file in &stick.written {
                let verdict = if file.verified { "verified" } else { "WRONG" };
                text += &format!("written: {}, {} bytes, {verdict}\n", file.path, file.bytes);
            }
            text += &stick.work();
        }
        if let Some(bounce) = &self.bounce {
            text += &format!(
                "bounced {} bytes in {} mappings, {} direct; pool of {} bytes at {}\n",
                bounce.bounced_bytes,
                bounce.mappings,
                bounce.direct_bytes,
                bounce.pool_bytes,
                bounce.pool_base
            );
        }
        if let Some(dma) = self.dma {
            text += &format!(
                "the emulator saw {} accesses by the controller, {} outside MEM2\n",
                dma.transfers, dma.outside_mem2
            );
        }
        text
    }
}

impl Stick {
    /// A line on how much was done, and how fast.
    fn work(&self) -> String {
        let Some(commands) = self.scsi_commands else {
            return "it was not finished\n".to_owned();
        };
        let part = |verb: &str, bytes: Option<u64>, us: Option<u64>| {
            let (bytes, us) = (bytes.unwrap_or(0), us.unwrap_or(0));
            let rate = u128::from(bytes) * 1_000_000 / u128::from(us.max(1));
            format!(
                "{verb} {} at {}/s",
                crate::run::size(bytes.into()),
                crate::run::size(rate)
            )
        };
        let read = part("read", self.bytes_read, self.read_us);
        let wrote = match self.bytes_written {
            None | Some(0) => String::new(),
            bytes => part(", wrote", bytes, self.write_us),
        };
        format!("{read}{wrote}, {commands} commands\n")
    }
}

/// More files than this are counted, not listed.
const LISTED: usize = 40;
/// A digest's first digits are enough for people.
const DIGITS: usize = 16;

fn files(files: &[File]) -> String {
    let rows: Vec<_> = files
        .iter()
        .take(LISTED)
        .map(|file| {
            let mut digest = file.sha256.to_string();
            digest.truncate(DIGITS);
            [file.bytes.to_string(), digest, file.path.clone()]
        })
        .collect();
    let mut text = table::layout(["bytes", "sha256", "file"], &rows);
    if files.len() > LISTED {
        text += &format!("and {} more\n", files.len() - LISTED);
    }
    text
}

#[cfg(test)]
mod tests;
