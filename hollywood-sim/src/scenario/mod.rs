//! What a driver does to a controller, with no driver: the same descriptors, byte for byte, for any controller on any [`Bus`].

mod host;
mod script;

pub use host::{Host, Queue, Td};
pub use script::{Script, Step, Transcript, blocks};

use crate::controller::Controller;

/// A controller, its memory, and its time.
pub trait Bus {
    /// Reads the register at `offset` bytes from the first capability register.
    fn read_register(&mut self, offset: u32) -> u32;

    /// Writes the register at `offset`.
    fn write_register(&mut self, offset: u32, value: u32);

    /// Reads memory as the controller sees it.
    fn read_memory(&mut self, address: u32, len: u32) -> Vec<u8>;

    /// Writes memory so that the controller sees it. `address` is a multiple of 4, and what is behind the bytes in their last word becomes zero.
    fn write_memory(&mut self, address: u32, bytes: &[u8]);

    /// Lets time pass, and the controller work.
    fn advance_us(&mut self, us: u64);

    /// Pulls the device of a port, counted from 0.
    fn unplug(&mut self, port: usize);
}

/// The simulated controller. All accesses to memory are words past the cache.
impl Bus for Controller {
    #[track_caller]
    fn read_register(&mut self, offset: u32) -> u32 {
        self.read32(offset)
    }

    #[track_caller]
    fn write_register(&mut self, offset: u32, value: u32) {
        self.write32(offset, value);
    }

    #[track_caller]
    fn read_memory(&mut self, address: u32, len: u32) -> Vec<u8> {
        self.memory().uncached_load(address, len)
    }

    #[track_caller]
    fn write_memory(&mut self, address: u32, bytes: &[u8]) {
        for (at, chunk) in bytes.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let value = u32::from_be_bytes(word);
            self.memory()
                .uncached_store32(address + 4 * at as u32, value);
        }
    }

    #[track_caller]
    fn advance_us(&mut self, us: u64) {
        Controller::advance_us(self, us);
    }

    fn unplug(&mut self, port: usize) {
        Controller::unplug(self, port);
    }
}
