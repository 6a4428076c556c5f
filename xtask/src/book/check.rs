//! What the test command checks of the book and of the pages that stand beside the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use super::{CHAPTERS, Page, blocks, chapters, citations, figures, links};
use crate::workspace::Workspace;

/// The chapter that comments in the sources cite by section.
const HARDWARE: &str = "docs/src/hardware.md";

/// What was checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Pages.
    pub pages: usize,
    /// Links and pictures.
    pub links: usize,
    /// Code blocks.
    pub blocks: usize,
    /// Tables of measured figures.
    pub tables: usize,
    /// Citations of the hardware chapter in the sources.
    pub citations: usize,
}

/// Checks the book's chapters and every other page of the tree: links, anchors, pictures, code blocks; and that
/// the sections that comments cite exist.
///
/// # Errors
/// Names the page, the line and what is wrong there.
pub fn check(workspace: &Workspace) -> Result<Checked> {
    let root = &workspace.root;
    let packages = workspace.packages()?;
    let files = workspace.files()?;
    let listed: BTreeSet<String> = chapters(root)?
        .into_iter()
        .map(|chapter| chapter.page.path)
        .collect();
    let crates = Includes::read(root, &files)?;

    let mut checked = Checked::default();
    for path in files.iter().filter(|path| path.ends_with(".md")) {
        let summary = format!("{CHAPTERS}/SUMMARY.md");
        if path.starts_with(CHAPTERS) && *path != summary {
            ensure!(listed.contains(path), "{path} is not in {summary}");
        }
        let page = Page::read(root, path)?;
        checked.pages += 1;
        let tested = crates.test(path);
        checked.links += links::check(root, &page, tested)?;
        checked.tables += figures::check(root, &page)?;
        checked.blocks += blocks::check(root, &page, tested, &packages)?;
    }
    figures::check_pictures(root)?;
    checked.citations = citations::check(root, &Page::read(root, HARDWARE)?, &files)?;
    Ok(checked)
}

/// The pages whose Rust blocks are documentation tests: those that a Rust file includes.
struct Includes(BTreeSet<String>);

impl Includes {
    fn read(root: &Path, files: &[String]) -> Result<Self> {
        let mut pages = BTreeSet::new();
        for file in files.iter().filter(|file| file.ends_with(".rs")) {
            let text = fs::read_to_string(root.join(file))?;
            let source = Page {
                path: file.clone(),
                text: String::new(),
            };
            for part in text.split("include_str!(\"").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                pages.insert(source.target(name).0);
            }
        }
        Ok(Self(pages))
    }

    fn test(&self, page: &str) -> bool {
        self.0.contains(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_tested_if_a_crate_includes_it() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("docs")).unwrap();
        fs::write(
            tree.path().join("docs/lib.rs"),
            "#[doc = include_str!(\"src/a.md\")]\n#[doc = include_str!(\"../README.md\")]\nstruct A;\n",
        )
        .unwrap();
        let includes = Includes::read(tree.path(), &["docs/lib.rs".to_owned()]).unwrap();
        assert!(includes.test("docs/src/a.md") && includes.test("README.md"));
        assert!(!includes.test("docs/src/b.md"));
    }
}
