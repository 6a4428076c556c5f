//! Citations in the sources: "hardware notes, section 3.3" must be a section of the hardware chapter.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use pulldown_cmark::{Event, Tag, TagEnd};

use super::Page;

/// What the sources call the chapter.
const NAME: &str = "hardware notes, ";

/// The numbers that the chapter's headings begin with.
fn sections(page: &Page) -> Vec<String> {
    let mut sections = Vec::new();
    let mut heading: Option<String> = None;
    for event in page.events() {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let text = heading.take().unwrap_or_default();
                let number = text.split(' ').next().unwrap_or_default();
                let number = number.trim_end_matches('.');
                if number.starts_with(|first: char| first.is_ascii_digit()) {
                    sections.push(number.to_owned());
                }
            }
            _ => {}
        }
    }
    sections
}

/// Checks every citation in the Rust sources and linker scripts among `files`, and returns how many there are.
pub fn check(root: &Path, chapter: &Page, files: &[String]) -> Result<usize> {
    let sections = sections(chapter);
    ensure!(
        !sections.is_empty(),
        "{} has no numbered section",
        chapter.path
    );
    let mut count = 0;
    for file in files {
        if !(file.ends_with(".rs") || file.ends_with(".ld")) {
            continue;
        }
        // A file that was deleted without telling git.
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            for number in cited(line) {
                count += 1;
                if !sections.iter().any(|section| *section == number) {
                    bail!(
                        "{file}:{}: {} has no section {number}",
                        index + 1,
                        chapter.path
                    );
                }
            }
        }
    }
    Ok(count)
}

/// The section numbers that a line cites: what looks like `3` or `3.3` right after the chapter's name.
fn cited(line: &str) -> Vec<&str> {
    let mut numbers = Vec::new();
    for part in line.split(NAME).skip(1) {
        for word in part.split([' ', ',']).filter(|word| !word.is_empty()) {
            let number = word.trim_end_matches([')', '.', ':', ';', ']']);
            let is_number = number.split('.').all(|digits| {
                (1..=2).contains(&digits.len())
                    && digits.bytes().all(|digit| digit.is_ascii_digit())
            });
            match word {
                "section" | "sections" | "and" | "to" => {}
                _ if is_number => numbers.push(number),
                _ => break,
            }
            if number.len() != word.len() {
                break;
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_after_the_name_are_citations() {
        for (line, numbers) in [
            (
                "// (hardware notes, sections 3.1, 3.6 and 10).",
                vec!["3.1", "3.6", "10"],
            ),
            ("/// hardware notes, 5.4). In 2 steps", vec!["5.4"]),
            ("//! (hardware notes, section 0, fact 5) 7", vec!["0"]),
            ("hardware notes, section 4; 0x1F4 to 0x210", vec!["4"]),
            ("the notes on hardware, section 3", vec![]),
        ] {
            assert_eq!(cited(line), numbers, "{line}");
        }
    }

    #[test]
    fn a_citation_of_a_section_that_is_not_there_is_named() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(
            tree.path().join("a.rs"),
            "\n// hardware notes, section 3.9\n",
        )
        .unwrap();
        let chapter = Page {
            path: "hardware.md".into(),
            text: "# Hardware\n\n## 3. USB\n\n### 3.1 Bases\n".into(),
        };
        let files = ["a.rs".to_owned()];
        let error = check(tree.path(), &chapter, &files)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "a.rs:2: hardware.md has no section 3.9");
        fs::write(
            tree.path().join("a.rs"),
            "// hardware notes, sections 3 and 3.1\n",
        )
        .unwrap();
        assert_eq!(check(tree.path(), &chapter, &files).unwrap(), 2);
    }
}
