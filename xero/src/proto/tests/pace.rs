//! When a call is attempted again: after its back-off, within the budget; at once if nothing has been started.

use std::time::Duration;

use uuid::Uuid;

use super::{
    network::Net,
    node::offer,
    pair::{CALL_TIMEOUT, D, INTERVAL, LATENCY, TICK, W, error_reply, final_reply, introduction, ms, start, value},
};
use crate::proto::{
    calls::{CallFailure, CallSpec, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{CallId, ErrorCode, Message, Metadata, Names, Peer, Ready},
    outbox::Transmit,
    retry::{BackoffConfig, RetryConfig},
};

#[test]
fn call_is_attempted_again_exactly_after_its_back_off() {
    for seed in 0..20 {
        let (mut net, d) = paced(seed, |_| {});
        let mut random = fastrand::Rng::with_seed(seed);
        let puppet = net.puppet(d, 8);
        let call = net.call(d, "hold");
        net.run(ms(5));
        for attempts in 1..3 {
            net.send_as(puppet, error_reply(call, ErrorCode::Overloaded, false));
            net.run(LATENCY);
            let wait = RetryConfig::default().backoff.draw(attempts, &mut random);
            assert!(wait > TICK, "seed {seed} draws a wait too close to none");
            net.run(wait - TICK);
            assert_eq!(attempts_sent(&net, call), attempts as usize, "seed {seed}");
            net.run(TICK);
            assert_eq!(attempts_sent(&net, call), attempts as usize + 1, "seed {seed}");
            net.run(LATENCY);
        }
        net.send_as(puppet, final_reply(call, "done"));
        net.run(ms(5));
        assert_eq!(net.value(call), "done");
    }
}

#[test]
fn fail_fast_call_is_attempted_elsewhere_at_once_and_ends_at_once() {
    let (mut net, d) = paced(0, |config| config.retry.attempts_max = 2);
    let [first, second] = [net.puppet(d, 8), net.puppet(d, 8)];
    let call = net.call_with(d, "hold", |spec| spec.wait_policy = WaitPolicy::Never);
    net.run(LATENCY);
    net.send_as(first, error_reply(call, ErrorCode::Overloaded, false));
    net.run(LATENCY);
    assert_eq!(attempts_sent(&net, call), 2);
    net.run(LATENCY);
    net.send_as(second, error_reply(call, ErrorCode::Overloaded, false));
    net.run(LATENCY);
    assert!(matches!(net.failure(call), CallFailure::Remote(error) if error.code == ErrorCode::Overloaded));
}

#[test]
fn bound_of_the_back_off_doubles_with_each_failure_up_to_its_maximum() {
    let backoff = BackoffConfig { first: ms(10), max: ms(70) };
    for (failures, bound) in [(1, 10), (2, 20), (3, 40), (4, 70), (5, 70), (33, 70), (u32::MAX, 70)] {
        let mut random = fastrand::Rng::with_seed(1);
        let waits: Vec<_> = (0..1_000).map(|_| backoff.draw(failures, &mut random)).collect();
        let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
        assert!(*least < ms(bound) / 20 && *most <= ms(bound) && *most > ms(bound) * 9 / 10, "{failures} failures");
    }
}

#[test]
fn calls_of_a_dead_worker_are_not_all_attempted_again_at_one_instant() {
    let (mut net, d) = paced(3, |_| {});
    let w = net.worker(&[d]);
    net.connect();
    let calls: Vec<_> = (0..8).map(|_| net.call(d, "safe")).collect();
    net.run(ms(5));
    let other = net.worker(&[d]);
    net.connect();
    net.kill_worker(w);
    net.run(INTERVAL);
    let is_request = |message: &Message| matches!(message, Message::Request(_));
    let mut sent_at: Vec<_> = net.sent_to(other).filter(|sent| is_request(&sent.message)).map(|sent| sent.at).collect();
    assert_eq!((sent_at.len(), net.w(other).runs.len()), (calls.len(), calls.len()));
    sent_at.dedup();
    assert_eq!(sent_at.len(), calls.len());
}

#[test]
fn call_in_back_off_is_not_sent_even_to_a_new_worker() {
    let (mut net, d) = paced(5, slow);
    let w = net.worker(&[d]);
    net.connect();
    let call = net.call(d, "safe");
    net.run(ms(5));
    net.kill_worker(w);
    net.run(LATENCY);
    let other = net.worker(&[d]);
    net.connect();
    let ping = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!((net.value(ping).as_str(), net.w(other).runs.contains(&call)), ("pong", false));
    net.run(4 * INTERVAL);
    assert!(net.w(other).runs.contains(&call));
}

#[test]
fn deadline_ends_a_call_in_back_off_and_reports_whether_it_may_have_run() {
    for code in [ErrorCode::Refused, ErrorCode::Overloaded] {
        for maybe_executed in [false, true] {
            let (mut net, d) = paced(1, slow);
            let puppet = net.puppet(d, 8);
            let call = net.call_with(d, "safe", |spec| spec.deadline = spec.deadline + 2 * LATENCY - CALL_TIMEOUT);
            net.run(LATENCY);
            net.send_as(puppet, error_reply(call, code, maybe_executed));
            net.run(LATENCY - TICK);
            assert!(!net.has_ended(call));
            net.run(10 * INTERVAL);
            let expected = match maybe_executed {
                true => CallFailure::WorkerLost { maybe_executed, attempts: 1 },
                false => CallFailure::DeadlineExceeded { maybe_executed },
            };
            assert_eq!((net.failure(call), attempts_sent(&net, call)), (&expected, 1));
        }
    }
}

#[test]
fn call_ended_in_back_off_is_never_attempted_again() {
    for how in ["cancel", "overflow", "close"] {
        let (mut net, d) = paced(1, slow);
        let puppet = net.puppet(d, 8);
        let call = net.call(d, "safe");
        net.run(ms(5));
        net.send_as(puppet, error_reply(call, ErrorCode::Overloaded, true));
        net.run(LATENCY);
        match how {
            "cancel" => net.cancel(call),
            "overflow" => net.overflow(call),
            _ => net.close(d),
        }
        net.run(10 * INTERVAL);
        let cancels = net.sent_to_strangers().filter(|sent| matches!(sent.message, Message::Cancel(_))).count();
        assert_eq!((attempts_sent(&net, call), cancels), (1, 0), "{how}");
        let expected = match how {
            "cancel" => None,
            "overflow" => Some(CallFailure::PartialsUnread { received: 0 }),
            _ => Some(CallFailure::Closed { maybe_executed: true }),
        };
        assert_eq!(net.ending(call).map(|(_, end)| end.clone().expect_err("it has failed")), expected, "{how}");
    }
}

#[test]
fn nothing_is_kept_of_a_call_ended_in_back_off() {
    let mut rig = Rig::new(1, slow);
    let worker = rig.worker();
    rig.call(1, true);
    rig.requests();
    rig.send_as(worker, error_reply(CallId(1), ErrorCode::Overloaded, true));
    rig.machine.cancel(rig.now, CallId(1));
    rig.machine.handle_disconnected(rig.now, worker);
    rig.settle();
    assert!(rig.transmits().is_empty() && rig.machine.is_empty(), "{:#?}", rig.machine);
}

#[test]
fn call_in_back_off_takes_no_place_in_the_queue() {
    let (mut net, d) = paced(1, |config| {
        slow(config);
        config.waiting_max = 1;
    });
    let puppet = net.puppet(d, 2);
    let calls = [net.call(d, "hold"), net.call(d, "hold")];
    net.run(ms(5));
    calls.iter().for_each(|call| net.send_as(puppet, error_reply(*call, ErrorCode::Overloaded, false)));
    net.send_as(puppet, Message::Credit(0));
    net.run(LATENCY);
    let waits = net.call(d, "hold");
    assert!(!net.has_ended(waits));
    let overloaded = net.call(d, "hold");
    assert_eq!(net.failure(overloaded), &CallFailure::Overloaded { waiting: 1, waiting_max: Some(1) });
}

#[test]
fn retries_draw_on_the_reserve_and_on_what_calls_earn() {
    let (mut net, d) = paced(1, |config| {
        config.retry = RetryConfig { attempts_max: 200, backoff: NO_WAIT, budget_percent: 50, budget_reserve: 2 };
    });
    let puppet = net.puppet(d, 100);
    let refused = |net: &mut Net, call| {
        net.send_as(puppet, error_reply(call, ErrorCode::Overloaded, false));
        net.run(3 * LATENCY);
        net.has_ended(call)
    };
    let first = net.call(d, "hold");
    net.run(ms(5));
    assert_eq!([(); 3].map(|()| refused(&mut net, first)), [false, false, true]);
    assert!(matches!(net.failure(first), CallFailure::Remote(error) if error.code == ErrorCode::Overloaded));
    assert_eq!((net.d(d).machine.counters().retries, net.d(d).machine.counters().retries_over_budget), (2, 1));
    // Two calls earn a retry; three earn no second one.
    let calls = [(); 3].map(|()| net.call(d, "hold"));
    net.run(ms(5));
    assert_eq!([refused(&mut net, calls[0]), refused(&mut net, calls[1])], [false, true]);
    // The reserve is the most that is saved.
    let calls: Vec<_> = (0..20).map(|_| net.call(d, "hold")).collect();
    net.run(ms(5));
    assert_eq!([0, 1, 2].map(|call: usize| refused(&mut net, calls[call])), [false, false, true]);
}

#[test]
fn unstarted_requests_of_a_leaving_worker_are_resent_at_once_at_no_cost() {
    let (mut net, d) = paced(1, |config| {
        slow(config);
        (config.retry.budget_reserve, config.retry.attempts_max) = (0, 1);
    });
    let leaving = net.puppet(d, 8);
    let refused = net.call(d, "hold");
    let crossed = net.call(d, "hold");
    net.run(ms(5));
    let w = net.worker(&[d]);
    net.connect();
    net.send_as(leaving, Message::Drain);
    net.send_as(leaving, error_reply(refused, ErrorCode::Refused, false));
    net.send_as(leaving, Message::Goodbye);
    net.run(2 * LATENCY);
    assert_eq!(net.w(w).runs, [refused, crossed]);
    assert_eq!(net.d(d).machine.counters().retries_over_budget, 0);
}

#[test]
fn drain_waits_for_a_call_in_back_off_until_its_timeout() {
    for is_in_time in [true, false] {
        let mut rig = Rig::new(1, slow);
        let worker = rig.worker();
        rig.call(1, true);
        rig.requests();
        rig.send_as(worker, error_reply(CallId(1), ErrorCode::Overloaded, true));
        let cap = if is_in_time { 4 * INTERVAL } else { ms(1) };
        rig.machine.drain(rig.now, cap);
        match is_in_time {
            true => {
                rig.run(3 * INTERVAL);
                assert_eq!(rig.requests(), [(worker, 1)]);
                rig.send_as(worker, final_reply(CallId(1), "done"));
                assert_eq!(rig.ends, [(CallId(1), Ok(value("done")))]);
            }
            false => {
                rig.run(cap - TICK);
                assert!(rig.ends.is_empty());
                rig.run(TICK);
                assert_eq!(rig.ends, [(CallId(1), Err(CallFailure::Closed { maybe_executed: true }))]);
            }
        }
    }
}

#[test]
fn unsent_request_goes_elsewhere_at_once_and_a_sent_one_is_lost() {
    let mut rig = Rig::new(1, slow);
    let [first, second] = [rig.worker(), rig.worker_with(|ready| ready.credits = 0)];
    rig.call(1, false);
    assert_eq!(rig.requests(), [(first, 1)]);
    rig.call(2, false);
    let unsent = rig.transmit();
    rig.call(3, false);
    rig.send_as(second, Message::Credit(8));
    rig.machine.handle_unsent(rig.now, unsent);
    assert_eq!(rig.requests(), [(second, 2), (second, 3)], "one that was handed over in vain, one that was not yet");
    rig.settle();
    assert_eq!(rig.ends, [(CallId(1), Err(CallFailure::WorkerLost { maybe_executed: true, attempts: 1 }))]);
    assert_eq!(rig.attempts, [(1, 1), (2, 2), (3, 2)]);
}

#[test]
fn unsent_request_never_counts_as_an_attempt() {
    let mut rig = Rig::new(1, |config| (config.retry.attempts_max, config.retry.budget_reserve) = (1, 0));
    rig.call(1, false);
    for _ in 0..300 {
        let worker = rig.worker();
        let unsent = rig.transmit();
        assert_eq!(unsent.to, worker);
        rig.machine.handle_unsent(rig.now, unsent);
        rig.settle();
    }
    assert_eq!(rig.ends, []);
    rig.run(CALL_TIMEOUT);
    assert_eq!(
        rig.ends,
        [(CallId(1), Err(CallFailure::NoWorker { offered: Names::default(), is_connected: false }))],
        "it has certainly not run"
    );
}

#[test]
fn every_end_of_a_connection_returns_unsent_requests() {
    for how in ["disconnected", "goodbye", "malformed goodbye"] {
        let mut rig = Rig::new(1, |_| {});
        let first = rig.worker();
        rig.call(1, false);
        match how {
            "disconnected" => rig.machine.handle_disconnected(rig.now, first),
            _ => rig.machine.handle_message(rig.now, first, Message::Goodbye),
        }
        let second = rig.worker();
        assert_eq!(rig.requests(), [(second, 1)], "{how}");
    }
    // Also at the end of its lease.
    let mut rig = Rig::new(1, |_| {});
    let first = rig.worker_with(|ready| ready.interval = INTERVAL);
    rig.run(3 * INTERVAL - TICK);
    rig.transmits();
    rig.call(1, false);
    rig.machine.handle_timeout(rig.now + TICK);
    let second = rig.worker();
    assert_ne!(first, second);
    assert_eq!(rig.requests(), [(second, 1)]);
}

#[test]
fn unsent_messages_of_a_forgotten_peer_change_nothing() {
    let mut rig = Rig::new(1, |_| {});
    let first = rig.worker();
    rig.call(1, false);
    let unsent = rig.transmit();
    rig.machine.handle_disconnected(rig.now, first);
    let second = rig.worker();
    rig.requests();
    rig.machine.handle_unsent(rig.now, unsent);
    assert_eq!(rig.requests(), []);
    rig.send_as(second, final_reply(CallId(1), "done"));
    assert_eq!(rig.ends.len(), 1);
}

#[test]
fn cancelled_unsent_request_is_never_sent() {
    let mut rig = Rig::new(1, |_| {});
    rig.worker();
    rig.call(1, true);
    let unsent = rig.transmit();
    rig.worker();
    rig.machine.cancel(rig.now, CallId(1));
    rig.machine.handle_unsent(rig.now, unsent);
    assert_eq!((rig.requests(), rig.ends.len()), (vec![], 0));
}

#[test]
fn maybe_executed_outlives_a_later_unsent_attempt() {
    let mut rig = Rig::new(1, |_| {});
    let first = rig.worker();
    rig.call(1, true);
    rig.requests();
    let second = rig.worker();
    rig.machine.handle_disconnected(rig.now, first);
    rig.settle();
    let unsent = rig.transmit();
    assert_eq!(unsent.to, second);
    rig.machine.handle_unsent(rig.now, unsent);
    rig.run(CALL_TIMEOUT);
    let [(CallId(1), Err(CallFailure::WorkerLost { maybe_executed: true, .. }))] = &rig.ends[..] else {
        panic!("{:?}", rig.ends)
    };
}

#[test]
fn retried_call_does_not_wait_for_a_worker_without_the_method() {
    let (mut net, d) = paced(1, |_| {});
    let w: W = net.worker(&[d]);
    net.connect();
    let call = net.call(d, "safe");
    net.run(ms(5));
    net.kill_worker(w);
    net.run(LATENCY);
    net.worker_with(&[d], |config| config.services = vec![offer("Demo", &["ping"])]);
    net.connect();
    net.run(INTERVAL);
    assert_eq!(net.failure(call), &CallFailure::WorkerLost { maybe_executed: true, attempts: 1 });
}

/// A dispatcher whose workers a test plays by hand, and whose transmits it takes itself.
#[derive(Debug)]
struct Rig {
    now: std::time::Instant,
    machine: Dispatcher,
    workers: u64,
    ends: Vec<(CallId, crate::proto::calls::CallEnd)>,
    attempts: Vec<(u64, u8)>,
}

impl Rig {
    fn new(seed: u64, shape: impl Fn(&mut DispatcherConfig)) -> Self {
        let mut config = DispatcherConfig { seed, ..DispatcherConfig::default() };
        config.retry.backoff = NO_WAIT;
        shape(&mut config);
        Self { now: start(), machine: Dispatcher::new(config), workers: 0, ends: Vec::new(), attempts: Vec::new() }
    }

    /// A worker that has been answered, and has received nothing else.
    fn worker(&mut self) -> Peer {
        self.worker_with(|_| {})
    }

    fn worker_with(&mut self, shape: impl FnOnce(&mut Ready)) -> Peer {
        let peer = Peer(self.workers);
        self.workers += 1;
        let mut ready = Ready { incarnation: Uuid::from_u64_pair(3, peer.0), ..introduction() };
        // No batches, so that the transport accepts or rejects each message by itself.
        ready.capabilities = Default::default();
        shape(&mut ready);
        self.machine.handle_message(self.now, peer, Message::Ready(ready));
        let answer = self.machine.poll_transmit().expect("an answer");
        assert!(answer.to == peer && matches!(answer.messages[..], [Message::Ready(_)]), "{answer:?}");
        peer
    }

    fn call(&mut self, id: u64, idempotent: bool) {
        let spec = CallSpec {
            service: "Demo".into(),
            method: "hold".into(),
            fingerprint: 0,
            idempotent: Some(idempotent),
            must_declare: false,
            wait_policy: WaitPolicy::default(),
            owner: 0,
            attempts_before: 0,
            deadline: self.now + CALL_TIMEOUT,
            metadata: Metadata::new(),
            payload: value("argument"),
        };
        self.machine.call(self.now, CallId(id), spec);
    }

    fn send_as(&mut self, from: Peer, message: Message) {
        self.machine.handle_message(self.now, from, message);
        self.settle();
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Output::Ended(id, end, _) = output {
                self.ends.push((id, end));
            }
        }
    }

    fn transmit(&mut self) -> Transmit {
        self.machine.poll_transmit().expect("something is to be sent")
    }

    fn transmits(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.machine.poll_transmit()).collect()
    }

    /// The requests that are sent now, and their receivers.
    fn requests(&mut self) -> Vec<(Peer, u64)> {
        let mut requests = Vec::new();
        for transmit in self.transmits() {
            for message in transmit.messages {
                if let Message::Request(request) = message {
                    requests.push((transmit.to, request.call.0));
                    self.attempts.push((request.call.0, request.attempt));
                }
            }
        }
        requests
    }
}

/// A dispatcher with the default pace of retries.
fn paced(seed: u64, shape: impl Fn(&mut DispatcherConfig) + 'static) -> (Net, D) {
    let mut net = Net::new();
    let d = net.dispatcher_with(move |config| {
        (config.seed, config.retry) = (seed, RetryConfig::default());
        shape(config);
    });
    (net, d)
}

/// Waits of seconds, none of them near zero with these tests' seeds.
fn slow(config: &mut DispatcherConfig) {
    config.retry.backoff = BackoffConfig { first: 3 * INTERVAL, max: 3 * INTERVAL };
}

/// How often workers were sent the call.
fn attempts_sent(net: &Net, call: CallId) -> usize {
    net.sent.iter().filter(|sent| sent.message.request() == Some(call)).count()
}

const NO_WAIT: BackoffConfig = BackoffConfig { first: Duration::ZERO, max: Duration::ZERO };
