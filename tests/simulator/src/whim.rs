//! Policies of many kinds that choose a worker, also such as break the rules.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use fastrand::Rng;
use xero::proto::{
    message::Peer,
    registry::{Candidate, WorkerChoice},
};

/// How a process chooses among the workers that can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whim {
    LeastRecentlyUsed,
    LeastLoaded,
    Last,
    /// Chooses nobody now and then.
    Shy,
    /// Chooses somebody who is not offered now and then.
    Stray,
}

impl Whim {
    /// Whether a call may wait although somebody could take it.
    pub(super) fn may_refuse(self) -> bool {
        matches!(self, Self::Shy | Self::Stray)
    }

    /// The policy; it keeps to the rules once all faults have ended.
    pub(super) fn policy(self, seed: u64, is_healed: &Arc<AtomicBool>) -> Box<dyn WorkerChoice> {
        Box::new(Policy {
            whim: self,
            random: Rng::with_seed(seed),
            seen: Vec::new(),
            is_healed: Arc::clone(is_healed),
        })
    }
}

#[derive(Debug)]
struct Policy {
    whim: Whim,
    random: Rng,
    /// The workers that have been candidates.
    seen: Vec<Peer>,
    is_healed: Arc<AtomicBool>,
}

impl WorkerChoice for Policy {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        let is_odd = !self.is_healed.load(Ordering::Relaxed) && self.random.u8(0..3) == 0;
        match self.whim {
            Whim::Shy if is_odd => None,
            Whim::Stray if is_odd => Some(self.stray()),
            Whim::LeastLoaded => candidates.min_by_key(|candidate| candidate.in_flight).map(|candidate| candidate.peer),
            Whim::Last => candidates.last().map(|candidate| candidate.peer),
            Whim::LeastRecentlyUsed | Whim::Shy => candidates.next().map(|candidate| candidate.peer),
            Whim::Stray => {
                let first = candidates.next().map(|candidate| candidate.peer);
                self.seen.extend(first.filter(|peer| !self.seen.contains(peer)));
                first
            }
        }
    }
}

impl Policy {
    /// A worker that was offered before, or that never was.
    fn stray(&mut self) -> Peer {
        match self.seen.is_empty() || self.random.u8(0..4) == 0 {
            true => Peer(self.random.u64(0..20)),
            false => self.seen[self.random.usize(0..self.seen.len())],
        }
    }
}
