//! Byte windows both ways: who fills one waits, who empties it is heard of, and nobody else notices.

use super::{
    bench::{Bench, Wire},
    network::Net,
    pair::{D, INTERVAL, LATENCY, TICK, W, error_reply, final_reply, introduction, ms, partial_reply, value},
};
use crate::proto::{
    broker::{BrokerOutput, Door},
    calls::CallFailure,
    dispatch::Departure,
    frame,
    message::{CallId, ErrorCode, FinalReply, Message, Peer, Role},
    worker::Finish,
};

#[test]
fn replies_wait_at_the_worker_while_the_dispatcher_reads_none_and_come_in_order_when_it_does() {
    let (mut net, d, w) = windowed(100);
    let calls: Vec<_> = (0..6).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    net.freeze_dispatcher(d);
    calls.iter().for_each(|call| net.reply(w, *call, &"x".repeat(60)));
    net.run(INTERVAL);
    assert_eq!(ended_by(&net, w), calls[..2]);
    net.thaw_dispatcher(d);
    net.run(20 * LATENCY);
    assert_eq!(ended_by(&net, w), calls);
    calls.iter().for_each(|call| assert_eq!(net.value(*call).len(), 60));
}

#[test]
fn procedure_is_told_of_each_partial_reply_when_it_leaves_and_not_before() {
    let (mut net, d, w) = windowed(10);
    let call = net.call(d, "hold");
    net.run(ms(5));
    for text in ["0123456789", "next", "last"] {
        assert!(net.partial(w, call, text));
    }
    assert_eq!(net.w(w).partials_sent, [10]);
    net.run(2 * LATENCY - TICK);
    assert_eq!(net.w(w).partials_sent, [10]);
    net.run(TICK);
    assert_eq!(net.w(w).partials_sent, [10, 4, 4]);
    net.reply(w, call, "done");
    net.run(4 * LATENCY);
    assert_eq!((net.partials(call).len(), net.value(call).as_str()), (3, "done"));
}

#[test]
fn any_window_lets_everything_through_in_the_end() {
    for window in [1, 2, 3, 7, 64, 1_000] {
        let (mut net, d, w) = windowed(window);
        let calls: Vec<_> = (0..8).map(|_| net.call(d, "hold")).collect();
        net.run(ms(5));
        for (size, call) in [0, 1, 5, 300].into_iter().cycle().zip(&calls) {
            // Empty ones too, which no window counts.
            for step in [0, 3, size] {
                net.partial(w, *call, &"x".repeat(step));
            }
            net.reply(w, *call, &"y".repeat(size));
        }
        net.run(200 * LATENCY);
        for (size, call) in [0, 1, 5, 300].into_iter().cycle().zip(&calls) {
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
    calls.iter().for_each(|call| net.reply(w, *call, "done"));
    net.drain(w);
    net.run(INTERVAL);
    assert_eq!((ended_by(&net, w), net.w(w).left_at), (vec![calls[0]], None));
    net.thaw_dispatcher(d);
    net.run(5 * LATENCY);
    assert_eq!(calls.map(|call| net.value(call)), ["done", "done"]);
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
    calls[..2].iter().for_each(|call| net.reply(w, *call, "done"));
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
fn dispatcher_acknowledges_each_quarter_of_its_window_and_every_reply_counts() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.window_bytes = 100);
    let puppet = net.puppet(d, 8);
    let call = net.call(d, "hold");
    net.run(ms(5));
    let sized = |sequence, size: usize| partial_reply(call, sequence, &"x".repeat(size));
    let taken = |net: &mut Net, message: Message| {
        net.say(puppet, message);
        net.run(3 * LATENCY);
        acks(net)
    };
    assert!(taken(&mut net, sized(0, 24)).is_empty());
    assert_eq!(taken(&mut net, sized(1, 1)), [25]);
    assert_eq!(taken(&mut net, sized(1, 30)), [25, 55], "one that came again");
    assert_eq!(taken(&mut net, final_reply(CallId(99), &"x".repeat(30))), [25, 55, 85], "an unsolicited one");
    assert_eq!(taken(&mut net, Message::Ready(introduction())), [25, 55, 85]);
    assert_eq!(taken(&mut net, sized(2, 26)), [25, 55, 85, 111], "an introduction does not start anew");
    let unreadable = {
        let mut frames = frame::encode(&sized(3, 40));
        // An unknown codec.
        let header = frames.header.iter().enumerate().map(|(at, byte)| if at == 24 { 99 } else { *byte });
        frames.header = header.collect::<Vec<_>>().into();
        frames
    };
    net.say_frames(puppet, unreadable);
    net.run(3 * LATENCY);
    assert_eq!(acks(&net), [25, 55, 85, 111, 151], "one that cannot be read");
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { .. }));
    net.say(puppet, final_reply(call, &"x".repeat(200)));
    net.run(3 * LATENCY);
    assert_eq!(acks(&net), [25, 55, 85, 111, 151, 351], "one that is too late");
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
    let (mut net, d, w) = windowed(100);
    let calls: Vec<_> = (0..5).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    net.freeze_dispatcher(d);
    for (call, ended) in calls.iter().zip([1, 2, 2, 2]) {
        net.reply(w, *call, &"x".repeat(60));
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
    assert_eq!(ended_by(&net, w).len(), 2, "a hundred bytes are still on their way");
    net.tell(d, w, Message::Ack(u64::MAX));
    net.run(LATENCY);
    assert_eq!(ended_by(&net, w).len(), 4, "more than was sent is all that was sent");
    for ack in [200, 0] {
        net.tell(d, w, Message::Ack(ack));
    }
    net.run(LATENCY);
    net.reply(w, calls[4], "done");
    net.run(TICK);
    assert_eq!(ended_by(&net, w).len(), 5, "what was acknowledged stays so");
}

#[test]
fn requests_wait_at_the_dispatcher_while_the_workers_bytes_are_spent() {
    // One is let through beyond the window, and no second one.
    for sizes in [[99, 500, 1, 0], [40, 60, 1, 0]] {
        let mut net = Net::new();
        let d = net.dispatcher();
        let w = net.worker_with(&[d], |config| config.window_bytes = 100);
        net.connect();
        let call = |size| net.call_with(d, "hold", |spec| spec.payload = value(&"x".repeat(size)));
        let calls = sizes.map(call);
        net.run(ms(5));
        assert_eq!(net.w(w).runs, calls[..2]);
        net.finish(w, calls[1], Finish::Aborted);
        net.run(ms(5));
        assert_eq!(net.w(w).runs.len(), if sizes[0] == 99 { 3 } else { 4 });
        net.reply(w, calls[0], "done");
        net.run(ms(5));
        assert_eq!(net.w(w).runs, calls);
    }
}

#[test]
fn request_beyond_the_workers_bytes_is_refused_and_its_bytes_count_for_nothing() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.window_bytes = 100);
    net.connect();
    let request = |id, size: usize| {
        Message::Request(crate::proto::message::Request {
            payload: value(&"x".repeat(size)),
            ..super::bench::request(id, "hold")
        })
    };
    (1..=3).for_each(|id| net.tell(d, w, request(id, 60)));
    net.run(ms(5));
    assert_eq!((net.w(w).runs.clone(), ended_by(&net, w)), (vec![CallId(1), CallId(2)], vec![CallId(3)]));
    net.reply(w, CallId(1), "done");
    net.tell(d, w, request(4, 60));
    net.run(ms(5));
    assert_eq!(net.w(w).runs, [1, 2, 4].map(CallId));
}

#[test]
fn dispatcher_that_leaves_its_answers_unread_and_asks_for_more_is_hung_up_on() {
    let (mut net, d, w) = windowed(1);
    net.tell(d, w, Message::Request(super::bench::request(1, "echo")));
    net.run(ms(1));
    net.freeze_dispatcher(d);
    for id in 2..=100 {
        net.tell(d, w, Message::Request(super::bench::request(id, "echo")));
    }
    net.run(ms(2));
    assert!(net.w(w).unregistered.len() == 1 && net.w(w).runs.len() <= 8 + 1, "{:?}", net.w(w).runs);
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
    let [deaf, other] = [bench.client_with(|ready| ready.window_bytes = 100), bench.client()];
    (1..=4).for_each(|call| bench.request(deaf, call, "hold"));
    answer_all(&mut bench, worker, 60);
    assert_eq!(finals(&mut bench, deaf), [1, 2]);
    bench.request(other, 1, "hold");
    answer_all(&mut bench, worker, 60);
    assert_eq!(finals(&mut bench, other), [1]);
    bench.run(INTERVAL);
    assert_eq!(bench.take(deaf), [Message::Heartbeat], "held back are replies and nothing else");
    bench.say(deaf, Message::Ack(20));
    assert_eq!(finals(&mut bench, deaf), [0_u64; 0]);
    bench.say(deaf, Message::Ack(21));
    assert_eq!(finals(&mut bench, deaf), [3]);
    bench.say(deaf, Message::Ack(u64::MAX));
    assert_eq!(finals(&mut bench, deaf), [4]);
}

#[test]
fn client_that_gives_its_window_up_is_sent_what_was_held_back() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    answer_all(&mut bench, worker, 60);
    assert_eq!(finals(&mut bench, client), [1]);
    let mut ready = introduction();
    (ready.role, ready.window_bytes) = (Role::Client, 0);
    bench.say(client, Message::Ready(ready));
    assert_eq!(finals(&mut bench, client), [2, 3]);
}

#[test]
fn calls_whose_partial_replies_pile_up_end_and_the_replies_of_the_others_are_kept() {
    for (size, most) in [(1 << 20, 20), (0, 100_000)] {
        let mut bench = Bench::new();
        let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
        (1..=3).for_each(|call| bench.request(client, call, "hold"));
        let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
        bench.reply(worker, ids[0], "fills the window");
        bench.reply(worker, ids[1], "is kept");
        let text = "x".repeat(size);
        let sent = (0..most).find(|sequence| {
            bench.say(worker, partial_reply(ids[2], *sequence, &text));
            bench.take(worker).contains(&Message::Cancel(ids[2]))
        });
        assert!(sent.is_some(), "partial replies of {size} bytes pile up without end");
        bench.take(client);
        bench.say(client, Message::Ack(u64::MAX));
        let kept = bench.take(client);
        assert!(matches!(&kept[0], Message::Final(reply) if reply.call == CallId(2)), "{:?}", kept[0]);
        while !bench.take(client).is_empty() {}
    }
}

#[test]
fn unread_answers_of_a_client_are_bounded_by_its_credits_and_one_who_asks_for_more_is_let_go() {
    let mut bench = Bench::with(|config| config.credits = 4);
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    bench.request(client, 1, "hold");
    answer_all(&mut bench, worker, 1);
    assert_eq!(finals(&mut bench, client), [1]);
    // As many as there are credits, all answered and none read.
    for call in 2..=5 {
        bench.request(client, call, "hold");
        answer_all(&mut bench, worker, 1);
    }
    assert!(!bench.is_gone(client));
    (6..=7).for_each(|call| bench.request(client, call, "hold"));
    assert_eq!(bench.requests(worker), [], "a credit is free once its answer has left");
    bench.request(client, 8, "hold");
    assert!(bench.is_gone(client));
    assert_eq!(bench.outputs.last(), Some(&BrokerOutput::ClientLeft(Peer(0), Departure::Disconnected)));
    let client: Wire = bench.client();
    assert_eq!(client.0, Door::Front);
    bench.request(client, 1, "hold");
    answer_all(&mut bench, worker, 1);
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
        answer_all(&mut bench, worker, 1);
        for _ in 0..2 {
            assert_eq!(finals(&mut bench, client).len(), 1);
            taken += 1;
            bench.say(client, Message::Ack(taken));
        }
    }
    assert_eq!(bench.errors(client), []);
}

#[test]
fn error_with_a_payload_counts_in_the_window_and_one_without_waits_its_turn() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    let ids: Vec<_> = bench.requests(worker).iter().map(|request| request.call).collect();
    let Message::Error(error) = error_reply(ids[0], ErrorCode::Application, true) else { panic!("an error") };
    bench.say(worker, Message::Error(crate::proto::message::ErrorReply { payload: value("own"), ..error }));
    bench.say(worker, error_reply(ids[1], ErrorCode::Panicked, true));
    bench.reply(worker, ids[2], "done");
    assert_eq!(bench.errors(client), [(1, ErrorCode::Application, true)]);
    bench.say(client, Message::Ack(3));
    let told = bench.take(client);
    assert!(matches!(&told[..], [Message::Error(error), Message::Final(reply)]
        if (error.call, error.code, reply.call) == (CallId(2), ErrorCode::Panicked, CallId(3))));
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

/// What puppets were acknowledged.
fn acks(net: &Net) -> Vec<u64> {
    let ack = |message: &Message| match message {
        Message::Ack(bytes) => Some(*bytes),
        _ => None,
    };
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
