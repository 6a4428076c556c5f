//! The console's power and reset buttons, and switching it off: the state manager of IOS (facts as public
//! libraries use them; Dolphin agrees).

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::{Fd, IosError, Ipc, Mailbox, Pending, Request};

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
pub struct Buttons<'i, 'p, M: Mailbox> {
    ios: &'i Ipc<'p, M>,
    hook: Fd,
    pending: Option<Pending<'i, 'p, M>>,
}

impl<'i, 'p, M: Mailbox> Buttons<'i, 'p, M> {
    /// Hooks on to the buttons.
    ///
    /// # Errors
    /// IOS does not let it.
    pub async fn hook(ios: &'i Ipc<'p, M>) -> Result<Self, IosError> {
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
            Err(_) => {
                warning!("IOS tells no more of the buttons");
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
pub async fn shut_down<M: Mailbox>(ios: &Ipc<'_, M>) {
    let _ = immediate(ios, SHUTDOWN).await;
    warning!("IOS did not switch off");
}

async fn immediate<M: Mailbox>(ios: &Ipc<'_, M>, number: u32) -> Result<(), IosError> {
    let fd = ios.open(IMMEDIATE, 0).await?;
    let asked = ios
        .ioctl(fd, number, &[0; PARAMETERS], &mut [0; PARAMETERS])
        .await;
    let _ = ios.close(fd).await;
    asked.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Driver, Ios, rig};
    use super::*;
    use core::pin::pin;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::vec::Vec;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Buttons that are hooked; IOS has the hook's request.
    fn hooked<'i>(
        ios: &'i Driver,
        console: &Rc<RefCell<Ios>>,
    ) -> Buttons<'i, 'static, super::super::testing::FakeMailbox> {
        let mut hook = pin!(Buttons::hook(ios));
        assert!(poll(hook.as_mut()).is_pending());
        let path = console.borrow().last()[3];
        assert_eq!(console.borrow().read(path, 20), *b"/dev/stm/eventhook\0\0");
        console.borrow_mut().reply(0, 5);
        let Poll::Ready(Ok(buttons)) = poll(hook) else {
            panic!("not hooked");
        };
        buttons
    }

    /// IOS answers the hook with an event.
    fn press(console: &Rc<RefCell<Ios>>, event: u32) {
        let block = console.borrow().last();
        assert_eq!((block[0], block[2], block[3]), (6, 5, 0x1000));
        console.borrow().write(block[6], &event.to_be_bytes());
        console.borrow_mut().reply(0, 0);
    }

    #[test]
    fn a_press_is_told_once_and_the_next_one_too() {
        let (ios, console, _) = rig();
        let mut buttons = hooked(&ios, &console);
        let events = [0x0000_0800, 0x0002_0000, 0x0000_0800, 0x1234_5678];
        let mut told = Vec::new();
        for event in events {
            assert_eq!(buttons.pressed(), None);
            press(&console, event);
            told.push(buttons.pressed());
        }
        let [power, reset] = [Some(Button::Power), Some(Button::Reset)];
        assert_eq!(told, [power, reset, power, None]);
    }

    #[test]
    fn after_an_error_the_buttons_are_silent() {
        let (ios, console, _) = rig();
        let mut buttons = hooked(&ios, &console);
        assert_eq!(buttons.pressed(), None);
        console.borrow_mut().reply(0, -6);
        assert_eq!(buttons.pressed(), None);
        assert_eq!(buttons.pressed(), None);
        assert!(console.borrow().has.is_empty(), "it is not hooked again");
    }

    #[test]
    fn letting_go_releases_the_hook_and_leaves_nothing_with_ios() {
        let (ios, console, pool) = rig();
        let mut buttons = hooked(&ios, &console);
        assert_eq!(buttons.pressed(), None);
        let mut release = pin!(buttons.release());
        let mut requests = Vec::new();
        while poll(release.as_mut()).is_pending() {
            let mut console = console.borrow_mut();
            let block = console.last();
            requests.push((block[0], block[3]));
            // The newest request is answered first. To release is to answer the hook.
            let newest = console.has.len() - 1;
            console.reply(newest, if block[0] == 1 { 6 } else { 0 });
            if block[3] == 0x3002 {
                console.reply(0, 0);
            }
        }
        // Open, release, close, close.
        assert_eq!(requests.len(), 4);
        assert_eq!(requests[1], (6, 0x3002));
        assert_eq!([requests[2].0, requests[3].0], [2, 2]);
        assert!(console.borrow().has.is_empty());
        assert_eq!(pool.stats().live, 0);
    }
}
