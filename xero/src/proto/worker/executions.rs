//! The requests of a worker: admitted, started, aborted, answered.

use std::{collections::BTreeMap, mem, time::Instant};

use super::{DEADLINE_MAX, Finish, Refusal, Start, WorkerConfig, WorkerOutput, backlog::Backlog, services::Services};
use crate::proto::{
    exits::Exits,
    fault::{Fault, planted},
    frame::{self, Malformed},
    hold::Receipt,
    ids::IdMap,
    link::Departure,
    links::sending_time,
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Payload, Peer, Request},
    timer::{Execution, Timer, TimerTable},
    window::{Outflow, SMALL_PAYLOAD_BYTES},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Executions {
    services: Services,
    credits: u32,
    /// The limit of what is held for a dispatcher.
    peer_bytes_max: u64,
    /// The requests of each dispatcher that has answered and has not received a goodbye.
    ///
    /// One that chooses colliding numbers makes its requests slower, and so the turns with them: a look-up passes at most
    /// as many of them as there are credits.
    requests: BTreeMap<Peer, IdMap<CallId, Execution>>,
    tasks: IdMap<Execution, Task>,
    /// Requests that have not started: beyond the credits, when several dispatchers spend them at the same time, or
    /// from a dispatcher whose window is full of replies.
    backlog: Backlog,
    running: usize,
    /// The deadlines of the requests.
    timers: TimerTable,
    last: Execution,
    is_draining: bool,
    /// Until when large replies may be on their way, or when the last small one was sent; `None` before any reply.
    sending_until: Option<Instant>,
    received: u64,
    unwanted_replies: u64,
}

#[derive(Debug)]
struct Task {
    /// The waiting caller; `None` if nobody waits any more.
    caller: Option<(Peer, CallId)>,
    deadline: Instant,
    partials: u32,
    /// Why it was aborted, if it was.
    aborted: Option<ErrorCode>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The request is held until it starts.
    Waiting(Box<Start>, Held),
    Running,
}

/// What a held request counts.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Its bytes in the dispatcher's window.
    bytes: u64,
    /// The memory that it takes here.
    held_bytes: u64,
    is_acknowledged: bool,
}

impl Executions {
    /// The executions of a worker with such services, credits and limits.
    pub(super) fn new(config: WorkerConfig) -> Self {
        Self {
            services: Services::new(config.services, config.signatures),
            credits: config.credits,
            peer_bytes_max: config.hold_limits.peer_bytes_max,
            requests: BTreeMap::new(),
            tasks: IdMap::default(),
            backlog: Backlog::default(),
            running: 0,
            timers: TimerTable::default(),
            last: Execution(0),
            is_draining: false,
            sending_until: None,
            received: 0,
            unwanted_replies: 0,
        }
    }

    /// Adds a dispatcher that has answered; `false` if it had answered before.
    pub(super) fn add_peer(&mut self, peer: Peer) -> bool {
        let is_new = !self.requests.contains_key(&peer);
        self.requests.entry(peer).or_default();
        is_new
    }

    /// Forgets a dispatcher that gets a goodbye, and has no request.
    pub(super) fn remove_peer(&mut self, peer: Peer) {
        self.requests.remove(&peer);
    }

    /// Takes a lost connection's requests from it: aborts running ones, forgets waiting ones.
    pub(super) fn lose_peer(&mut self, exits: &mut Exits<WorkerOutput>, peer: Peer) {
        let Some(requests) = self.requests.remove(&peer) else { return };
        exits.report(WorkerOutput::Unregistered(peer));
        self.backlog.forget(peer);
        let mut executions: Vec<_> = requests.into_iter().map(|(_, execution)| execution).collect();
        executions.sort_unstable();
        for execution in executions {
            if planted(Fault::ExecutionKept) {
                break;
            }
            let Some(task) = self.tasks.get_mut(&execution) else { continue };
            if !planted(Fault::StaleReplySent) {
                task.caller = None;
            }
            match task.stage {
                Stage::Waiting(..) => {
                    let deadline = task.deadline;
                    self.tasks.remove(&execution);
                    self.timers.disarm(Timer::Overrun(execution), deadline);
                }
                Stage::Running if task.aborted.replace(ErrorCode::Cancelled).is_none() => {
                    exits.report(WorkerOutput::Abort(execution));
                }
                Stage::Running => {}
            }
        }
    }

    /// Accepts no further request.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
    }

    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        exits: &mut Exits<WorkerOutput>,
        request: Request,
        receipt: Receipt,
    ) {
        let (from, call) = (receipt.from, request.call);
        // An answer would end the call that runs under this id.
        if self.has_request(from, call) {
            exits.links.release(now, receipt);
            return exits.links.drop_unexpected(from, "a request of a call in flight");
        }
        if self.is_overrun(exits, from) {
            return let_go(now, exits, from);
        }
        self.received += 1;
        let (bytes, held_bytes) = (receipt.bytes, receipt.bytes + request.metadata.overhead_bytes());
        let (service, method, reply_bytes_max) = match self.admit(exits, from, &request, held_bytes) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                exits.links.release(now, receipt);
                return self.refuse(now, exits, from, call, refusal);
            }
        };
        self.last.0 += 1;
        let execution = self.last;
        let deadline = now + request.remaining.min(DEADLINE_MAX);
        let start = Box::new(Start { execution, peer: from, service, method, deadline, reply_bytes_max, request });
        let stage = match self.starts_at_once(exits, from) {
            true => {
                exits.links.release(now, receipt);
                self.backlog.note_turn(from);
                self.running += 1;
                exits.report(WorkerOutput::Start(start));
                Stage::Running
            }
            false => {
                exits.links.hold_request(from, held_bytes);
                let is_acknowledged = exits.links.may_hold(from);
                if is_acknowledged {
                    exits.links.release(now, receipt);
                }
                self.backlog.push(from, execution);
                Stage::Waiting(start, Held { bytes, held_bytes, is_acknowledged })
            }
        };
        self.tasks.insert(execution, Task { caller: Some((from, call)), deadline, partials: 0, aborted: None, stage });
        self.timers.arm(Timer::Overrun(execution), deadline);
        if let Some(requests) = self.requests.get_mut(&from) {
            requests.insert(call, execution);
        }
        self.start_waiting(now, exits);
    }

    /// Answers an unreadable request, if its header names a call.
    pub(super) fn handle_malformed(
        &mut self,
        now: Instant,
        exits: &mut Exits<WorkerOutput>,
        from: Peer,
        malformed: &Malformed,
    ) {
        let call = malformed.call.filter(|call| malformed.is_request() && !self.has_request(from, *call));
        if let Some(call) = call {
            self.refuse(now, exits, from, call, (malformed.code, malformed.to_string()));
        }
    }

    pub(super) fn handle_cancel(&mut self, now: Instant, exits: &mut Exits<WorkerOutput>, from: Peer, call: CallId) {
        // A cancel that crosses the final reply finds nothing, which is fine.
        if let Some(execution) = self.execution_of(from, call) {
            self.abort(now, exits, execution, ErrorCode::Cancelled);
        }
    }

    /// Aborts one request whose deadline had passed by then; `false` if there is none.
    pub(super) fn handle_timeout(&mut self, now: Instant, by: Instant, exits: &mut Exits<WorkerOutput>) -> bool {
        match self.timers.expire(by) {
            Some(Timer::Overrun(execution)) => self.abort(now, exits, execution, ErrorCode::DeadlineExceeded),
            Some(_) => {}
            None => return false,
        }
        true
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Handles the end of a procedure.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        exits: &mut Exits<WorkerOutput>,
        execution: Execution,
        finish: Finish,
    ) {
        let Some(task) = self.tasks.remove(&execution) else { return };
        self.timers.disarm(Timer::Overrun(execution), task.deadline);
        self.running -= usize::from(matches!(task.stage, Stage::Running));
        match task.caller {
            Some((peer, call)) => {
                self.answer(now, exits, peer, call, &task, finish);
                if let Stage::Waiting(_, held) = task.stage {
                    forget_request(now, exits, peer, held);
                }
            }
            None => self.unwanted_replies += 1,
        }
        self.start_waiting(now, exits);
    }

    /// Sends a procedure's partial reply; `false` if no caller waits for it.
    pub(super) fn partial(
        &mut self,
        now: Instant,
        exits: &mut Exits<WorkerOutput>,
        execution: Execution,
        payload: Payload,
    ) -> bool {
        let Some(task) = self.tasks.get_mut(&execution).filter(|task| task.aborted.is_none()) else {
            return false;
        };
        let Some((peer, call)) = task.caller else { return false };
        if exits.links.lacks_room(payload.bytes.len()) {
            self.abort(now, exits, execution, ErrorCode::TooLarge);
            return false;
        }
        let sequence = task.partials;
        let Some(partials) = sequence.checked_add(1) else {
            // The final reply could not count them.
            self.abort(now, exits, execution, ErrorCode::InvalidReply);
            return false;
        };
        task.partials = partials;
        exits.links.send(now, peer, Message::Partial(PartialReply { call, sequence, payload }));
        true
    }

    /// Whether a request of that dispatcher starts now: no other waits, and there is a free credit.
    fn starts_at_once(&self, exits: &Exits<WorkerOutput>, from: Peer) -> bool {
        self.backlog.is_empty() && self.running < self.credits as usize && takes_replies(exits, from)
    }

    /// Starts waiting requests while fewer than the credits run.
    pub(super) fn start_waiting(&mut self, now: Instant, exits: &mut Exits<WorkerOutput>) {
        while self.running < self.credits as usize {
            let Some(execution) = self.backlog.pop(|peer| takes_replies(exits, peer)) else { return };
            let Some(task) = self.tasks.get_mut(&execution) else { continue };
            let Stage::Waiting(start, held) = mem::replace(&mut task.stage, Stage::Running) else { continue };
            self.running += 1;
            forget_request(now, exits, start.peer, held);
            exits.report(WorkerOutput::Start(start));
        }
    }

    /// Answers all requests that have not ended: the time of the drain is over.
    pub(super) fn give_up(&mut self, now: Instant, exits: &mut Exits<WorkerOutput>) {
        let mut tasks: Vec<_> = mem::take(&mut self.tasks).into_iter().collect();
        tasks.sort_unstable_by_key(|(execution, _)| *execution);
        for (execution, task) in tasks {
            self.timers.disarm(Timer::Overrun(execution), task.deadline);
            exits.report(WorkerOutput::Abort(execution));
            let Some((peer, call)) = task.caller else { continue };
            let detail = "the worker's drain timeout has passed".to_owned();
            let finish = Finish::Error { code: ErrorCode::Refused, detail, payload: Payload::default() };
            self.answer(now, exits, peer, call, &task, finish);
            if let Stage::Waiting(_, held) = task.stage {
                forget_request(now, exits, peer, held);
            }
        }
        self.backlog = Backlog::default();
        self.running = 0;
    }

    pub(super) fn execution_of(&self, from: Peer, call: CallId) -> Option<Execution> {
        self.requests.get(&from)?.get(&call).copied()
    }

    /// The dispatchers that have answered.
    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.requests.keys().copied()
    }

    /// Running procedures, and requests that wait to run.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// See the field.
    pub(super) fn sending_until(&self) -> Option<Instant> {
        self.sending_until
    }

    /// Requests received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Outcomes without a caller so far.
    pub(super) fn unwanted_replies(&self) -> u64 {
        self.unwanted_replies
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.backlog.is_empty() && self.running == 0 && self.timers.is_empty()
    }

    /// Counts as many partial replies of an execution as can be counted.
    #[cfg(test)]
    pub(super) fn skip_partials(&mut self, execution: Execution) {
        self.tasks.entry(execution).and_modify(|task| task.partials = u32::MAX);
    }

    /// Finds the requested procedure and the largest reply, or says why it cannot run.
    fn admit(
        &self,
        exits: &Exits<WorkerOutput>,
        from: Peer,
        request: &Request,
        held_bytes: u64,
    ) -> Result<(usize, usize, usize), Refusal> {
        let links = &exits.links;
        let Some(requests) = self.requests.get(&from) else {
            return Err((ErrorCode::Refused, "the connection is not registered".to_owned()));
        };
        if self.is_draining {
            return Err((ErrorCode::Refused, "the worker drains".to_owned()));
        }
        if requests.len() + links.outflow(from).map_or(0, Outflow::held_ends) >= self.credits as usize {
            let credits = self.credits;
            let detail = format!("the worker accepts {credits} requests at once; raise its `concurrency`");
            return Err((ErrorCode::Overloaded, detail));
        }
        if request.remaining.is_zero() {
            return Err((ErrorCode::DeadlineExceeded, String::new()));
        }
        if let Some(refusal) = links.refusal(from, held_bytes, "worker") {
            return Err(refusal);
        }
        let (service, method) = self.services.find(request)?;
        Ok((service, method, links.reply_bytes_max(from)))
    }

    /// Stops an execution. A running one is answered when it has stopped; a waiting one now.
    fn abort(&mut self, now: Instant, exits: &mut Exits<WorkerOutput>, execution: Execution, code: ErrorCode) {
        let Some(task) = self.tasks.get_mut(&execution) else { return };
        if task.aborted.is_some() {
            return;
        }
        task.aborted = Some(code);
        match &task.stage {
            Stage::Waiting(start, _) => {
                self.backlog.remove(start.peer, execution);
                self.finish(now, exits, execution, Finish::Aborted);
            }
            Stage::Running => exits.report(WorkerOutput::Abort(execution)),
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        exits: &mut Exits<WorkerOutput>,
        peer: Peer,
        call: CallId,
        task: &Task,
        finish: Finish,
    ) {
        let Some(requests) = self.requests.get_mut(&peer) else { return };
        requests.remove(&call);
        let reply_bytes_max = exits.links.reply_bytes_max(peer);
        let bytes = match &finish {
            Finish::Reply(payload) | Finish::Error { payload, .. } => payload.bytes.len(),
            Finish::Aborted | Finish::NotStarted => 0,
        };
        // Large replies queue behind each other on a slow link; small ones cross any link within the expiry.
        self.sending_until = Some(self.sending_until.map_or(now, |until| until.max(now)) + sending_time(bytes));
        let partials = task.partials;
        let (code, detail, payload) = match finish {
            Finish::Reply(_) | Finish::Error { .. } if bytes > reply_bytes_max => {
                (ErrorCode::TooLarge, frame::reply_too_large(bytes, reply_bytes_max), Payload::default())
            }
            Finish::Reply(_) | Finish::Error { .. }
                if bytes > SMALL_PAYLOAD_BYTES && exits.links.is_hoarding(now, peer) =>
            {
                (ErrorCode::TooLarge, exits.links.unread(bytes), Payload::default())
            }
            Finish::Reply(_) | Finish::Error { .. } if exits.links.lacks_room(bytes) => {
                (ErrorCode::TooLarge, exits.links.no_room_to_reply(bytes), Payload::default())
            }
            Finish::Reply(payload) => {
                return exits.links.send(now, peer, Message::Final(FinalReply { call, partials, payload }));
            }
            Finish::Error { code, detail, payload } => (code, detail, payload),
            Finish::Aborted => match task.aborted {
                Some(ErrorCode::TooLarge) => {
                    let detail = "a partial reply finds no room; raise the worker's `total_bytes_max`".to_owned();
                    (ErrorCode::TooLarge, detail, Payload::default())
                }
                Some(code) => (code, String::new(), Payload::default()),
                None if planted(Fault::StoppedAsCancelled) => (ErrorCode::Cancelled, String::new(), Payload::default()),
                // Another worker can run it again, if it may run twice.
                None => (ErrorCode::Refused, "the procedure's runtime has ended".to_owned(), Payload::default()),
            },
            Finish::NotStarted => {
                let detail = "the worker could not start the procedure in time".to_owned();
                return self.refuse(now, exits, peer, call, (task.aborted.unwrap_or(ErrorCode::Refused), detail));
            }
        };
        let has_started = matches!(task.stage, Stage::Running);
        let maybe_executed = has_started && code != ErrorCode::InvalidArguments;
        let error = ErrorReply { call, partials, code, maybe_executed, detail, payload };
        exits.links.send(now, peer, Message::Error(error));
    }

    /// Answers a request that does not start, unless its dispatcher takes no answer.
    fn refuse(
        &mut self,
        now: Instant,
        exits: &mut Exits<WorkerOutput>,
        to: Peer,
        call: CallId,
        (code, detail): Refusal,
    ) {
        if self.is_overrun(exits, to) {
            return let_go(now, exits, to);
        }
        exits.links.send(now, to, Message::Error(ErrorReply::not_started(call, code, detail)));
    }

    fn is_overrun(&self, exits: &Exits<WorkerOutput>, peer: Peer) -> bool {
        exits.links.outflow(peer).is_some_and(|outflow| outflow.is_overrun(self.credits, self.peer_bytes_max))
    }

    fn has_request(&self, from: Peer, call: CallId) -> bool {
        self.execution_of(from, call).is_some()
    }
}

/// Ends the holding of a request: its dispatcher may send as many bytes again.
fn forget_request(now: Instant, exits: &mut Exits<WorkerOutput>, from: Peer, held: Held) {
    let Held { bytes, held_bytes, is_acknowledged } = held;
    exits.links.forget_request(from, held_bytes);
    if !is_acknowledged {
        exits.links.release(now, Receipt { from, bytes });
    }
}

/// Whether requests of that dispatcher may start. With untaken replies beyond its limit, another one would be held as well.
fn takes_replies(exits: &Exits<WorkerOutput>, peer: Peer) -> bool {
    !exits.links.is_unread(peer) || planted(Fault::StartedUnread)
}

/// Disconnects a dispatcher that keeps sending requests without reading replies: its queue would grow for ever.
fn let_go(now: Instant, exits: &mut Exits<WorkerOutput>, from: Peer) {
    exits.links.drop_unexpected(from, "a dispatcher that sends requests and reads no replies");
    exits.links.hang_up(now, from, Departure::Disconnected);
}
