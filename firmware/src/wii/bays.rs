//! The memory of the jobs, and the log as their sink.

use core::sync::atomic::{AtomicUsize, Ordering};

use static_cell::ConstStaticCell;

use super::{emit, time};
use crate::disk::{LINE, MAX_LINES};
use crate::job::{Job, Task, Workspace};
use crate::report::{Event, Sink};
use crate::sticks::BAYS;

/// Bytes of a file that one command moves at most: six transfer descriptors, all of them full.
const BUFFER_BYTES: usize = 6 * 20_480;

/// Buffers of one job. They lie in MEM1: the controller never sees them.
#[repr(C, align(32))]
struct Buffers {
    files: [u8; BUFFER_BYTES],
    cache: [u8; MAX_LINES * LINE],
    work: Workspace,
}

/// Sends every record to the log.
#[derive(Clone, Copy)]
pub struct Log;

impl Sink for Log {
    fn event(&mut self, event: &Event<&str>) {
        emit(event);
    }
}

/// Sinks of all kinds are one type, so that the code of a job is there once.
pub type AnySink = &'static mut dyn Sink;

/// Returns the log as a sink.
pub fn log() -> AnySink {
    static LOGS: [ConstStaticCell<Log>; BAYS + 1] = [const { ConstStaticCell::new(Log) }; BAYS + 1];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    LOGS[NEXT.fetch_add(1, Ordering::Relaxed) % LOGS.len()].take()
}

/// Returns a job for each bay. The first call takes the memory.
///
/// # Panics
/// At the second call.
pub fn jobs(task: Task) -> [Job<'static, AnySink>; BAYS] {
    const EMPTY: Buffers = Buffers {
        files: [0; BUFFER_BYTES],
        cache: [0; MAX_LINES * LINE],
        work: Workspace::new(),
    };
    // Made by the linker: too large for a stack.
    static BUFFERS: ConstStaticCell<[Buffers; BAYS]> = ConstStaticCell::new([EMPTY; BAYS]);
    BUFFERS.take().each_mut().map(|buffers| Job {
        sink: log(),
        buffer: &mut buffers.files,
        cache: &mut buffers.cache,
        work: &mut buffers.work,
        task,
        clock: time::now_us,
    })
}
