//! What goes to `/dev/usb/ven` and comes back, as bytes: all words are big-endian (hardware notes, section 6.4).

/// Numbers of the requests.
pub mod request {
    /// Version; out: 32 bytes.
    pub const VERSION: u32 = 0;
    /// Devices that there are, when they have changed; out: [`CHANGES_BYTES`](super::CHANGES_BYTES).
    pub const DEVICE_CHANGE: u32 = 1;
    /// Ends a waiting [`DEVICE_CHANGE`].
    pub const SHUTDOWN: u32 = 2;
    /// Descriptors; in: a device with an alternate setting; out: [`PARAMETERS_BYTES`](super::PARAMETERS_BYTES).
    pub const DEVICE_PARAMETERS: u32 = 3;
    /// The changes were taken; the next [`DEVICE_CHANGE`] may wait.
    pub const ATTACH_FINISH: u32 = 6;
    /// Selects an alternate setting; in: a device with the setting.
    pub const SET_ALTERNATE: u32 = 7;
    /// Suspends or resumes; in: a device with 0 or 1.
    pub const SUSPEND_RESUME: u32 = 16;
    /// Ends all transfers of an endpoint; in: a device with the endpoint's address.
    pub const CANCEL_ENDPOINT: u32 = 17;
    /// A control transfer; vectors: [`control`](super::control), data.
    pub const CONTROL: u32 = 18;
    /// An interrupt transfer; vectors: [`interrupt`](super::interrupt), data.
    pub const INTERRUPT: u32 = 19;
    /// A bulk transfer; vectors: [`bulk`](super::bulk), data.
    pub const BULK: u32 = 21;
}

/// The version of the service that this is about.
pub const VERSION: u32 = 0x0005_0001;

/// Bytes of a reply to [`request::DEVICE_CHANGE`]: [`DEVICES`] entries.
pub const CHANGES_BYTES: usize = DEVICES * ENTRY_BYTES;
/// Most devices that IOS tells of.
pub const DEVICES: usize = 32;
const ENTRY_BYTES: usize = 12;

/// Bytes of a reply to [`request::DEVICE_PARAMETERS`].
pub const PARAMETERS_BYTES: usize = 0xC0;

/// IOS's name of a device, or rather of one of its interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(pub u32);

/// Returns the devices of a reply to [`request::DEVICE_CHANGE`], of which the first `count` are meant.
pub fn devices(reply: &[u8; CHANGES_BYTES], count: usize) -> impl Iterator<Item = DeviceId> {
    let entries = reply.as_chunks::<ENTRY_BYTES>().0.iter().take(count);
    entries.map(|&[a, b, c, d, ..]| DeviceId(u32::from_be_bytes([a, b, c, d])))
}

/// A device, and what is to be done with it: an argument in the byte where each request wants it.
pub fn device(id: DeviceId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&id.0.to_be_bytes());
    bytes
}

/// A device with a byte at offset 8: an alternate setting, or the address of an endpoint.
pub fn device_with(id: DeviceId, argument: u8) -> [u8; 32] {
    let mut bytes = device(id);
    bytes[8] = argument;
    bytes
}

/// A device to be resumed, or suspended.
pub fn resume(id: DeviceId, resume: bool) -> [u8; 32] {
    let mut bytes = device(id);
    bytes[11] = resume.into();
    bytes
}

/// The message of a transfer.
pub type Message = [u8; 64];

fn message(id: DeviceId) -> Message {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&id.0.to_be_bytes());
    bytes
}

/// A control transfer with the eight bytes of its setup stage. IOS wants their words in its own byte order.
pub fn control(id: DeviceId, setup: &[u8; 8]) -> Message {
    let mut bytes = message(id);
    let [kind, number, v0, v1, i0, i1, l0, l1] = *setup;
    bytes[8..16].copy_from_slice(&[kind, number, v1, v0, i1, i0, l1, l0]);
    bytes
}

/// An interrupt transfer of `len` bytes at the endpoint with an address.
pub fn interrupt(id: DeviceId, endpoint: u8, len: u16) -> Message {
    let mut bytes = message(id);
    bytes[12..14].copy_from_slice(&len.to_be_bytes());
    bytes[14] = endpoint;
    bytes
}

/// A bulk transfer of `len` bytes at the endpoint with an address.
pub fn bulk(id: DeviceId, endpoint: u8, len: u16) -> Message {
    let mut bytes = message(id);
    bytes[12..14].copy_from_slice(&len.to_be_bytes());
    bytes[18] = endpoint;
    bytes
}

/// A reply to [`request::DEVICE_PARAMETERS`]: the descriptors of one interface, each at a multiple of four, words big-endian.
#[derive(Clone, Copy)]
pub struct Parameters(pub [u8; PARAMETERS_BYTES]);

/// Where the device descriptor is.
const DEVICE: usize = 20;
/// Where the configuration descriptor is, and the interface's and endpoints' behind it.
const CONFIGURATION: usize = 40;

/// Types and lengths of descriptors (USB 2.0, tables 9-5, 9-8, 9-10, 9-12 and 9-13).
mod descriptor {
    pub const DEVICE_BYTES: usize = 18;
    pub const CONFIGURATION: u8 = 2;
    pub const CONFIGURATION_BYTES: usize = 9;
    pub const INTERFACE: u8 = 4;
    pub const ENDPOINT: u8 = 5;
}

/// Most bytes of a configuration with what belongs to it: what a reply has room for.
pub const CONFIGURATION_BYTES: usize = PARAMETERS_BYTES - CONFIGURATION;

impl Parameters {
    /// Returns the device descriptor as a device sends it.
    pub fn device_descriptor(&self) -> [u8; descriptor::DEVICE_BYTES] {
        let mut bytes = [0; descriptor::DEVICE_BYTES];
        bytes.copy_from_slice(&self.0[DEVICE..DEVICE + descriptor::DEVICE_BYTES]);
        // bcdUSB, idVendor, idProduct, bcdDevice.
        for at in [2, 8, 10, 12] {
            bytes.swap(at, at + 1);
        }
        bytes
    }

    /// Returns the configuration descriptor as a device sends it, with that of the one interface and of its endpoints, and with
    /// the number of the configuration. Of what makes no sense, and from there on, nothing is kept.
    pub fn configuration(&self) -> heapless::Vec<u8, CONFIGURATION_BYTES> {
        let mut bytes = heapless::Vec::new();
        let mut at = CONFIGURATION;
        while let Some(&[length, kind]) = self.0.get(at..).and_then(<[u8]>::first_chunk::<2>) {
            let length = usize::from(length);
            let Some(found) = self.0.get(at..at + length).filter(|_| length >= 2) else {
                break;
            };
            let start = bytes.len();
            // Fits: the result is no longer than what it is made of.
            let _ = bytes.extend_from_slice(found);
            if let (descriptor::ENDPOINT, Some([_, _, _, _, low, high, ..])) =
                (kind, bytes.get_mut(start..))
            {
                // wMaxPacketSize.
                core::mem::swap(low, high);
            }
            at += length.next_multiple_of(4);
        }
        let total = bytes.len() as u16;
        if let Some([9, descriptor::CONFIGURATION, low, high, interfaces, ..]) =
            bytes.get_mut(..descriptor::CONFIGURATION_BYTES)
        {
            [*low, *high] = total.to_le_bytes();
            *interfaces = 1;
        } else {
            bytes.clear();
        }
        bytes
    }

    /// Returns the number of the interface, if there is one.
    pub fn interface(&self) -> Option<u8> {
        let at = CONFIGURATION + descriptor::CONFIGURATION_BYTES.next_multiple_of(4);
        match self.0.get(at..at + 3) {
            Some(&[_, descriptor::INTERFACE, number]) => Some(number),
            _ => None,
        }
    }

    /// Whether an endpoint takes packets that only a high-speed device has. IOS does not tell the speed itself.
    pub fn is_high_speed(&self) -> bool {
        const BULK: u8 = 2;
        const HIGH_SPEED_BULK: [u8; 2] = 512u16.to_le_bytes();
        let configuration = self.configuration();
        let mut rest = &configuration[..];
        while let [length, kind, ..] = *rest {
            if let (descriptor::ENDPOINT, [_, _, _, attributes, low, high, ..]) = (kind, rest)
                && attributes & 3 == BULK
                && [*low, *high] == HIGH_SPEED_BULK
            {
                return true;
            }
            rest = rest.get(usize::from(length).max(1)..).unwrap_or_default();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stick as IOS describes it.
    pub fn stick() -> Parameters {
        let mut bytes = [0; PARAMETERS_BYTES];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, &0xE71F_0021u32.to_be_bytes());
        put(
            20,
            &[18, 1, 2, 0, 0, 0, 0, 64, 0x12, 0x09, 0, 1, 1, 0, 1, 2, 3, 1],
        );
        put(40, &[9, 2, 0, 32, 1, 1, 0, 0x80, 50]);
        put(52, &[9, 4, 0, 0, 2, 8, 6, 0x50, 0]);
        put(64, &[7, 5, 0x81, 2, 2, 0, 0]);
        put(72, &[7, 5, 0x02, 2, 2, 0, 0]);
        Parameters(bytes)
    }

    #[test]
    fn descriptors_come_out_as_a_device_sends_them() {
        let stick = stick();
        assert_eq!(
            stick.device_descriptor(),
            [18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 1, 0, 0, 1, 1, 2, 3, 1]
        );
        assert_eq!(
            stick.configuration()[..],
            [
                9, 2, 32, 0, 1, 1, 0, 0x80, 50, 9, 4, 0, 0, 2, 8, 6, 0x50, 0, 7, 5, 0x81, 2, 0, 2,
                0, 7, 5, 0x02, 2, 0, 2, 0
            ]
        );
        assert_eq!(stick.interface(), Some(0));
        assert!(stick.is_high_speed());
    }

    #[test]
    fn one_of_several_interfaces_becomes_the_only_one() {
        let mut stick = stick();
        stick.0[44] = 3;
        stick.0[54] = 2;
        assert_eq!(stick.configuration()[4], 1);
        assert_eq!(stick.interface(), Some(2));
    }

    #[test]
    fn descriptors_that_lie_about_their_length_end_the_list() {
        for length in [0, 1, 200, 255] {
            let mut stick = stick();
            stick.0[64] = length;
            assert_eq!(stick.configuration().len(), 18, "{length}");
            assert_eq!(stick.configuration()[2], 18, "the total is what there is");
            assert!(!stick.is_high_speed());
        }
        let mut stick = stick();
        stick.0[40] = 8;
        assert!(stick.configuration().is_empty());
        assert!(
            Parameters([0xFF; PARAMETERS_BYTES])
                .configuration()
                .is_empty()
        );
        assert!(Parameters([0; PARAMETERS_BYTES]).configuration().is_empty());
        assert!(Parameters([0; PARAMETERS_BYTES]).interface().is_none());
    }

    #[test]
    fn a_device_without_512_byte_bulk_packets_is_no_high_speed_device() {
        let mut stick = stick();
        for at in [68, 76] {
            stick.0[at..at + 2].copy_from_slice(&[0, 64]);
        }
        assert!(!stick.is_high_speed());
    }

    #[test]
    fn messages_have_their_fields_where_ios_looks_for_them() {
        let id = DeviceId(0xE71F_0021);
        // GET_DESCRIPTOR(string 2), language 0x0409, 255 bytes.
        let control = control(id, &[0x80, 6, 2, 3, 9, 4, 255, 0]);
        assert_eq!(control[..4], [0xE7, 0x1F, 0, 0x21]);
        assert_eq!(control[8..16], [0x80, 6, 3, 2, 4, 9, 0, 255]);
        let bulk = bulk(id, 0x81, 0x4000);
        assert_eq!((&bulk[12..14], bulk[18]), (&[0x40, 0][..], 0x81));
        let interrupt = interrupt(id, 0x83, 8);
        assert_eq!((&interrupt[12..14], interrupt[14]), (&[0, 8][..], 0x83));
        assert_eq!(resume(id, true)[8..12], [0, 0, 0, 1]);
        assert_eq!(resume(id, false)[8..12], [0; 4]);
        assert_eq!(device_with(id, 0x81)[8], 0x81);
    }

    #[test]
    fn devices_are_as_many_as_ios_counts() {
        let mut reply = [0; CHANGES_BYTES];
        reply[..4].copy_from_slice(&[1, 2, 3, 4]);
        reply[12..16].copy_from_slice(&[5, 6, 7, 8]);
        let found = |count| devices(&reply, count).collect::<std::vec::Vec<_>>();
        assert_eq!(found(0), []);
        assert_eq!(found(2), [DeviceId(0x0102_0304), DeviceId(0x0506_0708)]);
        assert_eq!(found(1000).len(), 32);
    }
}
