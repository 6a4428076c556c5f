//! What the CPU does: loads and stores through the cache and past it, and cache instructions.

use crate::line::{Line, Mask, mask};
use crate::memory::{Doing, State, View};
use crate::{Access, Memory, Origin, Rule};

impl Memory {
    /// Loads bytes through the cache.
    #[track_caller]
    pub fn load(&self, address: u32, len: u32) -> Vec<u8> {
        let doing = Doing::here(Access::CpuLoad);
        let mut state = self.state();
        self.check_ram(&mut state, address, len, doing);
        let mut bytes = vec![0; len as usize];
        for part in self.parts(address, len) {
            self.look(&mut state, part.index, doing);
            let line = &mut state.lines[part.index];
            line.fill();
            part.copy_out(&line.view(), &mut bytes);
            let stale = line.pending & part.mask();
            self.blame(&mut state, Rule::MissingInvalidateAfter, part, stale, doing);
            self.check_written(&mut state, part, View::Cpu, doing);
        }
        bytes
    }

    /// Stores bytes through the cache.
    #[track_caller]
    pub fn store(&self, address: u32, bytes: &[u8]) {
        let doing = Doing::here(Access::CpuStore);
        let mut state = self.state();
        self.check_ram(&mut state, address, bytes.len() as u32, doing);
        let writer = Origin::Cpu(state.mapping);
        for part in self.parts(address, bytes.len() as u32) {
            self.look(&mut state, part.index, doing);
            state.lines[part.index].store(part.mask(), &part.copy_in(bytes), writer);
        }
    }

    /// Loads bytes past the cache. Loads of any width are harmless.
    #[track_caller]
    pub fn uncached_load(&self, address: u32, len: u32) -> Vec<u8> {
        let doing = Doing::here(Access::CpuLoad);
        let mut state = self.state();
        self.check_ram(&mut state, address, len, doing);
        let mut bytes = vec![0; len as usize];
        for part in self.parts(address, len) {
            self.look(&mut state, part.index, doing);
            let line = &state.lines[part.index];
            part.copy_out(&line.ram(), &mut bytes);
            let hidden = line.owed & part.mask();
            self.blame(&mut state, Rule::Alias, part, hidden, doing);
            self.check_written(&mut state, part, View::Ram, doing);
        }
        bytes
    }

    /// Stores a word past the cache, big-endian. An unaligned one is a short store.
    #[track_caller]
    pub fn uncached_store32(&self, address: u32, value: u32) {
        self.uncached_store(address, &value.to_be_bytes());
    }

    /// Stores half a word past the cache, and thereby destroys a word.
    #[track_caller]
    pub fn uncached_store16(&self, address: u32, value: u16) {
        self.uncached_store(address, &value.to_be_bytes());
    }

    /// Stores a byte past the cache, and thereby destroys a word.
    #[track_caller]
    pub fn uncached_store8(&self, address: u32, value: u8) {
        self.uncached_store(address, &[value]);
    }

    #[track_caller]
    fn uncached_store(&self, address: u32, bytes: &[u8]) {
        let doing = Doing::here(Access::CpuStore);
        let mut state = self.state();
        self.check_ram(&mut state, address, bytes.len() as u32, doing);
        let short = bytes.len() != 4 || !address.is_multiple_of(4);
        let writer = Origin::Cpu(state.mapping);
        for part in self.parts(address, bytes.len() as u32) {
            self.look(&mut state, part.index, doing);
            let owed = state.lines[part.index].owed;
            self.blame(&mut state, Rule::Alias, part, owed, doing);
            if short && self.rules.has(Rule::ShortUncachedStore) {
                self.blame(
                    &mut state,
                    Rule::ShortUncachedStore,
                    part,
                    part.mask(),
                    doing,
                );
                // The bus has no byte enables: all lanes are written, with what happens to be on them.
                let words = mask(part.start & !3, (part.end() + 3) & !3);
                let lanes = std::array::from_fn(|at| bytes[at % bytes.len()]);
                state.lines[part.index].store_ram(words, &lanes, Origin::Corrupted);
            }
            state.lines[part.index].store_ram(part.mask(), &part.copy_in(bytes), writer);
        }
    }

    /// `dcbst` on every line that the range touches: writes modified ones back.
    #[track_caller]
    pub fn clean(&self, address: u32, len: u32) {
        self.operate(address, len, |line, _| line.clean());
    }

    /// `dcbf` on every line that the range touches: writes modified ones back and lets all go.
    #[track_caller]
    pub fn flush(&self, address: u32, len: u32) {
        self.operate(address, len, |line, _| line.flush());
    }

    /// `dcbi` on every line that the range touches: lets them go, modified or not. Stores outside of the range that are lost by this break
    /// [`Rule::SharedLine`].
    #[track_caller]
    pub fn invalidate(&self, address: u32, len: u32) {
        self.operate(address, len, |line, range| {
            let lost = line.owed & !range;
            line.invalidate();
            lost
        });
    }

    /// `dcbz` on every line that the range touches: makes it a modified line of zeros, whatever RAM holds.
    #[track_caller]
    pub fn zero(&self, address: u32, len: u32) {
        let writer = Origin::Cpu(self.state().mapping);
        self.operate(address, len, |line, _| {
            line.zero(writer);
            0
        });
    }

    /// `sync`: what the cache operations wrote back reaches RAM before anything that follows.
    pub fn sync(&self) {
        // A model of one CPU: nothing else is late.
        let mut state = self.state();
        let State {
            lines, unsynced, ..
        } = &mut *state;
        for index in unsynced.drain(..) {
            lines[index].unsynced = false;
        }
    }

    #[track_caller]
    fn operate(&self, address: u32, len: u32, act: impl Fn(&mut Line, Mask) -> Mask) {
        let doing = Doing::here(Access::CacheOperation);
        let mut state = self.state();
        self.check_ram(&mut state, address, len, doing);
        for part in self.parts(address, len) {
            self.look(&mut state, part.index, doing);
            self.provoke(&mut state, part.index, doing);
            let lost = act(&mut state.lines[part.index], part.mask());
            if state.lines[part.index].unsynced {
                state.unsynced.push(part.index);
            }
            self.blame(&mut state, Rule::SharedLine, part, lost, doing);
            self.provoke(&mut state, part.index, doing);
        }
    }
}
