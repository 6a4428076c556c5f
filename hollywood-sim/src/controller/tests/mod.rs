//! The controller against the specification: each test is a rule of it. `conformance.md` says which.

mod asynchronous;
mod faults;
mod isochronous;
mod periodic;
mod ports;
mod queue;
mod registers;
mod split;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{Config, Controller};
use crate::device::{
    DataPid, Device, Function, MassStorage, Packet, Peripheral, Pid, Response, Setup, Speed, Token,
    disk::Disk,
};
use crate::scenario::{Bus, Host, Queue, Td};
use crate::{Memory, Rule};

type Shared<D> = Rc<RefCell<D>>;

fn shared<D>(device: D) -> Shared<D> {
    Rc::new(RefCell::new(device))
}

fn controller() -> Controller {
    Controller::new(Arc::new(Memory::new(0, 0x20_0000)), Config::WII)
}

/// A controller that runs, with a device in port 0 that was reset.
fn host(device: impl Device + 'static) -> Host<Controller> {
    let controller = controller();
    controller.plug(0, device);
    let mut host = Host::new(controller);
    host.start();
    host.reset_port(0);
    host
}

/// What a script tells a device to answer, token by token; then it answers [`Response::Nak`].
#[derive(Default)]
struct Scripted {
    answers: Vec<Response>,
    /// What it was asked, with the data.
    asked: Vec<(Token, Option<Packet>)>,
    acknowledged: usize,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Response>) -> Shared<Self> {
        shared(Self {
            answers: answers.into_iter().collect(),
            ..Self::default()
        })
    }

    fn pids(&self) -> Vec<Pid> {
        self.asked.iter().map(|(token, _)| token.pid).collect()
    }
}

impl Device for Scripted {
    fn speed(&self) -> Speed {
        Speed::High
    }

    fn reset(&mut self) {}

    fn transaction(&mut self, token: Token, data: Option<&Packet>) -> Response {
        self.asked.push((token, data.cloned()));
        if self.answers.is_empty() {
            return Response::Nak;
        }
        self.answers.remove(0)
    }

    fn acknowledge(&mut self, _token: Token) {
        self.acknowledged += 1;
    }
}

fn data(toggle: bool, len: usize) -> Response {
    Response::Data(Packet {
        pid: DataPid::of(toggle),
        bytes: vec![0xd0 | u8::from(toggle); len],
    })
}

fn stick() -> Peripheral<MassStorage> {
    let bytes = (0..64 * 512)
        .map(|at| (at / 512 * 7 + at * 3) as u8)
        .collect();
    MassStorage::new([Disk::of(512, bytes)]).plug()
}

/// The rules that were broken.
fn broken(host: &Host<Controller>) -> Vec<Rule> {
    let violations = host.bus.memory().take_violations();
    violations.iter().map(|violation| violation.rule).collect()
}

/// A host with a scripted device, and a queue head for its bulk endpoint 1 (512 bytes).
fn bulk(
    answers: impl IntoIterator<Item = Response>,
) -> (Host<Controller>, Shared<Scripted>, Queue) {
    let device = Scripted::new(answers);
    let mut host = host(device.clone());
    let queue = host.add_high_speed(0, 1, 512);
    (host, device, queue)
}

/// The status bytes of tokens.
fn low(tokens: &[u32]) -> Vec<u32> {
    tokens.iter().map(|token| token & 0xff).collect()
}
