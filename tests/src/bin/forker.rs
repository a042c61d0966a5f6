//! Forks with handles open and a call in flight; reports what each does in the child, and that the parent continues.
//!
//! Its argument is a directory for socket files. With `inside` after it, the fork is within a runtime of one thread,
//! which the child keeps using; with `reactor`, that runtime has the sockets.

use std::{error::Error, future::IntoFuture, pin::Pin, process, sync::Arc, task, thread};

use fork::{Fork, fork};
use futures_executor::block_on;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
};
use xero::{Broker, Client, Context, Never, PendingCall, StartError, Worker};
use xero_tests::{
    scene::{PATIENCE, noting, prober, runtime, show_logs},
    service::{Journal, ProbeClient, Whoami},
};

/// Runs code with the context of a procedure.
#[xero::service]
trait Lends {
    async fn lend(&self, cx: &Context);
    /// The thread that reads the requests.
    #[xero(inline)]
    async fn reading_thread(&self) -> String;
}

struct Lender(mpsc::UnboundedSender<Context>);

#[xero::worker]
impl Lends for Lender {
    async fn lend(&self, cx: &Context) {
        let _ = self.0.send(cx.clone());
        // Until its call is dropped.
        cx.cancelled().await;
    }

    async fn reading_thread(&self) -> String {
        format!("{:?}", thread::current().id())
    }
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    show_logs();
    let directory = std::env::args().nth(1).ok_or("the argument is a directory")?;
    match std::env::args().nth(2).as_deref() {
        Some("inside") => return fork_inside(),
        Some("reactor") => return fork_inside_a_reactor(),
        _ => {}
    }
    let runtime = runtime(2);
    let scene = runtime.block_on(Scene::new(&directory))?;
    match fork()? {
        Fork::Child => {
            watch("the child");
            child(scene, runtime);
            process::exit(0)
        }
        Fork::Parent(child) => {
            watch("the parent");
            let status = waitpid(Pid::from_raw(child), WaitOptions::empty())?;
            say("child exit", status.and_then(|(_, status)| status.exit_status()));
            runtime.block_on(parent(scene, &directory))
        }
    }
}

/// Forks within a runtime of one thread. The child uses it and drops it, and so does the parent.
fn fork_inside() -> Outcome<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let client = Client::bind("tcp://127.0.0.1:0").await?;
        let worker = Worker::connect(client.endpoint()).serve(prober()).start()?;
        let probe = ProbeClient::new(&client);
        client.wait_for_worker(PATIENCE).await?;
        // Both start before the fork, and continue after it.
        let mut leaving = Box::pin(worker.left());
        let mut cx = task::Context::from_waker(task::Waker::noop());
        if leaving.as_mut().poll(&mut cx).is_ready() {
            return Err("a worker that is to serve has left".into());
        }
        let held = probe.work("held", HELD_MILLIS).timeout(PATIENCE).start();
        match fork()? {
            Fork::Child => {
                watch("the child");
                say("held", error(held.await));
                say("call", error(probe.ping().timeout(PATIENCE).await));
                say("wait_for_worker", error(client.wait_for_worker(PATIENCE).await));
                leaving.await;
                worker.drain().await;
                client.close().await;
            }
            Fork::Parent(child) => {
                watch("the parent");
                held.await?;
                say("parent call", probe.ping().timeout(PATIENCE).await?);
                worker.drain().await;
                leaving.await;
                let status = waitpid(Pid::from_raw(child), WaitOptions::empty())?;
                say("child exit", status.and_then(|(_, status)| status.exit_status()));
                say("parent", "well");
            }
        }
        Ok(())
    })
}

/// Forks within a runtime whose reactor has the sockets. The child goes on driving it, against the advice: only the
/// child's own handles are looked at, because the parent may miss what arrives.
fn fork_inside_a_reactor() -> Outcome<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::bind("tcp://127.0.0.1:0").await?;
        let lender = Lender(mpsc::unbounded_channel().0);
        let worker = Worker::connect(client.endpoint()).serve(prober()).serve(lender).start()?;
        let (probe, lends) = (ProbeClient::new(&client), LendsClient::new(&client));
        let here = format!("{:?}", thread::current().id());
        while lends.reading_thread().timeout(PATIENCE).await? != here {}
        let held = probe.work("held", HELD_MILLIS).timeout(PATIENCE).start();
        match fork()? {
            Fork::Child => {
                watch("the child");
                say("held", error(held.await));
                for _ in 0..100 {
                    say("call", error(probe.ping().timeout(PATIENCE).await));
                    tokio::task::yield_now().await;
                }
                say("wait_for_worker", error(client.wait_for_worker(PATIENCE).await));
                worker.drain().await;
                client.close().await;
                process::exit(0);
            }
            Fork::Parent(child) => {
                let status = waitpid(Pid::from_raw(child), WaitOptions::empty())?;
                say("child exit", status.and_then(|(_, status)| status.exit_status()));
            }
        }
        Ok(())
    })
}

/// The parent's state when it forks.
struct Scene {
    client: Client,
    worker: Worker,
    broker: Broker,
    of_broker: Client,
    serving: Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>>,
    _named: Client,
    journal: Arc<Journal>,
    held: PendingCall<Whoami, Never>,
    lent: PendingCall<(), Never>,
    context: Context,
}

impl Scene {
    async fn new(directory: &str) -> Outcome<Self> {
        let client = Client::bind(format!("ipc://{directory}/client.sock")).await?;
        let broker = Broker::bind("tcp://127.0.0.1:0", format!("ipc://{directory}/back.sock")).await?;
        let of_broker = Client::connect(broker.frontend())?;
        let named = Client::bind(NAME).await?;
        let journal = Journal::new();
        let worker = Worker::connect([client.endpoint(), broker.backend()]).serve(noting(&journal)).start()?;
        let (lender, mut contexts) = mpsc::unbounded_channel();
        let _lender = Worker::connect(client.endpoint()).serve(Lender(lender)).start()?;
        let lent = LendsClient::new(&client).lend().timeout(PATIENCE).start();
        let context = contexts.recv().await.ok_or("no context")?;
        let mut serving = Worker::connect(broker.backend()).serve(prober()).into_future();
        let mut cx = task::Context::from_waker(task::Waker::noop());
        if serving.as_mut().poll(&mut cx).is_ready() {
            return Err("a worker that is to serve has ended".into());
        }
        client.wait_for_worker(PATIENCE).await?;
        of_broker.wait_for_worker(PATIENCE).await?;
        let held = ProbeClient::new(&client).work("held", HELD_MILLIS).timeout(PATIENCE).start();
        while journal.count("held", "begin") == 0 {
            tokio::task::yield_now().await;
        }
        Ok(Self { client, worker, broker, of_broker, serving, _named: named, journal, held, lent, context })
    }
}

/// Bound in the parent, and free in the child.
const NAME: &str = "inproc://forker";

/// The duration of the call in flight: long enough for the child to end before it.
const HELD_MILLIS: u64 = 3_000;

/// Every method of handles whose threads stay in the parent.
fn child(scene: Scene, runtime: Runtime) {
    let Scene { client, worker, broker, of_broker, serving, held, context, lent, .. } = scene;
    // The runtime's threads stay in the parent too.
    std::mem::forget(runtime);
    let mut held = held;
    let probe = ProbeClient::new(&client);
    say("partial", block_on(held.partial()).is_none());
    say("held", error(block_on(held)));
    say("call", error(block_on(probe.ping().timeout(PATIENCE).into_future())));
    say("brokered call", error(block_on(ProbeClient::new(&of_broker).ping().timeout(PATIENCE).into_future())));
    drop(probe.ping().timeout(PATIENCE).start());
    say("wait_for_worker", error(block_on(client.wait_for_worker(PATIENCE))));
    say("wait_for_service", error(block_on(of_broker.wait_for_service("Probe", PATIENCE))));
    say("client", (client.is_connected(), client.workers().len()));
    block_on(client.counters());
    block_on(client.clone().drain(PATIENCE));
    block_on(client.close());
    say("worker", (worker.is_connected(), block_on(worker.wait_for_client(PATIENCE))));
    block_on(worker.counters());
    block_on(worker.clone().drain());
    block_on(worker.left());
    say("serving", error(block_on(serving)));
    say("broker", (broker.workers().len(), broker.clients()));
    block_on(broker.counters());
    block_on(broker.drain());
    block_on(broker.close());
    block_on(broker.left());
    say("context", (context.is_cancelled(), block_on(context.cancelled())));
    say("partial reply", (0..1000).any(|step| block_on(context.partial(&step)).is_ok()));
    drop((probe, client, worker, of_broker, broker, context, lent));
    for endpoint in ["tcp://127.0.0.1:0", NAME] {
        say("own", block_on(call_of_its_own(endpoint)).expect("a client and worker of its own"));
    }
}

/// A forked process can have a client and a worker of its own.
async fn call_of_its_own(endpoint: &str) -> Outcome<String> {
    let client = Client::bind(endpoint).await?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let worker = {
        let _inside = runtime.enter();
        Worker::connect(client.endpoint()).serve(prober()).start()?
    };
    let pong = ProbeClient::new(&client).ping().timeout(PATIENCE).await?;
    worker.drain().await;
    client.close().await;
    Ok(pong)
}

/// Checks that the parent notices nothing of the child's actions.
async fn parent(scene: Scene, directory: &str) -> Outcome<()> {
    let Scene { client, worker, broker, of_broker, serving, held, journal, context, lent, .. } = scene;
    say("parent context", (context.is_cancelled(), context.partial(&1).await.is_ok()));
    drop(lent);
    context.cancelled().await;
    held.await?;
    say("parent held", journal.count("held", "begin"));
    for client in [&client, &of_broker] {
        say("parent call", ProbeClient::new(client).ping().timeout(PATIENCE).await?);
    }
    say("parent connected", (client.is_connected(), worker.is_connected(), broker.clients()));
    // Both listening socket files still accept connections.
    let late = Worker::connect([client.endpoint(), broker.backend()]).serve(prober()).start()?;
    while client.workers().len() + broker.workers().len() < 6 {
        tokio::task::yield_now().await;
    }
    drop(serving);
    late.drain().await;
    worker.drain().await;
    broker.close().await;
    client.close().await;
    Client::bind(format!("ipc://{directory}/client.sock")).await?.close().await;
    say("parent", "well");
    Ok(())
}

fn error<T, E: Error>(outcome: Result<T, E>) -> String {
    outcome.map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

fn say(what: &str, value: impl std::fmt::Debug) {
    println!("{what}: {value:?}");
}

/// Ends the process when it hangs.
// A child has no runtime whose timers could be used.
#[allow(clippy::disallowed_methods)]
fn watch(who: &'static str) {
    thread::spawn(move || {
        thread::sleep(PATIENCE / 2);
        println!("{who} hangs");
        process::exit(1);
    });
}
