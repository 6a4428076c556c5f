//! The socket to the test.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use crate::bus::Bus;

/// Variable with the number of the inherited descriptor of the socket.
const SOCKET: &str = "WIISTICK_STICKS";

/// What all threads of Dolphin share.
#[derive(Default)]
pub struct Shared {
    pub bus: Bus,
    /// Contexts whose event thread is to return.
    pub interrupted: Vec<usize>,
    /// Handles whose transfers are being delivered now.
    pub delivering: Vec<usize>,
}

static SHARED: Mutex<Option<Shared>> = Mutex::new(None);
/// Tells of ended transfers, interruptions, and deliveries that are done.
pub static CHANGED: Condvar = Condvar::new();

/// Locks what is shared.
pub fn lock() -> MutexGuard<'static, Option<Shared>> {
    // A thread that panicked has taken Dolphin down.
    let mut guard = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_default();
    guard
}

/// Uses what is shared, and lets others look at what has changed.
pub fn with<T>(act: impl FnOnce(&mut Shared) -> T) -> T {
    let mut guard = lock();
    let result = act(guard.get_or_insert_default());
    CHANGED.notify_all();
    result
}

/// Connects to the test, once; returns when the test says `start`. Without a test there are no sticks.
pub fn connect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let socket = env::var(SOCKET).ok().and_then(|number| number.parse().ok());
        let Some(descriptor) = socket else {
            return;
        };
        // SAFETY: the test has left a socket of this number to this process, for this library alone.
        let stream = unsafe { UnixStream::from_raw_fd(descriptor) };
        let mut test = Test {
            input: BufReader::new(stream),
        };
        if test.obey_until_start() {
            thread::spawn(move || while test.obey_until_start() {});
        }
    });
}

struct Test {
    input: BufReader<UnixStream>,
}

impl Test {
    /// Obeys commands; says whether the test is still there after the last.
    fn obey_until_start(&mut self) -> bool {
        loop {
            let mut line = String::new();
            if !self.input.read_line(&mut line).is_ok_and(|count| count > 0) {
                return false;
            }
            let line = line.trim_end_matches('\n');
            let (answer, start) = match line {
                "start" => ("ok".to_owned(), true),
                _ => match with(|shared| shared.bus.command(line)) {
                    Ok(answer) => (format!("ok {answer}"), false),
                    Err(reason) => {
                        // Also for a test that does not wait for answers.
                        eprintln!("virtual sticks refuse {line:?}: {reason}");
                        (format!("error {reason}"), false)
                    }
                },
            };
            if writeln!(self.input.get_mut(), "{}", answer.trim_end()).is_err() {
                return false;
            }
            if start {
                return true;
            }
        }
    }
}
