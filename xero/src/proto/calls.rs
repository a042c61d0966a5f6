//! Calls that have not ended: what they ask for, which wait, and which are in flight.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    fault::{Fault, planted},
    frame::TooLarge,
    message::{CallId, ErrorReply, Metadata, Payload, Peer},
    window::SMALL_PAYLOAD_BYTES,
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
    /// How long it waits while no worker can take it.
    pub waits: Waits,
    /// Whom it is made for, where a dispatcher serves several: waiting calls of different owners take turns.
    pub owner: u64,
    /// How often it has been attempted elsewhere, by whoever passes it on.
    pub attempts_before: u8,
    /// The instant it must have ended by.
    pub deadline: Instant,
    /// Values that travel beside the arguments.
    pub metadata: Metadata,
    /// The arguments.
    pub payload: Payload,
}

/// How long a call waits while no worker can take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    /// Until its deadline, for a worker to come or to have room.
    #[default]
    UntilDeadline,
    /// For room at a worker that offers the service; without one, whoever has passed the call on takes it back.
    WhileOffered,
    /// Not at all: it fails at once.
    Never,
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
    /// No live worker offers the service, and the call is not to wait here for one.
    NotOffered {
        /// Whether an earlier attempt may have run.
        maybe_executed: bool,
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
    /// Too many calls wait already, or the call was not to wait and every worker is busy.
    Overloaded {
        /// How many calls wait.
        waiting: usize,
        /// How many may; `None` if the call was not to wait.
        waiting_max: Option<usize>,
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

/// What is full, and the setters that bound it. The place says where calls wait, such as ` at the broker`.
pub(crate) fn overloaded(waiting: usize, waiting_max: Option<usize>, place: &str) -> String {
    let whose = if place.is_empty() { "" } else { "its " };
    match waiting_max {
        Some(1) => format!("1 call waits for a worker{place} already; {whose}`waiting_max` raises that"),
        Some(max) => format!("{max} calls wait for a worker{place} already; {whose}`waiting_max` raises that"),
        None => {
            let others = if waiting == 1 { "1 other waits".to_owned() } else { format!("{waiting} others wait") };
            format!(
                "every worker has as many requests as its `concurrency` or its `window_bytes` allows, and the call does \
                 not wait; {others}{place}"
            )
        }
    }
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
    /// Whether no worker could take it when it was made.
    pub(crate) has_waited: bool,
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
        self.maybe_executed || self.is_in_flight() && !planted(Fault::ExecutionDenied)
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.spec.idempotent.unwrap_or(self.declared_idempotent)
    }

    fn line(&self) -> Line {
        let CallSpec { method, fingerprint, owner, payload, .. } = &self.spec;
        let is_large = payload.bytes.len() > SMALL_PAYLOAD_BYTES;
        Line { method: Arc::clone(method), fingerprint: *fingerprint, owner: *owner, is_large }
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.state, CallState::InFlight { .. })
    }
}

/// Where a call of a service waits: behind those of the same owner that the same workers can take, which the method
/// decides, the signature that the caller knows it by, and whether windows count for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    method: Arc<str>,
    fingerprint: u64,
    owner: u64,
    is_large: bool,
}

/// When a waiting call is served: owners take turns, and among the calls of one the oldest comes first.
pub(crate) type Precedence = (u64, CallId);

#[derive(Clone, Copy, Debug)]
struct Served {
    turn: u64,
    waiting: usize,
}

/// The calls of a dispatcher that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: BTreeMap<CallId, Call>,
    /// Waiting calls by service, then by route and owner; ids grow, so the first is the oldest.
    waiting: BTreeMap<Arc<str>, BTreeMap<Line, BTreeSet<CallId>>>,
    waiting_count: usize,
    /// Of each owner with waiting calls, the turn in which one was served last, or the latest turn when the first came:
    /// who comes back again and again is not to pass those who have waited meanwhile.
    served: BTreeMap<u64, Served>,
    turns: u64,
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
            has_waited: false,
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
        let (service, line, owner) = (Arc::clone(&call.spec.service), call.line(), call.spec.owner);
        if self.waiting.entry(service).or_default().entry(line).or_default().insert(id) {
            self.waiting_count += 1;
            let turn = self.turns;
            self.served.entry(owner).or_insert(Served { turn, waiting: 0 }).waiting += 1;
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

    /// The oldest waiting call of each line of a service.
    pub(crate) fn oldest_waiting(&self, service: &str) -> impl Iterator<Item = Precedence> {
        let lines = self.waiting.get(service).into_iter().flatten();
        lines.filter_map(|(line, ids)| Some((self.turn_of(line.owner), *ids.first()?)))
    }

    /// The call that waits behind one that was served, on the same line. Its owner has had a turn.
    pub(crate) fn next_waiting(&mut self, service: &str, line: &Line) -> Option<Precedence> {
        self.turns += 1;
        // It may wait for other methods, also when nothing is left on this line.
        self.served.get_mut(&line.owner)?.turn = self.turns;
        let next = *self.waiting.get(service)?.get(line)?.first()?;
        Some((self.turns, next))
    }

    /// A waiting call's precedence by now: its owner may have had a turn with a call of another line.
    pub(crate) fn precedence(&self, id: CallId) -> Option<Precedence> {
        self.calls.get(&id).map(|call| (self.turn_of(call.spec.owner), id))
    }

    /// The calls that wait for a service.
    pub(crate) fn waiting_for(&self, service: &str) -> Vec<CallId> {
        self.waiting.get(service).into_iter().flat_map(BTreeMap::values).flatten().copied().collect()
    }

    /// The waiting call that makes room when there are too many: the youngest of the owner that has the most of them. That
    /// is this one, which has just come, unless another owner has more.
    pub(crate) fn crowding(&self, id: CallId) -> CallId {
        let Some(own) = self.calls.get(&id).map(|call| call.spec.owner) else { return id };
        let share = |owner: &u64| self.served.get(owner).map_or(0, |served| served.waiting);
        let largest = self.served.keys().copied().max_by_key(share).filter(|owner| share(owner) > share(&own));
        let Some(owner) = largest else { return id };
        let lines = self.waiting.values().flatten().filter(|(line, _)| line.owner == owner);
        lines.filter_map(|(_, ids)| ids.last().copied()).max().unwrap_or(id)
    }

    /// Where a waiting call waits.
    pub(crate) fn place(&self, id: CallId) -> Option<(Arc<str>, Line)> {
        self.calls.get(&id).map(|call| (Arc::clone(&call.spec.service), call.line()))
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

    fn turn_of(&self, owner: u64) -> u64 {
        self.served.get(&owner).map_or(0, |served| served.turn)
    }

    fn stop_waiting(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id).filter(|call| call.state == CallState::Waiting) else { return };
        let (service, line, owner) = (Arc::clone(&call.spec.service), call.line(), call.spec.owner);
        let Some(lines) = self.waiting.get_mut(&service) else { return };
        let Some(ids) = lines.get_mut(&line) else { return };
        let removed = usize::from(ids.remove(&id));
        if ids.is_empty() {
            lines.remove(&line);
        }
        if lines.is_empty() {
            self.waiting.remove(&service);
        }
        self.waiting_count -= removed;
        if let Some(served) = self.served.get_mut(&owner) {
            served.waiting -= removed;
            if served.waiting == 0 {
                self.served.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_waits_and_several_wait() {
        let full = |max| overloaded(max, Some(max), " at the broker");
        assert_eq!(full(1), "1 call waits for a worker at the broker already; its `waiting_max` raises that");
        assert_eq!(full(2), "2 calls wait for a worker at the broker already; its `waiting_max` raises that");
        assert!(overloaded(0, None, "").ends_with("; 0 others wait"));
        assert!(overloaded(1, None, "").ends_with("; 1 other waits"));
        assert!(overloaded(2, None, "").ends_with("; 2 others wait"));
    }
}
