//! Byte windows both ways: a sender waits at a full one, its reader's acknowledgements make room, and no other peer
//! notices.

use uuid::Uuid;

use super::{
    bench::{Bench, Wire, request},
    network::Net,
    pair::{
        D, INTERVAL, LATENCY, TICK, W, error_reply, final_reply, introduction, ms, partial_reply, spec, start, value,
    },
};
use crate::proto::{
    broker::{BrokerOutput, Door},
    calls::{CallFailure, CallSpec},
    dispatch::{Departure, Dispatcher, DispatcherConfig},
    frame,
    message::{CallId, ErrorCode, ErrorReply, FinalReply, Message, PartialReply, Peer, Ready, Request, Role},
};

#[test]
fn replies_wait_at_the_worker_until_the_dispatcher_reads_and_arrive_in_order() {
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
fn procedure_learns_of_each_partial_reply_exactly_when_it_leaves() {
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
fn any_window_eventually_lets_everything_through() {
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
fn call_whose_reply_is_held_back_by_a_leaving_worker_never_runs_again() {
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
fn held_reply_of_a_lost_caller_is_forgotten() {
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
        net.send_as(puppet, message);
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
    net.send_frames_as(puppet, unreadable);
    net.run(3 * LATENCY);
    assert_eq!(acks(&net).last(), Some(&(sum + 200)), "one that cannot be read");
    assert!(matches!(net.failure(call), CallFailure::UnreadableReply { .. }));
    net.send_as(puppet, final_reply(call, &"x".repeat(200)));
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
    net.send_as(puppet, final_reply(call, &"x".repeat(100_000)));
    net.run(ms(5));
    assert_eq!(acks(&net), [0_u64; 0]);
}

#[test]
fn impossible_acknowledgements_change_nothing() {
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
        net.send_to(d, w, Message::Ack(ack));
        net.run(LATENCY);
    }
    assert_eq!(ended_by(&net, w).len(), 2, "ten thousand bytes are still on their way");
    net.send_to(d, w, Message::Ack(u64::MAX));
    net.run(LATENCY);
    assert_eq!(ended_by(&net, w).len(), 4, "more than was sent is all that was sent");
    for ack in [15_000, 0] {
        net.send_to(d, w, Message::Ack(ack));
    }
    net.run(LATENCY);
    net.reply(w, calls[4], &large());
    net.run(TICK);
    assert_eq!(ended_by(&net, w).len(), 5, "what was acknowledged stays so");
}

#[test]
fn requests_wait_at_the_dispatcher_while_the_workers_window_is_full_and_small_ones_pass() {
    // One message passes beyond the window, but no second one; with its counted bytes, the others fill the window
    // exactly.
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
fn metadata_of_a_request_waits_for_the_workers_window_like_its_payload() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let w = net.worker_with(&[d], |config| config.window_bytes = 1);
    net.connect();
    net.freeze_worker(w);
    let mut call = |metadata: usize, size| {
        net.call_with(d, "hold", |spec| {
            spec.metadata.insert("key".to_owned(), vec![0; metadata].into());
            spec.payload = value(&"x".repeat(size));
        })
    };
    let calls = [call(5_000, 0), call(5_000, 0), call(2_000, 3_000), call(1_000, 2_000)];
    net.run(ms(5));
    assert_eq!(asked(&net, w), [calls[0], calls[3]], "the first one has taken the room");
    net.thaw_worker(w);
    net.run(10 * LATENCY);
    assert_eq!(asked(&net, w)[2..], calls[1..3]);
}

#[test]
fn worker_that_acknowledges_nothing_gets_no_request_beyond_a_bound_however_small() {
    let (now, mut dispatcher) = (start(), Dispatcher::new(DispatcherConfig::default()));
    let ready = |worker, window_bytes| {
        let incarnation = Uuid::from_u64_pair(3, worker);
        Message::Ready(Ready { incarnation, credits: 65_536, window_bytes, ..introduction() })
    };
    let requests = |dispatcher: &mut Dispatcher| {
        while dispatcher.poll_output().is_some() {}
        let transmits = std::iter::from_fn(|| dispatcher.poll_transmit());
        let sent = transmits.flat_map(|transmit| transmit.messages.into_iter().map(move |it| (transmit.to, it)));
        sent.filter(|(_, message)| matches!(message, Message::Request(_))).collect::<Vec<_>>()
    };
    let payload = value(&"x".repeat(4_096));
    let call = |dispatcher: &mut Dispatcher, id, time| {
        let (deadline, payload) = (now + time, payload.clone());
        dispatcher.call(now, CallId(id), CallSpec { deadline, payload, ..spec(now, "hold") });
    };
    dispatcher.handle_message(now, Peer(1), ready(1, 1));
    // Its calls end; what is on its way to it stays there.
    (0..5_000).for_each(|id| call(&mut dispatcher, id, ms(1)));
    (0..6).for_each(|_| dispatcher.handle_timeout(now + ms(1)));
    let sent = requests(&mut dispatcher);
    let bytes: u64 = sent.iter().map(|(_, message)| frame::window_bytes(message)).sum();
    assert!((16 << 20..(16 << 20) + 20_000).contains(&bytes), "{bytes} bytes");
    // A later call goes elsewhere, or waits.
    dispatcher.handle_message(now, Peer(2), ready(2, 1));
    call(&mut dispatcher, 6_000, ms(9_000));
    assert_eq!(requests(&mut dispatcher).iter().map(|(to, _)| to.0).collect::<Vec<_>>(), [2]);
    dispatcher.handle_disconnected(now, Peer(2));
    [6_001, 6_002].into_iter().for_each(|id| call(&mut dispatcher, id, ms(9_000)));
    assert!(dispatcher.is_waiting(CallId(6_001)) && requests(&mut dispatcher).is_empty());
    // An acknowledgement makes room, and so does a larger window.
    dispatcher.handle_message(now, Peer(1), Message::Ack(10_000));
    assert_eq!(requests(&mut dispatcher).len(), 2);
    (6_003..6_006).for_each(|id| call(&mut dispatcher, id, ms(9_000)));
    requests(&mut dispatcher);
    assert!(dispatcher.is_waiting(CallId(6_005)));
    dispatcher.handle_message(now, Peer(1), ready(1, 1 << 20));
    assert!(!dispatcher.is_waiting(CallId(6_005)));
}

#[test]
fn repeated_introduction_that_fills_the_workers_window_leaves_no_room_for_a_large_request() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let puppet = net.puppet_with(d, |ready| (ready.credits, ready.window_bytes) = (8, 100));
    let incarnation = Uuid::from_u64_pair(3, puppet.0);
    let again = Ready { incarnation, credits: 8, window_bytes: 100, ..introduction() };
    net.send_as(puppet, Message::Ready(again));
    net.run(3 * LATENCY);
    let asked = |net: &Net| net.sent_to_strangers().filter_map(|sent| sent.message.request()).collect::<Vec<_>>();
    let mut call = |size| net.call_with(d, "hold", |spec| spec.payload = value(&"x".repeat(size)));
    let [large, small] = [call(5_000), call(0)];
    net.run(3 * LATENCY);
    assert_eq!(asked(&net), [small], "the dispatcher's own introduction has taken the room");
    net.send_as(puppet, Message::Ack(u64::MAX));
    net.run(3 * LATENCY);
    assert_eq!(asked(&net), [small, large]);
}

#[test]
fn request_without_room_at_one_worker_goes_to_another() {
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
fn worker_acknowledges_every_request_however_it_ends() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let sized = |id| Message::Request(request(id, "hold"));
    let cost = frame::window_bytes(&sized(1));
    let w = net.worker_with(&[d], |config| (config.window_bytes, config.credits) = (4 * cost, 1));
    net.connect();
    let acked = |net: &mut Net, frames| {
        net.send_frames_to(d, w, frames);
        net.run(LATENCY);
        net.sent_by(w).filter_map(|sent| ack(&sent.message)).last()
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
fn unread_answers_use_the_dispatchers_credits() {
    let (mut net, d, w) = windowed(1);
    net.freeze_dispatcher(d);
    for id in 1..=20 {
        net.send_to(d, w, echo(id));
    }
    net.run(ms(2));
    let runs: Vec<_> = (1..=9).map(CallId).collect();
    assert_eq!(net.w(w).runs, runs, "the first has left, and eight wait");
    assert_eq!((ended_by(&net, w).len(), net.w(w).unregistered.len()), (12, 0), "the others are refused");
}

#[test]
fn dispatcher_that_reads_no_answers_and_keeps_asking_is_dropped() {
    let (mut net, d, w) = windowed(1);
    net.freeze_dispatcher(d);
    // While a reply is held back, so are refusals under the same id.
    for _ in 0..100 {
        net.send_to(d, w, echo(1));
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
fn client_that_reads_no_reply_costs_its_window_and_delays_no_other() {
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
    assert!(matches!(bench.take(deaf)[..], [Message::Ack(_)]), "held back are replies and nothing else");
    bench.request(deaf, 5, "hold");
    answer_all(&mut bench, worker, 10);
    assert_eq!(finals(&mut bench, deaf), [5], "a small one passes");
    bench.send_as(deaf, Message::Ack(298));
    assert_eq!(finals(&mut bench, deaf), [0_u64; 0]);
    bench.send_as(deaf, Message::Ack(299));
    assert_eq!(finals(&mut bench, deaf), [3]);
    bench.send_as(deaf, Message::Ack(u64::MAX));
    assert_eq!(finals(&mut bench, deaf), [4]);
}

#[test]
fn client_that_raises_its_window_gets_its_held_replies() {
    let mut bench = Bench::new();
    let (worker, client) = (bench.worker(), bench.client_with(|ready| ready.window_bytes = 1));
    (1..=3).for_each(|call| bench.request(client, call, "hold"));
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, client), [1]);
    let mut ready = introduction();
    (ready.role, ready.window_bytes) = (Role::Client, 0);
    bench.send_as(client, Message::Ready(ready));
    assert_eq!(finals(&mut bench, client), [2, 3]);
}

#[test]
fn held_replies_of_a_client_that_raises_its_window_leave_a_bounded_number_at_a_time() {
    const PARTIALS: u32 = 10_000;
    let mut bench = Bench::new();
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    bench.request(client, 1, "hold");
    let id = bench.request_id(worker);
    for sequence in 0..PARTIALS {
        bench.send_as(worker, Message::Partial(PartialReply { call: id, sequence, payload: value("x") }));
    }
    let sent = |bench: &mut Bench| {
        let taken = bench.take(client).into_iter();
        let sequence = |message| if let Message::Partial(reply) = message { Some(reply.sequence) } else { None };
        taken.filter_map(sequence).collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut bench), [0]);
    let incarnation = Uuid::from_u64_pair(3, client.1.0);
    let ready = Ready { role: Role::Client, incarnation, credits: 0, services: vec![], ..introduction() };
    bench.send_as(client, Message::Ready(ready));
    let mut all = sent(&mut bench);
    assert!((1_000..5_000).contains(&all.len()), "{}", all.len());
    // What comes meanwhile is last.
    bench.send_as(worker, Message::Partial(PartialReply { call: id, sequence: PARTIALS, payload: value("x") }));
    bench.run(ms(1));
    all.extend(sent(&mut bench));
    assert_eq!(all, (1..=PARTIALS).collect::<Vec<_>>());
}

#[test]
fn clients_unread_answers_are_bounded_by_its_credits_and_asking_for_more_drops_it() {
    let mut bench = Bench::with(|config| config.credits = 4);
    let worker = bench.worker();
    let client = bench.client_with(|ready| ready.window_bytes = 1);
    bench.request(client, 1, "hold");
    answer_all(&mut bench, worker, LARGE);
    assert_eq!(finals(&mut bench, client), [1]);
    // As many as the credits, all answered and none read.
    for call in 2..=5 {
        bench.request(client, call, "hold");
        answer_all(&mut bench, worker, LARGE);
    }
    assert!(!bench.is_gone(client));
    (6..=9).for_each(|call| bench.request(client, call, "hold"));
    assert_eq!(bench.requests(worker), [], "a credit is free once its answer has left");
    assert_eq!(bench.errors(client), [6, 7, 8, 9].map(|call| (call, ErrorCode::Overloaded, false)));
    assert!(!bench.is_gone(client));
    // While a reply is held back, so are refusals under the same id.
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
fn late_reader_is_refused_nothing_within_its_credits() {
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
            bench.send_as(client, Message::Ack(taken));
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
    bench.send_as(worker, Message::Error(ErrorReply { payload: value(&large()), ..error }));
    bench.send_as(worker, error_reply(ids[2], ErrorCode::Panicked, true));
    assert_eq!(bench.errors(client), [(3, ErrorCode::Panicked, true)]);
    bench.send_as(client, Message::Ack(u64::MAX));
    assert_eq!(bench.errors(client), [(2, ErrorCode::Application, true)]);
}

#[test]
fn replies_to_a_call_keep_their_order_at_any_size() {
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

/// A dispatcher with this window for replies, and its worker.
fn windowed(window_bytes: u64) -> (Net, D, W) {
    let mut net = Net::new();
    let d = net.dispatcher_with(move |config| config.window_bytes = window_bytes);
    let w = net.worker(&[d]);
    net.connect();
    (net, d, w)
}

/// The calls that the worker has ended.
fn ended_by(net: &Net, w: W) -> Vec<CallId> {
    let ended = |message: &Message| match message {
        Message::Final(reply) => Some(reply.call),
        Message::Error(error) => Some(error.call),
        _ => None,
    };
    net.sent_by(w).filter_map(|sent| ended(&sent.message)).collect()
}

/// The calls that the worker was sent.
fn asked(net: &Net, w: W) -> Vec<CallId> {
    net.sent_to(w).filter_map(|sent| sent.message.request()).collect()
}

pub(super) fn echo(id: u64) -> Message {
    Message::Request(Request { payload: value(&large()), ..request(id, "echo") })
}

/// A value that waits for room.
pub(super) fn large() -> String {
    "x".repeat(LARGE)
}

/// The acknowledgements sent to puppets.
fn acks(net: &Net) -> Vec<u64> {
    net.sent_to_strangers().filter_map(|sent| ack(&sent.message)).collect()
}

/// Ends every request that the worker was sent, with a reply of this many bytes.
pub(super) fn answer_all(bench: &mut Bench, worker: Wire, bytes: usize) {
    for request in bench.requests(worker) {
        let payload = value(&"x".repeat(bytes));
        bench.send_as(worker, Message::Final(FinalReply { call: request.call, partials: 0, payload }));
    }
}

/// Takes the calls whose final replies were sent to the client.
pub(super) fn finals(bench: &mut Bench, client: Wire) -> Vec<u64> {
    let call = |message| match message {
        Message::Final(reply) => Some(reply.call.0),
        _ => None,
    };
    bench.take(client).into_iter().filter_map(call).collect()
}

pub(super) fn ack(message: &Message) -> Option<u64> {
    match message {
        Message::Ack(bytes) => Some(*bytes),
        _ => None,
    }
}

pub(super) const LARGE: usize = 5_000;

/// What a large reply counts in a window.
pub(super) const COST: u64 = LARGE as u64 + 32 + 64;
