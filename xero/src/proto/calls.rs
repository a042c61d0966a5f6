//! Calls that have not ended: what they ask for, which wait, and which are in flight.

#[cfg(test)]
mod model;
mod waiting;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    fault::{Fault, planted},
    frame::TooLarge,
    ids::IdMap,
    message::{CallId, Codec, ErrorReply, Metadata, Names, Payload, Peer},
    registry::{MethodId, Need, PoolId},
    slab::Slab,
};
pub(crate) use waiting::{LineId, Precedence};
use waiting::{LineKey, Waiting};

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
    /// Whether only a worker that declares the method idempotent may have it, from the first attempt on: whoever passes
    /// it on has sent it elsewhere, or is to send it again, on such a word.
    pub must_declare: bool,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// Until its deadline, for a worker to come or to have room.
    #[default]
    UntilDeadline,
    /// For room at a worker that can take it; without one, whoever has passed the call on takes it back.
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
        offered: Names,
    },
    /// No live worker can take the call any more, and it is not to wait here for one.
    NotOffered {
        /// Whether an earlier attempt may have run.
        maybe_executed: bool,
        /// What they offer in its place: services, or the methods of this one.
        offered: Names,
    },
    /// Live workers have the method, and none reads the codec of the arguments.
    CodecNotRead {
        /// The codec of the arguments.
        codec: Codec,
        /// The codecs that they do read.
        read: Vec<Codec>,
    },
    /// Live workers offer the service, and none has the method.
    UnknownMethod {
        /// The methods they do offer.
        offered: Names,
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

/// A codec that nobody reads, and those that are read.
pub(crate) fn codec_not_read(codec: Codec, read: &[Codec]) -> String {
    let read: Vec<_> = read.iter().map(Codec::to_string).collect();
    let read = if read.is_empty() { "no codec that is known here".to_owned() } else { read.join(", ") };
    format!("the arguments are in {codec}, and the workers that offer the method read {read}")
}

/// How a call ended.
pub type CallEnd = Result<Payload, CallFailure>;

/// A call that has not ended.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) spec: CallSpec,
    /// What its timer is armed for.
    pub(crate) deadline_at: Instant,
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
    /// Made, or about to be tried again: nobody has it yet.
    Unplaced,
    /// No worker could take it yet; it stands in this line.
    Waiting(LineId),
    /// An attempt has failed, and the next one comes at this instant.
    BackingOff { until: Instant },
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

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.state, CallState::InFlight { .. })
    }

    /// What the next attempt needs of a worker.
    pub(crate) fn need(&self) -> Need<'_> {
        Need {
            service: &self.spec.service,
            method: &self.spec.method,
            fingerprint: self.spec.fingerprint,
            codec: self.spec.payload.codec,
            bytes: self.spec.payload.bytes.len(),
            must_declare: self.must_declare(),
            avoid: self.refused_by,
        }
    }

    /// Whether only a worker that declares the method idempotent may have the next attempt: one before it may have run,
    /// and nobody but its worker has said that it may run twice.
    fn must_declare(&self) -> bool {
        self.spec.must_declare || self.spec.idempotent.is_none() && self.maybe_executed
    }

    fn line(&self, method: MethodId) -> LineKey {
        LineKey {
            method,
            fingerprint: self.spec.fingerprint,
            codec: self.spec.payload.codec,
            size: LineKey::size_of(self.spec.payload.bytes.len()),
            must_declare: self.must_declare(),
            waits: self.spec.waits,
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
            wait: Duration::ZERO,
            refused_by: None,
            state: CallState::Unplaced,
        };
        let row = self.rows.insert(call);
        self.places.insert(id, row);
    }

    /// The call comes to wait for a method. `Some` is a new line, which nobody serves yet.
    pub(crate) fn wait(&mut self, id: CallId, method: MethodId) -> Option<LineId> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
        let (line, is_new) = self.waiting.insert(call.line(method), call.spec.owner, id);
        call.state = CallState::Waiting(line);
        is_new.then_some(line)
    }

    /// The call waits no more. `Some` is the method of a line that is gone with it.
    pub(crate) fn stop_waiting(&mut self, id: CallId) -> Option<MethodId> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
        let CallState::Waiting(line) = call.state else { return None };
        call.state = CallState::Unplaced;
        self.waiting.remove(line, call.spec.owner, id)
    }

    /// The request of a call that does not wait goes to a worker.
    pub(crate) fn send(&mut self, id: CallId, worker: Peer) -> Option<&mut Call> {
        let call = self.rows.get_mut(*self.places.get(&id)?)?;
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

    /// The owner of a call has had a turn.
    pub(crate) fn note_served(&mut self, owner: u64) {
        self.waiting.note_served(owner);
    }

    /// The call that a pool is to serve next, of those behind a precedence.
    pub(crate) fn next_waiting(
        &mut self,
        pool: PoolId,
        behind: Option<(Precedence, LineId)>,
    ) -> Option<(Precedence, LineId)> {
        self.waiting.next(pool, behind)
    }

    /// From now on, these pools serve the line.
    pub(crate) fn retarget(&mut self, line: LineId, pools: Vec<PoolId>) {
        self.waiting.retarget(line, pools);
    }

    pub(crate) fn get(&self, id: CallId) -> Option<&Call> {
        self.rows.get(*self.places.get(&id)?)
    }

    /// The lines of calls that wait for a method.
    pub(crate) fn lines_of(&self, method: MethodId) -> Vec<LineId> {
        self.waiting.lines_of(method)
    }

    /// The calls in a line, the oldest first.
    pub(crate) fn in_line(&self, line: LineId) -> Vec<CallId> {
        self.waiting.calls_in(line)
    }

    /// What all calls in a line need of a worker; of a class of sizes, the smallest one.
    pub(crate) fn need_of(&self, line: LineId) -> Option<Need<'_>> {
        let any = self.get(self.waiting.any_in(line)?)?;
        Some(Need { bytes: self.waiting.bytes_min(line)?, avoid: None, ..any.need() })
    }

    /// The waiting call that makes room when there are too many: the youngest of the owner that has the most of them. That
    /// is this one, which has just come, unless another owner has more.
    pub(crate) fn crowding(&self, id: CallId) -> CallId {
        let owner = self.get(id).map(|call| call.spec.owner);
        owner.and_then(|owner| self.waiting.crowding(owner)).unwrap_or(id)
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
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
