//! QEMU's monitor protocol over a socket pair: one JSON object per line.

use crate::{Error, error::Context};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// QEMU answers within milliseconds; a monitor that is silent for so long hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a running QEMU.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Events that came and that nobody has waited for yet.
    events: Vec<Value>,
    /// The beginning of a line whose rest has not come yet.
    partial: Vec<u8>,
}

impl Qmp {
    /// Greets QEMU.
    pub(crate) fn connect(stream: UnixStream) -> Result<Self, Error> {
        let mut qmp = Self {
            stream: BufReader::new(stream),
            events: Vec::new(),
            partial: Vec::new(),
        };
        let deadline = Instant::now() + ANSWER_LIMIT;
        let refused = |reason: String| Error::Qmp {
            command: "greeting".into(),
            reason,
        };
        while qmp
            .line(deadline)?
            .ok_or_else(|| refused("none came".into()))?
            .get("QMP")
            .is_none()
        {}
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns its result.
    ///
    /// # Errors
    /// [`Error::Qmp`] with QEMU's own words if it refuses, or if it does not answer within 10 s.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let failed = |reason: String| Error::Qmp {
            command: command.to_owned(),
            reason,
        };
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}").map_err(|error| failed(error.to_string()))?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let Some(mut line) = self.line(deadline)? else {
                return Err(failed(format!("no answer within {ANSWER_LIMIT:?}")));
            };
            if let Some(result) = line.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = line.get("error") {
                return Err(failed(
                    error["desc"].as_str().unwrap_or("refused").to_owned(),
                ));
            }
            self.events.push(line);
        }
    }

    /// Executes a command of the human monitor, `info registers` for instance, and returns its text.
    ///
    /// # Errors
    /// Those of [`execute`](Self::execute).
    pub fn human(&mut self, command: &str) -> Result<String, Error> {
        let text = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits for an event by its name, `DEVICE_DELETED` for instance, also if it has come already. Each event is
    /// returned once.
    ///
    /// # Errors
    /// [`Error::Qmp`] if it does not come within `limit`.
    pub fn wait_for(&mut self, event: &str, limit: Duration) -> Result<Value, Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(index) = self.events.iter().position(|come| come["event"] == event) {
                return Ok(self.events.remove(index));
            }
            match self.line(deadline)? {
                Some(line) => self.events.push(line),
                None => {
                    let reason = format!("the event did not come within {limit:?}");
                    return Err(Error::Qmp {
                        command: event.to_owned(),
                        reason,
                    });
                }
            }
        }
    }

    /// Reads a line; `None` if none is complete by the deadline.
    fn line(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        let failed = |reason: String| Error::Qmp {
            command: "reading".into(),
            reason,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream
                .get_ref()
                .set_read_timeout(Some(left))
                .context(|| "QMP socket".into())?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Err(failed("QEMU has closed the connection".into())),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return serde_json::from_slice(&line)
                        .map(Some)
                        .map_err(|error| failed(error.to_string()));
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that has already said everything it will ever say.
    fn qemu(says: &str) -> (Result<Qmp, Error>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&theirs).write_all(says.as_bytes()).unwrap();
        (Qmp::connect(ours), theirs)
    }

    #[test]
    fn events_between_question_and_answer_are_kept() {
        let (qmp, _qemu) = qemu(
            "{\"QMP\":{}}\n{\"return\":{}}\n{\"event\":\"RESUME\"}\n{\"return\":\"r1 = 5\"}\n",
        );
        let mut qmp = qmp.unwrap();
        assert_eq!(qmp.human("info registers").unwrap(), "r1 = 5");
        assert_eq!(
            qmp.wait_for("RESUME", Duration::from_millis(1)).unwrap()["event"],
            "RESUME"
        );
        assert!(qmp.wait_for("RESUME", Duration::from_millis(1)).is_err());
    }

    #[test]
    fn a_refusal_is_an_error_in_qemus_words() {
        let (qmp, _qemu) =
            qemu("{\"QMP\":{}}\n{\"return\":{}}\n{\"error\":{\"desc\":\"no such device\"}}\n");
        let error = qmp
            .unwrap()
            .execute("device_del", json!({"id": "x"}))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "QEMU's monitor, device_del: no such device"
        );
    }

    #[test]
    fn a_closed_connection_is_an_error_at_once() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(Qmp::connect(ours).is_err());
    }
}
