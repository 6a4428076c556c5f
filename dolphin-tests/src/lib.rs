//! Emulator harness: boots a DOL in QEMU or Dolphin, decodes its log while it runs, and says afterwards whether all was well.
//!
//! ```no_run
//! use dolphin_tests::{Emulator, Run, Tools};
//!
//! let tools = Tools::from_env()?;
//! let run = Run::new(Emulator::Qemu, tools.program("boot")?).stick("stick.img").audit_dma();
//! let outcome = run.success(&tools)?; // the error is a post-mortem
//! println!("{} transfers", outcome.audit.map_or(0, |audit| audit.transfers));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To act while the guest runs, [`start`](Run::start) it and read its frames one by one:
//!
//! ```no_run
//! # use dolphin_tests::{Emulator, Run, Tools};
//! # let tools = Tools::from_env()?;
//! # let run = Run::new(Emulator::Qemu, tools.program("boot")?);
//! let mut machine = run.start(&tools)?;
//! machine.wait_for("stick is ready")?;
//! machine.unplug(0)?;
//! let outcome = machine.to_end()?;
//! assert_eq!(outcome.status, Some(3), "{outcome}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is expected of a guest: it logs defmt frames into the ring of [`wiistick::log_ring`], leaves its exit status there, and
//! jumps to the reload stub at 0x8000_1800 with the status in r3. Messages for machines are an `@` and the JSON of a
//! [`wiistick::report::Event`] ([`Frame::event`]); the event `Crash` becomes [`Outcome::crash`].
//!
//! Each run has its own files, sockets and process group, so that any number can run at once. No process and no file survives
//! a run, however it ends.
#![deny(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

mod audit;
mod cache;
pub mod count;
mod crash;
pub mod dol;
mod dolphin;
mod error;
mod frames;
mod ios_audit;
mod machine;
mod memory;
mod outcome;
mod person;
pub mod picture;
mod plugin;
mod process;
mod qemu;
mod qmp;
mod qtest;
mod redir;
mod ring;
mod run;
#[cfg(test)]
#[path = "../tests/common/sample.rs"]
mod sample;
mod stick_image;
mod sticks;
mod symbols;
mod tools;

pub use audit::{DmaAudit, Kind, MEM2, Violation};
pub use cache::{CacheAudit, CacheRule, CacheViolation};
pub use count::Window;
pub use crash::Crash;
pub use error::Error;
pub use frames::{Frame, Level};
pub use ios_audit::{Given, IosAudit};
pub use machine::Machine;
pub use memory::GuestMemory;
pub use outcome::{End, Failure, Outcome};
pub use person::Press;
pub use picture::Picture;
pub use qmp::Qmp;
pub use qtest::Qtest;
pub use redir::{Answer, Ending, RedirectedDevice, RedirectedIdentity};
pub use run::{DolphinCore, Emulator, Run};
pub use stick_image::{StickImage, Table, noise};
pub use sticks::StickFault;
pub use symbols::{Place, Symbols};
pub use tools::{Program, Tools};
