//! Who takes turns: callers and procedures that find nobody else at work, or the I/O thread.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread,
};

use xero::{Candidate, Client, Never, PendingCall, WorkerChoice, proto::message::Peer};
use xero_tests::{
    scene::{PATIENCE, bind, client, eventually, has_workers, probe, run, worker},
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
fn lone_call_is_sent_by_its_caller_and_one_beside_others_by_the_io_thread() {
    run(async {
        let witness = Witness::default();
        let client = bind(Client::builder().worker_choice(witness.clone())).await;
        let _worker = worker(&client).await;
        has_workers(&client, 1).await;
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        let caller = thread::current().name().map(str::to_owned);
        assert_eq!(witness.take(), std::slice::from_ref(&caller));
        let held = probe(&client).work("held", 60_000).timeout(PATIENCE).start();
        eventually("the call is on its way", async || witness.take() == [caller.clone()]).await;
        assert_eq!(probe(&client).ping().timeout(PATIENCE).await.unwrap(), "pong");
        assert_eq!(witness.take(), [Some("xero-client".to_owned())]);
        drop(held);
    });
}

/// Makes a call whenever it is woken: within a turn.
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
