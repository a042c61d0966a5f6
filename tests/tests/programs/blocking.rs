//! A `#[xero(blocking)]` procedure may do everything that `spawn_blocking` allows, and also await.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{Mutex, Notify, mpsc, oneshot},
    time::sleep,
};
use xero::{CallError, Client, Context, RpcError, Worker};
use xero_tests::scene::{PATIENCE, client, eventually, joined, run, runtime, show_logs, within};

#[xero::service]
trait Blocking {
    /// Receives a message that a task sends.
    #[xero(blocking)]
    async fn blocking_recv(&self) -> u32;
    /// Receives a oneshot message that a task sends.
    #[xero(blocking)]
    async fn blocking_recv_once(&self) -> u32;
    /// Sends to a full channel that a task reads.
    #[xero(blocking)]
    async fn blocking_send(&self) -> u32;
    /// Waits for a lock that a task holds.
    #[xero(blocking)]
    async fn blocking_lock(&self) -> u32;
    /// Waits for a future on the worker's runtime.
    #[xero(blocking)]
    async fn handle_block_on(&self) -> u32;
    /// The same after an await, and between two others.
    #[xero(blocking)]
    async fn block_on_between_awaits(&self) -> u32;
    /// Makes a runtime, runs a future on it and drops it, as a blocking HTTP client does.
    #[xero(blocking)]
    async fn runtime_of_its_own(&self, threads: usize) -> u32;
    /// Makes a runtime that is dropped last.
    #[xero(blocking)]
    async fn runtime_across_an_await(&self) -> u32;
    /// Runs another executor.
    #[xero(blocking)]
    async fn other_executor(&self) -> u32;
    /// Awaits a task, a timer and a blocking task.
    #[xero(blocking)]
    async fn await_tasks(&self) -> u32;
    /// Blocks in place.
    #[xero(blocking)]
    async fn block_in_place(&self) -> u32;
    /// Is dropped at its await when its caller is gone.
    #[xero(blocking)]
    async fn wait_for_ever(&self, cx: &Context) -> u32;
    /// Panics, before an await or after one.
    #[xero(blocking)]
    async fn panic(&self, late: bool) -> u32;
}

#[derive(Default)]
struct Notes {
    begun: Notify,
    dropped: Notify,
}

#[derive(Clone, Default)]
struct Thread {
    notes: Arc<Notes>,
}

struct NoteOnDrop(Arc<Notes>);

impl Drop for NoteOnDrop {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

#[xero::worker]
impl Blocking for Thread {
    async fn blocking_recv(&self) -> u32 {
        let (sender, mut receiver) = mpsc::channel(1);
        tokio::spawn(async move { sender.send(7).await });
        receiver.blocking_recv().unwrap()
    }

    async fn blocking_recv_once(&self) -> u32 {
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move { sender.send(7) });
        receiver.blocking_recv().unwrap()
    }

    async fn blocking_send(&self) -> u32 {
        let (sender, mut receiver) = mpsc::channel(1);
        sender.blocking_send(1).unwrap();
        let sum = tokio::spawn(async move { receiver.recv().await.unwrap() + receiver.recv().await.unwrap() });
        sender.blocking_send(6).unwrap();
        sum.await.unwrap()
    }

    async fn blocking_lock(&self) -> u32 {
        let lock = Arc::new(Mutex::new(0));
        let held = Arc::clone(&lock).lock_owned().await;
        tokio::spawn(async move {
            let mut held = held;
            tokio::task::yield_now().await;
            *held = 7;
        });
        *lock.blocking_lock()
    }

    async fn handle_block_on(&self) -> u32 {
        Handle::current().block_on(async {
            sleep(Duration::from_millis(1)).await;
            tokio::spawn(async { 7 }).await.unwrap()
        })
    }

    async fn block_on_between_awaits(&self) -> u32 {
        sleep(Duration::from_millis(1)).await;
        let first = Handle::current().block_on(async { tokio::spawn(async { 3 }).await.unwrap() });
        sleep(Duration::from_millis(1)).await;
        first + Handle::current().block_on(async { tokio::spawn(async { 4 }).await.unwrap() })
    }

    async fn runtime_of_its_own(&self, threads: usize) -> u32 {
        let own = runtime_of(threads);
        let value = own.block_on(async { tokio::spawn(async { 7 }).await.unwrap() });
        drop(own);
        value
    }

    async fn runtime_across_an_await(&self) -> u32 {
        let own = runtime_of(1);
        let task = own.spawn(async { 7 });
        task.await.unwrap()
    }

    async fn other_executor(&self) -> u32 {
        let task = tokio::spawn(async { 7 });
        let value = futures_executor::block_on(task).unwrap();
        sleep(Duration::from_millis(1)).await;
        value
    }

    async fn await_tasks(&self) -> u32 {
        sleep(Duration::from_millis(1)).await;
        let first = tokio::spawn(async { 3 }).await.unwrap();
        first + tokio::task::spawn_blocking(|| 4).await.unwrap()
    }

    async fn block_in_place(&self) -> u32 {
        tokio::task::block_in_place(|| 7)
    }

    async fn wait_for_ever(&self, _: &Context) -> u32 {
        let _note = NoteOnDrop(Arc::clone(&self.notes));
        self.notes.begun.notify_one();
        std::future::pending().await
    }

    async fn panic(&self, late: bool) -> u32 {
        if late {
            sleep(Duration::from_millis(1)).await;
        }
        panic!("as asked")
    }
}

fn runtime_of(threads: usize) -> Runtime {
    match threads {
        0 => Builder::new_current_thread().enable_all().build().unwrap(),
        _ => runtime(threads),
    }
}

#[test]
fn blocking_procedure_may_do_what_a_blocking_task_may() {
    run(try_everything());
}

#[test]
fn blocking_procedure_may_do_the_same_on_a_runtime_of_one_thread() {
    show_logs();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(within(2 * PATIENCE, try_everything()));
}

async fn try_everything() {
    let (client, worker, blocking, _) = scene().await;
    for (name, call) in [
        ("blocking_recv", blocking.blocking_recv()),
        ("blocking_recv_once", blocking.blocking_recv_once()),
        ("blocking_send", blocking.blocking_send()),
        ("blocking_lock", blocking.blocking_lock()),
        ("handle_block_on", blocking.handle_block_on()),
        ("block_on_between_awaits", blocking.block_on_between_awaits()),
        ("runtime_of_its_own 0", blocking.runtime_of_its_own(0)),
        ("runtime_of_its_own 2", blocking.runtime_of_its_own(2)),
        ("runtime_across_an_await", blocking.runtime_across_an_await()),
        ("other_executor", blocking.other_executor()),
        ("await_tasks", blocking.await_tasks()),
        ("block_in_place", blocking.block_in_place()),
    ] {
        assert_eq!(call.timeout(PATIENCE).await, Ok(7), "{name}");
    }
    within(PATIENCE, worker.drain()).await;
    client.close().await;
}

#[test]
fn blocking_procedure_is_dropped_at_its_await_when_its_caller_goes() {
    run(async {
        let (_client, _worker, blocking, notes) = scene().await;
        let call = blocking.wait_for_ever().timeout(PATIENCE).start();
        within(PATIENCE, notes.begun.notified()).await;
        drop(call);
        within(PATIENCE, notes.dropped.notified()).await;
    });
}

#[test]
fn panic_of_a_blocking_procedure_is_reported_and_costs_one_call() {
    run(async {
        let (_client, _worker, blocking, _) = scene().await;
        for late in [false, true] {
            let error = blocking.panic(late).await.unwrap_err();
            assert!(
                matches!(&error, CallError::Rpc(RpcError::Panicked { message, .. }) if message == "as asked"),
                "{error:?}"
            );
        }
        assert_eq!(blocking.await_tasks().await, Ok(7));
    });
}

#[test]
fn blocking_procedure_whose_runtime_shuts_down_ends() {
    run(async {
        let (client, theirs) = (client().await, runtime(1));
        let service = Thread::default();
        let notes = Arc::clone(&service.notes);
        let worker = {
            let _inside = theirs.enter();
            let settings = Worker::connect(client.endpoint()).drain_timeout(Duration::from_millis(100));
            settings.serve(service).start().unwrap()
        };
        joined(&client, &worker).await;
        let call = BlockingClient::new(&client).wait_for_ever().timeout(PATIENCE).start();
        within(PATIENCE, notes.begun.notified()).await;
        theirs.shutdown_background();
        let error = within(PATIENCE, call).await.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::Refused { maybe_executed: true, .. })), "{error}");
        within(PATIENCE, worker.left()).await;
        eventually("the procedure is dropped", async || Arc::strong_count(&notes) == 1).await;
    });
}

async fn scene() -> (Client, Worker, BlockingClient, Arc<Notes>) {
    let client = client().await;
    let service = Thread::default();
    let notes = Arc::clone(&service.notes);
    let worker = Worker::connect(client.endpoint()).serve(service).start().unwrap();
    joined(&client, &worker).await;
    let blocking = BlockingClient::new(&client);
    (client, worker, blocking, notes)
}
