//! Gets no new threads or descriptors for a while, as in a container at its limits; reports the result.
//!
//! Its arguments are the operation to try, and the runtime: `one` thread, `many`, `full`, whose blocking pool is in use,
//! or `none`.

use std::{
    error::Error,
    fmt,
    fs::File,
    future::{IntoFuture, pending},
    iter, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{self, Poll},
    thread,
    time::Duration,
};

use futures_executor::block_on;
use rustix::process::{Resource, Rlimit, Uid, getrlimit, getuid, setrlimit};
use tokio::runtime::{Builder, Handle, Runtime};
use xero::{BindError, Broker, Client, ConnectError, Context, StartError, Worker};
use xero_tests::{
    process::{cpu_times, descriptors, descriptors_highest},
    scene::{PATIENCE, Port, eventually, show_logs},
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    show_logs();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [what, kind] = &arguments[..] else { return Err("the arguments are what to try, and a runtime".into()) };
    // The limit does not hold for root. There are no other threads yet.
    if getuid().is_root() {
        rustix::thread::set_thread_uid(Uid::from_raw(NOBODY))?;
    }
    watch();
    if what == "forget" {
        forget()?;
        say("ended", "well");
        return Ok(());
    }
    let runtime = runtime(kind)?;
    let (release, released) = mpsc::channel::<()>();
    if kind == "full" {
        let (begin, begun) = mpsc::channel();
        runtime.spawn_blocking(move || (begin.send(()), released.recv()));
        begun.recv()?;
    }
    runtime.block_on(async {
        match what.as_str() {
            "start" => start().await,
            "call" => call().await,
            "drain" => drain().await,
            "cancel" => cancel().await,
            "dial" => dial().await,
            "take" => take().await,
            _ => Err("there is `start`, `call`, `drain`, `cancel`, `dial`, `take` and `forget`".into()),
        }
    })?;
    drop(release);
    say("ended", "well");
    Ok(())
}

/// The user that traditionally owns nothing.
const NOBODY: u32 = 65_534;

fn runtime(kind: &str) -> Outcome<Runtime> {
    let mut builder = match kind {
        "one" => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if kind == "full" {
        builder.max_blocking_threads(1);
    }
    Ok(builder.enable_all().build()?)
}

/// No thread can be started until this is dropped.
struct Shortage(Rlimit);

impl Shortage {
    fn begin() -> Outcome<Self> {
        let before = getrlimit(Resource::Nproc);
        setrlimit(Resource::Nproc, Rlimit { current: Some(1), maximum: before.maximum })?;
        match thread::Builder::new().spawn(|| ()) {
            Ok(_) => Err("the limit does not hold".into()),
            Err(_) => Ok(Self(before)),
        }
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        let before = Rlimit { current: self.0.current, maximum: self.0.maximum };
        setrlimit(Resource::Nproc, before).expect("it was so before");
    }
}

#[xero::service]
trait Eats {
    async fn task(&self) -> u32;
    /// Waits for ever.
    #[xero(inline)]
    async fn inline(&self, cx: &Context) -> u32;
    #[xero(blocking)]
    async fn blocking(&self) -> u32;
    /// The name of the thread that reads the request.
    #[xero(inline)]
    async fn reader(&self) -> Option<String>;
}

/// Blocks on its runtime when it is dropped, if a flag is to record that.
struct Eater(Option<Arc<AtomicBool>>);

impl Drop for Eater {
    fn drop(&mut self) {
        if let Some(is_dropped) = &self.0 {
            Handle::current().block_on(tokio::task::yield_now());
            is_dropped.store(true, Ordering::Relaxed);
        }
    }
}

#[xero::worker]
impl Eats for Eater {
    async fn task(&self) -> u32 {
        1
    }
    async fn inline(&self, cx: &Context) -> u32 {
        let _ = cx.partial(&1).await;
        pending().await
    }
    async fn blocking(&self) -> u32 {
        3
    }
    async fn reader(&self) -> Option<String> {
        thread::current().name().map(str::to_owned)
    }
}

/// A client, a worker, and a flag that its service is dropped.
async fn scene() -> Outcome<(Client, Worker, Arc<AtomicBool>)> {
    let (client, is_dropped) = (Client::bind("tcp://127.0.0.1:0").await?, Arc::<AtomicBool>::default());
    let worker = Worker::connect(client.endpoint()).serve(Eater(Some(Arc::clone(&is_dropped)))).start()?;
    client.wait_for_worker(PATIENCE).await?;
    Ok((client, worker, is_dropped))
}

/// Makes everything that has a thread of its own.
async fn start() -> Outcome<()> {
    let shortage = Shortage::begin()?;
    let worker = Worker::connect("tcp://127.0.0.1:1").serve(Eater(None)).start();
    say("worker", matches!(worker, Err(StartError::Connect(ConnectError::Thread(_)))));
    say("client", matches!(Client::bind("tcp://127.0.0.1:0").await, Err(BindError::Thread(_))));
    say("connecting client", matches!(Client::connect("tcp://127.0.0.1:1"), Err(ConnectError::Thread(_))));
    let broker = Broker::bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await;
    say("broker", matches!(broker, Err(BindError::Thread(_))));
    drop(shortage);
    let (_client, worker, _) = scene().await?;
    worker.drain().await;
    Ok(())
}

/// Calls a method that needs a thread.
async fn call() -> Outcome<()> {
    let (client, worker, is_dropped) = scene().await?;
    let eats = EatsClient::new(&client);
    let shortage = Shortage::begin()?;
    let hungry = eats.blocking().timeout(Duration::from_secs(1)).await;
    say("maybe executed", hungry.err().map(|error| error.maybe_executed()));
    say("task", eats.task().await.ok());
    drop(shortage);
    say("blocking", eats.blocking().timeout(PATIENCE).await.ok());
    worker.drain().await;
    say("dropped", is_dropped.load(Ordering::Relaxed));
    Ok(())
}

/// Drains during the shortage.
async fn drain() -> Outcome<()> {
    let (_client, worker, is_dropped) = scene().await?;
    let _shortage = Shortage::begin()?;
    worker.drain().await;
    say("dropped", is_dropped.load(Ordering::Relaxed));
    Ok(())
}

/// Cancels a call during the shortage whose values need a thread for their drop.
async fn cancel() -> Outcome<()> {
    let (client, worker, is_dropped) = scene().await?;
    let mut call = EatsClient::new(&client).inline().timeout(PATIENCE).start();
    call.partial().await.ok_or("no partial reply")?;
    let shortage = Shortage::begin()?;
    drop(call);
    say("task", EatsClient::new(&client).task().await.ok());
    drop(shortage);
    worker.drain().await;
    say("dropped", is_dropped.load(Ordering::Relaxed));
    Ok(())
}

/// Dials a name during the shortage: the look-up needs a thread.
async fn dial() -> Outcome<()> {
    let port = Port::reserve();
    let endpoint = port.endpoint().replace("127.0.0.1", "localhost");
    let mut workers = Vec::new();
    let backoff = Duration::from_millis(10);
    for _ in 0..20 {
        let settings = Worker::connect(&endpoint).backoff(backoff, backoff).serve(Eater(None));
        workers.push(settings.start()?);
        // Its own thread exists, and that for its first look-up hardly ever.
        let shortage = Shortage::begin()?;
        // A look-up may wait for a thread until the end of the shortage: no condition shows that one has begun.
        tokio::time::sleep(2 * backoff).await;
        drop(shortage);
    }
    // A client that was faster than the shortage is bound.
    let bound = loop {
        let bound = starved_bind().await?;
        if bound.is_err() {
            break bound;
        }
    };
    say("bind", matches!(bound, Err(BindError::Transport(_))));
    let client = Client::bind(port.endpoint()).await?;
    eventually("all workers are there", async || client.workers().len() == workers.len()).await;
    Ok(())
}

/// The shortage begins when the I/O thread exists.
async fn starved_bind() -> Outcome<Result<Client, BindError>> {
    let mut client = Box::pin(Client::bind("tcp://localhost:0"));
    let early = client.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop()));
    let _shortage = Shortage::begin()?;
    Ok(match early {
        Poll::Ready(bound) => bound,
        Poll::Pending => client.await,
    })
}

/// Blocks the runtime that has the sockets while no descriptor is free.
async fn take() -> Outcome<()> {
    let (client, worker, _) = scene().await?;
    let eats = EatsClient::new(&client);
    let here = thread::current().name().map(str::to_owned);
    eventually("the program reads", async || eats.reader().timeout(PATIENCE).await.ok() == Some(here.clone())).await;
    let before = getrlimit(Resource::Nofile);
    let limit = Some(descriptors_highest(process::id()) + 1);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: before.maximum })?;
    let fillers: Vec<_> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let (outcomes, busiest) = thread::scope(|scope| {
        let called = scope.spawn(|| {
            let call = || block_on(eats.reader().timeout(PATIENCE).into_future());
            let outcomes = [call(), call()].map(|outcome| outcome.ok().flatten());
            (outcomes, cpu_time_at_rest())
        });
        // The scope blocks this thread, and with it the runtime.
        called.join().expect("no panic")
    });
    say("readers", outcomes);
    say("rests", busiest < REST / 10);
    drop(fillers);
    setrlimit(Resource::Nofile, before)?;
    eventually("the program reads again", async || eats.reader().timeout(PATIENCE).await.ok() == Some(here.clone()))
        .await;
    say("task", eats.task().await.ok());
    worker.drain().await;
    Ok(())
}

/// Drops a client whose runtime lives on, with nobody to drive it.
fn forget() -> Outcome<()> {
    let idle = Builder::new_current_thread().enable_all().build()?;
    let before = descriptors(process::id());
    let client = idle.block_on(async {
        let (client, worker, _) = scene().await?;
        let (here, eats) = (thread::current().name().map(str::to_owned), EatsClient::new(&client));
        eventually("the program reads", async || eats.reader().timeout(PATIENCE).await.ok() == Some(here.clone()))
            .await;
        worker.drain().await;
        Outcome::Ok(client)
    })?;
    say("uses some", descriptors(process::id()) > before);
    drop(client);
    while descriptors(process::id()) > before {
        thread::yield_now();
    }
    say("descriptors returned", true);
    drop(idle);
    Ok(())
}

/// The CPU time of the busiest thread while nothing happens, at its lowest.
// The runtime is blocked.
#[allow(clippy::disallowed_methods)]
fn cpu_time_at_rest() -> Duration {
    let times = || cpu_times(process::id());
    let busiest = (0..5).map(|_| {
        let before = times();
        thread::sleep(REST);
        let spent = |(id, (_, time)): (String, (String, Duration))| {
            time.saturating_sub(before.get(&id).map_or(Duration::ZERO, |(_, time)| *time))
        };
        times().into_iter().map(spent).max().unwrap_or_default()
    });
    busiest.min().unwrap_or_default()
}

/// How long CPU time is counted.
const REST: Duration = Duration::from_millis(200);

fn say(what: &str, value: impl fmt::Debug) {
    println!("{what}: {value:?}");
}

/// Ends the process when it hangs.
// The runtime may be what hangs.
#[allow(clippy::disallowed_methods)]
fn watch() {
    thread::spawn(|| {
        thread::sleep(PATIENCE / 2);
        println!("it hangs");
        process::exit(1);
    });
}
