//! Fair shares of a dispatcher's introduction, which has room for a bounded offer (`PROTOCOL.md` §5).
//!
//! A worker's offer takes its services in the order of their names. The *share* of a service is the part of the room
//! that it and those before it take together, measured in the resource they take most of: services, methods or bytes. A
//! service of several workers has the smallest of its shares. The introduction lists the smallest shares, as far as
//! there is room. So of n different offers, each that keeps within an n-th of the room is listed whole, whatever the
//! others are and whenever they came.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::ids::{MethodId, ServiceId};
use crate::proto::{
    fault::{Fault, planted},
    frame::{OfferRoom, OfferSize, TooLarge},
    message::ServiceOffer,
};

/// A share of the room, in 2^32nds. A worker's own offer takes at most the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Share(u64);

/// The shares of the services in a worker's offer, in the same order.
pub(super) fn shares_of(services: &[ServiceOffer], room: &OfferRoom) -> Vec<Share> {
    let mut sum = OfferSize::default();
    let share = |service: &ServiceOffer| {
        let own = OfferSize::of(service);
        sum.add(&own);
        let parts = [
            (sum.services, room.services),
            (sum.methods, room.methods),
            (sum.bytes, room.bytes),
            (own.bytes, OfferRoom::SERVICE_BYTES),
        ];
        let part = |(size, limit)| size as u128 * WHOLE / (limit as u128).max(1);
        let largest = parts.into_iter().map(part).max().unwrap_or(0);
        Share(if planted(Fault::SharesIgnored) { 0 } else { u64::try_from(largest).unwrap_or(u64::MAX) })
    };
    services.iter().map(share).collect()
}

/// The merged offer in order of shares, as far as an introduction has room for it; kept up to date by difference.
#[derive(Debug)]
pub(super) struct Shares {
    room: OfferRoom,
    /// The merged offer, listed or not.
    bundles: BTreeMap<Rank, Bundle>,
    /// The end of the room: bundles before it are listed, the rest is left out. `None` if there is room for all.
    end: Option<Rank>,
    /// The size of the listed part.
    listed: OfferSize,
}

/// A place in the order of admission. Names decide between equal shares, so that arrival does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) share: Share,
    pub(super) service: Arc<str>,
    pub(super) id: ServiceId,
}

/// A service's part of one share: itself, methods, or both. It is listed or left out as a whole.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) methods: BTreeSet<MethodId>,
    size: OfferSize,
}

impl Shares {
    pub(super) fn new(room: OfferRoom) -> Self {
        Self { room, bundles: BTreeMap::new(), end: None, listed: OfferSize::default() }
    }

    pub(super) fn room(&self) -> &OfferRoom {
        &self.room
    }

    /// Adds a method, or the service itself, of this size.
    pub(super) fn add(&mut self, rank: Rank, method: Option<MethodId>, size: &OfferSize) {
        if self.is_listed(&rank) {
            self.listed.add(size);
        }
        let bundle = self.bundles.entry(rank).or_default();
        bundle.methods.extend(method);
        bundle.size.add(size);
    }

    /// Removes what was added under this rank.
    pub(super) fn remove(&mut self, rank: &Rank, method: Option<MethodId>, size: &OfferSize) {
        if self.is_listed(rank) {
            self.listed.subtract(size);
        }
        let Some(bundle) = self.bundles.get_mut(rank) else { return };
        if let Some(method) = method {
            bundle.methods.remove(&method);
        }
        bundle.size.subtract(size);
        if bundle.size == OfferSize::default() {
            self.bundles.remove(rank);
        }
    }

    /// Leaves out bundles that no longer fit, and lists those that fit by now. Call it after each change, before the
    /// offer is read. Returns whether the two parts have changed.
    pub(super) fn settle(&mut self) -> bool {
        let mut is_changed = false;
        while self.room.check(&self.listed).is_err() {
            let last = self.listed_bundles().next_back().map(|(rank, bundle)| (rank.clone(), bundle.size));
            let Some((rank, size)) = last else { break };
            self.listed.subtract(&size);
            self.end = Some(rank);
            is_changed = true;
        }
        while let Some(end) = &self.end {
            let mut rest = self.bundles.range((Bound::Included(end), Bound::Unbounded));
            let Some((_, bundle)) = rest.next() else {
                self.end = None;
                break;
            };
            let size = self.listed.with(&bundle.size);
            if self.room.check(&size).is_err() {
                break;
            }
            (self.listed, self.end) = (size, rest.next().map(|(rank, _)| rank.clone()));
            is_changed = true;
        }
        is_changed
    }

    /// The listed bundles, in order of shares.
    pub(super) fn listed_bundles(&self) -> impl DoubleEndedIterator<Item = (&Rank, &Bundle)> {
        let end = self.end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        self.bundles.range((Bound::Unbounded, end))
    }

    /// The left-out bundles, in order of shares, and the limit that they would exceed.
    pub(super) fn left_out(&self) -> Option<(TooLarge, impl Iterator<Item = &Rank>)> {
        let mut rest = self.bundles.range((Bound::Included(self.end.as_ref()?), Bound::Unbounded)).peekable();
        let (_, first) = rest.peek()?;
        let limit = self.room.check(&self.listed.with(&first.size)).err()?;
        Some((limit, rest.map(|(rank, _)| rank)))
    }

    /// The size of an introduction with the listed part, in bytes.
    pub(super) fn bytes(&self) -> usize {
        OfferRoom::introduction_bytes(&self.listed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bundles.is_empty() && self.listed == OfferSize::default()
    }

    fn is_listed(&self, rank: &Rank) -> bool {
        self.end.as_ref().is_none_or(|end| rank < end)
    }
}

/// The whole room. Fine enough that rounding loses less than a byte of any READY.
const WHOLE: u128 = 1 << 32;
