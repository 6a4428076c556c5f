//! Faults of the bus and of devices, transaction by transaction: a wrapper around any device.

use super::{DataPid, Device, Packet, Pid, Response, Speed, Split, Token};
use crate::Random;

/// What goes wrong with a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Fault {
    /// The device refuses for now. It does not see the token.
    Nak,
    /// The endpoint halts, until the host clears that. Endpoint 0 until the next SETUP (USB 2.0, 8.5.3.4).
    Stall,
    /// The token does not arrive: a time-out.
    Silence,
    /// The device does what it was asked; the answer fails its CRC, or the handshake is lost.
    LostAnswer,
    /// The host's handshake after data is lost: the device sends the packet again.
    LostAcknowledge,
    /// An answer that makes no sense for the token.
    Nonsense,
    /// Data carry the other toggle.
    Toggle,
    /// Data end early: so many bytes are left.
    Cut(usize),
    /// Data go on for so many bytes more: babble, if nobody expects them.
    Grow(usize),
    /// The device answers nothing any more.
    Gone,
}

impl Fault {
    /// One of each kind, for trying them one after the other.
    pub const ALL: [Self; 10] = [
        Self::Nak,
        Self::Stall,
        Self::Silence,
        Self::LostAnswer,
        Self::LostAcknowledge,
        Self::Nonsense,
        Self::Toggle,
        Self::Cut(1),
        Self::Grow(1024),
        Self::Gone,
    ];

    /// Those after which a host that does everything right has lost nothing: retries and toggles take care of them.
    pub const HARMLESS: [Self; 5] = [
        Self::Nak,
        Self::Silence,
        Self::LostAnswer,
        Self::LostAcknowledge,
        Self::Toggle,
    ];
}

/// Which transactions a fault is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct When {
    /// Those with this token only.
    pub pid: Option<Pid>,
    /// Those of this endpoint only.
    pub endpoint: Option<u8>,
    /// After so many of them.
    pub skip: u64,
}

impl When {
    /// The transaction after `skip` others.
    pub const fn after(skip: u64) -> Self {
        Self {
            pid: None,
            endpoint: None,
            skip,
        }
    }

    /// The first transaction of an endpoint and a kind.
    pub const fn at(pid: Pid, endpoint: u8) -> Self {
        Self {
            pid: Some(pid),
            endpoint: Some(endpoint),
            skip: 0,
        }
    }

    fn is(&self, token: Token) -> bool {
        self.pid.is_none_or(|pid| pid == token.pid)
            && self
                .endpoint
                .is_none_or(|endpoint| endpoint == token.endpoint)
    }
}

/// A line of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Which transactions.
    pub when: When,
    /// How many of them, in a row.
    pub times: u64,
    /// What happens to them.
    pub fault: Fault,
}

/// Who decides what goes wrong.
#[derive(Clone, Debug)]
enum Plan {
    Script(Vec<Line>),
    /// One transaction in so many, with one of these.
    Seeded(Random, u32, Vec<Fault>),
}

/// A device with faults.
#[derive(Clone, Debug)]
pub struct Faulty<D> {
    /// The device.
    pub device: D,
    /// Transactions so far.
    pub seen: u64,
    /// Faults so far.
    pub faults: u64,
    plan: Plan,
    /// Endpoints that a fault halted: bit 0 for endpoint 0 OUT, bit 16 for endpoint 0 IN.
    halted: u32,
    gone: bool,
    /// The next handshake of the host does not arrive.
    deaf: bool,
}

fn bit(token: Token) -> u32 {
    match (token.endpoint & 15, token.pid) {
        (0, _) => 1 | 1 << 16,
        (endpoint, Pid::In) => 1 << (16 + endpoint),
        (endpoint, _) => 1 << endpoint,
    }
}

impl<D: Device> Faulty<D> {
    /// Lets things go wrong as a script says.
    pub fn scripted(device: D, script: impl IntoIterator<Item = Line>) -> Self {
        Self::new(device, Plan::Script(script.into_iter().collect()))
    }

    /// Lets one transaction in `one_in` go wrong, at random, reproducibly, each time with one of `faults`.
    pub fn seeded(device: D, seed: u64, one_in: u32, faults: impl Into<Vec<Fault>>) -> Self {
        let random = Random::new(seed);
        Self::new(device, Plan::Seeded(random, one_in, faults.into()))
    }

    /// Lets one fault happen, to the transaction after `skip` others.
    pub fn once(device: D, skip: u64, fault: Fault) -> Self {
        let line = Line {
            when: When::after(skip),
            times: 1,
            fault,
        };
        Self::scripted(device, [line])
    }

    fn new(device: D, plan: Plan) -> Self {
        Self {
            device,
            seen: 0,
            faults: 0,
            plan,
            halted: 0,
            gone: false,
            deaf: false,
        }
    }

    /// Lets nothing go wrong from now on. What is halted or gone stays so.
    pub fn behave(&mut self) {
        self.plan = Plan::Script(Vec::new());
    }

    fn next_fault(&mut self, token: Token) -> Option<Fault> {
        match &mut self.plan {
            Plan::Script(lines) => {
                let mut fault = None;
                for line in lines.iter_mut().filter(|line| line.when.is(token)) {
                    if line.when.skip != 0 {
                        line.when.skip -= 1;
                    } else if fault.is_none() && line.times != 0 {
                        line.times -= 1;
                        fault = Some(line.fault);
                    }
                }
                fault
            }
            Plan::Seeded(random, one_in, faults) => {
                let hit = *one_in != 0 && random.below(*one_in) == 0 && !faults.is_empty();
                hit.then(|| faults[random.below(faults.len() as u32) as usize])
            }
        }
    }

    fn apply(&mut self, fault: Fault, token: Token, data: Option<&Packet>) -> Response {
        match fault {
            Fault::Nak if token.pid == Pid::Setup => Response::Silence,
            Fault::Nak => Response::Nak,
            Fault::Stall if token.pid == Pid::Setup => {
                // It takes the request, and refuses it.
                self.halted |= bit(token);
                Response::Ack
            }
            Fault::Stall => {
                self.halted |= bit(token);
                Response::Stall
            }
            Fault::Silence => Response::Silence,
            Fault::Gone => {
                self.gone = true;
                Response::Silence
            }
            Fault::LostAnswer => match self.device.transaction(token, data) {
                Response::Silence => Response::Silence,
                Response::Data(_) => Response::Garbled,
                _ => Response::Silence,
            },
            Fault::Nonsense if token.pid == Pid::In => Response::Ack,
            Fault::Nonsense => Response::Data(Packet {
                pid: DataPid::Data0,
                bytes: Vec::new(),
            }),
            Fault::LostAcknowledge => {
                let response = self.device.transaction(token, data);
                self.deaf = matches!(response, Response::Data(_));
                response
            }
            Fault::Toggle | Fault::Cut(_) | Fault::Grow(_) => {
                match self.device.transaction(token, data) {
                    Response::Data(packet) => Response::Data(self.spoil(fault, packet)),
                    other => other,
                }
            }
        }
    }

    fn spoil(&mut self, fault: Fault, mut packet: Packet) -> Packet {
        match fault {
            Fault::Toggle => {
                packet.pid = match packet.pid {
                    DataPid::Data0 => DataPid::Data1,
                    _ => DataPid::Data0,
                };
                // The host takes it for an old packet; the device keeps it.
                self.deaf = true;
            }
            Fault::Cut(len) => packet.bytes.truncate(len),
            Fault::Grow(len) => packet.bytes.resize(packet.bytes.len() + len, 0xbb),
            _ => {}
        }
        packet
    }

    /// Lets go of halts as the device itself does.
    fn listen(&mut self, token: Token, data: Option<&Packet>) {
        let (Pid::Setup, Some(packet)) = (token.pid, data) else {
            return;
        };
        self.halted &= !(1 | 1 << 16);
        match packet.bytes[..] {
            // CLEAR_FEATURE(ENDPOINT_HALT), SET_CONFIGURATION, SET_INTERFACE.
            [2, 1, 0, 0, endpoint, ..] => {
                let pid = if endpoint & 0x80 != 0 {
                    Pid::In
                } else {
                    Pid::Out
                };
                let endpoint = endpoint & 15;
                self.halted &= !bit(Token {
                    pid,
                    endpoint,
                    ..token
                });
            }
            [0, 9, ..] | [1, 11, ..] => self.halted = 0,
            _ => {}
        }
    }
}

impl<D: Device> Device for Faulty<D> {
    fn speed(&self) -> Speed {
        self.device.speed()
    }

    fn reset(&mut self) {
        self.halted = 0;
        self.deaf = false;
        self.device.reset();
    }

    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response {
        self.deaf = false;
        if self.gone {
            return Response::Silence;
        }
        self.seen += 1;
        let fault = self.next_fault(token);
        if let Some(fault) = fault {
            self.faults += 1;
            if fault != Fault::Silence {
                self.listen(token, data);
            }
            return self.apply(fault, token, data);
        }
        self.listen(token, data);
        if self.halted & bit(token) != 0 && token.pid != Pid::Setup {
            return Response::Stall;
        }
        self.device.transaction(token, data)
    }

    fn acknowledge(&mut self, token: Token) {
        if !std::mem::take(&mut self.deaf) {
            self.device.acknowledge(token);
        }
    }

    fn split(&mut self, split: Split, token: Token, data: Option<&Packet>) -> Response {
        if self.gone {
            return Response::Silence;
        }
        self.device.split(split, token, data)
    }

    fn microframe(&mut self) {
        self.device.microframe();
    }

    fn wakes(&mut self) -> bool {
        !self.gone && self.device.wakes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Function, Keyboard, Peripheral, Setup};
    use super::*;

    const IN: Token = Token {
        pid: Pid::In,
        address: 0,
        endpoint: 1,
    };

    fn keyboard() -> Peripheral<Keyboard> {
        let mut keyboard = Keyboard::new(Speed::High).plug();
        keyboard.control(Setup::set_configuration(1), &[]).unwrap();
        keyboard.function.press(4);
        keyboard
    }

    fn setup(device: &mut impl Device, setup: Setup) -> Response {
        let token = Token {
            pid: Pid::Setup,
            endpoint: 0,
            ..IN
        };
        let packet = Packet {
            pid: DataPid::Data0,
            bytes: setup.to_bytes().to_vec(),
        };
        device.transaction(token, Some(&packet))
    }

    #[test]
    fn every_fault_has_its_answer() {
        let good = keyboard().transaction(IN, None);
        let Response::Data(packet) = good.clone() else {
            panic!("no report");
        };
        let data = |pid, bytes: &[u8]| {
            let bytes = bytes.to_vec();
            Response::Data(Packet { pid, bytes })
        };
        let grown = [&packet.bytes[..], &[0xbb; 1024]].concat();
        let answers = [
            Response::Nak,
            Response::Stall,
            Response::Silence,
            Response::Garbled,
            good,
            Response::Ack,
            data(DataPid::Data1, &packet.bytes),
            data(DataPid::Data0, &packet.bytes[..1]),
            data(DataPid::Data0, &grown),
            Response::Silence,
        ];
        for (fault, answer) in Fault::ALL.into_iter().zip(answers) {
            let mut device = Faulty::once(keyboard(), 0, fault);
            assert_eq!(device.transaction(IN, None), answer, "{fault:?}");
        }
    }

    #[test]
    fn harmless_faults_lose_nothing() {
        for fault in Fault::HARMLESS {
            let mut device = Faulty::once(keyboard(), 0, fault);
            let first = device.transaction(IN, None);
            // A host takes what has the toggle that it expects.
            let mut key = None;
            if let Response::Data(packet) = &first {
                key = (packet.pid == DataPid::Data0).then(|| packet.bytes[2]);
                device.acknowledge(IN);
            }
            let Response::Data(packet) = device.transaction(IN, None) else {
                panic!("{fault:?}");
            };
            match key {
                None => assert_eq!((packet.pid, packet.bytes[2]), (DataPid::Data0, 4)),
                // The same again, which the host drops.
                Some(key) => assert_eq!((packet.pid, key), (DataPid::Data0, 4)),
            }
        }
    }

    #[test]
    fn a_stall_lasts_until_the_halt_is_cleared() {
        let mut device = Faulty::once(keyboard(), 0, Fault::Stall);
        assert_eq!(device.transaction(IN, None), Response::Stall);
        assert_eq!(device.transaction(IN, None), Response::Stall);
        setup(&mut device, Setup::clear_halt(0x81));
        assert!(matches!(device.transaction(IN, None), Response::Data(_)));
    }

    #[test]
    fn a_request_that_is_refused_stalls_until_the_next_one() {
        let line = Line {
            when: When::at(Pid::Setup, 0),
            times: 1,
            fault: Fault::Stall,
        };
        let mut device = Faulty::scripted(keyboard(), [line]);
        let zero = Token { endpoint: 0, ..IN };
        assert_eq!(setup(&mut device, Setup::set_address(1)), Response::Ack);
        assert_eq!(device.transaction(zero, None), Response::Stall);
        assert_eq!(setup(&mut device, Setup::set_address(0)), Response::Ack);
        assert!(matches!(device.transaction(zero, None), Response::Data(_)));
    }

    #[test]
    fn a_script_counts_what_it_is_for() {
        let line = Line {
            when: When {
                skip: 2,
                ..When::at(Pid::In, 1)
            },
            times: 2,
            fault: Fault::Silence,
        };
        let mut device = Faulty::scripted(keyboard(), [line]);
        let silent = (0..6).map(|_| {
            setup(&mut device, Setup::set_address(0));
            device.transaction(IN, None) == Response::Silence
        });
        let silent: Vec<bool> = silent.collect();
        assert_eq!(silent, [false, false, true, true, false, false]);
    }

    #[test]
    fn a_seed_gives_the_same_faults_again() {
        let answers = |seed| {
            let mut device = Faulty::seeded(keyboard(), seed, 3, Fault::HARMLESS);
            let answers: Vec<_> = (0..50).map(|_| device.transaction(IN, None)).collect();
            assert!(device.faults > 5);
            answers
        };
        assert_eq!(answers(7), answers(7));
        assert_ne!(answers(7), answers(8));
    }

    #[test]
    fn what_is_gone_stays_gone() {
        let mut device = Faulty::once(keyboard(), 1, Fault::Gone);
        assert!(matches!(device.transaction(IN, None), Response::Data(_)));
        for _ in 0..3 {
            assert_eq!(device.transaction(IN, None), Response::Silence);
        }
    }
}
