//! The faults that wait for their requests, in the order they were added: the first that is due
//! takes the request, and only that one.

use super::spec::{self, FaultSpecError};
use super::{Fault, FaultKind};
use crate::endpoints::Endpoint;
use crate::rng::Rng;
use crate::simulator::Simulator;

/// The faults of a simulator.
#[derive(Debug)]
pub struct Faults<'a> {
    simulator: &'a Simulator,
}

impl<'a> Faults<'a> {
    pub(crate) fn of(simulator: &'a Simulator) -> Self {
        Self { simulator }
    }

    /// Adds a fault behind the others.
    pub fn push(&self, fault: Fault) {
        self.simulator.state().faults.push(fault);
    }

    /// Adds a fault given in words; the grammar stands in the README.
    pub fn push_spec(&self, spec: &str) -> Result<(), FaultSpecError> {
        self.push(spec::parse(spec)?);
        Ok(())
    }

    /// The faults that wait, each as it was added.
    #[must_use]
    pub fn waiting(&self) -> Vec<Fault> {
        self.simulator.state().faults.waiting.iter().map(|waiting| waiting.fault.clone()).collect()
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.simulator.state().faults.waiting.clear();
    }
}

/// How far a request has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Only its head: the room is not known yet.
    Head,
    /// All of it.
    Whole,
}

pub(crate) struct FaultQueue {
    waiting: Vec<Waiting>,
    rng: Rng,
}

struct Waiting {
    fault: Fault,
    /// How many requests fitted.
    seen: u64,
    /// How many of them it took.
    taken: u64,
}

impl FaultQueue {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { waiting: Vec::new(), rng: Rng::seeded(seed) }
    }

    fn push(&mut self, fault: Fault) {
        self.waiting.push(Waiting { fault, seen: 0, taken: 0 });
    }

    /// The fault that takes this request. Faults that strike before the body is read are asked at
    /// [`Stage::Head`], the others at [`Stage::Whole`].
    pub(crate) fn take(
        &mut self,
        stage: Stage,
        endpoint: Endpoint,
        room: Option<i64>,
    ) -> Option<Fault> {
        let mut taken = None;
        for waiting in &mut self.waiting {
            if waiting.fault.stage() != stage || !waiting.fault.when.fits(endpoint, room) {
                continue;
            }
            waiting.seen += 1;
            if taken.is_none() && waiting.fault.when.is_due(waiting.seen, &mut self.rng) {
                waiting.taken += 1;
                taken = Some(waiting.fault.clone());
            }
        }
        self.waiting
            .retain(|waiting| waiting.fault.when.times.is_none_or(|times| waiting.taken < times));
        taken
    }
}

impl Fault {
    /// One that names a room can only strike when the body told it.
    fn stage(&self) -> Stage {
        let unread = self.what.iter().any(|kind| {
            matches!(kind, FaultKind::Refuse | FaultKind::Blackhole | FaultKind::CloseUnread(_))
        });
        if unread && self.when.room.is_none() { Stage::Head } else { Stage::Whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Matcher;

    fn taken(when: Matcher, requests: usize) -> Vec<usize> {
        let mut queue = FaultQueue::seeded(1);
        queue.push(Fault::new(when, FaultKind::Silent));
        (1..=requests)
            .filter(|_| queue.take(Stage::Whole, Endpoint::SendMsg, Some(1536)).is_some())
            .collect()
    }

    #[test]
    fn a_fault_takes_the_requests_it_counts() {
        let send = || Matcher::on(Endpoint::SendMsg);
        assert_eq!(taken(send(), 4), [1]);
        assert_eq!(taken(send().times(2), 4), [1, 2]);
        assert_eq!(taken(send().nth(3), 4), [3]);
        assert_eq!(taken(send().every(2), 6), [2, 4, 6]);
        assert_eq!(taken(send().always(), 3), [1, 2, 3]);
        assert_eq!(taken(send().room(1536).always(), 2), [1, 2]);
        assert_eq!(taken(send().room(9).always(), 2), [0_usize; 0]);
        assert_eq!(taken(Matcher::on(Endpoint::GetRooms).always(), 2), [0_usize; 0]);
    }

    #[test]
    fn a_probability_is_about_right_and_the_same_for_the_same_seed() {
        let half = || taken(Matcher::any().probability(0.5), 1000);
        assert!((400..600).contains(&half().len()));
        assert_eq!(half(), half());
        assert_eq!(taken(Matcher::any().probability(0.0), 100), [0_usize; 0]);
        assert_eq!(taken(Matcher::any().probability(1.0), 100).len(), 100);
    }

    #[test]
    fn two_faults_take_turns_in_the_order_they_were_added() {
        let mut queue = FaultQueue::seeded(1);
        queue.push(Fault::new(Matcher::any(), FaultKind::Silent));
        queue.push(Fault::new(Matcher::any(), FaultKind::Late(1)));
        let mut next = || queue.take(Stage::Whole, Endpoint::SendMsg, None).map(|fault| fault.what);
        assert_eq!(next(), Some(vec![FaultKind::Silent]));
        assert_eq!(next(), Some(vec![FaultKind::Late(1)]));
        assert_eq!(next(), None);
    }
}
