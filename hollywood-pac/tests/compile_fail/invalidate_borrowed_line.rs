//! A line that somebody looks at cannot be invalidated.
use hollywood_pac::cache::{self, Line};

fn main() {
    let mut lines = [Line::ZERO; 2];
    let first = &lines[0];
    cache::invalidate(&mut lines);
    assert_eq!(first.0[0], 0);
}
