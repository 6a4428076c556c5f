//! The book: its chapters, which `docs/src/SUMMARY.md` lists as mdBook wants it, and the pages made of them.

mod blocks;
mod check;
mod citations;
pub mod figures;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

use crate::workspace::Workspace;

pub use blocks::first_program;
pub use check::check;

/// Where the chapters lie, relative to the root.
const CHAPTERS: &str = "docs/src";
/// Tables and nothing else beside plain Markdown: what every viewer knows.
const SYNTAX: Options = Options::ENABLE_TABLES;

/// A Markdown file.
struct Page {
    /// Relative to the root of the tree, with slashes.
    path: String,
    text: String,
}

impl Page {
    fn read(root: &Path, path: &str) -> Result<Self> {
        let text =
            fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        Ok(Self {
            path: path.to_owned(),
            text,
        })
    }

    fn events(&self) -> Parser<'_> {
        Parser::new_ext(&self.text, SYNTAX)
    }

    /// The number of the line that holds a byte of the text.
    fn line(&self, offset: usize) -> usize {
        1 + self.text[..offset]
            .bytes()
            .filter(|&byte| byte == b'\n')
            .count()
    }

    /// The file that a link of this page names, relative to the root, and the anchor in it.
    /// An empty path is the page itself.
    fn target(&self, link: &str) -> (String, Option<String>) {
        let (path, anchor) = match link.split_once('#') {
            Some((path, anchor)) => (path, Some(anchor.to_owned())),
            None => (link, None),
        };
        if path.is_empty() {
            return (self.path.clone(), anchor);
        }
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|&last| last != "..") => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        (parts.join("/"), anchor)
    }
}

/// A chapter's title and its page.
struct Chapter {
    title: String,
    page: Page,
}

/// Reads the chapters, in the order of the summary.
fn chapters(root: &Path) -> Result<Vec<Chapter>> {
    let summary = Page::read(root, &format!("{CHAPTERS}/SUMMARY.md"))?;
    let mut chapters = Vec::new();
    let mut link: Option<String> = None;
    let mut title = String::new();
    for event in summary.events() {
        match event {
            Event::Start(Tag::Link { dest_url, .. }) => {
                link = Some(dest_url.into_string());
                title.clear();
            }
            Event::Text(text) | Event::Code(text) if link.is_some() => title.push_str(&text),
            Event::End(pulldown_cmark::TagEnd::Link) => {
                if let Some(link) = link.take() {
                    let (path, _) = summary.target(&link);
                    chapters.push(Chapter {
                        title: std::mem::take(&mut title),
                        page: Page::read(root, &path)?,
                    });
                }
            }
            _ => {}
        }
    }
    ensure!(!chapters.is_empty(), "the summary lists no chapter");
    Ok(chapters)
}

/// Makes HTML pages of the chapters in `target/book`, and returns the first one. Its folder is as deep as the
/// chapters', so that links to the sources work there as well.
///
/// # Errors
/// A file cannot be read or written.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let chapters = chapters(&workspace.root)?;
    let output = workspace.target("book");
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    copy_pictures(&workspace.root.join(CHAPTERS), &output)?;
    for chapter in &chapters {
        let page = html_page(chapter, &chapters);
        fs::write(output.join(html_name(&chapter.page.path)), page)?;
    }
    Ok(output.join(html_name(&chapters[0].page.path)))
}

fn copy_pictures(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let copy = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_pictures(&path, &copy)?;
        } else if path.extension().is_some_and(|extension| extension != "md") {
            fs::copy(&path, &copy)?;
        }
    }
    Ok(())
}

/// The file name of a chapter's HTML page.
fn html_name(path: &str) -> String {
    let name = path.strip_prefix(CHAPTERS).unwrap_or(path);
    format!(
        "{}.html",
        name.trim_start_matches('/').trim_end_matches(".md")
    )
}

fn html_page(chapter: &Chapter, chapters: &[Chapter]) -> String {
    let mut list = String::new();
    for other in chapters {
        let mark = if other.page.path == chapter.page.path {
            " aria-current=\"page\""
        } else {
            ""
        };
        list += &format!(
            "<li><a href=\"{}\"{mark}>{}</a></li>\n",
            html_name(&other.page.path),
            other.title
        );
    }
    let page = &chapter.page;
    let mut slugs = links::Slugs::default();
    let mut events: Vec<Event<'_>> = page.events().collect();
    links::add_anchors(&mut events, &mut slugs);
    for event in &mut events {
        if let Event::Start(Tag::Link { dest_url, .. }) = event {
            let (path, anchor) = page.target(dest_url);
            if let Some(other) = chapters.iter().find(|other| other.page.path == path) {
                let anchor = anchor
                    .map(|anchor| format!("#{anchor}"))
                    .unwrap_or_default();
                *dest_url = CowStr::from(format!("{}{anchor}", html_name(&other.page.path)));
            }
        }
    }
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    PAGE.replace("{title}", &chapter.title)
        .replace("{chapters}", &list)
        .replace("{body}", &body)
}

const PAGE: &str = "\
<!DOCTYPE html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>{title} - wiistick</title>
<style>
body { display: flex; gap: 2rem; margin: 0 auto; max-width: 78rem; padding: 1rem; font: 1rem/1.5 sans-serif }
nav { flex: 0 0 15rem } nav ol { padding-left: 1.2rem } nav [aria-current] { font-weight: bold }
main { flex: 1; min-width: 0 }
table { border-collapse: collapse } td, th { border: 1px solid #ccc; padding: .2rem .5rem; vertical-align: top; text-align: left }
pre { background: #f4f4f4; overflow-x: auto; padding: .6rem } img { max-width: 100% }
</style>
<nav><ol>
{chapters}</ol></nav>
<main>
{body}</main>
</html>
";

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> Page {
        Page {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn links_are_relative_to_their_page() {
        let page = page("docs/src/tests.md", "");
        let target = |link: &str| page.target(link);
        assert_eq!(
            target("hardware.md#11-a-b"),
            ("docs/src/hardware.md".into(), Some("11-a-b".into()))
        );
        assert_eq!(
            target("../../mem2-dma/src/pool.rs"),
            ("mem2-dma/src/pool.rs".into(), None)
        );
        assert_eq!(
            target("#here"),
            ("docs/src/tests.md".into(), Some("here".into()))
        );
        assert_eq!(target("../../../../etc"), ("../../etc".into(), None));
    }

    #[test]
    fn a_page_lists_the_chapters_and_links_to_their_pages() {
        let chapter = |path: &str, title: &str, text: &str| Chapter {
            title: title.to_owned(),
            page: page(path, text),
        };
        let chapters = [
            chapter(
                "docs/src/a.md",
                "First",
                "# First\n\n[next](b.md#x-y), [code](../../README.md)",
            ),
            chapter("docs/src/b.md", "Second", "# X y"),
        ];
        let first = html_page(&chapters[0], &chapters);
        assert!(first.contains("<a href=\"b.html#x-y\">next</a>"), "{first}");
        assert!(
            first.contains("<a href=\"../../README.md\">code</a>"),
            "{first}"
        );
        assert!(
            first.contains("<a href=\"a.html\" aria-current=\"page\">First</a>"),
            "{first}"
        );
        assert!(html_page(&chapters[1], &chapters).contains("<h1 id=\"x-y\">X y</h1>"));
    }
}
