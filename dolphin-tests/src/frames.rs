//! Log frames: from the bytes of a defmt stream to messages with level and place.

use crate::Error;
use defmt_decoder::{DecodeError, Locations, Table};
use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use wiistick::report::Event;

/// Severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details of a single step.
    Trace,
    /// What a developer wants to see.
    Debug,
    /// Progress.
    Info,
    /// Unexpected, and coped with.
    Warn,
    /// A failure.
    Error,
}

/// One decoded log message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// As the guest's timestamp format renders it; empty without one.
    pub timestamp: String,
    /// `None` for `defmt::println!`.
    pub level: Option<Level>,
    /// The text.
    pub message: String,
    /// Source file and line of the log statement, if the ELF's debug information tells.
    pub place: Option<(PathBuf, u64)>,
}

impl Frame {
    /// Whether this is a message for machines: an `@` followed by the JSON of an event.
    pub fn is_record(&self) -> bool {
        self.message.starts_with('@')
    }

    /// The event of a message for machines; `None` for one for people, or if the record cannot be read.
    pub fn event(&self) -> Option<Event<String>> {
        event(&self.message)
    }
}

/// Reads a record.
pub(crate) fn event(message: &str) -> Option<Event<String>> {
    serde_json::from_str(message.strip_prefix('@')?).ok()
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let level = match self.level {
            None => "     ",
            Some(Level::Trace) => "TRACE",
            Some(Level::Debug) => "DEBUG",
            Some(Level::Info) => "INFO ",
            Some(Level::Warn) => "WARN ",
            Some(Level::Error) => "ERROR",
        };
        write!(f, "{} {level} {}", self.timestamp, self.message)?;
        match &self.place {
            Some((file, line)) => write!(f, "  ({}:{line})", file.display()),
            None => Ok(()),
        }
    }
}

/// The messages that an ELF file knows.
struct Messages {
    table: Table,
    places: Locations,
}

impl Messages {
    /// Reads the ELF's table; `None` if the program does not log by defmt.
    fn load(elf: &Path) -> Result<Option<Arc<Self>>, Error> {
        /// Reading the debug information takes longer than many runs do.
        static CACHE: Mutex<Option<Cache>> = Mutex::new(None);
        type Cache = HashMap<(PathBuf, Option<SystemTime>), Option<Arc<Messages>>>;

        let image = |reason: String| Error::Image {
            path: elf.to_owned(),
            reason,
        };
        let modified = elf.metadata().and_then(|metadata| metadata.modified()).ok();
        let key = (elf.to_owned(), modified);
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = cache.get_or_insert_default();
        if let Some(messages) = cache.get(&key) {
            return Ok(messages.clone());
        }
        let bytes = std::fs::read(elf).map_err(|error| image(error.to_string()))?;
        let table = Table::parse(&bytes).map_err(|error| image(format!("{error:#}")))?;
        let messages = table.map(|table| {
            // An ELF without debug information only lacks places.
            let places = table.get_locations(&bytes).unwrap_or_default();
            Arc::new(Self { table, places })
        });
        cache.insert(key, messages.clone());
        Ok(messages)
    }
}

/// Turns a stream of bytes into frames.
pub(crate) struct Decoder {
    messages: Option<Arc<Messages>>,
    /// An unfinished frame.
    pending: Vec<u8>,
    /// The beginning of the next frame is missing.
    lost_start: bool,
    /// Frames that could not be decoded.
    pub malformed: usize,
}

impl Decoder {
    /// Prepares decoding by the table in `elf`. Without one, any frame counts as malformed.
    pub fn new(elf: Option<&Path>) -> Result<Self, Error> {
        let messages = elf.map(Messages::load).transpose()?.flatten();
        Ok(Self {
            messages,
            pending: Vec::new(),
            lost_start: false,
            malformed: 0,
        })
    }

    /// Notes that bytes are missing here: whatever comes up to the next frame's start is dropped.
    pub fn gap(&mut self) {
        self.pending.clear();
        self.lost_start = true;
    }

    /// Decodes the frames that `bytes` complete. Frames end in a zero byte (rzCOBS).
    pub fn decode(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.pending.extend_from_slice(bytes);
        let Some(end) = self.pending.iter().rposition(|&byte| byte == 0) else {
            return Vec::new();
        };
        let mut complete: Vec<u8> = self.pending.drain(..=end).collect();
        if std::mem::take(&mut self.lost_start) {
            let start = complete.iter().position(|&byte| byte == 0).unwrap_or(0);
            complete.drain(..=start);
        }
        let Some(messages) = self.messages.clone() else {
            self.malformed += complete
                .split(|&byte| byte == 0)
                .filter(|frame| !frame.is_empty())
                .count();
            return Vec::new();
        };
        let mut stream = messages.table.new_stream_decoder();
        stream.received(&complete);
        let mut frames = Vec::new();
        loop {
            match stream.decode() {
                Ok(frame) => frames.push(Frame {
                    timestamp: frame
                        .display_timestamp()
                        .map(|time| time.to_string())
                        .unwrap_or_default(),
                    level: frame.level().map(|level| match level.as_str() {
                        "trace" => Level::Trace,
                        "debug" => Level::Debug,
                        "info" => Level::Info,
                        "warn" => Level::Warn,
                        _ => Level::Error,
                    }),
                    message: frame.display_message().to_string(),
                    place: messages
                        .places
                        .get(&frame.index())
                        .map(|at| (at.file.clone(), at.line)),
                }),
                Err(DecodeError::UnexpectedEof) => return frames,
                Err(DecodeError::Malformed) => self.malformed += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{SECTORS, elf};

    #[test]
    fn rzcobs_frames_become_messages_even_in_pieces() {
        let elf = elf();
        let mut decoder = Decoder::new(Some(elf.path())).unwrap();
        let mut frames = decoder.decode(&SECTORS[..2]);
        assert_eq!(frames, []);
        frames.extend(decoder.decode(&SECTORS[2..]));
        assert_eq!(decoder.malformed, 0);
        assert_eq!(frames.len(), 1);
        assert_eq!(
            (frames[0].level, frames[0].message.as_str()),
            (Some(Level::Info), "sectors: 2048")
        );
    }

    #[test]
    fn after_a_gap_decoding_resumes_at_the_next_frame() {
        let elf = elf();
        let mut decoder = Decoder::new(Some(elf.path())).unwrap();
        decoder.decode(&SECTORS[..1]);
        decoder.gap();
        let frames = decoder.decode(&[&SECTORS[2..], &SECTORS[..]].concat());
        assert_eq!(frames.len(), 1);
        assert_eq!(
            (frames[0].message.as_str(), decoder.malformed),
            ("sectors: 2048", 0)
        );
    }

    #[test]
    fn garbage_is_counted_and_does_not_stop_the_stream() {
        let elf = elf();
        let mut decoder = Decoder::new(Some(elf.path())).unwrap();
        let frames = decoder.decode(&[&[0x55, 0xFF, 0x00], &SECTORS[..]].concat());
        assert_eq!((frames.len(), decoder.malformed), (1, 1));
    }

    #[test]
    fn without_a_table_every_frame_is_malformed() {
        let mut decoder = Decoder::new(None).unwrap();
        assert_eq!(decoder.decode(&SECTORS), []);
        assert_eq!(decoder.malformed, 1);
    }

    #[test]
    fn an_event_is_an_at_sign_and_the_json_of_the_firmwares_type() {
        let started = Event::Started {
            firmware: "0.1.0".to_owned(),
        };
        assert_eq!(event(r#"@{"Started":{"firmware":"0.1.0"}}"#), Some(started));
        assert_eq!(event(r#"{"Started":{"firmware":"0.1.0"}}"#), None);
        assert_eq!(event(r#"@{"Started":{}}"#), None);
        assert_eq!(event("@home"), None);
    }
}
