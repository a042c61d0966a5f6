//! The index of workers and waiting calls: which worker may have a call, which calls end at once, and that no peer pays
//! for another (`PROTOCOL.md` §8).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use uuid::Uuid;

use super::{
    bench::Bench,
    network::Net,
    node::offer,
    pair::{D, INTERVAL, W, error_reply, final_reply, introduction, ms, spec, start},
};
use crate::proto::{
    calls::{CallFailure, CallSpec, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{CallId, Codec, ErrorCode, Message, MethodOffer, Payload, Peer, Ready, Request, Role, ServiceOffer},
    registry::{Candidate, WorkerChoice},
};

#[test]
fn retry_of_a_maybe_executed_call_goes_only_to_a_worker_that_declares_it_idempotent() {
    // The only other worker does not declare it: the call is over.
    let (mut net, d, first) = declaring_worker();
    let other = net.puppet_with(d, |ready| ready.services = vec![declared("hold", false)]);
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.kill_worker(first);
    net.run(ms(5));
    assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
    assert!(requests_to(&net, other).is_empty(), "it runs twice though it is not idempotent there");

    // One declares it; the other does not, and would be next.
    let (mut net, d, first) = declaring_worker();
    let other = net.puppet_with(d, |ready| ready.services = vec![declared("hold", false)]);
    let like = net.puppet_with(d, |ready| ready.services = vec![declared("hold", true)]);
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.kill_worker(first);
    net.run(ms(5));
    let again = requests_to(&net, like);
    assert_eq!((requests_to(&net, other).len(), again.len(), again[0].attempt), (0, 1, 2));
    assert!(again[0].idempotent, "it carries the word on which it was sent again");
    net.send_as(like, final_reply(call, "done"));
    net.run(ms(5));
    assert_eq!(net.value(call), "done");
}

#[test]
fn broker_follows_its_workers_declarations_unless_the_caller_decides() {
    for as_declared in [true, false] {
        let mut bench = Bench::new();
        let first = bench.worker_with(|ready| ready.services = vec![declared("hold", true)]);
        let client = bench.client();
        bench.request_with(client, 1, "hold", |it| (it.idempotent, it.as_declared) = (true, as_declared));
        let other = bench.worker_with(|ready| ready.services = vec![declared("hold", false)]);
        bench.take(client);
        bench.drop_wire(first);
        let again = bench.requests(other);
        match as_declared {
            // The client knows by now that not all declare it, and that it may have run.
            true => assert_eq!((again, bench.errors(client)), (vec![], vec![(1, ErrorCode::NoWorker, true)])),
            false => assert_eq!((again.len(), bench.errors(client)), (1, vec![])),
        }
    }
}

#[test]
fn request_says_whose_declaration_it_follows() {
    let (mut net, d, w) = declaring_worker();
    for said in [None, Some(true), Some(false)] {
        net.call_with(d, "hold", |spec| spec.idempotent = said);
    }
    net.run(ms(5));
    let flags = net.sent_to(w).filter_map(|sent| match &sent.message {
        Message::Request(request) => Some((request.idempotent, request.as_declared)),
        _ => None,
    });
    assert_eq!(flags.collect::<Vec<_>>(), [(true, true), (true, false), (false, false)]);
}

#[test]
fn unstarted_request_carries_the_declaration_of_its_next_worker() {
    let (mut net, d, _) = declaring_worker();
    let refusing = net.puppet_with(d, |ready| ready.services = vec![declared("once", true)]);
    let other = net.puppet_with(d, |ready| ready.services = vec![declared("once", false)]);
    let call = net.call(d, "once");
    net.run(ms(5));
    assert!(requests_to(&net, refusing)[0].idempotent);
    net.send_as(refusing, error_reply(call, ErrorCode::Refused, false));
    net.run(ms(5));
    assert!(!requests_to(&net, other)[0].idempotent, "it is asked for the first time");
}

#[test]
fn waiting_call_ends_at_once_when_the_last_worker_with_its_method_leaves() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let with = net.worker_with(&[d], |config| (config.credits, config.services) = (1, vec![offer("Demo", &["hold"])]));
    net.worker_with(&[d], |config| config.services = vec![offer("Demo", &["ping"])]);
    net.connect();
    net.call(d, "hold");
    let waiting = net.call(d, "hold");
    net.run(ms(5));
    net.kill_worker(with);
    net.run(ms(5));
    assert!(net.has_ended(waiting), "no worker can take it");
    assert!(matches!(net.failure(waiting), CallFailure::UnknownMethod { offered } if offered.len() == 1));
}

#[test]
fn waiting_call_goes_to_another_signature_when_the_last_fitting_worker_leaves() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let fitting = net.puppet(d, 1);
    let other = net.puppet_with(d, |ready| {
        ready.services[0].methods.iter_mut().for_each(|method| method.fingerprint += 100);
    });
    let calls = [(); 2].map(|()| net.call_with(d, "hold", |spec| spec.fingerprint = 5));
    net.run(ms(5));
    assert_eq!(requests_to(&net, other).len(), 0, "it waits for the one that fits");
    net.send_as(fitting, Message::Goodbye);
    net.run(ms(5));
    assert_eq!(requests_to(&net, fitting).len(), 1);
    let sent: Vec<_> = requests_to(&net, other).iter().map(|request| request.call).collect();
    assert_eq!(sent, [calls[1]], "which says in its error what it has");
}

#[test]
fn broker_returns_a_waiting_call_when_its_method_is_gone() {
    let mut bench = Bench::new();
    let client = bench.client();
    let with = bench.worker_with(|ready| (ready.credits, ready.services) = (1, vec![offer("Demo", &["hold"])]));
    bench.worker_with(|ready| ready.services = vec![offer("Demo", &["ping"])]);
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    bench.take(client);
    bench.send_as(with, Message::Drain);
    let sent = bench.take(client);
    let [Message::Ready(ready), Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(ready.services.iter().flat_map(|service| &service.methods).count(), 1, "the client knows first");
    assert_eq!((error.call, error.code, error.maybe_executed), (CallId(2), ErrorCode::NoWorker, false));
}

#[test]
fn client_tries_another_broker_when_the_method_is_gone_from_the_first() {
    let now = start();
    let mut client = Dispatcher::dialing(now, DispatcherConfig::default(), 2);
    for peer in [0, 1].map(Peer) {
        client.handle_dialed(now, peer);
        client.handle_message(now, peer, broker_ready(vec![offer("Demo", &["hold"])]));
    }
    while client.poll_transmit().is_some() {}
    client.call(now, CallId(1), spec(now, "hold"));
    let first = client.poll_transmit().expect("a request").to;
    // It crosses the news that the broker has lost the method.
    client.handle_message(now, first, broker_ready(vec![offer("Demo", &["ping"])]));
    client.handle_message(now, first, error_reply(CallId(1), ErrorCode::UnknownMethod, false));
    client.handle_timeout(now + INTERVAL / 2);
    let second = client.poll_transmit().expect("another attempt").to;
    assert_ne!(first, second);
}

#[test]
fn heartbeats_go_out_between_any_number_of_calls_that_expire_together() {
    const CALLS: u64 = 10_000;
    let now = start();
    let mut dispatcher = Dispatcher::new(DispatcherConfig { waiting_max: usize::MAX, ..DispatcherConfig::default() });
    dispatcher.handle_message(now, Peer(1), Message::Ready(introduction()));
    for call in 0..CALLS {
        let mut spec = spec(now, "hold");
        (spec.service, spec.deadline) = ("Absent".into(), now + INTERVAL);
        dispatcher.call(now, CallId(call), spec);
    }
    while dispatcher.poll_transmit().is_some() {}
    let later = now + INTERVAL;
    let mut passes = 0;
    let mut ended = 0;
    while dispatcher.poll_timeout().is_some_and(|at| at <= later) {
        dispatcher.handle_timeout(later);
        let heartbeats = std::iter::from_fn(|| dispatcher.poll_transmit()).flat_map(|transmit| transmit.messages);
        let heartbeats = heartbeats.filter(|message| *message == Message::Heartbeat).count();
        assert_eq!(heartbeats, usize::from(passes == 0), "peers come first");
        let in_pass = std::iter::from_fn(|| dispatcher.poll_output())
            .filter(|output| matches!(output, Output::Ended(..)))
            .count() as u64;
        assert!(in_pass < CALLS / 4, "one pass ends {in_pass} calls, and nothing is sent meanwhile");
        (passes, ended) = (passes + 1, ended + in_pass);
    }
    assert_eq!(ended, CALLS);
}

#[test]
fn reply_ends_few_of_the_expired_calls_behind_it_and_the_worker_gets_the_next_live_one() {
    const CALLS: u64 = 5_000;
    let (now, later) = (start(), start() + INTERVAL);
    let mut dispatcher = Dispatcher::new(DispatcherConfig { waiting_max: usize::MAX, ..DispatcherConfig::default() });
    dispatcher.handle_message(now, Peer(1), Message::Ready(Ready { credits: 1, ..introduction() }));
    for call in 0..CALLS {
        let spec = CallSpec { deadline: later, ..spec(now, "hold") };
        dispatcher.call(now, CallId(call), spec);
    }
    dispatcher.call(now, CallId(CALLS), CallSpec { deadline: later + INTERVAL, ..spec(now, "hold") });
    while dispatcher.poll_transmit().is_some() {}
    // The thread was held up, and reads the reply before its timers.
    dispatcher.handle_message(later, Peer(1), final_reply(CallId(0), "done"));
    let mut ended =
        || std::iter::from_fn(|| dispatcher.poll_output()).filter(|it| matches!(it, Output::Ended(..))).count();
    assert!(ended() < 100, "one message ends all the calls that have expired");
    while dispatcher.poll_timeout().is_some_and(|at| at <= later) {
        dispatcher.handle_timeout(later);
    }
    let requests = std::iter::from_fn(|| dispatcher.poll_transmit()).flat_map(|transmit| transmit.messages);
    let requests: Vec<_> = requests.filter_map(|message| message.request()).collect();
    assert_eq!(requests, [CallId(CALLS)]);
}

#[test]
fn calls_that_fail_together_share_the_list_of_offers() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.worker(&[d]);
    net.connect();
    let calls = [(); 2].map(|()| {
        net.call_with(d, "ping", |spec| (spec.service, spec.wait_policy) = ("Absent".into(), WaitPolicy::Never))
    });
    let [CallFailure::NoWorker { offered: one, .. }, CallFailure::NoWorker { offered: other, .. }] =
        calls.map(|call| net.failure(call).clone())
    else {
        panic!("there is no such service")
    };
    assert!(Arc::ptr_eq(&one, &other));
}

/// Scanning all workers' methods with each introduction would keep this test busy for minutes.
#[test]
fn introduction_costs_its_own_size_at_a_broker_with_a_thousand_workers() {
    let names: Vec<_> = (0..500).map(|number| format!("method-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new();
    let workers: Vec<_> =
        (0..1_000).map(|_| bench.worker_with(|ready| ready.services = vec![offer("Demo", &names)])).collect();
    let repeated = Ready { services: vec![offer("Demo", &names)], ..introduction() };
    (0..100).for_each(|_| bench.send_as(workers[7], Message::Ready(repeated.clone())));
    assert!(!bench.is_gone(workers[7]));
}

/// Chooses the first candidate, and counts how often it is asked.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicUsize>);

impl WorkerChoice for Counting {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        self.0.fetch_add(1, Ordering::Relaxed);
        candidates.next().map(|candidate| candidate.peer)
    }
}

#[test]
fn reply_touches_no_call_that_its_worker_cannot_run() {
    let counting = Counting::default();
    let asked = || counting.0.load(Ordering::Relaxed);
    let mut net = Net::new();
    let choice = counting.clone();
    let d = net.dispatcher_with(move |config| (config.waiting_max, config.choice) = (5_000, Box::new(choice.clone())));
    net.worker_with(&[d], |config| (config.credits, config.services) = (1, vec![offer("Demo", &["hold"])]));
    net.worker_with(&[d], |config| config.services = vec![offer("Demo", &["ping"])]);
    net.connect();
    net.call(d, "hold");
    for owner in 0..5_000 {
        net.call_with(d, "hold", |spec| (spec.owner, spec.deadline) = (owner, spec.deadline + 60 * INTERVAL));
    }
    let before = asked();
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!((net.value(call).as_str(), asked() - before), ("pong", 1), "its reply is of no use to the others");
}

#[test]
fn reply_touches_no_large_call_while_the_window_has_no_room() {
    const LINES: u64 = 1_000;
    let counting = Counting::default();
    let now = start();
    let config = DispatcherConfig { choice: Box::new(counting.clone()), ..DispatcherConfig::default() };
    let mut dispatcher = Dispatcher::new(config);
    dispatcher.handle_message(now, Peer(1), Message::Ready(Ready { credits: 8, window_bytes: 1, ..introduction() }));
    let payload = Payload { bytes: vec![0; 10_000].into(), ..Payload::default() };
    let large = CallSpec { payload, ..spec(now, "hold") };
    // The first one fills the window, and the others wait for room, each in a line of its own.
    for call in 0..=LINES {
        dispatcher.call(now, CallId(call), CallSpec { fingerprint: 1 + call, ..large.clone() });
    }
    dispatcher.call(now, CallId(LINES + 1), spec(now, "hold"));
    let before = counting.0.load(Ordering::Relaxed);
    dispatcher.handle_message(now, Peer(1), final_reply(CallId(LINES + 1), "done"));
    assert_eq!(counting.0.load(Ordering::Relaxed) - before, 0, "no large call is tried");
    while dispatcher.poll_transmit().is_some() {}
    dispatcher.handle_message(now, Peer(1), Message::Ack(u64::MAX));
    let requests = std::iter::from_fn(|| dispatcher.poll_transmit()).flat_map(|transmit| transmit.messages);
    assert_eq!(requests.filter_map(|message| message.request()).count(), 1, "there is room for one");
}

/// Chooses one worker whoever the candidates are.
#[derive(Debug)]
struct Stubborn(Peer);

impl WorkerChoice for Stubborn {
    fn choose(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Peer> {
        candidates.next().map(|_| self.0)
    }
}

#[test]
fn choice_outside_the_candidates_is_ignored_and_counted() {
    let now = start();
    let mut dispatcher =
        Dispatcher::new(DispatcherConfig { choice: Box::new(Stubborn(Peer(2))), ..DispatcherConfig::default() });
    for peer in [1, 2, 3] {
        let incarnation = Uuid::from_u64_pair(3, peer);
        dispatcher.handle_message(now, Peer(peer), Message::Ready(Ready { credits: 1, incarnation, ..introduction() }));
    }
    while dispatcher.poll_transmit().is_some() {}
    let call = |dispatcher: &mut Dispatcher, call, bytes| {
        let payload = Payload { bytes: vec![0; bytes].into(), ..Payload::default() };
        dispatcher.call(now, CallId(call), CallSpec { payload, ..spec(now, "hold") });
    };
    call(&mut dispatcher, 1, 1);
    call(&mut dispatcher, 2, 1);
    let in_flight: Vec<_> = dispatcher.workers().map(|worker| worker.in_flight()).collect();
    assert_eq!(in_flight, [0, 1, 0], "its one credit is not exceeded");
    assert_eq!(dispatcher.counters().stray_choices, 1);
    dispatcher.handle_message(now, Peer(2), final_reply(CallId(1), "done"));
    assert!(dispatcher.workers().any(|worker| worker.peer == Peer(2) && worker.in_flight() == 1), "it is one by now");
}

#[test]
fn arguments_go_to_a_worker_that_reads_their_codec_or_fail_at_once() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let reads = |codecs: Vec<Codec>| move |ready: &mut Ready| ready.codecs = codecs;
    let named = net.puppet_with(d, reads(vec![Codec::MessagePack, Codec::Json]));
    let in_codec = |net: &mut Net, codec| net.call_with(d, "hold", |spec| spec.payload.codec = codec);
    let call = in_codec(&mut net, Codec::Bincode);
    let expected = CallFailure::CodecNotRead { codec: Codec::Bincode, read: vec![Codec::MessagePack, Codec::Json] };
    assert_eq!(net.failure(call), &expected);
    let compact = net.puppet_with(d, reads(vec![Codec::Bincode]));
    let calls = [Codec::Bincode, Codec::Json, Codec::Bincode].map(|codec| in_codec(&mut net, codec));
    net.run(ms(5));
    let calls_of = |net: &Net, puppet| requests_to(net, puppet).iter().map(|request| request.call).collect::<Vec<_>>();
    assert_eq!((calls_of(&net, compact), calls_of(&net, named)), (vec![calls[0], calls[2]], vec![calls[1]]));
}

#[test]
fn broker_error_lists_the_codecs_of_a_methods_workers() {
    let mut bench = Bench::new();
    bench.worker_with(|ready| ready.codecs = vec![Codec::MessagePack]);
    let client = bench.client();
    bench.take(client);
    bench.request_with(client, 1, "hold", |request| request.payload.codec = Codec::Json);
    let sent = bench.take(client);
    let [Message::Error(error)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::InvalidArguments, false));
    assert!(error.detail.contains("JSON") && error.detail.contains("MessagePack"), "{}", error.detail);
}

#[test]
fn renewed_introduction_uses_the_room_of_the_former_one() {
    let named = |names: &[&str]| names.iter().map(|name| offer(name, &["ping"])).collect::<Vec<_>>();
    let mut bench = Bench::with(|config| config.dispatcher.limits.services_max = 2);
    let worker = bench.worker_with(|ready| ready.services = named(&["A", "B"]));
    bench.send_as(worker, Message::Ready(Ready { services: named(&["C", "D"]), ..introduction() }));
    let client = bench.client();
    let sent = bench.take_news(client);
    let [Message::Ready(ready)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(ready.services, named(&["C", "D"]), "its former services are not counted beside the new ones");
}

#[test]
fn worker_that_cannot_be_called_does_not_affect_the_merged_offer() {
    let mut bench = Bench::new();
    let loose = bench.worker_with(|ready| ready.services = vec![declared("hold", true)]);
    let strict = bench.worker_with(|ready| {
        (ready.credits, ready.services) = (0, vec![declared("hold", false), offer("Other", &["ping"])]);
    });
    let client = bench.client();
    let sent = |bench: &mut Bench| match bench.take_news(client).pop() {
        Some(Message::Ready(ready)) => ready.services,
        other => panic!("{other:?}"),
    };
    assert_eq!(sent(&mut bench), [declared("hold", true)]);
    bench.send_as(strict, Message::Credit(1));
    assert_eq!(sent(&mut bench), [declared("hold", false), offer("Other", &["ping"])]);
    bench.run(INTERVAL);
    // A pause revokes nothing; a renewed introduction without credits does.
    bench.send_as(strict, Message::Credit(0));
    assert_eq!(bench.take_news(client), []);
    let services = vec![declared("hold", false), offer("Other", &["ping"])];
    bench.send_as(strict, Message::Ready(Ready { credits: 0, services, ..introduction() }));
    assert_eq!(sent(&mut bench), [declared("hold", true)]);
    bench.run(INTERVAL);
    bench.send_as(loose, Message::Drain);
    assert_eq!(sent(&mut bench), []);
}

#[test]
fn first_change_of_the_offer_is_announced_at_once_and_later_ones_are_bundled() {
    let mut bench = Bench::new();
    let clients = [bench.client(), bench.client()];
    clients.iter().for_each(|client| drop(bench.take(*client)));
    let introductions = |bench: &mut Bench| {
        clients.map(|client| bench.take(client).iter().filter(|it| matches!(it, Message::Ready(_))).count())
    };
    bench.worker_with(|ready| ready.services = vec![offer("S0", &["ping"])]);
    assert_eq!(introductions(&mut bench), [1, 1], "the first change at once");
    for number in 1..50 {
        bench.worker_with(|ready| ready.services = vec![offer(&format!("S{number}"), &["ping"])]);
        bench.run(ms(1));
    }
    assert_eq!(introductions(&mut bench), [0, 0]);
    bench.run(INTERVAL);
    assert_eq!(introductions(&mut bench), [1, 1], "the others together");
    let late = bench.worker();
    assert_eq!(introductions(&mut bench), [1, 1], "long after the last");
    bench.drop_wire(late);
    bench.worker();
    bench.run(INTERVAL);
    assert_eq!(introductions(&mut bench), [0, 0], "nothing else is offered than before");
}

fn declared(method: &str, idempotent: bool) -> ServiceOffer {
    let methods = vec![MethodOffer { name: method.into(), idempotent, fingerprint: 1 }];
    ServiceOffer { name: "Demo".into(), version: 1, methods }
}

/// A worker that declares `hold` idempotent.
fn declaring_worker() -> (Net, D, W) {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.services = vec![declared("hold", true)]);
    net.connect();
    (net, d, w)
}

fn broker_ready(services: Vec<ServiceOffer>) -> Message {
    Message::Ready(Ready { role: Role::Dispatcher, services, ..introduction() })
}

/// The requests sent to a puppet.
fn requests_to(net: &Net, puppet: Peer) -> Vec<Request> {
    let requests = net.sent_to_strangers().filter(|sent| sent.peer == puppet).map(|sent| &sent.message);
    requests
        .filter_map(|message| if let Message::Request(request) = message { Some(request.clone()) } else { None })
        .collect()
}
