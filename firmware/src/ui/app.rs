//! The menu: which page is shown, what keys do on it, what is asked of whoever has the sticks.
//!
//! No key and no news can bring it into a state that it cannot show. Names from sticks are shown, never
//! believed: entries are told apart by their place in the directory.

use core::fmt::Write;

use heapless::{String, Vec};

use super::access::Access;
use super::keys::Key;
use super::screen::{COLUMNS, Line, ROWS, Size, Tone, shorten, wrap};
use crate::report::{Event, VolumeKind};

/// Most sticks that the menu shows.
pub const MAX_STICKS: usize = 4;
/// Most volumes of a stick that the menu shows.
pub const MAX_VOLUMES: usize = 8;
/// Most entries of a directory that the menu shows.
pub const MAX_ENTRIES: usize = 256;
/// Deepest directory that the menu enters.
pub const MAX_DEPTH: usize = 16;
/// Longest text that is shown page by page, in bytes.
pub const DOCUMENT_BYTES: usize = 8192;
/// Most errors of a check that the result lists.
const MAX_ERRORS: u32 = 20;

/// A stick on the menu.
#[derive(Clone, Debug)]
pub struct Stick {
    /// Who it is; the caller's number.
    pub id: u16,
    /// Root port, counted from 0.
    pub port: u8,
    /// Vendor and product.
    pub name: Line,
    /// Capacity.
    pub bytes: u64,
    /// Its volumes.
    pub volumes: Vec<VolumeInfo, MAX_VOLUMES>,
    /// Why it cannot be used.
    pub problem: Option<Line>,
}

/// A volume on the menu.
#[derive(Clone, Debug)]
pub struct VolumeInfo {
    /// File system.
    pub kind: VolumeKind,
    /// Label; empty if there is none.
    pub label: Line,
    /// Size.
    pub bytes: u64,
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the directory, as the file system lists it.
    pub place: u16,
    /// Its name, shortened to what a row shows.
    name: Line,
    /// Length of a file; `None` for a directory.
    bytes: Option<u64>,
}

impl Entry {
    /// Says whether this entry is listed before another: folders first, then by name, whatever the case.
    fn precedes(&self, other: &Self) -> bool {
        let letters = |entry: &'_ Self| -> String<{ 3 * COLUMNS }> {
            let lower = entry.name.as_str().chars().flat_map(char::to_lowercase);
            let mut name = String::new();
            for letter in lower {
                if name.push(letter).is_err() {
                    break;
                }
            }
            name
        };
        let kind = |entry: &Self| entry.bytes.is_some();
        (kind(self), letters(self)) <= (kind(other), letters(other))
    }
}

/// What the menu asks for. Who carries it out tells the menu by its methods how it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// List the directory at [`App::path`]: [`App::entry`], then [`App::listed`] or [`App::failed`].
    List {
        /// The stick.
        stick: u16,
        /// The volume.
        volume: u8,
    },
    /// Read every file: [`App::event`] for each record, then [`App::finished`].
    Check(u16),
    /// Measure how fast it reads: [`App::progress`], then [`App::document`] or [`App::failed`].
    Measure(u16),
    /// Make it safe to unplug: [`App::ejected`] or [`App::failed`].
    Eject(u16),
    /// Look at the hardware: [`App::document`].
    Probe,
    /// Show the log of the last run: [`App::document`].
    LastLog,
    /// Write the text of [`App::text`] to a stick, under a name: [`App::notice`].
    Save {
        /// The stick.
        stick: u16,
        /// Name of the file.
        name: &'static str,
    },
    /// Stop what is being done: [`App::failed`] or [`App::finished`].
    Cancel,
    /// End the program.
    Quit(Exit),
}

impl Command {
    /// Returns what is asked for, for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::Check(_) => "check",
            Self::Measure(_) => "measure",
            Self::Eject(_) => "eject",
            Self::Probe => "probe",
            Self::LastLog => "show the last log",
            Self::Save { .. } => "save",
            Self::Cancel => "stop",
            Self::Quit(_) => "quit",
        }
    }
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Back to where it was started from.
    Loader,
    /// The console goes off.
    PowerOff,
}

/// A page, and what the cursor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Home,
    Stick(u16),
    Folder { stick: u16, volume: u8 },
    Working(Task),
    Document { from: From },
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Check(u16),
    Measure(u16),
    Probe,
}

/// The page to which a document leads back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Home,
    Stick(u16),
    Folder { stick: u16, volume: u8 },
}

impl From {
    fn page(self) -> Page {
        match self {
            Self::Home => Page::Home,
            Self::Stick(stick) => Page::Stick(stick),
            Self::Folder { stick, volume } => Page::Folder { stick, volume },
        }
    }
}

/// What an item of the first page stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HomeItem {
    Stick(u16),
    Probe,
    LastLog,
    About,
    Quit,
}

/// What an item of a stick's page stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StickItem {
    Volume(u8),
    Check,
    Measure,
    Eject,
}

/// State of a directory's list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listing {
    Loading,
    Complete,
    /// There is more than the list holds.
    Cut,
    Failed(Line),
}

/// Counters of a check.
#[derive(Clone, Debug)]
struct Tally {
    permille: u16,
    bytes: u64,
    rate: u64,
    files: u64,
    errors: u32,
    /// Volumes that are not read.
    foreign: u32,
    current: Line,
}

impl Tally {
    const EMPTY: Self = Self {
        permille: 0,
        bytes: 0,
        rate: 0,
        files: 0,
        errors: 0,
        foreign: 0,
        current: Line::new(),
    };
}

/// Memory of the menu that is too large for a stack.
#[derive(Default)]
pub struct Memory {
    entries: Vec<Entry, MAX_ENTRIES>,
    text: String<DOCUMENT_BYTES>,
}

impl Memory {
    /// Makes it empty: all zeros, so that it takes no room in an image.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            text: String::new(),
        }
    }
}

/// The menu.
pub struct App<'m> {
    version: &'static str,
    access: Access,
    last_log: bool,
    sticks: Vec<Stick, MAX_STICKS>,
    page: Page,
    home_cursor: usize,
    stick_cursor: usize,
    /// Places in their directories of the folders on the way from the root, and their lengths in
    /// `folder`.
    path: Vec<(u16, u16), MAX_DEPTH>,
    /// The same as text.
    folder: String<512>,
    listing: Listing,
    memory: &'m mut Memory,
    folder_cursor: usize,
    tally: Tally,
    /// The first errors of a check, a line each.
    errors: String<2048>,
    title: Line,
    /// First line of the text that is shown.
    top: usize,
    /// Name under which the text is saved.
    file: &'static str,
    notice: Option<(Line, Tone)>,
    changed: bool,
}

impl<'m> App<'m> {
    /// Makes the menu of a machine that offers `access`. `last_log` says whether there is a log of the last
    /// run. What keeps the sticks away is said first.
    pub fn new(
        version: &'static str,
        access: Access,
        last_log: bool,
        memory: &'m mut Memory,
    ) -> Self {
        let mut app = Self {
            version,
            access,
            last_log,
            sticks: Vec::new(),
            page: Page::Home,
            home_cursor: 0,
            stick_cursor: 0,
            path: Vec::new(),
            folder: String::new(),
            listing: Listing::Loading,
            memory,
            folder_cursor: 0,
            tally: Tally::EMPTY,
            errors: String::new(),
            title: Line::new(),
            top: 0,
            file: "",
            notice: None,
            changed: true,
        };
        if access.obstacle().is_some() {
            app.show(access.title(), "ACCESS.TXT", |text| access.explain(text));
        }
        app
    }

    /// Says whether the screen has changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// Returns the places of the folders that lead from the root to the one that is shown.
    pub fn path(&self) -> impl Iterator<Item = u16> + '_ {
        self.path.iter().map(|(place, _)| *place)
    }

    /// Returns the way to sticks.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Returns the text that is shown page by page.
    pub fn text(&self) -> &str {
        &self.memory.text
    }

    /// Takes a press, and returns what is to be done about it.
    pub fn key(&mut self, key: Key) -> Option<Command> {
        self.changed = true;
        match key {
            Key::Power => return Some(Command::Quit(Exit::PowerOff)),
            Key::Reset => return Some(Command::Quit(Exit::Loader)),
            _ => {}
        }
        if let Page::Working(_) = self.page {
            return (key == Key::Back).then_some(Command::Cancel);
        }
        self.notice = None;
        if key == Key::Start {
            return Some(Command::Quit(Exit::Loader));
        }
        match self.page {
            Page::Home => self.home_key(key),
            Page::Stick(stick) => self.stick_key(stick, key),
            Page::Folder { stick, volume } => self.folder_key(stick, volume, key),
            Page::Document { from } => self.document_key(from, key),
            Page::Working(_) => None,
        }
    }

    fn home_items(&self) -> Vec<HomeItem, { MAX_STICKS + 4 }> {
        let sticks = self.sticks.iter().map(|stick| HomeItem::Stick(stick.id));
        let log = self.last_log.then_some(HomeItem::LastLog);
        sticks
            .chain([HomeItem::Probe])
            .chain(log)
            .chain([HomeItem::About, HomeItem::Quit])
            .collect()
    }

    fn home_key(&mut self, key: Key) -> Option<Command> {
        let items = self.home_items();
        let cursor = self.home_cursor.min(items.len() - 1);
        self.home_cursor = moved(cursor, items.len(), key);
        if let (Key::Eject, HomeItem::Stick(stick)) = (key, items[cursor]) {
            return Some(Command::Eject(stick));
        }
        if key != Key::Confirm {
            return None;
        }
        match items[cursor] {
            HomeItem::Stick(stick) => {
                self.page = Page::Stick(stick);
                self.stick_cursor = 0;
                None
            }
            HomeItem::Probe => {
                self.set_to_work(Task::Probe);
                Some(Command::Probe)
            }
            HomeItem::LastLog => Some(Command::LastLog),
            HomeItem::About => {
                self.about();
                None
            }
            HomeItem::Quit => Some(Command::Quit(Exit::Loader)),
        }
    }

    fn stick_items(&self, stick: u16) -> Vec<StickItem, { MAX_VOLUMES + 3 }> {
        let Some(stick) = self.stick(stick).filter(|stick| stick.problem.is_none()) else {
            return Vec::new();
        };
        (0..stick.volumes.len() as u8)
            .map(StickItem::Volume)
            .chain([StickItem::Check, StickItem::Measure, StickItem::Eject])
            .collect()
    }

    fn stick_key(&mut self, stick: u16, key: Key) -> Option<Command> {
        let items = self.stick_items(stick);
        self.stick_cursor = moved(self.stick_cursor, items.len(), key);
        match (key, items.get(self.stick_cursor).copied()) {
            (Key::Back, _) => {
                self.page = Page::Home;
                None
            }
            (Key::Eject, _) | (Key::Confirm, Some(StickItem::Eject)) => Some(Command::Eject(stick)),
            (Key::Confirm, Some(StickItem::Volume(volume))) => {
                let kind = self.stick(stick)?.volumes.get(usize::from(volume))?.kind;
                if !kind.is_read() {
                    self.notice(
                        match kind {
                            VolumeKind::ExFat => "exFAT is not read; FAT32 is.",
                            _ => "This file system is not known.",
                        },
                        Tone::Bad,
                    );
                    return None;
                }
                self.path.clear();
                self.folder.clear();
                self.page = Page::Folder { stick, volume };
                Some(self.list(stick, volume))
            }
            (Key::Confirm, Some(StickItem::Check)) => {
                self.set_to_work(Task::Check(stick));
                Some(Command::Check(stick))
            }
            (Key::Confirm, Some(StickItem::Measure)) => {
                self.set_to_work(Task::Measure(stick));
                Some(Command::Measure(stick))
            }
            _ => None,
        }
    }

    fn folder_key(&mut self, stick: u16, volume: u8, key: Key) -> Option<Command> {
        self.folder_cursor = moved(self.folder_cursor, self.memory.entries.len(), key);
        match key {
            Key::Back => match self.path.pop() {
                Some((_, length)) => {
                    self.folder.truncate(usize::from(length));
                    Some(self.list(stick, volume))
                }
                None => {
                    self.page = Page::Stick(stick);
                    None
                }
            },
            Key::Confirm => {
                let entry = self.memory.entries.get(self.folder_cursor)?.clone();
                match entry.bytes {
                    None => self.enter(stick, volume, &entry),
                    Some(bytes) => {
                        self.describe(&entry, bytes);
                        None
                    }
                }
            }
            _ => None,
        }
    }

    /// Enters a folder.
    fn enter(&mut self, stick: u16, volume: u8, entry: &Entry) -> Option<Command> {
        let length = self.folder.len();
        let name = entry.name.as_str();
        let fits = self.path.push((entry.place, length as u16)).is_ok();
        if !fits || write!(self.folder, "/{name}").is_err() {
            if fits {
                self.path.pop();
            }
            self.folder.truncate(length);
            self.notice("This is too deep for the menu.", Tone::Bad);
            return None;
        }
        Some(self.list(stick, volume))
    }

    fn list(&mut self, stick: u16, volume: u8) -> Command {
        self.memory.entries.clear();
        self.folder_cursor = 0;
        self.listing = Listing::Loading;
        Command::List { stick, volume }
    }

    /// Shows what is known of a file.
    fn describe(&mut self, entry: &Entry, bytes: u64) {
        let folder = self.folder.clone();
        self.show("File", "FILE.TXT", |text| {
            write!(
                text,
                "# {}\n\nFolder: {folder}/\nLength: {} ({bytes} bytes)\n",
                entry.name.as_str(),
                Size(bytes)
            )
        });
    }

    fn document_key(&mut self, from: From, key: Key) -> Option<Command> {
        let last = self.lines().count().saturating_sub(ROWS);
        match key {
            Key::Up => self.top = self.top.saturating_sub(1),
            Key::Down => self.top = (self.top + 1).min(last),
            Key::PageUp => self.top = self.top.saturating_sub(ROWS - 1),
            Key::PageDown => self.top = (self.top + ROWS - 1).min(last),
            Key::Back => self.page = from.page(),
            Key::Confirm => match self.save_to(from) {
                Some(stick) => {
                    let name = self.file;
                    return Some(Command::Save { stick, name });
                }
                None => self.page = from.page(),
            },
            _ => {}
        }
        None
    }

    /// The stick that a document would be saved on: the one that it is about, or else the first.
    fn save_to(&self, from: From) -> Option<u16> {
        let usable = |stick: &&Stick| stick.problem.is_none() && !stick.volumes.is_empty();
        match from {
            From::Folder { .. } => None,
            From::Stick(stick) => self.stick(stick),
            From::Home => self.sticks.iter().find(usable),
        }
        .filter(usable)
        .map(|stick| stick.id)
    }

    fn stick(&self, id: u16) -> Option<&Stick> {
        self.sticks.iter().find(|stick| stick.id == id)
    }

    fn set_to_work(&mut self, task: Task) {
        self.tally = Tally::EMPTY;
        self.errors.clear();
        self.page = Page::Working(task);
    }

    fn about(&mut self) {
        let (version, access) = (self.version, self.access);
        self.show("About", "ABOUT.TXT", |text| {
            write!(
                text,
                "# wiistick {version}\n\
                 Reads USB sticks with drivers of its own, without those of the console.\n\n\
                 # Buttons\n\
                 A or Enter: choose     B or Escape: back\n\
                 START or Home: leave   Up, down: move\n\
                 Left, right: move by a page\n\
                 A GameCube controller in any socket, or a high-speed USB keyboard.\n\n\
                 # {}\n",
                access.title(),
            )?;
            access.explain(text)
        });
    }

    /// A stick is there. What does not fit on the menu is not shown.
    pub fn stick_came(&mut self, stick: Stick) {
        self.changed = true;
        self.sticks.retain(|other| other.id != stick.id);
        let _ = self.sticks.push(stick);
    }

    /// The sticks at a port are gone.
    pub fn sticks_gone(&mut self, port: u8) {
        self.changed = true;
        let before = self.sticks.len();
        self.sticks.retain(|stick| stick.port != port);
        if self.sticks.len() == before {
            return;
        }
        let shown = match self.page {
            Page::Stick(stick) | Page::Folder { stick, .. } => Some(stick),
            Page::Document {
                from: From::Stick(stick) | From::Folder { stick, .. },
            } => Some(stick),
            // It ends by itself, with an error.
            _ => None,
        };
        if let Some(stick) = shown
            && self.stick(stick).is_none()
        {
            self.page = Page::Home;
            self.notice("The stick was unplugged.", Tone::Bad);
        }
    }

    /// A stick has stopped, and can be unplugged.
    pub fn ejected(&mut self, id: u16) {
        self.sticks.retain(|stick| stick.id != id);
        self.page = Page::Home;
        self.notice("The stick can be unplugged now.", Tone::Good);
    }

    /// An entry of the directory that is being listed. Returns whether there is room for more.
    pub fn entry(&mut self, place: u16, name: &str, bytes: Option<u64>) -> bool {
        let entry = Entry {
            place,
            name: shorten(name, COLUMNS - 4),
            bytes,
        };
        let at = self
            .memory
            .entries
            .partition_point(|other| other.precedes(&entry));
        self.changed = true;
        self.memory.entries.insert(at, entry).is_ok() && !self.memory.entries.is_full()
    }

    /// The list is complete; or `cut`, because it has no room for more.
    pub fn listed(&mut self, cut: bool) {
        self.changed = true;
        self.listing = if cut { Listing::Cut } else { Listing::Complete };
    }

    /// What was asked for failed.
    pub fn failed(&mut self, reason: &str) {
        self.changed = true;
        match self.page {
            Page::Folder { .. } => self.listing = Listing::Failed(Line::of(reason)),
            Page::Working(task) => {
                self.page = match task {
                    Task::Check(stick) | Task::Measure(stick) if self.stick(stick).is_some() => {
                        Page::Stick(stick)
                    }
                    _ => Page::Home,
                };
                self.notice(reason, Tone::Bad);
            }
            _ => self.notice(reason, Tone::Bad),
        }
    }

    /// Says something below the rows, until the next key.
    pub fn notice(&mut self, text: &str, tone: Tone) {
        self.changed = true;
        self.notice = Some((Line::of(text), tone));
    }

    /// How far a measurement is, in thousandths, and its rate in bytes per second.
    pub fn progress(&mut self, permille: u16, rate: u64, what: &str) {
        self.changed = true;
        self.tally.permille = permille;
        self.tally.rate = rate;
        self.tally.current = Line::of(what);
    }

    /// A record of the check that is under way.
    pub fn event(&mut self, event: &Event<&str>) {
        self.changed = true;
        match event {
            Event::Volume { kind, .. } => self.tally.foreign += u32::from(!kind.is_read()),
            Event::File { path, bytes, .. } => {
                self.tally.files += 1;
                self.tally.bytes += bytes;
                self.tally.current = shorten(path, COLUMNS);
            }
            Event::Progress {
                percent,
                bytes,
                rate,
                ..
            } => {
                self.tally.permille = u16::from(*percent) * 10;
                self.tally.bytes = *bytes;
                self.tally.rate = *rate;
            }
            Event::Error {
                path,
                block,
                message,
                ..
            } => {
                self.tally.errors += 1;
                if self.tally.errors <= MAX_ERRORS {
                    // The first errors fit; of more there is the number.
                    let mut line = String::<512>::new();
                    let _ = write!(line, "! {}: {message}", path.unwrap_or("the stick"));
                    if let Some(block) = block {
                        let _ = write!(line, " (block {block})");
                    }
                    let _ = self.errors.push_str(&line);
                    let _ = self.errors.push('\n');
                }
            }
            _ => {}
        }
    }

    /// The check has ended, or was stopped.
    pub fn finished(&mut self, stopped: bool) {
        let Page::Working(Task::Check(stick)) = self.page else {
            return;
        };
        let tally = self.tally.clone();
        let errors = core::mem::take(&mut self.errors);
        let stick = self
            .stick(stick)
            .map(|stick| (stick.name.clone(), stick.bytes));
        let verdict = match (stopped, tally.errors, tally.foreign) {
            (true, ..) => "! Stopped.",
            (false, 0, 0) => "+ Everything was read.",
            (false, 0, _) => "! Not every volume was read.",
            (false, ..) => "! Not everything could be read.",
        };
        self.show("Check", "CHECK.TXT", |text| {
            write!(
                text,
                "{verdict}\n\n{} files, {}\n",
                tally.files,
                Size(tally.bytes)
            )?;
            if let Some((name, bytes)) = stick {
                writeln!(text, "Stick: {}, {}", name.as_str(), Size(bytes))?;
            }
            if tally.foreign > 0 {
                writeln!(
                    text,
                    "\n{} volumes are neither FAT12 nor FAT16 nor FAT32: they were left alone.",
                    tally.foreign
                )?;
            }
            if tally.errors > 0 {
                writeln!(text, "\n# {} errors\n{errors}", tally.errors)?;
            }
            if tally.errors > MAX_ERRORS {
                writeln!(text, "... and {} more", tally.errors - MAX_ERRORS)?;
            }
            Ok(())
        });
    }

    /// Shows a text page by page: lines that begin with `# ` are headings, with `+ ` good and with `! `
    /// bad news. It can be saved under `file`. What is longer than [`DOCUMENT_BYTES`] is cut.
    pub fn document(&mut self, title: &str, text: &str, file: &'static str) {
        self.show(title, file, |out| {
            let mut letters = text.chars();
            letters.try_for_each(|letter| out.write_char(letter))
        });
    }

    /// Shows the text that `tell` writes; what does not fit is missing.
    fn show(
        &mut self,
        title: &str,
        file: &'static str,
        tell: impl FnOnce(&mut String<DOCUMENT_BYTES>) -> core::fmt::Result,
    ) {
        self.changed = true;
        let from = match self.page {
            Page::Home => From::Home,
            Page::Stick(stick) => From::Stick(stick),
            Page::Folder { stick, volume } => From::Folder { stick, volume },
            Page::Working(Task::Probe) => From::Home,
            Page::Working(Task::Check(stick) | Task::Measure(stick)) => From::Stick(stick),
            Page::Document { from } => from,
        };
        let from = match from {
            From::Stick(stick) | From::Folder { stick, .. } if self.stick(stick).is_none() => {
                From::Home
            }
            from => from,
        };
        self.title = Line::of(title);
        self.memory.text.clear();
        let _ = tell(&mut self.memory.text);
        self.top = 0;
        self.file = file;
        self.page = Page::Document { from };
    }

    /// The rows of the text. Each goes on in the tone of the line that it is broken from.
    fn lines(&self) -> impl Iterator<Item = (Tone, &str)> {
        self.memory.text.trim_end().split('\n').flat_map(|line| {
            let (tone, line) = match line.split_at_checked(2) {
                Some(("# ", rest)) => (Tone::Heading, rest),
                Some(("+ ", rest)) => (Tone::Good, rest),
                Some(("! ", rest)) => (Tone::Bad, rest),
                _ => (Tone::Plain, line),
            };
            wrap(line, COLUMNS).map(move |row| (tone, row))
        })
    }
}

/// Where a cursor on `items` goes by a key.
fn moved(cursor: usize, items: usize, key: Key) -> usize {
    let last = items.saturating_sub(1);
    match key {
        // Round the ends, one step at a time.
        Key::Up if cursor == 0 => last,
        Key::Up => (cursor - 1).min(last),
        Key::Down if cursor >= last => 0,
        Key::Down => cursor + 1,
        Key::PageUp => cursor.saturating_sub(ROWS - 2),
        Key::PageDown => (cursor + ROWS - 2).min(last),
        _ => cursor.min(last),
    }
}

mod view;

#[cfg(test)]
mod tests;
