//! Panics of every kind in procedures of every mode: they are reported as panics, and cost only one call.

use std::{
    future::IntoFuture,
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Wake, Waker},
};

use tokio::runtime::{Handle, Id};
use xero::{CallError, RpcError, Worker};
use xero_tests::{
    scene::{PATIENCE, client, joined, run, within},
    service::ProbeClient,
};

#[xero::service]
trait Panics {
    async fn task(&self, kind: u8) -> u32;
    #[xero(inline)]
    async fn inline(&self, kind: u8) -> u32;
    #[xero(blocking)]
    async fn blocking(&self, kind: u8) -> u32;
}

struct Panicker;

/// A payload whose drop panics with another of its kind.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

/// A payload that owns a runtime, which cannot be dropped where blocking is forbidden.
struct Owner(#[allow(dead_code)] tokio::runtime::Runtime);

fn panic_with(kind: u8) -> u32 {
    match kind {
        0 => panic!("a text"),
        1 => panic!("a text of {kind}"),
        2 => std::panic::panic_any(7_u32),
        3 => std::panic::panic_any(Bomb),
        4 => std::panic::panic_any(Owner(xero_tests::scene::runtime(1))),
        _ => 7,
    }
}

#[xero::worker]
impl Panics for Panicker {
    async fn task(&self, kind: u8) -> u32 {
        panic_with(kind)
    }

    async fn inline(&self, kind: u8) -> u32 {
        panic_with(kind)
    }

    async fn blocking(&self, kind: u8) -> u32 {
        panic_with(kind)
    }
}

#[test]
fn panic_with_any_payload_is_reported_with_its_text_if_any() {
    run(async {
        let client = client().await;
        let worker = Worker::connect(client.endpoint()).serve(Panicker).start().unwrap();
        joined(&client, &worker).await;
        let panics = PanicsClient::new(&client);
        let no_text = "a panic whose payload is not text";
        for (kind, text) in [(0, "a text"), (1, "a text of 1"), (2, no_text), (3, no_text), (4, no_text)] {
            for call in [panics.task(kind), panics.inline(kind), panics.blocking(kind)] {
                let error = call.await.unwrap_err();
                let CallError::Rpc(RpcError::Panicked { message, .. }) = &error else { panic!("{kind}: {error}") };
                assert_eq!(message, text, "{kind}");
            }
        }
        for call in [panics.task(9), panics.inline(9), panics.blocking(9)] {
            assert_eq!(call.await, Ok(7));
        }
        within(PATIENCE, worker.drain()).await;
    });
}

#[xero::service]
trait Throws {
    async fn task(&self) -> u32;
    #[xero(inline)]
    async fn inline(&self) -> u32;
    #[xero(blocking)]
    async fn blocking(&self) -> u32;
}

/// Panics with payloads that report the runtime in which they are dropped.
struct Thrower(mpsc::SyncSender<Option<Id>>);

struct Thrown(mpsc::SyncSender<Option<Id>>);

impl Drop for Thrown {
    fn drop(&mut self) {
        let _ = self.0.send(Handle::try_current().ok().map(|runtime| runtime.id()));
    }
}

#[xero::worker]
impl Throws for Thrower {
    async fn task(&self) -> u32 {
        std::panic::panic_any(Thrown(self.0.clone()))
    }
    async fn inline(&self) -> u32 {
        std::panic::panic_any(Thrown(self.0.clone()))
    }
    async fn blocking(&self) -> u32 {
        std::panic::panic_any(Thrown(self.0.clone()))
    }
}

#[test]
fn payload_of_a_panic_is_dropped_within_the_runtime_of_its_worker() {
    run(async {
        let (client, (sender, dropped)) = (client().await, mpsc::sync_channel(1));
        let worker = Worker::connect(client.endpoint()).serve(Thrower(sender)).start().unwrap();
        joined(&client, &worker).await;
        let throws = ThrowsClient::new(&client);
        for call in [throws.task(), throws.inline(), throws.blocking()] {
            assert!(matches!(call.await, Err(CallError::Rpc(RpcError::Panicked { .. }))));
            assert_eq!(dropped.recv_timeout(PATIENCE), Ok(Some(Handle::current().id())));
        }
        within(PATIENCE, worker.drain()).await;
    });
}

/// A waker that panics, like that of a dropped executor.
struct Faulty;

impl Wake for Faulty {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// Begins to wait with that waker; `None` when there is nothing to wait for.
fn begin<F: Future>(future: F) -> Option<Pin<Box<F>>> {
    let mut future = Box::pin(future);
    let poll = future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Faulty))));
    poll.is_pending().then_some(future)
}

#[test]
fn panicking_wakers_affect_no_other_wait() {
    run(async {
        let client = client().await;
        let early = begin(client.wait_for_worker(PATIENCE));
        let worker = Worker::connect(client.endpoint()).serve(xero_tests::scene::prober()).start().unwrap();
        let another = worker.clone();
        let connected = begin(another.wait_for_client(PATIENCE));
        joined(&client, &worker).await;
        let probe = ProbeClient::new(&client);
        let call = begin(probe.work("waker", 100).timeout(PATIENCE).start().into_future());
        let counters = (begin(client.counters()), begin(another.counters()));
        // It ends after the first one.
        assert!(probe.work("later", 200).timeout(PATIENCE).await.is_ok());
        assert!(within(PATIENCE, call.unwrap()).await.is_ok());
        // Tokio keeps waiters in several lists.
        let waiting = vec![worker.clone(); 64];
        let left: Vec<_> = waiting.iter().map(|worker| begin(worker.left())).collect();
        // In a task, which is polled again only when it is woken.
        within(PATIENCE, tokio::spawn(async move { worker.drain().await })).await.unwrap();
        let closed = begin(client.close());
        within(PATIENCE, client.close()).await;
        drop((early, connected, counters, left, closed));
    });
}
