//! Endpoints, and what a queue head says about them.
//!
//! Values come as a device reports them: `wMaxPacketSize` with its multiplier, `bInterval` undecoded. Devices lie, so
//! everything is checked against USB 2.0 chapter 5 and section 9.6.6 before a queue head is made of it.

use crate::error::OpenError;
use crate::layout::{Capabilities, Characteristics};
use crate::periodic::Plan;
use crate::port::Speed;
use crate::schedule::isochronous::Route;

/// NAK counter reload: high-speed endpoints may answer NAK this often before the controller moves on (hardware notes, 3.8).
const NAK_RELOAD: u32 = 4;

/// Kind of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// Control, both directions.
    Control,
    /// Bulk.
    Bulk(Direction),
    /// Interrupt.
    Interrupt(Direction),
    /// Isochronous; see [`Ehci::open_stream`](crate::Ehci::open_stream).
    Isochronous(Direction),
}

/// Direction of data, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// Host to device.
    Out,
    /// Device to host.
    In,
}

/// The transaction translator that a full- or low-speed device is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Translator {
    /// Address of the high-speed hub.
    pub hub_address: u8,
    /// Port of that hub, counted from one.
    pub hub_port: u8,
}

/// An endpoint of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Endpoint {
    /// Address of the device, 0 to 127.
    pub address: u8,
    /// Number of the endpoint, 0 to 15.
    pub number: u8,
    /// Kind and direction.
    pub kind: Kind,
    /// Speed of the device.
    pub speed: Speed,
    /// `wMaxPacketSize`: bytes in bits 10:0, additional transactions per microframe in bits 12:11.
    pub max_packet: u16,
    /// `bInterval`: 2^(n-1) microframes at high speed; otherwise n frames for interrupt endpoints, 2^(n-1) for isochronous ones.
    pub interval: u8,
    /// The way to a device that is not high speed.
    pub translator: Option<Translator>,
    /// Root port that the device, or the hub in front of it, is plugged into, counted from zero. When that port loses its
    /// device, the pipe's transfers end; without it, only timeouts end them.
    pub root_port: Option<u8>,
}

impl Endpoint {
    /// Bytes of a packet, at least one.
    pub fn packet_bytes(&self) -> u32 {
        u32::from(self.max_packet & 0x7ff).max(1)
    }

    /// Transactions per microframe of a periodic endpoint, 1 to 3.
    pub fn transactions(&self) -> u8 {
        if self.speed == Speed::High {
            (self.max_packet >> 11 & 3) as u8 + 1
        } else {
            1
        }
    }

    /// Whether data moves from the device to the host; false for control endpoints.
    pub fn is_in(&self) -> bool {
        matches!(
            self.kind,
            Kind::Bulk(Direction::In)
                | Kind::Interrupt(Direction::In)
                | Kind::Isochronous(Direction::In)
        )
    }

    pub(crate) fn is_periodic(&self) -> bool {
        matches!(self.kind, Kind::Interrupt(_) | Kind::Isochronous(_))
    }

    /// Checks everything against what USB 2.0 allows.
    ///
    /// A bulk endpoint at high speed must have 512 bytes by section 5.8.3; smaller powers of two are let through, since
    /// devices that get this wrong work.
    ///
    /// # Errors
    ///
    /// Which of the values is out of bounds.
    pub fn check(&self) -> Result<(), OpenError> {
        if self.address > 127 || self.number > 15 {
            return Err(OpenError::BadAddress);
        }
        match self.translator {
            Some(Translator {
                hub_address,
                hub_port,
            }) => {
                if self.speed == Speed::High {
                    return Err(OpenError::BadRoute);
                }
                if hub_address == 0 || hub_address > 127 || hub_port == 0 || hub_port > 127 {
                    return Err(OpenError::BadAddress);
                }
            }
            None if self.speed != Speed::High => return Err(OpenError::BadRoute),
            None => {}
        }
        let bytes = self.max_packet & 0x7ff;
        let multiplier = self.max_packet >> 11;
        let allowed = match (self.kind, self.speed) {
            (Kind::Control, Speed::Low) => bytes == 8,
            (Kind::Control, _) => matches!(bytes, 8 | 16 | 32 | 64),
            (Kind::Bulk(_), Speed::Low) => false,
            (Kind::Bulk(_), Speed::Full) => matches!(bytes, 8 | 16 | 32 | 64),
            (Kind::Bulk(_), Speed::High) => bytes.is_power_of_two() && (8..=512).contains(&bytes),
            (Kind::Interrupt(_), Speed::Low) => (1..=8).contains(&bytes),
            (Kind::Interrupt(_), Speed::Full) => (1..=64).contains(&bytes),
            (Kind::Isochronous(_), Speed::Low) => false,
            (Kind::Isochronous(_), Speed::Full) => (1..=1023).contains(&bytes),
            (Kind::Interrupt(_) | Kind::Isochronous(_), Speed::High) => {
                (1..=1024).contains(&bytes) && multiplier < 3
            }
        };
        let periodic_high = self.is_periodic() && self.speed == Speed::High;
        if !allowed || multiplier != 0 && !periodic_high {
            return Err(OpenError::BadMaxPacket {
                raw: self.max_packet,
            });
        }
        if self.is_periodic() {
            let exponent = self.speed == Speed::High || matches!(self.kind, Kind::Isochronous(_));
            let longest = if exponent { 16 } else { 255 };
            if self.interval == 0 || self.interval > longest {
                return Err(OpenError::BadInterval { raw: self.interval });
            }
        }
        Ok(())
    }

    /// Returns the second word of the queue head.
    pub(crate) fn characteristics(&self) -> Characteristics {
        let mut word = Characteristics(0);
        word.set_address(self.address.into());
        word.set_endpoint(self.number.into());
        word.set_speed(match self.speed {
            Speed::Full => 0,
            Speed::Low => 1,
            Speed::High => 2,
        });
        let control = self.kind == Kind::Control;
        // Control stages begin with toggles of their own; all else continues where the last transfer ended (section 4.10).
        word.set_toggle_control(control);
        word.set_control(control && self.speed != Speed::High);
        word.set_max_packet(self.packet_bytes());
        // Interrupt endpoints and split transactions have no use for the counter (section 4.9).
        if self.speed == Speed::High && !matches!(self.kind, Kind::Interrupt(_)) {
            word.set_nak_reload(NAK_RELOAD);
        }
        word
    }

    /// Returns what isochronous descriptors say of the endpoint (sections 3.3.3, 3.4.1 and 3.4.2).
    pub(crate) fn route(&self, plan: Plan) -> Route {
        let device = u32::from(self.address) | u32::from(self.number) << 8;
        let input = u32::from(self.is_in());
        match self.translator {
            None => Route::High {
                pointers: [
                    device,
                    input << 11 | self.packet_bytes(),
                    self.transactions().into(),
                ],
                start_mask: plan.start_mask,
            },
            Some(translator) => Route::Split {
                characteristics: input << 31
                    | u32::from(translator.hub_port) << 24
                    | u32::from(translator.hub_address) << 16
                    | device,
                masks: u32::from(plan.complete_mask) << 8 | u32::from(plan.start_mask),
            },
        }
    }

    /// Returns the third word of the queue head.
    pub(crate) fn capabilities(&self, plan: Option<Plan>) -> Capabilities {
        let mut word = Capabilities(0);
        word.set_mult(self.transactions().into());
        if let Some(plan) = plan {
            word.set_start_mask(plan.start_mask.into());
            word.set_complete_mask(plan.complete_mask.into());
        }
        if let Some(translator) = self.translator {
            word.set_hub_address(translator.hub_address.into());
            word.set_hub_port(translator.hub_port.into());
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK_IN: Endpoint = Endpoint {
        address: 5,
        number: 1,
        kind: Kind::Bulk(Direction::In),
        speed: Speed::High,
        max_packet: 512,
        interval: 0,
        translator: None,
        root_port: Some(0),
    };

    #[test]
    fn a_bulk_endpoint_keeps_its_toggle_in_the_overlay_and_reloads_its_nak_counter() {
        // Address 5, endpoint 1, high speed, 512 bytes, RL 4.
        assert_eq!(BULK_IN.characteristics().0, 0x4200_2105);
        assert_eq!(BULK_IN.capabilities(None).0, 0x4000_0000);
    }

    #[test]
    fn a_control_endpoint_takes_toggles_from_its_qtds() {
        let control = Endpoint {
            number: 0,
            kind: Kind::Control,
            max_packet: 64,
            ..BULK_IN
        };
        assert_eq!(control.characteristics().0, 0x4040_6005);
    }

    #[test]
    fn a_low_speed_control_endpoint_is_marked_and_names_its_translator() {
        let translator = Some(Translator {
            hub_address: 3,
            hub_port: 2,
        });
        let low = Endpoint {
            number: 0,
            kind: Kind::Control,
            speed: Speed::Low,
            max_packet: 8,
            translator,
            ..BULK_IN
        };
        assert_eq!(low.characteristics().0, 0x0808_5005);
        assert_eq!(low.capabilities(None).0, 0x4103_0000);
    }

    #[test]
    fn an_interrupt_endpoint_decodes_its_multiplier() {
        let kind = Kind::Interrupt(Direction::In);
        let endpoint = Endpoint {
            kind,
            max_packet: 0x1400,
            interval: 1,
            ..BULK_IN
        };
        assert_eq!(endpoint.check(), Ok(()));
        assert_eq!(endpoint.packet_bytes(), 1024);
        assert_eq!(
            endpoint
                .capabilities(Plan::find(&endpoint, core::iter::empty()))
                .0,
            0xc000_00ff
        );
    }

    #[test]
    fn isochronous_descriptors_name_the_endpoint_in_the_lower_bits_of_their_pointers() {
        let high = Endpoint {
            kind: Kind::Isochronous(Direction::In),
            max_packet: 0x1400,
            interval: 1,
            ..BULK_IN
        };
        let plan = Plan::find(&high, core::iter::empty()).unwrap();
        let expected = Route::High {
            pointers: [0x0000_0105, 0x0000_0c00, 3],
            start_mask: 0xff,
        };
        assert_eq!(high.route(plan), expected);
        let split = Endpoint {
            kind: Kind::Isochronous(Direction::Out),
            speed: Speed::Full,
            max_packet: 192,
            translator: Some(Translator {
                hub_address: 3,
                hub_port: 2,
            }),
            ..high
        };
        let plan = Plan::find(&split, core::iter::empty()).unwrap();
        let expected = Route::Split {
            characteristics: 0x0203_0105,
            masks: 0x0003,
        };
        assert_eq!(split.route(plan), expected);
    }

    #[test]
    fn packet_sizes_that_the_standard_forbids_are_refused() {
        for (kind, raw) in [
            (Kind::Bulk(Direction::In), 0),
            (Kind::Bulk(Direction::In), 1024),
            (Kind::Bulk(Direction::In), 511),
            (Kind::Bulk(Direction::In), 0x0a00),
            (Kind::Control, 65),
            (Kind::Control, 0),
            (Kind::Interrupt(Direction::In), 1025),
            (Kind::Interrupt(Direction::In), 0x1c00),
            (Kind::Interrupt(Direction::In), 0xffff),
            (Kind::Isochronous(Direction::In), 0),
            (Kind::Isochronous(Direction::In), 0x1c00),
        ] {
            let endpoint = Endpoint {
                kind,
                max_packet: raw,
                interval: 1,
                ..BULK_IN
            };
            assert_eq!(endpoint.check(), Err(OpenError::BadMaxPacket { raw }));
        }
    }

    #[test]
    fn only_devices_that_are_not_high_speed_go_through_a_translator() {
        let translator = Some(Translator {
            hub_address: 3,
            hub_port: 2,
        });
        assert_eq!(
            Endpoint {
                translator,
                ..BULK_IN
            }
            .check(),
            Err(OpenError::BadRoute)
        );
        assert_eq!(
            Endpoint {
                speed: Speed::Full,
                max_packet: 64,
                ..BULK_IN
            }
            .check(),
            Err(OpenError::BadRoute)
        );
        let nowhere = Some(Translator {
            hub_address: 0,
            hub_port: 2,
        });
        let full = Endpoint {
            speed: Speed::Full,
            max_packet: 64,
            ..BULK_IN
        };
        assert_eq!(
            Endpoint {
                translator: nowhere,
                ..full
            }
            .check(),
            Err(OpenError::BadAddress)
        );
    }

    #[test]
    fn intervals_outside_the_standard_are_refused() {
        let kind = Kind::Interrupt(Direction::In);
        for raw in [0, 17, 255] {
            let endpoint = Endpoint {
                kind,
                max_packet: 8,
                interval: raw,
                ..BULK_IN
            };
            assert_eq!(endpoint.check(), Err(OpenError::BadInterval { raw }));
        }
    }
}
