//! Finding a worker for a request.

use tracing::debug;

use super::{
    Registry, Standing, WorkerEntry,
    choice::{Candidate, WorkerChoice},
    ids::{Free, IsFull, MethodId, PoolId},
    index::{Index, Method},
    kind::{Group, Kind, Signature, Station},
    offer::Codecs,
    turns::Merge,
};
use crate::proto::{
    fault::{Fault, planted},
    message::{Codec, Peer},
};

/// What a request requires of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    pub(crate) fingerprint: u64,
    /// The codec of its payload.
    pub(crate) codec: Codec,
    /// The size of its payload.
    pub(crate) bytes: usize,
    /// Whether it waits for room in a worker's window.
    pub(crate) is_large: bool,
    /// Whether only a worker that declares the method idempotent may have it.
    pub(crate) must_declare: bool,
    /// A worker that has just refused this call; it is asked again only if there is no other.
    pub(crate) avoid: Option<Peer>,
}

/// Who can take a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// This worker, now; `idempotent` is its declaration of the method.
    Worker { peer: Peer, idempotent: bool },
    /// Serving workers can take it, but none has room.
    AllBusy,
    /// No serving worker can take it, now or later.
    Nobody(Outlook),
}

/// Why no serving worker can take a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// None offers the service.
    NoService,
    /// None of those that offer the service has the method.
    NoMethod,
    /// None of the workers with the method reads the codec; they read these.
    NoCodec(Vec<Codec>),
    /// None of the workers with the method declares it idempotent.
    NotIdempotent,
    /// None of the workers that it could go to takes a payload of its size; the largest limit, in bytes.
    TooLarge(u64),
}

/// How well workers suit a request: by their signature first, then by their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Grade {
    fits: bool,
    /// The largest limit; `u64::MAX` if it allows the payload.
    payload_bytes_max: u64,
}

/// What distinguishes a request from others for the same method, as far as it decides which workers suit it.
///
/// There are no more distinctions than workers make, whatever callers ask for. They change with the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distinction {
    /// The fingerprint, unless no worker has it.
    pub(crate) fingerprint: Option<u64>,
    /// The largest limit of a worker that the payload exceeds, if there is one.
    pub(crate) exceeds: Option<u64>,
}

impl Need<'_> {
    /// How well workers of this kind, with this limit, suit: `None` for not at all.
    ///
    /// Workers with the fitting signature come first; others are asked only if there is none, because their error
    /// reports their own signature. Of these, those that accept the payload come first.
    fn grade(&self, kind: &Kind, limit: u64) -> Option<Grade> {
        let reads = kind.codecs.contains(self.codec) || planted(Fault::CodecIgnored);
        let can = reads && (kind.idempotent || !self.must_declare);
        // 0 stands for an unchecked signature (`PROTOCOL.md` §7).
        let fits = self.fingerprint == 0
            || [Signature::Exact(0), Signature::Exact(self.fingerprint)].contains(&kind.signature);
        let payload_bytes_max = if self.is_within(limit) { u64::MAX } else { limit };
        can.then_some(Grade { fits, payload_bytes_max })
    }

    fn is_within(&self, limit: u64) -> bool {
        limit >= self.bytes as u64
    }

    /// The signatures whose groups hold all workers that may suit best.
    fn signatures(&self) -> impl Iterator<Item = Signature> {
        let fitting = [Signature::Exact(0), Signature::Exact(self.fingerprint)];
        // All signatures fit a request without one.
        let fitting = fitting.into_iter().filter(|_| self.fingerprint != 0);
        fitting.chain([Signature::Any])
    }

    /// Whether it waits for room in a worker's window.
    fn waits_for_room(&self) -> bool {
        self.is_large && !planted(Fault::RequestWindowExceeded)
    }
}

impl Index {
    /// The method, and the grade of the workers that suit the request best.
    fn suitable(&self, need: &Need<'_>) -> Result<(MethodId, Grade), Outlook> {
        let (_, service) = self.find_service(need.service).ok_or(Outlook::NoService)?;
        if service.version().is_none() {
            return Err(Outlook::NoService);
        }
        let id = *service.methods.get(need.method).ok_or(Outlook::NoMethod)?;
        let method = self.method(id).ok_or(Outlook::NoMethod)?;
        let sole = method.sole.and_then(|(kind, pool)| need.grade(&kind, self.offer_of(pool).payload_bytes_max));
        match sole.or_else(|| graded(method, need).map(|(grade, ..)| grade).max()) {
            Some(grade @ Grade { payload_bytes_max: u64::MAX, .. }) => return Ok((id, grade)),
            Some(grade) if planted(Fault::TooLargeAwaited) => return Ok((id, grade)),
            Some(Grade { payload_bytes_max, .. }) => return Err(Outlook::TooLarge(payload_bytes_max)),
            None => {}
        }
        let read = method.with(Signature::Any).fold(Codecs::default(), |read, (kind, _)| read.union(kind.codecs));
        Err(match method.groups.is_empty() {
            true => Outlook::NoMethod,
            false if read.contains(need.codec) => Outlook::NotIdempotent,
            false => Outlook::NoCodec(read.iter().collect()),
        })
    }

    /// The groups of a method that hold all workers of this grade. Each worker of them has it, but for its limit.
    fn groups<'a>(
        &'a self,
        method: MethodId,
        need: &'a Need<'_>,
        grade: Grade,
    ) -> impl Iterator<Item = (&'a Kind, &'a Group)> {
        let graded = self.method(method).into_iter().flat_map(|method| graded(method, need));
        graded.filter(move |(its, ..)| *its == grade).map(|(_, kind, group)| (kind, group))
    }

    /// What distinguishes a request for a method at present.
    fn distinguish(&self, method: MethodId, need: &Need<'_>) -> Distinction {
        let Some(method) = self.method(method) else { return Distinction { fingerprint: None, exceeds: None } };
        let is_known = need.fingerprint == 0 || method.knows(Signature::Exact(need.fingerprint));
        Distinction {
            fingerprint: is_known.then_some(need.fingerprint),
            exceeds: method.limits.below(&(need.bytes as u64)).copied().filter(|_| !planted(Fault::LimitsForgotten)),
        }
    }

    /// Of the workers that suit best, the free one with room that has gone longest without a request; and whether they
    /// declare the method idempotent.
    fn first(&mut self, method: MethodId, need: &Need<'_>, grade: Grade, is_full: &IsFull<'_>) -> Option<(Free, bool)> {
        let is_large = need.waits_for_room();
        if let Some((kind, pool)) = self.method(method)?.sole {
            return Some((self.first_of(pool, is_large, is_full)?, kind.idempotent));
        }
        let limit = need.bytes as u64;
        // If some of a group's limits suffice and others do not, its pools are looked at one by one.
        let is_mixed = |group: &Group| group.limits.first().is_some_and(|limit| !need.is_within(*limit));
        let groups = self.groups(method, need, grade);
        let groups: Vec<_> = groups.map(|(kind, group)| (*kind, is_mixed(group))).collect();
        let mut first = |kind, is_mixed: bool| match is_mixed {
            _ if is_large => self.first_roomy(method, kind, limit, is_full),
            true => self.first_within(method, kind, limit, |pool| pool.free.first().copied()),
            false => self.first_free(method, kind).map(|(first, _)| first),
        };
        groups.into_iter().filter_map(|(kind, is_mixed)| Some((first(kind, is_mixed)?, kind.idempotent))).min()
    }

    fn first_of(&mut self, pool: PoolId, is_large: bool, is_full: &IsFull<'_>) -> Option<Free> {
        match is_large {
            true => self.first_roomy_of(pool, is_full),
            false => self.free_of(pool)?.first().copied(),
        }
    }
}

/// The groups that may hold the workers that suit best, with the best grade in each.
fn graded<'a>(method: &'a Method, need: &'a Need<'_>) -> impl Iterator<Item = (Grade, &'a Kind, &'a Group)> {
    let groups = need.signatures().flat_map(|signature| method.with(signature));
    groups.filter_map(|(kind, group)| Some((need.grade(kind, *group.limits.last()?)?, kind, group)))
}

impl Registry {
    /// Finds a worker for a request, which must read its codec.
    ///
    /// The order of preference: a fitting signature (a worker with another one will report it), a sufficient payload
    /// limit, and no refusal of this call so far.
    pub(crate) fn route(&mut self, choice: &mut dyn WorkerChoice, need: &Need<'_>, is_full: &IsFull<'_>) -> Route {
        let (method, grade) = match self.index.suitable(need) {
            Ok(suitable) => suitable,
            Err(outlook) => return Route::Nobody(outlook),
        };
        let Some((first, idempotent)) = self.index.first(method, need, grade, is_full) else { return Route::AllBusy };
        let mut search = Search { method, grade, first, idempotent, is_full };
        if let Some((written, idempotent)) = self.written_one(need, &search) {
            search = Search { first: written, idempotent, ..search };
        }
        let others = self.choose(choice, need, &search);
        // The worker that refused is asked again only if there is no other.
        let again = Need { avoid: None, ..*need };
        let chosen = others.or_else(|| need.avoid.and_then(|_| self.choose(choice, &again, &search)));
        chosen.map_or(Route::AllBusy, |(peer, idempotent)| Route::Worker { peer, idempotent })
    }

    /// The stations of the workers that can take a request now or later, in order, or why there is none.
    pub(crate) fn stations(&self, need: &Need<'_>) -> Result<Vec<Station>, Outlook> {
        let (method, grade) = self.index.suitable(need)?;
        let kinds = self.index.groups(method, need, grade).map(|(kind, _)| *kind);
        let mut stations: Vec<_> = kinds.map(|kind| Station { method, kind }).collect();
        stations.sort_unstable();
        Ok(stations)
    }

    /// What distinguishes a request for a method at present.
    pub(crate) fn distinguish(&self, method: MethodId, need: &Need<'_>) -> Distinction {
        self.index.distinguish(method, need)
    }

    /// Whether a serving worker other than this one offers the method.
    pub(crate) fn is_offered_beside(&self, peer: Peer, service: &str, method: &str) -> bool {
        let Some(method) = self.index.find(service, method).and_then(|id| self.index.method(id)) else { return false };
        let own = self.pool_of(peer);
        let own_part = usize::from(self.get(peer).is_some_and(|worker| worker.place.standing != Standing::Idle));
        let mut pools = method.with(Signature::Any).flat_map(|(_, group)| group.pools.keys().copied());
        pools.any(|pool| Some(pool) != own || self.index.serving(pool) > own_part)
    }

    /// Whether this worker offers the method.
    pub(crate) fn offers(&self, peer: Peer, service: &str, method: &str) -> bool {
        let method = self.index.find(service, method);
        method.zip(self.pool_of(peer)).is_some_and(|(method, pool)| self.index.kind_in(pool, method).is_some())
    }

    /// The worker of this turn's last requests, if another one may travel with them: they are few, it has few more than
    /// the worker whose turn it is, and none is without any.
    fn written_one(&self, need: &Need<'_>, search: &Search<'_>) -> Option<(Free, bool)> {
        let (written, _) = self.written.filter(|(peer, run)| *peer != search.first.1 && *run < TOGETHER)?;
        let in_flight = |peer| self.get(peer).map(|worker| worker.in_flight.len());
        let (first, own) = in_flight(search.first.1).zip(in_flight(written))?;
        if own >= first + TOGETHER || self.may_be_vacant(need, search) {
            return None;
        }
        let idempotent = self.check_choice(written, need, search)?;
        Some(((self.get(written)?.place.turn, written), idempotent))
    }

    /// Whether a worker that suits has no request, as far as a few pools tell.
    fn may_be_vacant(&self, need: &Need<'_>, search: &Search<'_>) -> bool {
        let is_vacant = |pool| self.index.pool(pool).vacant > 0;
        if let Some((_, pool)) = self.index.method(search.method).and_then(|method| method.sole) {
            return is_vacant(pool);
        }
        let groups = self.index.groups(search.method, need, search.grade);
        let pools = groups.flat_map(|(_, group)| group.pools.keys().copied());
        pools.zip(1..).any(|(pool, number)| number > POOLS_MAX || is_vacant(pool))
    }

    fn choose(&mut self, choice: &mut dyn WorkerChoice, need: &Need<'_>, search: &Search<'_>) -> Option<(Peer, bool)> {
        let first = Some(search.first).filter(|(_, peer)| search.can_have(*peer, need));
        let chosen = choice.choose(&mut Candidates { registry: self, need, search, first, rest: None })?;
        if first.is_some_and(|(_, peer)| peer == chosen) {
            return Some((chosen, search.idempotent));
        }
        let idempotent = match planted(Fault::StrayChoiceTrusted) {
            true => Some(search.idempotent),
            false => self.check_choice(chosen, need, search),
        };
        if idempotent.is_none() {
            self.stray_choices += 1;
            debug!(peer = chosen.0, "the policy chose a worker that is not a candidate");
        }
        idempotent.map(|idempotent| (chosen, idempotent))
    }

    /// The chosen worker's declaration of the method, if it is a candidate.
    fn check_choice(&self, peer: Peer, need: &Need<'_>, search: &Search<'_>) -> Option<bool> {
        let WorkerEntry { offer, place, .. } = &**self.workers.get(&peer)?;
        let kind = self.index.kind_in(place.pool, search.method)?;
        let grade = need.grade(&kind, offer.payload_bytes_max);
        let suits = place.standing == Standing::Free && grade == Some(search.grade) && search.can_have(peer, need);
        suits.then_some(kind.idempotent)
    }
}

/// How many requests of a turn go to one worker in a row, and how many more than the next one in turn it may have then.
const TOGETHER: usize = 4;

/// How many pools are looked at for a worker without requests. Where there are more, calls take turns.
const POOLS_MAX: usize = 8;

/// Where to find the candidates.
struct Search<'a> {
    method: MethodId,
    grade: Grade,
    /// The least recently used worker of all, or the one that is written to, whether or not it can have the request.
    first: Free,
    /// Whether that one declares the method idempotent.
    idempotent: bool,
    is_full: &'a IsFull<'a>,
}

impl Search<'_> {
    /// Whether a free worker of a suitable pool can itself take the request.
    fn can_have(&self, peer: Peer, need: &Need<'_>) -> bool {
        need.avoid != Some(peer) && !(need.waits_for_room() && (self.is_full)(peer))
    }
}

/// The workers that can take a request now, least recently used first, behind one that is written to.
struct Candidates<'a> {
    registry: &'a Registry,
    need: &'a Need<'a>,
    search: &'a Search<'a>,
    first: Option<Free>,
    /// The candidates after the first, once asked for.
    rest: Option<Merge<'a>>,
}

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        let Self { registry, need, search, .. } = *self;
        let found = self.first.take().or_else(|| {
            let rest = self.rest.get_or_insert_with(|| {
                let groups = registry.index.groups(search.method, need, search.grade);
                Merge::new(&registry.index, groups.map(|(_, group)| group.ready.keys().copied()))
            });
            let suits = |peer| registry.get(peer).is_some_and(|worker| need.is_within(worker.offer.payload_bytes_max));
            rest.find(|free| *free != search.first && search.can_have(free.1, need) && suits(free.1))
        });
        let (_, peer) = found?;
        let worker = registry.workers.get(&peer)?;
        Some(Candidate { peer, in_flight: worker.in_flight.len(), credits: worker.credits })
    }
}
