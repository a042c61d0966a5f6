//! Many workers, many tasks, many concurrent calls; every reply reaches its own call.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use xero::{CallError, Client, Codec, RpcError, Worker, proto::message::Payload};
use xero_tests::{
    probe,
    process::Process,
    raw,
    scene::{
        LONG, PATIENCE, beating, bind, client, eventually, has_workers, joined, probe, prober, run, start, within,
        worker,
    },
    service::Journal,
};

#[test]
fn every_reply_of_many_calls_over_many_workers_reaches_its_call() {
    run(async {
        let client = client().await;
        let mut workers = Vec::new();
        for _ in 0..6 {
            workers.push(start(&client, Worker::connect(client.endpoint()).concurrency(8)).await);
        }
        let mut tasks = JoinSet::new();
        for task in 0..24_i64 {
            let probe = probe(&client.clone());
            tasks.spawn(async move {
                for number in 0..40 {
                    let text = format!("{task}/{number}").repeat(1 + usize::try_from(number).unwrap() % 50);
                    let (sum, echo, last) = tokio::join!(
                        probe.add(task * 1000, number).timeout(PATIENCE).into_future(),
                        probe.echo(&text).timeout(PATIENCE).into_future(),
                        probe.progress(3).timeout(PATIENCE).into_future(),
                    );
                    assert_eq!((sum.unwrap(), echo.unwrap(), last.unwrap()), (task * 1000 + number, text, 3));
                }
            });
        }
        within(PATIENCE, tasks.join_all()).await;
        let mut served = 0;
        for worker in &workers {
            let requests = worker.counters().await.requests;
            assert!(requests > 0, "a worker was never asked");
            served += requests;
        }
        assert_eq!(served, 24 * 40 * 3);
        let counters = client.counters().await;
        assert_eq!((counters.retries, counters.unsolicited_replies, counters.late_replies), (0, 0, 0));
    });
}

#[test]
fn calls_are_spread_over_the_workers_least_recently_used_first() {
    run(async {
        let client = client().await;
        for _ in 0..4 {
            start(&client, Worker::connect(client.endpoint())).await;
        }
        let mut served = BTreeMap::new();
        for _ in 0..40 {
            *served.entry(probe(&client).whoami().await.unwrap().worker).or_insert(0) += 1;
        }
        assert_eq!(served.into_values().collect::<Vec<_>>(), [10; 4]);
    });
}

#[test]
fn signatures_bar_no_worker_from_calls_in_self_describing_codecs() {
    run(async {
        let client = client().await;
        let ours = worker(&client).await;
        let mut others = Vec::new();
        for fingerprint in [1, 2] {
            let mut ready = raw::ready();
            ready.services[0].methods.iter_mut().for_each(|method| method.fingerprint = fingerprint);
            others.push(raw::worker(client.endpoint(), ready).await);
        }
        let pong = Payload { codec: Codec::MessagePack, bytes: b"\xa4pong".to_vec().into() };
        for (codec, pong) in [(Codec::MessagePack, pong), (Codec::Json, raw::json(r#""pong""#))] {
            let probe = probe(&client).with_codec(codec);
            let calls: Vec<_> = (0..3).map(|_| probe.ping().timeout(PATIENCE).start()).collect();
            for other in &mut others {
                let request = other.receive_request().await;
                assert_eq!((request.fingerprint, request.payload.codec), (0, codec));
                other.send(&raw::final_reply(request.call, pong.clone())).await;
            }
            for call in calls {
                assert_eq!(call.await.unwrap(), "pong");
            }
        }
        // bincode would be misread there.
        for _ in 0..6 {
            assert_eq!(probe(&client).work("here", 0).await.unwrap().worker, ours.id());
        }
    });
}

#[test]
fn workers_run_no_more_calls_than_their_credits_and_the_rest_waits() {
    run(async {
        let client = client().await;
        for _ in 0..2 {
            start(&client, Worker::connect(client.endpoint()).concurrency(2)).await;
        }
        let mut calls = JoinSet::new();
        for number in 0..40 {
            calls.spawn(probe(&client).add(number, 0).timeout(PATIENCE).into_future());
        }
        let replies = within(PATIENCE, calls.join_all()).await;
        let mut replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
        replies.sort_unstable();
        assert_eq!(replies, (0..40).collect::<Vec<_>>());
        assert!(client.workers().iter().all(|worker| worker.credits == 2));
    });
}

#[test]
fn several_clients_that_share_a_worker_at_its_limit_are_all_served() {
    run(async {
        let clients = [client().await, client().await, client().await];
        let worker = Worker::connect(clients[0].endpoint()).connect(clients[1].endpoint());
        let worker = worker.connect(clients[2].endpoint()).concurrency(1).serve(prober()).start().unwrap();
        let mut calls = JoinSet::new();
        for client in &clients {
            joined(client, &worker).await;
            for _ in 0..10 {
                calls.spawn(probe(client).work("one by one", 5).timeout(PATIENCE).into_future());
            }
        }
        for outcome in within(PATIENCE, calls.join_all()).await {
            assert_eq!(outcome.unwrap().worker, worker.id());
        }
    });
}

#[test]
fn killing_workers_costs_no_idempotent_call_and_runs_no_other_twice() {
    run(async {
        let client = bind(beating(LONG)).await;
        let journal = Journal::new();
        let path = journal.path().to_string_lossy().into_owned();
        let start = || probe!("worker", client.endpoint(), "--interval", "20000", "--journal", path);
        let mut workers: Vec<Process> = (0..3).map(|_| start()).collect();
        has_workers(&client, 3).await;

        let mut callers = JoinSet::new();
        for caller in 0..6 {
            callers.spawn(call_until_over(client.clone(), caller));
        }
        for round in 0..6 {
            // Kills that come faster than a call ends would exhaust the call's retries.
            let ended = journal.count("again", "end");
            eventually("calls end", async || journal.count("again", "end") > ended + 20).await;
            workers[round % 3].kill();
            workers[round % 3] = start();
            let id = workers[round % 3].line("started ").await;
            eventually("its successor is there", async || client.workers().iter().any(|w| w.id.to_string() == id))
                .await;
        }
        let lost: usize = within(2 * PATIENCE, callers.join_all()).await.into_iter().sum();
        for caller in 0..6 {
            for number in 0..CALLS {
                assert!(journal.count(&format!("{caller}/{number}"), "begin") <= 1, "a call has run twice");
            }
        }
        // Each kill cost something: with six constant callers, some call was always in flight.
        assert!(lost > 0 && client.counters().await.retries > 0);
    });
}

/// The calls of each caller in the test above.
const CALLS: u32 = 60;

/// Calls methods of both kinds; returns the number that were lost with their worker, which only non-idempotent ones may
/// be.
async fn call_until_over(client: Client, caller: u32) -> usize {
    let probe = probe(&client);
    let mut lost = 0;
    for number in 0..CALLS {
        let key = format!("{caller}/{number}");
        let (once, again) = tokio::join!(
            probe.work(&key, 10).timeout(PATIENCE).into_future(),
            probe.work_again("again", 10).timeout(PATIENCE).into_future(),
        );
        again.expect("an idempotent call outlives its worker");
        match once {
            // A request that had not left when its worker was killed goes to another.
            Ok(_) => {}
            Err(CallError::Rpc(RpcError::WorkerLost { maybe_executed: true, .. })) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    lost
}

#[test]
fn client_that_is_closed_under_load_ends_every_call() {
    run(async {
        let client = client().await;
        let worker = start(&client, Worker::connect(client.endpoint()).concurrency(4)).await;
        let mut calls = JoinSet::new();
        for _ in 0..200 {
            calls.spawn(probe(&client).work("long", 60_000).timeout(2 * PATIENCE).into_future());
        }
        eventually("some run and the rest waits", async || worker.counters().await.requests == 4).await;
        client.close().await;
        for outcome in within(PATIENCE, calls.join_all()).await {
            assert!(matches!(outcome, Err(CallError::Rpc(RpcError::Closed { .. }))), "{outcome:?}");
        }
    });
}
