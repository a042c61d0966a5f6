//! A call is a future: whatever takes futures takes calls.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{self, join_all, try_join_all},
    stream::FuturesUnordered,
};
use tokio::{task::JoinSet, time::timeout};
use xero::{Call, CallError, Never, RpcError};
use xero_tests::{
    scene::{PATIENCE, client, eventually, joined, noting, probe, run, worker},
    service::Journal,
};

#[test]
fn calls_are_joined_spawned_selected_and_timed_out_like_any_future() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let probe = probe(&client);
        let add = |number| probe.add(number, 1).timeout(PATIENCE);

        let joined = join_all((0..50).map(add)).await;
        assert_eq!(joined.into_iter().map(Result::unwrap).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
        let all: Result<Vec<_>, RpcError> = try_join_all((0..50).map(|number| add(number).map(ok))).await;
        assert_eq!(all.unwrap().len(), 50);

        let mut unordered: FuturesUnordered<_> = (0..50).map(add).collect();
        let mut sums = Vec::new();
        while let Some(sum) = unordered.next().await {
            sums.push(sum.unwrap());
        }
        sums.sort_unstable();
        assert_eq!(sums, (1..=50).collect::<Vec<_>>());

        let mut set = JoinSet::new();
        (0..50).for_each(|number| _ = set.spawn(add(number)));
        assert_eq!(set.join_all().await.len(), 50);
        assert_eq!(tokio::spawn(add(1)).await.unwrap(), Ok(2));

        tokio::select! {
            sum = add(2) => assert_eq!(sum, Ok(3)),
            () = future::pending() => unreachable!("it never ends"),
        }
        assert_eq!(timeout(PATIENCE, add(3)).await.unwrap(), Ok(4));
    });
}

fn ok<T>(outcome: Result<T, CallError<Never>>) -> Result<T, RpcError> {
    outcome.map_err(Into::into)
}

#[test]
fn call_is_sent_by_its_first_poll_and_cancelled_by_its_drop() {
    run(async {
        let (client, journal) = (client().await, Journal::new());
        let worker = xero::Worker::connect(client.endpoint()).serve(noting(&journal)).start().unwrap();
        joined(&client, &worker).await;
        let probe = probe(&client);
        let mut call = probe.work("polled", 60_000).timeout(PATIENCE);
        assert_eq!(worker.counters().await.requests, 0);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut call).poll(&mut cx).is_pending());
        eventually("it runs", async || journal.count("polled", "begin") == 1).await;
        // Settings come too late, and `start` sends it no second time.
        let mut pending = call.timeout(Duration::from_millis(1)).start();
        assert!(Pin::new(&mut pending).poll(&mut cx).is_pending());
        assert_eq!(probe.ping().timeout(PATIENCE).await.unwrap(), "pong");
        assert_eq!((worker.counters().await.requests, journal.count("polled", "begin")), (2, 1));
        drop(pending);
        eventually("it is cancelled", async || journal.count("polled", "dropped") == 1).await;

        let mut call = probe.work("dropped", 60_000).timeout(PATIENCE);
        assert!(Pin::new(&mut call).poll(&mut cx).is_pending());
        eventually("it runs", async || journal.count("dropped", "begin") == 1).await;
        drop(call);
        eventually("it is cancelled", async || journal.count("dropped", "dropped") == 1).await;
    });
}

#[test]
fn call_that_was_given_up_can_be_awaited_again() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let mut call = probe(&client).work("again", 300).timeout(PATIENCE);
        assert!(timeout(Duration::from_millis(10), &mut call).await.is_err());
        assert!(call.await.is_ok());
    });
}

#[test]
fn calls_and_pending_calls_are_send_unpin_and_static() {
    fn is_one<F: Future + Send + Unpin + 'static>(_: fn() -> F) {}
    // Also for values that are none of it: a call holds none.
    struct Bound(#[expect(dead_code, reason = "only its type counts")] std::rc::Rc<std::marker::PhantomPinned>);
    is_one::<Call<String, Never>>(|| unreachable!("only its type counts"));
    is_one::<Call<Bound, Bound>>(|| unreachable!("only its type counts"));
    is_one::<xero::PendingCall<Bound, Bound>>(|| unreachable!("only its type counts"));
}

#[test]
fn mistakes_are_outcomes_of_the_first_poll() {
    run(async {
        let client = client().await;
        let mut call = client.call("nonsense");
        let Poll::Ready(outcome) = Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing is sent")
        };
        assert!(matches!(outcome, Err(CallError::Rpc(RpcError::UnknownMethod { .. }))), "{outcome:?}");
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.now_or_never()));
        assert!(again.is_err(), "it has ended");
    });
}
