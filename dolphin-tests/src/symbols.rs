//! From addresses to functions, files and lines, and from a crash record to a readable back-trace.

use crate::Error;
use addr2line::Loader;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, ops::Range, path::Path};

/// Finds the source of code addresses by an ELF file's debug information and symbols.
pub struct Symbols {
    debug: Loader,
    /// Sections with code.
    code: Vec<Range<u64>>,
    /// Symbols in these, by address: assembly has no functions in the debug information.
    labels: BTreeMap<u64, String>,
}

/// One function in which an address lies; inlined ones come before the one that they are inlined into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Demangled name, or `?`.
    pub function: String,
    /// Source file and line, if known.
    pub source: Option<(String, u32)>,
}

impl Symbols {
    /// Opens an ELF file.
    ///
    /// # Errors
    /// [`Error::Image`] if it is none.
    pub fn load(elf: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::Image {
            path: elf.to_owned(),
            reason,
        };
        let debug = Loader::new(elf).map_err(|error| failed(error.to_string()))?;
        let bytes = std::fs::read(elf).map_err(|error| failed(error.to_string()))?;
        let image = object::File::parse(&*bytes).map_err(|error| failed(error.to_string()))?;
        let code: Vec<_> = image
            .sections()
            .filter(|section| section.kind() == SectionKind::Text)
            .map(|section| section.address()..section.address() + section.size())
            .collect();
        let labels = image
            .symbols()
            .filter(|symbol| {
                code.iter()
                    .any(|section| section.contains(&symbol.address()))
            })
            .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?.to_owned())))
            .filter(|(_, name)| !name.is_empty())
            .collect();
        Ok(Self {
            debug,
            code,
            labels,
        })
    }

    /// Names the functions at `address`, innermost first; empty if the ELF does not know it.
    pub fn places(&self, address: u32) -> Vec<Place> {
        let mut places = Vec::new();
        if let Ok(mut frames) = self.debug.find_frames(u64::from(address)) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame
                    .function
                    .and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
                let source = frame
                    .location
                    .and_then(|at| Some((at.file?.to_owned(), at.line?)));
                places.push(Place {
                    function: name.unwrap_or_else(|| "?".to_owned()),
                    source,
                });
            }
        }
        if let Some(name) = self.label(address) {
            match places.first_mut() {
                None => places.push(Place {
                    function: name,
                    source: None,
                }),
                Some(place) if place.function == "?" => place.function = name,
                Some(_) => {}
            }
        }
        places
    }

    /// The last symbol up to an address of code, in the same section.
    fn label(&self, address: u32) -> Option<String> {
        let address = u64::from(address);
        let section = self
            .code
            .iter()
            .find(|section| section.contains(&address))?;
        let (_, name) = self.labels.range(section.start..=address).next_back()?;
        Some(addr2line::demangle_auto(name.into(), None).into_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.source {
            Some((file, line)) => write!(f, "{} at {file}:{line}", self.function),
            None => f.write_str(&self.function),
        }
    }
}

/// Why a program stopped: an unexpected exception or a panic, with what the processor knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// Offset of the exception vector, 0x300 for instance; 0 for a panic.
    pub vector: u32,
    /// Name of the exception.
    pub name: String,
    /// What the program itself has to say.
    pub message: String,
    /// Where it happened.
    pub srr0: u32,
    /// Machine state then.
    pub srr1: u32,
    /// Data address, and why its access failed, if the vector is 0x300.
    pub dar: u32,
    /// See `dar`.
    pub dsisr: u32,
    /// Link register.
    pub lr: u32,
    /// General-purpose registers.
    pub gpr: Vec<u32>,
    /// Return addresses, innermost first.
    pub backtrace: Vec<u32>,
    /// The functions at `srr0` and at the calls of the back-trace, if there is an ELF.
    pub calls: Vec<(u32, Vec<Place>)>,
}

impl Crash {
    /// Decodes the value of a `crash` event. Absent fields are zero or empty.
    pub fn from_event(value: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap_or(0) as u32;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let list = |name: &str| {
            value[name]
                .as_array()
                .map(|list| list.iter().map(number).collect())
        };
        Self {
            vector: number(&value["vector"]),
            name: text("name"),
            message: text("message"),
            srr0: number(&value["srr0"]),
            srr1: number(&value["srr1"]),
            dar: number(&value["dar"]),
            dsisr: number(&value["dsisr"]),
            lr: number(&value["lr"]),
            gpr: list("gpr").unwrap_or_default(),
            backtrace: list("backtrace").unwrap_or_default(),
            calls: Vec::new(),
        }
    }

    /// Finds the functions of the back-trace.
    #[must_use]
    pub fn symbolise(mut self, symbols: &Symbols) -> Self {
        self.calls.clear();
        if self.srr0 != 0 {
            self.calls.push((self.srr0, symbols.places(self.srr0)));
        }
        for &address in &self.backtrace {
            // A return address may belong to the next line, or even the next function.
            let call = address.wrapping_sub(4);
            self.calls.push((call, symbols.places(call)));
        }
        self
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.vector == 0 {
            writeln!(f, "{}: {}", self.name, self.message)?;
        } else {
            writeln!(
                f,
                "exception {:#05x}, {}: {}",
                self.vector, self.name, self.message
            )?;
        }
        writeln!(
            f,
            "  SRR0 {:08x}  SRR1 {:08x}  DAR {:08x}  DSISR {:08x}  LR {:08x}",
            self.srr0, self.srr1, self.dar, self.dsisr, self.lr
        )?;
        for (row, registers) in self.gpr.chunks(8).enumerate() {
            write!(f, "  r{:<3}", row * 8)?;
            for register in registers {
                write!(f, " {register:08x}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "back-trace:")?;
        for (address, places) in &self.calls {
            match places.split_first() {
                None => writeln!(f, "  {address:08x}  ?")?,
                Some((first, outer)) => {
                    writeln!(f, "  {address:08x}  {first}")?;
                    for place in outer {
                        writeln!(f, "            inlined into {place}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_event_keeps_every_register() {
        let (_, value) = crate::frames::event(
            r#"@{"crash":{"vector":768,"name":"data storage","srr0":2147500036,"srr1":8240,"dar":805306368,
            "dsisr":1107296256,"lr":2147500044,"gpr":[1,2],"backtrace":[2147500048],"message":"m"}}"#,
        )
        .unwrap();
        let crash = Crash::from_event(&value);
        assert_eq!(
            (crash.vector, crash.srr0, crash.srr1),
            (0x300, 0x8000_4004, 0x2030)
        );
        assert_eq!(
            (crash.dar, crash.dsisr, crash.lr),
            (0x3000_0000, 0x4200_0000, 0x8000_400C)
        );
        assert_eq!(
            (crash.gpr.as_slice(), crash.backtrace.as_slice()),
            (&[1, 2][..], &[0x8000_4010][..])
        );
        let text = crash.to_string();
        assert!(
            text.starts_with("exception 0x300, data storage: m\n"),
            "{text}"
        );
    }

    #[inline(always)]
    fn inner(at: &std::cell::Cell<u32>) {
        at.set(1);
    }

    #[inline(never)]
    #[unsafe(no_mangle)]
    fn symbols_test_outer(at: &std::cell::Cell<u32>) {
        inner(at);
    }

    /// This test's own program serves as the sample.
    #[test]
    fn addresses_become_functions_and_lines_inlined_ones_included() {
        let at = std::cell::Cell::new(0);
        symbols_test_outer(&at);
        let program = std::env::current_exe().unwrap();
        let image = std::fs::read(&program).unwrap();
        let image = object::File::parse(&*image).unwrap();
        let outer = image
            .symbols()
            .find(|symbol| symbol.name() == Ok("symbols_test_outer"))
            .unwrap();
        let symbols = Symbols::load(&program).unwrap();
        let places = (outer.address()..outer.address() + outer.size())
            .map(|address| symbols.places(address as u32))
            .find(|places| places.iter().any(|place| place.function.ends_with("inner")))
            .expect("an address in the inlined function");
        let last = places.last().unwrap();
        assert_eq!(last.function, "symbols_test_outer");
        let (file, line) = last.source.as_ref().unwrap();
        assert!(
            file.ends_with("src/symbols.rs") && *line > 200,
            "{file}:{line}"
        );
    }

    #[test]
    fn unknown_addresses_have_no_place() {
        let symbols = Symbols::load(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(symbols.places(0xFFFF_FFF0), []);
    }
}
