//! Descriptors as bytes (9.6), put together by hand so that hostile ones are as easy as right ones.

/// All descriptors of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Descriptors {
    /// The device descriptor.
    pub device: Vec<u8>,
    /// The configuration descriptor with all that follows it.
    pub configuration: Vec<u8>,
    /// Strings, from index 1. Sent in UTF-16, in English.
    pub strings: Vec<String>,
    /// Others, by type: the device qualifier (6), a hub's (0x29), a report's (0x22).
    pub others: Vec<(u8, Vec<u8>)>,
}

impl Descriptors {
    /// Returns a descriptor, whole.
    pub fn get(&self, kind: u8, index: u8) -> Option<Vec<u8>> {
        match (kind, index) {
            (1, 0) => Some(self.device.clone()),
            (2, 0) => Some(self.configuration.clone()),
            (3, 0) => Some(vec![4, 3, 0x09, 0x04]),
            (3, _) => self.strings.get(usize::from(index) - 1).map(|s| string(s)),
            _ => {
                let other = self.others.iter().find(|(other, _)| *other == kind)?;
                Some(other.1.clone())
            }
        }
    }
}

/// What a device descriptor says, beyond what is always so.
#[derive(Clone, Copy, Debug)]
pub struct DeviceDescriptor {
    /// Class, subclass, protocol.
    pub class: [u8; 3],
    /// bMaxPacketSize0.
    pub max_packet: u8,
    /// idVendor.
    pub vendor: u16,
    /// idProduct.
    pub product: u16,
    /// Indices of the strings for manufacturer, product, and serial number.
    pub strings: [u8; 3],
}

/// Encodes a device descriptor (9.6.1): USB 2.0, one configuration.
pub fn device(of: DeviceDescriptor) -> Vec<u8> {
    let [class, subclass, protocol] = of.class;
    let mut bytes = vec![18, 1, 0x00, 0x02, class, subclass, protocol, of.max_packet];
    bytes.extend(of.vendor.to_le_bytes());
    bytes.extend(of.product.to_le_bytes());
    bytes.extend([0x00, 0x01]);
    bytes.extend(of.strings);
    bytes.push(1);
    bytes
}

/// Encodes a configuration descriptor (9.6.3) in front of what belongs to it: number 1, bus-powered, 100 mA.
pub fn configuration(interfaces: u8, rest: &[Vec<u8>]) -> Vec<u8> {
    let rest = rest.concat();
    let total = (9 + rest.len()) as u16;
    let [low, high] = total.to_le_bytes();
    let mut bytes = vec![9, 2, low, high, interfaces, 1, 0, 0x80, 50];
    bytes.extend(rest);
    bytes
}

/// Encodes an interface descriptor (9.6.5), of number and alternate setting 0.
pub fn interface(endpoints: u8, class: [u8; 3]) -> Vec<u8> {
    let [class, subclass, protocol] = class;
    vec![9, 4, 0, 0, endpoints, class, subclass, protocol, 0]
}

/// Encodes an endpoint descriptor (9.6.6). Attributes: control 0, isochronous 1, bulk 2, interrupt 3.
pub fn endpoint(address: u8, attributes: u8, max_packet: u16, interval: u8) -> Vec<u8> {
    let [low, high] = max_packet.to_le_bytes();
    vec![7, 5, address, attributes, low, high, interval]
}

/// Encodes a string descriptor (9.6.7). What does not fit in 255 bytes is left off.
pub fn string(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().take(126).flat_map(u16::to_le_bytes);
    let mut bytes = vec![0, 3];
    bytes.extend(units);
    bytes[0] = bytes.len() as u8;
    bytes
}

/// Returns the largest packet of an endpoint, its direction in bit 7, as the configuration descriptor says it.
pub(super) fn max_packet(configuration: &[u8], endpoint: u8) -> Option<usize> {
    let descriptor = find(configuration, endpoint)?;
    let size = u16::from_le_bytes([descriptor[4], descriptor[5]]);
    Some(usize::from(size & 0x7ff))
}

/// Returns whether an endpoint is one without handshakes.
pub(super) fn is_isochronous(configuration: &[u8], endpoint: u8) -> bool {
    find(configuration, endpoint).is_some_and(|descriptor| descriptor[3] & 3 == 1)
}

/// Finds the descriptor of an endpoint, seven bytes at least.
fn find(configuration: &[u8], endpoint: u8) -> Option<&[u8]> {
    let mut rest = configuration;
    while let [length, kind, ..] = *rest
        && length >= 2
    {
        let (descriptor, after) = rest.split_at_checked(length.into())?;
        if kind == 5 && length >= 7 && descriptor[2] == endpoint {
            return Some(descriptor);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_packet_is_found_in_the_configuration() {
        let endpoints = [endpoint(0x81, 2, 512, 0), endpoint(2, 3, 0x1400 | 1024, 1)];
        let bytes = configuration(1, &[interface(2, [8, 6, 0x50]), endpoints.concat()]);
        assert_eq!(max_packet(&bytes, 0x81), Some(512));
        assert_eq!(max_packet(&bytes, 2), Some(1024), "without the multiplier");
        assert_eq!(max_packet(&bytes, 1), None);
    }

    #[test]
    fn hostile_configurations_have_no_endpoints() {
        for bytes in [&[][..], &[0, 5], &[9, 2], &[1, 5, 0x81], &[200, 5, 0x81, 2]] {
            assert_eq!(max_packet(bytes, 0x81), None);
        }
    }

    #[test]
    fn strings_are_utf_16() {
        assert_eq!(string("Aß"), [6, 3, 0x41, 0, 0xdf, 0]);
        assert_eq!(string(&"x".repeat(500)).len(), 254);
    }
}
