//! OFFER: a broker's changes to its clients, and what a dispatcher makes of them.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    bench::{Bench, Wire},
    node::offer,
    pair::{error_reply, introduction, ms, spec, start, value},
};
use crate::proto::{
    broker::{BrokerOutput, Door, OFFERS_PAUSE},
    calls::CallSpec,
    dispatch::{Dispatcher, DispatcherConfig, Output},
    frame::window_bytes,
    message::{CallId, Capabilities, ErrorCode, Message, MethodOffer, OfferChange, Peer, Ready, Role, ServiceOffer},
};

#[test]
fn client_that_reads_changes_gets_only_what_has_changed() {
    let mut bench = Bench::new();
    bench.worker_with(|ready| ready.services = (0..20).map(|place| offer(&format!("S{place:02}"), &["a"])).collect());
    let (client, older) = (bench.client_with(reads_changes), bench.client());
    assert_eq!(shapes(&mut bench, client), ["READY 20"]);
    let worker = bench.worker_with(|ready| ready.services = vec![offer("S07", &["b"]), offer("S99", &["c"])]);
    bench.run(OFFERS_PAUSE);
    let both = [offer("S07", &["a"]), offer("S07", &["b"])].into_iter().flat_map(|service| service.methods);
    let both = ServiceOffer { methods: both.collect(), ..offer("S07", &[]) };
    let change = OfferChange { changed: vec![both, offer("S99", &["c"])], withdrawn: vec![] };
    assert_eq!(bench.take_news(client), [Message::Offer(change)]);
    bench.drop_wire(worker);
    bench.run(OFFERS_PAUSE);
    let change = OfferChange { changed: vec![offer("S07", &["a"])], withdrawn: vec!["S99".into()] };
    assert_eq!(bench.take_news(client), [Message::Offer(change)]);
    assert_eq!(shapes(&mut bench, older), ["READY 20", "READY 21", "READY 20"]);
}

#[test]
fn change_that_is_undone_within_a_pause_is_not_announced() {
    let mut bench = Bench::new();
    let client = bench.client_with(reads_changes);
    bench.worker();
    let other = bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
    bench.drop_wire(other);
    bench.run(2 * OFFERS_PAUSE);
    assert_eq!(shapes(&mut bench, client), ["READY 0", "OFFER +1 -0"]);
}

#[test]
fn answer_to_an_introduction_has_all_services() {
    let mut bench = Bench::new();
    bench.worker();
    let client = bench.client_with(reads_changes);
    bench.take(client);
    bench.send_as(client, Message::Ready(client_ready()));
    assert_eq!(shapes(&mut bench, client), ["READY 1"]);
    // It may have lost the capability, too.
    bench.send_as(client, Message::Ready(Ready { capabilities: Capabilities::default(), ..client_ready() }));
    bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
    bench.run(OFFERS_PAUSE);
    assert_eq!(shapes(&mut bench, client), ["READY 1", "READY 2"]);
}

#[test]
fn client_that_has_missed_more_changes_than_there_are_services_gets_all_of_them() {
    for missed in [1, 2, 3] {
        let mut bench = Bench::new();
        bench.worker_with(|ready| ready.services = vec![offer("A", &["one", "two"]), offer("B", &["three", "four"])]);
        let client = bench.client_with(|ready| {
            reads_changes(ready);
            ready.window_bytes = 1;
        });
        // Fills the window.
        announce(&mut bench, "First");
        assert_eq!(shapes(&mut bench, client), ["READY 2", "OFFER +1 -0"]);
        for number in 0..missed {
            announce(&mut bench, &format!("N{number}"));
        }
        assert_eq!(shapes(&mut bench, client), Vec::<String>::new());
        bench.send_as(client, Message::Ack(u64::MAX));
        let expected = format!("OFFER +{missed} -0");
        assert_eq!(shapes(&mut bench, client), [expected], "{missed}");
    }
    let mut bench = Bench::new();
    bench.worker();
    let client = bench.client_with(|ready| {
        reads_changes(ready);
        ready.window_bytes = 1;
    });
    announce(&mut bench, "First");
    bench.take(client);
    for number in 0..3 {
        let worker = announce(&mut bench, &format!("N{number}"));
        bench.drop_wire(worker);
        bench.run(OFFERS_PAUSE);
    }
    bench.send_as(client, Message::Ack(u64::MAX));
    assert_eq!(shapes(&mut bench, client), ["READY 2"]);
}

#[test]
fn longer_change_is_sent_as_an_introduction() {
    let mut bench = Bench::new();
    bench.worker();
    let names = (0..20).map(|number| format!("A service of many letters {number}"));
    let worker = bench.worker_with(|ready| ready.services = names.map(|name| offer(&name, &["ping"])).collect());
    let client = bench.client_with(reads_changes);
    bench.drop_wire(worker);
    bench.run(OFFERS_PAUSE);
    assert_eq!(shapes(&mut bench, client), ["READY 21", "READY 1"]);
}

#[test]
fn changes_count_in_the_window_and_wait_for_room() {
    let mut bench = Bench::new();
    let change = |name: &str| OfferChange { changed: vec![offer(name, &["ping"])], withdrawn: vec![] };
    let bytes = window_bytes(&Message::Offer(change("A")));
    let client = bench.client_with(|ready| {
        reads_changes(ready);
        ready.window_bytes = bytes + 1;
    });
    bench.take(client);
    for name in ["A", "B"] {
        announce(&mut bench, name);
    }
    assert_eq!(shapes(&mut bench, client), ["OFFER +1 -0"; 2]);
    announce(&mut bench, "C");
    assert_eq!(shapes(&mut bench, client), Vec::<String>::new());
    bench.send_as(client, Message::Ack(bytes));
    assert_eq!(bench.take_news(client), [Message::Offer(change("C"))]);
}

/// Clients of every kind have the same offer in the end: those that read OFFER and those that do not, with windows that
/// are full now and then.
#[test]
fn changes_add_up_to_the_offer_of_a_new_client() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new();
        let mut clients = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..60 {
            match random.u8(0..8) {
                0 if clients.len() < 6 => {
                    let window_bytes = [0, 1, 400][random.usize(0..3)];
                    let capabilities = [Capabilities::OFFERS, Capabilities::default()][random.usize(0..2)];
                    let shape =
                        |ready: &mut Ready| (ready.window_bytes, ready.capabilities) = (window_bytes, capabilities);
                    clients.push((bench.client_with(shape), Vec::new()));
                }
                1..4 => {
                    let names: Vec<_> = (0..random.u8(0..4)).map(|_| format!("S{}", random.u8(0..9))).collect();
                    let services = names.iter().map(|name| offer(name, &[["a"], ["b"]][random.usize(0..2)])).collect();
                    workers.push(bench.worker_with(|ready| ready.services = services));
                }
                4 if !workers.is_empty() => bench.drop_wire(workers.swap_remove(random.usize(0..workers.len()))),
                5 if !clients.is_empty() => {
                    let place = random.usize(0..clients.len());
                    bench.send_as(clients[place].0, Message::Ack(u64::MAX));
                }
                6 if !clients.is_empty() => {
                    // Its error brings the offer along.
                    let place = random.usize(0..clients.len());
                    let service = format!("S{}", random.u8(0..9));
                    let call = 1 + random.u64(..1 << 40);
                    bench.request_with(clients[place].0, call, "none", |request| request.service = service.into());
                }
                _ => bench.run(ms(random.u64(0..150))),
            }
            clients.iter_mut().for_each(|(client, services)| follow(&mut bench, *client, services));
        }
        // An announcement may wait for the window twice.
        for _ in 0..2 {
            bench.run(OFFERS_PAUSE);
            clients.iter().for_each(|(client, _)| bench.send_as(*client, Message::Ack(u64::MAX)));
        }
        let mut expected = Vec::new();
        let newcomer = bench.client();
        follow(&mut bench, newcomer, &mut expected);
        for (client, services) in &mut clients {
            follow(&mut bench, *client, services);
            assert_eq!(*services, expected, "seed {seed}: {client:?}");
        }
    }
}

#[test]
fn worker_may_change_its_offer() {
    let mut bench = Bench::new();
    let worker = bench.worker_with(|ready| {
        ready.services = vec![offer("Demo", &["hold"]), offer("Gone", &["ping"]), offer("Kept", &["ping"])];
    });
    let client = bench.client_with(reads_changes);
    bench.take(client);
    bench.request(client, 1, "ping");
    assert_eq!(bench.errors(client), [(1, ErrorCode::UnknownMethod, false)]);
    let changed = vec![offer("Demo", &["hold", "ping"]), offer("New", &["ping"])];
    bench.send_as(worker, Message::Offer(OfferChange { changed, withdrawn: vec!["Gone".into(), "Never".into()] }));
    assert_eq!(shapes(&mut bench, client), ["OFFER +2 -1"]);
    bench.request(client, 2, "ping");
    bench.request_with(client, 3, "ping", |request| request.service = "New".into());
    assert_eq!(bench.requests(worker).len(), 2);
    bench.request_with(client, 4, "ping", |request| request.service = "Gone".into());
    assert_eq!(bench.errors(client), [(4, ErrorCode::NoWorker, false)]);
}

#[test]
fn waiting_call_goes_to_a_worker_that_offers_its_method_by_a_change() {
    let mut bench = Bench::new();
    let busy = bench.worker_with(|ready| ready.credits = 1);
    let free = bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
    let client = bench.client();
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    assert_eq!((bench.requests(busy).len(), bench.requests(free).len()), (1, 0));
    let changed = vec![offer("Demo", &["hold"])];
    bench.send_as(free, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
    assert_eq!(bench.requests(free).len(), 1);
}

#[test]
fn flood_of_changes_is_made_a_few_at_a_time() {
    for is_change in [false, true] {
        let mut bench = Bench::with(|config| config.dispatcher.window_bytes = 0);
        let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        let methods: Vec<_> = names.iter().map(|name| &**name).collect();
        let large: Vec<_> = (0..20).map(|number| offer(&format!("S{number:02}"), &methods)).collect();
        let worker = bench.worker_with(|ready| ready.services = large.clone());
        bench.outputs.clear();
        for version in 2..=1_000 {
            let last = ServiceOffer { version, ..offer("S99", &[]) };
            bench.send_as(
                worker,
                match is_change {
                    true => Message::Offer(OfferChange { changed: vec![last], withdrawn: vec![] }),
                    false => {
                        let services = large.iter().cloned().chain([last]).collect();
                        Message::Ready(Ready { services, ..introduction() })
                    }
                },
            );
        }
        let is_made = |output: &&BrokerOutput| matches!(output, BrokerOutput::WorkerJoined(_));
        let made = bench.outputs.iter().filter(is_made).count();
        assert!((1..=8).contains(&made), "{made} of 1,000 changes of 2,000 methods at one instant");
        bench.run(ms(100));
        let made = bench.outputs.iter().filter(is_made).count();
        assert!((2..=10).contains(&made), "{made}");
        let client = bench.client();
        let sent = bench.take_news(client);
        let [Message::Ready(ready)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(ready.services.last().map(|service| service.version), Some(1_000), "the last one counts");
    }
}

#[test]
fn change_beyond_the_limits_of_an_introduction_ends_the_connection() {
    let mut bench = Bench::with(|config| config.dispatcher.limits.services_max = 2);
    let worker = bench.worker();
    bench.take(worker);
    let changed = vec![offer("A", &["ping"]), offer("B", &["ping"])];
    bench.send_as(worker, Message::Offer(OfferChange { changed: changed.clone(), withdrawn: vec![] }));
    let [Message::Error(error)] = &bench.take_news(worker)[..] else { panic!("not an error") };
    let detail = "service count of 3 is over the limit of 2 (raise it with `services_max`)";
    assert_eq!((error.code, error.call.0, &*error.detail), (ErrorCode::Malformed, 0, detail));
    assert!(bench.is_gone(worker));
    // The same services fit once the former ones are gone.
    let worker = bench.worker();
    bench.take(worker);
    bench.send_as(worker, Message::Offer(OfferChange { changed, withdrawn: vec!["Demo".into()] }));
    assert!(!bench.is_gone(worker) && bench.take_news(worker).is_empty());
}

#[test]
fn request_never_follows_an_offer_that_its_worker_has_changed() {
    let (now, mut dispatcher) = indebted();
    let with = |idempotent| {
        let method = MethodOffer { name: "pay".into(), idempotent, fingerprint: 1 };
        ServiceOffer { name: "Bank".into(), version: 1, methods: vec![method] }
    };
    dispatcher.handle_message(now, Peer(1), ready_of(1, 8, vec![with(true)]));
    dispatcher.handle_message(now, Peer(1), change(vec![with(false)], &[]));
    dispatcher.call(now, CallId(1), CallSpec { service: "Bank".into(), ..spec(now, "pay") });
    assert_eq!(requests(&mut dispatcher), [], "the change waits, and the call with it");
    assert_eq!(pass(&mut dispatcher, now, ms(500)), [(1, 1, false)]);
    let (now, mut dispatcher) = indebted();
    // The same after READY: with a lower limit, or without the service.
    for (worker, ready) in [(1, introduction()), (2, introduction())] {
        dispatcher.handle_message(now, Peer(worker), Message::Ready(Ready { incarnation: id(worker), ..ready }));
    }
    let lower = Ready { incarnation: id(1), payload_bytes_max: 1_000, ..introduction() };
    dispatcher.handle_message(now, Peer(1), Message::Ready(lower));
    dispatcher.call(now, CallId(1), CallSpec { payload: value(&"x".repeat(2_000)), ..spec(now, "hold") });
    assert_eq!(requests(&mut dispatcher), [(2, 1, false)]);
}

#[test]
fn introduction_counts_as_a_whole_or_not_yet() {
    let (now, mut dispatcher) = indebted();
    dispatcher.handle_message(now, Peer(1), ready_of(1, 0, vec![offer("Former", &["a"])]));
    dispatcher.handle_message(now, Peer(1), ready_of(1, 8, vec![offer("New", &["a"])]));
    dispatcher.handle_message(now, Peer(1), Message::Credit(8));
    let names = |dispatcher: &Dispatcher| {
        let names = dispatcher.services().filter(|name| !name.starts_with("Large")).map(ToString::to_string);
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&dispatcher), [""; 0], "it grants no credit to the former offer");
    pass(&mut dispatcher, now, ms(500));
    assert_eq!(names(&dispatcher), ["New"]);
}

#[test]
fn call_goes_elsewhere_when_its_worker_has_withdrawn_the_service_meanwhile() {
    for code in [ErrorCode::UnknownService, ErrorCode::UnknownMethod] {
        for is_late in [false, true] {
            let (now, mut dispatcher) = match is_late {
                true => indebted(),
                false => (start(), Dispatcher::new(DispatcherConfig::default())),
            };
            dispatcher.handle_message(now, Peer(1), ready_of(1, 8, introduction().services));
            dispatcher.call(now, CallId(1), spec(now, "hold"));
            dispatcher.handle_message(now, Peer(2), ready_of(2, 8, introduction().services));
            assert_eq!(requests(&mut dispatcher), [(1, 1, false)]);
            // The request crosses the change.
            dispatcher.handle_message(now, Peer(1), change(vec![], &["Demo"]));
            dispatcher.handle_message(now, Peer(1), error_reply(CallId(1), code, false));
            assert_eq!(pass(&mut dispatcher, now, ms(500)), [(2, 1, false)], "{code:?}, {is_late}");
        }
    }
}

#[test]
fn call_goes_elsewhere_when_its_draining_worker_has_withdrawn_the_service() {
    for drains in [false, true] {
        let (now, mut dispatcher) = (start(), Dispatcher::new(DispatcherConfig::default()));
        dispatcher.handle_message(now, Peer(1), ready_of(1, 8, introduction().services));
        dispatcher.call(now, CallId(1), spec(now, "hold"));
        dispatcher.handle_message(now, Peer(2), ready_of(2, 8, introduction().services));
        assert_eq!(requests(&mut dispatcher), [(1, 1, false)]);
        if drains {
            dispatcher.handle_message(now, Peer(1), Message::Drain);
        }
        dispatcher.handle_message(now, Peer(1), error_reply(CallId(1), ErrorCode::UnknownMethod, false));
        assert_eq!(pass(&mut dispatcher, now, ms(500)), [(2, 1, false)], "drains: {drains}");
    }
}

#[test]
fn errors_make_no_change_before_its_turn() {
    let (now, mut dispatcher) = indebted();
    dispatcher.handle_message(now, Peer(1), ready_of(1, 2_000, vec![offer("Demo", &["hold"]), large("Other", 1)]));
    (1..=100).for_each(|call| dispatcher.call(now, CallId(call), spec(now, "hold")));
    joined(&mut dispatcher);
    for call in 1..=100 {
        let version = 1 + u32::try_from(call).expect("it is small");
        dispatcher.handle_message(now, Peer(1), change(vec![large("Other", version)], &[]));
        dispatcher.handle_message(now, Peer(1), error_reply(CallId(call), ErrorCode::UnknownMethod, false));
    }
    assert_eq!(joined(&mut dispatcher), 0);
    dispatcher.handle_message(now, Peer(2), ready_of(2, 8, vec![offer("Honest", &["a"])]));
    dispatcher.handle_message(now, Peer(2), change(vec![offer("New", &["a"])], &["Honest"]));
    pass(&mut dispatcher, now, ms(500));
    assert!(dispatcher.services().any(|name| name == "New"), "an honest change waits only for its turn");
}

#[test]
fn changes_within_the_limits_are_never_too_many() {
    let (now, mut dispatcher) = indebted();
    let names = |round: usize| (0..200).map(|number| format!("S{round}-{number}")).collect::<Vec<_>>();
    let services = |round| names(round).iter().map(|name| offer(name, &["a"])).collect::<Vec<_>>();
    dispatcher.handle_message(now, Peer(1), ready_of(1, 8, services(0)));
    for round in 1..10 {
        let gone = names(round - 1);
        let gone: Vec<_> = gone.iter().map(|name| &**name).collect();
        dispatcher.handle_message(now, Peer(1), change(services(round), &gone));
    }
    let left =
        std::iter::from_fn(|| dispatcher.poll_output()).filter(|output| matches!(output, Output::WorkerLeft(..)));
    assert_eq!(left.count(), 0);
}

#[test]
fn changes_that_wait_are_bounded() {
    for is_wide in [false, true] {
        let mut bench = Bench::with(|config| {
            config.dispatcher.window_bytes = 0;
            config.dispatcher.limits.header_bytes_max = 1 << 20;
        });
        let methods: Vec<_> = (0..2_000).map(|number| number.to_string()).collect();
        let methods: Vec<_> = methods.iter().map(|name| &**name).collect();
        let worker = bench.worker();
        // Expensive ones, so that the others wait.
        for version in 1..=20 {
            let changed = vec![ServiceOffer { version, ..offer("Large", &methods) }];
            bench.send_as(worker, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
        }
        let sent = (0..1_000).take_while(|number| {
            let own = if is_wide { &methods[..1_000] } else { &[] };
            let changed = vec![offer(&number.to_string(), own)];
            bench.send_as(worker, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
            !bench.is_gone(worker)
        });
        let sent = sent.count();
        assert!(if is_wide { sent < 9 } else { sent < 2 * 256 }, "{sent} changes wait");
    }
}

#[test]
fn changes_that_wait_take_no_more_than_the_memory_of_offers() {
    let (now, mut dispatcher) = indebted_within(10 << 20);
    let is_kept = |dispatcher: &mut Dispatcher, worker| {
        dispatcher.handle_message(now, Peer(worker), ready_of(worker, 8, vec![offer("Tiny", &["a"])]));
        dispatcher.handle_message(now, Peer(worker), change(vec![large(&format!("W{worker}"), 1)], &[]));
        std::iter::from_fn(|| dispatcher.poll_output()).all(|output| !matches!(output, Output::Disconnect(_)))
    };
    let kept: Vec<_> = (1..=6).map(|worker| is_kept(&mut dispatcher, worker)).collect();
    assert_eq!(kept, [true, true, true, true, true, false], "each takes 2 MiB");
    // An introduction that changes nothing needs no room.
    dispatcher.handle_message(now, Peer(7), ready_of(7, 8, vec![offer("Tiny", &["a"])]));
    dispatcher.handle_message(now, Peer(7), ready_of(7, 4, vec![offer("Tiny", &["a"])]));
    let outputs = std::iter::from_fn(|| dispatcher.poll_output());
    assert_eq!(outputs.filter(|output| matches!(output, Output::Disconnect(_))).count(), 0);
}

#[test]
fn change_without_room_in_the_memory_of_offers_ends_the_connection() {
    let mut bench = Bench::with(|config| config.dispatcher.offers_bytes_max = 20_000);
    let worker = bench.worker();
    assert!(!bench.is_gone(worker));
    let methods: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let methods: Vec<_> = methods.iter().map(|name| &**name).collect();
    bench.send_as(worker, Message::Offer(OfferChange { changed: vec![offer("A", &methods)], withdrawn: vec![] }));
    assert!(bench.is_gone(worker));
}

#[test]
fn introduction_or_change_that_cannot_be_read_ends_the_connection() {
    for is_change in [false, true] {
        let mut bench = Bench::with(|config| config.dispatcher.limits.methods_max = 3);
        let worker = bench.worker_with(|ready| ready.services = vec![offer("A", &["a"])]);
        bench.take(worker);
        let services = vec![offer("B", &["1", "2", "3", "4"])];
        bench.send_as(
            worker,
            match is_change {
                true => Message::Offer(OfferChange { changed: services, withdrawn: vec![] }),
                false => Message::Ready(Ready { services, ..introduction() }),
            },
        );
        let [Message::Error(error)] = &bench.take_news(worker)[..] else { panic!("not an error") };
        assert!(error.detail.contains("method count of 4 is over the limit of 3"), "{}", error.detail);
        assert!(bench.is_gone(worker), "what it offers is no longer known");
    }
}

#[test]
fn change_is_acknowledged_at_once_although_a_waiting_call_ends_by_it() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 1_000;
        config.hold_limits.peer_bytes_max = 1;
    });
    let worker = bench.worker_with(|ready| ready.credits = 1);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    bench.take(worker);
    let long = offer(&"N".repeat(250), &[]);
    bench.send_as(worker, Message::Offer(OfferChange { changed: vec![long], withdrawn: vec!["Demo".into()] }));
    assert!(bench.take(worker).iter().any(|message| matches!(message, Message::Ack(_))));
}

#[test]
fn change_without_an_introduction_ends_the_connection() {
    let mut bench = Bench::new();
    let stranger = bench.open(Door::Back);
    bench.send_as(stranger, Message::Offer(OfferChange::default()));
    assert!(bench.is_gone(stranger));
}

#[test]
fn change_from_a_client_is_dropped_and_counted() {
    let mut bench = Bench::new();
    let client = bench.client();
    bench.take(client);
    let changed = vec![offer("Mine", &["ping"])];
    bench.send_as(client, Message::Offer(OfferChange { changed, withdrawn: vec![] }));
    assert_eq!((bench.broker.counters().unexpected_messages, bench.take(client)), (1, vec![]));
    assert!(!bench.is_gone(client));
}

/// What was sent to a client about services: how many READY has, or OFFER adds and removes.
fn shapes(bench: &mut Bench, client: Wire) -> Vec<String> {
    let shape = |message| match message {
        Message::Ready(ready) => Some(format!("READY {}", ready.services.len())),
        Message::Offer(change) => Some(format!("OFFER +{} -{}", change.changed.len(), change.withdrawn.len())),
        _ => None,
    };
    bench.take(client).into_iter().filter_map(shape).collect()
}

/// Reads what was sent to a client about services, in its own way.
fn follow(bench: &mut Bench, client: Wire, services: &mut Vec<ServiceOffer>) {
    for message in bench.take(client) {
        match message {
            Message::Ready(ready) => *services = ready.services,
            Message::Offer(change) => {
                let is_listed = |service: &ServiceOffer| {
                    change.withdrawn.contains(&service.name) || change.changed.iter().any(|it| it.name == service.name)
                };
                services.retain(|service| !is_listed(service));
                services.extend(change.changed);
                services.sort_by(|one, other| one.name.cmp(&other.name));
            }
            _ => {}
        }
    }
}

/// A worker with one service, which the clients learn of.
fn announce(bench: &mut Bench, service: &str) -> Wire {
    let worker = bench.worker_with(|ready| ready.services = vec![offer(service, &["ping"])]);
    bench.run(OFFERS_PAUSE);
    worker
}

fn reads_changes(ready: &mut Ready) {
    ready.capabilities = Capabilities::OFFERS;
}

fn client_ready() -> Ready {
    let mut ready = introduction();
    (ready.role, ready.credits, ready.services) = (Role::Client, 0, Vec::new());
    reads_changes(&mut ready);
    ready
}

/// A dispatcher whose next changes wait: a worker, peer 100, has caused many.
fn indebted() -> (Instant, Dispatcher) {
    indebted_within(DispatcherConfig::default().offers_bytes_max)
}

fn indebted_within(offers_bytes_max: u64) -> (Instant, Dispatcher) {
    let now = start();
    let config = DispatcherConfig { window_bytes: 0, offers_bytes_max, ..DispatcherConfig::default() };
    let mut dispatcher = Dispatcher::new(config);
    dispatcher.handle_message(now, Peer(100), ready_of(100, 8, vec![large("Large", 0)]));
    for version in 1..20 {
        dispatcher.handle_message(now, Peer(100), change(vec![large("Large", version)], &[]));
    }
    (now, dispatcher)
}

fn large(name: &str, version: u32) -> ServiceOffer {
    let names: Vec<_> = (0..2_000).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(|name| &**name).collect();
    ServiceOffer { version, ..offer(name, &names) }
}

fn change(changed: Vec<ServiceOffer>, withdrawn: &[&str]) -> Message {
    Message::Offer(OfferChange { changed, withdrawn: withdrawn.iter().map(|name| (*name).into()).collect() })
}

fn ready_of(worker: u64, credits: u32, services: Vec<ServiceOffer>) -> Message {
    Message::Ready(Ready { incarnation: id(worker), credits, services, ..introduction() })
}

fn id(worker: u64) -> Uuid {
    Uuid::from_u64_pair(9, worker)
}

/// The requests that leave: to whom, of which call, and whether it may run twice.
fn requests(dispatcher: &mut Dispatcher) -> Vec<(u64, u64, bool)> {
    let transmits = std::iter::from_fn(|| dispatcher.poll_transmit());
    let sent = transmits.flat_map(|transmit| transmit.messages.into_iter().map(move |message| (transmit.to, message)));
    let request = |(to, message): (Peer, Message)| match message {
        Message::Request(request) => Some((to.0, request.call.0, request.idempotent)),
        _ => None,
    };
    sent.filter_map(request).collect()
}

/// The number of workers that have joined, or changed what they offer.
fn joined(dispatcher: &mut Dispatcher) -> usize {
    std::iter::from_fn(|| dispatcher.poll_output()).filter(|output| matches!(output, Output::WorkerJoined(_))).count()
}

/// Lets time pass, in which all due timeouts are handled. Returns the requests that leave meanwhile.
fn pass(dispatcher: &mut Dispatcher, now: Instant, time: Duration) -> Vec<(u64, u64, bool)> {
    let (mut sent, mut at) = (requests(dispatcher), now);
    while let Some(due) = dispatcher.poll_timeout().filter(|due| *due <= now + time) {
        at = at.max(due);
        dispatcher.handle_timeout(at);
        sent.extend(requests(dispatcher));
    }
    sent
}
