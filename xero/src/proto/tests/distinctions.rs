//! Calls differ by their fingerprints and sizes only as far as workers do.

use std::time::Instant;

use uuid::Uuid;

use super::pair::{final_reply, introduction, spec, start, value};
use crate::proto::{
    calls::CallSpec,
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{CallId, Message, Peer, Ready},
};

#[test]
fn payload_goes_to_an_idle_worker_that_accepts_it_and_waits_for_none_with_a_larger_limit() {
    for (limit, size) in [(1_000, 500), (1_000_000, 990_000), (10_000_000, 9_600_000), (1 << 20, 1 << 20)] {
        let mut play = Play::new();
        play.worker(1, |ready| ready.payload_bytes_max = limit);
        play.worker(2, |ready| ready.payload_bytes_max = 64 << 20);
        play.dispatcher.handle_message(play.now, Peer(2), Message::Credit(0));
        play.call(1, |spec| spec.payload = value(&"x".repeat(size)));
        assert_eq!(play.requests(), [(1, 1)], "{size} bytes");
    }
}

#[test]
fn waiting_payloads_of_similar_sizes_go_to_whoever_accepts_them() {
    let mut play = Play::new();
    play.worker(1, |ready| (ready.payload_bytes_max, ready.credits) = (10_000, 1));
    play.worker(2, |ready| (ready.payload_bytes_max, ready.credits) = (1 << 20, 1));
    let sized = |bytes: usize| move |spec: &mut CallSpec| spec.payload = value(&"x".repeat(bytes));
    [1, 2].into_iter().for_each(|call| play.call(call, |_| ()));
    assert_eq!(play.requests(), [(1, 1), (2, 2)]);
    // The first one in line must not hold up the second.
    play.call(3, sized(10_001));
    play.call(4, sized(9_900));
    play.dispatcher.handle_message(play.now, Peer(1), final_reply(CallId(1), "done"));
    assert_eq!(play.requests(), [(1, 4)]);
    play.dispatcher.handle_message(play.now, Peer(2), final_reply(CallId(2), "done"));
    assert_eq!(play.requests(), [(2, 3)]);
}

#[test]
fn limit_or_signature_that_comes_later_tells_waiting_calls_apart() {
    let mut play = Play::new();
    play.worker(1, |ready| (ready.payload_bytes_max, ready.credits) = (1 << 20, 1));
    play.call(1, |_| ());
    assert_eq!(play.requests(), [(1, 1)]);
    let unchecked =
        |bytes| move |spec: &mut CallSpec| (spec.fingerprint, spec.payload) = (0, value(&"x".repeat(bytes)));
    play.call(2, unchecked(20_000));
    play.call(3, unchecked(5_000));
    play.call(4, |spec| spec.fingerprint = 4);
    play.call(5, |spec| spec.fingerprint = 5);
    // So far, all of them suit the first worker alike.
    play.worker(2, |ready| {
        ready.payload_bytes_max = 10_000;
        ready.services.iter_mut().flat_map(|service| &mut service.methods).for_each(|method| method.fingerprint = 5);
    });
    assert_eq!(play.requests(), [(2, 3), (2, 4), (2, 5)]);
    play.dispatcher.handle_message(play.now, Peer(1), final_reply(CallId(1), "done"));
    assert_eq!(play.requests(), [(1, 2)]);
}

/// A place for each fingerprint at each worker would take hundreds of megabytes, and minutes in this build.
#[test]
fn fingerprints_that_no_worker_has_cost_workers_that_come_and_go_nothing() {
    const WORKERS: u64 = 300;
    const CALLS: u64 = 10_000;
    let mut play = Play::new();
    for worker in 1..=WORKERS {
        // A pool of its own, and no room.
        play.worker(worker, |ready| (ready.payload_bytes_max, ready.credits) = (1 << 20 | worker, 1));
        play.call(worker, |_| ());
    }
    assert_eq!(play.requests().len(), WORKERS as usize);
    for call in 1..=CALLS {
        play.call(WORKERS + call, |spec| (spec.fingerprint, spec.owner) = (1_000 + call, call % 10));
    }
    assert_eq!(play.requests(), []);
    for _ in 0..10 {
        play.worker(WORKERS + 1, |ready| ready.credits = 1);
        assert_eq!(play.requests().len(), 1);
        play.dispatcher.handle_disconnected(play.now, Peer(WORKERS + 1));
        play.requests();
    }
}

/// A dispatcher, fed by hand.
struct Play {
    dispatcher: Dispatcher,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        Self { dispatcher: Dispatcher::new(DispatcherConfig::default()), now: start() }
    }

    fn worker(&mut self, peer: u64, shape: impl FnOnce(&mut Ready)) {
        let mut ready = Ready { incarnation: Uuid::from_u64_pair(3, peer), ..introduction() };
        shape(&mut ready);
        self.dispatcher.handle_message(self.now, Peer(peer), Message::Ready(ready));
    }

    fn call(&mut self, id: u64, shape: impl FnOnce(&mut CallSpec)) {
        let mut spec = spec(self.now, "hold");
        shape(&mut spec);
        self.dispatcher.call(self.now, CallId(id), spec);
        while let Some(output) = self.dispatcher.poll_output() {
            assert!(!matches!(output, Output::Ended(..)), "{output:?}");
        }
    }

    /// The requests sent since the last look: worker and call, sorted.
    fn requests(&mut self) -> Vec<(u64, u64)> {
        while self.dispatcher.poll_output().is_some() {}
        let mut requests = Vec::new();
        while let Some(transmit) = self.dispatcher.poll_transmit() {
            let calls = transmit.messages.iter().filter_map(Message::request);
            requests.extend(calls.map(|call| (transmit.to.0, call.0)));
        }
        requests.sort_unstable();
        requests
    }
}
