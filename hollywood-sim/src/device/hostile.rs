//! Descriptors of devices that want to do harm, or are just badly made.

use super::descriptor::{self, Descriptors, endpoint, interface};

/// What is wrong with descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Hostile {
    /// wTotalLength is 0.
    TotalZero,
    /// wTotalLength is 65535, and there is no more than before.
    TotalHuge,
    /// wTotalLength is less than the descriptors take.
    TotalShort,
    /// A descriptor of length 0: who goes on by its length never ends.
    LengthZero,
    /// A descriptor that says that it is longer than what is left.
    LengthBeyond,
    /// An endpoint descriptor of two bytes.
    EndpointShort,
    /// Endpoints whose packets have no bytes.
    PacketZero,
    /// Endpoints whose packets are larger than any bus allows.
    PacketHuge,
    /// 255 endpoints, all of them described.
    ManyEndpoints,
    /// 255 interfaces are claimed, one is there.
    ManyInterfaces,
    /// No interface at all.
    NoInterface,
    /// Two endpoints of the same number and direction.
    SameEndpoint,
    /// An endpoint 0.
    EndpointZero,
    /// Nothing but the first eight bytes of the configuration.
    Truncated,
    /// No configuration descriptor: the request is answered with no data.
    NoConfiguration,
    /// A device descriptor of one byte.
    DeviceShort,
    /// A device descriptor that is another kind of descriptor.
    DeviceOther,
    /// bMaxPacketSize0 is 0.
    ControlPacketZero,
    /// bMaxPacketSize0 is 255.
    ControlPacketHuge,
    /// No configurations.
    ConfigurationsZero,
    /// Strings of two bytes, that is, none.
    EmptyStrings,
    /// Bytes of one value.
    Noise(u8),
}

impl Hostile {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::TotalZero,
        Self::TotalHuge,
        Self::TotalShort,
        Self::LengthZero,
        Self::LengthBeyond,
        Self::EndpointShort,
        Self::PacketZero,
        Self::PacketHuge,
        Self::ManyEndpoints,
        Self::ManyInterfaces,
        Self::NoInterface,
        Self::SameEndpoint,
        Self::EndpointZero,
        Self::Truncated,
        Self::NoConfiguration,
        Self::DeviceShort,
        Self::DeviceOther,
        Self::ControlPacketZero,
        Self::ControlPacketHuge,
        Self::ConfigurationsZero,
        Self::EmptyStrings,
        Self::Noise(0),
        Self::Noise(2),
        Self::Noise(0xff),
    ];

    /// Spoils descriptors.
    pub fn spoil(self, descriptors: &mut Descriptors) {
        let Descriptors {
            device,
            configuration,
            strings,
            ..
        } = descriptors;
        match self {
            Self::TotalZero => set_total(configuration, 0),
            Self::TotalHuge => set_total(configuration, u16::MAX),
            Self::TotalShort => set_total(configuration, 12),
            Self::LengthZero => insert(configuration, &[0, 0x24]),
            Self::LengthBeyond => insert(configuration, &[0xff, 0x24, 0]),
            Self::EndpointShort => insert(configuration, &[2, 5]),
            Self::PacketZero => set_packets(configuration, 0),
            Self::PacketHuge => set_packets(configuration, 0xffff),
            Self::ManyEndpoints => {
                let mut rest = vec![interface(255, [8, 6, 0x50])];
                rest.extend((0..255u32).map(|at| endpoint(at as u8, 2, 512, 0)));
                *configuration = descriptor::configuration(1, &rest);
            }
            Self::ManyInterfaces => set(configuration, 4, 255),
            Self::NoInterface => *configuration = descriptor::configuration(0, &[]),
            Self::SameEndpoint => {
                let twice = [interface(2, [8, 6, 0x50]), endpoint(0x81, 2, 512, 0)];
                let again = endpoint(0x81, 2, 64, 0);
                *configuration = descriptor::configuration(1, &[twice.concat(), again]);
            }
            Self::EndpointZero => {
                let zero = [endpoint(0x80, 2, 512, 0), endpoint(0, 2, 512, 0)];
                let rest = [interface(2, [8, 6, 0x50]), zero.concat()];
                *configuration = descriptor::configuration(1, &rest);
            }
            Self::Truncated => configuration.truncate(8),
            Self::NoConfiguration => configuration.clear(),
            Self::DeviceShort => device.truncate(1),
            Self::DeviceOther => set(device, 1, 4),
            Self::ControlPacketZero => set(device, 7, 0),
            Self::ControlPacketHuge => set(device, 7, 255),
            Self::ConfigurationsZero => set(device, 17, 0),
            Self::EmptyStrings => strings.iter_mut().for_each(String::clear),
            Self::Noise(byte) => {
                device.fill(byte);
                configuration.fill(byte);
            }
        }
    }
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

fn set_total(configuration: &mut [u8], total: u16) {
    let [low, high] = total.to_le_bytes();
    set(configuration, 2, low);
    set(configuration, 3, high);
}

/// Puts bytes behind the interface descriptor, or at the end.
fn insert(configuration: &mut Vec<u8>, bytes: &[u8]) {
    let at = configuration.len().min(18);
    configuration.splice(at..at, bytes.iter().copied());
    let total = configuration.len() as u16;
    set_total(configuration, total);
}

/// Sets wMaxPacketSize of all endpoints.
fn set_packets(configuration: &mut [u8], size: u16) {
    let mut at = 0;
    while let Some([length, kind]) = configuration.get(at..at + 2).map(|d| [d[0], d[1]]) {
        if kind == 5 {
            let [low, high] = size.to_le_bytes();
            set(configuration, at + 4, low);
            set(configuration, at + 5, high);
        }
        at += usize::from(length).max(2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Function, MassStorage, Setup, disk::Disk};
    use super::*;

    #[test]
    fn every_kind_spoils_something_and_the_device_still_answers() {
        for kind in Hostile::ALL {
            let mut stick = MassStorage::new([Disk::zeros(512, 8)]).plug();
            let good = stick.function.descriptors.clone();
            kind.spoil(&mut stick.function.descriptors);
            assert_ne!(stick.function.descriptors, good, "{kind:?}");
            let setup = Setup::get_descriptor(2, 0, 0xffff);
            let bytes = stick.control(setup, &[]).unwrap();
            assert_eq!(bytes, stick.function.descriptors.configuration);
            stick.control(Setup::set_configuration(1), &[]).unwrap();
            let _ = stick.transfer_in(1, 13);
        }
    }

    #[test]
    fn there_are_255_endpoints() {
        let mut descriptors = Descriptors::default();
        Hostile::ManyEndpoints.spoil(&mut descriptors);
        let bytes = descriptors.configuration;
        assert_eq!(bytes.len(), 18 + 255 * 7);
        assert_eq!(bytes[2..4], (bytes.len() as u16).to_le_bytes());
    }
}
