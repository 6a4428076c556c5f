//! Two pictures in MEM1, and the video interface that shows one while the other is painted.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use hollywood_pac::addr::PhysAddr;
use hollywood_pac::cache;
use hollywood_pac::lowmem::{Global, LowMemory};
use hollywood_pac::peripherals::Vi;

use crate::ui::canvas::{Canvas, WORDS};
use crate::ui::paint;
use crate::ui::screen::Screen;
use crate::video::{Mode, Timing};

/// Bytes of a picture.
const BYTES: usize = 4 * WORDS;

/// The video interface reads MEM1 only, from multiples of 32 (hardware notes, section 4.6).
#[repr(C, align(32))]
struct Pictures(UnsafeCell<MaybeUninit<[[u32; WORDS]; 2]>>);

// SAFETY: handed out once, by `Television::start`.
unsafe impl Sync for Pictures {}

// The test harness finds them by their name.
#[unsafe(link_section = ".bss.frames")]
static PICTURES: Pictures = Pictures(UnsafeCell::new(MaybeUninit::uninit()));

/// The screen.
pub struct Television {
    pictures: &'static mut [[u32; WORDS]; 2],
    shown: usize,
    /// Absent on a machine without a video interface: then pictures are for a debugger.
    video: Option<(Vi, Timing)>,
}

impl Television {
    /// Switches the video interface to `mode`, or the mode that it is in, with a black picture.
    ///
    /// # Safety
    /// Called once. Nothing else uses the video interface; if `has_video`, there is one.
    pub unsafe fn start(has_video: bool, mode: Option<Mode>) -> Self {
        /// Black, twice.
        const BLACK: u32 = 0x1080_1080;
        let pictures = PICTURES.0.get().cast::<[[u32; WORDS]; 2]>();
        // SAFETY: this is the only reference, since this function is called once. The boot code does not clear the memory:
        // it is filled before it becomes a reference.
        let pictures = unsafe {
            let words = pictures.cast::<u32>();
            for index in 0..2 * WORDS {
                words.add(index).write(BLACK);
            }
            &mut *pictures
        };
        // SAFETY: the caller's promise.
        let video = has_video.then(|| unsafe { Vi::steal() });
        let video = video.map(|vi| {
            let tv = LowMemory::get().word(Global::TvMode);
            let mode = mode.unwrap_or_else(|| Mode::current(&vi, tv));
            defmt::info!("television: {=str}", mode.name());
            (vi, mode.timing())
        });
        let television = Self {
            pictures,
            shown: 0,
            video,
        };
        television.clean(0);
        if let Some((vi, timing)) = &television.video {
            // The picture is at a multiple of 32 in MEM1.
            let _ = timing.apply(vi, television.address(0));
        }
        television
    }

    /// Paints a screen into the picture that is not shown, and shows it from the next field on.
    pub fn show(&mut self, screen: &Screen) {
        let hidden = 1 - self.shown;
        if let Some(words) = self.pictures.get_mut(hidden) {
            paint::paint(screen, &mut Canvas::new(words));
        }
        self.clean(hidden);
        if let Some((vi, timing)) = &self.video {
            // As above.
            let _ = timing.show(vi, self.address(hidden));
        }
        self.shown = hidden;
        defmt::debug!(
            "picture {=usize} shows {=str}",
            hidden,
            screen.title.as_str()
        );
    }

    /// Writes a picture from the cache to memory.
    fn clean(&self, picture: usize) {
        if let Some(words) = self.pictures.get(picture) {
            // SAFETY: the picture is memory.
            unsafe { cache::clean_range(words.as_ptr().cast(), BYTES) };
        }
    }

    fn address(&self, picture: usize) -> PhysAddr {
        let start = self.pictures.as_ptr().addr() + picture * BYTES;
        PhysAddr::new(start as u32 & 0x3FFF_FFFF)
    }
}
