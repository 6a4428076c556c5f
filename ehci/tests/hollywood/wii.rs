//! A machine: memory, controller, pool, and the driver on it.

use ehci::memory::{Buffer, Dma, NoMemory};
use ehci::platform::hollywood::enable_interrupt;
use ehci::registers::Registers;
use ehci::{Bounce, Bounced, Descriptors, Ehci, Interrupt, PipeId, Platform, StartError, State};
use hollywood_sim::controller::Controller;
use hollywood_sim::{Adversary, MEM2, Memory};
use mem2_dma::{Mem2, Pool, Storage};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// The pool does not start where MEM2 does, as on a Wii.
const POOL: u32 = MEM2 + 0x4000;
/// Groups of slots: 32 KiB each.
const GROUPS: usize = 64;
const LIVE: usize = 64;

/// How many times less the long tests try on a processor that is emulated, as big-endian ones are.
pub const SHARE: u64 = if cfg!(target_endian = "big") { 10 } else { 1 };

/// The same for lengths, of which `EHCI_ALL_LENGTHS=1` tries all.
pub fn share_of_lengths() -> usize {
    if is_every_length() { 1 } else { SHARE as usize }
}

/// Whether no length and no alignment is to be left out.
pub fn is_every_length() -> bool {
    std::env::var_os("EHCI_ALL_LENGTHS").is_some()
}

/// The driver of these tests.
pub type Driver<'p> = Ehci<Board, Tracked<'p>, Board>;

/// The pool, and the memory that is told what was given back: whoever reads it afterwards finds poison.
pub struct Tracked<'p> {
    bounce: Bounce<'p>,
    memory: Arc<Memory>,
}

impl<'p> Tracked<'p> {
    /// The pool's devices, for buffers that are lent.
    pub fn bounce(&self) -> &Bounce<'p> {
        &self.bounce
    }

    /// Makes data for the driver of a buffer.
    pub fn buffer(&self, inner: Bounced<'p, 512>) -> TrackedBuffer<'p> {
        TrackedBuffer {
            address: inner.bus_address(),
            size: inner.size(),
            inner: Some(inner),
            memory: self.memory.clone(),
        }
    }
}

/// Data of a transfer.
pub struct TrackedBuffer<'p> {
    inner: Option<Bounced<'p, 512>>,
    address: u32,
    size: usize,
    memory: Arc<Memory>,
}

impl std::fmt::Debug for TrackedBuffer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {:#010x}", self.size, self.address)
    }
}

impl<'p> TrackedBuffer<'p> {
    /// Takes the buffer of the pool out again.
    pub fn into_inner(mut self) -> Option<Bounced<'p, 512>> {
        self.inner.take()
    }
}

// SAFETY: as of the pool.
unsafe impl<'p> Dma for Tracked<'p> {
    type Coherent = Descriptors<'p, 512>;
    type Buffer = TrackedBuffer<'p>;

    fn coherent(&self, size: usize) -> Result<Self::Coherent, NoMemory> {
        Dma::coherent(&self.bounce, size)
    }

    fn outgoing(&self, data: &[u8]) -> Result<Self::Buffer, NoMemory> {
        Ok(self.buffer(self.bounce.outgoing(data)?))
    }

    fn incoming(&self, size: usize) -> Result<Self::Buffer, NoMemory> {
        Ok(self.buffer(self.bounce.incoming(size)?))
    }
}

impl Buffer for TrackedBuffer<'_> {
    fn bus_address(&self) -> u32 {
        self.address
    }

    fn size(&self) -> usize {
        self.size
    }

    fn copy_from(&mut self, offset: usize, into: &mut [u8]) {
        if let Some(inner) = &mut self.inner {
            inner.copy_from(offset, into);
        }
    }
}

impl Drop for TrackedBuffer<'_> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            drop(inner);
            let lines = self.size.next_multiple_of(32) as u32;
            self.memory.retire(self.address, lines);
        }
    }
}

/// What a test may look at and do beside the driver.
pub struct Wii<'p> {
    pub controller: Controller,
    pub pool: &'p Pool<'p>,
    /// The pipe on which something is under way.
    pub busy: Cell<Option<PipeId>>,
    /// What is to happen at a microframe.
    plan: RefCell<Option<(u64, Plan)>>,
    /// The driver is asked to look after an interrupt and when something is due, and not in every microframe.
    interrupt: Cell<Option<&'static Interrupt>>,
    /// The controller could not be stopped: what it may touch is never given back.
    pub is_runaway: Cell<bool>,
}

type Plan = Box<dyn FnOnce(&Wii<'_>, &mut Driver<'_>)>;

/// The registers as bytes in the order of a big-endian bus, and a clock that moves when somebody looks.
#[derive(Clone)]
pub struct Board(Controller);

impl Registers for Board {
    fn read(&self, offset: usize) -> u32 {
        let bytes = self.0.load(offset as u32, 4);
        u32::from_be_bytes(bytes.try_into().unwrap())
    }

    fn write(&self, offset: usize, value: u32) {
        self.0.store(offset as u32, &value.to_be_bytes());
    }
}

impl Platform for Board {
    fn now_us(&self) -> u64 {
        // Waits are loops that ask for the time.
        self.0.advance_us(1);
        self.0.now_us()
    }

    fn serves_port(&self, port: u8) -> bool {
        // Bluetooth.
        port != 2
    }

    fn prepare(&self, registers: &dyn Registers) {
        enable_interrupt(registers);
    }
}

/// Runs a test with `kib` KiB of pool, and a cache and a controller that do as a seed says; then checks that nothing is left.
pub fn on_a_wii<T>(kib: u32, seed: u64, test: impl FnOnce(&Wii<'_>, Driver<'_>) -> T) -> T {
    let bytes = kib << 10;
    let memory = Arc::new(Memory::new(0, POOL - MEM2 + bytes));
    memory.set_adversary(adversary(seed));
    let controller = Controller::wii(memory.clone());
    controller.set_adversary(adversary(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    // SAFETY: nobody else uses the range, and the memory outlives the pool.
    let provider = unsafe { memory.carve(POOL, bytes) }.unwrap();
    let mut storage = Box::new(Storage::<GROUPS, LIVE>::new());
    let pool: Pool = Pool::new(&provider, &mut *storage).unwrap();
    let (result, is_runaway) = {
        let dma = Tracked {
            bounce: Bounce::new(&pool, Mem2::CONSTRAINTS).unwrap(),
            memory: memory.clone(),
        };
        let board = Board(controller.clone());
        let mut ehci = Ehci::new(board.clone(), dma, board).unwrap();
        ehci.start().unwrap();
        let wii = Wii {
            controller: controller.clone(),
            pool: &pool,
            busy: Cell::default(),
            plan: RefCell::default(),
            interrupt: Cell::default(),
            is_runaway: Cell::default(),
        };
        (test(&wii, ehci), wii.is_runaway.get())
    };
    let stats = pool.stats();
    assert_eq!(stats.live != 0, is_runaway, "{stats:?}");
    assert_eq!(stats.quarantined, 0, "{stats:?}");
    let violations = memory.take_violations();
    assert!(violations.is_empty(), "{}", report(&violations));
    result
}

fn adversary(seed: u64) -> Adversary {
    match seed {
        0 => Adversary::Idle,
        seed => Adversary::seeded(seed),
    }
}

fn report(violations: &[hollywood_sim::Violation]) -> String {
    let lines = violations.iter().take(5).map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

impl Wii<'_> {
    /// Lets something happen at a microframe.
    pub fn at(&self, microframe: u64, what: impl FnOnce(&Wii<'_>, &mut Driver<'_>) + 'static) {
        self.plan.replace(Some((microframe, Box::new(what))));
    }

    /// A microframe, and a look.
    pub fn step(&self, ehci: &mut Driver<'_>) {
        let now = self.controller.microframe();
        let due = self.plan.borrow_mut().take_if(|plan| now >= plan.0);
        if let Some((_, what)) = due {
            what(self, ehci);
        }
        self.controller.step_microframe();
        if self.is_due(ehci) {
            let before = self.controller.now_us();
            ehci.poll();
            let waited = self.controller.now_us() - before;
            assert!(waited < 20, "a look takes {waited} us");
        }
    }

    /// So many microframes.
    pub fn steps(&self, ehci: &mut Driver<'_>, microframes: u32) {
        for _ in 0..microframes {
            self.step(ehci);
        }
    }

    /// From now on the driver looks after interrupts and when something is due.
    pub fn sleep_between_interrupts(&self, ehci: &mut Driver<'_>) {
        let interrupt = &*Box::leak(Box::new(Interrupt::new()));
        ehci.enable_interrupts(interrupt);
        self.interrupt.set(Some(interrupt));
    }

    /// Starts a controller that has failed.
    pub fn restart(&self, ehci: &mut Driver<'_>) -> Result<(), StartError> {
        ehci.start()?;
        if self.interrupt.get().is_some() {
            self.sleep_between_interrupts(ehci);
        }
        Ok(())
    }

    fn is_due(&self, ehci: &Driver<'_>) -> bool {
        let Some(interrupt) = self.interrupt.get() else {
            return true;
        };
        let board = ehci.registers().raw();
        self.controller.interrupt() && interrupt.handle(board)
            || board.now_us() >= ehci.next_deadline()
    }

    /// Microframes until nothing is under way any more but the descriptors.
    pub fn settle(&self, ehci: &mut Driver<'_>) {
        for _ in 0..1600 {
            if self.pool.stats().live == 1 {
                return;
            }
            self.step(ehci);
        }
        assert_eq!(ehci.state(), State::Running);
        panic!("something is left: {:?}", self.pool.stats());
    }
}
