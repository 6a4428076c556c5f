//! Requests: the eight bytes of a SETUP packet (9.3).

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Setup {
    /// Direction (bit 7: to the host), type (bits 6:5), recipient (bits 4:0).
    pub kind: u8,
    /// bRequest.
    pub request: u8,
    /// wValue.
    pub value: u16,
    /// wIndex.
    pub index: u16,
    /// wLength: bytes in the data stage at most.
    pub length: u16,
}

impl Setup {
    /// Decodes the packet; every value is possible.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self {
            kind: bytes[0],
            request: bytes[1],
            value: u16::from_le_bytes([bytes[2], bytes[3]]),
            index: u16::from_le_bytes([bytes[4], bytes[5]]),
            length: u16::from_le_bytes([bytes[6], bytes[7]]),
        }
    }

    /// Encodes the packet.
    pub const fn to_bytes(self) -> [u8; 8] {
        let [value, index, length] = [self.value, self.index, self.length];
        let ([v0, v1], [i0, i1], [l0, l1]) = (
            value.to_le_bytes(),
            index.to_le_bytes(),
            length.to_le_bytes(),
        );
        [self.kind, self.request, v0, v1, i0, i1, l0, l1]
    }

    /// Whether the data stage goes to the host.
    pub const fn is_in(self) -> bool {
        self.kind & 0x80 != 0
    }

    /// GET_DESCRIPTOR (9.4.3): 1 device, 2 configuration, 3 string.
    pub const fn get_descriptor(kind: u8, index: u8, length: u16) -> Self {
        Self {
            kind: 0x80,
            request: 6,
            value: u16::from_be_bytes([kind, index]),
            index: if kind == 3 && index != 0 { 0x409 } else { 0 },
            length,
        }
    }

    /// SET_ADDRESS (9.4.6).
    pub const fn set_address(address: u8) -> Self {
        Self {
            kind: 0,
            request: 5,
            value: address as u16,
            index: 0,
            length: 0,
        }
    }

    /// SET_CONFIGURATION (9.4.7).
    pub const fn set_configuration(value: u8) -> Self {
        Self {
            kind: 0,
            request: 9,
            value: value as u16,
            index: 0,
            length: 0,
        }
    }

    /// CLEAR_FEATURE(ENDPOINT_HALT) (9.4.1): `endpoint` with the direction in bit 7.
    pub const fn clear_halt(endpoint: u8) -> Self {
        Self {
            kind: 2,
            request: 1,
            value: 0,
            index: endpoint as u16,
            length: 0,
        }
    }
}
