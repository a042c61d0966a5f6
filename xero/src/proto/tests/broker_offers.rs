//! A broker's merged offer to its clients, as it changes.

use uuid::Uuid;

use super::{
    bench::{Bench, Wire},
    node::offer,
    pair::{error_reply, final_reply, introduction, ms, partial_reply},
    windows::{LARGE, answer_all},
};
use crate::proto::{
    broker::OFFERS_PAUSE,
    dispatch::Departure,
    message::{CallId, Capabilities, ErrorCode, Message, MethodOffer, OfferChange, Ready, ServiceOffer},
};

#[test]
fn clients_get_a_new_offer_exactly_when_it_changes() {
    let mut bench = Bench::new();
    let client = bench.client();
    assert_eq!(offered(&mut bench, client), [Vec::<&str>::new()]);
    let first = bench.worker();
    assert_eq!(offered(&mut bench, client), [["Demo"]]);
    let second = bench.worker();
    bench.run(OFFERS_PAUSE);
    let third = bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
    assert_eq!(offered(&mut bench, client), [["Demo", "Other"]]);
    bench.send_as(first, Message::Credit(3));
    bench.drop_wire(second);
    bench.run(OFFERS_PAUSE);
    assert_eq!(offered(&mut bench, client), Vec::<Vec<String>>::new());
    bench.send_as(third, Message::Drain);
    assert_eq!(offered(&mut bench, client), [["Demo"]]);
    bench.run(OFFERS_PAUSE);
    bench.send_as(third, Message::Goodbye);
    bench.drop_wire(first);
    assert_eq!(offered(&mut bench, client), [Vec::<&str>::new()]);
    let late = bench.client();
    assert_eq!((offered(&mut bench, late), offered(&mut bench, client)), (vec![vec![]], vec![]));
}

#[test]
fn merged_offer_lists_what_differing_workers_share() {
    let method = |name: &str, idempotent, fingerprint| MethodOffer { name: name.into(), idempotent, fingerprint };
    let service = |name: &str, version, methods| ServiceOffer { name: name.into(), version, methods };
    let mut bench = Bench::new();
    let offers = [
        vec![service("A", 1, vec![method("one", true, 7), method("two", true, 0), method("three", true, 5)])],
        vec![service("A", 3, vec![method("one", true, 7), method("two", true, 8), method("three", false, 6)])],
        vec![service("A", 2, vec![method("three", true, 5)]), service("Empty", 1, vec![])],
    ];
    let workers = offers.map(|services| bench.worker_with(|ready| ready.services = services));
    let client = bench.client();
    let together = vec![method("one", true, 7), method("three", false, 0), method("two", true, 0)];
    let sent = services(&mut bench, client);
    assert_eq!(sent, [service("A", 3, together), service("Empty", 1, vec![])]);
    bench.drop_wire(workers[1]);
    let together = vec![method("one", true, 7), method("three", true, 5), method("two", true, 0)];
    assert_eq!(services(&mut bench, client), [service("A", 2, together), service("Empty", 1, vec![])]);
}

#[test]
fn clients_know_that_a_service_is_gone_before_its_calls_come_back() {
    for departure in [Departure::Goodbye, Departure::Disconnected] {
        let mut bench = Bench::new();
        let worker = bench.worker_with(|ready| ready.credits = 1);
        let client = bench.client();
        (1..=3).for_each(|call| bench.request(client, call, "hold"));
        let id = bench.request_id(worker);
        bench.take(client);
        match departure {
            Departure::Goodbye => bench.send_as(worker, Message::Drain),
            _ => bench.drop_wire(worker),
        }
        let mut sent = bench.take(client);
        let is_news = |message: &Message| matches!(message, Message::Ready(ready) if ready.services.is_empty());
        let is_back = |message: &Message| matches!(message, Message::Error(it) if it.code == ErrorCode::NoWorker);
        let (news, back) = (sent.iter().position(is_news), sent.iter().position(is_back));
        assert!(news.is_some() && news < back, "{departure:?}: {sent:?}");
        sent.retain(|message| !is_news(message));
        let errors = sent.iter().map(|message| match message {
            Message::Error(error) => (error.call.0, error.code, error.maybe_executed),
            other => panic!("{other:?}"),
        });
        let mut errors: Vec<_> = errors.collect();
        errors.sort_by_key(|error| error.0);
        let back = [(2, ErrorCode::NoWorker, false), (3, ErrorCode::NoWorker, false)];
        match departure {
            Departure::Goodbye => {
                assert_eq!(errors, back);
                bench.reply(worker, id, "done");
                assert_eq!(bench.take(client), [final_reply(CallId(1), "done")]);
            }
            _ => assert_eq!((errors[0], &errors[1..]), ((1, ErrorCode::WorkerLost, true), &back[..])),
        }
    }
}

#[test]
fn error_of_a_service_that_is_gone_waits_for_the_offer_in_a_full_window() {
    let mut bench = Bench::new();
    let worker = bench.worker_with(|ready| ready.credits = 1);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    // Fills the window.
    let id = bench.request_id(worker);
    bench.reply(worker, id, "done");
    bench.take(client);
    bench.drop_wire(worker);
    bench.run(OFFERS_PAUSE);
    let lost = bench.take_news(client);
    assert!(matches!(&lost[..], [Message::Error(error)] if error.code == ErrorCode::WorkerLost), "{lost:?}");
    bench.send_as(client, Message::Ack(u64::MAX));
    let sent = bench.take_news(client);
    let [Message::Ready(_), Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error.call, error.code), (CallId(3), ErrorCode::NoWorker));
}

#[test]
fn clients_whose_service_is_gone_are_sent_the_offer_a_few_in_each_turn() {
    let mut bench = Bench::new();
    let long: Vec<_> = (0..200).map(|number| offer(&format!("{number:0>250}"), &[])).collect();
    bench.worker_with(|ready| ready.services = long);
    let worker = bench.worker_with(|ready| ready.credits = 1);
    let clients: Vec<_> = (0..100).map(|_| bench.client()).collect();
    clients.iter().for_each(|client| bench.request(*client, 1, "hold"));
    bench.run(OFFERS_PAUSE * 12);
    clients.iter().for_each(|client| drop(bench.take(*client)));
    bench.drop_wire(worker);
    let is_sent = |bench: &mut Bench, client: &Wire| !bench.take_news(*client).is_empty();
    let first = clients.iter().filter(|client| is_sent(&mut bench, client)).count();
    assert!((10..40).contains(&first), "{first} introductions of 52 kB in one turn");
    bench.run(ms(0));
    let rest = clients.iter().filter(|client| is_sent(&mut bench, client)).count();
    assert!(first + rest >= 100, "{first} and {rest}");
}

#[test]
fn call_waits_for_room_and_returns_at_once_without_its_service_or_method() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.request(client, 1, "hold");
    assert_eq!(bench.errors(client), [(1, ErrorCode::NoWorker, false)]);
    let worker = bench.worker_with(|ready| (ready.credits, ready.services) = (1, vec![offer("Demo", &["hold"])]));
    bench.request(client, 2, "ping");
    assert_eq!(bench.errors(client), [(2, ErrorCode::UnknownMethod, false)]);
    (3..=5).for_each(|call| bench.request_with(client, call, "hold", |it| it.fail_fast = call == 5));
    assert_eq!(bench.errors(client), [(5, ErrorCode::Overloaded, false)]);
    let id = bench.request_id(worker);
    bench.reply(worker, id, "done");
    assert_eq!(bench.requests(worker).len(), 1, "the one that waited");
}

#[test]
fn idempotent_call_whose_last_worker_died_returns_as_maybe_executed() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "safe", |request| request.idempotent = true);
    bench.take(client);
    bench.drop_wire(worker);
    assert_eq!(bench.errors(client), [(1, ErrorCode::NoWorker, true)]);
}

#[test]
fn call_in_back_off_whose_service_is_gone_returns_after_its_wait() {
    let mut bench = Bench::with(|config| config.dispatcher.retry = Default::default());
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    bench.send_as(worker, error_reply(id, ErrorCode::Overloaded, false));
    bench.drop_wire(worker);
    bench.run(ms(20));
    assert_eq!(bench.errors(client), [(1, ErrorCode::NoWorker, false)]);
}

#[test]
fn error_of_a_request_that_does_not_wait_follows_the_offer() {
    let mut bench = Bench::new();
    let (client, worker) = (bench.client(), bench.worker());
    bench.take(client);
    bench.drop_wire(worker);
    bench.request_with(client, 1, "ping", |request| request.fail_fast = true);
    let sent = bench.take(client);
    let [Message::Ready(ready), Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((ready.services.len(), error.code), (0, ErrorCode::NoWorker));
}

#[test]
fn error_behind_partial_replies_follows_the_offer_although_they_leave_earlier() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    bench.request_with(client, 1, "safe", |request| (request.idempotent, request.as_declared) = (true, true));
    let id = bench.request_id(worker);
    (0..2).for_each(|sequence| bench.send_as(worker, partial_reply(id, sequence, "fills the window")));
    bench.run(OFFERS_PAUSE);
    bench.take(client);
    // All in one turn.
    bench.broker.handle_disconnected(bench.now, worker.0, worker.1);
    bench.broker.handle_message(bench.now, client.0, client.1, Message::Ack(u64::MAX));
    bench.send_as(client, Message::Ack(u64::MAX));
    let sent = bench.take(client);
    let [Message::Partial(_), Message::Ready(_), Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::NoWorker, true));
}

#[test]
fn errors_bring_the_offer_forward_once_in_each_pause_and_then_wait_for_its_end() {
    // Back to what the client knows, or not.
    for returns in [false, true] {
        let mut bench = Bench::new();
        let (client, worker) = (bench.client(), bench.worker());
        bench.run(OFFERS_PAUSE);
        let ask = |bench: &mut Bench, call| bench.request_with(client, call, "ping", |it| it.fail_fast = true);
        let toggle = |bench: &mut Bench, credits| bench.send_as(worker, ready_with(credits));
        // The first change is announced at once, and the next one by an error.
        bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
        toggle(&mut bench, 0);
        bench.take(client);
        ask(&mut bench, 1);
        assert_eq!(kinds(&bench.take(client)), ["READY 1", "ERROR 1"]);
        toggle(&mut bench, 1);
        toggle(&mut bench, 0);
        ask(&mut bench, 2);
        assert_eq!(kinds(&bench.take(client)), Vec::<String>::new());
        let third = (!returns).then(|| bench.worker_with(|ready| ready.services = vec![offer("Third", &["ping"])]));
        bench.run(OFFERS_PAUSE);
        match third {
            Some(_) => assert_eq!(kinds(&bench.take(client)), ["READY 2", "ERROR 2"]),
            None => assert_eq!(kinds(&bench.take(client)), ["ERROR 2"]),
        }
    }
}

#[test]
fn error_that_waits_for_the_offer_leaves_before_a_drain_ends() {
    let mut bench = Bench::new();
    let (client, worker) = (bench.client(), bench.worker());
    for call in 1..=2 {
        bench.send_as(worker, ready_with(1));
        bench.send_as(worker, ready_with(0));
        bench.request_with(client, call, "ping", |request| request.fail_fast = true);
    }
    assert!(kinds(&bench.take(client)).ends_with(&["ERROR 1".to_owned()]));
    bench.drain();
    assert_eq!(kinds(&bench.take(client)), ["ERROR 2", "Drain", "Goodbye"]);
}

#[test]
fn replies_and_changed_offers_take_turns_in_a_small_window() {
    let mut bench = Bench::new();
    let worker = bench.worker_with(|ready| ready.credits = 40);
    let client = bench.client_with(|ready| (ready.window_bytes, ready.capabilities) = (64, Capabilities::OFFERS));
    let toggling = bench.worker_with(|ready| ready.services = Vec::new());
    (1..=40).for_each(|call| bench.request_with(client, call, "hold", |request| request.remaining = ms(60_000)));
    answer_all(&mut bench, worker, LARGE);
    bench.take(client);
    let (mut replies, mut offers) = (0, 0);
    for version in 0..40 {
        let changed = vec![ServiceOffer { version, ..offer("Toggled", &["ping"]) }];
        bench.send_as(toggling, Message::Offer(OfferChange { changed, withdrawn: Vec::new() }));
        bench.run(2 * OFFERS_PAUSE);
        bench.send_as(client, Message::Ack(u64::MAX));
        bench.send_as(worker, Message::Heartbeat);
        for message in bench.take(client) {
            replies += usize::from(matches!(message, Message::Final(_)));
            offers += usize::from(matches!(message, Message::Offer(_)));
        }
    }
    assert!(replies >= 19 && offers >= 19, "{replies} replies and {offers} offers with 40 acknowledgements");
}

/// READY of the worker of `Demo`, with that many credits: with 0, it offers nothing.
fn ready_with(credits: u32) -> Message {
    Message::Ready(Ready { incarnation: Uuid::from_u64_pair(3, 0), credits, ..introduction() })
}

/// The messages in short: READY with its number of services, ERROR with its call.
fn kinds(messages: &[Message]) -> Vec<String> {
    let kind = |message: &Message| match message {
        Message::Ready(ready) => format!("READY {}", ready.services.len()),
        Message::Error(error) => format!("ERROR {}", error.call.0),
        other => format!("{other:?}"),
    };
    messages.iter().map(kind).collect()
}

/// Takes the services of each introduction sent to the client.
pub(super) fn offered(bench: &mut Bench, client: Wire) -> Vec<Vec<String>> {
    introductions(bench, client)
        .into_iter()
        .map(|ready| ready.services.iter().map(|service| service.name.to_string()).collect())
        .collect()
}

/// The services of the last one.
fn services(bench: &mut Bench, client: Wire) -> Vec<ServiceOffer> {
    introductions(bench, client).pop().expect("an introduction").services
}

fn introductions(bench: &mut Bench, client: Wire) -> Vec<Ready> {
    let ready = |message| match message {
        Message::Ready(ready) => Some(ready),
        _ => None,
    };
    bench.take(client).into_iter().filter_map(ready).collect()
}
