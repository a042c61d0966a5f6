//! The costs of the core alone, and how they grow with workers, calls, methods and waiting callers.
//!
//! The program feeds messages to a dispatcher or a broker by hand: no socket, no thread. Each row is a ratio of two
//! figures of the same run, so that the machine hardly matters.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use uuid::Uuid;
use xero::proto::{
    broker::{Broker, BrokerConfig, Door},
    calls::{CallSpec, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{
        CallId, Capabilities, Codec, FinalReply, Message, MethodOffer, Payload, Peer, Ready, Role, ServiceOffer,
    },
};
use xero_tests::command_line::print_line;

/// Measures what a call, an introduction and an expiry cost in the core alone, and how that grows
#[derive(Debug, Parser)]
#[command(name = "costs", version, after_help = HELP)]
struct Options {
    /// Measure for seconds instead of a minute
    #[arg(long)]
    brief: bool,
    /// Measure only the rows whose name contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// The rest of the help.
const HELP: &str = "\
Each row compares the cost of an operation in a small setting and in a large one. The targets are for a build
with --release.

Exit codes:
    0  no row is over twice its target: other programs take caches from the larger setting, but a scan costs ten times
       as much
    1  a row is
    2  the command line was wrong
  141  nobody reads the output any more

Examples:
    costs
    costs --brief
    costs --only \"10,000 workers\"";

fn main() -> ExitCode {
    let options = Options::parse();
    let rounds = if options.brief { ROUNDS / 4 } else { ROUNDS };
    let mut table = Table { rounds, only: options.only, rows: 0, is_within: true };
    print_line(format_args!("{:<58} {:>10} {:>10} {:>7} {:>7}", "", "small", "large", "ratio", "target"));
    table.compare("a call: 10,000 workers beside 1", 1.5, || Play::workers(1), || Play::workers(10_000));
    table.compare("a call: 100,000 in flight beside 1", 1.5, || Play::in_flight(1), || Play::in_flight(100_000));
    table.compare(
        "a call: 1,000 services x 100 methods beside 1",
        1.5,
        || Play::methods(1, 1),
        || Play::methods(1_000, 100),
    );
    table.compare(
        "a call: 10,000 clients wait elsewhere, beside none",
        1.5,
        || Play::waiting(0),
        || Play::waiting(10_000),
    );
    table.compare("a call: 1,000 kinds of workers beside 1", 3.0, || Play::kinds(1), || Play::kinds(1_000));
    table.compare("a large call: 1,000 kinds of workers beside 1", 3.0, || Play::large(1), || Play::large(1_000));
    table.compare(
        "a call: 1,000 signatures and limits beside 1",
        3.0,
        || Play::declarations(1),
        || Play::declarations(1_000),
    );
    table.compare("a call that waits: 1,000 kinds beside 1", 3.0, || Play::busy(1), || Play::busy(1_000));
    table.compare("a worker beside 3,000 lines: 100 kinds beside 1", 2.0, || Lines::of(1), || Lines::of(100));
    table.compare("READY x 500 methods: 1,000 workers beside 10", 2.0, || Fleet::of(10), || Fleet::of(1_000));
    table.compare("READY x 500 of its own: 1,000 workers beside 10", 2.0, || Fleet::own(10), || Fleet::own(1_000));
    table.expiries();
    match (table.rows, table.is_within) {
        (0, _) => {
            eprintln!("no row has {:?} in its name", table.only);
            ExitCode::from(2)
        }
        (_, true) => ExitCode::SUCCESS,
        (_, false) => ExitCode::FAILURE,
    }
}

/// Something whose single step can be measured.
trait Measured {
    /// Takes this many steps.
    fn run(&mut self, steps: u32);

    /// The number of steps in one measurement.
    fn steps(&self) -> u32;
}

/// What is measured, row by row.
struct Table {
    /// How often each pair is measured.
    rounds: u32,
    /// A part of the names of the rows to measure.
    only: String,
    /// The rows measured so far.
    rows: u32,
    /// Whether each of them was within its target, with the tolerance.
    is_within: bool,
}

impl Table {
    /// Measures both in turns, and takes the least of each: other work of the machine only adds.
    fn compare<S: Measured, L: Measured>(
        &mut self,
        what: &str,
        target: f64,
        small: impl Fn() -> S,
        large: impl Fn() -> L,
    ) {
        if !self.measures(what) {
            return;
        }
        let (mut small, mut large) = (small(), large());
        let mut least = [f64::INFINITY; 2];
        for round in 0..=self.rounds {
            let taken = [measure(&mut small), measure(&mut large)];
            // The first round warms up.
            if round > 0 {
                least = [least[0].min(taken[0]), least[1].min(taken[1])];
            }
        }
        let ratio = least[1] / least[0];
        print_line(format_args!("{what:<58} {:>7.0} ns {:>7.0} ns {ratio:>7.2} {target:>7.2}", least[0], least[1]));
        self.is_within &= ratio <= target * TOLERANCE;
    }

    /// 10,000 waiting calls that expire together, before 1,000 workers of 10 services each.
    fn expiries(&mut self) {
        const WHAT: &str = "10,000 calls expire together";
        const TARGET: Duration = Duration::from_millis(50);
        if self.measures(WHAT) {
            let Expiries { total, passes, longest } = Expiries::measure(10_000);
            print_line(format_args!(
                "{WHAT}: {total:?} (target {TARGET:?}) in {passes} passes, the longest {longest:?}"
            ));
            self.is_within &= total <= TARGET.mul_f64(TOLERANCE);
        }
    }

    fn measures(&mut self, what: &str) -> bool {
        let is_chosen = what.contains(&self.only);
        self.rows += u32::from(is_chosen);
        is_chosen
    }
}

/// Nanoseconds a step.
fn measure(measured: &mut impl Measured) -> f64 {
    let steps = measured.steps();
    let start = now();
    measured.run(steps);
    start.elapsed().as_nanos() as f64 / f64::from(steps)
}

/// A dispatcher, and calls that are answered in the order of sending.
struct Play {
    dispatcher: Dispatcher,
    now: Instant,
    calls: u64,
    specs: Vec<CallSpec>,
    sent: std::collections::VecDeque<(Peer, CallId)>,
    in_flight: usize,
    /// Whether each call waits until another one has ended.
    is_busy: bool,
    /// The next method: a step that has no factor in common with any of the counts used here.
    at: usize,
}

impl Play {
    fn new() -> Self {
        let config = DispatcherConfig { waiting_max: usize::MAX, ..DispatcherConfig::default() };
        Self {
            dispatcher: Dispatcher::new(config),
            now: now(),
            calls: 0,
            specs: Vec::new(),
            sent: Default::default(),
            in_flight: 1,
            is_busy: false,
            at: 0,
        }
    }

    fn workers(count: u64) -> Self {
        let mut play = Self::new();
        (0..count).for_each(|peer| play.join(peer, 64, vec![service("Demo", 4)]));
        play.specs = vec![spec(play.now, "Demo", "method-0")];
        play
    }

    fn in_flight(count: usize) -> Self {
        let mut play = Self::new();
        (0..10).for_each(|peer| play.join(peer, 65_536, vec![service("Demo", 4)]));
        play.specs = vec![spec(play.now, "Demo", "method-0")];
        play.in_flight = count;
        play
    }

    fn methods(services: usize, methods: usize) -> Self {
        let mut play = Self::new();
        let name = |number| format!("Service{number}");
        play.join(0, 64, (0..services).map(|number| service(&name(number), methods)).collect());
        // One method of each service is called in turn: uncalled methods must cost nothing.
        let called = (0..services).map(|number| (name(number), format!("method-{}", number % methods)));
        play.specs = called.map(|(service, method)| spec(play.now, &service, &method)).collect();
        play
    }

    fn waiting(clients: u64) -> Self {
        let mut play = Self::new();
        // Of one service, but not of one method.
        let mut busy = service("Demo", 1);
        busy.methods[0].name = "busy".into();
        play.join(0, 1, vec![busy]);
        play.join(1, 64, vec![service("Demo", 4)]);
        for owner in 0..clients {
            let spec = CallSpec { owner, ..spec(play.now, "Demo", "busy") };
            play.call(spec);
        }
        play.sent.clear();
        play.specs = vec![spec(play.now, "Demo", "method-0")];
        play
    }

    /// Each worker offers a service of its own beside the common one.
    fn kinds(count: u64) -> Self {
        let mut play = Self::new();
        for peer in 0..count {
            play.join(peer, 64, vec![service("Demo", 4), service(&format!("Own{peer}"), 1)]);
        }
        play.specs = vec![spec(play.now, "Demo", "method-0")];
        play
    }

    /// The same workers, and calls that wait for room in a window.
    fn large(count: u64) -> Self {
        let mut play = Self::kinds(count);
        play.specs[0].payload.bytes = vec![0; 5_000].into();
        play
    }

    /// Each worker has a limit of its own, and half of them a signature of their own.
    fn declarations(count: u64) -> Self {
        let mut play = Self::new();
        for peer in 0..count {
            let mut service = service("Demo", 4);
            service.methods[0].fingerprint += peer % 2 * peer;
            let ready = ready(peer, 64, vec![service]);
            play.introduce(peer, Ready { payload_bytes_max: ready.payload_bytes_max + peer, ..ready });
        }
        play.specs = vec![spec(play.now, "Demo", "method-0")];
        play
    }

    /// The same workers as in [`Self::kinds`], each with a call in flight and room for no other.
    fn busy(count: u64) -> Self {
        let mut play = Self::new();
        for peer in 0..count {
            play.join(peer, 1, vec![service("Demo", 4), service(&format!("Own{peer}"), 1)]);
        }
        play.specs = vec![spec(play.now, "Demo", "method-0")];
        (0..count).for_each(|_| play.call(play.specs[0].clone()));
        play.is_busy = true;
        play
    }

    /// The same workers, all busy, and calls of 3,000 signatures that wait for them.
    fn lines(count: u64) -> Self {
        let mut play = Self::busy(count);
        let own = spec(play.now, "Demo", "method-0");
        (0..3_000).for_each(|number| play.call(CallSpec { fingerprint: 1_000 + number, ..own.clone() }));
        play
    }

    fn join(&mut self, peer: u64, credits: u32, services: Vec<ServiceOffer>) {
        self.introduce(peer, ready(peer, credits, services));
    }

    fn introduce(&mut self, peer: u64, ready: Ready) {
        self.dispatcher.handle_message(self.now, Peer(peer), Message::Ready(ready));
        self.settle();
        self.sent.clear();
    }

    fn call(&mut self, spec: CallSpec) {
        self.calls += 1;
        self.dispatcher.call(self.now, CallId(self.calls), spec);
        self.settle();
    }

    fn reply(&mut self) {
        let (peer, call) = self.sent.pop_front().expect("a request was sent");
        let reply = FinalReply { call, partials: 0, payload: Payload::default() };
        self.dispatcher.handle_message(self.now, peer, Message::Final(reply));
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.dispatcher.poll_output() {
            if let Output::Ended(_, end, receipt) = output {
                assert!(end.is_ok(), "a call has failed: {end:?}");
                self.dispatcher.release(self.now, receipt);
            }
        }
        while let Some(transmit) = self.dispatcher.poll_transmit() {
            let requests = transmit.messages.iter().filter_map(Message::request);
            self.sent.extend(requests.map(|call| (transmit.to, call)));
        }
    }
}

impl Measured for Play {
    fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.at = (self.at + 7_919) % self.specs.len();
            // Time moves on, as in reality.
            self.now += Duration::from_micros(1);
            let spec = CallSpec { deadline: self.now + Duration::from_secs(5), ..self.specs[self.at].clone() };
            self.call(spec);
            if self.is_busy {
                self.reply();
            }
            while !self.is_busy && self.sent.len() >= self.in_flight {
                self.reply();
            }
        }
    }

    fn steps(&self) -> u32 {
        20_000_u32.max(self.in_flight as u32 + 20_000)
    }
}

/// Waiting calls of many signatures; a worker that offers their method in a way of its own joins, and leaves.
struct Lines {
    play: Play,
}

impl Lines {
    fn of(kinds: u64) -> Self {
        Self { play: Play::lines(kinds) }
    }
}

impl Measured for Lines {
    fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            let mut service = service("Demo", 4);
            service.methods[0].fingerprint = 77;
            self.play.join(1_000_000, 1, vec![service]);
            self.play.dispatcher.handle_disconnected(self.play.now, Peer(1_000_000));
            self.play.settle();
        }
    }

    fn steps(&self) -> u32 {
        4
    }
}

/// A broker with many workers of 500 methods; one more joins and leaves, and one repeats its introduction.
struct Fleet {
    broker: Broker,
    now: Instant,
    peers: u64,
    /// Whether each worker has a service of its own. Together they far exceed an introduction.
    is_diverse: bool,
}

impl Fleet {
    fn of(count: u64) -> Self {
        Self::new(count, false)
    }

    fn own(count: u64) -> Self {
        Self::new(count, true)
    }

    fn new(count: u64, is_diverse: bool) -> Self {
        let mut fleet = Self { broker: Broker::new(BrokerConfig::default()), now: now(), peers: count, is_diverse };
        (0..count).for_each(|peer| fleet.ready(Peer(peer)));
        fleet
    }

    fn ready(&mut self, peer: Peer) {
        let name = if self.is_diverse { format!("Own{}", peer.0) } else { "Demo".to_owned() };
        let ready = ready(peer.0, 64, vec![service(&name, 500)]);
        self.broker.handle_message(self.now, Door::Back, peer, Message::Ready(ready));
        self.settle();
    }

    fn settle(&mut self) {
        while self.broker.poll_output().is_some() {}
        while self.broker.poll_transmit().is_some() {}
    }
}

impl Measured for Fleet {
    fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.ready(Peer(0));
            self.peers += 1;
            self.ready(Peer(self.peers));
            self.broker.handle_disconnected(self.now, Door::Back, Peer(self.peers));
            self.settle();
        }
    }

    fn steps(&self) -> u32 {
        4
    }
}

/// How long it takes to end calls that expire together.
struct Expiries {
    total: Duration,
    passes: u32,
    longest: Duration,
}

impl Expiries {
    fn measure(calls: u64) -> Self {
        let mut play = Play::new();
        for peer in 0..1_000 {
            let services = (0..10).map(|number| service(&format!("Service{peer}-{number}"), 1)).collect();
            play.join(peer, 64, services);
        }
        for owner in 0..calls {
            let spec = CallSpec { owner, ..spec(play.now, "Absent", "method-0") };
            play.call(spec);
        }
        let (mut longest, mut ended, mut passes, deadline) = (Duration::ZERO, 0, 0, play.now + Duration::from_secs(5));
        let start = now();
        while ended < calls {
            let pass = now();
            play.dispatcher.handle_timeout(deadline);
            longest = longest.max(pass.elapsed());
            passes += 1;
            while let Some(output) = play.dispatcher.poll_output() {
                ended += u64::from(matches!(output, Output::Ended(..)));
            }
            while play.dispatcher.poll_transmit().is_some() {}
        }
        Self { total: start.elapsed(), passes, longest }
    }
}

fn spec(now: Instant, service: &str, method: &str) -> CallSpec {
    CallSpec {
        service: service.into(),
        method: method.into(),
        fingerprint: 7,
        idempotent: None,
        must_declare: false,
        wait_policy: WaitPolicy::UntilDeadline,
        owner: 0,
        attempts_before: 0,
        deadline: now + Duration::from_secs(5),
        metadata: Default::default(),
        payload: Payload::default(),
    }
}

fn service(name: &str, methods: usize) -> ServiceOffer {
    let method = |number| MethodOffer { name: format!("method-{number}").into(), idempotent: true, fingerprint: 7 };
    ServiceOffer { name: name.into(), version: 1, methods: (0..methods).map(method).collect() }
}

/// The introduction of a worker in its own process.
fn ready(peer: u64, credits: u32, services: Vec<ServiceOffer>) -> Ready {
    Ready {
        role: Role::Worker,
        incarnation: Uuid::from_u64_pair(1, peer),
        capabilities: Capabilities::BATCH,
        interval: Duration::from_secs(60),
        payload_bytes_max: 1 << 20,
        credits,
        window_bytes: 0,
        codecs: Codec::ALL.to_vec(),
        services,
    }
}

/// This measures the core's processor time; the core itself receives instants.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// How often each pair is measured.
const ROUNDS: u32 = 20;

/// A busy machine disturbs the larger working set more, which is no fault; code that scans exceeds its target by far
/// more.
const TOLERANCE: f64 = 2.0;
