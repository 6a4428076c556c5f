//! The driver asleep between interrupts.

use crate::testing::{Machine, Response, Shared, Stick, endpoint};
use crate::{Ehci, Host, Interrupt, Kind, PortChange, Request, TransferError};
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An executor that polls a task only when it was woken, over a machine whose interrupts arrive.
struct Board {
    machine: Machine,
    host: Host<Machine, Rc<crate::testing::Ram>, Machine>,
    interrupt: &'static Interrupt,
    interrupts_arrive: bool,
}

impl Board {
    fn new() -> (Self, Rc<RefCell<Shared>>) {
        let machine = Machine::new();
        let mut ehci = Ehci::new(machine.clone(), machine.ram.clone(), machine.clone()).unwrap();
        ehci.start().unwrap();
        let interrupt = Box::leak(Box::new(Interrupt::new()));
        ehci.enable_interrupts(interrupt);
        let stick = Stick::new(64);
        let shared = stick.shared.clone();
        machine.plug(0, Box::new(stick));
        let host = Host::new(ehci);
        (
            Self {
                machine,
                host,
                interrupt,
                interrupts_arrive: true,
            },
            shared,
        )
    }

    /// Runs a task beside the driver's own; returns what it returns and how often both were polled.
    fn run<T>(&self, task: impl Future<Output = T>) -> (T, u32) {
        let clock = self.machine.clone();
        let sleep_until = async |deadline: u64| {
            std::future::poll_fn(|_| {
                // Timers are checked at every step of the machine, below.
                if clock.state.borrow().now_us >= deadline {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        };
        let mut driver = pin!(self.host.run(self.interrupt, sleep_until));
        let mut task = pin!(task);
        let flags = [(); 2].map(|()| Arc::new(Flag(AtomicBool::new(true))));
        let [driver_waker, task_waker] = flags.clone().map(Waker::from);
        let mut polls = 0;
        for _ in 0..80_000 {
            if flags[0].0.swap(false, Ordering::Relaxed) || self.timer_due() {
                let driver: Pin<&mut dyn Future<Output = _>> = driver.as_mut();
                assert!(
                    driver
                        .poll(&mut Context::from_waker(&driver_waker))
                        .is_pending()
                );
                polls += 1;
            }
            if flags[1].0.swap(false, Ordering::Relaxed) {
                polls += 1;
                if let Poll::Ready(value) =
                    task.as_mut().poll(&mut Context::from_waker(&task_waker))
                {
                    return (value, polls);
                }
            }
            self.machine.advance(125);
            if self.interrupts_arrive {
                self.interrupt.handle(&self.machine);
            }
        }
        panic!("the task does not end");
    }

    fn timer_due(&self) -> bool {
        let deadline = self.host.next_deadline();
        self.machine.state.borrow().now_us >= deadline
    }

    async fn stick(&self) {
        assert_eq!(self.host.port_event().await.change, PortChange::Attached);
        self.host.with(|ehci| ehci.reset_port(0));
        assert_eq!(self.host.port_event().await.change, PortChange::Enabled);
    }
}

#[test]
fn a_task_sleeps_until_the_interrupt_of_its_transfer() {
    let (board, shared) = Board::new();
    board.run(board.stick());
    let pipe = board
        .host
        .with(|ehci| ehci.open(&endpoint(5, Kind::Bulk(crate::Direction::In))))
        .unwrap()
        .unwrap();
    shared.borrow_mut().source = (0..2048).map(|_| vec![3; 512]).collect();
    let (bytes, polls) = board.run(async {
        let buffer = crate::memory::Dma::incoming(&board.machine.ram, 1 << 20).unwrap();
        board
            .host
            .submit(pipe, Request::new(buffer))
            .await
            .unwrap()
            .await
            .bytes
    });
    assert_eq!(bytes, 1 << 20);
    assert!(
        polls < 10,
        "polled {polls} times for one transfer of 52 qTDs"
    );
}

#[test]
fn everyone_who_waits_for_a_pipe_is_woken() {
    let (mut rig, shared) = crate::testing::Rig::with_stick();
    let input = rig.open(5, Kind::Bulk(crate::Direction::In));
    for waiting in [1, 4, 7] {
        let flags: Vec<_> = (0..waiting)
            .map(|_| Arc::new(Flag(AtomicBool::new(false))))
            .collect();
        let id = rig.start_in(input, 512);
        for flag in &flags {
            rig.ehci.watch_pipe(input, &Waker::from(flag.clone()));
        }
        shared.borrow_mut().source = [vec![1; 512]].into();
        assert_eq!(rig.finish(id).0, Ok(()));
        while let Some(waker) = rig.ehci.take_woken() {
            waker.wake();
        }
        let is_woken = |flag: &Arc<Flag>| flag.0.load(Ordering::Relaxed);
        assert!(flags.iter().all(is_woken), "{waiting}");
    }
}

#[test]
fn a_lost_interrupt_costs_100_ms_and_no_more() {
    let (mut board, shared) = Board::new();
    board.run(board.stick());
    let pipe = board
        .host
        .with(|ehci| ehci.open(&endpoint(5, Kind::Bulk(crate::Direction::In))))
        .unwrap()
        .unwrap();
    shared.borrow_mut().source.push_back(vec![1; 5]);
    board.interrupts_arrive = false;
    let begun = board.machine.state.borrow().now_us;
    board.run(async {
        let buffer = crate::memory::Dma::incoming(&board.machine.ram, 512).unwrap();
        assert_eq!(
            board
                .host
                .submit(pipe, Request::new(buffer))
                .await
                .unwrap()
                .await
                .bytes,
            5
        );
    });
    assert!(board.machine.state.borrow().now_us - begun < 101_000);
}

#[test]
fn a_cancelled_transfer_is_freed_by_the_interrupt_of_the_doorbell() {
    let (board, shared) = Board::new();
    board.run(board.stick());
    let pipe = board
        .host
        .with(|ehci| ehci.open(&endpoint(5, Kind::Bulk(crate::Direction::In))))
        .unwrap()
        .unwrap();
    for _ in 0..3 {
        board.run(async {
            let buffer = crate::memory::Dma::incoming(&board.machine.ram, 512).unwrap();
            drop(board.host.submit(pipe, Request::new(buffer)).await.unwrap());
            // The pipe is busy until the doorbell is answered, then the next transfer is accepted.
            shared.borrow_mut().fault = Some(Box::new(|_, _| Some(Response::Stall)));
            let buffer = crate::memory::Dma::incoming(&board.machine.ram, 512).unwrap();
            let end = board
                .host
                .submit(pipe, Request::new(buffer))
                .await
                .unwrap()
                .await;
            assert_eq!(end.status, Err(TransferError::Stall));
        });
        assert_eq!(
            board.host.with(|ehci| ehci.statistics().doorbells_lost),
            Some(0)
        );
    }
    assert_eq!(board.machine.ram.allocations(), 1);
}

#[test]
fn an_interrupt_of_another_device_on_the_line_is_not_taken() {
    let machine = Machine::new();
    let interrupt = Interrupt::new();
    machine.raise(0x3f);
    assert!(!interrupt.handle(&machine), "nothing is enabled");
    let base = crate::registers::Operational::new(machine.clone())
        .unwrap()
        .base();
    interrupt.connect(Some(base));
    assert!(interrupt.handle(&machine));
    assert_eq!(
        machine.status().0 & 0x3f,
        0x08,
        "only what was enabled is cleared"
    );
    assert_eq!(interrupt.take().0, 0x37);
    assert!(!interrupt.handle(&machine), "it is another device's");
    machine.raise(0x01);
    interrupt.connect(None);
    assert!(!interrupt.handle(&machine), "nothing is enabled any more");
}
