//! From addresses of a program to functions, files and lines.

use crate::Error;
use addr2line::Loader;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};
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
        if let Some(name) = self.function(address) {
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

    /// Names the function that the code at `address` was compiled into: the last symbol up to there, in the same section.
    pub fn function(&self, address: u32) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    fn inner(at: &std::cell::Cell<u32>) {
        at.set(1);
    }

    #[inline(never)]
    #[unsafe(no_mangle)]
    #[rustfmt::skip]
    fn symbols_test_outer(at: &std::cell::Cell<u32>) {
        inner(at);
    }
    const CALL: u32 = line!() - 2;

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
            file.ends_with("src/symbols.rs") && *line == CALL,
            "{file}:{line}"
        );
    }

    #[test]
    fn unknown_addresses_have_no_place() {
        let symbols = Symbols::load(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(symbols.places(0xFFFF_FFF0), []);
    }
}
