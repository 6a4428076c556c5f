//! The archive for an SD card: unpacked at its root, the Homebrew Channel lists the program.

use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::workspace::Workspace;
use crate::{icon, images};

/// Makes the archive from the images that were built and returns its path.
pub fn make(workspace: &Workspace) -> Result<PathBuf> {
    let packages = workspace.packages()?;
    let package = packages
        .iter()
        .find(|package| package.name == images::FIRMWARE);
    let version = &package.context("the workspace has no firmware")?.version;
    let dol = fs::read(workspace.target("dol/boot.dol")).context("cannot read boot.dol")?;
    let path = workspace.target(&format!("dist/{}-{version}.zip", images::FIRMWARE));
    fs::create_dir_all(workspace.target("dist"))?;
    fs::write(&path, archive(version, &dol)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Returns the archive's bytes: the same for the same image.
fn archive(version: &str, dol: &[u8]) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::DEFAULT)
        .unix_permissions(0o644);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let description = description(version).into_bytes();
    for (name, bytes) in [
        ("boot.dol", dol),
        ("meta.xml", &description),
        ("icon.png", &icon::png()?),
    ] {
        archive.start_file(format!("apps/{}/{name}", images::FIRMWARE), options)?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// What the Homebrew Channel shows. `ahb_access` asks it for access to the hardware, without which
/// the USB controller is out of reach.
fn description(version: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<app version="1">
  <name>{name}</name>
  <coder>the wiistick project</coder>
  <version>{version}</version>
  <short_description>Reads USB sticks with a driver of its own</short_description>
  <long_description>Drives the USB 2.0 controller without the console's own USB drivers: shows the sticks that are plugged in, browses their folders, checks every file, measures their speed.

It has been tried in emulators only, not yet on a console.</long_description>
  <ahb_access/>
</app>
"#,
        name = images::FIRMWARE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_archive_holds_what_the_homebrew_channel_looks_for() {
        let bytes = archive("1.2.3", b"the image").unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let names: Vec<_> = archive
            .file_names()
            .map(|name| name.unwrap().into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "apps/wiistick/boot.dol",
                "apps/wiistick/meta.xml",
                "apps/wiistick/icon.png"
            ]
        );
        let mut dol = Vec::new();
        archive
            .by_name(&names[0])
            .unwrap()
            .read_to_end(&mut dol)
            .unwrap();
        assert_eq!(dol, b"the image");
        let mut meta = String::new();
        archive
            .by_name(&names[1])
            .unwrap()
            .read_to_string(&mut meta)
            .unwrap();
        // Well-formed, and what the Homebrew Channel's reader looks for.
        let meta = roxmltree::Document::parse(&meta).unwrap();
        let app = meta.root_element();
        assert_eq!(
            (app.tag_name().name(), app.attribute("version")),
            ("app", Some("1"))
        );
        let text = |tag| {
            let element = app.children().find(|child| child.has_tag_name(tag));
            element.map(|element| element.text().unwrap_or_default())
        };
        assert_eq!(text("name"), Some("wiistick"));
        assert_eq!(text("version"), Some("1.2.3"));
        // Without it the console keeps the USB controller from the program.
        assert_eq!(text("ahb_access"), Some(""));
        for shown in ["coder", "short_description", "long_description"] {
            assert!(text(shown).is_some_and(|text| !text.is_empty()), "{shown}");
        }
    }

    #[test]
    fn unpacked_at_the_root_of_a_card_it_lies_where_programs_do() {
        let card = tempfile::tempdir().unwrap();
        let bytes = archive("1.2.3", b"the image").unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        archive.extract(card.path()).unwrap();
        let folder = card.path().join("apps/wiistick");
        assert_eq!(fs::read(folder.join("boot.dol")).unwrap(), b"the image");
        assert_eq!(
            fs::read(folder.join("icon.png")).unwrap(),
            icon::png().unwrap()
        );
        let roots = fs::read_dir(card.path()).unwrap().count();
        assert_eq!(
            (roots, fs::read_dir(folder).unwrap().count()),
            (1, 3),
            "and nothing else"
        );
    }

    #[test]
    fn the_archive_holds_no_time_of_its_making() {
        let bytes = archive("1.2.3", b"x").unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        for index in 0..archive.len() {
            let time = archive.by_index(index).unwrap().last_modified().unwrap();
            assert_eq!(
                (time.year(), time.month(), time.day(), time.hour()),
                (1980, 1, 1, 0)
            );
        }
    }
}
