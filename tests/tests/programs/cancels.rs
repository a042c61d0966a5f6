//! Calls that are cancelled halfway: where their values are dropped, and who waits for that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
};
use xero::{CallError, Client, RpcError, Worker};
use xero_tests::scene::{PATIENCE, client, eventually, joined, run, runtime, show_logs, within};

use crate::drops::{HeldClient, Holder, Ledger, Small, SmallClient};

#[test]
fn aborted_procedures_drop_nothing_on_the_io_thread() {
    run(async {
        for inline in [false, true] {
            let (client, ledger) = (client().await, Ledger::default());
            let holder = Holder::new(&ledger);
            let (begun, local) = (Arc::clone(&holder.begun), holder.local.clone());
            let settings = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(50));
            let worker = settings.serve(holder).start().unwrap();
            joined(&client, &worker).await;
            let held = HeldClient::new(&client);
            let call = if inline { held.wait_inline() } else { held.wait() };
            let call = call.timeout(PATIENCE).start();
            within(PATIENCE, begun.notified()).await;
            within(PATIENCE, worker.drain()).await;
            let error = call.await.unwrap_err();
            assert!(matches!(error, CallError::Rpc(RpcError::Refused { .. })), "{error}");
            eventually("all is dropped", async || local.drops().len() + ledger.drops().len() == 2).await;
            local.assert_one();
            ledger.assert_one();
        }
    });
}

#[test]
fn service_of_a_procedure_that_is_slow_to_drop_is_dropped_before_drain_returns() {
    struct Slow(Arc<AtomicBool>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    struct SlowLocal;
    impl Drop for SlowLocal {
        #[allow(clippy::disallowed_methods)]
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(100));
        }
    }
    #[xero::worker]
    impl Small for Slow {
        async fn nothing(&self) {
            let _local = SlowLocal;
            std::future::pending().await
        }
    }
    run(async {
        let (client, is_dropped) = (client().await, Arc::new(AtomicBool::new(false)));
        let settings = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(50));
        let worker = settings.serve(Slow(Arc::clone(&is_dropped))).start().unwrap();
        joined(&client, &worker).await;
        let _call = SmallClient::new(&client).nothing().timeout(PATIENCE).start();
        eventually("it runs", async || worker.counters().await.requests == 1).await;
        within(PATIENCE, worker.drain()).await;
        assert!(is_dropped.load(Ordering::Relaxed));
    });
}

/// A program whose `main` ends next loses nothing.
#[test]
fn values_of_cancelled_inline_calls_are_dropped_on_the_pool() {
    run(async {
        let (client, ledger) = (client().await, Ledger::default());
        let holder = Holder::new(&ledger);
        let (begun, local) = (Arc::clone(&holder.begun), holder.local.clone());
        let worker = Worker::connect(client.endpoint()).serve(holder).start().unwrap();
        joined(&client, &worker).await;
        for _ in 0..20 {
            let call = HeldClient::new(&client).wait_inline().timeout(PATIENCE).start();
            within(PATIENCE, begun.notified()).await;
            drop(call);
        }
        eventually("all are dropped", async || local.drops().len() == 20).await;
        assert!(local.drops().iter().all(|thread| thread == "tokio-rt-worker"), "{:?}", local.drops());
        // The I/O thread has a runtime too.
        assert!(local.runtimes.lock().unwrap().iter().all(|runtime| *runtime == Some(Handle::current().id())));
    });
}

#[xero::service]
trait Stays {
    /// Each waits for ever, with a value of its own.
    async fn task(&self) -> u32;
    #[xero(inline)]
    async fn inline(&self) -> u32;
    #[xero(blocking)]
    async fn blocking(&self) -> u32;
}

#[derive(Clone, Default)]
struct Stay {
    begun: Arc<Notify>,
    is_dropped: Arc<AtomicBool>,
    flush: Duration,
}

struct Stayer(Stay);

/// A value whose drop takes time.
struct Slow(Duration);

impl Drop for Slow {
    #[allow(clippy::disallowed_methods)]
    fn drop(&mut self) {
        thread::sleep(self.0);
    }
}

impl Drop for Stayer {
    fn drop(&mut self) {
        self.0.is_dropped.store(true, Ordering::Relaxed);
    }
}

impl Stayer {
    async fn stay(&self) -> u32 {
        let _slow = Slow(self.0.flush);
        self.0.begun.notify_one();
        std::future::pending().await
    }
}

#[xero::worker]
impl Stays for Stayer {
    async fn task(&self) -> u32 {
        self.stay().await
    }
    async fn inline(&self) -> u32 {
        self.stay().await
    }
    async fn blocking(&self) -> u32 {
        self.stay().await
    }
}

async fn staying(stay: &Stay) -> (Client, Worker, StaysClient) {
    let client = client().await;
    let worker = Worker::connect(client.endpoint()).serve(Stayer(stay.clone())).start().unwrap();
    joined(&client, &worker).await;
    let stays = StaysClient::new(&client);
    (client, worker, stays)
}

#[test]
fn drain_waits_for_a_cancelled_call_that_is_slow_to_drop() {
    run(async {
        for mode in 0..3 {
            let stay = Stay { flush: Duration::from_secs(1), ..Stay::default() };
            let (_client, worker, stays) = staying(&stay).await;
            let call = [stays.task(), stays.inline(), stays.blocking()].into_iter().nth(mode).unwrap();
            let call = call.timeout(PATIENCE).start();
            within(PATIENCE, stay.begun.notified()).await;
            drop(call);
            within(PATIENCE, worker.drain()).await;
            assert!(stay.is_dropped.load(Ordering::Relaxed), "mode {mode}");
        }
    });
}

/// A runtime whose blocking pool has one thread, and a sender that keeps it busy until dropped.
fn with_a_busy_pool() -> (Runtime, mpsc::Sender<()>) {
    show_logs();
    let runtime = Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
    let (release, released) = mpsc::channel();
    runtime.spawn_blocking(move || released.recv());
    (runtime, release)
}

#[test]
fn values_of_a_cancelled_inline_call_are_dropped_even_if_the_pool_is_full() {
    let (runtime, release) = with_a_busy_pool();
    runtime.block_on(async {
        let stay = Stay::default();
        let (_client, worker, stays) = staying(&stay).await;
        let call = stays.inline().timeout(PATIENCE).start();
        within(PATIENCE, stay.begun.notified()).await;
        drop(call);
        within(PATIENCE, worker.drain()).await;
        assert!(stay.is_dropped.load(Ordering::Relaxed));
    });
    drop(release);
}

#[test]
fn blocking_call_cancelled_while_it_waits_for_a_thread_ends_at_once() {
    let (runtime, release) = with_a_busy_pool();
    runtime.block_on(async {
        let stay = Stay::default();
        let (_client, worker, stays) = staying(&stay).await;
        let call = stays.blocking().timeout(PATIENCE).start();
        eventually("it has come", async || worker.counters().await.requests == 1).await;
        drop(call);
        within(PATIENCE / 3, worker.drain()).await;
        assert!(stay.is_dropped.load(Ordering::Relaxed));
    });
    drop(release);
}

/// Panics when it is dropped, with a payload whose drop panics too.
pub(crate) struct Mine;

/// A payload whose drop panics with another of its kind.
pub(crate) struct Bomb;

impl Drop for Mine {
    fn drop(&mut self) {
        if !thread::panicking() {
            std::panic::panic_any(Bomb);
        }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

#[xero::service]
trait Mines {
    async fn task(&self) -> u32;
    #[xero(inline)]
    async fn inline(&self) -> u32;
    #[xero(blocking)]
    async fn blocking(&self) -> u32;
    async fn count(&self) -> u32;
}

#[derive(Default)]
pub(crate) struct Minefield {
    begun: Arc<AtomicU32>,
    _mine: Option<Mine>,
}

impl Minefield {
    async fn wait_on_a_mine(&self) -> u32 {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let _mine = Mine;
        std::future::pending().await
    }
}

#[xero::worker]
impl Mines for Minefield {
    async fn task(&self) -> u32 {
        self.wait_on_a_mine().await
    }
    async fn inline(&self) -> u32 {
        self.wait_on_a_mine().await
    }
    async fn blocking(&self) -> u32 {
        self.wait_on_a_mine().await
    }
    async fn count(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }
}

#[test]
fn cancelled_call_whose_drop_panics_twice_aborts_no_process() {
    run(cancel_on_mines());
}

#[test]
fn cancelled_call_whose_drop_panics_twice_aborts_no_process_on_a_runtime_of_one_thread() {
    show_logs();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(within(PATIENCE, cancel_on_mines()));
}

async fn cancel_on_mines() {
    let client = client().await;
    let worker = Worker::connect(client.endpoint()).serve(Minefield::default()).start().unwrap();
    joined(&client, &worker).await;
    let mines = MinesClient::new(&client);
    for call in [mines.task(), mines.inline(), mines.blocking()] {
        let error = call.timeout(Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { .. })), "{error}");
    }
    assert_eq!(mines.count().await, Ok(3));
    within(PATIENCE, worker.drain()).await;
}

#[test]
fn runtime_that_drops_a_procedure_whose_drop_panics_twice_aborts_no_process() {
    run(async {
        let (client, theirs) = (client().await, runtime(1));
        let minefield = Minefield { _mine: Some(Mine), ..Minefield::default() };
        let begun = Arc::clone(&minefield.begun);
        let worker = {
            let _inside = theirs.enter();
            let settings = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(100));
            settings.serve(minefield).start().unwrap()
        };
        joined(&client, &worker).await;
        let mines = MinesClient::new(&client);
        let calls = [mines.task(), mines.inline(), mines.blocking()].map(|call| call.timeout(PATIENCE).start());
        eventually("all run", async || begun.load(Ordering::Relaxed) == 3).await;
        theirs.shutdown_background();
        for call in calls {
            assert!(call.await.unwrap_err().maybe_executed());
        }
        within(PATIENCE, worker.left()).await;
    });
}
