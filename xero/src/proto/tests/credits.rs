//! Credits and the choice of a worker (`PROTOCOL.md` §9): never exceeded, never lost, and no worker idles while a call
//! waits that it could run.

use super::{
    network::Net,
    pair::{D, INTERVAL, W, final_reply, ms, value},
};
use crate::proto::{
    calls::{CallFailure, WaitPolicy},
    message::{CallId, Message, Names},
};

#[test]
fn worker_gets_no_more_than_its_credits_and_the_rest_in_order() {
    let (mut net, d, w) = with_credits(&[2]);
    let w = w[0];
    let calls: Vec<_> = (0..5).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    assert_eq!(net.w(w).runs, calls[..2]);
    net.reply(w, calls[1], "done");
    net.run(ms(5));
    assert_eq!(net.w(w).runs, calls[..3]);
    for call in [calls[0], calls[2], calls[3], calls[4]] {
        net.reply(w, call, "done");
        net.run(ms(5));
        assert_eq!(net.value(call), "done");
    }
    assert_eq!(net.in_flight(d), 0);
}

#[test]
fn every_kind_of_end_returns_the_credit() {
    let (mut net, d, w) = with_credits(&[1]);
    for method in ["ping", "fail", "panic", "hold", "stubborn"] {
        let call = net.call_with(d, method, |spec| spec.deadline -= 4 * INTERVAL);
        net.run(ms(1100));
        if net.is_running(w[0], call) {
            assert_eq!(net.in_flight(d), 1, "{method}: the worker is still at it");
            net.reply(w[0], call, "late");
            net.run(ms(5));
        }
        assert_eq!(net.in_flight(d), 0, "{method}");
        let next = net.call(d, "ping");
        net.run(ms(5));
        assert_eq!(net.value(next), "pong", "{method}");
    }
}

#[test]
fn credits_grow_shrink_and_pause_as_the_worker_says() {
    let mut net = Net::new();
    net.credits_are_fixed = false;
    let d = net.dispatcher();
    let puppet = net.puppet(d, 1);
    let calls: Vec<_> = (0..6).map(|_| net.call(d, "hold")).collect();
    let sent = |net: &mut Net, message: Message| {
        net.send_as(puppet, message);
        net.run(ms(5));
        net.sent_to_strangers().filter(|sent| matches!(sent.message, Message::Request(_))).count()
    };
    assert_eq!(sent(&mut net, Message::Heartbeat), 1);
    assert_eq!(sent(&mut net, Message::Credit(3)), 3, "in flight included");
    assert_eq!(sent(&mut net, Message::Credit(1)), 3, "nothing is taken back");
    assert_eq!(sent(&mut net, final_reply(calls[0], "done")), 3);
    assert_eq!(sent(&mut net, final_reply(calls[1], "done")), 3);
    assert_eq!(sent(&mut net, final_reply(calls[2], "done")), 4);
    assert_eq!(sent(&mut net, Message::Credit(0)), 4);
    assert_eq!(sent(&mut net, final_reply(calls[3], "done")), 4, "paused");
    assert_eq!(sent(&mut net, Message::Credit(u32::MAX)), 6);
    calls[4..].iter().for_each(|call| net.send_as(puppet, final_reply(*call, "done")));
    net.run(ms(5));
    assert!(calls.iter().all(|call| net.end(*call).is_ok()));
}

#[test]
fn least_recently_used_worker_is_asked_first() {
    let (mut net, d, workers) = with_credits(&[8, 8, 8]);
    for round in 1..=4 {
        for w in &workers {
            let call = net.call(d, "ping");
            net.run(ms(5));
            assert_eq!(net.w(*w).runs.last(), Some(&call), "round {round}");
        }
    }
}

#[test]
fn calls_of_one_turn_travel_together_unless_a_worker_is_idle_or_has_far_less_to_do() {
    let (mut net, d, workers) = with_credits(&[64, 64, 64]);
    let mut runs_after = |calls| {
        (0..calls).for_each(|_| _ = net.call(d, "hold"));
        net.run(ms(5));
        workers.iter().map(|w| net.w(*w).runs.len()).collect::<Vec<_>>()
    };
    assert_eq!(runs_after(3), [1, 1, 1], "no call waits beside an idle worker");
    assert_eq!(runs_after(9), [5, 5, 2], "four more than the next one in turn");
    assert_eq!(runs_after(9), [9, 6, 6]);
    assert_eq!(runs_after(1), [10, 6, 6], "the next turn begins with the least recently used one");
}

#[test]
fn worker_with_far_more_to_do_sends_no_long_run_of_calls_to_another() {
    let (mut net, d, workers) = with_credits(&[64, 64, 64]);
    let mut turn = |methods: &[&str]| {
        methods.iter().for_each(|method| _ = net.call(d, method));
        net.run(ms(5));
        workers.iter().map(|w| net.w(*w).runs.len()).collect::<Vec<_>>()
    };
    for _ in 0..10 {
        ["hold", "ping", "ping"].iter().for_each(|method| _ = turn(&[*method]));
    }
    (0..3).for_each(|_| _ = turn(&["hold"]));
    assert_eq!(turn(&[]), [11, 11, 11], "all of the first one's go on, and one of each of the others'");
    assert_eq!(turn(&["hold"; 16]), [13, 19, 17], "four in a row");
}

#[test]
fn busy_worker_is_passed_over() {
    let (mut net, d, workers) = with_credits(&[1, 2]);
    let held: Vec<_> = (0..3).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    assert_eq!((net.w(workers[0]).runs.len(), net.w(workers[1]).runs.len()), (1, 2));
    net.reply(workers[1], held[1], "done");
    net.run(ms(5));
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.w(workers[1]).runs.last(), Some(&call));
}

#[test]
fn call_past_the_bound_of_the_queue_fails_at_once() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.waiting_max = 3);
    let waiting: Vec<_> = (0..3).map(|_| net.call(d, "hold")).collect();
    let past = net.call(d, "hold");
    assert_eq!(net.failure(past), &CallFailure::Overloaded { waiting: 3, waiting_max: Some(3) });
    assert!(waiting.iter().all(|call| !net.has_ended(*call)));
    net.cancel(waiting[0]);
    let next = net.call(d, "hold");
    assert!(!net.has_ended(next), "there is room again");
}

#[test]
fn full_queue_does_not_stop_a_call_that_a_worker_can_take_now() {
    let mut net = Net::new();
    let d = net.dispatcher_with(|config| config.waiting_max = 3);
    net.worker(&[d]);
    net.connect();
    for _ in 0..3 {
        net.call_with(d, "ping", |spec| spec.service = "Absent".into());
    }
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong");
}

#[test]
fn fail_fast_call_does_not_wait() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let call = net.call_with(d, "ping", |spec| spec.wait_policy = WaitPolicy::Never);
    assert_eq!(net.failure(call), &CallFailure::NoWorker { offered: Names::default(), is_connected: false });
    net.worker_with(&[d], |config| config.credits = 1);
    net.connect();
    net.call(d, "hold");
    let call = net.call_with(d, "ping", |spec| spec.wait_policy = WaitPolicy::Never);
    assert_eq!(net.failure(call), &CallFailure::Overloaded { waiting: 0, waiting_max: None });
}

#[test]
fn call_without_a_worker_delays_no_call_of_another_method() {
    let (mut net, d, w) = with_credits(&[1]);
    let held = net.call(d, "hold");
    let absent = net.call_with(d, "ping", |spec| spec.service = "Absent".into());
    let next = net.call(d, "ping");
    net.run(ms(5));
    net.reply(w[0], held, "done");
    net.run(ms(5));
    assert_eq!(net.value(next), "pong");
    assert!(!net.has_ended(absent));
}

#[test]
fn call_for_one_signature_delays_no_call_for_another() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let old = net.puppet(d, 1);
    let new = net.puppet_with(d, |ready| {
        ready.credits = 1;
        ready.services[0].methods.iter_mut().for_each(|method| method.fingerprint += 100);
    });
    let hold = |net: &mut Net, fingerprint| net.call_with(d, "hold", |spec| spec.fingerprint = fingerprint);
    let [_, on_new] = [hold(&mut net, 5), hold(&mut net, 105)];
    let [_, next] = [hold(&mut net, 5), hold(&mut net, 105)];
    net.run(ms(5));
    net.send_as(new, final_reply(on_new, "done"));
    net.run(ms(5));
    net.send_as(new, final_reply(next, "done"));
    net.run(ms(5));
    assert_eq!(net.value(next), "done", "the old worker is busy, the new one is not");
    assert!(net.stands(old));
}

#[test]
fn request_beyond_the_credits_is_refused_and_disturbs_nothing() {
    let (mut net, d, w) = with_credits(&[1]);
    let call = net.call(d, "hold");
    net.run(ms(5));
    let Some(Message::Request(request)) = net.sent_to(w[0]).last().map(|sent| sent.message.clone()) else {
        panic!("a request")
    };
    net.send_to(d, w[0], Message::Request(crate::proto::message::Request { call: CallId(7), ..request }));
    net.run(ms(5));
    assert_eq!(net.w(w[0]).runs, [call]);
    assert_eq!(net.d(d).machine.counters().unsolicited_replies, 1);
    net.reply(w[0], call, "done");
    net.run(ms(5));
    assert_eq!(net.end(call), &Ok(value("done")));
}

#[test]
fn eight_hundred_calls_over_three_workers_all_end_and_leave_nothing_in_flight() {
    let (mut net, d, _) = with_credits(&[1, 5, 32]);
    let calls: Vec<_> = (0..800).map(|_| net.call(d, "echo")).collect();
    net.run(4 * INTERVAL);
    assert!(calls.iter().all(|call| net.value(*call) == call.to_string()));
    assert_eq!(net.in_flight(d), 0);
}

#[test]
fn credits_beyond_the_maximum_count_as_the_maximum() {
    let mut net = Net::new();
    let d = net.dispatcher();
    let credits = |net: &Net| net.d(d).machine.workers().next().map(|worker| worker.credits());
    let puppet = net.puppet(d, u32::MAX);
    assert_eq!(credits(&net), Some(65_536));
    for (said, believed) in [(65_535, 65_535), (65_537, 65_536), (8, 8), (u32::MAX, 65_536)] {
        net.send_as(puppet, Message::Credit(said));
        net.run(ms(5));
        assert_eq!(credits(&net), Some(believed));
    }
}

#[test]
fn calls_waiting_for_thousands_of_methods_do_not_slow_down_replies() {
    let mut net = Net::new();
    let d = net.dispatcher();
    net.worker(&[d]);
    net.connect();
    for number in 0..5_000 {
        net.call_with(d, "ping", |spec| spec.service = format!("Absent{number}").into());
    }
    // Scanning all waiting calls with each reply would keep this test busy for hours.
    for _ in 0..200 {
        let call = net.call(d, "ping");
        net.run(ms(5));
        assert_eq!(net.value(call), "pong");
    }
}

fn with_credits(credits: &[u32]) -> (Net, D, Vec<W>) {
    let mut net = Net::new();
    let d = net.dispatcher();
    let workers = credits.iter().map(|credits| net.worker_with(&[d], |config| config.credits = *credits)).collect();
    net.connect();
    (net, d, workers)
}
