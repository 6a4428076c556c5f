//! Transaction translators that are left with a transaction which nobody will complete.
//!
//! A hub's translator keeps the result of a control or bulk transaction until the controller fetches it with a complete-split.
//! When the transfer is given up or fails before that, the buffer stays occupied, and the translator answers later
//! transactions of the endpoint wrongly or not at all, until the hub is told to clear it (USB 2.0, sections 11.17.5 and
//! 11.24.2.3). The driver does not talk to hubs; it says what is to be said, and whoever talks to the hub says it. The
//! embassy adapter does so by itself. Periodic transactions leave nothing behind: their buffers are forgotten every frame.

use crate::controller::Ehci;
use crate::endpoint::{Direction, Endpoint, Kind, Translator};
use crate::layout::Qh;
use crate::memory::Dma;
use crate::platform::Platform;
use crate::registers::Registers;

/// Buffers of translators that wait to be cleared, at most; beyond, the oldest are forgotten.
const WAITING: usize = 16;

/// A translator's buffer that is to be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TranslatorClear {
    /// The hub and its port.
    pub translator: Translator,
    /// The root port that the hub is behind, if it is known.
    pub root_port: Option<u8>,
    /// `wValue` of the request: endpoint, device, kind and direction.
    value: u16,
}

impl TranslatorClear {
    /// Returns the setup packet of the hub's `CLEAR_TT_BUFFER` request, which has no data (USB 2.0, section 11.24.2.3).
    ///
    /// `multiple` says that the hub was set up to use a translator for each port: its interface is in alternate setting 1.
    pub fn request(&self, multiple: bool) -> [u8; 8] {
        let [low, high] = self.value.to_le_bytes();
        let port = if multiple {
            self.translator.hub_port
        } else {
            1
        };
        [0x23, 8, low, high, port, 0, 0, 0]
    }
}

/// Buffers that wait to be cleared, oldest first.
#[derive(Debug)]
pub(crate) struct Clears([Option<TranslatorClear>; WAITING]);

impl Clears {
    pub(crate) const fn new() -> Self {
        Self([None; WAITING])
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    fn push(&mut self, clear: TranslatorClear) {
        if self.0.contains(&Some(clear)) {
            return;
        }
        if self.0.iter().all(Option::is_some) {
            self.0.rotate_left(1);
            if let Some(last) = self.0.last_mut() {
                *last = None;
            }
        }
        if let Some(free) = self.0.iter_mut().find(|entry| entry.is_none()) {
            *free = Some(clear);
        }
    }

    fn first(&self) -> Option<TranslatorClear> {
        self.0.iter().flatten().next().copied()
    }

    fn retain(&mut self, keep: impl Fn(&TranslatorClear) -> bool) {
        let mut kept = Self::new();
        let waiting = self.0.iter().flatten().filter(|clear| keep(clear));
        for (entry, clear) in kept.0.iter_mut().zip(waiting) {
            *entry = Some(*clear);
        }
        *self = kept;
    }
}

impl<R: Registers, D: Dma, P: Platform> Ehci<R, D, P> {
    /// Returns the translator's buffer that has waited longest to be cleared.
    ///
    /// Send its [request](TranslatorClear::request) to its hub, before anything else to the endpoint that left it behind; then
    /// say so with [`Ehci::translator_cleared`]. The waker of [`Ehci::watch_ports`] is woken when there is one.
    pub fn translator_to_clear(&self) -> Option<TranslatorClear> {
        self.clears.first()
    }

    /// Takes a buffer off the list: the hub has cleared it, or cannot be reached.
    pub fn translator_cleared(&mut self, clear: TranslatorClear) {
        self.clears.retain(|other| *other != clear);
    }

    /// Takes note that an endpoint's transaction was given up or failed, and may be left in a translator.
    pub(crate) fn leave_in_translator(&mut self, qh: Qh) {
        let Some(endpoint) = self.pipe(qh).and_then(|pipe| pipe.endpoint) else {
            return;
        };
        let Some(translator) = endpoint.translator else {
            return;
        };
        for value in values(&endpoint).into_iter().flatten() {
            self.clears.push(TranslatorClear {
                translator,
                root_port: endpoint.root_port,
                value,
            });
            self.events.wake();
        }
    }

    /// Forgets the translators behind a root port, whose hub is gone.
    pub(crate) fn forget_translators(&mut self, port: u8) {
        self.clears.retain(|clear| clear.root_port != Some(port));
    }
}

/// Returns `wValue`, for each direction that may be left in a buffer; none for periodic endpoints.
fn values(endpoint: &Endpoint) -> [Option<u16>; 2] {
    const IN: u16 = 1 << 15;
    let kind =
        |number: u16| number << 11 | u16::from(endpoint.address) << 4 | u16::from(endpoint.number);
    match endpoint.kind {
        // Nobody knows which stage it was in.
        Kind::Control => [Some(kind(0)), Some(kind(0) | IN)],
        Kind::Bulk(Direction::In) => [Some(kind(2) | IN), None],
        Kind::Bulk(Direction::Out) => [Some(kind(2)), None],
        Kind::Interrupt(_) | Kind::Isochronous(_) => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Speed;

    fn clear(value: u16) -> TranslatorClear {
        TranslatorClear {
            translator: Translator {
                hub_address: 3,
                hub_port: 4,
            },
            root_port: Some(0),
            value,
        }
    }

    #[test]
    fn the_request_names_endpoint_device_kind_direction_and_translator() {
        let endpoint = Endpoint {
            address: 0x25,
            number: 3,
            kind: Kind::Bulk(Direction::In),
            speed: Speed::Full,
            max_packet: 64,
            interval: 0,
            translator: None,
            root_port: None,
        };
        let [value, none] = values(&endpoint);
        // Endpoint 3 in bits 3:0, device 0x25 in bits 10:4, bulk (2) in bits 12:11, IN in bit 15.
        assert_eq!((value, none), (Some(0x9253), None));
        let clear = clear(0x9253);
        assert_eq!(clear.request(false), [0x23, 8, 0x53, 0x92, 1, 0, 0, 0]);
        assert_eq!(clear.request(true), [0x23, 8, 0x53, 0x92, 4, 0, 0, 0]);
    }

    #[test]
    fn each_buffer_waits_once_and_the_oldest_are_forgotten() {
        let mut clears = Clears::new();
        for value in 0..20 {
            clears.push(clear(value));
            clears.push(clear(value));
        }
        assert_eq!(clears.first(), Some(clear(4)));
        clears.retain(|other| *other != clear(4));
        assert_eq!(clears.first(), Some(clear(5)));
        assert_eq!(clears.0.iter().flatten().count(), 15);
    }
}
