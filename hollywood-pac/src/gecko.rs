//! USB Gecko: an adapter in a memory card slot that carries bytes to and from a PC.
//!
//! Commands (hardware notes, section 4.5; the top 16 bits of each transaction matter): `0x9000` identify, answers `0x0470`;
//! `0xB` with a byte sends it, bit 26 of the answer says accepted; `0xA000` receives, bit 27 says that bits 23:16 are a byte;
//! `0xC000` asks for room to send and `0xD000` for received bytes, both answer in bit 26. The adapter's flash is never addressed.
//!
//! Nothing here waits for ever: with no PC at the other end a transfer ends in [`Error::TimedOut`].

use core::fmt;
use core::ops::Deref;

use crate::exi::{Bus, Channel, Device, Frequency, Timeout};

/// One two-byte transaction on the bus that a USB Gecko is on.
pub trait Transact {
    /// Sends the two most significant bytes of `command`, returns the answer in the same bytes.
    ///
    /// # Errors
    /// [`Timeout`] when the bus did not complete it.
    fn transact(&mut self, command: u32) -> Result<u32, Timeout>;
}

impl<C: Deref<Target = Channel>> Transact for Bus<C> {
    /// Runs in a critical section: an interrupt between the halves of a transaction must not start one of its own.
    fn transact(&mut self, command: u32) -> Result<u32, Timeout> {
        critical_section::with(|_| self.select().transfer_half_word(command))
    }
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error {
    /// The EXI bus did not complete a transaction.
    Bus(Timeout),
    /// The adapter had no room, or no byte, for as many tries as allowed: nobody reads or writes at the other end.
    TimedOut,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(timeout) => timeout.fmt(f),
            Self::TimedOut => f.write_str("USB Gecko: nobody at the other end"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Timeout> for Error {
    fn from(timeout: Timeout) -> Self {
        Self::Bus(timeout)
    }
}

impl embedded_io::Error for Error {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self {
            Self::Bus(_) => embedded_io::ErrorKind::Other,
            Self::TimedOut => embedded_io::ErrorKind::TimedOut,
        }
    }
}

/// Tries before a blocking transfer gives up, unless told otherwise: about 50 ms on a Wii, at about 1 us a transaction.
pub const DEFAULT_TRIES: u32 = 50_000;

/// A USB Gecko that answered.
pub struct Gecko<T> {
    bus: T,
    tries: u32,
}

impl<C: Deref<Target = Channel>> Gecko<Bus<C>> {
    /// Looks for a USB Gecko in the slot of `channel`.
    ///
    /// # Errors
    /// Gives the channel back when none answers.
    pub fn probe(channel: C) -> Result<Self, C> {
        Self::probe_on(Bus::new(channel, Device::Device0, Frequency::Mhz32)).map_err(Bus::release)
    }
}

impl<T: Transact> Gecko<T> {
    /// Looks for a USB Gecko on `bus`.
    ///
    /// # Errors
    /// Gives the bus back when none answers.
    pub fn probe_on(mut bus: T) -> Result<Self, T> {
        match bus.transact(0x9000_0000) {
            Ok(answer) if answer >> 16 == 0x0470 => Ok(Self {
                bus,
                tries: DEFAULT_TRIES,
            }),
            _ => Err(bus),
        }
    }

    /// Sets the tries before a blocking transfer gives up.
    pub fn set_tries(&mut self, tries: u32) {
        self.tries = tries;
    }

    /// Gives the bus back.
    pub fn release(self) -> T {
        self.bus
    }

    /// Says whether the adapter has room for a byte to send.
    ///
    /// # Errors
    /// [`Timeout`] from the bus.
    pub fn can_send(&mut self) -> Result<bool, Timeout> {
        Ok(self.bus.transact(0xC000_0000)? & 0x0400_0000 != 0)
    }

    /// Says whether the adapter has a received byte.
    ///
    /// # Errors
    /// [`Timeout`] from the bus.
    pub fn can_receive(&mut self) -> Result<bool, Timeout> {
        Ok(self.bus.transact(0xD000_0000)? & 0x0400_0000 != 0)
    }

    /// Sends a byte if there is room, and says whether it did.
    ///
    /// # Errors
    /// [`Timeout`] from the bus: whether the byte went is unknown.
    pub fn try_send(&mut self, byte: u8) -> Result<bool, Timeout> {
        Ok(self.bus.transact(0xB000_0000 | u32::from(byte) << 20)? & 0x0400_0000 != 0)
    }

    /// Receives a byte if there is one.
    ///
    /// # Errors
    /// [`Timeout`] from the bus.
    pub fn try_receive(&mut self) -> Result<Option<u8>, Timeout> {
        let answer = self.bus.transact(0xA000_0000)?;
        Ok((answer & 0x0800_0000 != 0).then_some((answer >> 16) as u8))
    }
}

impl<T> embedded_io::ErrorType for Gecko<T> {
    type Error = Error;
}

impl<T: Transact> embedded_io::Write for Gecko<T> {
    /// Sends at least one byte, and as many more as there is room for.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(0);
        };
        let mut tries = self.tries;
        while !self.try_send(*first)? {
            tries = tries.checked_sub(1).ok_or(Error::TimedOut)?;
        }
        let mut sent = 1;
        for byte in rest {
            // A byte that the bus swallowed is reported by the next call; these went.
            match self.try_send(*byte) {
                Ok(true) => sent += 1,
                Ok(false) | Err(Timeout) => break,
            }
        }
        Ok(sent)
    }

    /// Does nothing: the adapter sends on its own and does not tell when it has.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl<T: Transact> embedded_io::Read for Gecko<T> {
    /// Receives at least one byte, and as many more as have arrived.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let Some((first, rest)) = bytes.split_first_mut() else {
            return Ok(0);
        };
        let mut tries = self.tries;
        *first = loop {
            match self.try_receive()? {
                Some(byte) => break byte,
                None => tries = tries.checked_sub(1).ok_or(Error::TimedOut)?,
            }
        };
        let mut received = 1;
        for slot in rest {
            match self.try_receive() {
                Ok(Some(byte)) => *slot = byte,
                Ok(None) | Err(Timeout) => break,
            }
            received += 1;
        }
        Ok(received)
    }
}

impl<T: Transact> embedded_io::WriteReady for Gecko<T> {
    fn write_ready(&mut self) -> Result<bool, Error> {
        Ok(self.can_send()?)
    }
}

impl<T: Transact> embedded_io::ReadReady for Gecko<T> {
    fn read_ready(&mut self) -> Result<bool, Error> {
        Ok(self.can_receive()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_io::{Read as _, ReadReady as _, Write as _, WriteReady as _};
    extern crate std;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// An adapter with a PC at the other end that takes `room` bytes.
    #[derive(Default)]
    struct Adapter {
        present: bool,
        room: usize,
        sent: Vec<u8>,
        arrived: VecDeque<u8>,
        hangs_after: Option<u32>,
        transactions: u32,
    }

    impl Transact for &mut Adapter {
        fn transact(&mut self, command: u32) -> Result<u32, Timeout> {
            assert_eq!(command & 0xFFFF, 0, "only two bytes are sent");
            self.transactions += 1;
            if self
                .hangs_after
                .is_some_and(|limit| self.transactions > limit)
            {
                return Err(Timeout);
            }
            if !self.present {
                return Ok(0xFFFF_0000);
            }
            Ok(match command >> 28 {
                0x9 => 0x0470_0000,
                0xA => self
                    .arrived
                    .pop_front()
                    .map_or(0, |byte| 0x0800_0000 | u32::from(byte) << 16),
                0xB if self.sent.len() < self.room => {
                    self.sent.push((command >> 20) as u8);
                    0x0400_0000
                }
                0xB => 0,
                0xC => u32::from(self.sent.len() < self.room) << 26,
                0xD => u32::from(!self.arrived.is_empty()) << 26,
                _ => panic!("command {command:#x} may reach the adapter's flash"),
            })
        }
    }

    #[test]
    fn an_empty_slot_is_no_gecko() {
        let mut slot = Adapter::default();
        assert!(Gecko::probe_on(&mut slot).is_err());
        let mut dead = Adapter {
            present: true,
            hangs_after: Some(0),
            ..Default::default()
        };
        assert!(Gecko::probe_on(&mut dead).is_err());
    }

    #[test]
    fn bytes_go_and_come_unchanged() {
        let all: Vec<u8> = (0..=255).collect();
        let mut adapter = Adapter {
            present: true,
            room: 256,
            arrived: all.iter().copied().collect(),
            ..Default::default()
        };
        let mut gecko = Gecko::probe_on(&mut adapter).ok().unwrap();
        assert!(gecko.write_ready().unwrap());
        gecko.write_all(&all).unwrap();
        assert!(!gecko.write_ready().unwrap());
        assert!(gecko.read_ready().unwrap());
        let mut back = [0; 256];
        gecko.read_exact(&mut back).unwrap();
        assert_eq!(back[..], all);
        assert!(!gecko.read_ready().unwrap());
        assert_eq!(adapter.sent, all);
    }

    #[test]
    fn a_write_takes_what_there_is_room_for() {
        let mut adapter = Adapter {
            present: true,
            room: 3,
            ..Default::default()
        };
        let mut gecko = Gecko::probe_on(&mut adapter).ok().unwrap();
        assert_eq!(gecko.write(b"hello"), Ok(3));
        assert_eq!(gecko.write(b""), Ok(0));
        assert_eq!(adapter.sent, b"hel");
    }

    #[test]
    fn with_nobody_at_the_other_end_transfers_time_out() {
        let mut adapter = Adapter {
            present: true,
            ..Default::default()
        };
        let mut gecko = Gecko::probe_on(&mut adapter).ok().unwrap();
        gecko.set_tries(10);
        assert_eq!(gecko.write(b"x"), Err(Error::TimedOut));
        assert_eq!(gecko.read(&mut [0; 4]), Err(Error::TimedOut));
        assert_eq!(adapter.transactions, 1 + 11 + 11);
    }

    #[test]
    fn bytes_before_a_bus_failure_are_counted_and_the_failure_comes_next() {
        let mut adapter = Adapter {
            present: true,
            room: 9,
            hangs_after: Some(3),
            ..Default::default()
        };
        let mut gecko = Gecko::probe_on(&mut adapter).ok().unwrap();
        assert_eq!(gecko.write(b"abc"), Ok(2));
        assert_eq!(gecko.write(b"c"), Err(Error::Bus(Timeout)));
    }
}
