//! The menu on this machine.

use core::fmt::Write;
use core::pin::pin;

use embassy_futures::block_on;
use embedded_hal::digital::{OutputPin, PinState};
use hollywood_pac::gpio::{Output, Pin};
use hollywood_pac::peripherals::{GpioArm, GpioB, Pi};
use static_cell::ConstStaticCell;

use super::controllers::Controllers;
use super::television::Television;
use super::usb::{self, Usb};
use super::{bays, hardware, ipc, last_log, time};
use crate::arguments::{Arguments, MAP_READY};
use crate::attended::{self, Buffers, Console};
use crate::ios::stm::{self, Button};
use crate::job::Task;
use crate::session;
use crate::ui::access::Access;
use crate::ui::app::{App, DOCUMENT_BYTES, Exit, Memory};
use crate::ui::keys::{Key, Level};
use crate::ui::screen::Screen;
use crate::video::Mode;

/// The argument that has the program do its job and end, without a person.
pub const UNATTENDED: &str = "unattended";
/// The argument that brings the menu where nobody is expected.
pub const ATTENDED: &str = "attended";
/// The argument that chooses a television mode, by its name.
const VIDEO: &str = "video";

/// Says whether somebody is there: on a machine with a screen, unless the arguments say otherwise.
pub fn is_wanted(arguments: Arguments<'_>) -> bool {
    arguments.has(ATTENDED) || !(arguments.has(UNATTENDED) || arguments.has(MAP_READY))
}

/// Runs the menu until the person leaves.
// Not inlined: what runs without a person does not need its frame.
#[inline(never)]
pub fn run(arguments: Arguments<'static>) -> Exit {
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    static TEXT: ConstStaticCell<heapless::String<DOCUMENT_BYTES>> =
        ConstStaticCell::new(heapless::String::new());
    let has_hollywood = !arguments.has(MAP_READY);
    let mode = arguments
        .value(VIDEO)
        .and_then(|name| Mode::ALL.into_iter().find(|mode| mode.name() == name));
    // SAFETY: this function runs once, and only a machine with its own map has a Hollywood.
    let mut machine = unsafe { Machine::start(has_hollywood, mode) };
    let text = TEXT.take();
    let app = |access| {
        let has_last = !last_log::last().is_empty();
        App::new(env!("CARGO_PKG_VERSION"), access, has_last, MEMORY.take())
    };
    match Usb::start() {
        Ok(usb) => {
            let mut app = app(usb.access());
            let exit = attend(&usb, &mut app, &mut machine, text);
            // First of all, so that IOS has no request any more when the way to sticks is closed.
            machine.stop();
            if let Err(error) = usb.stop() {
                defmt::warn!("{}", defmt::Display2Format(&error));
                last_log::line(format_args!("! {error}"));
            }
            exit
        }
        Err(error) => {
            defmt::warn!("no way to sticks: {}", defmt::Display2Format(&error));
            last_log::line(format_args!("! no way to sticks: {error}"));
            let mut app = app(Access::None(error.obstacle()));
            let exit = attend_alone(&mut app, &mut machine, text);
            machine.stop();
            exit
        }
    }
}

// Not inlined: beside those of start and stop its frame would not fit the stack.
#[inline(never)]
fn attend(
    usb: &Usb,
    app: &mut App<'_>,
    machine: &mut Machine,
    text: &'static mut heapless::String<DOCUMENT_BYTES>,
) -> Exit {
    // Pinned, not moved: it is large.
    let attend = pin!(attended::attend(
        usb.controller(),
        usb::bus_state(),
        app,
        machine,
        buffers(text),
    ));
    block_on(attend)
}

// Not inlined, lest every way through the menu have its frame.
#[inline(never)]
fn attend_alone(
    app: &mut App<'_>,
    machine: &mut Machine,
    text: &mut heapless::String<DOCUMENT_BYTES>,
) -> Exit {
    let attend = pin!(attended::attend_alone(app, machine, text));
    block_on(attend)
}

/// Memory for work on sticks.
fn buffers(text: &'static mut heapless::String<DOCUMENT_BYTES>) -> Buffers<'static> {
    static SESSION: ConstStaticCell<session::Workspace> =
        ConstStaticCell::new(session::Workspace::new());
    let [job, _] = bays::jobs(Task::Read);
    Buffers {
        files: job.buffer,
        cache: job.cache,
        job: job.work,
        session: SESSION.take(),
        text,
    }
}

/// The console around the menu.
struct Machine {
    television: Television,
    hollywood: Option<Hollywood>,
}

type Buttons = stm::Buttons<'static, 'static, ipc::Hollywood>;

/// What only a console has, and Dolphin.
struct Hollywood {
    controllers: Controllers,
    buttons: Option<Buttons>,
    light: Pin<'static, 5, Output>,
    interface: Pi,
    reset: Level,
    /// The eject button, where its pin may be looked at: it is the other processor's.
    eject: Option<(GpioArm, Level)>,
}

impl Machine {
    /// # Safety
    /// Called once. With `has_hollywood`, there is one.
    unsafe fn start(has_hollywood: bool, mode: Option<Mode>) -> Self {
        // SAFETY: the caller's promise; nothing else in the program uses screen, controllers, light and buttons.
        let television = unsafe { Television::start(has_hollywood, mode) };
        let hollywood = has_hollywood.then(|| {
            let buttons = ipc::ios()
                .ok()
                .and_then(|ios| block_on(Buttons::hook(ios)).ok());
            if buttons.is_none() {
                defmt::warn!("IOS does not tell of the power button");
            }
            // Dolphin has the pin too, but no button.
            let open = hardware::obstacle().is_none();
            // SAFETY: as above. The other processor's pins are only read.
            unsafe {
                Hollywood {
                    controllers: Controllers::start(),
                    buttons,
                    light: GpioB::steal().split().slot_led.into_output(PinState::Low),
                    interface: Pi::steal(),
                    reset: Level::resting(true),
                    // Nobody has published what it reads as.
                    eject: open.then(|| (GpioArm::steal(), Level::unknown())),
                }
            }
        });
        Self {
            television,
            hollywood,
        }
    }

    /// Gives everything back.
    fn stop(self) {
        if let Some(mut hollywood) = self.hollywood {
            hollywood.controllers.stop();
            let Ok(()) = hollywood.light.set_low();
            if let Some(buttons) = hollywood.buttons {
                block_on(buttons.release());
            }
        }
    }
}

impl Hollywood {
    /// The reset and eject buttons, whose levels need no IOS: they are looked at as well.
    fn button(&mut self) -> Option<Key> {
        let up = self.interface.intsr.read().reset_switch_state();
        if self.reset.went_down(up) {
            return Some(Key::Reset);
        }
        let (pins, level) = self.eject.as_mut()?;
        let eject = pins.bank.input.read().eject_button();
        level.went_down(eject).then_some(Key::Eject)
    }
}

impl Console for Machine {
    fn key(&mut self) -> Option<Key> {
        let hollywood = self.hollywood.as_mut()?;
        let button = hollywood.buttons.as_mut().and_then(Buttons::pressed);
        match button {
            Some(Button::Power) => return Some(Key::Power),
            Some(Button::Reset) => return Some(Key::Reset),
            None => {}
        }
        hollywood.button().or_else(|| hollywood.controllers.key())
    }

    fn show(&mut self, screen: &Screen) {
        self.television.show(screen);
    }

    fn activity(&mut self, on: bool) {
        if let Some(hollywood) = &mut self.hollywood {
            let Ok(()) = hollywood.light.set_state(on.into());
        }
    }

    fn probe(&mut self, access: Access, device: Option<u8>, text: &mut dyn Write) {
        // A text that is full is cut.
        let _ = super::probe::write(text, access, device);
    }

    fn last_log(&mut self, text: &mut dyn Write) {
        // As above.
        let _ = crate::last_log::show(last_log::last(), text);
    }

    fn clock(&self) -> fn() -> u64 {
        time::now_us
    }
}

/// Switches the console off, or goes back to the loader if it cannot.
pub fn power_off() {
    if let Ok(ios) = ipc::ios() {
        block_on(stm::shut_down(ios));
    }
}
