extern crate std;

use super::*;
use crate::ui::access::Obstacle;
use crate::ui::screen::Row;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const READY: Access = Access::Controller {
    ports: 4,
    ios: Some(58),
};

fn volume(kind: VolumeKind, label: &str) -> VolumeInfo {
    VolumeInfo {
        kind,
        label: Line::of(label),
        bytes: 1 << 30,
    }
}

fn stick(id: u16, port: u8, name: &str) -> Stick {
    let mut volumes = heapless::Vec::new();
    volumes.push(volume(VolumeKind::Fat32, "HOLIDAY")).unwrap();
    volumes.push(volume(VolumeKind::Unknown, "")).unwrap();
    Stick {
        id,
        port,
        name: Line::of(name),
        bytes: 16_000_000_000,
        volumes,
        problem: None,
    }
}

/// A menu with memory that stays.
fn app_with(access: Access, last_log: bool) -> Box<App<'static>> {
    let memory = Box::leak(Box::new(Memory::new()));
    Box::new(App::new("1.2.3", access, last_log, memory))
}

fn app() -> Box<App<'static>> {
    let mut app = app_with(READY, true);
    app.stick_came(stick(7, 0, "Make Model"));
    app
}

/// The rows as text; the one under the cursor begins with `>`.
fn rows(app: &App<'_>) -> Vec<String> {
    let rows = app.screen().rows.into_iter();
    rows.map(|row| match row {
        Row::Text(text, _) => text.as_str().to_string(),
        Row::Item {
            text,
            detail,
            selected,
            ..
        } => {
            let cursor = if selected { ">" } else { "" };
            std::format!("{cursor}{} {}", text.as_str(), detail.as_str())
                .trim()
                .to_string()
        }
        Row::Bar { permille } => std::format!("[{permille}]"),
        Row::Gap => String::new(),
    })
    .collect()
}

fn title(app: &App<'_>) -> String {
    app.screen().title.as_str().to_string()
}

/// Presses keys: `u d l r` move, `a b s` are buttons. Returns the last command.
fn press(app: &mut App<'_>, keys: &str) -> Option<Command> {
    let mut command = None;
    for key in keys.chars() {
        command = app.key(match key {
            'u' => Key::Up,
            'd' => Key::Down,
            'l' => Key::PageUp,
            'r' => Key::PageDown,
            'a' => Key::Confirm,
            'b' => Key::Back,
            's' => Key::Start,
            other => panic!("{other}"),
        });
    }
    command
}

#[test]
fn the_first_page_lists_sticks_and_what_can_be_done() {
    let app = app();
    assert_eq!(
        rows(&app),
        [
            ">Make Model 14.9 GiB",
            "",
            "Look at this console's hardware",
            "Log of the last run",
            "About this program",
            "Quit"
        ]
    );
}

#[test]
fn without_a_stick_it_says_what_to_do() {
    let mut app = app();
    app.sticks_gone(0);
    assert_eq!(rows(&app)[0], "Plug in a USB stick: it appears here.");
    app.stick_came(stick(8, 1, "Another"));
    assert_eq!(rows(&app)[0], ">Another 14.9 GiB");
}

#[test]
fn the_cursor_goes_round() {
    let mut app = app();
    assert_eq!(press(&mut app, "ua"), Some(Command::Quit(Exit::Loader)));
    press(&mut app, "d");
    assert_eq!(rows(&app)[0], ">Make Model 14.9 GiB");
}

#[test]
fn a_stick_has_its_volumes_and_actions() {
    let mut app = app();
    assert_eq!(press(&mut app, "a"), None);
    assert_eq!(title(&app), "Make Model");
    assert_eq!(
        rows(&app),
        [
            ">HOLIDAY FAT32  1.0 GiB",
            "(no name) unknown  1.0 GiB",
            "",
            "Check every file",
            "Measure its speed",
            "Eject"
        ]
    );
    press(&mut app, "b");
    assert_eq!(title(&app), "wiistick");
}

#[test]
fn an_unknown_file_system_is_not_entered() {
    let mut app = app();
    assert_eq!(press(&mut app, "ada"), None);
    assert_eq!(rows(&app).last().unwrap(), "This file system is not known.");
    press(&mut app, "u");
    assert_ne!(rows(&app).last().unwrap(), "This file system is not known.");
}

#[test]
fn folders_are_listed_first_and_by_name() {
    let mut app = app();
    assert_eq!(
        press(&mut app, "aa"),
        Some(Command::List {
            stick: 7,
            volume: 0
        })
    );
    assert_eq!(rows(&app), ["/", "Reading..."]);
    for (place, name, bytes) in [
        (0, "zebra.txt", Some(5)),
        (1, "Pictures", None),
        (2, "Äpfel.txt", Some(2048)),
        (3, "apes", None),
        (4, "Alpha.txt", Some(1)),
    ] {
        assert!(app.entry(place, name, bytes));
    }
    app.listed(false);
    assert_eq!(
        rows(&app),
        [
            "/",
            ">apes",
            "Pictures",
            "Alpha.txt 1 bytes",
            "zebra.txt 5 bytes",
            "Äpfel.txt 2.0 KiB"
        ]
    );
    // Into "Pictures", the second in the directory.
    assert!(press(&mut app, "da").is_some());
    assert_eq!(app.path().collect::<Vec<_>>(), [1]);
    assert_eq!(rows(&app)[0], "/Pictures");
    app.entry(0, "inner", None);
    app.listed(false);
    press(&mut app, "a");
    assert_eq!(app.path().collect::<Vec<_>>(), [1, 0]);
    assert_eq!(rows(&app)[0], "/Pictures/inner");
    // Back up, by listing again, and out.
    assert!(press(&mut app, "b").is_some());
    assert_eq!(rows(&app)[0], "/Pictures");
    assert!(press(&mut app, "b").is_some());
    assert_eq!(rows(&app)[0], "/");
    assert_eq!(press(&mut app, "b"), None);
    assert_eq!(title(&app), "Make Model");
}

#[test]
fn a_file_shows_what_is_known_of_it() {
    let mut app = app();
    press(&mut app, "aa");
    app.entry(0, "letter.txt", Some(1536));
    app.listed(false);
    press(&mut app, "a");
    assert_eq!(rows(&app)[0], "letter.txt");
    assert!(rows(&app).contains(&"Length: 1.5 KiB (1536 bytes)".to_string()));
    press(&mut app, "b");
    assert_eq!(rows(&app)[1], ">letter.txt 1.5 KiB");
}

#[test]
fn a_folder_with_too_many_entries_is_cut_and_scrolls() {
    let mut app = app();
    press(&mut app, "aa");
    let mut taken = 0;
    for place in 0..1000 {
        taken += 1;
        if !app.entry(place, &std::format!("{place:04}"), Some(0)) {
            break;
        }
    }
    assert_eq!(taken, MAX_ENTRIES);
    app.listed(true);
    assert_eq!(app.screen().status.as_str(), "the first 256");
    press(&mut app, "u");
    assert_eq!(rows(&app).len(), ROWS);
    assert_eq!(rows(&app).last().unwrap(), ">0255 0 bytes");
    press(&mut app, "llllllllllllllllllllllllllllll");
    assert_eq!(rows(&app)[1], ">0000 0 bytes");
    assert_eq!(app.screen().scroll.unwrap().first, 0);
}

#[test]
fn a_folder_that_cannot_be_read_says_why() {
    let mut app = app();
    press(&mut app, "aa");
    app.failed("block 5 cannot be read");
    assert!(rows(&app).contains(&"block 5 cannot be read".to_string()));
    assert_eq!(press(&mut app, "a"), None);
    press(&mut app, "b");
    assert_eq!(title(&app), "Make Model");
}

#[test]
fn folders_without_end_are_left() {
    let mut app = app();
    press(&mut app, "aa");
    let mut depth = 0;
    loop {
        app.entry(0, "down", None);
        app.listed(false);
        if press(&mut app, "a").is_none() {
            break;
        }
        depth += 1;
        assert!(depth <= MAX_DEPTH);
    }
    assert_eq!(depth, MAX_DEPTH);
    assert_eq!(rows(&app).last().unwrap(), "This is too deep for the menu.");
    for _ in 0..depth {
        assert!(press(&mut app, "b").is_some());
    }
    assert_eq!(rows(&app)[0], "/");
}

fn file(path: &'static str, bytes: u64) -> Event<&'static str> {
    Event::File {
        stick: 7,
        volume: 0,
        path,
        bytes,
        sha256: crate::report::Sha256([0; 32]),
    }
}

#[test]
fn a_check_shows_how_far_it_is_and_ends_with_a_verdict() {
    let mut app = app();
    press(&mut app, "a");
    assert_eq!(press(&mut app, "dda"), Some(Command::Check(7)));
    app.event(&file("/DCIM/photo.jpg", 1 << 20));
    app.event(&Event::Progress {
        stick: 7,
        percent: 42,
        bytes: 1 << 20,
        rate: 1 << 24,
        remaining_s: None,
    });
    assert_eq!(title(&app), "Checking");
    assert!(rows(&app).contains(&"[420]".to_string()));
    assert!(rows(&app).contains(&"42 %   1.0 MiB   16.0 MiB/s".to_string()));
    assert!(rows(&app).contains(&"/DCIM/photo.jpg".to_string()));
    app.finished(false);
    assert_eq!(rows(&app)[0], "Everything was read.");
    assert_eq!(rows(&app)[2], "1 files, 1.0 MiB");
    // It is about this stick, so it can be saved there.
    assert_eq!(
        press(&mut app, "a"),
        Some(Command::Save {
            stick: 7,
            name: "CHECK.TXT"
        })
    );
    press(&mut app, "b");
    assert_eq!(title(&app), "Make Model");
}

#[test]
fn a_check_of_a_stick_with_a_foreign_volume_does_not_end_with_praise() {
    let mut app = app();
    press(&mut app, "adda");
    for kind in [VolumeKind::Fat32, VolumeKind::ExFat] {
        app.event(&Event::Volume {
            stick: 7,
            volume: 0,
            kind,
            label: None,
            first_block: 0,
            blocks: 100,
        });
    }
    app.finished(false);
    assert_eq!(rows(&app)[0], "Not every volume was read.");
    assert!(rows(&app)[5].starts_with("1 volumes are neither FAT12"));
}

#[test]
fn errors_of_a_check_are_listed_and_counted() {
    let mut app = app();
    press(&mut app, "adda");
    for block in 0..30 {
        app.event(&Event::Error {
            stick: Some(7),
            volume: Some(0),
            path: Some("/broken.bin"),
            block: Some(block),
            message: "cannot be read",
        });
    }
    assert!(rows(&app).contains(&"30 errors".to_string()));
    app.finished(false);
    assert!(app.text().starts_with("! Not everything could be read."));
    assert!(
        app.text()
            .contains("! /broken.bin: cannot be read (block 19)\n")
    );
    assert!(!app.text().contains("block 20"));
    assert!(app.text().contains("... and 10 more"));
}

#[test]
fn work_can_be_stopped_and_nothing_else() {
    let mut app = app();
    press(&mut app, "adda");
    assert_eq!(press(&mut app, "uadls"), None);
    assert_eq!(press(&mut app, "b"), Some(Command::Cancel));
    app.finished(true);
    assert_eq!(rows(&app)[0], "Stopped.");
}

#[test]
fn a_stick_that_goes_takes_its_pages_along() {
    for keys in ["a", "aa"] {
        let mut app = app();
        press(&mut app, keys);
        app.sticks_gone(1);
        assert_ne!(title(&app), "wiistick", "another port");
        app.sticks_gone(0);
        assert_eq!(title(&app), "wiistick");
        assert_eq!(rows(&app).last().unwrap(), "The stick was unplugged.");
    }
    // During work the work ends first.
    let mut app = app();
    press(&mut app, "addda");
    app.sticks_gone(0);
    assert_eq!(title(&app), "Measuring");
    app.failed("the stick is gone");
    assert_eq!(title(&app), "wiistick");
}

#[test]
fn an_ejected_stick_leaves_the_menu() {
    let mut app = app();
    press(&mut app, "a");
    assert_eq!(press(&mut app, "ua"), Some(Command::Eject(7)));
    app.ejected(7);
    assert_eq!(title(&app), "wiistick");
    assert_eq!(rows(&app)[0], "Plug in a USB stick: it appears here.");
    assert_eq!(
        rows(&app).last().unwrap(),
        "The stick can be unplugged now."
    );
}

#[test]
fn power_and_reset_count_on_every_page() {
    for keys in ["", "a", "aa", "adda", "ddda"] {
        let mut app = app();
        press(&mut app, keys);
        assert_eq!(app.key(Key::Power), Some(Command::Quit(Exit::PowerOff)));
        assert_eq!(app.key(Key::Reset), Some(Command::Quit(Exit::Loader)));
    }
}

#[test]
fn the_eject_button_ejects_the_stick_that_the_cursor_is_on() {
    let mut app = app();
    assert_eq!(app.key(Key::Eject), Some(Command::Eject(7)));
    press(&mut app, "a");
    assert_eq!(app.key(Key::Eject), Some(Command::Eject(7)));
    press(&mut app, "bd");
    assert_eq!(app.key(Key::Eject), None);
}

#[test]
fn without_access_the_reason_comes_first() {
    for access in [
        Access::None(Obstacle::Dolphin),
        Access::None(Obstacle::Closed),
        Access::None(Obstacle::WiiU),
        Access::None(Obstacle::NoController { word: 0 }),
    ] {
        let mut app = app_with(access, false);
        assert_eq!(title(&app), access.title());
        assert!(rows(&app).contains(&"What to do".to_string()), "{access:?}");
        press(&mut app, "a");
        assert_eq!(title(&app), "wiistick");
        assert_eq!(rows(&app)[0], "Sticks are out of reach here.");
    }
}

#[test]
fn a_way_round_an_obstacle_is_explained_and_used() {
    let obstacle = Obstacle::Closed;
    let mut app = app_with(Access::ThroughIos { ios: 58, obstacle }, false);
    assert_eq!(title(&app), "The hardware is closed");
    press(&mut app, "a");
    assert_eq!(rows(&app)[0], "Plug in a USB stick: it appears here.");
    assert_eq!(app.screen().status.as_str(), "USB by IOS");
}

#[test]
fn long_texts_scroll_to_their_end_and_no_further() {
    let mut app = app();
    let text: String = (0..40).map(|line| std::format!("line {line}\n")).collect();
    app.document("Long", &text, "LONG.TXT");
    assert_eq!(rows(&app)[0], "line 0");
    press(&mut app, "d");
    assert_eq!(rows(&app)[0], "line 1");
    press(&mut app, "rrrrrrrrd");
    assert_eq!(rows(&app).last().unwrap(), "line 39");
    press(&mut app, "uuu");
    assert_eq!(rows(&app)[0], "line 25");
    press(&mut app, "lllllll");
    assert_eq!(rows(&app)[0], "line 0");
}

#[test]
fn a_text_without_end_is_cut() {
    let mut app = app();
    app.document("Long", &"ä".repeat(DOCUMENT_BYTES), "LONG.TXT");
    assert_eq!(app.text().len(), DOCUMENT_BYTES);
}

#[test]
fn an_unusable_stick_says_why_and_offers_nothing() {
    let mut app = app();
    let mut broken = stick(9, 1, "Broken");
    broken.problem = Some(Line::of("blocks of 520 bytes are not supported"));
    app.stick_came(broken);
    assert_eq!(rows(&app)[1], "Broken unusable");
    press(&mut app, "da");
    assert_eq!(rows(&app), ["blocks of 520 bytes are not supported"]);
    assert_eq!(press(&mut app, "da"), None);
    assert_eq!(press(&mut app, "b"), None);
    assert_eq!(title(&app), "wiistick");
}

/// Keys and news in any order: every screen can be made, and the way out is never lost.
#[test]
fn no_order_of_keys_and_news_breaks_it() {
    let mut random = crate::testing::Random(42);
    for _ in 0..200 {
        let mut app = app();
        for _ in 0..150 {
            match random.below(16) {
                0 => app.stick_came(stick(random.below(9) as u16, random.below(4) as u8, "S")),
                1 => app.sticks_gone(random.below(4) as u8),
                2 => app.failed("failed"),
                3 => app.finished(random.below(2) == 0),
                4 => app.listed(random.below(2) == 0),
                5 => {
                    app.entry(random.below(9) as u16, "name", None);
                }
                6 => app.document("Text", "a\nb", "T.TXT"),
                7 => app.event(&file("/x", 1)),
                8 => app.progress(random.below(2000) as u16, 5, "block"),
                _ => {
                    let keys = ["u", "d", "l", "r", "a", "a", "b"];
                    press(&mut app, keys[random.below(7) as usize]);
                }
            }
            let screen = app.screen();
            assert!(screen.rows.len() <= ROWS && !screen.hints.is_empty());
        }
        assert_eq!(app.key(Key::Reset), Some(Command::Quit(Exit::Loader)));
        // Whatever page it is on, a few steps back lead to the first.
        app.failed("end of work");
        for _ in 0..MAX_DEPTH + 4 {
            press(&mut app, "b");
        }
        assert_eq!(title(&app), "wiistick", "{:?}", vec![rows(&app)]);
    }
}
