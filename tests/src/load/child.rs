//! The processes that serve: a program that is started with a role as its first argument plays it.

use std::{error::Error, io::Read, path::PathBuf, process, thread, time::Duration};

use clap::{Args, Parser, Subcommand};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::interval,
};
use xero::{Broker, Client, Worker};

use super::{LoadClient, Order, Porter, record::Notes};
use crate::{
    command_line::whole_number,
    scene::{PATIENCE, show_logs},
};

/// Plays the role that the arguments name, and ends the process with it. Returns when they name none.
pub fn play() {
    let role = std::env::args().nth(1).unwrap_or_default();
    if ![WORKER, BROKER, CALLER].contains(&&*role) {
        return;
    }
    let Child { role } = Child::parse();
    show_logs();
    thread::spawn(|| {
        // Nothing is ever said to it: this ends when the process that has started this one does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(3);
    });
    if let Err(error) = try_playing(role) {
        eprintln!("{error}");
        process::exit(2);
    }
    process::exit(0);
}

#[derive(Debug, Parser)]
struct Child {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    #[command(name = WORKER)]
    Worker(WorkerOptions),
    #[command(name = BROKER)]
    Broker(BrokerOptions),
    #[command(name = CALLER)]
    Caller(CallerOptions),
}

#[derive(Debug, Args)]
struct WorkerOptions {
    /// The clients or brokers to dial
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,
    /// The file for the numbers of the calls that must not run twice
    #[arg(long)]
    journal: Option<PathBuf>,
    #[arg(long, value_name = "MILLISECONDS", value_parser = milliseconds)]
    interval: Option<Duration>,
    #[arg(long, value_name = "N")]
    credits: Option<u32>,
}

#[derive(Debug, Args)]
struct BrokerOptions {
    frontend: String,
    backend: String,
    #[arg(long, value_name = "MILLISECONDS", value_parser = milliseconds)]
    interval: Option<Duration>,
    #[arg(long, value_name = "N")]
    attempts: Option<u8>,
    #[arg(long, value_name = "N")]
    credits: Option<u32>,
    /// Say again and again which workers it has
    #[arg(long = TELLS)]
    tells: bool,
}

#[derive(Debug, Args)]
struct CallerOptions {
    /// The endpoint to bind, or the brokers to connect to
    #[arg(value_name = "ENDPOINT", required = true)]
    endpoints: Vec<String>,
    #[arg(long)]
    bind: bool,
    #[arg(long, value_name = "MILLISECONDS", default_value = "1000", value_parser = milliseconds)]
    interval: Duration,
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrency: u64,
    /// The length of each call's text
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    text: usize,
    /// The length of each reply's text
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    reply: usize,
    /// How long the procedure is to take
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    millis: u64,
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    whole_number(1..=u64::MAX)(text).map(Duration::from_millis)
}

fn try_playing(role: Role) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match role {
        Role::Worker(options) => runtime.block_on(work(options)),
        Role::Broker(options) => runtime.block_on(route(options)),
        Role::Caller(options) => runtime.block_on(call(options)),
    }
}

/// Serves until SIGTERM, then drains.
async fn work(options: WorkerOptions) -> Result<(), Box<dyn Error>> {
    let mut terminated = terminated()?;
    let mut settings = Worker::connect(options.endpoints).backoff(BACKOFF.0, BACKOFF.1).drain_timeout(DRAIN);
    if let Some(interval) = options.interval {
        settings = settings.heartbeat_interval(interval).liveness(LIVENESS);
    }
    if let Some(credits) = options.credits {
        settings = settings.concurrency(credits);
    }
    let notes = options.journal.as_deref().map_or(Ok(Notes::Nowhere), Notes::journal)?;
    let worker = settings.serve(Porter::noting(notes)).start()?;
    println!("{STARTED}{}", worker.id());
    terminated.recv().await;
    worker.drain().await;
    println!("left");
    Ok(())
}

/// Routes until SIGTERM, then drains. Says again and again which workers it has, if it is to.
async fn route(options: BrokerOptions) -> Result<(), Box<dyn Error>> {
    let mut terminated = terminated()?;
    let mut settings = Broker::builder().drain_timeout(DRAIN);
    if let Some(interval) = options.interval {
        settings = settings.heartbeat_interval(interval).liveness(LIVENESS);
    }
    if let Some(attempts) = options.attempts {
        settings = settings.attempts_max(attempts);
    }
    if let Some(credits) = options.credits {
        settings = settings.client_credits(credits);
    }
    let broker = settings.bind(&options.frontend, &options.backend).await?;
    println!("frontend {}\nbackend {}\n{STARTED}{}", broker.frontend(), broker.backend(), broker.id());
    tokio::select! {
        () = tell_workers(&broker), if options.tells => {}
        _ = terminated.recv() => {}
    }
    broker.drain().await;
    println!("left");
    Ok(())
}

async fn tell_workers(broker: &Broker) {
    let mut moments = interval(TELLING);
    for sequence in 1_u64.. {
        moments.tick().await;
        let ids: Vec<_> = broker.workers().iter().map(|worker| worker.id.to_string()).collect();
        println!("{WORKERS}{sequence} {}", ids.join(" "));
    }
}

/// Calls without end, so many at once, with a text and for a reply of so many bytes. Binds the endpoint, or connects to
/// it as to a broker. Says when it has had its first reply.
async fn call(options: CallerOptions) -> Result<(), Box<dyn Error>> {
    let settings = Client::builder().heartbeat_interval(options.interval);
    let client = match options.bind {
        true => settings.bind(options.endpoints.first().ok_or("a caller needs an endpoint")?).await?,
        false => settings.connect(&options.endpoints)?,
    };
    println!("{STARTED}{}", client.endpoint());
    let CallerOptions { text: text_bytes, reply: reply_bytes, millis, .. } = options;
    let mut callers = JoinSet::new();
    for number in 0..options.concurrency {
        let order = Order { number, text_bytes, reply_bytes, millis };
        callers.spawn(call_again(LoadClient::new(&client), order));
    }
    Err(callers.join_next().await.ok_or("there is nothing to call")??.into())
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

fn terminated() -> std::io::Result<Signal> {
    signal(SignalKind::terminate())
}

/// The role of a worker.
pub const WORKER: &str = "worker";

/// The role of a broker.
pub const BROKER: &str = "broker";

/// The role of a client that calls without end.
pub const CALLER: &str = "caller";

/// What a caller says at each reply.
pub const REPLIED: &str = "replied";

/// The option by which a broker says which workers it has.
pub const TELLS: &str = "tells";

/// How a broker begins to say which workers it has; a number that rises each time follows, and their ids.
pub const WORKERS: &str = "workers ";

/// How many intervals may pass in silence where an interval is given: so many that a busy machine is not taken for a
/// frozen one.
pub const LIVENESS: u32 = 4;

/// The bounds of the wait between two dials: short, as in a run of seconds much is to come back.
pub const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How a process begins to say that it serves; its id follows.
pub const STARTED: &str = "started ";

/// How long a drain may take here.
pub const DRAIN: Duration = Duration::from_secs(5);

/// How often a broker says which workers it has.
const TELLING: Duration = Duration::from_millis(50);
