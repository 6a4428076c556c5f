//! Everything that can go wrong, at every moment: a session ends with success or a typed error within a bound; nothing is left
//! behind; and afterwards the stick works.
//!
//! `EHCI_EXHAUSTIVE=1` tries every event at every microframe of the short session, instead of some of them. `EHCI_SEEDED_RUNS`
//! sets the number of long sessions, `EHCI_SEED` the first seed. The layer `campaigns` of the test command sets the first two.

use super::session::{self, Device, Failure};
use super::wii::{Driver, SHARE, Wii, on_a_wii};
use ehci::{Kind, PortChange, StartError, State, TransferError};
use hollywood_sim::controller::{Doorbell, Faults};
use hollywood_sim::device::disk::Disk;
use hollywood_sim::device::{Fault, Faulty, Function, Hostile, MassStorage, Peripheral, Trick};
use hollywood_sim::{POISON, Random};
use std::cell::RefCell;
use std::env;
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;

type Stick = Rc<RefCell<Faulty<Peripheral<MassStorage>>>>;

const BLOCKS: usize = 64;

fn contents() -> Vec<u8> {
    (0..BLOCKS * 512)
        .map(|at| (at / 512 * 7 + at * 13) as u8)
        .collect()
}

fn stick() -> Peripheral<MassStorage> {
    MassStorage::new([Disk::of(512, contents())]).plug()
}

fn shared(device: Faulty<Peripheral<MassStorage>>) -> Stick {
    Rc::new(RefCell::new(device))
}

/// Waits for a device that was just plugged in.
fn attached(wii: &Wii<'_>, ehci: &mut Driver<'_>) -> Result<(), Failure> {
    match session::port_event(wii, ehci, 0, 300) {
        Some(PortChange::Attached) => Ok(()),
        Some(other) => Err(Failure::Port(other)),
        None => Err(Failure::NoDevice),
    }
}

/// Enumerates the stick, reads, writes and reads back.
fn short_session(wii: &Wii<'_>, ehci: &mut Driver<'_>, fill: u8) -> Result<(), Failure> {
    // As hosts do: a device that did not hear that its address had been accepted gets another chance.
    let enumerated = Device::enumerate(wii, ehci, 0);
    let mut device = enumerated.or_else(|_| Device::enumerate(wii, ehci, 0))?;
    let result = (|| {
        device.make_ready(wii, ehci)?;
        if device.read(wii, ehci, 7, 4)? != contents()[7 * 512..11 * 512] {
            return Err(Failure::Differs);
        }
        device.write(wii, ehci, 20, &[fill; 1024])?;
        if device.read(wii, ehci, 20, 2)? != [fill; 1024] {
            return Err(Failure::Differs);
        }
        Ok(())
    })();
    device.close(ehci);
    result
}

/// Nothing goes wrong any more: the stick must work, whatever happened to it, or the next one in its place.
fn works_again(wii: &Wii<'_>, ehci: &mut Driver<'_>, stick: &Stick, what: &str) {
    wii.controller.set_faults(Faults::default());
    stick.borrow_mut().behave();
    // One that failed is started without waiting; one that is on its way to a stop, at once.
    if ehci.restart() {
        wii.steps(ehci, 80);
        assert_eq!(ehci.state(), State::Running, "{what}");
    } else if ehci.state() != State::Running {
        wii.restart(ehci)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    wii.controller.set_over_current(0, false);
    // Out and in again, since it may be out already.
    wii.controller.unplug(0);
    wii.steps(ehci, 80);
    while ehci.take_port_event().is_some() {}
    wii.controller.plug(0, stick.clone());
    assert_eq!(attached(wii, ehci), Ok(()), "{what}, afterwards");
    assert_eq!(short_session(wii, ehci, 0x99), Ok(()), "{what}, afterwards");
    wii.settle(ehci);
}

/// What happens to the machine at a microframe.
#[derive(Clone, Copy, Debug)]
enum Event {
    Halt,
    SystemError,
    /// Halts, and cannot be reset.
    EndlessReset,
    Unplug,
    OverCurrent,
    Disable,
    EndlessPortReset,
    Cancel,
    SilentDoorbells,
    DeadDoorbells,
    /// Neither answers nor stops when told to.
    DeadSchedule,
    LostInterrupts,
    DataBufferError,
    DataBufferErrors,
}

const EVENTS: [Event; 14] = [
    Event::Halt,
    Event::SystemError,
    Event::EndlessReset,
    Event::Unplug,
    Event::OverCurrent,
    Event::Disable,
    Event::EndlessPortReset,
    Event::Cancel,
    Event::SilentDoorbells,
    Event::DeadDoorbells,
    Event::DeadSchedule,
    Event::LostInterrupts,
    Event::DataBufferError,
    Event::DataBufferErrors,
];

impl Event {
    fn happen(self, wii: &Wii<'_>, ehci: &mut Driver<'_>) {
        let none = Faults::default();
        let next = Some(wii.controller.microframe() + 1);
        let faults = match self {
            Self::Halt => Faults {
                halts_at: next,
                ..none
            },
            Self::EndlessReset => Faults {
                halts_at: next,
                reset_never_ends: true,
                ..none
            },
            Self::SystemError => Faults {
                system_error_at: next,
                ..none
            },
            Self::Unplug => {
                wii.controller.unplug(0);
                return;
            }
            Self::OverCurrent => {
                wii.controller.set_over_current(0, true);
                return;
            }
            Self::Disable => {
                wii.controller.disable_port(0);
                return;
            }
            Self::EndlessPortReset => Faults {
                port_reset_never_ends: true,
                ..none
            },
            Self::Cancel => {
                if let Some(pipe) = wii.busy.get() {
                    ehci.cancel(pipe);
                }
                return;
            }
            Self::DeadSchedule => Faults {
                doorbell: Doorbell::Dead,
                schedules_never_switch: true,
                ..none
            },
            Self::SilentDoorbells => Faults {
                doorbell: Doorbell::Silent,
                ..none
            },
            Self::DeadDoorbells => Faults {
                doorbell: Doorbell::Dead,
                ..none
            },
            Self::LostInterrupts => Faults {
                lost_interrupts: 1000,
                ..none
            },
            Self::DataBufferError => Faults {
                data_buffer_errors: 1,
                ..none
            },
            Self::DataBufferErrors => Faults {
                data_buffer_errors: 1000,
                ..none
            },
        };
        wii.controller.set_faults(faults);
    }

    /// Those that the driver gets over by itself.
    fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::SilentDoorbells
                | Self::DeadDoorbells
                | Self::LostInterrupts
                | Self::DataBufferError
        )
    }
}

/// Microframes after which a schedule that does not stop is given up, and the controller has been stopped: 510 ms, and looks.
const GIVEN_UP: u32 = 8 * 530;

/// Runs the short session with an event at one of its microframes; returns how many it had.
fn disturbed(event: Option<(Event, u64)>, seed: u64, sleeps: bool) -> u64 {
    on_a_wii(128, seed, |wii, mut ehci| {
        if sleeps {
            wii.sleep_between_interrupts(&mut ehci);
        }
        let stick = shared(Faulty::once(stick(), u64::MAX, Fault::Nak));
        wii.controller.plug(0, stick.clone());
        let begin = wii.controller.microframe();
        if let Some((event, at)) = event {
            wii.at(begin + at, move |wii, ehci| event.happen(wii, ehci));
        }
        let result = attached(wii, &mut ehci).and_then(|()| short_session(wii, &mut ehci, 0x77));
        let length = wii.controller.microframe() - begin;
        let what = format!("{event:?}");
        match event {
            None => assert_eq!(result, Ok(())),
            Some((event, _)) if event.is_harmless() => assert_eq!(result, Ok(()), "{what}"),
            Some(_) => assert_ne!(result, Err(Failure::Differs), "{what}"),
        }
        match event {
            Some((Event::DeadSchedule, _)) => {
                // The pipes of the session were closed, which the controller has to confirm.
                wii.steps(&mut ehci, GIVEN_UP);
                assert_eq!(ehci.state(), State::Failed, "{what}");
            }
            Some((Event::EndlessReset, _)) => {
                assert_eq!(ehci.state(), State::Failed, "{what}");
                // Without waiting, and with.
                assert!(ehci.restart());
                wii.steps(&mut ehci, 8 * 260);
                assert_eq!(ehci.state(), State::Failed, "{what}");
                let started = wii.restart(&mut ehci);
                assert!(matches!(started, Err(StartError::ResetTimeout(_))));
            }
            _ => {}
        }
        works_again(wii, &mut ehci, &stick, &what);
        length
    })
}

fn whatever_happens(sleeps: bool) {
    let length = disturbed(None, 0, sleeps);
    let exhaustive = env::var_os("EHCI_EXHAUSTIVE").is_some();
    for event in EVENTS {
        for at in 0..length {
            // The first 160 ms are debouncing and reset, in which little happens.
            let every = SHARE * if at < length - 150 { 97 } else { 7 };
            let chosen = at % every == every / 2;
            if exhaustive || chosen {
                disturbed(Some((event, at)), at, sleeps);
            }
        }
    }
}

#[test]
fn whatever_happens_to_the_controller_or_its_port_at_any_microframe_ends_well() {
    whatever_happens(false);
}

#[test]
fn whatever_happens_ends_well_for_a_driver_that_sleeps_between_interrupts() {
    whatever_happens(true);
}

/// Neither its schedule nor the controller stops, nor is it reset: what it may touch is never given to anybody else.
#[test]
fn a_controller_that_cannot_be_stopped_keeps_its_memory() {
    let length = disturbed(None, 0, false);
    for at in (length - 150..length).step_by(7 * SHARE as usize) {
        on_a_wii(128, at, |wii, mut ehci| {
            wii.controller.plug(0, Rc::new(RefCell::new(stick())));
            let begin = wii.controller.microframe();
            wii.at(begin + at, |wii, _| {
                wii.controller.set_faults(Faults {
                    doorbell: Doorbell::Dead,
                    schedules_never_switch: true,
                    never_halts: true,
                    reset_never_ends: true,
                    ..Faults::default()
                });
            });
            let result = attached(wii, &mut ehci);
            let _ = result.and_then(|()| short_session(wii, &mut ehci, 0x77));
            // Half a second for it to halt, a quarter for its reset.
            wii.steps(&mut ehci, GIVEN_UP + 8 * 760);
            assert_eq!(ehci.state(), State::Runaway, "{at}");
            let control = session::endpoint(0, 0, Kind::Control, 0);
            assert!(ehci.open(&control).is_err());
            wii.steps(&mut ehci, 80);
            wii.is_runaway.set(true);
            // The last resort, which the standard does not define.
            let violations = wii.controller.memory().take_violations();
            let [reset] = &violations[..] else {
                panic!("{violations:?}");
            };
            assert!(reset.to_string().contains("reset of a running controller"));
        });
    }
}

#[test]
fn every_fault_at_every_transaction_ends_well() {
    let run = |fault: Option<(Fault, u64)>, seed| {
        on_a_wii(128, seed, |wii, mut ehci| {
            let (kind, at) = fault.unwrap_or((Fault::Nak, u64::MAX));
            let stick = shared(Faulty::once(self::stick(), at, kind));
            wii.controller.plug(0, stick.clone());
            let result =
                attached(wii, &mut ehci).and_then(|()| short_session(wii, &mut ehci, 0x77));
            let seen = stick.borrow().seen;
            let what = format!("{fault:?}");
            match fault {
                None => assert_eq!(result, Ok(())),
                // The packet comes again when the next one is asked for, and may be too long.
                Some((Fault::LostAcknowledge, _))
                    if result == Err(Failure::Transfer(TransferError::Babble)) => {}
                Some((fault, _)) if Fault::HARMLESS.contains(&fault) => {
                    assert_eq!(result, Ok(()), "{what}");
                }
                Some(_) => assert_ne!(result, Err(Failure::Differs), "{what}"),
            }
            let next = if kind == Fault::Gone {
                shared(Faulty::once(self::stick(), u64::MAX, Fault::Nak))
            } else {
                stick
            };
            works_again(wii, &mut ehci, &next, &what);
            seen
        })
    };
    let total = run(None, 0);
    assert!(total > 30, "{total}");
    for fault in Fault::ALL {
        for at in (0..total).step_by(SHARE as usize) {
            run(Some((fault, at)), at);
        }
    }
}

/// A session with a stick that does not behave ends with success or a typed error, and the next stick works.
fn misbehaving(stick: MassStorage, seed: u64, what: &str) -> Result<(), Failure> {
    on_a_wii(128, seed, |wii, mut ehci| {
        wii.controller.plug(0, Rc::new(RefCell::new(stick.plug())));
        let result = attached(wii, &mut ehci).and_then(|()| short_session(wii, &mut ehci, 0x77));
        assert_ne!(result, Err(Failure::Differs), "{what}");
        let next = shared(Faulty::once(self::stick(), u64::MAX, Fault::Nak));
        works_again(wii, &mut ehci, &next, what);
        result
    })
}

#[test]
fn every_trick_of_a_stick_at_every_command_ends_well() {
    // Two until it is ready, a read, a write, a read.
    const COMMANDS: usize = 5;
    for trick in Trick::ALL {
        let mut failed = 0;
        for at in 0..COMMANDS {
            let mut stick = MassStorage::new([Disk::of(512, contents())]);
            stick.tricks = vec![(at, trick)];
            let what = format!("{trick:?} at {at}");
            failed += u32::from(misbehaving(stick, at as u64, &what).is_err());
        }
        // A driver gets over a halt by itself.
        let harmless = matches!(trick, Trick::StallStatus);
        assert_eq!(failed == 0, harmless, "{trick:?}: {failed}");
    }
}

#[test]
fn every_kind_of_hostile_descriptors_ends_well() {
    for hostile in Hostile::ALL {
        let mut stick = MassStorage::new([Disk::of(512, contents())]);
        hostile.spoil(&mut stick.descriptors);
        // Whether a class driver minds is its own matter; nothing may hang, leak or be overwritten.
        let _ = misbehaving(stick, 1, &format!("{hostile:?}"));
    }
}

/// A device that never does what it should for long: faults one transaction in a few, and events in between.
fn long_session(seed: u64) -> Tally {
    on_a_wii(128, seed, |wii, mut ehci| {
        let mut random = Random::new(seed);
        if random.below(2) == 0 {
            wii.sleep_between_interrupts(&mut ehci);
        }
        let harmless = random.below(2) == 0;
        let faults = if harmless {
            Fault::HARMLESS.to_vec()
        } else {
            Fault::ALL.to_vec()
        };
        let one_in = 8 << random.below(5);
        let stick = shared(Faulty::seeded(stick(), seed, one_in, faults));
        wii.controller.plug(0, stick.clone());
        let mut expected = contents();
        let mut tally = Tally::default();
        let mut device = attached(wii, &mut ehci)
            .and_then(|()| Device::enumerate(wii, &mut ehci, 0))
            .ok();
        for round in 0..12u8 {
            if random.below(16) == 0 && !harmless {
                EVENTS[random.below(EVENTS.len() as u32) as usize].happen(wii, &mut ehci);
            }
            let Some(this) = &mut device else {
                break;
            };
            let first = random.below(BLOCKS as u32 - 16);
            let count = 1 + random.below(15) as usize;
            let range = first as usize * 512..(first as usize + count) * 512;
            let result = if random.below(2) == 0 {
                let read = this.read(wii, &mut ehci, first, count as u16);
                read.map(|bytes| {
                    assert_eq!(bytes, expected[range], "seed {seed}: stale or wrong bytes");
                })
            } else {
                // Not what the memory holds where nobody wrote.
                let fill = match round ^ seed as u8 {
                    POISON => 0,
                    other => other,
                };
                let data = vec![fill; count * 512];
                let written = this.write(wii, &mut ehci, first, &data);
                match written {
                    Ok(()) => expected[range].copy_from_slice(&data),
                    // How much of it arrived is not known.
                    Err(_) => expected.clone_from(&medium(&stick)),
                }
                written
            };
            match result {
                Ok(()) => tally.good += 1,
                Err(failure) => {
                    tally.failed += 1;
                    // A packet that was not acknowledged comes again, and may be too long for what is asked next.
                    let known = matches!(
                        failure,
                        Failure::Transfer(TransferError::Transaction | TransferError::Babble)
                            | Failure::Nonsense(_)
                    );
                    assert!(!harmless || known, "seed {seed}: {failure:?}");
                    if this.recover(wii, &mut ehci).is_err() {
                        device.take().unwrap().close(&mut ehci);
                        device = Device::enumerate(wii, &mut ehci, 0).ok();
                    }
                }
            }
        }
        if let Some(device) = device {
            device.close(&mut ehci);
        }
        let next = shared(Faulty::once(self::stick(), u64::MAX, Fault::Nak));
        works_again(wii, &mut ehci, &next, &format!("seed {seed}"));
        tally
    })
}

/// What is on the disk.
fn medium(stick: &Stick) -> Vec<u8> {
    let mut bytes = vec![0; BLOCKS * 512];
    let mut stick = stick.borrow_mut();
    let disk = &mut stick.device.function.disks[0];
    disk.read(0, &mut bytes).unwrap();
    bytes
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    good: u64,
    failed: u64,
}

#[test]
fn long_sessions_under_random_faults_end_well() {
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("EHCI_SEED", 1);
    let seeds = first..first + number("EHCI_SEEDED_RUNS", 300 / SHARE);
    let total = Mutex::new(Tally::default());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for share in 0..threads {
            let (mine, total) = (seeds.clone().skip(share).step_by(threads), &total);
            scope.spawn(move || {
                for seed in mine {
                    let tally = long_session(seed);
                    let mut total = total.lock().unwrap();
                    total.good += tally.good;
                    total.failed += tally.failed;
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{total:?}");
    assert!(total.good != 0 && total.failed != 0, "{total:?}");
}
