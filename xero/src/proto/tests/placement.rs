//! A random play of workers and calls, beside a model that knows which workers suit each call best.

mod model;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use super::pair::{error_reply, ms, partial_reply, spec, start, value};
use crate::proto::{
    calls::{CallFailure, WaitPolicy},
    dispatch::{Dispatcher, DispatcherConfig, Output},
    message::{CallId, ErrorCode, FinalReply, Message, OfferChange, Peer},
    retry::BackoffConfig,
};
use model::{Call, Grade, Offer, Worker};

#[test]
fn calls_go_to_the_best_workers_and_wait_only_while_these_are_busy() {
    for seed in 0..SEEDS {
        let mut play = Play::new(seed);
        let steps = AssertUnwindSafe(|| (0..STEPS).for_each(|_| play.step()));
        if let Err(panic) = catch_unwind(steps) {
            eprintln!("the play of seed {seed} has failed; its last steps:");
            play.log.iter().rev().take(12).rev().for_each(|step| eprintln!("  {step}"));
            resume_unwind(panic);
        }
    }
}

/// A dispatcher, and what it should know.
struct Play {
    dispatcher: Dispatcher,
    now: Instant,
    random: fastrand::Rng,
    workers: BTreeMap<Peer, Worker>,
    calls: BTreeMap<CallId, Call>,
    last_peer: u64,
    last_call: u64,
    log: Vec<String>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut config = DispatcherConfig::default();
        // Refused and lost calls look for another worker at once, as often as it takes.
        config.retry.backoff = BackoffConfig { first: Duration::ZERO, max: Duration::ZERO };
        (config.retry.attempts_max, config.retry.budget_percent) = (200, 1_000);
        Self {
            dispatcher: Dispatcher::new(config),
            now: start(),
            random: fastrand::Rng::with_seed(seed),
            workers: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_peer: 0,
            last_call: 0,
            log: Vec::new(),
        }
    }

    fn step(&mut self) {
        let peer = self.random.choice(self.workers.keys().copied());
        match (self.random.u8(0..24), peer) {
            (0..3, _) => self.join(),
            (3..9, _) => self.call(),
            (9, _) => self.cancel(),
            (10, _) => self.pass_time(),
            (11, Some(peer)) => self.leave(peer),
            (12, Some(peer)) => self.drain(peer),
            (13..15, Some(peer)) => self.grant(peer),
            (15, Some(peer)) => self.introduce_again(peer),
            (16, Some(peer)) => self.change_methods(peer),
            (17..21, Some(peer)) => self.reply(peer),
            (21..24, Some(peer)) => self.acknowledge(peer),
            _ => {}
        }
        // The dispatcher may follow changed offers a little later.
        for _ in 0..3 {
            self.now += ms(30);
            self.dispatcher.handle_timeout(self.now);
        }
        self.check();
    }

    fn join(&mut self) {
        if self.workers.len() == WORKERS_MAX {
            return;
        }
        self.last_peer += 1;
        let (peer, worker) = (Peer(self.last_peer), Worker::random(&mut self.random));
        self.log.push(format!("{peer:?} joins: {worker:?}"));
        self.send(peer, Message::Ready(worker.ready(peer)));
        self.workers.insert(peer, worker);
    }

    fn call(&mut self) {
        self.last_call += 1;
        let (id, call) = (CallId(self.last_call), Call::random(&mut self.random));
        self.log.push(format!("{id:?} is made: {call:?}"));
        let mut spec = spec(self.now, "hold");
        spec.payload = value(&"x".repeat(call.bytes));
        (spec.payload.codec, spec.fingerprint, spec.wait_policy) = (call.codec, call.fingerprint, call.wait_policy);
        (spec.idempotent, spec.must_declare) = (call.idempotent, call.must_declare);
        (spec.owner, spec.deadline) = (self.random.u64(0..3), self.now + DEADLINE);
        self.calls.insert(id, call);
        self.dispatcher.call(self.now, id, spec);
    }

    fn cancel(&mut self) {
        let Some(id) = self.random.choice(self.calls.keys().copied()) else { return };
        self.log.push(format!("{id:?} is cancelled"));
        self.calls.remove(&id);
        self.dispatcher.cancel(self.now, id);
    }

    /// Lets some seconds pass; no worker expires.
    fn pass_time(&mut self) {
        self.log.push("time passes".to_owned());
        self.now += Duration::from_secs(5);
        let peers: Vec<_> = self.workers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.send(peer, Message::Heartbeat));
    }

    fn leave(&mut self, peer: Peer) {
        self.log.push(format!("{peer:?} leaves"));
        let lost = self.workers.remove(&peer).map(|worker| worker.in_flight);
        for id in lost.into_iter().flatten() {
            if let Some(call) = self.calls.get_mut(&id) {
                (call.worker, call.may_have_run) = (None, true);
            }
        }
        self.dispatcher.handle_disconnected(self.now, peer);
    }

    fn drain(&mut self, peer: Peer) {
        self.log.push(format!("{peer:?} drains"));
        self.known(peer).is_draining = true;
        self.send(peer, Message::Drain);
    }

    /// Grants credits, or pauses with none.
    fn grant(&mut self, peer: Peer) {
        let credits = self.random.u32(0..3);
        self.log.push(format!("{peer:?} grants {credits} credits"));
        let worker = self.known(peer);
        (worker.credits, worker.is_callable) = (credits, worker.is_callable || credits > 0);
        self.send(peer, Message::Credit(credits));
    }

    fn introduce_again(&mut self, peer: Peer) {
        let renewed = Worker::random(&mut self.random);
        let Some(before) = self.workers.remove(&peer) else { return };
        let Worker { offer, credits, is_callable, .. } = renewed;
        let worker = Worker { offer, credits, is_callable, is_owed_an_answer: true, ..before };
        self.log.push(format!("{peer:?} introduces itself again: {worker:?}"));
        self.send(peer, Message::Ready(worker.ready(peer)));
        self.workers.insert(peer, worker);
    }

    fn change_methods(&mut self, peer: Peer) {
        let renewed = Offer::random(&mut self.random);
        let Offer { codecs, payload_bytes_max, .. } = self.known(peer).offer.clone();
        let offer = Offer { codecs, payload_bytes_max, ..renewed };
        self.log.push(format!("{peer:?} changes its methods: {offer:?}"));
        self.send(peer, Message::Offer(OfferChange { changed: offer.services(), withdrawn: Vec::new() }));
        self.known(peer).offer = offer;
    }

    /// Lets the oldest request at a worker produce a partial reply, be refused or end.
    fn reply(&mut self, peer: Peer) {
        let Some(id) = self.known(peer).in_flight.first().copied() else { return };
        let call = self.calls.get_mut(&id);
        let partials = call.as_ref().map_or(0, |call| call.partials);
        let reply = match (self.random.u8(0..6), call) {
            (0, Some(call)) => {
                call.partials += 1;
                partial_reply(id, partials, "so far")
            }
            (1, Some(call)) => {
                (call.worker, call.was_refused, call.may_have_run) = (None, true, call.may_have_run || partials > 0);
                error_reply(id, ErrorCode::Refused, false)
            }
            _ => Message::Final(FinalReply { call: id, partials, payload: value("done") }),
        };
        self.log.push(format!("{peer:?} replies: {reply:?}"));
        if !matches!(reply, Message::Partial(_)) {
            self.known(peer).in_flight.remove(&id);
        }
        self.send(peer, reply);
    }

    fn acknowledge(&mut self, peer: Peer) {
        self.log.push(format!("{peer:?} acknowledges all"));
        self.known(peer).is_window_full = false;
        self.send(peer, Message::Ack(u64::MAX));
    }

    fn send(&mut self, peer: Peer, message: Message) {
        self.dispatcher.handle_message(self.now, peer, message);
    }

    fn known(&mut self, peer: Peer) -> &mut Worker {
        self.workers.get_mut(&peer).expect("the play names only workers that it knows")
    }

    /// Compares what the dispatcher has done in a step with the model.
    fn check(&mut self) {
        let ended = self.take_ended();
        for (peer, id) in self.take_requests() {
            let (grade, best) = (self.calls[&id].grade(&self.workers[&peer].offer), self.best(&self.calls[&id]));
            assert!(grade.is_some() && grade == best, "{id:?} went to {peer:?}: {grade:?}, best {best:?}");
        }
        for (id, failure) in ended {
            let call = self.calls.remove(&id).expect("only open calls end");
            match failure {
                None => assert!(call.worker.is_some(), "{id:?} succeeds without a worker"),
                Some(failure) => self.check_failure(&call, &failure),
            }
        }
        let waiting = self.calls.iter().filter(|(_, call)| call.worker.is_none());
        waiting.for_each(|(id, call)| self.check_waiting(*id, call));
    }

    /// The calls that have ended, with their failures.
    fn take_ended(&mut self) -> BTreeMap<CallId, Option<CallFailure>> {
        let mut ended = BTreeMap::new();
        while let Some(output) = self.dispatcher.poll_output() {
            match output {
                Output::Ended(id, end, receipt) => {
                    assert!(ended.insert(id, end.err()).is_none(), "{id:?} ends twice");
                    self.dispatcher.release(self.now, receipt);
                }
                Output::Partial(_, _, receipt) => self.dispatcher.release(self.now, receipt),
                Output::WorkerLeft(peer, _) => assert!(!self.workers.contains_key(&peer), "{peer:?} was dropped"),
                _ => {}
            }
        }
        ended
    }

    /// The requests that have gone out, which the workers of the model now have.
    fn take_requests(&mut self) -> Vec<(Peer, CallId)> {
        let mut requests = Vec::new();
        while let Some(transmit) = self.dispatcher.poll_transmit() {
            let calls = transmit.messages.iter().filter_map(Message::request);
            requests.extend(calls.map(|id| (transmit.to, id)));
        }
        for (peer, id) in &requests {
            let call = self.calls.get_mut(id).expect("only open calls are sent");
            let worker = self.workers.get_mut(peer).expect("only workers that are there receive requests");
            assert!(call.worker.is_none(), "{id:?} is in flight twice");
            assert!(worker.has_room_for(call) && !worker.is_draining, "{id:?} was sent to {peer:?}: {worker:?}");
            (call.worker, call.partials) = (Some(*peer), 0);
            worker.is_window_full = true;
            worker.in_flight.insert(*id);
        }
        for worker in self.workers.values_mut().filter(|worker| worker.is_owed_an_answer && !worker.is_window_full) {
            (worker.is_window_full, worker.is_owed_an_answer) = (true, false);
        }
        requests
    }

    fn check_failure(&self, call: &Call, failure: &CallFailure) {
        let best = self.best(call);
        let is_due = match failure {
            CallFailure::TooLarge(_) => best.is_some_and(|best| !best.is_sufficient()),
            CallFailure::UnknownMethod { .. }
            | CallFailure::CodecNotRead { .. }
            | CallFailure::NoWorker { .. }
            | CallFailure::NotOffered { .. } => best.is_none_or(|best| !best.is_sufficient()),
            CallFailure::WorkerLost { .. } => call.may_have_run,
            CallFailure::Remote(_) => call.was_refused,
            _ => false,
        };
        assert!(is_due, "{failure:?} ends {call:?}, best {best:?}");
    }

    fn check_waiting(&self, id: CallId, call: &Call) {
        assert!(self.dispatcher.is_waiting(id), "{id:?} is neither in flight nor waiting: {call:?}");
        let Some(best) = self.best(call) else {
            let may_wait = call.wait_policy == WaitPolicy::UntilDeadline && self.serving().next().is_none();
            return assert!(may_wait, "{id:?} waits for nobody: {call:?}");
        };
        assert!(best.is_sufficient(), "{id:?} waits for nobody that accepts its size: {call:?}");
        let is_suitable = |worker: &Worker| call.grade(&worker.offer) == Some(best) && worker.has_room_for(call);
        let free = self.serving().find(|worker| is_suitable(worker));
        assert!(free.is_none(), "{id:?} waits although a worker is free: {call:?}, {free:?}");
    }

    fn best(&self, call: &Call) -> Option<Grade> {
        self.serving().filter_map(|worker| call.grade(&worker.offer)).max()
    }

    fn serving(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values().filter(|worker| worker.is_callable && !worker.is_draining)
    }
}

/// Few enough for some seconds in a debug build; raise it for a longer hunt.
const SEEDS: u64 = 200;
const STEPS: usize = 400;
const WORKERS_MAX: usize = 12;
/// No call ends for time.
const DEADLINE: Duration = Duration::from_secs(100_000_000);
