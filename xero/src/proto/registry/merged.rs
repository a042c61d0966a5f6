//! What workers offer together, kept up to date by difference.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::{
    index::{Index, Method, MethodId, PoolId, Service, ServiceId},
    offer::Offer,
};
use crate::proto::{
    frame::{self, Limits, OfferSize, TooLarge},
    message::{MethodOffer, Names, ServiceOffer},
};

/// How much is offered together: of one service, or of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    services: usize,
    methods: usize,
    bytes: usize,
}

impl Method {
    /// What the workers that take requests agree on, if there are any.
    pub(super) fn merged(&self) -> Option<(bool, u64)> {
        let mut kinds = self.groups.keys();
        let first = kinds.next()?;
        let agreed = kinds.fold((first.idempotent, first.fingerprint), |(idempotent, fingerprint), kind| {
            // 0 stands for a signature that is not checked: the worker itself will.
            let fingerprint = if fingerprint == kind.fingerprint { fingerprint } else { 0 };
            (idempotent && kind.idempotent, fingerprint)
        });
        Some(agreed)
    }
}

impl Index {
    /// Takes note of what is offered of a method by now.
    pub(super) fn merge(&mut self, id: MethodId) {
        let method = self.method_mut(id);
        let merged = method.merged();
        let before = std::mem::replace(&mut method.told, merged);
        if before == merged {
            return;
        }
        let (service, bytes) = (method.service, frame::method_offer_bytes(&method.name));
        self.revision += 1;
        if before.is_some() != merged.is_some() {
            let service = self.service_mut(service);
            service.listed = None;
            service.totals.count(merged.is_some(), Totals { methods: 1, bytes, services: 0 });
            self.totals.count(merged.is_some(), Totals { methods: 1, bytes, services: 0 });
        }
    }

    /// One pool more, or one less, offers this version of the service.
    pub(super) fn count_version(&mut self, id: ServiceId, version: u32, is_served: bool) {
        let service = self.service_mut(id);
        let before = service.version();
        match (service.versions.entry(version), is_served) {
            (entry, true) => *entry.or_default() += 1,
            (Entry::Occupied(mut entry), false) if *entry.get() > 1 => *entry.get_mut() -= 1,
            (Entry::Occupied(entry), false) => drop(entry.remove()),
            (Entry::Vacant(_), false) => {}
        }
        let after = service.version();
        let bytes = frame::service_offer_bytes(&service.name);
        if before != after {
            self.revision += 1;
        }
        if before.is_some() != after.is_some() {
            self.listed = None;
            self.totals.count(after.is_some(), Totals { services: 1, bytes, methods: 0 });
            self.note_service(id);
        }
    }

    /// The services that are offered, sorted. Shared until they change.
    pub(super) fn service_names(&mut self) -> Names {
        if self.listed.is_none() {
            self.listed = Some(self.services_offered().into_iter().cloned().collect());
        }
        self.listed.clone().unwrap_or_default()
    }

    pub(super) fn services_offered(&self) -> Vec<&Arc<str>> {
        let offered = self.services.iter().filter(|service| service.version().is_some());
        let mut names: Vec<_> = offered.map(|service| &service.name).collect();
        names.sort_unstable();
        names
    }

    /// The methods of a service that are offered, sorted. Shared until they change.
    pub(super) fn method_names(&mut self, service: &str) -> Names {
        let Some((id, service)) = self.find_service(service) else { return Names::default() };
        if service.listed.is_none() {
            let mut names: Vec<_> = self.offered(service).map(|(method, ..)| Arc::clone(&method.name)).collect();
            names.sort_unstable();
            self.service_mut(id).listed = Some(names.into());
        }
        self.service(id).listed.clone().unwrap_or_default()
    }

    /// What is offered together, sorted.
    pub(super) fn offers(&self) -> Vec<ServiceOffer> {
        let offer = |service: &Service| {
            let offer = |(method, idempotent, fingerprint): (&Method, _, _)| {
                let name = Arc::clone(&method.name);
                MethodOffer { name, idempotent, fingerprint }
            };
            let mut methods: Vec<_> = self.offered(service).map(offer).collect();
            methods.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            Some(ServiceOffer { name: Arc::clone(&service.name), version: service.version()?, methods })
        };
        let mut offers: Vec<_> = self.services.iter().filter_map(offer).collect();
        offers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        offers
    }

    /// Whether an introduction has room for what is offered together once a worker offers this. `alone` is its pool so
    /// far, if it is the only one in it that takes requests: what nobody else offers goes with it.
    pub(super) fn check_room<'a>(
        &'a self,
        offer: &'a Offer,
        alone: Option<PoolId>,
        limits: &Limits,
    ) -> Result<(), TooLarge> {
        if self.find_pool(offer).is_some_and(|pool| self.serving(pool) > 0) {
            return Ok(());
        }
        let mut sizes = self.added(offer);
        if let Some(pool) = alone {
            self.subtract(pool, offer, &mut sizes);
        }
        let largest = sizes.iter().map(|(name, size)| size.bytes_with(name)).max().unwrap_or(0);
        let sum = |part: fn(&Size) -> isize| sizes.values().map(part).sum::<isize>();
        let new_services: isize =
            sizes.iter().map(|(name, size)| size.services * frame::service_offer_bytes(name) as isize).sum();
        frame::check_offer_size(
            &OfferSize {
                services: self.totals.services.saturating_add_signed(sum(|size| size.services)),
                methods: self.totals.methods.saturating_add_signed(sum(|size| size.methods)),
                bytes: self.totals.bytes.saturating_add_signed(sum(|size| size.bytes) + new_services),
                largest: usize::try_from(largest).unwrap_or(0),
            },
            limits,
        )
    }

    /// By how much the services of an offer would grow.
    fn added<'a>(&'a self, offer: &'a Offer) -> BTreeMap<&'a str, Size> {
        let mut sizes = BTreeMap::new();
        for service in &offer.services {
            let known = self.find_service(&service.name).map(|(_, service)| service);
            let size = sizes.entry(&*service.name).or_insert_with(|| Size::of(known));
            size.services += isize::from(known.is_none_or(|service| service.version().is_none()));
            for method in &service.methods {
                let id = known.and_then(|service| service.methods.get(&method.name));
                let is_offered = id.and_then(|id| self.method(*id)?.told).is_some();
                size.add(isize::from(!is_offered), &method.name);
            }
        }
        sizes
    }

    /// Takes away what only this pool offers and the new offer does not.
    fn subtract<'a>(&'a self, pool: PoolId, offer: &Offer, sizes: &mut BTreeMap<&'a str, Size>) {
        for service in &self.offer_of(pool).services {
            let kept = offer.services.binary_search_by(|other| other.name.cmp(&service.name)).ok();
            let kept = kept.map(|place| &offer.services[place]);
            let Some((_, known)) = self.find_service(&service.name) else { continue };
            let size = sizes.entry(&*service.name).or_insert_with(|| Size::of(Some(known)));
            let is_last = known.versions.values().sum::<usize>() == 1;
            size.services -= isize::from(is_last && kept.is_none());
            for method in &service.methods {
                let is_kept = kept.is_some_and(|service| {
                    service.methods.binary_search_by(|other| other.name.cmp(&method.name)).is_ok()
                });
                let is_alone =
                    known.methods.get(&method.name).and_then(|id| self.method(*id)).is_some_and(|method| {
                        method.groups.values().map(|group| group.pools.len()).sum::<usize>() == 1
                    });
                size.add(-isize::from(is_alone && !is_kept), &method.name);
            }
        }
    }

    /// The methods of a service that are offered, and what is agreed on them; in no order.
    fn offered<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = (&'a Method, bool, u64)> {
        let methods = service.methods.values().filter_map(|id| self.method(*id));
        methods.filter_map(|method| method.told.map(|(idempotent, fingerprint)| (method, idempotent, fingerprint)))
    }
}

impl Service {
    /// The latest version that is offered.
    pub(super) fn version(&self) -> Option<u32> {
        self.versions.keys().next_back().copied()
    }
}

impl Totals {
    fn count(&mut self, is_more: bool, part: Self) {
        let change = |total: &mut usize, part: usize| *total = if is_more { *total + part } else { *total - part };
        change(&mut self.services, part.services);
        change(&mut self.methods, part.methods);
        change(&mut self.bytes, part.bytes);
    }
}

/// By how much the offer of a service would change, and how large its methods are now.
#[derive(Debug)]
struct Size {
    before: usize,
    services: isize,
    methods: isize,
    bytes: isize,
}

impl Size {
    fn of(service: Option<&Service>) -> Self {
        Self { before: service.map_or(0, |service| service.totals.bytes), services: 0, methods: 0, bytes: 0 }
    }

    fn add(&mut self, methods: isize, name: &str) {
        self.methods += methods;
        self.bytes += methods * frame::method_offer_bytes(name) as isize;
    }

    /// The size of the service's whole offer.
    fn bytes_with(&self, name: &str) -> isize {
        frame::service_offer_bytes(name) as isize - 2 + self.before as isize + self.bytes
    }
}
