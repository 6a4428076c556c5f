//! The periodic schedule: the frame list, interrupt queue heads, and nodes that span frames (EHCI, 4.6, 4.10.7, 4.12.2.2).

use std::collections::HashMap;

use super::Ehci;
use super::descriptor::{Link, Qh, status as token};
use super::memory::Stop;
use super::queue::Visit;
use crate::device::Speed;
use crate::{Descriptor, Structure};

/// Links that are followed in a microframe before it is clear that they do not end.
const PATIENCE: u32 = 1024;
/// Queue heads that are fetched ahead.
const AHEAD: usize = 8;

#[derive(Default)]
pub(super) struct Periodic {
    /// The entry of the frame list and the queue heads behind it, fetched for the next microframe already.
    ahead: Option<(u32, Link)>,
    held: Vec<Qh>,
    /// Queue heads as they were when the controller touched them last.
    pub known: HashMap<u32, [u32; 12]>,
}

impl Periodic {
    /// The schedule was switched off: nothing is held.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

/// Where the traversal is on its way through nodes that span frames (4.12.2.2.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Normal,
    /// On the way back through the frame before; where to go on afterwards.
    Recovery(Descriptor, Link),
}

impl Ehci {
    /// Executes what is due in this microframe.
    pub(super) fn run_periodic(&mut self) -> Result<(), Stop> {
        let entry = self.entry(0);
        let mut link = match self.periodic.ahead.take() {
            Some((address, link)) if address == entry.address => link,
            _ => Link(self.master.fetch::<1>(entry)?[0]),
        };
        let mut from = entry;
        let mut mode = Mode::Normal;
        for _ in 0..PATIENCE {
            if link.terminates() {
                self.periodic.held.clear();
                return self.fetch_frame_ahead();
            }
            let target = self.master.follow(from, link)?;
            (from, link) = match target.kind {
                Structure::Qh => {
                    let mut head = self.periodic_head(target.address)?;
                    let recovers = mode != Mode::Normal;
                    if !recovers || self.is_completing(&head) {
                        self.visit_periodic(&mut head)?;
                    }
                    (target, head.link())
                }
                Structure::Fstn => {
                    let [normal, back] = self.master.fetch::<2>(target)?.map(Link);
                    self.span(&mut mode, target, normal, back)
                }
                // On the way back only queue heads count.
                _ if mode != Mode::Normal => (target, Link(self.master.fetch::<1>(target)?[0])),
                Structure::SiTd => (target, self.execute_sitd(target)?),
                _ => (target, self.execute_itd(target)?),
            };
        }
        self.master.undefined(
            entry,
            "links in the periodic schedule that do not end (4.6)",
        );
        Ok(())
    }

    /// The entry of the frame list for a microframe from now.
    fn entry(&self, later: u32) -> Descriptor {
        let frame =
            self.registers.frame.wrapping_add(later) >> 3 & (self.registers.frame_list() - 1);
        Descriptor {
            kind: Structure::FrameListEntry,
            address: self.registers.periodic + 4 * frame,
        }
    }

    /// FSTN: with a back path it saves the place and goes back in microframes 0 and 1; without one that way ends (4.12.2.2.2).
    fn span(
        &mut self,
        mode: &mut Mode,
        node: Descriptor,
        normal: Link,
        back: Link,
    ) -> (Descriptor, Link) {
        match *mode {
            Mode::Normal if !back.terminates() && self.registers.frame & 7 < 2 => {
                *mode = Mode::Recovery(node, normal);
                (node, back)
            }
            Mode::Recovery(place, next) if back.terminates() => {
                *mode = Mode::Normal;
                (place, next)
            }
            _ => (node, normal),
        }
    }

    fn periodic_head(&mut self, address: u32) -> Result<Qh, Stop> {
        let held = self
            .periodic
            .held
            .iter()
            .find(|head| head.address == address);
        let head = match held {
            Some(head) => *head,
            None => self.master.fetch_qh(address)?,
        };
        self.periodic.known.insert(address, head.words);
        Ok(head)
    }

    /// Fetches what is due in the next microframe, if that pleases the adversary.
    fn fetch_frame_ahead(&mut self) -> Result<(), Stop> {
        if !self.master.adversary.decide() {
            return Ok(());
        }
        let entry = self.entry(1);
        let mut link = Link(self.master.fetch::<1>(entry)?[0]);
        self.periodic.ahead = Some((entry.address, link));
        while self.periodic.held.len() < AHEAD && !link.terminates() && !link.is_misaligned() {
            let target = link.target();
            if target.kind != Structure::Qh {
                break;
            }
            let head = self.master.fetch_qh(target.address)?;
            link = head.link();
            self.periodic.held.push(head);
        }
        Ok(())
    }

    fn visit_periodic(&mut self, head: &mut Qh) -> Result<(), Stop> {
        if head.is_head() {
            let what = "a head of the reclamation list in the periodic schedule (3.6.2)";
            self.master.undefined(head.descriptor(), what);
        }
        if let Some(speed @ (Speed::Low | Speed::Full)) = head.speed() {
            return self.execute_split_interrupt(head, speed);
        }
        let now = 1 << (self.registers.frame & 7);
        if head.start_mask() == 0 && head.token().has(token::ACTIVE) {
            let what = "no microframe for an interrupt endpoint (3.6.3)";
            self.master.undefined(head.descriptor(), what);
        }
        if head.start_mask() & now == 0 {
            return Ok(());
        }
        if head.mult() == 0 && head.token().has(token::ACTIVE) {
            let what = "no transactions in a microframe: Mult is 0 (3.6.3)";
            self.master.undefined(head.descriptor(), what);
        }
        for _ in 0..head.mult() {
            let before = head.token();
            match self.execute(head)? {
                Visit::NoTime => {
                    self.statistics.missed += 1;
                    break;
                }
                Visit::Idle => break,
                // More in the same microframe only while data move and the qTD goes on (4.10.3).
                Visit::Worked => {
                    let after = head.token();
                    if !after.has(token::ACTIVE) || after.bytes() == before.bytes() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a queue head waits for the result of a split transaction: all that counts on the way back (4.12.2.2.2).
    fn is_completing(&self, head: &Qh) -> bool {
        let split = head.speed() != Some(Speed::High);
        split && head.token().has(token::ACTIVE) && head.token().has(token::SPLIT_COMPLETE)
    }
}
