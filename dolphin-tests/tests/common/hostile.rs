//! A stick that misbehaves on cue: hollywood-sim's, behind `usb-redir`, with faults in between.

use dolphin_tests::{Answer, Ending, RedirectedDevice, RedirectedIdentity};
use hollywood_sim::device::{End, Function, MassStorage, Peripheral, Setup};
use std::time::Duration;

/// Which transfers a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Control transfers with this bRequest.
    Request(u8),
    /// Command block wrappers of this SCSI operation.
    Command(u8),
    /// Data of this operation, either way.
    Data(u8),
    /// Status wrappers of this operation.
    Status(u8),
}

/// What happens instead of what should.
#[derive(Debug, Clone, Copy)]
pub enum Effect {
    /// The endpoint halts.
    Stall,
    /// More comes than was asked for.
    Babble,
    /// The transactions fail.
    Fail,
    /// Only so many bytes come.
    Short(usize),
    /// It takes so long.
    Late(Duration),
    /// Nothing comes, ever.
    Silence,
    /// The stick is pulled.
    Vanish,
    /// The bytes are others.
    Change(fn(&mut Vec<u8>)),
}

/// A fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub at: At,
    pub effect: Effect,
    /// So many of these transfers are right first.
    pub skip: u32,
    /// So many are wrong then.
    pub times: u32,
}

/// The stick. It lives in one thread.
pub struct HostileStick {
    pub stick: Peripheral<MassStorage>,
    pub faults: Vec<Fault>,
    /// Operation of the command that is being carried out.
    operation: u8,
}

impl HostileStick {
    pub fn new(stick: MassStorage, faults: &[Fault]) -> Self {
        let mut stick = stick.plug();
        // A device that has nothing says so at once: who waits is the host.
        stick.patience = 0;
        Self {
            stick,
            faults: faults.to_vec(),
            operation: 0,
        }
    }

    /// The effect on the next transfer of a kind, if one is due.
    fn effect(&mut self, at: At) -> Option<Effect> {
        let fault = self.faults.iter_mut().find(|fault| fault.at == at)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times = fault.times.checked_sub(1)?;
        Some(fault.effect)
    }

    /// The end of a transfer to `endpoint`, given how it would end without a fault.
    fn end(
        &mut self,
        effect: Option<Effect>,
        endpoint: u8,
        regular: impl FnOnce(&mut Peripheral<MassStorage>) -> Ending,
    ) -> Answer {
        let Some(effect) = effect else {
            return regular(&mut self.stick).into();
        };
        match effect {
            Effect::Stall => {
                if endpoint & 0x0F != 0 {
                    self.stick.halt(endpoint);
                }
                Ending::Stall(Vec::new()).into()
            }
            Effect::Fail => Ending::Failed.into(),
            Effect::Silence => Ending::Never.into(),
            Effect::Vanish => Ending::Gone.into(),
            Effect::Late(after) => Answer {
                after,
                end: regular(&mut self.stick),
            },
            Effect::Babble => match regular(&mut self.stick) {
                Ending::Success(bytes) => Ending::Babble(bytes).into(),
                other => other.into(),
            },
            Effect::Short(bytes) => match regular(&mut self.stick) {
                Ending::Success(mut data) => {
                    data.truncate(bytes);
                    Ending::Success(data).into()
                }
                other => other.into(),
            },
            Effect::Change(change) => match regular(&mut self.stick) {
                Ending::Success(mut data) => {
                    change(&mut data);
                    Ending::Success(data).into()
                }
                other => other.into(),
            },
        }
    }
}

impl RedirectedDevice for HostileStick {
    fn identity(&self) -> RedirectedIdentity {
        let descriptors = self.stick.function.descriptors();
        let word = |at: usize| {
            let bytes = descriptors.device.get(at..at + 2);
            bytes.map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
        };
        RedirectedIdentity {
            speed: 2,
            vendor: word(8),
            product: word(10),
            // Whatever its descriptors say.
            bulk: vec![(0x81, 512), (0x02, 512)],
        }
    }

    fn reset(&mut self) {
        self.stick.reset_bus();
    }

    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Answer {
        let setup = Setup::from_bytes(setup);
        let effect = self.effect(At::Request(setup.request));
        self.end(effect, 0, |stick| match stick.control(setup, data) {
            Ok(data) => Ending::Success(data),
            Err(_) => Ending::Stall(Vec::new()),
        })
    }

    fn bulk_in(&mut self, endpoint: u8, length: usize) -> Answer {
        // Of a command status wrapper.
        let at = if length == 13 {
            At::Status(self.operation)
        } else {
            At::Data(self.operation)
        };
        let effect = self.effect(at);
        self.end(effect, endpoint, |stick| {
            match stick.transfer_in(endpoint & 0x0F, length) {
                Ok(bytes) => Ending::Success(bytes),
                Err(end) => failure(end),
            }
        })
    }

    fn bulk_out(&mut self, endpoint: u8, data: &[u8]) -> Answer {
        let at = match data {
            [b'U', b'S', b'B', b'C', ..] if data.len() == 31 => {
                self.operation = data[15];
                At::Command(self.operation)
            }
            _ => At::Data(self.operation),
        };
        let effect = self.effect(at);
        self.end(effect, endpoint, |stick| {
            match stick.transfer_out(endpoint, data) {
                Ok(()) => Ending::Success(Vec::new()),
                Err(end) => failure(end),
            }
        })
    }
}

fn failure(end: End) -> Ending {
    match end {
        End::Stall(bytes, _) => Ending::Stall(bytes),
        End::Overflow(bytes) => Ending::Babble(bytes),
        End::Timeout(..) => Ending::Never,
        End::NoEndpoint => Ending::Failed,
    }
}
