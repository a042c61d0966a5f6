//! Dispatchers and workers on the simulated network of `xero-wires`. `Net` owns time, freezes and the record of messages;
//! every message passes through `frame.rs`. On drop it winds everything up and checks that the machines' tables are empty.

use std::{
    mem,
    time::{Duration, Instant},
};

use uuid::Uuid;
use xero_wires::{Side, Wire};

use super::{
    network::{Net, Process},
    node::{DispatcherNode, METHODS, WorkerNode, offer},
};
use crate::proto::{
    calls::{CallEnd, CallFailure, CallSpec, WaitPolicy},
    dispatch::DispatcherConfig,
    frame::{self, Frames},
    message::{
        CallId, Capabilities, Codec, ErrorCode, ErrorReply, FinalReply, Message, Metadata, PartialReply, Payload, Peer,
        Ready, Role,
    },
    worker::{Finish, WorkerConfig},
};

/// A dispatcher's address; the dispatcher there may be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct D(pub(super) usize);

/// A worker process. A restarted one is a new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct W(pub(super) usize);

/// A message as given to the network.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) d: D,
    /// `None` for a stranger: a connection that a test plays by hand.
    pub(super) w: Option<W>,
    /// The connection, as the dispatcher numbers it.
    pub(super) peer: Peer,
    pub(super) to_dispatcher: bool,
    pub(super) message: Message,
    /// The number of messages that travelled together.
    pub(super) together: usize,
}

impl Net {
    pub(super) fn new() -> Self {
        Self::with_seed(0)
    }

    pub(super) fn with_seed(seed: u64) -> Self {
        Self::at(start(), seed)
    }

    /// A dispatcher and a worker that is registered with it.
    pub(super) fn pair() -> (Self, D, W) {
        let mut net = Self::new();
        let d = net.dispatcher();
        let w = net.worker(&[d]);
        net.connect();
        (net, d, w)
    }

    pub(super) fn dispatcher(&mut self) -> D {
        self.dispatcher_with(|_| {})
    }

    pub(super) fn dispatcher_with(&mut self, shape: impl Fn(&mut DispatcherConfig) + 'static) -> D {
        let d = D(self.dispatchers.len());
        self.dispatchers.push(DispatcherNode::new(d, Box::new(shape)));
        d
    }

    pub(super) fn worker(&mut self, dispatchers: &[D]) -> W {
        self.worker_with(dispatchers, |_| {})
    }

    pub(super) fn worker_with(&mut self, dispatchers: &[D], shape: impl FnOnce(&mut WorkerConfig)) -> W {
        let number = self.workers.len() as u64;
        self.workers.push(WorkerNode::new(self.now, number, dispatchers.to_vec(), shape));
        W(self.workers.len() - 1)
    }

    /// Lets dials and introductions happen.
    pub(super) fn connect(&mut self) {
        self.run(20 * self.network.latency.max(Duration::from_millis(1)));
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Handles everything that happens up to this instant, inclusive.
    pub(super) fn run_until(&mut self, end: Instant) {
        loop {
            self.turn();
            match self.next_instant() {
                Some(at) if at <= end => self.now = at,
                _ => break,
            }
        }
        self.now = end;
    }

    /// Calls `Demo`'s method with five seconds to go; the call's own id is its argument.
    pub(super) fn call(&mut self, d: D, method: &str) -> CallId {
        self.call_with(d, method, |_| {})
    }

    pub(super) fn call_with(&mut self, d: D, method: &str, shape: impl FnOnce(&mut CallSpec)) -> CallId {
        let node = &mut self.dispatchers[d.0];
        let id = node.next_call();
        let mut spec = CallSpec { payload: value(&id.to_string()), ..spec(self.now, method) };
        shape(&mut spec);
        node.deadlines.insert(id, spec.deadline);
        node.machine.call(self.now, id, spec);
        self.drain_dispatcher(d);
        id
    }

    pub(super) fn cancel(&mut self, call: CallId) {
        let d = dispatcher_of(call);
        let node = &mut self.dispatchers[d.0];
        if !node.ends.contains_key(&call) {
            node.cancelled.insert(call);
        }
        node.machine.cancel(self.now, call);
        self.drain_dispatcher(d);
    }

    pub(super) fn overflow(&mut self, call: CallId) {
        let d = dispatcher_of(call);
        self.dispatchers[d.0].machine.overflow(self.now, call);
        self.drain_dispatcher(d);
    }

    pub(super) fn close(&mut self, d: D) {
        self.dispatchers[d.0].machine.close(self.now);
        self.drain_dispatcher(d);
    }

    pub(super) fn drain(&mut self, w: W) {
        self.workers[w.0].machine.drain(self.now);
        self.drain_worker(w);
    }

    /// Ends the procedure that runs for a call.
    pub(super) fn finish(&mut self, w: W, call: CallId, finish: Finish) {
        let execution = self.workers[w.0].execution_of(call).expect("the call runs on this worker");
        self.finish_execution(w, execution, finish);
    }

    pub(super) fn reply(&mut self, w: W, call: CallId, text: &str) {
        self.finish(w, call, Finish::Reply(value(text)));
    }

    /// Sends a partial reply of the procedure that runs for a call; `false` when its caller no longer waits.
    pub(super) fn partial(&mut self, w: W, call: CallId, text: &str) -> bool {
        let execution = self.workers[w.0].execution_of(call).expect("the call runs on this worker");
        let is_wanted = self.workers[w.0].machine.partial(self.now, execution, value(text));
        self.drain_worker(w);
        is_wanted
    }

    /// Lets the procedure that runs for a call have sent the largest number of partial replies.
    pub(super) fn skip_partials(&mut self, w: W, call: CallId) {
        let execution = self.workers[w.0].execution_of(call).expect("the call runs on this worker");
        self.workers[w.0].machine.skip_partials(execution);
    }

    /// The worker's process dies; its connections end with it.
    pub(super) fn kill_worker(&mut self, w: W) {
        self.workers[w.0].die();
        self.hang_up_all(Process::Worker(w));
    }

    /// The dispatcher's process dies, and nothing listens until a new one is started.
    pub(super) fn kill_dispatcher(&mut self, d: D) {
        self.dispatchers[d.0].die();
        self.hang_up_all(Process::Dispatcher(d));
    }

    pub(super) fn restart_dispatcher(&mut self, d: D) {
        self.dispatchers[d.0].restart();
    }

    /// Breaks the connection between the two; each side learns of it after the latency.
    pub(super) fn disconnect(&mut self, d: D, w: W) {
        self.wires(d, w).into_iter().for_each(|wire| self.break_connection(wire));
    }

    pub(super) fn freeze_worker(&mut self, w: W) {
        self.workers[w.0].frozen = true;
    }

    /// The process continues: what has arrived meanwhile is handled before its timers.
    pub(super) fn thaw_worker(&mut self, w: W) {
        self.workers[w.0].frozen = false;
        mem::take(&mut self.workers[w.0].inbox).into_iter().for_each(|event| self.reach(event));
    }

    pub(super) fn freeze_dispatcher(&mut self, d: D) {
        self.dispatchers[d.0].frozen = true;
    }

    pub(super) fn thaw_dispatcher(&mut self, d: D) {
        self.dispatchers[d.0].thaw(self.now);
        mem::take(&mut self.dispatchers[d.0].inbox).into_iter().for_each(|event| self.reach(event));
    }

    /// Nothing passes between the two until [`Self::heal`], and neither side notices.
    pub(super) fn cut(&mut self, d: D, w: W) {
        for (from, to) in directions(d, w) {
            if !self.network.is_blocked(from, to) {
                self.network.block(from, to);
            }
        }
    }

    pub(super) fn heal(&mut self, d: D, w: W) {
        for (from, to) in directions(d, w) {
            let held = self.network.unblock(from, to);
            held.into_iter().flatten().for_each(|parcel| self.arrive(parcel));
        }
    }

    /// A connection that a test plays by hand; its messages go out through [`Self::send_as`].
    pub(super) fn stranger(&mut self, d: D) -> Peer {
        Peer(self.open(d, Process::Stranger, Peer(0)) as u64)
    }

    /// A worker of `Demo` that a test plays by hand; its expiry is long.
    pub(super) fn puppet(&mut self, d: D, credits: u32) -> Peer {
        self.puppet_with(d, |ready| ready.credits = credits)
    }

    pub(super) fn puppet_with(&mut self, d: D, shape: impl FnOnce(&mut Ready)) -> Peer {
        let peer = self.stranger(d);
        let mut ready = Ready { incarnation: Uuid::from_u64_pair(3, peer.0), ..introduction() };
        shape(&mut ready);
        self.send_as(peer, Message::Ready(ready));
        self.run(3 * self.network.latency);
        peer
    }

    /// Gives the dispatcher a message from this peer.
    pub(super) fn send_as(&mut self, peer: Peer, message: Message) {
        self.send_frames_as(peer, frame::encode(&message));
    }

    pub(super) fn send_frames_as(&mut self, peer: Peer, frames: Frames) {
        self.send(peer.0 as Wire, Side::Listener, frames);
    }

    /// Gives the worker a message from the dispatcher.
    pub(super) fn send_to(&mut self, d: D, w: W, message: Message) {
        self.send_frames_to(d, w, frame::encode(&message));
    }

    pub(super) fn send_frames_to(&mut self, d: D, w: W, frames: Frames) {
        let peer = self.peer(d, w);
        self.send(peer.0 as Wire, Side::Dialer, frames);
    }

    /// The connection between the two.
    pub(super) fn peer(&self, d: D, w: W) -> Peer {
        let wire = self.wires(d, w).into_iter().find(|wire| self.network[*wire].is_whole());
        Peer(wire.expect("the two are connected") as u64)
    }

    /// The connections between the two that stand for the worker.
    fn wires(&self, d: D, w: W) -> Vec<Wire> {
        let leads_to_d =
            |(wire, side): &(Wire, Side)| self.network[*wire].end(side.other()).process == Process::Dispatcher(d);
        self.network.ends_of(Process::Worker(w)).into_iter().filter(leads_to_d).map(|(wire, _)| wire).collect()
    }

    /// Whether the dispatcher has neither ended the connection nor heard of its end.
    pub(super) fn stands(&self, peer: Peer) -> bool {
        self.network[peer.0 as Wire].end(Side::Listener).stands
    }

    pub(super) fn d(&self, d: D) -> &DispatcherNode {
        &self.dispatchers[d.0]
    }

    pub(super) fn w(&self, w: W) -> &WorkerNode {
        &self.workers[w.0]
    }

    /// How the call ended.
    pub(super) fn end(&self, call: CallId) -> &CallEnd {
        &self.ending(call).expect("the call has ended").1
    }

    pub(super) fn failure(&self, call: CallId) -> &CallFailure {
        self.end(call).as_ref().expect_err("the call has failed")
    }

    /// The value that the call ended with.
    pub(super) fn value(&self, call: CallId) -> String {
        text(self.end(call).as_ref().expect("the call has succeeded"))
    }

    pub(super) fn ending(&self, call: CallId) -> Option<&(Instant, CallEnd)> {
        self.d(dispatcher_of(call)).ends.get(&call)
    }

    pub(super) fn has_ended(&self, call: CallId) -> bool {
        self.ending(call).is_some()
    }

    /// The partial replies that its caller has received.
    pub(super) fn partials(&self, call: CallId) -> Vec<String> {
        let partials = self.d(dispatcher_of(call)).partials.get(&call);
        partials.into_iter().flatten().map(text).collect()
    }

    /// How often a procedure was started for the call, over all workers.
    pub(super) fn runs(&self, call: CallId) -> usize {
        self.workers.iter().map(|node| node.runs.iter().filter(|run| **run == call).count()).sum()
    }

    /// Whether a procedure runs for the call, and nobody has stopped it.
    pub(super) fn is_running(&self, w: W, call: CallId) -> bool {
        self.w(w).execution_of(call).is_some()
    }

    /// The worker's messages so far.
    pub(super) fn sent_by(&self, w: W) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| sent.to_dispatcher && sent.w == Some(w))
    }

    /// The messages to a worker so far.
    pub(super) fn sent_to(&self, w: W) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(move |sent| !sent.to_dispatcher && sent.w == Some(w))
    }

    /// The messages to strangers and puppets so far.
    pub(super) fn sent_to_strangers(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter().filter(|sent| !sent.to_dispatcher && sent.w.is_none())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // A second panic would abort and hide the first.
        if !std::thread::panicking() {
            self.wind_up();
        }
    }
}

/// From each of the two to the other.
fn directions(d: D, w: W) -> [(Process, Process); 2] {
    let (d, w) = (Process::Dispatcher(d), Process::Worker(w));
    [(d, w), (w, d)]
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The READY of a worker of `Demo` that may be silent for minutes.
pub(in crate::proto) fn introduction() -> Ready {
    Ready {
        role: Role::Worker,
        incarnation: Uuid::from_u64_pair(3, 0),
        capabilities: Capabilities::BATCH,
        interval: Duration::from_secs(60),
        payload_bytes_max: 64 << 20,
        credits: 8,
        window_bytes: 0,
        codecs: Codec::ALL.to_vec(),
        services: vec![offer("Demo", &METHODS)],
    }
}

/// A call of `Demo`'s method, with five seconds to go.
pub(super) fn spec(now: Instant, method: &str) -> CallSpec {
    CallSpec {
        service: "Demo".into(),
        method: method.into(),
        fingerprint: 0,
        idempotent: None,
        must_declare: false,
        wait_policy: WaitPolicy::UntilDeadline,
        owner: 0,
        attempts_before: 0,
        deadline: now + CALL_TIMEOUT,
        metadata: Metadata::new(),
        payload: value("argument"),
    }
}

pub(super) fn partial_reply(call: CallId, sequence: u32, text: &str) -> Message {
    Message::Partial(PartialReply { call, sequence, payload: value(text) })
}

pub(super) fn final_reply(call: CallId, text: &str) -> Message {
    Message::Final(FinalReply { call, partials: 0, payload: value(text) })
}

pub(super) fn error_reply(call: CallId, code: ErrorCode, maybe_executed: bool) -> Message {
    let payload = Payload::default();
    Message::Error(ErrorReply { call, partials: 0, code, maybe_executed, detail: "so it is".to_owned(), payload })
}

pub(super) fn value(text: &str) -> Payload {
    Payload { bytes: text.to_owned().into(), ..Payload::default() }
}

pub(super) fn text(payload: &Payload) -> String {
    String::from_utf8(payload.bytes.to_vec()).expect("payloads of these tests are text")
}

/// Tests need an instant to count from; none waits for a later one.
#[allow(clippy::disallowed_methods)]
pub(in crate::proto) fn start() -> Instant {
    Instant::now()
}

/// The dispatcher that made this id.
pub(super) fn dispatcher_of(call: CallId) -> D {
    D((call.0 >> 48) as usize - 1)
}

/// The smallest difference between two `Instant`s.
pub(super) const TICK: Duration = Duration::from_nanos(1);
/// The timeout of a call unless its test says otherwise.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of dispatchers and workers unless a test says otherwise.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// The expiry that belongs to it.
pub(super) const EXPIRY: Duration = Duration::from_secs(3);
/// The latency unless a test says otherwise.
pub(super) const LATENCY: Duration = Duration::from_millis(1);
