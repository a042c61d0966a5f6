//! The methods that calls wait for: where their calls may stand, and what changes for them.

use std::{ops::Bound, sync::Arc};

use super::{
    changed::{Changed, Outline},
    ids::{MethodId, PoolId},
    index::{Index, Method},
    kind::{Kind, Station},
};

impl Index {
    /// The number of a method for a waiting call; kept until [`Self::stop_awaiting`].
    pub(super) fn wait(&mut self, service: &Arc<str>, name: &Arc<str>) -> MethodId {
        let id = self.intern(service, name);
        let method = self.method_mut(id);
        method.waiting += 1;
        if method.waiting == 1 {
            let service = method.service;
            self.service_mut(service).awaited.insert(id);
            self.awaited.insert(id);
        }
        id
    }

    /// Notes that a call does not wait for the method any more.
    pub(super) fn stop_awaiting(&mut self, id: MethodId) {
        let method = self.method_mut(id);
        method.waiting -= 1;
        if method.waiting == 0 {
            let service = method.service;
            self.service_mut(service).awaited.remove(&id);
            self.awaited.remove(&id);
            self.changed.remove(&id);
        }
        self.release(id);
    }

    /// The next of the methods that calls wait for and whose workers have changed. They take turns: one that changes all
    /// the time does not hold up the others.
    pub(super) fn take_changed(&mut self) -> Option<(MethodId, Changed)> {
        let after = self.last_followed.map_or(Bound::Unbounded, Bound::Excluded);
        let (id, _) = self.changed.range((after, Bound::Unbounded)).chain(&self.changed).next()?;
        let id = *id;
        self.last_followed = Some(id);
        self.changed.remove_entry(&id)
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The most stations that the pool's workers have.
    pub(super) fn station_count(&self, id: PoolId) -> usize {
        2 * self.pools.get(id.0).map_or(0, |pool| pool.methods.len())
    }

    /// The stations of the pool's workers where calls may wait.
    pub(super) fn stations_of(&self, id: PoolId) -> Vec<Station> {
        let Some(pool) = self.pools.get(id.0) else { return Vec::new() };
        let of = |(method, kind): (MethodId, Kind)| kind.with_any().map(|kind| Station { method, kind });
        match self.awaited.len() < pool.methods.len() {
            true => self
                .awaited
                .iter()
                .filter_map(|method| Some((*method, self.kind_in(id, *method)?)))
                .flat_map(of)
                .collect(),
            false => {
                pool.methods.iter().filter(|(method, _)| self.awaited.contains(method)).copied().flat_map(of).collect()
            }
        }
    }

    /// Whether the pool's workers are of that kind.
    pub(super) fn stands_at(&self, id: PoolId, station: Station) -> bool {
        self.kind_in(id, station.method).is_some_and(|kind| kind.with_any().contains(&station.kind))
    }

    /// Whether the pool's workers take payloads that exceed a limit.
    pub(super) fn takes_beyond(&self, id: PoolId, limit: Option<u64>) -> bool {
        self.pools.get(id.0).is_some_and(|pool| limit.is_none_or(|limit| pool.offer.payload_bytes_max > limit))
    }
}

impl Method {
    /// See [`Outline`].
    pub(super) fn outline(&mut self, kind: Kind) -> Outline {
        let largest = kind.with_any().map(|kind| self.groups.get_mut(&kind)?.limits.last().copied());
        Outline { is_known: self.knows(kind.signature), limits: self.limits.len(), largest }
    }
}
