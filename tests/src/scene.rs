//! The start of most tests: a runtime with a time limit, a client, workers; and waiting for conditions.

use std::{
    net::SocketAddr,
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep, timeout},
};
use tracing_subscriber::EnvFilter;
use xero::{Broker, BrokerBuilder, Client, ClientBuilder, Worker, WorkerBuilder};

use crate::service::{ProbeClient, Prober};

/// How long a test waits before it gives up: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An interval so long that no heartbeat is due and no lease expires within a test: only the connection can reveal a
/// loss.
pub const LONG: Duration = Duration::from_secs(20);

/// An interval for tests in which leases expire.
pub const SHORT: Duration = Duration::from_millis(200);

/// Runs a test on its own runtime and fails it if it does not end.
pub fn run(test: impl Future<Output = ()>) {
    show_logs();
    let runtime = runtime(2);
    runtime.block_on(async {
        if timeout(2 * PATIENCE, test).await.is_err() {
            panic!("the test has not ended within {:?}", 2 * PATIENCE);
        }
    });
    // The runtime does not wait for remains of a test, such as a blocked thread.
    runtime.shutdown_background();
}

/// The same for a test that measures, or that needs the whole machine: no other such test of the program runs at the
/// same time.
pub fn run_alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    // A failed test leaves nothing behind that disturbs the next one.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(test);
}

/// A runtime with this many threads.
pub fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
}

/// Logs go to the test's output, filtered by `RUST_LOG`, nothing by default.
pub fn show_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}

/// The future's value, which must be ready within the time.
pub async fn within<T>(time: Duration, future: impl IntoFuture<Output = T>) -> T {
    let what = std::any::type_name_of_val(&future);
    match timeout(time, future.into_future()).await {
        Ok(value) => value,
        Err(_) => panic!("nothing within {time:?}: {what}"),
    }
}

/// Waits until the condition holds.
pub async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, condition).await;
}

/// Waits until the condition holds, at most for this time.
pub async fn eventually_within(time: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < time, "within {time:?} it has not come about that {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// The future's value and its duration.
pub async fn timed<T>(future: impl IntoFuture<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = future.await;
    (value, start.elapsed())
}

/// A client on a free port.
pub async fn client() -> Client {
    bind(Client::builder()).await
}

/// A client on a free port with these settings.
pub async fn bind(settings: ClientBuilder) -> Client {
    settings.bind("tcp://127.0.0.1:0").await.expect("a free port")
}

/// A client with that heartbeat interval.
pub fn beating(interval: Duration) -> ClientBuilder {
    Client::builder().heartbeat_interval(interval)
}

/// A worker for that client, in this process, that serves [`Probe`](crate::service::Probe).
pub async fn worker(client: &Client) -> Worker {
    start(client, Worker::connect(client.endpoint())).await
}

/// A worker with these settings that serves [`Probe`](crate::service::Probe); returns when the client has it.
pub async fn start(client: &Client, settings: WorkerBuilder) -> Worker {
    let worker = settings.serve(prober()).start().expect("the settings are sound");
    joined(client, &worker).await;
    worker
}

/// A broker on free ports.
pub async fn broker() -> Broker {
    bind_broker(Broker::builder()).await
}

/// A broker on free ports with these settings.
pub async fn bind_broker(settings: BrokerBuilder) -> Broker {
    settings.bind("tcp://127.0.0.1:0", "tcp://127.0.0.1:0").await.expect("free ports")
}

/// A client of that broker; returns when it has it.
pub async fn client_of(broker: &Broker) -> Client {
    connect(broker, Client::builder()).await
}

/// A client of that broker with these settings; returns when it has it.
pub async fn connect(broker: &Broker, settings: ClientBuilder) -> Client {
    let client = settings.connect(broker.frontend()).expect("the settings are sound");
    eventually("the client has the broker", async || client.workers().iter().any(|info| info.id == broker.id())).await;
    client
}

/// A worker of that broker, in this process, that serves [`Probe`](crate::service::Probe); returns when the broker has
/// it.
pub async fn worker_of(broker: &Broker) -> Worker {
    start_of(broker, Worker::connect(broker.backend()).serve(prober())).await
}

/// A worker of that broker with these settings; returns when the broker has it.
pub async fn start_of(broker: &Broker, settings: WorkerBuilder) -> Worker {
    let worker = settings.start().expect("the settings are sound");
    eventually("the broker has the worker", async || broker_has(broker, &worker)).await;
    worker
}

/// Whether the broker has the worker.
pub fn broker_has(broker: &Broker, worker: &Worker) -> bool {
    broker.workers().iter().any(|info| info.id == worker.id())
}

/// Waits until the client has the worker.
pub async fn joined(client: &Client, worker: &Worker) {
    eventually("the client has the worker", async || has(client, worker)).await;
}

/// Whether the client has the worker.
pub fn has(client: &Client, worker: &Worker) -> bool {
    client.workers().iter().any(|info| info.id == worker.id())
}

/// Waits until the client has this many workers.
pub async fn has_workers(client: &Client, count: usize) {
    eventually(&format!("the client has {count} workers"), async || client.workers().len() == count).await;
}

/// The service of most tests, without notes.
pub fn prober() -> xero::BoundService {
    use crate::service::Probe;
    std::sync::Arc::new(Prober::default()).into_service()
}

/// The same with notes.
pub fn noting(journal: &std::sync::Arc<crate::service::Journal>) -> xero::BoundService {
    use crate::service::Probe;
    std::sync::Arc::new(Prober::noting(journal)).into_service()
}

/// Typed calls through that client.
pub fn probe(client: &Client) -> ProbeClient {
    ProbeClient::new(client)
}

/// A TCP port that no other process gets while this lives, and that a client can bind.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _socket: Socket,
}

impl Port {
    /// A port that the system chooses.
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // Bound but not listening: the system gives it to nobody, and a process with the same option can listen on it.
        socket.set_reuse_address(true).expect("the option is known");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let number = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a port").port();
        Self { number, _socket: socket }
    }

    /// The endpoint for a client to bind.
    pub fn endpoint(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.number)
    }
}
