use super::*;
use serde_json::{Value, json};
use wiistick::report;

fn stick(index: StickIndex) -> Event<String> {
    Event::Stick {
        stick: index,
        port: 3,
        lun: 0,
        vendor_id: 0x46F4,
        product_id: 1,
        vendor: "QEMU".into(),
        product: "QEMU HARDDISK".into(),
        block_size: 512,
        blocks: 131_072,
    }
}

fn volume(stick: StickIndex) -> Event<String> {
    Event::Volume {
        stick,
        volume: 0,
        kind: VolumeKind::Fat32,
        label: Some("STICK".into()),
        first_block: 2048,
        blocks: 129_024,
    }
}

fn file(path: &str) -> Event<String> {
    Event::File {
        stick: 0,
        volume: 0,
        path: path.into(),
        bytes: 3,
        sha256: Sha256([0xA5; 32]),
    }
}

fn stick_done(error: Option<&str>) -> Event<String> {
    Event::StickDone {
        stick: 0,
        scsi_commands: 9,
        bytes_read: 4096,
        bytes_written: 0,
        read_us: 77,
        write_us: 0,
        error: error.map(String::from),
    }
}

fn done() -> Event<String> {
    Event::Done {
        ok: true,
        error: None,
    }
}

fn good_run() -> Vec<Event<String>> {
    vec![
        Event::Started {
            firmware: "0.1.0".into(),
        },
        Event::Controller {
            kind: ControllerKind::Ehci,
            ports: 6,
            registers: Some(RegisterOrder::Little),
        },
        stick(0),
        volume(0),
        file("/A.TXT"),
        stick_done(None),
        Event::Bounce(report::Bounce {
            pool_base: 0x1000_0000,
            pool_bytes: 65536,
            mappings: 5,
            bounced_bytes: 4100,
            ..Default::default()
        }),
        done(),
    ]
}

fn concluded(events: Vec<Event<String>>, attached: usize) -> Report {
    let mut report = Report::new("qemu");
    for event in events {
        report.add(event);
    }
    report.conclude(attached, false);
    report
}

fn reason(report: &Report) -> &str {
    assert!(!report.ok);
    report.error.as_deref().unwrap()
}

#[test]
fn a_good_run_gives_every_field_of_the_contract() {
    let mut report = concluded(good_run(), 1);
    report.dma = Some(Dma {
        transfers: 12,
        outside_mem2: 0,
    });
    let expected = json!({
        "emulator": "qemu", "firmware": "0.1.0", "ok": true, "error": null,
        "controller": { "kind": "ehci", "ports": 6, "registers": "little" },
        "sticks": [{
            "port": 3, "vendor_id": "46f4", "product_id": "0001", "vendor": "QEMU",
            "product": "QEMU HARDDISK", "block_size": 512, "blocks": 131_072,
            "volumes": [{
                "kind": "fat32", "label": "STICK", "first_block": 2048, "blocks": 129_024,
                "files": [{ "path": "/A.TXT", "bytes": 3, "sha256": "a5".repeat(32) }]
            }],
            "written": [], "scsi_commands": 9, "bytes_read": 4096, "bytes_written": 0,
            "read_us": 77, "write_us": 0, "error": null
        }],
        "bounce": {
            "pool_base": "0x10000000", "pool_bytes": 65536, "mappings": 5, "bounced_bytes": 4100,
            "direct_bytes": 0, "high_water_bytes": 0, "live": 0, "quarantined": 0, "refused": 0
        },
        "dma": { "transfers": 12, "outside_mem2": 0 }
    });
    assert_eq!(serde_json::to_value(&report).unwrap(), expected);
}

/// The names of the fields, and nothing else.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(values) => values.iter().take(1).map(shape).collect(),
        _ => Value::Null,
    }
}

#[test]
fn the_book_shows_a_report_with_every_field() {
    let page = include_str!("../../../docs/src/quick-start.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let mut events = good_run();
    events.push(Event::Written {
        stick: 0,
        volume: 0,
        path: "/B".into(),
        bytes: 1,
        sha256: Sha256([0; 32]),
        verified: true,
    });
    let mut report = concluded(events, 1);
    report.dma = Some(Dma::default());
    let report = serde_json::to_value(&report).unwrap();
    assert_eq!(shape(&serde_json::from_str(block).unwrap()), shape(&report));
}

#[test]
fn what_nobody_reported_is_null() {
    let value = serde_json::to_value(concluded(vec![stick(0)], 1)).unwrap();
    for field in ["firmware", "controller", "bounce", "dma"] {
        assert_eq!(value[field], Value::Null, "{field}");
    }
    assert_eq!(value["sticks"][0]["scsi_commands"], Value::Null);
}

#[test]
fn a_run_that_does_not_end_is_no_success() {
    let mut events = good_run();
    events.pop();
    assert!(reason(&concluded(events, 1)).contains("its end"));
}

#[test]
fn a_stick_that_nobody_found_is_no_success() {
    assert!(reason(&concluded(good_run(), 2)).contains("1 of 2"));
}

#[test]
fn a_stick_that_was_not_finished_is_no_success() {
    let report = concluded(vec![stick(0), volume(0), file("/A.TXT"), done()], 1);
    assert!(reason(&report).contains("0 of 1"));
}

#[test]
fn an_error_on_a_stick_is_no_success_and_stays_with_the_stick() {
    let error = Event::Error {
        stick: Some(0),
        volume: Some(0),
        path: Some("/B.TXT".into()),
        block: Some(77),
        message: "medium error".into(),
    };
    let report = concluded(
        vec![
            stick(0),
            volume(0),
            error,
            stick_done(Some("later")),
            done(),
        ],
        1,
    );
    assert_eq!(reason(&report), "/B.TXT: block 77: medium error");
    assert_eq!(
        report.sticks[0].error.as_deref(),
        Some("/B.TXT: block 77: medium error")
    );
}

#[test]
fn a_file_that_does_not_read_back_as_written_is_no_success() {
    let written = Event::Written {
        stick: 0,
        volume: 0,
        path: "/CHECK.BIN".into(),
        bytes: 1,
        sha256: Sha256([0; 32]),
        verified: false,
    };
    let report = concluded(
        vec![stick(0), volume(0), written, stick_done(None), done()],
        1,
    );
    assert!(reason(&report).contains("/CHECK.BIN"));
}

#[test]
fn a_stick_that_nothing_was_written_to_is_no_success_unless_for_reading() {
    let concluded = |events: Vec<Event<String>>, writing| {
        let mut report = Report::new("qemu");
        events.into_iter().for_each(|event| report.add(event));
        report.conclude(1, writing);
        report
    };
    let mut written = good_run();
    written.insert(
        5,
        Event::Written {
            stick: 0,
            volume: 0,
            path: "/WIISTICK/CHECK.BIN".into(),
            bytes: 3,
            sha256: Sha256([0xA5; 32]),
            verified: true,
        },
    );
    assert!(concluded(written, true).ok);
    assert!(concluded(good_run(), false).ok);
    assert!(reason(&concluded(good_run(), true)).contains("nothing was written to stick 0"));
}

#[test]
fn a_bounce_buffer_that_was_not_given_back_is_no_success() {
    let mut events = good_run();
    events.insert(
        2,
        Event::Bounce(report::Bounce {
            live: 2,
            ..report::Bounce::default()
        }),
    );
    events.retain(|event| !matches!(event, Event::Bounce(bounce) if bounce.live == 0));
    assert!(reason(&concluded(events, 1)).contains("never given back"));
}

#[test]
fn a_crash_is_no_success_whatever_came_before() {
    let crash = report::Crash {
        vector: 0x300,
        name: "DSI".to_owned(),
        srr0: 0x8000_4010,
        srr1: 0,
        dar: 0,
        dsisr: 0,
        lr: 0,
        ctr: 0,
        cr: 0,
        gpr: [0; 32],
        backtrace: Default::default(),
        message: None,
    };
    let mut events = good_run();
    events.push(Event::Crash(crash));
    assert_eq!(reason(&concluded(events, 1)), "crash: DSI at 0x80004010");
}

#[test]
fn an_access_outside_mem2_is_no_success() {
    let mut report = Report::new("qemu");
    good_run().into_iter().for_each(|event| report.add(event));
    report.dma = Some(Dma {
        transfers: 12,
        outside_mem2: 2,
    });
    report.conclude(1, false);
    assert!(reason(&report).contains("outside MEM2 2 times"));
}

#[test]
fn records_of_sticks_and_volumes_that_were_not_named_are_no_success() {
    assert!(reason(&concluded(vec![stick(0), file("/A"), done()], 0)).contains("/A"));
    assert!(reason(&concluded(vec![volume(1), done()], 0)).contains("stick 1"));
    assert!(reason(&concluded(vec![stick_done(None), done()], 0)).contains("before it began"));
}

#[test]
fn a_volume_whose_number_is_not_its_place_is_no_success() {
    let report = concluded(vec![stick(0), volume(0), volume(0), done()], 0);
    assert!(reason(&report).contains("volume 0 of stick 0"));
}

#[test]
fn the_summary_lists_files_and_counts_those_beyond_the_first_forty() {
    let mut events = vec![stick(0), volume(0)];
    events.extend((0..43).map(|number| file(&format!("/{number}"))));
    let summary = concluded(events, 1).summary();
    assert!(summary.contains("fat32") && summary.contains("/39\n") && !summary.contains("/40\n"));
    assert!(summary.contains("and 3 more"));
}
