//! VI: the video interface.
//!
//! | | |
//! |---|---|
//! | base | `0x0C00_2000` (hardware notes, section 4.6; YAGCD 5.3); PI interrupt 8 |
//! | access | **16 bits**; 32-bit registers are two halves |
//! | certainty | certain for what YAGCD names; 0x68, 0x70 and 0x76 to 0x7C are unknown |
//! | Dolphin | complete |
//!
//! The interface only reads memory: no setting of it can break a program, only the picture.

use crate::macros::{bits, offsets};
use crate::reg::{ReadOnly, ReadWrite, Split};

bits! {
    /// VTR: vertical timing.
    pub struct Vtr(u16);
    /// EQU: equalisation pulse in half lines.
    pub u8, equ, set_equ: 3, 0;
    /// ACV: active lines in a field.
    pub u16, acv, set_acv: 13, 4;
}

bits! {
    /// DCR: display configuration.
    pub struct Dcr(u16);
    /// ENB: on.
    pub enb, set_enb: 0;
    /// RST: reset; hold for about 2 us.
    pub rst, set_rst: 1;
    /// NIN: not interlaced.
    pub nin, set_nin: 2;
    /// DLR: 3D display.
    pub dlr, set_dlr: 3;
    /// LE0: latch 0, 0 is off.
    pub u8, le0, set_le0: 5, 4;
    /// LE1: latch 1, 0 is off.
    pub u8, le1, set_le1: 7, 6;
    /// FMT: 0 NTSC, 1 PAL, 2 MPAL, 3 debug.
    pub u8, fmt, set_fmt: 9, 8;
}

bits! {
    /// HTR0: horizontal timing.
    pub struct Htr0(u32);
    /// HLW: half line width.
    pub u16, hlw, set_hlw: 8, 0;
    /// HCE: colour burst end.
    pub u8, hce, set_hce: 22, 16;
    /// HCS: colour burst start.
    pub u8, hcs, set_hcs: 30, 24;
}

bits! {
    /// HTR1: horizontal timing.
    pub struct Htr1(u32);
    /// HSY: sync width.
    pub u8, hsy, set_hsy: 6, 0;
    /// HBE: blanking end.
    pub u16, hbe, set_hbe: 16, 7;
    /// HBS: blanking start.
    pub u16, hbs, set_hbs: 26, 17;
}

bits! {
    /// VTO and VTE: vertical timing of a field.
    pub struct FieldTiming(u32);
    /// PRB: blanking before the picture, in half lines.
    pub u16, prb, set_prb: 9, 0;
    /// PSB: blanking after the picture, in half lines.
    pub u16, psb, set_psb: 25, 16;
}

bits! {
    /// BBOI and BBEI: burst blanking of two fields.
    pub struct BurstBlanking(u32);
    /// Start, first of the two fields.
    pub u8, bs_first, set_bs_first: 4, 0;
    /// End, first of the two fields.
    pub u16, be_first, set_be_first: 15, 5;
    /// Start, second of the two fields.
    pub u8, bs_second, set_bs_second: 20, 16;
    /// End, second of the two fields.
    pub u16, be_second, set_be_second: 31, 21;
}

bits! {
    /// Field base: where the picture is in memory.
    pub struct FieldBase(u32);
    /// Address, as it is or shifted right by 5.
    pub u32, address, set_address: 23, 0;
    /// XOF: horizontal offset in the first word (top-left register only).
    pub u8, xof, set_xof: 27, 24;
    /// The address is shifted right by 5.
    pub shifted, set_shifted: 28;
}

impl FieldBase {
    /// Makes the base of a picture at `picture`; `None` unless it is a multiple of 32 below 512 MiB.
    pub fn new(picture: crate::addr::PhysAddr) -> Option<Self> {
        if !picture.is_aligned(32) || picture.get() >> 29 != 0 {
            return None;
        }
        let mut base = Self::default();
        base.set_address(picture.get() >> 5);
        base.set_shifted(true);
        Some(base)
    }
}

bits! {
    /// DI0 to DI3: an interrupt at a position of the beam.
    pub struct DisplayInterrupt(u32);
    /// HCT: horizontal position.
    pub u16, hct, set_hct: 10, 0;
    /// VCT: vertical position.
    pub u16, vct, set_vct: 26, 16;
    /// ENB: on.
    pub enb, set_enb: 28;
    /// INT: it happened. Cleared by writing zero.
    pub int, set_int: 31;
}

bits! {
    /// DL0 and DL1: a latched position of the beam.
    pub struct DisplayLatch(u32);
    /// HCT: horizontal position.
    pub u16, hct, set_hct: 10, 0;
    /// VCT: vertical position.
    pub u16, vct, set_vct: 26, 16;
    /// TRG: it was triggered.
    pub trg, set_trg: 31;
}

bits! {
    /// HSW: width of the picture in memory.
    pub struct Hsw(u16);
    /// STD: stride in units of 16 pixels.
    pub u8, std, set_std: 7, 0;
    /// WPL: width in units of 16 pixels.
    pub u8, wpl, set_wpl: 14, 8;
}

bits! {
    /// HSR: horizontal scaling.
    pub struct Hsr(u16);
    /// STP: step, 1.8 fixed point.
    pub u16, stp, set_stp: 8, 0;
    /// HS_EN: on.
    pub hs_en, set_hs_en: 12;
}

bits! {
    /// VICLK: clock.
    pub struct ViClk(u16);
    /// 54 MHz, for progressive modes; 27 MHz when clear.
    pub progressive, set_progressive: 0;
}

bits! {
    /// VISEL: state of the connector.
    pub struct ViSel(u16);
    /// A component cable is connected.
    pub component, _: 0;
}

/// Registers of the interface.
#[repr(C)]
pub struct Registers {
    /// VTR: vertical timing.
    pub vtr: ReadWrite<Vtr>,
    /// DCR: display configuration.
    pub dcr: ReadWrite<Dcr>,
    /// HTR0: horizontal timing.
    pub htr0: Split<Htr0>,
    /// HTR1: horizontal timing.
    pub htr1: Split<Htr1>,
    /// VTO: odd field.
    pub vto: Split<FieldTiming>,
    /// VTE: even field.
    pub vte: Split<FieldTiming>,
    /// BBOI: burst blanking of the odd fields.
    pub bboi: Split<BurstBlanking>,
    /// BBEI: burst blanking of the even fields.
    pub bbei: Split<BurstBlanking>,
    /// TFBL: picture of the top field.
    pub tfbl: Split<FieldBase>,
    /// TFBR: picture of the top field, right eye.
    pub tfbr: Split<FieldBase>,
    /// BFBL: picture of the bottom field.
    pub bfbl: Split<FieldBase>,
    /// BFBR: picture of the bottom field, right eye.
    pub bfbr: Split<FieldBase>,
    /// DPV: vertical position of the beam.
    pub dpv: ReadOnly<u16>,
    /// DPH: horizontal position of the beam.
    pub dph: ReadOnly<u16>,
    /// DI0 to DI3: interrupts. Writing one back as read keeps what happened, since events are cleared by zeros.
    pub di: [Split<DisplayInterrupt>; 4],
    /// DL0 and DL1: latches.
    pub dl: [Split<DisplayLatch>; 2],
    /// HSW: width in memory.
    pub hsw: ReadWrite<Hsw>,
    /// HSR: horizontal scaling.
    pub hsr: ReadWrite<Hsr>,
    /// FCT0 to FCT6: filter coefficients.
    pub fct: [Split<u32>; 7],
    /// Unknown, of the filter.
    pub unknown_68: Split<u32>,
    /// VICLK: clock.
    pub viclk: ReadWrite<ViClk>,
    /// VISEL: connector.
    pub visel: ReadOnly<ViSel>,
    /// Unknown.
    pub unknown_70: ReadWrite<u16>,
    /// HBE: border, blanking end.
    pub hbe: ReadWrite<u16>,
    /// HBS: border, blanking start.
    pub hbs: ReadWrite<u16>,
    /// Unknown.
    pub unknown_76: ReadWrite<u16>,
    /// Unknown.
    pub unknown_78: Split<u32>,
    /// Unknown.
    pub unknown_7c: Split<u32>,
}

offsets!(Registers: 0x80 {
    vtr: 0x00, dcr: 0x02, htr0: 0x04, htr1: 0x08, vto: 0x0C, vte: 0x10, bboi: 0x14, bbei: 0x18, tfbl: 0x1C, tfbr: 0x20,
    bfbl: 0x24, bfbr: 0x28, dpv: 0x2C, dph: 0x2E, di: 0x30, dl: 0x40, hsw: 0x48, hsr: 0x4A, fct: 0x4C, unknown_68: 0x68,
    viclk: 0x6C, visel: 0x6E, unknown_70: 0x70, hbe: 0x72, hbs: 0x74, unknown_76: 0x76, unknown_78: 0x78, unknown_7c: 0x7C,
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // YAGCD 5.3; hardware notes, section 4.6.
    masks! {
        Vtr { equ: 0x000F, acv: 0x3FF0 }
        Dcr { enb: 0x0001, rst: 0x0002, nin: 0x0004, dlr: 0x0008, le0: 0x0030, le1: 0x00C0, fmt: 0x0300 }
        Htr0 { hlw: 0x0000_01FF, hce: 0x007F_0000, hcs: 0x7F00_0000 }
        Htr1 { hsy: 0x0000_007F, hbe: 0x0001_FF80, hbs: 0x07FE_0000 }
        FieldTiming { prb: 0x0000_03FF, psb: 0x03FF_0000 }
        BurstBlanking {
            bs_first: 0x0000_001F, be_first: 0x0000_FFE0, bs_second: 0x001F_0000, be_second: 0xFFE0_0000,
        }
        FieldBase { address: 0x00FF_FFFF, xof: 0x0F00_0000, shifted: 0x1000_0000 }
        DisplayInterrupt { hct: 0x0000_07FF, vct: 0x07FF_0000, enb: 0x1000_0000, int: 0x8000_0000 }
        DisplayLatch { hct: 0x0000_07FF, vct: 0x07FF_0000, trg: 0x8000_0000 }
        Hsw { std: 0x00FF, wpl: 0x7F00 }
        Hsr { stp: 0x01FF, hs_en: 0x1000 }
        ViClk { progressive: 0x0001 }
        ViSel { component: 0x0001 }
    }

    #[test]
    fn a_picture_is_given_by_its_address_divided_by_32_and_bit_28() {
        // Hardware notes, section 4.6.
        let base = FieldBase::new(PhysAddr::new(0x0169_8000)).unwrap();
        assert_eq!(base.bits(), 0x0169_8000 >> 5 | 0x1000_0000);
        assert_eq!(FieldBase::new(PhysAddr::new(0x0169_8010)), None);
        assert_eq!(FieldBase::new(PhysAddr::new(0x2000_0000)), None);
        let memory = Memory::<Registers>::filled(0);
        memory.registers().tfbl.write(base);
        assert_eq!(memory.bytes(0x1C, 4), [0x10, 0x0B, 0x4C, 0x00]);
    }

    #[test]
    fn the_reset_sequence_is_bit_1_of_the_display_configuration() {
        let mut dcr = Dcr::default();
        dcr.set_rst(true);
        assert_eq!(dcr.bits(), 2);
        dcr.set_fmt(1);
        assert_eq!(dcr.bits(), 0x102);
    }
}
