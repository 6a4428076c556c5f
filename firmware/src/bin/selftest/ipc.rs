//! The program's IPC driver against IOS: what it promises, and that each piece of cache maintenance is needed for it.
//!
//! The negative tests also show that Dolphin's cache model is on, so that the tests that pass under it mean something.

use super::careless::{self, Maintenance};
use super::suite::{Needs, Test};
use embassy_futures::block_on;
use embassy_time::{Duration, with_timeout};
use mem2_dma::{Mem2, Pool};
use wiistick::arguments::Arguments;
use wiistick::ios::{Fd, IosError, Output, Pending, Request, Whence, code};
use wiistick::wii::{dma, ipc};

pub const TESTS: &[Test] = &[
    (
        "ipc-with-maintenance-is-right",
        Needs::Hollywood,
        maintained,
    ),
    (
        "ipc-uncleaned-path-is-seen-stale",
        Needs::Hollywood,
        uncleaned_path,
    ),
    (
        "ipc-uncleaned-request-is-seen-stale",
        Needs::Hollywood,
        uncleaned_request,
    ),
    (
        "ipc-reply-without-invalidate-is-seen-stale",
        Needs::Hollywood,
        reply_not_invalidated,
    ),
    (
        "ipc-thousand-mixed-requests",
        Needs::Hollywood,
        thousand_mixed_requests,
    ),
    ("ipc-files-read-back", Needs::Hollywood, files_read_back),
    (
        "ipc-cancelled-wait-keeps-its-memory",
        Needs::Hollywood,
        cancelled_wait,
    ),
    (
        "ipc-inherited-descriptors-are-closed",
        Needs::Hollywood,
        inherited_descriptors,
    ),
];

/// A device that both IOS and Dolphin have.
const DEVICE: &str = "/dev/stm/immediate";
const NOBODY: &str = "/dev/nobody";
/// USB devices, its requests for its version, device changes and their end (hardware notes, section 6.4).
const VEN: &str = "/dev/usb/ven";
const VEN_VERSION: u32 = 0;
const VEN_DEVICE_CHANGE: u32 = 1;
const VEN_SHUTDOWN: u32 = 2;
/// Dolphin's own device and its request for its version (hardware notes, section 9.3).
const DOLPHIN: &str = "/dev/dolphin";
const DOLPHIN_VERSION: u32 = 2;

const NOT_FOUND: IosError = IosError::Refused(code::NOT_FOUND);

fn said(_: IosError) -> &'static str {
    "a request failed that should not"
}

fn check(right: bool, otherwise: &'static str) -> Result<(), &'static str> {
    right.then_some(()).ok_or(otherwise)
}

fn driver() -> Result<&'static ipc::Ios, &'static str> {
    ipc::ios().map_err(|_| "there is no memory for requests")
}

fn careless_driver() -> Result<ipc::Ios, &'static str> {
    let device = careless::pool()
        .and_then(|pool| pool.attach(Mem2::CONSTRAINTS))
        .map_err(|_| "there is no memory for requests")?;
    // SAFETY: a test runs alone and makes one driver.
    Ok(unsafe { ipc::driver(device) })
}

/// Nothing of the pool is in use any more, and nothing ever was where IOS must not write.
fn pool_is_empty(ios: &ipc::Ios, pool: &Pool<'static>) -> Result<(), &'static str> {
    let (requests, memory) = (ios.statistics(), pool.stats());
    defmt::info!(
        "{=u64} requests, {=u64} buffers, {=u64} outside MEM2, at most {=usize} in flight",
        requests.requests,
        requests.buffers,
        requests.outside_mem2,
        requests.most_in_flight
    );
    check(requests.in_flight == 0, "IOS still has a request")?;
    check(requests.strays == 0, "a reply belonged to nobody")?;
    check(
        requests.outside_mem2 == 0 && requests.buffers > 0,
        "a buffer was not in MEM2",
    )?;
    check(
        memory.live == 0 && memory.quarantined == 0,
        "the pool is not empty",
    )
}

fn maintained(_: Arguments<'static>) -> Result<(), &'static str> {
    let ios = driver()?;
    block_on(async {
        let fd = ios.open(DEVICE, 0).await.map_err(said)?;
        ios.close(fd).await.map_err(said)
    })?;
    pool_is_empty(ios, dma::pool().map_err(|_| "no pool")?)
}

/// Opens and closes the device, with everything in place.
fn opens_again(ios: &ipc::Ios) -> Result<(), &'static str> {
    careless::leave_out(None);
    block_on(async {
        let fd = ios.open(DEVICE, 0).await.map_err(said)?;
        ios.close(fd).await.map_err(said)
    })
}

fn uncleaned_path(_: Arguments<'static>) -> Result<(), &'static str> {
    let ios = careless_driver()?;
    // What RAM holds at the path's place from now on.
    check(
        block_on(ios.open(NOBODY, 0)) == Err(NOT_FOUND),
        "IOS has a device that nobody has",
    )?;
    careless::leave_out(Some(Maintenance::Clean));
    check(
        block_on(ios.open(DEVICE, 0)) == Err(NOT_FOUND),
        "IOS saw a path that never left the cache: the cache model is off",
    )?;
    opens_again(&ios)
}

fn uncleaned_request(_: Arguments<'static>) -> Result<(), &'static str> {
    let ios = careless_driver()?;
    // What RAM holds at the block's place from now on: a reply, which is no command.
    let _ = block_on(ios.close(Fd::from_number(31)));
    careless::leave_out(Some(Maintenance::Flush));
    check(
        block_on(ios.open(DEVICE, 0)).is_err(),
        "IOS saw a request that never left the cache: the cache model is off",
    )?;
    opens_again(&ios)
}

fn reply_not_invalidated(_: Arguments<'static>) -> Result<(), &'static str> {
    /// The first word of a block as it was sent: an open.
    const OPEN: u32 = 1;
    let ios = careless_driver()?;
    careless::leave_out(Some(Maintenance::InvalidateReply));
    check(
        block_on(ios.open(DEVICE, 0)) == Err(IosError::NoReply(OPEN)),
        "a reply was seen without an invalidate: the cache model is off",
    )?;
    opens_again(&ios)
}

/// What a request of the mix is to bring.
enum Expected {
    /// A descriptor, to be closed later.
    Open,
    /// This refusal.
    Refused(i32),
    /// Any refusal.
    SomeRefusal,
    /// Success.
    Success,
    /// The version of the USB service.
    VenVersion,
    /// Dolphin's version.
    DolphinVersion,
}

const REQUESTS: u32 = 1000;
const AT_ONCE: usize = 8;

fn thousand_mixed_requests(_: Arguments<'static>) -> Result<(), &'static str> {
    let ios = driver()?;
    let device = ios.device();
    let first = block_on(ios.open(DEVICE, 0)).map_err(said)?;
    block_on(ios.close(first)).map_err(said)?;
    let ven = block_on(ios.open(VEN, 0)).map_err(said)?;
    let dolphin = block_on(ios.open(DOLPHIN, 0)).map_err(said)?;
    let mut version = [0; 64];
    let mut reply = block_on(
        ios.request(
            Request::ioctlv(device, dolphin, DOLPHIN_VERSION, &[], &[Output::Zeroed(64)])
                .map_err(said)?,
        ),
    )
    .map_err(said)?;
    reply.receive(0, &mut version).map_err(said)?;
    drop(reply);

    let mut random = 0x1234_5678u32;
    let mut next = |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % below
    };
    let mut open: heapless::Vec<Fd, 8> = heapless::Vec::new();
    let mut under_way: [Option<(Pending<'_, '_, ipc::Hollywood>, Expected)>; AT_ONCE] =
        [const { None }; AT_ONCE];
    let (mut waited, mut dropped) = (0u32, 0u32);
    for _ in 0..REQUESTS {
        let place = &mut under_way[next(AT_ONCE as u32) as usize];
        if let Some((pending, expected)) = place.take() {
            // A descriptor is closed by a request that somebody waits for, so that the list stays right.
            if next(6) == 0 && !matches!(expected, Expected::Success) {
                dropped += 1;
                drop(pending);
            } else {
                waited += 1;
                if let Some(fd) = judge(block_on(pending), &expected, &version)?
                    && open.push(fd).is_err()
                {
                    block_on(ios.close(fd)).map_err(said)?;
                }
            }
        }
        let (request, expected) = match next(7) {
            0 => (Request::open(device, DEVICE, 0), Expected::Open),
            1 => (
                Request::open(device, NOBODY, 0),
                Expected::Refused(code::NOT_FOUND),
            ),
            2 | 3 => match open.pop() {
                Some(fd) => (Ok(Request::close(fd)), Expected::Success),
                None => (
                    Ok(Request::close(Fd::from_number(200))),
                    Expected::SomeRefusal,
                ),
            },
            4 => (
                Request::ioctl(device, Fd::from_number(31), 0, &[1, 2, 3], 32),
                Expected::SomeRefusal,
            ),
            5 => (
                Request::ioctl(device, ven, VEN_VERSION, &[], 32),
                Expected::VenVersion,
            ),
            _ => (
                Request::ioctlv(device, dolphin, DOLPHIN_VERSION, &[], &[Output::Zeroed(64)]),
                Expected::DolphinVersion,
            ),
        };
        let pending = ios.submit(request.map_err(said)?).map_err(said)?;
        *place = Some((pending, expected));
    }
    for (pending, expected) in under_way.iter_mut().filter_map(Option::take) {
        if let Some(fd) = judge(block_on(pending), &expected, &version)? {
            block_on(ios.close(fd)).map_err(said)?;
        }
    }
    for fd in open {
        block_on(ios.close(fd)).map_err(said)?;
    }
    // Behind everything that was dropped, closes of forgotten opens included.
    until_idle(ios)?;
    block_on(ios.close(dolphin)).map_err(said)?;
    block_on(ios.close(ven)).map_err(said)?;
    check(
        block_on(ios.close(ven)).is_err(),
        "IOS closed a descriptor twice",
    )?;
    // IOS gives out the lowest free descriptor: every open was closed.
    let last = block_on(ios.open(DEVICE, 0)).map_err(said)?;
    check(last == first, "a descriptor was left open")?;
    block_on(ios.close(last)).map_err(said)?;

    let statistics = ios.statistics();
    defmt::info!(
        "{=u32} waited for, {=u32} dropped, {=u64} forgotten",
        waited,
        dropped,
        statistics.forgotten
    );
    check(dropped >= 50, "hardly any wait was cancelled")?;
    check(
        statistics.most_in_flight >= 4,
        "hardly anything was in flight at the same time",
    )?;
    check(statistics.requests >= 900, "too few requests reached IOS")?;
    pool_is_empty(ios, dma::pool().map_err(|_| "no pool")?)
}

/// Compares what came with what was expected; returns a descriptor that was opened.
fn judge(
    end: Result<wiistick::ios::Reply<'_>, IosError>,
    expected: &Expected,
    version: &[u8; 64],
) -> Result<Option<Fd>, &'static str> {
    match (end, expected) {
        (Ok(reply), Expected::Open) => return Ok(Some(Fd::from_number(reply.result as u32))),
        (Ok(_), Expected::Success) | (Err(IosError::Refused(_)), Expected::SomeRefusal) => {}
        (Err(IosError::Refused(result)), Expected::Refused(wanted)) => {
            check(
                result == *wanted,
                "a request was refused for another reason",
            )?;
        }
        (Ok(mut reply), Expected::VenVersion) => {
            let mut word = [0; 4];
            reply.receive(1, &mut word).map_err(said)?;
            check(word == [0, 5, 0, 1], "the USB service has another version")?;
        }
        (Ok(mut reply), Expected::DolphinVersion) => {
            let mut text = [0; 64];
            reply.receive(0, &mut text).map_err(said)?;
            check(
                text.iter()
                    .zip(version)
                    .take_while(|(byte, _)| **byte != 0)
                    .all(|(a, b)| a == b),
                "Dolphin told another version",
            )?;
        }
        _ => return Err("a request ended otherwise than it should"),
    }
    Ok(None)
}

/// Waits until IOS has nothing any more.
fn until_idle(ios: &ipc::Ios) -> Result<(), &'static str> {
    let idle = async {
        while ios.statistics().in_flight > 0 {
            ios.poll();
            embassy_futures::yield_now().await;
        }
    };
    block_on(with_timeout(Duration::from_secs(2), idle)).map_err(|_| "IOS keeps a request")
}

fn files_read_back(_: Arguments<'static>) -> Result<(), &'static str> {
    /// The NAND file system: its requests to make and to delete a file, which both take a path of 64 bytes.
    const FILE_SYSTEM: &str = "/dev/fs";
    const CREATE: u32 = 9;
    const DELETE: u32 = 7;
    const READ_WRITE: u32 = 3;
    const PATH: &str = "/tmp/wiistick.bin";
    let ios = driver()?;
    block_on(async {
        let fs = ios.open(FILE_SYSTEM, 0).await.map_err(said)?;
        let mut path = [0; 64];
        path[..PATH.len()].copy_from_slice(PATH.as_bytes());
        let _ = ios.ioctl(fs, DELETE, &path, &mut []).await;
        // Owner, group, path, three permissions, attributes.
        let mut file = [0; 76];
        file[6..70].copy_from_slice(&path);
        file[70..73].copy_from_slice(&[3, 3, 3]);
        ios.ioctl(fs, CREATE, &file, &mut []).await.map_err(said)?;

        let fd = ios.open(PATH, READ_WRITE).await.map_err(said)?;
        // In MEM1, on the stack, not aligned.
        let mut data = [0u8; 1537];
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = (index * 7 + 3) as u8;
        }
        let written = ios.write(fd, &data[1..]).await.map_err(said)?;
        check(written == 1536, "IOS wrote less than it should")?;
        let place = ios.seek(fd, 100, Whence::Start).await.map_err(said)?;
        check(place == 100, "IOS went elsewhere")?;
        let mut back = [0xEEu8; 1600];
        let read = ios.read(fd, &mut back[3..]).await.map_err(said)?;
        check(read == 1436, "IOS read another number of bytes")?;
        check(back[3..3 + read] == data[101..], "IOS read other bytes")?;
        check(
            back[..3]
                .iter()
                .chain(&back[3 + read..])
                .all(|&byte| byte == 0xEE),
            "bytes that were not read have changed",
        )?;
        ios.close(fd).await.map_err(said)?;
        ios.ioctl(fs, DELETE, &path, &mut []).await.map_err(said)?;
        check(
            ios.open(PATH, READ_WRITE).await.is_err(),
            "a deleted file can be opened",
        )?;
        ios.close(fs).await.map_err(said)
    })?;
    pool_is_empty(ios, dma::pool().map_err(|_| "no pool")?)
}

/// IOS answers the second request for device changes when something changes, so never: its memory must stay IOS's.
fn cancelled_wait(_: Arguments<'static>) -> Result<(), &'static str> {
    const LIST: usize = 0x180;
    let ios = driver()?;
    let pool = dma::pool().map_err(|_| "no pool")?;
    block_on(async {
        let ven = ios.open(VEN, 0).await.map_err(said)?;
        let mut list = [0; LIST];
        ios.ioctl(ven, VEN_DEVICE_CHANGE, &[], &mut list)
            .await
            .map_err(said)?;
        let request = Request::ioctl(ios.device(), ven, VEN_DEVICE_CHANGE, &[], LIST);
        let waiting = ios.submit(request.map_err(said)?).map_err(said)?;
        check(
            with_timeout(Duration::from_millis(50), waiting)
                .await
                .is_err(),
            "devices changed by themselves",
        )?;
        check(
            ios.statistics().in_flight == 1 && pool.stats().live == 2,
            "the memory of a request that IOS has was freed",
        )?;
        // Others go on meanwhile.
        let fd = ios.open(DEVICE, 0).await.map_err(said)?;
        ios.close(fd).await.map_err(said)?;
        ios.ioctl(ven, VEN_SHUTDOWN, &[], &mut [])
            .await
            .map_err(said)?;
        until_idle(ios)?;
        check(ios.statistics().forgotten == 1, "IOS did not give it back")?;
        ios.close(ven).await.map_err(said)
    })?;
    pool_is_empty(ios, pool)
}

fn inherited_descriptors(_: Arguments<'static>) -> Result<(), &'static str> {
    let ios = driver()?;
    block_on(async {
        let first = ios.open(DEVICE, 0).await.map_err(said)?;
        for _ in 0..5 {
            ios.open(DEVICE, 0).await.map_err(said)?;
        }
        ios.close_inherited().await;
        let again = ios.open(DEVICE, 0).await.map_err(said)?;
        check(first == again, "a descriptor was left open")?;
        ios.close(again).await.map_err(said)
    })?;
    pool_is_empty(ios, dma::pool().map_err(|_| "no pool")?)
}
