//! Where and when values of the user are dropped: never on an I/O thread, and before the worker has left.

use std::{
    mem::ManuallyDrop,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{self, Builder, Handle, Runtime},
    sync::Notify,
};
use xero::{
    Broker, BrokerBuilder, CallError, Candidate, Client, ClientBuilder, ConnectError, RpcError, StartError, Worker,
    WorkerBuilder, WorkerChoice, proto::message::Peer,
};
use xero_tests::scene::{PATIENCE, Port, bind, client, eventually, joined, probe, run, runtime, show_logs, within};

use crate::cancels::{Bomb, Mine, Minefield};

/// Notes where and how it was dropped: it owns a runtime, whose drop panics where blocking is forbidden.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    threads: Arc<Mutex<Vec<String>>>,
    /// The runtimes that were current.
    pub(crate) runtimes: Arc<Mutex<Vec<Option<runtime::Id>>>>,
}

impl Ledger {
    pub(crate) fn drops(&self) -> Vec<String> {
        self.threads.lock().unwrap().clone()
    }

    /// Asserts one drop so far, and not on an I/O thread.
    pub(crate) fn assert_one(&self) {
        let drops = self.drops();
        assert_eq!(drops.len(), 1, "{drops:?}");
        assert!(!["xero-worker", "xero-client", "xero-broker"].contains(&&*drops[0]), "dropped on {}", drops[0]);
    }
}

#[derive(Debug)]
pub(crate) struct Witness {
    ledger: Ledger,
    runtime: Option<Runtime>,
    /// How long its flush takes.
    flush: Duration,
}

impl Witness {
    fn new(ledger: &Ledger) -> Self {
        Self { ledger: ledger.clone(), runtime: Some(runtime(1)), flush: Duration::from_millis(300) }
    }
}

impl Drop for Witness {
    #[allow(clippy::disallowed_methods)]
    fn drop(&mut self) {
        drop(self.runtime.take());
        thread::sleep(self.flush);
        self.ledger.threads.lock().unwrap().push(thread::current().name().unwrap_or_default().to_owned());
    }
}

#[xero::service]
pub(crate) trait Held {
    async fn ping(&self) -> u32;
    /// Waits for ever, with a value of its own.
    #[xero(inline)]
    async fn wait_inline(&self) -> u32;
    /// The same in a task.
    async fn wait(&self) -> u32;
    /// Blocks its thread until the test releases it, even if its call is gone.
    #[xero(blocking)]
    async fn block(&self) -> u32;
}

pub(crate) struct Holder {
    witness: Witness,
    pub(crate) begun: Arc<Notify>,
    is_let_go: Arc<AtomicBool>,
    pub(crate) local: Ledger,
}

impl Holder {
    pub(crate) fn new(ledger: &Ledger) -> Self {
        let (begun, is_let_go) = (Arc::default(), Arc::default());
        Self { witness: Witness::new(ledger), begun, is_let_go, local: Ledger::default() }
    }

    async fn wait_for_ever(&self) -> u32 {
        let _local = Local(self.local.clone());
        self.begun.notify_one();
        std::future::pending().await
    }
}

/// Notes where it was dropped.
pub(crate) struct Local(Ledger);

impl Drop for Local {
    fn drop(&mut self) {
        self.0.runtimes.lock().unwrap().push(Handle::try_current().ok().map(|runtime| runtime.id()));
        self.0.threads.lock().unwrap().push(thread::current().name().unwrap_or_default().to_owned());
    }
}

#[xero::worker]
impl Held for Holder {
    async fn ping(&self) -> u32 {
        u32::from(self.witness.runtime.is_some())
    }

    async fn wait_inline(&self) -> u32 {
        self.wait_for_ever().await
    }

    async fn wait(&self) -> u32 {
        self.wait_for_ever().await
    }

    #[allow(clippy::disallowed_methods)]
    async fn block(&self) -> u32 {
        self.begun.notify_one();
        while !self.is_let_go.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        0
    }
}

#[test]
fn service_that_owns_a_runtime_is_dropped_before_drain_returns() {
    run(serve_and_drain());
}

#[test]
fn service_is_dropped_before_drain_returns_on_a_runtime_of_one_thread() {
    show_logs();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(within(PATIENCE, serve_and_drain()));
}

async fn serve_and_drain() {
    let (client, ledger) = (client().await, Ledger::default());
    let worker = Worker::connect(client.endpoint()).serve(Holder::new(&ledger)).start().unwrap();
    joined(&client, &worker).await;
    assert_eq!(HeldClient::new(&client).ping().await, Ok(1));
    within(PATIENCE, worker.drain()).await;
    ledger.assert_one();
}

#[test]
fn awaited_worker_has_dropped_its_service_when_it_returns() {
    run(async {
        let ledger = Ledger::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let settings = Worker::connect(Port::reserve().endpoint()).serve(Holder::new(&ledger)).drain_on(stopped);
        drop(stop);
        within(PATIENCE, settings).await.unwrap();
        ledger.assert_one();
    });
}

#[test]
fn drop_of_a_service_finds_the_runtime_of_its_worker() {
    struct Spawner(Arc<AtomicBool>);
    impl Drop for Spawner {
        fn drop(&mut self) {
            let done = Arc::clone(&self.0);
            Handle::current().block_on(async move {
                tokio::spawn(async move { done.store(true, Ordering::Relaxed) }).await.unwrap();
            });
        }
    }
    #[xero::worker]
    impl Small for Spawner {
        async fn nothing(&self) {}
    }
    run(async {
        let done = Arc::new(AtomicBool::new(false));
        let settings = Worker::connect(Port::reserve().endpoint()).serve(Spawner(Arc::clone(&done)));
        within(PATIENCE, settings.start().unwrap().drain()).await;
        assert!(done.load(Ordering::Relaxed));
    });
}

#[xero::service]
pub(crate) trait Small {
    async fn nothing(&self);
}

#[test]
fn service_whose_runtime_has_ended_is_dropped() {
    run(async {
        let (ledger, theirs) = (Ledger::default(), runtime(1));
        let worker = {
            let _inside = theirs.enter();
            Worker::connect(Port::reserve().endpoint()).serve(Holder::new(&ledger)).start().unwrap()
        };
        theirs.shutdown_background();
        within(PATIENCE, worker.left()).await;
        ledger.assert_one();
    });
}

#[test]
fn service_that_outlives_the_drain_with_a_procedure_is_dropped_where_it_may_block() {
    run(async {
        let (client, ledger) = (client().await, Ledger::default());
        let holder = Holder::new(&ledger);
        let (begun, is_let_go) = (Arc::clone(&holder.begun), Arc::clone(&holder.is_let_go));
        let settings = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(50));
        let worker = settings.serve(holder).start().unwrap();
        joined(&client, &worker).await;
        let call = HeldClient::new(&client).block().timeout(PATIENCE).start();
        within(PATIENCE, begun.notified()).await;
        within(PATIENCE, worker.drain()).await;
        assert!(ledger.drops().is_empty(), "a procedure still has it");
        is_let_go.store(true, Ordering::Relaxed);
        drop(call);
        eventually("it is dropped", async || !ledger.drops().is_empty()).await;
        ledger.assert_one();
    });
}

#[test]
fn worker_that_never_starts_drops_what_it_serves_in_place() {
    let runtime = runtime(1);
    let inside = runtime.enter();
    let dropped = |drop_it: fn(WorkerBuilder)| {
        let ledger = Ledger::default();
        drop_it(Worker::connect("inproc://nowhere").serve(Holder::new(&ledger)));
        assert_eq!(ledger.drops(), [thread::current().name().unwrap()]);
    };
    dropped(drop);
    dropped(|it| drop(it.into_future()));
    dropped(|it| {
        assert!(matches!(it.connect("nonsense").start(), Err(StartError::Connect(ConnectError::Endpoint(_)))))
    });
    dropped(|it| assert!(matches!(it.concurrency(0).start(), Err(StartError::Connect(ConnectError::Config(_))))));
    dropped(|it| {
        let twice = it.serve(Holder::new(&Ledger::default()));
        assert!(matches!(twice.start(), Err(StartError::DuplicateService(_))));
    });
    drop(inside);
    dropped(|it| assert!(matches!(it.start(), Err(StartError::NoRuntime))));
}

/// A policy that owns a runtime.
#[derive(Debug)]
struct Policy(#[allow(dead_code)] Witness);

impl WorkerChoice for Policy {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|candidate| candidate.peer)
    }
}

#[test]
fn policies_are_dropped_before_close_returns_and_not_on_the_io_thread() {
    run(async {
        let ledger = Ledger::default();
        let client = bind(Client::builder().worker_choice(Policy(Witness::new(&ledger)))).await;
        within(PATIENCE, client.close()).await;
        ledger.assert_one();

        let ledger = Ledger::default();
        let settings = Broker::builder().worker_choice(Policy(Witness::new(&ledger)));
        let broker = settings.bind("inproc://*", "inproc://*").await.unwrap();
        within(PATIENCE, broker.close()).await;
        ledger.assert_one();
    });
}

#[test]
fn policy_of_a_client_or_broker_that_cannot_be_bound_is_dropped_before_the_error() {
    run(async {
        let (taken, ledger) = (client().await, Ledger::default());
        let settings = Client::builder().worker_choice(Policy(Witness::new(&ledger)));
        assert!(settings.bind(taken.endpoint()).await.is_err());
        ledger.assert_one();

        let ledger = Ledger::default();
        let settings = Broker::builder().worker_choice(Policy(Witness::new(&ledger)));
        assert!(settings.bind("inproc://*", taken.endpoint()).await.is_err());
        ledger.assert_one();
    });
}

#[test]
fn policy_of_a_client_or_broker_that_is_never_made_is_dropped_in_place() {
    let dropped = |drop_it: fn(ClientBuilder, BrokerBuilder)| {
        let ledger = Ledger::default();
        let policy = || Policy(Witness::new(&ledger));
        drop_it(Client::builder().worker_choice(policy()), Broker::builder().worker_choice(policy()));
        assert_eq!(ledger.drops(), [thread::current().name().unwrap(); 2]);
    };
    dropped(|client, broker| drop((client, broker)));
    dropped(|client, broker| drop((client.bind("inproc://*"), broker.bind("inproc://*", "inproc://*"))));
    dropped(|client, broker| {
        assert!(client.timeout(Duration::ZERO).connect("inproc://somewhere").is_err());
        let broker = broker.client_credits(0).bind("inproc://*", "inproc://*");
        assert!(futures_executor::block_on(broker).is_err());
    });
}

#[test]
fn drain_signal_is_dropped_once_the_worker_has_left() {
    run(async {
        let dropped = Ledger::default();
        let local = Local(dropped.clone());
        let settings = Worker::connect(Port::reserve().endpoint()).drain_on(async move {
            let _local = local;
            std::future::pending::<()>().await;
        });
        let worker = settings.serve(Holder::new(&Ledger::default())).start().unwrap();
        within(PATIENCE, worker.drain()).await;
        eventually("the signal is dropped", async || !dropped.drops().is_empty()).await;
        dropped.assert_one();
    });
}

#[xero::service]
trait Spawns {
    /// The thread and the runtime of a task that the method spawns.
    #[xero(inline)]
    async fn spawn_inline(&self) -> (String, bool);
}

/// Has the runtime of its worker.
struct Spawner(Handle);

#[xero::worker]
impl Spawns for Spawner {
    async fn spawn_inline(&self) -> (String, bool) {
        let task = tokio::spawn(async { (thread::current().name().unwrap_or_default().to_owned(), Handle::current()) });
        // Its timers belong to the worker's runtime too.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (thread, runtime) = task.await.unwrap();
        (thread, runtime.id() == self.0.id())
    }
}

#[test]
fn task_that_an_inline_method_spawns_runs_on_the_runtime_of_the_worker() {
    run(async {
        let client = client().await;
        let worker = Worker::connect(client.endpoint()).serve(Spawner(Handle::current())).start().unwrap();
        joined(&client, &worker).await;
        let (thread, is_theirs) = SpawnsClient::new(&client).spawn_inline().await.unwrap();
        assert!(is_theirs && thread != "xero-worker", "it ran on {thread}");
    });
}

#[test]
fn metadata_that_the_user_owns_is_not_dropped_on_the_io_thread() {
    struct Shared(Ledger);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            b"shared"
        }
    }
    impl Drop for Shared {
        fn drop(&mut self) {
            drop(Local(self.0.clone()));
        }
    }
    run(async {
        let (client, ledger) = (client().await, Ledger::default());
        let worker = xero_tests::scene::worker(&client).await;
        let shared = Bytes::from_owner(Shared(ledger.clone()));
        let seen = probe(&client).context().metadata("key", shared).await.unwrap();
        assert_eq!(seen.metadata["key"], b"shared");
        within(PATIENCE, worker.drain()).await;
        within(PATIENCE, client.close()).await;
        eventually("it is dropped", async || !ledger.drops().is_empty()).await;
        ledger.assert_one();
    });
}

/// An argument whose drop panics on request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fuse {
    lit: bool,
}

impl Drop for Fuse {
    fn drop(&mut self) {
        assert!(!self.lit, "a fuse that was lit");
    }
}

#[xero::service]
trait Fuses {
    async fn task(&self, fuse: Fuse) -> u32;
    #[xero(inline)]
    async fn inline(&self, fuse: Fuse) -> u32;
    #[xero(blocking)]
    async fn blocking(&self, fuse: Fuse) -> u32;
    /// Is dropped at its await, and panics then.
    async fn cancelled(&self) -> u32;
    #[xero(inline)]
    async fn cancelled_inline(&self) -> u32;
    #[xero(blocking)]
    async fn cancelled_blocking(&self) -> u32;
}

struct FuseBox;

async fn burn() -> u32 {
    let _fuse = Fuse { lit: true };
    std::future::pending().await
}

#[xero::worker]
impl Fuses for FuseBox {
    async fn task(&self, _fuse: Fuse) -> u32 {
        7
    }
    async fn inline(&self, _fuse: Fuse) -> u32 {
        7
    }
    async fn blocking(&self, _fuse: Fuse) -> u32 {
        7
    }
    async fn cancelled(&self) -> u32 {
        burn().await
    }
    async fn cancelled_inline(&self) -> u32 {
        burn().await
    }
    async fn cancelled_blocking(&self) -> u32 {
        burn().await
    }
}

impl Drop for FuseBox {
    fn drop(&mut self) {
        panic!("a service whose drop panics");
    }
}

#[test]
fn panicking_drops_cost_only_their_own_call() {
    run(async {
        let client = client().await;
        let worker = Worker::connect(client.endpoint()).serve(FuseBox).start().unwrap();
        joined(&client, &worker).await;
        let fuses = FusesClient::new(&client);
        let unlit = || Fuse { lit: false };
        // Dropped only by the worker.
        let lit = ManuallyDrop::new(Fuse { lit: true });
        for call in [fuses.task(unlit()), fuses.inline(unlit()), fuses.blocking(unlit())] {
            assert_eq!(call.await, Ok(7));
        }
        for call in ["Fuses.task", "Fuses.inline", "Fuses.blocking"] {
            let error = client.call(call).arguments(&(&*lit,)).await.unwrap_err();
            assert!(
                matches!(&error, CallError::Rpc(RpcError::Panicked { message, .. }) if message.contains("lit")),
                "{call}: {error}"
            );
        }
        for call in [fuses.cancelled(), fuses.cancelled_inline(), fuses.cancelled_blocking()] {
            let error = call.timeout(Duration::from_millis(100)).await.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { .. })), "{error}");
        }
        assert_eq!(fuses.task(unlit()).await, Ok(7));
        within(PATIENCE, worker.drain()).await;
    });
}

/// Panics when it is dropped.
struct Faulty(&'static str);

impl Drop for Faulty {
    fn drop(&mut self) {
        panic!("the drop of {}", self.0);
    }
}

#[xero::worker]
impl Small for Faulty {
    async fn nothing(&self) {}
}

#[xero::worker]
impl Spawns for Faulty {
    async fn spawn_inline(&self) -> (String, bool) {
        (self.0.to_owned(), false)
    }
}

#[test]
fn services_of_one_worker_are_all_dropped_even_if_drops_panic() {
    run(async {
        let first = Small::into_service(Arc::new(Faulty("one")));
        let second = Spawns::into_service(Arc::new(Faulty("another")));
        let ledger = Ledger::default();
        let settings = Worker::connect(Port::reserve().endpoint()).serve(first).serve(second);
        let worker = settings.serve(Holder::new(&ledger)).start().unwrap();
        within(PATIENCE, worker.drain()).await;
        ledger.assert_one();
    });
}

/// Waits for its broker when it is dropped.
#[derive(Debug, Default)]
struct Closing(Arc<OnceLock<Broker>>);

impl WorkerChoice for Closing {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|candidate| candidate.peer)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(broker) = self.0.get() {
            futures_executor::block_on(async { tokio::join!(broker.close(), broker.drain(), broker.left()) });
        }
    }
}

#[test]
fn policy_that_waits_for_its_broker_on_drop_does_not_wait_for_itself() {
    run(async {
        for drains in [false, true] {
            let slot = Arc::default();
            let settings = Broker::builder().worker_choice(Closing(Arc::clone(&slot)));
            let broker = settings.bind("inproc://*", "inproc://*").await.unwrap();
            slot.set(broker.clone()).unwrap();
            match drains {
                true => within(PATIENCE, broker.drain()).await,
                false => within(PATIENCE, broker.close()).await,
            }
        }
    });
}

#[test]
fn panicking_drain_signal_drains() {
    run(async {
        for awaited in [false, true] {
            let stop = move || async move {
                if awaited {
                    tokio::task::yield_now().await;
                }
                std::panic::panic_any(Bomb);
            };
            let settings = Worker::connect(Port::reserve().endpoint()).serve(Minefield::default());
            let worker = settings.drain_on(stop()).start().unwrap();
            within(PATIENCE, worker.left()).await;
            let broker = Broker::builder().drain_on(stop()).bind("inproc://*", "inproc://*").await.unwrap();
            within(PATIENCE, broker.left()).await;
        }
    });
}

#[test]
fn drain_signal_whose_drop_panics_twice_aborts_no_process() {
    run(async {
        let mine = Mine;
        let settings = Worker::connect(Port::reserve().endpoint()).serve(Minefield::default());
        let settings = settings.drain_on(async move {
            let _mine = mine;
            std::future::pending::<()>().await;
        });
        let worker = settings.start().unwrap();
        within(PATIENCE, worker.drain()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
}
