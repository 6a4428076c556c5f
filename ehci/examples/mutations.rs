//! Shows that the tests notice when something that matters is taken away: `cargo run -p ehci --example mutations [REPORT]`.
//!
//! Each mutation is a replacement in one source file, applied to a copy of the workspace under `target/mutations`; then those
//! tests of this crate run there that are to notice. The table says which of them fail; a mutation that none notices makes this
//! program fail, and so does one that does not fit the source any more.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is taken away, where, and how; and which tests are to notice: a test target, and what their names have in common.
struct Mutation {
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    tests: (&'static str, &'static str),
}

const UNIT: &str = "--lib";
/// On the simulated Hollywood.
const HOLLYWOOD: &str = "--test=hollywood";

const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "no clean of data that go out",
        file: "mem2-dma/src/mapping.rs",
        from: "            self.pool.clean(self.offset + from, len);",
        to: "",
        tests: (HOLLYWOOD, "isochronous"),
    },
    Mutation {
        what: "no invalidate before data come in",
        file: "mem2-dma/src/mapping.rs",
        from: "        self.pool.invalidate(self.offset, self.len);",
        to: "",
        tests: (HOLLYWOOD, "data"),
    },
    Mutation {
        what: "no invalidate after data came in",
        file: "mem2-dma/src/mapping.rs",
        from: "        self.pool.invalidate(self.offset + first, len);",
        to: "        let _ = first + len;",
        tests: (HOLLYWOOD, "isochronous"),
    },
    Mutation {
        what: "no write-back of an owned buffer before it is lent",
        file: "mem2-dma/src/buffer.rs",
        from: "            _ => self.pool.flush(self.offset, len as u32),",
        to: "            _ => {}",
        tests: (HOLLYWOOD, "efficiency"),
    },
    Mutation {
        what: "no invalidate of an owned buffer after it came back",
        file: "mem2-dma/src/buffer.rs",
        from: "            buffer.pool.invalidate(buffer.offset, this.len);",
        to: "",
        tests: (HOLLYWOOD, "efficiency"),
    },
    Mutation {
        what: "toggles of a control transfer do not alternate from qTD to qTD",
        file: "ehci/src/schedule/queue.rs",
        from: "                    token.set_toggle(token.toggle() ^ (bytes.div_ceil(max_packet) % 2 == 1));",
        to: "",
        tests: (UNIT, "transfers"),
    },
    Mutation {
        what: "a queue that goes on after an error forgets its toggle",
        file: "ehci/src/schedule/queue.rs",
        from: "        token.set_toggle(memory.overlay_token(queue_head).toggle());",
        to: "",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "a toggle that is to be reset stays",
        file: "ehci/src/pipe.rs",
        from: "        token.set_toggle(false);",
        to: "",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "a toggle is reset while the controller may hold the queue head",
        file: "ehci/src/pipe.rs",
        from: "            pipe.toggle_due = true;\n            self.leave(id.qh, Stage::Aborting(TransferError::Cancelled));",
        to: "            self.clear_toggle(id.qh);",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "no watchdog for the doorbell",
        file: "ehci/src/poll.rs",
        from: "const DOORBELL_US: u64 = 10_000;",
        to: "const DOORBELL_US: u64 = 10_000_000;",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "no watchdog for lost interrupts",
        file: "ehci/src/poll.rs",
        from: "const WATCHDOG_US: u64 = 100_000;",
        to: "const WATCHDOG_US: u64 = 100_000_000;",
        tests: (UNIT, "lost"),
    },
    Mutation {
        what: "no quarantine: what is unlinked is free at once",
        file: "ehci/src/pipe.rs",
        from: "            self.ring.unlink(&self.memory, qh);",
        to: "            self.ring.unlink(&self.memory, qh);\n            self.ring.stopped();\n            self.left(qh);",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "no quarantine: an interrupt queue head is free at once",
        file: "ehci/src/pipe.rs",
        from: "const PERIODIC_UNLINK_US: u64 = 3_000;",
        to: "const PERIODIC_UNLINK_US: u64 = 0;",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "no quarantine: a cancelled batch's data are free at once",
        file: "ehci/src/schedule/isochronous.rs",
        from: "        let over = now.wrapping_add(OVER + 1);",
        to: "        let over = now;",
        tests: (UNIT, "batch"),
    },
    Mutation {
        what: "no second attempts",
        file: "ehci/src/transfer/completion.rs",
        from: "const RETRIES: u8 = 32;",
        to: "const RETRIES: u8 = 0;",
        tests: (UNIT, "recovery"),
    },
    Mutation {
        what: "a short packet does not skip the rest of its transfer",
        file: "ehci/src/schedule/queue.rs",
        from: "let alternate = Link::transfer(memory.qtd_bus(alternate));",
        to: "let alternate = stages.closing.map_or(Link::NONE, |_| Link::transfer(memory.qtd_bus(alternate)));",
        tests: (UNIT, "transfers"),
    },
    Mutation {
        what: "the status stage does not follow a short data stage",
        file: "ehci/src/schedule/queue.rs",
        from: "let alternate = Link::transfer(memory.qtd_bus(alternate));",
        to: "let alternate = match stages.closing { None => Link::transfer(memory.qtd_bus(alternate)), _ => Link::NONE };",
        tests: (UNIT, "status_stage"),
    },
    Mutation {
        what: "nobody is told what was left in a translator",
        file: "ehci/src/translator.rs",
        from: "            self.clears.push(TranslatorClear {",
        to: "            let _ = (TranslatorClear {",
        tests: (UNIT, "translators"),
    },
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("the crate is not in a workspace")?;
    let tree = root.join("target/mutations");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    copy(root, &tree)?;
    let mut report = String::from("| taken away | tests that fail |\n|---|---|\n");
    for target in [UNIT, HOLLYWOOD] {
        let filters = MUTATIONS
            .iter()
            .filter(|mutation| mutation.tests.0 == target);
        let filters: Vec<_> = filters.map(|mutation| mutation.tests.1).collect();
        if !test(root, &tree, target, &filters)?.is_empty() {
            return Err("tests fail before anything is taken away".into());
        }
    }
    let mut unnoticed = Vec::new();
    for mutation in MUTATIONS {
        let file = tree.join(mutation.file);
        let source = fs::read_to_string(&file)?;
        if source.matches(mutation.from).count() != 1 {
            return Err(format!("{}: {} does not fit", mutation.file, mutation.what).into());
        }
        fs::write(&file, source.replace(mutation.from, mutation.to))?;
        let (target, filter) = mutation.tests;
        let failed = test(root, &tree, target, &[filter])?;
        fs::write(&file, source)?;
        println!("{}: {} tests fail", mutation.what, failed.len());
        if failed.is_empty() {
            unnoticed.push(mutation.what);
        }
        let shown: Vec<_> = failed
            .iter()
            .take(3)
            .map(|name| format!("`{name}`"))
            .collect();
        let more = match failed.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        report += &format!("| {} | {}{more} |\n", mutation.what, shown.join(", "));
    }
    print!("{report}");
    if let Some(path) = std::env::args().nth(1) {
        fs::File::create(path)?.write_all(report.as_bytes())?;
    }
    if unnoticed.is_empty() {
        Ok(())
    } else {
        Err(format!("unnoticed: {}", unnoticed.join("; ")).into())
    }
}

/// Runs tests of the copy; returns the names of those that fail.
fn test(
    root: &Path,
    tree: &Path,
    target: &str,
    filters: &[&str],
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(tree)
        // A folder of its own: the copy's programs have the names of the originals.
        .env("CARGO_TARGET_DIR", root.join("target/mutations-build"))
        .env("RUST_BACKTRACE", "0")
        .args(["test", "-p", "ehci", target, "--"])
        .args(filters);
    let output = cargo.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut failed: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect();
    failed.sort();
    if failed.is_empty() && !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the tests did not run:\n{errors}").into());
    }
    Ok(failed)
}

/// Copies the workspace without what was built and without its history.
fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        let (source, place): (PathBuf, PathBuf) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy(&source, &place)?;
        } else {
            fs::copy(&source, &place)?;
        }
    }
    Ok(())
}
