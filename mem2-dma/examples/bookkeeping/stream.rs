//! Streams of commands: the same for everybody.

/// Xorshift: small, and the same everywhere.
pub struct Random(pub u32);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(limit)) >> 32) as u32
    }
}

/// One thing to do.
pub enum Command {
    /// Map so many bytes, and append the result to the list of mappings.
    Map(u32),
    /// Unmap what is at this place in the list, if it was granted, and move the last into its place.
    Unmap(usize),
}

/// How long requests are.
#[derive(Clone, Copy)]
pub enum Sizes {
    /// From 13 bytes to this, every octave as likely as any other: mostly small, as on a USB.
    Octaves(u32),
    /// From 13 bytes to this, every length as likely as any other: mostly large, which is harder.
    Uniform(u32),
}

impl Sizes {
    fn draw(self, random: &mut Random) -> u32 {
        match self {
            Self::Octaves(longest) => {
                let octave = 13 << random.below((longest / 13).ilog2() + 1);
                (octave + random.below(octave)).min(longest)
            }
            Self::Uniform(longest) => 13 + random.below(longest - 12),
        }
    }
}

/// Maps and unmaps with about `fill` percent of `bytes` live at a time, in units of 2 KiB as Linux counts.
///
/// The stream does not depend on who runs it: what somebody refuses counts as live, too.
pub fn churn(
    random: &mut Random,
    commands: usize,
    bytes: u32,
    fill: u32,
    sizes: Sizes,
) -> Vec<Command> {
    let target = (u64::from(bytes) * u64::from(fill) / 100) as u32;
    let mut live: Vec<u32> = Vec::new();
    let mut used = 0;
    let mut stream = Vec::with_capacity(commands);
    while stream.len() < commands {
        let len = sizes.draw(random);
        let units = len.next_multiple_of(2048);
        if used + units <= target {
            used += units;
            live.push(units);
            stream.push(Command::Map(len));
        } else {
            let index = random.below(live.len() as u32) as usize;
            used -= live.swap_remove(index);
            stream.push(Command::Unmap(index));
        }
    }
    stream
}
