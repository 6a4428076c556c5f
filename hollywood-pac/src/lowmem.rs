//! Low-memory globals: what IOS and the loader leave in the first pages of MEM1, as typed and range-checked values.
//!
//! Offsets and meanings: hardware notes, section 1.3. Nothing here is trusted: an emulator, another loader or a soft reset may
//! leave other things, so that every value that can be checked is, and an error carries the word that was found.

use core::fmt;

use crate::addr::{CachedRange, Region};
use crate::cache;
use crate::delay::Frequency;

/// Where a global lies: its offset from the start of MEM1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u16)]
pub enum Global {
    /// Boot magic, 0x0D15_EA5E after a normal boot.
    BootMagic = 0x0020,
    /// Version of the boot information.
    BootVersion = 0x0024,
    /// Size of MEM1 in bytes.
    Mem1Size = 0x0028,
    /// Console type.
    ConsoleType = 0x002C,
    /// Arena of MEM1: begin.
    Mem1ArenaLow = 0x0030,
    /// Arena of MEM1: end.
    Mem1ArenaHigh = 0x0034,
    /// Disc's file system table: address.
    FstAddress = 0x0038,
    /// Disc's file system table: greatest size.
    FstMaxSize = 0x003C,
    /// Television mode.
    TvMode = 0x00CC,
    /// Bus clock in Hz.
    BusClock = 0x00F8,
    /// CPU clock in Hz.
    CpuClock = 0x00FC,
    /// Size of MEM2 in bytes.
    Mem2Size = 0x3118,
    /// Simulated size of MEM2.
    Mem2SimulatedSize = 0x311C,
    /// End of the part of MEM2 that the PPC may use.
    Mem2End = 0x3120,
    /// Arena of MEM2: begin.
    Mem2ArenaLow = 0x3124,
    /// Arena of MEM2: end.
    Mem2ArenaHigh = 0x3128,
    /// Buffer for requests to IOS: begin.
    IpcBufferLow = 0x3130,
    /// Buffer for requests to IOS: end.
    IpcBufferHigh = 0x3134,
    /// Revision of Hollywood.
    HollywoodRevision = 0x3138,
    /// IOS: number in the upper half, revision in the lower; 0 while IOS reloads and where there is none.
    IosVersion = 0x3140,
    /// Build date of IOS.
    IosBuildDate = 0x3144,
    /// Heap that IOS reserves in MEM2: begin.
    IosHeapLow = 0x3148,
    /// Heap that IOS reserves in MEM2: end.
    IosHeapHigh = 0x314C,
    /// Vendor of the MEM2 chips.
    DdrVendor = 0x3158,
}

impl Global {
    /// Returns the offset from the start of MEM1.
    pub const fn offset(self) -> usize {
        self as usize
    }
}

/// Why a low-memory global was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LowMemoryError {
    /// A clock is outside of what any Wii or emulator runs at.
    Clock {
        /// The global that was read.
        global: Global,
        /// What it holds, in Hz.
        hertz: u32,
    },
    /// Two globals do not name a range of whole cache lines in MEM2 below the memory of IOS.
    Range {
        /// The first of the two.
        global: Global,
        /// What it holds.
        low: u32,
        /// What the second holds.
        high: u32,
    },
}

impl fmt::Display for LowMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock { global, hertz } => write!(
                f,
                "low memory {:#06x} gives a clock of {hertz} Hz",
                global.offset()
            ),
            Self::Range { global, low, high } => {
                write!(
                    f,
                    "low memory {:#06x} gives {low:#010x}..{high:#010x}, no range of MEM2",
                    global.offset()
                )
            }
        }
    }
}

impl core::error::Error for LowMemoryError {}

/// Version of the IOS that runs on the other processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IosVersion {
    /// Number of the title, as in "IOS58".
    pub number: u16,
    /// Revision of the title.
    pub revision: u16,
}

impl fmt::Display for IosVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IOS{} v{}", self.number, self.revision)
    }
}

/// Slowest and fastest bus clock that is believed. A Wii has 243 MHz; QEMU's boards up to four times their 100 MHz time base.
const BUS_CLOCK: core::ops::RangeInclusive<u32> = 1_000_000..=1_000_000_000;
/// Slowest and fastest CPU clock that is believed. A Wii has 729 MHz.
const CPU_CLOCK: core::ops::RangeInclusive<u32> = 1_000_000..=4_000_000_000;
/// End of everything that any IOS leaves to the PPC, in the cached view (hardware notes, section 1.4).
const MEM2_END: u32 = 0x9360_0000;

/// The words themselves.
#[repr(C, align(32))]
pub struct Image([u8; Image::BYTES]);

impl Image {
    /// Size of the part of MEM1 that holds the globals.
    pub const BYTES: usize = 0x3200;

    /// Makes an image of nothing but zeros, to be filled with [`Image::set`]: a stand-in for tests and a base for a boot shim.
    pub const fn zeroed() -> Self {
        Self([0; Self::BYTES])
    }

    /// Stores `value` at `global`, big-endian, as IOS would.
    pub fn set(&mut self, global: Global, value: u32) {
        if let Some(word) = self.0.get_mut(global.offset()..global.offset() + 4) {
            word.copy_from_slice(&value.to_be_bytes());
        }
    }
}

const _: () = assert!(size_of::<Image>() == Image::BYTES);

/// The low-memory globals.
#[derive(Clone, Copy)]
pub struct LowMemory<'m> {
    image: &'m core::cell::UnsafeCell<Image>,
}

impl LowMemory<'static> {
    /// Returns the globals of this Wii.
    #[cfg(target_os = "none")]
    pub fn get() -> Self {
        // MEM1 in the cached view.
        let start: *const core::cell::UnsafeCell<Image> =
            core::ptr::with_exposed_provenance(0x8000_0000);
        // SAFETY: MEM1 begins there under the standard address map, and no Rust object lies in its first 0x3400 bytes, where
        // images are loaded at the earliest. The other processor writes there too: every read is volatile.
        let image = unsafe { &*start };
        Self { image }
    }
}

impl<'m> LowMemory<'m> {
    /// Reads the globals from an image.
    pub fn from_image(image: &'m mut Image) -> Self {
        let image: *mut Image = image;
        // SAFETY: `UnsafeCell` has the layout of what it holds, and the exclusive borrow lasts as long as this one.
        let image = unsafe { &*image.cast::<core::cell::UnsafeCell<Image>>() };
        Self { image }
    }

    /// Reads one global as it is, unchecked.
    ///
    /// The cache line is flushed first, so that the word is what the other processor wrote last, or what a loader left in the cache.
    pub fn word(&self, global: Global) -> u32 {
        let start = self.image.get().cast::<u8>().cast_const();
        // SAFETY: every global lies within the image and is a multiple of 4, and the image is aligned to 32.
        unsafe {
            let word = start.add(global.offset()).cast::<u32>();
            cache::flush_range(word.cast(), size_of::<u32>());
            u32::from_be(word.read_volatile())
        }
    }

    fn clock(
        &self,
        global: Global,
        believable: &core::ops::RangeInclusive<u32>,
    ) -> Result<u32, LowMemoryError> {
        let hertz = self.word(global);
        if believable.contains(&hertz) {
            Ok(hertz)
        } else {
            Err(LowMemoryError::Clock { global, hertz })
        }
    }

    fn mem2_range(&self, low: Global, high: Global) -> Result<CachedRange, LowMemoryError> {
        let (start, end) = (self.word(low), self.word(high));
        let lines = start % cache::LINE_BYTES as u32 == 0 && end % cache::LINE_BYTES as u32 == 0;
        CachedRange::new(start, end)
            .filter(|range| lines && end <= MEM2_END && range.region() == Some(Region::Mem2))
            .ok_or(LowMemoryError::Range {
                global: low,
                low: start,
                high: end,
            })
    }

    /// Says whether the boot magic is there.
    pub fn booted_by_ios(&self) -> bool {
        self.word(Global::BootMagic) == 0x0D15_EA5E
    }

    /// Returns the bus clock in Hz: 243 000 000 on a Wii.
    ///
    /// # Errors
    /// [`LowMemoryError::Clock`] outside of 1 MHz to 1 GHz.
    pub fn bus_clock(&self) -> Result<u32, LowMemoryError> {
        self.clock(Global::BusClock, &BUS_CLOCK)
    }

    /// Returns the CPU clock in Hz: 729 000 000 on a Wii.
    ///
    /// # Errors
    /// [`LowMemoryError::Clock`] outside of 1 MHz to 4 GHz.
    pub fn cpu_clock(&self) -> Result<u32, LowMemoryError> {
        self.clock(Global::CpuClock, &CPU_CLOCK)
    }

    /// Returns the frequency of the time base: a quarter of the bus clock.
    ///
    /// # Errors
    /// As for [`LowMemory::bus_clock`].
    pub fn time_base_frequency(&self) -> Result<Frequency, LowMemoryError> {
        let hertz = self.bus_clock()?;
        Frequency::from_bus_clock(hertz).ok_or(LowMemoryError::Clock {
            global: Global::BusClock,
            hertz,
        })
    }

    /// Returns the part of MEM2 that IOS leaves to the program: 0x9000_0800 to 0x935E_0000 under IOS58. Its first 14 KiB may be
    /// the DSP's (hardware notes, section 1.1): start at 0x9000_4000.
    ///
    /// # Errors
    /// [`LowMemoryError::Range`] unless it is a range of whole cache lines in MEM2 that ends at 0x9360_0000 or before.
    pub fn mem2_arena(&self) -> Result<CachedRange, LowMemoryError> {
        self.mem2_range(Global::Mem2ArenaLow, Global::Mem2ArenaHigh)
    }

    /// Returns the part of MEM2 that is meant for requests to IOS: 0x935E_0000 to 0x9360_0000 under IOS58.
    ///
    /// # Errors
    /// As for [`LowMemory::mem2_arena`].
    pub fn ipc_buffer(&self) -> Result<CachedRange, LowMemoryError> {
        self.mem2_range(Global::IpcBufferLow, Global::IpcBufferHigh)
    }

    /// Returns the version of IOS; `None` where there is none, or while it reloads.
    pub fn ios_version(&self) -> Option<IosVersion> {
        match self.word(Global::IosVersion) {
            0 => None,
            word => Some(IosVersion {
                number: (word >> 16) as u16,
                revision: word as u16,
            }),
        }
    }

    /// Returns the revision of Hollywood.
    pub fn hollywood_revision(&self) -> u32 {
        self.word(Global::HollywoodRevision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Dolphin and IOS58 leave (hardware notes, section 1.3; Dolphin notes, section 1).
    fn ios58() -> Image {
        let mut image = Image::zeroed();
        for (global, word) in [
            (Global::BootMagic, 0x0D15_EA5E),
            (Global::BusClock, 0x0E7B_E2C0),
            (Global::CpuClock, 0x2B73_A840),
            (Global::Mem2ArenaLow, 0x9000_0800),
            (Global::Mem2ArenaHigh, 0x935E_0000),
            (Global::IpcBufferLow, 0x935E_0000),
            (Global::IpcBufferHigh, 0x9360_0000),
            (Global::HollywoodRevision, 0x11),
            (Global::IosVersion, 0x003A_1820),
        ] {
            image.set(global, word);
        }
        image
    }

    #[test]
    fn globals_are_big_endian_at_their_offsets() {
        let mut image = Image::zeroed();
        image.0[0x3140..0x3144].copy_from_slice(&[0x00, 0x3A, 0x18, 0x20]);
        image.0[0x00F8..0x00FC].copy_from_slice(&[0x0E, 0x7B, 0xE2, 0xC0]);
        let low = LowMemory::from_image(&mut image);
        assert_eq!(
            low.ios_version(),
            Some(IosVersion {
                number: 58,
                revision: 6176
            })
        );
        assert_eq!(low.bus_clock(), Ok(243_000_000));
    }

    #[test]
    fn what_ios58_leaves_is_believed() {
        let mut image = ios58();
        let low = LowMemory::from_image(&mut image);
        assert!(low.booted_by_ios());
        assert_eq!(low.cpu_clock(), Ok(729_000_000));
        assert_eq!(low.time_base_frequency(), Ok(Frequency::WII));
        assert_eq!(
            low.mem2_arena(),
            Ok(CachedRange::new(0x9000_0800, 0x935E_0000).unwrap())
        );
        assert_eq!(low.ipc_buffer().unwrap().bytes(), 0x2_0000);
        assert_eq!(low.hollywood_revision(), 0x11);
    }

    #[test]
    fn an_empty_page_is_an_error_or_an_absence_everywhere() {
        let mut image = Image::zeroed();
        let low = LowMemory::from_image(&mut image);
        assert!(!low.booted_by_ios());
        assert_eq!(
            low.bus_clock(),
            Err(LowMemoryError::Clock {
                global: Global::BusClock,
                hertz: 0
            })
        );
        assert!(
            low.cpu_clock().is_err()
                && low.time_base_frequency().is_err()
                && low.ipc_buffer().is_err()
        );
        assert_eq!(
            low.mem2_arena(),
            Err(LowMemoryError::Range {
                global: Global::Mem2ArenaLow,
                low: 0,
                high: 0
            })
        );
        assert_eq!(low.ios_version(), None);
    }

    #[test]
    fn an_arena_that_is_not_whole_lines_of_mem2_below_ios_is_refused() {
        for (start, end) in [
            (0x9000_0801, 0x935E_0000),
            (0x9000_0800, 0x935E_0010),
            (0x935E_0000, 0x9000_0800),
            (0x9000_0800, 0x9000_0800),
            (0x8000_4000, 0x8170_0000),
            (0x9000_0800, 0x9360_0020),
            (0x1000_4000, 0x13F0_0000),
            (0xD000_0800, 0xD35E_0000),
            (0xFFFF_FFE0, 0x0000_0000),
        ] {
            let mut image = ios58();
            image.set(Global::Mem2ArenaLow, start);
            image.set(Global::Mem2ArenaHigh, end);
            assert_eq!(
                LowMemory::from_image(&mut image).mem2_arena(),
                Err(LowMemoryError::Range {
                    global: Global::Mem2ArenaLow,
                    low: start,
                    high: end
                }),
            );
        }
    }

    #[test]
    fn clocks_that_no_machine_has_are_refused() {
        for hertz in [0, 999_999, 1_000_000_001, u32::MAX] {
            let mut image = ios58();
            image.set(Global::BusClock, hertz);
            assert!(
                LowMemory::from_image(&mut image).bus_clock().is_err(),
                "{hertz}"
            );
        }
        // QEMU's 40p: a time base of 100 MHz.
        let mut image = ios58();
        image.set(Global::BusClock, 400_000_000);
        assert_eq!(
            LowMemory::from_image(&mut image)
                .time_base_frequency()
                .unwrap()
                .hertz(),
            100_000_000
        );
    }

    #[test]
    fn errors_say_what_was_found() {
        extern crate std;
        let error = LowMemoryError::Range {
            global: Global::Mem2ArenaLow,
            low: 1,
            high: 2,
        };
        assert_eq!(
            std::format!("{error}"),
            "low memory 0x3124 gives 0x00000001..0x00000002, no range of MEM2"
        );
    }
}
