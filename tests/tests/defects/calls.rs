//! Defects of calls: replies that are misdirected, late or missing.

use std::{thread, time::Duration};

use tokio::task::JoinSet;
use xero::{CallError, Codec, RpcError, Worker};
use xero_tests::{
    probe,
    process::UNNOTICED,
    raw,
    scene::{
        LONG, PATIENCE, beating, bind, client, eventually, has_workers, joined, noting, probe, run, timed, worker,
    },
    service::{Journal, Mistake, Moment},
};

#[test]
fn d01_slow_call_gets_its_own_reply_and_so_do_the_calls_made_meanwhile() {
    run(async {
        let client = client().await;
        let worker = worker(&client).await;
        let probe = probe(&client);
        let slow = probe.work("slow", 300).start();
        for number in 0..20 {
            assert_eq!(probe.ping().await.unwrap(), "pong");
            assert_eq!(probe.add(number, 1).await.unwrap(), number + 1);
        }
        assert_eq!(slow.await.unwrap().worker, worker.id());
        assert_eq!(probe.ping().await.unwrap(), "pong");
    });
}

#[test]
fn d02_calls_from_several_threads_each_get_their_own_reply() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let probe = probe(&client);
        let runtime = tokio::runtime::Handle::current();
        let threads = (0..4_i64).map(|thread| {
            let (probe, runtime) = (probe.clone(), runtime.clone());
            thread::spawn(move || {
                let wrong = |number: &i64| {
                    let sum = runtime.block_on(probe.add(1000 * thread, *number).into_future());
                    sum.unwrap() != 1000 * thread + *number
                };
                (0..200).filter(wrong).count()
            })
        });
        let threads: Vec<_> = threads.collect();
        let wrong =
            tokio::task::spawn_blocking(|| threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>());
        assert_eq!(wrong.await.unwrap(), 0);
    });
}

#[test]
fn d03_unsolicited_reply_answers_no_call() {
    run(async {
        let client = client().await;
        let mut worker = raw::worker(client.endpoint(), raw::ready()).await;
        let probe = probe(&client);

        let first = probe.ping().start();
        let id = worker.receive_request().await.call;
        // The ids of the calls before and after this one.
        for stray in [id.0 - 1, id.0 + 1] {
            worker.send(&raw::final_reply(xero::CallId(stray), raw::text("stray"))).await;
            worker.send(&raw::partial_reply(xero::CallId(stray), 0, raw::text("stray"))).await;
        }
        worker.send(&raw::final_reply(id, raw::text("first"))).await;
        assert_eq!(first.await.unwrap(), "first");

        let second = probe.ping().start();
        let next = worker.receive_request().await.call;
        assert_eq!(next.0, id.0 + 1);
        worker.send(&raw::final_reply(id, raw::text("first, again"))).await;
        worker.send(&raw::final_reply(next, raw::text("second"))).await;
        assert_eq!(second.await.unwrap(), "second");
        assert_eq!(client.counters().await.unsolicited_replies, 5);
    });
}

#[test]
fn d06_call_ends_when_its_worker_dies_and_not_at_its_deadline() {
    run(async {
        let client = bind(beating(LONG)).await;
        let journal = Journal::new();
        let path = journal.path().to_string_lossy();
        let mut process = probe!("worker", client.endpoint(), "--interval", "20000", "--journal", path);
        has_workers(&client, 1).await;
        let call = probe(&client).work("doomed", 60_000).timeout(2 * PATIENCE).start();
        eventually("the procedure runs", async || journal.count("doomed", "begin") == 1).await;

        process.kill();
        let (outcome, time) = timed(call).await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, CallError::Rpc(RpcError::WorkerLost { attempts: 1, maybe_executed: true, .. })),
            "{error}"
        );
        assert!(!error.is_retryable() && error.is_transient());
        assert!(time < UNNOTICED, "noticed after {time:?}");
    });
}

#[test]
fn d07_call_that_times_out_leaves_its_worker_registered() {
    run(async {
        let client = client().await;
        let worker = worker(&client).await;
        let before = client.workers();
        let probe = probe(&client);
        for _ in 0..3 {
            let error = probe.work("long", 60_000).timeout(Duration::from_millis(100)).await.unwrap_err();
            assert!(
                matches!(error, CallError::Rpc(RpcError::DeadlineExceeded { maybe_executed: true, .. })),
                "{error}"
            );
            assert_eq!(client.workers(), before);
            assert_eq!(probe.ping().await.unwrap(), "pong");
        }
        assert_eq!(worker.counters().await.redials, 0);
    });
}

#[test]
fn d09_procedure_that_outlasts_the_lease_keeps_its_worker_and_its_reply() {
    run(async {
        let interval = Duration::from_millis(50);
        let client = bind(beating(interval).liveness(5)).await;
        let worker = Worker::connect(client.endpoint()).heartbeat_interval(interval).liveness(5);
        let worker = xero_tests::scene::start(&client, worker).await;
        // Ten times the silence after which a worker is declared dead.
        assert_eq!(probe(&client).block("long", 2500).timeout(PATIENCE).await.unwrap(), 2500);
        assert_eq!(client.counters().await.expired_leases, 0);
        assert_eq!(worker.counters().await.redials, 0);
    });
}

#[test]
fn d16_value_that_cannot_be_read_is_an_error_at_once() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let timeout = 2 * PATIENCE;

        let dynamic = client.call("Probe.add").arguments(&("one", [2_u8; 3])).timeout(timeout);
        let (outcome, time) = timed(dynamic).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, CallError::Rpc(RpcError::InvalidArguments { .. })), "{error}");
        assert!(!error.maybe_executed());
        assert!(time < UNNOTICED, "reported after {time:?}");

        let (outcome, time) = timed(probe(&client).unencodable().timeout(timeout)).await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, CallError::Rpc(RpcError::InvalidReply { reason, .. }) if reason.contains("made so")),
            "{error}"
        );
        assert!(error.maybe_executed());
        assert!(time < UNNOTICED, "reported after {time:?}");
        assert_eq!(probe(&client).ping().await.unwrap(), "pong");
    });
}

#[test]
fn d17_errors_keep_their_type_their_time_zones_and_their_causes() {
    run(async {
        let client = client().await;
        let _worker = worker(&client).await;
        let moment = Moment { seconds: -1, nanos: 5, offset: -330, zone: Some("Pacific/Marquesas".to_owned()) };
        let caused = Mistake::Caused { by: Box::new(Mistake::Late(moment.clone())), at: "the harbour".to_owned() };
        for codec in Codec::ALL {
            let probe = probe(&client).with_codec(codec);
            for mistake in [Mistake::Late(moment.clone()), caused.clone(), Mistake::Plain] {
                let raised = probe.fail(mistake.clone(), true).await;
                assert_eq!(raised, Err(CallError::Application(mistake.clone())), "{codec}");
                // The same value as a result is not an error.
                assert_eq!(probe.fail(mistake.clone(), false).await, Ok(mistake), "{codec}");
            }
        }
    });
}

#[test]
fn d18_slow_calls_leave_no_threads_and_their_worker_stops_on_request() {
    run(async {
        let client = client().await;
        let mut process = probe!("worker", client.endpoint());
        has_workers(&client, 1).await;
        let slow_calls = async || {
            let mut calls = JoinSet::new();
            for _ in 0..30 {
                calls.spawn(probe(&client).work("slow", 50).timeout(PATIENCE).into_future());
            }
            calls.join_all().await.into_iter().for_each(|outcome| assert_eq!(outcome.unwrap().attempt, 1));
        };
        slow_calls().await;
        let before = process.threads();
        for _ in 0..5 {
            slow_calls().await;
        }
        assert!(process.threads() <= before, "{before} threads have become {}", process.threads());
        process.terminate();
        assert!(process.ended().await.success());
        assert_eq!(process.count("left"), 1);
    });
}

#[test]
fn d21_arguments_are_values_and_never_code() {
    run(async {
        let client = client().await;
        let worker = worker(&client).await;
        for code in ["__import__('os').getpid()", "[1] * 3", "${HOME} `id`", "\"; DROP TABLE calls; --"] {
            let reply = client.call("Probe.echo").arguments(&(code,)).await.unwrap();
            assert_eq!(reply.decode::<String>().unwrap(), code);
        }
        // A time limit is never absent either: a call without an answer ends, and so does a wait for a worker.
        let error = client.call("Probe.hurried").arguments(&(60_000,)).timeout(Duration::from_millis(50)).await;
        assert!(matches!(error, Err(CallError::Rpc(RpcError::DeadlineExceeded { .. }))), "{error:?}");
        worker.drain().await;
        has_workers(&client, 0).await;
        client.wait_for_worker(Duration::from_millis(50)).await.unwrap_err();
        let error = client.call("Probe.ping").timeout(Duration::from_millis(50)).await;
        assert!(matches!(error, Err(CallError::Rpc(RpcError::NoWorker { .. }))), "{error:?}");
    });
}

#[test]
fn d22_every_hook_is_called() {
    run(async {
        let client = client().await;
        let journal = Journal::new();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = Worker::connect(client.endpoint()).serve(noting(&journal));
        let worker = worker.drain_on(async move { drop(stopped.await) }).start().unwrap();
        assert!(worker.wait_for_client(PATIENCE).await);
        joined(&client, &worker).await;
        let probe = probe(&client);

        let mut call = probe.progress(3).start();
        let mut steps = Vec::new();
        while let Some(step) = call.partial().await {
            steps.push(step.decode::<u32>().unwrap());
        }
        assert_eq!((steps, call.await.unwrap()), (vec![0, 1, 2], 3));

        let seen = probe.context().metadata("traceparent", "00-ab-cd-01").await.unwrap();
        assert_eq!(seen.metadata["traceparent"], b"00-ab-cd-01");

        drop(probe.block_until_unwanted("unwanted").timeout(PATIENCE).start());
        eventually("the procedure of a dropped call is cancelled", async || {
            journal.count("unwanted", "begin") == journal.count("unwanted", "end")
        })
        .await;

        stop.send(()).unwrap();
        xero_tests::scene::within(PATIENCE, worker.left()).await;
        has_workers(&client, 0).await;
    });
}
