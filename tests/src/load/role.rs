//! The roles of processes: a worker, a broker, a caller that never rests, a steady load, a faulty link.

mod options;

use std::{fmt, sync::Arc, time::Duration};

use clap::Subcommand;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::interval,
};
use xero::{Broker, Client, ClientBuilder};

pub use self::options::{BrokerOptions, CallerOptions, LinkOptions, LoadOptions, WorkerOptions};
use super::{
    LoadClient, Order, Porter,
    record::{Notes, Record, print_workers},
    steady::{Records, Steady},
};
use crate::{
    link::Link,
    scene::{PATIENCE, runtime},
};

/// A role and its options.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Serve until SIGTERM, then finish running calls
    #[command(name = WORKER, after_help = options::WORKER_HELP)]
    Worker(WorkerOptions),
    /// Route calls until SIGTERM, then let running calls end
    #[command(name = BROKER, after_help = options::BROKER_HELP)]
    Broker(BrokerOptions),
    /// Make the same call again and again until SIGTERM, or until one fails
    #[command(name = CALLER, after_help = options::CALLER_HELP)]
    Caller(CallerOptions),
    /// Start calls at a steady rate until SIGTERM, then wait for the open ones
    #[command(name = LOAD, after_help = options::LOAD_HELP)]
    Load(LoadOptions),
    /// Carry TCP connections with delay and a bounded rate until SIGTERM
    #[command(name = LINK, after_help = options::LINK_HELP)]
    Link(LinkOptions),
}

impl Role {
    /// Plays it to its end. With `records`, it writes on standard output what a judge needs; see [`Record`]. A load
    /// always does.
    ///
    /// # Errors
    /// When it cannot start, or cannot continue.
    pub fn play(self, records: bool) -> Result<(), Failure> {
        runtime(2).block_on(async {
            let terminated = Terminated::listen()?;
            match self {
                Self::Worker(options) => work(options, terminated, records).await,
                Self::Broker(options) => route(options, terminated, records).await,
                Self::Caller(options) => call(options, terminated).await,
                Self::Load(options) => load(options, terminated).await,
                Self::Link(options) => link(options, terminated).await,
            }
        })
    }
}

/// Why a role was not played to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its arguments are wrong.
    Usage(String),
    /// It could not continue.
    Broken(String),
}

impl Failure {
    /// The exit code of its process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Usage(_) => 2,
        }
    }

    fn usage(error: impl fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

    fn broken(error: impl fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(reason) | Self::Broken(reason)) = self;
        write!(f, "error: {reason}")
    }
}

async fn work(options: WorkerOptions, mut terminated: Terminated, records: bool) -> Result<(), Failure> {
    let notes = match (&options.journal, records) {
        (Some(path), _) => Notes::journal(path).map_err(Failure::usage)?,
        (None, true) => Notes::Output,
        (None, false) => Notes::Nowhere,
    };
    let worker = options.settings().serve(Porter::noting(notes)).start().map_err(Failure::usage)?;
    println!("{STARTED}{}", worker.id());
    if records {
        Record::started(Some(worker.id())).print();
    }
    terminated.wait().await;
    worker.drain().await;
    println!("left");
    Ok(())
}

async fn route(options: BrokerOptions, mut terminated: Terminated, records: bool) -> Result<(), Failure> {
    let broker = options.settings().bind(&options.frontend, &options.backend).await.map_err(Failure::usage)?;
    println!("frontend {}\nbackend {}\n{STARTED}{}", broker.frontend(), broker.backend(), broker.id());
    if records {
        Record::started(Some(broker.id())).print();
    }
    let leave = async {
        terminated.wait().await;
        broker.drain().await;
    };
    tokio::select! {
        () = leave => {}
        () = list_workers(&broker), if options.tells => {}
        () = print_workers(|| broker.workers()), if records => {}
    }
    println!("left");
    Ok(())
}

async fn list_workers(broker: &Broker) {
    let mut moments = interval(TELLING);
    for sequence in 1_u64.. {
        moments.tick().await;
        let ids: Vec<_> = broker.workers().iter().map(|worker| worker.id.to_string()).collect();
        println!("{WORKERS}{sequence} {}", ids.join(" "));
    }
}

/// Calls until SIGTERM, a bounded number at once, and prints a line at each reply.
async fn call(options: CallerOptions, mut terminated: Terminated) -> Result<(), Failure> {
    let settings = Client::builder().heartbeat_interval(options.interval);
    let client = open(settings, &options.endpoints, options.bind).await?;
    let CallerOptions { text: text_bytes, reply: reply_bytes, millis, .. } = options;
    let mut callers = JoinSet::new();
    for number in 0..options.concurrency {
        let order = Order { number, text_bytes, reply_bytes, millis };
        callers.spawn(call_again(LoadClient::new(&client), order));
    }
    tokio::select! {
        Some(failed) = callers.join_next() => Err(Failure::Broken(failed.map_err(Failure::broken)?)),
        () = terminated.wait() => Ok(()),
    }
}

/// Makes the same call again and again, until one fails.
async fn call_again(client: LoadClient, order: Order) -> String {
    let text = order.text();
    loop {
        match client.again(order, &text).timeout(2 * PATIENCE).await {
            Ok(receipt) => match order.check(&receipt) {
                Ok(()) => println!("{REPLIED}"),
                Err(mistake) => return mistake,
            },
            Err(error) => return error.to_string(),
        }
    }
}

async fn load(options: LoadOptions, mut terminated: Terminated) -> Result<(), Failure> {
    let client = open(options.settings(), &options.endpoints, options.bind).await?;
    Record::started(None).print();
    let LoadOptions { rate, seed, first, text_max: text_bytes_max, .. } = options;
    let load = Steady { client: LoadClient::new(&client), seed, text_bytes_max, book: Arc::new(Records) };
    let calls = async {
        tokio::select! {
            waited = client.wait_for_worker(WAITING) => waited.map_err(Failure::broken)?,
            () = terminated.wait() => return Ok(()),
        }
        load.make(first.unwrap_or_else(drawn_number), rate, terminated.wait()).await;
        Ok::<_, Failure>(())
    };
    tokio::select! {
        ended = calls => ended?,
        () = print_workers(|| client.workers()) => {}
    }
    client.close().await;
    println!("left");
    Ok(())
}

/// A first number far from those that other processes have drawn.
fn drawn_number() -> u64 {
    fastrand::u64(..options::FIRST_MAX) >> NUMBERS_BITS << NUMBERS_BITS
}

/// A client that binds the first endpoint, or connects to all of them as brokers.
async fn open(settings: ClientBuilder, endpoints: &[String], binds: bool) -> Result<Client, Failure> {
    let client = match (binds, endpoints) {
        (true, [endpoint]) => settings.bind(endpoint).await.map_err(Failure::usage)?,
        (true, _) => return Err(Failure::usage("--bind takes one ENDPOINT")),
        (false, _) => settings.connect(endpoints).map_err(Failure::usage)?,
    };
    println!("{STARTED}{}", client.endpoint());
    Ok(client)
}

async fn link(options: LinkOptions, mut terminated: Terminated) -> Result<(), Failure> {
    let LinkOptions { latency, jitter, bytes_per_second, seed, .. } = options;
    for (number, (listen, target)) in (0..).zip(&options.ways) {
        let link = Link { latency, jitter, bytes_per_second, seed: seed.wrapping_add(number) };
        let opened = link.open(listen, target).await;
        let address = opened.map_err(|error| Failure::Usage(format!("{listen}: {error}")))?;
        println!("{STARTED}{address}");
    }
    terminated.wait().await;
    Ok(())
}

/// SIGTERM, from the start of listening.
struct Terminated(Signal);

impl Terminated {
    fn listen() -> Result<Self, Failure> {
        signal(SignalKind::terminate()).map(Self).map_err(Failure::broken)
    }

    async fn wait(&mut self) {
        self.0.recv().await;
    }
}

/// The role of a worker.
pub const WORKER: &str = "worker";

/// The role of a broker.
pub const BROKER: &str = "broker";

/// The role of a client that calls without end.
pub const CALLER: &str = "caller";

/// The role of a client that calls at a steady rate.
pub const LOAD: &str = "load";

/// The role of a faulty link.
pub const LINK: &str = "link";

/// A caller's line at each reply.
pub const REPLIED: &str = "replied";

/// The option that makes a broker print its workers.
pub const TELLS: &str = "tells";

/// The start of a broker's line about its workers; a rising number and their ids follow.
pub const WORKERS: &str = "workers ";

/// The start of a process's line when it serves; its id follows, or the endpoint of a client or link.
pub const STARTED: &str = "started ";

/// The liveness where an interval is given: so high that a busy machine is not mistaken for a frozen one.
pub const LIVENESS: u32 = 4;

/// The bits of the number of calls that one process may make.
const NUMBERS_BITS: u32 = 28;

/// The pause between a broker's lines about its workers.
const TELLING: Duration = Duration::from_millis(50);

/// How long a load waits for its first worker: the other processes may still be starting.
const WAITING: Duration = Duration::from_secs(60);
