//! Command-line arguments as the Homebrew Channel hands them over: NUL-separated strings, the
//! first of which is the program's name (hardware notes, section 8.2).

/// Longest command line that the Homebrew Channel passes, in bytes.
pub const MAX_BYTES: usize = 1024;

/// The argument that says that the loader has set up the address map (BATs, HIDs, caches) and that
/// no Hollywood beside the EHCI controller is there. The QEMU shim passes it.
pub const MAP_READY: &str = "map=ready";

/// A command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments<'a> {
    line: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Wraps a command line: NUL-separated strings, at most [`MAX_BYTES`] of which are looked at.
    pub const fn new(line: &'a [u8]) -> Self {
        let line = if line.len() > MAX_BYTES {
            line.split_at(MAX_BYTES).0
        } else {
            line
        };
        Self { line }
    }

    /// The arguments after the program's name. What is not UTF-8 is passed over.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        self.line
            .split(|&byte| byte == 0)
            .skip(1)
            .filter(|argument| !argument.is_empty())
            .filter_map(|argument| core::str::from_utf8(argument).ok())
    }

    /// Whether `flag` is among the arguments.
    pub fn has(self, flag: &str) -> bool {
        self.iter().any(|argument| argument == flag)
    }

    /// The value of the first argument of the form `key=value`.
    pub fn value(self, key: &str) -> Option<&'a str> {
        self.iter()
            .find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_first_string_is_the_name_of_the_program() {
        let arguments = Arguments::new(b"boot.dol\0read-only\0test=stack\0");
        assert_eq!(
            arguments.iter().collect::<Vec<_>>(),
            ["read-only", "test=stack"]
        );
    }

    #[test]
    fn flags_match_whole_arguments_only() {
        let arguments = Arguments::new(b"boot.dol\0read-only-not\0");
        assert!(!arguments.has("read-only"));
        assert!(!Arguments::new(b"read-only\0").has("read-only"));
    }

    #[test]
    fn a_value_follows_its_key() {
        let arguments = Arguments::new(b"x\0tests=no\0test=a=b\0");
        assert_eq!(arguments.value("test"), Some("a=b"));
        assert_eq!(arguments.value("te"), None);
    }

    #[test]
    fn garbage_is_passed_over() {
        let arguments = Arguments::new(b"x\0\xFF\xFE\0\0\0ok");
        assert_eq!(arguments.iter().collect::<Vec<_>>(), ["ok"]);
        assert_eq!(Arguments::new(b"").iter().count(), 0);
    }

    #[test]
    fn an_endless_line_is_cut_at_the_bound() {
        let line = [b'a'; MAX_BYTES + 500];
        assert_eq!(Arguments::new(&line).line.len(), MAX_BYTES);
    }
}
