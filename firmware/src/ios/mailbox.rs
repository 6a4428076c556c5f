//! What the driver asks of the mailbox's registers, so that a stand-in can take their place.

/// The mailbox: one request at a time on its way to IOS, one reply at a time on its way back (hardware notes, section 6.2).
pub trait Mailbox {
    /// Takes whatever acknowledgement or reply is pending, unseen, and tells IOS to go on. For a mailbox in an unknown state.
    fn reset(&mut self);

    /// Announces the request block at physical address `request`. Only after the one before was acknowledged.
    ///
    /// # Safety
    /// From here until its reply, the block and every buffer that it names belong to IOS.
    unsafe fn announce(&mut self, request: u32);

    /// Says whether IOS has taken the request that was announced last, once.
    fn take_acknowledgement(&mut self) -> bool;

    /// Returns the physical address of a request block that IOS has given back, and lets it give back the next.
    fn take_reply(&mut self) -> Option<u32>;

    /// Returns a time in microseconds that never goes back.
    fn now_us(&self) -> u64;
}
