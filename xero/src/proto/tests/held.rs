//! What one side holds for its peers: bounded in bytes, acknowledged within the bound, and at no other peer's expense.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    bench::{Bench, Wire},
    network::Net,
    node::offer,
    pair::{EXPIRY, INTERVAL, LATENCY, introduction, ms, partial_reply, value},
    windows::{COST, LARGE, ack, answer_all, echo, finals, large},
};
use crate::proto::{
    hold::HoldLimits,
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, Ready, Request, Role},
};

#[test]
fn unread_replies_stay_with_their_workers_and_end_no_call() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 45_000;
        config.hold_limits.peer_bytes_max = 20_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 20);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=12).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    // The first one leaves, three more are within the client's limit, and the rest are not acknowledged.
    for id in &ids[..10] {
        bench.reply(worker, *id, &large());
    }
    bench.send_as(worker, partial_reply(ids[10], 0, "abc"));
    let taken = worker_acks(&mut bench, worker);
    assert!(taken < 5 * COST, "{taken} unread bytes are acknowledged");
    assert_eq!((bench.take(worker), finals(&mut bench, client)), (vec![], vec![1]));
    // Each reply that the client reads makes room for another.
    let mut read = 0;
    for call in 2..=10 {
        read += COST;
        bench.send_as(client, Message::Ack(read));
        assert_eq!(finals(&mut bench, client), [call]);
    }
    bench.send_as(client, Message::Ack(u64::MAX));
    assert!(bench.take(client).contains(&partial_reply(CallId(11), 0, "abc")), "an innocent call goes on");
    assert_eq!(bench.errors(client), []);
    // Everything is acknowledged except for less than a quarter of the window.
    assert!(worker_acks(&mut bench, worker) + 12_000 > 10 * COST);
}

/// Found by the simulator, with seed 3237063.
#[test]
fn reply_that_is_replaced_by_an_error_acknowledges_no_other_that_is_held() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 40_000;
        config.hold_limits.peer_bytes_max = 1_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 20);
    let client = bench.client_with(|ready| (ready.window_bytes, ready.payload_bytes_max) = (1, 4_000));
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    // Fills the client's window, so partial replies are held.
    bench.reply(worker, ids[0], "full");
    (0..6).for_each(|sequence| bench.send_as(worker, partial_reply(ids[1], sequence, &"p".repeat(400))));
    let end = FinalReply { call: ids[1], partials: 6, payload: value(&"y".repeat(30_000)) };
    bench.send_as(worker, Message::Final(end));
    // The end of another call looks at what may be acknowledged.
    bench.reply(worker, ids[2], "another");
    let taken = worker_acks(&mut bench, worker);
    assert!(
        (30_000..32_300).contains(&taken),
        "{taken} bytes are acknowledged, half of the partial replies among them"
    );
}

#[test]
fn small_metadata_entries_count_as_the_memory_that_they_take() {
    let mut bench = Bench::with(|config| config.hold_limits.total_bytes_max = 3 << 20);
    let worker = bench.worker_with(|ready| ready.credits = 1_000);
    let client = bench.client();
    let entry = |number: u32| (format!("{number:03}"), Bytes::new());
    for call in 1..=10 {
        bench.request_with(client, call, "hold", |request| request.metadata = (0..1_000).map(entry).collect());
    }
    let held = bench.broker.held_bytes();
    assert!((600_000..1 << 20).contains(&held), "{held} bytes of ten requests with a thousand entries each");
    assert!(bench.errors(client).iter().all(|(_, code, _)| *code == ErrorCode::Overloaded), "the last ones");
    for id in bench.requests(worker).iter().map(|request| request.call).collect::<Vec<_>>() {
        bench.reply(worker, id, "done");
    }
    bench.send_as(client, Message::Ack(u64::MAX));
    assert_eq!(bench.broker.held_bytes(), 0);
}

#[test]
fn unread_client_is_dropped_however_often_it_introduces_itself() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 40_000;
        config.hold_limits.peer_bytes_max = 20_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 20);
    let mut own = introduction();
    let client = bench.client_with(|ready| {
        ready.window_bytes = 1;
        own = ready.clone();
    });
    (1..=8).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    ids.iter().for_each(|id| bench.reply(worker, *id, &large()));
    for _ in 0..60 {
        bench.run(ms(1_000));
        bench.send_as(worker, Message::Heartbeat);
        if bench.is_gone(client) {
            return;
        }
        bench.send_as(client, Message::Ready(own.clone()));
    }
    panic!("its workers wait for it");
}

#[test]
fn late_reply_is_acknowledged_whatever_becomes_of_the_call_that_gets_its_credit() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 40_000;
        config.hold_limits.peer_bytes_max = 1_000;
    });
    let worker = bench.worker_with(|ready| (ready.credits, ready.payload_bytes_max) = (3, 4_000));
    let (slow, quick) = (bench.client_with(|ready| ready.window_bytes = 1), bench.client());
    (1..=2).for_each(|call| bench.request(slow, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    ids.iter().for_each(|id| bench.reply(worker, *id, &large()));
    (1..=3).for_each(|call| bench.request(quick, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    // It waits for a credit, and then ends as too large for the worker.
    bench.request_with(slow, 3, "hold", |request| request.payload = value(&large()));
    bench.send_as(quick, Message::Cancel(CallId(1)));
    bench.reply(worker, ids[0], &"y".repeat(30_000));
    let taken = worker_acks(&mut bench, worker);
    assert!(taken > 30_000, "{taken} bytes are acknowledged, and the slow client has no part in them");
}

#[test]
fn reply_that_passes_those_held_back_is_acknowledged_before_them() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 20_000;
        config.hold_limits.peer_bytes_max = 1;
    });
    let worker = bench.worker_with(|ready| ready.credits = 20);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=5).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    // The first one leaves, the second one is held, and the small ones pass it.
    (0..2).for_each(|call| bench.reply(worker, ids[call], &large()));
    (2..5).for_each(|call| bench.reply(worker, ids[call], &"s".repeat(4_000)));
    assert_eq!((finals(&mut bench, client), worker_acks(&mut bench, worker)), (vec![1, 3, 4, 5], 0));
    bench.send_as(client, Message::Ack(COST + 3 * 4_096));
    let taken = worker_acks(&mut bench, worker);
    assert!((COST + 3 * 4_096..2 * COST + 3 * 4_096).contains(&taken), "{taken} bytes are acknowledged");
}

#[test]
fn worker_that_exceeds_its_window_is_dropped() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 40_000;
        config.hold_limits.peer_bytes_max = 1;
    });
    let worker = bench.worker_with(|ready| ready.credits = 20);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=20).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    let sent = ids.iter().take_while(|id| {
        bench.reply(worker, **id, &large());
        !bench.is_gone(worker)
    });
    // One that leaves, one that is within the limit, the window, and one more.
    assert!((8..=12).contains(&sent.count()));
}

#[test]
fn retryable_request_is_not_acknowledged_beyond_the_clients_limit() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 10_000;
        config.hold_limits.peer_bytes_max = 10_000;
    });
    let (worker, client) = (bench.worker_with(|ready| ready.credits = 4), bench.client());
    let ask = |bench: &mut Bench, call| {
        bench.request_with(client, call, "hold", |request| {
            (request.idempotent, request.payload) = (true, value(&large()));
        });
    };
    (1..=3).for_each(|call| ask(&mut bench, call));
    let acknowledged = bench.take(client).iter().filter_map(ack).max().unwrap_or(0);
    assert!((1..2 * COST + 200).contains(&acknowledged), "{acknowledged} bytes for three requests that are all kept");
    // A lost worker's requests go back to the queue, where they count as before.
    bench.worker_with(|ready| ready.credits = 1);
    bench.drop_wire(worker);
    assert_eq!((bench.errors(client), bench.broker.open_calls()), (vec![], 3));
    ask(&mut bench, 4);
    assert!(bench.is_gone(client), "it has sent more than its window");
}

#[test]
fn broker_at_its_total_limit_refuses_further_requests() {
    let mut bench = Bench::with(|config| config.hold_limits.total_bytes_max = 36_000);
    bench.worker();
    let clients = [bench.client(), bench.client(), bench.client()];
    for client in clients {
        bench.request_with(client, 1, "hold", |request| request.payload = value(&large()));
    }
    let detail = "the broker has no room for a request of 5116 bytes: open requests take 10232 bytes, 0 of them over the \
                  same connection; raise the broker's `total_bytes_max` of 36000 bytes";
    let refusal = ErrorReply::not_started(CallId(1), ErrorCode::Overloaded, detail.to_owned());
    assert_eq!(bench.take(clients[2]).last(), Some(&Message::Error(refusal)));
    assert_eq!((bench.errors(clients[0]), bench.errors(clients[1])), (vec![], vec![]));
    // What they leave is for the others.
    let late = bench.client();
    bench.request(late, 1, "hold");
    bench.request_with(late, 2, "hold", |request| request.payload = value(&large()));
    bench.request_with(clients[0], 2, "hold", |request| request.payload = value(&"x".repeat(1_000)));
    assert_eq!(bench.errors(late), [(2, ErrorCode::Overloaded, false)]);
    assert_eq!(bench.errors(clients[0]), [(2, ErrorCode::Overloaded, false)], "it holds the most");
    // The end of a request makes room again.
    clients.iter().for_each(|client| bench.send_as(*client, Message::Cancel(CallId(1))));
    clients.iter().for_each(|client| bench.send_as(*client, Message::Ack(u64::MAX)));
    bench.request_with(late, 4, "hold", |request| request.payload = value(&large()));
    assert_eq!(bench.errors(late), []);
}

#[test]
fn request_that_never_finds_room_is_too_large_at_once_and_says_how_much_room_it_needs() {
    let mut bench = Bench::with(|config| config.hold_limits.total_bytes_max = 36_000);
    let (worker, client) = (bench.worker(), bench.client());
    let larger = |request: &mut Request| request.payload = value(&"x".repeat(10_000));
    bench.request_with(client, 1, "hold", larger);
    let Some(Message::Error(error)) = bench.take(client).pop() else { panic!("it is not refused") };
    assert_eq!((error.code, error.maybe_executed), (ErrorCode::TooLarge, false));
    let said = " is over the 9600 bytes that one request may take; raise the broker's `total_bytes_max` to at least ";
    let (size, total) = error.detail.split_once(said).unwrap_or_else(|| panic!("{}", error.detail));
    assert!(size.starts_with("a request of 10"), "{size}");
    assert!(bench.requests(worker).is_empty());
    // With that total, the same request runs.
    let mut bench = Bench::with(|config| config.hold_limits.total_bytes_max = total.parse().expect("a number"));
    let (worker, client) = (bench.worker(), bench.client());
    bench.request_with(client, 1, "hold", larger);
    assert_eq!(bench.requests(worker).len(), 1);
}

#[test]
fn client_that_reads_no_reply_is_dropped_once_others_wait_whatever_its_interval() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 200_000;
        config.hold_limits.peer_bytes_max = 45_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 100);
    // Their intervals are minutes long. The last one is deaf as well, and stays within its limit.
    let [deaf, slow, modest] = [(); 3].map(|()| bench.client_with(|ready| ready.window_bytes = 10_000));
    for (client, calls) in [(deaf, 20), (slow, 20), (modest, 4)] {
        (1..=calls).for_each(|call| bench.request(client, call, "hold"));
        answer_all(&mut bench, worker, LARGE);
    }
    for second in 0..29 {
        assert!(!bench.is_gone(deaf), "after {second} s");
        bench.send_as(slow, Message::Ack(second / 4 * COST));
        bench.run(INTERVAL);
    }
    bench.run(2 * INTERVAL);
    assert!(bench.is_gone(deaf) && !bench.is_gone(slow) && !bench.is_gone(modest) && !bench.is_gone(worker));
    // What its worker sent for it is acknowledged now.
    (0..20).for_each(|_| bench.send_as(slow, Message::Ack(u64::MAX)));
    assert!(worker_acks(&mut bench, worker) + 200_000 / 4 > 44 * COST);
}

#[test]
fn repeated_introductions_are_answered_as_fast_as_the_answers_are_acknowledged() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1_000);
    let ready = Message::Ready(Ready { role: Role::Client, window_bytes: 1_000, ..introduction() });
    (0..1_000).for_each(|_| bench.send_as(client, ready.clone()));
    let is_ready = |message: &Message| matches!(message, Message::Ready(_));
    let answers = bench.take(client).into_iter().filter(is_ready).count() as u64;
    assert!((2..=20).contains(&answers), "{answers} answers to a peer that takes none");
    // The newest one follows once there is room.
    bench.drop_wire(worker);
    bench.send_as(client, Message::Ack(u64::MAX));
    let last = bench.take(client).into_iter().rfind(is_ready);
    assert!(matches!(last, Some(Message::Ready(ready)) if ready.services.is_empty()));
}

#[test]
fn postponed_introduction_takes_its_place_in_the_window_before_held_replies() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 200));
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    bench.reply(
        worker,
        ids[0],
        "small, and more than the window with its header: it passes, and fills it. ...........",
    );
    bench.send_as(worker, partial_reply(ids[1], 0, &"x".repeat(200)));
    bench.send_as(worker, partial_reply(ids[1], 1, "held"));
    bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
    bench.run(ms(1_000));
    bench.take(client);
    let is_ready = |message: &Message| matches!(message, Message::Ready(_));
    let is_partial = |message: &Message| matches!(message, Message::Partial(_));
    bench.send_as(client, Message::Ack(u64::MAX));
    let sent = bench.take(client);
    assert!(sent.iter().any(is_ready) && !sent.iter().any(is_partial), "{sent:?}");
    bench.send_as(client, Message::Ack(u64::MAX));
    assert!(bench.take(client).iter().any(is_partial));
}

#[test]
fn worker_starts_nothing_for_a_dispatcher_that_reads_no_replies() {
    let mut net = Net::new();
    let [deaf, other] = [(); 2].map(|()| net.dispatcher_with(|config| config.window_bytes = 1));
    let w = net.worker_with(&[deaf, other], |config| config.hold_limits.peer_bytes_max = 8_000);
    net.connect();
    net.freeze_dispatcher(deaf);
    for id in 1..=8 {
        net.send_to(deaf, w, echo(id));
        net.run(ms(2));
    }
    assert_eq!(net.w(w).runs.len(), 3, "one reply has left, two are held");
    let call = net.call(other, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong");
    net.thaw_dispatcher(deaf);
    net.run(30 * LATENCY);
    assert_eq!(net.w(w).runs.len(), 9, "all are run once the replies have left");
}

/// The bytes that the broker has acknowledged to a worker.
fn worker_acks(bench: &mut Bench, worker: Wire) -> u64 {
    bench.take(worker).iter().filter_map(ack).max().unwrap_or(0)
}

#[test]
fn client_that_drips_acknowledgements_is_dropped_while_others_wait() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 60_000;
        config.hold_limits.peer_bytes_max = 20_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 100);
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    (1..=11).for_each(|call| bench.request(client, call, "hold"));
    let mut before = 0;
    serve(&mut bench, worker, LARGE, &mut before);
    before = before.max(worker_acks(&mut bench, worker));
    for drop in 1..=2 {
        bench.send_as(client, Message::Ack(drop));
        bench.run(29 * INTERVAL);
        bench.send_as(worker, Message::Heartbeat);
    }
    assert!(bench.is_gone(client));
    assert!(worker_acks(&mut bench, worker) > before + 20_000, "its worker has room again");
}

#[test]
fn clients_that_hold_all_memory_lock_nobody_out() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 1 << 20;
        config.hold_limits = HoldLimits { peer_bytes_max: 64_000, total_bytes_max: 768_000 };
    });
    let worker = bench.worker_with(|ready| ready.credits = 1_000);
    let greedy = [(); 4].map(|()| bench.client_with(|ready| ready.window_bytes = 1));
    for client in greedy {
        (1..=14).for_each(|call| bench.request(client, call, "hold"));
        answer_all(&mut bench, worker, LARGE);
    }
    assert!(bench.broker.held_bytes() >= 256_000, "{}", bench.broker.held_bytes());
    let innocent = bench.client();
    for call in 1..=20 {
        bench.request(innocent, call, "ping");
        answer_all(&mut bench, worker, 3);
        assert_eq!(finals(&mut bench, innocent), [call]);
        bench.send_as(innocent, Message::Ack(u64::MAX));
    }
}

#[test]
fn replies_on_their_way_count_in_the_limits() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 100_000;
        config.hold_limits = HoldLimits { peer_bytes_max: 64_000, total_bytes_max: 1_200_000 };
    });
    let worker = bench.worker_with(|ready| ready.credits = 1_000);
    let clients: Vec<_> = (0..40).map(|_| bench.client()).collect();
    let (mut sent, mut acknowledged) = (0, 0);
    for (call, client) in (1..=10).flat_map(|call| clients.iter().map(move |client| (call, *client))) {
        if sent - acknowledged >= 100_000 {
            break;
        }
        bench.request(client, call, "hold");
        serve(&mut bench, worker, LARGE, &mut acknowledged);
        serve(&mut bench, worker, LARGE, &mut acknowledged);
        sent += COST;
    }
    // The limit, and the worker's window.
    let held = bench.broker.held_bytes();
    assert!((380_000..510_000).contains(&held), "{held} bytes for clients that acknowledge nothing, of {sent}");
    clients.iter().for_each(|client| bench.send_as(*client, Message::Ack(u64::MAX)));
    assert_eq!(bench.broker.held_bytes(), 0);
}

#[test]
fn replies_are_acknowledged_once_others_make_room() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 40_000;
        config.hold_limits = HoldLimits { peer_bytes_max: 1 << 20, total_bytes_max: 180_000 };
    });
    let filler = bench.worker_with(|ready| (ready.credits, ready.services) = (100, vec![offer("Fill", &["fill"])]));
    let worker = bench.worker_with(|ready| ready.credits = 100);
    let [first, slow] = [(); 2].map(|()| bench.client_with(|ready| ready.window_bytes = 1));
    for call in 1..=8 {
        bench.request_with(first, call, "fill", |request| request.service = "Fill".into());
        answer_all(&mut bench, filler, LARGE);
    }
    (1..=5).for_each(|call| bench.request(slow, call, "hold"));
    let mut before = 0;
    serve(&mut bench, worker, LARGE, &mut before);
    before = before.max(worker_acks(&mut bench, worker));
    bench.drop_wire(first);
    let after = worker_acks(&mut bench, worker);
    assert!(before < 3 * COST && after >= before + 2 * COST, "{before} and then {after} bytes are acknowledged");
    bench.run(20 * EXPIRY);
    assert!(!bench.is_gone(slow), "nobody waits for it");
}

/// Answers the worker's open requests with this many bytes, and notes what the worker reads as acknowledged.
fn serve(bench: &mut Bench, worker: Wire, bytes: usize, acknowledged: &mut u64) {
    for message in bench.take(worker) {
        match message {
            Message::Request(request) => bench.reply(worker, request.call, &"x".repeat(bytes)),
            Message::Ack(bytes) => *acknowledged = bytes,
            _ => {}
        }
    }
}

#[test]
fn rest_of_a_burst_is_acknowledged_within_a_second() {
    let mut bench = Bench::with(|config| config.dispatcher.heartbeats.interval = 10 * INTERVAL);
    let (worker, client) = (bench.worker(), bench.client());
    bench.request(client, 1, "hold");
    answer_all(&mut bench, worker, 3);
    bench.take(worker);
    bench.run(INTERVAL);
    assert_eq!(bench.take(worker), [Message::Ack(64 + 32 + 3)]);
    bench.run(INTERVAL);
    assert_eq!(bench.take(worker), [], "nothing is left");
}

#[test]
fn repeated_introduction_does_not_put_an_acknowledgement_off() {
    let mut bench = Bench::with(|config| config.dispatcher.heartbeats.interval = 60 * INTERVAL);
    let worker = bench.worker();
    bench.take(worker);
    bench.send_as(worker, Message::Ready(Ready { incarnation: Uuid::from_u64_pair(3, 0), ..introduction() }));
    bench.run(INTERVAL);
    assert!(bench.take(worker).iter().any(|message| matches!(message, Message::Ack(_))));
}
