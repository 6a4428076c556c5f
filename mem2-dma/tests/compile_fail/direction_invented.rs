//! There are three directions.
use mem2_dma::{Direction, Way};

struct Sideways;

impl Way for Sideways {
    const DIRECTION: Direction = Direction::ToDevice;
}

fn main() {}
