//! Methods that drain their own worker: the drain counts their call as its last.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{Notify, oneshot},
    time::timeout,
};
use xero::{CallError, Client, RpcError, Worker};
use xero_tests::scene::{PATIENCE, client, eventually, joined, run, within};

#[xero::service]
trait Leaving {
    async fn drain(&self) -> u32;
    #[xero(inline)]
    async fn drain_inline(&self) -> u32;
    #[xero(blocking)]
    async fn drain_blocking(&self) -> u32;
    /// Blocks its thread on the drain.
    #[xero(blocking)]
    async fn drain_by_block_on(&self) -> u32;
    /// Drains when the test releases it.
    async fn drain_later(&self) -> u32;
    /// Awaits two drains at once, and then another.
    async fn drain_twice(&self) -> u32;
    /// Begins a drain, and stops waiting for it.
    async fn drain_briefly(&self) -> u32;
    /// The same, and then runs until the test releases it.
    async fn drain_briefly_and_stay(&self) -> u32;
    /// Waits until the worker leaves.
    async fn wait_until_left(&self) -> u32;
    /// Begins the drain in a detached task.
    async fn drain_elsewhere(&self) -> u32;
    /// Runs until the test releases it.
    async fn work(&self) -> u32;
    /// Drains when the test releases it.
    #[xero(blocking)]
    async fn drain_later_blocking(&self) -> u32;
    /// Replies at once, when it gets a thread.
    #[xero(blocking)]
    async fn work_briefly(&self) -> u32;
    /// Blocks its thread on a runtime with a task of the program's own, until the test releases it.
    #[xero(blocking)]
    async fn host(&self) -> u32;
}

#[derive(Default)]
struct Shared {
    worker: OnceLock<Worker>,
    begun: Notify,
    go: Notify,
    end: Notify,
    hosted: Mutex<Option<Runtime>>,
}

#[derive(Clone, Default)]
struct Leaver(Arc<Shared>);

impl Leaver {
    fn worker(&self) -> Worker {
        self.0.worker.get().unwrap().clone()
    }
}

#[xero::worker]
impl Leaving for Leaver {
    async fn drain(&self) -> u32 {
        self.0.begun.notify_one();
        self.worker().drain().await;
        7
    }

    async fn drain_inline(&self) -> u32 {
        self.worker().drain().await;
        7
    }

    async fn drain_blocking(&self) -> u32 {
        self.worker().drain().await;
        7
    }

    async fn drain_by_block_on(&self) -> u32 {
        Handle::current().block_on(self.worker().drain());
        7
    }

    async fn drain_later(&self) -> u32 {
        self.0.begun.notify_one();
        self.0.go.notified().await;
        self.worker().drain().await;
        7
    }

    async fn drain_twice(&self) -> u32 {
        let (worker, another) = (self.worker(), self.worker());
        tokio::join!(worker.drain(), another.drain());
        worker.drain().await;
        7
    }

    async fn drain_briefly(&self) -> u32 {
        let worker = self.worker();
        assert!(timeout(Duration::from_millis(50), worker.drain()).await.is_err(), "another call runs");
        self.0.go.notify_one();
        7
    }

    async fn drain_briefly_and_stay(&self) -> u32 {
        let worker = self.worker();
        assert!(timeout(Duration::from_millis(50), worker.drain()).await.is_err(), "another call runs");
        self.0.begun.notify_one();
        self.0.end.notified().await;
        7
    }

    async fn wait_until_left(&self) -> u32 {
        self.0.begun.notify_one();
        self.worker().left().await;
        7
    }

    async fn drain_elsewhere(&self) -> u32 {
        let worker = self.worker();
        tokio::spawn(async move { worker.drain().await });
        7
    }

    async fn work(&self) -> u32 {
        self.0.begun.notify_one();
        self.0.go.notified().await;
        8
    }

    async fn drain_later_blocking(&self) -> u32 {
        self.drain_later().await
    }

    async fn work_briefly(&self) -> u32 {
        8
    }

    async fn host(&self) -> u32 {
        let runtime = self.0.hosted.lock().unwrap().take().unwrap();
        runtime.block_on(async {
            self.0.begun.notify_one();
            self.0.go.notified().await;
        });
        7
    }
}

/// Less than the drain timeout and the default deadline, but enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn method_that_drains_its_own_worker_replies_and_the_worker_leaves() {
    run(async {
        for method in ["drain", "drain_inline", "drain_blocking", "drain_by_block_on", "drain_twice", "drain_elsewhere"]
        {
            let (client, leaver) = scene(Worker::connect).await;
            let reply = client.call(&format!("Leaving.{method}")).timeout(SOON).await;
            let reply = reply.unwrap_or_else(|error| panic!("{method}: {error}"));
            assert_eq!(reply.decode::<u32>().unwrap(), 7);
            within(SOON, leaver.worker().left()).await;
            eventually("it has said goodbye", async || !client.is_connected()).await;
        }
    });
}

#[test]
fn drain_within_a_method_waits_for_the_other_calls() {
    run(async {
        let (client, leaver) = scene(Worker::connect).await;
        let leaving = LeavingClient::new(&client);
        let work = leaving.work().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let mut drain = leaving.drain().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        assert!(timeout(Duration::from_millis(200), &mut drain).await.is_err(), "it waits for the other call");
        leaver.0.go.notify_one();
        assert_eq!(within(SOON, work).await, Ok(8));
        assert_eq!(within(SOON, drain).await, Ok(7));
        within(SOON, leaver.worker().left()).await;
    });
}

#[test]
fn calls_that_drain_at_the_same_time_do_not_wait_for_each_other() {
    run(async {
        let (client, leaver) = scene(Worker::connect).await;
        let leaving = LeavingClient::new(&client);
        let work = leaving.work().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let waiting = leaving.wait_until_left().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let first = leaving.drain().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let outside = tokio::spawn({
            let worker = leaver.worker();
            async move { worker.drain().await }
        });
        leaver.0.go.notify_one();
        assert_eq!(within(SOON, work).await, Ok(8));
        assert_eq!(within(SOON, first).await, Ok(7));
        assert_eq!(within(SOON, waiting).await, Ok(7));
        within(SOON, outside).await.unwrap();
    });
}

#[test]
fn draining_method_does_not_wait_for_a_queued_call() {
    run(async {
        let (client, other, leaver) = (client().await, client().await, Leaver::default());
        // Each client may send one request, and one of them runs at once.
        let settings = Worker::connect([client.endpoint(), other.endpoint()]).concurrency(1);
        let worker = settings.serve(leaver.clone()).start().unwrap();
        leaver.0.worker.set(worker.clone()).ok();
        joined(&client, &worker).await;
        joined(&other, &worker).await;
        let drain = LeavingClient::new(&client).drain_later().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let work = LeavingClient::new(&other).work().timeout(PATIENCE).start();
        eventually("the second request waits", async || worker.counters().await.requests == 2).await;
        leaver.0.go.notify_one();
        assert_eq!(within(SOON, drain).await, Ok(7));
        within(SOON, leaver.0.begun.notified()).await;
        leaver.0.go.notify_one();
        assert_eq!(within(SOON, work).await, Ok(8));
        within(SOON, worker.left()).await;
    });
}

#[test]
fn draining_blocking_method_does_not_wait_for_a_call_without_a_thread() {
    let pool_of_one =
        Builder::new_multi_thread().worker_threads(2).max_blocking_threads(1).enable_all().build().unwrap();
    pool_of_one.block_on(async {
        for is_cancelled in [false, true] {
            let (client, leaver) = scene(Worker::connect).await;
            let leaving = LeavingClient::new(&client);
            let drain = leaving.drain_later_blocking().timeout(PATIENCE).start();
            within(PATIENCE, leaver.0.begun.notified()).await;
            let work = leaving.work_briefly().timeout(PATIENCE).start();
            eventually("it waits", async || leaver.worker().counters().await.requests == 2).await;
            let work = (!is_cancelled).then_some(work);
            leaver.0.go.notify_one();
            assert_eq!(within(SOON, drain).await, Ok(7));
            if let Some(work) = work {
                assert_eq!(within(SOON, work).await, Ok(8));
            }
            within(SOON, leaver.worker().left()).await;
        }
    });
}

#[test]
fn task_polled_while_a_method_blocks_does_not_count_as_the_method() {
    run(async {
        let (client, leaver) = scene(Worker::connect).await;
        let hosted = Builder::new_current_thread().build().unwrap();
        let worker = leaver.worker();
        // Not a part of the method, although its thread polls it.
        let (leave, mut has_left) = oneshot::channel();
        hosted.spawn(async move {
            worker.left().await;
            let _ = leave.send(());
        });
        *leaver.0.hosted.lock().unwrap() = Some(hosted);
        let host = LeavingClient::new(&client).host().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let draining = tokio::spawn({
            let worker = leaver.worker();
            async move { worker.drain().await }
        });
        assert!(timeout(Duration::from_millis(300), &mut has_left).await.is_err(), "the method still runs");
        leaver.0.go.notify_one();
        assert_eq!(within(SOON, host).await, Ok(7));
        within(SOON, draining).await.unwrap();
    });
}

#[test]
fn drain_continues_when_its_method_stops_waiting() {
    run(async {
        let (client, leaver) = scene(Worker::connect).await;
        let leaving = LeavingClient::new(&client);
        let work = leaving.work().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        assert_eq!(within(SOON, leaving.drain_briefly().timeout(PATIENCE)).await, Ok(7));
        assert_eq!(within(SOON, work).await, Ok(8));
        within(SOON, leaver.worker().left()).await;
    });
}

#[test]
fn drain_waits_for_a_call_that_stopped_waiting_for_it() {
    run(async {
        let (client, leaver) = scene(Worker::connect).await;
        let leaving = LeavingClient::new(&client);
        let mut drain = leaving.drain_later().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let stay = leaving.drain_briefly_and_stay().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        leaver.0.go.notify_one();
        assert!(timeout(Duration::from_millis(200), &mut drain).await.is_err(), "it waits for the other call");
        leaver.0.end.notify_one();
        assert_eq!(within(SOON, stay).await, Ok(7));
        assert_eq!(within(SOON, drain).await, Ok(7));
        within(SOON, leaver.worker().left()).await;
    });
}

#[test]
fn method_that_drains_another_worker_waits_for_all_of_its_calls() {
    run(async {
        let (client, first) = scene(Worker::connect).await;
        let (other, second) = scene(Worker::connect).await;
        let work = LeavingClient::new(&other).work().timeout(PATIENCE).start();
        within(PATIENCE, second.0.begun.notified()).await;
        // The method of the first drains the second.
        let crossed = Leaver::default();
        crossed.0.worker.set(second.worker()).ok();
        first.worker().drain().await;
        let worker = Worker::connect(client.endpoint()).serve(crossed.clone()).start().unwrap();
        joined(&client, &worker).await;
        let mut drain = LeavingClient::new(&client).drain().timeout(PATIENCE).start();
        assert!(timeout(Duration::from_millis(200), &mut drain).await.is_err(), "a call runs there");
        second.0.go.notify_one();
        assert_eq!(within(SOON, work).await, Ok(8));
        assert_eq!(within(SOON, drain).await, Ok(7));
        assert!(worker.is_connected());
    });
}

#[test]
fn call_that_drains_and_is_cancelled_lets_the_worker_leave() {
    run(async {
        let (client, leaver) = scene(Worker::connect).await;
        let leaving = LeavingClient::new(&client);
        let work = leaving.work().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        let drain = leaving.drain().timeout(PATIENCE).start();
        within(PATIENCE, leaver.0.begun.notified()).await;
        drop(drain);
        leaver.0.go.notify_one();
        assert_eq!(within(SOON, work).await, Ok(8));
        within(SOON, leaver.worker().left()).await;
        let error = leaving.work().fail_fast().await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::NoWorker { .. })), "{error}");
    });
}

#[xero::service]
trait Nothing {
    async fn nothing(&self);
}

/// Drains its worker when it is dropped.
#[derive(Clone, Default)]
struct Tidy(Arc<OnceLock<Worker>>);

struct Owner(Tidy);

impl Drop for Owner {
    fn drop(&mut self) {
        let worker = self.0.0.get().unwrap();
        Handle::current().block_on(async { tokio::join!(worker.drain(), worker.left(), worker.counters()) });
    }
}

#[xero::worker]
impl Nothing for Owner {
    async fn nothing(&self) {}
}

#[test]
fn service_that_drains_its_worker_on_drop_does_not_wait_for_itself() {
    run(async {
        let (client, tidy) = (client().await, Tidy::default());
        let worker = Worker::connect(client.endpoint()).serve(Owner(tidy.clone())).start().unwrap();
        tidy.0.set(worker.clone()).ok();
        joined(&client, &worker).await;
        within(SOON, worker.drain()).await;
    });
}

async fn scene(settings: impl FnOnce(String) -> xero::WorkerBuilder) -> (Client, Leaver) {
    let (client, leaver) = (client().await, Leaver::default());
    let worker = settings(client.endpoint().to_owned()).serve(leaver.clone()).start().unwrap();
    leaver.0.worker.set(worker.clone()).ok();
    joined(&client, &worker).await;
    (client, leaver)
}
