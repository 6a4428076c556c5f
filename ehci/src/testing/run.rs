//! Futures that wait for the controller.

use super::Machine;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How much faster the machine's time may pass than that of the host, by whose clock embassy-usb-host pauses (a few milliseconds
/// between attempts). Without this a fast host would find its time limits exceeded by pauses.
const FASTEST: u32 = 50;

/// Polls a future and lets the machine run in between, until the future is ready or the machine's time is up; then drops it.
pub fn run<T>(machine: &Machine, limit_us: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let (begun, begun_us) = (Instant::now(), machine.state.borrow().now_us);
    loop {
        let passed_us = machine.state.borrow().now_us - begun_us;
        if passed_us >= limit_us {
            return None;
        }
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        machine.advance(125);
        let at_least = Duration::from_micros(passed_us) / FASTEST;
        std::thread::sleep(at_least.saturating_sub(begun.elapsed()));
    }
}
