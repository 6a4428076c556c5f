//! Judges cache maintenance: what the CPU did to cache lines (told by the plugin `plugins/cache.c`) merged with what the
//! controller did to memory (told by QEMU's trace), in the order in which it happened.
//!
//! The model evicts nothing and fetches nothing ahead. A real cache does both at any time, so the rules forbid what would go
//! wrong if it did: a device may not touch a line that is modified in the cache, and the CPU may not use a line that a device
//! wrote, unless the line was invalidated (or flushed) in between, even if it was not held before.

use crate::audit::{self, Kind, MEM2};
use std::{collections::HashMap, fmt, io::BufRead};

/// Bytes of a line.
const LINE: u64 = 32;
/// So many violations are kept, the rest only counted.
const KEPT: usize = 20;
/// The plugin's last line.
const END: &str = "cache end";

/// What a run did to the cache, and what was wrong with it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CacheAudit {
    /// Lines that the CPU fetched, by loads.
    pub filled: u64,
    /// Lines that became modified.
    pub modified: u64,
    /// Lines given to `dcbst`.
    pub cleaned: u64,
    /// Lines given to `dcbf`.
    pub flushed: u64,
    /// Lines given to `dcbi`.
    pub invalidated: u64,
    /// Lines that the controller read or wrote as data.
    pub transferred: u64,
    /// How many violations there were: one for each range of lines that was used at once.
    pub found: u64,
    /// The first of them.
    pub violations: Vec<CacheViolation>,
    /// Whether the plugin saw the end of the run. If not, the emulator was ended by force.
    pub complete: bool,
}

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheViolation {
    /// Which rule.
    pub rule: CacheRule,
    /// Bus address of the first line.
    pub bus: u64,
    /// Lines.
    pub lines: u64,
    /// The instruction that used the line, or that modified it before the device came; 0 if unknown.
    pub pc: u32,
}

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheRule {
    /// The device reads data that is still in the cache: no clean before the transfer.
    ReadOfModified,
    /// The device writes under a modified line, whose eviction would destroy the data: no invalidate, flush or clean before the
    /// transfer.
    WriteUnderModified,
    /// The CPU loads a line that the device wrote: no invalidate after the transfer.
    NotInvalidated,
    /// The controller fetches a descriptor that is modified in the cache.
    DescriptorModified,
    /// A line is used through the uncached view while it is modified in the cache: no flush before the view changes.
    UncachedOfModified,
    /// The CPU uses a line that it holds and that no longer is what memory holds.
    Stale,
    /// A modified line was written back over what a device wrote.
    Overwritten,
}

impl CacheRule {
    fn description(self) -> &'static str {
        match self {
            Self::ReadOfModified => {
                "the device reads lines that are modified in the cache (no clean before the transfer)"
            }
            Self::WriteUnderModified => {
                "the device writes under lines that are modified in the cache (no invalidate or flush before the transfer)"
            }
            Self::NotInvalidated => {
                "the CPU loads lines that the device wrote (no invalidate after the transfer)"
            }
            Self::DescriptorModified => {
                "the controller fetches a descriptor that is modified in the cache"
            }
            Self::UncachedOfModified => {
                "lines are used past the cache while they are modified in it (no flush before)"
            }
            Self::Stale => "the CPU uses lines that it held from before the device wrote them",
            Self::Overwritten => "lines were written back over what the device had written",
        }
    }
}

impl fmt::Display for CacheViolation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            rule,
            bus,
            lines,
            pc,
        } = self;
        write!(
            f,
            "{}: {lines} lines at bus address {bus:#010x}, instruction {pc:#010x}",
            rule.description()
        )
    }
}

/// What is known about a line that is not plainly absent.
#[derive(Debug, Default, Clone, Copy)]
struct Line {
    /// By which instruction, if it is modified in the cache.
    modified: Option<u32>,
    /// A device may have written it since it was last invalidated.
    device_wrote: bool,
}

#[derive(Debug, Default)]
struct Judge {
    lines: HashMap<u64, Line>,
    audit: CacheAudit,
}

impl CacheAudit {
    /// Reads a log of QEMU 10 with the plugin's lines and the events of the DMA audit.
    ///
    /// # Errors
    /// Those of the reader, and `InvalidData` for a line of the plugin that makes no sense.
    pub fn read(log: impl BufRead) -> std::io::Result<Self> {
        let mut judge = Judge::default();
        for line in log.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim();
            if line == END {
                judge.audit.complete = true;
            } else if let Some(event) = line.strip_prefix("cache ") {
                let understood = judge.cpu(event);
                understood.ok_or_else(|| std::io::Error::other(format!("cache model: {line}")))?;
            } else if let Some(Some(access)) = audit::access(line) {
                judge.device(&access);
            }
        }
        Ok(judge.audit)
    }
}

impl Judge {
    /// `EVENT BUS-ADDRESS LINES PC`.
    fn cpu(&mut self, event: &str) -> Option<()> {
        let mut words = event.split(' ');
        let event = words.next()?;
        let mut number = || u64::from_str_radix(words.next()?, 16).ok();
        let (bus, count, pc) = (number()?, number()?, number()? as u32);
        let range = bus / LINE..bus / LINE + count;
        let violation = match event {
            "fill" => {
                self.audit.filled += count;
                return self.fill(range, pc);
            }
            "modify" => {
                self.audit.modified += count;
                for line in range {
                    // The rest of the line came from memory just now: whether that was in order is for `stale` to say.
                    let modified = Line {
                        modified: Some(pc),
                        device_wrote: false,
                    };
                    self.lines.insert(line, modified);
                }
                return Some(());
            }
            "clean" => {
                self.audit.cleaned += count;
                for line in range {
                    if let Some(line) = self.lines.get_mut(&line) {
                        line.modified = None;
                    }
                }
                return Some(());
            }
            "flush" | "invalidate" => {
                *if event == "flush" {
                    &mut self.audit.flushed
                } else {
                    &mut self.audit.invalidated
                } += count;
                for line in range {
                    self.lines.remove(&line);
                }
                return Some(());
            }
            "stale" => CacheRule::Stale,
            "overwrite" => CacheRule::Overwritten,
            "uncached" => CacheRule::UncachedOfModified,
            _ => return None,
        };
        self.report(violation, range.start, count, pc);
        Some(())
    }

    fn fill(&mut self, range: std::ops::Range<u64>, pc: u32) -> Option<()> {
        let mut wrong = 0;
        let mut first = range.start;
        for line in range {
            let Some(known) = self.lines.get_mut(&line) else {
                continue;
            };
            if std::mem::take(&mut known.device_wrote) {
                if wrong == 0 {
                    first = line;
                }
                wrong += 1;
            }
        }
        if wrong > 0 {
            self.report(CacheRule::NotInvalidated, first, wrong, pc);
        }
        Some(())
    }

    fn device(&mut self, access: &audit::Violation) {
        let (rule, writes, bytes) = match access.kind {
            Kind::DataOut => (CacheRule::ReadOfModified, false, access.length),
            Kind::DataIn => (CacheRule::WriteUnderModified, true, access.length),
            // A queue head with its overlay; the controller writes the overlay, and the token of a descriptor.
            Kind::QueueHead => (CacheRule::DescriptorModified, true, 48),
            Kind::TransferDescriptor | Kind::Isochronous => {
                (CacheRule::DescriptorModified, true, access.length)
            }
            Kind::FrameList => (CacheRule::DescriptorModified, false, access.length),
        };
        // What lies elsewhere is the DMA audit's business.
        if !MEM2.contains(&access.address) || bytes == 0 {
            return;
        }
        let range = access.address / LINE..(access.address + bytes).div_ceil(LINE);
        if matches!(access.kind, Kind::DataIn | Kind::DataOut) {
            self.audit.transferred += range.end - range.start;
        }
        let (mut wrong, mut first, mut pc) = (0, 0, 0);
        for line in range {
            let known = self.lines.entry(line).or_default();
            if let Some(by) = known.modified {
                if wrong == 0 {
                    (first, pc) = (line, by);
                }
                wrong += 1;
            }
            known.device_wrote |= writes;
        }
        if wrong > 0 {
            self.report(rule, first, wrong, pc);
        }
    }

    fn report(&mut self, rule: CacheRule, line: u64, lines: u64, pc: u32) {
        self.audit.found += 1;
        if self.audit.violations.len() < KEPT {
            self.audit.violations.push(CacheViolation {
                rule,
                bus: line * LINE,
                lines,
                pc,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "address_space_map as:0x1 addr 0x10100000:40 write:0 attrs:0x1\n";
    const WRITE: &str = "address_space_map as:0x1 addr 0x10100000:40 write:1 attrs:0x1\n";
    const FETCH: &str =
        "usb_ehci_qtd_ptrs q 0x1 - QTD @ 0x10100000: next 0x00000001 altnext 0x00000001\n";
    const MODIFY: &str = "cache modify 10100000 2 80004000\n";
    const FILL: &str = "cache fill 10100000 2 80004444\n";
    const CLEAN: &str = "cache clean 10100000 2 80005000\n";
    const FLUSH: &str = "cache flush 10100000 2 80005000\n";
    const INVALIDATE: &str = "cache invalidate 10100000 2 80005000\n";

    fn rules(log: &[&str]) -> Vec<CacheRule> {
        let audit = CacheAudit::read(log.concat().as_bytes()).unwrap();
        let rules = audit.violations.iter().map(|violation| violation.rule);
        rules.collect()
    }

    #[test]
    fn a_device_reads_what_was_cleaned_or_flushed_only() {
        assert_eq!(rules(&[MODIFY, READ]), [CacheRule::ReadOfModified]);
        assert_eq!(rules(&[MODIFY, CLEAN, READ]), []);
        assert_eq!(rules(&[MODIFY, FLUSH, READ]), []);
    }

    #[test]
    fn a_device_writes_under_no_modified_line() {
        assert_eq!(rules(&[MODIFY, WRITE]), [CacheRule::WriteUnderModified]);
        for operation in [CLEAN, FLUSH, INVALIDATE] {
            assert_eq!(rules(&[MODIFY, operation, WRITE]), []);
        }
    }

    #[test]
    fn what_a_device_wrote_is_invalidated_before_the_cpu_loads_it_held_or_not() {
        let missing = [CacheRule::NotInvalidated];
        assert_eq!(rules(&[WRITE, FILL]), missing);
        assert_eq!(rules(&[INVALIDATE, WRITE, FILL]), missing);
        assert_eq!(rules(&[WRITE, CLEAN, FILL]), missing);
        assert_eq!(rules(&[WRITE, INVALIDATE, FILL]), []);
        assert_eq!(rules(&[WRITE, FLUSH, FILL]), []);
    }

    #[test]
    fn a_whole_new_line_hides_what_the_device_wrote() {
        assert_eq!(rules(&[WRITE, MODIFY, CLEAN, READ]), []);
    }

    #[test]
    fn descriptors_are_not_modified_in_the_cache_when_they_are_fetched() {
        assert_eq!(rules(&[MODIFY, FETCH]), [CacheRule::DescriptorModified]);
        assert_eq!(rules(&[FETCH, FILL]), [CacheRule::NotInvalidated]);
        assert_eq!(rules(&[MODIFY, FLUSH, FETCH]), []);
    }

    #[test]
    fn what_the_plugin_calls_wrong_is_wrong() {
        for (event, rule) in [
            ("stale", CacheRule::Stale),
            ("overwrite", CacheRule::Overwritten),
            ("uncached", CacheRule::UncachedOfModified),
        ] {
            assert_eq!(
                rules(&[&format!("cache {event} 10100000 1 80004000\n")]),
                [rule]
            );
        }
    }

    #[test]
    fn a_violation_names_the_lines_and_the_instruction() {
        let log = [MODIFY, "cache clean 10100000 1 80005000\n", READ].concat();
        let audit = CacheAudit::read(log.as_bytes()).unwrap();
        let violation = &audit.violations[0];
        assert_eq!(
            (violation.bus, violation.lines, violation.pc),
            (0x1010_0020, 1, 0x8000_4000)
        );
        assert_eq!((audit.found, audit.modified, audit.cleaned), (1, 2, 1));
    }

    #[test]
    fn only_the_plugins_last_line_makes_it_complete() {
        assert!(!CacheAudit::read(MODIFY.as_bytes()).unwrap().complete);
        let log = [MODIFY, "cache end\n"].concat();
        assert!(CacheAudit::read(log.as_bytes()).unwrap().complete);
    }

    #[test]
    fn a_line_of_the_plugin_that_makes_no_sense_is_an_error() {
        for line in ["cache melt 10100000 1 0", "cache fill x 1 0", "cache fill"] {
            assert!(CacheAudit::read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
