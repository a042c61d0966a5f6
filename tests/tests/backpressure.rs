//! A peer that does not read, is frozen or floods costs its own window, and delays no other peer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use xero::{
    Client,
    proto::message::{Message, Request, Role},
};
use xero_tests::{
    load::{
        LoadClient, Order,
        figures::{Latencies, mebibytes},
        role::{CALLER, REPLIED, STARTED, WORKER},
    },
    probe,
    process::{Process, resident_bytes},
    raw::{self, Dispatcher, Link},
    scene::{LONG, PATIENCE, Port, beating, bind, has_workers, probe, run_alone, timed, within},
};

const MIB: usize = 1 << 20;

/// The credits of the workers and clients under test.
const CREDITS: u32 = 64;

/// The memory bound: the credits' worth of calls of a mebibyte, and the promised margin.
const BOUND: usize = (CREDITS as usize + 32) * MIB;

#[test]
fn worker_that_never_reads_costs_its_credits_and_delays_no_other() {
    run_alone(async {
        let client = bind(beating(LONG)).await;
        let _good = worker(&[client.endpoint()]).await;
        has_workers(&client, 1).await;
        undisturbed(&client, &[("client", std::process::id())], async || {
            let ready = raw::Ready { credits: CREDITS, ..raw::ready() };
            let link = raw::worker(client.endpoint(), ready).await;
            let calls = flood(&client, CREDITS as usize);
            (link, calls)
        })
        .await;
    });
}

#[test]
fn frozen_worker_costs_its_credits_and_delays_no_other() {
    run_alone(async {
        let client = bind(beating(LONG)).await;
        let _good = worker(&[client.endpoint()]).await;
        let frozen = frozen_prober(&client).await;
        let calls = undisturbed(&client, &[("client", std::process::id())], async || {
            frozen.freeze();
            flood(&client, CREDITS as usize)
        })
        .await;
        frozen.thaw();
        all_reply(calls).await;
    });
}

#[test]
fn client_that_never_reads_costs_the_worker_its_credits_and_delays_no_other() {
    run_alone(async {
        let client = bind(beating(LONG)).await;
        let dispatcher = Dispatcher::bind().await;
        let worker = worker(&[client.endpoint(), &dispatcher.endpoint]).await;
        let mut link = dispatcher.register().await;
        has_workers(&client, 1).await;
        undisturbed(&client, &[("worker", worker.id())], async || {
            // Four times the worker's credits.
            for number in 0..4 * u64::from(CREDITS) {
                link.send(&Message::Request(order_of_a_mebibyte(number))).await;
            }
            link
        })
        .await;
    });
}

#[test]
fn frozen_client_costs_the_worker_its_credits_and_delays_no_other() {
    run_alone(async {
        let client = bind(beating(LONG)).await;
        let port = Port::reserve();
        let worker = worker(&[client.endpoint(), &port.endpoint()]).await;
        has_workers(&client, 1).await;
        undisturbed(&client, &[("worker", worker.id())], async || {
            let caller = caller(&["--bind", "--interval", "20000", "--reply", "1048576"], &port.endpoint());
            caller.says(REPLIED).await;
            caller.freeze();
            caller
        })
        .await;
    });
}

#[test]
fn flood_of_large_calls_through_a_broker_costs_its_credits_and_delays_no_other() {
    run_alone(async {
        let Brokered { client, broker, frontend, workers } = Brokered::start().await;
        let [first, second] = &workers;
        let processes = [("broker", broker.id()), ("worker 0", first.id()), ("worker 1", second.id())];
        undisturbed(&client, &processes, async || {
            let caller = caller(&["--text", "1048576"], &frontend);
            caller.says(REPLIED).await;
            caller
        })
        .await;
    });
}

#[test]
fn frozen_client_of_a_broker_costs_its_credits_and_delays_no_other() {
    run_alone(async {
        let Brokered { client, broker, frontend, workers } = Brokered::start().await;
        let [first, second] = &workers;
        let processes = [("broker", broker.id()), ("worker 0", first.id()), ("worker 1", second.id())];
        undisturbed(&client, &processes, async || {
            let caller = caller(&["--interval", "20000", "--reply", "1048576"], &frontend);
            caller.says(REPLIED).await;
            caller.freeze();
            caller
        })
        .await;
    });
}

#[test]
fn client_of_a_broker_that_never_reads_costs_its_credits_and_delays_no_other() {
    run_alone(async {
        let Brokered { client, broker, frontend, workers } = Brokered::start().await;
        let [first, second] = &workers;
        let processes = [("broker", broker.id()), ("worker 0", first.id()), ("worker 1", second.id())];
        undisturbed(&client, &processes, async || {
            let mut link = Link::dial(&frontend).await;
            let ready = raw::Ready { role: Role::Client, credits: 0, services: Vec::new(), ..raw::ready() };
            link.send(&Message::Ready(raw::Ready { window_bytes: 8 << 20, ..ready })).await;
            for number in 0..4 * u64::from(CREDITS) {
                link.send(&Message::Request(order_of_a_mebibyte(number))).await;
            }
            link
        })
        .await;
    });
}

#[test]
fn frozen_worker_of_a_broker_costs_its_credits_and_delays_no_other() {
    run_alone(async {
        let Brokered { client, broker, frontend, workers: _workers } = Brokered::start().await;
        let backend = broker.line("backend ").await;
        let frozen = probe!("worker", &backend, "--interval", "20000", "--concurrency", "64");
        let flooder = Client::connect(&frontend).expect("an endpoint");
        flooder.wait_for_service("Probe", PATIENCE).await.expect("it comes");
        let calls = undisturbed(&client, &[("broker", broker.id())], async || {
            frozen.freeze();
            flood(&flooder, CREDITS as usize)
        })
        .await;
        frozen.thaw();
        all_reply(calls).await;
    });
}

/// A broker, two workers, and an unaffected client.
struct Brokered {
    client: Client,
    broker: Process,
    frontend: String,
    workers: [Process; 2],
}

impl Brokered {
    async fn start() -> Self {
        let any = "tcp://127.0.0.1:0";
        let broker = play(&["broker", "--interval", "5000", "--credits", &CREDITS.to_string(), any, any]);
        let (frontend, backend) = (broker.line("frontend ").await, broker.line("backend ").await);
        let workers = [worker(&[&backend]).await, worker(&[&backend]).await];
        let client = Client::connect(&frontend).expect("an endpoint");
        client.wait_for_service("Load", PATIENCE).await.expect("it comes");
        Self { client, broker, frontend, workers }
    }
}

/// Calls of other clients before and during the disturbance, and the growth of the processes' memory.
///
/// A busy machine slows down some rounds, the disturbance would slow down all: so one round of normal latency is
/// enough.
async fn undisturbed<T>(client: &Client, processes: &[(&str, u32)], disturb: impl AsyncFnOnce() -> T) -> T {
    let load = LoadClient::new(client);
    // The first calls open connections and services for later ones.
    let _ = latency(&load).await;
    let before = best_latency(&load, ROUNDS_BEFORE, Duration::ZERO).await;
    let memory = Watch::start(processes);
    let disturbance = disturb().await;
    let during = best_latency(&load, ROUNDS_DURING, 2 * before).await;
    println!("p99 {before:.1?} before, {during:.1?} during");
    for (name, growth) in memory.growth() {
        println!("{name}: {} more", mebibytes(growth));
        assert!(growth <= BOUND, "{name} has {} more of at most {}", mebibytes(growth), mebibytes(BOUND));
    }
    assert!(during < 2 * before, "the 99th percentile was {before:.1?} and has become {during:.1?}");
    disturbance
}

/// The best of this many rounds, or the first one under `enough`.
async fn best_latency(load: &LoadClient, rounds: u32, enough: Duration) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        best = best.min(latency(load).await);
        if best < enough {
            break;
        }
    }
    best
}

/// The 99th percentile of concurrent calls that take some milliseconds each.
async fn latency(load: &LoadClient) -> Duration {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let load = load.clone();
        callers.spawn(async move {
            let order = Order { number: 1, text_bytes: 16, reply_bytes: 16, millis: 20 };
            let mut times = Vec::new();
            for _ in 0..CALLS {
                let (outcome, time) = timed(load.once(order, &order.text()).timeout(PATIENCE)).await;
                order.check(&outcome.expect("a reply")).expect("the right one");
                times.push(time);
            }
            times
        });
    }
    let mut latencies = Latencies::default();
    callers.join_all().await.into_iter().flatten().for_each(|time| latencies.add(time));
    latencies.percentile(99.0)
}

/// Observes the memory of processes.
struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

/// A process's memory.
struct Seen {
    name: String,
    process: u32,
    before: usize,
    most: usize,
}

impl Watch {
    fn start(processes: &[(&str, u32)]) -> Self {
        let seen = processes.iter().map(|(name, process)| {
            let before = resident_bytes(*process).expect("it runs");
            Seen { name: (*name).to_owned(), process: *process, before, most: before }
        });
        let seen = Arc::new(Mutex::new(seen.collect::<Vec<_>>()));
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                loop {
                    for seen in &mut *seen.lock().unwrap_or_else(PoisonError::into_inner) {
                        seen.most = seen.most.max(resident_bytes(seen.process).expect("it runs"));
                    }
                    sleep(Duration::from_millis(2)).await;
                }
            }
        });
        Self { seen, task }
    }

    /// The largest growth of each since the start.
    fn growth(self) -> Vec<(String, usize)> {
        self.task.abort();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|seen| (seen.name.clone(), seen.most - seen.before)).collect()
    }
}

fn play(arguments: &[&str]) -> Process {
    Process::start(env!("CARGO_BIN_EXE_chaos"), arguments)
}

/// A worker that serves `Load`, with an expiry long enough for slow machines.
async fn worker(endpoints: &[&str]) -> Process {
    let settings = [WORKER, "--interval", "5000", "--credits", &CREDITS.to_string()];
    let process = play(&[&settings[..], endpoints].concat());
    process.says(STARTED).await;
    process
}

/// Endless calls with these settings, four times as many at once as there are credits.
fn caller(settings: &[&str], endpoint: &str) -> Process {
    let concurrency = (4 * CREDITS).to_string();
    play(&[&[CALLER, "--concurrency", &concurrency], settings, &[endpoint]].concat())
}

/// The only worker of `Probe`; its expiry is long.
async fn frozen_prober(client: &Client) -> Process {
    let process = probe!("worker", client.endpoint(), "--interval", "20000", "--concurrency", &*CREDITS.to_string());
    client.wait_for_service("Probe", PATIENCE).await.expect("it comes");
    process
}

/// This many calls of a mebibyte, all at once.
fn flood(client: &Client, count: usize) -> Vec<xero::PendingCall<String, xero::Never>> {
    let text = "x".repeat(MIB);
    (0..count).map(|_| probe(client).echo(&text).timeout(2 * PATIENCE).start()).collect()
}

async fn all_reply(calls: Vec<xero::PendingCall<String, xero::Never>>) {
    for call in calls {
        let outcome = within(PATIENCE, call).await;
        assert!(matches!(&outcome, Ok(text) if text.len() == MIB), "{:?}", outcome.map(|text| text.len()));
    }
}

/// A request whose reply has a mebibyte.
fn order_of_a_mebibyte(number: u64) -> Request {
    let order = format!(r#"[{{"number":{number},"text_bytes":0,"reply_bytes":{MIB},"millis":0}}, ""]"#);
    Request { service: "Load".into(), ..raw::request(number, "again", &order) }
}

/// Concurrent callers, and the calls of each in a round.
const CALLERS: usize = 16;
const CALLS: usize = 25;

/// Rounds before the disturbance; the lowest latency of a busy machine is the reference.
const ROUNDS_BEFORE: u32 = 3;

/// The most rounds during it: enough for one that the machine does not disturb.
const ROUNDS_DURING: u32 = 12;
