//! Changes of workers' offers that are yet to be made, and their pace.
//!
//! A change costs as much as the whole offer and the calls that wait for it, but takes only some bytes to ask for. So
//! changes that have cost much make those after them wait, and those of one worker are made together: its introduction,
//! its services and its credits.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::proto::{
    frame::OfferRoom,
    message::{OfferChange, Peer, Ready},
    registry::{Credits, Draft, Renewal, draft_bytes},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Changes {
    /// The room of an introduction.
    room: OfferRoom,
    /// The memory that changes may take, estimated, before there is no room for another.
    bytes_max: u64,
    bytes: u64,
    pending: BTreeMap<Peer, Pending>,
    /// The workers in `pending`, in the order of their arrival.
    order: BTreeMap<u64, Peer>,
    arrivals: u64,
    /// What the changes up to an instant have cost, and is not spread over time yet.
    debt: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Pending {
    renewal: Renewal,
    arrival: u64,
}

impl Changes {
    /// Changes within the room of an introduction each. None is added once they take more than this memory.
    pub(super) fn new(room: OfferRoom, bytes_max: u64) -> Self {
        Self { room, bytes_max, bytes: 0, pending: BTreeMap::new(), order: BTreeMap::new(), arrivals: 0, debt: None }
    }

    /// Replaces a worker's offer by that of a new introduction.
    ///
    /// # Errors
    /// Why there is no room for it, and what to do about it.
    pub(super) fn replace(&mut self, peer: Peer, ready: Ready, draft: Draft) -> Result<(), String> {
        let arrival = self.remove(peer).map(|pending| pending.arrival);
        self.put(peer, Renewal { draft, ready: Some(ready), credits: None }, arrival)
    }

    /// Changes services of a worker, whose offer is this.
    ///
    /// # Errors
    /// The result exceeds a limit, or the memory: what to do about it.
    pub(super) fn change(
        &mut self,
        peer: Peer,
        change: OfferChange,
        offer: impl FnOnce() -> Option<Draft>,
    ) -> Result<(), String> {
        let (mut renewal, arrival) = match self.remove(peer) {
            Some(Pending { renewal, arrival }) => (renewal, Some(arrival)),
            None => {
                let Some(draft) = offer() else { return Ok(()) };
                (Renewal { draft, ready: None, credits: None }, None)
            }
        };
        renewal.draft.change(change);
        self.room.check(renewal.draft.size()).map_err(|limit| limit.to_string())?;
        self.put(peer, renewal, arrival)
    }

    /// Notes a worker's credits; `false` if they need not wait.
    pub(super) fn set_credits(&mut self, peer: Peer, last: u32) -> bool {
        let Some(Pending { renewal, .. }) = self.pending.get_mut(&peer) else { return false };
        let were_any = renewal.credits.is_some_and(|credits| credits.were_any) || last > 0;
        renewal.credits = Some(Credits { last, were_any });
        true
    }

    /// Takes the next change to make, unless those before have cost so much that others must have their turn.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Peer, Renewal)> {
        if self.due_at().is_some_and(|at| at > now) {
            return None;
        }
        let (_, peer) = self.order.first_key_value()?;
        let peer = *peer;
        Some((peer, self.take(peer)?))
    }

    /// Takes a worker's changes, because they are made, or because it is gone.
    pub(super) fn take(&mut self, peer: Peer) -> Option<Renewal> {
        self.remove(peer).map(|pending| pending.renewal)
    }

    /// Notes the cost of a change: methods, and places of waiting calls, that were looked at.
    pub(super) fn note_cost(&mut self, now: Instant, cost: usize) {
        let left =
            self.debt.map_or(Duration::ZERO, |(at, debt)| debt.saturating_sub(now.saturating_duration_since(at)));
        let price = PRICE.saturating_mul(u32::try_from(cost).unwrap_or(u32::MAX)).min(PRICE_MAX);
        self.debt = Some((now, left + price));
    }

    /// When the next change may be made, if there is one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let (at, debt) = self.debt?;
        self.order.first_key_value().map(|_| at + debt.saturating_sub(BURST))
    }

    /// What a worker is to offer, if that is to change.
    pub(super) fn draft_of(&self, peer: Peer) -> Option<&Draft> {
        self.pending.get(&peer).map(|pending| &pending.renewal.draft)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.bytes == 0
    }

    /// Keeps a worker's changes, in the place of its former ones.
    fn put(&mut self, peer: Peer, renewal: Renewal, arrival: Option<u64>) -> Result<(), String> {
        let max = self.bytes_max;
        if self.bytes > max {
            return Err(format!("changes of other workers leave no room in {max} bytes; raise `offers_bytes_max`"));
        }
        self.bytes += draft_bytes(renewal.draft.size());
        self.arrivals += 1;
        let arrival = arrival.unwrap_or(self.arrivals);
        self.order.insert(arrival, peer);
        self.pending.insert(peer, Pending { renewal, arrival });
        Ok(())
    }

    fn remove(&mut self, peer: Peer) -> Option<Pending> {
        let pending = self.pending.remove(&peer)?;
        self.order.remove(&pending.arrival);
        self.bytes -= draft_bytes(pending.renewal.draft.size());
        Some(pending)
    }
}

/// The time that changes are spread over, for each method or place looked at: about twice what that takes.
const PRICE: Duration = Duration::from_micros(1);

/// The longest pause after a change.
const PRICE_MAX: Duration = Duration::from_secs(1);

/// Changes are made at once as long as they take less than this together.
const BURST: Duration = Duration::from_millis(20);
