//! The processes that tests kill, freeze and attack: a worker that serves `Probe`, clients that call it, and a broker.

use std::{alloc::System, error::Error, io, process, thread, time::Duration};

use cap::Cap;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep},
};
use xero::{Broker, Client, Worker};
use xero_tests::{
    load::figures::Latencies,
    process::{descriptors, threads},
    scene::{PATIENCE, noting, prober, show_logs, timed},
    service::{Journal, ProbeClient},
};

/// Counts the memory in use, which an allocator does not return to the system block by block.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

fn main() -> Result<(), Box<dyn Error>> {
    show_logs();
    let (sender, orders) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for order in io::stdin().lines().map_while(Result::ok) {
            match order.as_str() {
                "heap" => println!("heap {}", HEAP.allocated()),
                _ => _ = sender.send(order),
            }
        }
        // The input ends when the test that started the process does.
        process::exit(3);
    });
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().unwrap_or_default();
    let arguments = Arguments::read(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match role.as_str() {
        "worker" => runtime.block_on(work(arguments)),
        "client" => runtime.block_on(call(arguments)),
        "caller" => runtime.block_on(call_on_order(arguments, orders)),
        "broker" => runtime.block_on(stand_between(arguments)),
        "cycles" => runtime.block_on(cycle(arguments, bind_and_close)),
        "broker-cycles" => runtime.block_on(cycle(arguments, bind_and_close_a_broker)),
        _ => Err("the first argument is `worker`, `client`, `caller`, `broker`, `cycles` or `broker-cycles`".into()),
    }
}

#[derive(Debug)]
struct Arguments {
    endpoints: Vec<String>,
    /// Whether a client connects to brokers.
    connects: bool,
    interval: Duration,
    /// The most time between two dials.
    backoff: Duration,
    concurrency: u32,
    journal: Option<String>,
    hold: Option<String>,
    hold_for: u64,
    count: usize,
}

impl Arguments {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut read = Self {
            endpoints: Vec::new(),
            connects: false,
            interval: Duration::from_secs(1),
            backoff: Duration::from_secs(2),
            concurrency: 64,
            journal: None,
            hold: None,
            hold_for: 600_000,
            count: 1,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--interval" => read.interval = Duration::from_millis(value()?.parse()?),
                "--backoff" => read.backoff = Duration::from_millis(value()?.parse()?),
                "--concurrency" => read.concurrency = value()?.parse()?,
                "--count" => read.count = value()?.parse()?,
                "--connect" => read.connects = true,
                "--journal" => read.journal = Some(value()?),
                "--hold" => read.hold = Some(value()?),
                "--hold-for" => read.hold_for = value()?.parse()?,
                _ => read.endpoints.push(argument),
            }
        }
        Ok(read)
    }

    /// The least and the most time between two dials.
    fn backoff(&self) -> (Duration, Duration) {
        (self.backoff.min(Duration::from_millis(100)), self.backoff)
    }

    async fn client(&self) -> Result<Client, Box<dyn Error>> {
        let (first, max) = self.backoff();
        let settings = Client::builder().heartbeat_interval(self.interval);
        let client = match self.connects {
            true => settings.backoff(first, max).connect(&self.endpoints)?,
            false => settings.bind(self.endpoints.first().ok_or("a client needs an endpoint")?).await?,
        };
        println!("bound {}", client.endpoint());
        client.wait_for_worker(PATIENCE).await?;
        Ok(client)
    }
}

/// Serves until SIGTERM, then drains.
async fn work(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let (first, max) = arguments.backoff();
    let builder = Worker::connect(arguments.endpoints).backoff(first, max);
    let service = arguments.journal.map_or_else(prober, |path| noting(&Journal::at(path)));
    let settings = builder.heartbeat_interval(arguments.interval).concurrency(arguments.concurrency);
    let worker = settings.serve(service).drain_on(async move {
        terminated.recv().await;
    });
    let worker = worker.start()?;
    println!("started {}", worker.id());
    worker.left().await;
    println!("left");
    Ok(())
}

/// Calls `ping` this many times, reports each reply, and stays until it is killed.
async fn call(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let client = arguments.client().await?;
    let probe = ProbeClient::new(&client);
    for _ in 0..arguments.count {
        println!("{}", probe.ping().timeout(PATIENCE).await?);
    }
    if let Some(key) = arguments.hold {
        println!("{:?}", probe.work(&key, arguments.hold_for).timeout(Duration::from_secs(600)).await);
    }
    std::future::pending().await
}

/// Calls `ping` again and again for as many milliseconds as each line of the input says, and reports how that went:
/// calls, failures, and the 99th percentile in microseconds.
async fn call_on_order(
    arguments: Arguments,
    mut orders: mpsc::UnboundedReceiver<String>,
) -> Result<(), Box<dyn Error>> {
    let client = arguments.client().await?;
    let probe = ProbeClient::new(&client);
    while let Some(order) = orders.recv().await {
        let end = Instant::now() + Duration::from_millis(order.parse()?);
        let (mut latencies, mut failures) = (Latencies::default(), 0);
        while Instant::now() < end {
            // Some of the replies are large: they need more than one write, and a place among what is held for peers.
            let (outcome, time) = match latencies.count() % 8 {
                7 => timed(async { probe.bytes(LARGE).timeout(PATIENCE).await.map(drop) }).await,
                _ => timed(async { probe.ping().timeout(PATIENCE).await.map(drop) }).await,
            };
            latencies.add(time);
            if let Err(error) = outcome {
                failures += 1;
                println!("after {time:?}: {error}");
            }
            sleep(Duration::from_millis(1)).await;
        }
        let micros = [latencies.percentile(99.0), latencies.max()].map(|time| time.as_micros());
        println!("measured {} {failures} {} {}", latencies.count(), micros[0], micros[1]);
    }
    Ok(())
}

/// The size of a large reply.
const LARGE: usize = 64 << 10;

/// Routes calls until SIGTERM, then drains.
async fn stand_between(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let [frontend, backend] = &arguments.endpoints[..] else { return Err("a broker needs two endpoints".into()) };
    let settings = Broker::builder().heartbeat_interval(arguments.interval).drain_on(async move {
        terminated.recv().await;
    });
    let broker = settings.bind(frontend, backend).await?;
    println!("bound {} {}", broker.frontend(), broker.backend());
    broker.left().await;
    println!("left");
    Ok(())
}

/// Repeats something; reports the numbers of threads and descriptors after the first time, and again and again after
/// the last.
async fn cycle(
    arguments: Arguments,
    work: impl AsyncFn(bool) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    for cycle in 0..=arguments.count {
        work(arguments.hold.is_some()).await?;
        // The first cycle starts everything that the process keeps.
        if cycle == 0 {
            tell("before").await;
        }
    }
    println!("closed");
    loop {
        tell("after").await;
    }
}

/// Binds a client, serves one call, closes both or drops them.
async fn bind_and_close(is_dropped: bool) -> Result<(), Box<dyn Error>> {
    let client = Client::bind("tcp://127.0.0.1:0").await?;
    let worker = Worker::connect(client.endpoint()).serve(prober()).start()?;
    ProbeClient::new(&client).ping().timeout(PATIENCE).await?;
    match is_dropped {
        // A worker runs on without its handle, so it always gets a drain.
        true => drop(client),
        false => client.close().await,
    }
    worker.drain().await;
    Ok(())
}

/// Binds a broker, serves one call through it, closes all three or drops them.
async fn bind_and_close_a_broker(is_dropped: bool) -> Result<(), Box<dyn Error>> {
    let broker = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await?;
    let worker = Worker::connect(broker.backend()).serve(prober()).start()?;
    let client = Client::connect(broker.frontend())?;
    ProbeClient::new(&client).ping().timeout(PATIENCE).await?;
    match is_dropped {
        true => drop((broker, client)),
        false => {
            client.close().await;
            broker.close().await;
        }
    }
    worker.drain().await;
    Ok(())
}

/// Reports the lowest numbers of threads and descriptors within an idle second.
async fn tell(when: &str) {
    let mut lowest = (usize::MAX, usize::MAX);
    for _ in 0..50 {
        sleep(Duration::from_millis(20)).await;
        lowest = (lowest.0.min(threads(process::id())), lowest.1.min(descriptors(process::id())));
    }
    println!("{when} {} {}", lowest.0, lowest.1);
}
