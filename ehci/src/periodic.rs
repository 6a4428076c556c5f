//! Bandwidth of interrupt and isochronous endpoints: which frames and microframes an endpoint gets (USB 2.0, sections 5.7.4,
//! 5.11.3 and 11.18).
//!
//! Split transactions begin early enough in a frame to complete in it, so that neither FSTN nor back pointers of siTDs are
//! needed: the controller never has to finish in one frame what it began in another.

use crate::endpoint::{Direction, Endpoint, Kind};
use crate::port::Speed;
use crate::schedule::isochronous::SPLIT_BYTES;
use crate::schedule::tree::Slot;

/// Periodic transfers may take 80 % of a microframe (USB 2.0, section 5.5.4).
const BUDGET_NS: u32 = 100_000;
/// And 90 % of a frame behind a transaction translator (USB 2.0, section 5.5.4).
const TRANSLATOR_BUDGET_NS: u32 = 900_000;
/// Loads are kept for this many frames; an endpoint with a longer period is counted as if it had this one.
const WINDOW: usize = 32;
const LONGEST: u16 = crate::layout::FRAMES as u16;

/// The visits that a periodic endpoint has been granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) slot: Slot,
    /// Microframes in which its transactions start.
    pub(crate) start_mask: u8,
    /// Microframes in which split transactions complete; zero at high speed.
    pub(crate) complete_mask: u8,
    /// Bus time of a visit in nanoseconds.
    cost: u32,
    /// Bus time of a visit behind the hub's translator in nanoseconds, and the hub's address.
    behind: Option<(u8, u32)>,
}

impl Plan {
    /// Finds the least loaded visits for an endpoint that was checked; none if there is no room.
    pub(crate) fn find(endpoint: &Endpoint, others: impl Iterator<Item = Plan>) -> Option<Self> {
        let behind = endpoint
            .translator
            .map(|translator| (translator.hub_address, translated_cost(endpoint)));
        let mut load = [[0u32; 8]; WINDOW];
        let mut translator_load = [0u32; WINDOW];
        for other in others {
            other.each(|cell| cell_mut(&mut load, cell, |ns| *ns += other.cost));
            // A hub may have a translator for each port; it is not known whether it does.
            if let (Some((hub, _)), Some((other_hub, cost))) = (behind, other.behind)
                && hub == other_hub
            {
                other.each_frame(|frame| {
                    if let Some(ns) = translator_load.get_mut(frame) {
                        *ns += cost;
                    }
                });
            }
        }
        let cost = cost(endpoint);
        let (period, masks) = shape(endpoint);
        let mut best: Option<(u32, Self)> = None;
        for phase in 0..period.min(WINDOW as u16) {
            for (start_mask, complete_mask) in masks.into_iter().flatten() {
                let plan = Self {
                    slot: Slot { period, phase },
                    start_mask,
                    complete_mask,
                    cost,
                    behind,
                };
                let mut worst = 0;
                plan.each(|cell| cell_mut(&mut load, cell, |ns| worst = worst.max(*ns + cost)));
                let mut translator_worst = 0;
                plan.each_frame(|frame| {
                    let load = translator_load.get(frame).copied().unwrap_or(0);
                    translator_worst = translator_worst.max(load);
                });
                let fits = worst <= BUDGET_NS
                    && behind.is_none_or(|(_, ns)| translator_worst + ns <= TRANSLATOR_BUDGET_NS);
                // Behind a translator the frame counts before the microframe.
                let load = worst + translator_worst;
                if fits && best.is_none_or(|(least, _)| load < least) {
                    best = Some((load, plan));
                }
            }
        }
        best.map(|(_, plan)| plan)
    }

    /// Visits each frame that the plan takes within the window.
    fn each_frame(&self, visit: impl FnMut(usize)) {
        let period = usize::from(self.slot.period).clamp(1, WINDOW);
        let first = usize::from(self.slot.phase) % period;
        (first..WINDOW).step_by(period).for_each(visit);
    }

    /// Visits each frame and microframe that the plan takes within the window.
    fn each(&self, mut visit: impl FnMut((usize, usize))) {
        let mask = self.start_mask | self.complete_mask;
        self.each_frame(|frame| {
            (0..8)
                .filter(|microframe| mask & 1 << microframe != 0)
                .for_each(|microframe| visit((frame, microframe)));
        });
    }
}

fn cell_mut(
    load: &mut [[u32; 8]; WINDOW],
    (frame, microframe): (usize, usize),
    change: impl FnOnce(&mut u32),
) {
    if let Some(cell) = load.get_mut(frame).and_then(|row| row.get_mut(microframe)) {
        change(cell);
    }
}

/// Bus time of a microframe's transactions at high speed, bit stuffing at its worst (USB 2.0, section 5.11.3).
fn cost(endpoint: &Endpoint) -> u32 {
    let bytes = match endpoint.kind {
        Kind::Isochronous(_) if endpoint.translator.is_some() => {
            endpoint.packet_bytes().min(SPLIT_BYTES)
        }
        _ => endpoint.packet_bytes(),
    };
    // 55 bytes of overhead and 2.083 ns per bit; bit stuffing makes seven bits of six.
    let bits = 55 * 8 + 3 + bytes * 8 * 7 / 6;
    bits * 2083 / 1000 * u32::from(endpoint.transactions())
}

/// Bus time of a packet behind a translator (USB 2.0, section 5.11.3).
fn translated_cost(endpoint: &Endpoint) -> u32 {
    let bits = 3 + endpoint.packet_bytes() * 8 * 7 / 6;
    match (endpoint.speed, endpoint.kind) {
        (Speed::Low, _) => 64_107 + 2_000 + 677 * bits,
        (_, Kind::Isochronous(Direction::In)) => 7_268 + bits * 8_354 / 100,
        (_, Kind::Isochronous(Direction::Out)) => 6_265 + bits * 8_354 / 100,
        _ => 9_107 + bits * 8_354 / 100,
    }
}

/// Returns the period in frames, and the start and complete masks to choose from.
fn shape(endpoint: &Endpoint) -> (u16, [Option<(u8, u8)>; 8]) {
    let mut masks = [None; 8];
    if endpoint.speed == Speed::High {
        // 2^(n-1) microframes (USB 2.0, section 9.6.6).
        let exponent = u32::from(endpoint.interval.saturating_sub(1));
        let pattern: u8 = match exponent {
            0 => 0xff,
            1 => 0x55,
            2 => 0x11,
            _ => 0x01,
        };
        let choices = 1usize << exponent.min(3);
        for (shift, mask) in masks.iter_mut().enumerate().take(choices) {
            *mask = Some((pattern << shift, 0));
        }
        let frames = 1u32 << exponent.saturating_sub(3).min(15);
        return ((frames as u16).min(LONGEST), masks);
    }
    let splits = endpoint.packet_bytes().div_ceil(SPLIT_BYTES);
    for (shift, mask) in masks.iter_mut().enumerate() {
        *mask = match endpoint.kind {
            Kind::Isochronous(Direction::Out) => start_splits(splits, shift as u32),
            Kind::Isochronous(Direction::In) => complete_splits(splits, shift as u32),
            // One start-split, and complete-splits two to four microframes later (hardware notes, section 3.8); starts after
            // microframe 3 would have to complete in the next frame, which a queue head cannot say without an FSTN.
            _ => (shift < 4).then(|| (0x01 << shift, 0x1c << shift)),
        };
    }
    // Isochronous intervals are exponents at full speed, too; others are not asked less often than they ask for.
    let frames = match endpoint.kind {
        Kind::Isochronous(_) => 1 << u32::from(endpoint.interval.saturating_sub(1)).min(15),
        _ => 1 << u16::from(endpoint.interval.max(1)).ilog2(),
    };
    (u16::min(frames, LONGEST), masks)
}

/// A start-split for each 188 bytes, in a row, and the last one before the last microframe (USB 2.0, section 11.18.4).
fn start_splits(splits: u32, first: u32) -> Option<(u8, u8)> {
    let mask = ((1u32 << splits) - 1) << first;
    (first + splits <= 7).then_some((mask as u8, 0))
}

/// A complete-split for each 188 bytes from the second microframe after the start-split on, and one more where there is room,
/// for a translator that was late (USB 2.0, section 11.18.4).
fn complete_splits(splits: u32, first: u32) -> Option<(u8, u8)> {
    let begin = first + 2;
    let count = (splits + 1).min(8u32.saturating_sub(begin));
    let mask = ((1u32 << count) - 1) << begin;
    (count >= splits).then_some((1 << first, mask as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Direction, Kind, Translator};

    fn endpoint(interval: u8, bytes: u16) -> Endpoint {
        Endpoint {
            address: 1,
            number: 1,
            kind: Kind::Interrupt(Direction::In),
            speed: Speed::High,
            max_packet: bytes,
            interval,
            translator: None,
            root_port: None,
        }
    }

    #[test]
    fn the_period_is_the_endpoints_interval() {
        for (interval, period, mask) in [
            (1, 1, 0xff),
            (2, 1, 0x55),
            (3, 1, 0x11),
            (4, 1, 0x01),
            (5, 2, 0x01),
            (9, 32, 0x01),
            (16, 1024, 0x01),
        ] {
            let plan = Plan::find(&endpoint(interval, 8), core::iter::empty()).unwrap();
            assert_eq!(
                (plan.slot.period, plan.start_mask, plan.complete_mask),
                (period, mask, 0)
            );
        }
    }

    #[test]
    fn split_transactions_start_early_and_complete_in_the_same_frame() {
        let translator = Some(Translator {
            hub_address: 1,
            hub_port: 1,
        });
        let full = Endpoint {
            speed: Speed::Full,
            translator,
            ..endpoint(10, 8)
        };
        let first = Plan::find(&full, core::iter::empty()).unwrap();
        assert_eq!(
            (first.slot.period, first.start_mask, first.complete_mask),
            (8, 0x01, 0x1c)
        );
        let all = (0..4).fold(vec![], |mut plans: Vec<Plan>, _| {
            plans.push(Plan::find(&full, plans.iter().copied()).unwrap());
            plans
        });
        assert!(all.iter().all(|plan| plan.complete_mask.count_ones() == 3));
    }

    const BEHIND_HUB_1: Option<Translator> = Some(Translator {
        hub_address: 1,
        hub_port: 1,
    });

    fn split(kind: Kind, speed: Speed, bytes: u16) -> Endpoint {
        Endpoint {
            kind,
            speed,
            translator: BEHIND_HUB_1,
            ..endpoint(1, bytes)
        }
    }

    #[test]
    fn isochronous_splits_carry_188_bytes_and_never_leave_their_frame() {
        let masks = |direction, bytes| {
            let endpoint = split(Kind::Isochronous(direction), Speed::Full, bytes);
            let plan = Plan::find(&endpoint, core::iter::empty()).unwrap();
            (plan.slot.period, plan.start_mask, plan.complete_mask)
        };
        assert_eq!(masks(Direction::Out, 188), (1, 0x01, 0));
        assert_eq!(masks(Direction::Out, 189), (1, 0x03, 0));
        assert_eq!(masks(Direction::Out, 1023), (1, 0x3f, 0));
        assert_eq!(masks(Direction::In, 188), (1, 0x01, 0x0c));
        assert_eq!(masks(Direction::In, 940), (1, 0x01, 0xfc));
        assert_eq!(masks(Direction::In, 1023), (1, 0x01, 0xfc));
    }

    #[test]
    fn what_is_behind_a_translator_fills_90_percent_of_its_frame() {
        // 1023 bytes take 7.3 us and 798 us: one fits into 900 us, and 64 bytes of interrupt data beside it.
        let large = split(Kind::Isochronous(Direction::In), Speed::Full, 1023);
        let first = Plan::find(&large, core::iter::empty()).unwrap();
        assert!(Plan::find(&large, [first].into_iter()).is_none());
        let report = split(Kind::Interrupt(Direction::In), Speed::Full, 64);
        let second = Plan::find(&report, [first].into_iter()).unwrap();
        assert!(Plan::find(&report, [first, second].into_iter()).is_none());
        let elsewhere = Endpoint {
            translator: Some(Translator {
                hub_address: 2,
                hub_port: 1,
            }),
            ..large
        };
        assert!(Plan::find(&elsewhere, [first].into_iter()).is_some());
    }

    #[test]
    fn low_speed_endpoints_behind_a_translator_are_spread_over_frames() {
        // Eight bytes take 120 us at low speed.
        let keyboard = Endpoint {
            interval: 8,
            ..split(Kind::Interrupt(Direction::In), Speed::Low, 8)
        };
        let mut plans: Vec<Plan> = vec![];
        while let Some(plan) = Plan::find(&keyboard, plans.iter().copied()) {
            plans.push(plan);
        }
        assert_eq!(plans.len(), 8 * 7, "seven in each of eight frames");
    }

    #[test]
    fn endpoints_are_spread_over_frames_and_microframes() {
        let mut plans: Vec<Plan> = vec![];
        for _ in 0..16 {
            plans.push(Plan::find(&endpoint(5, 1024), plans.iter().copied()).unwrap());
        }
        let mut cells: Vec<_> = plans
            .iter()
            .map(|plan| (plan.slot.phase, plan.start_mask))
            .collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(
            cells.len(),
            16,
            "two frames of eight microframes, one endpoint in each"
        );
    }

    #[test]
    fn a_microframe_is_not_filled_beyond_80_percent() {
        // 1024 bytes take 20.8 us with all overhead: four fit into 100 us.
        let mut plans: Vec<Plan> = vec![];
        while let Some(plan) = Plan::find(&endpoint(1, 1024), plans.iter().copied()) {
            plans.push(plan);
        }
        assert_eq!(plans.len(), 4);
        assert!(Plan::find(&endpoint(16, 1024), plans.iter().copied()).is_none());
        assert!(Plan::find(&endpoint(16, 8), plans.iter().copied()).is_some());
    }
}
