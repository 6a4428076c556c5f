//! Code blocks: each is compiled, run or compared with what is.
//!
//! | fence | what holds it to the truth |
//! |---|---|
//! | `rust` | a documentation test of the crate that includes the page |
//! | anything with `from=PATH` | stands in that file word for word, and the file is built or run elsewhere |
//! | `sh` | each command is one that the checker knows; `cargo xtask` lines go through its own parser, layers, packages, tests and examples exist |
//! | `json` | parses |
//! | `text` | is no code: pictures, output |

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Tag, TagEnd};

use super::Page;
use crate::cli::{self, Action};
use crate::layers;
use crate::workspace::Package;

/// Returns the first Rust block of a page: a program.
///
/// # Errors
/// There is none.
pub fn first_program(root: &Path, path: &str) -> Result<String> {
    let page = Page::read(root, path)?;
    let mut program = None;
    for event in page.events() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(fence))) if &*fence == "rust" => {
                program = Some(String::new());
            }
            Event::Text(text) => {
                if let Some(program) = &mut program {
                    program.push_str(&text);
                }
            }
            Event::End(TagEnd::CodeBlock) if program.is_some() => break,
            _ => {}
        }
    }
    program.with_context(|| format!("{path} has no Rust block"))
}

/// Checks every code block of a page and returns how many there are. `tested` says whether a crate runs
/// the page's Rust blocks; `packages` are those that `--package` takes.
pub fn check(root: &Path, page: &Page, tested: bool, packages: &[Package]) -> Result<usize> {
    let mut count = 0;
    let mut block: Option<(String, usize)> = None;
    let mut text = String::new();
    for (event, range) in page.events().into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let fence = match kind {
                    CodeBlockKind::Fenced(fence) => fence.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                block = Some((fence, page.line(range.start)));
                text.clear();
            }
            Event::Text(part) if block.is_some() => text.push_str(&part),
            Event::End(TagEnd::CodeBlock) => {
                let Some((fence, line)) = block.take() else {
                    continue;
                };
                count += 1;
                check_one(root, &fence, &text, tested, packages)
                    .with_context(|| format!("{}:{line}: block `{fence}`", page.path))?;
            }
            _ => {}
        }
    }
    Ok(count)
}

fn check_one(
    root: &Path,
    fence: &str,
    text: &str,
    tested: bool,
    packages: &[Package],
) -> Result<()> {
    let mut words = fence.split([',', ' ']).filter(|word| !word.is_empty());
    let language = words.next().context("a block names its language")?;
    let words: Vec<&str> = words.collect();
    if let Some(path) = words.iter().find_map(|word| word.strip_prefix("from=")) {
        let file =
            fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        ensure!(file.contains(text.trim_end()), "{path} does not say this");
        return Ok(());
    }
    match language {
        "rust" => {
            ensure!(tested, "no crate tests the Rust blocks of this page");
            ensure!(
                !words.contains(&"ignore"),
                "an ignored block is not compiled; say from=PATH"
            );
        }
        "sh" => {
            for line in text.lines() {
                check_command(line, packages).with_context(|| format!("`{line}`"))?;
            }
        }
        "json" => _ = serde_json::from_str::<serde_json::Value>(text)?,
        "text" => {}
        other => bail!("nobody checks {other:?} blocks without from=PATH"),
    }
    Ok(())
}

/// Checks a line of a shell block.
fn check_command(line: &str, packages: &[Package]) -> Result<()> {
    let command = line.split(" #").next().unwrap_or_default();
    if command.starts_with('#') {
        return Ok(());
    }
    // A variable for the command may come first.
    let is_variable = |word: &&str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let mut words = command
        .split_whitespace()
        .skip_while(is_variable)
        .peekable();
    let Some(program) = words.next() else {
        return Ok(());
    };
    match (program, words.peek().copied()) {
        ("cargo", Some("xtask")) => {
            if let Action::Test { layers, .. } = cli::parse(words.skip(1).map(OsString::from))? {
                for name in layers {
                    ensure!(layers::exists(&name), "there is no layer {name}");
                }
            }
        }
        ("cargo", Some("test" | "doc" | "add" | "package" | "bench" | "run")) => {
            let words: Vec<&str> = words.collect();
            let value = |option: &[&str]| {
                let mut pairs = words.windows(2);
                pairs.find_map(|pair| option.contains(&pair[0]).then_some(pair[1]))
            };
            let Some(name) = value(&["-p", "--package"]) else {
                return Ok(());
            };
            let package = packages.iter().find(|package| package.name == name);
            let package = package.with_context(|| format!("there is no package {name}"))?;
            for (kind, folder) in [("test", "tests"), ("example", "examples")] {
                if let Some(name) = value(&[&format!("--{kind}")]) {
                    let folder = package.folder.join(folder);
                    ensure!(
                        folder.join(format!("{name}.rs")).exists()
                            || folder.join(name).join("main.rs").exists(),
                        "there is no {kind} {name}"
                    );
                }
            }
        }
        ("git", Some("clone")) | ("cd" | "unzip", Some(_)) => {}
        _ => bail!("the checker does not know this command"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<usize> {
        let tree = tempfile::tempdir()?;
        fs::write(tree.path().join("code.rs"), "fn one() {}\n\nfn two() {}\n")?;
        let page = Page {
            path: "page.md".into(),
            text: text.into(),
        };
        let folder = tree.path().join("pool");
        for (kind, name) in [("tests", "model.rs"), ("examples", "bench/main.rs")] {
            let file = folder.join(kind).join(name);
            fs::create_dir_all(file.parent().unwrap())?;
            fs::write(file, "")?;
        }
        let package = Package {
            name: "mem2-dma".into(),
            version: String::new(),
            folder,
            compiler: None,
            programs: Vec::new(),
        };
        check(tree.path(), &page, true, &[package])
    }

    #[test]
    fn what_is_true_passes_and_is_counted() {
        let text = "\
```rust\nlet a = 1;\n```\n
```rust,ignore from=code.rs\nfn two() {}\n```\n
```sh\n# a comment\nMANY=5 cargo xtask run --emulator qemu # another\n\ncargo test -p mem2-dma --test model\ncargo run -p mem2-dma --example bench\ncargo xtask test --layer book\n```\n
```json\n{\"a\": 1}\n```\n
```text\nanything\n```\n";
        assert_eq!(checked(text).unwrap(), 5);
    }

    #[test]
    fn what_nobody_compiles_or_runs_is_refused() {
        for (block, reason) in [
            ("```rust,ignore\nlet a;\n```", "not compiled"),
            (
                "```rust,ignore from=code.rs\nfn three() {}\n```",
                "does not say this",
            ),
            ("```rust from=nowhere.rs\n```", "cannot read nowhere.rs"),
            ("```sh\ncargo xtask frobnicate\n```", "frobnicate"),
            ("```sh\ncargo xtask run --stick\n```", "--stick"),
            ("```sh\nmake install\n```", "does not know"),
            ("```sh\ncargo test -p nothing\n```", "no package nothing"),
            (
                "```sh\ncargo test -p mem2-dma --test nothing\n```",
                "no test nothing",
            ),
            (
                "```sh\ncargo run -p mem2-dma --example model\n```",
                "no example model",
            ),
            ("```sh\ncargo xtask test --layer cake\n```", "no layer cake"),
            ("```json\n{\n```", "EOF"),
            ("```python\nprint()\n```", "python"),
            ("```\nwhat\n```", "names its language"),
            ("    indented\n", "names its language"),
        ] {
            let error = format!("{:#}", checked(block).unwrap_err());
            assert!(
                error.starts_with("page.md:1: ") && error.contains(reason),
                "{block}: {error}"
            );
        }
    }
}
