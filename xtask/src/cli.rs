//! The command line: a contract with scripts, so its grammar is all here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::emulators::Emulator;

/// What `cargo xtask help` prints.
pub const HELP: &str = "\
Usage: cargo xtask COMMAND

  run      builds boot.dol, boots it with a stick, prints progress and result
             --emulator qemu|dolphin   where (default: qemu)
             --stick IMAGE             what to attach; several times: several sticks
                                       (default: a FAT32 sample image that it makes)
             --report FILE             writes the result as JSON
             --read-only               writes nothing to the stick
             --remove                  removes the file that it wrote and verified
             --capacity-test quick|full  overwrites the stick to see whether it is as large as it says;
                                       only with --destroy-contents
             --timeout SECONDS         gives up after this time (default: 120)
             --program NAME            boots another image, selftest for instance (default: boot)
             --argument TEXT           hands it to the program; several times: several
             --project FOLDER          boots a program of yours instead (default: its only one)
  test     runs every test, in layers; --quick: host tests only
             --layer NAME              one of the layers that the table names; several times: several
  bench    measures: a table, plots in target/bench, exit status 1 beyond a limit or where counted
           figures are not those of the book
             --only PREFIX             figures whose names begin so
             --report FILE             writes the figures as JSON
             --record                  puts the figures into the book
  build    makes target/dol/boot.dol and boot.elf
             --project FOLDER          makes target/dol/NAME.dol there, of each of your programs
  new      makes a folder with a program of your own
             FOLDER                    its last part is the program's name
             --example NAME            what it does at first: led, stick, keyboard (default: led)
  dist     makes target/dist/wiistick-VERSION.zip for the SD card of a console
  send     builds boot.dol and starts it on a console in the same network, on which the Homebrew
           Channel is open
             HOST[:PORT]               the console (port: 4299)
  book     checks the book in docs and makes target/book/introduction.html of it
  doctor   shows what is installed, what is missing and what installs it
  help     prints this

run, test, bench, build, dist and send install what they need on Debian and Ubuntu, as root; else they
print the command.
";

/// A command with its options.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Prints the help text.
    Help,
    /// Builds the images.
    Build {
        /// A package outside the workspace whose programs are built instead.
        project: Option<PathBuf>,
    },
    /// Makes a new program.
    New {
        /// The folder that it gets.
        folder: PathBuf,
        /// The example that it is made of.
        example: String,
    },
    /// Makes the archive for an SD card.
    Dist,
    /// Starts the image on a console.
    Send {
        /// Name or address of the console, perhaps with a port.
        host: String,
    },
    /// Checks the book and makes its pages.
    Book,
    /// Shows the state of this machine.
    Doctor,
    /// Runs tests.
    Test {
        /// Host tests only.
        quick: bool,
        /// These layers only; empty: all.
        layers: Vec<String>,
    },
    /// Measures.
    Bench {
        /// What the figures' names begin with.
        only: String,
        /// Where the report goes.
        report: Option<PathBuf>,
        /// Puts the figures into the book.
        record: bool,
    },
    /// Boots the image.
    Run(RunOptions),
}

/// The image that users run.
pub const BOOT: &str = "boot";

/// Options of `run`.
#[derive(Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Where the image runs.
    pub emulator: Emulator,
    /// Images of sticks; empty: a sample.
    pub sticks: Vec<PathBuf>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Nothing is written to a stick.
    pub read_only: bool,
    /// The file that is written to a stick is removed again.
    pub remove: bool,
    /// The capacity test instead of the usual job: `quick` or `full`.
    pub capacity_test: Option<String>,
    /// What the capacity test needs besides.
    pub destroy_contents: bool,
    /// Longest run.
    pub timeout: Duration,
    /// Image that boots.
    pub program: String,
    /// Arguments for it.
    pub arguments: Vec<String>,
    /// A package outside the workspace that has the image.
    pub project: Option<PathBuf>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            emulator: Emulator::Qemu,
            sticks: Vec::new(),
            report: None,
            read_only: false,
            remove: false,
            capacity_test: None,
            destroy_contents: false,
            timeout: Duration::from_secs(120),
            program: BOOT.to_owned(),
            arguments: Vec::new(),
            project: None,
        }
    }
}

/// Reads the arguments, without the program's name.
///
/// # Errors
/// Names the argument that is unknown, lacks its value or has a bad one.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let verb = match parser.next()? {
        None | Some(Long("help") | Short('h')) => return Ok(Action::Help),
        Some(Value(verb)) => verb.string()?,
        Some(other) => return Err(other.unexpected().into()),
    };
    let mut action = match verb.as_str() {
        "help" => Action::Help,
        "bench" => Action::Bench {
            only: String::new(),
            report: None,
            record: false,
        },
        "build" => Action::Build { project: None },
        "new" => Action::New {
            folder: match parser.next()? {
                Some(Value(folder)) => folder.into(),
                _ => bail!("`new` takes the folder to make"),
            },
            example: "led".into(),
        },
        "dist" => Action::Dist,
        "send" => Action::Send {
            host: parser
                .value()
                .context("`send` needs the console's address: cargo xtask send HOST")?
                .string()?,
        },
        "book" => Action::Book,
        "doctor" => Action::Doctor,
        "test" => Action::Test {
            quick: false,
            layers: Vec::new(),
        },
        "run" => Action::Run(RunOptions::default()),
        other => bail!("there is no command {other:?}"),
    };
    while let Some(argument) = parser.next()? {
        match (&mut action, argument) {
            (_, Long("help") | Short('h')) => return Ok(Action::Help),
            (Action::Test { quick, .. }, Long("quick")) => *quick = true,
            (Action::Test { layers, .. }, Long("layer")) => layers.push(parser.value()?.string()?),
            (Action::New { example, .. }, Long("example")) => {
                *example = parser.value()?.string()?
            }
            (Action::Bench { only, .. }, Long("only")) => *only = parser.value()?.string()?,
            (Action::Bench { record, .. }, Long("record")) => *record = true,
            (Action::Bench { report, .. }, Long("report")) => {
                *report = Some(parser.value()?.into());
            }
            (Action::Run(options), Long("emulator")) => {
                options.emulator = emulator(&parser.value()?.string()?)?;
            }
            (Action::Run(options), Long("stick")) => options.sticks.push(parser.value()?.into()),
            (Action::Run(options), Long("report")) => {
                options.report = Some(parser.value()?.into());
            }
            (Action::Run(options), Long("read-only")) => options.read_only = true,
            (Action::Run(options), Long("remove")) => options.remove = true,
            (Action::Run(options), Long("capacity-test")) => {
                options.capacity_test = Some(capacity_test(parser.value()?.string()?)?);
            }
            (Action::Run(options), Long("destroy-contents")) => options.destroy_contents = true,
            (Action::Run(options), Long("timeout")) => {
                options.timeout = seconds(&parser.value()?.string()?)?;
            }
            (Action::Run(options), Long("program")) => {
                options.program = parser.value()?.string()?;
            }
            (Action::Build { project }, Long("project")) => *project = Some(parser.value()?.into()),
            (Action::Run(options), Long("project")) => {
                options.project = Some(parser.value()?.into());
            }
            (Action::Run(options), Long("argument")) => {
                options.arguments.push(parser.value()?.string()?);
            }
            (_, other) => return Err(other.unexpected()).with_context(|| format!("`{verb}`")),
        }
    }
    if let Action::Run(options) = &action
        && options.capacity_test.is_some()
        && (options.read_only || !options.destroy_contents || options.sticks.is_empty())
    {
        bail!(
            "--capacity-test overwrites the whole stick: it takes --stick and --destroy-contents, and not --read-only"
        );
    }
    Ok(action)
}

fn capacity_test(mode: String) -> Result<String> {
    match mode.as_str() {
        "quick" | "full" => Ok(mode),
        other => bail!("--capacity-test is quick or full, not {other:?}"),
    }
}

fn emulator(name: &str) -> Result<Emulator> {
    match name {
        "qemu" => Ok(Emulator::Qemu),
        "dolphin" => Ok(Emulator::Dolphin),
        other => bail!("--emulator is qemu or dolphin, not {other:?}"),
    }
}

fn seconds(text: &str) -> Result<Duration> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => bail!("--timeout is a number of seconds above 0, not {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn run_takes_the_options_of_the_contract() {
        let line = "run --emulator dolphin --stick a.img --stick=b.img --report r.json --read-only --remove --timeout 5 \
                    --program selftest --argument list --argument x=y --project ../mine";
        let expected = RunOptions {
            emulator: Emulator::Dolphin,
            sticks: vec!["a.img".into(), "b.img".into()],
            report: Some("r.json".into()),
            read_only: true,
            remove: true,
            capacity_test: None,
            destroy_contents: false,
            timeout: Duration::from_secs(5),
            program: "selftest".into(),
            arguments: vec!["list".into(), "x=y".into()],
            project: Some("../mine".into()),
        };
        assert_eq!(parsed(line).unwrap(), Action::Run(expected));
    }

    #[test]
    fn run_defaults_to_qemu_a_sample_stick_and_two_minutes() {
        let Action::Run(options) = parsed("run").unwrap() else {
            panic!("another command");
        };
        assert_eq!(options.emulator, Emulator::Qemu);
        assert!(options.sticks.is_empty() && options.report.is_none() && !options.read_only);
        assert_eq!(options.timeout.as_secs(), 120);
    }

    #[test]
    fn quick_and_layers_are_options_of_test_only() {
        let test = |quick, layers: &[&str]| Action::Test {
            quick,
            layers: layers.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(parsed("test --quick").unwrap(), test(true, &[]));
        assert_eq!(parsed("test").unwrap(), test(false, &[]));
        assert_eq!(
            parsed("test --layer book --layer host").unwrap(),
            test(false, &["book", "host"])
        );
        assert!(parsed("build --quick").is_err());
    }

    #[test]
    fn send_takes_the_console() {
        let host = "192.168.0.7".to_owned();
        assert_eq!(parsed("send 192.168.0.7").unwrap(), Action::Send { host });
        let error = format!("{:#}", parsed("send").unwrap_err());
        assert!(error.contains("send HOST"), "{error}");
        assert!(parsed("send a b").is_err());
    }

    #[test]
    fn bench_takes_a_prefix_and_a_report() {
        let expected = Action::Bench {
            only: "bounce.insns".into(),
            report: Some("b.json".into()),
            record: true,
        };
        assert_eq!(
            parsed("bench --only bounce.insns --report b.json --record").unwrap(),
            expected
        );
    }

    #[test]
    fn what_the_contract_does_not_know_is_refused_by_name() {
        for (line, word) in [
            ("frobnicate", "frobnicate"),
            ("run --emulator mame", "mame"),
            ("run --timeout 0", "0"),
            ("run --timeout soon", "soon"),
            ("run --stick", "--stick"),
            ("run --capacity-test some", "some"),
            ("dist extra", "extra"),
        ] {
            let error = format!("{:#}", parsed(line).unwrap_err());
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn no_command_and_help_print_the_help() {
        for line in ["", "help", "--help", "-h", "run --help"] {
            assert_eq!(parsed(line).unwrap(), Action::Help, "{line}");
        }
    }
}
