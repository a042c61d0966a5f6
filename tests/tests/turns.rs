//! Who takes turns, and which thread runs the user code that they lead to.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime, sync::oneshot};
use xero::{
    Candidate, Client, Never, PendingCall, ProgramTurns, Worker, WorkerBuilder, WorkerChoice,
    proto::message::{Message, Peer},
};
use xero_tests::{
    process::threads_wait,
    raw,
    scene::{
        PATIENCE, SHORT, beating, bind, client, eventually, has_workers, probe, prober, run, start, within, worker,
    },
    service::ProbeClient,
};

/// Records the threads that ask it.
#[derive(Clone, Debug, Default)]
struct Witness(Arc<Mutex<Vec<Option<String>>>>);

impl Witness {
    fn take(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

impl WorkerChoice for Witness {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        self.0.lock().expect("not poisoned").push(thread::current().name().map(str::to_owned));
        candidates.next().map(|candidate| candidate.peer)
    }
}

#[test]
fn policy_runs_on_the_io_thread_alone() {
    run(async {
        let witness = Witness::default();
        let client = bind(Client::builder().worker_choice(witness.clone())).await;
        let _worker = worker(&client).await;
        has_workers(&client, 1).await;
        for _ in 0..20 {
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
            assert_eq!(witness.take(), [Some("xero-client".to_owned())]);
        }
    });
}

/// A policy with a table that the program also changes.
#[derive(Clone, Debug, Default)]
struct Table(Arc<Mutex<Vec<Peer>>>);

impl WorkerChoice for Table {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        let spared = self.0.lock().expect("not poisoned");
        candidates.map(|candidate| candidate.peer).find(|peer| !spared.contains(peer))
    }
}

#[test]
fn caller_may_hold_the_lock_of_its_policy() {
    run(async {
        let table = Table::default();
        let client = bind(Client::builder().worker_choice(table.clone())).await;
        let _worker = worker(&client).await;
        has_workers(&client, 1).await;
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        let (started, has_started) = oneshot::channel();
        let other = probe(&client);
        thread::spawn(move || {
            let spared = table.0.lock().expect("not poisoned");
            let call = other.ping().timeout(PATIENCE).start();
            drop(spared);
            let _ = started.send(call);
        });
        let call = within(PATIENCE, has_started).await.expect("the call is started");
        assert_eq!(call.await.unwrap(), "pong");
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
    });
}

/// Waits of procedures for their end, and the waker of all of them.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Vec<Waiting>>>, Arc<Waking>);

/// The task that ends or wakes, if it is one.
type Task = Option<tokio::task::Id>;

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Records the procedures' tasks and the tasks that wake.
#[derive(Default)]
struct Waking {
    procedures: Mutex<Vec<Task>>,
    wakers: Mutex<Vec<Task>>,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wakers.lock().expect("not poisoned").push(tokio::task::try_id());
    }
}

#[xero::service]
trait Brief {
    async fn leave_a_wait(&self, cx: &xero::Context);
}

#[xero::worker]
impl Brief for Waits {
    async fn leave_a_wait(&self, cx: &xero::Context) {
        let cx = cx.clone();
        let mut wait: Waiting = Box::pin(async move { cx.cancelled().await });
        let waker = Waker::from(Arc::clone(&self.1));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        self.0.lock().expect("not poisoned").push(wait);
        self.1.procedures.lock().expect("not poisoned").push(Some(tokio::task::id()));
        eventually("the I/O thread is idle", async || threads_wait("xero-worker")).await;
    }
}

/// What drops a procedure may hold the lock that such a waker takes.
#[test]
fn wakers_never_run_within_the_end_of_a_procedure() {
    run(async {
        let client = client().await;
        let waits = Waits::default();
        let _worker = start(&client, Worker::connect(client.endpoint()).serve(waits.clone())).await;
        has_workers(&client, 1).await;
        for _ in 0..5 {
            BriefClient::new(&client).leave_a_wait().timeout(PATIENCE).await.unwrap();
            let take = |tasks: &Mutex<Vec<Task>>| std::mem::take(&mut *tasks.lock().expect("not poisoned"));
            let mut wakers = Vec::new();
            eventually("the wait has ended", async || {
                wakers.extend(take(&waits.1.wakers));
                !wakers.is_empty()
            })
            .await;
            let procedures = take(&waits.1.procedures);
            assert_eq!((procedures.len(), wakers.len()), (1, 1));
            assert_ne!(procedures, wakers);
        }
    });
}

/// Makes a call whenever it is woken: within a turn of the I/O thread.
struct Eager {
    probe: ProbeClient,
    calls: Mutex<Vec<PendingCall<String, Never>>>,
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        let call = self.probe.ping().timeout(PATIENCE).start();
        self.calls.lock().expect("not poisoned").push(call);
    }
}

#[test]
fn waker_may_make_calls() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        has_workers(&client, 1).await;
        let eager = Arc::new(Eager { probe: probe(&client), calls: Mutex::default() });
        let mut first = Box::pin(probe(&client).ping().timeout(PATIENCE).start());
        let waker = Waker::from(Arc::clone(&eager));
        let mut poll = || first.as_mut().poll(&mut Context::from_waker(&waker));
        let ended = match poll() {
            Poll::Ready(ended) => ended,
            Poll::Pending => {
                eventually("the call has ended", async || !eager.calls.lock().unwrap().is_empty()).await;
                match poll() {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => panic!("woken without an end"),
                }
            }
        };
        assert_eq!(ended.unwrap(), "pong");
        let calls = std::mem::take(&mut *eager.calls.lock().unwrap());
        for call in calls {
            assert_eq!(call.await.unwrap(), "pong");
        }
    });
}

/// Blocks whoever wakes, until it is released.
struct Blocking(Mutex<mpsc::Receiver<()>>, AtomicBool);

impl Wake for Blocking {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Relaxed);
        let _ = self.0.lock().expect("not poisoned").recv();
    }
}

/// Waits for the heartbeats of more than three leases.
async fn lease_is_kept(witness: &mut raw::Link) {
    for _ in 0..10 {
        assert_eq!(witness.receive().await, Some(Message::Heartbeat));
        witness.send(&Message::Heartbeat).await;
    }
}

#[test]
fn waker_that_blocks_for_longer_than_a_lease_costs_no_peer() {
    run(async {
        let program = driven(runtime::Builder::new_current_thread().enable_all());
        let bound = program.spawn(beating(SHORT).bind("tcp://127.0.0.1:0")).await;
        let client = bound.expect("no panic").expect("a free port");
        let worker = start(&client, Worker::connect(client.endpoint()).heartbeat_interval(SHORT)).await;
        // It offers nothing, so it gets no call.
        let mut witness = raw::worker(client.endpoint(), raw::Ready { services: Vec::new(), ..raw::ready() }).await;
        // The reader gets the sockets meanwhile.
        for _ in 0..100 {
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        }
        let (release, released) = mpsc::channel();
        let blocking = Arc::new(Blocking(Mutex::new(released), AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&blocking));
        let begin = || loop {
            let mut call = Box::pin(probe(&client).ping().timeout(PATIENCE));
            if call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                break call;
            }
        };
        // The second one ends while the I/O thread stands in for the blocked reader.
        for round in 0..2 {
            let first = begin();
            eventually("the waker blocks", async || blocking.1.swap(false, Ordering::Relaxed)).await;
            let second = begin();
            lease_is_kept(&mut witness).await;
            release.send(()).expect("the first waker waits");
            eventually("the other waker blocks", async || blocking.1.swap(false, Ordering::Relaxed)).await;
            lease_is_kept(&mut witness).await;
            release.send(()).expect("the second waker waits");
            assert_eq!(first.await.unwrap(), "pong", "{round}");
            assert_eq!(second.await.unwrap(), "pong", "{round}");
        }
        let (client, worker) = (client.counters().await, worker.counters().await);
        assert_eq!((client.expired_leases, worker.expired_leases, worker.redials), (0, 0, 0));
    });
}

/// Says where it runs, and blocks the thread of its runtime until it is released.
#[derive(Clone)]
struct Place(Arc<Mutex<mpsc::Receiver<()>>>);

impl Place {
    /// With the end that releases it; so does its drop.
    fn new() -> (mpsc::Sender<()>, Self) {
        let (release, released) = mpsc::channel();
        (release, Self(Arc::new(Mutex::new(released))))
    }

    fn wait(&self) {
        let _ = self.0.lock().expect("not poisoned").recv();
    }
}

#[xero::service]
trait Places {
    #[xero(inline)]
    async fn thread(&self) -> Option<String>;
    async fn block(&self);
    async fn never(&self);
}

#[xero::worker]
impl Places for Place {
    async fn thread(&self) -> Option<String> {
        thread::current().name().map(str::to_owned)
    }

    async fn block(&self) {
        self.wait();
    }

    async fn never(&self) {
        pending().await
    }
}

/// A runtime with one thread of this name, which runs until the end of the process.
fn driven(builder: &mut runtime::Builder) -> runtime::Handle {
    let runtime = builder.build().expect("a runtime");
    let handle = runtime.handle().clone();
    thread::Builder::new().name(PROGRAM.to_owned()).spawn(move || runtime.block_on(pending::<()>())).expect("a thread");
    handle
}

/// A worker whose procedures run on this runtime.
async fn place_on(client: &Client, program: &runtime::Handle, settings: WorkerBuilder, place: Place) -> Worker {
    let started = program.spawn(async move { settings.serve(place).start() }).await;
    let worker = started.expect("no panic").expect("a worker");
    has_workers(client, 1).await;
    worker
}

/// A worker whose program reads.
fn reading(client: &Client) -> WorkerBuilder {
    Worker::connect(client.endpoint()).program_turns(ProgramTurns::ReadAndWrite)
}

async fn thread_of(places: &PlacesClient) -> Option<String> {
    places.thread().timeout(PATIENCE).await.expect("a reply")
}

/// A worker whose program has begun to read.
struct Scene {
    program: runtime::Handle,
    place: Place,
    release: mpsc::Sender<()>,
    places: PlacesClient,
    _worker: Worker,
    _client: Client,
}

impl Scene {
    async fn new() -> Self {
        let client = client().await;
        let program = driven(runtime::Builder::new_current_thread().enable_all());
        let (release, place) = Place::new();
        let worker = place_on(&client, &program, reading(&client), place.clone()).await;
        let scene =
            Self { program, place, release, places: PlacesClient::new(&client), _worker: worker, _client: client };
        scene.is_read_by(PROGRAM).await;
        scene
    }

    /// Waits until calls run on this thread. The first ones may have been read by another.
    async fn is_read_by(&self, thread: &str) {
        let call = || self.places.thread().timeout(Duration::from_millis(200));
        eventually("it reads", async || call().await.is_ok_and(|name| name.as_deref() == Some(thread))).await;
    }
}

#[test]
fn inline_procedure_runs_where_the_program_reads_and_on_the_io_thread_while_the_program_is_blocked() {
    run(async {
        let scene = Scene::new().await;
        let blocked = Instant::now();
        let block = scene.places.block().timeout(PATIENCE).start();
        scene.is_read_by("xero-worker").await;
        assert!(blocked.elapsed() < SOON, "{:?}", blocked.elapsed());
        scene.release.send(()).unwrap();
        block.await.unwrap();
        scene.is_read_by(PROGRAM).await;
    });
}

#[test]
fn request_to_an_idle_worker_is_read_although_its_program_is_blocked() {
    run(async {
        let scene = Scene::new().await;
        let (begun, is_blocked) = oneshot::channel();
        let place = scene.place.clone();
        scene.program.spawn(async move {
            let _ = begun.send(());
            place.wait();
        });
        is_blocked.await.unwrap();
        let blocked = Instant::now();
        assert_eq!(thread_of(&scene.places).await.as_deref(), Some("xero-worker"));
        assert!(blocked.elapsed() < SOON, "{:?}", blocked.elapsed());
        scene.release.send(()).unwrap();
        scene.is_read_by(PROGRAM).await;
    });
}

#[test]
fn program_that_only_writes_leaves_reading_to_the_io_thread() {
    run(async {
        let client = bind(Client::builder().program_turns(ProgramTurns::Write)).await;
        let program = driven(runtime::Builder::new_current_thread().enable_all());
        let settings = Worker::connect(client.endpoint()).program_turns(ProgramTurns::Write);
        let _worker = place_on(&client, &program, settings, Place::new().1).await;
        for _ in 0..100 {
            assert_eq!(thread_of(&PlacesClient::new(&client)).await.as_deref(), Some("xero-worker"));
        }
    });
}

#[test]
fn runtimes_without_a_reactor_are_served_by_the_io_thread() {
    run(async {
        let program = driven(&mut runtime::Builder::new_current_thread());
        let settings = Client::builder().program_turns(ProgramTurns::ReadAndWrite);
        let client = program.spawn(settings.bind("tcp://127.0.0.1:0")).await.unwrap().unwrap();
        let _worker = place_on(&client, &program, reading(&client), Place::new().1).await;
        let places = PlacesClient::new(&client);
        for _ in 0..100 {
            assert!(thread_of(&places).await.is_some());
        }
    });
}

#[test]
fn idle_client_of_a_blocked_program_notices_that_its_worker_has_left() {
    run(async {
        let program = driven(runtime::Builder::new_current_thread().enable_all());
        let client = program.spawn(Client::bind("tcp://127.0.0.1:0").into_future()).await.unwrap().unwrap();
        let worker = Worker::connect(client.endpoint()).serve(prober()).start().unwrap();
        has_workers(&client, 1).await;
        // The reader gets the sockets meanwhile.
        for _ in 0..100 {
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        }
        let (release, place) = Place::new();
        let (begun, is_blocked) = oneshot::channel();
        program.spawn(async move {
            let _ = begun.send(());
            place.wait();
        });
        is_blocked.await.unwrap();
        let blocked = Instant::now();
        worker.drain().await;
        has_workers(&client, 0).await;
        assert!(blocked.elapsed() < SOON, "{:?}", blocked.elapsed());
        release.send(()).unwrap();
    });
}

/// A program with a runtime that it drives only now and then, and calls from elsewhere.
#[test]
fn client_of_a_runtime_that_nobody_drives_answers_others_soon() {
    run(async {
        let idle = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, endpoint) = oneshot::channel();
        let driven = thread::spawn(move || {
            let settings = Client::builder().program_turns(ProgramTurns::ReadAndWrite);
            let client = idle.block_on(async {
                let client = bind(settings).await;
                let _ = sender.send(client.endpoint().to_owned());
                // The reader gets the sockets meanwhile.
                for _ in 0..100 {
                    assert_eq!(probe(&client).ping().timeout(PATIENCE).await.expect("a reply"), "pong");
                }
                client
            });
            (client, idle)
        });
        let _worker = Worker::connect(endpoint.await.unwrap()).serve(prober()).start().unwrap();
        let (client, idle) = driven.join().expect("no panic");
        let begun = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        }
        // A reader that got the sockets back each time would take 20 ms for each of them.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        thread::spawn(|| drop(idle)).join().expect("no panic");
        for _ in 0..100 {
            assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        }
    });
}

#[test]
fn calls_time_out_in_time_while_the_program_reads() {
    run(async {
        let scene = Scene::new().await;
        // The client reads in this runtime, the worker in its own; neither has anything else to do.
        let mut delays = Vec::new();
        for n in 0..CALLS {
            let timeout = Duration::from_millis(30 + 7 * n % 20);
            let begun = Instant::now();
            assert!(scene.places.never().timeout(timeout).await.is_err());
            delays.push(begun.elapsed().saturating_sub(timeout));
        }
        delays.sort();
        // A watch that looks every 20 ms would find half of them later than this.
        assert!(delays[CALLS as usize / 2] < Duration::from_millis(8), "{delays:?}");
    });
}

/// The calls whose delays are looked at.
const CALLS: u64 = 41;

/// Far less than a lease, whose end would show a request too.
const SOON: Duration = Duration::from_secs(2);

/// The name of the thread that drives a program's runtime.
const PROGRAM: &str = "program";
