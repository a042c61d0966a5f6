//! Byte windows both ways: who fills one waits, who empties it is heard of, and nobody else notices.

use super::{
    bench::{Bench, Wire, request},
    network::Net,
    node::offer,
    pair::{D, INTERVAL, LATENCY, TICK, W, error_reply, final_reply, introduction, ms, partial_reply, value},
};
use crate::proto::{
    broker::{BrokerOutput, Door},
    calls::CallFailure,
    dispatch::Departure,
    frame,
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, Peer, Ready, Request, Role},
    window::waits_for_room,
};

#[test]
fn replies_wait_at_the_worker_while_the_dispatcher_reads_none_and_come_in_order_when_it_does() {
    let (mut net, d, w) = windowed(10_000);
    let calls: Vec<_> = (0..6).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    net.freeze_dispatcher(d);
    calls[..5].iter().for_each(|call| net.reply(w, *call, &large()));
    net.reply(w, calls[5], "small");
    net.run(INTERVAL);
    assert_eq!(ended_by(&net, w), [calls[0], calls[1], calls[5]], "a small one passes");
    net.thaw_dispatcher(d);
    net.run(20 * LATENCY);
    assert_eq!(ended_by(&net, w)[3..], calls[2..5]);
    calls[..5].iter().for_each(|call| assert_eq!(net.value(*call), large()));
}

#[test]
fn procedure_is_told_of_each_partial_reply_when_it_leaves_and_not_before() {
    let (mut net, d, w) = windowed(1);
    let call = net.call(d, "hold");
    net.run(ms(5));
    for text in ["0123456789", "next", "last"] {
        assert!(net.partial(w, call, text));
    }
    assert_eq!(net.w(w).partials_sent, [10]);
    net.run(2 * LATENCY - TICK);
    assert_eq!(net.w(w).partials_sent, [10]);
    net.run(TICK);
    assert_eq!(net.w(w).partials_sent, [10, 4]);
    net.run(2 * LATENCY);
    assert_eq!(net.w(w).partials_sent, [10, 4, 4]);
    net.reply(w, call, "done");
    net.run(LATENCY);
    assert_eq!((net.partials(call).len(), net.value(call).as_str()), (3, "done"));
}

#[test]
fn any_window_lets_everything_through_in_the_end() {
    for window in [1, 2, 3, 64, 1_000, 20_000] {
        let (mut net, d, w) = windowed(window);
        let calls: Vec<_> = (0..8).map(|_| net.call(d, "hold")).collect();
        net.run(ms(5));
        for (size, call) in [0, 1, 300, 9_000].into_iter().cycle().zip(&calls) {
            for step in [0, 3, size] {
                net.partial(w, *call, &"x".repeat(step));
            }
            net.reply(w, *call, &"y".repeat(size));
        }
        net.run(200 * LATENCY);
        for (size, call) in [0, 1, 300, 9_000].into_iter().cycle().zip(&calls) {
            assert_eq!((net.value(*call).len(), net.partials(*call).len()), (size, 3), "a window of {window}");
        }
    }
}

#[test]
fn worker_that_drains_waits_for_the_replies_that_are_held_back() {
    let (mut net, d, w) = windowed(1);
    let calls = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    net.freeze_dispatcher(d);
    calls.iter().for_each(|call| net.reply(w, *call, &large()));
    net.drain(w);
    net.run(INTERVAL);
    assert_eq!((ended_by(&net, w), net.w(w).left_at), (vec![calls[0]], None));
    net.thaw_dispatcher(d);
    net.run(5 * LATENCY);
    assert_eq!(calls.map(|call| net.value(call)), [large(), large()]);
    assert!(net.w(w).left_at.is_some() && net.d(d).ends.len() == 2);
}

#[test]
fn call_whose_reply_is_held_back_when_its_worker_must_leave_is_never_run_again() {
    for is_over in [true, false] {
        let mut net = Net::new();
        let d = net.dispatcher_with(|config| config.window_bytes = 1);
        let w = net.worker_with(&[d], |config| config.drain_timeout = INTERVAL);
        net.connect();
        let call = net.call_with(d, "hold", |spec| spec.deadline += 60 * INTERVAL);
        net.run(ms(5));
        let other = net.worker(&[d]);
        net.connect();
        net.freeze_dispatcher(d);
        net.partial(w, call, "one");
        net.partial(w, call, "two");
        if is_over {
            net.reply(w, call, "done");
        }
        net.drain(w);
        net.run(INTERVAL);
        assert_eq!(net.w(w).left_at, Some(net.now), "the drain timeout is kept");
        net.thaw_dispatcher(d);
        net.run(INTERVAL);
        assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
        assert_eq!((net.runs(call), net.w(other).runs.len()), (1, 0));
    }
}

#[test]
fn reply_that_is_held_back_for_a_caller_who_is_gone_costs_nobody_anything() {
    let (mut net, d, w) = windowed(1);
    let calls = [net.call(d, "hold"), net.call(d, "hold"), net.call(d, "stubborn")];
    net.run(ms(5));
    net.freeze_dispatcher(d);
    calls[..2].iter().for_each(|call| net.reply(w, *call, &large()));
    net.kill_dispatcher(d);
    net.run(ms(5));
    net.restart_dispatcher(d);
    net.run(3 * INTERVAL);
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong");
    net.reply(w, calls[2], "for nobody");
    assert_eq!(net.w(w).machine.counters().unwanted_replies, 1);
}

#[test]
fn dispatcher_acknowledges_each_quarter_of_its_window_and_every_message_counts() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.window_bytes = 800);
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    let sized = |sequence, size: usize| partial_reply(call, sequence, &"x".repeat(size));
    let taken = |net: &mut Net, message: Message| {
        net.say(puppet, message);
        net.run(3 * LATENCY);
        acks(net)
    };
    assert!(taken(&mut net, sized(0, 35)).is_empty());
    assert_eq!(taken(&mut net, sized(1, 0)), [227], "each counts for its header and 64 bytes more");
    assert_eq!(taken(&mut net, sized(1, 104)), [227, 427], "one that came again");
    assert_eq!(taken(&mut net, final_reply(CallId(99), &"x".repeat(104))), [227, 427, 627], "an unsolicited one");
    let ready = Message::Ready(introduction());
    let sum = 627 + frame::window_bytes(&ready);
    assert_eq!(taken(&mut net, ready).last(), Some(&sum), "an introduction counts, and does not start anew");
    let unreadable = {
        let mut frames = frame::encode(&sized(2, 104));
        // An unknown codec.
        let header = frames.header.iter().enumerate().map(|(at, byte)| if at == 24 { 99 } else { *byte });
        frames.header = header.collect::<Vec<_>>().into();
        frames
    };
    net.say_frames(puppet, unreadable);
    net.run(3 * LATENCY);
    assert_eq!(acks(&net).last(), Some(&(sum + 200)), "one that cannot be read");
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { .. }));
    net.say(puppet, final_reply(call, &"x".repeat(200)));
    net.run(3 * LATENCY);
    assert_eq!(acks(&net).last(), Some(&(sum + 200 + 296)), "one that is too late");
}

#[test]
fn dispatcher_without_a_window_acknowledges_nothing() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.window_bytes = 0);
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    net.say(puppet, final_reply(call, &"x".repeat(100_000)));
    net.run(ms(5));
    assert_eq!(acks(&net), [0_u64; 0]);
}

#[test]
fn acknowledgements_that_make_no_sense_change_nothing() {
    let (mut net, d, w) = windowed(10_000);
    let calls: Vec<_> = (0..5).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    net.freeze_dispatcher(d);
    for (call, ended) in calls.iter().zip([1, 2, 2, 2]) {
        net.reply(w, *call, &large());
        assert_eq!(
            {
                net.run(TICK);
                ended_by(&net, w).len()
            },
            ended
        );
    }
    for ack in [0, 20, 0, 19] {
        net.tell(d, w, Message::Ack(ack));
        net.run(LATENCY);
    }
    assert_eq!(ended_by(&net, w).len(), 2, "ten thousand bytes are still on their way");
    net.tell(d, w, Message::Ack(u64::MAX));
    net.run(LATENCY);
    assert_eq!(ended_by(&net, w).len(), 4, "more than was sent is all that was sent");
    for ack in [15_000, 0] {
        net.tell(d, w, Message::Ack(ack));
    }
    net.run(LATENCY);
    net.reply(w, calls[4], &large());
    net.run(TICK);
    assert_eq!(ended_by(&net, w).len(), 5, "what was acknowledged stays so");
}

#[test]
fn requests_wait_at_the_dispatcher_while_the_workers_window_is_full_and_small_ones_pass() {
    // One is let through beyond the window, and no second one; with what each counts for, the others fill it just so.
    for sizes in [[9_000, 50_000], [4_936, 4_936]] {
        let mut net = Net::new();
        let d = net.dispatcher();
        let w = net.worker_with(&[d], |config| config.window_bytes = 10_000);
        net.connect();
        net.freeze_worker(w);
        let mut call = |size| net.call_with(d, "hold", |spec| spec.payload = value(&"x".repeat(size)));
        let calls = [call(sizes[0]), call(sizes[1]), call(5_000), call(4_097), call(4_096), call(0)];
        net.run(ms(5));
        assert_eq!(asked(&net, w), [0, 1, 4, 5].map(|index: usize| calls[index]));
        net.thaw_worker(w);
        net.run(10 * LATENCY);
        assert_eq!(asked(&net, w)[4..], calls[2..4], "taken from the transport is enough, none has ended");
        assert_eq!(net.w(w).runs.len(), 6);
    }
}

#[test]
fn request_that_has_no_room_at_one_worker_goes_to_another() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let [full, free] = [(); 2].map(|()| net.worker_with(&[d], |config| config.window_bytes = 1));
    net.connect();
    net.freeze_worker(full);
    net.freeze_worker(free);
    let calls = [(); 3].map(|()| net.call_with(d, "hold", |spec| spec.payload = value(&large())));
    net.run(ms(5));
    assert_eq!((asked(&net, full).len(), asked(&net, free).len()), (1, 1));
    net.thaw_worker(free);
    net.run(10 * LATENCY);
    assert!(asked(&net, free).contains(&calls[2]), "it waits for whoever has room first");
}

#[test]
fn worker_acknowledges_every_request_whatever_becomes_of_it() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let sized = |id| Message::Request(request(id, "hold"));
    let cost = frame::window_bytes(&sized(1));
    let w = net.worker_with(&[d], |config| (config.window_bytes, config.credits) = (4 * cost, 1));
    net.connect();
    let acked = |net: &mut Net, frames| {
        net.tell_frames(d, w, frames);
        net.run(LATENCY);
        net.said(w).filter_map(|sent| ack(&sent.message)).last()
    };
    let mut unreadable = frame::encode(&sized(3));
    // Metadata that reaches past the end.
    let end = unreadable.header.len() - 1;
    unreadable.header = [&unreadable.header[..end], &[9]].concat().into();
    assert_eq!(acked(&mut net, frame::encode(&sized(1))), Some(cost), "it runs");
    assert_eq!(acked(&mut net, frame::encode(&sized(1))), Some(2 * cost), "it came again");
    assert_eq!(acked(&mut net, frame::encode(&sized(2))), Some(3 * cost), "it is refused");
    assert_eq!(acked(&mut net, unreadable), Some(4 * cost), "it cannot be read");
    assert_eq!(acked(&mut net, frame::encode(&Message::Cancel(CallId(1)))), Some(4 * cost));
}

#[test]
fn answers_that_a_dispatcher_leaves_unread_use_its_credits() {
    let (mut net, d, w) = windowed(1);
    net.freeze_dispatcher(d);
    for id in 1..=20 {
        net.tell(d, w, echo(id));
    }
    net.run(ms(2));
    let runs: Vec<_> = (1..=9).map(CallId).collect();
    assert_eq!(net.w(w).runs, runs, "the first has left, and eight wait");
    assert_eq!((ended_by(&net, w).len(), net.w(w).unregistered.len()), (12, 0), "the others are refused");
}

#[test]
fn dispatcher_that_goes_on_asking_for_what_it_leaves_unread_is_hung_up_on() {
    let (mut net, d, w) = windowed(1);
    net.freeze_dispatcher(d);
    // Under an id whose reply is held back, refusals are too.
    for _ in 0..100 {
        net.tell(d, w, echo(1));
    }
    net.run(ms(2));
    assert_eq!((net.w(w).unregistered.len(), net.w(w).runs.len()), (1, 9));
    net.thaw_dispatcher(d);
    net.run(INTERVAL);
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong", "it may come back");
}

#[test]
fn client_that_takes_no_reply_costs_its_own_window_and_nobody_else_waits() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    let [deaf, other] = [bench.client_with(|ready| ready.window_bytes = 10_000), bench.client()];
    (1..=4).for_each(|call| bench.request(deaf, call, "hold"));
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, deaf), [1, 2]);
    bench.request(other, 1, "hold");
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, other), [1]);
    bench.run(INTERVAL);
    assert_eq!(bench.take(deaf), [Message::Heartbeat], "held back are replies and nothing else");
    bench.request(deaf, 5, "hold");
    answer_all(&mut bench, worker, 10);
    assert_eq!(finals(&mut bench, deaf), [5], "a small one passes");
    bench.say(deaf, Message::Ack(298));
    assert_eq!(finals(&mut bench, deaf), [0_u64; 0]);
    bench.say(deaf, Message::Ack(299));
    assert_eq!(finals(&mut bench, deaf), [3]);
    bench.say(deaf, Message::Ack(u64::MAX));
    assert_eq!(finals(&mut bench, deaf), [4]);
}

#[test]
fn client_that_gives_its_window_up_is_sent_what_was_held_back() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, client), [1]);
    let mut ready = introduction();
    (ready.role, ready.window_bytes) = (Role::Client, 0);
    bench.say(client, Message::Ready(ready));
    assert_eq!(finals(&mut bench, client), [2, 3]);
}

#[test]
fn replies_that_a_client_does_not_take_stay_with_their_workers_and_no_call_is_ended_for_it() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 40_000;
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
    bench.say(worker, partial_reply(ids[10], 0, "abc"));
    let taken = worker_acks(&mut bench, worker);
    assert!(taken < 5 * COST, "{taken} bytes are acknowledged that nobody takes");
    assert_eq!((bench.take(worker), finals(&mut bench, client)), (vec![], vec![1]));
    // Each one that the client takes makes room for another.
    let mut read = 0;
    for call in 2..=10 {
        read += COST;
        bench.say(client, Message::Ack(read));
        assert_eq!(finals(&mut bench, client), [call]);
    }
    bench.say(client, Message::Ack(u64::MAX));
    assert!(bench.take(client).contains(&partial_reply(CallId(11), 0, "abc")), "an innocent call goes on");
    assert_eq!(bench.errors(client), []);
    // All that has come is acknowledged but for less than a quarter of the window.
    assert!(worker_acks(&mut bench, worker) + 10_000 > 10 * COST);
}

#[test]
fn worker_that_sends_more_than_is_acknowledged_is_hung_up_on() {
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
fn request_that_may_have_to_go_elsewhere_is_not_acknowledged_beyond_the_clients_limit() {
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
    // A worker that is lost gives them back to the queue, where they count as before.
    bench.worker_with(|ready| ready.credits = 1);
    bench.drop_wire(worker);
    assert_eq!((bench.errors(client), bench.broker.open_calls()), (vec![], 3));
    ask(&mut bench, 4);
    assert!(bench.is_gone(client), "it has sent more than its window");
}

#[test]
fn broker_that_holds_as_much_as_it_may_refuses_further_requests() {
    let mut bench = Bench::with(|config| config.hold_limits.total_bytes_max = 12_000);
    bench.worker();
    let clients = [bench.client(), bench.client(), bench.client()];
    for client in clients {
        bench.request_with(client, 1, "hold", |request| request.payload = value(&large()));
    }
    let detail = "the broker holds 12000 bytes of its clients; its `total_bytes_max` raises that".to_owned();
    let third = bench.take(clients[2]);
    assert!(!third.iter().any(|message| matches!(message, Message::Error(_))), "{third:?}");
    let late = bench.client();
    bench.request(late, 1, "hold");
    assert!(bench.take(late).contains(&Message::Error(ErrorReply::not_started(
        CallId(1),
        ErrorCode::Overloaded,
        detail
    ))));
    // Once a request has ended there is room again.
    bench.say(clients[0], Message::Cancel(CallId(1)));
    bench.request(late, 2, "hold");
    assert_eq!(bench.errors(late), []);
}

#[test]
fn client_that_takes_no_reply_is_let_go_once_others_wait_for_it_whatever_its_own_interval_is() {
    let mut bench = Bench::with(|config| {
        config.dispatcher.window_bytes = 200_000;
        config.hold_limits.peer_bytes_max = 20_000;
    });
    let worker = bench.worker_with(|ready| ready.credits = 100);
    // Their intervals are of minutes. The last one is deaf as well, and stays within its limit.
    let [deaf, slow, modest] = [(); 3].map(|()| bench.client_with(|ready| ready.window_bytes = 10_000));
    for (client, calls) in [(deaf, 20), (slow, 20), (modest, 4)] {
        (1..=calls).for_each(|call| bench.request(client, call, "hold"));
        answer_all(&mut bench, worker, LARGE);
    }
    for second in 0..29 {
        assert!(!bench.is_gone(deaf), "after {second} s");
        bench.say(slow, Message::Ack(second / 4 * COST));
        bench.run(INTERVAL);
    }
    bench.run(2 * INTERVAL);
    assert!(bench.is_gone(deaf) && !bench.is_gone(slow) && !bench.is_gone(modest) && !bench.is_gone(worker));
    // What it had kept from its worker is acknowledged.
    (0..20).for_each(|_| bench.say(slow, Message::Ack(u64::MAX)));
    assert!(worker_acks(&mut bench, worker) + 200_000 / 4 > 44 * COST);
}

#[test]
fn repeated_answer_to_a_worker_leaves_after_the_request_that_fills_its_window() {
    let mut bench = Bench::new();
    let window = 300;
    let introduced = |credits| Message::Ready(Ready { credits, window_bytes: window, ..introduction() });
    let worker = bench.open(Door::Back);
    bench.say(worker, introduced(1));
    let client = bench.client();
    bench.request(client, 1, "hold");
    bench.request_with(client, 2, "hold", |request| request.payload = value(&large()));
    bench.take(worker);
    let mut in_transit = 150;
    bench.say(worker, introduced(2));
    let sent = bench.take(worker);
    for message in &sent {
        assert!(!waits_for_room(message) || in_transit < window, "{sent:?}");
        in_transit += frame::window_bytes(message);
    }
    assert!(sent.iter().any(|message| message.request().is_some()), "{sent:?}");
    bench.say(worker, Message::Ack(u64::MAX));
    assert!(bench.take(worker).iter().any(|message| matches!(message, Message::Ready(_))));
}

#[test]
fn repeated_introductions_are_answered_only_as_fast_as_they_are_taken() {
    let mut bench = Bench::new();
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1_000);
    let ready = Message::Ready(Ready { role: Role::Client, window_bytes: 1_000, ..introduction() });
    (0..1_000).for_each(|_| bench.say(client, ready.clone()));
    let is_ready = |message: &Message| matches!(message, Message::Ready(_));
    let answers = bench.take(client).into_iter().filter(is_ready).count() as u64;
    assert!((2..=20).contains(&answers), "{answers} answers to a peer that takes none");
    // The newest one follows once there is room.
    bench.drop_wire(worker);
    bench.say(client, Message::Ack(u64::MAX));
    let last = bench.take(client).into_iter().rfind(is_ready);
    assert!(matches!(last, Some(Message::Ready(ready)) if ready.services.is_empty()));
}

#[test]
fn introduction_that_was_put_off_takes_its_place_in_the_window_before_what_is_held() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 200));
    (1..=2).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    bench.reply(
        worker,
        ids[0],
        "small, and more than the window with its header: it passes, and fills it. ...........",
    );
    bench.say(worker, partial_reply(ids[1], 0, &"x".repeat(200)));
    bench.say(worker, partial_reply(ids[1], 1, "held"));
    bench.worker_with(|ready| ready.services = vec![offer("Other", &["ping"])]);
    bench.run(ms(1_000));
    bench.take(client);
    let is_ready = |message: &Message| matches!(message, Message::Ready(_));
    let is_partial = |message: &Message| matches!(message, Message::Partial(_));
    bench.say(client, Message::Ack(u64::MAX));
    let sent = bench.take(client);
    assert!(sent.iter().any(is_ready) && !sent.iter().any(is_partial), "{sent:?}");
    bench.say(client, Message::Ack(u64::MAX));
    assert!(bench.take(client).iter().any(is_partial));
}

#[test]
fn worker_starts_nothing_for_a_dispatcher_that_takes_no_replies() {
    let mut net = Net::new();
    let [deaf, other] = [(); 2].map(|()| net.dispatcher_with(|config| config.window_bytes = 1));
    let w = net.worker_with(&[deaf, other], |config| config.hold_limits.peer_bytes_max = 8_000);
    net.connect();
    net.freeze_dispatcher(deaf);
    for id in 1..=8 {
        net.tell(deaf, w, echo(id));
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

#[test]
fn unread_answers_of_a_client_are_bounded_by_its_credits_and_one_who_asks_for_more_is_let_go() {
    let mut bench = Bench::with(|config| config.credits = 4);
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    bench.request(client, 1, "hold");
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, client), [1]);
    // As many as there are credits, all answered and none read.
    for call in 2..=5 {
        bench.request(client, call, "hold");
        answer_all(&mut bench, worker, LARGE);
    }
    assert!(!bench.is_gone(client));
    (6..=9).for_each(|call| bench.request(client, call, "hold"));
    assert_eq!(bench.requests(worker), [], "a credit is free once its answer has left");
    assert_eq!(bench.errors(client), [6, 7, 8, 9].map(|call| (call, ErrorCode::Overloaded, false)));
    assert!(!bench.is_gone(client));
    // Under an id whose reply is held back, refusals are too.
    (0..2).for_each(|_| bench.request(client, 2, "hold"));
    assert!(bench.is_gone(client));
    assert_eq!(bench.outputs.last(), Some(&BrokerOutput::ClientLeft(Peer(0), Departure::Disconnected)));
    let client: Wire = bench.client();
    assert_eq!(client.0, Door::Front);
    bench.request(client, 1, "hold");
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, client), [1]);
}

#[test]
fn client_that_reads_late_is_refused_nothing_within_its_credits() {
    let mut bench = Bench::with(|config| config.credits = 2);
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    let mut taken = 0;
    for round in 0..10 {
        (1..=2).for_each(|call| bench.request(client, 2 * round + call, "hold"));
        answer_all(&mut bench, worker, LARGE);
        for _ in 0..2 {
            assert_eq!(finals(&mut bench, client).len(), 1);
            taken += COST;
            bench.say(client, Message::Ack(taken));
        }
    }
    assert_eq!(bench.errors(client), []);
}

#[test]
fn error_with_a_large_payload_waits_for_room_and_one_without_passes() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    bench.reply(worker, ids[0], "done");
    bench.take(client);
    let Message::Error(error) = error_reply(ids[1], ErrorCode::Application, true) else { panic!("an error") };
    bench.say(worker, Message::Error(ErrorReply { payload: value(&large()), ..error }));
    bench.say(worker, error_reply(ids[2], ErrorCode::Panicked, true));
    assert_eq!(bench.errors(client), [(3, ErrorCode::Panicked, true)]);
    bench.say(client, Message::Ack(u64::MAX));
    assert_eq!(bench.errors(client), [(2, ErrorCode::Application, true)]);
}

#[test]
fn replies_to_a_call_keep_their_order_however_large_they_are() {
    let (mut net, d, w) = windowed(1);
    let call = net.call(d, "hold");
    net.run(ms(5));
    for text in ["a", &large(), "b", ""] {
        net.partial(w, call, text);
    }
    net.reply(w, call, "small enough to pass any other");
    net.run(20 * LATENCY);
    assert_eq!(net.partials(call), ["a", &large(), "b", ""]);
    assert_eq!(net.value(call), "small enough to pass any other");
}

/// A dispatcher that takes so many bytes of replies at once, and its worker.
fn windowed(window_bytes: u64) -> (Net, D, W) {
    let mut net = Net::new();
    let d = net.dispatcher_with(move |config| config.window_bytes = window_bytes);
    let w = net.worker(&[d]);
    net.connect();
    (net, d, w)
}

/// The calls that the worker's sent messages have ended.
fn ended_by(net: &Net, w: W) -> Vec<CallId> {
    let ended = |message: &Message| match message {
        Message::Final(reply) => Some(reply.call),
        Message::Error(error) => Some(error.call),
        _ => None,
    };
    net.said(w).filter_map(|sent| ended(&sent.message)).collect()
}

/// The calls that the worker was asked for.
fn asked(net: &Net, w: W) -> Vec<CallId> {
    net.told(w).filter_map(|sent| sent.message.request()).collect()
}

fn echo(id: u64) -> Message {
    Message::Request(Request { payload: value(&large()), ..request(id, "echo") })
}

/// A value that waits for room.
fn large() -> String {
    "x".repeat(LARGE)
}

/// What puppets were acknowledged.
fn acks(net: &Net) -> Vec<u64> {
    net.told_strangers().filter_map(|sent| ack(&sent.message)).collect()
}

/// Ends every request that the worker was sent, with so many bytes.
fn answer_all(bench: &mut Bench, worker: Wire, bytes: usize) {
    for request in bench.requests(worker) {
        let payload = value(&"x".repeat(bytes));
        bench.say(worker, Message::Final(FinalReply { call: request.call, partials: 0, payload }));
    }
}

/// The calls whose final replies the client was sent since the last time.
fn finals(bench: &mut Bench, client: Wire) -> Vec<u64> {
    let call = |message| match message {
        Message::Final(reply) => Some(reply.call.0),
        _ => None,
    };
    bench.take(client).into_iter().filter_map(call).collect()
}

/// What the broker has acknowledged to a worker, in bytes.
fn worker_acks(bench: &mut Bench, worker: Wire) -> u64 {
    bench.take(worker).iter().filter_map(ack).max().unwrap_or(0)
}

fn ack(message: &Message) -> Option<u64> {
    match message {
        Message::Ack(bytes) => Some(*bytes),
        _ => None,
    }
}

const LARGE: usize = 5_000;

/// What a large reply counts for.
const COST: u64 = LARGE as u64 + 32 + 64;
