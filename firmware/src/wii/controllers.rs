//! GameCube controllers, polled by the serial interface.

use hollywood_pac::peripherals::Si;
use hollywood_pac::si::SiPoll;

use crate::ui::keys::Key;
use crate::ui::pad;

/// The four sockets.
pub struct Controllers(Si);

impl Controllers {
    /// Has the interface poll all sockets by itself, twice in a field.
    ///
    /// # Safety
    /// There is an interface, and nothing else uses it.
    pub unsafe fn start() -> Self {
        /// Lines between polls, and polls in a field: two fit in the 262 lines of the shortest.
        const LINES: u16 = 130;
        const POLLS: u8 = 2;
        // SAFETY: the caller's promise.
        let si = unsafe { Si::steal() };
        for socket in [&si.channel0, &si.channel1, &si.channel2, &si.channel3] {
            socket.outbuf.write(pad::POLL);
        }
        si.sisr.modify(|status| status.set_wr(true));
        let mut poll = SiPoll::default();
        poll.set_x(LINES);
        poll.set_y(POLLS);
        poll.set_en(0b1111);
        poll.set_vbcpy(0b1111);
        si.sipoll.write(poll);
        Self(si)
    }

    /// Returns a key that is down on one of the controllers.
    pub fn key(&mut self) -> Option<Key> {
        let si = &self.0;
        let sockets = [&si.channel0, &si.channel1, &si.channel2, &si.channel3];
        sockets.into_iter().find_map(|socket| {
            let answer = socket.inbufh.read();
            // Reading both words is what makes room for the next answer.
            let _ = socket.inbufl.read();
            pad::key(answer)
        })
    }

    /// Stops polling.
    pub fn stop(self) {
        self.0.sipoll.write(SiPoll::default());
    }
}
