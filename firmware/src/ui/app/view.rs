//! The menu's pages as screens.

use super::{App, From, HomeItem, Listing, Page, StickItem, Task};
use crate::report::VolumeKind;
use crate::ui::screen::{
    Button, COLUMNS, Line, Mark, ROWS, Row, Screen, Scroll, Size, Tone, shorten,
};

impl App<'_> {
    /// Makes the screen.
    pub fn screen(&self) -> Screen {
        let mut screen = match self.page {
            Page::Home => self.home_screen(),
            Page::Stick(stick) => self.stick_screen(stick),
            Page::Folder { stick, volume } => self.folder_screen(stick, volume),
            Page::Working(task) => self.working_screen(task),
            Page::Document { from } => self.document_screen(from),
        };
        if let Some((text, tone)) = &self.notice {
            // In the last row, over whatever is there.
            screen.rows.truncate(ROWS - 1);
            while screen.rows.len() < ROWS - 1 {
                screen.row(Row::Gap);
            }
            screen.row(Row::Text(text.clone(), *tone));
        }
        screen
    }

    fn home_screen(&self) -> Screen {
        let mut screen = Screen::new("wiistick");
        screen.status = Line::of(self.access.short());
        if self.sticks.is_empty() {
            let (text, tone) = if self.access.works() {
                ("Plug in a USB stick: it appears here.", Tone::Plain)
            } else {
                ("Sticks are out of reach here.", Tone::Bad)
            };
            screen.text(text, tone);
        }
        let items = self.home_items();
        let cursor = self.home_cursor.min(items.len() - 1);
        for (index, item) in items.iter().enumerate() {
            if *item == HomeItem::Probe {
                screen.row(Row::Gap);
            }
            let mut detail = Line::new();
            let (mark, text) = match item {
                HomeItem::Stick(id) => {
                    let stick = self.stick(*id);
                    if let Some(stick) = stick {
                        detail = match &stick.problem {
                            Some(_) => Line::of("unusable"),
                            None => Line::of(Size(stick.bytes)),
                        };
                    }
                    (Mark::Stick, stick.map_or("", |stick| stick.name.as_str()))
                }
                HomeItem::Probe => (Mark::None, "Look at this console's hardware"),
                HomeItem::LastLog => (Mark::None, "Log of the last run"),
                HomeItem::About => (Mark::None, "About this program"),
                HomeItem::Quit => (Mark::None, "Quit"),
            };
            screen.row(item_row(mark, text, detail, index == cursor));
        }
        screen.hint(Button::A, "Choose");
        screen.hint(Button::Start, "Quit");
        screen
    }

    fn stick_screen(&self, id: u16) -> Screen {
        let Some(stick) = self.stick(id) else {
            return Screen::new("No stick");
        };
        let mut screen = Screen::new(stick.name.as_str());
        screen.status = Line::of(Size(stick.bytes));
        if let Some(problem) = &stick.problem {
            screen.text(problem.as_str(), Tone::Bad);
            screen.hint(Button::B, "Back");
            return screen;
        }
        if stick.volumes.is_empty() {
            screen.text(
                "There is nothing on it that this program knows.",
                Tone::Quiet,
            );
        }
        let items = self.stick_items(id);
        for (index, item) in items.iter().enumerate() {
            if *item == StickItem::Check {
                screen.row(Row::Gap);
            }
            let mut detail = Line::new();
            let mut name = Line::new();
            let mark = match item {
                StickItem::Volume(volume) => {
                    if let Some(volume) = stick.volumes.get(usize::from(*volume)) {
                        detail = Line::of(format_args!(
                            "{}  {}",
                            kind(volume.kind),
                            Size(volume.bytes)
                        ));
                        name = if volume.label.as_str().is_empty() {
                            Line::of("(no name)")
                        } else {
                            volume.label.clone()
                        };
                    }
                    Mark::Volume
                }
                StickItem::Check => {
                    name = Line::of("Check every file");
                    Mark::None
                }
                StickItem::Measure => {
                    name = Line::of("Measure its speed");
                    Mark::None
                }
                StickItem::Eject => {
                    name = Line::of("Eject");
                    Mark::None
                }
            };
            screen.row(item_row(
                mark,
                name.as_str(),
                detail,
                index == self.stick_cursor,
            ));
        }
        screen.hint(Button::A, "Choose");
        screen.hint(Button::B, "Back");
        screen.hint(Button::Start, "Quit");
        screen
    }

    fn folder_screen(&self, stick: u16, volume: u8) -> Screen {
        let label = self
            .stick(stick)
            .and_then(|stick| stick.volumes.get(usize::from(volume)))
            .map_or("", |volume| volume.label.as_str());
        let label = if label.is_empty() { "Files" } else { label };
        let mut screen = Screen::new(label);
        let folder = if self.folder.is_empty() {
            "/"
        } else {
            &self.folder
        };
        screen.row(Row::Text(shorten(folder, COLUMNS), Tone::Quiet));
        screen.hint(Button::A, "Open");
        screen.hint(Button::B, "Back");
        screen.hint(Button::Start, "Quit");
        match &self.listing {
            Listing::Failed(reason) => {
                screen.text("This folder cannot be read:", Tone::Bad);
                screen.text(reason.as_str(), Tone::Plain);
                return screen;
            }
            Listing::Loading if self.memory.entries.is_empty() => {
                screen.text("Reading...", Tone::Quiet);
                return screen;
            }
            Listing::Complete if self.memory.entries.is_empty() => {
                screen.text("Nothing is in here.", Tone::Quiet);
                return screen;
            }
            Listing::Cut => screen.status = Line::of("the first 256"),
            _ => screen.status = Line::of(format_args!("{} entries", self.memory.entries.len())),
        }
        let shown = ROWS - 1;
        let last = self.memory.entries.len().saturating_sub(shown);
        let first = self.folder_cursor.saturating_sub(shown / 2).min(last);
        for (index, entry) in self
            .memory
            .entries
            .iter()
            .enumerate()
            .skip(first)
            .take(shown)
        {
            let (mark, detail) = match entry.bytes {
                None => (Mark::Folder, Line::new()),
                Some(bytes) => (Mark::File, Line::of(Size(bytes))),
            };
            let selected = index == self.folder_cursor;
            screen.row(item_row(mark, entry.name.as_str(), detail, selected));
        }
        if last > 0 {
            screen.scroll = Some(Scroll {
                first,
                total: self.memory.entries.len() + 1,
            });
        }
        screen
    }

    fn working_screen(&self, task: Task) -> Screen {
        let tally = &self.tally;
        let mut screen = Screen::new(match task {
            Task::Check(_) => "Checking",
            Task::Measure(_) => "Measuring",
            Task::Probe => "Looking",
        });
        let stick = match task {
            Task::Check(stick) | Task::Measure(stick) => self.stick(stick),
            Task::Probe => None,
        };
        if let Some(stick) = stick {
            screen.text(stick.name.as_str(), Tone::Heading);
        }
        screen.row(Row::Gap);
        screen.row(Row::Bar {
            permille: tally.permille,
        });
        let numbers = format_args!(
            "{} %   {}   {}/s",
            tally.permille / 10,
            Size(tally.bytes),
            Size(tally.rate)
        );
        screen.row(Row::Text(Line::of(numbers), Tone::Plain));
        screen.row(Row::Gap);
        screen.row(Row::Text(tally.current.clone(), Tone::Quiet));
        if let Task::Check(_) = task {
            screen.row(Row::Text(
                Line::of(format_args!("{} files", tally.files)),
                Tone::Plain,
            ));
            if tally.errors > 0 {
                let errors = Line::of(format_args!("{} errors", tally.errors));
                screen.row(Row::Text(errors, Tone::Bad));
            }
        }
        screen.hint(Button::B, "Stop");
        screen
    }

    fn document_screen(&self, from: From) -> Screen {
        let mut screen = Screen::new(self.title.as_str());
        let total = self.lines().count();
        for (tone, row) in self.lines().skip(self.top).take(ROWS) {
            screen.row(Row::Text(Line::of(row), tone));
        }
        if total > ROWS {
            screen.scroll = Some(Scroll {
                first: self.top,
                total,
            });
        }
        if self.save_to(from).is_some() {
            screen.hint(Button::A, "Save");
            screen.hint(Button::B, "Back");
        } else {
            screen.hint(Button::A, "Continue");
        }
        screen.hint(Button::Start, "Quit");
        screen
    }
}

fn item_row(mark: Mark, text: &str, detail: Line, selected: bool) -> Row {
    Row::Item {
        mark,
        text: Line::of(text),
        detail,
        selected,
    }
}

/// Name of a file system for people.
fn kind(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Fat12 => "FAT12",
        VolumeKind::Fat16 => "FAT16",
        VolumeKind::Fat32 => "FAT32",
        VolumeKind::ExFat => "exFAT",
        VolumeKind::Unknown => "unknown",
    }
}
