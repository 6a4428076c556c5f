//! What a counted program and `cargo xtask bench` agree on.
//!
//! A program is run twice. Without arguments, at full speed: it prints [`figure`]s, which need no counting. With `counts` as its argument, on a
//! PowerPC whose every instruction is logged: the host counts those between the two markers of each [`sample`], and gives the count the
//! name at the same place in what [`finish`] prints.

use std::cell::RefCell;
use std::fmt::Display;
use std::hint::black_box;

thread_local! {
    /// The names of all samples, in order. Printed at the end: what runs between samples is logged as well, and that takes time.
    static NAMES: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Starts a sample. The host knows it by its symbol. The two functions differ, lest they become one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_begin() {
    black_box(1);
}

/// Ends a sample.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_end() {
    black_box(2);
}

/// Returns whether this run is for counting.
pub fn counting() -> bool {
    let counting = std::env::args().any(|argument| argument == "counts");
    if counting {
        // The host takes off what the first sample costs: the markers alone.
        sample("nothing", || ());
    }
    counting
}

/// Counts the instructions of `act` under a name. Several samples may have the same.
pub fn sample<R>(name: &'static str, act: impl FnOnce() -> R) -> R {
    count_begin();
    let result = black_box(act());
    count_end();
    NAMES.with_borrow_mut(|names| names.push(name));
    result
}

/// Makes a name for samples out of text.
pub fn label(name: String) -> &'static str {
    name.leak()
}

/// Prints a figure that the program knows by itself.
pub fn figure(name: impl Display, value: f64) {
    println!("figure {name} {value}");
}

/// Prints the names of the samples, at the end of the run.
pub fn finish() {
    NAMES.with_borrow(|names| names.iter().for_each(|name| println!("sample {name}")));
}
