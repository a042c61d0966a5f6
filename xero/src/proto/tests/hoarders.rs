//! Peers that take what they can and acknowledge nothing: what they cost their side, and that they cost no other peer.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    bench::{Bench, Wire, request},
    node::offer,
    pair::{EXPIRY, INTERVAL, introduction, ms, partial_reply, start, value},
    windows::{COST, LARGE, ack, answer_all, finals, large},
};
use crate::proto::{
    hold::HoldLimits,
    message::{CallId, ErrorCode, Message, Peer, Ready, Role},
    worker::{Finish, Worker, WorkerConfig, WorkerOutput},
};

#[test]
fn clients_that_take_two_large_replies_each_leave_room_for_the_next_one() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 0;
        config.hold_limits = HoldLimits { peer_bytes_max: 64_000, total_bytes_max: 768_000 };
    });
    let workers = [(); 5].map(|()| bench.worker_with(|ready| ready.services = vec![offer("Fill", &["fill"])]));
    let worker = bench.worker_with(|ready| ready.window_bytes = 0);
    for _ in 0..7 {
        let deaf = bench.client();
        (1..=2).for_each(|call| bench.request_with(deaf, call, "fill", |request| request.service = "Fill".into()));
        workers.iter().for_each(|worker| answer_all(&mut bench, *worker, 32_000));
        let innocent = bench.client();
        bench.request(innocent, 1, "ping");
        answer_all(&mut bench, worker, 1_000);
        assert_eq!(finals(&mut bench, innocent), [1]);
        bench.run(INTERVAL);
        assert!(last_ack(&mut bench, worker) > 0, "what is left is enough for its reply");
        bench.send_as(innocent, Message::Ack(u64::MAX));
    }
}

#[test]
fn errors_that_nobody_acknowledges_cost_no_more_than_a_limit_and_end_the_connection() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 0;
        config.hold_limits = HoldLimits { peer_bytes_max: 20_000, total_bytes_max: 180_000 };
    });
    let worker = bench.worker_with(|ready| ready.window_bytes = 0);
    let deaf = [bench.client(), bench.client()];
    for client in deaf {
        (1..=500).for_each(|call| bench.request_with(client, call, "ping", |request| request.service = "None".into()));
    }
    assert!(bench.broker.held_bytes() > 60_000, "{}", bench.broker.held_bytes());
    let innocent = bench.client();
    let mut acknowledged = 0;
    for call in 1..=60 {
        bench.request(innocent, call, "hold");
        answer_all(&mut bench, worker, LARGE);
        assert_eq!(finals(&mut bench, innocent), [call]);
        bench.run(INTERVAL);
        let taken = last_ack(&mut bench, worker);
        assert!(taken > acknowledged, "the reply to call {call} is acknowledged before its client has read it");
        acknowledged = taken;
        bench.send_as(innocent, Message::Ack(u64::MAX));
        bench.send_as(worker, Message::Heartbeat);
    }
    assert_eq!(deaf.map(|client| bench.is_gone(client)), [true, true]);
    assert!(!bench.is_gone(innocent));
}

#[test]
fn honest_clients_whose_replies_fill_all_memory_are_refused_nothing() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 20_000;
        config.hold_limits = HoldLimits { peer_bytes_max: 64_000, total_bytes_max: 300_000 };
    });
    let workers = [(); 20].map(|()| bench.worker());
    let clients: Vec<_> = (0..40).map(|_| bench.client()).collect();
    for client in &clients {
        bench.request(*client, 1, "hold");
        workers.iter().for_each(|worker| answer_all(&mut bench, *worker, LARGE));
        assert_eq!(finals(&mut bench, *client), [1]);
    }
    clients.iter().for_each(|client| bench.send_as(*client, Message::Ack(u64::MAX)));
    assert_eq!(bench.broker.held_bytes(), 0);
}

#[test]
fn small_requests_within_a_share_are_taken_whatever_requests_others_have() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 0;
        config.hold_limits.total_bytes_max = 3 << 20;
    });
    bench.worker_with(|ready| ready.credits = 1_000);
    let greedy = [(); 12].map(|()| bench.client());
    for size in [400_000, 100_000, 20_000, 5_000, 1_000, 300, 80, 20, 5] {
        for client in greedy {
            (0..10).for_each(|call| {
                bench.request_with(client, size + call, "hold", |request| {
                    request.payload = value(&"x".repeat(size as usize));
                });
            });
        }
    }
    assert!(greedy.iter().any(|client| !bench.errors(*client).is_empty()), "there is no room for all");
    for call in 1..=10 {
        let innocent = bench.client();
        bench.request(innocent, call, "hold");
        assert_eq!(bench.errors(innocent), []);
    }
}

#[test]
fn broker_starts_nothing_for_a_client_that_is_behind_until_it_reads() {
    let mut bench = Bench::with(|config| config.hold_limits.peer_bytes_max = 8_000);
    let worker = bench.worker_with(|ready| ready.credits = 100);
    let client = deaf_beyond_its_limit(&mut bench, worker);
    (4..=6).for_each(|call| bench.request(client, call, "hold"));
    bench.request_with(client, 7, "hold", |request| request.fail_fast = true);
    assert_eq!((bench.requests(worker).len(), bench.errors(client)), (0, vec![(7, ErrorCode::Overloaded, false)]));
    let other = bench.client();
    bench.request(other, 1, "ping");
    answer_all(&mut bench, worker, 3);
    assert_eq!(finals(&mut bench, other), [1]);
    // One is cancelled, and the deadline of another passes.
    bench.send_as(client, Message::Cancel(CallId(4)));
    bench.request_with(client, 8, "hold", |request| request.remaining = INTERVAL / 2);
    bench.run(INTERVAL);
    let errors = [(4, ErrorCode::Cancelled, false), (8, ErrorCode::DeadlineExceeded, false)];
    assert_eq!(bench.errors(client), errors);
    bench.send_as(client, Message::Ack(u64::MAX));
    assert_eq!((finals(&mut bench, client), bench.requests(worker).len()), (vec![2], 0), "one is still held back");
    bench.send_as(client, Message::Ack(u64::MAX));
    assert_eq!((finals(&mut bench, client), bench.requests(worker).len()), (vec![3], 2));
    assert_eq!(bench.broker.open_calls(), 2);
}

#[test]
fn waiting_calls_of_a_client_that_is_behind_step_out_of_line_and_keep_their_place() {
    let mut bench = Bench::with(|config| {
        config.hold_limits.peer_bytes_max = 30_000;
        config.dispatcher.waiting_max = 6;
    });
    let worker = bench.worker_with(|ready| ready.credits = 3);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=9).for_each(|call| bench.request(client, call, "hold"));
    let started: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    // One leaves, two are held back: more than a quarter of the limit.
    started.iter().for_each(|id| bench.reply(worker, *id, &large()));
    // Each credit went on before its reply was held back. The next ones are for others.
    let before: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    before.iter().for_each(|id| bench.reply(worker, *id, "done"));
    assert_eq!((before.len(), bench.requests(worker).len()), (3, 0));
    let other = bench.client();
    (1..=6).for_each(|call| bench.request(other, call, "hold"));
    let [mut answered, mut rounds] = [0; 2];
    while answered < 6 && rounds < 10 {
        let requests = bench.requests(worker);
        requests.iter().for_each(|request| bench.reply(worker, request.call, "done"));
        answered += finals(&mut bench, other).len();
        rounds += 1;
    }
    assert_eq!((answered, bench.errors(other)), (6, vec![]));
    // Others have filled the line meanwhile, and those that stood there go back to their places all the same.
    (7..=15).for_each(|call| bench.request(other, call, "hold"));
    assert_eq!(bench.errors(other), []);
    let mut finished = Vec::new();
    for round in 0..20 {
        bench.send_as(client, Message::Ack(u64::MAX));
        finished.extend(finals(&mut bench, client));
        // The third reply leaves before the line moves on.
        if round < 3 {
            continue;
        }
        answer_all(&mut bench, worker, 3);
        finished.extend(finals(&mut bench, client));
    }
    assert_eq!(finished.iter().copied().collect::<BTreeSet<_>>(), (1..=9).collect(), "{:?}", bench.errors(client));
    assert_eq!(finals(&mut bench, other).len(), 9);
    let place = |call| finished.iter().position(|other| *other == call);
    assert!((6..9).all(|call| place(call) < place(call + 1)), "{finished:?}");
}

#[test]
fn nobody_waits_longer_than_an_expiry_for_a_client_that_reads_nothing() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 45_000;
        config.hold_limits.peer_bytes_max = 20_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 20);
    let [deaf, other] = [1, 0].map(|window| bench.client_with(|ready| ready.window_bytes = window));
    (1..=20).for_each(|call| bench.request_with(deaf, call, "hold", |request| request.remaining = 10 * EXPIRY));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    ids[..8].iter().for_each(|id| bench.reply(worker, *id, &large()));
    let waiting = 8 * COST - last_ack(&mut bench, worker);
    assert!(waiting > 20_000, "the worker waits for room: {waiting}");
    bench.request(other, 1, "hold");
    let request = bench.request_id(worker);
    for _ in 0..EXPIRY.div_duration_f64(INTERVAL) as u32 {
        bench.run(INTERVAL);
        [worker, deaf, other].into_iter().for_each(|wire| bench.send_as(wire, Message::Heartbeat));
    }
    bench.run(INTERVAL / 4);
    let taken = last_ack(&mut bench, worker);
    assert!(taken >= 8 * COST, "everything is acknowledged: {taken}");
    ids[8..19].iter().for_each(|id| bench.reply(worker, *id, &large()));
    bench.send_as(worker, partial_reply(ids[19], 0, "one"));
    bench.reply(worker, request, &large());
    assert_eq!(finals(&mut bench, other), [1]);
    assert!(last_ack(&mut bench, worker) > taken + 10 * COST, "the next ones, too");
    let errors = bench.errors(deaf);
    let too_large = (9..=19).map(|call| (call, ErrorCode::TooLarge, true));
    assert_eq!(errors, too_large.chain([(20, ErrorCode::Unread, true)]).collect::<Vec<_>>());
    assert!(!bench.is_gone(deaf), "it may still read what is kept");
    // Once it has read, its calls have their replies as before.
    (1..=10).for_each(|_| bench.send_as(deaf, Message::Ack(u64::MAX)));
    assert_eq!(finals(&mut bench, deaf), [2, 3, 4, 5, 6, 7, 8], "the first one has left at once");
    bench.request(deaf, 21, "hold");
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, deaf), [21]);
}

#[test]
fn calls_that_have_not_started_return_when_the_broker_drains_and_end_with_their_client() {
    for drains in [true, false] {
        let mut bench = Bench::with(|config| config.hold_limits.peer_bytes_max = 8_000);
        let worker = bench.worker_with(|ready| ready.credits = 100);
        let client = deaf_beyond_its_limit(&mut bench, worker);
        (4..=5).for_each(|call| bench.request(client, call, "hold"));
        assert_eq!(bench.broker.open_calls(), 2);
        if drains {
            bench.drain();
            assert_eq!(bench.errors(client), [4, 5].map(|call| (call, ErrorCode::Refused, false)));
        } else {
            bench.drop_wire(client);
        }
        assert_eq!((bench.requests(worker).len(), bench.broker.open_calls()), (0, 0));
    }
}

#[test]
fn large_replies_to_a_hoarder_become_errors_once_all_memory_is_taken() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 0;
        config.hold_limits = HoldLimits { peer_bytes_max: 8_000, total_bytes_max: 120_000 };
    });
    let worker = bench.worker_with(|ready| ready.credits = 100);
    let [deaf, other] = [(); 2].map(|()| bench.client_with(|ready| ready.window_bytes = 1));
    (1..=30).for_each(|call| bench.request_with(deaf, call, "hold", |request| request.remaining = 10 * EXPIRY));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    ids[..10].iter().for_each(|id| bench.reply(worker, *id, &large()));
    assert_eq!((finals(&mut bench, deaf), bench.errors(deaf)), (vec![1], vec![]), "it may still read");
    bench.run(2 * EXPIRY);
    let held = bench.broker.held_bytes();
    ids[10..20].iter().for_each(|id| bench.reply(worker, *id, &large()));
    bench.send_as(worker, partial_reply(ids[20], 0, "one more"));
    let codes: Vec<_> = bench.errors(deaf).into_iter().map(|(_, code, executed)| (code, executed)).collect();
    assert_eq!(codes[..10], [(ErrorCode::TooLarge, true); 10]);
    assert_eq!(codes[10..], [(ErrorCode::Unread, true)]);
    assert!(bench.broker.held_bytes() < held + 11 * 400, "{held} and then {}", bench.broker.held_bytes());
    bench.request(other, 1, "hold");
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, other), [1], "no other client pays");
}

#[test]
fn dispatcher_that_takes_no_replies_costs_no_other_one_a_call_and_is_dropped_in_the_end() {
    let mut now = start();
    let mut worker = worker(now, HoldLimits { peer_bytes_max: 20_000, total_bytes_max: 180_000 }, &[1, 0]);
    let started = ask(&mut worker, now, Peer(0), 1..=64);
    let reply = |worker: &mut Worker, now, execution| worker.finish(now, execution, Finish::Reply(value(&large())));
    started[..32].iter().for_each(|execution| reply(&mut worker, now, *execution));
    let held = worker.held_bytes();
    assert!(held > 60_000, "{held} bytes");
    let (mut refused, mut gone_at) = (0, None);
    for second in 1..=600 {
        now += ms(1_000);
        worker.handle_timeout(now);
        (0..2).for_each(|peer| worker.handle_message(now, Peer(peer), Message::Heartbeat));
        if second == 10 {
            started[32..].iter().for_each(|execution| reply(&mut worker, now, *execution));
            assert!(worker.held_bytes() < held + 32 * 400, "its further replies are errors");
        }
        while let Some(output) = worker.poll_output() {
            if output == WorkerOutput::Hangup(Peer(0)) {
                gone_at.get_or_insert(second);
            }
        }
        for execution in ask(&mut worker, now, Peer(1), 1_000 + second..=1_000 + second) {
            worker.finish(now, execution, Finish::Reply(value("pong")));
        }
        let sent = transmits(&mut worker);
        refused += sent.iter().filter(|(to, message)| *to == Peer(1) && matches!(message, Message::Error(_))).count();
        worker.handle_message(now, Peer(1), Message::Ack(u64::MAX));
    }
    assert_eq!(refused, 0);
    // A broker may wait for one of its own clients, which takes 110 s at most: it gets three times as long.
    assert!(gone_at.is_some_and(|second| (300..=345).contains(&second)), "{gone_at:?}");
}

#[test]
fn acknowledgement_that_comes_again_puts_nothing_off() {
    for is_repeated in [false, true] {
        let mut bench = Bench::with(|config| {
            config.dispatcher.window_bytes = 60_000;
            config.hold_limits.peer_bytes_max = 20_000;
        });
        let worker = bench.worker_with(|ready| ready.credits = 100);
        let client = bench.client_with(|ready| ready.window_bytes = 1);
        (1..=11).for_each(|call| bench.request(client, call, "hold"));
        answer_all(&mut bench, worker, LARGE);
        bench.run(29 * INTERVAL);
        bench.send_as(client, Message::Ack(COST));
        for second in 0..29 {
            bench.run(INTERVAL);
            bench.send_as(worker, Message::Heartbeat);
            if is_repeated {
                bench.send_as(client, Message::Ack(COST));
            }
            assert!(!bench.is_gone(client), "after {second} s");
        }
        bench.run(2 * INTERVAL);
        assert!(bench.is_gone(client), "repeated: {is_repeated}");
    }
}

#[test]
fn full_window_gives_an_acknowledgement_for_each_quarter_that_small_messages_release() {
    let mut bench = Bench::with(|config| config.dispatcher.window_bytes = 10_000);
    bench.worker_with(|ready| ready.credits = 1);
    let client = bench.client();
    bench.request(client, 1, "hold");
    // It waits for a credit, so it fills the window.
    bench.request_with(client, 2, "hold", |request| request.payload = value(&"x".repeat(20_000)));
    bench.take(client);
    (0..1_000).for_each(|_| bench.request(client, 2, "hold"));
    let acks = bench.take(client).iter().filter_map(ack).count();
    assert!((1..=60).contains(&acks), "{acks} acknowledgements of a thousand repeated requests");
}

/// A client with one reply on its way and two held back, which are more than 8,000 bytes.
fn deaf_beyond_its_limit(bench: &mut Bench, worker: Wire) -> Wire {
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    answer_all(bench, worker, LARGE);
    assert_eq!(finals(bench, client), [1]);
    client
}

/// The highest acknowledgement among the messages sent to a peer.
fn last_ack(bench: &mut Bench, wire: Wire) -> u64 {
    bench.take(wire).iter().filter_map(ack).max().unwrap_or(0)
}

/// A worker with these limits, and dispatchers with these windows.
pub(super) fn worker(now: Instant, hold_limits: HoldLimits, windows: &[u64]) -> Worker {
    let config = WorkerConfig {
        incarnation: introduction().incarnation,
        seed: 1,
        heartbeats: Default::default(),
        backoff: Default::default(),
        limits: Default::default(),
        credits: 64,
        window_bytes: 0,
        hold_limits,
        drain_timeout: Duration::from_secs(30),
        services: vec![offer("Demo", &["hold"])],
        signatures: vec![],
    };
    let mut worker = Worker::new(now, config, windows.len() as u64);
    for (peer, window_bytes) in (0..).zip(windows.iter().copied()) {
        worker.handle_dialed(now, Peer(peer));
        let ready = Ready { role: Role::Dispatcher, interval: INTERVAL, window_bytes, ..introduction() };
        worker.handle_message(now, Peer(peer), Message::Ready(Ready { services: Vec::new(), ..ready }));
    }
    transmits(&mut worker);
    worker
}

/// Sends requests to a worker; returns those that it starts.
pub(super) fn ask(
    worker: &mut Worker,
    now: Instant,
    from: Peer,
    calls: std::ops::RangeInclusive<u64>,
) -> Vec<crate::proto::timer::Execution> {
    calls.for_each(|call| worker.handle_message(now, from, Message::Request(request(call, "hold"))));
    let execution = |output| match output {
        WorkerOutput::Start(start) => Some(start.execution),
        _ => None,
    };
    std::iter::from_fn(|| worker.poll_output()).filter_map(execution).collect()
}

pub(super) fn transmits(worker: &mut Worker) -> Vec<(Peer, Message)> {
    let transmits: Vec<_> = std::iter::from_fn(|| worker.poll_transmit()).collect();
    transmits.into_iter().flat_map(|it| it.messages.into_iter().map(move |message| (it.to, message))).collect()
}
