//! The processes of the simulated network: a machine each, a scripted application, and a record of the outputs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use uuid::Uuid;
use xero_wires::Wire;

use super::{
    network::Event,
    pair::{D, text, value},
};
use crate::proto::{
    calls::{CallEnd, CallFailure},
    dispatch::{Departure, Dispatcher, DispatcherConfig, Output},
    frame::Limits,
    message::{CallId, ErrorCode, MethodOffer, Payload, Peer, ServiceOffer},
    retry::BackoffConfig,
    timer::Execution,
    worker::{Finish, Start, Worker, WorkerConfig, WorkerOutput},
};

pub(super) struct DispatcherNode {
    pub(super) machine: Dispatcher,
    pub(super) is_alive: bool,
    pub(super) frozen: bool,
    /// Events that wait until it is no longer frozen.
    pub(super) inbox: Vec<Event>,
    pub(super) disconnects: Vec<Peer>,
    pub(super) deadlines: BTreeMap<CallId, Instant>,
    pub(super) cancelled: BTreeSet<CallId>,
    pub(super) ends: BTreeMap<CallId, (Instant, CallEnd)>,
    pub(super) partials: BTreeMap<CallId, Vec<Payload>>,
    pub(super) joined: Vec<(Instant, Peer)>,
    pub(super) left: Vec<(Instant, Peer, Departure)>,
    pub(super) closed_at: Option<Instant>,
    d: D,
    life: u64,
    calls: u64,
    shape: Box<dyn Fn(&mut DispatcherConfig)>,
}

impl DispatcherNode {
    pub(super) fn new(d: D, shape: Box<dyn Fn(&mut DispatcherConfig)>) -> Self {
        Self {
            machine: Dispatcher::new(config_of(d, 0, &*shape)),
            is_alive: true,
            frozen: false,
            inbox: Vec::new(),
            disconnects: Vec::new(),
            deadlines: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            ends: BTreeMap::new(),
            partials: BTreeMap::new(),
            joined: Vec::new(),
            left: Vec::new(),
            closed_at: None,
            d,
            life: 0,
            calls: 0,
            shape,
        }
    }

    /// The calls of a process end with it, without a report.
    pub(super) fn die(&mut self) {
        self.is_alive = false;
        self.disconnects.clear();
        let open = self.deadlines.keys().filter(|call| !self.ends.contains_key(call));
        self.cancelled.extend(open);
    }

    pub(super) fn restart(&mut self) {
        self.life += 1;
        self.machine = Dispatcher::new(config_of(self.d, self.life, &*self.shape));
        (self.is_alive, self.frozen, self.closed_at) = (true, false, None);
        self.inbox.clear();
    }

    /// Timers that fell due while the process was frozen are due now.
    pub(super) fn thaw(&mut self, now: Instant) {
        if std::mem::take(&mut self.frozen) {
            self.deadlines.values_mut().for_each(|deadline| *deadline = now.max(*deadline));
        }
    }

    pub(super) fn next_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(((self.d.0 as u64 + 1) << 48) | (self.life << 32) | self.calls)
    }

    pub(super) fn limits(&self) -> Limits {
        config_of(self.d, self.life, &*self.shape).limits
    }

    pub(super) fn is_awake(&self) -> bool {
        self.is_alive && !self.frozen
    }

    pub(super) fn workers(&self) -> usize {
        self.machine.workers().count()
    }

    pub(super) fn take_note(&mut self, now: Instant, output: Output) {
        match output {
            Output::Partial(call, payload, receipt) => {
                self.machine.release(now, receipt);
                assert!(!self.is_over(call), "a partial reply of a call that is over");
                self.partials.entry(call).or_default().push(payload);
            }
            Output::Ended(call, end, receipt) => {
                self.machine.release(now, receipt);
                assert!(!self.is_over(call), "a call that is over ends again");
                assert!(now <= self.deadlines[&call], "a call ends after its deadline");
                self.ends.insert(call, (now, end));
            }
            Output::WorkerJoined(peer) => self.joined.push((now, peer)),
            Output::WorkerLeft(peer, departure) => self.left.push((now, peer, departure)),
            Output::Closed => self.closed_at = Some(now),
            Output::Disconnect(_) | Output::WorkerChanged(_) | Output::Dial(_) | Output::Forwarded(_) => {}
        }
    }

    pub(super) fn assert_empty(&self) {
        let open = self.deadlines.keys().find(|call| !self.is_over(**call));
        assert_eq!(open, None, "a call that never ends");
        if self.is_alive {
            assert!(self.closed_at.is_some(), "a dispatcher that does not close");
            assert!(self.machine.is_empty(), "{:#?}", self.machine);
        }
    }

    fn is_over(&self, call: CallId) -> bool {
        self.ends.contains_key(&call) || self.cancelled.contains(&call)
    }
}

impl fmt::Debug for DispatcherNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DispatcherNode").field("machine", &self.machine).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct WorkerNode {
    pub(super) machine: Worker,
    pub(super) config: WorkerConfig,
    pub(super) is_alive: bool,
    pub(super) frozen: bool,
    /// Events that wait until it is no longer frozen.
    pub(super) inbox: Vec<Event>,
    /// The addresses behind the machine's peers.
    pub(super) dispatchers: Vec<D>,
    pub(super) sockets: BTreeMap<Peer, Wire>,
    pub(super) hangups: Vec<Peer>,
    pub(super) running: BTreeMap<Execution, Start>,
    /// Ends of procedures that the machine does not know yet.
    pub(super) endings: VecDeque<(Execution, Finish)>,
    /// The calls that procedures were started for.
    pub(super) runs: Vec<CallId>,
    pub(super) aborted: Vec<CallId>,
    pub(super) registered: Vec<(Instant, Peer)>,
    pub(super) unregistered: Vec<(Instant, Peer)>,
    pub(super) left_at: Option<Instant>,
    /// The payload sizes of the partial replies that the machine reported as sent.
    pub(super) partials_sent: Vec<usize>,
    /// Whether every procedure ends at once.
    pub(super) is_obliging: bool,
}

impl WorkerNode {
    pub(super) fn new(now: Instant, number: u64, dispatchers: Vec<D>, shape: impl FnOnce(&mut WorkerConfig)) -> Self {
        let mut config = WorkerConfig {
            incarnation: Uuid::from_u64_pair(2, number),
            seed: number,
            heartbeats: Default::default(),
            backoff: Default::default(),
            limits: Limits::default(),
            credits: 8,
            window_bytes: 0,
            hold_limits: Default::default(),
            drain_timeout: Duration::from_secs(30),
            services: vec![offer("Demo", &METHODS)],
            signatures: vec![METHODS.map(|method| format!("Demo.{method}(String)->String").into()).to_vec()],
        };
        shape(&mut config);
        Self {
            machine: Worker::new(now, config.clone(), dispatchers.len() as u64),
            config,
            is_alive: true,
            frozen: false,
            inbox: Vec::new(),
            dispatchers,
            sockets: BTreeMap::new(),
            hangups: Vec::new(),
            running: BTreeMap::new(),
            endings: VecDeque::new(),
            runs: Vec::new(),
            aborted: Vec::new(),
            registered: Vec::new(),
            unregistered: Vec::new(),
            left_at: None,
            partials_sent: Vec::new(),
            is_obliging: false,
        }
    }

    pub(super) fn die(&mut self) {
        self.is_alive = false;
        self.running.clear();
        self.endings.clear();
        self.hangups.clear();
    }

    pub(super) fn is_awake(&self) -> bool {
        self.is_alive && !self.frozen
    }

    pub(super) fn execution_of(&self, call: CallId) -> Option<Execution> {
        self.running.iter().find(|(_, start)| start.request.call == call).map(|(execution, _)| *execution)
    }

    /// Begins a procedure. `Some` is its duration; without one it ends at once or when a test says so.
    pub(super) fn start(&mut self, start: Start) -> Option<Duration> {
        let execution = start.execution;
        self.runs.push(start.request.call);
        let finish = match &*start.request.method {
            _ if self.is_obliging => Some(Finish::Aborted),
            "ping" => Some(Finish::Reply(value("pong"))),
            "echo" => Some(Finish::Reply(start.request.payload.clone())),
            "fail" => Some(error(ErrorCode::Application, "", "no luck")),
            "panic" => Some(error(ErrorCode::Panicked, "index out of bounds", "")),
            _ => None,
        };
        let time = (&*start.request.method == "work").then(|| Work::read(&start.request.payload).time);
        self.running.insert(execution, start);
        self.endings.extend(finish.map(|finish| (execution, finish)));
        time
    }

    /// The result of a `work` procedure; `None` when it has been stopped.
    pub(super) fn outcome_of(&self, execution: Execution) -> Option<Finish> {
        let payload = &self.running.get(&execution).filter(|_| self.is_alive)?.request.payload;
        Some(match Work::read(payload).fails {
            true => error(ErrorCode::Application, "", "no luck"),
            false => Finish::Reply(payload.clone()),
        })
    }

    pub(super) fn take_note(&mut self, now: Instant, output: WorkerOutput) {
        match output {
            WorkerOutput::Registered(peer) => self.registered.push((now, peer)),
            WorkerOutput::Unregistered(peer) => self.unregistered.push((now, peer)),
            WorkerOutput::Left => self.left_at = Some(now),
            WorkerOutput::Abort(execution) => self.abort(execution),
            WorkerOutput::PartialSent(_, bytes) => self.partials_sent.push(bytes),
            WorkerOutput::Dial(_) | WorkerOutput::Hangup(_) | WorkerOutput::Start(_) => {}
        }
    }

    pub(super) fn assert_empty(&self) {
        if self.is_alive {
            assert!(self.left_at.is_some(), "a worker that does not leave");
            assert!(self.machine.is_empty(), "{:#?}", self.machine);
            assert!(self.sockets.is_empty(), "a connection that stays");
        }
    }

    /// Most procedures stop where they wait; blocking ones run on.
    fn abort(&mut self, execution: Execution) {
        let Some(start) = self.running.get(&execution) else { return };
        self.aborted.push(start.request.call);
        let blocks = match &*start.request.method {
            "stubborn" => true,
            "work" => Work::read(&start.request.payload).blocks,
            _ => false,
        };
        if !blocks {
            self.endings.push_back((execution, Finish::Aborted));
        }
    }
}

/// The argument of `work`, which scripts its course.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Distinguishes this call's reply from all others.
    pub(super) tag: u64,
    pub(super) time: Duration,
    pub(super) fails: bool,
    pub(super) blocks: bool,
}

impl Work {
    pub(super) fn payload(self) -> Payload {
        let Self { tag, time, fails, blocks } = self;
        value(&format!("{tag} {} {} {}", time.as_millis(), u8::from(fails), u8::from(blocks)))
    }

    fn read(payload: &Payload) -> Self {
        let numbers: Vec<u64> = text(payload).split(' ').map(|word| word.parse().expect("a number")).collect();
        let [tag, time, fails, blocks] = numbers[..] else { panic!("four numbers") };
        Self { tag, time: Duration::from_millis(time), fails: fails == 1, blocks: blocks == 1 }
    }
}

pub(super) fn error(code: ErrorCode, detail: &str, payload: &str) -> Finish {
    Finish::Error { code, detail: detail.to_owned(), payload: value(payload) }
}

/// A service whose methods have the fingerprints 1, 2, 3 …; those whose names start with `safe` are idempotent.
pub(super) fn offer(name: &str, methods: &[&str]) -> ServiceOffer {
    let methods = methods.iter().zip(1..).map(|(method, fingerprint)| MethodOffer {
        name: (*method).into(),
        idempotent: method.starts_with("safe"),
        fingerprint,
    });
    ServiceOffer { name: name.into(), version: 1, methods: methods.collect() }
}

/// Whether the failure says that the procedure may have run, if it says so at all.
pub(super) fn maybe_executed(failure: &CallFailure) -> Option<bool> {
    match failure {
        CallFailure::Remote(error) => Some(error.maybe_executed),
        CallFailure::DeadlineExceeded { maybe_executed }
        | CallFailure::WorkerLost { maybe_executed, .. }
        | CallFailure::Closed { maybe_executed } => Some(*maybe_executed),
        CallFailure::NoWorker { .. }
        | CallFailure::UnknownMethod { .. }
        | CallFailure::Overloaded { .. }
        | CallFailure::TooLarge(_) => Some(false),
        _ => None,
    }
}

fn config_of(d: D, life: u64, shape: &dyn Fn(&mut DispatcherConfig)) -> DispatcherConfig {
    let incarnation = Uuid::from_u64_pair(1, ((d.0 as u64) << 32) | life);
    let mut config = DispatcherConfig { incarnation, ..DispatcherConfig::default() };
    // Retries at once, for tests that are not about their pace.
    config.retry.backoff = BackoffConfig { first: Duration::ZERO, max: Duration::ZERO };
    shape(&mut config);
    config
}

/// The workers' methods unless a test says otherwise. `hold` and `safe` run until a test ends them or they are stopped;
/// `stubborn` does not stop; `work` follows its argument.
pub(super) const METHODS: [&str; 8] = ["ping", "echo", "fail", "panic", "hold", "safe", "stubborn", "work"];
