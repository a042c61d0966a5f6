//! Who takes turns, and which thread runs the user code that they lead to.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread,
};

use tokio::sync::oneshot;
use xero::{Candidate, Client, Never, PendingCall, Worker, WorkerChoice, proto::message::Peer};
use xero_tests::{
    process::threads_wait,
    scene::{PATIENCE, bind, client, eventually, has_workers, probe, run, start, within, worker},
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

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Records the threads that wake.
#[derive(Default)]
struct Waking(Mutex<Vec<Option<String>>>);

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.0.lock().expect("not poisoned").push(thread::current().name().map(str::to_owned));
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
        eventually("the I/O thread is idle", async || threads_wait("xero-worker")).await;
    }
}

/// The thread on which a procedure ends may hold the lock that such a waker takes.
#[test]
fn wakers_run_on_the_io_thread_alone() {
    run(async {
        let client = client().await;
        let waits = Waits::default();
        let _worker = start(&client, Worker::connect(client.endpoint()).serve(waits.clone())).await;
        has_workers(&client, 1).await;
        for _ in 0..5 {
            BriefClient::new(&client).leave_a_wait().timeout(PATIENCE).await.unwrap();
            let take = || std::mem::take(&mut *waits.1.0.lock().expect("not poisoned"));
            let mut threads = Vec::new();
            eventually("the wait has ended", async || {
                threads.extend(take());
                !threads.is_empty()
            })
            .await;
            assert_eq!(threads, [Some("xero-worker".to_owned())]);
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
