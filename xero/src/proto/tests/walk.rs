//! A random walk of operations and faults; the promises to each call must hold wherever it leads.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use super::{
    network::Net,
    node::{Work, maybe_executed},
    pair::{D, Sent, W, ms, text},
};
use crate::proto::{
    calls::WaitPolicy,
    liveness::Heartbeats,
    message::{CallId, ErrorCode, Message},
};

#[test]
fn every_call_keeps_its_promises_whatever_happens() {
    for seed in 0..SEEDS {
        let walk = AssertUnwindSafe(|| Walk::new(seed).run());
        if let Err(panic) = catch_unwind(walk) {
            eprintln!("the walk of seed {seed} has failed");
            resume_unwind(panic);
        }
    }
}

#[test]
fn equal_seeds_walk_alike() {
    let trace = |seed| {
        let mut walk = Walk::new(seed);
        walk.run_steps();
        let started_at = walk.started_at;
        let sent = walk.net.sent.iter().map(|sent| format!("{:?} {:?}", sent.at - started_at, sent.message));
        sent.collect::<Vec<_>>()
    };
    assert!(trace(3) == trace(3) && trace(3) != trace(4));
}

struct Walk {
    net: Net,
    random: fastrand::Rng,
    started_at: std::time::Instant,
    dispatchers: Vec<D>,
    workers: Vec<W>,
    calls: BTreeMap<CallId, Made>,
}

/// How a call was made.
struct Made {
    argument: String,
    is_idempotent: bool,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut net = Net::with_seed(seed);
        (net.network.latency, net.network.jitter) = (ms(random.u64(0..5)), ms(random.u64(0..30)));
        let waiting_max = random.usize(2..40);
        let dispatchers = (0..random.usize(1..3)).map(|_| {
            net.dispatcher_with(move |config| {
                config.waiting_max = waiting_max;
                config.heartbeats = Heartbeats { interval: ms(200), liveness: 3 };
            })
        });
        let dispatchers = dispatchers.collect();
        let started_at = net.now;
        let mut walk = Self { net, random, started_at, dispatchers, workers: Vec::new(), calls: BTreeMap::new() };
        (0..walk.random.usize(1..5)).for_each(|_| walk.add_worker());
        walk
    }

    fn run(mut self) {
        self.run_steps();
        self.net.wind_up();
        self.calls.iter().for_each(|(call, made)| self.check(*call, made));
        let is_overload = |sent: &Sent| matches!(&sent.message, Message::Error(e) if e.code == ErrorCode::Overloaded);
        assert!(!self.net.sent.iter().any(is_overload), "a worker was sent more than its credits");
    }

    fn run_steps(&mut self) {
        for _ in 0..STEPS {
            match self.random.u32(0..100) {
                0..60 => self.call(),
                60..68 => self.cancel(),
                68..94 => self.disturb(),
                _ => self.mend(),
            }
            let time = match self.random.u32(0..20) {
                0 => ms(self.random.u64(0..1500)),
                1..8 => ms(self.random.u64(0..40)),
                _ => ms(0),
            };
            self.net.run(time);
        }
    }

    fn call(&mut self) {
        let d = self.any_dispatcher();
        if !self.net.d(d).is_alive {
            return;
        }
        let random = &mut self.random;
        let time = ms(if random.u8(0..4) == 0 { random.u64(0..1500) } else { random.u64(0..50) });
        let (fails, blocks) = (random.u8(0..10) == 0, random.u8(0..5) == 0);
        let payload = Work { tag: random.u64(..), time, fails, blocks }.payload();
        let is_idempotent = random.bool();
        let waits = if random.u8(0..20) == 0 { WaitPolicy::Never } else { WaitPolicy::UntilDeadline };
        let (argument, deadline) = (text(&payload), self.net.now + ms(random.u64(0..3000)));
        let call = self.net.call_with(d, "work", |spec| {
            (spec.payload, spec.deadline) = (payload, deadline);
            (spec.idempotent, spec.wait_policy) = (Some(is_idempotent), waits);
        });
        self.calls.insert(call, Made { argument, is_idempotent });
    }

    fn cancel(&mut self) {
        let open: Vec<_> = self.calls.keys().filter(|call| !self.net.has_ended(**call)).copied().collect();
        if let Some(call) = self.random.choice(open) {
            self.net.cancel(call);
        }
    }

    fn disturb(&mut self) {
        let (d, w) = (self.any_dispatcher(), self.any_worker());
        match self.random.u32(0..10) {
            0 => self.net.disconnect(d, w),
            1 => self.net.freeze_worker(w),
            2 => self.net.freeze_dispatcher(d),
            3 => self.net.cut(d, w),
            4 => self.replace(w, Net::kill_worker),
            5 | 6 => self.replace(w, Net::drain),
            7 => self.net.kill_dispatcher(d),
            8 => self.mend(),
            _ => self.send_partial(w),
        }
    }

    fn replace(&mut self, w: W, leave: fn(&mut Net, W)) {
        self.workers.retain(|other| *other != w);
        leave(&mut self.net, w);
        self.add_worker();
    }

    fn send_partial(&mut self, w: W) {
        let calls = self.net.w(w).running.values().map(|start| start.request.call).collect::<Vec<_>>();
        if let Some(call) = self.random.choice(calls) {
            self.net.partial(w, call, "so far");
        }
    }

    fn mend(&mut self) {
        for d in self.dispatchers.clone() {
            if self.random.bool() {
                self.net.thaw_dispatcher(d);
                if !self.net.d(d).is_alive {
                    self.net.restart_dispatcher(d);
                }
            }
        }
        for w in (0..self.net.workers.len()).map(W) {
            if self.random.bool() {
                self.net.thaw_worker(w);
                self.dispatchers.clone().into_iter().for_each(|d| self.net.heal(d, w));
            }
        }
    }

    fn add_worker(&mut self) {
        let (credits, drain_timeout) = (self.random.u32(1..5), ms(self.random.u64(0..2000)));
        let w = self.net.worker_with(&self.dispatchers, |config| {
            (config.credits, config.drain_timeout) = (credits, drain_timeout);
            config.heartbeats = Heartbeats { interval: ms(200), liveness: 3 };
        });
        self.workers.push(w);
    }

    fn check(&self, call: CallId, made: &Made) {
        let runs = self.net.runs(call);
        assert!(runs <= if made.is_idempotent { 3 } else { 1 }, "{call} has run {runs} times");
        match self.net.ending(call) {
            Some((_, Ok(payload))) => assert_eq!((text(payload), runs > 0), (made.argument.clone(), true)),
            Some((_, Err(failure))) => {
                assert!(maybe_executed(failure) != Some(false) || runs == 0, "{call} has run: {failure:?}");
            }
            None => {}
        }
    }

    fn any_dispatcher(&mut self) -> D {
        self.dispatchers[self.random.usize(..self.dispatchers.len())]
    }

    fn any_worker(&mut self) -> W {
        self.workers[self.random.usize(..self.workers.len())]
    }
}

/// Few enough for a second or two in a debug build; raise it for a longer hunt.
const SEEDS: u64 = 300;
const STEPS: usize = 150;
