//! Hubs are told to clear what given up transactions left in their translators.

use super::UsbHost;
use crate::controller::Ehci;
use crate::endpoint::{Endpoint, Kind};
use crate::memory::Dma;
use crate::pipe::PipeId;
use crate::platform::Platform;
use crate::port::Speed;
use crate::registers::Registers;
use crate::translator::TranslatorClear;

/// A hub that does not answer for this long is left alone.
const TIMEOUT_US: u64 = 1_000_000;

impl<R: Registers, D: Dma, P: Platform> UsbHost<R, D, P> {
    pub(super) fn has_translators_to_clear(&self) -> bool {
        let waits = self.host.with(|ehci| ehci.translator_to_clear().is_some());
        waits == Some(true) && !self.clearing.get()
    }

    /// Sends a request to each hub whose translator has something left. Dropped, it leaves the rest to the next call.
    ///
    /// embassy-usb-host leaves hubs in their first alternate setting, in which they use one translator for all ports.
    pub(super) async fn clear_translators(&self) {
        if !self.has_translators_to_clear() {
            return;
        }
        self.clearing.set(true);
        let _clearing = OnDrop(|| self.clearing.set(false));
        while let Some(clear) = self.host.with(|ehci| ehci.translator_to_clear()).flatten() {
            self.clear(clear).await;
            self.host.with(|ehci| ehci.translator_cleared(clear));
        }
    }

    async fn clear(&self, clear: TranslatorClear) {
        let hub = clear.translator.hub_address;
        // Two pipes to one endpoint would get in each other's way: the class driver's is used if there is one.
        if let Some(pipe) = self.host.with(|ehci| ehci.control_pipe(hub)).flatten() {
            return self.send(pipe, clear).await;
        }
        let endpoint = Endpoint {
            address: hub,
            number: 0,
            kind: Kind::Control,
            speed: Speed::High,
            max_packet: 64,
            interval: 0,
            translator: None,
            root_port: clear.root_port,
        };
        if let Some(Ok(pipe)) = self.host.with(|ehci| ehci.open(&endpoint)) {
            let _close = OnDrop(|| _ = self.host.with(|ehci| Ehci::close(ehci, pipe)));
            self.send(pipe, clear).await;
        }
    }

    async fn send(&self, pipe: PipeId, clear: TranslatorClear) {
        let request = clear.request(false);
        // A hub that refuses or is gone has nothing that could be cleared.
        let _ = self
            .host
            .control(pipe, request, None, Some(TIMEOUT_US))
            .await;
    }
}

/// Does something at the end of a scope, also when a future is dropped in the middle of it.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
