//! Records for machines: what the firmware tells the host tools, one JSON object per log message.
//!
//! A record is a log message whose text is `@` followed by the JSON of one [`Event`], an externally
//! tagged enum: `@{"File":{"stick":0,"volume":0,"path":"/A.TXT","bytes":3,"sha256":"…"}}`. The host
//! assembles the report of `cargo xtask run` from them; log messages without the `@` are for people.
//!
//! The firmware serialises borrowed strings (`Event<&str>`) into a caller's buffer, without an
//! allocator. The host deserialises `Event<String>`; `Event<&str>` cannot be deserialised from a
//! string that contains JSON escapes.

use core::cell::RefCell;
use core::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// Longest path that a record carries, in bytes of UTF-8: 20 levels of names of 255 UTF-16 units,
/// each of which takes three bytes at most, and their slashes. A longer path is reported as an
/// [`Event::Error`] that names the directory, never cut.
pub const MAX_PATH: usize = 20 * (255 * 3 + 1);

/// A buffer of this many bytes holds the JSON of every event whose strings other than the path are
/// short, if the path has no control characters: `"` and `\`, all that is left to escape, take two
/// bytes each.
pub const RECORD_BUFFER: usize = 2 * MAX_PATH + 1024;

/// Most return addresses in a [`Crash`].
pub const MAX_BACKTRACE: usize = 32;

/// Identifies a stick within a run: counts from 0 in the order in which sticks (and the logical
/// units of a stick that has several) were found. A stick that is plugged in again is a new one.
pub type StickIndex = u16;

/// Identifies a volume on its stick: counts from 0 in the order of the partition table.
pub type VolumeIndex = u8;

/// Something that the host should know about the run.
///
/// The order of a good run: `Started`, `Controller`, then for each stick `Stick`, for each volume of
/// it `Volume` and its `File`s, `StickDone`; `Bounce`, `Done`. `Progress` and `Error` come in
/// between. Records of several sticks may interleave.
// A crash is large, and there is no allocator that could hold it elsewhere.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event<S> {
    /// The program runs.
    Started {
        /// Version of the firmware.
        firmware: S,
    },
    /// The way to USB sticks that was found.
    Controller {
        /// Which driver reaches the sticks.
        kind: ControllerKind,
        /// Number of root ports.
        ports: u8,
        /// Byte order of the controller's registers; absent if this program does not see registers.
        registers: Option<RegisterOrder>,
    },
    /// A stick (a logical unit of one) answered and its capacity is known.
    Stick {
        /// Its index.
        stick: StickIndex,
        /// Root port, counted from 0.
        port: u8,
        /// Logical unit number.
        lun: u8,
        /// USB vendor (`idVendor`).
        vendor_id: u16,
        /// USB product (`idProduct`).
        product_id: u16,
        /// Vendor as the stick names it in its INQUIRY data, without padding.
        vendor: S,
        /// Product as the stick names it in its INQUIRY data, without padding.
        product: S,
        /// Bytes per block.
        block_size: u32,
        /// Capacity in blocks.
        blocks: u64,
    },
    /// A volume, or an area whose contents are not understood.
    Volume {
        /// The stick that holds it.
        stick: StickIndex,
        /// Its index.
        volume: VolumeIndex,
        /// File system.
        kind: VolumeKind,
        /// Volume label without padding; absent if there is none.
        label: Option<S>,
        /// First block on the stick.
        first_block: u64,
        /// Length in blocks.
        blocks: u64,
    },
    /// A file was read to its end.
    File {
        /// The stick.
        stick: StickIndex,
        /// The volume.
        volume: VolumeIndex,
        /// Absolute path with `/` between names; long names where there are some.
        path: S,
        /// Length in bytes.
        bytes: u64,
        /// Digest of its contents.
        sha256: Sha256,
    },
    /// A file was written, and read back from the medium.
    Written {
        /// The stick.
        stick: StickIndex,
        /// The volume.
        volume: VolumeIndex,
        /// Absolute path.
        path: S,
        /// Length in bytes.
        bytes: u64,
        /// Digest of what was written.
        sha256: Sha256,
        /// Whether the medium gave back the same bytes.
        verified: bool,
    },
    /// How far the work on a stick is; comes a few times per second at most.
    Progress {
        /// The stick.
        stick: StickIndex,
        /// Share of the work that is done, 0 to 100, as far as it can be known.
        percent: u8,
        /// Bytes of files read and written so far.
        bytes: u64,
        /// Bytes per second since the last progress record.
        rate: u64,
        /// Seconds until the end at the pace so far; absent while there is none.
        remaining_s: Option<u32>,
    },
    /// Something went wrong; the work goes on with what is left.
    Error {
        /// The stick concerned, if one is.
        stick: Option<StickIndex>,
        /// The volume concerned, if one is.
        volume: Option<VolumeIndex>,
        /// The file or directory concerned, if one is.
        path: Option<S>,
        /// The block on the stick concerned, if one is.
        block: Option<u64>,
        /// What happened, for people: one line.
        message: S,
    },
    /// The work on a stick has ended.
    StickDone {
        /// The stick.
        stick: StickIndex,
        /// SCSI commands sent to it.
        scsi_commands: u64,
        /// Bytes that those commands read from the medium.
        bytes_read: u64,
        /// Bytes that those commands wrote to the medium.
        bytes_written: u64,
        /// Time spent in commands that read, in microseconds.
        read_us: u64,
        /// Time spent in commands that write, in microseconds.
        write_us: u64,
        /// The first error; absent if everything was read.
        error: Option<S>,
    },
    /// Counters of the bounce-buffer pool.
    Bounce(Bounce),
    /// What went through IOS's mailbox.
    Ios(Ios),
    /// The processor raised an unexpected exception, or the program panicked.
    Crash(Crash<S>),
    /// A test that this image can run (answer to the argument `list`; one record per test).
    TestListed {
        /// Its name.
        name: S,
    },
    /// A test has ended.
    Test {
        /// Its name.
        name: S,
        /// How it ended.
        outcome: Outcome,
        /// Why it failed or was ignored; absent if there is nothing to say.
        message: Option<S>,
    },
    /// The program ends. Always the last record, unless it crashed.
    Done {
        /// Whether everything that was asked for was done.
        ok: bool,
        /// The first reason why not.
        error: Option<S>,
    },
}

/// A way to USB sticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerKind {
    /// This program's driver on an EHCI controller.
    #[serde(rename = "ehci")]
    Ehci,
    /// The USB device service of IOS, `/dev/usb/ven`.
    #[serde(rename = "ios-ven")]
    IosVen,
}

/// Byte order of a controller's registers as the processor sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegisterOrder {
    /// As on PCI.
    Little,
    /// As on the Wii.
    Big,
}

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// FAT with 12-bit entries.
    Fat12,
    /// FAT with 16-bit entries.
    Fat16,
    /// FAT with 28-bit entries.
    Fat32,
    /// exFAT, left untouched.
    ExFat,
    /// Not understood, left untouched.
    Unknown,
}

impl VolumeKind {
    /// Returns the name that the report uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fat12 => "fat12",
            Self::Fat16 => "fat16",
            Self::Fat32 => "fat32",
            Self::ExFat => "exfat",
            Self::Unknown => "unknown",
        }
    }

    /// Says whether this program reads what is in such a volume.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::Fat12 | Self::Fat16 | Self::Fat32)
    }
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did what it should.
    Passed,
    /// It did not.
    Failed,
    /// It cannot run here; the message says why.
    Ignored,
}

/// Counters of the bounce-buffer pool; see `mem2-dma` for their meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounce {
    /// Physical address of the pool.
    pub pool_base: u32,
    /// Size of the pool in bytes.
    pub pool_bytes: u32,
    /// Mappings made.
    pub mappings: u64,
    /// Bytes that were copied through the pool.
    pub bounced_bytes: u64,
    /// Bytes that were mapped without a copy.
    pub direct_bytes: u64,
    /// Most bytes of the pool in use at one time.
    pub high_water_bytes: u32,
    /// Mappings that still exist.
    pub live: u32,
    /// Slots that wait for the controller to let go of them.
    pub quarantined: u32,
    /// Mappings refused because the pool was full or too fragmented.
    pub refused: u64,
}

/// Counters of the mailbox's driver. It looks at every address last before IOS gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ios {
    /// Requests that IOS was given.
    pub requests: u64,
    /// Buffers that IOS was given with them, request blocks included: each in MEM2 at a multiple of 32 bytes.
    pub buffers: u64,
    /// Bytes in these buffers.
    pub bytes: u64,
    /// Buffers that were not given to IOS, because they were anywhere else.
    pub outside_mem2: u64,
    /// Requests that IOS has not answered.
    pub in_flight: u32,
    /// Replies to requests that nobody had made.
    pub strays: u64,
}

/// State of the processor when the program failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash<S> {
    /// Address of the exception vector, for example 0x300; 0 for a panic.
    pub vector: u32,
    /// Name of the exception, for example `DSI`, or `panic`.
    pub name: S,
    /// Address of the instruction, or of the one after it (SRR0).
    pub srr0: u32,
    /// Machine state at that moment, and the cause's bits (SRR1).
    pub srr1: u32,
    /// Data address (DAR); meaningful for DSI and alignment.
    pub dar: u32,
    /// Cause of a DSI (DSISR).
    pub dsisr: u32,
    /// Link register.
    pub lr: u32,
    /// Count register.
    pub ctr: u32,
    /// Condition register.
    pub cr: u32,
    /// General purpose registers.
    pub gpr: [u32; 32],
    /// Return addresses from the innermost frame outwards.
    pub backtrace: heapless::Vec<u32, MAX_BACKTRACE>,
    /// The panic's message and place, or what the handler found out; absent if there is nothing to add.
    pub message: Option<S>,
}

/// A SHA-256 digest; 64 lower-case hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hexadecimal digits are ASCII.
        f.write_str(core::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256 {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.serialize_str(core::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = Sha256;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sha256, E> {
                Sha256::from_hex(text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}

/// The JSON of an event does not fit into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Size of the buffer in bytes.
    pub capacity: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record is longer than {} bytes", self.capacity)
    }
}

impl core::error::Error for TooLong {}

impl<S: Serialize> Event<S> {
    /// Writes the event's JSON into `buffer` and returns the text.
    ///
    /// # Errors
    /// [`TooLong`] if it does not fit; the buffer's contents are then unspecified.
    pub fn to_json<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b str, TooLong> {
        let capacity = buffer.len();
        // A full buffer is the only error that the serialiser has for these types.
        let length = serde_json_core::to_slice(self, buffer).map_err(|_| TooLong { capacity })?;
        core::str::from_utf8(&buffer[..length]).map_err(|_| TooLong { capacity })
    }
}

/// Receives events.
pub trait Sink {
    /// Takes note of an event.
    fn event(&mut self, event: &Event<&str>);
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn event(&mut self, event: &Event<&str>) {
        S::event(self, event);
    }
}

/// A sink that several jobs share.
impl<S: Sink> Sink for &RefCell<S> {
    /// Passes the event on. An event that the sink itself causes while it takes another is dropped.
    fn event(&mut self, event: &Event<&str>) {
        if let Ok(mut sink) = self.try_borrow_mut() {
            sink.event(event);
        }
    }
}

/// Sends events as log messages.
pub struct LogSink<'b> {
    buffer: &'b mut [u8],
}

impl<'b> LogSink<'b> {
    /// Makes a sink that serialises into `buffer`; see [`RECORD_BUFFER`] for its size.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer }
    }
}

impl Sink for LogSink<'_> {
    /// Logs the event's record. An event that does not fit is replaced by an error record that
    /// says so: nothing gets lost silently.
    fn event(&mut self, event: &Event<&str>) {
        match event.to_json(self.buffer) {
            Ok(json) => log_record(json),
            Err(_) => {
                let message = "a record was too long for its buffer and is missing here";
                let (stick, volume) = event.place();
                let notice = Event::Error {
                    stick,
                    volume,
                    path: None,
                    block: None,
                    message,
                };
                if let Ok(json) = notice.to_json(self.buffer) {
                    log_record(json);
                }
            }
        }
    }
}

impl<S> Event<S> {
    /// Returns the stick and the volume that the event is about, as far as it is about one.
    pub fn place(&self) -> (Option<StickIndex>, Option<VolumeIndex>) {
        match *self {
            Self::Volume { stick, volume, .. }
            | Self::File { stick, volume, .. }
            | Self::Written { stick, volume, .. } => (Some(stick), Some(volume)),
            Self::Stick { stick, .. }
            | Self::Progress { stick, .. }
            | Self::StickDone { stick, .. } => (Some(stick), None),
            Self::Error { stick, volume, .. } => (stick, volume),
            Self::Started { .. }
            | Self::Controller { .. }
            | Self::Bounce(_)
            | Self::Ios(_)
            | Self::Crash(_)
            | Self::TestListed { .. }
            | Self::Test { .. }
            | Self::Done { .. } => (None, None),
        }
    }
}

/// Logs the text of a record. `println` has no level, so no filter drops it.
#[cfg(target_os = "none")]
fn log_record(json: &str) {
    defmt::println!("@{=str}", json);
}

#[cfg(not(target_os = "none"))]
fn log_record(json: &str) {
    #[cfg(test)]
    std::eprintln!("@{json}");
    #[cfg(not(test))]
    let _ = json;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec;

    const DIGEST: Sha256 = Sha256([0xA5; 32]);

    /// Serialises on the "target", parses on the "host", and returns both.
    fn round_trip(event: &Event<&str>) -> (String, Event<String>) {
        let mut buffer = vec![0; RECORD_BUFFER];
        let json = event.to_json(&mut buffer).unwrap().to_string();
        let parsed = serde_json::from_str(&json).unwrap();
        (json, parsed)
    }

    #[test]
    fn a_file_record_has_the_documented_text() {
        let event = Event::File {
            stick: 0,
            volume: 1,
            path: "/A.TXT",
            bytes: 3,
            sha256: DIGEST,
        };
        let (json, parsed) = round_trip(&event);
        let digest = "a5".repeat(32);
        assert_eq!(
            json,
            std::format!(
                r#"{{"File":{{"stick":0,"volume":1,"path":"/A.TXT","bytes":3,"sha256":"{digest}"}}}}"#
            )
        );
        assert_eq!(
            parsed,
            Event::File {
                stick: 0,
                volume: 1,
                path: "/A.TXT".into(),
                bytes: 3,
                sha256: DIGEST
            }
        );
    }

    #[test]
    fn strings_that_need_escapes_arrive_unchanged() {
        let path = "/quote\" back\\slash \u{1} \n tab\t é 日本 \u{1F600}";
        let event = Event::Error {
            stick: Some(3),
            volume: None,
            path: Some(path),
            block: Some(u64::MAX),
            message: "\u{7f}",
        };
        let (_, parsed) = round_trip(&event);
        assert_eq!(
            parsed,
            Event::Error {
                stick: Some(3),
                volume: None,
                path: Some(path.into()),
                block: Some(u64::MAX),
                message: "\u{7f}".into()
            }
        );
    }

    #[test]
    fn every_kind_of_event_survives_the_way_to_the_host() {
        let mut backtrace = heapless::Vec::new();
        backtrace.push(0x8000_4000).unwrap();
        let crash = Crash {
            vector: 0x300,
            name: "DSI",
            srr0: 0x8000_4000,
            srr1: 0x9032,
            dar: 0x3000_0000,
            dsisr: 0x4200_0000,
            lr: 1,
            ctr: 2,
            cr: 3,
            gpr: core::array::from_fn(|i| i as u32),
            backtrace,
            message: None,
        };
        let events = [
            Event::Started { firmware: "0.1.0" },
            Event::Controller {
                kind: ControllerKind::IosVen,
                ports: 6,
                registers: Some(RegisterOrder::Big),
            },
            Event::Stick {
                stick: 0,
                port: 1,
                lun: 0,
                vendor_id: 0x46F4,
                product_id: 1,
                vendor: "QEMU",
                product: "QEMU HARDDISK",
                block_size: 512,
                blocks: 131_072,
            },
            Event::Volume {
                stick: 0,
                volume: 0,
                kind: VolumeKind::ExFat,
                label: None,
                first_block: 2048,
                blocks: 1,
            },
            Event::Written {
                stick: 0,
                volume: 0,
                path: "/C",
                bytes: 1,
                sha256: DIGEST,
                verified: true,
            },
            Event::Progress {
                stick: 0,
                percent: 50,
                bytes: 1,
                rate: 2,
                remaining_s: Some(3),
            },
            Event::StickDone {
                stick: 0,
                scsi_commands: 1,
                bytes_read: 2,
                bytes_written: 3,
                read_us: 4,
                write_us: 5,
                error: Some("e"),
            },
            Event::Bounce(Bounce {
                pool_base: 0x1000_0000,
                ..Bounce::default()
            }),
            Event::Crash(crash),
            Event::TestListed { name: "a" },
            Event::Test {
                name: "a",
                outcome: Outcome::Ignored,
                message: Some("no EHCI"),
            },
            Event::Done {
                ok: false,
                error: Some("e"),
            },
        ];
        for event in events {
            let (json, parsed) = round_trip(&event);
            // What the host parsed says the same as what the target wrote.
            assert_eq!(serde_json::to_string(&parsed).unwrap(), json);
        }
    }

    #[test]
    fn names_in_the_report_are_those_of_the_design() {
        for kind in [
            VolumeKind::Fat12,
            VolumeKind::Fat16,
            VolumeKind::Fat32,
            VolumeKind::ExFat,
            VolumeKind::Unknown,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(
            serde_json::to_value(ControllerKind::IosVen).unwrap(),
            "ios-ven"
        );
        assert_eq!(
            serde_json::to_value(RegisterOrder::Little).unwrap(),
            "little"
        );
    }

    #[test]
    fn the_longest_path_fits_into_a_record() {
        for path in ["/日".repeat(MAX_PATH / 4), "\"\\".repeat(MAX_PATH / 2)] {
            let message = "m".repeat(256);
            let events = [
                Event::File {
                    stick: u16::MAX,
                    volume: u8::MAX,
                    path: path.as_str(),
                    bytes: u64::MAX,
                    sha256: DIGEST,
                },
                Event::Error {
                    stick: Some(u16::MAX),
                    volume: Some(u8::MAX),
                    path: Some(path.as_str()),
                    block: Some(u64::MAX),
                    message: &message,
                },
            ];
            for event in events {
                let (_, parsed) = round_trip(&event);
                let (Event::File { path: parsed, .. }
                | Event::Error {
                    path: Some(parsed), ..
                }) = parsed
                else {
                    panic!("{parsed:?}");
                };
                assert_eq!(parsed, path);
            }
        }
    }

    #[test]
    fn a_record_that_does_not_fit_is_an_error_and_not_cut() {
        let event = Event::Started { firmware: "0.1.0" };
        let length = event.to_json(&mut [0; 64]).unwrap().len();
        assert!(event.to_json(&mut vec![0; length]).is_ok());
        assert_eq!(
            event.to_json(&mut vec![0; length - 1]),
            Err(TooLong {
                capacity: length - 1
            })
        );
    }

    #[test]
    fn a_digest_of_the_wrong_length_or_alphabet_is_refused() {
        assert!(serde_json::from_str::<Sha256>(&std::format!("\"{}\"", "0".repeat(63))).is_err());
        assert!(serde_json::from_str::<Sha256>(&std::format!("\"{}\"", "g".repeat(64))).is_err());
        assert!(serde_json::from_str::<Sha256>(&std::format!("\"{}\"", "é".repeat(32))).is_err());
    }
}
