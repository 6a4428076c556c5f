//! `ehci.*`: what the USB driver costs on sequential reads and writes, counted in QEMU: instructions by a plugin, everything else by the
//! trace of its controller, which counts what the controller did.
//!
//! The programs are `usb-cost-*` of the test image: Bulk-Only Transport on the driver's own interface. Each command is a transfer for
//! its wrapper, and one for its data and its status. Figures of Linux and U-Boot were counted in the same way on the same controller.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use dolphin_tests::{Symbols, Window};

use super::emulated::{self, Emulated};
use super::figure::Figure;
use super::plot::{self, Bars, Labels, Line};
use super::{Bench, Family};
use crate::exec;

pub const FAMILY: Family = Family {
    name: "ehci",
    needs: &emulated::NEEDS,
    run,
};

/// Bytes of a command where cost is counted.
const COMMAND: usize = 128 << 10;
/// Bytes of a command whose descriptors are all full, as `boot.dol` reads files: six of 20 KiB.
const FULL: usize = 6 * 20_480;
/// Bytes that the programs read at most between the marks; the last command is a whole one.
const TOTAL: usize = 16 << 20;

/// The function in which the guest does nothing but wait.
const WAIT: &str = "wiistick_wait_for_interrupt";
/// Returns whether a function of this name works on one cache line after another, but for those that copy.
fn is_cache(name: &str) -> bool {
    name.contains("CacheOps") && !is_copy(name)
}

/// Returns whether a function of this name copies.
fn is_copy(name: &str) -> bool {
    name.contains("copy") || name.contains("memcpy")
}

fn run(bench: &mut Bench) -> Result<()> {
    let emulated = Emulated::counted(bench)?;
    let direct = Measured::new(bench, &emulated, "direct", COMMAND)?;
    let small = Measured::new(bench, &Emulated::new(bench)?, "direct", COMMAND)?;
    let bounced = Measured::new(bench, &emulated, "bounced", COMMAND)?;
    let full = Measured::new(bench, &emulated, "direct", FULL)?;

    bench.add(
        "ehci.insns_per_mib.direct",
        Figure::new(direct.instructions(), "insns")
            .at_most(20_000.0)
            .note("128 KiB commands, without waiting and cache lines"),
    );
    bench.add(
        "ehci.insns_per_mib.direct.small",
        Figure::new(small.instructions(), "insns").note("the same built for size, as boot.dol is"),
    );
    bench.add(
        "ehci.insns_per_mib.bounced",
        Figure::new(bounced.instructions(), "insns").note("the same with a copy to MEM1"),
    );
    for (path, measured, times) in [("direct", &direct, "once"), ("bounced", &bounced, "twice")] {
        bench.add(
            format!("ehci.insns_per_mib.{path}.cache"),
            Figure::new(measured.cache(), "insns").note(format!(
                "cache maintenance, which Linux' machine does not need: 32768 lines, {times}"
            )),
        );
        bench.add(
            format!("ehci.insns_per_mib.{path}.all"),
            Figure::new(measured.instructions() + measured.cache(), "insns")
                .baseline(770_000.0)
                .note("with cache maintenance; baseline: Linux 6.1, in all"),
        );
    }
    for (path, what) in [
        ("direct", "written from a buffer in MEM2"),
        ("bounced", "written from a slice in MEM1, with a copy"),
    ] {
        let sent = Measured::new(bench, &emulated, &format!("sent-{path}"), COMMAND)?;
        bench.add(
            format!("ehci.insns_per_mib.sent.{path}"),
            Figure::new(sent.instructions(), "insns").note(what),
        );
    }
    bench.add(
        "ehci.qtds_per_mib",
        Figure::new(full.data_qtds(), "qtds")
            .at_most(53.0)
            .note("of data, in commands of 120 KiB, as boot.dol reads files"),
    );
    bench.add(
        "ehci.qtds_per_mib.all",
        Figure::new(full.events(|window| window.qtds), "qtds")
            .baseline(79.0)
            .note("the same with those of command and status; baseline: Linux 6.1, in commands of 120 KiB, too"),
    );
    bench.add(
        "ehci.qtds_per_mib.128k",
        Figure::new(direct.data_qtds(), "qtds").note("of data, in commands of 128 KiB"),
    );
    bench.add(
        "ehci.qtds_per_mib.128k.all",
        Figure::new(direct.events(|window| window.qtds), "qtds")
            .note("the same with those of command and status"),
    );
    bench.add(
        "ehci.doorbells_per_mib",
        Figure::new(direct.events(|window| window.doorbells), "doorbells")
            .baseline(1.0)
            .at_most(0.0)
            .note("baseline: Linux 6.1, 0.1 to 1"),
    );
    bench.add(
        "ehci.interrupts_per_mib",
        Figure::new(direct.events(|window| window.interrupts), "interrupts")
            .baseline(28.0)
            .at_most(direct.per_mib(2.0))
            .note("limit: one for a command, one for its data and status; baseline: Linux 6.1 in commands of 120 KiB"),
    );
    bench.add(
        "ehci.bus_utilisation",
        Figure::new(simulated(bench, "ehci.bus_utilisation")?, "percent")
            .at_least(95.0)
            .note("of 13 bulk packets in a microframe, in the simulation: 1 MiB from a stick that never waits"),
    );
    draw(bench, &direct, &bounced)?;
    growth(bench, &emulated)
}

/// Runs the read of one mebibyte on the simulated Hollywood, and returns a figure that it prints.
fn simulated(bench: &Bench, name: &str) -> Result<f64> {
    let mut cargo = bench.workspace.cargo("test");
    cargo.args(["--quiet", "--package", "ehci", "--test", "hollywood", "--"]);
    let output = exec::capture(cargo.args(["--nocapture", "a_sequential_read_fills_the_bus"]))?;
    let line = output.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("the simulation does not tell {name}"))
}

/// One counted run.
struct Measured {
    /// Bytes of a command.
    command: usize,
    /// A window for each command.
    windows: Vec<Window>,
    /// Instructions of one command by function: of the one in the middle, by their number without waiting. A few commands have to do with something
    /// else meanwhile, with what is due by the clock for instance.
    functions: Vec<(String, u64)>,
}

impl Measured {
    fn new(bench: &Bench, emulated: &Emulated, path: &str, command: usize) -> Result<Self> {
        Self::with_sticks(bench, emulated, path, command, 1)
    }

    /// Commands to several sticks in turn.
    fn with_sticks(
        bench: &Bench,
        emulated: &Emulated,
        path: &str,
        command: usize,
        sticks: usize,
    ) -> Result<Self> {
        std::fs::create_dir_all(bench.workspace.target("stick"))?;
        let mut run = emulated
            .describe("selftest")?
            .argument(format!("test=usb-cost-{path}"))
            .argument(format!("command={command}"))
            .argument(format!("sticks={sticks}"))
            .count_instructions();
        for stick in 0..sticks {
            let image = bench.workspace.target(&format!("stick/zeros{stick}.img"));
            File::create(&image)?.set_len(TOTAL as u64 + (1 << 20))?;
            run = run.stick(image);
        }
        let outcome = emulated.run(&run)?;
        ensure!(
            !outcome.windows.is_empty(),
            "nothing was counted\n{outcome}"
        );
        let symbols = Symbols::load(&emulated.elf("selftest"))?;
        let functions = outcome.windows.iter();
        let mut functions: Vec<_> = functions.map(|w| w.by_function(&symbols)).collect();
        functions.sort_by_cached_key(|functions| sum(functions, |name| !name.contains(WAIT)));
        let functions = functions.swap_remove(functions.len() / 2);
        // Renamed functions must not pass for cheap ones.
        ensure!(
            sum(&functions, |name| name.contains(WAIT)) > 0 && sum(&functions, is_cache) > 0,
            "no function waits or works on the cache"
        );
        Ok(Self {
            command,
            windows: outcome.windows,
            functions,
        })
    }

    /// From a number of one command, or a mean of several, to one of a mebibyte.
    fn per_mib(&self, of_a_command: f64) -> f64 {
        of_a_command * f64::from(1 << 20) / self.command as f64
    }

    /// Events of the controller per MiB.
    fn events(&self, event: impl Fn(&Window) -> u64) -> f64 {
        let all: u64 = self.windows.iter().map(event).sum();
        self.per_mib(all as f64 / self.windows.len() as f64)
    }

    /// Instructions of some functions per MiB.
    fn sum(&self, which: impl Fn(&str) -> bool) -> f64 {
        self.per_mib(sum(&self.functions, which) as f64)
    }

    /// Instructions per MiB, without waiting and without cache maintenance.
    fn instructions(&self) -> f64 {
        self.sum(|name| !name.contains(WAIT) && !is_cache(name))
    }

    /// Instructions of cache maintenance per MiB.
    fn cache(&self) -> f64 {
        self.sum(is_cache)
    }

    /// Transfer descriptors of data per MiB: all but those of wrapper and status.
    fn data_qtds(&self) -> f64 {
        self.events(|window| window.qtds.saturating_sub(2))
    }
}

/// Instructions of some functions.
fn sum(functions: &[(String, u64)], which: impl Fn(&str) -> bool) -> u64 {
    let functions = functions.iter().filter(|(name, _)| which(name));
    functions.map(|(_, count)| count).sum()
}

/// Where the instructions go.
fn draw(bench: &Bench, direct: &Measured, bounced: &Measured) -> Result<()> {
    let shares = |measured: &Measured| {
        let driver = measured.sum(|name| name.contains("ehci::"));
        let pool =
            measured.sum(|name| name.contains("mem2_dma::") && !is_cache(name) && !is_copy(name));
        let copies = measured.sum(is_copy);
        let counted = measured.instructions();
        vec![
            driver,
            pool,
            copies,
            (counted - driver - pool - copies).max(0.0),
            measured.cache(),
        ]
    };
    let bars: [Bars; 2] = [
        ("direct".to_owned(), shares(direct)),
        ("bounced".to_owned(), shares(bounced)),
    ];
    let labels = Labels {
        title: "Instructions per MiB of a sequential read, by part",
        x: "part",
        y: "instructions per MiB",
    };
    let parts = ["driver", "pool", "copies", "program", "cache lines"];
    plot::bars(&bench.plot("ehci-instructions"), &labels, &parts, &bars)
}

/// What larger commands save, and what more sticks cost.
fn growth(bench: &mut Bench, emulated: &Emulated) -> Result<()> {
    if !bench.wants("ehci.growth") {
        return Ok(());
    }
    let (mut instructions, mut qtds) = (Vec::new(), Vec::new());
    for kib in [16, 32, 64, 128, 256, 640] {
        let measured = Measured::new(bench, emulated, "direct", kib << 10)?;
        bench.add(
            format!("ehci.growth.insns_per_mib.{kib}k"),
            Figure::new(measured.instructions(), "insns"),
        );
        instructions.push((f64::from(kib as u32), measured.instructions()));
        qtds.push((f64::from(kib as u32), measured.events(|window| window.qtds)));
    }
    for (name, title, y, points) in [
        (
            "ehci-growth-instructions",
            "Driver's instructions per MiB by size of a command",
            "instructions per MiB",
            instructions,
        ),
        (
            "ehci-growth-qtds",
            "Transfer descriptors per MiB by size of a command",
            "qTDs per MiB",
            qtds,
        ),
    ] {
        let labels = Labels {
            title,
            x: "KiB of a command",
            y,
        };
        let line: Line = ("direct".to_owned(), points);
        plot::log_lines(&bench.plot(name), &labels, &[line])?;
    }
    let mut instructions = Vec::new();
    for sticks in [1, 2, 4] {
        let measured = Measured::with_sticks(bench, emulated, "direct", COMMAND, sticks)?;
        bench.add(
            format!("ehci.growth.insns_per_mib.sticks{sticks}"),
            Figure::new(measured.instructions(), "insns")
                .note("commands of 128 KiB to that many sticks in turn"),
        );
        instructions.push((sticks as f64, measured.instructions()));
    }
    let labels = Labels {
        title: "Driver's instructions per MiB by number of sticks",
        x: "sticks that are read in turn",
        y: "instructions per MiB",
    };
    let line: Line = ("direct".to_owned(), instructions);
    plot::log_lines(&bench.plot("ehci-growth-sticks"), &labels, &[line])
}
