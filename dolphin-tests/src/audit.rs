//! What QEMU's own trace says about the controller's DMA: every address outside MEM2 is a driver's mistake that
//! might go unnoticed, since this machine also lets a bus master reach RAM at 0x8000_0000.

use std::{fmt, io::BufRead, ops::Range};

/// Bus addresses of MEM2, the only memory that a Wii's EHCI controller can use safely.
pub const MEM2: Range<u64> = 0x1000_0000..0x1400_0000;
/// So many violations are kept with their line, the rest only counted.
const KEPT: usize = 20;

/// The trace events that the audit reads.
pub(crate) const EVENTS: [&str; 7] = [
    "address_space_map",
    "usb_ehci_qh_ptrs",
    "usb_ehci_qtd_ptrs",
    "usb_ehci_itd",
    "usb_ehci_sitd",
    WRITE,
    "usb_ehci_guest_bug",
];

/// A write of an operational register, and which of them says where the controller reads.
const WRITE: &str = "usb_ehci_opreg_write";
const FRAME_LIST: &str = "[P-LIST BASE] = ";

/// Lines of the log that the audits of cache and counts read.
const OTHERS: [&str; 5] = [
    "cache ",
    "count ",
    "usb_ehci_packet_action ",
    "usb_ehci_doorbell_ring",
    "usb_ehci_irq ",
];

/// Sum of a run's trace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DmaAudit {
    /// Data buffers (or pieces of such) that the controller mapped.
    pub transfers: u64,
    /// Bytes in these.
    pub bytes: u64,
    /// Queue heads and transfer descriptors that it fetched, repeated fetches included.
    pub descriptors: u64,
    /// Frame lists that it was given.
    pub frame_lists: u64,
    /// Buffers and descriptors not wholly inside MEM2.
    pub outside_mem2: u64,
    /// The first of them.
    pub violations: Vec<Violation>,
    /// What the controller model itself calls a driver's mistake.
    pub guest_bugs: Vec<String>,
    /// Lines of the log that are no trace event: complaints of the emulator.
    pub complaints: Vec<String>,
}

/// An access of the controller; as a violation, one outside MEM2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What it was.
    pub kind: Kind,
    /// Bus address.
    pub address: u64,
    /// Length in bytes; descriptors count with 32, what EHCI fetches at least.
    pub length: u64,
}

/// What the controller accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A queue head.
    QueueHead,
    /// A transfer descriptor.
    TransferDescriptor,
    /// An isochronous transfer descriptor, split or not.
    Isochronous,
    /// The frame list.
    FrameList,
    /// A data buffer that the device reads.
    DataOut,
    /// A data buffer that the device writes.
    DataIn,
}

impl DmaAudit {
    /// Reads a log of QEMU 10.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read(log: impl BufRead) -> std::io::Result<Self> {
        let mut audit = Self::default();
        for line in log.split(b'\n') {
            audit.line(&String::from_utf8_lossy(&line?));
        }
        Ok(audit)
    }

    fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(bug) = line.strip_prefix("usb_ehci_guest_bug ") {
            return self.guest_bugs.push(bug.to_owned());
        }
        let told_elsewhere = OTHERS.iter().any(|event| line.starts_with(event));
        let other_register = line.starts_with(WRITE) && !line.contains(FRAME_LIST);
        if line.is_empty() || told_elsewhere || other_register {
            return;
        }
        // A trace line that we cannot read is a complaint too: the audit must not pass by accident.
        let Some(Some(access)) = access(line) else {
            return self.complaints.push(line.to_owned());
        };
        match access.kind {
            Kind::QueueHead | Kind::TransferDescriptor | Kind::Isochronous => self.descriptors += 1,
            Kind::FrameList => self.frame_lists += 1,
            Kind::DataOut | Kind::DataIn => {
                self.transfers += 1;
                self.bytes += access.length;
            }
        }
        let inside = access.address >= MEM2.start
            && access
                .address
                .checked_add(access.length)
                .is_some_and(|end| end <= MEM2.end);
        if !inside {
            self.outside_mem2 += 1;
            if self.violations.len() < KEPT {
                self.violations.push(access);
            }
        }
    }
}

/// Reads a line of the trace: nothing if it is not about an access, `Some(None)` if it is one that cannot be read.
pub(crate) fn access(line: &str) -> Option<Option<Violation>> {
    let (event, rest) = line.split_once(' ')?;
    match event {
        "address_space_map" => Some(data(rest)),
        "usb_ehci_qh_ptrs" => Some(descriptor(rest, "QH @ ", Kind::QueueHead)),
        "usb_ehci_qtd_ptrs" => Some(descriptor(rest, "QTD @ ", Kind::TransferDescriptor)),
        "usb_ehci_itd" | "usb_ehci_sitd" => Some(descriptor(rest, "ITD @ ", Kind::Isochronous)),
        WRITE => Some(frame_list(rest)),
        _ => None,
    }
}

/// `as:0x55aa addr 0x10100000:1000 write:1 attrs:0x0`, length in hexadecimal.
fn data(rest: &str) -> Option<Violation> {
    let mut words = rest.split(' ').skip_while(|word| *word != "addr").skip(1);
    let (address, length) = words.next()?.split_once(':')?;
    let kind = match words.next()? {
        "write:0" => Kind::DataOut,
        "write:1" => Kind::DataIn,
        _ => return None,
    };
    Some(Violation {
        kind,
        address: hexadecimal(address)?,
        length: u64::from_str_radix(length, 16).ok()?,
    })
}

/// `q 0x55aa - QTD @ 0x10002060: next 0x100020a0 altnext 0x00000001`.
fn descriptor(rest: &str, mark: &str, kind: Kind) -> Option<Violation> {
    let (_, at) = rest.split_once(mark)?;
    let (address, _) = at.split_once(':')?;
    Some(Violation {
        kind,
        address: hexadecimal(address)?,
        length: 32,
    })
}

/// `wr mmio 0x0034 [P-LIST BASE] = 0x10004000`: 1024 words.
fn frame_list(rest: &str) -> Option<Violation> {
    let (_, address) = rest.split_once(FRAME_LIST)?;
    Some(Violation {
        kind: Kind::FrameList,
        address: hexadecimal(address)?,
        length: 4096,
    })
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            kind,
            address,
            length,
        } = self;
        write!(f, "{kind:?} at bus address {address:#010x}, {length} bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(log: &str) -> DmaAudit {
        DmaAudit::read(log.as_bytes()).unwrap()
    }

    #[test]
    fn the_frame_list_and_isochronous_descriptors_count_and_other_registers_do_not() {
        let audit = audit(
            "usb_ehci_opreg_write wr mmio 0x0034 [P-LIST BASE] = 0x10004000\n\
             usb_ehci_opreg_write wr mmio 0x0020 [USBCMD] = 0x10021\n\
             usb_ehci_itd ITD @ 0x10005040: next 0x00000001 - mplen 8, mult 1, ep 1, dev 2\n\
             usb_ehci_sitd ITD @ 0x00005080: next 0x00000001 - active 1\n\
             usb_ehci_opreg_write wr mmio 0x0034 [P-LIST BASE] = 0x800000\n",
        );
        assert_eq!(
            (audit.descriptors, audit.frame_lists, audit.outside_mem2),
            (2, 2, 2)
        );
        let kinds: Vec<_> = audit.violations.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [Kind::Isochronous, Kind::FrameList]);
        assert_eq!(audit.complaints, Vec::<String>::new());
    }

    #[test]
    fn data_mappings_are_transfers_with_a_hexadecimal_length() {
        let audit = audit(
            "address_space_map as:0x5616a7 addr 0x10100000:1000 write:1 attrs:0x1\n\
             address_space_map as:0x5616a7 addr 0x10100000:1f write:0 attrs:0x1\n",
        );
        assert_eq!(
            (audit.transfers, audit.bytes, audit.outside_mem2),
            (2, 0x101F, 0)
        );
    }

    #[test]
    fn descriptors_are_counted_apart() {
        let audit = audit(
            "usb_ehci_qh_ptrs q (nil) - QH @ 0x10002000: next 0x10002002 qtds 0x00000001,0x00000001,0x00000000\n\
             usb_ehci_qtd_ptrs q 0x55aa - QTD @ 0x10002060: next 0x00000001 altnext 0x00000001\n",
        );
        assert_eq!(
            (audit.transfers, audit.descriptors, audit.outside_mem2),
            (0, 2, 0)
        );
        assert_eq!(audit.complaints, [""; 0]);
    }

    #[test]
    fn untranslated_and_mem1_addresses_are_violations() {
        let audit = audit(
            "usb_ehci_qtd_ptrs q 0x55aa - QTD @ 0x00100000: next 0x00000001 altnext 0x00000001\n\
             usb_ehci_qh_ptrs q 0x55aa - QH @ 0x90002000: next 0x1 qtds 0x1,0x1,0x0\n\
             address_space_map as:0x5616a7 addr 0x80200000:200 write:1 attrs:0x1\n",
        );
        assert_eq!(audit.outside_mem2, 3);
        let kinds: Vec<_> = audit
            .violations
            .iter()
            .map(|violation| (violation.kind, violation.address))
            .collect();
        assert_eq!(
            kinds,
            [
                (Kind::TransferDescriptor, 0x0010_0000),
                (Kind::QueueHead, 0x9000_2000),
                (Kind::DataIn, 0x8020_0000)
            ]
        );
    }

    #[test]
    fn mem2_ends_at_14000000_exclusive_and_a_buffer_must_lie_in_it_as_a_whole() {
        let line = |address, length| {
            audit(&format!(
                "address_space_map as:0x1 addr {address}:{length} write:0 attrs:0x1\n"
            ))
            .outside_mem2
        };
        assert_eq!(line("0x13fff000", "1000"), 0);
        assert_eq!(line("0x13fff000", "1001"), 1);
        assert_eq!(line("0x10000000", "1"), 0);
        assert_eq!(line("0xfffffff", "1"), 1);
        assert_eq!(line("0xffffffffffffffff", "2"), 1);
    }

    #[test]
    fn driver_mistakes_and_strange_lines_are_kept() {
        let audit = audit(
            "usb_ehci_guest_bug guest updated active QH\n\
             Invalid read at addr 0x200000, size 4, region '(null)', reason: rejected\n\
             address_space_map in some new format\n",
        );
        assert_eq!(audit.guest_bugs, ["guest updated active QH"]);
        assert_eq!(audit.complaints.len(), 2);
        assert_eq!(audit.transfers, 0);
    }

    #[test]
    fn only_the_first_violations_are_listed_all_are_counted() {
        let log = "address_space_map as:0x1 addr 0x0:1 write:0 attrs:0x1\n".repeat(30);
        let audit = audit(&log);
        assert_eq!((audit.outside_mem2, audit.violations.len()), (30, 20));
    }
}
