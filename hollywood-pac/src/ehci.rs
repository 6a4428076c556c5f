//! EHCI: the USB 2.0 controller, four ports.
//!
//! | | |
//! |---|---|
//! | base | `0x0D04_0000` (hardware notes, sections 3.1, 3.2 and 3.4); Hollywood interrupt 4 |
//! | access | 32 bits always: the 8- and 16-bit registers of the specification are parts of words. The words are big-endian, the controller's schedules in memory are little-endian |
//! | certainty | standard registers certain (EHCI specification 1.0, section 2; two Wii sources); vendor registers are names, except EHCI_CTL |
//! | Dolphin | missing, and dangerous: it decodes 16 address bits, so a write here reaches the mailbox. Ask [`Registers::identify`] before the first write |
//!
//! IOS owns the controller until it is taken from it (hardware notes, section 5.3).

use core::fmt;

use crate::addr::BusAddr;
use crate::macros::{bits, offsets};
use crate::reg::{ClearBits, Guarded, PartlyClear, ReadOnly, ReadWrite, WriteOneToClear};

bits! {
    /// CAPLENGTH and HCIVERSION, one word (EHCI 2.2.1, 2.2.2).
    pub struct CapVersion(u32);
    /// Offset of the operational registers in bytes; 0x10 here.
    pub u8, caplength, _: 7, 0;
    /// Version of the interface in BCD; 0x0100 expected.
    pub u16, hciversion, _: 31, 16;
}

bits! {
    /// HCSPARAMS: structural parameters (EHCI 2.2.3).
    pub struct HcsParams(u32);
    /// Number of ports; 4 expected.
    pub u8, n_ports, _: 3, 0;
    /// Ports have power switches.
    pub ppc, _: 4;
    /// HCSP-PORTROUTE says which companion a port goes to.
    pub prr, _: 7;
    /// Ports per companion controller.
    pub u8, n_pcc, _: 11, 8;
    /// Number of companion controllers; 2 expected.
    pub u8, n_cc, _: 15, 12;
    /// Ports have indicators.
    pub p_indicator, _: 16;
    /// Number of the debug port, 0 for none.
    pub u8, debug_port, _: 23, 20;
}

bits! {
    /// HCCPARAMS: capability parameters (EHCI 2.2.4).
    pub struct HccParams(u32);
    /// Data structures with 64-bit addresses.
    pub addressing_64_bit, _: 0;
    /// The length of the frame list can be chosen.
    pub programmable_frame_list, _: 1;
    /// Park mode on the asynchronous schedule.
    pub async_park, _: 2;
    /// Isochronous scheduling threshold.
    pub u8, isochronous_threshold, _: 7, 4;
    /// Offset of extended capabilities in configuration space, 0 for none.
    pub u8, eecp, _: 15, 8;
}

bits! {
    /// USBCMD (EHCI 2.3.1).
    pub struct UsbCmd(u32);
    /// RS: run.
    pub rs, set_rs: 0;
    /// HCRESET: reset, reads one until done.
    pub hcreset, set_hcreset: 1;
    /// Length of the frame list: 0 is 1024 entries, 1 is 512, 2 is 256.
    pub u8, fls, set_fls: 3, 2;
    /// PSE: periodic schedule.
    pub pse, set_pse: 4;
    /// ASE: asynchronous schedule.
    pub ase, set_ase: 5;
    /// IAAD: interrupt on async advance, the doorbell.
    pub iaad, set_iaad: 6;
    /// LHCRESET: light reset.
    pub lhcreset, set_lhcreset: 7;
    /// Park mode count.
    pub u8, aspmc, set_aspmc: 9, 8;
    /// Park mode.
    pub aspme, set_aspme: 11;
    /// Interrupt threshold in microframes.
    pub u8, itc, set_itc: 23, 16;
}

bits! {
    /// USBSTS (EHCI 2.3.2). Bits 0 to 5 are events, the others state.
    pub struct UsbSts(u32);
    /// USBINT: a transfer with an interrupt on completion, or a short packet.
    pub usbint, set_usbint: 0;
    /// USBERRINT: a transfer ended in an error.
    pub usberrint, set_usberrint: 1;
    /// PCD: a port changed.
    pub pcd, set_pcd: 2;
    /// FLR: the frame list rolled over.
    pub flr, set_flr: 3;
    /// HSE: host system error; the controller has stopped.
    pub hse, set_hse: 4;
    /// IAA: async advance, the doorbell's answer.
    pub iaa, set_iaa: 5;
    /// HCHalted: stopped.
    pub hchalted, _: 12;
    /// The asynchronous schedule is empty.
    pub reclamation, _: 13;
    /// PSS: the periodic schedule runs.
    pub pss, _: 14;
    /// ASS: the asynchronous schedule runs.
    pub ass, _: 15;
}

bits! {
    /// USBINTR (EHCI 2.3.3): the events of USBSTS that interrupt.
    pub struct UsbIntr(u32);
    /// USBINT.
    pub usbint, set_usbint: 0;
    /// USBERRINT.
    pub usberrint, set_usberrint: 1;
    /// PCD.
    pub pcd, set_pcd: 2;
    /// FLR.
    pub flr, set_flr: 3;
    /// HSE.
    pub hse, set_hse: 4;
    /// IAA.
    pub iaa, set_iaa: 5;
}

bits! {
    /// FRINDEX (EHCI 2.3.4). Written only while the controller is stopped.
    pub struct FrIndex(u32);
    /// Microframe, 0 to 7.
    pub u8, microframe, set_microframe: 2, 0;
    /// Frame, modulo 2048.
    pub u16, frame, set_frame: 13, 3;
}

bits! {
    /// CONFIGFLAG (EHCI 2.3.8).
    pub struct ConfigFlag(u32);
    /// CF: ports are routed here; when clear to the companions.
    pub cf, set_cf: 0;
}

bits! {
    /// PORTSC (EHCI 2.3.9).
    pub struct PortSc(u32);
    /// CCS: a device is connected.
    pub ccs, _: 0;
    /// CSC: the connection changed. Write one to clear.
    pub csc, set_csc: 1;
    /// PE: enabled. Software can only disable.
    pub pe, set_pe: 2;
    /// PEC: the port was disabled by an error. Write one to clear.
    pub pec, set_pec: 3;
    /// OCA: over-current.
    pub oca, _: 4;
    /// OCC: over-current changed. Write one to clear.
    pub occ, set_occ: 5;
    /// FPR: force resume.
    pub fpr, set_fpr: 6;
    /// Suspended.
    pub suspend, set_suspend: 7;
    /// Reset.
    pub pr, set_pr: 8;
    /// Line status: 1 is K state (low speed), 2 is J state.
    pub u8, line_status, _: 11, 10;
    /// PP: powered.
    pub pp, set_pp: 12;
    /// The companion owns the port.
    pub port_owner, set_port_owner: 13;
    /// Port indicator.
    pub u8, pic, set_pic: 15, 14;
    /// Test mode.
    pub u8, ptc, set_ptc: 19, 16;
    /// Wake on connect.
    pub wkcnnt_e, set_wkcnnt_e: 20;
    /// Wake on disconnect.
    pub wkdscnnt_e, set_wkdscnnt_e: 21;
    /// Wake on over-current.
    pub wkoc_e, set_wkoc_e: 22;
}

impl ClearBits for PortSc {
    const CLEAR: u32 = 1 << 1 | 1 << 3 | 1 << 5;
}

bits! {
    /// EHCI_CTL ("chicken bits"), Nintendo's own. IOS starts it as 0x111; only ever set bits.
    pub struct EhciCtl(u32);
    /// OHCI0's interrupt reaches the interrupt controller.
    pub ohci0_interrupt, set_ohci0_interrupt: 11;
    /// OHCI1's interrupt reaches the interrupt controller.
    pub ohci1_interrupt, set_ohci1_interrupt: 12;
    /// EHCI's interrupt reaches the interrupt controller.
    pub ehci_interrupt, set_ehci_interrupt: 15;
    /// Set by every OHCI driver; meaning unknown.
    pub u8, ohci_unknown, set_ohci_unknown: 19, 17;
}

bits! {
    /// Packet buffer threshold, as on the AMD controllers of the same family (hardware notes, section 3.2; inferred).
    pub struct PacketBufferThreshold(u32);
    /// Threshold of IN.
    pub u8, input, set_input: 7, 0;
    /// Threshold of OUT.
    pub u8, output, set_output: 23, 16;
}

/// Registers of the controller.
#[repr(C)]
pub struct Registers {
    /// CAPLENGTH and HCIVERSION.
    pub capversion: ReadOnly<CapVersion>,
    /// HCSPARAMS.
    pub hcsparams: ReadOnly<HcsParams>,
    /// HCCPARAMS.
    pub hccparams: ReadOnly<HccParams>,
    /// HCSP-PORTROUTE, its first word.
    pub hcsp_portroute: ReadOnly<u32>,
    /// USBCMD. Unsafe to write: it starts the schedules that the base registers name, and they write memory.
    pub usbcmd: Guarded<UsbCmd>,
    /// USBSTS.
    pub usbsts: WriteOneToClear<UsbSts>,
    /// USBINTR.
    pub usbintr: ReadWrite<UsbIntr>,
    /// FRINDEX. Unsafe to write: it must agree with the frame list.
    pub frindex: Guarded<FrIndex>,
    /// CTRLDSSEGMENT: upper half of addresses, where they have 64 bits. Unsafe to write, as every address.
    pub ctrldssegment: Guarded<u32>,
    /// PERIODICLISTBASE: frame list, a multiple of 4096. Unsafe to write: the controller follows it.
    pub periodiclistbase: Guarded<BusAddr>,
    /// ASYNCLISTADDR: next queue head, a multiple of 32. Unsafe to write: the controller follows it.
    pub asynclistaddr: Guarded<BusAddr>,
    _reserved0: [u32; 9],
    /// CONFIGFLAG.
    pub configflag: ReadWrite<ConfigFlag>,
    /// PORTSC: 0 and 1 are the two external ports, 2 is Bluetooth, 3 is not connected (the last by inference).
    pub portsc: [PartlyClear<PortSc>; 4],
    _reserved1: [u32; 11],
    /// MISC control 0; name only.
    pub misc0: Guarded<u32>,
    /// Packet buffer threshold.
    pub packet_buffer_threshold: Guarded<PacketBufferThreshold>,
    /// PHY status 0 to 2; names only.
    pub phy_status: [ReadOnly<u32>; 3],
    /// UTMI control. IOS programs three PHY ports through it at start; never again.
    pub utmi_control: Guarded<u32>,
    /// Built-in self test; name only.
    pub bist_control: Guarded<u32>,
    /// MISC control 1; name only.
    pub misc1: Guarded<u32>,
    /// PHY common calibration, set by IOS by the chip's revision.
    pub phy_common_calibration: Guarded<u32>,
    /// PHY adjustment, set by IOS by the chip's revision.
    pub phy_adjust_control: Guarded<u32>,
    _reserved2: [u32; 3],
    /// Packet buffer depth; name only.
    pub packet_buffer_depth: Guarded<u32>,
    /// Break memory transfer; name only.
    pub break_memory_transfer: Guarded<u32>,
    /// EHCI_CTL: routing of the three controllers' interrupts.
    pub ehci_ctl: ReadWrite<EhciCtl>,
}

offsets!(Registers: 0xD0 {
    capversion: 0x00, hcsparams: 0x04, hccparams: 0x08, hcsp_portroute: 0x0C, usbcmd: 0x10, usbsts: 0x14, usbintr: 0x18,
    frindex: 0x1C, ctrldssegment: 0x20, periodiclistbase: 0x24, asynclistaddr: 0x28, configflag: 0x50, portsc: 0x54,
    misc0: 0x90, packet_buffer_threshold: 0x94, phy_status: 0x98, utmi_control: 0xA4, bist_control: 0xA8, misc1: 0xAC,
    phy_common_calibration: 0xB0, phy_adjust_control: 0xB4, packet_buffer_depth: 0xC4, break_memory_transfer: 0xC8,
    ehci_ctl: 0xCC,
});

/// There is no EHCI with this layout behind the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NotEhci {
    /// What the first word holds: CAPLENGTH and HCIVERSION.
    pub capversion: CapVersion,
    /// What HCSPARAMS holds.
    pub hcsparams: HcsParams,
}

impl fmt::Display for NotEhci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (self.capversion.bits(), self.hcsparams.bits());
        write!(
            f,
            "no EHCI: its first words read {first:#010x} {second:#010x}"
        )
    }
}

impl core::error::Error for NotEhci {}

impl Registers {
    /// Checks, by reading only, that an EHCI of this layout is there: operational registers at 0x10, a BCD version 0.95 to 1.x,
    /// 1 to 15 ports.
    ///
    /// # Errors
    /// [`NotEhci`] where it is not, as in Dolphin (all ones or zeros), or where access is closed.
    pub fn identify(&self) -> Result<HcsParams, NotEhci> {
        let capversion = self.capversion.read();
        let hcsparams = self.hcsparams.read();
        let version = capversion.hciversion();
        if capversion.caplength() == 0x10
            && (0x0095..0x0200).contains(&version)
            && hcsparams.n_ports() != 0
        {
            Ok(hcsparams)
        } else {
            Err(NotEhci {
                capversion,
                hcsparams,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reg::tests::Memory;
    use crate::reg::tests::fields::masks;

    // EHCI 2.2 and 2.3; hardware notes, sections 3.2 and 3.4.
    masks! {
        CapVersion { caplength: 0x0000_00FF, hciversion: 0xFFFF_0000 }
        HcsParams {
            n_ports: 0x0000_000F, ppc: 0x0000_0010, prr: 0x0000_0080, n_pcc: 0x0000_0F00,
            n_cc: 0x0000_F000, p_indicator: 0x0001_0000, debug_port: 0x00F0_0000,
        }
        HccParams {
            addressing_64_bit: 0x0000_0001, programmable_frame_list: 0x0000_0002, async_park: 0x0000_0004,
            isochronous_threshold: 0x0000_00F0, eecp: 0x0000_FF00,
        }
        UsbCmd {
            rs: 0x0000_0001, hcreset: 0x0000_0002, fls: 0x0000_000C, pse: 0x0000_0010, ase: 0x0000_0020,
            iaad: 0x0000_0040, lhcreset: 0x0000_0080, aspmc: 0x0000_0300, aspme: 0x0000_0800,
            itc: 0x00FF_0000,
        }
        UsbSts {
            usbint: 0x0000_0001, usberrint: 0x0000_0002, pcd: 0x0000_0004, flr: 0x0000_0008,
            hse: 0x0000_0010, iaa: 0x0000_0020, hchalted: 0x0000_1000, reclamation: 0x0000_2000,
            pss: 0x0000_4000, ass: 0x0000_8000,
        }
        UsbIntr {
            usbint: 0x0000_0001, usberrint: 0x0000_0002, pcd: 0x0000_0004, flr: 0x0000_0008,
            hse: 0x0000_0010, iaa: 0x0000_0020,
        }
        FrIndex { microframe: 0x0000_0007, frame: 0x0000_3FF8 }
        ConfigFlag { cf: 0x0000_0001 }
        PortSc clear 0x0000_002A {
            ccs: 0x0000_0001, csc: 0x0000_0002, pe: 0x0000_0004, pec: 0x0000_0008, oca: 0x0000_0010,
            occ: 0x0000_0020, fpr: 0x0000_0040, suspend: 0x0000_0080, pr: 0x0000_0100,
            line_status: 0x0000_0C00, pp: 0x0000_1000, port_owner: 0x0000_2000, pic: 0x0000_C000,
            ptc: 0x000F_0000, wkcnnt_e: 0x0010_0000, wkdscnnt_e: 0x0020_0000, wkoc_e: 0x0040_0000,
        }
        EhciCtl {
            ohci0_interrupt: 0x0000_0800, ohci1_interrupt: 0x0000_1000, ehci_interrupt: 0x0000_8000,
            ohci_unknown: 0x000E_0000,
        }
        PacketBufferThreshold { input: 0x0000_00FF, output: 0x00FF_0000 }
    }

    #[test]
    fn a_controller_identifies_itself_and_nothing_else_does() {
        let memory = Memory::<Registers>::filled(0);
        memory.set(0, &[0x01, 0x00, 0x00, 0x10, 0x00, 0x00, 0x22, 0x04]);
        let params = memory.registers().identify().unwrap();
        assert_eq!((params.n_ports(), params.n_cc(), params.n_pcc()), (4, 2, 2));
        for first in [
            [0xFF; 4],
            [0; 4],
            [0x01, 0x00, 0x00, 0x20],
            [0x10, 0x00, 0x00, 0x01],
        ] {
            memory.set(0, &first);
            assert_eq!(
                memory.registers().identify().unwrap_err().capversion.bits(),
                u32::from_be_bytes(first)
            );
        }
        memory.set(0, &[0x01, 0x00, 0x00, 0x10, 0xFF, 0xFF, 0xFF, 0xF0]);
        assert!(memory.registers().identify().is_err(), "no ports");
    }

    #[test]
    fn changing_a_port_clears_none_of_its_events() {
        let memory = Memory::<Registers>::filled(0);
        // Connected, changed, powered, over-current changed.
        memory.set(0x54, &[0, 0, 0x10, 0x23]);
        memory.registers().portsc[0].modify(|port| port.set_pr(true));
        assert_eq!(memory.bytes(0x54, 4), [0, 0, 0x11, 0x01]);
    }

    #[test]
    fn clearing_an_event_of_a_port_changes_nothing_else() {
        let memory = Memory::<Registers>::filled(0);
        memory.set(0x58, &[0, 0x10, 0x10, 0x2B]);
        let mut change = PortSc::default();
        change.set_csc(true);
        memory.registers().portsc[1].clear(change);
        assert_eq!(memory.bytes(0x58, 4), [0, 0x10, 0x10, 0x03]);
    }

    #[test]
    fn fields_are_where_the_specification_and_the_wii_have_them() {
        // d2x starts the controller with 0x0001_0009 (hardware notes, section 3.7).
        let command = UsbCmd::from_bits(0x0001_0009);
        assert!(command.rs() && !command.ase());
        assert_eq!((command.fls(), command.itc()), (2, 1));
        assert!(PortSc::from_bits(0x1000).pp());
        assert_eq!(PortSc::from_bits(0x0400).line_status(), 1);
        assert!(PortSc::from_bits(0x2000).port_owner());
        let mut control = EhciCtl::from_bits(0x111);
        control.set_ehci_interrupt(true);
        assert_eq!(control.bits(), 0x8111);
        let mut control = EhciCtl::default();
        control.set_ohci0_interrupt(true);
        control.set_ohci1_interrupt(true);
        control.set_ohci_unknown(7);
        assert_eq!(control.bits(), 0x000E_1800);
        assert!(UsbSts::from_bits(0x1000).hchalted() && UsbSts::from_bits(0x8000).ass());
    }
}
