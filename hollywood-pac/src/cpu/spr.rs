//! Values of the machine state register, the hardware implementation registers and the BATs, as plain data.

use crate::macros::bits;

bits! {
    /// Machine state register.
    pub struct Msr(u32);
    /// Power management: doze, nap or sleep as HID0 selects, when set.
    pub pow, set_pow: 18;
    /// Big-endian mode is off for the interrupt handler (ILE).
    pub ile, set_ile: 16;
    /// External interrupts and the decrementer are taken.
    pub ee, set_ee: 15;
    /// User mode.
    pub pr, set_pr: 14;
    /// Floating point is available.
    pub fp, set_fp: 13;
    /// A machine check is taken; when clear it stops the processor.
    pub me, set_me: 12;
    /// Floating-point exception mode 0.
    pub fe0, set_fe0: 11;
    /// A trace exception follows each instruction.
    pub se, set_se: 10;
    /// A trace exception follows each branch.
    pub be, set_be: 9;
    /// Floating-point exception mode 1.
    pub fe1, set_fe1: 8;
    /// Exception vectors are at 0xFFF0_0000 instead of 0.
    pub ip, set_ip: 6;
    /// Instruction addresses are translated.
    pub ir, set_ir: 5;
    /// Data addresses are translated.
    pub dr, set_dr: 4;
    /// Performance monitor: this process is marked.
    pub pm, set_pm: 2;
    /// The exception is recoverable.
    pub ri, set_ri: 1;
    /// Little-endian mode.
    pub le, set_le: 0;
}

bits! {
    /// HID0: caches, power modes, prediction.
    pub struct Hid0(u32);
    /// Machine check pin (EMCP).
    pub emcp, set_emcp: 31;
    /// Doze when MSR\[POW\] is set.
    pub doze, set_doze: 23;
    /// Nap when MSR\[POW\] is set.
    pub nap, set_nap: 22;
    /// Sleep when MSR\[POW\] is set.
    pub sleep, set_sleep: 21;
    /// Dynamic power management.
    pub dpm, set_dpm: 20;
    /// No hard reset happened (software's own flag).
    pub nhr, set_nhr: 16;
    /// Instruction cache enable.
    pub ice, set_ice: 15;
    /// Data cache enable.
    pub dce, set_dce: 14;
    /// Instruction cache lock.
    pub ilock, set_ilock: 13;
    /// Data cache lock.
    pub dlock, set_dlock: 12;
    /// Instruction cache flash invalidate.
    pub icfi, set_icfi: 11;
    /// Data cache flash invalidate: modified lines are lost.
    pub dcfi, set_dcfi: 10;
    /// Speculative bus accesses are off.
    pub spd, set_spd: 9;
    /// Instruction fetches drive the M bit on the bus.
    pub ifem, set_ifem: 8;
    /// Store gathering.
    pub sge, set_sge: 7;
    /// Data cache flush assist.
    pub dcfa, set_dcfa: 6;
    /// Branch target instruction cache.
    pub btic, set_btic: 5;
    /// Cache operations and `sync` are broadcast on the bus. Not needed for USB (hardware notes, section 7.2).
    pub abe, set_abe: 3;
    /// Branch history table.
    pub bht, set_bht: 2;
    /// `dcbt` and `dcbtst` do nothing.
    pub noopti, set_noopti: 0;
}

bits! {
    /// HID2: paired singles, write pipe, locked cache.
    pub struct Hid2(u32);
    /// Paired-single load and store quantisation.
    pub lsqe, set_lsqe: 31;
    /// Write gather pipe.
    pub wpe, set_wpe: 30;
    /// Paired singles.
    pub pse, set_pse: 29;
    /// Half of the data cache is locked and becomes a scratchpad.
    pub lce, set_lce: 28;
}

bits! {
    /// HID4: what Broadway adds. Any access to it is what tells Dolphin that a bare DOL is for a Wii (hardware notes, section 8.1).
    pub struct Hid4(u32);
    /// H4A: HID4 is in force (set by every known start-up code).
    pub h4a, set_h4a: 31;
    /// L2 fetch mode: 0 is 32 bytes, 1 is 64 bytes, 2 is 128 bytes (encoding after the 750CL manual, not tried).
    pub u8, l2fm, set_l2fm: 30, 29;
    /// Bus pipeline depth.
    pub u8, bpd, set_bpd: 28, 27;
    /// L2 second castout buffer.
    pub bco, set_bco: 26;
    /// Secondary BATs: BAT4 to BAT7 exist only when set.
    pub sbe, set_sbe: 25;
    /// ST0: store bus activity (set by libogc).
    pub st0, set_st0: 24;
    /// Line pairing.
    pub lpe, set_lpe: 23;
    /// Data bus parity.
    pub dbp, set_dbp: 22;
    /// L2 miss under miss.
    pub l2mum, set_l2mum: 21;
    /// L2 complete castout.
    pub l2cfi, set_l2cfi: 20;
}

bits! {
    /// L2CR: control of the 256 KiB level-2 cache.
    pub struct L2cr(u32);
    /// Enable.
    pub l2e, set_l2e: 31;
    /// Parity or error-correction checks.
    pub l2ce, set_l2ce: 30;
    /// Holds data only, no instructions.
    pub l2do, set_l2do: 22;
    /// Invalidate everything; run with the cache disabled, and wait for [`L2cr::l2ip`] to fall.
    pub l2i, set_l2i: 21;
    /// Write through instead of write back.
    pub l2wt, set_l2wt: 19;
    /// Test support: `dcbz` and `dcbf` are kept from the bus.
    pub l2ts, set_l2ts: 18;
    /// Invalidation is in progress.
    pub l2ip, _: 0;
}

/// Size of the block that a BAT maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
pub enum BatSize {
    /// 128 KiB.
    Kib128 = 0,
    /// 256 KiB.
    Kib256 = 1,
    /// 512 KiB.
    Kib512 = 3,
    /// 1 MiB.
    Mib1 = 7,
    /// 2 MiB.
    Mib2 = 0xF,
    /// 4 MiB.
    Mib4 = 0x1F,
    /// 8 MiB.
    Mib8 = 0x3F,
    /// 16 MiB.
    Mib16 = 0x7F,
    /// 32 MiB.
    Mib32 = 0xFF,
    /// 64 MiB.
    Mib64 = 0x1FF,
    /// 128 MiB.
    Mib128 = 0x3FF,
    /// 256 MiB.
    Mib256 = 0x7FF,
}

impl BatSize {
    /// Returns the size in bytes.
    pub const fn bytes(self) -> u32 {
        (self as u32 + 1) << 17
    }
}

/// How a BAT's block is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Memory {
    /// Cached, write back (WIMG = 0000).
    Cached,
    /// Uncached and guarded, for devices and shared memory (WIMG = 0101).
    Uncached,
}

/// The two halves of a block address translation register: readable and writable, supervisor only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Bat {
    /// Effective address, block length, validity. Write it last.
    pub upper: u32,
    /// Physical address, WIMG, protection.
    pub lower: u32,
}

impl Bat {
    /// A BAT that maps nothing.
    pub const OFF: Self = Self { upper: 0, lower: 0 };

    /// Computes a supervisor, read-write mapping of `size` at `virtual_address` to `physical`.
    ///
    /// Returns `None` unless both addresses are multiples of the size.
    pub const fn new(
        virtual_address: u32,
        physical: crate::addr::PhysAddr,
        size: BatSize,
        memory: Memory,
    ) -> Option<Self> {
        if !virtual_address.is_multiple_of(size.bytes()) || !physical.is_aligned(size.bytes()) {
            return None;
        }
        let wimg = match memory {
            Memory::Cached => 0,
            Memory::Uncached => 0b0101,
        };
        Some(Self {
            upper: virtual_address | (size as u32) << 2 | 0b11,
            lower: physical.get() | wimg << 3 | 0b10,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;
    use crate::reg::tests::fields::masks;

    // PowerPC architecture for the MSR; hardware notes, section 7.3.
    masks! {
        Msr {
            pow: 0x0004_0000, ile: 0x0001_0000, ee: 0x0000_8000, pr: 0x0000_4000, fp: 0x0000_2000,
            me: 0x0000_1000, fe0: 0x0000_0800, se: 0x0000_0400, be: 0x0000_0200, fe1: 0x0000_0100,
            ip: 0x0000_0040, ir: 0x0000_0020, dr: 0x0000_0010, pm: 0x0000_0004, ri: 0x0000_0002,
            le: 0x0000_0001,
        }
        Hid0 {
            emcp: 0x8000_0000, doze: 0x0080_0000, nap: 0x0040_0000, sleep: 0x0020_0000,
            dpm: 0x0010_0000, nhr: 0x0001_0000, ice: 0x0000_8000, dce: 0x0000_4000,
            ilock: 0x0000_2000, dlock: 0x0000_1000, icfi: 0x0000_0800, dcfi: 0x0000_0400,
            spd: 0x0000_0200, ifem: 0x0000_0100, sge: 0x0000_0080, dcfa: 0x0000_0040,
            btic: 0x0000_0020, abe: 0x0000_0008, bht: 0x0000_0004, noopti: 0x0000_0001,
        }
        Hid2 { lsqe: 0x8000_0000, wpe: 0x4000_0000, pse: 0x2000_0000, lce: 0x1000_0000 }
        Hid4 {
            h4a: 0x8000_0000, l2fm: 0x6000_0000, bpd: 0x1800_0000, bco: 0x0400_0000, sbe: 0x0200_0000,
            st0: 0x0100_0000, lpe: 0x0080_0000, dbp: 0x0040_0000, l2mum: 0x0020_0000,
            l2cfi: 0x0010_0000,
        }
        L2cr {
            l2e: 0x8000_0000, l2ce: 0x4000_0000, l2do: 0x0040_0000, l2i: 0x0020_0000,
            l2wt: 0x0008_0000, l2ts: 0x0004_0000, l2ip: 0x0000_0001,
        }
    }

    #[test]
    fn bats_of_the_standard_map_are_what_every_start_up_code_writes() {
        // Hardware notes, section 1.2.
        let bat = |address, physical, memory| {
            Bat::new(address, PhysAddr::new(physical), BatSize::Mib256, memory).unwrap()
        };
        assert_eq!(
            bat(0x8000_0000, 0, Memory::Cached),
            Bat {
                upper: 0x8000_1FFF,
                lower: 0x0000_0002
            }
        );
        assert_eq!(
            bat(0xC000_0000, 0, Memory::Uncached),
            Bat {
                upper: 0xC000_1FFF,
                lower: 0x0000_002A
            }
        );
        assert_eq!(
            bat(0x9000_0000, 0x1000_0000, Memory::Cached),
            Bat {
                upper: 0x9000_1FFF,
                lower: 0x1000_0002
            }
        );
        assert_eq!(
            bat(0xD000_0000, 0x1000_0000, Memory::Uncached),
            Bat {
                upper: 0xD000_1FFF,
                lower: 0x1000_002A
            }
        );
    }

    #[test]
    fn a_bat_is_aligned_to_its_size() {
        assert_eq!(BatSize::Kib128.bytes(), 0x2_0000);
        assert_eq!(BatSize::Mib256.bytes(), 0x1000_0000);
        let stack = |address, physical| {
            Bat::new(
                address,
                PhysAddr::new(physical),
                BatSize::Kib128,
                Memory::Cached,
            )
        };
        assert_eq!(
            stack(0x7FFE_0000, 0x0002_0000),
            Some(Bat {
                upper: 0x7FFE_0003,
                lower: 0x0002_0002
            })
        );
        assert_eq!(stack(0x7FFF_0000, 0x0002_0000), None);
        assert_eq!(stack(0x7FFE_0000, 0x0003_0000), None);
    }

    #[test]
    fn fields_of_the_cpu_registers_are_where_start_up_code_has_them() {
        // Hardware notes, section 7.3 and the entry state in Dolphin.
        let msr = Msr::from_bits(0x2032);
        assert!(msr.fp() && msr.ir() && msr.dr() && msr.ri() && !msr.ee());
        let mut msr = Msr::default();
        msr.set_ee(true);
        assert_eq!(msr.bits(), 0x8000);
        let hid0 = Hid0::from_bits(0x0011_C664);
        assert!(
            hid0.dpm()
                && hid0.nhr()
                && hid0.ice()
                && hid0.dce()
                && hid0.spd()
                && hid0.btic()
                && hid0.bht()
                && !hid0.abe()
        );
        let mut hid4 = Hid4::default();
        hid4.set_h4a(true);
        hid4.set_sbe(true);
        hid4.set_st0(true);
        hid4.set_lpe(true);
        hid4.set_l2cfi(true);
        assert_eq!(hid4.bits(), 0x8390_0000);
        let mut hid2 = Hid2::default();
        hid2.set_lsqe(true);
        hid2.set_pse(true);
        assert_eq!(hid2.bits(), 0xA000_0000);
        let mut l2 = L2cr::default();
        l2.set_l2i(true);
        assert_eq!(l2.bits(), 0x0020_0000);
    }
}
