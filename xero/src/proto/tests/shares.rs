//! The room in a broker's introduction (`PROTOCOL.md` §5): shared fairly between its workers, in any order of arrival.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{
    bench::{Bench, Wire},
    broker_offers::offered,
    node::offer,
    pair::{introduction, ms},
};
use crate::proto::message::{ErrorCode, Message, Ready, ServiceOffer};

#[test]
fn squatters_neither_displace_nor_block_a_worker_within_its_fair_share() {
    for squatters_first in [true, false] {
        let mut bench = Bench::new();
        let client = bench.client();
        let mut real = (!squatters_first).then(|| bench.worker_with(real_worker));
        // As many as a READY holds, with names before and after the real ones.
        for squatter in 0..4 {
            let names =
                (0..256).map(|number| format!("{}-{squatter}-{number}", if number % 2 == 0 { "A" } else { "Z" }));
            bench.worker_with(|ready| ready.services = names.map(|name| offer(&name, &[])).collect());
        }
        let worker = *real.get_or_insert_with(|| bench.worker_with(real_worker));
        bench.run(SETTLED);
        assert_eq!(real_services(&mut bench, client), REAL, "squatters first: {squatters_first}");
        // A restart gives the squatters no second chance.
        bench.drop_wire(worker);
        bench.run(SETTLED);
        bench.worker_with(|ready| ready.services = vec![offer("B-more", &[])]);
        bench.worker_with(real_worker);
        bench.run(SETTLED);
        assert_eq!(real_services(&mut bench, client), REAL, "squatters first: {squatters_first}, restarted");
    }
}

#[test]
fn service_bloated_by_other_workers_keeps_its_own_methods() {
    let mut bench = Bench::with(|config| config.dispatcher.limits.methods_max = 200);
    let client = bench.client();
    for squatter in 0..3 {
        let methods: Vec<_> = (0..200).map(|number| format!("{squatter}-{number}")).collect();
        let methods: Vec<_> = methods.iter().map(|name| &**name).collect();
        bench.worker_with(|ready| ready.services = vec![offer("Users", &methods)]);
    }
    bench.worker_with(real_worker);
    bench.run(SETTLED);
    let services = last_offer(&mut bench, client);
    let users = services.iter().find(|service| &*service.name == "Users").expect("it is offered");
    let real = users.methods.iter().filter(|method| ["hold", "ping", "safe"].contains(&&*method.name));
    assert_eq!((real.count(), services.len()), (3, REAL.len()));
}

#[test]
fn omissions_do_not_depend_on_the_order_of_arrival() {
    let offers = [&["A", "B", "C"][..], &["B", "D"], &["E"], &["F", "G", "H", "I"]];
    let mut seen = Vec::new();
    for first in 0..offers.len() {
        let mut bench = Bench::with(|config| config.dispatcher.limits.services_max = 5);
        let client = bench.client();
        for place in 0..offers.len() {
            bench.worker_with(|ready| ready.services = named(offers[(first + place) % offers.len()]));
        }
        bench.run(SETTLED);
        seen.push(offered(&mut bench, client).pop().expect("an introduction"));
    }
    // The first of each, then the second of each: A, B, E and F are first in some offer.
    assert_eq!(seen, vec![vec!["A", "B", "D", "E", "F"]; offers.len()]);
}

#[test]
fn worker_without_room_in_the_introduction_is_registered_and_called() {
    let mut bench = Bench::with(|config| config.dispatcher.limits.services_max = 1);
    let client = bench.client();
    let first = bench.worker_with(|ready| ready.services = named(&["A"]));
    let second = bench.worker_with(|ready| ready.services = named(&["B"]));
    bench.run(SETTLED);
    assert!(!bench.is_gone(second));
    assert_eq!(offered(&mut bench, client).pop().expect("an introduction"), ["A"]);
    bench.request_with(client, 1, "ping", |request| request.service = "B".into());
    assert_eq!(bench.requests(second).len(), 1, "who asks for it all the same is served");
    bench.drop_wire(first);
    bench.run(SETTLED);
    assert_eq!(offered(&mut bench, client).pop().expect("an introduction"), ["B"], "there is room by now");
    bench.request_with(client, 2, "ping", |request| request.service = "A".into());
    assert_eq!(bench.errors(client), [(2, ErrorCode::NoWorker, false)]);
}

#[test]
fn service_without_room_is_logged_once_with_the_setter_that_makes_room() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let mut bench = Bench::with(|config| config.dispatcher.limits.services_max = 2);
    bench.client();
    bench.worker_with(|ready| ready.services = named(&["A", "B"]));
    assert_eq!(log.warnings(), Vec::<String>::new());
    for _ in 0..3 {
        let other = bench.worker_with(|ready| ready.services = named(&["C"]));
        bench.run(SETTLED);
        bench.drop_wire(other);
        bench.run(SETTLED);
    }
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(["\"B\"", "services_max"].iter().all(|part| warnings[0].contains(part)), "{warnings:?}");
}

#[test]
fn large_offers_are_announced_less_often_and_a_new_service_within_a_second() {
    let mut bench = Bench::new();
    let clients: Vec<_> = (0..400).map(|_| bench.client()).collect();
    let long: Vec<_> = (0..200).map(|number| offer(&format!("{number:0>250}"), &[])).collect();
    bench.worker_with(|ready| ready.services = long.clone());
    bench.run(SETTLED);
    let flapping = bench.worker();
    bench.run(SETTLED);
    clients.iter().for_each(|client| drop(bench.take(*client)));
    for turn in 0..20 {
        let version = turn + 2;
        let services = vec![ServiceOffer { version, ..offer("Flapping", &["ping"]) }];
        bench.send_as(flapping, Message::Ready(Ready { services, ..introduction() }));
        bench.run(ms(100));
    }
    let sent = offered(&mut bench, clients[0]).len();
    assert!((2..=4).contains(&sent), "{sent} announcements of 52 kB to 400 clients within 2 s");
    bench.worker_with(|ready| ready.services = named(&["New"]));
    bench.run(ms(1_000));
    let sent = offered(&mut bench, clients[399]);
    assert!(sent.last().expect("an introduction").contains(&"New".to_owned()));
}

#[test]
fn client_whose_calls_are_returned_gets_each_offer_once() {
    let mut bench = Bench::new();
    let clients = [bench.client(), bench.client()];
    bench.worker();
    let late = bench.worker_with(|ready| ready.services = named(&["Late"]));
    clients.iter().for_each(|client| drop(bench.take(*client)));
    (1..=20).for_each(|call| bench.request_with(clients[0], call, "ping", |request| request.service = "None".into()));
    assert_eq!(clients.map(|client| offered(&mut bench, client).len()), [1, 0]);
    bench.drop_wire(late);
    bench.request_with(clients[0], 21, "ping", |request| request.service = "None".into());
    assert_eq!(clients.map(|client| offered(&mut bench, client).len()), [0, 0], "a second change waits for the pause");
    bench.run(SETTLED);
    assert_eq!(clients.map(|client| offered(&mut bench, client).len()), [1, 1]);
}

/// Three services, as an honest worker may have.
fn real_worker(ready: &mut Ready) {
    ready.services = REAL.map(|name| offer(name, &["hold", "ping", "safe"])).to_vec();
}

fn real_services(bench: &mut Bench, client: Wire) -> Vec<String> {
    let mut services = offered(bench, client).pop().expect("an introduction");
    services.retain(|name| REAL.contains(&&**name));
    services
}

fn last_offer(bench: &mut Bench, client: Wire) -> Vec<ServiceOffer> {
    let ready = bench.take(client).into_iter().filter_map(|message| match message {
        Message::Ready(ready) => Some(ready.services),
        _ => None,
    });
    ready.last().expect("an introduction")
}

fn named(names: &[&str]) -> Vec<ServiceOffer> {
    names.iter().map(|name| offer(name, &["ping"])).collect()
}

/// Keeps the warnings of this thread.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn warnings(&self) -> Vec<String> {
        self.0.lock().expect("nobody has panicked").clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().expect("nobody has panicked").push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

const REAL: [&str; 3] = ["Images", "Mail", "Users"];

/// Longer than any pause between announcements.
const SETTLED: Duration = Duration::from_secs(2);
