//! A client that dials brokers: introductions, redials, and what brokers offer and return.

use std::{sync::Arc, time::Duration};

use super::{
    client::{A, B, Client, broker},
    node::offer,
    pair::{CALL_TIMEOUT, EXPIRY, INTERVAL, TICK, error_reply, final_reply, value},
};
use crate::proto::{
    calls::{CallFailure, WaitPolicy},
    dispatch::{Departure, DispatcherConfig},
    frame,
    message::{CallId, ErrorCode, Message, OfferChange, Ready, Role, ServiceOffer},
    retry::{Backoff, BackoffConfig},
};

#[test]
fn every_broker_is_dialed_at_once_and_gets_an_introduction_first() {
    let mut client = Client::new(2);
    client.call(1);
    assert_eq!(client.dialed(), []);
    client.run(Duration::ZERO);
    assert_eq!(client.dialed(), [A, B]);
    client.connect(A);
    let [Message::Ready(ready)] = &client.sent(A)[..] else { panic!("not an introduction alone") };
    assert_eq!((ready.role, ready.credits, ready.services.len()), (Role::Client, 0, 0));
    assert_eq!(ready.window_bytes, DispatcherConfig::default().window_bytes);
    client.run(EXPIRY - TICK);
    assert_eq!((client.sent(A), client.sent(B)), (vec![], vec![]), "no heartbeat before the answer");
    client.send_as(A, Message::Ready(broker()));
    let [Message::Request(request)] = &client.sent(A)[..] else { panic!("the call that has waited") };
    assert_eq!(request.call, CallId(1));
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!(client.end(1), Ok(value("done")));
}

#[test]
fn broker_that_does_not_answer_its_introduction_within_the_expiry_is_dialed_again() {
    let mut client = Client::new(1);
    client.run(Duration::ZERO);
    client.connect(A);
    client.run(EXPIRY - TICK);
    assert!(client.stands(A));
    client.run(TICK);
    assert!(!client.stands(A));
    client.take_dials();
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [A]);
}

#[test]
fn broker_that_sends_anything_but_its_introduction_is_dialed_again() {
    let worker = Ready { role: Role::Worker, ..broker() };
    for answer in [
        Message::Heartbeat,
        Message::Goodbye,
        Message::Drain,
        Message::Offer(OfferChange::default()),
        Message::Patience(INTERVAL),
        Message::Ready(worker),
        final_reply(CallId(1), "early"),
        error_reply(CallId(0), ErrorCode::Malformed, false),
    ] {
        let mut client = Client::new(1);
        client.call(1);
        client.run(Duration::ZERO);
        client.connect(A);
        client.sent(A);
        client.send_as(A, answer.clone());
        assert!(!client.stands(A), "{answer:?}");
        assert_eq!((client.sent(A), client.ends.len()), (vec![], 0), "{answer:?}");
        client.take_dials();
        client.run(BackoffConfig::default().first);
        assert_eq!(client.dialed(), [A], "{answer:?}");
    }
}

#[test]
fn broker_with_an_unreadable_introduction_gets_no_answer_and_is_dialed_again() {
    let mut client = Client::new(1);
    client.run(Duration::ZERO);
    client.connect(A);
    client.sent(A);
    let mut frames = frame::encode(&Message::Ready(broker()));
    frames.header.truncate(40);
    client.send_frames_as(A, frames);
    assert!(!client.stands(A));
    assert_eq!(client.sent(A), []);
    client.take_dials();
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [A]);
    assert_eq!(client.machine.counters().malformed_messages, 1);
}

#[test]
fn dials_back_off_with_jitter_and_start_over_after_a_connection_that_has_lasted() {
    let (seed, backoff) = (11, BackoffConfig::default());
    let mut client = Client::with(1, |config| config.seed = seed);
    let mut expected = Backoff::new(backoff, seed);
    client.run(Duration::ZERO);
    for _ in 0..6 {
        assert_eq!(client.take_dials(), [A]);
        client.machine.handle_disconnected(client.now, A);
        client.settle();
        client.expect_dial_after(expected.next());
    }
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.take_dials();
    // It answers, and ends at once.
    client.lose(A);
    client.expect_dial_after(expected.next());
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.keep_alive(EXPIRY);
    expected.reset();
    client.take_dials();
    client.lose(A);
    let wait = expected.next();
    assert!(wait <= backoff.first);
    client.expect_dial_after(wait);
}

#[test]
fn every_way_to_lose_a_broker_loses_its_calls_and_dials_again() {
    for departure in [Departure::Goodbye, Departure::Disconnected, Departure::Expired] {
        let mut client = Client::connected(2);
        client.call(1);
        client.call_with(2, |spec| (spec.idempotent, spec.deadline) = (Some(true), spec.deadline + CALL_TIMEOUT));
        let [(first, 1), (second, 2)] = client.requests()[..] else { panic!("one call at each") };
        assert_ne!(first, second);
        match departure {
            Departure::Goodbye => client.send_as(first, Message::Goodbye),
            Departure::Disconnected => client.lose(first),
            Departure::Expired => {
                client.run(EXPIRY / 2);
                client.send_as(second, Message::Heartbeat);
                client.run(EXPIRY / 2);
            }
        }
        assert_eq!(client.left, [(first, departure)]);
        assert_eq!(client.end(1), Err(CallFailure::WorkerLost { maybe_executed: true, attempts: 1 }));
        client.lose(second);
        client.take_dials();
        client.run(BackoffConfig::default().first);
        assert!(!client.dialed().is_empty(), "{departure:?}");
        assert!(client.ends.len() == 1, "the other call waits for a broker");
    }
}

#[test]
fn renewed_introduction_of_a_broker_changes_its_offer_and_is_not_answered() {
    let mut client = Client::connected(1);
    client.send_as(A, Message::Ready(Ready { services: Vec::new(), ..broker() }));
    assert_eq!((client.sent(A), client.machine.services().count()), (vec![], 0));
    client.call(1);
    assert_eq!(client.requests(), []);
    client.send_as(A, Message::Ready(broker()));
    assert_eq!(client.requests(), [(A, 1)], "and nothing else");
    // Requests in flight stay so, and keep their credits, when their method is no longer offered.
    client.send_as(A, Message::Ready(Ready { services: Vec::new(), credits: 1, ..broker() }));
    client.call_with(2, |spec| spec.wait_policy = WaitPolicy::Never);
    assert!(matches!(client.end(2), Err(CallFailure::NoWorker { .. })));
    client.send_as(A, Message::Ready(Ready { credits: 1, ..broker() }));
    client.call(3);
    assert_eq!(client.requests(), []);
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!((client.end(1), client.requests()), (Ok(value("done")), vec![(A, 3)]));
}

#[test]
fn changes_of_a_brokers_offer_apply_one_after_the_other() {
    let mut client = Client::connected(1);
    let change = |changed: &[&str], withdrawn: &[&str]| {
        let changed = changed.iter().map(|name| offer(name, &["hold"])).collect();
        Message::Offer(OfferChange { changed, withdrawn: withdrawn.iter().map(|name| Arc::from(*name)).collect() })
    };
    client.send_as(A, change(&["New", "Other"], &[]));
    client.send_as(A, change(&["Last"], &["Demo", "Other"]));
    assert_eq!(client.machine.services().collect::<Vec<_>>(), ["Last", "New"]);
    client.call(1);
    assert_eq!(client.requests(), []);
    client.send_as(A, change(&["Demo"], &[]));
    assert_eq!(client.requests(), [(A, 1)]);
    // Requests in flight and credits stay as they are.
    client.send_as(A, change(&[], &["Demo"]));
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!(client.end(1), Ok(value("done")));
}

#[test]
fn call_that_a_changed_broker_returns_waits_for_the_change() {
    let mut client = Client::connected(1);
    client.call(1);
    client.requests();
    let methods: Vec<_> = (0..2_000).map(|number| number.to_string()).collect();
    let methods: Vec<_> = methods.iter().map(|name| &**name).collect();
    for version in 1..=100 {
        let changed = vec![ServiceOffer { version, ..offer("Large", &methods) }];
        client.send_as(A, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
    }
    client.send_as(A, Message::Offer(OfferChange { changed: vec![], withdrawn: vec!["Demo".into()] }));
    assert_eq!(client.machine.services().collect::<Vec<_>>(), ["Demo", "Large"], "it waits for its turn");
    for _ in 0..5 {
        client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, false));
        assert_eq!(client.requests(), [], "a broker that is about to change gets no request");
    }
    client.keep_alive(INTERVAL);
    assert_eq!(client.machine.services().collect::<Vec<_>>(), ["Large"]);
    assert_eq!(client.requests(), []);
    let demo = vec![offer("Demo", &["hold"])];
    client.send_as(A, Message::Offer(OfferChange { changed: demo, withdrawn: vec![] }));
    client.keep_alive(INTERVAL);
    assert_eq!(client.requests(), [(A, 1)]);
}

#[test]
fn broker_whose_offer_grows_beyond_the_clients_limits_is_dialed_again() {
    let mut client = Client::with(1, |config| config.limits.services_max = 1);
    client.run(Duration::ZERO);
    client.connect(A);
    client.send_as(A, Message::Ready(broker()));
    client.take_dials();
    let changed = vec![offer("New", &["hold"])];
    client.send_as(A, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
    assert!(!client.stands(A));
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [A]);
}

#[test]
fn call_that_a_broker_returns_waits_and_goes_where_its_service_is_offered() {
    let mut client = Client::connected(2);
    client.call(1);
    let [(first, 1)] = client.requests()[..] else { panic!("not sent") };
    client.send_as(first, Message::Ready(Ready { services: Vec::new(), ..broker() }));
    client.send_as(first, error_reply(CallId(1), ErrorCode::NoWorker, false));
    let other = if first == A { B } else { A };
    assert_eq!(client.requests(), [(other, 1)]);
    client.send_as(other, Message::Ready(Ready { services: Vec::new(), ..broker() }));
    client.send_as(other, error_reply(CallId(1), ErrorCode::NoWorker, false));
    client.keep_alive(CALL_TIMEOUT - TICK);
    assert!(client.ends.is_empty() && client.requests().is_empty());
    client.run(TICK);
    assert!(matches!(client.end(1), Err(CallFailure::NoWorker { .. })), "{:?}", client.end(1));
}

#[test]
fn call_that_comes_back_from_a_broker_that_still_offers_it_costs_an_attempt() {
    let mut client = Client::connected(1);
    client.call(1);
    for _ in 0..3 {
        assert_eq!(client.requests(), [(A, 1)]);
        client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, false));
        client.run(INTERVAL);
        client.send_as(A, Message::Heartbeat);
    }
    assert_eq!(client.requests(), []);
    assert!(matches!(client.end(1), Err(CallFailure::Remote(error)) if error.code == ErrorCode::NoWorker));
}

#[test]
fn returned_call_costs_no_attempt_unless_it_may_have_run() {
    let mut client = Client::connected(1);
    client.call_with(1, |spec| spec.idempotent = Some(true));
    for _ in 0..20 {
        assert_eq!(client.requests(), [(A, 1)]);
        client.send_as(A, Message::Ready(Ready { services: Vec::new(), ..broker() }));
        client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, false));
        client.send_as(A, Message::Ready(broker()));
    }
    client.requests();
    // Twenty attempts that cost nothing, and one of three that does.
    client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, true));
    assert_eq!(client.requests(), [(A, 1)]);
    client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, true));
    assert_eq!(client.requests(), [(A, 1)]);
    client.send_as(A, error_reply(CallId(1), ErrorCode::NoWorker, true));
    assert!(matches!(client.end(1), Err(CallFailure::Remote(error)) if error.maybe_executed));
    client.call(2);
    client.requests();
    client.send_as(A, error_reply(CallId(2), ErrorCode::NoWorker, true));
    assert!(matches!(client.end(2), Err(CallFailure::Remote(error)) if error.maybe_executed), "not idempotent");
    client.call_with(3, |spec| spec.wait_policy = WaitPolicy::Never);
    client.send_as(A, error_reply(CallId(3), ErrorCode::NoWorker, false));
    assert!(matches!(client.end(3), Err(CallFailure::Remote(error)) if !error.maybe_executed), "it does not wait");
}

#[test]
fn draining_broker_gets_no_new_calls_and_returns_others_unharmed() {
    let mut client = Client::connected(2);
    client.call(1);
    let [(first, 1)] = client.requests()[..] else { panic!("not sent") };
    client.send_as(first, Message::Drain);
    client.send_as(first, error_reply(CallId(1), ErrorCode::Refused, false));
    let other = if first == A { B } else { A };
    client.call(2);
    client.call(3);
    assert_eq!(client.requests(), [(other, 1), (other, 2), (other, 3)]);
    client.send_as(other, Message::Drain);
    client.send_as(other, Message::Goodbye);
    assert_eq!(client.ends.len(), 0, "a goodbye after a drain: what was in flight has crossed it");
    client.take_dials();
    client.run(BackoffConfig::default().first);
    assert_eq!(client.dialed(), [other]);
}

#[test]
fn credits_from_a_broker_count_like_those_of_a_worker() {
    let mut client = Client::connected(1);
    client.send_as(A, Message::Credit(1));
    (1..=3).for_each(|id| client.call(id));
    assert_eq!(client.requests(), [(A, 1)]);
    client.send_as(A, Message::Credit(2));
    assert_eq!(client.requests(), [(A, 2)]);
    client.send_as(A, Message::Credit(0));
    client.send_as(A, final_reply(CallId(1), "done"));
    assert_eq!(client.requests(), [], "it pauses");
    client.send_as(A, Message::Credit(u32::MAX));
    assert_eq!(client.requests(), [(A, 3)]);
    [2, 3].into_iter().for_each(|id| client.send_as(A, final_reply(CallId(id), "done")));
}
