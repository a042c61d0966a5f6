//! The limit of all peers together holds whatever they send: those that take nothing and hold the most are disconnected.

use super::{
    bench::{Bench, Wire},
    hoarders::{ask, transmits, worker},
    node::offer,
    pair::{EXPIRY, INTERVAL, ms, start, value},
    windows::{LARGE, answer_all, finals, large},
};
use crate::proto::{
    hold::HoldLimits,
    message::{ErrorCode, Message, Peer, Ready, Role},
    tests::introduction,
    worker::Finish,
};

const TOTAL: u64 = 600_000;

#[test]
fn errors_to_many_deaf_clients_stay_within_the_limit_of_all() {
    let mut bench = small_bench();
    let worker = bench.worker_with(|ready| ready.window_bytes = 0);
    let innocent = bench.client();
    let deaf = [(); 30].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    for round in 0..200 {
        deaf.iter().for_each(|client| ask_for_nothing(&mut bench, *client, round));
        let held = bench.broker.held_bytes();
        assert!(held <= TOTAL, "{held} bytes after {round} rounds");
        bench.request(innocent, 1_000 + round, "ping");
        answer_all(&mut bench, worker, 3);
        assert_eq!(finals(&mut bench, innocent), [1_000 + round]);
        bench.send_as(innocent, Message::Ack(u64::MAX));
    }
    let shed = bench.broker.counters().shed_clients;
    assert!(shed > 0, "nobody is disconnected, so nothing was tested");
    assert_eq!(deaf.iter().filter(|client| bench.is_gone(**client)).count() as u64, shed);
    assert!(!bench.is_gone(innocent));
}

#[test]
fn introductions_to_clients_that_repeat_theirs_stay_within_the_limit_of_all() {
    let mut bench = small_bench();
    let methods: Vec<_> = (0..500).map(|number| format!("method{number:05}")).collect();
    let methods: Vec<_> = methods.iter().map(String::as_str).collect();
    bench.worker_with(|ready| ready.services = vec![offer("Large", &methods)]);
    let deaf = [(); 10].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    for _ in 0..60 {
        for client in deaf {
            if !bench.is_gone(client) {
                let ready = Ready { role: Role::Client, window_bytes: 0, services: vec![], ..introduction() };
                bench.send_as(client, Message::Ready(ready));
            }
        }
        bench.run(ms(100));
        // The introductions of one turn may exceed it.
        let held = bench.broker.held_bytes();
        assert!(held <= TOTAL + 100_000, "{held} bytes");
    }
    assert!(bench.broker.counters().shed_clients > 0, "nobody is disconnected, so nothing was tested");
}

#[test]
fn clients_that_have_taken_nothing_for_an_expiry_go_before_one_that_holds_more() {
    let mut bench = small_bench();
    let [deaf, slow] = [(); 2].map(|()| [(); 3].map(|()| bench.client_with(|ready| ready.window_bytes = 0)));
    let mut call = 0;
    // Beyond a third, so that there is too little room for each.
    while bench.broker.held_bytes() < TOTAL / 3 + 2_000 {
        call += 1;
        deaf.iter().chain(&slow).for_each(|client| ask_for_nothing(&mut bench, *client, call));
    }
    bench.run(EXPIRY + INTERVAL);
    slow.iter().for_each(|client| bench.send_as(*client, Message::Ack(u64::MAX)));
    for call in call + 1..9_000 {
        slow.iter().for_each(|client| ask_for_nothing(&mut bench, *client, call));
        if bench.broker.counters().shed_clients > 0 {
            break;
        }
    }
    assert_eq!([deaf, slow].map(|clients| clients.iter().filter(|client| bench.is_gone(**client)).count()), [3, 0]);
}

#[test]
fn small_replies_to_many_deaf_dispatchers_stay_within_the_limit_of_all() {
    let now = start();
    let limits = HoldLimits { peer_bytes_max: 60_000, total_bytes_max: 300_000 };
    let mut worker = worker(now, limits, &[0; 6]);
    let mut most = 0;
    for round in 0..400 {
        for peer in 0..6 {
            for execution in ask(&mut worker, now, Peer(peer), round..=round) {
                worker.finish(now, execution, Finish::Reply(value(&"x".repeat(2_000))));
            }
        }
        transmits(&mut worker);
        most = most.max(worker.held_bytes());
    }
    assert!(most <= 300_000, "{most} bytes");
    assert!(worker.counters().shed_dispatchers > 0, "nobody is disconnected, so nothing was tested");
}

#[test]
fn large_replies_of_procedures_end_no_connection_but_become_errors_beyond_the_limit() {
    let now = start();
    let mut worker = worker(now, HoldLimits { peer_bytes_max: 20_000, total_bytes_max: 200_000 }, &[1, 0]);
    let started = ask(&mut worker, now, Peer(0), 1..=64);
    started.iter().for_each(|execution| worker.finish(now, *execution, Finish::Reply(value(&large()))));
    assert!((130_000..=160_000).contains(&worker.held_bytes()), "{}", worker.held_bytes());
    assert_eq!(std::iter::from_fn(|| worker.poll_output()).count(), 0);
    let mut sent = transmits(&mut worker);
    for taken in (0..1_000_000).step_by(5_000) {
        worker.handle_message(now, Peer(0), Message::Ack(taken));
        sent.extend(transmits(&mut worker));
    }
    let replies = sent.iter().filter(|(_, message)| matches!(message, Message::Final(_))).count();
    let errors: Vec<_> = sent.iter().filter_map(|(_, message)| error_of(message)).collect();
    assert_eq!((replies + errors.len(), worker.held_bytes()), (64, 0));
    assert!(errors[0].1.ends_with("are held for all; raise the worker's `total_bytes_max`"), "{errors:?}");
    assert!(errors.iter().all(|(code, _)| *code == ErrorCode::TooLarge) && replies > 20, "{replies} replies");
}

#[test]
fn reply_that_never_finds_room_says_so() {
    let now = start();
    let mut worker = worker(now, HoldLimits { peer_bytes_max: 20_000, total_bytes_max: 40_000 }, &[0]);
    let started = ask(&mut worker, now, Peer(0), 1..=1);
    worker.finish(now, started[0], Finish::Reply(value(&"x".repeat(31_000))));
    let sent = transmits(&mut worker);
    let (code, detail) = sent.iter().find_map(|(_, message)| error_of(message)).expect("an error");
    assert_eq!(code, ErrorCode::TooLarge);
    let said = " bytes is over the 30000 bytes that all replies may take; raise the worker's `total_bytes_max`";
    assert!(detail.ends_with(said), "{detail}");
    worker.handle_message(now, Peer(0), Message::Ack(u64::MAX));
}

#[test]
fn large_partial_reply_beyond_the_limit_ends_its_call_and_says_why() {
    let now = start();
    let mut worker = worker(now, HoldLimits { peer_bytes_max: 20_000, total_bytes_max: 40_000 }, &[1, 0]);
    let started = ask(&mut worker, now, Peer(0), 1..=1);
    let sent = (0..10).take_while(|_| worker.partial(now, started[0], value(&large()))).count();
    assert!((4..=6).contains(&sent), "{sent} partial replies");
    worker.finish(now, started[0], Finish::Aborted);
    (0..20).for_each(|_| worker.handle_message(now, Peer(0), Message::Ack(u64::MAX)));
    let sent = transmits(&mut worker);
    let (code, detail) = sent.iter().find_map(|(_, message)| error_of(message)).expect("its call ends");
    assert!(code == ErrorCode::TooLarge && detail.contains("`total_bytes_max`"), "{code:?}: {detail}");
}

fn error_of(message: &Message) -> Option<(ErrorCode, &str)> {
    match message {
        Message::Error(error) => Some((error.code, &error.detail)),
        _ => None,
    }
}

#[test]
fn client_with_one_large_reply_on_its_way_is_kept_before_those_that_flood() {
    let mut bench = crowded_bench();
    let worker = bench.worker_with(|ready| {
        ready.window_bytes = 0;
        ready.services.extend(long_names().map(|name| offer(&name, &["x"])));
    });
    let [large, small] = [(); 2].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    let deaf = [(); 20].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    bench.run(ms(100));
    bench.request(large, 1, "hold");
    answer_all(&mut bench, worker, 290_000);
    (1..=2).for_each(|call| {
        bench.request(small, call, "hold");
        answer_all(&mut bench, worker, 3_000);
    });
    // Nobody has had the time to stall.
    for call in 0..9_000 {
        deaf.iter().for_each(|client| ask_for_nothing(&mut bench, *client, call));
        if bench.broker.counters().shed_clients > 0 {
            break;
        }
    }
    assert!(deaf.iter().any(|client| bench.is_gone(*client)));
    assert!(!bench.is_gone(large) && !bench.is_gone(small));
}

/// A large reply that was taken long ago is no excuse.
#[test]
fn client_that_floods_after_a_large_reply_goes_before_those_with_one_on_their_way() {
    let mut bench = crowded_bench();
    let worker = bench.worker_with(|ready| {
        ready.window_bytes = 0;
        ready.services.extend(long_names().map(|name| offer(&name, &["x"])));
    });
    let [large, flooding] = [(); 2].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    bench.request(flooding, 1, "hold");
    answer_all(&mut bench, worker, 3_400_000);
    bench.send_as(flooding, Message::Ack(u64::MAX));
    bench.request(large, 1, "hold");
    answer_all(&mut bench, worker, 2_000_000);
    for call in 2..9_000 {
        ask_for_nothing(&mut bench, flooding, call);
        if bench.broker.counters().shed_clients > 0 {
            break;
        }
    }
    assert!(bench.is_gone(flooding) && !bench.is_gone(large));
}

#[test]
fn client_that_takes_one_large_reply_slowly_is_kept_before_those_that_take_nothing() {
    let mut bench = crowded_bench();
    let worker = bench.worker_with(|ready| {
        ready.window_bytes = 0;
        ready.services.extend(long_names().map(|name| offer(&name, &["x"])));
    });
    let [slow, filler] = [(); 2].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    bench.request(slow, 1, "hold");
    answer_all(&mut bench, worker, 500_000);
    let deaf = [(); 10].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    let mut call = 0;
    while bench.broker.held_bytes() < 1_500_000 {
        call += 1;
        deaf.iter().for_each(|client| ask_for_nothing(&mut bench, *client, call));
    }
    bench.request(slow, 2, "hold");
    answer_all(&mut bench, worker, 3);
    // The large reply takes half a second more at 1 MiB a second.
    bench.run(EXPIRY + ms(300));
    bench.send_as(worker, Message::Heartbeat);
    for call in 0..9_000 {
        ask_for_nothing(&mut bench, filler, call);
        if bench.broker.counters().shed_clients > 0 {
            break;
        }
    }
    assert!(deaf.iter().any(|client| bench.is_gone(*client)) && !bench.is_gone(slow));
}

#[test]
fn replies_of_workers_that_leave_again_count_like_those_that_are_acknowledged() {
    let mut bench = small_bench();
    let deaf = [(); 3].map(|()| bench.client_with(|ready| ready.window_bytes = 0));
    for call in 1..=400 {
        let worker = bench.worker();
        deaf.iter().filter(|client| !bench.is_gone(**client)).copied().collect::<Vec<_>>().into_iter().for_each(
            |client| {
                bench.request(client, call, "hold");
                answer_all(&mut bench, worker, LARGE);
            },
        );
        bench.drop_wire(worker);
        let held = bench.broker.held_bytes();
        assert!(held <= TOTAL, "{held} bytes after {call} workers");
    }
    assert!(bench.broker.counters().shed_clients > 0, "nobody is disconnected, so nothing was tested");
}

/// A broker where one client may hold everything.
fn crowded_bench() -> Bench {
    Bench::with(|config| {
        config.dispatcher.window_bytes = 0;
        config.hold_limits = HoldLimits { peer_bytes_max: 64 << 20, total_bytes_max: 3_600_000 };
    })
}

/// Services for errors that list what is offered.
fn long_names() -> [String; 6] {
    ["a", "b", "c", "d", "e", "f"].map(|letter| letter.repeat(200))
}

/// A broker with little room for all its clients, and enough for each.
fn small_bench() -> Bench {
    Bench::with(|config| {
        config.dispatcher.window_bytes = 0;
        config.hold_limits = HoldLimits { peer_bytes_max: 200_000, total_bytes_max: TOTAL };
    })
}

/// Makes the broker send a client an error of some kilobytes.
fn ask_for_nothing(bench: &mut Bench, client: Wire, call: u64) {
    if !bench.is_gone(client) {
        bench.request_with(client, call, "ping", |request| request.service = "n".repeat(200).into());
    }
}
