//! MEM1 and MEM2 behind a cache: the CPU's side, the devices' side, and the books of who broke which rule.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hollywood_pac::addr::{PhysAddr, Region};

use crate::line::{LINE, Line, Mask};
use crate::part::Part;
use crate::{Access, Adversary, Origin, Rule, Rules, Violation};

/// Physical address of the first byte of MEM1.
pub const MEM1: u32 = Region::Mem1.start().get();
/// Physical address of the first byte of MEM2.
pub const MEM2: u32 = Region::Mem2.start().get();
/// What memory holds that nobody has written, or that was given back.
pub const POISON: u8 = 0xA5;
/// Violations that are kept; more are counted only.
const KEPT: usize = 256;

/// The memory of a Wii, or a piece of it from the start of MEM1 and of MEM2 each.
///
/// All addresses are physical ones.
pub struct Memory {
    state: Mutex<State>,
    banks: [Bank; 2],
    pub(crate) rules: Rules,
}

/// One of the two memories: what the CPU sees and what devices see.
struct Bank {
    start: u32,
    len: u32,
    view: NonNull<u8>,
    ram: NonNull<u8>,
}

// SAFETY: the pointers own their memory; it is used under the lock of `Memory`, or as the caller of `carve` promised.
unsafe impl Send for Bank {}
// SAFETY: as above.
unsafe impl Sync for Bank {}

impl Bank {
    fn new(start: u32, len: u32) -> Self {
        Self {
            start,
            len,
            view: allocate(len),
            ram: allocate(len),
        }
    }

    fn layout(len: u32) -> Layout {
        Layout::from_size_align(len as usize, 4096).expect("less than 4 GiB")
    }
}

fn allocate(len: u32) -> NonNull<u8> {
    if len == 0 {
        return NonNull::dangling();
    }
    let layout = Bank::layout(len);
    // SAFETY: not of size zero.
    let start = NonNull::new(unsafe { alloc(layout) });
    let start = start.unwrap_or_else(|| handle_alloc_error(layout));
    // SAFETY: just allocated.
    unsafe { start.write_bytes(POISON, len as usize) };
    start
}

impl Drop for Bank {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: allocated with this layout, and nobody uses it any more.
            unsafe {
                dealloc(self.view.as_ptr(), Self::layout(self.len));
                dealloc(self.ram.as_ptr(), Self::layout(self.len));
            }
        }
    }
}

/// What changes.
pub(crate) struct State {
    /// The lines of all banks in a row.
    pub(crate) lines: Vec<Line>,
    /// Those that were written back, without a `sync` since.
    pub(crate) unsynced: Vec<usize>,
    adversary: Adversary,
    /// For whom the CPU works.
    pub(crate) mapping: u32,
    violations: Vec<Violation>,
    uncounted: usize,
}

/// Whose view of the bytes.
#[derive(Clone, Copy)]
pub(crate) enum View {
    Cpu,
    Ram,
}

/// Who does what, for reports.
#[derive(Clone, Copy)]
pub(crate) struct Doing {
    pub(crate) access: Access,
    pub(crate) caller: &'static Location<'static>,
}

impl Memory {
    /// Makes `mem1` and `mem2` bytes of the two memories, multiples of 32, under all rules.
    ///
    /// # Panics
    /// If the sizes are no such multiples, or more than a Wii has.
    pub fn new(mem1: u32, mem2: u32) -> Self {
        Self::with_rules(mem1, mem2, Rules::STRICT)
    }

    /// Makes memory under some rules.
    ///
    /// # Panics
    /// As [`Memory::new`].
    pub fn with_rules(mem1: u32, mem2: u32, rules: Rules) -> Self {
        assert!(mem1 <= Region::Mem1.size() && mem2 <= Region::Mem2.size());
        assert!(mem1.is_multiple_of(LINE as u32) && mem2.is_multiple_of(LINE as u32));
        let banks = [Bank::new(MEM1, mem1), Bank::new(MEM2, mem2)];
        let mut lines = Vec::new();
        for bank in &banks {
            for offset in (0..bank.len as usize).step_by(LINE) {
                // SAFETY: within the bank's memory, which lives as long as its lines. References to it are the callers' of `carve`, who promised.
                lines.push(unsafe {
                    Line::new(bank.view.add(offset).cast(), bank.ram.add(offset).cast())
                });
            }
        }
        Self {
            state: Mutex::new(State {
                lines,
                unsynced: Vec::new(),
                adversary: Adversary::Idle,
                mapping: 0,
                violations: Vec::new(),
                uncounted: 0,
            }),
            banks,
            rules,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an adversary at the cache, in place of the one before, which is returned.
    pub fn set_adversary(&self, adversary: Adversary) -> Adversary {
        std::mem::replace(&mut self.state().adversary, adversary)
    }

    /// Says for which mapping the CPU works from now on.
    pub fn act_as(&self, mapping: u32) {
        self.state().mapping = mapping;
    }

    /// Returns the violations so far and forgets them.
    pub fn take_violations(&self) -> Vec<Violation> {
        let mut state = self.state();
        state.uncounted = 0;
        std::mem::take(&mut state.violations)
    }

    /// Returns how many violations there have been since they were last taken.
    pub fn violations(&self) -> usize {
        let state = self.state();
        state.violations.len() + state.uncounted
    }

    /// Lets the adversary do something with some lines, as it may at any time.
    #[track_caller]
    pub fn step(&self) {
        let doing = Doing::here(Access::Background);
        let mut state = self.state();
        let count = state.lines.len();
        for _ in 0..4 {
            if let Some(index) = state.adversary.pick(count) {
                self.provoke(&mut state, index, doing);
            }
        }
    }

    /// Notices what was stored through pointers, for the mapping that the CPU works for.
    #[track_caller]
    pub fn observe(&self, address: u32, len: u32) {
        let doing = Doing::here(Access::CpuStore);
        let mut state = self.state();
        for part in self.parts(address, len) {
            self.look(&mut state, part.index, doing);
        }
    }

    /// Says that room was given back: whatever it holds is nobody's from now on. The cache stays as it is.
    #[track_caller]
    pub fn retire(&self, address: u32, len: u32) {
        let doing = Doing::here(Access::CpuStore);
        let mut state = self.state();
        for part in self.parts(address, len) {
            self.look(&mut state, part.index, doing);
            state.lines[part.index].retire(part.mask(), POISON);
        }
    }

    /// Returns who wrote the byte as devices see it, or `None` outside RAM.
    pub fn ram_origin(&self, address: u32) -> Option<Origin> {
        let part = self.parts(address, 1).next()?;
        Some(self.state().lines[part.index].ram_origin.at(part.start))
    }

    /// Looks at RAM without any effect. Returns whether it is there.
    pub(crate) fn peek(&self, address: u32, bytes: &mut [u8]) -> bool {
        let len = bytes.len() as u32;
        let state = self.state();
        for part in self.parts(address, len) {
            part.copy_out(&state.lines[part.index].ram(), bytes);
        }
        self.in_ram(address, len)
    }

    /// Lets the adversary decide about one line.
    pub(crate) fn provoke(&self, state: &mut State, index: usize, doing: Doing) {
        if !state.adversary.decide() {
            return;
        }
        self.look(state, index, doing);
        let line = &mut state.lines[index];
        if line.valid {
            let lost = line.evict();
            let doing = Doing {
                access: Access::Background,
                ..doing
            };
            self.blame(state, Rule::SharedLine, Part::whole(index), lost, doing);
        } else {
            line.fill();
        }
    }

    /// Notices what was stored to a line through pointers.
    pub(crate) fn look(&self, state: &mut State, index: usize, doing: Doing) {
        let writer = Origin::Cpu(state.mapping);
        let seen = state.lines[index].observe(writer);
        self.blame(state, Rule::Alias, Part::whole(index), seen.alias, doing);
    }

    pub(crate) fn check_ram(&self, state: &mut State, address: u32, len: u32, doing: Doing) {
        if !self.in_ram(address, len) {
            self.report(state, Rule::OutsideRam, address, len, doing);
        }
    }

    /// Reports bytes that nobody wrote, or not for anybody who still exists, as the CPU or as a device sees them.
    pub(crate) fn check_written(&self, state: &mut State, part: Part, view: View, doing: Doing) {
        let line = &state.lines[part.index];
        let origins = match view {
            View::Cpu => &line.view_origin,
            View::Ram => &line.ram_origin,
        };
        let never = origins.which(part.mask(), |origin| origin == Origin::Never);
        let left = origins.which(part.mask(), |origin| matches!(origin, Origin::Retired(_)));
        self.blame(state, Rule::Uninitialised, part, never, doing);
        self.blame(state, Rule::Leak, part, left, doing);
    }

    /// Reports the bytes `which` of a line, if there are any.
    pub(crate) fn blame(
        &self,
        state: &mut State,
        rule: Rule,
        part: Part,
        which: Mask,
        doing: Doing,
    ) {
        if which != 0 {
            let address = self.address(part.index) + which.trailing_zeros();
            self.report(state, rule, address, which.count_ones(), doing);
        }
    }

    pub(crate) fn report(
        &self,
        state: &mut State,
        rule: Rule,
        address: u32,
        bytes: u32,
        doing: Doing,
    ) {
        if !self.rules.has(rule) {
            return;
        }
        if state.violations.len() == KEPT {
            state.uncounted += 1;
            return;
        }
        let origin = match self.parts(address, 1).next() {
            Some(part) => {
                let line = &state.lines[part.index];
                if line.owed >> part.start & 1 != 0 {
                    line.view_origin.at(part.start)
                } else {
                    line.ram_origin.at(part.start)
                }
            }
            None => Origin::Never,
        };
        let Doing { access, caller } = doing;
        state.violations.push(Violation {
            rule,
            address,
            bytes,
            origin,
            access,
            caller,
        });
    }

    /// Returns the size of MEM2 in bytes.
    pub(crate) fn mem2_len(&self) -> u32 {
        self.banks[1].len
    }

    pub(crate) fn in_ram(&self, address: u32, len: u32) -> bool {
        self.banks.iter().any(|bank| bank.contains(address, len))
    }

    /// Returns the address of a line.
    pub(crate) fn address(&self, index: usize) -> u32 {
        let [mem1, mem2] = &self.banks;
        let offset = (index * LINE) as u32;
        match offset.checked_sub(mem1.len) {
            None => mem1.start + offset,
            Some(offset) => mem2.start + offset,
        }
    }

    /// Cuts a range at the ends of lines. What is not all in one memory has no parts.
    pub(crate) fn parts(&self, address: u32, len: u32) -> impl Iterator<Item = Part> + use<> {
        let first = match self
            .banks
            .iter()
            .position(|bank| bank.contains(address, len))
        {
            Some(0) => Some(address),
            Some(_) => Some(address - MEM2 + self.banks[0].len),
            None => None,
        };
        let len = if first.is_some() { len as usize } else { 0 };
        let first = first.unwrap_or(0) as usize;
        let mut done = 0;
        std::iter::from_fn(move || {
            let start = (first + done) % LINE;
            let part = Part {
                index: (first + done) / LINE,
                start,
                len: (LINE - start).min(len - done),
                at: done,
            };
            done += part.len;
            (part.len != 0).then_some(part)
        })
    }

    /// Returns the two views of a range, through the cache and past it, if it is all in one memory.
    pub(crate) fn views(&self, address: PhysAddr, len: u32) -> Option<(NonNull<u8>, NonNull<u8>)> {
        let bank = self
            .banks
            .iter()
            .find(|bank| bank.contains(address.get(), len))?;
        let offset = (address.get() - bank.start) as usize;
        // SAFETY: within the bank.
        Some(unsafe { (bank.view.add(offset), bank.ram.add(offset)) })
    }

    /// Returns the address of the byte that a pointer through the cache shows.
    pub(crate) fn address_of(&self, pointer: NonNull<u8>) -> Option<u32> {
        self.banks.iter().find_map(|bank| {
            let offset = pointer.addr().get().checked_sub(bank.view.addr().get())?;
            (offset < bank.len as usize).then(|| bank.start + offset as u32)
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let violations = self.take_violations();
        if let Some(first) = violations.first()
            && !std::thread::panicking()
        {
            panic!("{} violations, the first: {first}", violations.len());
        }
    }
}

impl Bank {
    fn contains(&self, address: u32, len: u32) -> bool {
        address
            .checked_sub(self.start)
            .and_then(|offset| self.len.checked_sub(offset))
            .is_some_and(|room| len <= room)
    }
}

impl Doing {
    #[track_caller]
    pub(crate) fn here(access: Access) -> Self {
        Self {
            access,
            caller: Location::caller(),
        }
    }
}
