//! A worker's offer and limits; workers with equal offers are interchangeable.

use std::{collections::BTreeMap, sync::Arc};

use crate::proto::{
    fault::{Fault, planted},
    frame::OfferSize,
    message::{Codec, OfferChange, Ready, ServiceOffer},
};

/// A worker's announcement, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offer {
    pub(super) services: Vec<ServiceOffer>,
    pub(super) payload_bytes_max: u64,
    pub(super) codecs: Codecs,
}

impl Offer {
    /// Takes the services of an introduction.
    pub(crate) fn take(ready: &mut Ready) -> Self {
        let services = std::mem::take(&mut ready.services);
        Self::new(services, ready.payload_bytes_max, Codecs::of(&ready.codecs))
    }

    /// Whether the change makes no difference. One that withdraws a service and offers it again counts as a difference.
    pub(super) fn is_as_after(&self, change: &OfferChange) -> bool {
        let find = |name: &str| self.services.binary_search_by(|service| (*service.name).cmp(name)).ok();
        change.withdrawn.iter().all(|name| find(name).is_none())
            && change.changed.iter().all(|service| find(&service.name).is_some_and(|at| self.services[at] == *service))
    }

    /// The number of its methods, and one for each service.
    pub(super) fn method_count(&self) -> usize {
        self.services.len() + self.services.iter().map(|service| service.methods.len()).sum::<usize>()
    }

    /// If a service or a method is named twice, the last mention counts.
    fn new(services: Vec<ServiceOffer>, payload_bytes_max: u64, codecs: Codecs) -> Self {
        let by_name: BTreeMap<_, _> =
            services.into_iter().map(|service| (Arc::clone(&service.name), service)).collect();
        let sorted = |mut service: ServiceOffer| {
            if !service.methods.is_sorted_by(|one, next| one.name < next.name) {
                let by_name: BTreeMap<_, _> =
                    service.methods.drain(..).map(|method| (Arc::clone(&method.name), method)).collect();
                service.methods = by_name.into_values().collect();
            }
            service
        };
        Self { services: by_name.into_values().map(sorted).collect(), payload_bytes_max, codecs }
    }
}

/// A worker's offer while it changes.
#[derive(Debug)]
pub(crate) struct Draft {
    services: BTreeMap<Arc<str>, ServiceOffer>,
    size: OfferSize,
    payload_bytes_max: u64,
    codecs: Codecs,
}

impl Draft {
    pub(crate) fn of(offer: Offer) -> Self {
        let Offer { services, payload_bytes_max, codecs } = offer;
        let size = OfferSize::of_all(&services);
        let services = services.into_iter().map(|service| (Arc::clone(&service.name), service)).collect();
        Self { services, size, payload_bytes_max, codecs }
    }

    pub(crate) fn change(&mut self, change: OfferChange) {
        for name in change.withdrawn.iter().filter(|_| !planted(Fault::WithdrawnKept)) {
            self.remove(name);
        }
        for service in change.changed {
            self.remove(&service.name);
            self.size.add(&OfferSize::of(&service));
            self.services.insert(Arc::clone(&service.name), service);
        }
    }

    pub(crate) fn size(&self) -> &OfferSize {
        &self.size
    }

    pub(crate) fn offers(&self, service: &str, method: &str) -> bool {
        self.services.get(service).is_some_and(|service| service.methods.iter().any(|other| &*other.name == method))
    }

    pub(crate) fn finish(self) -> Offer {
        Offer::new(self.services.into_values().collect(), self.payload_bytes_max, self.codecs)
    }

    fn remove(&mut self, name: &str) {
        if let Some(service) = self.services.remove(name) {
            self.size.subtract(&OfferSize::of(&service));
        }
    }
}

/// The memory that an offer of this size takes while it changes, estimated from above.
pub(crate) fn draft_bytes(size: &OfferSize) -> u64 {
    (size.bytes + SERVICE_BYTES * (1 + size.services) + METHOD_BYTES * size.methods) as u64
}

/// The memory that an offer of these services takes in the index, estimated from above.
pub(super) fn memory_bytes(services: &[ServiceOffer]) -> u64 {
    let of_service = |service: &ServiceOffer| {
        let names: usize = service.methods.iter().map(|method| method.name.len()).sum();
        service.name.len() + names + SERVICE_BYTES + METHOD_BYTES * service.methods.len()
    };
    (SERVICE_BYTES + services.iter().map(of_service).sum::<usize>()) as u64
}

/// The memory of a service, beside its name and its methods: nearly all of it was measured.
const SERVICE_BYTES: usize = 1024;

/// The memory of a method, beside its name: nearly all of it was measured.
const METHOD_BYTES: usize = 1024;

/// A set of codecs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Codecs(u8);

impl Codecs {
    fn of(codecs: &[Codec]) -> Self {
        Self(codecs.iter().fold(0, |set, codec| set | 1 << (*codec as u8)))
    }

    pub(super) fn contains(self, codec: Codec) -> bool {
        self.0 & 1 << (codec as u8) != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The codecs in the set, in the order of their numbers.
    pub(super) fn iter(self) -> impl Iterator<Item = Codec> {
        Codec::ALL.into_iter().filter(move |codec| self.contains(*codec))
    }
}
