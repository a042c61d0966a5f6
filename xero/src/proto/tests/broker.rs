//! A broker and its clients: introductions, leases, requests in, replies out.

use super::{
    bench::{Bench, Wire, request},
    node::METHODS,
    pair::{EXPIRY, INTERVAL, TICK, final_reply, introduction, ms, partial_reply, value},
};
use crate::proto::{
    broker::{BrokerOutput, Door},
    dispatch::Departure,
    frame,
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, Peer, Ready, Request, Role},
    retry::BackoffConfig,
};

#[test]
fn call_has_the_brokers_id_at_the_worker_and_the_clients_id_in_the_reply() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    let [Message::Ready(ready)] = &bench.take(client)[..] else { panic!("not an introduction") };
    assert_eq!((ready.role, ready.credits), (Role::Dispatcher, 1024));
    assert_eq!((ready.services.len(), ready.services[0].methods.len()), (1, METHODS.len()));
    bench.request_with(client, 7, "echo", |request| {
        request.metadata.insert("traceparent".to_owned(), "00-1".into());
        request.payload = value("seven");
    });
    let [sent] = &bench.requests(worker)[..] else { panic!("not one request") };
    assert_eq!((&*sent.method, &sent.payload, sent.metadata.len()), ("echo", &value("seven"), 1));
    assert!((sent.attempt, sent.idempotent, sent.remaining) == (1, false, ms(5_000)) && sent.call != CallId(7));
    let id = sent.call;
    bench.send_as(worker, partial_reply(id, 0, "half"));
    bench.send_as(worker, Message::Final(FinalReply { call: id, partials: 1, payload: value("done") }));
    let reply = Message::Final(FinalReply { call: CallId(7), partials: 1, payload: value("done") });
    assert_eq!(bench.take(client), [partial_reply(CallId(7), 0, "half"), reply]);
    assert_eq!(bench.broker.open_calls(), 0);
}

#[test]
fn equal_ids_of_two_clients_are_two_calls() {
    let mut bench = Bench::new();
    let (worker, clients) = (bench.worker(), [bench.client(), bench.client()]);
    clients.into_iter().for_each(|client| bench.request(client, 7, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    bench.send_as(clients[0], Message::Cancel(CallId(7)));
    assert_eq!(bench.take(worker), [Message::Cancel(ids[0])], "the other's call is none of its business");
    clients.into_iter().for_each(|client| drop(bench.take(client)));
    ids.into_iter().for_each(|id| bench.reply(worker, id, "done"));
    assert_eq!((bench.take(clients[0]), bench.take(clients[1])), (vec![], vec![final_reply(CallId(7), "done")]));
}

#[test]
fn method_is_retried_only_if_the_client_lets_it_run_twice() {
    let mut bench = Bench::new();
    let (workers, client) = ([bench.worker(), bench.worker()], bench.client());
    bench.request_with(client, 1, "hold", |request| request.idempotent = true);
    bench.request(client, 2, "safe");
    let first = bench.requests(workers[0]);
    assert_eq!((first.len(), first[0].idempotent), (1, true));
    let second = bench.requests(workers[1]);
    assert_eq!((second.len(), second[0].idempotent), (1, false), "what the worker declares does not count");
    bench.take(client);
    bench.drop_wire(workers[1]);
    assert_eq!(bench.errors(client), [(2, ErrorCode::WorkerLost, true)]);
    let other = bench.worker();
    bench.drop_wire(workers[0]);
    assert_eq!(bench.requests(other)[0].attempt, 2);
    assert_eq!(bench.errors(client), []);
}

#[test]
fn unsent_request_goes_to_another_worker_even_if_it_must_not_run_twice() {
    let mut bench = Bench::new();
    let (workers, client) = ([bench.worker(), bench.worker()], bench.client());
    bench.take(client);
    bench.hold_transmits();
    bench.request(client, 1, "hold");
    bench.fail_transmits(workers[0]);
    let id = bench.request_id(workers[1]);
    bench.reply(workers[1], id, "done");
    assert_eq!(bench.take(client), [final_reply(CallId(1), "done")]);
}

#[test]
fn client_whose_reply_the_transport_rejects_is_gone_with_its_calls() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    bench.request(client, 2, "hold");
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    bench.hold_transmits();
    bench.reply(worker, ids[0], "done");
    bench.fail_transmits(client);
    assert_eq!(bench.outputs.last(), Some(&BrokerOutput::ClientLeft(client.1, Departure::Disconnected)));
    assert_eq!(bench.take(worker), [Message::Cancel(ids[1])]);
}

#[test]
fn every_way_to_lose_a_client_cancels_its_calls() {
    for departure in [Departure::Goodbye, Departure::Disconnected, Departure::Expired] {
        let mut bench = Bench::new();
        let worker = bench.worker_with(|ready| ready.credits = 1);
        let client = bench.client_with(|ready| ready.interval = INTERVAL);
        [1, 2].into_iter().for_each(|call| bench.request(client, call, "hold"));
        let id = bench.request_id(worker);
        match departure {
            Departure::Goodbye => bench.send_as(client, Message::Goodbye),
            Departure::Disconnected => bench.drop_wire(client),
            Departure::Expired => bench.run(EXPIRY),
        }
        assert_eq!(bench.outputs.last(), Some(&BrokerOutput::ClientLeft(client.1, departure)));
        assert_eq!(bench.broker.open_calls(), 0, "{departure:?}");
        let sent = bench.take(worker);
        assert!(sent.contains(&Message::Cancel(id)), "{departure:?}: {sent:?}");
        // The worker still has the first; its answer has no receiver, and frees the credit.
        let stopped = ErrorReply::not_started(id, ErrorCode::Cancelled, String::new());
        bench.send_as(worker, Message::Error(stopped));
        let other = bench.client();
        bench.request(other, 1, "hold");
        assert_eq!(bench.requests(worker).len(), 1, "{departure:?}");
        assert_eq!(bench.broker.counters().workers.late_replies, 1);
    }
}

#[test]
fn client_expires_exactly_on_time_and_any_message_renews_its_lease() {
    let mut bench = Bench::new();
    let client = bench.client_with(|ready| ready.interval = INTERVAL);
    let expires_at = bench.now + EXPIRY;
    bench.run_until(expires_at - TICK);
    assert!(!bench.is_gone(client));
    bench.send_as(client, Message::Cancel(CallId(99)));
    bench.run_until(expires_at + EXPIRY - 2 * TICK);
    assert!(!bench.is_gone(client));
    bench.run(TICK);
    assert!(bench.is_gone(client));
    assert_eq!(bench.broker.counters().expired_leases, 1);
}

#[test]
fn client_that_announces_a_large_message_is_excused() {
    let mut bench = Bench::new();
    let client = bench.client_with(|ready| ready.interval = INTERVAL);
    bench.send_as(client, Message::Patience(ms(10_000)));
    bench.run(ms(10_000) - TICK);
    assert!(!bench.is_gone(client));
    bench.run(TICK);
    assert!(bench.is_gone(client));
    // No peer is excused for longer than the largest message may take.
    let client = bench.client_with(|ready| ready.interval = INTERVAL);
    bench.send_as(client, Message::Patience(ms(u64::MAX / 2)));
    bench.run(ms(64_000));
    assert!(bench.is_gone(client));
}

#[test]
fn quiet_client_gets_a_heartbeat_each_interval_and_a_busy_one_gets_none() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.take(client);
    bench.run(INTERVAL - TICK);
    assert_eq!(bench.take(client), []);
    bench.run(TICK);
    assert_eq!(bench.take(client), [Message::Heartbeat]);
    bench.run(INTERVAL / 2);
    bench.request_with(client, 1, "hold", |request| request.fail_fast = true);
    assert_eq!(bench.errors(client), [(1, ErrorCode::NoWorker, false)]);
    bench.run(INTERVAL - TICK);
    // The request's bytes are acknowledged with the heartbeat of before, or a second later.
    assert!(matches!(bench.take(client)[..], [] | [Message::Ack(_)]));
    bench.run(INTERVAL);
    assert_eq!(bench.take(client), [Message::Heartbeat]);
}

#[test]
fn call_ends_at_the_broker_by_its_deadline_and_is_cancelled_at_the_worker() {
    let mut bench = Bench::new();
    let worker = bench.worker_with(|ready| ready.credits = 1);
    let client = bench.client();
    [1, 2].into_iter().for_each(|call| bench.request_with(client, call, "hold", |it| it.remaining = ms(300)));
    let id = bench.request_id(worker);
    bench.take(client);
    bench.run(ms(300) - TICK);
    assert_eq!(bench.errors(client), []);
    bench.run(TICK);
    assert_eq!(bench.errors(client), [(1, ErrorCode::DeadlineExceeded, true), (2, ErrorCode::DeadlineExceeded, false)]);
    assert_eq!(bench.take(worker), [Message::Cancel(id)]);
    bench.request_with(client, 3, "hold", |request| request.remaining = ms(0));
    assert_eq!(bench.errors(client), [(3, ErrorCode::DeadlineExceeded, false)]);
    bench.request_with(client, 4, "hold", |request| request.remaining = std::time::Duration::MAX);
    bench.send_as(client, Message::Cancel(CallId(4)));
    assert_eq!(bench.errors(client), [(4, ErrorCode::Cancelled, false)], "it has only waited");
}

#[test]
fn client_that_repeats_its_introduction_is_answered_once_a_turn() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.take(client);
    let ready = Ready { role: Role::Client, credits: 0, services: Vec::new(), ..introduction() };
    bench.send_frames_as(client, frame::encode_batch(&vec![Message::Ready(ready); 50]));
    assert_eq!(bench.take(client).len(), 1);
}

#[test]
fn client_does_not_restart_a_call_that_used_up_the_brokers_attempts() {
    let mut bench = Bench::with(|config| config.dispatcher.retry.backoff = BackoffConfig { first: ms(0), max: ms(0) });
    let (worker, client) = (bench.worker(), bench.client());
    bench.take(client);
    bench.request(client, 1, "hold");
    for _ in 0..3 {
        let id = bench.request_id(worker);
        bench.send_as(worker, Message::Error(ErrorReply::not_started(id, ErrorCode::Overloaded, "full".into())));
    }
    assert_eq!(bench.errors(client), [(1, ErrorCode::WorkerLost, false)]);
}

#[test]
fn cancelled_call_is_answered_once_whatever_the_worker_replies() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    bench.take(client);
    bench.send_as(client, Message::Cancel(CallId(1)));
    bench.send_as(client, Message::Cancel(CallId(1)));
    assert_eq!(bench.errors(client), [(1, ErrorCode::Cancelled, true)]);
    bench.send_as(worker, partial_reply(id, 0, "half"));
    bench.reply(worker, id, "done");
    bench.reply(worker, id, "done again");
    assert_eq!(bench.take(client), []);
    let counters = bench.broker.counters().workers;
    assert_eq!((counters.late_replies, counters.unsolicited_replies), (2, 1));
}

#[test]
fn cancel_that_crosses_the_reply_changes_nothing() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    bench.take(client);
    bench.reply(worker, id, "done");
    bench.send_as(client, Message::Cancel(CallId(1)));
    assert_eq!(bench.take(client), [final_reply(CallId(1), "done")]);
    assert_eq!(bench.take(worker), []);
}

#[test]
fn request_beyond_the_clients_credits_is_refused_until_one_has_ended() {
    let mut bench = Bench::with(|config| config.credits = 2);
    let (worker, client) = (bench.worker(), bench.client());
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    let detail = "the broker accepts 2 requests of a client at once; raise its `client_credits`".to_owned();
    let refusal = ErrorReply::not_started(CallId(3), ErrorCode::Overloaded, detail);
    assert!(bench.take(client).contains(&Message::Error(refusal)));
    let id = bench.requests(worker)[0].call;
    bench.reply(worker, id, "done");
    bench.request(client, 4, "hold");
    assert_eq!((bench.errors(client), bench.requests(worker).len()), (vec![], 1));
    let other = bench.client();
    bench.request(other, 1, "hold");
    assert_eq!(bench.requests(worker).len(), 1, "each client has credits of its own");
}

#[test]
fn request_is_acknowledged_once_it_goes_to_a_worker_or_ends_and_not_while_it_waits() {
    let cost = frame::window_bytes(&Message::Request(Request { payload: value("padding"), ..request(1, "hold") }));
    let mut bench = Bench::with(|config| (config.credits, config.dispatcher.window_bytes) = (3, 4 * cost));
    let (worker, client) = (bench.worker_with(|ready| ready.credits = 1), bench.client());
    let large = |request: &mut Request| request.payload = value("padding");
    bench.request_with(client, 1, "hold", large);
    assert_eq!(acks(&mut bench, client), [cost], "it has gone");
    (2..=3).for_each(|call| bench.request_with(client, call, "hold", large));
    assert_eq!(acks(&mut bench, client), [0_u64; 0], "they wait");
    bench.request_with(client, 4, "hold", large);
    assert_eq!(acks(&mut bench, client), [2 * cost], "refused");
    bench.request_with(client, 3, "hold", large);
    assert_eq!(acks(&mut bench, client), [3 * cost], "open already");
    bench.send_as(client, Message::Cancel(CallId(3)));
    assert_eq!(acks(&mut bench, client), [4 * cost], "cancelled");
    let id = bench.request_id(worker);
    bench.reply(worker, id, "done");
    assert_eq!(acks(&mut bench, client), [5 * cost], "one of those that waited has gone");
    bench.request_with(client, 5, "hold", |request| {
        large(request);
        request.remaining = ms(10);
    });
    bench.run(ms(10));
    assert_eq!(acks(&mut bench, client), [6 * cost], "its time is over");
    bench.request_with(client, 6, "hold", large);
    bench.drop_wire(worker);
    assert_eq!(acks(&mut bench, client), [7 * cost], "nobody offers it any more");
    let mut frames = frame::encode(&Message::Request(Request { payload: value("padding"), ..request(7, "hold") }));
    // Metadata that reaches past the end.
    frames.header = [&frames.header[..frames.header.len() - 1], &[9]].concat().into();
    bench.send_frames_as(client, frames);
    assert_eq!(acks(&mut bench, client), [8 * cost], "it cannot be read");
    bench.drain();
    bench.take(client);
}

#[test]
fn clients_with_waiting_requests_take_turns() {
    let mut bench = Bench::new();
    let worker = bench.worker_with(|ready| ready.credits = 1);
    let [flood, other] = [bench.client(), bench.client()];
    (1..=9).for_each(|call| bench.request(flood, call, "hold"));
    (1..=2).for_each(|call| bench.request(other, call, "hold"));
    let mut served = Vec::new();
    for _ in 0..5 {
        let id = bench.request_id(worker);
        bench.reply(worker, id, "done");
        served.extend(
            [flood, other]
                .into_iter()
                .filter(|client| bench.take(*client).iter().any(|message| matches!(message, Message::Final(_)))),
        );
    }
    assert_eq!(served, [flood, flood, other, flood, other]);
}

#[test]
fn request_of_an_open_call_is_dropped_and_one_of_a_call_that_has_ended_is_another_call() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    assert_eq!((bench.errors(client), bench.broker.counters().unexpected_messages), (vec![], 1));
    bench.reply(worker, id, "done");
    bench.request(client, 1, "hold");
    assert_ne!(bench.request_id(worker), id);
}

#[test]
fn peers_of_the_wrong_role_are_refused_at_both_endpoints() {
    let mut bench = Bench::new();
    for (door, role) in [
        (Door::Front, Role::Worker),
        (Door::Front, Role::Dispatcher),
        (Door::Back, Role::Client),
        (Door::Back, Role::Dispatcher),
    ] {
        let wire = bench.introduce(door, |ready| ready.role = role);
        assert_eq!(bench.errors(wire), [(0, ErrorCode::Malformed, false)], "{door:?} {role:?}");
        assert!(bench.is_gone(wire), "{door:?} {role:?}");
    }
    assert!(bench.outputs.is_empty(), "{:?}", bench.outputs);
}

#[test]
fn stranger_that_does_not_introduce_itself_is_dropped_without_effect() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    bench.take(worker);
    for message in [
        Message::Request(request(1, "hold")),
        Message::Cancel(CallId(1)),
        Message::Heartbeat,
        Message::Goodbye,
        Message::Ack(7),
    ] {
        let stranger = bench.open(Door::Front);
        bench.send_as(stranger, message);
        assert!(bench.is_gone(stranger) && bench.take(stranger).is_empty());
    }
    assert_eq!((bench.broker.counters().unregistered_messages, bench.take(worker)), (5, vec![]));
}

#[test]
fn messages_that_only_workers_send_are_dropped_from_clients() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    bench.take(client);
    for message in [final_reply(id, "forged"), partial_reply(id, 0, "forged"), Message::Drain, Message::Credit(9)] {
        bench.send_as(client, message);
    }
    assert_eq!((bench.broker.counters().unexpected_messages, bench.take(client)), (4, vec![]));
    bench.reply(worker, id, "done");
    assert_eq!(bench.take(client), [final_reply(CallId(1), "done")]);
}

#[test]
fn unreadable_request_is_answered_and_uses_no_credit() {
    let mut bench = Bench::with(|config| config.credits = 1);
    let client = bench.client();
    bench.take(client);
    let mut frames = frame::encode(&Message::Request(request(7, "hold")));
    frames.header.truncate(40);
    bench.send_frames_as(client, frames);
    let [(7, ErrorCode::Malformed, false)] = bench.errors(client)[..] else { panic!("not answered") };
    let worker = bench.worker();
    bench.request(client, 7, "hold");
    assert_eq!(bench.requests(worker).len(), 1);
    // The answer would end the open call with this id.
    let mut frames = frame::encode(&Message::Request(request(7, "hold")));
    frames.header.truncate(40);
    bench.send_frames_as(client, frames);
    assert_eq!(bench.errors(client), []);
    assert_eq!(bench.broker.counters().malformed_messages, 2);
    let stranger = bench.open(Door::Front);
    let mut frames = frame::encode(&Message::Request(request(7, "hold")));
    frames.header.truncate(40);
    bench.send_frames_as(stranger, frames);
    assert!(bench.is_gone(stranger) && bench.errors(stranger) == [(0, ErrorCode::Malformed, false)]);
}

#[test]
fn client_that_renews_its_introduction_keeps_its_calls() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    let mut ready = introduction();
    (ready.role, ready.payload_bytes_max) = (Role::Client, 3);
    bench.send_as(client, Message::Ready(ready));
    bench.take(client);
    bench.reply(worker, id, "more than three bytes");
    assert_eq!(bench.errors(client), [(1, ErrorCode::TooLarge, true)]);
    assert_eq!(bench.broker.clients().map(|(peer, _)| peer).collect::<Vec<_>>(), [Peer(0)]);
}

#[test]
fn reply_larger_than_its_client_accepts_becomes_an_error() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.payload_bytes_max = 10);
    for (call, bytes, is_sent) in [(1, 10, true), (2, 11, false)] {
        bench.request(client, call, "hold");
        let id = bench.request_id(worker);
        bench.take(client);
        bench.reply(worker, id, &"x".repeat(bytes));
        let message = bench.take(client).pop();
        match is_sent {
            true => assert!(matches!(message, Some(Message::Final(_)))),
            false => assert!(matches!(message, Some(Message::Error(error)) if error.code == ErrorCode::TooLarge)),
        }
    }
}

#[test]
fn partial_reply_larger_than_its_client_accepts_leaves_a_visible_gap() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.payload_bytes_max = 5);
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    bench.take(client);
    ["one", "too large", "three"]
        .into_iter()
        .zip(0..)
        .for_each(|(text, sequence)| bench.send_as(worker, partial_reply(id, sequence, text)));
    bench.send_as(worker, Message::Final(FinalReply { call: id, partials: 3, payload: value("done") }));
    let last = Message::Final(FinalReply { call: CallId(1), partials: 3, payload: value("done") });
    let call = CallId(1);
    assert_eq!(bench.take(client), [partial_reply(call, 0, "one"), partial_reply(call, 2, "three"), last]);
}

fn acks(bench: &mut Bench, client: Wire) -> Vec<u64> {
    let ack = |message| match message {
        Message::Ack(bytes) => Some(bytes),
        _ => None,
    };
    bench.take(client).into_iter().filter_map(ack).collect()
}
