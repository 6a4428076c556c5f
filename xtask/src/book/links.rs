//! Links: to files of the tree, to headings, to the outside.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use pulldown_cmark::{CowStr, Event, Tag, TagEnd};

use super::Page;

/// The anchors of a page: of each heading, the text in lower case with hyphens for spaces and without
/// punctuation; of equal ones, numbered. So do GitHub, GitLab and mdBook.
#[derive(Default)]
pub struct Slugs(HashMap<String, usize>);

impl Slugs {
    fn slug(&mut self, heading: &str) -> String {
        let slug: String = heading
            .to_lowercase()
            .chars()
            .filter_map(|letter| match letter {
                ' ' => Some('-'),
                '-' | '_' => Some(letter),
                letter if letter.is_alphanumeric() => Some(letter),
                _ => None,
            })
            .collect();
        let count = self.0.entry(slug.clone()).or_default();
        *count += 1;
        match *count {
            1 => slug,
            count => format!("{slug}-{}", count - 1),
        }
    }
}

/// Gives every heading its anchor.
pub fn add_anchors(events: &mut [Event<'_>], slugs: &mut Slugs) {
    let mut start = None;
    for index in 0..events.len() {
        match &events[index] {
            Event::Start(Tag::Heading { .. }) => start = Some(index),
            Event::End(TagEnd::Heading(_)) => {
                let Some(start) = start.take() else { continue };
                let text: String = events[start..index]
                    .iter()
                    .filter_map(|event| match event {
                        Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                        _ => None,
                    })
                    .collect();
                let anchor = slugs.slug(&text);
                if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
                    *id = Some(CowStr::from(anchor));
                }
            }
            _ => {}
        }
    }
}

/// The anchors of a page's headings.
fn anchors(page: &Page) -> Vec<String> {
    let mut events: Vec<Event<'_>> = page.events().collect();
    add_anchors(&mut events, &mut Slugs::default());
    let headings = events.into_iter().filter_map(|event| match event {
        Event::Start(Tag::Heading { id, .. }) => id.map(CowStr::into_string),
        _ => None,
    });
    headings.collect()
}

/// Checks every link and picture of a page and returns how many there are.
///
/// Addresses outside are not asked for: a test needs no network. They must be `https`. Paths of items are rustdoc's to check, on pages
/// that are `documentation` of a crate.
pub fn check(root: &Path, page: &Page, documentation: bool) -> Result<usize> {
    let mut count = 0;
    for (event, range) in page.events().into_offset_iter() {
        let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else {
            continue;
        };
        count += 1;
        if documentation && dest_url.contains("::") {
            continue;
        }
        if let Err(error) = check_one(root, page, &dest_url) {
            bail!(
                "{}:{}: {dest_url}: {error}",
                page.path,
                page.line(range.start)
            );
        }
    }
    Ok(count)
}

fn check_one(root: &Path, page: &Page, link: &str) -> Result<()> {
    if let Some((scheme, rest)) = link.split_once("://") {
        ensure!(scheme == "https", "a link to the outside is https");
        ensure!(
            rest.contains('.') && !rest.contains(char::is_whitespace),
            "this is no address"
        );
        return Ok(());
    }
    let (path, anchor) = page.target(link);
    ensure!(!path.starts_with(".."), "leads out of the tree");
    ensure!(root.join(&path).exists(), "there is no such file");
    let Some(anchor) = anchor else { return Ok(()) };
    ensure!(path.ends_with(".md"), "only pages have anchors");
    let anchors = anchors(&Page::read(root, &path)?);
    ensure!(anchors.contains(&anchor), "the page has no such heading");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::write(
            tree.path().join("a.md"),
            "# One `two`, three\n\n## Twice\n\n## Twice\n",
        )
        .unwrap();
        fs::write(tree.path().join("b.png"), "").unwrap();
        tree
    }

    fn checked(text: &str) -> Result<usize> {
        let tree = tree();
        fs::write(tree.path().join("page.md"), text).unwrap();
        check(tree.path(), &Page::read(tree.path(), "page.md")?, false)
    }

    #[test]
    fn what_exists_passes_and_is_counted() {
        let text = "# Here\n[a](a.md) [b](a.md#one-two-three) [c](#here) ![d](b.png) [e](a.md#twice-1) <https://example.org/>\n";
        assert_eq!(checked(text).unwrap(), 6);
    }

    #[test]
    fn what_does_not_exist_is_named_with_its_line() {
        for (link, reason) in [
            ("c.md", "no such file"),
            ("a.md#four", "no such heading"),
            ("a.md#twice-2", "no such heading"),
            ("../a.md", "out of the tree"),
            ("b.png#x", "only pages"),
            ("http://example.org/", "https"),
        ] {
            let error = format!(
                "{:#}",
                checked(&format!("text\n\n[x]({link})")).unwrap_err()
            );
            assert!(
                error.starts_with("page.md:3: ") && error.contains(reason),
                "{link}: {error}"
            );
        }
    }
}
