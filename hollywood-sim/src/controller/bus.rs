//! The bus: what a microframe has room for, and who answers a token.

use super::Ehci;
use crate::device::{Packet, Response, Split, Token};

/// Bytes in a microframe: 480 Mbit/s for 125 microseconds.
pub(super) const MICROFRAME: u32 = 7500;
/// A start-of-frame packet: SYNC, PID, frame number, CRC, end.
pub(super) const START_OF_FRAME: u32 = 11;
/// What a transaction with data takes besides them (USB 2.0, tables 5-8 and 5-10): token, data packet's frame, handshake, and the gaps between them.
const WITH_DATA: u32 = 55;
/// The same without a handshake (USB 2.0, table 5-5).
const ISOCHRONOUS: u32 = 38;
/// What one takes that ends with a handshake in place of data: token, gap, handshake.
const REFUSED: u32 = 36;
/// What one takes that nobody answers: token, and the time-out of 816 bit times (USB 2.0, 7.1.19.2).
const SILENT: u32 = 8 + 102;

/// Bus time that a transaction of `bytes` takes, at most.
pub(super) const fn cost(bytes: usize) -> u32 {
    WITH_DATA + bytes as u32
}

/// The same for an isochronous one.
pub(super) const fn isochronous_cost(bytes: usize) -> u32 {
    ISOCHRONOUS + bytes as u32
}

/// A transaction that went over the bus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traced {
    /// When, in microframes since power-on.
    pub microframe: u64,
    /// What was asked.
    pub token: Token,
    /// Around it, where it was for a transaction translator.
    pub split: Option<Split>,
    /// The data that went out.
    pub data: Option<Packet>,
    /// What came back.
    pub response: Response,
}

/// What was done since power-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Microframes in which the controller ran.
    pub microframes: u64,
    /// Transactions of all kinds.
    pub transactions: u64,
    /// Data packets that were accepted, on either side.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Tokens that were answered with "not now".
    pub naks: u64,
    /// qTDs that ended.
    pub qtds: u64,
    /// Descriptors and frame list entries that were read.
    pub fetches: u64,
    /// Doorbells that were rung.
    pub doorbells: u64,
    /// Rising edges of the interrupt line.
    pub interrupts: u64,
    /// Bus time used, in bytes of 7500 for each microframe.
    pub bus_bytes: u64,
    /// Start-of-frames that found periodic transfers not done in time.
    pub missed: u64,
}

impl Ehci {
    /// Whether a transaction still ends before this microframe does.
    pub(super) fn has_time(&self, cost: u32) -> bool {
        self.time_left >= cost
    }

    fn spend(&mut self, cost: u32) {
        self.time_left = self.time_left.saturating_sub(cost);
        self.statistics.bus_bytes += u64::from(cost);
    }

    /// Sends a token, and what goes with it, to all ports. Two that answer at once are garbled.
    pub(super) fn transact(
        &mut self,
        split: Option<Split>,
        token: Token,
        data: Option<&Packet>,
    ) -> Response {
        let now = self.now;
        let mut response = Response::Silence;
        for port in &mut self.ports {
            let Some(device) = port.listener(now) else {
                continue;
            };
            let answer = match split {
                Some(split) => device.split(split, token, data),
                None => device.transaction(token, data),
            };
            if answer == Response::Silence {
                continue;
            }
            let alone = response == Response::Silence;
            response = if alone { answer } else { Response::Garbled };
        }
        let bytes = match (&response, data) {
            (Response::Data(packet), _) => packet.bytes.len(),
            (_, Some(packet)) => packet.bytes.len(),
            _ => 0,
        };
        self.spend(match (&response, data) {
            (Response::Data(_), _) | (_, Some(_)) => cost(bytes),
            (Response::Silence | Response::Garbled, None) => SILENT,
            _ => REFUSED,
        });
        self.statistics.transactions += 1;
        self.statistics.naks += u64::from(response == Response::Nak);
        if let Some(trace) = &mut self.trace {
            trace.push(Traced {
                microframe: now,
                token,
                split,
                data: data.cloned(),
                response: response.clone(),
            });
        }
        response
    }

    /// Tells whoever sent data that they arrived.
    pub(super) fn acknowledge(&mut self, token: Token) {
        let now = self.now;
        for port in &mut self.ports {
            if let Some(device) = port.listener(now) {
                device.acknowledge(token);
            }
        }
    }

    /// Counts a packet that was accepted.
    pub(super) fn accepted(&mut self, bytes: usize) {
        self.statistics.packets += 1;
        self.statistics.bytes += bytes as u64;
    }
}
