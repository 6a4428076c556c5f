//! A mailbox with an IOS behind it that sees memory by physical addresses only, and answers when a test says so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

use mem2_dma::{BusAddr, Constraints, Offset, Pool, Storage};

use super::{Ipc, Mailbox};

/// First physical address of the pool.
pub const BASE: u32 = 0x1000_4000;
const BYTES: usize = 64 * 1024;

/// What the tests hold of IOS.
pub struct Ios {
    memory: *mut u8,
    base: u32,
    /// Blocks that IOS has, oldest first.
    pub has: VecDeque<u32>,
    /// Blocks that were ever announced, as IOS has read them: 16 words.
    pub seen: Vec<[u32; 16]>,
    replies: VecDeque<u32>,
    acknowledged: bool,
    unacknowledged: usize,
    /// IOS takes nothing any more.
    pub dead: bool,
    /// IOS takes requests, but does not tell until this is off.
    pub slow: bool,
    pub now: u64,
}

impl Ios {
    fn at(&self, address: u32, len: usize) -> *mut u8 {
        let offset = (address - self.base) as usize;
        assert!(offset + len <= BYTES, "IOS was given {address:#x}");
        self.memory.wrapping_add(offset)
    }

    pub fn read(&self, address: u32, len: usize) -> Vec<u8> {
        let start = self.at(address, len);
        // SAFETY: within the pool's memory, which outlives the test.
        (0..len)
            .map(|index| unsafe { start.add(index).read_volatile() })
            .collect()
    }

    pub fn write(&self, address: u32, bytes: &[u8]) {
        let start = self.at(address, bytes.len());
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { start.add(index).write_volatile(*byte) };
        }
    }

    pub fn word(&self, address: u32) -> u32 {
        u32::from_be_bytes(self.read(address, 4).try_into().unwrap())
    }

    /// The words of the block that was announced last.
    pub fn last(&self) -> [u32; 16] {
        *self.seen.last().unwrap()
    }

    /// Gives the `index`th block that IOS has back, as IOS does: command 8, and the old command in the place of the descriptor.
    pub fn reply(&mut self, index: usize, result: i32) {
        let block = self.has.remove(index).unwrap();
        let command = self.word(block);
        for (offset, word) in [(0, 8), (4, result as u32), (8, command)] {
            self.write(block + offset, &word.to_be_bytes());
        }
        self.replies.push_back(block);
    }

    /// Gives back something that nobody has sent.
    pub fn reply_stray(&mut self, address: u32) {
        self.replies.push_back(address);
    }

    /// Gives the oldest block back untouched.
    pub fn return_unanswered(&mut self) {
        let block = self.has.pop_front().unwrap();
        self.replies.push_back(block);
    }
}

/// The driver's side.
pub struct FakeMailbox(Rc<RefCell<Ios>>);

impl Mailbox for FakeMailbox {
    fn reset(&mut self) {
        self.0.borrow_mut().replies.clear();
    }

    unsafe fn announce(&mut self, request: u32) {
        let mut ios = self.0.borrow_mut();
        ios.unacknowledged += 1;
        assert_eq!(
            ios.unacknowledged, 1,
            "two requests without an acknowledgement"
        );
        if ios.dead {
            return;
        }
        let words: Vec<u32> = (0..16).map(|index| ios.word(request + 4 * index)).collect();
        ios.seen.push(words.try_into().unwrap());
        ios.has.push_back(request);
        ios.acknowledged = true;
    }

    fn take_acknowledgement(&mut self) -> bool {
        let mut ios = self.0.borrow_mut();
        if ios.slow || !ios.acknowledged {
            return false;
        }
        ios.acknowledged = false;
        ios.unacknowledged -= 1;
        true
    }

    fn take_reply(&mut self) -> Option<u32> {
        self.0.borrow_mut().replies.pop_front()
    }

    fn now_us(&self) -> u64 {
        self.0.borrow().now
    }
}

pub type Driver = Ipc<'static, FakeMailbox>;

/// A driver, IOS, and the pool between them.
pub fn rig() -> (Driver, Rc<RefCell<Ios>>, &'static Pool<'static>) {
    rig_at(BASE)
}

/// The same with the pool anywhere.
pub fn rig_at(base: u32) -> (Driver, Rc<RefCell<Ios>>, &'static Pool<'static>) {
    #[repr(align(4096))]
    struct Memory([u8; BYTES]);
    // Leaked: a test's driver and pool live for ever, as the program's do.
    let memory: &'static mut Memory =
        std::boxed::Box::leak(std::boxed::Box::new(Memory([0xAA; BYTES])));
    let start = memory.0.as_mut_ptr();
    let provider = Offset::new(&mut memory.0, BusAddr::new(base)).unwrap();
    let provider = std::boxed::Box::leak(std::boxed::Box::new(provider));
    let storage = std::boxed::Box::leak(std::boxed::Box::new(Storage::<4, 64>::new()));
    let pool = std::boxed::Box::leak(std::boxed::Box::new(Pool::new(provider, storage).unwrap()));
    let ios = Rc::new(RefCell::new(Ios {
        memory: start,
        base,
        has: VecDeque::new(),
        seen: Vec::new(),
        replies: VecDeque::new(),
        acknowledged: false,
        unacknowledged: 0,
        dead: false,
        slow: false,
        now: 0,
    }));
    let device = pool.attach(Constraints::NONE.align(32)).unwrap();
    (Ipc::new(FakeMailbox(ios.clone()), device), ios, pool)
}
