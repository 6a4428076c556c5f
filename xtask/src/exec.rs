//! Child processes: one way to find a program, to run it, and to say what went wrong.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Folders that hold programs and that the `PATH` of a user or of root may lack.
const EXTRA_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/games"];

/// Returns the path of a program: from `PATH`, then from the usual folders that `PATH` may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(EXTRA_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

/// Says whether a path names a file that may be executed.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Says whether this process may install packages.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self")
        .metadata()
        .is_ok_and(|own| own.uid() == 0)
}

/// Returns the command line as a person would type it.
pub fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns a word as a shell takes it.
pub fn quote(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
/// The program cannot be started, or it ends with anything but status 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command silently and returns its standard output.
///
/// # Errors
/// As [`run`]; the message holds the command's own last words.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", describe(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({}): {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the first line of what `program --version` prints, if the program works.
pub fn version_line(program: &Path) -> Option<String> {
    let text = capture(Command::new(program).arg("--version")).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_described_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("echo");
        command.args(["a b", "it's", "plain-1.0", ""]);
        assert_eq!(describe(&command), r"echo 'a b' 'it'\''s' plain-1.0 ''");
    }

    #[test]
    fn a_failing_command_is_an_error_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo lost >&2; exit 3"]);
        let error = capture(&mut command).unwrap_err().to_string();
        assert!(
            error.contains("lost") && error.contains("exit status: 3"),
            "{error}"
        );
    }

    #[test]
    fn a_file_without_execute_permission_is_no_program() {
        assert!(is_executable(Path::new("/bin/sh")));
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert!(!is_executable(Path::new("/bin")));
    }
}
