//! The merged offer of all workers, kept up to date by difference.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::{
    ids::{MethodId, ServiceId},
    index::{Agreed, Index, Method, Service},
    kind::{Kind, Signature},
    shares::{Rank, Share},
};
use crate::proto::{
    fault::{Fault, planted},
    frame::{OfferRoom, OfferSize, TooLarge},
    message::{MethodOffer, Names, ServiceOffer},
};

/// The merged offer in an introduction.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Sorted.
    pub(crate) services: Vec<ServiceOffer>,
    /// The first services that are missing or incomplete, and the limit that they would exceed.
    pub(crate) left_out: Vec<(Arc<str>, TooLarge)>,
    /// The size of the introduction, in bytes.
    pub(crate) bytes: usize,
}

impl Method {
    /// The properties that the serving workers agree on, if there are any.
    pub(super) fn merged(&self) -> Option<Agreed> {
        let signatures = [self.groups.from(Kind::first(Signature::Exact(0))).next()?.0, self.groups.last()?];
        let [first, last] = signatures.map(|kind| kind.signature);
        let fingerprint = match first {
            Signature::Exact(fingerprint) if first == last => fingerprint,
            // 0 stands for an unchecked signature: the worker itself checks it.
            _ => 0,
        };
        let idempotent = self.with(Signature::Any).all(|(kind, _)| kind.idempotent);
        Some(Agreed { idempotent, fingerprint, share: *self.shares.first()? })
    }
}

impl Index {
    /// Updates a method in the merged offer.
    pub(super) fn merge(&mut self, id: MethodId) {
        let method = self.method_mut(id);
        let merged = method.merged();
        let before = std::mem::replace(&mut method.agreed, merged);
        if before == merged {
            return;
        }
        let (service, name, size) = (method.service, Arc::clone(&method.name), OfferSize::of_method(&method.name));
        self.revision += 1;
        if before.is_some() != merged.is_some() {
            self.service_mut(service).offered.change(name, merged.is_some());
        }
        let (before, after) = (before.map(|agreed| agreed.share), merged.map(|agreed| agreed.share));
        self.change_share(service, Some(id), (before, after), &size);
    }

    /// Counts one pool more, or one less, with this version of the service and this share of the introduction.
    pub(super) fn count_service(&mut self, id: ServiceId, version: u32, share: Share, is_served: bool) {
        let service = self.service_mut(id);
        let before = (service.version(), service.share());
        service.versions.count(version, is_served);
        service.shares.count(share, is_served);
        let after = (service.version(), service.share());
        if before == after {
            return;
        }
        let (name, size) = (Arc::clone(&service.name), OfferSize::of_service(&service.name));
        self.revision += 1;
        self.change_share(id, None, (before.1, after.1), &size);
        if before.0.is_some() != after.0.is_some() {
            self.offered.change(name, after.0.is_some());
            self.note_service(id);
        }
    }

    /// The offered services, sorted, as far as an error lists them; shared until they change.
    pub(super) fn service_names(&mut self) -> Names {
        self.offered.first()
    }

    pub(super) fn services_offered(&self) -> impl Iterator<Item = &Arc<str>> {
        self.offered.names()
    }

    /// The offered methods of a service, sorted, as far as an error lists them; shared until they change.
    pub(super) fn method_names(&mut self, service: &str) -> Names {
        let id = self.find_service(service).map(|(id, _)| id);
        id.map(|id| self.service_mut(id).offered.first()).unwrap_or_default()
    }

    /// The merged offer, as far as an introduction has room for it.
    pub(super) fn listing(&self) -> Listing {
        let mut listed = BTreeMap::<_, (ServiceOffer, OfferSize)>::new();
        let mut left_out = Vec::new();
        for (rank, bundle) in self.shares.listed_bundles() {
            let (offer, size) = match listed.entry(rank.id) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert((self.bare(rank), OfferSize::of_service(&rank.service))),
            };
            let methods = bundle.methods.iter().filter_map(|id| self.method(*id));
            let with = methods.clone().fold(*size, |size, method| size.with(&OfferSize::of_method(&method.name)));
            match OfferRoom::check_service(&with) {
                Ok(()) => {
                    *size = with;
                    offer.methods.extend(methods.filter_map(Method::offer));
                }
                Err(limit) => left_out.push((Arc::clone(&rank.service), limit)),
            }
        }
        let mut services: Vec<_> = listed.into_values().map(|(offer, _)| offer).collect();
        services.iter_mut().for_each(|offer| offer.methods.sort_unstable_by(|one, other| one.name.cmp(&other.name)));
        services.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        if let Some((limit, ranks)) = self.shares.left_out() {
            left_out.extend(ranks.map(|rank| (Arc::clone(&rank.service), limit)).take(LEFT_OUT_MAX));
        }
        Listing { services, left_out, bytes: self.shares.bytes() }
    }

    /// A service without methods.
    fn bare(&self, rank: &Rank) -> ServiceOffer {
        let version = self.service(rank.id).version().unwrap_or_default();
        ServiceOffer { name: Arc::clone(&rank.service), version, methods: Vec::new() }
    }

    fn change_share(
        &mut self,
        id: ServiceId,
        method: Option<MethodId>,
        (before, after): (Option<Share>, Option<Share>),
        size: &OfferSize,
    ) {
        if before == after {
            return;
        }
        let service = Arc::clone(&self.service(id).name);
        let rank = |share| Rank { share, service: Arc::clone(&service), id };
        if let Some(share) = before {
            self.shares.remove(&rank(share), method, size);
        }
        if let Some(share) = after {
            self.shares.add(rank(share), method, size);
        }
    }
}

impl Method {
    fn offer(&self) -> Option<MethodOffer> {
        let Agreed { idempotent, fingerprint, .. } = self.agreed?;
        Some(MethodOffer { name: Arc::clone(&self.name), idempotent, fingerprint })
    }
}

impl Service {
    /// The latest offered version.
    pub(super) fn version(&self) -> Option<u32> {
        if planted(Fault::EarliestVersion) {
            return self.versions.first().copied();
        }
        self.versions.last().copied()
    }

    /// Its smallest share of the introduction.
    fn share(&self) -> Option<Share> {
        self.shares.first().copied()
    }
}

/// The most left-out services to report: as many as a READY has by default.
const LEFT_OUT_MAX: usize = 256;
