//! The processes that serve: a program that is started with a role as its first argument plays it.

use std::{error::Error, io::Read, path::PathBuf, process, thread, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::interval,
};
use xero::{Broker, Client, Worker};

use super::{LoadClient, Order, Porter, options::Options};
use crate::scene::{PATIENCE, show_logs};

/// Plays the role that the arguments name, and ends the process with it. Returns when they name none.
pub fn play() {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    if ![WORKER, BROKER, CALLER].contains(&&*role) {
        return;
    }
    show_logs();
    thread::spawn(|| {
        // Nothing is ever said to it: this ends when the process that has started this one does.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(3);
    });
    if let Err(error) = try_playing(&role, arguments) {
        eprintln!("{error}");
        process::exit(2);
    }
    process::exit(0);
}

fn try_playing(role: &str, arguments: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let options = Options::read(arguments, &[TELLS, "bind"])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match role {
        BROKER => runtime.block_on(route(options)),
        CALLER => runtime.block_on(call(options)),
        _ => runtime.block_on(work(options)),
    }
}

/// Serves until SIGTERM, then drains.
async fn work(mut options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminated = terminated()?;
    let journal: Option<PathBuf> = options.take("journal")?;
    let (interval, credits) = (options.take("interval")?, options.take("credits")?);
    let mut settings = Worker::connect(options.end()?).backoff(BACKOFF.0, BACKOFF.1).drain_timeout(DRAIN);
    if let Some(millis) = interval {
        settings = settings.heartbeat_interval(Duration::from_millis(millis)).liveness(LIVENESS);
    }
    if let Some(credits) = credits {
        settings = settings.concurrency(credits);
    }
    let worker = settings.serve(Porter::noting(journal.as_deref())?).start()?;
    println!("{STARTED}{}", worker.id());
    terminated.recv().await;
    worker.drain().await;
    println!("left");
    Ok(())
}

/// Routes until SIGTERM, then drains. Says again and again which workers it has, if it is to.
async fn route(mut options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminated = terminated()?;
    let mut settings = Broker::builder().drain_timeout(DRAIN);
    if let Some(millis) = options.take("interval")? {
        settings = settings.heartbeat_interval(Duration::from_millis(millis)).liveness(LIVENESS);
    }
    if let Some(attempts) = options.take("attempts")? {
        settings = settings.attempts_max(attempts);
    }
    if let Some(credits) = options.take("credits")? {
        settings = settings.client_credits(credits);
    }
    let tells = options.take_flag(TELLS);
    let endpoints = options.end()?;
    let [frontend, backend] = &endpoints[..] else { return Err("a broker needs two endpoints".into()) };
    let broker = settings.bind(frontend, backend).await?;
    println!("frontend {}\nbackend {}\n{STARTED}{}", broker.frontend(), broker.backend(), broker.id());
    tokio::select! {
        () = tell_workers(&broker), if tells => {}
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
async fn call(mut options: Options) -> Result<(), Box<dyn Error>> {
    let concurrency: usize = options.take("concurrency")?.unwrap_or(1);
    let bytes = (options.take("text")?.unwrap_or(0), options.take("reply")?.unwrap_or(0));
    let millis = options.take("millis")?.unwrap_or(0);
    let settings =
        Client::builder().heartbeat_interval(Duration::from_millis(options.take("interval")?.unwrap_or(1000)));
    let is_bound = options.take_flag("bind");
    let endpoints = options.end()?;
    let client = match is_bound {
        true => settings.bind(endpoints.first().ok_or("a caller needs an endpoint")?).await?,
        false => settings.connect(endpoints)?,
    };
    println!("{STARTED}{}", client.endpoint());
    let mut callers = JoinSet::new();
    for number in 0..concurrency as u64 {
        let order = Order { number, text_bytes: bytes.0, reply_bytes: bytes.1, millis };
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
