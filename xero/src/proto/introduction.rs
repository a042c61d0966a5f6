//! This side's introduction, and how its services have changed since a peer received it (`PROTOCOL.md` §5).

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    frame::{OfferRoom, OfferSize, header_bytes},
    message::{Message, OfferChange, Ready, ServiceOffer},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Introduction {
    ready: Ready,
    /// The size of READY's header frame.
    ready_bytes: usize,
    revision: Revision,
    /// The names of changed services, each with the revision of its change, the oldest first.
    changes: VecDeque<(Revision, Arc<str>)>,
    /// The revision since which every change is kept.
    kept_since: Revision,
}

/// The number of changes of the services so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Revision(u64);

impl Introduction {
    pub(crate) fn new(ready: Ready) -> Self {
        let ready_bytes = OfferRoom::introduction_bytes(&OfferSize::of_all(&ready.services));
        Self { ready, ready_bytes, revision: Revision(0), changes: VecDeque::new(), kept_since: Revision(0) }
    }

    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Sets the services, sorted by name. Returns whether they have changed.
    ///
    /// The changes are kept as far as one READY has services: whoever has missed more of them gets READY again.
    pub(crate) fn set_services(&mut self, services: Vec<ServiceOffer>) -> bool {
        let former = std::mem::replace(&mut self.ready.services, services);
        let names = differing(&former, &self.ready.services);
        if names.is_empty() {
            return false;
        }
        self.ready_bytes = OfferRoom::introduction_bytes(&OfferSize::of_all(&self.ready.services));
        self.revision.0 += 1;
        self.changes.extend(names.into_iter().map(|name| (self.revision, name)));
        let kept_max = former.len().max(self.ready.services.len());
        while self.changes.len() > kept_max {
            self.kept_since = self.changes.pop_front().map_or(self.kept_since, |(revision, _)| revision);
        }
        true
    }

    /// The message that brings a peer up to date: OFFER if the peer reads it, knows the services of that revision, and
    /// OFFER is shorter; otherwise READY.
    pub(crate) fn message_since(&self, known: Option<Revision>) -> Message {
        let change = known.filter(|known| *known >= self.kept_since).map(|known| self.change_since(known));
        let offer = change.map(Message::Offer).filter(|offer| header_bytes(offer) < self.ready_bytes);
        offer.unwrap_or_else(|| Message::Ready(self.ready.clone()))
    }

    fn change_since(&self, known: Revision) -> OfferChange {
        let start = self.changes.partition_point(|(revision, _)| *revision <= known);
        let names: BTreeSet<_> = self.changes.range(start..).map(|(_, name)| name).collect();
        let mut change = OfferChange::default();
        for name in names {
            match self.ready.services.binary_search_by(|service| service.name.cmp(name)) {
                Ok(place) => change.changed.push(self.ready.services[place].clone()),
                Err(_) => change.withdrawn.push(Arc::clone(name)),
            }
        }
        change
    }
}

/// The names of services that differ between two offers, both sorted by name.
fn differing(former: &[ServiceOffer], latter: &[ServiceOffer]) -> Vec<Arc<str>> {
    let (mut former, mut latter) = (former.iter().peekable(), latter.iter().peekable());
    let mut names = Vec::new();
    while let Some(name) = former.peek().into_iter().chain(latter.peek()).map(|service| Arc::clone(&service.name)).min()
    {
        let [before, after] = [&mut former, &mut latter].map(|offers| offers.next_if(|service| service.name == name));
        if before != after {
            names.push(name);
        }
    }
    names
}
