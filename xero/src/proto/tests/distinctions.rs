//! Calls differ by their fingerprints and sizes only as far as workers do.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    node::offer,
    pair::{final_reply, introduction, ms, spec, start, value},
};
use crate::proto::{
    calls::{CallFailure, CallSpec, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    fault::take_pools,
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

/// Numbers of pools are used again: what the former one has seen is nothing to the next.
#[test]
fn worker_that_joins_after_another_has_left_finds_the_calls_that_wait() {
    let mut play = Play::new();
    play.worker(1, |ready| ready.credits = 1);
    (1..=10).for_each(|call| play.call(call, |_| ()));
    assert_eq!(play.requests(), [(1, 1)]);
    play.worker(2, |ready| (ready.credits, ready.services) = (8, vec![offer("Other", &["x"])]));
    assert_eq!(play.requests(), []);
    play.dispatcher.handle_disconnected(play.now, Peer(2));
    play.worker(3, |ready| {
        ready.credits = 8;
        ready.services.push(offer("More", &["y"]));
    });
    assert_eq!(play.requests(), (2..=9).map(|call| (3, call)).collect::<Vec<_>>());
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

#[test]
fn payload_that_no_worker_accepts_fails_at_once_also_while_all_are_busy() {
    for wait_policy in [WaitPolicy::UntilDeadline, WaitPolicy::Never] {
        let mut play = Play::new();
        play.worker(1, |ready| (ready.payload_bytes_max, ready.credits) = (100, 1));
        let large = |spec: &mut CallSpec| (spec.payload, spec.wait_policy) = (value(&"x".repeat(200)), wait_policy);
        play.make(1, large);
        assert_eq!(play.too_large(), [(1, 100)], "{wait_policy:?}, beside a free worker");
        play.call(2, |_| ());
        assert_eq!(play.requests(), [(1, 2)]);
        play.make(3, large);
        assert_eq!(play.too_large(), [(3, 100)], "{wait_policy:?}, beside a busy worker");
    }
}

#[test]
fn waiting_payload_fails_as_soon_as_the_last_worker_that_accepts_it_leaves() {
    let mut play = Play::new();
    play.worker(1, |ready| (ready.payload_bytes_max, ready.credits) = (100, 1));
    [2, 3].into_iter().for_each(|peer| play.worker(peer, |ready| ready.credits = 1));
    (1..=3).for_each(|call| play.call(call, |_| ()));
    assert_eq!(play.requests(), [(1, 1), (2, 2), (3, 3)]);
    play.call(4, sized(200));
    play.dispatcher.handle_disconnected(play.now, Peer(2));
    assert_eq!(play.too_large(), []);
    assert!(play.dispatcher.is_waiting(CallId(4)));
    play.dispatcher.handle_disconnected(play.now, Peer(3));
    assert_eq!(play.too_large(), [(4, 100)]);
}

#[test]
fn waiting_payload_follows_the_highest_limit_of_workers_whose_limits_count_alike() {
    let mut play = Play::new();
    // Four limits count exactly; those of later workers count as powers of 16.
    (1..=4).for_each(|peer| play.worker(peer, |ready| (ready.payload_bytes_max, ready.credits) = (peer, 1)));
    let limited = |limit: u64| move |ready: &mut Ready| (ready.payload_bytes_max, ready.credits) = (limit, 1);
    let declaring = |limit: u64| {
        move |ready: &mut Ready| {
            limited(limit)(ready);
            ready.services.iter_mut().flat_map(|service| &mut service.methods).for_each(|it| it.idempotent = true);
        }
    };
    play.worker(5, limited(900));
    play.worker(6, declaring(1_000));
    play.call(1, sized(800));
    play.call(2, sized(800));
    assert_eq!(play.requests(), [(5, 1), (6, 2)]);
    play.call(3, sized(950));
    // The limit is in use, and so is the group, but not yet that limit in that group.
    play.worker(7, limited(1_000));
    assert_eq!(play.requests(), [(7, 3)]);
    play.worker(8, declaring(900));
    play.call(4, |spec| (spec.payload, spec.must_declare) = (value(&"x".repeat(950)), true));
    // Now that limit leaves a group, and both stay in use.
    play.dispatcher.handle_disconnected(play.now, Peer(6));
    assert_eq!(play.too_large(), [(4, 900)]);
}

/// A place for each size at each worker would be half a million.
#[test]
fn calls_of_many_sizes_wait_in_few_places_beside_workers_of_as_many_limits() {
    const WORKERS: u64 = 1_000;
    let mut play = Play::new();
    for worker in 1..=WORKERS {
        play.worker(worker, |ready| (ready.payload_bytes_max, ready.credits) = (10 * worker, 1));
        play.call(worker, sized(10));
    }
    assert_eq!(play.requests().len(), WORKERS as usize);
    for call in 1..=WORKERS {
        play.call(WORKERS + call, sized(10 * call as usize - 5));
    }
    assert_eq!(play.requests(), []);
    let places = play.dispatcher.waiting_places();
    // A line for each size, and a handful of stations.
    assert!((WORKERS as usize..10 * WORKERS as usize).contains(&places), "{places} places");
    play.worker(WORKERS + 1, |ready| (ready.payload_bytes_max, ready.credits) = (10 * WORKERS + 5, 1));
    let joined = play.dispatcher.waiting_places();
    assert!(joined.abs_diff(places) <= 10, "{places} places, {joined} after a worker has joined");
    // Its request, which nobody has taken out, waits again.
    play.dispatcher.handle_disconnected(play.now, Peer(WORKERS + 1));
    assert_eq!(play.dispatcher.waiting_places(), places);
}

/// The calls for the first method are as many as one pass looks at.
#[test]
fn method_whose_signatures_change_all_the_time_holds_up_no_other() {
    const CALLS: u64 = 20_000;
    let mut play = Play::with(|config| config.waiting_max = 2 * CALLS as usize);
    let signed = |fingerprint| {
        move |ready: &mut Ready| {
            ready.credits = 1;
            ready.services.iter_mut().flat_map(|it| &mut it.methods).for_each(|it| it.fingerprint = fingerprint);
        }
    };
    play.worker(1, signed(1));
    let deadline = play.now + Duration::from_secs(60);
    (0..=CALLS).for_each(|call| play.call(call, |spec| (spec.fingerprint, spec.deadline) = (1, deadline)));
    play.call(CALLS + 1, |spec| (spec.service, spec.deadline) = ("Other".into(), deadline));
    assert_eq!(play.requests(), [(1, 0)]);
    play.worker(2, signed(2));
    play.worker(3, |ready| ready.services = vec![offer("Other", &["hold"])]);
    for step in 3..33 {
        play.now += ms(5);
        play.worker(step + 1, signed(step));
        play.dispatcher.handle_disconnected(play.now, Peer(if step == 3 { 2 } else { step }));
        play.dispatcher.handle_timeout(play.now);
        if play.requests() == [(3, CALLS + 1)] {
            return;
        }
    }
    panic!("its worker is free, and it waits");
}

#[test]
fn signature_that_comes_tells_a_bounded_number_of_calls_apart_in_one_step() {
    const CALLS: usize = 45_000;
    let mut play = Play::with(|config| config.waiting_max = 2 * CALLS);
    let signed = |fingerprint: u64, credits| {
        move |ready: &mut Ready| {
            ready.credits = credits;
            for method in ready.services.iter_mut().flat_map(|service| &mut service.methods) {
                (method.fingerprint, method.idempotent) = (fingerprint, fingerprint == 2);
            }
        }
    };
    play.worker(1, signed(1, 1));
    (0..=CALLS as u64).for_each(|call| play.call(call, |spec| (spec.fingerprint, spec.owner) = (2, call % 7)));
    assert_eq!(play.requests(), [(1, 0)]);
    play.worker(2, signed(2, 65_536));
    let mut sent = vec![play.requests().len()];
    while sent.iter().sum::<usize>() < CALLS {
        assert!(sent.len() < 10, "{sent:?}");
        play.now = play.dispatcher.poll_timeout().expect("it goes on");
        play.dispatcher.handle_timeout(play.now);
        sent.push(play.requests().len());
    }
    assert!(sent.iter().all(|sent| *sent <= 20_000), "{sent:?}");
}

#[test]
fn calls_that_no_worker_can_take_any_more_end_a_bounded_number_in_one_step() {
    const CALLS: u64 = 3_500;
    let mut play = Play::new();
    play.worker(1, |ready| ready.credits = 1);
    play.worker(2, |ready| ready.services = vec![offer("Demo", &["other"])]);
    (0..=CALLS).for_each(|call| play.call(call, |spec| spec.owner = call % 7));
    assert_eq!(play.requests(), [(1, 0)]);
    let ended = |play: &mut Play| {
        let outputs = std::iter::from_fn(|| play.dispatcher.poll_output());
        outputs.filter(|output| matches!(output, Output::Ended(..))).count()
    };
    play.dispatcher.handle_disconnected(play.now, Peer(1));
    let mut ends = vec![ended(&mut play)];
    let left_at = play.now;
    while ends.iter().sum::<usize>() <= CALLS as usize {
        play.now = play.dispatcher.poll_timeout().expect("it goes on");
        play.dispatcher.handle_timeout(play.now);
        ends.push(ended(&mut play));
    }
    assert!(ends.iter().all(|ended| *ended <= 1_001), "{ends:?}");
    assert!(play.now - left_at < ms(100), "{:?}", play.now - left_at);
}

#[test]
fn calls_beyond_all_free_limits_of_a_group_cost_a_worker_that_joins_one_look_at_its_pools() {
    const POOLS: u64 = 200;
    let mut play = Play::new();
    // Four limits count exactly; all others count as the same power of 16.
    (1..=4).for_each(|peer| play.worker(peer, |ready| (ready.payload_bytes_max, ready.credits) = (peer, 1)));
    let limited = |limit: u64| move |ready: &mut Ready| (ready.payload_bytes_max, ready.credits) = (limit, 1);
    for pool in 0..POOLS {
        play.worker(1_000 + pool, limited(20_000 + 4 * pool));
        play.call(1_000 + pool, sized(100));
    }
    assert_eq!(play.requests().len(), POOLS as usize);
    (0..POOLS).for_each(|pool| play.worker(2_000 + pool, limited(5_000 + pool)));
    // Of each size, one that only the busy ones take.
    (0..POOLS).for_each(|call| play.call(3_000 + call, sized(20_000 - 2 + 4 * call as usize)));
    assert_eq!(play.requests(), []);
    play.now += ms(200);
    play.dispatcher.handle_timeout(play.now);
    take_pools();
    play.worker(4_000, |ready| {
        limited(1 << 20)(ready);
        ready.services.iter_mut().flat_map(|it| &mut it.methods).for_each(|it| it.idempotent ^= true);
    });
    assert_eq!(play.requests(), [(4_000, 3_000)]);
    let pools = take_pools();
    assert!(pools < 20 * POOLS, "{pools} pools");
}

/// A dispatcher, fed by hand.
struct Play {
    dispatcher: Dispatcher,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(shape: impl FnOnce(&mut DispatcherConfig)) -> Self {
        let mut config = DispatcherConfig::default();
        shape(&mut config);
        Self { dispatcher: Dispatcher::new(config), now: start() }
    }

    fn worker(&mut self, peer: u64, shape: impl FnOnce(&mut Ready)) {
        let mut ready = Ready { incarnation: Uuid::from_u64_pair(3, peer), ..introduction() };
        shape(&mut ready);
        self.dispatcher.handle_message(self.now, Peer(peer), Message::Ready(ready));
    }

    /// Makes a call that does not end at once.
    fn call(&mut self, id: u64, shape: impl FnOnce(&mut CallSpec)) {
        self.make(id, shape);
        while let Some(output) = self.dispatcher.poll_output() {
            assert!(!matches!(output, Output::Ended(..)), "{output:?}");
        }
    }

    fn make(&mut self, id: u64, shape: impl FnOnce(&mut CallSpec)) {
        let mut spec = spec(self.now, "hold");
        shape(&mut spec);
        self.dispatcher.call(self.now, CallId(id), spec);
    }

    /// The calls that have ended as too large since the last look, each with the highest limit of a worker.
    fn too_large(&mut self) -> Vec<(u64, usize)> {
        let mut ended = Vec::new();
        while let Some(output) = self.dispatcher.poll_output() {
            if let Output::Ended(call, Err(CallFailure::TooLarge(too_large)), _) = output {
                ended.push((call.0, too_large.limit));
            }
        }
        ended
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

/// Gives a call a payload of this size.
fn sized(bytes: usize) -> impl Fn(&mut CallSpec) {
    move |spec| spec.payload = value(&"x".repeat(bytes))
}
