//! Bandwidth of interrupt endpoints: which frames and microframes an endpoint gets (USB 2.0, sections 5.7.4 and 5.11.3).

use crate::endpoint::Endpoint;
use crate::port::Speed;
use crate::schedule::tree::Slot;

/// Periodic transfers may take 80 % of a microframe (USB 2.0, section 5.5.4).
const BUDGET_NS: u32 = 100_000;
/// Loads are kept for this many frames; an endpoint with a longer period is counted as if it had this one.
const WINDOW: usize = 32;
const LONGEST: u16 = crate::layout::FRAMES as u16;

/// The visits that an interrupt endpoint has been granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) slot: Slot,
    /// Microframes in which its transactions start.
    pub(crate) start_mask: u8,
    /// Microframes in which split transactions complete; zero at high speed.
    pub(crate) complete_mask: u8,
    /// Bus time of a visit in nanoseconds.
    cost: u32,
}

impl Plan {
    /// Finds the least loaded visits for an endpoint that was checked; none if there is no room.
    pub(crate) fn find(endpoint: &Endpoint, others: impl Iterator<Item = Plan>) -> Option<Self> {
        let mut load = [[0u32; 8]; WINDOW];
        for other in others {
            other.each(|cell| cell_mut(&mut load, cell, |ns| *ns += other.cost));
        }
        let cost = cost(endpoint) * u32::from(endpoint.transactions());
        let (period, masks) = shape(endpoint);
        let mut best: Option<(u32, Self)> = None;
        for phase in 0..period.min(WINDOW as u16) {
            for (start_mask, complete_mask) in masks.into_iter().flatten() {
                let plan = Self {
                    slot: Slot { period, phase },
                    start_mask,
                    complete_mask,
                    cost,
                };
                let mut worst = 0;
                plan.each(|cell| cell_mut(&mut load, cell, |ns| worst = worst.max(*ns + cost)));
                if worst <= BUDGET_NS && best.is_none_or(|(load, _)| worst < load) {
                    best = Some((worst, plan));
                }
            }
        }
        best.map(|(_, plan)| plan)
    }

    /// Visits each frame and microframe that the plan takes within the window.
    fn each(&self, mut visit: impl FnMut((usize, usize))) {
        let period = usize::from(self.slot.period).clamp(1, WINDOW);
        let first = usize::from(self.slot.phase) % period;
        for frame in (first..WINDOW).step_by(period) {
            for microframe in
                (0..8).filter(|m| (self.start_mask | self.complete_mask) & 1 << m != 0)
            {
                visit((frame, microframe));
            }
        }
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

/// Bus time of one transaction at high speed, bit stuffing at its worst (USB 2.0, section 5.11.3).
fn cost(endpoint: &Endpoint) -> u32 {
    // 55 bytes of overhead and 2.083 ns per bit; bit stuffing makes seven bits of six.
    let bits = 55 * 8 + 3 + endpoint.packet_bytes() * 8 * 7 / 6;
    bits * 2083 / 1000
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
        return ((1 << exponent.saturating_sub(3)).min(LONGEST), masks);
    }
    // One start-split, and complete-splits two to four microframes later (hardware notes, section 3.8); starts after
    // microframe 3 would have to complete in the next frame, which a queue head cannot say without an FSTN.
    for (shift, mask) in masks.iter_mut().enumerate().take(4) {
        *mask = Some((0x01 << shift, 0x1c << shift));
    }
    // Not less often than the device asks for.
    let interval = u16::from(endpoint.interval.max(1));
    (1 << interval.ilog2(), masks)
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
