//! The measured results: figures that `cargo xtask bench --record` leaves beside the chapters, and the tables that are made of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::{CHAPTERS, Page};
use crate::exec;
use crate::workspace::Workspace;

/// Conditions and figures of the recorded run.
const FILE: &str = "docs/src/figures.json";
/// The chapter that shows them, and where its pictures lie.
const CHAPTER: &str = "docs/src/measured.md";
const PLOTS: &str = "docs/src/plots";
/// A table is between these; the first is followed by what the names of its figures begin with.
const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end of figures -->";
/// In place of a prefix: what the run was made with.
const CONDITIONS: &str = "conditions";

type Figures = Map<String, Value>;

fn recorded(root: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    serde_json::from_str(&text).with_context(|| FILE.to_owned())
}

/// Checks that the tables of a page say what was recorded, and returns how many there are.
///
/// # Errors
/// Names the page.
pub(super) fn check(root: &Path, page: &Page) -> Result<usize> {
    let tables = page.text.matches(BEGIN).count();
    if tables != 0 {
        let filled = fill(&page.text, &recorded(root)?).with_context(|| page.path.clone())?;
        ensure!(
            filled == page.text,
            "{}: a table is not what {FILE} says",
            page.path
        );
    }
    Ok(tables)
}

/// Makes the tables of a page anew.
fn fill(text: &str, recorded: &Value) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (prefix, after) = after
            .split_once(" -->\n")
            .context("a table's mark does not end")?;
        let (_, after) = after.split_once(END).context("a table does not end")?;
        let table = match prefix {
            CONDITIONS => conditions(&recorded[CONDITIONS])?,
            prefix => table(&recorded["figures"], prefix)?,
        };
        filled += &format!("{before}{BEGIN}{prefix} -->\n{table}{END}");
        rest = after;
    }
    Ok(filled + rest)
}

fn conditions(families: &Value) -> Result<String> {
    let families = families.as_object().context("no conditions")?;
    let rows = families.iter().map(|(family, conditions)| {
        let text = |key: &str| conditions[key].as_str().unwrap_or_default();
        format!(
            "| `{family}` | {} s | {} | {} | {} | {} | {} |\n",
            conditions["seconds"],
            text("date"),
            text("commit"),
            text("compiler"),
            text("processors"),
            text("beyond")
        )
    });
    Ok(format!(
        "\n| family | took | date | commit | compiler | processors | beyond their limits |\n|---|---|---|---|---|---|---|\n{}\n",
        rows.collect::<String>()
    ))
}

fn table(figures: &Value, prefix: &str) -> Result<String> {
    let figures = figures.as_object().context("no figures")?;
    let mut rows = String::new();
    for (name, figure) in figures.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let number = |key: &str| match &figure[key] {
            Value::Number(number) => match number.as_f64() {
                Some(value) if value.fract() != 0.0 => format!("{value:.2}"),
                _ => number.to_string(),
            },
            _ => String::new(),
        };
        let text = |key: &str| figure[key].as_str().unwrap_or_default().replace('|', "/");
        rows += &format!(
            "| `{name}` | {} | {} | {} | {} | {} |\n",
            number("value"),
            text("unit"),
            number("baseline"),
            number("limit"),
            text("note")
        );
    }
    ensure!(
        !rows.is_empty(),
        "no recorded figure has a name that begins with {prefix:?}"
    );
    Ok(format!(
        "\n| figure | value | unit | compared with | limit | what |\n|---|---|---|---|---|---|\n{rows}\n"
    ))
}

/// Records a run: figures, pictures, and the tables of the chapter. What is there of other families stays. `beyond` names the
/// figures that do not keep to their limits, `times` what each family took.
///
/// # Errors
/// A file cannot be written.
pub fn record(
    workspace: &Workspace,
    figures: &Figures,
    beyond: &[&str],
    times: &[(&str, Duration)],
    plots: &Path,
) -> Result<()> {
    let root = &workspace.root;
    let present = present_conditions(workspace)?;
    let mut recorded = recorded(root).unwrap_or_else(|_| json!({ CONDITIONS: {}, "figures": {} }));
    let families: BTreeSet<&str> = figures.keys().map(|name| family(name)).collect();
    let kept = recorded["figures"].as_object_mut().context("no figures")?;
    kept.retain(|name, _| !families.contains(family(name)));
    kept.extend(figures.clone());
    for name in &families {
        let own: Vec<&str> = beyond
            .iter()
            .copied()
            .filter(|figure| family(figure) == *name)
            .collect();
        let time = times.iter().find(|(family, _)| family == name);
        recorded[CONDITIONS][*name] = present.clone();
        recorded[CONDITIONS][*name]["seconds"] =
            time.map_or(Value::Null, |(_, time)| time.as_secs().into());
        recorded[CONDITIONS][*name]["beyond"] = match own.as_slice() {
            [] => "none".into(),
            own => own.join(", ").into(),
        };
    }
    fs::write(
        root.join(FILE),
        serde_json::to_string_pretty(&recorded)? + "\n",
    )?;

    let pictures = root.join(PLOTS);
    fs::create_dir_all(&pictures)?;
    // A plot's name begins with its family's, too.
    let of_these = |path: &Path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        families.contains(name.split('-').next().unwrap_or_default())
    };
    for entry in fs::read_dir(&pictures)? {
        let path = entry?.path();
        if of_these(&path) {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(plots)? {
        let path = entry?.path();
        if of_these(&path) {
            fs::copy(&path, pictures.join(path.file_name().unwrap_or_default()))?;
        }
    }
    println!("recorded in {CHAPTERS}");
    refill(root)
}

/// The part of a figure's name before its first dot.
fn family(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Makes the tables of the chapter anew, from what is recorded.
///
/// # Errors
/// Nothing is recorded, or a table has no figure.
pub fn refill(root: &Path) -> Result<()> {
    let page = Page::read(root, CHAPTER)?;
    let filled = fill(&page.text, &recorded(root)?)?;
    if filled != page.text {
        fs::write(root.join(CHAPTER), filled)?;
    }
    Ok(())
}

/// What this machine is, as far as it matters to figures.
fn present_conditions(workspace: &Workspace) -> Result<Value> {
    let first = |program: &str, argument: &str| {
        exec::capture(Command::new(program).arg(argument))
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
    };
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim())
        .collect();
    let compiler = crate::toolchain::find_compiler(workspace)?;
    Ok(json!({
        "date": first("date", "+%F")?,
        "processors": format!("{} x {}", models.len(), models.first().unwrap_or(&"unknown")),
        "compiler": compiler.version,
        "commit": exec::capture(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(&workspace.root))?.trim(),
    }))
}

/// How figures stand beside the recorded ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Comparison {
    /// In words.
    pub said: String,
    /// Whether all counted figures are the recorded ones, and all that were recorded were measured: of the families that this compiler
    /// made. Others' figures may differ.
    pub is_reproduced: bool,
}

/// Compares figures, all whose names begin with `only`, with the recorded ones: counted ones are the same, the runs of timed ones
/// overlap with those, or they are named.
///
/// # Errors
/// The record cannot be read.
pub fn compare(workspace: &Workspace, figures: &Figures, only: &str) -> Result<Comparison> {
    let compiler = crate::toolchain::find_compiler(workspace)?.version;
    compare_with(&recorded(&workspace.root)?, figures, only, &compiler)
}

fn compare_with(
    recorded: &Value,
    figures: &Figures,
    only: &str,
    compiler: &str,
) -> Result<Comparison> {
    let before = recorded["figures"].as_object().context("no figures")?;
    let is_ours = |name: &str| recorded[CONDITIONS][family(name)]["compiler"] == compiler;
    let (mut counted, mut timed) = (0, 0);
    let (mut different, mut is_reproduced) = (Vec::new(), true);
    for (name, figure) in figures {
        let runs = spread(figure);
        match before.get(name) {
            Some(before) if runs.is_some_and(|runs| overlap(spread(before), runs)) => timed += 1,
            Some(before) if runs.is_none() && before["value"] == figure["value"] => counted += 1,
            other => {
                let there = other.map_or("not".to_owned(), |before| before["value"].to_string());
                different.push(format!("{name} ({there} there)"));
                is_reproduced &= runs.is_some() || !is_ours(name);
            }
        }
    }
    for name in before.keys().filter(|name| name.starts_with(only)) {
        if !figures.contains_key(name) {
            different.push(format!("{name} (only there)"));
            is_reproduced &= !is_ours(name);
        }
    }
    let mut said = format!(
        "As in the book: {counted} counted figures, and {timed} timed ones, by their spread."
    );
    if !different.is_empty() {
        said += &format!(" Not so: {}.", different.join(", "));
    }
    Ok(Comparison {
        said,
        is_reproduced,
    })
}

/// The least and the most of a timed figure's runs. A counted figure has none.
fn spread(figure: &Value) -> Option<[f64; 2]> {
    let spread = &figure["spread"];
    Some([spread[0].as_f64()?, spread[1].as_f64()?])
}

fn overlap(before: Option<[f64; 2]>, [least, most]: [f64; 2]) -> bool {
    before.is_some_and(|before| before[0] <= most && least <= before[1])
}

/// Checks that what is recorded has every picture that the chapter shows, and none besides.
///
/// # Errors
/// Names the picture.
pub(super) fn check_pictures(root: &Path) -> Result<()> {
    let chapter = Page::read(root, CHAPTER)?;
    for entry in
        fs::read_dir(root.join(PLOTS)).with_context(|| format!("there is no folder {PLOTS}"))?
    {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !chapter.text.contains(&format!("(plots/{name})")) {
            bail!("{CHAPTER} does not show {PLOTS}/{name}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let figures = json!({
            "a.one": { "value": 3, "unit": "insns", "baseline": 4, "limit": 5, "note": "x | y" },
            "a.two": { "value": 2.5, "unit": "ns", "baseline": null, "limit": null, "note": "", "spread": [2, 4] },
            "b": { "value": 1, "unit": "bytes", "baseline": null, "limit": null, "note": "" },
        });
        figures.as_object().unwrap().clone()
    }

    fn tree() -> (tempfile::TempDir, Workspace) {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join(CHAPTERS)).unwrap();
        let recorded = json!({ "conditions": { "a": { "date": "today", "seconds": 7 } }, "figures": figures() });
        fs::write(tree.path().join(FILE), recorded.to_string()).unwrap();
        let root = tree.path().to_owned();
        (tree, Workspace { root })
    }

    #[test]
    fn a_table_is_made_of_the_record_and_must_stay_so() {
        let (tree, _) = tree();
        let empty = "before\n<!-- figures: a. -->\n<!-- end of figures -->\nafter\n<!-- figures: conditions -->\n<!-- end of figures -->\n";
        let text = fill(empty, &recorded(tree.path()).unwrap()).unwrap();
        assert!(
            text.contains(
                "| `a.one` | 3 | insns | 4 | 5 | x / y |\n| `a.two` | 2.50 | ns |  |  |  |\n"
            ),
            "{text}"
        );
        assert!(text.contains("| `a` | 7 s | today |") && !text.contains("`b`"));
        let page = |text: String| Page {
            path: "p.md".into(),
            text,
        };
        assert_eq!(check(tree.path(), &page(text.clone())).unwrap(), 2);
        let changed = text.replace("| 3 | insns", "| 2 | insns");
        assert!(check(tree.path(), &page(changed)).is_err());
        assert!(check(tree.path(), &page(empty.replace("a.", "c."))).is_err());
    }

    #[test]
    fn counted_figures_are_those_of_the_record_and_timed_ones_near_them() {
        let book = json!({
            "conditions": { "a": { "compiler": "ours" }, "b": { "compiler": "theirs" } },
            "figures": figures(),
        });
        let compare = |now: &Figures, only: &str| {
            let compared = compare_with(&book, now, only, "ours").unwrap();
            (compared.said, compared.is_reproduced)
        };
        let with = |name: &str, value: f64| {
            let mut now = figures();
            now[name]["value"] = json!(value);
            if name == "a.two" {
                now[name]["spread"] = json!([value - 0.5, value + 0.5]);
            }
            compare(&now, "")
        };
        let all = "As in the book: 2 counted figures, and 1 timed ones, by their spread.";
        assert_eq!(compare(&figures(), ""), (all.to_owned(), true));
        assert_eq!(with("a.two", 4.5).0, all);
        assert_eq!(with("a.two", 1.5).0, all);
        // Times may differ, and what another compiler counted.
        for (name, value, there, is_reproduced) in [
            ("a.two", 4.6, "2.5", true),
            ("a.two", 1.4, "2.5", true),
            ("b", 1.01, "1", true),
            ("a.one", 3.01, "3", false),
        ] {
            let (said, reproduced) = with(name, value);
            assert!(
                said.ends_with(&format!(" Not so: {name} ({there} there).")),
                "{said}"
            );
            assert_eq!(reproduced, is_reproduced, "{name}");
        }
        let mut fewer = figures();
        fewer.remove("a.one");
        let (said, reproduced) = compare(&fewer, "a.");
        assert!(said.ends_with(" Not so: a.one (only there).") && !reproduced);
        assert!(compare(&fewer, "a.two").1);
        let mut more = figures();
        more.insert("a.new".into(), json!({ "value": 1, "unit": "insns" }));
        let (said, reproduced) = compare(&more, "");
        assert!(said.ends_with(" Not so: a.new (not there).") && !reproduced);
    }
}
