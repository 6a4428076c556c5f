//! The images in QEMU: for the families whose figures come from its trace and its plugins.

use std::path::PathBuf;

use anyhow::{Result, bail};
use dolphin_tests::{Emulator as Machine, Outcome, Run, Tools};

use super::Bench;
use crate::emulators::Emulator;
use crate::images;
use crate::setup::Need;

/// What building and running takes, with a tool for sticks.
pub const NEEDS: [Need; 5] = [
    Need::Compiler,
    Need::Linker,
    Need::Emulator(Emulator::Qemu),
    Need::Mtools,
    Need::Dosfstools,
];

/// The images, built, and QEMU.
pub struct Emulated {
    tools: Tools,
}

impl Emulated {
    /// Builds the images.
    ///
    /// # Errors
    /// The build fails.
    pub fn new(bench: &Bench) -> Result<Self> {
        images::build(bench.workspace, None)?;
        Self::with_images(bench, bench.workspace.target("dol"))
    }

    /// Builds the test image as a program whose instructions are counted.
    ///
    /// # Errors
    /// The build fails.
    pub fn counted(bench: &Bench) -> Result<Self> {
        Self::with_images(bench, images::build_counted(bench.workspace)?)
    }

    fn with_images(bench: &Bench, images: PathBuf) -> Result<Self> {
        let qemu = Emulator::Qemu.find(bench.workspace)?.path;
        let tools = Tools {
            dolphin: qemu.clone(),
            qemu,
            images,
        };
        Ok(Self { tools })
    }

    /// Describes a run of an image.
    ///
    /// # Errors
    /// There is no such image.
    pub fn describe(&self, image: &str) -> Result<Run> {
        Ok(Run::new(Machine::Qemu, self.tools.program(image)?))
    }

    /// Returns the file with an image's symbols.
    pub fn elf(&self, image: &str) -> PathBuf {
        self.tools.images.join(image).with_extension("elf")
    }

    /// Runs it to a good end.
    ///
    /// # Errors
    /// It has another one.
    pub fn run(&self, run: &Run) -> Result<Outcome> {
        match run.success(&self.tools) {
            Ok(outcome) => Ok(outcome),
            Err(failure) => bail!("{failure}"),
        }
    }
}
