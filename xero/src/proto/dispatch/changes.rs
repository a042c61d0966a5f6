//! Changes of workers' offers that are yet to be made, and their pace.
//!
//! A change costs as much as the whole offer and the calls that wait for it, but takes only some bytes to ask for.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::proto::{
    frame::Limits,
    message::{OfferChange, Peer, ServiceOffer},
    registry::Offer,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pending: BTreeMap<Peer, Pending>,
    /// The keys of `pending`, in the order of their arrival.
    order: VecDeque<Peer>,
    /// What the changes up to an instant have cost, and is not spread over time yet.
    debt: Option<(Instant, Duration)>,
}

/// What is to become of a worker's offer.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// A new offer; otherwise the worker's own is changed.
    offer: Option<Offer>,
    /// By name: the service, or that it is gone.
    services: BTreeMap<Arc<str>, Option<ServiceOffer>>,
}

impl Changes {
    /// Replaces a worker's offer.
    pub(super) fn replace(&mut self, peer: Peer, offer: Offer) {
        *self.entry(peer) = Pending { offer: Some(offer), services: BTreeMap::new() };
    }

    /// Changes a worker's offer. What waits stays within twice the limits of an introduction: that much is gone, or new.
    ///
    /// # Errors
    /// No introduction holds so much.
    pub(super) fn change(&mut self, peer: Peer, change: OfferChange, limits: &Limits) -> Result<(), String> {
        let services = &mut self.entry(peer).services;
        services.extend(change.withdrawn.into_iter().map(|name| (name, None)));
        services.extend(change.changed.into_iter().map(|service| (Arc::clone(&service.name), Some(service))));
        let methods = services.values().flatten().map(|service| service.methods.len()).sum();
        let within = |what, count: usize, max: usize, setter| match count > max.saturating_mul(2) {
            true => Err(format!(
                "{count} {what} are changed at once, more than twice the limit of {max} (raise `{setter}`)"
            )),
            false => Ok(()),
        };
        within("services", services.len(), limits.services_max, "services_max")?;
        within("methods", methods, limits.methods_max, "methods_max")
    }

    /// Takes the next change to make, unless those before have cost so much that others must have their turn.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Peer, Pending)> {
        if self.due_at().is_some_and(|at| at > now) {
            return None;
        }
        let peer = self.order.front().copied()?;
        Some((peer, self.take(peer)?))
    }

    /// Takes a worker's changes, because they must be made now, or because it is gone.
    pub(super) fn take(&mut self, peer: Peer) -> Option<Pending> {
        let pending = self.pending.remove(&peer)?;
        self.order.retain(|other| *other != peer);
        Some(pending)
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
        self.order.front().map(|_| at + debt.saturating_sub(BURST))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn entry(&mut self, peer: Peer) -> &mut Pending {
        if !self.pending.contains_key(&peer) {
            self.order.push_back(peer);
        }
        self.pending.entry(peer).or_default()
    }
}

impl Pending {
    /// The new offer, and the changes of services.
    pub(super) fn into_parts(self) -> (Option<Offer>, OfferChange) {
        let mut change = OfferChange::default();
        for (name, service) in self.services {
            match service {
                Some(service) => change.changed.push(service),
                None => change.withdrawn.push(name),
            }
        }
        (self.offer, change)
    }
}

/// The time that changes are spread over, for each method or place looked at: about twice what that takes.
const PRICE: Duration = Duration::from_micros(1);

/// The longest pause after a change.
const PRICE_MAX: Duration = Duration::from_secs(1);

/// Changes are made at once as long as they take less than this together.
const BURST: Duration = Duration::from_millis(20);
