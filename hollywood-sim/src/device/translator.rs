//! A transaction translator: it takes the beginnings of slow transactions, carries them out on its own bus, and hands over the results (USB 2.0, 11.14 to 11.22).

use super::hub::Clear;
use super::{DataPid, Packet, Part, Pid, Response, Speed, Split, Token};

/// Buffers for bulk and control transactions (11.17: two at least).
const BUFFERS: usize = 2;
/// Microframes after which nobody asks for a periodic result any more: a frame and a half.
const STALE: u32 = 12;
/// Tries of a bulk or control transaction (11.17.1).
const TRIES: u32 = 3;

const ISOCHRONOUS: u8 = 1;
const INTERRUPT: u8 = 3;

#[derive(Default)]
pub(super) struct Translator {
    transactions: Vec<Transaction>,
    /// Received data are handed over in pieces of this size, if it is not 0.
    pub piece: usize,
}

struct Transaction {
    split: Split,
    token: Token,
    data: Option<Packet>,
    state: State,
    age: u32,
    tries: u32,
}

enum State {
    /// An isochronous one whose last part is still to come.
    Gathering,
    Pending,
    Done(Response),
}

impl Transaction {
    fn is_periodic(&self) -> bool {
        matches!(self.split.kind, ISOCHRONOUS | INTERRUPT)
    }

    /// Whether a split is about the same transaction (11.17.2): device, endpoint, kind, and for all but control the direction.
    fn matches(&self, split: Split, token: Token) -> bool {
        let same = |a: Pid, b: Pid| split.kind == 0 || (a == Pid::In) == (b == Pid::In);
        self.split.port == split.port
            && self.split.kind == split.kind
            && (self.token.address, self.token.endpoint) == (token.address, token.endpoint)
            && same(self.token.pid, token.pid)
    }
}

impl Translator {
    pub(super) fn clear(&mut self, clear: &Clear) {
        let Clear::Buffer(value) = clear else {
            self.transactions.clear();
            return;
        };
        // wValue of CLEAR_TT_BUFFER (table 11-17).
        let (endpoint, address) = ((value & 15) as u8, (value >> 4 & 0x7f) as u8);
        let (kind, is_in) = ((value >> 11 & 3) as u8, value >> 15 != 0);
        self.transactions.retain(|t| {
            let place = (t.token.endpoint, t.token.address, t.split.kind);
            let direction = kind == 0 || (t.token.pid == Pid::In) == is_in;
            !(place == (endpoint, address, kind) && direction)
        });
    }

    pub(super) fn split(&mut self, split: Split, token: Token, data: Option<&Packet>) -> Response {
        if split.complete {
            return self.complete(split, token);
        }
        match split.kind {
            ISOCHRONOUS | INTERRUPT => {
                self.start_periodic(split, token, data);
                // Nobody expects an answer (11.20).
                Response::Silence
            }
            _ => self.start(split, token, data),
        }
    }

    fn start(&mut self, split: Split, token: Token, data: Option<&Packet>) -> Response {
        // A new beginning for the same endpoint takes the place of a result that nobody asked for.
        self.transactions.retain(|t| !t.matches(split, token));
        let used = self
            .transactions
            .iter()
            .filter(|t| !t.is_periodic())
            .count();
        if used == BUFFERS {
            return Response::Nak;
        }
        self.add(split, token, data, State::Pending);
        Response::Ack
    }

    fn start_periodic(&mut self, split: Split, token: Token, data: Option<&Packet>) {
        if split.kind == ISOCHRONOUS && matches!(split.part, Part::Middle | Part::End) {
            let begun = self.transactions.iter_mut().rev();
            let mut begun = begun.filter(|t| t.matches(split, token));
            if let (Some(transaction), Some(more)) = (begun.next(), data) {
                if let Some(data) = &mut transaction.data {
                    data.bytes.extend_from_slice(&more.bytes);
                }
                if split.part == Part::End {
                    transaction.state = State::Pending;
                }
            }
            return;
        }
        self.transactions.retain(|t| !t.matches(split, token));
        let begins = split.kind == ISOCHRONOUS && split.part == Part::Begin && data.is_some();
        let state = if begins {
            State::Gathering
        } else {
            State::Pending
        };
        self.add(split, token, data, state);
    }

    fn add(&mut self, split: Split, token: Token, data: Option<&Packet>, state: State) {
        self.transactions.push(Transaction {
            split,
            token,
            data: data.cloned(),
            state,
            age: 0,
            tries: 0,
        });
    }

    fn complete(&mut self, split: Split, token: Token) -> Response {
        let found = self
            .transactions
            .iter()
            .position(|t| t.matches(split, token));
        let Some(at) = found else {
            // It was never begun, or is forgotten.
            return Response::Stall;
        };
        let transaction = &mut self.transactions[at];
        let State::Done(response) = &mut transaction.state else {
            return Response::Nyet;
        };
        if let Response::Data(packet) = response
            && matches!(split.kind, ISOCHRONOUS | INTERRUPT)
            && self.piece != 0
            && packet.bytes.len() > self.piece
        {
            let rest = packet.bytes.split_off(self.piece);
            let bytes = std::mem::replace(&mut packet.bytes, rest);
            let pid = DataPid::MData;
            return Response::Data(Packet { pid, bytes });
        }
        let response = response.clone();
        self.transactions.remove(at);
        response
    }

    /// Carries out what was begun in an earlier microframe. `bus` is that of the slower devices: it returns `None` if nobody is there.
    pub(super) fn microframe(
        &mut self,
        mut bus: impl FnMut(u8, Speed, Token, Option<&Packet>) -> Option<Response>,
    ) {
        for transaction in &mut self.transactions {
            transaction.age += 1;
            let State::Pending = transaction.state else {
                continue;
            };
            let Transaction { split, token, .. } = *transaction;
            let response = bus(split.port, split.speed, token, transaction.data.as_ref());
            let response = response.unwrap_or(Response::Silence);
            let failed = matches!(response, Response::Silence | Response::Garbled);
            let answered = !failed || split.kind == ISOCHRONOUS && token.pid == Pid::Out;
            transaction.tries += 1;
            transaction.state = match (answered, transaction.is_periodic()) {
                (true, _) => State::Done(response),
                (false, true) => State::Done(Response::Err),
                (false, false) if transaction.tries < TRIES => State::Pending,
                (false, false) => State::Done(Response::Stall),
            };
        }
        self.transactions
            .retain(|t| !t.is_periodic() || t.age < STALE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: u8 = 2;

    fn split(kind: u8, complete: bool) -> Split {
        Split {
            hub: 1,
            port: 1,
            complete,
            speed: Speed::Full,
            kind,
            part: Part::All,
        }
    }

    fn token(pid: Pid, endpoint: u8) -> Token {
        Token {
            pid,
            address: 2,
            endpoint,
        }
    }

    fn data(len: usize) -> Response {
        Response::Data(Packet {
            pid: DataPid::Data0,
            bytes: vec![9; len],
        })
    }

    fn start(translator: &mut Translator, kind: u8, endpoint: u8) -> Response {
        translator.split(split(kind, false), token(Pid::In, endpoint), None)
    }

    fn complete(translator: &mut Translator, kind: u8, endpoint: u8) -> Response {
        translator.split(split(kind, true), token(Pid::In, endpoint), None)
    }

    #[test]
    fn there_is_room_for_two_transactions() {
        let mut translator = Translator::default();
        let answers = [1, 2, 3].map(|endpoint| start(&mut translator, BULK, endpoint));
        assert_eq!(answers, [Response::Ack, Response::Ack, Response::Nak]);
        translator.microframe(|_, _, _, _| Some(Response::Nak));
        assert_eq!(complete(&mut translator, BULK, 1), Response::Nak);
        assert_eq!(start(&mut translator, BULK, 3), Response::Ack);
    }

    #[test]
    fn a_result_is_there_a_microframe_later_and_once() {
        let mut translator = Translator::default();
        start(&mut translator, BULK, 1);
        assert_eq!(complete(&mut translator, BULK, 1), Response::Nyet);
        translator.microframe(|_, _, _, _| Some(data(3)));
        assert_eq!(complete(&mut translator, BULK, 1), data(3));
        assert_eq!(complete(&mut translator, BULK, 1), Response::Stall);
    }

    #[test]
    fn three_tries_fail_with_a_stall_or_at_once_with_err() {
        let mut translator = Translator::default();
        start(&mut translator, BULK, 1);
        start(&mut translator, INTERRUPT, 2);
        let mut tries = [0; 3];
        for _ in 0..4 {
            translator.microframe(|_, _, token, _| {
                tries[usize::from(token.endpoint)] += 1;
                None
            });
        }
        assert_eq!(tries, [0, 3, 1]);
        assert_eq!(complete(&mut translator, BULK, 1), Response::Stall);
        assert_eq!(complete(&mut translator, INTERRUPT, 2), Response::Err);
    }

    #[test]
    fn a_buffer_that_is_cleared_is_empty() {
        let mut translator = Translator::default();
        start(&mut translator, BULK, 1);
        // Endpoint 1 of device 2, bulk, OUT: another one.
        translator.clear(&Clear::Buffer(1 | 2 << 4 | 2 << 11));
        assert_eq!(complete(&mut translator, BULK, 1), Response::Nyet);
        translator.clear(&Clear::Buffer(1 | 2 << 4 | 2 << 11 | 1 << 15));
        assert_eq!(complete(&mut translator, BULK, 1), Response::Stall);
    }

    #[test]
    fn periodic_results_that_nobody_fetches_are_forgotten() {
        let mut translator = Translator::default();
        start(&mut translator, INTERRUPT, 1);
        for _ in 0..STALE {
            translator.microframe(|_, _, _, _| Some(data(3)));
        }
        assert_eq!(complete(&mut translator, INTERRUPT, 1), Response::Stall);
    }

    #[test]
    fn parts_of_isochronous_data_become_one_packet() {
        let mut translator = Translator::default();
        for (part, byte) in [(Part::Begin, 1), (Part::Middle, 2), (Part::End, 3)] {
            let split = Split {
                part,
                ..split(ISOCHRONOUS, false)
            };
            let packet = Packet {
                pid: DataPid::Data0,
                bytes: vec![byte],
            };
            translator.split(split, token(Pid::Out, 1), Some(&packet));
            let mut sent = Vec::new();
            translator.microframe(|_, _, _, packet| {
                sent = packet
                    .map(|packet| packet.bytes.clone())
                    .unwrap_or_default();
                None
            });
            let whole: &[u8] = if part == Part::End { &[1, 2, 3] } else { &[] };
            assert_eq!(sent, whole);
        }
    }
}
