//! A broker that drains or closes, with its clients and workers in every state.

use std::time::Duration;

use super::{
    bench::{Bench, Wire, request},
    pair::{INTERVAL, TICK, error_reply, final_reply, ms, partial_reply},
};
use crate::proto::{
    broker::{BrokerConfig, Door},
    frame,
    message::{CallId, ErrorCode, Message, Request, Role},
};

#[test]
fn draining_broker_refuses_waiting_calls_finishes_those_in_flight_and_says_goodbye() {
    let mut bench = draining();
    let (worker, client, idle) = (bench.worker_with(|ready| ready.credits = 1), bench.client(), bench.client());
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    let id = bench.request_id(worker);
    [client, idle].into_iter().for_each(|wire| drop(bench.take(wire)));
    bench.drain();
    let refused = bench.take(client);
    assert_eq!(refused[0], Message::Drain, "so that what is refused goes elsewhere at once");
    assert!(matches!(&refused[1..], [Message::Error(error)] if is_refusal(error, 2)), "{refused:?}");
    assert_eq!((bench.take(idle), bench.take(worker)), (vec![Message::Drain], vec![]));
    bench.request(client, 3, "hold");
    assert_eq!(bench.errors(client), [(3, ErrorCode::Refused, false)]);
    bench.send_as(worker, partial_reply(id, 0, "half"));
    bench.send_as(worker, error_reply(id, ErrorCode::Application, true));
    bench.run(Duration::ZERO);
    let sent = bench.take(client);
    assert_eq!((&sent[0], sent.last()), (&partial_reply(CallId(1), 0, "half"), Some(&Message::Goodbye)));
    assert_eq!((bench.take(idle), bench.take(worker)), (vec![Message::Goodbye], vec![Message::Goodbye]));
    [client, idle, worker].into_iter().for_each(|wire| bench.drop_wire(wire));
    assert_eq!(bench.closed_at, Some(bench.now));
}

#[test]
fn draining_broker_accepts_no_new_client_and_closes_at_once_without_peers() {
    let mut bench = draining();
    bench.drain();
    bench.run(Duration::ZERO);
    assert_eq!(bench.closed_at, Some(bench.now));
    let late = bench.introduce(Door::Front, |ready| ready.role = Role::Client);
    assert!(bench.is_gone(late) && bench.errors(late) == [(0, ErrorCode::Malformed, false)]);
    let late = bench.worker();
    assert!(bench.is_gone(late) && bench.errors(late) == [(0, ErrorCode::Malformed, false)]);
}

#[test]
fn drain_refuses_a_call_in_back_off_at_once() {
    let mut bench = Bench::with(|config| config.dispatcher.retry = Default::default());
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "safe", |request| request.idempotent = true);
    let id = bench.request_id(worker);
    bench.send_as(worker, error_reply(id, ErrorCode::Overloaded, true));
    bench.take(client);
    bench.drain();
    let sent = bench.take(client);
    let Some(Message::Error(error)) = sent.get(1) else { panic!("{sent:?}") };
    assert_eq!((error.code, error.maybe_executed, &*error.detail), (ErrorCode::Refused, true, "the broker drains"));
    bench.run(ms(100));
    assert_eq!(bench.requests(worker), []);
}

#[test]
fn drain_ends_running_calls_exactly_at_its_timeout() {
    let mut bench = draining();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "hold", |request| request.remaining = 100 * INTERVAL);
    bench.take(client);
    bench.drain();
    bench.run(DRAIN_TIMEOUT - TICK);
    assert_eq!((bench.errors(client), bench.closed_at), (vec![], None));
    bench.run(TICK);
    let sent = bench.take_news(client);
    let [Message::Error(error), Message::Goodbye] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error.call, error.code, error.maybe_executed), (CallId(1), ErrorCode::Refused, true));
    assert_eq!(bench.take(worker).last(), Some(&Message::Goodbye));
    bench.run(GRACE - TICK);
    assert_eq!(bench.closed_at, None, "neither has taken the goodbye");
    bench.run(TICK);
    assert_eq!(bench.closed_at, Some(bench.now));
    assert!(bench.is_gone(client) && bench.is_gone(worker));
}

#[test]
fn client_that_reads_no_reply_delays_only_the_drain_until_its_timeout() {
    let mut bench = draining();
    let worker = bench.worker();
    let [deaf, other] = [bench.client_with(|ready| ready.window_bytes = 1), bench.client()];
    (1..=2).for_each(|call| bench.request(deaf, call, "hold"));
    bench.requests(worker).iter().map(|request| request.call).collect::<Vec<_>>().into_iter().for_each(|id| {
        bench.reply(worker, id, &large());
    });
    [deaf, other].into_iter().for_each(|wire| drop(bench.take(wire)));
    bench.drain();
    bench.run(Duration::ZERO);
    assert_eq!(bench.take(other), [Message::Drain, Message::Goodbye]);
    bench.drop_wire(other);
    bench.drop_wire(worker);
    assert_eq!(bench.take(deaf), [Message::Drain], "a goodbye would hide the reply that is held back");
    bench.run(DRAIN_TIMEOUT + GRACE - TICK);
    assert_eq!(bench.closed_at, None);
    bench.run(TICK);
    assert_eq!((bench.closed_at, bench.is_gone(deaf)), (Some(bench.now), true));
    assert!(!bench.take(deaf).contains(&Message::Goodbye));
}

#[test]
fn client_that_reads_its_replies_late_gets_the_goodbye_after_them() {
    let mut bench = draining();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    ids.into_iter().for_each(|id| bench.reply(worker, id, &large()));
    bench.take(client);
    bench.drain();
    bench.send_as(client, Message::Ack(u64::MAX));
    assert_eq!(bench.take(client), [Message::Drain, final_reply(CallId(2), &large()), Message::Goodbye]);
}

#[test]
fn drain_says_of_each_call_whether_it_could_wait_no_longer_or_had_no_time_left() {
    let mut bench = draining();
    let (worker, client) = (bench.worker_with(|ready| ready.credits = 1), bench.client());
    let long = |request: &mut Request| request.remaining = 100 * INTERVAL;
    (1..=2).for_each(|call| bench.request_with(client, call, "hold", long));
    bench.take(client);
    bench.drain();
    bench.request_with(client, 3, "hold", long);
    bench.run(DRAIN_TIMEOUT + GRACE);
    let details = bench.take(client).into_iter().filter_map(|message| match message {
        Message::Error(error) => Some((error.call.0, error.detail)),
        _ => None,
    });
    let (drains, passed) = ("the broker drains".to_owned(), "the broker's drain timeout has passed".to_owned());
    assert_eq!(details.collect::<Vec<_>>(), [(2, drains.clone()), (3, drains), (1, passed)]);
    bench.take(worker);
}

#[test]
fn close_during_a_drain_ends_it_within_the_grace() {
    let mut bench = draining();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "hold", |request| request.remaining = 100 * INTERVAL);
    bench.drain();
    bench.run(INTERVAL);
    bench.take(client);
    bench.take(worker);
    bench.close();
    let sent = bench.take(client);
    let [Message::Error(error), Message::Goodbye] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error.code, error.maybe_executed, &*error.detail), (ErrorCode::Refused, true, "the broker was closed"));
    assert_eq!(bench.take(worker), [Message::Goodbye]);
    bench.run(GRACE - TICK);
    assert_eq!(bench.closed_at, None);
    bench.run(TICK);
    assert_eq!(bench.closed_at, Some(bench.now));
}

#[test]
fn close_ends_a_drains_wait_for_goodbyes_within_the_grace() {
    let mut bench = draining();
    let client = bench.client();
    bench.drain();
    bench.run(INTERVAL);
    assert_eq!(bench.take(client).last(), Some(&Message::Goodbye));
    bench.close();
    bench.run(GRACE / 2);
    bench.close();
    bench.run(GRACE / 2 - TICK);
    assert_eq!(bench.closed_at, None);
    bench.run(TICK);
    assert_eq!(bench.closed_at, Some(bench.now), "closing again puts nothing off");
}

#[test]
fn client_that_was_sent_goodbye_gets_nothing_more_and_is_ignored() {
    let mut bench = draining();
    let (client, worker) = (bench.client_with(|ready| ready.interval = 20 * INTERVAL), bench.worker());
    bench.drain();
    bench.run(Duration::ZERO);
    bench.take(client);
    bench.request(client, 1, "hold");
    bench.send_as(client, Message::Cancel(CallId(1)));
    bench.send_as(client, Message::Ready(super::pair::introduction()));
    bench.send_as(client, Message::Heartbeat);
    let mut unreadable = frame::encode(&Message::Request(request(2, "hold")));
    unreadable.header.truncate(40);
    bench.send_frames_as(client, unreadable);
    bench.drop_wire(worker);
    bench.run(5 * INTERVAL);
    assert_eq!((bench.take(client), bench.broker.open_calls()), (vec![], 0), "not even a heartbeat");
    bench.send_as(client, Message::Goodbye);
    assert_eq!(bench.closed_at, Some(bench.now));
}

#[test]
fn clients_that_vanish_no_longer_delay_a_draining_broker() {
    let mut bench = draining();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "hold", |request| request.remaining = 100 * INTERVAL);
    let id = bench.request_id(worker);
    bench.drain();
    bench.run(INTERVAL);
    bench.take(worker);
    bench.drop_wire(client);
    bench.run(Duration::ZERO);
    assert_eq!(bench.take(worker), [Message::Cancel(id), Message::Goodbye]);
    bench.drop_wire(worker);
    assert_eq!(bench.closed_at, Some(bench.now));
}

#[test]
fn worker_that_dies_while_the_broker_drains_leaves_no_call_behind() {
    for idempotent in [false, true] {
        let mut bench = draining();
        let (worker, client) = (bench.worker(), bench.client());
        bench.request_with(client, 1, "hold", |request| request.idempotent = idempotent);
        bench.drain();
        bench.take(client);
        bench.drop_wire(worker);
        bench.run(Duration::ZERO);
        let sent = bench.take(client);
        let [Message::Error(error), Message::Goodbye] = &sent[..] else { panic!("{sent:?}") };
        let code = if idempotent { ErrorCode::NoWorker } else { ErrorCode::WorkerLost };
        assert_eq!((error.code, error.maybe_executed), (code, true));
    }
}

#[test]
fn close_reports_which_calls_may_have_run_before_the_goodbye() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker_with(|ready| ready.credits = 1), bench.client());
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    bench.take(client);
    bench.close();
    let sent = bench.take(client);
    let [Message::Drain, Message::Error(ran), Message::Error(waited), Message::Goodbye] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((ran.call.0, ran.maybe_executed, waited.call.0, waited.maybe_executed), (1, true, 2, false));
    assert!([ran, waited].iter().all(|error| error.detail == "the broker was closed"), "{ran:?}, {waited:?}");
    assert_eq!(bench.take(worker).last(), Some(&Message::Goodbye));
}

#[test]
fn peer_that_leaves_at_the_drain_timeout_is_reported_once() {
    let mut bench = draining();
    let wires: [Wire; 2] = [bench.client(), bench.worker()];
    bench.drain();
    bench.run(DRAIN_TIMEOUT + GRACE);
    let left = bench.outputs.iter().filter(|output| format!("{output:?}").contains("Left"));
    assert_eq!(left.count(), 2);
    wires.into_iter().for_each(|wire| bench.drop_wire(wire));
}

fn draining() -> Bench {
    Bench::with(|config: &mut BrokerConfig| config.drain_timeout = DRAIN_TIMEOUT)
}

/// A value that waits for room in the client's window.
fn large() -> String {
    "x".repeat(5_000)
}

fn is_refusal(error: &crate::proto::message::ErrorReply, call: u64) -> bool {
    (error.call.0, error.code, error.maybe_executed) == (call, ErrorCode::Refused, false)
}

const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_millis(500);
