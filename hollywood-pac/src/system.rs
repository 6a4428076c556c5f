//! System control: compatibility, clocks, resets.
//!
//! | | |
//! |---|---|
//! | base | `0x0D80_0180` (hardware notes, sections 4 and 4.3) |
//! | access | 32 bits, privileged |
//! | certainty | RESETS certain (two sources); COMPAT and CLOCKS partly; the others are names |
//! | Dolphin | COMPAT is 0, RESETS is plain storage (clearing bit 0 does not reboot), the others are missing |

use crate::macros::{bits, offsets};
use crate::reg::Guarded;

bits! {
    /// COMPAT (DIFLAGS).
    pub struct Compat(u32);
    /// Boot code of the CPU is mapped.
    pub boot_code, set_boot_code: 20;
    /// DVD video is blocked (meaning of the level from one source).
    pub dvd_video, set_dvd_video: 21;
}

bits! {
    /// CLOCKS (SYSCTRL).
    pub struct Clocks(u32);
    /// The CPU runs at a GameCube's speed.
    pub gc_speed, set_gc_speed: 1;
}

bits! {
    /// RESETS: a part is in reset while its bit is 0.
    pub struct Resets(u32);
    /// RSTBINB: the system. Clearing it reboots the console.
    pub rstbinb, set_rstbinb: 0;
    /// CRSTB.
    pub crstb, set_crstb: 1;
    /// RSTB of the memory.
    pub memrstb, set_memrstb: 2;
    /// PLL of the disc drive.
    pub dskpll, set_dskpll: 3;
    /// Soft reset of the CPU.
    pub cpu_sreset, set_cpu_sreset: 4;
    /// Hard reset of the CPU.
    pub cpu_hreset, set_cpu_hreset: 5;
    /// System PLL.
    pub syspll, set_syspll: 6;
    /// Unlock of the system PLL.
    pub nlckb_syspll, set_nlckb_syspll: 7;
    /// Second RSTB of the memory.
    pub memrstb2, set_memrstb2: 8;
    /// Processor interface.
    pub pi, set_pi: 9;
    /// Disc drive.
    pub dirstb, set_dirstb: 10;
    /// Memory interface.
    pub mem, set_mem: 11;
    /// Graphics, TCPE.
    pub gfxtcpe, set_gfxtcpe: 12;
    /// Graphics.
    pub gfx, set_gfx: 13;
    /// Audio output.
    pub ai_i2s3, set_ai_i2s3: 14;
    /// SI.
    pub iosi, set_iosi: 15;
    /// EXI.
    pub ioexi, set_ioexi: 16;
    /// DI.
    pub iodi, set_iodi: 17;
    /// I/O memory interface.
    pub iomem, set_iomem: 18;
    /// I/O processor interface.
    pub iopi, set_iopi: 19;
    /// Video interface.
    pub vi, set_vi: 20;
    /// Second part of the video interface.
    pub vi1, set_vi1: 21;
    /// DSP.
    pub dsp, set_dsp: 22;
    /// Starlet.
    pub iop, set_iop: 23;
    /// AHB.
    pub ahb, set_ahb: 24;
    /// Embedded DRAM.
    pub edram, set_edram: 25;
    /// Unlock of the embedded DRAM.
    pub nlckb_edram, set_nlckb_edram: 26;
}

/// Registers of the block. All are unsafe to write: they stop or reset parts that the program, or IOS, runs on.
#[repr(C)]
pub struct Registers {
    /// COMPAT: disc drive and boot flags.
    pub compat: Guarded<Compat>,
    /// RESET_AHB: reset of the internal bus; name only.
    pub reset_ahb: Guarded<u32>,
    /// SPARE0; name only.
    pub spare0: Guarded<u32>,
    /// SPARE1 (BOOT0): mapping of the Starlet's boot ROM.
    pub spare1: Guarded<u32>,
    /// CLOCKS: clock control.
    pub clocks: Guarded<Clocks>,
    /// RESETS: reset of every part. USB has no bit here (hardware notes, section 3.5).
    pub resets: Guarded<Resets>,
    /// IFPOWER: clock gates of the interfaces; name only.
    pub ifpower: Guarded<u32>,
}

offsets!(Registers: 0x1C {
    compat: 0x00, reset_ahb: 0x04, spare0: 0x08, spare1: 0x0C, clocks: 0x10, resets: 0x14, ifpower: 0x18,
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::fields::masks;

    // Hardware notes, sections 4 and 4.3.
    masks! {
        Compat { boot_code: 0x0010_0000, dvd_video: 0x0020_0000 }
        Clocks { gc_speed: 0x0000_0002 }
        Resets {
            rstbinb: 0x0000_0001, crstb: 0x0000_0002, memrstb: 0x0000_0004, dskpll: 0x0000_0008,
            cpu_sreset: 0x0000_0010, cpu_hreset: 0x0000_0020, syspll: 0x0000_0040,
            nlckb_syspll: 0x0000_0080, memrstb2: 0x0000_0100, pi: 0x0000_0200, dirstb: 0x0000_0400,
            mem: 0x0000_0800, gfxtcpe: 0x0000_1000, gfx: 0x0000_2000, ai_i2s3: 0x0000_4000,
            iosi: 0x0000_8000, ioexi: 0x0001_0000, iodi: 0x0002_0000, iomem: 0x0004_0000,
            iopi: 0x0008_0000, vi: 0x0010_0000, vi1: 0x0020_0000, dsp: 0x0040_0000, iop: 0x0080_0000,
            ahb: 0x0100_0000, edram: 0x0200_0000, nlckb_edram: 0x0400_0000,
        }
    }
}
