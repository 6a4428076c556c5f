//! From the record of a crash to a readable back-trace.

use crate::symbols::{Place, Symbols};
use std::fmt;
use wiistick::report;

/// Why a program stopped: an unexpected exception or a panic, with what the processor knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// Offset of the exception vector, 0x300 for instance; 0 for a panic.
    pub vector: u32,
    /// Name of the exception.
    pub name: String,
    /// What the program itself has to say; may be empty.
    pub message: String,
    /// Where it happened.
    pub srr0: u32,
    /// Machine state then.
    pub srr1: u32,
    /// Data address, if the vector is 0x300 or 0x600.
    pub dar: u32,
    /// Why the access failed, if the vector is 0x300.
    pub dsisr: u32,
    /// Link register.
    pub lr: u32,
    /// Count register.
    pub ctr: u32,
    /// Condition register.
    pub cr: u32,
    /// General-purpose registers.
    pub gpr: [u32; 32],
    /// Return addresses, innermost first.
    pub backtrace: Vec<u32>,
    /// The functions at `srr0` (of an exception) and at the calls of the back-trace, each with its address;
    /// empty without an ELF.
    pub calls: Vec<(u32, Vec<Place>)>,
}

impl From<report::Crash<String>> for Crash {
    fn from(record: report::Crash<String>) -> Self {
        Self {
            vector: record.vector,
            name: record.name,
            message: record.message.unwrap_or_default(),
            srr0: record.srr0,
            srr1: record.srr1,
            dar: record.dar,
            dsisr: record.dsisr,
            lr: record.lr,
            ctr: record.ctr,
            cr: record.cr,
            gpr: record.gpr,
            backtrace: record.backtrace.to_vec(),
            calls: Vec::new(),
        }
    }
}

impl Crash {
    /// One line: what it was, and what the program has to say.
    pub fn summary(&self) -> String {
        let mut text = self.name.clone();
        if self.vector != 0 {
            text = format!("exception {:#05x}, {text}", self.vector);
        }
        if !self.message.is_empty() {
            text.push_str(": ");
            text.push_str(&self.message);
        }
        text
    }

    /// Finds the functions of the back-trace.
    #[must_use]
    pub fn symbolise(mut self, symbols: &Symbols) -> Self {
        // A return address may belong to the next line, or even the next function.
        let calls = self.backtrace.iter().map(|address| address.wrapping_sub(4));
        let exception = (self.vector != 0).then_some(self.srr0);
        let addresses = exception.into_iter().chain(calls);
        self.calls = addresses
            .map(|address| (address, symbols.places(address)))
            .collect();
        self
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        // The record of a panic holds no registers: whoever calls `panic!` has overwritten them.
        if self.vector != 0 {
            writeln!(
                f,
                "  SRR0 {:08x}  SRR1 {:08x}  DAR {:08x}  DSISR {:08x}",
                self.srr0, self.srr1, self.dar, self.dsisr
            )?;
            writeln!(
                f,
                "  LR {:08x}  CTR {:08x}  CR {:08x}",
                self.lr, self.ctr, self.cr
            )?;
            for (row, registers) in self.gpr.chunks(8).enumerate() {
                write!(f, "  r{:<3}", row * 8)?;
                for register in registers {
                    write!(f, " {register:08x}")?;
                }
                writeln!(f)?;
            }
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

    /// A crash in this test's own program, which serves as the sample: `srr0` and a return address both at the start
    /// of the function `crash_test_here`.
    fn sample(vector: u32) -> (Crash, Symbols) {
        use object::{Object, ObjectSymbol};
        #[inline(never)]
        #[unsafe(no_mangle)]
        fn crash_test_here() {
            std::hint::black_box(1);
        }
        crash_test_here();
        let program = std::env::current_exe().unwrap();
        let image = std::fs::read(&program).unwrap();
        let image = object::File::parse(&*image).unwrap();
        let here = image
            .symbols()
            .find(|symbol| symbol.name() == Ok("crash_test_here"))
            .unwrap();
        let crash = Crash::from(report::Crash {
            vector,
            name: "data storage".to_owned(),
            srr0: here.address() as u32,
            srr1: 0,
            dar: 0x3000_0000,
            dsisr: 0,
            lr: 0,
            ctr: 0,
            cr: 0,
            gpr: std::array::from_fn(|register| register as u32),
            backtrace: [here.address() as u32 + 4].into_iter().collect(),
            message: None,
        });
        (crash, Symbols::load(&program).unwrap())
    }

    #[test]
    fn an_exception_is_told_with_its_place_and_the_calls_before_return_addresses() {
        let (crash, symbols) = sample(0x300);
        let crash = crash.symbolise(&symbols);
        let [(srr0, place), (call, _)] = &crash.calls[..] else {
            panic!("{crash}")
        };
        assert_eq!((*srr0, *call), (crash.srr0, crash.backtrace[0] - 4));
        assert_eq!(place[0].function, "crash_test_here");
        let text = crash.to_string();
        assert!(text.starts_with("exception 0x300, data storage"), "{text}");
        assert!(
            text.contains("crash_test_here at ") && text.contains("DAR 30000000"),
            "{text}"
        );
        assert!(
            text.contains("r8   00000008") && text.contains("0000001f"),
            "{text}"
        );
    }

    #[test]
    fn a_panic_has_no_place_of_an_exception() {
        let (crash, symbols) = sample(0);
        assert_eq!(crash.symbolise(&symbols).calls.len(), 1);
    }
}
