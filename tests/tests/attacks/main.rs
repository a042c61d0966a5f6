//! Attacks on whole programs, seen from outside: processor time, memory and descriptors of the attacked process, and
//! the latency of good calls.
//!
//! `XERO_ATTACKS=garbage` makes only the attacks of such a name; `XERO_ATTACKS_SCALE=3` makes all of them with three times
//! the connections, and for longer. With `-- --nocapture`, each prints its figures.

mod side;
mod stage;
mod strikes;

use std::{env, pin::Pin, sync::Arc};

use xero::proto::message::Role;
use xero_tests::{process::Process, scene::run_alone};

use self::{
    side::{Assault, Side},
    stage::{Cast, Stage, attackers, start},
    strikes::Held,
};

#[test]
fn binding_client_withstands_attacks() {
    withstands(async || {
        let caller = start(&["caller", "tcp://127.0.0.1:0"]);
        let endpoint = caller.line("bound ").await;
        let worker = start(&["worker", &endpoint]);
        Cast { victim: 0, caller: 0, side: Side::listening(&endpoint, Role::Worker), processes: vec![caller, worker] }
    });
}

#[test]
fn front_of_a_broker_withstands_attacks() {
    withstands(async || {
        let (processes, [front, _]) = brokered(&[]).await;
        Cast { victim: 0, caller: 2, side: Side::listening(&front, Role::Client), processes }
    });
}

#[test]
fn back_of_a_broker_withstands_attacks() {
    withstands(async || {
        let (processes, [_, back]) = brokered(&[]).await;
        Cast { victim: 0, caller: 2, side: Side::listening(&back, Role::Worker), processes }
    });
}

#[test]
fn connecting_client_withstands_hostile_brokers() {
    withstands(async || {
        let (side, hostile) = Side::dialing(Role::Client).await;
        let (processes, _) = brokered(&hostile).await;
        Cast { victim: 2, caller: 2, side, processes }
    });
}

#[test]
fn worker_withstands_hostile_dispatchers() {
    withstands(async || {
        let (side, hostile) = Side::dialing(Role::Worker).await;
        let caller = start(&["caller", "tcp://127.0.0.1:0"]);
        let endpoint = caller.line("bound ").await;
        let worker = start(&dialing(&["worker", &endpoint], &hostile));
        Cast { victim: 1, caller: 0, side, processes: vec![caller, worker] }
    });
}

/// A broker, a worker of it, and a caller of it that dials these endpoints as well; and the broker's endpoints.
async fn brokered(hostile: &[String]) -> (Vec<Process>, [String; 2]) {
    let broker = start(&["broker", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]);
    let bound = broker.line("bound ").await;
    let (front, back) = bound.split_once(' ').expect("two endpoints");
    let worker = start(&["worker", back]);
    let caller = start(&dialing(&["caller", "--connect", front], hostile));
    (vec![broker, worker, caller], [front.to_owned(), back.to_owned()])
}

/// Arguments with more endpoints, which are dialed again soon, so that an attacker meets its victim often.
fn dialing<'a>(arguments: &[&'a str], hostile: &'a [String]) -> Vec<&'a str> {
    let endpoints = hostile.iter().map(String::as_str);
    arguments.iter().copied().chain(["--backoff", "50"]).chain(endpoints).collect()
}

/// Attacks the victim in each way, one after the other.
fn withstands(cast: impl AsyncFnOnce() -> Cast) {
    let attackers = attackers();
    run_alone(async {
        let mut stage = Stage::new(cast().await, attackers.handle()).await;
        let slow = stage.begin(|assault| Box::pin(strikes::trickle(assault)));
        for attack in &ATTACKS {
            if stage.has(attack) && only().is_none_or(|only| attack.name.contains(&only)) {
                stage.withstand(attack).await;
            }
        }
        stage.end(slow).await;
    });
    attackers.shutdown_background();
}

/// How many times the usual connections attack, and how much longer.
fn scale() -> usize {
    env::var("XERO_ATTACKS_SCALE").map_or(1, |scale| scale.parse().expect("a number"))
}

/// A part of the names of the attacks to make.
fn only() -> Option<String> {
    env::var("XERO_ATTACKS").ok()
}

/// A way to attack. It goes on until it is called off, if it has an end at all.
type Strike = fn(Arc<Assault>) -> Pin<Box<dyn Future<Output = Held> + Send>>;

/// One of the attacks.
#[derive(Debug)]
struct Attack {
    name: &'static str,
    strike: Strike,
    /// Only peers that serve requests suffer it.
    needs_replies: bool,
    /// Whether its messages are those that cost most.
    announces: bool,
}

impl Attack {
    const fn new(name: &'static str, strike: Strike) -> Self {
        Self { name, strike, needs_replies: false, announces: false }
    }

    const fn on_replies(name: &'static str, strike: Strike) -> Self {
        Self { needs_replies: true, ..Self::new(name, strike) }
    }

    const fn by_offers(name: &'static str, strike: Strike) -> Self {
        Self { announces: true, ..Self::new(name, strike) }
    }
}

const ATTACKS: [Attack; 18] = [
    Attack::new("declared lengths", |assault| Box::pin(strikes::declared_lengths(assault))),
    Attack::new("largest allowed", |assault| Box::pin(strikes::largest_allowed(assault))),
    Attack::new("endless frames", |assault| Box::pin(strikes::endless_frames(assault))),
    Attack::new("unended messages", |assault| Box::pin(strikes::unended_messages(assault))),
    Attack::new("garbage", |assault| Box::pin(strikes::garbage(assault))),
    Attack::new("half greetings", |assault| Box::pin(strikes::half_greetings(assault))),
    Attack::new("dropped handshakes", |assault| Box::pin(strikes::dropped_handshakes(assault))),
    Attack::new("properties", |assault| Box::pin(strikes::properties(assault))),
    Attack::new("taken identity", |assault| Box::pin(strikes::taken_identity(assault))),
    Attack::on_replies("unread replies", |assault| Box::pin(strikes::unread_replies(assault, 1))),
    Attack::on_replies("unread replies of several", |assault| Box::pin(strikes::unread_replies(assault, 6))),
    Attack::new("unread errors", |assault| Box::pin(strikes::unread_errors(assault))),
    Attack::new("shortage of descriptors", |assault| Box::pin(strikes::shortage(assault))),
    Attack::by_offers("introductions", |assault| Box::pin(strikes::introductions(assault))),
    Attack::by_offers("introductions in batches", |assault| Box::pin(strikes::batches_of_introductions(assault))),
    Attack::by_offers("introductions of a crowd", |assault| Box::pin(strikes::crowd_of_introductions(assault))),
    Attack::by_offers("introductions of visitors", |assault| Box::pin(strikes::short_introductions(assault))),
    Attack::by_offers("empty introductions", |assault| Box::pin(strikes::empty_introductions(assault))),
];
