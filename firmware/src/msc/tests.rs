//! Sticks over a fake driver: what the class library and this module make of them together.

use super::*;
use crate::testing::usb::{CONFIGURATION, FakeDriver, FakeStick, Fault, enumeration};
use crate::testing::{contents, expected, fat_volume};
use std::cell::RefCell;
use std::rc::Rc;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use embassy_futures::block_on;

/// Opens the stick, gets its first unit, and runs `act` with it.
fn with_unit<T>(
    stick: &Rc<RefCell<FakeStick>>,
    act: impl AsyncFnOnce(&mut Unit<'_, '_, 'static, FakeDriver>) -> T,
) -> Result<T, StickError> {
    let tally = Tally::new();
    block_on(async {
        let device = MassStorage::open(
            FakeDriver(stick.clone()),
            &tally,
            &enumeration(),
            &CONFIGURATION,
        )
        .await?;
        assert_eq!(device.units(), 1);
        let mut unit = device.unit(0).await?;
        Ok(act(&mut unit).await)
    })
}

/// Reads blocks 2 to 9 of a stick with these faults; returns the result and whether the data is right.
fn read_with(faults: &[Fault]) -> (Result<(), BlockError>, bool, Rc<RefCell<FakeStick>>) {
    let data = contents(1, 64 * 512);
    let stick = FakeStick::new(512, data.clone());
    stick.borrow_mut().faults.extend(faults);
    let (result, right) = with_unit(&stick, async |unit| {
        let mut buffer = vec![0; 8 * 512];
        let result = unit.read(2, &mut buffer).await;
        (result, buffer == data[1024..1024 + 8 * 512])
    })
    .unwrap();
    (result, right, stick)
}

#[test]
fn a_stick_has_names_and_a_capacity() {
    for block_size in [512, 1024, 4096] {
        let stick = FakeStick::new(block_size, vec![0; 1 << 20]);
        with_unit(&stick, async |unit| {
            assert_eq!((unit.vendor(), unit.product()), ("ACME", "Stick"));
            assert_eq!(unit.block_size(), block_size);
            assert_eq!(unit.blocks(), (1 << 20) / u64::from(block_size));
        })
        .unwrap();
    }
}

#[test]
fn one_read_is_one_command_and_is_counted() {
    let stick = FakeStick::new(512, contents(1, 1 << 20));
    with_unit(&stick, async |unit| {
        let before = unit.counters();
        let mut buffer = vec![0; 128 * 512];
        unit.read(1, &mut buffer).await.unwrap();
        let after = unit.counters();
        assert_eq!(after.commands - before.commands, 1);
        assert_eq!(after.bytes_read - before.bytes_read, 128 * 512);
    })
    .unwrap();
    let stick = stick.borrow();
    assert_eq!(stick.commands.iter().filter(|op| **op == 0x28).count(), 1);
}

#[test]
fn every_command_is_counted() {
    let stick = FakeStick::new(512, contents(1, 1 << 20));
    stick.borrow_mut().not_ready = [(6, 0x29, 0), (2, 4, 1)].into();
    let counted = with_unit(&stick, async |unit| unit.counters().commands).unwrap();
    assert_eq!(counted, stick.borrow().commands.len() as u64);
    // INQUIRY, three TEST UNIT READYs with two REQUEST SENSEs, READ CAPACITY.
    assert_eq!(stick.borrow().commands, [0x12, 0, 3, 0, 3, 0, 0x25]);
}

#[test]
fn unit_attention_and_becoming_ready_are_waited_for() {
    let stick = FakeStick::new(512, vec![0; 1 << 20]);
    stick.borrow_mut().not_ready = [(6, 0x29, 0), (6, 0x28, 0), (2, 4, 1), (2, 4, 1)].into();
    with_unit(&stick, async |unit| assert_eq!(unit.blocks(), 2048)).unwrap();
}

#[test]
fn a_unit_without_a_medium_is_an_error_within_a_limit() {
    let stick = FakeStick::new(512, vec![0; 1 << 20]);
    stick.borrow_mut().not_ready = std::iter::repeat_n((2, 0x3A, 0), 1000).collect();
    let started = std::time::Instant::now();
    let error = with_unit(&stick, async |_| ()).unwrap_err();
    let sense = Sense {
        key: 2,
        code: 0x3A,
        qualifier: 0,
    };
    assert_eq!(
        error,
        StickError::Failed {
            step: "waiting for the medium",
            cause: Cause::NotReady(sense)
        }
    );
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn a_stick_that_does_not_say_why_it_is_not_ready_is_asked_three_times() {
    let stick = FakeStick::new(512, vec![0; 1 << 20]);
    stick.borrow_mut().not_ready = [(0, 0, 0), (0, 0, 0)].into();
    with_unit(&stick, async |_| ()).unwrap();

    let stick = FakeStick::new(512, vec![0; 1 << 20]);
    stick.borrow_mut().not_ready = std::iter::repeat_n((0, 0, 0), 1000).collect();
    let error = with_unit(&stick, async |_| ()).unwrap_err();
    let sense = Sense {
        key: 0,
        code: 0,
        qualifier: 0,
    };
    assert_eq!(
        error,
        StickError::Failed {
            step: "waiting for the medium",
            cause: Cause::Device(sense)
        }
    );
    assert_eq!(stick.borrow().not_ready.len(), 1000 - 3);
}

#[test]
fn a_stick_that_does_not_know_test_unit_ready_is_ready() {
    let stick = FakeStick::new(512, vec![0; 1 << 20]);
    stick.borrow_mut().not_ready = [(5, 0x20, 0)].into();
    with_unit(&stick, async |_| ()).unwrap();
}

#[test]
fn impossible_block_sizes_are_refused() {
    for size in [0, 1, 256, 513, 8192, u32::MAX] {
        let stick = FakeStick::new(512, vec![0; 1 << 20]);
        stick.borrow_mut().capacity = Some((1000, size));
        let error = with_unit(&stick, async |_| ()).unwrap_err();
        match size {
            0 => assert!(
                matches!(
                    error,
                    StickError::Failed {
                        step: "READ CAPACITY",
                        ..
                    }
                ),
                "{error}"
            ),
            size => assert_eq!(error, StickError::BlockSize(size)),
        }
    }
}

#[test]
fn units_that_are_not_block_devices_are_refused() {
    let stick = FakeStick::new(2048, vec![0; 1 << 20]);
    stick.borrow_mut().peripheral = 5;
    assert_eq!(
        with_unit(&stick, async |_| ()).unwrap_err(),
        StickError::NotBlocks(PeripheralType::CdDvd)
    );
}

#[test]
fn devices_of_other_classes_are_refused() {
    let mut configuration = CONFIGURATION;
    configuration[9 + 5] = 3; // HID
    let tally = Tally::new();
    let driver = FakeDriver(FakeStick::new(512, vec![0; 1024]));
    let result = block_on(MassStorage::open(
        driver,
        &tally,
        &enumeration(),
        &configuration,
    ));
    assert_eq!(result.err(), Some(StickError::NotMassStorage));
}

#[test]
fn descriptors_of_impossible_lengths_are_refused() {
    for length in [0, 1, 8, 200] {
        let mut configuration = CONFIGURATION;
        configuration[9] = length; // of the interface
        let tally = Tally::new();
        let driver = FakeDriver(FakeStick::new(512, vec![0; 1024]));
        let info = enumeration();
        let opened = MassStorage::open(driver, &tally, &info, &configuration);
        let result = block_on(opened);
        assert!(
            matches!(result.err(), Some(StickError::Failed { .. })),
            "{length}"
        );
    }
}

#[test]
fn names_with_strange_bytes_become_text() {
    let stick = FakeStick::new(512, vec![0; 1 << 20]);
    stick.borrow_mut().names = b"\xFF\x00\"ab\x1B  \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    with_unit(&stick, async |unit| {
        assert_eq!((unit.vendor(), unit.product()), ("??\"ab?", ""))
    })
    .unwrap();
}

#[test]
fn transient_failures_are_tried_again() {
    let transient = [
        Fault::ShortData,
        Fault::StallData,
        Fault::WrongTag,
        Fault::PhaseError,
        Fault::Sense(6, 0x29, 0),
        Fault::Sense(0xB, 0, 0),
        Fault::Sense(0, 0, 0),
        Fault::Sense(2, 4, 1),
    ];
    for fault in transient {
        let (result, right, _) = read_with(&[fault, fault]);
        assert_eq!(result, Ok(()), "{fault:?}");
        assert!(right, "{fault:?}");
    }
}

#[test]
fn failures_that_stay_are_reported_after_three_attempts() {
    let faults: Vec<_> = std::iter::repeat_n(Fault::ShortData, 10).collect();
    let (result, _, stick) = read_with(&faults);
    let cause = Cause::Protocol("it sent less than it was asked for");
    assert_eq!(
        result,
        Err(BlockError {
            block: 2,
            blocks: 8,
            cause
        })
    );
    assert_eq!(
        stick
            .borrow()
            .commands
            .iter()
            .filter(|op| **op == 0x28)
            .count(),
        3
    );
}

#[test]
fn a_medium_error_is_reported_at_once() {
    let (result, _, stick) = read_with(&[Fault::Sense(3, 0x11, 0)]);
    assert_eq!(
        result.unwrap_err().to_string(),
        "blocks 2 to 9: medium error (sense 3/11/00)"
    );
    assert_eq!(
        stick
            .borrow()
            .commands
            .iter()
            .filter(|op| **op == 0x28)
            .count(),
        1
    );
}

#[test]
fn a_changed_medium_is_not_read_on_silently() {
    let (result, _, _) = read_with(&[Fault::Sense(6, 0x28, 0)]);
    let sense = Sense {
        key: 6,
        code: 0x28,
        qualifier: 0,
    };
    assert_eq!(result.unwrap_err().cause, Cause::Device(sense));
}

#[test]
fn an_unplugged_stick_is_gone_at_once() {
    let (result, _, _) = read_with(&[Fault::Unplug]);
    assert_eq!(result.unwrap_err().cause, Cause::Gone);
}

#[test]
fn silence_ends_by_a_deadline_and_a_reset() {
    let (result, right, stick) = read_with(&[Fault::Silence]);
    assert_eq!(result, Ok(()));
    assert!(right);
    // One when the device is opened, one after the silence.
    assert_eq!(stick.borrow().resets, 2);
}

#[test]
fn the_job_runs_over_a_stick() {
    let tree = [
        ("/A long name.bin", contents(1, 100_000)),
        ("/DIR/B", contents(2, 3)),
    ];
    let format = crate::testing::Format {
        fat: fatfs::FatType::Fat16,
        sector: 512,
        cluster: 2048,
        bytes: 16 << 20,
    };
    let stick = FakeStick::new(512, fat_volume(format, &tree));
    let outcome = with_unit(&stick, async |unit| {
        crate::testing::run_async(unit, crate::job::Task::Read).await
    })
    .unwrap();
    assert_eq!(outcome.errors(), []);
    assert_eq!(outcome.files(), expected(&tree));
    let commands = outcome.events.iter().find_map(|event| match event {
        crate::report::Event::StickDone { scsi_commands, .. } => Some(*scsi_commands),
        _ => None,
    });
    assert_eq!(commands, Some(stick.borrow().commands.len() as u64));
}
