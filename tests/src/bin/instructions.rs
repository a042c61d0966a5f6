//! The instructions that a call takes in the core, counted by valgrind, beside those on record.
//!
//! Machines of the core talk to each other in frames: no socket, no thread. Unlike time, the count is the same whatever
//! else the machine does.

use std::{
    collections::VecDeque,
    env, fs, io,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use uuid::Uuid;
use xero::proto::{
    broker::{Broker, BrokerConfig, Door},
    calls::{CallSpec, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    frame::{self, Frames, Inbound, KnownNames, Limits},
    hold::HoldLimits,
    liveness::Heartbeats,
    message::{CallId, Codec, MethodOffer, Payload, Peer, ServiceOffer},
    outbox::Transmit,
    retry::BackoffConfig,
    worker::{Finish, Signature, Worker, WorkerConfig, WorkerOutput},
};
use xero_tests::command_line::print_line;

/// Counts the instructions that a call takes in the core, and compares them with those on record
#[derive(Debug, Parser)]
#[command(name = "instructions", version, after_help = HELP, disable_help_subcommand = true)]
struct Options {
    /// Write what was counted to the record
    #[arg(long)]
    record: bool,
    #[command(subcommand)]
    play: Option<Play>,
}

#[derive(Debug, Subcommand)]
enum Play {
    /// Make calls, for valgrind to count
    #[command(hide = true)]
    Play { scene: String, calls: u64 },
}

/// The rest of the help.
const HELP: &str = "\
It needs valgrind, and a build with --release: what is on record is of one.

The count is of both sides: the client's, the worker's, and the broker's if there is one. It covers everything between a
call and its reply except codecs and sockets.

Exit codes:
    0  no count is over its record by more than 5 %
    1  a count is: find out why, or run it with --record if the growth has a reason
    2  the command line was wrong, valgrind is not there, or the record cannot be written
  141  nobody reads the output any more

Examples:
    instructions
    instructions --record";

/// The counts on record: name, tab, number.
const RECORD: &str = include_str!("../../instructions.txt");

/// Where they are.
const RECORD_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");

/// Growth beyond this part is refused.
const GROWTH_MAX: f64 = 0.05;

/// What is counted.
const SCENES: [Scene; 6] = [
    Scene { name: "one call after another", in_flight: 1, ..Scene::DIRECT },
    Scene { name: "64 calls at a time", ..Scene::DIRECT },
    Scene { name: "64 calls at a time, a worker with 16 credits", credits: 16, ..Scene::DIRECT },
    Scene { name: "64 calls at a time, 4 partial replies each", partials: 4, ..Scene::DIRECT },
    Scene { name: "64 calls at a time, 64 KiB each", bytes: 64 << 10, ..Scene::DIRECT },
    Scene { name: "64 calls at a time, through a broker", has_broker: true, ..Scene::DIRECT },
];

#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    in_flight: u64,
    credits: u32,
    partials: u32,
    bytes: usize,
    has_broker: bool,
}

impl Scene {
    const DIRECT: Self = Self { name: "", in_flight: 64, credits: 256, partials: 0, bytes: 64, has_broker: false };
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(Play::Play { scene, calls }) = options.play {
        let Some(scene) = SCENES.iter().find(|known| known.name == scene) else { return ExitCode::from(2) };
        Stage::new(scene).play(scene, calls);
        return ExitCode::SUCCESS;
    }
    match compare(options.record) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Prints all counts. Returns whether none exceeds its record.
fn compare(is_to_record: bool) -> io::Result<bool> {
    let (mut record, mut is_within) = (String::new(), true);
    print_line(format_args!("{:<48} {:>10} {:>10} {:>8}", "instructions a call", "on record", "now", "change"));
    for scene in &SCENES {
        let now = count(scene)?;
        record += &format!("{}\t{now}\n", scene.name);
        let before = RECORD.lines().find_map(|line| line.strip_prefix(scene.name)?.trim().parse::<u64>().ok());
        let (before, change) = match before {
            Some(before) => {
                let change = now as f64 / before as f64 - 1.0;
                is_within &= change <= GROWTH_MAX;
                (before.to_string(), format!("{:+.1} %", 100.0 * change))
            }
            None => {
                is_within = false;
                ("none".to_owned(), String::new())
            }
        };
        print_line(format_args!("{:<48} {before:>10} {now:>10} {change:>8}", scene.name));
    }
    if is_to_record {
        fs::write(RECORD_PATH, record)?;
        print_line(format_args!("written to {RECORD_PATH}"));
    }
    Ok(is_within || is_to_record)
}

/// The instructions of one call: what many calls take beyond few, so that the start of the program does not count.
fn count(scene: &Scene) -> io::Result<u64> {
    let [few, many] = [FEW, MANY].map(|calls| total(scene, calls));
    Ok((many? - few?) / (MANY - FEW))
}

const FEW: u64 = 640;
const MANY: u64 = 2_560;

/// The instructions of a whole process that makes this number of calls.
fn total(scene: &Scene, calls: u64) -> io::Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let played = valgrind.args(["play", scene.name, &calls.to_string()]).output();
    let missing = |error: io::Error| io::Error::new(error.kind(), format!("cannot run valgrind: {error}; install it"));
    let played = played.map_err(missing)?;
    let said = String::from_utf8_lossy(&played.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if played.status.success() => Ok(count),
        _ => Err(io::Error::other(format!("valgrind has counted nothing: {said}"))),
    }
}

/// A client, a worker, and perhaps a broker between them.
struct Stage {
    client: Dispatcher,
    broker: Option<Broker>,
    worker: Worker,
    now: Instant,
    calls: u64,
    ended: u64,
    partials: u32,
    names: [KnownNames; 3],
}

/// Frames on their way.
enum To {
    Client(Frames),
    Worker(Frames),
    Broker(Door, Frames),
}

/// The number of each side at the other.
const PEER: Peer = Peer(0);

impl Stage {
    fn new(scene: &Scene) -> Self {
        let now = start();
        // No heartbeat is due.
        let heartbeats = Heartbeats { interval: Duration::from_secs(60), liveness: 3 };
        let config = |life| DispatcherConfig {
            incarnation: Uuid::from_u64_pair(1, life),
            heartbeats,
            ..DispatcherConfig::default()
        };
        let method = MethodOffer { name: "echo".into(), idempotent: true, fingerprint: 7 };
        let worker = WorkerConfig {
            incarnation: Uuid::from_u64_pair(1, 1),
            seed: 1,
            heartbeats,
            backoff: BackoffConfig::default(),
            limits: Limits::default(),
            credits: scene.credits,
            window_bytes: 2 << 20,
            hold_limits: HoldLimits::default(),
            drain_timeout: Duration::from_secs(30),
            services: vec![ServiceOffer { name: "Echo".into(), version: 1, methods: vec![method] }],
            signatures: vec![vec![Signature::default()]],
        };
        let (client, broker) = match scene.has_broker {
            true => {
                let broker = Broker::new(BrokerConfig { dispatcher: config(3), ..BrokerConfig::default() });
                (Dispatcher::dialing(now, config(2), 1), Some(broker))
            }
            false => (Dispatcher::new(config(2)), None),
        };
        let (worker, partials) = (Worker::new(now, worker, 1), scene.partials);
        let names = [(); 3].map(|()| KnownNames::default());
        let mut stage = Self { client, broker, worker, now, calls: 0, ended: 0, partials, names };
        // The dials are due at once.
        stage.client.handle_timeout(now);
        stage.worker.handle_timeout(now);
        stage.settle();
        stage
    }

    /// Makes this number of calls, and waits for their ends.
    fn play(&mut self, scene: &Scene, calls: u64) {
        let payload = Payload { codec: Codec::Bincode, bytes: Bytes::from(vec![7; scene.bytes]) };
        while self.calls < calls {
            for _ in 0..scene.in_flight {
                self.calls += 1;
                // Time moves on, as in reality.
                self.now += Duration::from_micros(1);
                self.client.call(self.now, CallId(self.calls), spec(self.now, payload.clone()));
            }
            self.settle();
            assert_eq!(self.ended, self.calls, "calls are open");
        }
    }

    /// Lets everything happen that follows.
    fn settle(&mut self) {
        loop {
            self.handle_outputs();
            let mut ways = VecDeque::new();
            while let Some(transmit) = self.client.poll_transmit() {
                let frames = frames_of(&transmit);
                self.client.recycle(transmit);
                ways.push_back(match &self.broker {
                    Some(_) => To::Broker(Door::Front, frames),
                    None => To::Worker(frames),
                });
            }
            while let Some((door, transmit)) = self.broker.as_mut().and_then(Broker::poll_transmit) {
                let frames = frames_of(&transmit);
                self.broker.as_mut().expect("a broker").recycle(door, transmit);
                ways.push_back(if door == Door::Front { To::Client(frames) } else { To::Worker(frames) });
            }
            while let Some(transmit) = self.worker.poll_transmit() {
                let frames = frames_of(&transmit);
                self.worker.recycle(transmit);
                ways.push_back(match &self.broker {
                    Some(_) => To::Broker(Door::Back, frames),
                    None => To::Client(frames),
                });
            }
            if ways.is_empty() {
                return;
            }
            ways.into_iter().for_each(|way| self.arrive(way));
        }
    }

    fn arrive(&mut self, way: To) {
        let (now, limits) = (self.now, Limits::default());
        let (frames, of) = match way {
            To::Client(frames) => (frames, 0),
            To::Worker(frames) => (frames, 1),
            To::Broker(door, frames) => {
                let mut decoded = frame::decode(frames, &limits);
                while let Some(message) = decoded.next_known(&mut self.names[2]) {
                    let broker = self.broker.as_mut().expect("a broker");
                    broker.handle_message(now, door, PEER, readable(message));
                    while broker.poll_output().is_some() {}
                }
                return;
            }
        };
        let mut decoded = frame::decode(frames, &limits);
        while let Some(message) = decoded.next_known(&mut self.names[of]) {
            match of {
                0 => self.client.handle_message(now, PEER, readable(message)),
                _ => self.worker.handle_message(now, PEER, readable(message)),
            }
            self.handle_outputs();
        }
    }

    fn handle_outputs(&mut self) {
        let now = self.now;
        loop {
            if let Some(output) = self.client.poll_output() {
                match output {
                    Output::Dial(peer) => self.client.handle_dialed(now, peer),
                    Output::Partial(_, _, receipt) => self.client.release(now, receipt),
                    Output::Ended(_, end, receipt) => {
                        assert!(end.is_ok(), "a call has failed: {end:?}");
                        self.ended += 1;
                        self.client.release(now, receipt);
                    }
                    _ => {}
                }
            } else if let Some(output) = self.worker.poll_output() {
                match output {
                    WorkerOutput::Dial(peer) => self.worker.handle_dialed(now, peer),
                    WorkerOutput::Start(start) => {
                        for _ in 0..self.partials {
                            self.worker.partial(now, start.execution, start.request.payload.clone());
                        }
                        self.worker.finish(now, start.execution, Finish::Reply(start.request.payload));
                    }
                    _ => {}
                }
            } else {
                return;
            }
        }
    }
}

fn frames_of(transmit: &Transmit) -> Frames {
    match transmit.messages.as_slice() {
        [message] => frame::encode(message),
        messages => frame::encode_batch(messages),
    }
}

fn readable(message: Result<Inbound, frame::Malformed>) -> Inbound {
    message.expect("a readable message")
}

fn spec(now: Instant, payload: Payload) -> CallSpec {
    CallSpec {
        service: "Echo".into(),
        method: "echo".into(),
        fingerprint: 7,
        idempotent: None,
        must_declare: false,
        wait_policy: WaitPolicy::UntilDeadline,
        owner: 0,
        attempts_before: 0,
        deadline: now + Duration::from_secs(5),
        metadata: Default::default(),
        payload,
    }
}

/// The core itself receives instants.
#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}
