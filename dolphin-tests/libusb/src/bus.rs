//! The sticks, and what becomes of the transfers that Dolphin submits: pure logic, without a libusb in sight.
//!
//! A transfer is carried out when it is submitted, unless the stick has nothing for it yet. What has ended waits in the queue
//! of its context until that context's event thread delivers it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hollywood_sim::device::{End, Function, MassStorage, Peripheral, Setup, disk::Disk};

use crate::abi::{kind, status};
use crate::fault::{Fault, Plan};

/// How long a stick that was pulled stays in the list of devices, while its transfers fail already: Dolphin must not look a
/// device up that it is just removing.
const LINGER: Duration = Duration::from_millis(200);
/// How long a stick is away that is put back at once.
const AWAY: Duration = Duration::from_millis(500);

/// Names a stick as it is plugged in: a new number each time.
pub type Address = u8;

/// A stick that the test has.
struct Stick {
    image: PathBuf,
    read_only: bool,
    plan: Plan,
    plugged: Option<Plugged>,
    /// When it comes back by itself.
    returns: Option<Instant>,
}

/// A stick in a port.
struct Plugged {
    address: Address,
    device: Peripheral<MassStorage>,
    /// Since when it has been gone.
    gone: Option<Instant>,
}

/// A transfer as it was submitted. `id` is whatever the submitter knows it by.
pub struct Submitted {
    pub id: usize,
    pub context: usize,
    pub handle: usize,
    pub address: Address,
    pub kind: u8,
    pub endpoint: u8,
    /// Setup packet and data to send; for IN as many zeros as there is room.
    pub bytes: Vec<u8>,
}

/// A transfer that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub id: usize,
    pub context: usize,
    pub handle: usize,
    pub status: i32,
    /// How many bytes went either way, without a setup packet.
    pub count: usize,
    /// What arrived.
    pub received: Vec<u8>,
}

/// All sticks and transfers.
#[derive(Default)]
pub struct Bus {
    sticks: Vec<Stick>,
    next_address: Address,
    /// Transfers that wait for their stick.
    waiting: Vec<Submitted>,
    ended: VecDeque<Ended>,
}

// SAFETY: a disk's medium may be anything, but those of this bus are files, which any thread may use.
unsafe impl Send for Bus {}

impl Bus {
    /// Obeys a command of the test; see the crate's documentation.
    ///
    /// # Errors
    /// What was wrong with it.
    pub fn command(&mut self, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| format!("{text}: no number"))
        };
        match words[..] {
            ["stick", mode @ ("rw" | "ro"), ..] => {
                // A path may hold blanks.
                let path = line.splitn(3, ' ').nth(2).unwrap_or_default();
                self.sticks.push(Stick {
                    image: path.into(),
                    read_only: mode == "ro",
                    plan: Plan::default(),
                    plugged: None,
                    returns: None,
                });
                Ok(String::new())
            }
            ["plug", stick] => self.plug(number(stick)?),
            ["unplug", stick] => {
                self.unplug(number(stick)?);
                Ok(String::new())
            }
            ["fault", stick, transfer, fault] => {
                let fault = fault.parse().map_err(|()| format!("{fault}: no fault"))?;
                let transfer = number(transfer)? as u64;
                self.stick(number(stick)?)?.plan.add(transfer, fault);
                Ok(String::new())
            }
            ["transfers", stick] => Ok(self.stick(number(stick)?)?.plan.transfers().to_string()),
            _ => Err(format!("{line:?} is no command")),
        }
    }

    fn stick(&mut self, number: usize) -> Result<&mut Stick, String> {
        self.sticks
            .get_mut(number)
            .ok_or_else(|| format!("there is no stick {number}"))
    }

    fn plug(&mut self, number: usize) -> Result<String, String> {
        let address = self.next_address.wrapping_add(1).max(2);
        let stick = self.stick(number)?;
        if stick
            .plugged
            .as_ref()
            .is_some_and(|plugged| plugged.gone.is_none())
        {
            return Err(format!("stick {number} is plugged in"));
        }
        let image = stick.image.display();
        let mut disk =
            Disk::image(&stick.image, 512).map_err(|error| format!("{image}: {error}"))?;
        disk.write_protected = stick.read_only;
        let mut device = MassStorage::new([disk]).plug();
        // As an operating system leaves it.
        let _ = device.control(Setup::set_configuration(1), &[]);
        device.patience = 0;
        stick.plugged = Some(Plugged {
            address,
            device,
            gone: None,
        });
        stick.returns = None;
        self.next_address = address;
        Ok(String::new())
    }

    /// From now on every transfer fails, those that wait included.
    fn unplug(&mut self, number: usize) {
        let Some(stick) = self.sticks.get_mut(number) else {
            return;
        };
        let Some(plugged) = stick
            .plugged
            .as_mut()
            .filter(|plugged| plugged.gone.is_none())
        else {
            return;
        };
        plugged.gone = Some(Instant::now());
        let address = plugged.address;
        let (gone, stay) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|transfer| transfer.address == address);
        self.waiting = stay;
        for transfer in gone {
            self.end(&transfer, status::NO_DEVICE, 0, Vec::new());
        }
    }

    /// Returns the sticks that the list of devices shows.
    pub fn addresses(&mut self) -> Vec<Address> {
        for number in 0..self.sticks.len() {
            let due = self.sticks[number]
                .returns
                .is_some_and(|at| at <= Instant::now());
            if due && let Err(error) = self.plug(number) {
                eprintln!("virtual sticks: {error}");
                self.sticks[number].returns = None;
            }
        }
        let plugged = self
            .sticks
            .iter()
            .filter_map(|stick| stick.plugged.as_ref());
        plugged
            .filter(|plugged| plugged.gone.is_none_or(|since| since.elapsed() < LINGER))
            .map(|plugged| plugged.address)
            .collect()
    }

    fn find(&mut self, address: Address) -> Option<(usize, &mut Peripheral<MassStorage>)> {
        let mut sticks = self.sticks.iter_mut().enumerate();
        sticks.find_map(|(number, stick)| {
            let plugged = stick.plugged.as_mut()?;
            (plugged.address == address && plugged.gone.is_none())
                .then_some((number, &mut plugged.device))
        })
    }

    /// Whether a stick is still there.
    pub fn is_there(&mut self, address: Address) -> bool {
        self.find(address).is_some()
    }

    /// Returns a descriptor of a stick, also of one that was pulled a moment ago.
    pub fn descriptor(&self, address: Address, kind: u8, index: u8) -> Option<Vec<u8>> {
        let plugged = self
            .sticks
            .iter()
            .filter_map(|stick| stick.plugged.as_ref());
        let mut plugged = plugged.filter(|plugged| plugged.address == address);
        plugged
            .next()?
            .device
            .function
            .descriptors()
            .get(kind, index)
    }

    /// Carries out a control request at once.
    ///
    /// # Errors
    /// The state of a transfer that did not end well.
    pub fn control(
        &mut self,
        address: Address,
        setup: [u8; 8],
        data: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let (_, device) = self.find(address).ok_or(status::NO_DEVICE)?;
        let reply = device.control(Setup::from_bytes(setup), data);
        let reply = reply.map_err(|_| status::STALL)?;
        // A halt may be over.
        self.retry();
        Ok(reply)
    }

    /// Takes a transfer.
    pub fn submit(&mut self, transfer: Submitted) {
        let Some((number, _)) = self.find(transfer.address) else {
            return self.end(&transfer, status::NO_DEVICE, 0, Vec::new());
        };
        if transfer.kind == kind::CONTROL {
            let (setup, data) = transfer.bytes.split_at(8.min(transfer.bytes.len()));
            let Ok(setup) = <[u8; 8]>::try_from(setup) else {
                return self.end(&transfer, status::ERROR, 0, Vec::new());
            };
            let is_in = setup[0] & 0x80 != 0;
            let reply = self.control(transfer.address, setup, if is_in { &[] } else { data });
            match reply {
                Ok(reply) if is_in => self.end(&transfer, status::COMPLETED, reply.len(), reply),
                Ok(_) => self.end(&transfer, status::COMPLETED, data.len(), Vec::new()),
                Err(state) => self.end(&transfer, state, 0, Vec::new()),
            }
            return;
        }
        let fault = self.sticks[number].plan.next();
        if let Some(fault) = fault {
            eprintln!(
                "virtual stick {number}: {fault:?} at endpoint {:#04x}",
                transfer.endpoint
            );
        }
        match fault {
            Some(Fault::Unplug | Fault::Replug) => {
                self.unplug(number);
                if fault == Some(Fault::Replug) {
                    self.sticks[number].returns = Some(Instant::now() + AWAY);
                }
                self.end(&transfer, status::NO_DEVICE, 0, Vec::new());
            }
            Some(Fault::Stall) => {
                if let Some((_, device)) = self.find(transfer.address) {
                    device.halt(transfer.endpoint);
                }
                self.end(&transfer, status::STALL, 0, Vec::new());
            }
            Some(Fault::Error) => self.end(&transfer, status::ERROR, 0, Vec::new()),
            // It stays behind those that are retried: its endpoint is none.
            Some(Fault::Silence) => self.waiting.push(Submitted {
                endpoint: 0,
                ..transfer
            }),
            Some(Fault::Short) | None => {
                self.waiting.push(transfer);
                self.retry();
                if fault == Some(Fault::Short)
                    && let Some(ended) = self.ended.back_mut()
                {
                    ended.count /= 2;
                    ended.received.truncate(ended.count);
                }
            }
        }
    }

    /// Tries every transfer that waits, in order.
    fn retry(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for transfer in waiting {
            let Some((_, device)) = self.find(transfer.address) else {
                self.end(&transfer, status::NO_DEVICE, 0, Vec::new());
                continue;
            };
            let number = transfer.endpoint & 15;
            if number == 0 {
                self.waiting.push(transfer);
                continue;
            }
            let end = if transfer.endpoint & 0x80 != 0 {
                device.transfer_in(number, transfer.bytes.len())
            } else {
                let sent = transfer.bytes.len();
                let end = device.transfer_out(number, &transfer.bytes);
                end.map(|()| Vec::with_capacity(sent))
            };
            let is_in = transfer.endpoint & 0x80 != 0;
            match end {
                Ok(received) if is_in => {
                    self.end(&transfer, status::COMPLETED, received.len(), received);
                }
                Ok(_) => self.end(
                    &transfer,
                    status::COMPLETED,
                    transfer.bytes.len(),
                    Vec::new(),
                ),
                Err(End::Stall(received, count)) => {
                    self.end(&transfer, status::STALL, count, received);
                }
                Err(End::Overflow(received)) => {
                    self.end(&transfer, status::OVERFLOW, received.len(), received);
                }
                // Nothing yet.
                Err(End::Timeout(received, 0)) if received.is_empty() => {
                    self.waiting.push(transfer)
                }
                Err(End::Timeout(..) | End::NoEndpoint) => {
                    self.end(&transfer, status::ERROR, 0, Vec::new());
                }
            }
        }
    }

    fn end(&mut self, transfer: &Submitted, status: i32, count: usize, received: Vec<u8>) {
        self.ended.push_back(Ended {
            id: transfer.id,
            context: transfer.context,
            handle: transfer.handle,
            status,
            count,
            received,
        });
    }

    /// Says how many bulk transfers each stick has had; the harness reads it.
    pub fn tell_transfers(&self) {
        let counts = self.sticks.iter();
        let counts: Vec<String> = counts
            .map(|stick| stick.plan.transfers().to_string())
            .collect();
        if !counts.is_empty() {
            eprintln!("virtual sticks had transfers: {}", counts.join(" "));
        }
    }

    /// Cancels a transfer; says whether it had not ended.
    pub fn cancel(&mut self, id: usize) -> bool {
        let Some(index) = self.waiting.iter().position(|transfer| transfer.id == id) else {
            return false;
        };
        let transfer = self.waiting.remove(index);
        self.end(&transfer, status::CANCELLED, 0, Vec::new());
        true
    }

    /// Takes the next transfer of a context that has ended.
    pub fn take_ended(&mut self, context: usize) -> Option<Ended> {
        let index = self
            .ended
            .iter()
            .position(|ended| ended.context == context)?;
        self.ended.remove(index)
    }

    /// Ends and takes every transfer of a handle that is being closed.
    pub fn close(&mut self, handle: usize) -> Vec<Ended> {
        let ids: Vec<usize> = self
            .waiting
            .iter()
            .filter(|transfer| transfer.handle == handle)
            .map(|transfer| transfer.id)
            .collect();
        for id in ids {
            self.cancel(id);
        }
        let (theirs, others) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(|ended| ended.handle == handle);
        self.ended = others;
        Vec::from(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus() -> (Bus, tempfile::NamedTempFile) {
        let image = tempfile::NamedTempFile::new().unwrap();
        let blocks: Vec<u8> = (0..64 * 512u32).map(|index| (index / 512) as u8).collect();
        std::fs::write(image.path(), blocks).unwrap();
        let mut bus = Bus::default();
        bus.command(&format!("stick rw {}", image.path().display()))
            .unwrap();
        bus.command("plug 0").unwrap();
        (bus, image)
    }

    fn submit(bus: &mut Bus, endpoint: u8, bytes: &[u8]) -> Option<Ended> {
        let address = bus.next_address;
        bus.submit(Submitted {
            id: 7,
            context: 1,
            handle: 2,
            address,
            kind: kind::BULK,
            endpoint,
            bytes: bytes.to_vec(),
        });
        bus.take_ended(1)
    }

    /// READ(10) of one block, after TEST UNIT READY has taken the unit attention.
    fn read_block(bus: &mut Bus, block: u8) -> Vec<(i32, usize)> {
        let mut command = [0; 31];
        command[..4].copy_from_slice(b"USBC");
        command[8..15].copy_from_slice(&[0, 2, 0, 0, 0x80, 0, 10]);
        command[15..25].copy_from_slice(&[0x28, 0, 0, 0, 0, block, 0, 0, 1, 0]);
        let mut ends = Vec::new();
        for (endpoint, bytes) in [(2, &command[..]), (0x81, &[0; 512]), (0x81, &[0; 13])] {
            if let Some(end) = submit(bus, endpoint, bytes) {
                ends.push((end.status, end.count));
            }
        }
        ends
    }

    fn test_unit_ready(bus: &mut Bus) {
        let mut command = [0; 31];
        command[..4].copy_from_slice(b"USBC");
        command[14] = 6;
        submit(bus, 2, &command).unwrap();
        submit(bus, 0x81, &[0; 13]).unwrap();
    }

    #[test]
    fn a_block_is_read_in_three_transfers() {
        let (mut bus, _image) = bus();
        test_unit_ready(&mut bus);
        assert_eq!(read_block(&mut bus, 5), [(0, 31), (0, 512), (0, 13)]);
        assert_eq!(bus.command("transfers 0").unwrap(), "5");
    }

    #[test]
    fn a_transfer_waits_for_data_and_can_be_cancelled() {
        let (mut bus, _image) = bus();
        assert_eq!(
            submit(&mut bus, 0x81, &[0; 13]),
            None,
            "there is no command yet"
        );
        assert!(bus.cancel(7) && !bus.cancel(7));
        assert_eq!(bus.take_ended(1).unwrap().status, status::CANCELLED);
    }

    #[test]
    fn a_fault_strikes_the_transfer_that_was_named() {
        for (fault, ends) in [
            (
                "stall",
                vec![(0, 31), (status::STALL, 0), (status::STALL, 0)],
            ),
            ("error", vec![(0, 31), (status::ERROR, 0), (0, 13)]),
            ("short", vec![(0, 31), (0, 256), (0, 13)]),
            (
                "unplug",
                vec![(0, 31), (status::NO_DEVICE, 0), (status::NO_DEVICE, 0)],
            ),
        ] {
            let (mut bus, _image) = bus();
            test_unit_ready(&mut bus);
            bus.command(&format!("fault 0 4 {fault}")).unwrap();
            let seen = read_block(&mut bus, 5);
            assert_eq!(seen[..2], ends[..2], "{fault}");
            if fault != "error" {
                assert_eq!(seen[2], ends[2], "{fault}");
            }
        }
    }

    #[test]
    fn a_silent_transfer_ends_when_the_stick_is_pulled() {
        let (mut bus, _image) = bus();
        bus.command("fault 0 1 silence").unwrap();
        test_unit_ready_silently(&mut bus);
        assert_eq!(bus.take_ended(1), None);
        bus.command("unplug 0").unwrap();
        assert_eq!(bus.take_ended(1).unwrap().status, status::NO_DEVICE);
    }

    fn test_unit_ready_silently(bus: &mut Bus) {
        assert_eq!(submit(bus, 2, &[0; 31]), None);
    }

    #[test]
    fn a_stick_that_is_plugged_again_has_another_address() {
        let (mut bus, _image) = bus();
        let first = bus.addresses();
        bus.command("unplug 0").unwrap();
        assert_eq!(bus.addresses(), first, "it lingers");
        assert!(!bus.is_there(first[0]));
        bus.command("plug 0").unwrap();
        assert_ne!(bus.addresses(), first);
    }

    #[test]
    fn closing_a_handle_ends_what_it_has() {
        let (mut bus, _image) = bus();
        assert_eq!(submit(&mut bus, 0x81, &[0; 13]), None);
        let ended = bus.close(2);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].status, status::CANCELLED);
        assert!(bus.close(2).is_empty());
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let (mut bus, _image) = bus();
        for line in [
            "",
            "plug",
            "plug x",
            "plug 7",
            "plug 0",
            "fault 0 1 magic",
            "dance",
        ] {
            assert!(bus.command(line).is_err(), "{line:?}");
        }
    }
}
