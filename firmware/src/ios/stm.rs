//! The console's power and reset buttons, and switching it off: the state manager of IOS (facts as public
//! libraries use them; Dolphin agrees).

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use crate::ios::{Fd, IosError, Pending, Request};
use crate::wii::ipc::{Hollywood, Ios};

const EVENT_HOOK: &str = "/dev/stm/eventhook";
const IMMEDIATE: &str = "/dev/stm/immediate";

/// Replies when a button is pressed, or the hook is released.
const HOOK: u32 = 0x1000;
const SHUTDOWN: u32 = 0x2003;
const RELEASE_HOOK: u32 = 0x3002;

/// Bytes in and out of the requests to the second device.
const PARAMETERS: usize = 0x20;

/// A button of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Power.
    Power,
    /// Reset.
    Reset,
}

impl Button {
    /// Names the button of an event.
    const fn of_event(event: u32) -> Option<Self> {
        match event {
            0x0000_0800 => Some(Self::Power),
            0x0002_0000 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// The hook on the buttons.
pub struct Buttons {
    ios: &'static Ios,
    hook: Fd,
    pending: Option<Pending<'static, 'static, Hollywood>>,
}

impl Buttons {
    /// Hooks on to the buttons.
    ///
    /// # Errors
    /// IOS does not let it.
    pub async fn hook(ios: &'static Ios) -> Result<Self, IosError> {
        let hook = ios.open(EVENT_HOOK, 0).await?;
        let mut buttons = Self {
            ios,
            hook,
            pending: None,
        };
        buttons.wait_again();
        Ok(buttons)
    }

    fn wait_again(&mut self) {
        let request = Request::ioctl(self.ios.device(), self.hook, HOOK, &[], 4);
        self.pending = request.and_then(|request| self.ios.submit(request)).ok();
    }

    /// Returns a button that was pressed since the last call.
    pub fn pressed(&mut self) -> Option<Button> {
        let reply = {
            let pending = self.pending.as_mut()?;
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(pending).poll(&mut context) {
                Poll::Ready(reply) => reply,
                Poll::Pending => return None,
            }
        };
        self.pending = None;
        let mut event = [0; 4];
        let button = match reply.and_then(|mut reply| reply.receive(1, &mut event)) {
            Ok(()) => Button::of_event(u32::from_be_bytes(event)),
            // The hook is gone: then the buttons do nothing.
            Err(error) => {
                defmt::warn!("buttons: {}", defmt::Display2Format(&error));
                return None;
            }
        };
        self.wait_again();
        button
    }

    /// Lets go of the buttons.
    pub async fn release(mut self) {
        if self.pending.is_some() && immediate(self.ios, RELEASE_HOOK).await.is_ok() {
            // The hook's own reply.
            if let Some(pending) = self.pending.take() {
                let _ = embassy_time::with_timeout(PATIENCE, pending).await;
            }
        }
        let _ = self.ios.close(self.hook).await;
    }
}

/// Longest time that IOS may take for the last reply of a hook.
const PATIENCE: embassy_time::Duration = embassy_time::Duration::from_millis(100);

/// Asks IOS to switch the console off. Returns if it does not.
pub async fn shut_down(ios: &'static Ios) {
    let error = immediate(ios, SHUTDOWN).await.err();
    defmt::warn!("IOS did not switch off: {}", defmt::Debug2Format(&error));
}

async fn immediate(ios: &'static Ios, number: u32) -> Result<(), IosError> {
    let fd = ios.open(IMMEDIATE, 0).await?;
    let asked = ios
        .ioctl(fd, number, &[0; PARAMETERS], &mut [0; PARAMETERS])
        .await;
    let _ = ios.close(fd).await;
    asked.map(drop)
}
