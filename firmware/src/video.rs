//! Television modes: the timing of a picture of 640 x 480 pixels, computed from the standards.
//!
//! Numbers of lines and samples are those of ITU-R BT.470 (NTSC, PAL), BT.601 (sampling) and SMPTE 293M
//! (progressive). How the video interface counts them (YAGCD 5.3): horizontally in samples of 13.5 MHz
//! (27 MHz progressive) from the leading edge of the line's sync pulse; vertically in half lines. A
//! field begins with its first equalising pulse, so that of two fields one begins with a line and the
//! other in the middle of one. The three groups of pulses, equalising, broad, equalising, are equally
//! long; then come blank lines, the picture, and blank lines to the next field.
//!
//! What colour the burst has (NTSC or PAL at 60 Hz) is the business of the A/V encoder, which keeps what
//! the console's menu set it to: to the video interface both are one mode.

use hollywood_pac::addr::PhysAddr;
use hollywood_pac::vi::{
    BurstBlanking, Dcr, FieldBase, FieldTiming, Hsr, Hsw, Htr0, Htr1, Registers, ViClk, Vtr,
};

use crate::ui::canvas;

/// A television mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 525 lines, 60 fields a second: NTSC.
    Ntsc,
    /// 625 lines, 50 fields a second: PAL.
    Pal50,
    /// 525 lines, 60 fields a second, with the colours of PAL.
    Pal60,
    /// 525 lines, 60 frames a second, over a component cable.
    Progressive,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Ntsc, Self::Pal50, Self::Pal60, Self::Progressive];

    /// Finds out which mode is on the screen from what the loader left: its programs show a picture
    /// already, in the mode that the console is set to. `tv` is the low-memory global of the television
    /// mode, which counts where the interface is off.
    pub fn current(registers: &Registers, tv: u32) -> Self {
        /// PAL in the register and in low memory.
        const PAL: u32 = 1;
        /// PAL at 60 Hz in low memory.
        const PAL60: u32 = 5;
        let dcr = registers.dcr.read();
        if dcr.enb() && registers.viclk.read().progressive() {
            return Self::Progressive;
        }
        let format = if dcr.enb() { dcr.fmt().into() } else { tv };
        match (format, tv) {
            (PAL, _) => Self::Pal50,
            (_, PAL60) => Self::Pal60,
            _ => Self::Ntsc,
        }
    }

    /// Returns the mode's name for people, and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ntsc => "ntsc",
            Self::Pal50 => "pal50",
            Self::Pal60 => "pal60",
            Self::Progressive => "progressive",
        }
    }

    /// Returns the time between two pictures (fields, if interlaced) in nanoseconds.
    pub const fn period_ns(self) -> u64 {
        let standard = self.standard();
        // Of 13.5 MHz: 27 samples take 2 us; of 27 MHz: 1 us.
        let samples = standard.half_line as u64 * standard.half_lines as u64;
        let fields = if standard.progressive { 1000 } else { 2000 };
        samples * fields / 27
    }

    const fn standard(self) -> Standard {
        match self {
            Self::Ntsc | Self::Pal60 => Standard::INTERLACED_525,
            Self::Pal50 => Standard::INTERLACED_625,
            Self::Progressive => Standard::PROGRESSIVE_525,
        }
    }

    /// Computes the timing.
    pub fn timing(self) -> Timing {
        self.standard().timing()
    }
}

/// What the standards say.
struct Standard {
    /// Samples in half a line.
    half_line: u16,
    /// Half lines in a field; progressive: in a frame.
    half_lines: u16,
    /// Half lines in each of the three groups of pulses.
    pulses: u16,
    /// Samples from the sync edge to the first of 720 (BT.601, table 1).
    first_sample: u16,
    /// Where the colour burst begins and ends, in samples.
    burst: [u8; 2],
    /// In which half lines, counted from the first broad pulse, the burst comes back after the pulses and
    /// is last there, in four fields: the first, third and so on begin with a line.
    burst_fields: [[u16; 2]; 4],
    /// Half lines from the end of the pulses to the first of the lines that a picture may have, in
    /// fields that begin with a line and in the others, and the number of these lines.
    active: ([u16; 2], u16),
    /// Every field has all the lines.
    progressive: bool,
    /// Format of the colours, as the interface numbers it.
    format: u8,
}

/// Converts the number of a line in a standard to half lines.
const fn lines(lines: u16) -> u16 {
    2 * lines
}

/// Converts a time to whole samples of 13.5 MHz.
const fn samples(nanoseconds: u32) -> u8 {
    (nanoseconds * 27 / 2000) as u8
}

impl Standard {
    /// NTSC: nine lines of pulses, from line 1 (first field) and from the middle of line 263; broad
    /// pulses three lines later. No burst in lines 1 to 9 and 264 to 272. Digital picture: lines 22 to 261
    /// and 285 to 524.
    const INTERLACED_525: Self = Self {
        half_line: 858 / 2,
        half_lines: 525,
        pulses: lines(3),
        first_sample: 122,
        // 5.3 us, and nine cycles of 3.579545 MHz.
        burst: [samples(5_300), samples(5_300 + 2_514)],
        burst_fields: [
            // Broad pulses from line 4; burst from line 10 until line 263 ends.
            [lines(10 - 4), lines(264 - 4)],
            // Broad pulses from the middle of line 266; burst from line 273 until line 525 ends.
            [lines(273 - 266) - 1, lines(526 - 266) - 1],
            [lines(10 - 4), lines(264 - 4)],
            [lines(273 - 266) - 1, lines(526 - 266) - 1],
        ],
        active: ([lines(22 - 10), lines(285 - 272) - 1], 240),
        progressive: false,
        format: 0,
    };

    /// PAL: seven and a half lines of pulses, from line 311 and from the middle of line 623; broad pulses
    /// two and a half lines later. Nine lines without burst, which move over four fields (Bruch
    /// blanking): 311 to 319 (fourth field), 623 to 6 (first), 310 to 318 (second), 622 to 5 (third).
    /// Picture: 288 lines from 335 and from 23.
    const INTERLACED_625: Self = Self {
        half_line: 864 / 2,
        half_lines: 625,
        pulses: 5,
        first_sample: 132,
        // 5.6 us, and ten cycles of 4.433619 MHz.
        burst: [samples(5_600), samples(5_600 + 2_256)],
        burst_fields: [
            // Broad pulses from the middle of line 313; burst from line 320 until line 622 ends.
            [lines(320 - 313) - 1, lines(623 - 313) - 1],
            // Broad pulses from line 1; burst from line 7 until line 309 ends.
            [lines(7 - 1), lines(310 - 1)],
            // From line 319 until line 621 ends.
            [lines(319 - 313) - 1, lines(622 - 313) - 1],
            // From line 6 until line 310 ends.
            [lines(6 - 1), lines(311 - 1)],
        ],
        // From the middle of line 318, and from line 6.
        active: ([lines(335 - 318) - 1, lines(23 - 6)], 288),
        progressive: false,
        format: 1,
    };

    /// 480p: six lines each without pulses, of broad pulses and without. The interface counts as if there
    /// were a burst; the component signal has none.
    const PROGRESSIVE_525: Self = Self {
        half_line: 858 / 2,
        half_lines: lines(525),
        pulses: lines(6),
        first_sample: 122,
        burst: Self::INTERLACED_525.burst,
        burst_fields: [[lines(12), lines(525 - 6)]; 4],
        active: ([lines(24), lines(24)], 480),
        progressive: true,
        format: 0,
    };

    const fn timing(&self) -> Timing {
        let shown = if self.progressive {
            canvas::HEIGHT
        } else {
            canvas::HEIGHT / 2
        } as u16;
        let ([from_line, from_middle], active) = self.active;
        // In the middle of what there is. Whole lines: both fields move alike.
        let border = lines((active - shown) / 2);
        Timing {
            half_line: self.half_line,
            pulses: self.pulses,
            lines: shown,
            before: [from_line + border, from_middle + border],
            half_lines: self.half_lines,
            // The middle 640 of 720 samples.
            picture: [
                self.first_sample + (720 - canvas::WIDTH as u16) / 2,
                self.first_sample + (720 + canvas::WIDTH as u16) / 2,
            ],
            burst: self.burst,
            burst_fields: self.burst_fields,
            progressive: self.progressive,
            format: self.format,
        }
    }
}

/// A mode in the terms of the video interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Samples in half a line.
    half_line: u16,
    /// Half lines in each of the three groups of pulses.
    pulses: u16,
    /// Lines of picture in a field.
    lines: u16,
    /// Half lines from the end of the pulses to the picture, in both kinds of fields.
    before: [u16; 2],
    /// Half lines in a field.
    half_lines: u16,
    /// First sample of the picture, and the first behind it.
    picture: [u16; 2],
    /// First and last sample of the burst.
    burst: [u8; 2],
    /// Half lines of the burst, in four fields.
    burst_fields: [[u16; 2]; 4],
    progressive: bool,
    format: u8,
}

/// Samples in a sync pulse: those that 4.7 us begin.
const SYNC: u8 = samples(4_700) + 1;

impl Timing {
    /// Half lines from the end of the picture to the end of the field, in both kinds of fields.
    fn behind(&self, field: usize) -> u16 {
        self.half_lines - 3 * self.pulses - self.before[field] - lines(self.lines)
    }

    /// Makes the interface show pictures in this timing, beginning with the one at `picture`. The filter
    /// of the horizontal scaler keeps its coefficients, and is not used.
    ///
    /// `None`, and nothing done, if `picture` is not a multiple of 32 in the lower half of memory.
    pub fn apply(&self, registers: &Registers, picture: PhysAddr) -> Option<()> {
        let bases = self.bases(picture)?;
        // Off while it changes; what it had is not worth keeping.
        registers.dcr.write(Dcr::default());

        let mut vtr = Vtr::default();
        vtr.set_equ(self.pulses as u8);
        vtr.set_acv(self.lines);
        registers.vtr.write(vtr);

        let mut htr0 = Htr0::default();
        htr0.set_hlw(self.half_line);
        htr0.set_hcs(self.burst[0]);
        htr0.set_hce(self.burst[1]);
        registers.htr0.write(htr0);

        let mut htr1 = Htr1::default();
        htr1.set_hsy(SYNC);
        htr1.set_hbe(self.picture[0]);
        // Counted from the middle of the line.
        htr1.set_hbs(self.picture[1] - self.half_line);
        registers.htr1.write(htr1);

        for (field, register) in [&registers.vto, &registers.vte].into_iter().enumerate() {
            let mut timing = FieldTiming::default();
            timing.set_prb(self.before[field]);
            timing.set_psb(self.behind(field));
            register.write(timing);
        }
        for (field, register) in [&registers.bboi, &registers.bbei].into_iter().enumerate() {
            let (first, second) = (self.burst_fields[field], self.burst_fields[field + 2]);
            let mut burst = BurstBlanking::default();
            burst.set_bs_first(first[0] as u8);
            burst.set_be_first(first[1]);
            burst.set_bs_second(second[0] as u8);
            burst.set_be_second(second[1]);
            register.write(burst);
        }

        let mut hsw = Hsw::default();
        hsw.set_wpl((canvas::WIDTH / 16) as u8);
        // A field skips every second line of the picture.
        let stride = canvas::WIDTH / 16 * if self.progressive { 1 } else { 2 };
        hsw.set_std(stride as u8);
        registers.hsw.write(hsw);
        let mut hsr = Hsr::default();
        hsr.set_stp(256);
        registers.hsr.write(hsr);

        let mut clock = ViClk::default();
        clock.set_progressive(self.progressive);
        registers.viclk.write(clock);

        registers.tfbl.write(bases[0]);
        registers.bfbl.write(bases[1]);
        let mut dcr = Dcr::default();
        dcr.set_enb(true);
        dcr.set_nin(self.progressive);
        dcr.set_fmt(self.format);
        registers.dcr.write(dcr);
        Some(())
    }

    /// Shows another picture, from the next field on.
    ///
    /// `None`, and nothing done, if `picture` is not a multiple of 32 in the lower half of memory.
    pub fn show(&self, registers: &Registers, picture: PhysAddr) -> Option<()> {
        let [top, bottom] = self.bases(picture)?;
        registers.tfbl.write(top);
        registers.bfbl.write(bottom);
        Some(())
    }

    /// The fields that begin with a line have the picture's first line and every second one from there.
    fn bases(&self, picture: PhysAddr) -> Option<[FieldBase; 2]> {
        let second = if self.progressive {
            0
        } else {
            canvas::WIDTH * 2
        };
        let bottom = PhysAddr::new(picture.get().checked_add(second)?);
        Some([FieldBase::new(picture)?, FieldBase::new(bottom)?])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use hollywood_pac::Peripherals;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Registers in memory; one test at a time has them.
    fn registers() -> (MutexGuard<'static, ()>, &'static Registers) {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: on a host these are plain memory, which the lock keeps for this test.
        let registers = unsafe { Peripherals::steal() }.vi.leak();
        (turn, registers)
    }

    const PICTURE: PhysAddr = PhysAddr::new(0x0069_8000);

    #[test]
    fn a_field_is_as_long_as_the_standard_says() {
        for mode in Mode::ALL {
            let timing = mode.timing();
            for field in 0..2 {
                let sum = 3 * timing.pulses
                    + timing.before[field]
                    + lines(timing.lines)
                    + timing.behind(field);
                assert_eq!(sum, timing.half_lines, "{mode:?}");
                // The picture begins with a line: the first kind of field at an even half line after its
                // start, the other, which starts in the middle of one, at an odd one.
                let start = 3 * timing.pulses + timing.before[field];
                let odd = u16::from(!timing.progressive) * field as u16;
                assert_eq!(start % 2, odd, "{mode:?}");
            }
        }
    }

    #[test]
    fn pictures_come_at_the_rates_of_the_standards() {
        // 60/1.001 and 50 a second.
        for (mode, period) in [
            (Mode::Ntsc, 16_683_333),
            (Mode::Pal60, 16_683_333),
            (Mode::Progressive, 16_683_333),
            (Mode::Pal50, 20_000_000),
        ] {
            assert_eq!(mode.period_ns(), period, "{mode:?}");
        }
    }

    #[test]
    fn the_registers_say_what_public_documentation_knows_of_ntsc() {
        // YAGCD 5.3, the register values of a console that shows NTSC: half line, sync, burst, blanking.
        let (_turn, registers) = registers();
        Mode::Ntsc.timing().apply(registers, PICTURE).unwrap();
        let (htr0, htr1) = (registers.htr0.read(), registers.htr1.read());
        assert_eq!((htr0.hlw(), htr0.hcs(), htr0.hce()), (429, 71, 105));
        assert_eq!((htr1.hsy(), htr1.hbe(), htr1.hbs()), (64, 162, 373));
        let vtr = registers.vtr.read();
        assert_eq!((vtr.equ(), vtr.acv()), (6, 240));
        let fields = [registers.vto.read(), registers.vte.read()];
        assert_eq!(
            fields.map(|field| (field.prb(), field.psb())),
            [(24, 3), (25, 2)]
        );
        assert_eq!(registers.hsw.read().bits(), 0x2850);
        assert_eq!(registers.dcr.read().bits(), 0x0001);
        assert!(!registers.viclk.read().progressive());
    }

    #[test]
    fn pal_has_its_lines_in_the_middle_and_its_moving_burst() {
        let (_turn, registers) = registers();
        Mode::Pal50.timing().apply(registers, PICTURE).unwrap();
        let (htr0, htr1) = (registers.htr0.read(), registers.htr1.read());
        assert_eq!((htr0.hlw(), htr0.hcs(), htr0.hce()), (432, 75, 106));
        assert_eq!((htr1.hsy(), htr1.hbe(), htr1.hbs()), (64, 172, 380));
        let fields = [registers.vto.read(), registers.vte.read()];
        // 24 of 288 lines stay free above and below.
        assert_eq!(
            fields.map(|field| (field.prb(), field.psb())),
            [(81, 49), (82, 48)]
        );
        let burst = registers.bboi.read();
        let both = |burst: BurstBlanking| {
            [
                burst.bs_first().into(),
                burst.be_first(),
                burst.bs_second().into(),
                burst.be_second(),
            ]
        };
        assert_eq!(both(burst), [13, 619, 11, 617]);
        assert_eq!(both(registers.bbei.read()), [12, 618, 10, 620]);
        assert_eq!(registers.dcr.read().bits(), 0x0101);
    }

    #[test]
    fn progressive_has_every_line_in_every_field() {
        let (_turn, registers) = registers();
        let timing = Mode::Progressive.timing();
        timing.apply(registers, PICTURE).unwrap();
        assert_eq!(registers.vtr.read().acv(), 480);
        assert_eq!(registers.vtr.read().equ(), 12);
        assert_eq!(registers.hsw.read().bits(), 0x2828);
        assert_eq!(registers.dcr.read().bits(), 0x0005);
        assert!(registers.viclk.read().progressive());
        assert_eq!(registers.tfbl.read(), registers.bfbl.read());
    }

    #[test]
    fn the_other_field_begins_a_line_later_in_the_picture() {
        let (_turn, registers) = registers();
        let timing = Mode::Ntsc.timing();
        timing.apply(registers, PICTURE).unwrap();
        // Hardware notes, section 4.6.
        assert_eq!(registers.tfbl.read().bits(), 0x1003_4C00);
        assert_eq!(registers.bfbl.read().bits(), 0x1003_4C00 + 1280 / 32);
        timing.show(registers, PhysAddr::new(0x0040_0000)).unwrap();
        assert_eq!(registers.tfbl.read().bits(), 0x1002_0000);
        for bad in [0x0040_0010, 0x2000_0000, 0xFFFF_FFE0] {
            assert_eq!(timing.show(registers, PhysAddr::new(bad)), None);
            assert_eq!(timing.apply(registers, PhysAddr::new(bad)), None);
        }
        assert_eq!(registers.tfbl.read().bits(), 0x1002_0000);
    }

    #[test]
    fn the_mode_on_the_screen_is_kept() {
        let (_turn, registers) = registers();
        for mode in Mode::ALL {
            mode.timing().apply(registers, PICTURE).unwrap();
            let tv = if mode == Mode::Pal60 { 5 } else { 0 };
            assert_eq!(Mode::current(registers, tv), mode);
        }
        // Switched off: low memory counts.
        registers.dcr.write(Dcr::default());
        registers.viclk.write(ViClk::default());
        for (tv, mode) in [
            (0, Mode::Ntsc),
            (1, Mode::Pal50),
            (5, Mode::Pal60),
            (77, Mode::Ntsc),
        ] {
            assert_eq!(Mode::current(registers, tv), mode);
        }
    }
}
