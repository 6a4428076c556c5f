//! What the guest and the controller did between two marks: counted instructions, and events of QEMU's trace.
//!
//! A guest brackets a stretch of work with calls of [`BEGIN`] and [`END`], any number of times. Instructions are counted by
//! address (plugin `plugins/count.c`), so that the functions in which the guest only waits can be told apart: their share
//! depends on the host's speed, all else repeats from run to run.

use crate::{Error, Symbols, error::Context};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use std::{collections::BTreeMap, fs, io::BufRead, path::Path};

/// The function that a guest calls where counting begins; it does nothing.
pub const BEGIN: &str = "wiistick_count_begin";
/// The function that a guest calls where counting ends; it does nothing.
pub const END: &str = "wiistick_count_end";

/// The trace events that are counted.
pub(crate) const EVENTS: [&str; 3] = [
    "usb_ehci_packet_action",
    "usb_ehci_doorbell_ring",
    "usb_ehci_irq",
];

/// One stretch between the marks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Window {
    /// How often each instruction ran, by address.
    pub instructions: BTreeMap<u32, u64>,
    /// Transfer descriptors that the controller executed.
    pub qtds: u64,
    /// Doorbells of the asynchronous schedule.
    pub doorbells: u64,
    /// Times that the controller's interrupt line went up.
    pub interrupts: u64,
}

impl Window {
    /// Instructions by function, the most first. Inlined code belongs to the function that it is inlined into.
    pub fn by_function(&self, symbols: &Symbols) -> Vec<(String, u64)> {
        let mut functions = BTreeMap::<String, u64>::new();
        for (&address, &count) in &self.instructions {
            let name = symbols.function(address).unwrap_or_else(|| "?".to_owned());
            *functions.entry(name).or_default() += count;
        }
        let mut functions: Vec<_> = functions.into_iter().collect();
        functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        functions
    }
}

/// The plugin's arguments: the program's code, the marks and the file for the result.
pub(crate) fn arguments(elf: &Path, out: &Path) -> Result<String, Error> {
    let failed = |reason: String| Error::Image {
        path: elf.to_owned(),
        reason,
    };
    let bytes = fs::read(elf).context(|| elf.display().to_string())?;
    let image = object::File::parse(&*bytes).map_err(|error| failed(error.to_string()))?;
    let code = image
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .map(|section| section.address()..section.address() + section.size());
    let code = code.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
    let code = code.ok_or_else(|| failed("it has no code".to_owned()))?;
    let mark = |name: &str| {
        let symbol = image.symbols().find(|symbol| symbol.name() == Ok(name));
        let missing = || failed(format!("it has no function {name}, so nothing is counted"));
        symbol.map(|symbol| symbol.address()).ok_or_else(missing)
    };
    let (begin, end) = (mark(BEGIN)?, mark(END)?);
    if begin == end {
        return Err(failed(format!("{BEGIN} and {END} are one function")));
    }
    Ok(format!(
        ",base={:x},words={},begin={begin:x},end={end:x},out={}",
        code.start,
        (code.end - code.start).div_ceil(4),
        out.display()
    ))
}

/// Reads the plugin's file and QEMU's log.
///
/// # Errors
/// Those of the readers, and `InvalidData` if they do not tell of the same windows.
pub(crate) fn read(counts: impl BufRead, log: impl BufRead) -> std::io::Result<Vec<Window>> {
    let strange = |line: &str| std::io::Error::other(format!("instruction counts: {line}"));
    let mut windows = Vec::new();
    for line in counts.lines() {
        let line = line?;
        if line == "window" {
            windows.push(Window::default());
            continue;
        }
        let count = line.split_once(' ').and_then(|(address, count)| {
            Some((u32::from_str_radix(address, 16).ok()?, count.parse().ok()?))
        });
        let window = windows.last_mut();
        let (Some((address, count)), Some(window)) = (count, window) else {
            return Err(strange(&line));
        };
        window.instructions.insert(address, count);
    }
    let mut seen = 0;
    let (mut open, mut line_is_up) = (false, false);
    for line in log.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        match line.trim() {
            "count begin" => open = true,
            "count end" => {
                open = false;
                seen += 1;
            }
            event => {
                let was_up = line_is_up;
                if let Some(rest) = event.strip_prefix("usb_ehci_irq level ") {
                    line_is_up = rest.starts_with('1');
                }
                let Some(window) = windows.get_mut(seen).filter(|_| open) else {
                    continue;
                };
                if event.starts_with("usb_ehci_doorbell_ring") {
                    window.doorbells += 1;
                } else if event.starts_with("usb_ehci_packet_action") && event.ends_with("alloc") {
                    window.qtds += 1;
                } else if line_is_up && !was_up {
                    window.interrupts += 1;
                }
            }
        }
    }
    if seen != windows.len() {
        return Err(strange(&format!(
            "{} windows, {seen} in the trace",
            windows.len()
        )));
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_count_only_between_the_marks() {
        let counts = "window\n80004000 3\n80004004 1\nwindow\n80004000 1\n";
        let log = "usb_ehci_packet_action q 0x1 p 0x2: alloc\n\
                   count begin\n\
                   usb_ehci_packet_action q 0x1 p 0x2: alloc\n\
                   usb_ehci_packet_action q 0x1 p 0x2: free\n\
                   usb_ehci_irq level 1, frindex 0x0000, sts 0x1, mask 0x37\n\
                   usb_ehci_irq level 1, frindex 0x0000, sts 0x1, mask 0x37\n\
                   usb_ehci_irq level 0, frindex 0x0000, sts 0x0, mask 0x37\n\
                   usb_ehci_doorbell_ring\n\
                   count end\n\
                   usb_ehci_doorbell_ring\n\
                   count begin\n\
                   count end\n";
        let windows = read(counts.as_bytes(), log.as_bytes()).unwrap();
        let [first, second] = &windows[..] else {
            panic!("{windows:?}")
        };
        assert_eq!(first.instructions.values().sum::<u64>(), 4);
        assert_eq!((first.qtds, first.doorbells, first.interrupts), (1, 1, 1));
        assert_eq!(
            (second.qtds, second.doorbells, second.interrupts),
            (0, 0, 0)
        );
    }

    #[test]
    fn counts_and_trace_must_tell_of_the_same_windows() {
        assert!(read("window\n80004000 1\n".as_bytes(), "".as_bytes()).is_err());
        assert!(read("80004000 1\n".as_bytes(), "".as_bytes()).is_err());
    }
}
