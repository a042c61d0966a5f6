//! Calls that have not ended: their needs, and whether they wait or are in flight.

mod failure;
#[cfg(test)]
mod model;
mod queue;
mod view;
mod waiting;

use std::{sync::Arc, time::Instant};

use super::{
    fault::{Fault, planted},
    ids::IdMap,
    message::{CallId, Metadata, Payload, Peer, Request},
    registry::{Distinction, MethodId, Need, PoolId, Station},
    slab::Slab,
    window,
};
pub use failure::CallFailure;
pub(crate) use failure::{codec_not_read, overloaded};
pub(crate) use queue::{LineId, Place, QueueId};
pub(crate) use waiting::Crew;
use waiting::{LineKey, Waiting};

/// A call as its caller specifies it.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The service's name.
    pub service: Arc<str>,
    /// The method's name.
    pub method: Arc<str>,
    /// The caller's hash of the signature; 0 for no check.
    pub fingerprint: u64,
    /// Whether it may run twice; `None` leaves it to the worker's declaration.
    pub idempotent: Option<bool>,
    /// Whether even the first attempt may only go to a worker that declares the method idempotent.
    ///
    /// An intermediary has sent it elsewhere, or will send it again, on the strength of such a declaration.
    pub must_declare: bool,
    /// How long it waits while no worker can take it.
    pub wait_policy: WaitPolicy,
    /// The client it is made for, where a dispatcher serves several: waiting calls of different owners take turns.
    pub owner: u64,
    /// Attempts made elsewhere, by an intermediary.
    pub attempts_before: u8,
    /// The instant by which it must have ended.
    pub deadline: Instant,
    /// Values that travel beside the arguments.
    pub metadata: Metadata,
    /// The arguments.
    pub payload: Payload,
}

/// How long a call waits while no worker can take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitPolicy {
    /// Until its deadline, for a worker to register or to have room.
    #[default]
    UntilDeadline,
    /// For room at a worker that can take it; without such a worker, the intermediary takes it back.
    WhileOffered,
    /// Not at all: it fails at once.
    Never,
}

/// How a call ended.
pub type CallEnd = Result<Payload, CallFailure>;

/// A call that has not ended.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) spec: CallSpec,
    /// The instant of its armed timer.
    pub(crate) deadline_at: Instant,
    pub(crate) attempts: u8,
    /// The attempts that count against the bound.
    pub(crate) charged: u8,
    /// Whether the worker that has it declares the method idempotent.
    pub(crate) declared_idempotent: bool,
    /// Whether a failed attempt may have run.
    pub(crate) maybe_executed: bool,
    /// Whether no worker could take it when it was made.
    pub(crate) has_waited: bool,
    /// The worker that refused the last attempt.
    pub(crate) refused_by: Option<Peer>,
    pub(crate) state: CallState,
}

/// The state of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// New, or about to be tried again: no worker has it yet.
    Unplaced,
    /// No worker could take it yet; it waits in this line.
    Waiting(LineId),
    /// An attempt has failed, and the next one starts at this instant.
    BackingOff { until: Instant },
    /// A worker has its request; `partials` replies have arrived so far.
    InFlight { worker: Peer, partials: u32 },
}

impl Call {
    /// Whether the procedure may have run, in this attempt or one before.
    pub(crate) fn maybe_executed(&self) -> bool {
        self.maybe_executed || self.is_in_flight() && !planted(Fault::ExecutionDenied)
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.spec.idempotent.unwrap_or(self.declared_idempotent)
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.state, CallState::InFlight { .. })
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, CallState::Waiting(_))
    }

    /// Whether its request waits for room in a worker's window.
    pub(crate) fn is_large(&self) -> bool {
        window::is_large(self.spec.payload.bytes.len(), &self.spec.metadata)
    }

    /// The partial replies of the attempt in flight so far.
    pub(crate) fn partials(&self) -> u32 {
        match self.state {
            CallState::InFlight { partials, .. } => partials,
            _ => 0,
        }
    }

    /// Whether the attempt in flight has provably started.
    pub(crate) fn has_begun(&self) -> bool {
        self.partials() > 0
    }

    /// Their count, if the attempt is in flight with this worker.
    pub(crate) fn partials_from(&mut self, from: Peer) -> Option<&mut u32> {
        match &mut self.state {
            CallState::InFlight { worker, partials } if *worker == from => Some(partials),
            _ => None,
        }
    }

    /// The request of the current attempt. It carries the declaration that will decide its retry.
    pub(crate) fn request(&self, id: CallId, now: Instant) -> Request {
        let spec = &self.spec;
        Request {
            call: id,
            attempt: spec.attempts_before.saturating_add(self.attempts),
            idempotent: self.is_idempotent(),
            as_declared: spec.idempotent.is_none(),
            fail_fast: spec.wait_policy == WaitPolicy::Never,
            service: Arc::clone(&spec.service),
            method: Arc::clone(&spec.method),
            fingerprint: spec.fingerprint,
            remaining: spec.deadline.saturating_duration_since(now),
            metadata: spec.metadata.clone(),
            payload: spec.payload.clone(),
        }
    }

    /// What the next attempt requires of a worker.
    pub(crate) fn need(&self) -> Need<'_> {
        Need {
            service: &self.spec.service,
            method: &self.spec.method,
            fingerprint: self.spec.fingerprint,
            codec: self.spec.payload.codec,
            bytes: self.spec.payload.bytes.len(),
            is_large: self.is_large(),
            must_declare: self.must_declare(),
            avoid: self.refused_by,
        }
    }

    /// Whether only a worker that declares the method idempotent may have the next attempt: an earlier one may have
    /// run, and only its worker has declared that it may run twice.
    fn must_declare(&self) -> bool {
        let has_run = self.maybe_executed && !planted(Fault::DeclarationForgotten);
        self.spec.must_declare || self.spec.idempotent.is_none() && has_run
    }

    fn line(&self, method: MethodId, distinction: Distinction) -> LineKey {
        LineKey {
            method,
            distinction,
            codec: self.spec.payload.codec,
            is_large: self.is_large(),
            must_declare: self.must_declare(),
            wait_policy: self.spec.wait_policy,
        }
    }
}

/// The calls of a dispatcher that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The calls' rows.
    places: IdMap<CallId, u32>,
    rows: Slab<Call>,
    waiting: Waiting,
}

impl Calls {
    pub(crate) fn insert(&mut self, id: CallId, spec: CallSpec, deadline_at: Instant) {
        let call = Call {
            spec,
            deadline_at,
            attempts: 0,
            charged: 0,
            declared_idempotent: false,
            maybe_executed: false,
            has_waited: false,
            refused_by: None,
            state: CallState::Unplaced,
        };
        let row = self.rows.insert(call);
        self.places.insert(id, row);
    }

    /// Puts the call in the line for a method. `Some` is a new line, which stands nowhere yet.
    pub(crate) fn enqueue(&mut self, id: CallId, method: MethodId, distinction: Distinction) -> Option<LineId> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
        let (line, is_new) = self.waiting.insert(call.line(method, distinction), call.spec.owner, id);
        call.state = CallState::Waiting(line);
        is_new.then_some(line)
    }

    /// Puts a waiting call where this distinction belongs. `Some` is a new line, which stands nowhere yet.
    pub(crate) fn distinguish(&mut self, id: CallId, distinction: Distinction) -> Option<LineId> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
        let CallState::Waiting(before) = call.state else { return None };
        let (line, is_new) = self.waiting.distinguish(before, call.spec.owner, id, distinction)?;
        call.state = CallState::Waiting(line);
        is_new.then_some(line)
    }

    /// Takes the call out of its line. `Some` is the method that it waited for.
    pub(crate) fn dequeue(&mut self, id: CallId) -> Option<MethodId> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
        let CallState::Waiting(line) = call.state else { return None };
        call.state = CallState::Unplaced;
        self.waiting.remove(line, call.spec.owner, id)
    }

    /// Notes that the request of a call that does not wait goes to a worker, which declares its method so.
    pub(crate) fn send(&mut self, id: CallId, worker: Peer, idempotent: bool) -> Option<&mut Call> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
        call.declared_idempotent = idempotent;
        call.attempts = call.attempts.saturating_add(1);
        call.charged = call.charged.saturating_add(1);
        call.state = CallState::InFlight { worker, partials: 0 };
        Some(call)
    }

    /// Removes a call that does not wait.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.rows.remove(self.places.remove(&id)?)
    }

    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.rows.get_mut(*self.places.get(&id)?)
    }

    /// Notes that the owner of a call has had a turn.
    pub(crate) fn note_served(&mut self, owner: u64) {
        self.waiting.note_served(owner);
    }

    /// The first waiting call for a pool, and its queue; a large one only if there is room for it.
    pub(crate) fn next_for(&mut self, pool: PoolId, is_roomy: bool, crew: &impl Crew) -> Option<(Place, QueueId)> {
        self.waiting.next_for(pool, is_roomy, crew)
    }

    /// The next line of a queue, after a given place.
    pub(crate) fn next_in(&mut self, queue: QueueId, behind: Option<Place>) -> Option<Place> {
        self.waiting.next(queue, behind)
    }

    /// The queues where a pool may find calls.
    pub(crate) fn queues_for(&self, crew: &impl Crew) -> Vec<QueueId> {
        self.waiting.queues_for(crew)
    }

    /// The queues of a station.
    pub(crate) fn queues_at(&self, station: Station) -> Vec<QueueId> {
        self.waiting.queues_at(station)
    }

    /// Makes a line stand at these stations, in order, and at no others. Returns whether that is new.
    pub(crate) fn retarget(&mut self, line: LineId, stations: &[Station]) -> bool {
        self.waiting.retarget(line, stations)
    }

    pub(crate) fn get(&self, id: CallId) -> Option<&Call> {
        self.rows.get(*self.places.get(&id)?)
    }

    /// The lines of calls that wait for a method.
    pub(crate) fn lines_of(&self, method: MethodId) -> Vec<LineId> {
        self.waiting.lines_of(method)
    }

    /// The next `max` calls in a line behind one of them, each with its owner.
    pub(crate) fn in_line(&self, line: LineId, behind: Option<(u64, CallId)>, max: usize) -> Vec<(u64, CallId)> {
        self.waiting.calls_in(line, behind, max)
    }

    /// The method that a call waits for.
    pub(crate) fn method_of(&self, id: CallId) -> Option<MethodId> {
        match self.get(id)?.state {
            CallState::Waiting(line) => self.waiting.method_of(line),
            _ => None,
        }
    }

    /// A call in a line.
    pub(crate) fn any_in(&self, line: LineId) -> Option<CallId> {
        self.waiting.any_in(line)
    }

    /// What all calls in a line require of a worker, as far as that decides who suits them.
    pub(crate) fn need_of(&self, line: LineId) -> Option<Need<'_>> {
        let any = self.get(self.waiting.any_in(line)?)?;
        Some(Need { avoid: None, ..any.need() })
    }

    /// The waiting call to end when there are too many: the youngest of the owner with the most calls. That is this new
    /// call, unless another owner has more.
    pub(crate) fn crowding(&self, id: CallId) -> CallId {
        let owner = self.get(id).map(|call| call.spec.owner);
        owner.and_then(|owner| self.waiting.crowding(owner)).unwrap_or(id)
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// The places of all lines at their stations.
    #[cfg(test)]
    pub(crate) fn waiting_places(&self) -> usize {
        self.waiting.places()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// All calls, the oldest first.
    pub(crate) fn ids(&self) -> Vec<CallId> {
        let mut ids: Vec<_> = self.places.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}
