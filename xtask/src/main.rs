//! `cargo xtask`: the one command line of the project.

mod bench;
mod book;
mod cli;
mod dist;
mod dol;
mod emulators;
mod exec;
mod icon;
mod images;
mod layers;
mod packages;
mod project;
mod report;
mod run;
mod sample;
mod send;
mod setup;
mod sizes;
mod table;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

use cli::Action;
use workspace::Workspace;

/// Exit status for a command line that is wrong, as shells and their tools have it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let action = match cli::parse(std::env::args_os().skip(1)) {
        Ok(action) => action,
        Err(error) => {
            eprintln!("error: {error:#}\n`cargo xtask help` lists the commands and their options.");
            return ExitCode::from(USAGE);
        }
    };
    match perform(action) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line asks for and says whether it succeeded.
fn perform(action: Action) -> Result<bool> {
    let workspace = Workspace::current()?;
    match action {
        Action::Help => print!("{}", cli::HELP),
        Action::Doctor => return setup::doctor(&workspace),
        Action::Book => {
            book::figures::refill(&workspace.root)?;
            book::check(&workspace)?;
            println!("{}", book::build(&workspace)?.display());
        }
        Action::Build { project: None } => {
            setup::ensure(&workspace, &setup::BUILD)?;
            images::build(&workspace, None)?;
            println!("{}", workspace.target("dol/boot.dol").display());
        }
        Action::Build {
            project: Some(folder),
        } => {
            setup::ensure(&workspace, &setup::BUILD)?;
            for image in project::build(&workspace, &folder)? {
                println!("{}", image.display());
            }
        }
        Action::New { folder, example } => project::create(&workspace, &folder, &example)?,
        Action::Dist => {
            setup::ensure(&workspace, &setup::BUILD)?;
            images::build(&workspace, None)?;
            println!("{}", dist::make(&workspace)?.display());
        }
        Action::Send { host } => {
            setup::ensure(&workspace, &setup::BUILD)?;
            images::build(&workspace, None)?;
            send::boot_image(&workspace, &host)?;
        }
        Action::Test { quick, layers } => return layers::run(&workspace, quick, &layers),
        Action::Bench {
            only,
            report,
            record,
        } => {
            return bench::run(&workspace, &only, report.as_deref(), record);
        }
        Action::Run(options) if options.project.is_some() => {
            return project::run(&workspace, &options);
        }
        Action::Run(options) => return run::run(&workspace, &options),
    }
    Ok(true)
}
