//! The program with a person in front of it: the menu, the sticks that come and go, and what is asked of them.
//!
//! Three tasks run side by side. One waits for devices and enumerates them. One listens to a keyboard, if
//! there is one. The third looks at the keys sixty times a second, shows what has changed, and does what
//! the menu asks for; while it works on a stick it goes on looking, so that work can be stopped.

use core::cell::{Cell, RefCell};
use core::fmt::Write;
use core::pin::{Pin, pin};

use embassy_futures::select::{Either, Either3, select, select3};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::channel::Channel;
use embassy_time::{Duration, Instant, Timer};
use embassy_usb_driver::host::{DeviceEvent, UsbHostAllocator, UsbHostController};
use embassy_usb_host::class::kbd::{KbdEvent, KbdHandler};
use embassy_usb_host::handler::{EnumerationInfo, HandlerEvent};
use embassy_usb_host::{BusController, BusHandle, BusRoute, BusState};
use heapless::{String, Vec};

use crate::job::{self, Identity, Job, Task};
use crate::msc::{MassStorage, StickError, Unit};
use crate::report::{Event, Sink};
use crate::session::{self, Speed};
use crate::sticks::RootPorts;
use crate::ui::access::Access;
use crate::ui::app::{App, Command, DOCUMENT_BYTES, Exit, MAX_STICKS, Stick};
use crate::ui::boot_keyboard;
use crate::ui::keys::{Key, Keyboard};
use crate::ui::screen::{Line, Screen, Size, Tone};
use crate::watch::Tally;

/// Time between two looks at the keys.
const FRAME: Duration = Duration::from_millis(16);
/// Least time between two pictures while work goes on: painting takes a while.
const WORKING_FRAME: Duration = Duration::from_millis(100);
/// Longest configuration descriptor that is looked at, in bytes.
const CONFIGURATION_BYTES: usize = 1024;

/// The console around the menu.
pub trait Console {
    /// Returns the key that is down, if one is. Called for every frame.
    fn key(&mut self) -> Option<Key>;

    /// Shows a screen.
    fn show(&mut self, screen: &Screen);

    /// Says whether a stick is at work, for a light to show.
    fn activity(&mut self, on: bool);

    /// Looks at the hardware, as far as `access` lets it, and writes down what it finds. `device` is the address of a stick
    /// that nobody works on, if there is one.
    fn probe(&mut self, access: Access, device: Option<u8>, text: &mut dyn Write);

    /// Writes down the log of the last run.
    fn last_log(&mut self, text: &mut dyn Write);

    /// Returns a time in microseconds that never goes back.
    fn clock(&self) -> fn() -> u64;
}

/// Memory for work on sticks.
pub struct Buffers<'m> {
    /// For the contents of files. The longer, the fewer commands.
    pub files: &'m mut [u8],
    /// For metadata; see [`crate::disk::Disk::new`].
    pub cache: &'m mut [u8],
    /// For checks.
    pub job: &'m mut job::Workspace,
    /// For everything else.
    pub session: &'m mut session::Workspace,
    /// For a text before it is shown.
    pub text: &'m mut String<DOCUMENT_BYTES>,
}

/// A device, or the end of one.
// A device is large, and there is no allocator that could hold it elsewhere.
#[allow(clippy::large_enum_variant)]
enum News {
    Came {
        port: u8,
        info: EnumerationInfo,
        configuration: [u8; CONFIGURATION_BYTES],
        length: usize,
    },
    Gone {
        port: u8,
    },
    Problem(Line),
}

/// Why work ended before its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interrupted {
    Cancelled,
    Quit(Exit),
}

/// What the tasks share: the menu, the console, and the keys.
struct Shell<'a, 'm, M> {
    app: RefCell<&'a mut App<'m>>,
    console: RefCell<&'a mut M>,
    keyboard: RefCell<Keyboard>,
    /// The key that is down on a USB keyboard.
    usb_key: Cell<Option<Key>>,
    shown: Cell<Option<Instant>>,
}

impl<'a, 'm, M: Console> Shell<'a, 'm, M> {
    fn new(app: &'a mut App<'m>, console: &'a mut M) -> Self {
        Self {
            app: RefCell::new(app),
            console: RefCell::new(console),
            keyboard: RefCell::new(Keyboard::new()),
            usb_key: Cell::new(None),
            shown: Cell::new(None),
        }
    }

    /// Does what one frame takes, and returns what the menu asks for.
    fn frame(&self, working: bool) -> Option<Command> {
        let mut console = self.console.borrow_mut();
        let mut app = self.app.borrow_mut();
        let now = Instant::now();
        let down = console.key().or(self.usb_key.get());
        let press = self.keyboard.borrow_mut().press(down, now.as_micros());
        let command = press.and_then(|key| app.key(key));
        let fresh = self
            .shown
            .get()
            .is_some_and(|shown| working && now - shown < WORKING_FRAME);
        if !fresh && app.take_changed() {
            console.show(&app.screen());
            self.shown.set(Some(now));
        }
        command
    }

    fn app(&self, act: impl FnOnce(&mut App<'m>)) {
        act(&mut self.app.borrow_mut());
    }

    /// Works, and goes on looking at the keys meanwhile. Work is pinned where it is: it is large, and a move keeps room for it twice.
    async fn work<T>(&self, work: Pin<&mut impl Future<Output = T>>) -> Result<T, Interrupted> {
        let mut end = None;
        let interrupted = {
            let work = pin!(async { end = Some(work.await) });
            self.drive(work).await
        };
        // It has ended unless it was interrupted.
        end.ok_or(interrupted.unwrap_or(Interrupted::Cancelled))
    }

    /// The same for work of any kind, so that this code is there once.
    async fn drive(&self, mut work: Pin<&mut dyn Future<Output = ()>>) -> Option<Interrupted> {
        self.console.borrow_mut().activity(true);
        let interrupted = loop {
            match select(work.as_mut(), Timer::after(FRAME)).await {
                Either::First(()) => break None,
                Either::Second(()) => match self.frame(true) {
                    Some(Command::Cancel) => break Some(Interrupted::Cancelled),
                    Some(Command::Quit(exit)) => break Some(Interrupted::Quit(exit)),
                    _ => {}
                },
            }
        };
        self.console.borrow_mut().activity(false);
        interrupted
    }

    /// What needs no stick, though one may be there. Returns the command if it needs one.
    fn alone(
        &self,
        command: Command,
        device: Option<u8>,
        text: &mut String<DOCUMENT_BYTES>,
    ) -> Option<Command> {
        text.clear();
        match command {
            Command::Probe => {
                // What does not fit is cut.
                let access = self.app.borrow().access();
                self.console.borrow_mut().probe(access, device, text);
                self.app(|app| app.document("This console", text, "PROBE.TXT"));
            }
            Command::LastLog => {
                self.console.borrow_mut().last_log(text);
                self.app(|app| app.document("The last run", text, "LASTRUN.TXT"));
            }
            other => return Some(other),
        }
        None
    }
}

/// Runs the menu where there is no way to sticks.
pub async fn attend_alone<M: Console>(
    app: &mut App<'_>,
    console: &mut M,
    text: &mut String<DOCUMENT_BYTES>,
) -> Exit {
    let shell = Shell::new(app, console);
    loop {
        match shell.frame(false) {
            Some(Command::Quit(exit)) => return exit,
            Some(command) => match shell.alone(command, None, text) {
                None | Some(Command::Cancel) => {}
                Some(_) => shell.app(|app| app.failed("There is no way to sticks here.")),
            },
            None => {}
        }
        Timer::after(FRAME).await;
    }
}

/// Runs the menu with the sticks behind a controller, until the person leaves.
pub async fn attend<'d, C, M>(
    controller: C,
    state: &'d BusState,
    app: &mut App<'_>,
    console: &mut M,
    buffers: Buffers<'_>,
) -> Exit
where
    C: UsbHostController<'d> + RootPorts,
    M: Console,
{
    let (controller, bus) = embassy_usb_host::bus(controller, state);
    let shell = Shell::new(app, console);
    let news = Channel::<NoopRawMutex, News, 1>::new();
    let keyboards = Channel::<NoopRawMutex, EnumerationInfo, 1>::new();
    // Pinned where they are: they are large, and a move copies them.
    let watch = pin!(watch_ports(controller, &bus, &news));
    let listen = pin!(listen(&bus, &keyboards, &shell));
    let menu = pin!(menu(&bus, &news, &keyboards, &shell, buffers));
    match select3(menu, watch, listen).await {
        Either3::First(exit) => exit,
        Either3::Second(never) | Either3::Third(never) => match never {},
    }
}

/// Waits for devices, and enumerates those that come.
async fn watch_ports<'d, C>(
    mut controller: BusController<'d, C>,
    bus: &BusHandle<'d, C::Allocator>,
    news: &Channel<NoopRawMutex, News, 1>,
) -> core::convert::Infallible
where
    C: UsbHostController<'d> + RootPorts,
{
    loop {
        let event = controller.wait_for_device_event().await;
        let port = controller.controller().last_event_port().unwrap_or(0);
        let problem: &dyn core::fmt::Display = match event {
            DeviceEvent::Connected(speed) => {
                let mut configuration = [0; CONFIGURATION_BYTES];
                match bus
                    .enumerate(BusRoute::Direct(speed), &mut configuration)
                    .await
                {
                    Ok((info, length)) => {
                        news.send(News::Came {
                            port,
                            info,
                            configuration,
                            length,
                        })
                        .await;
                        continue;
                    }
                    Err(error) => {
                        controller.controller_mut().disable_port(port);
                        &{ error }
                    }
                }
            }
            DeviceEvent::Disconnected => {
                news.send(News::Gone { port }).await;
                continue;
            }
            DeviceEvent::Overcurrent => &"it draws too much current; unplug it",
            // What later versions of the trait may add.
            _ => continue,
        };
        let text = Line::of(format_args!("Port {}: {problem}", port + 1));
        news.send(News::Problem(text)).await;
    }
}

/// Listens to one keyboard after another.
async fn listen<'d, A, M>(
    bus: &BusHandle<'d, A>,
    keyboards: &Channel<NoopRawMutex, EnumerationInfo, 1>,
    shell: &Shell<'_, '_, M>,
) -> core::convert::Infallible
where
    A: UsbHostAllocator<'d>,
{
    loop {
        let info = keyboards.receive().await;
        if let Ok(mut keyboard) = KbdHandler::try_register(bus, &info).await {
            info!("a keyboard is there");
            while let Ok(event) = keyboard.wait_for_event().await {
                if let HandlerEvent::HandlerEvent(KbdEvent::KeyStatusUpdate(state)) = event {
                    let codes = state.keypress.map(|code| code.map_or(0, |code| code.get()));
                    shell.usb_key.set(boot_keyboard::key(&codes));
                }
            }
            shell.usb_key.set(None);
        }
        bus.free_address(info.device_address);
    }
}

/// A stick as this module holds it.
struct Held<'t, 'd: 't, A: UsbHostAllocator<'d>> {
    port: u8,
    address: u8,
    /// Number of its first unit on the menu; the others follow.
    first: u16,
    storage: MassStorage<'t, 'd, BusHandle<'d, A>>,
}

/// Devices that are held at once: one for each of the console's outer ports, and room behind hubs.
const MAX_HELD: usize = MAX_STICKS;

/// Looks at the keys, keeps the list of sticks, and does what the menu asks for.
async fn menu<'d, A, M>(
    bus: &BusHandle<'d, A>,
    news: &Channel<NoopRawMutex, News, 1>,
    keyboards: &Channel<NoopRawMutex, EnumerationInfo, 1>,
    shell: &Shell<'_, '_, M>,
    mut buffers: Buffers<'_>,
) -> Exit
where
    A: UsbHostAllocator<'d>,
    M: Console,
{
    let tallies = [const { Tally::new() }; MAX_HELD];
    let mut held: [Option<Held<'_, 'd, A>>; MAX_HELD] = [const { None }; MAX_HELD];
    let mut next = 0;
    loop {
        match select(news.receive(), Timer::after(FRAME)).await {
            Either::First(News::Came {
                port,
                info,
                configuration,
                length,
            }) => {
                let configuration = configuration.get(..length).unwrap_or(&[]);
                let free = held
                    .iter_mut()
                    .zip(&tallies)
                    .find(|(held, _)| held.is_none());
                let Some((place, tally)) = free else {
                    shell.app(|app| app.notice("Too many sticks; unplug one.", Tone::Bad));
                    bus.free_address(info.device_address);
                    continue;
                };
                let opened = MassStorage::open(bus.clone(), tally, &info, configuration);
                let opened = shell.work(pin!(opened)).await;
                match opened {
                    Ok(Ok(storage)) => {
                        let stick = place.insert(Held {
                            port,
                            address: info.device_address,
                            first: next,
                            storage,
                        });
                        next = next.wrapping_add(u16::from(stick.storage.units()));
                        let described = describe(stick, shell, &mut buffers);
                        let described = shell.work(pin!(described)).await;
                        if let Err(Interrupted::Quit(exit)) = described {
                            return exit;
                        }
                    }
                    // It may be a keyboard; only one is listened to at a time.
                    Ok(Err(StickError::NotMassStorage)) => {
                        if keyboards.try_send(info).is_err() {
                            info!("port {}: one more device that is no stick", port);
                        }
                    }
                    Ok(Err(error)) => {
                        let text = Line::of(format_args!("Port {}: {error}", port + 1));
                        shell.app(|app| app.notice(text.as_str(), Tone::Bad));
                        bus.free_address(info.device_address);
                    }
                    Err(Interrupted::Quit(exit)) => return exit,
                    Err(Interrupted::Cancelled) => {}
                }
            }
            Either::First(News::Gone { port }) => {
                for place in &mut held {
                    if let Some(stick) = place.take_if(|stick| stick.port == port) {
                        bus.free_address(stick.address);
                    }
                }
                shell.app(|app| app.sticks_gone(port));
            }
            Either::First(News::Problem(text)) => {
                shell.app(|app| app.notice(text.as_str(), Tone::Bad));
            }
            Either::Second(()) => {
                let command = shell.frame(false);
                let device = held.iter().flatten().next().map(|stick| stick.address);
                let command =
                    command.and_then(|command| shell.alone(command, device, buffers.text));
                let Some(command) = command else {
                    continue;
                };
                if let Command::Quit(exit) = command {
                    return exit;
                }
                info!("asked to {}", command.name());
                if let Err(Interrupted::Quit(exit)) =
                    carry_out(command, &held, shell, &mut buffers).await
                {
                    return exit;
                }
            }
        }
    }
}

/// Puts the units of a stick on the menu.
async fn describe<'t, 'd: 't, A, M>(
    stick: &Held<'t, 'd, A>,
    shell: &Shell<'_, '_, M>,
    buffers: &mut Buffers<'_>,
) where
    A: UsbHostAllocator<'d> + 't,
    M: Console,
{
    for lun in 0..stick.storage.units() {
        let mut entry = Stick {
            id: stick.first.wrapping_add(u16::from(lun)),
            port: stick.port,
            name: Line::of(format_args!("Stick at port {}", stick.port + 1)),
            bytes: 0,
            volumes: Vec::new(),
            problem: None,
        };
        match stick.storage.unit(lun).await {
            Ok(mut unit) => {
                entry.name = name(&unit);
                entry.bytes = bytes(&unit);
                // By reference, as jobs do: the code is there once.
                let described = session::describe(
                    &mut unit,
                    buffers.cache,
                    buffers.session,
                    &mut entry.volumes,
                );
                entry.problem = described.await.err().map(Line::of);
            }
            // The virtual CD-ROM that some sticks bring along is no error.
            Err(StickError::NotBlocks(_)) => continue,
            Err(error) => entry.problem = Some(Line::of(error)),
        }
        info!("on the menu: {}", entry.name.as_str());
        shell.app(|app| app.stick_came(entry));
    }
}

fn name<'d, A: UsbHostAllocator<'d>>(unit: &Unit<'_, '_, 'd, A>) -> Line {
    let mut name = Line::of(format_args!("{} {}", unit.vendor(), unit.product()));
    if name.as_str().trim().is_empty() {
        name = Line::of("Stick without a name");
    }
    name
}

fn bytes<'d, A: UsbHostAllocator<'d>>(unit: &Unit<'_, '_, 'd, A>) -> u64 {
    use crate::block::BlockDevice;
    unit.blocks().saturating_mul(u64::from(unit.block_size()))
}

/// Passes the records of a check to the menu.
struct Records<'s, 'a, 'm, M>(&'s Shell<'a, 'm, M>);

impl<M: Console> Sink for Records<'_, '_, '_, M> {
    fn event(&mut self, event: &Event<&str>) {
        self.0.app(|app| app.event(event));
    }
}

/// Does something with a stick.
async fn carry_out<'t, 'd: 't, A, M>(
    command: Command,
    held: &[Option<Held<'t, 'd, A>>],
    shell: &Shell<'_, '_, M>,
    buffers: &mut Buffers<'_>,
) -> Result<(), Interrupted>
where
    A: UsbHostAllocator<'d> + 't,
    M: Console,
{
    let id = match command {
        Command::List { stick, .. } | Command::Save { stick, .. } => stick,
        Command::Check(stick) | Command::Measure(stick) | Command::Eject(stick) => stick,
        Command::Probe | Command::LastLog | Command::Cancel | Command::Quit(_) => return Ok(()),
    };
    let unit = async {
        let (stick, lun) = held.iter().flatten().find_map(|stick| {
            let lun = id.wrapping_sub(stick.first);
            (lun < u16::from(stick.storage.units())).then_some((stick, lun as u8))
        })?;
        Some((stick, lun, stick.storage.unit(lun).await))
    };
    let unit = shell.work(pin!(unit)).await;
    let (stick, lun, mut unit) = match unit {
        Ok(Some((stick, lun, Ok(unit)))) => (stick, lun, unit),
        Ok(Some((_, _, Err(error)))) => {
            let reason = Line::of(error);
            shell.app(|app| app.failed(reason.as_str()));
            return Ok(());
        }
        Ok(None) => {
            shell.app(|app| app.failed("The stick is not there any more."));
            return Ok(());
        }
        Err(interrupted) => return stopped(interrupted, shell),
    };
    match command {
        Command::List { volume, .. } => {
            let path: Vec<u16, { crate::ui::app::MAX_DEPTH }> = shell.app.borrow().path().collect();
            let found = |place, name: &str, bytes| {
                let mut app = shell.app.borrow_mut();
                app.entry(place, name, bytes)
            };
            let listed = session::list(
                &mut unit,
                buffers.cache,
                buffers.session,
                usize::from(volume),
                path.into_iter(),
                found,
            );
            let listed = shell.work(pin!(listed)).await;
            match listed {
                Ok(Ok(complete)) => shell.app(|app| app.listed(!complete)),
                Ok(Err(error)) => {
                    let reason = Line::of(error);
                    shell.app(|app| app.failed(reason.as_str()));
                }
                Err(interrupted) => return stopped(interrupted, shell),
            }
        }
        Command::Check(_) => {
            let identity = Identity {
                stick: id,
                port: stick.port,
                lun,
                vendor_id: 0,
                product_id: 0,
                vendor: "",
                product: "",
            };
            let mut records = Records(shell);
            let mut job = Job {
                sink: &mut records as &mut dyn Sink,
                buffer: &mut *buffers.files,
                cache: &mut *buffers.cache,
                work: &mut *buffers.job,
                task: Task::Read,
                clock: shell.console.borrow().clock(),
            };
            let end = shell.work(pin!(job.run(unit, &identity))).await;
            shell.app(|app| app.finished(end.is_err()));
            if let Err(Interrupted::Quit(exit)) = end {
                return Err(Interrupted::Quit(exit));
            }
        }
        Command::Measure(_) => {
            let clock = shell.console.borrow().clock();
            let progress = |permille, rate| {
                shell.app(|app| app.progress(permille, rate, "reading"));
            };
            let measured = session::measure(&mut unit, buffers.files, clock, progress);
            let measured = shell.work(pin!(measured)).await;
            match measured {
                Ok(Ok(speed)) => {
                    buffers.text.clear();
                    // Fits.
                    let _ = tell_speed(&speed, buffers.text);
                    shell.app(|app| app.document("Speed", buffers.text, "SPEED.TXT"));
                }
                Ok(Err(error)) => {
                    let reason = Line::of(error);
                    shell.app(|app| app.failed(reason.as_str()));
                }
                Err(interrupted) => return stopped(interrupted, shell),
            }
        }
        Command::Eject(_) => {
            drop(unit);
            let ejected = shell.work(pin!(stick.storage.eject(lun))).await;
            match ejected {
                Ok(Ok(())) => shell.app(|app| app.ejected(id)),
                Ok(Err(error)) => {
                    let reason = Line::of(format_args!("It did not stop: {error}"));
                    shell.app(|app| app.failed(reason.as_str()));
                }
                Err(interrupted) => return stopped(interrupted, shell),
            }
        }
        Command::Save { name, .. } => {
            // A copy: the menu is shown meanwhile.
            buffers.text.clear();
            let _ = buffers.text.push_str(shell.app.borrow().text());
            let saved = session::save(
                &mut unit,
                buffers.cache,
                buffers.session,
                buffers.files,
                job::stamp(shell.console.borrow().clock()()),
                (name, buffers.text.as_str()),
            );
            let saved = shell.work(pin!(saved)).await;
            let (text, tone) = match saved {
                Ok(Ok(())) => {
                    let text = Line::of(format_args!("Saved as {}/{name}", job::DIRECTORY));
                    (text, Tone::Good)
                }
                Ok(Err(error)) => (Line::of(format_args!("Not saved: {error}")), Tone::Bad),
                Err(interrupted) => return stopped(interrupted, shell),
            };
            info!("{}", text.as_str());
            shell.app(|app| app.notice(text.as_str(), tone));
        }
        Command::Probe | Command::LastLog | Command::Cancel | Command::Quit(_) => {}
    }
    Ok(())
}

/// Tells the menu that work was stopped; leaves if the person wants to leave.
fn stopped<M: Console>(
    interrupted: Interrupted,
    shell: &Shell<'_, '_, M>,
) -> Result<(), Interrupted> {
    shell.app(|app| app.failed("Stopped."));
    match interrupted {
        Interrupted::Cancelled => Ok(()),
        quit => Err(quit),
    }
}

fn tell_speed(speed: &Speed, text: &mut impl Write) -> core::fmt::Result {
    writeln!(text, "+ {}/s in one go", Size(speed.bytes_per_second()))?;
    writeln!(
        text,
        "{} in {} ms",
        Size(speed.sequential.0),
        speed.sequential.1 / 1000
    )?;
    writeln!(text, "\n# Here and there, 4 KiB each")?;
    writeln!(text, "{} reads per second", speed.reads_per_second())?;
    writeln!(
        text,
        "{} us each, {} us the slowest",
        speed.random.1 / speed.random.0.max(1),
        speed.slowest_us
    )
}
