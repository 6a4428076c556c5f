//! Every operation in one program that does not link if any of them can panic.
//!
//! On the target the panic handler calls a function that does not exist. The linker complains only if something refers to the handler, and says
//! from where. `cargo xtask test` links it, optimised as the firmware is. Formatting is left out: what prints errors is the caller's.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::hint::black_box;
use core::panic::Location;
use core::pin::pin;
use core::ptr::NonNull;
use core::task::{Context, Waker};

use mem2_dma::*;

/// The bookkeeping by itself.
fn table(words: &mut [u32], longest: &mut [u16], records: &mut [Record]) -> Result<(), Error> {
    let reserve = black_box(Reserve {
        mappings: 2,
        bytes: 64,
    });
    let mut table = Table::new(
        words,
        longest,
        records,
        black_box(65536),
        black_box(512),
        reserve,
    )?;
    let owner = Owner {
        device: 1,
        caller: Location::caller(),
        reserved: black_box(true),
    };
    let placed = table.map_single(black_box(4096), &owner)?;
    let extent = |offset: u32| {
        Some(Extent {
            bus: BusAddr::new(black_box(0x1000_0000) + offset),
            len: black_box(65536),
        })
    };
    let constraints = constraints();
    let other = table.map_single_constrained(black_box(512), &owner, &constraints, extent)?;
    table.check_handle(black_box(placed.handle))?;
    black_box((table.live(), table.quarantined(), table.used_bytes()));
    black_box((table.high_water_bytes(), table.bytes(), table.open_bytes()));
    black_box(table.mapping(black_box(3)));
    table.unmap_single(black_box(other.handle))?;
    table.unmap_single(black_box(placed.handle))?;
    Ok(())
}

fn constraints() -> Constraints {
    Constraints::NONE
        .window(
            BusAddr::new(black_box(0)),
            BusAddr::new(black_box(u32::MAX)),
        )
        .align(black_box(64))
        .boundary(black_box(4096))
        .max_segment(black_box(8192))
        .granule(black_box(512))
}

/// Everything that a driver does with a pool.
fn pool(provider: &dyn Provider, storage: &mut Storage<2, 16>) -> Result<(), Error> {
    let pool: Pool = Pool::with_reserve(provider, storage, black_box(Reserve::default()))?;
    let device = pool.attach(constraints())?.reserved();
    // SAFETY: nothing runs this.
    let done = unsafe { Quiesced::assert() };
    let mut dst = black_box([0; 600]);
    let len = black_box(512);
    let data = dst;

    let mapping = device.map_to_device(data.get(..len).unwrap_or_default())?;
    black_box((mapping.bus(), mapping.bus_at(len)?));
    mapping.discard(&done)?;
    let mut mapping = device.map_bidirectional(&data)?;
    mapping.sync_for_device(black_box(3), &data)?;
    mapping.sync_for_cpu(black_box(3), &mut dst)?;
    mapping.complete(&done, len, &mut dst)?;
    let mut unlinked = Quarantine::new(&pool);
    unlinked.append(device.map_from_device(len)?.quarantine());
    unlinked.append(device.map_from_device_zeroed(len)?.quarantine());
    unlinked.take().release(&done);
    drop(device.map_from_device(len)?);

    let scatter = device.scatter_to_device::<4>(&data)?;
    scatter.segments().for_each(|segment| {
        black_box(segment.bus());
    });
    scatter.discard(&done)?;
    device
        .scatter_from_device::<4>(len)?
        .complete(&done, len, &mut dst)?;
    device
        .scatter_from_device::<4>(len)?
        .quarantine(&pool)
        .release(&done);

    let mut buffer = device.allocate(len)?;
    buffer.fill(1);
    let lent = buffer.lend_to_device(len)?;
    black_box(lent.bus_at(len)?);
    let buffer = lent.reclaim(&done)?;
    let buffer = buffer.lend_from_device(len)?.reclaim(&done)?;
    drop(buffer.lend_bidirectional(len)?);

    let word = device.coherent::<Le32>(black_box(32))?;
    word.set(black_box(1));
    word.publish();
    word.refresh();
    black_box((word.get(), word.bus()));
    word.free(&done)?;
    let ring = device.coherent_slice::<[Le32; 8]>(black_box(5), black_box(4096))?;
    black_box(ring.bus_of(black_box(3)));
    drop(ring);

    let mut context = Context::from_waker(Waker::noop());
    let _ = black_box(
        pin!(device.wait_to_device(&data))
            .poll(&mut context)
            .is_ready(),
    );
    let _ = black_box(
        pin!(device.wait_from_device(len))
            .poll(&mut context)
            .is_ready(),
    );
    pool.for_each_live(|mapping| {
        black_box(mapping.slot_bytes);
    });
    black_box(pool.stats().used);
    // SAFETY: nothing runs this.
    black_box(unsafe { device.reset() });
    Ok(())
}

struct Hypervisors;

// SAFETY: nothing runs this.
unsafe impl Hypervisor for Hypervisors {
    fn exchange(&self, page: u32, _: u32, _: u32) -> Option<u32> {
        black_box(Some(page))
    }
    fn page_of(&self, frame: u32) -> Option<u32> {
        black_box(Some(frame))
    }
}

/// The four providers.
fn providers(memory: &mut [u8], storage: &mut Storage<2, 16>) -> Result<(), Error> {
    pool(&Identity::new(memory)?, storage)?;
    pool(&Offset::new(memory, BusAddr::new(black_box(0)))?, storage)?;
    let mut frames = black_box([0; 16]);
    pool(
        &Machine::new(
            memory,
            &mut frames,
            &Hypervisors,
            black_box(4),
            black_box(32),
        )?,
        storage,
    )?;
    let start = NonNull::from(&mut *memory).cast();
    let (bus, len) = (black_box(BusAddr::new(0x1000_0000)), memory.len());
    // SAFETY: nothing runs this.
    pool(&unsafe { Mem2::uncached(start, bus, len) }?, storage)?;
    let cache = hollywood_pac::cache::Broadway;
    // SAFETY: nothing runs this.
    pool(
        &unsafe { Mem2::cached(start, start, bus, len, cache) }?,
        storage,
    )
}

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let (mut words, mut longest) = ([0; 4 * GROUP_WORDS], [0; 4 * GROUP_WORDS]);
    let mut records = [const { Record::FREE }; 16];
    let _ = black_box(table(&mut words, &mut longest, &mut records));
    let mut memory = [0; 65536];
    let _ = black_box(providers(
        black_box(&mut memory),
        black_box(&mut Storage::new()),
    ));
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(target_os = "none")]
struct Nothing;

#[cfg(target_os = "none")]
critical_section::set_impl!(Nothing);

#[cfg(target_os = "none")]
// SAFETY: nothing runs this.
unsafe impl critical_section::Impl for Nothing {
    unsafe fn acquire() {}
    unsafe fn release(_: ()) {}
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        fn something_can_panic() -> !;
    }
    // SAFETY: there is no such function, so there is no program that calls it.
    unsafe { something_can_panic() }
}

#[cfg(not(target_os = "none"))]
fn main() {
    let (mut words, mut longest) = ([0; 4 * GROUP_WORDS], [0; 4 * GROUP_WORDS]);
    let mut records = [const { Record::FREE }; 16];
    println!("{:?}", table(&mut words, &mut longest, &mut records));
    let mut memory = vec![0; 65536];
    println!("{:?}", providers(&mut memory, &mut Storage::new()));
}
