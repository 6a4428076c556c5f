//! The on-target tests: run as PowerPC code inside each emulator, each in a boot of its own.
//!
//! Arguments: `list` names the tests that this machine can run; `test=NAME` runs one. Tests whose
//! point is a crash are not listed: the host asks for them by name and judges the crash record.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod careless;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod crashes;
#[cfg(target_os = "none")]
mod hollywood;
#[cfg(target_os = "none")]
mod ipc;
#[cfg(target_os = "none")]
mod logging;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod stick;
#[cfg(target_os = "none")]
mod usb;

#[cfg(target_os = "none")]
mod suite {
    use super::{cpu, crashes, hollywood, ipc, logging, memory, stick, usb};
    use wiistick::arguments::{Arguments, MAP_READY};
    use wiistick::report::{Event, Outcome};
    use wiistick::wii::emit;

    wiistick::entry!(main);

    /// A machine that a test needs.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Needs {
        /// A processor, MEM1 and MEM2.
        Nothing,
        /// IOS and the Hollywood registers.
        Hollywood,
    }

    /// A test: `Err` says what was wrong. What must not happen at all may also panic.
    pub type Body = fn(Arguments<'static>) -> Result<(), &'static str>;

    pub type Test = (&'static str, Needs, Body);

    const SUITES: [&[Test]; 5] = [
        memory::TESTS,
        cpu::TESTS,
        logging::TESTS,
        ipc::TESTS,
        hollywood::TESTS,
    ];

    fn main(arguments: Arguments<'static>) -> u8 {
        let bare = arguments.has(MAP_READY);
        let tests = || {
            SUITES
                .iter()
                .flat_map(|suite| suite.iter())
                .filter(|(_, needs, _)| !bare || *needs == Needs::Nothing)
        };
        if arguments.has("list") {
            for (name, ..) in tests() {
                emit(&Event::TestListed { name });
            }
            return 0;
        }
        let Some(wanted) = arguments.value("test") else {
            defmt::error!("say which test to run: list, or test=NAME");
            return 2;
        };
        if let Some(crash) = crashes::find(wanted) {
            crash();
            defmt::error!("{=str} did not crash", wanted);
            return 1;
        }
        let mut runnable = tests().chain(stick::UNLISTED).chain(usb::UNLISTED);
        let Some((name, _, body)) = runnable.find(|(name, ..)| *name == wanted) else {
            defmt::error!("no test is called {=str} on this machine", wanted);
            return 2;
        };
        let result = body(arguments);
        emit(&Event::Test {
            name,
            outcome: if result.is_ok() {
                Outcome::Passed
            } else {
                Outcome::Failed
            },
            message: result.err(),
        });
        u8::from(result.is_err())
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs on a Wii: `cargo xtask test` runs it in emulators");
    std::process::exit(2);
}
