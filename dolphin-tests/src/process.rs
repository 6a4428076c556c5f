//! Emulator processes and their files, of which nothing may survive: not when a test panics, not at Ctrl-C, not
//! when the test process is killed.

use crate::{Error, error::Context};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};
use tempfile::TempDir;

/// A running or ended emulator. Dropping it kills the process and whatever it has started.
///
/// The kernel kills the process when the thread that started it ends, hence neither may outlive the other.
pub(crate) struct Process {
    child: Child,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a process group of its own, with nothing to read, and with its output in the file
    /// `output`. It inherits `shared` under the
    /// same descriptor numbers.
    pub fn start(mut command: Command, output: &Path, shared: &[OwnedFd]) -> Result<Self, Error> {
        let name = command.get_program().to_owned();
        let file = fs::File::create(output).context(|| output.display().to_string())?;
        let errors = file.try_clone().context(|| output.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .process_group(0);
        let parent = std::process::id();
        let shared: Vec<_> = shared.iter().map(AsRawFd::as_raw_fd).collect();
        let prepare = move || {
            // SAFETY: system calls without pointers, all async-signal-safe.
            let result = unsafe {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before that took effect.
                if libc::getppid() as u32 != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                shared
                    .iter()
                    .map(|&descriptor| libc::fcntl(descriptor, libc::F_SETFD, 0))
                    .min()
            };
            if result.is_some_and(|result| result < 0) {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        };
        // SAFETY: `prepare` only makes async-signal-safe calls and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let child = command
            .spawn()
            .context(|| format!("starting {}", name.display()))?;
        Ok(Self { child, exit: None })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Exit status, if the process has ended.
    pub fn exit(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.exit.is_none() {
            self.exit = self
                .child
                .try_wait()
                .context(|| "waiting for the emulator".into())?;
        }
        Ok(self.exit)
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        if self.exit.is_none() {
            // SAFETY: a system call without pointers. The process exists: it has not been waited for.
            unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        }
    }

    /// Ends the process and whatever it has started, at once. Returns its exit status.
    pub fn kill(&mut self) -> ExitStatus {
        if let Some(exit) = self.exit {
            return exit;
        }
        // SAFETY: a system call without pointers. The group exists: its leader has not been waited for.
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        let exit = self
            .child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(libc::SIGKILL));
        self.exit = Some(exit);
        exit
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a folder for the files of one run. It goes when dropped, or when this process ends in whatever way.
pub(crate) fn run_folder() -> Result<TempDir, Error> {
    static BASE: Mutex<Option<Base>> = Mutex::new(None);
    let mut base = BASE.lock().unwrap_or_else(PoisonError::into_inner);
    let base = match base.as_mut() {
        Some(base) => base,
        None => base.insert(Base::new()?),
    };
    TempDir::with_prefix_in("run-", base.folder.path()).context(|| "temporary folder".into())
}

/// The folder of all runs of this process, and a shell that removes it once this process is gone: no
/// destructor runs at a signal.
struct Base {
    folder: TempDir,
    /// Its end of file is how the shell learns.
    _alive: ChildStdin,
}

impl Base {
    fn new() -> Result<Self, Error> {
        let folder = TempDir::with_prefix("wiistick-").context(|| "temporary folder".into())?;
        let mut shell = Command::new("/bin/sh")
            // A killed emulator may still be dying while we remove its folder.
            .args(["-c", "trap '' HUP INT TERM; read -r _; rm -rf -- \"$1\" || { sleep 1; rm -rf -- \"$1\"; }", "sh"])
            .arg(folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(|| "starting /bin/sh".into())?;
        let alive = shell.stdin.take();
        let alive = alive
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
            .context(|| "/bin/sh".into())?;
        Ok(Self {
            folder,
            _alive: alive,
        })
    }
}
