//! Calls that have not ended: what they ask for, which wait, and which are in flight.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    frame::TooLarge,
    message::{CallId, ErrorReply, Metadata, Payload, Peer},
};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// The service's name.
    pub service: Arc<str>,
    /// The method's name.
    pub method: Arc<str>,
    /// The caller's hash of the signature; 0 leaves it unchecked.
    pub fingerprint: u64,
    /// Whether it may run twice; `None` leaves it to what the worker declares.
    pub idempotent: Option<bool>,
    /// Whether to fail at once, instead of waiting until the deadline, while no worker can take the call.
    pub fail_fast: bool,
    /// Whom it is made for, where a dispatcher serves several: waiting calls of different owners take turns.
    pub owner: u64,
    /// The instant it must have ended by.
    pub deadline: Instant,
    /// Values that travel beside the arguments.
    pub metadata: Metadata,
    /// The arguments.
    pub payload: Payload,
}

/// How a call ended without a final reply. `maybe_executed` says whether the procedure may have run.
#[derive(Clone, Debug, PartialEq)]
pub enum CallFailure {
    /// The worker answered with an error.
    Remote(ErrorReply),
    /// The deadline passed.
    DeadlineExceeded {
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
    /// No live worker offered the service until the deadline.
    NoWorker {
        /// The services that live workers do offer.
        offered: Vec<String>,
    },
    /// Live workers offer the service, and none has the method.
    UnknownMethod {
        /// The methods they do offer.
        offered: Vec<String>,
    },
    /// The worker went away before its reply, and the call could not be retried.
    WorkerLost {
        /// Whether the worker may have run it.
        maybe_executed: bool,
        /// How many workers were asked.
        attempts: u8,
    },
    /// Too many calls wait already, or `fail_fast` was asked for and every worker is busy.
    Overloaded {
        /// How many calls wait.
        waiting: usize,
    },
    /// The arguments are larger than the dispatcher or the worker takes.
    TooLarge(TooLarge),
    /// A partial reply is missing: the replies that follow cannot be trusted to be in order.
    PartialsLost {
        /// How many partial replies the worker has sent.
        sent: u32,
        /// How many have arrived in order.
        received: u32,
    },
    /// More partial replies came than are kept for a caller that does not read them.
    PartialsUnread {
        /// How many have arrived.
        received: u32,
    },
    /// A reply could not be read.
    UnreadableReply {
        /// What is wrong with it.
        reason: String,
    },
    /// The dispatcher was closed.
    Closed {
        /// Whether a worker had the request.
        maybe_executed: bool,
    },
}

/// How a call ended.
pub type CallEnd = Result<Payload, CallFailure>;

/// A call that has not ended.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) spec: CallSpec,
    pub(crate) attempts: u8,
    /// The attempts that count against the bound.
    pub(crate) charged: u8,
    /// Whether the worker that has it declares the method idempotent.
    pub(crate) declared_idempotent: bool,
    /// Whether an attempt that came to nothing may have run.
    pub(crate) maybe_executed: bool,
    /// The back-off before the next attempt.
    pub(crate) wait: Duration,
    /// The worker that refused the last attempt.
    pub(crate) refused_by: Option<Peer>,
    pub(crate) state: CallState,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    /// No worker could take it yet.
    Waiting,
    /// An attempt has failed, and the next one is to come after a while.
    BackingOff,
    /// A worker has its request; `partials` replies have come so far.
    InFlight { worker: Peer, partials: u32 },
}

impl Call {
    /// Whether the procedure may have run, in this attempt or one before.
    pub(crate) fn maybe_executed(&self) -> bool {
        self.maybe_executed || self.is_in_flight()
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.spec.idempotent.unwrap_or(self.declared_idempotent)
    }

    fn route(&self) -> Route {
        (Arc::clone(&self.spec.method), self.spec.fingerprint)
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.state, CallState::InFlight { .. })
    }
}

/// What decides who of a service's workers can take a call: the method, and the signature that the caller knows it by.
pub(crate) type Route = (Arc<str>, u64);

/// The calls of a dispatcher that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: BTreeMap<CallId, Call>,
    /// Waiting calls by service and route; ids grow, so the first is the oldest.
    waiting: BTreeMap<Arc<str>, BTreeMap<Route, BTreeSet<CallId>>>,
    waiting_count: usize,
}

impl Calls {
    pub(crate) fn insert(&mut self, id: CallId, spec: CallSpec) {
        let state = CallState::Waiting;
        let call = Call {
            spec,
            attempts: 0,
            charged: 0,
            declared_idempotent: false,
            maybe_executed: false,
            wait: Duration::ZERO,
            refused_by: None,
            state,
        };
        self.calls.insert(id, call);
        self.wait(id);
    }

    /// The call is in no worker's hands (any more).
    pub(crate) fn wait(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.state = CallState::Waiting;
        let (service, route) = (Arc::clone(&call.spec.service), call.route());
        if self.waiting.entry(service).or_default().entry(route).or_default().insert(id) {
            self.waiting_count += 1;
        }
    }

    /// The call's request goes to a worker.
    pub(crate) fn send(&mut self, id: CallId, worker: Peer) -> Option<&mut Call> {
        self.stop_waiting(id);
        let call = self.calls.get_mut(&id)?;
        call.attempts = call.attempts.saturating_add(1);
        call.charged = call.charged.saturating_add(1);
        call.state = CallState::InFlight { worker, partials: 0 };
        Some(call)
    }

    pub(crate) fn remove(&mut self, id: CallId) -> Option<Call> {
        self.stop_waiting(id);
        self.calls.remove(&id)
    }

    pub(crate) fn get(&self, id: CallId) -> Option<&Call> {
        self.calls.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.get_mut(&id)
    }

    /// The oldest waiting call of each route of a service.
    pub(crate) fn oldest_waiting(&self, service: &str) -> impl Iterator<Item = CallId> {
        let routes = self.waiting.get(service).into_iter().flatten();
        routes.filter_map(|(_, ids)| ids.first().copied())
    }

    /// The call that waits behind this one, which waits no more, on the same route.
    pub(crate) fn next_waiting(&self, service: &str, route: &Route) -> Option<CallId> {
        self.waiting.get(service)?.get(route)?.first().copied()
    }

    /// Where a waiting call waits.
    pub(crate) fn place(&self, id: CallId) -> Option<(Arc<str>, Route)> {
        self.calls.get(&id).map(|call| (Arc::clone(&call.spec.service), call.route()))
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn ids(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }

    fn stop_waiting(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id).filter(|call| call.state == CallState::Waiting) else { return };
        let (service, route) = (Arc::clone(&call.spec.service), call.route());
        let Some(routes) = self.waiting.get_mut(&service) else { return };
        let Some(ids) = routes.get_mut(&route) else { return };
        self.waiting_count -= usize::from(ids.remove(&id));
        if ids.is_empty() {
            routes.remove(&route);
        }
        if routes.is_empty() {
            self.waiting.remove(&service);
        }
    }
}
