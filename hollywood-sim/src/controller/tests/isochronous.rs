//! Isochronous descriptors.

use super::*;
use crate::device::{Hub, Sent};

/// A host whose periodic schedule is this descriptor in every frame, at the beginning of one.
fn scheduled(device: impl Device + 'static, words: &[u32]) -> (Host<Controller>, u32) {
    let mut host = host(device);
    let (at, kind) = (host.take(64, 64), if words.len() == 16 { 0 } else { 4 });
    host.set_words(at, words);
    host.set_words(host.frame_list, &[at | kind; 1024]);
    while host.read(0x0c) & 7 != 0 {
        host.bus.step_microframe();
    }
    host.write(0x00, 0x0001_0031);
    (host, at)
}

const BUFFER: u32 = 0x1010_0000;
const ACTIVE: u32 = 1 << 31;

/// An iTD for endpoint 1 of device 0, 1024 bytes, with these transactions.
fn itd(is_in: bool, mult: u32, transactions: &[(usize, u32)]) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = 1;
    for (microframe, word) in transactions {
        words[1 + microframe] = *word;
    }
    for page in 0..7 {
        words[9 + page] = BUFFER + 0x1000 * page as u32;
    }
    words[9] |= 1 << 8;
    words[10] |= u32::from(is_in) << 11 | 1024;
    words[11] |= mult;
    words
}

fn iso(pid: DataPid, len: usize) -> Response {
    Response::Data(Packet {
        pid,
        bytes: vec![0xe0; len],
    })
}

/// Zeros where the data go.
fn clear(host: &mut Host<Controller>) {
    host.bus.write_memory(BUFFER, &[0; 0x2000]);
}

#[test]
fn an_itd_has_a_transaction_for_each_microframe() {
    let device = Scripted::new([iso(DataPid::Data0, 1024), iso(DataPid::Data0, 10)]);
    let transactions = [(1, ACTIVE | 1024 << 16), (4, ACTIVE | 1024 << 16 | 0x400)];
    let (mut host, at) = scheduled(device.clone(), &itd(true, 1, &transactions));
    clear(&mut host);
    let mut asked = Vec::new();
    for _ in 0..8 {
        host.bus.step_microframe();
        asked.push(device.borrow().asked.len());
    }
    assert_eq!(asked, [0, 1, 1, 1, 2, 2, 2, 2]);
    assert_eq!(host.word(at + 8), 1024 << 16);
    assert_eq!(host.word(at + 20), 10 << 16 | 0x400, "what came");
    assert_eq!(host.bus.read_memory(BUFFER + 0x400, 12)[9..], [0xe0, 0, 0]);
}

#[test]
fn an_itd_is_executed_once() {
    let device = Scripted::new([iso(DataPid::Data0, 1)]);
    let (mut host, _) = scheduled(device.clone(), &itd(true, 1, &[(0, ACTIVE | 1024 << 16)]));
    clear(&mut host);
    host.bus.advance_us(3000);
    assert_eq!(device.borrow().asked.len(), 1);
}

#[test]
fn three_packets_in_a_microframe_count_down() {
    let answers = [DataPid::Data2, DataPid::Data1, DataPid::Data0].map(|pid| iso(pid, 1024));
    let device = Scripted::new(answers);
    let (mut host, at) = scheduled(device.clone(), &itd(true, 3, &[(0, ACTIVE | 3072 << 16)]));
    clear(&mut host);
    host.bus.step_microframe();
    assert_eq!(host.word(at + 4), 3072 << 16);
    assert_eq!(device.borrow().asked.len(), 3);
}

#[test]
fn the_device_says_which_packet_is_the_last() {
    let device = Scripted::new([iso(DataPid::Data0, 1024), iso(DataPid::Data0, 1024)]);
    let (mut host, at) = scheduled(device.clone(), &itd(true, 3, &[(0, ACTIVE | 3072 << 16)]));
    clear(&mut host);
    host.bus.step_microframe();
    assert_eq!(host.word(at + 4), 1024 << 16);
    assert_eq!(device.borrow().asked.len(), 1);
}

#[test]
fn isochronous_data_that_go_out_say_how_many_packets_there_are() {
    let cases: [(u32, &[DataPid]); 3] = [
        (100, &[DataPid::Data0]),
        (1500, &[DataPid::MData, DataPid::Data1]),
        (3072, &[DataPid::MData, DataPid::MData, DataPid::Data2]),
    ];
    for (len, expected) in cases {
        let device = Scripted::new(vec![Response::Silence; 3]);
        let words = itd(false, 3, &[(0, ACTIVE | 1 << 15 | len << 16)]);
        let (mut host, at) = scheduled(device.clone(), &words);
        clear(&mut host);
        host.bus.step_microframe();
        let device = device.borrow();
        let pids = device
            .asked
            .iter()
            .map(|(_, data)| data.as_ref().unwrap().pid);
        assert_eq!(pids.collect::<Vec<_>>(), expected);
        assert_eq!(host.word(at + 4) & ACTIVE, 0);
        assert_eq!(host.read(0x04) & 1, 1, "asked for an interrupt");
    }
}

#[test]
fn isochronous_errors_are_noted_and_not_repeated() {
    let cases = [
        (Response::Silence, 1 << 28),
        (Response::Garbled, 1 << 28),
        (iso(DataPid::Data0, 1025), 1 << 29),
    ];
    for (answer, bit) in cases {
        let device = Scripted::new([answer]);
        let (mut host, at) = scheduled(device, &itd(true, 1, &[(0, ACTIVE | 1024 << 16)]));
        clear(&mut host);
        host.bus.step_microframe();
        assert_eq!(host.word(at + 4), bit, "nothing came");
        assert_eq!(host.read(0x04) & 2, 2);
    }
}

#[test]
fn isochronous_data_cross_into_the_next_page() {
    let device = Scripted::new([iso(DataPid::Data0, 1024)]);
    let words = itd(true, 1, &[(0, ACTIVE | 1024 << 16 | 0xe00)]);
    let (mut host, _) = scheduled(device, &words);
    clear(&mut host);
    host.bus.step_microframe();
    assert_eq!(host.bus.read_memory(BUFFER + 0xe00, 0x400), [0xe0; 0x400]);
}

/// A full-speed device with isochronous endpoints: IN gives what is there, OUT collects.
struct Audio {
    descriptors: crate::device::descriptor::Descriptors,
    give: Vec<u8>,
    got: Vec<u8>,
}

impl Audio {
    fn new(give: usize) -> Shared<Peripheral<Self>> {
        use crate::device::descriptor::{configuration, endpoint, interface};
        let mut inert = crate::device::Inert::new(Speed::Full, [1, 2, 0], 1, 2);
        let rest = [
            interface(2, [1, 2, 0]),
            endpoint(0x81, 1, 400, 1),
            endpoint(2, 1, 400, 1),
        ];
        inert.descriptors.configuration = configuration(1, &rest);
        let mut device = Self {
            descriptors: inert.descriptors,
            give: vec![0xab; give],
            got: Vec::new(),
        }
        .plug();
        device.control(Setup::set_configuration(1), &[]).unwrap();
        shared(device)
    }
}

impl Function for Audio {
    fn speed(&self) -> Speed {
        Speed::Full
    }

    fn descriptors(&self) -> &crate::device::descriptor::Descriptors {
        &self.descriptors
    }

    fn send(&mut self, _endpoint: u8, _max: usize) -> Sent {
        Sent::Packet(self.give.clone())
    }

    fn receive(&mut self, _endpoint: u8, packet: &[u8]) -> crate::device::Delivery {
        self.got.extend_from_slice(packet);
        crate::device::Delivery::Taken
    }
}

/// A host with a hub at address 5 and this device behind its port 1 at address 0, configured; its siTD is scheduled.
fn with_sitd(
    device: &Shared<Peripheral<Audio>>,
    pieces: usize,
    words: [u32; 7],
) -> (Host<Controller>, u32) {
    let hub = Hub::new(Speed::High, 1).with(1, device.clone());
    let (mut host, at) = scheduled(hub.with_pieces(pieces), &[1, 0, 0, 0, 0, 0, 1]);
    host.set_words(host.frame_list, &[1; 1024]);
    let fresh = host.add_high_speed(0, 0, 64);
    host.control(fresh, Setup::set_address(5));
    let hub = host.add_high_speed(5, 0, 64);
    host.control(hub, Setup::set_configuration(1));
    for feature in [8, 4] {
        let setup = Setup {
            kind: 0x23,
            request: 3,
            value: feature,
            index: 1,
            length: 0,
        };
        host.control(hub, setup);
        host.bus.advance_us(20_000);
    }
    let control = host.add(1 << 27 | 64 << 16 | 1 << 14, 1 << 30 | 1 << 23 | 5 << 16);
    host.control(control, Setup::set_configuration(1));
    clear(&mut host);
    host.set_words(at, &words);
    while host.read(0x0c) & 7 != 0 {
        host.bus.step_microframe();
    }
    host.set_words(host.frame_list, &[at | 4; 1024]);
    (host, at)
}

#[test]
fn a_sitd_brings_in_what_the_translator_received_part_by_part() {
    let device = Audio::new(300);
    let place = 1 << 31 | 1 << 24 | 5 << 16 | 1 << 8;
    let words = [
        1,
        place,
        0x3c01,
        1 << 31 | 400 << 16 | 0x80,
        BUFFER,
        BUFFER + 0x1000,
        1,
    ];
    let (mut host, at) = with_sitd(&device, 188, words);
    host.bus.advance_us(1000);
    let state = host.word(at + 12);
    assert_eq!((state & 0xff, state >> 16 & 0x3ff), (0, 100));
    assert_eq!(host.bus.read_memory(BUFFER, 300), [0xab; 300]);
    assert_eq!(host.bus.read_memory(BUFFER + 300, 4), [0; 4]);
    assert_eq!(host.read(0x04) & 3, 1);
}

#[test]
fn a_sitd_sends_parts_in_the_microframes_of_its_mask() {
    let device = Audio::new(0);
    let place = 1 << 24 | 5 << 16 | 2 << 8;
    let words = [
        1,
        place,
        0x03,
        1 << 31 | 300 << 16 | 0x80,
        BUFFER,
        (BUFFER + 0x1000) | 1 << 3 | 2,
        1,
    ];
    let (mut host, at) = with_sitd(&device, 0, words);
    host.bus.write_memory(BUFFER, &[0x77; 300]);
    host.bus.advance_us(1000);
    let state = host.word(at + 12);
    assert_eq!((state & 0xff, state >> 16 & 0x3ff), (0, 0));
    assert_eq!(device.borrow().function.got, [0x77; 300]);
}

#[test]
fn a_sitd_whose_device_is_gone_has_a_translators_error() {
    let device = Audio::new(300);
    let place = 1 << 31 | 1 << 24 | 5 << 16 | 1 << 8 | 9;
    let words = [
        1,
        place,
        0x3c01,
        400 << 16 | 0x80,
        BUFFER,
        BUFFER + 0x1000,
        1,
    ];
    let (mut host, at) = with_sitd(&device, 0, words);
    host.bus.advance_us(1000);
    assert_eq!(host.word(at + 12) & 0xff, 0x40);
    assert_eq!(host.read(0x04) & 2, 2);
}

#[test]
fn data_of_a_sitd_cross_into_its_second_page() {
    let device = Audio::new(300);
    let place = 1 << 31 | 1 << 24 | 5 << 16 | 1 << 8;
    let words = [
        1,
        place,
        0x3c01,
        400 << 16 | 0x80,
        BUFFER + 0xf80,
        BUFFER + 0x1000,
        1,
    ];
    let (mut host, at) = with_sitd(&device, 64, words);
    host.bus.advance_us(1000);
    // Four parts of 64 are all that there is time for.
    let state = host.word(at + 12);
    assert_eq!(
        (state & 0xff, state >> 16 & 0x3ff, state >> 30 & 1),
        (0, 144, 1)
    );
    assert_eq!(host.bus.read_memory(BUFFER + 0xf80, 256), [0xab; 256]);
}

#[test]
fn a_complete_split_of_a_sitd_that_was_not_executed_is_a_missed_microframe() {
    let device = Audio::new(300);
    let place = 1 << 31 | 1 << 24 | 5 << 16 | 1 << 8;
    let words = [
        1,
        place,
        0x3c01,
        400 << 16 | 0x80,
        BUFFER,
        BUFFER + 0x1000,
        1,
    ];
    let (mut host, at) = with_sitd(&device, 64, words);
    for _ in 0..3 {
        host.bus.step_microframe();
    }
    host.set_words(host.frame_list, &[1; 1024]);
    host.bus.step_microframe();
    host.set_words(host.frame_list, &[at | 4; 1024]);
    host.bus.step_microframe();
    assert_eq!(host.word(at + 12) & 0xff, 4);
}
