//! The index of the offer: (service, method) → pools of workers, free ones apart.
//!
//! Workers with equal offers form one *pool*. Pools that declare a method alike form one *group* of that method, and
//! those that differ in the signature alone form another. A request suits all workers of a group or none, apart from the
//! state of single workers (room in a window, a refusal), and from limits if many are in use.
//! A pool is in the groups of its methods while one of its workers serves.
//!
//! A group orders its pools by lower bounds of their first turn. A worker that is used, or becomes free, goes to the
//! end of the line, so turns of free workers only grow. A stale bound is found and repaired when it is first in order.
//! A pool without a free worker is then taken out, and notes where it must return.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    changed::{Changed, Outline},
    ids::{Free, IsFull, MethodId, PoolId, ServiceId},
    kind::{Group, Kind, Signature},
    limits::PayloadLimits,
    offer::{Offer, memory_bytes},
    offered::Offered,
    shares::{Share, Shares, shares_of},
};
use crate::proto::{
    fault::{Fault, count_pool, count_step, planted},
    few::Few,
    frame::{OfferRoom, OfferSize, TooLarge},
    map::Map,
    slab::Slab,
};

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) offer: Arc<Offer>,
    /// Which pool it is of all that there have been: numbers are used again.
    born: u64,
    /// What its limit on a payload's bytes counts as.
    limit: u64,
    /// Sorted.
    pub(super) methods: Box<[(MethodId, Kind)]>,
    services: Box<[ServiceId]>,
    /// The share of each service in `services`, then that of each method in `methods`.
    shares: Box<[Share]>,
    members: usize,
    /// Members that serve: with credits, and not draining.
    serving: usize,
    pub(super) free: BTreeSet<Free>,
    /// How many of them have no request.
    pub(super) vacant: usize,
    /// Those of them that have room for a large payload, as far as was asked since they last may have got it.
    roomy: BTreeSet<Free>,
    /// The groups that the pool was taken out of for want of a free worker.
    absent: Vec<(MethodId, Kind)>,
}

#[derive(Debug)]
pub(super) struct Method {
    pub(super) service: ServiceId,
    pub(super) name: Arc<str>,
    /// Boxed, because a tree has room for eleven of them.
    pub(super) groups: Few<Kind, Box<Group>>,
    /// The number of serving pools with each limit on a payload's bytes.
    pub(super) limits: Few<u64, usize>,
    /// Its pool, if it has only one: this finds most methods without a search.
    pub(super) sole: Option<(Kind, PoolId)>,
    /// The number of pools in use for each share of the introduction.
    pub(super) shares: Few<Share, usize>,
    /// Its part in the merged offer when last counted.
    pub(super) agreed: Option<Agreed>,
    /// Pools and waiting calls that use it: it is kept while there are any.
    users: usize,
    /// Calls that wait for it.
    pub(super) waiting: usize,
}

/// A method in the merged offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) idempotent: bool,
    pub(super) fingerprint: u64,
    /// Its smallest share.
    pub(super) share: Share,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    pub(super) methods: HashMap<Arc<str>, MethodId>,
    /// The number of pools in use for each version.
    pub(super) versions: Few<u32, usize>,
    /// The number of pools in use for each share of the introduction.
    pub(super) shares: Few<Share, usize>,
    /// Methods that calls wait for.
    pub(super) awaited: BTreeSet<MethodId>,
    /// Pools and kept methods that use it.
    users: usize,
    /// Its methods in the merged offer.
    pub(super) offered: Offered,
}

/// See the module.
///
/// The hash maps serve look-ups; nothing depends on their order.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) pools: Slab<Pool>,
    by_offer: Map<Arc<Offer>, PoolId>,
    /// The estimated memory of all offers.
    bytes: u64,
    pub(super) services: Slab<Service>,
    by_service: Map<Arc<str>, ServiceId>,
    pub(super) methods: Slab<Method>,
    limits: PayloadLimits,
    /// Methods that calls wait for.
    pub(super) awaited: BTreeSet<MethodId>,
    /// Those whose workers have changed.
    pub(super) changed: BTreeMap<MethodId, Changed>,
    /// The one of them that was last taken.
    pub(super) last_followed: Option<MethodId>,
    /// The pools that there have been.
    births: u64,
    /// The merged offer.
    pub(super) shares: Shares,
    /// Grows with each change of the merged offer, listed or not.
    pub(super) revision: u64,
    /// The services in the merged offer.
    pub(super) offered: Offered,
}

impl Index {
    /// An index that lists the merged offer as far as there is this much room.
    pub(super) fn new(room: OfferRoom) -> Self {
        Self {
            pools: Slab::default(),
            by_offer: Map::default(),
            bytes: 0,
            services: Slab::default(),
            by_service: Map::default(),
            methods: Slab::default(),
            limits: PayloadLimits::default(),
            awaited: BTreeSet::new(),
            changed: BTreeMap::new(),
            last_followed: None,
            births: 0,
            shares: Shares::new(room),
            revision: 0,
            offered: Offered::default(),
        }
    }

    /// Whether the offers take no more than this memory with this one, of a new worker or one of that pool. Equal
    /// offers take it once.
    pub(super) fn has_room(&self, own: Option<PoolId>, offer: &Offer, max: u64) -> bool {
        let own = own.map(|id| self.pool(id)).filter(|pool| pool.members == 1 && !planted(Fault::FormerOfferCounted));
        let others = self.bytes - own.map_or(0, |pool| memory_bytes(&pool.offer.services));
        others.saturating_add(memory_bytes(&offer.services)) <= max || self.by_offer.contains_key(offer)
    }

    /// Checks whether an introduction may hold the offer.
    pub(super) fn check_limits(&self, offer: &Offer) -> Result<(), TooLarge> {
        self.shares.room().check(&OfferSize::of_all(&offer.services))
    }

    /// Counts a worker in the pool of its offer.
    pub(super) fn join(&mut self, offer: Offer) -> PoolId {
        let id = match self.by_offer.get(&offer) {
            Some(id) => *id,
            None => self.add_pool(offer),
        };
        self.pool_mut(id).members += 1;
        id
    }

    /// Removes a worker from the pool; it no longer serves and is not free.
    pub(super) fn part(&mut self, id: PoolId) {
        let pool = self.pool_mut(id);
        pool.members -= 1;
        if pool.members == 0
            && let Some(pool) = self.pools.remove(id.0)
        {
            self.by_offer.remove(&pool.offer);
            self.limits.release(pool.limit);
            self.bytes -= memory_bytes(&pool.offer.services);
            pool.methods.iter().for_each(|(method, _)| self.release(*method));
            pool.services.iter().for_each(|service| self.release_service(*service));
        }
    }

    /// Counts one more serving worker of the pool.
    pub(super) fn enter(&mut self, id: PoolId) {
        let pool = self.pool_mut(id);
        pool.serving += 1;
        if pool.serving == 1 {
            let of_method = |(method, kind): &(MethodId, Kind)| kind.with_any().map(|kind| (*method, kind));
            pool.absent = pool.methods.iter().flat_map(of_method).collect();
            let offer = Arc::clone(&pool.offer);
            for place in 0..self.pool(id).methods.len() {
                let (method, kind) = self.pool(id).methods[place];
                let method = self.method_mut(method);
                let before = method.outline(kind);
                for kind in kind.with_any() {
                    let group = method.groups.entry(kind);
                    group.pools.entry(id);
                    group.limits.count(offer.payload_bytes_max, true);
                }
                method.limits.count(offer.payload_bytes_max, true);
                self.note_change(place, id, true, before);
            }
            self.serve_services(id, &offer, true);
        }
    }

    /// Counts one serving worker of the pool less; it is not free.
    pub(super) fn leave(&mut self, id: PoolId) {
        let pool = self.pool_mut(id);
        pool.serving -= 1;
        if pool.serving == 0 {
            pool.absent = Vec::new();
            let offer = Arc::clone(&pool.offer);
            for place in 0..self.pool(id).methods.len() {
                let (method, kind) = self.pool(id).methods[place];
                let method = self.method_mut(method);
                let before = method.outline(kind);
                for kind in kind.with_any() {
                    let Some(group) = method.groups.get_mut(&kind) else { continue };
                    if let Some(Some(bound)) = group.pools.remove(&id) {
                        group.ready.remove(&(bound, id));
                    }
                    group.limits.count(offer.payload_bytes_max, false);
                    if group.pools.is_empty() {
                        method.groups.remove(&kind);
                    }
                }
                method.limits.count(offer.payload_bytes_max, false);
                self.note_change(place, id, false, before);
            }
            self.serve_services(id, &offer, false);
        }
    }

    /// Adds a free worker of the pool, whose turn is later than any before.
    pub(super) fn free(&mut self, id: PoolId, worker: Free) {
        let pool = self.pool_mut(id);
        pool.free.insert(worker);
        pool.roomy.insert(worker);
        for (method, kind) in std::mem::take(&mut pool.absent) {
            if let Some(group) = self.method_mut(method).groups.get_mut(&kind) {
                *group.pools.entry(id) = Some(worker.0);
                group.ready.entry((worker.0, id));
            }
        }
    }

    /// Removes a free worker of the pool, which is full or about to get another turn.
    pub(super) fn fill(&mut self, id: PoolId, worker: Free) {
        let pool = self.pool_mut(id);
        pool.free.remove(&worker);
        pool.roomy.remove(&worker);
    }

    /// Notes that a worker of the pool may have room for a large payload again.
    pub(super) fn note_room(&mut self, id: PoolId, worker: Free) {
        let pool = self.pool_mut(id);
        if pool.free.contains(&worker) {
            pool.roomy.insert(worker);
        }
    }

    /// The pool's free worker with room for a large payload that has gone longest without a request.
    pub(super) fn first_roomy_of(&mut self, id: PoolId, is_full: &IsFull<'_>) -> Option<Free> {
        self.pools.get_mut(id.0)?.first_roomy(is_full)
    }

    /// The same among the workers of a group whose limit is at least this.
    pub(super) fn first_roomy(
        &mut self,
        method: MethodId,
        kind: Kind,
        limit: u64,
        is_full: &IsFull<'_>,
    ) -> Option<Free> {
        self.first_within(method, kind, limit, |pool| pool.first_roomy(is_full))
    }

    /// The free worker of a group, with at least this limit, that has gone longest without a request, as one pool after
    /// another finds it. Repairs the bounds on the way.
    pub(super) fn first_within(
        &mut self,
        method: MethodId,
        kind: Kind,
        limit: u64,
        mut first: impl FnMut(&mut Pool) -> Option<Free>,
    ) -> Option<Free> {
        let group = self.methods.get_mut(method.0)?.groups.get_mut(&kind)?;
        let (mut best, mut stale) = (None, Vec::new());
        // The bounds are those of any free worker.
        for (bound, id) in group.ready.keys() {
            if best.is_some_and(|(turn, _)| turn <= *bound) {
                break;
            }
            count_pool();
            let Some(pool) = self.pools.get_mut(id.0) else { continue };
            if pool.offer.payload_bytes_max >= limit {
                best = best.into_iter().chain(first(pool)).min();
            }
            if pool.free.first().is_none_or(|(turn, _)| turn != bound) {
                stale.push((*bound, *id));
            }
        }
        for (bound, id) in stale {
            if let Some(pool) = self.pools.get_mut(id.0) {
                group.repair((method, kind), (bound, id), pool);
            }
        }
        best
    }

    /// The largest limit of a group's workers that are free and, for a large payload, have room.
    pub(super) fn largest_roomy(
        &mut self,
        method: MethodId,
        kind: Kind,
        is_large: bool,
        is_full: &IsFull<'_>,
    ) -> Option<u64> {
        let group = self.methods.get_mut(method.0)?.groups.get_mut(&kind)?;
        let (most, mut largest) = (group.limits.last().copied(), None);
        for (_, id) in group.ready.keys() {
            count_pool();
            let Some(pool) = self.pools.get_mut(id.0) else { continue };
            let first = if is_large { pool.first_roomy(is_full) } else { pool.free.first().copied() };
            largest = largest.max(first.map(|_| pool.offer.payload_bytes_max));
            if largest == most {
                break;
            }
        }
        largest
    }

    /// The free worker of a group that has gone longest without a request. Repairs the bounds on the way.
    pub(super) fn first_free(&mut self, method: MethodId, kind: Kind) -> Option<(Free, PoolId)> {
        let group = self.methods.get_mut(method.0)?.groups.get_mut(&kind)?;
        loop {
            let (bound, id) = group.ready.first().copied()?;
            let pool = self.pools.get_mut(id.0)?;
            let first = pool.free.first().copied();
            // Alone, it is the first, whatever its bound.
            if let Some(first) = first.filter(|(turn, _)| *turn == bound || group.ready.len() == 1) {
                return Some((first, id));
            }
            group.repair((method, kind), (bound, id), pool);
        }
    }

    /// Which pool it is of all that there have been.
    pub(super) fn born(&self, id: PoolId) -> u64 {
        self.pools.get(id.0).map_or(0, |pool| pool.born)
    }

    /// Marks the service's methods that calls wait for as changed: the service is new, or gone.
    pub(super) fn note_service(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(id.0) else { return };
        for method in &service.awaited {
            self.changed.entry(*method).or_insert(Changed::Kinds);
        }
    }

    pub(super) fn find_service(&self, name: &str) -> Option<(ServiceId, &Service)> {
        let id = *self.by_service.get(name)?;
        Some((id, self.services.get(id.0)?))
    }

    pub(super) fn find(&self, service: &str, name: &str) -> Option<MethodId> {
        self.find_service(service)?.1.methods.get(name).copied()
    }

    pub(super) fn method(&self, id: MethodId) -> Option<&Method> {
        self.methods.get(id.0)
    }

    pub(super) fn offer_of(&self, id: PoolId) -> &Arc<Offer> {
        &self.pool(id).offer
    }

    /// The number of the pool's serving workers.
    pub(super) fn serving(&self, id: PoolId) -> usize {
        self.pool(id).serving
    }

    pub(super) fn free_of(&self, id: PoolId) -> Option<&BTreeSet<Free>> {
        self.pools.get(id.0).map(|pool| &pool.free)
    }

    /// How the pool offers a method.
    pub(super) fn kind_in(&self, id: PoolId, method: MethodId) -> Option<Kind> {
        let methods = &self.pools.get(id.0)?.methods;
        let place = methods.binary_search_by_key(&method, |(method, _)| *method).ok()?;
        Some(methods[place].1)
    }

    pub(super) fn service(&self, id: ServiceId) -> &Service {
        self.services.get(id.0).expect("a service is kept while a pool or a method has it")
    }

    pub(super) fn service_mut(&mut self, id: ServiceId) -> &mut Service {
        self.services.get_mut(id.0).expect("a service is kept while a pool or a method has it")
    }

    fn add_pool(&mut self, offer: Offer) -> PoolId {
        let offer = Arc::new(offer);
        self.births += 1;
        let limit = self.limits.admit(offer.payload_bytes_max);
        let (services, methods, shares) = self.intern_offer(&offer, limit);
        let id = PoolId(self.pools.insert(Pool {
            offer: Arc::clone(&offer),
            born: self.births,
            limit,
            methods: methods.into(),
            services: services.into(),
            shares: shares.into(),
            members: 0,
            serving: 0,
            free: BTreeSet::new(),
            vacant: 0,
            roomy: BTreeSet::new(),
            absent: Vec::new(),
        }));
        self.bytes += memory_bytes(&offer.services);
        self.by_offer.insert(offer, id);
        id
    }

    fn intern_offer(&mut self, offer: &Offer, limit: u64) -> (Vec<ServiceId>, Vec<(MethodId, Kind)>, Vec<Share>) {
        let Offer { services: offers, codecs, .. } = offer;
        let mut shares = shares_of(offers, self.shares.room());
        let (mut services, mut methods) = (Vec::with_capacity(offers.len()), Vec::new());
        for (service, share) in offers.iter().zip(&shares) {
            let id = self.intern_service(&service.name);
            self.service_mut(id).users += 1;
            services.push(id);
            for method in &service.methods {
                let kind = Kind::of(method, *codecs, limit);
                methods.push((self.intern(&service.name, &method.name), kind, *share));
            }
        }
        methods.sort_unstable();
        shares.extend(methods.iter().map(|(.., share)| *share));
        (services, methods.into_iter().map(|(method, kind, _)| (method, kind)).collect(), shares)
    }

    fn serve_services(&mut self, id: PoolId, offer: &Offer, is_served: bool) {
        for (place, service) in offer.services.iter().enumerate() {
            let (id, share) = (self.pool(id).services[place], self.pool(id).shares[place]);
            self.count_service(id, service.version, share, is_served);
        }
        self.revision += u64::from(self.shares.settle());
    }

    /// Notes that a pool serves the method at that place in its offer, or no longer.
    fn note_change(&mut self, place: usize, pool: PoolId, is_served: bool, before: Outline) {
        count_step();
        let ((id, kind), share) = (self.pool(pool).methods[place], self.pool(pool).share_of_method(place));
        let method = self.method_mut(id);
        let changed = method.outline(kind).change_since(before);
        method.sole = method.only_pool();
        method.shares.count(share, is_served);
        self.merge(id);
        if let Some(changed) = changed.filter(|_| self.awaited.contains(&id)) {
            let noted = self.changed.entry(id).or_insert(changed);
            *noted = changed.max(*noted);
        }
    }

    pub(super) fn intern(&mut self, service: &Arc<str>, name: &Arc<str>) -> MethodId {
        let service_id = self.intern_service(service);
        let known = self.service(service_id).methods.get(name).copied();
        let id = known.unwrap_or_else(|| {
            let name = Arc::clone(name);
            let name_of = Arc::clone(&name);
            let id = MethodId(self.methods.insert(Method {
                service: service_id,
                name: name_of,
                groups: Few::default(),
                limits: Few::default(),
                sole: None,
                shares: Few::default(),
                agreed: None,
                users: 0,
                waiting: 0,
            }));
            let service = self.service_mut(service_id);
            service.users += 1;
            service.methods.insert(name, id);
            id
        });
        self.method_mut(id).users += 1;
        id
    }

    fn intern_service(&mut self, name: &Arc<str>) -> ServiceId {
        if let Some(id) = self.by_service.get(name) {
            return *id;
        }
        let id = ServiceId(self.services.insert(Service {
            name: Arc::clone(name),
            methods: HashMap::new(),
            versions: Few::default(),
            shares: Few::default(),
            awaited: BTreeSet::new(),
            users: 0,
            offered: Offered::default(),
        }));
        self.by_service.insert(Arc::clone(name), id);
        id
    }

    pub(super) fn release(&mut self, id: MethodId) {
        let method = self.method_mut(id);
        method.users -= 1;
        if method.users == 0
            && let Some(method) = self.methods.remove(id.0)
        {
            self.service_mut(method.service).methods.remove(&method.name);
            self.release_service(method.service);
        }
    }

    fn release_service(&mut self, id: ServiceId) {
        let service = self.service_mut(id);
        service.users -= 1;
        if service.users == 0
            && let Some(service) = self.services.remove(id.0)
        {
            self.by_service.remove(&service.name);
        }
    }

    /// Whether the index keeps nothing.
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = self.pools.is_empty() && self.methods.is_empty() && self.services.is_empty();
        is_empty
            && self.awaited.is_empty()
            && self.changed.is_empty()
            && self.shares.is_empty()
            && self.limits.is_empty()
    }

    pub(super) fn pool(&self, id: PoolId) -> &Pool {
        self.pools.get(id.0).expect("a pool is kept while it has members")
    }

    pub(super) fn pool_mut(&mut self, id: PoolId) -> &mut Pool {
        self.pools.get_mut(id.0).expect("a pool is kept while it has members")
    }

    pub(super) fn method_mut(&mut self, id: MethodId) -> &mut Method {
        self.methods.get_mut(id.0).expect("a method is kept while a pool or a waiting call has it")
    }
}

impl Method {
    /// The groups of a signature.
    pub(super) fn with(&self, signature: Signature) -> impl Iterator<Item = (&Kind, &Group)> {
        let groups = self.groups.from(Kind::first(signature)).map(|(kind, group)| (kind, &**group));
        groups.take_while(move |(kind, _)| kind.signature == signature)
    }

    /// Whether a serving pool declares the method with this signature.
    pub(super) fn knows(&self, signature: Signature) -> bool {
        self.with(signature).next().is_some()
    }

    fn only_pool(&self) -> Option<(Kind, PoolId)> {
        let exact = self.groups.from(Kind::first(Signature::Exact(0)));
        let mut pools = exact.flat_map(|(kind, group)| group.pools.keys().map(|pool| (*kind, *pool)));
        let first = pools.next()?;
        pools.next().is_none().then_some(first)
    }
}

impl Group {
    /// Replaces the stale bound of a pool by its first free worker's turn; takes a pool out that has no free worker.
    fn repair(&mut self, own: (MethodId, Kind), (bound, id): (u64, PoolId), pool: &mut Pool) {
        let first = pool.free.first().map(|(turn, _)| *turn);
        self.ready.remove(&(bound, id));
        *self.pools.entry(id) = first;
        match first {
            Some(turn) => *self.ready.entry((turn, id)),
            None => pool.absent.push(own),
        }
    }
}

impl Pool {
    /// Its first free worker with room for a large payload. Each worker without room is met once, until it may have room
    /// again.
    fn first_roomy(&mut self, is_full: &IsFull<'_>) -> Option<Free> {
        while let Some(first) = self.roomy.first().copied() {
            if !is_full(first.1) {
                return Some(first);
            }
            self.roomy.pop_first();
        }
        None
    }

    /// The share of the method at that place in `methods`.
    fn share_of_method(&self, place: usize) -> Share {
        self.shares[self.services.len() + place]
    }
}
