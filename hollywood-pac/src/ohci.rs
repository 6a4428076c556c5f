//! OHCI: the two USB 1.1 controllers, companions of the EHCI.
//!
//! | | |
//! |---|---|
//! | base | `0x0D05_0000` (the external ports), `0x0D06_0000` (Bluetooth) (hardware notes, sections 3.1, 3.6); Hollywood interrupts 5 and 6, which also need bits of EHCI_CTL ([`crate::ehci`]) |
//! | access | 32 bits; big-endian words, little-endian lists in memory |
//! | certainty | certain: OpenHCI specification 1.0a, section 7; two ports each |
//! | Dolphin | missing, and dangerous as the EHCI is: writes reach the mailbox |

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{Command, Guarded, ReadOnly, ReadWrite, WriteOneToClear};

bits! {
    /// HcRevision (OpenHCI 7.1.1).
    pub struct HcRevision(u32);
    /// Version in BCD; 0x10.
    pub u8, rev, _: 7, 0;
}

bits! {
    /// HcControl (OpenHCI 7.1.2).
    pub struct HcControl(u32);
    /// CBSR: control to bulk service ratio.
    pub u8, cbsr, set_cbsr: 1, 0;
    /// PLE: periodic list.
    pub ple, set_ple: 2;
    /// IE: isochronous.
    pub ie, set_ie: 3;
    /// CLE: control list.
    pub cle, set_cle: 4;
    /// BLE: bulk list.
    pub ble, set_ble: 5;
    /// HCFS: 0 reset, 1 resume, 2 operational, 3 suspend.
    pub u8, hcfs, set_hcfs: 7, 6;
    /// IR: interrupts go to the system management.
    pub ir, set_ir: 8;
    /// RWC: remote wake-up is connected.
    pub rwc, set_rwc: 9;
    /// RWE: remote wake-up.
    pub rwe, set_rwe: 10;
}

bits! {
    /// HcCommandStatus (OpenHCI 7.1.3): ones are commands, zeros do nothing.
    pub struct HcCommandStatus(u32);
    /// HCR: reset, reads one until done.
    pub hcr, set_hcr: 0;
    /// CLF: the control list was filled.
    pub clf, set_clf: 1;
    /// BLF: the bulk list was filled.
    pub blf, set_blf: 2;
    /// OCR: ownership change is requested.
    pub ocr, set_ocr: 3;
    /// SOC: scheduling overruns.
    pub u8, soc, _: 17, 16;
}

bits! {
    /// Events, in HcInterruptStatus, HcInterruptEnable and HcInterruptDisable (OpenHCI 7.1.4 to 7.1.6).
    pub struct Interrupts(u32);
    /// SO: scheduling overrun.
    pub so, set_so: 0;
    /// WDH: the done head was written back.
    pub wdh, set_wdh: 1;
    /// SF: start of frame.
    pub sf, set_sf: 2;
    /// RD: resume was detected.
    pub rd, set_rd: 3;
    /// UE: unrecoverable error.
    pub ue, set_ue: 4;
    /// FNO: the frame number overflowed.
    pub fno, set_fno: 5;
    /// RHSC: the root hub changed.
    pub rhsc, set_rhsc: 6;
    /// OC: ownership changed.
    pub oc, set_oc: 30;
    /// MIE: master enable; no event.
    pub mie, set_mie: 31;
}

bits! {
    /// HcFmInterval (OpenHCI 7.3.1); 0x2778_2EDF in use.
    pub struct HcFmInterval(u32);
    /// FI: bit times in a frame, less 1.
    pub u16, fi, set_fi: 13, 0;
    /// FSMPS: largest full-speed packet.
    pub u16, fsmps, set_fsmps: 30, 16;
    /// FIT: toggled with every change of FI.
    pub fit, set_fit: 31;
}

bits! {
    /// HcFmRemaining (OpenHCI 7.3.2).
    pub struct HcFmRemaining(u32);
    /// FR: bit times left in the frame.
    pub u16, fr, _: 13, 0;
    /// FRT: FIT of the frame.
    pub frt, _: 31;
}

bits! {
    /// HcRhDescriptorA (OpenHCI 7.4.1); 0x0200_0302 seen through IOS.
    pub struct HcRhDescriptorA(u32);
    /// NDP: number of ports; 2.
    pub u8, ndp, _: 7, 0;
    /// PSM: power is switched port by port.
    pub psm, set_psm: 8;
    /// NPS: power is not switched.
    pub nps, set_nps: 9;
    /// DT: device type, 0.
    pub dt, _: 10;
    /// OCPM: over-current is reported port by port.
    pub ocpm, set_ocpm: 11;
    /// NOCP: over-current is not reported.
    pub nocp, set_nocp: 12;
    /// POTPGT: power on to power good, in units of 2 ms.
    pub u8, potpgt, set_potpgt: 31, 24;
}

bits! {
    /// HcRhDescriptorB (OpenHCI 7.4.2).
    pub struct HcRhDescriptorB(u32);
    /// DR: bit n is set where the device at port n cannot be removed.
    pub u16, dr, set_dr: 15, 0;
    /// PPCM: bit n is set where port n has a power switch of its own.
    pub u16, ppcm, set_ppcm: 31, 16;
}

bits! {
    /// HcRhStatus as read (OpenHCI 7.4.3).
    pub struct HcRhStatus(u32);
    /// OCI: over-current.
    pub oci, _: 1;
    /// DRWE: a connect change wakes.
    pub drwe, _: 15;
    /// OCIC: over-current changed.
    pub ocic, _: 17;
}

bits! {
    /// HcRhStatus as written (OpenHCI 7.4.3): ones are commands, zeros do nothing.
    pub struct HcRhCommand(u32);
    /// Turns port power off.
    pub clear_global_power, set_clear_global_power: 0;
    /// Lets a connect change wake.
    pub set_remote_wakeup_enable, set_set_remote_wakeup_enable: 15;
    /// Turns port power on.
    pub set_global_power, set_set_global_power: 16;
    /// Clears the over-current change.
    pub clear_ocic, set_clear_ocic: 17;
    /// Lets a connect change not wake.
    pub clear_remote_wakeup_enable, set_clear_remote_wakeup_enable: 31;
}

bits! {
    /// HcRhPortStatus as read (OpenHCI 7.4.4).
    pub struct HcRhPortStatus(u32);
    /// CCS: a device is connected.
    pub ccs, _: 0;
    /// PES: enabled.
    pub pes, _: 1;
    /// PSS: suspended.
    pub pss, _: 2;
    /// POCI: over-current.
    pub poci, _: 3;
    /// PRS: in reset.
    pub prs, _: 4;
    /// PPS: powered.
    pub pps, _: 8;
    /// LSDA: the device is low-speed.
    pub lsda, _: 9;
    /// CSC: the connection changed.
    pub csc, _: 16;
    /// PESC: the enable changed.
    pub pesc, _: 17;
    /// PSSC: the suspension changed.
    pub pssc, _: 18;
    /// OCIC: over-current changed.
    pub ocic, _: 19;
    /// PRSC: the reset is complete.
    pub prsc, _: 20;
}

bits! {
    /// HcRhPortStatus as written (OpenHCI 7.4.4): ones are commands, zeros do nothing.
    pub struct HcRhPortCommand(u32);
    /// Disables the port.
    pub clear_enable, set_clear_enable: 0;
    /// Enables the port.
    pub enable, set_enable: 1;
    /// Suspends the port.
    pub suspend, set_suspend: 2;
    /// Resumes the port.
    pub resume, set_resume: 3;
    /// Resets the port.
    pub reset, set_reset: 4;
    /// Turns power on.
    pub power, set_power: 8;
    /// Turns power off.
    pub clear_power, set_clear_power: 9;
    /// Clears CSC.
    pub clear_csc, set_clear_csc: 16;
    /// Clears PESC.
    pub clear_pesc, set_clear_pesc: 17;
    /// Clears PSSC.
    pub clear_pssc, set_clear_pssc: 18;
    /// Clears OCIC.
    pub clear_ocic, set_clear_ocic: 19;
    /// Clears PRSC.
    pub clear_prsc, set_clear_prsc: 20;
}

/// Registers of a controller.
#[repr(C)]
pub struct Registers {
    /// HcRevision.
    pub hcrevision: ReadOnly<HcRevision>,
    /// HcControl. Unsafe to write: it starts the lists that the head registers name, and they write memory.
    pub hccontrol: Guarded<HcControl>,
    /// HcCommandStatus.
    pub hccommandstatus: Command<HcCommandStatus, HcCommandStatus>,
    /// HcInterruptStatus.
    pub hcinterruptstatus: WriteOneToClear<Interrupts>,
    /// HcInterruptEnable: ones enable, zeros do nothing; reads what is enabled.
    pub hcinterruptenable: Command<Interrupts, Interrupts>,
    /// HcInterruptDisable: ones disable, zeros do nothing; reads what is enabled.
    pub hcinterruptdisable: Command<Interrupts, Interrupts>,
    /// HcHCCA: communication area, a multiple of 256. Unsafe to write: the controller writes there every frame.
    pub hchcca: Guarded<BusAddr>,
    /// HcPeriodCurrentED.
    pub hcperiodcurrented: ReadOnly<BusAddr>,
    /// HcControlHeadED. Unsafe to write: the controller follows it.
    pub hccontrolheaded: Guarded<BusAddr>,
    /// HcControlCurrentED. Unsafe to write: the controller follows it.
    pub hccontrolcurrented: Guarded<BusAddr>,
    /// HcBulkHeadED. Unsafe to write: the controller follows it.
    pub hcbulkheaded: Guarded<BusAddr>,
    /// HcBulkCurrentED. Unsafe to write: the controller follows it.
    pub hcbulkcurrented: Guarded<BusAddr>,
    /// HcDoneHead.
    pub hcdonehead: ReadOnly<BusAddr>,
    /// HcFmInterval.
    pub hcfminterval: ReadWrite<HcFmInterval>,
    /// HcFmRemaining.
    pub hcfmremaining: ReadOnly<HcFmRemaining>,
    /// HcFmNumber: bits 15:0.
    pub hcfmnumber: ReadOnly<u32>,
    /// HcPeriodicStart: bits 13:0; 0x2A2F in use.
    pub hcperiodicstart: ReadWrite<u32>,
    /// HcLSThreshold: bits 11:0.
    pub hclsthreshold: ReadWrite<u32>,
    /// HcRhDescriptorA.
    pub hcrhdescriptora: ReadWrite<HcRhDescriptorA>,
    /// HcRhDescriptorB.
    pub hcrhdescriptorb: ReadWrite<HcRhDescriptorB>,
    /// HcRhStatus.
    pub hcrhstatus: Command<HcRhStatus, HcRhCommand>,
    /// HcRhPortStatus of both ports.
    pub hcrhportstatus: [Command<HcRhPortStatus, HcRhPortCommand>; 2],
}

offsets!(Registers: 0x5C {
    hcrevision: 0x00, hccontrol: 0x04, hccommandstatus: 0x08, hcinterruptstatus: 0x0C, hcinterruptenable: 0x10,
    hcinterruptdisable: 0x14, hchcca: 0x18, hcperiodcurrented: 0x1C, hccontrolheaded: 0x20, hccontrolcurrented: 0x24,
    hcbulkheaded: 0x28, hcbulkcurrented: 0x2C, hcdonehead: 0x30, hcfminterval: 0x34, hcfmremaining: 0x38, hcfmnumber: 0x3C,
    hcperiodicstart: 0x40, hclsthreshold: 0x44, hcrhdescriptora: 0x48, hcrhdescriptorb: 0x4C, hcrhstatus: 0x50,
    hcrhportstatus: 0x54,
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // OpenHCI 7.1, 7.3 and 7.4.
    masks! {
        HcRevision { rev: 0x0000_00FF }
        HcControl {
            cbsr: 0x0000_0003, ple: 0x0000_0004, ie: 0x0000_0008, cle: 0x0000_0010, ble: 0x0000_0020,
            hcfs: 0x0000_00C0, ir: 0x0000_0100, rwc: 0x0000_0200, rwe: 0x0000_0400,
        }
        HcCommandStatus {
            hcr: 0x0000_0001, clf: 0x0000_0002, blf: 0x0000_0004, ocr: 0x0000_0008, soc: 0x0003_0000,
        }
        Interrupts {
            so: 0x0000_0001, wdh: 0x0000_0002, sf: 0x0000_0004, rd: 0x0000_0008, ue: 0x0000_0010,
            fno: 0x0000_0020, rhsc: 0x0000_0040, oc: 0x4000_0000, mie: 0x8000_0000,
        }
        HcFmInterval { fi: 0x0000_3FFF, fsmps: 0x7FFF_0000, fit: 0x8000_0000 }
        HcFmRemaining { fr: 0x0000_3FFF, frt: 0x8000_0000 }
        HcRhDescriptorA {
            ndp: 0x0000_00FF, psm: 0x0000_0100, nps: 0x0000_0200, dt: 0x0000_0400, ocpm: 0x0000_0800,
            nocp: 0x0000_1000, potpgt: 0xFF00_0000,
        }
        HcRhDescriptorB { dr: 0x0000_FFFF, ppcm: 0xFFFF_0000 }
        HcRhStatus { oci: 0x0000_0002, drwe: 0x0000_8000, ocic: 0x0002_0000 }
        HcRhCommand {
            clear_global_power: 0x0000_0001, set_remote_wakeup_enable: 0x0000_8000,
            set_global_power: 0x0001_0000, clear_ocic: 0x0002_0000,
            clear_remote_wakeup_enable: 0x8000_0000,
        }
        HcRhPortStatus {
            ccs: 0x0000_0001, pes: 0x0000_0002, pss: 0x0000_0004, poci: 0x0000_0008, prs: 0x0000_0010,
            pps: 0x0000_0100, lsda: 0x0000_0200, csc: 0x0001_0000, pesc: 0x0002_0000,
            pssc: 0x0004_0000, ocic: 0x0008_0000, prsc: 0x0010_0000,
        }
        HcRhPortCommand {
            clear_enable: 0x0000_0001, enable: 0x0000_0002, suspend: 0x0000_0004, resume: 0x0000_0008,
            reset: 0x0000_0010, power: 0x0000_0100, clear_power: 0x0000_0200, clear_csc: 0x0001_0000,
            clear_pesc: 0x0002_0000, clear_pssc: 0x0004_0000, clear_ocic: 0x0008_0000,
            clear_prsc: 0x0010_0000,
        }
    }

    #[test]
    fn values_in_use_have_the_fields_of_the_specification() {
        // Hardware notes, sections 3.6 and 3.8.
        let interval = HcFmInterval::from_bits(0x2778_2EDF);
        assert_eq!(
            (interval.fi(), interval.fsmps(), interval.fit()),
            (11_999, 0x2778, false)
        );
        let hub = HcRhDescriptorA::from_bits(0x0200_0302);
        assert_eq!(
            (hub.ndp(), hub.psm(), hub.nps(), hub.potpgt()),
            (2, true, true, 2)
        );
    }

    #[test]
    fn enabling_an_interrupt_writes_its_bit_alone() {
        let memory = Memory::<Registers>::filled(0xFF);
        let mut enable = Interrupts::default();
        enable.set_wdh(true);
        enable.set_mie(true);
        memory.registers().hcinterruptenable.command(enable);
        assert_eq!(memory.bytes(0x10, 4), [0x80, 0, 0, 0x02]);
    }
}
