//! The driver in one program that does not link if any of it can panic.
//!
//! On the target the panic handler calls a function that does not exist. The linker complains only if something refers to the
//! handler, and says from where. Futures are left out: the compiler puts a panic of its own into every `async fn`, for those who
//! poll it after its end. Formatting is left out, too: what prints errors is the caller's.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;
use core::ptr::NonNull;
use core::task::Waker;

use ehci::memory::{Buffer, Dma};
use ehci::registers::{Mmio, Registers};
use ehci::*;
use mem2_dma::{Constraints, Identity, Pool, Storage};

struct Board;

impl Platform for Board {
    fn now_us(&self) -> u64 {
        black_box(0)
    }

    fn read_config(&self, offset: u8) -> Option<u32> {
        black_box(Some(u32::from(offset)))
    }

    fn prepare(&self, registers: &dyn Registers) {
        platform::hollywood::enable_interrupt(registers);
    }
}

static INTERRUPT: Interrupt = Interrupt::new();

type Driver<'p> = Ehci<Mmio, Bounce<'p>, Board>;

/// Everything that can be asked of pipes and transfers.
fn transfers(ehci: &mut Driver<'_>, endpoint: &Endpoint) -> Option<()> {
    let pipe = ehci.open(endpoint).ok()?;
    let setup = black_box([0; 8]);
    let data = black_box([0; 600]);
    let outgoing = ehci.dma().outgoing(data.get(..black_box(500))?).ok()?;
    let control = ehci.control(pipe, setup, Some(outgoing), black_box(Some(5)));
    let control = control.ok()?;
    let request = Request {
        buffer: ehci.dma().incoming(black_box(100_000)).ok(),
        zero_packet: black_box(true),
        trailer: black_box(13),
        part: black_box(Part::First),
        quiet: black_box(false),
        timeout_us: black_box(Some(5)),
    };
    let transfer = ehci.submit(pipe, request).ok()?;
    let owned = ehci.dma().device().allocate(black_box(64)).ok()?;
    let lent = Bounced::from(owned.lend_to_device(black_box(64)).ok()?);
    let other = ehci.submit(pipe, Request::new(lent)).ok()?;
    ehci.watch(transfer, Waker::noop());
    ehci.watch_pipe(pipe, Waker::noop());
    ehci.poll();
    ehci.abandon(control);
    let end = ehci.take(transfer)?;
    let mut into = data;
    if let Some(mut buffer) = end.buffer {
        buffer.copy_received(into.get_mut(..end.bytes)?);
    }
    black_box(ehci.take(other)?.buffer?.reclaim().is_some());
    black_box((
        ehci.is_running(other),
        ehci.is_busy(pipe),
        ehci.is_idle(pipe),
    ));
    black_box((ehci.endpoint(pipe), ehci.control_pipe(black_box(3))));
    ehci.reset_toggle(pipe);
    ehci.cancel(pipe);
    ehci.close(pipe);
    Some(())
}

/// Everything that can be asked of streams.
fn streams(ehci: &mut Driver<'_>, endpoint: &Endpoint) -> Option<()> {
    let stream = ehci.open_stream(endpoint).ok()?;
    let sizes = Sizes::new(&black_box([100; 7]));
    let buffer = ehci.dma().incoming(sizes.span()).ok()?;
    let batch = ehci.submit_batch(stream, buffer, sizes).ok()?;
    ehci.watch_batch(batch, Waker::noop());
    ehci.poll();
    let end = ehci.take_batch(batch)?;
    for packet in end.packets() {
        black_box(packet.range());
    }
    ehci.abandon_batch(batch);
    ehci.close_stream(stream);
    Some(())
}

/// Everything that can be asked of the controller and its ports.
fn controller(registers: Mmio, dma: Bounce<'_>) -> Option<()> {
    let mut ehci = Ehci::new(registers, dma, Board).ok()?;
    ehci.start().ok()?;
    ehci.enable_interrupts(&INTERRUPT);
    INTERRUPT.handle(ehci.registers().raw());
    ehci.watch_ports(Waker::noop());
    ehci.poll();
    while let Some(event) = ehci.take_port_event() {
        black_box(ehci.reset_port(event.port));
    }
    let port = black_box(7);
    ehci.disable_port(port);
    black_box((ehci.suspend_port(port), ehci.resume_port(port)));
    black_box((
        ehci.is_port_enabled(port),
        ehci.state(),
        ehci.next_deadline(),
    ));
    while let Some(waker) = ehci.take_woken() {
        waker.wake();
    }
    while let Some(clear) = ehci.translator_to_clear() {
        black_box(clear.request(black_box(true)));
        ehci.translator_cleared(clear);
    }
    let endpoint = black_box(Endpoint {
        address: 1,
        number: 2,
        kind: Kind::Interrupt(Direction::In),
        speed: Speed::Full,
        max_packet: 64,
        interval: 7,
        translator: Some(Translator {
            hub_address: 2,
            hub_port: 3,
        }),
        root_port: Some(0),
    });
    let _ = black_box(transfers(&mut ehci, &endpoint));
    let _ = black_box(streams(&mut ehci, &endpoint));
    black_box(ehci.statistics().qtds);
    ehci.stop().ok()
}

fn run(registers: NonNull<u32>, memory: &mut [u8], storage: &mut Storage<2, 16>) -> Option<()> {
    // SAFETY: nothing runs this.
    let registers = unsafe { Mmio::probe(registers) }.ok()?;
    let provider = Identity::new(memory).ok()?;
    let pool: Pool = Pool::new(&provider, storage).ok()?;
    controller(
        registers,
        Bounce::new(&pool, Constraints::NONE.align(32)).ok()?,
    )
}

#[cfg(target_os = "none")]
mod target {
    use super::*;

    struct Single;

    critical_section::set_impl!(Single);

    // SAFETY: one processor, and no interrupts: nothing runs this.
    unsafe impl critical_section::Impl for Single {
        unsafe fn acquire() -> critical_section::RawRestoreState {}
        unsafe fn release(_: critical_section::RawRestoreState) {}
    }

    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        let mut memory = [0; 65536];
        let registers = black_box(NonNull::dangling());
        let _ = black_box(run(
            registers,
            black_box(&mut memory),
            black_box(&mut Storage::new()),
        ));
        loop {
            core::hint::spin_loop();
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        unsafe extern "C" {
            fn something_can_panic() -> !;
        }
        // SAFETY: there is no such function, so there is no program that calls it.
        unsafe { something_can_panic() }
    }
}

/// On a host it looks at registers that are no controller's.
#[cfg(not(target_os = "none"))]
fn main() {
    let mut registers = [0; 64];
    let registers = NonNull::from(&mut registers).cast();
    let mut memory = vec![0; 65536];
    println!("{:?}", run(registers, &mut memory, &mut Storage::new()));
}
